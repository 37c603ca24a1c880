package contract

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"credential-rotator/rotator"
)

// NotifierFixture is a rotator.Notifier and somebody who listens.
type NotifierFixture struct {
	Notifier rotator.Notifier
	// Received waits for the next n notifications and returns them.
	Received func(t testing.TB, n int) []Received
	// Broken cannot reach anybody. nil where there is no such thing.
	Broken rotator.Notifier
}

// Received is a notification as it arrives.
type Received struct {
	Notice rotator.Notice
	Result rotator.Result
	// Raw is all of it, as far as the listener saw it.
	Raw string
}

// Notifier pins what a rotator.Notifier promises.
func Notifier(t *testing.T, open func(testing.TB) NotifierFixture) {
	f := open(t)
	due := time.Date(2127, 2, 12, 20, 0, 0, 0, time.UTC)
	result := rotator.Result{
		Status: rotator.StatusRotated, Reason: `key AKIAOLD was "84" days old – äöü`, User: "svc-notify", ProjectID: 4711,
		RotationID: "r-1", PreviousKeyID: "AKIAOLD", CurrentKeyID: "AKIANEW",
		Deployment: &rotator.Deployment{Kind: "pipeline", ID: 61, URL: "https://gitlab.example/61", Status: "success"},
		NextDue:    &due, Warnings: []string{"a warning"},
		Steps: []rotator.StepTime{{Step: rotator.StepCreate, At: due, MS: 212}},
	}
	for _, notice := range []rotator.Notice{rotator.NoticeStarted, rotator.NoticeSucceeded, rotator.NoticeFailed, rotator.NoticeHeld} {
		t.Run(string(notice)+" arrives once, with the whole result", func(t *testing.T) {
			if err := f.Notifier.Notify(t.Context(), notice, result); err != nil {
				t.Fatal(err)
			}
			got := f.Received(t, 1)
			if len(got) != 1 || got[0].Notice != notice {
				t.Fatalf("what arrived is %+v", got)
			}
			if diff := cmp.Diff(result, got[0].Result); diff != "" {
				t.Errorf("the result that arrived is another one (-want +got):\n%s", diff)
			}
			if !json.Valid([]byte(got[0].Raw)) {
				t.Errorf("what arrived is not JSON: %s", got[0].Raw)
			}
		})
	}
	t.Run("what cannot be told is an error", func(t *testing.T) {
		if f.Broken == nil {
			t.Skip("this implementation reaches everybody")
		}
		if err := f.Broken.Notify(t.Context(), rotator.NoticeHeld, result); err == nil {
			t.Error("there was no error")
		}
	})
}
