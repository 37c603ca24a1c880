package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"

	"credential-rotator/rotator"
	"credential-rotator/test/moto"
	"credential-rotator/test/sandbox"
)

const (
	mailID  = 4713
	groupID = 9
	// strangeID is a project of another group, which the token sees all the same.
	strangeID = 5000
)

// estate is a service of some projects in one group, each with a production that runs with
// the one key, wherever that is published.
type estate struct {
	*stage
	projects []int64
	job      sandbox.JobSpec // of each project

	running map[int64]string // the key id of each project's production, under mu
	broken  map[int64]bool   // the deploy job of a project fails, under mu
	down    bool             // a person has said that what runs may fail until it is deployed again, under mu
}

// projectPath is the path of a project of an estate.
func projectPath(id int64) string {
	return map[int64]string{projectID: "shop/billing", searchID: "shop/search", mailID: "shop/mail", strangeID: "other/thing"}[id]
}

// scene is how an estate is to be.
type scene struct {
	user     string
	binding  string // of the user
	projects []int64
	places   []rotator.Place  // of the pair
	as       sandbox.Variable // the flags of its variables
	asks     string           // of its request, JSON, besides the user and force
}

func newEstate(t *testing.T, c *cloud, sc scene) *estate {
	t.Helper()
	e := &estate{projects: sc.projects, running: map[int64]string{}, broken: map[int64]bool{}}
	e.stage = &stage{t: t, cloud: c, wire: &Wire{}, user: sc.user, places: sc.places, asks: sc.asks, also: e.allRunWithIt}
	e.token = sandbox.Token{
		Name: "rotator", Scopes: []string{"api"},
		GroupRoles: map[int64]int{groupID: sandbox.Owner}, Roles: map[int64]int{strangeID: sandbox.Maintainer},
	}
	e.gitlab = sandbox.New(sandbox.Options{Deploy: e.deploy})
	t.Cleanup(e.gitlab.Close)
	e.gitlab.AddGroup(sandbox.Group{ID: groupID, Path: "shop"})
	e.job = sandbox.JobSpec{Name: "deploy", Environment: "production"}
	if file := sc.places[0].File; file != "" {
		e.job.CredentialsFile, e.job.Profile = file, sc.places[0].Profile
	}
	for _, id := range append(sc.projects, strangeID) {
		e.gitlab.AddProject(sandbox.Project{ID: id, Path: projectPath(id), Pipeline: []sandbox.JobSpec{e.job}})
	}
	key := c.addBoundUser(t, sc.user, sc.binding)
	for _, p := range sc.places {
		e.put(p, key, sc.as)
	}
	for _, id := range sc.projects {
		e.gitlab.Deployed(id, sandbox.Past{Job: e.job, Ago: time.Hour})
		e.running[id] = key.AccessKeyID
	}
	e.connect(key)
	e.wire.AfterEach(func(call Call) {
		e.pairWorks(call)
		e.whatRunsWorks(call)
	})
	return e
}

// put publishes a pair, as somebody has done by hand.
func (e *estate) put(p rotator.Place, pair aws.Credentials, as sandbox.Variable) {
	values := map[string]string{p.KeyIDVariable: pair.AccessKeyID, p.SecretVariable: pair.SecretAccessKey}
	if p.File != "" {
		as.Type = "file"
		values = map[string]string{p.File: fmt.Sprintf("# the key of %s\n[%s]\naws_access_key_id=%s\naws_secret_access_key=%s\n", e.user, p.Profile, pair.AccessKeyID, pair.SecretAccessKey)}
	}
	as.EnvironmentScope = p.EnvironmentScope
	for as.Key, as.Value = range values {
		if p.GroupID != 0 {
			e.gitlab.SetGroupVariable(p.GroupID, as)
		} else {
			e.gitlab.SetVariable(p.ProjectID, as)
		}
	}
}

