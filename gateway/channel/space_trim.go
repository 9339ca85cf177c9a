package channel

import "container/list"

// trimPart is how many calls of Trim go round all shards once.
const trimPart = 8

// Trim frees the memory of logs that are served and quiet since the last
// round, and lets publishers that wait try again, should only the budget have
// been in their way. Readers that hold a quiet log are notified, because their
// subscribers may have caught up since they looked. It looks at an eighth of the
// channels at each call. now is the time, in the unit of Publication.At: what is
// kept too long goes, and channels that nobody reads with it.
//
// When the budget has refused a log, every shard is relieved as well; when it has
// refused a history everything, shards give up one each until an eighth of the
// histories' budget is free.
func (s *Space) Trim(now int64) {
	s.now.Store(now)
	s.letGo(now)
	historyStarved := s.historyStarved.Swap(false)
	part := s.trimmed.Add(1) % trimPart
	starved := s.starved.Swap(false)
	for i := range s.shards {
		if uint64(i)%trimPart == part {
			s.trim(&s.shards[i], now)
		}
		if historyStarved && s.history.Budget.free() < s.history.Budget.limit/8 {
			s.shards[(i+int(part)*trimPart)%spaceShards].forget()
		}
		if starved {
			s.shards[i].relieve()
		}
	}
}

func (s *Space) trim(sh *shard, now int64) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if sh.interval = 0; sh.trimmedAt > 0 {
		sh.interval = now - sh.trimmedAt
	}
	sh.trimmedAt = now
	for _, c := range sh.byName {
		c.trim(now)
	}
	for _, unread := range []*list.List{&sh.empty, &sh.idle} {
		var next *list.Element
		for e := unread.Front(); e != nil; e = next {
			next = e.Next()
			c := e.Value.(*Channel)
			if c.idleSince > now-c.keep.TTL {
				continue // channels differ in how long they may be idle
			}
			newest, ended := s.endLocked(sh, c, now-c.keep.TTL)
			if !ended {
				c.idleSince = newest
				unread.MoveToBack(e)
			}
		}
	}
}

// trim frees what is not needed at present, and notes how much was published since the last
// time. The shard's lock is held.
func (c *Channel) trim(now int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.recent, c.counted = c.taken-c.counted, c.taken
	for _, l := range c.logs {
		if l.missed > 1 { // behind the gap that was told; nothing may follow
			l.markLocked(KindGap, c.offset)
			l.missed = 1
		}
		if l.idle && l.window.Load() != nil {
			if l.freeLocked() == l.head.Load() {
				l.dropLocked()
			}
			for _, r := range l.readers {
				if r.served.Load() != l.head.Load() {
					r.notify()
				}
			}
		}
		l.idle = true
	}
	if h := &c.history; h.len() > 0 {
		if h.expire(now, c.keep.TTL); h.len() == 0 {
			h.release(c.offset, c.space.history.Budget)
		}
	}
	if len(c.waiters) > 0 {
		c.callAgainLocked()
	}
}

// forget drops the largest history of the shard, of those that nobody reads if
// there are any.
func (sh *shard) forget() {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	var largest *Channel
	most := 0
	for _, c := range sh.byName {
		c.mu.Lock()
		n := c.history.size()
		c.mu.Unlock()
		unread := c.idle != nil
		switch {
		case n == 0:
		case largest == nil || unread && largest.idle == nil:
			largest, most = c, n
		case n > most && (unread || largest.idle == nil):
			largest, most = c, n
		}
	}
	if largest != nil {
		largest.mu.Lock()
		largest.history.release(largest.offset, largest.space.history.Budget)
		largest.mu.Unlock()
	}
}

// relieve gives back the memory of logs that are served, even if they were just
// used, and presses the readers of the one that holds most for laggards: what the
// subscribers of one channel keep is no reason to stop another. All publishers
// that wait may try again.
func (sh *shard) relieve() {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	var worst *Log
	for _, c := range sh.byName {
		c.mu.Lock()
		for _, l := range c.logs {
			switch low := l.freeLocked(); {
			case low == l.head.Load():
				l.dropLocked()
			case worst == nil || len(l.window.Load().bytes) > len(worst.window.Load().bytes):
				worst = l
			}
		}
		if len(c.waiters) > 0 {
			c.callAgainLocked()
		}
		c.mu.Unlock()
	}
	if worst != nil {
		worst.channel.mu.Lock()
		worst.pressToLocked(worst.head.Load())
		worst.channel.mu.Unlock()
	}
}
