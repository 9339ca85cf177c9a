package main

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"time"

	"sluice/bench"
	"sluice/bench/child"
	"sluice/bench/trial"
)

// nodes starts gateways around NATS servers.
func (r *Run) nodes(n, servers int, flags ...string) ([]*child.Process, []*child.NATS) {
	nats := r.NATS(child.NATSOptions{Servers: servers})
	var all []*child.Process
	for range n {
		all = append(all, r.Gateway(sharing(nats, flags...)...))
	}
	return all, nats
}

// hopLatency compares three gateways around one server with one gateway alone.
func hopLatency(r *Run) {
	rate, duration := Param(r, "publications_per_second", 200.0, 1000.0), Param(r, "duration", 300*time.Millisecond, 8*time.Second)
	alone := r.Gateway("--history", "off")
	without, nats := r.nodes(3, 1, "--history", "off")
	var with []*child.Process
	for range 3 {
		with = append(with, r.Gateway(sharing(nats, "--nats-prefix", "kept")...))
	}
	var single, same, other, all, kept [][2]float64
	for i := range r.Rounds {
		single = append(single, percentiles(r.live(rate, duration, alone), ""))
		r.profile(without[0], fmt.Sprint("round", i), duration)
		res := r.live(rate, duration, without...)
		same, other, all = append(same, percentiles(res, "same_node_")), append(other, percentiles(res, "other_nodes_")), append(all, percentiles(res, ""))
		kept = append(kept, percentiles(r.live(rate, duration, with...), ""))
		r.Say("round %d: alone %s; same node %s; other nodes %s; with history %s", i+1, milliseconds(single[i]), milliseconds(same[i]), milliseconds(other[i]), milliseconds(kept[i]))
	}
	r.added("latency added by one hop", 0.5, 3, all, single)
	r.added("... on other nodes than the publisher's", math.NaN(), 0, other, single)
	r.added("... on the publisher's node", math.NaN(), 0, same, single)
	r.added("... with history", math.NaN(), 0, kept, single)
}

// highestRate searches for the highest rate that three gateways hold.
func highestRate(r *Run) {
	duration := Param(r, "duration", 200*time.Millisecond, 6*time.Second)
	first := Param(r, "first_rate", 200.0, 4000.0)
	gateways, _ := r.nodes(3, 1, "--history", "off")
	var held []float64
	for i := range r.Rounds {
		at := urls(gateways)
		o := bench.FanoutOptions{
			Options: bench.Options{URL: at[0], Protocol: bench.Raw}, Nodes: at[1:],
			Subscribers: 30, Publishers: 6, Rate: first, FindMax: !r.Short, Size: 1024, Duration: duration,
		}
		res := must(bench.Fanout(r.Context, o))
		rate := res.Metrics["rate_held"]
		if r.Short {
			rate = res.Metrics["published"] / duration.Seconds()
			r.Figure("lost, repeated or reordered", "", trial.AtMost(0).Always(), res.Metrics["lost"]+res.Metrics["repeated"]+res.Metrics["reordered"])
		}
		held = append(held, rate)
		r.Say("round %d: %.0f/s, p50 %.2f ms, p99 %.2f ms", i+1, rate, 1e3*res.Metrics["p50"], 1e3*res.Metrics["p99"])
		r.profileAt(gateways, o, rate, fmt.Sprint("round", i))
	}
	r.Figure("publications of 1 KB without history, 30 subscribers", "/s", trial.AtLeast(5000), held...)
}

// profileAt repeats a load at a rate while profiles are written, if they are wanted.
func (r *Run) profileAt(gateways []*child.Process, o bench.FanoutOptions, rate float64, name string) {
	if r.Profile == "" {
		return
	}
	o.FindMax, o.Rate = false, rate
	r.profile(gateways[0], name, o.Duration)
	if _, err := bench.Fanout(r.Context, o); err != nil {
		r.Say("under the profile: %v", err)
	}
	r.profiling.Wait()
}

// heapAlloc is a line of a heap profile in text.
var heapAlloc = regexp.MustCompile(`# HeapAlloc = (\d+)`)

// heap returns the bytes of a gateway's heap after a garbage collection.
func heap(g *child.Process) float64 {
	var last string
	for range 3 { // what finalizers and pools held back goes with the next one
		body := must(g.Get("/debug/pprof/heap?gc=1&debug=1"))
		m := heapAlloc.FindSubmatch(body)
		if m == nil {
			noError(errors.New("the heap profile has no HeapAlloc"))
		}
		last = string(m[1])
	}
	return must(strconv.ParseFloat(last, 64))
}

