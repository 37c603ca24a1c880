package contract

import (
	"errors"
	"runtime"
	"testing"
	"time"

	"credential-rotator/rotator"
)

// RedeployerPast is a deployment to the environment that was made before the test.
type RedeployerPast struct {
	Ago      time.Duration // when it ended
	Child    bool          // by a job of a child pipeline
	Bridge   bool          // by a job that triggers another pipeline
	Jobless  bool          // by nobody's job, or by one that is gone
	Archived bool          // by a job that is too old to be retried
	Several  bool          // by two jobs of one pipeline
	Own      string        // by a job of a pipeline that was given this variable
}

// liveTests are what a Redeployer promises about what is live, and is deployed again.
func liveTests() map[string]func(*testing.T, RedeployerFixture) {
	return map[string]func(*testing.T, RedeployerFixture){
		"live: the mark is the highest job id too":                       liveMark,
		"live: a start retries the job, in its pipeline":                 liveStart,
		"live: a job of a child pipeline is retried like another":        liveChild,
		"live: the status of a job means what it says":                   liveStates,
		"live: after a failed retry the newest one is retried":           liveNewest,
		"live: what is live is looked at right before":                   liveAgain,
		"live: what ended last is live, and not what began last":         liveLast,
		"live: what cannot be retried is said, and nothing is started":   liveCannot,
		"live: a retry that is not allowed is refused":                   liveGuarded,
		"live: a retry whose reply was lost is found":                    liveLost,
		"live: without an id nothing is found from before the mark":      liveNotOurs,
		"live: somebody's retry that runs is waited for":                 liveTheirs,
		"live: a deployment that began after publishing serves":          liveServed,
		"live: what an older job's deployment has outlasted is no proof": liveOutlasted,
		"live: a job that is gone is none":                               liveGone,
		"live: a retried job does not hold the old key":                  liveHolders,
	}
}

// deployed makes something live, and publishes after it.
func (f *RedeployerFixture) deployed(t *testing.T, p RedeployerPast) (jobID int64) {
	t.Helper()
	f.Redeploy.Live = true
	jobID = f.Project.Deployed(p)
	f.publish(t)
	return jobID
}

func (f *RedeployerFixture) expectJob(t *testing.T, status string, state rotator.DeploymentState) {
	t.Helper()
	f.expect(t, rotator.Deployment{Kind: "deployment", ID: f.Redeploy.ID, Status: status, State: state})
}

func liveMark(t *testing.T, f RedeployerFixture) {
	f.Redeploy.Live = true
	if got, err := f.Redeployer.Mark(t.Context(), f.Redeploy); got != (rotator.Mark{}) || err != nil {
		t.Errorf("Mark = %+v, %v", got, err)
	}
	pipeline := f.Project.Push(f.Redeploy.Ref)
	job := f.Project.Run("", time.Hour)
	if got, err := f.Redeployer.Mark(t.Context(), f.Redeploy); got.Pipeline <= pipeline || got.Job != job || err != nil {
		t.Errorf("Mark = %+v, %v, want job %d", got, err, job)
	}
}

func liveStart(t *testing.T, f RedeployerFixture) {
	job := f.deployed(t, RedeployerPast{Ago: time.Hour, Own: "COLOUR"})
	f.Project.Next("pending")
	pipelines := f.Project.PipelineCount()
	d, err := f.Redeployer.Start(t.Context(), f.Redeploy)
	if err != nil {
		t.Fatal(err)
	}
	if d.Kind != "deployment" || d.ID <= job || d.URL == "" || d.Status != "pending" || d.State != rotator.DeploymentRunning {
		t.Errorf("Start = %+v", d)
	}
	if f.Project.PipelineCount() != pipelines || f.Project.JobCount() != 2 {
		t.Errorf("there are %d pipelines and %d jobs", f.Project.PipelineCount(), f.Project.JobCount())
	}
}

