package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"credential-rotator/rotator"
)

// writeReport writes what there is to know about a user, as one wants to see it at
// three in the morning: what there is, what is going on, and what to do about it. What
// could not be read says so.
func writeReport(w io.Writer, p *page, r rotator.Report, now time.Time) error {
	p.owner(r)
	p.heading("KEYS")
	p.keys(r, now)
	p.heading("DESTINATIONS")
	for _, place := range r.Published {
		p.place(place, now)
	}
	p.heading("ROTATION")
	p.record(r, now)
	p.heading("NEXT")
	p.next(r, now)
	_, err := io.WriteString(w, p.String())
	return err
}

func (p *page) owner(r rotator.Report) {
	if r.User.UniqueID == "" {
		p.warn(0, "user "+r.Request.User+" could not be read, see below")
		return
	}
	p.write("", 0, fmt.Sprintf("%s (%s), bound to %s", r.User.ARN, r.User.UniqueID, orOther(r.User.BoundTo(), "nothing")))
	if len(r.User.Quarantine) > 0 {
		p.warn(0, "AWS attached "+strings.Join(r.User.Quarantine, ", ")+": its key has leaked")
	}
}

// warn is a line that must not be overlooked.
func (p *page) warn(indent int, text string) {
	p.write(strings.Repeat(" ", indent)+p.colored("! ", red), indent+2, text)
}

// The columns of the sections, and of what is within a key or a place.
const (
	outerIndent, outerWide = 2, 10
	innerIndent            = 4
)

func (p *page) keys(r rotator.Report, now time.Time) {
	unread := func(s string) bool { return strings.HasPrefix(s, "the keys of ") || strings.HasPrefix(s, "user ") }
	for _, s := range r.Unread {
		if unread(s) {
			p.warn(outerIndent, s)
		}
	}
	if len(r.Keys) == 0 && !slices.ContainsFunc(r.Unread, unread) {
		p.WriteString("  none\n")
	}
	for _, k := range r.Keys {
		words := []string{strings.ToLower(string(k.Status)), days(now.Sub(k.CreatedAt)) + " old", publishedWords(r, k.ID)}
		switch k.ID {
		case r.Record.NewKeyID:
			words = append(words, "the new key")
		case r.Record.PreviousKeyID:
			words = append(words, "to be retired")
		}
		p.write("  "+k.ID+"  ", 4+len(k.ID), strings.Join(words, ", "))
		p.field(innerIndent, outerWide-2, "made", "%s", moment(k.CreatedAt, now))
		p.field(innerIndent, outerWide-2, "used", "%s", usedWords(k, now))
	}
}

func usedWords(k rotator.KeyReport, now time.Time) string {
	switch {
	case k.Unread != "":
		return "not known, for it cannot be read: " + k.Unread
	case k.LastUse.At.IsZero():
		return "never, as far as IAM knows, which lags by hours"
	}
	words := fmt.Sprintf("last %s by %s", moment(k.LastUse.At, now), k.LastUse.Service)
	if k.LastUse.Region != "" {
		words += " in " + k.LastUse.Region
	}
	return words
}

// publishedWords say where a key is published.
func publishedWords(r rotator.Report, keyID string) string {
	var places []rotator.Place
	unread := false
	for _, p := range r.Published {
		unread = unread || p.Unread != ""
		if p.HeldKeyID == keyID {
			places = append(places, p.Place)
		}
	}
	switch {
	case len(places) > 0 && len(r.Published) > 1 && len(places) == len(r.Published):
		return "published everywhere"
	case len(places) > 0 && len(r.Published) > 1:
		return "published in " + placesOf(places) + " only"
	case len(places) > 0:
		return "published"
	case unread:
		return "maybe published"
	}
	return "not published"
}

// place shows what a place hands out, its variables, and its redeploys.
func (p *page) place(r rotator.PlaceReport, now time.Time) {
	name := fmt.Sprintf("  %s [%s]: ", r.Owner(), r.EnvironmentScope)
	at := len(name)
	switch {
	case r.Unread != "":
		p.write(name, at, p.colored("not read: ", red)+r.Unread)
	default:
		p.write(name, at, pairWords(r, p))
		for _, fault := range r.Faults {
			p.warn(innerIndent, fault)
		}
		p.variables(r)
		p.field(innerIndent, outerWide-2, "seen", "%s, on GitLab's clock", moment(r.At, now))
	}
	for i, redeploy := range r.Redeploys {
		label := "redeploy"
		if len(r.Redeploys) > 1 {
			label = fmt.Sprintf("%d.", i+1)
		}
		p.redeploy(label, redeploy)
	}
}

