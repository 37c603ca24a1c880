package rotator_test

import (
	"strings"
	"testing"
	"time"

	"credential-rotator/rotator"
	"credential-rotator/test/sandbox"
)

// deployJob is the job that has deployed what is live.
func deployJob() sandbox.JobSpec { return sandbox.JobSpec{Name: "deploy", Environment: "production"} }

// performLive plays with a service whose live deployment is deployed again.
func performLive(t *testing.T, past sandbox.Past, play func(s *stage, job int64)) {
	t.Helper()
	past.Job, past.Ago = deployJob(), time.Hour
	perform(t, func(s *stage) {
		s.request.Redeploy = rotator.RedeployDeployment
		play(s, s.Deployed(4711, past))
	})
}

// liveKey is the key that the last successful job of a project has deployed.
func (s *stage) liveKey() (key string) {
	var last time.Time
	for _, pl := range s.Pipelines(4711) {
		for _, j := range pl.Jobs {
			if j.Status == "success" && j.Finished.After(last) {
				key, last = j.KeyID, j.Finished
			}
		}
	}
	return key
}

func TestWhatIsLiveIsDeployedAgain(t *testing.T) {
	performLive(t, sandbox.Past{}, func(s *stage, job int64) {
		result := s.wants(s.run(), rotator.StatusRotated, "84 days old")
		s.has(statuses{s.works(): active})
		d := result.Deployment
		if d == nil || d.Kind != "deployment" || d.ID <= job || d.Status != "success" || !strings.HasSuffix(d.URL, "/jobs/2") {
			t.Errorf("the deployment is %+v", d)
		}
		if s.count("gitlab.POST retry") != 1 || s.count("gitlab.POST pipeline") != 0 || len(s.Pipelines(4711)) != 1 || s.liveKey() != s.works() {
			t.Errorf("%d retries; live is %s", s.count("gitlab.POST retry"), s.liveKey())
		}
		s.quiet(func() { s.wants(s.run(), rotator.StatusNotDue) })
	})
}

func TestWhatIsLiveIsLookedAtAgainRightBefore(t *testing.T) {
	performLive(t, sandbox.Past{}, func(s *stage, _ int64) {
		var newer int64
		s.every = func(c sandbox.Call) sandbox.Fate {
			if c.Name == "gitlab.GET live" && newer == 0 { // after the preflight, which looked as well
				newer = s.Deployed(4711, sandbox.Past{Job: deployJob()})
			}
			return sandbox.OK
		}
		result := s.wants(s.run(), rotator.StatusRotated)
		if pl := s.Pipelines(4711)[1]; len(pl.Jobs) != 2 || pl.Jobs[0].ID != newer || pl.Jobs[1].ID != result.Deployment.ID {
			t.Errorf("the deployment is %+v, and live was that of job %d: %+v", result.Deployment, newer, pl)
		}
	})
}

func TestARetryWhoseReplyIsLostIsFoundAndNotRepeated(t *testing.T) {
	for name, fate := range map[string]sandbox.Fate{"lost": sandbox.Lost, "a crash": sandbox.CrashAfter} {
		t.Run(name, func(t *testing.T) {
			performLive(t, sandbox.Past{}, func(s *stage, _ int64) {
				s.every = once("gitlab.POST retry", fate)
				if result := s.run(); fate == sandbox.CrashAfter {
					time.Sleep(20 * time.Minute)
					s.wants(s.run(), rotator.StatusRotated)
				} else {
					s.wants(result, rotator.StatusRotated)
				}
				if n := s.count("gitlab.POST retry"); n != 1 || s.liveKey() != s.works() {
					t.Errorf("%d retries", n)
				}
			})
		})
	}
}

// once lets the first of a kind of call meet a fate.
func once(name string, fate sandbox.Fate) func(sandbox.Call) sandbox.Fate {
	met := false
	return func(c sandbox.Call) sandbox.Fate {
		if met || c.Name != name {
			return sandbox.OK
		}
		met = true
		return fate
	}
}

