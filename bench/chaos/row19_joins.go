package main

import (
	"path/filepath"

	"sluice/bench"
	"sluice/bench/child"
)

func joinRace(r *Run) error {
	joins := Param(r, "joins", 1000, 100_000)
	rate := Param(r, "messages_per_second", 1000.0, 2000.0)
	if r.slow {
		rate /= 4 // what it cannot carry is not the question
	}
	flags := []string{"--history", "10000", "--history-bytes", "16MiB"}
	r.Phase("in memory")
	r.joins(must(r.Start(flags...)), joins, rate)
	r.Phase("a data directory")
	r.joins(must(r.Start(append(flags, "--data-dir", filepath.Join(r.Dir, "data"))...)), joins, rate)
	r.Phase("NATS")
	c := r.startServers(child.NATSOptions{Servers: 1})
	g := must(r.Start(append(flags, "--nats-url", child.URLs(c.Servers))...))
	r.AwaitReady(g.Process)
	r.joins(g, joins, rate)
	return nil
}

// joins has clients join a channel of a gateway, and ends the gateway.
func (r *Run) joins(g *Gateway, joins int, rate float64) {
	res, err := bench.Recover(r.ctx, bench.RecoverOptions{
		Options: bench.Options{URL: "ws://" + g.Public, Path: "/ws/row", PID: g.PID()}, Joins: joins, Rate: rate,
	})
	if res != nil && res.Verdict == bench.VerdictInvalid && !r.judgesSpeed() {
		res.Verdict = bench.VerdictOK // the rate was not held, which is a matter of speed
	}
	noError(r.measured(res, err))
	m := res.Metrics
	r.Check("joins", m["joins"] == float64(joins) && m["failed"] == 0, "%.0f of %d, %.0f failed", m["joins"], joins, m["failed"])
	for _, name := range []string{"holes", "repeats", "wrong", "gaps", "foreign"} {
		r.Check(name, m[name] == 0, "%.0f in %.0f messages", m[name], m["recovered"]+m["live"])
	}
	g.Kill()
}
