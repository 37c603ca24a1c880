// Package sim plays every story that may happen to a rotation, within bounds: the
// real rotator against the judging world of package sandbox, in the manner of the
// simulations of FoundationDB and TigerBeetle.
//
// All that is left to chance in a story is a choice: what becomes of a call, which
// of several runs moves next, what a person does in between. Every choice is drawn
// from a tape (tape.go). Playing a tape tells how many ways there were at each of
// its places, and so which tapes are to be played next (explore.go): within a
// scene's budget of faults, switches and acts all of them are, and there is no list
// of cases to maintain. The same tape is the same story again, which is how a
// failure is replayed.
//
// Runs are goroutines in a testing/synctest bubble, of which exactly one moves at a
// time (play.go): each parks before every call until it is its turn. Time passes
// only when nobody can move, so a run that is frozen or waits for a reply stays in
// flight while others move.
//
// The world judges every write. After every call the simulator asks besides whether
// a job that starts now would get a pair that works, and at the end whether the
// world has healed and everybody who should know was told (judge.go).
//
// IAM and GitLab may have clocks of their own (clocks.go). What it cannot do: all runs
// share one clock, which nobody sets; a machine that sleeps is played instead.
package sim
