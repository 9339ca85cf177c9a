package gateway

import (
	"context"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"
)

// stream asks for an event stream, and reads the head of the answer.
func stream(t testing.TB, s *server, target string, fields ...string) *client {
	t.Helper()
	c := connect(t, s)
	c.stream(target, fields...)
	return c
}

func (c *client) stream(target string, fields ...string) {
	c.t.Helper()
	c.write("GET " + target + " HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n" + strings.Join(append(fields, ""), "\r\n") + "\r\n")
	c.patience()
	resp, err := http.ReadResponse(c.in, nil)
	if err != nil || resp.StatusCode != http.StatusOK {
		c.t.Fatalf("stream %s: got %v, %v", target, resp, err)
	}
	for field, want := range map[string]string{"Content-Type": "text/event-stream; charset=utf-8", "X-Accel-Buffering": "no", "Cache-Control": "no-store"} {
		if got := resp.Header.Get(field); got != want {
			c.t.Errorf("%s is %q, want %q", field, got, want)
		}
	}
	if !resp.Close || resp.ContentLength != -1 {
		c.t.Errorf("the answer is not one until the end of the connection: %+v", resp)
	}
}

// event reads up to the next empty line.
func (c *client) event() string {
	c.t.Helper()
	c.patience()
	var b strings.Builder
	for {
		line, err := c.in.ReadString('\n')
		if err != nil {
			c.t.Fatalf("event: got %q, %v", b.String()+line, err)
		}
		if line == "\n" {
			return b.String()
		}
		b.WriteString(line)
	}
}

func (c *client) wantEvent(why, want string) {
	c.t.Helper()
	if got := c.event(); got != want {
		c.t.Fatalf("%s: got event %q, want %q", why, got, want)
	}
}

// wantBegin reads what every stream begins with.
func (c *client) wantBegin(why string, offset uint64) (epoch string) {
	c.t.Helper()
	got := c.event()
	var retry int
	var id string
	if n, err := fmt.Sscanf(got, "retry: %d\nid: %s\n", &retry, &id); n != 2 || retry < streamRetryMin || retry > streamRetryMax {
		c.t.Fatalf("%s: a stream begins with %q, %v", why, got, err)
	}
	epoch, number, _ := strings.Cut(id, ":")
	if number != fmt.Sprint(offset) {
		c.t.Fatalf("%s: it begins after %s, want %d", why, id, offset)
	}
	return epoch
}

func TestEventStream(t *testing.T) {
	t.Parallel()
	s := start(t, Config{})
	a, raw := stream(t, s, "/sse/x"), dial(t, s, "/ws/x")
	asJSON, lobby := stream(t, s, "/sse/x?format=json"), stream(t, s, "/sse")
	epoch := a.wantBegin("nothing was published yet", 0)
	asJSON.wantBegin("likewise", 0)
	lobby.wantBegin("without a name it is the lobby", 0)
	if s.publish(Lobby, "in the lobby"); !strings.HasSuffix(lobby.event(), "data: in the lobby\n") {
		t.Error("the lobby is another channel")
	}
	raw.send(text("one"), text("two\nlines\r\nthree\rfour\n"), bin("\x00\xff"), text(""))
	for i, want := range []string{
		"data: one\n",
		"data: two\ndata: lines\ndata: three\ndata: four\ndata: \n",
		"event: binary\ndata: AP8=\n",
		"data: \n",
	} {
		a.wantEvent("each publication is an event", fmt.Sprintf("id: %s:%d\n%s", epoch, i+1, want))
		if got := asJSON.event(); !strings.HasPrefix(got, fmt.Sprintf("id: %s:%d\ndata: {\"channel\":\"x\",", epoch, i+1)) || strings.Count(got, "\n") != 2 {
			t.Errorf("got %q", got)
		}
	}
	a.vanish()
	s.wantConnections(3)

	b := stream(t, s, "/sse/x", "Last-Event-ID: "+epoch+":3")
	b.wantBegin("it resumes", 3)
	b.wantEvent("what it missed", fmt.Sprintf("id: %s:4\ndata: \n", epoch))
	c := stream(t, s, "/sse/x?since="+epoch+":3")
	c.wantBegin("it resumes by the query", 3)
	c.wantEvent("what it missed", fmt.Sprintf("id: %s:4\ndata: \n", epoch))
	d := stream(t, s, "/sse/x?history=1")
	d.wantBegin("it asks for one", 3)
	d.wantEvent("the newest", fmt.Sprintf("id: %s:4\ndata: \n", epoch))
	for _, last := range []string{"other:2", "somebody else's", epoch + ":9"} {
		e := stream(t, s, "/sse/x?since=now", "Last-Event-ID: "+last)
		begin := e.event()
		if !strings.Contains(begin, "\nevent: gap\ndata: {\"gap\":true,\"channel\":\"x\",\"epoch\":\""+epoch+"\",\"offset\":0,") {
			t.Errorf("%s: it begins with %q, want a gap", last, begin)
		}
		e.wantEvent("what is kept follows", fmt.Sprintf("id: %s:1\ndata: one\n", epoch))
	}
	if got := s.counted("event_stream"); got != 9 {
		t.Errorf("%d streams are counted", got)
	}
}

