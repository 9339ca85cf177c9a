package main

import (
	"fmt"
	"time"
)

// vanishedWithin is how long the gateway may hold a peer that is not there any more.
const vanishedWithin = 40 * time.Second

func halfOpen(r *Run) error {
	peers := Param(r, "peers", 100, 10_000)
	flags := Param(r, "gateway", []string{"--ping-interval", "2s", "--pong-timeout", "2s", "--close-timeout", "1s"}, nil)
	within := Param(r, "gone_within", 10*time.Second, vanishedWithin)
	island := r.newIsland(1)
	defer island.end()
	g := must(r.Start(append(flags, "--listen", island.cables[0].here+":0",
		"--max-per-address", "off", "--address-rate", "off", "--message-rate", "off", "--control-rate", "off")...))
	must(g.Counters()) // so that its connection is there in both counts
	before := must(g.descriptors())
	island.run(r.Bin, "bench", "storm", "--url", "ws://"+g.Public, "--path", "/ws/row", "--connections", fmt.Sprint(peers), "--hold", "1h")
	connections := func() float64 {
		c, err := g.Counters()
		if err != nil {
			return -1
		}
		return c["connections"]
	}
	if !r.Await(30*time.Second, func() bool { return connections() == float64(peers) }) {
		return fmt.Errorf("%.0f of %d peers are connected; their program wrote: %.500s", connections(), peers, island.Log.String())
	}
	r.Say("%d peers are connected from another network; now the cable is pulled", peers)
	island.cables[0].pull()
	begin := time.Now()
	left := func() int { n, _ := g.descriptors(); return n - before }                   // ignored: the next check tells of a process that has gone
	gone := r.Await(2*within, func() bool { return connections() == 0 && left() <= 0 }) // longer, to tell how late it is
	took := time.Since(begin)
	r.Count("gone_after_seconds", took.Seconds())
	r.Check("all are gone", gone && took <= within, "%.0f connections and %d file descriptors of %d peers are left after %.1f s, at most %v allowed", connections(), left(), peers, took.Seconds(), within)
	c := must(g.Counters())
	r.Check("C6 closed", c["connections_closed_total"] == float64(peers), "%d peers, %.0f counted: %.0f no_pong, %.0f reset, %.0f write_timeout", peers,
		c["connections_closed_total"], c["connections_closed_total{no_pong}"], c["connections_closed_total{reset}"], c["connections_closed_total{write_timeout}"])
	return nil
}
