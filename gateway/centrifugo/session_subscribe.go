package centrifugo

import (
	"errors"
	"maps"
	"slices"

	"sluice/gateway/access/auth"
	"sluice/gateway/access/namespace"
	"sluice/gateway/channel"
	"sluice/gateway/hook"
	"sluice/gateway/loop"

	"github.com/centrifugal/protocol"
)

// recoverMax bounds the missed publications in a reply. A client that has missed more
// gets recovered: false.
const recoverMax = 300

// bits of a subscription.
const (
	// refServer: the server subscribed the client, by its token or the API.
	refServer uint8 = 1 << iota
	// refPresent: it is in the presence table.
	refPresent
	// refAnnounced: the channel was told of the join.
	refAnnounced
	// refOverridden: a hook has overridden options of the namespace. Then refShows and refAnnounces say whether the client is
	// to be in the presence table, and whether its join and leave are announced.
	refOverridden
	refShows
	refAnnounces
	// refByRules: nothing but the namespace's options allows it, so that it ends when they do not any more.
	refByRules
)

// subscription is one that is settled and has not begun: nothing may happen to its
// group, and no publication reach the log, before it does.
type subscription struct {
	name   string
	group  *loop.Group
	live   uint64 // cursor in the group's log
	flags  uint8
	detail detail
	result *protocol.SubscribeResult
	listed int // bytes that its publications take in a reply
}

// wish is what a subscriber asks for.
type wish struct {
	recovers, recover, positions, joins bool
	whole                               bool // recovers all that it missed, or does not subscribe
	since                               channel.Ask
	detail                              detail
	server                              bool
	byRules                             bool                   // nothing but the namespace allows it
	by                                  *hook.SubscribeOptions // what a hook says of it; nil for nothing
}

func wishOf(req *protocol.SubscribeRequest) wish {
	w := wish{recovers: req.Recoverable || req.Recover, recover: req.Recover, positions: req.Positioned, joins: req.JoinLeave}
	w.since = loop.AskSince(req.Epoch, req.Offset)
	return w
}

// wishesOf returns what a client asks for in the channels to which its token may subscribe it.
func wishesOf(req *protocol.ConnectRequest) map[string]wish {
	if len(req.Subs) == 0 {
		return nil
	}
	all := make(map[string]wish, len(req.Subs))
	for name, asked := range req.Subs {
		if asked != nil {
			all[name] = wishOf(asked)
		}
	}
	return all
}

// listedBytes is about what a publication takes in a reply.
func listedBytes(p *protocol.Publication) int {
	n := 64 + len(p.Data)
	for key, value := range p.Tags {
		n += 8 + len(key) + len(value)
	}
	if p.Info != nil {
		n += infoBytes(p.Info.User, p.Info.ConnInfo, p.Info.ChanInfo)
	}
	return n
}

// infoBytes is about what a ClientInfo takes in a reply.
func infoBytes(user string, conn, channel []byte) int {
	return 128 + len(user) + len(conn) + len(channel)
}

// subscribe is a client's own wish.
func (c clientConn) subscribe(r *protocol.Reply, req *protocol.SubscribeRequest) loop.Wait {
	c.Plant("subscribe")
	o, err := c.optionsOf(req.Channel)
	switch {
	case err != nil:
		return c.fail(r, err)
	case !o.Fits(req.Channel):
		return c.fail(r, ErrorBadRequest)
	case req.Tf != nil || req.Type != 0 || req.Phase != 0: // it would be told more than it asks for
		return c.fail(r, ErrorNotAvailable)
	}
	if err = c.mayJoin(req.Channel); err != nil {
		return c.fail(r, err)
	}
	w := wishOf(req)
	w.whole = req.Flag&FlagRejectUnrecovered != 0
	policy := c.protocol.Policy
	reads, noKey := policy.Reads(req.Token)
	if noKey == nil && !reads {
		if h := c.subscribeHook(o, req.Channel); h != nil {
			return c.askToSubscribe(h, r.Id, req, o, w)
		}
	}
	switch {
	case noKey != nil, !reads && !policy.MaySubscribe(o, req.Channel, c.User):
		return c.fail(r, ErrorPermissionDenied)
	case !reads:
		w.byRules = true
		return c.join(r, req.Channel, o, w)
	}
	return c.verifySubscription(r, req.Token, req.Channel, req.SizeVT(), func(t *auth.Subscription) loop.Wait {
		if err := c.mayJoin(req.Channel); err != nil { // the API may have subscribed it meanwhile
			return c.fail(r, err)
		}
		w.detail = detail{info: t.Info, expireAt: t.ExpireAt, key: t.Key}
		return c.join(r, req.Channel, o, w)
	})
}

