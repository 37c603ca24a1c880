package rotator_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"credential-rotator/rotator"
	"credential-rotator/test/sandbox"
)

const (
	day            = 24 * time.Hour
	serviceUser    = "svc-billing"
	idVariable     = "AWS_ACCESS_KEY_ID"
	secretVariable = "AWS_SECRET_ACCESS_KEY"
)

// stage is a scene on which runs follow each other, and what they said.
type stage struct {
	*sandbox.Scene
	t       *testing.T
	request rotator.Request
	// every is given to each run; nil lets all calls pass.
	every    func(sandbox.Call) sandbox.Fate
	deadline time.Duration
	runs     int
}

// perform plays in fake time, in a world like the real one, and asks at the end
// whether the promise was kept and no secret was told.
func perform(t *testing.T, play func(s *stage)) {
	t.Helper()
	performIn(t, sandbox.Lifelike(), play)
}

func performIn(t *testing.T, o sandbox.Options, play func(s *stage)) {
	t.Helper()
	outer := t
	synctest.Test(t, func(t *testing.T) {
		s := &stage{Scene: sandbox.NewScene(o), t: t, deadline: 15 * time.Minute}
		s.request = s.Request()
		defer func() {
			for _, v := range s.Violations() {
				t.Error(v)
			}
			if !t.Failed() && !outer.Failed() {
				return
			}
			for _, c := range s.Calls() {
				t.Log(c)
			}
		}()
		play(s)
	})
}

// rotator is a new process.
func (s *stage) rotator() *rotator.Rotator {
	s.runs++
	return process(s.Run(fmt.Sprint(s.runs)).Intercept(s.every))
}

// run is one run.
func (s *stage) run() rotator.Result {
	s.t.Helper()
	return s.advance(s.rotator(), s.request)
}

func (s *stage) advance(r *rotator.Rotator, request rotator.Request) rotator.Result {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), s.deadline)
	defer cancel()
	result, err := r.Advance(ctx, request)
	s.proper(result, err)
	return result
}

// forced is one run with force.
func (s *stage) forced() rotator.Result {
	s.t.Helper()
	request := s.request
	request.Force = true
	return s.advance(s.rotator(), request)
}

// proper is what holds for every answer.
func (s *stage) proper(result rotator.Result, err error) {
	s.t.Helper()
	var (
		refused *rotator.RefusedError
		failed  *rotator.FailedError
	)
	if errors.As(err, &refused) != (result.Status == rotator.StatusRefused) || errors.As(err, &failed) != (result.Status == rotator.StatusFailed) || (err != nil) != (refused != nil || failed != nil) {
		s.t.Errorf("status %s comes with the error %v", result.Status, err)
	}
	if err != nil && !strings.Contains(err.Error(), result.Reason) {
		s.t.Errorf("the reason is %q, the error %q", result.Reason, err)
	}
	if result.Reason == "" || result.User == "" || result.ProjectID == 0 {
		s.t.Errorf("the result says too little: %+v", result)
	}
	if result.Warnings == nil || result.Steps == nil {
		s.t.Errorf("%s: warnings are null: %t, steps are null: %t", result.Status, result.Warnings == nil, result.Steps == nil)
	}
	written, jsonErr := json.Marshal(result)
	if leaks := s.LeaksIn(string(written)); len(leaks) > 0 || jsonErr != nil {
		s.t.Errorf("the result says %v (%v)", leaks, jsonErr)
	}
}

// wants asks for a status and the decisive words of its reason.
func (s *stage) wants(result rotator.Result, status rotator.Status, says ...string) rotator.Result {
	s.t.Helper()
	if result.Status != status {
		s.t.Fatalf("it is %s: %s, want %s", result.Status, result.Reason, status)
	}
	for _, words := range says {
		if !strings.Contains(result.Reason, words) {
			s.t.Errorf("the reason is %q, want %q in it", result.Reason, words)
		}
	}
	return result
}

func (s *stage) warns(result rotator.Result, says ...string) {
	s.t.Helper()
	warnings := strings.Join(result.Warnings, "\n")
	for _, words := range says {
		if !strings.Contains(warnings, words) {
			s.t.Errorf("warnings are %q, want %q in them", warnings, words)
		}
	}
}

// quiet tells whether what is done writes nothing anywhere.
func (s *stage) quiet(what func()) {
	s.t.Helper()
	before := len(s.Calls())
	what()
	for _, c := range s.Calls()[before:] {
		if c.Write {
			s.t.Errorf("it wrote: %s", c)
		}
	}
}

// has asks which keys there are, as their status by id.
func (s *stage) has(want map[string]rotator.KeyStatus) {
	s.t.Helper()
	got := map[string]rotator.KeyStatus{}
	for _, k := range s.Keys(serviceUser) {
		got[k.ID] = k.Status
	}
	if diff := cmp.Diff(want, got); diff != "" {
		s.t.Errorf("the keys (-want +got):\n%s", diff)
	}
}

// works asks that a pair is published which works, and names it.
func (s *stage) works() string {
	s.t.Helper()
	id, state := s.Pair(s.Service)
	if state != sandbox.PairWorks {
		s.t.Errorf("the published pair %s is %s", id, state)
	}
	return id
}

func (s *stage) notices() (kinds []rotator.Notice) {
	for _, n := range s.Notices() {
		kinds = append(kinds, n.Notice)
	}
	return kinds
}

func (s *stage) told(want ...rotator.Notice) {
	s.t.Helper()
	if diff := cmp.Diff(want, s.notices()); diff != "" {
		s.t.Errorf("notices (-want +got):\n%s", diff)
	}
}

// count is how often a call was made.
func (s *stage) count(name string) int {
	n := 0
	for _, c := range s.Calls() {
		if c.Name == name {
			n++
		}
	}
	return n
}

// released asks that nobody holds the lease.
func (s *stage) released() {
	s.t.Helper()
	if l := s.Record(serviceUser).Lease; l.Held(time.Now()) {
		s.t.Errorf("the lease is held until %s", l.Until)
	}
}

// due is the setting's key once more in the way of age: another 84 days pass.
func (s *stage) days(n int) { time.Sleep(time.Duration(n) * day) }

const (
	active   = rotator.KeyActive
	inactive = rotator.KeyInactive
)

type statuses = map[string]rotator.KeyStatus

func TestARotationIsDoneInOneRunAndNothingIsLeftToDo(t *testing.T) {
	perform(t, func(s *stage) {
		result := s.wants(s.run(), rotator.StatusRotated, s.Key.ID+" was 84 days old")
		s.has(statuses{s.works(): active})
		if result.PreviousKeyID != s.Key.ID || result.CurrentKeyID != s.works() || result.CurrentKeyID == s.Key.ID {
			t.Errorf("from %s to %s, and %s is published", result.PreviousKeyID, result.CurrentKeyID, s.works())
		}
		if due := result.NextDue; due == nil || time.Until(*due).Round(day) != 83*day {
			t.Errorf("the next is due at %v", due)
		}
		if d := result.Deployment; d == nil || d.Kind != "pipeline" || d.ID == 0 || d.URL == "" || d.Status != "success" {
			t.Errorf("the deployment is %+v", d)
		}
		if len(result.Warnings) > 0 || result.SoakUntil != nil {
			t.Errorf("warnings %q, soak until %v", result.Warnings, result.SoakUntil)
		}
		var did []rotator.Step
		for _, step := range result.Steps {
			did = append(did, step.Step)
		}
		want := []rotator.Step{"create", "prove", "publish_secret", "publish_key_id", "redeploy", "await", "deactivate", "delete"}
		if diff := cmp.Diff(want, did); diff != "" {
			t.Errorf("steps (-want +got):\n%s", diff)
		}
		s.told(rotator.NoticeStarted, rotator.NoticeSucceeded)
		if h := s.History(); len(h) != 1 || h[0].User != serviceUser || h[0].Result.Status != rotator.StatusRotated || h[0].Result.RotationID != result.RotationID {
			t.Errorf("the history is %+v", h)
		}
		s.released()
		s.quiet(func() {
			again := s.wants(s.run(), rotator.StatusNotDue, "0 days old", "due on")
			if again.CurrentKeyID != s.works() || again.NextDue == nil || !again.NextDue.Equal(*result.NextDue) {
				t.Errorf("%s is due at %v, want %v", again.CurrentKeyID, again.NextDue, result.NextDue)
			}
			if len(again.Steps) > 0 || again.RotationID != "" || again.Deployment != nil {
				t.Errorf("nothing was done, and it says %+v", again)
			}
		})
	})
}

