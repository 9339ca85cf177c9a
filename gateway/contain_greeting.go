package gateway

import (
	"context"
	"log/slog"
	"net/netip"
	"runtime/debug"
	"time"

	"sluice/poller"
)

// A panic in the work for a connection that has no loop yet costs that connection, too: in
// its handshake, in what verifies its token, and on its way into its loop. It is reset, and
// what it holds is given back: each of these things has one owner at any time, which the
// greeting or the arrival says. Where it might have changed hands when it panicked (package
// poller, the methods of what others share) the process ends.

// handshakeSteps are the beginnings of functions that defer contain or its like, and
// handshakeSharing of those in which a panic cannot be lived with.
var (
	handshakeSteps = [...]string{gatewayPath + ".(*greeting).start", gatewayPath + ".(*greeting).run", gatewayPath + ".(*greeting).contained",
		gatewayPath + ".(*arrival).watched", gatewayPath + ".(*web).contained"}
	handshakeSharing = [...]string{gatewayPath + "/admit.", pollerPath + ".",
		gatewayPath + ".(*stage).", gatewayPath + ".(*places).", gatewayPath + ".(*loop).", gatewayPath + ".(*inbox).",
		gatewayPath + ".(*greeting).waitUntil", gatewayPath + ".(*greeting).hurry", gatewayPath + ".(*greeting).leave",
		gatewayPath + ".(*greeting).know", gatewayPath + ".(*greeting).begin", gatewayPath + ".(*greeting).finish",
		gatewayPath + ".(*greeting).unplace", gatewayPath + ".(*Server).takePlace", gatewayPath + ".(*Server).leavePlace"}
)

// contain is deferred by whatever works for a connection in its handshake.
func (g *greeting) contain() {
	if r := recover(); r != nil {
		g.panicked(r)
	}
}

// contained does something for a connection in its handshake.
func (g *greeting) contained(do func()) {
	defer g.contain()
	do()
}

// panicked deals with a panic in a handshake.
func (g *greeting) panicked(r any) {
	s := g.door.server
	s.survive(r, g.client)
	s.stats.panics.Add(1)
	if g.left.Load() {
		return // there was nothing left to do
	}
	s.admission.Blame(g.seat, time.Now().UnixMilli())
	if g.calculates {
		g.calculate(false)
	}
	if x := g.requesting; x != nil && !s.web.places.giveUp(x) {
		s.web.places.leave(x)
	}
	a := g.arriving
	if a != nil {
		g.unplace()
	}
	if a != nil && a.fd >= 0 {
		poller.Close(a.fd) // ignored: nothing of ours was sent
	} else {
		g.abandon()
	}
	g.leave()
}

// panicked deals with a panic on the way into a loop.
func (a *arrival) panicked(l *loop, r any) {
	a.server.survive(r, a.client)
	l.stats.panics.Add(1)
	a.server.admission.Blame(a.seat, time.Now().UnixMilli())
	a.drop()
}

// survive logs a panic of a handshake, and goes on with it where the process cannot live
// with it.
func (s *Server) survive(r any, client netip.AddrPort) {
	record := func(what string, why error) {
		attrs := []slog.Attr{slog.String("client", addressText(client)), slog.Any("panic", r), slog.String("stack", string(debug.Stack()))}
		if why != nil {
			attrs = append(attrs, slog.String("error", why.Error()))
		}
		s.cfg.Logger.LogAttrs(context.Background(), slog.LevelError, what, attrs...)
	}
	if _, why := panicSite(handshakeSteps[:], handshakeSharing[:]); why != nil {
		record("panic: the process cannot continue", why)
		panic(r)
	}
	record("connection closed during its handshake: panic", nil)
}