// mayJoin returns the error of a client that may not have a channel, or one more; nil for none.
func (c clientConn) mayJoin(name string) *protocol.Error {
	switch {
	case c.Find(name) != nil:
		return ErrorAlreadySubscribed
	case c.Refs() >= c.protocol.Policy.ChannelLimit():
		return ErrorLimitExceeded
	}
	return nil
}

// join subscribes a client that may have the channel.
func (c clientConn) join(r *protocol.Reply, name string, o *namespace.Options, w wish) loop.Wait {
	if c.Loop().Space().Local(name) {
		return c.joins(r, name, o, w, nil)
	}
	id := r.Id // not r, which is large
	return c.Prepare(func(unready error) loop.Wait {
		return c.joins(&protocol.Reply{Id: id}, name, o, w, unready)
	}, loop.Wanted{Channel: name, Ask: w.ask(o, c.User)})
}

// joins subscribes a client whose channel is ready, or cannot be made ready.
func (c clientConn) joins(r *protocol.Reply, name string, o *namespace.Options, w wish, unready error) loop.Wait {
	err := c.mayJoin(name) // the API may have subscribed it meanwhile
	var s subscription
	switch {
	case unready != nil:
		err = unreadyError(unready)
	case err == nil:
		s, err = c.settleSubscription(name, o, w, c.Room())
	}
	if err != nil {
		return c.fail(r, err)
	}
	r.Subscribe = s.result
	c.answer(r)
	c.begin(&s)
	return nil
}

// unreadyError is the error of a client whose channel cannot be made ready.
func unreadyError(err error) *protocol.Error {
	if errors.Is(err, channel.ErrTooManyChannels) {
		return ErrorTooManyRequests // temporary
	}
	return ErrorInternal // temporary, too
}

// ask returns the position from which a user's subscription begins.
func (w *wish) ask(o *namespace.Options, user string) channel.Ask {
	recovers := o.HistorySize > 0 && o.Recovers(user, w.recovers)
	switch {
	case recovers && o.ForceRecoveryMode == namespace.Cache:
		return channel.Ask{Kind: channel.AskNewest, N: 1}
	case recovers && w.recover:
		return w.since
	}
	return channel.Ask{Kind: channel.AskNow}
}

