package main

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"credential-rotator/rotator"
)

// writePlan writes what would be done, and every check that was made.
func writePlan(w io.Writer, p *page, r rotator.Result, request rotator.Request) error {
	p.verdict(r, shortly(r, "✗"))
	p.facts(r, request.Places())
	begins := r.RotationID == "" // one under way may have been asked for in another way
	if begins && (r.Status == rotator.StatusWouldRotate || r.Status == rotator.StatusNotDue) {
		for _, turn := range request.Turns() {
			p.fact("redeploy", "%s", wayWords(turn.ProjectWay, request.OverlapHours))
		}
	}
	if len(r.Checks) > 0 {
		p.WriteString("\n")
		p.checks(r.Checks)
	}
	_, err := io.WriteString(w, p.String())
	return err
}

// shortly is the reason of a plan. What the checks say in full, with a sign, is not said
// twice.
func shortly(r rotator.Result, sign string) string {
	faults := faultsOf(r)
	rest := r.Reason
	for _, fault := range faults {
		rest = strings.Replace(rest, fault, "", 1)
	}
	if strings.Trim(rest, "; ") != "" {
		return r.Reason
	}
	if r.Status == rotator.StatusHeld {
		return "somebody must look at what is marked " + sign + "; nothing is broken"
	}
	if len(faults) == 1 {
		return "what is marked " + sign + " has to be mended first"
	}
	return fmt.Sprintf("the %d things that are marked %s have to be mended first", len(faults), sign)
}

func faultsOf(r rotator.Result) []string {
	return rotator.Preflight{Checks: r.Checks}.Found(rotator.CheckFault)
}

// checks are one line each, or more where they are long: what was looked at, and what was
// found or is to be done.
func (p *page) checks(all []rotator.Check) {
	const indent, most = 4, 36 // a longer name has a line of its own
	wide := 0
	for _, c := range all {
		if n := utf8.RuneCountInString(c.Name); n <= most {
			wide = max(wide, n)
		}
	}
	at := indent + wide + 2
	for _, c := range all {
		sign, color := signOf(c.State)
		begin := "  " + p.colored(sign, color) + " " + c.Name
		if gap := wide - utf8.RuneCountInString(c.Name); gap >= 0 {
			p.write(begin+strings.Repeat(" ", gap+2), at, c.Detail)
			continue
		}
		p.write(begin, len(begin), "")
		p.write(strings.Repeat(" ", at), at, c.Detail)
	}
}

func signOf(s rotator.CheckState) (sign, color string) {
	switch s {
	case rotator.CheckOK:
		return "✓", green
	case rotator.CheckWarning:
		return "!", yellow
	}
	return "✗", red
}
