package rotator

import (
	"fmt"
	"slices"
	"strings"
)

// checks are everything that could keep a rotation from succeeding, found before a key
// is made: a fault of one refuses it, and plan shows them all.
func checks(o observed) []Check {
	all := slices.Clone(o.preflight.Checks)
	if o.preflight.ReadOnly {
		all = append(all, readOnlyCheck(o))
	}
	for i, turn := range o.request.Turns() {
		if i < len(o.preflight.Turns) && o.preflight.Turns[i].CannotRedeploy != "" {
			all = append(all, liveCheck(turn, o.preflight.Turns[i]))
		}
	}
	for i, place := range o.request.Places() {
		if i < len(o.published) {
			all = append(all, variablesCheck(o, i, place))
		}
	}
	return slices.Concat(all, tagChecks(o), elsewhereChecks(o))
}

// tagChecks: that a job is archived shows when it is retried, and then it is too late to
// find that jobs on the tag which stands in for it get no protected variables.
func tagChecks(o observed) []Check {
	var all []Check
	for i, t := range o.request.Turns() {
		if i >= len(o.preflight.Turns) || t.Target >= len(o.published) || t.Fallback != FallbackLiveCommit {
			continue
		}
		turn, p := o.preflight.Turns[i], o.published[t.Target]
		if turn.CannotRedeploy == "" && turn.Ref != "" && !turn.RefProtected && (p.Secret.Protected || p.KeyID.Protected) {
			all = append(all, Check{liveName(t), CheckWarning, fmt.Sprintf("the fallback would not get the new key: the variables are protected, and tags named %s* are not; protect them", TagPrefix)})
		}
	}
	return all
}

// liveName is what the check of what is to be deployed again is called.
func liveName(t Turn) string {
	return fmt.Sprintf("live in %s of project %d", t.Environment, t.ProjectID)
}

func faultsIn(all []Check) []string { return Preflight{Checks: all}.Found(CheckFault) }

func warningsIn(all []Check) []string { return Preflight{Checks: all}.Found(CheckWarning) }

func readOnlyCheck(o observed) Check {
	c := Check{"GitLab token may write", CheckFault, "the GitLab token may only read: make a new one, with the scope api"}
	if o.readOnly {
		c.State, c.Detail = CheckWarning, "this token may only read: the rotation itself needs one with the scope api"
	}
	return c
}

// liveCheck is about what is live and cannot be deployed again.
func liveCheck(t Turn, p TurnPreflight) Check {
	c := Check{Name: liveName(t)}
	switch {
	case t.Fallback == RedeployPipeline:
		c.State, c.Detail = CheckWarning, insteadOf(p.CannotRedeploy, p.Ref)
	case t.Fallback == FallbackLiveCommit && p.LiveCommit != "":
		c.State, c.Detail = CheckWarning, atCommit(p.CannotRedeploy, p.LiveCommit)
	case t.Fallback == FallbackLiveCommit:
		c.State, c.Detail = CheckFault, p.CannotRedeploy+`; no commit is known to be live, which fallback "live_commit" could deploy: fallback "pipeline" deploys what is on the ref`
	default:
		c.State, c.Detail = CheckFault, p.CannotRedeploy+`; or let a pipeline deploy instead (fallback "pipeline")`
	}
	return c
}

// variablesCheck is about the variables of one place: can they be written, and do the
// jobs get them?
func variablesCheck(o observed, i int, place Place) Check {
	p := o.published[i]
	faults := slices.Clone(p.Faults)
	names := place.Variables()
	for j, v := range []Variable{p.Secret, p.KeyID}[:len(names)] {
		for _, ref := range unprotectedRefs(o, i) {
			if v.Exists && v.Protected {
				faults = append(faults, fmt.Sprintf("%s is protected, and %s is not a protected branch or tag: its jobs would not get the key; protect it, or redeploy a ref that is", names[j], ref))
			}
		}
	}
	c := Check{Name: variablesName(place), State: CheckOK, Detail: holdsWords(o, i, place)}
	switch {
	case len(faults) > 0:
		c.State, c.Detail = CheckFault, strings.Join(faults, "; ")
	case p.At.IsZero(): // another place could not be read, and they are read at once
		c.State, c.Detail = CheckWarning, "not looked at: what keeps another place from being read has to be mended first"
	}
	return c
}

