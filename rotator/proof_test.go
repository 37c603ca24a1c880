package rotator_test

import (
	"strings"
	"testing"
	"time"

	"credential-rotator/rotator"
	"credential-rotator/test/sandbox"
)

// What may be taken for a proof that the new key arrived, and is none.

// runsWith is the key that each deploy job (by name) of a project has deployed last.
func (s *stage) runsWith(project int64) map[string]string {
	last, at := map[string]string{}, map[string]time.Time{}
	for _, pl := range s.Pipelines(project) {
		for _, j := range pl.Jobs {
			if j.Status == "success" && j.KeyID != "" && !j.Finished.Before(at[j.Name]) {
				last[j.Name], at[j.Name] = j.KeyID, j.Finished
			}
		}
	}
	return last
}

// lives tells of a job's service that its key still works.
func (s *stage) lives(job string) {
	s.t.Helper()
	id := s.runsWith(4711)[job]
	for _, k := range s.Keys(serviceUser) {
		if k.ID == id && k.Status == rotator.KeyActive {
			return
		}
	}
	s.t.Errorf("what %s has deployed runs with %s, and the keys are %+v", job, id, s.Keys(serviceUser))
}

func TestHalfOfOurPipelineIsNoProof(t *testing.T) {
	t.Run("another job to that environment fails", func(t *testing.T) {
		perform(t, func(s *stage) {
			s.EditProject(4711, func(p *sandbox.Project) {
				p.Pipeline = []sandbox.JobSpec{
					{Name: "deploy-web", Stage: "deploy", Environment: "production"},
					{Name: "deploy-api", Stage: "deploy", Environment: "production"},
				}
			})
			s.RunPipeline(4711, "main")
			time.Sleep(time.Minute)
			s.QueueOutcomes(4711, sandbox.Failed) // deploy-web fails, deploy-api does not
			s.is(s.run(), rotator.StatusFailed)
			s.lives("deploy-web")
			s.is(s.run(), rotator.StatusRotated)
			s.lives("deploy-web")
		})
	})
	t.Run("another job to that environment waits for somebody", func(t *testing.T) {
		perform(t, func(s *stage) {
			s.EditProject(4711, func(p *sandbox.Project) {
				p.Pipeline = []sandbox.JobSpec{
					{Name: "deploy-canary", Environment: "production"},
					{Name: "deploy-fleet", Environment: "production", Manual: true},
				}
			})
			s.RunPipeline(4711, "main")
			time.Sleep(time.Minute)
			s.play("deploy-fleet")
			s.is(s.run(), rotator.StatusWaiting)
			s.lives("deploy-fleet")
			s.play("deploy-fleet")
			s.is(s.run(), rotator.StatusRotated)
			s.lives("deploy-fleet")
		})
	})
}

// play starts a manual job of the newest pipeline, and sees it end.
func (s *stage) play(name string) {
	all := s.Pipelines(4711)
	for _, j := range all[len(all)-1].Jobs {
		if j.Name == name {
			s.PlayJob(j.ID)
		}
	}
	time.Sleep(time.Minute)
}

func (s *stage) is(r rotator.Result, want rotator.Status) {
	s.t.Helper()
	if r.Status != want {
		s.t.Fatalf("%s: %s, want %s", r.Status, r.Reason, want)
	}
}

// twoServices are deployed to one environment, by one job, which an input chooses.
func (s *stage) twoServices() {
	s.EditProject(4711, func(p *sandbox.Project) {
		p.Inputs = []string{"service=web"}
		p.Pipeline = []sandbox.JobSpec{{Name: "deploy-$[[ inputs.service ]]", Environment: "production"}}
	})
	s.request.Environment = ""
	for _, service := range []string{"api", "web"} {
		s.request.Redeploys = append(s.request.Redeploys, rotator.ProjectWay{Way: rotator.Way{
			Redeploy: rotator.RedeployPipeline, Environment: "production", Inputs: map[string]any{"service": service},
		}})
	}
}

func TestADeploymentOfAnotherServiceIsNoProof(t *testing.T) {
	t.Run("somebody's", func(t *testing.T) {
		perform(t, func(s *stage) {
			s.twoServices()
			s.QueueOutcomes(4711, sandbox.Failed)
			s.is(s.run(), rotator.StatusFailed)
			s.RunPipeline(4711, "main") // deploys web
			time.Sleep(time.Minute)
			s.is(s.run(), rotator.StatusRotated)
			s.lives("deploy-api")
		})
	})
	t.Run("that of the redeploy before it", func(t *testing.T) {
		perform(t, func(s *stage) {
			s.twoServices()
			s.QueueOutcomes(4711, sandbox.Success, sandbox.Manual)
			time.Sleep(time.Minute)
			s.is(s.run(), rotator.StatusWaiting)
			s.play("deploy-web")
			s.is(s.run(), rotator.StatusRotated)
			s.lives("deploy-web")
		})
	})
}

// secondUser is another IAM user of the same project, with variables of its own names.
func (s *stage) secondUser() rotator.Request {
	s.AddUser(sandbox.User{Name: "svc-web", Tags: map[string]string{sandbox.BindingTag: "4711"}})
	pair := s.CreateKey("svc-web", 84*day)
	s.SetVariable(4711, sandbox.Variable{Key: "WEB_KEY", Value: pair.ID, Masked: true})
	s.SetVariable(4711, sandbox.Variable{Key: "WEB_SECRET", Value: pair.Secret.Reveal(), Masked: true})
	r := s.request
	r.User, r.AccessKeyIDVariable, r.SecretAccessKeyVariable = "svc-web", "WEB_KEY", "WEB_SECRET"
	return r
}

