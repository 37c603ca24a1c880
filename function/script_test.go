package main

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"credential-rotator/rotator"
	"credential-rotator/test/sandbox"
)

// update rewrites the expectations in the scripts: UPDATE_SCRIPTS=1 go test ./function
var update = os.Getenv("UPDATE_SCRIPTS") != ""

// TestScripts runs testdata/script/*.txtar, each with a world of its own that the
// real program talks to. $KEY is the key that is published in the beginning.
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:                filepath.Join("testdata", "script"),
		Setup:              setUp,
		Cmds:               commands(),
		UpdateScripts:      update,
		RequireUniqueNames: true,
	})
}

func TestEveryScriptEndsByLookingForBrokenPromisesAndSecrets(t *testing.T) {
	t.Parallel()
	scripts, err := filepath.Glob(filepath.Join("testdata", "script", "*.txtar"))
	if err != nil || len(scripts) == 0 {
		t.Fatal("there are no scripts", err)
	}
	for _, path := range scripts {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		script, _, _ := strings.Cut("\n"+string(data), "\n-- ")
		if !strings.HasSuffix(strings.TrimSpace(script), "\nworld-clean") {
			t.Errorf("%s does not end with world-clean", path)
		}
		if strings.Contains(script, "\nexec credential-rotator") || strings.Contains(script, "\n! exec") {
			t.Errorf("%s runs the program in a way that does not look at its exit code: use exits CODE credential-rotator …", path)
		}
	}
}

type stageKey struct{}

func setUp(e *testscript.Env) error {
	s, err := newStage(e.WorkDir)
	if err != nil {
		return err
	}
	e.Defer(s.close)
	e.Values[stageKey{}] = s
	for _, assignment := range s.environ() {
		name, value, _ := strings.Cut(assignment, "=")
		e.Setenv(name, value)
	}
	e.Setenv("KEY", s.key)
	return nil
}

// command is one of the scripts' own. Its error fails the script.
type command func(ts *testscript.TestScript, s *stage, args []string) error

func commands() map[string]func(*testscript.TestScript, bool, []string) {
	all := map[string]func(*testscript.TestScript, bool, []string){}
	for name, do := range map[string]command{
		// Looking.
		"exits":           exits,
		"normal":          showNormal,
		"json":            showJSON,
		"world-clean":     worldClean,
		"no-requests":     noRequests,
		"nothing-written": nothingWritten,
		"calls":           countCalls,
		"keys":            haveKeys,
		"published":       isPublished,
		"stamped":         isStamped,
		// What happens in the world.
		"scene":          beginScene,
		"key":            changeKey,
		"make-key":       makeKey,
		"use-key":        useKey,
		"allow-retire":   allowRetire,
		"variable":       changeVariable,
		"no-variable":    dropVariable,
		"next-pipelines": nextPipelines,
		"play":           playJob,
		"running-job":    runningJob,
		"deployed":       deployed,
		"end-job":        endJob,
		"token":          changeToken,
		"token-kept":     keepToken,
		"user":           changeUser,
		"bind":           bindUser,
		"project":        changeProject,
		"meets":          meetFate,
		"all-is-well":    allIsWell,
		"web-page":       webPage,
		"pass":           passTime,
		"fill":           fillFile,
		"self-hosted":    selfHosted,
	} {
		all[name] = func(ts *testscript.TestScript, neg bool, args []string) {
			if neg {
				ts.Fatalf("%s does not take !", name)
			}
			s, ok := ts.Value(stageKey{}).(*stage)
			if !ok {
				ts.Fatalf("there is no stage")
			}
			if err := do(ts, s, args); err != nil {
				ts.Fatalf("%s: %v", name, err)
			}
		}
	}
	return all
}

// exits CODE PROGRAM ARG...: runs it, and wants exactly that exit code.
func exits(ts *testscript.TestScript, s *stage, args []string) error {
	want, err := strconv.Atoi(arg(args, 0))
	if err != nil || len(args) < 2 {
		return errors.New("it takes a code, a program and its arguments")
	}
	err = ts.Exec(args[1], args[2:]...)
	s.hear(ts.ReadFile("stdout"), ts.ReadFile("stderr"))
	code := 0
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		code, err = exit.ExitCode(), nil
	}
	if err == nil && code != want {
		err = fmt.Errorf("exit code %d, want %d", code, want)
	}
	return err
}

