package rotator

import (
	"strings"
	"time"
)

// Status is how a run ended.
type Status string

// The statuses. Refused and failed are errors, the others are answers.
const (
	StatusRotated     Status = "rotated"      // done; the old key is gone, or soaking
	StatusNotDue      Status = "not_due"      // nothing to do until NextDue
	StatusWaiting     Status = "waiting"      // in flight; a later run goes on
	StatusBusy        Status = "busy"         // another run holds it
	StatusHeld        Status = "held"         // a person must look; nothing is broken
	StatusRefused     Status = "refused"      // the request may not be served
	StatusFailed      Status = "failed"       // a step failed; the next run goes on
	StatusWouldRotate Status = "would_rotate" // plan only
)

// Result is the answer to a Request.
type Result struct {
	Status        Status      `json:"status"`
	Reason        string      `json:"reason"` // a sentence
	User          string      `json:"user"`
	ProjectID     int64       `json:"project_id"`
	RotationID    string      `json:"rotation_id,omitempty"`
	PreviousKeyID string      `json:"previous_key_id,omitempty"`
	CurrentKeyID  string      `json:"current_key_id,omitempty"` // the published one
	Deployment    *Deployment `json:"deployment,omitempty"`     // the last one
	// Deployments are all redeploys until now, when the request has several.
	Deployments []Deployment `json:"deployments,omitempty"`
	// Destinations are the places of a request that has several, or whose place is a group.
	Destinations []Place    `json:"destinations,omitempty"`
	NextDue      *time.Time `json:"next_due,omitempty"`
	SoakUntil    *time.Time `json:"soak_until,omitempty"`
	Warnings     []string   `json:"warnings"`
	Steps        []StepTime `json:"steps"`
	// Checks are what plan has looked at.
	Checks []Check `json:"checks,omitempty"`
	// CurrentKeyCreatedAt is when the published key was made, on IAM's clock: its age is
	// a metric. Zero when the run has not seen it.
	CurrentKeyCreatedAt time.Time `json:"-"`
}

// Step is one thing that a rotation does.
type Step string

// The steps, in the order of a clean rotation.
const (
	StepObserve       Step = "observe"        // look at IAM, GitLab and the journal
	StepTidy          Step = "tidy"           // delete an inactive key, to free its slot
	StepBegin         Step = "begin"          // take the lease, say what is intended
	StepCreate        Step = "create"         // make the new key
	StepProve         Step = "prove"          // see it authenticate
	StepRecover       Step = "recover"        // read the new secret back from where it is published
	StepPublishSecret Step = "publish_secret" // write the secret variable
	StepPublishKeyID  Step = "publish_key_id" // write the key id variable
	StepMark          Step = "mark"           // note which pipelines are older
	StepRedeploy      Step = "redeploy"       // start the redeploy
	StepTag           Step = "tag"            // tag the live commit, for a pipeline
	StepUntag         Step = "untag"          // remove that tag
	StepAwait         Step = "await"          // wait until it has succeeded
	StepDeactivate    Step = "deactivate"     // switch the old key off
	StepDelete        Step = "delete"         // delete the old key
	StepDiscard       Step = "discard"        // delete the new key, which was never published
	StepRestart       Step = "restart"        // close the record, and look afresh
	StepFinish        Step = "finish"         // close the record, the rotation is done
)

// words are the step as a person would say it.
func (s Step) words() string { return strings.ReplaceAll(string(s), "_", " ") }

// StepTime is a step that was done.
type StepTime struct {
	Step Step      `json:"step"`
	At   time.Time `json:"at"`
	MS   int64     `json:"ms"`
}

// StepError is a step that failed. Its Step is a label with few values, fit for a
// metric; Err never holds a secret.
type StepError struct {
	Step Step
	User string
	Err  error
}

func (e *StepError) Error() string {
	if e.Step == StepObserve || e.Step == StepAwait { // what was seen needs no more words
		return e.Err.Error()
	}
	return e.Step.words() + " for " + e.User + ": " + e.Err.Error()
}
func (e *StepError) Unwrap() error { return e.Err }
