package gateway

import (
	"bytes"
	"errors"
	"log/slog"
	"time"
	"unicode/utf8"

	"sluice/gateway/access"
	"sluice/gateway/access/auth"
	"sluice/gateway/access/namespace"
	"sluice/gateway/centrifugo"
	"sluice/gateway/channel"
	"sluice/gateway/edge/handshake"

	"github.com/centrifugal/protocol"
	"github.com/gobwas/ws"
)

// commands works off the commands of a message. false: one of them has to wait, and is put
// off with those behind it and with rest, the bytes behind the message.
func (c *conn) commands(op ws.OpCode, p, rest []byte) bool {
	c.plant("commands")
	l, ses := c.loop, c.session()
	if pong := centrifugo.IsPong(ses.format.Encoding, p); pong || ses.format.Uni {
		if !ses.again && !c.mayMessage() {
			c.close(reasonMessageRate)
			return true
		}
		if ses.format.Uni {
			return c.onlyConnects(op, p, rest)
		}
		// received noted that the client is there. Where nobody asked, it counts as a control frame does.
		asked := l.asked
		if l.asked = false; !asked && !c.mayControl() {
			c.close(reasonControlRate)
		}
		return true
	}
	for len(p) > 0 && c.phase == phaseOpen {
		if c.full() {
			c.putOff(op, p, rest)
			return false
		}
		cmd, n, err := centrifugo.Next(ses.format.Encoding, p)
		if err != nil {
			c.close(reasonBadCommand)
			break
		}
		if !c.command(cmd) {
			if c.in != nil && c.in.pending != nil {
				c.putOff(op, p[n:], rest) // what it wants to publish is decoded
				c.await()
				return false
			}
			ses.again = true
			c.bits |= bitParked
			c.putOff(op, p, rest)
			return false
		}
		if c.in != nil {
			c.in.verifying = nil // it was for this one
		}
		p = p[n:]
	}
	return true
}

// command does one command. false: it has to wait.
func (c *conn) command(cmd *protocol.Command) bool {
	ses := c.session()
	if !ses.again && !c.mayMessage() {
		c.close(reasonMessageRate)
		return true
	}
	ses.again = false
	if cmd.Id == 0 && cmd.Send == nil {
		if cmd.Connect != nil || cmd.Subscribe != nil || cmd.Publish != nil {
			c.close(reasonBadCommand) // nobody could tell what its reply is for
		}
		return true // a pong among other commands
	}
	if !c.has(bitIdentified) {
		if cmd.Connect == nil {
			c.close(reasonBadCommand) // a connection begins with connect
			return true
		}
		return c.connect(cmd.Id, cmd.Connect)
	}
	r := &protocol.Reply{Id: cmd.Id}
	switch {
	case cmd.Connect != nil:
		c.close(reasonBadCommand) // it is connected
		return true
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
		r.Presence, r.Error = c.presence(cmd.Presence.Channel)
	case cmd.PresenceStats != nil:
		r.PresenceStats, r.Error = c.presenceStats(cmd.PresenceStats.Channel)
	case cmd.History != nil:
		r.History, r.Error = c.history(cmd.History)
	case cmd.Send != nil: // nobody is there to take it, and none is promised
		return true
	case cmd.Ping != nil:
		r.Ping = &protocol.PingResult{}
	case cmd.Rpc != nil: // no handler takes it
		r.Error = centrifugo.ErrorNotAvailable
	default: // what later versions of the protocol may have
		r.Error = centrifugo.ErrorMethodNotFound
	}
	c.answer(r)
	return true
}

// answer queues a reply.
func (c *conn) answer(r *protocol.Reply) {
	c.plant("answer")
	if c.mute() {
		return
	}
	o := c.output()
	o.compact()
	buf, err := centrifugo.AppendReply(o.buf, c.session().format, r)
	c.queued(buf, err)
}

// tell queues a push for this connection alone.
func (c *conn) tell(p *protocol.Push) {
	if c.mute() {
		return
	}
	o := c.output()
	o.compact()
	buf, err := centrifugo.AppendPush(o.buf, c.session().format, p)
	c.queued(buf, err)
}

// queued takes what was appended to the outbox's buffer.
func (c *conn) queued(buf []byte, err error) {
	if err != nil {
		c.loop.log.Error("connection closed: a reply cannot be encoded", "conn", c.id, "error", err)
		c.close(reasonInternal)
		return
	}
	c.out.buf = buf
	c.bound()
}

// fail queues the reply that a command failed.
func (c *conn) fail(r *protocol.Reply, err *protocol.Error) bool {
	r.Error = err
	c.answer(r)
	return true
}

