package sim

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"

	"credential-rotator/rotator"
	"credential-rotator/test/sandbox"
)

// While one rotation ends, and switches the follow-up off, another one begins: at every
// call of that end, and it dies after every one of its own. Nothing but dying before it
// had switched the follow-up on may leave it without one.
func TestGateARotationThatBeginsWhileAnotherEndsIsFollowedUp(t *testing.T) {
	for at := 1; beginsAt(t, at, forEver); at++ {
		for dies := 1; dies < 40; dies++ {
			beginsAt(t, at, dies)
		}
	}
}

const forEver = 1 << 30

// beginsAt lets the other rotation begin at the end's at-th call, and die after so many
// of its own. It tells whether there was such a call.
func beginsAt(t *testing.T, at, dies int) (met bool) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		m := &months{World: sandbox.New(sandbox.Lifelike()), rng: rand.New(rand.NewPCG(1, 2))} // #nosec G404: a story
		m.add(0, 100)
		m.add(1, 101)
		m.AddToken(sandbox.Token{Name: "rotator", Scopes: []string{"api"}, Roles: map[int64]int{100: sandbox.Maintainer, 101: sandbox.Maintainer}})
		enabled := false
		second := func() {
			m.forced(t, "second", m.services[1], func(c sandbox.Call) sandbox.Fate {
				enabled = enabled || c.Name == "followup.Enable" && c.N <= dies && m.Record(m.services[1].User).InFlight()
				if c.N == dies {
					return sandbox.CrashAfter
				}
				return sandbox.OK
			})
		}
		n := 0
		m.forced(t, "first", m.services[0], func(c sandbox.Call) sandbox.Fate {
			ends := c.Name == "journal.Save" && strings.HasSuffix(c.Detail, string(rotator.PhaseIdle))
			if n > 0 || ends {
				if n++; n == at {
					met = true
					second()
				}
			}
			return sandbox.OK
		})
		flies := m.Record(m.services[1].User).InFlight()
		late := m.Record(m.services[0].User).InFlight() // its own save took too long: it waited for the second
		if (late || flies && enabled) && !m.Followed() {
			t.Errorf("the second begins at call %d of the first's end and dies after %d: it is in flight: %t, it had itself followed up: %t, it is followed up: %t\n%s",
				at, dies, flies, enabled, m.Followed(), calls(m.World))
		}
	})
	return met
}

func (m *months) forced(t *testing.T, name string, s *service, fates func(sandbox.Call) sandbox.Fate) {
	request := s.request
	request.Force, request.SoakHours, request.OverlapHours = true, 0, 0
	ctx, cancel := context.WithTimeout(t.Context(), runTime)
	defer cancel()
	_, _ = rotatorOf(m.Run(name).Intercept(fates)).Advance(ctx, request)
}

func calls(w *sandbox.World) string {
	var b strings.Builder
	for _, c := range w.Calls() {
		fmt.Fprintln(&b, c)
	}
	return b.String()
}
