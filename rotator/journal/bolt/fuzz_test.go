package bolt_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/bbolt"

	"credential-rotator/rotator"
	"credential-rotator/rotator/journal/bolt"
)

// FuzzAStoredRecord: whatever stands in the file under a user's name, it is read, or
// told as an error that says whose record it is; and what is told as an error stays.
func FuzzAStoredRecord(f *testing.F) {
	for _, record := range []string{
		`{"user":"svc-a","version":7,"phase":"retiring","lease":{"owner":"host/boot@1/1/1/x","until":"2026-11-21T20:00:00Z"}}`,
		`{"user":"svc-a","version":7,"lease":{"owner":"////"}}`, `{"lease":{"owner":"h/b/-1/s/x"}}`,
		`{}`, `null`, `[]`, `"`, `{"phase":7}`, `{"lease":null}`, `{"version":1e400}`, strings.Repeat(`{"request":`, 99), "\xff\x00",
	} {
		f.Add([]byte(record))
	}
	f.Fuzz(func(t *testing.T, record []byte) {
		path := journalWith(t, record)
		j := bolt.New(path)
		r, err := j.Load(t.Context(), "svc-a")
		if err == nil {
			if r.User != "svc-a" || r.Version < 1 {
				t.Fatalf("what no run has saved is read as %+v", r)
			}
			if _, err := j.Save(t.Context(), r); err != nil {
				t.Fatalf("what was read cannot be saved: %v", err)
			}
			return
		}
		if !strings.Contains(err.Error(), "svc-a") {
			t.Fatalf("the error does not name the place: %v", err)
		}
		for name, err := range map[string]error{
			"list": second(j.InFlight(t.Context())), "save": second(j.Save(t.Context(), rotator.Record{User: "svc-a"})),
		} {
			if err == nil {
				t.Fatalf("%s: no error about what load tells as one", name)
			}
		}
		if left := recordIn(t, path); !bytes.Equal(left, record) {
			t.Fatalf("it was changed to %q", left)
		}
	})
}

// FuzzADamagedFile: a journal of which some bytes are not what they were is read, or
// told as an error; nothing panics, nothing hangs, and reading changes nothing.
func FuzzADamagedFile(f *testing.F) {
	whole := wholeJournal(f)
	page := os.Getpagesize()
	for _, at := range []int{0, 16, 24, page + 16, 2 * page, 3*page + 8, 4*page + 16, 5 * page} {
		f.Add(uint32(at), []byte{0xff, 0xff, 0xff, 0xff})
		f.Add(uint32(at), make([]byte, 64))
	}
	f.Fuzz(func(t *testing.T, at uint32, with []byte) {
		damaged := bytes.Clone(whole)
		copy(damaged[int(at)%len(damaged):], with)
		path := filepath.Join(t.TempDir(), "j.db")
		check(t, os.WriteFile(path, damaged, 0o600))
		j := bolt.New(path)
		for i := range 3 {
			user := fmt.Sprint("svc-", i)
			if _, err := j.Load(t.Context(), user); err != nil && !strings.Contains(err.Error(), user) {
				t.Fatalf("the error does not name the place: %v", err)
			}
		}
		_, _ = j.InFlight(t.Context())
		if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, damaged) {
			t.Fatalf("reading changed the file: %v", err)
		}
	})
}

// wholeJournal is a journal of a few users, as bytes.
func wholeJournal(t testing.TB) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "whole.db")
	for i := range 3 {
		if _, err := bolt.New(path).Save(t.Context(), rotator.Record{User: fmt.Sprint("svc-", i), Phase: rotator.PhaseCreated}); err != nil {
			t.Fatal(err)
		}
	}
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// journalWith is a journal in which one record is as given.
func journalWith(t *testing.T, record []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "j.db")
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{NoSync: true, NoGrowSync: true})
	check(t, err)
	check(t, db.Update(func(tx *bbolt.Tx) error {
		if _, err := tx.CreateBucket([]byte("history")); err != nil {
			return err
		}
		current, err := tx.CreateBucket([]byte("current"))
		if err != nil {
			return err
		}
		return current.Put([]byte("svc-a"), record)
	}))
	check(t, db.Close())
	return path
}

func recordIn(t *testing.T, path string) (record []byte) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true})
	check(t, err)
	check(t, db.View(func(tx *bbolt.Tx) error {
		record = bytes.Clone(tx.Bucket([]byte("current")).Get([]byte("svc-a")))
		return nil
	}))
	check(t, db.Close())
	return record
}
