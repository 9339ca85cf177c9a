package gateway

import (
	"math/rand/v2"
	"time"

	"sluice/gateway/centrifugo"
)

const (
	// staleSeconds is how long a client may take to connect, once it is here.
	staleSeconds = 10
	// refreshSeconds is for how long a connection or subscription may be expired before
	// it ends: its client asks for a fresh token when it learns of that.
	refreshSeconds = 10
)

// arrive sets the times of a new client. Pings begin at different times, so that not
// all who came in one storm are pinged at once.
func (ses *session) arrive(c *conn) {
	l := c.loop
	ses.begun = l.now
	if interval := seconds(l.cfg.PingInterval); interval > 0 {
		c.pinged = l.now - rand.Uint32N(interval/2+1) // may wrap around, as what is compared with it
	}
	c.wakeSession()
}

// wakeSession sets when a client has to be looked at next.
func (c *conn) wakeSession() {
	l, ses := c.loop, c.session()
	if c.phase != phaseOpen {
		return
	}
	if interval := seconds(l.cfg.PingInterval); interval > 0 && c.has(bitIdentified) {
		at, late := c.pinged+interval, c.pinged+seconds(l.cfg.PongTimeout)
		if c.has(bitPinged) { // when the answer comes, the next ping may be due at once
			at = min(late, max(at, l.now+1))
		}
		l.wakeAt(c, at)
	}
	if !c.has(bitIdentified) {
		l.wakeAt(c, ses.begun+staleSeconds)
	}
	c.wakeAtTime(ses.endsAt(ses.expireAt))
	for _, d := range ses.details {
		c.wakeAtTime(ses.endsAt(d.expireAt))
	}
}

// endsAt returns when something that expires is over: later, where its client can ask
// for more time.
func (ses *session) endsAt(expireAt int64) int64 {
	if expireAt > 0 && !ses.format.Uni {
		return expireAt + refreshSeconds
	}
	return expireAt
}

// expireSession does what a client's times ask for.
func (c *conn) expireSession() {
	l, ses := c.loop, c.session()
	if c.expired(ses.endsAt(ses.expireAt)) {
		return
	}
	now := time.Now().Unix()
	for name, d := range ses.details {
		if at := ses.endsAt(d.expireAt); at > 0 && now >= at {
			c.unsubscribe(name, centrifugo.UnsubscribeExpired)
		}
	}
	switch {
	case !c.has(bitIdentified):
		if l.now >= ses.begun+staleSeconds && !c.has(bitParked) { // while it waits for us it is not late
			c.close(reasonStale)
		}
	case l.cfg.PingInterval > 0:
		c.pingSession()
	}
	c.flush()
	c.settle()
	c.wakeSession()
}

// pingSession pings a client, whatever else it was sent, because its library expects
// that, and ends one that does not answer.
func (c *conn) pingSession() {
	c.plant("pingSession")
	l, ses := c.loop, c.session()
	if !c.reads() {
		c.excuse()
		c.bits &^= bitPinged // its answer is not read: another ping shows whether it is there
	}
	if ses.format.Uni {
		c.bits &^= bitPinged // it does not answer
	}
	if c.has(bitPinged) && l.now >= c.pinged+seconds(l.cfg.PongTimeout) {
		c.read(false) // one last read
		if c.phase == phaseOpen && c.has(bitPinged) {
			c.close(reasonNoPong)
		}
		return
	}
	if c.has(bitPinged) || l.now < c.pinged+seconds(l.cfg.PingInterval) {
		return // an answer may take longer than an interval: it is for the ping that is out
	}
	c.pinged = l.now
	if c.has(bitMuted) {
		return
	}
	c.bits |= bitPinged
	l.stats.pings.Add(1)
	o := c.output()
	o.compact()
	o.buf = centrifugo.AppendPing(o.buf, ses.format)
}
