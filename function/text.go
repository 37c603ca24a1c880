package main

import (
	"io"
	"slices"
	"strings"
	"time"

	"credential-rotator/rotator"
)

// writeResults writes results as a person reads them: what, why, what now.
func writeResults(w io.Writer, p *page, all []rotator.Result) error {
	for _, r := range all {
		p.verdict(r, r.Reason)
		p.facts(r, r.Destinations)
	}
	if len(all) == 0 {
		p.WriteString("nothing is in flight\n")
	}
	_, err := io.WriteString(w, p.String())
	return err
}

// writeResult writes the result of a request, which may say more than the result.
func writeResult(w io.Writer, p *page, r rotator.Result, request rotator.Request) error {
	p.verdict(r, r.Reason)
	p.facts(r, request.Places())
	_, err := io.WriteString(w, p.String())
	return err
}

// verdict is the first line of a result.
func (p *page) verdict(r rotator.Result, reason string) {
	status := statusWords(r.Status)
	p.write(p.colored(status, colorOf(r.Status))+": ", len(status)+len(": "), reason)
}

func statusWords(s rotator.Status) string { return strings.ReplaceAll(string(s), "_", " ") }

func colorOf(s rotator.Status) string {
	switch exitOf(s) {
	case exitOK:
		return green
	case exitWait:
		return yellow
	}
	return red
}

// The columns of the facts of a result.
const factIndent, factWide = 2, 12

func (p *page) fact(name, format string, args ...any) {
	p.field(factIndent, factWide, name, format, args...)
}

// facts are what there is to know about a result: with several places or redeploys, each
// has a line of its own.
func (p *page) facts(r rotator.Result, places []rotator.Place) {
	switch {
	case len(places) > 1:
		p.fact("user", "%s", r.User)
		for _, place := range places {
			p.fact("destination", "%s", place)
		}
	case len(places) == 1 && places[0].GroupID != 0:
		p.fact("user", "%s, %s", r.User, places[0].Owner())
	default:
		p.fact("user", "%s, project %d", r.User, r.ProjectID)
	}
	if r.CurrentKeyID != "" {
		p.fact("published", "%s", r.CurrentKeyID)
	}
	if r.PreviousKeyID != "" && r.PreviousKeyID != r.CurrentKeyID {
		p.fact("previous", "%s%s", r.PreviousKeyID, fateOf(r))
	}
	deployments := r.Deployments
	if len(deployments) == 0 && r.Deployment != nil {
		deployments = []rotator.Deployment{*r.Deployment}
	}
	for _, d := range deployments {
		p.fact("deployment", "%s, %s, %s", d.Name(), d.Status, d.URL)
	}
	if r.NextDue != nil {
		p.fact("next due", "%s", r.NextDue.Format(time.DateOnly))
	}
	for _, warning := range r.Warnings {
		if !slices.ContainsFunc(r.Checks, func(c rotator.Check) bool { return strings.Contains(c.Detail, warning) }) {
			p.fact("warning", "%s", warning)
		}
	}
}

// fateOf says what became of the previous key.
func fateOf(r rotator.Result) string {
	switch {
	case r.SoakUntil != nil && r.Status != rotator.StatusHeld:
		return ", inactive, deleted from " + r.SoakUntil.Format("2006-01-02 15:04 UTC") + " on"
	case r.Status == rotator.StatusRotated:
		return ", deleted"
	}
	return ", still there"
}
