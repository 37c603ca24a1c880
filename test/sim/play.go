package sim

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing/synctest"
	"time"

	"credential-rotator/rotator"
	"credential-rotator/test/sandbox"
)

const (
	runTime = 15 * time.Minute // Lambda's longest
	// tick is the rate of the follow-up rule, and a little more: what falls due at the
	// same instant has no order.
	tick = 5*time.Minute + time.Millisecond

	idVariable     = "AWS_ACCESS_KEY_ID"
	secretVariable = "AWS_SECRET_ACCESS_KEY"
)

// play is one story: a world, the runs in it, and what is left of the budgets.
type play struct {
	*sandbox.Scene
	scene   *scene
	tape    *tape
	request rotator.Request
	memo    *memo // nil when it is told

	moving  sync.Mutex // whoever moves has it
	runs    []*run
	last    *run // who moved last
	alone   bool // one run at most has not ended, so there is no turn to wait for
	arrived chan struct{}

	faults, switches, acts int
	met                    []meeting // the faults, as they were met
	acted                  []string  // what people did
	madeAt                 time.Time // when somebody made a key
	used                   string    // the key that somebody used
	usedAt                 time.Time
	usedAfter              int               // so many calls
	tornSince              map[int]time.Time // by service
	also                   []sandbox.Service // that the scene adds
	lease                  rotator.Lease     // as it was when it was last looked at
	calls                  int
	written                bool     // the call before may have changed something
	wrong                  []string // how the promise was broken

	told []line // for whoever reads the story; kept only when it is told
	tell bool
	text string // the story, as it was told
}

// run is one run of the rotator. Only itself and, while it is blocked, the play
// look at its fields.
type run struct {
	name    string
	ports   *sandbox.Ports
	lazy    bool // it begins when the tape says so, or when nobody else is left
	parked  bool
	done    bool
	turn    chan struct{}
	writes  int // of any kind
	touched int // of them, to IAM and GitLab
	dozes   bool
	request rotator.Request
	result  rotator.Result
	err     error
}

// meeting is a call that met a fault.
type meeting struct {
	run  *run
	call sandbox.Call
	fate sandbox.Fate
	at   time.Time
	moot bool // there is nothing to tell: it was done, or it asked about a key that is gone
}

// playTape plays a scene as a tape has it. It must run in a bubble.
func playTape(sc *scene, t *tape, m *memo) *play {
	tell := m == nil
	p := &play{
		memo:  m,
		scene: sc, tape: t, tell: tell, Scene: sc.begin(), arrived: make(chan struct{}, 64), tornSince: map[int]time.Time{},
		faults: sc.faults, switches: sc.switches, acts: sc.acts,
	}
	p.request = p.Request()
	if sc.set != nil {
		sc.set(p)
	}
	p.start(max(1, sc.runs))
	p.heal()
	p.judgeEnd()
	if len(t.sizes) < t.end() && len(p.wrong) == 0 {
		p.blame("the tape has more choices than the story, which is a defect of the simulator")
	}
	p.drain()
	p.judgeSwitchedOff()
	if tell {
		p.text = p.story()
	}
	return p
}

// heal lets a further run begin at every tick, until one finds nothing to do.
func (p *play) heal() {
	p.until(time.Now().Add(p.scene.tick))
	for p.more() {
		quiet := p.quiet()
		if p.scene.between != nil {
			p.scene.between(p)
		}
		p.start(1)
		p.until(time.Now().Add(p.pause()))
		if quiet && p.ended() {
			return
		}
	}
	if len(p.wrong) == 0 {
		last := p.runs[len(p.runs)-1]
		p.blame("there is no end after %d runs: %s, %s", len(p.runs), last.result.Status, last.result.Reason)
	}
}

// pause is the time until the next run. The last few come hours apart: some waits
// last a day.
func (p *play) pause() time.Duration {
	const few = 6
	if len(p.runs) > p.scene.maxRuns-few {
		return 5 * time.Hour
	}
	return p.scene.tick
}

func (p *play) more() bool {
	p.moving.Lock()
	defer p.moving.Unlock()
	return len(p.runs) <= p.scene.maxRuns && len(p.wrong) == 0
}

// quiet tells whether nobody is left that may still move.
func (p *play) quiet() bool {
	p.moving.Lock()
	defer p.moving.Unlock()
	p.remember()
	return p.settled()
}

