package centrifugo

import (
	"bytes"
	"errors"
	"log/slog"
	"math"
	"time"
	"unicode/utf8"

	"sluice/gateway/access"
	"sluice/gateway/access/auth"
	"sluice/gateway/access/namespace"
	"sluice/gateway/channel"
	"sluice/gateway/engine"
	"sluice/gateway/hook"
	"sluice/gateway/loop"

	"github.com/centrifugal/protocol"
)

// commands does the commands of a message, until one has to wait. p lies in w, unless that is nil:
// a command before has waited.
func (c clientConn) commands(p []byte, w *waiting) loop.Wait {
	c.Plant("commands")
	for len(p) > 0 && c.Open() {
		if c.Full() {
			return loop.AfterReplies(c.waits(nil, p, w))
		}
		cmd, n, err := Next(c.format.Encoding, p)
		if err != nil {
			c.Close(loop.ReasonBadCommand)
			break
		}
		piece := p[:n]
		p = p[n:]
		if next := c.does(c.command(cmd), piece); next != nil {
			return c.waits(next, p, w)
		}
	}
	return nil
}

// waits returns the Wait of a command that waits for next, with those behind it: in w, unless that
// is nil.
func (c clientConn) waits(next loop.Wait, behind []byte, w *waiting) loop.Wait {
	if len(behind) == 0 {
		return next
	}
	if w == nil {
		w = &waiting{protocol: c.protocol}
	}
	w.Wait = next
	w.rest.Keep(behind)
	return w
}

// command does one command. It returns what it waits for, nil for nothing.
func (c clientConn) command(cmd *protocol.Command) loop.Wait {
	if !c.MayMessage() {
		c.Close(loop.ReasonMessageRate)
		return nil
	}
	if cmd.Id == 0 && cmd.Send == nil {
		if cmd.Connect != nil || cmd.Subscribe != nil || cmd.Publish != nil {
			c.Close(loop.ReasonBadCommand) // nobody could tell what its reply is for
		}
		return nil // a pong among other commands
	}
	if !c.Identified() {
		if cmd.Connect == nil {
			c.Close(loop.ReasonBadCommand) // a connection begins with connect
			return nil
		}
		return c.connect(cmd.Id, cmd.Connect, nil)
	}
	r := &protocol.Reply{Id: cmd.Id}
	switch {
	case cmd.Connect != nil:
		c.Close(loop.ReasonBadCommand) // it is connected
		return nil
	case cmd.Subscribe != nil:
		return c.subscribe(r, cmd.Subscribe)
	case cmd.Publish != nil:
		return c.publishCommand(r, cmd.Publish)
	case cmd.Refresh != nil:
		return c.refresh(r, cmd.Refresh)
	case cmd.SubRefresh != nil:
		return c.subRefresh(r, cmd.SubRefresh)
	case cmd.Unsubscribe != nil:
		c.unsubscribe(cmd.Unsubscribe.Channel, nil)
		r.Unsubscribe = &protocol.UnsubscribeResult{}
	case cmd.Presence != nil:
		return c.presence(r, cmd.Presence.Channel)
	case cmd.PresenceStats != nil:
		return c.presenceStats(r, cmd.PresenceStats.Channel)
	case cmd.History != nil:
		return c.history(r, cmd.History)
	case cmd.Send != nil:
		return c.send(cmd.Send)
	case cmd.Ping != nil:
		r.Ping = &protocol.PingResult{}
	case cmd.Rpc != nil:
		return c.rpc(r, cmd.Rpc)
	default: // what later versions of the protocol may have
		r.Error = ErrorMethodNotFound
	}
	c.answer(r)
	return nil
}

// answer queues a reply.
func (c clientConn) answer(r *protocol.Reply) {
	c.Plant("answer")
	if buf, ok := c.Begin(); ok {
		c.Queued(AppendReply(buf, c.format, r))
	}
}

