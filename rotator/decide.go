package rotator

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Policy: numbers that are decided here, with their reasons.
const (
	// keyLimit is IAM's quota of keys per user, active or not. Racing creates can
	// pass it, so more are met, and refused.
	keyLimit = 2
	// RedeployAttempts in redeployWindow: enough to ride out a bad day of GitLab,
	// too few to burn runner minutes on a pipeline that is broken.
	RedeployAttempts = 3
	redeployWindow   = 24 * time.Hour
	// holderPatience is how long jobs that hold the previous key are waited for
	// before a person is asked: longer than GitLab's longest default job timeout.
	holderPatience = 24 * time.Hour
)

// observed is everything that a decision rests on. decide adds nothing to it: no
// clock, no call. What a phase does not need is left zero.
type observed struct {
	now     time.Time // ours
	iamNow  time.Time
	gitLab  time.Time     // GitLab's now
	left    time.Duration // until the run must stop; negative: no time
	whole   time.Duration // the run had in all
	needed  time.Duration // from creating a key until it is safely published
	orphan  time.Duration // ORPHAN_AGE
	owner   string        // who we are, as the lease says it
	request Request

	record    Record
	user      User
	keys      []AccessKey
	preflight Preflight
	published []Published // of the request's places; empty: not read
	deployed  Deployment
	holders   []Job
	// lastUse is that of the key which suspect names; lastUseErr: it could not be read.
	lastUse    LastUse
	lastUseErr error

	// What only the run that did it knows.
	begun    bool   // this run saved the intent to create, and has not created yet
	havePair bool   // this run holds the new secret
	proven   bool   // and saw it authenticate
	givenUp  string // why the new key is not to be published; "" as long as it is
	readOnly bool   // this is a plan
}

// turn is the redeploy under way.
func (o observed) turn() Turn { return turnOf(o.request, o.record) }

// turnOf is the redeploy under way. A request that was forced upon a rotation may have
// fewer.
func turnOf(r Request, record Record) Turn {
	turns := r.Turns()
	return turns[min(record.Turn, len(turns)-1)]
}

// verdict is the next step, or the answer when there is none.
type verdict struct {
	step   Step
	status Status
	reason string
	keyID  string // the key that the step is about, or the published one
	place  int    // of the request's, which the step is about
	// previous is the key that a rotation which begins is to retire, adopt the new
	// key whose secret was published by a rotation that the journal lost.
	previous, adopt string
	nextDue         time.Time
	warnings        []string
}

func do(s Step, keyID, format string, args ...any) verdict {
	return verdict{step: s, keyID: keyID, reason: fmt.Sprintf(format, args...)}
}

func answer(s Status, format string, args ...any) verdict {
	return verdict{status: s, reason: fmt.Sprintf(format, args...)}
}

// decide says what to do next, and why. It is pure. Refusals come first, then the
// phase decides; each phase says what a crash in it leaves.
func decide(o observed) verdict {
	if v := refusals(o); len(v) > 0 {
		return v[0]
	}
	switch o.record.Phase {
	case PhaseCreating:
		return decideCreating(o)
	case PhaseCreated:
		return decideCreated(o)
	case PhasePublished:
		return decidePublished(o)
	case PhaseRedeploying:
		return decideRedeploying(o)
	case PhaseRetiring:
		return decideRetiring(o)
	case PhaseSoaking:
		return decideSoaking(o)
	case PhaseIdle, "":
		return decideIdle(o)
	}
	return answer(StatusRefused, "the journal says that %s is in phase %q, which this version does not know: run the one that wrote it", o.user.Name, o.record.Phase)
}

// refusals are the reasons not to look any further.
func refusals(o observed) []verdict {
	var all []verdict
	for _, refusal := range []func(observed) (verdict, bool){unbound, busy, otherUser, elsewhereInFlight} {
		if v, refused := refusal(o); refused {
			all = append(all, v)
		}
	}
	return all
}

