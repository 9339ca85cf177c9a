package loop

import (
	"context"
	"errors"
	"io"
	"log/slog"

	"sluice/gateway/frame"
	"sluice/poller"

	"github.com/gobwas/ws"
)

// inbound is a connection's part that takes bytes of the client.
type inbound struct {
	In *input // an incomplete message, or one that waits; nil at rest
}

// midMessage reports whether a message has begun that is not complete.
func (b *inbound) midMessage() bool { return b.In != nil && b.In.frame != nil && !b.In.frame.Idle() }

// hasPutOff reports whether a message waits, or bytes behind a reply.
func (b *inbound) hasPutOff() bool { return b.In != nil && (b.In.wait != nil || b.In.kept.n > 0) }

// input is what a connection has of messages that are not processed yet.
type input struct {
	frame *frame.State // of an incomplete message; nil for none
	begun uint32       // loop time when it began

	late uint32 // loop time when wait is Late
	wait Wait   // a message that waits; nil for none
	kept Kept   // what came behind it, or behind a reply that could not be sent
}

func (in *input) size() int {
	n := in.kept.Size()
	if in.frame != nil {
		n += in.frame.Held()
	}
	if in.wait != nil {
		n += in.wait.Size()
	}
	return n
}

// read reads once and processes what came, for an event that was reported, or for none.
func (c *Conn) read(ev poller.Events) {
	c.Plant("read")
	l, hangup := c.loop, ev&poller.Hangup != 0
	if !c.reads() {
		c.endUnread(ev)
		return
	}
	if s := c.secure(); s != nil && !s.wire.failed && c.Phase < phaseDraining {
		c.readSecure(s, hangup)
		return
	}
	n, err := poller.Read(c.FD(), l.scratch)
	if n > 0 {
		c.received(l.scratch[:n])
		return
	}
	c.readFailed(err, hangup)
}

// readFailed deals with what ended a read. hangup: the kernel says that nothing more will come.
func (c *Conn) readFailed(err error, hangup bool) {
	switch {
	case errors.Is(err, io.EOF):
		c.eof()
	case err != nil:
		c.kill(ReasonReset)
	case hangup:
		// An error that was reported by another call already.
		c.kill(ReasonReset)
	}
}

// received processes bytes of the client.
func (c *Conn) received(p []byte) {
	c.Plant("received")
	if !c.framing().ReadsInput() { // whatever it is, nobody asked for it
		c.loop.stats.BytesIn.Add(uint64(len(p)))
		return
	}
	c.alive(len(p))
	if c.Phase == phaseOpen {
		c.feed(p)
	} else {
		c.feedClosing(p)
	}
}

// alive notes that the client has sent bytes.
func (c *Conn) alive(n int) {
	l := c.loop
	c.hear()
	l.asked = c.has(bitPinged)
	c.bits &^= bitPinged
	l.stats.BytesIn.Add(uint64(n))
}

// endUnread deals with a peer that sends nothing more, or is gone, while its bytes are not read.
func (c *Conn) endUnread(ev poller.Events) {
	if ev&(poller.Hangup|poller.PeerShut) == 0 {
		c.ignore()
		return
	}
	c.bits |= bitPeerShut
	if c.Phase == phaseOpen && c.Parked() && c.In.kept.n == 0 && c.In.wait.Moot(c) {
		c.readBehind(ev&poller.Hangup != 0)
	}
	if ev&poller.Hangup != 0 {
		c.hangUp()
	}
}

// readBehind looks for what a peer that is gone has sent behind a message that is moot now. Without
// anything, or with a Close frame alone, the connection ends; else that is kept.
func (c *Conn) readBehind(hangup bool) {
	c.Plant("readBehind")
	l, s := c.loop, c.secure()
	var n int
	var err error
	switch {
	case !c.framing().ReadsInput():
		err = io.EOF // whatever it has sent
	case s != nil:
		s.wire.allow()
		n, err = s.readSome(l.scratch)
	default:
		n, err = poller.Read(c.FD(), l.scratch)
	}
	switch {
	case n > 0:
		l.stats.BytesIn.Add(uint64(n))
		if p := l.scratch[:n]; ws.OpCode(p[0]&0x0f) == ws.OpClose {
			c.unpark()
			if c.feed(p); c.Phase == phaseOpen { // it is incomplete
				c.eof()
			}
		} else {
			c.putOff(p)
		}
	case s != nil && err != nil && c.framing().ReadsInput():
		c.secureFailed(s, err, hangup)
	default:
		c.readFailed(err, hangup)
	}
}

// hangUp deals with a peer that is gone in both directions while its bytes are
// not read. What it sent before is processed when its turn comes.
func (c *Conn) hangUp() {
	if c.Phase != phaseOpen || c.has(bitGone) || c.loop.hasMoved() {
		c.kill(ReasonReset)
		return
	}
	c.broken()
	if c.Parked() {
		c.loop.poller.Del(&c.Desc) // its failure is ignored; without it the hangup would be reported at every turn
	}
}

// eof deals with the peer's FIN: everything before it has been processed.
func (c *Conn) eof() {
	c.Plant("eof")
	c.bits |= bitGone
	switch {
	case c.Phase >= phaseDraining, c.Phase == phaseClosed && c.Pending() == 0:
		c.die()
	case c.Phase == phaseOpen:
		c.Close(ReasonClientGone)
	}
}

