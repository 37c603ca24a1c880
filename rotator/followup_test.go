package rotator_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"credential-rotator/rotator"
	"credential-rotator/test/sandbox"
)

// followed is a new process whose follow-up is switched in the world.
func (s *stage) followed() *rotator.Rotator {
	r := s.rotator()
	r.FollowUp = r.Keys.(*sandbox.Ports)
	return r
}

func (s *stage) follows(want bool) {
	s.t.Helper()
	if got := s.Followed(); got != want {
		s.t.Errorf("the follow-up is on: %t, want %t", got, want)
	}
}

// switches are the calls from the n-th on that have to do with the follow-up.
func (s *stage) switches(n int) (names []string) {
	for _, c := range s.Calls()[n:] {
		if strings.HasPrefix(c.Name, "followup.") || c.Name == "journal.InFlight" {
			names = append(names, c.Name)
		}
	}
	return names
}

// switched asks for the calls since that have to do with the follow-up.
func (s *stage) switched(since int, want ...string) {
	s.t.Helper()
	if diff := cmp.Diff(want, s.switches(since)); diff != "" {
		s.t.Errorf("the calls of the follow-up switch (-want +got):\n%s", diff)
	}
}

func TestACleanRotationIsFollowedUpBeforeItsKeyIsMadeAndNotAfterItsEnd(t *testing.T) {
	perform(t, func(s *stage) {
		var order []string
		s.every = func(c sandbox.Call) sandbox.Fate {
			order = append(order, strings.TrimSpace(c.Name+" "+c.Detail))
			return sandbox.OK
		}
		s.wants(s.advance(s.followed(), s.request), rotator.StatusRotated)
		s.follows(false)
		begun := slices.Index(order, "followup.Enable")
		if want := []string{"followup.Enable", "journal.Save svc-billing creating", "followup.Enable", "notifier.Notify Started", "iam.CreateAccessKey svc-billing"}; !slices.Equal(order[begun:begun+5], want) {
			t.Errorf("it begins with %q", order[begun:begun+5])
		}
		if want, got := []string{"journal.InFlight", "followup.Disable", "journal.InFlight", "notifier.Notify Succeeded"}, order[len(order)-4:]; !slices.Equal(got, want) {
			t.Errorf("it ends with %q", got)
		}
		time.Sleep(time.Minute) // until IAM lists the old key no more
		before := len(s.Calls())
		s.wants(s.advance(s.followed(), s.request), rotator.StatusNotDue)
		if quiet := len(s.Calls()) - before; quiet > 4 || len(s.switches(before)) > 0 { // six on the wire
			t.Errorf("a quiet tick makes %d calls: %v", quiet, s.Calls()[before:])
		}
	})
}

func TestARunThatEndsInFlightIsFollowedUpWhoeverHadSwitchedThatOff(t *testing.T) {
	perform(t, func(s *stage) {
		s.request.SoakHours = 10
		s.wants(s.advance(s.followed(), s.request), rotator.StatusRotated, "inactive")
		s.follows(true)
		if err := s.Run("somebody").Disable(s.t.Context()); err != nil {
			t.Fatal(err)
		}
		before := len(s.Calls())
		s.wants(s.advance(s.followed(), s.request), rotator.StatusWaiting)
		s.switched(before, "followup.Enable")
		s.follows(true)

		time.Sleep(11 * time.Hour)
		before = len(s.Calls())
		s.wants(s.advance(s.followed(), s.request), rotator.StatusRotated)
		s.switched(before, "journal.InFlight", "followup.Disable", "journal.InFlight")
		s.follows(false)
	})
}

func TestWhatOthersHaveInFlightIsStillFollowedUpWhenARotationEnds(t *testing.T) {
	perform(t, func(s *stage) {
		other := s.neighbour("svc-other", 5000)
		other.SoakHours = 10
		s.wants(s.advance(s.rotator(), other), rotator.StatusRotated)
		before := len(s.Calls())
		s.wants(s.advance(s.followed(), s.request), rotator.StatusRotated)
		s.switched(before, "followup.Enable", "followup.Enable", "journal.InFlight", "followup.Enable")
		s.follows(true)
	})
}

