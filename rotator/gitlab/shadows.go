package gitlab

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	gitlab "gitlab.com/gitlab-org/api/client-go/v2"
)

// What a job gets of several variables of one name (GitLab
// lib/gitlab/ci/variables/builder.rb, each outranking those before):
//
//	the CI file's variables:, global, then of the job
//	the instance's, its groups' from the outermost, the project's
//	what the pipeline was given, what its schedule has
//
// and of those of one project or group, which must mean the job's environment, first one
// without a wildcard, then one with, then * (app/models/concerns/has_environment_scope.rb).
// Two with wildcards are not ordered. Protected ones are left out on other refs.

// setting is a variable without its value: what matters for who wins.
type setting struct {
	Key, Scope string
	Protected  bool
}

// projectSettings are the variables of a project, as they were listed.
func projectSettings(rows []*gitlab.ProjectVariable) []setting {
	var all []setting
	for _, row := range rows {
		if row != nil {
			all = append(all, setting{row.Key, row.EnvironmentScope, row.Protected})
		}
	}
	return all
}

// audience is what is published, and the jobs that are to get it.
type audience struct {
	ProjectID int64
	WebURL    string    // of the project (or group) that it is published to; "" gives no links
	Names     []string  // of the variables: those of a pair, or the one of a file
	Scope     string    // that they are published in
	Settings  []setting // the variables of that project, or group, as they were listed
	// Environment that the redeploy deploys to; "" when that is not said.
	Environment string
	Ref         string // that the redeploy runs on; "" is any
	Protected   bool   // the ref is: its jobs get protected variables
	// CIFile: look into the CI file as well, where it could matter.
	CIFile bool
}

// shadows finds what keeps jobs from getting what is published, in sentences: variables
// of closer scopes, pipeline schedules with variables of their own, and the CI file,
// which is outranked unless what is published does not reach a job at all. What cannot
// be read is said too, for it keeps no rotation from succeeding; an error means that the
// time is over.
//
// Calls: one for the schedules, one for each active one on the ref (of scheduleReads at
// most), and with CIFile one for that file when the scope does not mean the environment.
func (c *Client) shadows(ctx context.Context, a audience) ([]string, error) {
	found := scopeShadows(a)
	more, err := c.scheduleShadows(ctx, a)
	if err != nil {
		return nil, err
	}
	found = append(found, more...)
	if a.CIFile {
		found = append(found, c.ciFileShadows(ctx, a)...)
	}
	return found, nil
}

// scopeShadows are the variables of the same project, or group, that jobs get instead.
func scopeShadows(a audience) []string {
	var found []string
	if a.Environment != "" && !inScope(a.Scope, a.Environment) {
		found = append(found, fmt.Sprintf("jobs of environment %s get no variables of scope %s, so none of them gets the new key: publish it in a scope that means %s, or correct environment",
			a.Environment, a.Scope, a.Environment))
	}
	for _, scope := range a.scopes() {
		names := a.inScopeOf(scope)
		jobs := "jobs of " + environments(scope)
		if a.Environment != "" {
			jobs = "jobs of environment " + a.Environment
		}
		get := "get"
		if a.ties(scope) {
			get = "may get (GitLab does not say which of the two is closer)"
		}
		found = append(found, fmt.Sprintf("%s %s %s of scope %s%s, not the new key of scope %s%s: delete %s, or publish there",
			jobs, get, strings.Join(names, " and "), scope, a.link("settings/ci_cd"), a.Scope, a.half(names), them(names)))
	}
	return found
}

// scopes are the other scopes that have one of the names and may win, in order.
func (a audience) scopes() []string {
	var scopes []string
	for _, s := range a.Settings {
		if slices.Contains(a.Names, s.Key) && s.Scope != a.Scope && a.gets(s) && a.mayWin(s.Scope) && !slices.Contains(scopes, s.Scope) {
			scopes = append(scopes, s.Scope)
		}
	}
	slices.Sort(scopes)
	return scopes
}

