package gitlab_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"credential-rotator/rotator"
	"credential-rotator/test/sandbox"
)

// inAGroup is a world with shop (9), its subgroups shop/pay (10) and shop/pay/eu (11), and
// 4711 shop/billing, 4712 shop/pay/eu/cards, and a request for the group.
func inAGroup(ways ...rotator.ProjectWay) (*sandbox.Scene, rotator.Request) {
	s := sandbox.NewScene(sandbox.Options{})
	s.AddGroup(sandbox.Group{ID: 9, Path: "shop", Licensed: true})
	s.AddGroup(sandbox.Group{ID: 10, Path: "shop/pay", Licensed: true})
	s.AddGroup(sandbox.Group{ID: 11, Path: "shop/pay/eu", Licensed: true})
	s.AddProject(sandbox.Project{ID: 4712, Path: "shop/pay/eu/cards", DefaultBranch: "main"})
	s.EditToken("rotator", func(t *sandbox.Token) { t.GroupRoles = map[int64]int{9: sandbox.Owner} })
	target := rotator.DefaultTarget()
	target.GroupID, target.Redeploys = 9, ways
	r := rotator.DefaultRequest()
	r.User, r.Destinations = "svc-billing", []rotator.Target{target}
	return s, r
}

func way(project int64) rotator.ProjectWay {
	return rotator.ProjectWay{ProjectID: project, Way: rotator.Way{Redeploy: rotator.RedeployPipeline}}
}

func TestWhatAGroupsPlanSaysOfItsProjects(t *testing.T) {
	for name, c := range map[string]struct {
		ways []rotator.ProjectWay
		edit func(*sandbox.Scene, *rotator.Request)
		want []string // faults and warnings
		ok   string
	}{
		"all are redeployed": {ways: []rotator.ProjectWay{way(4711), way(4712)}, ok: "group 9: 2 projects, all in which jobs run are redeployed"},
		"the only one is": {
			ways: []rotator.ProjectWay{way(4712)}, ok: "group 10: its only project is redeployed",
			edit: func(_ *sandbox.Scene, r *rotator.Request) { r.Destinations[0].GroupID = 10 },
		},
		"one that is archived": {
			ways: []rotator.ProjectWay{way(4711), way(4712)},
			edit: func(s *sandbox.Scene, _ *rotator.Request) {
				s.EditProject(4712, func(p *sandbox.Project) { p.Archived = true })
			},
			want: []string{"project 4712: project 4712 is archived, so nothing can be written or run in it"},
		},
		"one that is elsewhere": {
			ways: []rotator.ProjectWay{way(4711), way(4712), way(4713)},
			edit: func(s *sandbox.Scene, _ *rotator.Request) {
				s.AddProject(sandbox.Project{ID: 4713, Path: "other", DefaultBranch: "main"})
				s.EditToken("rotator", func(t *sandbox.Token) { t.Roles[4713] = sandbox.Maintainer })
			},
			want: []string{"group 9: project 4713 is not in group 9"},
		},
		"variables of a subgroup": {
			ways: []rotator.ProjectWay{way(4711), way(4712)},
			edit: func(s *sandbox.Scene, _ *rotator.Request) {
				s.SetGroupVariable(10, sandbox.Variable{Key: "AWS_ACCESS_KEY_ID", Value: oldKeyID, EnvironmentScope: "*"})
			},
			want: []string{"jobs of project 4712: group shop/pay has AWS_ACCESS_KEY_ID of its own (scope *), which outrank the group's"},
		},
		"variables of the project's own": {
			ways: []rotator.ProjectWay{way(4711), way(4712)},
			edit: func(s *sandbox.Scene, _ *rotator.Request) {
				s.SetVariable(4712, sandbox.Variable{Key: "AWS_SECRET_ACCESS_KEY", Value: theSecret, EnvironmentScope: "*"})
			},
			want: []string{"jobs of project 4712: project shop/pay/eu/cards has AWS_SECRET_ACCESS_KEY of its own"},
		},
		"and they are a place as well": {
			ways: []rotator.ProjectWay{way(4711), way(4712)},
			edit: func(s *sandbox.Scene, r *rotator.Request) {
				for _, key := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} {
					s.SetVariable(4712, sandbox.Variable{Key: key, Value: oldKeyID, EnvironmentScope: "*"})
				}
				own := rotator.DefaultTarget()
				own.ProjectID, own.Redeploy = 4712, rotator.RedeployNone
				r.Destinations = append(r.Destinations, own)
			},
			ok: "jobs of project 4712: they get the new key: no schedule and no closer scope has another",
		},
		"one that is redeployed as a place of its own": {
			ways: []rotator.ProjectWay{way(4712)},
			edit: func(_ *sandbox.Scene, r *rotator.Request) {
				own := rotator.DefaultTarget()
				own.ProjectID = 4711
				r.Destinations = append(r.Destinations, own)
			},
			ok: "group 9: 2 projects, all in which jobs run are redeployed",
		},
		"nothing is redeployed": {
			edit: func(_ *sandbox.Scene, r *rotator.Request) {
				r.Destinations[0].Redeploy, r.OverlapHours = rotator.RedeployNone, 24
			},
			want: []string{"group 9: the jobs of shop/pay/eu/cards, shop/billing get the group's variables too"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, request := inAGroup(c.ways...)
			for _, scope := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} {
				s.DeleteVariable(4711, scope, "*")
			}
			if c.edit != nil {
				c.edit(s, &request)
			}
			pre, err := overHTTP(t, s.World, s.Token).Preflight(t.Context(), request)
			if err != nil {
				t.Fatal(err)
			}
			var all, bad []string
			for _, check := range pre.Checks {
				line := fmt.Sprintf("%s: %s", check.Name, check.Detail)
				if all = append(all, line); check.State != rotator.CheckOK {
					bad = append(bad, line)
				}
			}
			for i, line := range bad {
				if i >= len(c.want) || !strings.HasPrefix(line, c.want[i]) {
					t.Errorf("it says %s", line)
				}
			}
			if len(bad) < len(c.want) || !strings.Contains(strings.Join(all, "\n"), c.ok) {
				t.Errorf("it says\n%s", strings.Join(all, "\n"))
			}
		})
	}
}