func TestAfterAFailedRetryTheNewestJobIsRetried(t *testing.T) {
	performLive(t, sandbox.Past{}, func(s *stage, _ int64) {
		old := s.Key.ID
		s.QueueOutcomes(4711, sandbox.Failed, sandbox.Canceled, sandbox.Failed)
		for _, status := range []string{"job 2 ended as failed", "job 3 ended as canceled", "job 4 ended as failed"} {
			s.wants(s.run(), rotator.StatusFailed, status, "/jobs/", "both keys work")
			s.has(statuses{old: active, s.works(): active})
		}
		s.wants(s.run(), rotator.StatusWaiting, "3 redeploys have failed")
		time.Sleep(25 * time.Hour)
		if d := s.wants(s.run(), rotator.StatusRotated).Deployment; d.ID != 5 {
			t.Errorf("the deployment is %+v", d)
		}
	})
}

func TestAJobThatWaitsForSomebodyOrForItsResourceIsWaitedFor(t *testing.T) {
	for outcome, says := range map[sandbox.Outcome]string{
		sandbox.Manual: "job 2 is manual, it waits for somebody", sandbox.Queued: "job 2 is waiting_for_resource",
	} {
		t.Run(string(outcome), func(t *testing.T) {
			performLive(t, sandbox.Past{}, func(s *stage, _ int64) {
				s.QueueOutcomes(4711, outcome)
				s.wants(s.run(), rotator.StatusWaiting, says)
				s.released()
				s.has(statuses{s.Key.ID: active, s.works(): active})
				s.wants(s.run(), rotator.StatusWaiting, says)
				if n := s.count("gitlab.POST retry"); n != 1 {
					t.Errorf("%d retries", n)
				}
			})
		})
	}
}

func TestSomebodysRetryThatRunsIsWaitedFor(t *testing.T) {
	performLive(t, sandbox.Past{}, func(s *stage, job int64) {
		s.every = func(c sandbox.Call) sandbox.Fate {
			if c.Name == "gitlab.GET live" && len(s.Pipelines(4711)[0].Jobs) == 1 {
				s.Retry(4711, job)
			}
			return sandbox.OK
		}
		if d := s.wants(s.run(), rotator.StatusRotated).Deployment; d.ID != 2 || s.count("gitlab.POST retry") != 0 {
			t.Errorf("the deployment is %+v after %d retries", d, s.count("gitlab.POST retry"))
		}
	})
}

func TestSomebodyWhoRetriesAtTheSameMomentIsWaitedFor(t *testing.T) {
	performLive(t, sandbox.Past{}, func(s *stage, job int64) {
		s.request.Fallback = rotator.RedeployPipeline // which is for what cannot be retried
		s.every = func(c sandbox.Call) sandbox.Fate {
			if c.Name == "gitlab.POST retry" {
				s.Retry(4711, job)
			}
			return sandbox.OK
		}
		if d := s.wants(s.run(), rotator.StatusRotated).Deployment; d.ID != 2 || len(s.Pipelines(4711)) != 1 {
			t.Errorf("the deployment is %+v, of %d pipelines", d, len(s.Pipelines(4711)))
		}
	})
}

// What can be seen before a key is made is refused then.
func TestWhatCannotBeDeployedAgainIsRefusedBeforeAKeyIsMade(t *testing.T) {
	for name, c := range map[string]struct {
		past sandbox.Past
		do   func(s *stage)
		says string
	}{
		"a pair of its own":          {sandbox.Past{Own: map[string]string{"AWS_ACCESS_KEY_ID": "AKIAITSOWN"}}, func(*stage) {}, "has a pair of its own"},
		"a deployment without a job": {sandbox.Past{Jobless: true}, func(*stage) {}, "has no job"},
		"a stopped environment":      {sandbox.Past{}, func(s *stage) { s.StopEnvironment(4711, "production") }, "is stopped"},
		"an unknown environment":     {sandbox.Past{}, func(s *stage) { s.request.Environment = "prod" }, "no environment prod"},
	} {
		t.Run(name, func(t *testing.T) {
			performLive(t, c.past, func(s *stage, _ int64) {
				c.do(s)
				s.quiet(func() { s.wants(s.run(), rotator.StatusRefused, c.says, `fallback "pipeline"`) })
			})
			if name == "an unknown environment" {
				return // a pipeline would not deploy there either
			}
			performLive(t, c.past, func(s *stage, _ int64) {
				s.request.Fallback = rotator.RedeployPipeline
				c.do(s)
				result := s.wants(s.run(), rotator.StatusRotated)
				s.warns(result, c.says, "a pipeline on main is run instead")
				if d := result.Deployment; d.Kind != "pipeline" || len(result.Warnings) != 1 {
					t.Errorf("the deployment is %+v, the warnings %q", d, result.Warnings)
				}
				s.has(statuses{s.works(): active})
			})
		})
	}
}

