package rotator

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
)

const (
	// lookAgain is how often follow-ups look at a held record: it waits for a person.
	lookAgain = time.Hour
	// remindAfter is how often a person is told the same again.
	remindAfter = 7 * 24 * time.Hour
)

// RefusedError says why a request may not be served.
type RefusedError struct{ Reason string }

func (e *RefusedError) Error() string { return "refused: " + e.Reason }

// FailedError says which step failed, and what the next run will do. It wraps a
// *StepError when a step did.
type FailedError struct {
	Reason string
	Err    error
}

func (e *FailedError) Error() string { return "failed: " + e.Reason }
func (e *FailedError) Unwrap() error { return e.Err }

// asError is the error that a result is, if it is one.
func asError(r Result, cause error) error {
	switch r.Status {
	case StatusRefused:
		return &RefusedError{r.Reason}
	case StatusFailed:
		return &FailedError{r.Reason, cause}
	}
	return nil
}

// Invalid refuses a request before any remote call.
func Invalid(r Request, err error) (Result, error) {
	result := Result{Status: StatusRefused, Reason: err.Error(), User: r.User, ProjectID: r.project(), Warnings: []string{}, Steps: []StepTime{}}
	return result, asError(result, err)
}

// close ends a run: it gives the lease back, tells whoever should know, and answers.
func (u *run) close(ctx context.Context, v verdict, err error) (Result, error) {
	if err != nil {
		v = u.explain(ctx, err)
	}
	cause := err
	if v.status == StatusFailed && cause == nil {
		cause = errors.New(v.reason)
	}
	record := u.record
	if u.ended != nil && (v.status == StatusRotated || err != nil) {
		record = *u.ended
	}
	result := u.resultOf(record, v)
	if !u.readOnly {
		if v.status == StatusHeld && u.heldAnew(v) {
			u.notify(ctx, NoticeHeld, result) // before it is saved that somebody knows
		}
		u.putDown(ctx, v, cause)
		u.switchFollowUp(ctx, v)
		result.Warnings = u.allWarnings(record, v)
		switch {
		case u.succeeded:
			u.notify(ctx, NoticeSucceeded, result)
		case v.status == StatusFailed && !u.toldBefore(cause):
			u.notify(ctx, NoticeFailed, result)
		}
		result.Warnings = u.allWarnings(record, v)
	}
	return result, asError(result, err)
}

// toldBefore: follow-ups meet the same failure every few minutes, and tell it once.
func (u *run) toldBefore(cause error) bool {
	return cause != nil && u.loaded.InFlight() && steady(u.loaded.LastError) == steady(cause.Error())
}

// steady is a sentence without what is another one each time: the ids that AWS gives to
// requests, how long it took, and the local port of a connection that broke (PORT->ADDRESS). Other numbers
// stay: the second pipeline that fails is told as well as the first.
func steady(sentence string) string {
	const shortestID = 32 // longer than a key's, a user's or a rotation's
	words := strings.FieldsFunc(sentence, func(c rune) bool { return !unicode.IsLetter(c) && !unicode.IsDigit(c) && c != '-' })
	return strings.Join(slices.DeleteFunc(words, func(w string) bool {
		_, notTime := time.ParseDuration(w)
		return notTime == nil || strings.HasSuffix(w, "-") || len(w) >= shortestID && strings.ContainsAny(w, "0123456789")
	}), " ")
}

// explain turns an error into the answer that it means.
func (u *run) explain(ctx context.Context, err error) verdict {
	switch {
	case errors.Is(err, ErrConflict):
		return answer(StatusBusy, "another run has taken over the rotation of %s", u.request.User)
	case errors.Is(err, ErrNotFound) && u.record.InFlight():
		return answer(StatusRefused, "%v: if it was deleted, run once with force, which closes the record of its rotation", err)
	case errors.Is(err, ErrNotFound):
		return answer(StatusRefused, "%v", err)
	case errors.Is(err, errLeaseOver), ctx.Err() != nil:
		return answer(StatusWaiting, "this run was stopped in phase %s; a later run goes on", u.phase())
	}
	return answer(StatusFailed, "%v; %s", err, u.nextRun())
}

