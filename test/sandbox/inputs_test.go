package sandbox

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	gitlab "gitlab.com/gitlab-org/api/client-go/v2"
)

// GitLab lib/gitlab/ci/config/interpolation/inputs.rb, text_interpolator.rb.
func TestAPipelineTakesTheInputsThatAreDeclared(t *testing.T) {
	const refused = `{"message":{"base":["` + "`.gitlab-ci.yml`: "
	cases := map[string]struct {
		declared []string
		body     string
		want     string // "" for a pipeline
		inputs   map[string]string
		deploys  string
	}{
		"all of them":          {[]string{"env", "level=1"}, `{"ref":"main","inputs":{"env":"staging","level":3000000}}`, "", map[string]string{"env": "staging", "level": "3000000"}, "staging"},
		"those without values": {[]string{"env", "level=1"}, `{"ref":"main","inputs":{"env":"staging"}}`, "", map[string]string{"env": "staging"}, "staging"},
		"of every type":        {[]string{"env=a", "list", "dry"}, `{"ref":"main","inputs":{"list":["a","b"],"dry":true}}`, "", map[string]string{"list": `["a","b"]`, "dry": "true"}, "a"},
		"none":                 {[]string{"env=production"}, `{"ref":"main"}`, "", nil, "production"},
		"none, of none":        {nil, `{"ref":"main","inputs":{}}`, "", nil, "$[[ inputs.env ]]"},
		"one that is not declared": {
			[]string{"env=a"}, `{"ref":"main","inputs":{"enf":"a"}}`, refused + `unknown input arguments: enf"]}}`, nil, "",
		},
		"one that is missing": {
			[]string{"env"}, `{"ref":"main","inputs":{}}`, refused + "`env` input: required value has not been provided" + `"]}}`, nil, "",
		},
		"one that is wrong and one that is missing": {
			[]string{"env"}, `{"ref":"main","inputs":{"b":1,"a":1}}`, refused + "unknown input arguments: a, b, `env` input: required value has not been provided" + `"]}}`, nil, "",
		},
		"any, of a project that declares none": {
			nil, `{"ref":"main","inputs":{"env":"a"}}`, refused + "Given inputs not defined in the `spec` section of the included configuration file" + `"]}}`, nil, "",
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			s, server := served(t, Options{})
			s.EditProject(4711, func(p *Project) {
				p.Inputs, p.Pipeline = c.declared, []JobSpec{{Name: "deploy", Environment: "$[[ inputs.env ]]"}}
			})
			status, reply := ask(t, "POST", server.GitLabURL+"/api/v4/projects/4711/pipeline", s.Token, c.body)
			ran := s.Pipelines(4711)
			if c.want != "" {
				if status != 400 || reply != c.want || len(ran) > 0 {
					t.Errorf("%d %s, want 400 %s; ran %+v", status, reply, c.want, ran)
				}
				return
			}
			if status != 201 || len(ran) != 1 || ran[0].Jobs[0].Environment != c.deploys {
				t.Fatalf("%d %s; ran %+v", status, reply, ran)
			}
			if diff := cmp.Diff(c.inputs, ran[0].Inputs); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestTheRealClientSendsInputs(t *testing.T) {
	s, server := served(t, Options{})
	s.EditProject(4711, func(p *Project) {
		p.Inputs, p.Pipeline = []string{"env=staging", "dry=true"}, []JobSpec{{Name: "deploy $[[ inputs.env ]]", Environment: "$[[ inputs.env ]]"}}
	})
	c := gitlabClient(t, server, s.Token)
	_, _, err := c.Pipelines.CreatePipeline(4711, &gitlab.CreatePipelineOptions{Ref: new("main"), Inputs: gitlab.PipelineInputsOption{
		"env": gitlab.NewPipelineInputValue("production"), "dry": gitlab.NewPipelineInputValue(false),
	}}, gitlab.WithContext(t.Context()))
	check(t, err)
	pl := s.Pipelines(4711)[0]
	if diff := cmp.Diff(map[string]string{"env": "production", "dry": "false"}, pl.Inputs); diff != "" || pl.Jobs[0].Name != "deploy production" {
		t.Errorf("%+v %s", pl, diff)
	}
}

// A push gives no inputs: the defaults hold.
func TestAPushRunsWithTheDefaultsOfInputs(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := NewScene(Options{})
		s.EditProject(4711, func(p *Project) {
			p.Inputs, p.Pipeline = []string{"env=staging"}, []JobSpec{{Name: "deploy", Environment: "$[[ inputs.env ]]"}}
		})
		s.RunPipeline(4711, "main")
		time.Sleep(time.Minute)
		if job := s.Pipelines(4711)[0].Jobs[0]; job.Environment != "staging" || job.Status != "success" {
			t.Errorf("the job is %+v", job)
		}
	})
}
