package sim

import (
	"os"
	"runtime/debug"
	"strconv"
	"testing"
	"time"

	"credential-rotator/test/loud"
)

func TestMain(m *testing.M) {
	debug.SetGCPercent(400) // many small worlds, each soon forgotten
	began := time.Now()
	code := m.Run()
	if n := played.schedules.Load(); n > 0 && !quiet() {
		verdict := "the promise was kept in every one"
		if code != 0 {
			verdict = "THE PROMISE WAS BROKEN"
		}
		loud.Say("sim: %s schedules of %d scenes: %s runs, %s calls, %s faults, %s acts of people, in %s: %s",
			number(n), played.scenes.Load(), number(played.runs.Load()), number(played.calls.Load()), number(played.faults.Load()),
			number(played.acts.Load()), time.Since(began).Round(100*time.Millisecond), verdict)
	}
	os.Exit(code)
}

// quiet tells that somebody else counts, who plays the gate against mutants.
func quiet() bool { return os.Getenv("CREDENTIAL_ROTATOR_QUIET") != "" }

// number is a count as a person reads it: 1,234,567.
func number(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
