package hostile

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"credential-rotator/rotator"
	"credential-rotator/test/sandbox"
)

var buildDir string

func TestMain(m *testing.M) {
	var err error
	if buildDir, err = os.MkdirTemp("", "hostile"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(buildDir)
	os.Exit(code)
}

// built is the command, built once for all tests.
var built = sync.OnceValues(func() (string, error) {
	path := filepath.Join(buildDir, "credential-rotator")
	if out, err := exec.Command("go", "build", "-o", path, "credential-rotator/function").CombinedOutput(); err != nil {
		return "", fmt.Errorf("building the command: %w\n%s", err, out)
	}
	return path, nil
})

func program(t *testing.T) string {
	t.Helper()
	path, err := built()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// stage is a service whose key is due, in a world of its own that listens.
type stage struct {
	*sandbox.Scene
	server  *sandbox.Server
	program string
	dir     string
	env     []string // what differs from the usual; JOURNAL is a file without it

	mu      sync.Mutex
	running *exec.Cmd
	gone    chan struct{}
	said    bytes.Buffer // all that all runs wrote
	story   []string     // what the runs answered, one line each
}

// newStage is a stage that the caller closes.
func newStage(program, dir string, o sandbox.Options, h *sandbox.Hostility) (*stage, error) {
	s := &stage{Scene: sandbox.NewScene(o), program: program, dir: dir}
	var err error
	s.server, err = sandbox.ServeHostile(s.World, h)
	return s, err
}

// orphanAge is longer than any write of a run can take to arrive, by clocks that tell
// whole seconds: a create that is late by 0.3 s may seem to be 2.3 s late.
const orphanAge = 2500 * time.Millisecond

func (s *stage) journal() string { return filepath.Join(s.dir, "journal.db") }

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
		"PROBE_DELAY=1ms", "PROBE_INTERVAL=5ms", "PROBE_TIMEOUT=3s", "POLL_INTERVAL=10ms",
		"RUN_TIMEOUT=20s", "ORPHAN_AGE=" + orphanAge.String(),
		"HOME=" + s.dir,
	}, s.env...)
}

// answer is what a run gave.
type answer struct {
	rotator.Result
	killed bool
	faults []string // how it broke the contract of a command
}

const due = `{"user":"svc-billing","project_id":4711,"environment":"production"}`

// command is one run of handle that is about to begin, and what it writes.
func (s *stage) command(event string) (cmd *exec.Cmd, stdout, stderr *bytes.Buffer) {
	cmd = exec.Command(s.program, "handle")
	cmd.Env, cmd.Stdin, cmd.WaitDelay = s.environ(), strings.NewReader(event), time.Second
	stdout, stderr = new(bytes.Buffer), new(bytes.Buffer)
	cmd.Stdout, cmd.Stderr = stdout, stderr
	return cmd, stdout, stderr
}

// run runs the command to its end, or until kill.
func (s *stage) run(event string) (answer, error) {
	cmd, stdout, stderr := s.command(event)
	gone := make(chan struct{})
	s.mu.Lock()
	if err := cmd.Start(); err != nil {
		s.mu.Unlock()
		return answer{}, err
	}
	s.running, s.gone = cmd, gone
	s.mu.Unlock()
	err := cmd.Wait()
	close(gone)
	a := s.hear(cmd, err, stdout.String(), stderr.String())
	return a, nil
}

// hear makes an answer of what a run wrote, and keeps it.
func (s *stage) hear(cmd *exec.Cmd, err error, stdout, stderr string) answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.said.WriteString(stdout + stderr)
	a := answer{}
	if exit := new(exec.ExitError); errors.As(err, &exit) && !exit.Exited() {
		a.killed = true
		s.story = append(s.story, now()+"  == killed")
		return a
	}
	if err := json.Unmarshal([]byte(stdout), &a.Result); err != nil || strings.Count(stdout, "\n") != 1 {
		a.faults = append(a.faults, fmt.Sprintf("stdout is not one JSON object: %q", stdout))
	}
	codes := map[rotator.Status]int{"rotated": 0, "not_due": 0, "waiting": 3, "busy": 3, "held": 3, "refused": 1, "failed": 1}
	if want, known := codes[a.Status]; !known || want != cmd.ProcessState.ExitCode() {
		a.faults = append(a.faults, fmt.Sprintf("exit code %d with status %q", cmd.ProcessState.ExitCode(), a.Status))
	}
	if strings.Contains(stderr, "goroutine ") {
		a.faults = append(a.faults, "it panicked:\n"+stderr)
	}
	line := fmt.Sprintf("  == %s: %s %s", a.Status, a.Reason, strings.Join(a.Warnings, "; "))
	if n := len(s.story); n == 0 || !strings.HasSuffix(s.story[n-1], line) { // said once is enough
		s.story = append(s.story, now()+line)
	}
	return a
}

func now() string { return time.Now().UTC().Format("15:04:05.000") }

// kill ends the run under way, and returns when it is gone.
func (s *stage) kill() {
	s.mu.Lock()
	running, gone := s.running, s.gone
	s.mu.Unlock()
	_ = running.Process.Kill() // it may just have ended
	<-gone
}

// faults are all that must not be, now that all is over: a broken promise, a secret
// where it does not belong, another end than one young published key.
func (s *stage) faults() []string {
	faults := s.Violations()
	s.mu.Lock()
	said := s.said.String()
	s.mu.Unlock()
	for _, name := range s.LeaksIn(said) {
		faults = append(faults, "the command printed "+name)
	}
	if kept, err := os.ReadFile(s.journal()); err == nil {
		for _, name := range s.LeaksIn(string(kept)) {
			faults = append(faults, "the journal holds "+name)
		}
	}
	keys := s.Keys(s.Service.User)
	published, state := s.Pair(s.Service)
	if len(keys) != 1 || keys[0].ID != published || keys[0].ID == s.Key.ID || keys[0].Status != rotator.KeyActive {
		faults = append(faults, fmt.Sprintf("published is %s, and the keys are %v", published, keys))
	}
	if state != sandbox.PairWorks {
		faults = append(faults, "the published pair is "+string(state))
	}
	if record := s.Record(s.Service.User); record.InFlight() {
		faults = append(faults, "the record is still in phase "+string(record.Phase))
	}
	if live := s.live(); live != published {
		faults = append(faults, fmt.Sprintf("%s is published, and the last deployment brought %s", published, live))
	}
	return faults
}

// live is the key that the last successful deploy job picked up.
func (s *stage) live() string {
	var last sandbox.Job
	for _, p := range s.Pipelines(4711) {
		for _, j := range p.Jobs {
			if j.Status == "success" && !j.Finished.Before(last.Finished) {
				last = j
			}
		}
	}
	return last.KeyID
}

// writes are the calls that changed IAM or GitLab, or were to.
func (s *stage) writes() int {
	n := 0
	for _, c := range s.Calls() {
		if c.Write {
			n++
		}
	}
	return n
}

// tell is the whole story: what the world met and what the runs answered, in order.
func (s *stage) tell(troubles []string) string {
	s.mu.Lock()
	lines := slices.Concat(s.story, troubles)
	s.mu.Unlock()
	for _, c := range s.Calls() {
		if c.Write {
			lines = append(lines, c.At.Format("15:04:05.000")+"    "+c.Name+" "+c.Detail+" "+c.Err)
		}
	}
	slices.SortStableFunc(lines, func(a, b string) int { return strings.Compare(a[:12], b[:12]) })
	return strings.Join(lines, "\n")
}
