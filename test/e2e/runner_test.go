package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"credential-rotator/test/moto"
	"credential-rotator/test/sandbox"
)

// runner is a GitLab runner: it checks a job's commit out of the project's repository and
// has gitlab-ci-local run the job of that name, as that commit's own .gitlab-ci.yml has
// it, with the variables that GitLab gave the job when it started.
//
// gitlab-ci-local prints variables in clear and writes them into the scripts that it runs.
// They reach it in a file that only we may read, all that it writes is below one directory
// that goes when the job has ended, and what it printed leaves masked, as GitLab masks it.
type runner struct {
	repository string
	builds     string            // a directory for each job, while it runs
	servers    string            // what is deployed: one file for each environment
	own        map[string]string // variables of the runner: where AWS is
}

func requireRunner(t *testing.T) {
	t.Helper()
	for _, tool := range []string{"moto_server", "gitlab-ci-local", "rsync", "aws", "git"} {
		moto.Require(t, tool)
	}
}

// newRunner is one whose jobs find AWS at a URL.
func newRunner(t *testing.T, repository, aws string) *runner {
	t.Helper()
	r := &runner{repository: repository, builds: t.TempDir(), servers: t.TempDir()}
	r.own = map[string]string{
		"AWS_ENDPOINT_URL": aws, "AWS_REGION": moto.Region, "AWS_DEFAULT_REGION": moto.Region, "SERVERS": r.servers,
		// Of a machine with settings of its own nothing is wanted.
		"AWS_CONFIG_FILE": os.DevNull, "AWS_SHARED_CREDENTIALS_FILE": os.DevNull,
	}
	return r
}

// run runs a job, and returns what it has printed, masked.
func (r *runner) run(ctx context.Context, job sandbox.JobEnv) (log string, err error) {
	dir := filepath.Join(r.builds, strconv.FormatInt(job.JobID, 10))
	build, home := filepath.Join(dir, "build"), filepath.Join(dir, "home")
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := r.checkOut(ctx, job, build); err != nil {
		return "", err
	}
	if err := r.writeVariables(job, home); err != nil {
		return "", err
	}
	out, err := localCI(ctx, build, "--home", home, "--force-shell-executor", "--ignore-predefined-vars", "CI_PROJECT_ID,CI_PIPELINE_ID,CI_JOB_ID", job.Name)
	out = masked(out, job)
	if err != nil {
		return out, fmt.Errorf("job %d (%s) at %s: %w\n%s", job.JobID, job.Name, job.SHA, err, out)
	}
	return out, nil
}

// checkOut makes a working copy at the job's commit, on a branch of its ref's name.
func (r *runner) checkOut(ctx context.Context, job sandbox.JobEnv, build string) error {
	if err := git(ctx, ".", "clone", "-q", "--no-checkout", r.repository, build); err != nil {
		return err
	}
	if err := git(ctx, build, "checkout", "-q", "-B", job.Ref, job.SHA); err != nil {
		return err
	}
	return git(ctx, build, "remote", "set-url", "origin", "https://gitlab.example.com/shop/billing.git")
}

// writeVariables writes the file in which gitlab-ci-local looks for them. GitLab has
// chosen among the scopes already, so each is for all.
func (r *runner) writeVariables(job sandbox.JobEnv, home string) error {
	if len(job.Files) > 0 {
		return fmt.Errorf("job %d (%s) has variables of type file, which gitlab-ci-local writes where anybody may read them", job.JobID, job.Name)
	}
	type values map[string]map[string]string
	global := map[string]values{}
	add := func(name, value string) { global[name] = values{"values": {"*": value}} }
	for name, value := range r.own {
		add(name, value)
	}
	for name, id := range map[string]int64{"CI_PROJECT_ID": job.ProjectID, "CI_PIPELINE_ID": job.PipelineID, "CI_JOB_ID": job.JobID} {
		add(name, strconv.FormatInt(id, 10))
	}
	for name, value := range job.Variables {
		add(name, value)
	}
	content, err := json.Marshal(map[string]any{"global": global}) // which is YAML too
	if err != nil {
		return err
	}
	dir := filepath.Join(home, ".gitlab-ci-local")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "variables.yml"), content, 0o600)
}

// masked is a log as GitLab shows it.
func masked(log string, job sandbox.JobEnv) string {
	if job.Secret == "" {
		return log
	}
	return strings.ReplaceAll(log, job.Secret, "[MASKED]")
}

// deployed is what is on the servers of an environment, "" for nothing.
func (r *runner) deployed(environment string) (string, error) {
	content, err := os.ReadFile(filepath.Join(r.servers, environment))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return strings.TrimSpace(string(content)), err
}

