// Package access decides what clients may do: one [Policy] for all protocols and paths. A
// channel's options come from its namespace (package namespace), and who a client is from its
// token (package auth).
//
// A node for which neither keys nor namespaces are configured, nor hooks that decide who may connect
// or subscribe, is open: any client may subscribe to every channel. So is one that is insecure, whatever else it has; a channel of a namespace that
// is not configured is unknown all the same.
//
// It is a package of its own because protocols share it and must not import each other. It does
// not know connections, logs, or how a client learns of a refusal.
package access

import (
	"errors"
	"iter"
	"slices"
	"sync/atomic"
	"time"

	"sluice/gateway/access/auth"
	"sluice/gateway/access/namespace"
	"sluice/gateway/hook"
)

// Config is what is configured of rights.
type Config struct {
	Insecure   bool
	Tokens     *auth.Verifier // nil without keys
	Namespaces *namespace.Set // nil without namespaces: then all channels have this history
	History    int
	HistoryTTL time.Duration
	Hooks      *hook.Set // nil for none

	ChannelLimit int // subscriptions of one connection
}

// Policy decides by a Config, which can be replaced. It is safe for concurrent use. What is decided in several calls may be
// decided by two configurations: a channel's options are asked for once, and then passed on.
type Policy struct {
	rules atomic.Pointer[rules]
}

// rules are what a Config amounts to. They do not change.
type rules struct {
	open, insecure bool
	namespaces     *namespace.Set
	tokens         *auth.Verifier
	hooks          *hook.Set                     // never nil
	hooked         bool                          // and some are asked
	filter         func(hook.FilterRequest) bool // nil for none
	channelLimit   int
}

var (
	// ErrUnknownChannel is returned for a channel whose namespace is not configured.
	ErrUnknownChannel = errors.New("unknown channel")
	// ErrName is returned for a name that clients may not use in its namespace.
	ErrName = errors.New("the channel's name does not match the channel_regex of its namespace")
	// ErrUnavailable is returned for what a channel does not have, whatever the client's rights.
	ErrUnavailable = errors.New("the channel has none")
	// ErrDenied is returned for what the client has no right to.
	ErrDenied = errors.New("permission denied")
	// ErrNoKey is returned for a token where no token can be verified.
	ErrNoKey = errors.New("no key is configured for tokens")
)

// New returns the policy of a Config.
func New(cfg Config) *Policy {
	p := new(Policy)
	p.Replace(cfg)
	return p
}

// Replace replaces the Config.
func (p *Policy) Replace(cfg Config) {
	r := &rules{insecure: cfg.Insecure, namespaces: cfg.Namespaces, tokens: cfg.Tokens, hooks: cfg.Hooks, hooked: cfg.Hooks.Asks() && !cfg.Insecure, channelLimit: cfg.ChannelLimit}
	if !r.hooked {
		r.hooks = new(hook.Set) // if it is insecure, every client may do everything
	}
	if cfg.Hooks != nil {
		r.filter = cfg.Hooks.Filter
	}
	// Without namespaces, the hooks called hook.Default decide about every channel.
	subscribes, publishes, refreshes := r.hooks.Subscribe[hook.Default] != nil, r.hooks.Publish[hook.Default] != nil, r.hooks.SubRefresh[hook.Default] != nil
	r.open = r.insecure || r.namespaces == nil && r.tokens == nil && r.hooks.Connect == nil && !subscribes
	if r.namespaces == nil {
		// Without namespaces clients of a node that is not open have no rights beyond their tokens and what hooks decide.
		all := namespace.Options{Presence: r.open, JoinLeave: r.open,
			SubscribeProxyEnabled: subscribes, SubRefreshProxyEnabled: refreshes, PublishProxyEnabled: publishes, AllowRawPublish: publishes}
		if cfg.History > 0 {
			all.HistorySize, all.HistoryTTL = cfg.History, cfg.HistoryTTL
			all.ForceRecovery, all.AllowRecovery = true, true
		}
		r.namespaces = namespace.Everywhere(all)
	}
	p.rules.Store(r)
}

// Open reports whether clients need no rights.
func (p *Policy) Open() bool { return p.rules.Load().open }

// Insecure reports whether tokens are ignored too.
func (p *Policy) Insecure() bool { return p.rules.Load().insecure }

// Tokens returns what verifies tokens, nil without keys.
func (p *Policy) Tokens() *auth.Verifier { return p.rules.Load().tokens }

// ChannelLimit returns how many subscriptions a connection may have.
func (p *Policy) ChannelLimit() int { return p.rules.Load().channelLimit }

// Hooks returns the hooks, which are none if there are none.
func (p *Policy) Hooks() *hook.Set { return p.rules.Load().hooks }

// Filter reports whether the program that embeds the gateway lets a message pass which a client wants to publish.
func (p *Policy) Filter(channel string, payload []byte, binary bool, conn uint64) bool {
	f := p.rules.Load().filter
	return f == nil || f(hook.FilterRequest{Channel: channel, Payload: payload, Binary: binary, Conn: conn})
}

