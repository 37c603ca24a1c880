package sandbox

import (
	"bytes"
	"context"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Hostility makes the fronts of a served world go wrong as real ones do: too many
// requests, errors of the service before and after it did what was asked, broken
// connections, slow, late and half replies, tokens that are not accepted for a
// moment, and pages and bytes that are no reply at all. What becomes of a request is
// drawn from the seed, from what is asked, and from how often that was asked before:
// one poll more or less, which is up to the clock, changes nothing for the others.
//
// It has a budget, and then the world is as it should be for ever: whoever cannot
// live in it after that has been broken by it.
//
// It does not lie: no reply says in good form what is not so. Against a service that
// does there is no defence, and none is claimed.
type Hostility struct {
	Seed   uint64
	Share  int // of a hundred requests, how many meet trouble while there is budget
	Budget int // how many do in all
	// OnlyWrites leaves reads alone. There are five times as many of them, and they
	// can be sent again, so without it few of the troubles hurt.
	OnlyWrites bool
	// Kill ends the caller with no warning, kill -9, and returns when it is gone; nil
	// leaves callers alive.
	Kill func()

	mu    sync.Mutex
	n     int            // requests
	asked map[string]int // and by what was asked
	met   map[string]int // troubles by what was asked
	story []string
	late  sync.WaitGroup
}

const (
	// perWrite bounds the troubles that one kind of write meets: a redeploy is tried
	// three times in a day, and a day is longer than a test.
	perWrite = 2
	// slowness and lateness are long compared with a reply, short compared with what
	// a client bears.
	slowness = 200 * time.Millisecond
	lateness = 300 * time.Millisecond
)

// Troubles is how many there have been.
func (h *Hostility) Troubles() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.story)
}

// Story is what has gone wrong, one line a trouble.
func (h *Hostility) Story() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.story)
}

// Calm ends it, and waits for what is to be applied late.
func (h *Hostility) Calm() {
	h.mu.Lock()
	h.Budget = 0
	h.mu.Unlock()
	h.late.Wait()
}

// trouble is one way in which a request goes wrong.
type trouble struct {
	name string
	// at names the only front that it happens at; "" is both.
	at string
	// applied: the service did what was asked; late: it does so afterwards.
	applied, late bool
	// reply sends what the caller gets instead; nil cuts the connection.
	reply func(*encounter)
	kills bool
}

// encounter is a request that has met its trouble.
type encounter struct {
	trouble
	rw    http.ResponseWriter
	rng   *rand.Rand
	truth *httptest.ResponseRecorder // the real reply, when the trouble applied
}

// troubles are all that there are.
func troubles() []trouble {
	page := func(status int) func(*encounter) {
		return func(x *encounter) {
			send(x.rw, status, "text/html", fmt.Sprintf("<html><body><h1>%d %s</h1></body></html>", status, http.StatusText(status)))
		}
	}
	all := []trouble{
		{name: "429 with Retry-After", at: "gitlab", reply: tooMany("Retry-After", func() int64 { return 1 })},
		{name: "429 with RateLimit-Reset", at: "gitlab", reply: tooMany("RateLimit-Reset", func() int64 { return time.Now().Unix() + 1 })},
		{name: "429 without a word", at: "gitlab", reply: tooMany("", nil)},
		{name: "401", at: "gitlab", reply: func(x *encounter) { sendGitLabError(x.rw, message(http.StatusUnauthorized, "401 Unauthorized")) }},
		{name: "Throttling", at: "aws", reply: awsSays(http.StatusBadRequest, "Throttling", "Rate exceeded")},
		{name: "ServiceUnavailable", at: "aws", reply: awsSays(http.StatusServiceUnavailable, "ServiceUnavailable", "Service is unavailable")},
		{name: "slow", applied: true, reply: func(x *encounter) { time.Sleep(time.Duration(x.rng.Int64N(int64(slowness)))); x.tell() }},
		{name: "half a reply", applied: true, reply: (*encounter).half},
		{name: "cut, and applied late", late: true},
		{name: "killed before", kills: true},
		{name: "killed after", kills: true, applied: true},
		{name: "killed while it is on its way", kills: true, late: true},
	}
	for _, applied := range []bool{false, true} {
		all = append(all,
			trouble{name: "500 of the service", at: "gitlab", applied: applied, reply: func(x *encounter) {
				sendGitLabError(x.rw, message(http.StatusInternalServerError, "500 Internal Server Error"))
			}},
			trouble{name: "500 of the service", at: "aws", applied: applied, reply: awsSays(http.StatusInternalServerError, "ServiceFailure", "The request processing has failed because of an unknown error")},
			trouble{name: "502", applied: applied, reply: page(http.StatusBadGateway)},
			trouble{name: "503", applied: applied, reply: page(http.StatusServiceUnavailable)},
			trouble{name: "cut", applied: applied},
			trouble{name: "a sign-in page", applied: applied, reply: page(http.StatusOK)},
			trouble{name: "garbage", applied: applied, reply: (*encounter).garbage},
		)
	}
	return all
}

