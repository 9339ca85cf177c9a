package edge

import (
	"bytes"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"time"

	"sluice/gateway/edge/admit"
	"sluice/gateway/edge/peer"
	"sluice/gateway/loop"
	"sluice/gateway/route"
)

// Admission is decided in two steps: for the client's address when the connection is accepted,
// or when a proxy has passed the address on; for the whole process when the client asks for an
// upgrade or a stream. A refused client is answered when its request is there, at the cost of
// reading a request, unless there are too many even for that.

// proxied is how a proxy passes on the client's address.
type proxied uint8

const (
	notProxied  proxied = iota
	byHeader            // a header of the PROXY protocol comes before anything else
	byForwarded         // X-Forwarded-For in the request
)

var (
	rejectMemory = route.NewReject(http.StatusServiceUnavailable, "memory",
		"This node has no memory left for more connections.").WithRetry(5)

	rejectProxied = route.NewReject(http.StatusBadRequest, "bad_proxy_header",
		"The connection begins with a PROXY header, which is not accepted from this address.")

	// addressRejects are the answers to the verdicts of package admit that Reason returns.
	addressRejects = [...]*route.Reject{
		admit.AddressOpen: route.NewReject(http.StatusTooManyRequests, admit.AddressOpen.String(),
			"Too many open connections from this address.").WithRetry(10),
		admit.AddressRate: route.NewReject(http.StatusTooManyRequests, admit.AddressRate.String(),
			"Too many new connections from this address.").WithRetry(5),
		admit.AddressBlamed: route.NewReject(http.StatusTooManyRequests, admit.AddressBlamed.String(),
			"Earlier connections from this address caused internal errors.").WithRetry(60),
		admit.TotalRate: route.NewReject(http.StatusServiceUnavailable, admit.TotalRate.String(),
			"Too many new connections.").WithRetry(2),
	}
)

// beginsWithProxyHeader reports whether a peer that is not listed has sent a header of the
// PROXY protocol: the most common mistake when a proxy is put in front of a gateway.
func beginsWithProxyHeader(p []byte) bool {
	return bytes.HasPrefix(p, []byte("PROXY ")) || bytes.HasPrefix(p, []byte("\r\n\r\n\x00\r\nQUIT\n"))
}

// logProxied logs which setting is missing.
func (s *Server) logProxied(peer netip.AddrPort) {
	s.cfg.Logger.Warn(s.cfg.Names.Text("refused a PROXY header from an address that is not in {ProxyProtocol}"), "peer", loop.AddressText(peer))
}

// errDropped ends a connection that is over a limit and not even answered.
var errDropped = errors.New("gateway: dropped")

// receive takes one connection into its handshake, unless its address has had so
// much that it is not even answered.
func (s *Server) receive(g *greeting) {
	now := time.Now()
	switch addr := g.client.Addr(); {
	case g.introduced && g.told:
		if !g.enterAddress(now) {
			g.abandon()
			return
		}
	case g.introduced: // a proxy's own request
	case s.proxies.Has(addr):
		g.proxied = byHeader
	case s.trusted.Has(addr):
		g.proxied = byForwarded
	case !g.enterAddress(now):
		g.abandon()
		return
	}
	if !s.stage.enter(g, now) {
		s.admission.Leave(g.seat)
		g.abandon()
	}
}

// clientOf returns the other side's address; zero for a Unix socket.
func clientOf(c net.Conn) netip.AddrPort {
	if a, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		p := a.AddrPort()
		return netip.AddrPortFrom(p.Addr().Unmap(), p.Port())
	}
	return netip.AddrPort{}
}

// enterAddress takes a seat among the connections of the client's address. Over a
// limit there is none, and the client is refused later, when its request is there;
// false when it is not even to be answered.
func (g *greeting) enterAddress(now time.Time) bool {
	s := g.door.server
	seat, verdict := s.admission.Enter(g.client.Addr(), now.UnixMilli())
	g.seat = seat
	if verdict == admit.Admitted {
		return true
	}
	if verdict.Drop() {
		s.refused(addressRejects[verdict.Reason()].Reason, g.client)
		return false
	}
	g.refusal = addressRejects[verdict]
	return true
}

// forwarded settles who a trusted proxy's request is from; false when the client is
// not to be answered.
func (g *greeting) forwarded(values []string) bool {
	addr, ok := peer.Forwarded(values, g.client.Addr(), g.door.server.trusted)
	if !ok || addr == g.client.Addr() {
		return true // the proxy's own request, such as a check of its health
	}
	g.client, g.told = netip.AddrPortFrom(addr, 0), true
	return g.enterAddress(time.Now())
}

// sends reports whether a request sends something for a stream: it is answered even over a limit of connections, as it is not
// to become one.
func (g *greeting) sends(req *route.Request) bool {
	return !req.Upgrade && slices.ContainsFunc(g.door.server.cfg.Routes, func(r *route.Route) bool {
		return slices.ContainsFunc(r.Posts, func(p route.Post) bool { return p.Path == req.RawPath })
	})
}

// toldInside reports whether a refused client is accepted to be notified: in a Close frame, or
// in the last event of an SSE stream.
func (g *greeting) toldInside(req *route.Request) bool {
	s := g.door.server
	return s.cfg.CloseRefused && (req.Upgrade || slices.ContainsFunc(s.cfg.Routes, func(r *route.Route) bool {
		return slices.ContainsFunc(r.Streams, func(st route.Stream) bool {
			_, ok := route.Fits(st.Path, req.RawPath)
			return ok && st.CloseRefused
		})
	}))
}

// takePlace counts one more connection, of which refusal says that it is over a limit
// already when it is not nil. refused: it counts as one of the few that are accepted only to be
// refused with a reason. The reject, if any, is the answer.
func (s *Server) takePlace(refusal *route.Reject, client netip.AddrPort) (refused bool, _ *route.Reject) {
	switch {
	case refusal != nil:
	case s.cfg.MemoryFull():
		refusal = rejectMemory
	case s.connections.Add(1) > int64(s.live.Load().MaxConnections):
		s.connections.Add(-1)
		refusal = rejectLimit
	default:
		if s.connections.Load()+int64(s.web.kept.count.Load()) > int64(s.live.Load().MaxConnections) {
			s.web.kept.drop()
		}
		return false, nil
	}
	if !s.cfg.CloseRefused {
		return false, refusal
	}
	if s.refusing.Add(1) > int64(s.cfg.MaxHandshakes) {
		s.refusing.Add(-1)
		return false, refusal
	}
	s.refused(refusal.Reason, client)
	return true, nil
}

// leavePlace takes a connection off the count.
func (s *Server) leavePlace(refused bool) {
	if refused {
		s.refusing.Add(-1)
		return
	}
	s.connections.Add(-1)
}

// Taken implements admission.
func (s *Server) Taken(client netip.AddrPort, refused bool) loop.Seat {
	if refused {
		s.refusing.Add(1)
	} else {
		s.connections.Add(1)
	}
	return loop.Seat(s.admission.Take(client.Addr()))
}

// Left implements admission.
func (s *Server) Left(at loop.Seat, refused bool) {
	s.admission.Leave(admit.Seat(at))
	s.leavePlace(refused)
}

// Blame implements admission.
func (s *Server) Blame(at loop.Seat) { s.admission.Blame(admit.Seat(at), time.Now().UnixMilli()) }
