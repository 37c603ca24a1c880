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

// WriteSecret writes the pair's secret, in one call.
func (c *Client) WriteSecret(ctx context.Context, p rotator.Place, before rotator.Variable, pair rotator.KeyPair) error {
	w := writing{key: p.SecretVariable, value: pair.Secret, keyID: pair.ID}
	if _, err := c.write(ctx, p, before, w); err != nil {
		return w.failed(p, err)
	}
	return nil
}

// WriteKeyID writes the key id, in one call, and returns the second after GitLab's
// reply.
func (c *Client) WriteKeyID(ctx context.Context, p rotator.Place, before rotator.Variable, keyID string) (time.Time, error) {
	w := writing{key: p.KeyIDVariable, value: rotator.NewSecret(keyID), keyID: keyID}
	resp, err := c.write(ctx, p, before, w)
	if err != nil {
		return time.Time{}, w.failed(p, err)
	}
	at, err := serverTime(resp)
	if err != nil {
		return time.Time{}, w.failed(p, err)
	}
	return at, nil
}

// writing is what one variable is to hold.
type writing struct {
	key   string
	value rotator.Secret
	keyID string // the key that the value belongs to
}

func (w writing) failed(p rotator.Place, err error) error {
	return fmt.Errorf("writing %s of project %d: %w", name(w.key, p.EnvironmentScope), p.ProjectID, err)
}

func (c *Client) write(ctx context.Context, p rotator.Place, before rotator.Variable, w writing) (*gitlab.Response, error) {
	if !maskable(w.value) {
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
	if err != nil {
		return nil, refusal(c.explain(resp, err, w.value))
	}
	if row == nil || row.Key != w.key || row.EnvironmentScope != p.EnvironmentScope {
		return nil, errors.New("GitLab answered with another variable than the one that was to be written: look at the variables of this name in all scopes, and correct them")
	}
	return resp, nil
}

// update changes the value and the description and leaves the rest as it is, but
// for masked, which is switched on. Without the filter GitLab would take any
// variable of that name. masked is never sent for a hidden one: GitLab refuses it.
func (c *Client) update(ctx context.Context, p rotator.Place, before rotator.Variable, w writing) (*gitlab.ProjectVariable, *gitlab.Response, error) {
	opt := &gitlab.UpdateProjectVariableOptions{
		Value:       new(w.value.Reveal()),
		Description: new(stamped(before.Text, w.keyID, time.Now())),
		Filter:      &gitlab.VariableFilter{EnvironmentScope: p.EnvironmentScope},
	}
	if !before.Masked && !before.Hidden {
		opt.Masked = new(true)
	}
	return c.api.ProjectVariables.UpdateVariable(p.ProjectID, w.key, opt, gitlab.WithContext(ctx))
}

// create makes the variable. When it is there already (the reply to an earlier
// attempt was lost), GitLab answers 400, and it is left as it is.
func (c *Client) create(ctx context.Context, p rotator.Place, before rotator.Variable, w writing) (*gitlab.ProjectVariable, *gitlab.Response, error) {
	opt := &gitlab.CreateProjectVariableOptions{
		Key:              new(w.key),
		Value:            new(w.value.Reveal()),
		Description:      new(stamped(before.Text, w.keyID, time.Now())),
		EnvironmentScope: new(p.EnvironmentScope),
		Masked:           new(true),
		Protected:        new(before.Protected),
		Raw:              new(false),
		VariableType:     new(gitlab.EnvVariableType),
	}
	return c.api.ProjectVariables.CreateVariable(p.ProjectID, opt, gitlab.WithContext(ctx))
}

// maskable is GitLab's rule for a masked variable that is not raw (Ci::Maskable),
// which what is written satisfies in any variable.
func maskable(value rotator.Secret) bool {
	s := value.Reveal()
	return len(s) >= 8 && strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_+=/@:.~-") == ""
}
