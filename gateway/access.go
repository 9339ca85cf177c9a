package gateway

import (
	"context"
	"log/slog"
	"math"

	"sluice/gateway/access/auth"
	"sluice/gateway/access/namespace"
	"sluice/gateway/channel"
)

// What clients may do is settled in one place for all protocols and paths: a channel's
// options come from its namespace, and who a client is from its token.
//
// A node for which neither keys nor namespaces are configured is open: anybody may
// subscribe to every channel, and publish where Raw says so. So is one that is
// Insecure, whatever else it has; a channel of a namespace that is not configured is
// unknown all the same.

// access is what the configuration says about rights.
type access struct {
	open       bool // rights are not asked for
	insecure   bool // nor tokens
	namespaces *namespace.Set
	verifier   *auth.Verifier // nil without keys
}

// newAccess settles it. cfg has its defaults.
func newAccess(cfg *Config) access {
	a := access{insecure: cfg.Insecure, namespaces: cfg.Namespaces, verifier: cfg.Tokens}
	a.open = a.insecure || a.namespaces == nil && a.verifier == nil
	if a.namespaces == nil {
		a.namespaces = namespace.Everywhere(unnamed(cfg, a.open))
	}
	return a
}

// unnamed are the options of all channels where no namespaces are configured: what
// the flags say of the history, and where rights are asked for none for clients
// beyond their tokens.
func unnamed(cfg *Config, open bool) namespace.Options {
	o := namespace.Options{Presence: open, JoinLeave: open}
	if cfg.History > 0 {
		o.HistorySize, o.HistoryTTL = cfg.History, cfg.HistoryTTL
		o.ForceRecovery, o.AllowRecovery = true, true
	}
	return o
}

// whyExpired is why a token is rejected that was good once.
const whyExpired = "the token has expired"

// whyNoKey is why a token is rejected where none can be verified.
const whyNoKey = "no key is configured for tokens"

// tokenRejected logs why a token is rejected, with what says whose it was; the log samples. The
// token itself is never in it.
func (s *Server) tokenRejected(why string, whose ...slog.Attr) {
	s.cfg.Logger.LogAttrs(context.Background(), slog.LevelInfo, "token rejected", append(whose, slog.String("why", why))...)
}

// options returns what holds for a channel; nil where its namespace is not configured.
func (a *access) options(name string) *namespace.Options {
	if o, ok := a.namespaces.Lookup(name); ok {
		return o
	}
	return nil
}

// keep tells the channels' space how much is kept of one.
func (a *access) keep(name string) channel.Keep {
	o := a.options(name)
	if o == nil {
		return channel.Keep{}
	}
	return channel.Keep{Count: min(o.HistorySize, math.MaxInt32), TTL: o.HistoryTTL.Milliseconds()}
}

// allows reports whether a client may do something with a channel that its options let it
// do, other than subscribe.
func (a *access) allows(o *namespace.Options, op namespace.Op, who namespace.Who) bool {
	return a.open || o.Allows(op, who)
}

// maySubscribe reports whether a client may subscribe without a token for the channel.
func (a *access) maySubscribe(o *namespace.Options, name, user string) bool {
	return a.open || o.MaySubscribe(name, user)
}
