package loop

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"sluice/gateway/channel"
	"sluice/gateway/engine"
	"sluice/gateway/frame"
	"sluice/gateway/saved"
	"sluice/gateway/wire"

	"github.com/gobwas/ws"
)

// plain is a protocol for tests of loops: what a client sends is published in its channel.
//
//	/ws/NAME, /sse/NAME   a subscriber of the channel, "lobby" without a name
//	/ws/NAME,NAME         of several; it publishes into the first
//	/echo                 a client that is sent its own messages, without a channel
//	?echo=off             nothing of its own
//	?mode=subscribe       it may not publish
//	?format=json          records with offsets
//	?since=now, ?since=EPOCH:OFFSET, ?history=N
//	?user=NAME&expires=SECONDS
//	?ask=KEY              whether it may is asked of the test, see questions
type plain struct{}

// plainEcho sends a client's messages back to it.
type plainEcho struct{ plain }

// plainStays is the bit of a subscription to one of several channels.
const plainStays uint8 = 1

// plainStart is how a client of plain begins.
type plainStart struct {
	channel string
	format  Format
	ask     *channel.Ask // nil for none
	flags   uint8
	asks    string // the key of the question whether it may; "" for none
}

// questions are those that clients with ?ask=KEY wait for.
var questions sync.Map // string: chan question

// question is whether a client may join.
type question struct {
	answer   func(response string, err error) // "" if it may
	canceled chan struct{}                    // closed when the answer is not needed any more
}

var (
	plainWebSocket = &Variant{Name: "websocket", Protocol: plain{}, Framing: wire.WebSocket}
	plainStream    = &Variant{Name: "event_stream", Protocol: plain{}, Framing: wire.SSE}
	plainLoopback  = &Variant{Name: "echo", Protocol: plainEcho{}, Framing: wire.WebSocket}
	plainVariants  = []*Variant{plainWebSocket, plainStream, plainLoopback}
)

const (
	plainHead = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
	sseHead   = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nCache-Control: no-store\r\nX-Accel-Buffering: no\r\nConnection: close\r\n\r\n"
)

// plainHello reads a request.
func plainHello(r *http.Request) (h Hello, head string) {
	query := r.URL.Query()
	kind, name, _ := strings.Cut(strings.TrimPrefix(r.URL.EscapedPath(), "/"), "/")
	start := &plainStart{channel: "lobby", format: wire.Raw{}}
	if name != "" {
		start.channel, _ = url.PathUnescape(name) // tests escape it well
	}
	asJSON := query.Get("format") == "json"
	switch h, head = (Hello{Variant: plainWebSocket, Start: start}), plainHead; {
	case kind == "echo":
		h.Variant = plainLoopback
	case kind == "sse":
		h.Variant, h.ListenOnly, h.Greeting, head = plainStream, true, []byte("retry: 1000\n"), sseHead
		start.format, start.ask = wire.Event{JSON: asJSON}, &channel.Ask{}
	case asJSON:
		start.format = wire.Record{}
	}
	if query.Get("echo") == "off" {
		start.flags = FlagNoEcho
	}
	h.ListenOnly = h.ListenOnly || query.Get("mode") == "subscribe"
	if since := query.Get("since"); since == "now" {
		start.ask = &channel.Ask{}
	} else if epoch, offset, ok := strings.Cut(since, ":"); ok {
		start.ask = &channel.Ask{Kind: channel.AskSince}
		start.ask.At.Epoch, _ = channel.ParseEpoch(epoch) // tests write it well, and the number
		start.ask.At.Offset, _ = strconv.ParseUint(offset, 10, 64)
	}
	if n, err := strconv.Atoi(query.Get("history")); err == nil {
		start.ask = &channel.Ask{Kind: channel.AskNewest, N: n}
	}
	start.asks = query.Get("ask")
	if user := query.Get("user"); user != "" {
		h.Identity = &Identity{ID: NewClientID(), User: user}
		if seconds, err := strconv.Atoi(query.Get("expires")); err == nil {
			h.Identity.ExpireAt = time.Now().Unix() + int64(seconds)
		}
	}
	return h, head
}

func (plainEcho) Open(*Conn, *Arrival) Wait { return nil }

