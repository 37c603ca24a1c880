package contract

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"credential-rotator/rotator"
)

// DestinationFixture is a project that nothing has been published to, and a
// Destination that reaches it with a token of scope api and role Maintainer.
type DestinationFixture struct {
	Destination rotator.Destination
	// Request is one that the project can serve. Its default branch is protected.
	Request rotator.Request
	Project DestinationProject
}

// DestinationProject is how a test reaches the project behind the Destination's back.
type DestinationProject interface {
	// Now is GitLab's clock.
	Now() time.Time
	// Put makes a variable, or replaces it.
	Put(ProjectVariable)
	// Variables are all variables of the project as they are, hidden ones too.
	Variables() []ProjectVariable
	// Allow changes the token.
	Allow(TokenState)
	// AddRef adds a branch or a tag.
	AddRef(name string, tag, protected bool)
	// Archive archives the project.
	Archive()
}

// ProjectVariable is a CI/CD variable with its value.
type ProjectVariable struct {
	Key, Scope, Value, Description       string
	Protected, Masked, Hidden, Raw, File bool
}

// TokenState is what the Destination's token is good for.
type TokenState int

// The states of a token.
const (
	TokenOK         TokenState = iota // scope api, role Maintainer, a year to go
	TokenReadAPI                      // scope read_api
	TokenDeveloper                    // role Developer: no variables
	TokenStranger                     // no role: the project cannot be seen
	TokenRevoked                      //
	TokenExpired                      //
	TokenEndingSoon                   // expires in a week
)

// The pairs of this suite.
const (
	destinationOldID = "AKIAOLDOLDOLDOLDOLD2"
	destinationNewID = "AKIANEWNEWNEWNEWNEW2"
	destinationOld   = "oldSecret/oldSecret+oldSecret/oldSecret1"
	destinationNew   = "newSecret/newSecret+newSecret/newSecret1"
	destinationStamp = " [credential-rotator: " + destinationOldID + " 2026-08-29T20:00Z]"
)

// Destination pins what a rotator.Destination promises of a project.
func Destination(t *testing.T, open func(testing.TB) DestinationFixture) {
	DestinationOfGroup(t, open)
	t.Run("preflight", func(t *testing.T) { destinationPreflight(t, open) })
}

