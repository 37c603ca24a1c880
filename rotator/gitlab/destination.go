package gitlab

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	gitlab "gitlab.com/gitlab-org/api/client-go/v2"

	"credential-rotator/rotator"
)

// variablePages bounds the list of variables: 100 pages of 100. GitLab allows a
// project 8000.
const variablePages = 100

// Read tells what is published. It costs one call for every 100 variables of the
// project. A token that may not read variables is rotator.ErrRefused.
func (c *Client) Read(ctx context.Context, p rotator.Place) (rotator.Published, error) {
	published, err := c.read(ctx, p)
	if err != nil {
		return rotator.Published{}, fmt.Errorf("reading the variables of project %d: %w", p.ProjectID, err)
	}
	return published, nil
}

func (c *Client) read(ctx context.Context, p rotator.Place) (rotator.Published, error) {
	opt := &gitlab.ListProjectVariablesOptions{ListOptions: gitlab.ListOptions{PerPage: 100}}
	rows, resp, err := pages(variablePages, func(page gitlab.PaginationOptionFunc) ([]*gitlab.ProjectVariable, *gitlab.Response, error) {
		return c.api.ProjectVariables.ListVariables(p.ProjectID, opt, gitlab.WithContext(ctx), page)
	})
	if err != nil {
		why := c.explain(resp, err)
		switch {
		case why.foreign:
			return rotator.Published{}, why
		case why.status == http.StatusUnauthorized, why.status == http.StatusForbidden, why.status == http.StatusNotFound:
			return rotator.Published{}, refused(why)
		}
		return rotator.Published{}, why
	}
	missing := rotator.Variable{Masked: true} // as it is to be made
	published := rotator.Published{KeyID: missing, Secret: missing}
	published.At, err = serverTime(resp)
	if err != nil {
		return rotator.Published{}, err
	}
	for _, row := range rows {
		sortIn(&published, p, row)
	}
	return published, nil
}

// sortIn puts one variable of the project where it belongs.
func sortIn(published *rotator.Published, p rotator.Place, row *gitlab.ProjectVariable) {
	inScope := row.EnvironmentScope == p.EnvironmentScope
	switch {
	case inScope && row.Key == p.KeyIDVariable:
		published.KeyID = variable(row)
		published.KeyID.Value = accessKeyID(row)
		published.Faults = append(published.Faults, faults(row)...)
	case inScope && row.Key == p.SecretVariable:
		published.Secret = variable(row)
		published.Faults = append(published.Faults, faults(row)...)
	default:
		keyID := accessKeyID(row)
		if keyID == "" {
			_, keyID = unstamped(row.Description)
		}
		if keyID != "" {
			published.Elsewhere = append(published.Elsewhere, rotator.Holding{Variable: name(row.Key, row.EnvironmentScope), KeyID: keyID})
		}
	}
}

// variable is a row without its value.
func variable(row *gitlab.ProjectVariable) rotator.Variable {
	text, claims := unstamped(row.Description)
	return rotator.Variable{
		Exists:    true,
		Hidden:    row.Hidden,
		Masked:    row.Masked,
		Protected: row.Protected,
		Claims:    claims,
		Text:      text,
	}
}

// accessKeyID is the access key id that a variable's value is. Any other value is
// "": somebody may have put a secret where the key id belongs, and what is returned
// is shown in reasons and kept in the journal.
func accessKeyID(row *gitlab.ProjectVariable) string {
	if value := strings.TrimSpace(row.Value); isAccessKeyID(value) {
		return value
	}
	return ""
}

// faults are what would keep one of the two variables from being written.
func faults(row *gitlab.ProjectVariable) []string {
	var found []string
	text, _ := unstamped(row.Description)
	if err := roomForStamp(text, strings.Repeat("A", keyIDLength)); err != nil {
		found = append(found, fmt.Sprintf("%s cannot be stamped: %v", name(row.Key, row.EnvironmentScope), err))
	}
	return found
}

// name is a variable as a person would say it.
func name(key, scope string) string { return key + " [" + scope + "]" }

// serverTime is GitLab's own time of a reply. Date has whole seconds, cut off, so
// the next full second is the first that is surely not before the reply.
func serverTime(resp *gitlab.Response) (time.Time, error) {
	date, err := http.ParseTime(resp.Header.Get("Date"))
	if err != nil {
		return time.Time{}, errors.New("the reply has no Date: GitLab sends one, so let the proxy in between pass it on")
	}
	return date.UTC().Add(time.Second), nil
}
