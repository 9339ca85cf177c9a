package centrifugo

import (
	"maps"
	"slices"
	"unicode/utf8"

	"sluice/gateway/access/namespace"
	"sluice/gateway/frame"
	"sluice/gateway/hook"
	"sluice/gateway/hook/client"
	"sluice/gateway/loop"
	"sluice/gateway/wire"

	"github.com/centrifugal/protocol"
	"github.com/gobwas/ws"
)

// What hooks decide about clients of the protocol: in the order of Centrifugo, and with its outcomes. A command that asks
// one waits, with the commands behind it, so a client's publications keep their order.

// hooked is what hooks are sent of a client.
type hooked struct {
	*client.Client
	request []byte // what a unidirectional client has connected with, until it is connected; nil for one that sends that
}

// transports are the names of transports for hooks and events: of bidirectional clients, and of unidirectional ones.
var transports = [2][3]string{
	{wire.WebSocket: "websocket", wire.SSE: "sse", wire.Lines: "http_stream"},
	{wire.WebSocket: "uni_websocket", wire.SSE: "uni_sse", wire.Lines: "uni_http_stream"},
}

// transport returns the name of a client's transport.
func (f Format) transport() string {
	if f.Uni {
		return transports[1][f.Framing]
	}
	return transports[0][f.Framing]
}

// kind returns how a client is connected, for hooks.
func (f Format) kind() client.Kind {
	k := client.Kind{Transport: f.transport(), Protocol: f.String(), Encoding: "json"}
	if f.Encoding == Protobuf {
		k.Encoding = "binary"
	}
	return k
}

// in notes who the client is now that it is connected.
func (h *hooked) in(granted *hook.ConnectResult, byHook bool) {
	h.request = nil
	if h.Is(granted.User, granted.Info, granted.Meta); byHook {
		h.Accepted()
	}
}

// knows reports whether hooks may be asked about the client. What they are sent of one that has come when there were no hooks is
// what another process would know of it.
func (c clientConn) knows() bool {
	if c.hooked == nil && c.protocol.Policy.Hooked() {
		c.hooked = &hooked{Client: client.New(nil)}
		c.hooked.Taken(c.Conn, c.format.kind())
	}
	return c.hooked != nil
}

// Opening implements loop.Opener.
func (p *Protocol) Opening(conn *loop.Conn) bool {
	c := p.Client(conn)
	return c.hooked != nil && c.hooked.request != nil && !c.Identified()
}

// OpenAgain implements loop.Opener.
func (p *Protocol) OpenAgain(conn *loop.Conn) loop.Wait {
	c := p.Client(conn)
	return c.onlyConnects(c.hooked.request)
}

// askToConnect asks a hook whether a client without a token may connect, and as whom.
func (c clientConn) askToConnect(id uint32, req *protocol.ConnectRequest, message []byte) loop.Wait {
	wishes := wishesOf(req)
	h := c.protocol.Policy.Hooks().Connect
	if h == nil { // a reload has removed it
		return c.connected(&protocol.Reply{Id: id}, &hook.ConnectResult{}, wishesOf(req), false)
	}
	q := &hook.ConnectRequest{Client: c.hooked.Who(), Data: req.Data, Name: req.Name, Version: req.Version, Channels: slices.Sorted(maps.Keys(req.Subs))}
	question := loop.Question{Size: len(q.Data) + len(q.Name) + len(q.Version) + len(c.hooked.request)}
	for _, name := range q.Channels {
		question.Size += 2*len(name) + wishBytes
	}
	if c.format.Uni && c.hooked.request == nil {
		question.Again = &frame.Message{Op: c.format.op(), Payload: slices.Clone(message)}
		question.Size += len(message)
	}
	return client.Ask(c.Conn, c.protocol.Logger, c.hooked.Client, h, q, question, func(granted *hook.ConnectResult, err error) loop.Wait {
		r := &protocol.Reply{Id: id}
		if granted, err = c.protocol.Policy.Hooks().Connected(granted, err, c.Loop().Time().Unix()); err != nil {
			return c.refused(r, err)
		}
		return c.connected(r, granted, wishes, true)
	})
}

