package channel

import "slices"

// Busy is a channel as an operator looks at it.
type Busy struct {
	Name        string
	Subscribers int
	// Rate is its publications per second: over the last eight seconds or so, which is how often Trim
	// comes round. It is 0 for a channel that is newer.
	Rate float64
}

// busy returns what Busiest and Look say of c. The shard's lock is held.
func (c *Channel) busy(sh *shard) Busy {
	b := Busy{Name: c.name, Subscribers: c.Subscribers()}
	if sh.interval > 0 {
		b.Rate = float64(c.recent) * 1000 / float64(sh.interval)
	}
	return b
}

// Look returns what is known of a channel, if it exists.
func (s *Space) Look(name string) (Busy, bool) {
	sh := s.shard(name)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if c := sh.byName[name]; c != nil {
		return c.busy(sh), true
	}
	return Busy{}, false
}

// Busiest returns the first limit channels in the order of compare, and how many channels there are.
// It looks at every channel and holds no channel's lock meanwhile, but that of a part of the names:
// compare must be quick.
func (s *Space) Busiest(limit int, compare func(a, b Busy) int) (first []Busy, all int) {
	if limit <= 0 {
		return nil, s.Channels()
	}
	cut := func() {
		slices.SortFunc(first, compare)
		first = first[:min(limit, len(first))]
	}
	for i := range s.shards {
		sh := &s.shards[i]
		sh.mu.Lock()
		all += len(sh.byName)
		for _, c := range sh.byName {
			if first = append(first, c.busy(sh)); len(first) >= 4*limit {
				cut()
			}
		}
		sh.mu.Unlock()
	}
	cut()
	return first, all
}
