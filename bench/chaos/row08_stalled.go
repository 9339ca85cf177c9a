package main

import (
	"fmt"
	"time"
)

// cutWithin is how long a client that reads nothing may hold its place.
const cutWithin = 25 * time.Second

// quietRatio bounds the bystanders' p99 against the quiet phase before; only in the
// long form, and only where at least heldLeast of the load was carried: else the machine was
// too busy for its latencies to say anything.
const (
	quietRatio = 1.3
	heldLeast  = 0.95
)

func stalledReaders(r *Run) error {
	readers := Param(r, "readers", 160, 8000)
	stalled := Param(r, "stalled", 40, 2000)
	rate := Param(r, "messages_per_second", 200.0, 100.0)
	size := Param(r, "message_bytes", 512, 512)
	warmup := Param(r, "warmup", 200*time.Millisecond, 3*time.Second)
	quiet := Param(r, "quiet", 300*time.Millisecond, 30*time.Second)
	loaded := Param(r, "stalled_for", 2500*time.Millisecond, time.Minute)
	flags := Param(r, "gateway", []string{"--max-message", "2KiB", "--channel-buffer", "8KiB", "--send-buffer", "8KiB", "--close-timeout", "1s"}, nil)
	receive := Param(r, "receive_buffer_of_stalled", 4<<10, 0) // 0: the kernel's own way, which holds a lot more
	g := must(r.Start(append(flags, r.policy("row")...)...))
	good := must(r.Join(g, readers, ClientOptions{Name: "reader", Channel: "row", Whole: true, Measured: true}))
	bad := must(r.Join(g, stalled, ClientOptions{Name: "stalled", Channel: "row", ReceiveBuffer: receive}))
	p := r.Publish(g, "row", rate, size)
	noError(r.Pause(warmup))
	before := r.Meter()
	noError(r.Pause(quiet))
	before.Stop(r)
	r.Say("%d readers, %d of them stop", len(good)+len(bad), len(bad))
	during := r.Meter()
	for _, c := range bad {
		c.Stall()
	}
	began := time.Now()
	dealt := r.dealtWith(g, len(bad))
	took := time.Since(began)
	r.Check("stalled readers are closed or skipped", dealt, "%d readers after %.1f s, at most %v allowed", len(bad), took.Seconds(), cutWithin)
	for _, c := range bad { // now they may see what they were told
		c.Pace(0)
	}
	noError(r.Pause(loaded - took))
	during.Stop(r)
	held := must(r.StopPublishing(p))
	r.Settle(30 * time.Second)
	if r.judgesSpeed() {
		r.Check("the load was published", held >= heldLeast, "%.1f %% of the load, at least %.0f %% expected", 100*held, 100*heldLeast)
	}
	r.compare(before, during, held >= heldLeast)
	return r.Judge(g)
}

// policy returns the flags of the slow policy that the run asks for.
func (r *Run) policy(channel string) []string {
	if r.Policy == "" || r.Policy == "close" {
		return nil
	}
	r.result.Parameters["slow_policy"] = r.Policy
	return []string{"--slow-policy", channel + "=" + r.Policy}
}

// dealtWith waits until the gateway has cut or skipped so many clients. Of those that
// are skipped it counts skips, of which a client can have several: that each
// single client is told is the judge's concern.
func (r *Run) dealtWith(g *Gateway, n int) bool {
	var seen map[string]float64
	begin := time.Now()
	dealt := r.Await(cutWithin, func() bool {
		if r.Pause(100*time.Millisecond) != nil { // a scrape costs the gateway a millisecond, in the very phase that is measured
			return false
		}
		c, err := g.Counters()
		if err != nil {
			return false
		}
		seen = c
		return seen["connections_closed_total{slow}"]+seen["connections_closed_total{write_timeout}"]+seen["skips_total"] >= float64(n)
	})
	for _, reason := range []string{"connections_closed_total{slow}", "connections_closed_total{write_timeout}", "skips_total"} {
		r.Count("dealt_with_by_"+reason, seen[reason])
	}
	r.Count("dealt_with_after_seconds", time.Since(begin).Seconds())
	return dealt
}

// compare holds the latency of a phase against that of the quiet one. It is judged
// only where it can be.
func (r *Run) compare(quiet, loaded *Meter, carried bool) {
	before, during := quiet.Percentile(99), loaded.Percentile(99)
	ratio := during.Seconds() / max(before.Seconds(), 1e-9)
	r.Count("p50_quiet_seconds", quiet.Percentile(50).Seconds())
	r.Count("p50_seconds", loaded.Percentile(50).Seconds())
	r.Count("p99_quiet_seconds", before.Seconds())
	r.Count("p99_seconds", during.Seconds())
	r.Count("p99_ratio", ratio)
	text := fmt.Sprintf("p99 %v, in the quiet phase %v: %.2f times", during.Round(time.Microsecond), before.Round(time.Microsecond), ratio)
	if !r.judgesSpeed() || !carried {
		r.Say("%s: not judged", text)
		return
	}
	r.Check("the others' p99", ratio <= quietRatio, "%s, at most %.1f", text, quietRatio)
}
