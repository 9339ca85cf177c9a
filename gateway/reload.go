package gateway

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"sluice/gateway/edge"
	"sluice/gateway/edge/handshake"
	"sluice/gateway/engine/backing"
	"sluice/gateway/loop"
	"sluice/gateway/setting"
)

// ReloadOptions say how a configuration is replaced.
type ReloadOptions struct {
	// Revoke ends the connections of tokens that were signed by a key that is not configured any more. Otherwise they stay
	// until the token expires.
	Revoke bool
}

// Reloaded says what a new configuration has changed.
type Reloaded struct {
	Changed      []string // fields of Config
	Unsubscribed int      // subscriptions that are not allowed any more
	Disconnected int      // connections that are not
}

// NeedsRestart is the error for a configuration with changes that need another Server.
type NeedsRestart struct {
	Fields []string // of Config
}

// Error implements error.
func (e *NeedsRestart) Error() string {
	return fmt.Sprintf("gateway: a change of %s needs a restart", strings.Join(e.Fields, ", "))
}

// Reload replaces the server's configuration by next, completely or not at all. Fields whose tag reload is empty cannot
// change: the error is a [*NeedsRestart] then. Functions, and what describes the program, stay as they are. Tokens, Hooks and
// Namespaces are the same if the pointers are; those that are replaced may be used for some time yet. Faults are those of
// [Config.Validate]. While the server is upgraded the error is [ErrUpgradeRunning], and after Shutdown [ErrUpgradeStopping]; an
// upgrade waits for a reload that runs.
func (s *Server) Reload(next Config, how ReloadOptions) (_ Reloaded, err error) {
	defer func() { s.reloads.note(err) }()
	s.reloads.mu.Lock()
	defer s.reloads.mu.Unlock()
	if err := s.upgrades.free(); err != nil {
		return Reloaded{}, err
	}
	if err := next.Validate(); err != nil {
		return Reloaded{}, err
	}
	next = next.withDefaults()
	given := next
	if err := next.fitDescriptors(s.descriptorLimit, s.descriptorsKept); err != nil {
		return Reloaded{}, err
	}
	origins, broad, err := handshake.CompileOrigins(next.AllowedOrigins)
	if err != nil {
		return Reloaded{}, err
	}
	var r Reloaded
	var restart []string
	for _, f := range changedFields(s.given, given) {
		live := f.Tag.Get("reload") != ""
		switch f.Name {
		case "Raw": // with auto, which follows keys, namespaces and hooks; clients that may not publish stay so
			live = s.given.Raw == RawListen && next.Raw == RawPublish
		case "Namespaces", "History", "HistoryTTL":
			live = s.storesAlike(&next)
		}
		if !live {
			restart = append(restart, f.Name)
		}
		r.Changed = append(r.Changed, f.Name)
	}
	if restart != nil {
		return Reloaded{}, &NeedsRestart{restart}
	}
	for _, text := range broad {
		s.cfg.Logger.Warn(Fault{Field: "AllowedOrigins", Why: ": " + setting.Literal(text)}.Text(s.names))
	}
	s.given = given
	s.apply(&next, origins)
	if judgesAnew(r.Changed) || how.Revoke {
		r.Unsubscribed, r.Disconnected = s.review(how.Revoke)
		s.reviewLater(how.Revoke)
	}
	return r, nil
}

// reviewMost is how long Reload waits for the review of all connections.
const reviewMost = 30 * time.Second

// judgesAnew reports whether clients may not be allowed any more what they were.
func judgesAnew(changed []string) bool {
	return slices.ContainsFunc(changed, func(f string) bool { return f == "Tokens" || f == "Namespaces" || f == "Hooks" || f == "Raw" })
}

// review ends what clients may not do any more.
func (s *Server) review(revoke bool) (unsubscribed, disconnected int) {
	var revoked func(uint32) bool
	if revoke {
		tokens := s.policy.Tokens()
		revoked = func(key uint32) bool { return !tokens.Has(key) }
	}
	ctx, cancel := context.WithTimeout(context.Background(), reviewMost)
	defer cancel()
	// An error is the end of loops, or of the patience: the loops go on.
	unsubscribed, disconnected, _ = s.set.Review(ctx, revoked)
	return unsubscribed, disconnected
}

// reviewLater reviews all connections again when those have arrived that were on their way, and were judged before the
// rights changed. The caller holds reloads.mu.
func (s *Server) reviewLater(revoke bool) {
	r := &s.reloads
	if r.revokes = r.revokes || revoke; r.later != nil {
		r.later.Stop() // ignored: one review more does no harm
	}
	r.later = time.AfterFunc(s.cfg.HandshakeTimeout+time.Second, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		s.review(r.revokes) // ignored: what it ends is logged where it ends
		r.revokes = false
	})
}

// apply replaces what can be replaced, rights first: what a new connection or subscription may do is decided by them from
// now on.
func (s *Server) apply(next *Config, origins *handshake.Origins) {
	s.policy.Replace(next.access())
	s.verifiers.Replace(next.Tokens)
	s.live.Store(next)
	s.classes.follow(s.policy)
	s.space.LimitChannels(next.MaxChannels)
	s.space.LimitRate(next.ChannelRate, rateFor(next.JoinRate, automatic.JoinRate, false))
	s.space.KeepAnew()
	s.edge.Change(s.edgeLive(next, origins))
	s.set.Change(next.rates())
	s.events.setWebhooks(next.Webhooks)
}

// skips reports whether slow subscribers of a channel skip to its newest publication.
func (s *Server) skips(channel string) bool {
	return loop.SlowRules(s.live.Load().SlowPolicy).Skip(channel)
}

// edgeLive returns what holds for new connections.
func (s *Server) edgeLive(c *Config, origins *handshake.Origins) edge.Live {
	live := c.edge().Live
	live.Origins = origins
	live.ListenOnly, live.RemoteListenOnly = c.Raw == RawListen, c.Raw == RawDefault && s.policy.Open()
	return live
}

// storesAlike reports whether a configuration stores histories as the server does: streams of a store are made when it
// starts.
func (s *Server) storesAlike(next *Config) bool {
	if form, _ := backing.FormOf(&s.cfg.Store); form == backing.Memory {
		return true
	}
	return reflect.DeepEqual(s.given.streams(), next.streams())
}

// ofProgram are the fields that say what program this is, and do not change.
var ofProgram = map[string]bool{"Inherited": true, "PublishURL": true, "Version": true, "Commit": true, "Logger": true}

// changedFields returns the fields of Config, and those of Store, that differ. Pointers are the same if they are equal.
func changedFields(a, b Config) (list []reflect.StructField) {
	var compare func(a, b reflect.Value)
	compare = func(a, b reflect.Value) {
		for i := range a.NumField() {
			f := a.Type().Field(i)
			x, y := a.Field(i), b.Field(i)
			switch {
			case !f.IsExported() || ofProgram[f.Name] || f.Type.Kind() == reflect.Func:
			case f.Type == reflect.TypeFor[Store]():
				compare(x, y)
			case f.Type.Kind() == reflect.Pointer && x.Pointer() != y.Pointer(), f.Type.Kind() != reflect.Pointer && !reflect.DeepEqual(x.Interface(), y.Interface()):
				list = append(list, f)
			}
		}
	}
	compare(reflect.ValueOf(a), reflect.ValueOf(b))
	return list
}
