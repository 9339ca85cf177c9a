package loop

import (
	"encoding/hex"
	"strconv"

	"sluice/gateway/channel"

	"github.com/gobwas/ws"
)

// Observer is notified of clients that come and go, of their subscriptions and of what they publish. Loops call it at the
// same time; it must not block, and must not keep what an Edge refers to.
type Observer interface {
	// Join is called when a loop has its first subscriber of a channel in a format, or one that catches up, and Leave when that
	// is not so any more: a channel has subscribers on this node while there were more calls of Join.
	Join(channel string)
	Leave(channel string)
	// Wants reports whether Happened is to be called with edges of a kind.
	Wants(EdgeKind) bool
	Happened(*Edge)
}

// EdgeKind is what has happened.
type EdgeKind uint8

const (
	// EdgeConnected: a client is connected, and its hooks and its token allow that.
	EdgeConnected EdgeKind = iota
	EdgeDisconnected
	EdgeSubscribed // also of a subscription that catches up
	EdgeUnsubscribed
	EdgePublished
	// EdgeCacheEmpty: a client wants the last publication of a channel that has none.
	EdgeCacheEmpty
)

// Edge is something that has happened to a client. It is the loop's, and valid until Happened returns.
type Edge struct {
	Kind      EdgeKind
	Client    []byte // its ID, or the connection's number
	User      string
	Transport string // in Centrifugo's words
	Channel   string
	Code      uint32 // of EdgeDisconnected and EdgeUnsubscribed
	Text      string
	Payload   []byte // of EdgePublished
	Receipt   channel.Receipt
}

// Teller is a protocol that knows more about clients than the loop does.
type Teller interface {
	// Transport returns how a client is connected, in Centrifugo's words.
	Transport(c *Conn) string
	// EndText returns the code and the text of a connection that has ended, for the application.
	EndText(c *Conn) (code ws.StatusCode, text string)
}

// observation is a loop's part of what an Observer is notified of.
type observation struct {
	to    Observer // nil for none
	edge  Edge     // here, because it would be allocated elsewhere
	texts [36]byte // of Edge.Client
}

// wants reports whether somebody is notified of edges of a kind.
func (l *Loop) wants(kind EdgeKind) bool { return l.observed.to != nil && l.observed.to.Wants(kind) }

// edge returns an edge of the connection, to be completed.
func (c *Conn) edge(kind EdgeKind) *Edge {
	o := &c.loop.observed
	o.edge = Edge{Kind: kind}
	e := &o.edge
	if who := c.Identity(); who != nil {
		e.Client, e.User = appendClientID(o.texts[:0], who.ID), who.User
	} else {
		e.Client = strconv.AppendUint(o.texts[:0], c.id, 10)
	}
	if t, ok := c.protocol().(Teller); ok {
		e.Transport = t.Transport(c)
	}
	return e
}

// happened notifies of the edge that was completed.
func (l *Loop) happened() {
	l.observed.to.Happened(&l.observed.edge)
	l.observed.edge = Edge{}
}

// connected notifies of a client that is connected.
func (c *Conn) connected() {
	if c.loop.wants(EdgeConnected) {
		c.edge(EdgeConnected)
		c.loop.happened()
	}
}

// disconnected notifies of the end of a client.
func (c *Conn) disconnected() {
	if !c.loop.wants(EdgeDisconnected) {
		return
	}
	e := c.edge(EdgeDisconnected)
	e.Code, e.Text = c.endText()
	c.loop.happened()
}

// The codes of ends for which a client is sent none, as RFC 6455 section 7.4.1 has them.
const (
	closeNormal   ws.StatusCode = 1000
	closeAbnormal ws.StatusCode = 1006
)

// EndText returns the code and the text of a connection that has ended, as the application is told: those of
// Protocol.CloseText or, where a client is sent none, of RFC 6455.
func (c *Conn) EndText() (code ws.StatusCode, text string) {
	code, text = c.protocol().CloseText(c, c.reason)
	switch {
	case c.reason == ReasonClientClose:
		return closeNormal, "closed by the client"
	case code == 0:
		return closeAbnormal, c.reason.String()
	}
	return code, text
}

func (c *Conn) endText() (code uint32, text string) {
	status, text := ws.StatusCode(0), ""
	if t, ok := c.protocol().(Teller); ok {
		status, text = t.EndText(c)
	} else {
		status, text = c.EndText()
	}
	return uint32(status), text
}

// subscribed notifies of a subscription that has begun. A client without an identity is connected with its first one.
func (c *Conn) subscribed(name string) {
	if c.loop.observed.to == nil {
		return
	}
	if c.anonymous() {
		c.connected()
	}
	if c.loop.wants(EdgeSubscribed) {
		c.edge(EdgeSubscribed).Channel = name
		c.loop.happened()
	}
}

// unsubscribed notifies of a subscription that has ended.
func (c *Conn) unsubscribed(name string, code uint32, text string) {
	if !c.loop.wants(EdgeUnsubscribed) {
		return
	}
	e := c.edge(EdgeUnsubscribed)
	e.Channel, e.Code, e.Text = name, code, text
	c.loop.happened()
}

