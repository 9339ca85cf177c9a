package gateway

import (
	"sluice/gateway/centrifugo"
	"sluice/gateway/wire"

	"github.com/centrifugal/protocol"
	"github.com/gobwas/ws"
)

// centrifugoProtocol is the Centrifugo protocol, bidirectional and unidirectional.
type centrifugoProtocol struct{}

var (
	clientWebSocket = &variant{"client", centrifugoProtocol{}, webSocket{}}
	clientStream    = &variant{"client", centrifugoProtocol{}, pushStream{}}
)

// pushFormat is what is sent in event streams of the protocol.
var pushFormat = centrifugo.Format{Uni: true, Framing: wire.SSE}

// pushStream is an event stream that ends with a push of the protocol.
type pushStream struct{ eventStream }

// appendClose implements framing.
func (pushStream) appendClose(dst []byte, code ws.StatusCode, text string) []byte {
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
