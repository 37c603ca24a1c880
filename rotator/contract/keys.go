package contract

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"credential-rotator/rotator"
)

// KeysFixture is an IAM to try rotator.Users and rotator.Keys on. Everything but the
// two ports prepares it as only a test can, and fails the test when it cannot.
type KeysFixture struct {
	Users rotator.Users
	Keys  rotator.Keys
	// AddUser makes a user, with tags.
	AddUser func(t testing.TB, name string, tags map[string]string)
	// RemoveUser removes a user that has neither keys nor policies.
	RemoveUser func(t testing.TB, name string)
	// AttachPolicy attaches a managed policy of this name to a user.
	AttachPolicy func(t testing.TB, user, policy string)
	// Use calls AWS with a pair, and returns when IAM remembers that.
	Use func(t testing.TB, pair rotator.KeyPair)
	// Works tells whether AWS accepts a pair by now: it returns when the changes made
	// to the key so far have spread.
	Works func(t testing.TB, pair rotator.KeyPair) bool
}

// Keys pins what rotator.Users and rotator.Keys promise.
func Keys(t *testing.T, open func(testing.TB) KeysFixture) {
	t.Run("users", func(t *testing.T) { users(t, open(t)) })
	t.Run("last used", func(t *testing.T) { lastUsed(t, open(t)) })
	t.Run("keys", func(t *testing.T) { keys(t, open(t)) })
}

func users(t *testing.T, f KeysFixture) {
	t.Run("a user is described by name, ARN, unique id and binding", func(t *testing.T) {
		f.AddUser(t, "svc-described", map[string]string{"team": "x", "credential-rotator:project-ids": "4711 4712"})
		u := f.user(t, "svc-described")
		if u.Name != "svc-described" || !strings.HasSuffix(u.ARN, ":user/svc-described") || u.UniqueID == "" {
			t.Errorf("the user is %+v", u)
		}
		if u.Binding != "4711 4712" {
			t.Errorf("the binding is %q", u.Binding)
		}
	})
	t.Run("a user without the tag is bound to nothing", func(t *testing.T) {
		f.AddUser(t, "svc-unbound", map[string]string{"project-ids": "4711"})
		if u := f.user(t, "svc-unbound"); u.Binding != "" {
			t.Errorf("the binding is %q", u.Binding)
		}
	})
	t.Run("the case of the tag's key does not matter", func(t *testing.T) {
		f.AddUser(t, "svc-case", map[string]string{"Credential-Rotator:Project-IDs": "7"})
		if u := f.user(t, "svc-case"); u.Binding != "7" {
			t.Errorf("the binding is %q", u.Binding)
		}
	})
	t.Run("a user that nobody made is not found", func(t *testing.T) {
		if _, err := f.Users.User(t.Context(), "svc-nobody"); !errors.Is(err, rotator.ErrNotFound) {
			t.Errorf("the error is %v", err)
		}
	})
	t.Run("a user made anew under the same name is another one", func(t *testing.T) {
		f.AddUser(t, "svc-twice", nil)
		first := f.user(t, "svc-twice")
		if again := f.user(t, "svc-twice"); again.UniqueID != first.UniqueID {
			t.Errorf("one user has the unique ids %s and %s", first.UniqueID, again.UniqueID)
		}
		f.RemoveUser(t, "svc-twice")
		f.AddUser(t, "svc-twice", nil)
		if second := f.user(t, "svc-twice"); second.UniqueID == first.UniqueID {
			t.Errorf("both are %s", first.UniqueID)
		}
	})
	t.Run("the policies of a quarantine are named and no others", func(t *testing.T) {
		f.AddUser(t, "svc-leaked", nil)
		if u := f.user(t, "svc-leaked"); len(u.Quarantine) != 0 {
			t.Errorf("without a policy the quarantine is %q", u.Quarantine)
		}
		f.AttachPolicy(t, "svc-leaked", "deploy")
		f.AttachPolicy(t, "svc-leaked", "AWSCompromisedKeyQuarantineV2")
		if u := f.user(t, "svc-leaked"); !slices.Equal(u.Quarantine, []string{"AWSCompromisedKeyQuarantineV2"}) {
			t.Errorf("the quarantine is %q", u.Quarantine)
		}
	})
	t.Run("the time of the answer is on the clock that dates keys", func(t *testing.T) {
		f.AddUser(t, "svc-clock", nil)
		before := f.user(t, "svc-clock").At
		pair := f.create(t, "svc-clock")
		after := f.user(t, "svc-clock").At
		if before.IsZero() || before.Nanosecond() != 0 || before.Location() != time.UTC {
			t.Errorf("the time is %v, not a whole second of UTC", before)
		}
		made := f.key(t, "svc-clock", pair.ID).CreatedAt
		if made.Before(before) || made.After(after) {
			t.Errorf("a key made between %v and %v is dated %v", before, after, made)
		}
	})
}

