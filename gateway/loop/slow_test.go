package loop

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"sluice/gateway/clienttest"
)

// wantPrefix sees that what a slow client got before its Close is what was
// published, in order, and not all of it.
func wantPrefix(t *testing.T, got, sent []string) {
	t.Helper()
	if len(got) >= len(sent) {
		t.Errorf("it got all of %d messages", len(sent))
	}
	for i, p := range got {
		if p != sent[i] {
			t.Fatalf("message %d is %s, want %s", i, clienttest.Brief(p), clienttest.Brief(sent[i]))
		}
	}
}

func TestReaderThatNeverReadsIsCutWhenTheLogIsFull(t *testing.T) {
	t.Parallel()
	s := startLoops(t, loopsConfig{SendBuffer: 4 << 10, CloseTimeout: time.Minute})
	slow, other := clienttest.DialSmall(t, s, "/ws/x"), clienttest.DialSmall(t, s, "/ws/x")
	good := []*clienttest.Client{clienttest.Dial(t, s, "/ws/x"), clienttest.Dial(t, s, "/ws/x?echo=off"), clienttest.Dial(t, s, "/ws/x")}
	texts := clienttest.Numbered(60, 16<<10)
	for _, p := range texts {
		s.publish("x", p)
		for _, c := range good {
			c.WantText("who reads loses nothing", p)
		}
	}
	s.wantClosing(ReasonSlow, 2)
	for _, c := range []*clienttest.Client{slow, other} {
		got, code, err := c.Texts()
		if code != 1013 {
			t.Errorf("after %d messages: close code %d, %v; want 1013", len(got), code, err)
		}
		wantPrefix(t, got, texts)
		c.EndClose("it is told why")
	}
	s.wantConnections(3)
}

func TestReaderThatTakesNothingIsCutByTheWriteTimeout(t *testing.T) {
	t.Parallel()
	s := startLoops(t, loopsConfig{SendBuffer: 4 << 10, PingInterval: -1, CloseTimeout: time.Hour})
	slow, echo, good := clienttest.DialSmall(t, s, "/ws/x"), clienttest.DialSmall(t, s, "/echo"), clienttest.Dial(t, s, "/ws/x")
	texts := clienttest.Numbered(100, 1000)
	for _, p := range texts {
		s.publish("x", p)
		good.WantText("who reads gets it", p)
	}
	for range 8 {
		echo.Send(clienttest.Text(clienttest.Stars(8 << 10)))
	}
	clienttest.WaitFor(t, "both to be blocked", func() bool { return s.blocked() == 2 })
	s.pass(4)
	if n := s.closingFor(ReasonWriteTimeout); n != 0 {
		t.Fatalf("%d are cut after 4 s", n)
	}
	for range 100 { // the kernel may still move some bytes
		if s.pass(1); s.closingFor(ReasonWriteTimeout) == 2 {
			break
		}
	}
	s.wantClosing(ReasonWriteTimeout, 2)
	got, code, err := slow.Texts()
	if code != 1013 {
		t.Errorf("after %d messages: close code %d, %v; want 1013", len(got), code, err)
	}
	wantPrefix(t, got, texts)
	slow.EndClose("it is told why")
	if got, code, err := echo.Texts(); code != 1013 {
		t.Errorf("after %d echoes: close code %d, %v; want 1013", len(got), code, err)
	}
	echo.EndClose("it is told why")
	s.publish("x", "later")
	good.WantText("others go on", "later")
}

func TestReaderThatTakesALittleIsNotCut(t *testing.T) {
	t.Parallel()
	s := startLoops(t, loopsConfig{SendBuffer: 4 << 10, PingInterval: -1})
	slow := clienttest.DialSmall(t, s, "/ws/x")
	texts := clienttest.Numbered(100, 1000)
	for _, p := range texts {
		s.publish("x", p)
	}
	for i, p := range texts {
		if i%20 == 0 { // half of what the time-out allows, over and over
			s.pass(5)
		}
		slow.WantText("it takes its time", p)
		s.quiet()
	}
	s.wantConnections(1)
}

