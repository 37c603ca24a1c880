package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"credential-rotator/rotator"
	"credential-rotator/rotator/gitlab"
	"credential-rotator/test/sandbox"
)

// What is sent cannot be called back: whoever ends the run then gets the new token stored
// all the same.
func TestWhoeverInterruptsItWhileGitLabWorksGetsTheTokenStored(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, k *kept, store string) {
		ctx, interrupt := context.WithCancel(t.Context())
		k.InterceptHTTP(func(r *http.Request) sandbox.Fate {
			if strings.HasSuffix(r.URL.Path, "/rotate") {
				interrupt()
				time.Sleep(100 * time.Millisecond)
			}
			return k.count(r)
		})
		r := k.rotation(store).run(ctx)
		k.hear(string(encode(r)))
		if r.Status != tokenRotated || !k.works(store) || k.posts.Load() != 1 {
			t.Errorf("%+v, sent %d times", r, k.posts.Load())
		}
	})
}

// A terminal that is closed (SIGHUP) is an interrupt like any other.
func TestNoSignalThatCanBeCaughtCostsTheToken(t *testing.T) {
	t.Parallel()
	for _, signal := range []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE} {
		t.Run(signal.String(), func(t *testing.T) {
			t.Parallel()
			k := keptIn(t)
			cmd := k.process("secret", "token", "rotate")
			var heard strings.Builder
			cmd.Stdout, cmd.Stderr = &heard, &heard
			started := make(chan struct{})
			k.InterceptHTTP(func(r *http.Request) sandbox.Fate {
				if strings.HasSuffix(r.URL.Path, "/rotate") {
					<-started
					_ = cmd.Process.Signal(signal)
					time.Sleep(100 * time.Millisecond)
				}
				return k.count(r)
			})
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			close(started)
			err := cmd.Wait()
			k.hear(heard.String())
			if err != nil || !k.works("secret") || k.posts.Load() != 1 {
				t.Errorf("%v, sent %d times: %s", err, k.posts.Load(), heard.String())
			}
		})
	}
}

func TestWhatStandsBetweenGitLabAndTheRunIsNotAskedAgain(t *testing.T) {
	t.Parallel()
	k := keptIn(t)
	for _, c := range []struct {
		status       int
		kind, answer string
		want         string
	}{
		{http.StatusOK, "text/html", "<html>Sign in</html>", tokenFailed},
		{http.StatusOK, "application/json", "{}", tokenFailed},
		{http.StatusOK, "application/json", "null", tokenFailed},
		{http.StatusFound, "text/html", "", tokenFailed},
		{http.StatusTemporaryRedirect, "text/html", "", tokenFailed},
		{http.StatusTooManyRequests, "text/plain", "Retry later", tokenRefused},
		{http.StatusUnauthorized, "application/json", `{"message":"401 Unauthorized"}`, tokenFailed},
	} {
		t.Run(fmt.Sprint(c.status, c.answer), func(t *testing.T) {
			sent := 0
			run := k.rotation("secret")
			run.client = func(token rotator.Secret) (*gitlab.Client, error) {
				return gitlab.New(gitlab.Options{
					URL:   k.server.GitLabURL,
					Token: func(context.Context) (rotator.Secret, error) { return token, nil },
					Transport: trip(func(r *http.Request) (*http.Response, error) {
						if !strings.HasSuffix(r.URL.Path, "/rotate") {
							return http.DefaultTransport.RoundTrip(r)
						}
						sent++
						header := http.Header{"Content-Type": {c.kind}, "Location": {"https://login.example.com/"}}
						return &http.Response{StatusCode: c.status, Header: header, Body: io.NopCloser(strings.NewReader(c.answer)), Request: r}, nil
					}),
				})
			}
			k.vault.grow(time.Hour)
			r := run.run(t.Context())
			k.hear(string(encode(r)))
			if r.Status != c.want || sent != 1 || k.posts.Load() != 0 {
				t.Errorf("%+v, sent %d times", r, sent)
			}
		})
	}
}

type trip func(*http.Request) (*http.Response, error)

func (f trip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// A store that takes the token and then says nothing must not hold the run for ever.
func TestAStoreThatStallsIsNotWaitedForForEver(t *testing.T) {
	t.Parallel()
	for name, at := range map[string]int{"PutSecretValue": 2, "GetSecretValue": 4} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := keptIn(t)
			k.vault.meets(func(called string, n int) string {
				if called == name && n == at {
					return "stall"
				}
				return ""
			})
			ended := make(chan tokenResult, 1)
			go func() { ended <- k.rotation("secret").run(t.Context()) }()
			t.Cleanup(k.vault.letGo) // so that a run that hangs is a failure, and not the end of all tests
			select {
			case r := <-ended:
				k.hear(string(encode(r)))
				if r.Status != tokenRotated || !k.works("secret") || k.vault.calls(name) <= at {
					t.Errorf("%+v", r)
				}
			case <-time.After(10 * time.Second):
				t.Error("it hangs")
			}
		})
	}
}
