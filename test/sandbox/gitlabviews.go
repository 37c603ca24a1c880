package sandbox

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"
)

// What the endpoints of the GitLab front do, and how their replies look: the
// entities of GitLab lib/api/entities.

// object is a JSON object.
type object = map[string]any

// clock is a time as GitLab writes it, null when it has not come.
func clock(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UTC().Format("2006-01-02T15:04:05.000Z")
}

func showToken(r *request) (any, error) { return r.w.tokenObject(r.token), nil }

func (w *World) tokenObject(t *token) object {
	return object{
		"id": t.id, "name": t.Name, "description": nil, "revoked": t.Revoked, "active": t.active(w.now),
		"scopes": slices.Clone(t.Scopes), "user_id": t.userID, "created_at": clock(t.created),
		"last_used_at": clock(w.now), "expires_at": t.Expires.UTC().Format(time.DateOnly),
	}
}

func showUser(r *request) (any, error) {
	if err := r.token.inScope(false); err != nil {
		return nil, err
	}
	return r.w.userObject(r.token.userID, r.token.Username), nil
}

func (w *World) userObject(id int64, username string) object {
	return object{
		"id": id, "username": username, "name": username, "state": "active", "bot": true,
		"avatar_url": nil, "web_url": w.opts.GitLabURL + "/" + username,
	}
}

func showProject(r *request) (any, error) {
	o := r.w.projectObject(r.project)
	o["permissions"] = permissions(r.token, r.project)
	return o, nil
}

// projectObject is a project as lists have it.
func (w *World) projectObject(p *project) object {
	name := p.Path[strings.LastIndex(p.Path, "/")+1:]
	return object{
		"id": p.ID, "name": name, "path": name, "path_with_namespace": p.Path, "default_branch": p.DefaultBranch,
		"archived": p.Archived, "builds_access_level": "enabled", "jobs_enabled": true,
		"web_url":   w.opts.GitLabURL + "/" + p.Path,
		"namespace": w.namespaceObject(p),
	}
}

// variableObject has no value when the variable is hidden, whoever asks and
// whatever was just sent (GitLab lib/api/entities/ci/variable.rb).
func variableObject(v *variable) object {
	o := object{
		"variable_type": v.Type, "key": v.Key, "value": v.Value, "hidden": v.Hidden, "protected": v.Protected,
		"masked": v.Masked, "raw": v.Raw, "environment_scope": v.EnvironmentScope, "description": nil,
	}
	if v.Hidden {
		o["value"] = nil
	}
	if v.Description != "" {
		o["description"] = v.Description
	}
	return o
}

func listVariables(r *request) (any, error) {
	r.caller.sees(r.project)
	out := []object{}
	for _, v := range paginate(r, r.project.variables) {
		out = append(out, variableObject(v))
	}
	return out, nil
}

func (r *request) variable() (*variable, error) {
	return findVariable(r.project, r.PathValue("key"), r.in["filter[environment_scope]"])
}

func showVariable(r *request) (any, error) {
	v, err := r.variable()
	if err != nil {
		return nil, err
	}
	r.caller.sees(r.project)
	return variableObject(v), nil
}

// asked is what the request says about the variable.
func (r *request) asked() change {
	return change{
		Value: r.text("value"), Description: r.text("description"), Scope: r.text("environment_scope"), Type: r.text("variable_type"),
		Protected: r.truth("protected"), Masked: r.truth("masked"), MaskedAndHidden: r.truth("masked_and_hidden"), Raw: r.truth("raw"),
	}
}

func postVariable(r *request) (any, error) {
	if err := r.missing("key", "value"); err != nil {
		return nil, err
	}
	v, err := r.w.createVariable(r.project, r.in["key"], r.asked(), r.token.Person)
	if err != nil {
		return nil, err
	}
	return variableObject(v), nil
}

func putVariable(r *request) (any, error) {
	v, err := r.variable()
	if err != nil {
		return nil, err
	}
	if err := r.w.updateVariable(r.project, v, r.asked(), r.token.Person); err != nil {
		return nil, err
	}
	return variableObject(v), nil
}