func liveChild(t *testing.T, f RedeployerFixture) {
	f.deployed(t, RedeployerPast{Ago: time.Hour, Child: true})
	f.start(t)
	f.expectJob(t, "success", rotator.DeploymentSucceeded)
	if d := f.check(t); d.FinishedAt.Before(f.Redeploy.PublishedAt.Add(-time.Second)) {
		t.Errorf("it finished at %s, published was %s", d.FinishedAt, f.Redeploy.PublishedAt)
	}
}

func liveStates(t *testing.T, f RedeployerFixture) {
	for status, want := range map[string]rotator.DeploymentState{
		"pending": rotator.DeploymentRunning, "waiting_for_resource": rotator.DeploymentRunning, "success": rotator.DeploymentSucceeded,
		"failed": rotator.DeploymentFailed, "canceled": rotator.DeploymentFailed, "skipped": rotator.DeploymentFailed,
		"manual": rotator.DeploymentBlocked, "scheduled": rotator.DeploymentBlocked,
	} {
		f.Redeploy.ID = 0
		f.deployed(t, RedeployerPast{})
		f.Project.Next(status)
		f.start(t)
		f.expectJob(t, status, want)
		if d := f.check(t); d.State == rotator.DeploymentBlocked && d.Detail == "" {
			t.Errorf("what waits for somebody says nothing: %+v", d)
		}
	}
}

func liveNewest(t *testing.T, f RedeployerFixture) {
	f.deployed(t, RedeployerPast{Ago: time.Hour})
	f.Project.Next("failed", "canceled")
	for _, status := range []string{"failed", "canceled", "success"} {
		before := f.Redeploy.ID
		f.publish(t)
		f.start(t)
		if f.Redeploy.ID <= before {
			t.Errorf("job %d was started after job %d", f.Redeploy.ID, before)
		}
		if d := f.check(t); d.Status != status {
			t.Errorf("%+v, want %s", d, status)
		}
	}
}

func liveAgain(t *testing.T, f RedeployerFixture) {
	f.deployed(t, RedeployerPast{Ago: 2 * time.Hour})
	newer := f.Project.Deployed(RedeployerPast{Ago: time.Hour})
	f.start(t)
	if got := f.Project.RetryOf(f.Redeploy.ID); got != newer {
		t.Errorf("job %d was retried, and live is that of job %d", got, newer)
	}
}

func liveLast(t *testing.T, f RedeployerFixture) {
	last := f.deployed(t, RedeployerPast{Ago: time.Minute})
	f.Project.Deployed(RedeployerPast{Ago: time.Hour})
	f.start(t)
	if got := f.Project.RetryOf(f.Redeploy.ID); got != last {
		t.Errorf("job %d was retried, and live is that of job %d", got, last)
	}
}

func liveCannot(t *testing.T, f RedeployerFixture) {
	f.Redeploy.Live = true
	cannot := func(what string) {
		t.Helper()
		f.publish(t)
		jobs := f.Project.JobCount()
		_, err := f.Redeployer.Start(t.Context(), f.Redeploy)
		if why := (*rotator.CannotRedeployError)(nil); !errors.As(err, &why) || why.Why == "" || !errors.Is(err, rotator.ErrRefused) {
			t.Errorf("%s: Start: %v", what, err)
		}
		if n := f.Project.JobCount(); n != jobs {
			t.Errorf("%s: there are %d jobs more", what, n-jobs)
		}
		f.expect(t, rotator.Deployment{})
	}
	environment := f.Redeploy.Environment
	f.Redeploy.Environment = "unknown"
	cannot("an unknown environment")
	f.Redeploy.Environment = environment
	cannot("no deployment")
	for what, past := range map[string]RedeployerPast{
		"a deployment without a job": {Jobless: true}, "a job that triggers a pipeline": {Bridge: true}, "an archived job": {Archived: true},
		"two jobs": {Several: true}, "a key id of its own": {Own: "AWS_ACCESS_KEY_ID"}, "a secret of its own": {Own: "AWS_SECRET_ACCESS_KEY"},
	} {
		f.Project.Deployed(past)
		cannot(what)
	}
	f.Project.Deployed(RedeployerPast{})
	f.Project.Stop(environment)
	cannot("a stopped environment")
}

