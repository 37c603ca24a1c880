package gitlab

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"sync"

	gitlab "gitlab.com/gitlab-org/api/client-go/v2"

	"credential-rotator/rotator"
)

// What an older GitLab does not know it ignores without a word: a parameter that is not
// declared is dropped. So what a rotation rests on is made sure of before.
const (
	// inputsSince: inputs of a pipeline came with 17.10, switched off, and are on from
	// 17.11 (doc/api/pipelines.md, flag ci_inputs_for_pipelines, gone in 18.1).
	inputsSince = "17.11"
	// descriptionsSince: descriptions of variables (doc/api/project_level_variables.md).
	// The stamps are in them.
	descriptionsSince = "16.2"
)

// version is a release of GitLab. The zero version is one that is not known.
type version struct {
	major, minor int
	text         string // as GitLab says it: 18.5.0-ee
}

func (v version) known() bool { return v.text != "" }

// atLeast compares with a release, such as "17.11". What is not known is none.
func (v version) atLeast(release string) bool {
	least := versionOf(release)
	return v.known() && (v.major > least.major || v.major == least.major && v.minor >= least.minor)
}

var releaseForm = regexp.MustCompile(`^([0-9]{1,4})\.([0-9]{1,4})(?:[^0-9].*)?$`)

func versionOf(text string) version {
	m := releaseForm.FindStringSubmatch(text)
	if m == nil {
		return version{}
	}
	major, _ := strconv.Atoi(m[1])
	minor, _ := strconv.Atoi(m[2])
	return version{major, minor, text}
}

// release is what GitLab said that it is, kept for the life of a Client.
type release struct {
	mu   sync.Mutex
	told bool
	is   version
}

// version asks GitLab which release it is, in one call for the life of the Client. A
// token with the scope read_api may ask. The zero version: GitLab does not tell.
func (c *Client) version(ctx context.Context) (version, error) {
	c.asked.mu.Lock()
	defer c.asked.mu.Unlock()
	if c.asked.told {
		return c.asked.is, nil
	}
	about, resp, err := c.api.Metadata.GetMetadata(gitlab.WithContext(ctx))
	if err != nil {
		why := c.explain(resp, err)
		switch why.status {
		case http.StatusForbidden, http.StatusNotFound: // or it is older than 15.2 (doc/api/metadata.md)
			about = nil
		default:
			return version{}, fmt.Errorf("asking which GitLab it is: %w", why)
		}
	}
	c.asked.told = true
	if about != nil {
		c.asked.is = versionOf(about.Version)
	}
	return c.asked.is, nil
}

// needsInputs tells whether a pipeline with inputs can be started, in a check: an older
// GitLab would run it without them, and say nothing.
func (c *Client) needsInputs(ctx context.Context) (rotator.Check, error) {
	check := rotator.Check{Name: "inputs", State: rotator.CheckOK}
	is, err := c.version(ctx)
	switch {
	case err != nil:
		return check, err
	case is.atLeast(inputsSince):
		check.Detail = fmt.Sprintf("GitLab %s knows them", is.text)
	case !is.known():
		check.State = rotator.CheckWarning
		check.Detail = fmt.Sprintf("%s does not say which GitLab it is, and one before %s would run the pipeline without its inputs: let the token's user read the instance's metadata", c.host, inputsSince)
	default:
		check.State = rotator.CheckFault
		check.Detail = fmt.Sprintf("%s is GitLab %s, which would run the pipeline without its inputs: they need %s; upgrade it, or ask for no inputs", c.host, is.text, inputsSince)
	}
	return check, nil
}

// stampless is what keeps the variables of a list from being stamped, "" when nothing
// is known to: an older GitLab shows its variables without descriptions. Of a list that
// is empty only the release tells; when that cannot be asked, the first write will.
func (c *Client) stampless(ctx context.Context, rows int, described bool) string {
	if described {
		return ""
	}
	which := ""
	if rows == 0 {
		is, err := c.version(ctx)
		if err != nil || !is.known() || is.atLeast(descriptionsSince) {
			return ""
		}
		which = ", which is GitLab " + is.text + ","
	}
	return c.noDescriptions(which)
}

func (c *Client) noDescriptions(which string) string {
	return fmt.Sprintf("%s%s keeps no descriptions of variables, and they are to say which key a variable holds: GitLab %s is the oldest that can be rotated for; upgrade it", c.host, which, descriptionsSince)
}

// describes tells whether a reply, of one variable or of several, has descriptions, be
// they null.
func describes(resp *gitlab.Response) bool {
	var one map[string]json.RawMessage
	all := []map[string]json.RawMessage{}
	data := body(resp.Response)
	if json.Unmarshal(data, &one) == nil {
		all = append(all, one)
	} else if json.Unmarshal(data, &all) != nil {
		return false
	}
	return slices.ContainsFunc(all, func(row map[string]json.RawMessage) bool {
		_, has := row["description"]
		return has
	})
}
