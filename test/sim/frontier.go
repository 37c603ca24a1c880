package sim

import (
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// odometer counts through the tapes that differ from a played one in one choice
// after all that it says. Every tape but the empty one is the branch of exactly one
// other, so all odometers together show every tape once.
type odometer struct {
	tape
	next choice
}

// step shows the next tape.
func (o *odometer) step() *tape {
	t := &tape{says: append(slices.Clip(o.says), o.next)}
	if o.next.way++; o.next.way >= int(o.sizes[o.next.at]) {
		o.next = choice{o.next.at + 1, 1}
	}
	return t
}

func (o *odometer) done() bool { return o.next.at >= len(o.sizes) }

// left is how many tapes it has not shown.
func (o *odometer) left() int {
	n := -(o.next.way - 1)
	for _, size := range o.sizes[o.next.at:] {
		n += int(size) - 1
	}
	return n
}

// frontier is the odometers of all tapes that were played, by how often their
// branches depart from the way in which nothing happens. The fewest departures go
// first, so that the first failure is a shortest one.
type frontier struct {
	mu     sync.Mutex
	more   *sync.Cond
	open   [][]*odometer
	first  bool // the empty tape was handed out
	busy   int  // how many are being played
	failed bool
	until  time.Time  // when to stop; zero for never
	rng    *rand.Rand // when not all can be played, which; nil for the latest
}

func newFrontier(until time.Time) *frontier {
	f := &frontier{until: until}
	f.more = sync.NewCond(&f.mu)
	if !until.IsZero() {
		f.rng = rand.New(rand.NewPCG(uint64(until.UnixNano()), 0)) // #nosec G404,G115: which tapes are tried
	}
	return f
}

// take hands out a tape, and waits while there is none but may be. It is nil at the end.
func (f *frontier) take() *tape {
	f.mu.Lock()
	defer f.mu.Unlock()
	for !f.failed && (f.until.IsZero() || time.Now().Before(f.until)) {
		if t := f.pick(); t != nil {
			f.busy++
			return t
		}
		if f.busy == 0 {
			break
		}
		f.more.Wait()
	}
	return nil
}

func (f *frontier) pick() *tape {
	if !f.first {
		f.first = true
		return &tape{}
	}
	for depth, all := range f.open {
		last := len(all) - 1
		if last < 0 {
			continue
		}
		if f.rng != nil {
			i := f.rng.IntN(len(all))
			all[i], all[last] = all[last], all[i]
		}
		t := all[last].step()
		if all[last].done() {
			f.open[depth] = all[:last]
		}
		return t
	}
	return nil
}

// put takes a tape back that was played, and opens its branches.
func (f *frontier) put(t *tape, failed bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.busy--
	f.failed = f.failed || failed
	depth := len(t.says)
	for len(f.open) <= depth {
		f.open = append(f.open, nil)
	}
	if o := (&odometer{tape: *t, next: choice{t.end(), 1}}); !o.done() {
		f.open[depth] = append(f.open[depth], o)
	}
	f.more.Broadcast()
}

// left is how many tapes are known that were not played.
func (f *frontier) left() int {
	n := 0
	for _, all := range f.open {
		for _, o := range all {
			n += o.left()
		}
	}
	return n
}
