package rotator

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"
)

// Rotator rotates access keys. Its fields are its ports and its pace; all are required
// but FollowUp and Watch.
type Rotator struct {
	Users       Users
	Keys        Keys
	Prober      Prober
	Destination Destination
	Redeployer  Redeployer
	Tagger      Tagger
	Journal     Journal
	Notifier    Notifier
	// FollowUp is switched on while anything is in flight; nil: there is none.
	FollowUp FollowUp
	Pace     Pace
	// Owner names this process in leases: host and process at a desk, the request
	// id in Lambda. Every run adds something random to it.
	Owner string
	// Watch is told of each step as it begins, waits and ends.
	Watch func(Progress)
}

// Pace is how long things are waited for.
type Pace struct {
	ProbeDelay     time.Duration // before the first probe: a negative answer is cached for seconds
	ProbeInterval  time.Duration // longer than that cache
	ProbeSuccesses int           // in a row: a region answers from many hosts
	ProbeTimeout   time.Duration // then the new key is given up
	PollInterval   time.Duration // between looks at a running deployment
	OrphanAge      time.Duration // longer than any run: a younger unknown key is somebody's work
}

// Progress is one moment of a step, for whoever watches.
type Progress struct {
	User       string
	RotationID string
	Step       Step
	State      ProgressState
	Detail     string // what is happening, in words, never a secret
	URL        string // where to look at it, when there is somewhere
	Elapsed    time.Duration
}

// ProgressState is where a step is.
type ProgressState string

// The states of a step.
const (
	StepStarted ProgressState = "started"
	StepWaiting ProgressState = "waiting"
	StepDone    ProgressState = "done"
	StepFailed  ProgressState = "failed"
)

const (
	// runTime bounds a run whose context has no deadline.
	runTime = 30 * time.Minute
	// writeTime bounds one remote write. A run starts none after its deadline, and
	// its lease outlasts the deadline by as much, so every write ends inside it.
	writeTime = 30 * time.Second
	// createTime is how long after its intent was saved a key may be made: the window
	// in which an unknown key may be ours is as narrow as a slow call allows.
	createTime = 3 * writeTime
	// saveTime is kept back before the deadline, to save what is done and answer.
	saveTime = 10 * time.Second
	// stepsOnce and stepsEach bound the steps of one run, waiting not counted: a rotation
	// after a soak that was cut short, with its retries, has fewer than forty, and eight
	// more for each further place or redeploy.
	stepsOnce, stepsEach = 64, 8
)

// run is one call of Advance: what it has seen, and what only it knows.
type run struct {
	*Rotator
	request Request
	owner   string
	stop    time.Time // no step begins after it
	lease   time.Time // until when our lease lasts, once saved
	began   time.Time

	seen sight
	// createdAt is when keys were made, of every key that this run has seen: that never
	// changes, so unlike the rest of what was seen it is not forgotten.
	createdAt map[string]time.Time
	gone      []string // keys that do not exist any more, though IAM may list them for a while
	loaded    Record   // as the run found it
	record    Record
	begun     bool // the intent to create is saved, and nothing was created yet
	made      madeKey
	failure   error     // why this run has failed, when what it did last was done
	since     time.Time // when the step under way began
	said      string    // what it has to show for itself
	warnings  []string
	unheard   []Notice // what nobody was told, and
	unheardOf error    // why
	// unfollowed says what is wrong with the follow-up, "" when nothing is.
	unfollowed string
	followed   bool     // by a follow-up, which switches for all of its runs
	asked      *Request // what was forced upon a rotation in flight, as it was asked for
	corrected  bool     // it has changed what that is to redeploy
	flew       bool     // this run has saved a record that was in flight, before or after
	// ended is the rotation that this run has brought to its end, good or bad, and
	// that is in the journal no more; succeeded, that nobody was told so before.
	ended     *Record
	succeeded bool
	readOnly  bool // a plan: nothing is written
}