// tell queues a push for this connection alone.
func (c clientConn) tell(p *protocol.Push) {
	if buf, ok := c.Begin(); ok {
		c.Queued(AppendPush(buf, c.format, p))
	}
}

// fail queues the reply that a command failed.
func (c clientConn) fail(r *protocol.Reply, err *protocol.Error) loop.Wait {
	r.Error = err
	c.answer(r)
	return nil
}

// optionsOf returns a channel's options, or the error for a name that is none.
func (c clientConn) optionsOf(name string) (*namespace.Options, *protocol.Error) {
	if !channel.ValidName(name) {
		return nil, ErrorBadRequest
	}
	o := c.protocol.Policy.Options(name)
	if o == nil {
		return nil, ErrorUnknownChannel
	}
	return o, nil
}

// may returns the error of a client that may not do op with a channel, nil if it may.
func (c clientConn) may(op namespace.Op, name string) *protocol.Error {
	if !channel.ValidName(name) {
		return ErrorBadRequest
	}
	who := namespace.Who{User: c.User, Subscribed: c.Find(name) != nil}
	switch c.protocol.Policy.May(op, name, who) {
	case nil:
		return nil
	case access.ErrUnknownChannel:
		return ErrorUnknownChannel
	case access.ErrName:
		return ErrorBadRequest
	case access.ErrUnavailable:
		return ErrorNotAvailable
	}
	return ErrorPermissionDenied
}

// publishCommand publishes for a client.
func (c clientConn) publishCommand(r *protocol.Reply, req *protocol.PublishRequest) loop.Wait {
	c.Plant("publishCommand")
	h := c.publishHook(req.Channel)
	if h == nil {
		if err := c.may(namespace.Publish, req.Channel); err != nil {
			return c.fail(r, err)
		}
	}
	if c.ListenOnly() {
		return c.fail(r, ErrorPermissionDenied)
	}
	if len(req.Data) == 0 || req.Type != 0 || c.format.Encoding == JSON && !utf8.Valid(req.Data) {
		return c.fail(r, ErrorBadRequest)
	}
	binary := !utf8.Valid(req.Data)
	if !c.Filter(req.Channel, req.Data, binary) {
		return c.fail(r, ErrorPermissionDenied)
	}
	if h != nil {
		return c.askToPublish(h, r.Id, req)
	}
	return c.publish(r.Id, loop.Decided{Name: req.Channel, Payload: req.Data, Binary: binary}, nil)
}

// publish publishes for a client, whose command has this ID.
func (c clientConn) publish(id uint32, d loop.Decided, tags map[string]string) loop.Wait {
	d.Extra = channel.AppendTags(channel.AppendWho(nil, c.who(d.Name)), tags)
	waits, err := c.PublishAs(d)
	if waits != nil {
		return waits.Then(&publication{c.protocol, id})
	}
	c.published(id, err)
	return nil
}

// tokenError answers a client whose token was refused: with an error or, if only a new
// connection helps, by closing it. A unidirectional client has no command to answer: it is
// closed, and comes back.
func (c clientConn) tokenError(r *protocol.Reply, err error) loop.Wait {
	uni := c.format.Uni
	var invalid *auth.InvalidError
	if errors.Is(err, auth.ErrExpired) {
		c.rejected(auth.ErrExpired.Error())
	}
	switch {
	case uni && errors.Is(err, auth.ErrExpired):
		c.Close(loop.ReasonExpired)
		return nil
	case errors.Is(err, auth.ErrExpired):
		return c.fail(r, ErrorTokenExpired)
	case errors.As(err, &invalid):
		c.rejected(invalid.Reason())
		c.Close(loop.ReasonInvalidToken)
		return nil
	case uni:
		c.Close(loop.ReasonInternal)
		return nil
	}
	return c.fail(r, ErrorInternal) // temporary: it comes again
}

// rejected logs why a token of the client is rejected.
func (c clientConn) rejected(why string) {
	access.LogRejected(c.protocol.Logger, why, c.LogAttr(), slog.String("client", loop.AddressText(c.From())))
}

