package rotator

import (
	"context"
	"fmt"
)

// The follow-up is on while any record is in flight, and off when none is.
//
// It is switched on right before the intent to rotate is saved: a crash in between
// leaves it on for nothing, and the next follow-up switches it off. And once more right
// after, for a rotation that ended in between has switched it off; whoever does so later
// looks at the journal once more afterwards, and finds that record.
//
// A run that ends with its rotation in flight switches it on again, whoever began it.
// That is one call, once or twice in a rotation, and needs no look: a list that lagged
// may have hidden the record from a run that switched it off. A run that found nothing
// in flight and began nothing, the usual one, calls nobody.

// switchTime bounds one call that has to do with the switch: a run makes up to four of
// them in the time that is kept back before its deadline.
const switchTime = saveTime / 4

// switchFollowUp leaves the follow-up as the journal needs it at the end of a run.
func (u *run) switchFollowUp(ctx context.Context, v verdict) {
	if u.FollowUp == nil || u.followed || v.status == StatusBusy { // another run sees to it
		return
	}
	switch {
	case u.leavesInFlight():
		u.unfollowed = u.enable(ctx)
	case u.flew:
		u.unfollowed = u.settle(ctx, map[string]int64{u.record.User: u.record.Version})
	}
}

// leavesInFlight tells whether the journal has the rotation in flight, as far as this
// run knows. What it believes of a record that it has not saved is not in the journal.
func (u *run) leavesInFlight() bool {
	return u.record.InFlight() || u.loaded.InFlight() && u.loaded.Version == u.record.Version
}

// enable has what is in flight followed up, and says why it will not be, if so.
func (r *Rotator) enable(ctx context.Context) (why string) {
	if r.FollowUp == nil {
		return ""
	}
	ctx, cancel := switchContext(ctx)
	defer cancel()
	if err := r.FollowUp.Enable(ctx); err != nil {
		return fmt.Sprintf("nobody follows up, so what is in flight waits for its own schedule: %v", err)
	}
	return ""
}

// settle switches the follow-up on if anything is in flight, else off. ended are the
// versions at which records were last seen to be idle: a list may lag.
func (r *Rotator) settle(ctx context.Context, ended map[string]int64) (why string) {
	switch some, err := r.anyInFlight(ctx, ended); {
	case err != nil:
		return fmt.Sprintf("whether follow-ups are still needed could not be read, so they go on: %v", err)
	case some:
		return r.enable(ctx)
	}
	return r.disable(ctx, ended)
}

// disable switches the follow-up off, and on again if a rotation has begun since it was
// looked. A crash in between leaves that one to its own run, which switches it on when
// it ends, and to its own schedule.
func (r *Rotator) disable(ctx context.Context, ended map[string]int64) (why string) {
	if err := r.sendDisable(ctx); err != nil {
		return fmt.Sprintf("follow-ups go on though nothing is in flight: %v", err)
	}
	some, err := r.anyInFlight(ctx, ended)
	if some || err != nil {
		why = r.enable(ctx)
	}
	if err != nil && why == "" {
		return fmt.Sprintf("whether follow-ups are still needed could not be read, so they go on: %v", err)
	}
	return why
}

func (r *Rotator) sendDisable(ctx context.Context) error {
	ctx, cancel := switchContext(ctx)
	defer cancel()
	return r.FollowUp.Disable(ctx)
}

func (r *Rotator) anyInFlight(ctx context.Context, ended map[string]int64) (bool, error) {
	ctx, cancel := switchContext(ctx)
	defer cancel()
	records, err := r.Journal.InFlight(ctx)
	for _, record := range records {
		if version, known := ended[record.User]; !known || record.Version > version {
			return true, err
		}
	}
	return false, err
}

// switchContext lets a call of the switch be made though the run is told to stop.
func switchContext(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), switchTime)
}
