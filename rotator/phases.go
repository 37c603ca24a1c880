package rotator

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// decideCreating: a crash here leaves maybe a key that nobody knows.
//
// The next run waits until no run can still be using it, deletes it if it is
// provably ours, and starts over.
func decideCreating(o observed) verdict {
	if o.begun {
		return do(StepCreate, "", "%s", o.record.Reason)
	}
	// A key that was made shows by then, and whoever made it has stopped.
	if until := o.record.CreatingSince.Add(o.orphan); o.iamNow.Before(until) {
		return answer(StatusWaiting, "a key may have been made whose reply was lost; from %s on it is looked for", stamp(until))
	}
	found := orphans(o)
	switch {
	case len(found) == 0:
		return do(StepRestart, "", "no key was made; starting over")
	case len(found) > 1:
		return answer(StatusHeld, "one of %s may have been made by a run whose reply was lost, and nobody can tell which: delete those that nobody uses", keyIDs(found))
	}
	k := found[0]
	switch until := k.CreatedAt.Add(o.orphan); {
	case o.iamNow.Before(until):
		return answer(StatusWaiting, "%s is unknown and young; it is looked at again from %s on", k.ID, stamp(until))
	case o.lastUseErr != nil || !o.lastUse.At.IsZero():
		return answer(StatusHeld, "%s may have been made by a run whose reply was lost, but it was %s: somebody's work; delete it if nobody uses it", k.ID, lastUsed(o))
	}
	return do(StepDiscard, k.ID, "%s was made by a run whose reply was lost: nobody has its secret", k.ID)
}

// orphans are the keys that are ours though nobody learned their ids: unknown
// before, made within the window of the create, and published nowhere. (Never used,
// and old enough that no run can be using it, is asked of the one that is left.)
func orphans(o observed) []AccessKey {
	r := o.record
	return slices.DeleteFunc(slices.Clone(o.keys), func(k AccessKey) bool {
		return slices.Contains(r.KnownKeys, k.ID) ||
			k.CreatedAt.Before(r.CreatingSince.Truncate(time.Second)) || k.CreatedAt.After(r.CreatingUntil) ||
			isPublishedAnywhere(o, k.ID)
	})
}

// decideCreated: a crash here leaves a key whose secret is gone, a pair that is half
// published, or one that is in some places and not in others.
//
// The next run finishes a place whose secret variable claims the new key: that needs no
// secret. For the other places it reads the secret back from one that has it. Where
// nothing has it, it deletes the new key and starts over.
func decideCreated(o observed) verdict {
	id := o.record.NewKeyID
	switch {
	case o.havePair && !o.proven && o.givenUp == "":
		return do(StepProve, id, "a new key takes seconds to work")
	case publishedEverywhere(o, id):
		return do(StepMark, id, "%s is published", id)
	}
	if halves := placesWhere(o, id, half); len(halves) > 0 {
		return finishHalf(o, halves[0])
	}
	if v, held := wronged(o, id); held {
		return v
	}
	begun := len(placesWhere(o, id, whole)) > 0
	switch {
	case o.givenUp != "" && begun:
		return answer(StatusFailed, "%s, so the new key %s is not published everywhere (%s); both keys work, and the next run tries again", o.givenUp, id, holdings(o))
	case o.givenUp != "":
		return do(StepDiscard, id, "%s", o.givenUp)
	case !o.havePair && begun:
		return readBack(o)
	case !o.havePair:
		return discardLost(o)
	}
	return publishNext(o, begun)
}

// finishHalf completes a torn pair, if its key still lives.
func finishHalf(o observed, i int) verdict {
	id := o.record.NewKeyID
	young := o.iamNow.Before(o.record.CreatingSince.Add(o.orphan)) // a list may lack a young key
	switch {
	case switchedOffMeanwhile(o, id) && o.request.Force:
		return do(StepRestart, "", "%s was switched off before it was published whole; starting over by force", id)
	case switchedOffMeanwhile(o, id):
		return answer(StatusHeld, "%s was switched off before it was published whole, so a job that starts now gets a pair that does not work: switch it on again, or run with force to start over", id)
	case isReplaced(o, o.published[i]) && o.request.Force:
		return do(StepRestart, "", "%s was half published, and somebody has put %s there since; starting over by force", id, heldKeyID(o, o.published[i]))
	case isReplaced(o, o.published[i]):
		return answer(StatusHeld, "%s was half published, and somebody has put %s there since: correct the variables, or run with force to start over", id, heldKeyID(o, o.published[i]))
	case o.havePair, hasKey(o.keys, id), young:
		v := do(StepPublishKeyID, id, "%s is half published", id)
		v.place = i
		return v
	}
	return do(StepRestart, "", "%s is gone, so somebody deleted it; starting over", id)
}