func TestASecondRotationRetiresTheKeyOfTheFirst(t *testing.T) {
	perform(t, func(s *stage) {
		first := s.wants(s.run(), rotator.StatusRotated)
		s.days(82)
		s.wants(s.run(), rotator.StatusNotDue)
		s.days(1)
		second := s.wants(s.run(), rotator.StatusRotated, first.CurrentKeyID+" was 83 days old")
		s.has(statuses{second.CurrentKeyID: active})
		if n := len(second.Steps); n != len(first.Steps) || second.RotationID == first.RotationID {
			t.Errorf("the second has %d steps of the first's %d, and the id %s after %s", n, len(first.Steps), second.RotationID, first.RotationID)
		}
	})
}

func TestAfterASoakTheOldKeyIsDeleted(t *testing.T) {
	perform(t, func(s *stage) {
		s.request.SoakHours = 48
		result := s.wants(s.run(), rotator.StatusRotated, "84 days old", s.Key.ID+" is inactive", "deleted from")
		next := s.works()
		s.has(statuses{s.Key.ID: inactive, next: active})
		if result.SoakUntil == nil || time.Until(*result.SoakUntil).Round(time.Minute) != 48*time.Hour {
			t.Errorf("it soaks until %v", result.SoakUntil)
		}
		if result.CurrentKeyID != next || result.PreviousKeyID != s.Key.ID {
			t.Errorf("from %s to %s", result.PreviousKeyID, result.CurrentKeyID)
		}
		s.told(rotator.NoticeStarted, rotator.NoticeSucceeded)
		s.released()
		for time.Until(*result.SoakUntil) > 7*time.Hour {
			time.Sleep(7 * time.Hour)
			s.quiet(func() {
				waiting := s.wants(s.run(), rotator.StatusWaiting, s.Key.ID+" is inactive", "force ends the soak")
				if waiting.SoakUntil == nil || !waiting.SoakUntil.Equal(*result.SoakUntil) {
					t.Errorf("it soaks until %v", waiting.SoakUntil)
				}
			})
		}
		time.Sleep(time.Until(*result.SoakUntil))
		ended := s.wants(s.run(), rotator.StatusRotated)
		s.has(statuses{next: active})
		if ended.SoakUntil != nil || ended.RotationID != result.RotationID {
			t.Errorf("at its end it says %+v", ended)
		}
		s.told(rotator.NoticeStarted, rotator.NoticeSucceeded)
		if len(s.History()) != 1 {
			t.Errorf("the history has %d lines", len(s.History()))
		}
		s.quiet(func() { s.wants(s.run(), rotator.StatusNotDue) })
	})
}

func TestAKeyThatIsBroughtBackDuringItsSoakIsKept(t *testing.T) {
	perform(t, func(s *stage) {
		s.request.SoakHours = 48
		s.wants(s.run(), rotator.StatusRotated)
		next := s.works()
		time.Sleep(10 * time.Hour)
		s.SetKeyStatus(s.Key.ID, active)
		s.wants(s.run(), rotator.StatusWaiting)
		time.Sleep(48 * time.Hour)
		for range 3 {
			s.wants(s.run(), rotator.StatusHeld, s.Key.ID+" was switched on again", "somebody needs it")
			time.Sleep(2 * time.Hour)
		}
		s.has(statuses{s.Key.ID: active, next: active})
		s.told(rotator.NoticeStarted, rotator.NoticeSucceeded, rotator.NoticeHeld)

		s.SetKeyStatus(s.Key.ID, inactive) // as the reason says
		s.AllowRetire(s.Key.ID)
		s.wants(s.run(), rotator.StatusRotated)
		s.has(statuses{next: active})
	})
}

func TestAKeyThatWasUsedBeforeItsSoakBeganIsKeptWhenIAMTellsLate(t *testing.T) {
	perform(t, func(s *stage) {
		s.request.SoakHours = 48
		s.wants(s.run(), rotator.StatusRotated)
		time.Sleep(20 * time.Minute)
		s.UseKey(s.Key.ID, "s3", "eu-central-1") // what IAM did not tell before
		time.Sleep(48 * time.Hour)
		s.wants(s.run(), rotator.StatusHeld, s.Key.ID+" was used after the deployment", "s3 in eu-central-1")
		s.request.SoakHours = 0 // whoever changes the request does not lose the last look
		s.wants(s.run(), rotator.StatusHeld, s.Key.ID+" was used after the deployment")
		s.has(statuses{s.Key.ID: inactive, s.works(): active})
	})
}

func TestForceEndsASoakAndRotatesAgain(t *testing.T) {
	perform(t, func(s *stage) {
		s.request.SoakHours = 48
		s.wants(s.run(), rotator.StatusRotated)
		first := s.works()
		time.Sleep(10 * time.Hour)
		result := s.wants(s.forced(), rotator.StatusRotated, first, "forced", first+" is inactive")
		second := s.works()
		s.has(statuses{first: inactive, second: active})
		if second == first || result.PreviousKeyID != first || result.SoakUntil == nil {
			t.Errorf("after %s it says %+v", first, result)
		}
		if len(s.History()) != 1 {
			t.Errorf("the history has %d lines, want one of the soak that was ended", len(s.History()))
		}
		s.told(rotator.NoticeStarted, rotator.NoticeSucceeded, rotator.NoticeStarted, rotator.NoticeSucceeded)
		s.quiet(func() { s.wants(s.run(), rotator.StatusWaiting) }) // the force was for that run
	})
}

func TestForceThatEndsASoakRotatesOnceAndProvesTheNewKey(t *testing.T) {
	perform(t, func(s *stage) {
		s.request.SoakHours = 48
		s.wants(s.run(), rotator.StatusRotated)
		s.request.SoakHours = 0
		before := len(s.Calls())
		s.wants(s.forced(), rotator.StatusRotated, "forced")
		s.has(statuses{s.works(): active})
		made, proven := 0, 0
		for _, c := range s.Calls()[before:] {
			switch c.Name {
			case "iam.CreateAccessKey":
				made++
			case "sts.GetCallerIdentity":
				proven++
			}
		}
		if made != 1 || proven != 3 {
			t.Errorf("%d keys were made, and asked for their identity %d times", made, proven)
		}
	})
}

func TestBothKeysWorkUntilTheOverlapEnds(t *testing.T) {
	perform(t, func(s *stage) {
		s.request.OverlapHours = 6
		s.wants(s.run(), rotator.StatusWaiting, "both keys work until the overlap ends")
		next := s.works()
		s.has(statuses{s.Key.ID: active, next: active})
		s.released()
		for range 5 {
			time.Sleep(time.Hour)
			s.quiet(func() { s.wants(s.run(), rotator.StatusWaiting, "overlap") })
		}
		time.Sleep(time.Hour)
		s.wants(s.run(), rotator.StatusRotated, "84 days old")
		s.has(statuses{next: active})
	})
}

func TestWithoutARedeployTheOverlapIsAllTheServiceHas(t *testing.T) {
	perform(t, func(s *stage) {
		s.request.Redeploy, s.request.OverlapHours, s.request.Environment = rotator.RedeployNone, 2, ""
		s.wants(s.run(), rotator.StatusWaiting, "overlap")
		next := s.works()
		s.has(statuses{s.Key.ID: active, next: active})
		s.SetLive(4711, "production", next) // the service fetches it by itself
		time.Sleep(2 * time.Hour)
		result := s.wants(s.run(), rotator.StatusRotated)
		s.has(statuses{next: active})
		if result.Deployment != nil || s.count("gitlab.POST pipeline") > 0 {
			t.Errorf("something was deployed: %+v", result.Deployment)
		}
	})
}

