package event

import (
	"sync"
	"sync/atomic"

	"github.com/cespare/xxhash/v2"
)

// intake is where loops leave what has happened, for the notifier's goroutine. Each partition has a
// lock, which is held for an update of a map and a copy of some bytes. So events of one channel keep
// their order.
type intake struct {
	shards [Partitions]shard
	some   atomic.Uint64 // the partitions that have records, a bit for each
}

type shard struct {
	mu sync.Mutex
	// Guarded by mu.
	counts  map[string]int32 // of the subscribers of channels on this node
	records []byte
	dropped map[string]uint64 // events that found no room, by channel
}

// intakeMax is the size of a partition's records from which on events are dropped. The notifier's
// goroutine takes them within milliseconds. Levels are never dropped.
const intakeMax = 256 << 10

func (in *intake) init() {
	for p := range in.shards {
		in.shards[p].counts = make(map[string]int32)
	}
}

// join counts a subscriber, and reports whether there is something to take that was not there before.
func (in *intake) join(channel string, at int64) (first bool) {
	p := partitionOf(channel, "")
	s := &in.shards[p]
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.counts[channel]
	s.counts[channel] = n + 1
	if n > 0 {
		return false
	}
	return in.append(p, &Event{Type: Occupied, Channel: channel, Time: at})
}

// leave is the contrary of join.
func (in *intake) leave(channel string, at int64) (first bool) {
	p := partitionOf(channel, "")
	s := &in.shards[p]
	s.mu.Lock()
	defer s.mu.Unlock()
	switch n := s.counts[channel]; {
	case n > 1:
		s.counts[channel] = n - 1
		return false
	case n < 1:
		panic("event: a channel is left more often than it was joined")
	}
	delete(s.counts, channel)
	return in.append(p, &Event{Type: Vacated, Channel: channel, Time: at})
}

// emit leaves an event. client is Event.Client in bytes, nil if it is there.
func (in *intake) emit(e *Event, client []byte) (first bool) {
	p := partitionOf(e.Channel, e.Client)
	if client != nil && e.Channel == "" {
		p = int(xxhash.Sum64(client) % Partitions)
	}
	s := &in.shards[p]
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.records) >= intakeMax {
		if s.dropped == nil {
			s.dropped = make(map[string]uint64)
		}
		s.dropped[e.Channel]++
		return in.mark(p)
	}
	s.records = appendRecordOf(s.records, client, e)
	return in.mark(p)
}

// append appends a record to those of a partition, whose lock is held.
func (in *intake) append(p int, e *Event) (first bool) {
	s := &in.shards[p]
	s.records = appendRecord(s.records, e)
	return in.mark(p)
}

func (in *intake) mark(p int) (first bool) {
	if in.some.Load()>>p&1 == 1 {
		return false
	}
	return in.some.Or(1<<p) == 0
}

// take returns what a partition has, in exchange for an empty buffer.
func (in *intake) take(p int, buffer []byte) (records []byte, dropped map[string]uint64) {
	s := &in.shards[p]
	s.mu.Lock()
	defer s.mu.Unlock()
	records, dropped = s.records, s.dropped
	s.records, s.dropped = buffer, nil
	return records, dropped
}

// here returns the channels of a partition that have subscribers on this node.
func (in *intake) here(p int) []string {
	s := &in.shards[p]
	s.mu.Lock()
	defer s.mu.Unlock()
	names := make([]string, 0, len(s.counts))
	for channel := range s.counts {
		names = append(names, channel)
	}
	return names
}
