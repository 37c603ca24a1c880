package sandbox

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"credential-rotator/rotator"
)

// What people do, in either console. None of it is judged. A method that names
// what does not exist panics: the test is wrong.

func must(err error) {
	if err != nil {
		panic("sandbox: " + err.Error())
	}
}

// AddUser makes an IAM user.
func (w *World) AddUser(u User) {
	defer w.enter()()
	_, err := w.createUser(u)
	must(err)
}

// RecreateUser deletes a user with all keys, and makes another of the same name,
// with the same tags and without keys.
func (w *World) RecreateUser(name string) {
	defer w.enter()()
	old, err := w.findUser(name)
	must(err)
	for _, k := range w.keysOf(old) {
		k.gone, k.broken = true, w.seq
	}
	must(w.deleteUser(name))
	_, err = w.createUser(old.User)
	must(err)
}

// DeleteUser deletes a user with all keys.
func (w *World) DeleteUser(name string) {
	defer w.enter()()
	u, err := w.findUser(name)
	must(err)
	for _, k := range w.keysOf(u) {
		k.gone, k.broken = true, w.seq
	}
	must(w.deleteUser(name))
}

// TagUser sets one tag.
func (w *World) TagUser(name, key, value string) {
	defer w.enter()()
	must(w.tagUser(name, map[string]string{key: value}))
}

// AttachPolicy attaches an AWS managed policy, such as AWSCompromisedKeyQuarantineV3.
func (w *World) AttachPolicy(name, policy string) {
	defer w.enter()()
	u, err := w.findUser(name)
	must(err)
	u.Policies = append(u.Policies, policy)
}

// CreateKey makes a key of a given age. Anything that is not new works at once.
func (w *World) CreateKey(user string, age time.Duration) rotator.KeyPair {
	defer w.enter()()
	k, err := w.createKey(user)
	must(err)
	if age > 0 {
		k.madeAt = w.now.Add(-age)
		k.created = k.madeAt.Truncate(time.Second)
		k.knownFrom = k.madeAt.Add(w.opts.PropagationDelay)
		k.listedFrom = k.madeAt.Add(w.opts.ListLag)
	}
	return rotator.KeyPair{ID: k.id, Secret: rotator.NewSecret(k.secret)}
}

// SetKeyStatus switches a key on or off. One that the rotator
// had switched off is somebody's when it is on again, until that switches it off.
func (w *World) SetKeyStatus(keyID string, status rotator.KeyStatus) {
	defer w.enter()()
	k, err := w.findKey("", keyID)
	must(err)
	switch {
	case status != rotator.KeyActive:
		k.reclaimed = 0 // given back
	case k.status != rotator.KeyActive && k.retired:
		k.reclaimed = w.seq
	}
	k.status = status
	if k.broken, k.revived = 0, w.seq; status != rotator.KeyActive {
		k.broken, k.revived = w.seq, 0
	}
}

// DeleteKey deletes a key.
func (w *World) DeleteKey(keyID string) {
	defer w.enter()()
	k, err := w.findKey("", keyID)
	must(err)
	k.gone, k.broken = true, w.seq
}

// UseKey is a use of a key by somebody.
func (w *World) UseKey(keyID, service, region string) {
	defer w.enter()()
	k, err := w.findKey("", keyID)
	must(err)
	w.used(k, service, region)
}

// Key is a key as it is.
type Key struct {
	rotator.AccessKey
	User    string
	LastUse rotator.LastUse
}

// Keys are the user's keys as they are, whatever a list may still tell.
func (w *World) Keys(user string) []Key {
	defer w.enter()()
	u, err := w.findUser(user)
	must(err)
	var out []Key
	for _, k := range w.keysOf(u) {
		out = append(out, Key{rotator.AccessKey{ID: k.id, Status: k.status, CreatedAt: k.created}, u.Name, k.lastUse})
	}
	return out
}

// KeyIDs are the ids of all keys that there ever were, in the order they were made.
func (w *World) KeyIDs() []string {
	defer w.enter()()
	var ids []string
	for _, k := range w.keys {
		ids = append(ids, k.id)
	}
	return ids
}

// AddProject makes a GitLab project.
func (w *World) AddProject(p Project) {
	defer w.enter()()
	if p.DefaultBranch == "" {
		p.DefaultBranch = "main"
	}
	if p.Refs == nil {
		p.Refs = []Ref{{Name: p.DefaultBranch, Protected: true}}
	}
	w.projects[p.ID] = &project{Project: p}
	w.regroup()
}

// EditProject changes a project.
func (w *World) EditProject(projectID int64, edit func(*Project)) {
	defer w.enter()()
	edit(&w.mustProject(projectID).Project)
	w.regroup() // it may have moved
}

func (w *World) mustProject(projectID int64) *project {
	p := w.projects[projectID]
	if p == nil {
		must(fmt.Errorf("there is no project %d", projectID))
	}
	return p
}

