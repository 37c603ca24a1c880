// Package lambda runs a program the way AWS Lambda does: it starts the bootstrap
// with Lambda's environment, hands it events through the Runtime API, kills it at
// the deadline, and starts it again when it has died.
//
// It knows nothing about what the program does. What it cannot show: cold starts
// of a real microVM, freezing between invocations, and the read-only file system.
//
// The protocol: https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
package lambda

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"
)

// Options say what to run. Only Bootstrap is required.
type Options struct {
	// Bootstrap is the path of the program.
	Bootstrap string
	// Env is added, as KEY=VALUE, to what Lambda itself sets. Nothing is inherited.
	Env []string
	// Aliases are those that were made of the function. All point at $LATEST, which is
	// the only version there is.
	Aliases []string
	// Timeout is the function's; 0 is Lambda's own default of 3 seconds.
	Timeout time.Duration
}

// Name is what the function is called in its ARN, its environment and its URL.
const Name = "function"

// latest is the qualifier of the version that is not published.
const latest = "$LATEST"

// initTimeout is what Lambda gives a process until it asks for its first event.
const initTimeout = 10 * time.Second

// Function is a deployed function with one execution environment, so that its
// invocations queue. For two runs at once, start two Functions.
type Function struct {
	options Options
	busy    chan struct{} // held by the invocation that is running
	front   *httptest.Server

	mu     sync.Mutex
	env    *environment // the last one started; it may have died
	output bytes.Buffer
}

// Start deploys a function for the length of a test. Its output is logged when
// the test fails.
func Start(t testing.TB, o Options) *Function {
	t.Helper()
	f := New(o)
	t.Cleanup(func() {
		f.Close()
		if t.Failed() {
			t.Logf("output of the function:\n%s", f.Output())
		}
	})
	return f
}

// New deploys a function. Its process starts with the first invocation. The
// caller closes it.
func New(o Options) *Function {
	if o.Timeout == 0 {
		o.Timeout = 3 * time.Second
	}
	f := &Function{options: o, busy: make(chan struct{}, 1)}
	f.front = httptest.NewServer(f.invokeAPI())
	return f
}

// Close kills the process and stops listening.
func (f *Function) Close() {
	f.Kill()
	f.front.Close()
}

// URL is the endpoint of the function's Invoke API, for an SDK or the AWS CLI.
func (f *Function) URL() string { return f.front.URL }

// Response is what an invocation gave.
type Response struct {
	Payload []byte
	// FunctionError is "" for an answer, and "Unhandled" when the function
	// returned an error, panicked, died or ran out of time; Payload tells which.
	FunctionError string
}

// Invoke hands an event to the function and waits for its answer. What goes wrong
// in the function is a Response; an error means that there was no invocation, or
// that ctx ended it, which kills the process.
func (f *Function) Invoke(ctx context.Context, event []byte) (Response, error) {
	return f.invoke(ctx, ARN, event)
}

// InvokeAs is Invoke through an alias, a version or $LATEST.
func (f *Function) InvokeAs(ctx context.Context, qualifier string, event []byte) (Response, error) {
	if !f.has(qualifier) {
		return Response{}, fmt.Errorf("function not found: %s:%s", ARN, qualifier)
	}
	return f.invoke(ctx, ARN+":"+qualifier, event)
}

// has tells whether a qualifier names something.
func (f *Function) has(qualifier string) bool {
	return qualifier == latest || slices.Contains(f.options.Aliases, qualifier)
}

func (f *Function) invoke(ctx context.Context, arn string, event []byte) (Response, error) {
	select {
	case f.busy <- struct{}{}:
		defer func() { <-f.busy }()
	case <-ctx.Done():
		return Response{}, fmt.Errorf("waiting for the invocation before: %w", ctx.Err())
	}
	inv := &invocation{id: requestID(), arn: arn, event: event, timeout: f.options.Timeout, reply: make(chan Response, 1)}
	env, err := f.handOver(ctx, inv)
	if err != nil {
		return Response{}, err
	}
	deadline := time.NewTimer(inv.timeout)
	defer deadline.Stop()
	select {
	case r := <-inv.reply:
		return r, nil
	case <-env.exited:
		return env.obituary(inv), nil
	case <-deadline.C:
		env.kill()
		return fault(inv, "Sandbox.Timedout", fmt.Sprintf("Task timed out after %.2f seconds", inv.timeout.Seconds())), nil
	case <-ctx.Done():
		env.kill()
		return Response{}, fmt.Errorf("waiting for the answer: %w", ctx.Err())
	}
}

// Kill ends the process and its children with SIGKILL, as if the machine were
// lost. An invocation that is running gets to know; the next one starts anew.
func (f *Function) Kill() {
	f.mu.Lock()
	env := f.env
	f.mu.Unlock()
	if env != nil {
		env.kill()
	}
}

// Ready starts the process unless it runs, waits until it asks for an event, and
// tells how long that took from its start, and its process id.
func (f *Function) Ready(ctx context.Context) (took time.Duration, pid int, err error) {
	env, err := f.environment()
	if err != nil {
		return 0, 0, err
	}
	select {
	case <-env.ready:
		return env.readyAt.Sub(env.startedAt), env.cmd.Process.Pid, nil
	case <-env.exited:
		return 0, 0, fmt.Errorf("starting %s: %s before it asked for an event: %s", f.options.Bootstrap, env.state(), f.Output())
	case <-ctx.Done():
		return 0, 0, fmt.Errorf("starting %s: %w", f.options.Bootstrap, ctx.Err())
	}
}

// Output is everything the function has written to stdout and stderr, over all
// its processes. Lambda sends this to CloudWatch Logs.
func (f *Function) Output() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.output.String()
}

// Write takes the output of the process.
func (f *Function) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.output.Write(p)
}

// environment returns the process that runs, started if need be.
func (f *Function) environment() (*environment, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.env != nil && f.env.alive() {
		return f.env, nil
	}
	env, err := startEnvironment(f.options, f)
	if err != nil {
		return nil, err
	}
	f.env = env
	return env, nil
}

// handOver gives the invocation to a process that asks for one. A process that
// died after the invocation before is replaced, once; a new one that dies before
// it asks answers with its end.
func (f *Function) handOver(ctx context.Context, inv *invocation) (*environment, error) {
	f.mu.Lock()
	prev := f.env
	f.mu.Unlock()
	for {
		env, err := f.environment()
		if err != nil {
			return nil, err
		}
		select {
		case env.work <- inv:
			return env, nil
		case <-env.exited:
			if env != prev {
				return env, nil
			}
		case <-time.After(initTimeout):
			env.kill()
			return nil, fmt.Errorf("invoking %s: it asked for no event in %s", f.options.Bootstrap, initTimeout)
		case <-ctx.Done():
			return nil, fmt.Errorf("waiting for the process: %w", ctx.Err())
		}
	}
}

// fault is the response that Lambda makes up when the function could not.
func fault(inv *invocation, kind, message string) Response {
	payload, _ := json.Marshal(map[string]string{ // strings always marshal
		"errorType":    kind,
		"errorMessage": "RequestId: " + inv.id + " Error: " + message,
	})
	return Response{Payload: payload, FunctionError: "Unhandled"}
}

// requestID makes a random UUID.
func requestID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
