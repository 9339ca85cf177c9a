package main

import (
	"fmt"
	"time"
)

func memoryLimit(r *Run) error {
	channels := Param(r, "channels", 4, 50)
	stalled := Param(r, "stalled_in_each", 50, 100)
	bystanders := Param(r, "bystanders_in_each", 2, 4)
	rate := Param(r, "messages_per_second_and_channel", 10.0, 2.0)
	size := Param(r, "message_bytes", 60<<10, 60<<10) // a record of it is 64 KiB at most
	lasts := Param(r, "lasts", 2500*time.Millisecond, time.Minute)
	limit := Param(r, "limit_bytes", 96<<20, 512<<20)
	// The budget for buffers is a part of the memory that the process may have: its
	// connections, its code and what the collector has not freed want some too.
	flags := []string{"--max-buffered", fmt.Sprint(limit / 2), "--memory-limit", fmt.Sprint(limit)}
	r.result.Parameters["gateway"] = fmt.Sprint(flags)
	g := must(r.Start(append(flags, r.policy("row-*")...)...))
	var publishers []*Publisher
	var bad []*Client
	for i := range channels {
		name := fmt.Sprintf("row-%d", i)
		must(r.Join(g, bystanders, ClientOptions{Name: name + "-reader", Channel: name, Whole: true}))
		// Small buffers there, so that what is due waits in the gateway.
		some := must(r.Join(g, stalled, ClientOptions{Name: name + "-stalled", Channel: name, ReceiveBuffer: 4 << 10}))
		bad = append(bad, some...)
	}
	for _, c := range bad {
		c.Stall()
	}
	r.Say("%d stalled readers, %d others", len(bad), channels*bystanders)
	for i := range channels {
		publishers = append(publishers, r.Publish(g, fmt.Sprintf("row-%d", i), rate, size))
	}
	noError(r.Pause(lasts))
	must(r.StopPublishing(publishers...))
	for _, c := range bad {
		c.Pace(0)
	}
	r.Settle(30 * time.Second)
	peak := g.memory("VmHWM")
	r.Count("rss_peak_bytes", peak)
	r.Check("memory", peak < float64(limit), "RSS %.1f MiB at the peak, the limit is %.0f MiB", peak/(1<<20), float64(limit)/(1<<20))
	r.Check("alive", !g.HasEnded(), "the gateway is still running")
	noError(r.Judge(g))
	c := must(g.Counters())
	for _, reason := range []string{"slow", "write_timeout", "budget", "pending_full"} {
		r.Count("closed_"+reason, c["connections_closed_total{"+reason+"}"])
	}
	return nil
}
