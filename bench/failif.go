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
	holds  func(v, bound float64) bool
	bound  float64
}

// operators, longer ones first.
var operators = []struct {
	text  string
	holds func(v, bound float64) bool
}{
	{">=", func(v, bound float64) bool { return v >= bound }},
	{"<=", func(v, bound float64) bool { return v <= bound }},
	{"==", func(v, bound float64) bool { return v == bound }},
	{"!=", func(v, bound float64) bool { return v != bound }},
	{">", func(v, bound float64) bool { return v > bound }},
	{"<", func(v, bound float64) bool { return v < bound }},
}

// ParseFailIf parses a comma-separated list of comparisons of a scenario's figures
// (see [MetricNames]) with numbers, durations or sizes. An empty text has no conditions.
// The error is a [UsageError].
func ParseFailIf(scenario, text string) (FailIf, error) {
	var (
		list FailIf
		f    Faults
	)
	if strings.TrimSpace(text) == "" {
		return nil, nil
	}
	for part := range strings.SplitSeq(text, ",") {
		c, err := parseCondition(scenario, strings.TrimSpace(part))
		if err != nil {
			f.Add("--fail-if %q: %v", part, err)
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
		if rest, ok := strings.CutPrefix(text[at:], op.text); ok {
			c.holds, text = op.holds, strings.TrimSpace(rest)
			break
		}
	}
	if c.holds == nil {
		return condition{}, fmt.Errorf("unknown operator: use one of >= <= == != > <")
	}
	m, ok := findMetric(scenario, c.metric)
	if !ok {
		names := MetricNames(scenario)
		slices.Sort(names)
		return condition{}, fmt.Errorf("%s has no metric %q; the metrics are %s", scenario, c.metric, strings.Join(names, ", "))
	}
	var err error
	c.bound, err = m.unit.parseValue(text)
	return c, err
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
		if c.holds(got, c.bound) {
			out = append(out, fmt.Sprintf("%s: %s is %s", c.text, c.metric, m.unit.format(got)))
		}
	}
	return out
}
