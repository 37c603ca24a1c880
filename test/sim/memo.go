package sim

import (
	"encoding/json"
	"sync"
	"time"

	"credential-rotator/rotator"
	"credential-rotator/test/sandbox"
)

// memo remembers in which states of the world, with which budgets left, further
// choices were played already. A world that has come to the same state on another
// way has the same future: it is played to its end, but nothing more is chosen.
type memo struct {
	mu   sync.Mutex
	seen map[string]bool
}

// first tells whether a state is met for the first time.
func (m *memo) first(state string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.seen[state] {
		return false
	}
	m.seen[state] = true
	return true
}

// remember gives the budgets up when this state was met before. It is asked only
// when every run has ended: then all that lives is in the world.
func (p *play) remember() {
	if p.memo == nil || p.faults+p.switches+p.acts == 0 || len(p.met)+len(p.acted) == 0 || !p.settled() {
		return
	}
	if len(p.tape.sizes) < p.tape.end() { // it says more, so it was decided to play it
		return
	}
	if !p.memo.first(p.state()) {
		p.faults, p.switches, p.acts = 0, 0, 0
	}
}

// state is all of the world that a run which begins now can see. What it cannot
// act on is left out: random ids, the journal's version, how long steps took, what
// was told.
func (p *play) state() string {
	r := p.Record(p.Service.User)
	r.Version, r.RotationID, r.Steps, r.Lease.Owner, r.LastError = 0, "", nil, "", ""
	if r.Lease.Until.Before(time.Now()) {
		r.Lease.Until = time.Time{}
	}
	var published, pipelines []any
	for _, s := range p.services() {
		published = append(published, p.variables(s.Place))
		pipelines = append(pipelines, p.Pipelines(max(s.Project, s.Place.ProjectID)))
	}
	all, err := json.Marshal([]any{
		r, published, p.Keys(p.Service.User), pipelines, time.Now(),
		p.faults, p.switches, p.acts, p.request, p.acted, p.Followed(),
	})
	if err != nil {
		panic(err)
	}
	return string(all)
}

// variables are those of a place, with their values.
func (p *play) variables(place rotator.Place) []sandbox.Variable {
	var all []sandbox.Variable
	for _, name := range place.Variables() {
		var v sandbox.Variable
		if place.GroupID != 0 {
			v, _ = p.GroupVariable(place.GroupID, name, place.EnvironmentScope)
		} else {
			v, _ = p.Variable(place.ProjectID, name, place.EnvironmentScope)
		}
		all = append(all, v)
	}
	return all
}
