package terraform_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/google/go-cmp/cmp"

	"credential-rotator/rotator"
	"credential-rotator/test/moto"
	"credential-rotator/test/terraform"
)

// What the module asks for is read by the function's own decoder, as it stands in AWS.
func TestWhatTheExampleOfSeveralPlacesAsksForIsWhatTheFunctionReads(t *testing.T) {
	t.Parallel() // most of it is waiting in the provider
	moto.Require(t, "terraform")
	s := moto.Start(t)
	function := makeFunction(t, s)
	before := s.Inventory(t)
	d := terraform.Open(t, "modules/service-account/examples/several", terraform.On(t, s)...)
	d.Set(map[string]any{"function_arn": function, "user_path": "/gitlab/"})
	d.Apply()
	unchanged(t, d, "it was applied")

	variables := func(p rotator.Place) rotator.Place {
		p.EnvironmentScope, p.KeyIDVariable, p.SecretVariable = "*", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"
		return p
	}
	turn := func(target int, project int64, way rotator.Way) rotator.Turn {
		return rotator.Turn{Target: target, ProjectWay: rotator.ProjectWay{ProjectID: project, Way: way}}
	}
	production := rotator.Way{Redeploy: "pipeline", Environment: "production"}
	retried := rotator.Way{Redeploy: "deployment", Environment: "production"}
	orLiveCommit := rotator.Way{Redeploy: "deployment", Environment: "production", Fallback: "live_commit"}
	told := func(target string, inputs map[string]any) rotator.Way {
		inputs["target"] = target
		return rotator.Way{Redeploy: "pipeline", Environment: target, Inputs: inputs}
	}
	for user, want := range map[string]asked{
		"svc-shop": {
			Binding: "4711 4712", SoakHours: 24,
			Places: []rotator.Place{variables(rotator.Place{ProjectID: 4711}), variables(rotator.Place{ProjectID: 4712})},
			Turns:  []rotator.Turn{turn(0, 4711, production), turn(1, 4712, orLiveCommit)},
		},
		"svc-search": {
			Binding: "group:9",
			Places:  []rotator.Place{variables(rotator.Place{GroupID: 9})},
			Turns:   []rotator.Turn{turn(0, 4721, production), turn(0, 4722, production), turn(0, 4723, retried)},
		},
		"svc-mail": {
			Binding: "4731",
			Places:  []rotator.Place{variables(rotator.Place{ProjectID: 4731})},
			Turns: []rotator.Turn{
				turn(0, 4731, told("staging", map[string]any{})),
				turn(0, 4731, told("production", map[string]any{"replicas": 3.0})),
			},
		},
	} {
		if diff := cmp.Diff(want, askedFor(t, s, user)); diff != "" {
			t.Errorf("%s is not bound to, or is not asked for, what the example says (-want +got):\n%s", user, diff)
		}
	}

	d.Destroy()
	if diff := cmp.Diff(before, s.Inventory(t)); diff != "" {
		t.Errorf("something is left (+) after the destroy:\n%s", diff)
	}
}

// asked is what a service's rule asks for, and to what its user is bound.
type asked struct {
	Binding   string
	SoakHours int
	Places    []rotator.Place
	Turns     []rotator.Turn
}

func askedFor(t *testing.T, s *moto.Server, user string) asked {
	t.Helper()
	var rule struct{ Targets []struct{ Input string } }
	answer := s.Ask(t, moto.Call{Service: "events", Action: "AWSEvents.ListTargetsByRule", Body: fmt.Sprintf(`{"Rule":"rotate-%s"}`, user)})
	if err := json.Unmarshal([]byte(answer), &rule); err != nil || len(rule.Targets) != 1 {
		t.Fatalf("the rule of %s has not one target (%v): %s", user, err, answer)
	}
	event, err := rotator.DecodeEvent([]byte(rule.Targets[0].Input))
	if err != nil {
		t.Fatalf("the function refuses what the rule of %s sends: %v\n%s", user, err, rule.Targets[0].Input)
	}
	if event.Request.User != user {
		t.Errorf("the rule of %s asks for %s", user, event.Request.User)
	}
	got := asked{SoakHours: event.Request.SoakHours, Places: event.Request.Places(), Turns: event.Request.Turns()}
	tags, err := iam.NewFromConfig(s.Admin()).ListUserTags(t.Context(), &iam.ListUserTagsInput{UserName: &user})
	if err != nil {
		t.Fatalf("reading the tags of %s: %v", user, err)
	}
	for _, tag := range tags.Tags {
		if aws.ToString(tag.Key) == "credential-rotator:project-ids" {
			got.Binding = aws.ToString(tag.Value)
		}
	}
	return got
}

// makeFunction makes a function that does nothing: rules can tick one that exists only.
func makeFunction(t *testing.T, s *moto.Server) string {
	t.Helper()
	role := url.Values{"RoleName": {"function"}, "AssumeRolePolicyDocument": {`{"Version":"2012-10-17","Statement":[]}`}}
	s.Ask(t, moto.Call{Service: "iam", Action: "CreateRole", Body: role.Encode()})
	body, err := json.Marshal(map[string]any{
		"FunctionName": "credential-rotator", "Runtime": "provided.al2023", "Handler": "bootstrap",
		"Role": fmt.Sprintf("arn:aws:iam::%s:role/function", moto.Account),
		"Code": map[string]any{"ZipFile": base64.StdEncoding.EncodeToString([]byte("not looked into by moto"))},
	})
	if err != nil {
		t.Fatal(err)
	}
	var made struct{ FunctionArn string }
	answer := s.Ask(t, moto.Call{Service: "lambda", Action: "POST /2015-03-31/functions", Body: string(body)})
	if err := json.Unmarshal([]byte(answer), &made); err != nil || made.FunctionArn == "" {
		t.Fatalf("making the function: %v\n%s", err, answer)
	}
	return made.FunctionArn
}
