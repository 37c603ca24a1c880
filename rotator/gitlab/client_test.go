package gitlab_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"credential-rotator/rotator"
	"credential-rotator/rotator/gitlab"
)

func TestNewRefusesAURLThatIsNone(t *testing.T) {
	token := func(context.Context) (rotator.Secret, error) { return rotator.NewSecret(theToken), nil }
	for _, bad := range []string{"", "gitlab.com", "ftp://gitlab.com", "https://", "https://me:hunter2@gitlab.com", "https://gitlab.com?private_token=hunter2", "https://gitlab.com/#a", "https://git lab.com"} {
		_, err := gitlab.New(gitlab.Options{URL: bad, Token: token})
		says(t, err, "GITLAB_URL")
		if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: the error shows the password: %v", bad, err)
		}
	}
	if _, err := gitlab.New(gitlab.Options{URL: "https://gitlab.com"}); err == nil {
		t.Error("no error without a way to read a token")
	}
}

func TestAnInstanceMayLiveBelowAPath(t *testing.T) {
	for _, url := range []string{"https://example.com/gitlab", "https://example.com/gitlab/", "https://example.com/gitlab/api/v4"} {
		s := &stand{t: t, answer: always(ok(`[]`))}
		c, err := gitlab.New(gitlab.Options{URL: url, Transport: s, Token: func(context.Context) (rotator.Secret, error) { return rotator.NewSecret(theToken), nil }})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Mark(t.Context(), theRedeploy()); err != nil {
			t.Fatal(err)
		}
		if want := "/gitlab/api/v4/projects/4711/pipelines"; s.calls[0].path != want {
			t.Errorf("%s: called %s, want %s", url, s.calls[0].path, want)
		}
	}
}

// The calls that the tests below make: one read and three writes.
func ports() map[string]func(context.Context, *gitlab.Client) error {
	return map[string]func(context.Context, *gitlab.Client) error{
		"GET": func(ctx context.Context, c *gitlab.Client) error {
			_, err := c.Mark(ctx, theRedeploy())
			return err
		},
		"PUT": func(ctx context.Context, c *gitlab.Client) error {
			return writeSecret(ctx, c, thePlace(), rotator.Variable{Exists: true}, thePair())
		},
		"POST variable": func(ctx context.Context, c *gitlab.Client) error {
			return writeSecret(ctx, c, thePlace(), rotator.Variable{}, thePair())
		},
		"POST pipeline": func(ctx context.Context, c *gitlab.Client) error {
			_, err := c.Start(ctx, theRedeploy())
			return err
		},
	}
}