// settleSubscription finds out where a subscription begins, with what the client missed
// where it recovers: both while the channel's lock is held once. What would take more than
// room bytes of the reply counts as not recovered. begin is due next.
func (c clientConn) settleSubscription(name string, o *namespace.Options, w wish, room int) (subscription, *protocol.Error) {
	c.Plant("settleSubscription")
	l := c.Loop()
	f := c.format
	f.Joins = c.protocol.Policy.PushesJoinLeave(o, c.User, w.joins)
	g, err := c.Group(name, f.Shared())
	if err != nil {
		return subscription{}, ErrorTooManyRequests // temporary: too many channels
	}
	if c.announcer().full(g.Log().Channel()) {
		l.EndIfEmpty(g)
		return subscription{}, ErrorTooManyRequests // temporary: until the channel has room
	}
	if o.JoinLeave && !g.Log().Channel().MayJoin(l.Time().UnixMilli()) && !w.server {
		l.EndIfEmpty(g)
		return subscription{}, ErrorTooManyRequests // temporary: as many as can come in a second
	}
	s := subscription{name: g.Channel(), group: g, detail: w.detail, result: &protocol.SubscribeResult{}}
	if w.server {
		s.flags |= refServer
	}
	if w.byRules {
		s.flags |= refByRules
	}
	recovers := o.HistorySize > 0 && o.Recovers(c.User, w.recovers)
	s.result.Recoverable = recovers
	s.result.Positioned = recovers || o.HistorySize > 0 && o.Positions(c.User, w.positions)
	if c.subRefreshHook(name) == nil {
		s.result.Expires, s.result.Ttl = c.lifetime(w.detail.expireAt)
	}
	if w.by != nil {
		s.result.Data = Raw(f.Encoding, w.by.Data)
		s.flags |= overridden(o)
	}
	cache := recovers && o.ForceRecoveryMode == namespace.Cache
	most := channel.Bounds{Count: recoverMax, Bytes: max(min(c.protocol.MaxPending/2, room), 1)}
	kept, live := g.Collect(w.ask(o, c.User), most, l.Time().UnixMilli())
	s.live = live
	if s.result.Positioned {
		s.result.Epoch, s.result.Offset = kept.Newest.Epoch.String(), kept.Newest.Offset
	}
	if !cache && (kept.Gap || kept.More) {
		kept.Publications = nil // a part of them would be of no use
	}
	for i := range kept.Publications {
		p := Publication(f.Encoding, &kept.Publications[i])
		n := listedBytes(p)
		if s.listed+n > room {
			kept.More = true
			break
		}
		s.listed += n
		s.result.Publications = append(s.result.Publications, p)
	}
	if cache && len(kept.Publications) == 0 {
		c.CacheEmpty(s.name)
	}
	if recovers && w.recover {
		s.result.WasRecovering = true
		has := w.since.At == kept.Newest
		if cache {
			s.result.Recovered = has || len(s.result.Publications) > 0
		} else {
			s.result.Recovered = !kept.Gap && !kept.More
		}
		if s.result.Recovered && !cache {
			// The client's own position, as Centrifugo gives it: libraries move on from it with each
			// publication that their application took, and lose none should it fail midway.
			s.result.Offset = w.since.At.Offset
		}
		if s.result.Recovered {
			l.Stats().Recoveries.Add(1)
		} else {
			l.Stats().Gaps.Add(1)
		}
		if w.whole && !cache && !s.result.Recovered {
			l.EndIfEmpty(g)
			return subscription{}, ErrorUnrecoverablePosition
		}
		if !s.result.Recovered || cache && has {
			s.result.Publications, s.listed = nil, 0
		}
	}
	l.Stats().Recalled.Add(uint64(len(s.result.Publications)))
	return s, nil
}

// begin lets a subscription that was settled begin. The client was told so before.
func (c clientConn) begin(s *subscription) {
	c.Plant("begin subscription")
	l := c.Loop()
	if !c.Open() { // the reply was too much
		l.EndIfEmpty(s.group)
		return
	}
	if c.setDetail(s.name, s.detail); s.detail.expireAt > 0 {
		c.wakeSession()
	}
	l.Stats().Subscribed.Add(1)
	c.Enter(s.group, s.live, s.flags)
}

// Joined implements loop.Protocol.
func (p *Protocol) Joined(conn *loop.Conn, r *loop.Ref) {
	name := r.Channel()
	o := p.Policy.Options(name)
	if o == nil {
		return
	}
	flags, present, announced := r.Flags(), o.Presence, o.JoinLeave
	if *flags&refOverridden != 0 {
		present, announced = *flags&refShows != 0, *flags&refAnnounces != 0
	}
	if !present && !announced {
		return
	}
	c := p.Client(conn)
	info := c.who(name)
	if present {
		*flags |= refPresent
		p.Presence.Add(name, c.ID(), info)
	}
	if announced {
		*flags |= refAnnounced
		c.announcer().announce(c.Loop(), channel.KindJoin, r.Group().Log().Channel(), info)
	}
}

// who returns the client's info in a channel.
func (c clientConn) who(name string) *channel.ClientInfo {
	return &channel.ClientInfo{User: c.User, Client: c.session.ID.String(), ConnInfo: c.Info, ChanInfo: c.detail(name).info}
}

