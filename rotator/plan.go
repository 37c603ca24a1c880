package rotator

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
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
	o, unseen := u.lookOn(ctx, o)
	v, before := decide(o), checks(o)
	if v.status == "" {
		v.status, v.keyID = StatusWouldRotate, publishedKeyID(o)
		if o.record.InFlight() {
			v.reason = "under way (" + string(o.record.Phase) + "); next: " + v.reason
		}
		v.warnings = append(v.warnings, warningsIn(before)...)
	}
	result, err := u.close(ctx, v, nil)
	if goesOn(o) {
		before = nil // it was checked when it began
	}
	result.Checks = slices.Concat(u.userChecks(o), inOrder(o, slices.Concat(unseen, tornToo(o, before))))
	return result, err
}

// goesOn tells whether a rotation is under way that the request is about.
func goesOn(o observed) bool {
	_, elsewhere := elsewhereInFlight(o)
	return o.record.InFlight() && o.record.UniqueID == o.user.UniqueID && !elsewhere
}

// lookOn looks at what a refusal or a fault spares a run: whoever plans wants to know
// everything that is to be mended, at once. Only of what the user is not bound to
// nothing is asked: it is somebody else's. What could not be looked at is told.
func (u *run) lookOn(ctx context.Context, o observed) (observed, []Check) {
	var unseen []Check
	note := func(name, why string) {
		unseen = append(unseen, Check{name, CheckWarning, "not looked at: " + why})
	}
	if err := u.lookAtKeys(ctx); err != nil {
		note(keysName, err.Error())
		u.seen.keys = nil
	}
	if _, foreign := unbound(o); foreign {
		note("GitLab", "the user has to be bound first")
		return u.observed(), unseen
	}
	if goesOn(o) {
		return u.observed(), unseen
	}
	if err := u.lookBefore(ctx); err != nil {
		note("GitLab", err.Error())
		return u.observed(), unseen
	}
	if preflight := u.seen.preflight; u.seen.published == nil {
		u.seen.preflight = nil // with its faults they would not be looked at
		err := u.lookAtPublished(ctx)
		u.seen.preflight = preflight
		if why := unreadWords(u.observed(), err); why != "" {
			u.seen.published = nil
			note("variables", why)
		}
	}
	if !o.record.InFlight() {
		_ = u.lookAtLastUse(ctx) // that it cannot be read is told with the key
	}
	return u.observed(), unseen
}

// unreadWords say why no place could be read, "" when one was. That the token does not
// work is told by its own check.
func unreadWords(o observed, err error) string {
	p := o.published
	switch {
	case err == nil && slices.ContainsFunc(p, isRead):
		return ""
	case slices.ContainsFunc(o.preflight.Checks, func(c Check) bool { return c.Name == "GitLab token" && c.State == CheckFault }):
		return "the GitLab token has to be mended first"
	case err == nil && len(p) > 0:
		return strings.Join(p[0].Faults, "; ")
	case err == nil:
		return "there are none"
	}
	return err.Error()
}

// isRead tells whether a place could be read.
func isRead(p Published) bool { return !p.At.IsZero() }