// isReplaced tells whether the key id of a place is neither of the two that a rotation
// knows. One that was begun by force may have found another there.
func isReplaced(o observed, p Published) bool {
	id := heldKeyID(o, p)
	return !o.record.Forced && id != "" && o.record.PreviousKeyID != "" && id != o.record.PreviousKeyID && id != o.record.NewKeyID
}

// wronged: somebody has put the new key's id beside another secret, or elsewhere.
func wronged(o observed, id string) (verdict, bool) {
	isElsewhere := slices.ContainsFunc(elsewhere(o), func(h Holding) bool { return h.KeyID == id })
	switch {
	case len(placesWhere(o, id, wrong)) == 0 && (!isElsewhere || len(placesWhere(o, id, whole)) > 0):
		return verdict{}, false
	case o.request.Force:
		return do(StepRestart, "", "%s is published with a secret that is not its own; starting over by force", id), true
	}
	return answer(StatusHeld, "%s is published with a secret that is not its own, so somebody changed the variables: correct them, or run with force to start over", id), true
}

// publishNext publishes the pair to the next place, unless somebody has put another key
// there meanwhile.
func publishNext(o observed, begun bool) verdict {
	id := o.record.NewKeyID
	i, _ := next(o, id)
	p := heldKeyID(o, o.published[i])
	foreign := p != "" && o.record.PreviousKeyID != "" && p != o.record.PreviousKeyID && !o.request.Force && !o.record.Forced
	switch {
	case foreign && begun:
		return answer(StatusHeld, "somebody has published %s meanwhile (%s): correct the variables, or run with force to publish %s over them", p, holdings(o), id)
	case foreign:
		return do(StepDiscard, id, "somebody has published %s meanwhile", p)
	}
	v := do(StepPublishSecret, id, "%s works", id)
	v.place = i
	return v
}

// readBack brings the new key to the places that do not have it yet, though the run that
// made it has died: where its secret is not hidden it can be read. When it is hidden in
// all places that have it, nobody can, and jobs get one key or the other: then a person
// must say which may fail for the moment that a new key takes. That should be the new
// one: as nothing was redeployed, what runs has the old one, wherever it was published.
func readBack(o observed) verdict {
	id := o.record.NewKeyID
	young := o.iamNow.Before(o.record.CreatingSince.Add(o.orphan)) // a list may lack a young key
	if switchedOffMeanwhile(o, id) || !hasKey(o.keys, id) && !young {
		return brokenMeanwhile(o)
	}
	if i, found := readable(o, id); found {
		v := do(StepRecover, id, "%s is not published everywhere yet, and the run that made it has ended", id)
		v.place = i
		return v
	}
	if o.request.Force && o.request.RetireKey != "" {
		return do(StepRestart, "", "%s cannot be published everywhere, for its secret can nowhere be read; starting over by force", id)
	}
	return answer(StatusHeld, "the run that published %s died before it was in all places (%s), and nobody can read its secret, which is hidden: both keys work, so nothing is broken. "+
		"To end it, run with force and name %s in retire_key: jobs that start where it is, and what they have deployed since, fail until the next key is published and deployed; all else runs with %s",
		id, holdings(o), id, orElse(o.record.PreviousKeyID, "what it had"))
}

// brokenMeanwhile: the places that have the new key hand out one that does not work.
func brokenMeanwhile(o observed) verdict {
	id := o.record.NewKeyID
	if o.request.Force {
		return do(StepRestart, "", "%s is gone or not active, and not published everywhere; starting over by force", id)
	}
	return answer(StatusHeld, "the new key %s is gone or not active, so somebody changed it, and it is published (%s): switch it on again, or run with force to start over", id, holdings(o))
}

func switchedOffMeanwhile(o observed, id string) bool {
	return slices.ContainsFunc(o.keys, func(k AccessKey) bool { return k.ID == id && k.Status != KeyActive })
}

// discardLost deletes a new key whose secret is gone: at once, unless the secret may
// still be on its way to GitLab, sent by a run that has died since.
func discardLost(o observed) verdict {
	id := o.record.NewKeyID
	if until := o.record.SentAt.Add(min(2*writeTime, o.orphan)); o.iamNow.Before(until) {
		return answer(StatusWaiting, "the run that made %s ended while it published it, and a write may still be on its way; from %s on it is deleted if it has not arrived", id, until.UTC().Format("15:04:05 UTC"))
	}
	return do(StepDiscard, id, "the run that made %s ended before it was published: nobody has its secret", id)
}