// connect is the first command of a connection. message is what a unidirectional client has sent, which waits for itself.
func (c clientConn) connect(id uint32, req *protocol.ConnectRequest, message []byte) loop.Wait {
	c.Plant("connect")
	r := &protocol.Reply{Id: id}
	if c.knows() {
		c.hooked.Said(c.protocol.Policy.Hooks().CollectEmulated(req.Headers))
	}
	switch reads, err := c.protocol.Policy.Reads(req.Token); {
	case err != nil:
		c.rejected(err.Error())
		c.Close(loop.ReasonInvalidToken)
		return nil
	case !reads && c.hooked != nil && c.protocol.Policy.Hooks().Connect != nil:
		return c.askToConnect(id, req, message)
	case !reads:
		return c.connected(r, &hook.ConnectResult{}, wishesOf(req), false)
	}
	// Not req: its filters and headers would take many times what the client has sent.
	wishes, size := wishesOf(req), len(req.Token)
	for name := range wishes {
		size += len(name) + wishBytes
	}
	return c.verify(req.Token, access.ConnectionToken, size, func(x *access.Verification) loop.Wait {
		if x.Err != nil {
			return c.tokenError(r, x.Err)
		}
		t := &x.Connection
		c.Key = t.Key
		granted := &hook.ConnectResult{User: t.User, ExpireAt: t.ExpireAt, Info: t.Info, Meta: t.Meta, Channels: t.Channels}
		if len(t.Subs) > 0 {
			granted.Subs = make(map[string]hook.SubscribeOptions, len(t.Subs))
			for name, o := range t.Subs {
				granted.Subs[name] = hook.SubscribeOptions{Info: o.Info}
			}
		}
		return c.connected(r, granted, wishes, false)
	})
}

// wishBytes is about what a wish takes in a map, beside its channel's name.
const wishBytes = 320

// connected makes the connection that of a user, with the subscriptions that its token
// or a hook names, and notifies it. None of the features that a connect command can ask for is there, and
// none is answered.
func (c clientConn) connected(r *protocol.Reply, granted *hook.ConnectResult, asked map[string]wish, byHook bool) loop.Wait {
	wishes, fault := c.serverWishes(granted, asked)
	switch {
	case fault == ErrorLimitExceeded:
		c.Close(loop.ReasonChannelLimit)
		return nil
	case fault != nil && byHook:
		c.protocol.Logger.Warn("hook failed", c.LogAttr(), "error", "the connect hook names a channel that is malformed or in an unknown namespace, or a user whose personal channel would be")
		return c.refused(r, &hook.Error{Code: fault.Code, Message: fault.Message})
	case fault != nil: // nobody could be told
		c.rejected("it names a channel that is malformed or in an unknown namespace, or a user whose personal channel would be")
		c.Close(loop.ReasonInvalidToken)
		return nil
	}
	personal, single := c.protocol.Policy.Personal(granted.User)
	if !single {
		return c.prepared(r, granted, wishes, byHook, nil)
	}
	// Who is there before this client is: two that come at the same time do not close each other.
	return loop.Query(c.Conn, func(done func(engine.Presence, error)) { c.Loop().Engine().Presence(personal, math.MaxInt32, done) },
		func(others engine.Presence, err error) loop.Wait {
			if err != nil {
				return c.unready(r, err)
			}
			return c.prepared(r, granted, wishes, byHook, others.List)
		})
}

// prepared completes a connection, and closes others of its user.
func (c clientConn) prepared(r *protocol.Reply, granted *hook.ConnectResult, wishes []serverWish, byHook bool, others []*channel.ClientInfo) loop.Wait {
	var want []loop.Wanted
	for i := range wishes {
		w := &wishes[i]
		want = append(want, loop.Wanted{Channel: w.name, Ask: w.ask(w.o, granted.User)})
	}
	return c.Prepare(func(unready error) loop.Wait {
		if unready != nil {
			return c.unready(r, unready)
		}
		c.Info = granted.Info
		c.setExpiry(granted.ExpireAt)
		if c.hooked != nil {
			c.hooked.in(granted, byHook)
		}
		c.Loop().Identify(c.Conn, granted.User)
		if subs, ok := c.serverSubscriptions(wishes); ok {
			c.welcome(r, granted.Data, subs)
			if len(others) > 0 {
				c.protocol.CloseOthers(granted.User, others)
			}
		}
		return nil
	}, want...)
}

