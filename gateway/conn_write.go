package gateway

import (
	"sluice/gateway/frame"

	"github.com/gobwas/ws"
)

// What waits for a connection is of two kinds: bytes of its own, in its outbox
// (replies), and what its channels' logs hold above its positions. The outbox goes
// first. A write takes both together, through the loop's cork buffer; only where
// nothing but one log is due it goes out straight from the log.
//
// A write may end within a frame of a log. How much of it is out is noted with the
// subscription, whose position stays at the frame's beginning, so that the log holds
// the rest (ref.cut). The rest goes out before anything else. It is copied, into the
// outbox, only for a connection that leaves the log. So connections whose sockets are
// full cost no memory beside the logs, however many they are and however large a frame is.

// outbox holds the bytes that wait for one connection.
type outbox struct {
	buf  []byte
	sent int // of buf
	// pong is the answer to the newest ping that came while the socket was
	// blocked; it takes its place behind buf.
	pong []byte
	// catch is what the connection still has to be sent before live delivery.
	catch *catchUp
}

// outboxKeep is the largest buffer that is kept for the next connection.
const outboxKeep = 4 << 10

func (o *outbox) size() int   { return cap(o.buf) + cap(o.pong) }
func (o *outbox) empty() bool { return o.sent == len(o.buf) && len(o.pong) == 0 }

// reserve makes room for n bytes: what was sent goes first, before the buffer
// grows.
func (o *outbox) reserve(n int) {
	if len(o.buf)+n > cap(o.buf) {
		o.compact()
	}
}

// compact lets go of what was sent, before something is added whose length is not known.
func (o *outbox) compact() {
	if o.sent > 0 {
		o.buf = o.buf[:copy(o.buf, o.buf[o.sent:])]
		o.sent = 0
	}
}

func (o *outbox) add(a, b []byte) {
	o.reserve(len(a) + len(b))
	o.buf = append(append(o.buf, a...), b...)
}

// segment is a run of one log's bytes in the cork buffer.
type segment struct {
	ref  *ref
	from uint64 // position of its first byte
	to   uint64 // position behind its last byte
	end  int    // its end in the cork buffer
	skip bool   // nothing is in the cork: the client's own messages, left out
}

// pending counts the bytes that wait in the outbox.
func (c *conn) pending() int {
	n := 0
	if s := c.secure(); s != nil {
		n = len(s.wire.rest)
	}
	if c.out == nil {
		return n
	}
	return n + len(c.out.buf) - c.out.sent + len(c.out.pong)
}

// output returns the connection's outbox, making one where there is none.
func (c *conn) output() *outbox {
	c.plant("output")
	if c.out == nil {
		l := c.loop
		if n := len(l.outboxes); n > 0 {
			c.out, l.outboxes = l.outboxes[n-1], l.outboxes[:n-1]
		} else {
			c.out = new(outbox)
		}
		c.mark()
	}
	return c.out
}

// dropOutput gives the outbox back.
func (c *conn) dropOutput() {
	if c.out == nil {
		return
	}
	o, l := c.out, c.loop
	c.out, o.catch = nil, nil
	if cap(o.buf) <= outboxKeep && len(l.outboxes) < 64 {
		o.buf, o.pong, o.sent = o.buf[:0], o.pong[:0], 0
		l.outboxes = append(l.outboxes, o)
	}
	c.mark()
}

// reply queues a message of the connection's own. The caller flushes when the
// turn's replies are together.
func (c *conn) reply(op ws.OpCode, payload []byte) {
	c.plant("reply")
	if c.mute() {
		return
	}
	o := c.output()
	o.reserve(frame.HeaderLen(len(payload)) + len(payload))
	o.buf = frame.Append(o.buf, op, payload)
	c.bound()
}

// ping queues what the framing keeps the connection alive with.
func (c *conn) ping() {
	c.plant("reply")
	c.loop.stats.pings.Add(1)
	if c.mute() {
		return
	}
	o := c.output()
	o.compact()
	o.buf = c.framing().AppendPing(o.buf)
	c.bound()
}

// pong queues the answer to a ping.
func (c *conn) pong(payload []byte) {
	c.plant("reply")
	if c.mute() {
		return
	}
	o := c.output()
	if c.has(bitBlocked) {
		o.pong = frame.Append(o.pong[:0], ws.OpPong, payload)
		return
	}
	o.reserve(frame.HeaderLen(len(payload)) + len(payload))
	o.buf = frame.Append(o.buf, ws.OpPong, payload)
	c.bound()
}

// mute reports whether nothing is queued for the client any more: a Close frame is the
// last, or nobody is there to read.
func (c *conn) mute() bool { return c.phase >= phaseClosed || c.has(bitMuted) }

// bound closes a connection for which too much waits.
func (c *conn) bound() {
	if c.pending() > c.loop.cfg.MaxPending {
		c.close(reasonPendingFull)
	}
}

// flush makes one write of what is due to the connection, unless its socket
// refused bytes and has not become writable since. What remains due although the socket
// took everything is left to the sweep, so that one connection does not keep the
// others waiting. It counts the writes it made.
func (c *conn) flush() (writes int) {
	if c.has(bitBlocked) {
		return 0
	}
	return c.write()
}

// write is flush for a socket that may take bytes again. The connection is
// blocked afterwards exactly when the socket did not take everything.
func (c *conn) write() (writes int) {
	c.plant("write")
	if c.phase >= phaseDraining {
		return 0
	}
	if c.has(bitMuted) {
		c.skip()
		return 0
	}
	if s := c.secure(); s != nil && s.wire.rest != nil {
		if err := s.push(); err != nil {
			c.broken()
			return 1
		}
		if s.wire.rest != nil {
			c.block()
			return 1
		}
	}
	if c.out == nil && c.refs() < 2 && !c.has(bitNoEcho) && c.phase == phaseOpen {
		if c.sub.group == nil {
			c.unblock()
			return 0
		}
		if c.writeLog() {
			return 1
		}
	}
	if r := c.cut(); r != nil {
		writes = 1
		if !c.writeRest(r) {
			return writes
		}
	}
	return writes + c.writeCork()
}

