package main

import (
	"fmt"
	"time"

	"sluice/bench"
)

// churnWithin is how long the long form's cycles may take.
const churnWithin = 12 * time.Minute

// memoryMost is by how many percent the gateway's memory may have grown.
const memoryMost = 5

func churn(r *Run) error {
	cycles := Param(r, "cycles", 3000, 1_000_000)
	warmup := Param(r, "warmup", 2000, 10_000)
	sources := Param(r, "source_addresses", 16, 16)
	settle := Param(r, "settle", 4*time.Second, 30*time.Second)
	g := must(r.Start())
	res, err := bench.Churn(r.ctx, bench.ChurnOptions{
		Options: bench.Options{URL: "ws://" + g.Public, Sources: sources, PID: g.PID()},
		Cycles:  cycles, Warmup: warmup, Metrics: "http://" + g.Internal + "/metrics", Settle: settle,
	})
	noError(r.measured(res, err))
	m := res.Metrics
	r.Check("cycles", m["failed"] == 0 && m["cycles"] == float64(cycles), "%.0f of %d, %.0f failed", m["cycles"], cycles, m["failed"])
	left := fmt.Sprintf("%.0f file descriptors, %.0f goroutines, %.0f epoll entries", m["descriptors_left"], m["goroutines_left"], m["epoll_left"])
	r.Check("nothing leaks", max(m["descriptors_left"], m["goroutines_left"], m["epoll_left"]) <= 0, "%s more than before", left)
	if r.judgesSpeed() {
		r.Check("memory", m["rss_growth"] <= memoryMost, "grew by %.1f %%, at most %d %%", m["rss_growth"], memoryMost)
		r.Check("speed", m["elapsed"] <= churnWithin.Seconds(), "%.0f s, at most %v", m["elapsed"], churnWithin)
	}
	c := must(g.Counters())
	all := float64(cycles + warmup)
	r.Check("C6 handshakes", c["handshakes_total{upgraded}"] == all && c["handshakes_total"] == all,
		"%.0f cycles including the warm-up, %.0f upgraded of %.0f handshakes", all, c["handshakes_total{upgraded}"], c["handshakes_total"])
	r.Check("C6 closed", c["connections_closed_total"] == all, "%.0f cycles including the warm-up, %.0f closed", all, c["connections_closed_total"])
	return nil
}

// measured takes the figures of a scenario of package bench. What fails in one is
// the row's to judge; an error is that it was not carried out.
func (r *Run) measured(res *bench.Result, err error) error {
	if res == nil {
		return err
	}
	for name, v := range res.Metrics {
		r.Count(name, v)
	}
	for _, n := range res.Notes {
		r.Say("%s", n)
	}
	switch res.Verdict {
	case bench.VerdictOK, bench.VerdictPass, bench.VerdictFail:
		return nil
	case bench.VerdictInterrupted:
		return fmt.Errorf("interrupted")
	}
	if err == nil {
		err = fmt.Errorf("%s: %q", res.Verdict, res.Reasons)
	}
	return err
}
