package gitlab_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"credential-rotator/rotator"
	"credential-rotator/rotator/contract"
	"credential-rotator/rotator/gitlab"
	"credential-rotator/test/sandbox"
)

// The adapter keeps what the ports promise over the sandbox's HTTP, and so do the
// sandbox's own ports, on which the simulation rests.

func TestDestinationContract(t *testing.T) {
	contract.Destination(t, func(t testing.TB) contract.DestinationFixture {
		p, token := aProject()
		return p.destination(overHTTP(t, p.World, token))
	})
}

func TestDestinationContractOfTheSandbox(t *testing.T) {
	contract.Destination(t, func(testing.TB) contract.DestinationFixture {
		p, _ := aProject()
		return p.destination(p.Run("contract"))
	})
}

func TestRedeployerContract(t *testing.T) {
	contract.Redeployer(t, func(t testing.TB) contract.RedeployerFixture {
		s := sandbox.NewScene(sandbox.Options{})
		return redeployer(s, overHTTP(t, s.World, s.Token))
	})
}

func TestRedeployerContractOfTheSandbox(t *testing.T) {
	contract.Redeployer(t, func(testing.TB) contract.RedeployerFixture {
		s := sandbox.NewScene(sandbox.Options{})
		return redeployer(s, s.Run("contract"))
	})
}

// overHTTP is the adapter on a world that listens.
func overHTTP(t testing.TB, w *sandbox.World, token string) *gitlab.Client {
	server := httptest.NewServer(w.GitLab())
	t.Cleanup(server.Close)
	c, err := gitlab.New(gitlab.Options{URL: server.URL, Token: func(context.Context) (rotator.Secret, error) { return rotator.NewSecret(token), nil }})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// What a write left behind is for the caller to read: it is sent once, whatever
// became of it, and the error does not say that it was refused.
func TestAWriteMeetsItsFateOnce(t *testing.T) {
	for _, fate := range []sandbox.Fate{sandbox.Lost, sandbox.CrashBefore, sandbox.BadGateway, sandbox.BadGatewayAfter, sandbox.WebPage} {
		t.Run(fate.String(), func(t *testing.T) {
			s := sandbox.NewScene(sandbox.Options{})
			c := overHTTP(t, s.World, s.Token)
			var sent atomic.Int32
			s.InterceptHTTP(func(*http.Request) sandbox.Fate { sent.Add(1); return fate })
			pair := s.CreateKey("svc-billing", 0)
			err := writeSecret(t.Context(), c, s.Service.Place, rotator.Variable{Exists: true, Masked: true}, pair)
			says(t, err)
			_, startErr := c.Start(t.Context(), rotator.Redeploy{ProjectID: 4711, Ref: "main"})
			says(t, startErr)
			if isRefused(err) || isRefused(startErr) || sent.Load() != 2 || len(s.Pipelines(4711)) > 1 {
				t.Errorf("%d requests, %d pipelines: %v; %v", sent.Load(), len(s.Pipelines(4711)), err, startErr)
			}
			v, _ := s.Variable(4711, s.Service.Place.SecretVariable, "*")
			applied := fate == sandbox.Lost || fate == sandbox.BadGatewayAfter
			if (v.Value == pair.Secret.Reveal()) != applied {
				t.Errorf("applied is %v", !applied)
			}
		})
	}
}

func TestAReadSurvivesItsFate(t *testing.T) {
	for _, fate := range []sandbox.Fate{sandbox.Lost, sandbox.CrashBefore, sandbox.BadGateway, sandbox.Unauthorized} {
		t.Run(fate.String(), func(t *testing.T) {
			t.Parallel() // each waits half a second before it tries again
			s := sandbox.NewScene(sandbox.Options{})
			c := overHTTP(t, s.World, s.Token)
			var sent atomic.Int32
			s.InterceptHTTP(func(*http.Request) sandbox.Fate {
				if sent.Add(1) == 1 {
					return fate
				}
				return sandbox.OK
			})
			got, err := readOne(t.Context(), c, s.Service.Place)
			if err != nil || got.KeyID.Value != s.Key.ID || sent.Load() != 2 {
				t.Errorf("%+v, %v after %d requests", got, err, sent.Load())
			}
		})
	}
}

// project is a project of a world as a contract.DestinationProject.
type project struct {
	*sandbox.World
	person string // a token that is not the rotator's
}

func aProject() (p project, token string) {
	w := sandbox.New(sandbox.Options{})
	w.AddProject(sandbox.Project{ID: 4711, Path: "shop/billing", Pipeline: []sandbox.JobSpec{{Name: "deploy", Environment: "production"}}})
	maintainer := map[int64]int{4711: sandbox.Maintainer}
	token = w.AddToken(sandbox.Token{Name: "rotator", Scopes: []string{"api"}, Roles: maintainer})
	return project{w, w.AddToken(sandbox.Token{Name: "person", Scopes: []string{"api"}, Roles: maintainer, Person: true})}, token
}

func (p project) destination(d rotator.Destination) contract.DestinationFixture {
	r := rotator.DefaultRequest()
	r.User, r.ProjectID = "svc-billing", 4711
	return contract.DestinationFixture{Destination: d, Request: r, Project: p}
}

func (project) Now() time.Time { return time.Now() }

func (p project) Put(v contract.ProjectVariable) {
	kind := "env_var"
	if v.File {
		kind = "file"
	}
	p.SetVariable(4711, sandbox.Variable{
		Key: v.Key, Value: v.Value, Description: v.Description, EnvironmentScope: v.Scope, Type: kind,
		Protected: v.Protected, Masked: v.Masked, Hidden: v.Hidden, Raw: v.Raw,
	})
}

// Variables lists them as GitLab does, and looks each up for what that hides.
func (p project) Variables() []contract.ProjectVariable {
	req := httptest.NewRequest(http.MethodGet, "/api/v4/projects/4711/variables?per_page=100", nil)
	req.Header.Set("Private-Token", p.person)
	reply := httptest.NewRecorder()
	p.GitLab().ServeHTTP(reply, req)
	var rows []struct {
		Key   string
		Scope string `json:"environment_scope"`
	}
	if err := json.Unmarshal(reply.Body.Bytes(), &rows); err != nil {
		panic(err)
	}
	var all []contract.ProjectVariable
	for _, row := range rows {
		v, _ := p.Variable(4711, row.Key, row.Scope)
		all = append(all, contract.ProjectVariable{
			Key: v.Key, Scope: v.EnvironmentScope, Value: v.Value, Description: v.Description,
			Protected: v.Protected, Masked: v.Masked, Hidden: v.Hidden, Raw: v.Raw, File: v.Type == "file",
		})
	}
	slices.SortFunc(all, func(a, b contract.ProjectVariable) int {
		return cmp.Or(cmp.Compare(a.Key, b.Key), cmp.Compare(a.Scope, b.Scope))
	})
	return all
}

func (p project) Allow(state contract.TokenState) {
	p.EditToken("rotator", func(t *sandbox.Token) {
		t.Scopes, t.Roles = []string{"api"}, map[int64]int{4711: sandbox.Maintainer}
		t.Revoked, t.Expires = false, time.Now().AddDate(1, 0, 0)
		switch state {
		case contract.TokenReadAPI:
			t.Scopes = []string{"read_api"}
		case contract.TokenDeveloper:
			t.Roles = map[int64]int{4711: sandbox.Developer}
		case contract.TokenStranger:
			t.Roles = nil
		case contract.TokenRevoked:
			t.Revoked = true
		case contract.TokenExpired:
			t.Expires = time.Now().AddDate(0, 0, -1)
		case contract.TokenEndingSoon:
			t.Expires = time.Now().AddDate(0, 0, 7)
		}
	})
}

func (p project) AddRef(name string, tag, protected bool) {
	p.EditProject(4711, func(p *sandbox.Project) {
		p.Refs = append(p.Refs, sandbox.Ref{Name: name, Tag: tag, Protected: protected})
	})
}

func (p project) Archive() { p.EditProject(4711, func(p *sandbox.Project) { p.Archived = true }) }

// scene is a scene as a contract.RedeployerProject.
type scene struct{ *sandbox.Scene }

func redeployer(s *sandbox.Scene, r rotator.Redeployer) contract.RedeployerFixture {
	return contract.RedeployerFixture{
		Redeployer: r,
		Redeploy:   rotator.Redeploy{ProjectID: 4711, Ref: "main", Environment: "production", Variables: [2]string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}},
		Project:    scene{s},
	}
}

