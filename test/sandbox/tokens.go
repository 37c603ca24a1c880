package sandbox

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"time"
)

const (
	// weekDays is how long a token lives that was rotated without an expires_at: the
	// EXPIRATION_PERIOD of GitLab app/services/personal_access_tokens/rotate_service.rb.
	weekDays = 7
	// mostDays is how far ahead expires_at may be, and mostDaysBuffered where the flag
	// buffered_token_expiration_limit is on: MAX_PERSONAL_ACCESS_TOKEN_LIFETIME_IN_DAYS
	// and its _BUFFERED in GitLab app/models/personal_access_token.rb.
	mostDays         = 365
	mostDaysBuffered = 400
)

// bot is the username of the bot behind the access token of a project or a group (GitLab
// app/services/resource_access_tokens/create_service.rb): which of the two, and its id.
var bot = regexp.MustCompile(`^(project|group)_(\d+)_bot(_[0-9a-f]+)?$`)

// rotateToken is GitLab lib/api/personal_access_tokens/self_rotation.rb, which serves the
// tokens of projects and groups as well: they are personal access tokens of a bot.
func rotateToken(r *request) (any, error) { return r.w.rotate(r) }

// rotateProjectToken and rotateGroupToken are lib/api/resource_access_tokens/self_rotation.rb:
// 405 for who is no bot, 401 for the bot of another project or group.
func rotateProjectToken(r *request) (any, error) { return r.w.rotateResource(r, "project") }
func rotateGroupToken(r *request) (any, error)   { return r.w.rotateResource(r, "group") }

func (w *World) rotateResource(r *request, kind string) (any, error) {
	switch of := bot.FindStringSubmatch(r.token.Username); {
	case of == nil:
		return nil, message(http.StatusMethodNotAllowed, "405 Method Not Allowed")
	case of[1] != kind || of[2] != r.PathValue("id"):
		return nil, message(http.StatusUnauthorized, "401 Unauthorized")
	}
	out, err := w.rotate(r)
	if o, ok := out.(object); ok {
		o["access_level"] = Maintainer
	}
	return out, err
}

// rotate makes the next token of a family and revokes this one, both or neither
// (app/services/personal_access_tokens/rotate_service.rb).
func (w *World) rotate(r *request) (any, error) {
	old := r.token
	if !slices.Contains(old.Scopes, "api") && !slices.Contains(old.Scopes, "self_rotate") {
		return nil, old.inScope(true)
	}
	expires, err := w.expiry(r.in["expires_at"])
	if err != nil {
		return nil, err
	}
	next := &token{Token: old.Token, id: w.id("token"), userID: old.userID, created: w.now, family: old.root()}
	next.Expires, next.Roles = expires, old.Roles
	next.value = w.newToken(fmt.Sprintf("the token %s, number %d", old.Name, next.id))
	old.Revoked = true
	w.tokens = append(w.tokens, next)
	out := w.tokenObject(next)
	out["token"] = next.value
	return out, nil
}

// expiry is what becomes of expires_at.
func (w *World) expiry(asked string) (time.Time, error) {
	today := w.now.UTC().Truncate(24 * time.Hour)
	if asked == "" {
		return today.AddDate(0, 0, weekDays), nil
	}
	day, err := time.Parse(time.DateOnly, asked)
	if err != nil { // Grape's wording is remembered: doc.go
		return time.Time{}, &gitlabError{http.StatusBadRequest, object{"error": "expires_at is invalid"}}
	}
	days := mostDays
	if w.opts.LongTokens {
		days = mostDaysBuffered
	}
	if most := today.AddDate(0, 0, days); day.After(most) {
		return time.Time{}, message(http.StatusBadRequest, "400 Bad request - Expiration date must be before "+most.Format(time.DateOnly))
	}
	return day, nil
}

// root is the id of the first token of a family.
func (t *token) root() int64 {
	if t.family != 0 {
		return t.family
	}
	return t.id
}

// rotating are the paths on which the use of a revoked token is taken for a theft.
var rotating = regexp.MustCompile(`access_tokens/(\d+|self)/rotate$`)

// detectReuse revokes the whole family of a revoked token that somebody uses to rotate
// itself, the one that works too (lib/gitlab/auth/auth_finders.rb, revoke_token_family).
func (w *World) detectReuse(path, shown string) {
	i := slices.IndexFunc(w.tokens, func(t *token) bool { return t.value == shown })
	if i < 0 || !w.tokens[i].Revoked || !rotating.MatchString(path) {
		return
	}
	for _, t := range w.tokens {
		if t.root() == w.tokens[i].root() {
			t.Revoked = true
		}
	}
}

// ActiveTokens are the ids of the tokens of a name that may be used.
func (w *World) ActiveTokens(name string) []int64 {
	defer w.enter()()
	var ids []int64
	for _, t := range w.tokens {
		if t.Name == name && t.active(w.now) {
			ids = append(ids, t.id)
		}
	}
	return ids
}
