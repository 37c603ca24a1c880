package sandbox

import (
	"net/http"
	"slices"
	"time"
)

// retryJob makes a job anew in its pipeline: its commit, its definition, and the
// variables of when a runner takes it (GitLab app/services/ci/retry_job_service.rb,
// clone_job_service.rb; lib/api/ci/jobs.rb).
func (w *World) retryJob(p *project, t *token, j *job) (*job, error) {
	switch {
	case !w.mayRetry(p, t, j):
		return nil, message(http.StatusForbidden, "403 Forbidden")
	case j.retried, j.archived, !slices.Contains([]string{"success", "failed", "canceled"}, j.status):
		return nil, message(http.StatusForbidden, "403 Forbidden - Job is not retryable")
	}
	pl := j.pipeline
	j.retried = true
	next := w.newJob(pl, j.JobSpec)
	next.by, next.decided = origin{pl.source, t.Username, t.userID}, p.nextOutcome()
	for _, later := range pl.current() { // ResetSkippedJobsService
		if later.status == "skipped" {
			later.status = "created"
		}
	}
	w.release(next, next.decided == Skipped) // a manual one is started: the retry is somebody's word
	pl.status, pl.finished = "created", time.Time{}
	w.setStatus(pl, pl.worked())
	if next.decided == Canceled {
		w.after(w.opts.JobPickUp+next.Duration/2, func() { w.cancelPipeline(pl) })
	}
	return next, nil
}

// mayRetry: a Developer, who may run pipelines on a protected ref and deploy to a
// protected environment (GitLab app/policies/ci/build_policy.rb, ee deployable_policy.rb).
// Nobody may touch the job of an outdated deployment (app/policies/ci/deployable_policy.rb).
func (w *World) mayRetry(p *project, t *token, j *job) bool {
	role := t.roleIn(p)
	guarded := slices.Contains(p.Guarded, j.Environment) && !t.Person
	return !p.Archived && role >= Developer && (role >= Maintainer || !j.pipeline.ref.Protected) && !guarded && !w.outdated(p, j)
}

// outdated follows has_outdated_deployment? of GitLab
// app/models/concerns/ci/deployable.rb: the last successful deployment and those of its
// commit never are. Where nobody named a commit, a pipeline stands for one.
func (w *World) outdated(p *project, j *job) bool {
	d := w.deploymentOf(j)
	if d == nil || over(j.status) && !p.NoRollback {
		return false
	}
	last := w.live(p, j.Environment, w.seq+1)
	return last != nil && d.id < last.id && !j.pipeline.sameCommit(last.job.pipeline)
}

func (p *pipeline) sameCommit(other *pipeline) bool {
	return p == other || p.ref.SHA != "" && p.sha == other.sha
}

// live is the deployment that was the last to succeed in an environment, as it was at
// some point of World.seq.
func (w *World) live(p *project, environment string, seq int) *deployment {
	var last *deployment
	for _, d := range w.deployments {
		known := d.job.pipeline.project == p && d.environment.name == environment && d.lived > 0 && d.lived <= seq
		if known && d.status() == "success" && (last == nil || !d.job.finished.Before(last.job.finished)) {
			last = d
		}
	}
	return last
}

// newest is the job that stands now where one was: itself, or the latest retry of it.
// It is nil for a bridge, which the API does not list.
func (w *World) newest(of *job) *job {
	for _, j := range slices.Backward(of.pipeline.jobs) {
		if j.Name == of.Name && !j.retried && !j.Bridge {
			return j
		}
	}
	return nil
}

// looksAtLive notes that a process sees what is live now.
func (p *process) looksAtLive(project *project, environment string) {
	if p.sawLive == nil {
		p.sawLive = map[string]int{}
	}
	p.sawLive[id(project.ID)+" "+environment] = p.w.seq
}

// judgeRetry: what is deployed again is what is live, as far as the process could see:
// a rotation brings a new key, and no other version of the service.
func (w *World) judgeRetry(p *process, j *job) {
	project := j.pipeline.project
	saw := p.sawLive[id(project.ID)+" "+j.Environment]
	live := w.live(project, j.Environment, saw)
	if p.judged && (live == nil || live.job.pipeline != j.pipeline || live.job.Name != j.Name) {
		w.violate("%s retried job %d (%s), which was not what is live in %s", p.name, j.id, j.Name, j.Environment)
	}
}
