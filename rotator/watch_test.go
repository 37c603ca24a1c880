package rotator_test

import (
	"testing"
	"time"

	"credential-rotator/rotator"
	"credential-rotator/test/sandbox"
)

// elapsed is what watchers of a run are told that its steps took, by step.
func (s *stage) elapsed(want rotator.Status) map[rotator.Step]time.Duration {
	s.t.Helper()
	took := map[rotator.Step]time.Duration{}
	r := s.rotator()
	r.Watch = func(p rotator.Progress) {
		if p.State == rotator.StepDone || p.State == rotator.StepFailed {
			took[p.Step] = p.Elapsed
		}
	}
	s.wants(s.advance(r, s.request), want)
	return took
}

func TestADeploymentTakesAsLongAsItTakesAndNotAsLongAsTheLastLookAtIt(t *testing.T) {
	perform(t, func(s *stage) {
		s.QueueOutcomes(4711, sandbox.Failed)
		if took := s.elapsed(rotator.StatusFailed); took[rotator.StepAwait] < 10*time.Second {
			t.Errorf("the deployment that failed took %s", took[rotator.StepAwait])
		}
	})
	perform(t, func(s *stage) {
		took := s.elapsed(rotator.StatusRotated)
		if took[rotator.StepAwait] < 10*time.Second || took[rotator.StepProve] != 17*time.Second || took[rotator.StepDelete] != 0 {
			t.Errorf("the deployment took %s, proving %s, deleting %s", took[rotator.StepAwait], took[rotator.StepProve], took[rotator.StepDelete])
		}
	})
}

func TestEveryStepTellsWhichRotationItBelongsTo(t *testing.T) {
	perform(t, func(s *stage) {
		var told []rotator.Progress
		r := s.rotator()
		r.Watch = func(p rotator.Progress) { told = append(told, p) }
		result := s.wants(s.advance(r, s.request), rotator.StatusRotated)
		for i, p := range told[1:] { // when the first one, begin, is started, there is no id yet
			if p.RotationID != result.RotationID || p.User != serviceUser {
				t.Errorf("%d: %s %s is of rotation %q of %s, want %s", i+1, p.Step, p.State, p.RotationID, p.User, result.RotationID)
			}
		}
		if last := told[len(told)-1]; last.Step != rotator.StepDelete || last.State != rotator.StepDone || told[0].Step != rotator.StepBegin {
			t.Errorf("from %s to %s %s", told[0].Step, last.Step, last.State)
		}
	})
}

func TestADeploymentIsTimedAcrossRuns(t *testing.T) {
	perform(t, func(s *stage) {
		s.QueueOutcomes(4711, sandbox.Manual)
		if took, told := s.elapsed(rotator.StatusWaiting)[rotator.StepAwait]; told {
			t.Errorf("a deployment under way took %s", took)
		}
		time.Sleep(time.Hour)
		s.PlayJob(s.Pipelines(4711)[0].Jobs[0].ID)
		if took := s.elapsed(rotator.StatusRotated); took[rotator.StepAwait] < time.Hour || took[rotator.StepAwait] > 2*time.Hour {
			t.Errorf("a deployment that waited an hour for a person took %s", took[rotator.StepAwait])
		}
	})
}