// nextRun says what the next run will do after this one failed.
func (u *run) nextRun() string {
	switch u.phase() {
	case PhaseCreating:
		return fmt.Sprintf("a key may have been made: the next run looks for it from %s on, deletes it and starts over", stamp(u.record.CreatingSince.Add(u.Pace.OrphanAge)))
	case PhaseCreated:
		if halves := placesWhere(u.observed(), u.record.NewKeyID, half); len(halves) > 0 {
			p := u.request.Places()[halves[0]]
			return fmt.Sprintf("%s is new and %s is not, so a job that starts now gets a pair that does not work: the next run writes the other half", p.SecretVariable, p.KeyIDVariable)
		}
		return "the next run finishes publishing the new key if its secret is in place, else deletes it and starts over; the old key works"
	case PhasePublished:
		return "the next run redeploys; both keys work"
	case PhaseRedeploying:
		return "the next run looks at the deployment again; both keys work"
	case PhaseRetiring:
		return "the next run looks again, then retires the old key"
	case PhaseSoaking:
		return "the next run deletes the old key"
	}
	return "nothing was changed; the next run tries again"
}

// heldAnew tells whether a person is to be told that it is held: for another reason than
// before, or once more. Numbers are left out of the comparison: keys grow older, and are
// used again.
func (u *run) heldAnew(v verdict) bool {
	digitless := func(s string) string {
		return strings.Map(func(c rune) rune {
			if '0' <= c && c <= '9' {
				return -1
			}
			return c
		}, steady(s))
	}
	return digitless(v.reason) != digitless(u.loaded.Held) || time.Since(u.loaded.HeldTold) >= remindAfter
}

// putDown gives the lease back, with what a later run and a person should know. A
// run that never had the lease writes only that it is held, or no more, what failed
// anew, or what force has corrected.
func (u *run) putDown(ctx context.Context, v verdict, cause error) {
	if !u.leased() && !u.hasNews(v, cause) || errors.Is(cause, ErrConflict) {
		return
	}
	if !u.leased() && u.record.Lease.Held(time.Now()) {
		return // another run is at work: what this one could not see is not its business
	}
	leased := u.leased()
	err := u.save(ctx, func(r *Record) {
		r.Lease.Until = time.Time{}
		if !leased && !r.InFlight() {
			r.UniqueID = u.loaded.UniqueID // nothing was begun for whoever has the name now
		}
		if u.seen.userAt.IsZero() { // nothing has been compared with what is in flight, so nothing takes its place
			r.UniqueID, r.Request = u.loaded.UniqueID, u.loaded.Request
		} else {
			u.noteHeld(r, v)
		}
		if u.made.doubtful > 0 {
			r.SentAt = u.observed().iamNow
		}
		if cause != nil {
			r.LastError = cause.Error()
		}
	})
	switch {
	case errors.Is(err, ErrConflict) && u.corrected:
		u.warn("another run has saved the record since, so what was forced is not in it: force it once more")
	case err == nil, errors.Is(err, ErrConflict):
	case leased:
		u.warn("the lease could not be given back, it ends at %s: %v", stamp(u.lease), err)
	default:
		u.warn("how this run ended could not be saved, so the next may tell it again: %v", err)
	}
}

// hasNews tells whether a run that never had the lease has something to write down.
func (u *run) hasNews(v verdict, cause error) bool {
	held := v.status == StatusHeld
	switch {
	case u.record.InFlight():
		return held || u.corrected && v.status != StatusRefused || v.status == StatusFailed && !u.toldBefore(cause)
	case u.loaded.InFlight(): // by force, of a user that had the name before
		return false
	}
	return held && u.heldAnew(v) || v.status == StatusNotDue && u.loaded.Held != ""
}