func TestFailedDeploymentsAreTriedThreeTimesADay(t *testing.T) {
	perform(t, func(s *stage) {
		s.QueueOutcomes(4711, sandbox.Failed, sandbox.Canceled, sandbox.Skipped, sandbox.Success)
		var next string
		for i, status := range []string{"failed", "canceled", "skipped"} {
			result := s.wants(s.run(), rotator.StatusFailed, "pipeline", "ended as "+status, "https://gitlab.example.com/", "both keys work")
			if next = s.works(); result.CurrentKeyID != next || result.PreviousKeyID != s.Key.ID {
				t.Errorf("after %d failures it is from %s to %s, and %s is published", i+1, result.PreviousKeyID, result.CurrentKeyID, next)
			}
			if d := result.Deployment; d == nil || d.Status != status {
				t.Errorf("the deployment is %+v, want it %s", d, status)
			}
			s.has(statuses{s.Key.ID: active, next: active})
			s.released()
			time.Sleep(time.Hour)
		}
		s.told(rotator.NoticeStarted, rotator.NoticeFailed, rotator.NoticeFailed, rotator.NoticeFailed)
		for range 20 {
			s.quiet(func() { s.wants(s.run(), rotator.StatusWaiting, "3 redeploys have failed", "both keys work") })
			time.Sleep(time.Hour)
		}
		if n := s.count("gitlab.POST pipeline"); n != 3 {
			t.Errorf("%d pipelines were made", n)
		}
		time.Sleep(time.Hour)
		s.wants(s.run(), rotator.StatusRotated, "84 days old")
		s.has(statuses{next: active})
		if n := s.count("iam.CreateAccessKey"); n != 1 {
			t.Errorf("%d keys were made", n)
		}
	})
}

func TestARefusedPipelineIsAnAttemptLikeAnyOther(t *testing.T) {
	perform(t, func(s *stage) {
		s.EditProject(4711, func(p *sandbox.Project) { p.Pipeline = nil })
		for range 3 {
			s.wants(s.run(), rotator.StatusFailed, "redeploy for svc-billing", "Pipeline will not run", "both keys work")
		}
		s.quiet(func() { s.wants(s.run(), rotator.StatusWaiting, "3 redeploys have failed", "Pipeline will not run") })
		s.has(statuses{s.Key.ID: active, s.works(): active})
	})
}

func TestAPipelineThatWaitsForSomebodyIsNotWaitedFor(t *testing.T) {
	perform(t, func(s *stage) {
		s.QueueOutcomes(4711, sandbox.Manual)
		began := time.Now()
		result := s.wants(s.run(), rotator.StatusWaiting, "is manual", "waits for somebody")
		if took := time.Since(began); took > time.Minute {
			t.Errorf("it waited %s", took)
		}
		if d := result.Deployment; d == nil || d.Status != "manual" || d.URL == "" {
			t.Errorf("the deployment is %+v, want it manual", d)
		}
		s.released()
		s.has(statuses{s.Key.ID: active, s.works(): active})
		s.quiet(func() { s.wants(s.run(), rotator.StatusWaiting, "is manual") })

		s.PlayJob(s.Pipelines(4711)[0].Jobs[0].ID)
		played := s.wants(s.run(), rotator.StatusRotated)
		if d := played.Deployment; d == nil || d.Status != "success" {
			t.Errorf("the deployment is %+v", d)
		}
		s.has(statuses{s.works(): active})
		if n := len(s.Pipelines(4711)); n != 1 {
			t.Errorf("there are %d pipelines", n)
		}
	})
}

func TestSomebodyElsesDeploymentServesAsWell(t *testing.T) {
	perform(t, func(s *stage) {
		s.QueueOutcomes(4711, sandbox.Manual)
		s.wants(s.run(), rotator.StatusWaiting, "is manual")
		time.Sleep(time.Hour)
		s.RunPipeline(4711, "main")
		time.Sleep(time.Minute)
		result := s.wants(s.run(), rotator.StatusRotated)
		if d := result.Deployment; d == nil || d.Kind != "deployment" || d.Status != "success" {
			t.Errorf("the deployment is %+v", d)
		}
	})
}

func TestALongDeploymentIsWaitedForAsLongAsTheRunLasts(t *testing.T) {
	o := sandbox.Lifelike()
	o.JobDuration = 25 * time.Minute
	performIn(t, o, func(s *stage) {
		s.deadline = 30 * time.Minute
		s.wants(s.run(), rotator.StatusRotated)
		s.has(statuses{s.works(): active})
	})
}

func TestADeploymentThatOutlastsARunIsFoundByTheNext(t *testing.T) {
	o := sandbox.Lifelike()
	o.JobDuration = 25 * time.Minute
	performIn(t, o, func(s *stage) {
		began := time.Now()
		s.wants(s.run(), rotator.StatusWaiting, "time is over", "a later run goes on")
		if took := time.Since(began); took > 15*time.Minute || took < 14*time.Minute {
			t.Errorf("the run took %s", took)
		}
		s.released()
		s.wants(s.run(), rotator.StatusRotated)
		if n := s.count("gitlab.POST pipeline"); n != 1 {
			t.Errorf("%d pipelines were made", n)
		}
	})
}

func TestTheFirstKeyIsMadeWithTheVariables(t *testing.T) {
	for name, protected := range map[string]bool{"protected, as the ref is": true, "open, as the ref is": false} {
		t.Run(name, func(t *testing.T) {
			perform(t, func(s *stage) {
				s.DeleteKey(s.Key.ID)
				s.DeleteVariable(4711, idVariable, "*")
				s.DeleteVariable(4711, secretVariable, "*")
				s.EditProject(4711, func(p *sandbox.Project) { p.Refs[0].Protected = protected })
				result := s.wants(s.run(), rotator.StatusRotated, "had no key")
				s.has(statuses{s.works(): active})
				if result.PreviousKeyID != "" || result.CurrentKeyID != s.works() {
					t.Errorf("from %q to %s", result.PreviousKeyID, result.CurrentKeyID)
				}
				for _, key := range []string{idVariable, secretVariable} {
					v, ok := s.Variable(4711, key, "*")
					if !ok || !v.Masked || v.Protected != protected || v.Hidden || v.Type != "env_var" {
						t.Errorf("%s is %t %+v", key, ok, v.Protected)
					}
				}
				s.quiet(func() { s.wants(s.run(), rotator.StatusNotDue) })
			})
		})
	}
}

func TestHiddenVariablesStayHidden(t *testing.T) {
	perform(t, func(s *stage) {
		hidden := map[string]string{}
		for _, key := range []string{idVariable, secretVariable} {
			s.EditVariable(4711, key, "*", func(v *sandbox.Variable) {
				v.Hidden, v.Protected, v.Raw, v.Description = true, true, true, "of the billing service"
			})
		}
		for _, rotation := range []string{"the first, without a stamp", "the second, with one"} {
			s.wants(s.forced(), rotator.StatusRotated, "forced")
			next := s.works()
			s.has(statuses{next: active})
			for _, key := range []string{idVariable, secretVariable} {
				v, _ := s.Variable(4711, key, "*")
				if !v.Hidden || !v.Masked || !v.Protected || !v.Raw || !strings.HasPrefix(v.Description, "of the billing service [credential-rotator: "+next+" ") || strings.Count(v.Description, "credential-rotator") != 1 {
					t.Errorf("%s: %s is %q, hidden %t, masked %t, protected %t, raw %t", rotation, key, v.Description, v.Hidden, v.Masked, v.Protected, v.Raw)
				}
				hidden[key] = v.Description
			}
		}
		s.quiet(func() { s.wants(s.run(), rotator.StatusNotDue) })
	})
}

// foreign puts another user's pair into the variables.
func (s *stage) foreign() rotator.KeyPair {
	s.AddUser(sandbox.User{Name: "svc-legacy"})
	pair := s.CreateKey("svc-legacy", 400*day)
	s.EditVariable(4711, idVariable, "*", func(v *sandbox.Variable) { v.Value = pair.ID })
	s.EditVariable(4711, secretVariable, "*", func(v *sandbox.Variable) { v.Value = pair.Secret.Reveal() })
	s.SetLive(4711, "production", pair.ID)
	return pair
}

