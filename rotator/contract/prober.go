package contract

import (
	"strings"
	"testing"

	"credential-rotator/rotator"
)

// ProberFixture is an STS to try a rotator.Prober on.
type ProberFixture struct {
	Prober rotator.Prober
	// AddKey makes a key of a new user, and returns when it works. arn is the user's.
	AddKey func(t testing.TB, user string) (pair rotator.KeyPair, arn string)
	// Deactivate and Delete change a key, and return when the change has spread.
	Deactivate func(t testing.TB, user string, pair rotator.KeyPair)
	Delete     func(t testing.TB, user string, pair rotator.KeyPair)
}

// Prober pins what a rotator.Prober promises.
func Prober(t *testing.T, open func(testing.TB) ProberFixture) {
	f := open(t)
	refused := func(t *testing.T, pair rotator.KeyPair) {
		t.Helper()
		id, err := f.Prober.Probe(t.Context(), pair)
		if err == nil {
			t.Fatalf("it authenticates as %s", id.ARN)
		}
		//nolint:forbidigo // it is looked for where it must not be, and goes nowhere
		if secret := pair.Secret.Reveal(); secret != "" && strings.Contains(err.Error(), secret) {
			t.Error("the error holds the secret")
		}
		if strings.Contains(err.Error(), "Signature=") || strings.Contains(err.Error(), "AWS4-HMAC") {
			t.Errorf("the error holds what was signed: %v", err)
		}
	}
	t.Run("a working pair is its user", func(t *testing.T) {
		pair, arn := f.AddKey(t, "svc-probe")
		for range 3 {
			id, err := f.Prober.Probe(t.Context(), pair)
			if err != nil || id.ARN != arn {
				t.Errorf("it authenticates as %q, want %q; %v", id.ARN, arn, err)
			}
		}
	})
	t.Run("two pairs are two users", func(t *testing.T) {
		one, oneARN := f.AddKey(t, "svc-probe-one")
		two, twoARN := f.AddKey(t, "svc-probe-two")
		for pair, arn := range map[rotator.KeyPair]string{one: oneARN, two: twoARN} {
			if id, err := f.Prober.Probe(t.Context(), pair); err != nil || id.ARN != arn {
				t.Errorf("%s authenticates as %q, want %q; %v", pair.ID, id.ARN, arn, err)
			}
		}
	})
	t.Run("a wrong secret does not authenticate", func(t *testing.T) {
		pair, _ := f.AddKey(t, "svc-probe-secret")
		pair.Secret = rotator.NewSecret("wrong/" + strings.Repeat("X", 34))
		refused(t, pair)
	})
	t.Run("an inactive key does not authenticate", func(t *testing.T) {
		pair, _ := f.AddKey(t, "svc-probe-inactive")
		f.Deactivate(t, "svc-probe-inactive", pair)
		refused(t, pair)
	})
	t.Run("a deleted key does not authenticate", func(t *testing.T) {
		pair, _ := f.AddKey(t, "svc-probe-deleted")
		f.Delete(t, "svc-probe-deleted", pair)
		refused(t, pair)
	})
	t.Run("a key that nobody made does not authenticate", func(t *testing.T) {
		refused(t, rotator.KeyPair{ID: "AKIAINVENTED00000000", Secret: rotator.NewSecret(strings.Repeat("Y", 40))})
	})
}