// normal FILE: puts the file's text without what differs each time on stdout, for cmp.
func showNormal(ts *testscript.TestScript, _ *stage, args []string) error {
	_, err := fmt.Fprint(ts.Stdout(), normal(ts.ReadFile(arg(args, 0))))
	return err
}

// json FILE: like normal, of a file that must be one line of JSON.
func showJSON(ts *testscript.TestScript, _ *stage, args []string) error {
	line := ts.ReadFile(arg(args, 0))
	if strings.Count(line, "\n") != 1 || !strings.HasSuffix(line, "\n") {
		return fmt.Errorf("not one line: %q", line)
	}
	text, err := indented(normal(line))
	// That an empty list is a list is what the script json_lists is about.
	text = regexp.MustCompile(`("(warnings|steps)": )null`).ReplaceAllString(text, "${1}[]")
	if err == nil {
		_, err = fmt.Fprint(ts.Stdout(), text)
	}
	return err
}

// world-clean: no promise was broken, and no secret was shown.
func worldClean(_ *testscript.TestScript, s *stage, _ []string) error {
	if faults := s.faults(); len(faults) > 0 {
		return errors.New(strings.Join(faults, "\n"))
	}
	return nil
}

// no-requests: nothing was sent to AWS or GitLab, ever.
func noRequests(_ *testscript.TestScript, s *stage, _ []string) error {
	if n := s.requests.Load(); n > 0 {
		return fmt.Errorf("%d requests were sent", n)
	}
	return nil
}

// nothing-written: there was no write to AWS or GitLab, not even one that failed.
func nothingWritten(_ *testscript.TestScript, s *stage, _ []string) error {
	if names := s.writes(); len(names) > 0 {
		return fmt.Errorf("these were: %s", strings.Join(names, ", "))
	}
	return nil
}

// calls N NAME: that many calls had a name that contains this.
func countCalls(_ *testscript.TestScript, s *stage, args []string) error {
	want, err := strconv.Atoi(arg(args, 0))
	n := 0
	for _, c := range s.Calls() {
		if strings.Contains(c.Name, arg(args, 1)) {
			n++
		}
	}
	if err == nil && n != want {
		err = fmt.Errorf("%d calls of %s, want %d", n, args[1], want)
	}
	return err
}

// keys STATUS...: the user has keys of exactly these statuses, oldest first.
func haveKeys(_ *testscript.TestScript, s *stage, args []string) error {
	var have []string
	for _, k := range s.Keys(s.Service.User) {
		have = append(have, string(k.Status))
	}
	if !slices.Equal(have, args) {
		return fmt.Errorf("the keys are %q, want %q", have, args)
	}
	return nil
}

// published old|new: a job that starts now gets that key, and it works.
func isPublished(ts *testscript.TestScript, s *stage, args []string) error {
	id, state := s.Pair(s.Service)
	if state != sandbox.PairWorks {
		return fmt.Errorf("the published pair %s is %s", id, state)
	}
	switch isOld := id == s.key; {
	case arg(args, 0) == "old" && !isOld, args[0] == "new" && isOld:
		return fmt.Errorf("published is %s, and the key of the beginning was %s", id, s.key)
	}
	ts.Setenv("PUBLISHED", id)
	return nil
}

// stamped VARIABLE TEXT: the variable's description is the text and a stamp of the published key.
func isStamped(_ *testscript.TestScript, s *stage, args []string) error {
	v, ok := s.Variable(4711, arg(args, 0), "*")
	id, _ := s.Pair(s.Service)
	if want := arg(args, 1) + " [credential-rotator: " + id + " "; !ok || !strings.HasPrefix(v.Description, want) {
		return fmt.Errorf("the description is %q, which does not begin with %q", v.Description, want)
	}
	return nil
}

// scene NAME: one of scenes.
func beginScene(ts *testscript.TestScript, s *stage, args []string) error {
	err := s.begin(arg(args, 0))
	ts.Setenv("KEY", s.key)
	return err
}

// key ID Active|Inactive|deleted
func changeKey(_ *testscript.TestScript, s *stage, args []string) error {
	if arg(args, 1) == "deleted" {
		s.DeleteKey(args[0])
		return nil
	}
	s.SetKeyStatus(args[0], rotator.KeyStatus(args[1]))
	return nil
}

