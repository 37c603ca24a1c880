package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"

	"credential-rotator/test/lambda"
	"credential-rotator/test/moto"
	"credential-rotator/test/sandbox"
)

// idToken is what GitLab would give a job on a ref of the project, signature aside.
func idToken(ref string) string { return idTokenOf("https://gitlab.example.com", ref) }

func idTokenOf(gitlab, ref string) string {
	part := base64.RawURLEncoding.EncodeToString
	return part([]byte(`{"alg":"RS256"}`)) + "." + part(fmt.Appendf(nil,
		`{"iss":%q,"aud":%q,"sub":"project_path:shop/billing:ref_type:branch:ref:%s"}`, gitlab, gitlab, ref)) +
		"." + part([]byte("signature"))
}

// trust is a trust policy as a project's role has it.
const trust = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"sts:AssumeRoleWithWebIdentity",
	"Principal":{"Federated":"arn:aws:iam::123456789012:oidc-provider/gitlab.example.com"},
	"Condition":{"StringEquals":{"gitlab.example.com:aud":"https://gitlab.example.com",
		"gitlab.example.com:sub":"project_path:shop/billing:ref_type:branch:ref:main"}}}]}`

// adhoc is a project on GitLab that includes the job, and all that the job meets.
type adhoc struct {
	*stage
	function function
	line     *line
	dir      string // the project
	arn      string // of the alias
	role     string
	jobID    int64
	inputs   string            // further ones, lines of YAML
	wait     int               // in minutes
	pause    int               // in seconds
	settings map[string]string // the project's variables beside the pair
}

// newAdhoc sets up a project whose job runs. Its pipelines take as long as said, and
// its function may run for a time.
func newAdhoc(t *testing.T, c *cloud, user string, pipeline, timeout time.Duration) *adhoc {
	t.Helper()
	s := newStage(t, c, user)
	s.gitlab.EditProject(projectID, func(p *sandbox.Project) { p.Pipeline[0].Duration = pipeline })
	f := lambda.Start(t, lambda.Options{
		Bootstrap: program(t),
		Env:       append(slices.Clone(s.env), "JOURNAL=dynamodb://"+table, "AWS_ENDPOINT_URL="+s.wire.AWS(t, aged(t, c.URL, s.first, 10))),
		Timeout:   timeout,
		Aliases:   []string{alias(user)},
	})
	t.Cleanup(func() { s.holdsNoSecret("the output", f.Output()) })
	a := &adhoc{stage: s, function: function{f, s}, dir: t.TempDir(), arn: aliasARN(user), role: invoker(t, c, user), wait: 4, pause: 1}
	a.line = newLine(t, f.URL())
	// It began with the old key, as every job of its pipeline.
	a.jobID = s.gitlab.RunningJob(projectID, sandbox.JobSpec{Name: "rotate-aws-key"}, time.Minute)
	a.settings = map[string]string{
		"CI_PROJECT_ID":         strconv.Itoa(projectID),
		"CI_JOB_ID":             strconv.FormatInt(a.jobID, 10),
		"GITLAB_OIDC_TOKEN":     idToken("main"),
		"AWS_ACCESS_KEY_ID":     s.first,
		"AWS_SECRET_ACCESS_KEY": s.variable("AWS_SECRET_ACCESS_KEY"),
		// What would come before the role, or is not there.
		"AWS_SESSION_TOKEN":       "of another session",
		"AWS_PROFILE":             "none-of-this-name",
		"AWS_REGION":              "mars-north-1",
		"AWS_ENDPOINT_URL_STS":    s.wire.AWS(t, c.URL),
		"AWS_ENDPOINT_URL_LAMBDA": a.line.url,
	}
	return a
}

// alias is the one that is made for a user, by the contract with the modules.
func alias(user string) string {
	sum := sha256.Sum256([]byte(user))
	return fmt.Sprintf("service-%x", sum[:8])
}

func aliasARN(user string) string { return lambda.ARN + ":" + alias(user) }

// aged is the URL of an AWS at which a key is some days old. moto makes them now.
func aged(t *testing.T, target, keyID string, days int) string {
	t.Helper()
	upstream, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	date := regexp.MustCompile(`(?s)(<AccessKeyId>` + keyID + `</AccessKeyId>.*?<CreateDate>)[^<]*`)
	then := time.Now().AddDate(0, 0, -days).UTC().Format("2006-01-02T15:04:05Z")
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(upstream)
			r.Out.Host = r.In.Host // a signature covers it
		},
		ModifyResponse: func(r *http.Response) error {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				return err
			}
			body = date.ReplaceAll(body, []byte("${1}"+then))
			r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
			r.Header.Set("Content-Length", strconv.Itoa(len(body)))
			return nil
		},
		Transport: transport(),
	}
	server := httptest.NewServer(proxy)
	t.Cleanup(server.Close)
	return server.URL
}

// invoker makes the role that may invoke the function for one user, and returns its ARN.
func invoker(t *testing.T, c *cloud, user string) string {
	t.Helper()
	client := iam.NewFromConfig(c.Admin())
	out, err := client.CreateRole(t.Context(), &iam.CreateRoleInput{
		RoleName: aws.String("invoke-" + user), AssumeRolePolicyDocument: aws.String(trust),
	})
	if err != nil {
		t.Fatalf("making the role for %s: %v", user, err)
	}
	if _, err := client.PutRolePolicy(t.Context(), &iam.PutRolePolicyInput{
		RoleName: out.Role.RoleName, PolicyName: aws.String("invoke"),
		PolicyDocument: aws.String(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"lambda:InvokeFunction","Resource":"` + aliasARN(user) + `"}]}`),
	}); err != nil {
		t.Fatalf("permitting the role for %s: %v", user, err)
	}
	return *out.Role.Arn
}

