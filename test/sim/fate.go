package sim

import (
	"strings"
	"time"

	"credential-rotator/test/sandbox"
)

// frozen is a fate that only the simulator has: the run stands still before the
// call, as a machine that sleeps or a sandbox that is paused, for longer than its
// lease lasts, and then goes on. Meanwhile others move.
const frozen sandbox.Fate = -1

// dozed is the same after the call: what the run has read is old when it goes on.
const dozed sandbox.Fate = -2

// freeze is longer than runTime and the lease after it, by two ticks.
const freeze = 26 * time.Minute

// alphabet is what may become of reads and of writes, beyond going well.
type alphabet struct {
	reads, writes []sandbox.Fate
	only          string // calls with these words in their name; "" for all
	switches      bool   // and those that switch the follow-up, which nothing else rests on
}

func (a alphabet) of(c sandbox.Call) []sandbox.Fate {
	if !strings.Contains(c.Name, a.only) || a.leavesOut(c) {
		return nil
	}
	if c.Write {
		return a.writes
	}
	return a.reads
}

// leavesOut tells whether a call goes well and is nobody else's turn: most scenes leave
// the follow-up switch alone, for its calls would add to every story and change none.
func (a alphabet) leavesOut(c sandbox.Call) bool { return !a.switches && isSwitch(c) }

func isSwitch(c sandbox.Call) bool {
	return strings.HasPrefix(c.Name, "followup.") || c.Name == "journal.InFlight"
}

// everyFate leaves out nothing but what is the same by its nature: a read has no
// effect, so whether it is applied does not matter.
func everyFate() alphabet {
	return alphabet{
		reads:  []sandbox.Fate{sandbox.Refused, sandbox.Lost, sandbox.Stalled, sandbox.CrashBefore, dozed},
		writes: []sandbox.Fate{sandbox.Refused, sandbox.Lost, sandbox.Late, sandbox.Stalled, sandbox.CrashBefore, sandbox.CrashAfter, frozen, dozed},
	}
}

// anywhere is every fate of every call, the follow-up switch's too.
func anywhere() alphabet {
	a := everyFate()
	a.switches = true
	return a
}

// mostFates leaves out that a run stops at a read: it crashes, freezes or waits for
// ever there as it does at the write after it, for a read changes nothing. And it
// leaves out that a run goes on with what is old, for which one fault is enough.
func mostFates() alphabet {
	return alphabet{
		reads:  []sandbox.Fate{sandbox.Refused, sandbox.Lost},
		writes: []sandbox.Fate{sandbox.Refused, sandbox.Lost, sandbox.Late, sandbox.Stalled, sandbox.CrashBefore, sandbox.CrashAfter, frozen},
	}
}

// fewFates are the worst of them, for a quick look.
func fewFates() alphabet {
	return alphabet{
		reads:  []sandbox.Fate{sandbox.Lost},
		writes: []sandbox.Fate{sandbox.Lost, sandbox.CrashAfter, frozen},
	}
}

// fateName is a fate as a story tells it.
func fateName(f sandbox.Fate) string {
	switch f {
	case frozen:
		return "frozen for " + freeze.String()
	case dozed:
		return "done, and the run frozen after it for " + freeze.String()
	}
	return f.String()
}
