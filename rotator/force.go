package rotator

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// What a request that is forced upon a rotation in flight changes of its redeploys.

// keptRedeploys begins what is told when it changes none.
const keptRedeploys = "the redeploys of the rotation in flight stay as they are: "

// forceRedeploys lets the redeploys of a forced request stand for those that are still to
// come, if nothing keeps them from succeeding. Those that are over stay, and so does a
// deployment that was to be the proof of the only one. During a soak all are over, and the
// request is for the rotation after it.
func (u *run) forceRedeploys(ctx context.Context) error {
	r := &u.record
	if r.Phase == PhaseSoaking {
		return nil
	}
	if u.asked != nil { // and was looked at before
		u.request.Target, u.request.Destinations = r.Request.Target, r.Request.Destinations
		return nil
	}
	asked := u.request
	several := func(r Request) bool { return len(r.Destinations) > 0 || len(r.Redeploys) > 0 }
	old := r.Request
	if !several(old) && !several(u.request) {
		u.request.Environment = orElse(u.request.Environment, old.Environment)
	}
	before, after := old.Turns(), u.request.Turns()
	switch {
	case reflect.DeepEqual(before, after):
		u.keepRedeploys(old, "")
	case r.Phase == PhaseRetiring:
		u.keepRedeploys(old, "all of them are over")
	case several(old) && !several(u.request), !slices.Equal(old.Places(), u.request.Places()), !startsWith(after, before[:r.Turn]):
		u.keepRedeploys(old, "in what is forced, those that are over have to be as they were, and the places in their order")
	default:
		p, err := u.Destination.Preflight(ctx, u.request)
		if err != nil {
			return err
		}
		o := u.observed()
		o.preflight, o.published = p, p.Published
		if faults := faultsIn(checks(o)); len(faults) > 0 {
			u.keepRedeploys(old, strings.Join(faults, "; "))
			break
		}
		r.turnTo(before, after)
		r.Refs, r.Subgroups = nil, nil
		for _, t := range p.Turns {
			r.Refs, r.Subgroups = append(r.Refs, t.Ref), append(r.Subgroups, t.Subgroups...)
		}
		r.Warnings = slices.DeleteFunc(slices.Clone(r.Warnings), func(w string) bool { return strings.HasPrefix(w, keptRedeploys) })
		r.Request, u.corrected = u.request, true
	}
	u.asked = &asked
	return nil
}

// keepRedeploys goes on with the redeploys of the rotation in flight, and says why.
func (u *run) keepRedeploys(old Request, why string) {
	u.request.Target, u.request.Destinations = old.Target, old.Destinations
	if told := keptRedeploys + why; why != "" && !slices.Contains(u.record.Warnings, told) {
		u.record.Warnings = append(slices.Clone(u.record.Warnings), told)
	}
}

func startsWith(turns, done []Turn) bool {
	return len(done) <= len(turns) && reflect.DeepEqual(turns[:len(done)], done)
}

// turnTo goes on with other redeploys: from the first that is not over, and with a new
// attempt if that is another one. When all are over, the last is done again.
func (r *Record) turnTo(before, after []Turn) {
	turn := min(r.Turn, len(after)-1)
	if turn == r.Turn && turn < len(before) && reflect.DeepEqual(before[turn], after[turn]) {
		return
	}
	if r.Tag != "" && before[r.Turn].ProjectID != after[turn].ProjectID {
		r.Warnings = append(slices.Clone(r.Warnings), fmt.Sprintf("the tag %s of project %d may be left: remove it by hand", r.Tag, before[r.Turn].ProjectID))
		r.Tag, r.Commit, r.Tagged = "", "", false
	}
	r.Turn, r.Deployments = turn, r.Deployments[:min(turn, len(r.Deployments))]
	if r.Phase == PhaseRedeploying {
		r.Phase = PhasePublished
	}
	r.Mark, r.JobMark, r.Marked, r.Fresh, r.FellBack, r.Deployment = 0, 0, false, true, false, Deployment{}
	r.Attempts, r.LastError = nil, ""
}
