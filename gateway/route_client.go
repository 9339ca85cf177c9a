package gateway

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"os"

	"sluice/gateway/access"
	"sluice/gateway/access/auth"
	"sluice/gateway/centrifugo"
	"sluice/gateway/channel"
	"sluice/gateway/edge/handshake"
	"sluice/gateway/sampling"
)

// Paths of the Centrifugo protocol, as its libraries and its users know them.
const (
	pathClient    = "/connection/websocket"
	pathUniClient = "/connection/uni_websocket"
	pathUniSSE    = "/connection/uni_sse"
)

// connectParameter is the parameter of a URL in which a client that is only sent to says
// who it is.
const connectParameter = "cf_connect"

// settleClient reads an upgrade of the Centrifugo protocol into a target.
func (s *Server) settleClient(t *target, req *handshake.Request) *handshake.Reject {
	if s.cfg.NoClients {
		return s.named(rejectClientOff)
	}
	t.variant = clientWebSocket
	f := centrifugo.Format{Uni: req.RawPath == pathUniClient}
	values, err := url.ParseQuery(req.RawQuery)
	if err != nil {
		return rejectQuery
	}
	switch format := values.Get("format"); {
	case format == "protobuf", format == "" && chosen(req.Protocols) == subprotocolProtobuf:
		f.Encoding = centrifugo.Protobuf
	case format != "" && format != "json":
		return rejectClientFormat
	}
	if f.Uni && f.Encoding != centrifugo.JSON {
		return rejectUniFormat
	}
	t.identity = newSession(f)
	if f.Uni && values.Has(connectParameter) {
		t.connect = []byte(values.Get(connectParameter))
	}
	return nil
}

// chosen returns the subprotocol that the upgrader will agree to.
func chosen(offered []string) string {
	for _, p := range offered {
		if p == subprotocolJSON || p == subprotocolProtobuf {
			return p
		}
	}
	return ""
}

// dear reports whether a raw client's token is expensive, so that it has to be verified
// elsewhere.
func (s *Server) dear(t *target) bool {
	reads, _ := s.policy.Reads(t.token) // authorize answers the error
	return reads && !s.policy.Tokens().Cheap(t.token)
}

// authorize settles what a raw client or an event stream may do in its channel, by its
// token and the channel's namespace.
func (s *Server) authorize(ctx context.Context, t *target) *handshake.Reject {
	if t.variant.protocol != connProtocol(rawProtocol{}) {
		return nil
	}
	user, granted := "", false // granted: the token itself is for this channel
	reads, err := s.policy.Reads(t.token)
	switch {
	case err != nil:
		s.tokenRejected(err.Error(), slog.String("channel", sampling.Quote(t.channel)))
		return rejectToken
	case reads:
		var reject *handshake.Reject
		if granted, reject = s.identify(ctx, t); reject != nil {
			return reject
		}
		user = t.identity.user
	}
	rights, err := s.policy.Rights(t.channel, user, granted)
	switch err {
	case access.ErrUnknownChannel:
		return rejectUnknownChannel
	case access.ErrDenied:
		return rejectDenied
	}
	if t.ask.Kind != channel.AskNow && !rights.Recover {
		if !t.resumes {
			return rejectLookBack
		}
		t.ask, t.blind = channel.Ask{Kind: channel.AskNow}, true
	}
	t.listen = t.listen || !rights.Publish
	return nil
}

// identify verifies a raw client's token: one for a connection, or one for its channel,
// which then grants that. A connection token grants the channels that it names.
func (s *Server) identify(ctx context.Context, t *target) (granted bool, _ *handshake.Reject) {
	x := s.judge(ctx, t)
	var invalid *auth.InvalidError
	switch {
	case errors.Is(x.err, auth.ErrExpired):
		s.tokenRejected(auth.ErrExpired.Error(), slog.String("channel", sampling.Quote(t.channel)))
		return false, rejectTokenExpired
	case errors.As(x.err, &invalid):
		s.tokenRejected(invalid.Reason(), slog.String("channel", sampling.Quote(t.channel)))
		return false, rejectToken
	case x.err != nil:
		return false, rejectKeys
	case !x.isSub:
		c := &x.granted
		t.identity = &identity{id: newClientID(), user: c.User, info: c.Info, expireAt: c.ExpireAt}
		return access.Grants(c, t.channel), nil
	case x.sub.Channel != t.channel || x.sub.Client != "":
		return false, rejectDenied // it is another channel's, or for one connection that this is not
	}
	t.identity = &identity{id: newClientID(), user: x.sub.User, info: x.sub.Info, expireAt: x.sub.ExpireAt}
	return true, nil
}

