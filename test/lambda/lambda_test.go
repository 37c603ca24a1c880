package lambda_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	runtime "github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"

	"credential-rotator/test/lambda"
)

// TestMain makes the test binary a function too: behind a Runtime API it does
// what its events say.
func TestMain(m *testing.M) {
	if api := os.Getenv("AWS_LAMBDA_RUNTIME_API"); api != "" {
		if reason := os.Getenv("FAIL_INIT"); reason != "" {
			failInit(api, reason)
		}
		runtime.Start(unruly)
		return
	}
	os.Exit(m.Run())
}

func failInit(api, reason string) {
	body := strings.NewReader(fmt.Sprintf(`{"errorMessage":%q,"errorType":"Init"}`, reason))
	if _, err := http.Post("http://"+api+"/2018-06-01/runtime/init/error", "application/json", body); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(1)
}

// unruly does what the event says and tells what it knows about itself.
func unruly(ctx context.Context, event string) (map[string]any, error) {
	fmt.Fprintln(os.Stderr, "saw", event)
	switch event {
	case "error":
		return nil, errors.New("as asked")
	case "panic":
		panic("as asked")
	case "exit":
		os.Exit(7)
	case "child":
		child := exec.Command("sleep", "600")
		child.Stdout = os.Stdout
		if err := child.Start(); err != nil {
			return nil, err
		}
		fmt.Fprintln(os.Stderr, "child", child.Process.Pid)
		select {}
	case "sleep":
		time.Sleep(time.Minute) // past the deadline, deaf to ctx
	}
	deadline, _ := ctx.Deadline()
	lc, _ := lambdacontext.FromContext(ctx)
	return map[string]any{
		"pid":       os.Getpid(),
		"left_ms":   time.Until(deadline).Milliseconds(),
		"arn":       lc.InvokedFunctionArn,
		"id":        lc.AwsRequestID,
		"name":      lambdacontext.FunctionName,
		"has_home":  os.Getenv("HOME") != "",
		"from_test": os.Getenv("FROM_TEST"),
	}, nil
}

type answer struct {
	PID      int    `json:"pid"`
	LeftMS   int    `json:"left_ms"`
	ARN      string `json:"arn"`
	ID       string `json:"id"`
	Name     string `json:"name"`
	HasHome  bool   `json:"has_home"`
	FromTest string `json:"from_test"`
}

func start(t *testing.T, o lambda.Options) *lambda.Function {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	o.Bootstrap = self
	return lambda.Start(t, o)
}

func invoke(t *testing.T, f *lambda.Function, event string) lambda.Response {
	t.Helper()
	r, err := f.Invoke(t.Context(), []byte(event))
	if err != nil {
		t.Fatalf("invoking with %s: %v", event, err)
	}
	return r
}

func ask(t *testing.T, f *lambda.Function) answer {
	t.Helper()
	r := invoke(t, f, `"tell"`)
	var a answer
	if err := json.Unmarshal(r.Payload, &a); err != nil || r.FunctionError != "" {
		t.Fatalf("got %+v, %v", r, err)
	}
	return a
}

func TestAFunctionSeesWhatLambdaWouldTellIt(t *testing.T) {
	f := start(t, lambda.Options{Env: []string{"FROM_TEST=yes"}, Timeout: 2 * time.Second})
	a := ask(t, f)
	if a.LeftMS < 1000 || a.LeftMS > 2000 {
		t.Errorf("%d ms left of 2000", a.LeftMS)
	}
	if !strings.HasSuffix(a.ARN, ":function:function") || a.Name != "function" || len(a.ID) != 36 {
		t.Errorf("told %+v", a)
	}
	if a.HasHome || a.FromTest != "yes" {
		t.Errorf("the environment is inherited, or not the one given: %+v", a)
	}
}

func TestAProcessServesManyInvocations(t *testing.T) {
	f := start(t, lambda.Options{})
	if a, b := ask(t, f), ask(t, f); a.PID != b.PID || a.ID == b.ID {
		t.Errorf("got %+v, then %+v", a, b)
	}
}

func TestAReturnedErrorLeavesTheProcessAlone(t *testing.T) {
	f := start(t, lambda.Options{})
	before := ask(t, f)
	r := invoke(t, f, `"error"`)
	if r.FunctionError != "Unhandled" || !strings.Contains(string(r.Payload), `"errorMessage":"as asked"`) {
		t.Errorf("got %s %s", r.FunctionError, r.Payload)
	}
	if after := ask(t, f); after.PID != before.PID {
		t.Error("the process was replaced")
	}
}

