package gateway

// Time comes to a connection through its one deadline in loop.due, in loop time.

// expire is called when the connection is due. It does what its deadlines ask
// for, and sets when it is due next.
func (c *conn) expire() {
	c.plant("expire")
	l := c.loop
	if c.phase == phaseDead {
		return
	}
	l.due[c.slot] = noDue
	if c.phase != phaseOpen {
		if l.now >= c.since {
			c.closeTimedOut()
		} else {
			l.wakeAt(c, c.since)
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
			if c.phase == phaseOpen && c.has(bitBlocked) && l.now >= c.since+seconds(l.cfg.WriteTimeout) {
				c.close(reasonWriteTimeout)
			}
			c.settle()
			if c.phase != phaseOpen {
				return
			}
		}
		if c.has(bitBlocked) {
			l.wakeAt(c, c.since+seconds(l.cfg.WriteTimeout))
		}
	}
	if c.in != nil && !c.in.frame.Idle() && c.unfinished() {
		return
	}
	if s := c.secure(); s != nil && s.wire.left > 0 && c.unfinishedRecord(s) {
		return
	}
	c.protocol().due(c)
}

// abandonSeconds is how long what a client had sent may wait once it is gone.
const abandonSeconds = 10

// setAbandon notes since when the peer is gone.
func (c *conn) setAbandon() {
	c.since = c.loop.now // it is not blocked: nothing is written any more
	c.loop.wakeAt(c, c.since+abandonSeconds)
}

// expireMuted drops what a client that is gone had sent, when it has waited for too long:
// a channel's rate or room may let it wait for hours, in which it keeps its place.
func (c *conn) expireMuted() {
	l := c.loop
	if l.now < c.since+abandonSeconds {
		l.wakeAt(c, c.since+abandonSeconds)
		return
	}
	c.kill(reasonAbandoned)
}

// unfinishedRecord closes a connection whose TLS record was not finished in time.
func (c *conn) unfinishedRecord(s *secure) (closed bool) {
	l := c.loop
	limit := seconds(l.cfg.MessageTimeout)
	if !c.reads() {
		s.wire.begun = l.now
	}
	if l.now >= s.wire.begun+limit {
		c.read(false) // one last read
		if c.phase == phaseOpen && s.wire.left > 0 && l.now >= s.wire.begun+limit {
			c.close(reasonMessageTimeout)
		}
		c.settle()
	}
	if c.phase == phaseOpen && s.wire.left > 0 {
		l.wakeAt(c, s.wire.begun+limit)
	}
	return c.phase != phaseOpen
}

// unfinished closes a connection whose message was not finished in time. Time in
// which we did not read is not the client's.
func (c *conn) unfinished() (closed bool) {
	l := c.loop
	limit := seconds(l.cfg.MessageTimeout)
	if !c.reads() {
		c.in.begun = l.now
	}
	if l.now >= c.in.begun+limit {
		c.read(false) // one last read
		if c.phase == phaseOpen && c.in != nil && !c.in.frame.Idle() && l.now >= c.in.begun+limit {
			c.close(reasonMessageTimeout)
		}
		c.settle()
	}
	if c.phase == phaseOpen && c.in != nil && !c.in.frame.Idle() {
		l.wakeAt(c, c.in.begun+limit)
	}
	return c.phase != phaseOpen
}

// keepAlive pings a client that was silent, and closes one that stayed silent.
// Time in which we did not read is not the client's silence.
func (c *conn) keepAlive() {
	c.plant("keepAlive")
	l := c.loop
	if l.cfg.PingInterval <= 0 {
		return
	}
	if !c.framing().ReadsInput() {
		c.comment()
		return
	}
	if !c.reads() {
		c.excuse()
		if c.probe(); c.phase != phaseOpen {
			return
		}
	}
	interval, timeout := seconds(l.cfg.PingInterval), seconds(l.cfg.PongTimeout)
	if c.has(bitPinged) && c.heard >= c.pinged+1 {
		c.bits &^= bitPinged
	}
	switch {
	case c.has(bitPinged) && l.now >= c.pinged+timeout:
		c.read(false) // one last read
		if c.phase == phaseOpen && c.has(bitPinged) {
			c.close(reasonNoPong)
		}
		c.settle()
		if c.phase != phaseOpen {
			return
		}
		l.wakeAt(c, c.heard+interval)
	case c.has(bitPinged):
		l.wakeAt(c, c.pinged+timeout)
	case l.now >= c.heard+interval:
		c.bits |= bitPinged
		c.pinged = l.now
		c.ping()
		c.flush()
		c.settle()
		if c.phase == phaseOpen {
			l.wakeAt(c, c.pinged+min(timeout, interval)) // the pong may come, and the next ping be due first
		}
	default:
		l.wakeAt(c, c.heard+interval)
	}
}

// probe pings a client that is not read because its message waits: were it gone, nobody
// would notice before the message has had its turn. An answer is not waited for.
func (c *conn) probe() {
	if c.has(bitParked) && !c.has(bitBlocked) {
		c.ping()
		c.flush()
		c.settle()
	}
}

// comment keeps a connection alive that is not read. Whether somebody is there TCP tells: what
// the peer does not acknowledge in time ends the connection (TCP_USER_TIMEOUT).
func (c *conn) comment() {
	c.plant("comment")
	l := c.loop
	if next := c.pinged + seconds(l.cfg.PingInterval); l.now < next {
		l.wakeAt(c, next)
		return
	}
	c.pinged = l.now
	l.stats.pings.Add(1)
	if !c.has(bitBlocked) && !c.has(bitMuted) { // else bytes wait already
		o := c.output()
		o.buf = c.framing().AppendPing(o.buf)
		c.flush()
		c.settle()
	}
	if c.phase == phaseOpen {
		l.wakeAt(c, c.pinged+seconds(l.cfg.PingInterval))
	}
}