// madeKey is the key that this run has made, and what it knows about it. It ends with
// the key: nothing of it may be believed of the next one.
type madeKey struct {
	pair     KeyPair // from its creation to its publication
	proven   bool
	doubtful int    // writes to the variables of which nobody knows whether they were applied
	givenUp  string // why it must not be published
	gaveUpAt Step
}

// Advance takes a rotation as far as it can go: it looks, decides, does one thing,
// and looks again, until the decision is an answer. There is no recovery code: the
// next call is the recovery.
//
// The Result is always filled in. The error is a *RefusedError or *FailedError
// exactly when its status is refused or failed.
func (r *Rotator) Advance(ctx context.Context, request Request) (Result, error) {
	if err := request.Validate(); err != nil {
		return Invalid(request, err)
	}
	ctx, cancel, u := r.newRun(ctx, request)
	defer cancel()
	return u.advance(ctx)
}

func (u *run) advance(ctx context.Context) (Result, error) {
	v, err := u.loop(ctx)
	return u.close(ctx, v, err)
}

func (r *Rotator) newRun(ctx context.Context, request Request) (context.Context, context.CancelFunc, *run) {
	now := time.Now()
	cancel := func() {}
	deadline, bounded := ctx.Deadline()
	if !bounded {
		deadline = now.Add(runTime)
		ctx, cancel = context.WithDeadline(ctx, deadline)
	}
	u := &run{
		Rotator: r,
		request: request,
		owner:   r.Owner + "/" + rand.Text(),
		began:   now,
		// A tenth of a short run is enough to answer in.
		stop:  deadline.Add(-min(saveTime, deadline.Sub(now)/10)),
		lease: deadline.Add(writeTime),
	}
	return ctx, cancel, u
}

// loop is the rotation: observe, decide, act.
func (u *run) loop(ctx context.Context) (verdict, error) {
	for steps := 0; steps < u.maxSteps(); steps++ {
		if u.outOfTime(ctx) {
			return u.timeIsUp(ctx), nil
		}
		o, err := u.observe(ctx)
		if err != nil {
			return verdict{}, u.failed(StepObserve, err)
		}
		v := decide(o)
		if v.status != "" {
			if u.overtaken(ctx, v) {
				continue
			}
			return v, nil
		}
		if !u.leased() && v.step != StepBegin {
			// Take the lock, then look again.
			if err := u.save(ctx, func(*Record) {}); err != nil {
				return verdict{}, u.failed(v.step, err)
			}
			u.seen.forgetAllBut(u.seen.user)
			continue
		}
		if v.step == StepAwait && o.deployed.State == DeploymentRunning && o.record.Phase == PhaseRedeploying {
			u.poll(ctx, o, v)
			steps-- // the deadline bounds the waiting
			continue
		}
		v, err = u.act(ctx, o, v)
		if err != nil || v.status != "" {
			return v, err
		}
	}
	return verdict{}, u.failed(StepObserve, fmt.Errorf("no end after %d steps, which is a defect of this program", u.maxSteps()))
}

func (u *run) maxSteps() int {
	return stepsOnce + stepsEach*(len(u.request.Targets())+len(u.request.Turns()))
}

// timeIsUp is the answer of a run that ends before its rotation does.
func (u *run) timeIsUp(ctx context.Context) verdict {
	why := "this run's time is over"
	if errors.Is(ctx.Err(), context.Canceled) {
		why = "this run was stopped"
	}
	if d := u.record.Deployment; u.phase() == PhaseRedeploying {
		return answer(StatusWaiting, "%s, and %s; a later run goes on", running(d), why)
	}
	return answer(StatusWaiting, "%s in phase %s; a later run goes on", why, u.phase())
}