// make-key NAME AGE: a person makes a key of some age; $NAME is its id.
func makeKey(ts *testscript.TestScript, s *stage, args []string) error {
	age, err := time.ParseDuration(arg(args, 1))
	ts.Setenv(args[0], s.CreateKey(s.Service.User, age).ID)
	return err
}

// use-key ID SERVICE REGION
func useKey(_ *testscript.TestScript, s *stage, args []string) error {
	s.UseKey(arg(args, 0), arg(args, 1), arg(args, 2))
	return nil
}

// allow-retire ID: from now on it is right to retire that key.
func allowRetire(_ *testscript.TestScript, s *stage, args []string) error {
	s.AllowRetire(arg(args, 0))
	return nil
}

// variable KEY FIELD=VALUE...: makes or changes a variable, in scope=* unless told.
func changeVariable(_ *testscript.TestScript, s *stage, args []string) error {
	scope := "*"
	var value *string
	edits := []func(*sandbox.Variable){}
	for _, a := range args[1:] {
		name, text, _ := strings.Cut(a, "=")
		on := text == "true"
		switch name {
		case "scope":
			scope = text
		case "value":
			value = &text
			edits = append(edits, func(v *sandbox.Variable) { v.Value = text })
		case "text":
			edits = append(edits, func(v *sandbox.Variable) { v.Description = text })
		case "masked":
			edits = append(edits, func(v *sandbox.Variable) { v.Masked = on })
		case "hidden":
			edits = append(edits, func(v *sandbox.Variable) { v.Hidden = on })
		case "protected":
			edits = append(edits, func(v *sandbox.Variable) { v.Protected = on })
		default:
			return fmt.Errorf("unknown %s", name)
		}
	}
	if _, ok := s.Variable(4711, args[0], scope); !ok && value != nil {
		s.SetVariable(4711, sandbox.Variable{Key: args[0], Value: *value, EnvironmentScope: scope})
	}
	s.EditVariable(4711, args[0], scope, func(v *sandbox.Variable) {
		for _, edit := range edits {
			edit(v)
		}
	})
	return nil
}

// no-variable KEY
func dropVariable(_ *testscript.TestScript, s *stage, args []string) error {
	s.DeleteVariable(4711, arg(args, 0), "*")
	return nil
}

// next-pipelines OUTCOME...
func nextPipelines(_ *testscript.TestScript, s *stage, args []string) error {
	for _, outcome := range args {
		s.QueueOutcomes(4711, sandbox.Outcome(outcome))
	}
	return nil
}

// play: starts the job that waits for somebody.
func playJob(_ *testscript.TestScript, s *stage, _ []string) error {
	for _, p := range s.Pipelines(4711) {
		for _, j := range p.Jobs {
			if j.Status == "manual" {
				s.PlayJob(j.ID)
				return nil
			}
		}
	}
	return errors.New("no job waits")
}

// running-job AGO: a deploy that began so long ago with the variables of now. $JOB
// is its id.
func runningJob(ts *testscript.TestScript, s *stage, args []string) error {
	ago, err := time.ParseDuration(arg(args, 0))
	spec := sandbox.JobSpec{Name: "migrate", KeyIDVariable: "AWS_ACCESS_KEY_ID", SecretVariable: "AWS_SECRET_ACCESS_KEY"}
	ts.Setenv("JOB", fmt.Sprint(s.RunningJob(4711, spec, ago)))
	return err
}

// deployed AGO [archived]: what is live in production.
func deployed(ts *testscript.TestScript, s *stage, args []string) error {
	ago, err := time.ParseDuration(arg(args, 0))
	past := sandbox.Past{Job: sandbox.JobSpec{Name: "deploy", Environment: "production"}, Ago: ago, Archived: arg(args, 1) == "archived"}
	ts.Setenv("JOB", fmt.Sprint(s.Deployed(4711, past)))
	return err
}

// end-job ID
func endJob(_ *testscript.TestScript, s *stage, args []string) error {
	id, err := strconv.ParseInt(arg(args, 0), 10, 64)
	s.EndJob(id, nil)
	return err
}

