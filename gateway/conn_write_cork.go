package gateway

// writeCork gathers the outbox and all logs in one write.
func (c *conn) writeCork() int {
	c.plant("writeCork")
	l := c.loop
	l.cork, l.segments = l.cork[:0], l.segments[:0]
	own, p := 0, l.cork
	if o := c.out; o != nil {
		if len(o.pong) > 0 {
			o.add(o.pong, nil)
			o.pong = o.pong[:0]
		}
		own, p = len(o.buf)-o.sent, o.buf[o.sent:]
	}
	if own < corkBytes { // else it fills a write by itself, and goes out from where it lies
		l.cork = append(l.cork, p...)
		if c.phase < phaseClosed {
			for i := range c.refs() {
				c.gather(c.ref(i))
			}
		}
		p = l.cork
	}
	if len(p) == 0 {
		c.apply(0, 0)
		c.unblock()
		return 0
	}
	n, err := c.send(p)
	l.stats.writes.Add(1)
	if err != nil {
		c.broken()
		return 1
	}
	l.stats.bytesOut.Add(uint64(n))
	c.apply(own, n)
	if n == len(p) {
		c.unblock()
		if own >= corkBytes {
			for i := range c.refs() {
				c.ref(i).group.again() // what its log has was left out
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
func (c *conn) gather(r *ref) {
	c.plant("gather")
	l, g := c.loop, r.group
	pos, head := g.subs[r.index].pos, g.Log().Head()
	if pos == head {
		return
	}
	to, room := head, corkBytes-len(l.cork)
	if room <= 0 {
		g.again()
		return
	}
	if head-pos > uint64(room) {
		if to = g.Fit(pos, head, room); len(l.cork) > 0 && to-pos > uint64(room) {
			g.again() // not even one frame fits behind the others
			return
		}
		g.again()
	}
	if !c.has(bitNoEcho) {
		c.gatherRun(r, pos, to, false)
		return
	}
	// In runs of others' messages and of the client's own.
	for i := g.Find(pos); pos < to; {
		end, from := g.Entry(i)
		own := from == c.id
		for i++; end < to; i++ {
			next, from := g.Entry(i)
			if (from == c.id) != own {
				break
			}
			end = next
		}
		c.gatherRun(r, pos, end, own)
		pos = end
	}
}

func (c *conn) gatherRun(r *ref, from, to uint64, skip bool) {
	l := c.loop
	if !skip {
		a, b := r.group.Log().Bytes(from, to)
		l.cork = append(append(l.cork, a...), b...)
	}
	l.segments = append(l.segments, segment{ref: r, from: from, to: to, end: len(l.cork), skip: skip})
}

// apply advances the outbox and the positions by n bytes taken from the cork, of
// which the first own are the outbox's.
func (c *conn) apply(own, n int) {
	l := c.loop
	if o := c.out; o != nil {
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
		g := seg.ref.group
		s := &g.subs[seg.ref.index]
		switch {
		case seg.skip:
			s.pos = seg.to
		case seg.end <= n:
			l.stats.deliveries.Add(g.Find(seg.to) - g.Find(seg.from))
			s.pos = seg.to
		default:
			if start < n { // the write has ended within this run
				c.advance(seg.ref, seg.from+uint64(n-start))
			}
			break segments
		}
		start = seg.end
	}
	if c.out != nil && c.out.empty() {
		if c.out.catch != nil && c.phase == phaseOpen {
			c.catchLater()
			return
		}
		c.dropOutput()
	}
}
