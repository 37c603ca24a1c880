// Package sandbox is IAM, STS and GitLab in one process: a world to rotate keys
// in, which judges what is done to it.
//
// A World is one AWS account and one GitLab instance. The rotator reaches it in
// two ways: through the ports of package rotator, in memory (World.Run), which is
// what the simulation uses, and over HTTP with the services' own SDKs (World.AWS,
// World.GitLab, Serve), which is what the adapters, the demo and the end-to-end
// tests use. Both end in the same few functions, one for each thing that IAM or
// GitLab can do.
//
// After every write of a rotator the world asks whether the promise still holds
// (judge.go), and remembers every sentence that says it does not.
//
// The core has no goroutines. What changes with time, a job that starts, a key
// that becomes known, is a list of due events that every call works off first, so
// that a job that started at T has the variables as they were at T, whoever looks
// and however late. Time is time.Now, and so fake inside a testing/synctest bubble.
package sandbox

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"credential-rotator/rotator"
)

// Options are the habits of a world. The zero Options is one in which everything
// happens at once; Lifelike is one to watch.
type Options struct {
	AccountID string // of the AWS account; "" is 123456789012
	GitLabURL string // how web_url begins; "" is https://gitlab.example.com
	Seed      uint64 // of ids and secrets: the same seed gives the same ones

	// PropagationDelay is how long a new key does not authenticate yet.
	PropagationDelay time.Duration
	// NegativeCache is how long a key that was not known is refused without
	// looking again. 0 is 5 s when there is a PropagationDelay; below 0 is off.
	NegativeCache time.Duration
	// ListLag is how long ListAccessKeys does not show a new key.
	ListLag time.Duration
	// DeleteLag is how long ListAccessKeys shows a key that was deleted.
	DeleteLag time.Duration
	// CreateRace is how long a new key does not count towards the limit of two:
	// racing creates have driven a user to eight (terraform-provider-aws#39693).
	CreateRace time.Duration
	// Lateness is after what time a write of fate Late is applied; 0 is 10 s.
	Lateness time.Duration

	JobPickUp   time.Duration // how long a pending job waits for a runner
	JobDuration time.Duration // of jobs that do not say their own

	// LongTokens: tokens may live for 400 days and not for 365.
	LongTokens bool

	// PageSize cuts the lists of IAM into pages; 0 is 100.
	PageSize int
	// Operator is the credential with which the AWS front is called; made up when empty.
	Operator Credentials
	// Deploy is what a deploy job does with the variables it picked up. It runs
	// on a goroutine of its own. Nil: authenticate against this world when the job
	// starts and again when it ends, without a goroutine.
	Deploy func(context.Context, JobEnv) error
}

// Credentials are an access key as a client is configured with it.
type Credentials struct{ ID, Secret string }

// Lifelike is a world with the delays of the real ones, cut to what somebody who
// watches will bear.
func Lifelike() Options {
	return Options{
		PropagationDelay: 4 * time.Second,
		ListLag:          time.Second,
		DeleteLag:        time.Second,
		JobPickUp:        time.Second,
		JobDuration:      3 * time.Second,
	}
}

func (o Options) withDefaults() Options {
	if o.AccountID == "" {
		o.AccountID = "123456789012"
	}
	if o.GitLabURL == "" {
		o.GitLabURL = "https://gitlab.example.com"
	}
	if o.NegativeCache == 0 && o.PropagationDelay > 0 {
		o.NegativeCache = 5 * time.Second
	}
	if o.Lateness == 0 {
		o.Lateness = 10 * time.Second
	}
	if o.PageSize == 0 {
		o.PageSize = 100
	}
	return o
}

// World is one AWS account and one GitLab instance. Its methods may be called
// from any goroutine. Those that are not about a run or a front are what a person
// does, or how a test looks: they are never judged.
type World struct {
	opts Options

	mu  sync.Mutex
	now time.Time // of the call or due event that is being worked off
	due []event
	rng *rand.Rand

	users   map[string]*user // by name in lower case: IAM's names are unique that way
	keys    []*accessKey     // in the order they were made, deleted ones too
	refused map[string]time.Time

	projects    map[int64]*project
	groups      map[int64]*group
	tokens      []*token
	pipelines   []*pipeline
	jobs        []*job
	deployments []*deployment
	lastID      map[string]int64 // GitLab counts each kind of thing instance-wide

	journal  map[string]*saved
	followed bool // the follow-up is switched on
	history  []rotator.Entry
	notices  []Notification

	services   []Service
	violations []string
	calls      []Call
	seq        int // counts everything that is done, to tell what was seen before what
	canaries   []canary
	marks      []string // the ways in which a canary's mark may appear

	front     map[string]*process // callers of the HTTP fronts
	intercept HTTPIntercept
	deploys   sync.WaitGroup
	closing   context.Context
	closeAll  context.CancelFunc
}

// New returns an empty world.
func New(o Options) *World {
	w := &World{
		opts:     o.withDefaults(),
		now:      instant(),
		rng:      rand.New(rand.NewPCG(o.Seed, 4711)), // #nosec G404: ids of a stand-in
		users:    map[string]*user{},
		refused:  map[string]time.Time{},
		projects: map[int64]*project{},
		groups:   map[int64]*group{},
		lastID:   map[string]int64{},
		journal:  map[string]*saved{},
		front:    map[string]*process{},
		marks:    disguises(mark),
	}
	w.closing, w.closeAll = context.WithCancel(context.Background())
	if w.opts.Operator.ID == "" {
		w.opts.Operator = Credentials{w.newKeyID(), w.newSecret("the operator's key")}
	} else {
		w.remember("the operator's key", w.opts.Operator.Secret)
	}
	return w
}

// Operator is the credential with which the AWS front may be called.
func (w *World) Operator() Credentials { return w.opts.Operator }

// Close stops the deploy jobs that run outside of the world, and waits for them.
func (w *World) Close() {
	w.closeAll()
	w.deploys.Wait()
}

// event is something that will happen by itself.
type event struct {
	at time.Time
	do func()
}

// enter begins a call: it takes the world and brings it up to now. The function
// it returns ends the call.
func (w *World) enter() (leave func()) {
	w.mu.Lock()
	w.catchUp(instant())
	w.seq++
	return w.mu.Unlock
}

// catchUp works off what was due, in the order of time.
func (w *World) catchUp(now time.Time) {
	for len(w.due) > 0 && !w.due[0].at.After(now) {
		next := w.due[0]
		w.due = w.due[1:]
		if next.at.After(w.now) {
			w.now = next.at
		}
		next.do()
	}
	if now.After(w.now) {
		w.now = now
	}
}

// after lets something happen by itself, later. What is due at the same instant
// happens in the order in which it was asked for.
func (w *World) after(d time.Duration, do func()) {
	at := w.now.Add(d)
	i := len(w.due)
	for i > 0 && w.due[i-1].at.After(at) {
		i--
	}
	w.due = slices.Insert(w.due, i, event{at, do})
}

// id counts one kind of thing.
func (w *World) id(kind string) int64 {
	w.lastID[kind]++
	return w.lastID[kind]
}

// instant is now on the wall: with a reading of the monotonic clock two times
// that are equal would not compare so.
func instant() time.Time { return time.Now().UTC().Round(0) }

// roundedUp is how a time reads that was told in whole seconds, cut off, and must
// not be too early: the Date of a reply.
func roundedUp(t time.Time) time.Time { return t.Truncate(time.Second).Add(time.Second) }
