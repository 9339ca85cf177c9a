package gateway

import (
	"io"
	"log/slog"
	"testing"
	"time"
)

// When the connection is gone, its address is too.
func TestLoudEndIsLoggedWithTheClientsAddress(t *testing.T) {
	t.Parallel()
	log := &records{}
	s := start(t, Config{PingInterval: -1, MessageRate: 1, Logger: slog.New(slog.NewTextHandler(log, nil))})
	c := dial(t, s, "/ws/x?echo=off")
	for range 2 { // a second may end in between
		c.send(text("1"), text("2"), text("3"), text("4"), text("5"))
	}
	c.wantCloseFrame("more than twice the rate", 1008)
	client := c.conn.LocalAddr().String()
	c.vanish()
	s.wantClosed(reasonMessageRate, 1)
	if !log.has("client="+client) || log.has("client=unix") {
		t.Errorf("the log does not name %s:\n%s", client, log.text())
	}
}

// Who comes by way of a proxy is not of this machine, though the proxy is.
func TestClientsOfAProxyMayNotPublishByDefault(t *testing.T) {
	t.Parallel()
	for why, cfg := range map[string]Config{
		"X-Forwarded-For": {TrustedProxies: here, PingInterval: -1},
		"PROXY":           {ProxyProtocol: here, PingInterval: -1},
	} {
		s := start(t, cfg)
		header := ""
		if cfg.ProxyProtocol != nil {
			header = "PROXY TCP4 203.0.113.5 127.0.0.1 1234 80\r\n"
		}
		c := proxyTo(t, s, header, false)
		c.upgrade("/ws/x", "X-Forwarded-For: 203.0.113.9")
		c.send(text("not of this machine"))
		c.wantClose(why, 1008)
		s.wantClosed(reasonNotAllowed, 1)
	}
}

// A skip is no recovery. Who ends before it is back has missed what came meanwhile: each
// publication is delivered or dropped, and in one of the counters.
func TestWhatASkippedReaderMissesIsCountedAtItsEnd(t *testing.T) {
	t.Parallel()
	for _, target := range []string{"/ws/x?format=json", "/sse/x"} {
		t.Run(target, func(t *testing.T) {
			t.Parallel()
			s := skipping(t, Config{Loops: 1})
			slow := follow(t, s, target)
			s.quiet()
			told := func() uint64 {
				return s.sum(func(st *loopStats) uint64 { return st.recoveries.Load() + st.gaps.Load() })
			}
			before := told() // a stream begins like a recovery
			n := s.floodUntil("a skip", func() bool { return s.skips() == 1 })
			for slow.gaps == 0 {
				slow.step()
			}
			slow.until(n)
			s.quiet()
			if got := told() - before; got != 0 {
				t.Errorf("nobody asked for what was missed: %d recoveries and gaps are counted", got)
			}
			n += s.floodUntil("a skip", func() bool { return s.skips() == 2 })
			for range 100 {
				s.publish("x", "while it is out")
				n++
			}
			s.quiet()
			slow.vanish()
			s.wantConnections(0)
			delivered, dropped := s.deliveries(), uint64(0)
			for why := range reasonCount {
				dropped += s.dropped(why)
			}
			if dropped += s.dropped(droppedBySkip); delivered+dropped != n {
				t.Errorf("%d publications: %d deliveries, %d dropped", n, delivered, dropped)
			}
		})
	}
}

// A refusal inside is for upgrades and streams. Any other path is answered as such,
// whatever it begins with.
func TestRefusalInsideIsForStreamsNotForWhatBeginsLikeOne(t *testing.T) {
	t.Parallel()
	s := start(t, Config{PingInterval: -1, MaxPerAddress: 1, AddressRate: -1, Refuse: RefuseClose})
	dial(t, s, "/ws/x")
	for _, path := range []string{"/nothing", "/ssefoo", "/sse-or-whatever", "/ssex/x"} {
		c := connect(t, s)
		io.WriteString(c.conn, "GET "+path+" HTTP/1.1\r\nHost: localhost\r\n\r\n") // ignored: then there is no answer
		c.wantStatus(path, 429)
	}
	s.wantOutcome("address_connections", 4)
}

// Nothing is to be expected of a peer that does not answer: its Close is not waited for.
func TestHalfOpenPeerIsGoneInTime(t *testing.T) {
	t.Parallel()
	const ping, pong = 30, 20 // seconds
	s := start(t, Config{PingInterval: ping * time.Second, PongTimeout: pong * time.Second, CloseTimeout: time.Hour})
	c := dial(t, s, "/ws/x")
	s.pass(ping + 1) // it came within a second
	c.wantPing("silence")
	s.pass(pong)
	s.pass(drainSeconds)
	s.wantConnections(0)
	s.wantClosed(reasonNoPong, 1)
	c.wantCloseFrame("it is told, should it be there", 1008)
	c.wantGone("and not waited for")
}