// token revoked | outside | scope NAME | role NUMBER | expires DAYS
func changeToken(_ *testscript.TestScript, s *stage, args []string) error {
	var err error
	s.EditToken("rotator", func(t *sandbox.Token) {
		number, wrong := strconv.Atoi(arg(args, 1))
		switch args[0] {
		case "revoked":
			t.Revoked = true
		case "outside": // of the project: GitLab says the same when there is none
			t.Roles = nil
		case "scope":
			t.Scopes = []string{args[1]}
		case "role":
			t.Roles[4711], err = number, wrong
		case "expires":
			t.Expires, err = time.Now().AddDate(0, 0, number), wrong
		default:
			err = fmt.Errorf("unknown %s", args[0])
		}
	})
	return err
}

// token-kept secret|json|parameter [managed]: the token is kept there, and not in the
// environment.
func keepToken(ts *testscript.TestScript, s *stage, args []string) error {
	text := s.Token
	where := "GITLAB_TOKEN_SECRET=gitlab/token"
	switch arg(args, 0) {
	case "json":
		text = `{"token":"` + text + `","by":"hand"}`
	case "parameter":
		where = "GITLAB_TOKEN_PARAMETER=/gitlab/token"
	}
	v := s.keepToken(text, where)
	if arg(args, 1) == "managed" {
		v.manage(map[string]any{"Type": "GitLabAccessToken"})
	}
	for _, assignment := range s.more {
		name, value, _ := strings.Cut(assignment, "=")
		ts.Setenv(name, value)
	}
	return nil
}

// user deleted | made-again | quarantined
func changeUser(_ *testscript.TestScript, s *stage, args []string) error {
	switch arg(args, 0) {
	case "deleted":
		s.DeleteUser(s.Service.User)
	case "made-again":
		s.RecreateUser(s.Service.User)
	case "quarantined":
		s.AttachPolicy(s.Service.User, "AWSCompromisedKeyQuarantineV3")
	default:
		return errors.New("unknown")
	}
	return nil
}

// bind 'ID ID': what the user's tag says.
func bindUser(_ *testscript.TestScript, s *stage, args []string) error {
	s.TagUser(s.Service.User, sandbox.BindingTag, arg(args, 0))
	return nil
}

// project archived
func changeProject(_ *testscript.TestScript, s *stage, _ []string) error {
	s.EditProject(4711, func(p *sandbox.Project) { p.Archived = true })
	return nil
}

// meets FATE NAME [TIMES]: what becomes of requests whose name contains this.
func meetFate(_ *testscript.TestScript, s *stage, args []string) error {
	fate, ok := map[string]sandbox.Fate{
		"refused": sandbox.Refused, "lost": sandbox.Lost, "crash": sandbox.CrashBefore, "401": sandbox.Unauthorized,
		"502": sandbox.BadGateway, "web-page": sandbox.WebPage,
	}[arg(args, 0)]
	if !ok {
		return fmt.Errorf("unknown fate %s", arg(args, 0))
	}
	times, err := strconv.Atoi(arg(args, 2))
	if arg(args, 2) == "" {
		times, err = -1, nil
	}
	s.meets(fate, arg(args, 1), times)
	return err
}

// all-is-well: requests meet no fate any more.
func allIsWell(_ *testscript.TestScript, s *stage, _ []string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fates = nil
	return nil
}

// web-page: $WEB is a server that answers everything with a page to sign in.
func webPage(ts *testscript.TestScript, _ *stage, _ []string) error {
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Type", "text/html")
		_, _ = fmt.Fprint(rw, "<!DOCTYPE html><html><body>Sign in</body></html>")
	}))
	ts.Defer(server.Close)
	ts.Setenv("WEB", server.URL)
	return nil
}

// pass DURATION: time passes.
func passTime(_ *testscript.TestScript, _ *stage, args []string) error {
	d, err := time.ParseDuration(arg(args, 0))
	time.Sleep(d)
	return err
}

// fill FILE BYTES TEXT: a file of that size, in which the text is repeated.
func fillFile(ts *testscript.TestScript, _ *stage, args []string) error {
	size, err := strconv.Atoi(arg(args, 1))
	if err != nil {
		return err
	}
	text := strings.Repeat(arg(args, 2), size/len(arg(args, 2))+1)[:size]
	return os.WriteFile(ts.MkAbs(args[0]), []byte(text), 0o600)
}

func arg(args []string, i int) string {
	if i < len(args) {
		return args[i]
	}
	return ""
}