// showPresence brings the presence table in line with what a fresh token says of the client;
// with name "" in all channels.
func (c clientConn) showPresence(name string) {
	for i := range c.Refs() {
		r := c.Ref(i)
		if known := r.Channel(); *r.Flags()&refPresent != 0 && (name == "" || name == known) {
			c.protocol.Presence.Add(known, c.ID(), c.who(known))
		}
	}
}

// Left implements loop.Protocol: who was there is not there any more. The leave of a client that comes back elsewhere
// is not announced: it would be gone for a moment.
func (p *Protocol) Left(conn *loop.Conn, r *loop.Ref) {
	flags := *r.Flags()
	if flags&(refPresent|refAnnounced) == 0 {
		return
	}
	c, name := p.Client(conn), r.Channel()
	if flags&refPresent != 0 {
		p.Presence.Remove(name, c.ID())
	}
	if flags&refAnnounced != 0 && !conn.ComesBack() {
		c.announcer().announce(conn.Loop(), channel.KindLeave, r.Group().Log().Channel(), c.who(name))
	}
	*r.Flags() &^= refPresent | refAnnounced
}

// unsubscribe ends a subscription. If push is not nil, the client is sent it; the reply to its
// own command follows.
func (c clientConn) unsubscribe(name string, push *protocol.Unsubscribe) {
	c.drop(name, loop.ReasonUnsubscribed, push)
}

// drop is unsubscribe for a reason of which what the log still has is counted as dropped.
func (c clientConn) drop(name string, why loop.Reason, push *protocol.Unsubscribe) {
	c.Plant("unsubscribe")
	i := c.Place(name)
	if i < 0 {
		return
	}
	if push != nil {
		c.DropAs(i, why, push.Code, push.Reason)
	} else {
		c.Drop(i, why)
	}
	if d := c.details[name]; d != nil && d.cancel != nil {
		d.cancel()
	}
	delete(c.details, name)
	if push != nil {
		c.tell(&protocol.Push{Channel: name, Unsubscribe: push})
	}
}

// distinct returns the names without those that are there before, in their order. There may be thousands.
func distinct(names []string) []string {
	seen := make(map[string]bool, len(names))
	return slices.DeleteFunc(names, func(name string) bool {
		again := seen[name]
		seen[name] = true
		return again
	})
}

// serverWish is a subscription that a connection's token names.
type serverWish struct {
	wish
	name string
	o    *namespace.Options
}

// serverWishes returns the subscriptions that a connection's token or a hook names, and that to the user's personal channel,
// or what is wrong with them.
func (c clientConn) serverWishes(granted *hook.ConnectResult, asked map[string]wish) (all []serverWish, _ *protocol.Error) {
	names := slices.AppendSeq(slices.Clone(granted.Channels), maps.Keys(granted.Subs))
	personal, _ := c.protocol.Policy.Personal(granted.User)
	if personal != "" {
		names = append(names, personal)
	}
	names = distinct(names)
	if len(names) > c.protocol.Policy.ChannelLimit() {
		return nil, ErrorLimitExceeded
	}
	for _, name := range names {
		o, err := c.optionsOf(name)
		if err != nil {
			return nil, err
		}
		w, ok := asked[name]
		if !ok {
			w = wish{recovers: true, positions: true}
		}
		w.server = true
		if by, ok := granted.Subs[name]; ok && name != personal {
			o = w.decided(o, &by)
		}
		all = append(all, serverWish{w, name, o})
	}
	return all, nil
}

// serverSubscriptions settles the subscriptions that a connection's token names. Where one
// of them cannot be, the connection ends: false.
func (c clientConn) serverSubscriptions(wishes []serverWish) (all []subscription, ok bool) {
	room := c.Room()
	for _, w := range wishes {
		s, err := c.settleSubscription(w.name, w.o, w.wish, room)
		if err != nil {
			for i := range all {
				c.Loop().EndIfEmpty(all[i].group)
			}
			c.Close(loop.ReasonChannels)
			return nil, false
		}
		room -= s.listed + len(w.name) + 128
		all = append(all, s)
	}
	return all, true
}
