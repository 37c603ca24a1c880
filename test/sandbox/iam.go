package sandbox

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"credential-rotator/rotator"
)

// BindingTag is the tag that binds a user to GitLab projects.
const BindingTag = "credential-rotator:project-ids"

// awsError is a refusal of IAM or STS, as the query protocol tells it.
type awsError struct {
	status  int
	code    string
	message string
}

func (e *awsError) Error() string { return e.code + ": " + e.message }

func noSuchUser(name string) *awsError {
	return &awsError{http.StatusNotFound, "NoSuchEntity", "The user with name " + name + " cannot be found."}
}

func noSuchKey(id string) *awsError {
	return &awsError{http.StatusNotFound, "NoSuchEntity", "The Access Key with id " + id + " cannot be found."}
}

func invalidClientToken() *awsError {
	return &awsError{http.StatusForbidden, "InvalidClientTokenId", "The security token included in the request is invalid."}
}

func signatureDoesNotMatch() *awsError {
	return &awsError{http.StatusForbidden, "SignatureDoesNotMatch", "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details."}
}

// User is how an IAM user is to be made.
type User struct {
	Name     string
	Path     string // "" is /
	Tags     map[string]string
	Policies []string // names of attached AWS managed policies
}

type user struct {
	User
	id      string // AIDA…: two users of the same name, one after the other, differ in it
	created time.Time
}

type accessKey struct {
	id, secret string
	owner      *user
	status     rotator.KeyStatus
	gone       bool
	created    time.Time // whole seconds, as IAM tells it
	madeAt     time.Time
	knownFrom  time.Time // when it authenticates
	goneAt     time.Time // when it was deleted
	listedFrom time.Time // when ListAccessKeys shows it
	lastUse    rotator.LastUse

	// What the judge needs to know.
	mine      bool // a rotator made it
	retirable bool // it was published when a rotation of its user began
	allowed   bool // a test allowed it to be touched
	retired   bool // the rotator switched it off
	reclaimed int  // when a person switched it on again after that
	broken    int  // when a person deleted it or switched it off
	revived   int  // when a person switched it on
}

func (w *World) arn(u *user) string {
	return "arn:aws:iam::" + w.opts.AccountID + ":user" + u.Path + u.Name
}

func (w *World) findUser(name string) (*user, error) {
	u := w.users[strings.ToLower(name)]
	if u == nil {
		return nil, noSuchUser(name)
	}
	return u, nil
}

// createUser makes a user with a unique id of its own.
func (w *World) createUser(spec User) (*user, error) {
	if _, err := w.findUser(spec.Name); err == nil {
		return nil, &awsError{http.StatusConflict, "EntityAlreadyExists", "User with name " + spec.Name + " already exists."}
	}
	if spec.Path == "" {
		spec.Path = "/"
	}
	tags := map[string]string{}
	for key, value := range spec.Tags {
		tags[key] = value
	}
	spec.Tags = tags
	u := &user{User: spec, id: "AIDA" + w.random("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", 17), created: w.now.Truncate(time.Second)}
	w.users[strings.ToLower(spec.Name)] = u
	return u, nil
}

// deleteUser refuses while the user has keys (IAM API reference, DeleteUser).
func (w *World) deleteUser(name string) error {
	u, err := w.findUser(name)
	if err != nil {
		return err
	}
	if len(w.keysOf(u)) > 0 {
		return &awsError{http.StatusConflict, "DeleteConflict", "Cannot delete entity, must delete access keys first."}
	}
	delete(w.users, strings.ToLower(name))
	return nil
}

// tagUser adds tags. Their keys are unique without regard to case, and keep the
// case they came in last (IAM user guide, Tags for IAM resources).
func (w *World) tagUser(name string, tags map[string]string) error {
	u, err := w.findUser(name)
	if err != nil {
		return err
	}
	for key, value := range tags {
		for old := range u.Tags {
			if strings.EqualFold(old, key) {
				delete(u.Tags, old)
			}
		}
		u.Tags[key] = value
	}
	return nil
}

func (u *user) tag(key string) string {
	for k, value := range u.Tags {
		if strings.EqualFold(k, key) {
			return value
		}
	}
	return ""
}

// keysOf are the user's keys as they are, not as a list may still tell.
func (w *World) keysOf(u *user) []*accessKey {
	var keys []*accessKey
	for _, k := range w.keys {
		if k.owner == u && !k.gone {
			keys = append(keys, k)
		}
	}
	return keys
}

