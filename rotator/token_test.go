package rotator_test

import (
	"strings"
	"testing"
	"time"

	"credential-rotator/rotator"
)

func TestATokenIsJudgedByItsScopesAndItsEnd(t *testing.T) {
	now := time.Date(2026, 11, 22, 6, 0, 0, 0, time.UTC)
	store := rotator.TokenPlace{Name: "Secrets Manager, gitlab/token", Rotates: true}
	in := func(days int) time.Time { return time.Date(2026, 11, 22+days, 0, 0, 0, 0, time.UTC) }
	for name, c := range map[string]struct {
		token  rotator.Token
		kept   rotator.TokenPlace
		status rotator.TokenStatus
		left   int // below 0: not told
		says   string
	}{
		"one with time":           {rotator.Token{Scopes: []string{"api"}, ExpiresAt: in(90)}, store, rotator.TokenOK, 89, "the GitLab token expires on 2027-02-20, in 89 days"},
		"thirty days and more":    {rotator.Token{Scopes: []string{"api"}, ExpiresAt: in(31)}, store, rotator.TokenOK, 30, "in 30 days"},
		"less than thirty days":   {rotator.Token{Scopes: []string{"api"}, ExpiresAt: in(30)}, store, rotator.TokenExpiring, 29, "in 29 days: before that, run credential-rotator token rotate, or make a new one (scope api) and put it into Secrets Manager, gitlab/token"},
		"its last day":            {rotator.Token{Scopes: []string{"api"}, ExpiresAt: in(1)}, store, rotator.TokenExpiring, 0, "in less than a day"},
		"a day and a bit":         {rotator.Token{Scopes: []string{"api"}, ExpiresAt: in(2)}, store, rotator.TokenExpiring, 1, "in 1 day:"},
		"one of the environment":  {rotator.Token{Scopes: []string{"api"}, ExpiresAt: in(9)}, rotator.TokenPlace{Name: "GITLAB_TOKEN"}, rotator.TokenExpiring, 8, "before that, make a new one (scope api) and put it into GITLAB_TOKEN"},
		"one that never ends":     {rotator.Token{Scopes: []string{"read_api", "api"}}, store, rotator.TokenOK, -1, "never expires"},
		"a fine-grained one":      {rotator.Token{Scopes: []string{"granular"}, ExpiresAt: in(90)}, store, rotator.TokenOK, 89, "in 89 days"},
		"one that may only read":  {rotator.Token{Scopes: []string{"read_api"}, ExpiresAt: in(90)}, store, rotator.TokenInvalid, 89, `has the scopes "read_api", and a rotation needs api`},
		"one without a scope":     {rotator.Token{ExpiresAt: in(3)}, store, rotator.TokenInvalid, 2, "needs api"},
		"one that GitLab hides":   {rotator.Token{Untold: "it says no"}, store, rotator.TokenUnknown, -1, "does not tell when it ends: it says no"},
		"one that has just ended": {rotator.Token{Scopes: []string{"api"}, ExpiresAt: in(0)}, store, rotator.TokenExpiring, 0, "expires on 2026-11-22"},
	} {
		t.Run(name, func(t *testing.T) {
			got := rotator.CheckToken(c.token, c.kept, now)
			left := -1
			if got.DaysLeft != nil {
				left = *got.DaysLeft
			}
			if got.Status != c.status || left != c.left || !strings.Contains(got.Reason, c.says) || got.Scopes == nil || got.Warnings == nil {
				t.Errorf("got %+v, %d days left", got, left)
			}
			if told := got.Status == rotator.TokenInvalid || c.left >= 0; got.Known != told || got.Status == rotator.TokenInvalid && got.Left != 0 {
				t.Errorf("known %v, left %s", got.Known, got.Left)
			}
		})
	}
}

func TestATokenThatIsRefusedHasNoTimeLeftAndOneThatCannotBeSeenHasAnUnknownOne(t *testing.T) {
	kept := rotator.TokenPlace{Name: "GITLAB_TOKEN"}
	if c := rotator.TokenProblem("revoked", kept, true); c.Status != rotator.TokenInvalid || !c.Known || c.Left != 0 || c.Reason != "revoked" {
		t.Errorf("got %+v", c)
	}
	if c := rotator.TokenProblem("down", kept, false); c.Status != rotator.TokenUnknown || c.Known {
		t.Errorf("got %+v", c)
	}
}