// decidePublished: a crash here leaves the new pair in place, proven, and maybe a
// redeploy whose reply was lost.
//
// The next run finds that redeploy above the mark, or starts one.
func decidePublished(o observed) verdict {
	id, s := o.record.NewKeyID, o.deployed.State
	switch {
	case o.turn().Redeploy == RedeployNone && o.record.Marked && o.record.Tag == "":
		return do(StepAwait, id, "nothing is redeployed: the overlap of %s is what the service has to fetch it", hours(o.request.OverlapHours))
	case o.record.Tag != "" && (!o.record.Marked || o.turn().Redeploy == RedeployNone || s == DeploymentSucceeded || s == DeploymentFailed):
		return do(StepUntag, id, "%s was for one pipeline", o.record.Tag)
	case o.record.Marked && s == DeploymentFailed:
		return do(StepAwait, id, "%s", failedAs(o.deployed))
	case o.record.Marked && s != DeploymentNone:
		return do(StepAwait, id, "%s was started", o.deployed.Name())
	case o.record.Tag != "" && !o.record.Tagged:
		return do(StepTag, id, "commit %.8s is live", o.record.Commit)
	case o.record.Marked:
		return do(StepRedeploy, id, "the service needs %s", id)
	}
	return decideRedeploy(o)
}

// decideRedeploy: no redeploy is under way that we know of. May one begin?
func decideRedeploy(o observed) verdict {
	if v, held := changed(o); held {
		return v
	}
	if v, waiting := waitForHolders(o, o.record.StartedAt); waiting {
		return v
	}
	if s := o.deployed.State; s != DeploymentNone && s != DeploymentFailed { // one that failed was counted
		return do(StepAwait, o.record.NewKeyID, "%s was started", o.deployed.Name())
	}
	if next := o.record.NextAttempt(o.now); !next.IsZero() {
		recent := o.record.RecentAttempts(o.now)
		return answer(StatusWaiting, "%d redeploys have failed since %s (%s); the next is tried from %s on; both keys work until then",
			len(recent), stamp(recent[0]), o.record.LastError, stamp(next))
	}
	return do(StepMark, o.record.NewKeyID, "the service needs %s", o.record.NewKeyID)
}

// waitForHolders waits for jobs that may hold the old key: they need it to work, and
// one that deploys could make it live again.
func waitForHolders(o observed, since time.Time) (verdict, bool) {
	if len(o.holders) == 0 {
		return verdict{}, false
	}
	told := fmt.Sprintf("jobs that began before %s was published still run and may hold %s: %s", o.record.NewKeyID, orElse(o.record.PreviousKeyID, "another key"), jobNames(o.holders))
	if o.now.Sub(since) >= holderPatience {
		return answer(StatusHeld, "%s; cancel them, or let them end", told), true
	}
	return answer(StatusWaiting, "%s", told), true
}

// decideRedeploying: a crash here leaves a deployment running. The next run waits on.
func decideRedeploying(o observed) verdict {
	d := o.deployed
	over := d.State == DeploymentSucceeded || d.State == DeploymentFailed || d.State == DeploymentNone
	if over && o.record.Tag != "" {
		return do(StepUntag, o.record.NewKeyID, "%s was for one pipeline", o.record.Tag)
	}
	switch d.State {
	case DeploymentSucceeded:
		return do(StepAwait, o.record.NewKeyID, "%s succeeded", d.Name())
	case DeploymentBlocked:
		return answer(StatusWaiting, "%s is %s, it waits for somebody: %s", d.Name(), d.Status, orElse(d.Detail, d.URL))
	case DeploymentFailed:
		return do(StepAwait, o.record.NewKeyID, "%s", failedAs(d))
	case DeploymentNone:
		return do(StepAwait, o.record.NewKeyID, "%s is gone", o.record.Deployment.Name())
	}
	return do(StepAwait, o.record.NewKeyID, "%s", running(d))
}

// failedAs says how a deployment failed.
func failedAs(d Deployment) string {
	return orElse(d.Detail, fmt.Sprintf("%s ended as %s: %s", d.Name(), d.Status, d.URL))
}

// running says what a deployment that goes on is at.
func running(d Deployment) string {
	said := fmt.Sprintf("%s is %s", d.Name(), d.Status)
	if d.Detail != "" {
		said += ": " + d.Detail
	}
	return said
}

// decideRetiring: a crash here leaves the old key active, or inactive.
//
// The next run looks again at all that could still need it, then deactivates it.
func decideRetiring(o observed) verdict {
	old := o.record.PreviousKeyID
	if old == "" {
		return do(StepFinish, "", "there is no old key to retire")
	}
	if until := o.record.RetiringSince.Add(hours(o.request.OverlapHours)); o.now.Before(until) {
		return answer(StatusWaiting, "both keys work until the overlap ends, at %s", stamp(until))
	}
	if v, waiting := waitForHolders(o, o.record.RetiringSince); waiting {
		return v
	}
	if !hasKey(o.keys, old) {
		return do(StepFinish, old, "%s is gone", old)
	}
	if v, held := keepOld(o); held {
		return v
	}
	return do(StepDeactivate, old, "%s is deployed, and nothing is known to use %s", o.record.NewKeyID, old)
}