// ended tells whether the last run was the end.
func (p *play) ended() bool {
	p.moving.Lock()
	defer p.moving.Unlock()
	r := p.runs[len(p.runs)-1]
	return r.done && p.isEnd(r)
}

// drain lets every run end that is still there, for a bubble waits for them.
func (p *play) drain() {
	p.moving.Lock()
	p.faults, p.switches, p.acts = 0, 0, 0
	p.moving.Unlock()
	for !p.quiet() {
		p.until(time.Now().Add(freeze))
	}
}

// settled tells whether every run has ended.
func (p *play) settled() bool {
	for _, r := range p.runs {
		if !r.done {
			return false
		}
	}
	return true
}

// start lets runs begin: the first at once, the others when it is their turn.
func (p *play) start(count int) {
	first := len(p.runs)
	p.moving.Lock()
	defer p.moving.Unlock()
	p.alone = p.settled() && count == 1
	for n := range count {
		r := &run{name: fmt.Sprint(first + n + 1), lazy: n > 0, turn: make(chan struct{}), request: p.request}
		r.ports = p.Run(r.name).Intercept(func(c sandbox.Call) sandbox.Fate { return p.meet(r, c) }).Returned(func(sandbox.Call) { p.goOn(r) })
		p.runs = append(p.runs, r)
	}
	p.last = p.runs[first]
	for _, r := range p.runs[first:] {
		go p.advance(r)
	}
}

// advance is a run: a process of its own, with the time that Lambda gives it.
func (p *play) advance(r *run) {
	ctx, cancel := context.WithTimeout(context.Background(), p.scene.runTime)
	defer cancel()
	rotator := rotatorOf(r.ports)
	rotator.Owner = r.name
	if c := (clocks{r.ports}); p.scene.apart {
		rotator.Users, rotator.Keys, rotator.Destination, rotator.Redeployer = c, c, c, c
	}
	result, err := rotator.Advance(ctx, r.request)
	p.moving.Lock()
	defer p.moving.Unlock()
	r.result, r.err, r.done = result, err, true
	p.arrive()
}

// rotatorOf is the real rotator, as the function wires it, on a process's ports.
func rotatorOf(p *sandbox.Ports) *rotator.Rotator {
	return &rotator.Rotator{
		Users: p, Keys: p, Prober: p, Destination: p, Redeployer: p, Tagger: p, Journal: p, Notifier: p, FollowUp: p,
		Pace: rotator.Pace{
			ProbeDelay: 5 * time.Second, ProbeInterval: 6 * time.Second, ProbeSuccesses: 3, ProbeTimeout: 3 * time.Minute,
			PollInterval: 10 * time.Second, OrphanAge: 20 * time.Minute,
		},
		Owner: "sim",
	}
}

// until lets the runs move, one at a time, until an instant.
func (p *play) until(end time.Time) {
	for {
		synctest.Wait() // everybody is parked, asleep or done
		r, settled := p.moves()
		if r != nil {
			r.turn <- struct{}{}
			continue
		}
		if settled {
			time.Sleep(time.Until(end))
			return
		}
		for len(p.arrived) > 0 { // of those who were let go since
			<-p.arrived
		}
		timer := time.NewTimer(time.Until(end))
		select {
		case <-p.arrived:
			timer.Stop()
		case <-timer.C:
			return
		}
	}
}

// moves chooses who moves, and tells whether nobody is left who may.
func (p *play) moves() (r *run, settled bool) {
	p.moving.Lock()
	defer p.moving.Unlock()
	p.collect()
	if r = p.next(); r != nil {
		p.last, r.lazy, r.parked = r, false, false
	}
	return r, p.settled()
}

// collect takes note of the runs that have ended.
func (p *play) collect() {
	p.look()
	left := 0
	for _, r := range p.runs {
		if !r.done {
			left++
		} else if r.turn != nil {
			r.turn = nil
			p.judgeRun(r)
			p.forget(r)
		}
	}
	p.alone = left <= 1
	if left == 0 {
		p.judgeFollowed()
	}
}

// forget gives the budgets up when one of several runs has ended that wrote nothing
// and met nothing: it might as well not have been, and then what may happen is
// played in the scenes of one run.
func (p *play) forget(r *run) {
	if p.scene.runs > 1 && r.writes == 0 && len(p.met) == 0 && p.memo != nil {
		p.faults, p.switches = 0, 0
	}
}

