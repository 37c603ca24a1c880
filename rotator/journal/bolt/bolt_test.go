package bolt_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"credential-rotator/rotator"
	"credential-rotator/rotator/journal/bolt"
)

// The contract is in package contract. Here is what only a file can do.

func TestReadingMakesNoFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state", "journal.db")
	j := bolt.New(path)
	if r, err := j.Load(t.Context(), "svc-a"); err != nil || r.Version != 0 {
		t.Error(r, err)
	}
	if list, err := j.InFlight(t.Context()); err != nil || len(list) != 0 {
		t.Error(list, err)
	}
	if _, err := os.Stat(filepath.Dir(path)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("something was made: %v", err)
	}
}

func TestTheFileIsItsOwnersAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state", "journal.db")
	save(t, bolt.New(path), rotator.Record{User: "svc-a"})
	for name, want := range map[string]os.FileMode{path: 0o600, filepath.Dir(path): 0o700 | os.ModeDir} {
		if info, err := os.Stat(name); err != nil || info.Mode() != want {
			t.Errorf("%s has mode %v, want %v; %v", name, info.Mode(), want, err)
		}
	}
	if files, _ := os.ReadDir(filepath.Dir(path)); len(files) != 1 {
		t.Errorf("there is more than the journal: %v", files)
	}
}

func TestAFileThatIsNoJournalIsNamedAndLeftAlone(t *testing.T) {
	dir := t.TempDir()
	whole := filepath.Join(dir, "whole")
	for i := range 50 {
		save(t, bolt.New(whole), rotator.Record{User: fmt.Sprint("svc-", i), LastError: strings.Repeat("x", 3000)})
	}
	journal, err := os.ReadFile(whole)
	check(t, err)
	foreign := filepath.Join(dir, "foreign")
	db, err := bbolt.Open(foreign, 0o600, nil)
	check(t, err)
	check(t, db.Update(func(tx *bbolt.Tx) error { _, err := tx.CreateBucket([]byte("theirs")); return err }))
	check(t, db.Close())
	other, err := os.ReadFile(foreign)
	check(t, err)
	files := map[string][]byte{
		"an empty file": {}, "a short text": []byte("hello"), "a long text": bytes.Repeat([]byte("hello\n"), 9999),
		"zeros": make([]byte, 65536), "another program's database": other,
		"a damaged journal": damaged(journal),
	}
	for _, n := range []int{1, 100, 4096, 8191, 8192, 12288, 16384, len(journal) / 2} {
		files[fmt.Sprintf("a journal cut after %d bytes", n)] = journal[:n]
	}
	for name, content := range files {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "j.db")
			check(t, os.WriteFile(path, content, 0o600))
			j := bolt.New(path)
			for op, err := range map[string]error{
				"load": second(j.Load(t.Context(), "svc-1")), "list": second(j.InFlight(t.Context())),
				"save": second(j.Save(t.Context(), rotator.Record{User: "svc-new"})), "append": j.Append(t.Context(), rotator.Entry{User: "svc-new"}),
			} {
				if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "left as it is") {
					t.Errorf("%s: %v", op, err)
				}
			}
			if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, content) {
				t.Errorf("the file was changed: %v", err)
			}
		})
	}
	t.Run("a folder", func(t *testing.T) {
		if _, err := bolt.New(dir).Save(t.Context(), rotator.Record{User: "svc-a"}); err == nil || !strings.Contains(err.Error(), dir) {
			t.Error(err)
		}
	})
}

// damaged is a journal whose pages, all but the two that tell about the others, hold nonsense.
func damaged(journal []byte) []byte {
	out := bytes.Clone(journal)
	for i := 2 * os.Getpagesize(); i < len(out); i++ {
		out[i] = 0xA5
	}
	return out
}

