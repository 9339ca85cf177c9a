package loop

import (
	"sluice/gateway/channel"
	"sluice/gateway/frame"

	"github.com/gobwas/ws"
)

// What waits for a connection is of two kinds: bytes of its own, in its outbox
// (replies), and what its channels' logs hold above its cursors. The outbox goes
// first. A write takes both together, through the loop's cork buffer; only where
// nothing but one log is due it goes out straight from the log.
//
// A write may end within a frame of a log. How much of it is out is noted with the
// subscription, whose cursor stays at the frame's beginning, so that the log holds
// the rest (Ref.cut). The rest goes out before anything else. It is copied, into the
// outbox, only for a connection that leaves the log. So connections whose sockets are
// full cost no memory beside the logs, however many they are and however large a frame is.

// outbound is a connection's part that sends bytes to the client.
type outbound struct {
	Out *outbox // bytes that wait to be sent; nil at rest
	// blocked: loop time of the last byte that the socket took; muted: since when it is; closing:
	// when the phase ends.
	since   uint32
	Counted uint32 // bytes of in and out that loop.held counts
}

// outbox holds the bytes that wait for one connection.
type outbox struct {
	buf  []byte
	sent int // of buf
	// pong is the answer to the newest ping that came while the socket was
	// blocked; it takes its place behind buf.
	pong []byte
	// catch is what the connection still has to be sent before live delivery.
	catch *catchUp
	// response: buf begins with the response to the client's request, which may still be another one (Answer). Nothing is
	// sent before that is decided.
	response bool
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
	ref  *Ref
	view channel.View
	from uint64 // cursor of its first byte
	to   uint64 // cursor behind its last byte
	end  int    // its end in the cork buffer
	skip bool   // nothing is in the cork: the client's own messages, left out
}

// Pending counts the bytes that wait in the outbox.
func (c *Conn) Pending() int {
	n := 0
	if s := c.secure(); s != nil {
		n = len(s.wire.rest)
	}
	if c.Out == nil {
		return n
	}
	return n + len(c.Out.buf) - c.Out.sent + len(c.Out.pong)
}

// output returns the connection's outbox, making one where there is none.
func (c *Conn) output() *outbox {
	c.Plant("output")
	c.release()
	if c.Out == nil {
		l := c.loop
		if n := len(l.outboxes); n > 0 {
			c.Out, l.outboxes = l.outboxes[n-1], l.outboxes[:n-1]
		} else {
			c.Out = new(outbox)
		}
		if c.ext.direct() {
			c.mark()
		}
	}
	return c.Out
}

// dropOutput gives the outbox back.
func (c *Conn) dropOutput() {
	if c.ext != nil {
		c.ext.response = nil
	}
	if c.Out == nil {
		return
	}
	c.endCatchUp()
	o, l := c.Out, c.loop
	c.Out = nil
	if cap(o.buf) <= outboxKeep && len(l.outboxes) < 64 {
		o.buf, o.pong, o.sent, o.response = o.buf[:0], o.pong[:0], 0, false
		l.outboxes = append(l.outboxes, o)
	}
	if c.ext.direct() {
		c.mark()
	}
}

// Reply queues a WebSocket message of the connection's own. The caller flushes when the
// turn's replies are together.
func (c *Conn) Reply(op ws.OpCode, payload []byte) {
	c.Plant("reply")
	if c.mute() {
		return
	}
	o := c.output()
	o.reserve(frame.HeaderLen(len(payload)) + len(payload))
	o.buf = frame.Append(o.buf, op, payload)
	c.bound()
}

// Begin returns the buffer to which a protocol may append bytes for the client, and then calls
// queued; false if nothing is queued for the client any more.
func (c *Conn) Begin() ([]byte, bool) {
	if c.mute() {
		return nil, false
	}
	o := c.output()
	o.compact()
	return o.buf, true
}

// Queued takes what was appended to the buffer that Begin has returned.
func (c *Conn) Queued(buf []byte, err error) {
	if err != nil {
		c.loop.log.Error("connection closed: a reply cannot be encoded", c.LogAttr(), "error", err)
		c.Close(ReasonInternal)
		return
	}
	c.Out.buf = c.seal(buf, len(c.Out.buf))
	c.bound()
}

