package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/gobwas/ws"
)

// Schema is the version of the JSON that [Result.WriteJSON] writes. It changes when a
// change would break readers.
const Schema = "sluice-bench/1"

// Result is the report of a run. Figures that were not measured are absent.
type Result struct {
	Schema   string             `json:"schema"`
	Scenario string             `json:"scenario"`
	Verdict  string             `json:"verdict"`           // VerdictOK and so on
	Reasons  []string           `json:"reasons,omitempty"` // for any other verdict than OK and PASS
	Started  time.Time          `json:"started"`
	Machine  Machine            `json:"machine"`
	Flags    map[string]string  `json:"flags,omitempty"`
	Metrics  map[string]float64 `json:"metrics"`         // by name, in base units: seconds, bytes, plain numbers
	Units    map[string]string  `json:"units"`           // by name: 1, s, B, 1/s, % or bool
	Closes   map[string]int64   `json:"closes"`          // Close frames received, by code
	Tries    []Try              `json:"tries,omitempty"` // the rates that FindMax tried
	Nodes    []NodeShare        `json:"nodes,omitempty"` // of several that the subscribers were spread over
	Notes    []string           `json:"notes,omitempty"`
}

// NodeShare is one node's part of a run on several nodes.
type NodeShare struct {
	URL         string `json:"url"`
	Subscribers int64  `json:"subscribers"`
	Delivered   int64  `json:"delivered"`
	Lost        int64  `json:"lost"`
	Cut         int64  `json:"cut"` // connections that the node closed
}

// Verdicts of a run.
const (
	VerdictOK          = "ok"          // measured
	VerdictInvalid     = "INVALID"     // measured, but the tester was too slow for the figures to be trusted
	VerdictInterrupted = "interrupted" // the context ended early; the figures cover the time until then
	VerdictFailed      = "failed"      // could not be measured

	// Of Churn, which is a test.
	VerdictPass = "PASS"
	VerdictFail = "FAIL"
)

func newResult(scenario string) *Result {
	r := &Result{
		Schema: Schema, Scenario: scenario, Verdict: VerdictOK, Started: time.Now().UTC(),
		Machine: ThisMachine(), Metrics: map[string]float64{}, Units: map[string]string{}, Closes: map[string]int64{},
	}
	r.Set("invalid", 0)
	r.Set("interrupted", 0)
	return r
}

// Set reports a figure. Its name must be one of the scenario's.
func (r *Result) Set(name string, v float64) {
	m, ok := findMetric(r.Scenario, name)
	if !ok {
		panic("bench: " + r.Scenario + " has no metric " + name)
	}
	r.Metrics[name] = v
	r.Units[name] = string(m.unit)
}

// SetCounts reports whole numbers.
func (r *Result) SetCounts(counts map[string]int64) {
	for name, n := range counts {
		r.Set(name, float64(n))
	}
}

// invalidate makes the run INVALID, for a reason.
func (r *Result) invalidate(format string, args ...any) {
	r.Verdict = VerdictInvalid
	r.Reasons = append(r.Reasons, fmt.Sprintf(format, args...))
	r.Set("invalid", 1)
}

// end settles the verdict of a run that returned err, and returns both. A run
// whose ctx has ended was interrupted, and other errors are then ignored.
func (r *Result) end(ctx context.Context, err error) (*Result, error) {
	switch {
	case ctx.Err() != nil:
		r.Reasons = append(r.Reasons, "interrupted: the figures cover the time until then")
		r.Set("interrupted", 1)
		if r.Verdict == VerdictOK {
			r.Verdict = VerdictInterrupted
		}
		return r, nil
	case err != nil:
		r.Verdict = VerdictFailed
		r.Reasons = append(r.Reasons, err.Error())
	}
	return r, err
}

// addCloses adds Close frames.
func (r *Result) addCloses(closes map[ws.StatusCode]int64) {
	for code, n := range closes {
		r.Closes[strconv.Itoa(int(code))] += n
	}
}

// noteFailure adds a note about the first failure, where there is one.
func (r *Result) noteFailure(err error) {
	if err != nil {
		r.Notes = append(r.Notes, "first failure: "+err.Error())
	}
}

// WriteJSON writes the result as indented JSON.
func (r *Result) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// WriteTable writes the result as a table for people.
func (r *Result) WriteTable(w io.Writer) error {
	m := r.Machine
	fmt.Fprintf(w, "%s on %d cores of %s, Linux %s, %s\n", r.Scenario, m.Cores, m.CPU, m.Kernel, m.Go)
	for _, g := range scenarios[r.Scenario] {
		if !r.hasAny(g) {
			continue
		}
		fmt.Fprintf(w, "\n%s\n", g.title)
		for _, m := range g.metrics {
			if v, ok := r.Metrics[m.name]; ok {
				fmt.Fprintf(w, "  %-52s %14s\n", m.label, m.unit.format(v))
			}
		}
	}
	if len(r.Closes) > 0 {
		fmt.Fprint(w, "\nclose frames received, by code:")
		for _, code := range slices.Sorted(maps.Keys(r.Closes)) {
			fmt.Fprintf(w, "  %s: %d", code, r.Closes[code])
		}
		fmt.Fprintln(w)
	}
	r.writeNodes(w)
	r.writeTries(w)
	for _, n := range r.Notes {
		fmt.Fprintf(w, "\nnote: %s\n", n)
	}
	_, err := fmt.Fprintf(w, "\nverdict: %s\n", r.Verdict)
	for _, reason := range r.Reasons {
		_, err = fmt.Fprintf(w, "  %s\n", reason)
	}
	return err
}

func (r *Result) hasAny(g group) bool {
	return slices.ContainsFunc(g.metrics, func(m metric) bool { _, ok := r.Metrics[m.name]; return ok })
}

func (r *Result) writeNodes(w io.Writer) {
	if len(r.Nodes) == 0 {
		return
	}
	fmt.Fprintln(w, "\nnodes")
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', tabwriter.AlignRight)
	for _, n := range r.Nodes {
		fmt.Fprintf(t, "\t%s\t%s subscribers\t%s delivered\t%s lost\t%s closed\t\n", n.URL, thousands(float64(n.Subscribers), 0),
			thousands(float64(n.Delivered), 0), thousands(float64(n.Lost), 0), thousands(float64(n.Cut), 0))
	}
	t.Flush() // ignored: as in writeTries
}

func (r *Result) writeTries(w io.Writer) {
	if len(r.Tries) == 0 {
		return
	}
	fmt.Fprintln(w, "\nrates tried")
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', tabwriter.AlignRight)
	for _, y := range r.Tries {
		outcome := "sustained"
		if !y.Held {
			outcome = y.Why
		}
		fmt.Fprintf(t, "\t%s\tfor %s\t p99 %s\t\t%s\n", perSecond.format(y.Rate), y.Duration, formatSeconds(y.P99), outcome)
	}
	t.Flush() // ignored: what w refuses is seen by the caller's next write
}
