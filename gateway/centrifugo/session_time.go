package centrifugo

import (
	"sluice/gateway/loop"
)

const (
	// staleSeconds is how long a client may take to connect, once it is here.
	staleSeconds = 10
	// refreshSeconds is for how long a connection or subscription may be expired before
	// it ends: its client asks for a fresh token when it learns of that.
	refreshSeconds = 10
)

// wakeSession sets when a client has to be looked at next.
func (c clientConn) wakeSession() {
	if !c.Open() {
		return
	}
	if c.Identified() {
		c.WakeToPing()
	} else {
		c.Loop().WakeAt(c.Conn, c.begun+staleSeconds)
	}
	if c.serverRefreshes() {
		c.WakeAtTime(c.ExpireAt)
	} else {
		c.WakeAtTime(c.endsAt(c.ExpireAt))
	}
	for name, d := range c.details {
		switch {
		case d.expireAt == 0 || d.cancel != nil:
		case c.subRefreshHook(name) != nil:
			c.WakeAtTime(d.expireAt)
		default:
			c.WakeAtTime(c.endsAt(d.expireAt))
		}
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
func (c clientConn) expireSession() {
	l := c.Loop()
	now := l.Time().Unix()
	switch {
	case !c.serverRefreshes():
		if c.Expired(c.endsAt(c.ExpireAt)) {
			return
		}
	case c.Identified() && c.ExpireAt > 0 && now >= c.ExpireAt:
		c.askToRefresh()
	}
	for name, d := range c.details {
		if h := c.subRefreshHook(name); h != nil {
			if d.cancel == nil && d.expireAt > 0 && now >= d.expireAt {
				c.goesOn(h, name, d)
			}
			continue
		}
		if at := c.endsAt(d.expireAt); at > 0 && now >= at {
			c.unsubscribe(name, UnsubscribeExpired)
		}
	}
	switch {
	case c.Identified():
		c.KeepAlive()
	case l.Now() >= c.begun+staleSeconds && !c.Parked(): // while it waits for us it is not late
		c.Close(loop.ReasonStale)
	}
	c.Flush()
	c.Settle()
	c.wakeSession()
}
