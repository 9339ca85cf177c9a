package gateway

import (
	"context"
	"log/slog"
	"math"

	"sluice/gateway/access"
	"sluice/gateway/channel"
)

// newPolicy returns what clients may do by a configuration that has its defaults.
func newPolicy(cfg *Config) *access.Policy {
	return access.New(access.Config{Insecure: cfg.Insecure, Tokens: cfg.Tokens, Namespaces: cfg.Namespaces,
		History: cfg.History, HistoryTTL: cfg.HistoryTTL})
}

// keep returns how much the channels' space keeps of one.
func (s *Server) keep(name string) channel.Keep {
	o := s.policy.Options(name)
	if o == nil {
		return channel.Keep{}
	}
	return channel.Keep{Count: min(o.HistorySize, math.MaxInt32), TTL: o.HistoryTTL.Milliseconds()}
}

// tokenRejected logs why a token is rejected, with what says whose it was; the log samples. The
// token itself is never in it.
func (s *Server) tokenRejected(why string, whose ...slog.Attr) {
	s.cfg.Logger.LogAttrs(context.Background(), slog.LevelInfo, "token rejected", append(whose, slog.String("why", why))...)
}