// lagging is a journal whose list still shows what has ended, or does not show yet what
// somebody has begun.
type lagging struct {
	rotator.Journal
	list func() []rotator.Record
}

func (l lagging) InFlight(context.Context) ([]rotator.Record, error) { return l.list(), nil }

func TestAListThatLagsDoesNotKeepTheFollowUpOn(t *testing.T) {
	for name, c := range map[string]struct {
		later int64 // than the version that the run saved last
		want  bool
	}{
		"its own record as it was is no reason":   {-1, false},
		"nor as it ended":                         {0, false},
		"but a rotation that has begun since, is": {1, true},
	} {
		t.Run(name, func(t *testing.T) {
			perform(t, func(s *stage) {
				r := s.followed()
				r.Journal = lagging{r.Journal, func() []rotator.Record {
					shown := s.Record(serviceUser)
					shown.Phase, shown.Version = rotator.PhaseSoaking, shown.Version+c.later
					return []rotator.Record{shown}
				}}
				s.wants(s.advance(r, s.request), rotator.StatusRotated)
				s.follows(c.want)
			})
		})
	}
}

// Between the look and the switch another rotation has begun.
func TestARotationThatBeginsWhileTheFollowUpIsSwitchedOffIsFollowedUp(t *testing.T) {
	perform(t, func(s *stage) {
		r, looks := s.followed(), 0
		r.Journal = lagging{r.Journal, func() []rotator.Record {
			if looks++; looks == 1 {
				return nil
			}
			return []rotator.Record{{User: "svc-other", Phase: rotator.PhaseCreating, Version: 1}}
		}}
		before := len(s.Calls())
		s.wants(s.advance(r, s.request), rotator.StatusRotated)
		s.switched(before, "followup.Enable", "followup.Enable", "followup.Disable", "followup.Enable")
		s.follows(true)
	})
}

func TestAFollowUpThatCannotBeSwitchedIsOneWarningAndNoMore(t *testing.T) {
	for name, c := range map[string]struct {
		fails string
		soak  int
		warns string
		on    bool
	}{
		"a missing rule":                           {"followup.", 0, "follow-ups go on though nothing is in flight: 403", false},
		"a missing rule, and it ends in flight":    {"followup.", 10, "nobody follows up, so what is in flight waits for its own schedule: 403", false},
		"one that cannot be switched off":          {"followup.Disable", 0, "follow-ups go on though nothing is in flight: 403", true},
		"a list that cannot be read":               {"journal.InFlight", 0, "whether follow-ups are still needed could not be read, so they go on: 403", true},
		"one that cannot be switched on, but off ": {"followup.Enable", 0, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			perform(t, func(s *stage) {
				s.request.SoakHours = c.soak
				s.every = func(call sandbox.Call) sandbox.Fate {
					if strings.HasPrefix(call.Name, c.fails) {
						return sandbox.Refused
					}
					return sandbox.OK
				}
				result := s.wants(s.advance(s.followed(), s.request), rotator.StatusRotated)
				s.follows(c.on)
				switch {
				case c.warns == "" && len(result.Warnings) == 0:
				case c.warns == "" || len(result.Warnings) != 1 || !strings.Contains(result.Warnings[0], c.warns):
					t.Errorf("warnings are %q, want one: %s", result.Warnings, c.warns)
				}
				if told := s.Notices()[0].Result.Warnings; strings.HasPrefix(c.fails, "followup.E") && len(told) != 1 {
					t.Errorf("when it started, this was told: %q", told)
				}
			})
		})
	}
}