// DestinationOfGroup pins what it promises of the variables of a group as well; then
// the project of the fixture is one.
func DestinationOfGroup(t *testing.T, open func(testing.TB) DestinationFixture) {
	for name, test := range map[string]func(*testing.T, DestinationFixture){
		"variables that do not exist are to be made masked":                      destinationMissing,
		"the pair is found by its exact names and scope":                         destinationExactScope,
		"a hidden variable has no value, and still its claim":                    destinationHidden,
		"no value is told but an access key id":                                  destinationNoValues,
		"a stamp is found wherever a person has left it":                         destinationStamps,
		"every other variable that holds a key id is told, by value or by stamp": destinationElsewhere,
		"the time of an answer is GitLab's, rounded up to a second":              destinationTime,
		"a write changes value and description, and masks what can be":           destinationWrites,
		"a missing variable is made masked, and protected when it is to be":      destinationMakes,
		"what was written is read back":                                          destinationReadsBack,
		"writing the same pair twice is safe":                                    destinationTwice,
		"what is refused is not applied, and the error shows no value":           destinationRefused,
		"what cannot be stamped or masked is refused":                            destinationCannot,
		"a role that may not manage variables is found before a write":           destinationRole,
		"faults of the variables are told when they are read":                    destinationFaults,
		"what is asked for is not elsewhere":                                     destinationPlaces,
		"a published secret is read back, unless it is hidden or another key's":  destinationRecovers,
		"a variable that is gone is not written in another scope":                destinationGone,
		"a pair in a credentials file is written whole, and read back":           destinationFile,
		"a file that is not only ours is a fault":                                destinationFileFaults,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

func (f DestinationFixture) read(t *testing.T) rotator.Published {
	t.Helper()
	all, err := f.Destination.Read(t.Context(), f.Request.Places())
	if err != nil || len(all) != len(f.Request.Places()) {
		t.Fatalf("Read: %d, %v", len(all), err)
	}
	return all[0]
}

// write is one write to the fixture's place.
func (f DestinationFixture) write(t *testing.T, part rotator.Part, before rotator.Variable, pair rotator.KeyPair) (time.Time, error) {
	t.Helper()
	return f.Destination.Write(t.Context(), f.Request.Place(), part, before, pair)
}

// publish writes the new pair over what is there.
func (f DestinationFixture) publish(t *testing.T) (rotator.Published, time.Time) {
	t.Helper()
	before, pair := f.read(t), rotator.KeyPair{ID: destinationNewID, Secret: rotator.NewSecret(destinationNew)}
	if _, err := f.write(t, rotator.PartSecret, before.Secret, pair); err != nil {
		t.Fatalf("WriteSecret: %v", err)
	}
	at, err := f.write(t, rotator.PartKeyID, before.KeyID, pair)
	if err != nil {
		t.Fatalf("WriteKeyID: %v", err)
	}
	return before, at
}

// put publishes the old pair as a person has it.
func (f DestinationFixture) put(change func(*ProjectVariable)) {
	for key, value := range map[string]string{f.Request.AccessKeyIDVariable: destinationOldID, f.Request.SecretAccessKeyVariable: destinationOld} {
		v := ProjectVariable{Key: key, Scope: f.Request.EnvironmentScope, Value: value, Masked: true}
		change(&v)
		f.Project.Put(v)
	}
}

func (f DestinationFixture) variable(t *testing.T, key, scope string) ProjectVariable {
	t.Helper()
	for _, v := range f.Project.Variables() {
		if v.Key == key && v.Scope == scope {
			return v
		}
	}
	t.Fatalf("there is no variable %s in scope %s", key, scope)
	return ProjectVariable{}
}

func asTheyAre(*ProjectVariable) {}

func destinationMissing(t *testing.T, f DestinationFixture) {
	got := f.read(t)
	want := rotator.Variable{Masked: true}
	if diff := cmp.Diff([]rotator.Variable{want, want}, []rotator.Variable{got.KeyID, got.Secret}); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if len(got.Faults) > 0 || len(got.Elsewhere) > 0 {
		t.Errorf("in an empty project there is %+v", got)
	}
}

func destinationExactScope(t *testing.T, f DestinationFixture) {
	for scope, id := range map[string]string{"*": "AKIAAAAAAAAAAAAAAAA2", "review/*": "AKIABBBBBBBBBBBBBBB2", "production": "AKIACCCCCCCCCCCCCCC2"} {
		f.Project.Put(ProjectVariable{Key: f.Request.AccessKeyIDVariable, Scope: scope, Value: id, Protected: true})
		f.Project.Put(ProjectVariable{Key: f.Request.SecretAccessKeyVariable, Scope: scope, Value: destinationOld, Masked: true, Description: scope})
	}
	for scope, id := range map[string]string{"*": "AKIAAAAAAAAAAAAAAAA2", "review/*": "AKIABBBBBBBBBBBBBBB2", "production": "AKIACCCCCCCCCCCCCCC2", "review/7": ""} {
		f.Request.EnvironmentScope = scope
		got, exists := f.read(t), id != ""
		wantID := rotator.Variable{Exists: exists, Protected: exists, Masked: !exists, Value: id}
		wantSecret := rotator.Variable{Exists: exists, Masked: true}
		if exists {
			wantSecret.Text = scope
		}
		if diff := cmp.Diff([]rotator.Variable{wantID, wantSecret}, []rotator.Variable{got.KeyID, got.Secret}); diff != "" {
			t.Errorf("%s (-want +got):\n%s", scope, diff)
		}
	}
}

func destinationHidden(t *testing.T, f DestinationFixture) {
	f.put(func(v *ProjectVariable) { v.Hidden, v.Description = true, "mine"+destinationStamp })
	got := f.read(t)
	want := rotator.Variable{Exists: true, Hidden: true, Masked: true, Claims: destinationOldID, Text: "mine"}
	if diff := cmp.Diff([]rotator.Variable{want, want}, []rotator.Variable{got.KeyID, got.Secret}); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A pair that somebody put the wrong way round would else show its secret in every
// reason that names the published key.
func destinationNoValues(t *testing.T, f DestinationFixture) {
	f.Project.Put(ProjectVariable{Key: f.Request.AccessKeyIDVariable, Scope: f.Request.EnvironmentScope, Value: destinationOld})
	f.Project.Put(ProjectVariable{Key: f.Request.SecretAccessKeyVariable, Scope: f.Request.EnvironmentScope, Value: destinationOldID})
	if got := f.read(t); got.KeyID.Value != "" || got.Secret.Value != "" {
		t.Errorf("the values are %q and %q", got.KeyID.Value, got.Secret.Value)
	}
}

func destinationStamps(t *testing.T, f DestinationFixture) {
	for name, c := range map[string]struct{ description, text, claims string }{
		"none":                {"mine", "mine", ""},
		"alone":               {destinationStamp, "", destinationOldID},
		"its space trimmed":   {destinationStamp[1:], "", destinationOldID},
		"behind text":         {"mine" + destinationStamp, "mine", destinationOldID},
		"before text":         {"mine" + destinationStamp + " too", "mine too", destinationOldID},
		"the last one counts": {"a [credential-rotator: " + destinationNewID + " 2026-08-29T20:00Z]" + destinationStamp, "a [credential-rotator: " + destinationNewID + " 2026-08-29T20:00Z]", destinationOldID},
		"what is no stamp":    {"[credential-rotator: mine]", "[credential-rotator: mine]", ""},
	} {
		f.put(func(v *ProjectVariable) { v.Description = c.description })
		got := f.read(t)
		want := []string{c.text, c.claims, c.text, c.claims}
		if diff := cmp.Diff(want, []string{got.KeyID.Text, got.KeyID.Claims, got.Secret.Text, got.Secret.Claims}); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func destinationElsewhere(t *testing.T, f DestinationFixture) {
	f.put(func(v *ProjectVariable) { v.Description = destinationStamp })
	f.Project.Put(ProjectVariable{Key: "BY_VALUE", Scope: "*", Value: "AKIAAAAAAAAAAAAAAAA2"})
	f.Project.Put(ProjectVariable{Key: "BY_VALUE", Scope: "staging", Value: "ASIAAAAAAAAAAAAAAAA2"})
	f.Project.Put(ProjectVariable{Key: "BY_STAMP", Scope: "*", Value: destinationOld, Masked: true, Description: "mine" + destinationStamp})
	f.Project.Put(ProjectVariable{Key: "HIDDEN", Scope: "*", Value: "AKIAAAAAAAAAAAAAAAA2", Masked: true, Hidden: true})
	f.Project.Put(ProjectVariable{Key: "EDITED", Scope: "*", Value: "AKIABBBBBBBBBBBBBBB2", Description: destinationStamp})
	f.Project.Put(ProjectVariable{Key: "COLOUR", Scope: "*", Value: "AKIA is how they begin"})
	f.Project.Put(ProjectVariable{Key: f.Request.AccessKeyIDVariable, Scope: "other", Value: destinationOldID})
	got := map[string]string{}
	for _, h := range f.read(t).Elsewhere {
		for _, name := range []string{"BY_VALUE *", "BY_VALUE staging", "BY_STAMP *", "HIDDEN *", "EDITED *", "COLOUR *", f.Request.AccessKeyIDVariable + " other"} {
			key, scope, _ := strings.Cut(name, " ")
			if strings.Contains(h.Variable, key) && strings.Contains(h.Variable, scope) {
				got[name] = h.KeyID
			}
		}
	}
	want := map[string]string{
		"BY_VALUE *": "AKIAAAAAAAAAAAAAAAA2", "BY_VALUE staging": "ASIAAAAAAAAAAAAAAAA2", "BY_STAMP *": destinationOldID,
		"EDITED *": "AKIABBBBBBBBBBBBBBB2", f.Request.AccessKeyIDVariable + " other": destinationOldID,
	}
	if diff := cmp.Diff(want, got); diff != "" || len(f.read(t).Elsewhere) != len(want) {
		t.Errorf("%d (-want +got):\n%s", len(f.read(t).Elsewhere), diff)
	}
}

func destinationTime(t *testing.T, f DestinationFixture) {
	f.put(asTheyAre)
	check := func(what string, before, at time.Time) {
		t.Helper()
		if !at.After(before) || at.After(f.Project.Now().Add(time.Second)) || !at.Equal(at.Truncate(time.Second)) {
			t.Errorf("%s says %s, between %s and %s", what, at, before, f.Project.Now())
		}
	}
	before := f.Project.Now()
	check("Read", before, f.read(t).At)
	before = f.Project.Now()
	_, at := f.publish(t)
	check("WriteKeyID", before, at)
}

func destinationWrites(t *testing.T, f DestinationFixture) {
	for name, is := range map[string]ProjectVariable{
		"plain":                {},
		"masked":               {Masked: true},
		"masked and protected": {Masked: true, Protected: true},
		"hidden":               {Masked: true, Hidden: true},
		"hidden and protected": {Masked: true, Hidden: true, Protected: true},
		"raw":                  {Raw: true},
		"with text":            {Masked: true, Description: "of billing"},
		"stamped":              {Masked: true, Description: "of billing" + destinationStamp},
	} {
		f.Project.Put(ProjectVariable{Key: f.Request.SecretAccessKeyVariable, Scope: "elsewhere", Value: destinationOld})
		f.put(func(v *ProjectVariable) {
			v.Masked, v.Protected, v.Hidden, v.Raw, v.Description = is.Masked, is.Protected, is.Hidden, is.Raw, is.Description
		})
		before := f.Project.Variables()
		f.publish(t)
		want := map[string]string{f.Request.AccessKeyIDVariable: destinationNewID, f.Request.SecretAccessKeyVariable: destinationNew}
		for i, v := range before {
			if value, ok := want[v.Key]; ok && v.Scope == f.Request.EnvironmentScope {
				before[i].Value, before[i].Masked, before[i].Description = value, true, ""
			}
		}
		text := strings.TrimSuffix(is.Description, destinationStamp)
		after := f.Project.Variables()
		for i, v := range after {
			if v.Scope != f.Request.EnvironmentScope {
				continue
			}
			if !strings.HasPrefix(v.Description, text+" [credential-rotator: "+destinationNewID+" ") && text != "" || !strings.Contains(v.Description, destinationNewID) {
				t.Errorf("%s: %s is described as %q", name, v.Key, v.Description)
			}
			after[i].Description = ""
		}
		if diff := cmp.Diff(before, after); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func destinationMakes(t *testing.T, f DestinationFixture) {
	pair := rotator.KeyPair{ID: destinationNewID, Secret: rotator.NewSecret(destinationNew)}
	for scope, protected := range map[string]bool{"*": true, "production": false} {
		f.Request.EnvironmentScope = scope
		before := f.read(t)
		before.KeyID.Protected, before.Secret.Protected = protected, protected
		if _, err := f.write(t, rotator.PartSecret, before.Secret, pair); err != nil {
			t.Fatal(err)
		}
		if _, err := f.write(t, rotator.PartKeyID, before.KeyID, pair); err != nil {
			t.Fatal(err)
		}
		for key, value := range map[string]string{f.Request.AccessKeyIDVariable: pair.ID, f.Request.SecretAccessKeyVariable: destinationNew} {
			got := f.variable(t, key, scope)
			want := ProjectVariable{Key: key, Scope: scope, Value: value, Masked: true, Protected: protected, Description: got.Description}
			if diff := cmp.Diff(want, got); diff != "" || !strings.Contains(got.Description, "[credential-rotator: "+destinationNewID+" ") {
				t.Errorf("described as %q (-want +got):\n%s", got.Description, diff)
			}
		}
	}
}

func destinationReadsBack(t *testing.T, f DestinationFixture) {
	for _, hidden := range []bool{false, true} {
		f.put(func(v *ProjectVariable) { v.Hidden, v.Description = hidden, "mine" })
		f.publish(t)
		got := f.read(t)
		want := rotator.Variable{Exists: true, Hidden: hidden, Masked: true, Claims: destinationNewID, Text: "mine"}
		wantID := want
		if !hidden {
			wantID.Value = destinationNewID
		}
		if diff := cmp.Diff([]rotator.Variable{wantID, want}, []rotator.Variable{got.KeyID, got.Secret}); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}

// The reply to a write may be lost, so it is done again: with what was read anew,
// or with what was read before. The latter may fail, as long as that says nothing.
func destinationTwice(t *testing.T, f DestinationFixture) {
	stale, _ := f.publish(t)
	f.publish(t)
	want := len(f.Project.Variables())
	pair := rotator.KeyPair{ID: destinationNewID, Secret: rotator.NewSecret(destinationNew)}
	if _, err := f.write(t, rotator.PartSecret, stale.Secret, pair); errors.Is(err, rotator.ErrRefused) {
		t.Errorf("that the secret is there already was taken for a refusal: %v", err)
	}
	if _, err := f.write(t, rotator.PartKeyID, stale.KeyID, pair); errors.Is(err, rotator.ErrRefused) {
		t.Errorf("that the key id is there already was taken for a refusal: %v", err)
	}
	if got := len(f.Project.Variables()); got != want || want != 2 {
		t.Errorf("there are %d variables, and were %d", got, want)
	}
	if got := f.read(t); got.KeyID.Value != destinationNewID || got.Secret.Claims != destinationNewID || got.Secret.Text != "" {
		t.Errorf("the pair is %+v", got)
	}
}

func destinationRefused(t *testing.T, f DestinationFixture) {
	f.put(asTheyAre)
	before, rows := f.read(t), f.Project.Variables()
	pair := rotator.KeyPair{ID: destinationNewID, Secret: rotator.NewSecret(destinationNew)}
	for name, state := range map[string]TokenState{"read_api": TokenReadAPI, "developer": TokenDeveloper, "stranger": TokenStranger, "revoked": TokenRevoked, "expired": TokenExpired} {
		f.Project.Allow(state)
		for _, v := range []rotator.Variable{before.Secret, {}} {
			_, err := f.write(t, rotator.PartSecret, v, pair)
			if !errors.Is(err, rotator.ErrRefused) || strings.Contains(err.Error(), destinationNew) {
				t.Errorf("%s: WriteSecret: %v", name, err)
			}
			if _, err := f.write(t, rotator.PartKeyID, v, pair); !errors.Is(err, rotator.ErrRefused) {
				t.Errorf("%s: WriteKeyID: %v", name, err)
			}
		}
	}
	if diff := cmp.Diff(rows, f.Project.Variables()); diff != "" {
		t.Errorf("(-before +after):\n%s", diff)
	}
}

func destinationCannot(t *testing.T, f DestinationFixture) {
	f.put(asTheyAre)
	before, rows := f.read(t), f.Project.Variables()
	long := before.Secret
	long.Text = strings.Repeat("x", 255)
	for name, c := range map[string]struct {
		before rotator.Variable
		secret string
	}{
		"no room for a stamp": {long, destinationNew},
		"too short to mask":   {before.Secret, "short"},
		"a space in it":       {before.Secret, "newSecret newSecret newSecret"},
	} {
		pair := rotator.KeyPair{ID: destinationNewID, Secret: rotator.NewSecret(c.secret)}
		if _, err := f.write(t, rotator.PartSecret, c.before, pair); !errors.Is(err, rotator.ErrRefused) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if diff := cmp.Diff(rows, f.Project.Variables()); diff != "" {
		t.Errorf("(-before +after):\n%s", diff)
	}
}

func destinationRole(t *testing.T, f DestinationFixture) {
	f.put(asTheyAre)
	f.Project.Allow(TokenDeveloper)
	if _, err := f.Destination.Read(t.Context(), f.Request.Places()); !errors.Is(err, rotator.ErrRefused) {
		t.Errorf("Read: %v", err)
	}
	f.Project.Allow(TokenStranger)
	if _, err := f.Destination.Read(t.Context(), f.Request.Places()); !errors.Is(err, rotator.ErrRefused) {
		t.Errorf("Read of a project that cannot be seen: %v", err)
	}
}

func destinationFaults(t *testing.T, f DestinationFixture) {
	for name, change := range map[string]func(*ProjectVariable){
		"described at great length":                     func(v *ProjectVariable) { v.Description = strings.Repeat("x", 200) },
		"described so that a stamp does not fit by one": func(v *ProjectVariable) { v.Description = strings.Repeat("x", 195) },
	} {
		f.put(asTheyAre)
		if got := f.read(t); len(got.Faults) > 0 {
			t.Errorf("without a fault there is %q", got.Faults)
		}
		v := f.variable(t, f.Request.SecretAccessKeyVariable, f.Request.EnvironmentScope)
		change(&v)
		f.Project.Put(v)
		if got := f.read(t); len(got.Faults) != 1 || !strings.Contains(got.Faults[0], v.Key) {
			t.Errorf("%s: the faults are %q", name, got.Faults)
		}
	}
	f.put(func(v *ProjectVariable) { v.Description = strings.Repeat("ü", 190) + destinationStamp })
	if got := f.read(t); len(got.Faults) > 0 {
		t.Errorf("a stamp was counted twice, or bytes instead of characters: %q", got.Faults)
	}
}

func destinationPreflight(t *testing.T, open func(testing.TB) DestinationFixture) {
	fine := rotator.TurnPreflight{Ref: "main", RefProtected: true}
	for name, c := range map[string]struct {
		prepare  func(*DestinationFixture)
		want     rotator.TurnPreflight
		readOnly bool
		faults   int
		warnings int
	}{
		"of a project that can be rotated for": {func(*DestinationFixture) {}, fine, false, 0, 0},
		"with the request's own branch": {func(f *DestinationFixture) {
			f.Project.AddRef("release", false, false)
			f.Request.Ref = "release"
		}, rotator.TurnPreflight{Ref: "release"}, false, 0, 0},
		"with a protected tag": {func(f *DestinationFixture) {
			f.Project.AddRef("v1.0/eu", true, true)
			f.Request.Ref = "v1.0/eu"
		}, rotator.TurnPreflight{Ref: "v1.0/eu", RefProtected: true}, false, 0, 0},
		"with a ref that does not exist": {func(f *DestinationFixture) { f.Request.Ref = "gone" }, rotator.TurnPreflight{Ref: "gone"}, false, 1, 0},
		"of an archived project":         {func(f *DestinationFixture) { f.Project.Archive() }, fine, false, 1, 0},
		"of a project that does not exist": {func(f *DestinationFixture) {
			f.Request.ProjectID += 1000
		}, rotator.TurnPreflight{}, false, 1, 0},
		"of a project that cannot be seen": {func(f *DestinationFixture) { f.Project.Allow(TokenStranger) }, rotator.TurnPreflight{}, false, 1, 0},
		"with a token that only reads":     {func(f *DestinationFixture) { f.Project.Allow(TokenReadAPI) }, fine, true, 0, 0},
		"with a token that was revoked":    {func(f *DestinationFixture) { f.Project.Allow(TokenRevoked) }, rotator.TurnPreflight{}, false, 1, 0},
		"with a token that has expired":    {func(f *DestinationFixture) { f.Project.Allow(TokenExpired) }, rotator.TurnPreflight{}, false, 1, 0},
		"with a token that ends soon":      {func(f *DestinationFixture) { f.Project.Allow(TokenEndingSoon) }, fine, false, 0, 1},
	} {
		t.Run(name, func(t *testing.T) {
			f := open(t)
			c.prepare(&f)
			got, err := f.Destination.Preflight(t.Context(), f.Request)
			if err != nil {
				t.Fatalf("a fault is no error: %v", err)
			}
			faults, warnings := got.Found(rotator.CheckFault), got.Found(rotator.CheckWarning)
			if len(faults) != c.faults || len(warnings) != c.warnings {
				t.Errorf("faults %q, warnings %q; want %d and %d", faults, warnings, c.faults, c.warnings)
			}
			if len(faults) > 0 {
				return
			}
			want := rotator.Preflight{Checks: got.Checks, ReadOnly: c.readOnly, Turns: []rotator.TurnPreflight{c.want}, Published: got.Published}
			read := f.read(t)
			if read.At = got.Published[0].At; !cmp.Equal([]rotator.Published{read}, got.Published) {
				t.Errorf("it saw %+v, which reads %+v", got.Published, read)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
