package events

import (
	"context"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"

	"credential-rotator/rotator"
)

var _ rotator.FollowUp = (*FollowUp)(nil)

// FollowUp is rotator.FollowUp on one scheduled rule of the default bus, the only bus
// that has such. It is safe for concurrent use.
//
// It needs events:EnableRule and events:DisableRule on that rule, and nothing else.
type FollowUp struct {
	client *eventbridge.Client
	rule   string
}

// NewFollowUp returns the switch of the rule of this name. It calls nothing itself.
func NewFollowUp(cfg aws.Config, rule string) *FollowUp {
	return &FollowUp{client: eventbridge.NewFromConfig(cfg), rule: rule}
}

// Enable switches the rule on: one EnableRule.
func (f *FollowUp) Enable(ctx context.Context) error {
	_, err := f.client.EnableRule(ctx, &eventbridge.EnableRuleInput{Name: &f.rule})
	return f.explain("enabling", "events:EnableRule", err)
}

// Disable switches the rule off: one DisableRule.
func (f *FollowUp) Disable(ctx context.Context) error {
	_, err := f.client.DisableRule(ctx, &eventbridge.DisableRuleInput{Name: &f.rule})
	return f.explain("disabling", "events:DisableRule", err)
}

func (f *FollowUp) explain(doing, action string, err error) error {
	if err == nil {
		return nil
	}
	what := advice(err, action+" on the rule", "rule on the default bus of this account and region: set FOLLOW_UP_RULE to one that there is")
	return failed(fmt.Sprintf("%s rule %s", doing, f.rule), err, what)
}
