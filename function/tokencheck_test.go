package main

import (
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"strings"
	"testing"
	"time"

	"credential-rotator/rotator"
	"credential-rotator/test/lambda"
	"credential-rotator/test/sandbox"
)

const check = `{"action":"check_token"}`

// expiresIn lets the token end so many days from today.
func (s *stage) expiresIn(days int) {
	s.EditToken("rotator", func(t *sandbox.Token) { t.Expires = time.Now().AddDate(0, 0, days) })
}

// eventsOf are the details of the events that were put on the bus, by their type.
func (v *vault) eventsOf(t *testing.T, detailType string) (found []rotator.TokenCheck) {
	t.Helper()
	for _, e := range v.told() {
		var in struct {
			Entries []struct{ Source, DetailType, Detail string }
		}
		if err := json.Unmarshal([]byte(e), &in); err != nil || len(in.Entries) != 1 || in.Entries[0].Source != "credential-rotator" {
			t.Fatalf("%v: %s", err, e)
		}
		if in.Entries[0].DetailType == detailType {
			var c rotator.TokenCheck
			if err := json.Unmarshal([]byte(in.Entries[0].Detail), &c); err != nil {
				t.Fatal(err)
			}
			found = append(found, c)
		}
	}
	return found
}

func TestTheFunctionChecksItsTokenInOneCall(t *testing.T) {
	v, env := newVault(t, "", "")
	f := deploy(t, append(env, "EVENT_BUS=default", "METRICS_NAMESPACE=CredentialRotator", "AWS_LAMBDA_FUNCTION_NAME=credential-rotator")...)
	f.expiresIn(60)
	for _, event := range []string{check, `{"detail-type":"Scheduled Event","source":"aws.events","detail":` + check + `}`} {
		f.requests.Store(0)
		got := f.says(event, plenty, rotator.Status(rotator.TokenOK))
		if !strings.Contains(got, `"days_left":59`) || !strings.Contains(got, `"scopes":["api"]`) || !strings.Contains(got, `"warnings":[]`) || !strings.Contains(got, `"expires_at":"`+time.Now().UTC().AddDate(0, 0, 60).Format(time.DateOnly)) {
			t.Errorf("got %s", got)
		}
		if n := f.requests.Load(); n != 1 {
			t.Errorf("%d requests", n)
		}
	}
	all := readings(t, f.out.String())
	if len(all) != 2 || all[0].metric != "TokenDaysLeft" || all[0].unit != "None" || all[0].dimension != "Function" || all[0].label != "credential-rotator" || math.Abs(all[0].value-59.5) > 0.5 {
		t.Errorf("measured %+v", all)
	}
	if len(v.told()) > 0 {
		t.Errorf("told: %v", v.told())
	}
	if !strings.Contains(f.logs.String(), `"msg":"checked the token"`) {
		t.Errorf("logged: %s", f.logs)
	}
}

func TestATokenThatEndsSoonIsToldOnTheBus(t *testing.T) {
	v, env := newVault(t, "", "")
	f := deploy(t, append(env, "EVENT_BUS=default", "METRICS_NAMESPACE=CredentialRotator")...)
	v.hold(f.Token)
	f.expiresIn(13)
	got := f.says(check, plenty, rotator.Status(rotator.TokenExpiring))
	if !strings.Contains(got, "make a new one (scope api) and put it into GITLAB_TOKEN") {
		t.Errorf("got %s", got)
	}
	told := v.eventsOf(t, "Credential Rotation Token Expiring")
	if len(told) != 1 || told[0].Status != rotator.TokenExpiring || *told[0].DaysLeft != 12 || told[0].Reason == "" {
		t.Errorf("told: %v", v.told())
	}
}

