package gateway

import (
	"net/http"
	"net/url"

	"sluice/gateway/channel"
	"sluice/gateway/edge/handshake"
)

// target is where a connection leads.
type target struct {
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

// route finds out where an upgrade wants to go.
func (s *Server) route(req *handshake.Request) (t target, _ *handshake.Reject) {
	switch req.RawPath {
	case pathClient, pathUniClient:
		return t, s.settleClient(&t, req)
	case "/echo":
		t.variant = echoWebSocket
	default:
		t.variant = rawWebSocket
		name, ok := s.rawPath(req.RawPath)
		if !ok {
			return t, rejectNotFound
		}
		if name != "" {
			unescaped, err := url.PathUnescape(name)
			if err != nil {
				return t, rejectChannel
			}
			t.channel = unescaped
		}
	}
	return t, s.settleTarget(&t, req.RawQuery)
}

var (
	rejectNotFound = &handshake.Reject{Status: http.StatusNotFound, Reason: "not_found",
		Text: "There is no WebSocket at this path: try /ws, /ws/{channel} or /echo."}
	rejectQuery = &handshake.Reject{Status: http.StatusBadRequest, Reason: "bad_query",
		Text: "Malformed query string: percent-encode special characters."}
	rejectOrigin = &handshake.Reject{Status: http.StatusForbidden, Reason: "origin",
		Text: "Pages of this origin may not connect."}
	rejectLimit = &handshake.Reject{Status: http.StatusServiceUnavailable, Reason: "max_connections",
		Text: "This node has reached its maximum number of connections.", Retry: 5}
	rejectDescriptors = &handshake.Reject{Status: http.StatusServiceUnavailable, Reason: "no_descriptors",
		Text: "This node has no file descriptors left.", Retry: 5}
)

// ownRejects are the refusals that are decided here, for the metrics.
var ownRejects = []*handshake.Reject{rejectNotFound, rejectRawOff, rejectChannel, rejectChannelTwice, rejectEchoChannel, rejectQuery,
	rejectTwice, rejectEcho, rejectMode, rejectFormat, rejectSince, rejectHistory, rejectSinceHistory, rejectSinceRaw, rejectOrigin, rejectLimit, rejectDescriptors, rejectStreamMethod,
	rejectClientOff, rejectClientFormat, rejectUniFormat, rejectConnect, rejectToken, rejectTokenExpired, rejectKeys, rejectDenied, rejectLookBack, rejectUnknownChannel}
