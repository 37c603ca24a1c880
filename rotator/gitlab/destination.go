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

// variablePages bounds the list of variables: 100 pages of 100. GitLab allows a
// project 8000.
const variablePages = 100

// Read tells what is published. It costs one call for every 100 variables of each
// project and group, and for one that has none another, the first time. A token that may not read variables is rotator.ErrRefused.
func (c *Client) Read(ctx context.Context, places []rotator.Place) ([]rotator.Published, error) {
	published, _, err := c.readAll(ctx, places)
	return published, err
}

// readAll reads each project and group once. rows are all their variables, by owner.
func (c *Client) readAll(ctx context.Context, places []rotator.Place) (all []rotator.Published, rows map[string][]*gitlab.ProjectVariable, err error) {
	all = make([]rotator.Published, len(places))
	rows = map[string][]*gitlab.ProjectVariable{}
	times := map[string]time.Time{}
	for i, p := range places {
		owner := p.Owner()
		if _, read := rows[owner]; !read {
			list, err := c.rows(ctx, p)
			if err != nil {
				return nil, nil, fmt.Errorf("reading the variables of %s: %w", owner, err)
			}
			rows[owner], times[owner] = list.rows, list.at
			all[i].Elsewhere = elsewhere(list.rows, places, owner)
			if fault := c.stampless(ctx, len(list.rows), list.described); fault != "" {
				all[i].Faults = append(all[i].Faults, fault)
			}
		}
		found := sorted(rows[owner], p, times[owner])
		found.Elsewhere, found.Faults = all[i].Elsewhere, append(found.Faults, all[i].Faults...)
		all[i] = found
	}
	return all, rows, nil
}

// listing is all variables of a project or group, whether they have descriptions, and
// GitLab's time of the answer.
type listing struct {
	rows      []*gitlab.ProjectVariable
	described bool
	at        time.Time
}

func (c *Client) rows(ctx context.Context, p rotator.Place) (listing, error) {
	var l listing
	rows, resp, err := pages(variablePages, func(page gitlab.PaginationOptionFunc) ([]*gitlab.ProjectVariable, *gitlab.Response, error) {
		list, resp, err := c.listVariables(ctx, p, page)
		l.described = l.described || err == nil && describes(resp)
		return list, resp, err
	})
	if err != nil {
		why := c.explain(resp, err)
		if p.GroupID != 0 {
			why.text = strings.Replace(why.text, "Maintainer in the project", "Owner in the group", 1)
		}
		switch {
		case why.foreign:
		case why.status == http.StatusUnauthorized, why.status == http.StatusForbidden, why.status == http.StatusNotFound:
			return listing{}, refused(why)
		}
		return listing{}, why
	}
	l.rows = rows
	l.at, err = serverTime(resp)
	return l, err
}

// sorted is what a place holds, of all variables of its project or group.
func sorted(rows []*gitlab.ProjectVariable, p rotator.Place, at time.Time) rotator.Published {
	missing := rotator.Variable{Masked: p.File == ""} // as it is to be made
	published := rotator.Published{KeyID: missing, Secret: missing, At: at}
	names := p.Variables()
	for _, row := range rows {
		if row.EnvironmentScope != p.EnvironmentScope || !slices.Contains(names, row.Key) {
			continue
		}
		if row.Key == names[0] {
			published.Secret = variable(row)
		}
		if row.Key == names[len(names)-1] {
			published.KeyID = variable(row)
			published.KeyID.Value = accessKeyID(row)
			if p.File != "" {
				published.KeyID.Value = profileOf(row.Value, p.Profile).keyID
			}
		}
		published.Faults = append(published.Faults, faults(row, p)...)
	}
	return published
}

// elsewhere are the variables that hold key ids and are of none of the places.
func elsewhere(rows []*gitlab.ProjectVariable, places []rotator.Place, owner string) []rotator.Holding {
	var all []rotator.Holding
	for _, row := range rows {
		covered := func(p rotator.Place) bool {
			return p.Owner() == owner && p.EnvironmentScope == row.EnvironmentScope && slices.Contains(p.Variables(), row.Key)
		}
		keyID := accessKeyID(row)
		if keyID == "" {
			_, keyID = unstamped(row.Description)
		}
		if keyID != "" && !slices.ContainsFunc(places, covered) {
			all = append(all, rotator.Holding{Variable: name(row.Key, row.EnvironmentScope), KeyID: keyID})
		}
	}
	return all
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

// faults are what would keep one of a place's variables from being written.
func faults(row *gitlab.ProjectVariable, p rotator.Place) []string {
	var found []string
	called := name(row.Key, row.EnvironmentScope)
	text, _ := unstamped(row.Description)
	if err := roomForStamp(text, strings.Repeat("A", keyIDLength)); err != nil {
		found = append(found, fmt.Sprintf("%s cannot be stamped: %v", called, err))
	}
	isFile := row.VariableType == gitlab.FileVariableType
	switch {
	case p.File != "" && !isFile:
		found = append(found, called+" is no variable of type file: delete it, and it is made as one")
	case p.File != "" && (row.Masked || row.Hidden):
		found = append(found, called+" is masked, and GitLab masks single lines only: make it again, not masked")
	case p.File != "" && profileOf(row.Value, p.Profile).others:
		found = append(found, fmt.Sprintf("%s holds more than the pair of profile %s, which would be lost: give that a variable of its own", called, p.Profile))
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
