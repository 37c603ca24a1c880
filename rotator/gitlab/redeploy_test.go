package gitlab_test

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"credential-rotator/rotator"
)

const webURL = "https://gitlab.example.com/shop/billing/-/"

// pipelineJSON is a pipeline as the API shows it, with the fields that have been
// trouble: queued_duration is an integer or null, coverage a string or null.
func pipelineJSON(id int64, status string) string {
	return fmt.Sprintf(`{"id":%d,"iid":21,"project_id":4711,"status":%q,"source":"api","ref":"main","tag":false,
		"created_at":"2026-11-21T20:00:03.747Z","updated_at":"2026-11-21T20:05:00Z","finished_at":"2026-11-21T20:04:00.5Z",
		"web_url":"%spipelines/%d","queued_duration":null,"coverage":null,"duration":null,"yaml_errors":null,
		"user":{"id":1,"username":"project_4711_bot_ab"},"detailed_status":{"text":"x","illustration":null}}`, id, status, webURL, id)
}

func TestMarkIsTheNewestPipeline(t *testing.T) {
	for body, want := range map[string]int64{`[{"id":60,"status":"success"}]`: 60, `[]`: 0, `[null]`: 0} {
		c, s := client(t, always(ok(body)))
		got, err := c.Mark(t.Context(), theRedeploy())
		if err != nil || got.Pipeline != want || s.calls[0].query != "order_by=id&per_page=1&sort=desc" {
			t.Errorf("Mark = %+v, %v (%s)", got, err, s.calls[0].query)
		}
	}
}

func TestStartMakesAPipelineWithoutVariables(t *testing.T) {
	c, s := client(t, always(answer{status: 201, body: pipelineJSON(61, "created")}))
	got, err := c.Start(t.Context(), theRedeploy())
	want := rotator.Deployment{Kind: "pipeline", ID: 61, URL: webURL + "pipelines/61", Status: "created", State: rotator.DeploymentRunning}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	if want := `{"ref":"main"}`; s.calls[0].body != want || made(s.calls) != "POST /projects/4711/pipeline" {
		t.Errorf("%s %s", made(s.calls), s.calls[0].body)
	}
}

func TestAPipelineThatGitLabDoesNotMakeIsRefusedWithWhatToDo(t *testing.T) {
	for base, advice := range map[string]string{
		"Reference not found": "correct ref",
		"Pipeline will not run for the selected trigger. The rules configuration prevented any jobs from being added to the pipeline.": `let the rules of a job accept $CI_PIPELINE_SOURCE == "api" on main`,
		"Pipeline filtered out by workflow rules.":                                   `let workflow:rules accept $CI_PIPELINE_SOURCE == "api"`,
		"Too many pipelines created in the last minute. Try again later.":            "the next try will do",
		"Insufficient permissions to create a new pipeline":                          "push or merge to main",
		"You do not have sufficient permission to run a pipeline on 'main'. Please…": "push or merge to main",
		"Pipelines are disabled!":                                                    "switch CI/CD on",
		"Missing CI config file":                                                     "mend .gitlab-ci.yml on main",
	} {
		c, s := client(t, always(answer{status: 400, body: fmt.Sprintf(`{"message":{"base":[%q]}}`, base)}))
		_, err := c.Start(t.Context(), theRedeploy())
		says(t, err, "starting a pipeline on main of project 4711: refused: "+strings.TrimRight(base, ".")+": ", advice)
		if !isRefused(err) || len(s.calls) != 1 {
			t.Errorf("%d calls: %v", len(s.calls), err)
		}
	}
}

func TestAPipelineWhoseReplyIsLostIsNotRefused(t *testing.T) {
	for name, a := range map[string]answer{
		"lost": {err: io.EOF}, "no pipeline": ok(`{}`), "null": ok(`null`), "502": {status: 502},
	} {
		c, s := client(t, always(a))
		_, err := c.Start(t.Context(), theRedeploy())
		says(t, err, "starting a pipeline on main of project 4711: ")
		if isRefused(err) || len(s.calls) != 1 {
			t.Errorf("%s: %d calls: %v", name, len(s.calls), err)
		}
	}
}

