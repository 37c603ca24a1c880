package gitlab

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	gitlab "gitlab.com/gitlab-org/api/client-go/v2"
)

// A live commit is deployed from a tag and not from a branch: GitLab stops the
// environments that were deployed from a branch when it is deleted
// (app/services/ci/stop_environments_service.rb).

// Tag makes a tag at a commit, in one call, and one more when there is one of that name.
func (c *Client) Tag(ctx context.Context, projectID int64, tag, commit string) error {
	made, resp, err := c.api.Tags.CreateTag(projectID, &gitlab.CreateTagOptions{TagName: new(tag), Ref: new(commit)}, gitlab.WithContext(ctx))
	if err != nil {
		why := c.explain(resp, err)
		if why.status == http.StatusBadRequest && strings.Contains(why.said, "already exists") {
			made, resp, err = c.api.Tags.GetTag(projectID, tag, gitlab.WithContext(ctx))
		}
		if err != nil {
			return fmt.Errorf("tagging commit %.8s of project %d: %w", commit, projectID, refusal(c.explain(resp, err)))
		}
	}
	if made == nil || made.Commit == nil || made.Commit.ID != commit {
		return fmt.Errorf("tagging commit %.8s of project %d: %w", commit, projectID, refused(errors.New("the tag "+tag+" is at another commit: remove it")))
	}
	return nil
}

// Untag removes a tag, in one call.
func (c *Client) Untag(ctx context.Context, projectID int64, tag string) error {
	resp, err := c.api.Tags.DeleteTag(projectID, tag, gitlab.WithContext(ctx))
	if err != nil {
		if why := c.explain(resp, err); !why.notFound() {
			return fmt.Errorf("removing the tag %s of project %d: %w", tag, projectID, refusal(why))
		}
	}
	return nil
}
