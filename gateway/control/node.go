// Package control is what acts on all loops: the server API's [Node], and what the internal
// listener asks for, among it the list of connections for an operator.
//
// A request for connections goes to every loop as a message, and the answer is waited for. What a
// connection does about it is its protocol's.
//
// The package does not know protocols, or listeners for clients.
package control

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"math"
	"path"
	"slices"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"sluice/gateway/access"
	"sluice/gateway/api"
	"sluice/gateway/channel"
	"sluice/gateway/engine"
	"sluice/gateway/loop"
)

// Node does what the server's HTTP API asks for. What concerns connections goes to every
// loop as a message, and the answer is waited for: a loop finds a user's connections
// by its own table.
type Node struct {
	Set       *loop.Set
	Space     *channel.Space
	Policy    *access.Policy
	Engine    engine.Engine
	Publisher *engine.Publisher
	// Connections returns how many clients are connected.
	Connections func() int64
	// Draining reports whether the server shuts down.
	Draining func() bool
	// Events reports whether the server has receivers of events; nil for one that has not.
	Events func() bool
	// AppendJSON appends a payload, text or binary, as clients with JSON see it.
	AppendJSON func(dst, payload []byte, binary bool) []byte
	// Text names the settings in a text as the operator knows them.
	Text              func(text string) string
	ID, Name, Version string // this node's
	Started           time.Time

	busiest   busiest
	answering atomic.Int64 // questions of other nodes
}

// PublishWait is how long an HTTP publish waits for a channel that pushes back.
const PublishWait = 250 * time.Millisecond

// Publish implements api.Node.
func (n *Node) Publish(ctx context.Context, r *api.PublishRequest) (api.PublishResult, error) {
	if err := n.known(r.Channel); err != nil {
		return api.PublishResult{}, err
	}
	p := channel.Publication{Payload: r.Payload, Binary: r.Binary, Passing: r.SkipHistory, Extra: channel.AppendTags(nil, r.Tags), ID: r.ID}
	receipt, err := n.Publisher.Publish(ctx, PublishWait, r.Channel, p)
	if err != nil {
		if f := engine.FaultOf(err); f != engine.Unpublished {
			err = n.fault(f)
		}
		return api.PublishResult{}, err
	}
	return api.PublishResult{Offset: receipt.Offset, Epoch: receipt.Epoch.String(), Subscribers: receipt.Subscribers}, nil
}

// known returns what is wrong with a channel's name, nil if nothing is.
func (n *Node) known(name string) error {
	switch {
	case !channel.ValidName(name):
		return n.fault(engine.BadChannel)
	case n.Policy.Options(name) == nil:
		return n.fault(engine.UnknownChannel)
	}
	return nil
}

// apiErrors are the API's errors for publish faults.
var apiErrors = [engine.FaultCount]*api.Error{
	engine.BadChannel:     api.ErrBadRequest,
	engine.UnknownChannel: api.ErrUnknownChannel,
	engine.BadText:        api.ErrBadRequest,
	engine.TooBig:         api.ErrLimitExceeded,
	engine.Unfit:          api.ErrLimitExceeded,
	engine.RateReached:    api.ErrTooManyRequests,
	engine.PushedBack:     api.ErrInternal.Later(time.Second),
	engine.Unavailable:    api.ErrInternal.Later(time.Second),
	engine.Away:           api.ErrInternal.Later(time.Second),
	engine.Unpublished:    api.ErrInternal,
}

// fault returns the API's error for a publish fault.
func (n *Node) fault(f engine.Fault) *api.Error {
	if f == engine.UnknownChannel {
		return apiErrors[f] // as Centrifugo words it
	}
	return apiErrors[f].With(n.Text(f.Text()))
}

// engineError is an error of the engine as a caller of the API sees it.
func engineError(err error) error {
	switch {
	case errors.Is(err, engine.ErrEpoch):
		return api.ErrUnrecoverablePosition
	case errors.Is(err, engine.ErrUnavailable):
		return api.ErrInternal.With("the engine is unavailable or did not answer in time").Later(time.Second)
	}
	return err
}

