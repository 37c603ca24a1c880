package sandbox

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"
	gitlab "gitlab.com/gitlab-org/api/client-go/v2"

	"credential-rotator/rotator"
)

// served is a scene behind its fronts.
func served(t *testing.T, o Options) (*Scene, *Server) {
	t.Helper()
	s := NewScene(o)
	server, err := Serve(s.World)
	check(t, err)
	t.Cleanup(server.Close)
	t.Cleanup(func() { wantNoViolation(t, s.World) })
	return s, server
}

func configured(server *Server, keyID, secret string) aws.Config {
	return aws.Config{
		Region:       "eu-central-1",
		BaseEndpoint: aws.String(server.AWSURL),
		HTTPClient:   &http.Client{Transport: &http.Transport{DisableKeepAlives: true}},
		Retryer:      func() aws.Retryer { return aws.NopRetryer{} },
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: keyID, SecretAccessKey: secret}, nil
		}),
	}
}

func operator(s *Scene, server *Server) *iam.Client {
	return iam.NewFromConfig(configured(server, s.Operator().ID, s.Operator().Secret))
}

func whoIs(t *testing.T, server *Server, keyID, secret string) (string, error) {
	t.Helper()
	out, err := sts.NewFromConfig(configured(server, keyID, secret)).GetCallerIdentity(t.Context(), &sts.GetCallerIdentityInput{})
	if err != nil {
		return "", err
	}
	return *out.Arn, nil
}

func wantCode(t *testing.T, err error, code string) {
	t.Helper()
	var api smithy.APIError
	if !errors.As(err, &api) || api.ErrorCode() != code {
		t.Errorf("the error is %v, want %s", err, code)
	}
}

func TestSTSKnowsAPairOrSaysWhyNot(t *testing.T) {
	s, server := served(t, Options{})
	secret := s.Key.Secret.Reveal()
	arn, err := whoIs(t, server, s.Key.ID, secret)
	check(t, err)
	if arn != "arn:aws:iam::123456789012:user/svc-billing" {
		t.Errorf("it is %s", arn)
	}
	_, err = whoIs(t, server, s.Key.ID, strings.ToLower(secret))
	wantCode(t, err, "SignatureDoesNotMatch")
	_, err = whoIs(t, server, "AKIAAAAAAAAAAAAAAAAA", secret)
	wantCode(t, err, "InvalidClientTokenId")
	s.SetKeyStatus(s.Key.ID, rotator.KeyInactive)
	_, err = whoIs(t, server, s.Key.ID, secret)
	wantCode(t, err, "InvalidClientTokenId")
}

func TestTheLifeOfAKeyOverHTTP(t *testing.T) {
	s, server := served(t, Options{})
	client := operator(s, server)
	user := aws.String("svc-billing")
	made, err := client.CreateAccessKey(t.Context(), &iam.CreateAccessKeyInput{UserName: user})
	check(t, err)
	_, err = whoIs(t, server, *made.AccessKey.AccessKeyId, *made.AccessKey.SecretAccessKey)
	check(t, err)

	_, err = client.CreateAccessKey(t.Context(), &iam.CreateAccessKeyInput{UserName: user})
	wantCode(t, err, "LimitExceeded")

	used, err := client.GetAccessKeyLastUsed(t.Context(), &iam.GetAccessKeyLastUsedInput{AccessKeyId: made.AccessKey.AccessKeyId})
	check(t, err)
	if last := used.AccessKeyLastUsed; *last.ServiceName != "sts" || *last.Region != "eu-central-1" || last.LastUsedDate == nil {
		t.Errorf("last used: %+v", last)
	}
	_, err = client.UpdateAccessKey(t.Context(), &iam.UpdateAccessKeyInput{UserName: user, AccessKeyId: made.AccessKey.AccessKeyId, Status: "Inactive"})
	check(t, err)
	_, err = client.DeleteAccessKey(t.Context(), &iam.DeleteAccessKeyInput{UserName: user, AccessKeyId: made.AccessKey.AccessKeyId})
	check(t, err)
	_, err = client.DeleteAccessKey(t.Context(), &iam.DeleteAccessKeyInput{UserName: user, AccessKeyId: made.AccessKey.AccessKeyId})
	wantCode(t, err, "NoSuchEntity")
}