func TestCheckSaysWhatAStatusMeans(t *testing.T) {
	for status, want := range map[string]rotator.DeploymentState{
		"created": rotator.DeploymentRunning, "waiting_for_resource": rotator.DeploymentRunning, "preparing": rotator.DeploymentRunning,
		"waiting_for_callback": rotator.DeploymentRunning, "pending": rotator.DeploymentRunning, "running": rotator.DeploymentRunning,
		"canceling": rotator.DeploymentRunning, "a_word_of_the_future": rotator.DeploymentRunning,
		"success": rotator.DeploymentSucceeded,
		"failed":  rotator.DeploymentFailed, "canceled": rotator.DeploymentFailed, "skipped": rotator.DeploymentFailed,
		"manual": rotator.DeploymentBlocked, "scheduled": rotator.DeploymentBlocked,
	} {
		c, s := client(t, routes(map[string]answer{"GET /projects/4711/pipelines/61": ok(pipelineJSON(61, status))}))
		r := theRedeploy()
		r.ID = 61
		got, err := c.Check(t.Context(), r)
		if err != nil || got.State != want || got.ID != 61 || got.Status != status {
			t.Errorf("%s: %+v, %v", status, got, err)
		}
		if finished := got.FinishedAt.Equal(instant("2026-11-21T20:04:00.5Z")); finished != (want == rotator.DeploymentSucceeded) {
			t.Errorf("%s: finished at %s", status, got.FinishedAt)
		}
		if want == rotator.DeploymentRunning && len(s.calls) != 1 {
			t.Errorf("%s took %d calls", status, len(s.calls))
		}
	}
}

