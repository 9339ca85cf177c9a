package edge

import (
	"context"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"sluice/gateway/clienttest"
	"sluice/gateway/edge/admit"
	"sluice/gateway/loop"
	"sluice/gateway/looptest"
)

var loopback = netip.MustParseAddr("127.0.0.1")

// Whatever becomes of a connection, its address gets the seat back.
func TestSeatsAreGivenBackOnEveryWayOut(t *testing.T) {
	t.Parallel()
	const seats = 3
	ways := map[string]func(t *testing.T, s *rig){
		"answered over HTTP": func(t *testing.T, s *rig) {
			c := clienttest.Connect(t, s)
			c.Write("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
			c.WantStatus("health", 200)
		},
		"a refused upgrade": func(t *testing.T, s *rig) {
			c := clienttest.Connect(t, s)
			c.Write(strings.Replace(clienttest.UpgradeTo("/ws/x"), "Version: 13", "Version: 7", 1))
			c.WantStatus("an old version", 426)
		},
		"no HTTP": func(t *testing.T, s *rig) {
			c := clienttest.Connect(t, s)
			c.Write("hello\r\n\r\n")
			c.WantStatus("no request", 400)
		},
		"nothing sent": func(t *testing.T, s *rig) { clienttest.Connect(t, s).Conn.Close() },
		"half a head": func(t *testing.T, s *rig) {
			c := clienttest.Connect(t, s)
			c.Write("GET /ws HTTP/1.1\r\nHo")
			c.Vanish()
		},
		"a refused stream": func(t *testing.T, s *rig) {
			c := clienttest.Connect(t, s)
			c.Write("GET /sse/x?since=junk HTTP/1.1\r\nHost: localhost\r\n\r\n")
			c.WantStatus("no such query", 400)
		},
		"a stream": func(t *testing.T, s *rig) { clienttest.Stream(t, s, "/sse/x").Vanish() },
		"a reset":  func(t *testing.T, s *rig) { clienttest.Dial(t, s, "/ws/x").Vanish() },
		"a fault of frames": func(t *testing.T, s *rig) {
			c := clienttest.Dial(t, s, "/ws/x")
			c.Send("\xff\x80abcd")
			c.WantClose("reserved bits", 1002)
		},
		"a Close": func(t *testing.T, s *rig) {
			c := clienttest.Dial(t, s, "/echo")
			c.Send(clienttest.Closing(1000, ""))
			c.WantClose("its own", 1000)
		},
		"no TLS handshake":   func(t *testing.T, s *rig) { clienttest.SendBytes(t, s, "\x16\x03\x01\x00\x05hello") },
		"half TLS handshake": func(t *testing.T, s *rig) { clienttest.SendBytes(t, s, "\x16\x03\x01\x01") },
		"ended by an operator": func(t *testing.T, s *rig) {
			c := clienttest.Dial(t, s, "/ws/x")
			s.Do(func(l *loop.Loop) {
				for _, d := range l.Describe(func(*loop.Conn) uint64 { return 0 }, seats) {
					l.End(d.ID)
				}
			})
			c.WantClose("it is told", 1008)
		},
	}
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t, settings{Limits: perAddress(seats)})
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
		s := start(t, settings{Limits: perAddress(8), MaxHandshakes: 2})
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
		s := start(t, settings{Limits: perAddress(4)})
		for _, c := range []*clienttest.Client{clienttest.Dial(t, s, "/ws/x"), clienttest.Dial(t, s, "/echo")} {
			go func() { c.Next(); io.WriteString(c.Conn, clienttest.Closing(1001, "")); c.Conn.CloseWrite() }() // ignored: it only answers
		}
		clienttest.Stream(t, s, "/sse/x")
		clienttest.SendBytes(t, s, "G")
		ctx, cancel := context.WithTimeout(context.Background(), clienttest.Patience)
		defer cancel()
		if err := s.shutdown(ctx); err != nil {
			t.Error(err)
		}
		s.wantSeats("the seats to be free after Shutdown", loopback, 4)
	})
}

func TestAnAddressHasItsConnectionsAndNotOneMore(t *testing.T) {
	t.Parallel()
	s := start(t, settings{Limits: perAddress(2)})
	first := clienttest.Dial(t, s, "/ws/x")
	clienttest.Stream(t, s, "/sse/x")
	seen := map[int]bool{}
	for range 30 {
		_, status, h := clienttest.Try(t, s)
		after, err := strconv.Atoi(h.Get("Retry-After"))
		if status != 429 || err != nil || after < 10 || after > 20 {
			t.Fatalf("status %d, Retry-After %q, want 429 and 10 to 20", status, h.Get("Retry-After"))
		}
		seen[after] = true
	}
	if len(seen) < 2 {
		t.Error("all are told to come back at the same time")
	}
	c := clienttest.Connect(t, s)
	c.Write("GET /sse/x HTTP/1.1\r\nHost: localhost\r\n\r\n")
	c.WantStatus("a stream", 429)
	s.wantOutcome("address_connections", 31)
	first.Send(clienttest.Closing(1000, ""))
	first.WantClose("it leaves", 1000)
	clienttest.WaitFor(t, "its seat", func() bool { _, status, _ := clienttest.Try(t, s); return status == 101 })
}

