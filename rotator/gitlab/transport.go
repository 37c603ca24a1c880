package gitlab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"credential-rotator/rotator"
)

const (
	// readPatience is for one attempt, headers and body. GitLab answers reads in
	// well under a second.
	readPatience = 15 * time.Second
	// writePatience: a write is not sent again, so it is worth waiting for as long
	// as GitLab itself would work on it, 60 s. Making a pipeline can take half of that.
	writePatience = 60 * time.Second
	// maxReply bounds a reply: 100 variables (a page) of 640 kB each.
	maxReply = 64 << 20
)

// errTooLong: the reply is longer than any of GitLab's.
var errTooLong = errors.New("the reply is too long")

// timeoutError: an attempt took too long, while the run has time left.
type timeoutError struct{ after time.Duration }

func (e *timeoutError) Error() string { return fmt.Sprintf("no answer within %s", e.after) }

// tokenError: the token could not be read, so nothing was sent.
type tokenError struct{ err error }

func (e *tokenError) Error() string { return "reading the GitLab token: " + e.err.Error() }
func (e *tokenError) Unwrap() error { return e.err }

// tokens keeps the token of a Client.
type tokens struct {
	read func(context.Context) (rotator.Secret, error)

	mu    sync.Mutex
	known rotator.Secret
}

// get returns the token, and reads it when it is not known yet.
func (t *tokens) get(ctx context.Context) (rotator.Secret, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.known.Empty() {
		return t.known, nil
	}
	return t.reload(ctx)
}

// getAfter returns the token to use when GitLab did not accept old: the one that
// another request has read since, or what is read now.
func (t *tokens) getAfter(ctx context.Context, old rotator.Secret) (rotator.Secret, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.known != old {
		return t.known, nil
	}
	return t.reload(ctx)
}

func (t *tokens) reload(ctx context.Context) (rotator.Secret, error) {
	token, err := t.read(ctx)
	if value := strings.TrimSpace(token.Reveal()); err == nil {
		token, err = rotator.NewSecret(value), noToken(value)
	}
	if err != nil {
		return rotator.Secret{}, &tokenError{err}
	}
	t.known = token
	return token, nil
}

// noToken is why a text is no token of GitLab: not even a header could hold some.
func noToken(text string) error {
	switch {
	case text == "":
		return errors.New("it is empty")
	case strings.ContainsFunc(text, func(c rune) bool { return c <= ' ' || c > '~' }):
		return errors.New("there is more than a token: a space, a line break or a character that no token has; put the token there and nothing else")
	}
	return nil
}

// last returns the token as it is known, without reading it.
func (t *tokens) last() rotator.Secret {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.known
}

// transport authenticates a request, bounds each attempt in time, and reads the
// whole reply: a connection that breaks in the middle of a body is an error of the
// attempt, like one that breaks before.
type transport struct {
	base   http.RoundTripper
	tokens *tokens
}

// RoundTrip sends the request, and once more with the token read anew when GitLab
// answers 401: a request that was not authenticated was not applied. (What rotates the
// token itself is sent once all the same, see RotateToken.)
func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Body != nil {
		defer req.Body.Close() // each attempt sends a copy
	}
	token, err := t.tokens.get(req.Context())
	if err != nil {
		return nil, err
	}
	resp, err := t.attempt(req, token)
	if err != nil || resp.StatusCode != http.StatusUnauthorized || isOnce(req.Context()) {
		return resp, err
	}
	if token, err = t.tokens.getAfter(req.Context(), token); err == nil {
		return t.attempt(req, token)
	}
	return resp, nil // that GitLab refused the token says more than that there is no other
}

func (t *transport) attempt(req *http.Request, token rotator.Secret) (*http.Response, error) {
	patience := writePatience
	if req.Method == http.MethodGet {
		patience = readPatience
	}
	ctx, cancel := context.WithTimeout(req.Context(), patience)
	defer cancel()
	sent := req.Clone(ctx)
	sent.Header.Set("Private-Token", token.Reveal())
	if req.GetBody != nil {
		body, err := req.GetBody()
		if err != nil {
			return nil, fmt.Errorf("copying the request: %w", err)
		}
		sent.Body = body
	}
	resp, err := t.base.RoundTrip(sent)
	if err == nil {
		resp.Request = req // without the token
		err = keep(resp)
	}
	switch {
	case err == nil:
		return resp, nil
	case req.Context().Err() == nil && ctx.Err() != nil:
		return nil, &timeoutError{patience}
	}
	return nil, err
}

// reply is the body of a reply, whole. client-go throws away the body of a 404,
// which says what was not found.
type reply struct {
	*bytes.Reader
	data []byte
}

// Close does nothing: the connection was given back when the body had been read.
func (*reply) Close() error { return nil }

// keep reads the body of a reply and puts it back.
func keep(resp *http.Response) error {
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxReply+1))
	switch {
	case err != nil:
		return fmt.Errorf("reading the reply: %w", err)
	case len(data) > maxReply:
		return errTooLong
	}
	resp.Body = &reply{bytes.NewReader(data), data}
	return nil
}