func TestASwitchThatHangsKeepsNobodyFromAnswering(t *testing.T) {
	perform(t, func(s *stage) {
		s.every = func(c sandbox.Call) sandbox.Fate {
			if strings.HasPrefix(c.Name, "followup.") || c.Name == "journal.InFlight" {
				return sandbox.Stalled
			}
			return sandbox.OK
		}
		s.QueueOutcomes(4711, sandbox.Stuck)
		ctx, cancel := context.WithTimeout(s.t.Context(), s.deadline)
		defer cancel()
		result, err := s.followed().Advance(ctx, s.request)
		s.proper(result, err)
		s.wants(result, rotator.StatusWaiting)
		if ctx.Err() != nil {
			t.Error("it took longer than it had")
		}
	})
}

func TestARunThatFindsAnotherAtWorkLeavesTheFollowUpToIt(t *testing.T) {
	perform(t, func(s *stage) {
		at := 0
		s.every = func(c sandbox.Call) sandbox.Fate {
			if c.Name == "iam.CreateAccessKey" {
				at = len(s.Calls())
				second := process(s.Run("second"))
				second.FollowUp = second.Keys.(*sandbox.Ports)
				s.wants(s.advance(second, s.request), rotator.StatusBusy)
				s.switched(at)
			}
			return sandbox.OK
		}
		s.wants(s.advance(s.followed(), s.request), rotator.StatusRotated)
		if at == 0 {
			t.Error("there was no second run")
		}
	})
}

// resumed is one follow-up.
func (s *stage) resumed() ([]rotator.Result, error) {
	ctx, cancel := context.WithTimeout(s.t.Context(), s.deadline)
	defer cancel()
	began := time.Now()
	results, err := s.followed().Resume(ctx)
	if took := time.Since(began); took >= s.deadline {
		s.t.Errorf("it took %s of its %s", took, s.deadline)
	}
	return results, err
}

func TestAFollowUpSwitchesOnceForAllOfItsRotations(t *testing.T) {
	perform(t, func(s *stage) {
		s.request.SoakHours = 1
		var all []rotator.Request
		for i := range 5 {
			all = append(all, s.neighbour(fmt.Sprint("svc-", i), int64(5000+i)))
			s.wants(s.advance(s.rotator(), all[i]), rotator.StatusRotated)
		}
		before := len(s.Calls())
		if _, err := s.resumed(); err != nil {
			t.Error(err)
		}
		s.switched(before, "journal.InFlight", "followup.Enable")
		time.Sleep(time.Hour)
		before = len(s.Calls())
		if _, err := s.resumed(); err != nil {
			t.Error(err)
		}
		s.switched(before, "journal.InFlight", "journal.InFlight", "followup.Disable", "journal.InFlight")
		s.follows(false)

		before = len(s.Calls())
		if results, err := s.resumed(); err != nil || len(results) > 0 { // whoever had left it on
			t.Error(results, err)
		}
		s.switched(before, "journal.InFlight", "followup.Disable", "journal.InFlight")
	})
}

func TestAFollowUpThatCannotBeSwitchedTellsSo(t *testing.T) {
	perform(t, func(s *stage) {
		s.request.SoakHours = 1
		for i := range 3 {
			s.wants(s.advance(s.rotator(), s.neighbour(fmt.Sprint("svc-", i), int64(5000+i))), rotator.StatusRotated)
		}
		s.every = func(c sandbox.Call) sandbox.Fate {
			if strings.HasPrefix(c.Name, "followup.") {
				return sandbox.Refused
			}
			return sandbox.OK
		}
		tells := func(want string) {
			results, err := s.resumed()
			told := []string{fmt.Sprint(err)}
			for _, r := range results {
				told = append(told, r.Warnings...)
			}
			if n := strings.Count(strings.Join(told, "\n"), want); n != 1 {
				t.Errorf("%q is told %d times: %q", want, n, told)
			}
		}
		tells("nobody follows up")
		time.Sleep(time.Hour)
		tells("follow-ups go on though nothing is in flight")
		tells("follow-ups go on though nothing is in flight") // with no result to tell it
	})
}