// inScopeOf are those of the names that are in a scope.
func (a audience) inScopeOf(scope string) []string {
	return slices.DeleteFunc(slices.Clone(a.Names), func(name string) bool {
		return !slices.ContainsFunc(a.Settings, func(s setting) bool { return s.Key == name && s.Scope == scope && a.gets(s) })
	})
}

// gets tells whether jobs of the ref get a variable, as far as it is protected.
func (a audience) gets(s setting) bool { return a.Protected || !s.Protected }

// mayWin tells whether variables of a scope are what jobs get instead of ours: those of
// the environment, or, when none is said, of some that ours means too.
func (a audience) mayWin(scope string) bool {
	if a.Environment != "" {
		return inScope(scope, a.Environment) && closeness(scope, a.Environment) >= closeness(a.Scope, a.Environment)
	}
	switch {
	case scope == "*" || !strings.Contains(a.Scope, "*"):
		return false
	case isPattern(scope):
		return overlap(scope, a.Scope)
	}
	return inScope(a.Scope, scope)
}

// ties tells whether a scope is as close as ours: both have wildcards, and mean the
// environment.
func (a audience) ties(scope string) bool {
	return isPattern(scope) && isPattern(a.Scope) && (a.Environment == "" || inScope(a.Scope, a.Environment))
}

// half says what is worse than a key that is not the new one.
func (a audience) half(names []string) string {
	if len(names) == len(a.Names) {
		return ""
	}
	return " - and with it half of another pair, which does not work"
}

// link is where a person finds a page of the project, in parentheses; "" without its
// address.
func (a audience) link(page string) string {
	if a.WebURL == "" {
		return ""
	}
	return fmt.Sprintf(" (%s/-/%s)", a.WebURL, page)
}

func them(names []string) string {
	if len(names) == 1 {
		return "it"
	}
	return "them"
}

// environments says which are meant by a scope.
func environments(scope string) string {
	if strings.Contains(scope, "*") {
		return "environments like " + scope
	}
	return "environment " + scope
}

// isPattern tells whether a scope has a wildcard and is not all of it.
func isPattern(scope string) bool { return scope != "*" && strings.Contains(scope, "*") }

// inScope tells whether an environment is meant by a scope, in which * stands for any
// characters, none too. No environment is meant by * alone.
func inScope(scope, environment string) bool {
	if scope == "*" {
		return true
	}
	parts := strings.Split(scope, "*")
	first, last := parts[0], parts[len(parts)-1]
	switch {
	case environment == "":
		return false
	case len(parts) == 1:
		return scope == environment
	case len(environment) < len(first)+len(last) || !strings.HasPrefix(environment, first) || !strings.HasSuffix(environment, last):
		return false
	}
	rest := environment[len(first) : len(environment)-len(last)]
	for _, part := range parts[1 : len(parts)-1] {
		at := strings.Index(rest, part)
		if at < 0 {
			return false
		}
		rest = rest[at+len(part):]
	}
	return true
}

// closeness is GitLab's order of the scopes that mean an environment; one that does not
// is the last.
func closeness(scope, environment string) int {
	switch {
	case !inScope(scope, environment):
		return -1
	case scope == environment:
		return 2
	case scope == "*":
		return 0
	}
	return 1
}

// overlap tells whether some environment is meant by both of two scopes with wildcards:
// what is between their wildcards can always be put one after the other.
func overlap(a, b string) bool {
	begins := func(s string) string { return s[:strings.Index(s, "*")] }
	ends := func(s string) string { return s[strings.LastIndex(s, "*")+1:] }
	return (strings.HasPrefix(begins(a), begins(b)) || strings.HasPrefix(begins(b), begins(a))) &&
		(strings.HasSuffix(ends(a), ends(b)) || strings.HasSuffix(ends(b), ends(a)))
}

// scheduleReads bounds the calls for schedules: GitLab allows a project 10 of them,
// unless an instance allows more.
const scheduleReads = 20

