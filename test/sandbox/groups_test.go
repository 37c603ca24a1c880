package sandbox

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	gitlab "gitlab.com/gitlab-org/api/client-go/v2"
)

// grouped is a scene whose project is in the group shop (9), beside shop/pay (10), which
// has project 4712, behind its fronts. token is that of a group: an Owner of shop.
func grouped(t *testing.T) (s *Scene, c *gitlab.Client) {
	t.Helper()
	s, server := served(t, Options{})
	s.AddGroup(Group{ID: 9, Path: "shop", Licensed: true})
	s.AddGroup(Group{ID: 10, Path: "shop/pay", Licensed: true})
	s.AddProject(Project{ID: 4712, Path: "shop/pay/api"})
	token := s.AddToken(Token{Name: "group", Scopes: []string{"api"}, GroupRoles: map[int64]int{9: Owner}})
	return s, gitlabClient(t, server, token)
}

func only(scope string) *gitlab.VariableFilter {
	return &gitlab.VariableFilter{EnvironmentScope: scope}
}

// GitLab lib/api/group_variables.rb.
func TestGroupVariablesOverHTTP(t *testing.T) {
	s, c := grouped(t)
	vars, ctx := c.GroupVariables, gitlab.WithContext(t.Context())
	const group = "shop" // as good as 9

	made, _, err := vars.CreateVariable(group, &gitlab.CreateGroupVariableOptions{
		Key: new("TOKEN"), Value: new("12345678"), MaskedAndHidden: new(true), Protected: new(true), Raw: new(true),
		EnvironmentScope: new("production"), Description: new("text"), VariableType: new(gitlab.EnvVariableType),
	}, ctx)
	check(t, err)
	if !made.Hidden || !made.Masked || !made.Protected || !made.Raw || made.Value != "" || made.EnvironmentScope != "production" || made.Description != "text" {
		t.Errorf("made %+v", made)
	}
	_, _, err = vars.CreateVariable(group, &gitlab.CreateGroupVariableOptions{Key: new("TOKEN"), Value: new("y"), EnvironmentScope: new("production")}, ctx)
	wantStatus(t, err, 400, "(TOKEN) has already been taken")
	_, _, err = vars.CreateVariable(group, &gitlab.CreateGroupVariableOptions{Key: new("TOKEN"), Value: new("short"), Masked: new(true)}, ctx)
	wantStatus(t, err, 400, `{"message":{"value":["is invalid"]}}`)
	_, _, err = vars.UpdateVariable(group, "TOKEN", &gitlab.UpdateGroupVariableOptions{Masked: new(false), Filter: only("production")}, ctx)
	wantStatus(t, err, 400, "The visibility setting cannot be changed")

	_, _, err = vars.CreateVariable(group, &gitlab.CreateGroupVariableOptions{Key: new("TOKEN"), Value: new("y")}, ctx)
	check(t, err)
	_, _, err = vars.GetVariable(group, "TOKEN", nil, ctx)
	wantStatus(t, err, 409, "There are multiple variables with provided parameters. Please use 'filter[environment_scope]'")
	changed, _, err := vars.UpdateVariable(group, "TOKEN", &gitlab.UpdateGroupVariableOptions{Value: new("87654321"), Filter: only("production")}, ctx)
	check(t, err)
	if now, _ := s.GroupVariable(9, "TOKEN", "production"); changed.EnvironmentScope != "production" || now.Value != "87654321" || !now.Hidden || !now.Protected {
		t.Errorf("changed %+v to %+v", changed, now)
	}
	list, _, err := vars.ListVariables(9, &gitlab.ListGroupVariablesOptions{ListOptions: gitlab.ListOptions{PerPage: 1}}, ctx)
	check(t, err)
	if len(list) != 1 {
		t.Errorf("a page of one has %d", len(list))
	}
	_, err = vars.RemoveVariable(group, "TOKEN", &gitlab.RemoveGroupVariableOptions{Filter: only("production")}, ctx)
	check(t, err)
	if _, still := s.GroupVariable(9, "TOKEN", "production"); still {
		t.Error("it is still there")
	}
}

// GitLab lib/api/group_variables.rb, app/services/ci/change_variable_service.rb: the
// filter is looked at, and forgotten when nothing is found.
func TestAFilterThatFindsNoGroupVariableChangesTheOneOfAnotherScope(t *testing.T) {
	s, c := grouped(t)
	s.SetGroupVariable(9, Variable{Key: "K", Value: "all"})
	got, resp, err := c.GroupVariables.UpdateVariable(9, "K", &gitlab.UpdateGroupVariableOptions{Value: new("changed"), Filter: only("production")}, gitlab.WithContext(t.Context()))
	check(t, err)
	now, _ := s.GroupVariable(9, "K", "*")
	if resp.StatusCode != 200 || got.EnvironmentScope != "*" || now.Value != "changed" {
		t.Errorf("%s: %+v; it is %+v", resp.Status, got, now)
	}
}

