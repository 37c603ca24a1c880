package gitlab_test

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"credential-rotator/rotator"
)

const (
	environmentsPath = "GET /projects/4711/environments"
	deploymentsPath  = "GET /projects/4711/deployments"
	jobsPath         = "GET /projects/4711/pipelines/59/jobs"
	ownPath          = "GET /projects/4711/pipelines/59/variables"
	retryPath        = "POST /projects/4711/jobs/664/retry"
)

func theLiveRedeploy() rotator.Redeploy {
	r := theRedeploy()
	r.Live, r.Environment, r.After.Job = true, "production", 700
	r.Variables = [2]string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
	return r
}

// jobJSON is a job as the API shows it.
func jobJSON(id int64, name, status, more string) string {
	return fmt.Sprintf(`{"id":%d,"name":%q,"status":%q,"ref":"v1","web_url":"%sjobs/%[1]d","coverage":null,"queued_duration":0.4,
		"created_at":"1999-12-01T00:00:00Z","pipeline":{"id":59}%[5]s}`, id, name, status, webURL, more)
}

// liveReplies are those of an environment whose deployment can be made again.
func liveReplies() map[string]answer {
	replies := goodReplies()
	maps.Copy(replies, map[string]answer{
		environmentsPath: ok(`[{"id":9,"name":"production","state":"available"}]`),
		deploymentsPath:  ok(list(liveDeployment(42, 664, "2026-11-01T00:00:00Z"))),
		jobsPath:         ok(list(jobJSON(664, "deploy", "success", ""), jobJSON(665, "build", "success", ""))),
		ownPath:          ok(`[{"key":"COLOUR","value":"red","variable_type":"env_var"}]`),
		retryPath:        {status: 201, body: jobJSON(701, "deploy", "pending", "")},
		"GET /projects/4711/repository/branches/v1": {status: 404, body: `{"message":"404 Branch Not Found"}`},
		"GET /projects/4711/repository/tags/v1":     ok(`{"name":"v1","protected":true}`),
	})
	return replies
}

func liveDeployment(id, job int64, finished string) string {
	return fmt.Sprintf(`{"id":%d,"ref":"v1","status":"success","created_at":"2026-11-01T00:00:00Z","updated_at":"2026-11-01T00:00:00Z",
		"environment":{"id":9,"name":"production"},"deployable":{"id":%d,"status":"success","name":"deploy","finished_at":%q,
		"pipeline":{"id":59,"web_url":"%spipelines/59"}}}`, id, job, finished, webURL)
}

func TestStartOfWhatIsLiveRetriesItsJob(t *testing.T) {
	retried := rotator.Deployment{Kind: "deployment", ID: 701, URL: webURL + "jobs/701", Status: "pending", State: rotator.DeploymentRunning}
	running := rotator.Deployment{Kind: "deployment", ID: 699, URL: webURL + "jobs/699", Status: "running", State: rotator.DeploymentRunning}
	for name, c := range map[string]struct {
		replies map[string]answer
		want    rotator.Deployment
		last    string
	}{
		"its own":                     {want: retried, last: retryPath},
		"somebody's that runs":        {map[string]answer{jobsPath: ok(list(jobJSON(699, "deploy", "running", "")))}, running, ownPath},
		"somebody's that has failed":  {map[string]answer{jobsPath: ok(list(jobJSON(699, "deploy", "failed", ""))), "POST /projects/4711/jobs/699/retry": {status: 201, body: jobJSON(701, "deploy", "pending", "")}}, retried, "POST /projects/4711/jobs/699/retry"},
		"of what was the last to end": {map[string]answer{deploymentsPath: ok(list(strings.ReplaceAll(liveDeployment(43, 670, "2026-10-31T00:00:00Z"), `"id":59`, `"id":58`), liveDeployment(42, 664, "2026-11-01T00:00:00Z")))}, retried, retryPath},
	} {
		t.Run(name, func(t *testing.T) {
			replies := liveReplies()
			maps.Copy(replies, c.replies)
			client, s := client(t, routes(replies))
			got, err := client.Start(t.Context(), theLiveRedeploy())
			if diff := cmp.Diff(c.want, got); diff != "" || err != nil {
				t.Errorf("%v (-want +got):\n%s", err, diff)
			}
			if last := s.calls[len(s.calls)-1]; last.String() != c.last || len(s.calls) > 5 {
				t.Errorf("calls:\n%s", made(s.calls))
			}
			if s.calls[0].query != "name=production" || s.calls[1].query != "environment=production&order_by=id&per_page=20&sort=desc&status=success" {
				t.Errorf("asked for %s and %s", s.calls[0].query, s.calls[1].query)
			}
		})
	}
}