// refused answers a client whose command a hook does not allow, or cannot decide about. A unidirectional client has no
// command to answer.
func (c clientConn) refused(r *protocol.Reply, err error) loop.Wait {
	e := hook.Refuse(err, true).Error
	if e == nil || c.format.Uni {
		c.closeFor(err)
		return nil
	}
	return c.fail(r, &protocol.Error{Code: e.Code, Message: e.Message, Temporary: e.Temporary})
}

// closeFor closes the connection of a client that a hook does not allow something, and that gets no reply.
func (c clientConn) closeFor(err error) {
	refusal := hook.Refuse(err, true)
	d := &protocol.Disconnect{Code: uint32(refusal.CloseCode), Reason: refusal.CloseText}
	if refusal.Disconnect == nil {
		d = disconnectOf(refusal.Error.Code)
	}
	c.disconnect = d
	c.Close(loop.ReasonHook)
}

// disconnectOf returns with what a client without a reply is closed for an error, as Centrifugo closes unidirectional ones.
func disconnectOf(code uint32) *protocol.Disconnect {
	switch code {
	case ErrorTokenExpired.Code, ErrorExpired.Code:
		return DisconnectExpired
	case ErrorTooManyRequests.Code:
		return DisconnectTooManyRequests
	case ErrorPermissionDenied.Code:
		return DisconnectPermissionDenied
	}
	return DisconnectServerError
}

// subscribeHook returns the hook that decides who may subscribe to a channel without a token, nil for none.
func (c clientConn) subscribeHook(o *namespace.Options, name string) hook.Hook[*hook.SubscribeRequest, hook.SubscribeResult] {
	if !c.knows() {
		return nil
	}
	if which, asks := c.protocol.Policy.AsksToSubscribe(o, name); asks {
		return client.Pick(c.protocol.Policy.Hooks().Subscribe, which)
	}
	return nil
}

// askToSubscribe asks a hook whether a client may subscribe. What the client itself asks for does not add to the options then.
func (c clientConn) askToSubscribe(h hook.Hook[*hook.SubscribeRequest, hook.SubscribeResult], id uint32, req *protocol.SubscribeRequest, o *namespace.Options, w wish) loop.Wait {
	name := req.Channel
	w.recovers, w.positions, w.joins = false, false, false
	q := &hook.SubscribeRequest{Client: c.hooked.Who(), Channel: name, Data: req.Data}
	return client.Ask(c.Conn, c.protocol.Logger, c.hooked.Client, h, q, loop.Question{Size: len(name) + len(q.Data)}, func(granted *hook.SubscribeResult, err error) loop.Wait {
		r := &protocol.Reply{Id: id}
		if err = hook.Subscribed(granted, err, c.Loop().Time().Unix()); err != nil {
			return c.refused(r, err)
		}
		if err := c.mayJoin(name); err != nil { // the API may have subscribed it meanwhile
			return c.fail(r, err)
		}
		if granted != nil {
			o = w.decided(o, &hook.SubscribeOptions{ExpireAt: granted.ExpireAt, Info: granted.Info, Data: granted.Data, Override: granted.Override})
		}
		return c.join(r, name, o, w)
	})
}

// decided takes what a hook says of a subscription, and returns the channel's options for it.
func (w *wish) decided(o *namespace.Options, by *hook.SubscribeOptions) *namespace.Options {
	w.detail.info, w.detail.expireAt = by.Info, by.ExpireAt
	if w.recover = w.recover || by.CacheRecover && o.ForceRecoveryMode == namespace.Cache; by.Data == nil && by.Override == (hook.Override{}) {
		return o
	}
	w.by = by
	own := *o
	for _, x := range []struct {
		by *bool
		to *bool
	}{
		{by.Override.Presence, &own.Presence}, {by.Override.JoinLeave, &own.JoinLeave}, {by.Override.ForceRecovery, &own.ForceRecovery},
		{by.Override.ForcePositioning, &own.ForcePositioning}, {by.Override.ForcePushJoinLeave, &own.ForcePushJoinLeave},
	} {
		if x.by != nil {
			*x.to = *x.by
		}
	}
	return &own
}

