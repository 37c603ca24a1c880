package gitlab

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	gitlab "gitlab.com/gitlab-org/api/client-go/v2"

	"credential-rotator/rotator"
)

// inEnvironment looks for a deployment to the environment that began after
// publishing. One that succeeded serves, whoever made it. Without one, a pipeline
// that succeeded has not deployed: d says what it did.
func (c *Client) inEnvironment(ctx context.Context, r rotator.Redeploy, d rotator.Deployment) (rotator.Deployment, error) {
	list, err := c.deploymentsTo(ctx, r)
	if err != nil {
		return rotator.Deployment{}, err
	}
	ours, err := c.familyOf(ctx, r, list, d.State == rotator.DeploymentSucceeded)
	if err != nil {
		return rotator.Deployment{}, err
	}
	dep, err := c.firstServing(ctx, r, list, ours)
	switch {
	case err != nil:
		return rotator.Deployment{}, err
	case dep != nil:
		return serving(r, dep, ours, d), nil
	case d.State == rotator.DeploymentSucceeded:
		return undeployed(r, list, ours, d), nil
	}
	return d, nil
}

// deploymentsTo lists the deployments to the environment, the newest first, of any
// status. A hundred are more than can follow one publishing and still matter.
func (c *Client) deploymentsTo(ctx context.Context, r rotator.Redeploy) ([]*gitlab.Deployment, error) {
	list, resp, err := c.api.Deployments.ListProjectDeployments(r.ProjectID, &gitlab.ListProjectDeploymentsOptions{
		ListOptions: gitlab.ListOptions{PerPage: 100},
		Environment: new(r.Environment),
		OrderBy:     new("id"), Sort: new("desc"),
	}, gitlab.WithContext(ctx))
	if err != nil {
		return nil, c.explain(resp, err)
	}
	return list, nil
}

// firstServing is the deployment that brought the pair: our own, or else the newest;
// nil when there is none. One that an older job's has outlasted brought nothing that is
// still live: that job had the previous pair.
func (c *Client) firstServing(ctx context.Context, r rotator.Redeploy, list []*gitlab.Deployment, ours family) (*gitlab.Deployment, error) {
	var own, others []*gitlab.Deployment
	var older time.Time
	for _, dep := range list {
		if dep == nil || dep.Status != "success" {
			continue
		}
		after, err := c.beganAfter(ctx, r, dep, ours)
		switch {
		case err != nil:
			return nil, err
		case !after && finished(dep).After(older):
			older = finished(dep)
		case after && ours.has(dep):
			own = append(own, dep)
		case after && !r.Own:
			others = append(others, dep)
		}
	}
	lost := func(dep *gitlab.Deployment) bool { return finished(dep).Before(older) }
	for _, dep := range own {
		if !lost(dep) && (r.Live || !isPart(list, ours)) {
			return dep, nil
		}
	}
	const most = 5 // that are looked into, in a few calls each: the next run looks at what is newest then
	for _, dep := range others[:min(most, len(others))] {
		if lost(dep) {
			continue
		}
		if whole, err := c.isWhole(ctx, r, list, dep); err != nil || whole {
			return dep, err
		}
	}
	return nil, nil
}

// finished is when a deployment succeeded.
func finished(dep *gitlab.Deployment) time.Time {
	return firstTime(dep.Deployable.FinishedAt, dep.UpdatedAt, dep.CreatedAt)
}

// beganAfter tells whether a deployment's job began after publishing, and so got
// the new pair: by time, or by order when the seconds that were rounded hide it.
func (c *Client) beganAfter(ctx context.Context, r rotator.Redeploy, dep *gitlab.Deployment, ours family) (bool, error) {
	if dep.Deployable.ID == 0 { // made through the API, without a job
		return dep.CreatedAt != nil && !dep.CreatedAt.Before(r.PublishedAt), nil
	}
	if r.Live && ours.has(dep) && r.After.Job > 0 && r.ID > r.After.Job {
		return true, nil // it was retried after the mark
	}
	if !r.Live && ours.has(dep) && r.ID > r.After.Pipeline {
		return true, nil // its pipeline was made after the mark, or by one that was
	}
	if at := dep.Deployable.StartedAt; at != nil && !at.Before(r.PublishedAt) {
		return true, nil
	}
	return c.isLater(ctx, r, dep.Deployable.Pipeline.ID)
}

