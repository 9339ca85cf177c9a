package main

import (
	"strings"

	"sluice/bench"
	"sluice/bench/hostile"
)

// silent are the outcomes of handshakes_total for which a client is told nothing.
var silent = []string{"timeout", "evicted", "no_request", "cut_off", "poller", "shutting_down"}

func hostileHandshakes(r *Run) error {
	cases := Param(r, "cases", 3000, 1_000_000)
	g := must(r.Start())
	res, err := hostile.Handshakes(r.ctx, r.hostile(g, cases))
	noError(r.attacked(res, err, cases))
	var c map[string]float64
	// The attack's last connection sends nothing and is reset: the kernel need not even
	// show it to the gateway.
	all := float64(cases)
	accepted := func() float64 { return c["handshakes_total"] - c["handshakes_total{event_stream}"] }
	r.Await(letGoWithin, func() bool {
		c, err = g.Counters()
		return err != nil || accepted() >= all
	})
	noError(err)
	m := res.Metrics
	answered := -m["answered_101"]
	for name, n := range m {
		if strings.HasPrefix(name, "answered_") {
			answered += n
		}
	}
	answers := accepted() - c["handshakes_total{upgraded}"]
	for _, outcome := range silent {
		answers -= c["handshakes_total{"+outcome+"}"]
	}
	unheard := m["cut_off"] + m["unanswered"]
	r.Check("C6 handshakes", accepted() == all || accepted() == all+1,
		"%.0f connections and one that sends nothing, %.0f counted by outcome", all, accepted())
	r.Check("C6 upgraded", c["handshakes_total{upgraded}"] == m["answered_101"], "%.0f responses with 101, %.0f counted as upgraded", m["answered_101"], c["handshakes_total{upgraded}"])
	r.Check("C6 refused", answers >= answered && answers <= answered+unheard,
		"%.0f other responses, %.0f counted, %.0f clients did not wait for a response or got none", answered, answers, unheard)
	return nil
}

// hostile returns the options of an attack.
func (r *Run) hostile(g *Gateway, cases int) hostile.Options {
	return hostile.Options{Options: bench.Options{URL: "ws://" + g.Public, PID: g.PID()}, Count: cases, Seed: r.Seed}
}

// attacked takes the figures of an attack, and checks that every answer was right. The
// answers that were not are a verdict and not an error.
func (r *Run) attacked(res *bench.Result, err error, cases int) error {
	if res != nil && res.Metrics["wrong"] > 0 {
		res.Verdict = bench.VerdictFail
	}
	if err := r.measured(res, err); err != nil {
		return err
	}
	m := res.Metrics
	r.Check("responses", m["wrong"] == 0 && m["cases"] == float64(cases), "%.0f of %d cases, %.0f wrong responses", m["cases"], cases, m["wrong"])
	return nil
}