// neverEnding puts rotations in flight that wait for pipelines which do not end.
func (s *stage) neverEnding(n int) {
	s.t.Helper()
	s.deadline = time.Minute
	for i := range n {
		request := s.neighbour(fmt.Sprintf("svc-%02d", i), int64(5000+i))
		s.QueueOutcomes(request.ProjectID, sandbox.Stuck)
		s.wants(s.advance(s.rotator(), request), rotator.StatusWaiting, "time is over")
	}
}

// looked is how many of the projects the calls from the n-th on looked at.
func (s *stage) looked(since int) map[string]int {
	at := map[string]int{}
	for _, c := range s.Calls()[since:] {
		if c.Name == "gitlab.GET redeploy" {
			at[c.Detail]++
		}
	}
	return at
}

func TestLongPipelinesDoNotKeepTheNinthFromItsTurn(t *testing.T) {
	for name, c := range map[string]struct {
		deadline time.Duration
		rounds   int // how many follow-ups it takes at most until all have had a turn
		turns    int // how many have one in each
	}{
		"in a quarter of an hour all of them have one":      {15 * time.Minute, 1, 20},
		"in two minutes sixteen, the others in later ones":  {2 * time.Minute, 20, 16},
		"in the shortest run that rotates, as many":         {30 * time.Second, 20, 16},
		"in five minutes all, of a minute and a half each,": {5 * time.Minute, 1, 20},
	} {
		t.Run(name, func(t *testing.T) {
			perform(t, func(s *stage) {
				s.neverEnding(20)
				s.deadline = c.deadline
				seen := map[string]int{}
				rounds := 0
				for ; len(seen) < 20 && rounds < c.rounds; rounds++ {
					before := len(s.Calls())
					results, err := s.resumed()
					looked := s.looked(before)
					if err != nil || len(results) != 20 || len(looked) != c.turns {
						t.Errorf("%d had a turn, %d results: %v", len(looked), len(results), err)
					}
					for project := range looked {
						seen[project]++
					}
					without := 0
					for _, r := range results {
						s.wants(r, rotator.StatusWaiting)
						if strings.Contains(r.Reason, "no time left for this one") {
							without++
						}
					}
					if without != 20-c.turns {
						t.Errorf("%d are told to have had no turn, want %d", without, 20-c.turns)
					}
				}
				if len(seen) != 20 {
					t.Errorf("after %d follow-ups %d of 20 have had a turn", rounds, len(seen))
				}
			})
		})
	}
}

func TestOneThatFailsInAFollowUpStopsNoOtherAndGivesItsTimeAway(t *testing.T) {
	perform(t, func(s *stage) {
		s.neverEnding(9)
		s.deadline = 10 * time.Minute
		s.EditToken("rotator", func(t *sandbox.Token) {
			for i := range 8 {
				delete(t.Roles, int64(5000+i))
			}
		})
		before, began := len(s.Calls()), time.Now()
		results, err := s.resumed()
		if err != nil || len(results) != 9 {
			t.Fatal(results, err)
		}
		for _, r := range results {
			want := rotator.StatusFailed
			if r.User == "svc-08" {
				want = rotator.StatusWaiting
			}
			s.wants(r, want)
		}
		if took := time.Since(began); s.looked(before)["5008"] < 20 || took < 4*time.Minute {
			t.Errorf("the last looked %d times, in %s", s.looked(before)["5008"], took)
		}
	})
}

func TestARecordThatThisVersionCannotReadStopsNoOther(t *testing.T) {
	perform(t, func(s *stage) {
		s.neverEnding(2)
		r := s.Record("svc-00")
		r.Request.Redeploy = "hope"
		if _, err := s.Run("another version").Save(s.t.Context(), r); err != nil {
			t.Fatal(err)
		}
		results, err := s.resumed()
		if err != nil || len(results) != 2 {
			t.Fatal(results, err)
		}
		s.wants(results[0], rotator.StatusRefused, "redeploy must be")
		s.wants(results[1], rotator.StatusWaiting, "time is over")
		s.follows(true)
	})
}