// optionsOf returns a channel's options, or the error for a name that is none.
func (c *conn) optionsOf(name string) (*namespace.Options, *protocol.Error) {
	if handshake.ChannelName(name) != nil {
		return nil, centrifugo.ErrorBadRequest
	}
	o := c.loop.server.policy.Options(name)
	if o == nil {
		return nil, centrifugo.ErrorUnknownChannel
	}
	return o, nil
}

// may returns the error of a client that may not do op with a channel, nil if it may.
func (c *conn) may(op namespace.Op, name string) *protocol.Error {
	if handshake.ChannelName(name) != nil {
		return centrifugo.ErrorBadRequest
	}
	who := namespace.Who{User: c.session().user, Subscribed: c.find(name) != nil}
	switch c.loop.server.policy.May(op, name, who) {
	case nil:
		return nil
	case access.ErrUnknownChannel:
		return centrifugo.ErrorUnknownChannel
	case access.ErrUnavailable:
		return centrifugo.ErrorNotAvailable
	}
	return centrifugo.ErrorPermissionDenied
}

// publishCommand publishes for a client. false: the channel has no room.
func (c *conn) publishCommand(r *protocol.Reply, req *protocol.PublishRequest) bool {
	c.plant("publishCommand")
	ses, l := c.session(), c.loop
	if err := c.may(namespace.Publish, req.Channel); err != nil {
		return c.fail(r, err)
	}
	if c.has(bitListen) {
		return c.fail(r, centrifugo.ErrorPermissionDenied)
	}
	if len(req.Data) == 0 || req.Type != 0 || ses.format.Encoding == centrifugo.JSON && !utf8.Valid(req.Data) {
		return c.fail(r, centrifugo.ErrorBadRequest)
	}
	p := channel.Publication{Payload: req.Data, Binary: !utf8.Valid(req.Data), From: c.id}
	if hook := l.cfg.OnMessage; hook != nil {
		l.inHook = true
		publish := hook(Message{Channel: req.Channel, Payload: p.Payload, Binary: p.Binary, Conn: c.id})
		l.inHook = false
		if !publish {
			return c.fail(r, centrifugo.ErrorPermissionDenied)
		}
	}
	p.Extra = centrifugo.AppendExtra(nil, c.clientInfo(ses.detail(req.Channel).info), nil)
	return c.publish(req.Channel, nil, &p, r.Id)
}

// tokenError answers a client whose token was refused: with an error or, if only a new
// connection helps, by closing it. A unidirectional client has no command to answer: it is
// closed, and comes back.
func (c *conn) tokenError(r *protocol.Reply, err error) bool {
	uni := c.session().format.Uni
	var invalid *auth.InvalidError
	if errors.Is(err, auth.ErrExpired) {
		c.rejected(auth.ErrExpired.Error())
	}
	switch {
	case uni && errors.Is(err, auth.ErrExpired):
		c.close(reasonExpired)
		return true
	case errors.Is(err, auth.ErrExpired):
		return c.fail(r, centrifugo.ErrorTokenExpired)
	case errors.As(err, &invalid):
		c.rejected(invalid.Reason())
		c.close(reasonInvalidToken)
		return true
	case uni:
		c.close(reasonInternal)
		return true
	}
	return c.fail(r, centrifugo.ErrorInternal) // temporary: it comes again
}

// rejected logs why a token of the client is rejected.
func (c *conn) rejected(why string) {
	c.loop.server.tokenRejected(why, slog.Uint64("conn", c.id), slog.String("client", addressText(c.from())))
}

// connect is the first command of a connection. false: it has to wait.
func (c *conn) connect(id uint32, req *protocol.ConnectRequest) bool {
	c.plant("connect")
	r := &protocol.Reply{Id: id}
	var granted auth.Connection
	switch reads, err := c.loop.server.policy.Reads(req.Token); {
	case err != nil:
		c.rejected(err.Error())
		c.close(reasonInvalidToken)
		return true
	case reads:
		x, done := c.verify(req.Token, access.ConnectionToken)
		if !done {
			return false
		}
		if x.Err != nil {
			return c.tokenError(r, x.Err)
		}
		granted = x.Connection
	}
	c.connected(r, &granted, req)
	return true
}

