package rotator

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// MaxEventBytes bounds what is read as an event: the size of an EventBridge entry.
const MaxEventBytes = 256 << 10

// Event is what the function is invoked with: a request, or the word to advance
// everything in flight.
type Event struct {
	FollowUp bool
	Request  Request
}

// DecodeEvent reads an event: a request, an EventBridge envelope around one, or
// {"action":"follow_up"}. Unknown fields, wrong types and values out of range are
// all told in one *RequestError.
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
		if string(bytes.TrimSpace(action)) == `"follow_up"` && len(fields) == 1 {
			return Event{FollowUp: true}, nil
		}
		return Event{}, &RequestError{[]string{"there is no action " + quoted(string(action)) + `: the one there is is {"action":"follow_up"}, alone`}}
	}
	r, err := decodeRequest(fields)
	return Event{Request: r}, err
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

func decodeRequest(fields map[string]json.RawMessage) (Request, error) {
	r := DefaultRequest()
	var faults, unknown, mistyped []string
	into := r.fields()
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		target, known := into[name]
		switch {
		case !known:
			unknown = append(unknown, quoted(name))
		case string(fields[name]) == "null" || json.Unmarshal(fields[name], target) != nil:
			mistyped = append(mistyped, name)
			faults = append(faults, name+" must be "+typeWord(target))
		}
	}
	if len(unknown) > 0 {
		faults = append(faults, unknownFault(unknown, slices.Sorted(maps.Keys(into))))
	}
	var invalid *RequestError
	if errors.As(r.Validate(), &invalid) {
		for _, fault := range invalid.Faults {
			name, _, _ := strings.Cut(fault, " ")
			if !slices.Contains(mistyped, name) {
				faults = append(faults, fault)
			}
		}
	}
	if len(faults) > 0 {
		return Request{}, &RequestError{faults}
	}
	return r, nil
}

// fields are the places of a request's fields, by their names in JSON.
func (r *Request) fields() map[string]any {
	return map[string]any{
		"user":                       &r.User,
		"project_id":                 &r.ProjectID,
		"environment_scope":          &r.EnvironmentScope,
		"access_key_id_variable":     &r.AccessKeyIDVariable,
		"secret_access_key_variable": &r.SecretAccessKeyVariable,
		"redeploy":                   &r.Redeploy,
		"ref":                        &r.Ref,
		"environment":                &r.Environment,
		"fallback":                   &r.Fallback,
		"max_age_days":               &r.MaxAgeDays,
		"lead_days":                  &r.LeadDays,
		"overlap_hours":              &r.OverlapHours,
		"soak_hours":                 &r.SoakHours,
		"force":                      &r.Force,
		"retire_key":                 &r.RetireKey,
		"caller_job_id":              &r.CallerJobID,
	}
}

func typeWord(target any) string {
	switch target.(type) {
	case *string:
		return "a string"
	case *bool:
		return "true or false"
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
