package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// arrived waits until everything that the client sent lies in the server's kernel:
// nothing is left that the client's own kernel could throw away.
func (c *client) arrived() {
	c.t.Helper()
	raw, err := c.conn.SyscallConn()
	if err != nil {
		c.t.Fatal(err)
	}
	waitFor(c.t, "the client's bytes to arrive", func() bool {
		left, optErr := 0, error(nil)
		err := raw.Control(func(fd uintptr) { left, optErr = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) })
		if err := errors.Join(err, optErr); err != nil {
			c.t.Fatal(err)
		}
		return left == 0
	})
}

// A publisher whose channel is full is not read; what it has sent lies partly
// with the loop and partly in the kernel when it goes, in whatever way.
func TestClientThatSendsAndClosesLosesNothing(t *testing.T) {
	t.Parallel()
	for _, end := range []string{"FIN", "close", "close with unread bytes", "reset"} {
		t.Run(end, func(t *testing.T) {
			s := start(t, Config{SendBuffer: 4 << 20, MaxMessage: 1000, ChannelBuffer: 8 << 10})
			a, b := fast(t, s, "/ws/x"), fast(t, s, "/ws/x")
			held := b.loopOf(s)
			own := &s.loop[1-held].stats
			release := s.hold(held)
			texts := numbered(200, 300)
			for _, p := range texts[:40] {
				a.send(text(p))
			}
			waitFor(t, "the publisher to be parked", func() bool { return own.pushBacks.Load() > 0 })
			var rest []string
			for _, p := range texts[40:] {
				rest = append(rest, text(p))
			}
			a.send(rest...) // nobody reads these
			a.arrived()
			switch end {
			case "FIN":
				a.fin()
			case "close":
				waitFor(t, "its own messages to be sent", func() bool { return own.deliveries.Load() == own.publications.Load() })
				for i := range own.deliveries.Load() {
					a.wantText("its own message", texts[i])
				}
				a.conn.Close()
			case "close with unread bytes":
				waitFor(t, "its own messages to be sent", func() bool { return own.deliveries.Load() > 0 })
				a.conn.Close()
			case "reset":
				a.vanish()
			}
			release()
			for i, p := range texts {
				b.wantText(fmt.Sprintf("message %d was sent before", i), p)
			}
			s.wantConnections(1)
			b.settle(s)
		})
	}
}

// A write finds out that a client is gone before what it sent is read.
func TestClientThatAWriteFindsGoneLosesNothing(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Loops: 1})
	a, b := dial(t, s, "/ws/x"), dial(t, s, "/ws/x")
	s.quiet()
	begun, closed, found := make(chan struct{}), make(chan struct{}), make(chan struct{})
	s.loop[0].post(call(func(l *loop) {
		defer close(found)
		close(begun)
		<-closed
		gone := l.conns[0]
		for _, p := range []string{"is answered by a reset", "fails"} {
			if err := loopPublish(l, "x", p, 0); err != nil {
				t.Error(err)
			}
			loopGroup(l, "x").sweep(turnWrites)
			awaitHangup(t, gone)
		}
	}))
	texts := numbered(50, 1000)
	var wire []string
	for _, p := range texts {
		wire = append(wire, text(p))
	}
	receive(t, "the loop", begun)
	a.send(wire...)
	a.arrived()
	a.conn.Close()
	close(closed)
	receive(t, "the writes", found)
	for i, p := range append([]string{"is answered by a reset", "fails"}, texts...) {
		b.wantText(fmt.Sprintf("message %d", i), p)
	}
	s.wantConnections(1)
	b.settle(s)
}

// awaitHangup waits, on the loop, until the kernel knows that the peer is gone.
func awaitHangup(t testing.TB, c *conn) {
	t.Helper()
	fds := []unix.PollFd{{Fd: int32(c.FD())}}
	for end := time.Now().Add(patience); ; {
		n, err := unix.Poll(fds, 100)
		switch {
		case n > 0:
			return
		case err != nil && !errors.Is(err, syscall.EINTR), time.Now().After(end):
			t.Errorf("the peer's end is not seen: %v", err)
			return
		}
	}
}

