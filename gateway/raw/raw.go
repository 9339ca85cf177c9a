// Package raw is the protocol of raw WebSocket, JSON records, SSE and echo: a client has one
// channel, which is in its URL, and a WebSocket message is a publication and nothing else. What a
// client sends goes unchanged, with its opcode, to every subscriber of its channel.
//
// route.go reads requests. Catching up and the formats are those of packages loop and wire.
//
// The package does not know listeners, other protocols, presence or the server API.
package raw

import (
	"errors"
	"log/slog"
	"slices"
	"time"

	"sluice/gateway/access"
	"sluice/gateway/channel"
	"sluice/gateway/engine"
	"sluice/gateway/frame"
	"sluice/gateway/loop"
	"sluice/gateway/route"
	"sluice/gateway/sampling"
	"sluice/gateway/wire"

	"github.com/gobwas/ws"
)

// Lobby is the channel of raw WebSocket and SSE clients that name none.
const Lobby = "lobby"

// Config configures the protocol.
type Config struct {
	Off              *route.Reject // the answer to every request; nil to serve them
	Paths            []string      // of WebSocket clients, beside /, /ws and /ws/{channel}
	Subprotocols     []string      // of WebSocket clients
	Greeting         string        // sent to each client first; "" for none
	HandshakeTimeout time.Duration // bounds the verification of a token
	Policy           *access.Policy
	Verifiers        *access.Verifiers
	CloseRefused     bool // clients that hooks refuse are accepted and closed with the reason
	Logger           *slog.Logger
}

// Protocol is raw WebSocket and SSE.
type Protocol struct {
	Config
	webSocket, stream, echo *loop.Variant
}

// echoProtocol sends a client's messages back to it.
type echoProtocol struct{ *Protocol }

// New returns the protocol, with echo.
func New(cfg Config) route.Registration {
	p := &Protocol{Config: cfg}
	p.webSocket = &loop.Variant{Name: "websocket", Protocol: p, Framing: wire.WebSocket}
	p.stream = &loop.Variant{Name: "event_stream", Protocol: p, Framing: wire.SSE}
	p.echo = &loop.Variant{Name: "echo", Protocol: echoProtocol{p}, Framing: wire.WebSocket}
	return route.Registration{Variants: p.variants(), Routes: p.routes()}
}

func (p *Protocol) variants() []*loop.Variant { return []*loop.Variant{p.webSocket, p.echo, p.stream} }

// Lagging implements loop.Protocol.
func (*Protocol) Lagging(c *loop.Conn, g *loop.Group) { c.SkipAhead(g) }

// Lost implements loop.Protocol: the client reconnects, and loads what it has missed.
func (*Protocol) Lost(c *loop.Conn, _ *loop.Ref, _ channel.Kind) { c.Close(loop.ReasonGap) }

// Joined implements loop.Protocol.
func (*Protocol) Joined(*loop.Conn, *loop.Ref) {}

// Left implements loop.Protocol.
func (*Protocol) Left(*loop.Conn, *loop.Ref) {}

// Act implements loop.Protocol. A connection has one subscription: it is closed when that ends,
// and gets no other.
func (p *Protocol) Act(c *loop.Conn, a loop.Action) {
	switch a := a.(type) {
	case *loop.UnsubscribeAction:
		if a.Channel == "" || c.Find(a.Channel) != nil {
			c.Close(loop.ReasonDisconnected)
		}
	case *loop.DisconnectAction:
		c.Close(loop.ReasonDisconnected)
	case *loop.ReviewAction:
		p.review(c, a)
	case *loop.RefreshAction:
		if c.Refreshed(a) {
			if s := stateOf(c); s != nil {
				s.shows(a.Info)
			}
			c.WakeAtTime(a.ExpireAt)
		}
	}
}

// CloseText implements loop.Protocol: with the codes of the table, but for a hook's disconnect.
func (*Protocol) CloseText(c *loop.Conn, why loop.Reason) (ws.StatusCode, string) {
	if why == loop.ReasonHook {
		s := stateOf(c)
		return s.code, s.text
	}
	return why.CloseText()
}

// rawFormat is a wire format of raw clients.
type rawFormat interface {
	loop.Format
	String() string
	// AppendGreeting appends the text that each new client is sent first.
	AppendGreeting(dst []byte, text string) []byte
}

// rawStart is how a raw client begins.
type rawStart struct {
	channel string
	format  rawFormat
	ask     channel.Ask
	asks    bool // for what came before it, or where it begins
	NoEcho  bool
	blind   bool // it asked for what it may not see: it begins now, and is notified of a gap
	byRules bool // nothing but the namespace's options allows it
}

// String returns the channel as the log shows it.
func (s *rawStart) String() string { return sampling.Quote(s.channel) }

// Open implements loop.Protocol.
func (echoProtocol) Open(c *loop.Conn, _ *loop.Arrival) loop.Wait {
	identifyRaw(c)
	return nil
}