func TestIAMListsInPages(t *testing.T) {
	s, server := served(t, Options{PageSize: 1})
	s.CreateKey("svc-billing", time.Hour)
	s.AttachPolicy("svc-billing", "ReadOnlyAccess")
	s.AttachPolicy("svc-billing", "AWSCompromisedKeyQuarantineV3")
	client := operator(s, server)
	var keys, policies int
	for pages := iam.NewListAccessKeysPaginator(client, &iam.ListAccessKeysInput{UserName: aws.String("svc-billing")}); pages.HasMorePages(); {
		page, err := pages.NextPage(t.Context())
		check(t, err)
		keys += len(page.AccessKeyMetadata)
	}
	for pages := iam.NewListAttachedUserPoliciesPaginator(client, &iam.ListAttachedUserPoliciesInput{UserName: aws.String("svc-billing")}); pages.HasMorePages(); {
		page, err := pages.NextPage(t.Context())
		check(t, err)
		policies += len(page.AttachedPolicies)
	}
	if keys != 2 || policies != 2 {
		t.Errorf("%d keys and %d policies, want 2 and 2", keys, policies)
	}
}

func TestUsersHaveTagsAndIdsOfTheirOwn(t *testing.T) {
	s, server := served(t, Options{})
	client := operator(s, server)
	name := aws.String("svc-mail")
	made, err := client.CreateUser(t.Context(), &iam.CreateUserInput{UserName: name, Path: aws.String("/ci/")})
	check(t, err)
	_, err = client.DeleteUser(t.Context(), &iam.DeleteUserInput{UserName: name})
	check(t, err)
	again, err := client.CreateUser(t.Context(), &iam.CreateUserInput{UserName: name})
	check(t, err)
	if *made.User.UserId == *again.User.UserId || *made.User.Arn != "arn:aws:iam::123456789012:user/ci/svc-mail" {
		t.Errorf("first %+v, then %+v", made.User, again.User)
	}
	s.TagUser("svc-mail", "Credential-Rotator:Project-IDs", "1 2")
	found, err := client.GetUser(t.Context(), &iam.GetUserInput{UserName: name})
	check(t, err)
	if len(found.User.Tags) != 1 || *found.User.Tags[0].Value != "1 2" {
		t.Errorf("tags: %+v", found.User.Tags)
	}
	_, err = client.DeleteUser(t.Context(), &iam.DeleteUserInput{UserName: aws.String("svc-billing")})
	wantCode(t, err, "DeleteConflict")
}

func TestAServiceMayNotTouchIAM(t *testing.T) {
	s, server := served(t, Options{})
	client := iam.NewFromConfig(configured(server, s.Key.ID, s.Key.Secret.Reveal()))
	_, err := client.CreateAccessKey(t.Context(), &iam.CreateAccessKeyInput{UserName: aws.String("svc-billing")})
	wantCode(t, err, "AccessDenied")
}

func gitlabClient(t *testing.T, server *Server, token string) *gitlab.Client {
	t.Helper()
	c, err := gitlab.NewClient(token, gitlab.WithBaseURL(server.GitLabURL), gitlab.WithoutRetries())
	check(t, err)
	return c
}

func wantStatus(t *testing.T, err error, status int, words string) {
	t.Helper()
	var e *gitlab.ErrorResponse
	if !errors.As(err, &e) || e.Response.StatusCode != status || !strings.Contains(string(e.Body), words) {
		t.Errorf("the error is %v, want %d with %q", err, status, words)
	}
}

