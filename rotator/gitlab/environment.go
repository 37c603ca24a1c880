package gitlab

import (
	"context"
	"fmt"
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
	dep, err := c.firstServing(ctx, r, list)
	switch {
	case err != nil:
		return rotator.Deployment{}, err
	case dep != nil:
		return serving(r, dep, d), nil
	case d.State == rotator.DeploymentSucceeded:
		return undeployed(r, list, d), nil
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

// isOurs tells whether a deployment is that of the redeploy.
func isOurs(r rotator.Redeploy, dep *gitlab.Deployment) bool {
	if r.Live {
		return r.ID != 0 && dep.Deployable.ID == r.ID
	}
	return r.ID != 0 && dep.Deployable.Pipeline.ID == r.ID
}

// firstServing is the deployment that brought the pair: our own pipeline's or job's, or
// else the newest; nil when there is none. One that an older job's has outlasted brought
// nothing that is still live: that job had the previous pair.
func (c *Client) firstServing(ctx context.Context, r rotator.Redeploy, list []*gitlab.Deployment) (*gitlab.Deployment, error) {
	var ours, others []*gitlab.Deployment
	var older time.Time
	for _, dep := range list {
		if dep == nil || dep.Status != "success" {
			continue
		}
		after, err := c.beganAfter(ctx, r, dep)
		switch {
		case err != nil:
			return nil, err
		case !after && finished(dep).After(older):
			older = finished(dep)
		case after && isOurs(r, dep):
			ours = append(ours, dep)
		case after && began(dep).After(r.Since):
			others = append(others, dep)
		}
	}
	for _, dep := range append(ours, others...) {
		if !finished(dep).Before(older) {
			return dep, nil
		}
	}
	return nil, nil
}

// began is when a deployment's job did.
func began(dep *gitlab.Deployment) time.Time {
	return firstTime(dep.Deployable.StartedAt, dep.CreatedAt)
}

// finished is when a deployment succeeded.
func finished(dep *gitlab.Deployment) time.Time {
	return firstTime(dep.Deployable.FinishedAt, dep.UpdatedAt, dep.CreatedAt)
}

// beganAfter tells whether a deployment's job began after publishing, and so got
// the new pair: by time, or by order when the seconds that were rounded hide it.
func (c *Client) beganAfter(ctx context.Context, r rotator.Redeploy, dep *gitlab.Deployment) (bool, error) {
	if dep.Deployable.ID == 0 { // made through the API, without a job
		return dep.CreatedAt != nil && !dep.CreatedAt.Before(r.PublishedAt), nil
	}
	if r.Live && isOurs(r, dep) && r.After.Job > 0 && r.ID > r.After.Job {
		return true, nil // it was retried after the mark
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
func serving(r rotator.Redeploy, dep *gitlab.Deployment, pipeline rotator.Deployment) rotator.Deployment {
	d := rotator.Deployment{
		Kind: kindDeployment, ID: dep.ID, URL: jobURL(dep.Deployable),
		Status: dep.Status, State: rotator.DeploymentSucceeded,
		FinishedAt: finished(dep),
	}
	if dep.Deployable.ID != 0 {
		d.ID = dep.Deployable.ID
	}
	if r.ID = pipeline.ID; !isOurs(r, dep) {
		d.Detail = fmt.Sprintf("deployment %d to %s began after publishing", dep.ID, r.Environment)
		return d
	}
	d.Kind, d.ID, d.URL = pipeline.Kind, pipeline.ID, pipeline.URL
	if pipeline.State != rotator.DeploymentSucceeded && !r.Live {
		d.Detail = fmt.Sprintf("its deployment %d to %s succeeded, though the pipeline is %s", dep.ID, r.Environment, pipeline.Status)
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

// undeployed is a pipeline that succeeded without a deployment that did. One that
// is still to come, or waits for somebody, is waited for.
func undeployed(r rotator.Redeploy, list []*gitlab.Deployment, d rotator.Deployment) rotator.Deployment {
	for _, dep := range list {
		if dep == nil || !isNew(r, dep) {
			continue
		}
		s := pending(dep)
		if s == rotator.DeploymentNone {
			continue
		}
		d.State, d.FinishedAt = s, time.Time{}
		d.Detail = fmt.Sprintf("pipeline %d succeeded, its deployment %d to %s is %s", d.ID, dep.ID, r.Environment, dep.Status)
		if dep.Deployable.Pipeline.ID != d.ID {
			d.Detail = fmt.Sprintf("pipeline %d succeeded but made no deployment to %s; deployment %d there is %s", d.ID, r.Environment, dep.ID, dep.Status)
		}
		return d
	}
	d.State, d.FinishedAt = rotator.DeploymentFailed, time.Time{}
	d.Detail = fmt.Sprintf("pipeline %d succeeded but made no deployment to %s", d.ID, r.Environment)
	return d
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
