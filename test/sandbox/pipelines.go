package sandbox

import (
	"errors"
	"net/http"
	"slices"
	"time"
)

// JobSpec is a job as the project's .gitlab-ci.yml has it.
type JobSpec struct {
	Name         string
	Stage        string // "" is the job's name
	Environment  string // a job with one deploys to it
	Duration     time.Duration
	Manual       bool
	AllowFailure bool // with Manual: optional, the pipeline does not wait for it
	// The variables in which it expects its pair; "" are the names that the AWS
	// SDKs read. A job without an environment uses a pair only when they are set.
	KeyIDVariable  string
	SecretVariable string
	// CredentialsFile is the variable, of type file, in which it expects its pair
	// instead, as a profile of an AWS credentials file; Profile "" is default.
	CredentialsFile string
	Profile         string
	// Bridge: it triggers another pipeline, so the API does not list it with the jobs.
	Bridge bool
}

// JobEnv is what a deploy job works with.
type JobEnv struct {
	ProjectID, PipelineID, JobID int64
	Name, Environment, Ref       string
	SHA                          string            // the commit of its pipeline, that of a retried job too
	Variables                    map[string]string // as they were when it started, without files
	Files                        map[string]string // the contents of those of type file
	KeyID, Secret                string            // the pair among them
}

// Outcome is how a pipeline or a retried job ends, whatever its jobs do.
type Outcome string

// The outcomes. Success leaves it to the jobs; Stuck never finds a runner, Queued
// waits for its resource group, Endless runs until EndJob.
const (
	Success   Outcome = "success"
	Failed    Outcome = "failed"
	Canceled  Outcome = "canceled"
	Skipped   Outcome = "skipped"
	Manual    Outcome = "manual"
	Scheduled Outcome = "scheduled"
	Stuck     Outcome = "stuck"
	Queued    Outcome = "waiting_for_resource"
	Endless   Outcome = "running"
)

type pipeline struct {
	id, iid int64
	project *project
	ref     Ref
	sha     string // the commit that ref was at when it was made
	origin
	status   string
	outcome  Outcome
	own      map[string]string // variables that it was given, and keeps
	inputs   map[string]string // of spec:inputs, as they were given
	schedule *schedule         // that started it
	jobs     []*job
	created  time.Time
	updated  time.Time
	started  time.Time
	finished time.Time
}

type job struct {
	JobSpec
	id       int64
	pipeline *pipeline
	by       origin  // whose it is: who has retried it, or the pipeline's
	decided  Outcome // of a retried job; "": the pipeline's
	retried  bool    // there is a newer one in its place
	archived bool
	status   string
	failure  string // why, for whoever reads the world
	env      map[string]string
	files    map[string]bool // the variables in env that are files
	idle     bool            // it does not use its pair
	created  time.Time
	started  time.Time
	finished time.Time
}

// deployment is a job's deployment to an environment. Its status follows the job's.
type deployment struct {
	id, iid     int64
	job         *job
	environment *environment
	created     time.Time
	updated     time.Time
	jobless     bool // its job is gone, or there was none
	lived       int  // when it became what is live, on World.seq
}

// outcome is how a job is to end.
func (j *job) outcome() Outcome {
	switch {
	case j.decided != "":
		return j.decided
	case j.pipeline.outcome == Stuck, j == j.pipeline.deployJob():
		return j.pipeline.outcome
	}
	return Success
}

func (d *deployment) status() string {
	switch d.job.status {
	case "pending", "manual", "scheduled", "waiting_for_resource":
		return "created"
	}
	return d.job.status
}

func (p *pipeline) over() bool { return over(p.status) }

func over(status string) bool {
	return slices.Contains([]string{"success", "failed", "canceled", "skipped"}, status)
}

// createPipeline follows GitLab app/services/ci/create_pipeline_service.rb as far
// as a caller without pipeline variables sees it.
func (w *World) createPipeline(p *project, t *token, refName string, inputs map[string]string) (*pipeline, error) {
	ref, ok := p.ref(refName)
	role := t.roleIn(p)
	var fault string
	switch {
	case role < Developer:
		return nil, message(http.StatusForbidden, "403 Forbidden")
	case !ok:
		fault = "Reference not found"
	case p.Archived:
		fault = "Insufficient permissions to create a new pipeline"
	case ref.Protected && role < Maintainer:
		fault = "You do not have sufficient permission to run a pipeline on '" + ref.Name + "'. Please select a different branch or contact your administrator for assistance."
	case len(p.Pipeline) == 0:
		fault = "Pipeline will not run for the selected trigger. The rules configuration prevented any jobs from being added to the pipeline."
	default:
		fault = p.inputsFault(inputs)
	}
	if fault != "" {
		return nil, baseFault(fault)
	}
	pl := w.newPipeline(p, ref, origin{"api", t.Username, t.userID}, p.nextOutcome(), p.jobsWith(inputs))
	pl.inputs = inputs
	return pl, nil
}

