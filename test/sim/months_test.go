package sim

import (
	"flag"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"credential-rotator/test/loud"
)

var monthsSeed = flag.Uint64("sim.seed", 0, "the one half-year to play")

// TestGateHalfAYearOfSeveralServicesKeepsEveryKeyYoung plays half-years that seeds make
// up: a few, and with -sim.long as many as the budget allows.
func TestGateHalfAYearOfSeveralServicesKeepsEveryKeyYoung(t *testing.T) {
	var next, rotations, faults, calls atomic.Int64
	began := time.Now()
	goesOn := func(n int64) bool {
		switch {
		case *monthsSeed != 0:
			return n == 1
		case *longMode:
			return time.Since(began) < *longBudget/10
		}
		return n <= 12
	}
	t.Run("all", func(t *testing.T) {
		for range runtime.GOMAXPROCS(0) {
			t.Run("worker", func(t *testing.T) {
				t.Parallel()
				for n := next.Add(1); goesOn(n) && !t.Failed(); n = next.Add(1) {
					m := playMonths(t, max(uint64(n), *monthsSeed))
					rotations.Add(int64(m.rotated))
					faults.Add(int64(m.faults))
					calls.Add(int64(m.calls))
				}
			})
		}
	})
	if quiet() {
		return
	}
	loud.Say("sim: %d half-years of three services: %s rotations, %s calls, %s faults, in %s",
		next.Load()-int64(runtime.GOMAXPROCS(0)), number(rotations.Load()), number(calls.Load()), number(faults.Load()), time.Since(began).Round(100*time.Millisecond))
}

func playMonths(t *testing.T, seed uint64) (m *months) {
	synctest.Test(t, func(*testing.T) {
		m = newMonths(seed)
		m.play(183)
	})
	if len(m.wrong) == 0 {
		return m
	}
	calls := m.Calls()
	for _, c := range calls[max(0, len(calls)-300):] {
		t.Log(c)
	}
	t.Errorf("WRONG: %s\n\nto play it again:\ngo test ./test/sim -run HalfAYear -sim.seed %d", strings.Join(m.wrong, "\nWRONG: "), seed)
	return m
}
