package edge

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"

	"sluice/gateway/clienttest"
	"sluice/gateway/loop"
)

// wantFrom sees whom the one connection is from, as an operator sees it.
func (s *rig) wantFrom(why, want string, c *clienttest.Client) {
	s.T.Helper()
	var rows []loop.Description
	s.Do(func(l *loop.Loop) {
		rows = append(rows, l.Describe(func(*loop.Conn) uint64 { return 0 }, 2)...)
	})
	if want == "" {
		want = c.Conn.LocalAddr().String()
	}
	if len(rows) != 1 || rows[0].Address != want {
		s.T.Errorf("%s: the loops show %+v, want one from %s", why, rows, want)
	}
}

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
			log := &clienttest.Records{}
			s := start(t, settings{TrustedProxies: c.trusted,
				Logger: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
			conn := clienttest.Dial(t, s, "/ws/x", c.fields...)
			s.wantFrom(c.why, c.want, conn)
			conn.Send(clienttest.Closing(1000, ""))
			conn.WantClose("it leaves", 1000)
			s.wantConnections(0)
			clienttest.WaitFor(t, "the log to name the client", func() bool { return log.Has("client=" + c.want) }) // it is written behind the count
			clienttest.Stream(t, s, "/sse/x", strings.Join(c.fields, "\r\n")+strings.Repeat("\r\n", min(len(c.fields), 1)))
			if c.want != "" {
				s.wantFrom("a stream", c.want, nil)
			}
		})
	}
}

func TestLimitsBehindAProxyAreForItsClients(t *testing.T) {
	t.Parallel()
	client := func(a string) string { return "X-Forwarded-For: " + a }
	s := start(t, settings{TrustedProxies: here, Limits: perAddress(2)})
	var in []*clienttest.Client
	dial := func(fields ...string) { in = append(in, clienttest.Dial(t, s, "/ws/x", fields...)) }
	leave := func() {
		for _, c := range in {
			c.Vanish()
		}
		s.wantSeats("seats to be free", netip.MustParseAddr("203.0.113.1"), 2)
		in = nil
	}
	for _, a := range []string{"203.0.113.1", "203.0.113.2", "203.0.113.3"} {
		dial(client(a))
		dial(client("6.6.6.6, " + a))
		if _, status, _ := clienttest.Try(t, s, client(a)); status != 429 {
			t.Errorf("the third of %s: %d, want 429", a, status)
		}
	}
	for range 4 {
		dial() // the proxy's own
	}
	for range 3 { // each gives its seat back
		c := clienttest.Connect(t, s)
		c.Write("GET /healthz HTTP/1.1\r\nHost: localhost\r\n" + client("203.0.113.9") + "\r\n\r\n")
		c.WantStatus("HTTP", 200)
		s.wantSeats("the seat of HTTP to be free", netip.MustParseAddr("203.0.113.9"), 2)
		c = clienttest.Connect(t, s)
		c.Write(strings.Replace(clienttest.UpgradeTo("/ws/x", client("203.0.113.9")), "Version: 13", "Version: 7", 1))
		c.WantStatus("an old version", 426)
		s.wantSeats("the seat of a refused upgrade to be free", netip.MustParseAddr("203.0.113.9"), 2)
	}
	leave()
	// Whoever comes too often is not answered, though the proxy is trusted.
	got := map[int]int{}
	for range 2 {
		dial(client("203.0.113.1"))
	}
	for n := 0; got[0] == 0 && n < 2000; n++ {
		_, status, _ := clienttest.Try(t, s, client("203.0.113.1"))
		got[status]++
	}
	if got[0] != 1 || got[429] < 20 || got[101] != 0 {
		t.Errorf("statuses %v, want 429 and then a reset (0)", got)
	}
	leave()
}

const v2 = "\r\n\r\n\x00\r\nQUIT\n"

