package channel

import (
	"runtime"
	"sort"
)

// Appending. What an engine has stored, or has from another node, has its position before
// it comes here, and nobody can be pushed back. So it never waits for subscribers that are behind. Up to
// twice its limit may lie in a log, charged to the budget, while laggards are pressed and have their
// grace. Then it is cut (cutLocked): those that are below the cut must go, and others do not notice.
// If the budget is used up, a gap stands in place of the publication in that log alone.
//
// Rejected: to wait until there is room. An engine appends to many channels from one goroutine, and a
// slow subscriber of one of them would hold all of them up.

// Append adds p, whose Epoch, Offset and Prev were assigned elsewhere, to the history and to the log of
// every format in use. What has no offset, such as a join, goes to the logs only. It does not wait for a
// subscriber and is not refused for lack of room. A publication at or below the channel's newest is
// dropped; what is missing up to Prev is a gap, and another epoch is a reset. Prev must be the offset of a
// publication, 0 for the epoch's first: for the first one after Attached, subscribers are sent it as it is. One goroutine at a time
// appends to a channel. Append allocates nothing once s, the logs and the history have grown to the size of
// what is published.
func (c *Channel) Append(p *Publication, s *Scratch) {
	if !c.beginAppend(p, s) {
		return
	}
	passed := false
	defer func() {
		if !passed { // a format has panicked
			c.mu.Lock()
			defer c.mu.Unlock()
			c.passTurnLocked(nil)
		}
		s.letGo(c.space)
	}()
	for !passed {
		s.encode(p, c.space)
		passed = c.endAppend(p, s)
	}
}

// beginAppend takes the turn and says in which formats p has to be encoded. It returns false if p is not
// next in the channel's order.
func (c *Channel) beginAppend(p *Publication, s *Scratch) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.turn.Load() { // a join is encoded, as nothing else is published beside what is appended
		c.mu.Unlock()
		runtime.Gosched()
		c.mu.Lock()
	}
	if c.dead || !c.orderLocked(p) {
		return false
	}
	c.given = true
	p.Channel = c.name
	if p.Offset > 0 && (c.remote == nil || c.offset != c.remote.head) {
		p.Prev = c.offset
	}
	c.beginLocked(s)
	return true
}

// endAppend ends the turn: p is appended to all logs. It returns false if formats have joined
// meanwhile, in which p is to be encoded first.
func (c *Channel) endAppend(p *Publication, s *Scratch) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.matchLocked(s) {
		return false
	}
	defer c.passTurnLocked(nil)
	if c.dead || !c.orderLocked(p) {
		return true
	}
	before := c.offset
	if p.Kind == KindMessage {
		c.taken++
	}
	if p.Offset > 0 {
		c.takeLocked(p)
	}
	for i, l := range c.logs {
		if f := &s.frames[s.order[i]]; f.end > f.start {
			l.giveLocked(s.buf[f.start:f.end], before, p.From)
		}
	}
	return true
}

// giveLocked adds a frame, or a gap in its place if there is no room. before is the channel's offset
// before it.
func (l *Log) giveLocked(frame []byte, before, from uint64) {
	room := l.giveRoomLocked(len(frame))
	if room && l.missed > 1 { // the gap that stands there ends below before
		l.markLocked(KindGap, before)
		l.missed, room = 0, l.giveRoomLocked(len(frame))
	}
	if room {
		l.appendLocked(frame, l.channel.offset, from)
		l.missed = 0
		return
	}
	if l.missed++; l.missed == 1 {
		l.markLocked(KindGap, l.channel.offset)
	}
}

// giveRoomLocked makes room for a frame of n bytes whose position is given: up to twice the
// limit, or twice what the largest frame costs. Beyond the limit the readers are pressed.
func (l *Log) giveRoomLocked(n int) bool {
	cost := n + entryBytes
	if cost > largeFrames*l.limit {
		return false // nobody's going would help
	}
	if l.usedLocked()+cost <= l.limit && l.holdsLocked(n) {
		return true
	}
	l.freeLocked()
	used := l.usedLocked()
	if l.tail >= l.largeEnd {
		l.most = l.limit
	}
	if cost > l.limit {
		l.most, l.largeEnd = max(l.most, cost), l.head.Load()+uint64(n)
	}
	if used+cost > l.limit && l.tail >= l.goal { // not those who are pressed already
		l.goal = l.pressLocked(n)
	}
	if used+cost > 2*l.most {
		return l.cutLocked(n)
	}
	return l.holdsLocked(n) || l.growLocked(n, false)
}

// cutLocked cuts the log, and makes room for a frame of n bytes: it goes on in a new window, with the
// newest frames that cost no more than the limit, or than the largest. The window before stays for
// subscribers below until all readers are above the cut; what an earlier cut has left goes now.
func (l *Log) cutLocked(n int) bool {
	w, head, count := l.window.Load(), l.head.Load(), l.count.Load()
	begin := func(i uint64) uint64 {
		if i == l.tailEntry {
			return l.tail
		}
		return w.at(i - 1).end
	}
	first := l.tailEntry + uint64(sort.Search(int(count-l.tailEntry), func(i int) bool {
		from := l.tailEntry + uint64(i)
		return int(head-begin(from))+entryBytes*int(count-from) <= l.most
	}))
	cut := window{cuts: w.cuts + 1, from: begin(first), first: first, base: w.at(first - 1).offset, based: true}
	bytes, entries := grown(0, ringBytesMin, int(head-cut.from)+n), grown(0, ringEntriesMin, int(count-first)+1)
	if more := bytes + entryBytes*entries - w.older.size(); more <= 0 {
		l.budget.Give(-more)
	} else if !l.budget.Take(more) {
		l.channel.space.starved.Store(true)
		return false
	}
	cut.bytes, cut.entries = make([]byte, bytes), make([]entry, entries)
	w.copyBytes(cut.bytes, cut.from, head)
	w.copyEntries(cut.entries, first, count)
	older := *w
	older.from, older.first = l.tail, l.tailEntry
	older.head, older.count, older.older = head, count, nil
	l.tail, l.tailEntry = cut.from, first
	cut.older = &older
	l.window.Store(&cut)
	return true
}

// dropOlderLocked ends what a cut has left, which no reader needs any more.
func (l *Log) dropOlderLocked(w *window) *window {
	whole := *w
	whole.from, whole.first, whole.based, whole.older = 0, 0, false, nil
	l.budget.Give(w.older.size())
	l.window.Store(&whole)
	return &whole
}