func (p *project) nextOutcome() Outcome {
	outcome := Success
	if len(p.outcomes) > 0 {
		outcome, p.outcomes = p.outcomes[0], p.outcomes[1:]
	}
	return outcome
}

// origin is where a pipeline comes from.
type origin struct {
	source   string
	username string
	userID   int64
}

func (w *World) newPipeline(p *project, ref Ref, from origin, outcome Outcome, specs []JobSpec) *pipeline {
	p.pipelines++
	pl := &pipeline{
		id: w.id("pipeline"), iid: p.pipelines, project: p, ref: ref, sha: p.sha(ref.Name), origin: from,
		status: "created", outcome: outcome, created: w.now, updated: w.now,
	}
	w.pipelines = append(w.pipelines, pl)
	for _, spec := range specs {
		w.newJob(pl, spec)
	}
	w.after(0, func() {
		w.moveOn(pl)
		if outcome == Canceled {
			w.after(w.opts.JobPickUp+pl.jobs[0].Duration/2, func() { w.cancelPipeline(pl) })
		}
	})
	return pl
}

func (w *World) newJob(pl *pipeline, spec JobSpec) *job {
	if spec.Stage == "" {
		spec.Stage = spec.Name
	}
	if spec.Duration == 0 {
		spec.Duration = w.opts.JobDuration
	}
	if spec.Environment != "" && spec.KeyIDVariable == "" && spec.CredentialsFile == "" {
		spec.KeyIDVariable, spec.SecretVariable = "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"
	}
	j := &job{JobSpec: spec, id: w.id("job"), pipeline: pl, by: pl.origin, status: "created", created: w.now}
	pl.jobs = append(pl.jobs, j)
	w.jobs = append(w.jobs, j)
	if spec.Environment != "" {
		w.deployments = append(w.deployments, &deployment{
			id: w.id("deployment"), iid: int64(len(w.deployments) + 1), job: j, created: w.now, updated: w.now,
			environment: w.environmentOf(pl.project, spec.Environment),
		})
	}
	return j
}

// deployJob is the job that an outcome happens to.
func (p *pipeline) deployJob() *job {
	for _, j := range p.jobs {
		if j.Environment != "" {
			return j
		}
	}
	return p.jobs[len(p.jobs)-1]
}

// moveOn releases the jobs of the next stage, or skips them, and works out the
// pipeline's status.
func (w *World) moveOn(pl *pipeline) {
	if pl.over() {
		return
	}
	broken, waits := pl.outcome == Skipped, false
	for _, stage := range pl.stages() {
		for _, j := range stage {
			if j.status == "created" && !waits {
				w.release(j, broken)
			}
		}
		for _, j := range stage {
			waits = waits || !over(j.status) && !j.optional()
			broken = broken || (j.status == "failed" || j.status == "canceled") && !j.AllowFailure
		}
	}
	w.setStatus(pl, pl.worked())
}

func (p *pipeline) stages() [][]*job {
	var stages [][]*job
	index := map[string]int{}
	for _, j := range p.current() {
		i, ok := index[j.Stage]
		if !ok {
			i = len(stages)
			index[j.Stage] = i
			stages = append(stages, nil)
		}
		stages[i] = append(stages[i], j)
	}
	return stages
}

// current are the jobs that nobody has retried.
func (p *pipeline) current() []*job {
	var jobs []*job
	for _, j := range p.jobs {
		if !j.retried {
			jobs = append(jobs, j)
		}
	}
	return jobs
}

// optional tells whether a pipeline goes on without the job.
func (j *job) optional() bool { return j.status == "manual" && j.AllowFailure }

func (w *World) release(j *job, skip bool) {
	switch outcome := j.outcome(); {
	case skip:
		j.status = "skipped"
	case j.Manual && j.decided == "", outcome == Manual:
		j.status = "manual"
	case outcome == Scheduled, outcome == Queued:
		j.status = string(outcome)
	default:
		w.enqueue(j)
	}
}

func (w *World) enqueue(j *job) {
	j.status = "pending"
	if j.outcome() != Stuck {
		w.after(w.opts.JobPickUp, func() { w.start(j) })
	}
}

// worked is the status of a pipeline by those of its jobs (GitLab
// lib/gitlab/ci/status/composite.rb).
func (p *pipeline) worked() string {
	has := map[string]bool{}
	for _, j := range p.current() {
		switch {
		case j.optional():
			has["skipped"] = true
		case j.status == "failed" && j.AllowFailure:
			has["success"] = true
		default:
			has[j.status] = true
		}
	}
	switch begun := has["success"] || has["failed"] || has["canceled"]; {
	case has["running"], has["pending"] && begun:
		return "running"
	case has["pending"]:
		return "pending"
	case has["waiting_for_resource"]:
		return "waiting_for_resource"
	case has["manual"]:
		return "manual"
	case has["scheduled"]:
		return "scheduled"
	}
	for _, status := range []string{"created", "failed", "canceled", "success"} {
		if has[status] {
			return status
		}
	}
	return "skipped"
}