// overridden returns the bits of a subscription whose options may not be those of its namespace.
func overridden(o *namespace.Options) uint8 {
	bits := refOverridden
	if o.Presence {
		bits |= refShows
	}
	if o.JoinLeave {
		bits |= refAnnounces
	}
	return bits
}

// publishHook returns the hook that decides about what clients publish in a channel, nil for none.
func (c clientConn) publishHook(name string) hook.Hook[*hook.PublishRequest, hook.PublishResult] {
	if !c.knows() || len(c.protocol.Policy.Hooks().Publish) == 0 {
		return nil
	}
	if o, err := c.optionsOf(name); err == nil && o.Fits(name) {
		if which, asks := c.protocol.Policy.AsksToPublish(o); asks {
			return client.Pick(c.protocol.Policy.Hooks().Publish, which)
		}
	}
	return nil
}

// askToPublish asks a hook about a publication, in place of the permissions.
func (c clientConn) askToPublish(h hook.Hook[*hook.PublishRequest, hook.PublishResult], id uint32, req *protocol.PublishRequest) loop.Wait {
	d := loop.Decided{Name: req.Channel, Payload: req.Data, Binary: !utf8.Valid(req.Data)}
	q := &hook.PublishRequest{Client: c.hooked.Who(), Channel: d.Name, Data: d.Payload}
	question := loop.Question{Size: len(d.Name) + len(d.Payload), Others: true}
	return client.Ask(c.Conn, c.protocol.Logger, c.hooked.Client, h, q, question, func(r *hook.PublishResult, err error) loop.Wait {
		if err == nil {
			err = client.Unsupported(c.Conn, c.protocol.Logger, r)
		}
		if err != nil {
			return c.refused(&protocol.Reply{Id: id}, err)
		}
		var tags map[string]string
		if r != nil {
			if d.Passing, tags = r.SkipHistory, r.Tags; r.Data != nil {
				d.Payload, d.Binary = r.Data, !utf8.Valid(r.Data)
			}
		}
		return c.publish(id, d, tags)
	})
}

// rpc has a hook answer a request.
func (c clientConn) rpc(r *protocol.Reply, req *protocol.RPCRequest) loop.Wait {
	h := c.protocol.Policy.Hooks().RPC
	if !c.knows() || h == nil {
		return c.fail(r, ErrorNotAvailable)
	}
	q := &hook.RPCRequest{Client: c.hooked.Who(), Method: req.Method, Data: req.Data}
	id := r.Id
	return client.Ask(c.Conn, c.protocol.Logger, c.hooked.Client, h, q, loop.Question{Size: len(q.Method) + len(q.Data)}, func(a *hook.RPCResult, err error) loop.Wait {
		r := &protocol.Reply{Id: id}
		if err != nil {
			return c.refused(r, err)
		}
		if r.Rpc = new(protocol.RPCResult); a != nil {
			r.Rpc.Data = Raw(c.format.Encoding, a.Data)
		}
		c.answer(r)
		return nil
	})
}

// send passes a message on to a hook. It has no reply: where the message is lost, the client learns of it by a disconnect.
func (c clientConn) send(req *protocol.SendRequest) loop.Wait {
	h := c.protocol.Policy.Hooks().Message
	if !c.knows() || h == nil {
		c.disconnect = DisconnectNotAvailable
		c.Close(loop.ReasonBadCommand)
		return nil
	}
	q := &hook.MessageRequest{Client: c.hooked.Who(), Data: req.Data}
	question := loop.Question{Size: len(q.Data), Others: true}
	return client.Ask(c.Conn, c.protocol.Logger, c.hooked.Client, h, q, question, func(_ *hook.MessageResult, err error) loop.Wait {
		if err != nil {
			c.closeFor(err)
		}
		return nil
	})
}

// serverRefreshes reports whether a hook is asked whether connections that expire may stay, and not their clients for a token.
func (c clientConn) serverRefreshes() bool {
	return c.protocol.Policy.Hooks().Refresh != nil && c.knows()
}

