package e2e

import (
	"encoding/json"
	"maps"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	iamtypes "github.com/aws/aws-sdk-go-v2/service/iam/types"

	"credential-rotator/rotator"
	"credential-rotator/test/sandbox"
)

// The job sends what the tick of its service sends: with several places, that names them
// all, and neither the job's own project nor its environment are put beside them.
func TestACIJobAsksForAllPlacesOfAKey(t *testing.T) {
	t.Parallel()
	requireAdhoc(t)
	c := newCloud(t)
	a := newAdhoc(t, c, "svc-places", 0, runTimeout)
	a.gitlab.AddGroup(sandbox.Group{ID: 9, Path: "shop", Licensed: true})
	a.gitlab.AddProject(sandbox.Project{ID: 4712, Path: "shop/cards", Pipeline: []sandbox.JobSpec{{Name: "deploy", Environment: "production"}}})
	for _, key := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} {
		a.gitlab.SetGroupVariable(9, sandbox.Variable{Key: key, Value: a.variable(key), Masked: true, EnvironmentScope: "*"})
	}
	a.others = []rotator.Place{{GroupID: 9, EnvironmentScope: "*", KeyIDVariable: "AWS_ACCESS_KEY_ID", SecretVariable: "AWS_SECRET_ACCESS_KEY"}}
	a.gitlab.EditToken("rotator", func(t *sandbox.Token) {
		t.Roles = maps.Clone(t.Roles)
		t.GroupRoles = map[int64]int{9: sandbox.Owner}
	})
	if _, err := iam.NewFromConfig(c.Admin()).TagUser(t.Context(), &iam.TagUserInput{
		UserName: &a.user, Tags: []iamtypes.Tag{{Key: aws.String(sandbox.BindingTag), Value: aws.String("4711 group:9")}},
	}); err != nil {
		t.Fatal(err)
	}
	places := `[{"project_id":4711,"redeploys":[{"environment":"production"}]},{"group_id":9,"redeploys":[{"project_id":4712,"environment":"production"}]}]`
	a.inputs = "      request: '{\"destinations\":" + places + "}'"
	got := a.press()
	a.ends(got, 0,
		"✓ create a key ", "✓ publish secret ", "✓ deployment ", "✓ deployment ", "✓ delete old ",
		"rotated: key "+a.first+" was 10 days old, and it was forced\n",
		"  user         svc-places\n",
		"  destination  AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY [*] of project 4711\n",
		"  destination  AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY [*] of group 9\n",
		"  published    "+a.published()+"\n",
		"  deployment   pipeline ", "  deployment   pipeline ", "  next due     ")
	a.forcedOnce(1)
	if v, _ := a.gitlab.GroupVariable(9, "AWS_ACCESS_KEY_ID", "*"); v.Value != a.published() || v.Value == a.first {
		t.Errorf("the group has %s, and the project %s", v.Value, a.published())
	}
	if strings.Contains(got.log, "warning") {
		t.Errorf("it warns:\n%s", got.log)
	}
	if len(a.line.events) == 0 {
		t.Fatal("nothing was sent")
	}
	sent, err := json.Marshal(a.line.events[0])
	if err != nil || strings.Contains(string(sent), `"environment":"production","force"`) || a.line.events[0]["project_id"] != nil || a.line.events[0]["environment"] != nil {
		t.Errorf("it sent %s, %v", sent, err)
	}
}

// One place that says its redeploys, or is a group, as a request of its own.
func TestACIJobAsksForAGroup(t *testing.T) {
	t.Parallel()
	requireAdhoc(t)
	a := newAdhoc(t, newCloud(t), "svc-group", 0, runTimeout)
	a.inputs = `      request: '{"group_id":9,"redeploys":[{"project_id":4711,"environment":"production"}]}'`
	got := a.press()
	a.ends(got, 1, "user svc-group is bound to 4711, not to group 9")
	if e := a.line.events[0]; e["project_id"] != nil || e["environment"] != nil || e["group_id"] != 9.0 {
		t.Errorf("it sent %v", e)
	}
}