// At rest a stream is a descriptor and a record, with a comment now and then, and
// it ends by saying why.
func TestEventStreamAtRestAndAtItsEnd(t *testing.T) {
	s := start(t, Config{Greeting: "hello", PingInterval: 2 * time.Second})
	before := runtime.NumGoroutine()
	var all []*client
	for range 20 {
		c := stream(t, s, "/sse/x")
		if got := c.event(); !strings.HasSuffix(got, "\nevent: greeting\ndata: hello\n") {
			t.Fatalf("it begins with %q", got)
		}
		if got := c.event(); !strings.HasPrefix(got, "id: ") {
			t.Fatalf("it goes on with %q", got)
		}
		all = append(all, c)
	}
	waitFor(t, "the goroutines to end", func() bool { return runtime.NumGoroutine() <= before })
	s.pass(1)
	all[0].wantIdle(s, "it is not time yet")
	s.pass(1)
	for _, c := range all {
		c.wantEvent("a comment keeps it alive", ":\n")
	}
	s.pass(2)
	all[0].wantEvent("and again", ":\n")
	all[0].write("nobody asked for this")
	all[0].wantIdle(s, "what it sends is thrown away")
	all[1].fin()
	s.wantConnections(19)
	s.publish("x", "last")
	go s.shutdown(context.Background())
	for i, c := range all {
		if i == 1 {
			continue
		}
		if i > 0 {
			c.wantEvent("the second comment", ":\n")
		}
		if got := c.event(); !strings.HasSuffix(got, "data: last\n") {
			t.Fatalf("what was published before is sent: got %q", got)
		}
		c.wantEvent("why it ends", "event: close\ndata: {\"code\":1001,\"reason\":\"server is shutting down\"}\n")
		c.wantEOF("and it ends")
	}
	s.wantConnections(0)
}

func TestEventStreamsOfOtherOrigins(t *testing.T) {
	t.Parallel()
	s := start(t, Config{AllowedOrigins: []string{"https://app.example.com"}})
	request := func(head string) answer {
		t.Helper()
		c := connect(t, s)
		c.write(head + "\r\n")
		c.patience()
		resp, err := http.ReadResponse(c.in, nil)
		if err != nil {
			t.Fatal(err)
		}
		return answer{Response: resp}
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
		{"a bad name", "GET /sse/a%20b HTTP/1.1\r\n" + host, 400, ""},
		{"a bad position", "GET /sse/x?since=5 HTTP/1.1\r\n" + host, 400, ""},
		{"a longer path", "GET /sse/x/y HTTP/1.1\r\n" + host, 404, ""},
	} {
		got := request(c.head)
		if got.StatusCode != c.status || got.Header.Get("Access-Control-Allow-Origin") != c.allowed {
			t.Errorf("%s: got status %d, allowed %q, want %d, %q", c.name, got.StatusCode, got.Header.Get("Access-Control-Allow-Origin"), c.status, c.allowed)
		}
		if c.status < 300 && got.Header.Get("Vary") != "Origin" {
			t.Errorf("%s: caches are not told that it depends on the origin", c.name)
		}
		if c.status == 204 && !strings.Contains(got.Header.Get("Access-Control-Allow-Headers"), "Last-Event-ID") {
			t.Errorf("%s: Last-Event-ID is not allowed", c.name)
		}
	}
}

