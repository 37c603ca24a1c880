package gitlab

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	gitlab "gitlab.com/gitlab-org/api/client-go/v2"

	"credential-rotator/rotator"
)

// live is what is to be deployed again.
type live struct {
	ref string
	// job is the one that may be retried: that of the deployment, or the newest retry of
	// it, for GitLab retries a job once only.
	job *gitlab.Job
	// why nothing can be deployed again, in words; "" when job can.
	why    string
	commit string // what is live, "" when that is not known
	// others are jobs of other names that deployed to the environment lately.
	others []string
}

// lookAtLive finds what is live in the environment, in four calls: the environment, its
// last successful deployment, and the jobs and the variables of that one's pipeline.
func (c *Client) lookAtLive(ctx context.Context, r rotator.Redeploy) (live, error) {
	project, environment := r.ProjectID, r.Environment
	why, err := c.whyNotAvailable(ctx, project, environment)
	if err != nil || why != "" {
		return live{why: why}, err
	}
	list, err := c.successes(ctx, project, environment)
	if err != nil {
		return live{}, err
	}
	dep := lastOf(list)
	switch {
	case dep == nil:
		return live{why: fmt.Sprintf("nothing has been deployed to %s yet, so there is nothing to deploy again: deploy it once", environment)}, nil
	case dep.Deployable.ID == 0:
		return live{ref: dep.Ref, commit: dep.SHA, why: fmt.Sprintf("what is live in %s (deployment %d) has no job to retry: it was made through the API, or the job was deleted", environment, dep.ID)}, nil
	}
	beside, others := otherJobs(list, dep)
	if len(beside) > 0 {
		return live{ref: dep.Ref, commit: dep.SHA, why: fmt.Sprintf("what is live in %s was deployed by several jobs of pipeline %d (%s and %s, %s), and retrying one leaves the others with the old key: deploy all with one job, or to environments of their own",
			environment, dep.Deployable.Pipeline.ID, dep.Deployable.Name, strings.Join(beside, ", "), dep.Deployable.Pipeline.WebURL)}, nil
	}
	job, err := c.newestOf(ctx, project, dep.Deployable)
	if err != nil {
		return live{}, err
	}
	found := live{ref: dep.Ref, commit: dep.SHA, job: job, others: others}
	if job == nil {
		found.why = fmt.Sprintf("what is live in %s was deployed by %s of pipeline %d (%s), which triggers another pipeline or is gone: it cannot be retried", environment, dep.Deployable.Name, dep.Deployable.Pipeline.ID, dep.Deployable.Pipeline.WebURL)
		return found, nil
	}
	own, err := c.ownVariable(ctx, r, dep.Deployable.Pipeline.ID)
	if own != "" {
		found.job, found.why = nil, fmt.Sprintf("what is live in %s was deployed by pipeline %d (%s), which was given %s when it was started: its jobs keep that, and would deploy the old key again; deploy once by a pipeline without it",
			environment, dep.Deployable.Pipeline.ID, dep.Deployable.Pipeline.WebURL, own)
	}
	return found, err
}

// ownVariable is the name of one of the pair that a pipeline was given, by a person, a
// trigger or the job that made it its child, "" for none, or when the token's user may not
// read that. It outranks the project's, in a retried job as well (GitLab
// lib/gitlab/ci/variables/builder.rb).
func (c *Client) ownVariable(ctx context.Context, r rotator.Redeploy, pipeline int64) (string, error) {
	own, resp, err := c.api.Pipelines.GetPipelineVariables(r.ProjectID, pipeline, gitlab.WithContext(ctx))
	if err != nil {
		why := c.explain(resp, err)
		if why.untold() {
			return "", nil
		}
		return "", why
	}
	for _, v := range own {
		if v != nil && v.Key != "" && slices.Contains(r.Variables[:], v.Key) {
			return v.Key, nil
		}
	}
	return "", nil
}

// whyNotAvailable says why nothing may be deployed to an environment, "" when it may.
// A job that deploys to one that was stopped would start it again.
func (c *Client) whyNotAvailable(ctx context.Context, project int64, environment string) (string, error) {
	list, resp, err := c.api.Environments.ListEnvironments(project, &gitlab.ListEnvironmentsOptions{Name: new(environment)}, gitlab.WithContext(ctx))
	if err != nil {
		return "", c.explain(resp, err)
	}
	for _, e := range list {
		switch {
		case e == nil || e.Name != environment:
		case e.State == "stopped" || e.State == "stopping":
			return fmt.Sprintf("environment %s is %s, and a job that deploys to it would start it again: start it, or stop rotating for it", environment, e.State), nil
		default:
			return "", nil
		}
	}
	return fmt.Sprintf("project %d has no environment %q: correct environment", project, environment), nil
}

