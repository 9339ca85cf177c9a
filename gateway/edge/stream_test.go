package edge

import (
	"context"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"sluice/gateway/access"
	"sluice/gateway/clienttest"
	"sluice/gateway/loop"
	"sluice/gateway/raw"
)

func TestEventStream(t *testing.T) {
	t.Parallel()
	s := start(t, settings{})
	a, talks := clienttest.Stream(t, s, "/sse/x"), clienttest.Dial(t, s, "/ws/x")
	asJSON, lobby := clienttest.Stream(t, s, "/sse/x?format=json"), clienttest.Stream(t, s, "/sse")
	epoch := a.WantBegin("nothing was published yet", 0)
	asJSON.WantBegin("likewise", 0)
	lobby.WantBegin("without a name it is the lobby", 0)
	if s.publish(raw.Lobby, "in the lobby"); !strings.HasSuffix(lobby.Event(), "data: in the lobby\n") {
		t.Error("the lobby is another channel")
	}
	talks.Send(clienttest.Text("one"), clienttest.Text("two\nlines\r\nthree\rfour\n"), clienttest.Bin("\x00\xff"), clienttest.Text(""))
	for i, want := range []string{
		"data: one\n",
		"data: two\ndata: lines\ndata: three\ndata: four\ndata: \n",
		"event: binary\ndata: AP8=\n",
		"data: \n",
	} {
		a.WantEvent("each publication is an event", fmt.Sprintf("id: %s:%d\n%s", epoch, i+1, want))
		if got := asJSON.Event(); !strings.HasPrefix(got, fmt.Sprintf("id: %s:%d\ndata: {\"channel\":\"x\",", epoch, i+1)) || strings.Count(got, "\n") != 2 {
			t.Errorf("got %q", got)
		}
	}
	a.Vanish()
	s.wantConnections(3)

	b := clienttest.Stream(t, s, "/sse/x", "Last-Event-ID: "+epoch+":3")
	b.WantBegin("it resumes", 3)
	b.WantEvent("what it missed", fmt.Sprintf("id: %s:4\ndata: \n", epoch))
	c := clienttest.Stream(t, s, "/sse/x?since="+epoch+":3")
	c.WantBegin("it resumes by the query", 3)
	c.WantEvent("what it missed", fmt.Sprintf("id: %s:4\ndata: \n", epoch))
	d := clienttest.Stream(t, s, "/sse/x?history=1")
	d.WantBegin("it asks for one", 3)
	d.WantEvent("the newest", fmt.Sprintf("id: %s:4\ndata: \n", epoch))
	for _, last := range []string{"other:2", "somebody else's", epoch + ":9"} {
		e := clienttest.Stream(t, s, "/sse/x?since=now", "Last-Event-ID: "+last)
		begin := e.Event()
		if !strings.Contains(begin, "\nevent: gap\ndata: {\"gap\":true,\"channel\":\"x\",\"epoch\":\""+epoch+"\",\"offset\":0,") {
			t.Errorf("%s: it begins with %q, want a gap", last, begin)
		}
		e.WantEvent("what is kept follows", fmt.Sprintf("id: %s:1\ndata: one\n", epoch))
	}
	if got := s.counted("event_stream"); got != 9 {
		t.Errorf("%d streams are counted", got)
	}
}

// At rest a stream is a descriptor and a record, with a comment now and then, and
// it ends by saying why.
func TestEventStreamAtRestAndAtItsEnd(t *testing.T) {
	s := start(t, settings{Greeting: "hello", PingInterval: 10 * time.Second})
	before := runtime.NumGoroutine()
	var all []*clienttest.Client
	for range 20 {
		c := clienttest.Stream(t, s, "/sse/x")
		if got := c.Event(); !strings.HasSuffix(got, "\nevent: greeting\ndata: hello\n") {
			t.Fatalf("it begins with %q", got)
		}
		if got := c.Event(); !strings.HasPrefix(got, "id: ") {
			t.Fatalf("it goes on with %q", got)
		}
		all = append(all, c)
	}
	clienttest.WaitFor(t, "the goroutines to end", func() bool { return runtime.NumGoroutine() <= before })
	all[0].WantIdle(s, "it is not time yet")
	s.Pass(10)
	for _, c := range all {
		c.WantEvent("a comment keeps it alive", ":\n")
	}
	s.Pass(10)
	all[0].WantEvent("and again", ":\n")
	all[0].Write("nobody asked for this")
	all[0].WantIdle(s, "what it sends is thrown away")
	all[1].Fin()
	s.wantConnections(19)
	s.publish("x", "last")
	go s.shutdown(context.Background())
	for i, c := range all {
		if i == 1 {
			continue
		}
		if i > 0 {
			c.WantEvent("the second comment", ":\n")
		}
		if got := c.Event(); !strings.HasSuffix(got, "data: last\n") {
			t.Fatalf("what was published before is sent: got %q", got)
		}
		c.WantEvent("why it ends", "event: close\ndata: {\"code\":1001,\"reason\":\"server is shutting down\"}\n")
		c.WantEOF("and it ends")
	}
	s.wantConnections(0)
}

