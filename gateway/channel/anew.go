package channel

import (
	"maps"
	"slices"
)

// anewMost is how many publications go at most while a channel is locked once.
const anewMost = 1024

// KeepAnew asks for the size of each channel's history again, after what KeepHistory was given says something else. What is
// too much then goes. It is safe for concurrent use, and holds no lock for longer than a publisher may.
func (s *Space) KeepAnew() {
	for i := range s.shards {
		sh := &s.shards[i]
		for _, c := range sh.all() {
			for !s.keepAnew(sh, c) {
			}
		}
	}
}

// all returns the channels that there are now.
func (sh *shard) all() []*Channel {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return slices.AppendSeq(make([]*Channel, 0, len(sh.byName)), maps.Values(sh.byName))
}

// keepAnew reports whether nothing is left to do for the channel.
func (s *Space) keepAnew(sh *shard, c *Channel) (done bool) {
	keep := s.history.Of(c.name)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	h := &c.history
	if c.dead {
		return true
	}
	if c.keep = keep; keep.Count <= 0 {
		h.release(c.offset, s.history.Budget)
		return true
	}
	for n := 0; h.len() > keep.Count; n++ {
		if n == anewMost {
			return false
		}
		h.drop()
	}
	return true
}
