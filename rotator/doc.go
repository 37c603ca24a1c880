// Package rotator is the product: what it means to rotate the access key that a
// service deployed from GitLab CI/CD uses, so that nobody notices.
//
// # The story
//
// Advance is the only way in. It observes (keys, variables, the journal's record, the
// deployment), decides with a pure function what the one next step is and why, acts
// with one remote write, and observes again, until the decision is an answer:
//
//	request.go, decode.go   what is asked for
//	observe.go, places.go   what is there, in one place or several
//	heirs.go                what may outrank the variables of a group
//	checks.go               what would keep a rotation from succeeding
//	decide.go, phases.go    what is to be done, and why
//	force.go                what force changes of it in mid flight
//	act.go                  doing it
//	close.go, result.go     what to say about it
//	plan.go, report.go      looking, and changing nothing
//	resume.go, followup.go  going on with all that is in flight
//	ports.go, record.go     the words that the adapters speak
//
// There is no recovery code: a run that dies leaves something that the next run
// observes. Where that matters, a comment says what a crash leaves and what the next
// run does.
//
// # What must never happen
//
// The pair that the service may be using is always active: a key is deactivated only
// after a newer one was proven, published and deployed, and every deactivate and
// delete looks once more at what is published. What is not provably ours is never
// touched. A new secret lives in one Secret in one run, from its creation to its
// publication, and is never written anywhere else; a run that has to bring it to further
// places reads it back from one that has it.
//
// # Whom it does not trust
//
// The network: any error of a write may hide that it was applied. IAM: lists lag,
// new keys take seconds to work, two keys are not always the limit. GitLab: two
// variables cannot be written at once, a green pipeline need not have deployed.
// Clocks: each is compared only with itself. Itself: it may be killed anywhere, run
// twice, or be asked the same thing again. The event: it cannot send a key to a
// project that the user is not bound to. The journal: it makes runs exclusive and
// cheap; safety never rests on it alone.
package rotator