// act lets the connections of a user act, of which client names one if it is not "", and waits
// until it is done. Those of the clients in spared do not.
func (n *Node) act(ctx context.Context, user, client string, spared []string, a loop.Action) (api.Empty, error) {
	for _, err := range loop.EachLoop(ctx, n.Set, func(l *loop.Loop) struct{} {
		l.Act(user, client, spared, a)
		return struct{}{}
	}) {
		if err != nil {
			return api.Empty{}, loopError(err)
		}
	}
	return api.Empty{}, nil
}

// loopError is an error of eachLoop as a caller of the API sees it.
func loopError(err error) error {
	if err == loop.ErrLoopBusy || err == loop.ErrStopping {
		return api.ErrInternal.With(err.Error()).Later(time.Second)
	}
	return err
}

// Subscribe implements api.Node.
func (n *Node) Subscribe(ctx context.Context, r *api.SubscribeRequest) (api.ActionResult, error) {
	if err := n.known(r.Channel); err != nil {
		return api.ActionResult{}, err
	}
	return actEverywhere(ctx, n, "subscribe", r, (*Node).subscribe)
}

func (n *Node) subscribe(ctx context.Context, r *api.SubscribeRequest) (api.Empty, error) {
	a := &loop.SubscribeAction{Channel: r.Channel, Info: bytes.Clone(r.Info), Data: bytes.Clone(r.Data), ExpireAt: r.ExpireAt}
	if r.RecoverSince != nil {
		a.Recover, a.Since = true, loop.AskSince(r.RecoverSince.Epoch, r.RecoverSince.Offset)
	}
	// A channel whose history is elsewhere is not there at once.
	var failed error
	_, err := engine.Wait(ctx, func(done func(struct{}, error)) {
		a.Pending = loop.NewPending(func(err error) { done(struct{}{}, err) })
		_, failed = n.act(ctx, r.User, r.Client, nil, a)
		a.Pending.End(nil)
	})
	if failed == nil {
		failed = engineError(err)
	}
	return api.Empty{}, failed
}

// Unsubscribe implements api.Node.
func (n *Node) Unsubscribe(ctx context.Context, r *api.UnsubscribeRequest) (api.ActionResult, error) {
	if r.Channel != "" && !channel.ValidName(r.Channel) {
		return api.ActionResult{}, n.fault(engine.BadChannel)
	}
	return actEverywhere(ctx, n, "unsubscribe", r, (*Node).unsubscribe)
}

func (n *Node) unsubscribe(ctx context.Context, r *api.UnsubscribeRequest) (api.Empty, error) {
	return n.act(ctx, r.User, r.Client, nil, &loop.UnsubscribeAction{Channel: r.Channel})
}

// Disconnect implements api.Node.
func (n *Node) Disconnect(ctx context.Context, r *api.DisconnectRequest) (api.ActionResult, error) {
	return actEverywhere(ctx, n, "disconnect", r, (*Node).disconnect)
}

func (n *Node) disconnect(ctx context.Context, r *api.DisconnectRequest) (api.Empty, error) {
	a := &loop.DisconnectAction{}
	if d := r.Disconnect; d != nil {
		a.Given, a.Code, a.Text = true, d.Code, d.Reason
	}
	return n.act(ctx, r.User, r.Client, r.Whitelist, a)
}

// Refresh implements api.Node.
func (n *Node) Refresh(ctx context.Context, r *api.RefreshRequest) (api.ActionResult, error) {
	return actEverywhere(ctx, n, "refresh", r, (*Node).refresh)
}

func (n *Node) refresh(ctx context.Context, r *api.RefreshRequest) (api.Empty, error) {
	a := &loop.RefreshAction{Expired: r.Expired, ExpireAt: r.ExpireAt, Info: bytes.Clone(r.Info)}
	return n.act(ctx, r.User, r.Client, nil, a)
}

// Presence implements api.Node.
func (n *Node) Presence(ctx context.Context, name string) (api.PresenceResult, error) {
	all, err := n.presence(ctx, name, math.MaxInt)
	if err != nil {
		return api.PresenceResult{}, err
	}
	out := api.PresenceResult{Presence: make(map[string]channel.ClientInfo, len(all.List)), Partial: all.Partial}
	for _, who := range all.List {
		out.Presence[who.Client] = *who
	}
	return out, nil
}

// PresenceStats implements api.Node.
func (n *Node) PresenceStats(ctx context.Context, name string) (api.PresenceStatsResult, error) {
	all, err := n.presence(ctx, name, 0)
	return api.PresenceStatsResult{NumClients: all.Clients, NumUsers: all.Users, Partial: all.Partial}, err
}

