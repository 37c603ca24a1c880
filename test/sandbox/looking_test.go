package sandbox

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	gitlab "gitlab.com/gitlab-org/api/client-go/v2"
)

// at is client-go on a front of a scene.
func at(t *testing.T, s *Scene, h http.Handler, path string) *gitlab.Client {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	client, err := gitlab.NewClient(s.Token, gitlab.WithBaseURL(server.URL+path), gitlab.WithoutRetries())
	check(t, err)
	return client
}

func TestASchedulesVariablesAreShownOneByOneToWhoMayReadThem(t *testing.T) {
	s := NewScene(Options{})
	id := s.AddSchedule(4711, Schedule{Description: "Nightly", Ref: "main", Owner: "rotator", Variables: map[string]string{"B": "2", "A": "1"}})
	s.AddSchedule(4711, Schedule{Description: "Asleep", Ref: "main", Inactive: true, Variables: map[string]string{"A": "1"}})
	client := at(t, s, s.GitLab(), "")
	active := gitlab.PipelineScheduleScopeValue("active")
	list, _, err := client.PipelineSchedules.ListPipelineSchedules(4711, &gitlab.ListPipelineSchedulesOptions{Scope: &active})
	check(t, err)
	if len(list) != 1 || list[0].ID != id || list[0].Variables != nil || !list[0].Active || list[0].Ref != "main" {
		t.Errorf("the active ones are %+v", list)
	}
	one, _, err := client.PipelineSchedules.GetPipelineSchedule(4711, id)
	check(t, err)
	if len(one.Variables) != 2 || one.Variables[0].Key != "A" || one.Variables[1].Value != "2" {
		t.Errorf("its variables are %+v", one.Variables)
	}
	s.EditToken("rotator", func(t *Token) { t.Roles[4711] = Developer })
	mine, _, err := client.PipelineSchedules.GetPipelineSchedule(4711, id)
	check(t, err)
	others, _, err := client.PipelineSchedules.GetPipelineSchedule(4711, id+1)
	check(t, err)
	if mine.Variables == nil || others.Variables != nil {
		t.Errorf("a Developer sees %v of its own, %v of another's", mine.Variables, others.Variables)
	}
	if _, _, err := client.PipelineSchedules.GetPipelineSchedule(4711, 99); err == nil {
		t.Error("there is a schedule 99")
	}
}

func TestTheLinterShowsTheCIFile(t *testing.T) {
	s := NewScene(Options{})
	client := at(t, s, s.GitLab(), "")
	none, _, err := client.Validate.ProjectLint(4711, nil)
	check(t, err)
	s.EditProject(4711, func(p *Project) { p.CIFile = "deploy:\n  script: x\n" })
	file, _, err := client.Validate.ProjectLint(4711, &gitlab.ProjectLintOptions{ContentRef: new("main")})
	check(t, err)
	if none.Valid || none.MergedYaml != "" || !file.Valid || file.MergedYaml != "deploy:\n  script: x\n" {
		t.Errorf("without a file %+v, with one %+v", none, file)
	}
	if _, resp, err := client.Validate.ProjectLint(4711, &gitlab.ProjectLintOptions{ContentRef: new("gone")}); err == nil || resp.StatusCode != http.StatusNotFound {
		t.Errorf("of a ref that is gone: %v", err)
	}
}

func TestAnOldReleaseDropsWhatItDoesNotKnow(t *testing.T) {
	for version, want := range map[string]struct{ description, hidden, metadata bool }{
		"18.5.0-ee": {true, true, true},
		"17.3.9":    {true, false, true},
		"16.2.0":    {true, false, true},
		"16.1.9":    {false, false, true},
		"15.1.0":    {false, false, false},
	} {
		s := NewScene(Options{})
		client := at(t, s, OldGitLab(version, s.GitLab()), "")
		made, _, err := client.ProjectVariables.CreateVariable(4711, &gitlab.CreateProjectVariableOptions{
			Key: new("V"), Value: new("longenough"), Description: new("mine"), MaskedAndHidden: new(true),
		})
		check(t, err)
		v, _ := s.Variable(4711, "V", "*")
		if (v.Description == "mine") != want.description || v.Hidden != want.hidden || made.Hidden != want.hidden || (made.Description == "mine") != want.description {
			t.Errorf("%s made %+v, and answered %+v", version, v, made)
		}
		_, resp, err := client.ProjectVariables.ListVariables(4711, nil)
		check(t, err)
		if resp.StatusCode != http.StatusOK {
			t.Errorf("%s: %d", version, resp.StatusCode)
		}
		about, _, err := client.Metadata.GetMetadata()
		if (err == nil) != want.metadata || want.metadata && about.Version != version {
			t.Errorf("%s: metadata %+v, %v", version, about, err)
		}
		if old, _, err := client.Version.GetVersion(); err != nil || old.Version != version {
			t.Errorf("%s: version %+v, %v", version, old, err)
		}
		_, err = client.ProjectVariables.RemoveVariable(4711, "V", nil)
		check(t, err)
	}
}

func TestInputsAreForgottenOnTheWayToAnOldRelease(t *testing.T) {
	for version, kept := range map[string]bool{"18.5.0": true, "17.10.0": false} {
		s := NewScene(Options{})
		var got string
		seen := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			in, err := parameters(r)
			if err == nil {
				got = in["ref"] + in["inputs[size]"]
			}
			sendJSON(rw, http.StatusCreated, object{"id": 1})
		})
		client := at(t, s, OldGitLab(version, seen), "")
		_, _, err := client.Pipelines.CreatePipeline(4711, &gitlab.CreatePipelineOptions{Ref: new("main"), Inputs: gitlab.PipelineInputsOption{"size": gitlab.NewPipelineInputValue("XL")}})
		check(t, err)
		if want := "main" + strings.Repeat("XL", map[bool]int{true: 1}[kept]); got != want {
			t.Errorf("%s got %q, want %q", version, got, want)
		}
	}
}

func TestBelowAPathNothingElseLeadsToGitLab(t *testing.T) {
	s := NewScene(Options{})
	h := GitLabBelow("/tools/gitlab", s.GitLab())
	client := at(t, s, h, "/tools/gitlab")
	_, resp, err := client.ProjectVariables.ListVariables(4711, &gitlab.ListProjectVariablesOptions{ListOptions: gitlab.ListOptions{PerPage: 1}})
	check(t, err)
	if !strings.Contains(resp.NextLink, "/tools/gitlab/api/v4/projects/4711/variables?") {
		t.Errorf("the next page is %s", resp.NextLink)
	}
	if _, _, err := at(t, s, h, "").Projects.GetProject(4711, nil); err == nil {
		t.Error("it answers without the path")
	}
}
