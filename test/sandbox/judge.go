package sandbox

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"credential-rotator/rotator"
)

// Service is what the world watches over: a service whose pair is published at a
// place, and runs in an environment.
type Service struct {
	User  string
	Place rotator.Place
	// Project is the one whose jobs use what is published to a group; 0: that of Place.
	Project int64
	// Environment is what the service runs in; "" when no deployment tells which
	// pair the running service has.
	Environment string
}

// Watch makes the world watch over a service.
func (w *World) Watch(s Service) {
	defer w.enter()()
	w.services = append(w.services, s)
}

// WatchOnly makes the world watch over a service and no other.
func (w *World) WatchOnly(s Service) {
	defer w.enter()()
	w.services = []Service{s}
}

// AllowRetire allows the rotator to touch a key that it did not make and that is
// not published: the request names it in retire_key.
func (w *World) AllowRetire(keyID string) {
	defer w.enter()()
	for _, k := range w.keys {
		if k.id == keyID {
			k.allowed = true
		}
	}
}

// NeverUses says of a job that it does not use the pair that it picked up: it asks for
// a rotation, and waits for it.
func (w *World) NeverUses(jobID int64) {
	defer w.enter()()
	w.mustJob(jobID).idle = true
}

// Violations are all the ways in which the promise was broken, each a sentence.
func (w *World) Violations() []string {
	defer w.enter()()
	return slices.Clone(w.violations)
}

func (w *World) violate(format string, args ...any) {
	sentence := fmt.Sprintf(format, args...)
	if !slices.Contains(w.violations, sentence) {
		w.violations = append(w.violations, sentence)
	}
}

// PairState is what a job would get that picks its variables up now.
type PairState string

// The states of a published pair.
const (
	PairMissing PairState = "missing" // one of the variables, or both
	PairWorks   PairState = "works"
	PairTorn    PairState = "torn" // the id of one key and the secret of another
	PairBroken  PairState = "broken"
)

// pair is a published pair as the judge sees it.
type pair struct {
	state    PairState
	keyID    string
	secretOf string // the key whose secret it is, "" for none that we know
	lost     string // why nobody can finish a torn one, "" when somebody can
}

// Pair tells what a job of the service would get that picks its variables up now:
// the key id, and whether the pair works.
func (w *World) Pair(s Service) (keyID string, state PairState) {
	defer w.enter()()
	p := w.pair(s)
	return p.keyID, p.state
}

func (w *World) pair(s Service) pair {
	project := w.projects[s.project()]
	if project == nil {
		return pair{state: PairMissing}
	}
	environment := s.Environment
	if environment == "" && s.Place.EnvironmentScope != "*" {
		environment = s.Place.EnvironmentScope
	}
	id, secret := project.valueFor(s.Place.KeyIDVariable, environment), project.valueFor(s.Place.SecretVariable, environment)
	if s.Place.File != "" {
		id, secret = credentialsIn(project.valueFor(s.Place.File, environment), s.Place.Profile)
	}
	p := pair{keyID: id, state: PairBroken}
	if i := w.keyOf(secret); i >= 0 {
		p.secretOf = w.keys[i].id
	}
	_, err := w.keyWorks(id, secret)
	switch {
	case id == "" || secret == "":
		p.state = PairMissing
	case err == nil:
		p.state = PairWorks
	case p.secretOf != "" && p.secretOf != id:
		p.state, p.lost = PairTorn, w.lost(s.Place, id, secret)
	}
	return p
}

func (s Service) project() int64 {
	if s.Project != 0 {
		return s.Project
	}
	return s.Place.ProjectID
}

// ownerOf is whose the variables of a place are; nil: nobody's.
func (w *World) ownerOf(place rotator.Place) owner {
	if g := w.groups[place.GroupID]; g != nil {
		return g
	}
	if p := w.projects[place.ProjectID]; p != nil {
		return p
	}
	return nil
}

// keyOf finds the key that an id or a secret is of: its place in World.keys, or -1.
func (w *World) keyOf(half string) int {
	return slices.IndexFunc(w.keys, func(k *accessKey) bool { return k.id == half || k.secret == half })
}

