package gateway

import (
	"slices"
	"time"

	"sluice/gateway/access/auth"
	"sluice/gateway/access/namespace"
	"sluice/gateway/centrifugo"
	"sluice/gateway/channel"
	"sluice/gateway/presence"

	"github.com/centrifugal/protocol"
)

const (
	// sessionChannelsMax bounds the subscriptions of one connection.
	sessionChannelsMax = 128
	// recoverMax bounds the missed publications in a reply. A client that has missed more
	// gets recovered: false.
	recoverMax = 300
)

// bits of a subscription.
const (
	// refServer: the server subscribed the client, by its token or the API.
	refServer uint8 = 1 << iota
	// refPresent: it is in the presence table.
	refPresent
	// refAnnounced: the channel was told of the join.
	refAnnounced
)

// subscription is one that is settled and has not begun: nothing may happen to its
// group, and no publication reach the log, before it does.
type subscription struct {
	name   string
	group  *group
	live   uint64 // position in the group's log
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
}

func wishOf(req *protocol.SubscribeRequest) wish {
	w := wish{recovers: req.Recoverable || req.Recover, recover: req.Recover, positions: req.Positioned, joins: req.JoinLeave}
	w.since = askSince(req.Epoch, req.Offset)
	return w
}

// room returns the bytes that a reply may list. Beside payloads there are infos, and JSON may
// take six bytes for one: a client is not to be cut off for what it asks for, whatever
// others have published.
func (c *conn) room() int { return c.loop.cfg.MaxPending - pendingSlack - c.pending() }

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

// subscribe is a client's own wish. false: it has to wait.
func (c *conn) subscribe(r *protocol.Reply, req *protocol.SubscribeRequest) bool {
	c.plant("subscribe")
	ses := c.session()
	o, err := c.optionsOf(req.Channel)
	switch {
	case err != nil:
		return c.fail(r, err)
	case req.Tf != nil || req.Type != 0 || req.Phase != 0: // it would be told more than it asks for
		return c.fail(r, centrifugo.ErrorNotAvailable)
	case c.find(req.Channel) != nil:
		return c.fail(r, centrifugo.ErrorAlreadySubscribed)
	case c.refs() >= sessionChannelsMax:
		return c.fail(r, centrifugo.ErrorLimitExceeded)
	}
	w := wishOf(req)
	w.whole = req.Flag&centrifugo.FlagRejectUnrecovered != 0
	policy := c.loop.server.policy
	reads, noKey := policy.Reads(req.Token)
	switch {
	case noKey != nil, !reads && !policy.MaySubscribe(o, req.Channel, ses.user):
		return c.fail(r, centrifugo.ErrorPermissionDenied)
	case reads:
		t, done := c.subscriptionToken(r, req.Token, req.Channel)
		if t == nil {
			return done
		}
		w.detail = detail{info: t.Info, expireAt: t.ExpireAt}
	}
	s, err := c.settleSubscription(req.Channel, o, w, c.room())
	if err != nil {
		return c.fail(r, err)
	}
	r.Subscribe = s.result
	c.answer(r)
	c.begin(&s)
	return true
}

// settleSubscription finds out where a subscription begins, with what the client missed
// where it recovers: both while the channel's lock is held once. What would take more than
// room bytes of the reply counts as not recovered. begin is due next.
func (c *conn) settleSubscription(name string, o *namespace.Options, w wish, room int) (subscription, *protocol.Error) {
	c.plant("settleSubscription")
	l, ses := c.loop, c.session()
	f := ses.format
	f.Joins = l.server.policy.PushesJoinLeave(o, ses.user, w.joins)
	g, err := l.group(name, f.Shared())
	if err != nil {
		return subscription{}, centrifugo.ErrorTooManyRequests // temporary: too many channels
	}
	if a := l.waiting[g.Log().Channel()]; a != nil && len(a.waiting) >= announcingMax {
		l.endIfEmpty(g)
		return subscription{}, centrifugo.ErrorTooManyRequests // temporary: until the channel has room
	}
	if o.JoinLeave && !g.Log().Channel().MayJoin(time.Now().UnixMilli()) && !w.server {
		l.endIfEmpty(g)
		return subscription{}, centrifugo.ErrorTooManyRequests // temporary: as many as can come in a second
	}
	s := subscription{name: g.key.channel, group: g, detail: w.detail, result: &protocol.SubscribeResult{}}
	if w.server {
		s.flags |= refServer
	}
	recovers := o.HistorySize > 0 && o.Recovers(ses.user, w.recovers)
	s.result.Recoverable = recovers
	s.result.Positioned = recovers || o.HistorySize > 0 && o.Positions(ses.user, w.positions)
	s.result.Expires, s.result.Ttl = lifetime(w.detail.expireAt)
	ask, most := channel.Ask{Kind: channel.AskNow}, channel.Bounds{Count: recoverMax, Bytes: max(min(l.cfg.MaxPending/2, room), 1)}
	cache := recovers && o.ForceRecoveryMode == namespace.Cache
	switch {
	case cache:
		ask = channel.Ask{Kind: channel.AskNewest, N: 1}
	case recovers && w.recover:
		ask = w.since
	}
	kept, live := g.Collect(ask, most, time.Now().UnixMilli())
	s.live = live
	if s.result.Positioned {
		s.result.Epoch, s.result.Offset = kept.Newest.Epoch.String(), kept.Newest.Offset
	}
	if !cache && (kept.Gap || kept.More) {
		kept.Publications = nil // a part of them would be of no use
	}
	for i := range kept.Publications {
		p := centrifugo.Publication(f.Encoding, &kept.Publications[i])
		n := listedBytes(p)
		if s.listed+n > room {
			kept.More = true
			break
		}
		s.listed += n
		s.result.Publications = append(s.result.Publications, p)
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
			// The client's own place, as Centrifugo gives it: libraries move on from it with each
			// publication that their application took, and lose none should it fail midway.
			s.result.Offset = w.since.At.Offset
		}
		if s.result.Recovered {
			l.stats.recoveries.Add(1)
		} else {
			l.stats.gaps.Add(1)
		}
		if w.whole && !cache && !s.result.Recovered {
			l.endIfEmpty(g)
			return subscription{}, centrifugo.ErrorUnrecoverablePosition
		}
		if !s.result.Recovered || cache && has {
			s.result.Publications, s.listed = nil, 0
		}
	}
	l.stats.recalled.Add(uint64(len(s.result.Publications)))
	return s, nil
}

