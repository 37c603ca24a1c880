package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"credential-rotator/rotator"
	"credential-rotator/test/sandbox"
)

// reading is what CloudWatch makes of a line in its embedded metric format.
type reading struct {
	namespace, metric, unit string
	value                   float64
	dimension, label        string
	user                    string
}

// read checks a line against the specification of the format, as far as what CloudWatch
// would drop without a word, and against our own rule of one value by one dimension.
func read(line string) (reading, error) {
	var document struct {
		AWS struct {
			Timestamp         *int64
			CloudWatchMetrics []struct {
				Namespace  string
				Dimensions [][]string
				Metrics    []struct{ Name, Unit string }
			}
		} `json:"_aws"`
	}
	var root map[string]any
	strict := json.NewDecoder(strings.NewReader(line))
	if err := errors.Join(strict.Decode(&root), json.Unmarshal([]byte(line), &document)); err != nil || strict.More() {
		return reading{}, fmt.Errorf("not one JSON object: %w", err)
	}
	if strings.Count(line, "\n") != 1 || len(line) > 256<<10 {
		return reading{}, errors.New("not one line of up to 256 KB")
	}
	at := document.AWS.Timestamp
	if at == nil || math.Abs(time.Since(time.UnixMilli(*at)).Minutes()) > 10 {
		return reading{}, errors.New("no Timestamp in milliseconds near now: CloudWatch takes two weeks back and two hours ahead")
	}
	if n := len(document.AWS.CloudWatchMetrics); n != 1 {
		return reading{}, fmt.Errorf("%d directives", n)
	}
	d := document.AWS.CloudWatchMetrics[0]
	if !isNamespace(d.Namespace) || len(d.Dimensions) != 1 || len(d.Dimensions[0]) != 1 || len(d.Metrics) != 1 {
		return reading{}, errors.New("not one metric with one dimension in a namespace")
	}
	r := reading{namespace: d.Namespace, metric: d.Metrics[0].Name, unit: d.Metrics[0].Unit, dimension: d.Dimensions[0][0]}
	if !slices.Contains([]string{"Milliseconds", "Count", "None"}, r.unit) || r.metric == "" || len(r.metric) > 255 || len(r.dimension) > 250 {
		return reading{}, errors.New("a unit or a name that CloudWatch does not know")
	}
	var number, text bool
	r.value, number = root[r.metric].(float64)
	r.label, text = root[r.dimension].(string)
	ascii := regexp.MustCompile(`^[!-~][ -~]*$`).MatchString(r.label) && len(r.label) <= 1024
	if !number || !text || r.value < 0 || !ascii {
		return reading{}, errors.New("the value is no number from 0 on at the root, or the dimension no text of 1 to 1024 ASCII characters there")
	}
	members := 3 // _aws, the metric and the dimension
	if r.user, text = root["user"].(string); text {
		members++
	}
	if len(root) != members {
		return reading{}, fmt.Errorf("more than it takes: %v", root)
	}
	return r, nil
}

// readings are all the lines of a text, each of which must be one.
func readings(t *testing.T, text string) []reading {
	t.Helper()
	var all []reading
	for line := range strings.Lines(text) {
		r, err := read(line)
		if err != nil {
			t.Errorf("CloudWatch would not take this: %v\n%s", err, line)
		}
		all = append(all, r)
	}
	return all
}

// labels counts the readings of a metric by its dimension.
func labels(all []reading, metric string) map[string]int {
	n := map[string]int{}
	for _, r := range all {
		if r.metric == metric {
			n[r.label]++
		}
	}
	return n
}

func TestEachStepAndEachResultOfTheFunctionIsMeasured(t *testing.T) {
	f := deploy(t, "METRICS_NAMESPACE=Shop/Keys", "AWS_LAMBDA_FUNCTION_NAME=credential-rotator", "LOG_LEVEL=error")
	f.QueueOutcomes(4711, sandbox.Manual)
	f.says(tick, plenty, rotator.StatusWaiting)
	first := readings(t, f.out.String())
	for _, r := range first {
		if r.namespace != "Shop/Keys" {
			t.Errorf("in namespace %s: %+v", r.namespace, r)
		}
	}
	if n := labels(first, "Results"); len(n) != 1 || n["waiting"] != 1 {
		t.Errorf("results: %v", n)
	}
	steps := []string{"begin", "create", "prove", "publish_secret", "publish_key_id", "mark", "redeploy"}
	if n := labels(first, "StepDuration"); len(n) != len(steps) {
		t.Errorf("steps: %v, want one each of %v", n, steps)
	}

	// The next invocation measures what it did itself.
	f.out.Reset()
	f.PlayJob(f.Pipelines(4711)[0].Jobs[0].ID)
	f.says(followUp, plenty, rotator.StatusRotated)
	second := readings(t, f.out.String())
	if n := labels(second, "StepDuration"); n["await"] != 1 || n["deactivate"] != 1 || n["delete"] != 1 || len(n) != 3 {
		t.Errorf("steps of the follow-up: %v", n)
	}
	if n := labels(second, "Results"); n["rotated"] != 1 || len(n) != 1 {
		t.Errorf("results of the follow-up: %v", n)
	}
}

