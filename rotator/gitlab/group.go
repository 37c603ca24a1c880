package gitlab

import (
	"context"
	"errors"
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
	if errors.Is(err, rotator.ErrRefused) {
		pre.fault(called, "%s", strings.TrimPrefix(err.Error(), rotator.ErrRefused.Error()+": "))
		return nil
	}
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
		// For whichever place: all are published to before the first redeploy.
		return slices.ContainsFunc(turns, func(t rotator.Turn) bool {
			return t.ProjectID == project && (t.Target == target || t.Redeploy != rotator.RedeployNone)
		})
	}
	var others []string
	within := map[int64]bool{}
	for _, p := range projects {
		if within[p.ID] = true; runsJobs(p) && !covered(p.ID) {
			others = append(others, p.PathWithNamespace)
		}
	}
	strangers := false
	for _, t := range turns {
		if t.Target == target && t.ProjectID != 0 && !within[t.ProjectID] {
			pre.fault(called, "project %d is not in group %d, so it does not get the group's variables: correct redeploys", t.ProjectID, id)
			strangers = true
		}
	}
	switch n := len(projects); {
	case len(others) > 0:
		pre.note(called, rotator.CheckWarning, "the jobs of %s get the group's variables too and are not redeployed: what they have deployed with the old key keeps it until it is retired; name them in redeploys, or overlap_hours", shortList(others))
	case strangers:
	case n == 0:
		pre.note(called, rotator.CheckWarning, "the GitLab token sees no project of group %d, so nobody knows whose jobs get its variables", id)
	case n == 1:
		pre.note(called, rotator.CheckOK, "its only project is redeployed")
	default:
		pre.note(called, rotator.CheckOK, "%d projects, all in which jobs run are redeployed", n)
	}
	return nil
}

// runsJobs tells whether jobs can run in a project.
func runsJobs(p *gitlab.Project) bool {
	return !p.Archived && p.BuildsAccessLevel != gitlab.DisabledAccessControl
}

// projectsOf lists the projects of a group and its subgroups.
func (c *Client) projectsOf(ctx context.Context, id int64) ([]*gitlab.Project, error) {
	opt := &gitlab.ListGroupProjectsOptions{ListOptions: gitlab.ListOptions{PerPage: 100}, IncludeSubGroups: new(true), WithShared: new(false)}
	projects, resp, err := pages(groupPages, func(page gitlab.PaginationOptionFunc) ([]*gitlab.Project, *gitlab.Response, error) {
		return c.api.Groups.ListGroupProjects(id, opt, gitlab.WithContext(ctx), page)
	})
	switch {
	case errors.Is(err, errEndless):
		return nil, refused(fmt.Errorf("group %d has more than %d projects, and the jobs of all of them would get the key: publish to a smaller group", id, groupPages*100))
	case err != nil:
		return nil, c.explain(resp, err)
	}
	return projects, nil
}

// shortList names the first of many.
func shortList(names []string) string {
	const shown = 5 // enough to know which team to ask
	if more := len(names) - shown; more > 0 {
		names = append(slices.Clone(names[:shown]), fmt.Sprintf("%d more", more))
	}
	return strings.Join(names, ", ")
}