func TestCheckOfAPipelineThatIsGone(t *testing.T) {
	c, _ := client(t, routes(nil))
	r := theRedeploy()
	r.ID = 61
	if got, err := c.Check(t.Context(), r); err != nil || got != (rotator.Deployment{}) {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestCheckNamesTheJobs(t *testing.T) {
	for status, want := range map[string]string{
		"manual": "job approve is manual (u1), job approve is manual (u3), job approve is manual (u4)",
		"failed": "pipeline 61 is failed: job approve is failed (u1), job approve is failed (u3), job approve is failed (u4)",
	} {
		job := `{"id":%d,"name":"approve","status":%q,"allow_failure":%t,"web_url":"u%[1]d"}`
		var jobs []string
		for i := range 5 {
			jobs = append(jobs, fmt.Sprintf(job, i+1, status, i == 1))
		}
		c, s := client(t, routes(map[string]answer{
			"GET /projects/4711/pipelines/61":      ok(pipelineJSON(61, status)),
			"GET /projects/4711/pipelines/61/jobs": ok(list(jobs...)),
		}))
		r := theRedeploy()
		r.ID = 61
		got, err := c.Check(t.Context(), r)
		if err != nil || got.Detail != want {
			t.Errorf("%s: %q, %v", status, got.Detail, err)
		}
		if q := s.calls[1].query; q != "per_page=100&scope%5B%5D="+status {
			t.Errorf("asked for %s", q)
		}
	}
}

// listed is a pipeline in a list.
func listed(id int64, source, ref string) string {
	return fmt.Sprintf(`{"id":%d,"source":%q,"ref":%q,"status":"running"}`, id, source, ref)
}

func TestCheckFindsThePipelineThatALostReplyStarted(t *testing.T) {
	for name, c := range map[string]struct {
		all, mine string // the lists, of everybody and of the token's user
		want      int64
		calls     int
	}{
		"the lowest above the mark":   {list(listed(64, "api", "main"), listed(62, "api", "main"), listed(60, "api", "main")), list(listed(64, "api", "main"), listed(62, "api", "main"), listed(60, "api", "main")), 62, 4},
		"nothing":                     {`[]`, `[]`, 0, 1},
		"all below the mark":          {list(listed(60, "api", "main"), listed(59, "api", "main")), `[]`, 0, 1},
		"somebody else's":             {list(listed(61, "api", "main")), `[]`, 0, 3},
		"filters that are not obeyed": {list(listed(63, "push", "main"), listed(62, "api", "other")), `[]`, 0, 1},
	} {
		t.Run(name, func(t *testing.T) {
			client, s := client(t, func(_ int, call call) answer {
				switch {
				case call.path == "/user":
					return ok(`{"id":1,"username":"project_4711_bot_ab"}`)
				case call.path != "/projects/4711/pipelines":
					return ok(pipelineJSON(c.want, "running"))
				case strings.Contains(call.query, "username=project_4711_bot_ab"):
					return ok(c.mine)
				}
				return ok(c.all)
			})
			got, err := client.Check(t.Context(), theRedeploy())
			if err != nil || got.ID != c.want || (got.State == rotator.DeploymentNone) != (c.want == 0) || len(s.calls) != c.calls {
				t.Errorf("%+v, %v after\n%s", got, err, made(s.calls))
			}
			if want := "order_by=id&per_page=100&ref=main&sort=desc&source=api"; s.calls[0].query != want {
				t.Errorf("asked for %s", s.calls[0].query)
			}
		})
	}
}

func TestALostPipelineMayBeAPageFurther(t *testing.T) {
	c, s := client(t, func(_ int, call call) answer {
		a := ok(`{"id":1,"username":"bot"}`)
		switch {
		case strings.Contains(call.query, "page=2"):
			a = ok(list(listed(61, "api", "main"), listed(60, "api", "main")))
			a.header = map[string]string{"X-Next-Page": "3"}
		case call.path == "/projects/4711/pipelines":
			a = ok(list(listed(63, "api", "main"), listed(62, "api", "main")))
			a.header = map[string]string{"X-Next-Page": "2"}
		case call.path == "/projects/4711/pipelines/61":
			a = ok(pipelineJSON(61, "running"))
		}
		return a
	})
	got, err := c.Check(t.Context(), theRedeploy())
	if err != nil || got.ID != 61 || len(s.calls) != 6 {
		t.Errorf("%+v, %v after\n%s", got, err, made(s.calls))
	}
}

// deployment is one of an environment, as the API shows it. A job of 0 is one that
// was made through the API.
type deployment struct {
	id            int64
	status        string
	job, pipeline int64
	jobStatus     string
	started       string
}

func (d deployment) String() string {
	deployable := "null"
	if d.job != 0 {
		started := "null"
		if d.started != "" {
			started = fmt.Sprintf("%q", d.started)
		}
		deployable = fmt.Sprintf(`{"id":%d,"status":%q,"name":"deploy","coverage":null,"started_at":%s,"finished_at":"2026-11-21T20:03:00Z",
			"duration":12.5,"pipeline":{"id":%d,"status":"success","source":"push","web_url":"%spipelines/%[4]d"}}`, d.job, d.jobStatus, started, d.pipeline, webURL)
	}
	return fmt.Sprintf(`{"id":%d,"iid":2,"status":%q,"created_at":"2026-11-21T20:00:01.123Z","updated_at":"2026-11-21T20:03:01Z","deployable":%s}`, d.id, d.status, deployable)
}

func TestCheckOfAnEnvironment(t *testing.T) {
	const before, after = "2026-11-21T20:00:00.999Z", "2026-11-21T20:00:01Z"
	ours := deployment{42, "success", 9, 61, "success", after}
	pipeline := func(state rotator.DeploymentState, status, detail string) rotator.Deployment {
		return rotator.Deployment{Kind: "pipeline", ID: 61, URL: webURL + "pipelines/61", Status: status, State: state, Detail: detail}
	}
	served := func(d rotator.Deployment) rotator.Deployment {
		d.FinishedAt = instant("2026-11-21T20:03:00Z")
		return d
	}
	others := func() rotator.Deployment {
		return served(rotator.Deployment{
			Kind: "deployment", ID: 9, URL: webURL + "jobs/9", Status: "success",
			State: rotator.DeploymentSucceeded, Detail: "deployment 42 to production began after publishing",
		})
	}
	const none = "pipeline 61 succeeded but made no deployment to production"
	for name, c := range map[string]struct {
		pipeline    string // its status; "" when there is none
		deployments []deployment
		source      string // of the pipelines that are not ours
		want        rotator.Deployment
		calls       int
	}{
		"running: nothing else is asked":               {pipeline: "running", deployments: []deployment{ours}, want: pipeline(rotator.DeploymentRunning, "running", ""), calls: 1},
		"deployed":                                     {pipeline: "success", deployments: []deployment{ours}, want: served(pipeline(rotator.DeploymentSucceeded, "success", "")), calls: 2},
		"ours, though another came later":              {pipeline: "success", deployments: []deployment{{43, "success", 10, 62, "success", after}, ours}, want: served(pipeline(rotator.DeploymentSucceeded, "success", "")), calls: 3},
		"deployed, and then failed":                    {pipeline: "failed", deployments: []deployment{ours}, want: served(pipeline(rotator.DeploymentSucceeded, "success", "its deployment 42 to production succeeded, though the pipeline is failed")), calls: 2},
		"deployed, and then waits":                     {pipeline: "manual", deployments: []deployment{ours}, want: served(pipeline(rotator.DeploymentSucceeded, "success", "its deployment 42 to production succeeded, though the pipeline is manual")), calls: 2},
		"ours began in the second of the write":        {pipeline: "success", deployments: []deployment{{42, "success", 9, 61, "success", before}}, want: served(pipeline(rotator.DeploymentSucceeded, "success", "")), calls: 2},
		"green, but deployed nothing":                  {pipeline: "success", want: pipeline(rotator.DeploymentFailed, "success", none), calls: 3},
		"an old deployment is none":                    {pipeline: "success", deployments: []deployment{{42, "success", 9, 59, "success", before}}, want: pipeline(rotator.DeploymentFailed, "success", none), calls: 4},
		"an old pipeline's job, retried":               {pipeline: "failed", deployments: []deployment{{42, "success", 9, 59, "success", after}}, want: others(), calls: 5},
		"another's, without ours":                      {deployments: []deployment{{42, "success", 9, 59, "success", after}}, want: others(), calls: 4},
		"a later pipeline's, in that second":           {deployments: []deployment{{42, "success", 9, 62, "success", before}}, source: "push", want: others(), calls: 5},
		"a child pipeline above the mark may be older": {deployments: []deployment{{42, "success", 9, 62, "success", before}}, source: "parent_pipeline", want: rotator.Deployment{}, calls: 3},
		"made through the API afterwards": {deployments: []deployment{{id: 42, status: "success"}}, want: rotator.Deployment{
			Kind: "deployment", ID: 42, Status: "success", State: rotator.DeploymentSucceeded,
			Detail: "deployment 42 to production began after publishing", FinishedAt: instant("2026-11-21T20:03:01Z"),
		}, calls: 2},
		"nothing at all":                       {want: rotator.Deployment{}, calls: 2},
		"ours failed, and so did its job":      {pipeline: "failed", deployments: []deployment{{42, "failed", 9, 61, "failed", after}}, want: pipeline(rotator.DeploymentFailed, "failed", ""), calls: 3},
		"green, its deployment still runs":     {pipeline: "success", deployments: []deployment{{42, "running", 9, 61, "success", after}}, want: pipeline(rotator.DeploymentRunning, "success", "pipeline 61 succeeded, its deployment 42 to production is running"), calls: 2},
		"green, its deployment needs approval": {pipeline: "success", deployments: []deployment{{42, "blocked", 9, 61, "manual", ""}}, want: pipeline(rotator.DeploymentBlocked, "success", "pipeline 61 succeeded, its deployment 42 to production is blocked"), calls: 3},
		"green, its deploy job is not started": {pipeline: "success", deployments: []deployment{{42, "created", 9, 61, "manual", ""}}, want: pipeline(rotator.DeploymentBlocked, "success", "pipeline 61 succeeded, its deployment 42 to production is created"), calls: 3},
		"green, its deploy job was skipped":    {pipeline: "success", deployments: []deployment{{42, "created", 9, 61, "skipped", ""}}, want: pipeline(rotator.DeploymentFailed, "success", "pipeline 61 succeeded, but its job deploy, which deploys to production, is skipped"), calls: 3},
		"green, and another's waits":           {pipeline: "success", deployments: []deployment{{43, "created", 9, 62, "manual", ""}}, want: pipeline(rotator.DeploymentFailed, "success", none), calls: 4},
		"green, and another's is on its way":   {pipeline: "success", deployments: []deployment{{43, "running", 9, 62, "running", after}}, want: pipeline(rotator.DeploymentRunning, "success", none+"; deployment 43 there is running"), calls: 3},
	} {
		t.Run(name, func(t *testing.T) {
			client, s := client(t, func(_ int, call call) answer {
				switch call.path {
				case "/projects/4711/pipelines", "/projects/4711/pipelines/61/jobs":
					return ok(`[]`)
				case "/projects/4711/pipelines/61":
					return ok(pipelineJSON(61, c.pipeline))
				case "/projects/4711/deployments":
					if want := "environment=production&order_by=id&per_page=100&sort=desc"; call.query != want {
						t.Errorf("asked for %s", call.query)
					}
					var items []string
					for _, d := range c.deployments {
						items = append(items, d.String())
					}
					return ok(list(items...))
				case "/projects/4711/pipelines/62":
					return ok(fmt.Sprintf(`{"id":62,"source":%q}`, c.source))
				}
				return answer{status: 404, body: `{}`}
			})
			r := theRedeploy()
			r.Environment = "production"
			if c.pipeline != "" {
				r.ID = 61
			}
			got, err := client.Check(t.Context(), r)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if len(s.calls) != c.calls {
				t.Errorf("%d calls, want %d:\n%s", len(s.calls), c.calls, made(s.calls))
			}
		})
	}
}

// deployedBy is a deployment by a job, in a pipeline of some status.
func deployedBy(job, pipelineStatus string, d deployment) string {
	return strings.NewReplacer(`"name":"deploy"`, fmt.Sprintf(`"name":%q`, job), `"status":"success","source"`, fmt.Sprintf(`"status":%q,"source"`, pipelineStatus)).Replace(d.String())
}

func TestWhatDeploysToAnEnvironmentIsProofAsAWhole(t *testing.T) {
	const after = "2026-11-21T20:00:01Z"
	web := func(status string, pipeline int64) string {
		return deployedBy("web", status, deployment{42, "success", 9, pipeline, "success", after})
	}
	api := func(status string, pipeline int64, ended string) string {
		return deployedBy("api", status, deployment{41, ended, 8, pipeline, ended, after})
	}
	retried := deployedBy("api", "failed", deployment{43, "success", 10, 61, "success", after})
	inputs := map[string]any{"service": "web"}
	for name, c := range map[string]struct {
		pipeline    string // of 61, which is ours
		inputs      map[string]any
		id          int64
		deployments []string
		bridges     map[int64]string
		variables   map[int64]string
		pageless    bool // it has no page about variables, and none about children
		want        rotator.DeploymentState
	}{
		"another job of ours failed":                   {pipeline: "failed", id: 61, deployments: []string{web("failed", 61), api("failed", 61, "failed")}, want: rotator.DeploymentFailed},
		"another job of ours waits for somebody":       {pipeline: "manual", id: 61, deployments: []string{web("manual", 61), api("manual", 61, "created")}, want: rotator.DeploymentBlocked},
		"another job of ours has been retried":         {pipeline: "failed", id: 61, deployments: []string{retried, web("failed", 61), api("failed", 61, "failed")}, want: rotator.DeploymentSucceeded},
		"another job of ours may fail":                 {pipeline: "success", id: 61, deployments: []string{web("success", 61), api("success", 61, "failed")}, want: rotator.DeploymentSucceeded},
		"another job of a stranger's failed":           {pipeline: "failed", id: 61, deployments: []string{web("failed", 62), api("failed", 62, "failed")}, want: rotator.DeploymentFailed},
		"a stranger's has a pair of its own":           {pipeline: "failed", id: 61, deployments: []string{web("success", 62)}, variables: map[int64]string{62: `[{"key":"AWS_SECRET_ACCESS_KEY"}]`}, want: rotator.DeploymentFailed},
		"a stranger's variables are another's":         {pipeline: "failed", id: 61, deployments: []string{web("success", 62)}, variables: map[int64]string{62: `[{"key":"DEBUG"}]`}, want: rotator.DeploymentSucceeded},
		"a stranger's variables may not be read":       {pipeline: "failed", id: 61, deployments: []string{web("success", 62)}, want: rotator.DeploymentSucceeded},
		"a stranger's, of a GitLab without such pages": {pipeline: "failed", id: 61, deployments: []string{web("success", 62)}, pageless: true, want: rotator.DeploymentSucceeded},
		"with inputs, a stranger's":                    {pipeline: "failed", inputs: inputs, id: 61, deployments: []string{web("success", 62)}, want: rotator.DeploymentFailed},
		"with inputs, a stranger's that runs":          {pipeline: "success", inputs: inputs, id: 61, deployments: []string{deployedBy("web", "running", deployment{42, "running", 9, 62, "running", after})}, want: rotator.DeploymentFailed},
		"with inputs, that of a child":                 {pipeline: "success", inputs: inputs, id: 61, deployments: []string{web("success", 63)}, bridges: map[int64]string{61: `{"id":63,"project_id":4711}`}, want: rotator.DeploymentSucceeded},
		"with inputs, that of a child's child":         {pipeline: "success", inputs: inputs, id: 61, deployments: []string{web("success", 64)}, bridges: map[int64]string{61: `{"id":63,"project_id":4711}`, 63: `{"id":64,"project_id":4711}`}, want: rotator.DeploymentSucceeded},
		"with inputs, a pipeline of another project":   {pipeline: "success", inputs: inputs, id: 61, deployments: []string{web("success", 63)}, bridges: map[int64]string{61: `{"id":63,"project_id":4712}`}, want: rotator.DeploymentFailed},
		"a child of a stranger's failed": {
			pipeline: "failed", id: 61, deployments: []string{web("success", 62), api("failed", 63, "failed"), api("failed", 61, "failed")},
			bridges: map[int64]string{62: `{"id":63,"project_id":4711}`}, want: rotator.DeploymentFailed,
		},
		"a child of ours has but jobs that may be started by hand": {
			pipeline: "success", id: 61, deployments: []string{deployedBy("rollback", "skipped", deployment{43, "created", 10, 63, "manual", ""}), web("success", 61)},
			bridges: map[int64]string{61: `{"id":63,"project_id":4711}`}, want: rotator.DeploymentSucceeded,
		},
		"one of two children failed": {
			pipeline: "failed", id: 61, deployments: []string{web("success", 63), api("failed", 64, "failed")},
			bridges: map[int64]string{61: `{"id":63,"project_id":4711}},{"downstream_pipeline":{"id":64,"project_id":4711}`}, want: rotator.DeploymentFailed,
		},
		"a child that is not waited for failed": {
			pipeline: "success", id: 61, deployments: []string{web("success", 61), api("failed", 64, "failed")},
			bridges: map[int64]string{61: `{"id":64,"project_id":4711}`}, want: rotator.DeploymentFailed,
		},
		"a child that is not waited for runs": {
			pipeline: "success", id: 61, deployments: []string{web("success", 61), deployedBy("api", "running", deployment{41, "running", 8, 64, "running", after})},
			bridges: map[int64]string{61: `{"id":64,"project_id":4711}`}, want: rotator.DeploymentRunning,
		},
		"a child waits, beside what ours has deployed": {
			pipeline: "manual", id: 61, deployments: []string{web("manual", 61), deployedBy("api", "manual", deployment{41, "created", 8, 64, "manual", ""})},
			bridges: map[int64]string{61: `{"id":64,"project_id":4711}`}, want: rotator.DeploymentBlocked,
		},
		"a child waits for somebody":                    {pipeline: "success", id: 61, deployments: []string{deployedBy("web", "manual", deployment{42, "created", 9, 63, "manual", ""})}, bridges: map[int64]string{61: `{"id":63,"project_id":4711}`}, want: rotator.DeploymentBlocked},
		"with inputs, a pipeline whose id is not known": {pipeline: "success", inputs: inputs, deployments: []string{web("success", 61)}, want: rotator.DeploymentNone},
	} {
		t.Run(name, func(t *testing.T) {
			c61 := pipelineJSON(61, c.pipeline)
			client, _ := client(t, func(_ int, call call) answer {
				var id int64
				switch _, _ = fmt.Sscanf(call.path, "/projects/4711/pipelines/%d", &id); {
				case call.path == "/projects/4711/pipelines":
					return ok(list(listed(61, "api", "main")))
				case call.path == "/user":
					return ok(`{"username":"bot"}`)
				case call.path == "/projects/4711/pipelines/61":
					return ok(c61)
				case call.path == "/projects/4711/pipelines/61/jobs":
					return ok(`[]`)
				case call.path == "/projects/4711/deployments":
					return ok(list(c.deployments...))
				case strings.HasSuffix(call.path, "/bridges") && c.bridges[id] != "":
					return ok(`[{"id":1,"downstream_pipeline":` + c.bridges[id] + `},{"id":2,"downstream_pipeline":null}]`)
				case strings.HasSuffix(call.path, "/bridges") && !c.pageless:
					return ok(`[]`)
				case strings.HasSuffix(call.path, "/variables") && c.variables[id] != "":
					return ok(c.variables[id])
				}
				if c.pageless {
					return answer{status: 404, body: "404 page not found", header: map[string]string{"Content-Type": "text/plain"}}
				}
				return answer{status: 403, body: `{"message":"403 Forbidden"}`}
			})
			r := theRedeploy()
			r.Environment, r.Inputs, r.Own, r.ID = "production", c.inputs, len(c.inputs) > 0, c.id
			r.Variables = [2]string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
			got, err := client.Check(t.Context(), r)
			if err != nil || got.State != c.want {
				t.Errorf("Check = %+v, %v", got, err)
			}
		})
	}
}

func TestCheckThatCannotLookIsAnError(t *testing.T) {
	for _, path := range []string{"/projects/4711/pipelines", "/user", "/projects/4711/pipelines/61", "/projects/4711/deployments", "/projects/4711/pipelines/62"} {
		synctest.Test(t, func(t *testing.T) {
			c, _ := client(t, func(_ int, call call) answer {
				switch call.path {
				case path:
					return answer{status: 403, body: `{"message":"403 Forbidden"}`}
				case "/projects/4711/pipelines":
					return ok(list(listed(61, "api", "main")))
				case "/user":
					return ok(`{"username":"bot"}`)
				case "/projects/4711/pipelines/61/bridges":
					return ok(`[]`)
				case "/projects/4711/deployments":
					return ok(list(deployment{42, "success", 9, 62, "success", "2026-11-21T20:00:00Z"}.String()))
				}
				return ok(pipelineJSON(61, "success"))
			})
			r := theRedeploy()
			r.Environment = "production"
			_, err := c.Check(t.Context(), r)
			says(t, err, "checking the redeploy of project 4711: ", "403 Forbidden")
		})
	}
}

func TestHoldersBeganBeforePublishing(t *testing.T) {
	job := func(id, pipeline int64, started string) string {
		if started != "null" {
			started = fmt.Sprintf("%q", started)
		}
		return fmt.Sprintf(`{"id":%d,"name":"job","status":"running","started_at":%s,"queued_duration":0.4,"coverage":null,"pipeline":{"id":%d},"web_url":"u%[1]d"}`, id, started, pipeline)
	}
	c, s := client(t, func(_ int, call call) answer {
		switch call.path {
		case "/projects/4711/jobs":
			if strings.Contains(call.query, "cursor=abc") {
				return ok(list(job(1, 50, "2026-11-20T00:00:00Z")))
			}
			a := ok(list(
				job(9, 62, "2026-11-21T20:00:00.500Z"), // later by order
				job(8, 63, "2026-11-21T20:00:00.500Z"), // a child pipeline
				job(7, 61, "2026-11-21T20:00:00.900Z"), // ours
				job(6, 60, "2026-11-21T20:00:00.999Z"),
				job(5, 60, "2026-11-21T20:00:01Z"),
				job(4, 59, "null"),
				job(3, 62, "null"),
			))
			a.header = map[string]string{"Link": `<https://gitlab.example.com/api/v4/projects/4711/jobs?cursor=abc&pagination=keyset&per_page=100>; rel="next"`}
			return a
		case "/projects/4711/pipelines/62":
			return ok(`{"id":62,"source":"push"}`)
		case "/projects/4711/pipelines/63":
			return ok(`{"id":63,"source":"parent_pipeline"}`)
		}
		return answer{status: 500}
	})
	r := theRedeploy()
	r.ID = 61
	got, err := c.Holders(t.Context(), r)
	want := []rotator.Job{{ID: 8, Name: "job", URL: "u8"}, {ID: 6, Name: "job", URL: "u6"}, {ID: 4, Name: "job", URL: "u4"}, {ID: 1, Name: "job", URL: "u1"}}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	if want := "order_by=id&pagination=keyset&per_page=100&scope%5B%5D=running&scope%5B%5D=canceling&sort=desc"; s.calls[0].query != want {
		t.Errorf("asked for %s", s.calls[0].query)
	}
	if len(s.calls) != 4 {
		t.Errorf("%d calls:\n%s", len(s.calls), made(s.calls))
	}
}

func TestHoldersOfAnInstanceThatDoesNotKnowCanceling(t *testing.T) {
	c, s := client(t, func(_ int, call call) answer {
		if strings.Contains(call.query, "canceling") {
			return answer{status: 400, body: `{"error":"scope does not have a valid value"}`}
		}
		return ok(`[]`)
	})
	if got, err := c.Holders(t.Context(), theRedeploy()); err != nil || len(got) != 0 || len(s.calls) != 2 {
		t.Errorf("%v, %v after %d calls", got, err, len(s.calls))
	}
}

func TestHoldersThatCannotBeListedAreAnError(t *testing.T) {
	c, _ := client(t, always(answer{status: 400, body: `{"error":"no"}`}))
	_, err := c.Holders(t.Context(), theRedeploy())
	says(t, err, "listing the running jobs of project 4711: ", "400 Bad Request (no)")
}
