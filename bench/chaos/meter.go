package main

import (
	"math"
	"time"

	hdr "github.com/HdrHistogram/hdrhistogram-go"
)

// Meter is the latency of what was published within a phase, from when its POST began to the read
// that brought it.
type Meter struct {
	// Guarded by the Run's measuring.
	from, to time.Duration  // since the row began
	latency  *hdr.Histogram // microseconds
}

// Meter begins a phase whose latency is measured.
func (r *Run) Meter() *Meter {
	m := &Meter{from: time.Since(r.began), to: math.MaxInt64, latency: hdr.New(1, time.Hour.Microseconds(), 3)}
	r.measuring.Lock()
	defer r.measuring.Unlock()
	r.meters = append(r.meters, m)
	return m
}

// Stop ends the phase. What was published in it and comes later still counts.
func (m *Meter) Stop(r *Run) {
	r.measuring.Lock()
	defer r.measuring.Unlock()
	m.to = time.Since(r.began)
}

func newReturns() *hdr.Histogram { return hdr.New(1, time.Hour.Milliseconds(), 3) }

// cameBack counts a client that was away so long.
func (r *Run) cameBack(after time.Duration) {
	r.measuring.Lock()
	defer r.measuring.Unlock()
	r.returns.RecordValue(after.Milliseconds()) // ignored: no row takes an hour
}

// observe counts a message in the phases that it belongs to.
func (r *Run) observe(published, now time.Duration) {
	r.measuring.Lock()
	defer r.measuring.Unlock()
	for _, m := range r.meters {
		if m.from <= published && published < m.to {
			m.latency.RecordValue(max(now-published, 0).Microseconds()) // ignored: no row takes an hour
		}
	}
}

// Percentile returns the latency that so many percent of all messages do not exceed; 0 without any.
func (m *Meter) Percentile(p float64) time.Duration {
	return time.Duration(m.latency.ValueAtPercentile(p)) * time.Microsecond
}
