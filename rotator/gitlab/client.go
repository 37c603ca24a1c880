// Package gitlab publishes access keys to the CI/CD variables of a GitLab project,
// and redeploys what uses them.
//
// A read may be sent several times. A write is sent once: an error of a write is
// about one attempt, and what it left behind is for the caller to read. Only a
// reply that says "not applied" (401 with an old token, 429) is answered by
// sending the write again. A reply that refuses a write for good is an error that
// wraps rotator.ErrRefused; every other error means that the outcome is not known.
//
// The token and the secret half of a key leave this package in requests to the
// configured host, and nowhere else: redirects are not followed, bodies are never
// logged, and of a reply only GitLab's own message is shown, unless it repeats one
// of the two.
package gitlab

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	gitlab "gitlab.com/gitlab-org/api/client-go/v2"

	"credential-rotator/rotator"
)

// Options are what a Client needs.
type Options struct {
	// URL of the instance, such as https://gitlab.com, with its path when GitLab
	// is not at the root. Required.
	URL string
	// Token reads the token that GitLab is called with. It is called when the
	// first request is made, and again when GitLab answers 401. Required.
	Token func(context.Context) (rotator.Secret, error)
	// Authorities are certificates (PEM) that GitLab's may be signed with, besides
	// those that the system trusts.
	Authorities []byte
	// Transport carries the requests; nil is one like http.DefaultTransport, which
	// minds HTTPS_PROXY and NO_PROXY. With one, Authorities are its own affair.
	Transport http.RoundTripper
	// FirstPause is before a call is made a second time; 0 is half a second.
	FirstPause time.Duration
}

// Client is a rotator.Destination and a rotator.Redeployer. Make one for every
// invocation, so that the token is read anew.
type Client struct {
	api    *gitlab.Client
	tokens *tokens
	host   string
	trusts bool // authorities of its own
	asked  release
}

// New makes a Client. It sends nothing: its errors are about the options.
func New(o Options) (*Client, error) {
	u, err := instanceURL(o.URL)
	if err != nil {
		return nil, err
	}
	if o.Token == nil {
		return nil, errors.New("making a GitLab client: no way to read a token was given")
	}
	base := o.Transport
	if base == nil {
		if base, err = network(o.Authorities); err != nil {
			return nil, err
		}
	}
	c := &Client{tokens: &tokens{read: o.Token}, host: u.Host, trusts: len(o.Authorities) > 0}
	c.api, err = gitlab.NewAuthSourceClient(gitlab.Unauthenticated{}, // the transport authenticates
		gitlab.WithURLWarningLogger(slog.New(slog.DiscardHandler)),
		gitlab.WithBaseURL(u.String()),
		gitlab.WithUserAgent("credential-rotator"),
		gitlab.WithHTTPClient(&http.Client{
			Transport: &transport{base: base, tokens: c.tokens},
			// A redirect would take the token to another host, and turn a POST into a GET.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}),
		gitlab.WithCustomRetry(sendAgain),
		gitlab.WithCustomBackoff(o.pause),
		gitlab.WithCustomRetryMax(maxRetries),
		gitlab.WithCustomLimiter(unlimited{}),
	)
	if err != nil {
		return nil, fmt.Errorf("making a GitLab client: %w", err)
	}
	return c, nil
}

// instanceURL checks the URL as far as that goes without a call. Its errors do not
// repeat what may be a password.
func instanceURL(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	switch {
	case err != nil, u.Host == "", u.Scheme != "http" && u.Scheme != "https":
		return nil, errors.New("reading GITLAB_URL: it must be like https://gitlab.com, with https:// or http:// and a host")
	case u.User != nil, u.RawQuery != "", u.Fragment != "":
		return nil, errors.New("reading GITLAB_URL: it must not hold a user, a password, a ? or a #; the token has a setting of its own")
	}
	u.Path = strings.TrimRight(u.Path, "/")
	u.RawPath = ""
	return u, nil
}

// unlimited replaces client-go's own limiter, which takes its rate from the first
// reply's headers and can stall a run: a rotation makes few calls, and a 429 is
// waited for.
type unlimited struct{}

// Wait does not wait.
func (unlimited) Wait(ctx context.Context) error { return ctx.Err() }

// errEndless: a list that ought to end does not.
var errEndless = errors.New("the list does not end")

// pages collects a list that GitLab gives in pages, at most limit of them: an
// instance that pages for ever must not hold a run.
func pages[T any](limit int, list func(gitlab.PaginationOptionFunc) ([]*T, *gitlab.Response, error)) ([]*T, *gitlab.Response, error) {
	var (
		all  []*T
		page gitlab.PaginationOptionFunc
	)
	for range limit {
		items, resp, err := list(page)
		if err != nil {
			return nil, resp, err
		}
		for _, item := range items {
			if item != nil { // JSON null
				all = append(all, item)
			}
		}
		next, more := gitlab.WithNext(resp)
		if !more {
			return all, resp, nil
		}
		page = next
	}
	return nil, nil, fmt.Errorf("%w after %d pages", errEndless, limit)
}
