package rotator

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// What an error of a port may mean beyond "it went wrong". Adapters wrap these
// with the service's own words; every other error means that the outcome is not
// known: a write may have been applied, or may still be.
var (
	// ErrNotFound: the user or the key asked for does not exist.
	ErrNotFound = errors.New("not found")
	// ErrRefused: the service received the call and refused it. It was not applied.
	ErrRefused = errors.New("refused")
	// ErrConflict: the journal holds a newer version of the record than the one
	// that was to be replaced. Nothing was saved.
	ErrConflict = errors.New("another run has saved this record since")
)

// Users tells what IAM knows about a user. It only reads.
type Users interface {
	// User describes one user, or fails with ErrNotFound.
	User(ctx context.Context, name string) (User, error)
	// LastUsed tells when a key was last used. IAM lags by hours, counts in
	// quarters of an hour and remembers one use: the answer may forbid, never permit. For
	// a key that does not exist it fails, with ErrNotFound if IAM may say so.
	LastUsed(ctx context.Context, keyID string) (LastUse, error)
}

// User is an IAM user as the rotation needs to know it.
type User struct {
	Name string `json:"name"`
	ARN  string `json:"arn"`
	// UniqueID (AIDA…) tells two users apart that had the same name one after the other.
	UniqueID string `json:"unique_id"`
	// Binding is the tag credential-rotator:project-ids, as written; "" without one.
	Binding string `json:"binding"`
	// Quarantine names the AWSCompromisedKeyQuarantine policies attached to the user.
	Quarantine []string `json:"quarantine"`
	// At is IAM's own time when it answered, in whole seconds.
	At time.Time `json:"at"`
}

// LastUse is the last use of a key that IAM remembers. The zero LastUse means never.
type LastUse struct {
	At      time.Time `json:"at,omitzero"`
	Service string    `json:"service"`
	Region  string    `json:"region"`
}

// Keys is the life of a user's access keys.
type Keys interface {
	// List returns all keys of the user. There may be more than two, and a key
	// just made may be missing.
	List(ctx context.Context, user string) ([]AccessKey, error)
	// Create makes a key. It is sent once. Any error says nothing: the key may
	// exist, and then nobody knows its secret.
	Create(ctx context.Context, user string) (KeyPair, error)
	// Deactivate makes a key Inactive. A key that is gone is not an error.
	Deactivate(ctx context.Context, user, keyID string) error
	// Delete removes a key for good. A key that is gone is not an error.
	Delete(ctx context.Context, user, keyID string) error
}

// KeyStatus is IAM's word for the state of a key.
type KeyStatus string

// The states of a key. Only an Active one authenticates.
const (
	KeyActive   KeyStatus = "Active"
	KeyInactive KeyStatus = "Inactive"
	KeyExpired  KeyStatus = "Expired"
)

// AccessKey is what IAM tells about a key: everything but its secret.
type AccessKey struct {
	ID        string    `json:"id"`
	Status    KeyStatus `json:"status"`
	CreatedAt time.Time `json:"created_at"` // IAM's clock, whole seconds
}

// KeyPair is a new key with its secret, which exists nowhere else.
type KeyPair struct {
	ID     string
	Secret Secret
}

// Prober tells whether a pair authenticates.
type Prober interface {
	// Probe asks every configured region once, each on a fresh connection, who
	// the pair is. Any error means: not yet everywhere.
	Probe(ctx context.Context, pair KeyPair) (Identity, error)
}

// Identity is who a pair authenticates as.
type Identity struct{ ARN string }

// Place is where a pair is published: two variables of one project or group in one
// scope or, with File, one variable that holds a credentials file.
type Place struct {
	ProjectID        int64  `json:"project_id,omitempty"`
	GroupID          int64  `json:"group_id,omitempty"` // instead of a project
	EnvironmentScope string `json:"environment_scope"`  // matched exactly; "*" is a scope like any other
	KeyIDVariable    string `json:"access_key_id_variable,omitempty"`
	SecretVariable   string `json:"secret_access_key_variable,omitempty"`
	File             string `json:"credentials_file_variable,omitempty"`
	Profile          string `json:"profile,omitempty"`
}

