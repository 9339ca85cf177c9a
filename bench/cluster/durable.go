package main

import (
	"fmt"
	"math"
	"time"

	"sluice/bench"
	"sluice/bench/child"
	"sluice/bench/sys"
	"sluice/bench/trial"
)

// payload of publications, bytes, as in the issue of every figure that does not say otherwise.
const size = 200

// durableKill: clients and publishers stay; the gateway is killed and started again with the same
// directory and addresses, and the next kill comes when everybody is current.
func durableKill(r *Run) {
	clients, channels := Param(r, "clients", 200, 10_000), Param(r, "channels", 20, 200)
	rate := Param(r, "publications_per_second", 200.0, 2000.0)
	kills := Param(r, "kills", 2, 20)
	under := Param(r, "seconds_under_load", 1.0, 5.0)
	history := Param(r, "history", 1000, 100) // covers 10 s in the long form
	flags := r.storing("--history", fmt.Sprint(history))
	g := r.Gateway(flags...)
	c := r.Crowd(bench.CrowdOptions{
		Options: bench.Options{Protocol: bench.Centrifugo, Channel: "c", Channels: channels}, Clients: clients, Publishers: channels, Rate: rate, Size: size,
		Window: 10 * time.Second,
	}, g)
	defer c.Close() // ignored: the figures have been taken
	var down, current []float64
	for i := range kills {
		c.Publish()
		r.Pause(seconds(under))
		g.Kill()
		killed := time.Now()
		g = r.Gateway(append(flags, "--listen", g.Public, "--internal-listen", g.Internal)...)
		down = append(down, time.Since(killed).Seconds())
		r.profile(g, fmt.Sprintf("back%d", i), seconds(under)) // while clients come back
		r.Until("all clients connected and current", 2*time.Minute, func() bool { return c.Connected() == clients+channels })
		c.Pause(r.Context)
		if !c.Await(r.Context, time.Minute) {
			r.Say("not everybody is current: %+v", c.Report())
		}
		current = append(current, time.Since(killed).Seconds())
		rep := c.Report()
		r.Say("kill %d: ready after %.2f s, all current after %.1f s; missing %d, lost %d, recovered %d, not %d, after the window %d", i+1, down[i], current[i],
			rep.Missing, rep.Lost, rep.Recovered, rep.Unrecovered, rep.Outside)
	}
	rep := c.Report()
	r.crowdCounts(rep)
	r.Figure("acknowledged publications missing", "", trial.AtMost(0).Always(), float64(rep.Missing+rep.Lost))
	r.Figure("share of recovered: true, of clients that are back within 10 s", "%", trial.AtLeast(99.9).Always(), share(rep))
	r.Figure("clients back later that were not recovered", "", trial.Reported, float64(rep.Outside))
	r.Figure("repeated publications", "", trial.AtMost(0).Always(), float64(rep.Repeated))
	r.Figure("recovered in another epoch", "", trial.AtMost(0).Always(), float64(rep.Unfounded))
	r.Figure("time until the gateway is ready again", "s", trial.Reported, down...)
	r.Figure("time until all clients are back and current", "s", trial.Reported, current...)
	r.Figure("time until a client is back, p99", "s", trial.Reported, rep.Back.P99.Seconds())
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// share returns the part of the subscriptions with a position that was recovered, in percent.
func share(rep bench.CrowdReport) float64 {
	return 100 * float64(rep.Recovered) / float64(rep.Recovered+rep.Unrecovered)
}

// crowdCounts notes what a crowd has seen.
func (r *Run) crowdCounts(rep bench.CrowdReport) {
	for name, v := range map[string]int64{
		"acknowledged": rep.Acknowledged, "refused": rep.Refused, "unknown": rep.Unknown, "delivered": rep.Delivered, "repeated": rep.Repeated,
		"reordered": rep.Reordered, "missing": rep.Missing, "told": rep.Told, "lost": rep.Lost, "recovered": rep.Recovered, "unrecovered": rep.Unrecovered, "outside_window": rep.Outside,
		"connected": int64(rep.Connected), "clients": int64(rep.Clients),
	} {
		r.Count(name, float64(v))
	}
	if rep.Failure != nil {
		r.Say("the last failure of a client that came back: %v", rep.Failure)
	}
}

// durableRate measures, in turn in each round, gateways with both ways to sync, one without a data
// directory, and the bare publishers.
func durableRate(r *Run) {
	warmup, duration := Param(r, "warmup", 200*time.Millisecond, 2*time.Second), Param(r, "duration", 500*time.Millisecond, 6*time.Second)
	channels := Param(r, "publishers", 20, 200)
	bare := bareOptions{Size: size, Outstanding: channels, Channels: channels, Warmup: warmup, For: duration}
	rates, cpu := map[string][]float64{}, map[string][]float64{}
	note := func(name string, s speed) {
		rates[name], cpu[name] = append(rates[name], s.PerSecond), append(cpu[name], s.CPU)
		r.Say("%s: %.0f/s, %.1f µs of CPU each", name, s.PerSecond, s.CPU)
	}
	barely := func(always, waiting bool) speed {
		bare.Dir, bare.Always, bare.Waiting = r.Subdir("bare"), always, waiting
		return r.Bare(bare)
	}
	for i := range r.Rounds {
		r.Say("round %d", i+1)
		note("bare", barely(false, false))
		note("interval", r.durablePublishers(channels, warmup, duration, "interval", r.storing("--history-sync", "interval")))
		note("bare, waiting", barely(false, true))
		note("memory", r.durablePublishers(channels, warmup, duration, "memory", nil))
		note("bare, always", barely(true, false))
		note("always", r.durablePublishers(channels, warmup, duration, "always", r.storing("--history-sync", "always")))
	}
	r.Figure("durable publications, --history-sync interval", "/s", trial.AtLeast(15_000), rates["interval"]...)
	r.Figure("... relative to a bare JetStream publisher", "x", trial.AtLeast(0.5), ratios(rates["interval"], rates["bare"])...)
	r.Figure("... to one of goroutines that wait for acknowledgements", "x", trial.Reported, ratios(rates["interval"], rates["bare, waiting"])...)
	r.Figure("... CPU, relative to the bare publisher's", "x", trial.Reported, ratios(cpu["interval"], cpu["bare"])...)
	r.Figure("durable publications, --history-sync always", "/s", trial.Reported, rates["always"]...)
	r.Figure("... relative to a bare JetStream publisher", "x", trial.Reported, ratios(rates["always"], rates["bare, always"])...)
	r.Figure("publications without a data directory", "/s", trial.Reported, rates["memory"]...)
	r.Figure("CPU of a durable publication, interval", "µs", trial.Reported, cpu["interval"]...)
	r.Figure("CPU of a publication without a data directory", "µs", trial.Reported, cpu["memory"]...)
	r.Figure("a bare JetStream publisher, interval", "/s", trial.Reported, rates["bare"]...)
	r.Figure("a bare JetStream publisher, always", "/s", trial.Reported, rates["bare, always"]...)
}

// ratios divides what rounds have measured.
func ratios(a, b []float64) (all []float64) {
	for i := range a {
		all = append(all, a[i]/b[i])
	}
	return all
}

// durablePublishers returns the receipts per second of publishers of a channel each, with half as
// many subscribers, who have two channels each.
func (r *Run) durablePublishers(channels int, warmup, duration time.Duration, name string, flags []string) speed {
	g := r.Gateway(flags...)
	defer g.Kill()
	c := r.Crowd(bench.CrowdOptions{
		Options: bench.Options{Protocol: bench.Centrifugo, Channel: "c", Channels: channels}, Clients: channels / 2, Publishers: channels, Size: size,
	}, g)
	defer c.Close() // ignored: the figures have been taken
	c.Publish()
	r.Pause(warmup)
	r.profile(g, "sync-"+name, duration)
	before, used, begin := c.Acknowledged(), must(sys.CPU(g.PID())), time.Now()
	r.Pause(duration)
	n := float64(c.Acknowledged() - before)
	s := speed{n / time.Since(begin).Seconds(), float64((must(sys.CPU(g.PID())) - used).Microseconds()) / max(n, 1)}
	c.Pause(r.Context)
	c.Await(r.Context, time.Minute)
	rep := c.Report()
	if rep.Missing+rep.Lost+rep.Told+rep.Repeated+rep.Refused+rep.Unknown > 0 {
		r.crowdCounts(rep)
		r.Figure("publications not as they should be", "", trial.AtMost(0).Always(), float64(rep.Missing+rep.Lost+rep.Told+rep.Repeated+rep.Refused+rep.Unknown))
	}
	r.Say("%s: receipt p50 %v p99 %v, delivery p50 %v p99 %v", name, rep.Receipt.P50, rep.Receipt.P99, rep.Latency.P50, rep.Latency.P99)
	return s
}

// live measures the latency of live publications on some gateways that share their channels. A load for
// which the tester itself was late is repeated, as often in a figure as it has rounds.
func (r *Run) live(rate float64, duration time.Duration, gateways ...*child.Process) *bench.Result {
	at := urls(gateways)
	o := bench.FanoutOptions{
		Options: bench.Options{URL: at[0], Protocol: bench.JSON}, Nodes: at[1:],
		Subscribers: 9, Publishers: 3, Rate: rate, Size: size, Duration: duration, Warmup: min(duration/4, 2*time.Second),
	}
	res := must(bench.Fanout(r.Context, o))
	for ; res.Verdict == bench.VerdictInvalid && !r.Short && r.repeated < r.Rounds; r.repeated++ {
		r.Say("again, because the tester was late: %v", res.Reasons)
		res = must(bench.Fanout(r.Context, o))
	}
	m := res.Metrics
	for _, name := range []string{"lost", "repeated", "reordered", "holes", "repeats", "cut", "gaps", "disagreements"} {
		if m[name] > 0 {
			r.Figure("deliveries not as they should be: "+name, "", trial.AtMost(0).Always(), m[name])
		}
	}
	if res.Verdict == bench.VerdictInvalid {
		r.Count("rounds_invalid", r.Result.Counts["rounds_invalid"]+1)
		r.Say("the tester was late: %v", res.Reasons)
	}
	return res
}

// added notes what a latency is above another's, in milliseconds.
func (r *Run) added(what string, p50, p99 float64, with, without [][2]float64) {
	var d50, d99 []float64
	for i := range with {
		d50 = append(d50, 1e3*(with[i][0]-without[i][0]))
		d99 = append(d99, 1e3*(with[i][1]-without[i][1]))
	}
	b50, b99 := trial.Reported, trial.Reported
	if !math.IsNaN(p50) {
		b50, b99 = trial.AtMost(p50), trial.AtMost(p99)
	}
	r.Figure(what+", p50", "ms", b50, d50...)
	r.Figure(what+", p99", "ms", b99, d99...)
}

// percentiles returns p50 and p99 of a result's latency.
func percentiles(res *bench.Result, prefix string) [2]float64 {
	return [2]float64{res.Metrics[prefix+"p50"], res.Metrics[prefix+"p99"]}
}

// durableLatency compares a gateway that stores with one that does not.
func durableLatency(r *Run) {
	rate, duration := Param(r, "publications_per_second", 200.0, 1000.0), Param(r, "duration", 300*time.Millisecond, 8*time.Second)
	stores, plain := r.Gateway(r.storing()...), r.Gateway()
	var with, without [][2]float64
	for i := range r.Rounds {
		without = append(without, percentiles(r.live(rate, duration, plain), ""))
		r.profile(stores, fmt.Sprint("round", i), duration)
		with = append(with, percentiles(r.live(rate, duration, stores), ""))
		r.Say("round %d: without %s, with %s", i+1, milliseconds(without[i]), milliseconds(with[i]))
	}
	r.added("live latency added by durability", 0.3, 3, with, without)
}

func milliseconds(p [2]float64) string {
	return fmt.Sprintf("p50 %.3f ms p99 %.3f ms", 1e3*p[0], 1e3*p[1])
}
