// Package terraform runs Terraform for tests: on a copy, so that nothing of it is left
// in the source, and on moto, so that it needs no account.
//
// Terraform needs the AWS provider, which is large. It is taken from a mirror on this
// machine if there is one (see mirror), and otherwise fetched once.
package terraform

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"credential-rotator/test/moto"
)

// patience is how long any one command may take: an apply on moto takes a minute where
// nothing else runs. Without an end, a call that moto cannot answer would last for ever.
const patience = 10 * time.Minute

// Dir is a root module of this repository, copied and initialised. Its methods fail the
// test that opened it with all that Terraform said.
type Dir struct {
	// Path is where the copy is. What is written there is gone with the test.
	Path string

	t         testing.TB
	terraform string
	env       []string
}

// Open copies a root module, such as modules/credential-rotator/examples/platform, and
// with it all of modules/, to which it may refer by relative paths; then it initialises
// it. The environment is added to this process's, which is rid of what would lead
// Terraform to another account (On).
//
// The test is skipped where Terraform is not installed, see moto.Require.
func Open(t testing.TB, module string, env ...string) *Dir {
	t.Helper()
	d := &Dir{t: t, terraform: moto.Require(t, "terraform")}
	root, copied := Root(t), t.TempDir()
	for _, dir := range []string{"modules", module} {
		if err := copyTree(filepath.Join(root, filepath.FromSlash(dir)), filepath.Join(copied, filepath.FromSlash(dir))); err != nil {
			t.Fatalf("copying %s: %v", dir, err)
		}
	}
	d.Path = filepath.Join(copied, filepath.FromSlash(module))
	provider, args := provider(t)
	d.env = slices.Concat(environment(), provider, env)
	d.Run(append([]string{"init", "-input=false", "-backend=false"}, args...)...)
	return d
}

// On is the environment in which Terraform, with a provider "aws" that says nothing of
// endpoints, talks to a moto as its administrator.
func On(t testing.TB, s *moto.Server) []string {
	t.Helper()
	keys, err := s.Admin().Credentials.Retrieve(t.Context())
	if err != nil {
		t.Fatalf("reading the keys of moto's administrator: %v", err)
	}
	return []string{
		"AWS_ENDPOINT_URL=" + s.URL,
		"AWS_ACCESS_KEY_ID=" + keys.AccessKeyID,
		"AWS_SECRET_ACCESS_KEY=" + keys.SecretAccessKey,
		"AWS_REGION=" + moto.Region,
		"AWS_MAX_ATTEMPTS=2", // what moto lacks is a 500, which the provider asks for 25 times
	}
}

// Set gives the root module its variables, in place of those given before.
func (d *Dir) Set(variables map[string]any) {
	d.t.Helper()
	text, err := json.Marshal(variables)
	if err == nil {
		err = os.WriteFile(filepath.Join(d.Path, "test.auto.tfvars.json"), text, 0o600)
	}
	if err != nil {
		d.t.Fatalf("writing the variables of %s: %v", d.Path, err)
	}
}

// Apply makes it so, and returns what Terraform says of it.
func (d *Dir) Apply() string {
	d.t.Helper()
	return d.Run("apply", "-input=false", "-auto-approve")
}

// Plan returns the plan, empty if nothing would change.
func (d *Dir) Plan() string {
	d.t.Helper()
	out, err := d.Try("plan", "-input=false", "-detailed-exitcode")
	var exit *exec.ExitError
	switch {
	case err == nil:
		return ""
	case errors.As(err, &exit) && exit.ExitCode() == 2: // there are changes
		if _, changes, found := strings.Cut(out, "Terraform will perform the following actions:"); found {
			return changes
		}
		return out // of outputs only
	}
	d.t.Fatalf("terraform plan: %v\n%s", err, out)
	return ""
}

// Output reads one output into a pointer.
func (d *Dir) Output(name string, into any) {
	d.t.Helper()
	out := d.Run("output", "-json", name)
	if err := json.Unmarshal([]byte(out), into); err != nil {
		d.t.Fatalf("reading the output %s: %v\n%s", name, err, out)
	}
}

// State is the whole state, as it is in its file.
func (d *Dir) State() string {
	d.t.Helper()
	return d.Run("state", "pull")
}

// Destroy destroys everything, and returns what Terraform says of it.
func (d *Dir) Destroy() string {
	d.t.Helper()
	return d.Run("destroy", "-input=false", "-auto-approve")
}

// Run runs terraform with these arguments and returns what it printed.
func (d *Dir) Run(args ...string) string {
	d.t.Helper()
	out, err := d.Try(args...)
	if err != nil {
		d.t.Fatalf("terraform %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// Try is Run for what may fail. With an error the output has what was said on stderr.
func (d *Dir) Try(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(d.t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, d.terraform, args...)
	cmd.Dir, cmd.Env = d.Path, d.env
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // it then ends its providers
	cmd.WaitDelay = 20 * time.Second
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String() + stderr.String(), errors.Join(err, context.Cause(ctx))
	}
	return stdout.String(), nil
}

// Root is the root of this repository, seen from the folder of the test.
func Root(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		up := filepath.Dir(dir)
		if up == dir {
			t.Fatal("there is no go.mod above the test's folder")
		}
		dir = up
	}
}

// environment is ours, without what would make Terraform or its provider do something
// else: accounts, endpoints, command line options, variables.
func environment() []string {
	env := slices.DeleteFunc(os.Environ(), func(v string) bool {
		for _, own := range []string{"TF_CLI_CONFIG_FILE=", "TF_PLUGIN_CACHE_DIR="} {
			if strings.HasPrefix(v, own) {
				return false
			}
		}
		return strings.HasPrefix(v, "AWS_") || strings.HasPrefix(v, "TF_")
	})
	return append(
		env, "AWS_CONFIG_FILE="+os.DevNull, "AWS_SHARED_CREDENTIALS_FILE="+os.DevNull, "AWS_EC2_METADATA_DISABLED=true",
		"TF_IN_AUTOMATION=1", "TF_CLI_ARGS=-no-color", "CHECKPOINT_DISABLE=1",
	)
}

// copyTree copies the files of a folder, but for what Terraform leaves behind.
func copyTree(from, to string) error {
	return filepath.WalkDir(from, func(path string, entry os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		switch name := entry.Name(); {
		case name == ".terraform":
			return filepath.SkipDir
		case name == ".terraform.lock.hcl", strings.Contains(name, ".tfstate"), strings.HasSuffix(name, ".tfvars"), strings.HasSuffix(name, ".tfvars.json"):
			return nil
		case entry.IsDir():
			return os.MkdirAll(filepath.Join(to, rel), 0o700)
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("copying %s: %w", path, err)
		}
		return os.WriteFile(filepath.Join(to, rel), text, 0o600)
	})
}
