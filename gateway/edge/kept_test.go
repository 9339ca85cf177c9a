package edge

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"sluice/gateway/clienttest"
	"sluice/gateway/edge/admit"
)

// sends sends a command on a connection, and returns whether that is kept.
func sends(e *clienttest.Emulated, c *clienttest.Client, fields ...string) (kept bool) {
	e.T.Helper()
	c.Write(clienttest.Posting("/emulation", e.Emulation("{}"), fields...))
	return !c.WantStatus("a command", http.StatusNoContent).Close
}

func TestConnectionsForCommandsAreKept(t *testing.T) {
	t.Parallel()
	s := start(t, settings{})
	e := clienttest.Emulate(t, s, "")
	var all []*clienttest.Client
	for i := range keptAddress + 2 {
		c := clienttest.Connect(t, s)
		if kept := sends(e, c); kept != (i < keptAddress) {
			t.Errorf("connection %d is kept: %v", i, kept)
		}
		all = append(all, c)
	}
	for i, c := range all[:keptAddress] {
		if !sends(e, c) {
			t.Errorf("connection %d is not kept for another command", i)
		}
	}
	if n := s.edge.Counts(); n.Kept != keptAddress || n.Posts != 2*keptAddress+2 {
		t.Errorf("%d connections are kept, and %d requests were served", n.Kept, n.Posts)
	}
	if other := clienttest.ConnectFrom(t, s, clienttest.NumberedAddress(1, 0)); !sends(e, other) {
		t.Error("another address cannot keep any")
	}
	all[0].Fin()
	all[0].WantEOF("it goes")
	clienttest.WaitFor(t, "its place to be free", func() bool { return s.edge.Counts().Kept == keptAddress })
	if c := clienttest.Connect(t, s); !sends(e, c) {
		t.Error("what has gone still counts")
	}
	if c := clienttest.Connect(t, s); sends(e, c, "Connection: close") {
		t.Error("a connection is kept that its client ends")
	} else {
		c.WantEOF("the client wants it to end")
	}
}

// deadline is a connection of which only the read deadline matters.
type deadline struct {
	net.Conn
	read time.Time
}

func (d *deadline) SetReadDeadline(t time.Time) error {
	d.read = t
	return nil
}

// A connection waits for its next request for 30 s, which its own deadline of a request does not shorten, and then has time
// for that one.
func TestKeptConnectionsEnd(t *testing.T) {
	t.Parallel()
	s := start(t, settings{})
	w := s.edge.web
	if got := w.http.IdleTimeout; got != 30*time.Second {
		t.Errorf("net/http waits for %v", got)
	}
	d := new(deadline)
	soon := time.Now().Add(time.Second)
	c := &webConn{Conn: d, web: w, until: soon, keeping: keeping{kept: true}}
	next := time.Now().Add(time.Hour)
	if c.SetReadDeadline(next); !d.read.Equal(soon) {
		t.Errorf("a request ends at %v, want %v", d.read, soon)
	}
	w.state(c, http.StateIdle)
	if c.SetReadDeadline(next); !d.read.Equal(next) {
		t.Errorf("it waits until %v, want %v", d.read, next)
	}
	w.state(c, http.StateActive)
	if c.SetReadDeadline(next); d.read.Equal(next) || d.read.Before(soon) {
		t.Errorf("the next request ends at %v", d.read)
	}
	c.arrived()
}

// A kept connection takes any request but an upgrade, once.
func TestKeptConnectionsTakeOtherRequests(t *testing.T) {
	t.Parallel()
	s := start(t, settings{})
	e := clienttest.Emulate(t, s, "")
	kept := func() *clienttest.Client {
		c := clienttest.Connect(t, s)
		if !sends(e, c) {
			t.Fatal("it is not kept")
		}
		return c
	}
	for _, test := range []struct {
		why, request string
		status       int
		body         string
	}{
		{"the page", "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", 200, ""},
		{"health", "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", 200, "ok\n"},
		{"an upgrade", clienttest.UpgradeTo("/ws/x"), http.StatusUpgradeRequired, ""},
		{"an unknown session", clienttest.Posting("/emulation", `{"session":"x","data":"{}"}`), http.StatusNotFound, ""},
		{"nonsense", "\r\n\r\nnonsense\r\n\r\n", http.StatusBadRequest, ""},
	} {
		c := kept()
		c.Write(test.request)
		if a := c.WantStatus(test.why, test.status); !a.Close || test.body != "" && a.Body != test.body {
			t.Errorf("%s: %v, %q", test.why, a.Header, a.Body)
		}
		c.WantEOF(test.why)
	}
	for _, target := range []string{"/sse/x", "/connection/uni_sse"} {
		c := kept()
		c.Stream(target)
		c.Event()
	}
	s.wantConnections(3)
	clienttest.WaitFor(t, "them to be kept no more", func() bool { return s.edge.Counts().Kept == 0 })
}

