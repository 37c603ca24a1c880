package gitlab

import (
	"context"
	"slices"

	gitlab "gitlab.com/gitlab-org/api/client-go/v2"

	"credential-rotator/rotator"
)

// A service may be deployed by several jobs, of a pipeline and of its child pipelines. What
// one of them has deployed is no proof while another has not.

// family are the ids of a pipeline and of the child pipelines that it started; with Live,
// of the job alone.
type family struct {
	live  bool
	green bool // the pipeline is
	ids   []int64
}

// has tells whether a deployment is one of the family's own.
func (f family) has(dep *gitlab.Deployment) bool {
	if f.live {
		return dep.Deployable.ID != 0 && slices.Contains(f.ids, dep.Deployable.ID)
	}
	return slices.Contains(f.ids, dep.Deployable.Pipeline.ID)
}

// lacks tells whether a job of the family was to make a deployment and has not. What a
// green pipeline has not done need not be done.
func (f family) lacks(dep *gitlab.Deployment) bool {
	if !f.has(dep) || dep.Status == "success" {
		return false
	}
	p := dep.Deployable.Pipeline
	return !f.green || p.ID != f.ids[0] && p.Status != string(gitlab.Success) && p.Status != string(gitlab.Skipped) // all of its jobs are optional
}

// familyOf is the family of the redeploy's pipeline. What its children are is of no matter
// if nothing was deployed by another than itself.
func (c *Client) familyOf(ctx context.Context, r rotator.Redeploy, list []*gitlab.Deployment, green bool) (family, error) {
	f := family{live: r.Live, green: green}
	if r.ID == 0 {
		return f, nil
	}
	f.ids = []int64{r.ID}
	if !slices.ContainsFunc(list, func(dep *gitlab.Deployment) bool { return dep != nil && !f.has(dep) && isNew(r, dep) }) {
		return f, nil
	}
	err := c.addChildren(ctx, r.ProjectID, &f)
	return f, err
}

// addChildren finds the child pipelines of a family's, in a call for each pipeline. GitLab
// nests them two deep.
func (c *Client) addChildren(ctx context.Context, project int64, f *family) error {
	const most = 20 // pipelines that are asked about: one that starts more deploys elsewhere too
	for i := 0; i < len(f.ids) && i < most; i++ {
		bridges, resp, err := c.api.Jobs.ListPipelineBridges(project, f.ids[i], &gitlab.ListJobsOptions{ListOptions: gitlab.ListOptions{PerPage: 100}}, gitlab.WithContext(ctx))
		if err != nil {
			if why := c.explain(resp, err); !why.untold() {
				return why
			}
			return nil // what they deploy is another's
		}
		for _, b := range bridges {
			if b != nil && b.DownstreamPipeline != nil && b.DownstreamPipeline.ProjectID == project {
				f.ids = append(f.ids, b.DownstreamPipeline.ID)
			}
		}
	}
	return nil
}

// isWhole tells whether somebody else's deployment is all that its pipeline was to deploy
// to the environment, and has the pair that is published.
func (c *Client) isWhole(ctx context.Context, r rotator.Redeploy, list []*gitlab.Deployment, dep *gitlab.Deployment) (bool, error) {
	p := dep.Deployable.Pipeline
	if dep.Deployable.ID == 0 {
		return true, nil // no job made it
	}
	its := family{ids: []int64{p.ID}, green: p.Status == string(gitlab.Success)}
	if err := c.addChildren(ctx, r.ProjectID, &its); err != nil || isPart(list, its) {
		return false, err
	}
	given, err := c.ownVariable(ctx, r, p.ID)
	return given == "", err
}

// isPart tells whether what a family has deployed is not the whole: what one of its jobs
// was to deploy to the environment, and has not, still has the previous pair.
func isPart(list []*gitlab.Deployment, its family) bool {
	type job struct {
		pipeline int64
		name     string
	}
	seen := map[job]bool{}
	for _, dep := range list { // the newest first: a retry stands for what it is the retry of
		if dep == nil || seen[job{dep.Deployable.Pipeline.ID, dep.Deployable.Name}] {
			continue
		}
		seen[job{dep.Deployable.Pipeline.ID, dep.Deployable.Name}] = true
		if its.lacks(dep) {
			return true
		}
	}
	return false
}