// Open implements loop.Protocol: it subscribes the client to its channel, at once or after what
// it missed, when hooks have decided that it may.
func (p *Protocol) Open(c *loop.Conn, a *loop.Arrival) loop.Wait {
	if o, ok := a.Start.(*opening); ok {
		return p.know(c, a, o)
	}
	identifyRaw(c)
	return p.begin(c, a.Start.(*rawStart))
}

// begin subscribes the client.
func (p *Protocol) begin(c *loop.Conn, s *rawStart) loop.Wait {
	if c.Loop().Space().Local(s.channel) {
		s.join(c)
		isIn(c)
		return nil
	}
	return p.prepare(c, *s) // a copy: it is a part of the request
}

// prepare subscribes the client once the channel is there.
func (p *Protocol) prepare(c *loop.Conn, s rawStart) loop.Wait {
	want := []loop.Wanted{{Channel: s.channel, Ask: s.ask}}
	return c.Prepare(func(err error) loop.Wait {
		switch {
		case errors.Is(err, channel.ErrTooManyChannels):
			c.Close(loop.ReasonChannels)
		case err != nil:
			c.Close(loop.ReasonUnavailable)
		default:
			s.channel, s.ask = want[0].Channel, want[0].Ask
			s.join(c)
			isIn(c)
		}
		return nil
	}, want...)
}

// isIn notes that a client is in its channel.
func isIn(c *loop.Conn) {
	if s := stateOf(c); s != nil {
		s.opening = nil
	}
}

// join subscribes the client.
func (s *rawStart) join(c *loop.Conn) {
	flags := uint8(0)
	if s.NoEcho {
		flags = loop.FlagNoEcho
	}
	if s.byRules {
		flags |= flagByRules
	}
	if s.asks {
		c.JoinFrom(s.channel, s.format, s.ask, s.blind, flags)
	} else if err := c.Join(s.channel, s.format, flags); err != nil {
		c.Close(loop.ReasonChannels)
	}
}

// identifyRaw adds the connection to those of its token's user, if it has a token.
func identifyRaw(c *loop.Conn) {
	if who := c.Identity(); who != nil && c.Open() {
		c.Loop().Identify(c, who.User)
		c.WakeAtTime(who.ExpireAt)
	}
}

// Message implements loop.Protocol: it sends the message back.
func (echoProtocol) Message(c *loop.Conn, m frame.Message) loop.Wait {
	if c.AdmitMessage(m) {
		c.Reply(m.Op, m.Payload)
	}
	return nil
}

// Message implements loop.Protocol: it publishes the message.
func (p *Protocol) Message(c *loop.Conn, m frame.Message) loop.Wait {
	if !c.AdmitMessage(m) {
		return nil
	}
	if c.ListenOnly() {
		c.Close(loop.ReasonNotAllowed)
		return nil
	}
	ch, binary := c.Ref(0).Group().Log().Channel(), m.Op == ws.OpBinary
	if !c.Filter(ch.Name(), m.Payload, binary) {
		return nil
	}
	if h := p.publishHook(ch.Name()); h != nil {
		m.Payload = slices.Clone(m.Payload)
		return p.askToPublish(c, h, ch, m)
	}
	return p.publish(c, loop.Decided{Name: ch.Name(), Channel: ch, Payload: m.Payload, Binary: binary, Patient: true})
}

// publish publishes in the client's channel.
func (p *Protocol) publish(c *loop.Conn, d loop.Decided) loop.Wait {
	waits, err := c.PublishAs(d)
	if waits != nil {
		return waits.Then(p)
	}
	p.Published(c, err)
	return nil
}

// IgnoresPayload implements loop.Ignorer: whatever the client wants to publish is refused.
func (*Protocol) IgnoresPayload(c *loop.Conn) bool { return c.ListenOnly() }

// IgnoresPayload implements loop.Ignorer: all clients may send to themselves.
func (echoProtocol) IgnoresPayload(*loop.Conn) bool { return false }

// MayPublish implements loop.Publisher.
func (*Protocol) MayPublish(*loop.Conn, string) error { return nil }

// Published implements loop.Publisher. A raw client is not notified of its own accepted publications.
func (*Protocol) Published(c *loop.Conn, err error) {
	switch {
	case err == nil:
	case errors.Is(err, engine.ErrUnavailable):
		c.Close(loop.ReasonUnavailable)
	default:
		c.Close(loop.ReasonTooBig) // ErrTooBig: cannot be, the limits are validated together
	}
}

// Due implements loop.Protocol.
func (p *Protocol) Due(c *loop.Conn) {
	if who := c.Identity(); who != nil && c.Identified() {
		if s := stateOf(c); s != nil {
			if p.expire(c, s) {
				return
			}
		} else if c.Expired(who.ExpireAt) {
			return
		} else {
			c.WakeAtTime(who.ExpireAt)
		}
	}
	c.KeepAlive()
}
