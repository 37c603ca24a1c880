package gitlab

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path"
	"slices"
	"strings"
	"time"

	gitlab "gitlab.com/gitlab-org/api/client-go/v2"

	"credential-rotator/rotator"
)

// expiryNotice is how long before its end a token is worth a warning.
const expiryNotice = rotator.TokenNotice

// preflight is a look before anything is touched, as far as it has come.
type preflight struct {
	rotator.Preflight
	projects map[int64]*gitlab.Project // those that can be seen
	// onlyProtected: whether the ref of the turn is protected may matter.
	onlyProtected bool
}

func (p *preflight) note(name string, state rotator.CheckState, format string, args ...any) {
	p.Checks = append(p.Checks, rotator.Check{Name: name, State: state, Detail: fmt.Sprintf(format, args...)})
}

func (p *preflight) fault(name, format string, args ...any) {
	p.note(name, rotator.CheckFault, format, args...)
}

// Preflight looks at the token, the project, its variables and its schedules, in four
// calls. The ref costs one more, or two when it is a tag: when it is not the default
// branch, or some variable is protected, or to be made. Each schedule on the ref costs
// one. What is to be deployed again costs four, and its ref; a group one, and one for each
// of its projects that is redeployed.
func (c *Client) Preflight(ctx context.Context, r rotator.Request) (rotator.Preflight, error) {
	turns := r.Turns()
	pre := preflight{projects: map[int64]*gitlab.Project{}}
	pre.Turns = make([]rotator.TurnPreflight, len(turns))
	if err := c.lookAtToken(ctx, &pre); err != nil {
		return rotator.Preflight{}, err
	}
	if len(pre.Found(rotator.CheckFault)) > 0 {
		return pre.Preflight, nil // with that token, nothing else can be seen
	}
	for i, t := range r.Targets() {
		if err := c.lookAtTarget(ctx, &pre, i, t, turns); err != nil {
			return rotator.Preflight{}, err
		}
	}
	rows, err := c.lookAtVariables(ctx, &pre, r.Places())
	if err != nil {
		return rotator.Preflight{}, err
	}
	for i, t := range turns {
		if pre.projects[t.ProjectID] == nil {
			continue // which is told
		}
		place := r.Places()[t.Target]
		pre.onlyProtected = mayBeProtected(rows[place.Owner()], place)
		if err := c.lookAtTurn(ctx, &pre, i, t, place); err != nil {
			return rotator.Preflight{}, err
		}
	}
	if len(pre.Found(rotator.CheckFault)) > 0 {
		return pre.Preflight, nil
	}
	if err := c.lookWhoGets(ctx, &pre, r, rows); err != nil {
		return rotator.Preflight{}, err
	}
	return pre.Preflight, nil
}

// lookAtTarget looks at the project or the group of a target, and at the projects that
// its turns run in.
func (c *Client) lookAtTarget(ctx context.Context, pre *preflight, target int, t rotator.Target, turns []rotator.Turn) error {
	if t.GroupID != 0 {
		if err := c.lookAtGroup(ctx, pre, target, t.GroupID, turns); err != nil {
			return err
		}
	}
	projects := map[int64]bool{t.ProjectID: false} // whether anything is run in it
	var order []int64
	if t.GroupID == 0 {
		order = append(order, t.ProjectID)
	}
	for _, turn := range turns {
		if turn.Target == target && turn.ProjectID != 0 {
			order = append(order, turn.ProjectID)
			projects[turn.ProjectID] = projects[turn.ProjectID] || turn.Redeploy != rotator.RedeployNone
		}
	}
	for _, id := range order {
		if _, seen := pre.projects[id]; seen {
			continue
		}
		if err := c.lookAtProject(ctx, pre, id, projects[id]); err != nil {
			return err
		}
	}
	return nil
}

// lookAtTurn looks at what one redeploy needs.
func (c *Client) lookAtTurn(ctx context.Context, pre *preflight, i int, t rotator.Turn, place rotator.Place) error {
	if len(t.Inputs) > 0 {
		check, err := c.needsInputs(ctx)
		if err != nil {
			return err
		}
		pre.Checks = append(pre.Checks, check)
	}
	pre.Turns[i].Ref = t.Ref
	if t.Ref == "" {
		pre.Turns[i].Ref = pre.projects[t.ProjectID].DefaultBranch
	}
	if t.Redeploy == rotator.RedeployDeployment {
		if err := c.lookBeforeLive(ctx, pre, i, t, place); err != nil {
			return err
		}
		if t.Fallback == rotator.FallbackLiveCommit {
			return c.lookAtTags(ctx, pre, i, t)
		}
		if t.Fallback == "" {
			return nil // nothing is run on the ref
		}
	}
	return c.lookAtRef(ctx, pre, i, t)
}

