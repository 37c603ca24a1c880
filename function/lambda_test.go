package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/lambdacontext"

	"credential-rotator/rotator"
	"credential-rotator/test/lambda"
	"credential-rotator/test/sandbox"
)

// table plays DynamoDB as far as one journal goes: items by their keys, a condition
// that is one of two, and a query of one index. What it really does is pinned in
// rotator/contract.
type table struct {
	mu    sync.Mutex
	items map[string]map[string]map[string]string
}

type attributes = map[string]map[string]string

func (d *table) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var in struct {
		Key, Item                 attributes
		ConditionExpression       string
		ExpressionAttributeValues attributes
	}
	_ = json.NewDecoder(r.Body).Decode(&in)
	out, status := map[string]any{}, http.StatusOK
	key := func(a attributes) string { return a["user"]["S"] + "\n" + a["item"]["S"] }
	switch r.Header.Get("X-Amz-Target") {
	case "DynamoDB_20120810.GetItem":
		if i := d.items[key(in.Key)]; i != nil {
			out["Item"] = i
		}
	case "DynamoDB_20120810.PutItem":
		old := d.items[key(in.Item)]
		fresh := strings.HasPrefix(in.ConditionExpression, "attribute_not_exists") && old != nil
		stale := strings.Contains(in.ConditionExpression, ":prev") && old["version"]["N"] != in.ExpressionAttributeValues[":prev"]["N"]
		if fresh || stale {
			status = http.StatusBadRequest
			out["__type"], out["Item"] = "ConditionalCheckFailedException", old
			break
		}
		d.items[key(in.Item)] = in.Item
	case "DynamoDB_20120810.Query":
		found := []attributes{}
		for _, i := range d.items {
			if i["in_flight"] != nil {
				found = append(found, i)
			}
		}
		out["Items"], out["Count"] = found, len(found)
	}
	answer, _ := json.Marshal(out)
	rw.Header().Set("Content-Type", "application/x-amz-json-1.0")
	rw.Header().Set("X-Amz-Crc32", fmt.Sprint(crc32.ChecksumIEEE(answer)))
	rw.WriteHeader(status)
	_, _ = rw.Write(answer)
}

func (d *table) text() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	all, _ := json.Marshal(d.items)
	return string(all)
}

// function is the function, deployed: its handler on a stage.
type function struct {
	*stage
	t       *testing.T
	table   *table
	handler handler
	arn     string // that it is invoked as
	out     *bytes.Buffer
	logs    *bytes.Buffer
}

// deploy makes a function. The SDK reads the real environment, so these tests do
// not run beside others.
func deploy(t *testing.T, more ...string) *function {
	t.Helper()
	f := &function{stage: stageFor(t), t: t, table: &table{items: map[string]map[string]map[string]string{}}, arn: lambda.ARN, out: &bytes.Buffer{}, logs: &bytes.Buffer{}}
	dynamodb := httptest.NewServer(f.table)
	t.Cleanup(dynamodb.Close)
	environ := append(f.environ(), "JOURNAL=dynamodb://credential-rotator", "AWS_ENDPOINT_URL_DYNAMODB="+dynamodb.URL)
	environ = append(environ, more...)
	for _, assignment := range environ {
		name, value, _ := strings.Cut(assignment, "=")
		t.Setenv(name, value)
	}
	f.handler = newHandler(environ, streams{out: f.out, err: f.logs})
	t.Cleanup(func() {
		f.hear(f.out.String(), f.logs.String(), f.table.text())
		if faults := f.faults(); len(faults) > 0 {
			t.Error(strings.Join(faults, "\n"))
		}
	})
	return f
}

// invoke is an event as Lambda hands it over, within a time. The answer is JSON, as
// Lambda would send it.
func (f *function) invoke(event string, within time.Duration) (string, error) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), within)
	defer cancel()
	ctx = lambdacontext.NewContext(ctx, &lambdacontext.LambdaContext{AwsRequestID: "1f2e3d4c", InvokedFunctionArn: f.arn})
	answer, err := f.handler(ctx, json.RawMessage(event))
	if err != nil {
		f.hear(err.Error())
		if answer != nil {
			f.t.Errorf("an answer beside the error: %v", answer)
		}
		return "", err
	}
	line, err := json.Marshal(answer)
	if err != nil {
		f.t.Fatal(err)
	}
	f.hear(string(line))
	return string(line), nil
}

