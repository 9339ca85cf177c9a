package loop

import (
	"math"
	"time"

	"sluice/gateway/channel"
	"sluice/gateway/wire/deflate"
	"sluice/poller"
)

// sub is one connection's subscription, as a sweep walks over it: 24 bytes in a
// dense slice, so that a delivery touches nothing else of the connection.
type sub struct {
	cursor uint64 // Invariant: an entry's end in the log, not below what the group has published; or see lostCursor
	c      *Conn  // nil: a hole that a leaver left during a sweep
	fd     int32
	// direct: the socket takes bytes as far as is known, and nothing but this
	// log is due to the connection.
	direct  bool
	blocked bool  // the socket refused bytes
	flags   uint8 // FlagNoEcho, and the bits below it as the protocol defines them
}

// FlagNoEcho: the subscriber is not sent what it published itself. It is set when the
// subscription begins, and never changed.
const FlagNoEcho uint8 = 1 << 7

// Group is a loop's subscribers of one channel in one format. It is the loop's
// side of a channel.Reader, and belongs to the loop.
type Group struct {
	channel.Reader

	// Set at construction.
	loop *Loop
	key  groupKey

	subs  []sub
	holes int // nil places in subs; only while a sweep is under way

	// A sweep goes over all subs once. It may be paused between two of them.
	sweeping bool
	next     int    // index of the next sub to look at
	low      uint64 // lowest cursor seen by this sweep

	latency latency

	queued bool // in loop.sweeps or loop.delayed
	dirty  bool // another sweep is needed after this one

	// The log is full: subscribers below pressed must go on, or go.
	pressed   uint64
	pressedAt time.Time // since when they were found to hold it back; zero when they are not
	dismissal dismissal

	notBefore time.Time // when the next sweep may begin: a batch window, a grace

	observed bool // an observer was notified that it has subscribers
}

// Channel returns the name of the channel.
func (g *Group) Channel() string { return g.key.channel }

// Format returns the format of the group's log, without its compression.
func (g *Group) Format() channel.Format { return deflate.Plain(g.key.format) }

// Notify implements channel.Subscriber.
func (g *Group) Notify() {
	g.latency.notified.Store(monotonic())
	g.loop.Post(g)
}

// Deliver asks for a sweep: the channel has news for the group.
func (g *Group) Deliver(l *Loop) {
	if len(g.subs) == 0 {
		return // everybody left meanwhile
	}
	g.again()
}

// again asks for a sweep.
func (g *Group) again() {
	g.dirty = true
	if g.queued {
		return
	}
	g.queued = true
	l := g.loop
	if !g.notBefore.IsZero() {
		if wait := g.notBefore.Sub(l.time); wait > 0 {
			l.delay(g, wait)
			return
		}
		g.notBefore = time.Time{}
	}
	l.sweeps = append(l.sweeps, g)
	if !l.turning {
		l.poller.Wake()
	}
}

// delay puts a group off. One timer serves all groups of the loop: it goes off for
// the first of them, and groups that are not due then are put off again.
func (l *Loop) delay(g *Group, wait time.Duration) {
	l.delayed = append(l.delayed, g)
	switch {
	case l.timer == nil:
		l.timer = time.AfterFunc(wait, func() { l.Post(delayOver{}) })
	case len(l.delayed) == 1 || g.notBefore.Before(l.timerAt):
		l.timer.Reset(wait)
	default:
		return
	}
	l.timerAt = g.notBefore
}

// delayOver is posted by the loop's timer.
type delayOver struct{}

// Deliver lets the groups sweep that are due.
func (delayOver) Deliver(l *Loop) {
	next := time.Duration(math.MaxInt64)
	rest := l.delayed[:0]
	for _, g := range l.delayed {
		if wait := g.notBefore.Sub(l.time); wait > 0 {
			next = min(next, wait)
			rest = append(rest, g)
			continue
		}
		l.sweeps = append(l.sweeps, g)
	}
	clear(l.delayed[len(rest):])
	l.delayed = rest
	if len(rest) > 0 {
		l.timer.Reset(next)
		l.timerAt = l.time.Add(next)
	}
}

// Group returns the loop's group of a channel in a format, or in its compressed form if the client
// has negotiated that. A new one must be entered, or ended, before anything else happens.
func (c *Conn) Group(name string, f channel.Format) (*Group, error) {
	l := c.loop
	if c.has(bitCompressed) {
		f = l.cfg.Compressors.Format(f, c.gzips())
	}
	key := groupKey{name, f}
	if g := l.groups[key]; g != nil {
		return g, nil
	}
	g := &Group{loop: l, key: key}
	if err := l.space.Join(name, f, g, &g.Reader); err != nil {
		return nil, err
	}
	g.key.channel = g.Log().Channel().Name() // name may be a copy of its own
	l.groups[g.key] = g
	return g, nil
}

