package rotator

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// The ways to redeploy.
const (
	RedeployPipeline   = "pipeline"
	RedeployDeployment = "deployment"
	RedeployNone       = "none"
)

// FallbackLiveCommit is the other fallback than RedeployPipeline: a pipeline at the
// commit that is live, on a tag that is removed again.
const FallbackLiveCommit = "live_commit"

// Request asks for one user's key to be rotated. It is the event, the command's
// flags and the journal's copy.
type Request struct {
	User string `json:"user"`
	// Target is the place of the short form; it is empty with Destinations.
	Target
	Destinations []Target `json:"destinations,omitempty"`
	MaxAgeDays   int      `json:"max_age_days"`
	LeadDays     int      `json:"lead_days"`
	OverlapHours int      `json:"overlap_hours"`
	SoakHours    int      `json:"soak_hours"`
	Force        bool     `json:"force"`
	RetireKey    string   `json:"retire_key"`
	// CallerJobID is the CI job that asks for this rotation and waits for it: it holds
	// the old key and does not use it. 0: no job does.
	CallerJobID int64 `json:"caller_job_id"`
}

// Target is a place that the pair is published to, and how it is brought from there
// to what uses it.
type Target struct {
	ProjectID               int64  `json:"project_id"`
	GroupID                 int64  `json:"group_id,omitempty"` // instead of a project
	EnvironmentScope        string `json:"environment_scope"`
	AccessKeyIDVariable     string `json:"access_key_id_variable"`
	SecretAccessKeyVariable string `json:"secret_access_key_variable"`
	// CredentialsFileVariable is a variable of type file, which holds the pair as
	// Profile of a credentials file, instead of the two variables above.
	CredentialsFileVariable string `json:"credentials_file_variable,omitempty"`
	Profile                 string `json:"profile,omitempty"`
	AllowUnmasked           bool   `json:"allow_unmasked,omitempty"` // GitLab cannot mask a file
	Way
	// Redeploys are several ways, in order, instead of the one above. Those of a group
	// say their project.
	Redeploys []ProjectWay `json:"redeploys,omitempty"`
}

// Way is how what is published is brought to what uses it.
type Way struct {
	Redeploy    string         `json:"redeploy"`
	Ref         string         `json:"ref"`         // "": the project's default branch
	Environment string         `json:"environment"` // "": the pipeline's success is the proof
	Fallback    string         `json:"fallback"`
	Inputs      map[string]any `json:"inputs,omitempty"` // of the pipeline
}

// ProjectWay is a way that says its project; 0 is the project of its target.
type ProjectWay struct {
	ProjectID int64 `json:"project_id,omitempty"`
	Way
}

// Turn is one redeploy of a rotation: they are done one after the other, in order.
type Turn struct {
	Target int // for which of Request.Targets
	ProjectWay
}

// DefaultRequest is a request in which only User and ProjectID are missing.
func DefaultRequest() Request {
	return Request{Target: DefaultTarget(), MaxAgeDays: 90, LeadDays: 7}
}

// DefaultTarget is a target in which only ProjectID or GroupID is missing.
func DefaultTarget() Target {
	return Target{
		EnvironmentScope:        "*",
		AccessKeyIDVariable:     "AWS_ACCESS_KEY_ID",
		SecretAccessKeyVariable: "AWS_SECRET_ACCESS_KEY",
		Way:                     Way{Redeploy: RedeployPipeline},
	}
}

// Targets are the places of a request, at least one.
func (r Request) Targets() []Target {
	if len(r.Destinations) > 0 {
		return r.Destinations
	}
	return []Target{r.Target}
}

// Turns are the redeploys of a request, in order, at least one; that of a target which is
// only published to is RedeployNone.
func (r Request) Turns() []Turn {
	var turns []Turn
	for i, t := range r.Targets() {
		for _, way := range t.ways() {
			turns = append(turns, Turn{Target: i, ProjectWay: way})
		}
	}
	return turns
}

// project is the one that a request is first about: of a group, the first to be redeployed.
func (r Request) project() int64 {
	return cmp.Or(r.Targets()[0].ProjectID, r.Turns()[0].ProjectID)
}

// Places are where the request's pair is published.
func (r Request) Places() []Place {
	var places []Place
	for _, t := range r.Targets() {
		places = append(places, t.Place())
	}
	return places
}

// Place is where the target's pair is published.
func (t Target) Place() Place {
	if t.CredentialsFileVariable != "" {
		return Place{
			ProjectID: t.ProjectID, GroupID: t.GroupID, EnvironmentScope: t.EnvironmentScope,
			File: t.CredentialsFileVariable, Profile: orElse(t.Profile, "default"),
		}
	}
	return Place{
		ProjectID: t.ProjectID, GroupID: t.GroupID, EnvironmentScope: t.EnvironmentScope,
		KeyIDVariable: t.AccessKeyIDVariable, SecretVariable: t.SecretAccessKeyVariable,
	}
}

