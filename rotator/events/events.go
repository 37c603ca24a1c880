// Package events is rotator.Notifier on an EventBridge bus, and rotator.FollowUp on a
// rule. What becomes of an event
// (mail, chat, a ticket) is the bus's rules' business, not this product's.
//
// An event holds a rotator.Result or a rotator.TokenCheck and nothing else, so never a
// secret.
package events

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge/types"
	"github.com/aws/smithy-go"

	"credential-rotator/rotator"
)

var _ rotator.Notifier = (*Notifier)(nil)

// Source is the source of every event, for the rules that match it.
const Source = "credential-rotator"

// Options are the choices of a Notifier.
type Options struct {
	// Bus is the name or the ARN of the event bus; empty: the default bus.
	Bus string
}

// Notifier is rotator.Notifier on EventBridge. It is safe for concurrent use.
type Notifier struct {
	client *eventbridge.Client
	bus    string
}

// New returns a Notifier that puts its events on the bus. It calls nothing itself.
func New(cfg aws.Config, opts Options) *Notifier {
	bus := opts.Bus
	if bus == "" {
		bus = "default"
	}
	return &Notifier{client: eventbridge.NewFromConfig(cfg), bus: bus}
}

// Notify puts one event, "Credential Rotation " and the notice, with the result as
// its detail: one PutEvents. The SDK may send it again after a lost reply, so rules
// may see an event twice, as EventBridge promises no less.
func (n *Notifier) Notify(ctx context.Context, notice rotator.Notice, r rotator.Result) error {
	return n.put(ctx, fmt.Sprintf("telling bus %s that the rotation of %s is %q", n.bus, r.User, notice), string(notice), r)
}

// TellOfToken puts one event, "Credential Rotation Token Expiring", with the check as its
// detail: of a token that expires soon, or does not work.
func (n *Notifier) TellOfToken(ctx context.Context, c rotator.TokenCheck) error {
	return n.put(ctx, fmt.Sprintf("telling bus %s that the GitLab token is %s", n.bus, c.Status), "Token Expiring", c)
}

func (n *Notifier) put(ctx context.Context, doing, what string, about any) error {
	detail, err := json.Marshal(about)
	if err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	out, err := n.client.PutEvents(ctx, &eventbridge.PutEventsInput{Entries: []types.PutEventsRequestEntry{{
		EventBusName: &n.bus,
		Source:       aws.String(Source),
		DetailType:   aws.String("Credential Rotation " + what),
		Detail:       aws.String(string(detail)),
	}}})
	if err != nil {
		return failed(doing, err, advice(err, "events:PutEvents on the bus", "bus in this account and region: set EVENT_BUS to one that there is"))
	}
	// PutEvents answers 200 for what it did not take.
	if out.FailedEntryCount == 0 {
		return nil
	}
	for _, entry := range out.Entries {
		if entry.ErrorCode != nil {
			return fmt.Errorf("%s: EventBridge did not take the event: %s: %s", doing, *entry.ErrorCode, aws.ToString(entry.ErrorMessage))
		}
	}
	return errors.New(doing + ": EventBridge did not take the event, and does not say why")
}

// failed says in words what went wrong, and what to do when EventBridge has said it.
func failed(doing string, err error, advice string) error {
	var api smithy.APIError
	if !errors.As(err, &api) {
		return fmt.Errorf("%s: %w", doing, err)
	}
	// The first line only: what follows it in a message about a signature quotes the
	// request, session token included.
	message, _, _ := strings.Cut(api.ErrorMessage(), "\n")
	return fmt.Errorf("%s: %s: %s%s", doing, api.ErrorCode(), message, advice)
}

// advice tells what a person can do about an error of EventBridge, by its code.
func advice(err error, denied, missing string) string {
	var api smithy.APIError
	if !errors.As(err, &api) {
		return ""
	}
	switch api.ErrorCode() {
	case "AccessDeniedException":
		return "; grant " + denied + " to the identity that the rotator runs as"
	case "ResourceNotFoundException":
		return "; there is no such " + missing
	}
	return ""
}