func TestForeignVariablesAreReplacedByForceAndTheOwnKeyIsKept(t *testing.T) {
	perform(t, func(s *stage) {
		pair := s.foreign()
		s.quiet(func() {
			plan := s.planned(s.request)
			s.wants(plan, rotator.StatusHeld, pair.ID, "no key of user svc-billing", s.Key.ID)
		})
		s.wants(s.run(), rotator.StatusHeld, pair.ID, "force")
		s.has(statuses{s.Key.ID: active})

		result := s.wants(s.forced(), rotator.StatusRotated)
		s.warns(result, s.Key.ID+" was not published", "retire_key")
		next := s.works()
		s.has(statuses{s.Key.ID: active, next: active})
		if result.PreviousKeyID != "" {
			t.Errorf("it says that %s was retired", result.PreviousKeyID)
		}
		if k := s.Keys("svc-legacy"); len(k) != 1 || k[0].Status != active {
			t.Errorf("the keys of svc-legacy are %v", k)
		}
		s.quiet(func() { s.warns(s.wants(s.run(), rotator.StatusNotDue), s.Key.ID, "in the way") })
	})
}

func TestForeignVariablesAreReplacedByForceAndTheOwnKeyIsRetiredByName(t *testing.T) {
	perform(t, func(s *stage) {
		s.foreign()
		s.request.RetireKey = s.Key.ID
		s.AllowRetire(s.Key.ID)
		result := s.wants(s.forced(), rotator.StatusRotated)
		s.has(statuses{s.works(): active})
		if result.PreviousKeyID != s.Key.ID || len(result.Warnings) > 0 {
			t.Errorf("it retired %q, and warns %q", result.PreviousKeyID, result.Warnings)
		}
	})
}

func TestAnInactiveKeyIsDeletedToFreeItsSlot(t *testing.T) {
	perform(t, func(s *stage) {
		other := s.CreateKey(serviceUser, 200*day)
		s.SetKeyStatus(other.ID, inactive)
		result := s.wants(s.run(), rotator.StatusRotated, s.Key.ID+" was 84 days old")
		s.has(statuses{s.works(): active})
		if len(result.Steps) == 0 || result.Steps[0].Step != rotator.StepTidy {
			t.Errorf("the steps are %v, want tidy first", result.Steps)
		}
	})
}

func TestAKeyThatIsInTheWayIsRetiredOnlyByName(t *testing.T) {
	perform(t, func(s *stage) {
		other := s.CreateKey(serviceUser, 200*day)
		s.UseKey(other.ID, "s3", "eu-central-1")
		for range 2 {
			s.quiet(func() { s.wants(s.planned(s.request), rotator.StatusHeld, other.ID+" is active, not ours") })
			s.wants(s.run(), rotator.StatusHeld, other.ID+" is active, not ours", "by s3 in eu-central-1", "retire_key")
		}
		s.wants(s.forced(), rotator.StatusHeld, other.ID)
		s.has(statuses{s.Key.ID: active, other.ID: active})

		s.request.RetireKey = s.Key.ID
		s.quiet(func() { s.wants(s.run(), rotator.StatusRefused, "retire_key names "+s.Key.ID, "published") })

		s.request.RetireKey = other.ID
		s.AllowRetire(other.ID)
		s.wants(s.run(), rotator.StatusRotated, s.Key.ID+" was 84 days old")
		s.has(statuses{s.works(): active})
		s.quiet(func() { s.wants(s.run(), rotator.StatusNotDue) }) // it names what is gone
	})
}

func TestAJobThatBeganBeforePublishingIsWaitedFor(t *testing.T) {
	perform(t, func(s *stage) {
		job := s.RunningJob(4711, sandbox.JobSpec{Name: "migrate", KeyIDVariable: idVariable, SecretVariable: secretVariable}, 3*time.Hour)
		s.wants(s.run(), rotator.StatusWaiting, "migrate", "may hold "+s.Key.ID)
		next := s.works()
		s.has(statuses{s.Key.ID: active, next: active})
		s.released()
		time.Sleep(time.Hour)
		s.quiet(func() { s.wants(s.run(), rotator.StatusWaiting, "migrate") })
		time.Sleep(23 * time.Hour)
		s.wants(s.run(), rotator.StatusHeld, "migrate", "cancel them")
		s.wants(s.run(), rotator.StatusHeld, "migrate")
		s.has(statuses{s.Key.ID: active, next: active})
		s.told(rotator.NoticeStarted, rotator.NoticeHeld)

		s.EndJob(job, nil)
		s.wants(s.run(), rotator.StatusRotated)
		s.has(statuses{next: active})
	})
}

func TestTheJobThatAsksForARotationDoesNotHoldItUp(t *testing.T) {
	perform(t, func(s *stage) {
		spec := sandbox.JobSpec{Name: "rotate", KeyIDVariable: idVariable, SecretVariable: secretVariable}
		s.request.CallerJobID = s.RunningJob(4711, spec, time.Hour)
		s.NeverUses(s.request.CallerJobID)
		spec.Name = "migrate"
		other := s.RunningJob(4711, spec, 3*time.Hour)
		result := s.wants(s.forced(), rotator.StatusWaiting, "migrate")
		if strings.Contains(result.Reason, "rotate (") {
			t.Errorf("it waits for who waits for it: %s", result.Reason)
		}
		s.EndJob(other, nil)
		s.wants(s.resume()[serviceUser], rotator.StatusRotated, "forced") // who asks is in the journal
		s.has(statuses{s.works(): active})
	})
}

// A rotation that began by its schedule waits for the older job; then that job asks.
func TestAJobThatAsksWhileARotationIsInFlightDoesNotHoldItUp(t *testing.T) {
	for name, force := range map[string]bool{"in passing": false, "by force": true} {
		t.Run(name, func(t *testing.T) {
			perform(t, func(s *stage) {
				spec := sandbox.JobSpec{Name: "rotate", KeyIDVariable: idVariable, SecretVariable: secretVariable}
				job := s.RunningJob(4711, spec, time.Hour)
				s.NeverUses(job)
				s.wants(s.run(), rotator.StatusWaiting, "rotate (")
				asked := s.request
				asked.CallerJobID, asked.Force = job, force
				s.wants(s.advance(s.rotator(), asked), rotator.StatusRotated)
				s.has(statuses{s.works(): active})
			})
		})
	}
}

func TestAnOldKeyIsRetiredWhenItHasBeenQuietForAsLongAsTheOverlap(t *testing.T) {
	perform(t, func(s *stage) {
		s.request.OverlapHours = 6
		s.wants(s.run(), rotator.StatusWaiting, "overlap")
		time.Sleep(3 * time.Hour)
		s.UseKey(s.Key.ID, "s3", "eu-central-1")
		time.Sleep(3*time.Hour + time.Minute)
		s.wants(s.run(), rotator.StatusHeld, "when nothing has used it for 6 hours")
		time.Sleep(3 * time.Hour)
		s.wants(s.run(), rotator.StatusRotated)
	})
}

func TestAnOldKeyThatIsStillUsedIsHeldAndToldOnce(t *testing.T) {
	perform(t, func(s *stage) {
		s.request.OverlapHours = 6
		s.wants(s.run(), rotator.StatusWaiting)
		next := s.works()
		time.Sleep(3 * time.Hour)
		s.UseKey(s.Key.ID, "dynamodb", "eu-west-1")
		time.Sleep(3 * time.Hour)
		for range 4 {
			result := s.wants(s.run(), rotator.StatusHeld, s.Key.ID+" was used after the deployment", "by dynamodb in eu-west-1", "retire_key")
			if result.CurrentKeyID != next || result.PreviousKeyID != s.Key.ID || result.RotationID == "" {
				t.Errorf("it says %+v", result)
			}
			time.Sleep(10 * time.Minute)
		}
		s.told(rotator.NoticeStarted, rotator.NoticeHeld)
		s.wants(s.forced(), rotator.StatusHeld, "was used after")
		s.has(statuses{s.Key.ID: active, next: active})

		s.request.RetireKey = s.Key.ID
		s.wants(s.run(), rotator.StatusRotated)
		s.has(statuses{next: active})
		s.told(rotator.NoticeStarted, rotator.NoticeHeld, rotator.NoticeSucceeded)
	})
}