// handleUniSSE serves /connection/uni_sse: an event stream of the Centrifugo protocol.
func (s *Server) handleUniSSE(w http.ResponseWriter, r *http.Request) {
	conn, ok := s.admitStream(w, r, "GET, POST, OPTIONS", s.cfg.NoClients, rejectClientOff)
	if !ok {
		return
	}
	t := target{variant: clientStream, listen: true, identity: newSession(pushFormat)}
	t.connect = []byte(r.URL.Query().Get(connectParameter))
	if r.Method == http.MethodPost {
		body, err := readBody(w, r, s.cfg.MaxMessage)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			s.refuseHTTP(w, conn, rejectLate)
			return
		case err != nil:
			s.refuseHTTP(w, conn, rejectConnect)
			return
		}
		t.connect = body
	}
	if len(t.connect) == 0 {
		t.connect = []byte("{}")
	}
	if _, err := centrifugo.DecodeConnect(t.connect); err != nil {
		s.refuseHTTP(w, conn, rejectConnect)
		return
	}
	if reject := s.stream(w, conn, t); reject != nil {
		s.refuseHTTP(w, conn, reject)
	}
}

// wantsUpgrade reports whether a path is one of the Centrifugo protocol's that want a WebSocket.
func wantsUpgrade(path string) bool {
	return path == pathClient || path == pathUniClient
}

// challenge is the field that a refusal with 401 has to have (RFC 9110 section 11.6.1).
const challenge = "WWW-Authenticate: Bearer\r\n"

var (
	rejectClientOff = &handshake.Reject{Status: http.StatusNotFound, Reason: "client_off",
		Text: "The Centrifugo protocol is turned off ({NoClients})."}
	rejectClientFormat = &handshake.Reject{Status: http.StatusBadRequest, Reason: "bad_client_format",
		Text: "Invalid format: use json or protobuf."}
	rejectUniFormat = &handshake.Reject{Status: http.StatusBadRequest, Reason: "one_way_format",
		Text: "Unidirectional clients are served in JSON only."}
	rejectConnect = &handshake.Reject{Status: http.StatusBadRequest, Reason: "bad_connect",
		Text: "Invalid connect request: give a JSON object in " + connectParameter + " or as the body, such as {\"token\":\"...\"}."}
	rejectLate = &handshake.Reject{Status: http.StatusRequestTimeout, Reason: "timeout",
		Text: "The request body did not arrive in time."}
	rejectToken = &handshake.Reject{Status: http.StatusUnauthorized, Reason: "invalid_token", Header: challenge,
		Text: "The token is invalid."}
	rejectTokenExpired = &handshake.Reject{Status: http.StatusUnauthorized, Reason: "token_expired", Header: challenge,
		Text: "The token has expired: get a new one."}
	rejectKeys = &handshake.Reject{Status: http.StatusServiceUnavailable, Reason: "keys_unavailable",
		Text: "The token cannot be verified at the moment.", Retry: 5}
	rejectDenied = &handshake.Reject{Status: http.StatusForbidden, Reason: "permission_denied",
		Text: "You may not subscribe to this channel, or only with a token in the parameter token."}
	rejectLookBack = &handshake.Reject{Status: http.StatusForbidden, Reason: "history_denied",
		Text: "You may not read this channel's history: leave out since and history."}
	rejectUnknownChannel = &handshake.Reject{Status: http.StatusNotFound, Reason: "unknown_channel",
		Text: "Unknown channel: its namespace is not configured."}
)
