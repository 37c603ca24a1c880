package rotator

import (
	"fmt"
	"reflect"
	"slices"
)

// What a request that is forced upon a rotation in flight changes of its redeploys.

// keptRedeploys is told when it changes none.
const keptRedeploys = "the redeploys of the rotation in flight stay as they are: in what is forced, those that are over have to be as they were, the places in their order, and each new one has to name its ref"

// forceRedeploys lets the redeploys of a forced request stand for those that are still to
// come. Those that are over stay, and so does a deployment that was to be the proof of the
// only one.
func (u *run) forceRedeploys() {
	old, forced := u.record.Request, u.request
	before, after := old.Turns(), forced.Turns()
	several := func(r Request) bool { return len(r.Destinations) > 0 || len(r.Redeploys) > 0 }
	if !several(old) && !several(forced) {
		u.request.Environment = orElse(forced.Environment, old.Environment)
		after = u.request.Turns()
	}
	refs, known := forcedRefs(u.record, after)
	switch {
	case reflect.DeepEqual(before, after):
		u.request.Target, u.request.Destinations = old.Target, old.Destinations
	case several(old) && !several(forced), !known, !slices.Equal(old.Places(), forced.Places()), !startsWith(after, before[:over(u.record)]):
		u.request.Target, u.request.Destinations = old.Target, old.Destinations
		if !slices.Contains(u.record.Warnings, keptRedeploys) {
			u.record.Warnings = append(slices.Clone(u.record.Warnings), keptRedeploys)
		}
	default:
		u.record.Refs = refs
		if several(old) || several(forced) {
			u.turnTo(before, after)
		}
	}
}

// over is how many redeploys a rotation is done with.
func over(r Record) int {
	if r.Phase == PhaseRetiring || r.Phase == PhaseSoaking {
		return len(r.Request.Turns())
	}
	return r.Turn
}

func startsWith(turns, done []Turn) bool {
	return len(done) <= len(turns) && reflect.DeepEqual(turns[:len(done)], done)
}

// forcedRefs are the refs of turns: the one that a turn names, or else what was found for
// its project. False when one is not known.
func forcedRefs(r Record, turns []Turn) (refs []string, known bool) {
	found := map[int64]string{} // the default branches, by project
	before := r.Request.Turns()
	for i, ref := range r.Refs {
		if i < len(before) && before[i].Ref == "" {
			found[before[i].ProjectID] = ref
		}
	}
	for i, t := range turns {
		ref := orElse(t.Ref, orElse(found[t.ProjectID], r.Ref))
		if ref == "" && i < len(before) && i < len(r.Refs) && before[i].ProjectID == t.ProjectID {
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
// attempt if that is another one.
func (u *run) turnTo(before, after []Turn) {
	r := &u.record
	turn := min(r.Turn, len(after)-1)
	if turn == r.Turn && turn < len(before) && reflect.DeepEqual(before[turn], after[turn]) {
		return
	}
	if r.Tag != "" && before[r.Turn].ProjectID != after[turn].ProjectID {
		r.Warnings = append(slices.Clone(r.Warnings), fmt.Sprintf("the tag %s of project %d is left: remove it by hand", r.Tag, before[r.Turn].ProjectID))
		r.Tag, r.Commit, r.Tagged = "", "", false
	}
	r.Turn, r.Deployments = turn, r.Deployments[:min(turn, len(r.Deployments))]
	if r.Phase == PhaseRedeploying {
		r.Phase = PhasePublished
	}
	r.Mark, r.JobMark, r.Marked, r.Fresh, r.FellBack, r.Deployment = 0, 0, false, true, false, Deployment{}
	r.Attempts, r.LastError = nil, ""
}
