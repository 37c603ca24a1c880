package sandbox

import (
	"net/http"
	"regexp"
	"slices"
	"strings"
)

// Tags (GitLab lib/api/tags.rb, lib/api/protected_tags.rb).

func tagEndpoints() map[string]endpoint {
	return map[string]endpoint{
		"GET /api/v4/projects/{id}/repository/tags":          {"tags", Reporter, 200, listTags},
		"POST /api/v4/projects/{id}/repository/tags":         {"tag", Developer, 201, postTag},
		"GET /api/v4/projects/{id}/repository/tags/{ref}":    {"tag", Reporter, 200, showTag},
		"DELETE /api/v4/projects/{id}/repository/tags/{ref}": {"tag", Reporter, 204, deleteTag},
		"GET /api/v4/projects/{id}/protected_tags":           {"protected tags", Maintainer, 200, listProtectedTags},
	}
}

var (
	fullSHA = regexp.MustCompile(`\A[0-9a-f]{40}\z`)
	// looksLikeSHA: STARTS_WITH_SHA_REGEX of GitLab lib/gitlab/checks/tag_check.rb.
	looksLikeSHA = regexp.MustCompile(`\A[0-9a-f]{40}`)
	badRefName   = regexp.MustCompile(`[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|\A[/.-]|[/.]\z|\.lock\z|/\.`)
)

// protectsTag tells whether a pattern protects a tag, be there one of that name or not.
func (p *project) protectsTag(name string) bool {
	return slices.ContainsFunc(p.ProtectedTags, func(pattern string) bool { return wildcard(pattern, name) })
}

// createTag makes a tag at a branch, a tag or a commit (GitLab
// app/services/tags/create_service.rb; the words about protection are those of
// lib/gitlab/checks/tag_check.rb).
func (w *World) createTag(p *project, t *token, name, target string) (Ref, error) {
	sha, known := w.commitAt(p, target)
	old, taken := p.ref(name)
	var fault string
	switch {
	case target == "":
		fault = "Target is empty"
	case badRefName.MatchString(name) || name == "":
		fault = "Tag name invalid"
	case !known:
		fault = "Target " + target + " is invalid"
	case taken && old.Tag:
		fault = "Tag " + name + " already exists"
	case name == p.DefaultBranch:
		fault = "You cannot use default branch name to create a tag"
	case looksLikeSHA.MatchString(name):
		fault = "You cannot create a tag with a SHA-1 or SHA-256 tag name."
	case p.protectsTag(name) && t.roleIn(p) < Maintainer:
		fault = "You are not allowed to create this tag as it is protected."
	}
	if fault != "" {
		return Ref{}, message(http.StatusBadRequest, fault)
	}
	p.Refs = append(p.Refs, Ref{Name: name, Tag: true, SHA: sha})
	made, _ := p.ref(name)
	if p.TagPipelines && len(p.Pipeline) > 0 {
		w.newPipeline(p, made, origin{"push", t.Username, t.userID}, Success, p.jobsWith(nil))
	}
	return made, nil
}

// deleteTag needs the right that creating it does: a Developer's, and a Maintainer's for
// a protected one (GitLab lib/gitlab/git/tag_policy.rb). Pipelines that ran on it, and
// their deployments, stay.
func (w *World) deleteTag(p *project, t *token, name string) error {
	tag, ok := p.ref(name)
	switch role := t.roleIn(p); {
	case !ok || !tag.Tag:
		return message(http.StatusNotFound, "404 Tag Not Found")
	case role < Developer, tag.Protected && role < Maintainer:
		return message(http.StatusForbidden, "403 Forbidden")
	}
	p.Refs = slices.DeleteFunc(slices.Clone(p.Refs), func(r Ref) bool { return r.Name == name && r.Tag })
	return nil
}

// commitAt finds the commit that is meant by a branch, a tag or an id in full. The
// commits of a project are those of its refs and its pipelines.
func (w *World) commitAt(p *project, target string) (sha string, ok bool) {
	if _, ok := p.ref(target); ok {
		return p.sha(target), true
	}
	if !fullSHA.MatchString(target) {
		return "", false
	}
	isAt := func(r Ref) bool { return p.sha(r.Name) == target }
	ran := func(pl *pipeline) bool { return pl.project == p && pl.sha == target }
	return target, slices.ContainsFunc(p.Refs, isAt) || slices.ContainsFunc(w.pipelines, ran)
}

func (r *request) tag(ref Ref) object {
	sha := r.project.sha(ref.Name)
	return object{
		"name": ref.Name, "message": "", "target": sha, "protected": ref.Protected,
		"release": nil, "commit": commit(sha),
	}
}

// listTags: search is a part of the name, or its beginning (^) or its end ($).
func listTags(r *request) (any, error) {
	part, begins := strings.CutPrefix(r.in["search"], "^")
	part, ends := strings.CutSuffix(part, "$")
	var found []Ref
	for _, ref := range r.project.Refs {
		fits := strings.Contains(ref.Name, part) && (!begins || strings.HasPrefix(ref.Name, part)) && (!ends || strings.HasSuffix(ref.Name, part))
		if ref.Tag && fits {
			tag, _ := r.project.ref(ref.Name)
			found = append(found, tag)
		}
	}
	out := []object{}
	for _, ref := range paginate(r, found) {
		out = append(out, r.tag(ref))
	}
	return out, nil
}

func postTag(r *request) (any, error) {
	if err := r.missing("tag_name", "ref"); err != nil {
		return nil, err
	}
	made, err := r.w.createTag(r.project, r.token, r.in["tag_name"], r.in["ref"])
	if err != nil {
		return nil, err
	}
	return r.tag(made), nil
}

func deleteTag(r *request) (any, error) {
	return nil, r.w.deleteTag(r.project, r.token, r.PathValue("ref"))
}

func listProtectedTags(r *request) (any, error) {
	out := []object{}
	for _, pattern := range paginate(r, r.project.ProtectedTags) {
		out = append(out, object{"name": pattern, "create_access_levels": []object{
			{"id": 1, "access_level": Maintainer, "access_level_description": "Maintainers"},
		}})
	}
	return out, nil
}
