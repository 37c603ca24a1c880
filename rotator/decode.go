package rotator

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
)

// MaxEventBytes bounds what is read as an event: the size of an EventBridge entry.
const MaxEventBytes = 256 << 10

// Event is what the function is invoked with: a request, or the word to advance
// everything in flight, or to look at GitLab's token.
type Event struct {
	FollowUp   bool
	CheckToken bool
	Request    Request
}

// DecodeEvent reads an event: a request, an EventBridge envelope around one,
// {"action":"follow_up"} or {"action":"check_token"}. Unknown fields, wrong types and
// values out of range are all told in one *RequestError.
func DecodeEvent(data []byte) (Event, error) {
	fields, err := decodeObject(data)
	if err != nil {
		return Event{}, err
	}
	if _, ok := fields["detail-type"]; ok {
		detail := fields["detail"]
		if fields, err = decodeObject(detail); err != nil || len(fields) == 0 {
			return Event{}, &RequestError{[]string{envelopeFault(detail, err == nil)}}
		}
	}
	if action, ok := fields["action"]; ok {
		return decodeAction(action, len(fields) == 1)
	}
	r, err := decodeRequest(fields)
	return Event{Request: r}, err
}

// decodeAction reads an action, which stands alone.
func decodeAction(value json.RawMessage, alone bool) (Event, error) {
	const known = `{"action":"follow_up"} or {"action":"check_token"}`
	var action string
	if json.Unmarshal(value, &action) != nil {
		action = string(value)
	}
	e := Event{FollowUp: action == "follow_up", CheckToken: action == "check_token"}
	switch {
	case !e.FollowUp && !e.CheckToken:
		return Event{}, &RequestError{[]string{"there is no action " + quoted(action) + ": it is " + known}}
	case !alone:
		return Event{}, &RequestError{[]string{"an action stands alone: it is " + known + ", and nothing beside it"}}
	}
	return e, nil
}

// envelopeFault says what is wrong with the detail of an EventBridge event. A rule
// whose target was given no input sends {}, a schedule of EventBridge Scheduler "{}".
func envelopeFault(detail json.RawMessage, empty bool) string {
	if empty || len(detail) == 0 || string(detail) == `"{}"` {
		return `the detail of the EventBridge event is empty: set the input of the rule's target to a request, such as {"user":"NAME","project_id":NUMBER}`
	}
	return "the detail of the EventBridge event must be a request, a JSON object"
}