// unbound: an event must never be able to send one service's key to another
// project, nor rotate one of several places under the others.
func unbound(o observed) (verdict, bool) {
	bound := strings.Fields(o.user.Binding)
	var asked, foreign []string
	for _, p := range o.request.Places() {
		id := p.binding()
		if !slices.Contains(asked, id) {
			asked = append(asked, id)
		}
		if !slices.Contains(bound, id) && !slices.Contains(foreign, p.Owner()) {
			foreign = append(foreign, p.Owner())
		}
	}
	rest := slices.DeleteFunc(slices.Clone(bound), func(b string) bool { return slices.Contains(asked, b) })
	tag := "credential-rotator:project-ids = " + strings.Join(asked, " ")
	switch {
	case len(bound) == 0:
		return answer(StatusRefused, "user %s is not bound to %s: if its key belongs there, tag the user, %s", o.user.Name, strings.Join(foreign, ", "), tag), true
	case len(foreign) > 0:
		return answer(StatusRefused, "user %s is bound to %s, not to %s: give that a user of its own; or, if the key has moved, tag the user, %s",
			o.user.Name, strings.Join(bound, ", "), strings.Join(foreign, ", "), tag), true
	case len(rest) > 0:
		return answer(StatusRefused, "user %s is bound to %s, and this request does not cover %s, which would keep a key that is going to be deleted: name all of them in destinations, or give each a user of its own",
			o.user.Name, strings.Join(bound, ", "), strings.Join(rest, ", ")), true
	}
	return verdict{}, false
}

func busy(o observed) (verdict, bool) {
	l := o.record.Lease
	if l.Owner == o.owner || !l.Held(o.now) {
		return verdict{}, false
	}
	return answer(StatusBusy, "another run holds the rotation of %s until %s", o.user.Name, stamp(l.Until)), true
}

// otherUser: whoever deletes and re-creates a user makes another one, with other
// keys. What the record says is not about it.
func otherUser(o observed) (verdict, bool) {
	if o.record.UniqueID == "" || o.record.UniqueID == o.user.UniqueID || o.request.Force {
		return verdict{}, false
	}
	return answer(StatusRefused, "user %s was deleted and made again (%s, the journal knows %s): if that was meant, run once with force, which drops what the journal knows",
		o.user.Name, o.user.UniqueID, o.record.UniqueID), true
}

// elsewhereInFlight: a rotation ends where it began.
func elsewhereInFlight(o observed) (verdict, bool) {
	if !o.record.InFlight() || o.record.UniqueID != o.user.UniqueID || samePlaces(o.record.Request, o.request) {
		return verdict{}, false
	}
	var places []string
	for _, p := range o.record.Request.Places() {
		places = append(places, p.String())
	}
	return answer(StatusRefused, "a rotation of %s is in flight for %s: let it end before the key moves to another place; if it cannot, for one of them is gone, run once with force, which drops what the journal knows: both keys stay as they are", o.user.Name, strings.Join(places, ", ")), true
}

// decideIdle: nothing is in flight.
func decideIdle(o observed) verdict {
	if len(o.keys) > keyLimit {
		return answer(StatusRefused, "user %s has %d keys, more than IAM allows, so somebody raced: delete those that nobody uses (%s)", o.user.Name, len(o.keys), keyIDs(o.keys))
	}
	if len(o.user.Quarantine) > 0 && !o.request.Force {
		return answer(StatusRefused, "AWS attached %s to user %s: its key has leaked; look into it, then run with force, which replaces the key (the policy stays until a person detaches it)",
			strings.Join(o.user.Quarantine, ", "), o.user.Name)
	}
	if faults := faultsIn(checks(o)); len(faults) > 0 {
		return answer(StatusRefused, "%s", strings.Join(faults, "; "))
	}
	if v, found := adopt(o); found {
		return v
	}
	p := publishedKeyID(o)
	switch {
	case len(heldKeyIDs(o)) > 1 && (!o.request.Force || len(o.keys) > 1 && p == ""):
		return answer(StatusHeld, "the places do not hold the same key (%s): write the pair of one into the others, or run with force, which publishes a new key over all of them, and name in retire_key the one that nothing runs with (what runs has the key that it was deployed with)", holdings(o))
	case len(o.keys) == 0:
		return begin(o, "", "the user had no key")
	case len(o.keys) == 1:
		return decideOneKey(o, o.keys[0], p)
	}
	return decideTwoKeys(o, p)
}

func decideOneKey(o observed, k AccessKey, p string) verdict {
	if k.ID == p {
		reason, due := isDue(o, k)
		switch {
		case due && switchedOff(o, k):
			return heldOff(k)
		case due:
			return begin(o, k.ID, reason)
		}
		return notDue(o, k)
	}
	if missing(o) == "" && !o.request.Force {
		return answer(StatusHeld, "%s holds %s, which is no key of user %s (it has %s): correct the variables, or run with force to publish a new key over them", keyIDVariable(o), orNothing(p), o.user.Name, k.ID)
	}
	reason := "the variables held no key of this user"
	if o.request.RetireKey == k.ID {
		return begin(o, k.ID, reason)
	}
	v := begin(o, "", reason)
	v.warnings = append(v.warnings, fmt.Sprintf("%s was not published, so it was left active: once nobody uses it, delete it, or name it in retire_key", k.ID))
	return v
}

