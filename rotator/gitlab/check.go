package gitlab

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	gitlab "gitlab.com/gitlab-org/api/client-go/v2"

	"credential-rotator/rotator"
)

// Check tells what has become of the redeploy.
//
// Calls: one for the pipeline (when its id is not known, one, and three more if there
// is a candidate); with an Environment, one more unless the pipeline runs, and where
// others have deployed there too, one for each of our pipelines and some about theirs;
// one more for the names of the jobs that failed or wait for somebody.
func (c *Client) Check(ctx context.Context, r rotator.Redeploy) (rotator.Deployment, error) {
	d, err := c.check(ctx, r)
	if err != nil {
		return rotator.Deployment{}, fmt.Errorf("checking the redeploy of project %d: %w", r.ProjectID, err)
	}
	return d, nil
}

func (c *Client) check(ctx context.Context, r rotator.Redeploy) (rotator.Deployment, error) {
	if r.Live {
		return c.checkLive(ctx, r)
	}
	d, err := c.pipeline(ctx, r)
	if err != nil {
		return rotator.Deployment{}, err
	}
	r.ID = d.ID
	if r.Environment != "" && d.State != rotator.DeploymentRunning {
		d, err = c.inEnvironment(ctx, r, d)
		if err != nil {
			return rotator.Deployment{}, err
		}
	}
	if d.Kind == kindPipeline && (d.State == rotator.DeploymentFailed || d.State == rotator.DeploymentBlocked) {
		d.Detail = c.detail(ctx, r, d)
	}
	return d, nil
}

// pipeline finds the pipeline of the redeploy: DeploymentNone when there is none.
func (c *Client) pipeline(ctx context.Context, r rotator.Redeploy) (rotator.Deployment, error) {
	if r.ID == 0 && len(r.Inputs) > 0 {
		return rotator.Deployment{}, nil // GitLab does not tell a pipeline's inputs: another rotation's looks the same
	}
	if r.ID == 0 {
		id, err := c.lostPipeline(ctx, r)
		if err != nil || id == 0 {
			return rotator.Deployment{}, err
		}
		r.ID = id
	}
	p, resp, err := c.api.Pipelines.GetPipeline(r.ProjectID, r.ID, gitlab.WithContext(ctx))
	if err != nil {
		why := c.explain(resp, err)
		if why.notFound() {
			return rotator.Deployment{}, nil
		}
		return rotator.Deployment{}, why
	}
	if p == nil || p.ID != r.ID {
		return rotator.Deployment{}, fmt.Errorf("GitLab answered with another pipeline than %d", r.ID)
	}
	return pipelineDeployment(p), nil
}

// lostPipeline finds the pipeline that a lost reply started: the lowest above the
// mark with source api, the ref, and the token's own user, which nobody else uses.
// 0 when there is none. Order tells, not clocks.
func (c *Client) lostPipeline(ctx context.Context, r rotator.Redeploy) (int64, error) {
	id, err := c.lowestAbove(ctx, r, "")
	if err != nil || id == 0 {
		return 0, err // somebody's, and so perhaps ours, costs two more calls
	}
	user, resp, err := c.api.Users.CurrentUser(gitlab.WithContext(ctx))
	if err != nil {
		return 0, c.explain(resp, err)
	}
	if user == nil || user.Username == "" {
		return 0, errors.New("GitLab does not tell whose the token is")
	}
	return c.lowestAbove(ctx, r, user.Username)
}

// lowestAbove is the lowest pipeline id above the mark of source api on the ref, of
// one user or, for "", of anybody. GitLab lists the newest first, so the pages end
// at the mark.
func (c *Client) lowestAbove(ctx context.Context, r rotator.Redeploy, user string) (int64, error) {
	opt := &gitlab.ListProjectPipelinesOptions{
		ListOptions: gitlab.ListOptions{PerPage: 100},
		Source:      new("api"), Ref: new(r.Ref),
		OrderBy: new("id"), Sort: new("desc"),
	}
	if user != "" {
		opt.Username = new(user)
	}
	const most = 10 // pages: a thousand pipelines since publishing are somebody's mistake
	var lowest int64
	_, resp, err := pages(most, func(page gitlab.PaginationOptionFunc) ([]*gitlab.PipelineInfo, *gitlab.Response, error) {
		list, resp, err := c.api.Pipelines.ListProjectPipelines(r.ProjectID, opt, gitlab.WithContext(ctx), page)
		for _, p := range list {
			switch {
			case p == nil:
			case p.ID <= r.After.Pipeline:
				resp.NextLink, resp.NextPage = "", 0 // older ones follow
			case p.Source == "api" && p.Ref == r.Ref:
				lowest = p.ID
			}
		}
		return list, resp, err
	})
	if err != nil {
		return 0, c.explain(resp, err)
	}
	return lowest, nil
}

// detail says in which jobs a pipeline failed, or which it waits for. That is good
// to know and no more, so a failure to read it is none.
func (c *Client) detail(ctx context.Context, r rotator.Redeploy, d rotator.Deployment) string {
	var names []string
	for _, j := range c.endedAs(ctx, r, d) {
		// A job that may fail does not fail a pipeline, nor block one.
		if j != nil && (!j.AllowFailure || d.Status == string(gitlab.Success)) && len(names) < 3 {
			names = append(names, fmt.Sprintf("job %s is %s (%s)", j.Name, j.Status, j.WebURL))
		}
	}
	jobs := strings.Join(names, ", ")
	switch {
	case jobs == "":
		return d.Detail
	case d.Detail != "":
		return d.Detail + "; " + jobs
	case d.State == rotator.DeploymentFailed:
		return fmt.Sprintf("pipeline %d is %s: %s", d.ID, d.Status, jobs)
	}
	return jobs
}

// endedAs lists the jobs of a pipeline that have the pipeline's own status; of one
// that succeeded, those that nobody has started.
func (c *Client) endedAs(ctx context.Context, r rotator.Redeploy, d rotator.Deployment) []*gitlab.Job {
	scope := gitlab.BuildStateValue(d.Status)
	if scope == gitlab.Success {
		scope = gitlab.Manual
	}
	jobs, _, err := c.api.Jobs.ListPipelineJobs(r.ProjectID, d.ID, &gitlab.ListJobsOptions{
		ListOptions: gitlab.ListOptions{PerPage: 100},
		Scope:       &[]gitlab.BuildStateValue{scope},
	}, gitlab.WithContext(ctx))
	if err != nil {
		return nil
	}
	return jobs
}

// firstTime is the first of the times that GitLab gave; zero without one.
func firstTime(times ...*time.Time) time.Time {
	for _, t := range times {
		if t != nil {
			return t.UTC()
		}
	}
	return time.Time{}
}