// archivedAfter is when GitLab.com archives a job, less a week; nothing tells whether
// an instance does.
const archivedAfter = 83 * 24 * time.Hour

// lookBeforeLive looks whether what is live can be deployed again, and whether jobs of
// its ref get protected variables. The ref may be gone: then they do not.
func (c *Client) lookBeforeLive(ctx context.Context, pre *preflight, i int, t rotator.Turn, place rotator.Place) error {
	called := fmt.Sprintf("live in %s of project %d", t.Environment, t.ProjectID)
	names := place.Variables()
	found, err := c.lookAtLive(ctx, rotator.Redeploy{ProjectID: t.ProjectID, Environment: t.Environment, Variables: [2]string{names[len(names)-1], names[0]}})
	if why := (*problem)(nil); errors.As(err, &why) && !why.foreign && why.status == http.StatusForbidden {
		pre.fault(called, "the environments, deployments, jobs and pipeline variables of project %d cannot be read: %s", t.ProjectID, why.text)
		return nil
	}
	if err != nil {
		return fmt.Errorf("looking what is live in %s of project %d: %w", t.Environment, t.ProjectID, err)
	}
	turn := &pre.Turns[i]
	turn.LiveCommit = found.commit
	if turn.CannotRedeploy = found.why; found.why != "" {
		return nil
	}
	warned := len(pre.Checks)
	if at := found.job.CreatedAt; at != nil && time.Since(*at) > archivedAfter {
		pre.note(called, rotator.CheckWarning, "job %s (%s), which is to be retried, is of %s: GitLab.com archives jobs after three months, and then they cannot be", found.job.Name, found.job.WebURL, at.UTC().Format(time.DateOnly))
	}
	if len(found.others) > 0 {
		pre.note(called, rotator.CheckWarning, "job %s is the one that is retried, and %s deployed to %s as well: what that brought, if it is still in use, is left with the old key, which is retired: give it an environment of its own, or redeploy by pipeline", found.job.Name, strings.Join(found.others, ", "), t.Environment)
	}
	turn.LiveRef = found.ref
	protected, why := c.isProtected(ctx, t.ProjectID, found.ref)
	if why != nil && !why.notFound() {
		return fmt.Errorf("looking at ref %s of project %d: %w", found.ref, t.ProjectID, why)
	}
	turn.LiveRefProtected = protected
	if warned == len(pre.Checks) {
		pre.note(called, rotator.CheckOK, "job %s (%s) can be retried", found.job.Name, found.job.WebURL)
	}
	return nil
}

// isProtected finds a branch, or else a tag, and tells whether it is protected.
func (c *Client) isProtected(ctx context.Context, project int64, ref string) (bool, *problem) {
	branch, resp, err := c.api.Branches.GetBranch(project, ref, gitlab.WithContext(ctx))
	if err == nil && branch != nil {
		return branch.Protected, nil
	}
	why := c.explain(resp, err)
	if !why.notFound() {
		return false, why
	}
	tag, resp, err := c.api.Tags.GetTag(project, ref, gitlab.WithContext(ctx))
	if err == nil && tag != nil {
		return tag.Protected, nil
	}
	return false, c.explain(resp, err)
}

// lookAtTags looks whether the tag that a live commit may be deployed from would be a
// protected one.
func (c *Client) lookAtTags(ctx context.Context, pre *preflight, i int, t rotator.Turn) error {
	tags, resp, err := c.api.ProtectedTags.ListProtectedTags(t.ProjectID, &gitlab.ListProtectedTagsOptions{ListOptions: gitlab.ListOptions{PerPage: 100}}, gitlab.WithContext(ctx))
	turn := &pre.Turns[i]
	turn.Ref = rotator.TagPrefix + "…"
	if err != nil {
		why := c.explain(resp, err)
		if why.foreign || why.status != http.StatusForbidden && why.status != http.StatusNotFound {
			return fmt.Errorf("looking at the protected tags of project %d: %w", t.ProjectID, why)
		}
		return nil // then it is taken for one that is not
	}
	for _, tag := range tags {
		if tag == nil {
			continue
		}
		if ok, err := path.Match(tag.Name, rotator.TagPrefix+"x"); err == nil && ok {
			turn.RefProtected = true
		}
	}
	return nil
}

