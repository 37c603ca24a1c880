package gitlab_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"credential-rotator/rotator"
)

// row is a variable as the API shows it.
func row(key, scope, value, description string, more ...string) string {
	fields := map[string]any{
		"variable_type": "env_var", "key": key, "value": value, "hidden": false, "protected": false,
		"masked": true, "raw": false, "environment_scope": scope, "description": description,
	}
	for _, m := range more {
		switch m {
		case "hidden":
			fields["hidden"], fields["value"] = true, nil
		case "file":
			fields["variable_type"] = "file"
		case "no description":
			fields["description"] = nil
		default:
			fields[m] = fields[m] == false
		}
	}
	out, err := json.Marshal(fields)
	if err != nil {
		panic(err)
	}
	return string(out)
}

func list(items ...string) string { return "[" + strings.Join(items, ",") + "]" }

const oldStamp = " [credential-rotator: " + oldKeyID + " 2026-08-29T20:00Z]"

func TestReadFindsThePairByNameAndScope(t *testing.T) {
	c, s := client(t, always(ok(list(
		row("AWS_ACCESS_KEY_ID", "*", "AKIAELSEELSEELSEELSE", ""),
		row("AWS_SECRET_ACCESS_KEY", "*", "x", "not [credential-rotator: AKIAELSEELSEELSEELSE 2026-08-29T20:00Z] mine"),
		row("AWS_ACCESS_KEY_ID", "production", oldKeyID, "of billing"+oldStamp, "protected"),
		row("AWS_SECRET_ACCESS_KEY", "production", "", oldStamp, "hidden"),
		row("COLOUR", "*", "blue", "", "no description"),
		row("HIDDEN_ID", "*", "", oldStamp, "hidden"),
		row("TOKEN", "*", "AKIA is how they begin", ""),
		"null",
	))))
	got, err := readOne(t.Context(), c, thePlace())
	if err != nil {
		t.Fatal(err)
	}
	want := rotator.Published{
		KeyID:  rotator.Variable{Exists: true, Masked: true, Protected: true, Value: oldKeyID, Claims: oldKeyID, Text: "of billing"},
		Secret: rotator.Variable{Exists: true, Masked: true, Hidden: true, Claims: oldKeyID},
		Elsewhere: []rotator.Holding{
			{Variable: "AWS_ACCESS_KEY_ID [*]", KeyID: "AKIAELSEELSEELSEELSE"},
			{Variable: "AWS_SECRET_ACCESS_KEY [*]", KeyID: "AKIAELSEELSEELSEELSE"},
			{Variable: "HIDDEN_ID [*]", KeyID: oldKeyID},
		},
		At: instant("2026-11-21T20:00:01Z"),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Read (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff("GET /projects/4711/variables", made(s.calls)); diff != "" {
		t.Error(diff)
	}
}

func TestReadOfVariablesThatDoNotExist(t *testing.T) {
	c, _ := client(t, always(ok(`[]`)))
	got, err := readOne(t.Context(), c, thePlace())
	if err != nil || got.KeyID.Exists || got.Secret.Exists {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestReadShowsNoValueThatIsNoKeyID(t *testing.T) {
	c, _ := client(t, always(ok(list(row("AWS_ACCESS_KEY_ID", "production", theSecret, ""), row("AWS_SECRET_ACCESS_KEY", "production", oldKeyID, "")))))
	got, err := readOne(t.Context(), c, thePlace())
	if err != nil {
		t.Fatal(err)
	}
	if text := fmt.Sprintf("%+v", got); strings.Contains(text, theSecret) || strings.Contains(text, oldKeyID) {
		t.Errorf("a swapped pair shows: %s", text)
	}
}

func TestReadGoesThroughAllPages(t *testing.T) {
	c, s := client(t, func(n int, _ call) answer {
		a := ok(list(row(fmt.Sprintf("V%d", n), "*", "AKIAELSEELSEELSEELSE", "")))
		a.header = map[string]string{"X-Next-Page": ""}
		if n < 3 {
			// An absolute link of an instance that does not know its own name.
			a.header["Link"] = fmt.Sprintf(`<http://internal:8080/api/v4/projects/4711/variables?page=%d&per_page=100>; rel="next", <http://internal:8080/x>; rel="first"`, n+1)
		}
		return a
	})
	got, err := readOne(t.Context(), c, thePlace())
	if err != nil || len(got.Elsewhere) != 3 || len(s.calls) != 3 {
		t.Fatalf("%+v, %v after %d calls", got, err, len(s.calls))
	}
	if want := "page=3&per_page=100"; s.calls[2].query != want {
		t.Errorf("the third page was asked for with %q, want %q", s.calls[2].query, want)
	}
}

func TestReadGivesUpOnPagesThatDoNotEnd(t *testing.T) {
	c, s := client(t, always(answer{status: 200, body: `[]`, header: map[string]string{"X-Next-Page": "2"}}))
	_, err := readOne(t.Context(), c, thePlace())
	says(t, err, "does not end after 100 pages")
	if len(s.calls) != 100 {
		t.Errorf("%d calls", len(s.calls))
	}
}

func TestReadNamesWhatKeepsAVariableFromBeingWritten(t *testing.T) {
	c, _ := client(t, always(ok(list(
		row("AWS_ACCESS_KEY_ID", "production", oldKeyID, strings.Repeat("x", 200)),
		row("AWS_SECRET_ACCESS_KEY", "production", theSecret, "", "file"),
		row("OTHER", "production", theSecret, strings.Repeat("x", 255), "file"),
	))))
	got, err := readOne(t.Context(), c, thePlace())
	want := []string{
		"AWS_ACCESS_KEY_ID [production] cannot be stamped: its description has 200 characters and leaves no room for a stamp: shorten it to 194",
	}
	if diff := cmp.Diff(want, got.Faults); diff != "" || err != nil {
		t.Errorf("%v, faults (-want +got):\n%s", err, diff)
	}
}

func TestAReadThatIsRefusedSaysSo(t *testing.T) {
	for name, c := range map[string]struct {
		answer  answer
		refused bool
		says    string
	}{
		"role":    {answer{status: 403, body: `{"message":"403 Forbidden"}`}, true, "Maintainer"},
		"project": {answer{status: 404, body: `{"message":"404 Project Not Found"}`}, true, "does not exist, or the GitLab token cannot see it"},
		"token":   {answer{status: 401, body: `{"message":"401 Unauthorized"}`}, true, "make a new one"},
		"a page":  {answer{status: 404, body: `<html>`, header: map[string]string{"Content-Type": "text/html"}}, false, "GITLAB_URL"},
		"down":    {answer{status: 503, body: `{}`}, false, "try again later"},
		"no Date": {answer{status: 200, body: `[]`, header: map[string]string{"Date": ""}}, false, "no Date"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client, _ := client(t, always(c.answer))
				_, err := readOne(t.Context(), client, thePlace())
				says(t, err, "reading the variables of project 4711: ", c.says)
				if isRefused(err) != c.refused {
					t.Errorf("refused is %v: %v", isRefused(err), err)
				}
			})
		})
	}
}

// body is what a call sent, without the time of the stamp.
func body(t *testing.T, c call) map[string]any {
	t.Helper()
	var got map[string]any
	if err := json.Unmarshal([]byte(c.body), &got); err != nil {
		t.Fatalf("%s sent %q: %v", c, c.body, err)
	}
	return got
}

func TestAWriteChangesTheValueAndTheDescriptionOnly(t *testing.T) {
	const stamp = " [credential-rotator: " + newKeyID + " 2000-01-01T00:00Z]" // when synctest begins
	for name, c := range map[string]struct {
		before rotator.Variable
		call   string
		body   map[string]any
	}{
		"masked": {
			rotator.Variable{Exists: true, Masked: true, Protected: true, Text: "of billing", Claims: oldKeyID},
			"PUT /projects/4711/variables/AWS_SECRET_ACCESS_KEY",
			map[string]any{"value": theSecret, "description": "of billing" + stamp, "filter": map[string]any{"environment_scope": "production"}},
		},
		"not masked: it is switched on": {
			rotator.Variable{Exists: true},
			"PUT /projects/4711/variables/AWS_SECRET_ACCESS_KEY",
			map[string]any{"value": theSecret, "description": stamp, "masked": true, "filter": map[string]any{"environment_scope": "production"}},
		},
		"hidden: masked is not mentioned": {
			rotator.Variable{Exists: true, Hidden: true},
			"PUT /projects/4711/variables/AWS_SECRET_ACCESS_KEY",
			map[string]any{"value": theSecret, "description": stamp, "filter": map[string]any{"environment_scope": "production"}},
		},
		"missing": {
			rotator.Variable{Protected: true},
			"POST /projects/4711/variables",
			map[string]any{
				"key": "AWS_SECRET_ACCESS_KEY", "value": theSecret, "description": stamp, "environment_scope": "production",
				"masked": true, "protected": true, "raw": false, "variable_type": "env_var",
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client, s := client(t, always(ok(row("AWS_SECRET_ACCESS_KEY", "production", theSecret, ""))))
				if err := writeSecret(t.Context(), client, thePlace(), c.before, thePair()); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(c.call, made(s.calls)); diff != "" {
					t.Error(diff)
				}
				if diff := cmp.Diff(c.body, body(t, s.calls[0])); diff != "" {
					t.Errorf("body (-want +got):\n%s", diff)
				}
			})
		})
	}
}