func TestALastUseThatCannotBeReadHoldsForThisRunOnly(t *testing.T) {
	perform(t, func(s *stage) {
		s.every = func(c sandbox.Call) sandbox.Fate {
			if c.Name == "iam.GetAccessKeyLastUsed" {
				return sandbox.Refused
			}
			return sandbox.OK
		}
		s.wants(s.run(), rotator.StatusHeld, "the last use of "+s.Key.ID+" cannot be read", "403 Forbidden")
		s.has(statuses{s.Key.ID: active, s.works(): active})
		s.every = nil
		s.wants(s.run(), rotator.StatusRotated)
	})
}

func TestVariablesThatSomebodyChangedAreHeld(t *testing.T) {
	perform(t, func(s *stage) {
		s.request.OverlapHours = 1
		s.wants(s.run(), rotator.StatusWaiting)
		next := s.works()
		s.EditVariable(4711, idVariable, "*", func(v *sandbox.Variable) { v.Value = s.Key.ID })
		s.EditVariable(4711, secretVariable, "*", func(v *sandbox.Variable) { v.Value, v.Description = s.Key.Secret.Reveal(), "" })
		time.Sleep(time.Hour)
		s.wants(s.run(), rotator.StatusHeld, "no longer hold "+next, "both keys are kept")
		s.has(statuses{s.Key.ID: active, next: active})
	})
}

func TestNearItsDeadlineARunSavesAndGivesTheLeaseBack(t *testing.T) {
	perform(t, func(s *stage) {
		s.QueueOutcomes(4711, sandbox.Stuck)
		s.deadline = time.Minute
		began := time.Now()
		s.wants(s.run(), rotator.StatusWaiting, "time is over", "a later run goes on")
		if took := time.Since(began); took > time.Minute {
			t.Errorf("it took %s of its minute", took)
		}
		s.released()
		if r := s.Record(serviceUser); r.Phase != rotator.PhaseRedeploying || r.Deployment.ID == 0 {
			t.Errorf("the record is %+v", r)
		}
		s.wants(s.run(), rotator.StatusWaiting, "time is over")
		s.CancelPipeline(s.Pipelines(4711)[0].ID)
		s.wants(s.run(), rotator.StatusFailed, "canceled")
		s.wants(s.run(), rotator.StatusRotated)
	})
}

func TestARunThatIsTooShortTouchesNothing(t *testing.T) {
	perform(t, func(s *stage) {
		s.deadline = 20 * time.Second
		s.quiet(func() {
			for range 2 {
				result := s.planned(s.request)
				s.wants(result, rotator.StatusFailed, "too short", "RUN_TIMEOUT")
			}
		})
		s.wants(s.run(), rotator.StatusFailed, "a run of 18s is too short", "RUN_TIMEOUT")
		s.has(statuses{s.Key.ID: active})
		s.told(rotator.NoticeFailed)
	})
}

func TestARunThatIsStoppedGoesOnLater(t *testing.T) {
	for _, at := range []time.Duration{0, 7 * time.Second, 12 * time.Second, 25 * time.Second, 30 * time.Second} {
		t.Run(fmt.Sprint("after ", at), func(t *testing.T) {
			o := sandbox.Lifelike()
			o.JobDuration = 20 * time.Second
			performIn(t, o, func(s *stage) {
				ctx, cancel := context.WithCancel(s.t.Context())
				if at == 0 {
					cancel()
				}
				time.AfterFunc(at, cancel)
				began := time.Now()
				result, err := s.rotator().Advance(ctx, s.request)
				cancel()
				s.proper(result, err)
				s.wants(result, rotator.StatusWaiting, "this run was stopped", "a later run goes on")
				if took := time.Since(began); took > at {
					t.Errorf("it stopped %s after it was told to", took-at)
				}
				s.released()
				s.works()
				s.wants(s.run(), rotator.StatusRotated)
				s.has(statuses{s.works(): active})
			})
		})
	}
}

func TestANotifierThatFailsIsAWarning(t *testing.T) {
	perform(t, func(s *stage) {
		s.every = func(c sandbox.Call) sandbox.Fate {
			if strings.HasPrefix(c.Name, "notifier.") {
				return sandbox.BadGateway
			}
			return sandbox.OK
		}
		result := s.wants(s.run(), rotator.StatusRotated)
		s.warns(result, "nobody was notified (Started, Succeeded): ")
		if len(result.Warnings) != 1 {
			t.Errorf("one fault is told as %q", result.Warnings)
		}
		s.has(statuses{s.works(): active})
		s.told()
	})
}

func TestAHistoryThatCannotBeWrittenIsAWarning(t *testing.T) {
	perform(t, func(s *stage) {
		s.every = func(c sandbox.Call) sandbox.Fate {
			if c.Name == "journal.Append" {
				return sandbox.Refused
			}
			return sandbox.OK
		}
		result := s.wants(s.run(), rotator.StatusRotated)
		s.warns(result, "the history lacks this rotation")
		s.quiet(func() { s.wants(s.run(), rotator.StatusNotDue) })
	})
}

func TestARunThatLosesTheRecordToAnotherStopsAtOnce(t *testing.T) {
	for n := 1; n <= 6; n++ {
		t.Run(fmt.Sprint("at its save ", n), func(t *testing.T) {
			perform(t, func(s *stage) {
				thief, saves := s.Run("thief"), 0
				s.every = func(c sandbox.Call) sandbox.Fate {
					if saves++; c.Name != "journal.Save" {
						saves--
						return sandbox.OK
					}
					if saves == n {
						stolen := s.Record(serviceUser)
						stolen.User, stolen.Lease = serviceUser, rotator.Lease{Owner: "thief", Until: time.Now().Add(10 * time.Minute)}
						if _, err := thief.Save(s.t.Context(), stolen); err != nil {
							t.Error(err)
						}
					}
					return sandbox.OK
				}
				s.wants(s.run(), rotator.StatusBusy, "another run")
				last := s.Calls()[len(s.Calls())-1]
				if last.Name != "journal.Save" || !strings.Contains(last.Err, rotator.ErrConflict.Error()) {
					t.Errorf("after it lost the record it made the call %s", last)
				}
				s.works()
				s.every = nil
				s.quiet(func() { s.wants(s.run(), rotator.StatusBusy, "another run holds") })
				time.Sleep(30 * time.Minute)
				s.wants(s.run(), rotator.StatusRotated)
				s.has(statuses{s.works(): active})
			})
		})
	}
}

// planned is a plan.
func (s *stage) planned(request rotator.Request) rotator.Result {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), s.deadline)
	defer cancel()
	result, err := s.rotator().Plan(ctx, request)
	s.proper(result, err)
	return result
}

func TestAPlanOnlyReads(t *testing.T) {
	perform(t, func(s *stage) {
		s.quiet(func() {
			plan := s.wants(s.planned(s.request), rotator.StatusWouldRotate, s.Key.ID+" is 84 days old")
			if plan.CurrentKeyID != s.Key.ID {
				t.Errorf("it says that %q is published", plan.CurrentKeyID)
			}
		})
		s.EditToken("rotator", func(t *sandbox.Token) { t.Scopes = []string{"read_api"} })
		s.quiet(func() { s.warns(s.wants(s.planned(s.request), rotator.StatusWouldRotate), "may only read") })
		s.quiet(func() { s.wants(s.run(), rotator.StatusRefused, "may only read", "scope api") })
		s.EditToken("rotator", func(t *sandbox.Token) { t.Scopes = []string{"api"} })

		other := s.CreateKey(serviceUser, 200*day)
		s.SetKeyStatus(other.ID, inactive)
		s.quiet(func() { s.wants(s.planned(s.request), rotator.StatusWouldRotate, other.ID) })
		s.request.SoakHours = 1
		s.wants(s.run(), rotator.StatusRotated)
		s.quiet(func() { s.wants(s.planned(s.request), rotator.StatusWaiting, "inactive") })
		time.Sleep(time.Hour)
		s.quiet(func() {
			s.wants(s.planned(s.request), rotator.StatusWouldRotate, "under way (soaking)", "soak is over")
		})
		s.wants(s.run(), rotator.StatusRotated)
		s.quiet(func() { s.wants(s.planned(s.request), rotator.StatusNotDue, "due on") })
		s.told(rotator.NoticeStarted, rotator.NoticeSucceeded)
	})
}

