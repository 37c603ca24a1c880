package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"credential-rotator/rotator"
)

// screen is a writer for several goroutines.
type screen struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (s *screen) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.Write(b)
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.String()
}

// shown is what a terminal shows in the end, line by line, and the longest line that
// it ever showed of those that move.
func shown(text string) (lines []string, longest int) {
	var now string
	for _, part := range regexp.MustCompile(`\r\x1b\[K|\n|[^\r\n\x1b]+|\x1b\[\d+m`).FindAllString(text, -1) {
		switch {
		case part == "\n":
			lines, now = append(lines, now), ""
		case part == "\r\x1b[K":
			longest = max(longest, utf8.RuneCountInString(now))
			now = ""
		case !strings.HasPrefix(part, "\x1b"):
			now += part
		}
	}
	return append(lines, now), longest
}

// live is a view as newView makes it on a terminal.
func live(out *screen, width int, paint bool) *view {
	v := &view{out: out, current: map[string]line{}, stop: make(chan struct{}), paint: paint, width: func() int { return width }}
	v.stopped.Go(v.animate)
	return v
}

const pipelineURL = "https://gitlab.example.com/shop/billing/-/pipelines/61"

// rotation is what a view is told of in a clean rotation that takes a while.
func rotation(v *view) {
	tell := func(step rotator.Step, state rotator.ProgressState, detail, url string) {
		v.step(rotator.Progress{User: "svc-billing", Step: step, State: state, Detail: detail, URL: url})
	}
	tell(rotator.StepCreate, rotator.StepStarted, "due", "")
	tell(rotator.StepCreate, rotator.StepDone, "AKIANEW", "")
	tell(rotator.StepMark, rotator.StepStarted, "only written down", "")
	tell(rotator.StepMark, rotator.StepDone, "only written down", "")
	tell(rotator.StepRedeploy, rotator.StepStarted, "", "")
	tell(rotator.StepRedeploy, rotator.StepDone, "pipeline 61 on main", pipelineURL)
	for _, status := range []string{"created", "running", "running", "running"} {
		tell(rotator.StepAwait, rotator.StepWaiting, "pipeline 61 is "+status, pipelineURL)
		time.Sleep(11 * time.Second)
	}
	tell(rotator.StepAwait, rotator.StepDone, "pipeline 61 succeeded", "")
	tell(rotator.StepDeactivate, rotator.StepFailed, "AWS said no", "")
}

func TestElsewhereThanOnATerminalThereIsOneLineAStepAndNoEscapeCode(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out screen
		v := newView(&out, false, nil)
		rotation(v)
		v.close()
		v.close()
		want := `✓ create a key      AKIANEW
✓ redeploy          pipeline 61 on main  ` + pipelineURL + `
… deployment        pipeline 61 is created  ` + pipelineURL + `
… deployment        pipeline 61 is running  ` + pipelineURL + `  11s
✓ deployment        pipeline 61 succeeded  44s
✗ deactivate old    AWS said no
`
		if got := out.String(); got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
	})
}

func TestATerminalIsDrawnWithinItsWidth(t *testing.T) {
	t.Parallel()
	for _, width := range []int{200, 80, 40, 20, 10, 4} {
		t.Run(fmt.Sprint(width), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var out screen
				v := live(&out, width, true)
				rotation(v)
				v.close()
				lines, longest := shown(out.String())
				if longest >= width {
					t.Errorf("a moving line had %d columns, of %d", longest, width)
				}
				want := []string{
					"✓ create a key      AKIANEW", "✓ redeploy          pipeline 61 on main  " + pipelineURL,
					"✓ deployment        pipeline 61 succeeded  44s", "✗ deactivate old    AWS said no", "",
				}
				if strings.Join(lines, "\n") != strings.Join(want, "\n") {
					t.Errorf("in the end there is\n%s\nwant\n%s", strings.Join(lines, "\n"), strings.Join(want, "\n"))
				}
			})
		})
	}
}

func TestATerminalShowsWhatHappensWhileItHappens(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out screen
		v := live(&out, 100, false)
		v.step(rotator.Progress{User: "svc-billing", Step: rotator.StepAwait, State: rotator.StepWaiting, Detail: "pipeline 61 is running"})
		time.Sleep(12*time.Second + 50*time.Millisecond)
		lines, _ := shown(out.String())
		if now := lines[len(lines)-1]; !regexp.MustCompile(`^[` + spinner + `] deployment        12s  pipeline 61 is running$`).MatchString(now) {
			t.Errorf("it shows %q", now)
		}
		frames := map[rune]bool{}
		for _, r := range out.String() {
			if strings.ContainsRune(spinner, r) {
				frames[r] = true
			}
		}
		if len(frames) != utf8.RuneCountInString(spinner) {
			t.Errorf("the spinner had %d frames", len(frames))
		}
		v.close()
		if lines, _ := shown(out.String()); len(lines) != 1 || lines[0] != "" {
			t.Errorf("closed in the middle of a step, it leaves %q", lines)
		}
		before := out.String()
		time.Sleep(time.Second)
		if out.String() != before {
			t.Error("it draws after it was closed")
		}
	})
}