func TestEventStreamsCountAsConnections(t *testing.T) {
	t.Parallel()
	s := start(t, Config{MaxConnections: 2})
	a, b := stream(t, s, "/sse/x"), dial(t, s, "/ws/x")
	c := connect(t, s)
	c.write("GET /sse/x HTTP/1.1\r\nHost: localhost\r\n\r\n")
	if got := c.wantStatus("there are two", http.StatusServiceUnavailable); got.Header.Get("Retry-After") == "" {
		t.Error("it is not told when to come back")
	}
	a.vanish()
	b.vanish()
	s.wantConnections(0)
	off := start(t, Config{Raw: RawOff})
	d := connect(t, off)
	d.write("GET /sse/x HTTP/1.1\r\nHost: localhost\r\n\r\n")
	d.wantStatus("raw clients are off", http.StatusNotFound)
}

// A stream that does not read is cut like any other, and can be told when it
// comes back.
func TestSlowEventStreamIsCut(t *testing.T) {
	t.Parallel()
	s := start(t, Config{WriteTimeout: 2 * time.Second, History: 10})
	c := connectWith(t, s, 4<<10)
	c.stream("/sse/x")
	epoch := c.wantBegin("it is there", 0)
	for _, p := range numbered(200, 1000) {
		s.publish("x", p)
	}
	waitFor(t, "its socket to be full", func() bool { return s.blocked() == 1 })
	s.pass(4)
	s.wantClosed(reasonWriteTimeout, 1)
	d := stream(t, s, "/sse/x?since="+epoch+":0")
	if got := d.event(); !strings.Contains(got, "event: gap\n") {
		t.Errorf("it comes back to %q, want a gap", got)
	}
}

// When net/http is busy a request waits for its turn, for a moment and not too
// many of them, before it is refused.
func TestRequestsWaitForTheirTurn(t *testing.T) {
	t.Parallel()
	s := start(t, Config{MaxHandshakes: 4})
	occupy := func(n int) (all []*webPlace) {
		for range n {
			x := &webPlace{ready: make(chan struct{})}
			if !s.web.places.take(x) {
				t.Fatal("there is no place")
			}
			all = append(all, x)
		}
		return all
	}
	occupied := func(taken, waiting int) func() bool {
		return func() bool { x, y := s.web.places.count(); return x == taken && y == waiting }
	}
	ask := func() *client {
		c := connect(t, s)
		c.write("GET /sse/x HTTP/1.1\r\nHost: localhost\r\n\r\n")
		return c
	}
	all := occupy(4)
	dial(t, s, "/ws") // upgrades do not wait
	served := false
	for try := 0; try < 5 && !served; try++ { // on a busy machine its moment may pass before ours comes
		c := ask()
		waitFor(t, "it to wait", occupied(4, 1))
		s.web.places.leave(all[0])
		c.patience()
		resp, err := http.ReadResponse(c.in, nil)
		if err != nil {
			t.Fatal(err)
		}
		served = resp.StatusCode == http.StatusOK
		waitFor(t, "its place to be free", occupied(3, 0))
		all = append(all[1:], occupy(1)...)
	}
	if !served {
		t.Error("a place was free, and it did not get it")
	}
	if got := ask().wantStatus("no place is free for so long", http.StatusServiceUnavailable); got.Header.Get("Retry-After") == "" {
		t.Error("it is not told when to come back")
	}
	waitFor(t, "it to go", occupied(4, 0))
	waiting := occupy(2)
	ask().wantStatus("enough are waiting", http.StatusServiceUnavailable)
	for _, x := range waiting {
		s.web.places.giveUp(x)
	}
	for _, x := range all {
		s.web.places.leave(x)
	}
}
