package loop

import "sluice/gateway/wire"

// Time comes to a connection through its one deadline in loop.due, in loop time.

// keepAlive is a connection's part that knows whether the client is there.
type keepAlive struct {
	heard  uint32 // loop time of the last bytes from the client
	pinged uint32 // loop time of the last ping
}

// expire is called when the connection is due. It does what its deadlines ask
// for, and sets when it is due next.
func (c *Conn) expire() {
	c.Plant("expire")
	l := c.loop
	if c.Phase == phaseDead {
		return
	}
	l.due[c.slot] = noDue
	if c.Phase != phaseOpen {
		if l.now >= c.since {
			c.closeTimedOut()
		} else {
			l.WakeAt(c, c.since)
		}
		return
	}
	if c.has(bitMuted) {
		c.expireMuted()
		return
	}
	if c.has(bitBlocked) && l.cfg.WriteTimeout > 0 {
		at := c.since + seconds(l.cfg.WriteTimeout)
		if l.now >= at {
			c.write() // one last try
			if c.Phase == phaseOpen && c.has(bitBlocked) && l.now >= c.since+seconds(l.cfg.WriteTimeout) {
				c.Close(ReasonWriteTimeout)
			}
			c.Settle()
			if c.Phase != phaseOpen {
				return
			}
		}
		if c.has(bitBlocked) {
			l.WakeAt(c, c.since+seconds(l.cfg.WriteTimeout))
		}
	}
	if c.Parked() {
		if l.now >= c.In.late {
			c.resume(Wait.Late)
			c.Settle()
		}
		if c.Phase != phaseOpen {
			return
		}
		if c.Parked() {
			l.WakeAt(c, c.In.late)
		}
	}
	if c.midMessage() && c.unfinished() {
		return
	}
	if s := c.secure(); s != nil && s.wire.left > 0 && c.unfinishedRecord(s) {
		return
	}
	c.protocol().Due(c)
}

// abandonSeconds is how long what a client had sent may wait once it is gone.
const abandonSeconds = 10

// setAbandon notes since when the peer is gone.
func (c *Conn) setAbandon() {
	c.since = c.loop.now // it is not blocked: nothing is written any more
	c.loop.WakeAt(c, c.since+abandonSeconds)
}

// expireMuted drops what a client that is gone had sent, when it has waited for too long:
// a channel's rate or room may let it wait for hours, in which it keeps its place.
func (c *Conn) expireMuted() {
	l := c.loop
	if l.now < c.since+abandonSeconds {
		l.WakeAt(c, c.since+abandonSeconds)
		return
	}
	c.kill(reasonAbandoned)
}

// unfinishedRecord closes a connection whose TLS record was not finished in time.
func (c *Conn) unfinishedRecord(s *Secure) (closed bool) {
	l := c.loop
	limit := seconds(l.cfg.MessageTimeout)
	if !c.reads() {
		s.wire.begun = l.now
	}
	if l.now >= s.wire.begun+limit {
		c.read(0) // one last read
		if c.Phase == phaseOpen && s.wire.left > 0 && l.now >= s.wire.begun+limit {
			c.Close(ReasonMessageTimeout)
		}
		c.Settle()
	}
	if c.Phase == phaseOpen && s.wire.left > 0 {
		l.WakeAt(c, s.wire.begun+limit)
	}
	return c.Phase != phaseOpen
}

// unfinished closes a connection whose message was not finished in time. Time in
// which we did not read is not the client's.
func (c *Conn) unfinished() (closed bool) {
	l := c.loop
	limit := seconds(l.cfg.MessageTimeout)
	if !c.reads() {
		c.In.begun = l.now
	}
	if l.now >= c.In.begun+limit {
		c.read(0) // one last read
		if c.Phase == phaseOpen && c.midMessage() && l.now >= c.In.begun+limit {
			c.Close(ReasonMessageTimeout)
		}
		c.Settle()
	}
	if c.Phase == phaseOpen && c.midMessage() {
		l.WakeAt(c, c.In.begun+limit)
	}
	return c.Phase != phaseOpen
}

// KeepAlive pings a client at the times of its framing, closes one that does not answer, and sets
// when it is to be called next. Time in which we did not read is not the client's silence, and no
// answer is expected in it: TCP reports whether the peer is there.
func (c *Conn) KeepAlive() {
	c.Plant("keepAlive")
	l := c.loop
	if l.cfg.PingInterval <= 0 {
		return
	}
	if c.unanswered() {
		return // respond sets when it is called next
	}
	if !c.reads() {
		c.excuse()
	}
	if c.heard > c.pinged {
		c.bits &^= bitPinged
	}
	switch {
	case c.has(bitPinged) && l.now >= c.pinged+seconds(l.cfg.PongTimeout):
		c.read(0) // one last read
		if c.Phase == phaseOpen && c.has(bitPinged) {
			c.Close(ReasonNoPong)
		}
		c.Settle()
	case !c.has(bitPinged) && l.now >= c.nextPing():
		c.pinged = l.now
		if c.framing().Pings() != wire.PingUnanswered {
			c.bits |= bitPinged
		} else if c.has(bitBlocked) {
			break // bytes wait already
		}
		c.ping()
		c.Flush()
		c.Settle()
	}
	c.WakeToPing()
}

// WakeToPing makes sure that KeepAlive is called when it has something to do.
func (c *Conn) WakeToPing() {
	l := c.loop
	if l.cfg.PingInterval <= 0 || c.Phase != phaseOpen {
		return
	}
	at := c.nextPing()
	if c.has(bitPinged) { // the answer may come, and the next ping be due at once
		at = min(c.pinged+seconds(l.cfg.PongTimeout), max(at, l.now+1))
	}
	l.WakeAt(c, at)
}

// nextPing returns when the next ping is due, unless one is out. A client that is not read cannot
// break its silence.
func (c *Conn) nextPing() uint32 {
	from := c.pinged
	if c.framing().Pings() == wire.PingSilent && c.reads() {
		from = c.heard
	}
	return from + seconds(c.loop.cfg.PingInterval)
}
