package loop

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"syscall"
	"testing"
	"time"

	"sluice/gateway/clienttest"
	"sluice/poller"

	"golang.org/x/sys/unix"
)

// A publisher whose channel is full is not read; what it has sent lies partly
// with the loop and partly in the kernel when it goes, in whatever way.
func TestClientThatSendsAndClosesLosesNothing(t *testing.T) {
	t.Parallel()
	for _, end := range []string{"FIN", "close", "close with unread bytes", "reset"} {
		t.Run(end, func(t *testing.T) {
			s := startLoops(t, loopsConfig{SendBuffer: 4 << 20, MaxMessage: 1000, ChannelBuffer: 8 << 10})
			a, b := clienttest.Fast(t, s, "/ws/x"), clienttest.Fast(t, s, "/ws/x")
			held := s.loopOf(b)
			own := &s.all[1-held].stats
			release := s.hold(held)
			texts := clienttest.Numbered(200, 300)
			for _, p := range texts[:40] {
				a.Send(clienttest.Text(p))
			}
			clienttest.WaitFor(t, "the publisher to be parked", func() bool { return own.PushBacks.Load() > 0 })
			var rest []string
			for _, p := range texts[40:] {
				rest = append(rest, clienttest.Text(p))
			}
			a.Send(rest...) // nobody reads these
			a.Arrived()
			switch end {
			case "FIN":
				a.Fin()
			case "close":
				clienttest.WaitFor(t, "its own messages to be sent", func() bool { return own.Deliveries.Load() == own.Publications() })
				for i := range own.Deliveries.Load() {
					a.WantText("its own message", texts[i])
				}
				a.Conn.Close()
			case "close with unread bytes":
				clienttest.WaitFor(t, "its own messages to be sent", func() bool { return own.Deliveries.Load() > 0 })
				a.Conn.Close()
			case "reset":
				a.Vanish()
			}
			release()
			for i, p := range texts {
				b.WantText(fmt.Sprintf("message %d was sent before", i), p)
			}
			s.wantConnections(1)
			b.Settle(s)
		})
	}
}

