package gitlab

import (
	"context"
	"errors"
	"net/http"

	gitlab "gitlab.com/gitlab-org/api/client-go/v2"

	"credential-rotator/rotator"
)

// The variables of a project and those of a group are the same thing at two addresses.

func (c *Client) listVariables(ctx context.Context, p rotator.Place, page gitlab.PaginationOptionFunc) ([]*gitlab.ProjectVariable, *gitlab.Response, error) {
	hundred := gitlab.ListOptions{PerPage: 100}
	if p.GroupID == 0 {
		return c.api.ProjectVariables.ListVariables(p.ProjectID, &gitlab.ListProjectVariablesOptions{ListOptions: hundred}, gitlab.WithContext(ctx), page)
	}
	list, resp, err := c.api.GroupVariables.ListVariables(p.GroupID, &gitlab.ListGroupVariablesOptions{ListOptions: hundred}, gitlab.WithContext(ctx), page)
	rows := make([]*gitlab.ProjectVariable, len(list))
	for i, row := range list {
		rows[i] = (*gitlab.ProjectVariable)(row)
	}
	return rows, resp, err
}

// variableOf is one variable of a place, found by its exact scope.
func (c *Client) variableOf(ctx context.Context, p rotator.Place, key string) (*gitlab.ProjectVariable, *gitlab.Response, error) {
	filter := &gitlab.VariableFilter{EnvironmentScope: p.EnvironmentScope}
	if p.GroupID == 0 {
		return c.api.ProjectVariables.GetVariable(p.ProjectID, key, &gitlab.GetProjectVariableOptions{Filter: filter}, gitlab.WithContext(ctx))
	}
	row, resp, err := c.api.GroupVariables.GetVariable(p.GroupID, key, &gitlab.GetGroupVariableOptions{Filter: filter}, gitlab.WithContext(ctx))
	return (*gitlab.ProjectVariable)(row), resp, err
}

// putVariable changes a variable. That of a group is looked for right before: a filter
// that matches nothing does not keep GitLab from writing another scope of that name
// (lib/api/group_variables.rb, find_by!).
func (c *Client) putVariable(ctx context.Context, p rotator.Place, key string, opt gitlab.UpdateProjectVariableOptions) (*gitlab.ProjectVariable, *gitlab.Response, error) {
	if p.GroupID == 0 {
		return c.api.ProjectVariables.UpdateVariable(p.ProjectID, key, &opt, gitlab.WithContext(ctx))
	}
	if row, resp, err := c.variableOf(ctx, p, key); err != nil || row == nil || row.EnvironmentScope != p.EnvironmentScope {
		if err == nil || resp != nil && resp.StatusCode == http.StatusNotFound {
			err = refused(errors.New(name(key, p.EnvironmentScope) + " is gone"))
		}
		return nil, resp, err
	}
	group := gitlab.UpdateGroupVariableOptions{Value: opt.Value, Description: opt.Description, Filter: opt.Filter, Masked: opt.Masked}
	row, resp, err := c.api.GroupVariables.UpdateVariable(p.GroupID, key, &group, gitlab.WithContext(ctx))
	return (*gitlab.ProjectVariable)(row), resp, err
}

func (c *Client) postVariable(ctx context.Context, p rotator.Place, opt gitlab.CreateProjectVariableOptions) (*gitlab.ProjectVariable, *gitlab.Response, error) {
	if p.GroupID == 0 {
		return c.api.ProjectVariables.CreateVariable(p.ProjectID, &opt, gitlab.WithContext(ctx))
	}
	group := gitlab.CreateGroupVariableOptions{
		Key: opt.Key, Value: opt.Value, Description: opt.Description, EnvironmentScope: opt.EnvironmentScope,
		Masked: opt.Masked, Protected: opt.Protected, Raw: opt.Raw, VariableType: opt.VariableType,
	}
	row, resp, err := c.api.GroupVariables.CreateVariable(p.GroupID, &group, gitlab.WithContext(ctx))
	return (*gitlab.ProjectVariable)(row), resp, err
}
