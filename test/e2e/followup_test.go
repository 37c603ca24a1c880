package e2e

import (
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge/types"

	"credential-rotator/rotator"
	"credential-rotator/test/sandbox"
)

// quietBudget is how many remote calls the daily run of a service may make whose key
// is not due.
const quietBudget = 6

// rule is a follow-up rule as it is made once, switched off.
func (c *cloud) rule(t *testing.T, name string) (state func() types.RuleState) {
	t.Helper()
	client := eventbridge.NewFromConfig(c.Admin())
	if _, err := client.PutRule(t.Context(), &eventbridge.PutRuleInput{
		Name: &name, ScheduleExpression: aws.String("rate(5 minutes)"), State: types.RuleStateDisabled,
	}); err != nil {
		t.Fatalf("making rule %s: %v", name, err)
	}
	return func() types.RuleState {
		t.Helper()
		out, err := client.DescribeRule(t.Context(), &eventbridge.DescribeRuleInput{Name: &name})
		if err != nil {
			t.Fatalf("looking at rule %s: %v", name, err)
		}
		return out.State
	}
}

func TestTheFollowUpRuleIsOnWhileARotationIsInFlight(t *testing.T) {
	t.Parallel()
	s := newStage(t, newCloud(t), "svc-billing")
	state := s.cloud.rule(t, "follow-up")
	s.env = append(s.env, "FOLLOW_UP_RULE=follow-up")
	f := newFunction(t, s)
	is := func(when string, want types.RuleState) {
		t.Helper()
		if got := state(); got != want {
			t.Errorf("%s the rule is %s, want %s\n%s", when, got, want, s.trace())
		}
	}

	for range 2 { // cold, and warm
		before := len(s.wire.Calls())
		if a := f.run(t, s.event(false)); a.Status != rotator.StatusNotDue {
			t.Fatalf("got %s", a.raw)
		}
		if n := len(s.wire.Calls()) - before; n > quietBudget {
			t.Errorf("a quiet run makes %d remote calls, at most %d\n%s", n, quietBudget, s.trace())
		}
	}
	is("when nothing is due", types.RuleStateDisabled)

	s.gitlab.QueueOutcomes(projectID, sandbox.Manual)
	if a := f.run(t, s.event(true)); a.Status != rotator.StatusWaiting || len(a.Warnings) > 0 {
		t.Fatalf("got %s\n%s", a.raw, s.trace())
	}
	is("while a deployment waits for somebody", types.RuleStateEnabled)
	if a := f.run(t, []byte(`{"action":"follow_up"}`)); !strings.Contains(a.raw, `"waiting"`) {
		t.Errorf("the follow-up says %s", a.raw)
	}
	is("as long as it does", types.RuleStateEnabled)

	for _, pl := range s.gitlab.Pipelines(projectID) {
		for _, j := range pl.Jobs {
			if j.Status == "manual" {
				s.gitlab.PlayJob(j.ID)
			}
		}
	}
	if a := f.run(t, []byte(`{"action":"follow_up"}`)); !strings.Contains(a.raw, `"rotated"`) {
		t.Fatalf("the follow-up says %s\n%s", a.raw, s.trace())
	}
	is("when it is rotated", types.RuleStateDisabled)
	s.isRotatedFrom(s.first)
}

func TestWithoutItsFollowUpRuleAndItsBusAKeyIsRotatedAndEachIsToldOnce(t *testing.T) {
	t.Parallel()
	s := newStage(t, newCloud(t), "svc-billing")
	s.env = append(s.env, "FOLLOW_UP_RULE=gone", "EVENT_BUS=gone")
	a := newFunction(t, s).run(t, s.event(true))
	if a.Status != rotator.StatusRotated {
		t.Fatalf("got %s\n%s", a.raw, s.trace())
	}
	s.isRotatedFrom(s.first)
	told := strings.Join(a.Warnings, "\n")
	for _, want := range []string{"set FOLLOW_UP_RULE to one that there is", "nobody was notified (Started, Succeeded): ", "set EVENT_BUS to one that there is"} {
		if strings.Count(told, want) != 1 {
			t.Errorf("%q is told %d times in\n%s", want, strings.Count(told, want), told)
		}
	}
	if len(a.Warnings) != 2 {
		t.Errorf("two faults are told as %q", a.Warnings)
	}
	t.Logf("it says:\n%s", told)
}
