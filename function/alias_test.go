package main

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"testing"

	"credential-rotator/rotator"
	"credential-rotator/test/lambda"
)

const (
	// billing is substr(sha256("svc-billing"), 0, 16) in Terraform's words.
	billing = "service-044421b0d6ba6bda"
	// elsewhere is an alias that is made, for another service.
	elsewhere = "service-0123456789abcdef"
)

func TestAnAliasIsNamedAsTerraformNamesIt(t *testing.T) {
	t.Parallel()
	if got := aliasOf("svc-billing"); got != billing {
		t.Errorf("got %s, want %s", got, billing)
	}
}

// deployProgram is the program itself as Lambda runs it, with two aliases.
func deployProgram(t *testing.T) (*stage, *lambda.Function) {
	t.Helper()
	s := stageFor(t)
	journal := &table{items: map[string]map[string]map[string]string{}}
	dynamodb := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.requests.Add(1)
		journal.ServeHTTP(w, r)
	}))
	t.Cleanup(dynamodb.Close)
	path, err := exec.LookPath("credential-rotator")
	if err != nil {
		t.Fatal(err)
	}
	f := lambda.Start(t, lambda.Options{
		Bootstrap: path,
		Env:       append(s.environ(), "JOURNAL=dynamodb://credential-rotator", "AWS_ENDPOINT_URL_DYNAMODB="+dynamodb.URL, "METRICS_NAMESPACE=CredentialRotator"),
		Timeout:   plenty,
		Aliases:   []string{billing, elsewhere, "live"},
	})
	t.Cleanup(func() {
		s.hear(f.Output())
		if faults := s.faults(); len(faults) > 0 {
			t.Error(strings.Join(faults, "\n"))
		}
	})
	return s, f
}

func TestAnAliasServesItsUserOnly(t *testing.T) {
	t.Parallel()
	s, f := deployProgram(t)
	envelope := func(detail string) string {
		return `{"version":"0","id":"1","detail-type":"Scheduled Event","source":"aws.events","detail":` + detail + `}`
	}
	for name, c := range map[string]struct{ alias, event, says string }{
		"another user":                  {elsewhere, tick, "the qualifier " + elsewhere + " is not the alias of user svc-billing: invoke the function as " + billing},
		"another user in an envelope":   {elsewhere, envelope(tick), "is not the alias of user svc-billing"},
		"the user in capitals":          {billing, strings.Replace(tick, "svc-billing", "Svc-Billing", 1), "is not the alias of user Svc-Billing"},
		"an alias of no service":        {"live", tick, "the qualifier live is not the alias of user svc-billing"},
		"a follow-up":                   {billing, followUp, "a follow-up advances all"},
		"a follow-up in an envelope":    {billing, envelope(followUp), "a follow-up advances all"},
		"a user in and out of envelope": {billing, `{"user":"svc-billing","project_id":4711,"detail-type":"x","detail":{"user":"svc-other","project_id":4712}}`, "is not the alias of user svc-other"},
		"a key to retire":               {billing, `{"user":"svc-billing","project_id":4711,"retire_key":"AKIAEXAMPLEEXAMPLE12"}`, "serves no retire_key"},
		"two users":                     {billing, `{"user":"svc-billing","user":"svc-other","project_id":4711}`, `it says \"user\" twice`},
		"nonsense":                      {billing, `"please"`, "it is not a JSON object"},
		"an envelope around nothing":    {billing, envelope(`{}`), "set the input of the rule's target"},
		"a rule's event without input":  {"$LATEST", envelope(`{}`), "set the input of the rule's target"},
	} {
		r, err := f.InvokeAs(t.Context(), c.alias, []byte(c.event))
		if err != nil {
			t.Fatal(err)
		}
		said := string(r.Payload)
		s.hear(said)
		if r.FunctionError == "" || !strings.Contains(said, `"errorType":"RefusedError"`) || !strings.Contains(said, c.says) || strings.Contains(said, `\n`) {
			t.Errorf("%s: got %s, want a refusal with %q", name, said, c.says)
		}
	}
	if n := s.requests.Load(); n > 0 {
		t.Errorf("%d requests were sent before the refusals", n)
	}
}

func TestAUserIsRotatedThroughItsAliasAndWithoutOne(t *testing.T) {
	t.Parallel()
	s, f := deployProgram(t)
	for _, c := range []struct {
		qualifier, event string
		status           rotator.Status
	}{
		{billing, tick, rotator.StatusRotated},
		{billing, `{"detail-type":"Rotate","source":"shop","detail":` + tick + `}`, rotator.StatusNotDue},
		{"$LATEST", tick, rotator.StatusNotDue},
	} {
		r, err := f.InvokeAs(t.Context(), c.qualifier, []byte(c.event))
		if err != nil || !strings.Contains(string(r.Payload), `"status":"`+string(c.status)+`"`) {
			t.Errorf("through %s: %s, %v, want status %s", c.qualifier, r.Payload, err, c.status)
		}
		s.hear(string(r.Payload))
	}
	if r, err := f.Invoke(t.Context(), []byte(followUp)); err != nil || string(r.Payload) != `{"results":[]}` {
		t.Errorf("a follow-up without a qualifier: %s, %v", r.Payload, err)
	}
}

func TestOnlyTheQualifierOfAnARNNarrowsWhomItServes(t *testing.T) {
	t.Parallel()
	e, err := rotator.DecodeEvent([]byte(tick))
	if err != nil {
		t.Fatal(err)
	}
	for arn, ok := range map[string]bool{
		lambda.ARN:                     true,
		lambda.ARN + ":$LATEST":        true,
		lambda.ARN + ":" + billing:     true,
		lambda.ARN + ":" + elsewhere:   false,
		lambda.ARN + ":1":              false,
		lambda.ARN + ":":               true,
		lambda.ARN + ":service-":       false,
		lambda.ARN + ":a:b":            false,
		lambda.ARN + ":$LATEST:" + "x": false,
		"":                             true,
		"function":                     true, // no ARN, so without a qualifier
	} {
		if err := allowed(arn, e); (err == nil) != ok {
			t.Errorf("%s: %v", arn, err)
		}
	}
}

func TestThroughAnAliasARefusalIsAResultToo(t *testing.T) {
	f := deploy(t, "METRICS_NAMESPACE=CredentialRotator")
	f.arn = lambda.ARN + ":" + elsewhere
	_, err := f.invoke(tick, plenty)
	if refused := (*rotator.RefusedError)(nil); !errors.As(err, &refused) {
		t.Errorf("got %v", err)
	}
	if !strings.Contains(f.logs.String(), `"status":"refused"`) || !strings.Contains(f.out.String(), `"Status":"refused"`) {
		t.Errorf("logged %s, measured %s", f.logs, f.out)
	}
}