// AddToken makes an access token and returns its value.
func (w *World) AddToken(t Token) string {
	defer w.enter()()
	n := w.id("token")
	if t.Username == "" {
		kind, of := "project", slices.Sorted(maps.Keys(t.Roles)) // the bot of the first, should it have several
		if len(t.GroupRoles) > 0 {
			kind, of = "group", slices.Sorted(maps.Keys(t.GroupRoles))
		}
		t.Username = fmt.Sprintf("%s_%d_bot_%s", kind, append(of, 0)[0], w.random("abcdef0123456789", 8))
	}
	if t.Expires.IsZero() {
		t.Expires = w.now.AddDate(1, 0, 0)
	}
	added := &token{Token: t, id: n, userID: 1000 + n, value: w.newToken("the token " + t.Name), created: w.now}
	w.tokens = append(w.tokens, added)
	return added.value
}

// EditToken changes a token.
func (w *World) EditToken(name string, edit func(*Token)) {
	defer w.enter()()
	i := slices.IndexFunc(w.tokens, func(t *token) bool { return t.Name == name })
	if i < 0 {
		must(fmt.Errorf("there is no token %s", name))
	}
	edit(&w.tokens[i].Token)
}

// SetVariable makes a variable, or changes all of one that exists.
func (w *World) SetVariable(projectID int64, v Variable) {
	defer w.enter()()
	w.setVariable(w.mustProject(projectID), v)
}

func (w *World) setVariable(o owner, v Variable) {
	if v.EnvironmentScope == "" {
		v.EnvironmentScope = "*"
	}
	if v.Type == "" {
		v.Type = "env_var"
	}
	next := &variable{Variable: v, written: w.seq, byPerson: true}
	if old, err := findVariable(o, v.Key, v.EnvironmentScope); err == nil {
		must(valid(o, v, old))
		*old = *next
		return
	}
	must(valid(o, v, nil))
	*o.own() = append(*o.own(), next)
}

// EditVariable changes a variable in a scope.
func (w *World) EditVariable(projectID int64, key, scope string, edit func(*Variable)) {
	defer w.enter()()
	w.editVariable(w.mustProject(projectID), key, scope, edit)
}

func (w *World) editVariable(o owner, key, scope string, edit func(*Variable)) {
	v, err := findVariable(o, key, scope)
	must(err)
	next := v.Variable
	edit(&next)
	must(valid(o, next, v))
	*v = variable{Variable: next, written: w.seq, byPerson: true}
}

// DeleteVariable deletes a variable in a scope.
func (w *World) DeleteVariable(projectID int64, key, scope string) {
	defer w.enter()()
	p := w.mustProject(projectID)
	v, err := p.findVariable(key, scope)
	must(err)
	deleteVariableOf(p, v)
}

// Variable is a variable as it is, hidden ones too.
func (w *World) Variable(projectID int64, key, scope string) (Variable, bool) {
	defer w.enter()()
	v, err := w.mustProject(projectID).findVariable(key, scope)
	if err != nil {
		return Variable{}, false
	}
	return v.Variable, true
}

// QueueOutcomes says how the project's next pipelines end; after them, success.
func (w *World) QueueOutcomes(projectID int64, outcomes ...Outcome) {
	defer w.enter()()
	p := w.mustProject(projectID)
	p.outcomes = append(p.outcomes, outcomes...)
}

// Commit moves a branch or a tag on to another commit, as a push does. What was made
// before stays where it was, and is retried there.
func (w *World) Commit(projectID int64, ref, sha string) {
	defer w.enter()()
	p := w.mustProject(projectID)
	i := slices.IndexFunc(p.Refs, func(r Ref) bool { return r.Name == ref })
	if i < 0 {
		must(fmt.Errorf("project %d has no ref %s", projectID, ref))
	}
	p.Refs = slices.Clone(p.Refs) // which is the caller's
	p.Refs[i].SHA = sha
}

// RunPipeline starts a pipeline as somebody's push does.
func (w *World) RunPipeline(projectID int64, ref string) (pipelineID int64) {
	defer w.enter()()
	p := w.mustProject(projectID)
	r, ok := p.ref(ref)
	if !ok {
		must(fmt.Errorf("project %d has no ref %s", projectID, ref))
	}
	return w.newPipeline(p, r, push(), Success, p.jobsWith(nil)).id
}

func push() origin { return origin{"push", "somebody", 1} }

// Past is a deployment of the past.
type Past struct {
	Job   JobSpec
	Ref   string        // "" is the default branch
	Ago   time.Duration // when its job ended, which began a minute before
	Child bool          // its pipeline is the child of another
	// Jobless: its job is gone, or it was made through the API. Archived: its job is too
	// old to be retried.
	Jobless, Archived bool
	Beside            []JobSpec // jobs of the same pipeline that did so too
	// Own are variables that the pipeline was given, which its jobs keep.
	Own map[string]string
}

