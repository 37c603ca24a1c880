package gitlab

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	gitlab "gitlab.com/gitlab-org/api/client-go/v2"

	"credential-rotator/rotator"
)

// The kinds of a rotator.Deployment.
const (
	kindPipeline   = rotator.KindPipeline
	kindDeployment = rotator.KindDeployment
)

// Mark returns the project's highest pipeline id, 0 when it has no pipeline, in one
// call; with Live that of its jobs as well, in another. GitLab lists no child pipelines
// here, and no bridges: one of those may be above the mark and yet older.
func (c *Client) Mark(ctx context.Context, r rotator.Redeploy) (rotator.Mark, error) {
	var (
		mark rotator.Mark
		err  error
	)
	if mark.Pipeline, err = c.newestPipeline(ctx, r); err == nil && r.Live {
		mark.Job, err = c.newestJob(ctx, r)
	}
	if err != nil {
		return rotator.Mark{}, err
	}
	return mark, nil
}

func (c *Client) newestPipeline(ctx context.Context, r rotator.Redeploy) (int64, error) {
	newest, resp, err := c.api.Pipelines.ListProjectPipelines(r.ProjectID, &gitlab.ListProjectPipelinesOptions{
		ListOptions: gitlab.ListOptions{PerPage: 1},
		OrderBy:     new("id"),
		Sort:        new("desc"),
	}, gitlab.WithContext(ctx))
	if err != nil {
		return 0, fmt.Errorf("reading the newest pipeline of project %d: %w", r.ProjectID, c.explain(resp, err))
	}
	if len(newest) == 0 || newest[0] == nil {
		return 0, nil
	}
	return newest[0].ID, nil
}

// newestJob: the newest comes first (lib/api/ci/jobs.rb), whatever page it is.
func (c *Client) newestJob(ctx context.Context, r rotator.Redeploy) (int64, error) {
	newest, resp, err := c.api.Jobs.ListProjectJobs(r.ProjectID, &gitlab.ListJobsOptions{ListOptions: gitlab.ListOptions{PerPage: 1}}, gitlab.WithContext(ctx))
	if err != nil {
		return 0, fmt.Errorf("reading the newest job of project %d: %w", r.ProjectID, c.explain(resp, err))
	}
	if len(newest) == 0 || newest[0] == nil {
		return 0, nil
	}
	return newest[0].ID, nil
}

// Start starts a pipeline on the ref, in one call; with Live it retries the job of what
// is live, in five. It sends no pipeline variables: many projects forbid them, and they
// would outrank the project's.
func (c *Client) Start(ctx context.Context, r rotator.Redeploy) (rotator.Deployment, error) {
	if r.Live {
		return c.startLive(ctx, r)
	}
	p, resp, err := c.api.Pipelines.CreatePipeline(r.ProjectID, &gitlab.CreatePipelineOptions{Ref: new(r.Ref), Inputs: inputs(r.Inputs)}, gitlab.WithContext(ctx))
	if err != nil {
		why := c.explain(resp, err)
		if why.status == http.StatusBadRequest && why.said != "" {
			why.text = fmt.Sprintf("%s: %s", strings.TrimRight(why.said, "."), pipelineAdvice(why.said, r.Ref))
		}
		return rotator.Deployment{}, fmt.Errorf("starting a pipeline on %s of project %d: %w", r.Ref, r.ProjectID, refusal(why))
	}
	if p == nil || p.ID == 0 {
		return rotator.Deployment{}, fmt.Errorf("starting a pipeline on %s of project %d: %w", r.Ref, r.ProjectID, errors.New("the reply names no pipeline"))
	}
	return pipelineDeployment(p), nil
}

// inputs are those of a pipeline (GitLab 17.10 and newer), as the client wants them.
func inputs(given map[string]any) gitlab.PipelineInputsOption {
	if len(given) == 0 {
		return nil
	}
	all := gitlab.PipelineInputsOption{}
	for name, value := range given {
		switch value := value.(type) {
		case string:
			all[name] = gitlab.NewPipelineInputValue(value)
		case bool:
			all[name] = gitlab.NewPipelineInputValue(value)
		case float64:
			all[name] = gitlab.NewPipelineInputValue(value)
		case []any:
			words := make([]string, len(value))
			for i, word := range value {
				words[i], _ = word.(string)
			}
			all[name] = gitlab.NewPipelineInputValue(words)
		}
	}
	return all
}

// pipelineAdvice is what to do about GitLab's reasons for not making a pipeline
// (lib/gitlab/ci/pipeline/chain), which all come with status 400.
func pipelineAdvice(said, ref string) string {
	for _, known := range []struct{ text, advice string }{
		{"Reference not found", "the branch or tag " + ref + " is gone; correct ref"},
		{"workflow rules", `let workflow:rules accept $CI_PIPELINE_SOURCE == "api"`},
		{"rules configuration", `let the rules of a job accept $CI_PIPELINE_SOURCE == "api" on ` + ref},
		{"Too many pipelines", "GitLab limits the pipelines of a minute; the next try will do"},
		{"ufficient permission", "let the token's user push or merge to " + ref + " (Settings > Repository > Protected branches or tags)"},
		{"disabled", "switch CI/CD on in the project"},
		{"input", "correct inputs: they are those that spec:inputs of .gitlab-ci.yml on " + ref + " declares"},
	} {
		if strings.Contains(said, known.text) {
			return known.advice
		}
	}
	return "mend .gitlab-ci.yml on " + ref
}

// pipelineDeployment is a pipeline as a deployment, as far as its status tells.
func pipelineDeployment(p *gitlab.Pipeline) rotator.Deployment {
	d := rotator.Deployment{Kind: kindPipeline, ID: p.ID, URL: p.WebURL, Status: p.Status, State: state(p.Status)}
	if d.State == rotator.DeploymentSucceeded {
		d.FinishedAt = firstTime(p.FinishedAt, p.UpdatedAt)
	}
	return d
}

// state is what GitLab's word for the status of a pipeline means. A word that is
// not known here, of a newer GitLab, is one of a pipeline that goes on: the final
// ones are few and old.
func state(status string) rotator.DeploymentState {
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
