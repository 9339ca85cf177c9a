package trial

import (
	"fmt"
	"math"
	"slices"
	"strconv"
)

// Measured is one number with its bound.
type Measured struct {
	Name   string    `json:"name"`
	Value  float64   `json:"value"` // the median of the rounds
	Unit   string    `json:"unit"`
	Rounds []float64 `json:"rounds,omitempty"`
	Bound  string    `json:"bound,omitempty"`
	Holds  bool      `json:"holds"`
	Judged bool      `json:"judged"`
}

// Bound is what a number must be.
type Bound struct {
	text  string
	holds func(float64) bool
	speed bool // it depends on the machine's speed
}

// AtMost and AtLeast are bounds that depend on the machine's speed.
func AtMost(n float64) Bound {
	return Bound{"at most " + number(n), func(v float64) bool { return v <= n }, true}
}

func AtLeast(n float64) Bound {
	return Bound{"at least " + number(n), func(v float64) bool { return v >= n }, true}
}

// Always makes a bound one that holds on any machine.
func (b Bound) Always() Bound {
	b.speed = false
	return b
}

// Reported is no bound.
var Reported Bound

// Figure notes a number, the median of what the rounds measured. A bound of speed is not judged in
// the short form, which runs beside other tests. Where nothing was measured, the trial ends.
func (r *Run) Figure(name, unit string, b Bound, rounds ...float64) {
	m := Measured{Name: name, Value: median(rounds), Unit: unit, Bound: b.text, Judged: b.holds != nil && !(b.speed && r.Short)}
	if len(rounds) > 1 {
		m.Rounds = rounds
	}
	if math.IsNaN(m.Value) || math.IsInf(m.Value, 0) { // such as a share of nothing
		NoError(fmt.Errorf("nothing was measured for %q: %v", name, rounds))
	}
	m.Holds = b.holds == nil || b.holds(m.Value)
	r.Result.Measured = append(r.Result.Measured, m)
	r.Say("%s", m.text())
}

// verdict is what a report says about the bound.
func (m Measured) verdict() string {
	switch {
	case m.Bound == "":
		return ""
	case !m.Judged:
		return "not judged"
	case !m.Holds:
		return string(Fail)
	}
	return string(Pass)
}

// value is the number with its unit and the rounds' range.
func (m Measured) value() string {
	s := number(m.Value)
	if m.Unit != "" {
		s += " " + m.Unit
	}
	if len(m.Rounds) > 0 {
		s += " (" + number(slices.Min(m.Rounds)) + " to " + number(slices.Max(m.Rounds)) + ")"
	}
	return s
}

func (m Measured) text() string {
	s := m.Name + ": " + m.value()
	if m.Bound != "" {
		s += ", " + m.Bound + ": " + m.verdict()
	}
	return s
}

// number prints a value with as many digits as are of interest.
func number(v float64) string {
	if math.Abs(v) >= 100 {
		return strconv.FormatFloat(v, 'f', 0, 64)
	}
	return strconv.FormatFloat(v, 'g', 4, 64)
}

// median returns the middle of some values, and no number without any.
func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	switch n := len(v); {
	case n == 0:
		return math.NaN()
	case n%2 == 0:
		return (v[n/2-1] + v[n/2]) / 2
	default:
		return v[n/2]
	}
}