// Whatever the socket's buffers cut, and wherever: once the client reads, it gets
// everything, though nobody publishes again.
func TestSocketThatDrainsLaterGetsEverything(t *testing.T) {
	t.Parallel()
	atEnd, inside := 0, 0
	for _, size := range []int{1, 1, 1, 9, 123, 1000, 4092, 16 << 10, 64 << 10} {
		for _, query := range []string{"", "?echo=off"} {
			s := startLoops(t, loopsConfig{SendBuffer: 4 << 10, ChannelBuffer: 1 << 20})
			c := clienttest.ConnectWith(t, s, 4<<10)
			c.Upgrade("/ws/x" + query)
			p, sent := clienttest.Stars(size), 0
			for ; s.blocked() == 0 || sent < 10; s.quiet() {
				for range max(1, 256/size) {
					s.publish("x", p)
					sent++
				}
				if sent > 50_000 {
					t.Fatal("the socket never fills")
				}
			}
			s.do(func(l *Loop) {
				for _, c := range l.conns {
					if c.cut() == nil && c.Pending() == 0 {
						atEnd++
					} else {
						inside++
					}
				}
			})
			for i := range sent {
				c.WantText(fmt.Sprintf("message %d of %d, each of %d bytes", i, sent, size), p)
			}
			c.Settle(s)
			if s.blocked() != 0 {
				t.Errorf("messages of %d bytes: the client is still blocked", size)
			}
			if n := s.deliveries(); n != uint64(sent) {
				t.Errorf("messages of %d bytes: %d deliveries are counted, want %d", size, n, sent)
			}
		}
	}
	// Over TLS a socket that is full has all but never taken a record's last byte.
	if atEnd == 0 && !*clienttest.OverTLS || inside == 0 {
		t.Errorf("the socket filled %d times at a frame's end, %d times inside: want both", atEnd, inside)
	}
	t.Logf("filled %d times at a frame's end, %d times inside", atEnd, inside)
}

// The rest of a cut frame can be more than one write takes, with more of the log
// behind it.
func TestLargeMessagesToASlowReaderAllArrive(t *testing.T) {
	t.Parallel()
	for _, sendBuffer := range []int{4 << 10, 64 << 10, 1 << 20} {
		for _, size := range []int{64 << 10, 300 << 10, 1 << 20} {
			s := startLoops(t, loopsConfig{SendBuffer: sendBuffer, MaxMessage: 1 << 20, ChannelBuffer: 8 << 20, MaxPending: 4 << 20, PingInterval: -1})
			c := clienttest.ConnectWith(t, s, 64<<10)
			c.Upgrade("/ws/x")
			texts := clienttest.Numbered(5<<20/size, size)
			for _, p := range texts {
				s.publish("x", p)
			}
			clienttest.WaitFor(t, "the reader to be blocked", func() bool { return s.blocked() == 1 })
			// No second passes: a subscriber that was forgotten is not found by chance, when its
			// log is trimmed.
			for i, p := range texts {
				c.WantText(fmt.Sprintf("message %d of %d bytes, send buffer %d", i, size, sendBuffer), p)
			}
		}
	}
}

// A long backlog of short messages goes out in several writes, though the socket
// takes each of them as a whole.
func TestLongBacklogOfShortMessagesArrives(t *testing.T) {
	t.Parallel()
	s := startLoops(t, loopsConfig{Loops: 1, SendBuffer: 256 << 10, ChannelBuffer: 16 << 20, PingInterval: -1})
	c := clienttest.ConnectWith(t, s, 4<<10)
	c.Upgrade("/ws/x")
	const frame = "\x81\x0212" // a divisor of what a socket is filled in: it is full at a frame's end
	sent := 0
	publish := func(n int) {
		for range n {
			s.publish("x", frame[2:])
		}
		sent += n
		s.quiet()
	}
	for s.blocked() == 0 {
		publish(5000)
	}
	publish(4 * corkBytes / len(frame))
	got := make([]byte, sent*len(frame))
	c.Patience()
	if n, err := io.ReadFull(c.In, got); err != nil || string(got) != strings.Repeat(frame, sent) {
		t.Fatalf("got %d of %d bytes, or others; %v", n, len(got), err)
	}
	c.Settle(s)
}