// pairWords say whether what a place holds works.
func pairWords(r rotator.PlaceReport, p *page) string {
	switch r.Pair {
	case rotator.PairMissing:
		return "nothing is published yet"
	case rotator.PairPartial:
		return p.colored("one of the variables is missing", red)
	case rotator.PairTorn:
		return p.colored("TORN", red) + ": the key id and the secret are of two keys, so jobs get a pair that does not work; a rotation mends it"
	case rotator.PairWhole:
		return "hands out " + r.HeldKeyID + ", the pair is whole"
	case rotator.PairUnknown:
	}
	if r.HeldKeyID == "" {
		return "which key it hands out cannot be told: it is hidden, or is none"
	}
	return "hands out " + r.HeldKeyID + "; no stamp tells whether the secret is its own"
}

func (p *page) variables(r rotator.PlaceReport) {
	names := r.Variables()
	wide := 0
	for _, name := range names {
		wide = max(wide, len(name))
	}
	all := map[string]rotator.Variable{names[0]: r.Secret, names[len(names)-1]: r.KeyID}
	slices.Reverse(names)
	for _, name := range names {
		p.field(innerIndent, wide+1, name, "%s", variableWords(all[name], r.File != ""))
	}
}

func variableWords(v rotator.Variable, file bool) string {
	if !v.Exists {
		return "missing"
	}
	words := []string{"not masked"}
	if v.Masked {
		words[0] = "masked"
	}
	if file {
		words[0] = "file"
	}
	for _, flag := range []struct {
		on   bool
		word string
	}{{v.Hidden, "hidden"}, {v.Protected, "protected"}} {
		if flag.on {
			words = append(words, flag.word)
		}
	}
	stamp := "not stamped"
	if v.Claims != "" {
		stamp = "stamped " + v.Claims
	}
	return strings.Join(append(words, stamp), ", ")
}

// redeploy is one redeploy, and how far it is.
func (p *page) redeploy(label string, r rotator.RedeployReport) {
	words := wayName(r.ProjectWay)
	switch r.State {
	case "done":
		words = p.colored("done", green) + ": " + words
	case "under_way":
		words = p.colored("under way", yellow) + ": " + words
	case "to_come":
		words = "to come: " + words
		if r.Deployment != nil {
			words = p.colored("to be tried again", yellow) + ": " + wayName(r.ProjectWay)
		}
	}
	p.field(innerIndent, outerWide-2, label, "%s", words)
	if d := r.Deployment; d != nil {
		p.field(innerIndent, outerWide-2, "", "%s, %s", d.Name(), d.Status)
		p.field(innerIndent, outerWide-2, "", "%s", d.URL)
	}
}

// phaseWords say how far a rotation has come.
func phaseWords(r rotator.Record) string {
	switch r.Phase {
	case rotator.PhaseCreating:
		return "a new key is being made, or was made and nobody knows it yet"
	case rotator.PhaseCreated:
		return "the new key is made, and not published everywhere yet"
	case rotator.PhasePublished:
		return "the new key is published, and not deployed yet"
	case rotator.PhaseRedeploying:
		return "a redeploy is under way, which brings the new key"
	case rotator.PhaseRetiring:
		return "the new key is deployed; the old one still works, and is to be retired"
	case rotator.PhaseSoaking:
		return "the old key is inactive, and is to be deleted"
	case rotator.PhaseIdle:
	}
	return "a phase that this version does not know"
}

// record shows what the journal knows.
func (p *page) record(report rotator.Report, now time.Time) {
	r := report.Record
	line := func(name, format string, args ...any) { p.field(outerIndent, outerWide, name, format, args...) }
	if !r.InFlight() {
		p.WriteString("  none is under way\n")
	} else {
		line("phase", "%s: %s", r.Phase, phaseWords(r))
		if r.Since().After(r.StartedAt) {
			line("since", "%s", moment(r.Since(), now))
		}
		line("begun", "%s: %s", moment(r.StartedAt, now), r.Reason)
		line("asked by", "%s", orOther(asFlags(r.Request), "–"))
		if r.Forced {
			line("", "with force")
		}
		line("new key", "%s", orOther(r.NewKeyID, "not made yet"))
		line("old key", "%s", orOther(r.PreviousKeyID, "none is to be retired"))
		p.attempts(r, now)
		if r.Phase == rotator.PhaseSoaking {
			line("deleted", "%s", moment(r.SoakUntil, now))
		}
		line("id", "%s", r.RotationID)
	}
	switch {
	case r.Lease.Held(now):
		line("lease", "held until %s by %s", moment(r.Lease.Until, now), r.Lease.Owner)
	case r.InFlight():
		line("lease", "free: no run is at work")
	}
	if r.LastError != "" {
		line("error", "%s", p.colored(r.LastError, red))
	}
	if r.Held != "" {
		line("held", "%s", p.colored(r.Held, yellow))
		if !r.HeldTold.IsZero() {
			line("", "somebody was told %s", moment(r.HeldTold, now))
		}
	}
	for _, warning := range r.Warnings {
		line("warning", "%s", warning)
	}
}

