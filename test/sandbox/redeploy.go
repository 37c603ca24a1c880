package sandbox

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"credential-rotator/rotator"
)

// Mark implements rotator.Redeployer.
func (p *Ports) Mark(ctx context.Context, r rotator.Redeploy) (rotator.Mark, error) {
	var highest rotator.Mark
	err := p.read1(ctx, "gitlab.GET pipelines", r, func(_ *token, project *project) {
		for _, pl := range p.w.pipelines {
			if pl.project == project && pl.source != "parent_pipeline" {
				highest.Pipeline = pl.id
			}
		}
	})
	if err != nil || !r.Live {
		return highest, err
	}
	err = p.read1(ctx, "gitlab.GET newest job", r, func(_ *token, project *project) {
		for _, j := range p.w.jobs {
			if j.pipeline.project == project && !j.Bridge {
				highest.Job = j.id
			}
		}
	})
	return highest, err
}

// Start implements rotator.Redeployer.
func (p *Ports) Start(ctx context.Context, r rotator.Redeploy) (rotator.Deployment, error) {
	if r.Live {
		return p.startLive(ctx, r)
	}
	var out rotator.Deployment
	err := p.do(ctx, op{name: "gitlab.POST pipeline", detail: r.Ref, write: true, says: []any{r}}, func() error {
		t, project, err := p.w.allow(p.Token, id(r.ProjectID), Developer, true)
		if err != nil {
			return asPort(err)
		}
		pl, err := p.w.createPipeline(project, t, r.Ref, words(r.Inputs))
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

// words are inputs as GitLab keeps them.
func words(inputs map[string]any) map[string]string {
	all := map[string]string{}
	for name, value := range inputs {
		all[name] = fmt.Sprint(value)
	}
	return all
}

// startLive looks what is live, and retries its job unless somebody is at it.
func (p *Ports) startLive(ctx context.Context, r rotator.Redeploy) (rotator.Deployment, error) {
	live, out, err := p.lookAtLive(ctx, r)
	if err != nil || !over(live.status) {
		return out, err
	}
	if err := ctx.Err(); err != nil { // it is asked before the write is, as the adapter does
		return rotator.Deployment{}, err
	}
	err = p.do(ctx, op{name: "gitlab.POST retry", detail: id(live.id), write: true, says: []any{r}}, func() error {
		t, project, err := p.w.allow(p.Token, id(r.ProjectID), Developer, true)
		if err != nil {
			return asPort(err)
		}
		p.w.judgeRetry(&p.process, live)
		next, err := p.w.retryJob(project, t, live)
		if err != nil {
			return asPort(err)
		}
		out = p.w.jobDeployment(next, r)
		return nil
	})
	if err == nil || !strings.Contains(err.Error(), "not retryable") {
		return out, err
	}
	now, out, lookErr := p.lookAtLive(ctx, r)
	switch {
	case lookErr != nil:
		return rotator.Deployment{}, errors.Join(err, lookErr)
	case now == live:
		return rotator.Deployment{}, &rotator.CannotRedeployError{Why: "job " + id(live.id) + " cannot be retried: it is archived", Commit: live.pipeline.sha}
	case !over(now.status):
		return out, nil // somebody was faster
	}
	return rotator.Deployment{}, err
}

// lookAtLive finds the job that is to be retried, and how it looks.
func (p *Ports) lookAtLive(ctx context.Context, r rotator.Redeploy) (live *job, out rotator.Deployment, err error) {
	err = p.do(ctx, op{name: "gitlab.GET live", detail: r.Environment, says: []any{r}}, func() error {
		_, project, err := p.w.allow(p.Token, id(r.ProjectID), Reporter, false)
		if err != nil {
			return asPort(err)
		}
		p.looksAtLive(project, r.Environment)
		d, why := p.w.liveJob(project, r)
		if why != "" {
			return &rotator.CannotRedeployError{Why: why, Commit: p.w.liveCommit(project, r.Environment)}
		}
		live = p.w.newest(d.job)
		out = p.w.jobDeployment(live, r)
		return nil
	})
	return live, out, err
}

// Tag implements rotator.Tagger.
func (p *Ports) Tag(ctx context.Context, projectID int64, name, commit string) error {
	return p.do(ctx, op{name: "gitlab.POST tag", detail: name, write: true}, func() error {
		t, project, err := p.w.allow(p.Token, id(projectID), Developer, true)
		if err != nil {
			return asPort(err)
		}
		if ref, exists := project.ref(name); exists && project.sha(ref.Name) == commit {
			return nil
		}
		_, err = p.w.createTag(project, t, name, commit)
		return asPort(err)
	})
}

// Untag implements rotator.Tagger.
func (p *Ports) Untag(ctx context.Context, projectID int64, name string) error {
	return p.do(ctx, op{name: "gitlab.DELETE tag", detail: name, write: true}, func() error {
		t, project, err := p.w.allow(p.Token, id(projectID), Developer, true)
		if err != nil {
			return asPort(err)
		}
		err = p.w.deleteTag(project, t, name)
		if gone := (*gitlabError)(nil); errors.As(err, &gone) && gone.status == http.StatusNotFound {
			return nil
		}
		return asPort(err)
	})
}

// liveJob is the deployment whose job can be retried, or why there is none.
func (w *World) liveJob(p *project, r rotator.Redeploy) (d *deployment, why string) {
	name := r.Environment
	i := slices.IndexFunc(p.environments, func(e *environment) bool { return e.name == name })
	d = w.live(p, name, w.seq)
	switch {
	case i < 0:
		return nil, "there is no environment " + name
	case p.environments[i].stopped:
		return nil, "environment " + name + " is stopped"
	case d == nil:
		return nil, "nothing was deployed to " + name
	case d.jobless:
		return nil, "what is live in " + name + " has no job"
	case slices.ContainsFunc(w.deployments, func(other *deployment) bool {
		return other.environment == d.environment && other.lived > 0 && other.job.pipeline == d.job.pipeline && other.job.Name != d.job.Name
	}):
		return nil, "what is live in " + name + " was deployed by several jobs"
	case d.job.pipeline.own[r.Variables[0]] != "", d.job.pipeline.own[r.Variables[1]] != "":
		return nil, "what is live in " + name + " has a pair of its own"
	case w.newest(d.job) == nil:
		return nil, "what is live in " + name + " is another pipeline's"
	}
	return d, ""
}

// Check implements rotator.Redeployer.
func (p *Ports) Check(ctx context.Context, r rotator.Redeploy) (rotator.Deployment, error) {
	var out rotator.Deployment
	err := p.read1(ctx, "gitlab.GET redeploy", r, func(t *token, project *project) {
		j := p.w.ourJob(project, r)
		if j != nil {
			r.ID = j.id
		}
		if j != nil {
			out = p.w.jobDeployment(j, r)
		}
		if pl := p.w.ours(project, t, r); pl != nil {
			out = p.w.asDeployment(pl, r)
			r.ID = pl.id
		}
		if out.State == rotator.DeploymentRunning {
			return // until it has ended, nobody looks for others'
		}
		if d := p.w.serving(project, r); d != nil {
			out = p.w.served(d, t, r)
		}
	})
	if err != nil {
		return rotator.Deployment{}, err
	}
	return out, nil
}

// ourJob finds the job that was retried: by its id or, after a lost reply, as the one
// that stands now where the live one was, and came after the mark.
func (w *World) ourJob(p *project, r rotator.Redeploy) *job {
	if !r.Live {
		return nil
	}
	if r.ID != 0 {
		j, err := w.findJob(r.ID)
		if err != nil || j.pipeline.project != p {
			return nil
		}
		return j
	}
	d, why := w.liveJob(p, r)
	if why != "" || r.After.Job == 0 {
		return nil
	}
	if j := w.newest(d.job); j.id > r.After.Job {
		return j
	}
	return nil
}

// jobDeployment says what the status of a retried job means for a rotation. That it
// has ended well is no proof: the caller has looked for its deployment already.
func (w *World) jobDeployment(j *job, r rotator.Redeploy) rotator.Deployment {
	d := rotator.Deployment{
		Kind: rotator.KindDeployment, ID: j.id, URL: w.webURL(j.pipeline.project, "jobs/%d", j.id),
		Status: j.status, State: meaning(j.status),
	}
	switch d.State {
	case rotator.DeploymentBlocked:
		d.Detail = "the job waits for somebody, or for its time"
	case rotator.DeploymentSucceeded:
		d.State, d.Detail = rotator.DeploymentFailed, "the job succeeded, and is not what is live in "+r.Environment
	}
	return d
}

// Holders implements rotator.Redeployer.
func (p *Ports) Holders(ctx context.Context, r rotator.Redeploy) ([]rotator.Job, error) {
	var out []rotator.Job
	holds := func(j *job) bool {
		later := j.pipeline.id > r.After.Pipeline && r.After.Pipeline > 0 && j.pipeline.source != "parent_pipeline" // though in the second that was rounded
		later = later || r.After.Job > 0 && j.id > r.After.Job && !j.Bridge
		return j.status == "running" && j.started.Before(r.PublishedAt) && !later && j.id != r.CallerJob
	}
	list := func(of func(*project) bool) {
		for _, j := range p.w.jobs {
			if of(j.pipeline.project) && holds(j) {
				out = append(out, rotator.Job{ID: j.id, Name: j.Name, URL: p.w.webURL(j.pipeline.project, "jobs/%d", j.id)})
			}
		}
	}
	var err error
	if r.GroupID != 0 {
		err = p.do(ctx, op{name: "gitlab.GET jobs", detail: id(r.GroupID), says: []any{r}}, func() error {
			_, g, err := p.w.allowGroup(p.Token, id(r.GroupID), 0, false)
			if err == nil {
				list(g.has)
			}
			return asPort(err)
		})
	} else {
		err = p.read1(ctx, "gitlab.GET jobs", r, func(_ *token, asked *project) {
			list(func(p *project) bool { return p == asked })
		})
	}
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
		case !r.Live && d.job.pipeline.id == r.ID, r.Live && d.job.id == r.ID && r.After.Job > 0 && r.ID > r.After.Job:
			ours = append(ours, d)
		case d.job.pipeline.id > r.After.Pipeline && d.job.pipeline.source != "parent_pipeline", !d.job.started.Before(r.PublishedAt):
			if !r.Own && d.job.pipeline.own[r.Variables[0]] == "" && d.job.pipeline.own[r.Variables[1]] == "" {
				others = append(others, d)
			}
		case d.job.finished.After(older):
			older = d.job.finished
		}
	}
	for i, d := range append(ours, others...) {
		if part := (!r.Live || i >= len(ours)) && w.isPart(d); !part && !d.job.finished.Before(older) {
			return d
		}
	}
	return nil
}

// isPart tells whether another job of a pipeline that is not green was to deploy to the
// same environment, and has not.
func (w *World) isPart(of *deployment) bool {
	return of.job.pipeline.status != "success" && slices.ContainsFunc(w.deployments, func(d *deployment) bool {
		return d.job.pipeline == of.job.pipeline && d.environment == of.environment && d.job.Name != of.job.Name && !d.job.retried && d.status() != "success"
	})
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
		Kind: rotator.KindDeployment, ID: d.job.id, URL: w.webURL(pl.project, "jobs/%d", d.job.id),
		Status: "success", State: rotator.DeploymentSucceeded, FinishedAt: d.job.finished,
		Detail: fmt.Sprintf("deployment %d to %s began after publishing", d.id, r.Environment),
	}
}

// ours finds the pipeline that was started: by its id, or, after a lost reply, as
// the first after the mark that the API made, on this ref, with this token. Which inputs
// one had is not told.
func (w *World) ours(p *project, t *token, r rotator.Redeploy) *pipeline {
	for _, pl := range w.pipelines {
		if pl.project != p || r.Live {
			continue
		}
		if r.ID != 0 && pl.id == r.ID {
			return pl
		}
		if r.ID == 0 && len(r.Inputs) == 0 && pl.id > r.After.Pipeline && pl.source == "api" && pl.ref.Name == r.Ref && pl.username == t.Username {
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
		later := d.job.pipeline.id > r.After.Pipeline || !d.created.Before(r.PublishedAt)
		if d.job.pipeline.project == p && d.environment.name == r.Environment && later && !over(d.job.status) {
			return meaning(d.job.status), "the pipeline succeeded, its job " + d.job.Name + " is " + d.job.status
		}
	}
	return rotator.DeploymentFailed, "the pipeline succeeded, and deployed nothing to " + r.Environment
}
