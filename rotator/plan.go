package rotator

import "context"

// Plan tells what Advance would do first, and why. It only reads.
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
		v.warnings = append(v.warnings, o.preflight.Warnings...)
		if o.preflight.ReadOnly {
			v.warnings = append(v.warnings, "this token may only read: the rotation itself needs one with the scope api")
		}
	}
	return u.close(ctx, v, nil)
}

// Report is what there is to know about a user's keys.
type Report struct {
	User      User        `json:"user"`
	Keys      []KeyReport `json:"keys"`
	Published Published   `json:"published"`
	Record    Record      `json:"record"`
	// Outlook is what the next run would do.
	Outlook Result `json:"outlook"`
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
	report := Report{User: u.seen.user, Published: valueOr(u.seen.published), Record: u.record, Outlook: outlook}
	for _, k := range valueOr(u.seen.keys) {
		kr := KeyReport{AccessKey: k}
		if kr.LastUse, err = u.Users.LastUsed(ctx, k.ID); err != nil {
			kr.Unread = err.Error()
		}
		report.Keys = append(report.Keys, kr)
	}
	return report, nil
}