// overtaken tells whether another run has saved the record since this one, which holds
// no lease, has read it. What was seen after may be that run's work, and is no reason
// to call anybody.
func (u *run) overtaken(ctx context.Context, v verdict) bool {
	alarm := v.status == StatusHeld || v.status == StatusRefused || len(v.warnings) > 0
	if !alarm || u.leased() {
		return false
	}
	now, err := u.Journal.Load(ctx, u.request.User)
	if err != nil {
		u.warn("another run may be at work, the journal could not be read again: %v", err)
		return false
	}
	u.gone = append(u.gone, now.Gone...)
	if now.Version == u.record.Version {
		return false
	}
	u.loaded, u.record = now, now
	u.seen.forgetAllBut(u.seen.user)
	return true
}

func (u *run) outOfTime(ctx context.Context) bool {
	return ctx.Err() != nil || !time.Now().Before(u.stop)
}

func (u *run) leased() bool {
	return u.record.Lease.Owner == u.owner && !u.record.Lease.Until.IsZero()
}

func (u *run) phase() Phase {
	if u.record.Phase == "" {
		return PhaseIdle
	}
	return u.record.Phase
}

func (u *run) failed(step Step, err error) error {
	if known := (*StepError)(nil); errors.As(err, &known) {
		return err
	}
	return &StepError{Step: step, User: u.request.User, Err: err}
}

// save replaces the record by what change makes of it, and takes the lease.
func (u *run) save(ctx context.Context, change func(*Record)) error {
	next := u.record
	next.User, next.UniqueID = u.request.User, u.seen.user.UniqueID
	next.Request = u.request
	next.Request.Force = false // it was for this run: a later one must not begin another rotation
	next.Lease = Lease{Owner: u.owner, Until: u.lease}
	if next.Phase == "" {
		next.Phase = PhaseIdle
	}
	change(&next)
	const remembered = 4 // more than a run deletes
	next.Gone = u.gone[max(0, len(u.gone)-remembered):]
	ctx, cancel := writeContext(ctx)
	defer cancel()
	saved, err := u.Journal.Save(ctx, next)
	if err != nil && !errors.Is(err, ErrConflict) {
		saved, err = u.saveAgain(ctx, next, err)
	}
	if err != nil {
		return fmt.Errorf("saving the journal: %w", err)
	}
	u.flew = u.flew || u.record.InFlight() || saved.InFlight()
	u.record = saved
	return nil
}

// saveAgain finds out whether a save whose reply was lost was applied, and sends it
// once more if not: compare-and-swap makes that safe. Only this run writes in its
// owner's name, so its name on the next version means that it was.
func (u *run) saveAgain(ctx context.Context, next Record, lost error) (Record, error) {
	for range 2 {
		stored, err := u.Journal.Load(ctx, next.User)
		switch {
		case err != nil:
			return Record{}, lost
		case stored.Version == next.Version+1 && stored.Lease.Owner == u.owner:
			return stored, nil
		case stored.Version != next.Version:
			return Record{}, ErrConflict
		}
		saved, err := u.Journal.Save(ctx, next)
		if err == nil {
			return saved, nil
		}
	}
	return Record{}, lost
}

// writeContext lets a write end though the run is told to stop: an answer that was
// not waited for is worse than none.
func writeContext(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), writeTime)
}

// write does one write to IAM or GitLab, if the lease still covers it to its end.
func (u *run) write(ctx context.Context, send func(context.Context) error) error {
	end := time.Now().Add(writeTime)
	// By the wall as well: the monotonic clock stops while a machine sleeps.
	if !u.leased() || end.After(u.lease) || end.Round(0).After(u.lease.Round(0)) {
		return errLeaseOver
	}
	ctx, cancel := writeContext(ctx)
	defer cancel()
	return send(ctx)
}

var errLeaseOver = errors.New("the lease of this run is over, so it must not write")

// warn keeps a sentence for the result.
func (u *run) warn(format string, args ...any) {
	u.warnings = append(u.warnings, fmt.Sprintf(format, args...))
}

func (u *run) watch(p Progress) {
	if u.Watch == nil {
		return
	}
	p.User, p.RotationID = u.request.User, orElse(p.RotationID, u.record.RotationID)
	u.Watch(p)
}
