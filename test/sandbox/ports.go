package sandbox

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"credential-rotator/rotator"
)

// Ports are all ports of package rotator for one simulated process, directly on
// the world. Every call passes through one place (process.do): it has a name, is
// written down, may be given a fate, and is judged.
type Ports struct {
	process
	// Token is what GitLab is called with; at first that of the world's first token.
	Token string
}

var (
	_ rotator.Users       = (*Ports)(nil)
	_ rotator.Keys        = (*Ports)(nil)
	_ rotator.Prober      = (*Ports)(nil)
	_ rotator.Destination = (*Ports)(nil)
	_ rotator.Redeployer  = (*Ports)(nil)
	_ rotator.Tagger      = (*Ports)(nil)
	_ rotator.Journal     = (*Ports)(nil)
	_ rotator.Notifier    = (*Ports)(nil)
	_ rotator.FollowUp    = (*Ports)(nil)
)

// Run begins a simulated process of the rotator. The name says in the log and in
// violations who it was.
func (w *World) Run(name string) *Ports {
	defer w.enter()()
	p := &Ports{process: process{w: w, name: name, judged: true, users: map[string]bool{}}}
	if len(w.tokens) > 0 {
		p.Token = w.tokens[0].value
	}
	return p
}

// Intercept sets what decides the fate of every further call. It may wait, and
// may do to the world what a person does.
func (p *Ports) Intercept(decide func(Call) Fate) *Ports {
	defer p.w.enter()()
	p.intercept = decide
	return p
}

// Returned sets what is done between a call and the caller's going on. It may wait.
func (p *Ports) Returned(then func(Call)) *Ports {
	defer p.w.enter()()
	p.returned = then
	return p
}

// Dead tells whether the process has crashed.
func (p *Ports) Dead() bool {
	defer p.w.enter()()
	return p.dead
}

// asPort is a refusal of IAM or GitLab as the ports tell it.
func asPort(err error) error {
	var (
		aws    *awsError
		gitlab *gitlabError
	)
	switch {
	case errors.As(err, &aws) && aws.code == "NoSuchEntity":
		return fmt.Errorf("%w: %w", rotator.ErrNotFound, err)
	case errors.As(err, &aws), errors.As(err, &gitlab):
		return fmt.Errorf("%w: %w", rotator.ErrRefused, err)
	}
	return err
}

// User implements rotator.Users.
func (p *Ports) User(ctx context.Context, name string) (rotator.User, error) {
	var out rotator.User
	err := p.do(ctx, op{name: "iam.GetUser", detail: name}, func() error {
		p.users[name] = true
		u, err := p.w.findUser(name)
		if err != nil {
			return asPort(err)
		}
		out = rotator.User{
			Name: u.Name, ARN: p.w.arn(u), UniqueID: u.id, Binding: u.tag(BindingTag),
			At: p.w.now.Truncate(time.Second),
		}
		for _, policy := range u.Policies {
			if strings.HasPrefix(policy, "AWSCompromisedKeyQuarantine") {
				out.Quarantine = append(out.Quarantine, policy)
			}
		}
		return nil
	})
	if err != nil {
		return rotator.User{}, err
	}
	return out, nil
}

// LastUsed implements rotator.Users.
func (p *Ports) LastUsed(ctx context.Context, keyID string) (rotator.LastUse, error) {
	var out rotator.LastUse
	err := p.do(ctx, op{name: "iam.GetAccessKeyLastUsed", detail: keyID}, func() error {
		k, err := p.w.findKey("", keyID)
		if err != nil {
			return asPort(err)
		}
		out = k.lastUse
		return nil
	})
	if err != nil {
		return rotator.LastUse{}, err
	}
	return out, nil
}

