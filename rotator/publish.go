package rotator

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// publishTries bounds how often one run sends a write of the variables whose reply
// was lost: the value is the same each time, so sending it again is safe.
const publishTries = 3

// publishSecret writes the secret variable. A crash after it leaves a torn pair:
// the stamp says so, and the next run finishes it without the secret.
func (u *run) publishSecret(ctx context.Context, o observed, v verdict) (verdict, error) {
	began := time.Now()
	err := u.write(ctx, func(ctx context.Context) error {
		return u.Destination.WriteSecret(ctx, u.request.Place(), u.asMade(o.published.Secret), u.made.pair)
	})
	switch {
	case err == nil:
		u.done(StepPublishSecret, began)
		u.said = inScope(u.request.SecretAccessKeyVariable, u.request)
		u.seen.published.Secret.Exists, u.seen.published.Secret.Claims = true, v.keyID
		return verdict{}, nil
	case errors.Is(err, ErrRefused) && u.made.doubtful == 0:
		// Nothing was written, so the new key is nobody's: it goes at once.
		u.giveUp(StepPublishSecret, "%v", err)
		return verdict{}, nil
	}
	return verdict{}, u.doubt(ctx, err)
}

// publishKeyID writes the key id variable, which completes the pair. A crash after
// it leaves everything in place; the next run sees that and goes on.
func (u *run) publishKeyID(ctx context.Context, o observed, v verdict) (verdict, error) {
	began := time.Now()
	err := u.write(ctx, func(ctx context.Context) error {
		at, err := u.Destination.WriteKeyID(ctx, u.request.Place(), u.asMade(o.published.KeyID), v.keyID)
		u.seen.published.At = at
		return err
	})
	if err != nil {
		return verdict{}, u.doubt(ctx, err)
	}
	u.done(StepPublishKeyID, began)
	u.said = inScope(u.request.AccessKeyIDVariable, u.request)
	id := &u.seen.published.KeyID
	id.Exists, id.Value, id.Claims = true, v.keyID, v.keyID
	if id.Hidden {
		id.Value = ""
	}
	return verdict{}, nil
}

func inScope(variable string, r Request) string {
	return fmt.Sprintf("%s of project %d [%s]", variable, r.ProjectID, r.EnvironmentScope)
}

// asMade is the variable as it is to be made when there is none.
func (u *run) asMade(v Variable) Variable {
	if !v.Exists {
		v.Protected = u.record.RefProtected
	}
	return v
}

// doubt looks again after a write of a variable whose reply was lost, and lets it be
// sent again: a job that starts meanwhile would get a torn pair.
func (u *run) doubt(ctx context.Context, err error) error {
	u.made.doubtful++
	if errors.Is(err, ErrRefused) || errors.Is(err, errLeaseOver) || u.made.doubtful >= publishTries || !sleep(ctx, u.Pace.PollInterval) {
		return err
	}
	u.seen.published = nil
	return nil
}
