// Package mutants breaks the rotation in small ways, and demands that the simulation
// notices each; what only an adapter can do wrong, that its contract does. One that
// survives is a rule that the world lacks, or code that does
// nothing: find out which.
package mutants

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"credential-rotator/test/loud"
)

// mutant is a small wrong version of the rotation.
type mutant struct {
	file string // of package rotator, or of an adapter below it
	old  string // stands there once
	new  string
	gate string // of the simulation, that does not let it pass; or contract
	by   string // what the judgement says that falls first
}

func TestEveryMutantFitsTheSource(t *testing.T) {
	for _, m := range mutants() {
		m.overlay(t)
	}
}

func TestEveryMutantDies(t *testing.T) {
	if testing.Short() {
		t.Skip("each is a build and a simulation of its own")
	}
	// go test remembers a result for as long as what this process has read stays the
	// same, and what the simulation is built from is read by another.
	for _, dir := range []string{"../../rotator", "../sandbox", "../sim"} {
		if _, err := os.ReadDir(dir); err != nil {
			t.Fatal(err)
		}
	}
	var noticed atomic.Int64
	tried, left := some(slices.Sorted(maps.Keys(mutants())))
	t.Run("mutants", func(t *testing.T) {
		for _, name := range tried {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				if mutants()[name].dies(t) {
					noticed.Add(1)
				}
			})
		}
	})
	loud.Say("mutants: %d of %d small wrong versions of the rotation were noticed by the simulation or a contract", noticed.Load(), len(tried))
	if left > 0 {
		loud.Say("LEFT OUT: %d more mutants, for each takes seconds; to include them: %s=1", left, requireAll)
	}
}

// requireAll is the environment variable with which nothing is left out. CI sets it.
const requireAll = "CREDENTIAL_ROTATOR_REQUIRE_ALL"

// some are the mutants that are tried: one of three, unless all are demanded. left is how
// many others there are.
func some(names []string) (tried []string, left int) {
	const oneOf = 3
	for i, name := range names {
		if i%oneOf == 0 || os.Getenv(requireAll) == "1" {
			tried = append(tried, name)
		}
	}
	return tried, len(names) - len(tried)
}

// dies plays its gate with the mutant in the place of its original.
func (m mutant) dies(t *testing.T) bool {
	t.Helper()
	run, pkg := "^TestGate"+m.gate, "credential-rotator/test/sim"
	if m.gate == contract {
		run, pkg = "^TestRedeployerContract$", "credential-rotator/rotator/"+filepath.Dir(m.file)
	}
	cmd := exec.CommandContext(t.Context(), "go", "test", "-overlay", m.overlay(t), "-vet=off", "-ldflags=-s -w", "-count=1", "-failfast", "-run", run, pkg)
	// One worker, so that the same judgement falls first each time.
	cmd.Env = append(os.Environ(), "CREDENTIAL_ROTATOR_QUIET=1", "GOMAXPROCS=1")
	out, err := cmd.CombinedOutput()
	said := judgements(string(out))
	if m.gate == contract {
		said = broken(string(out))
	}
	switch {
	case err == nil:
		t.Errorf("it lives: the simulation noticed nothing\n%s", out)
	case len(said) == 0:
		t.Errorf("it was not judged, so perhaps it does not build\n%s", head(string(out)))
	case !strings.Contains(said[0], m.by):
		t.Errorf("it was noticed, but not because of a thing %q:\n%s", m.by, strings.Join(said, "\n"))
	default:
		t.Log(said[0])
		return true
	}
	return false
}

// overlay writes the mutant beside the source, and says so to the go command.
func (m mutant) overlay(t *testing.T) string {
	t.Helper()
	original, err := filepath.Abs(filepath.Join("..", "..", "rotator", m.file))
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile(original)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(source), m.old); n != 1 {
		t.Fatalf("%s has %d times what is to be changed, want once:\n%s", m.file, n, m.old)
	}
	dir := t.TempDir()
	mutated := filepath.Join(dir, filepath.Base(m.file))
	if err := os.WriteFile(mutated, []byte(strings.Replace(string(source), m.old, m.new, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	overlay := filepath.Join(dir, "overlay.json")
	replace, err := json.Marshal(map[string]map[string]string{"Replace": {original: mutated}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(overlay, replace, 0o600); err != nil {
		t.Fatal(err)
	}
	return overlay
}

// judgements are the sentences that fell.
func judgements(out string) []string {
	var all []string
	for _, line := range strings.Split(out, "\n") {
		if _, wrong, found := strings.Cut(line, "WRONG: "); found {
			all = append(all, wrong)
		}
	}
	return all
}

// broken are the promises of a contract that were not kept.
func broken(out string) []string {
	var all []string
	for _, line := range strings.Split(out, "\n") {
		if _, promise, found := strings.Cut(line, "--- FAIL: TestRedeployerContract/"); found {
			all = append(all, promise)
		}
	}
	return all
}

func head(out string) string {
	const enough = 3000
	return fmt.Sprintf("%.*s", enough, out)
}
