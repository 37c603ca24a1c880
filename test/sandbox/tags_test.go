package sandbox

import (
	"errors"
	"net/url"
	"testing"

	"github.com/google/go-cmp/cmp"
	gitlab "gitlab.com/gitlab-org/api/client-go/v2"
)

// GitLab lib/api/tags.rb, spec/requests/api/tags_spec.rb.
func TestATagIsMadeAtABranchATagOrACommit(t *testing.T) {
	s, server := served(t, Options{})
	c := gitlabClient(t, server, s.Token)
	ctx := gitlab.WithContext(t.Context())
	main, _, err := c.Branches.GetBranch(4711, "main", ctx)
	check(t, err)
	s.EditProject(4711, func(p *Project) { p.Refs = append(p.Refs, Ref{Name: "release/1"}) })
	for _, made := range []struct{ name, ref string }{{"tmp/1", "main"}, {"tmp/2", "tmp/1"}, {"tmp/3", main.Commit.ID}} {
		tag, resp, err := c.Tags.CreateTag(4711, &gitlab.CreateTagOptions{TagName: &made.name, Ref: &made.ref}, ctx)
		check(t, err)
		if resp.StatusCode != 201 || tag.Name != made.name || tag.Target != main.Commit.ID || tag.Commit.ID != main.Commit.ID || tag.Protected {
			t.Errorf("%s at %s: %s %+v", made.name, made.ref, resp.Status, tag)
		}
	}
	other, _, err := c.Tags.CreateTag(4711, &gitlab.CreateTagOptions{TagName: new("v1"), Ref: new("release/1")}, ctx)
	check(t, err)
	if other.Target == main.Commit.ID {
		t.Errorf("two branches are at %s", other.Target)
	}
	for search, want := range map[string]int{"^tmp": 3, "1$": 2, "mp": 3, "": 4, "^mp": 0} {
		found, _, err := c.Tags.ListTags(4711, &gitlab.ListTagsOptions{Search: &search}, ctx)
		check(t, err)
		if len(found) != want {
			t.Errorf("a search for %q finds %d tags, want %d", search, len(found), want)
		}
	}
	got, _, err := c.Tags.GetTag(4711, "tmp/3", ctx)
	check(t, err)
	if got.Target != main.Commit.ID {
		t.Errorf("read %+v", got)
	}
}

// GitLab app/services/tags/create_service.rb, lib/gitlab/checks/tag_check.rb.
func TestATagThatCannotBeMadeIsRefusedInWords(t *testing.T) {
	s, server := served(t, Options{})
	s.EditProject(4711, func(p *Project) {
		p.Refs = append(p.Refs, Ref{Name: "v1", Tag: true})
		p.ProtectedTags = []string{"release-*", "stable"}
	})
	s.EditToken("rotator", func(t *Token) { t.Roles[4711] = Developer })
	reporter := s.AddToken(Token{Name: "reporter", Scopes: []string{"api"}, Roles: map[int64]int{4711: Reporter}})
	sha := s.projects[4711].sha("main")
	for name, c := range map[string]struct {
		token, tag, ref string
		status          int
		body            string
	}{
		"one that there is":              {s.Token, "v1", "main", 400, `{"message":"Tag v1 already exists"}`},
		"at nothing that there is":       {s.Token, "v2", "gone", 400, `{"message":"Target gone is invalid"}`},
		"at a commit that there is not":  {s.Token, "v2", sha[1:] + "0", 400, `{"message":"Target ` + sha[1:] + `0 is invalid"}`},
		"at half of a commit":            {s.Token, "v2", sha[:39], 400, `{"message":"Target ` + sha[:39] + ` is invalid"}`},
		"with a space in its name":       {s.Token, "new design", "main", 400, `{"message":"Tag name invalid"}`},
		"with a name that is protected":  {s.Token, "release-7", "main", 400, `{"message":"You are not allowed to create this tag as it is protected."}`},
		"named as a commit":              {s.Token, sha, "main", 400, `{"message":"You cannot create a tag with a SHA-1 or SHA-256 tag name."}`},
		"named as the default branch":    {s.Token, "main", "main", 400, `{"message":"You cannot use default branch name to create a tag"}`},
		"by somebody who may not":        {reporter, "v2", "main", 403, `{"message":"403 Forbidden"}`},
		"without saying where":           {s.Token, "v2", "", 400, `{"message":"Target is empty"}`},
		"of whatever else, by Developer": {s.Token, "v2", "main", 201, `"name":"v2"`},
	} {
		t.Run(name, func(t *testing.T) {
			q := url.Values{"tag_name": {c.tag}, "ref": {c.ref}}
			status, body := ask(t, "POST", server.GitLabURL+"/api/v4/projects/4711/repository/tags?"+q.Encode(), c.token, "")
			if status != c.status || (status == 201) != (body != c.body) {
				t.Errorf("%d %s, want %d %s", status, body, c.status, c.body)
			}
		})
	}
}

