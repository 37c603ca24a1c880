package sandbox

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// GitLab is GitLab's REST API over HTTP: what a rotation needs of /api/v4.
func (w *World) GitLab() http.Handler {
	mux := http.NewServeMux()
	endpoints := gitlabEndpoints()
	maps.Copy(endpoints, groupEndpoints())
	maps.Copy(endpoints, tagEndpoints())
	maps.Copy(endpoints, lookingEndpoints())
	for pattern, e := range endpoints {
		mux.HandleFunc(pattern, func(rw http.ResponseWriter, r *http.Request) { w.serveGitLab(rw, r, e) })
	}
	mux.HandleFunc("/api/v4/", func(rw http.ResponseWriter, _ *http.Request) {
		sendGitLabError(rw, &gitlabError{http.StatusNotFound, map[string]any{"error": "404 Not Found"}})
	})
	mux.HandleFunc("/", func(rw http.ResponseWriter, _ *http.Request) {
		send(rw, http.StatusNotFound, "text/html; charset=utf-8", "<!DOCTYPE html><html><head><title>Not Found</title></head><body><h1>404: Page not found</h1></body></html>")
	})
	return w.hostile(mux, func(rw http.ResponseWriter, f Fate) {
		switch f {
		case TooMany: // GitLab config/initializers/rack_attack.rb
			rw.Header().Set("Retry-After", "1")
			send(rw, http.StatusTooManyRequests, "text/plain", "Retry later\n")
		case Unauthorized:
			sendGitLabError(rw, message(http.StatusUnauthorized, "401 Unauthorized"))
		default:
			sendGitLabError(rw, message(http.StatusForbidden, "403 Forbidden"))
		}
	})
}

// endpoint is one thing that the API does. role is what it takes in the project;
// the ones without a role are not about a project.
type endpoint struct {
	name   string
	role   int
	status int
	do     func(*request) (any, error)
}

// The patterns match segment by segment of the path as it was sent, so an id may
// be a path with its slashes escaped.
func gitlabEndpoints() map[string]endpoint {
	return map[string]endpoint{
		"GET /api/v4/personal_access_tokens/self":              {"token", 0, 200, showToken},
		"POST /api/v4/personal_access_tokens/self/rotate":      {"rotate token", 0, 200, rotateToken},
		"POST /api/v4/projects/{id}/access_tokens/self/rotate": {"rotate token", 0, 200, rotateProjectToken},
		"POST /api/v4/groups/{id}/access_tokens/self/rotate":   {"rotate token", 0, 200, rotateGroupToken},
		"GET /api/v4/user":                                         {"user", 0, 200, showUser},
		"GET /api/v4/projects/{id}":                                {"project", Reporter, 200, showProject},
		"GET /api/v4/projects/{id}/variables":                      {"variables", Maintainer, 200, listVariables},
		"POST /api/v4/projects/{id}/variables":                     {"variable", Maintainer, 201, postVariable},
		"GET /api/v4/projects/{id}/variables/{key}":                {"variable", Maintainer, 200, showVariable},
		"PUT /api/v4/projects/{id}/variables/{key}":                {"variable", Maintainer, 200, putVariable},
		"DELETE /api/v4/projects/{id}/variables/{key}":             {"variable", Maintainer, 204, deleteVariable},
		"GET /api/v4/projects/{id}/repository/branches":            {"branches", Reporter, 200, listBranches},
		"GET /api/v4/projects/{id}/repository/branches/{ref}":      {"branch", Reporter, 200, showBranch},
		"GET /api/v4/projects/{id}/pipelines":                      {"pipelines", Reporter, 200, listPipelines},
		"POST /api/v4/projects/{id}/pipeline":                      {"pipeline", Reporter, 201, postPipeline},
		"GET /api/v4/projects/{id}/pipelines/{pipeline}":           {"pipeline", Reporter, 200, showPipeline},
		"GET /api/v4/projects/{id}/pipelines/{pipeline}/jobs":      {"jobs", Reporter, 200, listJobs},
		"GET /api/v4/projects/{id}/pipelines/{pipeline}/variables": {"pipeline variables", Maintainer, 200, listPipelineVariables},
		"POST /api/v4/projects/{id}/pipelines/{pipeline}/cancel":   {"pipeline", Developer, 200, postCancel},
		"GET /api/v4/projects/{id}/jobs":                           {"jobs", Reporter, 200, listJobs},
		"GET /api/v4/projects/{id}/jobs/{job}":                     {"job", Reporter, 200, showJob},
		"POST /api/v4/projects/{id}/jobs/{job}/play":               {"job", Developer, 200, postPlay},
		"POST /api/v4/projects/{id}/jobs/{job}/retry":              {"retry", Reporter, 201, postRetry},
		"GET /api/v4/projects/{id}/deployments":                    {"deployments", Reporter, 200, listDeployments},
		"GET /api/v4/projects/{id}/environments":                   {"environments", Reporter, 200, listEnvironments},
		"GET /api/v4/projects/{id}/environments/{environment}":     {"environment", Reporter, 200, showEnvironment},
	}
}

