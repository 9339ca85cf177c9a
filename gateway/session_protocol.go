package gateway

import (
	"errors"

	"sluice/gateway/access/namespace"
	"sluice/gateway/centrifugo"
	"sluice/gateway/frame"
	"sluice/gateway/wire"

	"github.com/centrifugal/protocol"
	"github.com/gobwas/ws"
)

// centrifugoProtocol is the Centrifugo protocol, bidirectional and unidirectional.
type centrifugoProtocol struct{}

var (
	clientWebSocket = &variant{"client", centrifugoProtocol{}, wire.WebSocket}
	clientStream    = &variant{"client", centrifugoProtocol{}, pushStream{wire.SSE}}
)

// pushFormat is what is sent in event streams of the protocol.
var pushFormat = centrifugo.Format{Uni: true, Framing: wire.SSE}

// pushStream is an event stream that ends with a push of the protocol.
type pushStream struct{ wire.Framing }

// AppendClose implements framing.
func (pushStream) AppendClose(dst []byte, code ws.StatusCode, text string) []byte {
	d := &protocol.Disconnect{Code: uint32(code), Reason: text, Reconnect: centrifugo.Reconnects(uint32(code))}
	out, err := centrifugo.AppendPush(dst, pushFormat, &protocol.Push{Disconnect: d})
	if err != nil {
		return dst // cannot be: a number and a string
	}
	return out
}

// disconnects are the protocol's codes for the reasons why connections end. Its clients are
// sent the code of the common table where there is none.
var disconnects = [reasonCount]*protocol.Disconnect{
	reasonMessageTimeout: centrifugo.DisconnectBadRequest,
	reasonMessageRate:    centrifugo.DisconnectTooManyRequests,
	reasonControlRate:    centrifugo.DisconnectTooManyRequests,
	reasonNoPong:         centrifugo.DisconnectNoPong,
	reasonSlow:           centrifugo.DisconnectSlow,
	reasonWriteTimeout:   centrifugo.DisconnectSlow,
	reasonPendingFull:    centrifugo.DisconnectSlow,
	reasonBudget:         centrifugo.DisconnectSlow,
	reasonShutdown:       centrifugo.DisconnectShutdown,
	reasonPanic:          centrifugo.DisconnectServerError,
	reasonInternal:       centrifugo.DisconnectServerError,
	reasonOperator:       centrifugo.DisconnectForceNoReconnect,
	reasonExpired:        centrifugo.DisconnectExpired,
	reasonInvalidToken:   centrifugo.DisconnectInvalidToken,
	reasonBadCommand:     centrifugo.DisconnectBadRequest,
	reasonStale:          centrifugo.DisconnectStale,
	reasonChannelLimit:   centrifugo.DisconnectChannelLimit,
	reasonInsufficient:   centrifugo.DisconnectInsufficientState,
	reasonDisconnected:   centrifugo.DisconnectForceNoReconnect,
}

// open implements connProtocol. A unidirectional client may have connected with its request.
func (centrifugoProtocol) open(c *conn, a *arrival) {
	c.session().arrive(c)
	if a.target.connect == nil {
		return
	}
	if c.commands(ws.OpText, a.target.connect, a.early); c.has(bitParked) { // its token is verified
		a.early = nil
	}
}

// message implements connProtocol. What counts against the client's rate is each command.
func (centrifugoProtocol) message(c *conn, m frame.Message, rest []byte) bool {
	c.countMessage(m)
	if len(m.Payload) == 0 && !c.session().format.Uni && !c.mayMessage() { // no command counts for it
		c.close(reasonMessageRate)
		return true
	}
	return c.commands(m.Op, m.Payload, rest)
}

// resume implements connProtocol.
func (centrifugoProtocol) resume(c *conn, op ws.OpCode, payload, rest []byte) bool {
	return c.commands(op, payload, rest)
}

// refusal is an error of the protocol as one of Go.
type refusal struct{ fault *protocol.Error }

func (r refusal) Error() string { return r.fault.Message }

// mayPublish implements connProtocol: the permission may have gone meanwhile.
func (centrifugoProtocol) mayPublish(c *conn, channel string) error {
	if err := c.may(namespace.Publish, channel); err != nil {
		return refusal{err}
	}
	return nil
}

// published implements connProtocol.
func (centrifugoProtocol) published(c *conn, id uint32, err error) {
	r := &protocol.Reply{Id: id}
	var refused refusal
	switch {
	case err == nil:
		r.Publish = &protocol.PublishResult{}
	case errors.As(err, &refused):
		r.Error = refused.fault
	default:
		r.Error = publishErrorOf(err).client
	}
	c.answer(r)
}

// due implements connProtocol.
func (centrifugoProtocol) due(c *conn) { c.expireSession() }

// lagging implements connProtocol. It takes a client out of a channel for which it is too slow,
// and tells it that its state is not sufficient any more: it subscribes again with its position,
// and learns whether it has missed anything. Where the server subscribed it, it has to connect
// again.
func (centrifugoProtocol) lagging(c *conn, g *group) {
	for i := range c.refs() {
		r := c.ref(i)
		if r.group != g {
			continue
		}
		if r.sub().flags&refServer != 0 {
			c.close(reasonInsufficient)
			return
		}
		c.loop.stats.skips.Add(1)
		c.drop(i, droppedBySkip)
		delete(c.session().details, g.key.channel)
		c.tell(&protocol.Push{Channel: g.key.channel, Unsubscribe: centrifugo.UnsubscribeInsufficientState})
		return
	}
}

// closeText implements connProtocol.
func (centrifugoProtocol) closeText(c *conn, why reason) (ws.StatusCode, string) {
	d := disconnects[why]
	if d == nil {
		return reasons[why].code, reasons[why].text
	}
	if given := c.session().disconnect; given != nil {
		d = given
	}
	return ws.StatusCode(d.Code), d.Reason
}
