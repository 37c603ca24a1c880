package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"credential-rotator/rotator"
	"credential-rotator/rotator/gitlab"
	"credential-rotator/rotator/tokenstore"
)

// tokenResult is what became of token rotate. It never holds a token.
type tokenResult struct {
	Status     string   `json:"status"` // rotated, busy, refused or failed
	Reason     string   `json:"reason"`
	KeptIn     string   `json:"kept_in"`
	PreviousID int64    `json:"previous_id,omitempty"`
	ID         int64    `json:"id,omitempty"`
	ExpiresAt  string   `json:"expires_at,omitempty"`
	Warnings   []string `json:"warnings"`
}

// The statuses of token rotate.
const (
	tokenRotated = "rotated" // stored, read back, and GitLab takes it
	tokenBusy    = "busy"    // another run may be at it; nothing was changed
	tokenRefused = "refused" // nothing was changed
	tokenFailed  = "failed"  // the reason says what there is now
)

func (r tokenResult) exit() int {
	switch r.Status {
	case tokenRotated:
		return exitOK
	case tokenBusy:
		return exitWait
	}
	return exitFailed
}

// tokenRotation is one run of token rotate.
type tokenRotation struct {
	store  tokenstore.Store
	client func(rotator.Secret) (*gitlab.Client, error)
	ends   time.Time // 00:00 UTC of a day
	say    func(format string, args ...any)
	// patience is how long the store is asked to take the new token, and pause how long
	// to wait in between, at most: nothing is worse than to give up then.
	patience, pause time.Duration

	result tokenResult
}

// tokenPatience is longer than any throttling, and most outages of one service.
const (
	tokenPatience = 15 * time.Minute
	tokenPause    = 15 * time.Second
)

// tokenRotate rotates the token in its store. Its error is one of the configuration.
func (u *session) tokenRotate(ctx context.Context) error {
	c, err := u.wire(ctx)
	if err != nil {
		return err
	}
	r := &tokenRotation{
		store:  u.app.store(),
		client: c.gitLabWith,
		ends:   time.Now().UTC().Truncate(24*time.Hour).AddDate(0, 0, u.expiresInDays),
		say: func(format string, args ...any) {
			_, _ = fmt.Fprintln(u.streams.err, harmless(fmt.Sprintf(format, args...), false))
		},
		patience: tokenPatience, pause: tokenPause,
	}
	result := tokenResult{
		Status: tokenRefused, KeptIn: u.app.tokenPlace().Name, Warnings: []string{},
		Reason: "the token is in GITLAB_TOKEN, where this command cannot put a new one, and the old one would be dead: keep it in Secrets Manager (GITLAB_TOKEN_SECRET) or Parameter Store (GITLAB_TOKEN_PARAMETER), or make a new one by hand",
	}
	if r.store != nil {
		ctx, cancel := context.WithTimeout(ctx, c.RunTimeout)
		defer cancel()
		result = r.run(ctx)
	}
	u.code = result.exit()
	if u.json {
		_, err = u.streams.out.Write(encode(result))
		return err
	}
	return writeTokenResult(u.streams.out, result)
}

// run rotates: look, claim, look again, ask GitLab once, store, look at what was stored.
func (r *tokenRotation) run(ctx context.Context) tokenResult {
	r.result = tokenResult{KeptIn: r.store.Name(), Warnings: []string{}}
	token, err := r.store.Read(ctx)
	if err != nil {
		return r.conclude(tokenRefused, "%v", err)
	}
	if err := r.look(ctx, token); err != nil {
		return r.conclude(tokenRefused, "%v: nothing was changed", err)
	}
	r.done("look", "GitLab takes token %d, and lets it rotate itself", r.result.PreviousID)
	claim, err := r.store.Claim(ctx)
	if busy := (*tokenstore.BusyError)(nil); errors.As(err, &busy) {
		return r.conclude(tokenBusy, "%v", err)
	}
	if err != nil {
		return r.conclude(tokenRefused, "%v: GitLab was not asked for a new token", err)
	}
	r.done("claim", "%s takes what this run writes, and no other run is at it", r.store.Name())
	// The token may have been rotated between the first look and the claim: GitLab must
	// not see it again on the next path if it was.
	if err := r.look(ctx, claim.Token()); err != nil {
		return r.conclude(tokenRefused, "%v: nothing was changed", err)
	}
	client, err := r.client(claim.Token())
	if err != nil {
		return r.conclude(tokenRefused, "%v", err)
	}
	if !soon(claim.At(), time.Now()) {
		return r.conclude(tokenRefused, "it took longer than %s to get ready, and another run could have begun: nothing was sent to GitLab; run it again", tokenstore.SendWithin)
	}
	// A crash from here until the store has taken the new token leaves a dead token in the
	// store, and one that nobody has. The next run sees that, and says so.
	next, told, err := client.RotateToken(ctx, r.ends)
	if err != nil {
		return r.notRotated(err)
	}
	r.result.ID, r.result.ExpiresAt = told.ID, told.ExpiresAt.Format(time.DateOnly)
	r.done("rotate", "GitLab has made token %d, good until %s, and revoked %d", told.ID, r.result.ExpiresAt, r.result.PreviousID)
	return r.keep(context.WithoutCancel(ctx), claim, next)
}

// conclude is the result.
func (r *tokenRotation) conclude(status, format string, args ...any) tokenResult {
	r.result.Status, r.result.Reason = status, fmt.Sprintf(format, args...)
	return r.result
}

func (r *tokenRotation) done(step, format string, args ...any) {
	r.say("✓ %-8s %s", step, fmt.Sprintf(format, args...))
}

