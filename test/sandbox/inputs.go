package sandbox

import (
	"net/http"
	"slices"
	"strings"
)

// Inputs of pipelines (GitLab, CI/CD inputs).

// baseFault is the refusal of a whole object, a variable or a pipeline: 400.
func baseFault(fault string) error {
	return message(http.StatusBadRequest, map[string][]string{"base": {fault}})
}

// inputsFault says what is wrong with the inputs that a pipeline is given, "" when
// nothing is: what is given is declared, and what has no default is given (GitLab
// lib/gitlab/ci/config/interpolation/inputs.rb and text_interpolator.rb, which tells of
// three faults at most; the name of the file is from external/file/base.rb).
func (p *project) inputsFault(given map[string]string) string {
	const file = "`.gitlab-ci.yml`: "
	if len(p.Inputs) == 0 && len(given) > 0 {
		return file + "Given inputs not defined in the `spec` section of the included configuration file"
	}
	declared := map[string]bool{}
	var missing []string
	for _, input := range p.Inputs {
		name, _, optional := strings.Cut(input, "=")
		declared[name] = true
		if _, ok := given[name]; !ok && !optional {
			missing = append(missing, "`"+name+"` input: required value has not been provided")
		}
	}
	var unknown, faults []string
	for name := range given {
		if !declared[name] {
			unknown = append(unknown, name)
		}
	}
	if len(unknown) > 0 {
		slices.Sort(unknown)
		faults = append(faults, "unknown input arguments: "+strings.Join(unknown, ", "))
	}
	if faults = append(faults, missing...); len(faults) == 0 {
		return ""
	}
	return file + strings.Join(faults[:min(3, len(faults))], ", ")
}

// jobsWith are the project's jobs with inputs put in.
func (p *project) jobsWith(given map[string]string) []JobSpec {
	var pairs []string
	for _, input := range p.Inputs {
		name, value, _ := strings.Cut(input, "=")
		if v, ok := given[name]; ok {
			value = v
		}
		pairs = append(pairs, "$[[ inputs."+name+" ]]", value)
	}
	put := strings.NewReplacer(pairs...)
	jobs := slices.Clone(p.Pipeline)
	for i, j := range jobs {
		jobs[i].Name, jobs[i].Stage, jobs[i].Environment = put.Replace(j.Name), put.Replace(j.Stage), put.Replace(j.Environment)
	}
	return jobs
}