// scheduleShadows are the active pipeline schedules on the ref that have one of the
// names among their own variables. Lists do not show those, so each is read.
func (c *Client) scheduleShadows(ctx context.Context, a audience) ([]string, error) {
	const most = 5 // pages
	list, resp, err := pages(most, func(page gitlab.PaginationOptionFunc) ([]*gitlab.PipelineSchedule, *gitlab.Response, error) {
		return c.api.PipelineSchedules.ListPipelineSchedules(a.ProjectID, &gitlab.ListPipelineSchedulesOptions{
			ListOptions: gitlab.ListOptions{PerPage: 100}, Scope: new(gitlab.PipelineScheduleScopeValue("active")),
		}, gitlab.WithContext(ctx), page)
	})
	if errors.Is(err, errEndless) {
		return []string{fmt.Sprintf("project %d has more than %d pipeline schedules%s, which were not looked at, and one with %s among its own variables would not get the new key: look there",
			a.ProjectID, most*100, a.link("pipeline_schedules"), strings.Join(a.Names, " or "))}, nil
	}
	if err != nil {
		why := c.explain(resp, err)
		switch {
		case isOver(ctx):
			return nil, fmt.Errorf("listing the pipeline schedules of project %d: %w", a.ProjectID, why)
		case why.status == http.StatusNotFound: // of a project that was seen: there are none
			return nil, nil
		}
		return []string{fmt.Sprintf("the pipeline schedules of project %d%s cannot be read (%s), and one with %s among its own variables would not get the new key: look there",
			a.ProjectID, a.link("pipeline_schedules"), why.text, strings.Join(a.Names, " or "))}, nil
	}
	var found, unread []string
	reads := 0
	for _, s := range list {
		switch {
		case a.Ref != "" && shortRef(s.Ref) != a.Ref:
			continue
		case reads == scheduleReads:
			unread = append(unread, a.schedule(s))
			continue
		}
		reads++
		names, seen, err := c.ownOfSchedule(ctx, a, s.ID)
		switch {
		case err != nil:
			return nil, err
		case !seen:
			unread = append(unread, a.schedule(s))
		case len(names) > 0:
			found = append(found, fmt.Sprintf("pipeline schedule %s has %s among its own variables, which outrank the project's%s: its jobs do not get the new key; remove %s there",
				a.schedule(s), strings.Join(names, " and "), a.half(names), them(names)))
		}
	}
	if len(unread) > 0 {
		found = append(found, fmt.Sprintf("the variables of pipeline schedule %s were not seen, and if %s is among them its jobs do not get the new key: look there",
			strings.Join(unread, ", "), strings.Join(a.Names, " or ")))
	}
	return found, nil
}

// schedule is a pipeline schedule as a person would say it.
func (a audience) schedule(s *gitlab.PipelineSchedule) string {
	return fmt.Sprintf("%q on %s%s", printable(s.Description, nil), shortRef(s.Ref), a.link(fmt.Sprintf("pipeline_schedules/%d/edit", s.ID)))
}

// ownOfSchedule are those of the names that a schedule has. seen is false when GitLab
// does not show its variables: who is neither a Maintainer nor its owner does not see
// them (app/policies/ci/pipeline_schedule_policy.rb).
func (c *Client) ownOfSchedule(ctx context.Context, a audience, id int64) (names []string, seen bool, err error) {
	s, resp, err := c.api.PipelineSchedules.GetPipelineSchedule(a.ProjectID, id, gitlab.WithContext(ctx))
	if err != nil {
		why := c.explain(resp, err)
		if isOver(ctx) {
			return nil, false, fmt.Errorf("reading pipeline schedule %d of project %d: %w", id, a.ProjectID, why)
		}
		return nil, why.notFound(), nil // deleted since it was listed: it has none
	}
	if s == nil || s.Variables == nil {
		return nil, false, nil
	}
	for _, name := range a.Names {
		if slices.ContainsFunc(s.Variables, func(v *gitlab.PipelineVariable) bool { return v != nil && v.Key == name }) {
			names = append(names, name)
		}
	}
	return names, true, nil
}