// askToRefresh asks whether a connection may stay whose time is over.
func (c clientConn) askToRefresh() {
	h := c.protocol.Policy.Hooks().Refresh
	if h == nil { // a reload has removed it
		c.Close(loop.ReasonExpired)
		return
	}
	c.hooked.Refresh(c.Conn, c.protocol.Logger, h, func(at int64, info []byte, expired bool) {
		if expired {
			c.Close(loop.ReasonExpired)
			return
		}
		if c.setExpiry(at); info != nil {
			c.setInfo(info)
		}
		c.wakeSession()
	})
}

// subRefreshHook returns the hook that is asked whether subscriptions to a channel may go on, nil for none.
func (c clientConn) subRefreshHook(name string) hook.Hook[*hook.SubRefreshRequest, hook.SubRefreshResult] {
	if !c.knows() || len(c.protocol.Policy.Hooks().SubRefresh) == 0 {
		return nil
	}
	if o := c.protocol.Policy.Options(name); o != nil {
		if which, asks := c.protocol.Policy.AsksToSubRefresh(o); asks {
			return client.Pick(c.protocol.Policy.Hooks().SubRefresh, which)
		}
	}
	return nil
}

// goesOn asks whether a subscription may go on whose time is over.
func (c clientConn) goesOn(h hook.Hook[*hook.SubRefreshRequest, hook.SubRefreshResult], name string, d *detail) {
	d.cancel = c.hooked.SubRefresh(c.Conn, c.protocol.Logger, h, name, func(at int64, info []byte, expired bool) {
		d.cancel = nil
		r := c.Find(name)
		switch {
		case r == nil:
		case !expired:
			if info == nil {
				info = d.info
			}
			c.prolong(name, info, at)
		case *r.Flags()&refServer != 0:
			c.disconnect = DisconnectSubExpired
			c.Close(loop.ReasonExpired)
		default:
			c.unsubscribe(name, UnsubscribeExpired)
		}
	})
}

// askToSubRefresh answers a client that asks, without a token, for its subscription to go on.
func (c clientConn) askToSubRefresh(h hook.Hook[*hook.SubRefreshRequest, hook.SubRefreshResult], id uint32, name string) loop.Wait {
	q := &hook.SubRefreshRequest{Client: c.hooked.Who(), Channel: name}
	return client.Ask(c.Conn, c.protocol.Logger, c.hooked.Client, h, q, loop.Question{Size: len(name)}, func(a *hook.SubRefreshResult, err error) loop.Wait {
		r := &protocol.Reply{Id: id}
		at, expired := hook.SubRefresh(a, err, c.Loop().Time().Unix())
		switch {
		case err != nil && !hook.Decided(err):
			return c.refused(r, err)
		case c.Find(name) == nil: // it ended meanwhile
			return c.fail(r, ErrorBadRequest)
		case expired:
			return c.fail(r, ErrorExpired)
		}
		info := a.Info
		if info == nil {
			info = c.detail(name).info
		}
		c.subRefreshed(r, name, info, at)
		return nil
	})
}

// Ended implements loop.Ender.
func (p *Protocol) Ended(conn *loop.Conn) {
	c := p.Client(conn)
	if e := c.emulated(); e != nil {
		p.Emulation.remove(e.secret)
	}
	if c.hooked == nil {
		return
	}
	for _, d := range c.details {
		if d.cancel != nil {
			d.cancel()
		}
	}
	code, text := p.EndText(conn)
	c.hooked.Ended(conn, p.Logger, p.Policy.Hooks().Disconnect, code, text)
}

// Transport implements loop.Teller.
func (p *Protocol) Transport(conn *loop.Conn) string { return p.Client(conn).format.transport() }

// EndText implements loop.Teller: a client that is sent no code has closed its connection, or has lost it.
func (p *Protocol) EndText(conn *loop.Conn) (code ws.StatusCode, text string) {
	if code, text = p.CloseText(conn, conn.Reason()); code == 0 {
		code, text = ws.StatusCode(DisconnectConnectionClosed.Code), DisconnectConnectionClosed.Reason
	}
	return code, text
}
