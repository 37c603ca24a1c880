package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"credential-rotator/rotator"
)

// arguments are a command line, understood.
//
// The flags of a rotation are kept as the JSON of a request, so that flags and events
// are read, completed and checked by the same code. They are the standard library's
// and no framework's: the usual ones look methods up by name, which keeps the linker
// from leaving out what nobody calls, and doubles the function's size.
type arguments struct {
	verb     string
	fields   map[string]any // of the request, those that were given
	json     bool
	markdown bool
	wait     time.Duration
	// expiresInDays is how long the next token of GitLab is to live.
	expiresInDays int
}

// The verbs of two words.
const (
	tokenStatus = "token status"
	tokenRotate = "token rotate"
)

// tokenDays is how long a token lives that nobody has said anything about.
const tokenDays = 90

// parse understands a command line. Its error is flag.ErrHelp when help was asked for.
func parse(args []string) (arguments, error) {
	a := arguments{fields: map[string]any{}}
	flags := a.flags()
	var words []string
	for len(args) > 0 { // flags may stand before and after words
		if err := flags.Parse(args); err != nil {
			return a, dashed(err)
		}
		if args = flags.Args(); len(args) > 0 {
			words, args = append(words, args[0]), args[1:]
		}
	}
	if len(words) == 0 || words[0] == "help" {
		return a, orHelp(words)
	}
	a.verb = words[0]
	return a, a.check(words[1:])
}

func orHelp(words []string) error {
	if len(words) > 0 {
		return flag.ErrHelp
	}
	return errors.New("what is to be done? rotate, plan, status, resume, handle, token or version")
}

// check takes the words after the verb, and refuses what the verb does not have.
func (a *arguments) check(words []string) error {
	if a.verb == "token" {
		return a.checkToken(words)
	}
	about := a.verb == "rotate" || a.verb == "plan" || a.verb == "status"
	switch {
	case !about && a.verb != "resume" && a.verb != "handle" && a.verb != "version":
		return fmt.Errorf("there is no %q: it is rotate, plan, status, resume, handle, token or version", a.verb)
	case about && len(words) == 0:
		return fmt.Errorf("%s whom? credential-rotator %s USER --project-id N", a.verb, a.verb)
	case about && len(words) > 1, !about && len(words) > 0:
		return fmt.Errorf("%q is one word too many", words[len(words)-1])
	case !about && len(a.fields) > 0:
		return fmt.Errorf("%s takes no flags of a request", a.verb)
	case a.expiresInDays != 0:
		return errors.New("--expires-in-days goes with token rotate")
	case about && !a.saysWhere():
		return errors.New("--project-id is missing: the number of the GitLab project that deploys with the key (or --group-id, or --destinations)")
	case a.markdown && a.verb != "plan":
		return errors.New("-o markdown goes with plan")
	case a.wait != 0 && a.verb != "rotate":
		return errors.New("--wait goes with rotate")
	case a.wait < 0:
		return fmt.Errorf("--wait must be a time to wait, not %s", a.wait)
	}
	if about {
		a.fields["user"] = words[0]
	}
	return nil
}

// checkToken is check of what is about GitLab's token.
func (a *arguments) checkToken(words []string) error {
	if len(words) == 0 || words[0] != "status" && words[0] != "rotate" {
		return errors.New("what about the token? credential-rotator token status, or credential-rotator token rotate")
	}
	a.verb += " " + words[0]
	switch {
	case len(words) > 1:
		return fmt.Errorf("%q is one word too many", words[len(words)-1])
	case len(a.fields) > 0:
		return fmt.Errorf("%s takes no flags of a request", a.verb)
	case a.wait != 0:
		return errors.New("--wait goes with rotate")
	case a.markdown:
		return errors.New("-o markdown goes with plan")
	case a.expiresInDays != 0 && a.verb != tokenRotate:
		return errors.New("--expires-in-days goes with token rotate")
	case a.expiresInDays == 0:
		a.expiresInDays = tokenDays
	}
	return nil
}

// saysWhere tells whether the flags name a place.
func (a *arguments) saysWhere() bool {
	return a.fields["project_id"] != nil || a.fields["group_id"] != nil || a.fields["destinations"] != nil
}