// connected makes the connection that of a user, with the subscriptions that its token
// names, and tells it so.
func (c *conn) connected(r *protocol.Reply, granted *auth.Connection, req *protocol.ConnectRequest) {
	l, ses := c.loop, c.session()
	if req.Flag != 0 {
		req.Flag = 0 // none of the features that are asked for is there: none is answered
	}
	ses.info = granted.Info
	ses.setExpiry(granted.ExpireAt)
	l.identify(c, granted.User)
	subs, faulty := c.serverSubscriptions(granted, req)
	if faulty {
		return
	}
	result := &protocol.ConnectResult{
		Client: ses.id.String(), Version: l.server.version(), Ping: uint32(l.cfg.PingInterval / time.Second),
		Pong: l.cfg.PingInterval > 0 && !ses.format.Uni, Subs: make(map[string]*protocol.SubscribeResult, len(subs)),
	}
	result.Expires, result.Ttl = lifetime(ses.expireAt)
	for i := range subs {
		result.Subs[subs[i].name] = subs[i].result
	}
	if ses.format.Uni {
		c.tell(&protocol.Push{Connect: &protocol.Connect{Client: result.Client, Version: result.Version, Subs: result.Subs,
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
func lifetime(expireAt int64) (expires bool, ttl uint32) {
	if expireAt == 0 {
		return false, 0
	}
	return true, uint32(min(max(expireAt-time.Now().Unix(), 0), 1<<31))
}

// refresh takes a fresh token for the connection. false: it has to wait.
func (c *conn) refresh(r *protocol.Reply, req *protocol.RefreshRequest) bool {
	l, ses := c.loop, c.session()
	if l.server.policy.Tokens() == nil || req.Token == "" {
		return c.fail(r, centrifugo.ErrorBadRequest)
	}
	x, done := c.verify(req.Token, access.ConnectionToken)
	switch {
	case !done:
		return false
	case x.Err != nil:
		return c.tokenError(r, x.Err)
	case x.Connection.User != ses.user:
		c.rejected("the token belongs to another user")
		c.close(reasonInvalidToken)
		return true
	}
	ses.setExpiry(x.Connection.ExpireAt)
	if !bytes.Equal(ses.info, x.Connection.Info) {
		ses.info = x.Connection.Info
		c.showPresence("")
	}
	r.Refresh = &protocol.RefreshResult{Client: ses.id.String(), Version: l.server.version()}
	r.Refresh.Expires, r.Refresh.Ttl = lifetime(ses.expireAt)
	c.answer(r)
	c.wakeSession()
	return true
}

// subRefresh takes a fresh token for a subscription. false: it has to wait.
func (c *conn) subRefresh(r *protocol.Reply, req *protocol.SubRefreshRequest) bool {
	if c.loop.server.policy.Tokens() == nil || req.Token == "" || req.Type != 0 || c.find(req.Channel) == nil {
		return c.fail(r, centrifugo.ErrorBadRequest)
	}
	t, done := c.subscriptionToken(r, req.Token, req.Channel)
	if t == nil {
		return done
	}
	ses := c.session()
	known := ses.detail(req.Channel).info
	if ses.setDetail(req.Channel, detail{info: t.Info, expireAt: t.ExpireAt}); !bytes.Equal(known, t.Info) {
		c.showPresence(req.Channel)
	}
	r.SubRefresh = &protocol.SubRefreshResult{}
	r.SubRefresh.Expires, r.SubRefresh.Ttl = lifetime(t.ExpireAt)
	c.answer(r)
	c.wakeSession()
	return true
}

// subscriptionToken verifies a token for a channel. An invalid one fails its command only: the
// connection has other subscriptions, and a library does not come back after 3500. Where t is nil
// the command is answered or, if it is not done, has to wait.
func (c *conn) subscriptionToken(r *protocol.Reply, token, channel string) (t *auth.Subscription, done bool) {
	x, done := c.verify(token, access.SubscriptionToken)
	var invalid *auth.InvalidError
	switch {
	case !done:
		return nil, false
	case errors.As(x.Err, &invalid):
		c.rejected(invalid.Reason())
		return nil, c.fail(r, centrifugo.ErrorPermissionDenied)
	case x.Err != nil:
		return nil, c.tokenError(r, x.Err)
	}
	if why := access.Misfit(&x.Subscription, channel, c.session().user, c.session().id.String()); why != "" {
		c.rejected(why)
		c.close(reasonInvalidToken)
		return nil, true
	}
	return &x.Subscription, true
}

// setDetail notes what a subscription has beside its position.
func (ses *session) setDetail(channel string, d detail) {
	switch {
	case d.info == nil && d.expireAt == 0:
		delete(ses.details, channel)
		return
	case ses.details == nil:
		ses.details = make(map[string]*detail, 1)
	}
	ses.details[channel] = &d
}

// setExpiry notes until when the connection may stay.
func (ses *session) setExpiry(at int64) { ses.expireAt = at }

// onlyConnects takes the message of a client that is only sent to: its first one says
// who it is, and nothing else is expected. false: it has to wait.
func (c *conn) onlyConnects(op ws.OpCode, p, rest []byte) bool {
	ses := c.session()
	ses.again = false
	if c.has(bitIdentified) {
		return true
	}
	req, err := centrifugo.DecodeConnect(p)
	if err != nil {
		c.close(reasonBadCommand)
		return true
	}
	if !c.connect(0, req) {
		ses.again = true
		c.bits |= bitParked
		c.putOff(op, p, rest)
		return false
	}
	return true
}
