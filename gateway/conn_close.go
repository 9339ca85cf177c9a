package gateway

import (
	"time"

	"sluice/poller"

	"github.com/gobwas/ws"
)

// Closing goes through the phases of conn.go. close decides; advanceClose does
// every step that has become possible, whenever something happened to the
// connection; closeTimedOut goes on without the peer.

// drainSeconds bounds how long the rest of what a peer sends is read after our
// FIN.
const drainSeconds = 2

// close ends the connection for a reason: the client is sent the reason's close code, after
// what was published before, unless the reason is that it is behind. A later reason changes nothing, except that a connection which is
// behind is no longer waited for.
func (c *conn) close(why reason) {
	code, _ := c.protocol().closeText(c, why)
	c.closeWith(why, code)
}

func (c *conn) closeWith(why reason, code ws.StatusCode) {
	c.plant("closeWith")
	l := c.loop
	switch {
	case c.phase == phaseOpen:
		c.phase = phaseClosing
		c.since = l.now + max(seconds(l.cfg.CloseTimeout), 1)
		l.wakeAt(c, c.since)
		c.unpark()
		if reasons[why].waits && c.in != nil {
			c.in.buf, c.in.payload, c.in.rest = nil, nil, nil // the client's Close frame may come behind half a frame
		} else {
			c.dropInput()
		}
	case c.phase == phaseClosing && reasons[why].cut && !reasons[c.reason].cut:
	default:
		return
	}
	c.reason, c.code = why, code
	c.logClose(true)
	c.mark()
	if !reasons[why].cut {
		// What was published before; what the socket does not take now follows when
		// it is writable, and the Close frame behind it.
		c.flush()
	}
	if c.phase == phaseClosing && (reasons[why].cut || !c.behind()) {
		c.queueClose()
	}
}

// queueClose drops the subscriptions and queues the Close frame as the last one. Where
// the rest of a cut frame cannot be kept before it, the connection ends at once.
func (c *conn) queueClose() {
	c.plant("queueClose")
	for i := range c.refs() {
		if !c.keepRest(c.ref(i)) {
			c.kill(c.reason)
			return
		}
	}
	c.loop.leaveAll(c)
	c.phase = phaseClosed
	if c.code != 0 && !c.has(bitGone) && !c.has(bitMuted) {
		o := c.output()
		o.pong, o.catch = o.pong[:0], nil
		_, text := c.protocol().closeText(c, c.reason)
		o.buf = c.framing().AppendClose(o.buf, c.code, text)
	}
	c.flush()
}

// advanceClose does what closing can do now.
func (c *conn) advanceClose() {
	if c.phase == phaseClosing {
		if c.has(bitBlocked) {
			return
		}
		if c.behind() {
			c.flush()
			if c.phase != phaseClosing || c.behind() {
				return
			}
		}
		c.queueClose()
	}
	if c.phase != phaseClosed || c.pending() > 0 { // phaseDead included
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

// shut sends our FIN and reads what the peer still sends.
func (c *conn) shut() {
	c.plant("shut")
	l := c.loop
	c.phase = phaseDraining
	c.dropInput()
	c.dropOutput()
	if s := c.secure(); s != nil && !s.wire.failed {
		s.Conn.CloseWrite() // ignored: what is not taken now is not waited for
		s.push()            // ignored: likewise
		s.wire.giveBack()
	}
	if poller.ShutdownWrite(c.FD()) != nil {
		c.die() // the peer is gone
		return
	}
	c.since = l.now + drainSeconds
	l.wakeAt(c, c.since)
}

// closeTimedOut goes on when the time for the present phase is over.
func (c *conn) closeTimedOut() {
	switch {
	case c.phase == phaseClosing:
		// It did not read in time what was published before: it is sent a code that
		// says it lost something, if it reads anything at all.
		c.close(reasonWriteTimeout)
		if c.phase != phaseDead {
			c.since = c.loop.now + 1
			c.loop.wakeAt(c, c.since)
		}
		c.settle()
	case c.phase == phaseClosed && c.pending() == 0:
		c.shut()
		c.settle()
	case c.phase == phaseDraining:
		// Not a reset: the kernel may still be on its way with the last bytes.
		poller.SetUserTimeout(c.FD(), max(c.loop.cfg.CloseTimeout, time.Second)) // ignored: not TCP, or gone
		c.die()
	default:
		c.abort()
	}
}

// kill ends a connection at once, without a word to the peer: it is gone, or
// there is no time.
func (c *conn) kill(why reason) {
	if c.phase == phaseDead {
		return
	}
	if c.phase == phaseOpen {
		c.reason = why
		c.logClose(true)
	}
	c.abort()
}

// abort ends the connection with a reset, so that the kernel lets go of what
// the peer did not take.
func (c *conn) abort() {
	if c.phase == phaseDead {
		return
	}
	poller.SetAbort(c.FD()) // ignored: then the kernel takes longer to let go
	c.die()
}

// die takes the connection out of everything. The descriptor is closed at the
// end of the turn.
func (c *conn) die() {
	l := c.loop
	if c.phase == phaseDead {
		return
	}
	c.unpark()
	c.phase = phaseDead
	l.leaveAll(c)
	l.forget(c)
	if s := c.secure(); s != nil {
		s.wire.giveBack()
	}
	c.unblock()
	c.dropInput()
	c.dropOutput()
	l.held -= int(c.counted)
	c.counted = 0
	l.stats.held.Store(int64(l.held))
	l.poller.Del(&c.Desc) // ignored: ErrDeleted after a hangup, else the descriptor is closed anyway
	l.remove(c)
	l.stats.closed[c.reason].Add(1)
	if l.server.admission.Leave(c.seat); c.has(bitRefused) {
		l.server.leavePlace(countedRefused)
	} else {
		l.server.leavePlace(countedOpen)
	}
	c.logClose(false)
	l.dead = append(l.dead, c)
	l.poller.Wake()
}

// closeFD gives the descriptor back.
func (c *conn) closeFD() {
	poller.Close(c.FD()) // ignored: there is nobody to tell
}
