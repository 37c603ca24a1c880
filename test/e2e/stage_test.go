package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	iamtypes "github.com/aws/aws-sdk-go-v2/service/iam/types"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"credential-rotator/rotator"
	"credential-rotator/test/lambda"
	"credential-rotator/test/moto"
	"credential-rotator/test/sandbox"
)

const (
	table     = "journal"
	projectID = 4711
	// runTimeout is the function's timeout and the command's: many times what a run takes here.
	runTimeout = 10 * time.Second
	// orphanAge must be longer than any run, in life; here it is what a test will wait.
	orphanAge = 2 * time.Second
	// leaseAfterDeadline is how long a lease outlasts the deadline of the run that took it.
	leaseAfterDeadline = 30 * time.Second
)

// permissions are all that the program needs.
const permissions = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Resource":"*","Action":[
	"iam:GetUser","iam:ListAttachedUserPolicies","iam:ListAccessKeys","iam:GetAccessKeyLastUsed",
	"iam:CreateAccessKey","iam:UpdateAccessKey","iam:DeleteAccessKey",
	"dynamodb:GetItem","dynamodb:PutItem","dynamodb:Query",
	"events:PutEvents","events:EnableRule","events:DisableRule","secretsmanager:GetSecretValue"]}]}`

// bootstrap is the program, built once for all tests.
var bootstrap = sync.OnceValues(func() (string, error) {
	path := filepath.Join(buildDir, "bootstrap")
	build := exec.Command("go", "build", "-trimpath", "-tags", "lambda.norpc", "-o", path, "credential-rotator/function")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building the program: %w\n%s", err, out)
	}
	return path, nil
})

var buildDir string

func TestMain(m *testing.M) {
	var err error
	if buildDir, err = os.MkdirTemp("", "e2e"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(buildDir)
	os.Exit(code)
}

func program(t *testing.T) string {
	t.Helper()
	path, err := bootstrap()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// cloud is an AWS account that asks everybody who they are.
type cloud struct {
	*moto.Server
	self aws.Credentials // what the program runs as
}

func newCloud(t *testing.T) *cloud {
	t.Helper()
	c := &cloud{Server: moto.Start(t)}
	c.CreateTable(t, table)
	c.EnforceAuth(true)
	client := iam.NewFromConfig(c.Admin())
	self := c.addUser(t, "rotator")
	if _, err := client.PutUserPolicy(t.Context(), &iam.PutUserPolicyInput{
		UserName: aws.String("rotator"), PolicyName: aws.String("rotate"), PolicyDocument: aws.String(permissions),
	}); err != nil {
		t.Fatalf("permitting the program: %v", err)
	}
	c.self = self
	return c
}

// addUser makes a user with one key, bound to the project.
func (c *cloud) addUser(t *testing.T, name string) aws.Credentials {
	t.Helper()
	return c.addBoundUser(t, name, fmt.Sprint(projectID))
}

// addBoundUser makes a user with one key.
func (c *cloud) addBoundUser(t *testing.T, name, binding string) aws.Credentials {
	t.Helper()
	client := iam.NewFromConfig(c.Admin())
	if _, err := client.CreateUser(t.Context(), &iam.CreateUserInput{
		UserName: &name,
		Tags:     []iamtypes.Tag{{Key: aws.String(sandbox.BindingTag), Value: &binding}},
	}); err != nil {
		t.Fatalf("making user %s: %v", name, err)
	}
	out, err := client.CreateAccessKey(t.Context(), &iam.CreateAccessKeyInput{UserName: &name})
	if err != nil {
		t.Fatalf("making a key for %s: %v", name, err)
	}
	return aws.Credentials{AccessKeyID: *out.AccessKey.AccessKeyId, SecretAccessKey: *out.AccessKey.SecretAccessKey}
}

func (c *cloud) keysOf(ctx context.Context, user string) ([]iamtypes.AccessKeyMetadata, error) {
	out, err := iam.NewFromConfig(c.Admin()).ListAccessKeys(ctx, &iam.ListAccessKeysInput{UserName: &user})
	if err != nil {
		return nil, fmt.Errorf("listing the keys of %s: %w", user, err)
	}
	return out.AccessKeyMetadata, nil
}

// authenticates asks STS whether a pair works.
func (c *cloud) authenticates(ctx context.Context, keyID, secret string) error {
	_, err := c.identity(ctx, keyID, secret)
	return err
}

// identity asks STS who a pair is.
func (c *cloud) identity(ctx context.Context, keyID, secret string) (arn string, err error) {
	out, err := sts.NewFromConfig(c.Config(keyID, secret)).GetCallerIdentity(ctx, nil)
	if err != nil {
		return "", err
	}
	return *out.Arn, nil
}

// stage is one service with its user on AWS and its project on GitLab, the wire to
// both, and what has to be so at all times.
type stage struct {
	t      *testing.T
	cloud  *cloud
	gitlab *sandbox.World
	wire   *Wire
	user   string
	places []rotator.Place // of its pair; nil: its project, where each variable is there once
	others []rotator.Place // of pairs of other users that the program looks after
	token  sandbox.Token   // of the program; zero: a Maintainer's of the project
	asks   string          // fields of its request, JSON, besides the user and force
	first  string          // the key id that is published at the beginning
	env    []string        // of the program
	also   func()          // what else has to be so when it is rotated

	mu       sync.Mutex
	pairs    map[rotator.Place]aws.Credentials // as they were after the last write
	torn     map[rotator.Place]bool            // between the two writes of a pair
	spared   map[rotator.Place]bool            // a person has said that jobs may fail with its pair
	deployed []string                          // the key ids that deploy jobs worked with
}

func newStage(t *testing.T, c *cloud, user string) *stage {
	t.Helper()
	s := &stage{t: t, cloud: c, wire: &Wire{}, user: user, asks: fmt.Sprintf(`"project_id":%d,"environment":"production"`, projectID)}
	key := c.addUser(t, user)
	s.gitlab = sandbox.New(sandbox.Options{Deploy: s.deploy})
	t.Cleanup(s.gitlab.Close)
	s.gitlab.AddProject(sandbox.Project{ID: projectID, Path: "shop/billing", Pipeline: []sandbox.JobSpec{{Name: "deploy", Environment: "production"}}})
	s.gitlab.SetVariable(projectID, sandbox.Variable{Key: "AWS_ACCESS_KEY_ID", Value: key.AccessKeyID, Masked: true})
	s.gitlab.SetVariable(projectID, sandbox.Variable{Key: "AWS_SECRET_ACCESS_KEY", Value: key.SecretAccessKey, Masked: true})
	s.connect(key)
	return s
}

// connect puts the wire between the program and a cloud and a GitLab that are as they are
// to be at the beginning, with a key published.
func (s *stage) connect(key aws.Credentials) {
	s.t.Helper()
	t, c := s.t, s.cloud
	s.first = key.AccessKeyID
	if s.token.Name == "" {
		s.token = sandbox.Token{Name: "rotator", Scopes: []string{"api"}, Roles: map[int64]int{projectID: sandbox.Maintainer}}
	}
	token := s.gitlab.AddToken(s.token)
	if _, err := secretsmanager.NewFromConfig(c.Admin()).CreateSecret(t.Context(), &secretsmanager.CreateSecretInput{
		Name: aws.String("gitlab/" + s.user), SecretString: aws.String(`{"token":"` + token + `"}`),
	}); err != nil {
		t.Fatalf("storing the token: %v", err)
	}
	front := httptest.NewServer(s.gitlab.GitLab())
	t.Cleanup(front.Close)
	for _, secret := range []string{token, key.SecretAccessKey, c.self.SecretAccessKey} {
		s.wire.Remember(secret)
	}
	s.env = append(
		shortened(),
		"AWS_ENDPOINT_URL="+s.wire.AWS(t, c.URL),
		"AWS_REGION="+moto.Region,
		"AWS_ACCESS_KEY_ID="+c.self.AccessKeyID,
		"AWS_SECRET_ACCESS_KEY="+c.self.SecretAccessKey,
		"GITLAB_URL="+s.wire.GitLab(t, front.URL),
		"GITLAB_TOKEN_SECRET=gitlab/"+s.user,
		"EVENT_BUS=default",
		"RUN_TIMEOUT="+runTimeout.String(),
		"LOG_LEVEL=debug",
	)
	s.wire.AfterEach(s.pairWorks)
	t.Cleanup(s.callsHoldNoSecret)
}

// shortened are the waits of a test.
func shortened() []string {
	return []string{
		"PROBE_DELAY=10ms", "PROBE_INTERVAL=10ms", "PROBE_TIMEOUT=5s",
		"POLL_INTERVAL=20ms",
		"ORPHAN_AGE=" + orphanAge.String(),
	}
}

// deploy is what the project's deploy job does: it uses the pair it was given.
func (s *stage) deploy(ctx context.Context, job sandbox.JobEnv) error {
	if err := s.cloud.authenticates(ctx, job.KeyID, job.Secret); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deployed = append(s.deployed, job.KeyID)
	return nil
}

// placeOf is where the pair of a project is in a scope; "": whatever that is.
func placeOf(id int64, scope string) rotator.Place {
	return rotator.Place{ProjectID: id, EnvironmentScope: scope, KeyIDVariable: "AWS_ACCESS_KEY_ID", SecretVariable: "AWS_SECRET_ACCESS_KEY"}
}

// at are the places of its pair.
func (s *stage) at() []rotator.Place {
	if s.places != nil {
		return s.places
	}
	return []rotator.Place{placeOf(projectID, "")}
}

// pairAt is the pair that jobs get from a place.
func (s *stage) pairAt(p rotator.Place) aws.Credentials {
	if p.File != "" {
		return s.inFile(s.variableAt(p, p.File), p.Profile)
	}
	return aws.Credentials{AccessKeyID: s.variableAt(p, p.KeyIDVariable), SecretAccessKey: s.variableAt(p, p.SecretVariable)}
}

func (s *stage) variableAt(p rotator.Place, name string) string {
	if p.GroupID != 0 {
		v, _ := s.gitlab.GroupVariable(p.GroupID, name, p.EnvironmentScope)
		return v.Value
	}
	v, _ := s.gitlab.Variable(p.ProjectID, name, p.EnvironmentScope)
	return v.Value
}

// pairWorks asserts that a job that starts now gets a pair that works, from each place,
// unless it starts between the two writes of a pair, which GitLab cannot do as one.
func (s *stage) pairWorks(c Call) {
	if !c.changesKeys() {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pairs == nil {
		s.pairs, s.torn = map[rotator.Place]aws.Credentials{}, map[rotator.Place]bool{}
	}
	for _, p := range s.at() {
		was, now := s.pairs[p], s.pairAt(p)
		s.torn[p] = now.AccessKeyID == was.AccessKeyID && (s.torn[p] || now.SecretAccessKey != was.SecretAccessKey)
		s.pairs[p] = now
		if s.torn[p] {
			continue
		}
		err := s.cloud.authenticates(context.Background(), now.AccessKeyID, now.SecretAccessKey)
		if err != nil && !s.spared[p] {
			s.t.Errorf("after %s the pair %s of %s does not work: %v\n%s", c.Line, now.AccessKeyID, p, err, s.trace())
		}
	}
}

// changesKeys tells whether a call may change keys, or what holds them.
func (c Call) changesKeys() bool {
	return c.Write && (strings.HasPrefix(c.Line, "iam ") || strings.HasPrefix(c.Line, "gitlab "))
}

// areActive asserts that what runs has active keys of a user. It asks IAM and does not use
// a key: a use in the very millisecond in which a deployment ends would be one after it,
// for moto tells of uses by the microsecond, and IAM by the second.
func (s *stage) areActive(c Call, user string, running map[string]string) {
	keys, err := s.cloud.keysOf(context.Background(), user)
	if err != nil {
		s.t.Error(err)
		return
	}
	for is, keyID := range running {
		if !slices.ContainsFunc(keys, func(k iamtypes.AccessKeyMetadata) bool {
			return *k.AccessKeyId == keyID && k.Status == iamtypes.StatusTypeActive
		}) {
			s.t.Errorf("after %s what runs as %q has a key that is not active: %s\n%s", c.Line, is, keyList(keys), s.trace())
		}
	}
}

// callsHoldNoSecret asserts that no secret was sent to the journal, to the event bus
// or anywhere else, but to the variables that it is for.
func (s *stage) callsHoldNoSecret() {
	for _, c := range s.wire.Calls() {
		if !s.isForSecret(c) {
			s.holdsNoSecret("the request of "+c.Line, string(c.Request))
		}
	}
}

// isForSecret tells whether a call makes or changes a variable that a secret is for.
func (s *stage) isForSecret(c Call) bool {
	return slices.ContainsFunc(slices.Concat(s.at(), s.others), func(p rotator.Place) bool {
		variables, name := fmt.Sprintf("/projects/%d/variables", p.ProjectID), p.Variables()[0]
		if p.GroupID != 0 {
			variables = fmt.Sprintf("/groups/%d/variables", p.GroupID)
		}
		made := c.Line == "gitlab POST "+variables && strings.Contains(string(c.Request), fmt.Sprintf(`"key":%q`, name))
		return made || c.Line == "gitlab PUT "+variables+"/"+name
	})
}

func (s *stage) holdsNoSecret(what, text string) {
	if how := s.wire.Leak(text); how != "" {
		s.t.Errorf("%s holds a secret: %s", what, how)
	}
}

// variable is one of the first place.
func (s *stage) variable(name string) string { return s.variableAt(s.at()[0], name) }

// published is the key id that jobs get, from the first place.
func (s *stage) published() string { return s.pairAt(s.at()[0]).AccessKeyID }

// lastDeployed is the key id that the last deploy job worked with.
func (s *stage) lastDeployed() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.deployed) == 0 {
		return ""
	}
	return s.deployed[len(s.deployed)-1]
}

func (s *stage) keys() []iamtypes.AccessKeyMetadata {
	s.t.Helper()
	keys, err := s.cloud.keysOf(s.t.Context(), s.user)
	if err != nil {
		s.t.Fatal(err)
	}
	return keys
}

// isRotatedFrom asserts that one key is left, a new one that works, and that it is
// the one published and deployed.
func (s *stage) isRotatedFrom(old string) {
	s.t.Helper()
	now := s.published()
	if keys := s.keys(); len(keys) != 1 || keys[0].Status != iamtypes.StatusTypeActive || *keys[0].AccessKeyId != now || now == old {
		s.t.Errorf("%s was rotated to %s, and the keys are %s", old, now, keyList(keys))
	}
	for _, p := range s.at() {
		pair := s.pairAt(p)
		if err := s.cloud.authenticates(s.t.Context(), pair.AccessKeyID, pair.SecretAccessKey); err != nil || pair.AccessKeyID != now {
			s.t.Errorf("%s holds %s, which is to be %s, and works (%v)", p, pair.AccessKeyID, now, err)
		}
	}
	if got := s.lastDeployed(); got != now {
		s.t.Errorf("deployed is %s, published %s", got, now)
	}
	if s.also != nil {
		s.also()
	}
	if s.t.Failed() {
		s.t.Log(s.trace())
	}
}

func keyList(keys []iamtypes.AccessKeyMetadata) string {
	var words []string
	for _, k := range keys {
		words = append(words, *k.AccessKeyId+" "+string(k.Status))
	}
	return strings.Join(words, ", ")
}

// trace is every call so far.
func (s *stage) trace() string {
	var b strings.Builder
	for _, c := range s.wire.Calls() {
		fmt.Fprintf(&b, "  %d %s\n", c.Status, c.Line)
	}
	return "calls:\n" + b.String()
}

// event is a request for the stage's service.
func (s *stage) event(force bool) []byte {
	return fmt.Appendf(nil, `{"user":%q,%s,"force":%t}`, s.user, s.asks, force)
}

// answer is what a run gave.
type answer struct {
	rotator.Result
	killed bool   // it gave nothing
	raw    string // what it gave, as it came
}

// target is one way to run the program.
type target interface {
	// run hands over an event and waits for the end of it.
	run(t *testing.T, event []byte) answer
	// kill ends the program at once, and returns when it is gone.
	kill()
}

// command is the program as a person or a job runs it, with a journal in a file.
type command struct {
	path string
	env  []string

	mu      sync.Mutex
	process *os.Process
	gone    chan struct{}
	output  bytes.Buffer // of all runs
}

func newCommand(t *testing.T, s *stage) *command {
	t.Helper()
	journal := filepath.Join(t.TempDir(), "journal.db")
	c := &command{path: program(t), env: append(slices.Clone(s.env), "JOURNAL=file://"+journal)}
	t.Cleanup(func() {
		content, err := os.ReadFile(journal)
		if err != nil {
			t.Errorf("reading the journal: %v", err)
		}
		s.holdsNoSecret("the journal", string(content))
		s.holdsNoSecret("the output", c.output.String())
	})
	return c
}

func (c *command) run(t *testing.T, event []byte) answer {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), c.path, "handle")
	cmd.Env, cmd.Stdin, cmd.WaitDelay = c.env, bytes.NewReader(event), time.Second
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Start(); err != nil {
		t.Fatalf("starting the program: %v", err)
	}
	gone := make(chan struct{})
	c.mu.Lock()
	c.process, c.gone = cmd.Process, gone
	c.mu.Unlock()
	err := cmd.Wait()
	close(gone)
	c.output.Write(stdout.Bytes())
	c.output.Write(stderr.Bytes())
	a := answer{raw: stdout.String() + stderr.String()}
	if exit := new(exec.ExitError); errors.As(err, &exit) && !exit.Exited() {
		a.killed = true
		return a
	}
	if err := json.Unmarshal(stdout.Bytes(), &a.Result); err != nil {
		t.Fatalf("the answer is not one JSON object: %v\n%s", err, a.raw)
	}
	codes := map[rotator.Status]int{"rotated": 0, "not_due": 0, "waiting": 3, "busy": 3, "held": 3, "refused": 1, "failed": 1}
	if want, known := codes[a.Status]; !known || want != cmd.ProcessState.ExitCode() {
		t.Errorf("exit code %d with status %s", cmd.ProcessState.ExitCode(), a.Status)
	}
	return a
}

func (c *command) kill() {
	c.mu.Lock()
	process, gone := c.process, c.gone
	c.mu.Unlock()
	_ = process.Kill() // it may just have ended
	<-gone
}

// function is the program as Lambda runs it, with a journal in DynamoDB.
type function struct {
	*lambda.Function
	stage *stage
}

func newFunction(t *testing.T, s *stage) function {
	t.Helper()
	f := lambda.Start(t, lambda.Options{
		Bootstrap: program(t),
		Env:       append(slices.Clone(s.env), "JOURNAL=dynamodb://"+table),
		Timeout:   runTimeout,
	})
	t.Cleanup(func() { s.holdsNoSecret("the output", f.Output()) })
	return function{f, s}
}

func (f function) run(t *testing.T, event []byte) answer {
	t.Helper()
	r, err := f.Invoke(t.Context(), event)
	if err != nil {
		t.Errorf("invoking the function: %v", err)
		return answer{}
	}
	a := answer{raw: string(r.Payload)}
	f.stage.holdsNoSecret("the answer", a.raw)
	if r.FunctionError == "" {
		if err := json.Unmarshal(r.Payload, &a.Result); err != nil {
			t.Errorf("the answer is not a result: %v\n%s", err, r.Payload)
		}
		return a
	}
	var e struct {
		Type   string `json:"errorType"`
		Reason string `json:"errorMessage"`
	}
	if err := json.Unmarshal(r.Payload, &e); err != nil {
		t.Errorf("the error is not one: %v\n%s", err, r.Payload)
	}
	a.killed = e.Type == "Runtime.ExitError"
	a.Status = map[string]rotator.Status{"RefusedError": rotator.StatusRefused, "FailedError": rotator.StatusFailed}[e.Type]
	a.Reason = e.Reason
	if a.Status == "" && !a.killed {
		t.Errorf("the function fails with %s", r.Payload)
	}
	return a
}

func (f function) kill() { f.Kill() }

// converge runs the program, as ticks would, until the rotation is done.
func (s *stage) converge(p target) {
	s.t.Helper()
	const tries = 40 // of 0.2 s: four times what an orphan needs to be old enough
	var told []string
	for range tries {
		a := p.run(s.t, s.event(s.published() == s.first))
		told = append(told, fmt.Sprintf("%s: %s", a.Status, a.Reason))
		switch a.Status {
		case rotator.StatusRotated, rotator.StatusNotDue:
			if s.published() != s.first {
				return
			}
		case rotator.StatusHeld, rotator.StatusRefused:
			s.t.Fatalf("it does not go on by itself:\n%s\n%s", strings.Join(told, "\n"), s.trace())
		}
		time.Sleep(orphanAge / 10)
	}
	s.t.Fatalf("no end after %d runs:\n%s\n%s", tries, strings.Join(told, "\n"), s.trace())
}
