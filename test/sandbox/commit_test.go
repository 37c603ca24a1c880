package sandbox

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	gitlab "gitlab.com/gitlab-org/api/client-go/v2"
)

// v1 and v2 are commits.
var v1, v2 = strings.Repeat("1", 40), strings.Repeat("2", 40)

// What has been made stays at its commit, and so does what is retried of it, for
// whoever asks in whatever way.
func TestARetriedJobStaysAtTheCommitOfItsPipelineWhenHEADMovesOn(t *testing.T) {
	s := NewScene(Options{})
	server, err := Serve(s.World)
	check(t, err)
	defer server.Close()
	s.Commit(4711, "main", v1)
	live := s.Deployed(4711, Past{Job: JobSpec{Name: "deploy", Environment: "production"}, Ago: time.Hour})
	s.Commit(4711, "main", v2)
	head := s.RunPipeline(4711, "main")
	next := s.Retry(4711, live)

	c, ctx := gitlabClient(t, server, s.Token), gitlab.WithContext(t.Context())
	branch, _, err := c.Branches.GetBranch(4711, "main", ctx)
	check(t, err)
	retried, _, err := c.Jobs.GetJob(4711, next, ctx)
	check(t, err)
	atV1, _, err := c.Pipelines.ListProjectPipelines(4711, &gitlab.ListProjectPipelinesOptions{SHA: &v1}, ctx)
	check(t, err)
	atV2, _, err := c.Pipelines.ListProjectPipelines(4711, &gitlab.ListProjectPipelinesOptions{SHA: &v2}, ctx)
	check(t, err)
	deployments, _, err := c.Deployments.ListProjectDeployments(4711, &gitlab.ListProjectDeploymentsOptions{Environment: new("production"), Sort: new("desc")}, ctx)
	check(t, err)
	if branch.Commit.ID != v2 || retried.Commit.ID != v1 || retried.Pipeline.Sha != v1 || len(atV1) != 1 || len(atV2) != 1 || atV2[0].ID != head {
		t.Errorf("main is at %+v, the retried job %+v; at v1 is %+v, at v2 %+v", branch.Commit, retried, atV1, atV2)
	}
	if d := deployments[0]; d.Deployable.ID != next || d.SHA != v1 || deployments[1].SHA != v2 {
		t.Errorf("the newest deployments are %+v and %+v", d, deployments[1])
	}
	if got := s.Pipelines(4711); got[0].SHA != v1 || got[1].SHA != v2 {
		t.Errorf("the pipelines are %+v", got)
	}
}

func TestADeployJobIsToldItsCommit(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var mu sync.Mutex
		var told []string
		s := NewScene(Options{Deploy: func(_ context.Context, job JobEnv) error {
			mu.Lock()
			defer mu.Unlock()
			told = append(told, job.SHA)
			return nil
		}})
		defer s.Close()
		wait := func() { time.Sleep(time.Minute); s.Pipelines(4711); time.Sleep(time.Minute) }
		s.Commit(4711, "main", v1)
		s.RunPipeline(4711, "main")
		wait()
		live := s.Pipelines(4711)[0].Jobs[0].ID
		s.Commit(4711, "main", v2)
		s.RunPipeline(4711, "main")
		wait()
		s.Retry(4711, live)
		wait()
		mu.Lock()
		defer mu.Unlock()
		if want := []string{v1, v2, v1}; !slices.Equal(told, want) {
			t.Errorf("the jobs deployed %q, want %q", told, want)
		}
	})
}

func TestTheJobOfAnOlderCommitIsOutdatedAndOneOfTheLiveCommitIsNot(t *testing.T) {
	s := NewScene(Options{})
	s.EditProject(4711, func(p *Project) { p.NoRollback = true })
	deploy := JobSpec{Name: "deploy", Environment: "production"}
	s.Commit(4711, "main", v1)
	older := s.Deployed(4711, Past{Job: deploy, Ago: 3 * time.Hour})
	s.Commit(4711, "main", v2)
	same := s.Deployed(4711, Past{Job: deploy, Ago: 2 * time.Hour})
	s.Deployed(4711, Past{Job: deploy, Ago: time.Hour})
	p := s.projects[4711]
	if !s.outdated(p, s.mustJob(older)) || s.outdated(p, s.mustJob(same)) {
		t.Error("what has another commit than what is live is outdated, and nothing else")
	}
}
