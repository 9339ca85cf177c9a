// Package client is what protocols do alike about the hooks of a connection: it keeps who the client is in the eyes of the
// application, asks, takes back what nobody waits for any more, and notifies of the end.
//
// It is a package of its own because protocols must not import each other, and package hook knows no connection. It does not
// know what the answers mean to a client.
package client

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"unique"

	"sluice/gateway/hook"
	"sluice/gateway/loop"
	"sluice/gateway/sampling"
	"sluice/gateway/saved"

	"github.com/gobwas/ws"
)

// Client is a client about which hooks are asked. It belongs to its connection's loop.
type Client struct {
	known    *known         // nil once there is a who
	who      *hook.Identity // never changes, because requests refer to it: there is another one instead; nil until it is needed
	accepted bool           // the connect hook was asked, and the client is in: the end is notified
	cancel   func()         // takes back a question whether it may stay; nil for none
}

// known is what is known of a client from the beginning. It never changes once a hook is asked.
type known struct {
	id      loop.ClientID
	headers hook.Header
	peer    netip.AddrPort
	tls     *hook.TLS // nil without TLS
	kind    unique.Handle[Kind]
}

// Known is who a client is, for a request that is made later, on any goroutine: it takes less memory than an Identity.
type Known struct {
	known *known
	who   *hook.Identity // nil: it is made from known
}

// Peer returns the client's address.
func (k Known) Peer() netip.Addr {
	if k.who != nil {
		return k.who.Peer.Addr()
	}
	return k.known.peer.Addr()
}

// Identity returns the client for a request.
func (k Known) Identity() *hook.Identity {
	if k.who != nil {
		return k.who
	}
	x, kind := k.known, Kind{}
	if x.kind != (unique.Handle[Kind]{}) {
		kind = x.kind.Value()
	}
	return &hook.Identity{ID: x.id.String(), Headers: x.headers, Peer: x.peer, TLS: x.tls, Transport: kind.Transport, Protocol: kind.Protocol, Encoding: kind.Encoding}
}

// Kind is how a client is connected, in Centrifugo's words. See hook.Identity.
type Kind struct{ Transport, Protocol, Encoding string }

// New returns a client of whose request the hooks want these fields of the header. Arrived or Taken completes it.
func New(headers hook.Header) *Client { return &Client{known: &known{headers: headers}} }

// Arrived completes a client whose connection has arrived, with an Identity.
func (x *Client) Arrived(c *loop.Conn, a *loop.Arrival, kind Kind) {
	var settled *hook.TLS
	if a.Secure != nil {
		t := a.Secure.ConnectionState()
		settled = &hook.TLS{Version: t.Version, CipherSuite: t.CipherSuite, ServerName: t.ServerName, Certificates: t.PeerCertificates}
	}
	if x.known != nil {
		x.known.peer, x.known.tls = a.Client, settled
	} else {
		x.who.Peer, x.who.TLS = a.Client, settled
	}
	x.complete(c.Identity(), kind)
}

// complete fills in what is not saved. The client must not be known to a hook yet.
func (x *Client) complete(who *loop.Identity, kind Kind) {
	if x.known != nil {
		x.known.id, x.known.kind = who.ID, unique.Make(kind)
		if who.User == "" && who.Info == nil {
			return
		}
		x.Who()
	}
	x.who.ID, x.who.User, x.who.Info = who.ID.String(), who.User, who.Info
	x.who.Transport, x.who.Protocol, x.who.Encoding = kind.Transport, kind.Protocol, kind.Encoding
}

// Known returns what is known of the client.
func (x *Client) Known() Known { return Known{x.known, x.who} }

// Who returns the client for a request.
func (x *Client) Who() *hook.Identity {
	if x.who == nil {
		x.who, x.known = x.Known().Identity(), nil
	}
	return x.who
}

// headers returns the header fields that hooks want.
func (x *Client) headers() hook.Header {
	if x.who == nil {
		return x.known.headers
	}
	return x.who.Headers
}

// Is notes who the client is, and what is attached to it.
func (x *Client) Is(user string, info, meta []byte) {
	who := *x.Who()
	who.User, who.Info, who.Meta = user, info, meta
	x.who = &who
}