// The daily run of a young key asks for little, and so sees less: what it does see must
// not be told as less.
func TestAYoungKeyIsLookedAtWithoutAPreflight(t *testing.T) {
	asked := func(s *stage, run func()) int {
		before := s.count("gitlab.GET preflight")
		run()
		return s.count("gitlab.GET preflight") - before
	}
	perform(t, func(s *stage) {
		s.wants(s.run(), rotator.StatusRotated)
		ends := time.Now().Add(5 * day)
		s.EditToken("rotator", func(t *sandbox.Token) { t.Expires = ends })
		if n := asked(s, func() { s.wants(s.run(), rotator.StatusNotDue) }); n != 0 {
			t.Errorf("it made %d preflights", n)
		}
		if n := asked(s, func() { s.warns(s.planned(s.request), "the token expires on") }); n != 1 {
			t.Errorf("a plan made %d preflights", n)
		}
		s.EditVariable(4711, idVariable, "*", func(v *sandbox.Variable) { v.Description = strings.Repeat("x", 250) })
		if n := asked(s, func() { s.wants(s.run(), rotator.StatusRefused, "leaves no room for the stamp") }); n != 1 {
			t.Errorf("what is wrong was looked at by %d preflights", n)
		}
		s.days(6)
		result := s.wants(s.run(), rotator.StatusRefused, "GitLab does not accept the token")
		if strings.Contains(result.Reason, "401") {
			t.Errorf("it is told twice: %s", result.Reason)
		}
	})
}

func TestWhatIsRefusedTouchesNothing(t *testing.T) {
	cases := map[string]struct {
		spoil func(s *stage)
		says  []string
	}{
		"a user that is not bound": {func(s *stage) { s.TagUser(serviceUser, sandbox.BindingTag, "4712") }, []string{"not to project 4711"}},
		"a user of two projects":   {func(s *stage) { s.TagUser(serviceUser, sandbox.BindingTag, "4711 4712") }, []string{"does not cover 4712"}},
		"no such user":             {func(s *stage) { s.request.User = "svc-gone" }, []string{"svc-gone cannot be found"}},
		"no such project":          {func(s *stage) { s.request.ProjectID = 4712; s.TagUser(serviceUser, sandbox.BindingTag, "4712") }, []string{"no project 4712"}},
		"a request that is wrong":  {func(s *stage) { s.request.MaxAgeDays = 400 }, []string{"max_age_days must be 1 to 365"}},
		"a token that has expired": {func(s *stage) { s.EditToken("rotator", func(t *sandbox.Token) { t.Expires = time.Now() }) }, []string{"does not accept the token"}},
		"a role that is too low":   {func(s *stage) { s.EditToken("rotator", func(t *sandbox.Token) { t.Roles[4711] = sandbox.Developer }) }, []string{"Maintainer"}},
		"a ref that is gone":       {func(s *stage) { s.request.Ref = "release" }, []string{"no branch or tag release"}},
		"a quarantine":             {func(s *stage) { s.AttachPolicy(serviceUser, "AWSCompromisedKeyQuarantineV3") }, []string{"AWSCompromisedKeyQuarantineV3", "leaked"}},
		"protected variables, open ref": {func(s *stage) {
			s.EditVariable(4711, secretVariable, "*", func(v *sandbox.Variable) { v.Protected = true })
			s.EditProject(4711, func(p *sandbox.Project) { p.Refs[0].Protected = false })
		}, []string{secretVariable + " is protected, and main is not"}},
		"a key that is published twice": {func(s *stage) {
			s.SetVariable(4711, sandbox.Variable{Key: "BACKUP_KEY", Value: s.Key.ID})
		}, []string{"BACKUP_KEY [*] holds the key"}},
		"a description without room for a stamp": {func(s *stage) {
			s.EditVariable(4711, idVariable, "*", func(v *sandbox.Variable) { v.Description = strings.Repeat("x", 230) })
		}, []string{"no room for the stamp"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			perform(t, func(s *stage) {
				c.spoil(s)
				s.quiet(func() { s.wants(s.run(), rotator.StatusRefused, c.says...) })
				s.quiet(func() { s.wants(s.planned(s.request), rotator.StatusRefused, c.says...) })
				s.has(statuses{s.Key.ID: active})
			})
		})
	}
}

func TestAQuarantinedKeyIsReplacedByForce(t *testing.T) {
	perform(t, func(s *stage) {
		s.AttachPolicy(serviceUser, "AWSCompromisedKeyQuarantineV3")
		s.wants(s.forced(), rotator.StatusRotated, "forced")
		s.has(statuses{s.works(): active})
	})
}

func TestAUserThatWasMadeAgainIsAnotherUser(t *testing.T) {
	perform(t, func(s *stage) {
		s.wants(s.run(), rotator.StatusRotated)
		s.RecreateUser(serviceUser)
		s.quiet(func() { s.wants(s.run(), rotator.StatusRefused, "deleted and made again", "force") })
		s.wants(s.forced(), rotator.StatusRotated, "had no key")
		s.has(statuses{s.works(): active})
		s.quiet(func() { s.wants(s.run(), rotator.StatusNotDue) })
	})
}

func TestAKeyThatNeverWorksIsGivenUp(t *testing.T) {
	o := sandbox.Lifelike()
	o.PropagationDelay = time.Hour
	performIn(t, o, func(s *stage) {
		result := s.wants(s.run(), rotator.StatusFailed, "prove", "did not authenticate 3 times in a row within", "deleted")
		if strings.Count(result.Reason, "nothing was changed") > 1 {
			t.Errorf("it repeats itself: %s", result.Reason)
		}
		s.has(statuses{s.Key.ID: active})
		if s.works() != s.Key.ID || s.count("gitlab.PUT variable "+secretVariable) > 0 {
			t.Errorf("%s is published", s.works())
		}
		s.told(rotator.NoticeStarted, rotator.NoticeFailed)
		s.released()
		if r := s.Record(serviceUser); r.InFlight() {
			t.Errorf("the record is %+v", r)
		}
	})
}

func TestAPublicationThatIsRefusedTakesTheNewKeyBack(t *testing.T) {
	perform(t, func(s *stage) {
		s.every = func(c sandbox.Call) sandbox.Fate {
			if c.Name == "gitlab.PUT variable "+secretVariable {
				return sandbox.Refused
			}
			return sandbox.OK
		}
		s.wants(s.run(), rotator.StatusFailed, "publish secret", "403 Forbidden", "deleted")
		s.has(statuses{s.Key.ID: active})
		s.every = nil
		time.Sleep(time.Minute)
		result := s.wants(s.run(), rotator.StatusRotated)
		made := 0
		for _, step := range result.Steps {
			if step.Step == rotator.StepCreate {
				made++
			}
		}
		if made != 1 || len(result.Steps) != 8 {
			t.Errorf("the rotation tells of the steps of another: %v", result.Steps)
		}
	})
}

// neighbour is another service, in a project of its own, whose key is due.
func (s *stage) neighbour(name string, project int64) rotator.Request {
	s.AddUser(sandbox.User{Name: name, Tags: map[string]string{sandbox.BindingTag: fmt.Sprint(project)}})
	pair := s.CreateKey(name, 84*day)
	s.AddProject(sandbox.Project{ID: project, Path: "shop/" + name, Pipeline: []sandbox.JobSpec{{Name: "deploy", Environment: "production"}}})
	s.SetVariable(project, sandbox.Variable{Key: idVariable, Value: pair.ID, Masked: true})
	s.SetVariable(project, sandbox.Variable{Key: secretVariable, Value: pair.Secret.Reveal(), Masked: true})
	s.SetLive(project, "production", pair.ID)
	s.EditToken("rotator", func(t *sandbox.Token) { t.Roles[project] = sandbox.Maintainer })
	place := s.Service.Place
	place.ProjectID = project
	s.Watch(sandbox.Service{User: name, Place: place, Environment: "production"})
	request := s.request
	request.User, request.ProjectID = name, project
	return request
}

