package e2e

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/google/go-cmp/cmp"

	"credential-rotator/rotator"
	"credential-rotator/test/sandbox"
)

// shop is a service with a staging and a production, of one key or, with two, of one
// each. Its default branch is at v2, which staging has; production has v1, and is not to
// get another by a rotation of its key.
//
//	             IAM user              variables                          runs
//	staging      USER or USER-staging  visible, masked                    v2 = HEAD
//	production   USER                  hidden, masked, protected          v1
//
// Its jobs are run in this process, or by a runner from the project's own repository.
type shop struct {
	*stage
	runner  *runner      // nil: in this process
	commits [2]string    // of v1 and v2
	two     bool         // keys: that of staging stays as it is
	staging variablePair // as it was at the beginning

	running map[string]release // by environment, under mu
}

// What the shop's request says.
const (
	productionAsks = `"project_id":4711,"environment_scope":"production","redeploy":"deployment","environment":"production"`
	stagingAsks    = `"project_id":4711,"environment_scope":"staging","redeploy":"pipeline","environment":"staging"`
	bothAsk        = `"destinations":[{` + stagingAsks + `},{` + productionAsks + `}]`
)

// variablePair are the two variables of a pair.
type variablePair struct{ id, secret sandbox.Variable }

// release is what runs in an environment: what was deployed, and the key that it has.
type release struct{ is, keyID string }

// newShop is a shop whose jobs are run in this process.
func newShop(t *testing.T, c *cloud, user string, two bool) *shop {
	t.Helper()
	return openShop(t, c, user, &shop{two: two, commits: [2]string{strings.Repeat("1", 40), strings.Repeat("2", 40)}})
}

// newRealShop is one whose jobs are run by a runner. Where only what comes is of interest,
// what was before is run in this process.
func newRealShop(t *testing.T, c *cloud, user string, two, before bool) *shop {
	t.Helper()
	repository, commits := newRepository(t, os.DirFS("testdata/shop/v1"), os.DirFS("testdata/shop/v2"))
	runner := newRunner(t, repository, c.URL)
	s := &shop{two: two, commits: [2]string(commits)}
	if before {
		s.runner = runner
	}
	t.Cleanup(func() { s.leftNoSecret(runner) })
	openShop(t, c, user, s)
	s.runner = runner
	return s
}

func openShop(t *testing.T, c *cloud, user string, s *shop) *shop {
	t.Helper()
	s.stage = &stage{t: t, cloud: c, wire: &Wire{}, user: user, places: []rotator.Place{placeOf(projectID, "staging"), placeOf(projectID, "production")}, asks: bothAsk, also: s.isAsBeforeButForTheKey}
	s.running = map[string]release{}
	s.gitlab = sandbox.New(sandbox.Options{Deploy: s.deploy})
	t.Cleanup(s.gitlab.Close)
	s.gitlab.AddProject(sandbox.Project{ID: projectID, Path: "shop/billing", Pipeline: []sandbox.JobSpec{
		{Name: "to-staging", Stage: "staging", Environment: "staging"},
		{Name: "to-production", Stage: "production", Environment: "production", Manual: true, AllowFailure: true},
	}})
	production := c.addUser(t, user)
	staging := production
	if s.two {
		staging = c.addUser(t, user+"-staging")
		s.places, s.asks = s.places[1:], productionAsks
	}
	s.setPair(staging, sandbox.Variable{EnvironmentScope: "staging", Masked: true})
	s.setPair(production, sandbox.Variable{EnvironmentScope: "production", Masked: true, Hidden: true, Protected: true})
	s.staging = s.pairIn("staging")
	s.wire.Remember(staging.SecretAccessKey)
	s.connect(production)
	s.reachProduction()
	s.wire.AfterEach(func(call Call) {
		s.pairWorks(call)
		s.whatRunsWorks(call)
	})
	return s
}

// setPair makes the two variables of a pair.
func (s *shop) setPair(pair aws.Credentials, as sandbox.Variable) {
	for name, value := range map[string]string{"AWS_ACCESS_KEY_ID": pair.AccessKeyID, "AWS_SECRET_ACCESS_KEY": pair.SecretAccessKey} {
		as.Key, as.Value = name, value
		s.gitlab.SetVariable(projectID, as)
	}
}

func (s *shop) pairIn(scope string) variablePair {
	s.t.Helper()
	id, ok := s.gitlab.Variable(projectID, "AWS_ACCESS_KEY_ID", scope)
	secret, both := s.gitlab.Variable(projectID, "AWS_SECRET_ACCESS_KEY", scope)
	if !ok || !both {
		s.t.Fatalf("there is no pair in scope %s", scope)
	}
	return variablePair{id, secret}
}

// reachProduction is what was before: v1 went to staging and, when somebody said so, to
// production; HEAD moved on, and v2 went to staging.
func (s *shop) reachProduction() {
	s.t.Helper()
	s.gitlab.Commit(projectID, "main", s.commits[0])
	first := s.gitlab.RunPipeline(projectID, "main")
	s.await(first, "to-staging", "success")
	s.gitlab.PlayJob(s.await(first, "to-production", "manual"))
	s.await(first, "to-production", "success")
	s.gitlab.Commit(projectID, "main", s.commits[1])
	s.await(s.gitlab.RunPipeline(projectID, "main"), "to-staging", "success")
	s.runs("production", "v1", s.first)
	s.runs("staging", "v2", s.staging.id.Value)
}

