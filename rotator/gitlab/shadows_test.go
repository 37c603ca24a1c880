package gitlab

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"credential-rotator/test/sandbox"
)

const (
	keyIDName  = "AWS_ACCESS_KEY_ID"
	secretName = "AWS_SECRET_ACCESS_KEY"
	billingURL = "https://gitlab.example.com/shop/billing"
)

// theAudience is the pair of project 4711 in scope *, for a pipeline on main.
func theAudience(settings ...setting) audience {
	return audience{ProjectID: 4711, WebURL: billingURL, Names: []string{keyIDName, secretName}, Scope: "*", Settings: settings, Environment: "production", Ref: "main", Protected: true}
}

// pair is both variables in a scope.
func pair(scope string) []setting {
	return []setting{{Key: keyIDName, Scope: scope}, {Key: secretName, Scope: scope}}
}

func both(scopes ...string) []setting {
	var all []setting
	for _, scope := range scopes {
		all = append(all, pair(scope)...)
	}
	return all
}

func TestVariablesOfACloserScopeShadowThoseThatArePublished(t *testing.T) {
	const page = " (" + billingURL + "/-/settings/ci_cd)"
	protected := pair("production")
	protected[0].Protected, protected[1].Protected = true, true
	for name, c := range map[string]struct {
		edit func(*audience)
		rows []setting
		want []string
	}{
		"nothing else there":        {rows: both("*")},
		"of another environment":    {rows: both("*", "staging", "prod")},
		"others of the same scopes": {rows: append(both("*"), setting{Key: "COLOUR", Scope: "production"})},
		"of the environment": {
			rows: both("*", "production"),
			want: []string{"jobs of environment production get AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY of scope production" + page + ", not the new key of scope *: delete them, or publish there"},
		},
		"one of the two": {
			rows: append(both("*"), setting{Key: keyIDName, Scope: "prod*"}),
			want: []string{"jobs of environment production get AWS_ACCESS_KEY_ID of scope prod*" + page + ", not the new key of scope * - and with it half of another pair, which does not work: delete it, or publish there"},
		},
		"ours is the closest": {
			edit: func(a *audience) { a.Scope = "production" }, rows: both("*", "prod*", "production"),
		},
		"ours has a wildcard, another has none": {
			edit: func(a *audience) { a.Scope = "prod*" }, rows: both("*", "prod*", "production"),
			want: []string{"jobs of environment production get AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY of scope production" + page + ", not the new key of scope prod*: delete them, or publish there"},
		},
		"two with wildcards": {
			edit: func(a *audience) { a.Scope = "prod*" }, rows: both("*", "prod*", "*tion", "staging*"),
			want: []string{"jobs of environment production may get (GitLab does not say which of the two is closer) AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY of scope *tion" + page + ", not the new key of scope prod*: delete them, or publish there"},
		},
		"ours does not mean the environment": {
			edit: func(a *audience) { a.Scope, a.Environment = "production", "staging" }, rows: both("production"),
			want: []string{"jobs of environment staging get no variables of scope production, so none of them gets the new key: publish it in a scope that means staging, or correct environment"},
		},
		"and others do": {
			edit: func(a *audience) { a.Scope, a.Environment, a.WebURL = "review/*", "staging", "" }, rows: both("review/*", "*", "st*"),
			want: []string{
				"jobs of environment staging get no variables of scope review/*, so none of them gets the new key: publish it in a scope that means staging, or correct environment",
				"jobs of environment staging get AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY of scope *, not the new key of scope review/*: delete them, or publish there",
				"jobs of environment staging get AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY of scope st*, not the new key of scope review/*: delete them, or publish there",
			},
		},
		"protected ones, on a ref that is not": {
			edit: func(a *audience) { a.Protected = false }, rows: append(both("*"), protected...),
		},
		"protected ones, on a protected ref": {
			rows: append(both("*"), protected...),
			want: []string{"jobs of environment production get AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY of scope production" + page + ", not the new key of scope *: delete them, or publish there"},
		},
		"no environment is named, ours means all": {
			edit: func(a *audience) { a.Environment, a.WebURL = "", "" }, rows: both("*", "staging", "review/*"),
			want: []string{
				"jobs of environments like review/* get AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY of scope review/*, not the new key of scope *: delete them, or publish there",
				"jobs of environment staging get AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY of scope staging, not the new key of scope *: delete them, or publish there",
			},
		},
		"no environment is named, ours means one": {
			edit: func(a *audience) { a.Environment, a.Scope = "", "production" }, rows: both("*", "production", "prod*", "staging"),
		},
		"no environment is named, ours means some": {
			edit: func(a *audience) { a.Environment, a.Scope, a.WebURL = "", "review/*", "" }, rows: both("*", "review/*", "review/app", "staging", "*/app", "test/*"),
			want: []string{
				"jobs of environments like */app may get (GitLab does not say which of the two is closer) AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY of scope */app, not the new key of scope review/*: delete them, or publish there",
				"jobs of environment review/app get AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY of scope review/app, not the new key of scope review/*: delete them, or publish there",
			},
		},
		"a file": {
			edit: func(a *audience) { a.Names, a.WebURL = []string{"AWS_CONFIG"}, "" }, rows: []setting{{Key: "AWS_CONFIG", Scope: "*"}, {Key: "AWS_CONFIG", Scope: "production"}},
			want: []string{"jobs of environment production get AWS_CONFIG of scope production, not the new key of scope *: delete it, or publish there"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := theAudience(c.rows...)
			if c.edit != nil {
				c.edit(&a)
			}
			if diff := cmp.Diff(c.want, scopeShadows(a)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestAScopeMeansTheEnvironmentsThatItsWildcardsStandFor(t *testing.T) {
	for _, c := range []struct {
		scope, environment string
		want               bool
	}{
		{"*", "", true},
		{"*", "production", true},
		{"production", "", false},
		{"pro*", "", false},
		{"production", "production", true},
		{"production", "Production", false},
		{"production", "production-eu", false},
		{"review/*", "review/app", true},
		{"review/*", "review/", true},
		{"review/*", "review", false},
		{"*/app", "review/app", true},
		{"r*w/*p", "review/app", true},
		{"a*a", "a", false},
		{"a*a", "aa", true},
		{"a*b*c", "aXbYc", true},
		{"a*b*c", "acb", false},
		{"*b*b*", "b", false},
		{"*b*b*", "bb", true},
		{"a.c", "abc", false},
		{"a%", "abc", false},
		{"a_c", "abc", false},
		{"**", "x", true},
	} {
		if got := inScope(c.scope, c.environment); got != c.want {
			t.Errorf("%q means %q: %v", c.scope, c.environment, got)
		}
	}
}

// The world decides which variable a job gets by code of its own: what is warned of must
// be what happens there, and what happens must be warned of. Where two scopes with
// wildcards tie the world takes one, and the warning is a "may".
func TestWhatIsWarnedOfIsWhatJobsGet(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 4711)) // #nosec G404
	scopes := []string{"*", "production", "prod*", "*tion", "p*n", "staging", "review/*"}
	warned, clean := 0, 0
	for n := range 300 {
		s := sandbox.NewScene(sandbox.Options{Seed: uint64(n)})
		s.DeleteVariable(4711, keyIDName, "*")
		protected := rng.IntN(2) == 0
		s.EditProject(4711, func(p *sandbox.Project) { p.Refs[0].Protected = protected })
		mine := scopes[rng.IntN(len(scopes))]
		a := theAudience()
		a.Scope, a.Names, a.Protected = mine, []string{keyIDName}, protected
		for _, scope := range scopes {
			if scope != mine && rng.IntN(3) > 0 {
				continue
			}
			row := sandbox.Variable{Key: keyIDName, Value: "AKIA" + strings.Repeat("X", 16), EnvironmentScope: scope, Protected: scope != mine && rng.IntN(3) == 0}
			if scope == mine {
				row.Value = s.Key.ID
			}
			s.SetVariable(4711, row)
			a.Settings = append(a.Settings, setting{keyIDName, scope, row.Protected})
		}
		s.RunPipeline(4711, "main")
		got := s.Pipelines(4711)[0].Jobs[0].KeyID
		found := scopeShadows(a)
		if strings.Contains(strings.Join(found, ""), "may get") {
			continue
		}
		if isMine := got == s.Key.ID; isMine != (len(found) == 0) {
			t.Fatalf("ours is %s of %+v on a ref protected=%v; the job got ours: %v; told: %q", mine, a.Settings, protected, isMine, found)
		}
		if len(found) > 0 {
			warned++
		} else {
			clean++
		}
	}
	if warned < 30 || clean < 30 {
		t.Errorf("%d warned, %d clean: that proves little", warned, clean)
	}
}

// looked is what shadows says over the front of a world.
func looked(t *testing.T, s *sandbox.Scene, a audience) []string {
	t.Helper()
	c := inside(t, s.GitLab(), s.Token)
	rows, _, err := c.api.ProjectVariables.ListVariables(4711, nil)
	if err != nil {
		t.Fatal(err)
	}
	a.Settings = projectSettings(rows)
	found, err := c.shadows(t.Context(), a)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestAScheduleWithVariablesOfItsOwnShadows(t *testing.T) {
	s := sandbox.NewScene(sandbox.Options{})
	old := map[string]string{keyIDName: s.Key.ID, secretName: s.Key.Secret.Reveal()}
	id := s.AddSchedule(4711, sandbox.Schedule{Description: "Nightly", Ref: "refs/heads/main", Variables: old})
	s.AddSchedule(4711, sandbox.Schedule{Description: "Half", Ref: "main", Variables: map[string]string{secretName: "x", "COLOUR": "red"}})
	s.AddSchedule(4711, sandbox.Schedule{Description: "Asleep", Ref: "main", Inactive: true, Variables: old})
	s.AddSchedule(4711, sandbox.Schedule{Description: "Elsewhere", Ref: "next", Variables: old})
	s.AddSchedule(4711, sandbox.Schedule{Description: "Harmless", Ref: "main", Variables: map[string]string{"COLOUR": "red"}})
	s.AddSchedule(4711, sandbox.Schedule{Description: "None", Ref: "main"})
	want := []string{
		`pipeline schedule "Nightly" on main (` + billingURL + `/-/pipeline_schedules/1/edit) has AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY among its own variables, which outrank the project's: its jobs do not get the new key; remove them there`,
		`pipeline schedule "Half" on main (` + billingURL + `/-/pipeline_schedules/2/edit) has AWS_SECRET_ACCESS_KEY among its own variables, which outrank the project's - and with it half of another pair, which does not work: its jobs do not get the new key; remove it there`,
	}
	if diff := cmp.Diff(want, looked(t, s, theAudience())); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	// It is true: that is what the schedule's job gets.
	next := s.CreateKey("svc-billing", 0)
	s.EditVariable(4711, keyIDName, "*", func(v *sandbox.Variable) { v.Value = next.ID })
	s.RunSchedule(4711, id)
	if pl := s.Pipelines(4711)[0]; pl.Source != "schedule" || pl.Jobs[0].KeyID != s.Key.ID {
		t.Errorf("the schedule's job has %+v", pl)
	}
	any := theAudience()
	any.Ref = ""
	if got := strings.Join(looked(t, s, any), "\n"); !strings.Contains(got, `"Elsewhere" on next`) {
		t.Errorf("of any ref: %s", got)
	}
}

func TestSchedulesThatCannotBeSeenAreSaid(t *testing.T) {
	t.Run("their variables", func(t *testing.T) {
		s := sandbox.NewScene(sandbox.Options{})
		s.AddSchedule(4711, sandbox.Schedule{Description: "Theirs", Ref: "main", Variables: map[string]string{keyIDName: "x"}})
		s.AddSchedule(4711, sandbox.Schedule{Description: "Ours", Ref: "main", Owner: "rotator"})
		s.EditToken("rotator", func(t *sandbox.Token) { t.Roles[4711] = sandbox.Developer })
		found, err := inside(t, s.GitLab(), s.Token).shadows(t.Context(), theAudience())
		want := []string{`the variables of pipeline schedule "Theirs" on main (` + billingURL + `/-/pipeline_schedules/1/edit) were not seen, and if AWS_ACCESS_KEY_ID or AWS_SECRET_ACCESS_KEY is among them its jobs do not get the new key: look there`}
		if diff := cmp.Diff(want, found); diff != "" || err != nil {
			t.Errorf("%v (-want +got):\n%s", err, diff)
		}
	})
	t.Run("more than are read", func(t *testing.T) {
		s := sandbox.NewScene(sandbox.Options{})
		for i := range scheduleReads + 2 {
			s.AddSchedule(4711, sandbox.Schedule{Description: fmt.Sprint("N", i+1), Ref: "main"})
		}
		h, reads := counted(s.GitLab(), "")
		found, err := inside(t, h, s.Token).shadows(t.Context(), theAudience())
		if err != nil || len(found) != 1 || !strings.Contains(found[0], `"N21" on main`) || !strings.Contains(found[0], `, "N22" on main`) || reads.Load() != scheduleReads+1 {
			t.Errorf("%d calls: %q, %v", reads.Load(), found, err)
		}
	})
	t.Run("at all", func(t *testing.T) {
		s := sandbox.NewScene(sandbox.Options{})
		s.InterceptHTTP(func(*http.Request) sandbox.Fate { return sandbox.Refused })
		found, err := inside(t, s.GitLab(), s.Token).shadows(t.Context(), theAudience())
		if err != nil || len(found) != 1 || !strings.HasPrefix(found[0], "the pipeline schedules of project 4711 ("+billingURL+"/-/pipeline_schedules) cannot be read (") || !strings.Contains(found[0], "403 Forbidden") {
			t.Errorf("%q, %v", found, err)
		}
	})
	t.Run("where there is no such thing", func(t *testing.T) {
		s := sandbox.NewScene(sandbox.Options{})
		h := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, "/pipeline_schedules") {
				http.NotFound(rw, r)
				return
			}
			s.GitLab().ServeHTTP(rw, r)
		})
		if found, err := inside(t, h, s.Token).shadows(t.Context(), theAudience()); err != nil || found != nil {
			t.Errorf("%q, %v", found, err)
		}
	})
	t.Run("and what is down keeps nobody from rotating", func(t *testing.T) {
		s := sandbox.NewScene(sandbox.Options{})
		s.AddSchedule(4711, sandbox.Schedule{Description: "Nightly", Ref: "main"})
		for _, broken := range []string{"/pipeline_schedules", "/pipeline_schedules/1"} {
			s.InterceptHTTP(func(r *http.Request) sandbox.Fate {
				if strings.HasSuffix(r.URL.Path, broken) {
					return sandbox.WebPage
				}
				return sandbox.OK
			})
			if found, err := inside(t, s.GitLab(), s.Token).shadows(t.Context(), theAudience()); err != nil || len(found) != 1 || !strings.Contains(found[0], "look there") {
				t.Errorf("%s: %q, %v", broken, found, err)
			}
		}
	})
}

// theCIFile is one as GitLab puts it together; the second is of a release before 16.
const theCIFile = `---
variables:
  AWS_ACCESS_KEY_ID: dummy
  NOTE: |-
    AWS_SECRET_ACCESS_KEY: not a key of this map
  REGION:
    value: eu-central-1
    description: Where
stages:
- test
- deploy
".hidden":
  variables:
    AWS_SECRET_ACCESS_KEY: dummy
test:
  script:
  - echo
  - |-
    environment:
      name: staging
deploy:
  stage: deploy
  environment:
    name: staging
    url: https://staging.example.com
  variables:
    AWS_SECRET_ACCESS_KEY: "$OTHER"
  rules:
  - if: $CI_COMMIT_BRANCH
    variables:
      COLOUR: red
  script:
  - ./deploy
"deploy: eu":
  environment: 'staging'
  inherit:
    variables: false
without:
  environment: staging
  inherit:
    variables:
    - REGION
some:
  environment: staging
  inherit:
    variables:
    - REGION
    - AWS_ACCESS_KEY_ID
production:
  environment: production
`

func TestTheCIFileMattersOnlyWhereNothingOfTheProjectReaches(t *testing.T) {
	s := sandbox.NewScene(sandbox.Options{})
	s.DeleteVariable(4711, keyIDName, "*")
	s.DeleteVariable(4711, secretName, "*")
	s.EditProject(4711, func(p *sandbox.Project) { p.CIFile = theCIFile })
	a := theAudience()
	a.Scope, a.Environment, a.CIFile = "production", "staging", true
	noReach := "jobs of environment staging get no variables of scope production, so none of them gets the new key: publish it in a scope that means staging, or correct environment"
	const because = " from variables: in the CI file of main, because scope production does not reach it: publish in a scope that means staging, and take "
	want := []string{
		noReach,
		"job deploy, which deploys to staging, takes AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" + because + "them out of the file",
		"job some, which deploys to staging, takes AWS_ACCESS_KEY_ID" + because + "it out of the file",
	}
	if diff := cmp.Diff(want, looked(t, s, a)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	a.CIFile = false
	if diff := cmp.Diff([]string{noReach}, looked(t, s, a)); diff != "" {
		t.Errorf("not asked for (-want +got):\n%s", diff)
	}
	// One of the project's own outranks it, though it is not ours.
	a.CIFile = true
	s.SetVariable(4711, sandbox.Variable{Key: keyIDName, Value: "x", EnvironmentScope: "*"})
	if got := strings.Join(looked(t, s, a), "\n"); !strings.Contains(got, "job deploy, which deploys to staging, takes AWS_SECRET_ACCESS_KEY from") || strings.Contains(got, "job some") {
		t.Errorf("with one of the two in the project: %s", got)
	}
	// Ours outranks it as well, and then it is not even looked at.
	a.Scope = "stag*"
	h, lints := counted(s.GitLab(), "/ci/lint")
	found, err := inside(t, h, s.Token).shadows(t.Context(), a)
	if err != nil || len(found) != 0 || lints.Load() != 0 {
		t.Errorf("%q, %v, %d calls", found, err, lints.Load())
	}
	// Unless ours is protected, and the ref is not.
	a.Settings, a.Protected = []setting{{keyIDName, "stag*", true}, {secretName, "stag*", true}}, false
	if found, err = inside(t, s.GitLab(), s.Token).shadows(t.Context(), a); err != nil || !strings.Contains(strings.Join(found, "\n"), "job deploy, which deploys to staging, takes") {
		t.Errorf("protected: %q, %v", found, err)
	}
}

func TestACIFileThatCannotBeReadIsSaid(t *testing.T) {
	s := sandbox.NewScene(sandbox.Options{})
	a := theAudience()
	a.Scope, a.Environment, a.CIFile, a.Ref = "production", "staging", true, "gone"
	found, err := inside(t, s.GitLab(), s.Token).shadows(t.Context(), a)
	if err != nil || len(found) != 2 || !strings.HasPrefix(found[1], "the CI file of project 4711 cannot be read (") || !strings.HasSuffix(found[1], "so whether it has AWS_ACCESS_KEY_ID or AWS_SECRET_ACCESS_KEY for environment staging is not known") {
		t.Errorf("%q, %v", found, err)
	}
	a.Ref = "main" // which has none
	if found, err = inside(t, s.GitLab(), s.Token).shadows(t.Context(), a); err != nil || len(found) != 1 {
		t.Errorf("without a CI file: %q, %v", found, err)
	}
}

func TestACIFileOfAnOlderReleaseIsReadAsWell(t *testing.T) {
	f := readCIFile("---\n:variables:\n  :A: x\n:deploy:\n  :environment:\n    :name: staging\n  :variables:\n    :B: \"y\"\n  :script: echo 1\n")
	want := ciFile{variables: []string{"A"}, jobs: []ciJob{{name: "deploy", environment: "staging", variables: []string{"B"}, inherits: true}}}
	if diff := cmp.Diff(want, f, cmp.AllowUnexported(ciFile{}, ciJob{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func FuzzReadCIFile(f *testing.F) {
	for _, seed := range []string{theCIFile, "", "- a\n", "  x:\n y:", "\"a\n", "':", "a: |\nb:", ": :\n", "variables:\n- x\njob:\n  inherit:\n    variables:\n    - a"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, merged string) {
		for _, job := range readCIFile(merged).jobs {
			if strings.HasPrefix(job.name, ".") || strings.Contains(notJobs, " "+job.name+" ") {
				t.Errorf("%q is taken for a job in %q", job.name, merged)
			}
		}
	})
}

func TestAVariableOfAProjectOrSubgroupOutranksTheGroups(t *testing.T) {
	a := theAudience(pair("*")...)
	heirs := []heir{
		{Name: "project shop/billing", WebURL: billingURL, Settings: both("*", "production", "staging")},
		{Name: "group shop/backend", WebURL: "https://gitlab.example.com/groups/shop/backend", Settings: []setting{{Key: secretName, Scope: "*"}}},
		{Name: "project shop/web", Settings: both("staging")},
		{Name: "project shop/mail", Settings: []setting{{Key: "COLOUR", Scope: "*"}}},
		{Name: "project shop/none"},
	}
	want := []string{
		"project shop/billing has AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY of its own (scope *, production), which outrank the group's (" + billingURL + "/-/settings/ci_cd): jobs there do not get the new key; delete them there, or publish there as well",
		"group shop/backend has AWS_SECRET_ACCESS_KEY of its own (scope *), which outrank the group's (https://gitlab.example.com/groups/shop/backend/-/settings/ci_cd): jobs there do not get the new key - and with it half of another pair, which does not work; delete it there, or publish there as well",
	}
	if diff := cmp.Diff(want, heirShadows(a, heirs)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	a.Environment = ""
	if got := heirShadows(a, heirs); len(got) != 3 || !strings.HasPrefix(got[2], "project shop/web has") {
		t.Errorf("without an environment: %q", got)
	}
}

func TestShadowsEndWithTheRun(t *testing.T) {
	s := sandbox.NewScene(sandbox.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if found, err := inside(t, s.GitLab(), s.Token).shadows(ctx, theAudience()); err == nil {
		t.Errorf("%q", found)
	}
}