// eachClient is how many channels a client has where there are many.
const eachClient = 100

// manyChannels subscribes to so many channels of a gateway, each once.
func (r *Run) manyChannels(g *child.Process, channels int) *bench.Crowd {
	return r.Crowd(bench.CrowdOptions{
		Options: bench.Options{Protocol: bench.Centrifugo, Channel: "c", Channels: channels, Timeout: 2 * time.Minute},
		Clients: max(channels/eachClient, 1),
	}, g)
}

// channelMemory compares the heap that channels take with each engine.
func channelMemory(r *Run) {
	channels := Param(r, "channels", 2000, 100_000)
	room := []string{"--max-channels", fmt.Sprint(2 * channels)}
	nats := r.NATS(child.NATSOptions{Servers: 1})
	per := func(name string, flags ...string) float64 {
		g := r.Gateway(append(room, flags...)...)
		defer g.Kill()
		before := heap(g)
		c := r.manyChannels(g, channels)
		defer c.Close() // ignored: the figures have been taken
		bytes := (heap(g) - before) / float64(channels)
		r.Say("%s: %.0f bytes per channel", name, bytes)
		return bytes
	}
	var local, shared, kept, durable []float64
	for range r.Rounds {
		l := per("local", "--history", "off")
		lh := per("local with history")
		local = append(local, l)
		shared = append(shared, per("shared", sharing(nats, "--history", "off")...)-l)
		kept = append(kept, per("shared with history", sharing(nats)...)-lh)
		durable = append(durable, per("durable", r.storing()...)-lh)
	}
	r.Figure("heap per channel with interest, local engine", "B", trial.Reported, local...)
	r.Figure("... beyond that, nodes, without history", "B", trial.AtMost(1024), shared...)
	r.Figure("... beyond that, nodes, with history", "B", trial.AtMost(1024), kept...)
	r.Figure("... beyond that, a data directory", "B", trial.Reported, durable...)
}

// resubscribe kills the NATS server of a gateway with many channels.
func resubscribe(r *Run) {
	channels := Param(r, "channels", 2000, 200_000)
	nats := r.NATS(child.NATSOptions{Servers: 1})
	g := r.Gateway(sharing(nats, "--history", "off", "--max-channels", fmt.Sprint(2*channels))...)
	c := r.manyChannels(g, channels)
	defer c.Close() // ignored: the figures have been taken
	s := nats[0]
	r.Until("all channels are subscribed", time.Minute, func() bool { return subscriptions(s) >= channels })
	var fromReady, fromKill []float64
	for i := range r.Rounds {
		r.sample(g, c, channels)
		killed := time.Now()
		s.Kill()
		r.Pause(500 * time.Millisecond) // a restart takes its time
		noError(s.Again())
		r.Until("the server is healthy again", time.Minute, s.Healthy)
		ready := time.Now()
		r.profile(g, fmt.Sprint("round", i), 3*time.Second)
		r.Until("all channels are subscribed again", time.Minute, func() bool { return subscriptions(s) >= channels })
		fromReady, fromKill = append(fromReady, time.Since(ready).Seconds()), append(fromKill, time.Since(killed).Seconds())
		r.Say("round %d: %.2f s after the server is ready, %.2f s after the kill", i+1, fromReady[i], fromKill[i])
	}
	r.sample(g, c, channels)
	r.Figure(fmt.Sprintf("%d channels subscribed again, from the server's being ready", channels), "s", trial.AtMost(3), fromReady...)
	r.Figure("... from the kill", "s", trial.Reported, fromKill...)
	rep := c.Report()
	r.Count("connected", float64(rep.Connected))
}

// sample publishes to some of the channels and waits until their subscribers have it.
func (r *Run) sample(g *child.Process, c *bench.Crowd, channels int) {
	before := must(g.Metrics()).Sum("sluice_deliveries_total", "", "")
	const samples = 50
	for i := range samples {
		r.Until("a publication is accepted", 30*time.Second, func() bool {
			_, err := g.Post(fmt.Sprintf("/publish/c%d", i*(channels/samples)), "text/plain", `{"sample":1}`)
			return err == nil
		})
	}
	r.Until("subscribers have what was published", 30*time.Second, func() bool {
		return must(g.Metrics()).Sum("sluice_deliveries_total", "", "") >= before+samples
	})
}

