package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"time"

	"sluice/bench"
)

// Schema is the version of a result's JSON. It changes when a change would break readers.
const Schema = "sluice-chaos/1"

// Result is the report of a row.
type Result struct {
	Schema     string             `json:"schema"`
	Row        int                `json:"row"`
	Name       string             `json:"name"`
	Short      bool               `json:"short"`
	Seed       uint64             `json:"seed,string"` // a string: JSON's numbers have 53 bits
	Verdict    Verdict            `json:"verdict"`
	Error      string             `json:"error,omitempty"` // why the row did not run to its end
	Started    time.Time          `json:"started"`
	Elapsed    float64            `json:"elapsed_seconds"`
	Machine    bench.Machine      `json:"machine"`
	Parameters map[string]string  `json:"parameters"`
	Counts     map[string]float64 `json:"counts"`
	Checks     []Check            `json:"checks"`
	Dir        string             `json:"dir,omitempty"` // with the logs and ledgers
}

func newResult(row Row, o Options) *Result {
	return &Result{
		Schema: Schema, Row: row.Number, Name: row.Name, Short: o.Short, Seed: o.Seed, Dir: o.Dir, Verdict: Fail,
		Started: time.Now().UTC(), Machine: bench.ThisMachine(), Parameters: map[string]string{}, Counts: map[string]float64{}, Checks: []Check{},
	}
}

// skipped is the error of a row that cannot run on this machine, which is no failure.
type skipped struct{ why string }

func (s skipped) Error() string { return "skipped: " + s.why }

// settle returns the verdict of a row that ended with err: PASS when something was
// looked at, and nothing failed.
func (r *Result) settle(err error) {
	r.Elapsed = time.Since(r.Started).Seconds()
	if err != nil {
		r.Error = err.Error()
		if errors.As(err, new(skipped)) {
			r.Verdict = Skip
		}
		return
	}
	failed := func(c Check) bool { return c.Verdict == Fail }
	if len(r.Checks) > 0 && !slices.ContainsFunc(r.Checks, failed) {
		r.Verdict = Pass
	}
}

// WriteTable writes the result as text for people.
func (r *Result) WriteTable(w io.Writer) error {
	form := "long form"
	if r.Short {
		form = "short form"
	}
	fmt.Fprintf(w, "row %d, %s (%s, seed %d): %s after %.1f s\n", r.Row, r.Name, form, r.Seed, r.Verdict, r.Elapsed)
	for _, name := range slices.Sorted(maps.Keys(r.Parameters)) {
		fmt.Fprintf(w, "  %-30s %s\n", name, r.Parameters[name])
	}
	for _, name := range slices.Sorted(maps.Keys(r.Counts)) {
		fmt.Fprintf(w, "  %-30s %.6g\n", name, r.Counts[name])
	}
	for _, c := range r.Checks {
		fmt.Fprintf(w, "  %s  %s: %s\n", c.Verdict, c.Name, c.Detail)
	}
	if r.Error != "" {
		fmt.Fprintf(w, "  did not run to the end: %s\n", r.Error)
	}
	if r.Dir != "" {
		fmt.Fprintf(w, "  logs and ledgers: %s\n", r.Dir)
	}
	_, err := fmt.Fprintln(w)
	return err
}

func writeJSON(path string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return os.WriteFile(path, b, 0o644)
}