func (a *arguments) flags() *flag.FlagSet {
	flags := flag.NewFlagSet("credential-rotator", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.Usage = func() {}
	a.requestFlags(flags)
	flags.DurationVar(&a.wait, "wait", 0, "")
	flags.Func("expires-in-days", "", func(s string) (err error) {
		if a.expiresInDays, err = strconv.Atoi(s); err != nil || a.expiresInDays < 1 || a.expiresInDays > 365 {
			return errors.New("it must be 1 to 365")
		}
		return nil
	})
	output := func(s string) error {
		if s != "text" && s != "json" && s != "markdown" {
			return errors.New("it must be text, json or, of plan, markdown")
		}
		a.json, a.markdown = s == "json", s == "markdown"
		return nil
	}
	flags.Func("o", "", output)
	flags.Func("output", "", output)
	return flags
}

// requestFlags are the flags of a request's fields.
func (a *arguments) requestFlags(flags *flag.FlagSet) {
	for _, field := range []string{
		"environment_scope", "access_key_id_variable", "secret_access_key_variable", "credentials_file_variable", "profile",
		"redeploy", "ref", "environment", "fallback", "retire_key",
	} {
		flags.Func(flagOf(field), "", func(s string) error {
			a.fields[field] = s
			return nil
		})
	}
	for _, field := range []string{"project_id", "group_id", "max_age_days", "lead_days", "overlap_hours", "soak_hours", "caller_job_id"} {
		flags.Func(flagOf(field), "", func(s string) error {
			n, err := strconv.ParseInt(s, 10, 64)
			if err != nil {
				return errors.New("it must be a whole number")
			}
			a.fields[field] = n
			return nil
		})
	}
	for _, field := range []string{"force", "allow_unmasked"} {
		flags.BoolFunc(flagOf(field), "", func(s string) (err error) {
			a.fields[field], err = strconv.ParseBool(s)
			return err
		})
	}
	for _, field := range []string{"inputs", "redeploys", "destinations"} {
		flags.Func(flagOf(field), "", func(s string) (err error) {
			a.fields[field], err = jsonOf(s)
			return err
		})
	}
}

// jsonOf is the JSON that a flag's value is or, after an @, that the file of this name
// holds.
func jsonOf(s string) (json.RawMessage, error) {
	text := []byte(s)
	if name, is := strings.CutPrefix(s, "@"); is {
		file, err := os.Open(name) // #nosec G304: whoever gives the command names it
		if err != nil {
			return nil, err
		}
		defer func() { _ = file.Close() }()
		if text, err = io.ReadAll(io.LimitReader(file, rotator.MaxEventBytes+1)); err != nil {
			return nil, err
		}
	}
	switch {
	case len(text) > rotator.MaxEventBytes:
		return nil, fmt.Errorf("it is larger than %d bytes", rotator.MaxEventBytes)
	case !json.Valid(text):
		return nil, errors.New("it must be JSON, or @ and the name of a file that holds it")
	}
	return text, nil
}

// dashed writes the flag in an error of package flag as the usage does.
func dashed(err error) error {
	if errors.Is(err, flag.ErrHelp) {
		return err
	}
	text := regexp.MustCompile(`(flag |: )-(\w[\w-]+)`).ReplaceAllString(err.Error(), "$1--$2")
	return errors.New(strings.Replace(text, "provided but not defined", "unknown", 1))
}

// request checks the flags as if they were an event.
func (a *arguments) request() (rotator.Request, error) {
	data, err := json.Marshal(a.fields)
	if err != nil {
		return rotator.Request{}, err
	}
	e, err := rotator.DecodeEvent(data)
	var invalid *rotator.RequestError
	if errors.As(err, &invalid) {
		return rotator.Request{}, errors.New("the flags are wrong: " + inFlags(invalid))
	}
	return e.Request, err
}

// flagOf is the flag of a field of the request.
func flagOf(field string) string { return strings.ReplaceAll(field, "_", "-") }

// inFlags tells the faults of a request in the words of the command: the field that a
// fault begins with, and every other of several words, is a flag. What is inside of a
// flag's JSON keeps its names: --destinations[0].environment_scope must be …
func inFlags(invalid *rotator.RequestError) string {
	flag := func(name string) string { return "--" + flagOf(name) }
	fields := regexp.MustCompile(`\b(environment_scope|(access_key_id|secret_access_key|credentials_file)_variable|(max_age|lead)_days|(overlap|soak)_hours|(project|group|caller_job)_id|retire_key|allow_unmasked)\b`)
	nested := regexp.MustCompile(`(^|[ "])((?:destinations|redeploys)\[)`)
	told := rotator.RequestError{Faults: slices.Clone(invalid.Faults)}
	for i, fault := range told.Faults {
		name, rest, _ := strings.Cut(fault, " ")
		if strings.ContainsAny(name, "[") || name == "unknown" {
			told.Faults[i] = nested.ReplaceAllString(fault, "$1--$2")
			continue
		}
		if name != "user" {
			name = flag(name)
		}
		told.Faults[i] = name + " " + fields.ReplaceAllStringFunc(rest, flag)
	}
	return told.List()
}
