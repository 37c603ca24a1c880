package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"credential-rotator/rotator"
	"credential-rotator/rotator/journal/bolt"
	"credential-rotator/test/sandbox"
)

// TestMain lets the test binary be the program: whoever starts it under the name
// credential-rotator runs main.
func TestMain(m *testing.M) {
	firstPause = 20 * time.Millisecond // how long it is usually is a test of rotator/gitlab
	testscript.Main(m, map[string]func(){"credential-rotator": main})
}

const day = 24 * time.Hour

// stage is a sandbox that listens, a directory for the program's files, and the
// environment that points the program at both.
type stage struct {
	*sandbox.Scene
	server *sandbox.Server
	dir    string
	key    string   // the id of the published key
	more   []string // of the environment; it has precedence
	ends   []func()

	requests atomic.Int64 // that reached either front

	mu    sync.Mutex
	fates []fate
	said  strings.Builder // all that the program wrote
}

// fate is what becomes of the next requests that match.
type fate struct {
	match func(name string) bool
	fate  sandbox.Fate
	left  int // how many; below 0: all
}

func newStage(dir string) (*stage, error) {
	s := &stage{Scene: sandbox.NewScene(sandbox.Options{Seed: 1}), dir: dir}
	s.key = s.Key.ID
	server, err := sandbox.Serve(s.World)
	if err != nil {
		return nil, err
	}
	s.server = server
	s.InterceptHTTP(s.intercept)
	return s, nil
}

// stageFor is a stage that ends with the test.
func stageFor(t *testing.T) *stage {
	t.Helper()
	s, err := newStage(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.close)
	return s
}

// Cleanup puts off what is to be done when the stage ends.
func (s *stage) Cleanup(done func()) { s.ends = append(s.ends, done) }

func (s *stage) close() {
	s.server.Close()
	for _, done := range s.ends {
		done()
	}
}

// keepToken keeps the token in a vault and not in the environment.
func (s *stage) keepToken(text, where string) *vault {
	v, env := newVault(s, text, s.Token)
	s.more = append(append(env, where), "GITLAB_TOKEN=")
	return v
}

// intercept counts every request, and gives it its fate.
func (s *stage) intercept(r *http.Request) sandbox.Fate {
	s.requests.Add(1)
	name := nameOf(r)
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.fates {
		if f := &s.fates[i]; f.left != 0 && f.match(name) {
			f.left--
			return f.fate
		}
	}
	return sandbox.OK
}

// nameOf is what a request asks for: an action of AWS, such as CreateAccessKey, or a
// method and path of GitLab.
func nameOf(r *http.Request) string {
	if strings.HasPrefix(r.URL.Path, "/api/") {
		return r.Method + " " + r.URL.Path
	}
	body, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	form, _ := url.ParseQuery(string(body))
	if action := form.Get("Action"); action != "" {
		return action
	}
	return r.Method + " " + r.URL.Path
}

// meets sets the fate of the next requests whose name contains one.
func (s *stage) meets(f sandbox.Fate, name string, times int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fates = append(s.fates, fate{func(n string) bool { return strings.Contains(n, name) }, f, times})
}

func (s *stage) journal() string { return filepath.Join(s.dir, "journal.db") }

// environ is all that the program sees of the world. The waits are as short as they
// can be.
func (s *stage) environ() []string {
	operator := s.Operator()
	return append([]string{
		"AWS_ENDPOINT_URL=" + s.server.AWSURL,
		"AWS_REGION=us-east-1",
		"AWS_ACCESS_KEY_ID=" + operator.ID,
		"AWS_SECRET_ACCESS_KEY=" + operator.Secret,
		"AWS_EC2_METADATA_DISABLED=true",
		"GITLAB_URL=" + s.server.GitLabURL,
		"GITLAB_TOKEN=" + s.Token,
		"JOURNAL=file://" + s.journal(),
		"PROBE_DELAY=10ms", "PROBE_INTERVAL=10ms", "POLL_INTERVAL=20ms", "ORPHAN_AGE=2s",
		"HOME=" + s.dir,
		"GORACE=atexit_sleep_ms=0",
	}, s.more...)
}