// successes are the newest deployments that succeeded: enough to see what else deploys
// to the environment.
func (c *Client) successes(ctx context.Context, project int64, environment string) ([]*gitlab.Deployment, error) {
	list, resp, err := c.api.Deployments.ListProjectDeployments(project, &gitlab.ListProjectDeploymentsOptions{
		ListOptions: gitlab.ListOptions{PerPage: 20},
		Environment: new(environment), Status: new("success"),
		OrderBy: new("id"), Sort: new("desc"),
	}, gitlab.WithContext(ctx))
	if err != nil {
		return nil, c.explain(resp, err)
	}
	return slices.DeleteFunc(list, func(dep *gitlab.Deployment) bool { return dep == nil || dep.Status != "success" }), nil
}

// lastOf is the deployment that was the last to succeed, nil without one. Of the newest
// by id an older one may have ended later.
func lastOf(list []*gitlab.Deployment) *gitlab.Deployment {
	var last *gitlab.Deployment
	for _, dep := range list {
		if last == nil || finished(dep).After(finished(last)) {
			last = dep
		}
	}
	return last
}

// otherJobs are the jobs of other names than the live one's that deployed to the
// environment: those of its own pipeline, and those of others.
func otherJobs(list []*gitlab.Deployment, live *gitlab.Deployment) (beside, others []string) {
	for _, dep := range list {
		name := dep.Deployable.Name
		switch {
		case dep.Deployable.ID == 0 || name == live.Deployable.Name:
		case dep.Deployable.Pipeline.ID == live.Deployable.Pipeline.ID && !slices.Contains(beside, name):
			beside = append(beside, name)
		case !slices.Contains(others, name):
			others = append(others, name)
		}
	}
	return beside, others
}

// newestOf is the job that stands now where a deployment's was: itself, or the newest
// retry of it. GitLab lists no job that was retried, and no bridge: nil for one.
func (c *Client) newestOf(ctx context.Context, project int64, of gitlab.DeploymentDeployable) (*gitlab.Job, error) {
	const most = 20 // pages: a pipeline of two thousand jobs
	jobs, resp, err := pages(most, func(page gitlab.PaginationOptionFunc) ([]*gitlab.Job, *gitlab.Response, error) {
		return c.api.Jobs.ListPipelineJobs(project, of.Pipeline.ID, &gitlab.ListJobsOptions{ListOptions: gitlab.ListOptions{PerPage: 100}}, gitlab.WithContext(ctx), page)
	})
	if err != nil {
		if why := c.explain(resp, err); !why.notFound() {
			return nil, why
		}
		return nil, nil // the pipeline is gone
	}
	var newest *gitlab.Job
	for _, j := range jobs {
		if j.Name == of.Name && (newest == nil || j.ID > newest.ID) {
			newest = j
		}
	}
	return newest, nil
}

// startLive retries the job of what is live, in five calls. When somebody has retried
// it and that still runs, that will bring the new pair too, and is what is waited for.
func (c *Client) startLive(ctx context.Context, r rotator.Redeploy) (rotator.Deployment, error) {
	d, err := c.retryLive(ctx, r)
	if err != nil {
		return rotator.Deployment{}, fmt.Errorf("deploying again what is live in %s of project %d: %w", r.Environment, r.ProjectID, err)
	}
	return d, nil
}

func (c *Client) retryLive(ctx context.Context, r rotator.Redeploy) (rotator.Deployment, error) {
	found, err := c.lookAtLive(ctx, r)
	switch {
	case err != nil:
		return rotator.Deployment{}, err
	case found.why != "":
		return rotator.Deployment{}, &rotator.CannotRedeployError{Why: found.why, Commit: found.commit}
	case !isOverJob(found.job):
		return jobDeployment(found.job), nil
	case isTooLate(ctx):
		return rotator.Deployment{}, context.DeadlineExceeded
	}
	retried, resp, err := c.api.Jobs.RetryJob(r.ProjectID, found.job.ID, gitlab.WithContext(ctx))
	if err != nil {
		return c.unretried(ctx, r, found.job, c.explain(resp, err))
	}
	if retried == nil || retried.ID <= found.job.ID {
		return rotator.Deployment{}, errors.New("the reply names no new job")
	}
	return jobDeployment(retried), nil
}