// deploy is what the projects' deploy jobs do: they ask STS who they are.
func (e *estate) deploy(ctx context.Context, job sandbox.JobEnv) error {
	e.mu.Lock()
	broken := e.broken[job.ProjectID]
	e.mu.Unlock()
	who, err := e.askSTS(ctx, job)
	switch {
	case err != nil:
		return err
	case broken:
		e.t.Logf("job %d of %s works with %s, as %s, and fails for reasons of its own", job.JobID, projectPath(job.ProjectID), job.KeyID, who)
		return fmt.Errorf("the deployment of %s is broken", projectPath(job.ProjectID))
	}
	e.t.Logf("job %d of %s deploys with %s, as %s", job.JobID, projectPath(job.ProjectID), job.KeyID, who)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.running[job.ProjectID] = job.KeyID
	e.deployed = append(e.deployed, job.KeyID)
	return nil
}

// askSTS asks who a job is, as the job would.
func (e *estate) askSTS(ctx context.Context, job sandbox.JobEnv) (arn string, err error) {
	if e.job.CredentialsFile != "" {
		return e.askWithFile(ctx, job)
	}
	return e.cloud.identity(ctx, job.Variables["AWS_ACCESS_KEY_ID"], job.Variables["AWS_SECRET_ACCESS_KEY"])
}

// askWithFile has the AWS CLI ask, which is told of the job's file as a runner tells it:
// it writes the content to a file, and the path of that is the variable.
func (e *estate) askWithFile(ctx context.Context, job sandbox.JobEnv) (arn string, err error) {
	path, remove, err := written(job.Files[e.job.CredentialsFile])
	if err != nil {
		return "", err
	}
	defer remove()
	cmd := exec.CommandContext(ctx, "aws", "sts", "get-caller-identity", "--query", "Arn", "--output", "text")
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + filepath.Dir(path), "AWS_CONFIG_FILE=" + os.DevNull,
		"AWS_ENDPOINT_URL=" + e.cloud.URL, "AWS_REGION=" + moto.Region, "AWS_DEFAULT_REGION=" + moto.Region,
		"AWS_SHARED_CREDENTIALS_FILE=" + path, "AWS_PROFILE=" + e.job.Profile,
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("the AWS CLI: %w: %s", err, out)
	}
	return strings.TrimSpace(string(out)), nil
}

// written is a file that only we may read.
func written(content string) (path string, remove func(), err error) {
	dir, err := os.MkdirTemp("", "e2e")
	if err != nil {
		return "", nil, err
	}
	path = filepath.Join(dir, "credentials")
	return path, func() { _ = os.RemoveAll(dir) }, os.WriteFile(path, []byte(content), 0o600)
}

// inFile is the pair of a profile in a credentials file, as AWS's own SDK reads it.
func (s *stage) inFile(content, profile string) aws.Credentials {
	path, remove, err := written(content)
	if err != nil {
		s.t.Error(err)
		return aws.Credentials{}
	}
	defer remove()
	shared, err := config.LoadSharedConfigProfile(context.Background(), profile, func(o *config.LoadSharedConfigOptions) {
		o.CredentialsFiles, o.ConfigFiles = []string{path}, []string{}
	})
	if err != nil {
		s.t.Errorf("reading profile %s: %v", profile, err)
	}
	return shared.Credentials
}

// whatRunsWorks asserts that what runs has an active key, in every project.
func (e *estate) whatRunsWorks(c Call) {
	if !c.changesKeys() {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.down {
		return
	}
	running := map[string]string{}
	for id, keyID := range e.running {
		running[projectPath(id)] = keyID
	}
	e.areActive(c, e.user, running)
}

// runsWith is the key id that a project's production has.
func (e *estate) runsWith(id int64) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.running[id]
}

// allRunWithIt asserts that all projects run with what is published.
func (e *estate) allRunWithIt() {
	e.t.Helper()
	for _, id := range e.projects {
		if got := e.runsWith(id); got != e.published() {
			e.t.Errorf("%s runs with %s, and published is %s", projectPath(id), got, e.published())
		}
	}
}

// setBroken breaks a project's deploy job, or mends it.
func (e *estate) setBroken(id int64, broken bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.broken[id] = broken
}

// pipelines are how those of a project have ended that were run for the rotation.
func (e *estate) pipelines(id int64) (statuses []string) {
	for _, pl := range e.gitlab.Pipelines(id)[1:] { // the first is of before
		statuses = append(statuses, pl.Status)
	}
	return statuses
}
