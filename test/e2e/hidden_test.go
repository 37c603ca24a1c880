package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	iamtypes "github.com/aws/aws-sdk-go-v2/service/iam/types"

	"credential-rotator/rotator"
	"credential-rotator/test/sandbox"
)

// hiddenScene is a key in hidden variables of two projects: once the run that made it has
// died, nobody can read its secret.
func hiddenScene(user string) scene {
	return scene{
		user: user, binding: fmt.Sprintf("%d %d", projectID, searchID), projects: []int64{projectID, searchID},
		places: []rotator.Place{placeOf(projectID, "*"), placeOf(searchID, "*")},
		as:     sandbox.Variable{Masked: true, Hidden: true},
		asks:   `"destinations":[{"project_id":4711,"environment":"production"},{"project_id":4712,"environment":"production"}]`,
	}
}

// Each project hands out a pair that works, but not the same one. Whichever is given up,
// jobs that start there fail until the next key is there. What runs has the old key: it
// keeps running when the new one is given up, and does not when the old one is.
//
// Variables that the program has never written have no stamp, so that nobody can tell
// which key is in them when they are hidden.
func TestADeathBetweenTwoHiddenPlacesIsHeldUntilAPersonGivesUpOneKey(t *testing.T) {
	t.Parallel()
	cloud := newCloud(t)
	writes := cleanWrites(newEstate(t, cloud, hiddenScene("svc-clean")).stage, func(t *testing.T, s *stage) target { return newCommand(t, s) })
	between := 1 + slices.Index(writes, "gitlab PUT /projects/4711/variables/AWS_ACCESS_KEY_ID")
	if between == 0 || writes[between] != "gitlab PUT /projects/4712/variables/AWS_SECRET_ACCESS_KEY" {
		t.Fatalf("a clean rotation writes %q", writes)
	}
	for name, c := range map[string]struct {
		user  string
		dies  death
		place int  // whose key is given up
		fresh bool // the variables have no stamp yet
	}{
		"the new one, after the first place":    {"svc-new", death{between, After, writes[between-1]}, 0, false},
		"the old one, before the second":        {"svc-old", death{between + 1, Before, writes[between]}, 1, false},
		"the new one, when there are no stamps": {"svc-unstamped-new", death{between, After, writes[between-1]}, 0, true},
		"the old one, when there are no stamps": {"svc-unstamped-old", death{between, After, writes[between-1]}, 1, true},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEstate(t, cloud, hiddenScene(c.user))
			command := newCommand(t, e.stage)
			has := "nothing that can be read"
			if !c.fresh {
				if a := command.run(t, e.event(true)); a.Status != rotator.StatusRotated {
					t.Fatalf("the first rotation: %s", a.raw)
				}
				e.first = e.published()
				has = e.first
			}
			e.die(command, c.dies)
			t.Logf("it died %s %s", c.dies.when, c.dies.line)
			e.isHeldInHalves(command, has)
			made := len(e.madeKeys())

			place := e.places[c.place]
			given := e.pairAt(place).AccessKeyID
			e.mu.Lock()
			e.spared, e.down = map[rotator.Place]bool{place: true}, given == e.first
			e.mu.Unlock()
			a := command.run(t, fmt.Appendf(nil, `{"user":%q,%s,"force":true,"retire_key":%q}`, e.user, e.asks, given))
			t.Logf("a person runs it with force and retire_key %s, which %s has: %s: %s", given, place.Owner(), a.Status, a.Reason)
			if a.Status != rotator.StatusRotated {
				t.Fatalf("got %s\n%s", a.raw, e.trace())
			}
			e.isRotatedFrom(e.first)
			if n := len(e.madeKeys()) - made; n != 1 {
				t.Errorf("%d keys were made", n)
			}
			if a := command.run(t, e.event(false)); a.Status != rotator.StatusNotDue {
				t.Errorf("after it: %s", a.raw)
			}
		})
	}
}

// isHeldInHalves asserts that nothing goes on by itself, not by force either, and that
// nothing is broken: each place has a pair that works. has is what is told of the second.
func (e *estate) isHeldInHalves(c *command, has string) {
	t := e.t
	t.Helper()
	for _, force := range []bool{false, true} {
		writes := len(e.wire.Writes())
		a := c.run(t, e.event(force))
		t.Logf("force %t: %s: %s", force, a.Status, a.Reason)
		fresh := e.published()
		if a.Status != rotator.StatusHeld || fresh == e.first {
			t.Fatalf("got %s\n%s", a.raw, e.trace())
		}
		for _, want := range []string{
			fmt.Sprintf("died before it was in all places (project 4711 [*] has %s, project 4712 [*] has %s)", fresh, has),
			"nobody can read its secret, which is hidden: both keys work, so nothing is broken",
			fmt.Sprintf("run with force and name %s in retire_key", fresh), "all else runs with " + e.first,
		} {
			if !strings.Contains(a.Reason, want) {
				t.Errorf("it does not say %q: %s", want, a.Reason)
			}
		}
		if told := without(e.wire.Writes()[writes:], "events PutEvents"); len(told) > 0 {
			t.Errorf("it wrote %q", told)
		}
	}
	if keys := e.keys(); len(keys) != 2 || slices.ContainsFunc(keys, func(k iamtypes.AccessKeyMetadata) bool { return k.Status != iamtypes.StatusTypeActive }) {
		t.Errorf("the keys are %s", keyList(keys))
	}
	for _, p := range e.places {
		pair := e.pairAt(p)
		if err := e.cloud.authenticates(t.Context(), pair.AccessKeyID, pair.SecretAccessKey); err != nil {
			t.Errorf("what %s has does not work: %v", p, err)
		}
	}
	if told := e.events(); !slices.Equal(told[len(told)-2:], []string{"Started", "Held"}) {
		t.Errorf("told was %q", told)
	}
}