func TestTheAgeOfThePublishedKeyIsMeasuredInDays(t *testing.T) {
	f := deploy(t, "METRICS_NAMESPACE=CredentialRotator", "AWS_LAMBDA_FUNCTION_NAME=credential-rotator")
	f.publish(36 * time.Hour)
	f.says(tick, plenty, rotator.StatusNotDue)
	ages := slices.DeleteFunc(readings(t, f.out.String()), func(r reading) bool { return r.metric != "PublishedKeyAge" })
	want := reading{"CredentialRotator", "PublishedKeyAge", "None", 1.5, "Function", "credential-rotator", "svc-billing"}
	if len(ages) != 1 || math.Abs(ages[0].value-1.5) > 0.01 {
		t.Fatalf("got %+v, want %+v", ages, want)
	}
	if ages[0].value = 1.5; ages[0] != want {
		t.Errorf("got %+v, want %+v", ages[0], want)
	}
}

func TestWhatFailsOrIsRefusedIsMeasuredToo(t *testing.T) {
	f := deploy(t, "METRICS_NAMESPACE=CredentialRotator")
	f.QueueOutcomes(4711, sandbox.Failed)
	_, _ = f.invoke(`please`, plenty)
	_, _ = f.invoke(`{"user":"nobody","project_id":4711}`, plenty)
	_, _ = f.invoke(tick, plenty)
	all := readings(t, f.out.String())
	if n := labels(all, "Results"); n["refused"] != 2 || n["failed"] != 1 || len(n) != 2 {
		t.Errorf("results: %v", n)
	}
	if n := labels(all, "StepDuration"); n["await"] != 1 {
		t.Errorf("the step that failed is not measured: %v", n)
	}
}

func TestWithoutANamespaceNothingIsMeasured(t *testing.T) {
	f := deploy(t, "METRICS_NAMESPACE=")
	f.says(tick, plenty, rotator.StatusRotated)
	if f.out.Len() > 0 {
		t.Errorf("measured: %s", f.out)
	}
}

// broken is a stream that takes nothing.
type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

func TestAMetricThatCannotBeWrittenStopsNothing(t *testing.T) {
	f := deploy(t)
	f.handler = newHandler(append(os.Environ(), "METRICS_NAMESPACE=CredentialRotator"), streams{out: broken{}, err: broken{}})
	f.says(tick, plenty, rotator.StatusRotated)
}

func TestAKeyFromTheFutureIsNotYoungerThanNew(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	m := metrics{&out, "CredentialRotator", "f"}
	m.results([]rotator.Result{{Status: rotator.StatusNotDue, User: "svc-billing", CurrentKeyCreatedAt: time.Now().Add(time.Minute)}})
	m.step(rotator.Progress{Step: rotator.StepAwait, State: rotator.StepDone, Elapsed: -time.Minute})
	for _, r := range readings(t, out.String()) {
		if r.metric != "Results" && r.value != 0 {
			t.Errorf("got %+v", r)
		}
	}
}

// pipe is both streams of a function, as Lambda reads them. It tells when two writes
// are under way at once, or when one is not one line.
type pipe struct {
	mu     sync.Mutex
	buf    bytes.Buffer
	faults []string
}

func (p *pipe) Write(b []byte) (int, error) {
	if !p.mu.TryLock() {
		p.mu.Lock()
		p.faults = append(p.faults, "two writes at once")
	}
	defer p.mu.Unlock()
	if bytes.Count(b, []byte("\n")) != 1 || b[len(b)-1] != '\n' {
		p.faults = append(p.faults, "not one line: "+string(b))
	}
	for _, c := range b { // slowly
		p.buf.WriteByte(c)
	}
	time.Sleep(100 * time.Microsecond)
	return len(b), nil
}

