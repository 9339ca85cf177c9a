// Package toytest holds a protocol that exists only here: it shows what a protocol has to
// implement, and fails to build if one cannot be added without a change to other packages.
package toytest

import (
	"encoding/binary"
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"sluice/gateway/access"
	"sluice/gateway/access/namespace"
	"sluice/gateway/channel"
	"sluice/gateway/engine"
	"sluice/gateway/frame"
	"sluice/gateway/loop"
	"sluice/gateway/presence"
	"sluice/gateway/route"
	"sluice/gateway/saved"
	"sluice/gateway/wire"

	"github.com/gobwas/ws"
)

// The protocol has one line of text in each message, or in each event of a stream.
//
//	client: join CHANNEL          quiet CHANNEL, without what it publishes itself
//	        leave CHANNEL         say ID CHANNEL TEXT
//	        who CHANNEL           . (the answer to a ping)
//	server: hello USER            joined CHANNEL, left CHANNEL
//	        ok ID, no ID WHY      who CHANNEL USER,USER
//	        CHANNEL OFFSET TEXT   gap CHANNEL, before what follows a gap
//	        .
//
// A client of /toy has the channels that it joins, and is known by ?user. One of
// /toy/stream/{channel} is sent a stream of events, and cannot send anything.

// toy is the protocol, and all that it shares between connections and loops.
type toy struct {
	policy            *access.Policy
	present           *presence.Table
	webSocket, stream *loop.Variant
}

// newToy returns the protocol. A panic in the table of presence ends the process.
func newToy(policy *access.Policy, present *presence.Table) route.Registration {
	p := &toy{policy: policy, present: present}
	p.webSocket = &loop.Variant{Name: "toy", Protocol: p, Framing: framing{wire.WebSocket}}
	p.stream = &loop.Variant{Name: "toy_stream", Protocol: p, Framing: framing{wire.SSE}}
	return route.Registration{Variants: []*loop.Variant{p.webSocket, p.stream}, Routes: p.routes(),
		Sharing: []string{reflect.TypeFor[presence.Table]().PkgPath() + "."}}
}

// framing is one of package wire, with pings of its own over WebSocket: a text at intervals,
// which the client answers.
type framing struct{ wire.Framing }

func (f framing) Pings() wire.Pings {
	if f.Framing == wire.WebSocket {
		return wire.PingAnswered
	}
	return f.Framing.Pings()
}

func (f framing) AppendPing(dst []byte) []byte {
	if f.Framing == wire.WebSocket {
		return f.Framing.Append(dst, []byte("."), false)
	}
	return f.Framing.AppendPing(dst)
}

// format is a publication as a line. Subscribers of a framing share a log.
type format struct{ framing }

func (f format) Append(dst []byte, p *channel.Publication) []byte {
	if p.Kind != channel.KindMessage {
		return dst
	}
	return f.framing.Append(dst, fmt.Appendf(nil, "%s %d %s", p.Channel, p.Offset, p.Payload), p.Binary)
}

func (format) TellsGaps() bool { return true }

// AppendPosition implements loop.Format.
func (f format) AppendPosition(dst []byte, p *wire.Position) []byte {
	if !p.Gap {
		return dst
	}
	return f.framing.Append(dst, []byte("gap "+p.Channel), false)
}

// client is what the protocol keeps of a connection.
type client struct {
	loop.Identity

	format     format
	disconnect *loop.DisconnectAction // the API's, when it has ended the connection
}

func newClient(v *loop.Variant) *client {
	who := &client{format: format{v.Framing.(framing)}}
	who.State = who
	return who
}

// start is what a request asks for.
type start string

func (s start) String() string { return strconv.Quote(string(s)) }

var rejectUser = route.NewReject(http.StatusBadRequest, "toy_user", "Add your name: ?user=NAME.")

// routes returns where clients are served.
func (p *toy) routes() []*route.Route {
	return []*route.Route{{
		Paths: []string{"/toy"},
		Parse: func(h *loop.Hello, req *route.Request, _ string) (route.Later, *route.Reject) {
			query, err := url.ParseQuery(req.RawQuery)
			if err != nil {
				return nil, route.BadQuery
			}
			return nil, p.hello(h, p.webSocket, query.Get("user"), "")
		},
		Streams: []route.Stream{{
			Path: "/toy/stream/{channel}", Methods: "GET, OPTIONS", CloseRefused: true,
			Parse: func(h *loop.Hello, req *http.Request) (route.Later, *route.Reject) {
				return nil, p.hello(h, p.stream, req.URL.Query().Get("user"), req.PathValue("channel"))
			},
		}},
	}}
}

func (p *toy) hello(h *loop.Hello, v *loop.Variant, user, name string) *route.Reject {
	if user == "" {
		return rejectUser
	}
	who := newClient(v)
	who.ID, who.User = loop.NewClientID(), user
	h.Variant, h.Identity = v, &who.Identity
	h.Greeting = who.format.framing.Append(nil, []byte("hello "+user), false)
	if name != "" {
		h.Start = start(name)
	}
	return nil
}

