package edge

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/gateway/clienttest"
)

// The net/http server may end while connections wait for it to accept them.
func TestHTTPConnectionsThatNobodyAcceptedAreClosed(t *testing.T) {
	t.Parallel()
	s := start(t, settings{Loops: 1})
	const n = 40
	w := &web{server: s.edge, http: new(http.Server), places: newPlaces(s.edge, n), queue: make(chan net.Conn, n), ended: make(chan struct{})}
	var peers []net.Conn
	for range n {
		conn, peer := net.Pipe()
		peers = append(peers, peer)
		g := &greeting{door: &door{server: s.edge}, conn: conn, room: rooms.Get().(*room)}
		s.edge.stage.mu.Lock()
		s.edge.stage.taken++
		s.edge.stage.running.Add(1)
		s.edge.stage.mu.Unlock()
		if reject := w.take(g, 0); reject != nil {
			t.Fatal(reject)
		}
	}
	w.close()
	if taken, _ := w.places.count(); len(w.queue) != 0 || taken != 0 {
		t.Errorf("%d connections wait for ever, %d places are taken", len(w.queue), taken)
	}
	for _, peer := range peers {
		peer.SetReadDeadline(time.Now().Add(clienttest.Patience)) // ignored: then the read fails
		if _, err := peer.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("got %v, want the end", err)
		}
		peer.Close() // ignored: the test is over
	}
}

func TestShutdownClosesHTTPConnections(t *testing.T) {
	t.Parallel()
	for range 5 {
		s := start(t, settings{})
		var clients sync.WaitGroup
		for range 60 {
			clients.Go(func() {
				c, err := net.DialTimeout("tcp", s.addr, clienttest.Patience)
				if err != nil {
					return // the listener is closed
				}
				defer c.Close()
				c.SetDeadline(time.Now().Add(clienttest.Patience))             // ignored: then the read fails
				io.WriteString(c, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n") // ignored: likewise
				if _, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) {
					t.Error("a connection is left open")
				}
			})
		}
		clienttest.WaitFor(t, "half of them to come", func() bool { return s.edge.stats.accepted.Load() >= 30 })
		ctx, cancel := context.WithTimeout(context.Background(), clienttest.Patience)
		if err := s.shutdown(ctx); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		cancel()
		clients.Wait()
		if n, _ := s.edge.web.places.count(); n+len(s.edge.web.queue) != 0 {
			t.Errorf("%d connections are left over", n)
		}
	}
}

func TestPublicHTTPIsAnsweredAndClosed(t *testing.T) {
	t.Parallel()
	s := start(t, settings{WSPaths: []string{"/socket"}})
	for _, c := range []struct {
		request string
		status  int
		says    string
	}{
		{"GET / HTTP/1.1", 200, "WebSocket"},
		{"GET /healthz HTTP/1.1", 200, "ok"},
		{"GET /nothing HTTP/1.1", 404, ""},
		{"GET /ws HTTP/1.1", 426, "WebSocket client"},
		{"GET /ws/x HTTP/1.1", 426, "WebSocket client"},
		{"GET /ws/a%2Fb?q HTTP/1.1", 426, "WebSocket client"},
		{"GET /echo HTTP/1.1", 426, "WebSocket client"},
		{"GET /socket HTTP/1.1", 426, "WebSocket client"},
		{"GET /metrics HTTP/1.1", 404, ""},
		{"GET /debug/pprof/ HTTP/1.1", 404, ""},
		{"GET /readyz HTTP/1.1", 404, ""},
		{"POST /publish/x HTTP/1.1", 404, ""},
	} {
		k := clienttest.Connect(t, s)
		// A second request and an upgrade behind it must not be served.
		k.Write(c.request + "\r\nHost: localhost\r\nConnection: keep-alive\r\n\r\n" + clienttest.UpgradeTo("/ws"))
		a := k.WantStatus(c.request, c.status)
		if !a.Close || !strings.Contains(a.Body, c.says) {
			t.Errorf("%s: got %q, close %v; want the end and %q", c.request, a.Body, a.Close, c.says)
		}
		if c.status == 426 && a.Header.Get("Upgrade") != "websocket" {
			t.Errorf("%s: 426 without Upgrade: websocket", c.request)
		}
		k.WantGone(c.request)
	}
	if n := s.counted("upgraded"); n != 0 {
		t.Errorf("%d upgrades behind other requests were served", n)
	}
	if n := s.counted("http"); n != 12 {
		t.Errorf("%d HTTP requests are counted, want 12", n)
	}
}