// Said notes the header fields that the client has sent as a part of its first command, as far as they are wanted. Those of a
// command before, which was refused, are not its any more.
func (x *Client) Said(h hook.Header) {
	if len(h) > 0 || x.who != nil && x.who.Emulated != nil {
		who := *x.Who()
		who.Emulated = h
		x.who = &who
	}
}

// Accepted notes that the client is in and that the connect hook was asked about it.
func (x *Client) Accepted() { x.accepted = true }

// size is about how many bytes a question takes that waits, beside what is the request's own.
func (x *Client) size() int {
	n := questionBytes
	for _, f := range x.headers() {
		n += len(f.Name) + len(f.Value)
	}
	if x.who != nil {
		for _, f := range x.who.Emulated {
			n += len(f.Name) + len(f.Value)
		}
	}
	return n
}

// questionBytes are those of a request, of a place in the hook's line, and of what continues with the answer.
const questionBytes = 512

// Pick returns the hook with a name, one that fails if there is none.
func Pick[Q hook.Request, A any](hooks map[string]hook.Hook[Q, A], name string) hook.Hook[Q, A] {
	if h := hook.Pick(hooks, name); h != nil {
		return h
	}
	return missing[Q, A](name)
}

// missing is a hook that a namespace selects and that does not exist.
type missing[Q hook.Request, A any] string

// Ask implements hook.Hook.
func (m missing[Q, A]) Ask(_ Q, answer func(*A, error)) (cancel func()) {
	answer(nil, fmt.Errorf("a namespace selects the hook %q, which does not exist", string(m)))
	return func() {}
}

// Ask asks a hook about what a client wants, which waits for that.
func Ask[Q hook.Request, A any](c *loop.Conn, log *slog.Logger, x *Client, h hook.Hook[Q, A], q Q, question loop.Question, then func(*A, error) loop.Wait) loop.Wait {
	question.Size += x.size()
	question.Failed = func(c *loop.Conn, err error) { logFailure(c, log, err) }
	return loop.Ask(c, question, func(answer func(*A, error)) (cancel func()) { return h.Ask(q, answer) }, then)
}

// AskLater is Ask with a request that is made when the call begins, on any goroutine.
func AskLater[Q hook.Request, A any](c *loop.Conn, log *slog.Logger, x *Client, h hook.Hook[Q, A], request func() Q, question loop.Question, then func(*A, error) loop.Wait) loop.Wait {
	question.Size += x.size()
	question.Failed = func(c *loop.Conn, err error) { logFailure(c, log, err) }
	peer := x.Known().Peer()
	return loop.Ask(c, question, func(answer func(*A, error)) (cancel func()) { return hook.AskLater(h, peer, request, answer) }, then)
}

// AskApart asks a hook about a client that goes on meanwhile.
func AskApart[Q hook.Request, A any](c *loop.Conn, log *slog.Logger, h hook.Hook[Q, A], q Q, then func(*A, error)) (cancel func()) {
	return loop.AskApart(c, func(answer func(*A, error)) (cancel func()) { return h.Ask(q, answer) }, func(a *A, err error) {
		logFailure(c, log, err)
		then(a, err)
	})
}

// Unsupported returns, and logs, what the gateway cannot do of what a publish hook asks for, nil for nothing.
func Unsupported(c *loop.Conn, log *slog.Logger, r *hook.PublishResult) error {
	err := r.Check()
	if r != nil && len(r.Data) > c.Loop().MaxMessage() {
		err = fmt.Errorf("the publish hook answers with %d bytes to publish, and a message may have %d at most", len(r.Data), c.Loop().MaxMessage())
	}
	logFailure(c, log, err)
	return err
}

// logFailure logs why there is no decision.
func logFailure(c *loop.Conn, log *slog.Logger, err error) {
	if err != nil {
		logFailureOf(c.LogAttr(), log, err)
	}
}

// logFailureOf is logFailure where there is no connection any more.
func logFailureOf(who slog.Attr, log *slog.Logger, err error) {
	if err != nil && !hook.Decided(err) {
		name := "hook"
		if f, ok := errors.AsType[*hook.Failure](err); ok && f.Hook != "" {
			name = f.Hook
		}
		log.Warn("hook failed", who, sampling.Apart("hook", name), "outcome", hook.OutcomeOf(err).String(), "error", err.Error())
	}
}