// shortRef is a ref as people say it; a schedule may have it in full.
func shortRef(ref string) string {
	return strings.TrimPrefix(strings.TrimPrefix(ref, "refs/heads/"), "refs/tags/")
}

// ciFileShadows are the jobs that deploy to the environment and take one of the names
// from the variables: of the CI file. Everything outranks those, so they matter only
// where nothing of the project reaches the job. GitLab before 16.10 shows the file of
// the default branch, whatever it is asked for (content_ref).
func (c *Client) ciFileShadows(ctx context.Context, a audience) []string {
	unreached := slices.DeleteFunc(slices.Clone(a.Names), a.reached)
	if a.Environment == "" || len(unreached) == 0 {
		return nil
	}
	opt := &gitlab.ProjectLintOptions{DryRun: new(false)}
	if a.Ref != "" {
		opt.ContentRef = new(a.Ref)
	}
	file, resp, err := c.api.Validate.ProjectLint(a.ProjectID, opt, gitlab.WithContext(ctx))
	if err != nil {
		return []string{fmt.Sprintf("the CI file of project %d cannot be read (%s), so whether it has %s for environment %s is not known",
			a.ProjectID, c.explain(resp, err).text, strings.Join(unreached, " or "), a.Environment)}
	}
	if file == nil {
		return nil
	}
	var found []string
	merged := readCIFile(file.MergedYaml)
	for _, job := range merged.jobs {
		names := slices.DeleteFunc(slices.Clone(unreached), func(name string) bool { return !merged.gives(job, name) })
		if job.environment == a.Environment && len(names) > 0 {
			found = append(found, fmt.Sprintf("job %s, which deploys to %s, takes %s from variables: in the CI file%s, because scope %s does not reach it: publish in a scope that means %s, and take %s out of the file",
				printable(job.name, nil), a.Environment, strings.Join(names, " and "), a.onRef(), a.Scope, a.Environment, them(names)))
		}
	}
	return found
}

// reached tells whether some variable of the name outranks the CI file's in jobs of the
// environment, ours as it is to be made included.
func (a audience) reached(name string) bool {
	ours := func(s setting) bool { return s.Key == name && s.Scope == a.Scope }
	if inScope(a.Scope, a.Environment) && !slices.ContainsFunc(a.Settings, ours) {
		return true
	}
	return slices.ContainsFunc(a.Settings, func(s setting) bool {
		return s.Key == name && a.gets(s) && inScope(s.Scope, a.Environment)
	})
}

func (a audience) onRef() string {
	if a.Ref == "" {
		return ""
	}
	return " of " + a.Ref
}

// heir is a project or a subgroup that inherits a group's variables, with its own.
type heir struct {
	Name     string // project shop/billing, or group shop/backend
	WebURL   string
	Settings []setting
}

// heirShadows are the projects and subgroups with variables of the same names as those
// that are published to their group. Theirs outrank it, in whatever scope.
func heirShadows(a audience, heirs []heir) []string {
	var found []string
	for _, h := range heirs {
		own := a
		own.WebURL = h.WebURL
		var names, scopes []string
		for _, s := range h.Settings {
			if !slices.Contains(a.Names, s.Key) || !a.gets(s) || a.Environment != "" && !inScope(s.Scope, a.Environment) {
				continue
			}
			if !slices.Contains(names, s.Key) {
				names = append(names, s.Key)
			}
			if !slices.Contains(scopes, s.Scope) {
				scopes = append(scopes, s.Scope)
			}
		}
		if len(names) == 0 {
			continue
		}
		slices.Sort(names)
		slices.Sort(scopes)
		found = append(found, fmt.Sprintf("%s has %s of its own (scope %s), which outrank the group's%s: jobs there do not get the new key%s; delete %s there, or publish there as well",
			h.Name, strings.Join(names, " and "), strings.Join(scopes, ", "), own.link("settings/ci_cd"), a.half(names), them(names)))
	}
	return found
}
