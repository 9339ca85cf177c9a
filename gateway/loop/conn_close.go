package loop

import (
	"context"
	"log/slog"
	"time"

	"sluice/poller"

	"github.com/gobwas/ws"
)

// Closing goes through the phases below. Close decides; advanceClose does
// every step that has become possible, whenever something happened to the
// connection; closeTimedOut goes on without the peer.

// phase is how far a connection's life has come. It only grows.
type phase uint8

const (
	// phaseOpen: messages go both ways.
	phaseOpen phase = iota
	// phaseClosing: it is decided that the connection ends. What was published
	// before is still sent; then the Close frame is queued. Nothing is taken from
	// the client any more.
	phaseClosing
	// phaseClosed: the Close frame is queued or sent, all subscriptions are
	// dropped. The client's own Close frame is waited for.
	phaseClosed
	// phaseDraining: everything is sent and our FIN is out. What the client still
	// sends is read and thrown away, because closing with unread bytes would
	// reset the connection and could destroy the Close frame.
	phaseDraining
	// phaseDead: out of the loop's lists; the descriptor is closed at the end of
	// the turn.
	phaseDead
)

// closing is a connection's part that knows how it ends.
type closing struct {
	Phase  phase
	reason Reason
	code   ws.StatusCode // of the Close frame that is due, 0 for none
}

// drainSeconds bounds how long the rest of what a peer sends is read after our
// FIN.
const drainSeconds = 2

// Close ends the connection for a reason: the client is sent the reason's close code, after
// what was published before, unless the reason is that it is behind. A later reason changes nothing, except that a connection which is
// behind is no longer waited for.
func (c *Conn) Close(why Reason) {
	code, _ := c.protocol().CloseText(c, why)
	c.closeWith(why, code)
}

func (c *Conn) closeWith(why Reason, code ws.StatusCode) {
	c.Plant("closeWith")
	l := c.loop
	switch {
	case c.Phase == phaseOpen:
		c.Phase, c.reason, c.code = phaseClosing, why, code
		l.stats.Closing.Add(1)
		c.retract()
		if c.unanswered() {
			c.output().response = false // it goes out before the reason
		}
		if l.debug {
			client := c.From()
			c.extra().client = &client // for the record at the end, when the socket does not know it any more
		}
		c.since = l.now + max(seconds(l.cfg.CloseTimeout), 1)
		l.WakeAt(c, c.since)
		c.unpark()
		if reasons[why].waits && c.In != nil {
			c.In.kept = Kept{} // the client's Close frame may come behind half a frame
		} else {
			c.dropInput()
		}
	case c.Phase == phaseClosing && reasons[why].cut && !reasons[c.reason].cut:
		c.reason, c.code = why, code
	default:
		return
	}
	c.logClose(true)
	c.mark()
	if !reasons[why].cut {
		// What was published before; what the socket does not take now follows when
		// it is writable, and the Close frame behind it.
		c.Flush()
	}
	if c.Phase == phaseClosing && (reasons[why].cut || !c.behind()) {
		c.queueClose()
	}
}

// queueClose drops the subscriptions and queues the Close frame as the last one. Where
// the rest of a cut frame cannot be kept before it, the connection ends at once.
func (c *Conn) queueClose() {
	c.Plant("queueClose")
	for i := range c.Refs() {
		if !c.keepRest(c.Ref(i)) {
			c.kill(c.reason)
			return
		}
	}
	c.loop.leaveAll(c)
	c.Phase = phaseClosed
	if c.code != 0 && !c.has(bitGone) && !c.has(bitMuted) {
		o := c.output()
		o.pong = o.pong[:0]
		c.endCatchUp()
		_, text := c.protocol().CloseText(c, c.reason)
		o.buf = c.seal(c.framing().AppendClose(o.buf, c.code, text), len(o.buf))
	}
	c.Flush()
}

// advanceClose does what closing can do now.
func (c *Conn) advanceClose() {
	if c.Phase == phaseClosing {
		if c.has(bitBlocked) {
			return
		}
		if c.behind() {
			c.Flush()
			if c.Phase != phaseClosing || c.behind() {
				return
			}
		}
		c.queueClose()
	}
	if c.Phase != phaseClosed || c.Pending() > 0 { // phaseDead included
		return
	}
	if c.has(bitGone) || c.has(bitMuted) {
		c.die()
		return
	}
	if !reasons[c.reason].waits || c.has(bitPeerClosed) {
		c.shut()
	}
}