// conn is a connection in the eyes of the protocol.
type conn struct {
	*loop.Conn
	*client
	p *toy
}

func (p *toy) of(c *loop.Conn) conn { return conn{c, c.Identity().State.(*client), p} }

// tell queues a line.
func (c conn) tell(line ...string) {
	if buf, ok := c.Begin(); ok {
		c.Queued(c.format.framing.Append(buf, []byte(strings.Join(line, " ")), false), nil)
	}
}

// Open implements loop.Protocol.
func (p *toy) Open(conn *loop.Conn, a *loop.Arrival) loop.Wait {
	c := p.of(conn)
	c.Loop().Identify(c.Conn, c.User)
	if name, ok := a.Start.(start); ok {
		c.join(string(name), 0)
	}
	return nil
}

// join makes the client a subscriber, from now on.
func (c conn) join(name string, flags uint8) {
	options := c.p.policy.Options(name)
	switch {
	case !channel.ValidName(name) || options == nil || !c.p.policy.MaySubscribe(options, name, c.User) || c.Find(name) != nil:
		c.tell("left", name)
		return
	case c.Variant() == c.p.stream:
		c.JoinFrom(name, c.format, channel.Ask{}, false, flags)
	case c.Join(name, c.format, flags) != nil:
		c.Close(loop.ReasonChannels)
	}
}

// Joined implements loop.Protocol.
func (p *toy) Joined(conn *loop.Conn, r *loop.Ref) {
	c, name := p.of(conn), r.Channel()
	c.enter(name)
	c.tell("joined", name)
}

// enter shows the client among those of a channel.
func (c conn) enter(name string) {
	if c.p.policy.Options(name).Presence {
		c.p.present.Add(name, c.ID(), &channel.ClientInfo{User: c.User, Client: c.client.ID.String()})
	}
}

// leave ends a subscription, or all of them where name is "".
func (c conn) leave(name string, why loop.Reason, word string) {
	for i := c.Refs() - 1; i >= 0; i-- { // down: Drop puts the last one into the place of another
		if i >= c.Refs() {
			return // Drop has ended the connection
		}
		if of := c.Ref(i).Channel(); name == "" || of == name {
			c.Drop(i, why)
			c.tell(word, of)
		}
	}
}

// Left implements loop.Protocol.
func (p *toy) Left(c *loop.Conn, r *loop.Ref) { p.present.Remove(r.Channel(), c.ID()) }

// Message implements loop.Protocol.
func (p *toy) Message(conn *loop.Conn, m frame.Message) loop.Wait {
	c := p.of(conn)
	if !c.AdmitMessage(m) {
		return nil
	}
	verb, arg, _ := strings.Cut(string(m.Payload), " ")
	switch verb {
	case ".":
	case "join":
		c.join(arg, 0)
	case "quiet":
		c.join(arg, loop.FlagNoEcho)
	case "leave":
		c.leave(arg, loop.ReasonUnsubscribed, "left")
	case "who":
		c.who(arg)
	case "say":
		if id, arg, ok := strings.Cut(arg, " "); ok {
			name, text, _ := strings.Cut(arg, " ")
			return c.say(id, name, text)
		}
		fallthrough
	default:
		c.Close(loop.ReasonBadCommand)
	}
	return nil
}

func (c conn) who(name string) {
	all, _ := c.p.present.List(name, 100)
	var users []string
	for _, info := range all {
		users = append(users, info.User)
	}
	slices.Sort(users)
	c.tell("who", name, strings.Join(users, ","))
}

// say publishes a text.
func (c conn) say(id, name, text string) loop.Wait {
	if _, err := strconv.ParseUint(id, 10, 32); err != nil {
		c.Close(loop.ReasonBadCommand)
		return nil
	}
	s := saying{c.p, id}
	err := s.MayPublish(c.Conn, name)
	if err == nil && !c.Filter(name, []byte(text), false) {
		err = access.ErrDenied
	}
	if err == nil {
		var waits *loop.Publishing
		if waits, err = c.Publish(name, nil, []byte(text), false, nil); waits != nil {
			return waits.Then(s)
		}
	}
	s.Published(c.Conn, err)
	return nil
}

// saying is a text that is being published.
type saying struct {
	p  *toy
	id string
}

// MayPublish implements loop.Publisher.
func (s saying) MayPublish(c *loop.Conn, name string) error {
	if c.ListenOnly() {
		return access.ErrDenied
	}
	return s.p.policy.May(namespace.Publish, name, namespace.Who{User: s.p.of(c).User, Subscribed: c.Find(name) != nil})
}

// Again implements loop.Publisher.
func (s saying) Again(_ *loop.Conn, name string, payload []byte, _ bool) (frame.Message, bool) {
	return frame.Message{Op: ws.OpText, Payload: fmt.Appendf(nil, "say %s %s %s", s.id, name, payload)}, true
}