func TestThePipelineOfAnotherRotationIsNotTakenForOurs(t *testing.T) {
	for name, fate := range map[string]sandbox.Fate{"the run dies before it asks for its own": sandbox.CrashBefore, "its own is refused": sandbox.Refused} {
		for _, environment := range []string{"", "production"} {
			t.Run(name+" in "+environment, func(t *testing.T) {
				perform(t, func(s *stage) {
					s.EditProject(4711, func(p *sandbox.Project) {
						p.Inputs = []string{"service=none"}
						p.Pipeline = []sandbox.JobSpec{{Name: "deploy-$[[ inputs.service ]]", Environment: "production"}}
					})
					web := s.secondUser()
					web.Environment, web.Inputs = environment, map[string]any{"service": "web"}
					s.request.Environment, s.request.Inputs = environment, map[string]any{"service": "api"}
					s.every = once("gitlab.POST pipeline", fate)
					s.run()
					s.every = nil
					s.is(s.advance(s.rotator(), web), rotator.StatusRotated)
					time.Sleep(20 * time.Minute)
					s.is(s.run(), rotator.StatusRotated)
					s.lives("deploy-api")
				})
			})
		}
	}
}

func TestALiveCommitWhosePipelineFailedIsDeployedByNoOther(t *testing.T) {
	const live, head = "a94a8fe5ccb19ba61c4c0873d391e987982fbbd3", "de9f2c7fd25e1b3afad3e85a0bd17d9b100db4b3"
	perform(t, func(s *stage) {
		s.EditProject(4711, func(p *sandbox.Project) { p.Refs = []sandbox.Ref{{Name: "main", SHA: live, Protected: true}} })
		s.Deployed(4711, sandbox.Past{Job: deployJob(), Ago: time.Hour, Archived: true})
		s.Commit(4711, "main", head)
		s.request.Redeploy, s.request.Fallback = rotator.RedeployDeployment, rotator.FallbackLiveCommit
		s.QueueOutcomes(4711, sandbox.Failed)
		s.every = once("gitlab.POST pipeline", sandbox.CrashAfter)
		s.run()
		time.Sleep(20 * time.Minute)
		untagged := false
		s.every = func(c sandbox.Call) sandbox.Fate { // the run dies when it has removed the tag and saved that
			if untagged && c.Name == "journal.Save" && s.Record(serviceUser).Tag == "" {
				return sandbox.CrashBefore
			}
			untagged = untagged || c.Name == "gitlab.DELETE tag"
			return sandbox.OK
		}
		s.run()
		s.every = nil
		time.Sleep(20 * time.Minute)
		s.is(s.run(), rotator.StatusFailed)
		s.is(s.run(), rotator.StatusRotated)
		for _, pl := range s.Pipelines(4711) {
			if pl.Source == "api" && pl.SHA != live {
				t.Errorf("pipeline %d deployed %.8s, and live is %.8s, which alone was to be deployed", pl.ID, pl.SHA, live)
			}
		}
	})
}

func TestAKeyThatWasPublishedIsNoneThatNobodyKnows(t *testing.T) {
	perform(t, func(s *stage) {
		s.every = failing("gitlab.GET jobs", sandbox.Refused) // after publishing
		s.is(s.run(), rotator.StatusFailed)
		s.every = nil
		s.RunPipeline(4711, "main") // the new key is live
		time.Sleep(time.Hour)
		for v, value := range map[string]string{idVariable: s.Key.ID, secretVariable: s.Key.Secret.Reveal()} { // and somebody writes the old one back
			s.EditVariable(4711, v, "*", func(v *sandbox.Variable) { v.Value, v.Description = value, "" })
		}
		s.is(s.run(), rotator.StatusHeld)
		s.lives("deploy")
	})
}

func TestHalfAPairThatSomebodyHasReplacedIsNotWrittenOver(t *testing.T) {
	perform(t, func(s *stage) {
		s.every = failing("gitlab.PUT variable "+idVariable, sandbox.Refused)
		s.is(s.run(), rotator.StatusFailed)
		s.every = nil
		s.AddUser(sandbox.User{Name: "svc-spare"})
		spare := s.CreateKey("svc-spare", 0)
		s.EditVariable(4711, idVariable, "*", func(v *sandbox.Variable) { v.Value = spare.ID })
		s.EditVariable(4711, secretVariable, "*", func(v *sandbox.Variable) { v.Value = spare.Secret.Reveal() })
		time.Sleep(time.Hour)
		r := s.run()
		if s.is(r, rotator.StatusHeld); !strings.Contains(r.Reason, spare.ID) {
			t.Errorf("it does not say what is there: %s", r.Reason)
		}
		s.forced()
		if v, _ := s.Variable(4711, idVariable, "*"); v.Value == s.Record(serviceUser).NewKeyID || v.Value != spare.ID {
			t.Errorf("by force it has put %s beside the secret of %s", v.Value, spare.ID)
		}
	})
}