func TestASubgroupThatHoldsTheSameKeyIsAnotherPlaceOfIt(t *testing.T) {
	s, request := inAGroup(way(4711), way(4712))
	for _, group := range []int64{9, 10} {
		s.SetGroupVariable(group, sandbox.Variable{Key: "AWS_ACCESS_KEY_ID", Value: oldKeyID, EnvironmentScope: "*"})
	}
	pre, err := overHTTP(t, s.World, s.Token).Preflight(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	want := rotator.Holding{Variable: "AWS_ACCESS_KEY_ID [*] of group 10", KeyID: oldKeyID}
	if held := pre.Published[0].Elsewhere; !slices.Contains(held, want) {
		t.Errorf("it is held by %+v, and not by %+v", held, want)
	}
	if got := pre.Turns[1].Subgroups; !slices.Equal(got, []int64{11, 10}) {
		t.Errorf("between are %d", got)
	}
}

// endless is a list of which there is always one more page.
func endless(body string) answer {
	a := ok(body)
	a.header = map[string]string{"Link": `<https://gitlab.example.com/api/v4/next?page=2>; rel="next"`, "X-Next-Page": "2"}
	return a
}

func TestAListThatIsTooLongIsTold(t *testing.T) {
	replies := goodReplies()
	replies[selfPath] = ok(`{"id":42,"scopes":["api"]}`)
	replies[schedulesPath] = endless(`[{"id":1,"description":"x","ref":"other","active":true}]`)
	replies["GET /next"] = replies[schedulesPath]
	c, _ := client(t, routes(replies))
	if got, err := lookBefore(t.Context(), c, theRequest()); err != nil || len(got.Faults) > 0 || len(got.Warnings) != 1 || !strings.HasPrefix(got.Warnings[0], "project 4711 has more than 500 pipeline schedules, which were not looked at") {
		t.Errorf("schedules: %+v, %v", got, err)
	}

	_, request := inAGroup(way(4711))
	replies = goodReplies()
	replies["GET /groups/9/projects"] = endless(`[{"id":1,"path_with_namespace":"shop/one"}]`)
	replies["GET /next"] = replies["GET /groups/9/projects"]
	c, _ = client(t, routes(replies))
	if got, err := lookBefore(t.Context(), c, request); err != nil || len(got.Faults) != 1 || !strings.HasPrefix(got.Faults[0], "group 9 has more than 1000 projects") {
		t.Errorf("projects: %+v, %v", got, err)
	}
}

// A list may have a null in it, and an object may lack what it had in another release.
func TestAnswersThatLackThingsAreNoPanic(t *testing.T) {
	deployment := `{"id":7,"ref":"main","sha":"abc","status":"success","deployable":{"id":70,"name":"deploy","pipeline":{"id":60}}}`
	for path, bodies := range map[string][]string{
		selfPath:      {`{}`, `{"id":1,"scopes":null}`, `{"id":42,"scopes":["api"],"expires_at":null}`},
		projectPath:   {`{"id":4711}`, `null`, `{}`, `{"id":4711,"default_branch":"main","namespace":null}`},
		branchPath:    {`null`, `{}`},
		variablesPath: {`[null]`, `null`, `[{}]`, `[null,{"key":"AWS_ACCESS_KEY_ID"}]`},
		schedulesPath: {`[null]`, `null`, `[{}]`, `[{"id":1,"ref":"main"}]`},

		"GET /projects/4711/protected_tags":         {`[null]`, `null`, `[{}]`, `[{"name":"[" }]`},
		"GET /projects/4711/environments":           {`[null]`, `null`, `[{}]`},
		"GET /projects/4711/deployments":            {`[null]`, `null`, `[{}]`, `[{"status":"success"}]`, `[` + deployment + `]`},
		"GET /projects/4711/pipelines/60/jobs":      {`[null]`, `null`, `[{}]`, `[{"name":"deploy"}]`},
		"GET /projects/4711/pipelines/60/variables": {`[null]`, `null`, `[{}]`},
	} {
		for _, body := range bodies {
			for _, fallback := range []string{"", rotator.RedeployPipeline, rotator.FallbackLiveCommit} {
				replies := goodReplies()
				replies["GET /projects/4711/environments"] = ok(`[{"id":1,"name":"production","state":"available"}]`)
				replies["GET /projects/4711/deployments"] = ok(`[` + deployment + `]`)
				replies["GET /projects/4711/pipelines/60/jobs"] = ok(`[{"id":70,"name":"deploy","status":"success","ref":"main"}]`)
				replies["GET /projects/4711/pipelines/60/variables"] = ok(`[]`)
				replies["GET /projects/4711/protected_tags"] = ok(`[]`)
				replies["GET /projects/4711/pipeline_schedules/1"] = ok(`{"id":1,"variables":null}`)
				replies[path] = ok(body)
				request := theRequest()
				request.Redeploy, request.Environment, request.Fallback = rotator.RedeployDeployment, "production", fallback
				c, _ := client(t, routes(replies))
				if got, err := lookBefore(t.Context(), c, request); err != nil && !strings.Contains(err.Error(), "looking at ") {
					t.Errorf("%s %s: %+v %v", path, body, got, err)
				}
			}
		}
	}
}
