package main

import (
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"time"

	"sluice/bench"
)

// Schema is the version of a result's JSON. It changes when a change would break readers.
const Schema = "sluice-cluster/1"

// Verdict is what became of a figure.
type Verdict string

// Verdicts.
const (
	Pass Verdict = "PASS"
	Fail Verdict = "FAIL"
)

// Result is the report of one figure.
type Result struct {
	Schema     string             `json:"schema"`
	Name       string             `json:"name"`
	Short      bool               `json:"short"`
	Rounds     int                `json:"rounds"`
	Verdict    Verdict            `json:"verdict"`
	Error      string             `json:"error,omitempty"` // why it did not run to its end
	Started    time.Time          `json:"started"`
	Elapsed    float64            `json:"elapsed_seconds"`
	Machine    bench.Machine      `json:"machine"`
	Parameters map[string]string  `json:"parameters"`
	Measured   []Measured         `json:"measured"`
	Counts     map[string]float64 `json:"counts"`
	Dir        string             `json:"dir,omitempty"` // with the logs
}

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

func newResult(f Figure, o Options) *Result {
	return &Result{
		Schema: Schema, Name: f.Name, Short: o.Short, Rounds: o.Rounds, Verdict: Fail, Started: time.Now().UTC(),
		Machine: bench.ThisMachine(), Parameters: map[string]string{}, Counts: map[string]float64{}, Dir: o.Dir,
	}
}

// settle returns the verdict of a figure that ended with err.
func (r *Result) settle(err error) {
	r.Elapsed = time.Since(r.Started).Seconds()
	if err != nil {
		r.Error = err.Error()
		return
	}
	if len(r.Measured) > 0 && !slices.ContainsFunc(r.Measured, func(m Measured) bool { return m.Judged && !m.Holds }) {
		r.Verdict = Pass
	}
}

// bound is what a number must be.
type bound struct {
	text  string
	holds func(float64) bool
	speed bool // it depends on the machine's speed
}

func atMost(n float64) bound {
	return bound{"at most " + number(n), func(v float64) bool { return v <= n }, true}
}

func atLeast(n float64) bound {
	return bound{"at least " + number(n), func(v float64) bool { return v >= n }, true}
}

// always makes a bound one that holds on any machine.
func (b bound) always() bound {
	b.speed = false
	return b
}

// reported is no bound.
var reported = bound{"", func(float64) bool { return true }, true}

// Figure notes a number, the median of what the rounds measured. A bound of speed is not judged in
// the short form, which runs beside other tests.
func (r *Run) Figure(name, unit string, b bound, rounds ...float64) float64 {
	m := Measured{Name: name, Value: median(rounds), Unit: unit, Bound: b.text}
	if len(rounds) > 1 {
		m.Rounds = rounds
	}
	m.Holds = b.holds(m.Value) && !math.IsNaN(m.Value)
	m.Judged = b.text != "" && !(b.speed && r.Short)
	r.result.Measured = append(r.result.Measured, m)
	r.Say("%s", m.text())
	return m.Value
}

// Count notes a number that explains others.
func (r *Run) Count(name string, v float64) { r.result.Counts[name] = v }

func (m Measured) text() string {
	s := fmt.Sprintf("%-54s %12s %s", m.Name, number(m.Value), m.Unit)
	if m.Bound != "" {
		verdict := "ok"
		switch {
		case !m.Judged:
			verdict = "not judged"
		case !m.Holds:
			verdict = "FAIL"
		}
		s += fmt.Sprintf("  (%s: %s)", m.Bound, verdict)
	}
	if len(m.Rounds) > 0 {
		s += "  rounds:"
		for _, v := range m.Rounds {
			s += " " + number(v)
		}
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

// WriteTable writes the result as text for people.
func (r *Result) WriteTable(w io.Writer) error {
	form := "long form"
	if r.Short {
		form = "short form"
	}
	fmt.Fprintf(w, "%s (%s, %d rounds): %s after %.1f s\n", r.Name, form, r.Rounds, r.Verdict, r.Elapsed)
	for _, name := range slices.Sorted(maps.Keys(r.Parameters)) {
		fmt.Fprintf(w, "  %-30s %s\n", name, r.Parameters[name])
	}
	for _, m := range r.Measured {
		fmt.Fprintf(w, "  %s\n", m.text())
	}
	for _, name := range slices.Sorted(maps.Keys(r.Counts)) {
		fmt.Fprintf(w, "  %-30s %.6g\n", name, r.Counts[name])
	}
	if r.Error != "" {
		fmt.Fprintf(w, "  did not run to the end: %s\n", r.Error)
	}
	if r.Dir != "" {
		fmt.Fprintf(w, "  logs: %s\n", r.Dir)
	}
	_, err := fmt.Fprintln(w)
	return err
}
