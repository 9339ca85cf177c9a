package gateway

import (
	"context"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"sluice/gateway/edge/admit"
)

var loopback = netip.MustParseAddr("127.0.0.1")

func TestDefaultLimitsOfAnAddressAreNotForThisMachine(t *testing.T) {
	t.Parallel()
	s := start(t, Config{PingInterval: -1})
	for range DefaultMaxPerAddress + 10 {
		dial(t, s, "/ws/x")
	}
	elsewhere, now := netip.MustParseAddr("198.51.100.1"), int64(1000)
	for i := range DefaultMaxPerAddress + 1 {
		_, verdict := s.admission.Enter(elsewhere, now)
		want := admit.Admitted
		if i == DefaultMaxPerAddress {
			want = admit.AddressOpen
		}
		if verdict != want {
			t.Fatalf("connection %d: %v, want %v", i, verdict, want)
		}
		now += 1000 / DefaultAddressRate
	}
	last := admit.Admitted
	table := newAdmission(&Config{})
	for range 5*DefaultAddressRate + 1 {
		_, last = table.Enter(elsewhere, now)
	}
	if last != admit.AddressRate {
		t.Errorf("more than the burst at once: %v", last)
	}
}

// Whatever becomes of a connection, its address gets the seat back.
func TestSeatsAreGivenBackOnEveryWayOut(t *testing.T) {
	t.Parallel()
	const seats = 3
	ways := map[string]func(t *testing.T, s *server){
		"answered over HTTP": func(t *testing.T, s *server) {
			c := connect(t, s)
			c.write("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
			c.wantStatus("health", 200)
		},
		"a refused upgrade": func(t *testing.T, s *server) {
			c := connect(t, s)
			c.write(strings.Replace(upgradeTo("/ws/x"), "Version: 13", "Version: 7", 1))
			c.wantStatus("an old version", 426)
		},
		"no HTTP": func(t *testing.T, s *server) {
			c := connect(t, s)
			c.write("hello\r\n\r\n")
			c.wantStatus("no request", 400)
		},
		"nothing sent": func(t *testing.T, s *server) { connect(t, s).conn.Close() },
		"half a head": func(t *testing.T, s *server) {
			c := connect(t, s)
			c.write("GET /ws HTTP/1.1\r\nHo")
			c.vanish()
		},
		"a refused stream": func(t *testing.T, s *server) {
			c := connect(t, s)
			c.write("GET /sse/x?since=junk HTTP/1.1\r\nHost: localhost\r\n\r\n")
			c.wantStatus("no such query", 400)
		},
		"a stream": func(t *testing.T, s *server) { stream(t, s, "/sse/x").vanish() },
		"a reset":  func(t *testing.T, s *server) { dial(t, s, "/ws/x").vanish() },
		"a fault of frames": func(t *testing.T, s *server) {
			c := dial(t, s, "/ws/x")
			c.send("\xff\x80abcd")
			c.wantClose("reserved bits", 1002)
		},
		"a Close": func(t *testing.T, s *server) {
			c := dial(t, s, "/echo")
			c.send(closing(1000, ""))
			c.wantClose("its own", 1000)
		},
		"no TLS handshake":   func(t *testing.T, s *server) { raw(t, s, "\x16\x03\x01\x00\x05hello") },
		"half TLS handshake": func(t *testing.T, s *server) { raw(t, s, "\x16\x03\x01\x01") },
		"killed":             func(t *testing.T, s *server) { dial(t, s, "/ws/x"); s.do(func(l *loop) { killAll(l) }) },
	}
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t, Config{MaxPerAddress: seats, AddressRate: -1, PingInterval: -1})
			for range 3 {
				for range seats {
					way(t, s)
				}
				s.wantSeats("the seats to be free again", loopback, seats)
			}
		})
	}
	t.Run("evicted", func(t *testing.T) {
		t.Parallel()
		s := start(t, Config{MaxPerAddress: 8, AddressRate: -1, MaxHandshakes: 2})
		var all []net.Conn
		for range 8 {
			nc, err := net.Dial("tcp", s.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			if _, err := io.WriteString(nc, "G"); err != nil && !s.secured { // no listener waits for it then
				t.Fatal(err)
			}
			all = append(all, nc)
		}
		s.wantOutcome("evicted", 6)
		s.wantSeats("the seats of six to be free", loopback, 6)
		for _, nc := range all {
			nc.Close()
		}
		s.wantSeats("all seats to be free", loopback, 8)
	})
	t.Run("shutdown", func(t *testing.T) {
		t.Parallel()
		s := start(t, Config{MaxPerAddress: 4, AddressRate: -1})
		for _, c := range []*client{dial(t, s, "/ws/x"), dial(t, s, "/echo")} {
			go func() { c.next(); io.WriteString(c.conn, closing(1001, "")); c.conn.CloseWrite() }() // ignored: it only answers
		}
		stream(t, s, "/sse/x")
		raw(t, s, "G")
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := s.shutdown(ctx); err != nil {
			t.Error(err)
		}
		s.wantSeats("the seats to be free after Shutdown", loopback, 4)
	})
}

// raw sends bytes, whatever the listener speaks, and leaves.
func raw(t testing.TB, s *server, bytes string) {
	t.Helper()
	nc, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if _, err := io.WriteString(nc, bytes); err != nil {
		t.Fatal(err)
	}
}

