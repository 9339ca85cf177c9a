package admit

import "sluice/gateway/rate"

// An address whose connections did harm is refused for a while: a client that has found bytes
// that make the process panic repeats them.

const (
	// blameTimes is how often an address does harm before it is refused, each time
	// within blameFor of the last; blameFor is also for how long it is then, in
	// milliseconds.
	blameTimes = 3
	blameFor   = 60_000
	// blamesMax bounds the addresses that are remembered for it.
	blamesMax = 1024
)

// blame is what an address has done.
type blame struct {
	times    int
	at       int64     // of the table's clock, the last time
	refusals rate.Mark // of Table.refusal
}

// Blame records that a connection with a seat has done harm at now, in milliseconds.
func (t *Table) Blame(s Seat, now int64) {
	if s == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.tick(now)
	k := t.slab[s].key
	b := t.blames[k]
	switch {
	case b != nil && t.clock-b.at < blameFor:
	case b == nil && len(t.blames) >= blamesMax && !t.forgive():
		return
	default:
		b = new(blame)
		if t.blames == nil {
			t.blames = make(map[Key]*blame)
		}
		t.blames[k] = b
	}
	b.times++
	b.at = t.clock
}

// forgive forgets those whose time is over; false when there are none.
func (t *Table) forgive() bool {
	before := len(t.blames)
	for k, b := range t.blames {
		if t.clock-b.at >= blameFor {
			delete(t.blames, k)
		}
	}
	return len(t.blames) < before
}

// blamed returns what an address with so many open connections is refused for, nil where
// it is not: also if most of all connections are its own, because then it is most
// probably a proxy that does not pass on its clients' addresses.
func (t *Table) blamed(k Key, open uint32) *blame {
	b := t.blames[k]
	if b == nil || b.times < blameTimes || t.clock-b.at >= blameFor || 2*uint64(open) > t.open {
		return nil
	}
	return b
}
