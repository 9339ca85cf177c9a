package gateway

import (
	"context"
	"net/http"
	"net/url"

	"sluice/gateway/channel"
	"sluice/gateway/edge/handshake"
)

// target is where a connection leads.
type target struct {
	route    *route              // nil where it came without an upgrade
	upgrader *handshake.Upgrader // likewise
	variant  *variant
	channel  string
	format   format
	asks     bool // for what came before it, or where it begins
	ask      channel.Ask
	resumes  bool // ask is a browser's own, which does not come again after a refusal
	blind    bool // it asked for what it may not see: it begins now, and is notified of a gap
	noEcho   bool
	greeting []byte // what it is sent first
	listen   bool

	token    string      // as the client gave it, "" for none
	patient  func() bool // called when its token has to wait for a key set: false where it cannot; nil for nothing
	identity *identity   // who it is, where that is known or will be
	connect  []byte      // its first message, where it came with the request
}

// route is a way in for the clients of a protocol.
type route struct {
	// serves reports whether the protocol's WebSocket clients are served at a path, which is
	// given as it is meant and as it is written.
	serves func(s *Server, path, escaped string) bool
	// parse reads an upgrade into a target, in which listen says whether clients of the
	// listener may publish nothing.
	parse func(s *Server, t *target, req *handshake.Request) *handshake.Reject
	// authorize settles what the client may do by the token in its request; nil where the
	// protocol has tokens of its own, or none.
	authorize func(s *Server, ctx context.Context, t *target) *handshake.Reject
	// handle serves what is no upgrade; nil for nothing.
	handle func(s *Server, mux *http.ServeMux)
}

// route finds out where an upgrade wants to go.
func (s *Server) route(req *handshake.Request, listen bool) (t target, _ *handshake.Reject) {
	for _, r := range routes {
		if r.serves(s, req.RawPath, req.RawPath) {
			t.route, t.listen = r, listen
			return t, r.parse(s, &t, req)
		}
	}
	return t, rejectNotFound
}

// upgrades reports whether a WebSocket is served at a URL.
func (s *Server) upgrades(u *url.URL) bool {
	for _, r := range routes {
		if r.serves(s, u.Path, u.EscapedPath()) {
			return true
		}
	}
	return false
}

var (
	rejectNotFound = handshake.NewReject(http.StatusNotFound, "not_found",
		"There is no WebSocket at this path: try /ws, /ws/{channel} or /echo.")
	rejectQuery = handshake.NewReject(http.StatusBadRequest, "bad_query",
		"Malformed query string: percent-encode special characters.")
	rejectOrigin = handshake.NewReject(http.StatusForbidden, "origin",
		"Pages from this origin are not allowed to connect.")
	rejectLimit = handshake.NewReject(http.StatusServiceUnavailable, "max_connections",
		"This node has reached its maximum number of connections.").WithRetry(5)
	rejectDescriptors = handshake.NewReject(http.StatusServiceUnavailable, "no_descriptors",
		"This node has no file descriptors left.").WithRetry(5)
)
