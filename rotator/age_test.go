package rotator_test

import (
	"testing"
	"time"

	"credential-rotator/rotator"
	"credential-rotator/test/sandbox"
)

// aged asks that a result knows when the published key was made.
func (s *stage) aged(result rotator.Result) {
	s.t.Helper()
	id, _ := s.Pair(s.Service)
	for _, k := range s.Keys(serviceUser) {
		if k.ID == id && !result.CurrentKeyCreatedAt.Equal(k.CreatedAt) {
			s.t.Errorf("%s: the published %s was made at %s, the result says %s", result.Status, id, k.CreatedAt, result.CurrentKeyCreatedAt)
		}
	}
	if result.CurrentKeyCreatedAt.IsZero() {
		s.t.Errorf("%s: the result does not say when %s was made", result.Status, id)
	}
}

// The age of the published key is a metric: whatever becomes of a rotation, and above
// all when nothing does, it must be told.
func TestEveryAnswerThatSawTheKeysTellsWhenThePublishedOneWasMade(t *testing.T) {
	for name, c := range map[string]struct {
		set  func(*stage)
		want rotator.Status
	}{
		"rotated": {func(*stage) {}, rotator.StatusRotated},
		"not due": {func(s *stage) { s.run() }, rotator.StatusNotDue},
		"waiting for a pipeline": {func(s *stage) {
			s.QueueOutcomes(4711, sandbox.Manual)
		}, rotator.StatusWaiting},
		"waiting, in a run that lists no keys": {func(s *stage) {
			s.QueueOutcomes(4711, sandbox.Manual)
			s.run()
		}, rotator.StatusWaiting},
		"soaking": {func(s *stage) {
			s.request.SoakHours = 24
			s.run()
		}, rotator.StatusWaiting},
		"held before it begins":   {func(s *stage) { s.CreateKey(serviceUser, time.Hour) }, rotator.StatusHeld},
		"refused for what it saw": {func(s *stage) { s.CreateKey(serviceUser, 0); s.request.RetireKey = s.Key.ID }, rotator.StatusRefused},
		"failed before publishing": {func(s *stage) {
			s.every = failing("gitlab.PUT variable "+secretVariable, sandbox.Refused)
		}, rotator.StatusFailed},
		"failed to redeploy": {func(s *stage) { s.QueueOutcomes(4711, sandbox.Failed) }, rotator.StatusFailed},
	} {
		t.Run(name, func(t *testing.T) {
			perform(t, func(s *stage) {
				c.set(s)
				s.aged(s.wants(s.run(), c.want))
			})
		})
	}
}