func (u *run) noteHeld(r *Record, v verdict) {
	r.Held, r.LookAgain = "", time.Time{}
	if v.status != StatusHeld {
		r.HeldTold = time.Time{}
		return
	}
	r.Held = v.reason
	if r.InFlight() {
		r.LookAgain = time.Now().Add(lookAgain).UTC()
	}
	switch {
	case slices.Contains(u.unheard, NoticeHeld):
		r.HeldTold = time.Time{}
	case u.heldAnew(v):
		r.HeldTold = time.Now().UTC()
	}
}

// notifyTime bounds one notification: a new key waits for it, and a run near its end.
const notifyTime = saveTime / 2

// notify tells others; that it cannot is told in the result, once for all notices.
func (u *run) notify(ctx context.Context, n Notice, r Result) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), notifyTime)
	defer cancel()
	if err := u.Notifier.Notify(ctx, n, r); err != nil {
		u.unheard, u.unheardOf = append(u.unheard, n), err
	}
}

func (u *run) result(v verdict) Result { return u.resultOf(u.record, v) }

// resultOf puts a verdict about a rotation into the words of the contract.
func (u *run) resultOf(r Record, v verdict) Result {
	result := Result{
		Status: v.status, Reason: v.reason, User: u.request.User, ProjectID: u.request.project(),
		RotationID: r.RotationID, PreviousKeyID: r.PreviousKeyID, CurrentKeyID: v.keyID,
		Warnings: u.allWarnings(r, v), Steps: append([]StepTime{}, r.Steps...),
	}
	switch r.Phase {
	case PhaseCreating, PhaseCreated:
		result.CurrentKeyID = r.PreviousKeyID
	case PhasePublished, PhaseRedeploying, PhaseRetiring, PhaseSoaking:
		result.CurrentKeyID = r.NewKeyID
	}
	result.CurrentKeyCreatedAt = u.madeAt(r, orElse(result.CurrentKeyID, publishedKeyID(u.observed())))
	if all := r.deployments(); len(all) > 0 {
		result.Deployment = &all[len(all)-1]
		if len(u.request.Turns()) > 1 {
			result.Deployments = all
		}
	}
	if places := u.request.Places(); len(places) > 1 || places[0].GroupID != 0 {
		result.Destinations = places
	}
	if !v.nextDue.IsZero() {
		result.NextDue = &v.nextDue
	}
	if r.Phase == PhaseSoaking && r.SoakUntil.After(time.Now()) {
		result.SoakUntil = &r.SoakUntil
	}
	return result
}

// madeAt is when a key was made: as IAM listed it in this run or, of the key that a
// rotation has made, as its record says; zero when neither tells.
func (u *run) madeAt(r Record, keyID string) time.Time {
	at, listed := u.createdAt[keyID]
	if !listed && keyID != "" && keyID == r.NewKeyID && !slices.Contains(r.KnownKeys, keyID) {
		return r.CreatingSince
	}
	return at
}

func (u *run) allWarnings(r Record, v verdict) []string {
	all := append([]string{}, slices.Concat(r.Warnings, v.warnings, u.warnings)...) // never null in JSON
	if u.unfollowed != "" {
		all = append(all, u.unfollowed)
	}
	if len(u.unheard) > 0 {
		all = append(all, fmt.Sprintf("nobody was notified (%s): %v", joined(u.unheard), u.unheardOf))
	}
	return all
}

func joined(notices []Notice) string {
	words := make([]string, len(notices))
	for i, n := range notices {
		words[i] = string(n)
	}
	return strings.Join(words, ", ")
}

// newRotationID sorts by time and is told apart from others of the same second.
func newRotationID(now time.Time) string {
	return now.UTC().Format("20060102T150405Z") + "-" + strings.ToLower(rand.Text()[:8])
}
