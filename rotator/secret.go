package rotator

import (
	"encoding/json"
	"fmt"
	"log/slog"
)

const redacted = "[redacted]"

// Secret is a value that must never be written where it does not belong: the
// secret half of an access key, or the token that GitLab is called with.
//
// Every way in which Go prints, logs or encodes a value gives "[redacted]". The
// one way out is Reveal, which a lint rule allows only in the adapters that send
// the secret to the service it is meant for.
//
// The value is behind a pointer because package fmt does not ask the methods of an
// unexported field: it prints what is there, which is then an address.
type Secret struct{ value *string }

// NewSecret wraps a value read from the service that made it.
func NewSecret(value string) Secret { return Secret{&value} }

// UnmarshalText takes a secret in, from the environment or from JSON.
func (s *Secret) UnmarshalText(text []byte) error {
	*s = NewSecret(string(text))
	return nil
}

// Reveal returns the secret itself, to be sent and not to be kept.
func (s Secret) Reveal() string {
	if s.value == nil {
		return ""
	}
	return *s.value
}

// Empty tells whether there is nothing to reveal.
func (s Secret) Empty() bool { return s.value == nil || *s.value == "" }

func (Secret) String() string               { return redacted }
func (Secret) GoString() string             { return redacted }
func (Secret) Format(f fmt.State, _ rune)   { _, _ = f.Write([]byte(redacted)) }
func (Secret) MarshalJSON() ([]byte, error) { return json.Marshal(redacted) }
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }
func (Secret) LogValue() slog.Value         { return slog.StringValue(redacted) }