// told is how a job ended.
type told struct {
	log  string
	code int
}

var (
	ended   = regexp.MustCompile(`(?m)^rotate-aws-key finished in .*?(?:WARN (\d+))?\s*$`)
	colours = regexp.MustCompile(`\x1b\[[0-9;]*m`)
)

// press runs the job as a person's click does.
func (a *adhoc) press() told {
	a.t.Helper()
	a.writeProject()
	args := []string{"--home", a.dir + "-home", "--force-shell-executor", "--ignore-predefined-vars", "CI_PROJECT_ID,CI_JOB_ID"}
	for name, value := range a.settings {
		args = append(args, "--variable", name+"="+value)
	}
	out := ciLocal(a.t, a.dir, append(args, "rotate-aws-key")...)
	a.holdsNoSecret("the job's log", out)
	if token := a.settings["GITLAB_OIDC_TOKEN"]; token != "" && strings.Contains(out, token) {
		a.t.Errorf("the job's log holds the ID token:\n%s", out)
	}
	end := ended.FindStringSubmatch(out)
	if end == nil {
		a.t.Fatalf("the job did not run to its end:\n%s", out)
	}
	code, _ := strconv.Atoi(end[1]) // none is 0
	log := said("rotate-aws-key", out)
	a.t.Logf("%s", log)
	return told{log, code}
}

// said is what a job printed.
func said(job, out string) string {
	var b strings.Builder
	for line := range strings.Lines(out) {
		if text, ok := strings.CutPrefix(line, job+" > "); ok {
			b.WriteString(text)
		}
	}
	return b.String()
}

// writeProject makes the repository of a project that includes the job.
func (a *adhoc) writeProject() {
	a.t.Helper()
	template, err := os.ReadFile(filepath.Join("..", "..", "scripts", "rotate.gitlab-ci.yml"))
	if err != nil {
		a.t.Fatal(err)
	}
	own := fmt.Sprintf(`include:
  - local: rotate.gitlab-ci.yml
    inputs:
      user: %s
      function: %s
      role_arn: %s
      environment: production
      wait_minutes: %d
      pause_seconds: %d
%s
# What a project may have of its own, and what would begin a second rotation.
default:
  retry: 2
  before_script: ["false"]
deploy:
  stage: deploy
  script: echo deploying
`, a.user, a.arn, a.role, a.wait, a.pause, a.inputs)
	for name, content := range map[string]string{"rotate.gitlab-ci.yml": string(template), ".gitlab-ci.yml": own} {
		if err := os.WriteFile(filepath.Join(a.dir, name), []byte(content), 0o600); err != nil {
			a.t.Fatal(err)
		}
	}
	for _, args := range [][]string{
		{"init", "-q", "-b", "main"},
		{"remote", "add", "origin", "https://gitlab.example.com/shop/billing.git"},
		{"add", "."},
		{"-c", "user.name=a", "-c", "user.email=a@example.com", "commit", "-q", "-m", "deploy"},
	} {
		cmd := exec.CommandContext(a.t.Context(), "git", args...)
		cmd.Dir = a.dir
		if out, err := cmd.CombinedOutput(); err != nil {
			a.t.Fatalf("git %s: %v\n%s", args[0], err, out)
		}
	}
}

