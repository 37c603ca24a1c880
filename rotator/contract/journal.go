package contract

import (
	"crypto/rand"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"credential-rotator/rotator"
)

// JournalFixture is an empty journal to try.
type JournalFixture struct {
	Journal rotator.Journal
	// History reads back what was appended for a user, oldest first: the port only
	// writes it.
	History func(t testing.TB, user string) []rotator.Entry
	// LoseReply loses the reply of the next Save's first attempt, after it was applied.
	// nil where an implementation cannot lose replies.
	LoseReply func(t testing.TB)
}

// Journal pins what a rotator.Journal promises.
func Journal(t *testing.T, open func(testing.TB) JournalFixture) {
	t.Run("records", func(t *testing.T) { records(t, open(t)) })
	t.Run("compare and swap", func(t *testing.T) { compareAndSwap(t, open(t)) })
	t.Run("in flight", func(t *testing.T) { inFlight(t, open(t)) })
	t.Run("history", func(t *testing.T) { history(t, open(t)) })
	t.Run("lost replies", func(t *testing.T) { lostReplies(t, open(t)) })
}

func records(t *testing.T, f JournalFixture) {
	t.Run("a user without a record has version 0 and is not in flight", func(t *testing.T) {
		r := f.load(t, "svc-unknown")
		if r.Version != 0 || r.InFlight() || r.Lease != (rotator.Lease{}) {
			t.Errorf("the record is %+v", r)
		}
	})
	t.Run("a record is loaded as it was saved, every field of it", func(t *testing.T) {
		full := fullRecord("svc-full")
		saved := f.save(t, full)
		full.Version = saved.Version
		if diff := cmp.Diff(full, saved); diff != "" {
			t.Errorf("Save returned another record (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(full, f.load(t, "svc-full")); diff != "" {
			t.Errorf("Load returned another record (-want +got):\n%s", diff)
		}
	})
	t.Run("a record is replaced as a whole", func(t *testing.T) {
		saved := f.save(t, fullRecord("svc-replaced"))
		bare := f.save(t, rotator.Record{User: "svc-replaced", Version: saved.Version})
		if diff := cmp.Diff(bare, f.load(t, "svc-replaced")); diff != "" {
			t.Errorf("something of the old record stayed (-want +got):\n%s", diff)
		}
	})
	t.Run("a lease is kept to the nanosecond, and its owner when it is released", func(t *testing.T) {
		until := time.Date(2126, 11, 21, 20, 0, 0, 123456789, time.UTC)
		r := f.save(t, rotator.Record{User: "svc-lease", Lease: rotator.Lease{Owner: "me/1", Until: until}})
		if got := f.load(t, "svc-lease").Lease; got.Owner != "me/1" || !got.Until.Equal(until) || !got.Held(time.Now()) {
			t.Errorf("the lease is %+v", got)
		}
		r.Lease.Until = time.Time{}
		f.save(t, r)
		if got := f.load(t, "svc-lease").Lease; got.Owner != "me/1" || got.Held(time.Now()) {
			t.Errorf("the released lease is %+v", got)
		}
	})
	t.Run("one user's record is none of another's", func(t *testing.T) {
		// Every sign that IAM allows in a name, and names that begin alike.
		for _, user := range []string{"a", "a.b", "a_b+c=d,e@f-g", strings.Repeat("x", 64)} {
			f.save(t, rotator.Record{User: user, Reason: "because of " + user})
		}
		for _, user := range []string{"a", "a.b", "a_b+c=d,e@f-g", strings.Repeat("x", 64)} {
			if r := f.load(t, user); r.User != user || r.Reason != "because of "+user {
				t.Errorf("the record of %s is %+v", user, r)
			}
		}
	})
}

func compareAndSwap(t *testing.T, f JournalFixture) {
	t.Run("every save makes a newer version", func(t *testing.T) {
		r := rotator.Record{User: "svc-version"}
		for i := range 3 {
			saved := f.save(t, r)
			if saved.Version <= r.Version || f.load(t, "svc-version").Version != saved.Version {
				t.Fatalf("save %d turned version %d into %d", i, r.Version, saved.Version)
			}
			r = saved
		}
	})
	t.Run("a save over a newer version is a conflict and changes nothing", func(t *testing.T) {
		old := f.save(t, rotator.Record{User: "svc-conflict", Lease: rotator.Lease{Owner: "one"}})
		newer := old
		newer.Lease.Owner, newer.Reason = "two", "newer"
		newer = f.save(t, newer)
		old.Reason = "older"
		f.conflict(t, old)
		if diff := cmp.Diff(newer, f.load(t, "svc-conflict")); diff != "" {
			t.Errorf("the record changed (-want +got):\n%s", diff)
		}
	})
	t.Run("a first save where there is a record already is a conflict", func(t *testing.T) {
		f.save(t, rotator.Record{User: "svc-first", Lease: rotator.Lease{Owner: "one"}})
		f.conflict(t, rotator.Record{User: "svc-first", Lease: rotator.Lease{Owner: "two"}})
	})
	t.Run("a save of a version that never was is a conflict", func(t *testing.T) {
		f.conflict(t, rotator.Record{User: "svc-never", Version: 7})
		r := f.save(t, rotator.Record{User: "svc-ahead"})
		r.Version++
		f.conflict(t, r)
	})
	t.Run("the same owner's older version is a conflict, too", func(t *testing.T) {
		r := f.save(t, rotator.Record{User: "svc-owner", Lease: rotator.Lease{Owner: "one"}})
		next := r
		next.Reason = "next"
		f.save(t, next)
		r.Reason = "another"
		f.conflict(t, r)
	})
	t.Run("of saves that race exactly one wins", func(t *testing.T) {
		for _, base := range []rotator.Record{{User: "svc-race"}, f.save(t, rotator.Record{User: "svc-race-next"})} {
			errs := make([]error, 8)
			var all sync.WaitGroup
			for i := range errs {
				r := base
				r.Lease.Owner = fmt.Sprintf("run-%d", i)
				all.Go(func() { _, errs[i] = f.Journal.Save(t.Context(), r) })
			}
			all.Wait()
			won := slices.IndexFunc(errs, func(err error) bool { return err == nil })
			if won < 0 {
				t.Fatalf("nobody won: %v", errs)
			}
			for i, err := range errs {
				if i != won && !errors.Is(err, rotator.ErrConflict) {
					t.Errorf("run %d won, and run %d got %v", won, i, err)
				}
			}
			if owner := f.load(t, base.User).Lease.Owner; owner != fmt.Sprintf("run-%d", won) {
				t.Errorf("run %d won, and the record is that of %s", won, owner)
			}
		}
	})
}

func inFlight(t *testing.T, f JournalFixture) {
	t.Run("an empty journal has nothing in flight", func(t *testing.T) {
		if got := f.flying(t); len(got) != 0 {
			t.Errorf("in flight are %v", got)
		}
	})
	t.Run("records in flight are listed whole, idle ones not", func(t *testing.T) {
		f.save(t, rotator.Record{User: "svc-idle", Phase: rotator.PhaseIdle})
		f.save(t, rotator.Record{User: "svc-blank"})
		full := f.save(t, fullRecord("svc-flying"))
		f.eventually(t, "svc-flying")
		list, err := f.Journal.InFlight(t.Context())
		if err != nil || len(list) != 1 {
			t.Fatalf("in flight are %v, %v", list, err)
		}
		if diff := cmp.Diff(full, list[0]); diff != "" {
			t.Errorf("the record listed is another one (-want +got):\n%s", diff)
		}
		full.Phase = rotator.PhaseIdle
		f.save(t, full)
		f.eventually(t)
	})
	t.Run("all of many are listed", func(t *testing.T) {
		var want []string
		long := strings.Repeat("a long error. ", 3000) // 30 such records are more than a page of any store
		for i := range 30 {
			user := fmt.Sprintf("svc-many-%02d", i)
			f.save(t, rotator.Record{User: user, Phase: rotator.PhaseRetiring, LastError: long})
			want = append(want, user)
		}
		f.eventually(t, want...)
	})
}

func history(t *testing.T, f JournalFixture) {
	entry := func(user string, start time.Time, reason string) rotator.Entry {
		return rotator.Entry{User: user, StartedAt: start, Result: rotator.Result{Status: rotator.StatusRotated, Reason: reason, User: user}}
	}
	t.Run("what is appended stays, in order, and only for its user", func(t *testing.T) {
		recent := time.Now().UTC().Truncate(time.Second)
		want := []rotator.Entry{
			// 399 days: still within the 400 that are promised.
			entry("svc-history", recent.Add(-399*24*time.Hour), "long ago"),
			entry("svc-history", recent.Add(-time.Second), "a second ago"),
			entry("svc-history", recent, "now"),
			entry("svc-history", recent.Add(time.Millisecond), "within the same second"),
		}
		for _, i := range []int{2, 0, 3, 1} {
			f.append(t, want[i])
		}
		f.append(t, entry("svc-history-of-another", recent, "another"))
		if diff := cmp.Diff(want, f.History(t, "svc-history")); diff != "" {
			t.Errorf("the history is another one (-want +got):\n%s", diff)
		}
	})
	t.Run("of one rotation there is one entry, the last", func(t *testing.T) {
		recent := time.Now().UTC()
		want := entry("svc-history-again", recent, "again")
		f.append(t, entry("svc-history-again", recent, "at first"))
		f.append(t, want)
		if diff := cmp.Diff([]rotator.Entry{want}, f.History(t, "svc-history-again")); diff != "" {
			t.Errorf("the history is another one (-want +got):\n%s", diff)
		}
	})
	t.Run("history and record do not touch each other", func(t *testing.T) {
		r := f.save(t, fullRecord("svc-both"))
		f.append(t, entry("svc-both", time.Now().UTC(), "x"))
		if diff := cmp.Diff(r, f.load(t, "svc-both")); diff != "" {
			t.Errorf("the record changed (-want +got):\n%s", diff)
		}
		f.save(t, r)
		if n := len(f.History(t, "svc-both")); n != 1 {
			t.Errorf("the history has %d entries", n)
		}
	})
}

func lostReplies(t *testing.T, f JournalFixture) {
	if f.LoseReply == nil {
		t.Skip("this implementation has no reply to lose")
	}
	t.Run("a save whose reply was lost is recognised as saved", func(t *testing.T) {
		r := rotator.Record{User: "svc-lost", Lease: rotator.Lease{Owner: "one/1"}}
		for range 2 { // the first save, and one that replaces it
			f.LoseReply(t)
			saved, err := f.Journal.Save(t.Context(), r)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(saved, f.load(t, "svc-lost")); diff != "" {
				t.Errorf("Save and Load differ (-saved +loaded):\n%s", diff)
			}
			r = saved
		}
	})
	t.Run("a conflict stays a conflict", func(t *testing.T) {
		r := f.save(t, rotator.Record{User: "svc-lost-conflict", Lease: rotator.Lease{Owner: "one/1"}})
		f.save(t, r)
		r.Lease.Owner = "two/2"
		f.LoseReply(t)
		f.conflict(t, r)
	})
}

func (f JournalFixture) load(t testing.TB, user string) rotator.Record {
	t.Helper()
	r, err := f.Journal.Load(t.Context(), user)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// save saves, as every run does: with an owner of its own.
func (f JournalFixture) save(t testing.TB, r rotator.Record) rotator.Record {
	t.Helper()
	if r.Lease.Owner == "" {
		r.Lease.Owner = "contract/" + rand.Text()
	}
	saved, err := f.Journal.Save(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	return saved
}

func (f JournalFixture) append(t testing.TB, e rotator.Entry) {
	t.Helper()
	if err := f.Journal.Append(t.Context(), e); err != nil {
		t.Fatal(err)
	}
}

func (f JournalFixture) conflict(t testing.TB, r rotator.Record) {
	t.Helper()
	if saved, err := f.Journal.Save(t.Context(), r); !errors.Is(err, rotator.ErrConflict) {
		t.Errorf("saving version %d of %s: got version %d, %v; want a conflict", r.Version, r.User, saved.Version, err)
	}
}

func (f JournalFixture) flying(t testing.TB) []string {
	t.Helper()
	list, err := f.Journal.InFlight(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var users []string
	for _, r := range list {
		users = append(users, r.User)
	}
	return sorted(users...)
}

// eventually waits until exactly these users are in flight: the list may be as it was
// moments ago.
func (f JournalFixture) eventually(t testing.TB, users ...string) {
	t.Helper()
	var got []string
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if got = f.flying(t); slices.Equal(got, users) {
			return
		}
	}
	t.Fatalf("in flight are %v, want %v", got, users)
}

// fullRecord is a record in flight in which everything that is kept has a value of
// its own, also what is added to rotator.Record one day.
func fullRecord(user string) rotator.Record {
	var r rotator.Record
	n := 0
	fill(reflect.ValueOf(&r).Elem(), &n)
	r.User, r.Version, r.Phase = user, 0, rotator.PhaseRetiring
	return r
}

// fill gives v and all in it values that differ, except for what JSON leaves out.
func fill(v reflect.Value, n *int) {
	*n++
	if v.Type() == reflect.TypeFor[time.Time]() {
		v.Set(reflect.ValueOf(time.Date(2126, 11, 21, 20, 0, *n, 123456789, time.UTC)))
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(fmt.Sprintf("value %d, \"so to say\" – äöü", *n))
	case reflect.Int, reflect.Int64:
		v.SetInt(int64(*n))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fill(v.Index(0), n)
		fill(v.Index(1), n)
	case reflect.Map: // of anything, as it reads from JSON
		v.Set(reflect.ValueOf(map[string]any{"text": "ä", "number": float64(*n), "truth": true, "list": []any{"a", "b"}}))
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), n)
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).Tag.Get("json") != "-" {
				fill(v.Field(i), n)
			}
		}
	default:
		panic("contract: the suite cannot make a " + v.Type().String())
	}
}