// Owner is whose the variables are, as a person would say it.
func (p Place) Owner() string {
	if p.GroupID != 0 {
		return fmt.Sprintf("group %d", p.GroupID)
	}
	return fmt.Sprintf("project %d", p.ProjectID)
}

// String is the place as a person would say it.
func (p Place) String() string {
	names := p.Variables()
	slices.Reverse(names) // the key id is what people look for
	return fmt.Sprintf("%s [%s] of %s", strings.Join(names, " and "), p.EnvironmentScope, p.Owner())
}

// binding is how a user's tag names it.
func (p Place) binding() string {
	if p.GroupID != 0 {
		return fmt.Sprintf("group:%d", p.GroupID)
	}
	return fmt.Sprint(p.ProjectID)
}

// Variables are the names of its variables, the one that makes it whole last.
func (p Place) Variables() []string {
	if p.File != "" {
		return []string{p.File}
	}
	return []string{p.SecretVariable, p.KeyIDVariable}
}

// overlaps tells whether two places share a variable.
func (p Place) overlaps(q Place) bool {
	same := p.ProjectID == q.ProjectID && p.GroupID == q.GroupID && p.EnvironmentScope == q.EnvironmentScope
	return same && slices.ContainsFunc(p.Variables(), func(name string) bool { return slices.Contains(q.Variables(), name) })
}

// Part is a part of a pair that is written at once.
type Part string

// The parts, in the order in which they are written. With the file, where the pair is
// published as one, everything is written at once.
const (
	PartSecret Part = "secret"
	PartKeyID  Part = "key_id"
)

// Destination is where pairs are published.
type Destination interface {
	// Preflight reads everything that could keep a rotation from succeeding, what is
	// published among it, and what jobs would get instead of it. What a person can mend
	// is a fault or a warning, in words; an error means that it could not look.
	// That what is live cannot be deployed again is told apart: there may be a fallback.
	Preflight(ctx context.Context, r Request) (Preflight, error)
	// Read tells what is published at each place, and where else in their projects and
	// groups.
	Read(ctx context.Context, places []Place) ([]Published, error)
	// Recover reads a published secret back, if the secret variable is stamped with the
	// key and not hidden. ErrRefused: it cannot be read.
	Recover(ctx context.Context, p Place, keyID string) (Secret, error)
	// Write puts one part of a pair into its variable, and stamps it with the pair's key
	// id. before is the variable as read, or as it is to be made; of the key id, the
	// pair's secret is not needed, but for a file. It returns the moment from which every job that starts
	// gets what was written: GitLab's clock, rounded up to a second.
	// Writing the same pair twice is safe. ErrRefused: it was not applied.
	Write(ctx context.Context, p Place, part Part, before Variable, pair KeyPair) (time.Time, error)
}

// CheckState is what a look before anything is touched has found.
type CheckState string

// The states of a check.
const (
	CheckOK      CheckState = "ok"
	CheckWarning CheckState = "warning" // it will need somebody soon
	CheckFault   CheckState = "fault"   // a rotation would not succeed
)

// Check is one thing that was looked at before anything is touched.
type Check struct {
	Name   string     `json:"check"` // what was looked at
	State  CheckState `json:"state"`
	Detail string     `json:"detail"` // what was found; of a fault or warning, what to do
}

// Preflight is what was found before anything is touched.
type Preflight struct {
	Checks []Check
	// ReadOnly: the token may look (plan) but not rotate.
	ReadOnly bool
	Turns    []TurnPreflight // of Request.Turns, as far as they were looked at
	// Published is what Read tells of the request's places; nil when a fault kept it from
	// being read.
	Published []Published
}

// TurnPreflight is what was found about one redeploy.
type TurnPreflight struct {
	// Ref is the branch or tag that a pipeline runs on: the request's, or the default
	// branch. When no pipeline may be run it was not looked at.
	Ref          string
	RefProtected bool
	// LiveRef is the branch or tag of what is live and is to be deployed again, ""
	// without such a thing.
	LiveRef          string
	LiveRefProtected bool
	// CannotRedeploy says why what is live cannot be deployed again, "" when it can.
	CannotRedeploy string
	// LiveCommit is the commit of what is live, "" when it is not known.
	LiveCommit string
	// Subgroups are those between the group that the key is published to and the
	// project, as far as their variables may be read: they outrank the group's.
	Subgroups []int64
}

