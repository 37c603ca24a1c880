package main

import (
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"

	"credential-rotator/rotator"
)

func TestATextIsShownInANoteAsItIsMeant(t *testing.T) {
	t.Parallel()
	m := markdown{gitLabURL: "https://gitlab.example.com/git/"}
	for given, want := range map[string]string{
		"key AKIAIOSFODNN7EXAMPLE is 84 days old; due on 2026-11-21 20:00 UTC":    "key AKIAIOSFODNN7EXAMPLE is 84 days old; due on 2026-11-21 20:00 UTC",
		"AWS_ACCESS_KEY_ID [*] is missing":                                        "`AWS_ACCESS_KEY_ID` `[*]` is missing",
		"job deploy (https://gitlab.example.com/git/a/b/-/jobs/7) can be retried": "job deploy (<https://gitlab.example.com/git/a/b/-/jobs/7>) can be retried",
		"see https://evil.example.com/x.":                                         "see `https://evil.example.com/x`.",
		"https://gitlab.example.com/git/a|b":                                      "`https://gitlab.example.com/git/a¦b`",
		"https://gitlab.example.com/git@evil.example.com/":                        "`https://gitlab.example.com/git@evil.example.com/`",
		"www.evil.example.com":                                                    "`www.evil.example.com`",
		"the branch @all":                                                         "the branch `@all`",
		"closes #1, !2 and ~bug (%3)":                                             "closes `#1`, `!2` and `~bug` (`%3`)",
		"<img src=x onerror=alert(1)>":                                            "`<img` src=x `onerror=alert(1)>`",
		"a | b\n/approve\r\n| c":                                                  "a `¦` b `/approve` `¦` c",
		"a\\|b":                                                                   "`a\\¦b`",
		"`x` ``y``":                                                               "`'x'` `''y''`",
		":skull: - item 1. 2) x":                                                  "`:skull:` `-` item `1.` `2)` x",
		"a\u202eb\u200bc\x00d \u2028 e":                                           "`abc` d e",
		"**bold** _it_ [a](b) ![a](b) &lt; $x$ {+a+} [[_TOC_]] *[a]: b":           "`**bold**` `_it_` `[a](b`) `![a](b`) `&lt`; `$x$` `{+a+}` `[[_TOC_]]` `*[a]`: b",
		"": "",
	} {
		if got := m.text(given); got != want {
			t.Errorf("%q is shown as\n%s\nwant\n%s", given, got, want)
		}
	}
}

// plain is what is left of a text in Markdown when its code and its links are taken away.
func plain(text string) string {
	return regexp.MustCompile("`[^`]+`|<https://gitlab\\.example\\.com/[!-;=?-z~]*>").ReplaceAllString(text, "")
}

func TestNothingGetsOutOfItsPlaceInANote(t *testing.T) {
	t.Parallel()
	letters := []rune("ab1 .-/|`@#!<>\\[]()*_~&$:%\n\r\"'\u202e\u2028")
	rng := rand.New(rand.NewPCG(1, 2)) // #nosec G404: a test
	hostile := func() string {
		var b strings.Builder
		for range rng.IntN(40) {
			if rng.IntN(20) == 0 {
				b.WriteString("https://gitlab.example.com/")
			}
			b.WriteRune(letters[rng.IntN(len(letters))])
		}
		return b.String()
	}
	for range 3000 {
		name, detail := hostile(), hostile()
		request := rotator.DefaultRequest()
		request.User, request.ProjectID, request.EnvironmentScope, request.Ref, request.Environment = "svc", 1, hostile(), name, detail
		result := rotator.Result{User: "svc", Status: rotator.StatusRefused, Reason: hostile(), Checks: []rotator.Check{{Name: name, State: rotator.CheckFault, Detail: detail}}}
		var b strings.Builder
		if err := writeMarkdown(&b, result, request, "https://gitlab.example.com"); err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(b.String(), "\n")
		if len(lines) != 16 || lines[0] != "### ❌ credential-rotator: `svc` cannot be rotated" || lines[8] != "#### Where a new key goes" {
			t.Fatalf("of name %q and detail %q the note has another shape:\n%s", name, detail, b.String())
		}
		for i, bars := range map[int]int{6: 4, 12: 5, 2: 0} {
			if strings.Count(lines[i], "|") != bars {
				t.Fatalf("line %d has not %d bars: %s", i, bars, lines[i])
			}
			if rest := plain(strings.ReplaceAll(lines[i], "|", "")); strings.ContainsAny(rest, "@#!<>\\[]*_~&$%`") || strings.HasPrefix(rest, "/") {
				t.Fatalf("%q is not shown as code in: %s", rest, lines[i])
			}
		}
	}
}
