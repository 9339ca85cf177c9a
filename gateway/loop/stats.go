package loop

import (
	"sync/atomic"
	"time"
)

// DroppedBySkip is where publications are counted that the slow policy skipped, behind
// the reasons for which connections end.
const DroppedBySkip = ReasonCount

// Stats are written by one loop and read by the collector.
type Stats struct {
	Connections atomic.Int64
	Blocked     atomic.Int64
	Held        atomic.Int64 // bytes
	Users       atomic.Int64
	Closing     atomic.Int64 // of Connections, those that are being closed
	Draining    atomic.Int64 // Connections when the loop began to close all; 0 before

	BytesIn, BytesOut     atomic.Uint64
	Messages              atomic.Uint64
	Deliveries, Writes    atomic.Uint64
	PushBacks, Blockings  atomic.Uint64
	Pings, Panics, Sweeps atomic.Uint64
	Recoveries, Gaps      atomic.Uint64
	Recalled              atomic.Uint64
	Closed                [ReasonCount]atomic.Uint64
	Skips                 atomic.Uint64
	Subscribed            atomic.Uint64                    // subscriptions of the client protocol that have begun
	Dropped               [DroppedBySkip + 1]atomic.Uint64 // publications
	Lag                   Histogram                        // of ticks
	Delivery              Histogram                        // see latency.go
	ByClass               []ClassStats                     // the slice is set at construction
}

// ClassStats are the statistics of a class of channels, see channel.Space.Classify.
type ClassStats struct {
	Subscriptions atomic.Int64
	Publications  atomic.Uint64 // of clients, that were accepted
}

// newClassStats returns them for n classes, in memory of their own: no other loop's are in the same
// cache line.
func newClassStats(n int) []ClassStats {
	const inLine = 4
	return make([]ClassStats, n, (n+inLine-1)/inLine*inLine)
}

// Publications returns how many publications of clients were accepted.
func (s *Stats) Publications() (n uint64) {
	for i := range s.ByClass {
		n += s.ByClass[i].Publications.Load()
	}
	return n
}

// Subscriptions returns how many subscriptions there are.
func (s *Stats) Subscriptions() (n int64) {
	for i := range s.ByClass {
		n += s.ByClass[i].Subscriptions.Load()
	}
	return n
}

// observeLag notes how late a tick was.
func (s *Stats) observeLag(d time.Duration) { s.Lag.observe(d) }
