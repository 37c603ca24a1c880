package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"credential-rotator/rotator"
)

// What is asked for, in words.

// placesOf are the owners of places, each once: "project 4711, group 9".
func placesOf(places []rotator.Place) string {
	var owners []string
	for _, p := range places {
		if !slices.Contains(owners, p.Owner()) {
			owners = append(owners, p.Owner())
		}
	}
	return strings.Join(owners, ", ")
}

// wayWords say what a redeploy does, to somebody who has not read the README.
func wayWords(w rotator.ProjectWay, overlapHours int) string {
	ref := orOther(w.Ref, "the default branch")
	switch w.Redeploy {
	case rotator.RedeployNone:
		return fmt.Sprintf("nothing is redeployed: both keys work for %d h, in which the service has to fetch the new one", overlapHours)
	case rotator.RedeployDeployment:
		words := fmt.Sprintf("what is live in %s of project %d is deployed again, by a retry of its job", w.Environment, w.ProjectID)
		switch w.Fallback {
		case rotator.RedeployPipeline:
			words += fmt.Sprintf("; where that cannot be, a pipeline on %s is run", ref)
		case rotator.FallbackLiveCommit:
			words += "; where that cannot be, a pipeline at the live commit is run, on a tag that is removed again"
		}
		return words
	}
	words := fmt.Sprintf("a pipeline is run on %s of project %d", ref, w.ProjectID)
	if len(w.Inputs) > 0 {
		words += " with the inputs " + strings.Join(slices.Sorted(maps.Keys(w.Inputs)), ", ")
	}
	if w.Environment == "" {
		return words + ", and has to succeed"
	}
	return words + ", and its deployment to " + w.Environment + " has to succeed"
}

// wayName is a redeploy in few words, where it is one of a list.
func wayName(w rotator.ProjectWay) string {
	switch w.Redeploy {
	case rotator.RedeployNone:
		return "nothing is redeployed"
	case rotator.RedeployDeployment:
		return fmt.Sprintf("what is live in %s of project %d", w.Environment, w.ProjectID)
	}
	name := fmt.Sprintf("pipeline on %s of project %d", orOther(w.Ref, "the default branch"), w.ProjectID)
	if w.Environment != "" {
		name += ", deployment to " + w.Environment
	}
	return name
}

// retiringWords say what becomes of the old key.
func retiringWords(r rotator.Request) string {
	words := "Then the old key is deactivated and deleted"
	if r.OverlapHours > 0 {
		words = fmt.Sprintf("Then both keys work for %d h, and the old one is deactivated and deleted", r.OverlapHours)
	}
	if r.SoakHours > 0 {
		words = strings.TrimSuffix(words, " and deleted") + fmt.Sprintf(" and, %d h later, deleted", r.SoakHours)
	}
	return words + "."
}

// asFlags are the fields of a request that are not as by default, as the flags that say so.
func asFlags(r rotator.Request) string {
	var all []string
	text := func(field, value, usual string) {
		if value != usual {
			all = append(all, "--"+flagOf(field)+" "+value)
		}
	}
	number := func(field string, n, usual int64) { text(field, fmt.Sprint(n), fmt.Sprint(usual)) }
	usual := rotator.DefaultRequest()
	if n := len(r.Destinations); n > 0 {
		all = append(all, "--destinations ("+count(n, "place")+", above)")
	} else {
		number("project_id", r.ProjectID, 0)
		number("group_id", r.GroupID, 0)
		text("environment_scope", r.EnvironmentScope, usual.EnvironmentScope)
		text("access_key_id_variable", r.AccessKeyIDVariable, usual.AccessKeyIDVariable)
		text("secret_access_key_variable", r.SecretAccessKeyVariable, usual.SecretAccessKeyVariable)
		text("credentials_file_variable", r.CredentialsFileVariable, "")
		text("profile", r.Profile, "")
		if r.AllowUnmasked {
			all = append(all, "--allow-unmasked")
		}
		text("redeploy", r.Redeploy, usual.Redeploy)
		text("ref", r.Ref, "")
		text("environment", r.Environment, "")
		text("fallback", r.Fallback, "")
		if n := len(r.Redeploys); n > 0 {
			all = append(all, "--redeploys ("+fmt.Sprint(n)+", above)")
		}
	}
	number("max_age_days", int64(r.MaxAgeDays), int64(usual.MaxAgeDays))
	number("lead_days", int64(r.LeadDays), int64(usual.LeadDays))
	number("overlap_hours", int64(r.OverlapHours), 0)
	number("soak_hours", int64(r.SoakHours), 0)
	text("retire_key", r.RetireKey, "")
	number("caller_job_id", r.CallerJobID, 0)
	return strings.Join(all, " ")
}
