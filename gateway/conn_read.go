package gateway

import (
	"context"
	"errors"
	"io"
	"log/slog"

	"sluice/gateway/frame"
	"sluice/poller"

	"github.com/gobwas/ws"
)

// read reads once and processes what came. hangup: the kernel says that nothing
// more will come.
func (c *conn) read(hangup bool) {
	c.plant("read")
	l := c.loop
	if !c.reads() {
		if hangup {
			c.hangUp()
		}
		return
	}
	if s := c.secure(); s != nil && !s.wire.failed && c.phase < phaseDraining {
		c.readSecure(s, hangup)
		return
	}
	n, err := poller.Read(c.FD(), l.scratch)
	if n > 0 {
		c.received(l.scratch[:n])
		return
	}
	switch {
	case errors.Is(err, io.EOF):
		c.eof()
	case err != nil:
		c.kill(reasonReset)
	case hangup:
		// An error that was reported by another call already.
		c.kill(reasonReset)
	}
}

// received processes bytes of the client.
func (c *conn) received(p []byte) {
	c.plant("received")
	l := c.loop
	c.hear()
	l.asked = c.has(bitPinged)
	c.bits &^= bitPinged
	l.stats.bytesIn.Add(uint64(len(p)))
	switch {
	case !c.framing().ReadsInput(): // whatever it is, nobody asked for it
	case c.phase == phaseOpen:
		c.feed(p)
	default:
		c.feedClosing(p)
	}
}

// hangUp deals with a peer that is gone in both directions while its bytes are
// not read. What it sent before is processed when its turn comes.
func (c *conn) hangUp() {
	if c.phase != phaseOpen || c.has(bitGone) {
		c.kill(reasonReset)
		return
	}
	c.broken()
	if c.has(bitParked) {
		c.loop.poller.Del(&c.Desc) // its failure is ignored; without it the hangup would be reported at every turn
	}
}

// eof deals with the peer's FIN: everything before it has been processed.
func (c *conn) eof() {
	c.plant("eof")
	c.bits |= bitGone
	switch {
	case c.phase >= phaseDraining, c.phase == phaseClosed && c.pending() == 0:
		c.die()
	case c.phase == phaseOpen:
		c.close(reasonClientGone)
	}
}

// feed takes p apart into messages and processes them, until p is used up, the
// connection closes, or a message has to wait.
func (c *conn) feed(p []byte) {
	c.plant("feed")
	l := c.loop
	for len(p) > 0 && c.phase == phaseOpen {
		if c.full() {
			c.putOff(ws.OpContinuation, nil, p)
			break
		}
		var (
			m   frame.Message
			n   int
			ok  bool
			err error
		)
		if c.in == nil {
			m, n, ok, err = frame.Whole(p, &l.limits)
		}
		if !ok && err == nil {
			in := c.input()
			if in.frame.Idle() {
				in.begun = l.now
			}
			m, n, ok, err = frame.Next(&in.frame, p, &l.limits)
		}
		if err != nil {
			c.close(reasonFor(err))
			break
		}
		p = p[n:]
		if !ok {
			break
		}
		if !c.handle(m, p) {
			break // put off, with p
		}
	}
	if c.phase > phaseOpen && c.phase < phaseDead {
		c.feedClosing(p)
	}
	if c.restInput(); c.in != nil && !c.in.frame.Idle() && c.phase == phaseOpen {
		l.wakeAt(c, c.in.begun+seconds(l.cfg.MessageTimeout))
	}
	if !c.has(bitBlocked) && c.out != nil {
		c.flush()
	}
}

// handle processes one message. false: it is put off together with rest, the
// bytes behind it.
func (c *conn) handle(m frame.Message, rest []byte) bool {
	c.plant("handle")
	l := c.loop
	if m.Op.IsControl() {
		asked := m.Op == ws.OpPong && l.asked // it was asked for, and is not counted
		if l.asked = l.asked && !asked; !asked && !c.mayControl() {
			c.close(reasonControlRate)
			return true
		}
	}
	switch m.Op {
	case ws.OpPing:
		c.pong(m.Payload)
	case ws.OpPong:
	case ws.OpClose:
		c.peerClosed(m.Payload)
	default:
		return c.protocol().message(c, m, rest)
	}
	return true
}

// admitMessage counts a message, if the client may send one now; else it is closed.
func (c *conn) admitMessage(m frame.Message) bool {
	if !c.mayMessage() {
		c.close(reasonMessageRate)
		return false
	}
	c.countMessage(m)
	return true
}

// countMessage counts a message whose protocol does not count it against the rate.
func (c *conn) countMessage(m frame.Message) {
	l := c.loop
	l.stats.messages.Add(1)
	if l.debug {
		l.log.LogAttrs(context.Background(), slog.LevelDebug, "message received", slog.Uint64("conn", c.id), slog.Int("bytes", len(m.Payload)))
	}
}

// peerClosed answers the client's Close frame with its code.
func (c *conn) peerClosed(payload []byte) {
	c.plant("peerClosed")
	c.bits |= bitPeerClosed
	if c.phase == phaseOpen {
		code := frame.CloseEcho(payload)
		c.closeWith(reasonClientClose, code)
	}
}

// feedClosing looks for the client's Close frame among bytes that came after it
// was decided that the connection ends; everything else is thrown away.
func (c *conn) feedClosing(p []byte) {
	if c.phase >= phaseDraining || !reasons[c.reason].waits || c.has(bitPeerClosed) {
		return
	}
	l := c.loop
	for len(p) > 0 {
		m, n, ok, err := frame.Next(&c.input().frame, p, &l.limits)
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
func (c *conn) input() *input {
	if c.in == nil {
		l := c.loop
		if n := len(l.inputs); n > 0 {
			c.in, l.inputs = l.inputs[n-1], l.inputs[:n-1]
		} else {
			c.in = new(input)
		}
	}
	return c.in
}

// restInput gives the input back when nothing is in it.
func (c *conn) restInput() {
	if c.in != nil && c.in.frame.Idle() && c.in.buf == nil {
		c.dropInput()
	}
}

func (c *conn) dropInput() {
	in, l := c.in, c.loop
	if in == nil {
		return
	}
	in.giveUp()
	c.in = nil
	if len(l.inputs) < 64 {
		in.frame.Reset() // lets a large buffer go
		in.buf, in.payload, in.rest, in.resumed, in.verifying = nil, nil, nil, nil, nil
		l.inputs = append(l.inputs, in)
	}
}

// reasonFor returns the reason for a fault of the client's frames.
func reasonFor(err error) reason {
	var fault *frame.Error
	if errors.As(err, &fault) {
		switch fault.Code {
		case ws.StatusProtocolError:
			return reasonProtocol
		case ws.StatusInvalidFramePayloadData:
			return reasonText
		case ws.StatusMessageTooBig:
			return reasonTooBig
		case ws.StatusPolicyViolation:
			return reasonFragments
		}
	}
	return reasonInternal
}
