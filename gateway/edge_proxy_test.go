package gateway

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
)

// prefixed is a TCP connection whose first bytes go out before what is written first:
// in one segment, or byte by byte.
type prefixed struct {
	*net.TCPConn
	first   string
	trickle bool
}

func (c *prefixed) Write(p []byte) (int, error) {
	first := c.first
	c.first = ""
	if c.trickle {
		for i := range len(first) {
			if _, err := c.TCPConn.Write([]byte{first[i]}); err != nil {
				return 0, err
			}
		}
		first = ""
	}
	n, err := c.TCPConn.Write(append([]byte(first), p...))
	return max(n-len(first), 0), err
}

// clientOn makes a client of a TCP connection that begins with some bytes.
func clientOn(t testing.TB, s *server, tcp *net.TCPConn, first string) *client {
	return speak(t, s, &prefixed{TCPConn: tcp, first: first})
}

func speak(t testing.TB, s *server, p *prefixed) *client {
	l := link(p)
	if s.secured {
		l = secureOver(p, p.TCPConn)
	}
	return &client{t: t, conn: l, in: bufio.NewReader(l)}
}

// proxyTo connects as a proxy does that names its client.
func proxyTo(t testing.TB, s *server, header string, trickle bool) *client {
	t.Helper()
	nc, err := net.DialTimeout("tcp", s.addr, patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })   // ignored: it may be closed already
	nc.(*net.TCPConn).SetNoDelay(true) // ignored: it is the default
	return speak(t, s, &prefixed{nc.(*net.TCPConn), header, trickle})
}

// rows asks the inspector.
func (s *server) rows(query string) (rows []inspected) {
	s.t.Helper()
	status, _, body := askHTTP(s.t, "GET", s.internal("").URL+"/api/connections"+query, nil)
	var answer struct{ Connections []inspected }
	if err := json.Unmarshal([]byte(body), &answer); status != 200 || err != nil {
		s.t.Fatalf("the inspector answers %d %q, %v", status, body, err)
	}
	return answer.Connections
}

// wantFrom sees whom the one connection is from, as the operator sees it.
func (s *server) wantFrom(why, want string, c *client) {
	s.t.Helper()
	rows := s.rows("")
	if want == "" {
		want = c.conn.LocalAddr().String()
	}
	if len(rows) != 1 || rows[0].Address != want {
		s.t.Errorf("%s: the inspector shows %+v, want one from %s", why, rows, want)
	}
}

// records is a log that can be read while it is written.
type records struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (r *records) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.b.Write(p)
}

func (r *records) text() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.b.String()
}

func (r *records) has(text string) bool { return strings.Contains(r.text(), text) }

var (
	here      = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}
	elsewhere = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
)

