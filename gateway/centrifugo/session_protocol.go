package centrifugo

import (
	"iter"
	"log/slog"
	"slices"
	"time"

	"sluice/gateway/access"
	"sluice/gateway/channel"
	"sluice/gateway/frame"
	"sluice/gateway/hook/client"
	"sluice/gateway/loop"
	"sluice/gateway/presence"
	"sluice/gateway/route"
	"sluice/gateway/wire"

	"github.com/centrifugal/protocol"
	"github.com/gobwas/ws"
)

// Config is what the protocol has of the server.
type Config struct {
	Off          *route.Reject // refuses all of its clients; nil for none
	Policy       *access.Policy
	Presence     *presence.Table
	Verifiers    *access.Verifiers
	Emulation    *Emulation // nil for one of this node alone
	Version      string     // the program's name and version
	Loops        int
	MaxMessage   int           // bytes
	MaxPending   int           // bytes that may wait for one connection
	PingInterval time.Duration // 0 for never
	Logger       *slog.Logger
	// CloseOthers closes these connections of a user with DisconnectConnectionLimit, on any node. It does not block.
	CloseOthers func(user string, others []*channel.ClientInfo)
}

// Protocol is the Centrifugo protocol, bidirectional and unidirectional.
type Protocol struct {
	Config
	announcers []announcer // by the index of their loop, which owns it
	variants   []*loop.Variant
}

// New returns the protocol.
func New(cfg Config) route.Registration {
	p := &Protocol{Config: cfg}
	if p.Emulation == nil {
		p.Emulation = NewEmulation(0, nil)
	}
	for range cfg.Loops {
		p.announcers = append(p.announcers, announcer{})
	}
	for _, f := range spoken {
		p.variants = append(p.variants, &loop.Variant{Name: "client", Protocol: p, Framing: f})
	}
	return route.Registration{Variants: p.variants, Routes: p.routes(), Sharing: sharing[:]}
}

// What is sent in streams of unidirectional clients.
var (
	eventFormat = Format{Uni: true, Framing: wire.SSE}
	lineFormat  = Format{Uni: true, Framing: wire.Lines}
)

// spoken are the formats of the variants, in the order of their numbers in what Save appends.
var spoken = []Format{
	{}, {Encoding: Protobuf}, {Uni: true}, eventFormat,
	lineFormat, {Framing: wire.Lines}, {Encoding: Protobuf, Framing: wire.Lines}, {Framing: wire.SSE},
}

// emulates reports whether clients are emulated: they are sent a stream, and send commands beside it.
func (f Format) emulates() bool { return !f.Uni && f.Framing != wire.WebSocket }

// newClient returns what a new client speaks, and its identity with its session. header is that of its request.
func (p *Protocol) newClient(f Format, header iter.Seq2[string, string]) (*loop.Variant, *loop.Identity) {
	ses := newSession(f)
	if p.Policy.Hooked() {
		ses.hooked = &hooked{Client: client.New(p.Policy.Hooks().Collect(header))}
	}
	ses.ID = loop.NewClientID()
	i := slices.IndexFunc(p.variants, func(v *loop.Variant) bool { return v.Framing == loop.Framing(f) })
	return p.variants[i], &ses.Identity
}

// disconnects are the protocol's codes for the reasons why connections end. Its clients are
// sent the code of the common table where there is none.
var disconnects = [loop.ReasonCount]*protocol.Disconnect{
	loop.ReasonMessageTimeout: DisconnectBadRequest,
	loop.ReasonMessageRate:    DisconnectTooManyRequests,
	loop.ReasonControlRate:    DisconnectTooManyRequests,
	loop.ReasonNoPong:         DisconnectNoPong,
	loop.ReasonSlow:           DisconnectSlow,
	loop.ReasonWriteTimeout:   DisconnectSlow,
	loop.ReasonPendingFull:    DisconnectSlow,
	loop.ReasonBudget:         DisconnectSlow,
	loop.ReasonShutdown:       DisconnectShutdown,
	loop.ReasonMoved:          DisconnectShutdown,
	loop.ReasonPanic:          DisconnectServerError,
	loop.ReasonInternal:       DisconnectServerError,
	loop.ReasonOperator:       DisconnectForceNoReconnect,
	loop.ReasonExpired:        DisconnectExpired,
	loop.ReasonInvalidToken:   DisconnectInvalidToken,
	loop.ReasonBadCommand:     DisconnectBadRequest,
	loop.ReasonStale:          DisconnectStale,
	loop.ReasonChannelLimit:   DisconnectChannelLimit,
	loop.ReasonInsufficient:   DisconnectInsufficientState,
	loop.ReasonDisconnected:   DisconnectForceNoReconnect,
	loop.ReasonHook:           DisconnectServerError, // where the hook does not say another one
}

