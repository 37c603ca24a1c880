package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"

	"credential-rotator/rotator"
)

// A plan as a note of a merge request. What it shows comes from elsewhere: names of
// branches, jobs, environments and variables, and what AWS and GitLab said. A note can do
// things: it can mention people, close issues, and a line that begins with a slash is a
// command. So nothing of that gets out of its place: every text is one line, and every
// word of it that has another character than those of plain prose is shown as code.

// writeMarkdown writes a plan as Markdown of GitLab. Addresses below gitLabURL are links.
func writeMarkdown(w io.Writer, r rotator.Result, request rotator.Request, gitLabURL string) error {
	m := markdown{gitLabURL: strings.TrimSuffix(gitLabURL, "/") + "/"}
	sign, verdict := headline(r)
	m.line("### %s credential-rotator: %s %s", sign, code(r.User), verdict)
	m.line("\n%s", m.text(shortly(r, emojiOf(rotator.CheckFault))))
	if n := len(rotator.Preflight{Checks: r.Checks}.Found(rotator.CheckWarning)); n > 0 && r.Status != rotator.StatusRefused {
		m.line("\n%s.", count(n, "warning"))
	}
	if len(r.Checks) > 0 {
		m.line("\n| | checked | found |\n|---|---|---|")
	}
	for _, c := range r.Checks {
		m.line("| %s | %s | %s |", emojiOf(c.State), m.text(c.Name), m.text(c.Detail))
	}
	if r.RotationID == "" { // one under way may have been asked for in another way
		m.places(request)
	}
	_, err := io.WriteString(w, m.String())
	return err
}

// places says where a new key goes, and what is done then.
func (m *markdown) places(request rotator.Request) {
	m.line("\n#### Where a new key goes\n\n| variables | of | scope | and then |\n|---|---|---|---|")
	turns := request.Turns()
	for i, place := range request.Places() {
		var ways []string
		for j, turn := range turns {
			if turn.Target == i {
				number := ""
				if len(turns) > 1 {
					number = fmt.Sprintf("%d. ", j+1)
				}
				ways = append(ways, number+m.text(wayWords(turn.ProjectWay, request.OverlapHours)))
			}
		}
		names := place.Variables()
		slices.Reverse(names)
		m.line("| `%s` | %s | %s | %s |", strings.Join(names, "`, `"), place.Owner(), code(place.EnvironmentScope), strings.Join(ways, "<br>"))
	}
	m.line("\n%s", retiringWords(request))
}

type markdown struct {
	strings.Builder
	gitLabURL string
}

func (m *markdown) line(format string, args ...any) {
	_, _ = fmt.Fprintf(m, format+"\n", args...)
}

// headline is the verdict for who reads nothing else.
func headline(r rotator.Result) (sign, verdict string) {
	switch r.Status {
	case rotator.StatusWouldRotate:
		return "✅", "would be rotated now"
	case rotator.StatusNotDue:
		return "✅", "is not due, and can be rotated"
	case rotator.StatusHeld:
		return "⚠️", "is held until somebody has looked"
	case rotator.StatusWaiting, rotator.StatusBusy:
		return "⏳", "has to wait"
	case rotator.StatusFailed:
		return "❌", "could not be looked at"
	}
	return "❌", "cannot be rotated"
}

func emojiOf(s rotator.CheckState) string {
	switch s {
	case rotator.CheckOK:
		return "✅"
	case rotator.CheckWarning:
		return "⚠️"
	}
	return "❌"
}

// text is a sentence of which nothing is Markdown.
func (m *markdown) text(s string) string {
	words := strings.FieldsFunc(s, func(c rune) bool { return unicode.IsSpace(c) || unicode.IsControl(c) })
	for i, word := range words {
		words[i] = m.word(word)
	}
	return strings.Join(words, " ")
}

// word is a word with its punctuation: as it is, as a link, or as code.
func (m *markdown) word(s string) string {
	bare := strings.Trim(s, `(),.;:"'`)
	start := strings.Index(s, bare)
	before, after := s[:start], s[start+len(bare):]
	begins := strings.ContainsAny(s[:1], "-+=/:") || strings.HasPrefix(strings.ToLower(bare), "www.") ||
		strings.ContainsAny(after, ".)") && strings.Trim(bare, "0123456789") == "" // a list, a command, an emoji, an address
	isTime := strings.Trim(bare, "0123456789:") == ""
	switch {
	case strings.HasPrefix(bare, m.gitLabURL) && !strings.ContainsFunc(bare, isNoAddress):
		return before + "<" + bare + ">" + after
	case begins:
		return code(s)
	case strings.ContainsFunc(bare, isNoProse) && !isTime:
		return before + code(bare) + after
	}
	return s
}

// isNoAddress: what no address of GitLab has, and what would end a link or a cell.
func isNoAddress(c rune) bool {
	return c > unicode.MaxASCII || unicode.IsControl(c) || strings.ContainsRune("<>|`\"\\@ ", c)
}

// isNoProse: everything that could mean something to Markdown or to GitLab.
func isNoProse(c rune) bool {
	return !unicode.IsLetter(c) && !unicode.IsDigit(c) && !strings.ContainsRune("-–…’'/.,;()=+❌", c)
}

// code is a text as code, where nothing means anything. A line of a table ends its cells
// at every |, in code as well, whatever stands before it.
func code(s string) string {
	s = strings.Map(func(c rune) rune {
		switch {
		case c == '|':
			return '¦'
		case c == '`':
			return '\''
		case !unicode.IsPrint(c):
			return -1
		}
		return c
	}, s)
	return "`" + orOther(strings.TrimSpace(s), " ") + "`"
}