// enter makes c a subscriber, see Conn.Enter. It returns false for a dead connection.
func (l *Loop) enter(c *Conn, g *Group, cursor uint64, flags uint8) bool {
	c.Plant("enter")
	if c.Phase == phaseDead {
		l.EndIfEmpty(g)
		return false
	}
	r := Ref{group: g, index: int32(len(g.subs))}
	g.subs = append(g.subs, sub{cursor: cursor, c: c, fd: int32(c.FD()), flags: flags})
	if c.sub.group == nil {
		c.sub = r
	} else {
		e := c.extra()
		e.more = append(e.more, r)
	}
	g.joins()
	ch := g.Log().Channel()
	ch.Joined()
	l.stats.ByClass[ch.Class()].Subscriptions.Add(1)
	if n := c.Refs(); n <= 2 { // the first is not alone any more
		c.mark()
	} else {
		c.markRef(c.Ref(n - 1))
	}
	c.indexLast()
	if cursor < g.Log().Head() {
		g.again()
	}
	return true
}

// leaveAll drops all subscriptions of c.
func (l *Loop) leaveAll(c *Conn) {
	c.giveUp(c.reason)
	c.unsubscribedAll()
	if c.Out != nil {
		c.endCatchUp()
	}
	for i := range c.Refs() {
		r := c.Ref(i)
		l.stats.Dropped[c.reason].Add(c.unsent(r, r.group.Log().Head()))
		c.protocol().Left(c, r)
		l.leave(*r)
	}
	c.dropIndex()
	c.sub = Ref{}
	if c.ext != nil {
		c.ext.more = nil
	}
}

// leave takes a sub out of its group. During a sweep it leaves a hole, because
// filling it with the last sub could carry that one past the sweep.
func (l *Loop) leave(r Ref) {
	g := r.group
	ch := g.Log().Channel()
	ch.Left()
	l.stats.ByClass[ch.Class()].Subscriptions.Add(-1)
	g.subs[r.index] = sub{}
	g.holes++
	if !g.sweeping {
		g.fillAt(int(r.index))
	}
	l.EndIfEmpty(g)
}

// EndIfEmpty ends a group without subscribers.
func (l *Loop) EndIfEmpty(g *Group) {
	if len(g.subs) == g.holes {
		g.subs, g.holes, g.sweeping, g.dirty = nil, 0, false, false
		g.letGo()
		g.leaves()
		delete(l.groups, g.key)
		l.space.Leave(&g.Reader)
	}
}

// fill closes the holes up with subs from the end.
func (g *Group) fill() {
	for i := 0; g.holes > 0; i++ {
		if g.subs[i].c == nil {
			g.fillAt(i)
		}
	}
	if cap(g.subs) > 64 && len(g.subs) < cap(g.subs)/4 {
		g.subs = append(make([]sub, 0, len(g.subs)*2), g.subs...)
	}
}

// fillAt closes the hole at i, and those at the end that are in the way.
func (g *Group) fillAt(i int) {
	last := len(g.subs) - 1
	for ; last > i && g.subs[last].c == nil; last-- {
		g.holes--
	}
	if last > i {
		g.subs[i] = g.subs[last]
		g.subs[i].c.moved(g, int32(last), int32(i))
	}
	clear(g.subs[last:])
	g.subs = g.subs[:last]
	g.holes--
}

// moved corrects the connection's side of a subscription whose sub has moved.
func (c *Conn) moved(g *Group, from, to int32) {
	c.Plant("moved")
	if i, ok := c.index()[g.key.channel]; ok {
		c.Ref(int(i)).index = to
		return
	}
	for i := range c.Refs() {
		if r := c.Ref(i); r.group == g && r.index == from {
			r.index = to
			return
		}
	}
}

// span is what a log has for subscribers at one cursor.
type span struct {
	from, to uint64
	view     channel.View
	bytes    []byte // nil where they wrap around the log's end, or are gone
	entries  uint64
}

