package gitlab_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"credential-rotator/rotator"
	"credential-rotator/rotator/gitlab"
	"credential-rotator/test/sandbox"
)

const (
	userPath   = "GET /user"
	rotatePath = "POST /personal_access_tokens/self/rotate"
	ownJSON    = `{"id":42,"name":"rotator","revoked":false,"active":true,"scopes":["api"],"user_id":7,"expires_at":"2027-02-20"}`
	nextJSON   = `{"id":43,"name":"rotator","revoked":false,"active":true,"scopes":["api"],"user_id":7,"expires_at":"2027-02-20","token":"` + newToken + `"}`
)

func TestATokenTellsWhoseItIsAndWhenItEnds(t *testing.T) {
	for username, kind := range map[string]string{
		"project_4711_bot_ab12": "of project 4711", "group_9_bot": "of group 9", "alice": "of user alice", "group_9_bottom": "of user group_9_bottom",
	} {
		client, _ := client(t, routes(map[string]answer{selfPath: ok(ownJSON), userPath: ok(`{"id":7,"username":"` + username + `"}`)}))
		got, err := client.Token(t.Context())
		want := rotator.Token{ID: 42, Name: "rotator", Owner: username, Kind: kind, Scopes: []string{"api"}, ExpiresAt: instant("2027-02-20T00:00:00Z")}
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%v (-want +got):\n%s", err, diff)
		}
	}
}

func TestATokenThatMayOnlyRotateItselfStillTellsWhenItEnds(t *testing.T) {
	client, _ := client(t, routes(map[string]answer{selfPath: ok(ownJSON), userPath: {status: 403, body: `{"error":"insufficient_scope"}`}}))
	if got, err := client.Token(t.Context()); err != nil || got.Kind != "" || got.ID != 42 {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestWhatGitLabDoesNotTellAboutATokenIsNoRefusal(t *testing.T) {
	for name, c := range map[string]struct {
		answer  answer
		refused bool
		untold  bool
		says    string
	}{
		"a revoked token":     {answer{status: 401, body: `{"error":"invalid_token","error_description":"Token was revoked. You have to re-authorize from the user."}`}, true, false, "was revoked"},
		"an unknown token":    {answer{status: 401, body: `{"message":"401 Unauthorized"}`}, true, false, "does not know the GitLab token"},
		"a fine-grained one":  {answer{status: 403, body: `{"message":"403 Forbidden"}`}, false, true, "403"},
		"an old instance":     {answer{status: 404, body: `{"error":"404 Not Found"}`}, false, true, "404"},
		"an instance down":    {answer{status: 502, body: "<html>"}, false, false, "try again later"},
		"a page of a proxy":   {answer{status: 401, body: "<html>"}, false, false, "check GITLAB_URL"},
		"something else":      {ok(`{}`), false, false, "did not answer with one"},
		"nobody at all there": {answer{err: &net.OpError{Op: "dial", Err: errors.New("refused")}}, false, false, "cannot be reached"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client, _ := client(t, routes(map[string]answer{selfPath: c.answer}))
				got, err := client.Token(t.Context())
				if c.untold {
					if err != nil || !strings.Contains(got.Untold, c.says) {
						t.Errorf("got %+v, %v", got, err)
					}
					return
				}
				says(t, err, c.says)
				if isRefused(err) != c.refused {
					t.Errorf("refused %v: %v", isRefused(err), err)
				}
			})
		})
	}
}

func TestATokenIsRotatedWithADateAndComesBackAsASecret(t *testing.T) {
	client, s := client(t, routes(map[string]answer{rotatePath: ok(nextJSON)}))
	secret, next, err := client.RotateToken(t.Context(), instant("2027-02-20T00:00:00Z"))
	if err != nil || secret.Reveal() != newToken || next.ID != 43 || next.Name != "rotator" {
		t.Errorf("got %+v, %v", next, err)
	}
	if len(s.calls) != 1 || s.calls[0].body != `{"expires_at":"2027-02-20"}` || s.calls[0].token != theToken {
		t.Errorf("sent %+v", s.calls)
	}
}

