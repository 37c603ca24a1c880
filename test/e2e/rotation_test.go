package e2e

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"credential-rotator/rotator"
	"credential-rotator/test/sandbox"
)

func TestTheFunctionRotatesAKey(t *testing.T) {
	t.Parallel()
	s := newStage(t, newCloud(t), "svc-billing")
	f := newFunction(t, s)

	if a := f.run(t, s.event(false)); a.Status != rotator.StatusNotDue || len(s.wire.Writes()) > 0 {
		t.Errorf("a young key: %s, after writes %q", a.raw, s.wire.Writes())
	}
	a := f.run(t, s.event(true))
	if a.Status != rotator.StatusRotated || a.PreviousKeyID != s.first || a.CurrentKeyID != s.published() {
		t.Fatalf("got %s\n%s", a.raw, s.trace())
	}
	s.isRotatedFrom(s.first)
	if a := f.run(t, s.event(false)); a.Status != rotator.StatusNotDue {
		t.Errorf("after it: %s", a.raw)
	}
	if a := f.run(t, []byte(`{"action":"follow_up"}`)); a.raw != `{"results":[]}` {
		t.Errorf("something is still in flight: %s", a.raw)
	}
	wantEvents(t, s, "Started", "Succeeded")
}

// wantEvents asserts what was told on the event bus, in order.
func wantEvents(t *testing.T, s *stage, want ...string) {
	t.Helper()
	if got := s.events(); !slices.Equal(got, want) {
		t.Errorf("events %q, want %q", got, want)
	}
}

// events are what was told on the event bus so far.
func (s *stage) events() (told []string) {
	for _, c := range s.wire.Calls() {
		if c.Line != "events PutEvents" {
			continue
		}
		_, rest, _ := strings.Cut(string(c.Request), "Credential Rotation ")
		word, _, _ := strings.Cut(rest, `"`)
		told = append(told, word)
	}
	return told
}

func TestTheCommandRotatesAKey(t *testing.T) {
	t.Parallel()
	s := newStage(t, newCloud(t), "svc-billing")
	c := newCommand(t, s)
	if a := c.run(t, s.event(true)); a.Status != rotator.StatusRotated {
		t.Fatalf("got %s\n%s", a.raw, s.trace())
	}
	s.isRotatedFrom(s.first)
}

func TestAnErrorOfTheFunctionSaysWhatToDoAndHoldsNoSecret(t *testing.T) {
	t.Parallel()
	s := newStage(t, newCloud(t), "svc-billing")
	f := newFunction(t, s)
	a := f.run(t, fmt.Appendf(nil, `{"user":%q,"project_id":4712}`, s.user))
	if a.Status != rotator.StatusRefused || !strings.Contains(a.Reason, "credential-rotator:project-ids") {
		t.Errorf("another project's request: %s", a.raw)
	}
	a = f.run(t, []byte(`{"user":"","colour":"blue"}`))
	if a.Status != rotator.StatusRefused || !strings.Contains(a.Reason, "colour") || !strings.Contains(a.Reason, "user is missing") {
		t.Errorf("a malformed event: %s", a.raw)
	}
	if writes := s.wire.Writes(); len(writes) > 0 {
		t.Errorf("it wrote: %q", writes)
	}
}

func TestTwoRunsAtOnceAreOneRotation(t *testing.T) {
	t.Parallel()
	const rounds = 10
	s := newStage(t, newCloud(t), "svc-billing")
	s.gitlab.EditProject(projectID, func(p *sandbox.Project) { p.Pipeline[0].Duration = time.Second / 2 }) // so that they meet
	pair := []function{newFunction(t, s), newFunction(t, s)}
	for _, f := range pair { // warm, so that they start together
		f.run(t, s.event(false))
	}
	for round := range rounds {
		old, made := s.published(), len(s.madeKeys())
		var answers [2]answer
		var both sync.WaitGroup
		for i, f := range pair {
			both.Go(func() { answers[i] = f.run(t, s.event(true)) })
		}
		both.Wait()
		statuses := []rotator.Status{answers[0].Status, answers[1].Status}
		slices.Sort(statuses)
		if !slices.Equal(statuses, []rotator.Status{rotator.StatusBusy, rotator.StatusRotated}) {
			t.Errorf("round %d: %s\n%s", round, answers[0].raw, answers[1].raw)
		}
		if n := len(s.madeKeys()) - made; n != 1 {
			t.Errorf("round %d: %d keys were made", round, n)
		}
		s.isRotatedFrom(old)
		if t.Failed() {
			return
		}
	}
}

