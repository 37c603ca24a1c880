package events_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"

	"credential-rotator/rotator"
	"credential-rotator/rotator/events"
)

// What moto does not do: refuse a single entry of a call that succeeds.
func TestWhatTheBusDoesNotTakeIsAnError(t *testing.T) {
	for name, c := range map[string]struct {
		status      int
		reply, want string
	}{
		"an entry that failed":    {200, `{"FailedEntryCount":1,"Entries":[{"ErrorCode":"InternalFailure","ErrorMessage":"oh"}]}`, "telling bus ops that the rotation of svc-billing is \"Held\": EventBridge did not take the event: InternalFailure: oh"},
		"one that says no reason": {200, `{"FailedEntryCount":1,"Entries":[{}]}`, "does not say why"},
		"a missing permission":    {400, `{"__type":"AccessDeniedException","message":"not authorized"}`, "AccessDeniedException: not authorized; grant events:PutEvents on the bus"},
		"a bus that is not there": {400, `{"__type":"ResourceNotFoundException","message":"no bus"}`, "set EVENT_BUS"},
	} {
		t.Run(name, func(t *testing.T) {
			var sent string
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				sent = string(body)
				w.Header().Set("Content-Type", "application/x-amz-json-1.1")
				w.WriteHeader(c.status)
				_, _ = io.WriteString(w, c.reply)
			}))
			defer server.Close()
			err := events.New(config(server), events.Options{Bus: "ops"}).Notify(t.Context(), rotator.NoticeHeld, rotator.Result{User: "svc-billing"})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got  %v\nwant %s", err, c.want)
			}
			for _, want := range []string{`"EventBusName":"ops"`, `"Source":"credential-rotator"`, `"DetailType":"Credential Rotation Held"`} {
				if !strings.Contains(sent, want) {
					t.Errorf("%s is not in %s", want, sent)
				}
			}
		})
	}
}

// What it says over the wire, and to a person when it cannot.
func TestARuleThatCannotBeSwitchedSaysWhatToDo(t *testing.T) {
	for name, c := range map[string]struct {
		status      int
		reply, want string
	}{
		"a missing permission":     {400, `{"__type":"AccessDeniedException","message":"not authorized"}`, "ing rule follow-up: AccessDeniedException: not authorized; grant events:%sRule on the rule"},
		"a rule that is not there": {400, `{"__type":"ResourceNotFoundException","message":"Rule follow-up does not exist."}`, "set FOLLOW_UP_RULE"},
		"none":                     {200, ``, ""},
	} {
		t.Run(name, func(t *testing.T) {
			var sent []string
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				sent = append(sent, r.Header.Get("X-Amz-Target")+" "+string(body))
				w.Header().Set("Content-Type", "application/x-amz-json-1.1")
				w.WriteHeader(c.status)
				_, _ = io.WriteString(w, c.reply)
			}))
			defer server.Close()
			f := events.NewFollowUp(config(server), "follow-up")
			for verb, send := range map[string]func(context.Context) error{"Enable": f.Enable, "Disable": f.Disable} {
				err := send(t.Context())
				want := strings.ReplaceAll(c.want, "%s", verb)
				if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
					t.Errorf("got  %v\nwant %s", err, want)
				}
			}
			slices.Sort(sent)
			if want := []string{`AWSEvents.DisableRule {"Name":"follow-up"}`, `AWSEvents.EnableRule {"Name":"follow-up"}`}; !slices.Equal(sent, want) {
				t.Errorf("it sent %q", sent)
			}
		})
	}
}

// config is that of a client of the server.
func config(server *httptest.Server) aws.Config {
	return aws.Config{
		Region: "eu-central-1", BaseEndpoint: aws.String(server.URL),
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "AKIA", SecretAccessKey: "s"}, nil
		}),
	}
}
