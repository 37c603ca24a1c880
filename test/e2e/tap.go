// Package e2e runs the built program, as Lambda or a person would, against AWS
// (moto, with authentication on) and GitLab (the sandbox's HTTP front), and stands
// on the wire between them.
package e2e

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
)

// Wire is every line between the program and the services it calls. It records
// the calls of all of them in one order, remembers the secrets that pass, and can
// kill the program at a write.
type Wire struct {
	mu        sync.Mutex
	calls     []Call
	secrets   []string
	plan      *plan
	died      string // the line of the write that the program died of
	afterEach func(Call)
}

// Call is one remote call.
type Call struct {
	// Line says it to a person: "iam CreateAccessKey svc-billing",
	// "gitlab PUT /projects/4711/variables/AWS_ACCESS_KEY_ID".
	Line string
	// Write tells that the call may change something.
	Write bool
	// Status is the HTTP status of the reply, 0 when there was none.
	Status int
	// Request is the body that the program sent.
	Request []byte
}

// When says on which side of a write the program dies.
type When string

// The two sides of a write. Before: the service never hears of it. After: it is
// done, and the program does not learn that.
const (
	Before When = "before"
	After  When = "after"
)

// plan is a death that is planned.
type plan struct {
	writes int // left until then
	when   When
	kill   func()
}

// KillAt lets kill end the program at the n-th write from now, the first being 1.
// kill returns when the program is gone.
func (w *Wire) KillAt(n int, when When, kill func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.plan, w.died = &plan{writes: n, when: when, kill: kill}, ""
}

// Died returns the line of the write that the program died of as planned, "" when
// it did not.
func (w *Wire) Died() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.died
}

// AfterEach has check called after every call, when the service has answered and
// the program has not heard it yet.
func (w *Wire) AfterEach(check func(Call)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.afterEach = check
}

// Calls returns what has been called so far.
func (w *Wire) Calls() []Call {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.calls)
}

// Writes returns the lines of the writes so far.
func (w *Wire) Writes() []string {
	var lines []string
	for _, c := range w.Calls() {
		if c.Write {
			lines = append(lines, c.Line)
		}
	}
	return lines
}

// Secrets returns the secrets and tokens that have passed.
func (w *Wire) Secrets() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.secrets)
}

// Leak finds a secret in a text, also in the usual encodings, and returns how it is
// written and begins; "" when there is none.
func (w *Wire) Leak(text string) string {
	for _, secret := range w.Secrets() {
		quoted, _ := json.Marshal(secret) // a string always marshals
		for how, form := range map[string]string{
			"plain":       secret,
			"JSON":        strings.Trim(string(quoted), `"`),
			"URL-encoded": url.QueryEscape(secret),
			"base64":      base64.StdEncoding.EncodeToString([]byte(secret[:len(secret)/3*3])), // whatever follows it
			"hex":         hex.EncodeToString([]byte(secret)),
		} {
			if strings.Contains(text, form) {
				return how + " " + form[:4] + "…"
			}
		}
	}
	return ""
}

// Remember adds a secret that does not pass the wire in a way that a tap knows. What is too short to be one would be found everywhere.
func (w *Wire) Remember(secret string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(secret) >= 8 && !slices.Contains(w.secrets, secret) {
		w.secrets = append(w.secrets, secret)
	}
}

// AWS puts a tap before AWS and returns the URL to call instead.
func (w *Wire) AWS(t testing.TB, target string) string { return w.tap(t, target, readAWS) }

// GitLab puts a tap before GitLab and returns the URL to call instead.
func (w *Wire) GitLab(t testing.TB, target string) string { return w.tap(t, target, readGitLab) }

// exchange is a request and its reply, as a protocol's reader looks at them.
type exchange struct {
	request     *http.Request
	requestBody []byte
	replyBody   []byte // nil before the reply
}

// reader names a call, tells whether it writes, and finds the secrets in it.
type reader func(exchange) (line string, write bool, secrets []string)

func (w *Wire) tap(t testing.TB, target string, read reader) string {
	t.Helper()
	upstream, err := url.Parse(target)
	if err != nil {
		t.Fatalf("tapping %s: %v", target, err)
	}
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.serve(rw, r, upstream, read)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// serve passes one call on, unless the program dies of it.
func (w *Wire) serve(rw http.ResponseWriter, r *http.Request, upstream *url.URL, read reader) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler) // the program died while it sent the call
	}
	line, write, secrets := read(exchange{request: r, requestBody: body})
	for _, s := range secrets {
		w.Remember(s)
	}
	death := w.due(line, write)
	if death != nil && death.when == Before {
		death.kill()
		panic(http.ErrAbortHandler)
	}
	reply, err := forward(r, upstream, body)
	if err != nil {
		w.record(Call{Line: line, Write: write, Request: body})
		http.Error(rw, err.Error(), http.StatusBadGateway)
		return
	}
	_, _, secrets = read(exchange{request: r, requestBody: body, replyBody: reply.body})
	for _, s := range secrets {
		w.Remember(s)
	}
	w.record(Call{Line: line, Write: write, Status: reply.status, Request: body})
	if death != nil {
		death.kill()
		panic(http.ErrAbortHandler)
	}
	for name, values := range reply.header {
		rw.Header()[name] = values
	}
	rw.WriteHeader(reply.status)
	_, _ = rw.Write(reply.body) // the program may be gone
}

