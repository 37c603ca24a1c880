package main

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"credential-rotator/rotator"
	"credential-rotator/test/sandbox"
)

// placesJSON are two places of one key, as somebody writes them into a file.
const placesJSON = `[
  {"project_id": 4711, "redeploys": [
    {"environment": "staging", "inputs": {"deploy_to": "staging"}},
    {"environment": "production", "inputs": {"deploy_to": "production"}}]},
  {"group_id": 9, "redeploys": [{"project_id": 4712, "environment": "production"}]}
]
`

// places gives the key a second place: the variables of group 9, which project 4712
// deploys with. places.json names both.
func (s *stage) places() error {
	s.TagUser("svc-billing", sandbox.BindingTag, "4711 group:9")
	s.EditProject(4711, func(p *sandbox.Project) {
		p.Inputs = []string{"deploy_to"}
		p.Pipeline = []sandbox.JobSpec{{Name: "deploy", Environment: "$[[ inputs.deploy_to ]]"}}
	})
	s.AddGroup(sandbox.Group{ID: 9, Path: "pay"})
	s.AddProject(sandbox.Project{ID: 4712, Path: "pay/api", Pipeline: []sandbox.JobSpec{{Name: "deploy", Environment: "production"}}})
	for _, key := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} {
		v, _ := s.Variable(4711, key, "*")
		s.SetGroupVariable(9, sandbox.Variable{Key: key, Value: v.Value, Masked: true})
	}
	s.SetLive(4712, "production", s.key)
	s.EditToken("rotator", func(t *sandbox.Token) { t.GroupRoles = map[int64]int{9: sandbox.Owner} })
	s.Watch(sandbox.Service{
		User: "svc-billing", Project: 4712, Environment: "production",
		Place: rotator.Place{GroupID: 9, EnvironmentScope: "*", KeyIDVariable: "AWS_ACCESS_KEY_ID", SecretVariable: "AWS_SECRET_ACCESS_KEY"},
	})
	return os.WriteFile(filepath.Join(s.dir, "places.json"), []byte(placesJSON), 0o600)
}

// hidden makes the variables of both places hidden.
func (s *stage) hidden() {
	for _, key := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} {
		s.EditVariable(4711, key, "*", func(v *sandbox.Variable) { v.Hidden = true })
		s.EditGroupVariable(9, key, "*", func(v *sandbox.Variable) { v.Hidden = true })
	}
}

// scenesOfPlaces are the beginnings of a key in several places.
func scenesOfPlaces() map[string]func(*stage) error {
	rotate := func(s *stage) error {
		return s.run("rotate", "svc-billing", "--destinations", "@"+filepath.Join(s.dir, "places.json"))
	}
	halfway := func(s *stage) error { // the run dies between the two
		s.meets(sandbox.BadGateway, "PUT /api/v4/groups/9/variables/AWS_SECRET", -1)
		err := rotate(s)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.fates = nil
		return err
	}
	return map[string]func(*stage) error{
		"places": (*stage).places,
		"places-waiting": func(s *stage) error { // the second redeploy waits for somebody
			if err := s.places(); err != nil {
				return err
			}
			s.QueueOutcomes(4711, sandbox.Success, sandbox.Manual)
			return rotate(s)
		},
		"places-half": func(s *stage) error { // a run died between the two
			if err := s.places(); err != nil {
				return err
			}
			return halfway(s)
		},
		"places-held": func(s *stage) error { // the same, and nobody can read the secret back
			if err := s.places(); err != nil {
				return err
			}
			s.hidden()
			return halfway(s)
		},
		"unsettled": func(s *stage) error { // several things are wrong at once
			if err := s.places(); err != nil {
				return err
			}
			s.EditToken("rotator", func(t *sandbox.Token) { t.Expires = time.Now().AddDate(0, 0, 12) })
			s.EditProject(4712, func(p *sandbox.Project) { p.Archived = true })
			s.SetVariable(4711, sandbox.Variable{Key: "AWS_ACCESS_KEY_ID", Value: s.key, EnvironmentScope: "staging"})
			return nil
		},
	}
}

// allScenes are all beginnings, by name.
func allScenes() map[string]func(*stage) error {
	all := scenes()
	maps.Copy(all, scenesOfPlaces())
	return all
}

func sceneNames() []string { return slices.Sorted(maps.Keys(allScenes())) }
