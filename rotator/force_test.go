package rotator_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"credential-rotator/rotator"
	"credential-rotator/test/sandbox"
)

// What force changes of a rotation in flight.

func deployingTo(environments ...string) []rotator.ProjectWay {
	var ways []rotator.ProjectWay
	for _, environment := range environments {
		ways = append(ways, rotator.ProjectWay{Way: rotator.Way{Redeploy: rotator.RedeployPipeline, Environment: environment}})
	}
	return ways
}

// stagingAndProduction are deployed to by every pipeline.
func (s *stage) stagingAndProduction(ways ...rotator.ProjectWay) {
	s.EditProject(4711, func(p *sandbox.Project) {
		p.Pipeline = []sandbox.JobSpec{{Name: "stage", Stage: "deploy", Environment: "staging"}, {Name: "deploy", Stage: "deploy", Environment: "production"}}
	})
	s.request.Environment, s.request.Redeploys = "", ways
}

func TestForceCorrectsARedeployOfSeveral(t *testing.T) {
	perform(t, func(s *stage) {
		s.stagingAndProduction(deployingTo("staging", "prodution")...)
		s.is(s.run(), rotator.StatusFailed)
		s.request.Redeploys = deployingTo("staging", "production")
		r := s.forced()
		s.is(r, rotator.StatusRotated)
		if len(r.Deployments) != 2 || r.Deployments[0].ID != 1 {
			t.Errorf("the first is not what it was: %+v", r.Deployments)
		}
	})
}

func TestForceDropsARedeployOfSeveral(t *testing.T) {
	perform(t, func(s *stage) {
		s.AddGroup(sandbox.Group{ID: 9, Path: "pay"})
		way := func(project int64) rotator.ProjectWay {
			return rotator.ProjectWay{ProjectID: project, Way: rotator.Way{Redeploy: rotator.RedeployPipeline, Environment: "production"}}
		}
		for id, path := range map[int64]string{4712: "pay/api", 4713: "pay/web"} {
			s.AddProject(sandbox.Project{ID: id, Path: path, Pipeline: []sandbox.JobSpec{{Name: "deploy", Environment: "production"}}})
		}
		secret, _ := s.Variable(4711, secretVariable, "*")
		s.SetGroupVariable(9, sandbox.Variable{Key: idVariable, Value: s.Key.ID, Masked: true})
		s.SetGroupVariable(9, sandbox.Variable{Key: secretVariable, Value: secret.Value, Masked: true})
		s.DeleteVariable(4711, idVariable, "*")
		s.DeleteVariable(4711, secretVariable, "*")
		s.EditToken("rotator", func(t *sandbox.Token) { t.GroupRoles = map[int64]int{9: sandbox.Owner} })
		s.TagUser(serviceUser, sandbox.BindingTag, "group:9")
		place := s.Service.Place
		place.ProjectID, place.GroupID = 0, 9
		s.WatchOnly(sandbox.Service{User: serviceUser, Place: place, Project: 4712, Environment: "production"})
		s.request.Target = rotator.DefaultTarget()
		s.request.GroupID, s.request.ProjectID, s.request.Redeploys = 9, 0, []rotator.ProjectWay{way(4712), way(4713)}
		s.QueueOutcomes(4713, sandbox.Failed)
		s.is(s.run(), rotator.StatusFailed)
		s.EditProject(4713, func(p *sandbox.Project) { p.Archived = true })
		s.request.Redeploys = []rotator.ProjectWay{way(4712)}
		s.is(s.forced(), rotator.StatusRotated)
	})
}

func TestForceTakesAnotherRef(t *testing.T) {
	for _, environment := range []string{"", "production"} {
		perform(t, func(s *stage) {
			s.EditProject(4711, func(p *sandbox.Project) { p.Refs = append(p.Refs, sandbox.Ref{Name: "release-1", Protected: true}) })
			s.request.Ref, s.request.Environment = "release-1", environment
			s.QueueOutcomes(4711, sandbox.Failed)
			s.is(s.run(), rotator.StatusFailed)
			s.EditProject(4711, func(p *sandbox.Project) { p.Refs = p.Refs[:1] })
			s.is(s.run(), rotator.StatusFailed)
			s.request.Ref = "main"
			s.is(s.forced(), rotator.StatusRotated)
		})
	}
}

func TestForceLeavesRedeploysThatItCannotReplace(t *testing.T) {
	kept := func(r rotator.Result) bool {
		return slices.ContainsFunc(r.Warnings, func(w string) bool { return strings.Contains(w, "stay as they are") })
	}
	for name, ways := range map[string][]rotator.ProjectWay{
		"one that is over is another": deployingTo("production", "staging"),
		"there are none":              nil,
	} {
		t.Run(name, func(t *testing.T) {
			perform(t, func(s *stage) {
				s.stagingAndProduction(deployingTo("staging", "prodution")...)
				s.is(s.run(), rotator.StatusFailed)
				s.request.Redeploys = ways
				time.Sleep(time.Hour)
				r := s.forced()
				s.is(r, rotator.StatusFailed)
				if !kept(r) {
					t.Errorf("it does not say so: %q", r.Warnings)
				}
			})
		})
	}
	t.Run("all are over", func(t *testing.T) {
		perform(t, func(s *stage) {
			s.request.OverlapHours = 24
			s.stagingAndProduction(deployingTo("staging")...)
			s.is(s.run(), rotator.StatusWaiting)
			s.request.Redeploys = deployingTo("staging", "production")
			if r := s.forced(); !kept(r) {
				t.Errorf("it does not say so: %q", r.Warnings)
			}
		})
	})
	t.Run("they are the same", func(t *testing.T) {
		perform(t, func(s *stage) {
			s.stagingAndProduction(deployingTo("staging", "production")...)
			s.QueueOutcomes(4711, sandbox.Success, sandbox.Failed)
			s.run()
			r := s.forced()
			s.is(r, rotator.StatusRotated)
			if kept(r) {
				t.Errorf("it says %q", r.Warnings)
			}
		})
	})
}