// madeKeys are the keys that the program has made so far.
func (s *stage) madeKeys() []string {
	return slices.DeleteFunc(s.wire.Writes(), func(line string) bool { return !strings.HasPrefix(line, "iam CreateAccessKey ") })
}

// cleanWrites are the writes of a rotation that nothing disturbs.
func cleanWrites(s *stage, run func(*testing.T, *stage) target) []string {
	t := s.t
	t.Helper()
	if a := run(t, s).run(t, s.event(true)); a.Status != rotator.StatusRotated {
		t.Fatalf("a clean rotation: %s\n%s", a.raw, s.trace())
	}
	s.isRotatedFrom(s.first)
	return s.wire.Writes()
}

// death is one place for the program to die.
type death struct {
	write int // 1 is the first
	when  When
	line  string
}

// name is the death as a test's name and a user's.
func (d death) name() string { return fmt.Sprintf("svc-%02d-%s", d.write, d.when) }

func deaths(writes []string) []death {
	var all []death
	for i, line := range writes {
		all = append(all, death{i + 1, Before, line}, death{i + 1, After, line})
	}
	return all
}

// die runs the program until it is killed.
func (s *stage) die(p target, d death) {
	s.t.Helper()
	s.wire.KillAt(d.write, d.when, p.kill)
	a := p.run(s.t, s.event(true))
	if !a.killed || s.wire.Died() == "" {
		s.t.Fatalf("it was to die %s %s, and answered %s\n%s", d.when, d.line, a.raw, s.trace())
	}
}

// With the journal in a file, the lease of a dead process is free at once, so the
// next run follows at once.
func TestTheCommandMayDieAtAnyWrite(t *testing.T) {
	t.Parallel()
	cloud := newCloud(t)
	writes := cleanWrites(newStage(t, cloud, "svc-clean"), func(t *testing.T, s *stage) target { return newCommand(t, s) })
	t.Logf("a clean rotation writes:\n%s", strings.Join(writes, "\n"))
	for _, d := range deaths(writes) {
		t.Run(d.name(), func(t *testing.T) {
			s := newStage(t, cloud, d.name())
			c := newCommand(t, s)
			s.die(c, d)
			s.converge(c)
			s.isRotatedFrom(s.first)
			if a := c.run(t, s.event(false)); a.Status != rotator.StatusNotDue {
				t.Errorf("after it: %s", a.raw)
			}
		})
	}
}

// dead is a function that died at a write.
type dead struct {
	stage *stage
	run   function
}

// Under Lambda the lease of a dead run lasts, so all die first and go on together: those
// that redeploy by a pipeline, and those that deploy again what is live.
func TestTheFunctionMayDieAtAnyWrite(t *testing.T) {
	t.Parallel()
	var all []dead
	all = append(all, functionsDie(t, "a pipeline", newStage)...)
	all = append(all, functionsDie(t, "what is live", func(t *testing.T, c *cloud, user string) *stage {
		return newShop(t, c, user, true).stage
	})...)
	all = append(all, functionsDie(t, "a pipeline to staging, then what is live in production", func(t *testing.T, c *cloud, user string) *stage {
		return newShop(t, c, user, false).stage
	})...)
	time.Sleep(runTimeout + leaseAfterDeadline)
	for _, d := range all {
		d.stage.converge(d.run)
		d.stage.isRotatedFrom(d.stage.first)
	}
}

// functionsDie has one function die on either side of every write of a rotation.
func functionsDie(t *testing.T, name string, open func(*testing.T, *cloud, string) *stage) (all []dead) {
	t.Helper()
	cloud := newCloud(t)
	writes := cleanWrites(open(t, cloud, "svc-clean"), func(t *testing.T, s *stage) target { return newFunction(t, s) })
	t.Logf("redeploying by %s, a clean rotation writes:\n%s", name, strings.Join(writes, "\n"))
	busy := 0
	for _, d := range deaths(writes) {
		s := open(t, cloud, d.name())
		f := newFunction(t, s)
		s.die(f, d)
		all = append(all, dead{s, f})
		switch a := f.run(t, s.event(false)); a.Status {
		case rotator.StatusBusy:
			busy++
		case rotator.StatusNotDue: // nothing had begun, or all was done
		default:
			t.Errorf("redeploying by %s it died %s write %d, and the next run is %s", name, d.when, d.write, a.raw)
		}
	}
	if busy < len(all)/2 {
		t.Errorf("redeploying by %s, of %d runs after a death only %d found the lease taken", name, len(all), busy)
	}
	return all
}
