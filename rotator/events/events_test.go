package events_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
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
			err := events.New(aws.Config{
				Region: "eu-central-1", BaseEndpoint: aws.String(server.URL),
				Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
					return aws.Credentials{AccessKeyID: "AKIA", SecretAccessKey: "s"}, nil
				}),
			}, events.Options{Bus: "ops"}).Notify(t.Context(), rotator.NoticeHeld, rotator.Result{User: "svc-billing"})
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