func TestProcessesTakeTurns(t *testing.T) {
	path := filepath.Join(t.TempDir(), "j.db")
	save(t, bolt.New(path), rotator.Record{User: "svc-a"})
	db, err := bbolt.Open(path, 0o600, nil)
	check(t, err)
	t.Run("a file in use is waited for no longer than the context", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		began := time.Now()
		_, err := bolt.New(path).Load(ctx, "svc-a")
		if err == nil || !strings.Contains(err.Error(), path+" is in use by another process") || time.Since(began) > 5*time.Second {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
	})
	t.Run("and goes on when it is let go", func(t *testing.T) {
		time.AfterFunc(50*time.Millisecond, func() { _ = db.Close() })
		if _, err := bolt.New(path).Load(t.Context(), "svc-a"); err != nil {
			t.Error(err)
		}
	})
	t.Run("many at once lose nothing", func(t *testing.T) {
		done := make(chan error)
		for i := range 8 {
			go func() {
				_, err := bolt.New(filepath.Join(filepath.Dir(path), "new.db")).Save(t.Context(), rotator.Record{User: fmt.Sprint("svc-", i), Phase: rotator.PhaseCreated})
				done <- err
			}()
		}
		for range 8 {
			check(t, <-done)
		}
		list, err := bolt.New(filepath.Join(filepath.Dir(path), "new.db")).InFlight(t.Context())
		if err != nil || len(list) != 8 {
			t.Errorf("%d records, %v", len(list), err)
		}
	})
}

func TestHistoryEndsAfter400Days(t *testing.T) {
	path := filepath.Join(t.TempDir(), "j.db")
	j := bolt.New(path)
	day := 24 * time.Hour
	for _, age := range []time.Duration{401 * day, 399 * day, 0} {
		check(t, j.Append(t.Context(), rotator.Entry{User: "svc-a", StartedAt: time.Now().Add(-age)}))
		check(t, j.Append(t.Context(), rotator.Entry{User: "svc-b", StartedAt: time.Now().Add(-age)}))
	}
	db, err := bbolt.Open(path, 0o600, nil)
	check(t, err)
	defer func() { _ = db.Close() }()
	check(t, db.View(func(tx *bbolt.Tx) error {
		if n := tx.Bucket([]byte("history")).Stats().KeyN; n != 4 {
			t.Errorf("there are %d entries, want 4", n)
		}
		return nil
	}))
}

func TestALeaseEndsWithItsProcess(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("LEFT OUT: only Linux tells when a process began")
	}
	part := strings.Split(bolt.Owner(), "/")
	if len(part) != 4 || part[1] == "" || part[2] != strconv.Itoa(os.Getpid()) || part[3] == "" {
		t.Fatalf("this process is %q", part)
	}
	child := exec.CommandContext(t.Context(), "true")
	check(t, child.Run())
	gone := strconv.Itoa(child.Process.Pid)
	owner := func(host, boot, pid, start string) string {
		return strings.Join([]string{host, boot, pid, start, "random"}, "/")
	}
	boot, space, _ := strings.Cut(part[1], "@")
	for name, c := range map[string]struct {
		owner string
		held  bool
	}{
		"this process":                        {bolt.Owner() + "/random", true},
		"a process that is gone":              {owner(part[0], part[1], gone, "123"), false},
		"a process whose number has another":  {owner(part[0], part[1], part[2], "123"), false},
		"a process before the machine booted": {owner(part[0], "another-boot@"+space, part[2], part[3]), false},
		"a process of another host":           {owner("elsewhere", part[1], gone, "123"), true},
		"a process of another container":      {owner(part[0], boot+"@1", gone, "123"), true},
		"an owner of another kind":            {"lambda-request-1", true},
		"nobody":                              {"", true},
	} {
		t.Run(name, func(t *testing.T) {
			j := bolt.New(filepath.Join(t.TempDir(), "j.db"))
			until := time.Now().Add(time.Hour).UTC()
			saved := save(t, j, rotator.Record{User: "svc-a", Phase: rotator.PhaseCreated, Lease: rotator.Lease{Owner: c.owner, Until: until}})
			r, err := j.Load(t.Context(), "svc-a")
			check(t, err)
			list, err := j.InFlight(t.Context())
			check(t, err)
			for _, r := range []rotator.Record{r, list[0]} {
				if r.Lease.Held(time.Now()) != c.held || r.Lease.Owner != c.owner {
					t.Errorf("the lease is %+v", r.Lease)
				}
			}
			save(t, j, rotator.Record{User: "svc-a", Version: saved.Version}) // free or not, the version counts
		})
	}
}

func save(t *testing.T, j *bolt.Journal, r rotator.Record) rotator.Record {
	t.Helper()
	saved, err := j.Save(t.Context(), r)
	check(t, err)
	return saved
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func second[T any](_ T, err error) error { return err }