// ciLocal runs gitlab-ci-local in a project, and returns all that it printed.
func ciLocal(t *testing.T, dir string, args ...string) string {
	t.Helper()
	out, err := localCI(t.Context(), dir, args...)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return out
}

func requireAdhoc(t *testing.T) {
	t.Helper()
	for _, tool := range []string{"moto_server", "gitlab-ci-local", "rsync", "aws", "jq", "git"} {
		moto.Require(t, tool)
	}
}

// line is the network between the job and Lambda.
type line struct {
	url string

	mu     sync.Mutex
	events []map[string]any
	ids    []string // the access keys that signed
	// before and after are told the number of an invocation, the first being 1, and
	// tell whether the connection breaks there. after comes when the function is done.
	before, after func(n int) bool
}

func newLine(t *testing.T, target string) *line {
	t.Helper()
	l := &line{}
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { l.serve(t, rw, r, target) }))
	t.Cleanup(server.Close)
	l.url = server.URL
	return l
}

func (l *line) serve(t *testing.T, rw http.ResponseWriter, r *http.Request, target string) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	var event map[string]any
	if err := json.Unmarshal(body, &event); err != nil {
		t.Errorf("the job sent %s: %v", body, err)
	}
	_, signer, _ := strings.Cut(r.Header.Get("Authorization"), "Credential=")
	signer, _, _ = strings.Cut(signer, "/")
	l.mu.Lock()
	l.events, l.ids = append(l.events, event), append(l.ids, signer)
	n, before, after := len(l.events), l.before, l.after
	l.mu.Unlock()
	if before != nil && before(n) {
		panic(http.ErrAbortHandler)
	}
	out, err := http.NewRequestWithContext(r.Context(), r.Method, target+r.URL.EscapedPath(), bytes.NewReader(body))
	if err != nil {
		panic(err)
	}
	out.Header = r.Header.Clone()
	got, err := http.DefaultClient.Do(out)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	defer got.Body.Close()
	answer, err := io.ReadAll(got.Body)
	if err != nil || after != nil && after(n) {
		panic(http.ErrAbortHandler)
	}
	for name, values := range got.Header {
		rw.Header()[name] = values
	}
	rw.WriteHeader(got.StatusCode)
	_, _ = rw.Write(answer)
}

// forced tells of each invocation whether it was sent with force.
func (l *line) forced() []bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []bool
	for _, e := range l.events {
		all = append(all, e["force"] == true)
	}
	return all
}

// ends asserts how the job ended, and that its log has some words, in this order.
func (a *adhoc) ends(got told, code int, words ...string) {
	a.t.Helper()
	rest := got.log
	for _, w := range words {
		_, after, found := strings.Cut(rest, w)
		if !found {
			a.t.Errorf("the log lacks %q, or has it in another place:\n%s", w, got.log)
			break
		}
		rest = after
	}
	if got.code != code {
		a.t.Errorf("the job ended with %d, want %d:\n%s", got.code, code, got.log)
	}
}

// forcedOnce asserts that of some invocations the first one was forced, and no other.
func (a *adhoc) forcedOnce(atLeast int) {
	a.t.Helper()
	forced := a.line.forced()
	if len(forced) < atLeast || !forced[0] || slices.Contains(forced[1:], true) {
		a.t.Errorf("invoked with force %v, want at least %d and only the first", forced, atLeast)
	}
	if made := a.madeKeys(); len(made) > 1 {
		a.t.Errorf("it began %d rotations", len(made))
	}
}

