// Package tokenstore keeps GitLab's token in AWS Secrets Manager or in SSM Parameter
// Store, and puts the next one there.
//
// Rotating a token cannot be undone or repeated: the old one is dead in the instant in
// which GitLab hands out the new one, which nobody else has, and whoever shows the dead
// one to GitLab again on that path loses both. So before GitLab is asked a store is
// claimed. A Claim is
//
//   - a proof that this caller may write there, now: it is a write of the same kind, by
//     the same caller, to the same secret or parameter and with the same key. It does not
//     prove that the next write will succeed; nothing can.
//   - a lock against others who run the same at once. It is for claimTime and no longer,
//     so that one who dies with it is in nobody's way; whoever holds it must have asked
//     GitLab within SendWithin. What is left is a process that is stopped for longer than
//     the difference between its last look at its clock and its request.
//
// A token leaves this package in requests to the store that it is kept in, and as a
// rotator.Secret. No error holds one.
package tokenstore

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"credential-rotator/rotator"
)

const (
	// claimTime is how long a claim keeps others away, on AWS's clock.
	claimTime = 2 * time.Minute
	// SendWithin is how long after its claim a holder may still ask GitLab.
	SendWithin = 30 * time.Second
)

// Store is where a token is kept.
type Store interface {
	// Name is where that is, in words.
	Name() string
	// Read reads the token.
	Read(ctx context.Context) (rotator.Secret, error)
	// Claim makes sure that a new token can be put there, and that nobody else is about
	// to. Its errors all mean that the token is as it was; a *BusyError, that it may be
	// tried again by itself.
	Claim(ctx context.Context) (Claim, error)
}

// Claim is the right to put a new token into its store.
type Claim interface {
	// Token is the one that is there.
	Token() rotator.Secret
	// At is when it was asked for, on our clock.
	At() time.Time
	// Put puts the new token in the place of the old. It may be called again with the
	// same token after any error, and changes nothing when it has succeeded already.
	Put(ctx context.Context, token rotator.Secret) error
}

// BusyError says that somebody else is, or may be, rotating the token at this moment.
type BusyError struct{ Reason string }

func (e *BusyError) Error() string { return e.Reason }

// claim is what both kinds have in common.
type claim struct {
	token rotator.Secret
	at    time.Time
}

func (c claim) Token() rotator.Secret { return c.token }
func (c claim) At() time.Time         { return c.at }

// tokenIn is the token in the text of a secret or a parameter.
func tokenIn(text, where string, mayBeJSON bool) (rotator.Secret, error) {
	value := trimmed(text)
	if mayBeJSON && strings.HasPrefix(value, "{") {
		var fields struct {
			Token string `json:"token"`
		}
		if json.Unmarshal([]byte(value), &fields) != nil || fields.Token == "" {
			return rotator.Secret{}, fmt.Errorf(`%s holds JSON without a text field "token"`, where)
		}
		value = strings.TrimSpace(fields.Token)
	}
	if value == "" {
		return rotator.Secret{}, errors.New(where + " is empty: put the GitLab token there")
	}
	return rotator.NewSecret(value), nil
}

// trimmed is a text without what editors and shells put around it: line ends, and the
// byte order mark that some of Windows begin a file with.
func trimmed(text string) string {
	return strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(text), "\ufeff"))
}

// withToken is a secret's text with another token: in JSON every other byte stays as it
// is, elsewhere the token is all there is.
func withToken(text string, next rotator.Secret) (rotator.Secret, error) {
	whole := trimmed(text)
	if !strings.HasPrefix(whole, "{") {
		return next, nil
	}
	value, err := json.Marshal(next.Reveal())
	if err != nil {
		return rotator.Secret{}, errors.New("the new token is no text")
	}
	var out bytes.Buffer
	d := json.NewDecoder(strings.NewReader(whole))
	_, _ = d.Token() // {
	copied := 0
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return rotator.Secret{}, errors.New("its JSON cannot be read")
		}
		var old json.RawMessage
		if err := d.Decode(&old); err != nil {
			return rotator.Secret{}, errors.New("its JSON cannot be read")
		}
		if field, _ := name.(string); strings.EqualFold(field, "token") { // as it was read
			end := int(d.InputOffset())
			out.WriteString(whole[copied : end-len(old)])
			out.Write(value)
			copied = end
		}
	}
	out.WriteString(whole[copied:])
	changed := rotator.NewSecret(out.String())
	if read, err := tokenIn(changed.Reveal(), "", true); err != nil || read.Reveal() != next.Reveal() {
		return rotator.Secret{}, errors.New("its JSON cannot be given another token")
	}
	return changed, nil
}

// canChange tells whether withToken will work, before it has to.
func canChange(text, where string) error {
	if _, err := withToken(text, rotator.NewSecret("glpat-placeholder")); err != nil {
		return fmt.Errorf("%s cannot be changed: %w: write it anew by hand", where, err)
	}
	return nil
}

// busyAfter is a BusyError when something was done less than claimTime ago.
func busyAfter(done *time.Time, now time.Time, format string, args ...any) error {
	if done == nil || now.Sub(*done) >= claimTime {
		return nil
	}
	return &BusyError{fmt.Sprintf(format, args...) + fmt.Sprintf("; run it again after %s", done.Add(claimTime).UTC().Format("15:04:05 UTC"))}
}

// firstLine is an error without what follows its first line: in a message of AWS about a
// signature that is the request, session token included.
func firstLine(err error) error {
	line, rest, _ := strings.Cut(err.Error(), "\n")
	if rest == "" {
		return err
	}
	return errors.New(line)
}

// uuid is 16 bytes in the form of one, which ids of versions have to have.
func uuid(b [16]byte) string {
	s := hex.EncodeToString(b[:])
	return strings.Join([]string{s[:8], s[8:12], s[12:16], s[16:20], s[20:]}, "-")
}

func newUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // it never fails
	return uuid(b)
}
