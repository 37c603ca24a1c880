package rotator

import (
	"fmt"
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

// Request asks for one user's key to be rotated. It is the event, the command's
// flags and the journal's copy.
type Request struct {
	User                    string `json:"user"`
	ProjectID               int64  `json:"project_id"`
	EnvironmentScope        string `json:"environment_scope"`
	AccessKeyIDVariable     string `json:"access_key_id_variable"`
	SecretAccessKeyVariable string `json:"secret_access_key_variable"`
	Redeploy                string `json:"redeploy"`
	Ref                     string `json:"ref"`         // "": the project's default branch
	Environment             string `json:"environment"` // "": the pipeline's success is the proof
	Fallback                string `json:"fallback"`
	MaxAgeDays              int    `json:"max_age_days"`
	LeadDays                int    `json:"lead_days"`
	OverlapHours            int    `json:"overlap_hours"`
	SoakHours               int    `json:"soak_hours"`
	Force                   bool   `json:"force"`
	RetireKey               string `json:"retire_key"`
	// CallerJobID is the CI job that asks for this rotation and waits for it: it holds
	// the old key and does not use it. 0: no job does.
	CallerJobID int64 `json:"caller_job_id"`
}

// DefaultRequest is a request in which only User and ProjectID are missing.
func DefaultRequest() Request {
	return Request{
		EnvironmentScope:        "*",
		AccessKeyIDVariable:     "AWS_ACCESS_KEY_ID",
		SecretAccessKeyVariable: "AWS_SECRET_ACCESS_KEY",
		Redeploy:                RedeployPipeline,
		MaxAgeDays:              90,
		LeadDays:                7,
	}
}

// Place is where the request's pair is published.
func (r Request) Place() Place {
	return Place{
		ProjectID:        r.ProjectID,
		EnvironmentScope: r.EnvironmentScope,
		KeyIDVariable:    r.AccessKeyIDVariable,
		SecretVariable:   r.SecretAccessKeyVariable,
	}
}

// runsPipeline tells whether the request lets a pipeline be run on the ref, or shows by
// it that protected variables are wanted.
func (r Request) runsPipeline() bool {
	return r.Redeploy != RedeployDeployment || r.Fallback == RedeployPipeline
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
	var faults []string
	must := func(ok bool, format string, args ...any) {
		if !ok {
			faults = append(faults, fmt.Sprintf(format, args...))
		}
	}
	must(r.User != "", "user is missing: the name of the IAM user whose key is to be rotated")
	must(r.User == "" || isUserName(r.User), "user %s is no name that IAM allows: 1 to 64 of A-Z a-z 0-9 _ + = , . @ -", quoted(r.User))
	must(r.ProjectID > 0, "project_id is missing or not above 0: the number on the GitLab project's page")
	must(isText(r.EnvironmentScope) && r.EnvironmentScope != "", "environment_scope must be 1 to 255 printable characters; * is every environment")
	must(isVariableName(r.AccessKeyIDVariable), "access_key_id_variable must be 1 to 255 of A-Z a-z 0-9 _")
	must(isVariableName(r.SecretAccessKeyVariable), "secret_access_key_variable must be 1 to 255 of A-Z a-z 0-9 _")
	must(r.AccessKeyIDVariable != r.SecretAccessKeyVariable, "access_key_id_variable and secret_access_key_variable must differ")
	must(r.MaxAgeDays >= 1 && r.MaxAgeDays <= 365, "max_age_days must be 1 to 365, not %d", r.MaxAgeDays)
	must(r.LeadDays >= 0 && r.LeadDays < max(r.MaxAgeDays, 1), "lead_days must be 0 to max_age_days - 1 (%d), not %d", max(r.MaxAgeDays-1, 0), r.LeadDays)
	must(isHours(r.OverlapHours), "overlap_hours must be 0 to 720, not %d", r.OverlapHours)
	must(isHours(r.SoakHours), "soak_hours must be 0 to 720, not %d", r.SoakHours)
	must(r.RetireKey == "" || isKeyID(r.RetireKey), "retire_key must be an access key id, such as AKIA…")
	must(r.CallerJobID >= 0, "caller_job_id must be the id of the CI job that asks, or 0 for none, not %d", r.CallerJobID)
	faults = append(faults, r.redeployFaults()...)
	if len(faults) > 0 {
		return &RequestError{faults}
	}
	return nil
}

func (r Request) redeployFaults() []string {
	var faults []string
	switch r.Redeploy {
	case RedeployPipeline, RedeployDeployment:
	case RedeployNone:
		if r.OverlapHours < 1 {
			faults = append(faults, `overlap_hours must be at least 1 with redeploy "none": nothing else tells when the service has the new key`)
		}
	default:
		faults = append(faults, `redeploy must be "pipeline", "deployment" or "none", not `+quoted(r.Redeploy))
	}
	if r.Redeploy == RedeployDeployment && r.Environment == "" {
		faults = append(faults, `environment is missing: redeploy "deployment" redeploys what is live there`)
	}
	if !isText(r.Ref) || strings.ContainsAny(r.Ref, " ~^:?*[\\") || strings.HasPrefix(r.Ref, "-") {
		faults = append(faults, "ref must be the name of a branch or tag, not "+quoted(r.Ref))
	}
	if !isText(r.Environment) {
		faults = append(faults, "environment must be at most 255 printable characters")
	}
	if r.Fallback != "" && (r.Fallback != RedeployPipeline || r.Redeploy != RedeployDeployment) {
		faults = append(faults, `fallback must be "" or, with redeploy "deployment", "pipeline", not `+quoted(r.Fallback))
	}
	return faults
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