func deleteVariable(r *request) (any, error) {
	v, err := r.variable()
	if err != nil {
		return nil, err
	}
	deleteVariableOf(r.project, v)
	return nil, nil
}

func listBranches(r *request) (any, error) {
	branches := slices.DeleteFunc(slices.Clone(r.project.Refs), func(ref Ref) bool { return ref.Tag })
	out := []object{}
	for _, ref := range paginate(r, branches) {
		out = append(out, r.branch(ref))
	}
	return out, nil
}

func (r *request) branch(ref Ref) object {
	return object{
		"name": ref.Name, "merged": false, "protected": ref.Protected, "default": ref.Name == r.project.DefaultBranch,
		"developers_can_push": false, "developers_can_merge": false, "can_push": true,
		"web_url": r.w.webURL(r.project, "tree/%s", ref.Name), "commit": commit(r.project.sha(ref.Name)),
	}
}

func commit(sha string) object {
	return object{"id": sha, "short_id": sha[:8], "title": "Sell more"}
}

func showBranch(r *request) (any, error) {
	ref, ok := r.project.ref(r.PathValue("ref"))
	if !ok || ref.Tag {
		return nil, message(http.StatusNotFound, "404 Branch Not Found")
	}
	return r.branch(ref), nil
}

func showTag(r *request) (any, error) {
	ref, ok := r.project.ref(r.PathValue("ref"))
	if !ok || !ref.Tag {
		return nil, message(http.StatusNotFound, "404 Tag Not Found")
	}
	return r.tag(ref), nil
}

// pipelineObject is a pipeline as lists have it.
func (w *World) pipelineObject(pl *pipeline) object {
	return object{
		"id": pl.id, "iid": pl.iid, "project_id": pl.project.ID, "sha": pl.sha, "ref": pl.ref.Name,
		"status": pl.status, "source": pl.source, "name": nil, "created_at": clock(pl.created), "updated_at": clock(pl.updated),
		"web_url": w.webURL(pl.project, "pipelines/%d", pl.id),
	}
}

// wholePipeline is a pipeline as one that was asked for by id.
func (w *World) wholePipeline(pl *pipeline) object {
	o := w.pipelineObject(pl)
	o["before_sha"], o["tag"], o["yaml_errors"] = strings.Repeat("0", 40), pl.ref.Tag, nil
	o["user"] = w.userObject(pl.userID, pl.username)
	o["started_at"], o["finished_at"], o["committed_at"] = clock(pl.started), clock(pl.finished), nil
	o["duration"], o["queued_duration"], o["coverage"] = nil, nil, nil
	if !pl.finished.IsZero() && !pl.started.IsZero() {
		o["duration"] = int(pl.finished.Sub(pl.started).Seconds())
	}
	o["detailed_status"] = object{
		"icon": "status_" + pl.status, "text": pl.status, "label": pl.status, "group": pl.status, "tooltip": pl.status,
		"has_details": true, "details_path": "/" + pl.project.Path + "/-/pipelines", "illustration": nil, "favicon": "",
	}
	return o
}

// listPipelines: the newest first, child pipelines never (GitLab
// app/finders/ci/pipelines_finder.rb).
func listPipelines(r *request) (any, error) {
	var found []*pipeline
	matches := func(name, value string) bool { return r.in[name] == "" || r.in[name] == value }
	for _, pl := range slices.Backward(r.w.pipelines) {
		child := pl.source == "parent_pipeline"
		if pl.project == r.project && child == (r.in["source"] == "parent_pipeline") && matches("source", pl.source) && matches("ref", pl.ref.Name) && matches("status", pl.status) &&
			matches("username", pl.username) && matches("sha", pl.sha) {
			found = append(found, pl)
		}
	}
	if r.in["order_by"] == "updated_at" {
		slices.SortStableFunc(found, func(a, b *pipeline) int { return b.updated.Compare(a.updated) })
	}
	if r.in["sort"] == "asc" {
		slices.Reverse(found)
	}
	out := []object{}
	for _, pl := range paginate(r, found) {
		out = append(out, r.w.pipelineObject(pl))
	}
	return out, nil
}