func TestVariablesOverHTTP(t *testing.T) {
	s, server := served(t, Options{})
	vars := gitlabClient(t, server, s.Token).ProjectVariables
	ctx := gitlab.WithContext(t.Context())
	const path = "shop/billing" // as good as 4711

	made, _, err := vars.CreateVariable(path, &gitlab.CreateProjectVariableOptions{
		Key: new("TOKEN"), Value: new("12345678"), MaskedAndHidden: new(true), EnvironmentScope: new("production"),
	}, ctx)
	check(t, err)
	if !made.Hidden || !made.Masked || made.Value != "" {
		t.Errorf("made %+v", made)
	}
	_, _, err = vars.UpdateVariable(path, "TOKEN", &gitlab.UpdateProjectVariableOptions{Masked: new(false)}, ctx)
	wantStatus(t, err, 400, "The visibility setting cannot be changed")
	changed, _, err := vars.UpdateVariable(path, "TOKEN", &gitlab.UpdateProjectVariableOptions{Description: new("text")}, ctx)
	check(t, err)
	if now, _ := s.Variable(4711, "TOKEN", "production"); changed.Description != "text" || now.Value != "12345678" || !now.Hidden {
		t.Errorf("a change of the description left %+v", now)
	}
	_, _, err = vars.CreateVariable(path, &gitlab.CreateProjectVariableOptions{Key: new("TOKEN"), Value: new("x"), EnvironmentScope: new("production")}, ctx)
	wantStatus(t, err, 400, "(TOKEN) has already been taken")
	_, _, err = vars.CreateVariable(path, &gitlab.CreateProjectVariableOptions{Key: new("TOKEN"), Value: new("x"), Masked: new(true)}, ctx)
	wantStatus(t, err, 400, `{"message":{"value":["is invalid"]}}`)

	_, _, err = vars.CreateVariable(path, &gitlab.CreateProjectVariableOptions{Key: new("TOKEN"), Value: new("y")}, ctx)
	check(t, err)
	_, _, err = vars.GetVariable(path, "TOKEN", nil, ctx)
	wantStatus(t, err, 409, "There are multiple variables with provided parameters. Please use 'filter[environment_scope]'")
	one, _, err := vars.GetVariable(path, "TOKEN", &gitlab.GetProjectVariableOptions{Filter: &gitlab.VariableFilter{EnvironmentScope: "*"}}, ctx)
	check(t, err)
	if one.Value != "y" {
		t.Errorf("the filter found %+v", one)
	}
	_, _, err = vars.GetVariable(path, "TOKEN", &gitlab.GetProjectVariableOptions{Filter: &gitlab.VariableFilter{EnvironmentScope: "prod*"}}, ctx)
	if !errors.Is(err, gitlab.ErrNotFound) {
		t.Errorf("a scope that is written differently: %v", err)
	}
	_, err = vars.RemoveVariable(path, "TOKEN", &gitlab.RemoveProjectVariableOptions{Filter: &gitlab.VariableFilter{EnvironmentScope: "*"}}, ctx)
	check(t, err)
}

func TestGitLabListsInPages(t *testing.T) {
	s, server := served(t, Options{})
	vars := gitlabClient(t, server, s.Token).ProjectVariables
	opt := &gitlab.ListProjectVariablesOptions{ListOptions: gitlab.ListOptions{PerPage: 1}}
	all, err := gitlab.ScanAndCollect(func(page gitlab.PaginationOptionFunc) ([]*gitlab.ProjectVariable, *gitlab.Response, error) {
		return vars.ListVariables(4711, opt, gitlab.WithContext(t.Context()), page)
	})
	check(t, err)
	if len(all) != 2 {
		t.Errorf("%d variables, want 2", len(all))
	}
}

func TestRunningJobsAreListedByKeyset(t *testing.T) {
	s, server := served(t, Options{})
	for range 3 {
		s.RunningJob(4711, JobSpec{Name: "migrate"}, time.Hour)
	}
	jobs := gitlabClient(t, server, s.Token).Jobs
	opt := &gitlab.ListJobsOptions{
		ListOptions: gitlab.ListOptions{Pagination: "keyset", PerPage: 2, OrderBy: "id", Sort: "desc"},
		Scope:       &[]gitlab.BuildStateValue{gitlab.Running},
	}
	all, err := gitlab.ScanAndCollect(func(page gitlab.PaginationOptionFunc) ([]*gitlab.Job, *gitlab.Response, error) {
		return jobs.ListProjectJobs(4711, opt, gitlab.WithContext(t.Context()), page)
	})
	check(t, err)
	if len(all) != 3 || all[0].ID < all[2].ID || all[0].StartedAt == nil {
		t.Errorf("jobs: %+v", all)
	}
}

