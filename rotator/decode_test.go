package rotator_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"credential-rotator/rotator"
)

// least is the shortest event, with more fields after it, or in the place of its own.
func least(more string) string {
	var fields []string
	for _, field := range []string{`"user":"svc-billing"`, `"project_id":4711`, more} {
		name, _, _ := strings.Cut(field, ":")
		if field == more && more != "" || field != more && !strings.Contains(more, name+":") {
			fields = append(fields, field)
		}
	}
	return "{" + strings.Join(fields, ",") + "}"
}

func TestAFieldThatIsSaidTwiceIsRefused(t *testing.T) {
	for _, event := range []string{
		`{"user":"svc-a","user":"svc-b","project_id":4711}`,
		`{"detail-type":"Tick","detail":{"user":"svc-a","project_id":1,"project_id":4711}}`,
	} {
		if _, err := rotator.DecodeEvent([]byte(event)); err == nil {
			t.Errorf("%s was taken", event)
		}
	}
}

func TestAnEventNeedsOnlyUserAndProject(t *testing.T) {
	got, err := rotator.DecodeEvent([]byte(least("")))
	if err != nil {
		t.Fatal(err)
	}
	want := rotator.Event{Request: rotator.Request{
		User: "svc-billing",
		Target: rotator.Target{
			ProjectID: 4711, EnvironmentScope: "*",
			AccessKeyIDVariable: "AWS_ACCESS_KEY_ID", SecretAccessKeyVariable: "AWS_SECRET_ACCESS_KEY",
			Way: rotator.Way{Redeploy: "pipeline"},
		},
		MaxAgeDays: 90, LeadDays: 7,
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestEveryFieldOfAnEventIsRead(t *testing.T) {
	cases := map[string]struct {
		json string
		want func(r *rotator.Request)
	}{
		"user":                       {`"user":"a.b_c+d=e,f@g-h"`, func(r *rotator.Request) { r.User = "a.b_c+d=e,f@g-h" }},
		"project_id":                 {`"project_id":9007199254740993`, func(r *rotator.Request) { r.ProjectID = 9007199254740993 }},
		"environment_scope":          {`"environment_scope":"review/*"`, func(r *rotator.Request) { r.EnvironmentScope = "review/*" }},
		"access_key_id_variable":     {`"access_key_id_variable":"KEY_1"`, func(r *rotator.Request) { r.AccessKeyIDVariable = "KEY_1" }},
		"secret_access_key_variable": {`"secret_access_key_variable":"secret_1"`, func(r *rotator.Request) { r.SecretAccessKeyVariable = "secret_1" }},
		"redeploy and overlap_hours": {`"redeploy":"none","overlap_hours":1`, func(r *rotator.Request) { r.Redeploy, r.OverlapHours = "none", 1 }},
		"ref":                        {`"ref":"release/2.0"`, func(r *rotator.Request) { r.Ref = "release/2.0" }},
		"environment":                {`"environment":"production"`, func(r *rotator.Request) { r.Environment = "production" }},
		"max_age_days":               {`"max_age_days":60`, func(r *rotator.Request) { r.MaxAgeDays = 60 }},
		"lead_days":                  {`"lead_days":14`, func(r *rotator.Request) { r.LeadDays = 14 }},
		"soak_hours":                 {`"soak_hours":48`, func(r *rotator.Request) { r.SoakHours = 48 }},
		"force":                      {`"force":true`, func(r *rotator.Request) { r.Force = true }},
		"retire_key":                 {`"retire_key":"AKIAOTHEROTHEROTHER4"`, func(r *rotator.Request) { r.RetireKey = "AKIAOTHEROTHEROTHER4" }},
		"caller_job_id":              {`"caller_job_id":9876543210`, func(r *rotator.Request) { r.CallerJobID = 9876543210 }},
		"redeploy deployment and fallback": {
			`"redeploy":"deployment","environment":"production","fallback":"pipeline"`,
			func(r *rotator.Request) {
				r.Redeploy, r.Environment, r.Fallback = "deployment", "production", "pipeline"
			},
		},
		"the empty values that are defaults": {`"ref":"","environment":"","fallback":"","force":false,"retire_key":"","overlap_hours":0,"soak_hours":0`, func(*rotator.Request) {}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			want := rotator.DefaultRequest()
			want.User, want.ProjectID = "svc-billing", 4711
			c.want(&want)
			got, err := rotator.DecodeEvent([]byte(least(c.json)))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got.Request); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestInputsAreWhatGitLabKnowsAsInputs(t *testing.T) {
	for inputs, fine := range map[string]bool{
		`{"to":"eu","n":3,"dry":true,"all":["a","b"]}`: true,
		`{"n":9007199254740992}`:                       true,
		`{"n":12345678901234567890}`:                   false,
		`{"all":["a",1]}`:                              false,
		`{}`:                                           true,
		`{"to":null}`:                                  false,
		`{"to":{"a":1}}`:                               false,
		`{"to":["a",{}]}`:                              false,
		`{"to":["a",["b"]]}`:                           false,
		`["to"]`:                                       false,
		`"to"`:                                         false,
	} {
		_, err := rotator.DecodeEvent([]byte(least(`"inputs":` + inputs)))
		if (err == nil) != fine {
			t.Errorf("%s: %v", inputs, err)
		}
	}
}

func TestTheFieldsOfAnEventAreThoseOfARequest(t *testing.T) {
	for _, field := range reflect.VisibleFields(reflect.TypeFor[rotator.Request]()) {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		if field.Anonymous {
			continue // its fields are visible themselves
		}
		_, err := rotator.DecodeEvent([]byte(least(fmt.Sprintf("%q:[]", name))))
		if err == nil || !strings.Contains(err.Error(), name+" must be") {
			t.Errorf("%s is not read: %v", name, err)
		}
	}
}

func TestADefaultLeadThatDoesNotFitAShortAgeIsTold(t *testing.T) {
	for days, fits := range map[int]bool{1: false, 7: false, 8: true, 365: true} {
		_, err := rotator.DecodeEvent([]byte(least(fmt.Sprintf(`"max_age_days":%d`, days))))
		if fits != (err == nil) || err != nil && !strings.Contains(err.Error(), "lead_days must be 0 to max_age_days - 1") {
			t.Errorf("max_age_days %d: %v", days, err)
		}
	}
}

func TestOtherEvents(t *testing.T) {
	cases := map[string]struct {
		json string
		want rotator.Event
	}{
		"a follow-up":                             {`{"action":"follow_up"}`, rotator.Event{FollowUp: true}},
		"a look at the token":                     {`{"action":"check_token"}`, rotator.Event{CheckToken: true}},
		"a look at the token in an envelope":      {`{"detail-type":"x","detail":{"action":"check_token"}}`, rotator.Event{CheckToken: true}},
		"a follow-up with spaces":                 {" {\n \"action\" : \"follow_up\" }\n", rotator.Event{FollowUp: true}},
		"a follow-up in an envelope":              {`{"detail-type":"x","detail":{"action":"follow_up"}}`, rotator.Event{FollowUp: true}},
		"a request in an envelope of EventBridge": {`{"version":"0","id":"17793124","detail-type":"Scheduled Event","source":"aws.events","account":"123456789012","time":"2026-11-21T20:00:00Z","region":"eu-central-1","resources":["arn:aws:events:eu-central-1:123456789012:rule/r"],"detail":` + least("") + `}`, rotator.Event{}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			if !c.want.FollowUp && !c.want.CheckToken {
				c.want.Request = rotator.DefaultRequest()
				c.want.Request.User, c.want.Request.ProjectID = "svc-billing", 4711
			}
			got, err := rotator.DecodeEvent([]byte(c.json))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// faultsOf decodes what is wrong, and returns what is said about it.
func faultsOf(t *testing.T, event string) string {
	t.Helper()
	got, err := rotator.DecodeEvent([]byte(event))
	var wrong *rotator.RequestError
	if !errors.As(err, &wrong) {
		t.Fatalf("%.200s was taken as %+v, %v", event, got, err)
	}
	if !reflect.DeepEqual(got, rotator.Event{}) {
		t.Errorf("beside its faults there is %+v", got)
	}
	return err.Error()
}

func TestEventsThatAreRefused(t *testing.T) {
	cases := map[string]struct {
		json string
		says []string
	}{
		"nothing":                      {"", []string{"is empty", `{"user":"NAME","project_id":NUMBER}`}},
		"spaces":                       {" \n\t ", []string{"is empty"}},
		"not JSON":                     {"user=svc-billing", []string{"not a JSON object"}},
		"half an object":               {`{"user":"svc-billing",`, []string{"not a JSON object"}},
		"two objects":                  {least("") + least(""), []string{"not a JSON object"}},
		"an array":                     {"[" + least("") + "]", []string{"not a JSON object"}},
		"null":                         {"null", []string{"not a JSON object"}},
		"a number":                     {"4711", []string{"not a JSON object"}},
		"a string":                     {`"svc-billing"`, []string{"not a JSON object"}},
		"a megabyte of a":              {`{"user":"` + strings.Repeat("a", 1<<20) + `"}`, []string{"larger than 262144 bytes"}},
		"an empty object":              {"{}", []string{"user is missing", "project_id is missing"}},
		"an envelope without a detail": {`{"detail-type":"x"}`, []string{"detail", "is empty: set the input of the rule's target"}},
		"what a rule sends whose target has no input": {
			`{"version":"0","id":"17793124","detail-type":"Scheduled Event","source":"aws.events","account":"123456789012","time":"2026-11-21T20:00:00Z","region":"eu-central-1","resources":["arn:aws:events:eu-central-1:123456789012:rule/r"],"detail":{}}`,
			[]string{`the detail of the EventBridge event is empty: set the input of the rule's target to a request, such as {"user":"NAME","project_id":NUMBER}`},
		},
		"what EventBridge Scheduler sends without an input": {
			`{"version":"0","id":"17793124","detail-type":"Scheduled Event","source":"aws.scheduler","account":"123456789012","time":"2026-11-21T20:00:00Z","region":"eu-central-1","resources":["arn:aws:scheduler:eu-central-1:123456789012:schedule/default/r"],"detail":"{}"}`,
			[]string{"is empty: set the input of the rule's target"},
		},
		"an envelope around null":        {`{"detail-type":"x","detail":null}`, []string{"detail", "JSON object"}},
		"an envelope around an array":    {`{"detail-type":"x","detail":[]}`, []string{"detail", "JSON object"}},
		"an envelope around a string":    {`{"detail-type":"x","detail":"svc-billing"}`, []string{"detail", "JSON object"}},
		"an envelope around a wrong one": {`{"detail-type":"x","detail":{"user":"svc-billing"}}`, []string{"project_id is missing"}},
		"another action":                 {`{"action":"rotate"}`, []string{`there is no action "rotate": it is {"action":"follow_up"} or {"action":"check_token"}`}},
		"a look and a request":           {least(`"action":"check_token"`), []string{"an action stands alone"}},
		"no action":                      {`{"action":null}`, []string{`{"action":"follow_up"}`}},
		"an action and a request":        {least(`"action":"follow_up"`), []string{"alone"}},
		"a misspelt field":               {least(`"max_age_day":60`), []string{`unknown "max_age_day"`, "the fields are access_key_id_variable,", "max_age_days"}},
		"a field in other letters":       {least(`"Force":true`), []string{`unknown "Force"`}},
		"two unknown fields":             {least(`"b":1,"a":2`), []string{`unknown "a", "b";`}},
		"the user as a number":           {`{"user":1,"project_id":4711}`, []string{"user must be a string"}},
		"the user as null":               {`{"user":null,"project_id":4711}`, []string{"user must be a string"}},
		"the project as a string":        {`{"user":"svc-billing","project_id":"4711"}`, []string{"project_id must be a whole number"}},
		"the project as a fraction":      {`{"user":"svc-billing","project_id":4711.0}`, []string{"project_id must be a whole number"}},
		"the project as a power":         {`{"user":"svc-billing","project_id":4e3}`, []string{"project_id must be a whole number"}},
		"the project as null":            {`{"user":"svc-billing","project_id":null}`, []string{"project_id must be a whole number"}},
		"a project beyond 64 bits":       {`{"user":"svc-billing","project_id":9223372036854775808}`, []string{"project_id must be a whole number"}},
		"days as a string":               {least(`"max_age_days":"90"`), []string{"max_age_days must be a whole number"}},
		"days as a fraction":             {least(`"lead_days":7.5`), []string{"lead_days must be a whole number"}},
		"hours as null":                  {least(`"soak_hours":null`), []string{"soak_hours must be a whole number"}},
		"force as a string":              {least(`"force":"true"`), []string{"force must be true or false"}},
		"force as a number":              {least(`"force":1`), []string{"force must be true or false"}},
		"force as null":                  {least(`"force":null`), []string{"force must be true or false"}},
		"a ref as an object":             {least(`"ref":{}`), []string{"ref must be a string"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			said := faultsOf(t, c.json)
			for _, words := range append(c.says, "the request is wrong: ") {
				if !strings.Contains(said, words) {
					t.Errorf("it says %q, want %q in it", said, words)
				}
			}
		})
	}
}

func TestAWrongTypeIsToldOnce(t *testing.T) {
	said := faultsOf(t, `{"user":1,"project_id":"x","max_age_days":"90","redeploy":7,"retire_key":false}`)
	for _, name := range []string{"user", "project_id", "max_age_days", "redeploy", "retire_key"} {
		if n := strings.Count(said, name+" "); n != 1 {
			t.Errorf("%s is told of %d times in %q", name, n, said)
		}
	}
}

func TestAllFaultsAreToldInOneError(t *testing.T) {
	said := faultsOf(t, `{"usr":"svc-billing","project_id":0,"max_age_days":366,"lead_days":-1,"overlap_hours":721,
		"soak_hours":-1,"force":"yes","redeploy":"hope","ref":"a b","retire_key":"mine","environment":"a\nb",
		"environment_scope":"","access_key_id_variable":"A-B","secret_access_key_variable":"A B"}`)
	for _, words := range []string{
		`unknown "usr"`, "user is missing", "project_id is missing or not above 0", "max_age_days must be 1 to 365, not 366",
		"lead_days must be 0 to max_age_days - 1 (365), not -1", "overlap_hours must be 0 to 720, not 721", "soak_hours must be 0 to 720, not -1",
		"force must be true or false", `redeploy must be "pipeline", "deployment" or "none", not "hope"`, `ref must be the name of a branch or tag, not "a b"`,
		`retire_key must be an access key id, such as AKIA…`, "environment must be", "environment_scope must be",
		"access_key_id_variable must be 1 to 255", "secret_access_key_variable must be 1 to 255",
	} {
		if !strings.Contains(said, words) {
			t.Errorf("%q is missing in %q", words, said)
		}
	}
}

func TestRangesHoldAtBothEdges(t *testing.T) {
	long := func(c string, n int) string { return strings.Repeat(c, n) }
	cases := map[string]struct {
		good, bad []string
		says      string
	}{
		"user": {
			good: []string{`"user":"a"`, `"user":"` + long("u", 64) + `"`},
			bad:  []string{`"user":""`, `"user":"` + long("u", 65) + `"`, `"user":"a b"`, `"user":"a/b"`, `"user":"a\n"`, `"user":"ü"`},
			says: "user ",
		},
		"project_id": {
			good: []string{`"project_id":1`, `"project_id":9223372036854775807`},
			bad:  []string{`"project_id":0`, `"project_id":-1`},
			says: "project_id ",
		},
		"max_age_days": {
			good: []string{`"max_age_days":1,"lead_days":0`, `"max_age_days":365`},
			bad:  []string{`"max_age_days":0`, `"max_age_days":366`, `"max_age_days":-1`},
			says: "max_age_days must be 1 to 365",
		},
		"lead_days": {
			good: []string{`"lead_days":0`, `"lead_days":89`, `"max_age_days":1,"lead_days":0`},
			bad:  []string{`"lead_days":-1`, `"lead_days":90`, `"max_age_days":1,"lead_days":1`},
			says: "lead_days must be 0 to max_age_days - 1",
		},
		"overlap_hours": {
			good: []string{`"overlap_hours":0`, `"overlap_hours":720`},
			bad:  []string{`"overlap_hours":-1`, `"overlap_hours":721`},
			says: "overlap_hours must be 0 to 720",
		},
		"overlap_hours without a redeploy": {
			good: []string{`"redeploy":"none","overlap_hours":1`, `"redeploy":"none","overlap_hours":720`},
			bad:  []string{`"redeploy":"none"`, `"redeploy":"none","overlap_hours":0`},
			says: "overlap_hours must be at least 1",
		},
		"soak_hours": {
			good: []string{`"soak_hours":0`, `"soak_hours":720`},
			bad:  []string{`"soak_hours":-1`, `"soak_hours":721`},
			says: "soak_hours must be 0 to 720",
		},
		"access_key_id_variable": {
			good: []string{`"access_key_id_variable":"a"`, `"access_key_id_variable":"` + long("A", 255) + `"`},
			bad: []string{
				`"access_key_id_variable":""`, `"access_key_id_variable":"` + long("A", 256) + `"`, `"access_key_id_variable":"A-B"`,
				`"access_key_id_variable":"A\n"`, `"access_key_id_variable":"Ä"`,
			},
			says: "access_key_id_variable must be 1 to 255",
		},
		"secret_access_key_variable": {
			good: []string{`"secret_access_key_variable":"_"`, `"secret_access_key_variable":"` + long("z", 255) + `"`},
			bad:  []string{`"secret_access_key_variable":""`, `"secret_access_key_variable":"` + long("z", 256) + `"`},
			says: "secret_access_key_variable must be 1 to 255",
		},
		"variables that are one": {
			good: []string{`"access_key_id_variable":"A","secret_access_key_variable":"a"`},
			bad:  []string{`"access_key_id_variable":"A","secret_access_key_variable":"A"`, `"access_key_id_variable":"AWS_SECRET_ACCESS_KEY"`},
			says: "must differ",
		},
		"environment_scope": {
			good: []string{`"environment_scope":"*"`, `"environment_scope":"` + long("e", 255) + `"`, `"environment_scope":"` + long("ü", 255) + `"`},
			bad:  []string{`"environment_scope":""`, `"environment_scope":"` + long("e", 256) + `"`, `"environment_scope":"a\u0000"`},
			says: "environment_scope must be 1 to 255",
		},
		"environment": {
			good: []string{`"environment":"` + long("e", 255) + `"`, `"environment":"review/ü"`},
			bad:  []string{`"environment":"` + long("e", 256) + `"`, `"environment":"a\u0007"`},
			says: "environment must be at most 255",
		},
		"ref": {
			good: []string{`"ref":"main"`, `"ref":"release/1.0"`, `"ref":"v1.0.0"`},
			bad:  []string{`"ref":"a b"`, `"ref":"-x"`, `"ref":"a~1"`, `"ref":"a^"`, `"ref":"a:b"`, `"ref":"a\\b"`, `"ref":"` + long("r", 256) + `"`},
			says: "ref must be the name of a branch or tag",
		},
		"redeploy": {
			good: []string{`"redeploy":"pipeline"`},
			bad:  []string{`"redeploy":""`, `"redeploy":"Pipeline"`, `"redeploy":"job"`},
			says: "redeploy must be",
		},
		"redeploy deployment": {
			good: []string{`"redeploy":"deployment","environment":"production"`},
			bad:  []string{`"redeploy":"deployment"`},
			says: "environment is missing",
		},
		"fallback": {
			good: []string{`"fallback":""`},
			bad:  []string{`"fallback":"pipeline"`, `"redeploy":"deployment","environment":"e","fallback":"none"`},
			says: "fallback must be",
		},
		"retire_key": {
			good: []string{`"retire_key":"AKIAOTHEROTHEROTHER4"`, `"retire_key":"` + long("A", 16) + `"`, `"retire_key":"` + long("A", 128) + `"`},
			bad:  []string{`"retire_key":"` + long("A", 15) + `"`, `"retire_key":"` + long("A", 129) + `"`, `"retire_key":"AKIA OTHER OTHER OTHER"`},
			says: "retire_key must be an access key id",
		},
		"caller_job_id": {
			good: []string{`"caller_job_id":0`, `"caller_job_id":9007199254740993`},
			bad:  []string{`"caller_job_id":-1`},
			says: "caller_job_id must be the id of the CI job",
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			for _, field := range c.good {
				if _, err := rotator.DecodeEvent([]byte(least(field))); err != nil {
					t.Errorf("%.60s was refused: %v", field, err)
				}
			}
			for _, field := range c.bad {
				if said := faultsOf(t, least(field)); !strings.Contains(said, c.says) || strings.Count(said, ";") > 1 {
					t.Errorf("%.60s: it says %q, want %q alone", field, said, c.says)
				}
			}
		})
	}
}

func TestAnErrorIsShortWhateverItIsAbout(t *testing.T) {
	many, long := []string{}, strings.Repeat("x", 100<<10)
	for i := range 10_000 {
		many = append(many, fmt.Sprintf(`"field_%d":0`, i))
	}
	for name, event := range map[string]string{
		"thousands of unknown fields": least(strings.Join(many, ",")),
		"one that is long":            least(`"` + long + `":0`),
		"values that are long":        least(`"retire_key":"` + long + `","redeploy":"` + long + `","fallback":"` + long + `","ref":"` + long + `"`),
		"a user that is long":         `{"user":"` + long + `"}`,
	} {
		t.Run(name, func(t *testing.T) {
			if said := faultsOf(t, event); len(said) > 2000 {
				t.Errorf("it says %d bytes: %.300s …", len(said), said)
			}
		})
	}
	faults := make([]string, 1000)
	if said := (&rotator.RequestError{Faults: faults}).Error(); !strings.HasSuffix(said, "and 980 more") {
		t.Errorf("of a thousand faults it says %q", said)
	}
}

// FuzzDecodeEvent: whatever comes, it does not panic; what decodes is valid, and is
// the same when it is written and read again.
func TestAnEventOfNothingButDestinationsIsRefusedAtOnce(t *testing.T) {
	began := time.Now()
	event := `{"user":"svc-billing","destinations":[` + strings.Repeat("{},", 80_000) + "{}]}"
	if said := faultsOf(t, event); !strings.Contains(said, "destinations must be at most 20") {
		t.Errorf("it says %.200q", said)
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("it took %s", took)
	}
}

func FuzzDecodeEvent(f *testing.F) {
	for _, seed := range []string{
		"", "{}", "null", "[]", `{"action":"follow_up"}`, `{"action":"check_token"}`, `{"action":"follow_up","user":"a"}`,
		least(""), least(`"force":true,"retire_key":"AKIAOTHEROTHEROTHER4"`), least(`"redeploy":"none","overlap_hours":24`),
		least(`"max_age_days":1,"lead_days":0`), least(`"max_age_days":-1,"lead_days":7`), least(`"project_id":1e3`), least(`"User":"x"`),
		`{"detail-type":"Scheduled Event","detail":` + least(`"ref":"release/1.0"`) + `}`,
		`{"detail-type":{},"detail":{"detail-type":"x","detail":` + least("") + `}}`,
		least(`"environment_scope":"\ud800"`), least(`"environment":"\u0000"`), strings.Repeat("[", 20_000),
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		event, err := rotator.DecodeEvent(data)
		var wrong *rotator.RequestError
		switch {
		case errors.As(err, &wrong):
			if len(wrong.Faults) == 0 || !reflect.DeepEqual(event, rotator.Event{}) {
				t.Fatalf("an error without a fault, or beside a request: %v, %+v", err, event)
			}
			return
		case err != nil:
			t.Fatalf("an error that is none of a request: %v", err)
		case event.FollowUp, event.CheckToken:
			if !reflect.DeepEqual(event.Request, rotator.Request{}) {
				t.Fatalf("an action with a request: %+v", event)
			}
			return
		}
		if err := event.Request.Validate(); err != nil {
			t.Fatalf("%+v was decoded, and is not valid: %v", event.Request, err)
		}
		written, err := json.Marshal(event.Request)
		if err != nil {
			t.Fatal(err)
		}
		again, err := rotator.DecodeEvent(written)
		if err != nil || !reflect.DeepEqual(again, event) {
			t.Fatalf("%s was read again as %+v, %v, and was %+v", bytes.TrimSpace(written), again, err, event)
		}
	})
}
