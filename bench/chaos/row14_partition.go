package main

import (
	"net/url"
	"strings"
	"time"

	"sluice/bench/child"
)

// partition: the NATS servers are in a network of their own, and each gateway has a cable to it, which
// is cut.
func partition(r *Run) error {
	gateways := Param(r, "gateways", 2, 3)
	servers := Param(r, "nats_servers", 1, 3)
	o := r.crowd(crowdOptions{120, 2, 60, 200}, crowdOptions{3000, 10, 120, 200})
	times := Param(r, "times_each", 1, 7)
	cuts := Param(r, "cut_for", 3*time.Second, 15*time.Second)
	between := Param(r, "between", 200*time.Millisecond, 5*time.Second)
	caughtUp := Param(r, "caught_up_within", currentWithin, 5*time.Second)
	island := r.newIsland(gateways)
	defer island.end()
	c := r.startServers(child.NATSOptions{Servers: servers, Host: island.cables[0].there, Inside: island.words()})
	defer c.end() // before the island ends
	c.startGateways(gateways, 5000, func(i int) []string { return []string{"--nats-url", atHost(c.Servers, island.cables[i].there)} })
	p := c.populate(o)
	var longest time.Duration
	for range times {
		for _, cut := range []struct {
			what string
			cut  func(*cable)
			mend func(*cable)
		}{
			{"both ways", (*cable).pull, (*cable).plug},
			{"to the servers", (*cable).loseTo, (*cable).restore},
			{"from the servers", (*cable).loseFrom, (*cable).restore},
		} {
			noError(r.Pause(between))
			i := r.random.IntN(gateways)
			r.Say("%s is cut off %s for %v", p.Gateways[i].Name, cut.what, cuts)
			cut.cut(island.cables[i])
			err := r.Pause(cuts)
			cut.mend(island.cables[i])
			noError(err)
			longest = max(longest, p.AwaitCurrent(p.clients))
		}
	}
	p.finish(currentWithin)
	r.Check("caught up", longest <= caughtUp, "%v after a link was there again, at most %v allowed", longest, caughtUp)
	return nil
}

// atHost returns the addresses of NATS servers as they are at another host.
func atHost(servers []*child.NATS, host string) string {
	var all []string
	for _, s := range servers {
		u := must(url.Parse(s.URL))
		all = append(all, "nats://"+host+":"+u.Port())
	}
	return strings.Join(all, ",")
}