func TestOnlyAReadIsSentAgain(t *testing.T) {
	html := map[string]string{"Content-Type": "text/html"}
	for name, c := range map[string]struct {
		answer        answer
		reads, writes int
		refused       bool // what a write makes of it
	}{
		"502":                            {answer{status: 502, body: "<html>nginx</html>", header: html}, 4, 1, false},
		"500":                            {answer{status: 500, body: `{"message":"500 Internal Server Error"}`}, 4, 1, false},
		"501":                            {answer{status: 501, body: `{"error":"no"}`}, 1, 1, false},
		"a dropped connection":           {answer{err: io.ErrUnexpectedEOF}, 4, 1, false},
		"a reset":                        {answer{err: &net.OpError{Op: "read", Err: errors.New("connection reset by peer")}}, 4, 1, false},
		"nobody listens":                 {answer{err: &net.OpError{Op: "dial", Err: errors.New("connection refused")}}, 4, 1, false},
		"no answer":                      {answer{status: 200, body: `[]`, after: time.Hour}, 4, 1, false},
		"no such host":                   {answer{err: &net.DNSError{Err: "no such host", Name: "gitlab.example.com", IsNotFound: true}}, 1, 1, false},
		"a name server in trouble":       {answer{err: &net.DNSError{Err: "server misbehaving", Name: "gitlab.example.com"}}, 4, 1, false},
		"429":                            {answer{status: 429, body: "Retry later", header: map[string]string{"Content-Type": "text/plain"}}, 4, 4, true},
		"400":                            {answer{status: 400, body: `{"error":"no"}`}, 1, 1, true},
		"403":                            {answer{status: 403, body: `{"message":"403 Forbidden"}`}, 1, 1, true},
		"404":                            {answer{status: 404, body: `{"message":"404 Project Not Found"}`}, 1, 1, true},
		"405":                            {answer{status: 405, body: `{"message":"405 Method Not Allowed"}`}, 1, 1, true},
		"409":                            {answer{status: 409, body: `{"message":"several"}`}, 1, 1, true},
		"422":                            {answer{status: 422, body: `{"message":"no"}`}, 1, 1, true},
		"408":                            {answer{status: 408, body: ``}, 1, 1, false},
		"401 (with the token read anew)": {answer{status: 401, body: `{"message":"401 Unauthorized"}`}, 2, 2, true},
		"a page of HTML":                 {answer{status: 200, body: "<html>Sign in</html>", header: html}, 1, 1, false},
		"a redirect":                     {answer{status: 302, header: map[string]string{"Location": "https://sso.example.com/"}}, 1, 1, false},
		"half a body":                    {answer{status: 200, body: `{"id":`}, 1, 1, false},
	} {
		t.Run(name, func(t *testing.T) {
			for port, do := range ports() {
				synctest.Test(t, func(t *testing.T) {
					client, s := client(t, always(c.answer))
					err := do(t.Context(), client)
					says(t, err)
					want := c.writes
					if port == "GET" {
						want = c.reads
					}
					if len(s.calls) != want {
						t.Errorf("%s was sent %d times, want %d", port, len(s.calls), want)
					}
					if port != "GET" && isRefused(err) != c.refused {
						t.Errorf("%s: refused is %v: %v", port, isRefused(err), err)
					}
				})
			}
		})
	}
}

func TestAReadSurvivesWhatPasses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := client(t, then(answer{status: 502}, answer{err: io.EOF}, ok(`[{"id":60}]`)))
		began := time.Now()
		mark, err := c.Mark(t.Context(), theRedeploy())
		if err != nil || mark.Pipeline != 60 || len(s.calls) != 3 {
			t.Errorf("Mark = %d, %v after %d calls", mark, err, len(s.calls))
		}
		if took := time.Since(began); took < 1500*time.Millisecond || took > 3*time.Second {
			t.Errorf("it took %s", took)
		}
	})
}

func TestABodyThatBreaksOffIsABrokenConnection(t *testing.T) {
	broken := 2
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if broken--; broken < 0 {
			fmt.Fprint(w, `[{"id":60}]`)
			return
		}
		w.Header().Set("Content-Length", "100")
		fmt.Fprint(w, `[{"id":`)
	}))
	defer server.Close()
	c, err := gitlab.New(gitlab.Options{URL: server.URL, Token: func(context.Context) (rotator.Secret, error) { return rotator.NewSecret(theToken), nil }})
	if err != nil {
		t.Fatal(err)
	}
	if err := writeSecret(t.Context(), c, thePlace(), rotator.Variable{Exists: true}, thePair()); isRefused(err) {
		t.Errorf("a write whose reply broke off is refused: %v", err)
	} else {
		says(t, err, "broke before it had answered")
	}
	if mark, err := c.Mark(t.Context(), theRedeploy()); err != nil || mark.Pipeline != 60 {
		t.Errorf("Mark = %d, %v", mark, err)
	}
}

