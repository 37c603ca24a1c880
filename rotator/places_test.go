package rotator_test

import (
	"strings"
	"testing"
	"time"

	"credential-rotator/rotator"
	"credential-rotator/test/sandbox"
)

// second is another project with the same key, which the request covers from now on.
func (s *stage) second() {
	s.AddProject(sandbox.Project{ID: 4712, Path: "shop/search", Pipeline: []sandbox.JobSpec{{Name: "deploy", Environment: "production"}}})
	s.EditToken("rotator", func(t *sandbox.Token) { t.Roles[4712] = sandbox.Maintainer })
	s.TagUser(serviceUser, sandbox.BindingTag, "4711 4712")
	s.SetVariable(4712, sandbox.Variable{Key: idVariable, Value: s.Key.ID, Masked: true})
	s.SetVariable(4712, sandbox.Variable{Key: secretVariable, Value: s.Key.Secret.Reveal(), Masked: true})
	s.SetLive(4712, "production", s.Key.ID)
	other := s.Service
	other.Place.ProjectID = 4712
	s.Watch(other)
	first, next := s.request.Target, s.request.Target
	next.ProjectID = 4712
	s.request.Target, s.request.Destinations = rotator.Target{}, []rotator.Target{first, next}
}

// refusesWrites refuses every write of a secret from the nth on.
func refusesWrites(n int) func(sandbox.Call) sandbox.Fate {
	seen := 0
	return func(c sandbox.Call) sandbox.Fate {
		if c.Name == "gitlab.PUT variable "+secretVariable {
			if seen++; seen >= n {
				return sandbox.Refused
			}
		}
		return sandbox.OK
	}
}

func TestAGroupThatIsOnlyPublishedToIsNoProjectWhoseJobsAreAskedFor(t *testing.T) {
	perform(t, func(s *stage) {
		s.AddGroup(sandbox.Group{ID: 9, Path: "office", Licensed: true})
		s.EditToken("rotator", func(t *sandbox.Token) { t.GroupRoles = map[int64]int{9: sandbox.Owner} })
		s.TagUser(serviceUser, sandbox.BindingTag, "4711 group:9")
		s.SetGroupVariable(9, sandbox.Variable{Key: idVariable, Value: s.Key.ID, Masked: true})
		s.SetGroupVariable(9, sandbox.Variable{Key: secretVariable, Value: s.Key.Secret.Reveal(), Masked: true})
		group := s.request.Target
		group.ProjectID, group.GroupID, group.Way = 0, 9, rotator.Way{Redeploy: rotator.RedeployNone}
		s.request.Destinations, s.request.Target = []rotator.Target{s.request.Target, group}, rotator.Target{}
		s.request.OverlapHours = 1
		s.wants(s.run(), rotator.StatusWaiting, "overlap")
		time.Sleep(time.Hour)
		s.wants(s.run(), rotator.StatusRotated)
	})
}

func TestAPersonWhoWritesTheOldPairBackAndLeavesTheStampsIsNotWrittenOver(t *testing.T) {
	perform(t, func(s *stage) {
		s.second()
		s.every = refusesWrites(2)
		s.wants(s.run(), rotator.StatusFailed, "403 Forbidden")
		for name, value := range map[string]string{idVariable: s.Key.ID, secretVariable: s.Key.Secret.Reveal()} {
			s.EditVariable(4711, name, "*", func(v *sandbox.Variable) { v.Value = value })
		}
		s.every = nil
		s.wants(s.run(), rotator.StatusHeld, "somebody changed the variables")
		s.works()
		s.wants(s.forced(), rotator.StatusHeld)
		s.works()
	})
}

func TestAPersonWhoEditsACredentialsFileAndLeavesItsStampIsNotWrittenOver(t *testing.T) {
	perform(t, func(s *stage) {
		s.second()
		file := func(p rotator.KeyPair) string {
			return "[shop]\naws_access_key_id = " + p.ID + "\naws_secret_access_key = " + p.Secret.Reveal() + "\n"
		}
		s.DeleteVariable(4711, idVariable, "*")
		s.DeleteVariable(4711, secretVariable, "*")
		s.SetVariable(4711, sandbox.Variable{Key: "AWS_CREDENTIALS", Type: "file", Value: file(s.Key)})
		first := &s.request.Destinations[0]
		first.CredentialsFileVariable, first.Profile, first.AllowUnmasked = "AWS_CREDENTIALS", "shop", true
		s.Service.Place = first.Place()
		s.WatchOnly(s.Service)
		s.every = refusesWrites(1)
		s.wants(s.run(), rotator.StatusFailed, "403 Forbidden")
		s.EditVariable(4711, "AWS_CREDENTIALS", "*", func(v *sandbox.Variable) { v.Value = file(s.Key) })
		s.every = nil
		s.wants(s.run(), rotator.StatusHeld)
		s.works()
		s.wants(s.forced(), rotator.StatusHeld)
		s.works()
	})
}