// listKeys are the user's keys as ListAccessKeys tells them now.
func (w *World) listKeys(name string) ([]*accessKey, error) {
	u, err := w.findUser(name)
	if err != nil {
		return nil, err
	}
	var listed []*accessKey
	for _, k := range w.keys {
		if late := w.now.Before(k.goneAt.Add(w.opts.DeleteLag)); k.owner == u && !w.now.Before(k.listedFrom) && (!k.gone || late) {
			listed = append(listed, k)
		}
	}
	return listed, nil
}

// keyLimit is AccessKeysPerUser, which cannot be raised. Inactive keys count
// (IAM user guide, IAM and STS quotas).
const keyLimit = 2

func (w *World) createKey(name string) (*accessKey, error) {
	u, err := w.findUser(name)
	if err != nil {
		return nil, err
	}
	counted := slices.DeleteFunc(w.keysOf(u), func(k *accessKey) bool {
		return w.now.Before(k.madeAt.Add(w.opts.CreateRace))
	})
	if len(counted) >= keyLimit {
		return nil, &awsError{http.StatusConflict, "LimitExceeded", fmt.Sprintf("Cannot exceed quota for AccessKeysPerUser: %d", keyLimit)}
	}
	id := w.newKeyID()
	k := &accessKey{
		id:         id,
		secret:     w.newSecret("the secret of " + id),
		owner:      u,
		status:     rotator.KeyActive,
		created:    w.now.Truncate(time.Second),
		madeAt:     w.now,
		knownFrom:  w.now.Add(w.opts.PropagationDelay),
		listedFrom: w.now.Add(w.opts.ListLag),
	}
	w.keys = append(w.keys, k)
	return k, nil
}

// findKey finds a key of a user, or of any user when name is "".
func (w *World) findKey(name, id string) (*accessKey, error) {
	if name != "" {
		if _, err := w.findUser(name); err != nil {
			return nil, err
		}
	}
	for _, k := range w.keys {
		if k.id == id && !k.gone && (name == "" || strings.EqualFold(k.owner.Name, name)) {
			return k, nil
		}
	}
	return nil, noSuchKey(id)
}

func (w *World) updateKey(name, id string, status rotator.KeyStatus) error {
	k, err := w.findKey(name, id)
	if err != nil {
		return err
	}
	if status != rotator.KeyActive && status != rotator.KeyInactive {
		return &awsError{http.StatusBadRequest, "ValidationError", "status must be Active or Inactive"}
	}
	k.status = status
	return nil
}

func (w *World) deleteKey(name, id string) error {
	k, err := w.findKey(name, id)
	if err != nil {
		return err
	}
	k.gone, k.goneAt = true, w.now
	return nil
}

// keyWorks tells whether a pair authenticates now, without any trace of asking.
func (w *World) keyWorks(id, secret string) (*accessKey, error) {
	k, err := w.findKey("", id)
	if err != nil || k.status != rotator.KeyActive || w.now.Before(k.knownFrom) {
		return nil, invalidClientToken()
	}
	if secret != k.secret {
		return nil, signatureDoesNotMatch()
	}
	return k, nil
}

// authenticate is a use of a pair: a successful one is remembered, and so is a
// key that was not known, for a while, even if it becomes known meanwhile
// (awsteele.com, 2021: services keep refusing for about 5 s).
func (w *World) authenticate(id, secret, service, region string) (*user, error) {
	if w.now.Before(w.refused[id]) {
		return nil, invalidClientToken()
	}
	k, err := w.keyWorks(id, secret)
	if err != nil {
		if w.opts.NegativeCache > 0 && err.Error() == invalidClientToken().Error() {
			w.refused[id] = w.now.Add(w.opts.NegativeCache)
		}
		return nil, err
	}
	w.used(k, service, region)
	return k.owner, nil
}

// used remembers a use. Of several within a quarter of an hour only the first is
// recorded (IAM user guide, credential reports).
func (w *World) used(k *accessKey, service, region string) {
	if k.lastUse.At.IsZero() || w.now.Sub(k.lastUse.At) >= 15*time.Minute {
		k.lastUse = rotator.LastUse{At: w.now.Truncate(time.Second), Service: service, Region: region}
	}
}
