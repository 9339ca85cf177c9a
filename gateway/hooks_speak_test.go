package gateway

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
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
		})
	}},
	{"raw JSON", "raw", func(t *testing.T, s *server, session, channel string) *speaks {
		c := clienttest.Connect(t, s)
		c.Write(clienttest.UpgradeTo("/ws/"+channel+"?format=json", "Cookie: session="+session))
		return asked(c, func() string {
			c.WantUpgrade("it may")
			c.Write(clienttest.Ping("in?"))
			return frameOf(c)
		})
	}},
	{"SSE", "SSE", func(t *testing.T, s *server, session, channel string) *speaks {
		c := clienttest.Connect(t, s)
		c.AskForStream("/sse/"+channel, "Cookie: session="+session)
		return asked(c, func() string {
			c.WantStream("it may")
			event := c.Event()
			if strings.Contains(event, "\nid: ") {
				return "in"
			}
			var end struct {
				Code   int
				Reason string
			}
			if _, data, ok := strings.Cut(event, "event: close\ndata: "); !ok || json.Unmarshal([]byte(data), &end) != nil {
				return event
			}
			return fmt.Sprintf("close %d %s", end.Code, end.Reason)
		})
	}},
	{"Centrifugo JSON", "Centrifugo", func(t *testing.T, s *server, session, _ string) *speaks {
		c := clienttest.Dial(t, s, pathClient, "Cookie: session="+session)
		p := &speaks{c, func(command string) { c.Does(command) }, func() string { return frameOf(c) }}
		p.send(`{"id":1,"connect":{}}`)
		return p
	}},
	{"Centrifugo Protobuf", "Centrifugo", func(t *testing.T, s *server, session, _ string) *speaks {
		c := clienttest.Dial(t, s, pathClient+"?format=protobuf", "Cookie: session="+session)
		p := &speaks{c, func(command string) {
			cmd, err := protocol.NewJSONCommandDecoder([]byte(command)).Decode()
			if err != nil && err != io.EOF {
				t.Fatal(err)
			}
			c.SendsProtobuf(cmd)
		}, func() string { return frameOf(c) }}
		p.send(`{"id":1,"connect":{}}`)
		return p
	}},
	{"unidirectional WebSocket", "unidirectional", func(t *testing.T, s *server, session, _ string) *speaks {
		c := clienttest.Dial(t, s, "/connection/uni_websocket", "Cookie: session="+session)
		c.Does("{}")
		return &speaks{Client: c, next: func() string { return frameOf(c) }}
	}},
	{"unidirectional SSE", "unidirectional", func(t *testing.T, s *server, session, _ string) *speaks {
		c := clienttest.Stream(t, s, "/connection/uni_sse", "Cookie: session="+session)
		return &speaks{Client: c, next: func() string { return pushed(t, c.Pushed(t)) }}
	}},
}

// asked returns a client whose request waits for an answer. accepted says what comes behind a good one.
func asked(c *clienttest.Client, accepted func() string) *speaks {
	is := false
	return &speaks{Client: c, next: func() string {
		if is {
			return frameOf(c)
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
