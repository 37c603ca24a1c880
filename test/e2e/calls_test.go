package e2e

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"credential-rotator/rotator"
)

// budget is how many remote calls one clean rotation may make besides its polling:
// GitLab counts requests, and a reviewer reads them.
const budget = 34

// TestOneRotationOnTheWireReadsAsAStory pins every remote call of a clean rotation
// of the function, in order: testdata/calls.txt is meant to be read.
func TestOneRotationOnTheWireReadsAsAStory(t *testing.T) {
	t.Parallel()
	s := newStage(t, newCloud(t), "svc-billing")
	f := newFunction(t, s)
	f.run(t, s.event(false)) // warm, and not due
	before := len(s.wire.Calls())
	if a := f.run(t, s.event(true)); a.Status != rotator.StatusRotated {
		t.Fatalf("got %s\n%s", a.raw, s.trace())
	}
	var story []string
	calls, sends := 0, 0
	for _, c := range s.wire.Calls()[before:] {
		line := general(c.Line)
		polls := line == "sts GetCallerIdentity" || strings.HasPrefix(line, "gitlab GET /projects/4711/pipelines/ID")
		if len(story) > 0 && story[len(story)-1] == line && polls {
			continue // once more
		}
		if story = append(story, line); !polls {
			calls++
		}
		if strings.Contains(line, "variables/AWS_SECRET_ACCESS_KEY") {
			sends++
		}
	}
	golden, err := os.ReadFile("testdata/calls.txt")
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for line := range strings.Lines(string(golden)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			want = append(want, line)
		}
	}
	if diff := cmp.Diff(want, story); diff != "" {
		t.Errorf("the story has changed (-testdata/calls.txt +now):\n%s", diff)
	}
	if calls > budget || sends != 1 {
		t.Errorf("%d calls besides the polling, at most %d; the secret was sent %d times", calls, budget, sends)
	}
	s.callsHoldNoSecret()
}

// general is a line without the numbers of this run.
func general(line string) string {
	line = regexp.MustCompile(`pipelines/\d+`).ReplaceAllString(line, "pipelines/ID")
	return regexp.MustCompile(`AKIA[A-Z0-9]+`).ReplaceAllString(line, "KEY")
}
