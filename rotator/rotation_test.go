package rotator_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"credential-rotator/rotator"
	"credential-rotator/test/sandbox"
)

// process wires a rotator to one simulated process of the world.
func process(p *sandbox.Ports) *rotator.Rotator {
	return &rotator.Rotator{
		Users: p, Keys: p, Prober: p, Destination: p, Redeployer: p, Journal: p, Notifier: p,
		Pace: rotator.Pace{
			ProbeDelay: 5 * time.Second, ProbeInterval: 6 * time.Second, ProbeSuccesses: 3, ProbeTimeout: 3 * time.Minute,
			PollInterval: 10 * time.Second, OrphanAge: 20 * time.Minute,
		},
		Owner: "test",
	}
}

func TestACleanRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := sandbox.NewScene(sandbox.Lifelike())
		r := process(w.Run("A"))
		request := w.Request()
		ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
		defer cancel()
		result, err := r.Advance(ctx, request)
		t.Log(result, err)
		for _, c := range w.Calls() {
			t.Log(c)
		}
		t.Log(w.Violations())
	})
}
