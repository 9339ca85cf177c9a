package raw

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
	"sluice/gateway/hook"
	"sluice/gateway/loop"
	"sluice/gateway/route"
	"sluice/gateway/sampling"
	"sluice/gateway/wire"
)

// rawClient is a client whose request is read, and whose rights are not settled yet. It
// implements Later.
type rawClient struct {
	rawStart
	protocol *Protocol
	token    string      // as the client gave it, "" for none
	resumes  bool        // ask is a browser's own, which does not come again after a refusal
	meta     []byte      // that its token has attached; nil for none
	until    int64       // when its subscription's token expires, Unix seconds, 0 for never
	headers  hook.Header // that hooks want
}

// routes returns where clients are served.
func (p *Protocol) routes() []*route.Route {
	paths := []string{"/", "/ws", "/ws/{channel}"}
	for _, alias := range p.Paths {
		paths = append(paths, alias, strings.TrimSuffix(alias, "/")+"/{channel}")
	}
	return []*route.Route{{
		Paths:        []string{"/echo"},
		Subprotocols: p.Subprotocols,
		Parse: func(h *loop.Hello, req *route.Request, _ string) (route.Later, *route.Reject) {
			h.Variant = p.echo
			_, reject := p.parse(h, "", req.RawQuery)
			return nil, reject
		},
	}, {
		Paths:        paths,
		Subprotocols: p.Subprotocols,
		Parse: func(h *loop.Hello, req *route.Request, name string) (route.Later, *route.Reject) {
			h.Variant = p.webSocket
			name, err := url.PathUnescape(name)
			if err != nil {
				return nil, rejectChannel
			}
			r, reject := p.parse(h, name, req.RawQuery)
			if reject != nil {
				return nil, reject
			}
			if p.Policy.Hooked() {
				r.headers = p.Policy.Hooks().Collect(req.Header())
			}
			return r, nil
		},
		Streams: []route.Stream{
			{Path: "/sse", Methods: "GET, OPTIONS", Off: p.Off, CloseRefused: true, Parse: p.parseStream},
			{Path: "/sse/{channel}", Methods: "GET, OPTIONS", Off: p.Off, CloseRefused: true, Parse: p.parseStream},
		},
	}}
}

// parseStream reads the request for an event stream.
func (p *Protocol) parseStream(h *loop.Hello, req *http.Request) (route.Later, *route.Reject) {
	h.Variant = p.stream
	r, reject := p.parse(h, req.PathValue("channel"), req.URL.RawQuery)
	if reject != nil {
		return nil, reject
	}
	if p.Policy.Hooked() {
		r.headers = p.Policy.Hooks().Collect(route.Fields(req.Header))
	}
	r.asks = true // if for nothing else, for its position: the zero Ask is for now
	if last := req.Header.Get("Last-Event-ID"); last != "" {
		// A browser sends what it got last from this URL, and comes no more after a
		// refusal: what is not a position of ours is one that is not kept.
		r.ask, _ = parseSince(last)
		r.ask.Kind, r.resumes = channel.AskSince, true
	}
	return r, nil
}

// parse reads a query into h, whose variant is known. name is the channel in the path, ""
// for none.
func (p *Protocol) parse(h *loop.Hello, name, query string) (*rawClient, *route.Reject) {
	if p.Off != nil {
		return nil, p.Off
	}
	r := &rawClient{rawStart: rawStart{channel: name, format: formatOf(h.Variant == p.stream, false)}, protocol: p}
	if reject := r.readQuery(h, query); reject != nil {
		return nil, reject
	}
	h.Start = &r.rawStart
	if p.Greeting != "" {
		h.Greeting = r.format.AppendGreeting(nil, p.Greeting)
	}
	if h.Variant == p.echo {
		return r, nil
	}
	if r.channel == "" {
		r.channel = Lobby
	}
	if !channel.ValidName(r.channel) {
		return nil, rejectChannel
	}
	r.channel = strings.Clone(r.channel) // it must not keep the whole head alive
	return r, nil
}

// queryKeys are the parameters that mean something here. Others are somebody
// else's: a cache buster, a proxy's mark.
var queryKeys = map[string]bool{"token": true, "channel": true, "echo": true, "mode": true, "format": true, "since": true, "history": true}