func TestProxyHeaderNamesTheClient(t *testing.T) {
	t.Parallel()
	s := start(t, settings{ProxyProtocol: here, Limits: perAddress(1)})
	for _, c := range []struct{ why, header, want string }{
		{"version 1", "PROXY TCP4 203.0.113.5 127.0.0.1 1234 80\r\n", "203.0.113.5:1234"},
		{"version 1, IPv6", "PROXY TCP6 2001:db8::1 ::1 1234 80\r\n", "[2001:db8::1]:1234"},
		{"version 1, unknown", "PROXY UNKNOWN\r\n", ""},
		{"version 2", v2 + "\x21\x11\x00\x0c\xcb\x00\x71\x05\x7f\x00\x00\x01\x04\xd2\x00\x50", "203.0.113.5:1234"},
		{"version 2 with an extension", v2 + "\x21\x11\x00\x10\xcb\x00\x71\x05\x7f\x00\x00\x01\x04\xd2\x00\x50\x04\x00\x01\x00", "203.0.113.5:1234"},
		{"version 2, LOCAL", v2 + "\x20\x00\x00\x00", ""},
	} {
		from := netip.MustParseAddr("203.0.113.5")
		if c.want != "" {
			from = netip.MustParseAddrPort(c.want).Addr()
		}
		for _, trickle := range []bool{false, true} {
			why := fmt.Sprintf("%s, byte by byte: %v", c.why, trickle)
			conn := clienttest.Proxied(t, s, c.header, trickle)
			conn.Upgrade("/ws/x", "X-Forwarded-For: 6.6.6.6")
			s.wantFrom(why, c.want, conn)
			conn.Send(clienttest.Text("hello"))
			conn.WantText(why, "hello")
			if c.want != "" {
				again := clienttest.Proxied(t, s, c.header, trickle)
				again.Write(clienttest.UpgradeTo("/ws/x"))
				again.WantStatus(why+": the limit is the client's", 429)
			}
			conn.Vanish()
			s.wantConnections(0)
			s.wantSeats(why+": the seat", from, 1)
			conn = clienttest.Proxied(t, s, c.header, trickle)
			conn.Write("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
			conn.WantStatus(why, 200)
			s.wantSeats(why+": the seat of HTTP", from, 1)
		}
	}
	bad := []string{"", "PROXY NONSENSE\r\n", "PROXY TCP4 1.2.3 4 5 6\r\n", v2 + "\x31\x11\x00\x00", "PROXY TCP4 " + strings.Repeat("1", 120)}
	for _, header := range bad {
		nc, err := net.Dial("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		c := clienttest.NewClient(t, nc.(*net.TCPConn))
		c.Write(header + clienttest.UpgradeTo("/ws/x"))
		c.WantGone(fmt.Sprintf("header %q", header))
	}
	s.wantOutcome("bad_proxy_header", uint64(len(bad)))
}

func TestProxyHeaderIsTakenFromListedPeersOnly(t *testing.T) {
	t.Parallel()
	s := start(t, settings{ProxyProtocol: elsewhere})
	if s.secured {
		clienttest.SendBytes(t, s, "PROXY TCP4 203.0.113.5 127.0.0.1 1234 80\r\n")
		s.wantOutcome(rejectProxied.Reason.String(), 1)
		return
	}
	c := clienttest.Proxied(t, s, "PROXY TCP4 203.0.113.5 127.0.0.1 1234 80\r\n", false)
	c.Write(clienttest.UpgradeTo("/ws/x"))
	c.WantStatus("no HTTP", 400)
}

// Who comes by way of a proxy is not of this machine, though the proxy is.
func TestClientsOfAProxyMayNotPublishByDefault(t *testing.T) {
	t.Parallel()
	for why, cfg := range map[string]settings{
		"X-Forwarded-For": {TrustedProxies: here},
		"PROXY":           {ProxyProtocol: here},
	} {
		cfg.RemoteListenOnly = true
		s := start(t, cfg)
		header := ""
		if cfg.ProxyProtocol != nil {
			header = "PROXY TCP4 203.0.113.5 127.0.0.1 1234 80\r\n"
		}
		c := clienttest.Proxied(t, s, header, false)
		c.Upgrade("/ws/x", "X-Forwarded-For: 203.0.113.9")
		c.Send(clienttest.Text("not of this machine"))
		c.WantClose(why, 1008)
		s.WantClosed(loop.ReasonNotAllowed, 1)
	}
}