// request is a call of the API that may be done: who calls, about which project.
type request struct {
	*http.Request
	w       *World
	caller  *process
	token   *token
	project *project
	in      map[string]string // the parameters of query and body; filter[environment_scope] is one
	header  http.Header       // of the reply
}

func (w *World) serveGitLab(rw http.ResponseWriter, r *http.Request, e endpoint) {
	in, err := parameters(r)
	if err != nil {
		sendGitLabError(rw, err)
		return
	}
	shown := shownToken(r)
	req := &request{Request: r, w: w, in: in, header: rw.Header()}
	req.caller = w.caller(w.whose(shown))
	write := r.Method != http.MethodGet && r.Method != http.MethodHead
	says := maps.Clone(in)
	delete(says, "value") // the one place where a secret belongs
	delete(says, "private_token")
	o := op{
		name:  strings.TrimSpace("gitlab." + r.Method + " " + e.name + " " + r.PathValue("key") + says["key"]),
		write: write, says: []any{says, r.URL.Path, r.URL.RawQuery}, detail: r.PathValue("id"),
	}
	var out any
	err = req.caller.do(r.Context(), o, func() error {
		var err error
		if err = req.allow(shown, e.role, write); err == nil {
			out, err = e.do(req)
		}
		return err
	})
	if err != nil {
		sendGitLabError(rw, err)
		return
	}
	sendJSON(rw, e.status, out)
}

// allow finds who calls and about what. Anybody with a token may ask about the token.
func (r *request) allow(shown string, role int, write bool) (err error) {
	if role == 0 {
		r.w.detectReuse(r.URL.Path, shown)
		r.token, err = r.w.bearer(shown)
		return err
	}
	r.token, r.project, err = r.w.allow(shown, r.PathValue("id"), role, write)
	return err
}

func shownToken(r *http.Request) string {
	if t := r.Header.Get("Private-Token"); t != "" {
		return t
	}
	return strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
}

// whose tells by whose token a call is made, and whether that is a rotator's.
func (w *World) whose(shown string) (name string, judged bool) {
	defer w.enter()()
	for _, t := range w.tokens {
		if t.value == shown {
			return "token " + t.Name, !t.Person
		}
	}
	return "nobody", false
}

// parameters reads query and body, JSON or form, into one flat map, as Grape does.
func parameters(r *http.Request) (map[string]string, error) {
	in := map[string]string{}
	add := func(values url.Values) {
		for key, v := range values {
			in[key] = v[len(v)-1]
		}
	}
	add(r.URL.Query())
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil {
		return nil, message(http.StatusBadRequest, "400 Bad request")
	}
	if !strings.HasPrefix(r.Header.Get("Content-Type"), "application/json") {
		form, err := url.ParseQuery(string(body))
		if err != nil {
			return nil, message(http.StatusBadRequest, "400 Bad request")
		}
		add(form)
		return in, nil
	}
	if len(body) == 0 {
		return in, nil
	}
	var object map[string]any
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.UseNumber() // a number stays as it was written
	if err := decoder.Decode(&object); err != nil {
		return nil, &gitlabError{http.StatusBadRequest, map[string]any{"error": "Problems parsing JSON"}}
	}
	flatten(in, "", object)
	return in, nil
}