// Hooked reports whether there are hooks that are asked.
func (p *Policy) Hooked() bool { return p.rules.Load().hooked }

// Options returns a channel's options, nil if its namespace is not configured.
func (p *Policy) Options(channel string) *namespace.Options {
	if o, ok := p.rules.Load().namespaces.Lookup(channel); ok {
		return o
	}
	return nil
}

// NamespaceOf returns the name of a channel's namespace, "" for none or if it is not configured.
func (p *Policy) NamespaceOf(channel string) string {
	if o := p.Options(channel); o != nil {
		return o.Name
	}
	return ""
}

// Namespaces returns the options of channels without a namespace, then those of each namespace.
func (p *Policy) Namespaces() iter.Seq[*namespace.Options] { return p.rules.Load().namespaces.All() }

// Personal returns the channel to which each connection of a user is subscribed, and whether that is the user's only
// connection; "" for none.
func (p *Policy) Personal(user string) (channel string, single bool) {
	return p.rules.Load().namespaces.Personal(user)
}

// Reads reports whether a client's token ("" for none) has to be verified, or ErrNoKey if it
// should be and cannot.
func (p *Policy) Reads(token string) (bool, error) {
	switch r := p.rules.Load(); {
	case r.insecure || token == "":
		return false, nil
	case r.tokens == nil:
		return false, ErrNoKey
	}
	return true, nil
}

// May returns nil if a client may do op, other than subscribe, with a channel, else
// ErrUnknownChannel, ErrName, ErrUnavailable or ErrDenied.
func (p *Policy) May(op namespace.Op, channel string, who namespace.Who) error {
	o := p.Options(channel)
	switch {
	case o == nil:
		return ErrUnknownChannel
	case !o.Fits(channel):
		return ErrName
	case op == namespace.Presence && !o.Presence, op == namespace.History && o.HistorySize == 0:
		return ErrUnavailable
	case !p.Open() && !o.Allows(op, who):
		return ErrDenied
	}
	return nil
}

// MaySubscribe reports whether user may subscribe to a channel, which has these options,
// without a token for it.
func (p *Policy) MaySubscribe(o *namespace.Options, channel, user string) bool {
	return p.Open() || o.MaySubscribe(channel, user)
}

// AsksToSubscribe returns the name of the hook that decides whether a client without a token for the channel may subscribe
// to it; asks is false if none does.
func (p *Policy) AsksToSubscribe(o *namespace.Options, channel string) (name string, asks bool) {
	return o.SubscribeProxyName, !p.Insecure() && o.AsksToSubscribe(channel)
}

// AsksToPublish returns the name of the hook that decides about what clients publish to channels with these options.
func (p *Policy) AsksToPublish(o *namespace.Options) (name string, asks bool) {
	return o.PublishProxyName, !p.Insecure() && o.PublishProxyEnabled
}

// AsksToSubRefresh returns the name of the hook that is asked whether subscriptions that expire may go on, of channels with
// these options.
func (p *Policy) AsksToSubRefresh(o *namespace.Options) (name string, asks bool) {
	return o.SubRefreshProxyName, !p.Insecure() && o.SubRefreshProxyEnabled
}

// PushesJoinLeave reports whether a subscriber is notified of joins and leaves.
func (p *Policy) PushesJoinLeave(o *namespace.Options, user string, asks bool) bool {
	if p.Open() {
		return o.JoinLeave && asks
	}
	return o.PushesJoinLeave(user, asks)
}

// Rights are those of a client that is in one channel for as long as it is connected, without
// commands: a client of raw WebSocket or SSE.
type Rights struct {
	Publish bool
	Recover bool // see what was published before, if the channel keeps that
}

// Rights returns what such a client may do, or ErrUnknownChannel, ErrName or ErrDenied. granted reports whether its token is for the channel.
func (p *Policy) Rights(channel, user string, granted bool) (Rights, error) {
	o := p.Options(channel)
	switch {
	case o == nil:
		return Rights{}, ErrUnknownChannel
	case !granted && !o.Fits(channel):
		return Rights{}, ErrName
	case p.Open():
		return Rights{Publish: true, Recover: true}, nil
	case !granted && !o.MaySubscribe(channel, user):
		return Rights{}, ErrDenied
	}
	return Rights{
		Publish: o.AllowRawPublish && (o.PublishProxyEnabled || o.Allows(namespace.Publish, namespace.Who{User: user, Subscribed: true})),
		Recover: o.HistorySize == 0 || o.Recovers(user, true),
	}, nil
}

// Grants reports whether a connection's token names a channel.
func Grants(t *auth.Connection, channel string) bool {
	_, named := t.Subs[channel]
	return named || slices.Contains(t.Channels, channel)
}

// Misfit returns why a subscription token is not for this client and channel, "" if it is.
func Misfit(t *auth.Subscription, channel, user, client string) string {
	switch {
	case t.Channel != channel:
		return "the token is for another channel"
	case t.User != user:
		return "the token belongs to another user"
	case t.Client != "" && t.Client != client:
		return "the token is for another client"
	}
	return ""
}
