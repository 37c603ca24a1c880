package awsiam_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"

	"credential-rotator/rotator"
	"credential-rotator/rotator/awsiam"
)

// What moto and the sandbox cannot show, against a server that does as it is told.

const sessionToken = "SESSION-TOKEN-CANARY"

// service answers IAM's and STS's query protocol and remembers what was asked.
type service struct {
	mu     sync.Mutex
	calls  []call
	answer func(w http.ResponseWriter, form url.Values, n int) // n counts from 1
	url    string
}

type call struct {
	action string
	from   string // the client's address: one a connection
	date   string
	form   url.Values
}

func serve(t *testing.T, answer func(w http.ResponseWriter, form url.Values, n int)) *service {
	t.Helper()
	s := &service{answer: answer}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	s.url = server.URL
	return s
}

func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	form, _ := url.ParseQuery(string(body))
	s.mu.Lock()
	s.calls = append(s.calls, call{form.Get("Action"), r.RemoteAddr, r.Header.Get("X-Amz-Date"), form})
	n := len(s.calls)
	s.mu.Unlock()
	w.Header().Set("X-Amzn-Requestid", "r-1")
	s.answer(w, form, n)
}

func (s *service) seen() []call {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.calls)
}

func (s *service) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = nil
}

func (s *service) config() aws.Config {
	return aws.Config{
		Region: "eu-central-1", BaseEndpoint: aws.String(s.url),
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "AKIAROTATOR", SecretAccessKey: "rotators-own", SessionToken: sessionToken}, nil
		}),
		Retryer: func() aws.Retryer {
			return retry.NewStandard(func(o *retry.StandardOptions) { o.MaxBackoff = 1 })
		},
	}
}

func reply(action, result string) string {
	return fmt.Sprintf("<%[1]sResponse><%[1]sResult>%[2]s</%[1]sResult></%[1]sResponse>", action, result)
}

func refuse(w http.ResponseWriter, status int, code, message string) {
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, "<ErrorResponse><Error><Type>Sender</Type><Code>%s</Code><Message>%s</Message></Error><RequestId>r-1</RequestId></ErrorResponse>", code, message)
}

func TestCreateIsSentOnce(t *testing.T) {
	created := reply("CreateAccessKey", "<AccessKey><UserName>u</UserName><AccessKeyId>AKIANEW</AccessKeyId><Status>Active</Status><SecretAccessKey>new-secret</SecretAccessKey></AccessKey>")
	for name, answer := range map[string]func(http.ResponseWriter){
		"the service is unavailable": func(w http.ResponseWriter) { refuse(w, 503, "ServiceUnavailable", "later") },
		"the service fails":          func(w http.ResponseWriter) { refuse(w, 500, "ServiceFailure", "oh") },
		"the connection is cut": func(w http.ResponseWriter) {
			conn, _, _ := w.(http.Hijacker).Hijack()
			_ = conn.Close()
		},
		"the reply is cut": func(w http.ResponseWriter) {
			w.Header().Set("Content-Length", "100000")
			_, _ = io.WriteString(w, created)
			panic(http.ErrAbortHandler)
		},
		"the reply holds no key": func(w http.ResponseWriter) { _, _ = io.WriteString(w, reply("CreateAccessKey", "")) },
		"a proxy answers":        func(w http.ResponseWriter) { http.Error(w, "<html>blocked</html>", http.StatusForbidden) },
	} {
		t.Run(name+", and whether there is a key is not known", func(t *testing.T) {
			s := serve(t, func(w http.ResponseWriter, _ url.Values, _ int) { answer(w) })
			cfg := s.config()
			cfg.RetryMaxAttempts = 5 // as AWS_MAX_ATTEMPTS sets it
			pair, err := awsiam.New(cfg).Create(t.Context(), "u")
			if err == nil || errors.Is(err, rotator.ErrRefused) || !pair.Secret.Empty() {
				t.Errorf("got %+v, %v", pair, err)
			}
			if len(s.seen()) != 1 {
				t.Errorf("it was sent %d times", len(s.seen()))
			}
			noSecret(t, err)
		})
	}
	t.Run("a refusal says that there is none", func(t *testing.T) {
		for status, code := range map[int]string{403: "AccessDenied", 409: "LimitExceeded", 404: "NoSuchEntity", 400: "Throttling"} {
			s := serve(t, func(w http.ResponseWriter, _ url.Values, _ int) { refuse(w, status, code, "no") })
			if _, err := awsiam.New(s.config()).Create(t.Context(), "u"); !errors.Is(err, rotator.ErrRefused) || len(s.seen()) != 1 {
				t.Errorf("%s, sent %d times: %v", code, len(s.seen()), err)
			}
		}
	})
}