// presence asks the engine who is subscribed, if the channel has presence.
func (n *Node) presence(ctx context.Context, name string, most int) (engine.Presence, error) {
	if err := n.known(name); err != nil {
		return engine.Presence{}, err
	}
	if !n.Policy.Options(name).Presence {
		return engine.Presence{}, api.ErrNotAvailable
	}
	all, err := engine.Wait(ctx, func(done func(engine.Presence, error)) { n.Engine.Presence(name, most, done) })
	return all, engineError(err)
}

// History implements api.Node.
func (n *Node) History(ctx context.Context, r *api.HistoryRequest) (api.HistoryResult, error) {
	if err := n.known(r.Channel); err != nil {
		return api.HistoryResult{}, err
	}
	if n.Policy.Options(r.Channel).HistorySize == 0 {
		return api.HistoryResult{}, api.ErrNotAvailable
	}
	q := engine.HistoryQuery{Channel: r.Channel, Back: r.Reverse, Most: channel.Bounds{Count: r.Limit}, Now: time.Now().UnixMilli()}
	if r.Since != nil {
		ask := loop.AskSince(r.Since.Epoch, r.Since.Offset)
		q.Since = &ask
	}
	kept, err := engine.Wait(ctx, func(done func(channel.Collected, error)) { n.Engine.History(q, done) })
	if err != nil {
		return api.HistoryResult{}, engineError(err)
	}
	out := api.HistoryResult{Publications: []api.Publication{}, Epoch: kept.Newest.Epoch.String(), Offset: kept.Newest.Offset}
	for i := range kept.Publications {
		out.Publications = append(out.Publications, n.listed(&kept.Publications[i]))
	}
	return out, nil
}

// listed returns a publication as the API lists it: what is binary as bytes, and
// everything else as clients with JSON see it.
func (n *Node) listed(p *channel.Publication) api.Publication {
	out := api.Publication{Offset: p.Offset, Prev: p.Prev}
	if p.Binary {
		out.B64Data = p.Payload
	} else {
		out.Data = n.AppendJSON(nil, p.Payload, false)
	}
	value := func(info []byte) []byte {
		if len(info) == 0 {
			return nil
		}
		return n.AppendJSON(nil, info, !utf8.Valid(info))
	}
	e := channel.ParseExtra(p.Extra)
	if e.HasWho {
		out.Info = e.Who.Info()
		out.Info.ConnInfo, out.Info.ChanInfo = value(e.Who.ConnInfo), value(e.Who.ChanInfo)
	}
	for tags := e.Tags; len(tags) > 0; {
		var key, value []byte
		if out.Tags == nil {
			out.Tags = map[string]string{}
		}
		key, value, tags = tags.Next()
		out.Tags[string(key)] = string(value)
	}
	return out
}

// HistoryRemove implements api.Node.
func (n *Node) HistoryRemove(ctx context.Context, name string) error {
	if err := n.known(name); err != nil {
		return err
	}
	_, err := engine.Wait(ctx, func(done func(struct{}, error)) {
		n.Engine.Remove(name, func(err error) { done(struct{}{}, err) })
	})
	return engineError(err)
}

// patternBytesMax bounds the pattern of Channels: each channel's name is held against it.
const patternBytesMax = 1 << 10

// Channels implements api.Node. In a pattern * and ? stand for runs of characters and for
// one, and [a-z] for one of them (path.Match), of which none is special in a name.
func (n *Node) Channels(ctx context.Context, pattern string) (api.ChannelsResult, error) {
	if len(pattern) > patternBytesMax {
		return api.ChannelsResult{}, api.ErrBadRequest.With("pattern is too long")
	}
	if _, err := path.Match(plain(pattern), ""); err != nil {
		return api.ChannelsResult{}, api.ErrBadRequest.With("malformed pattern: see channels in GET /api/openapi.json")
	}
	own, others, partial, err := everywhere(ctx, n, "channels", &api.ChannelsRequest{Pattern: pattern}, (*Node).channels)
	if err != nil {
		return api.ChannelsResult{}, err
	}
	for _, one := range others {
		for name, subscribers := range one {
			own[name] += subscribers
		}
	}
	out := api.ChannelsResult{Channels: make(map[string]api.ChannelInfo, len(own)), Partial: partial}
	for name, subscribers := range own {
		out.Channels[name] = api.ChannelInfo{NumClients: subscribers}
	}
	return out, nil
}

