package gitlab_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"credential-rotator/rotator"
	"credential-rotator/rotator/gitlab"
)

// The secrets of these tests. No error may hold any part of them.
const (
	theToken  = "glpat-QmV0YUJldGFCZXRh"
	newToken  = "glpat-TmV1ZXJUb2tlbk5ldQ"
	theSecret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYzzzzzzzzzz"
	oldKeyID  = "AKIAOLDOLDOLDOLDOLD2"
	newKeyID  = "AKIANEWNEWNEWNEWNEW2"
)

// call is a request as GitLab gets it.
type call struct {
	method, path, query, body, token string
}

func (c call) String() string { return c.method + " " + c.path }

// answer is what comes back: a status with a body, or an error of the connection.
type answer struct {
	status int
	body   string
	header map[string]string
	err    error
	after  time.Duration
}

// stand is GitLab as far as a test needs it: what it answers is a function of the
// call and of how many there were. It is an http.RoundTripper, so that a test in a
// synctest bubble needs no sockets and no time.
type stand struct {
	t      *testing.T
	answer func(n int, c call) answer
	calls  []call
}

func (s *stand) RoundTrip(req *http.Request) (*http.Response, error) {
	c := call{method: req.Method, path: strings.TrimPrefix(req.URL.EscapedPath(), "/api/v4"), query: req.URL.RawQuery, token: req.Header.Get("Private-Token")}
	if req.Body != nil {
		body, err := io.ReadAll(req.Body)
		if err != nil {
			s.t.Errorf("reading the body of %s: %v", c, err)
		}
		c.body = string(body)
	}
	s.calls = append(s.calls, c)
	a := s.answer(len(s.calls), c)
	select {
	case <-time.After(a.after):
	case <-req.Context().Done():
		return nil, req.Context().Err()
	}
	if a.err != nil {
		return nil, a.err
	}
	resp := &http.Response{
		StatusCode: a.status, Request: req, ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"Content-Type": {"application/json"}, "Date": {"Sat, 21 Nov 2026 20:00:00 GMT"}},
		Body:   io.NopCloser(strings.NewReader(a.body)),
	}
	for name, value := range a.header {
		resp.Header.Set(name, value)
		if value == "" {
			resp.Header.Del(name)
		}
	}
	return resp, nil
}

// client is a Client of a stand.
func client(t *testing.T, answer func(n int, c call) answer) (*gitlab.Client, *stand) {
	t.Helper()
	s := &stand{t: t, answer: answer}
	c, err := gitlab.New(gitlab.Options{
		URL:       "https://gitlab.example.com",
		Token:     func(context.Context) (rotator.Secret, error) { return rotator.NewSecret(theToken), nil },
		Transport: s,
	})
	if err != nil {
		t.Fatal(err)
	}
	return c, s
}

// always answers every call alike.
func always(a answer) func(int, call) answer { return func(int, call) answer { return a } }

// ok is a reply of status 200.
func ok(body string) answer { return answer{status: http.StatusOK, body: body} }

// routes answers by "METHOD /path", and with 404 what it does not know.
func routes(known map[string]answer) func(int, call) answer {
	return func(_ int, c call) answer {
		if a, ok := known[c.String()]; ok {
			return a
		}
		return answer{status: http.StatusNotFound, body: `{"message":"404 Not found"}`}
	}
}

// then answers the first calls one by one, and every further one like the last.
func then(answers ...answer) func(int, call) answer {
	return func(n int, _ call) answer { return answers[min(n, len(answers))-1] }
}

func made(calls []call) string {
	var out []string
	for _, c := range calls {
		out = append(out, c.String())
	}
	return strings.Join(out, "\n")
}

func thePlace() rotator.Place {
	return rotator.Place{ProjectID: 4711, EnvironmentScope: "production", KeyIDVariable: "AWS_ACCESS_KEY_ID", SecretVariable: "AWS_SECRET_ACCESS_KEY"}
}

func thePair() rotator.KeyPair {
	return rotator.KeyPair{ID: newKeyID, Secret: rotator.NewSecret(theSecret)}
}

func theRedeploy() rotator.Redeploy {
	return rotator.Redeploy{ProjectID: 4711, Ref: "main", PublishedAt: instant("2026-11-21T20:00:01Z"), After: rotator.Mark{Pipeline: 60}}
}

func instant(s string) time.Time {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		panic(err)
	}
	return t
}

// says fails the test unless the error holds every part, and none of the secrets.
func says(t *testing.T, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %q does not say %q", err, part)
		}
	}
	for _, secret := range []string{theToken, newToken, theSecret} {
		for i := range len(secret) - 7 {
			if strings.Contains(err.Error(), secret[i:i+8]) {
				t.Fatalf("error %q gives away a part of %s", err, secret[:5])
			}
		}
	}
}

func isRefused(err error) bool { return errors.Is(err, rotator.ErrRefused) }

func writeSecret(ctx context.Context, d rotator.Destination, place rotator.Place, before rotator.Variable, pair rotator.KeyPair) error {
	_, err := d.Write(ctx, place, rotator.PartSecret, before, pair)
	return err
}

func writeKeyID(ctx context.Context, d rotator.Destination, place rotator.Place, before rotator.Variable, keyID string) (time.Time, error) {
	return d.Write(ctx, place, rotator.PartKeyID, before, rotator.KeyPair{ID: keyID})
}

func readOne(ctx context.Context, d rotator.Destination, place rotator.Place) (rotator.Published, error) {
	all, err := d.Read(ctx, []rotator.Place{place})
	if err != nil {
		return rotator.Published{}, err
	}
	return all[0], nil
}

// seen is a preflight of a request with one redeploy, without what was well.
type seen struct {
	ReadOnly         bool
	Ref, LiveRef     string
	RefProtected     bool
	LiveRefProtected bool
	CannotRedeploy   string
	Faults, Warnings []string
}

func lookBefore(ctx context.Context, d rotator.Destination, r rotator.Request) (seen, error) {
	pre, err := d.Preflight(ctx, r)
	s := seen{ReadOnly: pre.ReadOnly, Faults: pre.Found(rotator.CheckFault), Warnings: pre.Found(rotator.CheckWarning)}
	for _, t := range pre.Turns {
		s.Ref, s.RefProtected, s.LiveRef, s.LiveRefProtected, s.CannotRedeploy = t.Ref, t.RefProtected, t.LiveRef, t.LiveRefProtected, t.CannotRedeploy
	}
	return s, err
}
