package terraform_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"credential-rotator/test/terraform"
)

// Every module is held to the same: no list of them to forget one in.
func TestModules(t *testing.T) {
	t.Parallel()
	root := terraform.Root(t)
	modules, err := filepath.Glob(filepath.Join(root, "modules", "*", "versions.tf"))
	if err != nil || len(modules) == 0 {
		t.Fatalf("there are no modules below %s/modules (%v)", root, err)
	}
	for _, module := range modules {
		source := filepath.Dir(module)
		name := filepath.Base(source)
		t.Run(name, func(t *testing.T) {
			t.Run("says in its README what goes in and what comes out", func(t *testing.T) { documented(t, source) })
			d := terraform.Open(t, "modules/"+name)
			t.Run("is formatted", func(t *testing.T) {
				if out, err := d.Try("fmt", "-check", "-recursive", "-diff"); err != nil {
					t.Errorf("terraform fmt -recursive modules would change:\n%s", out)
				}
			})
			t.Run("is valid", func(t *testing.T) { valid(t, d) })
			examples(t, source)
			tests(t, d)
		})
	}
}

// tests runs the module's own tests, a file at a time and all at once.
func tests(t *testing.T, d *terraform.Dir) {
	files, err := filepath.Glob(filepath.Join(d.Path, "tests", "*.tftest.hcl"))
	if err != nil || len(files) == 0 {
		t.Errorf("there are no tests in %s (%v)", filepath.Join(d.Path, "tests"), err)
	}
	for _, file := range files {
		name := "tests/" + filepath.Base(file)
		t.Run("passes "+filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			if out, err := d.Try("test", "-filter="+name); err != nil || !strings.Contains(out, "Success!") {
				t.Errorf("terraform test -filter=%s: %v\n%s", name, err, out)
			}
		})
	}
}

func examples(t *testing.T, source string) {
	found, err := filepath.Glob(filepath.Join(source, "examples", "*", "main.tf"))
	if err != nil || len(found) == 0 {
		t.Errorf("there is no example in %s (%v)", filepath.Join(source, "examples"), err)
	}
	for _, example := range found {
		name := filepath.Base(filepath.Dir(example))
		t.Run("has a valid example "+name, func(t *testing.T) {
			valid(t, terraform.Open(t, "modules/"+filepath.Base(source)+"/examples/"+name))
		})
	}
}

func valid(t *testing.T, d *terraform.Dir) {
	t.Helper()
	if out, err := d.Try("validate"); err != nil || strings.Contains(out, "Warning:") {
		t.Errorf("terraform validate: %v\n%s", err, out)
	}
}

// documented looks for every input and output in the README, and for a description and
// a type of every input.
func documented(t *testing.T, source string) {
	read := func(name string) string {
		text, err := os.ReadFile(filepath.Join(source, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	readme := read("README.md")
	block := regexp.MustCompile(`(?ms)^(variable|output) "(\w+)" \{\n(.*?)^\}`)
	found := block.FindAllStringSubmatch(read("variables.tf")+read("outputs.tf"), -1)
	if len(found) == 0 {
		t.Fatal("there are neither variables nor outputs")
	}
	for _, b := range found {
		kind, name, body := b[1], b[2], b[3]
		if !regexp.MustCompile("(?m)^\\|[^|]*`" + name + "`[^|]*\\|").MatchString(readme) {
			t.Errorf("the README has no row for the %s %s", kind, name)
		}
		if !strings.Contains(body, "\n  description") && !strings.HasPrefix(body, "  description") {
			t.Errorf("the %s %s has no description", kind, name)
		}
		if kind == "variable" && !regexp.MustCompile(`(?m)^  type +=`).MatchString(body) {
			t.Errorf("the variable %s has no type", name)
		}
	}
}
