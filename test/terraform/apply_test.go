package terraform_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	"github.com/google/go-cmp/cmp"

	"credential-rotator/rotator"
	"credential-rotator/rotator/events"
	"credential-rotator/test/moto"
	"credential-rotator/test/terraform"
)

// The example as it stands, from the first apply to nothing.
func TestThePlatformExampleIsApplied(t *testing.T) {
	t.Parallel() // most of it is waiting in the provider
	moto.Require(t, "terraform")
	s := moto.Start(t)
	before := s.Inventory(t)
	d := terraform.Open(t, "modules/credential-rotator/examples/platform", terraform.On(t, s)...)
	zip := filepath.Join(t.TempDir(), "bootstrap.zip")
	if err := os.WriteFile(zip, []byte("not looked into by moto"), 0o600); err != nil {
		t.Fatal(err)
	}
	d.Set(map[string]any{"zip_path": zip})
	d.Apply()
	unchanged(t, d, "it was applied")

	var made struct {
		FunctionName     string `json:"function_name"`
		FollowUpRuleName string `json:"follow_up_rule_name"`
		TableName        string `json:"table_name"`
		TopicARN         string `json:"topic_arn"`
	}
	d.Output("credential_rotator", &made)
	if made.FunctionName != "credential-rotator" {
		t.Errorf("the function is called %q", made.FunctionName)
	}
	told(t, s, made.TopicARN)
	if _, err := eventbridge.NewFromConfig(s.Admin()).EnableRule(t.Context(), &eventbridge.EnableRuleInput{Name: &made.FollowUpRuleName}); err != nil {
		t.Fatal(err)
	}
	unchanged(t, d, "the function has enabled the follow-up")

	if _, err := dynamodb.NewFromConfig(s.Admin()).DeleteTable(t.Context(), &dynamodb.DeleteTableInput{TableName: &made.TableName}); err == nil {
		t.Error("the journal was deleted though it is protected")
	}
	d.Set(map[string]any{"zip_path": zip, "deletion_protection": false})
	d.Apply()
	d.Destroy()
	if diff := cmp.Diff(before, s.Inventory(t)); diff != "" {
		t.Errorf("something is left (+) after the destroy:\n%s", diff)
	}
}

// told sends the event of a rotation that is held, as the function does, and wants the
// topic's subscribers to read one sentence about it.
func told(t *testing.T, s *moto.Server, topic string) {
	t.Helper()
	messages := make(chan string, 10)
	subscriber := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var envelope struct{ Type, Message string }
		if json.NewDecoder(r.Body).Decode(&envelope) == nil && envelope.Type == "Notification" {
			messages <- envelope.Message
		}
	}))
	defer subscriber.Close()
	form := url.Values{"TopicArn": {topic}, "Protocol": {"http"}, "Endpoint": {subscriber.URL}}
	s.Ask(t, moto.Call{Service: "sns", Action: "Subscribe", Body: form.Encode()})
	notifier := events.New(s.Admin(), events.Options{})
	for _, notice := range []rotator.Notice{rotator.NoticeStarted, rotator.NoticeHeld} {
		if err := notifier.Notify(t.Context(), notice, rotator.Result{User: "svc-billing", ProjectID: 4711, Reason: `a second key, "ours", is in the way`}); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case got := <-messages:
		if want := `{"message": "Credential Rotation Held: svc-billing (GitLab project 4711)", "reason": "a second key, \"ours\", is in the way"}`; got != want {
			t.Errorf("the mail says %s, want %s", got, want)
		}
	case <-time.After(10 * time.Second):
		t.Error("nobody is told that a rotation is held")
	}
	if len(messages) > 0 {
		t.Errorf("a mail more than wanted: %s", <-messages)
	}
}

func unchanged(t *testing.T, d *terraform.Dir, after string) {
	t.Helper()
	if plan := d.Plan(); plan != "" {
		t.Errorf("after %s, a plan would change something:\n%s", after, plan)
	}
}