// lookAtToken: instances that do not know the endpoint, and fine-grained tokens
// that may not use it, are gone on with: the project will tell.
func (c *Client) lookAtToken(ctx context.Context, pre *preflight) error {
	const called = "GitLab token"
	token, resp, err := c.api.PersonalAccessTokens.GetSinglePersonalAccessToken(gitlab.WithContext(ctx))
	if err != nil {
		why := c.explain(resp, err)
		switch {
		case why.foreign:
		case why.status == http.StatusUnauthorized:
			pre.fault(called, "%s", why.text)
			return nil
		case why.status == http.StatusForbidden, why.status == http.StatusNotFound:
			return nil
		}
		return fmt.Errorf("looking at the GitLab token: %w", why)
	}
	if token == nil {
		return nil
	}
	const fineGrained = "granular" // permissions instead of scopes; GitLab 18.10 and newer
	switch {
	case slices.Contains(token.Scopes, "api"), slices.Contains(token.Scopes, fineGrained):
	case slices.Contains(token.Scopes, "read_api"):
		pre.ReadOnly = true
	default:
		pre.fault(called, "the GitLab token has the scopes %q: it needs api (read_api is enough for a plan)", strings.Join(token.Scopes, " "))
		return nil
	}
	words := "scope " + strings.Join(token.Scopes, " ")
	if token.ExpiresAt != nil {
		ends := time.Time(*token.ExpiresAt)
		if time.Until(ends) < expiryNotice {
			pre.note(called, rotator.CheckWarning, "the GitLab token expires on %s: make a new one before", ends.Format(time.DateOnly))
			return nil
		}
		words += ", expires on " + ends.Format(time.DateOnly)
	}
	pre.note(called, rotator.CheckOK, "%s", words)
	return nil
}

// lookAtProject looks whether a project can be written to, and run in.
func (c *Client) lookAtProject(ctx context.Context, pre *preflight, id int64, runs bool) error {
	called := fmt.Sprintf("project %d", id)
	pre.projects[id] = nil
	project, resp, err := c.api.Projects.GetProject(id, nil, gitlab.WithContext(ctx))
	if err != nil {
		why := c.explain(resp, err)
		switch {
		case why.notFound():
			pre.fault(called, "project %d does not exist, or the GitLab token cannot see it: correct project_id, or add the token's user to the project", id)
			return nil
		case !why.foreign && (why.status == http.StatusUnauthorized || why.status == http.StatusForbidden):
			pre.fault(called, "%s", why.text)
			return nil
		}
		return fmt.Errorf("looking at project %d: %w", id, why)
	}
	if project == nil || project.ID != id {
		return fmt.Errorf("looking at project %d: GitLab answered with another project", id)
	}
	pre.projects[id] = project
	switch {
	case project.Archived:
		pre.fault(called, "project %d is archived, so nothing can be written or run in it: unarchive it, or stop rotating for it", id)
	case runs && project.BuildsAccessLevel == gitlab.DisabledAccessControl:
		pre.fault(called, `CI/CD is switched off in project %d: switch it on (Settings > General > Visibility), or rotate with redeploy "none"`, id)
	default:
		pre.note(called, rotator.CheckOK, "%s", project.PathWithNamespace)
	}
	return nil
}

// lookAtRef finds the ref of a turn, a branch or else a tag, and whether it is protected.
func (c *Client) lookAtRef(ctx context.Context, pre *preflight, i int, t rotator.Turn) error {
	ref := pre.Turns[i].Ref
	called := fmt.Sprintf("ref %s of project %d", ref, t.ProjectID)
	if ref == "" && t.Redeploy == rotator.RedeployNone {
		return nil // a project without code, which nothing is run in
	}
	if ref == "" {
		pre.fault(fmt.Sprintf("ref of project %d", t.ProjectID), "project %d has no default branch to redeploy: push one, or name a ref", t.ProjectID)
		return nil
	}
	if t.Ref == "" && !pre.onlyProtected && pre.projects[t.ProjectID].DefaultBranch == ref {
		return nil // it is there, and its jobs get the variables anyway
	}
	protected, why := c.isProtected(ctx, t.ProjectID, ref)
	unseen := why != nil && (why.notFound() || why.status == http.StatusForbidden && !why.foreign)
	switch {
	case unseen && t.Ref == "" && t.Redeploy == rotator.RedeployNone:
		pre.Turns[i].Ref = ""
	case why == nil:
		words := "found"
		if protected {
			words = "found, protected"
		}
		pre.Turns[i].RefProtected = protected
		pre.note(called, rotator.CheckOK, "%s", words)
	case why.notFound():
		pre.fault(called, "project %d has no branch or tag %q: correct ref", t.ProjectID, ref)
	case why.status == http.StatusForbidden && !why.foreign:
		pre.fault(called, "the branches of project %d cannot be read: %s", t.ProjectID, why.text)
	default:
		return fmt.Errorf("looking at ref %s of project %d: %w", ref, t.ProjectID, why)
	}
	return nil
}
