package sandbox

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// OldGitLab puts an older release in front of a GitLab front: version is such as
// "16.1.0". What a release does not know it ignores without a word, as Grape drops the
// parameters that are not declared, and it does not show it either:
//
//   - before 16.2, description of a variable (doc/api/project_level_variables.md);
//   - before 17.4, hidden and masked_and_hidden of a variable (the same page);
//   - before 17.11, inputs of a pipeline (doc/api/pipelines.md: introduced in 17.10
//     behind the flag ci_inputs_for_pipelines, which is on from 17.11);
//   - before 15.2, /metadata (doc/api/metadata.md).
func OldGitLab(version string, next http.Handler) http.Handler {
	o := oldGitLab{version: version, next: next}
	return http.HandlerFunc(o.serve)
}

type oldGitLab struct {
	version string
	next    http.Handler
}

// knows tells whether the release is of a version or newer. One that has no number, as
// a nightly build, is the newest.
func (o oldGitLab) knows(major, minor int) bool {
	parts := strings.SplitN(o.version, ".", 3)
	have, err := strconv.Atoi(parts[0])
	if len(parts) < 2 || have != major {
		return err != nil || have > major
	}
	have, _ = strconv.Atoi(parts[1])
	return have >= minor
}

// unknown are the fields of a variable that the release does not have.
func (o oldGitLab) unknown() []string {
	var fields []string
	if !o.knows(16, 2) {
		fields = append(fields, "description")
	}
	if !o.knows(17, 4) {
		fields = append(fields, "hidden", "masked_and_hidden")
	}
	return fields
}

func (o oldGitLab) serve(rw http.ResponseWriter, r *http.Request) {
	_, rest, _ := strings.Cut(r.URL.EscapedPath(), "/api/v4/")
	parts := strings.Split(rest, "/")
	switch {
	case rest == "metadata" && !o.knows(15, 2):
		sendGitLabError(rw, &gitlabError{http.StatusNotFound, map[string]any{"error": "404 Not Found"}})
	case rest == "metadata", rest == "version":
		reply := &recorded{ResponseWriter: rw}
		o.next.ServeHTTP(reply, r)
		reply.send(func(object map[string]any) {
			if _, ok := object["version"]; ok {
				object["version"] = o.version
			}
		})
	case len(parts) > 2 && parts[2] == "variables": // of a project or a group
		forget(r, o.unknown()...)
		reply := &recorded{ResponseWriter: rw}
		o.next.ServeHTTP(reply, r)
		reply.send(func(object map[string]any) {
			for _, field := range o.unknown() {
				delete(object, field)
			}
		})
	case len(parts) == 3 && parts[2] == "pipeline" && !o.knows(17, 11):
		forget(r, "inputs")
		o.next.ServeHTTP(rw, r)
	default:
		o.next.ServeHTTP(rw, r)
	}
}

// forget takes fields out of a request, of its query or of its JSON body.
func forget(r *http.Request, fields ...string) {
	query := r.URL.Query()
	body, _ := io.ReadAll(r.Body)
	var object map[string]any
	isJSON := json.Unmarshal(body, &object) == nil
	for _, field := range fields {
		query.Del(field)
		delete(object, field)
	}
	r.URL.RawQuery = query.Encode()
	if isJSON {
		body, _ = json.Marshal(object)
	}
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
}

// recorded is a reply that is changed before it is sent.
type recorded struct {
	http.ResponseWriter
	status int
	body   bytes.Buffer
}

func (r *recorded) WriteHeader(status int)      { r.status = status }
func (r *recorded) Write(b []byte) (int, error) { return r.body.Write(b) }

// send sends the reply, with each JSON object in it changed.
func (r *recorded) send(change func(map[string]any)) {
	body := r.body.Bytes()
	var one map[string]any
	var all []map[string]any
	switch {
	case json.Unmarshal(body, &one) == nil && one != nil:
		change(one)
		body, _ = json.Marshal(one)
	case json.Unmarshal(body, &all) == nil:
		for _, object := range all {
			change(object)
		}
		body, _ = json.Marshal(all)
	}
	if r.status == 0 {
		r.status = http.StatusOK
	}
	r.Header().Del("Content-Length")
	r.ResponseWriter.WriteHeader(r.status)
	if r.status != http.StatusNoContent {
		_, _ = r.ResponseWriter.Write(body)
	}
}

// GitLabBelow is a GitLab front below a path, such as /gitlab, as an instance with a
// relative URL has it: nothing but the path leads to it (doc/install/relative_url.md).
// Links in its replies have the path too.
func GitLabBelow(path string, next http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle(path+"/", http.StripPrefix(path, &below{path, next}))
	return mux
}

type below struct {
	path string
	next http.Handler
}

func (b *below) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	b.next.ServeHTTP(&linked{rw, fmt.Sprintf("http://%s", r.Host), b.path}, r)
}

// linked puts the path into the links of a reply.
type linked struct {
	http.ResponseWriter
	host, path string
}

func (l *linked) WriteHeader(status int) {
	if links := l.Header().Get("Link"); links != "" {
		l.Header().Set("Link", strings.ReplaceAll(links, l.host+"/api/", l.host+l.path+"/api/"))
	}
	l.ResponseWriter.WriteHeader(status)
}