// Room returns how many bytes a reply may have. Beside payloads there are infos, and JSON may
// take six bytes for one: a client is not to be closed for what it asks for, whatever others
// have published.
func (c *Conn) Room() int { return c.loop.cfg.MaxPending - PendingSlack - c.Pending() }

// ping queues what the framing keeps the connection alive with.
func (c *Conn) ping() {
	c.Plant("reply")
	c.loop.stats.Pings.Add(1)
	if buf, ok := c.Begin(); ok {
		c.Queued(c.framing().AppendPing(buf), nil)
	}
}

// pong queues the answer to a ping.
func (c *Conn) pong(payload []byte) {
	c.Plant("reply")
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
func (c *Conn) mute() bool { return c.Phase >= phaseClosed || c.has(bitMuted) }

// bound closes a connection for which too much waits.
func (c *Conn) bound() {
	if c.Pending() > c.loop.cfg.MaxPending {
		c.Close(ReasonPendingFull)
	}
}

// Flush makes one write of what is due to the connection, unless its socket
// refused bytes and has not become writable since. What remains due although the socket
// took everything is left to the sweep, so that one connection does not keep the
// others waiting. It counts the writes it made.
func (c *Conn) Flush() (writes int) {
	if c.has(bitBlocked) {
		return 0
	}
	return c.write()
}

// write is flush for a socket that may take bytes again. The connection is
// blocked afterwards exactly when the socket did not take everything.
func (c *Conn) write() (writes int) {
	c.Plant("write")
	if c.Phase >= phaseDraining {
		return 0
	}
	if c.has(bitMuted) {
		c.skip()
		return 0
	}
	if c.unanswered() {
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
	if c.Out == nil && c.Refs() < 2 && c.Phase == phaseOpen {
		if c.sub.group == nil {
			c.unblock()
			return 0
		}
		if !c.sub.noEcho() && c.writeLog() {
			return 1
		}
	}
	blocked := c.has(bitBlocked)
	if blocked { // else nothing is cut
		if r := c.cut(); r != nil {
			writes = 1
			if !c.writeRest(r) {
				return writes
			}
		}
	}
	return writes + c.writeCork(blocked || c.Phase != phaseOpen)
}

// writeLog writes what one log has, straight from its bytes; false when they wrap
// around the log's end, which the cork puts together.
func (c *Conn) writeLog() bool {
	g, s := c.sub.group, c.sub.sub()
	head := g.Log().Head()
	if s.cursor >= head { // above: it is lost
		c.unblock()
		return true
	}
	v, ok := g.View(s.cursor)
	if !ok {
		g.again() // the sweep sees to it
		return true
	}
	to := v.Fit(s.cursor, v.Head(), corkBytes)
	if to == s.cursor {
		c.stopAtFence()
		c.unblock()
		return true
	}
	from := s.cursor + uint64(c.sub.cut)
	if _, b := v.Bytes(from, to); b != nil && to-from <= corkBytes {
		return false
	}
	if to < head { // where the view ends, too
		g.latency.reached(to)
		g.again()
	}
	c.sendLog(&c.sub, v, to)
	return true
}

// cut returns the subscription whose next frame is cut, nil where there is none.
func (c *Conn) cut() *Ref {
	for i := range c.Refs() {
		if r := c.Ref(i); r.cut > 0 {
			return r
		}
	}
	return nil
}

// writeRest writes the rest of a cut frame. It reports whether all of it is out, and
// the connection may be sent more.
func (c *Conn) writeRest(r *Ref) bool {
	s := r.sub()
	v, ok := r.group.View(s.cursor)
	if !ok {
		r.group.again() // the sweep sees to it
		return false
	}
	c.sendLog(r, v, v.Fit(s.cursor, v.Head(), 0))
	return !c.has(bitBlocked) && !c.has(bitMuted) && c.Phase < phaseDraining
}

// sendLog offers the socket what a log has for a subscription up to a cursor, from
// where it lies.
func (c *Conn) sendLog(r *Ref, v channel.View, to uint64) {
	a, b := v.Bytes(r.sub().cursor+uint64(r.cut), to)
	n, err := c.send(a)
	c.loop.stats.Writes.Add(1)
	if n == len(a) && len(b) > 0 && err == nil {
		var more int
		more, err = c.send(b)
		n += more
		c.loop.stats.Writes.Add(1)
	}
	if err != nil {
		c.broken()
		return
	}
	c.sent(r, v, to, n)
}

// sent advances a subscription by n bytes that the socket took of those up to
// to. When that is less, the connection is blocked.
func (c *Conn) sent(r *Ref, v channel.View, to uint64, n int) {
	l := c.loop
	l.stats.BytesOut.Add(uint64(n))
	at := r.sub().cursor + uint64(r.cut) + uint64(n)
	c.advance(r, v, at)
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
func (c *Conn) took() {
	if c.Phase != phaseOpen || !c.has(bitBlocked) {
		return
	}
	c.loop.readClock() // as in block
	c.since, c.tookAt = c.loop.now, c.loop.clock()
	c.bits |= bitTook
}

// advance notes that the bytes of a log below at are out for a subscription: its
// cursor goes to the last frame's end among them, and what is out above that is a cut.
func (c *Conn) advance(r *Ref, v channel.View, at uint64) {
	s := r.sub()
	cursor := v.Floor(s.cursor, at)
	c.loop.stats.Deliveries.Add(v.Find(cursor) - v.Find(s.cursor))
	s.cursor, r.cut = cursor, uint32(at-cursor)
}

// keepRest moves the rest of a cut frame into the outbox, for a connection that leaves
// the log. false: there is no room for it, or it is gone, and nothing sensible can be sent any more.
// Those who leave take at most half of the buffers from those who stay.
func (c *Conn) keepRest(r *Ref) bool {
	if r.cut == 0 {
		return true
	}
	l, s := c.loop, r.sub()
	v, ok := r.group.View(s.cursor)
	if !ok {
		if v, ok = r.group.Past(s.cursor); !ok {
			return false
		}
	}
	end := v.Fit(s.cursor, v.Head(), 0)
	n := int(end-s.cursor) - int(r.cut)
	if l.held+n > l.heldMax/2 {
		return false
	}
	a, b := v.Bytes(s.cursor+uint64(r.cut), end)
	o := c.output()
	buf := make([]byte, 0, n+len(o.buf)-o.sent+2+125) // most often a Close frame follows
	buf = append(append(buf, a...), b...)
	o.buf, o.sent = append(buf, o.buf[o.sent:]...), 0
	c.advance(r, v, end)
	c.recount()
	return true
}

// behind reports whether something of a log is still due to the connection. What lies behind a
// fence is not.
func (c *Conn) behind() bool {
	for i := range c.Refs() {
		r := c.Ref(i)
		if cursor := r.sub().cursor; cursor >= r.group.Log().Head() { // above: it is lost
			continue
		} else if v, ok := r.group.View(cursor); ok {
			if kind, _ := v.Fence(cursor); kind != channel.KindMessage {
				continue
			}
		}
		return true
	}
	return false
}

// broken deals with a failed write. The peer will not read any more, but what it
// sent before may still lie in the kernel: it is processed before the connection
// ends, by reading until there is an end; but not for long where it has to wait.
func (c *Conn) broken() {
	if c.Phase != phaseOpen {
		c.kill(ReasonReset)
		return
	}
	if c.catchingUp() {
		// What it sent before goes to its channel, so it has to be in.
		c.giveUp(ReasonReset)
		if cu := c.Out.catch; c.Join(cu.channel, cu.format, cu.flags) != nil {
			c.kill(ReasonReset)
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

// skip advances all cursors to the heads: nobody is there to read.
func (c *Conn) skip() {
	for i := range c.Refs() {
		r := c.Ref(i)
		head := r.group.Log().Head()
		c.loop.stats.Dropped[ReasonReset].Add(c.unsent(r, head))
		r.sub().cursor, r.cut = head, 0
	}
}