// lost says why a torn pair cannot be finished. It takes an active key whose secret
// is in place, and a stamp that says which key that is.
func (w *World) lost(place rotator.Place, id, secret string) string {
	holds := w.keys[w.keyOf(secret)]
	v, err := findVariable(w.ownerOf(place), place.Variables()[0], place.EnvironmentScope)
	switch {
	case holds.gone || holds.status != rotator.KeyActive:
		return "the secret is that of " + holds.id + ", which is not active"
	case w.keyOf(id) > w.keyOf(secret):
		return "the secret of " + id + " is nowhere"
	case err != nil:
		return "the secret is not where it is looked for"
	}
	if _, claims := unstamped(v.Description); claims != holds.id {
		return "nothing says that the secret is that of " + holds.id
	}
	return ""
}

// state is what the judge compares: the world before a write, and after it.
type state struct {
	pairs []pair
	keys  []keyState
}

type keyState struct {
	status rotator.KeyStatus
	gone   bool
}

func (w *World) state() state {
	var s state
	for _, service := range w.services {
		s.pairs = append(s.pairs, w.pair(service))
	}
	for _, k := range w.keys {
		s.keys = append(s.keys, keyState{k.status, k.gone})
	}
	return s
}

// judge looks at what a rotator's write has done.
func (w *World) judge(p *process, call Call, before state) {
	for i, service := range w.services {
		if after := w.pair(service); !w.editedSince(service, p) && !w.brokenSince(after, p) {
			w.judgePair(call, service, before.pairs[i], after)
		}
	}
	for i, k := range w.keys {
		if i >= len(before.keys) {
			w.begun(k)
			w.judgeMade(p, k)
			continue
		}
		was := before.keys[i]
		if was.gone == k.gone && was.status == k.status {
			continue
		}
		w.judgeTouch(p, call, k, was)
	}
}

// begun marks the keys that a rotation may retire when it makes its own: those
// that are published at that moment.
func (w *World) begun(made *accessKey) {
	made.mine = true
	for _, k := range w.keysOf(made.owner) {
		k.retirable = k != made && w.published(k, nil) != ""
	}
}

// judgeMade: no key is made while a rotation of its user is another run's, for
// then nobody can tell whose key it is. It is so while another
// holds the lease. (Through the HTTP fronts there is no journal in the world.)
func (w *World) judgeMade(p *process, k *accessKey) {
	if last := w.journal[k.owner.Name]; last != nil && last.by != p && last.lease.Held(w.now) {
		w.violate("%s made %s while the rotation of %s was that of %s", p.name, k.id, k.owner.Name, last.by.name)
	}
}

// editedSince tells whether a person has changed the variables that a service's jobs get
// after the rotator had last read them: GitLab has no way to write only what was read.
// Those of its project outrank those of a group.
func (w *World) editedSince(s Service, p *process) bool {
	owners := []owner{w.ownerOf(s.Place)}
	if project := w.projects[s.project()]; project != nil {
		owners = append(owners, project)
	}
	return slices.ContainsFunc(owners, func(o owner) bool {
		return o != nil && p.sawVariables[o] > 0 && slices.ContainsFunc(*o.own(), func(v *variable) bool {
			return slices.Contains(s.Place.Variables(), v.Key) && v.byPerson && v.written > p.sawVariables[o]
		})
	})
}

// brokenSince tells whether a person has deleted or switched off a key of the pair
// after the rotator had last listed the keys. That a young key is missing in a list
// says nothing (rotator.Keys, List), so its deletion cannot be seen.
func (w *World) brokenSince(now pair, p *process) bool {
	const young = 20 * time.Minute
	return slices.ContainsFunc(w.keys, func(k *accessKey) bool {
		unseen := k.broken > p.sawKeys || k.broken > 0 && k.gone && w.now.Sub(k.madeAt) < young
		return (k.id == now.keyID || k.id == now.secretOf) && unseen
	})
}

// judgePair: whoever picks the variables up now gets a pair that works. Between
// the two writes the pair is torn; then it must be possible to finish it.
func (w *World) judgePair(call Call, s Service, before, after pair) {
	if before == after {
		return
	}
	switch {
	case after.state == PairBroken:
		w.violate("%s: after %s %s a job of project %d that starts now gets the pair %s, which does not work",
			call.Run, call.Name, call.Detail, s.project(), after.keyID)
	case after.lost != "":
		w.violate("%s: after %s %s nobody can finish the torn pair of project %d: %s",
			call.Run, call.Name, call.Detail, s.project(), after.lost)
	case after.state == PairMissing && before.state != PairMissing:
		w.violate("%s: after %s %s project %d has no pair any more", call.Run, call.Name, call.Detail, s.project())
	}
}

