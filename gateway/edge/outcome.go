package edge

import (
	"context"
	"log/slog"
	"net/http"
	"net/netip"
	"sync/atomic"

	"sluice/gateway/loop"
	"sluice/gateway/route"
)

// What a connection's first request comes to, beside the refusals, each of which is an outcome
// of its own (route.NewReject). Each connection has one, and an event stream two.
var (
	outcomeUpgraded = route.NewOutcome("upgraded")
	outcomeHTTP     = route.NewOutcome("http")
	outcomeStream   = route.NewOutcome("event_stream")

	outcomeTimeout   = route.NewOutcome("timeout")
	outcomeEvicted   = route.NewOutcome("evicted")    // its place was needed
	outcomeNoRequest = route.NewOutcome("no_request") // a port scan, a health check
	outcomeCutOff    = route.NewOutcome("cut_off")
	outcomeTLS       = route.NewOutcome("tls_failed")
	outcomeProxy     = route.NewOutcome("bad_proxy_header")

	outcomePoller   = route.NewOutcome("poller") // its loop could not watch it
	outcomeShutdown = route.NewOutcome("shutting_down")
)

// notArrivedOutcome returns the outcome of an arrival that its loop has refused.
func notArrivedOutcome(err error) route.Outcome {
	if err == loop.ErrStopping {
		return outcomeShutdown
	}
	return outcomePoller
}

var (
	rejectNotFound = route.NewReject(http.StatusNotFound, "not_found",
		"There is no WebSocket at this path: try /ws, /ws/{channel} or /echo.")
	rejectOrigin = route.NewReject(http.StatusForbidden, "origin",
		"Pages from this origin are not allowed to connect.")
	rejectLimit = route.NewReject(http.StatusServiceUnavailable, "max_connections",
		"This node has reached its maximum number of connections.").WithRetry(5)
	rejectDescriptors = route.NewReject(http.StatusServiceUnavailable, "no_descriptors",
		"This node has no file descriptors left.").WithRetry(5)
)

// stats are what the edge counts.
type stats struct {
	outcomes     [1 << 8]atomic.Uint64 // handshakes, by route.Outcome: each value has one
	descriptors  atomic.Uint64
	panics       atomic.Uint64
	handshakes   [2]atomic.Uint64 // with TLS, the resumed ones second
	accepted     atomic.Uint64
	posts        atomic.Uint64 // requests for streams that were served
	originLogged atomic.Int64  // Unix second of the last record
}

// outcome counts what a handshake came to.
func (s *stats) outcome(o route.Outcome) { s.outcomes[o].Add(1) }

// secured counts a TLS handshake that was done.
func (s *stats) secured(resumed bool) {
	if resumed {
		s.handshakes[1].Add(1)
		return
	}
	s.handshakes[0].Add(1)
}

// Counts are an edge's counters and gauges at one time.
type Counts struct {
	Connections      int64             // open ones, those on their way to a loop included
	Handshakes       int               // under way, of Config.MaxHandshakes
	Addresses        int               // that have connections
	Untracked        uint64            // connections of addresses for which the table had no room
	Accepted         uint64            // connections
	Outcomes         map[string]uint64 // first requests, by label
	Secured, Resumed uint64            // TLS handshakes, full and resumed
	Descriptors      uint64            // times that there was none for a connection
	Panics           uint64
	Posts            uint64 // requests of clients of streams that were served
	Kept             int    // connections of theirs that are kept
}

// Counts returns the counters and gauges.
func (s *Server) Counts() Counts {
	c := Counts{
		Connections: s.connections.Load(), Addresses: s.admission.Len(), Untracked: s.admission.Untracked(), Accepted: s.stats.accepted.Load(),
		Outcomes: make(map[string]uint64), Secured: s.stats.handshakes[0].Load(), Resumed: s.stats.handshakes[1].Load(),
		Descriptors: s.stats.descriptors.Load(), Panics: s.stats.panics.Load(),
	}
	c.Posts = s.stats.posts.Load()
	if s.web != nil {
		c.Kept = int(s.web.kept.count.Load())
	}
	s.stage.mu.Lock()
	c.Handshakes = s.stage.taken
	s.stage.mu.Unlock()
	for _, o := range route.Outcomes() {
		c.Outcomes[o.String()] = s.stats.outcomes[o].Load()
	}
	return c
}

// refused counts and logs a refused connection; the log samples.
func (s *Server) refused(reason route.Outcome, client netip.AddrPort) {
	s.stats.outcome(reason)
	s.cfg.Logger.LogAttrs(context.Background(), slog.LevelInfo, "connection refused: "+reason.String(), slog.String("client", loop.AddressText(client)))
}