// isTooLate tells whether the time for a write ended during the reads before it: by the
// wall as well, for the clock that ends a context stops while a machine sleeps.
func isTooLate(ctx context.Context) bool {
	deadline, bounded := ctx.Deadline()
	return isOver(ctx) || bounded && time.Now().Round(0).After(deadline.Round(0))
}

// notRetryable is GitLab's reason for a job that was retried already, is archived, or
// whose deployment was rejected (app/models/ci/processable.rb, retryable?).
const notRetryable = "403 Forbidden - Job is not retryable"

// unretried says why a job was not retried. Somebody may just have been faster: then
// that one is waited for.
func (c *Client) unretried(ctx context.Context, r rotator.Redeploy, job *gitlab.Job, why *problem) (rotator.Deployment, error) {
	switch {
	case why.status != http.StatusForbidden || why.foreign:
		return rotator.Deployment{}, refusal(why)
	case why.said == "403 Forbidden":
		why.text = fmt.Sprintf("GitLab does not let the token's user retry job %s (%s): let it deploy to %s if that is a protected environment, and push or merge to %s; nor may the job of an outdated deployment be retried where the project prevents that", job.Name, job.WebURL, r.Environment, job.Ref)
		return rotator.Deployment{}, refusal(why)
	case why.said != notRetryable:
		return rotator.Deployment{}, refusal(why)
	}
	now, err := c.lookAtLive(ctx, r)
	switch {
	case err != nil:
		return rotator.Deployment{}, err
	case now.job == nil, now.job.ID == job.ID:
		return rotator.Deployment{}, &rotator.CannotRedeployError{Commit: now.commit, Why: fmt.Sprintf("job %s (%s) cannot be retried: it is archived, which GitLab.com does after three months, or its deployment was rejected; deploy to %s once by a pipeline", job.Name, job.WebURL, r.Environment)}
	case !isOverJob(now.job):
		return jobDeployment(now.job), nil
	}
	return rotator.Deployment{}, refusal(why)
}

// isOverJob tells whether a job has ended. One that is being cancelled has not.
func isOverJob(j *gitlab.Job) bool {
	s := state(j.Status)
	return s == rotator.DeploymentSucceeded || s == rotator.DeploymentFailed
}

// jobDeployment is a retried job as a deployment, as far as its status tells.
func jobDeployment(j *gitlab.Job) rotator.Deployment {
	d := rotator.Deployment{Kind: kindDeployment, ID: j.ID, URL: j.WebURL, Status: j.Status, State: state(j.Status)}
	switch d.State {
	case rotator.DeploymentSucceeded:
		d.FinishedAt = firstTime(j.FinishedAt)
	case rotator.DeploymentFailed:
		if said := failure(j.FailureReason); said != "" {
			d.Detail = fmt.Sprintf("job %s is %s: %s (%s)", j.Name, j.Status, said, j.WebURL)
		}
	case rotator.DeploymentRunning:
		if j.Status == string(gitlab.WaitingForResource) {
			d.Detail = "it waits for its resource group, which another job holds"
		}
	}
	return d
}

// failure is what to do about GitLab's reasons for a job that failed before its script
// did (app/models/concerns/enums/ci/commit_status.rb). Nothing rests on the words.
func failure(reason string) string {
	switch reason {
	case "missing_dependency_failure":
		return "the artifacts that it needs have expired or were deleted; deploy once by a pipeline, and keep them longer than a key lives"
	case "forward_deployment_failure", "failed_outdated_deployment_job":
		return "a newer deployment has overtaken it, and the project prevents outdated deployments; the next try deploys that one again"
	case "protected_environment_failure":
		return "the token's user may not deploy to this protected environment; let it"
	case "deployment_rejected":
		return "somebody rejected the deployment"
	case "archived_failure":
		return "it is archived; deploy once by a pipeline"
	case "stuck_or_timeout_failure", "no_matching_runner":
		return "no runner took it, or it timed out"
	case "user_blocked":
		return "the token's user is blocked"
	}
	return ""
}

// checkLive tells what has become of a retried job: one call while it runs, and one
// more for the deployments when it does not. Without an id it looks for the job that a
// lost reply made, in four calls more, and one again for one that has succeeded.
func (c *Client) checkLive(ctx context.Context, r rotator.Redeploy) (rotator.Deployment, error) {
	d, err := c.retriedJob(ctx, r)
	if err != nil || d.State == rotator.DeploymentRunning {
		return d, err
	}
	r.ID = d.ID
	if d, err = c.broughtBy(ctx, r, d); err != nil || d.State != rotator.DeploymentNone || r.ID != 0 {
		return d, err
	}
	return c.lostRetry(ctx, r)
}