// judgeTouch: a key that is published, held by a running job or live in the
// service's environment stays as it is, and so does a key that is not ours. The old
// key is switched off before it is deleted, and before either what is published is
// read again.
//
// What a person did after the rotator had last looked is not held against it.
func (w *World) judgeTouch(p *process, call Call, k *accessKey, was keyState) {
	touched := fmt.Sprintf("%s: %s touched %s, which", call.Run, call.Name, k.id)
	if where := w.published(k, p); where != "" {
		w.violate("%s is published in %s", touched, where)
	}
	if w.blind(p, k) && k.retirable && call.Fate != Late { // that was decided before
		w.violate("%s it had not looked whether it is published since its last write", touched)
	}
	if k.gone && was.status == rotator.KeyActive && k.retirable && k.revived <= p.sawKeys {
		w.violate("%s was active", touched)
	}
	if was.status == rotator.KeyActive && !was.gone {
		if j := w.holder(k); j != nil {
			w.violate("%s the running job %d (%s) holds", touched, j.id, j.Name)
		}
		if env := w.liveIn(k); env != "" {
			w.violate("%s is live in %s", touched, env)
		}
	}
	if k.retired = true; !w.touchable(p, k, was) {
		w.violate("%s the rotator did not make, and which was not published when the rotation began", touched)
	}
}

// blind tells whether a place of a key was not read since the last write.
func (w *World) blind(p *process, k *accessKey) bool {
	return len(p.users) <= 1 && slices.ContainsFunc(w.services, func(s Service) bool {
		saw := p.sawVariables[w.ownerOf(s.Place)]
		return s.User == k.owner.Name && saw > 0 && saw < p.wrote
	})
}

// touchable tells whether a key is the rotator's to touch. One that is inactive
// may be deleted to free the slot of a published one.
func (w *World) touchable(p *process, k *accessKey, was keyState) bool {
	if k.allowed {
		return true
	}
	if k.reclaimed > 0 && (k.reclaimed < p.sawKeys || p.sawKeys == 0) {
		return false
	}
	return k.mine || k.retirable || was.status != rotator.KeyActive
}

// published names a variable that holds a key's id or its secret. With p, one that
// a person wrote after p had last read the variables does not count.
func (w *World) published(k *accessKey, p *process) string {
	look := func(o owner, called string) string {
		for _, v := range *o.own() {
			inFile, secretInFile := credentialsIn(v.Value, profileIn(v))
			if !slices.Contains([]string{v.Value, inFile, secretInFile}, k.id) && !slices.Contains([]string{v.Value, secretInFile}, k.secret) {
				continue
			}
			if p != nil && p.sawVariables[o] > 0 && v.byPerson && v.written > p.sawVariables[o] {
				continue
			}
			return fmt.Sprintf("%s (%s) of %s", v.Key, v.EnvironmentScope, called)
		}
		return ""
	}
	for id, project := range w.projects {
		if where := look(project, fmt.Sprintf("project %d", id)); where != "" {
			return where
		}
	}
	for id, group := range w.groups {
		if where := look(group, fmt.Sprintf("group %d", id)); where != "" {
			return where
		}
	}
	return ""
}

// profileIn is the profile of the one pair of a credentials file.
func profileIn(v *variable) string {
	_, rest, _ := strings.Cut(v.Value, "[")
	name, _, _ := strings.Cut(rest, "]")
	return name
}

// holder finds a running job that picked up both halves of a key.
func (w *World) holder(k *accessKey) *job {
	for _, j := range w.jobs {
		if j.status != "running" || j.idle {
			continue
		}
		var id, secret bool
		for name, value := range j.env {
			id = id || value == k.id
			secret = secret || value == k.secret || j.files[name] && strings.Contains(value, k.secret)
		}
		if used, _ := j.pair(); secret && (id || used == k.id) {
			return j
		}
	}
	return nil
}

// liveIn names the watched environment in which a key is live.
func (w *World) liveIn(k *accessKey) string {
	for _, s := range w.services {
		project := w.projects[s.project()]
		if project == nil || s.Environment == "" {
			continue
		}
		for _, e := range project.environments {
			if e.name == s.Environment && e.live == k.id {
				return e.name
			}
		}
	}
	return ""
}
