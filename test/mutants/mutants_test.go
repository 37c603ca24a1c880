// Package mutants breaks the rotation in small ways, and demands that the simulation
// notices each. One that survives is a rule that the world lacks, or code that does
// nothing: find out which.
package mutants

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"credential-rotator/test/loud"
)

// mutant is a small wrong version of the rotation.
type mutant struct {
	file string // of package rotator
	old  string // stands there once
	new  string
	// by is what the simulation says when it notices: the judgement that fell.
	by string
}

// gate is the simulation that every mutant is run against.
const gate = "credential-rotator/test/sim"

func TestEveryMutantDies(t *testing.T) {
	if testing.Short() {
		t.Skip("each is a build of its own")
	}
	var killed atomic.Int64
	t.Run("mutants", func(t *testing.T) {
		for name, m := range mutants() {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				if m.dies(t) {
					killed.Add(1)
				}
			})
		}
	})
	loud.Say("mutants: %d of %d small wrong versions of the rotation were noticed by the simulation", killed.Load(), len(mutants()))
}

// dies runs the simulation with the mutant in the place of its original.
func (m mutant) dies(t *testing.T) bool {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "test", "-overlay", m.overlay(t), "-count=1", "-failfast", "-run", "^TestGate", gate)
	cmd.Env = append(os.Environ(), "CREDENTIAL_ROTATOR_QUIET=1")
	out, err := cmd.CombinedOutput()
	switch {
	case err == nil:
		t.Errorf("it survived: the simulation saw nothing\n%s", out)
	case strings.Contains(string(out), "[build failed]"), strings.Contains(string(out), "setup failed"):
		t.Errorf("it does not build\n%s", out)
	case !strings.Contains(string(out), m.by):
		t.Errorf("it died, but not because %q:\n%s", m.by, head(string(out)))
	default:
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
	mutated := filepath.Join(dir, m.file)
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

func head(out string) string {
	const enough = 3000
	return fmt.Sprintf("%.*s", enough, out)
}