// plain returns a name or a pattern without the character that path.Match treats as a special one.
func plain(s string) string { return strings.ReplaceAll(s, "/", "\x00") } // no name has that

// channels returns the subscribers of this node's channels, by name.
func (n *Node) channels(_ context.Context, r *api.ChannelsRequest) (map[string]int, error) {
	out, pattern := map[string]int{}, plain(r.Pattern)
	n.Space.Each(func(name string, subscribers int) {
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

// Describe returns what other nodes show of this one, at once: a user who has connections of several
// loops counts more than once.
func (n *Node) Describe() engine.NodeInfo {
	out := engine.NodeInfo{ID: n.ID, Name: n.Name, Version: n.Version, Clients: int(n.Connections()), Channels: n.Space.Channels(), Away: n.away(), Draining: n.Draining(), Events: n.Events != nil && n.Events(), Uptime: time.Since(n.Started)}
	for _, l := range n.Set.Loops() {
		out.Users += int(l.Stats().Users.Load())
		out.Subscriptions += int(l.Stats().Subscriptions())
	}
	return out
}

// Info implements api.Node. It does not fail because the engine is away.
func (n *Node) Info(ctx context.Context) (api.InfoResult, error) {
	different, subscriptions := map[string]struct{}{}, 0
	for c, err := range loop.EachLoop(ctx, n.Set, (*loop.Loop).Census) {
		if err != nil {
			return api.InfoResult{}, loopError(err)
		}
		for _, user := range c.Users {
			different[user] = struct{}{}
		}
		subscriptions += c.Subscriptions
	}
	channels := 0
	n.Space.Each(func(_ string, subscribers int) {
		if subscribers > 0 {
			channels++
		}
	})
	nodes := []api.NodeInfo{{
		UID: n.ID, Name: n.Name, Version: n.Version, NumClients: int(n.Connections()), NumUsers: len(different), NumSubs: subscriptions,
		NumChannels: channels, Uptime: int(time.Since(n.Started) / time.Second), Draining: n.Draining(),
	}}
	about := engineInfo(n.Engine)
	if about != nil {
		nodes[0].Away = !about.Up
	}
	others, err := engine.Wait(ctx, n.Engine.Info)
	slices.SortFunc(others.List, func(a, b engine.NodeInfo) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID)) })
	for _, o := range others.List {
		nodes = append(nodes, api.NodeInfo{
			UID: o.ID, Name: o.Name, Version: o.Version, NumClients: o.Clients, NumUsers: o.Users, NumSubs: o.Subscriptions,
			NumChannels: o.Channels, Uptime: int(o.Uptime / time.Second), Away: o.Away, Draining: o.Draining, Silent: int(o.Silent / time.Second),
		})
	}
	if err != nil && !errors.Is(err, engine.ErrUnavailable) {
		return api.InfoResult{}, err
	}
	return api.InfoResult{Nodes: nodes, Partial: others.Partial || err != nil, Engine: about}, nil
}

// away reports whether a part of the engine is.
func (n *Node) away() bool {
	r, ok := n.Engine.(engine.Reporter)
	if !ok {
		return false
	}
	s := r.Stats()
	return !s.Up()
}

// engineInfo returns how an engine is doing, nil for one that cannot be away.
func engineInfo(e engine.Engine) *api.EngineInfo {
	r, ok := e.(engine.Reporter)
	if !ok {
		return nil
	}
	s := r.Stats()
	out := &api.EngineInfo{
		Up: s.Up(), Parts: make(map[string]bool, len(s.Parts)), Away: s.Away.Seconds(), AwayTotal: s.AwayTotal.Seconds(),
		Pending: s.Pending, PendingBytes: s.PendingBytes, Lag: s.Lag.Seconds(), Waiting: s.Waiting,
		Stored: s.Stored, CaughtUp: s.CaughtUp, Resubscribed: s.Resubscribed, Gaps: s.Gaps, Unanswered: s.Unanswered,
	}
	for _, p := range s.Parts {
		out.Parts[p.Name] = p.Up
	}
	if out.Gaps == nil {
		out.Gaps = map[string]uint64{} // not null
	}
	return out
}