func TestADeadProcessIsReplaced(t *testing.T) {
	for event, want := range map[string]string{
		`"panic"`: `"errorMessage":"as asked"`,
		`"exit"`:  "Runtime exited with error: exit status 7",
		`"sleep"`: "Task timed out after 0.50 seconds",
	} {
		t.Run(strings.Trim(event, `"`), func(t *testing.T) {
			f := start(t, lambda.Options{Timeout: 500 * time.Millisecond})
			before := ask(t, f)
			r := invoke(t, f, event)
			if r.FunctionError != "Unhandled" || !strings.Contains(string(r.Payload), want) {
				t.Errorf("got %s %s", r.FunctionError, r.Payload)
			}
			if after := ask(t, f); after.PID == before.PID {
				t.Error("the process was not replaced")
			}
			if !strings.Contains(f.Output(), "saw "+strings.Trim(event, `"`)) {
				t.Errorf("output of the first process is lost: %q", f.Output())
			}
		})
	}
}

func TestKillEndsTheProcessAndItsChildren(t *testing.T) {
	f := start(t, lambda.Options{Timeout: time.Minute})
	done := make(chan lambda.Response)
	go func() {
		r, _ := f.Invoke(t.Context(), []byte(`"child"`))
		done <- r
	}()
	var pid int
	for deadline := time.Now().Add(10 * time.Second); pid == 0 && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		_, after, _ := strings.Cut(f.Output(), "child ")
		if strings.HasSuffix(after, "\n") {
			_, _ = fmt.Sscan(after, &pid)
		}
	}
	f.Kill()
	if r := <-done; !strings.Contains(string(r.Payload), "signal: killed") {
		t.Errorf("got %s", r.Payload)
	}
	stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if pid == 0 || len(stat) > 0 && !strings.Contains(string(stat), ") Z ") {
		t.Errorf("child %d lives on: %s", pid, stat)
	}
	if ask(t, f).PID == 0 {
		t.Error("no new process")
	}
}

