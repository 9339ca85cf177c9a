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

	BytesIn, BytesOut       atomic.Uint64
	Messages, Publications  atomic.Uint64
	Deliveries, Writes      atomic.Uint64
	PushBacks, Blockings    atomic.Uint64
	Pings, Panics, Sweeps   atomic.Uint64
	Recoveries, Gaps        atomic.Uint64
	Recalled                atomic.Uint64
	Closed                  [ReasonCount]atomic.Uint64
	Skips                   atomic.Uint64
	Subscribed              atomic.Uint64                    // subscriptions of the client protocol that have begun
	Dropped                 [DroppedBySkip + 1]atomic.Uint64 // publications
	Lag, LagSum, LagSamples atomic.Int64                     // nanoseconds
}

// observeLag notes how late a tick was.
func (s *Stats) observeLag(d time.Duration) {
	s.Lag.Store(int64(d))
	s.LagSum.Add(int64(d))
	s.LagSamples.Add(1)
}
