package gitlab

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	gitlab "gitlab.com/gitlab-org/api/client-go/v2"

	"credential-rotator/rotator"
)

// expiryNotice is how long before its end a token is worth a warning: a rotation
// in flight, and the person who makes the next token, both need time.
const expiryNotice = 30 * 24 * time.Hour

// Preflight looks at the token, the project and the ref, in three calls (four when
// the ref is a tag). What is to be deployed again costs four more, with its ref for
// that of a pipeline. What concerns the variables is for Read to tell.
func (c *Client) Preflight(ctx context.Context, r rotator.Request) (rotator.Preflight, error) {
	var pre rotator.Preflight
	if err := c.lookAtToken(ctx, &pre); err != nil {
		return rotator.Preflight{}, err
	}
	if len(pre.Faults) > 0 {
		return pre, nil // with that token, nothing else can be seen
	}
	if err := c.lookAtProject(ctx, r, &pre); err != nil {
		return rotator.Preflight{}, err
	}
	if r.Redeploy == rotator.RedeployDeployment {
		if err := c.lookBeforeLive(ctx, r, &pre); err != nil {
			return rotator.Preflight{}, err
		}
		if r.Fallback != rotator.RedeployPipeline {
			return pre, nil // nothing is run on the ref
		}
	}
	if err := c.lookAtRef(ctx, r, &pre); err != nil {
		return rotator.Preflight{}, err
	}
	return pre, nil
}

// archivedAfter is when GitLab.com archives a job, less a week; nothing tells whether
// an instance does.
const archivedAfter = 83 * 24 * time.Hour

// lookBeforeLive looks whether what is live can be deployed again, and whether jobs of
// its ref get protected variables. The ref may be gone: then they do not.
func (c *Client) lookBeforeLive(ctx context.Context, r rotator.Request, pre *rotator.Preflight) error {
	found, err := c.lookAtLive(ctx, rotator.Redeploy{ProjectID: r.ProjectID, Environment: r.Environment, Variables: [2]string{r.AccessKeyIDVariable, r.SecretAccessKeyVariable}})
	if why := (*problem)(nil); errors.As(err, &why) && !why.foreign && why.status == http.StatusForbidden {
		pre.Faults = append(pre.Faults, fmt.Sprintf("the environments, deployments, jobs and pipeline variables of project %d cannot be read: %s", r.ProjectID, why.text))
		return nil
	}
	if err != nil {
		return fmt.Errorf("looking what is live in %s of project %d: %w", r.Environment, r.ProjectID, err)
	}
	if pre.CannotRedeploy = found.why; found.why != "" {
		return nil
	}
	if at := found.job.CreatedAt; at != nil && time.Since(*at) > archivedAfter {
		pre.Warnings = append(pre.Warnings, fmt.Sprintf("job %s (%s), which is to be retried, is of %s: GitLab.com archives jobs after three months, and then they cannot be", found.job.Name, found.job.WebURL, at.UTC().Format(time.DateOnly)))
	}
	if len(found.others) > 0 {
		pre.Warnings = append(pre.Warnings, fmt.Sprintf("job %s is the one that is retried, and %s deployed to %s as well: what that brought, if it is still in use, is left with the old key, which is retired: give it an environment of its own, or redeploy by pipeline", found.job.Name, strings.Join(found.others, ", "), r.Environment))
	}
	pre.LiveRef = found.ref
	protected, why := c.isProtected(ctx, r.ProjectID, found.ref)
	if why != nil && !why.notFound() {
		return fmt.Errorf("looking at ref %s of project %d: %w", found.ref, r.ProjectID, why)
	}
	pre.LiveRefProtected = protected
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

// lookAtToken: instances that do not know the endpoint, and fine-grained tokens
// that may not use it, are gone on with: the project will tell.
func (c *Client) lookAtToken(ctx context.Context, pre *rotator.Preflight) error {
	token, resp, err := c.api.PersonalAccessTokens.GetSinglePersonalAccessToken(gitlab.WithContext(ctx))
	if err != nil {
		why := c.explain(resp, err)
		switch {
		case why.foreign:
		case why.status == http.StatusUnauthorized:
			pre.Faults = append(pre.Faults, why.text)
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
		pre.Faults = append(pre.Faults, fmt.Sprintf("the GitLab token has the scopes %q: it needs api (read_api is enough for a plan)", strings.Join(token.Scopes, " ")))
	}
	if token.ExpiresAt != nil {
		if ends := time.Time(*token.ExpiresAt); time.Until(ends) < expiryNotice {
			pre.Warnings = append(pre.Warnings, fmt.Sprintf("the GitLab token expires on %s: make a new one before", ends.Format(time.DateOnly)))
		}
	}
	return nil
}

// lookAtProject also finds the default branch.
func (c *Client) lookAtProject(ctx context.Context, r rotator.Request, pre *rotator.Preflight) error {
	fault := func(format string, args ...any) {
		pre.Faults = append(pre.Faults, fmt.Sprintf(format, args...))
	}
	project, resp, err := c.api.Projects.GetProject(r.ProjectID, nil, gitlab.WithContext(ctx))
	if err != nil {
		why := c.explain(resp, err)
		switch {
		case why.notFound():
			fault("project %d does not exist, or the GitLab token cannot see it: correct project_id, or add the token's user to the project", r.ProjectID)
			return nil
		case !why.foreign && (why.status == http.StatusUnauthorized || why.status == http.StatusForbidden):
			fault("%s", why.text)
			return nil
		}
		return fmt.Errorf("looking at project %d: %w", r.ProjectID, why)
	}
	if project == nil || project.ID != r.ProjectID {
		return fmt.Errorf("looking at project %d: GitLab answered with another project", r.ProjectID)
	}
	if project.Archived {
		fault("project %d is archived, so nothing can be written or run in it: unarchive it, or stop rotating for it", r.ProjectID)
	}
	if r.Redeploy != rotator.RedeployNone && project.BuildsAccessLevel == gitlab.DisabledAccessControl {
		fault(`CI/CD is switched off in project %d: switch it on (Settings > General > Visibility), or rotate with redeploy "none"`, r.ProjectID)
	}
	pre.Ref = r.Ref
	if pre.Ref == "" {
		pre.Ref = project.DefaultBranch
	}
	if pre.Ref == "" && (r.Redeploy == rotator.RedeployPipeline || r.Fallback == rotator.RedeployPipeline) {
		fault("project %d has no default branch to redeploy: push one, or name a ref", r.ProjectID)
	}
	return nil
}

// lookAtRef finds the ref, a branch or else a tag, and whether it is protected.
func (c *Client) lookAtRef(ctx context.Context, r rotator.Request, pre *rotator.Preflight) error {
	if pre.Ref == "" {
		return nil
	}
	protected, why := c.isProtected(ctx, r.ProjectID, pre.Ref)
	if why == nil {
		pre.RefProtected = protected
		return nil
	}
	switch unseen := why.notFound() || why.status == http.StatusForbidden && !why.foreign; {
	case unseen && r.Ref == "" && r.Redeploy == rotator.RedeployNone:
		pre.Ref = "" // a project without code, which nothing is run in
	case why.notFound():
		pre.Faults = append(pre.Faults, fmt.Sprintf("project %d has no branch or tag %q: correct ref", r.ProjectID, pre.Ref))
	case unseen:
		pre.Faults = append(pre.Faults, fmt.Sprintf("the branches of project %d cannot be read: %s", r.ProjectID, why.text))
	default:
		return fmt.Errorf("looking at ref %s of project %d: %w", pre.Ref, r.ProjectID, why)
	}
	return nil
}
