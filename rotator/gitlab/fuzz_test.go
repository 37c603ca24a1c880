package gitlab_test

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"unicode/utf8"

	"credential-rotator/rotator"
	"credential-rotator/rotator/gitlab"
)

// mostSaid bounds an error of this package, in bytes: GitLab's own words, cut to 300
// characters of up to four bytes, and ours around them.
const mostSaid = 2000

// FuzzAnErrorBody: whatever answers for GitLab, and repeats what it was sent, a call
// ends in an error of one short line that gives away neither the token nor the key.
func FuzzAnErrorBody(f *testing.F) {
	for _, body := range []string{
		`{"message":"401 Unauthorized"}`, `{"message":{"value":["is invalid"],"base":["no","nor this"]}}`, `{"message":{"error":"Try again later."}}`,
		`{"error":"invalid_token","error_description":"Token was revoked. You have to re-authorize from the user."}`,
		`{"message":[[[{"a":{"b":7}}]],null]}`, `{"message":null,"error":""}`, `[]`, `null`, `"SECRET"`, ``, `{"message":"SECRET"}`, `{"message":{"TOKEN":["x"]}}`,
		`{"message":"\u0053ECRET and \u002f"}`, "<html><body><h1>502 Bad Gateway</h1>SECRET</body></html>", "\xff\x00\x1b[31m", `{"message":"` + strings.Repeat("ü", 5000) + `"}`,
		`{"key":"AWS_SECRET_ACCESS_KEY","environment_scope":"production"}`, `{"id":61}`,
	} {
		for _, status := range []int{200, 302, 400, 401, 403, 404, 409, 422, 501, 502} {
			f.Add(status, "application/json", body)
		}
	}
	f.Add(404, "text/TOKEN", "<html>")
	f.Add(404, "text/SECRET", "<html>")
	f.Fuzz(func(t *testing.T, status int, media, body string) {
		if status < 200 || status > 599 || status == http.StatusTooManyRequests {
			t.Skip("no final status, or one that is waited for")
		}
		for name, do := range ports() {
			if name == "GET" && status >= 500 {
				continue // it is sent again, after a pause
			}
			sent := strings.NewReplacer("TOKEN", theToken)
			if name == "PUT" || name == "POST variable" {
				sent = strings.NewReplacer("TOKEN", theToken, "SECRET", theSecret)
			}
			a := answer{status: status, body: sent.Replace(body), header: map[string]string{"Content-Type": sent.Replace(media)}}
			isShortAndSilent(t, name, do(t.Context(), standing(t, a)))
		}
	})
}

// standing is a Client of a stand that always answers alike.
func standing(t *testing.T, a answer) *gitlab.Client {
	t.Helper()
	c, _ := client(t, always(a))
	return c
}

func isShortAndSilent(t *testing.T, name string, err error) {
	t.Helper()
	if err == nil {
		return
	}
	text := err.Error()
	if len(text) > mostSaid || strings.ContainsAny(text, "\n\r\x1b") || !utf8.ValidString(text) {
		t.Fatalf("%s: %d bytes, not one line of text: %q", name, len(text), text)
	}
	for _, secret := range []string{theToken, theSecret} {
		for i := range len(secret) - 7 {
			if strings.Contains(text, secret[i:i+8]) {
				t.Fatalf("%s: the error gives away a part of %s…: %s", name, secret[:5], text)
			}
		}
	}
}

// FuzzAReply: the bodies of what is read may be anything. Nothing panics, and what is
// told about the variables holds no value but that of an access key id.
func FuzzAReply(f *testing.F) {
	for _, body := range []string{
		`[{"key":"AWS_ACCESS_KEY_ID","value":"AKIAOLDOLDOLDOLDOLD2","environment_scope":"production","description":"mine [credential-rotator: AKIAOLDOLDOLDOLDOLD2 2026-11-21T20:00Z]"}]`,
		`[{"key":"AWS_ACCESS_KEY_ID","value":"SECRET","environment_scope":"production"},{"key":"OTHER","value":"SECRET","description":"SECRET"}]`,
		`[null]`, `[{}]`, `null`, `{}`, `[{"key":7}]`, `[{"id":61,"status":"success","source":"api","ref":"main"}]`,
		`{"id":61,"status":"success","user":null,"web_url":"x"}`, `{"active":true,"scopes":["api"],"expires_at":"2026-11-22"}`,
		`[{"id":1,"status":"success","deployable":null}]`, `[{"id":1,"status":"running","started_at":null,"pipeline":null}]`,
	} {
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body string) {
		c := standing(t, ok(strings.ReplaceAll(body, "SECRET", theSecret)))
		ctx := t.Context()
		published, err := readOne(ctx, c, thePlace())
		isShortAndSilent(t, "Read", err)
		told, _ := json.Marshal(published)
		if strings.Contains(string(told), theSecret) && !strings.Contains(published.KeyID.Text+published.Secret.Text, theSecret) {
			t.Fatalf("a value is told: %s", told)
		}
		for name, err := range everyRead(ctx, c) {
			isShortAndSilent(t, name, err)
		}
	})
}

// everyRead asks everything that a rotation asks.
func everyRead(ctx context.Context, c *gitlab.Client) map[string]error {
	r := theRedeploy()
	r.Environment = "production"
	request := rotator.DefaultRequest()
	request.User, request.ProjectID = "svc-billing", 4711
	known := r
	known.ID = 61
	_, preflight := c.Preflight(ctx, request)
	_, mark := c.Mark(ctx, r)
	_, lost := c.Check(ctx, r)
	_, check := c.Check(ctx, known)
	_, holders := c.Holders(ctx, r)
	return map[string]error{"Preflight": preflight, "Mark": mark, "Check for a lost one": lost, "Check": check, "Holders": holders}
}