func Test429IsWaitedForAsLongAsItAsksButNotForever(t *testing.T) {
	for name, c := range map[string]struct {
		header      map[string]string
		least, most time.Duration
	}{
		"Retry-After":                 {map[string]string{"Retry-After": "7"}, 7 * time.Second, 7 * time.Second},
		"RateLimit-Reset":             {map[string]string{"RateLimit-Reset": "reset"}, 10 * time.Second, 11 * time.Second},
		"an hour":                     {map[string]string{"Retry-After": "3600"}, 30 * time.Second, 30 * time.Second},
		"nothing":                     {nil, 500 * time.Millisecond, time.Second},
		"nonsense":                    {map[string]string{"Retry-After": "soon"}, 500 * time.Millisecond, time.Second},
		"what has passed":             {map[string]string{"RateLimit-Reset": "1"}, 500 * time.Millisecond, time.Second},
		"a limit that would slow it":  {map[string]string{"Retry-After": "1", "RateLimit-Limit": "1"}, time.Second, time.Second},
		"Retry-After and a far reset": {map[string]string{"Retry-After": "2", "RateLimit-Reset": "99999999999"}, 2 * time.Second, 2 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				header := map[string]string{}
				for name, value := range c.header {
					if value == "reset" {
						value = fmt.Sprint(time.Now().Add(11 * time.Second).Unix())
					}
					header[name] = value
				}
				client, s := client(t, then(answer{status: 429, body: "Retry later", header: header}, ok(`{"id":61,"status":"created"}`)))
				began := time.Now()
				if _, err := client.Start(t.Context(), theRedeploy()); err != nil {
					t.Fatal(err)
				}
				if took := time.Since(began); took < c.least || took > c.most || len(s.calls) != 2 {
					t.Errorf("waited %s over %d calls, want %s to %s", took, len(s.calls), c.least, c.most)
				}
			})
		})
	}
}

func Test429IsToldWhenTheRunEndsBeforeItPasses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := client(t, always(answer{status: 429, header: map[string]string{"Retry-After": "20"}}))
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		began := time.Now()
		_, err := c.Start(ctx, theRedeploy())
		says(t, err, "429", "try again")
		if !isRefused(err) || len(s.calls) != 1 || time.Since(began) > 0 {
			t.Errorf("after %s and %d calls: %v", time.Since(began), len(s.calls), err)
		}
	})
}

func TestHeadersDoNotSlowTheClientDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := client(t, always(answer{status: 200, body: `[]`, header: map[string]string{"RateLimit-Limit": "60"}}))
		began := time.Now()
		for range 25 {
			if _, err := c.Mark(t.Context(), theRedeploy()); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(began); took > 0 {
			t.Errorf("25 calls took %s", took)
		}
	})
}

func TestTheEndOfTheRunIsTheEndOfACall(t *testing.T) {
	for port, do := range ports() {
		synctest.Test(t, func(t *testing.T) {
			c, s := client(t, always(answer{status: 200, after: time.Hour}))
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			defer cancel()
			began := time.Now()
			err := do(ctx, c)
			says(t, err, "the run ended before gitlab.example.com answered")
			if !errors.Is(err, context.DeadlineExceeded) || isRefused(err) || len(s.calls) != 1 || time.Since(began) != 3*time.Second {
				t.Errorf("%s: after %s and %d calls: %v", port, time.Since(began), len(s.calls), err)
			}
		})
	}
}

