// Package contract holds a conformance suite for each port of rotator: the same tests
// for every implementation, and for every stand-in that other tests trust. A fixture
// says how to bring about what only a test can.
package contract
