package rotator

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Report is what there is to know about a user's keys.
type Report struct {
	User      User          `json:"user"`
	Keys      []KeyReport   `json:"keys"`
	Published []PlaceReport `json:"published"`
	Record    Record        `json:"record"`
	// Request is the one that counts: that of the rotation under way, or the one asked for.
	Request Request `json:"request"`
	// Unread says what could not be read, and why.
	Unread []string `json:"unread"`
	// Outlook is what the next run would do.
	Outlook Result `json:"outlook"`
}

// PlaceReport is what one place holds, and its redeploys.
type PlaceReport struct {
	Place
	Published
	// HeldKeyID is the key that it hands out, "" when that cannot be told.
	HeldKeyID string    `json:"held_key_id"`
	Pair      PairState `json:"pair"`
	// Unread says why the place could not be read, "" when it was.
	Unread    string           `json:"unread,omitempty"`
	Redeploys []RedeployReport `json:"redeploys"`
}

// PairState is whether the two halves of what a place holds are of one key.
type PairState string

// The states of a pair.
const (
	PairWhole   PairState = "whole"   // both halves are of the key that it hands out
	PairTorn    PairState = "torn"    // they are of two keys, and do not work
	PairPartial PairState = "partial" // one half is missing
	PairMissing PairState = "missing"
	PairUnknown PairState = "unknown" // no stamp tells, as before the first rotation
)

// RedeployReport is one redeploy, and how far the rotation under way is with it.
type RedeployReport struct {
	ProjectWay
	// State is "done", "under_way" or "to_come", "" while no rotation is under way.
	State      string      `json:"state,omitempty"`
	Deployment *Deployment `json:"deployment,omitempty"`
}

// KeyReport is a key with its last use.
type KeyReport struct {
	AccessKey
	LastUse LastUse `json:"last_use"`
	// Unread says why the last use could not be read, "" when it was.
	Unread string `json:"unread,omitempty"`
}

// Report looks at a user's keys, at what is published and at the journal. It only reads.
// What cannot be read is told, and does not keep the rest from being told. The error is
// that of a request or a user that cannot be reported on at all.
func (r *Rotator) Report(ctx context.Context, request Request) (Report, error) {
	outlook, outlookErr := r.Plan(ctx, request)
	report := Report{Outlook: outlook, Request: request}
	if outlook.User == "" || request.Validate() != nil {
		return report, outlookErr
	}
	ctx, cancel, u := r.newRun(ctx, request)
	defer cancel()
	u.readOnly = true
	userErr := u.lookAtUser(ctx)
	if !u.seen.loaded || errors.Is(userErr, ErrNotFound) {
		return report, userErr
	}
	report.User, report.Record, report.Request = u.seen.user, u.record, u.request
	if userErr != nil {
		report.Unread = append(report.Unread, fmt.Sprintf("user %s: %v", request.User, userErr))
		if r := u.record; r.InFlight() && samePlaces(r.Request, u.request) {
			report.Request, u.request = r.Request, r.Request
		}
	}
	if err := u.lookAtKeys(ctx); err != nil {
		report.Unread = append(report.Unread, fmt.Sprintf("the keys of user %s: %v", request.User, err))
	}
	for _, k := range valueOr(u.seen.keys) {
		report.Keys = append(report.Keys, u.keyReport(ctx, k))
	}
	report.Published = u.placeReports(ctx, userErr == nil)
	for _, p := range report.Published {
		if p.Unread != "" {
			report.Unread = append(report.Unread, fmt.Sprintf("the variables of %s: %s", p.Owner(), p.Unread))
		}
	}
	return report, nil
}

func (u *run) keyReport(ctx context.Context, k AccessKey) KeyReport {
	report := KeyReport{AccessKey: k}
	var err error
	if report.LastUse, err = u.Users.LastUsed(ctx, k.ID); err != nil {
		report.Unread = err.Error()
	}
	return report
}

// placeReports read every place, unless the user is not bound to it: then it is somebody
// else's. When nobody knows, only those that a rotation was begun for are read.
func (u *run) placeReports(ctx context.Context, known bool) []PlaceReport {
	o := u.observed()
	why := ""
	switch _, foreign := unbound(o); {
	case known && foreign:
		why = "the user is not bound to it"
	case !known && (!o.record.InFlight() || !samePlaces(o.record.Request, u.request)):
		why = "it cannot be seen whether the user is bound to it"
	default:
		if err := u.lookAtPublished(ctx); err != nil {
			why = err.Error()
		}
	}
	o = u.observed()
	if len(o.published) > 0 && !slices.ContainsFunc(o.published, isRead) && len(o.published[0].Faults) > 0 {
		why = o.published[0].Faults[0]
	}
	var all []PlaceReport
	for i, place := range u.request.Places() {
		report := PlaceReport{Place: place, Unread: why, Redeploys: u.redeployReports(i)}
		if i < len(o.published) && why == "" {
			p := o.published[i]
			report.Published, report.HeldKeyID, report.Pair = p, heldKeyID(o, p), pairState(o, p)
		}
		all = append(all, report)
	}
	return all
}

func pairState(o observed, p Published) PairState {
	id := heldKeyID(o, p)
	switch _, tear := torn(o, p); {
	case !p.KeyID.Exists && !p.Secret.Exists:
		return PairMissing
	case !p.KeyID.Exists || !p.Secret.Exists:
		return PairPartial
	case tear != "":
		return PairTorn
	case id != "" && placed(p, id) == whole:
		return PairWhole
	}
	return PairUnknown
}

// redeployReports are the redeploys of a place, and how far the rotation under way is.
func (u *run) redeployReports(target int) []RedeployReport {
	r := u.record
	past := r.Deployments // of the turns before this one that deployed something
	var all []RedeployReport
	for i, turn := range u.request.Turns() {
		report := RedeployReport{ProjectWay: turn.ProjectWay}
		if i < len(r.Refs) {
			report.Ref = r.Refs[i]
		}
		published := r.Phase == PhasePublished || r.Phase == PhaseRedeploying
		switch {
		case !r.InFlight():
		case r.Phase == PhaseRetiring || r.Phase == PhaseSoaking || published && i < r.Turn:
			report.State = "done"
		case published && i == r.Turn && (r.Marked || r.Phase == PhaseRedeploying):
			report.State = "under_way"
		default:
			report.State = "to_come"
		}
		switch {
		case i < r.Turn && turn.Redeploy != RedeployNone && len(past) > 0:
			report.Deployment, past = &past[0], past[1:]
		case i == r.Turn && r.Deployment.Kind != "":
			report.Deployment = &r.Deployment
		}
		if turn.Target == target {
			all = append(all, report)
		}
	}
	return all
}

// Since is when its phase began, as near as the record tells: of what follows publishing
// it is GitLab's clock, else ours.
func (r Record) Since() time.Time {
	switch r.Phase {
	case PhaseRetiring:
		return r.RetiringSince
	case PhasePublished, PhaseRedeploying:
		return r.PublishedAt
	}
	return r.StartedAt
}
