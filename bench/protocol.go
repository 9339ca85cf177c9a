package bench

import (
	"errors"
	"net/url"
	"regexp"
	"strings"
)

// Protocol is the form in which subscribers get what is published.
type Protocol string

const (
	// Raw: a WebSocket message is a payload, whatever the server.
	Raw Protocol = "raw"
	// JSON: a WebSocket message is a record with an offset (?format=json).
	JSON Protocol = "json"
	// SSE: an event stream (GET /sse/CHANNEL), an event is a payload with an id.
	SSE Protocol = "sse"
)

// check tells whether there is such a protocol.
func (p Protocol) check(f *faults) {
	if p != Raw && p != JSON && p != SSE {
		f.add("--protocol is %q, give raw, json or sse", string(p))
	}
}

// positions tells whether messages have offsets, which must grow by one.
func (p Protocol) positions() bool { return p == JSON || p == SSE }

// addresses gives where subscribers and where publishers connect, from the
// address of a WebSocket channel.
func (p Protocol) addresses(u *url.URL) (subscribe, publish *url.URL, err error) {
	switch p {
	case JSON:
		return withQuery(u, "format", "json"), withQuery(u, "mode", "publish"), nil
	case SSE:
		s, err := streamAddress(u)
		return s, withQuery(u, "mode", "publish"), err
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

// streamAddress gives the event stream of the channel that a WebSocket address
// names: /ws/news becomes /sse/news, and /ws, which names none, /sse/lobby.
func streamAddress(u *url.URL) (*url.URL, error) {
	m := webSocketPath.FindStringSubmatch(u.EscapedPath())
	if m == nil {
		return nil, errors.New("there is no /ws in the path: --protocol sse takes the channel from there, give --path /ws/CHANNEL")
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