func postPipeline(r *request) (any, error) {
	if err := r.missing("ref"); err != nil {
		return nil, err
	}
	if _, ok := r.in["variables"]; ok {
		return nil, baseFault("Insufficient permissions to set pipeline variables")
	}
	pl, err := r.w.createPipeline(r.project, r.token, r.in["ref"], r.under("inputs"))
	if err != nil {
		return nil, err
	}
	return r.w.wholePipeline(pl), nil
}

func showPipeline(r *request) (any, error) {
	pl, err := r.w.findPipeline(r.project, r.number("pipeline"))
	if err != nil {
		return nil, err
	}
	return r.w.wholePipeline(pl), nil
}

func listPipelineVariables(r *request) (any, error) {
	pl, err := r.w.findPipeline(r.project, r.number("pipeline"))
	if err != nil {
		return nil, err
	}
	list := []object{}
	for _, key := range slices.Sorted(maps.Keys(pl.own)) {
		list = append(list, object{"key": key, "value": pl.own[key], "variable_type": "env_var", "raw": false})
	}
	return list, nil
}

func postCancel(r *request) (any, error) {
	pl, err := r.w.findPipeline(r.project, r.number("pipeline"))
	if err != nil {
		return nil, err
	}
	r.w.cancelPipeline(pl)
	return r.w.wholePipeline(pl), nil
}

// isStatus tells what scope[] may be (GitLab app/models/concerns/ci/has_status.rb).
func isStatus(s string) bool {
	return over(s) || slices.Contains([]string{
		"created", "waiting_for_resource", "preparing", "waiting_for_callback", "pending", "running", "canceling", "manual", "scheduled",
	}, s)
}

// listJobs lists those of a pipeline, or of the whole project, the newest first.
func listJobs(r *request) (any, error) {
	scope := append(r.URL.Query()["scope[]"], r.URL.Query()["scope"]...)
	for _, status := range scope {
		if !isStatus(status) {
			return nil, &gitlabError{http.StatusBadRequest, object{"error": "scope does not have a valid value"}}
		}
	}
	from := r.w.jobs
	if r.PathValue("pipeline") != "" {
		pl, err := r.w.findPipeline(r.project, r.number("pipeline"))
		if err != nil {
			return nil, err
		}
		from = pl.jobs
		if r.in["include_retried"] != "true" {
			from = pl.current()
		}
	}
	var found []*job
	for _, j := range slices.Backward(from) {
		if j.pipeline.project == r.project && !j.Bridge && (scope == nil || slices.Contains(scope, j.status)) {
			found = append(found, j)
		}
	}
	if r.in["pagination"] == "keyset" {
		found = r.keyset(found)
	} else {
		found = paginate(r, found)
	}
	out := []object{}
	for _, j := range found {
		out = append(out, r.w.jobObject(j))
	}
	return out, nil
}

func (w *World) jobObject(j *job) object {
	p := j.pipeline.project
	o := object{
		"id": j.id, "status": j.status, "stage": j.Stage, "name": j.Name, "ref": j.pipeline.ref.Name, "tag": j.pipeline.ref.Tag,
		"coverage": nil, "allow_failure": j.AllowFailure, "created_at": clock(j.created), "started_at": clock(j.started),
		"finished_at": clock(j.finished), "erased_at": nil, "duration": nil, "queued_duration": nil,
		"user": w.userObject(j.by.userID, j.by.username), "commit": commit(j.pipeline.sha),
		"pipeline": w.pipelineObject(j.pipeline), "web_url": w.webURL(p, "jobs/%d", j.id),
		"project": object{"ci_job_token_scope_enabled": false}, "artifacts": []any{}, "runner": nil, "tag_list": []any{},
	}
	if !j.started.IsZero() {
		o["queued_duration"] = j.started.Sub(j.created).Seconds()
		o["duration"] = w.now.Sub(j.started).Seconds()
	}
	if !j.finished.IsZero() && !j.started.IsZero() {
		o["duration"] = j.finished.Sub(j.started).Seconds()
	}
	if j.status == "failed" {
		o["failure_reason"] = "script_failure"
	}
	return o
}

