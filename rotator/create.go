package rotator

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// create makes the new key: once, for any error may hide a key that exists. A crash
// here leaves it, with its secret lost; the next run deletes it when it is old
// enough to be nobody else's. Only a refusal says that there is none, and that what
// is found later is somebody's.
func (u *run) create(ctx context.Context, o observed, _ verdict) (verdict, error) {
	u.begun, u.made = false, madeKey{}
	if o.iamNow.Add(writeTime).After(u.record.CreatingUntil) {
		return verdict{}, errLeaseOver // it would be made outside of its window
	}
	began := time.Now()
	err := u.write(ctx, func(ctx context.Context) error {
		pair, err := u.Keys.Create(ctx, u.request.User)
		u.made.pair = pair
		return err
	})
	if errors.Is(err, ErrRefused) {
		u.gone = nil // perhaps there is no slot because one of them is not
		if _, saveErr := u.restart(ctx, observed{}, verdict{reason: err.Error()}); saveErr != nil {
			err = fmt.Errorf("%w; %w", err, saveErr)
		}
		return verdict{}, err
	}
	if err != nil {
		u.made = madeKey{}
		return verdict{}, err
	}
	u.done(StepCreate, began)
	u.said = u.made.pair.ID
	return verdict{}, u.save(ctx, func(r *Record) { r.Phase, r.NewKeyID = PhaseCreated, u.made.pair.ID })
}

// prove sees the new pair authenticate as the user, several times in a row. A pair that does not is given up, and never published.
func (u *run) prove(ctx context.Context, o observed, _ verdict) (verdict, error) {
	began := time.Now()
	until := began.Add(u.Pace.ProbeTimeout)
	if until.After(u.stop) {
		until = u.stop
	}
	var last error
	pause, streak := u.Pace.ProbeDelay, 0
	for time.Now().Add(pause).Before(until) && sleep(ctx, pause) {
		pause = u.Pace.ProbeInterval
		who, err := u.Prober.Probe(ctx, u.made.pair)
		switch {
		case err != nil:
			last, streak = err, 0
		case who.ARN != o.user.ARN:
			u.giveUp(StepProve, "%s authenticates as %s, not as %s", u.made.pair.ID, who.ARN, o.user.ARN)
			return verdict{}, nil
		default:
			streak++
		}
		if streak >= u.Pace.ProbeSuccesses {
			u.made.proven = true
			u.said = probed(streak, streak, nil)
			u.done(StepProve, began)
			// Whoever has taken over meanwhile has deleted this key: then this conflicts.
			return verdict{}, u.save(ctx, func(r *Record) { r.SentAt = o.iamNow.Add(time.Since(o.now)) })
		}
		u.watch(Progress{Step: StepProve, State: StepWaiting, Detail: probed(streak, u.Pace.ProbeSuccesses, last), Elapsed: time.Since(began)})
	}
	why := ""
	if last != nil {
		why = ": " + last.Error()
	}
	u.giveUp(StepProve, "%s did not authenticate %d times in a row within %s%s", u.made.pair.ID, u.Pace.ProbeSuccesses, round(time.Since(began)), why)
	return verdict{}, nil
}

func probed(streak, wanted int, last error) string {
	if streak == 0 && last != nil {
		return "not known everywhere yet"
	}
	return fmt.Sprintf("authenticated %d of %d times in a row", streak, wanted)
}

// discard deletes a new key that was never published, or that nobody knows. A crash
// after it leaves the record; the next run finds no such key, and starts over.
func (u *run) discard(ctx context.Context, _ observed, v verdict) (verdict, error) {
	began := time.Now()
	if err := u.remove(ctx, v.keyID); err != nil {
		return verdict{}, err
	}
	u.done(StepDiscard, began)
	gaveUp, at := u.made.givenUp, u.made.gaveUpAt
	if _, err := u.restart(ctx, observed{}, v); err != nil || gaveUp == "" {
		return verdict{}, err
	}
	u.failure = u.failed(at, fmt.Errorf("%s; the new key was deleted", gaveUp))
	return verdict{}, nil
}

// recover reads the new secret back from a place that has it, so that it can be published
// to the others. It is proven again before.
func (u *run) recover(ctx context.Context, _ observed, v verdict) (verdict, error) {
	began := time.Now()
	place := u.request.Places()[v.place]
	secret, err := u.Destination.Recover(ctx, place, v.keyID)
	if err != nil {
		return verdict{}, err
	}
	u.done(StepRecover, began)
	u.said = "from " + place.Owner()
	u.made = madeKey{pair: KeyPair{ID: v.keyID, Secret: secret}}
	return verdict{}, nil
}

// giveUp says why the new key must not be published. It is deleted next.
func (u *run) giveUp(at Step, format string, args ...any) {
	u.made.gaveUpAt, u.made.givenUp = at, fmt.Sprintf(format, args...)
}