// begin lets a subscription that was settled begin. The client was told so before.
func (c *conn) begin(s *subscription) {
	c.plant("begin subscription")
	l, ses := c.loop, c.session()
	if c.phase != phaseOpen { // the reply was too much
		l.endIfEmpty(s.group)
		return
	}
	l.enter(c, s.group, s.live)
	l.stats.subscribed.Add(1)
	r := c.ref(c.refs() - 1)
	flags := &r.sub().flags
	*flags = s.flags
	if ses.setDetail(s.name, s.detail); s.detail.expireAt > 0 {
		c.wakeSession()
	}
	o := l.server.policy.Options(s.name)
	if o == nil || !o.Presence && !o.JoinLeave {
		return
	}
	info := c.who(s.name)
	if o.Presence {
		*flags |= refPresent
		l.server.present.Add(s.name, c.id, info)
	}
	if o.JoinLeave {
		*flags |= refAnnounced
		l.announce(channel.KindJoin, s.group.Log().Channel(), info)
	}
}

// who returns the client's info in a channel.
func (c *conn) who(name string) *presence.Info {
	ses := c.session()
	return &presence.Info{User: ses.user, Client: ses.id.String(), ConnInfo: ses.info, ChanInfo: ses.detail(name).info}
}

// showPresence brings the presence table in line with what a fresh token says of the client;
// with name "" in all channels.
func (c *conn) showPresence(name string) {
	for i := range c.refs() {
		r := c.ref(i)
		if known := r.group.key.channel; r.sub().flags&refPresent != 0 && (name == "" || name == known) {
			c.loop.server.present.Add(known, c.id, c.who(known))
		}
	}
}

// left implements connProtocol: who was there is not there any more.
func (centrifugoProtocol) left(c *conn, r *ref) {
	flags := r.sub().flags
	if flags&(refPresent|refAnnounced) == 0 {
		return
	}
	l, name := c.loop, r.group.key.channel
	if flags&refPresent != 0 {
		l.server.present.Remove(name, c.id)
	}
	if flags&refAnnounced != 0 && !l.stopping { // at the end everybody leaves, and nobody needs to be told
		l.announce(channel.KindLeave, r.group.Log().Channel(), c.who(name))
	}
	r.sub().flags = 0
}

// unsubscribe ends a subscription. If push is not nil, the client is sent it; the reply to its
// own command follows.
func (c *conn) unsubscribe(name string, push *protocol.Unsubscribe) {
	c.plant("unsubscribe")
	for i := range c.refs() {
		if r := c.ref(i); r.group.key.channel == name {
			c.drop(i, reasonUnsubscribed)
			delete(c.session().details, name)
			if push != nil {
				c.tell(&protocol.Push{Channel: name, Unsubscribe: push})
			}
			return
		}
	}
}

// serverSubscriptions settles the subscriptions that a connection's token names. Where one
// of them cannot be, the connection ends, because nobody could tell it so: faulty.
func (c *conn) serverSubscriptions(granted *auth.Connection, req *protocol.ConnectRequest) (all []subscription, faulty bool) {
	names := slices.Clone(granted.Channels)
	for name := range granted.Subs {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	end := func(why reason) ([]subscription, bool) {
		for i := range all {
			c.loop.endIfEmpty(all[i].group)
		}
		c.close(why)
		return nil, true
	}
	if len(names) > sessionChannelsMax {
		return end(reasonChannelLimit)
	}
	room := c.room()
	for _, name := range names {
		o, err := c.optionsOf(name)
		if err != nil {
			c.rejected("it names a channel that is malformed or in an unknown namespace")
			return end(reasonInvalidToken)
		}
		w := wish{recovers: true, positions: true}
		if asked := req.Subs[name]; asked != nil {
			w = wishOf(asked)
		}
		w.server, w.detail.info = true, granted.Subs[name].Info
		s, err := c.settleSubscription(name, o, w, room)
		if err != nil {
			return end(reasonChannels)
		}
		room -= s.listed + len(name) + 128
		all = append(all, s)
	}
	return all, false
}
