// Package bolt is rotator.Journal on one bbolt file, for one machine: what the command
// uses at a desk and in a GitLab job.
//
// Every operation opens the file, holds its lock for milliseconds and closes it, so
// that several processes work by turns. The buckets are current (user → record) and
// history (user, NUL, start → entry), both JSON. The file is made whole and put in
// place under its name in one step: a file that is there and is no journal is never
// one of ours that a crash left half made, and is left alone.
//
// The file is readable by its owner only, although it never holds a secret.
package bolt

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/bbolt"

	"credential-rotator/rotator"
)

var _ rotator.Journal = (*Journal)(nil)

const (
	bucketCurrent = "current"
	bucketHistory = "history"
	// historyAge is how long history is kept: longer than a year of rotations, so that
	// the yearly audit sees all of them.
	historyAge = 400 * 24 * time.Hour
	// historyTime is RFC 3339 with a fixed width: keys sort as the times do.
	historyTime = "2006-01-02T15:04:05.000000000Z"
)

// Journal is rotator.Journal on a local file. It is safe for concurrent use.
type Journal struct{ path string }

// New returns the journal in the file at path. It touches nothing: the file, and the
// folder that it is in, are made by the first Save.
func New(path string) *Journal { return &Journal{path} }

// Load reads a user's record. The lease in it is over when the process that took it
// is provably dead, whatever time it was taken for.
func (j *Journal) Load(ctx context.Context, user string) (rotator.Record, error) {
	r := rotator.Record{User: user}
	err := j.view(ctx, func(tx *bbolt.Tx) error {
		text := tx.Bucket([]byte(bucketCurrent)).Get([]byte(user))
		if text == nil {
			return nil
		}
		var err error
		r, err = decode(user, text)
		return err
	})
	if err != nil {
		return rotator.Record{}, fmt.Errorf("loading the record of %s: %w", user, err)
	}
	return released(r), nil
}

// Save replaces the record of exactly r.Version. It has saved when it returns nil:
// the file is synced.
func (j *Journal) Save(ctx context.Context, r rotator.Record) (rotator.Record, error) {
	prev := r.Version
	r.Version++
	err := j.update(ctx, func(tx *bbolt.Tx) error {
		current := tx.Bucket([]byte(bucketCurrent))
		var stored rotator.Record
		if text := current.Get([]byte(r.User)); text != nil {
			var err error
			if stored, err = decode(r.User, text); err != nil {
				return err
			}
		}
		if stored.Version != prev {
			return rotator.ErrConflict
		}
		text, err := json.Marshal(r)
		if err != nil {
			return err
		}
		return current.Put([]byte(r.User), text)
	})
	if err != nil {
		return rotator.Record{}, fmt.Errorf("saving the record of %s: %w", r.User, err)
	}
	return r, nil
}

// decode reads a user's record. What Save has not written is an error: it must not be
// taken for no record, and written over.
func decode(user string, text []byte) (rotator.Record, error) {
	var r rotator.Record
	err := json.Unmarshal(text, &r)
	if err == nil && (r.User != user || r.Version < 1) {
		err = errors.New("it is another user's, or has no version")
	}
	if err != nil {
		return rotator.Record{}, fmt.Errorf("what the journal holds about %s cannot be read, and was left as it is: %w", user, err)
	}
	return r, nil
}

// InFlight lists the records in flight, as they are.
func (j *Journal) InFlight(ctx context.Context) ([]rotator.Record, error) {
	var records []rotator.Record
	err := j.view(ctx, func(tx *bbolt.Tx) error {
		return tx.Bucket([]byte(bucketCurrent)).ForEach(func(user, text []byte) error {
			r, err := decode(string(user), text)
			if err != nil {
				return err
			}
			if r.InFlight() {
				records = append(records, released(r))
			}
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("listing records in flight: %w", err)
	}
	return records, nil
}

// Append adds to the history, and drops from it what is older than 400 days. The same
// entry appended twice is one.
func (j *Journal) Append(ctx context.Context, e rotator.Entry) error {
	text, err := json.Marshal(e)
	if err == nil {
		err = j.update(ctx, func(tx *bbolt.Tx) error {
			history := tx.Bucket([]byte(bucketHistory))
			if err := history.Put(historyKey(e.User, e.StartedAt), text); err != nil {
				return err
			}
			return prune(history, time.Now().Add(-historyAge))
		})
	}
	if err != nil {
		return fmt.Errorf("writing the history of %s: %w", e.User, err)
	}
	return nil
}

func historyKey(user string, start time.Time) []byte {
	return []byte(user + "\x00" + start.UTC().Format(historyTime))
}

// prune removes every user's entries from before an instant.
func prune(history *bbolt.Bucket, before time.Time) error {
	limit := []byte(before.UTC().Format(historyTime))
	var old [][]byte
	err := history.ForEach(func(key, _ []byte) error {
		if _, start, _ := bytes.Cut(key, []byte{0}); bytes.Compare(start, limit) < 0 {
			old = append(old, bytes.Clone(key))
		}
		return nil
	})
	for _, key := range old {
		if err == nil {
			err = history.Delete(key)
		}
	}
	return err
}

// released is r with its lease ended, if nobody can be holding it any more.
func released(r rotator.Record) rotator.Record {
	if r.Lease.Owner != "" && dead(r.Lease.Owner) {
		r.Lease.Until = time.Time{}
	}
	return r
}