// shut sends our FIN, behind the end of TLS, and reads what the peer still sends.
func (c *Conn) shut() {
	c.Plant("shut")
	l := c.loop
	if s := c.secure(); s != nil && !s.wire.failed {
		s.Conn.CloseWrite() // ignored: it may have been said before
		if s.push() == nil && c.sealed() {
			c.block() // it is called again when the socket has taken that
			c.since = l.now + drainSeconds
			l.WakeAt(c, c.since)
			return
		}
	}
	c.Phase = phaseDraining
	c.dropInput()
	c.dropOutput()
	if poller.ShutdownWrite(c.FD()) != nil {
		c.die() // the peer is gone
		return
	}
	c.since = l.now + drainSeconds
	l.WakeAt(c, c.since)
}

// closeTimedOut goes on when the time for the present phase is over.
func (c *Conn) closeTimedOut() {
	switch {
	case c.Phase == phaseClosing:
		// It did not read in time what was published before: it is sent a code that
		// says it lost something, if it reads anything at all.
		c.Close(ReasonWriteTimeout)
		if c.Phase != phaseDead {
			c.since = c.loop.now + 1
			c.loop.WakeAt(c, c.since)
		}
		c.Settle()
	case c.Phase == phaseClosed && c.Pending() == 0:
		c.shut()
		c.Settle()
	case c.Phase == phaseDraining:
		// Not a reset: the kernel may still be on its way with the last bytes.
		poller.SetUserTimeout(c.FD(), max(c.loop.cfg.CloseTimeout, time.Second)) // ignored: not TCP, or gone
		c.die()
	default:
		c.abort()
	}
}

// kill ends a connection at once, without a word to the peer: it is gone, or
// there is no time.
func (c *Conn) kill(why Reason) {
	if c.Phase == phaseDead {
		return
	}
	if c.Phase == phaseOpen {
		c.reason = why
		c.logClose(true)
	}
	c.abort()
}

// abort ends the connection with a reset, so that the kernel lets go of what
// the peer did not take.
func (c *Conn) abort() {
	if c.Phase == phaseDead {
		return
	}
	poller.SetAbort(c.FD()) // ignored: then the kernel takes longer to let go
	c.die()
}

// die takes the connection out of everything. The descriptor is closed at the
// end of the turn.
func (c *Conn) die() {
	l := c.loop
	if c.Phase == phaseDead {
		return
	}
	c.unpark()
	if c.Phase != phaseOpen {
		l.stats.Closing.Add(-1)
	}
	c.Phase = phaseDead
	c.retract()
	l.leaveAll(c)
	if c.has(bitIdentified) {
		c.disconnected()
		if e, ok := c.protocol().(Ender); ok {
			e.Ended(c)
		}
	}
	l.forget(c)
	if s := c.secure(); s != nil {
		s.wire.giveBack()
	}
	c.unblock()
	c.dropInput()
	c.dropOutput()
	l.held -= int(c.Counted)
	c.Counted = 0
	l.stats.Held.Store(int64(l.held))
	l.poller.Del(&c.Desc) // ignored: ErrDeleted after a hangup, else the descriptor is closed anyway
	l.remove(c)
	l.stats.Closed[c.reason].Add(1)
	l.cfg.Admission.Left(c.seat, c.has(bitRefused))
	c.seat = 0 // another address may have it now: a panic from here on blames nobody
	c.logClose(false)
	l.dead = append(l.dead, c)
	l.poller.Wake()
}

// logClose writes the one record about a connection's end: where the gateway cuts off
// whom an operator wants to know of, when that is decided, because later the address is
// not known any more.
func (c *Conn) logClose(decided bool) {
	l, level := c.loop, slog.LevelDebug
	if reasons[c.reason].loud {
		level = slog.LevelInfo
	}
	if decided != reasons[c.reason].loud || level == slog.LevelDebug && !l.debug {
		return
	}
	l.log.LogAttrs(context.Background(), level, "connection closed", c.LogAttr(), slog.String("client", AddressText(c.From())),
		slog.String("reason", c.reason.String()), slog.Int("code", int(c.code)))
}

// closeFD gives the descriptor back.
func (c *Conn) closeFD() {
	poller.Close(c.FD()) // ignored: there is nobody to tell
}
