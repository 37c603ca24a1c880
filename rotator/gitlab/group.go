package gitlab

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"

	gitlab "gitlab.com/gitlab-org/api/client-go/v2"

	"credential-rotator/rotator"
)

// groupPages bounds the list of a group's projects: a key for more than a thousand is
// no key of a service.
const groupPages = 10

// lookAtGroup looks whether a group can be seen, whether the projects that are redeployed
// are its own, and which others get its variables.
func (c *Client) lookAtGroup(ctx context.Context, pre *preflight, target int, id int64, turns []rotator.Turn) error {
	called := fmt.Sprintf("group %d", id)
	projects, err := c.projectsOf(ctx, id)
	if why, known := err.(*problem); known && !why.foreign { //nolint:errorlint // projectsOf returns it as it is
		switch {
		case why.notFound():
			pre.fault(called, "group %d does not exist, or the GitLab token cannot see it: correct group_id, or take a group access token with the role Owner", id)
			return nil
		case why.status == http.StatusUnauthorized || why.status == http.StatusForbidden:
			pre.fault(called, "%s", why.text)
			return nil
		}
	}
	if err != nil {
		return fmt.Errorf("listing the projects of group %d: %w", id, err)
	}
	covered := func(project int64) bool {
		return slices.ContainsFunc(turns, func(t rotator.Turn) bool { return t.Target == target && t.ProjectID == project })
	}
	var others []string
	within := map[int64]bool{}
	for _, p := range projects {
		if within[p.ID] = true; !covered(p.ID) {
			others = append(others, p.PathWithNamespace)
		}
	}
	strangers := false
	for _, t := range turns {
		if t.Target == target && !within[t.ProjectID] {
			pre.fault(called, "project %d is not in group %d, so it does not get the group's variables: correct redeploys", t.ProjectID, id)
			strangers = true
		}
	}
	switch {
	case len(others) > 0:
		pre.note(called, rotator.CheckWarning, "the jobs of %s get the group's variables too and are not redeployed: what they have deployed with the old key keeps it until it is retired; name them in redeploys, or overlap_hours", shortList(others))
	case !strangers:
		pre.note(called, rotator.CheckOK, "%d projects, all of them are redeployed", len(projects))
	}
	return nil
}

// projectsOf lists the projects of a group and its subgroups in which jobs can run.
func (c *Client) projectsOf(ctx context.Context, id int64) ([]*gitlab.Project, error) {
	opt := &gitlab.ListGroupProjectsOptions{ListOptions: gitlab.ListOptions{PerPage: 100}, IncludeSubGroups: new(true), Archived: new(false), WithShared: new(false)}
	projects, resp, err := pages(groupPages, func(page gitlab.PaginationOptionFunc) ([]*gitlab.Project, *gitlab.Response, error) {
		return c.api.Groups.ListGroupProjects(id, opt, gitlab.WithContext(ctx), page)
	})
	if err != nil {
		return nil, c.explain(resp, err)
	}
	return slices.DeleteFunc(projects, func(p *gitlab.Project) bool {
		return p == nil || p.BuildsAccessLevel == gitlab.DisabledAccessControl
	}), nil
}

// shortList names the first of many.
func shortList(names []string) string {
	const shown = 5 // enough to know which team to ask
	if more := len(names) - shown; more > 0 {
		names = append(slices.Clone(names[:shown]), fmt.Sprintf("%d more", more))
	}
	return strings.Join(names, ", ")
}
