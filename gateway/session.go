package gateway

import (
	"sluice/gateway/access"
	"sluice/gateway/centrifugo"

	"github.com/centrifugal/protocol"
)

// A client of the Centrifugo protocol has many channels on one connection, and gets a reply to
// each command. Its commands come as messages
// (session_command.go) and run one after the other. One that has to wait, for a token to be
// verified or for room in a channel, is put off with everything after it, and run again from its
// beginning when the wait is over.

// session is what the protocol keeps of such a connection.
type session struct {
	identity

	format centrifugo.Format // of what is for this connection alone; those of its channels differ in Joins
	again  bool              // the command that was put off is done again, and not counted again
	begun  uint32            // loop time when it came

	details map[string]*detail // of subscriptions, by channel: those that have any

	disconnect *protocol.Disconnect // what the server's API gave as the reason of its end
}

// newSession returns the identity of a new client, with its session.
func newSession(f centrifugo.Format) *identity {
	ses := &session{format: f}
	ses.id, ses.state = newClientID(), ses
	return &ses.identity
}

// detail is what only some subscriptions have.
type detail struct {
	info     []byte // JSON, what the token says of the subscription
	expireAt int64  // Unix seconds, 0 for never
}

// session returns what the connection has as a client of the protocol, nil for others.
func (c *conn) session() *session {
	who := c.identity()
	if who == nil {
		return nil
	}
	ses, _ := who.state.(*session)
	return ses
}

// clientInfo says who the connection is, with what a subscription's token said of it.
func (c *conn) clientInfo(chanInfo []byte) *protocol.ClientInfo {
	ses := c.session()
	return &protocol.ClientInfo{User: ses.user, Client: ses.id.String(), ConnInfo: ses.info, ChanInfo: chanInfo}
}

// detail returns what a subscription has beside its position.
func (ses *session) detail(channel string) detail {
	if d := ses.details[channel]; d != nil {
		return *d
	}
	return detail{}
}

// verification is the token of a command, which waits for the verdict.
type verification struct {
	access.Verification
	c    *conn
	done bool // the verdict has come back to the loop
}

// deliver goes on with the command that waits for the token.
func (x *verification) deliver(l *loop) {
	x.done = true
	if in := x.c.in; in != nil && in.verifying == x {
		(*retry)(x.c).deliver(l)
	}
}

// verify verifies a token: at once where that is cheap, else done is false, and the
// command is to be put off.
func (c *conn) verify(token string, kind access.Kind) (x *verification, done bool) {
	if in := c.in; in != nil && in.verifying != nil && in.verifying.Token == token && in.verifying.Kind == kind {
		if x = in.verifying; x.done {
			in.verifying = nil
			x.Verdict()
		}
		return x, x.done
	}
	x = &verification{Verification: access.Verification{Token: token, Kind: kind}, c: c}
	x.Done = func() { c.loop.post(x) }
	v := c.loop.server.verifiers
	switch {
	case v.Cheap(token):
		v.Now(&x.Verification)
	case v.Submit(&x.Verification):
		c.input().verifying = x
		return x, false
	}
	return x, true
}

// subprotocols of the Centrifugo protocol.
const (
	subprotocolJSON     = "centrifuge-json"
	subprotocolProtobuf = "centrifuge-protobuf"
)
