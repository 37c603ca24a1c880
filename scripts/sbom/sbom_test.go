package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"credential-rotator/test/moto"
)

// program builds the function and returns its path.
func program(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "bootstrap")
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-buildvcs=false", "-tags", "lambda.norpc", "-o", path, "credential-rotator/function")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=arm64")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the program: %v\n%s", err, out)
	}
	return path
}

// output is what a command prints.
func output(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, args...).Output()
	if err != nil {
		t.Fatalf("%s %s: %v", name, strings.Join(args, " "), err)
	}
	return string(out)
}

func TestTheSBOMSaysWhatGoVersionSays(t *testing.T) {
	t.Parallel()
	path := program(t)
	sbom := path + ".cdx.json"
	if err := write(path, "v1.2.3", sbom); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(sbom)
	if err != nil {
		t.Fatal(err)
	}
	var bom struct {
		BOMFormat, SpecVersion string
		Metadata               struct {
			Component struct {
				Name, Version string
				Properties    []struct{ Name, Value string }
			}
		}
		Components []struct {
			Purl       string
			Properties []struct{ Name, Value string }
		}
	}
	if err := json.Unmarshal(content, &bom); err != nil {
		t.Fatal(err)
	}
	var got, want []string
	for _, c := range bom.Components[1:] {
		got = append(got, c.Purl+" "+c.Properties[0].Value)
	}
	for line := range strings.Lines(output(t, "go", "version", "-m", path)) {
		if f := strings.Fields(line); f[0] == "dep" {
			want = append(want, fmt.Sprintf("pkg:golang/%s@%s %s", f[1], f[2], f[3]))
		}
	}
	if !slices.Equal(got, want) || len(want) < 20 {
		t.Errorf("components\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if std := "pkg:golang/std@" + strings.TrimPrefix(strings.TrimSpace(output(t, "go", "env", "GOVERSION")), "go"); bom.Components[0].Purl != std {
		t.Errorf("the standard library is %s, want %s", bom.Components[0].Purl, std)
	}
	main := bom.Metadata.Component
	if main.Name != "credential-rotator" || main.Version != "v1.2.3" || !strings.Contains(fmt.Sprint(main.Properties), "{go.build.GOARCH arm64}") {
		t.Errorf("it is the SBOM of %+v", main)
	}
	again := path + ".again"
	if err := write(path, "v1.2.3", again); err != nil {
		t.Fatal(err)
	}
	if second, err := os.ReadFile(again); err != nil || !bytes.Equal(second, content) {
		t.Errorf("the same program gives another SBOM: %v", err)
	}
}

func TestAPurlIsWrittenAsItsSpecificationSays(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]string{
		"github.com/CycloneDX/cyclonedx-go": "pkg:golang/github.com/cyclonedx/cyclonedx-go@v2.0.0%2Bincompatible",
		"go.etcd.io/bbolt":                  "pkg:golang/go.etcd.io/bbolt@v2.0.0%2Bincompatible",
	} {
		if got := library(path, "v2.0.0+incompatible", "").PackageURL; got != want {
			t.Errorf("%s is %s, want %s", path, got, want)
		}
	}
}

// validate checks a document against the schemas of a directory, and prints each fault.
const validate = `import json, pathlib, sys
import jsonschema, referencing
def load(name): return json.loads((pathlib.Path(sys.argv[1]) / name).read_text())
registry = referencing.Registry().with_resource("http://cyclonedx.org/schema/spdx.schema.json",
    referencing.Resource.from_contents(load("spdx.schema.json")))
validator = jsonschema.Draft7Validator(load("bom-1.6.schema.json"), registry=registry)
for fault in validator.iter_errors(json.load(open(sys.argv[2]))): print(fault.json_path, fault.message)
`

// The schemas are CycloneDX's own, which come with its library; moto's Python has what
// validates.
func TestTheSBOMIsValidCycloneDX(t *testing.T) {
	t.Parallel()
	python := moto.Require(t, "moto_server")
	path := program(t)
	if err := write(path, "v1.2.3", path+".json"); err != nil {
		t.Fatal(err)
	}
	schemas := filepath.Join(strings.TrimSpace(output(t, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/CycloneDX/cyclonedx-go")), "schema")
	if faults := output(t, python, "-c", validate, schemas, path+".json"); faults != "" {
		t.Errorf("the SBOM is not valid:\n%s", faults)
	}
	content, err := os.ReadFile(path + ".json")
	if err != nil {
		t.Fatal(err)
	}
	wrong := bytes.Replace(content, []byte(`"type": "library"`), []byte(`"type": "book"`), 1)
	if err := os.WriteFile(path+".json", wrong, 0o600); err != nil {
		t.Fatal(err)
	}
	if faults := output(t, python, "-c", validate, schemas, path+".json"); !strings.Contains(faults, "book") {
		t.Errorf("the schemas allow a component of type book: %q", faults)
	}
}

func TestWhatIsNoProgramHasNoSBOM(t *testing.T) {
	t.Parallel()
	if err := write("main.go", "v1.2.3", filepath.Join(t.TempDir(), "sbom")); err == nil || !strings.Contains(err.Error(), "main.go") {
		t.Errorf("got %v", err)
	}
}
