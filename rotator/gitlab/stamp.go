package gitlab

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// A stamp ends the description of a variable and says which key the variable
// holds: " [credential-rotator: AKIA… 2026-11-21T20:00Z]", with the leading space
// also when there is no other text. A pair that is half published shows by it, and
// so does what a hidden variable holds.
const (
	stampMark = "[credential-rotator: "
	stampTime = "2006-01-02T15:04Z" // UTC
	// descriptionLimit is GitLab's, in characters (Ci::Variable validates description).
	descriptionLimit = 255
	// keyIDLength is that of every key id that IAM makes today; the stamp must fit
	// before the id is known.
	keyIDLength = 20
)

// stamped is a description: the user's own text and the stamp.
func stamped(text, keyID string, at time.Time) string {
	return text + " " + stampMark + keyID + " " + at.UTC().Format(stampTime) + "]"
}

// unstamped takes the last stamp out of a description, wherever it is, and returns
// what remains and the key id that the stamp names: for every text,
// unstamped(stamped(text, id, at)) is text and id. Without a stamp the text is the
// whole description.
func unstamped(description string) (text, keyID string) {
	for end := len(description); ; {
		start := strings.LastIndex(description[:end], stampMark)
		if start < 0 {
			return description, ""
		}
		if id, length := leadingStamp(description[start:]); length > 0 {
			return strings.TrimSuffix(description[:start], " ") + description[start+length:], id
		}
		end = start
	}
}

// leadingStamp reads the stamp that s begins with; its length is 0 when s only
// looks like one.
func leadingStamp(s string) (keyID string, length int) {
	inner, _, closed := strings.Cut(s[len(stampMark):], "]")
	id, at, two := strings.Cut(inner, " ")
	if !closed || !two || !isWord(id, 16, 128) || len(at) != len(stampTime) {
		return "", 0
	}
	if _, err := time.Parse(stampTime, at); err != nil {
		return "", 0
	}
	return id, len(stampMark) + len(inner) + len("]")
}

// roomForStamp returns nil when a text leaves room for a stamp.
func roomForStamp(text, keyID string) error {
	most := descriptionLimit - utf8.RuneCountInString(stamped("", keyID, time.Time{}))
	if n := utf8.RuneCountInString(text); n > most {
		return fmt.Errorf("its description has %d characters and leaves no room for a stamp: shorten it to %d", n, most)
	}
	return nil
}

// isWord tells whether s is least to most of A-Z a-z 0-9 _, as IAM's key ids are.
func isWord(s string, least, most int) bool {
	return len(s) >= least && len(s) <= most && strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_") == ""
}

// isAccessKeyID tells whether a value is an access key id (AKIA… of a user, ASIA…
// of a session), and nothing else.
func isAccessKeyID(s string) bool {
	id, ok := strings.CutPrefix(s, "AKIA")
	if !ok {
		id, ok = strings.CutPrefix(s, "ASIA")
	}
	return ok && len(id) >= 12 && len(id) <= 124 && strings.Trim(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789") == ""
}