func decideTwoKeys(o observed, p string) verdict {
	i := slices.IndexFunc(o.keys, func(k AccessKey) bool { return k.ID == p })
	if i < 0 {
		return answer(StatusHeld, "user %s has two keys (%s), and %s holds %s: which one the service uses cannot be told; delete the one that nobody uses", o.user.Name, keyIDs(o.keys), keyIDVariable(o), orNothing(p))
	}
	k, other := o.keys[i], o.keys[1-i]
	reason, due := isDue(o, k)
	start := begin(o, k.ID, reason)
	switch {
	case !due:
		v := notDue(o, k)
		v.warnings = append(v.warnings, fmt.Sprintf("user %s has a second key, %s (%s): it is in the way of the next rotation", o.user.Name, other.ID, strings.ToLower(string(other.Status))))
		return v
	case switchedOff(o, k):
		return heldOff(k)
	case start.step == "":
		return start
	case other.Status != KeyActive:
		return do(StepTidy, other.ID, "%s, and the slot of %s, which is inactive, is needed", reason, other.ID)
	case o.request.RetireKey == other.ID:
		return do(StepDeactivate, other.ID, "%s, and retire_key names %s, whose slot is needed", reason, other.ID)
	}
	v := answer(StatusHeld, "%s is active, not ours, %s: its slot is needed because %s; delete it, or name it in retire_key", other.ID, lastUsed(o), reason)
	v.keyID = k.ID
	return v
}

// switchedOff: the service's own key does not work, and nobody said that a new one
// is wanted.
func switchedOff(o observed, k AccessKey) bool {
	return k.Status != KeyActive && !o.request.Force
}

func heldOff(k AccessKey) verdict {
	v := answer(StatusHeld, "the published key %s is %s, so somebody switched it off: switch it on again, or run with force to replace it", k.ID, strings.ToLower(string(k.Status)))
	v.keyID = k.ID
	return v
}

// torn finds a torn pair that no record tells of (the journal was lost at the worst
// moment, or another one was used): the id variable still holds the key it was stamped
// with, and the secret variable was stamped with another. It names that other key.
func torn(o observed, p Published) (claims, reason string) {
	id := heldKeyID(o, p)
	claims = p.Secret.Claims
	if id == "" || claims == "" || claims == id || claims == p.KeyID.Claims || p.KeyID.Claims != id && !isNewer(o.keys, claims, id) {
		return "", ""
	}
	return claims, fmt.Sprintf("the pair is torn: the secret is that of %s, the id that of %s", claims, id)
}

// isNewer: without a stamp of its own, an id that a person has written since would
// look torn as well; but then the key of the old stamp is the older one.
func isNewer(keys []AccessKey, id, than string) bool {
	var a, b time.Time
	for _, k := range keys {
		switch k.ID {
		case id:
			a = k.CreatedAt
		case than:
			b = k.CreatedAt
		}
	}
	return !b.IsZero() && a.After(b)
}

// unfinished finds a key that no record tells of, which was published in some of the
// places and not in those that hand out an older one.
func unfinished(o observed, p Published) (id, reason string) {
	id = p.Secret.Claims
	if _, found := readable(o, id); !found || o.request.Force {
		return "", ""
	}
	older := func(held string) bool { return held != id && isNewer(o.keys, id, held) }
	if !slices.ContainsFunc(heldKeyIDs(o), older) {
		return "", ""
	}
	return id, fmt.Sprintf("%s is not published everywhere yet: %s", id, holdings(o))
}

// adopt finishes what a lost rotation has half published, when its new key lives: a torn
// pair needs no secret, and to further places it is brought from where it can be read.
// When the key does not live, only a new one mends the pair, and it is due.
func adopt(o observed) (verdict, bool) {
	for _, p := range o.published {
		id, reason := torn(o, p)
		if id == "" {
			id, reason = unfinished(o, p)
		}
		if !slices.ContainsFunc(o.keys, func(k AccessKey) bool { return k.ID == id && k.Status == KeyActive }) {
			continue
		}
		v := do(StepBegin, id, "%s", reason)
		v.adopt = id
		for _, held := range heldKeyIDs(o) {
			if held != id && hasKey(o.keys, held) {
				v.previous = held
			}
		}
		return v, true
	}
	return verdict{}, false
}