// Refresh asks whether a client may stay whose time is over, unless it is being asked. then is called with the time until
// when it may, 0 for ever; with its new info, nil for the old one; or with expired.
func (x *Client) Refresh(c *loop.Conn, log *slog.Logger, h hook.Hook[*hook.RefreshRequest, hook.RefreshResult], then func(at int64, info []byte, expired bool)) {
	if x.cancel != nil {
		return
	}
	x.cancel = AskApart(c, log, h, &hook.RefreshRequest{Client: x.Who()}, func(r *hook.RefreshResult, err error) {
		x.cancel = nil
		who := c.Identity()
		at, expired := hook.Refresh(r, err, who.ExpireAt, c.Loop().Time().Unix())
		var info []byte
		if r != nil && err == nil {
			if info = r.Info; r.Meta != nil {
				x.Is(x.Who().User, x.who.Info, r.Meta)
			}
		}
		then(at, info, expired)
	})
}

// SubRefresh asks whether a client may stay in a channel, and calls then as Refresh does.
func (x *Client) SubRefresh(c *loop.Conn, log *slog.Logger, h hook.Hook[*hook.SubRefreshRequest, hook.SubRefreshResult], channel string, then func(at int64, info []byte, expired bool)) (cancel func()) {
	return AskApart(c, log, h, &hook.SubRefreshRequest{Client: x.Who(), Channel: channel}, func(r *hook.SubRefreshResult, err error) {
		at, expired := hook.SubRefresh(r, err, c.Loop().Time().Unix())
		var info []byte
		if r != nil && err == nil {
			info = r.Info
		}
		then(at, info, expired)
	})
}

// Ended takes back what is asked, and notifies a hook of the end of the connection; h is nil for none. A process that ends
// notifies of nothing: its clients are told to come back.
func (x *Client) Ended(c *loop.Conn, log *slog.Logger, h hook.Hook[*hook.DisconnectRequest, hook.DisconnectResult], code ws.StatusCode, text string) {
	if x.cancel != nil {
		x.cancel()
	}
	if h != nil && x.accepted && !c.Loop().Draining() {
		who := c.LogAttr()
		h.Ask(&hook.DisconnectRequest{Client: x.Who(), Code: uint32(code), Reason: text}, func(_ *hook.DisconnectResult, err error) {
			logFailureOf(who, log, err) // on any goroutine
		})
	}
}

// bits of a saved Client.
const (
	savedAccepted byte = 1 << iota
	savedMeta
)

// Append appends a client to what a protocol saves of a connection, beside its Identity.
func (x *Client) Append(dst []byte) []byte {
	bits := byte(0)
	if x.accepted {
		bits |= savedAccepted
	}
	var meta []byte
	var emulated hook.Header
	if x.who != nil {
		meta, emulated = x.who.Meta, x.who.Emulated
	}
	if meta != nil {
		bits |= savedMeta
	}
	if dst = append(dst, bits); bits&savedMeta != 0 {
		dst = saved.AppendBytes(dst, meta)
	}
	return appendHeader(appendHeader(dst, x.headers()), emulated)
}

// Read reads what Append has written. Taken completes it.
func Read(r *saved.Reader) *Client {
	x := &Client{who: new(hook.Identity)}
	bits := r.Byte()
	if bits >= savedMeta<<1 {
		r.Fail()
	}
	if x.accepted = bits&savedAccepted != 0; bits&savedMeta != 0 {
		x.who.Meta = r.Bytes()
	}
	x.who.Headers, x.who.Emulated = readHeader(r), readHeader(r)
	return x
}

// Taken completes a client that another process has saved, or had no hooks for, before hooks are asked about it.
func (x *Client) Taken(c *loop.Conn, kind Kind) {
	x.complete(c.Identity(), kind)
	x.Who().Peer = c.From()
}

// appendHeader appends header fields.
func appendHeader(dst []byte, h hook.Header) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(h)))
	for _, f := range h {
		dst = saved.AppendBytes(saved.AppendBytes(dst, f.Name), f.Value)
	}
	return dst
}

func readHeader(r *saved.Reader) (h hook.Header) {
	for range r.Count() {
		h = append(h, hook.Field{Name: string(r.Bytes()), Value: string(r.Bytes())})
	}
	return h
}