func liveGuarded(t *testing.T, f RedeployerFixture) {
	f.deployed(t, RedeployerPast{Ago: time.Hour})
	f.Project.Guard(f.Redeploy.Environment)
	_, err := f.Redeployer.Start(t.Context(), f.Redeploy)
	if why := (*rotator.CannotRedeployError)(nil); !errors.Is(err, rotator.ErrRefused) || errors.As(err, &why) {
		t.Errorf("Start: %v", err)
	}
}

func liveLost(t *testing.T, f RedeployerFixture) {
	f.deployed(t, RedeployerPast{Ago: time.Hour})
	f.expect(t, rotator.Deployment{})
	for _, status := range []string{"failed", "pending"} {
		f.Project.Next(status)
		f.publish(t)
		f.start(t)
		want := rotator.Deployment{Kind: "deployment", ID: f.Redeploy.ID, Status: status, State: rotator.DeploymentFailed}
		if status == "pending" {
			want.State = rotator.DeploymentRunning
		}
		f.Redeploy.ID = 0
		f.expect(t, want)
	}
}

func liveNotOurs(t *testing.T, f RedeployerFixture) {
	job := f.deployed(t, RedeployerPast{Ago: time.Hour})
	f.expect(t, rotator.Deployment{})
	f.Project.Next("pending")
	f.Project.Retry(job) // before the mark
	f.publish(t)
	f.expect(t, rotator.Deployment{})
	f.Redeploy.After.Job = 0 // of a record that knows no mark
	f.expect(t, rotator.Deployment{})
}

func liveTheirs(t *testing.T, f RedeployerFixture) {
	job := f.deployed(t, RedeployerPast{Ago: time.Hour})
	f.Project.Next("pending")
	theirs := f.Project.Retry(job)
	f.start(t)
	if n := f.Project.JobCount(); f.Redeploy.ID != theirs || n != 2 {
		t.Errorf("job %d was started, somebody's is %d, there are %d", f.Redeploy.ID, theirs, n)
	}
	f.expectJob(t, "pending", rotator.DeploymentRunning)
}

func liveServed(t *testing.T, f RedeployerFixture) {
	f.deployed(t, RedeployerPast{Ago: time.Hour})
	f.Project.Next("failed")
	f.start(t)
	f.expectJob(t, "failed", rotator.DeploymentFailed)
	f.Project.Push(f.Redeploy.Ref)
	for range 2 {
		d := f.check(t)
		if d.Kind != "deployment" || d.ID == f.Redeploy.ID || d.ID == 0 || d.State != rotator.DeploymentSucceeded || d.Status != "success" {
			t.Errorf("Check = %+v", d)
		}
		f.Redeploy.ID = 0 // and when the retry is not known
	}
}

func liveOutlasted(t *testing.T, f RedeployerFixture) {
	older := f.Project.Run(f.Redeploy.Environment, time.Hour)
	f.deployed(t, RedeployerPast{Ago: 2 * time.Hour})
	f.start(t)
	f.expectJob(t, "success", rotator.DeploymentSucceeded)
	for began := f.Project.Now(); f.Project.Now().Sub(began) < 2*time.Millisecond; { // GitLab tells milliseconds
		runtime.Gosched()
	}
	f.Project.End(older, false)
	f.expectJob(t, "success", rotator.DeploymentFailed)
}

func liveGone(t *testing.T, f RedeployerFixture) {
	f.deployed(t, RedeployerPast{Ago: time.Hour})
	f.Redeploy.ID = 1 << 40
	f.expect(t, rotator.Deployment{})
}

func liveHolders(t *testing.T, f RedeployerFixture) {
	f.deployed(t, RedeployerPast{Ago: time.Hour})
	f.Project.Next("running")
	f.start(t)
	f.expectJob(t, "running", rotator.DeploymentRunning)
	if got := f.holders(t); len(got) > 0 {
		t.Errorf("Holders = %v", got)
	}
}