// addServices makes more services like the stage's, each with a project of its own,
// and returns the ticks of all.
func (s *stage) addServices(n int) []string {
	ticks := []string{tick}
	for i := range n {
		user, id := fmt.Sprintf("svc-%d", i), int64(5000+i)
		s.AddUser(sandbox.User{Name: user, Tags: map[string]string{sandbox.BindingTag: fmt.Sprint(id)}})
		pair := s.CreateKey(user, 84*day)
		s.AddProject(sandbox.Project{ID: id, Path: "shop/" + user, Pipeline: []sandbox.JobSpec{{Name: "deploy", Environment: "production"}}})
		s.SetVariable(id, sandbox.Variable{Key: "AWS_ACCESS_KEY_ID", Value: pair.ID, Masked: true})
		s.SetVariable(id, sandbox.Variable{Key: "AWS_SECRET_ACCESS_KEY", Value: pair.Secret.Reveal(), Masked: true})
		s.SetLive(id, "production", pair.ID)
		s.EditToken("rotator", func(t *sandbox.Token) { t.Roles[id] = sandbox.Maintainer })
		ticks = append(ticks, fmt.Sprintf(`{"user":%q,"project_id":%d,"environment":"production"}`, user, id))
	}
	return ticks
}

func TestAFollowUpOfManyUsersLogsAndMeasuresEachInLinesOfItsOwn(t *testing.T) {
	f := deploy(t)
	both := &pipe{}
	f.handler = newHandler(append(os.Environ(), "METRICS_NAMESPACE=CredentialRotator", "LOG_LEVEL=debug"), streams{out: both, err: both})
	const more = 8 // and the stage's own: one more than are advanced at once
	ids := map[string]string{}
	for i, event := range f.addServices(more) {
		project := int64(4711)
		if i > 0 {
			project = int64(5000 + i - 1)
		}
		f.QueueOutcomes(project, sandbox.Manual)
		var r rotator.Result
		if err := json.Unmarshal([]byte(f.says(event, plenty, rotator.StatusWaiting)), &r); err != nil {
			t.Fatal(err)
		}
		ids[r.User] = r.RotationID
		f.PlayJob(f.Pipelines(project)[0].Jobs[0].ID)
	}
	both.buf.Reset()
	f.says(followUp, plenty, rotator.StatusRotated)

	f.hear(both.buf.String())
	for _, fault := range both.faults {
		t.Error(fault)
	}
	var measured strings.Builder
	deleted, told := map[string]int{}, map[string]int{}
	for line := range strings.Lines(both.buf.String()) {
		var l struct {
			AWS                    any `json:"_aws"`
			Msg, Step, State, User string
			Rotation               string `json:"rotation_id"`
			Request                string `json:"request_id"`
			Result                 rotator.Result
		}
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		switch {
		case l.AWS != nil:
			measured.WriteString(line)
		case l.Request != "1f2e3d4c":
			t.Errorf("whose invocation is this? %s", line)
		case l.Msg == "result":
			told[l.Result.User]++
		case l.Rotation == "" || l.Rotation != ids[l.User]:
			t.Errorf("rotation %s of %s is logged as %q: %s", ids[l.User], l.User, l.Rotation, line)
		case l.Step == "delete" && l.State == "done":
			deleted[l.User]++
		}
	}
	all := readings(t, measured.String())
	if n := labels(all, "Results"); n["rotated"] != more+1 || len(n) != 1 {
		t.Errorf("results: %v", n)
	}
	if n := labels(all, "StepDuration"); n["delete"] != more+1 || n["await"] != more+1 {
		t.Errorf("steps: %v", n)
	}
	for user := range ids {
		if deleted[user] != 1 || told[user] != 1 {
			t.Errorf("%s: deleted in %d lines, told in %d", user, deleted[user], told[user])
		}
		if !slices.ContainsFunc(all, func(r reading) bool { return r.metric == "PublishedKeyAge" && r.user == user && r.value < 1 }) {
			t.Errorf("the age of the key of %s is not measured", user)
		}
	}
}

func TestHandleGoesOnWhenNobodyTakesItsMetrics(t *testing.T) {
	t.Parallel()
	deaf, err := os.Open(os.DevNull) // for reading: every write fails
	if err != nil {
		t.Fatal(err)
	}
	defer deaf.Close()
	s := stageFor(t)
	cmd := exec.CommandContext(t.Context(), "credential-rotator", "handle")
	cmd.Env = append(s.environ(), "METRICS_NAMESPACE=CredentialRotator")
	cmd.Stdin, cmd.Stderr = strings.NewReader(tick), deaf
	out, err := cmd.Output()
	s.hear(string(out))
	if err != nil || !strings.HasPrefix(string(out), `{"status":"rotated"`) {
		t.Errorf("got %v, %s", err, out)
	}
	if faults := s.faults(); len(faults) > 0 {
		t.Error(strings.Join(faults, "\n"))
	}
}