// ways are how the target is redeployed, each with its project.
func (t Target) ways() []ProjectWay {
	if len(t.Redeploys) == 0 {
		return []ProjectWay{{ProjectID: t.ProjectID, Way: t.Way}}
	}
	ways := slices.Clone(t.Redeploys)
	for i := range ways {
		ways[i].ProjectID = cmp.Or(ways[i].ProjectID, t.ProjectID)
	}
	return ways
}

// runsPipeline tells whether a pipeline may be run on the way's ref, or shows by it that
// protected variables are wanted.
func (w Way) runsPipeline() bool {
	return w.Redeploy != RedeployDeployment || w.Fallback == RedeployPipeline
}

// RequestError is everything that is wrong with a request, at once.
type RequestError struct{ Faults []string }

// maxFaults keeps the error about a megabyte of nonsense readable.
const maxFaults = 20

func (e *RequestError) Error() string { return "the request is wrong: " + e.List() }

// List is the faults, without saying what they are of.
func (e *RequestError) List() string {
	faults, more := e.Faults, ""
	if len(faults) > maxFaults {
		more = fmt.Sprintf("; and %d more", len(faults)-maxFaults)
		faults = faults[:maxFaults]
	}
	return strings.Join(faults, "; ") + more
}

// isMadeOf tells whether s has least to most characters, all of them letters, digits
// or among others. (A regular expression with such counts costs more to compile than
// the function's whole start.)
func isMadeOf(s, others string, least, most int) bool {
	return len(s) >= least && len(s) <= most && !strings.ContainsFunc(s, func(c rune) bool {
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		digit := '0' <= c && c <= '9'
		return !letter && !digit && !strings.ContainsRune(others, c)
	})
}

// isUserName: IAM API reference, User.UserName.
func isUserName(s string) bool { return isMadeOf(s, "_+=,.@-", 1, 64) }

// isVariableName: GitLab, Ci::Variable.
func isVariableName(s string) bool { return isMadeOf(s, "_", 1, 255) }

// isKeyID: IAM API reference, AccessKeyId.
func isKeyID(s string) bool { return isMadeOf(s, "_", 16, 128) }

// isAccessKeyID: what IAM gives to long-lived keys. It never matches a secret.
func isAccessKeyID(s string) bool {
	return strings.HasPrefix(s, "AKIA") && isKeyID(s) && s == strings.ToUpper(s)
}

// Validate finds every fault that can be found without a remote call. Its error
// is a *RequestError.
func (r Request) Validate() error {
	var f faults
	f.must(r.User != "", "user is missing: the name of the IAM user whose key is to be rotated")
	f.must(r.User == "" || isUserName(r.User), "user %s is no name that IAM allows: 1 to 64 of A-Z a-z 0-9 _ + = , . @ -", quoted(r.User))
	r.validateTargets(&f)
	f.must(r.MaxAgeDays >= 1 && r.MaxAgeDays <= 365, "max_age_days must be 1 to 365, not %d", r.MaxAgeDays)
	f.must(r.LeadDays >= 0 && r.LeadDays < max(r.MaxAgeDays, 1), "lead_days must be 0 to max_age_days - 1 (%d), not %d", max(r.MaxAgeDays-1, 0), r.LeadDays)
	f.must(isHours(r.OverlapHours), "overlap_hours must be 0 to 720, not %d", r.OverlapHours)
	f.must(isHours(r.SoakHours), "soak_hours must be 0 to 720, not %d", r.SoakHours)
	f.must(r.RetireKey == "" || isKeyID(r.RetireKey), "retire_key must be an access key id, such as AKIA…")
	f.must(r.CallerJobID >= 0, "caller_job_id must be the id of the CI job that asks, or 0 for none, not %d", r.CallerJobID)
	f.must(!r.onlyPublishes() || r.OverlapHours >= 1, `overlap_hours must be at least 1 with redeploy "none": nothing else tells when the service has the new key`)
	if len(f.all) > 0 {
		return &RequestError{f.all}
	}
	return nil
}

// faults gathers what is wrong; within is the part of the request that it is about.
type faults struct {
	all    []string
	within string
}

func (f *faults) must(ok bool, format string, args ...any) {
	if !ok {
		f.all = append(f.all, f.within+fmt.Sprintf(format, args...))
	}
}

// onlyPublishes tells whether some target is not redeployed.
func (r Request) onlyPublishes() bool {
	return slices.ContainsFunc(r.Turns(), func(t Turn) bool { return t.Redeploy == RedeployNone })
}

// maxTargets bounds destinations, and the redeploys of each: a key in more places than
// a person can list by heart should be several keys.
const maxTargets = 20

func (r Request) validateTargets(f *faults) {
	if len(r.Destinations) == 0 {
		r.validate(f)
		return
	}
	f.must(reflect.DeepEqual(r.Target, Target{}) || reflect.DeepEqual(r.Target, DefaultTarget()),
		"project_id and all that is about one place belong into each of the destinations, not beside them")
	if len(r.Destinations) > maxTargets { // each is compared with all others
		f.must(false, "destinations must be at most %d", maxTargets)
		return
	}
	for i, t := range r.Destinations {
		f.within = fmt.Sprintf("destinations[%d].", i)
		t.validate(f)
		for j, other := range r.Destinations[:i] {
			f.must(!t.Place().overlaps(other.Place()), "project_id, or its variables, are those of destinations[%d]: name each place once", j)
		}
	}
	f.within = ""
}

