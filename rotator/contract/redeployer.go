package contract

import (
	"errors"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"credential-rotator/rotator"
)

// RedeployerFixture is a project without pipelines, and a Redeployer that reaches it
// with a token of scope api and role Maintainer.
type RedeployerFixture struct {
	Redeployer rotator.Redeployer
	// Redeploy names the project, its default branch, and the environment that the
	// pipelines deploy to, with one job. Its times and ids are for the test to set.
	Redeploy rotator.Redeploy
	Project  RedeployerProject
}

// RedeployerProject is how a test reaches the project behind the Redeployer's back.
// What happens by itself has happened when a method returns.
type RedeployerProject interface {
	// Now is GitLab's clock.
	Now() time.Time
	// Next says how the pipelines end that are started next through the API, and the
	// jobs that are retried, one each: success, failed, canceled, skipped; manual or
	// scheduled, when the deploy job waits; pending, when no runner takes it; of a job
	// also waiting_for_resource, and running, when it does not end. After them, success.
	Next(status ...string)
	// Push runs a pipeline on a ref as a push does. It succeeds.
	Push(ref string) (pipelineID int64)
	// StartAs runs a pipeline on a ref through the API, as another user does.
	StartAs(username, ref string) (pipelineID int64)
	// Run adds a job that has been running for a while, in a pipeline of its own on
	// the default branch; it deploys to the environment, if any.
	Run(environment string, ago time.Duration) (jobID int64)
	// End ends a running job, well or badly.
	End(jobID int64, failed bool)
	// Beside adds a job to the pipelines to come, which deploys to an environment beside
	// the one that does, and ends well.
	Beside(name, environment string)
	// AddRef adds a branch.
	AddRef(name string)
	// PipelineCount and JobCount are how many pipelines and jobs the project has.
	PipelineCount() int
	JobCount() int
	// Deployed adds what is live in the environment, as a pipeline of its own.
	Deployed(past RedeployerPast) (jobID int64)
	// Retry retries a job, as somebody else does. RetryOf tells of which job one is
	// the first retry.
	Retry(jobID int64) (newJobID int64)
	RetryOf(jobID int64) int64
	// Stop stops an environment; Guard protects one from the token's user.
	Stop(environment string)
	Guard(environment string)
}