func TestWhatCannotBeDeployedAgainSaysWhy(t *testing.T) {
	notRetryable := answer{status: 403, body: `{"message":"403 Forbidden - Job is not retryable"}`}
	for name, c := range map[string]struct {
		path   string
		answer answer
		says   string
		cannot bool // and a pipeline may do it instead
	}{
		"no environment":       {environmentsPath, ok(`[]`), `project 4711 has no environment "production": correct environment`, true},
		"a stopped one":        {environmentsPath, ok(`[{"id":9,"name":"production","state":"stopped"}]`), "environment production is stopped", true},
		"one that is stopping": {environmentsPath, ok(`[{"id":9,"name":"production","state":"stopping"}]`), "environment production is stopping", true},
		"nothing deployed":     {deploymentsPath, ok(`[]`), "nothing has been deployed to production yet", true},
		"no job":               {deploymentsPath, ok(`[{"id":42,"ref":"v1","status":"success","deployable":null}]`), "deployment 42) has no job to retry", true},
		"a bridge":             {jobsPath, ok(`[]`), "which triggers another pipeline or is gone", true},
		"several jobs": {
			deploymentsPath, ok(list(strings.ReplaceAll(liveDeployment(43, 663, "2026-10-31T00:00:00Z"), `"name":"deploy"`, `"name":"worker"`), liveDeployment(42, 664, "2026-11-01T00:00:00Z"))),
			"was deployed by several jobs of pipeline 59 (deploy and worker, " + webURL + "pipelines/59), and retrying one leaves the others with the old key", true,
		},
		"a pipeline that went": {jobsPath, answer{status: 404, body: `{"message":"404 Not found"}`}, "which triggers another pipeline or is gone", true},
		"a pair of its own":    {ownPath, ok(`[{"key":"AWS_ACCESS_KEY_ID","value":"its own"}]`), "was deployed by pipeline 59 (" + webURL + "pipelines/59), which was given AWS_ACCESS_KEY_ID when it was started: its jobs keep that, and would deploy the old key again; deploy once by a pipeline without it", true},
		"archived":             {retryPath, notRetryable, "job deploy (" + webURL + "jobs/664) cannot be retried: it is archived", true},
		"not allowed":          {retryPath, answer{status: 403, body: `{"message":"403 Forbidden"}`}, "let it deploy to production if that is a protected environment", false},
		"a job that is gone":   {retryPath, answer{status: 404, body: `{"message":"404 Not found"}`}, "it does not exist", false},
		"too low a scope":      {retryPath, answer{status: 403, body: `{"error":"insufficient_scope","error_description":"The request requires higher privileges than provided by the access token."}`}, "lacks the scope api", false},
	} {
		t.Run(name, func(t *testing.T) {
			replies := liveReplies()
			replies[c.path] = c.answer
			client, _ := client(t, routes(replies))
			_, err := client.Start(t.Context(), theLiveRedeploy())
			says(t, err, "deploying again what is live in production of project 4711: ", c.says)
			if cannot := (*rotator.CannotRedeployError)(nil); errors.As(err, &cannot) != c.cannot || !isRefused(err) {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestSomebodyWhoWasFasterIsNoReasonToFallBack(t *testing.T) {
	for status, want := range map[string]rotator.DeploymentState{"running": rotator.DeploymentRunning, "failed": rotator.DeploymentNone} {
		tried := false
		client, _ := client(t, func(n int, c call) answer {
			switch {
			case c.String() == retryPath:
				tried = true
				return answer{status: 403, body: `{"message":"403 Forbidden - Job is not retryable"}`}
			case c.String() == jobsPath && tried:
				return ok(list(jobJSON(700, "deploy", status, "")))
			}
			return routes(liveReplies())(n, c)
		})
		got, err := client.Start(t.Context(), theLiveRedeploy())
		if cannot := (*rotator.CannotRedeployError)(nil); got.State != want || (err == nil) != (status == "running") || errors.As(err, &cannot) {
			t.Errorf("%s: %+v, %v", status, got, err)
		}
	}
}

func TestARetryWhoseReplyIsLostIsNotRefused(t *testing.T) {
	for name, a := range map[string]answer{
		"lost": {err: io.EOF}, "502": {status: 502}, "null": ok(`null`), "no job": ok(`{}`), "the old job": ok(jobJSON(664, "deploy", "success", "")),
	} {
		replies := liveReplies()
		replies[retryPath] = a
		client, s := client(t, routes(replies))
		if _, err := client.Start(t.Context(), theLiveRedeploy()); err == nil || isRefused(err) || len(s.calls) != 5 {
			t.Errorf("%s: %d calls: %v", name, len(s.calls), err)
		}
	}
}

func TestCheckOfARetriedJob(t *testing.T) {
	const jobPath = "GET /projects/4711/jobs/701"
	its := func(status, job string) string {
		return fmt.Sprintf(`{"id":50,"status":%q,"updated_at":"2026-11-21T20:03:01Z","deployable":{"id":701,"status":%q,"name":"deploy",
			"started_at":"2026-11-21T20:00:00.900Z","finished_at":"2026-11-21T20:03:00Z","pipeline":{"id":59,"web_url":"%spipelines/59"}}}`, status, job, webURL)
	}
	older := `{"id":51,"status":"success","deployable":{"id":690,"status":"success","started_at":"2026-11-21T19:00:00Z","finished_at":"2026-11-21T20:04:00Z","pipeline":{"id":58}}}`
	for name, c := range map[string]struct {
		job, list string
		state     rotator.DeploymentState
		detail    string
		calls     int
	}{
		"it runs: nothing else is asked": {jobJSON(701, "deploy", "running", ""), "", rotator.DeploymentRunning, "", 1},
		"its resource group is taken":    {jobJSON(701, "deploy", "waiting_for_resource", ""), "", rotator.DeploymentRunning, "it waits for its resource group, which another job holds", 1},
		"deployed, in that very second":  {jobJSON(701, "deploy", "success", ""), list(its("success", "success")), rotator.DeploymentSucceeded, "", 2},
		"its deployment follows":         {jobJSON(701, "deploy", "success", ""), list(its("running", "success")), rotator.DeploymentRunning, "", 2},
		"it deployed nothing":            {jobJSON(701, "deploy", "success", ""), `[]`, rotator.DeploymentFailed, "job 701 succeeded, but what is live in production is not what it deployed (" + webURL + "jobs/701)", 2},
		"an older job has outlasted it":  {jobJSON(701, "deploy", "success", ""), list(older, its("success", "success")), rotator.DeploymentFailed, "job 701 succeeded, but what is live in production is not what it deployed (" + webURL + "jobs/701)", 2},
		"it has to be approved":          {jobJSON(701, "deploy", "manual", ""), list(its("blocked", "manual")), rotator.DeploymentBlocked, "its deployment to production has to be approved (" + webURL + "jobs/701)", 2},
		"it has to be started":           {jobJSON(701, "deploy", "manual", ""), list(its("created", "manual")), rotator.DeploymentBlocked, "start it: " + webURL + "jobs/701", 2},
		"its script failed":              {jobJSON(701, "deploy", "failed", `,"failure_reason":"script_failure"`), `[]`, rotator.DeploymentFailed, "", 2},
		"its artifacts have expired":     {jobJSON(701, "deploy", "failed", `,"failure_reason":"missing_dependency_failure"`), `[]`, rotator.DeploymentFailed, "job deploy is failed: the artifacts that it needs have expired or were deleted; deploy once by a pipeline, and keep them longer than a key lives (" + webURL + "jobs/701)", 2},
		"it was overtaken":               {jobJSON(701, "deploy", "failed", `,"failure_reason":"failed_outdated_deployment_job"`), `[]`, rotator.DeploymentFailed, "job deploy is failed: a newer deployment has overtaken it, and the project prevents outdated deployments; the next try deploys that one again (" + webURL + "jobs/701)", 2},
	} {
		t.Run(name, func(t *testing.T) {
			client, s := client(t, routes(map[string]answer{jobPath: ok(c.job), deploymentsPath: ok(c.list)}))
			r := theLiveRedeploy()
			r.ID = 701
			got, err := client.Check(t.Context(), r)
			if err != nil || got.Kind != "deployment" || got.ID != 701 || got.State != c.state || got.Detail != c.detail {
				t.Errorf("%+v, %v", got, err)
			}
			if done := c.state == rotator.DeploymentSucceeded; got.FinishedAt.IsZero() == done {
				t.Errorf("finished at %s", got.FinishedAt)
			}
			if len(s.calls) != c.calls {
				t.Errorf("calls:\n%s", made(s.calls))
			}
		})
	}
}

// A job with retry: in its definition is tried again by GitLab itself.
func TestTheNextTryOfAJobThatFailedIsWaitedFor(t *testing.T) {
	its := func(job int64, status string) string {
		return strings.ReplaceAll(liveDeployment(job, job, "2026-11-21T20:03:00Z"), `"status":"success"`, fmt.Sprintf(`"status":%q`, status))
	}
	failed := its(701, "failed")
	for name, c := range map[string]struct {
		list  string
		id    int64
		state rotator.DeploymentState
	}{
		"it runs":             {list(its(702, "running"), failed), 702, rotator.DeploymentRunning},
		"it failed as well":   {list(its(702, "failed"), failed), 701, rotator.DeploymentFailed},
		"of another pipeline": {list(strings.ReplaceAll(its(702, "running"), `"id":59`, `"id":61`), failed), 701, rotator.DeploymentFailed},
		"of another job":      {list(strings.ReplaceAll(its(702, "running"), `"name":"deploy"`, `"name":"worker"`), failed), 701, rotator.DeploymentFailed},
		"an earlier one":      {list(failed, its(700, "running")), 701, rotator.DeploymentFailed},
	} {
		t.Run(name, func(t *testing.T) {
			client, s := client(t, routes(map[string]answer{"GET /projects/4711/jobs/701": ok(jobJSON(701, "deploy", "failed", "")), deploymentsPath: ok(c.list)}))
			r := theLiveRedeploy()
			r.ID = 701
			got, err := client.Check(t.Context(), r)
			if err != nil || got.ID != c.id || got.State != c.state || got.URL != fmt.Sprintf("%sjobs/%d", webURL, c.id) || len(s.calls) != 2 {
				t.Errorf("%+v, %v\n%s", got, err, made(s.calls))
			}
		})
	}
}

func TestCheckFindsTheRetryOfALostReply(t *testing.T) {
	live := liveDeployment(42, 664, "2026-11-01T00:00:00Z")
	its := func(status string) string {
		return strings.Replace(liveDeployment(50, 701, "2026-11-21T20:03:00Z"), `"status":"success"`, fmt.Sprintf(`"status":%q`, status), 1)
	}
	for name, c := range map[string]struct {
		job, list string // the deployments of the last look
		want      int64
		state     rotator.DeploymentState
		calls     int
	}{
		"after the mark":                {jobJSON(701, "deploy", "running", ""), list(live), 701, rotator.DeploymentRunning, 5},
		"the live one, from before it":  {jobJSON(664, "deploy", "success", ""), list(live), 0, rotator.DeploymentNone, 5},
		"somebody's from before it":     {jobJSON(700, "deploy", "running", ""), list(live), 0, rotator.DeploymentNone, 5},
		"green, its deployment is late": {jobJSON(701, "deploy", "success", ""), list(its("running"), live), 701, rotator.DeploymentRunning, 6},
		"green, a moment ago":           {jobJSON(701, "deploy", "success", ""), list(its("success"), live), 701, rotator.DeploymentSucceeded, 6},
		// Else the same job would be waited for again and again, and never another one tried.
		"green, it deployed nothing": {jobJSON(701, "deploy", "success", ""), list(live), 701, rotator.DeploymentFailed, 6},
	} {
		t.Run(name, func(t *testing.T) {
			replies := liveReplies()
			replies[jobsPath] = ok(list(c.job))
			client, s := client(t, func(n int, made call) answer {
				if n > 5 && made.String() == deploymentsPath {
					return ok(c.list)
				}
				return routes(replies)(n, made)
			})
			got, err := client.Check(t.Context(), theLiveRedeploy())
			if err != nil || got.ID != c.want || got.State != c.state || len(s.calls) != c.calls {
				t.Errorf("%+v, %v\n%s", got, err, made(s.calls))
			}
		})
	}
}

func TestPreflightOfWhatIsLive(t *testing.T) {
	forbidden := answer{status: 403, body: `{"message":"403 Forbidden"}`}
	for name, c := range map[string]struct {
		replies  map[string]answer
		fallback string
		want     seen
		calls    int
	}{
		"all is well":      {want: seen{Ref: "main", LiveRef: "v1", LiveRefProtected: true}, calls: 8},
		"with a fallback":  {fallback: "pipeline", want: seen{Ref: "main", RefProtected: true, LiveRef: "v1", LiveRefProtected: true}, calls: 9},
		"its ref is gone":  {replies: map[string]answer{"GET /projects/4711/repository/tags/v1": {status: 404, body: `{"message":"404 Tag Not Found"}`}}, want: seen{Ref: "main", LiveRef: "v1"}, calls: 8},
		"nothing deployed": {replies: map[string]answer{deploymentsPath: ok(`[]`)}, want: seen{Ref: "main", CannotRedeploy: "nothing has been deployed to production yet, so there is nothing to deploy again: deploy it once"}, calls: 4},
		"it is old": {
			replies: map[string]answer{jobsPath: ok(list(strings.ReplaceAll(jobJSON(664, "deploy", "success", ""), "1999-12", "1999-08")))},
			want: seen{Ref: "main", LiveRef: "v1", LiveRefProtected: true, Warnings: []string{
				"job deploy (" + webURL + "jobs/664), which is to be retried, is of 1999-08-01: GitLab.com archives jobs after three months, and then they cannot be",
			}}, calls: 8,
		},
		"another job deploys there too": {
			replies: map[string]answer{deploymentsPath: ok(list(strings.NewReplacer(`"id":59`, `"id":58`, `"name":"deploy"`, `"name":"worker"`).Replace(liveDeployment(41, 600, "2026-10-31T00:00:00Z")), liveDeployment(42, 664, "2026-11-01T00:00:00Z")))},
			want: seen{Ref: "main", LiveRef: "v1", LiveRefProtected: true, Warnings: []string{
				"job deploy is the one that is retried, and worker deployed to production as well: what that brought, if it is still in use, is left with the old key, which is retired: give it an environment of its own, or redeploy by pipeline",
			}}, calls: 8,
		},
		"environments that the token may not read": {replies: map[string]answer{environmentsPath: forbidden}, want: seen{Ref: "main", Faults: []string{
			"the environments, deployments, jobs and pipeline variables of project 4711 cannot be read: gitlab.example.com answered 403 Forbidden: the GitLab token needs the scope api, and its user the role Maintainer in the project",
		}}, calls: 3},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { // at 2000-01-01
				replies := liveReplies()
				maps.Copy(replies, c.replies)
				client, s := client(t, routes(replies))
				r := theRequest()
				r.Redeploy, r.Environment, r.Fallback = rotator.RedeployDeployment, "production", c.fallback
				got, err := lookBefore(t.Context(), client, r)
				if diff := cmp.Diff(c.want, got); diff != "" || err != nil {
					t.Errorf("%v (-want +got):\n%s", err, diff)
				}
				if looks(s.calls) != c.calls {
					t.Errorf("calls:\n%s", made(s.calls))
				}
			})
		})
	}
}

func TestMarkOfWhatIsLiveIsTheNewestJobToo(t *testing.T) {
	client, s := client(t, routes(map[string]answer{"GET /projects/4711/pipelines": ok(`[{"id":60}]`), "GET /projects/4711/jobs": ok(list(jobJSON(700, "x", "running", "")))}))
	got, err := client.Mark(t.Context(), theLiveRedeploy())
	if want := (rotator.Mark{Pipeline: 60, Job: 700}); got != want || err != nil || s.calls[1].query != "per_page=1" {
		t.Errorf("Mark = %+v, %v (%s)", got, err, s.calls[1].query)
	}
}