// resume advances everything in flight, and gives the results by user.
func (s *stage) resume() map[string]rotator.Result {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), s.deadline)
	defer cancel()
	results, err := s.rotator().Resume(ctx)
	if err != nil {
		s.t.Fatal(err)
	}
	byUser := map[string]rotator.Result{}
	for _, r := range results {
		if r.Warnings == nil || r.Steps == nil || r.Reason == "" || r.ProjectID == 0 {
			s.t.Errorf("of %s it says %+v", r.User, r)
		}
		byUser[r.User] = r
	}
	if len(byUser) != len(results) {
		s.t.Errorf("of %d results some are of one user", len(results))
	}
	return byUser
}

func TestResumeAdvancesAllAndOneThatFailsStopsNoOther(t *testing.T) {
	perform(t, func(s *stage) {
		s.request.OverlapHours = 1
		if all := s.resume(); len(all) != 0 {
			t.Errorf("nothing is in flight, and it says %v", all)
		}
		users := []string{serviceUser}
		s.wants(s.run(), rotator.StatusWaiting)
		for i := range 12 { // more than are advanced at a time
			request := s.neighbour(fmt.Sprintf("svc-%02d", i), int64(5000+i))
			s.wants(s.advance(s.rotator(), request), rotator.StatusWaiting)
			users = append(users, request.User)
		}
		time.Sleep(time.Hour)
		s.EditToken("rotator", func(t *sandbox.Token) { delete(t.Roles, 5000) })
		all := s.resume()
		if got := slices.Sorted(maps.Keys(all)); !slices.Equal(got, slices.Sorted(slices.Values(users))) {
			t.Errorf("it advanced %v", got)
		}
		for name, result := range all {
			want := rotator.StatusRotated
			if name == "svc-00" {
				want = rotator.StatusFailed
			}
			s.wants(result, want)
		}
		s.EditToken("rotator", func(t *sandbox.Token) { t.Roles[5000] = sandbox.Maintainer })
		again := s.resume()
		if len(again) != 1 {
			t.Errorf("it advanced %v", again)
		}
		s.wants(again["svc-00"], rotator.StatusRotated)
	})
}

func TestResumeDoesNotRepeatForce(t *testing.T) {
	perform(t, func(s *stage) {
		s.request.OverlapHours, s.request.SoakHours = 1, 10
		s.wants(s.forced(), rotator.StatusWaiting)
		time.Sleep(time.Hour)
		s.wants(s.resume()[serviceUser], rotator.StatusRotated, "forced")
		s.quiet(func() { s.wants(s.resume()[serviceUser], rotator.StatusWaiting, "inactive") })
		if n := s.count("iam.CreateAccessKey"); n != 1 {
			t.Errorf("%d keys were made", n)
		}
	})
}

func TestWhatIsHeldIsLookedAtHourly(t *testing.T) {
	perform(t, func(s *stage) {
		s.request.OverlapHours = 6
		s.wants(s.run(), rotator.StatusWaiting)
		time.Sleep(3 * time.Hour)
		s.UseKey(s.Key.ID, "s3", "eu-central-1")
		time.Sleep(3 * time.Hour)
		held := s.wants(s.run(), rotator.StatusHeld, "was used after")
		for range 11 {
			time.Sleep(5 * time.Minute)
			before := len(s.Calls())
			again := s.wants(s.resume()[serviceUser], rotator.StatusHeld, held.Reason)
			if calls := s.Calls()[before:]; len(calls) != 1 || calls[0].Name != "journal.InFlight" {
				t.Errorf("it looked: %v", calls)
			}
			if again.RotationID != held.RotationID || again.CurrentKeyID != held.CurrentKeyID || again.PreviousKeyID != held.PreviousKeyID {
				t.Errorf("it says %+v, said %+v", again, held)
			}
		}
		time.Sleep(5 * time.Minute)
		before := len(s.Calls())
		s.wants(s.resume()[serviceUser], rotator.StatusHeld, "was used after")
		if len(s.Calls())-before < 2 {
			t.Error("after an hour it did not look")
		}
		time.Sleep(5 * time.Minute)
		before = len(s.Calls())
		s.wants(s.resume()[serviceUser], rotator.StatusHeld)
		if len(s.Calls())-before != 1 {
			t.Error("it looked again before another hour")
		}
		s.request.RetireKey = s.Key.ID // a person who asks is answered at once
		s.wants(s.run(), rotator.StatusRotated)
	})
}

// fieldsOf are the names of an object's fields.
func fieldsOf(t *testing.T, object any) []string {
	t.Helper()
	written, err := json.Marshal(object)
	if err != nil {
		t.Fatal(err)
	}
	var fields map[string]any
	if err := json.Unmarshal(written, &fields); err != nil {
		t.Fatal(err)
	}
	return slices.Sorted(maps.Keys(fields))
}

