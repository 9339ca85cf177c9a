package gateway

import (
	"bytes"
	"context"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"sluice/gateway/api"
	"sluice/gateway/centrifugo"
	"sluice/gateway/channel"
	"sluice/gateway/edge/handshake"
	"sluice/gateway/presence"
)

// node does what the server's HTTP API asks for. What concerns connections goes to every
// loop as a message, and the answer is waited for: a loop finds a user's connections
// by its own table.
type node Server

// Publish implements api.Node.
func (n *node) Publish(ctx context.Context, r *api.PublishRequest) (api.PublishResult, error) {
	s := (*Server)(n)
	if err := n.known(r.Channel); err != nil {
		return api.PublishResult{}, err
	}
	p := channel.Publication{Payload: r.Payload, Binary: r.Binary, Passing: r.SkipHistory}
	if len(r.Tags) > 0 {
		p.Extra = centrifugo.AppendExtra(nil, nil, r.Tags)
	}
	receipt, err := s.publish(ctx, publishWait, r.Channel, p)
	if err != nil {
		if e := publishErrorOf(err); e.api != nil {
			err = e.forAPI(s.names)
		}
		return api.PublishResult{}, err
	}
	return api.PublishResult{Offset: receipt.Offset, Epoch: receipt.Epoch.String(), Subscribers: receipt.Subscribers}, nil
}

// known returns what is wrong with a channel's name, nil if nothing is.
func (n *node) known(name string) error {
	if e := (*Server)(n).known(name); e != nil {
		return e.forAPI(n.names)
	}
	return nil
}

// each does something with the connections of a user, of which client names one if it is
// not "", and waits until it is done.
func (n *node) each(ctx context.Context, user, client string, do func(l *loop, c *conn)) error {
	for _, err := range eachLoop(ctx, n.loop, n.stopped, func(l *loop) struct{} {
		l.eachOf(user, client, do)
		return struct{}{}
	}) {
		if err != nil {
			return loopError(err)
		}
	}
	return nil
}

// eachOf does something with the loop's connections of a user, of which client names one if
// it is not "".
func (l *loop) eachOf(user, client string, do func(l *loop, c *conn)) {
	var found []*conn // first, because what is done may end some
	for c := l.users[user]; c != nil; c = c.identity().next {
		if client == "" || c.identity().id.String() == client {
			found = append(found, c)
		}
	}
	for _, c := range found {
		if c.phase == phaseOpen {
			c.stepAsked(do)
		}
	}
}

// stepAsked does what the API asks of a connection. It is a method of the connection's, and
// not a function of the loop's, because a panic in it ends this connection alone.
func (c *conn) stepAsked(do func(l *loop, c *conn)) {
	defer c.contain()
	do(c.loop, c)
	c.flush()
	c.settle()
}

// loopError is an error of eachLoop as a caller of the API sees it.
func loopError(err error) error {
	if err == errLoopBusy || err == errStopping {
		return api.ErrInternal.With(err.Error()).Later(time.Second)
	}
	return err
}

// Subscribe implements api.Node.
func (n *node) Subscribe(ctx context.Context, r *api.SubscribeRequest) error {
	if err := n.known(r.Channel); err != nil {
		return err
	}
	a := &subscribeAction{channel: r.Channel, info: bytes.Clone(r.Info), data: bytes.Clone(r.Data), expireAt: r.ExpireAt}
	if r.RecoverSince != nil {
		a.recover, a.since = true, askSince(r.RecoverSince.Epoch, r.RecoverSince.Offset)
	}
	return n.each(ctx, r.User, r.Client, func(_ *loop, c *conn) { c.protocol().act(c, a) })
}

// Unsubscribe implements api.Node.
func (n *node) Unsubscribe(ctx context.Context, r *api.UnsubscribeRequest) error {
	name := r.Channel
	if name != "" && handshake.ChannelName(name) != nil {
		return errBadChannel.forAPI(n.names)
	}
	a := &unsubscribeAction{name}
	return n.each(ctx, r.User, r.Client, func(_ *loop, c *conn) { c.protocol().act(c, a) })
}

// Disconnect implements api.Node.
func (n *node) Disconnect(ctx context.Context, r *api.DisconnectRequest) error {
	spared := r.Whitelist
	a := &disconnectAction{}
	if d := r.Disconnect; d != nil {
		a.given, a.code, a.text = true, d.Code, d.Reason
	}
	return n.each(ctx, r.User, r.Client, func(_ *loop, c *conn) {
		if !slices.Contains(spared, c.identity().id.String()) {
			c.protocol().act(c, a)
		}
	})
}

// Refresh implements api.Node.
func (n *node) Refresh(ctx context.Context, r *api.RefreshRequest) error {
	a := &refreshAction{expired: r.Expired, expireAt: r.ExpireAt, info: bytes.Clone(r.Info)}
	return n.each(ctx, r.User, r.Client, func(_ *loop, c *conn) { c.protocol().act(c, a) })
}

// Presence implements api.Node.
func (n *node) Presence(_ context.Context, name string) (map[string]api.ClientInfo, error) {
	if err := n.presenceKnown(name); err != nil {
		return nil, err
	}
	all, _ := n.present.List(name, 1<<30)
	out := make(map[string]api.ClientInfo, len(all))
	for _, who := range all {
		out[who.Client] = clientInfo(who)
	}
	return out, nil
}

