package chaos

import (
	"math/bits"
	"slices"
	"sync/atomic"
	"time"
)

// Meter is a histogram of the latency of what was published within a phase, from
// when its POST began to the read that brought it. All clients that are measured
// share it, so its counts are atomic: one addition for each message.
type Meter struct {
	from, to atomic.Int64 // since the row began
	buckets  [64 << meterBits]atomic.Uint64
}

// meterBits is how many bits of a value behind its first count: buckets are 3 %
// wide.
const meterBits = 5

// Meter begins a phase whose latency is measured.
func (r *Run) Meter() *Meter {
	m := &Meter{}
	m.from.Store(int64(time.Since(r.began)))
	m.to.Store(1<<63 - 1)
	meters := append(slices.Clone(*r.measuring.Load()), m)
	r.measuring.Store(&meters)
	return m
}

// Stop ends the phase. What was published in it and comes later still counts.
func (m *Meter) Stop(r *Run) { m.to.Store(int64(time.Since(r.began))) }

func (m *Meter) observe(published, now time.Duration) {
	if int64(published) < m.from.Load() || int64(published) >= m.to.Load() {
		return
	}
	m.buckets[bucket(uint64(max(now-published, 0)))].Add(1)
}

// bucket returns the place of a value: its power of two, and the bits behind the
// first one.
func bucket(v uint64) int {
	n := bits.Len64(v)
	if n <= meterBits {
		return int(v)
	}
	shift := n - meterBits - 1
	return (shift+1)<<meterBits | int(v>>shift)&(1<<meterBits-1)
}

// bound returns the least value that lies above a bucket.
func bound(i int) uint64 {
	i++
	if i < 2<<meterBits {
		return uint64(i)
	}
	shift := i>>meterBits - 1
	return uint64(1<<meterBits|i&(1<<meterBits-1)) << shift
}

// Quantile returns the value below which that part of all lies; 0 without any.
func (m *Meter) Quantile(q float64) time.Duration {
	var total, seen uint64
	for i := range m.buckets {
		total += m.buckets[i].Load()
	}
	for i := range m.buckets {
		if seen += m.buckets[i].Load(); total > 0 && float64(seen) >= q*float64(total) {
			return time.Duration(bound(i))
		}
	}
	return 0
}

// observe counts a message in the phase that it belongs to.
func (r *Run) observe(published, now time.Duration) {
	for _, m := range *r.measuring.Load() {
		m.observe(published, now)
	}
}