// unready ends a connection whose channels cannot be made ready, or has it try again.
func (c clientConn) unready(r *protocol.Reply, err error) loop.Wait {
	switch {
	case errors.Is(err, channel.ErrTooManyChannels):
		c.Close(loop.ReasonChannels)
	case c.format.Uni:
		c.Close(loop.ReasonUnavailable)
	default:
		return c.fail(r, unreadyError(err))
	}
	return nil
}

// welcome answers the first command of a connection, and begins its subscriptions.
func (c clientConn) welcome(r *protocol.Reply, data []byte, subs []subscription) {
	result := &protocol.ConnectResult{
		Client: c.session.ID.String(), Version: c.protocol.Version, Ping: uint32(c.protocol.PingInterval / time.Second),
		Pong: c.protocol.PingInterval > 0 && !c.format.Uni, Subs: make(map[string]*protocol.SubscribeResult, len(subs)),
	}
	if e := c.emulated(); e != nil {
		result.Session, result.Node = e.secret.String(), c.protocol.Emulation.nodeText()
		c.known(e)
	}
	result.Data = Raw(c.format.Encoding, data)
	if !c.serverRefreshes() {
		result.Expires, result.Ttl = c.lifetime(c.ExpireAt)
	}
	for i := range subs {
		result.Subs[subs[i].name] = subs[i].result
	}
	if c.format.Uni {
		c.tell(&protocol.Push{Connect: &protocol.Connect{Client: result.Client, Version: result.Version, Data: result.Data, Subs: result.Subs,
			Expires: result.Expires, Ttl: result.Ttl, Ping: result.Ping}})
	} else {
		r.Connect = result
		c.answer(r)
	}
	for i := range subs {
		c.begin(&subs[i])
	}
	c.wakeSession()
}

// lifetime returns an expiry as replies have it: whether it expires, and in how many
// seconds.
func (c clientConn) lifetime(expireAt int64) (expires bool, ttl uint32) {
	if expireAt == 0 {
		return false, 0
	}
	return true, uint32(min(max(expireAt-c.Loop().Time().Unix(), 0), 1<<31))
}

// refresh takes a fresh token for the connection.
func (c clientConn) refresh(r *protocol.Reply, req *protocol.RefreshRequest) loop.Wait {
	switch {
	case c.serverRefreshes():
		c.Close(loop.ReasonBadCommand) // it was not told to
		return nil
	case c.protocol.Policy.Tokens() == nil || req.Token == "":
		return c.fail(r, ErrorBadRequest)
	}
	return c.verify(req.Token, access.ConnectionToken, req.SizeVT(), func(x *access.Verification) loop.Wait {
		switch {
		case x.Err != nil:
			return c.tokenError(r, x.Err)
		case x.Connection.User != c.User:
			c.rejected("the token belongs to another user")
			c.Close(loop.ReasonInvalidToken)
			return nil
		}
		c.Key = x.Connection.Key
		c.setExpiry(x.Connection.ExpireAt)
		if !bytes.Equal(c.Info, x.Connection.Info) {
			c.setInfo(x.Connection.Info)
		}
		r.Refresh = &protocol.RefreshResult{Client: c.session.ID.String(), Version: c.protocol.Version}
		r.Refresh.Expires, r.Refresh.Ttl = c.lifetime(c.ExpireAt)
		c.answer(r)
		c.wakeSession()
		return nil
	})
}