// hear keeps what the program wrote, to look for secrets in it.
func (s *stage) hear(texts ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, text := range texts {
		s.said.WriteString(text + "\n")
	}
}

func (s *stage) heard() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.said.String()
}

// writes are the calls that changed IAM or GitLab, or were to.
func (s *stage) writes() []string {
	var names []string
	for _, c := range s.Calls() {
		if c.Write {
			names = append(names, c.Name)
		}
	}
	return names
}

// faults are all that must never be: a broken promise, and a secret in what the
// program wrote, to a stream or to a file of its directory.
func (s *stage) faults() []string {
	faults := s.Violations()
	for _, name := range s.LeaksIn(s.heard()) {
		faults = append(faults, "the program printed "+name)
	}
	err := filepath.WalkDir(s.dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		for _, name := range s.LeaksIn(string(data)) {
			faults = append(faults, filepath.Base(path)+" holds "+name)
		}
		return err
	})
	if err != nil {
		faults = append(faults, err.Error())
	}
	return faults
}

// run runs the program, for what has to be done before something is shown.
func (s *stage) run(args ...string) error {
	cmd := exec.Command("credential-rotator", args...)
	cmd.Env = append(s.environ(), "PATH="+os.Getenv("PATH"))
	out, err := cmd.CombinedOutput()
	s.hear(string(out))
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return nil // what it ended as is what the scene is about
	}
	return err
}

// What people do.

// publish replaces the published key by one of some age, as if it had always been there.
func (s *stage) publish(age time.Duration) {
	s.DeleteKey(s.key)
	pair := s.CreateKey(s.Service.User, age)
	s.key = pair.ID
	s.EditVariable(4711, "AWS_ACCESS_KEY_ID", "*", func(v *sandbox.Variable) { v.Value = pair.ID })
	s.EditVariable(4711, "AWS_SECRET_ACCESS_KEY", "*", func(v *sandbox.Variable) { v.Value = pair.Secret.Reveal() })
	s.SetLive(4711, "production", pair.ID)
}

// holdLease is another run at work: one whose host nobody can ask.
func (s *stage) holdLease() error {
	_, err := bolt.New(s.journal()).Save(context.Background(), rotator.Record{
		User: s.Service.User, Phase: rotator.PhaseIdle,
		Lease: rotator.Lease{Owner: "elsewhere/1/1/1/x", Until: time.Now().Add(time.Hour).UTC()},
	})
	return err
}

// scenes are the beginnings by name, for the scripts and for the README.
func scenes() map[string]func(*stage) error {
	rotation := []string{"rotate", "svc-billing", "--project-id", "4711", "--environment", "production"}
	do := func(f func(*stage)) func(*stage) error {
		return func(s *stage) error { f(s); return nil }
	}
	return map[string]func(*stage) error{
		"due":        do(func(*stage) {}),
		"young":      do(func(s *stage) { s.publish(10 * day) }),
		"two-keys":   do(func(s *stage) { s.UseKey(s.CreateKey("svc-billing", 30*day).ID, "s3", "eu-central-1") }),
		"spare-key":  do(func(s *stage) { s.SetKeyStatus(s.CreateKey("svc-billing", 200*day).ID, rotator.KeyInactive) }),
		"bootstrap":  do((*stage).empty),
		"unbound":    do(func(s *stage) { s.TagUser("svc-billing", sandbox.BindingTag, "") }),
		"quarantine": do(func(s *stage) { s.AttachPolicy("svc-billing", "AWSCompromisedKeyQuarantineV3") }),
		"expired": do(func(s *stage) {
			s.EditToken("rotator", func(t *sandbox.Token) { t.Expires = time.Now().AddDate(0, 0, -1) })
		}),
		"read-only": do(func(s *stage) { s.EditToken("rotator", func(t *sandbox.Token) { t.Scopes = []string{"read_api"} }) }),
		"developer": do(func(s *stage) { s.EditToken("rotator", func(t *sandbox.Token) { t.Roles[4711] = sandbox.Developer }) }),
		"token": do(func(s *stage) {
			s.expiresIn(10)
			s.keepToken(s.Token, "GITLAB_TOKEN_SECRET=gitlab/token")
		}),
		"manual":  do(func(s *stage) { s.QueueOutcomes(4711, sandbox.Manual) }),
		"failing": do(func(s *stage) { s.QueueOutcomes(4711, sandbox.Failed) }),
		"busy":    (*stage).holdLease,
		"rotated": func(s *stage) error { return s.run(rotation...) },
		"soaking": func(s *stage) error { return s.run(append(rotation, "--soak-hours", "72")...) },
		"waiting": func(s *stage) error {
			s.QueueOutcomes(4711, sandbox.Manual)
			return s.run(rotation...)
		},
		"failed": func(s *stage) error {
			s.QueueOutcomes(4711, sandbox.Failed)
			return s.run(rotation...)
		},
		"held": func(s *stage) error {
			if err := s.run(append(rotation, "--overlap-hours", "1")...); err != nil {
				return err
			}
			s.UseKey(s.key, "s3", "eu-central-1")
			return nil
		},
	}
}