func TestTheResultReadsAsTheContractSays(t *testing.T) {
	perform(t, func(s *stage) {
		s.request.SoakHours = 1
		soaking := s.wants(s.run(), rotator.StatusRotated)
		time.Sleep(time.Hour)
		rotated := s.wants(s.run(), rotator.StatusRotated)
		notDue := s.wants(s.run(), rotator.StatusNotDue)
		s.request.ProjectID = 4712
		refused := s.wants(s.run(), rotator.StatusRefused)

		all := []string{"current_key_id", "deployment", "next_due", "previous_key_id", "project_id", "reason", "rotation_id", "status", "steps", "user", "warnings"}
		if diff := cmp.Diff(all, fieldsOf(t, rotated)); diff != "" {
			t.Errorf("rotated (-want +got):\n%s", diff)
		}
		if got := fieldsOf(t, soaking); !slices.Contains(got, "soak_until") {
			t.Errorf("soaking has %v", got)
		}
		if diff := cmp.Diff([]string{"current_key_id", "next_due", "project_id", "reason", "status", "steps", "user", "warnings"}, fieldsOf(t, notDue)); diff != "" {
			t.Errorf("not due (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]string{"project_id", "reason", "status", "steps", "user", "warnings"}, fieldsOf(t, refused)); diff != "" {
			t.Errorf("refused (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]string{"id", "kind", "status", "url"}, fieldsOf(t, rotated.Deployment)); diff != "" {
			t.Errorf("deployment (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]string{"at", "ms", "step"}, fieldsOf(t, rotated.Steps[0])); diff != "" {
			t.Errorf("a step (-want +got):\n%s", diff)
		}
		for name, result := range map[string]rotator.Result{"soaking": soaking, "rotated": rotated, "not due": notDue, "refused": refused} {
			written, _ := json.Marshal(result)
			if text := string(written); strings.Contains(text, "null") || !strings.Contains(text, `"warnings":[`) || !strings.Contains(text, `"steps":[`) {
				t.Errorf("%s: %s", name, text)
			}
		}
		var read struct {
			NextDue string `json:"next_due"`
		}
		written, _ := json.Marshal(notDue)
		if err := json.Unmarshal(written, &read); err != nil || len(read.NextDue) != len("2027-02-12T20:00:00Z") || !strings.HasSuffix(read.NextDue, "Z") {
			t.Errorf("next_due reads %q, %v", read.NextDue, err)
		}
	})
}

func TestTheRequestReadsAsTheContractSays(t *testing.T) {
	want := []string{
		"access_key_id_variable", "caller_job_id", "environment", "environment_scope", "fallback", "force", "lead_days", "max_age_days",
		"overlap_hours", "project_id", "redeploy", "ref", "retire_key", "secret_access_key_variable", "soak_hours", "user",
	}
	if diff := cmp.Diff(want, fieldsOf(t, rotator.DefaultRequest())); diff != "" {
		t.Errorf("a request (-want +got):\n%s", diff)
	}
}

func TestARequestThatIsWrongIsRefusedBeforeAnyCall(t *testing.T) {
	perform(t, func(s *stage) {
		s.request.User, s.request.MaxAgeDays = "", 400
		result, err := s.rotator().Advance(s.t.Context(), s.request)
		if result.Status != rotator.StatusRefused || err == nil || !strings.Contains(result.Reason, "user is missing") || !strings.Contains(result.Reason, "max_age_days") {
			t.Errorf("it is %+v, %v", result, err)
		}
		if n := len(s.Calls()); n > 0 {
			t.Errorf("it made %d calls", n)
		}
		if result.Warnings == nil || result.Steps == nil {
			t.Error("warnings or steps are null")
		}
	})
}

// failing is an interceptor that gives every call of a name a fate.
func failing(name string, fate sandbox.Fate) func(sandbox.Call) sandbox.Fate {
	return func(c sandbox.Call) sandbox.Fate {
		if c.Name == name {
			return fate
		}
		return sandbox.OK
	}
}

func TestAStepThatFailedIsNotAmongThoseThatWereDone(t *testing.T) {
	perform(t, func(s *stage) {
		other := s.CreateKey(serviceUser, 200*day)
		s.SetKeyStatus(other.ID, inactive)
		s.every = failing("iam.DeleteAccessKey", sandbox.Refused)
		result := s.wants(s.run(), rotator.StatusFailed, "tidy for svc-billing", "403 Forbidden", "nothing was changed")
		if len(result.Steps) > 0 {
			t.Errorf("it says that it did %v", result.Steps)
		}
		s.has(statuses{s.Key.ID: active, other.ID: inactive})
		s.released()
	})
}

func TestPipelinesOfWhichNothingIsHeardAreAttemptsToo(t *testing.T) {
	for _, fate := range []sandbox.Fate{sandbox.BadGateway, sandbox.Refused} {
		t.Run(fate.String(), func(t *testing.T) {
			perform(t, func(s *stage) {
				s.every = failing("gitlab.POST pipeline", fate)
				for range 3 {
					s.wants(s.run(), rotator.StatusFailed, "redeploy for svc-billing", "both keys work")
					time.Sleep(5 * time.Minute)
				}
				for range 10 {
					s.run()
					time.Sleep(5 * time.Minute)
				}
				if n := s.count("gitlab.POST pipeline"); n > 3 {
					t.Errorf("%d pipelines were asked for within a day", n)
				}
				s.every = nil
				time.Sleep(day)
				s.wants(s.run(), rotator.StatusRotated)
				s.has(statuses{s.works(): active})
			})
		})
	}
}

func TestAJournalThatCannotBeReadStopsEverything(t *testing.T) {
	perform(t, func(s *stage) {
		s.every = failing("journal.Load", sandbox.BadGateway)
		s.wants(s.run(), rotator.StatusFailed, sandbox.ErrLost.Error())
		s.has(statuses{s.Key.ID: active})
		s.every = failing("journal.InFlight", sandbox.BadGateway)
		if results, err := s.rotator().Resume(s.t.Context()); err == nil || len(results) > 0 {
			t.Errorf("it says %v", results)
		}
	})
}

func TestASecretThatMayBeOnItsWayIsNotOvertaken(t *testing.T) {
	perform(t, func(s *stage) {
		s.every = func(c sandbox.Call) sandbox.Fate {
			if c.Name == "gitlab.PUT variable AWS_SECRET_ACCESS_KEY" {
				return sandbox.CrashBefore
			}
			return sandbox.OK
		}
		s.run()
		s.every = nil
		time.Sleep(runTime + time.Minute) // its lease is over
		s.wants(s.run(), rotator.StatusRotated)
	})
}

func TestSomebodyElsesPairThatAppearsDuringTheProofIsKept(t *testing.T) {
	perform(t, func(s *stage) {
		s.every = func(c sandbox.Call) sandbox.Fate {
			if c.Name == "sts.GetCallerIdentity" {
				s.EditVariable(4711, "AWS_ACCESS_KEY_ID", "*", func(v *sandbox.Variable) { v.Value = "AKIAOTHEROTHEROTHER4" })
			}
			return sandbox.OK
		}
		s.wants(s.run(), rotator.StatusHeld, "AKIAOTHEROTHEROTHER4", "no key of user")
		s.has(statuses{s.Key.ID: active})
	})
}

func TestAKeyThatIAMListsThoughItWasDeletedIsInNobodysWay(t *testing.T) {
	t.Run("a new one that was discarded", func(t *testing.T) {
		perform(t, func(s *stage) {
			s.every = once("gitlab.PUT variable "+secretVariable, sandbox.Refused)
			s.wants(s.run(), rotator.StatusFailed)
			s.every = failing("iam.GetAccessKeyLastUsed "+s.Record(serviceUser).Gone[0], sandbox.Refused)
			s.wants(s.run(), rotator.StatusRotated)
		})
	})
	t.Run("an old one that was retired", func(t *testing.T) {
		perform(t, func(s *stage) {
			s.wants(s.run(), rotator.StatusRotated)
			s.wants(s.forced(), rotator.StatusRotated)
		})
	})
	t.Run("a second one that somebody has deleted", func(t *testing.T) {
		perform(t, func(s *stage) {
			second := s.CreateKey(serviceUser, 30*day)
			time.Sleep(time.Minute)
			s.DeleteKey(second.ID)
			s.wants(s.run(), rotator.StatusRotated)
		})
	})
}

// IAM does not answer, so nobody knows whether the rotation in flight is this user's.
func TestARunThatCannotSeeTheUserLeavesARotationInFlightAsItIs(t *testing.T) {
	for name, ask := range map[string]func(*rotator.Request){
		"a shorter overlap": func(r *rotator.Request) { r.OverlapHours = 1 },
		"another place":     func(r *rotator.Request) { r.EnvironmentScope = "production" },
	} {
		t.Run(name, func(t *testing.T) {
			perform(t, func(s *stage) {
				s.request.OverlapHours = 24
				s.wants(s.run(), rotator.StatusWaiting)
				before, asked := s.Record(serviceUser), s.request
				ask(&s.request)
				s.every = failing("iam.GetUser", sandbox.Refused)
				s.wants(s.run(), rotator.StatusFailed)
				s.every = nil
				now := s.Record(serviceUser)
				if diff := cmp.Diff(before.Request, now.Request); diff != "" || now.UniqueID != before.UniqueID {
					t.Errorf("%s is now %s: %s", before.UniqueID, now.UniqueID, diff)
				}
				time.Sleep(2 * time.Hour)
				s.request = asked
				s.wants(s.run(), rotator.StatusWaiting)
				s.has(statuses{s.Key.ID: active, s.works(): active})
			})
		})
	}
}

func TestWhatIsHeldStaysSoWhenNobodyCanLook(t *testing.T) {
	perform(t, func(s *stage) {
		s.request.OverlapHours = 1
		s.wants(s.run(), rotator.StatusWaiting)
		time.Sleep(2 * time.Hour)
		s.UseKey(s.Key.ID, "s3", "eu-central-1")
		s.wants(s.run(), rotator.StatusHeld)
		before := s.Record(serviceUser)
		s.every = failing("iam.GetUser", sandbox.Refused)
		s.wants(s.run(), rotator.StatusFailed)
		if now := s.Record(serviceUser); now.Held != before.Held || now.Held == "" || !now.HeldTold.Equal(before.HeldTold) {
			t.Errorf("it was held (%s), and is %q, told %s", before.Held, now.Held, now.HeldTold)
		}
	})
}

// mute says of every key that there is no such key.
type mute struct{ rotator.Users }

func (mute) LastUsed(context.Context, string) (rotator.LastUse, error) {
	return rotator.LastUse{}, fmt.Errorf("NoSuchEntity: %w", rotator.ErrNotFound)
}

func TestAKeyThatWasBelievedGoneAndIsNotIsSeenAgain(t *testing.T) {
	perform(t, func(s *stage) {
		other := s.CreateKey(serviceUser, 0)
		time.Sleep(time.Minute)
		rot := s.rotator()
		rot.Users = mute{rot.Users}
		s.wants(s.advance(rot, s.request), rotator.StatusFailed, "LimitExceeded")
		s.days(1)
		s.wants(s.run(), rotator.StatusHeld, other.ID+" is active, not ours")
	})
}
