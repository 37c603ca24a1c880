package sandbox

import (
	"maps"
	"net/http"
	"slices"
	"time"
)

// Schedule is a pipeline schedule of a project.
type Schedule struct {
	Description string
	Ref         string
	Inactive    bool
	// Owner is the name of a token whose user owns it; "" is somebody else.
	Owner     string
	Variables map[string]string
}

type schedule struct {
	Schedule
	id int64
}

// AddSchedule makes a pipeline schedule.
func (w *World) AddSchedule(projectID int64, s Schedule) (id int64) {
	defer w.enter()()
	made := &schedule{s, w.id("schedule")}
	p := w.mustProject(projectID)
	p.schedules = append(p.schedules, made)
	return made.id
}

// RunSchedule starts the pipeline of a schedule, as when its time has come.
func (w *World) RunSchedule(projectID, id int64) (pipelineID int64) {
	defer w.enter()()
	p := w.mustProject(projectID)
	i := slices.IndexFunc(p.schedules, func(s *schedule) bool { return s.id == id })
	if i < 0 {
		panic("sandbox: there is no such schedule")
	}
	ref, _ := p.ref(p.schedules[i].Ref)
	pl := w.newPipeline(p, ref, origin{"schedule", "somebody", 1}, p.nextOutcome(), p.Pipeline)
	pl.schedule = p.schedules[i]
	return pl.id
}

// lookingEndpoints are what a look at a project reads beside what a rotation does.
func lookingEndpoints() map[string]endpoint {
	return map[string]endpoint{
		"GET /api/v4/metadata":                                    {"metadata", 0, 200, showMetadata},
		"GET /api/v4/version":                                     {"version", 0, 200, showMetadata},
		"GET /api/v4/projects/{id}/ci/lint":                       {"lint", Reporter, 200, lintProject},
		"GET /api/v4/projects/{id}/pipeline_schedules":            {"schedules", Reporter, 200, listSchedules},
		"GET /api/v4/projects/{id}/pipeline_schedules/{pipeline}": {"schedule", Reporter, 200, showSchedule},
	}
}

// gitlabVersion is the release that the world is, unless OldGitLab is in front of it.
const gitlabVersion = "18.5.0-ee"

// showMetadata: everybody with a token may ask (GitLab lib/api/metadata.rb).
func showMetadata(r *request) (any, error) {
	if err := r.token.inScope(false); err != nil {
		return nil, err
	}
	return object{
		"version": gitlabVersion, "revision": "ceb07b24cb0", "enterprise": true,
		"kas": object{"enabled": false, "externalUrl": nil, "externalK8sProxyUrl": nil, "version": nil},
	}, nil
}

// listSchedules: without their variables (GitLab
// lib/api/entities/ci/pipeline_schedule.rb).
func listSchedules(r *request) (any, error) {
	var found []*schedule
	for _, s := range r.project.schedules {
		if scope := r.in["scope"]; scope == "" || (scope == "inactive") == s.Inactive {
			found = append(found, s)
		}
	}
	out := []object{}
	for _, s := range paginate(r, found) {
		out = append(out, r.w.scheduleObject(s))
	}
	return out, nil
}

func (w *World) scheduleObject(s *schedule) object {
	return object{
		"id": s.id, "description": s.Description, "ref": s.Ref, "cron": "0 1 * * *", "cron_timezone": "UTC",
		"next_run_at": clock(w.now.Add(time.Hour)), "active": !s.Inactive, "created_at": clock(w.now), "updated_at": clock(w.now),
		"owner": w.userObject(1, "somebody"), "inputs": []any{},
	}
}

// showSchedule shows the variables to who may read them: a Maintainer, and the owner
// from Developer (GitLab app/policies/ci/pipeline_schedule_policy.rb,
// read_pipeline_schedule_variables).
func showSchedule(r *request) (any, error) {
	for _, s := range r.project.schedules {
		if s.id != r.number("pipeline") {
			continue
		}
		o := r.w.scheduleObject(s)
		o["last_pipeline"] = nil
		role := r.token.Roles[r.project.ID]
		if role >= Maintainer || role >= Developer && s.Owner != "" && s.Owner == r.token.Name {
			list := []object{}
			for _, key := range slices.Sorted(maps.Keys(s.Variables)) {
				list = append(list, object{"key": key, "value": s.Variables[key], "variable_type": "env_var", "raw": false})
			}
			o["variables"] = list
		}
		return o, nil
	}
	return nil, message(http.StatusNotFound, "404 Pipeline Schedule Not Found")
}
