package rotator

import (
	"context"
	"slices"
	"strings"
)

// Plan tells what Advance would do first, and why, with every check that a rotation
// begins with. It only reads.
func (r *Rotator) Plan(ctx context.Context, request Request) (Result, error) {
	if err := request.Validate(); err != nil {
		return Invalid(request, err)
	}
	ctx, cancel, u := r.newRun(ctx, request)
	defer cancel()
	u.readOnly = true
	o, err := u.observe(ctx)
	if err != nil {
		return u.close(ctx, verdict{}, u.failed(StepObserve, err))
	}
	v := decide(o)
	if v.status == "" {
		v.status, v.keyID = StatusWouldRotate, publishedKeyID(o)
		if o.record.InFlight() {
			v.reason = "under way (" + string(o.record.Phase) + "); next: " + v.reason
		}
		v.warnings = append(v.warnings, warningsIn(checks(o))...)
	}
	result, err := u.close(ctx, v, nil)
	result.Checks = slices.Concat(userChecks(o), checks(o))
	return result, err
}

// userChecks are the checks that need no GitLab: each refusal that a decision begins with.
func userChecks(o observed) []Check {
	all := []Check{
		refusalCheck(o, "binding of user "+o.user.Name, unbound, o.user.Binding),
		refusalCheck(o, "other runs", busy, "none"),
		refusalCheck(o, "rotation in flight", elsewhereInFlight, flightWords(o.record)),
		refusalCheck(o, "user "+o.user.Name, otherUser, o.user.ARN),
	}
	if len(o.user.Quarantine) > 0 {
		all = append(all, Check{"quarantine", CheckFault, "AWS attached " + strings.Join(o.user.Quarantine, ", ") + ": its key has leaked; look into it, then run with force"})
	}
	if len(o.keys) > 0 {
		all = append(all, keysCheck(o))
	}
	return all
}

func refusalCheck(o observed, name string, refusal func(observed) (verdict, bool), found string) Check {
	if v, refused := refusal(o); refused {
		return Check{name, CheckFault, v.reason}
	}
	return Check{name, CheckOK, found}
}

func flightWords(r Record) string {
	if !r.InFlight() {
		return "none"
	}
	return string(r.Phase) + ", begun " + stamp(r.StartedAt)
}

// keysCheck: a new key needs a free slot.
func keysCheck(o observed) Check {
	c := Check{"keys of user " + o.user.Name, CheckOK, keyIDs(o.keys)}
	switch v := decideIdle(o); {
	case o.record.InFlight():
	case len(o.keys) > keyLimit:
		c.State, c.Detail = CheckFault, v.reason
	case v.status == StatusHeld:
		c.State, c.Detail = CheckFault, v.reason
	}
	return c
}

// Report is what there is to know about a user's keys.
type Report struct {
	User      User          `json:"user"`
	Keys      []KeyReport   `json:"keys"`
	Published []PlaceReport `json:"published"`
	Record    Record        `json:"record"`
	// Outlook is what the next run would do.
	Outlook Result `json:"outlook"`
}

// PlaceReport is what one place holds.
type PlaceReport struct {
	Place
	Published
	// HeldKeyID is the key that it hands out, "" when that cannot be told.
	HeldKeyID string `json:"held_key_id"`
}

// KeyReport is a key with its last use.
type KeyReport struct {
	AccessKey
	LastUse LastUse `json:"last_use"`
	// Unread says why the last use could not be read, "" when it was.
	Unread string `json:"unread,omitempty"`
}

// Report looks at a user's keys, at what is published and at the journal. It only reads.
func (r *Rotator) Report(ctx context.Context, request Request) (Report, error) {
	outlook, err := r.Plan(ctx, request)
	if outlook.Status == StatusFailed || outlook.User == "" {
		return Report{Outlook: outlook}, err
	}
	ctx, cancel, u := r.newRun(ctx, request)
	defer cancel()
	u.readOnly = true
	for _, look := range []func(context.Context) error{u.lookAtUser, u.lookAtKeys, u.lookAtPublished} {
		if err := look(ctx); err != nil {
			outlook, err = u.close(ctx, verdict{}, u.failed(StepObserve, err))
			return Report{Outlook: outlook}, err
		}
	}
	report := Report{User: u.seen.user, Record: u.record, Outlook: outlook}
	o := u.observed()
	for i, p := range o.published {
		report.Published = append(report.Published, PlaceReport{Place: u.request.Places()[i], Published: p, HeldKeyID: heldKeyID(o, p)})
	}
	for _, k := range valueOr(u.seen.keys) {
		kr := KeyReport{AccessKey: k}
		if kr.LastUse, err = u.Users.LastUsed(ctx, k.ID); err != nil {
			kr.Unread = err.Error()
		}
		report.Keys = append(report.Keys, kr)
	}
	return report, nil
}