// The SDK closes the request's body when the reply is there. net/http may look at it
// once more, and drops the connection and with it the reply if that is an error.
func TestTheReplyOfCreateOutlivesTheRequest(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, _ url.Values, _ int) { refuse(w, 409, "LimitExceeded", "no") })
	cfg := s.config()
	var late io.Reader
	cfg.HTTPClient = doer(func(r *http.Request) (*http.Response, error) {
		late = r.Body
		return http.DefaultClient.Do(r)
	})
	_, _ = awsiam.New(cfg).Create(t.Context(), "u")
	if _, err := io.Copy(io.Discard, late); err != nil {
		t.Errorf("a late look at the body gives %v", err)
	}
}

type doer func(*http.Request) (*http.Response, error)

func (d doer) Do(r *http.Request) (*http.Response, error) { return d(r) }

func TestARefusalAfterALostReplyIsNoRefusal(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, _ url.Values, n int) {
		if n == 1 { // applied, and the reply lost
			panic(http.ErrAbortHandler)
		}
		refuse(w, 403, "AccessDenied", "no")
	})
	err := awsiam.New(s.config()).Deactivate(t.Context(), "u", "AKIAOLD")
	if err == nil || errors.Is(err, rotator.ErrRefused) || len(s.seen()) != 2 {
		t.Errorf("sent %d times: %v", len(s.seen()), err)
	}
}

