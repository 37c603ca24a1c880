package main

import (
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"time"
	"unicode"

	"golang.org/x/term"
)

// page is an answer in text while it is written. On a terminal long sentences are broken
// to its width and signs have colours; elsewhere a line is a line, for whoever greps.
type page struct {
	strings.Builder
	width int // 0: lines are not broken
	paint bool
}

// The colours of what a person should see first.
const (
	red    = "31"
	green  = "32"
	yellow = "33"
	bold   = "1"
)

// pageFor is a page for what is behind a writer.
func pageFor(out io.Writer, environ []string) *page {
	file, ok := out.(*os.File)
	if !ok || has(environ, "TERM=dumb") || !term.IsTerminal(int(file.Fd())) {
		return &page{}
	}
	const least = 40 // below, broken lines are harder to read than those that the terminal breaks
	wide, _, err := term.GetSize(int(file.Fd()))
	if err != nil || wide < least {
		wide = 0
	}
	return &page{width: wide, paint: !has(environ, "NO_COLOR=")}
}

func (p *page) colored(s, color string) string {
	if !p.paint || color == "" || s == "" {
		return s
	}
	return "\x1b[" + color + "m" + s + "\x1b[0m"
}

// write writes what stands at the beginning of a line, and then text, whose further lines
// begin below its first. At says in which column that is.
func (p *page) write(begin string, at int, text string) {
	begin = harmless(begin, p.paint)
	for i, line := range folded(harmless(text, p.paint), p.width-at) {
		if i > 0 {
			begin = strings.Repeat(" ", at)
		}
		p.WriteString(strings.TrimRight(begin+line, " ") + "\n")
	}
}

// harmless is a text as one line that does nothing to a terminal: what comes from GitLab
// and AWS, such as the name of a job, may hold what moves its cursor, or looks like a line
// of ours. Our own colours stay.
func harmless(text string, painted bool) string {
	var b strings.Builder
	for i, c := range text {
		switch {
		case unicode.IsPrint(c), c == '\x1b' && painted && ourColor.MatchString(text[i:]):
			b.WriteRune(c)
		default:
			b.WriteByte(' ')
		}
	}
	return b.String()
}

var ourColor = regexp.MustCompile(`^\x1b\[(0|1|31|32|33)m`)

// field writes one line of a list of names and what they are.
func (p *page) field(indent, wide int, name, format string, args ...any) {
	begin := fmt.Sprintf("%*s%-*s ", indent, "", wide, name)
	p.write(begin, indent+wide+1, fmt.Sprintf(format, args...))
}

// heading begins a section.
func (p *page) heading(name string) { p.WriteString("\n" + p.colored(name, bold) + "\n") }

// folded breaks a text between words into lines of so many columns; with less than a
// few, it does not. A word that is longer has a line of its own: it may be an address.
func folded(text string, wide int) []string {
	const least = 20
	if wide < least || columns(text) <= wide {
		return []string{text}
	}
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		switch {
		case line == "":
			line = word
		case columns(line)+1+columns(word) > wide:
			lines, line = append(lines, line), word
		default:
			line += " " + word
		}
	}
	return append(lines, line)
}

// columns are how many a text takes on a terminal: its colours take none.
func columns(text string) int {
	n, within := 0, false
	for _, c := range text {
		switch {
		case c == '\x1b':
			within = true
		case within:
			within = c != 'm'
		default:
			n++
		}
	}
	return n
}

// moment is a time as one wants to read it at night: in UTC, and how far away.
func moment(t, now time.Time) string {
	if t.IsZero() {
		return "nobody knows when"
	}
	return t.UTC().Format("2006-01-02 15:04 UTC") + " (" + distance(t, now) + ")"
}

// distance is how far away a time is, in the largest unit that is not nothing. Clocks
// differ by seconds, so what is as near is now.
func distance(t, now time.Time) string {
	d := now.Sub(t)
	var words string
	switch far := d.Abs(); {
	case far >= 48*time.Hour:
		words = days(far)
	case far >= time.Hour:
		words = fmt.Sprintf("%d h", int(far.Hours()))
	case far >= time.Minute:
		words = fmt.Sprintf("%d min", int(far.Minutes()))
	default:
		return "now"
	}
	if d < 0 {
		return "in " + words
	}
	return words + " ago"
}

func days(d time.Duration) string {
	if n := int(d / (24 * time.Hour)); n != 1 {
		return fmt.Sprintf("%d days", n)
	}
	return "1 day"
}

func orOther(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

// count is a number of things: "1 place", "2 places".
func count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