// says fails the test unless an event is answered with a status.
func (f *function) says(event string, within time.Duration, status rotator.Status) string {
	f.t.Helper()
	answer, err := f.invoke(event, within)
	if err != nil {
		f.t.Fatalf("%s: %v", event, err)
	}
	if !strings.Contains(answer, `"status":"`+string(status)+`"`) {
		f.t.Fatalf("%s: %s, want status %s", event, answer, status)
	}
	return answer
}

const (
	tick     = `{"user":"svc-billing","project_id":4711,"environment":"production"}`
	followUp = `{"action":"follow_up"}`
	plenty   = 30 * time.Second
)

func TestTheFunctionRotatesWhatIsDueAndLeavesTheRestAlone(t *testing.T) {
	f := deploy(t)
	f.says(tick, plenty, rotator.StatusRotated)
	f.says(tick, plenty, rotator.StatusNotDue)
	f.says(`{"detail-type":"Scheduled","source":"shop","detail":`+tick+`}`, plenty, rotator.StatusNotDue)
	if n := len(f.Keys("svc-billing")); n != 1 {
		t.Errorf("the user has %d keys", n)
	}
}

func TestTheFunctionLogsOneLineAStepAndOneAResult(t *testing.T) {
	f := deploy(t)
	f.says(tick, plenty, rotator.StatusRotated)
	steps := map[string]int{}
	for line := range strings.Lines(f.logs.String()) {
		var l struct {
			Level, Msg, Step, State, User string
			Request                       string `json:"request_id"`
			Result                        *rotator.Result
		}
		if err := json.Unmarshal([]byte(line), &l); err != nil || l.Request != "1f2e3d4c" {
			t.Fatalf("%v in %s", err, line)
		}
		switch {
		case l.Msg == "step" && l.Level == "INFO" && l.State == "done" && l.User == "svc-billing":
			steps[l.Step]++
		case l.Msg == "result" && l.Result != nil && l.Result.Status == rotator.StatusRotated:
			steps["the result"]++
		default:
			t.Errorf("not expected: %s", line)
		}
	}
	for _, step := range []string{"begin", "create", "prove", "publish_secret", "publish_key_id", "redeploy", "await", "deactivate", "delete", "the result"} {
		if steps[step] != 1 {
			t.Errorf("%s is logged %d times", step, steps[step])
		}
	}
}

func TestAFollowUpAdvancesWhatIsInFlight(t *testing.T) {
	f := deploy(t)
	if answer, err := f.invoke(followUp, plenty); err != nil || answer != `{"results":[]}` {
		t.Errorf("with nothing in flight: %s, %v", answer, err)
	}
	f.QueueOutcomes(4711, sandbox.Manual)
	f.says(tick, plenty, rotator.StatusWaiting)
	f.says(followUp, plenty, rotator.StatusWaiting)
	f.PlayJob(f.Pipelines(4711)[0].Jobs[0].ID)
	answer := f.says(followUp, plenty, rotator.StatusRotated)
	if !strings.HasPrefix(answer, `{"results":[{`) {
		t.Errorf("not a list of results: %s", answer)
	}
}

func TestAHeldRotationIsAnAnswer(t *testing.T) {
	f := deploy(t)
	if err := f.begin("two-keys"); err != nil {
		t.Fatal(err)
	}
	f.says(tick, plenty, rotator.StatusHeld)
	if names := f.writes(); len(names) > 0 {
		t.Errorf("written: %v", names)
	}
}

func TestARefusalIsAnError(t *testing.T) {
	f := deploy(t)
	for event, want := range map[string]string{
		``:                                      "it is empty",
		`[]`:                                    "it is not a JSON object",
		`{"user":"svc-billing"}`:                "project_id is missing",
		`{"user":"x","project_id":1,"a":1}`:     `unknown "a"`,
		`{"action":"else"}`:                     "follow_up",
		`{"user":"nobody","project_id":4711}`:   "nobody",
		`{"user":"svc-billing","project_id":1}`: "not to project 1",
	} {
		_, err := f.invoke(event, plenty)
		if refused := (*rotator.RefusedError)(nil); !errors.As(err, &refused) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want a refusal with %q", event, err, want)
		}
	}
	if names := f.writes(); len(names) > 0 {
		t.Errorf("written: %v", names)
	}
}

