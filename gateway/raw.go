package gateway

import (
	"sluice/gateway/channel"
	"sluice/gateway/frame"

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
	Conn    uint64 // id of the sending connection; 0 if it was not a client's
}

// rawProtocol is raw WebSocket and raw event streams.
type rawProtocol struct{}

// echoProtocol sends a client's messages back to it.
type echoProtocol struct{ rawProtocol }

var (
	rawWebSocket  = &variant{"websocket", rawProtocol{}, webSocket{}}
	rawStream     = &variant{"event_stream", rawProtocol{}, eventStream{}}
	echoWebSocket = &variant{"echo", echoProtocol{}, webSocket{}}
)

// closeText implements connProtocol: with the codes of the table.
func (rawProtocol) closeText(_ *conn, why reason) (ws.StatusCode, string) {
	return reasons[why].code, reasons[why].text
}

// message processes a client's data message. false: it is put off, with rest.
func (c *conn) message(m frame.Message, rest []byte) bool {
	if c.protocol() == connProtocol(echoProtocol{}) {
		c.reply(m.Op, m.Payload)
		return true
	}
	if c.speaks() {
		if len(m.Payload) == 0 && !c.session().format.Uni && !c.mayMessage() { // no command counts for it
			c.close(reasonMessageRate)
			return true
		}
		return c.commands(m.Op, m.Payload, rest)
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
