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

// publishSecret writes the secret variable of a place. A crash after it leaves a torn
// pair there: the stamp says so, and the next run finishes it without the secret. With a
// credentials file it writes the whole pair.
func (u *run) publishSecret(ctx context.Context, o observed, v verdict) (verdict, error) {
	began := time.Now()
	place := u.request.Places()[v.place]
	at, err := u.publish(ctx, place, PartSecret, u.asMade(o.published[v.place].Secret, v.place), u.made.pair)
	seen := &(*u.seen.published)[v.place]
	switch {
	case err == nil:
		u.done(StepPublishSecret, began)
		u.said = inScope(place.Variables()[0], place)
		seen.Secret.Exists, seen.Secret.Claims = true, v.keyID
		if place.File != "" {
			seen.KeyID, seen.At = seen.Secret, at
			seen.KeyID.Value = v.keyID
		}
		return verdict{}, nil
	case errors.Is(err, ErrRefused) && u.made.doubtful == 0:
		// Nothing was written here, so the new key is nobody's, or works elsewhere.
		u.giveUp(StepPublishSecret, "%v", err)
		return verdict{}, nil
	}
	return verdict{}, u.doubt(ctx, err)
}

// publishKeyID writes the key id variable, which completes the pair at its place. A crash
// after it leaves that in place; the next run sees it and goes on.
func (u *run) publishKeyID(ctx context.Context, o observed, v verdict) (verdict, error) {
	began := time.Now()
	place := u.request.Places()[v.place]
	at, err := u.publish(ctx, place, PartKeyID, u.asMade(o.published[v.place].KeyID, v.place), KeyPair{ID: v.keyID})
	if err != nil {
		return verdict{}, u.doubt(ctx, err)
	}
	u.done(StepPublishKeyID, began)
	u.said = inScope(place.KeyIDVariable, place)
	seen := &(*u.seen.published)[v.place]
	seen.KeyID.Exists, seen.KeyID.Value, seen.KeyID.Claims, seen.At = true, v.keyID, v.keyID, at
	if seen.KeyID.Hidden {
		seen.KeyID.Value = ""
	}
	return verdict{}, nil
}

// publish writes one part of a pair.
func (u *run) publish(ctx context.Context, place Place, part Part, before Variable, pair KeyPair) (at time.Time, err error) {
	err = u.write(ctx, func(ctx context.Context) error {
		at, err = u.Destination.Write(ctx, place, part, before, pair)
		return err
	})
	return at, err
}

func inScope(variable string, p Place) string {
	return fmt.Sprintf("%s of %s [%s]", variable, p.Owner(), p.EnvironmentScope)
}

// asMade is a variable of a place as it is to be made when there is none.
func (u *run) asMade(v Variable, place int) Variable {
	if !v.Exists && place < len(u.record.Protect) {
		v.Protected = u.record.Protect[place]
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
