package gitlab

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"credential-rotator/rotator"
	"credential-rotator/test/sandbox"
)

func TestAReleaseIsComparedByItsNumbers(t *testing.T) {
	for text, want := range map[string]struct{ known, inputs, descriptions bool }{
		"18.5.0-ee":           {true, true, true},
		"17.11.0-rc42-ee":     {true, true, true},
		"17.11":               {true, true, true},
		"17.10.8":             {true, false, true},
		"17.9.1":              {true, false, true},
		"16.2.0":              {true, false, true},
		"16.1.5-ce.0":         {true, false, false},
		"9.5.10":              {true, false, false},
		"100.0.0":             {true, true, true},
		"":                    {},
		"18":                  {},
		"main":                {},
		"v18.5":               {},
		"18.5x":               {true, true, true},
		"99999999999999.1":    {},
		"18.99999999999999.1": {},
	} {
		v := versionOf(text)
		if v.known() != want.known || v.atLeast(inputsSince) != want.inputs || v.atLeast(descriptionsSince) != want.descriptions {
			t.Errorf("%q is %+v", text, v)
		}
	}
}

// counted counts the requests whose path ends with one.
func counted(h http.Handler, end string) (http.Handler, *atomic.Int64) {
	var n atomic.Int64
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, end) {
			n.Add(1)
		}
		h.ServeHTTP(rw, r)
	}), &n
}

func TestInputsAreRefusedWhereGitLabWouldDropThem(t *testing.T) {
	for release, want := range map[string]string{
		"18.5.0-ee": "", "17.11.0": "",
		"17.10.4":   " is GitLab 17.10.4, which would run the pipeline without its inputs: they need 17.11; upgrade it, or ask for no inputs",
		"16.3.0-ee": " is GitLab 16.3.0-ee, which would run",
		"15.0.0":    " does not say which GitLab it is",
		"nightly":   " does not say which GitLab it is, and one before 17.11 would run the pipeline without its inputs",
	} {
		s := sandbox.NewScene(sandbox.Options{})
		s.EditToken("rotator", func(t *sandbox.Token) { t.Scopes = []string{"read_api"} }) // a plan's
		h, calls := counted(sandbox.OldGitLab(release, s.GitLab()), "/metadata")
		c := inside(t, h, s.Token)
		for range 2 {
			got, err := c.needsInputs(t.Context())
			if err != nil || (got.State == rotator.CheckOK) != (want == "") || want != "" && !strings.Contains(got.Detail, c.host+want) {
				t.Errorf("%s: %+v, %v", release, got, err)
			}
			if known := !strings.Contains(want, "does not say"); got.State == rotator.CheckWarning && known {
				t.Errorf("%s: it is not refused: %+v", release, got)
			}
		}
		if calls.Load() != 1 {
			t.Errorf("%s: asked %d times", release, calls.Load())
		}
	}
}

func TestAReleaseThatCannotBeAskedIsNotTakenForAny(t *testing.T) {
	s := sandbox.NewScene(sandbox.Options{})
	s.InterceptHTTP(func(*http.Request) sandbox.Fate { return sandbox.WebPage })
	c := inside(t, s.GitLab(), s.Token)
	if check, err := c.needsInputs(t.Context()); err == nil || !strings.Contains(err.Error(), "asking which GitLab it is: ") {
		t.Errorf("a web page: %+v, %v", check, err)
	}
	s.InterceptHTTP(func(*http.Request) sandbox.Fate { return sandbox.Refused }) // 403, as a fine-grained token is answered
	if check, err := c.needsInputs(t.Context()); err != nil || check.State != rotator.CheckWarning || !strings.Contains(check.Detail, "does not say which GitLab it is") {
		t.Errorf("403: %+v, %v", check, err)
	}
}

// The first write to an instance that is not known to be too old is the last.
func TestAVariableThatWasWrittenWithoutItsStampIsNoSuccess(t *testing.T) {
	s := sandbox.NewScene(sandbox.Options{})
	c := inside(t, sandbox.OldGitLab("16.1.0", s.GitLab()), s.Token)
	read, err := c.Read(t.Context(), []rotator.Place{s.Service.Place})
	if err != nil || len(read[0].Faults) != 1 || !strings.Contains(read[0].Faults[0], "16.2 is the oldest") {
		t.Fatalf("%+v, %v", read, err)
	}
	_, err = c.Write(t.Context(), s.Service.Place, rotator.PartSecret, read[0].Secret, s.CreateKey("svc-billing", 0))
	if err == nil || !strings.Contains(err.Error(), "it was written, but "+c.host+" keeps no descriptions of variables") {
		t.Error(err)
	}
	if v, _ := s.Variable(4711, s.Service.Place.SecretVariable, "*"); v.Value == s.Key.Secret.Reveal() || v.Description != "" {
		t.Errorf("the world has %q with the old value, or a description", v.Description)
	}
}