func TestAFailureIsAnErrorAndTheNextTickGoesOn(t *testing.T) {
	f := deploy(t)
	f.QueueOutcomes(4711, sandbox.Failed, sandbox.Failed)
	_, err := f.invoke(tick, plenty)
	if failed := (*rotator.FailedError)(nil); !errors.As(err, &failed) || !strings.Contains(err.Error(), "the next run redeploys") {
		t.Errorf("got %v", err)
	}
	_, err = f.invoke(followUp, plenty)
	if failed := (*rotator.FailedError)(nil); !errors.As(err, &failed) || !strings.Contains(err.Error(), "svc-billing: ") {
		t.Errorf("a follow-up that failed: %v", err)
	}
	f.says(followUp, plenty, rotator.StatusRotated)
}

func TestAResultThatIsAnErrorIsInTheLogAsWell(t *testing.T) {
	f := deploy(t)
	_, _ = f.invoke(`{"user":"nobody","project_id":4711}`, plenty)
	if !strings.Contains(f.logs.String(), `"status":"refused"`) {
		t.Errorf("the log is %s", f.logs)
	}
}

func TestNearItsDeadlineTheFunctionSavesAndAnswersWaiting(t *testing.T) {
	f := deploy(t)
	f.QueueOutcomes(4711, sandbox.Stuck)
	began := time.Now()
	answer := f.says(tick, 2*time.Second, rotator.StatusWaiting)
	if took := time.Since(began); took >= 2*time.Second {
		t.Errorf("it answered after %s, when Lambda had stopped it", took)
	}
	if !strings.Contains(answer, "pipeline 1 is pending") {
		t.Errorf("it does not say where it stopped: %s", answer)
	}
	f.CancelPipeline(1)
	if _, err := f.invoke(followUp, plenty); err == nil {
		t.Error("the pipeline was canceled, and nobody is told")
	}
	f.says(followUp, plenty, rotator.StatusRotated)
}

func TestAFunctionThatIsTooShortForARotationMakesNoKey(t *testing.T) {
	f := deploy(t, "PROBE_DELAY=1s")
	_, err := f.invoke(tick, 900*time.Millisecond)
	if err == nil || !strings.Contains(err.Error(), "raise the function's timeout") {
		t.Errorf("got %v", err)
	}
	if names := f.writes(); len(names) > 0 {
		t.Errorf("written: %v", names)
	}
}

func TestTheTokenIsReadForEachInvocation(t *testing.T) {
	k := secretSaying("")
	server := httptest.NewServer(k)
	t.Cleanup(server.Close)
	f := deploy(t, "GITLAB_TOKEN=", "GITLAB_TOKEN_SECRET=gitlab/token", "AWS_ENDPOINT_URL_SECRETS_MANAGER="+server.URL)
	if k.calls != 0 {
		t.Error("it was read when the function started")
	}
	if _, err := f.invoke(tick, plenty); err == nil || !strings.Contains(err.Error(), "gitlab/token is empty: put the GitLab token there") {
		t.Errorf("got %v", err)
	}
	if names := f.writes(); len(names) > 0 {
		t.Errorf("written without a token: %v", names)
	}
	k.body = secretSaying(f.Token).body
	k.calls = 0
	f.says(tick, plenty, rotator.StatusRotated)
	if k.calls != 1 {
		t.Errorf("one rotation read the token %d times", k.calls)
	}

	// Somebody renews it, and the function is still warm.
	f.EditToken("rotator", func(t *sandbox.Token) { t.Revoked = true })
	next := f.AddToken(sandbox.Token{Name: "next", Scopes: []string{"api"}, Roles: map[int64]int{4711: sandbox.Maintainer}})
	k.body = secretSaying(next).body
	f.says(tick, plenty, rotator.StatusNotDue)
}

func TestTheLogLevelIsObeyed(t *testing.T) {
	f := deploy(t, "LOG_LEVEL=warn")
	f.says(tick, plenty, rotator.StatusRotated)
	if f.logs.Len() > 0 {
		t.Errorf("logged at warn: %s", f.logs)
	}
}