func TestAnEndedContextEndsTheInvocation(t *testing.T) {
	f := start(t, lambda.Options{Timeout: time.Minute})
	before := ask(t, f)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := f.Invoke(ctx, []byte(`"sleep"`)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	if ask(t, f).PID == before.PID {
		t.Error("the process was left in the middle of an invocation")
	}
}

func TestAFailingInitIsTold(t *testing.T) {
	f := start(t, lambda.Options{Env: []string{"FAIL_INIT=no token"}})
	if r := invoke(t, f, `"tell"`); r.FunctionError != "Unhandled" || !strings.Contains(string(r.Payload), "no token") {
		t.Errorf("got %s %s", r.FunctionError, r.Payload)
	}
	if _, _, err := f.Ready(t.Context()); err == nil {
		t.Error("it is said to be ready")
	}
}

func TestAMissingBootstrapIsAnError(t *testing.T) {
	f := lambda.Start(t, lambda.Options{Bootstrap: filepath.Join(t.TempDir(), "bootstrap")})
	if _, err := f.Invoke(t.Context(), []byte(`{}`)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func TestAFunctionIsToldByWhichARNItWasInvoked(t *testing.T) {
	f := start(t, lambda.Options{Aliases: []string{"service-a", "service-b"}})
	const escaped = "arn%3Aaws%3Alambda%3Aus-east-1%3A123456789012%3Afunction%3Afunction"
	for name, c := range map[string]struct {
		url    string
		status int
		suffix string // of the ARN
		says   string // when it is an error
	}{
		"by its name":                          {"function/invocations", 200, ":function:function", ""},
		"by its ARN":                           {lambda.ARN + "/invocations", 200, ":function:function", ""},
		"by its escaped ARN":                   {escaped + "/invocations", 200, ":function:function", ""},
		"by account and name":                  {"123456789012:function:function/invocations", 200, ":function:function", ""},
		"by name and alias":                    {"function:service-a/invocations", 200, ":function:function:service-a", ""},
		"by ARN and alias":                     {lambda.ARN + ":service-a/invocations", 200, ":function:function:service-a", ""},
		"by escaped ARN and alias":             {escaped + "%3Aservice-b/invocations", 200, ":function:function:service-b", ""},
		"by account, name and alias":           {"123456789012:function:function:service-b/invocations", 200, ":function:function:service-b", ""},
		"with the alias as parameter":          {"function/invocations?Qualifier=service-b", 200, ":function:function:service-b", ""},
		"with the alias twice":                 {"function:service-a/invocations?Qualifier=service-a", 200, ":function:function:service-a", ""},
		"with $LATEST as parameter":            {"function/invocations?Qualifier=%24LATEST", 200, ":function:function:$LATEST", ""},
		"by name and $LATEST":                  {"function:$LATEST/invocations", 200, ":function:function:$LATEST", ""},
		"with two aliases":                     {"function:service-a/invocations?Qualifier=service-b", 400, "", "InvalidParameterValueException"},
		"with an alias that nobody made":       {"function:service-c/invocations", 404, "", "ResourceNotFoundException"},
		"with a parameter that nobody made":    {"function/invocations?Qualifier=service-c", 404, "", "ResourceNotFoundException"},
		"with a version that nobody published": {"function:1/invocations", 404, "", "ResourceNotFoundException"},
		"with half an alias":                   {"function:service/invocations", 404, "", "ResourceNotFoundException"},
		"with an empty alias":                  {"function:/invocations", 404, "", "ResourceNotFoundException"},
		"by the ARN of another account":        {"arn:aws:lambda:us-east-1:210987654321:function:function/invocations", 404, "", "ResourceNotFoundException"},
		"by a longer name":                     {"functions/invocations", 404, "", "ResourceNotFoundException"},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, f.URL()+"/2015-03-31/functions/"+c.url, strings.NewReader(`"tell"`))
			if err != nil {
				t.Fatal(err)
			}
			got, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer got.Body.Close()
			var a answer
			if err := json.NewDecoder(got.Body).Decode(&a); err != nil {
				t.Fatal(err)
			}
			if got.StatusCode != c.status || !strings.HasSuffix(a.ARN, c.suffix) || got.Header.Get("X-Amzn-Errortype") != c.says {
				t.Errorf("got %s, ARN %q, error %q", got.Status, a.ARN, got.Header.Get("X-Amzn-Errortype"))
			}
		})
	}
	if r, err := f.InvokeAs(t.Context(), "service-a", []byte(`"tell"`)); err != nil || !strings.Contains(string(r.Payload), lambda.ARN+":service-a") {
		t.Errorf("through an alias: %s, %v", r.Payload, err)
	}
	if _, err := f.InvokeAs(t.Context(), "service-c", []byte(`"tell"`)); err == nil {
		t.Error("an alias that nobody made was invoked")
	}
}

func TestTheInvokeAPIAnswersLikeLambda(t *testing.T) {
	f := start(t, lambda.Options{})
	for name, c := range map[string]struct {
		path, kind, event string
		status            int
		functionError     string
	}{
		"an answer":          {"function", "RequestResponse", `"tell"`, 200, ""},
		"an error":           {"function", "RequestResponse", `"error"`, 200, "Unhandled"},
		"an event":           {"function", "Event", `"tell"`, 202, ""},
		"an unknown name":    {"other", "RequestResponse", `"tell"`, 404, ""},
		"a payload too long": {"function", "RequestResponse", `"` + strings.Repeat("x", 6<<20) + `"`, 413, ""},
	} {
		t.Run(name, func(t *testing.T) {
			url := f.URL() + "/2015-03-31/functions/" + c.path + "/invocations"
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(c.event))
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("X-Amz-Invocation-Type", c.kind)
			got, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer got.Body.Close()
			if got.StatusCode != c.status || got.Header.Get("X-Amz-Function-Error") != c.functionError {
				t.Errorf("got %s %v", got.Status, got.Header)
			}
		})
	}
}

func TestTheSmallestFunctionRuns(t *testing.T) {
	bootstrap := filepath.Join(t.TempDir(), "bootstrap")
	build := exec.CommandContext(t.Context(), "go", "build", "-tags", "lambda.norpc", "-o", bootstrap, "./hello")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building: %v\n%s", err, out)
	}
	f := lambda.Start(t, lambda.Options{Bootstrap: bootstrap})
	if took, pid, err := f.Ready(t.Context()); err != nil || took <= 0 || pid == 0 {
		t.Errorf("ready after %s as %d: %v", took, pid, err)
	}
	if r := invoke(t, f, "{}"); string(r.Payload) != `"hello"` {
		t.Errorf("got %s", r.Payload)
	}
}