// Found are the details of the checks of a state.
func (p Preflight) Found(state CheckState) []string {
	var found []string
	for _, c := range p.Checks {
		if c.State == state {
			found = append(found, c.Detail)
		}
	}
	return found
}

// Published is what the variables of a place hold.
type Published struct {
	KeyID  Variable `json:"key_id"`
	Secret Variable `json:"secret"`
	// Faults are sentences about the variables themselves: what keeps them from
	// being written, and what to do.
	Faults []string `json:"faults"`
	// Elsewhere are the other variables of the project or group that hold an access
	// key id, by value or by stamp, but for those of the places that were asked for.
	Elsewhere []Holding `json:"elsewhere"`
	// At is GitLab's own time of the answer, rounded up to a second.
	At time.Time `json:"at"`
}

// Variable is one CI/CD variable without its value; of a variable that does not
// exist, the way it is to be made.
type Variable struct {
	Exists    bool `json:"exists"`
	Hidden    bool `json:"hidden"`
	Masked    bool `json:"masked"`
	Protected bool `json:"protected"`
	// Value is the access key id that the key id variable holds; "" when it is
	// hidden, and always for the secret variable.
	Value string `json:"value"`
	// Claims is the key id that the stamp in the description names, "" without one.
	Claims string `json:"claims"`
	// Text is the description without the stamp.
	Text string `json:"text"`
}

// Holding is a variable that holds an access key id.
type Holding struct {
	Variable string `json:"variable"` // its name and scope, as a person would say it
	KeyID    string `json:"key_id"`
}

// Redeployer brings what is published to the running service.
type Redeployer interface {
	// Mark returns the project's newest pipeline and, with Live, its newest job.
	Mark(ctx context.Context, r Redeploy) (Mark, error)
	// Start starts a redeploy. After any error but ErrRefused it may be running:
	// Check finds it. With Live it looks what is live, and retries that job; when
	// somebody has done so already, it returns that retry. A *CannotRedeployError says
	// that it cannot be retried at all. It writes nothing once its context is over.
	Start(ctx context.Context, r Redeploy) (Deployment, error)
	// Check tells what has become of the redeploy. Without an ID it looks for the
	// one that a lost reply started. A deployment to the environment that began
	// after publishing serves as well, whoever made it.
	Check(ctx context.Context, r Redeploy) (Deployment, error)
	// Holders lists the running jobs that began before PublishedAt, and so may
	// hold the previous key, but for CallerJob.
	Holders(ctx context.Context, r Redeploy) ([]Job, error)
}

// Mark is how far a project's ids have come: what is above was made later.
type Mark struct {
	// Pipeline is the highest id of those that are nobody's children: the child of an
	// older one may be above it and yet older.
	Pipeline int64
	Job      int64 // the highest id of a job; 0: not asked for
}

// Unmarked is the mark of a project of which none was taken: nothing is later by order.
func Unmarked() Mark { return Mark{Pipeline: math.MaxInt64} }

// Tagger makes and removes the tags that a live commit is deployed from.
type Tagger interface {
	// Tag makes a tag at a commit. One that is there already, at this commit, is no
	// error. ErrRefused: there is none.
	Tag(ctx context.Context, projectID int64, name, commit string) error
	// Untag removes a tag. One that is gone is no error.
	Untag(ctx context.Context, projectID int64, name string) error
}