// Deployed adds a pipeline that has deployed to an environment, with the variables of
// now: what is live there.
func (w *World) Deployed(projectID int64, d Past) (jobID int64) {
	defer w.enter()()
	p := w.mustProject(projectID)
	if d.Ref == "" {
		d.Ref = p.DefaultBranch
	}
	ref, _ := p.ref(d.Ref)
	ref.Name = d.Ref // which may be gone
	from := push()
	if d.Child {
		w.newPipeline(p, ref, from, Skipped, []JobSpec{{Name: "parent"}})
		from.source = "parent_pipeline"
	}
	pl := w.newPipeline(p, ref, from, Success, append([]JobSpec{d.Job}, d.Beside...))
	pl.own = d.Own
	for _, j := range pl.jobs {
		j.status, j.archived = "success", d.Archived
		j.started, j.finished = w.now.Add(-d.Ago-time.Minute), w.now.Add(-d.Ago)
		j.created = j.started
		j.pickUp()
		dep := w.deploymentOf(j)
		dep.created, dep.updated, dep.lived, dep.jobless = j.started, j.finished, w.seq, d.Jobless
		dep.environment.live = j.keyID()
	}
	w.moveOn(pl)
	return pl.jobs[0].id
}

// Retry retries a job, as somebody who has seen it.
func (w *World) Retry(projectID, jobID int64) (newJobID int64) {
	defer w.enter()()
	p, j := w.mustProject(projectID), w.mustJob(jobID)
	next, err := w.retryJob(p, &token{Token: Token{Username: "somebody", Person: true, Roles: map[int64]int{p.ID: Maintainer}}, userID: 1}, j)
	must(err)
	return next.id
}

// ArchiveJob makes a job too old to be retried.
func (w *World) ArchiveJob(jobID int64) {
	defer w.enter()()
	w.mustJob(jobID).archived = true
}

// StopEnvironment stops an environment.
func (w *World) StopEnvironment(projectID int64, name string) {
	defer w.enter()()
	w.environmentOf(w.mustProject(projectID), name).stopped = true
}

// RunningJob adds a job, in a pipeline of its own on the default branch, that
// started a while ago with the variables of now, and runs until EndJob.
func (w *World) RunningJob(projectID int64, spec JobSpec, startedAgo time.Duration) (jobID int64) {
	defer w.enter()()
	p := w.mustProject(projectID)
	ref, _ := p.ref(p.DefaultBranch)
	pl := w.newPipeline(p, ref, push(), Stuck, []JobSpec{spec})
	j := pl.jobs[0]
	j.status, j.started = "running", w.now.Add(-startedAgo)
	j.pickUp()
	pl.outcome = Success
	w.moveOn(pl)
	return j.id
}

// EndJob ends a running job.
func (w *World) EndJob(jobID int64, err error) {
	defer w.enter()()
	w.end(w.mustJob(jobID), err)
}

// PlayJob starts a job that waits for somebody.
func (w *World) PlayJob(jobID int64) {
	defer w.enter()()
	must(w.play(w.mustJob(jobID)))
}

func (w *World) mustJob(id int64) *job {
	j, err := w.findJob(id)
	must(err)
	return j
}

// Tags are the names of a project's tags.
func (w *World) Tags(projectID int64) []string {
	defer w.enter()()
	var names []string
	for _, ref := range w.mustProject(projectID).Refs {
		if ref.Tag {
			names = append(names, ref.Name)
		}
	}
	return names
}

// CancelPipeline cancels a pipeline and its jobs.
func (w *World) CancelPipeline(pipelineID int64) {
	defer w.enter()()
	i := slices.IndexFunc(w.pipelines, func(pl *pipeline) bool { return pl.id == pipelineID })
	if i < 0 {
		must(fmt.Errorf("there is no pipeline %d", pipelineID))
	}
	w.cancelPipeline(w.pipelines[i])
}

// Pipeline is how a pipeline looks.
type Pipeline struct {
	ID       int64
	Ref      string
	SHA      string
	Source   string
	Username string
	Status   string
	Inputs   map[string]string // as they were given; what is no text as JSON
	Jobs     []Job
}

// Job is how a job looks.
type Job struct {
	ID          int64
	Name        string
	Environment string
	Status      string
	Failure     string // why it failed
	Started     time.Time
	Finished    time.Time
	KeyID       string // of the pair it picked up
}

// Pipelines are the project's pipelines, oldest first.
func (w *World) Pipelines(projectID int64) []Pipeline {
	defer w.enter()()
	p := w.mustProject(projectID)
	var out []Pipeline
	for _, pl := range w.pipelines {
		if pl.project != p {
			continue
		}
		look := Pipeline{ID: pl.id, Ref: pl.ref.Name, SHA: pl.sha, Source: pl.source, Username: pl.username, Status: pl.status, Inputs: pl.inputs}
		for _, j := range pl.jobs {
			look.Jobs = append(look.Jobs, Job{
				ID: j.id, Name: j.Name, Environment: j.Environment, Status: j.status, Failure: j.failure,
				Started: j.started, Finished: j.finished, KeyID: j.keyID(),
			})
		}
		out = append(out, look)
	}
	return out
}

// SetLive says which key the service runs with that was last deployed to an
// environment, before the world began.
func (w *World) SetLive(projectID int64, environment, keyID string) {
	defer w.enter()()
	w.environmentOf(w.mustProject(projectID), environment).live = keyID
}

// LoseRecord loses what the journal knows about a user.
func (w *World) LoseRecord(user string) {
	defer w.enter()()
	delete(w.journal, user)
}
