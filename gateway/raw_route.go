package gateway

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"sluice/gateway/access"
	"sluice/gateway/access/auth"
	"sluice/gateway/channel"
	"sluice/gateway/edge/handshake"
	"sluice/gateway/sampling"
)

// How raw WebSocket, echo and event streams are asked for.

var rawRoute = &route{
	serves: func(s *Server, _, escaped string) bool {
		_, ok := s.rawPath(escaped)
		return ok
	},
	parse: func(s *Server, t *target, req *handshake.Request) *handshake.Reject {
		t.variant, t.upgrader = rawWebSocket, s.upgrader
		if name, _ := s.rawPath(req.RawPath); name != "" {
			unescaped, err := url.PathUnescape(name)
			if err != nil {
				return rejectChannel
			}
			t.channel = unescaped
		}
		return s.settleTarget(t, req.RawQuery)
	},
	authorize: (*Server).authorize,
	handle: func(s *Server, mux *http.ServeMux) {
		mux.HandleFunc("/sse", s.handleStream)
		mux.HandleFunc("/sse/{channel}", s.handleStream)
	},
}

var echoRoute = &route{
	serves: func(_ *Server, path, _ string) bool { return path == "/echo" },
	parse: func(s *Server, t *target, req *handshake.Request) *handshake.Reject {
		t.variant, t.upgrader = echoWebSocket, s.upgrader
		return s.settleTarget(t, req.RawQuery)
	},
}

// handleStream serves /sse/{channel}.
func (s *Server) handleStream(w http.ResponseWriter, r *http.Request) {
	conn, ok := s.admitStream(w, r, "GET, OPTIONS", s.cfg.Raw == RawOff, rejectRawOff)
	if !ok {
		return
	}
	t := target{variant: rawStream, channel: r.PathValue("channel"), listen: true}
	reject := s.settleTarget(&t, r.URL.RawQuery)
	if last := r.Header.Get("Last-Event-ID"); last != "" && reject == nil {
		// A browser sends what it got last from this URL, and comes no more after a
		// refusal: what is not a position of ours is one that is not kept.
		t.ask, _ = parseSince(last)
		t.ask.Kind, t.resumes = channel.AskSince, true
	}
	if reject == nil {
		reject = s.authorize(r.Context(), &t)
	}
	if reject == nil {
		reject = s.stream(w, conn, t)
	}
	if reject != nil {
		s.refuseHTTP(w, conn, reject)
	}
}

// settleTarget reads a query into a target whose variant is known, and whose channel
// where the path has one.
func (s *Server) settleTarget(t *target, query string) *handshake.Reject {
	if s.cfg.Raw == RawOff {
		return s.named(rejectRawOff)
	}
	t.format = rawFormat{}
	if t.variant == rawStream {
		t.format = streamFormat{}
	}
	if reject := t.readQuery(query); reject != nil {
		return reject
	}
	if s.cfg.Greeting != "" {
		t.greeting = t.format.appendGreeting(nil, s.cfg.Greeting)
	}
	if t.variant == echoWebSocket {
		return nil
	}
	if t.channel == "" {
		t.channel = Lobby
	}
	if handshake.ChannelName(t.channel) != nil {
		return rejectChannel
	}
	t.channel = strings.Clone(t.channel) // it must not keep the whole head alive
	return nil
}

// rawPath reports whether raw clients are served at an escaped path, and the channel in
// it, escaped, "" for none.
func (s *Server) rawPath(path string) (channel string, ok bool) {
	if path == "/" || path == "/ws" {
		return "", true
	}
	if rest, ok := strings.CutPrefix(path, "/ws/"); ok {
		return rest, rest != "" && !strings.Contains(rest, "/")
	}
	for _, alias := range s.cfg.WSPaths {
		if path == alias {
			return "", true
		}
		if rest, ok := strings.CutPrefix(path, strings.TrimSuffix(alias, "/")+"/"); ok {
			return rest, rest != "" && !strings.Contains(rest, "/")
		}
	}
	return "", false
}

// queryKeys are the parameters that mean something here. Others are somebody
// else's: a cache buster, a proxy's mark.
var queryKeys = map[string]bool{"token": true, "channel": true, "echo": true, "mode": true, "format": true, "since": true, "history": true}

// readQuery reads the parameters of a raw client.
func (t *target) readQuery(raw string) *handshake.Reject {
	if raw == "" {
		return nil
	}
	values, err := url.ParseQuery(raw)
	if err != nil {
		return rejectQuery
	}
	for key, v := range values {
		if len(v) != 1 {
			if queryKeys[key] {
				return rejectTwice
			}
			continue
		}
		if t.variant == echoWebSocket && (key == "format" || key == "since" || key == "history") {
			return rejectEchoChannel
		}
		switch value := v[0]; key {
		case "token":
			t.token = value
		case "channel":
			if t.channel != "" {
				return rejectChannelTwice
			}
			if t.channel = value; t.variant == echoWebSocket {
				return rejectEchoChannel
			} else if value == "" {
				return rejectChannel
			}
		case "echo":
			if value != "on" && value != "off" {
				return rejectEcho
			}
			t.noEcho = value == "off"
		case "mode":
			if value != "publish" && value != "subscribe" {
				return rejectMode
			}
			t.listen = t.listen || value == "subscribe"
		case "format":
			if value != "raw" && value != "json" {
				return rejectFormat
			}
			t.format = t.variant.format(value == "json")
		case "since":
			var ok bool
			if t.ask, ok = parseSince(value); !ok {
				return rejectSince
			}
			t.asks = true
		case "history":
			n, err := strconv.ParseUint(value, 10, 31)
			if err != nil {
				return rejectHistory
			}
			t.asks, t.ask = true, channel.Ask{Kind: channel.AskNewest, N: int(n)}
		}
	}
	if values.Has("since") && values.Has("history") {
		return rejectSinceHistory
	}
	if t.format == (rawFormat{}) && values.Has("since") {
		return rejectSinceRaw
	}
	return nil
}