func TestNoColorLeavesTheMovementAndTakesTheColour(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for _, paint := range []bool{true, false} {
			var out screen
			v := live(&out, 80, paint)
			rotation(v)
			v.close()
			if got := regexp.MustCompile(`\x1b\[\d+m`).MatchString(out.String()); got != paint {
				t.Errorf("painted is %t, want %t", got, paint)
			}
			if !strings.Contains(out.String(), "\r\x1b[K") {
				t.Error("nothing moved")
			}
		}
	})
}

func TestWhetherToPaintIsReadFromTheEnvironment(t *testing.T) {
	t.Parallel()
	for set, want := range map[string]bool{"": false, "NO_COLOR=1": true, "NO_COLOR=": false, "NO_COLORS=1": false, "NO_COLOR=false": true} {
		if got := has([]string{"HOME=/", set, "PATH=/bin"}, "NO_COLOR="); got != want {
			t.Errorf("%q: %t, want %t", set, got, want)
		}
	}
	if !has([]string{"TERM=dumb"}, "TERM=dumb") || has([]string{"TERM=xterm"}, "TERM=dumb") {
		t.Error("TERM=dumb is not told from others")
	}
}

func TestAFileIsNoTerminal(t *testing.T) {
	t.Parallel()
	file, err := os.Create(t.TempDir() + "/out")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	v := newView(file, false, nil)
	defer v.close()
	if v.width != nil || v.paint {
		t.Error("it is taken for one")
	}
}

func TestSeveralRotationsAtOnceAreToldApart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out screen
		v := newView(&out, true, nil)
		for range 10 { // looks at two deployments
			for _, user := range []string{"svc-billing", "svc-shop"} {
				v.step(rotator.Progress{User: user, Step: rotator.StepAwait, State: rotator.StepWaiting, Detail: user + "'s pipeline is running"})
			}
			time.Sleep(time.Second)
		}
		for _, user := range []string{"svc-billing", "svc-shop"} {
			v.step(rotator.Progress{User: user, Step: rotator.StepAwait, State: rotator.StepDone, Detail: "pipeline succeeded"})
		}
		want := `… svc-billing  deployment        svc-billing's pipeline is running
… svc-shop  deployment        svc-shop's pipeline is running
✓ svc-billing  deployment        pipeline succeeded  10s
✓ svc-shop  deployment        pipeline succeeded  10s
`
		if got := out.String(); got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
	})
}

func TestSeveralRotationsAtOnceKeepTheirLinesWhole(t *testing.T) {
	t.Parallel()
	var out screen
	v := newView(&out, true, nil)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for range 20 {
				p := rotator.Progress{User: fmt.Sprint("svc-", i), Step: rotator.StepCreate, State: rotator.StepStarted}
				v.step(p)
				p.State, p.Detail = rotator.StepDone, "AKIANEW"
				v.step(p)
			}
		})
	}
	all.Wait()
	if n := len(regexp.MustCompile(`(?m)^✓ svc-\d  create a key      AKIANEW$`).FindAllString(out.String(), -1)); n != 160 {
		t.Errorf("%d whole lines of 160", n)
	}
}

func TestWaitingEndsWithTheTimeThereIs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out screen
		v := newView(&out, false, nil)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		result := rotator.Result{Status: rotator.StatusWaiting, Reason: "pipeline 61 is manual", Deployment: &rotator.Deployment{URL: pipelineURL}}
		looks := 0
		for v.waiting(ctx, result, 10*time.Second) {
			looks++
		}
		if looks < 4 || looks > 6 || ctx.Err() != nil {
			t.Errorf("looked %d times in a minute, and then %v", looks, ctx.Err())
		}
		if want := "… wait              pipeline 61 is manual  " + pipelineURL + "\n"; out.String() != want {
			t.Errorf("said %q, want once %q", out.String(), want)
		}
		cancel()
		if v.waiting(ctx, result, 10*time.Second) {
			t.Error("it goes on after it was stopped")
		}
	})
}

func TestADurationIsSaidAsAPersonSaysIt(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		0: "0.0s", 1250 * time.Millisecond: "1.2s", 9949 * time.Millisecond: "9.9s", 12400 * time.Millisecond: "12s", 61 * time.Second: "1m1s", time.Hour: "1h0m0s",
		9999 * time.Millisecond: "10s", 2 * time.Minute: "2m0s",
	} {
		if got := elapsed(d); got != want {
			t.Errorf("%v is %s, want %s", d, got, want)
		}
	}
}
