package main

import (
	"io"
	"strings"
	"testing"
	"time"
	"unicode"

	"credential-rotator/rotator"
)

// What comes from GitLab may be anything: a job can be called so, and a token.
const hostileName = "x\x1b[2J\x1b]0;t\x07\r\n✓ all is well\u202e\u009b31m"

func TestNothingFromGitLabCommandsATerminal(t *testing.T) {
	t.Parallel()
	result, request := planned()
	result.Reason, result.Warnings = hostileName, []string{hostileName}
	result.Checks[0].Name, result.Checks[1].Name, result.Checks[2].Detail = hostileName, strings.Repeat(hostileName, 9), hostileName
	result.Deployment = &rotator.Deployment{Kind: "pipeline", ID: 1, URL: hostileName, Status: hostileName}
	report := rotator.Report{Request: request, Outlook: result, Published: []rotator.PlaceReport{{Unread: hostileName}}, Unread: []string{"user " + hostileName}}
	report.Record.LastError = hostileName
	for name, write := range map[string]func(io.Writer, *page) error{
		"plan":    func(w io.Writer, p *page) error { return writePlan(w, p, result, request) },
		"result":  func(w io.Writer, p *page) error { return writeResult(w, p, result, request) },
		"results": func(w io.Writer, p *page) error { return writeResults(w, p, []rotator.Result{result}) },
		"status":  func(w io.Writer, p *page) error { return writeReport(w, p, report, time.Now()) },
		"token status": func(w io.Writer, _ *page) error {
			return writeTokenCheck(w, rotator.TokenCheck{ID: 1, Name: hostileName, Reason: hostileName, Scopes: []string{hostileName}, Warnings: []string{hostileName}})
		},
		"token rotate": func(w io.Writer, _ *page) error {
			return writeTokenResult(w, tokenResult{Reason: hostileName, Warnings: []string{hostileName}})
		},
		"the steps": func(w io.Writer, _ *page) error {
			v := newView(w, true, nil)
			v.step(rotator.Progress{User: "svc", Step: rotator.StepAwait, State: rotator.StepWaiting, Detail: hostileName, URL: hostileName})
			v.step(rotator.Progress{User: "svc", Step: rotator.StepAwait, State: rotator.StepDone, Detail: hostileName, URL: hostileName})
			return nil
		},
	} {
		for _, p := range []*page{{}, {width: 80, paint: true}} {
			var b strings.Builder
			if err := write(&b, p); err != nil {
				t.Fatal(err)
			}
			for line := range strings.Lines(b.String()) {
				bare := line
				for _, color := range []string{red, green, yellow, bold, "0"} {
					bare = strings.ReplaceAll(bare, "\x1b["+color+"m", "")
				}
				if at := strings.IndexFunc(strings.TrimSuffix(bare, "\n"), func(c rune) bool { return !unicode.IsPrint(c) }); at >= 0 || strings.HasPrefix(line, "✓ all is well") {
					t.Errorf("%s shows %q", name, line)
				}
			}
		}
	}
}
