package gateway

import (
	"slices"

	"sluice/gateway/channel"
	"sluice/gateway/frame"

	"github.com/gobwas/ws"
)

// connProtocol is what a connection speaks. One value serves all connections of a protocol,
// on every loop; what a connection has beside others' hangs on its record. Its methods are
// called by the connection's loop. Delivery never calls it: what is published reaches a
// subscriber through its channel's log, whatever it speaks.
type connProtocol interface {
	// open begins a connection, once the head of its response is queued: it may subscribe it,
	// and queue what the client is sent first. What a.early has is processed next; open empties
	// it where it has put it off.
	open(c *conn, a *arrival)
	// message processes a client's data message, and counts it with admitMessage or
	// countMessage. false: it has to wait, and is put off together with rest, the bytes behind
	// it.
	message(c *conn, m frame.Message, rest []byte) bool
	// resume goes on with a message that was put off, when what it waited for is there. false:
	// it has to wait again.
	resume(c *conn, op ws.OpCode, payload, rest []byte) bool
	// mayPublish returns why a publication that has waited may not be published any more; nil
	// if it may.
	mayPublish(c *conn, channel string) error
	// published answers the client that its publication was taken or, with an error, that it
	// was refused for good. id is that of the command.
	published(c *conn, id uint32, err error)
	// due does what the connection's deadlines ask for, and sets when it is due next.
	due(c *conn)
	// lagging deals with a subscriber of g that holds its log back, and is to skip by its
	// channel's policy. It may end it, or make it go on with the newest publication.
	lagging(c *conn, g *group)
	// left does what is due when a subscription ends, before its group has let go of it.
	left(c *conn, r *ref)
	// act does what the server's API asks of the connection.
	act(c *conn, a action)
	// closeText returns the code and the text with which the client learns why its connection
	// ends; a code of 0 if it is sent nothing.
	closeText(c *conn, why reason) (code ws.StatusCode, text string)
}

// action is what the server's API asks of one connection. It is shared by all of a request's.
type action interface{ isAction() }

// subscribeAction subscribes the client to a channel.
type subscribeAction struct {
	channel  string
	info     []byte // JSON, of the subscription
	data     []byte // JSON, for the client
	expireAt int64  // Unix seconds, 0 for never
	recover  bool
	since    channel.Ask // with recover
}

// unsubscribeAction ends its subscription to a channel, or with "" all of them.
type unsubscribeAction struct{ channel string }

// disconnectAction ends the connection, with a code and a text where they are given.
type disconnectAction struct {
	given bool
	code  uint32
	text  string
}

// refreshAction changes how long the connection may stay and, if info is not nil, what is
// said of it.
type refreshAction struct {
	expired  bool // it ends now
	expireAt int64
	info     []byte
}

func (*subscribeAction) isAction()   {}
func (*unsubscribeAction) isAction() {}
func (*disconnectAction) isAction()  {}
func (*refreshAction) isAction()     {}

// framing is how what a connection is sent lies in its byte stream: one of package wire's, or one
// that a protocol derives from it. It makes what keeps a connection alive and what ends it, so
// that the loop does both for every protocol alike.
type framing interface {
	// ReadsInput reports whether the client sends messages. Where it does not, what comes from
	// it is discarded, and no answer is expected to a ping or to the end.
	ReadsInput() bool
	// AppendPing appends what keeps a silent connection alive.
	AppendPing(dst []byte) []byte
	// AppendClose appends the end of the connection, with its reason.
	AppendClose(dst []byte, code ws.StatusCode, text string) []byte
}

// variant is a protocol in a framing, under the name that operators know it by.
type variant struct {
	name     string // in the log and in the list of connections
	protocol connProtocol
	framing  framing
}

// variantIndex returns the index of a variant, which is what a connection's record has.
func (l *loop) variantIndex(v *variant) uint8 {
	i := slices.Index(l.variants, v)
	if i < 0 {
		panic("gateway: " + v.name + " is not among the variants")
	}
	return uint8(i)
}

func (c *conn) protocol() connProtocol { return c.loop.variants[c.variant].protocol }
func (c *conn) framing() framing       { return c.loop.variants[c.variant].framing }