func TestWriteKeyIDReturnsTheSecondAfterTheReply(t *testing.T) {
	c, s := client(t, always(ok(row("AWS_ACCESS_KEY_ID", "production", newKeyID, ""))))
	at, err := writeKeyID(t.Context(), c, thePlace(), rotator.Variable{Exists: true, Masked: true}, newKeyID)
	if err != nil || !at.Equal(instant("2026-11-21T20:00:01Z")) {
		t.Errorf("%s, %v", at, err)
	}
	if got := body(t, s.calls[0])["value"]; got != newKeyID {
		t.Errorf("wrote %v", got)
	}
}

func TestAWriteThatCannotBeIsNotSent(t *testing.T) {
	for name, c := range map[string]struct {
		before rotator.Variable
		value  string
		says   string
	}{
		"a secret that cannot be masked": {rotator.Variable{Exists: true}, "short", "cannot be masked"},
		"one with a space":               {rotator.Variable{Exists: true}, "wJalrXUtnFEMI K7MDENG", "cannot be masked"},
		"no room for the stamp":          {rotator.Variable{Exists: true, Text: strings.Repeat("x", 195)}, theSecret, "shorten it to 194"},
	} {
		t.Run(name, func(t *testing.T) {
			client, s := client(t, always(ok(`{}`)))
			err := writeSecret(t.Context(), client, thePlace(), c.before, rotator.KeyPair{ID: newKeyID, Secret: rotator.NewSecret(c.value)})
			says(t, err, "writing AWS_SECRET_ACCESS_KEY [production] of project 4711: refused: ", c.says)
			if !isRefused(err) || len(s.calls) != 0 || strings.Contains(err.Error(), c.value) {
				t.Errorf("%d calls, %v", len(s.calls), err)
			}
		})
	}
}

