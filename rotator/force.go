package rotator

import (
	"fmt"
	"reflect"
	"slices"
)

// What a request that is forced upon a rotation in flight changes of its redeploys.

// keptRedeploys is told when it changes none.
const keptRedeploys = "the redeploys of the rotation in flight stay as they are: in what is forced, those that are over have to be as they were, the places in their order, and each new one has to name its ref, and a project that is redeployed already"

// forceRedeploys lets the redeploys of a forced request stand for those that are still to
// come. Those that are over stay, and so does a deployment that was to be the proof of the
// only one. During a soak all are over, and the request is for the rotation after it.
func (u *run) forceRedeploys() {
	r := &u.record
	if r.Phase == PhaseSoaking {
		return
	}
	if u.asked == nil {
		asked := u.request
		u.asked = &asked
	}
	several := func(r Request) bool { return len(r.Destinations) > 0 || len(r.Redeploys) > 0 }
	old := r.Request
	if !several(old) && !several(u.request) {
		u.request.Environment = orElse(u.request.Environment, old.Environment)
	}
	before, after := old.Turns(), u.request.Turns()
	refs, known := forcedRefs(*r, after)
	switch {
	case reflect.DeepEqual(before, after):
		u.request.Target, u.request.Destinations = old.Target, old.Destinations
	case r.Phase == PhaseRetiring, several(old) && !several(u.request), !known, hasStranger(before, after),
		!slices.Equal(old.Places(), u.request.Places()), !startsWith(after, before[:r.Turn]):
		u.request.Target, u.request.Destinations = old.Target, old.Destinations
		if !slices.Contains(r.Warnings, keptRedeploys) {
			r.Warnings = append(slices.Clone(r.Warnings), keptRedeploys)
		}
	default:
		r.Refs, r.Request, u.corrected = refs, u.request, true
		r.Warnings = slices.DeleteFunc(slices.Clone(r.Warnings), func(w string) bool { return w == keptRedeploys })
		r.turnTo(before, after)
	}
}

func startsWith(turns, done []Turn) bool {
	return len(done) <= len(turns) && reflect.DeepEqual(turns[:len(done)], done)
}

// hasStranger tells whether there is a project among the turns that was not looked at
// before the rotation began: whether its jobs get the key is not known.
func hasStranger(before, after []Turn) bool {
	return slices.ContainsFunc(after, func(t Turn) bool {
		return !slices.ContainsFunc(before, func(b Turn) bool { return b.ProjectID == t.ProjectID })
	})
}

// forcedRefs are the refs of turns: what was found for one that stays, the one that a turn
// names, or else the default branch, if it was found. False when one is not known.
func forcedRefs(r Record, turns []Turn) (refs []string, known bool) {
	found := map[int64]string{} // the default branches, by project
	before := r.Request.Turns()
	for i, ref := range r.Refs {
		if i < len(before) && before[i].Ref == "" && before[i].Fallback != FallbackLiveCommit { // whose ref is a tag's
			found[before[i].ProjectID] = ref
		}
	}
	for i, t := range turns {
		ref := orElse(t.Ref, orElse(found[t.ProjectID], r.Ref))
		if i < len(r.Refs) && i < len(before) && reflect.DeepEqual(before[i], t) {
			ref = r.Refs[i]
		}
		if ref == "" && (t.Redeploy == RedeployPipeline || t.Fallback == RedeployPipeline) {
			return nil, false
		}
		refs = append(refs, ref)
	}
	return refs, true
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
