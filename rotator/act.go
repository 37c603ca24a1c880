package rotator

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// publishTries bounds how often one run sends a write of the variables whose reply
// was lost: the value is the same each time, so sending it again is safe.
const publishTries = 3

// act does the one thing that was decided, and writes down that it was done. It
// returns a verdict with a status when that was the end of the run.
func (u *run) act(ctx context.Context, o observed, v verdict) (verdict, error) {
	steps := map[Step]func(context.Context, observed, verdict) (verdict, error){
		StepTidy:          u.tidy,
		StepBegin:         u.begin,
		StepCreate:        u.create,
		StepProve:         u.prove,
		StepPublishSecret: u.publishSecret,
		StepPublishKeyID:  u.publishKeyID,
		StepMark:          u.mark,
		StepRedeploy:      u.startRedeploy,
		StepAwait:         u.await,
		StepDeactivate:    u.deactivate,
		StepDelete:        u.delete,
		StepDiscard:       u.discard,
		StepRestart:       u.restart,
		StepFinish:        u.finish,
	}
	began := time.Now()
	u.said = v.reason
	u.watch(Progress{Step: v.step, State: StepStarted, Detail: v.reason})
	next, err := steps[v.step](ctx, o, v)
	p := Progress{Step: v.step, State: StepDone, Detail: u.said, Elapsed: time.Since(began)}
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

// tidy frees the slot of an inactive key. A crash here leaves it, or not; the next
// run decides afresh.
func (u *run) tidy(ctx context.Context, _ observed, v verdict) (verdict, error) {
	began := time.Now()
	err := u.write(ctx, func(ctx context.Context) error { return u.Keys.Delete(ctx, u.request.User, v.keyID) })
	if err != nil {
		return verdict{}, err
	}
	u.done(StepTidy, began)
	u.seen.forgetAllBut(u.seen.user)
	return verdict{}, nil
}

// begin takes the lease and writes down what is about to happen, so that a key made
// by a run that then dies can be told from everybody else's.
func (u *run) begin(ctx context.Context, o observed, v verdict) (verdict, error) {
	now := time.Now()
	err := u.save(ctx, func(r *Record) {
		*r = Record{
			User: r.User, UniqueID: r.UniqueID, Version: r.Version, Lease: r.Lease, Request: r.Request,
			RotationID: newRotationID(now), Phase: PhaseCreating, Reason: v.reason, StartedAt: now.UTC(),
			PreviousKeyID: v.previous, Ref: o.preflight.Ref, RefProtected: o.preflight.RefProtected,
			CreatingSince: o.iamNow.Truncate(time.Second), CreatingUntil: o.iamNow.Add(createTime),
			Warnings: append(v.warnings, o.preflight.Warnings...), Steps: r.Steps,
		}
		for _, k := range o.keys {
			r.KnownKeys = append(r.KnownKeys, k.ID)
		}
		if v.adopt != "" {
			r.Phase, r.NewKeyID = PhaseCreated, v.adopt
		}
	})
	if err != nil {
		return verdict{}, err
	}
	u.begun, u.ended = v.adopt == "", nil
	u.seen.forgetAllBut(u.seen.user)
	u.notify(ctx, NoticeStarted, u.result(answer(StatusWaiting, "%s", v.reason)))
	return verdict{}, nil
}

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
			return verdict{}, u.save(ctx, func(*Record) {})
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

// mark notes, after publishing and before a redeploy is asked for, which pipelines
// are older. A crash after it leaves a pair that is published and not deployed.
//
// A job that began before publishing may deploy the old key again after ours has
// deployed the new one: as long as one runs, no redeploy is asked for.
func (u *run) mark(ctx context.Context, o observed, _ verdict) (verdict, error) {
	d := u.redeploy()
	if u.record.Phase == PhaseCreated {
		d.PublishedAt = o.published.At
	}
	var holders []Job
	if u.request.Redeploy != RedeployNone {
		var err error
		if d.After, err = u.Redeployer.Mark(ctx, d); err != nil {
			return verdict{}, err
		}
		if holders, err = u.Redeployer.Holders(ctx, d); err != nil {
			return verdict{}, err
		}
	}
	err := u.save(ctx, func(r *Record) {
		r.Phase, r.PublishedAt, r.Mark, r.Marked = PhasePublished, d.PublishedAt, d.After, len(holders) == 0
		if r.Marked {
			r.Attempts = append(recentAttempts(r.Attempts, o.now), o.now.UTC())
		}
	})
	u.made = madeKey{} // its secret is where it belongs; nothing here needs it any more
	u.seen.deployed, u.seen.holders = &Deployment{}, &holders
	return verdict{}, err
}

// startRedeploy starts the redeploy. A crash here leaves maybe a pipeline; the next
// run finds it above the mark. So does this one, once, when the reply is lost.
func (u *run) startRedeploy(ctx context.Context, _ observed, _ verdict) (verdict, error) {
	began := time.Now()
	var d Deployment
	err := u.write(ctx, func(ctx context.Context) (err error) {
		d, err = u.Redeployer.Start(ctx, u.redeploy())
		return err
	})
	if err != nil && !errors.Is(err, ErrRefused) {
		if found, lookErr := u.Redeployer.Check(ctx, u.redeploy()); lookErr == nil && found.State != DeploymentNone {
			d, err = found, nil
		}
	}
	if err != nil {
		return u.redeployFailed(ctx, u.record.Deployment, err)
	}
	u.done(StepRedeploy, began)
	u.said = fmt.Sprintf("%s %d on %s", d.Kind, d.ID, u.record.Ref)
	u.seen.deployed = &d
	return verdict{}, u.save(ctx, func(r *Record) { r.Phase, r.Deployment = PhaseRedeploying, d })
}

// redeployFailed closes an attempt, so that the next run begins another one. A
// pipeline of which nothing was heard may still be found above the mark.
func (u *run) redeployFailed(ctx context.Context, d Deployment, cause error) (verdict, error) {
	err := u.save(ctx, func(r *Record) {
		r.Phase, r.Marked, r.Deployment = PhasePublished, false, d
		r.LastError = cause.Error()
	})
	if err != nil {
		return verdict{}, fmt.Errorf("%w; %w", cause, err)
	}
	return verdict{}, cause
}

// await takes note of what has become of the deployment.
func (u *run) await(ctx context.Context, o observed, v verdict) (verdict, error) {
	d := o.deployed
	switch {
	case d.State == DeploymentSucceeded || u.request.Redeploy == RedeployNone:
		if n := len(o.record.Attempts); n > 0 && d.Kind != "" {
			u.done(StepAwait, o.record.Attempts[n-1])
		}
		at := d.FinishedAt
		if at.Before(o.record.PublishedAt) {
			at = o.record.PublishedAt
		}
		err := u.save(ctx, func(r *Record) {
			r.Phase, r.Deployment, r.DeployedAt, r.RetiringSince = PhaseRetiring, d, at, o.now.UTC()
			r.LastError = ""
		})
		u.seen.forgetAllBut(u.seen.user)
		return verdict{}, err
	case d.State == DeploymentFailed:
		return u.redeployFailed(ctx, d, errors.New(v.reason))
	case d.State == DeploymentNone:
		u.seen.deployed = nil
		return verdict{}, u.save(ctx, func(r *Record) { r.Phase, r.Marked = PhasePublished, false })
	}
	// It runs, and was found again after a lost reply.
	return verdict{}, u.save(ctx, func(r *Record) { r.Phase, r.Deployment = PhaseRedeploying, d })
}

// poll waits a little for a deployment that runs, and lets it be looked at again.
func (u *run) poll(ctx context.Context, o observed, v verdict) {
	u.watch(Progress{Step: StepAwait, State: StepWaiting, Detail: v.reason, URL: o.deployed.URL})
	u.seen.deployed = nil
	sleep(ctx, min(u.Pace.PollInterval, time.Until(u.stop)))
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
	if soak == 0 {
		// Not worth a save: after a crash the next run deactivates it again.
		u.record.Phase, u.record.SoakUntil = PhaseSoaking, time.Now().UTC()
		u.seen.keys = switched(o.keys, v.keyID)
		return verdict{}, nil
	}
	err = u.save(ctx, func(r *Record) {
		r.Phase, r.SoakUntil = PhaseSoaking, time.Now().Add(soak).UTC()
		r.Lease.Until, r.Told = time.Time{}, true
	})
	if err != nil {
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
	err := u.write(ctx, func(ctx context.Context) error { return u.Keys.Delete(ctx, u.request.User, v.keyID) })
	if err != nil {
		return verdict{}, err
	}
	u.done(StepDelete, began)
	u.said = v.keyID
	return u.finish(ctx, o, v)
}

// discard deletes a new key that was never published, or that nobody knows. A crash
// after it leaves the record; the next run finds no such key, and starts over.
func (u *run) discard(ctx context.Context, _ observed, v verdict) (verdict, error) {
	began := time.Now()
	err := u.write(ctx, func(ctx context.Context) error { return u.Keys.Delete(ctx, u.request.User, v.keyID) })
	if err != nil {
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

// giveUp says why the new key must not be published. It is deleted next.
func (u *run) giveUp(at Step, format string, args ...any) {
	u.made.gaveUpAt, u.made.givenUp = at, fmt.Sprintf(format, args...)
}

// restart closes the record and looks afresh, as if no rotation had begun.
func (u *run) restart(ctx context.Context, _ observed, v verdict) (verdict, error) {
	ended := u.record
	u.made, u.ended = madeKey{}, &ended
	u.seen.forgetAllBut(u.seen.user)
	return verdict{}, u.save(ctx, func(r *Record) {
		*r = Record{User: r.User, UniqueID: r.UniqueID, Version: r.Version, Lease: r.Lease, Request: r.Request, Phase: PhaseIdle, LastError: v.reason}
	})
}

// finish closes the rotation: the record is idle, the history has one line more.
func (u *run) finish(ctx context.Context, o observed, _ verdict) (verdict, error) {
	cutShort := u.loaded.Phase == PhaseSoaking && u.request.Force
	ended := u.record
	err := u.save(ctx, func(r *Record) {
		*r = Record{User: r.User, UniqueID: r.UniqueID, Version: r.Version, Lease: r.Lease, Request: r.Request, Phase: PhaseIdle}
		r.Lease.Until = time.Time{}
	})
	if err != nil {
		return verdict{}, err
	}
	v := answer(StatusRotated, "%s", ended.Reason)
	v.nextDue = dueAt(u.request, newKey(o, ended))
	result := u.resultOf(ended, v)
	if err := u.Journal.Append(ctx, Entry{User: ended.User, StartedAt: ended.StartedAt, Result: result}); err != nil {
		u.warn("the history lacks this rotation: %v", err)
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