// What shows only when it is tried is a failure, with both keys working.
func TestAnArchivedJobIsAFailureThatIsTriedAgain(t *testing.T) {
	performLive(t, sandbox.Past{Archived: true}, func(s *stage, _ int64) {
		s.wants(s.run(), rotator.StatusFailed, "archived", "both keys work")
		s.has(statuses{s.Key.ID: active, s.works(): active})
		s.released()
		s.RunPipeline(4711, "main") // which serves
		time.Sleep(time.Minute)
		if d := s.wants(s.run(), rotator.StatusRotated).Deployment; d.Kind != "deployment" {
			t.Errorf("the deployment is %+v", d)
		}
	})
}

func TestAnArchivedJobFallsBackToAPipelineOnce(t *testing.T) {
	performLive(t, sandbox.Past{Archived: true}, func(s *stage, _ int64) {
		s.request.Fallback = rotator.RedeployPipeline
		s.QueueOutcomes(4711, sandbox.Failed)
		s.every = once("gitlab.POST pipeline", sandbox.CrashAfter)
		s.run()
		time.Sleep(20 * time.Minute)
		s.wants(s.run(), rotator.StatusFailed, "pipeline 2 ended as failed")
		result := s.wants(s.run(), rotator.StatusRotated)
		s.warns(result, "archived", "a pipeline on main is run instead")
		if d := result.Deployment; d.Kind != "pipeline" || d.ID != 3 || len(result.Warnings) != 1 {
			t.Errorf("the deployment is %+v, the warnings %q", d, result.Warnings)
		}
	})
}

// Whoever may not deploy to a protected environment is told so; a pipeline of theirs
// could not deploy either.
func TestARetryThatIsNotAllowedDoesNotFallBack(t *testing.T) {
	performLive(t, sandbox.Past{}, func(s *stage, _ int64) {
		s.request.Fallback = rotator.RedeployPipeline
		s.EditProject(4711, func(p *sandbox.Project) { p.Guarded = []string{"production"} })
		s.wants(s.run(), rotator.StatusFailed, "403 Forbidden", "both keys work")
		if n := s.count("gitlab.POST pipeline"); n != 0 {
			t.Errorf("%d pipelines were started", n)
		}
	})
}

// A rotation in flight takes another way to redeploy by force, in either direction.
func TestForceChangesTheWayToRedeploy(t *testing.T) {
	ways := []string{rotator.RedeployDeployment, rotator.RedeployPipeline}
	for i, first := range ways {
		t.Run("from "+first, func(t *testing.T) {
			performLive(t, sandbox.Past{}, func(s *stage, _ int64) {
				old := s.Key.ID
				s.request.Redeploy = first
				s.QueueOutcomes(4711, sandbox.Failed)
				s.wants(s.run(), rotator.StatusFailed)
				s.request.Redeploy = ways[1-i]
				if d := s.wants(s.forced(), rotator.StatusRotated).Deployment; (d.Kind == "deployment") != (i == 1) {
					t.Errorf("the deployment is %+v", d)
				}
				if _, there := (statuses{s.works(): active})[old]; there || s.liveKey() != s.works() {
					t.Errorf("live is %s", s.liveKey())
				}
			})
		})
	}
}

func TestProtectedVariablesNeedTheLiveRefToBeProtected(t *testing.T) {
	performLive(t, sandbox.Past{Ref: "feature"}, func(s *stage, _ int64) {
		s.EditVariable(4711, secretVariable, "*", func(v *sandbox.Variable) { v.Protected = true })
		s.quiet(func() { s.wants(s.run(), rotator.StatusRefused, "feature is not a protected branch or tag") })
	})
}