// await waits until a job of a pipeline has a status, and returns its id.
func (s *shop) await(pipeline int64, name, status string) int64 {
	s.t.Helper()
	last := ""
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		j := s.job(pipeline, name)
		if j.Status == status {
			return j.ID
		}
		if last = j.Status; last == "failed" {
			s.t.Fatalf("job %s of pipeline %d failed: %s", name, pipeline, j.Failure)
		}
	}
	s.t.Fatalf("job %s of pipeline %d is %s, and not %s", name, pipeline, last, status)
	return 0
}

func (s *shop) job(pipeline int64, name string) sandbox.Job {
	for _, pl := range s.gitlab.Pipelines(projectID) {
		for _, j := range slices.Backward(pl.Jobs) {
			if pl.ID == pipeline && j.Name == name {
				return j
			}
		}
	}
	return sandbox.Job{}
}

// deploy is what the project's jobs do.
func (s *shop) deploy(ctx context.Context, job sandbox.JobEnv) error {
	is, err := s.play(ctx, job)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running[job.Environment] = release{is, job.KeyID}
	if job.Environment == "production" {
		s.deployed = append(s.deployed, job.KeyID)
	}
	return nil
}

// play runs a job, and returns what its environment then has.
func (s *shop) play(ctx context.Context, job sandbox.JobEnv) (string, error) {
	if s.runner == nil {
		version := fmt.Sprintf("v%d", 1+slices.Index(s.commits[:], job.SHA))
		return fmt.Sprintf("%s: %s with %s", job.Environment, version, job.KeyID), s.cloud.authenticates(ctx, job.KeyID, job.Secret)
	}
	log, err := s.runner.run(ctx, job)
	s.holdsNoSecret("the log of "+job.Name, log)
	if err != nil {
		return "", err
	}
	is, err := s.runner.deployed(job.Environment)
	s.t.Logf("job %d of pipeline %d, at %.8s: %s", job.JobID, job.PipelineID, job.SHA, strings.TrimSpace(said(job.Name, log)))
	return is, err
}

// runs asserts what an environment has.
func (s *shop) runs(environment, version, keyID string) {
	s.t.Helper()
	want := fmt.Sprintf("%s: %s with %s", environment, version, keyID)
	s.mu.Lock()
	got := s.running[environment].is
	s.mu.Unlock()
	if got != want {
		s.t.Errorf("deployed is %q, want %q", got, want)
	}
}