// The bytes before the answer to a Close may lie in the kernel for longer than
// the rest of what the client sends is waited for.
func TestSlowReaderGetsTheAnswerToItsClose(t *testing.T) {
	t.Parallel()
	s := start(t, Config{PingInterval: -1})
	c := dialSmall(t, s, "/ws/x")
	texts := numbered(40, 1000)
	for _, p := range texts {
		s.publish("x", p)
	}
	s.quiet()
	if s.blocked() != 0 {
		t.Fatal("the kernel does not take everything: the test shows nothing")
	}
	c.send(closing(1000, ""))
	waitFor(t, "the server's FIN to be out", func() (out bool) {
		s.do(func(l *loop) {
			for _, c := range l.conns {
				out = out || c.phase == phaseDraining
			}
		})
		return out
	})
	s.pass(drainSeconds + 1)
	s.wantClosed(reasonClientClose, 1)
	s.wantConnections(0)
	for _, p := range texts {
		c.wantText("it was published before", p)
	}
	c.wantCloseFrame("its own code", 1000)
	c.wantEOF("by a FIN")
}

// tight has a budget for the logs of few channels, and no time-out that would help.
var tight = Config{Loops: 1, MaxMessage: 4 << 10, ChannelBuffer: 16 << 10, MaxBuffered: 128 << 10, WriteTimeout: -1, PingInterval: -1}

// exhaust publishes messages of so many bytes into one channel after the other, in
// each until enough says so, until the budget is used up.
func (s *server) exhaust(size int, join func(name string), enough func(name string) bool) {
	s.t.Helper()
	for i := range 100 {
		name := fmt.Sprint("other", i)
		join(name)
		for !enough(name) {
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
			_, err := s.Publish(ctx, Message{Channel: name, Payload: []byte(stars(size))})
			cancel()
			if errors.Is(err, ErrPushedBack) {
				return
			}
			if err != nil {
				s.t.Fatal(err)
			}
			s.quiet()
		}
	}
	s.t.Fatal("the budget is never used up")
}

// wantSoon sees that a message gets to a reader within some seconds.
func (c *client) wantSoon(s *server, name string) {
	c.t.Helper()
	begun := time.Now()
	s.publish(name, stars(4<<10))
	c.wantText("it reads all the time", stars(4<<10))
	if took := time.Since(begun); took > 6*time.Second {
		c.t.Errorf("it took %v", took)
	}
}

// What laggards of some channels keep must not stop the others.
func TestLaggardsOfOneChannelDoNotStopAnother(t *testing.T) {
	t.Parallel()
	s := start(t, tight)
	good := dial(t, s, "/ws/good")
	s.exhaust(1000, func(name string) { loopPair(t, s, name, 4<<10) }, func(name string) (behind bool) {
		s.do(func(l *loop) { // by less than half a log, so that nobody is in its own channel's way
			g := loopGroup(l, name)
			behind = g.Log().Head()-g.subs[0].pos > 5000
		})
		return behind
	})
	good.wantSoon(s, "good")
	if s.closing(reasonSlow)+int(s.closedFor(reasonSlow)) == 0 {
		t.Error("no laggard is closed")
	}
}

// Nor may logs that everybody has read, and that keep their memory for more.
func TestServedLogsDoNotStopAnotherChannel(t *testing.T) {
	t.Parallel()
	s := start(t, tight)
	good := dial(t, s, "/ws/good")
	others := make(map[string]*client)
	s.exhaust(4<<10, func(name string) { others[name] = dial(t, s, "/ws/"+name) }, func(name string) (served bool) {
		if s.deliveries() < uint64(len(others)) {
			return false
		}
		others[name].wantText("it reads all the time", stars(4<<10))
		return true
	})
	good.wantSoon(s, "good")
	s.wantConnections(int64(1 + len(others)))
}