func (t Target) validate(f *faults) {
	f.must(t.ProjectID > 0 || t.GroupID != 0, "project_id is missing or not above 0: the number on the GitLab project's page")
	f.must(t.GroupID >= 0, "group_id must be the number on the GitLab group's page, not %d", t.GroupID)
	f.must(t.ProjectID == 0 || t.GroupID == 0, "group_id and project_id are two places: name one, and the projects of a group in its redeploys")
	f.must(isText(t.EnvironmentScope) && t.EnvironmentScope != "", "environment_scope must be 1 to 255 printable characters; * is every environment")
	f.must(isVariableName(t.AccessKeyIDVariable), "access_key_id_variable must be 1 to 255 of A-Z a-z 0-9 _")
	f.must(isVariableName(t.SecretAccessKeyVariable), "secret_access_key_variable must be 1 to 255 of A-Z a-z 0-9 _")
	f.must(t.AccessKeyIDVariable != t.SecretAccessKeyVariable, "access_key_id_variable and secret_access_key_variable must differ")
	t.validateFile(f)
	if len(t.Redeploys) == 0 {
		t.Way.validate(f)
		f.must(t.GroupID == 0 || t.Redeploy == RedeployNone, "redeploys is missing: a group has no pipelines, so say which of its projects are redeployed, and how")
		return
	}
	alone := t.Ref == "" && t.Environment == "" && t.Fallback == "" && len(t.Inputs) == 0 && (t.Redeploy == RedeployPipeline || t.Redeploy == "")
	f.must(alone, "redeploys stands instead of redeploy, ref, environment, fallback and inputs: say them in each")
	f.must(len(t.Redeploys) <= maxTargets, "redeploys must be at most %d", maxTargets)
	within := f.within
	for i, w := range t.Redeploys {
		f.within = fmt.Sprintf("%sredeploys[%d].", within, i)
		f.must(w.ProjectID > 0 || w.ProjectID == 0 && t.GroupID == 0, "project_id is missing or not above 0: the project of the group that is redeployed")
		f.must(t.GroupID != 0 || w.ProjectID == 0 || w.ProjectID == t.ProjectID, "project_id must be that of its place, or left out: what is published to one project does not reach another")
		w.validate(f)
	}
	f.within = within
}

func (t Target) validateFile(f *faults) {
	f.must(t.CredentialsFileVariable == "" || isVariableName(t.CredentialsFileVariable), "credentials_file_variable must be 1 to 255 of A-Z a-z 0-9 _")
	f.must(t.CredentialsFileVariable == "" || t.AllowUnmasked, "allow_unmasked must be true with credentials_file_variable: GitLab masks single lines only, so a job that prints the file shows the secret in its log")
	f.must(t.CredentialsFileVariable != "" || t.Profile == "" && !t.AllowUnmasked, "profile and allow_unmasked go with credentials_file_variable")
	f.must(isMadeOf(t.Profile, "_-./+=@", 0, 64), "profile must be at most 64 of A-Z a-z 0-9 _ - . / + = @")
}

func (w Way) validate(f *faults) {
	known := w.Redeploy == RedeployPipeline || w.Redeploy == RedeployDeployment || w.Redeploy == RedeployNone
	f.must(known, `redeploy must be "pipeline", "deployment" or "none", not %s`, quoted(w.Redeploy))
	f.must(w.Redeploy != RedeployDeployment || w.Environment != "", `environment is missing: redeploy "deployment" redeploys what is live there`)
	name := isText(w.Ref) && !strings.ContainsAny(w.Ref, " ~^:?*[\\") && !strings.HasPrefix(w.Ref, "-")
	f.must(name, "ref must be the name of a branch or tag, not %s", quoted(w.Ref))
	f.must(isText(w.Environment), "environment must be at most 255 printable characters")
	fallback := w.Fallback == "" || w.Redeploy == RedeployDeployment && (w.Fallback == RedeployPipeline || w.Fallback == FallbackLiveCommit)
	f.must(fallback, `fallback must be "" or, with redeploy "deployment", "pipeline" or "live_commit", not %s`, quoted(w.Fallback))
	f.must(len(w.Inputs) == 0 || w.Redeploy == RedeployPipeline || w.Fallback != "", `inputs go with a pipeline: a job that is retried keeps those that it had`)
}

func isHours(n int) bool { return n >= 0 && n <= 720 }

func isText(s string) bool {
	return utf8.RuneCountInString(s) <= 255 && !strings.ContainsFunc(s, func(c rune) bool { return !unicode.IsPrint(c) })
}

// quoted shows a value that somebody got wrong, cut to what a line can hold.
func quoted(s string) string {
	if runes := []rune(s); len(runes) > 64 {
		s = string(runes[:64]) + "…"
	}
	return fmt.Sprintf("%q", s)
}
