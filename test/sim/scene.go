package sim

import (
	"time"

	"credential-rotator/test/sandbox"
)

// scene is a beginning, and the bounds within which every story is played.
type scene struct {
	name    string
	world   func(*sandbox.Options) // what is different from sandbox.Lifelike
	set     func(*play)            // what is different from a service whose key is due
	between func(*play)            // what happens before every further run

	runs     int // how many begin at once; 0 is 1
	faults   int // how many calls may go wrong, of these and of the following runs
	switches int // how often another run may move than would by itself
	acts     int // how often a person may do one of people
	fates    alphabet
	people   []act

	runTime time.Duration // of one run; 0 is Lambda's longest
	tick    time.Duration // between one run and the next; 0 is the follow-up rule's
	maxRuns int           // within so many runs the world must be healed
	spare   int           // keys that are nobody's to retire, and so are left
	asks    bool          // it may end by asking for a person
	apart   bool          // IAM's clock and GitLab's differ from ours
}

// act is something that a person does.
type act struct {
	name string
	do   func(*play)
}

// withDefaults fills in what a scene does not say.
func (sc scene) withDefaults() *scene {
	if sc.fates.reads == nil && sc.fates.writes == nil {
		sc.fates = everyFate()
	}
	if sc.runTime == 0 {
		sc.runTime = runTime
	}
	if sc.tick == 0 {
		sc.tick = tick
	}
	if sc.maxRuns == 0 {
		// A lost create is waited for ORPHAN_AGE, four ticks, and a crash holds the
		// lease for three; a fault more may cost as much again.
		sc.maxRuns = 8 + 8*(sc.faults+sc.acts) + sc.runs
	}
	return &sc
}

// begin makes the world of the scene.
func (sc *scene) begin() *sandbox.Scene {
	o := sandbox.Lifelike()
	if sc.world != nil {
		sc.world(&o)
	}
	return sandbox.NewScene(o)
}
