package gateway

import (
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"sluice/gateway/clienttest"
	"sluice/gateway/loop"

	"github.com/centrifugal/protocol"
)

const (
	pathHTTP    = "/connection/http_stream"
	pathSSE     = "/connection/sse"
	pathUniHTTP = "/connection/uni_http_stream"
)

// An emulated client has what one with a WebSocket has: its commands come in requests, in their order.
func TestEmulatedTranscript(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Version: "1.2"})
	c := clienttest.Emulate(t, s, "")
	c.Does(`{"id":2,"subscribe":{"channel":"chat:1"}}`)
	c.WantTold("subscribe", `{"id":2,"subscribe":{"recoverable":true,"epoch":"E","positioned":true}}`)
	c.Does(`{"id":3,"publish":{"channel":"chat:1","data":{"a": 1}}}`)
	c.WantTold("its reply goes first", `{"id":3,"publish":{}}`)
	c.WantTold("its own publication", `{"push":{"channel":"chat:1","pub":{"data":{"a": 1},"info":{"user":"","client":"ID"},"offset":1}}}`)
	s.publish("chat:1", "no JSON")
	c.WantTold("text that is no JSON", `{"push":{"channel":"chat:1","pub":{"data":"no JSON","offset":2}}}`)
	c.Does(`{"id":4,"presence_stats":{"channel":"chat:1"}}`+"\n"+`{"id":5,"ping":{}}`, "{}", `{"id":6,"ping":{}}`)
	c.WantTold("presence_stats", `{"id":4,"presence_stats":{"num_clients":1,"num_users":1}}`)
	c.WantTold("another of the same request", `{"id":5,"ping":{}}`)
	c.WantTold("of a later one", `{"id":6,"ping":{}}`)
	c.Does(`{"id":7,"connect":{}}`)
	c.WantTold("connect twice", `{"push":{"disconnect":{"code":3501,"reason":"bad request"}}}`)
	c.WantEOF("the stream ends")
	c.Fin()
	clienttest.WaitFor(t, "it to be gone", func() bool { return s.edge.Counts().Connections == 0 })
	c.Posts.Write(clienttest.Posting("/emulation", c.Emulation(`{}`)))
	if a := c.Posts.WantStatus("its session is over", http.StatusNotFound); !a.Close {
		t.Error("the connection is kept after a refusal")
	}
}

// Events are the other form of such a stream.
func TestEmulatedEvents(t *testing.T) {
	t.Parallel()
	s := start(t, Config{})
	c := &clienttest.Emulated{Client: clienttest.Stream(t, s, pathSSE+"?cf_connect="+url.QueryEscape(`{"id":1,"connect":{}}`)), Posts: clienttest.Connect(t, s)}
	c.Knows(c.Pushed(t))
	c.Does(`{"id":2,"subscribe":{"channel":"x"}}`)
	if got := clienttest.Constant(c.Pushed(t)); got != `{"id":2,"subscribe":{"recoverable":true,"epoch":"E","positioned":true}}` {
		t.Errorf("subscribe: got %s", got)
	}
	s.publish("x", "1")
	if got := c.Pushed(t); got != `{"push":{"channel":"x","pub":{"data":1,"offset":1}}}` {
		t.Errorf("a publication: got %s", got)
	}
}

// A unidirectional client is sent bare pushes in lines.
func TestUnidirectionalLines(t *testing.T) {
	t.Parallel()
	s := start(t, Config{})
	for _, body := range []string{"{}", "null", ` {"name":"x"}`} {
		c := &clienttest.Emulated{Client: clienttest.Lines(t, s, pathUniHTTP, body)}
		c.WantTold("connect", `{"connect":{"client":"ID","version":"sluice","ping":25}}`)
	}
	for body, status := range map[string]int{"": 400, "[]": 400, strings.Repeat(" ", defaults.MaxMessage+1): 413} {
		c := clienttest.Connect(t, s)
		c.Write(clienttest.Posting(pathUniHTTP, body))
		c.WantStatus("a request that is none", status)
	}
}

