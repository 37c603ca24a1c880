package gitlab_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

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

func TestDestinationContractOfAGroup(t *testing.T) {
	contract.DestinationOfGroup(t, func(t testing.TB) contract.DestinationFixture {
		p, token := aGroup()
		return p.destination(overHTTP(t, p.World, token))
	})
}

func TestDestinationContractOfAGroupOfTheSandbox(t *testing.T) {
	contract.DestinationOfGroup(t, func(testing.TB) contract.DestinationFixture {
		p, _ := aGroup()
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

func TestTaggerContract(t *testing.T) {
	for name, of := range map[string]func(testing.TB, *sandbox.Scene) rotator.Tagger{
		"the adapter": func(t testing.TB, s *sandbox.Scene) rotator.Tagger { return overHTTP(t, s.World, s.Token) },
		"the sandbox": func(_ testing.TB, s *sandbox.Scene) rotator.Tagger { return s.Run("contract") },
	} {
		t.Run(name, func(t *testing.T) {
			s := sandbox.NewScene(sandbox.Options{})
			const commit, other = "a94a8fe5ccb19ba61c4c0873d391e987982fbbd3", "de9f2c7fd25e1b3afad3e85a0bd17d9b100db4b3"
			s.EditProject(4711, func(p *sandbox.Project) {
				p.Refs = append(p.Refs, sandbox.Ref{Name: "live", SHA: commit}, sandbox.Ref{Name: "next", SHA: other})
			})
			contract.Tagger(t, contract.TaggerFixture{Tagger: of(t, s), ProjectID: 4711, Commit: commit, Other: other, Tags: func() []string { return s.Tags(4711) }})
		})
	}
}

// The inputs of a pipeline are sent as what they are, and a list as one.
func TestAPipelineGetsItsInputs(t *testing.T) {
	s := sandbox.NewScene(sandbox.Options{})
	s.EditProject(4711, func(p *sandbox.Project) { p.Inputs = []string{"env", "level=1", "dry=true", "regions=[]"} })
	c := overHTTP(t, s.World, s.Token)
	start := func(inputs map[string]any) error {
		_, err := c.Start(t.Context(), rotator.Redeploy{ProjectID: 4711, Ref: "main", Inputs: inputs})
		return err
	}
	if err := start(map[string]any{"env": "production", "level": 3.0, "dry": false, "regions": []any{"eu", "us"}}); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"env": "production", "level": "3", "dry": "false", "regions": `["eu","us"]`}
	if diff := gocmp.Diff(want, s.Pipelines(4711)[0].Inputs); diff != "" {
		t.Error(diff)
	}
	for name, inputs := range map[string]map[string]any{"one that is not declared": {"env": "a", "colour": "red"}, "none of those that must be": nil} {
		if err := start(inputs); !isRefused(err) || inputs != nil && !strings.Contains(err.Error(), "correct inputs") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Who has the variables of a group may be any of its projects.
func TestTheHoldersOfAGroupAreThoseOfItsProjects(t *testing.T) {
	s := sandbox.NewScene(sandbox.Options{})
	s.AddGroup(sandbox.Group{ID: 9, Path: "shop", Licensed: true})
	s.AddGroup(sandbox.Group{ID: 10, Path: "shop/pay", Licensed: true})
	s.AddProject(sandbox.Project{ID: 4712, Path: "shop/pay/cards"})
	s.AddProject(sandbox.Project{ID: 4713, Path: "other"})
	s.EditToken("rotator", func(t *sandbox.Token) {
		t.GroupRoles = map[int64]int{9: sandbox.Owner}
		t.Roles[4713] = sandbox.Maintainer
	})
	var want []int64
	for _, id := range []int64{4711, 4712, 4713} {
		want = append(want, s.RunningJob(id, sandbox.JobSpec{Name: "job"}, time.Minute))
	}
	jobs, err := overHTTP(t, s.World, s.Token).Holders(t.Context(), rotator.Redeploy{GroupID: 9, PublishedAt: time.Now(), After: rotator.Unmarked()})
	var got []int64
	for _, j := range jobs {
		got = append(got, j.ID)
	}
	slices.Sort(got)
	if err != nil || !slices.Equal(got, want[:2]) {
		t.Errorf("they are %v, want %v: %v", got, want[:2], err)
	}
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

// project is a project of a world as a contract.DestinationProject, or its group.
type project struct {
	*sandbox.World
	person string // a token that is not the rotator's
	group  int64
}

func aProject() (p project, token string) {
	w := sandbox.New(sandbox.Options{})
	w.AddProject(sandbox.Project{ID: 4711, Path: "shop/billing", Pipeline: []sandbox.JobSpec{{Name: "deploy", Environment: "production"}}})
	maintainer := map[int64]int{4711: sandbox.Maintainer}
	token = w.AddToken(sandbox.Token{Name: "rotator", Scopes: []string{"api"}, Roles: maintainer})
	return project{World: w, person: w.AddToken(sandbox.Token{Name: "person", Scopes: []string{"api"}, Roles: maintainer, Person: true})}, token
}

func aGroup() (p project, token string) {
	w := sandbox.New(sandbox.Options{})
	w.AddGroup(sandbox.Group{ID: 9, Path: "shop", Licensed: true})
	w.AddProject(sandbox.Project{ID: 4711, Path: "shop/billing", Pipeline: []sandbox.JobSpec{{Name: "deploy", Environment: "production"}}})
	owner := map[int64]int{9: sandbox.Owner}
	token = w.AddToken(sandbox.Token{Name: "rotator", Scopes: []string{"api"}, GroupRoles: owner})
	return project{World: w, group: 9, person: w.AddToken(sandbox.Token{Name: "person", Scopes: []string{"api"}, GroupRoles: owner, Person: true})}, token
}

func (p project) destination(d rotator.Destination) contract.DestinationFixture {
	r := rotator.DefaultRequest()
	r.User, r.ProjectID = "svc-billing", 4711
	if p.group != 0 {
		r.ProjectID, r.GroupID = 0, p.group
	}
	return contract.DestinationFixture{Destination: d, Request: r, Project: p}
}

func (project) Now() time.Time { return time.Now() }

func (p project) Put(v contract.ProjectVariable) {
	kind := "env_var"
	if v.File {
		kind = "file"
	}
	made := sandbox.Variable{
		Key: v.Key, Value: v.Value, Description: v.Description, EnvironmentScope: v.Scope, Type: kind,
		Protected: v.Protected, Masked: v.Masked, Hidden: v.Hidden, Raw: v.Raw,
	}
	if p.group != 0 {
		p.SetGroupVariable(p.group, made)
		return
	}
	p.SetVariable(4711, made)
}

// Variables lists them as GitLab does, and looks each up for what that hides.
func (p project) Variables() []contract.ProjectVariable {
	address := "/api/v4/projects/4711/variables?per_page=100"
	if p.group != 0 {
		address = "/api/v4/groups/9/variables?per_page=100"
	}
	req := httptest.NewRequest(http.MethodGet, address, nil)
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
		if p.group != 0 {
			v, _ = p.GroupVariable(p.group, row.Key, row.Scope)
		}
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
		role := sandbox.Maintainer
		if p.group != 0 {
			role = sandbox.Owner
		}
		t.Scopes, t.Revoked, t.Expires = []string{"api"}, false, time.Now().AddDate(1, 0, 0)
		switch state {
		case contract.TokenReadAPI:
			t.Scopes = []string{"read_api"}
		case contract.TokenDeveloper:
			role = sandbox.Developer
		case contract.TokenStranger:
			role = 0
		case contract.TokenRevoked:
			t.Revoked = true
		case contract.TokenExpired:
			t.Expires = time.Now().AddDate(0, 0, -1)
		case contract.TokenEndingSoon:
			t.Expires = time.Now().AddDate(0, 0, 7)
		}
		t.Roles, t.GroupRoles = map[int64]int{4711: role}, nil
		if p.group != 0 {
			t.Roles, t.GroupRoles = nil, map[int64]int{9: role}
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

func (s scene) Beside(name, environment string) {
	s.EditProject(4711, func(p *sandbox.Project) {
		for i := range p.Pipeline {
			p.Pipeline[i].Stage = "deploy"
		}
		p.Pipeline = append(p.Pipeline, sandbox.JobSpec{Name: name, Stage: "deploy", Environment: environment})
	})
}

func (s scene) Guard(environment string) {
	s.EditProject(4711, func(p *sandbox.Project) { p.Guarded = append(p.Guarded, environment) })
}
