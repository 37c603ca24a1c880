package sim

import (
	"context"
	"time"

	"credential-rotator/rotator"
	"credential-rotator/test/sandbox"
)

// clocks are ports to services whose clocks differ from ours, and from each other's:
// IAM's goes ahead, GitLab's is behind.
type clocks struct{ *sandbox.Ports }

const (
	iamAhead     = 3 * time.Minute
	gitlabBehind = 2 * time.Minute
)

func (c clocks) User(ctx context.Context, name string) (rotator.User, error) {
	u, err := c.Ports.User(ctx, name)
	u.At = shifted(u.At, iamAhead)
	return u, err
}

func (c clocks) LastUsed(ctx context.Context, keyID string) (rotator.LastUse, error) {
	use, err := c.Ports.LastUsed(ctx, keyID)
	use.At = shifted(use.At, iamAhead)
	return use, err
}

func (c clocks) List(ctx context.Context, user string) ([]rotator.AccessKey, error) {
	keys, err := c.Ports.List(ctx, user)
	for i := range keys {
		keys[i].CreatedAt = shifted(keys[i].CreatedAt, iamAhead)
	}
	return keys, err
}

func (c clocks) Preflight(ctx context.Context, r rotator.Request) (rotator.Preflight, error) {
	p, err := c.Ports.Preflight(ctx, r)
	for i := range p.Published {
		p.Published[i].At = shifted(p.Published[i].At, -gitlabBehind)
	}
	return p, err
}

func (c clocks) Read(ctx context.Context, places []rotator.Place) ([]rotator.Published, error) {
	all, err := c.Ports.Read(ctx, places)
	for i := range all {
		all[i].At = shifted(all[i].At, -gitlabBehind)
	}
	return all, err
}

func (c clocks) Write(ctx context.Context, p rotator.Place, part rotator.Part, before rotator.Variable, pair rotator.KeyPair) (time.Time, error) {
	at, err := c.Ports.Write(ctx, p, part, before, pair)
	return shifted(at, -gitlabBehind), err
}

func (c clocks) Start(ctx context.Context, r rotator.Redeploy) (rotator.Deployment, error) {
	return c.Ports.Start(ctx, understood(r))
}

func (c clocks) Check(ctx context.Context, r rotator.Redeploy) (rotator.Deployment, error) {
	d, err := c.Ports.Check(ctx, understood(r))
	d.FinishedAt = shifted(d.FinishedAt, -gitlabBehind)
	return d, err
}

func (c clocks) Holders(ctx context.Context, r rotator.Redeploy) ([]rotator.Job, error) {
	return c.Ports.Holders(ctx, understood(r))
}

// understood is a question as GitLab understands it, by its own clock.
func understood(r rotator.Redeploy) rotator.Redeploy {
	r.PublishedAt = shifted(r.PublishedAt, gitlabBehind)
	return r
}

func shifted(t time.Time, by time.Duration) time.Time {
	if t.IsZero() {
		return t // there is no such time
	}
	return t.Add(by)
}