// readQuery reads the parameters of a request.
func (r *rawClient) readQuery(h *loop.Hello, raw string) *route.Reject {
	if raw == "" {
		return nil
	}
	values, err := url.ParseQuery(raw)
	if err != nil {
		return route.BadQuery
	}
	echo := h.Variant == r.protocol.echo
	for key, v := range values {
		if len(v) != 1 {
			if queryKeys[key] {
				return rejectTwice
			}
			continue
		}
		if echo && (key == "format" || key == "since" || key == "history") {
			return rejectEchoChannel
		}
		switch value := v[0]; key {
		case "token":
			r.token = value
		case "channel":
			if r.channel != "" {
				return rejectChannelTwice
			}
			if r.channel = value; echo {
				return rejectEchoChannel
			} else if value == "" {
				return rejectChannel
			}
		case "echo":
			if value != "on" && value != "off" {
				return rejectEcho
			}
			r.NoEcho = value == "off"
		case "mode":
			if value != "publish" && value != "subscribe" {
				return rejectMode
			}
			h.ListenOnly = h.ListenOnly || value == "subscribe"
		case "format":
			if value != "raw" && value != "json" {
				return rejectFormat
			}
			r.format = formatOf(h.Variant == r.protocol.stream, value == "json")
		case "since":
			var ok bool
			if r.ask, ok = parseSince(value); !ok {
				return rejectSince
			}
			r.asks = true
		case "history":
			n, err := strconv.ParseUint(value, 10, 31)
			if err != nil {
				return rejectHistory
			}
			if r.asks = true; n > 0 { // else it is since=now
				r.ask = channel.Ask{Kind: channel.AskNewest, N: int(n)}
			}
		}
	}
	if values.Has("since") && values.Has("history") {
		return rejectSinceHistory
	}
	if r.format == (wire.Raw{}) && values.Has("since") {
		return rejectSinceRaw
	}
	return nil
}

// parseSince reads "epoch:offset", or "now".
func parseSince(s string) (channel.Ask, bool) {
	if s == "now" {
		return channel.Ask{Kind: channel.AskNow}, true
	}
	name, number, found := strings.Cut(s, ":")
	epoch, ok := channel.ParseEpoch(name)
	offset, err := strconv.ParseUint(number, 10, 64)
	return channel.Ask{Kind: channel.AskSince, At: channel.Position{Epoch: epoch, Offset: offset}}, found && ok && err == nil
}

// formatOf returns the wire format of raw clients, over SSE or WebSocket.
func formatOf(stream, json bool) rawFormat {
	switch {
	case stream:
		return wire.Event{JSON: json}
	case json:
		return wire.Record{}
	}
	return wire.Raw{}
}

// Waits implements Later: its token is expensive.
func (r *rawClient) Waits() bool {
	reads, _ := r.protocol.Policy.Reads(r.token) // Authorize answers the error
	return reads && !r.protocol.Verifiers.Cheap(r.token)
}

// Authorize implements Later: by the token and the channel's namespace.
func (r *rawClient) Authorize(ctx context.Context, h *loop.Hello, wait func() bool) *route.Reject {
	policy := r.protocol.Policy
	user, granted := "", false // granted: the token itself is for this channel
	reads, err := policy.Reads(r.token)
	switch {
	case err != nil:
		r.rejected(err.Error())
		return rejectToken
	case reads:
		var reject *route.Reject
		if granted, reject = r.identify(ctx, h, wait); reject != nil {
			return reject
		}
		user = h.Identity.User
	}
	if o := policy.Options(r.channel); o != nil && !granted && !o.Fits(r.channel) {
		return rejectName // before a hook is asked
	}
	if r.prepare(h, granted) {
		return nil
	}
	listens, reject := r.settle(policy, user, granted, r.resumes)
	h.ListenOnly = h.ListenOnly || listens
	if o, ok := h.Start.(*opening); ok {
		o.rawStart = r.rawStart
	}
	return reject
}

