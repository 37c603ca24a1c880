package sim

import (
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// counts are what was played.
type counts struct{ scenes, schedules, faults, acts, runs, calls atomic.Int64 }

func (c *counts) add(p *play) {
	c.schedules.Add(1)
	c.faults.Add(int64(len(p.met)))
	c.acts.Add(int64(len(p.acted)))
	c.runs.Add(int64(len(p.runs)))
	c.calls.Add(int64(p.calls))
}

// explore plays the tapes of a scene on all processors, until one fails: all of
// them, or as many as there is time for. It returns how many are left.
func explore(t *testing.T, sc scene, total *counts, until time.Time) (left int) {
	s := sc.withDefaults()
	f, m := newFrontier(until), &memo{seen: map[string]bool{}}
	total.scenes.Add(1)
	t.Run(s.name, func(t *testing.T) {
		for i := range runtime.GOMAXPROCS(0) {
			t.Run(fmt.Sprint("worker ", i), func(t *testing.T) {
				t.Parallel()
				for tp := f.take(); tp != nil; tp = f.take() {
					p := s.play(t, tp, m)
					total.add(p)
					f.put(tp, len(p.wrong) > 0)
					if len(p.wrong) > 0 {
						s.report(t, tp)
					}
				}
			})
		}
	})
	return f.left()
}

// play plays one tape, in a bubble of its own.
func (sc *scene) play(t *testing.T, tp *tape, m *memo) (p *play) {
	synctest.Test(t, func(*testing.T) { p = playTape(sc, tp, m) })
	return p
}

// report plays a tape again, and tells its story.
func (sc *scene) report(t *testing.T, tp *tape) {
	p := sc.play(t, &tape{says: tp.says}, nil)
	if len(p.wrong) == 0 {
		p.wrong = []string{"it went wrong once and not again, which is a defect of the simulator"}
	}
	t.Errorf("%s\n%s\n\nto play it again:\ngo test ./test/sim -run TestReplay -sim.scene '%s' -sim.tape %s", p.text, strings.Join(p.wrong, "\n"), sc.name, tp)
}
