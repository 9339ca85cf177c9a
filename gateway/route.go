package gateway

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"

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
			t.listen = value == "subscribe"
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

var (
	rejectNotFound = &handshake.Reject{Status: http.StatusNotFound, Reason: "not_found",
		Text: "There is no WebSocket at this path: try /ws, /ws/{channel} or /echo."}
	rejectRawOff = &handshake.Reject{Status: http.StatusNotFound, Reason: "raw_off",
		Text: "Raw WebSocket and SSE are turned off ({Raw} off)."}
	rejectChannel = &handshake.Reject{Status: http.StatusBadRequest, Reason: "bad_channel",
		Text: "Invalid channel name: use 1 to 255 bytes of UTF-8 without control characters or white space."}
	rejectChannelTwice = &handshake.Reject{Status: http.StatusBadRequest, Reason: "duplicate_channel",
		Text: "The channel is in both the path and the query: give it once."}
	rejectEchoChannel = &handshake.Reject{Status: http.StatusBadRequest, Reason: "echo_channel",
		Text: "/echo has no channel and no history: connect to /ws/{channel}."}
	rejectQuery = &handshake.Reject{Status: http.StatusBadRequest, Reason: "bad_query",
		Text: "Malformed query string: percent-encode special characters."}
	rejectTwice = &handshake.Reject{Status: http.StatusBadRequest, Reason: "repeated_parameter",
		Text: "Repeated parameter: give token, channel, echo, mode, format, since and history only once each."}
	rejectEcho = &handshake.Reject{Status: http.StatusBadRequest, Reason: "bad_echo",
		Text: "Invalid echo: use on or off."}
	rejectMode = &handshake.Reject{Status: http.StatusBadRequest, Reason: "bad_mode",
		Text: "Invalid mode: use publish or subscribe."}
	rejectFormat = &handshake.Reject{Status: http.StatusBadRequest, Reason: "bad_format",
		Text: "Invalid format: use raw or json."}
	rejectSince = &handshake.Reject{Status: http.StatusBadRequest, Reason: "bad_since",
		Text: "Invalid since: use since=EPOCH:OFFSET with the values of the last message received, or since=now."}
	rejectHistory = &handshake.Reject{Status: http.StatusBadRequest, Reason: "bad_history",
		Text: "Invalid history: use history=N for the newest N publications."}
	rejectSinceHistory = &handshake.Reject{Status: http.StatusBadRequest, Reason: "since_and_history",
		Text: "Use either since or history, not both."}
	rejectSinceRaw = &handshake.Reject{Status: http.StatusBadRequest, Reason: "since_without_format",
		Text: "since requires format=json: raw messages carry no offset, so a gap could not be reported."}
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
