package loop

import "sluice/gateway/channel"

// Where publications of a channel are missing, its logs have an entry (channel.KindGap,
// channel.KindReset). A format that can tell it has bytes for it, which are sent as any others. In
// others it is a fence (channel.View.Fence): nothing is sent beyond it, until the subscriber's
// protocol has been notified (Protocol.Lost) and it goes on behind the fence, if it is still
// subscribed. That happens once for each subscriber, after the sweep in which it has reached the
// fence, and not for one that is being closed: what it gets ends there.

// stopAtFence notes that the connection has reached a fence in one of its logs.
func (c *Conn) stopAtFence() {
	if l := c.loop; c.Phase == phaseOpen && !c.has(bitFenced) {
		c.bits |= bitFenced
		l.fenced = append(l.fenced, c)
		l.poller.Wake()
	}
}

// lostSome notifies some of those that have reached a fence, as many as a turn makes writes.
func (l *Loop) lostSome() {
	n := min(len(l.fenced), l.turnWrites)
	for i, c := range l.fenced[:n] {
		l.fenced[i] = nil
		if c.bits &^= bitFenced; c.Phase == phaseOpen {
			c.step((*Conn).passFences)
		}
	}
	rest := copy(l.fenced, l.fenced[n:]) // with those that were added meanwhile
	clear(l.fenced[rest:])
	l.fenced = l.fenced[:rest]
	if rest > 0 {
		l.poller.Wake()
	}
}

// passFences takes the subscriptions that are at a fence over it, as far as their protocol leaves
// them.
func (c *Conn) passFences() {
	c.Plant("passFences")
	for i := c.Refs() - 1; i >= 0; i-- {
		if i >= c.Refs() {
			continue // the protocol has ended some
		}
		r := c.Ref(i)
		g, cursor := r.group, r.sub().cursor
		v, ok := g.View(cursor)
		kind, behind := v.Fence(cursor)
		if !ok || kind == channel.KindMessage {
			continue
		}
		c.loop.stats.Gaps.Add(1)
		c.protocol().Lost(c, r, kind)
		if r := c.Find(g.Channel()); r != nil && r.group == g && r.sub().cursor == cursor {
			r.sub().cursor = behind
		}
	}
	c.Flush()
	c.Settle()
}
