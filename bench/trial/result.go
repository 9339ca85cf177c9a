package trial

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"sluice/bench"
)

// Verdict is the outcome of a check, and of a trial.
type Verdict string

// Verdicts.
const (
	Pass Verdict = "PASS"
	Fail Verdict = "FAIL"
	Skip Verdict = "SKIP" // of a trial that cannot run on this machine
)

// Check is one thing that was checked.
type Check struct {
	Name    string  `json:"name"`
	Verdict Verdict `json:"verdict"`
	Detail  string  `json:"detail"` // what was seen
}

// Result is the report of a trial.
type Result struct {
	Schema     string             `json:"schema"`
	Row        int                `json:"row,omitempty"`
	Name       string             `json:"name"`
	Short      bool               `json:"short"`
	Seed       uint64             `json:"seed,omitempty,string"` // a string: JSON's numbers have 53 bits
	Verdict    Verdict            `json:"verdict"`
	Error      string             `json:"error,omitempty"` // why it did not run to its end
	Started    time.Time          `json:"started"`
	Elapsed    float64            `json:"elapsed_seconds"`
	Machine    bench.Machine      `json:"machine"`
	Parameters map[string]string  `json:"parameters"`
	Counts     map[string]float64 `json:"counts"`
	Checks     []Check            `json:"checks,omitempty"`
	Measured   []Measured         `json:"measured,omitempty"`
	Dir        string             `json:"dir,omitempty"` // with the logs

	title string
}

func (p Program) newResult(t Trial, o Options) *Result {
	return &Result{
		Schema: p.schema(), Row: t.Number, Name: t.Name, Short: o.Short, Verdict: Fail, Started: time.Now().UTC(),
		Machine: bench.ThisMachine(), Parameters: map[string]string{}, Counts: map[string]float64{}, Dir: o.Dir, title: p.title(t),
	}
}

// settle decides the verdict of a trial that ended with err: PASS when something was judged, and
// everything that was held.
func (r *Result) settle(err error) {
	r.Elapsed = time.Since(r.Started).Seconds()
	if err != nil {
		r.Error = err.Error()
		if errors.As(err, new(Skipped)) {
			r.Verdict = Skip
		}
		return
	}
	if len(r.Checks)+len(r.Measured) > 0 && len(r.failed()) == 0 {
		r.Verdict = Pass
	}
}

// failed returns the names of what did not hold.
func (r *Result) failed() (names []string) {
	names = r.failedChecks()
	for _, m := range r.Measured {
		if m.Judged && !m.Holds {
			names = append(names, m.Name)
		}
	}
	return names
}

func (r *Result) failedChecks() (names []string) {
	for _, c := range r.Checks {
		if c.Verdict == Fail {
			names = append(names, c.Name)
		}
	}
	return names
}

// Count notes a number that explains others.
func (r *Run) Count(name string, v float64) { r.Result.Counts[name] = v }

// Check notes whether something holds, with what was seen.
func (r *Run) Check(name string, holds bool, format string, args ...any) {
	c := Check{name, Pass, fmt.Sprintf(format, args...)}
	if !holds {
		c.Verdict = Fail
	}
	r.Note(c)
}

// Note notes a check.
func (r *Run) Note(c Check) {
	r.Result.Checks = append(r.Result.Checks, c)
	r.Say("%s %s: %s", c.Verdict, c.Name, c.Detail)
}

// WriteTable writes the result as text for people.
func (r *Result) WriteTable(w io.Writer) error {
	form := "long form"
	if r.Short {
		form = "short form"
	}
	if r.Seed != 0 {
		form += fmt.Sprintf(", seed %d", r.Seed)
	}
	fmt.Fprintf(w, "%s (%s): %s after %.1f s\n", r.title, form, r.Verdict, r.Elapsed)
	for _, name := range slices.Sorted(maps.Keys(r.Parameters)) {
		fmt.Fprintf(w, "  %-30s %s\n", name, r.Parameters[name])
	}
	for _, name := range slices.Sorted(maps.Keys(r.Counts)) {
		fmt.Fprintf(w, "  %-30s %.6g\n", name, r.Counts[name])
	}
	for _, c := range r.Checks {
		fmt.Fprintf(w, "  %s  %s: %s\n", c.Verdict, c.Name, c.Detail)
	}
	for _, m := range r.Measured {
		fmt.Fprintf(w, "  %s\n", m.text())
	}
	if r.Error != "" {
		fmt.Fprintf(w, "  did not run to the end: %s\n", r.Error)
	}
	if r.Dir != "" {
		fmt.Fprintf(w, "  files: %s\n", r.Dir)
	}
	_, err := fmt.Fprintln(w)
	return err
}

// writeSummary writes one table of several results, in Markdown whose columns are aligned: a line for
// each number, and for a trial of checks one line.
func writeSummary(w io.Writer, all []*Result) error {
	t := tabwriter.NewWriter(w, 0, 8, 1, ' ', 0)
	line := func(cells ...string) { fmt.Fprintf(t, "| %s\t|\n", strings.Join(cells, "\t| ")) }
	line("", "figure", "must", "measured", "verdict")
	line("---", "---", "---", "---", "---")
	took, verdicts := 0.0, map[Verdict]int{}
	for _, r := range all {
		took += r.Elapsed
		verdicts[r.Verdict]++
		name := r.title
		if r.Error != "" || len(r.Checks) > 0 {
			line(name, "checks", "all", r.seen(), string(r.Verdict))
			name = ""
		}
		for _, m := range r.Measured {
			line(name, m.Name, m.Bound, m.value(), m.verdict())
			name = ""
		}
	}
	fmt.Fprintf(t, "\n%d passed, %d failed, %d skipped in %.0f s\n", verdicts[Pass], verdicts[Fail], verdicts[Skip], took)
	return t.Flush()
}

// seen sums up the checks.
func (r *Result) seen() string {
	if r.Error != "" {
		return fmt.Sprintf("%.200s", strings.ReplaceAll(r.Error, "\n", " ")) // it can have a log
	}
	failed := r.failedChecks()
	s := fmt.Sprintf("%d of %d", len(r.Checks)-len(failed), len(r.Checks))
	if len(failed) > 0 {
		s += ", not " + strings.Join(failed, ", ")
	}
	return s
}
