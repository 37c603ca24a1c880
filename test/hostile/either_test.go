package hostile

import (
	"bytes"
	"cmp"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"credential-rotator/rotator"
	"credential-rotator/test/sandbox"
)

// otherwise is GitLab as it may be where nobody is sure.
type otherwise struct {
	prepare func(*sandbox.Scene)
	// before answers a request instead of the world, if it does.
	before func(rw http.ResponseWriter, r *http.Request) bool
	// after changes a reply.
	after func(r *http.Request, reply *httptest.ResponseRecorder)
	event string // what is asked for; "": due
}

// failing replaces the body of every error.
func failing(body string) func(*http.Request, *httptest.ResponseRecorder) {
	return func(_ *http.Request, reply *httptest.ResponseRecorder) {
		if reply.Code >= 400 {
			reply.Body = bytes.NewBufferString(body)
		}
	}
}

// saying replaces one text by another in what a path answers.
func saying(path, from, to string) func(*http.Request, *httptest.ResponseRecorder) {
	return func(r *http.Request, reply *httptest.ResponseRecorder) {
		if strings.Contains(r.URL.Path, path) {
			reply.Body = bytes.NewBufferString(strings.ReplaceAll(reply.Body.String(), from, to))
		}
	}
}

// again asks for what is live to be deployed again.
const again = `{"user":"svc-billing","project_id":4711,"environment":"production","redeploy":"deployment"}`

// lateRows leaves the newest deployment out of the first lists that have more than one.
func lateRows(lists int) func(*http.Request, *httptest.ResponseRecorder) {
	var mu sync.Mutex
	return func(r *http.Request, reply *httptest.ResponseRecorder) {
		mu.Lock()
		defer mu.Unlock()
		var rows []json.RawMessage
		if !strings.HasSuffix(r.URL.Path, "/deployments") || json.Unmarshal(reply.Body.Bytes(), &rows) != nil || len(rows) < 2 || lists == 0 {
			return
		}
		lists--
		left, _ := json.Marshal(rows[1:]) // the newest comes first
		reply.Body = bytes.NewBuffer(left)
	}
}

// once refuses the first request of every method and path with a 429.
func once(media, body string, header map[string]string) func(http.ResponseWriter, *http.Request) bool {
	met := map[string]bool{}
	var mu sync.Mutex
	return func(rw http.ResponseWriter, r *http.Request) bool {
		mu.Lock()
		defer mu.Unlock()
		what := r.Method + r.URL.Path
		if met[what] || len(met) > 2 { // each costs a second
			return false
		}
		met[what] = true
		for name, value := range header {
			rw.Header().Set(name, value)
		}
		rw.Header().Set("Content-Type", media)
		rw.WriteHeader(http.StatusTooManyRequests)
		_, _ = io.WriteString(rw, body)
		return true
	}
}

// unverified are the sides of the rules in the sandbox's doc.go that the world is not on.
func unverified() map[string]otherwise {
	onTag := func(s *sandbox.Scene) { // the branch of that name is looked for first: a 404
		s.EditProject(4711, func(p *sandbox.Project) {
			p.Refs = []sandbox.Ref{{Name: "main", Tag: true, Protected: true}}
		})
	}
	manual := func(s *sandbox.Scene) {
		s.EditProject(4711, func(p *sandbox.Project) {
			p.Pipeline = append(p.Pipeline, sandbox.JobSpec{Name: "docs", Manual: true, AllowFailure: true})
		})
	}
	deployed := func(s *sandbox.Scene) {
		s.Deployed(4711, sandbox.Past{Job: sandbox.JobSpec{Name: "deploy", Environment: "production"}, Ago: time.Hour})
	}
	skipped := func(s *sandbox.Scene) { s.QueueOutcomes(4711, sandbox.Skipped) }
	return map[string]otherwise{
		"errors are worded otherwise":                 {prepare: onTag, after: failing(`{"message":"404 not here"}`)},
		"errors have the field error":                 {prepare: onTag, after: failing(`{"error":"nope"}`)},
		"errors have an object":                       {prepare: onTag, after: failing(`{"message":{"error":"nope"}}`)},
		"an optional manual job blocks":               {prepare: manual, after: saying("/pipelines/", `"status":"success"`, `"status":"manual"`)},
		"an optional manual job does not":             {prepare: manual},
		"a skipped deployment is skipped":             {prepare: skipped},
		"a skipped deployment is canceled":            {prepare: skipped, after: saying("/deployments", `"status":"skipped"`, `"status":"canceled"`)},
		"a skipped deployment is not there":           {prepare: skipped, after: saying("/deployments", `"status":"skipped"`, `"status":"new_word"`)},
		"what is live is deployed again":              {prepare: deployed, event: again},
		"a retried job's deployment is not there yet": {prepare: deployed, event: again, after: lateRows(3)},
		"canceling is not known": {before: func(rw http.ResponseWriter, r *http.Request) bool {
			if !strings.Contains(r.URL.RawQuery, "canceling") {
				return false
			}
			rw.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(rw, `{"error":"scope[] is wrong"}`)
			return true
		}},
		"a 429 is JSON":                {before: once("application/json", `{"message":{"error":"This endpoint has been requested too many times. Try again later."}}`, nil)},
		"a 429 has both headers":       {before: once("text/plain", "Retry later\n", map[string]string{"Retry-After": "1", "RateLimit-Reset": "1"})},
		"a 429 has a date to retry at": {before: once("text/plain", "custom", map[string]string{"Retry-After": "Sat, 21 Nov 2026 20:00:00 GMT"})},
		"every reply counts down": {after: func(_ *http.Request, reply *httptest.ResponseRecorder) {
			for name, value := range map[string]string{"RateLimit-Limit": "60", "RateLimit-Remaining": "0", "RateLimit-Reset": "4102444800"} {
				reply.Header().Set(name, value)
			}
		}},
	}
}

// TestTheProgramRestsOnNothingUnverified: on either side of every rule that is not
// known for sure, a rotation ends well.
func TestTheProgramRestsOnNothingUnverified(t *testing.T) {
	for name, o := range unverified() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, err := newStage(program(t), t.TempDir(), sandbox.Options{Seed: 1, JobDuration: 20 * time.Millisecond}, nil)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(s.server.Close)
			if o.prepare != nil {
				o.prepare(s.Scene)
			}
			front := httptest.NewServer(o.front(s.GitLab()))
			t.Cleanup(front.Close)
			s.env = []string{"GITLAB_URL=" + front.URL}
			for range 4 { // redeploys that fail are tried three times a day
				a, err := s.run(cmp.Or(o.event, due))
				if err != nil {
					t.Fatal(err)
				}
				if a.Status == rotator.StatusRotated {
					break
				}
			}
			s.isWell(t)
		})
	}
}

func (o otherwise) front(next http.Handler) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if o.before != nil && o.before(rw, r) {
			return
		}
		reply := httptest.NewRecorder()
		next.ServeHTTP(reply, r)
		if o.after != nil {
			o.after(r, reply)
		}
		for name, values := range reply.Header() {
			rw.Header()[name] = values
		}
		rw.WriteHeader(reply.Code)
		_, _ = rw.Write(reply.Body.Bytes())
	})
}
