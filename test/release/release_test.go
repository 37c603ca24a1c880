// Package release tests scripts/release against a stand-in of GitLab's package
// registry and release API.
package release

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"credential-rotator/test/moto"
)

const token = "glcbt-64_this-is-the-job-token"

// registry is a project's generic packages and releases, as far as the script uses
// them. As GitLab's, it takes a file twice, and gives the newest.
type registry struct {
	url     string
	storage string // where files are, under another name and with no token

	mu       sync.Mutex
	calls    []string
	files    map[string][]byte
	releases map[string]map[string]any
	fails    map[string]int // the status of a call, once
}

func newRegistry(t *testing.T) *registry {
	t.Helper()
	r := &registry{files: map[string][]byte{}, releases: map[string]map[string]any{}, fails: map[string]int{}}
	server := httptest.NewServer(r)
	t.Cleanup(server.Close)
	r.url = server.URL + "/api/v4"
	storage := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, q *http.Request) {
		if q.Header.Get("Job-Token") != "" || q.Header.Get("Authorization") != "" {
			t.Errorf("the token was sent to the object storage: %v", q.Header)
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		_, _ = rw.Write(r.files[strings.TrimPrefix(q.URL.Path, "/")])
	}))
	t.Cleanup(storage.Close)
	r.storage = storage.URL
	return r
}

func (r *registry) ServeHTTP(rw http.ResponseWriter, q *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	path := strings.TrimPrefix(q.URL.Path, "/api/v4/projects/4711/")
	call := q.Method + " " + path
	r.calls = append(r.calls, call)
	body, _ := io.ReadAll(q.Body) // what is missing is missed below
	status := r.fails[call]
	delete(r.fails, call)
	_, password, _ := q.BasicAuth()
	switch {
	case q.Header.Get("Job-Token") != token && password != token:
		status = http.StatusUnauthorized
	case status != 0:
	case q.Method == http.MethodPut && strings.HasPrefix(path, "packages/generic/credential-rotator/"):
		r.files[strings.TrimPrefix(path, "packages/generic/credential-rotator/")] = body
		status = http.StatusCreated
	case q.Method == http.MethodGet:
		file := strings.TrimPrefix(path, "packages/generic/credential-rotator/")
		if r.files[file] != nil {
			http.Redirect(rw, q, r.storage+"/"+file, http.StatusFound)
			return
		}
		status = http.StatusNotFound
	case call == "POST releases":
		var release map[string]any
		_ = json.Unmarshal(body, &release)
		tag, _ := release["tag_name"].(string)
		switch {
		case tag == "":
			status = http.StatusBadRequest
		case r.releases[tag] != nil:
			status = http.StatusConflict
		default:
			r.releases[tag], status = release, http.StatusCreated
		}
	default:
		status = http.StatusNotFound
	}
	rw.WriteHeader(status)
	_, _ = fmt.Fprintf(rw, `{"message":"%d by the registry"}`, status)
}

func (r *registry) called(method string) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(r.calls), func(c string) bool { return !strings.HasPrefix(c, method+" ") })
}

// dist makes what scripts/build makes, with other content.
func dist(t *testing.T, version string) string {
	t.Helper()
	dir := t.TempDir()
	var sums strings.Builder
	for _, name := range []string{"linux-amd64/bootstrap.cdx.json", "linux-amd64/bootstrap.zip", "linux-arm64/bootstrap.cdx.json", "linux-arm64/bootstrap.zip"} {
		content := []byte(name + " of " + version)
		if strings.HasSuffix(name, ".json") {
			content = []byte("{\n  \"version\": 1,\n  \"version\": \"" + version + "\",\n  \"version\": \"v9.9.9\"\n}\n")
		}
		write(t, filepath.Join(dir, name), content)
		_, _ = fmt.Fprintf(&sums, "%x  %s\n", sha256.Sum256(content), name)
	}
	write(t, filepath.Join(dir, "SHA256SUMS"), []byte(sums.String()))
	return dir
}

func write(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// release runs the script, and asserts that it does not show the token.
func release(t *testing.T, r *registry, tag, dist string) (string, error) {
	t.Helper()
	for _, tool := range []string{"curl", "sha256sum"} {
		moto.Require(t, tool)
	}
	cmd := exec.CommandContext(t.Context(), filepath.Join("..", "..", "scripts", "release"), dist)
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "no_proxy=127.0.0.1",
		"CI_API_V4_URL=" + r.url, "CI_PROJECT_ID=4711", "CI_JOB_TOKEN=" + token, "CI_COMMIT_TAG=" + tag,
	}
	out, err := cmd.CombinedOutput()
	if strings.Contains(string(out), token) {
		t.Errorf("it shows the token:\n%s", out)
	}
	return string(out), err
}