// empty leaves neither a key nor a variable.
func (s *stage) empty() {
	s.DeleteKey(s.key)
	s.DeleteVariable(4711, "AWS_ACCESS_KEY_ID", "*")
	s.DeleteVariable(4711, "AWS_SECRET_ACCESS_KEY", "*")
}

func (s *stage) begin(scene string) error {
	prepare, ok := allScenes()[scene]
	if !ok {
		return fmt.Errorf("there is no scene %q; there are %s", scene, strings.Join(sceneNames(), ", "))
	}
	return prepare(s)
}

// normal is a text without what differs from run to run: ids are numbered in the
// order in which they appear, so that a mixed up one still shows.
func normal(text string) string {
	text = took.ReplaceAllString(text, "")
	for _, n := range normals {
		if n.as != "" {
			text = n.re.ReplaceAllString(text, n.as)
			continue
		}
		seen := map[string]string{}
		text = n.re.ReplaceAllStringFunc(text, func(found string) string {
			m := n.re.FindStringSubmatch(found)
			if seen[m[2]] == "" {
				seen[m[2]] = fmt.Sprint(n.name, len(seen)+1)
			}
			return m[1] + seen[m[2]]
		})
	}
	return text
}

// took is how long a step took, at the end of its line.
var took = regexp.MustCompile(`(?m)  (\d+h)?(\d+m)?\d+(\.\d+)?s$`)

var normals = []struct {
	re   *regexp.Regexp
	as   string // what stands for it, or, when that is empty,
	name string // how the second group is numbered
}{
	{re: regexp.MustCompile(`()(AKIA[A-Z0-9]{16})\b`), name: "KEY"},
	{re: regexp.MustCompile(`()(AIDA[A-Z0-9]{17})\b`), name: "USER"},
	{re: regexp.MustCompile(`()(\b\d{8}T\d{6}Z-[a-z2-7]{8}\b)`), name: "ROTATION"},
	{re: regexp.MustCompile(`((?:pipelines?[ /]|"id":))(\d+)\b`), name: ""},
	{re: regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z`), as: "TIME"},
	{re: regexp.MustCompile(`\d{4}-\d\d-\d\d \d\d:\d\d`), as: "DATE TIME"},
	{re: regexp.MustCompile(`\d{4}-\d\d-\d\d`), as: "DATE"},
	{re: regexp.MustCompile(`\((now|(in )?\d+ (min|h|days?)( ago)?)\)`), as: "(AWAY)"},
	{re: regexp.MustCompile(`"ms":\s*\d+`), as: `"ms":0`},
	{re: regexp.MustCompile(`https?://[^/\s",;:]+(:\d+)?`), as: "https://HOST"},
	{re: regexp.MustCompile(`\b127\.0\.0\.1:\d+`), as: "HOST"},
}

// indented is JSON as one compares it.
func indented(text string) (string, error) {
	var b bytes.Buffer
	err := json.Indent(&b, []byte(text), "", "  ")
	return b.String(), err
}