// writeLog writes what one log has, straight from its bytes; false when they wrap
// around the log's end, which the cork puts together.
func (c *conn) writeLog() bool {
	g, s := c.sub.group, c.sub.sub()
	head := g.Log().Head()
	if s.pos == head {
		c.unblock()
		return true
	}
	to := g.Fit(s.pos, head, corkBytes)
	from := s.pos + uint64(c.sub.cut)
	if _, b := g.Log().Bytes(from, to); b != nil && to-from <= corkBytes {
		return false
	}
	if to < head {
		g.again()
	}
	c.sendLog(&c.sub, to)
	return true
}

// cut returns the subscription whose next frame is cut, nil where there is none.
func (c *conn) cut() *ref {
	for i := range c.refs() {
		if r := c.ref(i); r.cut > 0 {
			return r
		}
	}
	return nil
}

// writeRest writes the rest of a cut frame. It reports whether all of it is out, and
// the connection may be sent more.
func (c *conn) writeRest(r *ref) bool {
	g, s := r.group, r.sub()
	c.sendLog(r, g.Fit(s.pos, g.Log().Head(), 0))
	return !c.has(bitBlocked) && !c.has(bitMuted) && c.phase < phaseDraining
}

// sendLog offers the socket what a log has for a subscription up to a position, from
// where it lies.
func (c *conn) sendLog(r *ref, to uint64) {
	a, b := r.group.Log().Bytes(r.sub().pos+uint64(r.cut), to)
	n, err := c.send(a)
	c.loop.stats.writes.Add(1)
	if n == len(a) && len(b) > 0 && err == nil {
		var more int
		more, err = c.send(b)
		n += more
		c.loop.stats.writes.Add(1)
	}
	if err != nil {
		c.broken()
		return
	}
	c.sent(r, to, n)
}

// sent advances a subscription by n bytes that the socket took of those up to
// to. When that is less, the connection is blocked.
func (c *conn) sent(r *ref, to uint64, n int) {
	l := c.loop
	l.stats.bytesOut.Add(uint64(n))
	at := r.sub().pos + uint64(r.cut) + uint64(n)
	c.advance(r, at)
	if at == to {
		c.unblock()
		return
	}
	if n > 0 {
		c.took()
	}
	c.block()
}

// took notes that the socket has taken something of what waits.
func (c *conn) took() {
	if c.phase != phaseOpen {
		return
	}
	c.since, c.tookAt = c.loop.now, c.loop.clock()
	if c.has(bitBlocked) {
		c.bits |= bitTook
	}
}

// advance notes that the bytes of a log below at are out for a subscription: its
// position goes to the last frame's end among them, and what is out above that is a cut.
func (c *conn) advance(r *ref, at uint64) {
	g, s := r.group, r.sub()
	pos := g.Floor(s.pos, at)
	c.loop.stats.deliveries.Add(g.Find(pos) - g.Find(s.pos))
	s.pos, r.cut = pos, uint32(at-pos)
}

// keepRest moves the rest of a cut frame into the outbox, for a connection that leaves
// the log. false: there is no room for it, and nothing sensible can be sent any more.
// Those who leave take at most half of the buffers from those who stay.
func (c *conn) keepRest(r *ref) bool {
	if r.cut == 0 {
		return true
	}
	l, g, s := c.loop, r.group, r.sub()
	end := g.Fit(s.pos, g.Log().Head(), 0)
	n := int(end-s.pos) - int(r.cut)
	if l.held+n > l.heldMax/2 {
		return false
	}
	a, b := g.Log().Bytes(s.pos+uint64(r.cut), end)
	o := c.output()
	buf := make([]byte, 0, n+len(o.buf)-o.sent+2+125) // most often a Close frame follows
	buf = append(append(buf, a...), b...)
	o.buf, o.sent = append(buf, o.buf[o.sent:]...), 0
	c.advance(r, end)
	c.recount()
	return true
}

// behind reports whether something of a log is still due to the connection.
func (c *conn) behind() bool {
	for i := range c.refs() {
		r := c.ref(i)
		if r.group.subs[r.index].pos != r.group.Log().Head() {
			return true
		}
	}
	return false
}

// broken deals with a failed write. The peer will not read any more, but what it
// sent before may still lie in the kernel: it is processed before the connection
// ends, by reading until there is an end; but not for long where it has to wait.
func (c *conn) broken() {
	if c.phase != phaseOpen {
		c.kill(reasonReset)
		return
	}
	if c.catchingUp() {
		// What it sent before goes to its channel, so it has to be in.
		c.giveUpSkipped()
		if cu := c.out.catch; c.loop.join(c, cu.channel, cu.format) != nil {
			c.kill(reasonReset)
			return
		}
	}
	first := !c.has(bitMuted)
	c.bits |= bitMuted
	if s := c.secure(); s != nil {
		s.wire.mute = true
		s.wire.giveBack()
	}
	c.dropOutput()
	c.unblock()
	c.skip()
	c.mark()
	if first {
		c.setAbandon()
	}
}

// skip advances all positions to the heads: nobody is there to read.
func (c *conn) skip() {
	for i := range c.refs() {
		r := c.ref(i)
		c.loop.stats.dropped[reasonReset].Add(c.unsent(r))
		r.sub().pos, r.cut = r.group.Log().Head(), 0
	}
}
