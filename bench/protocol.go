package bench

import (
	"errors"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// Protocol is what subscribers speak.
type Protocol string

const (
	// Raw works with any server: a WebSocket message is a payload, or has one inside.
	Raw Protocol = "raw"
	// JSON is sluice's: a WebSocket message is a record with an offset (?format=json).
	JSON Protocol = "json"
	// SSE is sluice's streams (GET /sse/CHANNEL): an event is a payload, its id the position.
	SSE Protocol = "sse"
	// Centrifugo is the Centrifugo protocol in JSON.
	Centrifugo Protocol = "centrifugo"
	// CentrifugoProtobuf is the same in Protobuf.
	CentrifugoProtobuf Protocol = "centrifugo-protobuf"
)

// Protocols are all protocols.
var Protocols = []Protocol{Raw, JSON, SSE, Centrifugo, CentrifugoProtobuf}

// check adds a fault if there is no such protocol.
func (p Protocol) check(f *Faults) {
	if !slices.Contains(Protocols, p) {
		f.Add("--protocol is %q: use raw, json, sse, centrifugo or centrifugo-protobuf", string(p))
	}
}

// dialect returns the form of Centrifugo's protocol, nil for other protocols.
func (p Protocol) dialect() dialect {
	switch p {
	case Centrifugo:
		return inJSON{}
	case CentrifugoProtobuf:
		return inProtobuf{}
	}
	return nil
}

// path is where to upgrade by default.
func (p Protocol) path() string {
	if p.dialect() != nil {
		return "/connection/websocket"
	}
	return "/ws"
}

// positions reports whether messages have offsets, which must grow by one.
func (p Protocol) positions() bool { return p != Raw }

// addresses returns where subscribers and where publishers connect, from the
// address of a WebSocket channel. channel is of use where the address does not
// name it.
func (p Protocol) addresses(u *url.URL, channel string) (subscribe, publish *url.URL, err error) {
	switch p {
	case JSON:
		return withQuery(u, "format", "json"), withQuery(u, "mode", "publish"), nil
	case SSE:
		s, err := streamAddress(u)
		return s, withQuery(u, "mode", "publish"), err
	case Centrifugo, CentrifugoProtobuf:
		ws := *u
		ws.Path, ws.RawPath = "/ws/"+channel, ""
		return u, withQuery(&ws, "mode", "publish"), nil
	}
	return u, u, nil
}

func withQuery(u *url.URL, key, value string) *url.URL {
	out := *u
	q := u.Query()
	q.Set(key, value)
	out.RawQuery = q.Encode()
	return &out
}

// webSocketPath splits a path such as /prefix/ws/news.
var webSocketPath = regexp.MustCompile(`^(.*?)/ws(?:/(.*))?$`)

// streamAddress returns the SSE stream of the channel that a WebSocket address
// names: /ws/news becomes /sse/news, and /ws, which names none, /sse/lobby.
func streamAddress(u *url.URL) (*url.URL, error) {
	m := webSocketPath.FindStringSubmatch(u.EscapedPath())
	if m == nil {
		return nil, errors.New("--protocol sse needs a --path of the form /ws/CHANNEL, from which it takes the channel")
	}
	q := u.Query()
	channel := m[2]
	if channel == "" && q.Has("channel") {
		channel = url.PathEscape(q.Get("channel"))
	}
	if channel == "" {
		channel = "lobby"
	}
	q.Del("channel")
	out := *u
	out.Scheme = strings.Replace(u.Scheme, "ws", "http", 1)
	out.RawPath = m[1] + "/sse/" + channel
	out.Path, _ = url.PathUnescape(out.RawPath) // ignored: it was escaped by url itself
	out.RawQuery = q.Encode()
	return &out, nil
}