func flatten(into map[string]string, prefix string, object map[string]any) {
	for key, value := range object {
		if prefix != "" {
			key = prefix + "[" + key + "]"
		}
		switch value := value.(type) {
		case nil:
		case map[string]any:
			if len(value) == 0 {
				into[key] = "" // it was there
			}
			flatten(into, key, value)
		case []any:
			list, _ := json.Marshal(value)
			into[key] = string(list)
		default:
			into[key] = fmt.Sprint(value)
		}
	}
}

func (r *request) text(name string) *string {
	if v, ok := r.in[name]; ok {
		return &v
	}
	return nil
}

func (r *request) truth(name string) *bool {
	v, ok := r.in[name]
	if !ok {
		return nil
	}
	is := v == "true" || v == "1"
	return &is
}

// missing is Grape's error for required parameters that are not there.
func (r *request) missing(names ...string) error {
	var faults []string
	for _, name := range names {
		if _, ok := r.in[name]; !ok {
			faults = append(faults, name+" is missing")
		}
	}
	if faults == nil {
		return nil
	}
	return &gitlabError{http.StatusBadRequest, map[string]any{"error": strings.Join(faults, ", ")}}
}

func (r *request) number(name string) int64 {
	n, _ := strconv.ParseInt(r.PathValue(name), 10, 64)
	return n
}

// paginate cuts a list into pages, and says in headers where the others are
// (GitLab, REST API, Offset-based pagination).
func paginate[T any](r *request, all []T) []T {
	page, size := r.pageOf("page", 1), min(r.pageOf("per_page", 20), 100)
	pages := max(1, (len(all)+size-1)/size)
	from := min((page-1)*size, len(all))
	h := r.header
	h.Set("X-Page", strconv.Itoa(page))
	h.Set("X-Per-Page", strconv.Itoa(size))
	h.Set("X-Total", strconv.Itoa(len(all)))
	h.Set("X-Total-Pages", strconv.Itoa(pages))
	h.Set("X-Next-Page", "")
	h.Set("X-Prev-Page", "")
	links := []string{r.link("first", "page", 1), r.link("last", "page", pages)}
	if page < pages {
		h.Set("X-Next-Page", strconv.Itoa(page+1))
		links = append(links, r.link("next", "page", page+1))
	}
	if page > 1 {
		h.Set("X-Prev-Page", strconv.Itoa(page-1))
		links = append(links, r.link("prev", "page", page-1))
	}
	h.Set("Link", strings.Join(links, ", "))
	return all[from:min(from+size, len(all))]
}

func (r *request) pageOf(name string, usual int) int {
	if n, err := strconv.Atoi(r.in[name]); err == nil && n > 0 {
		return n
	}
	return usual
}

func (r *request) link(rel, param string, value int) string {
	query := r.URL.Query()
	query.Set(param, strconv.Itoa(value))
	return fmt.Sprintf(`<http://%s%s?%s>; rel="%s"`, r.Host, r.URL.EscapedPath(), query.Encode(), rel)
}

// keyset pages jobs by id, newest first (GitLab, REST API, Keyset-based pagination).
func (r *request) keyset(all []*job) []*job {
	if cursor := r.pageOf("cursor", 0); cursor > 0 {
		all = slices.DeleteFunc(all, func(j *job) bool { return j.id >= int64(cursor) })
	}
	size := min(r.pageOf("per_page", 20), 100)
	if len(all) > size {
		all = all[:size]
		r.header.Set("Link", r.link("next", "cursor", int(all[size-1].id)))
	}
	return all
}

func sendGitLabError(rw http.ResponseWriter, err error) {
	var e *gitlabError
	if !errors.As(err, &e) {
		e = message(http.StatusInternalServerError, "500 Internal Server Error")
	}
	if e.status == http.StatusUnauthorized {
		rw.Header().Set("WWW-Authenticate", `Bearer realm="The API"`)
	}
	sendJSON(rw, e.status, e.body)
}

func sendJSON(rw http.ResponseWriter, status int, body any) {
	if status == http.StatusNoContent {
		rw.Header().Set("Date", instant().Format(http.TimeFormat))
		rw.WriteHeader(status)
		return
	}
	line, _ := json.Marshal(body)
	send(rw, status, "application/json", string(line))
}
