package gateway

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sluice/gateway/clienttest"
	"sluice/gateway/loop"
)

// Hostile clients do what they can while well-behaved subscribers listen: those
// lose nothing, newcomers get in, and memory stays within its limits.

const (
	// crowdRate is what is published for the crowd, messages a second of
	// crowdBytes each.
	crowdRate  = 50
	crowdBytes = 1000
	// hostileMemory bounds what the heap may grow by during an act. Most of it is the
	// hostile clients' own.
	hostileMemory = 48 << 20
)

// crowd is the well-behaved subscribers and who publishes for them.
type crowd struct {
	t         *testing.T
	s         *server
	listeners sync.WaitGroup
	publisher sync.WaitGroup
	stop      chan struct{}
	sent      atomic.Int64
	total     atomic.Int64 // known once the publisher has stopped, else -1
	failed    atomic.Int64
}

func gather(t *testing.T, s *server, n int) *crowd {
	w := &crowd{t: t, s: s, stop: make(chan struct{})}
	w.total.Store(-1)
	for range n {
		c := clienttest.Dial(t, s, "/ws/crowd?mode=subscribe")
		w.listeners.Go(func() { w.listen(c) })
	}
	w.publisher.Go(w.publish)
	return w
}

func (w *crowd) publish() {
	tick := time.NewTicker(time.Second / crowdRate)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-w.stop:
			w.total.Store(w.sent.Load())
			w.send("the last")
			return
		}
		w.send(numberOf(w.sent.Load()))
		w.sent.Add(1)
	}
}

func (w *crowd) send(p string) {
	ctx, cancel := context.WithTimeout(context.Background(), clienttest.Patience)
	defer cancel()
	payload := fmt.Sprintf("%-*s", crowdBytes, p)
	if _, err := w.s.Publish(ctx, Message{Channel: "crowd", Payload: []byte(payload)}); err != nil {
		w.t.Errorf("publish %q: %v", p, err)
	}
}

func numberOf(n int64) string { return fmt.Sprintf("number %09d", n) }

// listen reads every number in its order, up to the last.
func (w *crowd) listen(c *clienttest.Client) {
	c.Conn.SetDeadline(time.Now().Add(10 * clienttest.Patience)) // ignored: then the reads fail
	frame := make([]byte, 4+crowdBytes)
	for next := int64(0); ; next++ {
		if _, err := io.ReadFull(c.In, frame); err != nil {
			w.fail("a listener ends before number %d: %v", next, err)
			return
		}
		switch got := strings.TrimRight(string(frame[4:]), " "); got {
		case numberOf(next):
		case "the last":
			if total := w.total.Load(); next != total {
				w.fail("a listener got %d of %d", next, total)
			}
			return
		default:
			w.fail("a listener got %q instead of number %d", clienttest.Brief(got), next)
			return
		}
	}
}

func (w *crowd) fail(format string, args ...any) {
	if w.failed.Add(1) <= 3 {
		w.t.Errorf(format, args...)
	}
}

func (w *crowd) disperse() {
	close(w.stop)
	w.publisher.Wait()
	w.listeners.Wait()
	if n := w.failed.Load(); n > 0 {
		w.t.Errorf("%d listeners lost something", n)
	}
}

// newcomers see how long it takes to get in.
func (w *crowd) newcomers() (worst time.Duration) {
	for range 5 {
		begun := time.Now()
		c := clienttest.Dial(w.t, w.s, "/echo")
		c.Send(clienttest.Text("hello"))
		c.WantText("a newcomer's echo", "hello")
		worst = max(worst, time.Since(begun))
		c.Vanish()
	}
	return worst
}

// await lets the crowd hear so many more messages.
func (w *crowd) await(n int64) {
	w.t.Helper()
	until := w.sent.Load() + n
	clienttest.WaitFor(w.t, "the publisher to go on", func() bool { return w.sent.Load() >= until })
}

// mob is hostile clients.
type mob struct {
	t     *testing.T
	s     *server
	conns []net.Conn
	busy  sync.WaitGroup
}

// dial adds n clients that have sent something; few buffers, because there are
// many clients.
func (m *mob) dial(n int, sent string) (from int) {
	from = len(m.conns)
	for range n {
		nc, err := net.DialTimeout("tcp", m.s.addr, clienttest.Patience)
		if err != nil {
			m.t.Fatalf("hostile client %d: %v", len(m.conns), err)
		}
		nc.SetDeadline(time.Now().Add(clienttest.Patience)) // ignored: then the writes fail
		io.WriteString(nc, sent)                            // ignored: it may have been thrown out
		m.conns = append(m.conns, nc)
	}
	return from
}

// pour makes clients send as much as they can of something.
func (m *mob) pour(from int, p string, bytes int) {
	for _, nc := range m.conns[from:] {
		m.busy.Go(func() {
			for n := 0; n < bytes; n += len(p) {
				if _, err := io.WriteString(nc, p); err != nil {
					return
				}
			}
		})
	}
}