// Redeploy is what is asked of a Redeployer.
type Redeploy struct {
	ProjectID   int64
	Live        bool   // deploy again what is live in Environment, instead of a pipeline on Ref
	Ref         string // of the pipeline
	Inputs      map[string]any
	Variables   [2]string // the names of the pair's: a pipeline that was given its own keeps them
	Environment string    // whose deployment is the proof; "": the pipeline's success is
	PublishedAt time.Time // GitLab's clock
	Own         bool      // only what its own pipeline deploys is proof: another's deploys something else
	After       Mark      // what was newest after publishing, and before the redeploy was asked for
	ID          int64     // the pipeline or, with Live, the job that deploys; 0 when not known
	CallerJob   int64     // the job that waits for this rotation, 0 for none
	GroupID     int64     // of Holders: all projects of this group, instead of one
}

// CannotRedeployError says that what is live cannot be deployed again, and that nothing
// was started. It is an ErrRefused.
type CannotRedeployError struct {
	Why    string
	Commit string // of what is live, "" when that is not known
}

func (e *CannotRedeployError) Error() string { return e.Why }

// Is makes it an ErrRefused.
func (e *CannotRedeployError) Is(target error) bool { return target == ErrRefused }

// DeploymentState is what a status of GitLab means for a rotation.
type DeploymentState int

// The states of a deployment.
const (
	DeploymentNone    DeploymentState = iota // nothing was started
	DeploymentRunning                        // it will end by itself
	DeploymentBlocked                        // it waits for a person or a timer
	DeploymentSucceeded
	DeploymentFailed
)

// The kinds of a Deployment.
const (
	KindPipeline   = "pipeline"
	KindDeployment = "deployment"
)

// Deployment is a redeploy that was started, or one that serves as such.
type Deployment struct {
	Kind string `json:"kind"`
	// ID is that of the pipeline or, of a deployment, of the job that deploys: that is
	// what a person finds in GitLab. A deployment that no job made has its own.
	ID     int64  `json:"id"`
	URL    string `json:"url"`
	Status string `json:"status"` // GitLab's own word
	// State is what Status means; Detail says it to a person when the word alone does not.
	State  DeploymentState `json:"-"`
	Detail string          `json:"-"`
	// FinishedAt is when it succeeded, on GitLab's clock; zero before.
	FinishedAt time.Time `json:"-"`
}

// Name is the deployment as a person would say it.
func (d Deployment) Name() string {
	switch {
	case d.Kind == KindDeployment && !strings.Contains(d.URL, "/jobs/"): // or one that an earlier version noted
		return fmt.Sprintf("deployment %d", d.ID)
	case d.Kind == KindDeployment:
		return fmt.Sprintf("job %d", d.ID)
	}
	return fmt.Sprintf("%s %d", d.Kind, d.ID)
}

// Job is a CI job that is running.
type Job struct {
	ID   int64
	Name string
	URL  string
}

// Journal keeps one record per user, and the history beside it. One journal
// serves one AWS account. It makes runs efficient and exclusive; safety never
// rests on it alone.
type Journal interface {
	// Load returns the user's record, or a Record of Version 0 when there is none.
	// It is never stale.
	Load(ctx context.Context, user string) (Record, error)
	// Save replaces the record of exactly r.Version and returns it with its new
	// version, or fails with ErrConflict. After any other error it may have saved.
	Save(ctx context.Context, r Record) (Record, error)
	// InFlight lists the records whose phase is not idle, or as they were moments ago.
	InFlight(ctx context.Context) ([]Record, error)
	// Append adds to the history, which is kept for 400 days. Of one rotation there is
	// one entry, the last.
	Append(ctx context.Context, e Entry) error
}

// Notifier tells others about a rotation. It is never in the way: a failure to
// notify becomes a warning.
type Notifier interface {
	Notify(ctx context.Context, n Notice, r Result) error
}

// FollowUp switches what comes back every few minutes, and advances what is in flight.
// Both are safe to repeat. Like the Notifier it is never in the way: that it cannot be
// switched becomes a warning.
type FollowUp interface {
	Enable(ctx context.Context) error
	Disable(ctx context.Context) error
}

// Notice is what a notification is about.
type Notice string

// The notices, as they read in "Credential Rotation Started".
const (
	NoticeStarted   Notice = "Started"
	NoticeSucceeded Notice = "Succeeded"
	NoticeFailed    Notice = "Failed"
	NoticeHeld      Notice = "Held"
)
