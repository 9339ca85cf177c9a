package chaos

import (
	"fmt"
	"time"
)

func init() {
	register(Row{Number: 17, Name: "memory limit", Run: memoryLimit,
		What: "readers of large messages stall in many channels; the gateway stays within its memory limit, and other readers lose nothing"})
}

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
	flags := []string{"--max-buffered", fmt.Sprint(limit / 2)}
	if r.Knows("--memory-limit") {
		flags = append(flags, "--memory-limit", fmt.Sprint(limit))
	}
	r.result.Parameters["gateway"] = fmt.Sprint(flags)
	g, err := r.Start(append(flags, r.policy("row-*")...)...)
	if err != nil {
		return err
	}
	var publishers []*Publisher
	var bad []*Client
	for i := range channels {
		name := fmt.Sprintf("row-%d", i)
		if _, err := r.Join(g, bystanders, ClientOptions{Name: name + "-reader", Channel: name, Whole: true}); err != nil {
			return err
		}
		// Small buffers there, so that what is due waits in the gateway.
		some, err := r.Join(g, stalled, ClientOptions{Name: name + "-stalled", Channel: name, ReceiveBuffer: 4 << 10})
		if err != nil {
			return err
		}
		bad = append(bad, some...)
	}
	for _, c := range bad {
		c.Stall()
	}
	r.Say("%d stalled readers, %d others", len(bad), channels*bystanders)
	for i := range channels {
		publishers = append(publishers, r.Publish(g, fmt.Sprintf("row-%d", i), rate, size))
	}
	if err := r.Pause(lasts); err != nil {
		return err
	}
	_, err = r.StopPublishing(publishers...)
	if err != nil {
		return err
	}
	for _, c := range bad {
		c.Pace(0)
	}
	r.Settle(30 * time.Second)
	_, peak, err := g.Memory()
	if err != nil {
		return err
	}
	r.Count("rss_peak_bytes", peak)
	r.Check("memory", peak < float64(limit), "RSS %.1f MiB at the peak, the limit is %.0f MiB", peak/(1<<20), float64(limit)/(1<<20))
	r.Check("alive", !g.Ended(), "the gateway is still running")
	if err := r.Judge(g); err != nil {
		return err
	}
	c, err := g.Counters()
	if err != nil {
		return err
	}
	for _, reason := range []string{"slow", "write_timeout", "budget", "pending_full"} {
		r.Count("closed_"+reason, c["connections_closed_total{"+reason+"}"])
	}
	return nil
}
