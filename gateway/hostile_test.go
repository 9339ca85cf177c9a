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
)

// Hostile clients do what they can while well-behaved subscribers listen: those
// lose nothing, newcomers get in, and memory stays within its limits.

const (
	// crowdRate is what is published for the crowd, messages a second of
	// crowdBytes each.
	crowdRate  = 50
	crowdBytes = 1000
	// newcomerTime bounds a newcomer's way to its first echo. It takes milliseconds;
	// the rest is for machines that do other things as well.
	newcomerTime = 5 * time.Second
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
		c := dial(t, s, "/ws/crowd?mode=subscribe")
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
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	payload := fmt.Sprintf("%-*s", crowdBytes, p)
	if _, err := w.s.Publish(ctx, Message{Channel: "crowd", Payload: []byte(payload)}); err != nil {
		w.t.Errorf("publish %q: %v", p, err)
	}
}

func numberOf(n int64) string { return fmt.Sprintf("number %09d", n) }

// listen reads every number in its order, up to the last.
func (w *crowd) listen(c *client) {
	c.conn.SetDeadline(time.Now().Add(10 * patience)) // ignored: then the reads fail
	frame := make([]byte, 4+crowdBytes)
	for next := int64(0); ; next++ {
		if _, err := io.ReadFull(c.in, frame); err != nil {
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
			w.fail("a listener got %q instead of number %d", brief(got), next)
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
		c := dial(w.t, w.s, "/echo")
		c.send(text("hello"))
		c.wantText("a newcomer's echo", "hello")
		worst = max(worst, time.Since(begun))
		c.vanish()
	}
	return worst
}

// await lets the crowd hear so many more messages.
func (w *crowd) await(n int64) {
	w.t.Helper()
	until := w.sent.Load() + n
	waitFor(w.t, "the publisher to go on", func() bool { return w.sent.Load() >= until })
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
		nc, err := net.DialTimeout("tcp", m.s.addr, patience)
		if err != nil {
			m.t.Fatalf("hostile client %d: %v", len(m.conns), err)
		}
		nc.SetDeadline(time.Now().Add(patience)) // ignored: then the writes fail
		io.WriteString(nc, sent)                 // ignored: it may have been thrown out
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

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func TestHostileClientsHurtNobodyElse(t *testing.T) {
	plainOnly(t)
	maxBuffered := scaled(16<<20, 4<<20)
	s := start(t, Config{MaxBuffered: maxBuffered, ChannelBuffer: 64 << 10, MaxMessage: 16 << 10, SendBuffer: 16 << 10, MaxPending: 64 << 10, PingInterval: -1})
	w := gather(t, s, scaled(1000, 100))
	few, many := scaled(200, 50), scaled(5000, 500)
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
			m.dial(5*few, upgradeTo("/ws/crowd")+part(0x82, stars(15<<10))[:14<<10])
			m.dial(few, upgradeTo("/ws/crowd")+part(0x02, stars(14<<10)))
		}},
		{"frames that declare 2^62 bytes", func(m *mob) {
			from := m.dial(few, upgradeTo("/ws/crowd")+"\x82\xff\x40\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00")
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
				c := connectWith(t, s, 4<<10)
				c.write(upgradeTo("/ws/crowd?mode=subscribe"))
				m.conns = append(m.conns, c.conn)
			}
			w.await(2 * crowdRate)
		}},
		{"floods of pings and echoes that nobody reads", func(m *mob) {
			m.pour(m.dial(few/4, upgradeTo("/echo")), strings.Repeat(text(stars(1000)), 16)+strings.Repeat(ping("p"), 100), 64<<20)
			m.pour(m.dial(few/4, upgradeTo("/ws/crowd?mode=subscribe")), strings.Repeat(ping(stars(125)), 200), 1<<20)
		}},
	} {
		before := heap()
		m := &mob{t: t, s: s}
		act.play(m)
		w.await(crowdRate / 2)
		worst := w.newcomers()
		if worst > newcomerTime {
			t.Errorf("%s: a newcomer waited %v", act.name, worst)
		}
		grown := heap() - before
		if grown > hostileMemory {
			t.Errorf("%s: the heap grew by %d KiB", act.name, grown>>10)
		}
		if held := s.held(); held > int64(maxBuffered/2) {
			t.Errorf("%s: %d KiB are held for connections", act.name, held>>10)
		}
		if used := s.budget.Used(); used > maxBuffered/2 {
			t.Errorf("%s: %d KiB are held in logs", act.name, used>>10)
		}
		s.stage.mu.Lock()
		if s.stage.taken > s.stage.places {
			t.Errorf("%s: %d handshakes at a time, at most %d are allowed", act.name, s.stage.taken, s.stage.places)
		}
		s.stage.mu.Unlock()
		t.Logf("%-46s newcomers %8v, heap %+6d KiB, held %5d KiB", act.name, worst.Round(time.Microsecond), grown>>10, s.held()>>10)
		m.leave()
		if n := w.failed.Load(); n > 0 {
			t.Fatalf("%s: %d listeners lost something", act.name, n)
		}
	}
	w.disperse()
	if n := s.closedFor(reasonSlow) + s.closedFor(reasonWriteTimeout); n == 0 {
		t.Error("nobody was cut for not reading: the act shows nothing")
	}
	if n := s.closedFor(reasonBudget); n == 0 {
		t.Error("nobody was shed: the act shows nothing")
	}
}