func TestEventStreamsOfOtherOrigins(t *testing.T) {
	t.Parallel()
	s := start(t, settings{Origins: []string{"https://app.example.com"}})
	request := func(head string) clienttest.Answer {
		t.Helper()
		c := clienttest.Connect(t, s)
		c.Write(head + "\r\n")
		c.Patience()
		resp, err := http.ReadResponse(c.In, nil)
		if err != nil {
			t.Fatal(err)
		}
		return clienttest.Answer{Response: resp}
	}
	const get, host = "GET /sse/x HTTP/1.1\r\n", "Host: localhost\r\n"
	for _, c := range []struct {
		name, head string
		status     int
		allowed    string
	}{
		{"no origin", get + host, 200, ""},
		{"its own", get + host + "Origin: http://localhost\r\n", 200, "http://localhost"},
		{"an allowed one", get + host + "Origin: https://app.example.com\r\n", 200, "https://app.example.com"},
		{"a foreign one", get + host + "Origin: https://evil.example.com\r\n", 403, ""},
		{"two", get + host + "Origin: https://app.example.com\r\nOrigin: https://evil.example.com\r\n", 400, ""},
		{"preflight", "OPTIONS /sse/x HTTP/1.1\r\n" + host + "Origin: https://app.example.com\r\nAccess-Control-Request-Method: GET\r\nAccess-Control-Request-Headers: last-event-id\r\n", 204, "https://app.example.com"},
		{"foreign preflight", "OPTIONS /sse/x HTTP/1.1\r\n" + host + "Origin: https://evil.example.com\r\n", 403, ""},
		{"another method", "POST /sse/x HTTP/1.1\r\nContent-Length: 0\r\n" + host, 405, ""},
		{"an allowed one, a bad position", "GET /sse/x?since=5 HTTP/1.1\r\n" + host + "Origin: https://app.example.com\r\n", 400, "https://app.example.com"},
		{"a bad name", "GET /sse/a%20b HTTP/1.1\r\n" + host, 400, ""},
		{"a bad position", "GET /sse/x?since=5 HTTP/1.1\r\n" + host, 400, ""},
		{"a longer path", "GET /sse/x/y HTTP/1.1\r\n" + host, 404, ""},
	} {
		got := request(c.head)
		if got.StatusCode != c.status || got.Header.Get("Access-Control-Allow-Origin") != c.allowed {
			t.Errorf("%s: got status %d, allowed %q, want %d, %q", c.name, got.StatusCode, got.Header.Get("Access-Control-Allow-Origin"), c.status, c.allowed)
		}
		if credentials := got.Header.Get("Access-Control-Allow-Credentials"); (credentials == "true") != (c.allowed != "") {
			t.Errorf("%s: credentials %q", c.name, credentials)
		}
		if exposed := got.Header.Get("Access-Control-Expose-Headers"); got.StatusCode >= 400 && c.allowed != "" && exposed != "Retry-After" {
			t.Errorf("%s: exposes %q", c.name, exposed)
		}
		if c.status < 300 && !strings.HasPrefix(got.Header.Get("Vary"), "Origin") {
			t.Errorf("%s: caches are not told that it depends on the origin", c.name)
		}
		if c.status == 204 && !strings.Contains(got.Header.Get("Access-Control-Allow-Headers"), "Last-Event-ID") {
			t.Errorf("%s: Last-Event-ID is not allowed", c.name)
		}
	}
}

func TestEventStreamsCountAsConnections(t *testing.T) {
	t.Parallel()
	s := start(t, settings{MaxConnections: 2})
	a, b := clienttest.Stream(t, s, "/sse/x"), clienttest.Dial(t, s, "/ws/x")
	c := clienttest.Connect(t, s)
	c.Write("GET /sse/x HTTP/1.1\r\nHost: localhost\r\n\r\n")
	if got := c.WantStatus("there are two", http.StatusServiceUnavailable); got.Header.Get("Retry-After") == "" {
		t.Error("it is not told when to come back")
	}
	a.Vanish()
	b.Vanish()
	s.wantConnections(0)
	off := start(t, settings{RawOff: true})
	d := clienttest.Connect(t, off)
	d.Write("GET /sse/x HTTP/1.1\r\nHost: localhost\r\n\r\n")
	d.WantStatus("raw clients are off", http.StatusNotFound)
}