// next chooses who moves, or that nobody does until somebody has slept enough.
// Whoever moved last goes on; anything else is a switch, of which there is a budget.
func (p *play) next() *run {
	var begun, lazy []*run
	asleep := false
	for _, r := range p.runs {
		switch {
		case r.done, r.parked && r == p.last:
		case !r.parked:
			asleep = true
		case r.lazy:
			lazy = append(lazy, r)
		default:
			begun = append(begun, r)
		}
	}
	var ways []*run
	if p.last.parked {
		ways = append(ways, p.last)
	}
	ways = append(ways, begun...)
	if asleep && !p.last.parked {
		ways = append(ways, nil)
	}
	if p.calls > 0 { // before, one is as good as the other
		ways = append(ways, lazy...)
	}
	if len(ways) == 0 {
		return nil
	}
	n := 1
	if p.switches > 0 {
		n = len(ways)
	}
	c := p.tape.choose(n)
	if c > 0 {
		p.switches--
	}
	return ways[c]
}

// arrive wakes the play, if it waits for somebody.
func (p *play) arrive() {
	select {
	case p.arrived <- struct{}{}:
	default:
	}
}

// await parks a run until it is its turn.
func (p *play) await(r *run) {
	if p.park(r) {
		p.arrive()
		<-r.turn
	}
}

func (p *play) park(r *run) bool {
	p.moving.Lock()
	defer p.moving.Unlock()
	r.parked = !p.alone
	return r.parked
}

// meet is where every call of every run passes before it is made.
func (p *play) meet(r *run, c sandbox.Call) sandbox.Fate {
	if !p.scene.fates.leavesOut(c) {
		p.await(r)
	}
	fate := p.decide(r, c)
	switch fate {
	case frozen:
		time.Sleep(freeze)
		p.await(r)
	case dozed:
		r.dozes = true
	default:
		return fate
	}
	return sandbox.OK
}

// goOn is where a run goes on after a call, at once or when it wakes.
func (p *play) goOn(r *run) {
	if !r.dozes {
		return
	}
	r.dozes = false
	time.Sleep(freeze)
	p.await(r)
}

// decide looks at what was done before a call, and chooses what is done at it.
func (p *play) decide(r *run, c sandbox.Call) sandbox.Fate {
	p.moving.Lock()
	defer p.moving.Unlock()
	if p.written || c.Write {
		p.look()
	}
	p.calls++
	if p.written = c.Write; c.Write {
		r.writes++
	}
	if c.Write && (strings.HasPrefix(c.Name, "iam.") || strings.HasPrefix(c.Name, "gitlab.")) {
		r.touched++
		p.judgeWriter(r, c)
	}
	if p.scene.fates.leavesOut(c) {
		return sandbox.OK
	}
	p.person()
	return p.fate(r, c)
}

// fate chooses what becomes of a call.
func (p *play) fate(r *run, c sandbox.Call) sandbox.Fate {
	if p.faults == 0 {
		return sandbox.OK
	}
	ways := p.scene.fates.of(c)
	k := p.tape.choose(1 + len(ways))
	if k == 0 {
		return sandbox.OK
	}
	p.faults--
	fate := ways[k-1]
	p.met = append(p.met, meeting{r, c, fate, time.Now(), fate == dozed || p.isMoot(c)})
	p.note("the call %s %s of run %s will be %s", c.Name, c.Detail, r.name, fateName(fate))
	return fate
}

// isMoot tells whether a call asks about the last use of a key that is gone.
func (p *play) isMoot(c sandbox.Call) bool {
	return c.Name == "iam.GetAccessKeyLastUsed" && !slices.ContainsFunc(p.Keys(p.Service.User), func(k sandbox.Key) bool { return k.ID == c.Detail })
}

// person chooses what a person does now, if anything.
func (p *play) person() {
	if p.acts == 0 {
		return
	}
	k := p.tape.choose(1 + len(p.scene.people))
	if k == 0 {
		return
	}
	p.acts--
	p.written = true
	act := p.scene.people[k-1]
	p.acted = append(p.acted, act.name)
	p.note("somebody will %s", act.name)
	act.do(p)
}