// soon tells whether a claim is still ours alone. A machine that was asleep may show it on
// one of its clocks only.
func soon(at, now time.Time) bool {
	wall := now.Round(0).Sub(at.Round(0))
	return now.Sub(at) <= tokenstore.SendWithin && wall <= tokenstore.SendWithin && wall >= 0
}

// look asks GitLab about a token, where a dead one does no harm.
func (r *tokenRotation) look(ctx context.Context, token rotator.Secret) error {
	client, err := r.client(token)
	if err != nil {
		return err
	}
	told, err := client.TokenAlone(ctx)
	if err != nil {
		return errors.New(tokenFault(err))
	}
	if told.Untold != "" {
		return fmt.Errorf("GitLab does not tell about this token (%s), so that nobody would know which one it has made: rotate it by hand", told.Untold)
	}
	if told.ExpiresAt.IsZero() {
		r.result.Warnings = []string{"the token had no end, and the new one has"}
	}
	if !mayRotate(told.Scopes) {
		return fmt.Errorf("the token has the scopes %q, and needs api or self_rotate to rotate itself", strings.Join(told.Scopes, " "))
	}
	r.result.PreviousID = told.ID
	return nil
}

func mayRotate(scopes []string) bool {
	for _, s := range scopes {
		if s == "api" || s == "self_rotate" || s == "granular" {
			return true
		}
	}
	return false
}

// notRotated is the result when GitLab did not say that there is a new token.
func (r *tokenRotation) notRotated(err error) tokenResult {
	if errors.Is(err, rotator.ErrRefused) {
		return r.conclude(tokenRefused, "%v: the token is as it was", strings.ReplaceAll(err.Error(), rotator.ErrRefused.Error()+": ", ""))
	}
	return r.conclude(tokenFailed, "%v. Look with credential-rotator token status: if the token in the store still works, nothing has happened, and this can be run again; if it is revoked, %s", err, byHand)
}

// byHand is what is left when the new token is lost.
const byHand = "make a new one by hand (scope api, role Maintainer), put it where the old one is, and revoke the one that nobody has. Until then no key is rotated; every key works as before"

// keep stores the new token, which exists nowhere but in this process, and is shown to
// nobody. What is done here is the same however often it is done. Who interrupts it is
// told, and waits.
func (r *tokenRotation) keep(ctx context.Context, claim tokenstore.Claim, next rotator.Secret) tokenResult {
	until := time.Now().Add(r.patience)
	pause := r.pause / 16
	var err error
	for try := 1; ; try++ {
		if err = r.put(ctx, claim, next); err == nil {
			break
		}
		if time.Now().Add(pause).After(until) {
			return r.conclude(tokenFailed, "the new token %d is lost: GitLab has made it and revoked %d, and for %s %s did not take it (%v). The token that is there is revoked: %s", r.result.ID, r.result.PreviousID, r.patience, r.store.Name(), err, byHand)
		}
		r.say("! store    not stored yet (try %d): %v. The old token is dead, and only this process has the new one: do not end it; it goes on until %s", try, err, until.UTC().Format("15:04:05 UTC"))
		time.Sleep(pause)
		pause = min(2*pause, r.pause)
	}
	r.done("store", "%s has it", r.store.Name())
	if err := r.smoke(ctx, claim, next); err != nil {
		return r.conclude(tokenFailed, "token %d is stored, but it does not work as it should: %v. Look with credential-rotator token status", r.result.ID, err)
	}
	r.done("look", "what is stored is the new token, and GitLab takes it")
	return r.conclude(tokenRotated, "token %d is stored in %s, and expires on %s; token %d is revoked", r.result.ID, r.store.Name(), r.result.ExpiresAt, r.result.PreviousID)
}

// put is one attempt, which must not hang.
func (r *tokenRotation) put(ctx context.Context, claim tokenstore.Claim, next rotator.Secret) error {
	ctx, cancel := context.WithTimeout(ctx, r.attempt())
	defer cancel()
	return claim.Put(ctx, next)
}

// attempt is how long one call of the store may take.
func (r *tokenRotation) attempt() time.Duration { return max(r.patience/8, time.Second) }

// read is one look at what is stored, which must not hang either.
func (r *tokenRotation) read(ctx context.Context) (rotator.Secret, error) {
	ctx, cancel := context.WithTimeout(ctx, r.attempt())
	defer cancel()
	return r.store.Read(ctx)
}

// smoke reads the new token back, which may take a moment to be there, and shows it to
// GitLab. What somebody else has put there meanwhile is not the new one.
func (r *tokenRotation) smoke(ctx context.Context, claim tokenstore.Claim, next rotator.Secret) error {
	const tries = 5
	var err error
	for try := range tries {
		if try > 0 {
			time.Sleep(min(r.pause/4, time.Second))
		}
		read, fault := r.read(ctx)
		if err = fault; err != nil {
			continue
		}
		client, fault := r.client(read)
		if fault != nil {
			return fault
		}
		told, fault := client.TokenAlone(ctx)
		switch {
		case fault == nil && told.ID == r.result.ID:
			return nil
		case fault == nil:
			return fmt.Errorf("it is token %d that is there, which somebody else has put there", told.ID)
		}
		if err = fault; errors.Is(fault, rotator.ErrRefused) {
			_ = r.put(ctx, claim, next) // a late claim of another run may have buried it
		}
	}
	return err
}

// writeTokenResult writes it as a person reads it.
func writeTokenResult(w io.Writer, r tokenResult) error {
	p := &page{} // a line is a line
	p.write(r.Status+": ", 0, r.Reason)
	for _, warning := range r.Warnings {
		p.fact("warning", "%s", warning)
	}
	_, err := io.WriteString(w, p.String())
	return err
}
