package edge

import (
	"net/netip"
	"reflect"
	"time"

	"sluice/gateway/edge/admit"
	"sluice/gateway/loop"
	"sluice/poller"
)

// A panic in the work for a connection that has no loop yet costs that connection, too: in
// its handshake, in what verifies its token, and on its way into its loop. It is reset, and
// what it holds is given back: each of these things has one owner at any time, which the
// greeting or the arrival says. Where it might have changed hands when it panicked (package
// poller, the methods of what others share) the process ends.

// edgePath is the path of this package, and edgeMethods what its server's methods begin with.
var (
	edgePath    = reflect.TypeFor[greeting]().PkgPath()
	edgeMethods = edgePath + ".(*" + reflect.TypeFor[Server]().Name() + ")."
)

// handshakeSteps are the beginnings of functions that defer contain or its like, and
// handshakeSharing of those in which a panic cannot be lived with.
var (
	handshakeSteps = [...]string{edgePath + ".(*greeting).start", edgePath + ".(*greeting).run", edgePath + ".(*greeting).contained",
		edgePath + ".(*web).contained"}
	handshakeSharing = append(loop.ArrivalSharing[:], reflect.TypeFor[admit.Table]().PkgPath()+".",
		edgePath+".(*stage).", edgePath+".(*places).",
		edgePath+".(*greeting).waitUntil", edgePath+".(*greeting).hurry", edgePath+".(*greeting).Leave",
		edgePath+".(*greeting).know", edgePath+".(*greeting).begin", edgePath+".(*greeting).finish",
		edgePath+".(*greeting).unplace", edgeMethods+"takePlace", edgeMethods+"leavePlace")
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
	if a != nil && a.FD >= 0 {
		poller.Close(a.FD) // ignored: nothing of ours was sent
	} else {
		g.abandon()
	}
	g.Leave()
}

// survive logs a panic of a handshake, and goes on with it where the process cannot live
// with it.
func (s *Server) survive(r any, client netip.AddrPort) {
	loop.SurvivePanic(s.cfg.Logger, r, client, handshakeSteps[:], handshakeSharing)
}