func TestAPlaceThatKeepsRefusingIsToldOfOnce(t *testing.T) {
	perform(t, func(s *stage) {
		s.second()
		s.every = refusesWrites(2)
		s.wants(s.run(), rotator.StatusFailed, "403 Forbidden")
		s.every = refusesWrites(1)
		for range 3 {
			time.Sleep(5 * time.Minute)
			s.wants(s.run(), rotator.StatusFailed, "403 Forbidden")
		}
		s.told(rotator.NoticeStarted, rotator.NoticeFailed)
	})
}

func TestAnUndeployedPlaceIsNoReasonToTakeTheServiceOfAnotherForAStranger(t *testing.T) {
	perform(t, func(s *stage) {
		s.second()
		s.request.Destinations[1].Way = rotator.Way{Redeploy: rotator.RedeployNone}
		s.SetLive(4712, "production", "")
		s.request.OverlapHours = 1
		s.EditProject(4711, func(p *sandbox.Project) { p.Pipeline[0].Duration = 10 * time.Minute })
		s.every = func(c sandbox.Call) sandbox.Fate {
			if c.Name == "gitlab.POST pipeline" {
				time.AfterFunc(5*time.Minute, func() { s.UseKey(s.Key.ID, "s3", "eu-central-1") }) // the service, until it is deployed
			}
			return sandbox.OK
		}
		s.wants(s.run(), rotator.StatusWaiting, "overlap")
		time.Sleep(time.Hour)
		s.wants(s.run(), rotator.StatusRotated)
	})
}

func TestANewKeyThatSomebodyDeletesBeforeItIsEverywhereIsHeld(t *testing.T) {
	perform(t, func(s *stage) {
		s.second()
		s.every = refusesWrites(2)
		s.wants(s.run(), rotator.StatusFailed, "403 Forbidden")
		s.every = nil
		s.DeleteKey(s.Keys(serviceUser)[1].ID)
		time.Sleep(30 * time.Minute)
		result := s.wants(s.run(), rotator.StatusHeld, "is gone or not active")
		if strings.Contains(result.Reason, "both keys work") {
			t.Errorf("one of them is gone: %s", result.Reason)
		}
		s.wants(s.forced(), rotator.StatusRotated)
		s.works()
	})
}

func TestAForcedRotationWhoseRunDiedGoesOnOverTheKeyThatItWasToReplace(t *testing.T) {
	perform(t, func(s *stage) {
		s.second()
		s.AddUser(sandbox.User{Name: "other"})
		foreign := s.CreateKey("other", 90*day)
		s.SetVariable(4712, sandbox.Variable{Key: idVariable, Value: foreign.ID, Masked: true})
		s.SetVariable(4712, sandbox.Variable{Key: secretVariable, Value: foreign.Secret.Reveal(), Masked: true})
		s.SetLive(4712, "production", "")
		s.wants(s.run(), rotator.StatusHeld, "do not hold the same key")
		s.every = once("gitlab.PUT variable "+idVariable, sandbox.CrashAfter)
		s.request.Force = true
		_ = s.run()
		s.every, s.request.Force = nil, false
		time.Sleep(30 * time.Minute)
		s.wants(s.run(), rotator.StatusRotated)
	})
}

func TestAPlaceThatIsGoneIsLeftOutByForce(t *testing.T) {
	perform(t, func(s *stage) {
		s.second()
		s.every = refusesWrites(2)
		s.wants(s.run(), rotator.StatusFailed, "403 Forbidden")
		s.every = nil
		s.EditToken("rotator", func(t *sandbox.Token) { delete(t.Roles, 4712) }) // or the project is deleted
		s.DeleteVariable(4712, idVariable, "*")
		s.DeleteVariable(4712, secretVariable, "*")
		s.WatchOnly(s.Service)
		time.Sleep(10 * time.Minute)
		s.wants(s.run(), rotator.StatusFailed)
		s.request.Target, s.request.Destinations = s.request.Destinations[0], nil
		s.TagUser(serviceUser, sandbox.BindingTag, "4711")
		s.wants(s.run(), rotator.StatusRefused, "force")
		s.request.RetireKey = s.Key.ID
		s.AllowRetire(s.Key.ID)
		s.SetLive(4711, "production", "")
		s.wants(s.forced(), rotator.StatusRotated)
	})
}
