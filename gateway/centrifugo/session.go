package centrifugo

import (
	"sluice/gateway/loop"

	"github.com/centrifugal/protocol"
)

// A client of the Centrifugo protocol has many channels on one connection, and gets a reply to
// each command. Its commands come as messages
// (session_command.go) and run one after the other. One that has to wait, for a token to be
// verified or for room in a channel, keeps everything after it waiting (session_wait.go).

// session is what the protocol keeps of such a connection.
type session struct {
	loop.Identity

	format Format // of what is for this connection alone; those of its channels differ in Joins
	begun  uint32 // loop time when it came

	details map[string]*detail // of subscriptions, by channel: those that have any

	disconnect *protocol.Disconnect // what the server's API or a hook gave as the reason of its end
	hooked     *hooked              // what hooks are sent of it; nil without hooks
}

// newSession returns the session of a client of a format.
func newSession(f Format) *session {
	ses := new(session)
	if f.emulates() {
		e := newEmulated()
		ses = &e.session
		ses.State = e
	} else {
		ses.State = ses
	}
	ses.format = f
	return ses
}

// detail is what only some subscriptions have.
type detail struct {
	info     []byte // JSON, what the token says of the subscription
	expireAt int64  // Unix seconds, 0 for never
	key      uint32 // which has verified its token, 0 without
	pending  bool   // the subscription waits for its channel, as the API asked for
	cancel   func() // takes back the question to a hook whether it may go on; nil for none
}

// clientConn is a connection in the eyes of the protocol. It is made for each call, and passed by
// value.
type clientConn struct {
	*loop.Conn
	*session
	protocol *Protocol
}

// Client returns a connection that speaks the protocol.
func (p *Protocol) Client(c *loop.Conn) clientConn {
	switch ses := c.Identity().State.(type) {
	case *emulated:
		return clientConn{c, &ses.session, p}
	default:
		return clientConn{c, ses.(*session), p}
	}
}

// announcer returns that of the connection's loop.
func (c clientConn) announcer() announcer { return c.protocol.announcers[c.Loop().Index()] }

// detail returns what a subscription has beside its position.
func (ses *session) detail(channel string) detail {
	if d := ses.details[channel]; d != nil {
		return *d
	}
	return detail{}
}

// subprotocols of the Centrifugo protocol.
const (
	subprotocolJSON     = "centrifuge-json"
	SubprotocolProtobuf = "centrifuge-protobuf"
)