func lastUsed(t *testing.T, f KeysFixture) {
	t.Run("a key that was never used has no last use", func(t *testing.T) {
		f.AddUser(t, "svc-unused", nil)
		used, err := f.Users.LastUsed(t.Context(), f.create(t, "svc-unused").ID)
		if err != nil || used != (rotator.LastUse{}) {
			t.Errorf("the last use is %+v, %v", used, err)
		}
	})
	t.Run("a key that was used tells when, for what and where", func(t *testing.T) {
		f.AddUser(t, "svc-used", nil)
		pair := f.create(t, "svc-used")
		f.Use(t, pair)
		used, err := f.Users.LastUsed(t.Context(), pair.ID)
		if err != nil || used.At.IsZero() || used.Service == "" || used.Region == "" {
			t.Errorf("the last use is %+v, %v", used, err)
		}
		// IAM may count in quarters of an hour.
		if made := f.key(t, "svc-used", pair.ID).CreatedAt; used.At.Before(made.Add(-15 * time.Minute)) {
			t.Errorf("the key was made at %v and used at %v", made, used.At)
		}
	})
}

func keys(t *testing.T, f KeysFixture) {
	t.Run("a new user has no keys", func(t *testing.T) {
		f.AddUser(t, "svc-new", nil)
		if list := f.list(t, "svc-new"); len(list) != 0 {
			t.Errorf("the keys are %v", list)
		}
	})
	t.Run("the keys of a user that nobody made are not found", func(t *testing.T) {
		if _, err := f.Keys.List(t.Context(), "svc-nobody"); !errors.Is(err, rotator.ErrNotFound) {
			t.Errorf("the error is %v", err)
		}
	})
	t.Run("a created key is listed as active and works", func(t *testing.T) {
		f.AddUser(t, "svc-created", nil)
		pair := f.create(t, "svc-created")
		key := f.key(t, "svc-created", pair.ID)
		if key.Status != rotator.KeyActive {
			t.Errorf("the status is %s", key.Status)
		}
		if key.CreatedAt.IsZero() || key.CreatedAt.Nanosecond() != 0 || key.CreatedAt.Location() != time.UTC {
			t.Errorf("it was created at %v, not a whole second of UTC", key.CreatedAt)
		}
		if !f.Works(t, pair) {
			t.Error("it does not work")
		}
	})
	t.Run("each key has its own id and secret", func(t *testing.T) {
		f.AddUser(t, "svc-two", nil)
		one, two := f.create(t, "svc-two"), f.create(t, "svc-two")
		if one.ID == two.ID || one.Secret == two.Secret {
			t.Errorf("the keys are %s and %s", one.ID, two.ID)
		}
		if got := f.ids(t, "svc-two"); !cmp.Equal(got, sorted(one.ID, two.ID)) {
			t.Errorf("the keys listed are %v", got)
		}
	})
	t.Run("a create that is refused is marked so and makes no key", func(t *testing.T) {
		f.AddUser(t, "svc-full", nil)
		want := sorted(f.create(t, "svc-full").ID, f.create(t, "svc-full").ID)
		_, err := f.Keys.Create(t.Context(), "svc-full")
		if !errors.Is(err, rotator.ErrRefused) {
			t.Errorf("the error of a third key is %v", err)
		}
		if got := f.ids(t, "svc-full"); !cmp.Equal(got, want) {
			t.Errorf("the keys were %v and are %v", want, got)
		}
		// That there is no such user says as much.
		_, err = f.Keys.Create(t.Context(), "svc-nobody")
		if !errors.Is(err, rotator.ErrRefused) && !errors.Is(err, rotator.ErrNotFound) {
			t.Errorf("the error of a key for nobody is %v", err)
		}
	})
	t.Run("a deactivated key is listed as inactive and does not work", func(t *testing.T) {
		f.AddUser(t, "svc-inactive", nil)
		pair, other := f.create(t, "svc-inactive"), f.create(t, "svc-inactive")
		for range 2 { // the second time changes nothing
			f.ok(t, f.Keys.Deactivate(t.Context(), "svc-inactive", pair.ID))
			if key := f.key(t, "svc-inactive", pair.ID); key.Status != rotator.KeyInactive {
				t.Errorf("the status is %s", key.Status)
			}
		}
		if f.Works(t, pair) {
			t.Error("it works")
		}
		if key := f.key(t, "svc-inactive", other.ID); key.Status != rotator.KeyActive || !f.Works(t, other) {
			t.Errorf("the other key is %s, or does not work", key.Status)
		}
	})
	t.Run("a deleted key is gone, active or not", func(t *testing.T) {
		f.AddUser(t, "svc-deleted", nil)
		active, inactive := f.create(t, "svc-deleted"), f.create(t, "svc-deleted")
		f.ok(t, f.Keys.Deactivate(t.Context(), "svc-deleted", inactive.ID))
		f.ok(t, f.Keys.Delete(t.Context(), "svc-deleted", inactive.ID))
		if got := f.ids(t, "svc-deleted"); !cmp.Equal(got, []string{active.ID}) {
			t.Errorf("the keys listed are %v", got)
		}
		f.ok(t, f.Keys.Delete(t.Context(), "svc-deleted", active.ID))
		if got := f.ids(t, "svc-deleted"); len(got) != 0 {
			t.Errorf("the keys listed are %v", got)
		}
		if f.Works(t, active) || f.Works(t, inactive) {
			t.Error("a deleted key works")
		}
	})
	t.Run("to deactivate or delete a key that is gone is no error", func(t *testing.T) {
		f.AddUser(t, "svc-gone", nil)
		pair := f.create(t, "svc-gone")
		f.ok(t, f.Keys.Delete(t.Context(), "svc-gone", pair.ID))
		f.ok(t, f.Keys.Delete(t.Context(), "svc-gone", pair.ID))
		f.ok(t, f.Keys.Deactivate(t.Context(), "svc-gone", pair.ID))
	})
	t.Run("a key of another user is left alone", func(t *testing.T) {
		f.AddUser(t, "svc-mine", nil)
		f.AddUser(t, "svc-theirs", nil)
		pair := f.create(t, "svc-theirs")
		// Whether this is an error is not promised: IAM's code for it is that of a key
		// that is gone.
		_ = f.Keys.Deactivate(t.Context(), "svc-mine", pair.ID)
		_ = f.Keys.Delete(t.Context(), "svc-mine", pair.ID)
		if key := f.key(t, "svc-theirs", pair.ID); key.Status != rotator.KeyActive {
			t.Errorf("the status is %s", key.Status)
		}
	})
}

