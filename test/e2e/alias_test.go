package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"testing"

	"credential-rotator/test/lambda"
)

// TestAnAliasOfTheFunctionServesItsServiceOnly: who may invoke an alias must be able to
// rotate its service's key, and to ask for nothing else.
func TestAnAliasOfTheFunctionServesItsServiceOnly(t *testing.T) {
	t.Parallel()
	s := newStage(t, newCloud(t), "svc-billing")
	sum := sha256.Sum256([]byte("svc-billing"))
	alias := "service-" + hex.EncodeToString(sum[:])[:16]
	f := lambda.Start(t, lambda.Options{
		Bootstrap: program(t),
		Env:       append(slices.Clone(s.env), "JOURNAL=dynamodb://"+table, "METRICS_NAMESPACE=CredentialRotator"),
		Timeout:   runTimeout,
		Aliases:   []string{alias, "service-0000000000000000"},
	})
	t.Cleanup(func() { s.holdsNoSecret("the output", f.Output()) })
	invoke := func(alias, event string) string {
		t.Helper()
		r, err := f.InvokeAs(t.Context(), alias, []byte(event))
		if err != nil {
			t.Fatal(err)
		}
		s.holdsNoSecret("the answer", string(r.Payload))
		return string(r.Payload)
	}

	for _, refused := range []string{
		invoke("service-0000000000000000", string(s.event(true))),
		invoke(alias, fmt.Sprintf(`{"user":"rotator","project_id":%d,"force":true}`, projectID)),
		invoke(alias, `{"action":"follow_up"}`),
		invoke(alias, `{"detail-type":"Scheduled Event","source":"aws.events","detail":{}}`),
	} {
		if !strings.Contains(refused, `"errorType":"RefusedError"`) {
			t.Errorf("it was served: %s", refused)
		}
	}
	if calls := s.wire.Calls(); len(calls) > 0 {
		t.Errorf("calls were made before the refusals:\n%s", s.trace())
	}
	if said := invoke(alias, string(s.event(true))); !strings.Contains(said, `"status":"rotated"`) {
		t.Errorf("through its own alias: %s", said)
	}
	s.isRotatedFrom(s.first)
	if out := f.Output(); !strings.Contains(out, `{"Results":1,"Status":"rotated","_aws":`) || strings.Count(out, `"Status":"refused"`) != 4 {
		t.Errorf("the metrics are not in the output:\n%s", out)
	}
}
