package loop

import (
	"math"

	"sluice/gateway/channel"
)

// Where publications of a channel are missing, its logs have an entry (channel.KindGap,
// channel.KindReset). A format that can tell it has bytes for it, which are sent as any others. In
// others it is a fence (channel.View.Fence): nothing is sent beyond it, until the subscriber's
// protocol has been notified (Protocol.Lost) and it goes on behind the fence, if it is still
// subscribed. That happens once for each subscriber, after the sweep in which it has reached the
// fence, and not for one that is being closed: what it gets ends there.
//
// A notified client comes back, and an engine that was away has lost something in many channels at
// once. So clients are notified at a pace (pacer). One that waits for its turn stays subscribed, but is
// sent nothing more of the channel and holds nothing in its log: its cursor is above all others
// (lostCursor). Other channels go on, the client is heard and answered, and it may end or leave
// meanwhile. Closing does not wait for its turn.

// lostCursor and above is the cursor of a subscriber that waits to be notified: it says of what.
const lostCursor = math.MaxUint64 - uint64(channel.KindReset)

// lost returns what the subscriber waits to be notified of, KindMessage for nothing.
func (s *sub) lost() channel.Kind {
	if s.cursor < lostCursor {
		return channel.KindMessage
	}
	return channel.Kind(s.cursor - lostCursor)
}

// stopAtFence notes that the connection has reached a fence in one of its logs.
func (c *Conn) stopAtFence() {
	if l := c.loop; c.Phase == phaseOpen && !c.has(bitFenced) {
		c.bits |= bitFenced
		l.fenced = append(l.fenced, c)
		l.poller.Wake()
	}
}

// lostSome notifies some of those that have reached a fence, as many as a turn makes writes, or lets them
// wait for their turn.
func (l *Loop) lostSome() {
	n := min(len(l.fenced), l.turnWrites)
	for i, c := range l.fenced[:n] {
		l.fenced[i] = nil
		if c.bits &^= bitFenced; c.Phase != phaseOpen {
			continue
		}
		if c.has(bitLost) || l.lost.len() > 0 || !l.pacer.take(l.time, len(l.conns)) {
			c.step((*Conn).waitAtFences)
		} else {
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

// atFence calls do for the subscriptions that are at a fence, with its kind and the cursor behind it. It may
// end some.
func (c *Conn) atFence(do func(c *Conn, r *Ref, kind channel.Kind, behind uint64)) {
	for i := c.Refs() - 1; i >= 0; i-- {
		if i >= c.Refs() {
			continue // some have ended
		}
		r := c.Ref(i)
		s := r.sub()
		if s.lost() != channel.KindMessage {
			continue
		}
		v, ok := r.group.View(s.cursor)
		if kind, behind := v.Fence(s.cursor); ok && kind != channel.KindMessage {
			do(c, r, kind, behind)
		}
	}
}

// passFences takes the subscriptions that are at a fence over it, as far as their protocol leaves
// them.
func (c *Conn) passFences() {
	c.Plant("passFences")
	c.atFence((*Conn).notifyLost)
	c.Flush()
	c.Settle()
}

// notifyLost notifies the client's protocol. If it is still subscribed, it goes on at a cursor.
func (c *Conn) notifyLost(r *Ref, kind channel.Kind, next uint64) {
	g, cursor := r.group, r.sub().cursor
	c.loop.stats.Gaps.Add(1)
	c.protocol().Lost(c, r, kind)
	if r := c.Find(g.Channel()); r != nil && r.group == g && r.sub().cursor == cursor {
		r.sub().cursor = next
		if c.index() == nil {
			c.mark()
			return
		}
		c.markRef(r)
		r.group.again() // it may have more
	}
}

// waitAtFences lets the connection wait for its turn to be notified.
func (c *Conn) waitAtFences() {
	c.Plant("waitAtFences")
	l := c.loop
	c.atFence(func(c *Conn, r *Ref, kind channel.Kind, _ uint64) {
		l.stats.Dropped[ReasonGap].Add(c.unsent(r, r.group.Log().Head()))
		r.sub().cursor = lostCursor + uint64(kind)
		r.group.again() // the log is released
	})
	c.mark()
	if !c.has(bitLost) {
		c.bits |= bitLost
		l.lost.push(c)
		l.paceLater()
	}
	c.Flush() // what its other channels have
	c.Settle()
}

// paceLater has the loop look at who has a turn.
func (l *Loop) paceLater() {
	l.lostTurn.in(l, l.pacer.wait(len(l.conns)), lostTurn{})
}

// lostTurn is posted when there may be a turn.
type lostTurn struct{}

// Deliver notifies the clients that have a turn.
func (lostTurn) Deliver(l *Loop) {
	l.lostTurn.set = false
	for n := 0; l.lost.len() > 0 && n < l.turnWrites; {
		c := l.lost.first()
		if !c.waitsForTurn() {
			c.bits &^= bitLost
			l.lost.pop()
			continue
		}
		if !l.pacer.take(l.time, len(l.conns)) {
			break
		}
		n++
		c.bits &^= bitLost
		l.lost.pop()
		c.step((*Conn).passTurn)
	}
	if l.lost.len() > 0 {
		l.paceLater()
	}
}

// waitsForTurn reports whether there is still something to notify the client of.
func (c *Conn) waitsForTurn() bool {
	if c.Phase != phaseOpen {
		return false
	}
	for i := range c.Refs() {
		if c.Ref(i).sub().lost() != channel.KindMessage {
			return true
		}
	}
	return false
}

// passTurn notifies the client of all that it has lost. Where it is still subscribed, it goes on with what
// is published from now on.
func (c *Conn) passTurn() {
	c.Plant("passTurn")
	for i := c.Refs() - 1; i >= 0; i-- {
		if i >= c.Refs() {
			continue // the protocol has ended some
		}
		r := c.Ref(i)
		if kind := r.sub().lost(); kind != channel.KindMessage {
			c.notifyLost(r, kind, r.group.Log().Head())
		}
	}
	c.Flush()
	c.Settle()
}

// connQueue is connections, first come first.
type connQueue struct {
	all  []*Conn
	next int // those before it are gone
}

func (q *connQueue) len() int     { return len(q.all) - q.next }
func (q *connQueue) first() *Conn { return q.all[q.next] }

func (q *connQueue) push(c *Conn) { q.all = append(q.all, c) }

func (q *connQueue) pop() {
	q.all[q.next] = nil
	if q.next++; q.next == len(q.all) {
		*q = connQueue{} // it may have been large
	}
}