func TestForwardedForIsBelievedFromTrustedPeersOnly(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		why, want string
		trusted   []netip.Prefix
		fields    []string
	}{
		{"one entry", "203.0.113.5", here, []string{"X-Forwarded-For: 203.0.113.5"}},
		{"invented entries stand to the left", "203.0.113.5", here, []string{"X-Forwarded-For: 127.0.0.1, 6.6.6.6, 203.0.113.5"}},
		{"trusted ones to the right are passed over", "203.0.113.5", here, []string{"X-Forwarded-For: 6.6.6.6, 203.0.113.5, 127.0.0.1"}},
		{"two fields are one list", "203.0.113.5", here, []string{"X-Forwarded-For: 6.6.6.6", "X-Forwarded-For: 203.0.113.5"}},
		{"IPv6", "2001:db8::1", here, []string{"X-Forwarded-For: 2001:db8::1"}},
		{"no field", "", here, nil},
		{"nobody is listed", "", nil, []string{"X-Forwarded-For: 203.0.113.5"}},
		{"others are listed", "", elsewhere, []string{"X-Forwarded-For: 203.0.113.5"}},
	} {
		t.Run(c.why, func(t *testing.T) {
			log := &records{}
			s := start(t, Config{TrustedProxies: c.trusted, PingInterval: -1,
				Logger: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
			conn := dial(t, s, "/ws/x", c.fields...)
			s.wantFrom(c.why, c.want, conn)
			conn.send(closing(1000, ""))
			conn.wantClose("it leaves", 1000)
			s.wantConnections(0)
			waitFor(t, "the log to name the client", func() bool { return log.has("client=" + c.want) }) // it is written behind the count
			stream(t, s, "/sse/x", strings.Join(c.fields, "\r\n")+strings.Repeat("\r\n", min(len(c.fields), 1)))
			if c.want != "" {
				s.wantFrom("a stream", c.want, nil)
			}
		})
	}
}

func TestLimitsBehindAProxyAreForItsClients(t *testing.T) {
	t.Parallel()
	client := func(a string) string { return "X-Forwarded-For: " + a }
	s := start(t, Config{TrustedProxies: here, MaxPerAddress: 2, AddressRate: -1, PingInterval: -1})
	for _, a := range []string{"203.0.113.1", "203.0.113.2", "203.0.113.3"} {
		dial(t, s, "/ws/x", client(a))
		dial(t, s, "/ws/x", client("6.6.6.6, "+a))
		if _, status, _ := try(t, s, client(a)); status != 429 {
			t.Errorf("the third of %s: %d, want 429", a, status)
		}
	}
	for range 4 {
		dial(t, s, "/ws/x") // the proxy's own
	}
	for range 3 { // each gives its seat back
		c := connect(t, s)
		c.write("GET /healthz HTTP/1.1\r\nHost: localhost\r\n" + client("203.0.113.9") + "\r\n\r\n")
		c.wantStatus("HTTP", 200)
		s.wantSeats("the seat of HTTP to be free", netip.MustParseAddr("203.0.113.9"), 2)
		c = connect(t, s)
		c.write(strings.Replace(upgradeTo("/ws/x", client("203.0.113.9")), "Version: 13", "Version: 7", 1))
		c.wantStatus("an old version", 426)
		s.wantSeats("the seat of a refused upgrade to be free", netip.MustParseAddr("203.0.113.9"), 2)
	}
	s.do(killAll)
	s.wantSeats("seats to be free", netip.MustParseAddr("203.0.113.1"), 2)
	// Whoever comes too often is not answered, though the proxy is trusted.
	got := map[int]int{}
	for range 2 {
		dial(t, s, "/ws/x", client("203.0.113.1"))
	}
	for n := 0; got[0] == 0 && n < 2000; n++ {
		_, status, _ := try(t, s, client("203.0.113.1"))
		got[status]++
	}
	if got[0] != 1 || got[429] < 20 || got[101] != 0 {
		t.Errorf("statuses %v, want 429 and then a reset (0)", got)
	}
	s.do(killAll)
	s.wantSeats("seats to be free", netip.MustParseAddr("203.0.113.1"), 2)
}

const v2 = "\r\n\r\n\x00\r\nQUIT\n"

func TestProxyHeaderNamesTheClient(t *testing.T) {
	t.Parallel()
	s := start(t, Config{ProxyProtocol: here, Raw: RawPublish, MaxPerAddress: 1, AddressRate: -1, PingInterval: -1})
	for _, c := range []struct{ why, header, want string }{
		{"version 1", "PROXY TCP4 203.0.113.5 127.0.0.1 1234 80\r\n", "203.0.113.5:1234"},
		{"version 1, IPv6", "PROXY TCP6 2001:db8::1 ::1 1234 80\r\n", "[2001:db8::1]:1234"},
		{"version 1, unknown", "PROXY UNKNOWN\r\n", ""},
		{"version 2", v2 + "\x21\x11\x00\x0c\xcb\x00\x71\x05\x7f\x00\x00\x01\x04\xd2\x00\x50", "203.0.113.5:1234"},
		{"version 2 with an extension", v2 + "\x21\x11\x00\x10\xcb\x00\x71\x05\x7f\x00\x00\x01\x04\xd2\x00\x50\x04\x00\x01\x00", "203.0.113.5:1234"},
		{"version 2, LOCAL", v2 + "\x20\x00\x00\x00", ""},
	} {
		for _, trickle := range []bool{false, true} {
			why := fmt.Sprintf("%s, byte by byte: %v", c.why, trickle)
			conn := proxyTo(t, s, c.header, trickle)
			conn.upgrade("/ws/x", "X-Forwarded-For: 6.6.6.6")
			s.wantFrom(why, c.want, conn)
			conn.send(text("hello"))
			conn.wantText(why, "hello")
			if c.want != "" {
				again := proxyTo(t, s, c.header, trickle)
				again.write(upgradeTo("/ws/x"))
				again.wantStatus(why+": the limit is the client's", 429)
			}
			conn.vanish()
			s.wantConnections(0)
			s.wantSeats(why+": the seat", netip.MustParseAddr("203.0.113.5"), 1)
			conn = proxyTo(t, s, c.header, trickle)
			conn.write("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
			conn.wantStatus(why, 200)
			s.wantSeats(why+": the seat of HTTP", netip.MustParseAddr("203.0.113.5"), 1)
		}
	}
	bad := []string{"", "PROXY NONSENSE\r\n", "PROXY TCP4 1.2.3 4 5 6\r\n", v2 + "\x31\x11\x00\x00", "PROXY TCP4 " + strings.Repeat("1", 120)}
	for _, header := range bad {
		nc, err := net.Dial("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		c := &client{t: t, conn: nc.(*net.TCPConn), in: bufio.NewReader(nc)}
		c.write(header + upgradeTo("/ws/x"))
		c.wantGone(fmt.Sprintf("header %q", header))
	}
	s.wantOutcome("bad_proxy_header", uint64(len(bad)))
}

func TestProxyHeaderIsTakenFromListedPeersOnly(t *testing.T) {
	t.Parallel()
	s := start(t, Config{ProxyProtocol: elsewhere})
	if s.secured {
		raw(t, s, "PROXY TCP4 203.0.113.5 127.0.0.1 1234 80\r\n")
		s.wantOutcome(rejectProxied.Reason.String(), 1)
		return
	}
	c := proxyTo(t, s, "PROXY TCP4 203.0.113.5 127.0.0.1 1234 80\r\n", false)
	c.write(upgradeTo("/ws/x"))
	c.wantStatus("no HTTP", 400)
}
