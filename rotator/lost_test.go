package rotator

import (
	"testing"
	"time"
)

func TestANewKeyWhoseSecretIsGoneIsDeletedWhenNoWriteCanBringItAnyMore(t *testing.T) {
	lost := func(sent time.Duration) func(o *observed) {
		return func(o *observed) {
			o.record.NewKeyID, o.keys = newKeyID, append(o.keys, aged(newKeyID, time.Minute))
			if sent > 0 {
				o.record.SentAt = noon.Add(-sent)
			}
		}
	}
	table(t, func() observed { return inFlight(PhaseCreated) }, map[string]decision{
		"at once when it was never sent":          {given: lost(0), step: StepDiscard, keyID: newKeyID},
		"not while a write may be on its way":     {given: lost(59 * time.Second), status: StatusWaiting, says: []string{"may still be on its way"}},
		"when no write can be on its way anymore": {given: lost(time.Minute), step: StepDiscard, keyID: newKeyID},
	})
}