func killAll(l *loop) {
	for len(l.conns) > 0 {
		l.conns[0].kill(reasonReset)
	}
}

func TestAnAddressHasItsConnectionsAndNotOneMore(t *testing.T) {
	t.Parallel()
	s := start(t, Config{MaxPerAddress: 2, AddressRate: -1})
	first := dial(t, s, "/ws/x")
	stream(t, s, "/sse/x")
	seen := map[int]bool{}
	for range 30 {
		_, status, h := try(t, s)
		after, err := strconv.Atoi(h.Get("Retry-After"))
		if status != 429 || err != nil || after < 10 || after > 20 {
			t.Fatalf("status %d, Retry-After %q, want 429 and 10 to 20", status, h.Get("Retry-After"))
		}
		seen[after] = true
	}
	if len(seen) < 2 {
		t.Error("all are told to come back at the same time")
	}
	c := connect(t, s)
	c.write("GET /sse/x HTTP/1.1\r\nHost: localhost\r\n\r\n")
	c.wantStatus("a stream", 429)
	s.wantOutcome("address_connections", 31)
	first.send(closing(1000, ""))
	first.wantClose("it leaves", 1000)
	waitFor(t, "its seat", func() bool { _, status, _ := try(t, s); return status == 101 })
}

func TestConnectionsThatComeTooFastAreToldAndThenReset(t *testing.T) {
	t.Parallel()
	for label, cfg := range map[string]Config{
		"address_rate": {AddressRate: 1, MaxPerAddress: -1},
		"accept_rate":  {AcceptRate: 4},
	} {
		t.Run(label, func(t *testing.T) {
			t.Parallel()
			s := start(t, cfg)
			want, least := 429, 5 // the burst is five seconds' worth
			if label == "accept_rate" {
				want, least = 503, 4
			}
			got := map[int]int{}
			for n := 0; got[0] == 0 && n < 1000; n++ {
				_, status, _ := try(t, s)
				got[status]++
			}
			if got[0] != 1 || got[want] == 0 || got[101] < least {
				t.Errorf("statuses %v, want %d to get in, then %d, then a reset (0)", got, least, want)
			}
			s.wantOutcome(label, uint64(got[want]+got[0]))
			if n := s.connections.Load(); n != int64(got[101]) {
				t.Errorf("%d connections, want %d", n, got[101])
			}
		})
	}
}

// With --refuse=close a page's script learns why.
func TestNewcomersAreRefusedInside(t *testing.T) {
	t.Parallel()
	for label, cfg := range map[string]Config{
		"address_connections":       {MaxPerAddress: 1, AddressRate: -1},
		rejectLimit.Reason.String(): {MaxConnections: 1},
		"memory":                    {MemoryLimit: -1},
	} {
		t.Run(label, func(t *testing.T) {
			t.Parallel()
			cfg.Refuse, cfg.MaxHandshakes = RefuseClose, 2
			s := start(t, cfg)
			good := dial(t, s, "/ws/x")
			s.memory.full.Store(label == "memory") // no limit, so nobody looks again
			for range 5 {                          // more than MaxHandshakes, one after the other
				c := dial(t, s, "/ws/x")
				c.wantClose("refused", 1013)
				waitFor(t, "it to be gone", func() bool { return s.refusing.Load() == 0 })
			}
			c := stream(t, s, "/sse/x")
			for e := ""; !strings.HasPrefix(e, "event: close\n"); {
				if e = c.event(); strings.Contains(e, "event: close\n") && !strings.Contains(e, `"code":1013`) {
					t.Errorf("event %q", e)
				}
				if strings.Contains(e, "event: close\n") {
					break
				}
			}
			c.endClose("the stream ends")
			s.wantClosed(reasonRefused, 6)
			s.wantOutcome(label, 6)
			var held []*client
			for range 2 { // they do not answer the Close
				c := dial(t, s, "/ws/x")
				c.wantCloseFrame("refused", 1013)
				held = append(held, c)
			}
			_, status, h := try(t, s)
			if status != 429 && status != 503 || h.Get("Retry-After") == "" {
				t.Errorf("more than may be told inside: %d %v", status, h)
			}
			s.wantOutcome(label, 9)
			if n, o := s.connections.Load(), s.counted("upgraded"); n != 1 || o != 1 {
				t.Errorf("%d connections, %d upgrades are counted, want those of one client", n, o)
			}
			s.publish("x", "hello")
			good.wantText("who is in stays in", "hello")
			for _, c := range held {
				c.endClose("late")
			}
			waitFor(t, "all to be gone", func() bool { return s.refusing.Load() == 0 })
		})
	}
}

func TestFullMemoryIsAnsweredWith503(t *testing.T) {
	t.Parallel()
	s := start(t, Config{MemoryLimit: -1})
	old := dial(t, s, "/ws/x")
	s.memory.full.Store(true)
	_, status, h := try(t, s)
	if after, _ := strconv.Atoi(h.Get("Retry-After")); status != 503 || after < 5 || after > 10 {
		t.Errorf("status %d, Retry-After %d", status, after)
	}
	c := connect(t, s)
	c.write("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
	c.wantStatus("health is still answered", 200)
	s.wantOutcome("memory", 1)
	old.settle(s)
	s.memory.full.Store(false)
	dial(t, s, "/ws/x").settle(s)
}
