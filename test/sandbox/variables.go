package sandbox

import (
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// Variable is a CI/CD variable of a project or a group.
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

// owner is what variables belong to: a project or a group.
type owner interface {
	own() *[]*variable
	// limit is how many there may be, and what they are called when there are too many
	// (GitLab, Limits of CI/CD variables).
	limit() (most int, kind string)
	// absent is the error for a variable that there is none of.
	absent() error
}

func (p *project) own() *[]*variable { return &p.variables }

func (*project) limit() (int, string) { return 8000, "project ci variables" }

func (*project) absent() error { return message(http.StatusNotFound, "404 Variable Not Found") }

// findVariable finds the one variable of a key; a scope is compared as it is
// written, wildcards mean nothing here (GitLab app/finders/ci/variables_finder.rb,
// lib/api/helpers/variables_helpers.rb).
func findVariable(o owner, key, scope string) (*variable, error) {
	var found []*variable
	for _, v := range *o.own() {
		if v.Key == key && (scope == "" || v.EnvironmentScope == scope) {
			found = append(found, v)
		}
	}
	switch len(found) {
	case 0:
		return nil, o.absent()
	case 1:
		return found[0], nil
	}
	return nil, message(http.StatusConflict, "There are multiple variables with provided parameters. Please use 'filter[environment_scope]'")
}

func (p *project) findVariable(key, scope string) (*variable, error) {
	return findVariable(p, key, scope)
}

// createVariable follows GitLab lib/api/ci/variables.rb and lib/api/group_variables.rb:
// hidden can be chosen here and nowhere else.
func (w *World) createVariable(o owner, key string, c change, byPerson bool) (*variable, error) {
	v := variable{Variable: Variable{Key: key, EnvironmentScope: "*", Type: "env_var"}}
	c.applyTo(&v.Variable)
	if c.MaskedAndHidden != nil && *c.MaskedAndHidden {
		v.Masked, v.Hidden = true, true
	}
	if most, kind := o.limit(); len(*o.own()) >= most {
		return nil, baseFault(fmt.Sprintf("Maximum number of %s (%d) exceeded", kind, most))
	}
	if err := valid(o, v.Variable, nil); err != nil {
		return nil, err
	}
	v.written, v.byPerson = w.seq, byPerson
	*o.own() = append(*o.own(), &v)
	return &v, nil
}

// updateVariable changes what is sent and nothing else. What is hidden stays so.
func (w *World) updateVariable(o owner, v *variable, c change, byPerson bool) error {
	if v.Hidden && c.Masked != nil && !*c.Masked {
		return baseFault("The visibility setting cannot be changed for masked and hidden variables.")
	}
	next := v.Variable
	c.applyTo(&next)
	if err := valid(o, next, v); err != nil {
		return err
	}
	*v = variable{Variable: next, written: w.seq, byPerson: byPerson}
	return nil
}

func deleteVariableOf(o owner, gone *variable) {
	*o.own() = slices.DeleteFunc(*o.own(), func(v *variable) bool { return v == gone })
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
func valid(o owner, v Variable, but *variable) error {
	faults := map[string][]string{}
	if !variableKey.MatchString(v.Key) {
		faults["key"] = append(faults["key"], "can contain only letters, digits and '_'.")
	}
	if len(v.Key) > 255 {
		faults["key"] = append(faults["key"], "is too long (maximum is 255 characters)")
	}
	taken := func(other *variable) bool {
		return other != but && other.Key == v.Key && other.EnvironmentScope == v.EnvironmentScope
	}
	if slices.ContainsFunc(*o.own(), taken) {
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
// (GitLab, CI/CD variables, Environment scope of a variable). The project's come before
// those of its groups, and the closest group's first, whatever their scopes (GitLab
// lib/gitlab/ci/variables/builder.rb, builder/group.rb).
func (p *project) variablesFor(environment string, protected bool) map[string]string {
	env := map[string]string{}
	for key, v := range p.reaching(environment, protected) {
		env[key] = v.Value
	}
	return env
}

// reaching is variablesFor with all that there is to a variable.
func (p *project) reaching(environment string, protected bool) map[string]*variable {
	all := map[string]*variable{}
	for _, g := range slices.Backward(p.groups) {
		maps.Copy(all, closest(g.variables, environment, protected))
	}
	maps.Copy(all, closest(p.variables, environment, protected))
	return all
}

// valueFor is what one of variablesFor is on a protected ref: the judge asks for two of
// them after every call.
func (p *project) valueFor(key, environment string) string {
	if v := closestOf(p.variables, key, environment); v != nil {
		return v.Value
	}
	for _, g := range p.groups {
		if v := closestOf(g.variables, key, environment); v != nil {
			return v.Value
		}
	}
	return ""
}

func closestOf(variables []*variable, key, environment string) *variable {
	var best *variable
	for _, v := range variables {
		if v.Key == key && inScope(v.EnvironmentScope, environment) && (best == nil || closeness(v.EnvironmentScope) > closeness(best.EnvironmentScope)) {
			best = v
		}
	}
	return best
}

func closest(variables []*variable, environment string, protected bool) map[string]*variable {
	best := map[string]*variable{}
	for _, v := range variables {
		if v.Protected && !protected || !inScope(v.EnvironmentScope, environment) {
			continue
		}
		if old := best[v.Key]; old == nil || closeness(v.EnvironmentScope) > closeness(old.EnvironmentScope) {
			best[v.Key] = v
		}
	}
	return best
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
	return wildcard(scope, environment)
}

// wildcard tells whether a name is meant by a pattern, in which * stands for any
// characters.
func wildcard(pattern, name string) bool {
	parts := strings.Split(pattern, "*")
	for i := range parts {
		parts[i] = regexp.QuoteMeta(parts[i])
	}
	return regexp.MustCompile(`\A` + strings.Join(parts, ".*") + `\z`).MatchString(name)
}

// closeness orders the scopes that mean an environment: one without a wildcard
// first, then the one that says most.
func closeness(scope string) int {
	if !strings.Contains(scope, "*") {
		return 1000
	}
	return len(scope)
}