// nextAttempt is when the redeploy that is due may be tried again, zero when it may be now.
func nextAttempt(r rotator.Record, now time.Time) time.Time {
	if r.Phase != rotator.PhasePublished || r.Marked {
		return time.Time{}
	}
	return r.NextAttempt(now)
}

// attempts tells how often the redeploy that is due was tried.
func (p *page) attempts(r rotator.Record, now time.Time) {
	recent := r.RecentAttempts(now)
	if len(recent) == 0 {
		return
	}
	words := fmt.Sprintf("%d of %d in 24 h, the last %s", len(recent), rotator.RedeployAttempts, moment(recent[len(recent)-1], now))
	if next := nextAttempt(r, now); !next.IsZero() {
		words += "; the next is allowed " + moment(next, now)
	}
	p.field(outerIndent, outerWide, "redeploys", "%s", words)
}

// next is what happens next, when, and what a person could do now.
func (p *page) next(r rotator.Report, now time.Time) {
	status := statusWords(r.Outlook.Status)
	p.write("  "+p.colored(status, colorOf(r.Outlook.Status))+": ", outerIndent+len(status)+2, r.Outlook.Reason)
	for _, warning := range r.Outlook.Warnings {
		if !slices.Contains(r.Record.Warnings, warning) {
			p.warn(outerIndent, warning)
		}
	}
	if when := nextWhen(r, now); when != "" {
		p.field(outerIndent, outerWide, "when", "%s", when)
	}
	p.field(outerIndent, outerWide, "you", "%s", nextDo(r, now))
}

func nextWhen(r rotator.Report, now time.Time) string {
	record := r.Record
	overlap := record.RetiringSince.Add(time.Duration(record.Request.OverlapHours) * time.Hour)
	switch {
	case r.Outlook.Status == rotator.StatusNotDue && r.Outlook.NextDue != nil:
		return moment(*r.Outlook.NextDue, now)
	case r.Outlook.Status == rotator.StatusBusy:
		return "after " + moment(record.Lease.Until, now)
	case !record.InFlight() && r.Outlook.Status == rotator.StatusWouldRotate:
		return "at the next tick of its schedule"
	case !record.InFlight():
		return ""
	case record.LookAgain.After(now):
		return "a follow-up looks again " + moment(record.LookAgain, now)
	case !nextAttempt(record, now).IsZero():
		return moment(nextAttempt(record, now), now)
	case record.Phase == rotator.PhaseSoaking && record.SoakUntil.After(now):
		return moment(record.SoakUntil, now)
	case record.Phase == rotator.PhaseRetiring && overlap.After(now):
		return moment(overlap, now)
	}
	return "when something follows up: the function does, every five minutes"
}

// nextDo is what a person could do now.
func nextDo(r rotator.Report, now time.Time) string {
	switch r.Outlook.Status {
	case rotator.StatusNotDue:
		return "nothing has to be done; to replace the key all the same: " + again(r, "--force")
	case rotator.StatusBusy:
		return "wait: a run is at work"
	case rotator.StatusHeld:
		return "do what the sentence above says; " + goOn(r)
	case rotator.StatusRefused, rotator.StatusFailed:
		return "mend what the sentence above says (credential-rotator plan shows every check); " + goOn(r)
	}
	switch d := r.Outlook.Deployment; {
	case d != nil && d.State == rotator.DeploymentBlocked:
		return "let it go on in GitLab, " + d.URL + "; " + goOn(r)
	case r.Outlook.Status == rotator.StatusWaiting && !nextAttempt(r.Record, now).IsZero():
		return "mend the pipeline, whose fault the sentence above tells; until it is tried again both keys work"
	case r.Outlook.Status == rotator.StatusWaiting:
		return "nothing has to be done"
	case r.Record.InFlight():
		return "nothing has to be done; at once: credential-rotator resume"
	}
	return "nothing has to be done; at once: " + again(r, "")
}

// again is the command that rotates by the same request.
func again(r rotator.Report, more string) string {
	flags := asFlags(r.Request)
	if len(r.Request.Destinations) > 0 || len(r.Request.Redeploys) > 0 {
		flags = "with the flags of now"
		more = strings.Replace(more, "--", "and --", 1)
	}
	return strings.TrimSpace("credential-rotator rotate " + r.Request.User + " " + flags + " " + more)
}

func goOn(r rotator.Report) string {
	if r.Record.InFlight() {
		return "then credential-rotator resume looks again"
	}
	return "then " + again(r, "")
}
