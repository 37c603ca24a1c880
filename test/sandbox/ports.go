package sandbox

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
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

// Read implements rotator.Destination.
func (p *Ports) Read(ctx context.Context, place rotator.Place) (rotator.Published, error) {
	var out rotator.Published
	err := p.do(ctx, op{name: "gitlab.GET variables", detail: place.EnvironmentScope}, func() error {
		_, project, err := p.w.allow(p.Token, id(place.ProjectID), Maintainer, false)
		if err != nil {
			return asPort(err)
		}
		p.sawVariables = p.w.seq
		out = project.read(place, p.w.now)
		return nil
	})
	if err != nil {
		return rotator.Published{}, err
	}
	return out, nil
}

func id(n int64) string { return strconv.FormatInt(n, 10) }

var accessKeyID = regexp.MustCompile(`^A[KS]IA[A-Z2-7]{16}$`)

// read finds the two variables of a place, and the others that hold a key id.
func (p *project) read(place rotator.Place, now time.Time) rotator.Published {
	missing := rotator.Variable{Masked: true} // as it is to be made
	out := rotator.Published{KeyID: missing, Secret: missing, At: roundedUp(now)}
	for _, v := range p.variables {
		here := v.EnvironmentScope == place.EnvironmentScope
		switch {
		case here && v.Key == place.KeyIDVariable:
			out.KeyID = v.described()
			out.KeyID.Value = v.keyID()
			out.Faults = append(out.Faults, v.faults(now)...)
		case here && v.Key == place.SecretVariable:
			out.Secret = v.described()
			out.Faults = append(out.Faults, v.faults(now)...)
		default:
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

// name is a variable as a person would say it.
func (v *variable) name() string { return v.Key + " [" + v.EnvironmentScope + "]" }

// keyID is the access key id that the variable can be seen to hold.
func (v *variable) keyID() string {
	if value := strings.TrimSpace(v.Value); !v.Hidden && accessKeyID.MatchString(value) {
		return value
	}
	return ""
}

// faults are what keeps the variable from being written, and what to do.
func (v *variable) faults(now time.Time) []string {
	var out []string
	text, _ := unstamped(v.Description)
	if over := utf8.RuneCountInString(stamped(text, strings.Repeat("A", 20), now)) - maxDescription; over > 0 {
		out = append(out, fmt.Sprintf("the description of %s leaves no room for the stamp: shorten it by %d characters", v.name(), over))
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

// WriteSecret implements rotator.Destination.
func (p *Ports) WriteSecret(ctx context.Context, place rotator.Place, before rotator.Variable, pair rotator.KeyPair) error {
	_, err := p.write(ctx, place, half{place.SecretVariable, pair.Secret.Reveal(), pair.ID}, before)
	return err
}

// WriteKeyID implements rotator.Destination.
func (p *Ports) WriteKeyID(ctx context.Context, place rotator.Place, before rotator.Variable, keyID string) (time.Time, error) {
	return p.write(ctx, place, half{place.KeyIDVariable, keyID, keyID}, before)
}

// half is one of the two variables that a pair is published in.
type half struct{ key, value, keyID string }

// write changes the value and the stamp of a variable, or makes it.
func (p *Ports) write(ctx context.Context, place rotator.Place, h half, before rotator.Variable) (time.Time, error) {
	verb := "PUT"
	if !before.Exists {
		verb = "POST"
	}
	var at time.Time
	o := op{name: "gitlab." + verb + " variable " + h.key, detail: h.keyID, write: true, says: []any{place, before}}
	err := p.do(ctx, o, func() error {
		_, project, err := p.w.allow(p.Token, id(place.ProjectID), Maintainer, true)
		if err != nil {
			return asPort(err)
		}
		at = roundedUp(p.w.now)
		description := stamped(before.Text, h.keyID, p.w.now)
		c := change{Value: &h.value, Description: &description, Scope: &place.EnvironmentScope}
		return p.w.publish(project, h.key, before, c)
	})
	if err != nil {
		return time.Time{}, err
	}
	return at, nil
}

// publish changes a variable that existed when it was read, and makes one that did
// not. One that somebody made meanwhile, perhaps we ourselves, is no refusal.
func (w *World) publish(p *project, key string, before rotator.Variable, c change) error {
	yes := true
	if before.Exists {
		v, err := p.findVariable(key, *c.Scope)
		if err != nil {
			return asPort(err)
		}
		if !before.Masked && !before.Hidden {
			c.Masked = &yes
		}
		return asPort(w.updateVariable(p, v, c, false))
	}
	c.Masked, c.Protected = &yes, &before.Protected
	_, err := w.createVariable(p, key, c, false)
	if err != nil && strings.Contains(err.Error(), "has already been taken") {
		return err
	}
	return asPort(err)
}

// Preflight implements rotator.Destination.
func (p *Ports) Preflight(ctx context.Context, r rotator.Request) (rotator.Preflight, error) {
	var out rotator.Preflight
	err := p.do(ctx, op{name: "gitlab.GET preflight", detail: id(r.ProjectID), says: []any{r}}, func() error {
		t, project, err := p.w.allow(p.Token, id(r.ProjectID), Maintainer, false)
		var refused *gitlabError
		if errors.As(err, &refused) {
			out.Faults = []string{unreachable(refused, r.ProjectID)}
			return nil
		}
		out = p.w.preflight(t, project, r)
		return nil
	})
	if err != nil {
		return rotator.Preflight{}, err
	}
	return out, nil
}

// unreachable says what a refusal of everything means, and what to do.
func unreachable(e *gitlabError, project int64) string {
	switch e.status {
	case http.StatusUnauthorized:
		return "GitLab does not accept the token: it is unknown, expired or revoked; make a new one"
	case http.StatusNotFound:
		return fmt.Sprintf("there is no project %d, or the token cannot see it", project)
	}
	return fmt.Sprintf("the token may not manage the variables of project %d: it needs the scope api and the role Maintainer", project)
}

func (w *World) preflight(t *token, p *project, r rotator.Request) rotator.Preflight {
	out := rotator.Preflight{ReadOnly: !t.may("api"), Ref: r.Ref}
	fault := func(format string, args ...any) { out.Faults = append(out.Faults, fmt.Sprintf(format, args...)) }
	if left := t.Expires.Sub(w.now); left < 14*24*time.Hour {
		out.Warnings = append(out.Warnings, "the token expires on "+t.Expires.Format(time.DateOnly))
	}
	if p.Archived {
		fault("project %s is archived: unarchive it", p.Path)
	}
	if out.Ref == "" {
		out.Ref = p.DefaultBranch
	}
	ref, ok := p.ref(out.Ref)
	out.RefProtected = ref.Protected
	if r.Redeploy == rotator.RedeployDeployment {
		d, why := w.liveJob(p, rotator.Redeploy{Environment: r.Environment, Variables: [2]string{r.AccessKeyIDVariable, r.SecretAccessKeyVariable}})
		if out.CannotRedeploy = why; d != nil {
			out.LiveRef, out.LiveRefProtected = d.job.pipeline.ref.Name, d.job.pipeline.ref.Protected
		}
	}
	if !ok && r.Redeploy != rotator.RedeployNone && (r.Redeploy != rotator.RedeployDeployment || r.Fallback != "") {
		fault("project %s has no branch or tag %s", p.Path, out.Ref)
	}
	return out
}
