package contract

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"credential-rotator/rotator"
)

// destinationPlaces: a key may be in several scopes, all of which the request covers.
func destinationPlaces(t *testing.T, f DestinationFixture) {
	f.put(asTheyAre)
	other := f.Request.Target
	other.EnvironmentScope = "production"
	for _, v := range f.Project.Variables() {
		v.Scope = other.EnvironmentScope
		f.Project.Put(v)
	}
	f.Project.Put(ProjectVariable{Key: "COPY", Scope: "*", Value: destinationOldID})
	f.Request.Destinations = []rotator.Target{f.Request.Target, other}
	all, err := f.Destination.Read(t.Context(), f.Request.Places())
	if err != nil || len(all) != 2 {
		t.Fatalf("Read: %d, %v", len(all), err)
	}
	if diff := cmp.Diff([]string{destinationOldID, destinationOldID}, []string{all[0].KeyID.Value, all[1].KeyID.Value}); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	elsewhere := append(all[0].Elsewhere, all[1].Elsewhere...)
	if len(elsewhere) != 1 || !strings.Contains(elsewhere[0].Variable, "COPY") || elsewhere[0].KeyID != destinationOldID {
		t.Errorf("elsewhere there is %+v, want the copy, once", elsewhere)
	}
}

func destinationRecovers(t *testing.T, f DestinationFixture) {
	f.put(asTheyAre)
	f.publish(t)
	f.recovers(t)
	if _, err := f.Destination.Recover(t.Context(), f.Request.Place(), destinationOldID); !errors.Is(err, rotator.ErrRefused) {
		t.Errorf("of another key: %v", err)
	}
	v := f.variable(t, f.Request.SecretAccessKeyVariable, f.Request.EnvironmentScope)
	v.Hidden = true
	f.Project.Put(v)
	if _, err := f.Destination.Recover(t.Context(), f.Request.Place(), destinationNewID); !errors.Is(err, rotator.ErrRefused) {
		t.Errorf("of a hidden one: %v", err)
	}
}

// recovers sees what is read back by writing it elsewhere: a secret cannot be looked at.
func (f DestinationFixture) recovers(t *testing.T) {
	t.Helper()
	got, err := f.Destination.Recover(t.Context(), f.Request.Place(), destinationNewID)
	if err != nil {
		t.Fatalf("Recover: %v", err)
	}
	copied := f.Request.Place()
	copied.EnvironmentScope, copied.File, copied.SecretVariable = "copy", "", f.Request.SecretAccessKeyVariable
	pair := rotator.KeyPair{ID: destinationNewID, Secret: got}
	if _, err := f.Destination.Write(t.Context(), copied, rotator.PartSecret, rotator.Variable{Masked: true}, pair); err != nil {
		t.Fatalf("Write: %v", err)
	}
	if v := f.variable(t, copied.SecretVariable, "copy"); v.Value != destinationNew {
		t.Error("it is another secret")
	}
}

// destinationGone: GitLab itself would take whatever variable of a group has the name.
func destinationGone(t *testing.T, f DestinationFixture) {
	f.put(func(v *ProjectVariable) { v.Scope = "staging" })
	before := f.Project.Variables()
	pair := rotator.KeyPair{ID: destinationNewID, Secret: rotator.NewSecret(destinationNew)}
	gone := rotator.Variable{Exists: true, Masked: true}
	for _, part := range []rotator.Part{rotator.PartSecret, rotator.PartKeyID} {
		if _, err := f.write(t, part, gone, pair); !errors.Is(err, rotator.ErrRefused) {
			t.Errorf("%s: %v", part, err)
		}
	}
	if diff := cmp.Diff(before, f.Project.Variables()); diff != "" {
		t.Errorf("another scope was written (-before +after):\n%s", diff)
	}
}

const destinationFileName = "AWS_CREDENTIALS"

func (f *DestinationFixture) inFile() {
	f.Request.CredentialsFileVariable, f.Request.Profile, f.Request.AllowUnmasked = destinationFileName, "shop", true
}

func destinationFile(t *testing.T, f DestinationFixture) {
	f.inFile()
	pair := rotator.KeyPair{ID: destinationNewID, Secret: rotator.NewSecret(destinationNew)}
	before := f.read(t)
	if diff := cmp.Diff(rotator.Variable{}, before.Secret); diff != "" {
		t.Errorf("it is to be made (-want +got):\n%s", diff)
	}
	for range 2 { // once as it is made, once as it is changed
		at, err := f.write(t, rotator.PartSecret, before.Secret, pair)
		if err != nil || at.IsZero() {
			t.Fatalf("Write: %v, %v", at, err)
		}
		before = f.read(t)
	}
	if _, err := f.write(t, rotator.PartKeyID, before.KeyID, rotator.KeyPair{ID: destinationNewID}); !errors.Is(err, rotator.ErrRefused) {
		t.Errorf("without the secret: %v", err)
	}
	want := rotator.Variable{Exists: true, Claims: destinationNewID}
	if diff := cmp.Diff(want, before.Secret); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if want.Value = destinationNewID; before.KeyID != want {
		t.Errorf("the key id is %+v", before.KeyID)
	}
	v := f.variable(t, destinationFileName, f.Request.EnvironmentScope)
	if !v.File || v.Masked || v.Value != "[shop]\naws_access_key_id = "+destinationNewID+"\naws_secret_access_key = "+destinationNew+"\n" {
		t.Errorf("it is a file: %v, masked: %v, or reads otherwise", v.File, v.Masked)
	}
	f.recovers(t)
}

func destinationFileFaults(t *testing.T, f DestinationFixture) {
	f.inFile()
	pair := "[shop]\n# ours\naws_access_key_id=" + destinationOldID + "\n\naws_secret_access_key = " + destinationOld + "\n"
	for name, c := range map[string]struct {
		value  string
		file   bool
		faults int
	}{
		"one pair":                   {pair, true, 0},
		"another profile":            {pair + "[other]\naws_access_key_id = AKIA\n", true, 1},
		"a setting of the profile":   {pair + "region = eu-central-1\n", true, 1},
		"a variable that is no file": {pair, false, 1},
		"something else altogether":  {"hello", true, 1},
		"nothing":                    {"", true, 0},
	} {
		f.Project.Put(ProjectVariable{Key: destinationFileName, Scope: f.Request.EnvironmentScope, Value: c.value, File: c.file})
		if got := f.read(t); len(got.Faults) != c.faults || c.faults > 0 && !strings.Contains(got.Faults[0], destinationFileName) {
			t.Errorf("%s: the faults are %q", name, got.Faults)
		}
	}
}
