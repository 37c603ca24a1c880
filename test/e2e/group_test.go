package e2e

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	iamtypes "github.com/aws/aws-sdk-go-v2/service/iam/types"
	"github.com/google/go-cmp/cmp"

	"credential-rotator/rotator"
	"credential-rotator/test/sandbox"
)

// groupScene is a key in two variables of a group, for three projects.
func groupScene(user string) scene {
	return scene{
		user: user, binding: fmt.Sprintf("group:%d", groupID), projects: []int64{projectID, searchID, mailID},
		places: []rotator.Place{{GroupID: groupID, EnvironmentScope: "*", KeyIDVariable: "AWS_ACCESS_KEY_ID", SecretVariable: "AWS_SECRET_ACCESS_KEY"}},
		as:     sandbox.Variable{Masked: true},
		asks: `"group_id":9,"redeploys":[{"project_id":4711,"environment":"production"},` +
			`{"project_id":4712,"environment":"production"},{"project_id":4713,"environment":"production"}]`,
	}
}

func TestAKeyOfAGroupStopsAtTheProjectThatFailsAndGoesOnThere(t *testing.T) {
	t.Parallel()
	e := newEstate(t, newCloud(t), groupScene("svc-shop"))
	f := newFunction(t, e.stage)
	old := e.pairAt(e.at()[0])
	e.setBroken(searchID, true)
	t.Logf("the deploy job of shop/search is broken; the request: %s", e.event(true))

	a := f.run(t, e.event(true))
	t.Logf("%s: %s", a.Status, a.Reason)
	e.stoppedAtSearch(a, old.AccessKeyID)
	if err := e.cloud.authenticates(t.Context(), old.AccessKeyID, old.SecretAccessKey); err != nil {
		t.Errorf("the old key does not work: %v", err)
	}
	before := len(e.wire.Writes())

	e.setBroken(searchID, false)
	t.Log("somebody mends the job; the tick of the next day:")
	a = f.run(t, e.event(false))
	t.Logf("%s: %s", a.Status, a.Reason)
	if a.Status != rotator.StatusRotated || a.PreviousKeyID != e.first || len(a.Deployments) != 3 {
		t.Fatalf("got %s\n%s", a.raw, e.trace())
	}
	writes := without(e.wire.Writes()[before:], "dynamodb PutItem")
	t.Logf("it wrote:\n  %s", strings.Join(writes, "\n  "))
	want := []string{
		"gitlab POST /projects/4712/pipeline", "gitlab POST /projects/4713/pipeline",
		"iam UpdateAccessKey svc-shop " + e.first + " Inactive", "iam DeleteAccessKey svc-shop " + e.first, "events PutEvents",
	}
	if diff := cmp.Diff(want, writes); diff != "" {
		t.Errorf("the second run wrote otherwise (-want +got):\n%s", diff)
	}
	got := map[int64][]string{}
	for _, id := range e.projects {
		got[id] = e.pipelines(id)
	}
	if diff := cmp.Diff(map[int64][]string{projectID: {"success"}, searchID: {"failed", "success"}, mailID: {"success"}}, got); diff != "" {
		t.Errorf("the pipelines (-want +got):\n%s", diff)
	}
	e.isRotatedFrom(e.first)
	wantEvents(t, e.stage, "Started", "Failed", "Succeeded")
}

// stoppedAtSearch asserts what a run leaves whose second project fails.
func (e *estate) stoppedAtSearch(a answer, old string) {
	t := e.t
	t.Helper()
	fresh := e.published()
	if a.Status != rotator.StatusFailed || fresh == old {
		t.Fatalf("got %s\n%s", a.raw, e.trace())
	}
	for _, want := range []string{"pipeline ", "job deploy is failed", "https://gitlab.example.com/shop/search/-/jobs/", "both keys work"} {
		if !strings.Contains(a.Reason, want) {
			t.Errorf("it does not say %q: %s", want, a.Reason)
		}
	}
	if keys := e.keys(); len(keys) != 2 || slices.ContainsFunc(keys, func(k iamtypes.AccessKeyMetadata) bool { return k.Status != iamtypes.StatusTypeActive }) {
		t.Errorf("the keys are %s", keyList(keys))
	}
	for id, want := range map[int64]string{projectID: fresh, searchID: old, mailID: old} {
		t.Logf("%s runs with %s", projectPath(id), e.runsWith(id))
		if got := e.runsWith(id); got != want {
			t.Errorf("%s runs with %s, want %s", projectPath(id), got, want)
		}
	}
	if ran := e.pipelines(mailID); len(ran) > 0 {
		t.Errorf("shop/mail was deployed after a failure: %q", ran)
	}
	wantEvents(t, e.stage, "Started", "Failed")
	told := e.lastTold()
	t.Logf("on the bus: %s: %s; %+v", told.Status, told.Reason, told.Deployments)
	if d := told.Deployments; told.Status != rotator.StatusFailed || len(d) != 2 || d[0].Status != "success" || d[1].Status != "failed" || !strings.Contains(d[1].URL, "shop/search/-/pipelines/") {
		t.Errorf("the event says %+v", told)
	}
}

// lastTold is the detail of the last event on the bus.
func (s *stage) lastTold() (told rotator.Result) {
	s.t.Helper()
	for _, c := range slices.Backward(s.wire.Calls()) {
		if c.Line != "events PutEvents" {
			continue
		}
		var events struct{ Entries []struct{ Detail string } }
		if err := json.Unmarshal(c.Request, &events); err != nil {
			s.t.Fatalf("reading what was put on the bus: %v\n%s", err, c.Request)
		}
		if err := json.Unmarshal([]byte(events.Entries[0].Detail), &told); err != nil {
			s.t.Fatalf("reading the event: %v\n%s", err, c.Request)
		}
		break
	}
	return told
}

func without(lines []string, line string) []string {
	return slices.DeleteFunc(lines, func(l string) bool { return l == line })
}
