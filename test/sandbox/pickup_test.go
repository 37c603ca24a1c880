package sandbox

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestAProfileOfACredentialsFileIsRead(t *testing.T) {
	const file = "# the deploy key\n[default]\naws_access_key_id = AKIA1\naws_secret_access_key=s=1/+\n\n" +
		"[ billing ]\r\n; comment\r\nAWS_ACCESS_KEY_ID=AKIA2\r\n#aws_access_key_id = AKIA3\r\naws_secret_access_key = s2\r\nregion = eu-central-1\r\n" +
		"[half]\naws_access_key_id = AKIA4\n[twice]\naws_access_key_id = AKIA5\naws_access_key_id = AKIA6\naws_secret_access_key = s6"
	for profile, want := range map[string][2]string{
		"": {"AKIA1", "s=1/+"}, "default": {"AKIA1", "s=1/+"}, "billing": {"AKIA2", "s2"}, "half": {"AKIA4", ""}, "twice": {"AKIA6", "s6"}, "none": {"", ""},
	} {
		id, secret := credentialsIn(file, profile)
		if diff := cmp.Diff(want, [2]string{id, secret}); diff != "" {
			t.Errorf("%q: %s", profile, diff)
		}
	}
}

// GitLab, CI/CD variables, Use file type CI/CD variables: the job gets a file, and its
// path. What is no file is the path of nothing.
func TestAJobTakesItsPairFromAVariableThatIsAFile(t *testing.T) {
	for kind, status := range map[string]string{"file": "success", "env_var": "failed"} {
		t.Run(kind, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				s := NewScene(Options{JobDuration: time.Second})
				s.EditProject(4711, func(p *Project) {
					p.Pipeline = []JobSpec{{Name: "deploy", Environment: "production", CredentialsFile: "AWS_SHARED_CREDENTIALS_FILE", Profile: "billing"}}
				})
				s.DeleteVariable(4711, "AWS_ACCESS_KEY_ID", "*")
				s.SetVariable(4711, Variable{Key: "AWS_SHARED_CREDENTIALS_FILE", Type: kind, Value: "[billing]\naws_access_key_id = " + s.Key.ID + "\naws_secret_access_key = " + s.Key.Secret.Reveal() + "\n"})
				s.RunPipeline(4711, "main")
				time.Sleep(time.Minute)
				job := s.Pipelines(4711)[0].Jobs[0]
				if job.Status != status || (job.KeyID == s.Key.ID) != (status == "success") {
					t.Errorf("the job is %+v", job)
				}
			})
		})
	}
}

// GitLab lib/gitlab/ci/variables/builder.rb: the pipeline's comes last, whatever its type.
func TestAVariableOfThePipelineTakesThePlaceOfAFile(t *testing.T) {
	s := NewScene(Options{})
	s.SetVariable(4711, Variable{Key: "F", Type: "file", Value: "[default]\naws_access_key_id = " + s.Key.ID + "\n"})
	deploy := JobSpec{Name: "deploy", Environment: "production", CredentialsFile: "F"}
	s.Deployed(4711, Past{Job: deploy})
	s.Deployed(4711, Past{Job: deploy, Own: map[string]string{"F": "[default]\naws_access_key_id = " + s.Key.ID + "\n"}})
	ran := s.Pipelines(4711)
	if ran[0].Jobs[0].KeyID != s.Key.ID || ran[1].Jobs[0].KeyID != "" {
		t.Errorf("pipelines: %+v", ran)
	}
}

// GitLab app/models/concerns/ci/maskable.rb: one line of at least eight characters.
func TestAFileOfSeveralLinesCannotBeMasked(t *testing.T) {
	w := New(Options{})
	w.AddProject(Project{ID: 1, Path: "a/b"})
	if !panics(func() {
		w.SetVariable(1, Variable{Key: "F", Type: "file", Value: "[default]\naws_access_key_id = AKIA1\n", Masked: true, Raw: true})
	}) {
		t.Error("it is masked")
	}
}

func TestADeployOutsideOfTheWorldGetsFilesApart(t *testing.T) {
	got := make(chan JobEnv, 1)
	s, _ := served(t, Options{Deploy: func(_ context.Context, e JobEnv) error { got <- e; return nil }})
	s.EditProject(4711, func(p *Project) {
		p.Pipeline = []JobSpec{{Name: "deploy", Environment: "production", CredentialsFile: "F"}}
	})
	const file = "[default]\naws_access_key_id = AKIA1\naws_secret_access_key = s1\n"
	s.AddGroup(Group{ID: 9, Path: "shop"})
	s.SetGroupVariable(9, Variable{Key: "F", Type: "file", Value: file})
	s.SetGroupVariable(9, Variable{Key: "G", Type: "file", Value: "group"})
	s.SetVariable(4711, Variable{Key: "G", Value: "project"})
	s.RunPipeline(4711, "main")
	e := <-got
	if diff := cmp.Diff(map[string]string{"F": file}, e.Files); diff != "" {
		t.Error(diff)
	}
	if _, both := e.Variables["F"]; both || e.Variables["G"] != "project" || e.KeyID != "AKIA1" || e.Secret != "s1" {
		t.Errorf("the job has %+v", e)
	}
}
