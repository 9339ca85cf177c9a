package gateway

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"

	"sluice/gateway/clienttest"
	"sluice/gateway/hook"
	"sluice/gateway/hook/config"

	"github.com/centrifugal/protocol"
	"github.com/gobwas/ws"
)

// hooksFile is a hooks file for a backend, with all events. %s is the backend's URL.
const hooksFile = `{
	"client": {"proxy": {
		"connect": {"enabled": true, "endpoint": "%[1]s/connect", "timeout": "30s", "http_headers": ["Cookie"]},
		"refresh": {"enabled": true, "endpoint": "%[1]s/refresh", "timeout": "30s", "include_connection_meta": true}
	}},
	"channel": {"proxy": {
		"subscribe": {"endpoint": "%[1]s/subscribe", "timeout": "30s", "include_connection_meta": true},
		"publish": {"endpoint": "%[1]s/publish", "timeout": "30s", "include_connection_meta": true},
		"sub_refresh": {"endpoint": "%[1]s/sub_refresh", "timeout": "30s", "include_connection_meta": true}
	}},
	"rpc": {"proxy": {"endpoint": "%[1]s/rpc", "timeout": "30s", "include_connection_meta": true}, "without_namespace": {"proxy_enabled": true}}
}`

// hooksOf makes the hooks of a hooks file.
func hooksOf(t testing.TB, file string) *hook.Set {
	t.Helper()
	c, err := config.Parse([]byte(file), os.ReadFile)
	if err == nil {
		err = c.Check(config.Surroundings{})
	}
	if err != nil {
		t.Fatal(err)
	}
	set, err := c.Build(nil, config.Bounds{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(set.Close)
	return set.Hooks
}

// speaks is a client of one of the protocols.
type speaks struct {
	*clienttest.Client
	send func(command string) // of Centrifugo's protocol, in JSON
	next func() string        // waits for the next message, and says what it means; what the encoding is does not show
}

// ways are the ways to connect with a session. Those of raw WebSocket and SSE name a channel, too.
var ways = []struct {
	name   string
	column string // of the tables of outcomes
	open   func(t *testing.T, s *server, session, channel string) *speaks
}{
	{"raw", "raw", func(t *testing.T, s *server, session, channel string) *speaks {
		c := clienttest.Connect(t, s)
		c.Write(clienttest.UpgradeTo("/ws/"+channel, "Cookie: session="+session))
		return asked(c, func() string {
			c.WantUpgrade("it may")
			c.Write(clienttest.Ping("in?"))
			return frameOf(c)
		}, frameOf)
	}},
	{"raw JSON", "raw", func(t *testing.T, s *server, session, channel string) *speaks {
		c := clienttest.Connect(t, s)
		c.Write(clienttest.UpgradeTo("/ws/"+channel+"?format=json", "Cookie: session="+session))
		return asked(c, func() string {
			c.WantUpgrade("it may")
			c.Write(clienttest.Ping("in?"))
			return frameOf(c)
		}, frameOf)
	}},
	{"SSE", "SSE", func(t *testing.T, s *server, session, channel string) *speaks {
		c := clienttest.Connect(t, s)
		c.AskForStream("/sse/"+channel, "Cookie: session="+session)
		return asked(c, func() string {
			c.WantStream("it may")
			return eventOf(c)
		}, eventOf)
	}},
	{"Centrifugo JSON", "Centrifugo", func(t *testing.T, s *server, session, _ string) *speaks {
		c := clienttest.Dial(t, s, pathClient, "Cookie: session="+session)
		p := &speaks{c, func(command string) { c.Does(command) }, func() string { return frameOf(c) }}
		p.send(`{"id":1,"connect":{}}`)
		return p
	}},
	{"Centrifugo Protobuf", "Centrifugo", func(t *testing.T, s *server, session, _ string) *speaks {
		c := clienttest.Dial(t, s, pathClient+"?format=protobuf", "Cookie: session="+session)
		p := &speaks{c, func(command string) { c.Send(clienttest.Bin(inProtobuf(t, command))) }, func() string { return frameOf(c) }}
		p.send(`{"id":1,"connect":{}}`)
		return p
	}},
	{"unidirectional WebSocket", "unidirectional", func(t *testing.T, s *server, session, _ string) *speaks {
		c := clienttest.Dial(t, s, "/connection/uni_websocket", "Cookie: session="+session)
		c.Does("{}")
		return &speaks{Client: c, next: func() string { return frameOf(c) }}
	}},
	{"unidirectional SSE", "unidirectional", func(t *testing.T, s *server, session, _ string) *speaks {
		c := clienttest.Connect(t, s)
		c.AskForStream("/connection/uni_sse", "Cookie: session="+session)
		return &speaks{Client: c, next: behind(func() { c.WantStream("it is answered") }, func() string { return pushed(t, c.Pushed(t)) })}
	}},
	{"unidirectional HTTP", "unidirectional", func(t *testing.T, s *server, session, _ string) *speaks {
		c := clienttest.Connect(t, s)
		c.Write(clienttest.Posting(pathUniHTTP, "{}", "Cookie: session="+session))
		e := &clienttest.Emulated{Client: c}
		return &speaks{Client: c, next: behind(func() { wantLines(c) }, func() string { return pushed(t, e.Told("a push")) })}
	}},
	{"emulated HTTP", "Centrifugo", func(t *testing.T, s *server, session, _ string) *speaks {
		c := clienttest.Connect(t, s)
		c.Write(clienttest.Posting(pathHTTP, `{"id":1,"connect":{}}`, "Cookie: session="+session))
		e := &clienttest.Emulated{Client: c}
		return emulated(t, s, e, behind(func() { wantLines(c) }, func() string { return e.Told("a reply") }))
	}},
	{"emulated SSE", "Centrifugo", func(t *testing.T, s *server, session, _ string) *speaks {
		c := clienttest.Connect(t, s)
		c.AskForStream(pathSSE+"?cf_connect="+url.QueryEscape(`{"id":1,"connect":{}}`), "Cookie: session="+session)
		return emulated(t, s, &clienttest.Emulated{Client: c}, behind(func() { c.WantStream("it is answered") }, func() string { return c.Pushed(t) }))
	}},
	{"emulated HTTP Protobuf", "Centrifugo", func(t *testing.T, s *server, session, _ string) *speaks {
		c := clienttest.Connect(t, s)
		posting := func(target, body, field string) string {
			return "POST " + target + " HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/octet-stream\r\n" + field + fmt.Sprintf("Content-Length: %d\r\n\r\n", len(body)) + body
		}
		c.Write(posting(pathHTTP, inProtobuf(t, `{"id":1,"connect":{}}`), "Cookie: session="+session+"\r\n"))
		var in protocol.EmulationRequest
		p := &speaks{Client: c}
		p.next = behind(func() { wantLines(c) }, func() string {
			c.Patience()
			n, err := binary.ReadUvarint(c.In)
			if err != nil {
				return err.Error()
			}
			p := make([]byte, n)
			r := new(protocol.Reply)
			if _, err := io.ReadFull(c.In, p); err != nil {
				return err.Error()
			}
			if err := r.UnmarshalVT(p); err != nil {
				return err.Error()
			}
			if r.Connect != nil {
				in.Session, in.Node = r.Connect.Session, r.Connect.Node
			}
			return meaning(r)
		})
		p.send = func(command string) {
			in.Data = []byte(inProtobuf(t, command))
			body, err := in.MarshalVT()
			if err != nil {
				t.Fatal(err)
			}
			posts := clienttest.Connect(t, s)
			posts.Write(posting("/emulation", string(body), ""))
			posts.WantStatus("a command", http.StatusNoContent)
			posts.Vanish()
		}
		return p
	}},
}

// behind reads the head of a response before what is first read of its body: it comes when the client may connect.
func behind(head func(), read func() string) func() string {
	head = sync.OnceFunc(head)
	return func() string {
		head()
		return read()
	}
}

// wantLines reads the head of a response with a stream of lines.
func wantLines(c *clienttest.Client) {
	c.T.Helper()
	c.Patience()
	r, err := http.ReadResponse(c.In, nil)
	if err != nil || r.StatusCode != http.StatusOK {
		c.T.Fatalf("got %+v, %v", r, err)
	}
	c.Decodes(r)
}

// emulated returns a client whose commands come in requests. read reads a message of its stream.
func emulated(t *testing.T, s *server, e *clienttest.Emulated, read func() string) *speaks {
	send := func(command string) {
		posts := clienttest.Connect(t, s) // another one each time: only some of an address are kept
		posts.Write(clienttest.Posting("/emulation", e.Emulation(command)))
		posts.WantStatus("a command", http.StatusNoContent)
		posts.Vanish()
	}
	return &speaks{e.Client, send, func() string {
		p := read()
		if strings.Contains(p, `"session":`) {
			e.Knows(p)
		}
		r, err := protocol.NewJSONReplyDecoder([]byte(p)).Decode()
		if err != nil && err != io.EOF {
			return err.Error()
		}
		return meaning(r)
	}}
}

// inProtobuf returns a command with its length.
func inProtobuf(t *testing.T, command string) string {
	t.Helper()
	cmd, err := protocol.NewJSONCommandDecoder([]byte(command)).Decode()
	if err != nil && err != io.EOF {
		t.Fatal(err)
	}
	p, err := cmd.MarshalVT()
	if err != nil {
		t.Fatal(err)
	}
	return string(append(binary.AppendUvarint(nil, uint64(len(p))), p...))
}

// asked returns a client whose request waits for an answer. accepted reads what comes first behind a good one, and
// then what comes later.
func asked(c *clienttest.Client, accepted func() string, then func(*clienttest.Client) string) *speaks {
	is := false
	return &speaks{Client: c, next: func() string {
		if is {
			return then(c)
		}
		c.Patience()
		head, err := c.In.Peek(len("HTTP/1.1 101"))
		if err != nil {
			return err.Error()
		}
		status, _ := strconv.Atoi(string(head[len(head)-3:])) // ignored: then it is 0
		if is = status < 300; is {
			return accepted()
		}
		r := c.WantStatus("it is refused", status)
		if (r.Header.Get("Retry-After") != "") != (status == http.StatusServiceUnavailable) {
			c.T.Errorf("status %d with %v", status, r.Header)
		}
		return fmt.Sprintf("%d %s", status, strings.TrimSpace(r.Body))
	}}
}

// frameOf reads a frame and says what it means.
func frameOf(c *clienttest.Client) string {
	op, p, err := c.Next()
	switch {
	case err != nil:
		return err.Error()
	case op == ws.OpPong:
		return "in"
	case op == ws.OpClose && len(p) >= 2:
		return fmt.Sprintf("close %d %s", int(p[0])<<8|int(p[1]), p[2:])
	case op == ws.OpBinary:
		r, err := protocol.NewProtobufReplyDecoder([]byte(p)).Decode()
		if err != nil && err != io.EOF {
			return err.Error()
		}
		return meaning(r)
	case strings.HasPrefix(p, `{"id":`), strings.HasPrefix(p, `{"push":`):
		r, err := protocol.NewJSONReplyDecoder([]byte(p)).Decode()
		if err != nil && err != io.EOF {
			return err.Error()
		}
		return meaning(r)
	case strings.HasPrefix(p, `{"connect":`):
		return "in"
	}
	return p
}

// eventOf reads an event of raw SSE and says what it means.
func eventOf(c *clienttest.Client) string {
	event := c.Event()
	var end struct {
		Code   int
		Reason string
	}
	switch _, data, ok := strings.Cut(event, "event: close\ndata: "); {
	case ok && json.Unmarshal([]byte(data), &end) == nil:
		return fmt.Sprintf("close %d %s", end.Code, end.Reason)
	case strings.HasPrefix(event, "retry: ") && strings.Contains(event, "\nid: "):
		return "in"
	}
	_, data, _ := strings.Cut(event, "data: ")
	return strings.TrimSpace(data)
}

// pushed says what a bare push means.
func pushed(t *testing.T, p string) string {
	push := new(protocol.Push)
	if err := json.Unmarshal([]byte(p), push); err != nil {
		t.Fatalf("%s: %v", p, err)
	}
	return meaning(&protocol.Reply{Push: push})
}

// meaning says what a reply or a push means.
func meaning(r *protocol.Reply) string {
	switch {
	case r.Error != nil:
		s := fmt.Sprintf("error %d %s", r.Error.Code, r.Error.Message)
		if r.Error.Temporary {
			s += ", temporary"
		}
		return s
	case r.Connect != nil:
		return "in"
	case r.Subscribe != nil:
		return strings.TrimSpace("subscribed " + string(r.Subscribe.Data))
	case r.Publish != nil:
		return "published"
	case r.Rpc != nil:
		return strings.TrimSpace("result " + string(r.Rpc.Data))
	case r.Ping != nil:
		return "pong"
	case r.Push == nil:
		return fmt.Sprintf("%+v", r)
	case r.Push.Connect != nil:
		return "in"
	case r.Push.Disconnect != nil:
		return fmt.Sprintf("close %d %s", r.Push.Disconnect.Code, r.Push.Disconnect.Reason)
	case r.Push.Unsubscribe != nil:
		return fmt.Sprintf("unsubscribed %s %d", r.Push.Channel, r.Push.Unsubscribe.Code)
	case r.Push.Pub != nil:
		s := fmt.Sprintf("publication %s %s", r.Push.Channel, r.Push.Pub.Data)
		if by := r.Push.Pub.Tags["by"]; by != "" {
			s += " by " + by
		}
		return s
	}
	return fmt.Sprintf("%+v", r.Push)
}

// sorted sorts the members of the object behind a word.
func sorted(s string) string {
	word, object, ok := strings.Cut(s, " ")
	var members map[string]any
	if !ok || json.Unmarshal([]byte(object), &members) != nil {
		return s
	}
	b, _ := json.Marshal(members) // cannot fail
	return word + " " + string(b)
}