// span finds what goes out in one write from a cursor.
func (g *Group) span(from, head uint64) span {
	v, ok := g.View(from)
	if !ok {
		return span{from: from}
	}
	sp := span{from: from, to: v.Fit(from, min(head, v.Head()), corkBytes), view: v}
	if a, b := v.Bytes(from, sp.to); b == nil {
		sp.bytes = a
	}
	sp.entries = v.Find(sp.to) - v.Find(from)
	return sp
}

// sweep goes on with the group's sweep, or begins one, for about so many
// writes, and counts those it made.
func (g *Group) sweep(writesMax int) (writes int) {
	if len(g.subs) == 0 {
		g.dirty = false
		return 0
	}
	if !g.sweeping {
		g.begin()
	}
	st := &g.loop.stats
	before := st.Deliveries.Load()
	g.loop.swept = g
	if pressed := max(g.pressed, g.Pressed()); pressed > 0 {
		writes = g.dismiss(pressed, writesMax)
	}
	head := g.Log().Head()
	sp := span{from: math.MaxUint64}
	var direct, deliveries, bytes uint64 // counted here, published once
	for g.next < len(g.subs) && writes < writesMax {
		s := &g.subs[g.next]
		g.next++
		c := s.c
		switch {
		case c == nil: // a hole
			continue
		case s.cursor == head || s.blocked:
		case !s.direct:
			writes += c.stepWrite()
		default:
			if s.cursor != sp.from {
				if sp = g.span(s.cursor, head); sp.bytes != nil {
					g.latency.reached(sp.to)
				}
			}
			if sp.bytes == nil {
				writes += c.stepWrite()
				break
			}
			n, err := poller.Write(int(s.fd), sp.bytes)
			writes++
			direct++
			if n == len(sp.bytes) {
				s.cursor = sp.to
				bytes += uint64(n)
				deliveries += sp.entries
				g.dirty = g.dirty || sp.to != head
				break
			}
			c.stepTook(sp.view, sp.to, n, err)
		}
		if s.c != nil {
			g.low = min(g.low, s.cursor)
		}
	}
	st.Writes.Add(direct)
	st.BytesOut.Add(bytes)
	st.Deliveries.Add(deliveries)
	g.latency.delivered = g.latency.delivered || st.Deliveries.Load() != before
	if g.sweeping && g.next >= len(g.subs) {
		g.end()
	}
	g.loop.swept = nil
	return max(writes, 1)
}

// begin starts a sweep. The notification is cleared before the head is read,
// so that whatever is appended later notifies again.
func (g *Group) begin() {
	g.dirty = false
	first := g.latency.begin()
	g.pressed = max(g.pressed, g.Clear())
	if first {
		g.latency.target = g.Log().Head()
	}
	g.sweeping, g.next, g.low = true, 0, math.MaxUint64
	g.dismissal = dismissal{}
	if w := g.loop.cfg.BatchWindow; w > 0 {
		g.notBefore = g.loop.time.Add(w)
	}
	g.loop.stats.Sweeps.Add(1)
	if told := g.Told(); told > 0 {
		g.loop.stats.Gaps.Add(told * uint64(len(g.subs)))
	}
}

// end closes a sweep: every subscriber whose socket took bytes is served as far as the log
// went. Now the log can be released, and a subscriber that holds it back is slow because of
// its own socket.
func (g *Group) end() {
	g.sweeping = false
	g.latency.end(&g.loop.stats.Delivery)
	if cut := g.CutAt(); g.low < cut {
		g.overtake(cut)
	}
	if g.pressed > g.low && !g.dirty {
		g.relieve()
	}
	if len(g.subs) == g.holes {
		return // the last one left, and the group with him
	}
	g.fill()
	if g.low >= g.pressed {
		g.letGo()
	} else {
		g.dirty = true // somebody is not through yet
	}
	g.serve(g.low)
}

// serve publishes that all subscribers have what is below a cursor: those that are lost need nothing.
func (g *Group) serve(low uint64) { g.Served(min(low, g.Log().Head())) }

// stepWrite is a sweep's write to a connection that is due more than the log has. It
// counts the writes it made.
func (c *Conn) stepWrite() (writes int) {
	defer c.contain()
	if writes = c.write(); c.Phase != phaseOpen || c.Out != nil || c.In != nil || c.has(bitBlocked) || c.Counted > 0 {
		c.Settle()
	}
	return writes
}

// stepTook ends a sweep's own write, of which the socket did not take all.
func (c *Conn) stepTook(v channel.View, to uint64, n int, err error) {
	defer c.contain()
	if err != nil {
		c.broken()
	} else {
		c.sent(&c.sub, v, to, n)
	}
	c.Settle()
}