// identify verifies the client's token: one for a connection, or one for its channel, which then
// grants that. A connection token grants the channels that it names.
func (r *rawClient) identify(ctx context.Context, h *loop.Hello, wait func() bool) (granted bool, _ *route.Reject) {
	x := r.protocol.Verifiers.Wait(ctx, r.protocol.HandshakeTimeout, r.token, wait)
	var invalid *auth.InvalidError
	switch {
	case errors.Is(x.Err, auth.ErrExpired):
		r.rejected(auth.ErrExpired.Error())
		return false, rejectTokenExpired
	case errors.As(x.Err, &invalid):
		r.rejected(invalid.Reason())
		return false, rejectToken
	case x.Err != nil:
		return false, rejectKeys
	case !x.IsSubscription:
		c := &x.Connection
		r.meta = c.Meta
		h.Identity = &loop.Identity{ID: loop.NewClientID(), User: c.User, Info: c.Info, ExpireAt: c.ExpireAt, Key: c.Key}
		return access.Grants(c, r.channel), nil
	case x.Subscription.Channel != r.channel || x.Subscription.Client != "":
		return false, rejectDenied // it is another channel's, or for one connection that this is not
	}
	r.until = x.Subscription.ExpireAt
	h.Identity = &loop.Identity{ID: loop.NewClientID(), User: x.Subscription.User, Info: x.Subscription.Info, ExpireAt: r.until, Key: x.Subscription.Key}
	return true, nil
}

// rejected logs why the client's token is rejected.
func (r *rawClient) rejected(why string) {
	access.LogRejected(r.protocol.Logger, why, slog.String("channel", sampling.Quote(r.channel)))
}

// challenge is the field that a refusal with 401 has to have (RFC 9110 section 11.6.1).
const challenge = "WWW-Authenticate: Bearer\r\n"

var (
	RejectRawOff = route.NewReject(http.StatusNotFound, "raw_off",
		"Raw WebSocket and SSE are turned off ({Raw} off).")
	rejectChannel = route.NewReject(http.StatusBadRequest, "bad_channel",
		"Invalid channel name: use 1 to 255 bytes of UTF-8 without control characters or white space.")
	rejectName = route.NewReject(http.StatusBadRequest, "bad_channel",
		"Invalid channel name: it does not match the channel_regex of its namespace.")
	rejectChannelTwice = route.NewReject(http.StatusBadRequest, "duplicate_channel",
		"The channel is in both the path and the query: specify it only once.")
	rejectEchoChannel = route.NewReject(http.StatusBadRequest, "echo_channel",
		"/echo has no channel and no history: connect to /ws/{channel}.")
	rejectTwice = route.NewReject(http.StatusBadRequest, "repeated_parameter",
		"Repeated parameter: token, channel, echo, mode, format, since and history may each appear only once.")
	rejectEcho = route.NewReject(http.StatusBadRequest, "bad_echo",
		"Invalid echo: use on or off.")
	rejectMode = route.NewReject(http.StatusBadRequest, "bad_mode",
		"Invalid mode: use publish or subscribe.")
	rejectFormat = route.NewReject(http.StatusBadRequest, "bad_format",
		"Invalid format: use raw or json.")
	rejectSince = route.NewReject(http.StatusBadRequest, "bad_since",
		"Invalid since: use since=EPOCH:OFFSET with the values of the last message received, or since=now.")
	rejectHistory = route.NewReject(http.StatusBadRequest, "bad_history",
		"Invalid history: use history=N for the newest N publications.")
	rejectSinceHistory = route.NewReject(http.StatusBadRequest, "since_and_history",
		"Use either since or history, not both.")
	rejectSinceRaw = route.NewReject(http.StatusBadRequest, "since_without_format",
		"since requires format=json: raw messages carry no offset, so a gap could not be reported.")
	rejectToken = route.NewReject(http.StatusUnauthorized, "invalid_token",
		"The token is invalid.").WithHeader(challenge)
	rejectTokenExpired = route.NewReject(http.StatusUnauthorized, "token_expired",
		"The token has expired: get a new one.").WithHeader(challenge)
	rejectKeys = route.NewReject(http.StatusServiceUnavailable, "keys_unavailable",
		"The token cannot be verified at the moment.").WithRetry(5)
	rejectDenied = route.NewReject(http.StatusForbidden, "permission_denied",
		"Subscribing to this channel is not allowed, or requires a token (?token=).")
	rejectLookBack = route.NewReject(http.StatusForbidden, "history_denied",
		"You may not read this channel's history: omit since and history.")
	rejectUnknownChannel = route.NewReject(http.StatusNotFound, "unknown_channel",
		"Unknown channel: its namespace is not configured.")
)