func (m *mob) leave() {
	for _, nc := range m.conns {
		nc.(*net.TCPConn).SetLinger(0) // ignored: then they leave traces in the kernel
		nc.Close()                     // ignored: likewise
	}
	m.busy.Wait()
}

// heap returns the bytes that are in use.
func heap() int64 {
	runtime.GC()
	runtime.GC() // what pools have had
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func TestHostileClientsHurtNobodyElse(t *testing.T) {
	clienttest.UncompressedOnly(t)
	clienttest.PlainOnly(t)
	maxBuffered := clienttest.Scaled(16<<20, 4<<20)
	// No handshake ends because of its time: who is kept out by one stays out.
	s := start(t, Config{HandshakeTimeout: time.Hour, MaxBuffered: maxBuffered, ChannelBuffer: 64 << 10, MaxMessage: 16 << 10, SendBuffer: 16 << 10, MaxPending: 64 << 10, PingInterval: -1})
	w := gather(t, s, clienttest.Scaled(300, 100))
	ended := func(why loop.Reason) bool { return s.ClosedFor(why) > 0 || s.ClosingFor(why) > 0 }
	few, many := clienttest.Scaled(200, 50), clienttest.Scaled(5000, 500)
	for _, act := range []struct {
		name string
		play func(m *mob)
	}{
		{"request heads of 64 MiB", func(m *mob) {
			m.pour(m.dial(8, "GET /"), strings.Repeat("x", 64<<10), 64<<20)
			m.pour(m.dial(8, "GET /ws HTTP/1.1\r\nA: "), strings.Repeat("x", 64<<10), 64<<20)
		}},
		{"headers without end", func(m *mob) {
			m.pour(m.dial(few, "GET /ws HTTP/1.1\r\nHost: localhost\r\n"), "A: b\r\n", 64<<20)
		}},
		{"half-open handshakes", func(m *mob) {
			m.dial(many/2, "")
			m.dial(many/2, "GET /ws HTTP/1.1\r\nHost: local")
		}},
		{"half a frame for ever", func(m *mob) {
			m.dial(5*few, clienttest.UpgradeTo("/ws/crowd")+clienttest.Part(0x82, clienttest.Stars(15<<10))[:14<<10])
			m.dial(few, clienttest.UpgradeTo("/ws/crowd")+clienttest.Part(0x02, clienttest.Stars(14<<10)))
			clienttest.WaitFor(t, "somebody to be shed", func() bool { return ended(loop.ReasonBudget) })
		}},
		{"frames that declare 2^62 bytes", func(m *mob) {
			from := m.dial(few, clienttest.UpgradeTo("/ws/crowd")+"\x82\xff\x40\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00")
			m.pour(from, strings.Repeat("x", 64<<10), 1<<20)
			for _, nc := range m.conns {
				resp, err := http.ReadResponse(bufio.NewReader(nc), nil)
				if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
					t.Errorf("hostile client: %v, %v", resp, err)
				}
			}
		}},
		{"subscribers that stop reading", func(m *mob) {
			for range few {
				c := clienttest.ConnectWith(t, s, 4<<10)
				c.Write(clienttest.UpgradeTo("/ws/crowd?mode=subscribe"))
				m.conns = append(m.conns, c.Conn)
			}
			clienttest.WaitFor(t, "one to be cut", func() bool { return ended(loop.ReasonSlow) })
		}},
		{"floods of pings and echoes that nobody reads", func(m *mob) {
			m.pour(m.dial(few/4, clienttest.UpgradeTo("/echo")), strings.Repeat(clienttest.Text(clienttest.Stars(1000)), 16)+strings.Repeat(clienttest.Ping("p"), 100), 64<<20)
			m.pour(m.dial(few/4, clienttest.UpgradeTo("/ws/crowd?mode=subscribe")), strings.Repeat(clienttest.Ping(clienttest.Stars(125)), 200), 1<<20)
		}},
	} {
		before := heap()
		m := &mob{t: t, s: s}
		act.play(m)
		w.await(crowdRate / 2)
		worst := w.newcomers()
		grown := heap() - before
		if grown > hostileMemory {
			t.Errorf("%s: the heap grew by %d KiB", act.name, grown>>10)
		}
		if held := s.Held(); held > int64(maxBuffered/2) {
			t.Errorf("%s: %d KiB are held for connections", act.name, held>>10)
		}
		if used := s.budget.Used(); used > maxBuffered/2 {
			t.Errorf("%s: %d KiB are held in logs", act.name, used>>10)
		}
		if n := s.handshakes(); n > s.cfg.MaxHandshakes {
			t.Errorf("%s: %d handshakes at a time, at most %d are allowed", act.name, n, s.cfg.MaxHandshakes)
		}
		t.Logf("%-46s newcomers %8v, heap %+6d KiB, held %5d KiB", act.name, worst.Round(time.Microsecond), grown>>10, s.Held()>>10)
		m.leave()
		if n := w.failed.Load(); n > 0 {
			t.Fatalf("%s: %d listeners lost something", act.name, n)
		}
	}
	w.disperse()
}
