package rotator

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// Token is what GitLab says about the access token that it is called with. It is not the
// token itself.
type Token struct {
	ID     int64
	Name   string
	Owner  string // the username behind it; "" when GitLab does not tell
	Kind   string // in words, such as "of project 4711"; "" when it cannot be told
	Scopes []string
	// ExpiresAt is 00:00 UTC of the day on which it ends; zero: never.
	ExpiresAt time.Time
	// Untold is why GitLab does not tell about it, though it takes it; else "".
	Untold string
}

// TokenNotice is how long before its end a token is worth a warning: a rotation in
// flight, and the person who makes the next token, both need time.
const TokenNotice = 30 * 24 * time.Hour

// TokenStatus is what there is to say about a token in a word.
type TokenStatus string

// The statuses of a token.
const (
	TokenOK       TokenStatus = "ok"
	TokenExpiring TokenStatus = "expiring" // within TokenNotice
	TokenInvalid  TokenStatus = "invalid"  // GitLab does not take it, or not for a rotation
	TokenUnknown  TokenStatus = "unknown"  // GitLab could not be asked, or does not tell
)

// TokenCheck is what a look at the token came to. It never holds the token.
type TokenCheck struct {
	Status    TokenStatus `json:"status"`
	Reason    string      `json:"reason"`
	ExpiresAt string      `json:"expires_at,omitempty"` // a date; "" when it never ends, or is not told
	DaysLeft  *int        `json:"days_left,omitempty"`
	Scopes    []string    `json:"scopes"`
	ID        int64       `json:"id,omitempty"`
	Name      string      `json:"name,omitempty"`
	Owner     string      `json:"owner,omitempty"`
	Kind      string      `json:"kind,omitempty"`
	KeptIn    string      `json:"kept_in,omitempty"` // in words
	Warnings  []string    `json:"warnings"`
	// Left is what DaysLeft rounds down; for a token that does not work it is 0.
	Left time.Duration `json:"-"`
	// Known: Left is.
	Known bool `json:"-"`
	// Taken: GitLab takes the token, though it may not tell when it ends.
	Taken bool `json:"-"`
}

// TokenPlace is where a token is kept.
type TokenPlace struct {
	Name string // in words
	// Rotates: the command token rotate can put a new one there.
	Rotates bool
}

// renewal is how a new token gets there.
func (p TokenPlace) renewal() string {
	if p.Rotates {
		return "run credential-rotator token rotate, or make a new one (scope api) and put it into " + p.Name
	}
	return "make a new one (scope api) and put it into " + p.Name
}

// CheckToken judges what GitLab says about a token.
func CheckToken(t Token, kept TokenPlace, now time.Time) TokenCheck {
	c := TokenCheck{
		Status: TokenOK, ID: t.ID, Name: t.Name, Owner: t.Owner, Kind: t.Kind, KeptIn: kept.Name,
		Scopes: slices.Clone(t.Scopes), Warnings: []string{}, Taken: true,
	}
	if c.Scopes == nil {
		c.Scopes = []string{}
	}
	const fineGrained = "granular" // permissions instead of scopes; GitLab 18.10 and newer
	switch left := t.ExpiresAt.Sub(now); {
	case t.Untold != "":
		c.Reason = "GitLab takes the token and does not tell when it ends: " + t.Untold
		c.Status = TokenUnknown
		return c
	case !slices.Contains(t.Scopes, "api") && !slices.Contains(t.Scopes, fineGrained):
		c.Status, c.Known = TokenInvalid, true
		c.Reason = fmt.Sprintf("the GitLab token has the scopes %q, and a rotation needs api: make a new one with it and put that into %s", strings.Join(t.Scopes, " "), kept.Name)
	case t.ExpiresAt.IsZero():
		c.Reason = "the GitLab token never expires"
	case left < TokenNotice:
		c.Status = TokenExpiring
		c.Reason = fmt.Sprintf("the GitLab token expires on %s, %s: before that, %s", t.ExpiresAt.Format(time.DateOnly), inDays(left), kept.renewal())
	default:
		c.Reason = fmt.Sprintf("the GitLab token expires on %s, %s", t.ExpiresAt.Format(time.DateOnly), inDays(left))
	}
	if !t.ExpiresAt.IsZero() {
		left := max(t.ExpiresAt.Sub(now), 0)
		n := wholeDays(left)
		c.ExpiresAt, c.DaysLeft = t.ExpiresAt.Format(time.DateOnly), &n
		if !c.Known {
			c.Left, c.Known = left, true
		}
	}
	return c
}

// TokenProblem is the check of a token about which GitLab said nothing: refused, because
// it does not take the token, and else because it could not be asked.
func TokenProblem(reason string, kept TokenPlace, refused bool) TokenCheck {
	c := TokenCheck{Status: TokenUnknown, Reason: reason, KeptIn: kept.Name, Scopes: []string{}, Warnings: []string{}}
	if refused {
		c.Status, c.Known = TokenInvalid, true
	}
	return c
}

func wholeDays(d time.Duration) int { return int(math.Floor(d.Hours() / 24)) }

// inDays is how long there is, as one says it.
func inDays(left time.Duration) string {
	switch n := wholeDays(left); n {
	case 0:
		return "in less than a day"
	case 1:
		return "in 1 day"
	default:
		return fmt.Sprintf("in %d days", n)
	}
}
