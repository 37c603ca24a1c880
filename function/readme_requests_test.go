package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"credential-rotator/rotator"
)

// theREADMEs are what strangers read.
func theREADMEs(t *testing.T) map[string]string {
	t.Helper()
	texts := map[string]string{}
	for _, path := range []string{"README.md", "modules/credential-rotator/README.md", "modules/service-account/README.md", "scripts/rotate.gitlab-ci.yml"} {
		text, err := os.ReadFile(filepath.Join("..", path))
		if err != nil {
			t.Fatal(err)
		}
		texts[path] = string(text)
	}
	return texts
}

// Whoever copies an event or a request is not refused for its form.
func TestEveryRequestInTheREADMEIsOne(t *testing.T) {
	t.Parallel()
	fenced := regexp.MustCompile("(?ms)^```json\n(.*?)^```")
	inline := regexp.MustCompile("`(?:request: ')?(\\{\"[^`…]*?\\})'?`")
	found := 0
	for path, text := range theREADMEs(t) {
		var all []string
		for _, m := range append(fenced.FindAllStringSubmatch(text, -1), inline.FindAllStringSubmatch(text, -1)...) {
			if !strings.HasPrefix(m[1], `{"Sid"`) { // a statement of a policy
				all = append(all, m[1])
			}
		}
		for _, given := range all {
			found++
			var fields map[string]any
			if err := json.Unmarshal([]byte(given), &fields); err != nil {
				t.Errorf("%s: %s is no JSON: %v", path, given, err)
				continue
			}
			if fields["action"] == nil && fields["user"] == nil { // further fields of one
				fields["user"], fields["project_id"] = "svc-billing", 4711
			}
			event, err := json.Marshal(fields)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := rotator.DecodeEvent(event); err != nil {
				t.Errorf("%s: %s: %v", path, given, err)
			}
		}
	}
	if found < 5 {
		t.Errorf("only %d were found", found)
	}
}

func TestEveryLinkInTheREADMELeadsSomewhere(t *testing.T) {
	t.Parallel()
	link := regexp.MustCompile(`\]\(([^)#\s]*)(#[^)\s]+)?\)`)
	heading := regexp.MustCompile(`(?m)^#+ (.*)$`)
	anchors := func(text string) map[string]bool {
		all := map[string]bool{}
		for _, m := range heading.FindAllStringSubmatch(text, -1) {
			name := strings.ToLower(regexp.MustCompile(`[^\w\- ]`).ReplaceAllString(m[1], ""))
			all["#"+strings.ReplaceAll(name, " ", "-")] = true
		}
		return all
	}
	for path, text := range theREADMEs(t) {
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			target := filepath.Join("..", path)
			if m[1] != "" {
				target = filepath.Join(filepath.Dir(target), m[1])
			}
			at, err := os.Stat(target)
			if err != nil {
				t.Errorf("%s: %s leads nowhere", path, m[0])
				continue
			}
			if at.IsDir() {
				target = filepath.Join(target, "README.md")
			}
			if m[2] == "" {
				continue
			}
			text, err := os.ReadFile(target)
			if err != nil || !anchors(string(text))[m[2]] {
				t.Errorf("%s: %s has no heading there", path, m[0])
			}
		}
	}
}

// Each field that a request can have is in the table, and nothing else is.
func TestTheREADMENamesEveryFieldOfARequest(t *testing.T) {
	t.Parallel()
	_, table, _ := strings.Cut(theREADMEs(t)["README.md"], "### The request")
	table, _, _ = strings.Cut(table, "### ")
	named := map[string]bool{}
	for _, row := range regexp.MustCompile("(?m)^\\| (`[^|]*) \\|").FindAllStringSubmatch(table, -1) {
		for _, m := range regexp.MustCompile("`([a-z_]+)`").FindAllStringSubmatch(row[1], -1) {
			named[m[1]] = true
			if _, err := rotator.DecodeEvent([]byte(`{"user":"u","project_id":1,"` + m[1] + `":[[]]}`)); err == nil || strings.Contains(err.Error(), "unknown field") {
				t.Errorf("there is no field %s: %v", m[1], err)
			}
		}
	}
	of := reflect.TypeFor[rotator.Request]()
	var fields []string
	for _, f := range reflect.VisibleFields(of) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name != "" && name != "-" {
			fields = append(fields, name)
		}
	}
	if len(fields) < 20 {
		t.Fatalf("only %d fields were found: %q", len(fields), fields)
	}
	for _, name := range fields {
		if !named[name] {
			t.Errorf("the field %s is not in the table", name)
		}
	}
}
