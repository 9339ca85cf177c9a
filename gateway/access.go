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

// verifyingMax bounds the tokens that wait to be verified; a client that comes when there are as
// many is asked to try again.
const verifyingMax = 4096

// startVerifiers starts the verifiers of tokens, n of which never wait. They end with the server.
func (s *Server) startVerifiers(n int) {
	s.verifiers = access.NewVerifiers(s.policy.Tokens(), verifyingMax, plantVerifier)
	if s.policy.Tokens() == nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.background.Go(func() {
		<-s.stopped
		cancel()
	})
	s.verifiers.Start(ctx, n, s.background.Go)
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
