package rotator

import (
	"slices"
	"time"
)

// Phase is how far a rotation has come. What a crash in each leaves, and what
// the next run does about it, is told where decide handles it.
type Phase string

// The phases, in order.
const (
	PhaseIdle        Phase = "idle"
	PhaseCreating    Phase = "creating"
	PhaseCreated     Phase = "created"
	PhasePublished   Phase = "published"
	PhaseRedeploying Phase = "redeploying"
	PhaseRetiring    Phase = "retiring"
	PhaseSoaking     Phase = "soaking"
)

// Record is what the journal keeps about a user's rotation. It never holds a secret.
//
// Times are on the clock that their name says, and compared only with others of
// that clock: IAM's for keys, GitLab's for jobs, ours for our own waits.
type Record struct {
	User     string `json:"user"`
	UniqueID string `json:"unique_id"`
	Version  int64  `json:"version"` // compare-and-swap; 0: not saved yet
	Lease    Lease  `json:"lease"`

	RotationID string  `json:"rotation_id"`
	Phase      Phase   `json:"phase"`
	Request    Request `json:"request"` // so that a later run needs no event
	Reason     string  `json:"reason"`  // why it was due
	Forced     bool    `json:"forced"`  // it was begun by force

	KnownKeys     []string `json:"known_keys"`      // the user's keys when it began
	Gone          []string `json:"gone,omitempty"`  // the keys that were deleted last; IAM may list them for a while
	PreviousKeyID string   `json:"previous_key_id"` // the key to retire; "" for none
	NewKeyID      string   `json:"new_key_id"`
	Refs          []string `json:"refs,omitempty"`      // of the request's turns, as they were found
	Subgroups     []int64  `json:"subgroups,omitempty"` // whose variables outrank a group's that it publishes to
	Ref           string   `json:"ref,omitempty"`       // of a rotation that an earlier version began
	Protect       []bool   `json:"protect,omitempty"`   // of its targets: whether missing variables are made protected

	StartedAt     time.Time `json:"started_at,omitzero"`     // ours
	CreatingSince time.Time `json:"creating_since,omitzero"` // IAM's; a key we made is no older
	CreatingUntil time.Time `json:"creating_until,omitzero"` // IAM's; a key we made is no younger
	SentAt        time.Time `json:"sent_at,omitzero"`        // IAM's; when the secret was last about to be sent, and may still be on its way
	PublishedAt   time.Time `json:"published_at,omitzero"`   // GitLab's
	DeployedAt    time.Time `json:"deployed_at,omitzero"`    // GitLab's; of the turns until now, the latest
	RetiringSince time.Time `json:"retiring_since,omitzero"` // ours; when the deployment was seen
	SoakUntil     time.Time `json:"soak_until,omitzero"`     // ours

	// Turn is which of the request's redeploys is under way, Deployments what the ones
	// before it have come to. Fresh: this one was not marked yet.
	Turn        int          `json:"turn,omitempty"`
	Deployments []Deployment `json:"deployments,omitempty"`
	Fresh       bool         `json:"fresh,omitempty"`

	// Mark and JobMark are the highest ids of pipelines and jobs after publishing: what
	// is above came later. JobMark is 0 when no job was to be retried. Marked says that
	// an attempt to redeploy may be under way above them.
	Mark    int64 `json:"mark"`
	JobMark int64 `json:"job_mark,omitempty"`
	Marked  bool  `json:"marked"`
	// FellBack: this attempt is a pipeline, for what is live cannot be deployed again.
	FellBack bool `json:"fell_back,omitempty"`
	// Tag is the one that the live commit is deployed from, to be removed again; Tagged:
	// it was made.
	Tag        string      `json:"tag,omitempty"`
	Commit     string      `json:"commit,omitempty"`
	Tagged     bool        `json:"tagged,omitempty"`
	Attempts   []time.Time `json:"attempts,omitzero"` // ours; when redeploys were marked
	Deployment Deployment  `json:"deployment"`

	Warnings []string   `json:"warnings"`
	Steps    []StepTime `json:"steps"`

	Told      bool      `json:"told"` // others know that it succeeded
	LastError string    `json:"last_error"`
	Held      string    `json:"held"`                // why it was held last; "" when the last run was not
	HeldTold  time.Time `json:"held_told,omitzero"`  // ours; when a person was told so
	LookAgain time.Time `json:"look_again,omitzero"` // ours; follow-ups leave a held record alone until then
}

// deployments are what all turns until now have come to.
func (r Record) deployments() []Deployment {
	if r.Deployment.Kind == "" {
		return r.Deployments
	}
	return append(slices.Clone(r.Deployments), r.Deployment)
}

// nextTurn goes on to the redeploy after the one that has come to d.
func (r *Record) nextTurn(d Deployment) {
	r.Deployment = d
	r.Deployments = r.deployments()
	r.Turn, r.Phase, r.Deployment = r.Turn+1, PhasePublished, Deployment{}
	r.Mark, r.JobMark, r.Marked, r.Fresh, r.FellBack = 0, 0, false, true, false
	r.Attempts, r.LastError = nil, ""
}

// RecentAttempts are the redeploys of the turn under way that count at a time.
func (r Record) RecentAttempts(now time.Time) []time.Time {
	return slices.DeleteFunc(slices.Clone(r.Attempts), func(at time.Time) bool { return now.Sub(at) >= redeployWindow })
}

// NextAttempt is when a redeploy may be tried again, zero when it may be at once.
func (r Record) NextAttempt(now time.Time) time.Time {
	recent := r.RecentAttempts(now)
	if len(recent) < RedeployAttempts {
		return time.Time{}
	}
	return recent[len(recent)-RedeployAttempts].Add(redeployWindow)
}

// ref is what the pipeline of the turn under way runs on.
func (r Record) ref() string {
	switch {
	case r.Tag != "":
		return r.Tag
	case r.Turn < len(r.Refs):
		return r.Refs[r.Turn]
	}
	return r.Ref
}

// InFlight tells whether a rotation has begun and not ended.
func (r Record) InFlight() bool { return r.Phase != "" && r.Phase != PhaseIdle }

// Lease says who may act on a record, and until when. A released lease keeps its
// owner, so that a run can recognise its own last save.
type Lease struct {
	Owner string    `json:"owner"`
	Until time.Time `json:"until,omitzero"`
}

// Held tells whether somebody holds the lease at an instant.
func (l Lease) Held(now time.Time) bool { return now.Before(l.Until) }

// Entry is one line of a user's history.
type Entry struct {
	User      string    `json:"user"`
	StartedAt time.Time `json:"started_at,omitzero"`
	Result    Result    `json:"result"`
}