// Between two requests a kept connection takes no place from others, and it makes room for clients.
func TestKeptConnectionsMakeRoom(t *testing.T) {
	t.Parallel()
	s := start(t, settings{MaxHandshakes: 2, MaxConnections: 5})
	e := clienttest.Emulate(t, s, "")
	all := []*clienttest.Client{clienttest.Connect(t, s), clienttest.Connect(t, s), clienttest.Connect(t, s), clienttest.Connect(t, s)}
	for _, c := range all {
		if !sends(e, c) {
			t.Fatal("it is not kept")
		}
	}
	clienttest.WaitFor(t, "them to wait without places", func() bool {
		taken, _ := s.edge.web.places.count()
		return taken == 0 && s.edge.web.kept.idle() == len(all)
	})
	if c := clienttest.Connect(t, s); sends(e, c) {
		t.Error("more connections are kept than there may be clients")
	}
	clienttest.Dial(t, s, "/ws/x")
	for _, c := range all {
		c.WantEOF("it makes room")
	}
	s.full.Store(true)
	if c := clienttest.Connect(t, s); sends(e, c) {
		t.Error("a connection is kept without memory for it")
	}
}

// A limit of connections is none of requests for a stream; a proxy's connections are not kept, as its next request is another
// client's.
func TestCommandsOfClientsAtTheirLimits(t *testing.T) {
	t.Parallel()
	s := start(t, settings{Limits: perAddress(1)})
	e := clienttest.Emulate(t, s, "")
	sends(e, clienttest.Connect(t, s))
	c := clienttest.Connect(t, s)
	c.AskForStream("/sse/x")
	c.WantStatus("another stream", http.StatusTooManyRequests)

	s = start(t, settings{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}, Limits: admit.Limits{}})
	e = clienttest.Emulate(t, s, "")
	for _, fields := range [][]string{nil, {"X-Forwarded-For: 192.0.2.1"}} {
		c := clienttest.Connect(t, s)
		if sends(e, c, fields...) {
			t.Errorf("a proxy's connection is kept: %v", fields)
		}
		c.WantEOF("a proxy's connection")
	}
}

// A client that does not wait for answers may have sent a part of its next request before the answer to the one before: net/http
// has read it then.
func TestKeptConnectionsMoveWithWhatCameEarly(t *testing.T) {
	clienttest.PlainOnly(t)
	t.Parallel()
	s := start(t, settings{})
	e := clienttest.Emulate(t, s, "")
	request := clienttest.Posting("/emulation", e.Emulation("{}"))
	first, later := clienttest.Connect(t, s), clienttest.Connect(t, s)
	first.Write(request + request[:30])
	if first.WantStatus("its first request", http.StatusNoContent).Close || !sends(e, later) {
		t.Fatal("it is not kept")
	}
	later.Write(request + request[:40])
	if later.WantStatus("a later one", http.StatusNoContent).Close {
		t.Fatal("it is kept no more")
	}
	clienttest.WaitFor(t, "both to wait", func() bool { return s.edge.web.kept.idle() == 2 })
	s.edge.Hold()
	passed := make(chan string, 10)
	s.edge.Move(func(sent []byte, _ int) error {
		passed <- string(sent)
		return nil
	})
	for range 2 {
		if got := clienttest.Receive(t, "a connection", passed); !strings.HasSuffix(got, request[:30]) && !strings.HasSuffix(got, request[:40]) {
			t.Errorf("passed: %q", got)
		}
	}
}

// A request that is larger than what is remembered of it does not end a connection.
func TestConnectionsOfLargeCommandsAreKept(t *testing.T) {
	t.Parallel()
	s := start(t, settings{})
	e := clienttest.Emulate(t, s, "")
	c := clienttest.Connect(t, s)
	large := clienttest.Posting("/emulation", e.Emulation(strings.Repeat(" ", 3*headBytes)+"{}"))
	for range 3 {
		c.Write(large)
		if c.WantStatus("a large one", http.StatusNoContent).Close || !sends(e, c) {
			t.Fatal("it is not kept")
		}
	}
}

// What comes of a request on a kept connection moves to another process, and so does a connection of which nothing has come.
func TestKeptConnectionsMove(t *testing.T) {
	clienttest.PlainOnly(t)
	t.Parallel()
	s := start(t, settings{})
	e := clienttest.Emulate(t, s, "")
	idle, half := clienttest.Connect(t, s), clienttest.Connect(t, s)
	for _, c := range []*clienttest.Client{idle, half} {
		for range 2 {
			if !sends(e, c) {
				t.Fatal("it is not kept")
			}
		}
	}
	request := clienttest.Posting("/emulation", e.Emulation("{}"))
	half.Write(request[:30])
	half.Arrived()
	clienttest.WaitFor(t, "both to wait", func() bool { return s.edge.web.kept.idle() == 2 })
	s.edge.Hold()
	passed := make(chan string, 10)
	s.edge.Move(func(sent []byte, _ int) error {
		passed <- string(sent)
		return nil
	})
	all := []string{clienttest.Receive(t, "one", passed), clienttest.Receive(t, "the other", passed)}
	if slices.Sort(all); strings.Contains(all[0], "POST") == strings.Contains(all[1], "POST") || !strings.HasSuffix(all[0]+all[1], request[:30]) && !strings.HasSuffix(all[1]+all[0], request[:30]) {
		t.Errorf("passed: %q", all)
	}
	half.WantGone("it is another process's")
	idle.WantGone("likewise")
}
