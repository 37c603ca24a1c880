package gitlab

import (
	"context"
	"fmt"
	"net/http"

	gitlab "gitlab.com/gitlab-org/api/client-go/v2"

	"credential-rotator/rotator"
)

// jobPages bounds the list of running jobs: two thousand at once in one project.
const jobPages = 20

// canceling is the status of a job that was told to stop and still runs its
// after_script (GitLab 17.0 and newer); client-go has no constant for it.
const canceling gitlab.BuildStateValue = "canceling"

// Holders lists the running jobs that began before PublishedAt, in one call for
// every hundred running jobs. A job without a start time counts: when it began
// cannot be told. CallerJob does not: it would wait for a rotation that waits for it.
//
// Of a group it asks all of its projects, one after the other.
func (c *Client) Holders(ctx context.Context, r rotator.Redeploy) ([]rotator.Job, error) {
	if r.GroupID != 0 {
		return c.holdersOfGroup(ctx, r)
	}
	holders, err := c.holders(ctx, r)
	if err != nil {
		return nil, fmt.Errorf("listing the running jobs of project %d: %w", r.ProjectID, err)
	}
	return holders, nil
}

func (c *Client) holdersOfGroup(ctx context.Context, r rotator.Redeploy) ([]rotator.Job, error) {
	projects, err := c.projectsOf(ctx, r.GroupID)
	if err != nil {
		return nil, fmt.Errorf("listing the projects of group %d: %w", r.GroupID, err)
	}
	r.GroupID = 0
	var all []rotator.Job
	for _, p := range projects {
		if !runsJobs(p) {
			continue
		}
		r.ProjectID = p.ID
		found, err := c.Holders(ctx, r)
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	return all, nil
}

func (c *Client) holders(ctx context.Context, r rotator.Redeploy) ([]rotator.Job, error) {
	jobs, err := c.runningJobs(ctx, r)
	if err != nil {
		return nil, err
	}
	var holders []rotator.Job
	later := make(map[int64]bool)
	for _, j := range jobs {
		retried := r.After.Job > 0 && j.ID > r.After.Job // after the mark
		if j.ID == r.CallerJob || retried || j.StartedAt != nil && !j.StartedAt.Before(r.PublishedAt) {
			continue
		}
		// The job may have begun in the very second of publishing, before or after:
		// that of a later pipeline began after.
		if _, known := later[j.Pipeline.ID]; !known {
			later[j.Pipeline.ID], err = c.isLater(ctx, r, j.Pipeline.ID)
			if err != nil {
				return nil, err
			}
		}
		if !later[j.Pipeline.ID] {
			holders = append(holders, rotator.Job{ID: j.ID, Name: j.Name, URL: j.WebURL})
		}
	}
	return holders, nil
}

// runningJobs asks for the jobs that are canceling too, unless the instance is too
// old to know the word.
func (c *Client) runningJobs(ctx context.Context, r rotator.Redeploy) ([]*gitlab.Job, error) {
	jobs, why := c.jobs(ctx, r, gitlab.Running, canceling)
	if why != nil && why.status == http.StatusBadRequest {
		jobs, why = c.jobs(ctx, r, gitlab.Running)
	}
	if why != nil {
		return nil, why
	}
	return jobs, nil
}

// jobs pages by id, not by number: a job that ends in between would move one that
// still runs from a page that is to come to one that has been read.
func (c *Client) jobs(ctx context.Context, r rotator.Redeploy, scope ...gitlab.BuildStateValue) ([]*gitlab.Job, *problem) {
	opt := &gitlab.ListJobsOptions{
		ListOptions: gitlab.ListOptions{Pagination: "keyset", PerPage: 100, OrderBy: "id", Sort: "desc"},
		Scope:       &scope,
	}
	jobs, resp, err := pages(jobPages, func(page gitlab.PaginationOptionFunc) ([]*gitlab.Job, *gitlab.Response, error) {
		return c.api.Jobs.ListProjectJobs(r.ProjectID, opt, gitlab.WithContext(ctx), page)
	})
	if err != nil {
		return nil, c.explain(resp, err)
	}
	return jobs, nil
}