// Protobuf travels as it is: each message behind its length.
func TestEmulatedProtobuf(t *testing.T) {
	t.Parallel()
	s := start(t, Config{})
	posting := func(target string, body []byte) string {
		return strings.Replace(clienttest.Posting(target, string(body)), "application/json", "application/octet-stream", 1)
	}
	commands := func(all ...*protocol.Command) (b []byte) {
		for _, cmd := range all {
			p, err := cmd.MarshalVT()
			if err != nil {
				t.Fatal(err)
			}
			b = append(append(b, byte(len(p))), p...) // all are short
		}
		return b
	}
	c := clienttest.Connect(t, s)
	c.Write(posting(pathHTTP, commands(&protocol.Command{Id: 1, Connect: &protocol.ConnectRequest{}}, &protocol.Command{Id: 2, Subscribe: &protocol.SubscribeRequest{Channel: "x"}})))
	resp, err := http.ReadResponse(c.In, nil)
	if err != nil || resp.Header.Get("Content-Type") != "application/octet-stream" {
		t.Fatalf("%+v, %v", resp, err)
	}
	reads := func() *protocol.Reply {
		t.Helper()
		c.Patience()
		n, err := binary.ReadUvarint(c.In)
		p := make([]byte, n)
		r := new(protocol.Reply)
		if _, short := io.ReadFull(c.In, p); err != nil || short != nil || r.UnmarshalVT(p) != nil {
			t.Fatalf("a reply: %q, %v", p, err)
		}
		return r
	}
	first := reads().Connect
	if r := reads(); r.Id != 2 || r.Subscribe == nil {
		t.Errorf("subscribe: %v", r)
	}
	body, err := (&protocol.EmulationRequest{Session: first.Session, Node: first.Node, Data: commands(
		&protocol.Command{Id: 3, Publish: &protocol.PublishRequest{Channel: "x", Data: []byte{0xff, '\n', 0}}}, &protocol.Command{})}).MarshalVT()
	if err != nil {
		t.Fatal(err)
	}
	posts := clienttest.Connect(t, s)
	posts.Write(posting("/emulation", body))
	posts.WantStatus("commands", http.StatusNoContent)
	if r := reads(); r.Id != 3 || r.Publish == nil {
		t.Errorf("publish: %v", r)
	}
	if r := reads(); string(r.GetPush().GetPub().GetData()) != "\xff\n\x00" {
		t.Errorf("the publication: %v", r)
	}
}

// What is no request for a session is refused, and costs the sessions nothing.
func TestEmulationRefuses(t *testing.T) {
	t.Parallel()
	s := start(t, Config{AllowedOrigins: []string{"https://app.example.com"}})
	c := clienttest.Emulate(t, s, "")
	publish := c.Emulation(`{"id":2,"publish":{"channel":"x","data":1}}`)
	other := &clienttest.Emulated{Session: strings.Repeat("A", 22), Node: c.Node}
	for _, test := range []struct {
		why, request string
		status       int
		allowed      string
	}{
		{"another origin", clienttest.Posting("/emulation", publish, "Origin: https://evil.example"), 403, ""},
		{"two origins", clienttest.Posting("/emulation", publish, "Origin: https://app.example.com", "Origin: https://evil.example"), 400, ""},
		{"another origin, without a preflight", strings.Replace(clienttest.Posting("/emulation", publish, "Origin: https://evil.example"), "application/json", "text/plain", 1), 403, ""},
		{"an unknown session", clienttest.Posting("/emulation", other.Emulation("{}"), "Origin: https://app.example.com"), 404, "https://app.example.com"},
		{"a session that is none", clienttest.Posting("/emulation", `{"session":"é","data":"{}"}`), 404, ""},
		{"another node", clienttest.Posting("/emulation", `{"session":"`+other.Session+`","node":"zzz","data":"{}"}`), 404, ""},
		{"no JSON", clienttest.Posting("/emulation", "session"), 400, ""},
		{"commands that are no string", clienttest.Posting("/emulation", `{"session":"`+c.Session+`","data":{}}`), 400, ""},
		{"more than a message may have", clienttest.Posting("/emulation", c.Emulation(strings.Repeat(" ", defaults.MaxMessage+1))), 413, ""},
		{"a body without end", clienttest.Posting("/emulation", strings.Repeat(" ", 3*defaults.MaxMessage)), 413, ""},
		{"GET", "GET /emulation HTTP/1.1\r\nHost: localhost\r\n\r\n", 405, ""},
		{"an upgrade", clienttest.UpgradeTo("/emulation"), 404, ""},
		{"a preflight", "OPTIONS /emulation HTTP/1.1\r\nHost: localhost\r\nOrigin: https://app.example.com\r\nAccess-Control-Request-Headers: x-a,content-type\r\n\r\n", 204, "https://app.example.com"},
		{"a stream for another origin", clienttest.Posting(pathHTTP, `{"id":1,"connect":{}}`, "Origin: https://evil.example"), 403, ""},
		{"a stream without a command", clienttest.Posting(pathHTTP, ""), 400, ""},
		{"a publication in a URL, which a link to it can have", "GET " + pathSSE + "?cf_connect=" + url.QueryEscape(`{"id":1,"connect":{}}`+"\n"+`{"id":2,"publish":{"channel":"x","data":1}}`) + " HTTP/1.1\r\nHost: localhost\r\n\r\n", 400, ""},
		{"no connect in a URL", "GET " + pathSSE + "?cf_connect=" + url.QueryEscape(`{"id":2,"ping":{}}`) + " HTTP/1.1\r\nHost: localhost\r\n\r\n", 400, ""},
		{"events without a command", "GET " + pathSSE + " HTTP/1.1\r\nHost: localhost\r\n\r\n", 400, ""},
	} {
		r := clienttest.Connect(t, s)
		r.Write(test.request)
		a := r.WantStatus(test.why, test.status)
		if got := a.Header.Get("Access-Control-Allow-Origin"); got != test.allowed {
			t.Errorf("%s: the origin %q is allowed", test.why, got)
		}
		if test.why == "a preflight" && !strings.HasSuffix(a.Header.Get("Access-Control-Allow-Headers"), "x-a,content-type") {
			t.Errorf("a preflight: %v", a.Header)
		}
	}
	c.Does(`{"id":3,"history":{"channel":"x"}}`)
	c.WantTold("nothing was published", `{"id":3,"history":{"publications":[],"epoch":"E","offset":0}}`)
}

