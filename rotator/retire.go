package rotator

import (
	"context"
	"slices"
	"time"
)

// remove deletes a key, once.
func (u *run) remove(ctx context.Context, id string) error {
	err := u.write(ctx, func(ctx context.Context) error { return u.Keys.Delete(ctx, u.request.User, id) })
	if err == nil {
		u.gone = append(u.gone, id)
	}
	return err
}

// tidy frees the slot of an inactive key. A crash here leaves it, or not; the next
// run decides afresh.
func (u *run) tidy(ctx context.Context, _ observed, v verdict) (verdict, error) {
	began := time.Now()
	if err := u.remove(ctx, v.keyID); err != nil {
		return verdict{}, err
	}
	u.done(StepTidy, began)
	u.seen.forgetAllBut(u.seen.user)
	return verdict{}, nil
}

// deactivate switches the old key off. A crash after it leaves it inactive; the next
// run does so again, which changes nothing, and goes on.
func (u *run) deactivate(ctx context.Context, o observed, v verdict) (verdict, error) {
	began := time.Now()
	err := u.write(ctx, func(ctx context.Context) error { return u.Keys.Deactivate(ctx, u.request.User, v.keyID) })
	if err != nil {
		return verdict{}, err
	}
	u.done(StepDeactivate, began)
	u.said = v.keyID
	u.seen.forgetAllBut(u.seen.user)
	if !u.record.InFlight() { // retire_key, before a rotation begins
		return verdict{}, nil
	}
	soak := hours(u.request.SoakHours)
	err = u.save(ctx, func(r *Record) {
		r.Phase, r.SoakUntil = PhaseSoaking, time.Now().Add(soak).UTC()
		if soak > 0 {
			r.Lease.Until, r.Told = time.Time{}, true
		}
	})
	if err != nil || soak == 0 {
		u.seen.keys = switched(o.keys, v.keyID)
		return verdict{}, err
	}
	u.succeeded = true
	v = answer(StatusRotated, "%s; %s is inactive, and deleted from %s on", u.record.Reason, v.keyID, stamp(u.record.SoakUntil))
	v.nextDue = dueAt(u.request, newKey(o, u.record))
	return v, nil
}

// switched are the keys as they are now that one was deactivated. IAM may list it as
// active for a moment longer.
func switched(keys []AccessKey, id string) *[]AccessKey {
	keys = slices.Clone(keys)
	for i := range keys {
		if keys[i].ID == id {
			keys[i].Status = KeyInactive
		}
	}
	return &keys
}

// delete removes the old key for good. A crash after it leaves the record; the next
// run finds the key gone, and finishes.
func (u *run) delete(ctx context.Context, o observed, v verdict) (verdict, error) {
	began := time.Now()
	if err := u.remove(ctx, v.keyID); err != nil {
		return verdict{}, err
	}
	u.done(StepDelete, began)
	u.said = v.keyID
	return u.finish(ctx, o, v)
}
