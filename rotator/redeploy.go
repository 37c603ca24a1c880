package rotator

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// mark notes, after publishing and before a redeploy is asked for, which pipelines
// and jobs are older. A crash after it leaves a pair that is published and not deployed.
//
// A job that began before publishing may deploy the old key again after ours has
// deployed the new one: as long as one runs, no redeploy is asked for.
func (u *run) mark(ctx context.Context, o observed, _ verdict) (verdict, error) {
	u.record.FellBack = false // what is live now may be one that can be deployed again
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
		r.Phase, r.PublishedAt, r.Marked = PhasePublished, d.PublishedAt, len(holders) == 0
		r.Mark, r.JobMark = d.After.Pipeline, d.After.Job
		if r.Marked {
			r.Attempts = append(recentAttempts(r.Attempts, o.now), o.now.UTC())
		}
	})
	u.made = madeKey{} // its secret is where it belongs; nothing here needs it any more
	u.seen.deployed, u.seen.holders = &Deployment{}, &holders
	return verdict{}, err
}

// startRedeploy starts the redeploy. A crash here leaves maybe a pipeline or a job; the
// next run finds it above the mark. So does this one, once, when the reply is lost.
func (u *run) startRedeploy(ctx context.Context, _ observed, _ verdict) (verdict, error) {
	began := time.Now()
	var d Deployment
	err := u.write(ctx, func(ctx context.Context) (err error) {
		d, err = u.Redeployer.Start(ctx, u.redeploy())
		return err
	})
	if cannot := (*CannotRedeployError)(nil); errors.As(err, &cannot) && u.request.Fallback == RedeployPipeline {
		return u.fallBack(ctx, cannot.Why)
	}
	if err != nil && !errors.Is(err, ErrRefused) {
		if found, lookErr := u.Redeployer.Check(ctx, u.redeploy()); lookErr == nil && found.State != DeploymentNone {
			d, err = found, nil
		}
	}
	if err != nil {
		return u.redeployFailed(ctx, u.record.Deployment, err)
	}
	u.done(StepRedeploy, began)
	u.said = d.Name() + " on " + u.record.Ref
	if d.Kind == KindDeployment {
		u.said = fmt.Sprintf("%s in %s", d.Name(), u.request.Environment)
	}
	u.seen.deployed = &d
	return verdict{}, u.save(ctx, func(r *Record) { r.Phase, r.Deployment = PhaseRedeploying, d })
}

// fallBack lets this attempt be a pipeline, as the request allows. A crash after it
// leaves that intent; the next run starts the pipeline.
func (u *run) fallBack(ctx context.Context, why string) (verdict, error) {
	u.said = insteadOf(why, u.record.Ref)
	return verdict{}, u.save(ctx, func(r *Record) {
		r.FellBack = true
		if !slices.Contains(r.Warnings, u.said) {
			r.Warnings = append(slices.Clone(r.Warnings), u.said)
		}
	})
}

// insteadOf says that a pipeline deploys, and what that is not.
func insteadOf(why, ref string) string {
	return fmt.Sprintf("%s: a pipeline on %s is run instead, which deploys what is there now", why, ref)
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
		if u.sinceRedeploy(o) {
			u.done(StepAwait, u.since)
		}
		at := d.FinishedAt
		if at.Before(o.record.PublishedAt) {
			at = o.record.PublishedAt
		}
		// Not worth a save of its own: GitLab tells it again, and a run that ends here,
		// waiting or held, saves it with its lease.
		r := &u.record
		r.Phase, r.Deployment, r.DeployedAt, r.RetiringSince, r.LastError = PhaseRetiring, d, at, o.now.UTC(), ""
		u.seen.forgetAllBut(u.seen.user)
		return verdict{}, nil
	case d.State == DeploymentFailed:
		u.sinceRedeploy(o)
		return u.redeployFailed(ctx, d, errors.New(v.reason))
	case d.State == DeploymentNone:
		u.seen.deployed = nil
		return verdict{}, u.save(ctx, func(r *Record) { r.Phase, r.Marked = PhasePublished, false })
	}
	// It runs, and was found again after a lost reply.
	return verdict{}, u.save(ctx, func(r *Record) { r.Phase, r.Deployment = PhaseRedeploying, d })
}

// sinceRedeploy lets the step under way have begun when the last one ended, maybe in
// an earlier run: a deployment takes as long as it takes, not as long as the last look
// at it. It tells whether there was one to wait for.
func (u *run) sinceRedeploy(o observed) bool {
	n := len(o.record.Steps)
	if o.deployed.Kind == "" || n == 0 {
		return false
	}
	last := o.record.Steps[n-1]
	u.since = last.At.Add(time.Duration(last.MS) * time.Millisecond)
	return true
}

// poll waits a little for a deployment that runs, and lets it be looked at again.
func (u *run) poll(ctx context.Context, o observed, v verdict) {
	u.watch(Progress{Step: StepAwait, State: StepWaiting, Detail: v.reason, URL: o.deployed.URL})
	u.seen.deployed = nil
	sleep(ctx, min(u.Pace.PollInterval, time.Until(u.stop)))
}
