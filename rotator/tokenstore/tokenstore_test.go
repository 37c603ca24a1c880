package tokenstore

import (
	"strings"
	"testing"
	"time"

	"credential-rotator/rotator"
)

const (
	oldToken = "glpat-CANARY-old"
	newToken = "glpat-CANARY-new"
)

func TestATextGetsAnotherTokenAndNothingElse(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ text, want string }{
		"a token":                  {oldToken, newToken},
		"with a line end":          {oldToken + "\n", newToken},
		"JSON of a Windows editor": {"\ufeff{\r\n\"token\":\"OLD\"}\r\n", "{\r\n\"token\":\"NEW\"}"},
		"JSON":                     {`{"token":"OLD"}`, `{"token":"NEW"}`},
		"laid out":                 {"{\n  \"a\": [1, 2.50],\n  \"token\" : \"OLD\",\n  \"b\": null\n}", "{\n  \"a\": [1, 2.50],\n  \"token\" : \"NEW\",\n  \"b\": null\n}"},
		"others of that name":      {`{"x":{"token":"keep"},"token":"OLD","tokens":["token"]}`, `{"x":{"token":"keep"},"token":"NEW","tokens":["token"]}`},
		"numbers as they were":     {`{"n":12345678901234567890,"m":1e3,"token":"OLD"}`, `{"n":12345678901234567890,"m":1e3,"token":"NEW"}`},
		"in capitals, as is read":  {`{"Token":"OLD"}`, `{"Token":"NEW"}`},
		"said twice":               {`{"token":"first","token":"OLD"}`, `{"token":"NEW","token":"NEW"}`},
		"with escapes":             {`{"é\n":"\u00e9","token":"\u0067lpat-x"}`, `{"é\n":"\u00e9","token":"NEW"}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fill := strings.NewReplacer("OLD", oldToken, "NEW", newToken)
			if err := canChange(fill.Replace(c.text), "it"); err != nil {
				t.Fatal(err)
			}
			got, err := withToken(fill.Replace(c.text), rotator.NewSecret(newToken))
			if err != nil || got.Reveal() != fill.Replace(c.want) {
				t.Errorf("got %s, %v", got.Reveal(), err)
			}
		})
	}
}

func TestATextWithoutATokenIsNotChanged(t *testing.T) {
	t.Parallel()
	for _, text := range []string{`{`, `{"token":`, `{"x":1}`, `{"token":{"a":1`, `{"token":"a"} {"token":"b"}`, `{"x":{"token":"` + oldToken + `"}}`} {
		err := canChange(text, "the secret x")
		if err == nil || strings.Contains(err.Error(), "CANARY") || !strings.HasPrefix(err.Error(), "the secret x cannot be changed: ") {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestWhatWasDoneALongTimeAgoKeepsNobodyAway(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 22, 6, 0, 0, 0, time.UTC)
	for ago, free := range map[time.Duration]bool{0: false, time.Minute: false, claimTime - time.Second: false, claimTime: true, time.Hour: true, -time.Minute: false} {
		done := now.Add(-ago)
		if err := busyAfter(&done, now, "x"); (err == nil) != free {
			t.Errorf("%s ago: %v", ago, err)
		}
	}
	if busyAfter(nil, now, "x") != nil {
		t.Error("what was never done keeps others away")
	}
	if SendWithin >= claimTime/2 {
		t.Error("a holder may send when its claim is nearly over")
	}
}