// Published implements loop.Publisher.
func (s saying) Published(c *loop.Conn, err error) {
	switch err {
	case nil:
		s.p.of(c).tell("ok", s.id)
	case access.ErrDenied, access.ErrUnknownChannel:
		s.p.of(c).tell("no", s.id, err.Error())
	default:
		s.p.of(c).tell("no", s.id, engine.FaultOf(err).Text())
	}
}

// Due implements loop.Protocol.
func (p *toy) Due(c *loop.Conn) {
	if who := c.Identity(); !c.Expired(who.ExpireAt) {
		c.WakeAtTime(who.ExpireAt)
		c.KeepAlive()
	}
}

// Lagging implements loop.Protocol: the client goes on with the newest publication of that
// channel, and all of the others, and is notified of the gap.
func (p *toy) Lagging(conn *loop.Conn, g *loop.Group) {
	c, name := p.of(conn), g.Channel()
	if c.Refs() == 1 {
		c.SkipAhead(g)
		return
	}
	c.Loop().Stats().Skips.Add(1)
	flags := *c.Find(name).Flags()
	c.leave(name, loop.DroppedBySkip, "gap")
	if c.Open() {
		c.join(name, flags)
	}
}

// Lost implements loop.Protocol: the client stays, and is notified of the gap.
func (p *toy) Lost(c *loop.Conn, r *loop.Ref, _ channel.Kind) { p.of(c).tell("gap", r.Channel()) }

// Act implements loop.Protocol.
func (p *toy) Act(conn *loop.Conn, a loop.Action) {
	c := p.of(conn)
	switch a := a.(type) {
	case *loop.SubscribeAction:
		c.join(a.Channel, 0)
	case *loop.UnsubscribeAction:
		c.leave(a.Channel, loop.ReasonUnsubscribed, "left")
	case *loop.DisconnectAction:
		if a.Given {
			c.disconnect = a
		}
		c.Close(loop.ReasonDisconnected)
	case *loop.RefreshAction:
		if c.Refreshed(a) {
			c.WakeAtTime(a.ExpireAt)
		}
	}
}

// savedVersion is that of what Save appends: which variant it is, the identity, the API's
// disconnect, and how many subscriptions there are.
const savedVersion = 7

// Save implements loop.Protocol.
func (p *toy) Save(dst []byte, conn *loop.Conn) []byte {
	c, of := p.of(conn), "toy"
	if c.Variant() == p.stream {
		of = "stream"
	}
	dst = loop.AppendIdentity(saved.AppendBytes(append(dst, savedVersion), of), &c.client.Identity)
	if d := c.disconnect; d == nil {
		dst = append(dst, 0)
	} else {
		dst = saved.AppendBytes(binary.AppendUvarint(append(dst, 1), uint64(d.Code)), d.Text)
	}
	return append(dst, byte(c.Refs()))
}

// Taken implements loop.Protocol.
func (p *toy) Taken(conn *loop.Conn) {
	c := p.of(conn)
	for i := range c.Refs() {
		c.enter(c.Ref(i).Channel())
	}
}

// Load implements loop.Protocol.
func (p *toy) Load(_ *loop.Loop, b []byte) (loop.Saved, error) {
	r, v := saved.Read("a connection", b, savedVersion), p.webSocket
	if string(r.Bytes()) == "stream" {
		v = p.stream
	}
	who := newClient(v)
	loop.ReadIdentity(r, &who.Identity)
	if r.Byte() != 0 {
		who.disconnect = &loop.DisconnectAction{Given: true, Code: uint32(r.Uint()), Text: string(r.Bytes())}
	}
	s := loop.Saved{Variant: v, Identity: &who.Identity, Identified: true}
	for range r.Byte() {
		s.Formats = append(s.Formats, who.format)
	}
	return s, r.End()
}

// Describe implements loop.Protocol.
func (*toy) Describe(_ *loop.Conn, d *loop.Description) { d.Format = "line" }

// closeCodes are the protocol's own; its clients are sent that of the common table where there
// is none.
var closeCodes = [loop.ReasonCount]ws.StatusCode{
	loop.ReasonBadCommand:   4001,
	loop.ReasonNoPong:       4002,
	loop.ReasonDisconnected: 4003,
	loop.ReasonShutdown:     4004,
	loop.ReasonPanic:        4005,
}

// CloseText implements loop.Protocol.
func (p *toy) CloseText(c *loop.Conn, why loop.Reason) (ws.StatusCode, string) {
	if given := p.of(c).disconnect; given != nil && why == loop.ReasonDisconnected {
		return ws.StatusCode(given.Code), given.Text
	}
	if code := closeCodes[why]; code != 0 {
		return code, "toy: " + strings.ReplaceAll(why.String(), "_", " ")
	}
	return why.CloseText()
}