// A hole that a leaver left in a sweep lies behind the last subscriber, who is
// then cut for holding the log back.
func TestLastSubscriberMayBeCutAfterOthersLeftTheSweep(t *testing.T) {
	t.Parallel()
	s := startLoops(t, loopsConfig{Loops: 1, SendBuffer: 4 << 10, MaxMessage: 16 << 10, ChannelBuffer: 64 << 10})
	slow, leaver := clienttest.DialSmall(t, s, "/ws/x"), clienttest.Dial(t, s, "/ws/x")
	var texts []string
	for _, p := range clienttest.Numbered(3, 15<<10) {
		s.publish("x", p)
		leaver.WantText("it reads", p)
		texts = append(texts, p)
	}
	clienttest.WaitFor(t, "the slow one to be blocked", func() bool { return s.blocked() == 1 })
	full := make(chan error, 1)
	s.do(func(l *Loop) {
		g := loopGroup(l, "x")
		g.begin()
		g.next = len(g.subs)
		g.low = g.subs[0].cursor
		g.subs[1].c.kill(ReasonReset) // as a failed write does
		g.pressed = g.Log().Head()    // as a publisher does for whom there is no room
		g.pressedAt = l.time
		loopAfter(l, time.Hour)
		func() {
			defer func() {
				if r := recover(); r != nil {
					full <- fmt.Errorf("panic in the loop: %v", r)
				}
			}()
			g.end()
			full <- nil
		}()
	})
	if err := clienttest.Receive(t, "the sweep to end", full); err != nil {
		t.Fatal(err)
	}
	s.wantClosing(ReasonSlow, 1)
	got, code, _ := slow.Texts()
	if code != 1013 {
		t.Errorf("close code %d, want 1013", code)
	}
	wantPrefix(t, got, texts)
	slow.EndClose("it is told")
}

// Others leave while a sweep is under way; who stays gets each message once.
func TestSweepThatIsPausedGoesOnRightly(t *testing.T) {
	t.Parallel()
	s := startLoops(t, loopsConfig{Loops: 1, PingInterval: -1})
	s.do(func(l *Loop) { l.turnWrites = 16 })
	var all []*clienttest.Client
	for range 150 {
		all = append(all, clienttest.Dial(t, s, "/ws/x"))
	}
	texts := clienttest.Numbered(12, 100)
	for i, p := range texts {
		s.publish("x", p)
		s.do(func(l *Loop) { // between two turns of the sweep
			g := loopGroup(l, "x")
			for range 3 {
				if i%2 == 0 { // the last, whom a filled hole would carry past the sweep
					g.leaveOne(len(g.subs) - 1)
				}
				g.leaveOne(g.next / 2)
				g.leaveOne(g.next)
			}
		})
	}
	texts = append(texts, "the end")
	s.publish("x", "the end")
	gone := 0
	for _, c := range all {
		for _, want := range texts {
			_, p, err := c.Next()
			if err != nil {
				gone++
				break
			}
			if p != want {
				t.Fatalf("got %s, want %s", clienttest.Brief(p), clienttest.Brief(want))
			}
		}
	}
	if s.closedFor(ReasonReset) != uint64(gone) || gone < 50 {
		t.Errorf("%d clients lost something, %d were cut", gone, s.closedFor(ReasonReset))
	}
}

// leaveOne resets the first connection from a place on.
func (g *Group) leaveOne(i int) {
	for ; i < len(g.subs); i++ {
		if c := g.subs[i].c; c != nil {
			c.kill(ReasonReset)
			return
		}
	}
}