// The same sources: find_by! has no order.
func TestWithoutAFilterAnyGroupVariableOfTheKeyIsChanged(t *testing.T) {
	s, c := grouped(t)
	scopes := []string{"*", "staging", "production"}
	for _, scope := range scopes {
		s.SetGroupVariable(9, Variable{Key: "K", EnvironmentScope: scope})
	}
	hit := map[string]bool{}
	for i := range 40 {
		value := fmt.Sprint("change ", i)
		got, _, err := c.GroupVariables.UpdateVariable(9, "K", &gitlab.UpdateGroupVariableOptions{Value: &value}, gitlab.WithContext(t.Context()))
		check(t, err)
		hit[got.EnvironmentScope] = true
		for _, scope := range scopes {
			if v, _ := s.GroupVariable(9, "K", scope); (v.Value == value) != (scope == got.EnvironmentScope) {
				t.Fatalf("%s was changed, and [%s] is %+v", got.EnvironmentScope, scope, v)
			}
		}
	}
	if len(hit) != 3 {
		t.Errorf("only %v were ever hit", hit)
	}
}

// GitLab ee/lib/ee/api/helpers/variables_helpers.rb.
func TestWithoutALicenceTheScopeOfAGroupVariableIsDroppedSilently(t *testing.T) {
	s, c := grouped(t)
	s.EditGroup(9, func(g *Group) { g.Licensed = false })
	ctx := gitlab.WithContext(t.Context())
	made, _, err := c.GroupVariables.CreateVariable(9, &gitlab.CreateGroupVariableOptions{Key: new("K"), Value: new("v"), EnvironmentScope: new("production")}, ctx)
	check(t, err)
	if made.EnvironmentScope != "*" {
		t.Errorf("made %+v", made)
	}
	moved, _, err := c.GroupVariables.UpdateVariable(9, "K", &gitlab.UpdateGroupVariableOptions{EnvironmentScope: new("staging"), Filter: only("production")}, ctx)
	check(t, err)
	if moved.EnvironmentScope != "*" {
		t.Errorf("moved to %+v", moved)
	}
}

// GitLab lib/api/helpers.rb, lib/api/group_variables.rb; client-go hides the body of a
// 404, so plain HTTP asks.
func TestWhatIsMissingInAGroupIsNamed(t *testing.T) {
	s, c := grouped(t)
	outsider := s.AddToken(Token{Name: "outsider", Scopes: []string{"api"}, GroupRoles: map[int64]int{10: Owner}})
	maintainer := s.AddToken(Token{Name: "maintainer", Scopes: []string{"api"}, GroupRoles: map[int64]int{9: Maintainer}})
	reader := s.AddToken(Token{Name: "reader", Scopes: []string{"read_api"}, GroupRoles: map[int64]int{9: Owner}})
	s.AddGroup(Group{ID: 11, Path: "bakery"})
	owner := s.AddToken(Token{Name: "owner", Scopes: []string{"api"}, GroupRoles: map[int64]int{9: Owner}})
	cases := map[string]struct {
		token, method, path string
		status              int
		body                string
	}{
		"a variable that is read":        {owner, "GET", "9/variables/NONE", 404, `{"message":"404 GroupVariable Not Found"}`},
		"a variable that is changed":     {owner, "PUT", "9/variables/NONE", 404, `{"message":"404 GroupVariable Not Found"}`},
		"one with a filter":              {owner, "PUT", "9/variables/NONE?filter[environment_scope]=a", 404, `{"message":"404 GroupVariable Not Found"}`},
		"a variable that is deleted":     {owner, "DELETE", "9/variables/NONE", 404, `{"message":"404 GroupVariable Not Found"}`},
		"a group":                        {owner, "GET", "77/variables", 404, `{"message":"404 Group Not Found"}`},
		"a group that one cannot see":    {owner, "GET", "bakery", 404, `{"message":"404 Group Not Found"}`},
		"the role in the group":          {maintainer, "GET", "9/variables", 403, `{"message":"403 Forbidden"}`},
		"the role, in a parent":          {outsider, "GET", "9/variables", 403, `{"message":"403 Forbidden"}`},
		"a role in a project":            {s.Token, "GET", "9/variables", 403, `{"message":"403 Forbidden"}`},
		"the scope":                      {reader, "DELETE", "9/variables/NONE", 403, "insufficient_scope"},
		"nothing, for who reads":         {reader, "GET", "9/variables", 200, "[]"},
		"nothing, in a subgroup":         {owner, "GET", "shop%2Fpay/variables", 200, "[]"},
		"nothing, for whoever is in one": {s.Token, "GET", "9", 200, `"full_path":"shop"`},
	}
	base := strings.TrimSuffix(c.BaseURL().String(), "/") + "/groups/"
	for name, one := range cases {
		t.Run(name, func(t *testing.T) {
			status, body := ask(t, one.method, base+one.path, one.token, "")
			if status != one.status || !strings.Contains(body, one.body) {
				t.Errorf("%d %s, want %d with %s", status, body, one.status, one.body)
			}
		})
	}
}