func decodeObject(data []byte) (map[string]json.RawMessage, error) {
	fault := func(format string, args ...any) error {
		return &RequestError{[]string{fmt.Sprintf(format, args...)}}
	}
	switch {
	case len(data) > MaxEventBytes:
		return nil, fault("it is larger than %d bytes", MaxEventBytes)
	case len(bytes.TrimSpace(data)) == 0:
		return nil, fault(`it is empty; the least is {"user":"NAME","project_id":NUMBER}`)
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(data, &fields); err != nil || fields == nil {
		return nil, fault(`it is not a JSON object; the least is {"user":"NAME","project_id":NUMBER}`)
	}
	if name := saidTwice(data); name != "" {
		return nil, fault("it says %s twice", quoted(name))
	}
	return fields, nil
}

// saidTwice is a name that a JSON object has more than once: which of the two was
// meant cannot be told.
func saidTwice(data []byte) string {
	d := json.NewDecoder(bytes.NewReader(data))
	seen := map[string]bool{}
	_, _ = d.Token() // {: data is an object
	for d.More() {
		name, _ := d.Token()
		key := fmt.Sprint(name)
		if seen[key] {
			return key
		}
		seen[key] = true
		var value json.RawMessage
		if d.Decode(&value) != nil {
			return ""
		}
	}
	return ""
}

func decodeRequest(given map[string]json.RawMessage) (Request, error) {
	r := DefaultRequest()
	if _, several := given["destinations"]; several {
		r.Target = Target{}
	}
	var d decoder
	d.decode("", given, r.fields())
	if slices.Contains(d.mistyped, "destinations") {
		r.Target, r.Destinations = DefaultTarget(), nil
		r.ProjectID = 1 // what is wrong is the list, not what stands in its stead
	}
	var invalid *RequestError
	if errors.As(r.Validate(), &invalid) {
		for _, fault := range invalid.Faults {
			name, _, _ := strings.Cut(fault, " ")
			if !slices.Contains(d.mistyped, name) {
				d.faults = append(d.faults, fault)
			}
		}
	}
	if len(d.faults) > 0 {
		return Request{}, &RequestError{d.faults}
	}
	return r, nil
}

// decoder fills in the fields of a request and of what it is made of, and gathers what
// is wrong.
type decoder struct{ faults, mistyped []string }

// decode fills in one object. within is where it stands in the request, "" or
// "destinations[0].".
func (d *decoder) decode(within string, given map[string]json.RawMessage, into map[string]any) {
	var unknown []string
	for _, name := range slices.Sorted(maps.Keys(given)) {
		target, known := into[name]
		switch {
		case !known:
			unknown = append(unknown, quoted(within+name))
		case !d.set(within+name, given[name], target):
			d.mistyped = append(d.mistyped, within+name)
			d.faults = append(d.faults, within+name+" must be "+typeWord(target))
		}
	}
	if len(unknown) > 0 {
		d.faults = append(d.faults, unknownFault(unknown, slices.Sorted(maps.Keys(into))))
	}
}

// set fills in one field, and tells whether its type is right.
func (d *decoder) set(name string, value json.RawMessage, target any) bool {
	if string(value) == "null" {
		return false
	}
	switch target := target.(type) {
	case *[]Target:
		return each(d, name, value, func(within string, fields map[string]json.RawMessage) {
			t := DefaultTarget()
			d.decode(within, fields, t.fields())
			*target = append(*target, t)
		})
	case *[]ProjectWay:
		return each(d, name, value, func(within string, fields map[string]json.RawMessage) {
			w := ProjectWay{Way: Way{Redeploy: RedeployPipeline}}
			into := w.fields()
			into["project_id"] = &w.ProjectID
			d.decode(within, fields, into)
			*target = append(*target, w)
		})
	case *map[string]any:
		if json.Unmarshal(value, target) != nil || slices.ContainsFunc(slices.Collect(maps.Values(*target)), isNoInput) {
			return false
		}
		if len(*target) == 0 {
			*target = nil // as the journal has it
		}
		return true
	}
	return json.Unmarshal(value, target) == nil
}

// isNoInput: GitLab's inputs are strings, numbers, booleans and arrays. Of arrays those of
// strings can be sent, of numbers those that a float64 holds as they are.
func isNoInput(value any) bool {
	const exact = 1 << 53
	switch value := value.(type) {
	case string, bool:
		return false
	case float64:
		return math.Abs(value) > exact
	case []any:
		return slices.ContainsFunc(value, func(v any) bool { _, word := v.(string); return !word })
	}
	return true
}

// each decodes a list of objects, at least one.
func each(d *decoder, name string, value json.RawMessage, decode func(within string, fields map[string]json.RawMessage)) bool {
	var list []json.RawMessage
	if json.Unmarshal(value, &list) != nil || len(list) == 0 {
		return false
	}
	for i, element := range list {
		within := fmt.Sprintf("%s[%d]", name, i)
		var fields map[string]json.RawMessage
		if json.Unmarshal(element, &fields) != nil || fields == nil {
			d.faults = append(d.faults, within+" must be an object")
			fields = nil
		}
		if twice := saidTwice(element); fields != nil && twice != "" {
			d.faults = append(d.faults, within+" says "+quoted(twice)+" twice")
		}
		decode(within+".", fields)
	}
	return true
}

// fields are the places of a request's fields, by their names in JSON.
func (r *Request) fields() map[string]any {
	into := r.Target.fields()
	maps.Copy(into, map[string]any{
		"user":          &r.User,
		"destinations":  &r.Destinations,
		"max_age_days":  &r.MaxAgeDays,
		"lead_days":     &r.LeadDays,
		"overlap_hours": &r.OverlapHours,
		"soak_hours":    &r.SoakHours,
		"force":         &r.Force,
		"retire_key":    &r.RetireKey,
		"caller_job_id": &r.CallerJobID,
	})
	return into
}

func (t *Target) fields() map[string]any {
	into := t.Way.fields()
	maps.Copy(into, map[string]any{
		"project_id":                 &t.ProjectID,
		"group_id":                   &t.GroupID,
		"environment_scope":          &t.EnvironmentScope,
		"access_key_id_variable":     &t.AccessKeyIDVariable,
		"secret_access_key_variable": &t.SecretAccessKeyVariable,
		"credentials_file_variable":  &t.CredentialsFileVariable,
		"profile":                    &t.Profile,
		"allow_unmasked":             &t.AllowUnmasked,
		"redeploys":                  &t.Redeploys,
	})
	return into
}

func (w *Way) fields() map[string]any {
	return map[string]any{
		"redeploy":    &w.Redeploy,
		"ref":         &w.Ref,
		"environment": &w.Environment,
		"fallback":    &w.Fallback,
		"inputs":      &w.Inputs,
	}
}

func typeWord(target any) string {
	switch target.(type) {
	case *string:
		return "a string"
	case *bool:
		return "true or false"
	case *[]Target, *[]ProjectWay:
		return "a list of one or more objects"
	case *map[string]any:
		return "an object of strings, numbers up to 2^53, booleans and arrays of strings"
	default:
		return "a whole number"
	}
}

func unknownFault(unknown, known []string) string {
	const shown = 10 // enough to see the pattern
	if more := len(unknown) - shown; more > 0 {
		unknown = append(unknown[:shown:shown], fmt.Sprintf("%d more", more))
	}
	return "unknown " + strings.Join(unknown, ", ") + "; the fields are " + strings.Join(known, ", ")
}