func (scene) Now() time.Time { return time.Now() }

func (s scene) Next(status ...string) {
	for _, word := range status {
		if word == "pending" {
			word = string(sandbox.Stuck)
		}
		s.QueueOutcomes(4711, sandbox.Outcome(word))
	}
}

func (s scene) Push(ref string) int64 { return s.RunPipeline(4711, ref) }

func (s scene) StartAs(username, ref string) int64 {
	other := s.World.Run(username)
	other.Token = s.AddToken(sandbox.Token{Name: username, Username: username, Scopes: []string{"api"}, Roles: map[int64]int{4711: sandbox.Maintainer}, Person: true})
	d, err := other.Start(context.Background(), rotator.Redeploy{ProjectID: 4711, Ref: ref})
	if err != nil {
		panic(err)
	}
	return d.ID
}

func (s scene) Run(environment string, ago time.Duration) int64 {
	return s.RunningJob(4711, sandbox.JobSpec{Name: "job", Environment: environment}, ago)
}

func (s scene) End(jobID int64, failed bool) {
	if failed {
		s.EndJob(jobID, errors.New("exit 1"))
		return
	}
	s.EndJob(jobID, nil)
}

func (s scene) AddRef(name string) {
	s.EditProject(4711, func(p *sandbox.Project) { p.Refs = append(p.Refs, sandbox.Ref{Name: name}) })
}

func (s scene) PipelineCount() int { return len(s.Pipelines(4711)) }

func (s scene) JobCount() int {
	n := 0
	for _, pl := range s.Pipelines(4711) {
		n += len(pl.Jobs)
	}
	return n
}

func (s scene) Deployed(past contract.RedeployerPast) int64 {
	var beside []sandbox.JobSpec
	if past.Several {
		beside = []sandbox.JobSpec{{Name: "worker", Environment: "production"}}
	}
	var own map[string]string
	if past.Own != "" {
		own = map[string]string{past.Own: "its own"}
	}
	return s.World.Deployed(4711, sandbox.Past{
		Own:    own,
		Beside: beside,
		Job:    sandbox.JobSpec{Name: "deploy", Environment: "production", Bridge: past.Bridge},
		Ago:    past.Ago, Child: past.Child, Jobless: past.Jobless, Archived: past.Archived,
	})
}

func (s scene) Retry(jobID int64) int64 { return s.World.Retry(4711, jobID) }

// RetryOf: the world appends a retry to its pipeline.
func (s scene) RetryOf(jobID int64) int64 {
	for _, pl := range s.Pipelines(4711) {
		for i, j := range pl.Jobs {
			if j.ID == jobID && i > 0 {
				return pl.Jobs[i-1].ID
			}
		}
	}
	return 0
}

func (s scene) Stop(environment string) { s.StopEnvironment(4711, environment) }

func (s scene) Guard(environment string) {
	s.EditProject(4711, func(p *sandbox.Project) { p.Guarded = append(p.Guarded, environment) })
}