func TestEveryEndpointReadsWithTheRealClient(t *testing.T) {
	s, server := served(t, Options{})
	s.EditProject(4711, func(p *Project) {
		p.Refs = append(p.Refs, Ref{Name: "release/1", Protected: true}, Ref{Name: "v1", Tag: true})
	})
	c := gitlabClient(t, server, s.Token)
	ctx := gitlab.WithContext(t.Context())

	token, _, err := c.PersonalAccessTokens.GetSinglePersonalAccessToken(ctx)
	check(t, err)
	user, _, err := c.Users.CurrentUser(ctx)
	check(t, err)
	project, _, err := c.Projects.GetProject("shop/billing", nil, ctx)
	check(t, err)
	branch, _, err := c.Branches.GetBranch(4711, "release/1", ctx)
	check(t, err)
	tag, _, err := c.Tags.GetTag(4711, "v1", ctx)
	check(t, err)
	if !token.Active || token.UserID != user.ID || project.ID != 4711 || !branch.Protected || tag.Protected {
		t.Errorf("read %+v, %+v, %+v, %+v, %+v", token, user, project, branch, tag)
	}

	pl, _, err := c.Pipelines.CreatePipeline(4711, &gitlab.CreatePipelineOptions{Ref: new("main")}, ctx)
	check(t, err)
	if pl.Status != "created" || pl.Source != "api" || pl.User.Username != user.Username {
		t.Errorf("the pipeline is %+v", pl)
	}
	pl, _, err = c.Pipelines.GetPipeline(4711, pl.ID, ctx)
	check(t, err)
	ours, _, err := c.Pipelines.ListProjectPipelines(4711, &gitlab.ListProjectPipelinesOptions{
		Source: new("api"), Ref: new("main"), Username: &user.Username, OrderBy: new("id"), Sort: new("desc"),
	}, ctx)
	check(t, err)
	jobs, _, err := c.Jobs.ListPipelineJobs(4711, pl.ID, nil, ctx)
	check(t, err)
	deployments, _, err := c.Deployments.ListProjectDeployments(4711, &gitlab.ListProjectDeploymentsOptions{
		Environment: new("production"), Status: new("success"), OrderBy: new("id"), Sort: new("desc"),
	}, ctx)
	check(t, err)
	environments, _, err := c.Environments.ListEnvironments(4711, &gitlab.ListEnvironmentsOptions{Name: new("production")}, ctx)
	check(t, err)
	environment, _, err := c.Environments.GetEnvironment(4711, environments[0].ID, ctx)
	check(t, err)
	if pl.Status != "success" || len(ours) != 1 || len(jobs) != 1 || len(deployments) != 1 || environment.LastDeployment == nil ||
		deployments[0].Deployable.ID != jobs[0].ID || deployments[0].Deployable.Pipeline.ID != pl.ID {
		t.Errorf("read %+v, %+v, %+v, %+v, %+v", pl, ours, jobs, deployments, environment)
	}
	_, _, err = c.Pipelines.CreatePipeline(4711, &gitlab.CreatePipelineOptions{Ref: new("gone")}, ctx)
	wantStatus(t, err, 400, `{"message":{"base":["Reference not found"]}}`)
}

func TestTokensAreRefusedForTheRightReason(t *testing.T) {
	cases := map[string]struct {
		spoil  func(*Token)
		status int
		words  string
	}{
		"revoked":           {func(t *Token) { t.Revoked = true }, 401, "Token was revoked"},
		"expired":           {func(t *Token) { t.Expires = time.Now().Add(-24 * time.Hour) }, 401, "Token is expired"},
		"read_api":          {func(t *Token) { t.Scopes = []string{"read_api"} }, 403, "insufficient_scope"},
		"role too low":      {func(t *Token) { t.Roles = map[int64]int{4711: Developer} }, 403, "403 Forbidden"},
		"not the project's": {func(t *Token) { t.Roles = nil }, 404, ""},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			s, server := served(t, Options{})
			s.EditToken("rotator", c.spoil)
			vars := gitlabClient(t, server, s.Token).ProjectVariables
			_, _, err := vars.UpdateVariable(4711, "AWS_ACCESS_KEY_ID", &gitlab.UpdateProjectVariableOptions{Description: new("x")}, gitlab.WithContext(t.Context()))
			if c.status == 404 && errors.Is(err, gitlab.ErrNotFound) {
				return
			}
			wantStatus(t, err, c.status, c.words)
		})
	}
}

func TestALostReplyWasApplied(t *testing.T) {
	s, server := served(t, Options{})
	c := gitlabClient(t, server, s.Token)
	for fate, made := range map[Fate]int{Lost: 1, BadGateway: 0, BadGatewayAfter: 1, WebPage: 0, TooMany: 0, Unauthorized: 0} {
		before := len(s.Pipelines(4711))
		s.InterceptHTTP(func(*http.Request) Fate { return fate })
		_, _, err := c.Pipelines.CreatePipeline(4711, &gitlab.CreatePipelineOptions{Ref: new("main")}, gitlab.WithContext(t.Context()))
		s.InterceptHTTP(nil)
		if err == nil {
			t.Errorf("%s: no error", fate)
		}
		if got := len(s.Pipelines(4711)) - before; got != made {
			t.Errorf("%s made %d pipelines, want %d", fate, got, made)
		}
	}
}

