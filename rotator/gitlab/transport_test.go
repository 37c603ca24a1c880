package gitlab

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"

	"credential-rotator/rotator"
)

type answering func(*http.Request) (*http.Response, error)

func (f answering) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// A reply is kept in errors of client-go, and a request in a reply.
func TestNoReplyHoldsTheToken(t *testing.T) {
	sent := ""
	tr := &transport{
		base: answering(func(r *http.Request) (*http.Response, error) {
			sent = r.Header.Get("Private-Token")
			return &http.Response{StatusCode: http.StatusOK, Request: r, Body: io.NopCloser(strings.NewReader("{}"))}, nil
		}),
		tokens: &tokens{read: func(context.Context) (rotator.Secret, error) { return rotator.NewSecret("glpat-token"), nil }},
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://gitlab.example.com/", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := tr.RoundTrip(req)
	if err != nil || sent != "glpat-token" {
		t.Fatalf("sent %q: %v", sent, err)
	}
	defer resp.Body.Close()
	if resp.Request.Header.Get("Private-Token") != "" || req.Header.Get("Private-Token") != "" {
		t.Error("the token is in the reply, or in the caller's request")
	}
}