// A stream that does not read is cut like any other, and can be told when it
// comes back.
func TestSlowEventStreamIsCut(t *testing.T) {
	clienttest.UncompressedOnly(t)
	t.Parallel()
	s := start(t, settings{WriteTimeout: 2 * time.Second, Access: access.Config{History: 10}})
	c := clienttest.ConnectWith(t, s, 4<<10)
	c.Stream("/sse/x")
	epoch := c.WantBegin("it is there", 0)
	for _, p := range clienttest.Numbered(200, 1000) {
		s.publish("x", p)
	}
	clienttest.WaitFor(t, "its socket to be full", func() bool { return s.Blocked() == 1 })
	s.Pass(4)
	s.Pass(10) // it does not close its side
	s.WantClosed(loop.ReasonWriteTimeout, 1)
	d := clienttest.Stream(t, s, "/sse/x?since="+epoch+":0")
	if got := d.Event(); !strings.Contains(got, "event: gap\n") {
		t.Errorf("it comes back to %q, want a gap", got)
	}
}

// When net/http is busy a request waits for its turn, for a moment and not too
// many of them, before it is refused.
func TestRequestsWaitForTheirTurn(t *testing.T) {
	t.Parallel()
	s := start(t, settings{MaxHandshakes: 4})
	occupy := func(n int) (all []*webPlace) {
		for range n {
			x := &webPlace{ready: make(chan struct{})}
			if !s.edge.web.places.take(x) {
				t.Fatal("there is no place")
			}
			all = append(all, x)
		}
		return all
	}
	occupied := func(taken, waiting int) func() bool {
		return func() bool { x, y := s.edge.web.places.count(); return x == taken && y == waiting }
	}
	ask := func() *clienttest.Client {
		c := clienttest.Connect(t, s)
		c.Write("GET /sse/x HTTP/1.1\r\nHost: localhost\r\n\r\n")
		return c
	}
	all := occupy(4)
	clienttest.Dial(t, s, "/ws") // upgrades do not wait
	served := false
	for try := 0; try < 5 && !served; try++ { // on a busy machine its moment may pass before ours comes
		c := ask()
		clienttest.WaitFor(t, "it to wait", occupied(4, 1))
		s.edge.web.places.leave(all[0])
		c.Patience()
		resp, err := http.ReadResponse(c.In, nil)
		if err != nil {
			t.Fatal(err)
		}
		served = resp.StatusCode == http.StatusOK
		clienttest.WaitFor(t, "its place to be free", occupied(3, 0))
		all = append(all[1:], occupy(1)...)
	}
	if !served {
		t.Error("a place was free, and it did not get it")
	}
	if got := ask().WantStatus("no place is free for so long", http.StatusServiceUnavailable); got.Header.Get("Retry-After") == "" {
		t.Error("it is not told when to come back")
	}
	clienttest.WaitFor(t, "it to go", occupied(4, 0))
	waiting := occupy(2)
	ask().WantStatus("enough are waiting", http.StatusServiceUnavailable)
	for _, x := range waiting {
		s.edge.web.places.giveUp(x)
	}
	for _, x := range all {
		s.edge.web.places.leave(x)
	}
}

// The time-out by TCP must not be there before the one that tells why.
func TestEventStreamIsToldThatItIsSlow(t *testing.T) {
	t.Parallel()
	s := start(t, settings{Loops: 1, PingInterval: time.Second, PongTimeout: time.Second, WriteTimeout: 4 * time.Second})
	s.seconds.Reset(time.Second) // the kernel's are real
	for range 15 {
		s.publish("x", clienttest.Stars(60_000))
	}
	c := clienttest.ConnectWith(t, s, 4<<10)
	c.Stream("/sse/x?history=100")
	told := func() bool {
		return s.ClosingFor(loop.ReasonWriteTimeout) == 1 || s.ClosedFor(loop.ReasonWriteTimeout) == 1
	}
	clienttest.WaitFor(t, "it to be closed", func() bool { return s.edge.connections.Load() == 0 || told() })
	if !told() {
		t.Error("TCP cut it off before the write time-out")
	}
}