func TestTheTokenIsReadOnceAndOnceMoreOnA401(t *testing.T) {
	reads := 0
	s := &stand{t: t, answer: func(_ int, c call) answer {
		if c.token != newToken {
			return answer{status: 401, body: `{"error":"invalid_token","error_description":"Token was revoked. You have to re-authorize from the user."}`}
		}
		if c.method == http.MethodPut {
			return ok(`{"key":"AWS_SECRET_ACCESS_KEY","environment_scope":"production","value":"x","description":null}`)
		}
		return ok(`[]`)
	}}
	c, err := gitlab.New(gitlab.Options{URL: "https://gitlab.example.com", Transport: s, Token: func(context.Context) (rotator.Secret, error) {
		if reads++; reads == 1 {
			return rotator.NewSecret(theToken), nil
		}
		return rotator.NewSecret(newToken), nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := writeSecret(t.Context(), c, thePlace(), rotator.Variable{Exists: true, Masked: true}, thePair()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Mark(t.Context(), theRedeploy()); err != nil {
		t.Fatal(err)
	}
	if reads != 2 || len(s.calls) != 4 {
		t.Errorf("the token was read %d times for %d calls, want 2 for 4", reads, len(s.calls))
	}
	if s.calls[0].body == "" || s.calls[0].body != s.calls[1].body {
		t.Errorf("the body was %q, and %q when it was sent again", s.calls[0].body, s.calls[1].body)
	}
}

func TestATokenThatCannotBeReadSendsNothing(t *testing.T) {
	for name, token := range map[string]func() (rotator.Secret, error){
		"error": func() (rotator.Secret, error) {
			return rotator.Secret{}, errors.New("secret gitlab-token: AccessDenied")
		},
		"empty": func() (rotator.Secret, error) { return rotator.NewSecret(""), nil },
	} {
		t.Run(name, func(t *testing.T) {
			reads := 0
			s := &stand{t: t, answer: always(ok(`[]`))}
			c, err := gitlab.New(gitlab.Options{URL: "https://gitlab.example.com", Transport: s, Token: func(context.Context) (rotator.Secret, error) { reads++; return token() }})
			if err != nil {
				t.Fatal(err)
			}
			_, err = c.Mark(t.Context(), theRedeploy())
			says(t, err, "reading the GitLab token: ")
			if len(s.calls) != 0 || reads != 1 {
				t.Errorf("%d calls, the token read %d times", len(s.calls), reads)
			}
		})
	}
}

func TestEveryFailureHasASentenceThatSaysWhatToDo(t *testing.T) {
	html := map[string]string{"Content-Type": "text/html; charset=utf-8"}
	for name, c := range map[string]struct {
		answer answer
		says   []string
	}{
		"sign-in page":       {answer{status: 200, body: "<!DOCTYPE html>", header: html}, []string{"not as GitLab's API does (text/html)", "check GITLAB_URL"}},
		"another site's 404": {answer{status: 404, body: "<!DOCTYPE html>", header: html}, []string{"404 Not Found", "check GITLAB_URL"}},
		"another API":        {ok(`{"hello":"world"}`), []string{"not as GitLab's API does", "check GITLAB_URL"}},
		"nothing at all":     {ok(``), []string{"check GITLAB_URL"}},
		"redirect": {
			answer{status: 302, header: map[string]string{"Location": "https://me:pw@sso.example.com/in?state=abc"}},
			[]string{"gitlab.example.com redirects to https://sso.example.com/in:", "check GITLAB_URL"},
		},
		"proxy that wants a password": {
			answer{status: 407, body: "<html>", header: html},
			[]string{"a proxy in front of gitlab.example.com answered 407 Proxy Authentication Required", "HTTPS_PROXY", "name gitlab.example.com in NO_PROXY"},
		},
		"redirect to where GitLab is now": {
			answer{status: 301, header: map[string]string{"Location": "https://git.example.com/gitlab/api/v4/projects/4711/pipelines?page=1"}},
			[]string{"set GITLAB_URL to https://git.example.com/gitlab"},
		},
		"redirect to another call": {
			answer{status: 302, header: map[string]string{"Location": "https://git.example.com/api/v4/user"}},
			[]string{"redirects to https://git.example.com/api/v4/user: check GITLAB_URL, which must name GitLab itself"},
		},
		"redirect to nowhere": {answer{status: 301}, []string{"redirects to nowhere"}},
		"500":                 {answer{status: 500, body: `{"message":"500 Internal Server Error"}`}, []string{"500 Internal Server Error: GitLab is down or overloaded; try again later"}},
		"503 page":            {answer{status: 503, body: "<html>", header: html}, []string{"503 Service Unavailable with a web page (text/html)", "of a proxy or load balancer in front of it: GitLab is down or overloaded"}},
		"unknown token":       {answer{status: 401, body: `{"message":"401 Unauthorized"}`}, []string{"it does not know the GitLab token; make a new one"}},
		"expired token": {
			answer{status: 401, body: `{"error":"invalid_token","error_description":"Token is expired. You can either do re-authorization or token refresh."}`},
			[]string{"the GitLab token has expired; make a new one"},
		},
		"revoked token": {
			answer{status: 401, body: `{"error":"invalid_token","error_description":"Token was revoked. You have to re-authorize from the user."}`},
			[]string{"the GitLab token was revoked; make a new one"},
		},
		"scope": {
			answer{status: 403, body: `{"error":"insufficient_scope","error_description":"The request requires higher privileges than provided by the access token.","scope":"api"}`},
			[]string{"lacks the scope api"},
		},
		"role":            {answer{status: 403, body: `{"message":"403 Forbidden"}`}, []string{"403 Forbidden: the GitLab token needs the scope api, and its user the role Maintainer"}},
		"gone":            {answer{status: 404, body: `{"message":"404 Project Not Found"}`}, []string{"404 Not Found (404 Project Not Found): it does not exist, or the GitLab token cannot see it"}},
		"app's own limit": {answer{status: 429, body: `{"message":{"error":"This endpoint has been requested too many times. Try again later."}}`}, []string{"requested too many times"}},
		"DNS":             {answer{err: &net.DNSError{Err: "no such host", Name: "gitlab.example.com", IsNotFound: true}}, []string{"gitlab.example.com is not found", "check GITLAB_URL"}},
		"dial":            {answer{err: &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connect: connection refused")}}, []string{"cannot be reached (dial tcp: connect: connection refused)", "check GITLAB_URL"}},
		"dropped":         {answer{err: io.EOF}, []string{"the connection to gitlab.example.com broke before it had answered (EOF)"}},
		"plain HTTP":      {answer{err: http.ErrSchemeMismatch}, []string{"does not speak TLS", "check GITLAB_URL"}},
		"silence":         {answer{after: time.Hour}, []string{"gitlab.example.com gave no answer within 15s", "check GITLAB_URL"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client, _ := client(t, always(c.answer))
				_, err := client.Mark(t.Context(), theRedeploy())
				says(t, err, append(c.says, "reading the newest pipeline of project 4711: ")...)
			})
		})
	}
}

func TestACertificateThatIsNotTrustedIsNamed(t *testing.T) {
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	server.StartTLS()
	defer server.Close()
	c, err := gitlab.New(gitlab.Options{URL: server.URL, Token: func(context.Context) (rotator.Secret, error) { return rotator.NewSecret(theToken), nil }})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Mark(t.Context(), theRedeploy())
	says(t, err, "the certificate of 127.0.0.1", "is not trusted", "certificate signed by unknown authority", "set GITLAB_CA_FILE", "SSL_CERT_DIR=/opt/certs")
}

func TestARedirectIsNotFollowedSoThatTheTokenStays(t *testing.T) {
	for port, do := range ports() {
		c, s := client(t, func(n int, c call) answer {
			if n > 1 {
				t.Errorf("%s followed the redirect to %s", port, c)
			}
			return answer{status: 301, header: map[string]string{"Location": "https://evil.example.com/"}}
		})
		says(t, do(t.Context(), c), "redirects to https://evil.example.com/")
		if len(s.calls) != 1 {
			t.Errorf("%s: %d calls", port, len(s.calls))
		}
	}
}

func TestAMessageThatRepeatsASecretIsNotShown(t *testing.T) {
	for name, body := range map[string]string{
		"the value":                 `{"message":{"value":["` + theSecret + ` is invalid"]}}`,
		"a part of it":              `{"message":{"value":["` + theSecret[5:20] + `… is invalid"]}}`,
		"the token":                 `{"message":"` + theToken + ` is wrong"}`,
		"behind a message":          `{"message":["no",{"value":"` + theSecret + `"}]}`,
		"in the name of a field":    `{"message":{"` + theSecret + `":["is invalid"]}}`,
		"in a field that is no one": `{"value":"` + theSecret + `"}`,
		"in no JSON":                theSecret,
	} {
		t.Run(name, func(t *testing.T) {
			c, _ := client(t, always(answer{status: 400, body: body}))
			err := writeSecret(t.Context(), c, thePlace(), rotator.Variable{Exists: true}, thePair())
			says(t, err, "400 Bad Request")
			if !isRefused(err) {
				t.Errorf("not refused: %v", err)
			}
		})
	}
}

func TestAMessageIsOneShortLine(t *testing.T) {
	c, _ := client(t, always(answer{status: 400, body: `{"message":"a\nb\u001b[31m` + strings.Repeat("x", 5000) + `"}`}))
	err := writeSecret(t.Context(), c, thePlace(), rotator.Variable{Exists: true}, thePair())
	says(t, err, "a b [31mxxx")
	if len(err.Error()) > 600 || strings.ContainsAny(err.Error(), "\n\x1b") {
		t.Errorf("%d bytes: %q", len(err.Error()), err)
	}
}