func TestForceIsKeptThoughTheRunHasToWait(t *testing.T) {
	perform(t, func(s *stage) {
		job := s.RunningJob(4711, sandbox.JobSpec{Name: "long"}, time.Hour)
		s.stagingAndProduction(deployingTo("staging", "prodution")...)
		s.is(s.run(), rotator.StatusWaiting)
		s.request.Redeploys = deployingTo("staging", "production")
		s.is(s.forced(), rotator.StatusWaiting)
		s.EndJob(job, nil)
		time.Sleep(time.Minute)
		s.request.Redeploys = nil // what is in flight is meant
		s.is(s.run(), rotator.StatusRotated)
	})
}

func TestForceThatEndsASoakIsForTheNextRotation(t *testing.T) {
	perform(t, func(s *stage) {
		s.EditProject(4711, func(p *sandbox.Project) { p.Refs = append(p.Refs, sandbox.Ref{Name: "release-2", Protected: true}) })
		s.request.SoakHours = 24
		s.is(s.run(), rotator.StatusRotated)
		time.Sleep(time.Hour)
		s.request.Ref = "release-2"
		s.forced()
		if all := s.Pipelines(4711); all[len(all)-1].Ref != "release-2" {
			t.Errorf("it ran on %s", all[len(all)-1].Ref)
		}
	})
}

func TestForceBeginsTheAttemptsAnew(t *testing.T) {
	perform(t, func(s *stage) {
		s.EditProject(4711, func(p *sandbox.Project) { p.Refs = append(p.Refs, sandbox.Ref{Name: "release-1", Protected: true}) })
		s.request.Ref = "release-1"
		s.QueueOutcomes(4711, sandbox.Failed, sandbox.Failed, sandbox.Failed)
		for range 3 {
			s.is(s.run(), rotator.StatusFailed)
		}
		s.is(s.forced(), rotator.StatusWaiting)
		s.request.Ref = "mian"
		s.warns(s.forced(), "stay as they are", "mian")
		s.request.Ref = "" // the default branch
		s.is(s.forced(), rotator.StatusRotated)
	})
}

// beforeSave lets something happen before the first save.
type beforeSave struct {
	rotator.Journal
	do func()
}

func (b *beforeSave) Save(ctx context.Context, r rotator.Record) (rotator.Record, error) {
	do := b.do
	if b.do = nil; do != nil {
		do()
	}
	return b.Journal.Save(ctx, r)
}

func TestACorrectionThatAnotherRunHasOverwrittenIsTold(t *testing.T) {
	perform(t, func(s *stage) {
		s.RunningJob(4711, sandbox.JobSpec{Name: "long"}, time.Hour)
		s.stagingAndProduction(deployingTo("staging", "prodution")...)
		s.is(s.run(), rotator.StatusWaiting)
		request, rot, other := s.request, s.rotator(), s.Run("other")
		request.Force, request.Redeploys = true, deployingTo("staging", "production")
		rot.Journal = &beforeSave{rot.Journal, func() {
			r, err := other.Load(t.Context(), serviceUser)
			if err == nil {
				_, err = other.Save(t.Context(), r)
			}
			if err != nil {
				t.Error(err)
			}
		}}
		s.warns(s.advance(rot, request), "what was forced is not in it")
	})
}

func TestForceThatStartsOverDoesSoAsItWasAsked(t *testing.T) {
	perform(t, func(s *stage) {
		s.request.OverlapHours = 24
		s.stagingAndProduction(deployingTo("staging")...)
		s.is(s.run(), rotator.StatusWaiting)
		time.Sleep(25 * time.Hour)
		s.SetKeyStatus(s.works(), rotator.KeyInactive)
		s.request.Redeploys = deployingTo("staging", "production")
		s.forced()
		if begun := s.Record(serviceUser).Request.Redeploys; len(begun) != 2 {
			t.Errorf("it begins anew by %+v", begun)
		}
	})
}

func TestForceThatIsRefusedChangesNothing(t *testing.T) {
	perform(t, func(s *stage) {
		s.stagingAndProduction(deployingTo("staging", "prodution")...)
		s.is(s.run(), rotator.StatusFailed)
		s.TagUser(serviceUser, sandbox.BindingTag, "4799")
		s.request.Redeploys = deployingTo("staging", "production")
		before := s.Record(serviceUser).Version
		s.is(s.forced(), rotator.StatusRefused)
		if s.Record(serviceUser).Version != before {
			t.Error("a run that was refused has written")
		}
	})
}

func TestForceIsLookedAtBeforeItIsTaken(t *testing.T) {
	perform(t, func(s *stage) {
		s.EditProject(4711, func(p *sandbox.Project) { p.Refs = append(p.Refs, sandbox.Ref{Name: "feature"}) })
		for _, v := range []string{idVariable, secretVariable} {
			s.EditVariable(4711, v, "*", func(v *sandbox.Variable) { v.Protected = true })
		}
		s.QueueOutcomes(4711, sandbox.Failed)
		s.is(s.run(), rotator.StatusFailed)
		s.request.Ref = "feature"
		r := s.forced()
		s.is(r, rotator.StatusRotated)
		s.warns(r, "stay as they are", "feature is not a protected branch or tag")
	})
}