// resume: all clients leave one node, miss some publications, and come back on another one.
func resume(r *Run) {
	clients, channels := Param(r, "clients", 200, 10_000), Param(r, "channels", 20, 200)
	missed := Param(r, "missed", 20, 20)
	gateways, nats := r.nodes(3, 1)
	readers := r.Readers(nats)
	defer readers.conn.Close()
	var took, reads, recovered []float64
	missing := 0.0
	for i := range r.Rounds {
		c := r.Crowd(bench.CrowdOptions{
			Options: bench.Options{Protocol: bench.Centrifugo, Channel: fmt.Sprintf("r%d-", i), Channels: channels},
			Clients: clients, Publishers: channels, OnFirst: true, Size: size,
		}, gateways...)
		last := len(gateways) - 1
		c.PublishEach(r.Context, 1) // everybody stands somewhere
		c.Await(r.Context, time.Minute)
		c.Depart()
		r.Pause(Param(r, "away", 100*time.Millisecond, 3*time.Second))
		c.PublishEach(r.Context, missed)
		readers.take()
		r.profile(gateways[last], fmt.Sprint("round", i), 3*time.Second)
		d, err := c.Return(r.Context, last, 512)
		noError(err)
		if !c.Await(r.Context, time.Minute) {
			r.Say("not everybody is current")
		}
		took = append(took, d.Seconds())
		most, all, heads := readers.take()
		reads = append(reads, float64(most))
		r.Count("reads", float64(all))
		r.Count("questions_for_heads", float64(heads))
		rep := c.Report()
		r.crowdCounts(rep)
		missing += float64(rep.Missing + rep.Lost + rep.Told + rep.Repeated)
		recovered = append(recovered, share(rep))
		noError(c.Close())
	}
	r.Figure(fmt.Sprintf("%d clients resume %d publications each on another node", clients, missed), "s", trial.AtMost(5), took...)
	r.Figure("reads of a stream for one channel, at most", "", trial.AtMost(1).Always(), slices.Max(reads))
	r.Figure("publications missing, repeated or not recovered", "", trial.AtMost(0).Always(), missing)
	r.Figure("share of recovered: true, in the worst round", "%", trial.AtLeast(99.9).Always(), slices.Min(recovered))
}

// gatewayKill kills one of three gateways after the other.
func gatewayKill(r *Run) {
	clients, channels := Param(r, "clients", 150, 9000), Param(r, "channels", 20, 100)
	rate := Param(r, "publications_per_second", 100.0, 500.0)
	gateways, nats := r.nodes(3, 1)
	c := r.Crowd(bench.CrowdOptions{
		Options: bench.Options{Protocol: bench.Centrifugo, Channel: "c", Channels: channels}, Clients: clients, Publishers: channels, Rate: rate, Size: size,
	}, gateways...)
	defer c.Close() // ignored: the figures have been taken
	var p99, worst []float64
	c.Publish()
	for i := range r.Rounds {
		r.Pause(Param(r, "seconds_between", 500*time.Millisecond, 5*time.Second))
		k := i % len(gateways)
		c.ResetTimes()
		gateways[k].Kill()
		r.Until("all clients are back", time.Minute, func() bool { return c.Connected() == clients+channels })
		back := c.Report().Back
		p99, worst = append(p99, back.P99.Seconds()), append(worst, back.Max.Seconds())
		r.Say("round %d: %d clients back, p50 %v, p99 %v, last %v", i+1, back.Count, back.P50, back.P99, back.Max)
		gateways[k] = r.Gateway(sharing(nats, "--listen", gateways[k].Public)...)
	}
	c.Pause(r.Context)
	if !c.Await(r.Context, time.Minute) {
		r.Say("not everybody is current")
	}
	rep := c.Report()
	r.crowdCounts(rep)
	r.Figure("a killed gateway's clients are back on the others, p99", "s", trial.AtMost(10), p99...)
	r.Figure("... the last one", "s", trial.Reported, worst...)
	r.Figure("acknowledged publications missing", "", trial.AtMost(0).Always(), float64(rep.Missing+rep.Lost))
	r.Figure("share of recovered: true", "%", trial.AtLeast(99.9).Always(), share(rep))
}