func TestEchoToASlowReaderKeepsItsOutboxSmall(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Loops: 1, SendBuffer: 4 << 10, WriteTimeout: -1, PingInterval: -1})
	c := dialSmall(t, s, "/echo")
	const messages, size = 30, 60_000
	sent := make(chan error, 1)
	go func() {
		c.conn.SetWriteDeadline(time.Now().Add(patience)) // ignored: then the write fails
		_, err := io.WriteString(c.conn, strings.Repeat(text(stars(size)), messages))
		sent <- err
	}()
	largest := 0
	part := make([]byte, 16<<10)
	for left := messages * (4 + size); left > 0; {
		c.conn.SetReadDeadline(time.Now().Add(patience)) // ignored: then the read fails
		n, err := io.ReadFull(c.in, part[:min(left, len(part))])
		if err != nil {
			t.Fatal(err)
		}
		left -= n
		s.do(func(l *loop) {
			for _, c := range l.conns {
				if c.out != nil {
					largest = max(largest, c.out.size())
				}
			}
		})
	}
	if err := receive(t, "the writer", sent); err != nil {
		t.Error(err)
	}
	if most := DefaultMaxPending + pendingSlack; largest > most {
		t.Errorf("the outbox grew to %d bytes, want at most %d", largest, most)
	}
}

// A connection that is closed for want of time may be found dead by that very
// write: another one stands in its place then.
func TestTimedOutConnectionThatDiesTouchesNoOther(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Loops: 1})
	a := dial(t, s, "/ws/x")
	dial(t, s, "/ws/x").settle(s)
	s.do(func(l *loop) {
		c, other := l.conns[0], l.conns[1]
		a.vanish()
		awaitHangup(t, c)
		due := l.due[other.slot]
		c.phase, c.reason, c.since = phaseClosing, reasonShutdown, l.now // as after a stop whose time is over
		c.closeTimedOut()
		if c.phase != phaseDead || len(l.conns) != 1 {
			t.Errorf("it is in phase %d, with %d connections left; want it dead", c.phase, len(l.conns))
		}
		if got := l.due[other.slot]; got != due {
			t.Errorf("the other is due at %d, want %d", got, due)
		}
	})
	s.wantConnections(1)
}

// flood publishes so many messages from each of so many connections of their
// own, which read all the time, and gives a function that waits for them.
func (s *server) flood(target string, publishers, each int, message string) (wait func()) {
	s.t.Helper()
	sent := make(chan error, publishers)
	for range publishers {
		w := dial(s.t, s, target)
		go io.Copy(io.Discard, w.conn) // ends with the connection
		go func() {
			w.conn.SetWriteDeadline(time.Now().Add(patience)) // ignored: then the write fails
			_, err := io.WriteString(w.conn, strings.Repeat(text(message), each))
			sent <- err
		}()
	}
	return func() {
		s.t.Helper()
		for range publishers {
			if err := receive(s.t, "the publishers to be through", sent); err != nil {
				s.t.Errorf("a publisher: %v", err)
			}
		}
	}
}

// Not parallel: who reads must get the time to do so.
func TestFloodCutsNobodyWhoReads(t *testing.T) {
	s := start(t, Config{})
	reader := dial(t, s, "/ws/x?mode=subscribe")
	const publishers, each, message = 24, 3000, "0123456789012345"
	wait := s.flood("/ws/x", publishers, each, message)
	reader.patience()
	if n, err := io.CopyN(io.Discard, reader.in, publishers*each*(2+int64(len(message)))); err != nil {
		t.Errorf("the reader: %v after %d bytes", err, n)
	}
	wait()
	s.wantConnections(publishers + 1)
	if s.pushBacks() == 0 {
		t.Error("nobody was pushed back: the test shows nothing")
	}
}

// Not parallel: see above.
func TestFloodGoesOnWithoutWhoNeverReads(t *testing.T) {
	s := start(t, Config{SendBuffer: 4 << 10, MaxMessage: 1000, ChannelBuffer: 64 << 10})
	slow, reader := dialSmall(t, s, "/ws/x?mode=subscribe"), dial(t, s, "/ws/x?mode=subscribe")
	const publishers, each = 4, 200
	begun := time.Now()
	wait := s.flood("/ws/x?echo=off", publishers, each, stars(1000))
	for range publishers * each {
		reader.wantText("who reads loses nothing", stars(1000))
	}
	wait()
	if took := time.Since(begun); took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
	if _, code, err := slow.texts(); code != 1013 && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("close code %d, %v; want 1013 or a reset", code, err)
	}
}