func TestWhatIsNotTheAPIIsAWebPage(t *testing.T) {
	_, server := served(t, Options{})
	for path, kind := range map[string]string{"/shop/billing": "text/html; charset=utf-8", "/api/v4/nothing": "application/json"} {
		resp, err := http.Get(server.GitLabURL + path)
		check(t, err)
		_, _ = io.Copy(io.Discard, resp.Body)
		check(t, resp.Body.Close())
		if resp.StatusCode != 404 || resp.Header.Get("Content-Type") != kind {
			t.Errorf("%s: %s, %s", path, resp.Status, resp.Header.Get("Content-Type"))
		}
	}
}

func TestADeployJobMayWorkOutsideOfTheWorld(t *testing.T) {
	var server *Server
	o := Options{Deploy: func(ctx context.Context, e JobEnv) error {
		_, err := sts.NewFromConfig(configured(server, e.KeyID, e.Secret)).GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
		return err
	}}
	s, server2 := served(t, o)
	server = server2
	s.RunPipeline(4711, "main")
	deadline := time.Now().Add(5 * time.Second)
	for s.Pipelines(4711)[0].Status != "success" {
		if time.Now().After(deadline) {
			t.Fatalf("the pipeline is %+v", s.Pipelines(4711)[0])
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// A job can be retried once, by whoever may; the job lists show only the newest.
func TestAJobIsRetriedOverHTTP(t *testing.T) {
	s := NewScene(Options{})
	server, err := Serve(s.World)
	check(t, err)
	defer server.Close()
	deploy := JobSpec{Name: "deploy", Environment: "production"}
	older := s.Deployed(4711, Past{Job: deploy, Ago: 2 * time.Hour})
	live := s.Deployed(4711, Past{Job: deploy, Ago: time.Hour})
	c := gitlabClient(t, server, s.Token)
	ctx := gitlab.WithContext(t.Context())
	_, _, err = c.Deployments.ListProjectDeployments(4711, &gitlab.ListProjectDeploymentsOptions{Environment: new("production")}, ctx)
	check(t, err)
	retried, resp, err := c.Jobs.RetryJob(4711, live, ctx)
	check(t, err)
	jobs, _, err := c.Jobs.ListPipelineJobs(4711, retried.Pipeline.ID, nil, ctx)
	check(t, err)
	all, _, err := c.Jobs.ListPipelineJobs(4711, retried.Pipeline.ID, &gitlab.ListJobsOptions{IncludeRetried: new(true)}, ctx)
	check(t, err)
	if resp.StatusCode != 201 || retried.ID <= live || len(jobs) != 1 || jobs[0].ID != retried.ID || len(all) != 2 || jobs[0].User.Username == all[1].User.Username {
		t.Errorf("%s %+v, listed %+v of %+v", resp.Status, retried, jobs, all)
	}
	_, _, err = c.Jobs.RetryJob(4711, live, ctx)
	wantStatus(t, err, 403, `{"message":"403 Forbidden - Job is not retryable"}`)
	wantNoViolation(t, s.World)

	s.EditProject(4711, func(p *Project) { p.NoRollback = true })
	_, _, err = c.Jobs.RetryJob(4711, older, ctx)
	wantStatus(t, err, 403, `{"message":"403 Forbidden"}`)
	wantViolation(t, s.World, "retried job 1 (deploy), which was not what is live in production")
}

func TestASecretInTheWrongPlaceIsSeen(t *testing.T) {
	s := NewScene(Options{})
	server, err := Serve(s.World)
	check(t, err)
	defer server.Close()
	vars := gitlabClient(t, server, s.Token).ProjectVariables
	secret := s.Key.Secret.Reveal()
	_, _, err = vars.UpdateVariable(4711, "AWS_SECRET_ACCESS_KEY", &gitlab.UpdateProjectVariableOptions{Value: &secret}, gitlab.WithContext(t.Context()))
	check(t, err)
	wantNoViolation(t, s.World)
	_, _, err = vars.UpdateVariable(4711, "AWS_SECRET_ACCESS_KEY", &gitlab.UpdateProjectVariableOptions{Description: &secret}, gitlab.WithContext(t.Context()))
	check(t, err)
	wantViolation(t, s.World, "says the secret of "+s.Key.ID)
}