// format returns the wire format of raw clients in a framing.
func (v *variant) format(json bool) format {
	switch {
	case v == rawStream:
		return streamFormat{json: json}
	case json:
		return jsonFormat{}
	}
	return rawFormat{}
}

// named returns a refusal whose text names settings as the operator knows them.
func (s *Server) named(r *handshake.Reject) *handshake.Reject {
	named := *r
	named.Text = s.names.Text(r.Text)
	return &named
}

// dear reports whether a raw client's token is expensive, so that it has to be verified
// elsewhere.
func (s *Server) dear(t *target) bool {
	reads, _ := s.policy.Reads(t.token) // authorize answers the error
	return reads && !s.verifiers.Cheap(t.token)
}

// authorize settles what a raw client or an event stream may do in its channel, by its
// token and the channel's namespace.
func (s *Server) authorize(ctx context.Context, t *target) *handshake.Reject {
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
	x := s.verifiers.Wait(ctx, s.cfg.HandshakeTimeout, t.token, t.patient)
	var invalid *auth.InvalidError
	switch {
	case errors.Is(x.Err, auth.ErrExpired):
		s.tokenRejected(auth.ErrExpired.Error(), slog.String("channel", sampling.Quote(t.channel)))
		return false, rejectTokenExpired
	case errors.As(x.Err, &invalid):
		s.tokenRejected(invalid.Reason(), slog.String("channel", sampling.Quote(t.channel)))
		return false, rejectToken
	case x.Err != nil:
		return false, rejectKeys
	case !x.IsSubscription:
		c := &x.Connection
		t.identity = &identity{id: newClientID(), user: c.User, info: c.Info, expireAt: c.ExpireAt}
		return access.Grants(c, t.channel), nil
	case x.Subscription.Channel != t.channel || x.Subscription.Client != "":
		return false, rejectDenied // it is another channel's, or for one connection that this is not
	}
	t.identity = &identity{id: newClientID(), user: x.Subscription.User, info: x.Subscription.Info, expireAt: x.Subscription.ExpireAt}
	return true, nil
}

// challenge is the field that a refusal with 401 has to have (RFC 9110 section 11.6.1).
const challenge = "WWW-Authenticate: Bearer\r\n"

var (
	rejectRawOff = handshake.NewReject(http.StatusNotFound, "raw_off",
		"Raw WebSocket and SSE are turned off ({Raw} off).")
	rejectChannel = handshake.NewReject(http.StatusBadRequest, "bad_channel",
		"Invalid channel name: use 1 to 255 bytes of UTF-8 without control characters or white space.")
	rejectChannelTwice = handshake.NewReject(http.StatusBadRequest, "duplicate_channel",
		"The channel is in both the path and the query: specify it only once.")
	rejectEchoChannel = handshake.NewReject(http.StatusBadRequest, "echo_channel",
		"/echo has no channel and no history: connect to /ws/{channel}.")
	rejectTwice = handshake.NewReject(http.StatusBadRequest, "repeated_parameter",
		"Repeated parameter: token, channel, echo, mode, format, since and history may each appear only once.")
	rejectEcho = handshake.NewReject(http.StatusBadRequest, "bad_echo",
		"Invalid echo: use on or off.")
	rejectMode = handshake.NewReject(http.StatusBadRequest, "bad_mode",
		"Invalid mode: use publish or subscribe.")
	rejectFormat = handshake.NewReject(http.StatusBadRequest, "bad_format",
		"Invalid format: use raw or json.")
	rejectSince = handshake.NewReject(http.StatusBadRequest, "bad_since",
		"Invalid since: use since=EPOCH:OFFSET with the values of the last message received, or since=now.")
	rejectHistory = handshake.NewReject(http.StatusBadRequest, "bad_history",
		"Invalid history: use history=N for the newest N publications.")
	rejectSinceHistory = handshake.NewReject(http.StatusBadRequest, "since_and_history",
		"Use either since or history, not both.")
	rejectSinceRaw = handshake.NewReject(http.StatusBadRequest, "since_without_format",
		"since requires format=json: raw messages carry no offset, so a gap could not be reported.")
	rejectToken = handshake.NewReject(http.StatusUnauthorized, "invalid_token",
		"The token is invalid.").WithHeader(challenge)
	rejectTokenExpired = handshake.NewReject(http.StatusUnauthorized, "token_expired",
		"The token has expired: get a new one.").WithHeader(challenge)
	rejectKeys = handshake.NewReject(http.StatusServiceUnavailable, "keys_unavailable",
		"The token cannot be verified at the moment.").WithRetry(5)
	rejectDenied = handshake.NewReject(http.StatusForbidden, "permission_denied",
		"Subscribing to this channel is not allowed, or requires a token (?token=).")
	rejectLookBack = handshake.NewReject(http.StatusForbidden, "history_denied",
		"You may not read this channel's history: omit since and history.")
	rejectUnknownChannel = handshake.NewReject(http.StatusNotFound, "unknown_channel",
		"Unknown channel: its namespace is not configured.")
)