func (f KeysFixture) user(t testing.TB, name string) rotator.User {
	t.Helper()
	u, err := f.Users.User(t.Context(), name)
	f.ok(t, err)
	return u
}

func (f KeysFixture) create(t testing.TB, user string) rotator.KeyPair {
	t.Helper()
	pair, err := f.Keys.Create(t.Context(), user)
	f.ok(t, err)
	if pair.ID == "" || pair.Secret.Empty() {
		t.Fatal("the new key has no id or no secret")
	}
	return pair
}

func (f KeysFixture) list(t testing.TB, user string) []rotator.AccessKey {
	t.Helper()
	list, err := f.Keys.List(t.Context(), user)
	f.ok(t, err)
	return list
}

func (f KeysFixture) ids(t testing.TB, user string) []string {
	t.Helper()
	var ids []string
	for _, key := range f.list(t, user) {
		ids = append(ids, key.ID)
	}
	return sorted(ids...)
}

func (f KeysFixture) key(t testing.TB, user, id string) rotator.AccessKey {
	t.Helper()
	for _, key := range f.list(t, user) {
		if key.ID == id {
			return key
		}
	}
	t.Fatalf("key %s of %s is not listed", id, user)
	return rotator.AccessKey{}
}

func (f KeysFixture) ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func sorted(ids ...string) []string {
	slices.Sort(ids)
	return ids
}
