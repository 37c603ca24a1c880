package rotator_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"credential-rotator/rotator"
	"credential-rotator/test/sandbox"
)

// process wires a rotator to one simulated process of the world.
func process(p *sandbox.Ports) *rotator.Rotator {
	return &rotator.Rotator{
		Users: p, Keys: p, Prober: p, Destination: p, Redeployer: p, Tagger: p, Journal: p, Notifier: p,
		Pace: rotator.Pace{
			ProbeDelay: 5 * time.Second, ProbeInterval: 6 * time.Second, ProbeSuccesses: 3, ProbeTimeout: 3 * time.Minute,
			PollInterval: 10 * time.Second, OrphanAge: 20 * time.Minute,
		},
		Owner: "test",
	}
}

// TestACleanRotationReadsAsAStory pins every call of a clean rotation, in order:
// testdata/rotation.txt is meant to be read.
func TestACleanRotationReadsAsAStory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := sandbox.NewScene(sandbox.Lifelike())
		result := advance(t, w.Run("run"), w.Request())
		if result.Status != rotator.StatusRotated || len(w.Violations()) > 0 {
			t.Fatalf("%s: %s %v", result.Status, result.Reason, w.Violations())
		}
		var story strings.Builder
		names := strings.NewReplacer(result.PreviousKeyID, "OLD", result.CurrentKeyID, "NEW")
		for _, c := range w.Calls() {
			fmt.Fprintf(&story, "%5.0fs  %s\n", c.At.Sub(w.Calls()[0].At).Seconds(), names.Replace(c.Name+" "+c.Detail))
		}
		golden, err := os.ReadFile("testdata/rotation.txt")
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(trimmed(string(golden)), trimmed(story.String())); diff != "" {
			t.Errorf("the story has changed (-testdata/rotation.txt +now):\n%s", diff)
		}
	})
}

// trimmed is a story without its comments and its spacing.
func trimmed(text string) []string {
	var lines []string
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			lines = append(lines, line)
		}
	}
	return lines
}

func TestTwoRunsAtOnceMakeOneRotationWhoeverIsFirst(t *testing.T) {
	for head := range 40 { // how far ahead the first is, up to a whole rotation
		synctest.Test(t, func(t *testing.T) {
			w := sandbox.NewScene(sandbox.Lifelike())
			var both sync.WaitGroup
			results := make([]rotator.Result, 2)
			for i := range results {
				both.Go(func() {
					time.Sleep(time.Duration(i*head) * time.Second)
					ctx, cancel := context.WithTimeout(t.Context(), runTime)
					defer cancel()
					results[i], _ = process(w.Run(fmt.Sprint(i))).Advance(ctx, w.Request())
				})
			}
			both.Wait()
			made, rotated := 0, 0
			for _, c := range w.Calls() {
				if c.Name == "iam.CreateAccessKey" {
					made++
				}
			}
			for _, r := range results {
				if r.Status == rotator.StatusRotated {
					rotated++
				}
			}
			if made != 1 || rotated != 1 || len(w.Violations()) > 0 {
				t.Errorf("%d s apart: %d keys were made, %d rotations reported: %v %v", head, made, rotated, results, w.Violations())
			}
		})
	}
}
