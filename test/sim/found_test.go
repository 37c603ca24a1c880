package sim

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"credential-rotator/rotator"
	"credential-rotator/test/sandbox"
)

// What the simulator found, each as a scene of its own that can be read.

// A run that cannot look, because IAM does not answer, has something to say. It
// must not say it over the lease of the run that is at work.
func TestARunThatCannotLookLeavesTheLeaseOfAnotherAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := sandbox.NewScene(sandbox.Lifelike())
		at := func(c sandbox.Call) sandbox.Fate {
			if c.Name == "iam.CreateAccessKey" {
				advance(t, w, "second", meets("iam.GetUser", sandbox.Lost))
			}
			return sandbox.OK
		}
		result := advance(t, w, "first", at)
		keepsPromise(t, w)
		if result.Status != rotator.StatusRotated {
			t.Errorf("the first run ends with %s: %s", result.Status, result.Reason)
		}
	})
}

// Between the two writes of a pair somebody switches the new key off, and the
// second write fails. The next run sees that the key is off: it must not publish it.
func TestAKeyThatWasSwitchedOffIsNotPublished(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := sandbox.NewScene(sandbox.Lifelike())
		advance(t, w, "first", func(c sandbox.Call) sandbox.Fate {
			if c.Name != "gitlab.PUT variable "+idVariable {
				return sandbox.OK
			}
			w.SetKeyStatus(c.Detail, rotator.KeyInactive)
			return sandbox.Refused
		})
		time.Sleep(tick)
		result := advance(t, w, "second", nil)
		keepsPromise(t, w)
		if result.Status != rotator.StatusHeld {
			t.Errorf("the second run ends with %s: %s", result.Status, result.Reason)
		}
	})
}

// After a crash before the delete, somebody who needs the old key switches it on
// again. Without a soak, too, that is a word: the next run keeps it.
func TestAKeyThatWasSwitchedOnAgainAfterACrashIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := sandbox.NewScene(sandbox.Lifelike())
		advance(t, w, "first", meets("iam.DeleteAccessKey", sandbox.CrashBefore))
		w.SetKeyStatus(w.Key.ID, rotator.KeyActive)
		time.Sleep(runTime + tick)
		result := advance(t, w, "second", nil)
		keepsPromise(t, w)
		if result.Status != rotator.StatusHeld {
			t.Errorf("the second run ends with %s: %s", result.Status, result.Reason)
		}
	})
}

// meets lets one kind of call meet a fate.
func meets(name string, fate sandbox.Fate) func(sandbox.Call) sandbox.Fate {
	return func(c sandbox.Call) sandbox.Fate {
		if c.Name == name {
			return fate
		}
		return sandbox.OK
	}
}

func advance(t *testing.T, w *sandbox.Scene, name string, fates func(sandbox.Call) sandbox.Fate) rotator.Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), runTime)
	defer cancel()
	result, _ := rotatorOf(w.Run(name).Intercept(fates)).Advance(ctx, w.Request())
	return result
}

func keepsPromise(t *testing.T, w *sandbox.Scene) {
	t.Helper()
	for _, v := range w.Violations() {
		t.Error(v)
	}
	if t.Failed() {
		for _, c := range w.Calls() {
			t.Log(c)
		}
	}
}