func TestATokenThatDoesNotWorkIsARefusalAndHasNoDaysLeft(t *testing.T) {
	for name, edit := range map[string]func(*sandbox.Token){
		"revoked":     func(t *sandbox.Token) { t.Revoked = true },
		"expired":     func(t *sandbox.Token) { t.Expires = time.Now().AddDate(0, 0, -3) },
		"scopes":      func(t *sandbox.Token) { t.Scopes = []string{"read_api"} },
		"self_rotate": func(t *sandbox.Token) { t.Scopes = []string{"self_rotate"} },
	} {
		t.Run(name, func(t *testing.T) {
			v, env := newVault(t, "", "")
			f := deploy(t, append(env, "EVENT_BUS=default", "METRICS_NAMESPACE=CredentialRotator")...)
			f.EditToken("rotator", edit)
			_, err := f.invoke(check, plenty)
			if refused := (*rotator.RefusedError)(nil); !errors.As(err, &refused) || !strings.Contains(err.Error(), name) {
				t.Errorf("got %v", err)
			}
			if all := readings(t, f.out.String()); len(all) != 1 || all[0].metric != "TokenDaysLeft" || all[0].value != 0 {
				t.Errorf("measured %+v", all)
			}
			if told := v.eventsOf(t, "Credential Rotation Token Expiring"); len(told) != 1 || told[0].Status != rotator.TokenInvalid {
				t.Errorf("told: %v", v.told())
			}
		})
	}
}

func TestAGitLabThatCannotBeAskedSaysNothingAboutTheToken(t *testing.T) {
	v, env := newVault(t, "", "")
	f := deploy(t, append(env, "EVENT_BUS=default", "METRICS_NAMESPACE=CredentialRotator")...)
	f.InterceptHTTP(func(*http.Request) sandbox.Fate { return sandbox.WebPage })
	_, err := f.invoke(check, plenty)
	if failed := (*rotator.FailedError)(nil); !errors.As(err, &failed) {
		t.Errorf("got %v", err)
	}
	if f.out.Len() > 0 || len(v.told()) > 0 {
		t.Errorf("measured %s, told %v", f.out, v.told())
	}
}

func TestATokenThatGitLabDoesNotTellAboutIsNoAlarm(t *testing.T) {
	f := deploy(t, "METRICS_NAMESPACE=CredentialRotator")
	f.InterceptHTTP(func(*http.Request) sandbox.Fate { return sandbox.Refused })
	got := f.says(check, plenty, rotator.Status(rotator.TokenUnknown))
	if !strings.Contains(got, "does not tell when it ends") || f.out.Len() > 0 {
		t.Errorf("got %s, measured %s", got, f.out)
	}
}

func TestABusThatCannotBeToldIsAWarning(t *testing.T) {
	v, env := newVault(t, "", "")
	f := deploy(t, append(env, "EVENT_BUS=default")...)
	v.meets(func(string, int) string { return "refused" })
	f.expiresIn(3)
	if got := f.says(check, plenty, rotator.Status(rotator.TokenExpiring)); !strings.Contains(got, "nobody was notified: telling bus default that the GitLab token is expiring: AccessDeniedException") {
		t.Errorf("got %s", got)
	}
}

func TestTheFunctionChecksTheTokenThatTheStoreHasNow(t *testing.T) {
	v, env := newVault(t, "", "")
	f := deploy(t, append(env, "GITLAB_TOKEN=", "GITLAB_TOKEN_SECRET=gitlab/token")...)
	v.hold(f.Token)
	f.expiresIn(3)
	got := f.says(check, plenty, rotator.Status(rotator.TokenExpiring))
	if !strings.Contains(got, "run credential-rotator token rotate, or make a new one (scope api) and put it into the secret gitlab/token in Secrets Manager") {
		t.Errorf("got %s", got)
	}
	k := &kept{stage: f.stage, t: t, vault: v, env: env}
	if r := k.rotates("secret"); r.Status != tokenRotated {
		t.Fatalf("%+v", r)
	}
	f.says(check, plenty, rotator.Status(rotator.TokenOK))
}

func TestAServicesAliasMayNotCheckTheToken(t *testing.T) {
	f := deploy(t)
	f.arn = lambda.ARN + ":" + billing
	f.requests.Store(0)
	_, err := f.invoke(check, plenty)
	if refused := (*rotator.RefusedError)(nil); !errors.As(err, &refused) || !strings.Contains(err.Error(), "serves one user, and the token serves all") || f.requests.Load() > 0 {
		t.Errorf("got %v", err)
	}
}
