package gateway

import (
	"net/http"

	"sluice/gateway/edge/handshake"
)

// What asks whether the gateway lives has its answer whatever else is busy: on public
// listeners the handshake stage gives it, with the request's head, so that neither an
// address's limits nor a place of net/http's is needed; the internal listener has no
// places.

const pathHealth = "/healthz"

var (
	healthy   = &handshake.Reject{Status: http.StatusOK, Text: "ok"}
	unhealthy = &handshake.Reject{Status: http.StatusServiceUnavailable, Text: "unhealthy: an event loop is stuck; its stack is in the log"}
	stalled   = &handshake.Reject{Status: http.StatusServiceUnavailable, Text: "not ready: an event loop is not responding"}
	notReady  = &handshake.Reject{Status: http.StatusServiceUnavailable, Text: "not ready: starting or shutting down"}
)

// health is the answer of /healthz, on every listener.
func (s *Server) health() *handshake.Reject {
	if s.watchdog.stalled.Load() >= unhealthyAfter {
		return unhealthy
	}
	return healthy
}

// readiness is the answer of /readyz.
func (s *Server) readiness() *handshake.Reject {
	if !s.Ready() {
		return notReady
	}
	if s.watchdog.stalled.Load() >= unreadyAfter {
		return stalled
	}
	return healthy
}