// GitLab, Limits of CI/CD variables.
func TestAGroupHasNoMoreThanThirtyThousandVariables(t *testing.T) {
	s, c := grouped(t)
	for i := range 30000 {
		s.groups[9].variables = append(s.groups[9].variables, &variable{Variable: Variable{Key: fmt.Sprint("K", i), EnvironmentScope: "*"}})
	}
	_, _, err := c.GroupVariables.CreateVariable(9, &gitlab.CreateGroupVariableOptions{Key: new("ONE_MORE"), Value: new("v")}, gitlab.WithContext(t.Context()))
	wantStatus(t, err, 400, `{"message":{"base":["Maximum number of group ci variables (30000) exceeded"]}}`)
}

// GitLab lib/api/groups.rb.
func TestTheProjectsOfAGroup(t *testing.T) {
	s, c := grouped(t)
	s.AddProject(Project{ID: 4713, Path: "shop/old", Archived: true})
	s.AddProject(Project{ID: 4714, Path: "bakery/bread", SharedWith: map[int64]int{9: Developer}})
	s.AddProject(Project{ID: 4715, Path: "bakery/cake"})
	cases := map[string]struct {
		ask  gitlab.ListGroupProjectsOptions
		want []int64
	}{
		"are its own and those shared with it":  {gitlab.ListGroupProjectsOptions{}, []int64{4714, 4713, 4711}},
		"are its own when asked for no other":   {gitlab.ListGroupProjectsOptions{WithShared: new(false)}, []int64{4713, 4711}},
		"are those of subgroups when asked for": {gitlab.ListGroupProjectsOptions{WithShared: new(false), IncludeSubGroups: new(true)}, []int64{4713, 4712, 4711}},
		"are archived when asked for those":     {gitlab.ListGroupProjectsOptions{Archived: new(true)}, []int64{4713}},
		"are not archived when asked not to":    {gitlab.ListGroupProjectsOptions{Archived: new(false), WithShared: new(false)}, []int64{4711}},
	}
	for name, one := range cases {
		t.Run(name, func(t *testing.T) {
			one.ask.PerPage = 1
			all, err := gitlab.ScanAndCollect(func(page gitlab.PaginationOptionFunc) ([]*gitlab.Project, *gitlab.Response, error) {
				return c.Groups.ListGroupProjects(9, &one.ask, gitlab.WithContext(t.Context()), page)
			})
			check(t, err)
			var got []int64
			for _, p := range all {
				got = append(got, p.ID)
			}
			if diff := cmp.Diff(one.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// GitLab lib/api/entities/project_with_access.rb; GitLab, Members.
func TestARoleInAGroupCountsInItsProjects(t *testing.T) {
	s, c := grouped(t)
	s.AddProject(Project{ID: 4714, Path: "bakery/bread", SharedWith: map[int64]int{9: Developer}})
	ctx := gitlab.WithContext(t.Context())
	p, _, err := c.Projects.GetProject(4712, nil, ctx)
	check(t, err)
	if p.Permissions.ProjectAccess != nil || p.Permissions.GroupAccess == nil || p.Permissions.GroupAccess.AccessLevel != Owner {
		t.Errorf("permissions %+v", p.Permissions)
	}
	if n := p.Namespace; n.ID != 10 || n.Kind != "group" || n.FullPath != "shop/pay" || n.ParentID != 9 {
		t.Errorf("namespace %+v", n)
	}
	_, _, err = c.ProjectVariables.CreateVariable(4712, &gitlab.CreateProjectVariableOptions{Key: new("K"), Value: new("v")}, ctx)
	check(t, err)
	_, _, err = c.ProjectVariables.CreateVariable(4714, &gitlab.CreateProjectVariableOptions{Key: new("K"), Value: new("v")}, ctx)
	wantStatus(t, err, 403, "403 Forbidden") // a share gives no more than it says
	shared, _, err := c.Projects.GetProject(4714, nil, ctx)
	check(t, err)
	if shared.Namespace.Kind != "user" || shared.Permissions.GroupAccess != nil {
		t.Errorf("shared: %+v, %+v", shared.Namespace, shared.Permissions)
	}

	s.EditToken("group", func(t *Token) { t.Roles, t.GroupRoles = map[int64]int{4712: Reporter}, map[int64]int{10: Maintainer} })
	_, _, err = c.ProjectVariables.CreateVariable(4712, &gitlab.CreateProjectVariableOptions{Key: new("L"), Value: new("v")}, ctx)
	check(t, err)
	if _, _, err = c.Projects.GetProject(4711, nil, ctx); !errors.Is(err, gitlab.ErrNotFound) {
		t.Errorf("a role in a subgroup shows what is beside it: %v", err)
	}
}

// GitLab app/policies/project_policy.rb asks for the highest role, wherever it is from.
func TestATokenOfAGroupStartsPipelinesAndRetriesJobs(t *testing.T) {
	s, c := grouped(t)
	ctx := gitlab.WithContext(t.Context())
	live := s.Deployed(4711, Past{Job: JobSpec{Name: "deploy", Environment: "production"}, Ago: time.Hour})
	_, _, err := c.Deployments.ListProjectDeployments(4711, &gitlab.ListProjectDeploymentsOptions{Environment: new("production")}, ctx)
	check(t, err)
	_, _, err = c.Jobs.RetryJob(4711, live, ctx)
	check(t, err)
	pl, _, err := c.Pipelines.CreatePipeline(4711, &gitlab.CreatePipelineOptions{Ref: new("main")}, ctx)
	check(t, err)
	if !strings.HasPrefix(pl.User.Username, "group_9_bot_") {
		t.Errorf("it is that of %s", pl.User.Username)
	}
	s.EditToken("group", func(t *Token) { t.GroupRoles[9] = Developer })
	_, _, err = c.Pipelines.CreatePipeline(4711, &gitlab.CreatePipelineOptions{Ref: new("main")}, ctx)
	wantStatus(t, err, 400, "You do not have sufficient permission to run a pipeline on 'main'")
}

func TestAProjectThatMovesChangesItsGroups(t *testing.T) {
	s, c := grouped(t)
	s.SetGroupVariable(10, Variable{Key: "K", Value: "pay"})
	s.EditProject(4711, func(p *Project) { p.Path = "shop/pay/billing" })
	p, _, err := c.Projects.GetProject(4711, nil, gitlab.WithContext(t.Context()))
	check(t, err)
	if got := s.projects[4711].variablesFor("", false)["K"]; p.Namespace.ID != 10 || got != "pay" {
		t.Errorf("it is in %+v, and K is %q", p.Namespace, got)
	}
}

// GitLab lib/gitlab/ci/variables/builder.rb, builder/group.rb: the closest owner wins,
// however narrow the scope of another's; protection and scope choose among its own.
func TestVariablesOfTheProjectComeBeforeThoseOfItsGroupsTheClosestFirst(t *testing.T) {
	w := New(Options{})
	w.AddGroup(Group{ID: 9, Path: "shop", Licensed: true})
	w.AddGroup(Group{ID: 10, Path: "shop/pay", Licensed: true})
	w.AddGroup(Group{ID: 11, Path: "bakery"})
	w.AddProject(Project{ID: 1, Path: "shop/pay/api", SharedWith: map[int64]int{11: Developer}})
	w.SetGroupVariable(11, Variable{Key: "SHARED", Value: "bakery"})
	for key, owners := range map[string]string{"A": "spp", "B": "sp", "C": "s", "D": "sn", "E": "sr"} {
		w.SetGroupVariable(9, Variable{Key: key, Value: "shop", EnvironmentScope: "production"})
		switch owners[1:] {
		case "pp":
			w.SetVariable(1, Variable{Key: key, Value: "project"})
			w.SetGroupVariable(10, Variable{Key: key, Value: "pay"})
		case "p":
			w.SetGroupVariable(10, Variable{Key: key, Value: "pay"})
		case "n":
			w.SetGroupVariable(10, Variable{Key: key, Value: "pay", EnvironmentScope: "staging"})
		case "r":
			w.SetGroupVariable(10, Variable{Key: key, Value: "pay", Protected: true})
		}
	}
	p := w.projects[1]
	for _, c := range []struct {
		protected bool
		want      map[string]string
	}{
		{false, map[string]string{"A": "project", "B": "pay", "C": "shop", "D": "shop", "E": "shop"}},
		{true, map[string]string{"A": "project", "B": "pay", "C": "shop", "D": "shop", "E": "pay"}},
	} {
		if diff := cmp.Diff(c.want, p.variablesFor("production", c.protected)); diff != "" {
			t.Errorf("protected %t: %s", c.protected, diff)
		}
	}
}

func TestAJobDeploysWithThePairOfItsGroup(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := NewScene(Options{})
		s.AddGroup(Group{ID: 9, Path: "shop"})
		for _, key := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} {
			v, _ := s.Variable(4711, key, "*")
			s.SetGroupVariable(9, v)
			s.DeleteVariable(4711, key, "*")
		}
		s.RunPipeline(4711, "main")
		time.Sleep(time.Minute)
		job := s.Pipelines(4711)[0].Jobs[0]
		if id, state := s.Pair(s.Service); job.Status != "success" || job.KeyID != s.Key.ID || id != s.Key.ID || state != PairWorks {
			t.Errorf("the job is %+v; published is %s, which %s", job, id, state)
		}
	})
}

func TestAPersonCaresForGroupVariablesAsForThoseOfProjects(t *testing.T) {
	w := New(Options{})
	w.AddGroup(Group{ID: 9, Path: "shop", Licensed: true})
	w.SetGroupVariable(9, Variable{Key: "K", Value: "a", EnvironmentScope: "production"})
	w.EditGroupVariable(9, "K", "production", func(v *Variable) { v.Value = "b" })
	if v, ok := w.GroupVariable(9, "K", "production"); !ok || v.Value != "b" || v.Type != "env_var" {
		t.Errorf("it is %+v", v)
	}
	w.DeleteGroupVariable(9, "K", "production")
	if _, ok := w.GroupVariable(9, "K", "production"); ok {
		t.Error("it is still there")
	}
	for name, wrong := range map[string]func(){
		"a subgroup of nothing":    func() { w.AddGroup(Group{ID: 12, Path: "none/sub"}) },
		"a group that is not":      func() { w.SetGroupVariable(77, Variable{Key: "K"}) },
		"a variable that is not":   func() { w.DeleteGroupVariable(9, "K", "*") },
		"a group elsewhere":        func() { w.EditGroup(9, func(g *Group) { g.Path = "bakery" }) },
		"a share with none":        func() { w.AddProject(Project{ID: 5, Path: "a/b", SharedWith: map[int64]int{77: 30}}) },
		"a masked value too short": func() { w.SetGroupVariable(9, Variable{Key: "K", Value: "x", Masked: true}) },
	} {
		if !panics(wrong) {
			t.Errorf("%s is no fault", name)
		}
	}
}

func panics(f func()) (did bool) {
	defer func() { did = recover() != nil }()
	f()
	return false
}

// A secret of the group that is told where it does not belong is seen, as a project's is.
func TestAGroupVariableIsWrittenUnderTheEyesOfTheJudge(t *testing.T) {
	s := NewScene(Options{})
	server, err := Serve(s.World)
	check(t, err)
	defer server.Close()
	s.AddGroup(Group{ID: 9, Path: "shop"})
	token := s.AddToken(Token{Name: "group", Scopes: []string{"api"}, GroupRoles: map[int64]int{9: Owner}})
	vars, ctx := gitlabClient(t, server, token).GroupVariables, gitlab.WithContext(t.Context())
	secret := s.Key.Secret.Reveal()
	_, _, err = vars.CreateVariable(9, &gitlab.CreateGroupVariableOptions{Key: new("K"), Value: &secret}, ctx)
	check(t, err)
	wantNoViolation(t, s.World)
	_, _, err = vars.UpdateVariable(9, "K", &gitlab.UpdateGroupVariableOptions{Description: &secret, Filter: only("*")}, ctx)
	check(t, err)
	wantViolation(t, s.World, "says the secret of "+s.Key.ID)
	calls := s.Calls()
	if !slices.ContainsFunc(calls, func(c Call) bool { return c.Write && c.Name == "gitlab.PUT group variable K" }) {
		t.Errorf("the calls were %v", calls)
	}
}

// ask is plain HTTP; body is JSON.
func ask(t *testing.T, method, url, token, body string) (status int, reply string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	check(t, err)
	req.Header.Set("Private-Token", token)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	check(t, err)
	got, err := io.ReadAll(resp.Body)
	check(t, errors.Join(err, resp.Body.Close()))
	return resp.StatusCode, string(got)
}
