package sandbox

import (
	"fmt"
	"net/http"
	"path"
	"strconv"
	"strings"
)

// Group is how a group is to be made.
type Group struct {
	ID   int64
	Path string // with its parents: shop/pay
	// Licensed: it is on Premium or Ultimate, and its variables can have a scope.
	Licensed bool
}

type group struct {
	Group
	parent    *group // nil: it is a root
	variables []*variable
}

// share is a project's being shared with a group.
type share struct {
	with *group
	role int // the highest that it gives
}

func (g *group) own() *[]*variable { return &g.variables }

func (*group) limit() (int, string) { return 30000, "group ci variables" }

func (*group) absent() error { return message(http.StatusNotFound, "404 GroupVariable Not Found") }

// AddGroup makes a group; the one that it is a subgroup of exists. What has a path below
// its own belongs to it.
func (w *World) AddGroup(g Group) {
	defer w.enter()()
	added := &group{Group: g, parent: w.groupAt(path.Dir(g.Path))}
	if added.parent == nil && strings.Contains(g.Path, "/") {
		must(fmt.Errorf("there is no group %s", path.Dir(g.Path)))
	}
	w.groups[g.ID] = added
	w.regroup()
}

// EditGroup changes a group, but neither its id nor its path.
func (w *World) EditGroup(groupID int64, edit func(*Group)) {
	defer w.enter()()
	g := w.mustGroup(groupID)
	next := g.Group
	edit(&next)
	if next.ID != g.ID || next.Path != g.Path {
		must(fmt.Errorf("group %d cannot be moved", g.ID))
	}
	g.Group = next
}

func (w *World) mustGroup(groupID int64) *group {
	g := w.groups[groupID]
	if g == nil {
		must(fmt.Errorf("there is no group %d", groupID))
	}
	return g
}

func (w *World) groupAt(path string) *group {
	for _, g := range w.groups {
		if strings.EqualFold(g.Path, path) {
			return g
		}
	}
	return nil
}

func (w *World) findGroup(idOrPath string) *group {
	if id, err := strconv.ParseInt(idOrPath, 10, 64); err == nil {
		return w.groups[id]
	}
	return w.groupAt(idOrPath)
}

// regroup finds anew which groups the projects belong to, and are shared with.
func (w *World) regroup() {
	for _, p := range w.projects {
		p.groups, p.shared = w.groupAt(path.Dir(p.Path)).andParents(), nil
		for id, role := range p.SharedWith {
			p.shared = append(p.shared, share{w.mustGroup(id), role})
		}
	}
}

// andParents are the group and those that it is a subgroup of, the closest first.
func (g *group) andParents() []*group {
	var all []*group
	for ; g != nil; g = g.parent {
		all = append(all, g)
	}
	return all
}

func (g *group) has(p *project) bool {
	for _, other := range p.groups {
		if other == g {
			return true
		}
	}
	return false
}

// roleInGroup counts the roles in the groups that it is a subgroup of (GitLab, Members,
// Membership types: inherited).
func (t *token) roleInGroup(g *group) int {
	role := 0
	for _, g := range g.andParents() {
		role = max(role, t.GroupRoles[g.ID])
	}
	return role
}

// roleIn is the highest of the roles that a token has in a project: its own, those in
// its groups, and those in groups that it is shared with, as far as the share goes.
func (t *token) roleIn(p *project) int {
	role := t.Roles[p.ID]
	for _, g := range p.groups {
		role = max(role, t.GroupRoles[g.ID])
	}
	for _, s := range p.shared {
		role = max(role, min(s.role, t.roleInGroup(s.with)))
	}
	return role
}

// sees: members see a group, and so do those of any project in it (GitLab
// app/policies/group_policy.rb, has_projects).
func (w *World) sees(t *token, g *group) bool {
	if t.roleInGroup(g) > 0 {
		return true
	}
	for _, p := range w.projects {
		if g.has(p) && t.roleIn(p) > 0 {
			return true
		}
	}
	return false
}

// allowGroup finds a token that may do a thing in a group, which is a number or a path.
// Role 0 is for whoever sees it.
func (w *World) allowGroup(value, idOrPath string, role int, write bool) (*token, *group, error) {
	t, err := w.bearer(value)
	if err != nil {
		return nil, nil, err
	}
	if err := t.inScope(write); err != nil {
		return nil, nil, err
	}
	g := w.findGroup(idOrPath)
	if g == nil || !w.sees(t, g) {
		return nil, nil, message(http.StatusNotFound, "404 Group Not Found")
	}
	if t.roleInGroup(g) < role {
		return nil, nil, message(http.StatusForbidden, "403 Forbidden")
	}
	return t, g, nil
}

// licensed is what the licence leaves of a change: without one a scope is dropped, and
// nobody is told (GitLab ee/lib/ee/api/helpers/variables_helpers.rb).
func (g *group) licensed(c change) change {
	if !g.Licensed {
		c.Scope = nil
	}
	return c
}

// anyVariable is whichever of a key the database comes upon first: find_by! has no
// order.
func (w *World) anyVariable(g *group, key string) (*variable, error) {
	var found []*variable
	for _, v := range g.variables {
		if v.Key == key {
			found = append(found, v)
		}
	}
	if len(found) == 0 {
		return nil, g.absent()
	}
	return found[w.rng.IntN(len(found))], nil
}

// SetGroupVariable makes a variable of a group, or changes all of one that exists.
func (w *World) SetGroupVariable(groupID int64, v Variable) {
	defer w.enter()()
	w.setVariable(w.mustGroup(groupID), v)
}

// EditGroupVariable changes a variable of a group in a scope.
func (w *World) EditGroupVariable(groupID int64, key, scope string, edit func(*Variable)) {
	defer w.enter()()
	w.editVariable(w.mustGroup(groupID), key, scope, edit)
}

// DeleteGroupVariable deletes a variable of a group in a scope.
func (w *World) DeleteGroupVariable(groupID int64, key, scope string) {
	defer w.enter()()
	g := w.mustGroup(groupID)
	v, err := findVariable(g, key, scope)
	must(err)
	deleteVariableOf(g, v)
}

// GroupVariable is a variable of a group as it is, a hidden one too.
func (w *World) GroupVariable(groupID int64, key, scope string) (Variable, bool) {
	defer w.enter()()
	v, err := findVariable(w.mustGroup(groupID), key, scope)
	if err != nil {
		return Variable{}, false
	}
	return v.Variable, true
}
