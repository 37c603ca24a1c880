package gitlab

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	gitlab "gitlab.com/gitlab-org/api/client-go/v2"

	"credential-rotator/rotator"
)

// lookAtVariables reads what is published, unless a fault was found before.
func (c *Client) lookAtVariables(ctx context.Context, pre *preflight, places []rotator.Place) (map[string][]*gitlab.ProjectVariable, error) {
	if len(pre.Found(rotator.CheckFault)) > 0 {
		return nil, nil
	}
	published, rows, err := c.readAll(ctx, places)
	if errors.Is(err, rotator.ErrRefused) {
		pre.Published = make([]rotator.Published, len(places))
		pre.Published[0].Faults = []string{strings.Replace(err.Error(), rotator.ErrRefused.Error()+": ", "", 1)}
		return nil, nil
	}
	pre.Published = published
	return rows, err
}

// mayBeProtected tells whether it matters that the jobs of a place get protected
// variables: one of its names is, or is to be made.
func mayBeProtected(rows []*gitlab.ProjectVariable, place rotator.Place) bool {
	missing := place.Variables()
	for _, row := range rows {
		if slices.Contains(place.Variables(), row.Key) && row.Protected {
			return true
		}
		if row.EnvironmentScope == place.EnvironmentScope {
			missing = slices.DeleteFunc(missing, func(name string) bool { return name == row.Key })
		}
	}
	return len(missing) > 0
}

// lookWhoGets looks whether the jobs of each turn would get what is published.
func (c *Client) lookWhoGets(ctx context.Context, pre *preflight, r rotator.Request, rows map[string][]*gitlab.ProjectVariable) error {
	if rows == nil {
		return nil // why they cannot be read is told
	}
	places := r.Places()
	for i, t := range r.Turns() {
		if t.Redeploy == rotator.RedeployNone || pre.projects[t.ProjectID] == nil {
			continue
		}
		place := places[t.Target]
		if err := c.lookAtReach(ctx, pre, r, i, uncovered(rows[place.Owner()], places, place)); err != nil {
			return err
		}
	}
	return nil
}

// uncovered are the variables of a place's owner, but for those that the same pair is
// published to: they are other places of the request.
func uncovered(rows []*gitlab.ProjectVariable, places []rotator.Place, of rotator.Place) []*gitlab.ProjectVariable {
	return slices.DeleteFunc(slices.Clone(rows), func(row *gitlab.ProjectVariable) bool {
		return slices.ContainsFunc(places, func(p rotator.Place) bool {
			return p != of && p.Owner() == of.Owner() && p.EnvironmentScope == row.EnvironmentScope && slices.Contains(p.Variables(), row.Key)
		})
	})
}

// lookAtReach finds what jobs of a turn would get instead of what is published.
func (c *Client) lookAtReach(ctx context.Context, pre *preflight, r rotator.Request, i int, rows []*gitlab.ProjectVariable) error {
	t, places := r.Turns()[i], r.Places()
	place := places[t.Target]
	project, turn := pre.projects[t.ProjectID], pre.Turns[i]
	a := audience{
		ProjectID: t.ProjectID, WebURL: project.WebURL, Names: place.Variables(), Scope: place.EnvironmentScope, Settings: projectSettings(rows),
		Environment: t.Environment, Ref: turn.Ref, Protected: turn.RefProtected, CIFile: true,
	}
	slices.Reverse(a.Names) // the key id first, as people look for it
	if turn.LiveRef != "" {
		a.Ref, a.Protected = turn.LiveRef, turn.LiveRefProtected
	}
	found, err := c.shadows(ctx, a)
	if err != nil {
		return err
	}
	if place.GroupID != 0 {
		more, err := c.lookAtHeirs(ctx, pre, r, i, a)
		if err != nil {
			return err
		}
		found = append(found, more...)
	}
	called := fmt.Sprintf("jobs of project %d", t.ProjectID)
	if t.Environment != "" {
		called = fmt.Sprintf("jobs of %s of project %d", t.Environment, t.ProjectID)
	}
	for _, warning := range found {
		pre.note(called, rotator.CheckWarning, "%s", warning)
	}
	if len(found) == 0 {
		pre.note(called, rotator.CheckOK, "they get the new key: no schedule and no closer scope has another")
	}
	return nil
}

// lookAtHeirs looks at the variables of a turn's project that gets those of a group, and at
// those of the subgroups in between: they outrank the group's, and may hold the same key.
func (c *Client) lookAtHeirs(ctx context.Context, pre *preflight, r rotator.Request, i int, a audience) ([]string, error) {
	t, places := r.Turns()[i], r.Places()
	project, group := pre.projects[t.ProjectID], places[t.Target].GroupID
	var found []string
	look := func(of rotator.Place, h heir) error {
		shadows, own, err := c.heirOf(ctx, a, of, h, places)
		if found = append(found, shadows...); err != nil || own == nil {
			return err
		}
		if of.GroupID != 0 {
			pre.Turns[i].Subgroups = append(pre.Turns[i].Subgroups, of.GroupID)
		}
		for _, held := range elsewhere(own.rows, places, of.Owner()) {
			held.Variable += " of " + of.Owner()
			if known := &pre.Published[t.Target].Elsewhere; !slices.Contains(*known, held) { // of another turn's project
				*known = append(*known, held)
			}
		}
		return nil
	}
	if err := look(rotator.Place{ProjectID: t.ProjectID}, heir{Name: "project " + project.PathWithNamespace, WebURL: project.WebURL}); err != nil {
		return nil, err
	}
	const most = 20 // levels; that is what GitLab allows
	next := namespaceOf(project)
	for range most {
		if next.id == 0 || next.id == group {
			return found, nil
		}
		if err := look(rotator.Place{GroupID: next.id}, heir{Name: "group " + next.path, WebURL: next.url}); err != nil {
			return nil, err
		}
		if next.parent == group {
			return found, nil
		}
		var err error
		if next, err = c.groupOf(ctx, next.parent); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// heirOf are the variables of an heir, nil when they may not be read, and in words those
// of them that outrank the group's: not those that the same pair is published to.
func (c *Client) heirOf(ctx context.Context, a audience, of rotator.Place, h heir, places []rotator.Place) ([]string, *listing, error) {
	own, err := c.rows(ctx, of)
	if errors.Is(err, rotator.ErrRefused) {
		return []string{fmt.Sprintf("the variables of %s cannot be read (%s), and its own outrank the group's: look there", of.Owner(), strings.TrimPrefix(err.Error(), rotator.ErrRefused.Error()+": "))}, nil, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("reading the variables of %s: %w", of.Owner(), err)
	}
	h.Settings = projectSettings(uncovered(own.rows, places, of))
	return heirShadows(a, []heir{h}), &own, nil
}

// level is a group on the way from a project to its root.
type level struct {
	id, parent int64
	path, url  string
}

func namespaceOf(p *gitlab.Project) level {
	if p.Namespace == nil || p.Namespace.Kind != "group" {
		return level{}
	}
	return level{p.Namespace.ID, p.Namespace.ParentID, p.Namespace.FullPath, p.Namespace.WebURL}
}

// groupOf asks about a group in one call.
func (c *Client) groupOf(ctx context.Context, id int64) (level, error) {
	if id == 0 {
		return level{}, nil
	}
	g, resp, err := c.api.Groups.GetGroup(id, nil, gitlab.WithContext(ctx))
	if err != nil || g == nil {
		return level{}, fmt.Errorf("looking at group %d: %w", id, c.explain(resp, err))
	}
	return level{g.ID, g.ParentID, g.FullPath, g.WebURL}, nil
}