func (w *World) setStatus(pl *pipeline, status string) {
	if pl.status == status {
		return
	}
	pl.status, pl.updated = status, w.now
	if status == "running" && pl.started.IsZero() {
		pl.started = w.now
	}
	if pl.over() {
		pl.finished = w.now
	}
}

// start is a runner picking a job up: this is when it gets its variables, not
// when it was made (GitLab app/services/ci/register_job_service.rb).
func (w *World) start(j *job) {
	if j.status != "pending" {
		return
	}
	j.status, j.started = "running", w.now
	j.pickUp()
	w.touch(j)
	w.moveOn(j.pipeline)
	if j.usesPair() && w.opts.Deploy != nil {
		w.deployOutside(j)
		return
	}
	if err := w.usePair(j); err != nil {
		w.end(j, err)
		return
	}
	if j.outcome() != Endless {
		w.after(j.Duration, func() { w.end(j, w.usePair(j)) })
	}
}

func (j *job) environment() JobEnv {
	e := JobEnv{
		ProjectID: j.pipeline.project.ID, PipelineID: j.pipeline.id, JobID: j.id,
		Name: j.Name, Environment: j.Environment, Ref: j.pipeline.ref.Name, SHA: j.pipeline.sha,
		Variables: map[string]string{}, Files: map[string]string{},
	}
	for key, value := range j.env {
		if j.files[key] {
			e.Files[key] = value
		} else {
			e.Variables[key] = value
		}
	}
	e.KeyID, e.Secret = j.pair()
	return e
}

// usePair is what a job does with its pair when the world has no Deploy.
func (w *World) usePair(j *job) error {
	if !j.usesPair() || j.status != "running" {
		return nil
	}
	env := j.environment()
	_, err := w.authenticate(env.KeyID, env.Secret, "sts", "us-east-1")
	return err
}

// deployOutside lets Options.Deploy do what a deploy job does, without the lock.
func (w *World) deployOutside(j *job) {
	env := j.environment()
	w.deploys.Go(func() {
		err := w.opts.Deploy(w.closing, env)
		defer w.enter()()
		w.after(max(0, j.Duration-w.now.Sub(j.started)), func() { w.end(j, err) })
		w.catchUp(w.now)
	})
}

// end ends a running job. A successful deploy job makes its pair the one that is
// live in the environment.
func (w *World) end(j *job, err error) {
	if j.status != "running" {
		return
	}
	if err == nil && j.outcome() == Failed {
		err = errors.New("script failure")
	}
	j.status, j.finished = "success", w.now
	if err != nil {
		j.status, j.failure = "failed", err.Error()
	} else if j.Environment != "" {
		w.environmentOf(j.pipeline.project, j.Environment).live = j.keyID()
		w.deploymentOf(j).lived = w.seq + 1 // for whoever looks from now on
	}
	w.touch(j)
	w.moveOn(j.pipeline)
}

func (w *World) deploymentOf(j *job) *deployment {
	for _, d := range w.deployments {
		if d.job == j {
			return d
		}
	}
	return nil
}

func (w *World) touch(j *job) {
	for _, d := range w.deployments {
		if d.job == j {
			d.updated = w.now
		}
	}
}

// play starts a job that waited for somebody.
func (w *World) play(j *job) error {
	if j.status != "manual" && j.status != "scheduled" {
		return message(http.StatusBadRequest, "400 Bad request - Unplayable Job")
	}
	w.enqueue(j)
	pl := j.pipeline
	pl.finished = time.Time{}
	w.setStatus(pl, pl.worked())
	return nil
}

func (w *World) cancelPipeline(pl *pipeline) {
	if pl.over() {
		return
	}
	for _, j := range pl.jobs {
		if !over(j.status) {
			j.status, j.finished = "canceled", w.now
			w.touch(j)
		}
	}
	w.setStatus(pl, "canceled")
}

func (w *World) findPipeline(p *project, id int64) (*pipeline, error) {
	for _, pl := range w.pipelines {
		if pl.id == id && pl.project == p {
			return pl, nil
		}
	}
	return nil, message(http.StatusNotFound, "404 Not found")
}

func (w *World) findJob(id int64) (*job, error) {
	for _, j := range w.jobs {
		if j.id == id {
			return j, nil
		}
	}
	return nil, message(http.StatusNotFound, "404 Not found")
}
