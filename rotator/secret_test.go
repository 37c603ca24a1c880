package rotator_test

import (
	"bytes"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"credential-rotator/rotator"
)

const canary = "CANARY/wJalrXUtnFEMI+K7MDENG"

// holder has a secret in every way in which a struct can.
type holder struct {
	Name    string
	Secret  rotator.Secret
	Pointer *rotator.Secret
	List    []rotator.Secret
	ByName  map[string]rotator.Secret
	Any     any
	Pair    rotator.KeyPair
}

// unexported has it where fmt calls no method.
type unexported struct {
	name   string
	secret rotator.Secret
	pair   rotator.KeyPair
	all    []rotator.Secret
}

// secrets are all ways to have one.
func secrets() map[string]any {
	s := rotator.NewSecret(canary)
	pair := rotator.KeyPair{ID: "AKIAOLDOLDOLDOLDOLD2", Secret: s}
	return map[string]any{
		"a secret":               s,
		"a pointer to a secret":  &s,
		"a list":                 []rotator.Secret{s},
		"a map":                  map[string]rotator.Secret{"a": s},
		"a key of a map":         map[rotator.Secret]int{s: 1},
		"a pair":                 pair,
		"a pointer to a pair":    &pair,
		"a struct":               holder{"n", s, &s, []rotator.Secret{s}, map[string]rotator.Secret{"a": s}, s, pair},
		"a pointer to a struct":  &holder{"n", s, &s, []rotator.Secret{s}, map[string]rotator.Secret{"a": s}, s, pair},
		"an anonymous struct":    struct{ rotator.Secret }{s},
		"an unexported field":    unexported{"n", s, pair, []rotator.Secret{s}},
		"a pointer to one":       &unexported{"n", s, pair, []rotator.Secret{s}},
		"a list of any":          []any{s, pair},
		"a struct within a pair": struct{ A, B any }{pair, &s},
	}
}

func mustNotLeak(t *testing.T, how, text string) {
	t.Helper()
	if leaks(text) {
		t.Errorf("%s prints it: %s", how, text)
	}
}

func leaks(text string) bool {
	return slices.ContainsFunc([]string{"CANARY", "43414e415259", "43414E415259", "67 65 78 65 82 89"}, func(form string) bool {
		return strings.Contains(text, form)
	})
}

func TestNoVerbPrintsASecret(t *testing.T) {
	formats := []string{"one too many", "%*d", "%[2]v", "%[1]*v"}
	for _, verb := range "vTtbcdoOqxXUeEfFgGspw!z" {
		for _, flag := range []string{"", "+", "#", " ", "0", "-", "+#", "# ", "50", ".3", "50.3", "-50"} {
			formats = append(formats, "%"+flag+string(verb))
		}
	}
	for name, value := range secrets() {
		t.Run(name, func(t *testing.T) {
			var leaking []string
			for _, format := range formats {
				if leaks(fmt.Sprintf(format, value, value)) {
					leaking = append(leaking, format)
				}
			}
			if len(leaking) > 0 {
				t.Errorf("%q print it, as in %s", leaking, fmt.Sprintf(leaking[0], value))
			}
			mustNotLeak(t, "Sprint", fmt.Sprint(value, value))
			mustNotLeak(t, "Sprintln", fmt.Sprintln(value))
		})
	}
}

func TestNoErrorPrintsASecret(t *testing.T) {
	for name, value := range secrets() {
		t.Run(name, func(t *testing.T) {
			for _, format := range []string{"creating: %v", "creating: %w", "creating: %s", "creating: %#v"} {
				err := fmt.Errorf(format, value)
				step := &rotator.StepError{Step: rotator.StepCreate, User: "svc-billing", Err: errors.Join(err, errors.New("again"))}
				mustNotLeak(t, format, fmt.Sprintf("%v %+v %#v", err, step, step))
			}
		})
	}
}

func TestNoEncodingWritesASecret(t *testing.T) {
	for name, value := range secrets() {
		t.Run(name, func(t *testing.T) {
			if out, err := json.Marshal(value); err == nil {
				mustNotLeak(t, "JSON", string(out))
			}
			if m, ok := value.(encoding.TextMarshaler); ok {
				out, err := m.MarshalText()
				if err != nil {
					t.Error(err)
				}
				mustNotLeak(t, "text", string(out))
			}
		})
	}
	out, err := json.Marshal(rotator.KeyPair{ID: "AKIAOLDOLDOLDOLDOLD2", Secret: rotator.NewSecret(canary)})
	if want := `{"ID":"AKIAOLDOLDOLDOLDOLD2","Secret":"[redacted]"}`; err != nil || string(out) != want {
		t.Errorf("a pair is written as %s, %v, want %s", out, err, want)
	}
}

func TestNoLogHoldsASecret(t *testing.T) {
	var out bytes.Buffer
	for kind, handler := range map[string]slog.Handler{
		"text": slog.NewTextHandler(&out, nil),
		"JSON": slog.NewJSONHandler(&out, nil),
	} {
		for name, value := range secrets() {
			t.Run(kind+" of "+name, func(t *testing.T) {
				out.Reset()
				log := slog.New(handler)
				log.Info("rotating", "value", value)
				log.Info("rotating", slog.Any("value", value), slog.Group("in", slog.Any("a", value)))
				log.With("value", value).WithGroup("g").Info("rotating", "err", fmt.Errorf("failed: %v", value))
				if out.Len() == 0 {
					t.Fatal("nothing was logged")
				}
				mustNotLeak(t, kind, out.String())
			})
		}
	}
}

func TestASecretIsRedactedInOneWord(t *testing.T) {
	s := rotator.NewSecret(canary)
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		if got := fmt.Sprintf(format, s); got != "[redacted]" {
			t.Errorf("%s prints %s", format, got)
		}
	}
	if got := s.LogValue().String(); got != "[redacted]" {
		t.Errorf("it is logged as %s", got)
	}
}

func TestASecretComesOutOnlyAsItself(t *testing.T) {
	var read struct{ Token rotator.Secret }
	if err := json.Unmarshal([]byte(`{"Token":"`+canary+`"}`), &read); err != nil || read.Token.Reveal() != canary {
		t.Errorf("read from JSON it is %q, %v", read.Token.Reveal(), err)
	}
	var s rotator.Secret
	if !s.Empty() || s.Reveal() != "" {
		t.Error("a secret of nothing is not empty")
	}
	if err := s.UnmarshalText([]byte(canary)); err != nil || s.Empty() || s.Reveal() != canary {
		t.Errorf("read from text it is %q, %v", s.Reveal(), err)
	}
	if got := rotator.NewSecret(canary).Reveal(); got != canary {
		t.Errorf("it is %q", got)
	}
}
