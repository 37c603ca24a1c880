package main

import (
	"encoding/json"
	"io"
	"math"
	"strings"
	"time"

	"credential-rotator/rotator"
)

// metrics writes CloudWatch's embedded metric format: a line of JSON in the log, of
// which CloudWatch makes a metric without being called. One line holds one value, and
// each metric has one dimension with few values, because every further combination is
// another metric to pay for. The format:
// https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
type metrics struct {
	out       io.Writer
	namespace string // none is written when it is empty
	function  string
}

// measure is one value of a metric.
type measure struct {
	name, unit       string
	value            float64
	dimension, label string
	user             string // a property, which is in the line and not in the metric
}

// step counts the time of a step that this run did, well or not.
func (m *metrics) step(p rotator.Progress) {
	if p.State == rotator.StepDone || p.State == rotator.StepFailed {
		m.write(measure{name: "StepDuration", unit: "Milliseconds", value: float64(p.Elapsed.Milliseconds()), dimension: "Step", label: string(p.Step)})
	}
}

// answer measures what an event was answered.
func (m *metrics) answer(answer any) {
	m.results(resultsOf(answer))
	if check, ok := answer.(rotator.TokenCheck); ok {
		m.token(check)
	}
}

// results counts results, and tells the age of the key that each found published.
func (m *metrics) results(all []rotator.Result) {
	for _, r := range all {
		m.write(measure{name: "Results", unit: "Count", value: 1, dimension: "Status", label: string(r.Status)})
		if !r.CurrentKeyCreatedAt.IsZero() {
			days := time.Since(r.CurrentKeyCreatedAt).Hours() / 24
			m.write(measure{name: "PublishedKeyAge", unit: "None", value: inThousandths(days), dimension: "Function", label: m.function, user: r.User})
		}
	}
}

// token tells how many days GitLab takes the token for: 0 when it does not, and nothing
// when that is not known.
func (m *metrics) token(c rotator.TokenCheck) {
	if c.Known {
		m.write(measure{name: "TokenDaysLeft", unit: "None", value: inThousandths(c.Left.Hours() / 24), dimension: "Function", label: m.function})
	}
}

func inThousandths(v float64) float64 { return math.Round(v*1000) / 1000 }

// write writes one line. That it could not stops nothing: a rotation matters more.
func (m *metrics) write(v measure) {
	if m.namespace == "" {
		return
	}
	line := map[string]any{
		v.name:      max(v.value, 0), // clocks differ, and nothing takes less than no time
		v.dimension: v.label,
		"_aws": map[string]any{
			"Timestamp": time.Now().UnixMilli(),
			"CloudWatchMetrics": []any{map[string]any{
				"Namespace":  m.namespace,
				"Dimensions": [][]string{{v.dimension}},
				"Metrics":    []any{map[string]string{"Name": v.name, "Unit": v.unit}},
			}},
		},
	}
	if v.user != "" {
		line["user"] = v.user
	}
	text, err := json.Marshal(line)
	if err != nil {
		return
	}
	_, _ = m.out.Write(append(text, '\n'))
}

// isNamespace: the CloudWatch User Guide on namespaces, and PutMetricData's pattern.
// Those that begin with AWS/ are Amazon's. (By hand, because a regular expression with
// such counts costs more to compile than the function's whole start.)
func isNamespace(s string) bool {
	const most = 255
	if len(s) > most || strings.TrimSpace(s) == "" || strings.HasPrefix(s, ":") || strings.HasPrefix(s, "AWS/") {
		return false
	}
	return !strings.ContainsFunc(s, func(c rune) bool {
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		digit := '0' <= c && c <= '9'
		return !letter && !digit && !strings.ContainsRune(" ._-/#:", c)
	})
}
