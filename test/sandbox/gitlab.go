package sandbox

import (
	"crypto/sha1" // #nosec G505: the ids of commits are SHA-1
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The roles of a member of a project (GitLab lib/gitlab/access.rb).
const (
	Reporter   = 20
	Developer  = 30
	Maintainer = 40
	Owner      = 50
)

// gitlabError is a refusal of GitLab: a status, and the body as the API sends it.
type gitlabError struct {
	status int
	body   any
}

func (e *gitlabError) Error() string {
	body, _ := json.Marshal(e.body)
	return strconv.Itoa(e.status) + " " + string(body)
}

// message is the usual body of a refusal.
func message(status int, m any) *gitlabError {
	return &gitlabError{status, map[string]any{"message": m}}
}

// Project is how a project is to be made.
type Project struct {
	ID            int64
	Path          string // with namespace: shop/billing
	DefaultBranch string // "" is main
	Refs          []Ref  // nil is the default branch, protected
	Archived      bool
	Pipeline      []JobSpec // the jobs of every new pipeline
	// Guarded are the protected environments that only people may deploy to.
	Guarded []string
	// NoRollback: an older deployment's job may not be retried (the setting
	// ci_forward_deployment_rollback_allowed is off).
	NoRollback bool
	// SharedWith are groups that the project was shared with, and the highest role that
	// their members get by it. It belongs to none of them: their variables do not reach it.
	SharedWith map[int64]int
	// Inputs are declared in spec:inputs of .gitlab-ci.yml: "name" has to be given,
	// "name=value" has a default. $[[ inputs.name ]] in a job's name, stage and
	// environment is what was given.
	Inputs []string
	// ProtectedTags are names and wildcards that protect the tags they match.
	ProtectedTags []string
	// TagPipelines: .gitlab-ci.yml has jobs for tags, so that a new one starts a pipeline.
	TagPipelines bool
	// CIFile is the .gitlab-ci.yml with all that it includes, as GitLab writes it
	// (merged_yaml of its linter); jobs are made of Pipeline all the same.
	CIFile string
}

// Ref is a branch or a tag.
type Ref struct {
	Name      string
	Tag       bool
	Protected bool   // by its own name; a tag may be by ProtectedTags too
	SHA       string // the commit it is at; "" is one that is made up from its name
}

// Token is how an access token is to be made, with the user that owns it.
type Token struct {
	Name     string
	Username string        // "" is one that is made up, as of a project's bot
	Scopes   []string      // api, read_api, self_rotate
	Roles    map[int64]int // role by project; no role: the project is not visible
	// GroupRoles are roles by group: they count in its subgroups, and in all their projects.
	GroupRoles map[int64]int
	Expires    time.Time // zero is in a year; GitLab counts whole days
	Revoked    bool
	Person     bool // what is done with it over HTTP is not judged
}

type project struct {
	Project
	variables    []*variable
	groups       []*group // that it belongs to, the closest first
	shared       []share
	schedules    []*schedule
	environments []*environment
	outcomes     []Outcome
	pipelines    int64 // how many: the last iid
}

type environment struct {
	id      int64
	name    string
	stopped bool
	live    string // the key id that the last successful deployment brought
}

type token struct {
	Token
	id, userID int64
	value      string
	created    time.Time
	family     int64 // the id of the first token that this one descends from; 0: its own
}

// active as GitLab counts: a token ends at 00:00 UTC of the day it expires.
func (t *token) active(now time.Time) bool {
	return !t.Revoked && now.Before(t.Expires.Truncate(24*time.Hour))
}

func (t *token) may(scope string) bool {
	return slices.Contains(t.Scopes, "api") || slices.Contains(t.Scopes, scope)
}

// bearer finds the token that a caller shows, if it may be used at all (GitLab
// lib/api/api_guard.rb).
func (w *World) bearer(value string) (*token, error) {
	i := slices.IndexFunc(w.tokens, func(t *token) bool { return t.value == value })
	if value == "" || i < 0 {
		return nil, message(http.StatusUnauthorized, "401 Unauthorized")
	}
	t := w.tokens[i]
	switch {
	case t.Revoked:
		return nil, invalidToken("Token was revoked. You have to re-authorize from the user.")
	case !t.active(w.now):
		return nil, invalidToken("Token is expired. You can either do re-authorization or token refresh.")
	}
	return t, nil
}

func invalidToken(why string) *gitlabError {
	return &gitlabError{http.StatusUnauthorized, map[string]any{"error": "invalid_token", "error_description": why}}
}

// allow finds a token that may do a thing: every write needs the scope api, and
// the role it takes. project is a number or a path.
func (w *World) allow(value, project string, role int, write bool) (*token, *project, error) {
	t, err := w.bearer(value)
	if err != nil {
		return nil, nil, err
	}
	if err := t.inScope(write); err != nil {
		return nil, nil, err
	}
	p := w.findProject(project)
	if p == nil || t.roleIn(p) == 0 {
		return nil, nil, message(http.StatusNotFound, "404 Project Not Found")
	}
	if t.roleIn(p) < role {
		return nil, nil, message(http.StatusForbidden, "403 Forbidden")
	}
	return t, p, nil
}

func (t *token) inScope(write bool) error {
	scope := "read_api"
	if write {
		scope = "api"
	}
	if t.may(scope) {
		return nil
	}
	return &gitlabError{http.StatusForbidden, map[string]any{
		"error":             "insufficient_scope",
		"error_description": "The request requires higher privileges than provided by the access token.",
		"scope":             "api",
	}}
}

func (w *World) findProject(idOrPath string) *project {
	if id, err := strconv.ParseInt(idOrPath, 10, 64); err == nil {
		return w.projects[id]
	}
	for _, p := range w.projects {
		if strings.EqualFold(p.Path, idOrPath) {
			return p
		}
	}
	return nil
}

func (p *project) ref(name string) (Ref, bool) {
	i := slices.IndexFunc(p.Refs, func(r Ref) bool { return r.Name == name })
	if i < 0 {
		return Ref{}, false
	}
	ref := p.Refs[i]
	ref.Protected = ref.Protected || ref.Tag && p.protectsTag(ref.Name)
	return ref, true
}

// sha is the commit that a ref is at now. A pipeline stays at that of when it was made.
func (p *project) sha(ref string) string {
	if r, ok := p.ref(ref); ok && r.SHA != "" {
		return r.SHA
	}
	sum := sha1.Sum([]byte(p.Path + "@" + ref)) // #nosec G401
	return hex.EncodeToString(sum[:])
}

// environmentOf finds an environment, which a deploy job makes when there is none.
func (w *World) environmentOf(p *project, name string) *environment {
	for _, e := range p.environments {
		if e.name == name {
			return e
		}
	}
	e := &environment{id: w.id("environment"), name: name}
	p.environments = append(p.environments, e)
	return e
}

func (w *World) webURL(p *project, format string, args ...any) string {
	return w.opts.GitLabURL + "/" + p.Path + "/-/" + fmt.Sprintf(format, args...)
}