// variablesName is what the check of a place's variables is called.
func variablesName(p Place) string {
	return fmt.Sprintf("variables [%s] of %s", p.EnvironmentScope, p.Owner())
}

// holdsWords is what a place holds now, and what becomes of it.
func holdsWords(o observed, i int, place Place) string {
	p, names := o.published[i], place.Variables()
	slices.Reverse(names) // the key id is what people look for
	var are []string
	for _, v := range []Variable{p.KeyID, p.Secret}[:len(names)] {
		are = append(are, variableWords(o, i, place, v))
	}
	words := names[0] + " is " + are[0]
	switch {
	case len(names) > 1 && are[0] == are[1]:
		words = strings.Join(names, " and ") + " are " + are[0]
	case len(names) > 1:
		words += ", " + names[1] + " is " + are[1]
	}
	if held := heldKeyID(o, p); held != "" {
		return held + ": " + words
	}
	return words
}

// variableWords is how a variable is, or how it is made.
func variableWords(o observed, i int, place Place, v Variable) string {
	var words []string
	for _, flag := range []struct {
		on   bool
		word string
	}{
		{place.File != "", "a file, which GitLab cannot mask"},
		{place.File == "" && !v.Masked && !v.Hidden, "not masked yet"},
		{v.Masked && place.File == "", "masked"},
		{v.Hidden, "hidden"},
		{v.Protected || !v.Exists && refsProtected(o, i), "protected"},
	} {
		if flag.on {
			words = append(words, flag.word)
		}
	}
	if !v.Exists {
		return "missing, and made: " + strings.Join(words, ", ")
	}
	return strings.Join(words, ", ")
}

// elsewhereChecks: what else holds the key would be left with one that is deleted.
func elsewhereChecks(o observed) []Check {
	const called = "other variables"
	var all []Check
	ids := heldKeyIDs(o)
	unknown := len(ids) == 0 || slices.Equal(ids, []string{""})
	for _, h := range elsewhere(o) {
		if slices.Contains(ids, h.KeyID) || h.KeyID == o.request.RetireKey || unknown && hasKey(o.keys, h.KeyID) {
			all = append(all, Check{called, CheckFault, fmt.Sprintf("%s holds the key %s as well, and would be left with a key that is deleted: give it a user of its own, or remove it", h.Variable, h.KeyID)})
		}
	}
	unread := func(p Published) bool { return p.At.IsZero() }
	if len(all) == 0 && len(o.published) > 0 && !slices.ContainsFunc(o.published, unread) {
		all = append(all, Check{called, CheckOK, "none that can be read holds the key"})
	}
	if p := publishedKeyID(o); o.request.RetireKey != "" && o.request.RetireKey == p {
		all = append(all, Check{"retire_key", CheckFault, fmt.Sprintf("retire_key names %s, the key that is published: it is replaced, not retired", p)})
	}
	return all
}

// unprotectedRefs are those of which jobs of a target may be run that do not get
// protected variables.
func unprotectedRefs(o observed, target int) []string {
	refs, _ := refsOf(o, target)
	return refs
}

// refsProtected tells whether every job of a target that may be run would get protected
// variables.
func refsProtected(o observed, target int) bool {
	unprotected, known := refsOf(o, target)
	return known && len(unprotected) == 0
}

func refsOf(o observed, target int) (unprotected []string, known bool) {
	for i, t := range o.request.Turns() {
		if t.Target != target || i >= len(o.preflight.Turns) {
			continue
		}
		p := o.preflight.Turns[i]
		runs := t.runsPipeline() || t.Fallback == FallbackLiveCommit && p.CannotRedeploy != ""
		known = known || p.LiveRef != "" || runs && p.Ref != ""
		if p.LiveRef != "" && !p.LiveRefProtected {
			unprotected = append(unprotected, p.LiveRef)
		}
		if runs && p.Ref != "" && !p.RefProtected && !slices.Contains(unprotected, p.Ref) {
			unprotected = append(unprotected, p.Ref)
		}
	}
	return unprotected, known
}