// decideSoaking: a crash here leaves the old key inactive. The next run deletes it
// when the soak is over, unless somebody has brought it back.
func decideSoaking(o observed) verdict {
	old, until := o.record.PreviousKeyID, o.record.SoakUntil
	i := slices.IndexFunc(o.keys, func(k AccessKey) bool { return k.ID == old })
	switch {
	case i < 0:
		return do(StepFinish, old, "%s is gone", old)
	case o.now.Before(until) && !o.request.Force:
		return answer(StatusWaiting, "%s is inactive, and deleted from %s on; force ends the soak", old, stamp(until))
	case o.keys[i].Status == KeyActive:
		return answer(StatusHeld, "%s was switched on again during its soak, so somebody needs it: find out who, then deactivate it", old)
	}
	if v, held := keepOld(o); held {
		return v
	}
	return do(StepDelete, old, "%s is inactive, and its soak is over", old)
}

// keepOld holds back what cannot be undone: the last look before a deactivate or a
// delete, at what was read just now.
func keepOld(o observed) (verdict, bool) {
	old := o.record.PreviousKeyID
	if v, held := changed(o); held {
		return v, true
	}
	for _, h := range elsewhere(o) {
		if h.KeyID == old {
			return answer(StatusHeld, "%s holds %s, which is to be retired: give it a user of its own, or remove it", h.Variable, old), true
		}
	}
	switch {
	case o.request.RetireKey == old: // a person has answered for it
	case o.lastUseErr != nil:
		return answer(StatusHeld, "the last use of %s cannot be read, so it is kept: %v", old, o.lastUseErr), true
	case stillUsed(o):
		quiet := ""
		if o.request.OverlapHours > 0 {
			quiet = fmt.Sprintf("it is retired when nothing has used it for %.0f hours; ", quietTime(o.request).Hours())
		}
		return answer(StatusHeld, "%s was used after the deployment (%s): something else has it; %smove that to a key of its own, then name %s in retire_key", old, lastUsed(o), quiet, old), true
	}
	return verdict{}, false
}

// lastUseLag is how late IAM may tell of a use: AWS names four hours for its kind of
// data, and counts in quarters of an hour.
const lastUseLag = 6 * time.Hour

// stillUsed: the old key was used after the deployment. With an overlap that is what
// the overlap is for, so it is asked to have been quiet for as long.
func stillUsed(o observed) bool {
	late := o.lastUse.At.After(onIAMClock(o, o.record.DeployedAt))
	return late && (o.request.OverlapHours == 0 || o.iamNow.Sub(o.lastUse.At) < quietTime(o.request))
}

func quietTime(r Request) time.Duration { return max(hours(r.OverlapHours), lastUseLag) }

// changed: somebody has put something else where the new key was published, or has
// taken it away.
func changed(o observed) (verdict, bool) {
	id := o.record.NewKeyID
	works := slices.ContainsFunc(o.keys, func(k AccessKey) bool { return k.ID == id && k.Status == KeyActive })
	switch published := publishedEverywhere(o, id); {
	case published && works:
		return verdict{}, false
	case o.request.Force:
		return do(StepRestart, "", "%s is no longer what is published and works; starting over by force", id), true
	case published:
		return answer(StatusHeld, "the published key %s is gone or not active, so somebody changed it, and the old one is kept: switch it on again, or run with force to start over", id), true
	}
	var lost []string
	for i, place := range o.request.Places() {
		if i >= len(o.published) || placed(o.published[i], id) != whole {
			lost = append(lost, place.String())
		}
	}
	return answer(StatusHeld, "%s no longer hold %s, so somebody changed them, and both keys are kept: to start over from what they hold now, make sure that nothing uses %s, then run with force and name it in retire_key",
		strings.Join(lost, ", "), id, id), true
}

// onIAMClock carries a moment of GitLab's clock to IAM's. Both are read to the
// second, so a difference of up to two is taken for none.
func onIAMClock(o observed, gitLab time.Time) time.Time {
	const resolution = 2 * time.Second
	if skew := o.iamNow.Sub(o.gitLab); skew.Abs() > resolution {
		return gitLab.Add(skew)
	}
	return gitLab
}

func jobNames(jobs []Job) string {
	const shown = 3 // enough to find them
	var names []string
	for _, j := range jobs[:min(len(jobs), shown)] {
		names = append(names, fmt.Sprintf("%s (%s)", j.Name, j.URL))
	}
	if more := len(jobs) - shown; more > 0 {
		names = append(names, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(names, ", ")
}

func hours(n int) time.Duration { return time.Duration(n) * time.Hour }

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}