// whatRunsWorks asserts that what runs has an active key, in every environment.
func (s *shop) whatRunsWorks(c Call) {
	if !c.changesKeys() {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	running := map[string]map[string]string{s.user: {}, s.user + "-staging": {}}
	for environment, r := range s.running {
		user := s.user
		if s.two && environment == "staging" {
			user += "-staging"
		}
		running[user][r.is] = r.keyID
	}
	for user, keys := range running {
		if len(keys) > 0 {
			s.areActive(c, user, keys)
		}
	}
}

// isAsBeforeButForTheKey asserts that production, and staging if it has the same, has the
// new key and is what it was, and that nothing else has changed.
func (s *shop) isAsBeforeButForTheKey() {
	s.t.Helper()
	s.runs("production", "v1", s.published())
	staging := s.pairIn("staging")
	s.runs("staging", "v2", staging.id.Value)
	for _, pl := range s.gitlab.Pipelines(projectID) {
		for _, j := range pl.Jobs {
			if j.Environment == "production" && !j.Started.IsZero() && pl.SHA != s.commits[0] {
				s.t.Errorf("job %d deployed %s to production", j.ID, pl.SHA)
			}
		}
	}
	if s.two && staging != s.staging {
		s.t.Errorf("staging's variables have changed: %s", staging.id.Value)
	}
	for _, v := range []sandbox.Variable{staging.id, staging.secret} {
		if v.Hidden || !v.Masked || v.Protected {
			s.t.Errorf("%s of staging is hidden %v, masked %v, protected %v", v.Key, v.Hidden, v.Masked, v.Protected)
		}
	}
	for _, v := range []sandbox.Variable{s.pairIn("production").id, s.pairIn("production").secret} {
		if !v.Hidden || !v.Masked || !v.Protected {
			s.t.Errorf("%s is hidden %v, masked %v, protected %v", v.Key, v.Hidden, v.Masked, v.Protected)
		}
	}
}

// productionJobs are the jobs that have deployed to production.
func (s *shop) productionJobs() (ids []int64) {
	for _, pl := range s.gitlab.Pipelines(projectID) {
		for _, j := range pl.Jobs {
			if j.Environment == "production" && j.Status == "success" {
				ids = append(ids, j.ID)
			}
		}
	}
	return ids
}

func (s *shop) leftNoSecret(r *runner) {
	left, err := r.left()
	if err != nil {
		s.t.Errorf("looking at what the runner left: %v", err)
	}
	s.holdsNoSecret("what the runner left", left)
}

func TestStagingThenProductionGetTheOneNewKeyAndEachKeepsItsVersion(t *testing.T) {
	t.Parallel()
	requireRunner(t)
	s := newRealShop(t, newCloud(t), "svc-shop", false, true)
	t.Logf("HEAD of main is %.8s (v2), production has %.8s (v1); the request: %s", s.commits[1], s.commits[0], s.event(true))
	f := newFunction(t, s.stage)
	a := f.run(t, s.event(true))
	for range 10 { // two jobs of a slow runner take longer than one run may
		if a.Status != rotator.StatusWaiting {
			break
		}
		t.Logf("%s: %s", a.Status, a.Reason)
		a = f.run(t, s.event(false))
	}
	if a.Status != rotator.StatusRotated || a.PreviousKeyID != s.first || len(a.Warnings) > 0 {
		t.Fatalf("got %s\n%s", a.raw, s.trace())
	}
	writes := s.wire.Writes()
	t.Logf("the function wrote:\n  %s", strings.Join(writes, "\n  "))
	s.isRotatedFrom(s.first)
	s.wentInOrder(a)
	for _, environment := range []string{"staging", "production"} {
		is, err := s.runner.deployed(environment)
		if err != nil || is != s.running[environment].is {
			t.Errorf("on the servers of %s is %q (%v)", environment, is, err)
		}
		t.Logf("on the servers: %s", is)
	}
	s.callsHoldNoSecret()
	s.holdsNoSecret("the function's output", f.Output())
	s.leftNoSecret(s.runner)
	if !t.Failed() {
		t.Logf("rotated: %s; it is gone, and of %d secrets none was in a log, an answer, a request to anything but its variables, or left by the runner", a.Reason, len(s.wire.Secrets()))
	}
}

// wentInOrder asserts that a pipeline went to staging and, when that had ended, the job of
// what is live was retried in production: each once, after the pair was in both scopes.
func (s *shop) wentInOrder(a answer) {
	t := s.t
	t.Helper()
	jobs := s.productionJobs()
	if len(jobs) != 2 || len(a.Deployments) != 2 || a.Deployments[0].Kind != rotator.KindPipeline || a.Deployments[1].Kind != rotator.KindDeployment || a.Deployments[1].ID != jobs[1] {
		t.Fatalf("the jobs to production are %v, and the result says %+v", jobs, a.Deployments)
	}
	staging := s.job(a.Deployments[0].ID, "to-staging")
	for _, pl := range s.gitlab.Pipelines(projectID) {
		for _, j := range pl.Jobs {
			if j.ID == jobs[1] && j.Started.Before(staging.Finished) {
				t.Errorf("production began at %s, and staging ended at %s", j.Started, staging.Finished)
			}
			if pl.ID == a.Deployments[0].ID && pl.SHA != s.commits[1] {
				t.Errorf("staging's pipeline is at %s", pl.SHA)
			}
		}
	}
	var got []string
	for _, line := range s.wire.Writes() {
		if strings.HasPrefix(line, "gitlab ") {
			got = append(got, strings.TrimPrefix(line, "gitlab "))
		}
	}
	secret, id := "PUT /projects/4711/variables/AWS_SECRET_ACCESS_KEY", "PUT /projects/4711/variables/AWS_ACCESS_KEY_ID"
	want := []string{secret, id, secret, id, "POST /projects/4711/pipeline", fmt.Sprintf("POST /projects/4711/jobs/%d/retry", jobs[0])}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("GitLab was written otherwise (-want +got):\n%s", diff)
	}
}

// The reply to the retry is what a death loses, and GitLab retries a job only once: what
// the lost one made is found, and nothing is deployed twice.
func TestAProductionJobIsRetriedOnceThoughTheProgramDiesAtTheRetry(t *testing.T) {
	t.Parallel()
	requireRunner(t)
	cloud := newCloud(t)
	writes := cleanWrites(newShop(t, cloud, "svc-clean", true).stage, func(t *testing.T, s *stage) target { return newCommand(t, s) })
	i := slices.IndexFunc(writes, func(line string) bool { return strings.HasSuffix(line, "/retry") })
	if i < 0 {
		t.Fatalf("a clean rotation retries nothing: %q", writes)
	}
	for _, when := range []When{Before, After} {
		t.Run(string(when), func(t *testing.T) {
			t.Parallel()
			s := newRealShop(t, cloud, "svc-"+string(when), true, false)
			c := newCommand(t, s.stage)
			s.die(c, death{i + 1, when, writes[i]})
			if died := s.wire.Died(); died != writes[i] {
				t.Fatalf("it died %s %s", when, died)
			}
			s.converge(c)
			s.isRotatedFrom(s.first)
			if jobs := s.productionJobs(); len(jobs) != 2 {
				t.Errorf("the jobs to production are %v\n%s", jobs, s.trace())
			}
		})
	}
}