// A write finds out that a client is gone before what it sent is read.
func TestClientThatAWriteFindsGoneLosesNothing(t *testing.T) {
	t.Parallel()
	s := startLoops(t, loopsConfig{Loops: 1})
	a, b := clienttest.Dial(t, s, "/ws/x"), clienttest.Dial(t, s, "/ws/x")
	s.quiet()
	begun, closed, found := make(chan struct{}), make(chan struct{}), make(chan struct{})
	s.all[0].Post(call(func(l *Loop) {
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
	texts := clienttest.Numbered(50, 1000)
	var wire []string
	for _, p := range texts {
		wire = append(wire, clienttest.Text(p))
	}
	clienttest.Receive(t, "the loop", begun)
	a.Send(wire...)
	a.Arrived()
	a.Conn.Close()
	close(closed)
	clienttest.Receive(t, "the writes", found)
	for i, p := range append([]string{"is answered by a reset", "fails"}, texts...) {
		b.WantText(fmt.Sprintf("message %d", i), p)
	}
	s.wantConnections(1)
	b.Settle(s)
}

// awaitHangup waits, on the loop, until the kernel knows that the peer is gone.
func awaitHangup(t testing.TB, c *Conn) {
	t.Helper()
	fds := []unix.PollFd{{Fd: int32(c.FD())}}
	for end := time.Now().Add(clienttest.Patience); ; {
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
	s := startLoops(t, loopsConfig{PingInterval: -1})
	c := clienttest.DialSmall(t, s, "/ws/x")
	texts := clienttest.Numbered(40, 1000)
	for _, p := range texts {
		s.publish("x", p)
	}
	s.quiet()
	if s.blocked() != 0 {
		t.Fatal("the kernel does not take everything: the test shows nothing")
	}
	c.Send(clienttest.Closing(1000, ""))
	clienttest.WaitFor(t, "the server's FIN to be out", func() (out bool) {
		s.do(func(l *Loop) {
			for _, c := range l.conns {
				out = out || c.Phase == phaseDraining
			}
		})
		return out
	})
	s.pass(drainSeconds + 1)
	s.wantClosed(ReasonClientClose, 1)
	s.wantConnections(0)
	for _, p := range texts {
		c.WantText("it was published before", p)
	}
	c.WantCloseFrame("its own code", 1000)
	c.WantEOF("by a FIN")
}

// A connection that is closed for want of time may be found dead by that very
// write: another one stands in its place then.
func TestTimedOutConnectionThatDiesTouchesNoOther(t *testing.T) {
	t.Parallel()
	s := startLoops(t, loopsConfig{Loops: 1})
	a := clienttest.Dial(t, s, "/ws/x")
	clienttest.Dial(t, s, "/ws/x").Settle(s)
	s.do(func(l *Loop) {
		c, other := l.conns[0], l.conns[1]
		a.Vanish()
		awaitHangup(t, c)
		due := l.due[other.slot]
		c.Phase, c.reason, c.since = phaseClosing, ReasonShutdown, l.now // as after a stop whose time is over
		c.closeTimedOut()
		if c.Phase != phaseDead || len(l.conns) != 1 {
			t.Errorf("it is in phase %d, with %d connections left; want it dead", c.Phase, len(l.conns))
		}
		if got := l.due[other.slot]; got != due {
			t.Errorf("the other is due at %d, want %d", got, due)
		}
	})
	s.wantConnections(1)
}

// When the connection is gone, its address is too.
func TestLoudEndIsLoggedWithTheClientsAddress(t *testing.T) {
	t.Parallel()
	log := &clienttest.Records{}
	s := startLoops(t, loopsConfig{PingInterval: -1, MessageRate: 1, Logger: slog.New(slog.NewTextHandler(log, nil))})
	c := clienttest.Dial(t, s, "/ws/x?echo=off")
	for range 2 { // a second may end in between
		c.Send(clienttest.Text("1"), clienttest.Text("2"), clienttest.Text("3"), clienttest.Text("4"), clienttest.Text("5"))
	}
	c.WantCloseFrame("more than twice the rate", 1008)
	client := c.Conn.LocalAddr().String()
	c.Vanish()
	s.wantClosed(ReasonMessageRate, 1)
	if !log.Has("client="+client) || log.Has("client=unix") {
		t.Errorf("the log does not name %s:\n%s", client, log.Text())
	}
}

// The record of a connection's end has the client's address, which the socket of one that both sides
// have closed does not know any more.
func TestEndIsLoggedWithTheAddress(t *testing.T) {
	t.Parallel()
	records := new(clienttest.Records)
	s := startLoops(t, loopsConfig{Logger: slog.New(slog.NewTextHandler(records, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	c := clienttest.Dial(t, s, "/ws/x")
	c.Send(clienttest.Closing(1000, ""))
	c.WantClose("its own Close is answered", 1000)
	c.Conn.Close() // ignored: the server has closed its side
	clienttest.WaitFor(t, "the record", func() bool { return records.Has("connection closed") })
	if want := fmt.Sprintf(` client=%v reason=client_close code=1000`, c.Conn.LocalAddr()); !records.Has(want) {
		t.Errorf("the log has no %q: %s", want, records.Text())
	}
}

// A socket that is full when a connection over TLS ends is waited for, but not for long: what it has
// taken before the FIN is whole records.
func TestEndOfTLSWaitsForTheSocket(t *testing.T) {
	t.Parallel()
	s := startLoopsTLS(t, loopsConfig{Loops: 1, PingInterval: -1})
	fill := func() (c *clienttest.Client, filled int) {
		c, _ = clienttest.DialTLS(t, s, "/ws/x", nil)
		s.do(func(l *Loop) {
			conn := l.conns[len(l.conns)-1]
			for junk := make([]byte, 64<<10); ; {
				n, err := poller.Write(conn.FD(), junk)
				if err != nil {
					t.Error(err)
				}
				if filled += n; n == 0 {
					break
				}
			}
			conn.Close(ReasonClientGone) // no Close frame comes between
			conn.Settle()
		})
		return c, filled
	}
	c, filled := fill()
	c.Patience()
	rest, err := io.ReadAll(c.Conn.(*clienttest.TlsLink).Tcp)
	if err != nil || len(rest) < filled+recordHead {
		t.Fatalf("%d bytes behind %d, %v; want an alert", len(rest)-filled, filled, err)
	}
	if alert := rest[filled:]; len(alert) != recordHead+int(alert[3])<<8+int(alert[4]) {
		t.Errorf("got half an alert: %x", alert)
	}
	fill() // this one takes nothing
	clienttest.WaitFor(t, "both to end", func() bool {
		s.pass(drainSeconds)
		return s.connections() == 0
	})
}
