package loop

import (
	"slices"

	"sluice/gateway/channel"
	"sluice/gateway/frame"
	"sluice/gateway/wire"

	"github.com/gobwas/ws"
)

// Protocol is the protocol of a connection. One value serves all connections of a protocol,
// on every loop; the state of one connection is in its identity. Methods are called on the
// connection's loop. Delivery never calls them: a publication reaches all subscribers through
// their channel's log. What Open, Message, Act and a [Wait] queue is sent when they return; Due
// calls Flush and Settle itself.
type Protocol interface {
	// Open starts a connection, after the head of the response has been queued. It may subscribe
	// the connection and queue the first messages. It returns what has to be waited for before
	// a.Early is processed; nil for nothing.
	Open(c *Conn, a *Arrival) Wait
	// Message processes a data message, and counts it with AdmitMessage or CountMessage. What it
	// publishes goes through Hook first. It returns what the message waits for, nil if it is done.
	// m's payload is valid until it returns.
	Message(c *Conn, m frame.Message) Wait
	// Due handles the connection's deadlines, and sets the next one.
	Due(c *Conn)
	// Lagging handles a subscriber that holds back the log of g, in a channel whose policy is to
	// skip, if its format TellsGaps: it closes the connection, continues with the newest
	// publication (SkipAhead), or drops the subscription and counts that in Stats.Skips.
	Lagging(c *Conn, g *Group)
	// Lost handles a subscriber of a channel in which publications are missing (why is
	// channel.KindGap) or whose order has begun anew (channel.KindReset), if its format has no gap
	// records: r has been sent everything before. If it is still subscribed afterwards, it is sent what
	// comes next.
	Lost(c *Conn, r *Ref, why channel.Kind)
	// Joined is called when a subscription has begun: of Join and Enter before they return; of one
	// that catches up, such as after JoinFrom or SkipAhead, once what it missed is queued.
	Joined(c *Conn, r *Ref)
	// Left is called when a subscription ends, while it is still in its group.
	Left(c *Conn, r *Ref)
	// Act executes an action of the server's API.
	Act(c *Conn, a Action)
	// CloseText returns the close code and the text for a reason; code 0 sends nothing. It is also
	// called if Open was not, and may be called again.
	CloseText(c *Conn, why Reason) (code ws.StatusCode, text string)
	// Describe adds to a connection's description, at least its Format.
	Describe(c *Conn, d *Description)
	// Save appends a versioned value of what the protocol keeps of the connection, for Load in
	// another process.
	Save(dst []byte, c *Conn) []byte
	// Taken is called in the other process, when the connection is as it was, before anything else happens to it: what the
	// protocol keeps of it elsewhere is entered there. Nobody is told.
	Taken(c *Conn)
	// Load reads such a value for a connection that will be l's. It returns an error for an unknown
	// version, and for a value that is not complete or has more.
	Load(l *Loop, b []byte) (Saved, error)
}

// Keeper is a protocol that keeps something for its loops that is no connection's.
type Keeper interface {
	// SaveLoop appends a versioned value of what it keeps for a loop, nothing for nothing, for LoadLoop in another process:
	// of the loop that may have the same connections.
	SaveLoop(dst []byte, l *Loop) []byte
	LoadLoop(l *Loop, b []byte) error
}

// Ender is a protocol that has something to do when connections end.
type Ender interface {
	// Ended is called when a connection has ended that was identified, unless another process has it. Nothing can be
	// sent any more.
	Ended(c *Conn)
}

// Opener is a protocol whose Open may wait in a way that can begin anew.
type Opener interface {
	// Opening reports whether OpenAgain can do what Open has not done yet, with what Save appends.
	Opening(c *Conn) bool
	// OpenAgain is Open in another process.
	OpenAgain(c *Conn) Wait
}

// Ignorer is a protocol that makes no use of what some of its clients send.
type Ignorer interface {
	// IgnoresPayload reports whether Message does the same whatever a message of the client holds, such as
	// refuse it. A compressed one is then not inflated.
	IgnoresPayload(c *Conn) bool
}

// Action is a request of the server's API to one connection. All connections that the request is
// for share it.
type Action interface{ isAction() }

// SubscribeAction subscribes the client to a channel.
type SubscribeAction struct {
	Channel  string
	Info     []byte // JSON, of the subscription
	Data     []byte // JSON, for the client
	ExpireAt int64  // Unix seconds, 0 for never
	Recover  bool
	Since    channel.Ask // with Recover
	Pending  *Pending    // counts the connections whose subscription waits for the channel; nil for nobody who waits
}

// UnsubscribeAction ends the subscription to a channel, or all subscriptions if it is "".
type UnsubscribeAction struct{ Channel string }

// DisconnectAction closes the connection, with a code and a text if given.
type DisconnectAction struct {
	Given bool
	Code  uint32
	Text  string
}

// RefreshAction changes the connection's expiry and, if info is not nil, its info.
type RefreshAction struct {
	Expired  bool // the connection is closed now
	ExpireAt int64
	Info     []byte
}

func (*SubscribeAction) isAction()   {}
func (*UnsubscribeAction) isAction() {}
func (*DisconnectAction) isAction()  {}
func (*RefreshAction) isAction()     {}

// Framing separates messages in a connection's byte stream: one of package wire's, or a protocol's
// own that is derived from it. It encodes pings and closes, so keep-alive and closing work the
// same way for every protocol.
type Framing interface {
	// ReadsInput reports whether the client sends messages. If not, its bytes are discarded, and
	// no answer to a close is expected.
	ReadsInput() bool
	// Pings returns when the client is pinged.
	Pings() wire.Pings
	// AppendPing appends a ping.
	AppendPing(dst []byte) []byte
	// AppendClose appends a close with its reason.
	AppendClose(dst []byte, code ws.StatusCode, text string) []byte
}

// Variant is a protocol in a framing.
type Variant struct {
	Name     string // in the log and in the list of connections
	Protocol Protocol
	Framing  Framing
}

// variantIndex returns the index by which a connection's record refers to a variant.
func (l *Loop) variantIndex(v *Variant) uint8 {
	i := slices.Index(l.variants, v)
	if i < 0 {
		panic("gateway: " + v.Name + " is not among the variants")
	}
	return uint8(i)
}

// Variant returns what the connection speaks.
func (c *Conn) Variant() *Variant { return c.loop.variants[c.variant] }

func (c *Conn) protocol() Protocol { return c.Variant().Protocol }
func (c *Conn) framing() Framing   { return c.Variant().Framing }
