package sandbox

import (
	"regexp"
	"time"
)

// A stamp says in a variable's description which key the variable holds, and since
// when: it is how a hidden value and half a pair can be told. The README,
// "Publishing".
var stamp = regexp.MustCompile(` ?\[credential-rotator: (\w{16,128}) \d{4}-\d\d-\d\dT\d\d:\d\dZ\]`)

// stamped is a description that claims a key: the user's own text, then the stamp.
func stamped(text, keyID string, at time.Time) string {
	return text + " [credential-rotator: " + keyID + " " + at.UTC().Format("2006-01-02T15:04Z") + "]"
}

// unstamped takes the last stamp out of a description: what remains is the user's
// own text, what it claims is a key id.
func unstamped(description string) (text, keyID string) {
	all := stamp.FindAllStringSubmatchIndex(description, -1)
	if all == nil {
		return description, ""
	}
	m := all[len(all)-1]
	return description[:m[0]] + description[m[1]:], description[m[2]:m[3]]
}