// begin starts a rotation when the run has the time to bring a key from its
// creation to its publication: in between, its secret exists nowhere else.
func begin(o observed, previous, reason string) verdict {
	switch {
	case o.whole < o.needed:
		return answer(StatusFailed, "%s, but a run of %s is too short for it: a new key needs %s until it is safely published; raise the function's timeout or RUN_TIMEOUT", reason, round(o.whole), round(o.needed))
	case o.left < o.needed:
		return answer(StatusWaiting, "%s; the next run begins, this one has too little time left", reason)
	}
	v := do(StepBegin, previous, "%s", reason)
	v.previous = previous
	return v
}

// isDue tells whether the published key is to be replaced, and why. The age is the
// key's, on IAM's clock; no timer's.
func isDue(o observed, k AccessKey) (string, bool) {
	is := "was" // in what is told afterwards
	if o.readOnly {
		is = "is"
	}
	reason := fmt.Sprintf("key %s %s %d days old", k.ID, is, int(o.iamNow.Sub(k.CreatedAt)/(24*time.Hour)))
	if name := missing(o); name != "" {
		return name + " is missing", true
	}
	for _, p := range o.published {
		if _, tear := torn(o, p); tear != "" {
			return tear, true
		}
	}
	if o.request.Force {
		return reason + ", and it was forced", true
	}
	return reason, !o.iamNow.Before(dueAt(o.request, k))
}

func dueAt(r Request, k AccessKey) time.Time {
	return k.CreatedAt.Add(time.Duration(r.MaxAgeDays-r.LeadDays) * 24 * time.Hour)
}

func notDue(o observed, k AccessKey) verdict {
	due := dueAt(o.request, k)
	v := answer(StatusNotDue, "key %s is %d days old and due on %s", k.ID, int(o.iamNow.Sub(k.CreatedAt)/(24*time.Hour)), due.Format(time.DateOnly))
	v.keyID, v.nextDue = k.ID, due
	v.warnings = warningsIn(checks(o))
	if k.Status != KeyActive {
		v.warnings = append(v.warnings, fmt.Sprintf("%s is %s: the service has no key that works; switch it on again, or run with force", k.ID, strings.ToLower(string(k.Status))))
	}
	return v
}

// suspect is the key whose last use the decision rests on, "" for none.
func suspect(o observed) string {
	switch o.record.Phase {
	case PhaseCreating:
		if c := orphans(o); len(c) == 1 {
			return c[0].ID
		}
	case PhaseRetiring:
		return o.record.PreviousKeyID
	case PhaseSoaking:
		if o.record.Told { // without a soak it was read a moment ago
			return o.record.PreviousKeyID
		}
	case PhaseIdle, "":
		i := slices.IndexFunc(o.keys, func(k AccessKey) bool { return k.ID == publishedKeyID(o) })
		if len(o.keys) == keyLimit && i >= 0 && o.keys[1-i].Status == KeyActive {
			return o.keys[1-i].ID
		}
	}
	return ""
}

func hasKey(keys []AccessKey, id string) bool {
	return slices.ContainsFunc(keys, func(k AccessKey) bool { return k.ID == id })
}

func keyIDs(keys []AccessKey) string {
	ids := make([]string, len(keys))
	for i, k := range keys {
		ids[i] = k.ID
	}
	return strings.Join(ids, ", ")
}

// keyIDVariable names the variable that says which key is published.
func keyIDVariable(o observed) string {
	names := o.request.Places()[0].Variables()
	return names[len(names)-1]
}

func lastUsed(o observed) string {
	switch {
	case o.lastUseErr != nil:
		return "last used nobody knows when (" + o.lastUseErr.Error() + ")"
	case o.lastUse.At.IsZero():
		return "never used"
	}
	at := "last used " + stamp(o.lastUse.At)
	if o.lastUse.Region != "" {
		return at + " by " + o.lastUse.Service + " in " + o.lastUse.Region
	}
	return at + " by " + o.lastUse.Service
}

func orNothing(id string) string {
	if id == "" {
		return "nothing that can be read"
	}
	return id
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }

func round(d time.Duration) time.Duration { return d.Round(max(d/100, time.Millisecond)) }