func TestACIJobRotatesTheKeyWithoutAStoredOne(t *testing.T) {
	t.Parallel()
	requireAdhoc(t)
	a := newAdhoc(t, newCloud(t), "svc-billing", 0, runTimeout)
	a.inputs = `      request: '{"soak_hours":0,"user":"svc-other","force":false}'`
	got := a.press()
	a.ends(got, 0,
		"✓ create a key ", "✓ publish secret ", "✓ deployment ", "✓ delete old ",
		"rotated: key "+a.first+" was 10 days old, and it was forced\n",
		"  user         svc-billing, project 4711\n",
		"  published    "+a.published()+"\n",
		"  previous     "+a.first+", deleted\n",
		"  deployment   pipeline ", ", success, http",
		"  next due     ")
	a.isRotatedFrom(a.first)
	a.forcedOnce(1)
	if t.Failed() {
		return
	}
	want := map[string]any{
		"user": "svc-billing", "project_id": 4711.0, "environment": "production", "soak_hours": 0.0,
		"force": true, "caller_job_id": float64(a.jobID),
	}
	if event := a.line.events[0]; fmt.Sprint(event) != fmt.Sprint(want) {
		t.Errorf("it sent %v, want %v", event, want)
	}
	if id := a.line.ids[0]; !strings.HasPrefix(id, "ASIA") {
		t.Errorf("it signed with %s, want the key of a session", id)
	}
}

func TestACIJobWaitsForARotationThatTakesManyInvocations(t *testing.T) {
	t.Parallel()
	requireAdhoc(t)
	for name, c := range map[string]struct {
		user     string
		followUp int // before this invocation of the job's, until nothing is in flight
		words    []string
	}{
		"itself":                    {"svc-a", 0, []string{"… waiting: ", "rotated: ", ", deleted"}},
		"while a follow-up goes on": {"svc-b", 2, []string{"… waiting: ", "rotated meanwhile"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newAdhoc(t, newCloud(t), c.user, 7*time.Second, 3*time.Second)
			a.line.before = func(n int) bool {
				for range 10 {
					if n != c.followUp {
						return false
					}
					r, err := a.function.Invoke(t.Context(), []byte(`{"action":"follow_up"}`))
					if err != nil || r.FunctionError != "" || strings.Contains(string(r.Payload), `"results":[]`) {
						if err != nil || r.FunctionError != "" {
							t.Errorf("the follow-up: %v %s", err, r.Payload)
						}
						return false
					}
				}
				t.Error("the follow-ups did not end it")
				return false
			}
			a.ends(a.press(), 0, c.words...)
			a.isRotatedFrom(a.first)
			a.forcedOnce(2)
		})
	}
}

func TestACIJobFailsWhenTheRotationDoes(t *testing.T) {
	t.Parallel()
	requireAdhoc(t)
	cloud := newCloud(t)
	for name, c := range map[string]struct {
		user  string
		given func(a *adhoc)
		code  int
		words []string
	}{
		"the user is not bound to this project": {
			"svc-unbound", func(a *adhoc) { a.settings["CI_PROJECT_ID"] = "4712" },
			1,
			[]string{"refused: ", "credential-rotator:project-ids"},
		},
		"the redeploy fails": {
			"svc-red", func(a *adhoc) { a.gitlab.QueueOutcomes(projectID, sandbox.Failed) },
			1,
			[]string{"failed: ", "both keys work"},
		},
		"a person must look": {
			"svc-two", func(a *adhoc) { a.addKey() },
			3,
			[]string{"held: ", "is active, not ours", "  user         svc-two, project 4711\n"},
		},
		"the role is not for this branch": {
			"svc-branch", func(a *adhoc) { a.settings["GITLAB_OIDC_TOKEN"] = idToken("feature") },
			1,
			[]string{"AWS does not give this job the role arn:aws:iam::123456789012:role/invoke-svc-branch: An error occurred (AccessDenied)"},
		},
		"the function is not there": {
			"svc-none", func(a *adhoc) { a.settings["AWS_ENDPOINT_URL_LAMBDA"] += "/nowhere" },
			1,
			[]string{"the function could not be invoked: An error occurred ("},
		},
		"nothing is there": {
			"svc-nobody", func(a *adhoc) { a.settings["AWS_ENDPOINT_URL_LAMBDA"] = "http://127.0.0.1:1" },
			1,
			[]string{"the function could not be invoked: Could not connect"},
		},
		"the request is no object": {
			"svc-list", func(a *adhoc) { a.inputs = `      request: '[1]'` },
			2,
			[]string{"the input request is no JSON object: [1]"},
		},
		"there is no ID token": {
			"svc-anybody", func(a *adhoc) { delete(a.settings, "GITLAB_OIDC_TOKEN") },
			2,
			[]string{"this job has no ID token"},
		},
		"the time is over": {
			"svc-slow", func(a *adhoc) {
				a.gitlab.QueueOutcomes(projectID, sandbox.Manual)
				a.wait, a.pause = 1, 60 // longer than what is left
			},
			3,
			[]string{"… waiting: ", "the rotation is not over after 1 minutes; the function goes on by itself"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newAdhoc(t, cloud, c.user, 0, runTimeout)
			c.given(a)
			a.ends(a.press(), c.code, c.words...)
			if forced := a.line.forced(); len(forced) > 1 {
				t.Errorf("it invoked %d times", len(forced))
			}
		})
	}
}

