// Package hostile runs the built command where nothing can be relied on: against
// services that fail, dawdle and answer nonsense, killed at any moment, and in a crowd
// of itself that contends for one user. The promise is judged by the sandbox, after
// every write; what the command says and keeps is searched for secrets.
//
// A failure prints its story, and the command that replays its seed. A seed fixes what
// becomes of the n-th request; how the requests of one run follow one another is up to
// the clock in a few places, so a replay may need a second try.
package hostile