// Open implements loop.Protocol. A unidirectional client may have connected with its request.
func (p *Protocol) Open(conn *loop.Conn, a *loop.Arrival) loop.Wait {
	c := p.Client(conn)
	c.begun = c.Loop().Now()
	c.wakeSession()
	if c.hooked != nil {
		c.hooked.Arrived(conn, a, c.format.kind())
	}
	if connect, ok := a.Start.([]byte); ok {
		if c.hooked != nil {
			c.hooked.request = connect
		}
		return c.onlyConnects(connect)
	}
	return nil
}

// Message implements loop.Protocol. What counts against the client's rate is each command.
func (p *Protocol) Message(conn *loop.Conn, m frame.Message) loop.Wait {
	c := p.Client(conn)
	c.CountMessage(m)
	pong := IsPong(c.format.Encoding, m.Payload)
	switch {
	case c.format.Uni:
		return c.onlyConnects(m.Payload)
	case len(m.Payload) > 0 && !pong:
		return c.commands(m.Payload, nil)
	case !c.MayMessage(): // no command counts for it
		c.Close(loop.ReasonMessageRate)
	case pong && !c.MayControl(ws.OpPong): // nobody asked for it: it counts as a control frame does
		c.Close(loop.ReasonControlRate)
	}
	return nil
}

// IgnoresPayload implements loop.Ignorer: a unidirectional client that is connected has nothing more to say.
func (p *Protocol) IgnoresPayload(conn *loop.Conn) bool {
	c := p.Client(conn)
	return c.format.Uni && c.Identified()
}

// Due implements loop.Protocol.
func (p *Protocol) Due(c *loop.Conn) { p.Client(c).expireSession() }

// Lagging implements loop.Protocol. It takes a client out of a channel for which it is too slow,
// and tells it that its state is not sufficient any more: it subscribes again with its position,
// and learns whether it has missed anything. Where the server subscribed it, it has to connect
// again.
func (p *Protocol) Lagging(conn *loop.Conn, g *loop.Group) {
	c := p.Client(conn)
	if c.insufficient(g.Channel(), loop.DroppedBySkip) {
		c.Loop().Stats().Skips.Add(1)
	}
}

// Lost implements loop.Protocol. The client learns it as one that is too slow does.
func (p *Protocol) Lost(conn *loop.Conn, r *loop.Ref, _ channel.Kind) {
	p.Client(conn).insufficient(r.Channel(), loop.ReasonGap)
}

// insufficient ends a subscription whose state is not sufficient any more. It returns false if the
// client has to connect again for it. What its log still has is counted as dropped for that reason.
func (c clientConn) insufficient(name string, why loop.Reason) bool {
	if *c.Find(name).Flags()&refServer != 0 {
		c.Close(loop.ReasonInsufficient)
		return false
	}
	c.drop(name, why, UnsubscribeInsufficientState)
	return true
}

// CloseText implements loop.Protocol.
func (p *Protocol) CloseText(c *loop.Conn, why loop.Reason) (ws.StatusCode, string) {
	d := disconnects[why]
	if d == nil {
		return why.CloseText()
	}
	if given := p.Client(c).disconnect; given != nil {
		d = given
	}
	return ws.StatusCode(d.Code), d.Reason
}