func clientInfo(who *presence.Info) api.ClientInfo {
	return api.ClientInfo{User: who.User, Client: who.Client, ConnInfo: who.ConnInfo, ChanInfo: who.ChanInfo}
}

func (n *node) presenceKnown(name string) error {
	s := (*Server)(n)
	if err := n.known(name); err != nil {
		return err
	}
	if !s.policy.Options(name).Presence {
		return api.ErrNotAvailable
	}
	return nil
}

// PresenceStats implements api.Node.
func (n *node) PresenceStats(_ context.Context, name string) (clients, users int, err error) {
	if err := n.presenceKnown(name); err != nil {
		return 0, 0, err
	}
	clients, users = n.present.Count(name)
	return clients, users, nil
}

// History implements api.Node.
func (n *node) History(_ context.Context, r *api.HistoryRequest) (api.HistoryResult, error) {
	s := (*Server)(n)
	if err := n.known(r.Channel); err != nil {
		return api.HistoryResult{}, err
	}
	if s.policy.Options(r.Channel).HistorySize == 0 {
		return api.HistoryResult{}, api.ErrNotAvailable
	}
	q := historyQuery{channel: r.Channel, limit: r.Limit, reverse: r.Reverse, most: -1}
	if r.Since != nil {
		since := askSince(r.Since.Epoch, r.Since.Offset)
		q.since = &since
	}
	kept, ok := s.kept(&q)
	if !ok {
		return api.HistoryResult{}, api.ErrUnrecoverablePosition
	}
	out := api.HistoryResult{Publications: []api.Publication{}, Epoch: kept.Newest.Epoch.String(), Offset: kept.Newest.Offset}
	for i := range kept.Publications {
		out.Publications = append(out.Publications, apiPublication(&kept.Publications[i]))
	}
	return out, nil
}

// apiPublication returns a publication as the API lists it: what is binary as bytes, and
// everything else as clients with JSON see it.
func apiPublication(p *channel.Publication) api.Publication {
	listed := centrifugo.Publication(centrifugo.JSON, p)
	out := api.Publication{Offset: p.Offset, Tags: listed.Tags}
	if p.Binary {
		out.B64Data = p.Payload
	} else {
		out.Data = []byte(listed.Data)
	}
	if i := listed.Info; i != nil {
		out.Info = &api.ClientInfo{User: i.User, Client: i.Client, ConnInfo: []byte(i.ConnInfo), ChanInfo: []byte(i.ChanInfo)}
	}
	return out
}

// HistoryRemove implements api.Node.
func (n *node) HistoryRemove(_ context.Context, name string) error {
	s := (*Server)(n)
	if err := n.known(name); err != nil {
		return err
	}
	if ch := s.space.Find(name); ch != nil {
		ch.ForgetHistory()
	}
	return nil
}

// patternBytesMax bounds the pattern of Channels: each channel's name is held against it.
const patternBytesMax = 1 << 10

// Channels implements api.Node. In a pattern * and ? stand for runs of characters and for
// one, and [a-z] for one of them (path.Match), of which none is special in a name.
func (n *node) Channels(_ context.Context, pattern string) (map[string]int, error) {
	plain := func(s string) string { return strings.ReplaceAll(s, "/", "\x00") } // no name has that
	if len(pattern) > patternBytesMax {
		return nil, api.ErrBadRequest.With("pattern is too long")
	}
	pattern = plain(pattern)
	if _, err := path.Match(pattern, ""); err != nil {
		return nil, api.ErrBadRequest.With("malformed pattern: see channels in GET /api/openapi.json")
	}
	out := map[string]int{}
	n.space.Each(func(name string, subscribers int) {
		if subscribers > 0 {
			out[name] = subscribers
		}
	})
	for name := range out {
		if fits, _ := path.Match(pattern, plain(name)); !fits && pattern != "" { // its only error was looked for
			delete(out, name)
		}
	}
	return out, nil
}

// census is what only a loop knows.
type census struct {
	users []string
	subs  int
}

func (l *loop) census() census {
	c := census{users: slices.Collect(maps.Keys(l.users))}
	for _, g := range l.groups {
		c.subs += len(g.subs) - g.holes
	}
	return c
}

// Info implements api.Node.
func (n *node) Info(ctx context.Context) (api.InfoResult, error) {
	different, subscriptions := map[string]struct{}{}, 0
	for c, err := range eachLoop(ctx, n.loop, n.stopped, (*loop).census) {
		if err != nil {
			return api.InfoResult{}, loopError(err)
		}
		for _, user := range c.users {
			different[user] = struct{}{}
		}
		subscriptions += c.subs
	}
	channels := 0
	n.space.Each(func(_ string, subscribers int) {
		if subscribers > 0 {
			channels++
		}
	})
	return api.InfoResult{Nodes: []api.NodeInfo{{
		UID: n.uid, Name: n.cfg.Name, Version: n.cfg.Version, NumClients: int(n.connections.Load()), NumUsers: len(different), NumSubs: subscriptions,
		NumChannels: channels, Uptime: int(time.Since(n.started) / time.Second),
	}}}, nil
}

// apiFailed logs what the caller of the API is only told is an internal error.
func (s *Server) apiFailed(method string, err error) {
	s.cfg.Logger.Error("API request failed", "method", method, "error", err.Error())
}

// apiBodyMax bounds a request of the API: a message in base64, as JSON, with room for
// everything else, and a batch of small ones.
func (c *Config) apiBodyMax() int64 { return max(4<<20, 8*int64(c.MaxMessage)) }