// A client that waits to be asked for its body is answered and left: it does not keep
// a place until it has been waited for.
func TestABodyThatIsNotAskedForIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	s := start(t, settings{})
	for _, request := range []string{"POST /nothing", "PUT /ws", "POST /publish/a"} {
		took := time.Hour
		for try := 0; took > webTimeout/2 && try < 3; try++ { // the machine may be so late as well
			k := clienttest.Connect(t, s)
			begun := time.Now()
			k.Write(request + " HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
			resp, err := http.ReadResponse(k.In, nil)
			if err != nil || resp.StatusCode < 400 {
				t.Fatalf("%s: got %v, %v", request, resp, err)
			}
			io.Copy(io.Discard, resp.Body) // ignored: the end is looked for next
			k.WantEOF(request)
			took = time.Since(begun)
		}
		if took > webTimeout/2 {
			t.Errorf("%s: the end came after %v", request, took)
		}
	}
}

func TestHTTPRequestsAtATimeAreBounded(t *testing.T) {
	clienttest.PlainOnly(t)
	t.Parallel()
	s := start(t, settings{MaxHandshakes: 2})
	taken := []*webPlace{{ready: make(chan struct{})}, {ready: make(chan struct{})}}
	for _, x := range taken { // as two clients do that send their bodies slowly
		s.edge.web.places.take(x)
	}
	c := clienttest.Connect(t, s)
	c.Write("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
	if a := c.WantStatus("all places are taken", 503); a.Header.Get("Retry-After") == "" || !a.Close {
		t.Errorf("got header %v, want Retry-After and the end", a.Header)
	}
	clienttest.Dial(t, s, "/ws").Settle(s) // upgrades need no such place
	for _, x := range taken {
		s.edge.web.places.leave(x)
	}
	for range 5 {
		c := clienttest.Connect(t, s)
		c.Write("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
		c.WantStatus("there is a place again", 200)
		c.Fin()
		c.WantEOF("one answer")
		clienttest.WaitFor(t, "its place to be free", func() bool { taken, _ := s.edge.web.places.count(); return taken == 0 })
	}
}

// holdPlaces has all places of net/http, by bodies that do not come, from as many addresses
// as that takes.
func holdPlaces(t testing.TB, s *rig) {
	t.Helper()
	for i := range s.edge.web.places.most {
		c := clienttest.ConnectFrom(t, s, clienttest.NumberedAddress(1, i/sharePlaces))
		c.Write("POST /connection/uni_sse HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{")
	}
	clienttest.WaitFor(t, "all places to be held", func() bool { taken, _ := s.edge.web.places.count(); return taken == s.edge.web.places.most })
}

func TestHealthNeedsNoPlace(t *testing.T) {
	t.Parallel()
	s := start(t, settings{HandshakeTimeout: clienttest.Patience})
	holdPlaces(t, s)
	for method, body := range map[string]string{"GET": "ok\n", "HEAD": ""} {
		c := clienttest.Connect(t, s)
		c.Write(method + " /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
		resp, err := http.ReadResponse(c.In, &http.Request{Method: method})
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%s: got %v, %v", method, resp, err)
		}
		if got, err := io.ReadAll(resp.Body); string(got) != body || err != nil {
			t.Errorf("%s: got body %q, %v", method, got, err)
		}
		c.WantEOF(method)
	}
	// Another that needed a place would have had it from one who holds it, or none at all.
	if n := s.counted("evicted"); n != 0 {
		t.Errorf("%d requests lost their places", n)
	}
	if !s.edge.Ready() {
		t.Error("it is not ready")
	}
}

// Requests whose bodies do not come are answered when the handshake's time is over. Before
// that others have places, because one address has few, and the oldest of who has most
// goes when there is none left.
func TestLateBodiesKeepNobodyOut(t *testing.T) {
	t.Parallel()
	s := start(t, settings{HandshakeTimeout: clienttest.Patience})
	holdPlaces(t, s)
	s.edge.web.places.mu.Lock()
	for _, x := range s.edge.web.places.taken { // as if they had been there for so long
		x.since = x.since.Add(-2 * secureTurn)
	}
	s.edge.web.places.mu.Unlock()
	c := clienttest.Connect(t, s)
	c.Write("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
	c.WantStatus("another address", http.StatusOK)
	s.wantOutcome("evicted", 1)

	quick := start(t, settings{HandshakeTimeout: time.Second})
	var late []*clienttest.Client
	for range sharePlaces {
		c := clienttest.ConnectFrom(t, quick, clienttest.NumberedAddress(1, 0))
		c.Write("POST /connection/uni_sse HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{")
		late = append(late, c)
	}
	for _, c := range late {
		c.WantStatus("its body is late", http.StatusRequestTimeout)
	}
}