// A second request with the token that the first has revoked would revoke the new one too.
func TestTheRotationOfATokenIsSentOnceWhateverBecomesOfIt(t *testing.T) {
	reset := &net.OpError{Op: "read", Err: errors.New("connection reset by peer")}
	for name, c := range map[string]struct {
		answer  answer
		refused bool
		says    string
	}{
		"500":                      {answer{status: 500, body: `{"message":"500 Internal Server Error"}`}, false, "try again later"},
		"502 of a proxy":           {answer{status: 502, body: "<html>"}, false, "502"},
		"a connection that breaks": {answer{err: reset}, false, "broke before it had answered"},
		"one that breaks at once":  {answer{err: io.EOF}, false, "broke before it had answered"},
		"no answer in time":        {answer{after: time.Hour}, false, "no answer within"},
		"a sign-in page":           {answer{status: 200, body: "<html>Sign in</html>"}, false, "check GITLAB_URL"},
		"half an answer":           {answer{status: 200, body: nextJSON[:60]}, false, "check GITLAB_URL"},
		"an answer without one":    {ok(ownJSON), false, "without a new token"},
		"a redirect":               {answer{status: 307, header: map[string]string{"Location": "https://elsewhere.example.com/"}}, false, "redirects"},
		"401 of a proxy":           {answer{status: 401, body: "<html>"}, false, "401"},
		"an answer that shows it":  {answer{status: 500, body: `{"message":"cannot save ` + newToken + ` over ` + theToken + `"}`}, false, "500"},
		"429":                      {answer{status: 429, body: "Retry later"}, true, "no more requests"},
		"401":                      {answer{status: 401, body: `{"message":"401 Unauthorized"}`}, false, "does not know the GitLab token"},
		"revoked":                  {answer{status: 401, body: `{"error":"invalid_token","error_description":"Token was revoked."}`}, false, "was revoked"},
		"a scope that lacks":       {answer{status: 403, body: `{"error":"insufficient_scope"}`}, true, "lacks the scope"},
		"405":                      {answer{status: 405, body: `{"message":"405 Method Not Allowed"}`}, true, "405"},
		"too far ahead":            {answer{status: 400, body: `{"message":"400 Bad request - Expiration date must be before 2027-11-22"}`}, true, "must be before 2027-11-22"},
		"nobody there":             {answer{err: &net.OpError{Op: "dial", Err: errors.New("refused")}}, true, "cannot be reached"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client, s := client(t, always(c.answer))
				secret, _, err := client.RotateToken(t.Context(), instant("2027-02-20T00:00:00Z"))
				if len(s.calls) != 1 || !secret.Empty() {
					t.Errorf("%d requests were sent", len(s.calls))
				}
				says(t, err, "rotating the GitLab token: ", c.says)
				unknown := (*gitlab.UnknownOutcomeError)(nil)
				if isRefused(err) != c.refused || errors.As(err, &unknown) == c.refused {
					t.Errorf("refused %v: %v", isRefused(err), err)
				}
				if !c.refused && !strings.Contains(err.Error(), "nothing was sent again") {
					t.Errorf("it does not say what not to do: %v", err)
				}
			})
		})
	}
}

func TestATokenThatCannotBeReadIsNotRotated(t *testing.T) {
	client, err := gitlab.New(gitlab.Options{URL: "https://gitlab.example.com", Token: func(context.Context) (rotator.Secret, error) { return rotator.Secret{}, errors.New("denied") }})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err = client.RotateToken(t.Context(), time.Now()); !isRefused(err) {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err = client.RotateToken(ctx, time.Now()); !isRefused(err) {
		t.Errorf("after the end: %v", err)
	}
}

// Over real connections: net/http has retries of its own.
func TestOneRotationReachesGitLabAndTheFamilyLives(t *testing.T) {
	for fate, active := range map[sandbox.Fate]int{
		sandbox.OK: 1, sandbox.Lost: 1, sandbox.BadGatewayAfter: 1, sandbox.CrashBefore: 1, sandbox.BadGateway: 1, sandbox.TooMany: 1, sandbox.Unauthorized: 1,
	} {
		t.Run(fate.String(), func(t *testing.T) {
			s := sandbox.NewScene(sandbox.Options{})
			client := overHTTP(t, s.World, s.Token)
			if _, err := client.Token(t.Context()); err != nil { // and so there is a connection to reuse
				t.Fatal(err)
			}
			var sent atomic.Int32
			s.InterceptHTTP(func(*http.Request) sandbox.Fate { sent.Add(1); return fate })
			secret, _, err := client.RotateToken(t.Context(), time.Now().AddDate(0, 0, 90))
			if n := sent.Load(); n != 1 {
				t.Errorf("%d requests were sent", n)
			}
			if len(s.ActiveTokens("rotator")) != active || (fate == sandbox.OK) != (err == nil) {
				t.Errorf("active are %v, the error is %v", s.ActiveTokens("rotator"), err)
			}
			if fate != sandbox.Lost {
				return
			}
			// What a retry would have done.
			s.InterceptHTTP(nil)
			if _, _, err := client.RotateToken(t.Context(), time.Now().AddDate(0, 0, 90)); err == nil || isRefused(err) || !secret.Empty() {
				t.Errorf("got %v", err)
			}
			if got := s.ActiveTokens("rotator"); len(got) != 0 {
				t.Errorf("the world does not detect the reuse: %v live", got)
			}
		})
	}
}

func TestATextThatIsNoTokenIsToldBeforeAnythingIsSent(t *testing.T) {
	for text, sent := range map[string]bool{
		theToken: true, theToken + "\n": true, " " + theToken + "\r\n": true,
		"": false, " \n": false, theToken + "\n" + newToken: false, "Bearer " + theToken: false, "\ufeff" + theToken: false, `"` + theToken + `"`: true,
	} {
		s := &stand{t: t, answer: always(ok("{}"))}
		c, err := gitlab.New(gitlab.Options{URL: "https://gitlab.example.com", Transport: s, Token: func(context.Context) (rotator.Secret, error) { return rotator.NewSecret(text), nil }})
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.TokenAlone(t.Context())
		says(t, err, "looking at the GitLab token: ")
		if len(s.calls) > 0 != sent || sent && s.calls[0].token != strings.TrimSpace(text) || !sent && !strings.Contains(err.Error(), "reading the GitLab token: ") {
			t.Errorf("%d calls: %v", len(s.calls), err)
		}
	}
}
