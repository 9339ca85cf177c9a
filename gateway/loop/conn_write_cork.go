package loop

import "sluice/gateway/channel"

// writeCork gathers the outbox and the logs in one write: all that are behind, or those that are in sweeps.
func (c *Conn) writeCork(all bool) int {
	c.Plant("writeCork")
	l := c.loop
	l.cork, l.segments = l.cork[:0], l.segments[:0]
	own, p := 0, l.cork
	if o := c.Out; o != nil {
		if len(o.pong) > 0 {
			o.add(o.pong, nil)
			o.pong = o.pong[:0]
		}
		own, p = len(o.buf)-o.sent, o.buf[o.sent:]
	}
	if own < corkBytes { // else it fills a write by itself, and goes out from where it lies
		l.cork = append(l.cork, p...)
		if c.Phase < phaseClosed {
			c.gatherDue(all)
		}
		p = l.cork
	}
	if len(p) == 0 {
		c.apply(0, 0)
		c.unblock()
		return 0
	}
	n, err := c.send(p)
	l.stats.Writes.Add(1)
	if err != nil {
		c.broken()
		return 1
	}
	l.stats.BytesOut.Add(uint64(n))
	c.apply(own, n)
	clear(l.segments) // of the logs that they hold
	if n == len(p) {
		c.unblock()
		if own >= corkBytes {
			for i := range c.Refs() {
				r := c.Ref(i)
				r.group.latency.reached(r.sub().cursor)
				r.group.again() // what its log has was left out
			}
		}
	} else {
		if n > 0 {
			c.took()
		}
		c.block()
	}
	if cap(l.cork) > 4*corkBytes {
		l.cork = make([]byte, 0, corkBytes) // a large frame has made it grow
	}
	return 1
}

// gather puts what is due of one subscription into the cork.
func (c *Conn) gather(r *Ref) {
	c.Plant("gather")
	l, g := c.loop, r.group
	cursor, head := g.subs[r.index].cursor, g.Log().Head()
	if cursor >= head { // above: it is lost
		return
	}
	v, ok := g.View(cursor)
	if !ok {
		g.again() // the sweep sees to it
		return
	}
	room := corkBytes - len(l.cork)
	if room <= 0 {
		g.latency.reached(cursor)
		g.again()
		return
	}
	to := v.Fit(cursor, min(head, v.Head()), room)
	if to == cursor {
		c.stopAtFence()
		return
	}
	if to != head || to-cursor > uint64(room) {
		g.latency.reached(to)
		g.again()
		if len(l.cork) > 0 && to-cursor > uint64(room) {
			return // not even one frame fits behind the others
		}
	}
	if !r.noEcho() {
		c.gatherRun(r, v, cursor, to, false)
		return
	}
	// In runs of others' messages and of the client's own.
	for i := v.Find(cursor); cursor < to; {
		end, from := v.Entry(i)
		own := from == c.id
		for i++; end < to; i++ {
			next, from := v.Entry(i)
			if (from == c.id) != own {
				break
			}
			end = next
		}
		c.gatherRun(r, v, cursor, end, own)
		cursor = end
	}
}

func (c *Conn) gatherRun(r *Ref, v channel.View, from, to uint64, skip bool) {
	l := c.loop
	if !skip {
		a, b := v.Bytes(from, to)
		l.cork = append(append(l.cork, a...), b...)
	}
	l.segments = append(l.segments, segment{ref: r, view: v, from: from, to: to, end: len(l.cork), skip: skip})
}

// apply advances the outbox and the cursors by n bytes taken from the cork, of
// which the first own are the outbox's.
func (c *Conn) apply(own, n int) {
	l := c.loop
	if o := c.Out; o != nil {
		o.sent += min(n, own)
		if n < own {
			return
		}
		o.buf, o.sent = o.buf[:0], 0
	}
	start := own
segments:
	for i := range l.segments {
		seg := &l.segments[i]
		s := seg.ref.sub()
		switch {
		case seg.skip:
			s.cursor = seg.to
		case seg.end <= n:
			l.stats.Deliveries.Add(seg.view.Find(seg.to) - seg.view.Find(seg.from))
			s.cursor = seg.to
		default:
			if start < n { // the write has ended within this run
				c.advance(seg.ref, seg.view, seg.from+uint64(n-start))
			}
			break segments
		}
		start = seg.end
	}
	if c.Out != nil && c.Out.empty() {
		if c.Out.catch != nil && c.Phase == phaseOpen {
			c.catchLater()
			return
		}
		c.dropOutput()
	}
}
