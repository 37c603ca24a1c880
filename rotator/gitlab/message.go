package gitlab

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"unicode"

	"credential-rotator/rotator"
)

// messageLimit cuts what GitLab says to what an error line can hold, in characters.
const messageLimit = 300

// body is the body of a reply that came through transport.
func body(resp *http.Response) []byte {
	if r, ok := resp.Body.(*reply); ok {
		return r.data
	}
	return nil
}

// message takes GitLab's own sentence out of the body of an error: message, else
// error_description, else error. It is "" when there is none, or when the sentence
// repeats one of the secrets. parsed tells whether the body is one of GitLab's.
func message(body []byte, secrets []rotator.Secret) (said string, parsed bool) {
	var m struct {
		Message     any `json:"message"`
		Description any `json:"error_description"`
		Error       any `json:"error"`
	}
	if json.Unmarshal(body, &m) != nil {
		return "", false
	}
	for _, part := range []any{m.Message, m.Description, m.Error} {
		if said = flat(part); said != "" {
			return printable(said, secrets), true
		}
	}
	return "", true
}

// flat writes a message as one line: {"key":["is too long"],"base":["no"]} is "no;
// key is too long".
func flat(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case []any:
		var parts []string
		for _, part := range v {
			parts = append(parts, flat(part))
		}
		return strings.Join(parts, ", ")
	case map[string]any:
		var parts []string
		for _, name := range slices.Sorted(maps.Keys(v)) {
			part := flat(v[name])
			if name != "base" && name != "error" {
				part = name + " " + part
			}
			parts = append(parts, part)
		}
		return strings.Join(parts, "; ")
	}
	return ""
}

// printable makes one short line of s, or nothing when s gives away a secret.
func printable(s string, secrets []rotator.Secret) string {
	for _, secret := range secrets {
		if givesAway(s, secret) {
			return ""
		}
	}
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s)
	if runes := []rune(s); len(runes) > messageLimit {
		s = string(runes[:messageLimit]) + "…"
	}
	return s
}

// givesAway tells whether s holds eight characters in a row of a secret: enough to
// be no accident, and too many to show.
func givesAway(s string, secret rotator.Secret) bool {
	const window = 8
	value := secret.Reveal()
	if value == "" {
		return false
	}
	for i := 0; i == 0 || i+window <= len(value); i++ {
		if strings.Contains(s, value[i:min(i+window, len(value))]) {
			return true
		}
	}
	return false
}

// status is the status line of a reply as a person knows it.
func status(resp *http.Response) string {
	if text := http.StatusText(resp.StatusCode); text != "" {
		return fmt.Sprintf("%d %s", resp.StatusCode, text)
	}
	return fmt.Sprintf("%d", resp.StatusCode)
}

// kind names the media type of a reply, when that tells something.
func kind(resp *http.Response, secrets []rotator.Secret) string {
	media, _, _ := strings.Cut(resp.Header.Get("Content-Type"), ";")
	if media == "" || strings.HasSuffix(media, "json") {
		return ""
	}
	return " (" + printable(media, secrets) + ")"
}

// target is where a redirect leads, without what may be private in it.
func target(resp *http.Response, secrets []rotator.Secret) string {
	u, err := resp.Location()
	if err != nil {
		return "nowhere"
	}
	u.User, u.RawQuery, u.Fragment = nil, "", ""
	return printable(u.String(), secrets)
}
