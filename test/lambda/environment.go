package lambda

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// maxPayload is Lambda's limit for a synchronous answer.
const maxPayload = 6 << 20

// ARN is the function's, without a qualifier.
const ARN = "arn:aws:lambda:us-east-1:" + partialARN

const partialARN = "123456789012:function:" + Name

// environment is one process of the function and the Runtime API made for it
// alone, so that a dead process cannot answer for the next one.
type environment struct {
	cmd       *exec.Cmd
	api       *httptest.Server
	startedAt time.Time
	readyAt   time.Time // set before ready is closed

	work   chan *invocation // taken when the process asks for an event
	ready  chan struct{}    // closed when it asks for the first time
	exited chan struct{}    // closed when the process is gone
	first  sync.Once

	mu        sync.Mutex
	current   *invocation // handed over and not answered
	initError []byte
}

// invocation is one event on its way.
type invocation struct {
	id      string
	arn     string // that it came to
	event   []byte
	timeout time.Duration
	reply   chan Response // has room for one
}

func startEnvironment(o Options, output io.Writer) (*environment, error) {
	path, err := filepath.Abs(o.Bootstrap)
	if err != nil {
		return nil, fmt.Errorf("finding %s: %w", o.Bootstrap, err)
	}
	e := &environment{
		cmd:    exec.Command(path), //nolint:noctx // it lives until it dies or is killed
		work:   make(chan *invocation),
		ready:  make(chan struct{}),
		exited: make(chan struct{}),
	}
	e.api = httptest.NewServer(e.runtimeAPI())
	e.cmd.Dir = filepath.Dir(path)
	e.cmd.Env = append(e.variables(), o.Env...)
	e.cmd.Stdout, e.cmd.Stderr = output, output
	e.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // its children die with it
	e.cmd.WaitDelay = time.Second                           // for a child that keeps the output open
	e.startedAt = time.Now()
	if err := e.cmd.Start(); err != nil {
		e.api.Close()
		return nil, fmt.Errorf("starting %s: %w", path, err)
	}
	go func() {
		_ = e.cmd.Wait() // state tells
		close(e.exited)
		e.api.CloseClientConnections()
		e.api.Close()
	}()
	return e, nil
}

// variables is the environment that Lambda gives every function. HOME is not in it.
func (e *environment) variables() []string {
	return []string{
		"AWS_LAMBDA_RUNTIME_API=" + strings.TrimPrefix(e.api.URL, "http://"),
		"AWS_LAMBDA_FUNCTION_NAME=" + Name,
		"AWS_LAMBDA_FUNCTION_VERSION=$LATEST",
		"AWS_LAMBDA_FUNCTION_MEMORY_SIZE=128",
		"AWS_LAMBDA_INITIALIZATION_TYPE=on-demand",
		"AWS_LAMBDA_LOG_GROUP_NAME=/aws/lambda/" + Name,
		"AWS_LAMBDA_LOG_STREAM_NAME=2026/01/01/[$LATEST]00000000000000000000000000000000",
		"AWS_REGION=us-east-1",
		"AWS_DEFAULT_REGION=us-east-1",
		"LAMBDA_TASK_ROOT=" + e.cmd.Dir,
		"_HANDLER=bootstrap",
		"LANG=en_US.UTF-8",
		"TZ=:UTC",
		"PATH=/usr/local/bin:/usr/bin:/bin:/opt/bin",
	}
}

// alive tells whether the process has not ended.
func (e *environment) alive() bool {
	select {
	case <-e.exited:
		return false
	default:
		return true
	}
}

// kill ends the process group and waits until it is gone.
func (e *environment) kill() {
	if e.alive() {
		_ = syscall.Kill(-e.cmd.Process.Pid, syscall.SIGKILL) // it may just have died
	}
	<-e.exited
}

// state says how the process ended: "exit status 2", "signal: killed".
func (e *environment) state() string {
	if e.alive() {
		return "running"
	}
	return e.cmd.ProcessState.String()
}

// obituary is the response to an invocation whose process ended.
func (e *environment) obituary(inv *invocation) Response {
	select {
	case r := <-inv.reply: // answered, then ended
		return r
	default:
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.initError != nil {
		return Response{Payload: e.initError, FunctionError: "Unhandled"}
	}
	return fault(inv, "Runtime.ExitError", "Runtime exited with error: "+e.state())
}

// runtimeAPI is what the process talks to.
func (e *environment) runtimeAPI() http.Handler {
	const version = "/2018-06-01/runtime"
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+version+"/invocation/next", e.next)
	mux.HandleFunc("POST "+version+"/invocation/{id}/response", func(w http.ResponseWriter, r *http.Request) {
		e.answer(w, r, "")
	})
	mux.HandleFunc("POST "+version+"/invocation/{id}/error", func(w http.ResponseWriter, r *http.Request) {
		e.answer(w, r, "Unhandled")
	})
	mux.HandleFunc("POST "+version+"/init/error", func(w http.ResponseWriter, r *http.Request) {
		body, err := readPayload(w, r)
		if err != nil {
			refuse(w, http.StatusRequestEntityTooLarge, "RequestEntityTooLarge")
			return
		}
		e.mu.Lock()
		e.initError = body
		e.mu.Unlock()
		accept(w)
	})
	return mux
}

// next holds the request until there is an event.
func (e *environment) next(w http.ResponseWriter, r *http.Request) {
	e.first.Do(func() {
		e.readyAt = time.Now()
		close(e.ready)
	})
	var inv *invocation
	select {
	case inv = <-e.work:
	case <-r.Context().Done():
		return
	}
	e.mu.Lock()
	e.current = inv
	e.mu.Unlock()
	deadline := time.Now().Add(inv.timeout)
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Lambda-Runtime-Aws-Request-Id", inv.id)
	h.Set("Lambda-Runtime-Deadline-Ms", strconv.FormatInt(deadline.UnixMilli(), 10))
	h.Set("Lambda-Runtime-Invoked-Function-Arn", inv.arn)
	h.Set("Lambda-Runtime-Trace-Id", "Root=1-00000000-"+strings.ReplaceAll(inv.id, "-", "")[:24]+";Sampled=0")
	_, _ = w.Write(inv.event) // a process that hung up is noticed by its end
}

// answer takes the response to the invocation that is running; to any other it
// says what Lambda says.
func (e *environment) answer(w http.ResponseWriter, r *http.Request, functionError string) {
	body, err := readPayload(w, r)
	if tooLarge := new(http.MaxBytesError); errors.As(err, &tooLarge) {
		refuse(w, http.StatusRequestEntityTooLarge, "RequestEntityTooLarge")
		return
	} else if err != nil {
		return // it hung up
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.current == nil || e.current.id != r.PathValue("id") {
		refuse(w, http.StatusBadRequest, "InvalidRequestID")
		return
	}
	e.current.reply <- Response{Payload: body, FunctionError: functionError}
	e.current = nil
	accept(w)
}

func readPayload(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	return io.ReadAll(http.MaxBytesReader(w, r.Body, maxPayload))
}

func accept(w http.ResponseWriter) {
	w.WriteHeader(http.StatusAccepted)
	_, _ = io.WriteString(w, `{"status":"OK"}`)
}

func refuse(w http.ResponseWriter, status int, kind string) {
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, `{"errorType":%q,"errorMessage":%q}`, kind, kind)
}