// GitLab lib/api/tags.rb, lib/gitlab/git/tag_policy.rb.
func TestATagIsDeletedByWhoeverMayMakeIt(t *testing.T) {
	s, server := served(t, Options{})
	s.EditProject(4711, func(p *Project) {
		p.Refs = append(p.Refs, Ref{Name: "tmp/v1", Tag: true}, Ref{Name: "release-1", Tag: true})
		p.ProtectedTags = []string{"release-*"}
	})
	developer := s.AddToken(Token{Name: "developer", Scopes: []string{"api"}, Roles: map[int64]int{4711: Developer}})
	reporter := s.AddToken(Token{Name: "reporter", Scopes: []string{"api"}, Roles: map[int64]int{4711: Reporter}})
	for _, c := range []struct {
		why, token, tag string
		status          int
		body            string
	}{
		{"a Reporter may not", reporter, "tmp%2Fv1", 403, `{"message":"403 Forbidden"}`},
		{"a Developer may", developer, "tmp%2Fv1", 204, ""},
		{"it is gone", developer, "tmp%2Fv1", 404, `{"message":"404 Tag Not Found"}`},
		{"a branch is none", developer, "main", 404, `{"message":"404 Tag Not Found"}`},
		{"it is protected", developer, "release-1", 403, `{"message":"403 Forbidden"}`},
		{"it is protected, from others than Maintainers", s.Token, "release-1", 204, ""},
	} {
		status, body := ask(t, "DELETE", server.GitLabURL+"/api/v4/projects/4711/repository/tags/"+c.tag, c.token, "")
		if status != c.status || body != c.body {
			t.Errorf("%s: %d %s, want %d %s", c.why, status, body, c.status, c.body)
		}
	}
	if diff := cmp.Diff([]Ref{{Name: "main", Protected: true}}, s.projects[4711].Refs); diff != "" {
		t.Error(diff)
	}
}

// A commit stays known by the pipelines that ran on it, when its branch is gone.
func TestATagIsMadeAtACommitThatOnlyAPipelineKnows(t *testing.T) {
	s, server := served(t, Options{})
	c := gitlabClient(t, server, s.Token)
	ctx := gitlab.WithContext(t.Context())
	s.Deployed(4711, Past{Job: JobSpec{Name: "deploy", Environment: "production"}, Ref: "gone"})
	deployments, _, err := c.Deployments.ListProjectDeployments(4711, &gitlab.ListProjectDeploymentsOptions{}, ctx)
	check(t, err)
	tag, _, err := c.Tags.CreateTag(4711, &gitlab.CreateTagOptions{TagName: new("tmp"), Ref: &deployments[0].SHA}, ctx)
	check(t, err)
	pl, _, err := c.Pipelines.CreatePipeline(4711, &gitlab.CreatePipelineOptions{Ref: new("tmp")}, ctx)
	check(t, err)
	if tag.Target != deployments[0].SHA || pl.SHA != deployments[0].SHA || !pl.Tag {
		t.Errorf("deployed was %s, the tag is at %s, the pipeline at %s", deployments[0].SHA, tag.Target, pl.SHA)
	}
}

// GitLab, Protected tags: what a pipeline on one gets, and who may start it.
func TestAPipelineOnATagGetsProtectedVariablesOnlyWhenAPatternProtectsIt(t *testing.T) {
	s, server := served(t, Options{})
	s.EditProject(4711, func(p *Project) { p.ProtectedTags = []string{"release-*"} })
	s.EditVariable(4711, "AWS_ACCESS_KEY_ID", "*", func(v *Variable) { v.Protected = true })
	c := gitlabClient(t, server, s.Token)
	ctx := gitlab.WithContext(t.Context())
	for _, name := range []string{"release-1", "tmp-1"} {
		_, _, err := c.Tags.CreateTag(4711, &gitlab.CreateTagOptions{TagName: &name, Ref: new("main")}, ctx)
		check(t, err)
		_, _, err = c.Pipelines.CreatePipeline(4711, &gitlab.CreatePipelineOptions{Ref: &name}, ctx)
		check(t, err)
	}
	ran := s.Pipelines(4711)
	if ran[0].Jobs[0].KeyID != s.Key.ID || ran[1].Jobs[0].KeyID != "" || ran[1].Status != "failed" {
		t.Errorf("pipelines: %+v", ran)
	}
	s.EditToken("rotator", func(t *Token) { t.Roles[4711] = Developer })
	_, _, err := c.Pipelines.CreatePipeline(4711, &gitlab.CreatePipelineOptions{Ref: new("release-1")}, ctx)
	wantStatus(t, err, 400, "You do not have sufficient permission to run a pipeline on 'release-1'")
	patterns, _, err := c.ProtectedTags.ListProtectedTags(4711, nil, ctx)
	if err == nil {
		t.Errorf("a Developer reads the patterns: %+v", patterns)
	}
	s.EditToken("rotator", func(t *Token) { t.Roles[4711] = Maintainer })
	patterns, _, err = c.ProtectedTags.ListProtectedTags(4711, nil, ctx)
	check(t, err)
	if len(patterns) != 1 || patterns[0].Name != "release-*" || patterns[0].CreateAccessLevels[0].AccessLevel != Maintainer {
		t.Errorf("patterns: %+v", patterns)
	}
}

// GitLab, Types of pipelines: a pushed tag starts one when there are jobs for it.
func TestANewTagStartsAPipelineWhereTagsHaveJobs(t *testing.T) {
	s, server := served(t, Options{})
	tags, ctx := gitlabClient(t, server, s.Token).Tags, gitlab.WithContext(t.Context())
	_, _, err := tags.CreateTag(4711, &gitlab.CreateTagOptions{TagName: new("quiet"), Ref: new("main")}, ctx)
	check(t, err)
	s.EditProject(4711, func(p *Project) { p.TagPipelines = true })
	_, _, err = tags.CreateTag(4711, &gitlab.CreateTagOptions{TagName: new("loud"), Ref: new("main")}, ctx)
	check(t, err)
	_, err = tags.DeleteTag(4711, "loud", ctx)
	check(t, err)
	ran := s.Pipelines(4711)
	if len(ran) != 1 || ran[0].Ref != "loud" || ran[0].Source != "push" || ran[0].Jobs[0].KeyID != s.Key.ID {
		t.Errorf("pipelines: %+v", ran)
	}
	if _, _, err = tags.GetTag(4711, "loud", ctx); !errors.Is(err, gitlab.ErrNotFound) {
		t.Errorf("the tag is still there: %v", err)
	}
}