// userChecks are the checks that need no GitLab, among them each refusal that a decision
// begins with.
func (u *run) userChecks(o observed) []Check {
	all := []Check{
		refusalCheck(o, "IAM user", otherUser, o.user.ARN),
		refusalCheck(o, "binding", unbound, "to "+o.user.BoundTo()),
		journalCheck(o),
		quarantineCheck(o),
	}
	if u.seen.keys != nil {
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

// BoundTo is what the user's tag names, as a person would say it.
func (u User) BoundTo() string {
	var words []string
	for _, id := range strings.Fields(u.Binding) {
		if group, is := strings.CutPrefix(id, "group:"); is {
			words = append(words, "group "+group)
			continue
		}
		words = append(words, "project "+id)
	}
	return strings.Join(words, ", ")
}

// journalCheck: another run would have to end first. That is no fault: it will.
func journalCheck(o observed) Check {
	const called = "journal"
	if v, found := elsewhereInFlight(o); found {
		return Check{called, CheckFault, v.reason}
	}
	if v, found := busy(o); found {
		return Check{called, CheckWarning, v.reason + ": look again then"}
	}
	if goesOn(o) {
		return Check{called, CheckOK, fmt.Sprintf("a rotation is under way (%s) since %s; what GitLab needs was looked at when it began", o.record.Phase, stamp(o.record.StartedAt))}
	}
	return Check{called, CheckOK, "no rotation is under way in JOURNAL"}
}

func quarantineCheck(o observed) Check {
	const called = "quarantine"
	found := strings.Join(o.user.Quarantine, ", ")
	switch {
	case found == "":
		return Check{called, CheckOK, "AWS has not said that a key has leaked"}
	case o.request.Force:
		return Check{called, CheckWarning, fmt.Sprintf("AWS attached %s to user %s: its key has leaked; force replaces it, and the policy stays until a person detaches it", found, o.user.Name)}
	}
	return Check{called, CheckFault, fmt.Sprintf("AWS attached %s to user %s: its key has leaked; look into it, then run with force, which replaces the key (the policy stays until a person detaches it)", found, o.user.Name)}
}

// keysName is what the check of a user's keys is called.
const keysName = "access keys"

// keysCheck: a new key needs a free slot, and it must be plain which key it replaces.
// That is decided as if nothing else were wrong.
func keysCheck(o observed) Check {
	c := Check{keysName, CheckOK, keysWords(o)}
	if o.record.InFlight() || len(o.published) == 0 || !slices.ContainsFunc(o.published, isRead) {
		return c
	}
	o.preflight, o.user.Quarantine, o.published = Preflight{}, nil, slices.Clone(o.published)
	for i := range o.published {
		o.published[i].Faults, o.published[i].Elsewhere = nil, nil
	}
	switch v := decideIdle(o); {
	case v.status == StatusHeld, v.status == StatusRefused && len(o.keys) > keyLimit:
		c.State, c.Detail = CheckFault, v.reason
	case v.step == StepTidy:
		c.State, c.Detail = CheckWarning, fmt.Sprintf("%s is inactive, and is deleted, for its slot is needed", v.keyID)
	case v.step == StepDeactivate:
		c.State, c.Detail = CheckWarning, fmt.Sprintf("%s is named in retire_key: it is deactivated and deleted, for its slot is needed", v.keyID)
	case len(v.warnings) > 0:
		c.State, c.Detail = CheckWarning, strings.Join(v.warnings, "; ")
	}
	return c
}

func keysWords(o observed) string {
	var words []string
	for _, k := range o.keys {
		words = append(words, fmt.Sprintf("%s is %s, %d days old", k.ID, strings.ToLower(string(k.Status)), int(o.iamNow.Sub(k.CreatedAt)/(24*time.Hour))))
	}
	return orElse(strings.Join(words, "; "), "none yet")
}

// tornToo adds that a pair is torn, which is no fault: a rotation mends it.
func tornToo(o observed, all []Check) []Check {
	for i, p := range o.published {
		_, reason := torn(o, p)
		for j := range all {
			if reason != "" && all[j].State == CheckOK && all[j].Name == variablesName(o.request.Places()[i]) {
				all[j].State, all[j].Detail = CheckWarning, reason+": jobs get a pair that does not work until a rotation has mended it"
			}
		}
	}
	return all
}

// inOrder sorts checks as a person thinks: the token; then of each place who owns it,
// its variables, and its redeploys. The same is told once.
func inOrder(o observed, all []Check) []Check {
	var once []Check
	for _, c := range all {
		if !slices.Contains(once, c) {
			once = append(once, c)
		}
	}
	slices.SortStableFunc(once, func(a, b Check) int { return cmp.Compare(rank(o.request, a.Name), rank(o.request, b.Name)) })
	return once
}

// rank is where a check belongs. What it is about is the end of its name.
func rank(r Request, name string) int {
	const kinds = 4
	targets := r.Targets()
	switch {
	case name == keysName:
		return -2
	case strings.HasPrefix(name, "GitLab"):
		return -1
	case name == "other variables", name == "retire_key":
		return kinds * len(targets)
	}
	for i, t := range targets {
		owners := []string{t.Place().Owner()}
		for _, w := range t.ways() {
			owners = append(owners, fmt.Sprintf("project %d", w.ProjectID))
		}
		for _, owner := range owners {
			switch {
			case name == owner:
				return kinds * i
			case name == variablesName(t.Place()):
				return kinds*i + 1
			case strings.HasPrefix(name, "variables ") && strings.HasSuffix(name, owner):
				continue // of another place of the same owner
			case strings.HasSuffix(name, owner):
				return kinds*i + 2
			}
		}
	}
	return kinds*len(targets) - 1
}
