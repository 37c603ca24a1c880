package rotator

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"
)

const (
	// resumeWidth is how many rotations Resume advances at a time: enough to end within
	// one run of the function, few enough for IAM's and GitLab's rate limits.
	resumeWidth = 8
	// turnTime is the least that a rotation gets of a long enough follow-up: a new key
	// is made, proven and published in less than half of it.
	turnTime = time.Minute
)

// Resume advances every rotation that is in flight, and leaves held ones alone until
// it is time to look at them again. One that fails does not stop the others, and one
// that waits for a long pipeline has no more than its share of the time. Whoever gets
// no turn is waiting; the order is another one each time.
//
// The error says that it could not be seen what is in flight, or that nothing is and
// the follow-ups cannot be switched off.
func (r *Rotator) Resume(ctx context.Context) ([]Result, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	records, err := r.Journal.InFlight(ctx)
	if err != nil {
		return nil, err
	}
	f := r.newFollowUp(ctx, records)
	var all sync.WaitGroup
	for range min(resumeWidth, len(f.queue)) {
		all.Go(func() {
			for i, share := f.next(); i >= 0; i, share = f.next() {
				f.advance(ctx, i, share)
			}
		})
	}
	all.Wait()
	return f.end(ctx)
}

// bounded gives a context a deadline that has none.
func bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, has := ctx.Deadline(); has {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, runTime)
}

// followUp is one call of Resume.
type followUp struct {
	*Rotator
	deadline time.Time
	least    time.Duration // of a turn

	mu      sync.Mutex
	records []Record
	results []Result // of the same places
	queue   []int    // places of the records that wait for their turn
	flies   bool     // something is still in flight
	ended   map[string]int64
}

// newFollowUp queues what is to be advanced, in any order: when there is not enough
// time for all, it is another one's turn each time.
func (r *Rotator) newFollowUp(ctx context.Context, records []Record) *followUp {
	f := &followUp{Rotator: r, records: records, results: make([]Result, len(records)), ended: map[string]int64{}}
	f.deadline, _ = ctx.Deadline()
	f.least = min(max(turnTime, 2*r.Pace.untilPublished(1)), time.Until(f.deadline)/2)
	for _, i := range rand.Perm(len(records)) { // #nosec G404: an order is no secret
		if time.Now().Before(records[i].LookAgain) {
			f.stays(i, answer(StatusHeld, "%s", records[i].Held))
			continue
		}
		f.queue = append(f.queue, i)
	}
	return f
}

// stays answers for a record that this follow-up leaves alone.
func (f *followUp) stays(i int, v verdict) {
	r := f.records[i]
	f.results[i], f.flies = (&run{Rotator: f.Rotator, request: r.Request, record: r}).result(v), true
}

// next takes a record from the queue, with its share of the time that is left: as much
// as each of those gets that wait, eight at a time. It is -1 when there is none, or no
// time for one.
func (f *followUp) next() (i int, share time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	left := time.Until(f.deadline)
	if left < f.least {
		for _, i := range f.queue {
			f.stays(i, answer(StatusWaiting, "%d rotations are in flight, and this follow-up had no time left for this one; the next may", len(f.records)))
		}
		f.queue = nil
	}
	if len(f.queue) == 0 {
		return -1, 0
	}
	rounds := (len(f.queue) + resumeWidth - 1) / resumeWidth
	i, f.queue = f.queue[0], f.queue[1:]
	return i, max(left/time.Duration(rounds), f.least)
}

// advance is one turn. A failure is a result like any other here.
func (f *followUp) advance(ctx context.Context, i int, share time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, share)
	defer cancel()
	record := f.records[i]
	if err := record.Request.Validate(); err != nil { // of another version of this program
		result, _ := Invalid(record.Request, err)
		f.mu.Lock()
		defer f.mu.Unlock()
		f.results[i], f.flies = result, true
		return
	}
	ctx, stop, u := f.newRun(ctx, record.Request)
	defer stop()
	u.followed = true
	result, _ := u.advance(ctx)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.results[i] = result
	if u.leavesInFlight() || !u.seen.loaded { // or nobody knows
		f.flies = true
	} else {
		f.ended[record.User] = u.record.Version
	}
}

// end leaves the follow-up switched as it is needed. What goes wrong with that is told
// with the first result.
func (f *followUp) end(ctx context.Context) ([]Result, error) {
	if f.FollowUp == nil {
		return f.results, nil
	}
	var why string
	switch {
	case f.flies:
		why = f.enable(ctx)
	case len(f.records) > 0:
		why = f.settle(ctx, f.ended)
	default:
		why = f.disable(ctx, nil)
	}
	switch {
	case why == "":
	case len(f.results) == 0:
		return f.results, errors.New(why)
	default:
		f.results[0].Warnings = append(f.results[0].Warnings, why)
	}
	return f.results, nil
}