func (plain) Open(c *Conn, a *Arrival) Wait {
	s := a.Start.(*plainStart)
	if s.asks != "" {
		to, _ := questions.Load(s.asks)
		s.asks = ""
		return Ask(c, Question{Size: 100}, func(answer func(string, error)) (cancel func()) {
			q := question{answer, make(chan struct{})}
			to.(chan question) <- q
			return func() { close(q.canceled) }
		}, func(response string, err error) Wait {
			switch {
			case err != nil:
				c.Close(ReasonUnavailable)
			case response != "":
				c.Answer([]byte(response))
			default:
				return plain{}.Open(c, &Arrival{Hello: Hello{Start: s}})
			}
			return nil
		})
	}
	if s.ask != nil {
		c.JoinFrom(s.channel, s.format, *s.ask, false, s.flags)
	} else {
		names, flags := strings.Split(s.channel, ","), s.flags
		if len(names) > 1 {
			flags |= plainStays
		}
		for _, name := range names {
			if err := c.Join(name, s.format, flags); err != nil {
				c.Close(ReasonChannels)
				break
			}
		}
	}
	if who := a.Identity; who != nil {
		c.loop.Identify(c, who.User)
		c.WakeAtTime(who.ExpireAt)
	}
	return nil
}

func (plainEcho) Message(c *Conn, m frame.Message) Wait {
	if c.AdmitMessage(m) {
		c.Reply(m.Op, m.Payload)
	}
	return nil
}

func (p plain) Message(c *Conn, m frame.Message) Wait {
	if !c.AdmitMessage(m) {
		return nil
	}
	if c.ListenOnly() {
		c.Close(ReasonNotAllowed)
		return nil
	}
	ch, binary := c.Ref(0).Group().Log().Channel(), m.Op == ws.OpBinary
	if !c.Filter(ch.Name(), m.Payload, binary) {
		return nil
	}
	waits, err := c.PublishPatiently(ch.Name(), ch, m.Payload, binary, nil)
	if waits != nil {
		return waits.Then(p)
	}
	p.Published(c, err)
	return nil
}

func (plain) MayPublish(*Conn, string) error { return nil }

func (plain) Published(c *Conn, err error) {
	switch {
	case errors.Is(err, engine.ErrUnavailable):
		c.Close(ReasonUnavailable)
	case err != nil:
		c.Close(ReasonTooBig)
	}
}

// Lost closes a client. One of several channels is told instead, and stays where there is a gap; after
// a reset it is out.
func (plain) Lost(c *Conn, r *Ref, why channel.Kind) {
	name := r.Channel()
	switch {
	case *r.Flags()&plainStays == 0:
		c.Close(ReasonGap)
		return
	case why == channel.KindReset:
		for i := range c.Refs() {
			if c.Ref(i).Channel() == name {
				c.Drop(i, ReasonGap)
				break
			}
		}
		c.Reply(ws.OpText, []byte(name+" reset"))
	default:
		c.Reply(ws.OpText, []byte(name+" gap"))
	}
}

func (plain) Due(c *Conn) {
	if who := c.Identity(); who != nil {
		if c.Expired(who.ExpireAt) {
			return
		}
		c.WakeAtTime(who.ExpireAt)
	}
	c.KeepAlive()
}

func (plain) Lagging(c *Conn, g *Group)                             { c.SkipAhead(g) }
func (plain) Joined(*Conn, *Ref)                                    {}
func (plain) Left(*Conn, *Ref)                                      {}
func (plain) Act(*Conn, Action)                                     {}
func (plain) Describe(*Conn, *Description)                          {}
func (plain) Taken(*Conn)                                           {}
func (plain) CloseText(_ *Conn, why Reason) (ws.StatusCode, string) { return why.CloseText() }

// plainFormats are those of plain's subscriptions.
var plainFormats = []channel.Format{wire.Raw{}, wire.Record{}, wire.Event{}, wire.Event{JSON: true}}

// Save appends the variant's number, the identity, and the formats' numbers.
func (plain) Save(dst []byte, c *Conn) []byte {
	who := c.Identity()
	if who == nil {
		who = &Identity{}
	}
	dst = AppendIdentity(append(dst, 1, byte(slices.Index(plainVariants, c.Variant()))), who)
	for i := range c.Refs() {
		dst = append(dst, byte(slices.Index(plainFormats, c.Ref(i).Group().Format())))
	}
	if _, f := c.CatchesUp(); f != nil {
		dst = append(dst, byte(slices.Index(plainFormats, f)))
	}
	return dst
}

func (plain) Load(_ *Loop, b []byte) (s Saved, err error) {
	r := saved.Read("a connection", b, 1)
	s.Variant = plainVariants[r.Byte()%byte(len(plainVariants))]
	s.Identity = new(Identity)
	if ReadIdentity(r, s.Identity); s.Identity.User == "" {
		s.Identity = nil
	} else {
		s.Identified = true
	}
	for r.More() {
		s.Formats = append(s.Formats, plainFormats[r.Byte()%byte(len(plainFormats))])
	}
	return s, r.End()
}

func (plain) Again(_ *Conn, _ string, payload []byte, binary bool) (frame.Message, bool) {
	op := ws.OpText
	if binary {
		op = ws.OpBinary
	}
	return frame.Message{Op: op, Payload: payload}, true
}