// List implements rotator.Keys.
func (p *Ports) List(ctx context.Context, user string) ([]rotator.AccessKey, error) {
	var out []rotator.AccessKey
	err := p.do(ctx, op{name: "iam.ListAccessKeys", detail: user}, func() error {
		keys, err := p.w.listKeys(user)
		if err != nil {
			return asPort(err)
		}
		p.sawKeys = p.w.seq
		for _, key := range keys {
			out = append(out, rotator.AccessKey{ID: key.id, Status: key.status, CreatedAt: key.created})
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// Create implements rotator.Keys.
func (p *Ports) Create(ctx context.Context, user string) (rotator.KeyPair, error) {
	var out rotator.KeyPair
	err := p.do(ctx, op{name: "iam.CreateAccessKey", detail: user, write: true}, func() error {
		key, err := p.w.createKey(user)
		if err != nil {
			return asPort(err)
		}
		out = rotator.KeyPair{ID: key.id, Secret: rotator.NewSecret(key.secret)}
		return nil
	})
	if err != nil {
		return rotator.KeyPair{}, err
	}
	return out, nil
}

// Deactivate implements rotator.Keys.
func (p *Ports) Deactivate(ctx context.Context, user, keyID string) error {
	return p.do(ctx, op{name: "iam.UpdateAccessKey", detail: keyID, write: true}, func() error {
		return unlessGone(p.w.updateKey(user, keyID, rotator.KeyInactive))
	})
}

// Delete implements rotator.Keys.
func (p *Ports) Delete(ctx context.Context, user, keyID string) error {
	return p.do(ctx, op{name: "iam.DeleteAccessKey", detail: keyID, write: true}, func() error {
		return unlessGone(p.w.deleteKey(user, keyID))
	})
}

func unlessGone(err error) error {
	if err = asPort(err); errors.Is(err, rotator.ErrNotFound) {
		return nil
	}
	return err
}

// Probe implements rotator.Prober.
func (p *Ports) Probe(ctx context.Context, pair rotator.KeyPair) (rotator.Identity, error) {
	var out rotator.Identity
	err := p.do(ctx, op{name: "sts.GetCallerIdentity", detail: pair.ID}, func() error {
		u, err := p.w.authenticate(pair.ID, pair.Secret.Reveal(), "sts", "us-east-1")
		if err != nil {
			return err
		}
		out.ARN = p.w.arn(u)
		return nil
	})
	if err != nil {
		return rotator.Identity{}, err
	}
	return out, nil
}

// Read implements rotator.Destination: one call for each project.
func (p *Ports) Read(ctx context.Context, places []rotator.Place) ([]rotator.Published, error) {
	out := make([]rotator.Published, len(places))
	for i, place := range places {
		if slices.ContainsFunc(places[:i], func(q rotator.Place) bool { return q.Owner() == place.Owner() }) {
			continue // read already
		}
		err := p.do(ctx, op{name: "gitlab.GET variables", detail: place.Owner()}, func() error {
			_, owner, err := p.w.owner(p.Token, place, false)
			if err != nil {
				return asPort(err)
			}
			p.sees(owner)
			for j, q := range places {
				if q.Owner() == place.Owner() {
					out[j] = readPlace(owner, q, places, i == j, p.w.now)
				}
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Recover implements rotator.Destination.
func (p *Ports) Recover(ctx context.Context, place rotator.Place, keyID string) (rotator.Secret, error) {
	var out rotator.Secret
	err := p.do(ctx, op{name: "gitlab.GET variable", detail: place.Owner()}, func() error {
		_, owner, err := p.w.owner(p.Token, place, false)
		if err != nil {
			return asPort(err)
		}
		v, err := findVariable(owner, place.Variables()[0], place.EnvironmentScope)
		if err != nil {
			return asPort(err)
		}
		if v.Hidden || v.described().Claims != keyID {
			return fmt.Errorf("%w: %s does not show the secret of %s", rotator.ErrRefused, v.name(), keyID)
		}
		secret := v.Value
		if place.File != "" {
			_, secret = credentialsIn(v.Value, place.Profile)
		}
		out = rotator.NewSecret(secret)
		return nil
	})
	return out, err
}

// owner finds whose the variables of a place are, for a token that may manage them.
func (w *World) owner(shown string, place rotator.Place, write bool) (*token, owner, error) {
	if place.GroupID == 0 {
		t, p, err := w.allow(shown, id(place.ProjectID), Maintainer, write)
		return t, p, err
	}
	t, g, err := w.allowGroup(shown, id(place.GroupID), Owner, write)
	return t, g, err
}

func id(n int64) string { return strconv.FormatInt(n, 10) }

var accessKeyID = regexp.MustCompile(`^A[KS]IA[A-Z2-7]{16}$`)

// readPlace finds the variables of a place and, where it is asked, the others that hold a key
// id, but for those of all places.
func readPlace(o owner, place rotator.Place, all []rotator.Place, elsewhere bool, now time.Time) rotator.Published {
	missing := rotator.Variable{Masked: place.File == ""} // as it is to be made
	out := rotator.Published{KeyID: missing, Secret: missing, At: roundedUp(now)}
	for _, v := range *o.own() {
		switch {
		case v.EnvironmentScope == place.EnvironmentScope && slices.Contains(place.Variables(), v.Key):
			found := v.described()
			out.Faults = append(out.Faults, v.faults(place, now)...)
			if v.Key == place.Variables()[0] {
				out.Secret = found
			}
			if found.Value = v.keyID(); v.Key != place.SecretVariable {
				out.KeyID = found
			}
		case elsewhere && !v.isOf(all):
			holds := v.keyID()
			if holds == "" {
				holds = v.described().Claims
			}
			if holds != "" {
				out.Elsewhere = append(out.Elsewhere, rotator.Holding{Variable: v.name(), KeyID: holds})
			}
		}
	}
	return out
}

// isOf tells whether a variable is one of those of places of the same project.
func (v *variable) isOf(places []rotator.Place) bool {
	return slices.ContainsFunc(places, func(p rotator.Place) bool {
		return p.EnvironmentScope == v.EnvironmentScope && slices.Contains(p.Variables(), v.Key)
	})
}

// name is a variable as a person would say it.
func (v *variable) name() string { return v.Key + " [" + v.EnvironmentScope + "]" }

// keyID is the access key id that the variable can be seen to hold.
func (v *variable) keyID() string {
	value := strings.TrimSpace(v.Value)
	if v.Type == "file" {
		value, _ = credentialsIn(value, profileIn(v))
	}
	if !v.Hidden && accessKeyID.MatchString(value) {
		return value
	}
	return ""
}

// onlyPair is a credentials file with one pair and nothing else.
var onlyPair = regexp.MustCompile(`^(\s*|\[\w+\]\s+(#.*\s+)*aws_access_key_id\s*=\s*\S+\s+aws_secret_access_key\s*=\s*\S+\s*)$`)

// faults are what keeps the variable from being written, and what to do.
func (v *variable) faults(place rotator.Place, now time.Time) []string {
	var out []string
	text, _ := unstamped(v.Description)
	if over := utf8.RuneCountInString(stamped(text, strings.Repeat("A", 20), now)) - maxDescription; over > 0 {
		out = append(out, fmt.Sprintf("the description of %s leaves no room for the stamp: shorten it by %d characters", v.name(), over))
	}
	if place.File != "" && (v.Type != "file" || !onlyPair.MatchString(v.Value)) {
		out = append(out, v.name()+" holds more than a pair, or is no file: give that a variable of its own")
	}
	return out
}

// described is a variable without its value.
func (v *variable) described() rotator.Variable {
	text, claims := unstamped(v.Description)
	return rotator.Variable{
		Exists: true, Hidden: v.Hidden, Masked: v.Masked, Protected: v.Protected,
		Claims: claims, Text: text,
	}
}

// Write implements rotator.Destination: it changes the value and the stamp of a variable,
// or makes it.
func (p *Ports) Write(ctx context.Context, place rotator.Place, part rotator.Part, before rotator.Variable, pair rotator.KeyPair) (time.Time, error) {
	key, value, kind := place.SecretVariable, pair.Secret.Reveal(), "env_var"
	switch {
	case place.File != "":
		key, kind = place.File, "file"
		value = fmt.Sprintf("[%s]\naws_access_key_id = %s\naws_secret_access_key = %s\n", place.Profile, pair.ID, value)
	case part == rotator.PartKeyID:
		key, value = place.KeyIDVariable, pair.ID
	}
	if place.File != "" && pair.Secret.Empty() {
		return time.Time{}, fmt.Errorf("%w: a credentials file cannot be written without the secret", rotator.ErrRefused)
	}
	verb := "PUT"
	if !before.Exists {
		verb = "POST"
	}
	var at time.Time
	o := op{name: "gitlab." + verb + " variable " + key, detail: pair.ID, write: true, says: []any{place, before}}
	err := p.do(ctx, o, func() error {
		_, owner, err := p.w.owner(p.Token, place, true)
		if err != nil {
			return asPort(err)
		}
		at = roundedUp(p.w.now)
		description := stamped(before.Text, pair.ID, p.w.now)
		c := change{Value: &value, Description: &description, Scope: &place.EnvironmentScope}
		return p.w.publish(owner, key, kind, before, c)
	})
	if err != nil {
		return time.Time{}, err
	}
	return at, nil
}

// publish changes a variable that existed when it was read, and makes one that did
// not. One that somebody made meanwhile, perhaps we ourselves, is no refusal.
func (w *World) publish(o owner, key, kind string, before rotator.Variable, c change) error {
	masked := kind != "file"
	if before.Exists {
		v, err := findVariable(o, key, *c.Scope)
		if err != nil {
			return asPort(err)
		}
		if masked && !before.Masked && !before.Hidden {
			c.Masked = &masked
		}
		return asPort(w.updateVariable(o, v, c, false))
	}
	c.Masked, c.Protected, c.Type = &masked, &before.Protected, &kind
	_, err := w.createVariable(o, key, c, false)
	if err != nil && strings.Contains(err.Error(), "has already been taken") {
		return err
	}
	return asPort(err)
}

// Preflight implements rotator.Destination: one call for each project.
func (p *Ports) Preflight(ctx context.Context, r rotator.Request) (rotator.Preflight, error) {
	out := rotator.Preflight{Turns: make([]rotator.TurnPreflight, len(r.Turns()))}
	for i, place := range r.Places() {
		err := p.do(ctx, op{name: "gitlab.GET preflight", detail: place.Owner(), says: []any{r}}, func() error {
			t, owner, err := p.w.owner(p.Token, place, false)
			var refused *gitlabError
			if errors.As(err, &refused) {
				out.Checks = append(out.Checks, fault("%s", unreachable(refused, place)))
				return nil
			}
			p.w.preflight(&out, t)
			if project, is := owner.(*project); is && project.Archived {
				out.Checks = append(out.Checks, fault("project %s is archived: unarchive it", project.Path))
			}
			for j, turn := range r.Turns() {
				if turn.Target == i {
					p.w.preflightTurn(&out, j, turn, place)
				}
			}
			return nil
		})
		if err != nil {
			return rotator.Preflight{}, err
		}
	}
	if len(out.Found(rotator.CheckFault)) > 0 {
		return out, nil
	}
	var err error
	if out.Published, err = p.Read(ctx, r.Places()); errors.Is(err, rotator.ErrRefused) {
		out.Published = make([]rotator.Published, len(r.Places()))
		out.Published[0].Faults, err = []string{err.Error()}, nil
	}
	return out, err
}

func fault(format string, args ...any) rotator.Check {
	return rotator.Check{State: rotator.CheckFault, Detail: fmt.Sprintf(format, args...)}
}

// unreachable says what a refusal of everything means, and what to do.
func unreachable(e *gitlabError, place rotator.Place) string {
	switch e.status {
	case http.StatusUnauthorized:
		return "GitLab does not accept the token: it is unknown, expired or revoked; make a new one"
	case http.StatusNotFound:
		return fmt.Sprintf("there is no %s, or the token cannot see it", place.Owner())
	}
	return fmt.Sprintf("the token may not manage the variables of %s: it needs the scope api and the role Maintainer", place.Owner())
}

func (w *World) preflight(out *rotator.Preflight, t *token) {
	out.ReadOnly = !t.may("api")
	if left := t.Expires.Sub(w.now); left < 14*24*time.Hour {
		out.Checks = append(out.Checks, rotator.Check{State: rotator.CheckWarning, Detail: "the token expires on " + t.Expires.Format(time.DateOnly)})
	}
}

// preflightTurn looks at one redeploy.
func (w *World) preflightTurn(out *rotator.Preflight, i int, turn rotator.Turn, place rotator.Place) {
	p, found := w.projects[turn.ProjectID], &out.Turns[i]
	if turn.ProjectID == 0 {
		return // a group that is only published to
	}
	if p == nil {
		out.Checks = append(out.Checks, fault("there is no project %d", turn.ProjectID))
		return
	}
	if found.Ref = turn.Ref; found.Ref == "" {
		found.Ref = p.DefaultBranch
	}
	ref, ok := p.ref(found.Ref)
	found.RefProtected = ref.Protected
	if turn.Redeploy == rotator.RedeployDeployment {
		names := place.Variables()
		d, why := w.liveJob(p, rotator.Redeploy{Environment: turn.Environment, Variables: [2]string{names[len(names)-1], names[0]}})
		if found.CannotRedeploy = why; d != nil {
			found.LiveRef, found.LiveRefProtected = d.job.pipeline.ref.Name, d.job.pipeline.ref.Protected
		}
		found.LiveCommit = w.liveCommit(p, turn.Environment)
		if turn.Fallback != rotator.RedeployPipeline {
			return
		}
	}
	if !ok {
		out.Checks = append(out.Checks, fault("project %s has no branch or tag %s", p.Path, found.Ref))
	}
}

// liveCommit is the commit of what is live, "" when nothing is.
func (w *World) liveCommit(p *project, environment string) string {
	if d := w.live(p, environment, w.seq); d != nil {
		return d.job.pipeline.sha
	}
	return ""
}
