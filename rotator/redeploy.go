package rotator

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
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
		d.PublishedAt = publishedAt(o)
	}
	var holders []Job
	if turnOf(u.request, u.record).Redeploy != RedeployNone {
		var err error
		if d.After, err = u.Redeployer.Mark(ctx, d); err == nil {
			holders, err = u.Redeployer.Holders(ctx, d)
		}
		if err != nil {
			return verdict{}, u.unmarked(ctx, d.PublishedAt, err)
		}
	}
	err := u.save(ctx, func(r *Record) {
		r.Phase, r.PublishedAt, r.Marked, r.Fresh = PhasePublished, d.PublishedAt, len(holders) == 0, false
		r.Mark, r.JobMark = d.After.Pipeline, d.After.Job
		if r.Marked {
			r.Attempts = append(r.RecentAttempts(o.now), o.now.UTC())
		}
	})
	u.made = madeKey{} // its secret is where it belongs; nothing here needs it any more
	u.seen.deployed, u.seen.holders = &Deployment{}, &holders
	return verdict{}, err
}

// unmarked writes down at least that the key is published: whoever deploys now gets it, so
// it must not be taken for one that nobody knows.
func (u *run) unmarked(ctx context.Context, at time.Time, cause error) error {
	if u.record.Phase != PhaseCreated {
		return cause
	}
	err := u.save(ctx, func(r *Record) { r.Phase, r.PublishedAt, r.Fresh = PhasePublished, at, true })
	if err != nil {
		return fmt.Errorf("%w; %w", cause, err)
	}
	return cause
}

// publishedAt is when the last place was seen to be whole.
func publishedAt(o observed) time.Time {
	var last time.Time
	for _, p := range o.published {
		if p.At.After(last) {
			last = p.At
		}
	}
	return last
}

// startRedeploy starts the redeploy. A crash here leaves maybe a pipeline or a job; the
// next run finds it above the mark. So does this one, once, when the reply is lost.
func (u *run) startRedeploy(ctx context.Context, _ observed, _ verdict) (verdict, error) {
	began := time.Now()
	turn := turnOf(u.request, u.record)
	var d Deployment
	err := u.write(ctx, func(ctx context.Context) (err error) {
		d, err = u.Redeployer.Start(ctx, u.redeploy())
		return err
	})
	if cannot := (*CannotRedeployError)(nil); errors.As(err, &cannot) && u.mayFallBack(turn, cannot) {
		return u.fallBack(ctx, turn, cannot)
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
	u.said = d.Name() + " on " + u.record.ref()
	if d.Kind == KindDeployment {
		u.said = fmt.Sprintf("%s in %s", d.Name(), turn.Environment)
	}
	u.seen.deployed = &d
	return verdict{}, u.save(ctx, func(r *Record) { r.Phase, r.Deployment = PhaseRedeploying, d })
}

// mayFallBack tells whether the request allows another way, and it can be gone.
func (u *run) mayFallBack(t Turn, cannot *CannotRedeployError) bool {
	return t.Fallback == RedeployPipeline || t.Fallback == FallbackLiveCommit && cannot.Commit != ""
}

// fallBack lets this attempt be a pipeline, as the request allows. A crash after it
// leaves that intent; the next run starts the pipeline.
func (u *run) fallBack(ctx context.Context, t Turn, cannot *CannotRedeployError) (verdict, error) {
	commit := ""
	if t.Fallback == FallbackLiveCommit {
		commit = cannot.Commit
	}
	return verdict{}, u.save(ctx, func(r *Record) {
		r.FellBack = true
		u.said = insteadOf(cannot.Why, r.ref())
		if commit != "" {
			r.Commit, r.Tag, r.Tagged = commit, TagPrefix+strings.ToLower(r.RotationID)+"-"+commit[:min(8, len(commit))], false
			u.said = atCommit(cannot.Why, commit)
		}
		if !slices.Contains(r.Warnings, u.said) {
			r.Warnings = append(slices.Clone(r.Warnings), u.said)
		}
	})
}

// TagPrefix begins the names of the tags that a live commit is deployed from.
const TagPrefix = "credential-rotator-"

// tag makes the tag that the live commit is deployed from. A crash after it leaves the
// tag; the next run makes it again, which changes nothing.
func (u *run) tag(ctx context.Context, _ observed, _ verdict) (verdict, error) {
	began := time.Now()
	d := u.redeploy()
	err := u.write(ctx, func(ctx context.Context) error { return u.Tagger.Tag(ctx, d.ProjectID, u.record.Tag, u.record.Commit) })
	if err != nil {
		return u.redeployFailed(ctx, u.record.Deployment, err)
	}
	u.done(StepTag, began)
	u.said = u.record.Tag
	return verdict{}, u.save(ctx, func(r *Record) { r.Tagged = true })
}

// untag removes the tag again. That it may not is no reason to keep the old key: a
// warning says what is left. A crash after it leaves a pipeline that is known by its id,
// for by the tag it cannot be found any more.
func (u *run) untag(ctx context.Context, o observed, _ verdict) (verdict, error) {
	began := time.Now()
	d, tag := u.redeploy(), u.record.Tag
	err := u.write(ctx, func(ctx context.Context) error { return u.Tagger.Untag(ctx, d.ProjectID, tag) })
	if err != nil && !errors.Is(err, ErrRefused) {
		return verdict{}, err
	}
	u.done(StepUntag, began)
	u.said = tag
	return verdict{}, u.save(ctx, func(r *Record) {
		r.Tag, r.Commit, r.Tagged = "", "", false
		if r.Marked && o.deployed.State != DeploymentNone {
			r.Phase, r.Deployment = PhaseRedeploying, o.deployed
		}
		if err != nil {
			r.Warnings = append(slices.Clone(r.Warnings), fmt.Sprintf("the tag %s of project %d could not be removed: %v; remove it by hand", tag, d.ProjectID, err))
		}
	})
}

// insteadOf says that a pipeline deploys, and what that is not.
func insteadOf(why, ref string) string {
	return fmt.Sprintf("%s: a pipeline on %s is run instead, which deploys what is there now", why, ref)
}

// atCommit says that a pipeline deploys what is live, and how.
func atCommit(why, commit string) string {
	return fmt.Sprintf("%s: a pipeline at the live commit %.8s is run instead, on a tag that is removed again", why, commit)
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
	case d.State == DeploymentSucceeded || turnOf(u.request, u.record).Redeploy == RedeployNone:
		if u.sinceRedeploy(o) {
			u.done(StepAwait, u.since)
		}
		at := d.FinishedAt
		for _, earlier := range []time.Time{o.record.PublishedAt, o.record.DeployedAt} { // that of the turns before
			if at.Before(earlier) {
				at = earlier
			}
		}
		// Not worth a save of its own: GitLab tells it again, and a run that ends here,
		// waiting or held, saves it with its lease.
		r := &u.record
		if r.Turn+1 < len(u.request.Turns()) {
			r.nextTurn(d)
			r.DeployedAt = at
			u.seen.forgetAllBut(u.seen.user)
			return verdict{}, nil
		}
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
