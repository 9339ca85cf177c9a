package loop

import (
	"sync/atomic"
	"time"
)

// Delivery latency: the time from publishing to the last write of the sweep that delivered it,
// measured once for each sweep. It costs one reading of the clock where a channel notifies a
// group, which is once for all that is published until the next sweep, and one at the sweep's
// end; nothing for each subscriber or publication.
//
// A measurement begins with the notification (Group.Notify): that is when the oldest publication
// of the sweep was appended. So of what goes out together, the oldest counts. It ends with the
// first sweep that leaves nobody behind what there was when the measurement began, because a sweep sends a
// subscriber no more than corkBytes of its log. What is published meanwhile has no measurement of its own.
//
// Subscribers whose sockets refuse bytes do not count: they have what they lack when they read
// it, and sluice_blocked_connections and the closes for slowness tell of them. A sweep that
// delivers nothing, because all subscribers are blocked or have left, is not counted either.
//
// Rejected: a time in each entry of a log (8 bytes and a reading of the clock for each
// publication); a time for each write (the same for each subscriber).

// LatencyBounds are the upper bounds of a Histogram's buckets. What is above the last has a
// bucket of its own.
var LatencyBounds = [...]time.Duration{
	50 * time.Microsecond, 100 * time.Microsecond, 250 * time.Microsecond, 500 * time.Microsecond,
	time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond, 10 * time.Millisecond, 25 * time.Millisecond,
	50 * time.Millisecond, 100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond,
	time.Second, 2500 * time.Millisecond, 5 * time.Second, 10 * time.Second,
}

// Histogram counts durations. One loop writes it, any goroutine reads it.
type Histogram struct {
	counts [len(LatencyBounds) + 1]atomic.Uint64
	sum    atomic.Int64 // nanoseconds
}

// observe counts d.
func (h *Histogram) observe(d time.Duration) {
	d = max(d, 0) // the wall clock of a tick was set back
	i := 0
	for i < len(LatencyBounds) && d > LatencyBounds[i] {
		i++
	}
	h.counts[i].Add(1)
	h.sum.Add(int64(d))
}

// Count returns how many durations were counted.
func (h *Histogram) Count() (n uint64) {
	for i := range h.counts {
		n += h.counts[i].Load()
	}
	return n
}

// Load returns how many durations each bucket has, and the sum of all.
func (h *Histogram) Load() (counts []uint64, sum time.Duration) {
	counts = make([]uint64, len(h.counts))
	for i := range counts {
		counts[i] = h.counts[i].Load()
	}
	return counts, time.Duration(h.sum.Load())
}

// started is what monotonic counts from.
var started = time.Now()

// monotonic returns the time as a number that never falls and is never 0, whatever clock the
// loops have.
func monotonic() int64 { return int64(time.Since(started)) + 1 }

// latency is a group's measurement.
type latency struct {
	// Atomic: when the channel notified, 0 for never since the last sweep began.
	notified atomic.Int64

	// Owned by the loop.
	since     int64  // when the measurement began, 0 if there is none
	target    uint64 // the log's head then, in the first sweep
	delivered bool   // some publication was
	short     bool   // this sweep leaves a subscriber below target, although its socket takes bytes
}

// begin is called when a sweep begins, before the notification is cleared: until then there is
// no other.
func (m *latency) begin() (first bool) {
	m.short = false
	if at := m.notified.Load(); at != 0 {
		m.notified.Store(0)
		if m.since == 0 {
			m.since, m.delivered = at, false
			return true
		}
	}
	return false
}

// end is called when a sweep has made its last write.
func (m *latency) end(h *Histogram) {
	if m.since == 0 || m.short {
		return
	}
	if m.delivered {
		h.observe(time.Duration(monotonic() - m.since))
	}
	m.since = 0
}

// reached notes that a subscriber whose socket takes bytes is at a cursor at the sweep's end.
func (m *latency) reached(cursor uint64) { m.short = m.short || cursor < m.target }
