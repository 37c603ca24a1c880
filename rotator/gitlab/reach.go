package gitlab

import (
	"context"
	"errors"
	"fmt"
	"slices"

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
		pre.Published[0].Faults = []string{err.Error()}
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
		more, err := c.lookAtHeir(ctx, pre, t, places, a)
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

// lookAtHeir looks at the variables of a project that gets those of a group: its own
// outrank them, and may hold the same key.
func (c *Client) lookAtHeir(ctx context.Context, pre *preflight, t rotator.Turn, places []rotator.Place, a audience) ([]string, error) {
	project, itself := pre.projects[t.ProjectID], rotator.Place{ProjectID: t.ProjectID}
	own, err := c.rows(ctx, itself)
	if errors.Is(err, rotator.ErrRefused) {
		return []string{fmt.Sprintf("the variables of project %d cannot be read (%v), and its own outrank the group's: look there", t.ProjectID, err)}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the variables of project %d: %w", t.ProjectID, err)
	}
	for _, h := range elsewhere(own.rows, places, itself.Owner()) {
		h.Variable += fmt.Sprintf(" of project %d", t.ProjectID)
		pre.Published[t.Target].Elsewhere = append(pre.Published[t.Target].Elsewhere, h)
	}
	return heirShadows(a, []heir{{Name: "project " + project.PathWithNamespace, WebURL: project.WebURL, Settings: projectSettings(own.rows)}}), nil
}