func TestWhatAWriteMustNotTakeForSuccessOrRefusal(t *testing.T) {
	for name, c := range map[string]struct {
		answer answer
		says   string
	}{
		"another scope":    {ok(row("AWS_SECRET_ACCESS_KEY", "*", theSecret, "")), "another variable"},
		"another variable": {ok(row("AWS_ACCESS_KEY_ID", "production", theSecret, "")), "another variable"},
		"nothing":          {ok(`null`), "another variable"},
		"already there": {
			answer{status: 400, body: `{"message":{"key":["(AWS_SECRET_ACCESS_KEY) has already been taken"]}}`},
			"(key (AWS_SECRET_ACCESS_KEY) has already been taken)",
		},
	} {
		t.Run(name, func(t *testing.T) {
			client, s := client(t, always(c.answer))
			err := writeSecret(t.Context(), client, thePlace(), rotator.Variable{}, thePair())
			says(t, err, "writing AWS_SECRET_ACCESS_KEY [production] of project 4711: ", c.says)
			if isRefused(err) || len(s.calls) != 1 {
				t.Errorf("%d calls, %v", len(s.calls), err)
			}
		})
	}
}

func TestWriteKeyIDWithoutADateIsNotKnownToBeDone(t *testing.T) {
	c, _ := client(t, always(answer{status: 200, body: row("AWS_ACCESS_KEY_ID", "production", newKeyID, ""), header: map[string]string{"Date": ""}}))
	_, err := writeKeyID(t.Context(), c, thePlace(), rotator.Variable{Exists: true}, newKeyID)
	says(t, err, "no Date", "proxy")
	if isRefused(err) {
		t.Error(err)
	}
}
