package loop

import (
	"fmt"
	"testing"
	"time"

	"sluice/gateway/channel"
	"sluice/gateway/clienttest"
	"sluice/poller"

	"github.com/gobwas/ws"
	"golang.org/x/sys/unix"
)

// loopClientFrame is a client's text frame. Its mask is zero, so that one and the
// same frame can be unmasked in place again and again.
func loopClientFrame(size int) []byte {
	f := ws.MaskFrameWith(ws.NewTextFrame([]byte(clienttest.Numbered(1, size)[0])), [4]byte{})
	return ws.MustCompileFrame(f)
}

// loopDrain reads n bytes from a socket that does not wait.
func loopDrain(t testing.TB, fd, n int, part []byte) {
	end := time.Now().Add(clienttest.Patience)
	set := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	for n > 0 {
		m, err := poller.Read(fd, part[:min(n, len(part))])
		if n -= m; err != nil || time.Now().After(end) {
			t.Fatalf("%d bytes are missing: %v", n, err)
		}
		if m == 0 {
			// Not runtime.Gosched: the runtime's poller, in which the loop waits, is not
			// asked while a goroutine can run.
			unix.Poll(set, 1) // ignored: Read comes next
		}
	}
}

// From a client's bytes to everybody's sockets: parsing, publishing, the inbox, and
// the sweep.
func TestBroadcastAllocatesNothing(t *testing.T) {
	s := startLoops(t, loopsConfig{Loops: 1, PingInterval: -1})
	var fds []int
	for range 50 {
		fd, _ := loopPair(t, s, "x", 0)
		fds = append(fds, fd)
	}
	const size = 64
	p, part := loopClientFrame(size), make([]byte, 4<<10)
	round := func() {
		if n, err := poller.Write(fds[0], p); n != len(p) || err != nil {
			t.Fatalf("%d bytes sent: %v", n, err)
		}
		for _, fd := range fds {
			loopDrain(t, fd, size+2, part)
		}
	}
	for range 20 {
		round() // pools and rings grow
	}
	if got := loopAllocs(200, round); got != 0 {
		t.Errorf("%v allocations for a message to %d subscribers", got, len(fds))
	}
}

// The same on a loop that nothing else runs, with each way that a frame and its
// delivery can take.
func TestParsingAndPublishingAllocateNothing(t *testing.T) {
	l := loopBare(t, loopsConfig{PingInterval: -1})
	c := loopConn(l)
	loopJoin(t, c, "x")
	g := loopGroup(l, "x")
	served := func() {
		for _, m := range l.inbox.take() {
			if m != Message(g) {
				t.Fatalf("a %T was posted", m)
			}
		}
		g.subs[0].cursor = g.Log().Head()
		g.Clear()
		g.Served(g.Log().Head())
	}
	pong := ws.MustCompileFrame(ws.MaskFrameWith(ws.NewPongFrame([]byte("x")), [4]byte{}))
	for name, p := range map[string][]byte{
		"a small message": loopClientFrame(64), "a long message": loopClientFrame(4000),
		"several": append(append(loopClientFrame(10), loopClientFrame(500)...), pong...),
	} {
		round := func() {
			c.feed(p)
			served()
		}
		round()
		if got := loopAllocs(100, round); got != 0 || g.Log().Head() == 0 {
			t.Errorf("%s: %v allocations, %d bytes published", name, got, g.Log().Head())
		}
		if c.In != nil || c.Out != nil || c.Phase != phaseOpen {
			t.Errorf("%s: the connection holds buffers, or ends", name)
		}
		// In two parts, which the connection keeps in between.
		split := func() {
			c.feed(p[:len(p)/2])
			c.feed(p[len(p)/2:])
			served()
		}
		split()
		if got := loopAllocs(100, split); got != 0 {
			t.Errorf("%s, in two parts: %v allocations", name, got)
		}
	}
	l.leaveAll(c)
}

// BenchmarkSweep is a publication and its way to the sockets of 1,000 subscribers,
// which the benchmark drains with the clock stopped.
func BenchmarkSweep(b *testing.B) {
	for _, subscribers := range []int{1, 10, 1000} {
		b.Run(fmt.Sprint("subscribers=", subscribers), func(b *testing.B) {
			benchmarkSweep(b, subscribers, 1)
		})
	}
	// Everything that was published meanwhile goes out in one write.
	b.Run("subscribers=1000/batch=16", func(b *testing.B) { benchmarkSweep(b, 1000, 16) })
}

func benchmarkSweep(b *testing.B, subscribers, batch int) {
	l := loopBare(b, loopsConfig{PingInterval: -1})
	l.turnWrites = subscribers + 1
	var fds []int
	for range subscribers {
		pair := loopSockets(b, 0)
		loopJoin(b, loopWatched(b, l, pair[0]), "x")
		fds = append(fds, pair[1])
	}
	g := loopGroup(l, "x")
	p := &channel.Publication{Payload: []byte(clienttest.Numbered(1, 64)[0])}
	part := make([]byte, 64<<10)
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		for range batch {
			if _, err := g.Log().Channel().Publish(p, &l.encode, nil); err != nil {
				b.Fatal(err)
			}
		}
		l.inbox.take()
		g.again()
		l.sweep()
		if n++; n%50 == 0 {
			b.StopTimer()
			for _, fd := range fds {
				for m := 1; m > 0; {
					m, _ = poller.Read(fd, part) // its error shows in the deliveries
				}
			}
			b.StartTimer()
		}
	}
	if got := l.stats.Deliveries.Load(); got != uint64(n*batch*subscribers) {
		b.Errorf("%d deliveries of %d publications to %d subscribers", got, n*batch, subscribers)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(l.stats.Deliveries.Load()), "ns/delivery")
	for len(l.conns) > 0 {
		l.conns[0].kill(ReasonReset)
	}
	l.bury()
}

// loopAllocs is testing.AllocsPerRun, tried again where something else in the
// process may have allocated meanwhile.
func loopAllocs(runs int, f func()) (got float64) {
	for range 5 {
		if got = testing.AllocsPerRun(runs, f); got == 0 {
			break
		}
	}
	return got
}
