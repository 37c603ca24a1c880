package hostile

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"credential-rotator/rotator"
	"credential-rotator/test/loud"
	"credential-rotator/test/sandbox"
)

const (
	// atOnce: the runs mostly wait, for the pauses that a 429 or a 502 asks for.
	atOnce = 96
	// enough seeds that break tell what there is to tell.
	enough = 5
	// mostRuns and longest bound what a seed may take to heal; the worst so far took
	// about a third of either.
	mostRuns = 60
	longest  = 90 * time.Second
	// pause is that between two ticks.
	pause = 300 * time.Millisecond
)

var (
	theSeed = flag.Uint64("seed", 0, "the one seed to run")
	seeds   = flag.Uint64("seeds", 200, "how many seeds to run")
)

// TestTheCommandKeepsThePromiseInAHostileWorld: whatever the services do to it, and
// whenever it is killed, the command rotates the key in the end, and at no moment does
// the service lack one.
func TestTheCommandKeepsThePromiseInAHostileWorld(t *testing.T) {
	t.Parallel()
	path := program(t)
	seeds := seedsToRun()
	var runs, troubles, kills, held, broken atomic.Int64
	began := time.Now()
	var all sync.WaitGroup
	slots := make(chan struct{}, atOnce)
	for _, seed := range seeds {
		if slots <- struct{}{}; broken.Load() >= enough {
			break
		}
		all.Go(func() {
			defer func() { <-slots }()
			o := live(path, t.TempDir(), seed)
			runs.Add(int64(o.runs))
			troubles.Add(int64(o.troubles))
			kills.Add(int64(o.kills))
			for _, fault := range o.faults {
				t.Errorf("seed %d: %s", seed, fault)
			}
			if len(o.faults) == 0 {
				held.Add(1)
			} else {
				broken.Add(1)
				t.Logf("seed %d:\n%s\n\nreplay it with\n  go test ./test/hostile -count=1 -run '^%s$' -seed %d", seed, o.story, t.Name(), seed)
			}
		})
	}
	all.Wait()
	loud.Say("hostile: %d of %d seeds held; the command ran %d times, met %d troubles and was killed %d times, in %s",
		held.Load(), len(seeds), runs.Load(), troubles.Load(), kills.Load(), time.Since(began).Round(time.Second))
}

// seedsToRun are all, or the one to look at again.
func seedsToRun() []uint64 {
	if *theSeed > 0 {
		return []uint64{*theSeed}
	}
	var all []uint64
	for seed := uint64(1); seed <= *seeds; seed++ {
		all = append(all, seed)
	}
	return all
}

// outcome is what came of a seed.
type outcome struct {
	runs, troubles, kills int
	faults                []string
	story                 string
}

// live is the life of one seed: runs as ticks would start them, until the key is
// rotated and nothing is in flight, and one more.
func live(program, dir string, seed uint64) (o outcome) {
	options, hostility := habits(seed)
	s, err := newStage(program, dir, options, hostility)
	if err != nil {
		return outcome{faults: []string{err.Error()}}
	}
	defer s.server.Close()
	var kills atomic.Int64
	if hostility.Kill != nil {
		hostility.Kill = func() { kills.Add(1); s.kill() }
	}
	defer func() { o.kills = int(kills.Load()) }()
	fault := func(format string, args ...any) { o.faults = append(o.faults, fmt.Sprintf(format, args...)) }
	began := time.Now()
	for done := false; !done; {
		a, err := s.run(due)
		o.runs++
		switch {
		case err != nil:
			fault("%v", err)
			return o
		case o.runs == mostRuns || time.Since(began) > longest:
			fault("no end after %d runs and %s", o.runs, time.Since(began).Round(time.Second))
			done = true
		case a.Status == rotator.StatusRotated, a.Status == rotator.StatusNotDue:
			done = true
		case !a.killed:
			time.Sleep(pause)
		}
		o.faults = append(o.faults, a.faults...)
	}
	hostility.Calm()
	before := s.writes()
	if a, err := s.run(due); err != nil || a.Status != rotator.StatusNotDue || s.writes() != before {
		fault("when all was well, one more run answered %s (%s), with %d writes, %v", a.Status, a.Reason, s.writes()-before, err)
	}
	o.faults = append(o.faults, s.faults()...)
	o.troubles, o.story = hostility.Troubles(), s.tell(hostility.Story())
	return o
}

// habits are what a seed makes of the world: how it lags, and how hostile it is.
func habits(seed uint64) (sandbox.Options, *sandbox.Hostility) {
	rng := rand.New(rand.NewPCG(seed, 42))
	pick := func(of ...int) int { return of[rng.IntN(len(of))] }
	ms := func(of ...int) time.Duration { return time.Duration(pick(of...)) * time.Millisecond }
	options := sandbox.Options{
		Seed:             seed,
		PropagationDelay: ms(0, 10, 100), NegativeCache: 10 * time.Millisecond,
		ListLag: ms(0, 0, 100), CreateRace: ms(0, 500),
		JobPickUp: ms(1, 20), JobDuration: ms(5, 50, 150),
	}
	hostility := &sandbox.Hostility{Seed: seed, Share: pick(5, 15, 30, 60), Budget: pick(2, 5, 10, 15)}
	if hostility.OnlyWrites = rng.IntN(2) == 0; hostility.OnlyWrites {
		hostility.Share = pick(30, 60, 100)
	}
	if rng.IntN(2) == 0 {
		hostility.Kill = func() {} // for real once there is something to kill
	}
	return options, hostility
}