func TestACIJobIsNotOfferedWhereItWouldBeInTheWay(t *testing.T) {
	t.Parallel()
	for _, tool := range []string{"gitlab-ci-local", "rsync", "git"} {
		moto.Require(t, tool)
	}
	for source, offered := range map[string]bool{"push": true, "web": true, "api": false} {
		t.Run(source, func(t *testing.T) {
			t.Parallel()
			a := &adhoc{stage: &stage{t: t, user: "svc-billing"}, dir: t.TempDir(), arn: aliasARN("svc-billing"), role: "arn:aws:iam::123456789012:role/invoke", wait: 60, pause: 30}
			a.writeProject()
			list := ciLocal(t, a.dir, "--home", a.dir+"-home", "--list-csv", "--ignore-predefined-vars", "CI_PIPELINE_SOURCE", "--variable", "CI_PIPELINE_SOURCE="+source)
			if !strings.Contains(list, "\ndeploy;") || strings.Contains(list, "\nrotate-aws-key;") != offered {
				t.Errorf("want it offered: %v; these are the jobs:\n%s", offered, list)
			}
			if offered && !strings.Contains(list, "\nrotate-aws-key;\"\";.post;manual;true;") {
				t.Errorf("a pipeline would wait for it:\n%s", list)
			}
		})
	}
}

// addKey makes a second key, which is somebody's.
func (a *adhoc) addKey() {
	a.t.Helper()
	if _, err := iam.NewFromConfig(a.cloud.Admin()).CreateAccessKey(a.t.Context(), &iam.CreateAccessKeyInput{UserName: &a.user}); err != nil {
		a.t.Fatalf("making a second key: %v", err)
	}
}

func TestACIJobNeverBeginsASecondRotation(t *testing.T) {
	t.Parallel()
	requireAdhoc(t)
	cloud := newCloud(t)
	first := func(n int) bool { return n == 1 }
	for name, c := range map[string]struct {
		user          string
		before, after func(n int) bool
		rotated       bool
		code          int
		words         []string
	}{
		"the reply is lost": {
			"svc-deaf", nil, first, true,
			0,
			[]string{"… no answer came: ", "asking again, without force", "not due: ", "rotated meanwhile"},
		},
		"the request is lost": {
			"svc-dumb", first, nil, false,
			1,
			[]string{"… no answer came: ", "not due: ", "nothing was rotated: the key in place is older than this job"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newAdhoc(t, cloud, c.user, 0, runTimeout)
			a.line.before, a.line.after = c.before, c.after
			a.ends(a.press(), c.code, c.words...)
			a.forcedOnce(2)
			if c.rotated {
				a.isRotatedFrom(a.first)
			} else if a.published() != a.first {
				t.Errorf("%s was rotated", a.first)
			}
		})
	}
}