// unsubscribedAll notifies of the ends of all subscriptions of a connection that ends, and of its own if it has no identity.
func (c *Conn) unsubscribedAll() {
	l := c.loop
	if l.observed.to == nil || c.Refs() == 0 && !c.catchingUp() {
		return
	}
	if l.wants(EdgeUnsubscribed) {
		code, text := c.endText()
		for i := range c.Refs() {
			c.unsubscribed(c.Ref(i).Channel(), code, text)
		}
		if c.catchingUp() {
			c.unsubscribed(c.Out.catch.channel, code, text)
		}
	}
	if c.anonymous() {
		c.disconnected()
	}
}

// anonymous reports whether nobody knows who the client is: then it has one subscription, for as long as it is connected.
func (c *Conn) anonymous() bool { return c.Identity() == nil }

// publishedBy notifies of a publication that was accepted; c is nil if the client's end has not waited for that.
func (l *Loop) publishedBy(c *Conn, name string, payload []byte, receipt channel.Receipt) {
	if !l.wants(EdgePublished) {
		return
	}
	e := &l.observed.edge
	if *e = (Edge{Kind: EdgePublished}); c != nil {
		e = c.edge(EdgePublished)
	}
	e.Channel, e.Payload, e.Receipt = name, payload, receipt
	l.happened()
}

// CacheEmpty notifies of a client that wants the last publication of a channel that has none.
func (c *Conn) CacheEmpty(name string) {
	if c.loop.wants(EdgeCacheEmpty) {
		c.edge(EdgeCacheEmpty).Channel = name
		c.loop.happened()
	}
}

// joins notifies of the group's first subscriber.
func (g *Group) joins() {
	if o := g.loop.observed.to; o != nil && !g.observed {
		g.observed = true
		o.Join(g.Channel())
	}
}

// leaves notifies that the group has no subscriber any more.
func (g *Group) leaves() {
	if g.observed {
		g.observed = false
		if o := g.loop.observed.to; o != nil {
			o.Leave(g.Channel())
		}
	}
}

// joins notifies of a subscriber that catches up.
func (cu *catchUp) joins(l *Loop) {
	if o := l.observed.to; o != nil && !cu.observed {
		cu.observed = true
		o.Join(cu.channel)
	}
}

func (cu *catchUp) leaves(l *Loop) {
	if cu.observed {
		cu.observed = false
		if o := l.observed.to; o != nil {
			o.Leave(cu.channel)
		}
	}
}

// Observe has an observer notified from now on, of what there is at first: the loops look at their channels some at a time. There
// is at most one observer for the life of the loops.
func (s *Set) Observe(o Observer) {
	for _, l := range s.loops {
		l.Post(call(func(l *Loop) {
			l.observed.to = o
			groups := make([]*Group, 0, len(l.groups))
			for _, g := range l.groups {
				groups = append(groups, g)
			}
			l.joinSome(groups, 0)
		}))
	}
}

// observeMost is how many channels, and how many connections, a turn notifies an observer of.
const observeMost = 512

// joinSome notifies a new observer of channels that have subscribers, and then of subscribers that catch up. Those that have come
// meanwhile have done so themselves.
func (l *Loop) joinSome(groups []*Group, conns int) {
	n := min(len(groups), observeMost)
	for _, g := range groups[:n] {
		if len(g.subs) > g.holes {
			g.joins()
		}
	}
	groups = groups[n:]
	if n == 0 {
		end := min(conns+observeMost, len(l.conns))
		for ; conns < end; conns++ {
			if c := l.conns[conns]; c.catchingUp() {
				c.Out.catch.joins(l)
			}
		}
		if conns >= len(l.conns) {
			return
		}
	}
	l.Post(call(func(l *Loop) { l.joinSome(groups, conns) }))
}

// appendClientID appends an ID as ClientID.String returns it.
func appendClientID(dst []byte, id ClientID) []byte {
	for i, part := range [...][]byte{id[:4], id[4:6], id[6:8], id[8:10], id[10:]} {
		if i > 0 {
			dst = append(dst, '-')
		}
		dst = hex.AppendEncode(dst, part)
	}
	return dst
}

// Staying calls f, in the freeze, with the edges of the clients that are not handed over, as far as they are wanted: for an observer of the
// other process, because this one is not notified of their ends. It reports whether there are any.
func (s *Set) Staying(wants func(EdgeKind) bool, f func(*Edge)) (some bool) {
	for _, l := range s.loops {
		for _, c := range l.conns {
			if c.has(bitPassed) {
				continue
			}
			some = true
			if l.observed.to == nil || !c.Identified() && c.Refs() == 0 && !c.catchingUp() {
				continue
			}
			code, text := c.protocol().CloseText(c, ReasonMoved)
			if c.Phase != phaseOpen {
				n, t := c.endText()
				code, text = ws.StatusCode(n), t
			}
			edge := func(kind EdgeKind, channel string) {
				if wants(kind) {
					e := c.edge(kind)
					e.Channel, e.Code, e.Text = channel, uint32(code), text
					f(e)
					l.observed.edge = Edge{}
				}
			}
			for i := range c.Refs() {
				edge(EdgeUnsubscribed, c.Ref(i).Channel())
			}
			if c.catchingUp() {
				edge(EdgeUnsubscribed, c.Out.catch.channel)
			}
			edge(EdgeDisconnected, "")
		}
	}
	return some
}