func TestConnectionsThatComeTooFastAreToldAndThenReset(t *testing.T) {
	t.Parallel()
	for label, limits := range map[string]admit.Limits{
		"address_rate": {Rate: 1, LoopbackRate: true},
		"accept_rate":  {TotalRate: 4},
	} {
		t.Run(label, func(t *testing.T) {
			t.Parallel()
			s := start(t, settings{Limits: limits})
			want, least := 429, 5 // the burst is five seconds' worth
			if label == "accept_rate" {
				want, least = 503, 4
			}
			got := map[int]int{}
			for n := 0; got[0] == 0 && n < 1000; n++ {
				_, status, _ := clienttest.Try(t, s)
				got[status]++
			}
			if got[0] != 1 || got[want] == 0 || got[101] < least {
				t.Errorf("statuses %v, want %d to get in, then %d, then a reset (0)", got, least, want)
			}
			s.wantOutcome(label, uint64(got[want]+got[0]))
			if n := s.edge.connections.Load(); n != int64(got[101]) {
				t.Errorf("%d connections, want %d", n, got[101])
			}
		})
	}
}

// With --refuse=close a page's script learns why.
func TestNewcomersAreRefusedInside(t *testing.T) {
	t.Parallel()
	for label, cfg := range map[string]settings{
		"address_connections":       {Limits: perAddress(1)},
		rejectLimit.Reason.String(): {MaxConnections: 1},
		"memory":                    {},
	} {
		t.Run(label, func(t *testing.T) {
			t.Parallel()
			cfg.CloseRefused, cfg.MaxHandshakes = true, 2
			s := start(t, cfg)
			good := clienttest.Dial(t, s, "/ws/x")
			s.full.Store(label == "memory")
			for range 5 { // more than MaxHandshakes, one after the other
				c := clienttest.Dial(t, s, "/ws/x")
				c.WantClose("refused", 1013)
				clienttest.WaitFor(t, "it to be gone", func() bool { return s.edge.refusing.Load() == 0 })
			}
			c := clienttest.Stream(t, s, "/sse/x")
			for e := ""; !strings.HasPrefix(e, "event: close\n"); {
				if e = c.Event(); strings.Contains(e, "event: close\n") && !strings.Contains(e, `"code":1013`) {
					t.Errorf("event %q", e)
				}
				if strings.Contains(e, "event: close\n") {
					break
				}
			}
			c.EndClose("the stream ends")
			s.WantClosed(looptest.Reason("refused"), 6)
			s.wantOutcome(label, 6)
			var held []*clienttest.Client
			for range 2 { // they do not answer the Close
				c := clienttest.Dial(t, s, "/ws/x")
				c.WantCloseFrame("refused", 1013)
				held = append(held, c)
			}
			_, status, h := clienttest.Try(t, s)
			if status != 429 && status != 503 || h.Get("Retry-After") == "" {
				t.Errorf("more than may be told inside: %d %v", status, h)
			}
			s.wantOutcome(label, 9)
			if n, o := s.edge.connections.Load(), s.counted("upgraded"); n != 1 || o != 1 {
				t.Errorf("%d connections, %d upgrades are counted, want those of one client", n, o)
			}
			s.publish("x", "hello")
			good.WantText("who is in stays in", "hello")
			for _, c := range held {
				c.EndClose("late")
			}
			clienttest.WaitFor(t, "all to be gone", func() bool { return s.edge.refusing.Load() == 0 })
		})
	}
}

func TestFullMemoryIsAnsweredWith503(t *testing.T) {
	t.Parallel()
	s := start(t, settings{})
	old := clienttest.Dial(t, s, "/ws/x")
	s.full.Store(true)
	_, status, h := clienttest.Try(t, s)
	if after, _ := strconv.Atoi(h.Get("Retry-After")); status != 503 || after < 5 || after > 10 {
		t.Errorf("status %d, Retry-After %d", status, after)
	}
	c := clienttest.Connect(t, s)
	c.Write("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
	c.WantStatus("health is still answered", 200)
	s.wantOutcome("memory", 1)
	old.Settle(s)
	s.full.Store(false)
	clienttest.Dial(t, s, "/ws/x").Settle(s)
}

// A refusal inside is for upgrades and streams. Any other path is answered as such,
// whatever it begins with.
func TestRefusalInsideIsForStreamsNotForWhatBeginsLikeOne(t *testing.T) {
	t.Parallel()
	s := start(t, settings{Limits: perAddress(1), CloseRefused: true})
	clienttest.Dial(t, s, "/ws/x")
	for _, path := range []string{"/nothing", "/ssefoo", "/sse-or-whatever", "/ssex/x"} {
		c := clienttest.Connect(t, s)
		io.WriteString(c.Conn, "GET "+path+" HTTP/1.1\r\nHost: localhost\r\n\r\n") // ignored: then there is no answer
		c.WantStatus(path, 429)
	}
	s.wantOutcome("address_connections", 4)
}