func TestErrorsTellWhatToDo(t *testing.T) {
	keyQuote := "The request signature we calculated does not match.\n\nThe Canonical String for this request should have been\n'x-amz-security-token:" + sessionToken + "'"
	for name, c := range map[string]struct {
		status        int
		code, message string
		want          string
	}{
		"a missing permission names it":      {403, "AccessDenied", "User: arn is not authorized", "listing keys of u: AccessDenied: User: arn is not authorized (HTTP 403, request r-1); grant iam:ListAccessKeys on the user to the identity that the rotator runs as"},
		"credentials that ended":             {403, "ExpiredToken", "expired", "listing keys of u: ExpiredToken: expired (HTTP 403, request r-1); the AWS credentials that the rotator itself runs with do not work: renew them, and check this machine's clock"},
		"what a signature says is not shown": {403, "SignatureDoesNotMatch", keyQuote, "listing keys of u: SignatureDoesNotMatch (HTTP 403, request r-1); the AWS credentials that the rotator itself runs with do not work: renew them, and check this machine's clock"},
		"a user that is not there":           {404, "NoSuchEntity", "The user with name u cannot be found.", "listing keys of u: NoSuchEntity: The user with name u cannot be found. (HTTP 404, request r-1); is the name right, and is this the right AWS account?"},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, func(w http.ResponseWriter, _ url.Values, _ int) { refuse(w, c.status, c.code, c.message) })
			_, err := awsiam.New(s.config()).List(t.Context(), "u")
			if err == nil || err.Error() != c.want {
				t.Errorf("got  %v\nwant %s", err, c.want)
			}
			if errors.Is(err, rotator.ErrNotFound) != (c.code == "NoSuchEntity") || errors.Is(err, rotator.ErrRefused) {
				t.Errorf("the marks of %v are wrong", err)
			}
		})
	}
	t.Run("a canceled context can be recognised", func(t *testing.T) {
		s := serve(t, func(http.ResponseWriter, url.Values, int) {})
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := awsiam.New(s.config()).List(ctx, "u"); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
}

func TestTheTimeOfAUserIsIAMs(t *testing.T) {
	user := func(date string) (rotator.User, int, error) {
		s := serve(t, func(w http.ResponseWriter, form url.Values, _ int) {
			w.Header()["Date"] = nil
			if date != "" {
				w.Header().Set("Date", date)
			}
			if form.Get("Action") == "GetUser" {
				_, _ = io.WriteString(w, reply("GetUser", "<User><UserName>u</UserName><UserId>AIDA1</UserId><Arn>arn:aws:iam::1:user/p/u</Arn></User>"))
				return
			}
			_, _ = io.WriteString(w, reply(form.Get("Action"), "<AttachedPolicies/>"))
		})
		u, err := awsiam.New(s.config()).User(t.Context(), "u")
		return u, len(s.seen()), err
	}
	t.Run("it is the Date of the reply", func(t *testing.T) {
		u, calls, err := user("Sat, 21 Nov 2026 20:00:01 GMT")
		if want := time.Date(2026, 11, 21, 20, 0, 1, 0, time.UTC); err != nil || !u.At.Equal(want) {
			t.Errorf("got %v, %v", u.At, err)
		}
		if calls != 2 {
			t.Errorf("a user takes %d calls, not 2", calls)
		}
	})
	for name, date := range map[string]string{"missing": "", "unreadable": "yesterday"} {
		t.Run("a "+name+" Date is an error", func(t *testing.T) {
			if u, _, err := user(date); err == nil || !strings.Contains(err.Error(), "Date header") {
				t.Errorf("got %v, %v", u.At, err)
			}
		})
	}
}

func TestListsAreReadToTheirEnd(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, form url.Values, n int) {
		more := fmt.Sprintf("<IsTruncated>true</IsTruncated><Marker>m%d</Marker>", n)
		if n == 3 {
			more = "<IsTruncated>false</IsTruncated>"
		}
		switch form.Get("Action") {
		case "ListAccessKeys":
			status := []string{"", "Active", "Inactive", "Expired"}[n]
			_, _ = io.WriteString(w, reply("ListAccessKeys", fmt.Sprintf("<AccessKeyMetadata><member><AccessKeyId>AKIA%d</AccessKeyId><Status>%s</Status><CreateDate>2026-11-21T20:00:0%d.75Z</CreateDate></member></AccessKeyMetadata>%s", n, status, n, more)))
		case "GetUser":
			_, _ = io.WriteString(w, reply("GetUser", "<User><UserId>AIDA1</UserId></User>"))
		case "ListAttachedUserPolicies":
			_, _ = io.WriteString(w, reply("ListAttachedUserPolicies", fmt.Sprintf("<AttachedPolicies><member><PolicyName>AWSCompromisedKeyQuarantineV%d</PolicyName></member></AttachedPolicies>%s", n, more)))
		}
	})
	keys, err := awsiam.New(s.config()).List(t.Context(), "u")
	if err != nil || len(keys) != 3 || len(s.seen()) != 3 {
		t.Fatalf("got %v, %v after %d calls", keys, err, len(s.seen()))
	}
	for i, status := range []rotator.KeyStatus{rotator.KeyActive, rotator.KeyInactive, rotator.KeyExpired} {
		want := rotator.AccessKey{ID: fmt.Sprintf("AKIA%d", i+1), Status: status, CreatedAt: time.Date(2026, 11, 21, 20, 0, i+1, 0, time.UTC)}
		if keys[i] != want {
			t.Errorf("got %+v, want %+v", keys[i], want)
		}
	}
	s.forget()
	u, err := awsiam.New(s.config()).User(t.Context(), "u")
	if err != nil || len(u.Quarantine) != 2 || len(s.seen()) != 3 {
		t.Errorf("got %+v, %v after %d calls", u, err, len(s.seen()))
	}
}

// noSecret fails when an error holds what must not leave.
func noSecret(t *testing.T, err error) {
	t.Helper()
	for _, canary := range []string{"new-secret", "rotators-own", sessionToken, "probed-secret", "Signature=", "AWS4-HMAC"} {
		if err != nil && strings.Contains(fmt.Sprintf("%v %+v %#v", err, err, err), canary) {
			t.Errorf("the error holds %s: %v", canary, err)
		}
	}
}
