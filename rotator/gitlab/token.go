package gitlab

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"regexp"
	"time"

	gitlab "gitlab.com/gitlab-org/api/client-go/v2"

	"credential-rotator/rotator"
)

// Token tells about the token that GitLab is called with, in one call, and a second for
// whose it is. An error that wraps rotator.ErrRefused says that GitLab does not take the
// token; every other, that it could not be asked.
func (c *Client) Token(ctx context.Context) (rotator.Token, error) {
	t, err := c.TokenAlone(ctx)
	if err != nil || t.Untold != "" {
		return t, err
	}
	// Who may do nothing but rotate may not ask this, and need not know it.
	if user, _, err := c.api.Users.CurrentUser(gitlab.WithContext(ctx)); err == nil && user != nil {
		t.Owner, t.Kind = user.Username, kindOf(user)
	}
	return t, nil
}

// TokenAlone is Token without whose it is, in one call.
func (c *Client) TokenAlone(ctx context.Context) (rotator.Token, error) {
	own, resp, err := c.api.PersonalAccessTokens.GetSinglePersonalAccessToken(gitlab.WithContext(ctx))
	if err != nil {
		why := c.explain(resp, err)
		switch {
		case why.foreign:
		case why.status == http.StatusUnauthorized:
			return rotator.Token{}, refused(why)
		case why.status == http.StatusForbidden, why.status == http.StatusNotFound:
			return rotator.Token{Untold: why.text}, nil
		}
		return rotator.Token{}, fmt.Errorf("looking at the GitLab token: %w", why)
	}
	if own == nil || own.ID == 0 {
		return rotator.Token{}, fmt.Errorf("looking at the GitLab token: %s did not answer with one: check GITLAB_URL", c.host)
	}
	return about(own), nil
}

func about(t *gitlab.PersonalAccessToken) rotator.Token {
	told := rotator.Token{ID: t.ID, Name: t.Name, Scopes: t.Scopes}
	if t.ExpiresAt != nil {
		told.ExpiresAt = time.Time(*t.ExpiresAt).UTC()
	}
	return told
}

// kindOf tells by the name that GitLab gives the bot of a project's or a group's token
// whose it is. Nothing rests on it: it is shown.
func kindOf(u *gitlab.User) string {
	if m := regexp.MustCompile(`^(project|group)_(\d+)_bot(_|$)`).FindStringSubmatch(u.Username); m != nil {
		return "of " + m[1] + " " + m[2]
	}
	return "of user " + u.Username
}

// UnknownOutcomeError is about a call that must not be made again, because it may have
// been done: GitLab takes a second one for a theft, and revokes the new token as well.
type UnknownOutcomeError struct{ err error }

func (e *UnknownOutcomeError) Error() string {
	return e.err.Error() + ": it is not known whether GitLab has made a new token and revoked this one, and asking again could revoke both: nothing was sent again"
}
func (e *UnknownOutcomeError) Unwrap() error { return e.err }

// RotateToken makes a token to follow the one that GitLab is called with, which is revoked
// in the same step, and works no more when this returns. The new one ends on a day. The
// call serves the tokens of persons, service accounts, projects and groups alike.
//
// It is sent once, whatever becomes of it: on this path GitLab revokes the whole family of
// a revoked token that it is shown (lib/gitlab/auth/auth_finders.rb), so that a second
// attempt after a lost reply would revoke what the first has made. And once it is sent
// its answer is waited for (writePatience), whatever becomes of ctx: the new token is
// nowhere else. An error that wraps rotator.ErrRefused says that nothing was changed; every
// other is an *UnknownOutcomeError, that of a 401 too: somebody has rotated the token
// meanwhile, and GitLab may have taken this call for a theft.
func (c *Client) RotateToken(ctx context.Context, ends time.Time) (rotator.Secret, rotator.Token, error) {
	if err := ctx.Err(); err != nil {
		return rotator.Secret{}, rotator.Token{}, fmt.Errorf("rotating the GitLab token: %w", refused(err))
	}
	day := gitlab.ISOTime(ends.UTC())
	// Not the week that GitLab chooses when it is not told.
	opts := &gitlab.RotatePersonalAccessTokenOptions{ExpiresAt: &day}
	next, resp, err := c.api.PersonalAccessTokens.RotatePersonalAccessTokenSelf(opts,
		gitlab.WithContext(context.WithValue(context.WithoutCancel(ctx), onceKey{}, true)), gitlab.WithRequestRetry(never))
	if err != nil {
		why := c.explain(resp, err)
		if notSent(err) || why.definitive() && why.status != http.StatusUnauthorized {
			return rotator.Secret{}, rotator.Token{}, fmt.Errorf("rotating the GitLab token: %w", refused(why))
		}
		return rotator.Secret{}, rotator.Token{}, &UnknownOutcomeError{fmt.Errorf("rotating the GitLab token: %w", why)}
	}
	if next == nil || next.Token == "" {
		return rotator.Secret{}, rotator.Token{}, &UnknownOutcomeError{fmt.Errorf("rotating the GitLab token: %s answered without a new token: check GITLAB_URL", c.host)}
	}
	secret := rotator.NewSecret(next.Token)
	next.Token = ""
	return secret, about(next), nil
}

// onceKey marks the context of a request that transport sends once, whatever it is
// answered: not even with another token after a 401.
type onceKey struct{}

func isOnce(ctx context.Context) bool { return ctx.Value(onceKey{}) != nil }

// never lets client-go send nothing again.
func never(context.Context, *http.Response, error) (bool, error) { return false, nil }

// notSent tells of a call that ended before anything was sent: the token could not be
// read, or no connection came about.
func notSent(err error) bool {
	var (
		token *tokenError
		name  *net.DNSError
		cert  *tls.CertificateVerificationError
		op    *net.OpError
	)
	dialing := errors.As(err, &op) && op.Op == "dial"
	return dialing || errors.As(err, &token) || errors.As(err, &name) || errors.As(err, &cert) || errors.Is(err, http.ErrSchemeMismatch)
}

// definitive tells whether GitLab itself has said that it did not do what it was asked.
func (p *problem) definitive() bool {
	return !p.foreign && errors.Is(refusal(p), rotator.ErrRefused)
}