// isLater tells whether a pipeline was made after publishing: it is above the mark,
// and none of the child pipelines, which the mark does not count. The ones above
// the mark that are not ours cost one call.
func (c *Client) isLater(ctx context.Context, r rotator.Redeploy, pipeline int64) (bool, error) {
	if ours := !r.Live && pipeline == r.ID; pipeline <= r.After.Pipeline || ours {
		return pipeline > r.After.Pipeline, nil
	}
	p, resp, err := c.api.Pipelines.GetPipeline(r.ProjectID, pipeline, gitlab.WithContext(ctx))
	if err != nil {
		why := c.explain(resp, err)
		if why.notFound() {
			return false, nil
		}
		return false, why
	}
	return p != nil && p.Source != "" && p.Source != "parent_pipeline", nil
}

// serving is the deployment that brought the pair, as that of our own pipeline or job
// when it is.
func serving(r rotator.Redeploy, dep *gitlab.Deployment, ours family, own rotator.Deployment) rotator.Deployment {
	d := rotator.Deployment{
		Kind: kindDeployment, ID: dep.ID, URL: jobURL(dep.Deployable),
		Status: dep.Status, State: rotator.DeploymentSucceeded,
		FinishedAt: finished(dep),
	}
	if dep.Deployable.ID != 0 {
		d.ID = dep.Deployable.ID
	}
	if !ours.has(dep) {
		d.Detail = fmt.Sprintf("deployment %d to %s began after publishing", dep.ID, r.Environment)
		return d
	}
	d.Kind, d.ID, d.URL = own.Kind, own.ID, own.URL
	if own.State != rotator.DeploymentSucceeded && !r.Live {
		d.Detail = fmt.Sprintf("its deployment %d to %s succeeded, though the pipeline is %s", dep.ID, r.Environment, own.Status)
	}
	return d
}

// jobURL is where a person finds the job of a deployment: client-go does not tell, so
// it is put together from the pipeline's, .../-/pipelines/61.
func jobURL(d gitlab.DeploymentDeployable) string {
	base, _, found := strings.Cut(d.Pipeline.WebURL, "/-/pipelines/")
	if !found {
		return d.Pipeline.WebURL
	}
	return fmt.Sprintf("%s/-/jobs/%d", base, d.ID)
}

// undeployed is a pipeline that succeeded without a deployment that did. Its own that
// is still to come, or waits for somebody, is waited for; of others', one that runs.
func undeployed(r rotator.Redeploy, list []*gitlab.Deployment, ours family, d rotator.Deployment) rotator.Deployment {
	waited := func(s rotator.DeploymentState, detail string, args ...any) rotator.Deployment {
		d.State, d.FinishedAt, d.Detail = s, time.Time{}, fmt.Sprintf("pipeline %d succeeded", d.ID)+fmt.Sprintf(detail, args...)
		return d
	}
	failed := waited(rotator.DeploymentFailed, " but made no deployment to %s", r.Environment)
	for _, dep := range slices.Backward(list) {
		if dep == nil || !isNew(r, dep) {
			continue
		}
		switch s, its := pending(dep), ours.has(dep); {
		case dep.Status == string(gitlab.Success):
		case its && s == rotator.DeploymentNone:
			failed = waited(rotator.DeploymentFailed, ", but its job %s, which deploys to %s, is %s", dep.Deployable.Name, r.Environment, dep.Deployable.Status)
		case its:
			return waited(s, ", its deployment %d to %s is %s", dep.ID, r.Environment, dep.Status)
		case s == rotator.DeploymentRunning && !r.Own:
			return waited(s, " but made no deployment to %s; deployment %d there is %s", r.Environment, dep.ID, dep.Status)
		}
	}
	return failed
}

// isNew tells, well enough for one that is only waited for, whether a deployment
// was made after publishing.
func isNew(r rotator.Redeploy, dep *gitlab.Deployment) bool {
	return dep.Deployable.Pipeline.ID > r.After.Pipeline || dep.CreatedAt != nil && !dep.CreatedAt.Before(r.PublishedAt)
}

// pending is what becomes of a deployment that has not ended: DeploymentNone when
// it has, or when its job has without it.
func pending(dep *gitlab.Deployment) rotator.DeploymentState {
	switch dep.Status {
	case "blocked":
		return rotator.DeploymentBlocked
	case "created", "running":
		if dep.Deployable.ID == 0 {
			return rotator.DeploymentRunning
		}
		switch s := state(dep.Deployable.Status); s {
		case rotator.DeploymentFailed:
			return rotator.DeploymentNone
		case rotator.DeploymentSucceeded: // the deployment follows its job
			return rotator.DeploymentRunning
		default:
			return s
		}
	}
	return rotator.DeploymentNone
}