// feed takes p apart into messages and processes them, until p is used up, the
// connection closes, or a message has to wait.
func (c *Conn) feed(p []byte) {
	c.Plant("feed")
	l, limits := c.loop, c.limits()
	for len(p) > 0 && c.Phase == phaseOpen {
		if c.Full() {
			c.putOff(p)
			break
		}
		var (
			m   frame.Message
			n   int
			ok  bool
			err error
		)
		if c.In == nil || c.In.frame == nil {
			m, n, ok, err = frame.Whole(p, limits)
		}
		if !ok && err == nil {
			state := c.frame()
			if state.Idle() {
				c.In.begun = l.now
			}
			m, n, ok, err = frame.Next(state, p, limits)
		}
		if err != nil {
			c.Close(reasonFor(err))
			break
		}
		p = p[n:]
		if !ok {
			break
		}
		if c.handle(m) {
			c.putOff(p)
			break
		}
	}
	if c.Phase > phaseOpen && c.Phase < phaseDead {
		c.feedClosing(p)
	}
	if c.restInput(); c.midMessage() && c.Phase == phaseOpen {
		l.WakeAt(c, c.In.begun+seconds(l.cfg.MessageTimeout))
	}
	if !c.has(bitBlocked) && c.Out != nil {
		c.Flush()
	}
}

// handle processes one message, and reports whether it waits.
func (c *Conn) handle(m frame.Message) (waits bool) {
	c.Plant("handle")
	if m.Op.IsControl() && !c.MayControl(m.Op) {
		c.Close(ReasonControlRate)
		return false
	}
	switch m.Op {
	case ws.OpPing:
		c.pong(m.Payload)
	case ws.OpPong:
	case ws.OpClose:
		c.peerClosed(m.Payload)
	default:
		if m.Compressed {
			return c.handleCompressed(m)
		}
		return c.await(c.protocol().Message(c, m))
	}
	return false
}

// AdmitMessage counts a message, if the client may send one now; else it is closed.
func (c *Conn) AdmitMessage(m frame.Message) bool {
	if !c.MayMessage() {
		c.Close(ReasonMessageRate)
		return false
	}
	c.CountMessage(m)
	return true
}

// CountMessage counts a message whose protocol does not count it against the rate.
func (c *Conn) CountMessage(m frame.Message) {
	l := c.loop
	l.stats.Messages.Add(1)
	if l.debug {
		l.log.LogAttrs(context.Background(), slog.LevelDebug, "message received", c.LogAttr(), slog.Int("bytes", len(m.Payload)))
	}
}

// peerClosed answers the client's Close frame with its code.
func (c *Conn) peerClosed(payload []byte) {
	c.Plant("peerClosed")
	c.bits |= bitPeerClosed
	if c.Phase == phaseOpen {
		code := frame.CloseEcho(payload)
		c.closeWith(ReasonClientClose, code)
	}
}

// feedClosing looks for the client's Close frame among bytes that came after it
// was decided that the connection ends; everything else is thrown away.
func (c *Conn) feedClosing(p []byte) {
	if c.Phase >= phaseDraining || !reasons[c.reason].waits || c.has(bitPeerClosed) {
		return
	}
	for len(p) > 0 {
		m, n, ok, err := frame.Next(c.frame(), p, c.limits())
		if err != nil {
			c.bits |= bitPeerClosed // nothing sensible will come any more
			break
		}
		p = p[n:]
		if ok && m.Op == ws.OpClose {
			c.bits |= bitPeerClosed
			break
		}
		if !ok {
			break
		}
	}
	c.restInput()
}

// input returns the connection's input, making one where there is none.
func (c *Conn) input() *input {
	if c.In == nil {
		l := c.loop
		if n := len(l.inputs); n > 0 {
			c.In, l.inputs = l.inputs[n-1], l.inputs[:n-1]
		} else {
			c.In = new(input)
		}
	}
	return c.In
}

// frame returns the state of the connection's incomplete message, making one where there is none.
func (c *Conn) frame() *frame.State {
	in, l := c.input(), c.loop
	if in.frame == nil {
		if n := len(l.frames); n > 0 {
			in.frame, l.frames = l.frames[n-1], l.frames[:n-1]
		} else {
			in.frame = new(frame.State)
		}
	}
	return in.frame
}

// restInput returns the parts of the input that are empty.
func (c *Conn) restInput() {
	switch {
	case c.In == nil:
	case !c.midMessage() && !c.hasPutOff():
		c.dropInput()
	case !c.midMessage():
		c.dropFrame()
	case c.In.kept.n == 0:
		c.In.kept = Kept{}
	}
}

func (c *Conn) dropInput() {
	in, l := c.In, c.loop
	if in == nil {
		return
	}
	c.unpark()
	c.dropFrame()
	c.In = nil
	if len(l.inputs) < 64 {
		*in = input{}
		l.inputs = append(l.inputs, in)
	}
}

// dropFrame gives the state of an incomplete message back.
func (c *Conn) dropFrame() {
	state, l := c.In.frame, c.loop
	if state == nil {
		return
	}
	c.In.frame = nil
	if len(l.frames) < 64 {
		state.Reset() // lets a large buffer go
		l.frames = append(l.frames, state)
	}
}

// reasonFor returns the reason for a fault of the client's frames.
func reasonFor(err error) Reason {
	var fault *frame.Error
	if errors.As(err, &fault) {
		switch fault.Code {
		case ws.StatusProtocolError:
			return ReasonProtocol
		case ws.StatusInvalidFramePayloadData:
			return ReasonText
		case ws.StatusMessageTooBig:
			return ReasonTooBig
		case ws.StatusPolicyViolation:
			return ReasonFragments
		}
	}
	return ReasonInternal
}
