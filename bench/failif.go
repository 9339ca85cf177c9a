package bench

import (
	"fmt"
	"slices"
	"strings"
)

// FailIf is a list of conditions on the figures of a run. The run fails if any of them
// holds: "lost>0,p99>50ms".
type FailIf []condition

type condition struct {
	text   string
	metric string
	op     string
	value  float64
}

// operators, longer ones first.
var operators = []string{">=", "<=", "==", "!=", ">", "<"}

// ParseFailIf parses a comma-separated list of comparisons of a scenario's figures
// (see [MetricNames]) with numbers, durations or sizes. An empty text has no conditions.
// The error is a [UsageError].
func ParseFailIf(scenario, text string) (FailIf, error) {
	var (
		list FailIf
		f    faults
	)
	if strings.TrimSpace(text) == "" {
		return nil, nil
	}
	for part := range strings.SplitSeq(text, ",") {
		c, err := parseCondition(scenario, strings.TrimSpace(part))
		if err != nil {
			f.add("--fail-if %q: %v", part, err)
			continue
		}
		list = append(list, c)
	}
	return list, f.err()
}

func parseCondition(scenario, text string) (condition, error) {
	at := strings.IndexAny(text, "<>=!")
	if at < 0 {
		return condition{}, fmt.Errorf("not a comparison: write one such as lost>0")
	}
	c := condition{text: text, metric: strings.TrimSpace(text[:at])}
	for _, op := range operators {
		if rest, ok := strings.CutPrefix(text[at:], op); ok {
			c.op, text = op, strings.TrimSpace(rest)
			break
		}
	}
	if c.op == "" {
		return condition{}, fmt.Errorf("unknown operator: use one of %s", strings.Join(operators, " "))
	}
	m, ok := findMetric(scenario, c.metric)
	if !ok {
		names := MetricNames(scenario)
		slices.Sort(names)
		return condition{}, fmt.Errorf("%s has no metric %q; the metrics are %s", scenario, c.metric, strings.Join(names, ", "))
	}
	v, err := m.unit.parseValue(text)
	c.value = v
	return c, err
}

func findMetric(scenario, name string) (metric, bool) {
	for _, g := range scenarios[scenario] {
		for _, m := range g.metrics {
			if m.name == name {
				return m, true
			}
		}
	}
	return metric{}, false
}

// Check returns one sentence for each condition that holds, and for each whose figure
// was not measured. Nothing means that the run passed.
func (f FailIf) Check(r *Result) []string {
	var out []string
	for _, c := range f {
		m, _ := findMetric(r.Scenario, c.metric)
		got, ok := r.Metrics[c.metric]
		if !ok {
			out = append(out, fmt.Sprintf("%s: %s was not measured", c.text, c.metric))
			continue
		}
		if c.holds(got) {
			out = append(out, fmt.Sprintf("%s: %s is %s", c.text, c.metric, m.unit.format(got)))
		}
	}
	return out
}

func (c condition) holds(v float64) bool {
	switch c.op {
	case ">":
		return v > c.value
	case ">=":
		return v >= c.value
	case "<":
		return v < c.value
	case "<=":
		return v <= c.value
	case "==":
		return v == c.value
	}
	return v != c.value
}
