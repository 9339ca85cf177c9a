package gateway

import (
	"sluice/gateway/channel"
	"sluice/gateway/frame"
	"sluice/gateway/wire"

	"github.com/gobwas/ws"
)

// Raw WebSocket: a WebSocket message is a publication and nothing else. What a client
// sends goes unchanged, with its opcode, to every subscriber of its channel.

// Lobby is the channel of raw WebSocket and SSE clients that name none.
const Lobby = "lobby"

// Message is a message to publish, or one that a client sent.
type Message struct {
	Channel string // 1 to 255 bytes of UTF-8 without control characters or white space
	Payload []byte // UTF-8 unless Binary
	Binary  bool
	Conn    uint64 // ID of the sending connection; 0 if the message did not come from a client
}

// rawProtocol is raw WebSocket and raw event streams.
type rawProtocol struct{}

// echoProtocol sends a client's messages back to it.
type echoProtocol struct{ rawProtocol }

var (
	rawWebSocket  = &variant{"websocket", rawProtocol{}, wire.WebSocket}
	rawStream     = &variant{"event_stream", rawProtocol{}, wire.SSE}
	echoWebSocket = &variant{"echo", echoProtocol{}, wire.WebSocket}
)

// lagging implements connProtocol.
func (rawProtocol) lagging(c *conn, g *group) { c.skipAhead(g) }

// left implements connProtocol.
func (rawProtocol) left(*conn, *ref) {}

// act implements connProtocol. A connection is its one subscription: it ends with that, and
// gets no other.
func (rawProtocol) act(c *conn, a action) {
	switch a := a.(type) {
	case *unsubscribeAction:
		if a.channel == "" || c.find(a.channel) != nil {
			c.close(reasonDisconnected)
		}
	case *disconnectAction:
		c.close(reasonDisconnected)
	case *refreshAction:
		if c.refreshed(a) {
			c.wakeAtTime(a.expireAt)
		}
	}
}

// closeText implements connProtocol: with the codes of the table.
func (rawProtocol) closeText(_ *conn, why reason) (ws.StatusCode, string) {
	return reasons[why].code, reasons[why].text
}

// open implements connProtocol.
func (echoProtocol) open(c *conn, a *arrival) { c.identifyBy(a.target.identity) }

// open implements connProtocol: the client is a subscriber of its channel, at once or when it
// has what it missed.
func (rawProtocol) open(c *conn, a *arrival) {
	t := &a.target
	if t.asks {
		c.output().catch = &catchUp{channel: t.channel, format: t.format, ask: t.ask, blind: t.blind}
		c.catchUp()
	} else if err := c.loop.join(c, t.channel, t.format); err != nil {
		c.close(reasonChannels)
	}
	c.identifyBy(t.identity)
}

// identifyBy makes the connection one of its token's user, if it has a token.
func (c *conn) identifyBy(who *identity) {
	if who != nil && c.phase == phaseOpen {
		c.loop.identify(c, who.user)
		c.wakeAtTime(who.expireAt)
	}
}

// message implements connProtocol: it sends the message back.
func (echoProtocol) message(c *conn, m frame.Message, _ []byte) bool {
	if c.admitMessage(m) {
		c.reply(m.Op, m.Payload)
	}
	return true
}

// message implements connProtocol: it publishes the message.
func (rawProtocol) message(c *conn, m frame.Message, rest []byte) bool {
	if !c.admitMessage(m) {
		return true
	}
	if c.has(bitListen) {
		c.close(reasonNotAllowed)
		return true
	}
	ch := c.sub.group.Log().Channel()
	if hook := c.loop.cfg.OnMessage; hook != nil {
		c.loop.inHook = true
		publish := hook(Message{Channel: ch.Name(), Payload: m.Payload, Binary: m.Op == ws.OpBinary, Conn: c.id})
		c.loop.inHook = false
		if !publish {
			return true
		}
	}
	return c.offer(ch, m, rest)
}

// offer publishes a message that the hook has let pass. false: the channel has no
// room, and it is put off, with rest.
func (c *conn) offer(ch *channel.Channel, m frame.Message, rest []byte) bool {
	pub := channel.Publication{Payload: m.Payload, Binary: m.Op == ws.OpBinary, From: c.id}
	if c.publish(ch.Name(), ch, &pub, 0) {
		return true
	}
	c.putOff(m.Op, m.Payload, rest)
	p := c.in.pending
	p.pub.Payload, p.own = c.in.payload, false
	c.await()
	return false
}

// resume implements connProtocol: the message that waited was published.
func (rawProtocol) resume(*conn, ws.OpCode, []byte, []byte) bool { return true }

// mayPublish implements connProtocol.
func (rawProtocol) mayPublish(*conn, string) error { return nil }

// published implements connProtocol. A raw client is not notified of its own accepted publications.
func (rawProtocol) published(c *conn, _ uint32, err error) {
	if err != nil {
		c.close(reasonTooBig) // ErrTooBig: cannot be, the limits are validated together
	}
}

// due implements connProtocol.
func (rawProtocol) due(c *conn) {
	if who := c.identity(); who != nil {
		if c.expired(who.expireAt) {
			return
		}
		c.wakeAtTime(who.expireAt)
	}
	c.keepAlive()
}