// A command that waits keeps those of later requests waiting; a client that goes on nevertheless is too fast.
func TestEmulatedCommandsWait(t *testing.T) {
	t.Parallel()
	hooks := newStalled()
	set := hooks.hooks()
	set.Connect, set.Publish = nil, nil
	s := start(t, Config{Hooks: set, PingInterval: -1, History: -1})
	c := clienttest.Emulate(t, s, "")
	c.Does(`{"id":2,"subscribe":{"channel":"x"}}`+"\n"+`{"id":3,"ping":{}}`, `{"id":4,"ping":{}}`, `{"id":5,"ping":{}}`)
	hooks.says(t, "subscribe  x", nil)
	c.WantTold("the answer", `{"id":2,"subscribe":{}}`)
	for i := range 3 {
		c.WantTold("what came behind it", fmt.Sprintf(`{"id":%d,"ping":{}}`, i+3))
	}
	c.Does(`{"id":6,"subscribe":{"channel":"y"}}`)
	hooks.next(t, "subscribe  y")
	long := `{"id":7,"publish":{"channel":"x","data":"` + clienttest.Stars(defaults.MaxMessage-100) + `"}}`
	c.Does(long, long)
	s.Quiet()
	s.WantClosed(loop.ReasonMessageRate, 0)
	c.Posts.Write(clienttest.Posting("/emulation", c.Emulation(long)))
	c.Posts.WantStatus("it does not matter to the request", http.StatusNoContent)
	if got := clienttest.Receive(t, "the question to be taken back", hooks.canceled); got != "subscribe  y" {
		t.Error(got)
	}
	c.WantTold("too much waits", `{"push":{"disconnect":{"code":3013,"reason":"too many requests","reconnect":true}}}`)
}

// The rates of commands, and of pongs that nobody asked for, are those of a session with a WebSocket.
func TestEmulatedCommandsCount(t *testing.T) {
	t.Parallel()
	s := start(t, Config{MessageRate: 10, ControlRate: 5, PingInterval: -1})
	for _, command := range []string{"{}", `{"id":2,"presence_stats":{"channel":"x"}}`} {
		c := clienttest.Emulate(t, s, "")
		for range 21 {
			c.Posts.Write(clienttest.Posting("/emulation", c.Emulation(command)))
			c.Posts.WantStatus("a command", http.StatusNoContent)
		}
		for {
			if got := c.Told("what it gets"); strings.Contains(got, `"disconnect":{"code":3013`) {
				break
			}
		}
		c.WantEOF("it is closed")
		c.Fin()
	}
	s.WantClosed(loop.ReasonControlRate, 1)
	s.WantClosed(loop.ReasonMessageRate, 1)
}

// A pong comes in a request. What comes on the stream's connection is none.
func TestEmulatedClientsAnswerPings(t *testing.T) {
	t.Parallel()
	s := start(t, Config{PingInterval: 10 * time.Second, PongTimeout: 5 * time.Second})
	c := clienttest.Emulate(t, s, "")
	pings := func() uint64 { return s.Sum(func(st *loop.Stats) uint64 { return st.Pings.Load() }) }
	ping := func() {
		t.Helper()
		before := pings()
		for passed := 0; pings() == before; passed++ {
			if s.Pass(1); passed > 10 {
				t.Fatal("no ping")
			}
		}
		c.Patience()
		if line, err := c.In.ReadString('\n'); line != "{}\n" {
			t.Fatalf("ping: got %q, %v", line, err)
		}
	}
	ping()
	c.Does("{}")
	s.Quiet()
	s.Pass(5)
	ping()
	c.Write("{}\n")
	c.Arrived()
	s.Quiet()
	s.Pass(5)
	c.Patience()
	if line, err := c.In.ReadString('\n'); line != `{"push":{"disconnect":{"code":3012,"reason":"no pong","reconnect":true}}}`+"\n" {
		t.Fatalf("got %q, %v", line, err)
	}
	c.Fin()
	s.WantClosed(loop.ReasonNoPong, 1)
}

// Lines are compressed as events are.
func TestStreamsOfLinesAreCompressed(t *testing.T) {
	t.Parallel()
	s := start(t, compressing(Config{CompressionMin: 128}))
	c := clienttest.Emulate(t, s, "", clienttest.AcceptGzip)
	c.Does(`{"id":2,"subscribe":{"channel":"x"}}`)
	c.Told("subscribe")
	s.publish("x", readings(12))
	if got := c.Told("a publication"); !strings.Contains(got, "temperature") {
		t.Errorf("got %s", got)
	}
	if n := s.rows("")[0].Compression; n != "gzip" {
		t.Errorf("the stream is compressed with %q", n)
	}
}
