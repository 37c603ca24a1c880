package contract

import (
	"testing"

	"credential-rotator/rotator"
)

// FollowUpFixture is a rotator.FollowUp, and whoever can see what it switches.
type FollowUpFixture struct {
	FollowUp rotator.FollowUp
	// On tells whether it is switched on, and whether all the others are as they were.
	On func(testing.TB) bool
	// Missing and Denied cannot be switched. nil where there is no such thing.
	Missing, Denied rotator.FollowUp
}

// FollowUp pins what a rotator.FollowUp promises.
func FollowUp(t *testing.T, open func(testing.TB) FollowUpFixture) {
	f := open(t)
	t.Run("it is switched on and off, as often as one likes", func(t *testing.T) {
		for _, on := range []bool{true, true, false, false, true, false} {
			send := f.FollowUp.Disable
			if on {
				send = f.FollowUp.Enable
			}
			if err := send(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := f.On(t); got != on {
				t.Errorf("it is on: %t, want %t", got, on)
			}
		}
	})
	for name, broken := range map[string]rotator.FollowUp{"one that is missing": f.Missing, "one that may not be switched": f.Denied} {
		t.Run(name+" is an error", func(t *testing.T) {
			if broken == nil {
				t.Skip("this implementation has no such thing")
			}
			if err := broken.Enable(t.Context()); err == nil {
				t.Error("there was no error when it was to be switched on")
			}
			if err := broken.Disable(t.Context()); err == nil {
				t.Error("there was no error when it was to be switched off")
			}
		})
	}
}
