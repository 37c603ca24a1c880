package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"credential-rotator/rotator"
)

// view shows the steps of a rotation while they happen. On a terminal the step
// under way has a spinner and its time, and what is done stays above it; elsewhere
// there is one line a step, and one whenever something else is waited for.
type view struct {
	out   io.Writer
	width func() int // of the terminal; nil: it is none
	paint bool
	named bool // lines tell whose they are: several rotations may be under way

	mu      sync.Mutex
	current map[string]line // the steps under way, by user
	alone   string          // the user whose step is drawn live
	frame   int
	stop    chan struct{}
	stopped sync.WaitGroup
}

// line is one step as it is shown.
type line struct {
	step   rotator.Step
	user   string
	detail string
	url    string
	began  time.Time
	told   string // what it was said to wait for
}

const (
	frameTime = 100 * time.Millisecond // smooth, and cheap over ssh
	titleWide = 18                     // the longest title, and a gap
	lookTime  = time.Second            // what a run takes that finds nothing to do
	spinner   = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
)

// stepWait is what rotate --wait does between two runs.
const stepWait rotator.Step = "wait"

// newView shows on a terminal what happens live, unless lines are asked for, or the
// terminal cannot redraw one.
func newView(out io.Writer, lines bool, environ []string) *view {
	v := &view{out: out, named: lines, current: map[string]line{}, stop: make(chan struct{})}
	file, ok := out.(*os.File)
	if lines || !ok || has(environ, "TERM=dumb") || !term.IsTerminal(int(file.Fd())) {
		return v
	}
	v.width = func() int {
		if wide, _, err := term.GetSize(int(file.Fd())); err == nil && wide > 0 {
			return wide
		}
		return 80 // also where a terminal does not know its own size
	}
	v.paint = !has(environ, "NO_COLOR=")
	v.stopped.Go(v.animate)
	return v
}

// has tells whether a variable is set to something; its name ends in "=".
func has(environ []string, prefix string) bool {
	for _, e := range environ {
		if strings.HasPrefix(e, prefix) && (len(e) > len(prefix) || !strings.HasSuffix(prefix, "=")) {
			return true
		}
	}
	return false
}

// close leaves the terminal as it was. It may be called twice.
func (v *view) close() {
	v.mu.Lock()
	select {
	case <-v.stop:
	default:
		close(v.stop)
	}
	v.mu.Unlock()
	v.stopped.Wait()
	v.mu.Lock()
	defer v.mu.Unlock()
	v.clear()
	clear(v.current)
}

func (v *view) animate() {
	tick := time.NewTicker(frameTime)
	defer tick.Stop()
	for {
		select {
		case <-v.stop:
			return
		case <-tick.C:
			v.mu.Lock()
			v.frame++
			v.draw()
			v.mu.Unlock()
		}
	}
}

// title is what a step is called on the screen; "" for one that only writes down.
func title(s rotator.Step) string {
	switch s {
	case rotator.StepTidy:
		return "free a slot"
	case rotator.StepBegin:
		return "begin"
	case rotator.StepCreate:
		return "create a key"
	case rotator.StepProve:
		return "prove it"
	case rotator.StepRecover:
		return "read it back"
	case rotator.StepPublishSecret:
		return "publish secret"
	case rotator.StepPublishKeyID:
		return "publish key id"
	case rotator.StepRedeploy:
		return "redeploy"
	case rotator.StepTag:
		return "tag live commit"
	case rotator.StepUntag:
		return "remove the tag"
	case rotator.StepAwait:
		return "deployment"
	case rotator.StepDeactivate:
		return "deactivate old"
	case rotator.StepDelete:
		return "delete old"
	case rotator.StepDiscard:
		return "discard new"
	case rotator.StepRestart:
		return "start over"
	case stepWait:
		return "wait"
	}
	return ""
}

// step is told of every moment of every step.
func (v *view) step(p rotator.Progress) {
	if title(p.Step) == "" && p.State != rotator.StepFailed {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	l := v.current[p.User]
	if l.step != p.Step {
		l = line{step: p.Step, user: p.User, began: time.Now()}
	}
	l.detail, l.url = harmless(p.Detail, false), harmless(p.URL, false)
	switch p.State {
	case rotator.StepDone:
		v.settle("✓", l, "32")
		return
	case rotator.StepFailed:
		v.settle("✗", l, "31")
		return
	case rotator.StepWaiting:
		if v.width == nil && l.told != l.detail {
			l.told = l.detail
			v.print("…", l, "")
		}
	case rotator.StepStarted:
	}
	v.current[p.User], v.alone = l, p.User
	v.draw()
}

// settle turns the line of a step under way into one that stays.
func (v *view) settle(sign string, l line, color string) {
	v.clear()
	v.print(sign, l, color)
	delete(v.current, l.user)
}

func (v *view) print(sign string, l line, color string) {
	took := ""
	if d := time.Since(l.began); d >= 100*time.Millisecond {
		took = "  " + elapsed(d)
	}
	text := l.detail
	if l.url != "" {
		text += "  " + l.url
	}
	name := ""
	if v.named {
		name = l.user + "  "
	}
	_, _ = fmt.Fprintf(v.out, "%s %s%-*s%s%s\n", v.colored(sign, color), name, titleWide, titleOr(l.step), text, v.colored(took, "2"))
}

func titleOr(s rotator.Step) string {
	if t := title(s); t != "" {
		return t
	}
	return strings.ReplaceAll(string(s), "_", " ")
}

// draw redraws the line of the step under way, cut to the terminal's width.
func (v *view) draw() {
	l, ok := v.current[v.alone]
	if v.width == nil || !ok {
		return
	}
	frames := []rune(spinner)
	text := fmt.Sprintf("%-*s%s  %s", titleWide, titleOr(l.step), elapsed(time.Since(l.began)), l.detail)
	if l.url != "" {
		text += "  " + l.url
	}
	const around = 3 // the spinner, a space, and one column that stays free
	if runes, wide := []rune(text), max(v.width()-around, 1); len(runes) > wide {
		text = string(runes[:wide-1]) + "…"
	}
	_, _ = fmt.Fprintf(v.out, "\r\x1b[K%s %s", v.colored(string(frames[v.frame%len(frames)]), "36"), text)
}

// clear takes the moving line away.
func (v *view) clear() {
	if v.width != nil {
		_, _ = io.WriteString(v.out, "\r\x1b[K")
	}
}

func (v *view) colored(s, color string) string {
	if !v.paint || color == "" || s == "" {
		return s
	}
	return "\x1b[" + color + "m" + s + "\x1b[0m"
}

// waiting shows what a result waits for, and waits a little itself. It tells
// whether there is time to look again.
func (v *view) waiting(ctx context.Context, r rotator.Result, pause time.Duration) bool {
	url := ""
	if r.Deployment != nil {
		url = r.Deployment.URL
	}
	v.step(rotator.Progress{User: r.User, Step: stepWait, State: rotator.StepWaiting, Detail: r.Reason, URL: url})
	if ends, ok := ctx.Deadline(); ok && time.Until(ends) < pause+lookTime {
		return false // a look that is cut short would know less than this result
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// elapsed is a duration as a person says it.
func elapsed(d time.Duration) string {
	if d.Round(100*time.Millisecond) < 10*time.Second {
		return fmt.Sprintf("%.1fs", d.Seconds())
	}
	return d.Round(time.Second).String()
}
