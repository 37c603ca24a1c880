package sandbox

import (
	"context"
	"fmt"
	"slices"
	"time"

	"credential-rotator/rotator"
)

// Mark implements rotator.Redeployer.
func (p *Ports) Mark(ctx context.Context, r rotator.Redeploy) (int64, error) {
	var highest int64
	err := p.read1(ctx, "gitlab.GET pipelines", r, func(_ *token, project *project) {
		for _, pl := range p.w.pipelines {
			if pl.project == project {
				highest = pl.id
			}
		}
	})
	if err != nil {
		return 0, err
	}
	return highest, nil
}

// Start implements rotator.Redeployer.
func (p *Ports) Start(ctx context.Context, r rotator.Redeploy) (rotator.Deployment, error) {
	var out rotator.Deployment
	err := p.do(ctx, op{name: "gitlab.POST pipeline", detail: r.Ref, write: true, says: []any{r}}, func() error {
		t, project, err := p.w.allow(p.Token, id(r.ProjectID), Developer, true)
		if err != nil {
			return asPort(err)
		}
		pl, err := p.w.createPipeline(project, t, r.Ref)
		if err != nil {
			return asPort(err)
		}
		out = p.w.asDeployment(pl, r)
		return nil
	})
	if err != nil {
		return rotator.Deployment{}, err
	}
	return out, nil
}

// Check implements rotator.Redeployer.
func (p *Ports) Check(ctx context.Context, r rotator.Redeploy) (rotator.Deployment, error) {
	var out rotator.Deployment
	err := p.read1(ctx, "gitlab.GET redeploy", r, func(t *token, project *project) {
		if d := p.w.serving(project, r); d != nil {
			out = p.w.served(d, t, r)
			return
		}
		if pl := p.w.ours(project, t, r); pl != nil {
			out = p.w.asDeployment(pl, r)
		}
	})
	if err != nil {
		return rotator.Deployment{}, err
	}
	return out, nil
}

// Holders implements rotator.Redeployer.
func (p *Ports) Holders(ctx context.Context, r rotator.Redeploy) ([]rotator.Job, error) {
	var out []rotator.Job
	err := p.read1(ctx, "gitlab.GET jobs", r, func(_ *token, project *project) {
		for _, j := range p.w.jobs {
			later := r.After > 0 && j.pipeline.id > r.After // though in the second that was rounded
			if j.pipeline.project == project && j.status == "running" && j.started.Before(r.PublishedAt) && !later && j.id != r.CallerJob {
				out = append(out, rotator.Job{ID: j.id, Name: j.Name, URL: p.w.webURL(project, "jobs/%d", j.id)})
			}
		}
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// read1 is one call that reads about a project's pipelines.
func (p *Ports) read1(ctx context.Context, name string, r rotator.Redeploy, look func(*token, *project)) error {
	return p.do(ctx, op{name: name, detail: id(r.ProjectID), says: []any{r}}, func() error {
		t, project, err := p.w.allow(p.Token, id(r.ProjectID), Reporter, false)
		if err != nil {
			return asPort(err)
		}
		look(t, project)
		return nil
	})
}

// serving finds a successful deployment to the environment that has the new pair:
// it came after the mark, or its job started after publishing. Our own is preferred
// to others', and the newest of them to older ones. One that an older job's deployment
// has outlasted is not live any more.
func (w *World) serving(p *project, r rotator.Redeploy) *deployment {
	var ours, others []*deployment
	var older time.Time
	for _, d := range slices.Backward(w.deployments) {
		switch {
		case r.Environment == "" || d.job.pipeline.project != p || d.environment.name != r.Environment || d.status() != "success":
		case d.job.pipeline.id == r.ID:
			ours = append(ours, d)
		case d.job.pipeline.id > r.After || !d.job.started.Before(r.PublishedAt):
			others = append(others, d)
		case d.job.finished.After(older):
			older = d.job.finished
		}
	}
	for _, d := range append(ours, others...) {
		if !d.job.finished.Before(older) {
			return d
		}
	}
	return nil
}

// served is a deployment that serves: our own pipeline's is told as the pipeline.
func (w *World) served(d *deployment, t *token, r rotator.Redeploy) rotator.Deployment {
	pl := d.job.pipeline
	if pl == w.ours(pl.project, t, r) {
		out := w.asDeployment(pl, r)
		out.State, out.Detail, out.FinishedAt = rotator.DeploymentSucceeded, "", d.job.finished
		return out
	}
	return rotator.Deployment{
		Kind: "deployment", ID: d.id, URL: w.webURL(pl.project, "pipelines/%d", pl.id),
		Status: "success", State: rotator.DeploymentSucceeded, FinishedAt: d.job.finished,
		Detail: fmt.Sprintf("deployment %d to %s began after publishing", d.id, r.Environment),
	}
}

// ours finds the pipeline that was started: by its id, or, after a lost reply, as
// the first after the mark that the API made, on this ref, with this token.
func (w *World) ours(p *project, t *token, r rotator.Redeploy) *pipeline {
	for _, pl := range w.pipelines {
		if pl.project != p {
			continue
		}
		if r.ID != 0 && pl.id == r.ID {
			return pl
		}
		if r.ID == 0 && pl.id > r.After && pl.source == "api" && pl.ref.Name == r.Ref && pl.username == t.Username {
			return pl
		}
	}
	return nil
}

// asDeployment says what the status of a pipeline means for a rotation. A green
// one is no proof when it was to deploy to an environment: the caller has looked
// for the deployment already.
func (w *World) asDeployment(pl *pipeline, r rotator.Redeploy) rotator.Deployment {
	d := rotator.Deployment{
		Kind: "pipeline", ID: pl.id, URL: w.webURL(pl.project, "pipelines/%d", pl.id),
		Status: pl.status, State: meaning(pl.status),
	}
	switch {
	case d.State == rotator.DeploymentBlocked:
		d.Detail = "the pipeline waits for somebody, or for its time"
	case d.State == rotator.DeploymentSucceeded && r.Environment != "":
		d.State, d.Detail = w.undeployed(pl.project, r)
	case d.State == rotator.DeploymentSucceeded:
		d.FinishedAt = pl.finished
	}
	return d
}

// meaning is what a status of GitLab means for a rotation.
func meaning(status string) rotator.DeploymentState {
	switch status {
	case "success":
		return rotator.DeploymentSucceeded
	case "failed", "canceled", "skipped":
		return rotator.DeploymentFailed
	case "manual", "scheduled":
		return rotator.DeploymentBlocked
	}
	return rotator.DeploymentRunning
}

// undeployed says why a green pipeline has not deployed to an environment: the
// deployment is still to come, waits for somebody, or will never be.
func (w *World) undeployed(p *project, r rotator.Redeploy) (rotator.DeploymentState, string) {
	for _, d := range slices.Backward(w.deployments) {
		later := d.job.pipeline.id > r.After || !d.created.Before(r.PublishedAt)
		if d.job.pipeline.project == p && d.environment.name == r.Environment && later && !over(d.job.status) {
			return meaning(d.job.status), "the pipeline succeeded, its job " + d.job.Name + " is " + d.job.status
		}
	}
	return rotator.DeploymentFailed, "the pipeline succeeded, and deployed nothing to " + r.Environment
}
