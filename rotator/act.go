package rotator

import (
	"context"
	"slices"
	"time"
)

// act does the one thing that was decided, and writes down that it was done. It
// returns a verdict with a status when that was the end of the run.
func (u *run) act(ctx context.Context, o observed, v verdict) (verdict, error) {
	steps := map[Step]func(context.Context, observed, verdict) (verdict, error){
		StepTidy:          u.tidy,
		StepBegin:         u.begin,
		StepCreate:        u.create,
		StepProve:         u.prove,
		StepRecover:       u.recover,
		StepPublishSecret: u.publishSecret,
		StepPublishKeyID:  u.publishKeyID,
		StepMark:          u.mark,
		StepRedeploy:      u.startRedeploy,
		StepTag:           u.tag,
		StepUntag:         u.untag,
		StepAwait:         u.await,
		StepDeactivate:    u.deactivate,
		StepDelete:        u.delete,
		StepDiscard:       u.discard,
		StepRestart:       u.restart,
		StepFinish:        u.finish,
	}
	rotation := u.record.RotationID // the last step closes the record
	u.since, u.said = time.Now(), v.reason
	u.watch(Progress{Step: v.step, State: StepStarted, Detail: v.reason})
	next, err := steps[v.step](ctx, o, v)
	p := Progress{RotationID: rotation, Step: v.step, State: StepDone, Detail: u.said, Elapsed: time.Since(u.since)}
	switch {
	case err != nil:
		p.State, p.Detail, err = StepFailed, err.Error(), u.failed(v.step, err)
	case u.made.givenUp != "" && v.step != StepDiscard:
		p.State, p.Detail = StepFailed, u.made.givenUp
	case v.step == StepRedeploy:
		p.URL = u.record.Deployment.URL
	}
	u.watch(p)
	if u.failure != nil { // the step was done, and the run has failed all the same
		return verdict{}, u.failure
	}
	return next, err
}

// done notes a step for the result. It reaches the journal with the next save.
func (u *run) done(s Step, began time.Time) {
	const kept = 64 // a record stays small, however often a deployment is tried
	steps := append(slices.Clone(u.record.Steps), StepTime{Step: s, At: began.UTC().Truncate(time.Millisecond), MS: time.Since(began).Milliseconds()})
	u.record.Steps = steps[max(0, len(steps)-kept):]
}

// begin takes the lease and writes down what is about to happen, so that a key made
// by a run that then dies can be told from everybody else's. A crash before that leaves
// the follow-up on for nothing: the next one switches it off.
func (u *run) begin(ctx context.Context, o observed, v verdict) (verdict, error) {
	now := time.Now()
	u.unfollowed = u.enable(ctx)
	err := u.save(ctx, func(r *Record) {
		*r = Record{
			User: r.User, UniqueID: r.UniqueID, Version: r.Version, Lease: r.Lease, Request: r.Request,
			RotationID: newRotationID(now), Phase: PhaseCreating, Reason: v.reason, Forced: u.request.Force, StartedAt: now.UTC(),
			PreviousKeyID: v.previous, Fresh: true,
			CreatingSince: o.iamNow.Truncate(time.Second), CreatingUntil: o.iamNow.Add(createTime),
			Warnings: append(v.warnings, warningsIn(checks(o))...), Steps: r.Steps,
		}
		for _, t := range o.preflight.Turns {
			r.Refs, r.Subgroups = append(r.Refs, t.Ref), append(r.Subgroups, t.Subgroups...)
		}
		for i := range u.request.Targets() {
			r.Protect = append(r.Protect, refsProtected(o, i))
		}
		for _, k := range o.keys {
			r.KnownKeys = append(r.KnownKeys, k.ID)
		}
		if v.adopt != "" {
			r.Phase, r.NewKeyID = PhaseCreated, v.adopt
		}
	})
	if err != nil { // which may be a save that arrives yet: the follow-up stays on
		return verdict{}, err
	}
	u.unfollowed = u.enable(ctx) // whoever ended meanwhile has switched it off, and did not see this one
	u.begun, u.ended = v.adopt == "", nil
	u.seen.forgetAllBut(u.seen.user)
	u.notify(ctx, NoticeStarted, u.result(answer(StatusWaiting, "%s", v.reason)))
	return verdict{}, nil
}

// restart closes the record and looks afresh, as if no rotation had begun. One that was
// begun by force is begun again by force, for nobody was told that it failed: a run that
// failed ends here, and whoever forced it knows.
func (u *run) restart(ctx context.Context, _ observed, v verdict) (verdict, error) {
	ended := u.record
	u.made, u.ended = madeKey{}, &ended
	u.request.Force = u.request.Force || ended.Forced
	if u.asked != nil {
		u.request.Target, u.request.Destinations = u.asked.Target, u.asked.Destinations
	}
	u.seen.forgetAllBut(u.seen.user)
	return verdict{}, u.save(ctx, func(r *Record) {
		*r = Record{User: r.User, UniqueID: r.UniqueID, Version: r.Version, Lease: r.Lease, Request: r.Request, Phase: PhaseIdle, LastError: v.reason}
	})
}

// finish closes the rotation: the history has one line more, the record is idle. A crash
// in between leaves the record; the next run finishes again, and writes the same line.
func (u *run) finish(ctx context.Context, o observed, _ verdict) (verdict, error) {
	ended := u.record
	cutShort := u.loaded.Phase == PhaseSoaking && u.loaded.RotationID == ended.RotationID && u.request.Force
	v := answer(StatusRotated, "%s", ended.Reason)
	v.nextDue = dueAt(u.request, newKey(o, ended))
	if err := u.Journal.Append(ctx, Entry{User: ended.User, StartedAt: ended.StartedAt, Result: u.resultOf(ended, v)}); err != nil {
		u.warn("the history lacks this rotation: %v", err)
	}
	err := u.save(ctx, func(r *Record) {
		*r = Record{User: r.User, UniqueID: r.UniqueID, Version: r.Version, Lease: r.Lease, Request: r.Request, Phase: PhaseIdle}
		r.Lease.Until = time.Time{}
	})
	if err != nil {
		return verdict{}, err
	}
	if cutShort { // by force, which asks for another rotation: one
		u.loaded = u.record
		u.seen.forgetAllBut(u.seen.user)
		return verdict{}, nil
	}
	u.ended, u.succeeded = &ended, !ended.Told
	return v, nil
}

// newKey is the key that a rotation has made, as IAM lists it, or from memory.
func newKey(o observed, r Record) AccessKey {
	for _, k := range o.keys {
		if k.ID == r.NewKeyID {
			return k
		}
	}
	return AccessKey{ID: r.NewKeyID, CreatedAt: r.CreatingSince}
}

// sleep waits, and tells whether it was let to.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