// broughtBy looks at the deployments for what a job that does not run any more, d, has
// brought, or somebody else's.
func (c *Client) broughtBy(ctx context.Context, r rotator.Redeploy, d rotator.Deployment) (rotator.Deployment, error) {
	list, err := c.deploymentsTo(ctx, r)
	if err != nil {
		return rotator.Deployment{}, err
	}
	ours := family{live: true, ids: []int64{d.ID}}
	dep, err := c.firstServing(ctx, r, list, ours)
	switch {
	case err != nil:
		return rotator.Deployment{}, err
	case dep != nil:
		return serving(r, dep, ours, d), nil
	}
	return undeployedJob(r, list, d), nil
}

// retriedJob is the job by its id: DeploymentNone when that is not known, or is of no
// job any more.
func (c *Client) retriedJob(ctx context.Context, r rotator.Redeploy) (rotator.Deployment, error) {
	if r.ID == 0 {
		return rotator.Deployment{}, nil
	}
	j, resp, err := c.api.Jobs.GetJob(r.ProjectID, r.ID, gitlab.WithContext(ctx))
	if err != nil {
		why := c.explain(resp, err)
		if why.notFound() {
			return rotator.Deployment{}, nil
		}
		return rotator.Deployment{}, why
	}
	if j == nil || j.ID != r.ID {
		return rotator.Deployment{}, fmt.Errorf("GitLab answered with another job than %d", r.ID)
	}
	return jobDeployment(j), nil
}

// lostRetry finds the job that a lost reply made: the one that stands now where that
// of what is live was, if it came after the mark. Order tells, not clocks; and if it was
// somebody else who retried it, then that is the retry there is.
func (c *Client) lostRetry(ctx context.Context, r rotator.Redeploy) (rotator.Deployment, error) {
	found, err := c.lookAtLive(ctx, r)
	if err != nil || found.job == nil || r.After.Job == 0 || found.job.ID <= r.After.Job {
		return rotator.Deployment{}, err
	}
	d := jobDeployment(found.job)
	if d.State != rotator.DeploymentSucceeded {
		return d, nil
	}
	r.ID = d.ID // it has ended since the deployments were read, or has deployed nothing
	return c.broughtBy(ctx, r, d)
}

// undeployedJob is a job that did not bring what is live. A deployment that follows its
// job, or waits for somebody, is waited for; so is the next try of a job that failed,
// which somebody has asked for, or the job itself (retry: in its definition).
func undeployedJob(r rotator.Redeploy, list []*gitlab.Deployment, d rotator.Deployment) rotator.Deployment {
	var its *gitlab.Deployment
	for _, dep := range list {
		if dep != nil && dep.Deployable.ID == d.ID && d.ID != 0 {
			its = dep
		}
	}
	if next := nextTry(list, its); next != nil && d.State == rotator.DeploymentFailed {
		return rotator.Deployment{
			Kind: kindDeployment, ID: next.Deployable.ID, URL: jobURL(next.Deployable), Status: next.Deployable.Status, State: pending(next),
			Detail: fmt.Sprintf("it is the next try of job %d, which is %s", d.ID, d.Status),
		}
	}
	switch {
	case d.State == rotator.DeploymentBlocked && its != nil && its.Status == "blocked":
		d.Detail = fmt.Sprintf("its deployment to %s has to be approved (%s)", r.Environment, d.URL)
	case d.State == rotator.DeploymentBlocked:
		d.Detail = "start it: " + d.URL
	case d.State != rotator.DeploymentSucceeded:
	case its != nil && pending(its) == rotator.DeploymentRunning:
		d.State, d.FinishedAt = rotator.DeploymentRunning, time.Time{}
	default:
		d.State, d.FinishedAt = rotator.DeploymentFailed, time.Time{}
		d.Detail = fmt.Sprintf("job %d succeeded, but what is live in %s is not what it deployed (%s)", d.ID, r.Environment, d.URL)
	}
	return d
}

// nextTry is the deployment of a retry of a deployment's job that has not ended, nil
// without one.
func nextTry(list []*gitlab.Deployment, its *gitlab.Deployment) *gitlab.Deployment {
	for _, dep := range list {
		if its != nil && dep != nil && dep.Deployable.ID > its.Deployable.ID && dep.Deployable.Name == its.Deployable.Name &&
			dep.Deployable.Pipeline.ID == its.Deployable.Pipeline.ID && pending(dep) != rotator.DeploymentNone {
			return dep
		}
	}
	return nil
}
