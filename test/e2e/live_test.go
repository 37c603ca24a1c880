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
	"github.com/aws/aws-sdk-go-v2/service/iam"
	iamtypes "github.com/aws/aws-sdk-go-v2/service/iam/types"

	"credential-rotator/rotator"
	"credential-rotator/test/sandbox"
)

// shop is a service with a staging and a production of its own key each. Its default
// branch is at v2, which staging has; production has v1, and is not to get another by a
// rotation of its key.
//
//	             IAM user      variables                                  runs
//	staging      USER-staging  visible, masked                            v2 = HEAD
//	production   USER          hidden, masked, protected                  v1
//
// Its jobs are run in this process, or by a runner from the project's own repository.
type shop struct {
	*stage
	runner  *runner      // nil: in this process
	commits [2]string    // of v1 and v2
	staging variablePair // of staging's user, which stays as it is

	running map[string]release // by environment, under mu
}

// shopAsks is what the shop's request says.
const shopAsks = `"redeploy":"deployment","environment":"production","environment_scope":"production"`

// variablePair are the two variables of a pair.
type variablePair struct{ id, secret sandbox.Variable }

// release is what runs in an environment: what was deployed, and the key that it has.
type release struct{ is, keyID string }

// newShop is a shop whose jobs are run in this process.
func newShop(t *testing.T, c *cloud, user string) *shop {
	t.Helper()
	return openShop(t, c, user, &shop{commits: [2]string{strings.Repeat("1", 40), strings.Repeat("2", 40)}})
}

// newRealShop is one whose jobs are run by a runner. Where only what comes is of interest,
// what was before is run in this process.
func newRealShop(t *testing.T, c *cloud, user string, before bool) *shop {
	t.Helper()
	repository, commits := newRepository(t, os.DirFS("testdata/shop/v1"), os.DirFS("testdata/shop/v2"))
	runner := newRunner(t, repository, c.URL)
	s := &shop{commits: [2]string(commits)}
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
	s.stage = &stage{t: t, cloud: c, wire: &Wire{}, user: user, scope: "production", asks: shopAsks, also: s.isAsBeforeButForTheKey}
	s.running = map[string]release{}
	s.gitlab = sandbox.New(sandbox.Options{Deploy: s.deploy})
	t.Cleanup(s.gitlab.Close)
	s.gitlab.AddProject(sandbox.Project{ID: projectID, Path: "shop/billing", Pipeline: []sandbox.JobSpec{
		{Name: "to-staging", Stage: "staging", Environment: "staging"},
		{Name: "to-production", Stage: "production", Environment: "production", Manual: true, AllowFailure: true},
	}})
	staging, production := c.addUser(t, user+"-staging"), c.addUser(t, user)
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

// whatRunsWorks asserts that what runs has an active key, in every environment. It asks
// IAM and does not use the key: a use in the very millisecond in which a deployment ends
// would be one after it, for moto tells of uses by the microsecond, and IAM by the second.
func (s *shop) whatRunsWorks(c Call) {
	if !c.Write {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for environment, user := range map[string]string{"production": s.user, "staging": s.user + "-staging"} {
		r := s.running[environment]
		out, err := iam.NewFromConfig(s.cloud.Admin()).ListAccessKeys(context.Background(), &iam.ListAccessKeysInput{UserName: &user})
		if err != nil {
			s.t.Errorf("listing the keys of %s: %v", user, err)
			continue
		}
		if !slices.ContainsFunc(out.AccessKeyMetadata, func(k iamtypes.AccessKeyMetadata) bool {
			return *k.AccessKeyId == r.keyID && k.Status == iamtypes.StatusTypeActive
		}) {
			s.t.Errorf("after %s what runs as %q has a key that is not active: %s\n%s", c.Line, r.is, keyList(out.AccessKeyMetadata), s.trace())
		}
	}
}

// isAsBeforeButForTheKey asserts that production has the new key and is what it was, and
// that nothing else has changed.
func (s *shop) isAsBeforeButForTheKey() {
	s.t.Helper()
	s.runs("production", "v1", s.published())
	s.runs("staging", "v2", s.staging.id.Value)
	for _, pl := range s.gitlab.Pipelines(projectID) {
		for _, j := range pl.Jobs {
			if j.Environment == "production" && !j.Started.IsZero() && pl.SHA != s.commits[0] {
				s.t.Errorf("job %d deployed %s to production", j.ID, pl.SHA)
			}
		}
	}
	if now := s.pairIn("staging"); now != s.staging {
		s.t.Errorf("staging's variables have changed: %s", now.id.Value)
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

func TestARetriedProductionJobGetsTheNewKeyAndDeploysTheOldVersion(t *testing.T) {
	t.Parallel()
	requireRunner(t)
	s := newRealShop(t, newCloud(t), "svc-shop", true)
	t.Logf("HEAD of main is %.8s (v2), production has %.8s (v1); the request: %s", s.commits[1], s.commits[0], s.event(true))
	f := newFunction(t, s.stage)
	a := f.run(t, s.event(true))
	if a.Status != rotator.StatusRotated || a.PreviousKeyID != s.first || len(a.Warnings) > 0 || a.Deployment == nil || a.Deployment.Kind != rotator.KindDeployment {
		t.Fatalf("got %s\n%s", a.raw, s.trace())
	}
	t.Logf("the function wrote:\n  %s", strings.Join(s.wire.Writes(), "\n  "))
	s.isRotatedFrom(s.first)
	jobs := s.productionJobs()
	if len(jobs) != 2 || a.Deployment.ID != jobs[1] {
		t.Errorf("the jobs to production are %v, and the result says %+v", jobs, a.Deployment)
	}
	for _, environment := range []string{"production", "staging"} {
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
		t.Logf("rotated: %s; it is gone, and of %d secrets none was in a log, an answer, a request to anything but its variable, or left by the runner", a.Reason, len(s.wire.Secrets()))
	}
}

// The reply to the retry is what a death loses, and GitLab retries a job only once: what
// the lost one made is found, and nothing is deployed twice.
func TestAProductionJobIsRetriedOnceThoughTheProgramDiesAtTheRetry(t *testing.T) {
	t.Parallel()
	requireRunner(t)
	cloud := newCloud(t)
	writes := cleanWrites(newShop(t, cloud, "svc-clean").stage, func(t *testing.T, s *stage) target { return newCommand(t, s) })
	i := slices.IndexFunc(writes, func(line string) bool { return strings.HasSuffix(line, "/retry") })
	if i < 0 {
		t.Fatalf("a clean rotation retries nothing: %q", writes)
	}
	for _, when := range []When{Before, After} {
		t.Run(string(when), func(t *testing.T) {
			t.Parallel()
			s := newRealShop(t, cloud, "svc-"+string(when), false)
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