func tooMany(header string, value func() int64) func(*encounter) {
	return func(x *encounter) {
		if header != "" {
			x.rw.Header().Set(header, strconv.FormatInt(value(), 10))
		}
		send(x.rw, http.StatusTooManyRequests, "text/plain", "Retry later\n")
	}
}

func awsSays(status int, code, text string) func(*encounter) {
	return func(x *encounter) { sendAWSError(x.rw, &awsError{status, code, text}) }
}

// tell sends the real reply.
func (x *encounter) tell() {
	for name, values := range x.truth.Header() {
		x.rw.Header()[name] = values
	}
	x.rw.WriteHeader(x.truth.Code)
	_, _ = x.rw.Write(x.truth.Body.Bytes())
}

// half sends the head of the real reply and a part of its body, and breaks off.
func (x *encounter) half() {
	body := x.truth.Body.Bytes()
	x.rw.Header().Set("Content-Length", strconv.Itoa(len(body)+1))
	x.truth.Body = bytes.NewBuffer(body[:x.rng.IntN(len(body)+1)])
	x.tell()
	panic(http.ErrAbortHandler)
}

// garbage sends bytes that are no reply, with the head of one.
func (x *encounter) garbage() {
	body := make([]byte, 1+x.rng.IntN(400))
	for i := range body {
		body[i] = byte(x.rng.IntN(256))
	}
	body[0] = 0xff // neither JSON nor XML begins so
	send(x.rw, http.StatusOK, "application/octet-stream", string(body))
}

// front is a front behind the hostility. A nil Hostility is none.
func (h *Hostility) front(at string, next http.Handler) http.Handler {
	if h == nil {
		return next
	}
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler) // whoever sent it is gone
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		x, met := h.draw(at, r, body)
		if !met {
			next.ServeHTTP(rw, r)
			return
		}
		x.rw = rw
		h.serve(next, r, body, x)
	})
}

// serve lets a request meet its trouble. What is applied is applied even when the
// caller does not live to see it.
func (h *Hostility) serve(next http.Handler, r *http.Request, body []byte, x *encounter) {
	apply := func() {
		again := r.Clone(context.WithoutCancel(r.Context()))
		again.Body = io.NopCloser(bytes.NewReader(body))
		x.truth = httptest.NewRecorder()
		next.ServeHTTP(x.truth, again)
	}
	switch {
	case x.applied:
		apply()
	case x.late:
		after := time.Duration(x.rng.Int64N(int64(lateness)))
		h.late.Go(func() { time.Sleep(after); apply() })
	}
	if x.kills {
		h.Kill()
	}
	if x.reply == nil {
		panic(http.ErrAbortHandler)
	}
	x.reply(x)
}

// draw decides what becomes of a request.
func (h *Hostility) draw(at string, r *http.Request, body []byte) (*encounter, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.asked == nil {
		h.asked, h.met = map[string]int{}, map[string]int{}
	}
	name, write := asked(at, r, body)
	h.n++
	h.asked[name]++
	rng := h.rng(name, h.asked[name])
	hit := rng.IntN(100) < h.Share
	if !hit || len(h.story) >= h.Budget || h.OnlyWrites && !write || write && h.met[name] >= perWrite {
		return nil, false
	}
	kills := h.Kill != nil && rng.IntN(3) == 0
	fit := slices.DeleteFunc(troubles(), func(t trouble) bool {
		return t.at != "" && t.at != at || t.kills != kills || t.late && !write
	})
	x := &encounter{trouble: fit[rng.IntN(len(fit))], rng: rng}
	h.met[name]++
	h.story = append(h.story, fmt.Sprintf("%s  #%d %s: %s", time.Now().UTC().Format("15:04:05.000"), h.n, name, x.trouble))
	return x, true
}

// rng draws for the n-th time that something is asked.
func (h *Hostility) rng(name string, n int) *rand.Rand {
	sum := fnv.New64a()
	_, _ = fmt.Fprint(sum, name, " ", n)
	return rand.New(rand.NewPCG(h.Seed, sum.Sum64())) // #nosec G404: fates of a stand-in
}

func (t trouble) String() string {
	if t.applied && !strings.HasSuffix(t.name, "after") {
		return t.name + ", applied"
	}
	return t.name
}

// Writes is what a request to a front is to change, in the words of its service; ""
// when it only reads. The request can be read again.
func Writes(r *http.Request) string {
	body, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	at := "aws"
	if strings.HasPrefix(r.URL.Path, "/api/") {
		at = "gitlab"
	}
	if name, write := asked(at, r, body); write {
		return name
	}
	return ""
}

// asked is what a request asks for, in the words of its service.
func asked(at string, r *http.Request, body []byte) (name string, write bool) {
	if at == "gitlab" {
		return "gitlab " + r.Method + " " + strings.TrimPrefix(r.URL.Path, "/api/v4"), r.Method != http.MethodGet
	}
	form, _ := url.ParseQuery(string(body))
	action := form.Get("Action")
	return "aws " + action, !strings.HasPrefix(action, "Get") && !strings.HasPrefix(action, "List")
}
