package rotator_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"credential-rotator/rotator"
	"credential-rotator/test/sandbox"
)

const (
	runTime = 15 * time.Minute // Lambda's longest
	// tick is how long after a run the next one comes: the follow-up rule's rate.
	tick = 5 * time.Minute
	// maxRuns bounds how long the world may take to heal: a lost create is waited
	// for ORPHAN_AGE, which is four ticks, and a crash holds the lease for three.
	maxRuns = 16
)

// TestEveryFateOfEveryCallOfACleanRotationConverges meets the i-th call of a clean
// rotation with every fate, for each i, and then lets runs follow until the world
// is healed. The promise is judged by the world after every write.
func TestEveryFateOfEveryCallOfACleanRotationConverges(t *testing.T) {
	for _, fate := range []sandbox.Fate{sandbox.Refused, sandbox.Lost, sandbox.Late, sandbox.Stalled, sandbox.CrashBefore, sandbox.CrashAfter} {
		t.Run(fate.String(), func(t *testing.T) {
			for i := 1; meetsFate(t, i, fate); i++ {
			}
		})
	}
}

// meetsFate tells whether the rotation made an i-th call.
func meetsFate(t *testing.T, i int, fate sandbox.Fate) (met bool) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := sandbox.NewScene(sandbox.Lifelike())
		var at sandbox.Call
		first := w.Run("1").Intercept(func(c sandbox.Call) sandbox.Fate {
			if c.N == i {
				met, at = true, c
				return fate
			}
			return sandbox.OK
		})
		result := advance(t, first, w.Request())
		heals(t, w, fmt.Sprintf("call %d (%s %s) was %s: %s, %s", i, at.Name, at.Detail, fate, result.Status, result.Reason))
	})
	return met
}

// advance is one run, and the time until the next.
func advance(t *testing.T, p *sandbox.Ports, request rotator.Request) rotator.Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), runTime)
	defer cancel()
	result, _ := process(p).Advance(ctx, request)
	time.Sleep(tick)
	return result
}

// heals lets runs follow until one says that nothing is due, and judges the end:
// one young key, published, working and deployed, one line of history, and nothing
// left to do.
func heals(t *testing.T, w *sandbox.Scene, story string) {
	t.Helper()
	var result rotator.Result
	for n := 2; ; n++ {
		if n > maxRuns {
			fail(t, w, story, fmt.Sprintf("no end after %d runs: %s, %s", maxRuns, result.Status, result.Reason))
			return
		}
		before := len(w.Calls())
		result = advance(t, w.Run(fmt.Sprint(n)), w.Request())
		if result.Status != rotator.StatusNotDue {
			continue
		}
		for _, c := range w.Calls()[before:] {
			if c.Write {
				fail(t, w, story, "a run after the end wrote: "+c.String())
			}
		}
		break
	}
	keyID, pair := w.Pair(w.Service)
	keys := w.Keys("svc-billing")
	switch {
	case len(w.Violations()) > 0:
		fail(t, w, story, fmt.Sprint(w.Violations()))
	case len(w.History()) != 1 && !strings.Contains(story, "journal.Append"): // one that goes wrong is a warning
		fail(t, w, story, fmt.Sprintf("the history has %d lines", len(w.History())))
	case len(keys) != 1 || keys[0].ID != keyID || keys[0].Status != rotator.KeyActive || pair != sandbox.PairWorks || keyID == w.Key.ID:
		fail(t, w, story, fmt.Sprintf("it ends with the keys %v, and the published %s, which %s", keys, keyID, pair))
	}
}

func fail(t *testing.T, w *sandbox.Scene, story, why string) {
	t.Helper()
	t.Errorf("%s\n%s", story, why)
	for _, c := range w.Calls() {
		t.Log(c)
	}
}