func TestAReleaseIsPublishedWholeAndItsSumsLast(t *testing.T) {
	t.Parallel()
	r := newRegistry(t)
	if out, err := release(t, r, "v1.2.3", dist(t, "v1.2.3")); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	const to = "PUT packages/generic/credential-rotator/v1.2.3/"
	want := []string{
		to + "bootstrap-linux-arm64.zip", to + "bootstrap-linux-arm64.cdx.json",
		to + "bootstrap-linux-amd64.zip", to + "bootstrap-linux-amd64.cdx.json", to + "SHA256SUMS",
	}
	if got := r.called("PUT"); !slices.Equal(got, want) {
		t.Errorf("it published\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	// Whoever downloads all of it can check it as it lies.
	dir := t.TempDir()
	for name, content := range r.files {
		write(t, filepath.Join(dir, filepath.Base(name)), content)
	}
	check := exec.CommandContext(t.Context(), "sha256sum", "--check", "--strict", "SHA256SUMS")
	check.Dir = dir
	if out, err := check.CombinedOutput(); err != nil || strings.Count(string(out), ": OK") != 4 {
		t.Errorf("the sums are not those of what is published: %v\n%s", err, out)
	}
	made := r.releases["v1.2.3"]
	text, _ := made["description"].(string)
	assets, _ := made["assets"].(map[string]any)
	links, _ := assets["links"].([]any)
	if !strings.Contains(text, "  bootstrap-linux-arm64.zip\n") || len(links) != 5 {
		t.Errorf("the release is %v", made)
	}
	for _, l := range links {
		link, _ := l.(map[string]any)
		name, _ := link["name"].(string)
		if link["url"] != r.url+"/projects/4711/packages/generic/credential-rotator/v1.2.3/"+name || r.files["v1.2.3/"+name] == nil {
			t.Errorf("the release links to %v", link)
		}
	}
}

func TestAReleaseThatBrokeOffCanBeRunAgain(t *testing.T) {
	t.Parallel()
	for call, uploads := range map[string]int{
		"PUT packages/generic/credential-rotator/v1.2.3/bootstrap-linux-amd64.zip": 3 + 5,
		"PUT packages/generic/credential-rotator/v1.2.3/SHA256SUMS":                5 + 5,
		"POST releases": 5, // all is published: nothing twice
	} {
		t.Run(call, func(t *testing.T) {
			t.Parallel()
			r := newRegistry(t)
			r.fails[call] = http.StatusBadGateway
			built := dist(t, "v1.2.3")
			if out, err := release(t, r, "v1.2.3", built); err == nil || !strings.Contains(out, "GitLab answered 502: {\"message\":\"502 by the registry\"}") {
				t.Errorf("the first time: %v\n%s", err, out)
			}
			if out, err := release(t, r, "v1.2.3", built); err != nil {
				t.Errorf("the second time: %v\n%s", err, out)
			}
			if got := r.called("PUT"); len(got) != uploads || r.releases["v1.2.3"] == nil {
				t.Errorf("%d uploads, want %d: %s", len(got), uploads, strings.Join(got, ", "))
			}
		})
	}
}

func TestWhatIsWrongIsNotPublished(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		tag   string
		given func(t *testing.T, r *registry, dist string)
		says  string
	}{
		"a tag that is no version": {"latest", nil, "latest is no tag of a release"},
		"another version's build":  {"v9.9.9", nil, "was not built as v9.9.9: run VERSION=v9.9.9 scripts/build"},
		"a zip that was changed": {"v1.2.3", func(t *testing.T, _ *registry, dist string) {
			write(t, filepath.Join(dist, "linux-arm64", "bootstrap.zip"), []byte("other"))
		}, "is not what scripts/build made"},
		"no build": {"v1.2.3", func(t *testing.T, _ *registry, dist string) {
			if err := os.Remove(filepath.Join(dist, "SHA256SUMS")); err != nil {
				t.Fatal(err)
			}
		}, "is not what scripts/build made"},
		"other bytes than were published": {"v1.2.3", func(_ *testing.T, r *registry, _ string) {
			r.files["v1.2.3/SHA256SUMS"] = []byte("00  bootstrap-linux-arm64.zip\n")
		}, "v1.2.3 is published already, with other bytes: make a new tag"},
		"a token that is not allowed": {"v1.2.3", func(_ *testing.T, r *registry, _ string) {
			r.fails["GET packages/generic/credential-rotator/v1.2.3/SHA256SUMS"] = http.StatusForbidden
		}, "GitLab answered 403"},
		"a GitLab that is not there": {"v1.2.3", func(_ *testing.T, r *registry, _ string) {
			r.url = "http://127.0.0.1:1/api/v4"
		}, "GitLab was not reached"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, built := newRegistry(t), dist(t, "v1.2.3")
			if c.given != nil {
				c.given(t, r, built)
			}
			if out, err := release(t, r, c.tag, built); err == nil || !strings.Contains(out, c.says) {
				t.Errorf("want %q, got %v\n%s", c.says, err, out)
			}
			if writes := append(r.called("PUT"), r.called("POST")...); len(writes) > 0 {
				t.Errorf("it wrote: %s", strings.Join(writes, ", "))
			}
		})
	}
}

func TestAReleaseIsMadeOnce(t *testing.T) {
	t.Parallel()
	r, built := newRegistry(t), dist(t, "v1.2.3")
	if out, err := release(t, r, "v1.2.3", built); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if out, err := release(t, r, "v1.2.3", built); err == nil || !strings.Contains(out, "released v1.2.3: GitLab answered 409") || len(r.called("PUT")) != 5 {
		t.Errorf("the second time: %v\n%s", err, out)
	}
}