// subRefresh takes a fresh token for a subscription.
func (c clientConn) subRefresh(r *protocol.Reply, req *protocol.SubRefreshRequest) loop.Wait {
	if req.Type != 0 || c.Find(req.Channel) == nil {
		return c.fail(r, ErrorBadRequest)
	}
	if h := c.subRefreshHook(req.Channel); h != nil && req.Token == "" {
		return c.askToSubRefresh(h, r.Id, req.Channel)
	}
	if c.protocol.Policy.Tokens() == nil || req.Token == "" {
		return c.fail(r, ErrorBadRequest)
	}
	return c.verifySubscription(r, req.Token, req.Channel, req.SizeVT(), func(t *auth.Subscription) loop.Wait {
		if c.Find(req.Channel) == nil { // it ended meanwhile
			return c.fail(r, ErrorBadRequest)
		}
		c.subRefreshed(r, req.Channel, t.Info, t.ExpireAt)
		if d := c.details[req.Channel]; d != nil {
			d.key = t.Key
		}
		return nil
	})
}

// subRefreshed notes how long a subscription lasts, and with which info, and answers the command.
func (c clientConn) subRefreshed(r *protocol.Reply, name string, info []byte, expireAt int64) {
	c.prolong(name, info, expireAt)
	r.SubRefresh = &protocol.SubRefreshResult{}
	r.SubRefresh.Expires, r.SubRefresh.Ttl = c.lifetime(expireAt)
	c.answer(r)
}

// prolong notes how long a subscription lasts, and with which info.
func (c clientConn) prolong(name string, info []byte, expireAt int64) {
	known := c.detail(name)
	if known.cancel != nil {
		known.cancel()
	}
	if c.setDetail(name, detail{info: info, expireAt: expireAt}); !bytes.Equal(known.info, info) {
		c.showPresence(name)
	}
	c.wakeSession()
}

// verifySubscription verifies a token for a channel, and continues with then if it is valid. An
// invalid one fails its command only: the connection has other subscriptions, and a library does
// not come back after 3500.
func (c clientConn) verifySubscription(r *protocol.Reply, token, channel string, size int, then func(*auth.Subscription) loop.Wait) loop.Wait {
	return c.verify(token, access.SubscriptionToken, size, func(x *access.Verification) loop.Wait {
		var invalid *auth.InvalidError
		switch {
		case errors.As(x.Err, &invalid):
			c.rejected(invalid.Reason())
			return c.fail(r, ErrorPermissionDenied)
		case x.Err != nil:
			return c.tokenError(r, x.Err)
		}
		if why := access.Misfit(&x.Subscription, channel, c.User, c.session.ID.String()); why != "" {
			c.rejected(why)
			c.Close(loop.ReasonInvalidToken)
			return nil
		}
		return then(&x.Subscription)
	})
}

// setDetail notes what a subscription has beside its position.
func (ses *session) setDetail(channel string, d detail) {
	switch {
	case d.info == nil && d.expireAt == 0 && d.key == 0 && !d.pending:
		delete(ses.details, channel)
		return
	case ses.details == nil:
		ses.details = make(map[string]*detail, 1)
	}
	ses.details[channel] = &d
}

// setInfo notes what others see of the client.
func (c clientConn) setInfo(info []byte) {
	c.Info = info
	if c.hooked != nil {
		c.hooked.Is(c.User, info, c.hooked.Who().Meta)
	}
	c.showPresence("")
}

// setExpiry notes until when the connection may stay.
func (ses *session) setExpiry(at int64) { ses.ExpireAt = at }

// onlyConnects takes the message of a client that is only sent to: its first one says
// who it is, and nothing else is expected.
func (c clientConn) onlyConnects(p []byte) loop.Wait {
	if !c.MayMessage() {
		c.Close(loop.ReasonMessageRate)
		return nil
	}
	if c.Identified() {
		return nil
	}
	req, err := DecodeConnect(p)
	if err != nil {
		c.Close(loop.ReasonBadCommand)
		return nil
	}
	return c.connect(0, req, p)
}
