package sandbox

import (
	"errors"
	"maps"
	"net/http"
	"path"
	"slices"
	"strings"
)

// What the endpoints of groups do (GitLab lib/api/groups.rb, lib/api/group_variables.rb).

// groupEndpoints need no role in a project; inGroup asks for the one in the group. The
// variables are an Owner's, to read as well.
func groupEndpoints() map[string]endpoint {
	return map[string]endpoint{
		"GET /api/v4/groups/{id}":                    {"group", 0, 200, inGroup(0, showGroup)},
		"GET /api/v4/groups/{id}/projects":           {"group projects", 0, 200, inGroup(0, listGroupProjects)},
		"GET /api/v4/groups/{id}/variables":          {"group variables", 0, 200, inGroup(Owner, listGroupVariables)},
		"POST /api/v4/groups/{id}/variables":         {"group variable", 0, 201, inGroup(Owner, postGroupVariable)},
		"GET /api/v4/groups/{id}/variables/{key}":    {"group variable", 0, 200, inGroup(Owner, showGroupVariable)},
		"PUT /api/v4/groups/{id}/variables/{key}":    {"group variable", 0, 200, inGroup(Owner, putGroupVariable)},
		"DELETE /api/v4/groups/{id}/variables/{key}": {"group variable", 0, 204, inGroup(Owner, deleteGroupVariable)},
	}
}

func inGroup(role int, do func(*request, *group) (any, error)) func(*request) (any, error) {
	return func(r *request) (any, error) {
		write := r.Method != http.MethodGet && r.Method != http.MethodHead
		_, g, err := r.w.allowGroup(r.token.value, r.PathValue("id"), role, write)
		if err != nil {
			return nil, err
		}
		return do(r, g)
	}
}

func showGroup(r *request, g *group) (any, error) {
	name := path.Base(g.Path)
	o := object{
		"id": g.ID, "name": name, "path": name, "description": "", "visibility": "private",
		"full_name": strings.ReplaceAll(g.Path, "/", " / "), "full_path": g.Path, "parent_id": nil,
		"web_url": r.w.opts.GitLabURL + "/groups/" + g.Path,
	}
	if g.parent != nil {
		o["parent_id"] = g.parent.ID
	}
	return o, nil
}

// namespaceObject is the group that a project is in; one that is in none is somebody's.
func (w *World) namespaceObject(p *project) object {
	if len(p.groups) == 0 {
		name := path.Dir(p.Path)
		return object{"id": 1, "name": name, "path": name, "kind": "user", "full_path": name, "parent_id": nil, "web_url": w.opts.GitLabURL + "/" + name}
	}
	g := p.groups[0]
	o := object{
		"id": g.ID, "name": path.Base(g.Path), "path": path.Base(g.Path), "kind": "group", "full_path": g.Path, "parent_id": nil,
		"web_url": w.opts.GitLabURL + "/groups/" + g.Path,
	}
	if g.parent != nil {
		o["parent_id"] = g.parent.ID
	}
	return o
}

// permissions are the roles that a token was given in the project itself and in its
// groups (GitLab lib/api/entities/project_with_access.rb). What comes by a share is not
// among them.
func permissions(t *token, p *project) object {
	access := func(role int) any {
		if role == 0 {
			return nil
		}
		return object{"access_level": role, "notification_level": 3}
	}
	inGroups := 0
	for _, g := range p.groups {
		inGroups = max(inGroups, t.GroupRoles[g.ID])
	}
	return object{"project_access": access(t.Roles[p.ID]), "group_access": access(inGroups)}
}

// listGroupProjects: those that the token sees, the newest first. Those of subgroups
// only when asked for, those that are shared with the group unless asked not to, and
// archived ones with the others when nothing is said about them. They are without
// permissions (present_projects).
func listGroupProjects(r *request, g *group) (any, error) {
	is := func(name string, usual bool) bool {
		if v := r.truth(name); v != nil {
			return *v
		}
		return usual
	}
	below, shared, archived := is("include_subgroups", false), is("with_shared", true), r.truth("archived")
	var found []*project
	for _, id := range slices.Backward(slices.Sorted(maps.Keys(r.w.projects))) {
		p := r.w.projects[id]
		here := len(p.groups) > 0 && p.groups[0] == g || below && g.has(p) ||
			shared && slices.ContainsFunc(p.shared, func(s share) bool { return s.with == g })
		if here && r.token.roleIn(p) > 0 && (archived == nil || *archived == p.Archived) {
			found = append(found, p)
		}
	}
	if r.in["sort"] == "asc" {
		slices.Reverse(found)
	}
	out := []object{}
	for _, p := range paginate(r, found) {
		out = append(out, r.w.projectObject(p))
	}
	return out, nil
}

func listGroupVariables(r *request, g *group) (any, error) {
	r.caller.sees(g)
	out := []object{}
	for _, v := range paginate(r, g.variables) {
		out = append(out, variableObject(v))
	}
	return out, nil
}

func (r *request) groupVariable(g *group) (*variable, error) {
	return findVariable(g, r.PathValue("key"), r.in["filter[environment_scope]"])
}

func showGroupVariable(r *request, g *group) (any, error) {
	v, err := r.groupVariable(g)
	if err != nil {
		return nil, err
	}
	r.caller.sees(g)
	return variableObject(v), nil
}

func postGroupVariable(r *request, g *group) (any, error) {
	if err := r.missing("key", "value"); err != nil {
		return nil, err
	}
	v, err := r.w.createVariable(g, r.in["key"], g.licensed(r.asked()), r.token.Person)
	if err != nil {
		return nil, err
	}
	return variableObject(v), nil
}

// putGroupVariable changes any variable of the key when it is told no filter. A filter
// that finds none is as good as none: ChangeVariableService then looks for itself, by
// the key alone (GitLab lib/api/group_variables.rb,
// app/services/ci/change_variable_service.rb).
func putGroupVariable(r *request, g *group) (any, error) {
	var v *variable
	if r.has("filter") {
		found, err := r.groupVariable(g)
		var e *gitlabError
		if errors.As(err, &e) && e.status == http.StatusConflict {
			return nil, err
		}
		v = found
	}
	if v == nil {
		var err error
		if v, err = r.w.anyVariable(g, r.PathValue("key")); err != nil {
			return nil, err
		}
	}
	if err := r.w.updateVariable(g, v, g.licensed(r.asked()), r.token.Person); err != nil {
		return nil, err
	}
	return variableObject(v), nil
}

func deleteGroupVariable(r *request, g *group) (any, error) {
	v, err := r.groupVariable(g)
	if err != nil {
		return nil, err
	}
	deleteVariableOf(g, v)
	return nil, nil
}

// has tells whether the request names a parameter, be it an object.
func (r *request) has(name string) bool {
	for key := range r.in {
		if key == name || strings.HasPrefix(key, name+"[") {
			return true
		}
	}
	return false
}

// under are the members of a parameter that is an object; nil when there are none.
func (r *request) under(name string) map[string]string {
	var members map[string]string
	for key, value := range r.in {
		member, ok := strings.CutPrefix(key, name+"[")
		if !ok {
			continue
		}
		if members == nil {
			members = map[string]string{}
		}
		members[strings.TrimSuffix(member, "]")] = value
	}
	return members
}