// Redeployer pins what a rotator.Redeployer promises.
func Redeployer(t *testing.T, open func(testing.TB) RedeployerFixture) {
	tests := map[string]func(*testing.T, RedeployerFixture){
		"the mark is the highest pipeline id":                            redeployMark,
		"a start makes one pipeline on the ref":                          redeployStart,
		"a pipeline that GitLab does not make is refused":                redeployRefused,
		"the status of a pipeline means what it says":                    redeployStates,
		"a pipeline that is gone is none":                                redeployGone,
		"a start whose reply was lost is found":                          redeployLost,
		"without an id nothing is found that another made":               redeployNotOurs,
		"a green pipeline without a deployment is a failure":             redeployUndeployed,
		"of a pipeline with inputs nothing is found without an id":       redeployLostInputs,
		"a pipeline that deployed a part is no proof":                    redeployHalf,
		"a pipeline that runs is waited for, whoever has deployed":       redeployRunning,
		"a deployment that began after publishing serves, whoever's":     redeployServed,
		"an older pipeline's job that began after publishing serves":     redeployRetried,
		"a deployment that began before publishing does not serve":       redeployTooEarly,
		"one that deploys a part is proven by its own pipeline alone":    redeploySecond,
		"a deployment that has not succeeded does not serve":             redeployUnfinished,
		"an environment that has waited for somebody is deployed to":     redeployBlocked,
		"running jobs that began before publishing hold the old key":     redeployHolders,
		"the job that waits for the rotation does not hold it up":        redeployCaller,
		"a job of a later pipeline does not hold the old key":            redeployLaterJobs,
		"when it finished is on GitLab's clock, and only of what did so": redeployFinished,
	}
	maps.Copy(tests, liveTests())
	for name, test := range tests {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

// publish is the moment of publishing: after all that was, before all that comes.
func (f *RedeployerFixture) publish(t *testing.T) {
	t.Helper()
	f.Redeploy.PublishedAt = f.Project.Now().Truncate(time.Second).Add(time.Second)
	mark, err := f.Redeployer.Mark(t.Context(), f.Redeploy)
	if err != nil {
		t.Fatalf("Mark: %v", err)
	}
	f.Redeploy.After = mark
}

func (f *RedeployerFixture) start(t *testing.T) {
	t.Helper()
	d, err := f.Redeployer.Start(t.Context(), f.Redeploy)
	if err != nil {
		t.Fatalf("Start: %v", err)
	}
	f.Redeploy.ID = d.ID
}

func (f *RedeployerFixture) check(t *testing.T) rotator.Deployment {
	t.Helper()
	d, err := f.Redeployer.Check(t.Context(), f.Redeploy)
	if err != nil {
		t.Fatalf("Check: %v", err)
	}
	return d
}

// expect checks all but words, times and addresses.
func (f *RedeployerFixture) expect(t *testing.T, want rotator.Deployment) {
	t.Helper()
	got := f.check(t)
	if got.State != rotator.DeploymentNone && got.URL == "" {
		t.Errorf("there is no URL: %+v", got)
	}
	got.URL, got.Detail, got.FinishedAt = "", "", time.Time{}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Check (-want +got):\n%s", diff)
	}
}

func redeployMark(t *testing.T, f RedeployerFixture) {
	var want int64
	for range 3 {
		if got, err := f.Redeployer.Mark(t.Context(), f.Redeploy); got != (rotator.Mark{Pipeline: want}) || err != nil {
			t.Errorf("Mark = %+v, %v, want %d", got, err, want)
		}
		want = f.Project.Push(f.Redeploy.Ref)
	}
}

func redeployStart(t *testing.T, f RedeployerFixture) {
	f.Project.AddRef("release")
	for i, ref := range []string{f.Redeploy.Ref, "release"} {
		f.Project.Next("pending")
		f.Redeploy.Ref = ref
		f.publish(t)
		d, err := f.Redeployer.Start(t.Context(), f.Redeploy)
		if err != nil {
			t.Fatal(err)
		}
		if d.Kind != "pipeline" || d.ID <= f.Redeploy.After.Pipeline || d.URL == "" || d.Status == "" || d.State != rotator.DeploymentRunning {
			t.Errorf("Start = %+v", d)
		}
		if n := f.Project.PipelineCount(); n != i+1 {
			t.Errorf("there are %d pipelines after %d starts", n, i+1)
		}
	}
}

func redeployRefused(t *testing.T, f RedeployerFixture) {
	f.Redeploy.Ref = "gone"
	if _, err := f.Redeployer.Start(t.Context(), f.Redeploy); !errors.Is(err, rotator.ErrRefused) {
		t.Errorf("Start: %v", err)
	}
	if n := f.Project.PipelineCount(); n != 0 {
		t.Errorf("there are %d pipelines", n)
	}
}

func redeployStates(t *testing.T, f RedeployerFixture) {
	f.Redeploy.Environment = ""
	for status, want := range map[string]rotator.DeploymentState{
		"pending": rotator.DeploymentRunning, "success": rotator.DeploymentSucceeded,
		"failed": rotator.DeploymentFailed, "canceled": rotator.DeploymentFailed, "skipped": rotator.DeploymentFailed,
		"manual": rotator.DeploymentBlocked, "scheduled": rotator.DeploymentBlocked,
	} {
		f.Project.Next(status)
		f.Redeploy.ID = 0
		f.publish(t)
		f.start(t)
		f.expect(t, rotator.Deployment{Kind: "pipeline", ID: f.Redeploy.ID, Status: status, State: want})
	}
}

func redeployGone(t *testing.T, f RedeployerFixture) {
	f.publish(t)
	f.Redeploy.ID = 1 << 40
	f.expect(t, rotator.Deployment{})
}

func redeployLost(t *testing.T, f RedeployerFixture) {
	f.Project.Push(f.Redeploy.Ref)
	f.Redeploy.Environment = ""
	f.publish(t)
	f.expect(t, rotator.Deployment{})
	f.Project.Next("pending", "pending", "pending")
	f.Project.StartAs("somebody", f.Redeploy.Ref)
	f.start(t)
	want := rotator.Deployment{Kind: "pipeline", ID: f.Redeploy.ID, Status: "pending", State: rotator.DeploymentRunning}
	f.start(t) // a second one of ours, which must not be taken for the first
	f.Redeploy.ID = 0
	f.expect(t, want)
}

func redeployNotOurs(t *testing.T, f RedeployerFixture) {
	f.Redeploy.Environment = ""
	f.Project.AddRef("release")
	f.Project.Next("pending", "pending", "pending")
	before := f.Redeploy
	f.start(t) // before the mark
	f.Redeploy = before
	f.publish(t)
	f.Project.Push(f.Redeploy.Ref)
	f.Project.StartAs("somebody", f.Redeploy.Ref)
	other := f
	other.Redeploy.Ref = "release"
	other.start(t)
	f.expect(t, rotator.Deployment{})
}

func redeployUndeployed(t *testing.T, f RedeployerFixture) {
	f.publish(t)
	f.start(t)
	f.expect(t, rotator.Deployment{Kind: "pipeline", ID: f.Redeploy.ID, Status: "success", State: rotator.DeploymentSucceeded})
	f.Redeploy.Environment = "another"
	f.expect(t, rotator.Deployment{Kind: "pipeline", ID: f.Redeploy.ID, Status: "success", State: rotator.DeploymentFailed})
	if d := f.check(t); d.Detail == "" {
		t.Error("a green pipeline that failed is not explained")
	}
}

func redeployLostInputs(t *testing.T, f RedeployerFixture) {
	f.Redeploy.Environment = ""
	f.publish(t)
	f.Project.Next("pending")
	f.start(t) // maybe that of another rotation, with the same token
	f.Redeploy.Inputs, f.Redeploy.ID = map[string]any{"service": "web"}, 0
	f.expect(t, rotator.Deployment{})
}

func redeployHalf(t *testing.T, f RedeployerFixture) {
	f.Project.Beside("beside", f.Redeploy.Environment)
	for status, want := range map[string]rotator.DeploymentState{"failed": rotator.DeploymentFailed, "manual": rotator.DeploymentBlocked, "success": rotator.DeploymentSucceeded} {
		f.Redeploy.ID = 0
		f.publish(t)
		f.Project.Next(status)
		f.start(t)
		f.expect(t, rotator.Deployment{Kind: "pipeline", ID: f.Redeploy.ID, Status: status, State: want})
	}
}

func redeployRunning(t *testing.T, f RedeployerFixture) {
	f.publish(t)
	f.Project.Next("pending")
	f.start(t)
	f.Project.Push(f.Redeploy.Ref)
	f.expect(t, rotator.Deployment{Kind: "pipeline", ID: f.Redeploy.ID, Status: "pending", State: rotator.DeploymentRunning})
}

func redeployServed(t *testing.T, f RedeployerFixture) {
	t.Run("when ours does not exist", func(t *testing.T) {
		f := f
		f.publish(t)
		f.Project.Push(f.Redeploy.Ref)
		d := f.check(t)
		if d.Kind != "deployment" || d.State != rotator.DeploymentSucceeded || d.Status != "success" || d.ID == 0 {
			t.Errorf("Check = %+v", d)
		}
	})
	for _, status := range []string{"failed", "manual", "skipped"} {
		t.Run("when ours is "+status, func(t *testing.T) {
			f := f
			f.publish(t)
			f.Project.Next(status)
			f.start(t)
			if d := f.check(t); d.State == rotator.DeploymentSucceeded || d.State == rotator.DeploymentNone {
				t.Fatalf("before, Check = %+v", d)
			}
			f.Project.Push(f.Redeploy.Ref)
			if d := f.check(t); d.Kind != "deployment" || d.State != rotator.DeploymentSucceeded {
				t.Errorf("Check = %+v", d)
			}
		})
	}
}

func redeployRetried(t *testing.T, f RedeployerFixture) {
	job := f.Project.Run(f.Redeploy.Environment, time.Hour)
	f.publish(t)
	f.Redeploy.PublishedAt = f.Redeploy.PublishedAt.Add(-2 * time.Hour)
	f.expect(t, rotator.Deployment{})
	f.Project.End(job, false)
	if d := f.check(t); d.Kind != "deployment" || d.State != rotator.DeploymentSucceeded {
		t.Errorf("Check = %+v", d)
	}
}

func redeployTooEarly(t *testing.T, f RedeployerFixture) {
	f.Project.Push(f.Redeploy.Ref)
	job := f.Project.Run(f.Redeploy.Environment, time.Hour)
	f.publish(t)
	f.Project.End(job, false) // ends after, but began before
	f.expect(t, rotator.Deployment{})
}

func redeploySecond(t *testing.T, f RedeployerFixture) {
	f.publish(t)
	f.start(t)
	first := f.check(t)
	if first.State != rotator.DeploymentSucceeded {
		t.Fatalf("Check = %+v", first)
	}
	mark, err := f.Redeployer.Mark(t.Context(), f.Redeploy)
	if err != nil {
		t.Fatal(err)
	}
	f.Redeploy.ID, f.Redeploy.After = 0, mark
	// The whole second that publishing is rounded up to would hide what is earlier.
	f.Redeploy.PublishedAt, f.Redeploy.Own = f.Redeploy.PublishedAt.Add(-time.Minute), true
	f.Project.Next("manual")
	f.start(t)
	f.expect(t, rotator.Deployment{Kind: "pipeline", ID: f.Redeploy.ID, Status: "manual", State: rotator.DeploymentBlocked})
	f.Project.Push(f.Redeploy.Ref)
	f.expect(t, rotator.Deployment{Kind: "pipeline", ID: f.Redeploy.ID, Status: "manual", State: rotator.DeploymentBlocked})
}

func redeployUnfinished(t *testing.T, f RedeployerFixture) {
	f.publish(t)
	f.Project.Next("pending", "failed", "manual")
	for range 3 {
		f.Project.StartAs("somebody", f.Redeploy.Ref)
	}
	f.Project.End(f.Project.Run(f.Redeploy.Environment, 0), true)
	f.Project.Run(f.Redeploy.Environment, 0)
	f.expect(t, rotator.Deployment{})
}

func redeployBlocked(t *testing.T, f RedeployerFixture) {
	for _, status := range []string{"manual", "scheduled"} {
		f.Project.Next(status)
		f.Redeploy.ID = 0
		f.publish(t)
		f.start(t)
		f.expect(t, rotator.Deployment{Kind: "pipeline", ID: f.Redeploy.ID, Status: status, State: rotator.DeploymentBlocked})
	}
}

func (f *RedeployerFixture) holders(t *testing.T) []int64 {
	t.Helper()
	jobs, err := f.Redeployer.Holders(t.Context(), f.Redeploy)
	if err != nil {
		t.Fatalf("Holders: %v", err)
	}
	var ids []int64
	for _, j := range jobs {
		if j.Name == "" || j.URL == "" {
			t.Errorf("a person could not find %+v", j)
		}
		ids = append(ids, j.ID)
	}
	slices.Sort(ids)
	return ids
}

func redeployHolders(t *testing.T, f RedeployerFixture) {
	long := f.Project.Run("", 24*time.Hour)
	deploying := f.Project.Run(f.Redeploy.Environment, time.Minute)
	ended := f.Project.Run("", time.Hour)
	f.Project.End(ended, true)
	f.Project.Next("pending")
	f.Project.StartAs("somebody", f.Redeploy.Ref) // waits for a runner, and will get the new pair
	f.publish(t)
	if diff := cmp.Diff([]int64{long, deploying}, f.holders(t)); diff != "" {
		t.Errorf("Holders (-want +got):\n%s", diff)
	}
	f.Redeploy.PublishedAt = f.Redeploy.PublishedAt.Add(-time.Hour)
	if diff := cmp.Diff([]int64{long}, f.holders(t)); diff != "" {
		t.Errorf("with an earlier publishing, Holders (-want +got):\n%s", diff)
	}
	f.Project.End(long, false)
	if got := f.holders(t); len(got) > 0 {
		t.Errorf("Holders = %v after it ended", got)
	}
}

func redeployCaller(t *testing.T, f RedeployerFixture) {
	caller, other := f.Project.Run("", time.Hour), f.Project.Run("", time.Hour)
	f.publish(t)
	f.Redeploy.CallerJob = caller
	if diff := cmp.Diff([]int64{other}, f.holders(t)); diff != "" {
		t.Errorf("Holders (-want +got):\n%s", diff)
	}
}

// PublishedAt is rounded up, so a job may begin after publishing and before it.
func redeployLaterJobs(t *testing.T, f RedeployerFixture) {
	f.Project.Push(f.Redeploy.Ref)
	f.publish(t)
	f.Project.Run("", 0)
	if got := f.holders(t); len(got) > 0 {
		t.Errorf("Holders = %v", got)
	}
}

func redeployFinished(t *testing.T, f RedeployerFixture) {
	f.publish(t)
	for environment, status := range map[string]string{"": "success", f.Redeploy.Environment: "success"} {
		before := f.Project.Now()
		f.Redeploy.Environment, f.Redeploy.ID = environment, 0
		f.Project.Next(status)
		f.start(t)
		if d := f.check(t); d.FinishedAt.Before(before.Add(-time.Second)) || d.FinishedAt.After(f.Project.Now().Add(time.Second)) {
			t.Errorf("with environment %q it finished at %s, between %s and now", environment, d.FinishedAt, before)
		}
	}
	f.Project.Next("failed")
	f.Redeploy.Environment = ""
	f.start(t)
	if d := f.check(t); !d.FinishedAt.IsZero() {
		t.Errorf("what failed finished at %s", d.FinishedAt)
	}
}

// TaggerFixture is a project without tags, and a Tagger that reaches it.
type TaggerFixture struct {
	Tagger        rotator.Tagger
	ProjectID     int64
	Commit, Other string          // two commits of the project
	Tags          func() []string // that the project has
}

// Tagger pins what a rotator.Tagger promises.
func Tagger(t *testing.T, f TaggerFixture) {
	const name = rotator.TagPrefix + "1"
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // the second time its reply was lost
		must(f.Tagger.Tag(t.Context(), f.ProjectID, name, f.Commit))
		if got := f.Tags(); !slices.Equal(got, []string{name}) {
			t.Errorf("the tags are %q", got)
		}
	}
	if err := f.Tagger.Tag(t.Context(), f.ProjectID, name, f.Other); !errors.Is(err, rotator.ErrRefused) {
		t.Errorf("at another commit: %v", err)
	}
	if err := f.Tagger.Tag(t.Context(), f.ProjectID, name+"-gone", "0123456789abcdef0123456789abcdef01234567"); !errors.Is(err, rotator.ErrRefused) {
		t.Errorf("at a commit that is not there: %v", err)
	}
	for range 2 {
		must(f.Tagger.Untag(t.Context(), f.ProjectID, name))
		if got := f.Tags(); len(got) > 0 {
			t.Errorf("the tags are %q", got)
		}
	}
}
