package sandbox

import (
	"time"

	"credential-rotator/rotator"
)

// Scene is the usual beginning: a service whose key is due.
type Scene struct {
	*World
	Service Service
	Key     rotator.KeyPair // 84 days old, active and published
	Token   string          // of GitLab: scope api, Maintainer
}

// Request is the request that rotates the scene's key.
func (s *Scene) Request() rotator.Request {
	r := rotator.DefaultRequest()
	r.User, r.ProjectID, r.Environment = s.Service.User, s.Service.Place.ProjectID, s.Service.Environment
	return r
}

// NewScene makes a world with the IAM user svc-billing, bound to project 4711, and
// that project, shop/billing, which deploys to production.
func NewScene(o Options) *Scene {
	w := New(o)
	s := &Scene{World: w, Service: Service{
		User: "svc-billing",
		Place: rotator.Place{
			ProjectID: 4711, EnvironmentScope: "*",
			KeyIDVariable: "AWS_ACCESS_KEY_ID", SecretVariable: "AWS_SECRET_ACCESS_KEY",
		},
		Environment: "production",
	}}
	w.AddUser(User{Name: "svc-billing", Tags: map[string]string{BindingTag: "4711"}})
	s.Key = w.CreateKey("svc-billing", 84*24*time.Hour)
	w.AddProject(Project{ID: 4711, Path: "shop/billing", Pipeline: []JobSpec{{Name: "deploy", Environment: "production"}}})
	w.SetVariable(4711, Variable{Key: "AWS_ACCESS_KEY_ID", Value: s.Key.ID, Masked: true})
	w.SetVariable(4711, Variable{Key: "AWS_SECRET_ACCESS_KEY", Value: s.Key.Secret.Reveal(), Masked: true})
	w.SetLive(4711, "production", s.Key.ID)
	s.Token = w.AddToken(Token{Name: "rotator", Scopes: []string{"api"}, Roles: map[int64]int{4711: Maintainer}})
	w.Watch(s.Service)
	return s
}
