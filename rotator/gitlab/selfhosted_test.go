package gitlab_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"credential-rotator/rotator"
	"credential-rotator/rotator/gitlab"
	"credential-rotator/test/sandbox"
)

func TestBelowAPathListsGoThroughAllPagesAndWritesArrive(t *testing.T) {
	for _, end := range []string{"", "/", "/api/v4", "/api/v4/"} {
		s := sandbox.NewScene(sandbox.Options{})
		for i := range 250 {
			s.SetVariable(4711, sandbox.Variable{Key: fmt.Sprintf("V%d", i), Value: "x", EnvironmentScope: "*"})
		}
		s.SetVariable(4711, sandbox.Variable{Key: "LAST", Value: "AKIALASTLASTLASTLAST"})
		server := httptest.NewServer(sandbox.GitLabBelow("/tools/gitlab", s.GitLab()))
		t.Cleanup(server.Close)
		c, err := gitlab.New(gitlab.Options{URL: server.URL + "/tools/gitlab" + end, Token: func(context.Context) (rotator.Secret, error) { return rotator.NewSecret(s.Token), nil }})
		if err != nil {
			t.Fatal(err)
		}
		read, err := readOne(t.Context(), c, s.Service.Place)
		if err != nil || read.KeyID.Value != s.Key.ID || len(read.Elsewhere) != 1 {
			t.Fatalf("%q: %+v, %v", end, read, err)
		}
		if err := writeSecret(t.Context(), c, s.Service.Place, read.Secret, s.Key); err != nil {
			t.Errorf("%q: %v", end, err)
		}
	}
}

func TestNoRedirectTakesTheTokenToAnotherHost(t *testing.T) {
	for _, status := range []int{301, 302, 303, 307, 308} {
		var elsewhere atomic.Int64
		other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) }))
		t.Cleanup(other.Close)
		server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			http.Redirect(rw, r, other.URL+r.URL.EscapedPath(), status)
		}))
		t.Cleanup(server.Close)
		c, err := gitlab.New(gitlab.Options{URL: server.URL, Token: func(context.Context) (rotator.Secret, error) { return rotator.NewSecret(theToken), nil }})
		if err != nil {
			t.Fatal(err)
		}
		for port, do := range ports() {
			err := do(t.Context(), c)
			says(t, err, "redirects to "+other.URL, "it is not followed, because it would take the token along; if that is your GitLab, set GITLAB_URL to "+other.URL)
			if isRefused(err) {
				t.Errorf("%d, %s: a redirect does not say that nothing was applied: %v", status, port, err)
			}
		}
		if n := elsewhere.Load(); n != 0 {
			t.Errorf("%d: the other host got %d requests", status, n)
		}
	}
}

func TestAuthoritiesMustBeCertificates(t *testing.T) {
	_, err := gitlab.New(gitlab.Options{URL: "https://gitlab.example.com", Authorities: []byte("no PEM"), Token: func(context.Context) (rotator.Secret, error) { return rotator.NewSecret(theToken), nil }})
	says(t, err, "GITLAB_CA_FILE holds no certificate (PEM)")
}
