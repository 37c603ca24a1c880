package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"credential-rotator/rotator"
)

// writeResults writes results as a person reads them: what, why, what now.
func writeResults(w io.Writer, all []rotator.Result) error {
	var b strings.Builder
	for _, r := range all {
		writeResult(&b, r)
	}
	if len(all) == 0 {
		b.WriteString("nothing is in flight\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func writeResult(b *strings.Builder, r rotator.Result) {
	fmt.Fprintf(b, "%s: %s\n", strings.ReplaceAll(string(r.Status), "_", " "), r.Reason)
	line := func(name, format string, args ...any) {
		fmt.Fprintf(b, "  %-12s %s\n", name, fmt.Sprintf(format, args...))
	}
	line("user", "%s, project %d", r.User, r.ProjectID)
	if r.CurrentKeyID != "" {
		line("published", "%s", r.CurrentKeyID)
	}
	if r.PreviousKeyID != "" && r.PreviousKeyID != r.CurrentKeyID {
		line("previous", "%s%s", r.PreviousKeyID, fateOf(r))
	}
	if d := r.Deployment; d != nil {
		line("deployment", "%s, %s, %s", d.Name(), d.Status, d.URL)
	}
	if r.NextDue != nil {
		line("next due", "%s", r.NextDue.Format(time.DateOnly))
	}
	for _, warning := range r.Warnings {
		line("warning", "%s", warning)
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

// writeReport writes what there is to know about a user, as one wants to see it at
// three in the morning.
func writeReport(w io.Writer, r rotator.Report, now time.Time) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s (%s), bound to %s\n\nKEYS\n", r.User.ARN, r.User.UniqueID, orDash(r.User.Binding))
	table := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, k := range r.Keys {
		fmt.Fprintf(table, "  %s\t%s\t%s old\t%s\t%s\n", k.ID, k.Status, days(now.Sub(k.CreatedAt)), usedWords(k), publishedWord(r, k.ID))
	}
	_ = table.Flush() // into memory
	if len(r.Keys) == 0 {
		b.WriteString("  none\n")
	}
	writePublished(&b, r.Published)
	fmt.Fprintf(&b, "\nROTATION\n  %s\n", recordWords(r.Record))
	fmt.Fprintf(&b, "\nNEXT\n  %s: %s\n", strings.ReplaceAll(string(r.Outlook.Status), "_", " "), r.Outlook.Reason)
	for _, warning := range r.Outlook.Warnings {
		fmt.Fprintf(&b, "  warning: %s\n", warning)
	}
	_, err := io.WriteString(w, untrailed(b.String()))
	return err
}

// untrailed is a text without the spaces that a table leaves at the ends of lines.
func untrailed(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		lines[i] = strings.TrimRight(line, " ")
	}
	return strings.Join(lines, "\n")
}

func usedWords(k rotator.KeyReport) string {
	switch {
	case k.Unread != "":
		return "last use unknown"
	case k.LastUse.At.IsZero():
		return "never used"
	}
	return fmt.Sprintf("last used %s by %s", k.LastUse.At.UTC().Format("2006-01-02 15:04"), k.LastUse.Service)
}

// writePublished shows what each place holds. With several, each has its name above it.
func writePublished(b *strings.Builder, places []rotator.PlaceReport) {
	fmt.Fprintf(b, "\nPUBLISHED\n")
	for _, p := range places {
		if len(places) > 1 {
			fmt.Fprintf(b, "  %s [%s]\n", p.Owner(), p.EnvironmentScope)
		}
		table := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
		unread := len(p.Faults) > 0 // then what seems missing may be there
		if p.File != "" {
			fmt.Fprintf(table, "  file\t%s\n", variableWords(p.KeyID, unread))
		} else {
			fmt.Fprintf(table, "  key id\t%s\n  secret\t%s\n", variableWords(p.KeyID, unread), variableWords(p.Secret, unread))
		}
		_ = table.Flush()
	}
}

func publishedWord(r rotator.Report, keyID string) string {
	if slices.ContainsFunc(r.Published, func(p rotator.PlaceReport) bool { return p.HeldKeyID == keyID }) {
		return "published"
	}
	return ""
}

func variableWords(v rotator.Variable, unread bool) string {
	switch {
	case !v.Exists && unread:
		return "not known"
	case !v.Exists:
		return "missing"
	}
	words := []string{orOther(orOther(v.Value, v.Claims), "not stamped yet")}
	for _, flag := range []struct {
		on   bool
		word string
	}{{v.Masked, "masked"}, {v.Hidden, "hidden"}, {v.Protected, "protected"}, {v.Claims != "", "stamped"}} {
		if flag.on {
			words = append(words, flag.word)
		}
	}
	return strings.Join(words, "\t")
}

func recordWords(r rotator.Record) string {
	if !r.InFlight() {
		return "none in flight"
	}
	words := fmt.Sprintf("%s, begun %s: %s", r.Phase, r.StartedAt.Format("2006-01-02 15:04 UTC"), r.Reason)
	if r.LastError != "" {
		words += "\n  last error: " + r.LastError
	}
	if r.Held != "" {
		words += "\n  held: " + r.Held
	}
	return words
}

func days(d time.Duration) string {
	if n := int(d / (24 * time.Hour)); n != 1 {
		return fmt.Sprintf("%d days", n)
	}
	return "1 day"
}

func orDash(s string) string { return orOther(s, "–") }

func orOther(s, other string) string {
	if s == "" {
		return other
	}
	return s
}
