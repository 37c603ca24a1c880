package gitlab

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	gitlab "gitlab.com/gitlab-org/api/client-go/v2"

	"credential-rotator/rotator"
)

// Write writes one part of a pair, in one call; of a group, in two. The time is the second
// after GitLab's reply.
func (c *Client) Write(ctx context.Context, p rotator.Place, part rotator.Part, before rotator.Variable, pair rotator.KeyPair) (time.Time, error) {
	w := writing{key: p.SecretVariable, value: pair.Secret, keyID: pair.ID, secret: pair.Secret}
	switch {
	case p.File != "" && pair.Secret.Empty():
		return time.Time{}, refused(errors.New("a credentials file cannot be written without the secret"))
	case p.File != "":
		w.key, w.value, w.file = p.File, credentialsFile(p.Profile, pair), true
	case part == rotator.PartKeyID:
		w.key, w.value = p.KeyIDVariable, rotator.NewSecret(pair.ID)
	}
	resp, err := c.write(ctx, p, before, w)
	if err != nil {
		return time.Time{}, w.failed(p, err)
	}
	at, err := serverTime(resp)
	if err != nil && (part == rotator.PartKeyID || w.file) { // that is when the pair is whole
		return time.Time{}, w.failed(p, err)
	}
	return at, nil
}

// Recover reads a secret back, in one call.
func (c *Client) Recover(ctx context.Context, p rotator.Place, keyID string) (rotator.Secret, error) {
	key := p.Variables()[0]
	row, resp, err := c.variableOf(ctx, p, key)
	if err != nil {
		return rotator.Secret{}, fmt.Errorf("reading %s of %s: %w", name(key, p.EnvironmentScope), p.Owner(), refusal(c.explain(resp, err)))
	}
	if row == nil || row.Hidden || row.Value == "" || row.EnvironmentScope != p.EnvironmentScope {
		return rotator.Secret{}, refused(fmt.Errorf("%s of %s does not show its value", name(key, p.EnvironmentScope), p.Owner()))
	}
	if _, claims := unstamped(row.Description); claims != keyID {
		return rotator.Secret{}, refused(fmt.Errorf("%s of %s does not say that it is the secret of %s", name(key, p.EnvironmentScope), p.Owner(), keyID))
	}
	if p.File != "" {
		return profileOf(row.Value, p.Profile).secret, nil
	}
	return rotator.NewSecret(strings.TrimSpace(row.Value)), nil
}

// writing is what one variable is to hold.
type writing struct {
	key   string
	value rotator.Secret
	keyID string // the key that the value belongs to
	file  bool   // which GitLab cannot mask
	// secret is what the value holds that must not be told.
	secret rotator.Secret
}

func (w writing) failed(p rotator.Place, err error) error {
	return fmt.Errorf("writing %s of %s: %w", name(w.key, p.EnvironmentScope), p.Owner(), err)
}

func (c *Client) write(ctx context.Context, p rotator.Place, before rotator.Variable, w writing) (*gitlab.Response, error) {
	if !w.file && !maskable(w.value) {
		return nil, refused(errors.New("the value cannot be masked: GitLab masks eight and more of A-Z a-z 0-9 _ + = / @ : . ~ - only"))
	}
	if err := roomForStamp(before.Text, w.keyID); err != nil {
		return nil, refused(err)
	}
	send := c.create
	if before.Exists {
		send = c.update
	}
	row, resp, err := send(ctx, p, before, w)
	if errors.Is(err, rotator.ErrRefused) {
		return nil, err
	}
	if err != nil {
		return nil, refusal(c.explain(resp, err, w.value, w.secret))
	}
	if row == nil || row.Key != w.key || row.EnvironmentScope != p.EnvironmentScope {
		return nil, errors.New("GitLab answered with another variable than the one that was to be written: look at the variables of this name in all scopes, and correct them")
	}
	if !describes(resp) { // applied, and so no refusal
		return nil, errors.New("it was written, but " + c.noDescriptions(""))
	}
	return resp, nil
}

// update changes the value and the description and leaves the rest as it is, but
// for masked, which is switched on. Without the filter GitLab would take any
// variable of that name. masked is never sent for a hidden one: GitLab refuses it.
func (c *Client) update(ctx context.Context, p rotator.Place, before rotator.Variable, w writing) (*gitlab.ProjectVariable, *gitlab.Response, error) {
	opt := gitlab.UpdateProjectVariableOptions{
		Value:       new(w.value.Reveal()),
		Description: new(stamped(before.Text, w.keyID, time.Now())),
		Filter:      &gitlab.VariableFilter{EnvironmentScope: p.EnvironmentScope},
	}
	if !before.Masked && !before.Hidden && !w.file {
		opt.Masked = new(true)
	}
	return c.putVariable(ctx, p, w.key, opt)
}

// create makes the variable. When it is there already (the reply to an earlier
// attempt was lost), GitLab answers 400, and it is left as it is.
func (c *Client) create(ctx context.Context, p rotator.Place, before rotator.Variable, w writing) (*gitlab.ProjectVariable, *gitlab.Response, error) {
	kind := gitlab.EnvVariableType
	if w.file {
		kind = gitlab.FileVariableType
	}
	return c.postVariable(ctx, p, gitlab.CreateProjectVariableOptions{
		Key:              new(w.key),
		Value:            new(w.value.Reveal()),
		Description:      new(stamped(before.Text, w.keyID, time.Now())),
		EnvironmentScope: new(p.EnvironmentScope),
		Masked:           new(!w.file),
		Protected:        new(before.Protected),
		Raw:              new(w.file), // a file with a $ in it is to stay as it is
		VariableType:     new(kind),
	})
}

// maskable is GitLab's rule for a masked variable that is not raw (Ci::Maskable),
// which what is written satisfies in any variable.
func maskable(value rotator.Secret) bool {
	s := value.Reveal()
	return len(s) >= 8 && strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_+=/@:.~-") == ""
}
