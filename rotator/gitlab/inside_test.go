package gitlab

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"

	"credential-rotator/rotator"
)

// inside is a Client of a front, for what is not a port's: what it looks at for others.
func inside(t *testing.T, h http.Handler, token string) *Client {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	c, err := New(Options{URL: server.URL, Token: func(context.Context) (rotator.Secret, error) { return rotator.NewSecret(token), nil }})
	if err != nil {
		t.Fatal(err)
	}
	return c
}
