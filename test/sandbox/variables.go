package sandbox

import (
	"net/http"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// Variable is a CI/CD variable of a project.
type Variable struct {
	Key              string
	Value            string
	Description      string
	EnvironmentScope string // "" is *
	Type             string // "" is env_var
	Protected        bool
	Masked           bool
	Hidden           bool
	Raw              bool
}

type variable struct {
	Variable
	written  int  // when, on World.seq
	byPerson bool // who
}

// change is what a request says about a variable; nil is what it does not mention.
type change struct {
	Value, Description, Scope, Type         *string
	Protected, Masked, MaskedAndHidden, Raw *bool
}

var (
	variableKey  = regexp.MustCompile(`\A[a-zA-Z0-9_]+\z`)
	maskable     = regexp.MustCompile(`\A[a-zA-Z0-9_+=/@:.~-]{8,}\z`)
	maskableRaw  = regexp.MustCompile(`\A\S{8,}\z`)
	variableType = regexp.MustCompile(`\A(env_var|file)\z`)
)

// maxVariables of a project (GitLab, Limits of CI/CD variables).
const maxVariables = 8000

// findVariable finds the one variable of a key; a scope is compared as it is
// written, wildcards mean nothing here (GitLab app/finders/ci/variables_finder.rb,
// lib/api/helpers/variables_helpers.rb).
func (p *project) findVariable(key, scope string) (*variable, error) {
	var found []*variable
	for _, v := range p.variables {
		if v.Key == key && (scope == "" || v.EnvironmentScope == scope) {
			found = append(found, v)
		}
	}
	switch len(found) {
	case 0:
		return nil, message(http.StatusNotFound, "404 Variable Not Found")
	case 1:
		return found[0], nil
	}
	return nil, message(http.StatusConflict, "There are multiple variables with provided parameters. Please use 'filter[environment_scope]'")
}

// createVariable follows GitLab lib/api/ci/variables.rb: hidden can be chosen here
// and nowhere else.
func (w *World) createVariable(p *project, key string, c change, byPerson bool) (*variable, error) {
	v := variable{Variable: Variable{Key: key, EnvironmentScope: "*", Type: "env_var"}}
	c.applyTo(&v.Variable)
	if c.MaskedAndHidden != nil && *c.MaskedAndHidden {
		v.Masked, v.Hidden = true, true
	}
	if len(p.variables) >= maxVariables {
		return nil, message(http.StatusBadRequest, map[string][]string{"base": {"Maximum number of project ci variables (8000) exceeded"}})
	}
	if err := p.valid(v.Variable, nil); err != nil {
		return nil, err
	}
	v.written, v.byPerson = w.seq, byPerson
	p.variables = append(p.variables, &v)
	return &v, nil
}

// updateVariable changes what is sent and nothing else. What is hidden stays so.
func (w *World) updateVariable(p *project, v *variable, c change, byPerson bool) error {
	if v.Hidden && c.Masked != nil && !*c.Masked {
		return message(http.StatusBadRequest, map[string][]string{"base": {"The visibility setting cannot be changed for masked and hidden variables."}})
	}
	next := v.Variable
	c.applyTo(&next)
	if err := p.valid(next, v); err != nil {
		return err
	}
	*v = variable{Variable: next, written: w.seq, byPerson: byPerson}
	return nil
}

func (p *project) deleteVariable(gone *variable) {
	p.variables = slices.DeleteFunc(p.variables, func(v *variable) bool { return v == gone })
}

func (c change) applyTo(v *Variable) {
	set(&v.Value, c.Value)
	set(&v.Description, c.Description)
	set(&v.EnvironmentScope, c.Scope)
	set(&v.Type, c.Type)
	set(&v.Protected, c.Protected)
	set(&v.Masked, c.Masked)
	set(&v.Raw, c.Raw)
}

func set[T any](to *T, from *T) {
	if from != nil {
		*to = *from
	}
}

// valid are the rules of GitLab app/models/ci/variable.rb and
// app/models/concerns/ci/maskable.rb. but is the variable that is being changed.
func (p *project) valid(v Variable, but *variable) error {
	faults := map[string][]string{}
	if !variableKey.MatchString(v.Key) {
		faults["key"] = append(faults["key"], "can contain only letters, digits and '_'.")
	}
	if len(v.Key) > 255 {
		faults["key"] = append(faults["key"], "is too long (maximum is 255 characters)")
	}
	taken := func(o *variable) bool {
		return o != but && o.Key == v.Key && o.EnvironmentScope == v.EnvironmentScope
	}
	if slices.ContainsFunc(p.variables, taken) {
		faults["key"] = append(faults["key"], "("+v.Key+") has already been taken")
	}
	if v.Masked && !canBeMasked(v.Value, v.Raw) {
		faults["value"] = append(faults["value"], "is invalid")
	}
	if utf8.RuneCountInString(v.Description) > maxDescription {
		faults["description"] = append(faults["description"], "is too long (maximum is 255 characters)")
	}
	if !variableType.MatchString(v.Type) {
		return &gitlabError{http.StatusBadRequest, map[string]any{"error": "variable_type does not have a valid value"}}
	}
	if len(faults) > 0 {
		return message(http.StatusBadRequest, faults)
	}
	return nil
}

const maxDescription = 255

func canBeMasked(value string, raw bool) bool {
	if raw {
		return maskableRaw.MatchString(value)
	}
	return maskable.MatchString(value)
}

// variablesFor are the variables that a job gets that starts now: protected ones
// on protected refs only, and of several with one key that of the closest scope
// (GitLab, CI/CD variables, Environment scope of a variable).
func (p *project) variablesFor(environment string, protected bool) map[string]string {
	best := map[string]*variable{}
	for _, v := range p.variables {
		if v.Protected && !protected || !inScope(v.EnvironmentScope, environment) {
			continue
		}
		if old := best[v.Key]; old == nil || closeness(v.EnvironmentScope) > closeness(old.EnvironmentScope) {
			best[v.Key] = v
		}
	}
	env := map[string]string{}
	for key, v := range best {
		env[key] = v.Value
	}
	return env
}

// inScope tells whether an environment is meant by a scope, in which * stands for
// any characters. A job without an environment is meant by * alone.
func inScope(scope, environment string) bool {
	if scope == "*" {
		return true
	}
	if environment == "" {
		return false
	}
	parts := strings.Split(scope, "*")
	for i := range parts {
		parts[i] = regexp.QuoteMeta(parts[i])
	}
	return regexp.MustCompile(`\A` + strings.Join(parts, ".*") + `\z`).MatchString(environment)
}

// closeness orders the scopes that mean an environment: one without a wildcard
// first, then the one that says most.
func closeness(scope string) int {
	if !strings.Contains(scope, "*") {
		return 1000
	}
	return len(scope)
}