func (r *request) job() (*job, error) {
	j, err := r.w.findJob(r.number("job"))
	if err != nil || j.pipeline.project != r.project {
		return nil, message(http.StatusNotFound, "404 Not found")
	}
	return j, nil
}

func showJob(r *request) (any, error) {
	j, err := r.job()
	if err != nil {
		return nil, err
	}
	if j.Bridge { // find_build! of lib/api/ci/jobs.rb
		return nil, message(http.StatusNotFound, "404 Not found")
	}
	return r.w.jobObject(j), nil
}

func postPlay(r *request) (any, error) {
	j, err := r.job()
	if err != nil {
		return nil, err
	}
	if err := r.w.play(j); err != nil {
		return nil, err
	}
	return r.w.jobObject(j), nil
}

func postRetry(r *request) (any, error) {
	j, err := r.job()
	if err != nil {
		return nil, err
	}
	r.w.judgeRetry(r.caller, j)
	next, err := r.w.retryJob(r.project, r.token, j)
	if err != nil {
		return nil, err
	}
	return r.w.jobObject(next), nil
}

// listDeployments: the oldest first, unless asked otherwise (GitLab
// lib/api/deployments.rb).
func listDeployments(r *request) (any, error) {
	var found []*deployment
	r.caller.looksAtLive(r.project, r.in["environment"])
	for _, d := range r.w.deployments {
		if d.job.pipeline.project != r.project ||
			r.in["environment"] != "" && r.in["environment"] != d.environment.name ||
			r.in["status"] != "" && r.in["status"] != d.status() {
			continue
		}
		found = append(found, d)
	}
	if r.in["order_by"] == "updated_at" {
		slices.SortStableFunc(found, func(a, b *deployment) int { return a.updated.Compare(b.updated) })
	}
	if r.in["sort"] == "desc" {
		slices.Reverse(found)
	}
	out := []object{}
	for _, d := range paginate(r, found) {
		out = append(out, r.w.deploymentObject(d))
	}
	return out, nil
}

func (w *World) deploymentObject(d *deployment) object {
	pl := d.job.pipeline
	o := object{
		"id": d.id, "iid": d.iid, "ref": pl.ref.Name, "sha": pl.sha, "status": d.status(),
		"created_at": clock(d.created), "updated_at": clock(d.updated), "user": w.userObject(pl.userID, pl.username),
		"environment": object{"id": d.environment.id, "name": d.environment.name, "slug": d.environment.name, "external_url": nil},
		"deployable":  w.jobObject(d.job),
	}
	if d.jobless {
		o["deployable"] = nil
	}
	return o
}

func (e *environment) object() object {
	state := "available"
	if e.stopped {
		state = "stopped"
	}
	return object{"id": e.id, "name": e.name, "slug": e.name, "state": state, "external_url": nil}
}

func listEnvironments(r *request) (any, error) {
	var found []*environment
	for _, e := range r.project.environments {
		if r.in["name"] == "" || r.in["name"] == e.name {
			found = append(found, e)
		}
	}
	out := []object{}
	for _, e := range paginate(r, found) {
		out = append(out, e.object())
	}
	return out, nil
}

func showEnvironment(r *request) (any, error) {
	for _, e := range r.project.environments {
		if e.id != r.number("environment") {
			continue
		}
		o := e.object()
		o["last_deployment"] = nil
		if d := r.w.live(r.project, e.name, r.w.seq); d != nil {
			o["last_deployment"] = r.w.deploymentObject(d)
		}
		return o, nil
	}
	return nil, message(http.StatusNotFound, "404 Not found")
}