// left are all the files there are of it, for a look whether there is a secret in one.
func (r *runner) left() (string, error) {
	var all strings.Builder
	for _, dir := range []string{r.repository, r.builds, r.servers} {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			content, err := os.ReadFile(path)
			fmt.Fprintf(&all, "%s\n%s\n", path, content)
			return err
		})
		if err != nil {
			return "", err
		}
	}
	return all.String(), nil
}

// newRepository makes a repository with one commit for each of some trees, and returns
// the commits: the last one is HEAD.
func newRepository(t *testing.T, trees ...fs.FS) (dir string, commits []string) {
	t.Helper()
	dir = t.TempDir()
	run := func(args ...string) {
		t.Helper()
		if err := git(t.Context(), dir, args...); err != nil {
			t.Fatal(err)
		}
	}
	run("init", "-q", "-b", "main")
	for i, tree := range trees {
		if i > 0 {
			run("rm", "-q", "-r", ".")
		}
		if err := os.CopyFS(dir, tree); err != nil {
			t.Fatal(err)
		}
		run("add", ".")
		run("-c", "user.name=a", "-c", "user.email=a@example.com", "-c", "commit.gpgsign=false", "commit", "-q", "-m", fmt.Sprintf("v%d", i+1))
		head, err := exec.CommandContext(t.Context(), "git", "-C", dir, "rev-parse", "HEAD").Output()
		if err != nil {
			t.Fatalf("asking for the commit: %v", err)
		}
		commits = append(commits, strings.TrimSpace(string(head)))
	}
	return dir, commits
}

func git(ctx context.Context, dir string, args ...string) error {
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("git %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return nil
}

// localCI runs gitlab-ci-local in a project with nothing of AWS or CI in its environment,
// and returns all that it printed, which may hold secrets.
func localCI(ctx context.Context, dir string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "gitlab-ci-local", args...)
	cmd.Dir, cmd.WaitDelay = dir, time.Second
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "AWS_") && !strings.HasPrefix(v, "CI") && !strings.HasPrefix(v, "GITLAB") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("gitlab-ci-local: %w", err)
	}
	return colours.ReplaceAllString(string(out), ""), err
}

// The runner itself: what it is told and what it does with a secret.

// jobOf is a job of a project's, with a pair in its variables.
func jobOf(name, sha string) sandbox.JobEnv {
	return sandbox.JobEnv{
		ProjectID: projectID, PipelineID: 61, JobID: 600, Name: name, Environment: "production", Ref: "main", SHA: sha,
		Variables: map[string]string{"AWS_ACCESS_KEY_ID": "AKIA0", "AWS_SECRET_ACCESS_KEY": "CANARY/not+a/secret"},
		KeyID:     "AKIA0", Secret: "CANARY/not+a/secret",
	}
}

func TestTheRunnerRunsTheJobOfItsCommitAndMasksItsSecret(t *testing.T) {
	t.Parallel()
	for _, tool := range []string{"gitlab-ci-local", "rsync", "git"} {
		moto.Require(t, tool)
	}
	tree := func(script string) fs.FS {
		return fstest.MapFS{".gitlab-ci.yml": {Data: []byte("job:\n  environment: production\n  script: " + script + "\n")}}
	}
	repository, commits := newRepository(
		t,
		tree(`'echo "v1 $CI_JOB_ID $CI_COMMIT_SHA $CI_COMMIT_BRANCH $AWS_ACCESS_KEY_ID $AWS_SECRET_ACCESS_KEY"; ls -l "$HOME_OF_VARIABLES"'`),
		tree(`'echo "v2 $AWS_SECRET_ACCESS_KEY"; false'`),
	)
	r := newRunner(t, repository, "http://127.0.0.1:1")
	r.own["HOME_OF_VARIABLES"] = filepath.Join(r.builds, "600", "home", ".gitlab-ci-local", "variables.yml")

	log, err := r.run(t.Context(), jobOf("job", commits[0]))
	said := said("job", log)
	if err != nil || !strings.HasPrefix(said, "v1 600 "+commits[0]+" main AKIA0 [MASKED]\n-rw------- ") {
		t.Errorf("the job of the first commit says %q (%v)", log, err)
	}
	log, err = r.run(t.Context(), jobOf("job", commits[1]))
	if err == nil || !strings.Contains(err.Error(), "v2 [MASKED]") || strings.Contains(log+err.Error(), "CANARY") {
		t.Errorf("a job that fails says %q (%v)", log, err)
	}
	if log, err := r.run(t.Context(), jobOf("gone", commits[1])); err == nil {
		t.Errorf("a job that the commit does not have says %q", log)
	}
	if left, err := r.left(); err != nil || strings.Contains(left, "CANARY") || !strings.Contains(left, ".gitlab-ci.yml") {
		t.Errorf("what is left is %q (%v)", left, err)
	}
}