// due counts a write and returns the plan when it is the one.
func (w *Wire) due(line string, write bool) *plan {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.plan == nil || !write {
		return nil
	}
	w.plan.writes--
	if w.plan.writes > 0 {
		return nil
	}
	death := w.plan
	w.plan, w.died = nil, line
	return death
}

func (w *Wire) record(c Call) {
	w.mu.Lock()
	w.calls = append(w.calls, c)
	check := w.afterEach
	w.mu.Unlock()
	if check != nil {
		check(c)
	}
}

type reply struct {
	status int
	header http.Header
	body   []byte
}

// forward sends a call on with the Host that it came with: an AWS signature covers it.
func forward(r *http.Request, upstream *url.URL, body []byte) (reply, error) {
	out := r.Clone(r.Context())
	out.RequestURI = ""
	out.URL.Scheme, out.URL.Host = upstream.Scheme, upstream.Host
	out.Body = io.NopCloser(bytes.NewReader(body))
	out.ContentLength = int64(len(body))
	out.TransferEncoding = nil
	got, err := transport().RoundTrip(out)
	if err != nil {
		return reply{}, fmt.Errorf("passing on %s %s: %w", r.Method, r.URL.Path, err)
	}
	defer got.Body.Close()
	content, err := io.ReadAll(got.Body)
	if err != nil {
		return reply{}, fmt.Errorf("reading the reply to %s %s: %w", r.Method, r.URL.Path, err)
	}
	got.Header.Del("Connection")
	return reply{got.StatusCode, got.Header, content}, nil
}

// transport makes a connection for each call, adds nothing and asks no proxy.
func transport() *http.Transport {
	return &http.Transport{DisableCompression: true, DisableKeepAlives: true}
}

// readAWS reads the query, JSON and CBOR protocols.
func readAWS(x exchange) (line string, write bool, secrets []string) {
	service := "aws"
	if _, scope, ok := strings.Cut(x.request.Header.Get("Authorization"), "Credential="); ok {
		if parts := strings.Split(scope, "/"); len(parts) > 3 {
			service = parts[3]
		}
	}
	var action string
	var words []string
	if _, name, ok := strings.Cut(x.request.Header.Get("X-Amz-Target"), "."); ok {
		action = name
	} else if i := strings.LastIndex(x.request.URL.Path, "/operation/"); i >= 0 {
		action = x.request.URL.Path[i+len("/operation/"):]
	} else if form, err := url.ParseQuery(string(x.requestBody)); err == nil {
		action = form.Get("Action")
		for _, name := range []string{"UserName", "AccessKeyId", "Status"} {
			if v := form.Get(name); v != "" {
				words = append(words, v)
			}
		}
	}
	line = strings.Join(append([]string{service, action}, words...), " ")
	return line, !reads(action), awsSecrets(action, x.replyBody)
}

// reads tells whether an AWS action changes nothing, by AWS's own custom of names.
func reads(action string) bool {
	for _, verb := range []string{"Get", "List", "Describe", "Query", "Scan", "BatchGet", "Simulate"} {
		if strings.HasPrefix(action, verb) {
			return true
		}
	}
	return false
}

// awsSecrets finds what a reply gives away.
func awsSecrets(action string, body []byte) []string {
	switch action {
	case "CreateAccessKey", "AssumeRole":
		var r struct {
			Key     string `xml:"CreateAccessKeyResult>AccessKey>SecretAccessKey"`
			Role    string `xml:"AssumeRoleResult>Credentials>SecretAccessKey"`
			Session string `xml:"AssumeRoleResult>Credentials>SessionToken"`
		}
		_ = xml.Unmarshal(body, &r) // an error reply gives nothing away
		return []string{r.Key, r.Role, r.Session}
	case "GetSecretValue", "GetParameter":
		var r struct {
			SecretString string
			Parameter    struct{ Value string }
		}
		_ = json.Unmarshal(body, &r) // an error reply gives nothing away
		var object struct {
			Token string `json:"token"`
		}
		_ = json.Unmarshal([]byte(r.SecretString), &object) // it may be plain
		return []string{r.SecretString, r.Parameter.Value, object.Token}
	}
	return nil
}

// readGitLab reads GitLab's REST API.
func readGitLab(x exchange) (line string, write bool, secrets []string) {
	r := x.request
	path := strings.TrimPrefix(r.URL.EscapedPath(), "/api/v4")
	secrets = []string{
		r.Header.Get("Private-Token"),
		r.Header.Get("Job-Token"),
		strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "),
	}
	return "gitlab " + r.Method + " " + path, r.Method != http.MethodGet && r.Method != http.MethodHead, secrets
}
