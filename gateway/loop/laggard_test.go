package loop

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"sluice/gateway/channel"
	"sluice/gateway/clienttest"
	"sluice/gateway/frame"
	"sluice/gateway/wire"
	"sluice/poller"

	"github.com/gobwas/ws"
)

// loopFill publishes to a channel and sweeps, on the loop, until its log is full,
// and gives what was published.
func loopFill(t testing.TB, l *Loop, name string, size int) (texts []string) {
	t.Helper()
	all := clienttest.Numbered(10_000, size)
	for _, text := range all {
		switch err := loopPublish(l, name, text, 0); {
		case errors.Is(err, channel.ErrFull):
			return texts
		case err != nil:
			t.Error(err)
			return texts
		}
		texts = append(texts, text)
		loopDeliver(l)
		l.sweep()
	}
	t.Error("the log does not become full")
	return texts
}

// loopNext reads a frame of the server's from a socket.
func loopNext(r io.Reader) (op ws.OpCode, payload string, err error) {
	//lint:ignore SA1019 the length is our own server's
	f, err := ws.ReadFrame(r)
	return f.Header.OpCode, string(f.Payload), err
}

// loopWantTexts reads texts from a socket, and nothing else.
func loopWantTexts(t testing.TB, r io.Reader, texts []string) {
	t.Helper()
	for i, want := range texts {
		op, p, err := loopNext(r)
		if op != ws.OpText || p != want || err != nil {
			t.Fatalf("text %d of %d: got %v %q, %v, want %q", i, len(texts), op, clienttest.Brief(p), err, clienttest.Brief(want))
		}
	}
}

// tiny is a configuration whose logs are soon full.
var tiny = loopsConfig{Loops: 1, MaxMessage: 2 << 10, ChannelBuffer: 8 << 10, PingInterval: -1, WriteTimeout: -1}

// A full log presses its group. At the end of the grace those whose sockets still
// refuse are told 1013 behind what they got; those that read lose nothing, and neither does one whose socket
// takes bytes again although nobody knows it yet.
func TestPressedGroupCutsOnlyThoseWhoseSocketsRefuse(t *testing.T) {
	s := startLoops(t, tiny)
	var conns []*Conn
	var fds []int
	for range 4 {
		fd, c := loopPair(t, s, "x", 4<<10)
		fds, conns = append(fds, fd), append(conns, c)
	}
	const revived = 2
	fd, fast := loopPair(t, s, "x", 0) // the last in the group, and never behind
	var texts []string
	var drained bytes.Buffer
	s.do(func(l *Loop) {
		texts = loopFill(t, l, "x", 700)
		for i, c := range conns {
			if !c.has(bitBlocked) || !c.behind() {
				t.Errorf("connection %d is not blocked behind a full log", i)
			}
		}
		g := loopGroup(l, "x")
		g.sweep(turnWrites)
		if len(g.subs) != len(fds)+1 || fast.behind() || g.pressedAt.IsZero() {
			t.Errorf("%d subscribers are left before the grace is over", len(g.subs))
		}
		// One drains its socket; the loop has no time to see it.
		part := make([]byte, 4<<10)
		for {
			n, err := poller.Read(fds[revived], part)
			if drained.Write(part[:n]); n == 0 {
				if err != nil {
					t.Error(err)
				}
				break
			}
		}
		loopAfter(l, pressTakes*pressGrace)
		g.sweep(turnWrites)
		loopCheckGroup(t, g)
		if len(g.subs) != 2 || conns[revived].Phase != phaseOpen || fast.Phase != phaseOpen {
			t.Errorf("%d subscribers are left, want the two whose sockets take bytes", len(g.subs))
		}
		if err := loopPublish(l, "x", "room", 0); err != nil {
			t.Errorf("after the relief: %v", err)
		}
	})
	loopWantTexts(t, loopNetConn(t, fd), append(texts, "room"))
	for i, fd := range fds {
		end := loopNetConn(t, fd)
		if i == revived {
			loopWantTexts(t, io.MultiReader(&drained, end), append(texts, "room"))
			continue
		}
		for n := 0; ; n++ {
			op, p, err := loopNext(end)
			if err != nil {
				t.Fatalf("connection %d: %v after %d texts, want a Close", i, err, n)
			}
			if op == ws.OpClose {
				if code := frame.CloseEcho([]byte(p)); code != statusTryAgainLater || n == len(texts) {
					t.Errorf("connection %d: code %d after %d of %d texts", i, code, n, len(texts))
				}
				break
			}
			if op != ws.OpText || p != texts[n] {
				t.Fatalf("connection %d: got %v %q, want text %d", i, op, clienttest.Brief(p), n)
			}
		}
		if err := end.CloseWrite(); err != nil {
			t.Error(err)
		}
	}
	s.wantClosed(ReasonSlow, 3)
}

// A laggard whose socket takes all of a write is not through with it, when the
// log is longer than a write. It goes on and is not cut.
func TestLaggardThatTakesBytesIsNotCut(t *testing.T) {
	s := startLoops(t, loopsConfig{Loops: 1, PingInterval: -1, ChannelBuffer: 1 << 20})
	fd, c := loopPair(t, s, "x", 4<<20)
	var texts []string
	s.do(func(l *Loop) {
		for _, text := range clienttest.Numbered(10_000, 1000) {
			if loopPublish(l, "x", text, 0) != nil {
				break
			}
			texts = append(texts, text)
		}
		c.block() // it drained before the loop was told
		g := loopGroup(l, "x")
		g.begin()
		g.pressedAt = l.time
		loopAfter(l, pressTakes*pressGrace)
		g.sweep(turnWrites)
		if len(g.subs) != 1 || c.has(bitBlocked) || g.subs[0].cursor >= g.pressed || g.subs[0].cursor == 0 {
			t.Errorf("%d subscribers are left, blocked: %v", len(g.subs), c.has(bitBlocked))
		}
		if !g.dirty {
			t.Error("the group does not go on")
		}
		loopDeliver(l)
	})
	loopWantTexts(t, loopNetConn(t, fd), texts)
	loopWantIdle(t, s, c)
}

// Nobody writes to a blocked socket before it is writable, however much is
// published.
func TestSweepsPassBlockedConnectionsOver(t *testing.T) {
	s := startLoops(t, loopsConfig{Loops: 1, PingInterval: -1})
	_, c := loopPair(t, s, "x", 4<<10)
	loopPair(t, s, "x", 0)
	s.do(func(l *Loop) {
		for !c.has(bitBlocked) {
			if err := loopPublish(l, "x", "x", 0); err != nil {
				t.Error(err)
				return
			}
			loopDeliver(l)
			l.sweep()
		}
		before := l.stats.Writes.Load()
		for range 10 {
			if err := loopPublish(l, "x", "x", 0); err != nil {
				t.Error(err)
			}
			loopDeliver(l)
			l.sweep()
		}
		if n := l.stats.Writes.Load() - before; n != 10 {
			t.Errorf("%d writes for 10 publications to one socket that takes them and one that does not", n)
		}
	})
}

// Subscribers that are behind because the loop was late, not their sockets, are
// served when the log is full, however full it is.
func TestNobodyIsCutBecauseTheLoopWasLate(t *testing.T) {
	s := startLoops(t, tiny)
	var clients []*clienttest.Client
	for i := range 3 {
		path := "/ws/x"
		if i == 1 {
			path += "?echo=off" // written by the cork
		}
		clients = append(clients, clienttest.Dial(t, s, path))
	}
	var texts []string
	s.do(func(l *Loop) {
		for _, text := range clienttest.Numbered(1000, 100) {
			if loopPublish(l, "x", text, 0) != nil {
				break
			}
			texts = append(texts, text)
		}
	})
	s.publish("x", "room") // waits for it
	for _, cl := range clients {
		for _, text := range append(texts, "room") {
			cl.WantText("nobody is cut", text)
		}
	}
	s.wantConnections(3)
}

// All laggards of a group are cut while holes are left by others: the group ends
// in the middle of its relief.
func TestGroupThatEndsInItsRelief(t *testing.T) {
	without := tiny
	without.History = -1
	for _, gone := range [][]int{{3}, {0}, {0, 3}, {1, 2}} {
		s := startLoops(t, without)
		var conns []*Conn
		for range 4 {
			_, c := loopPair(t, s, "x", 4<<10)
			conns = append(conns, c)
		}
		s.do(func(l *Loop) {
			loopFill(t, l, "x", 700)
			g := loopGroup(l, "x")
			g.begin()
			g.pressedAt = l.time
			loopAfter(l, pressTakes*pressGrace)
			for _, i := range gone {
				conns[i].kill(ReasonReset)
			}
			g.sweep(turnWrites)
			loopCheckGroup(t, g)
			if loopGroup(l, "x") != nil || l.space.Find("x") != nil || len(g.subs) != 0 {
				t.Errorf("%d subscribers of a group that was cut as a whole", len(g.subs))
			}
		})
		_, c := loopPair(t, s, "x", 0)
		s.publish("x", "again")
		s.quiet()
		s.do(func(*Loop) {
			if c.behind() {
				t.Error("the next group of that name is not served")
			}
		})
	}
}

// A socket takes exactly a number of whole frames and then no more: nothing is
// pending, and yet the rest must follow when it drains, although nobody
// publishes again.
func TestSocketThatFillsAtAFramesEnd(t *testing.T) {
	probe := loopSockets(t, 4<<10)
	takes, err := poller.Write(probe[0], make([]byte, corkBytes))
	if err != nil || takes == corkBytes {
		t.Fatalf("%d bytes taken: %v", takes, err)
	}
	poller.Close(probe[0]) // ignored: it has served
	size := takes
	for size > 4<<10 && size%2 == 0 {
		size /= 2
	}
	if size <= 130 || size > 60<<10 {
		t.Skipf("this kernel's sockets take %d bytes", takes)
	}
	texts := clienttest.Numbered(3*takes/size, size-frame.HeaderLen(size))
	s := startLoops(t, loopsConfig{Loops: 1, PingInterval: -1, WriteTimeout: -1})
	fd, c := loopPair(t, s, "x", 4<<10)
	s.do(func(l *Loop) {
		for _, text := range texts {
			if err := loopPublish(l, "x", text, 0); err != nil {
				t.Error(err)
			}
		}
		loopDeliver(l)
		l.sweep()
		g := loopGroup(l, "x")
		if !c.has(bitBlocked) || c.Out != nil || g.subs[0].cursor != uint64(takes) {
			t.Errorf("the socket took %d of %d bytes, %d are pending, blocked: %v", g.subs[0].cursor, takes, c.Pending(), c.has(bitBlocked))
		}
	})
	loopWantTexts(t, loopNetConn(t, fd), texts)
	loopWantIdle(t, s, c)
}

// loopWantIdle checks that a connection has got everything and that nothing of it
// is left anywhere.
func loopWantIdle(t testing.TB, s *loops, c *Conn) {
	t.Helper()
	clienttest.WaitFor(t, "the connection to be unblocked", func() bool { return s.blocked() == 0 })
	s.quiet()
	s.do(func(l *Loop) {
		if c.behind() || c.Out != nil || c.has(bitBlocked) || l.held != 0 || c.Interest() != poller.Readable {
			t.Errorf("behind: %v, pending %d, bits %b, %d bytes held, interest %v", c.behind(), c.Pending(), c.bits, l.held, c.Interest())
		}
	})
}

// The rest of a cut frame, replies and the logs of one channel or several wait
// behind a socket that takes a little at a time.
func TestSlowSocketGetsEverything(t *testing.T) {
	for _, names := range [][]string{{"a"}, {"a", "b", "c"}} {
		t.Run(strings.Join(names, " "), func(t *testing.T) { testSlowSocket(t, names) })
	}
}

func testSlowSocket(t *testing.T, names []string) {
	s := startLoops(t, loopsConfig{Loops: 1, PingInterval: -1, WriteTimeout: -1, ChannelBuffer: 8 << 20}) // nobody is pressed
	fd, c := loopPair(t, s, names[0], 4<<10)
	fast, _ := loopPair(t, s, names[len(names)-1], 0)
	s.do(func(*Loop) { loopJoin(t, c, names[1:]...) })
	const replyEvery = 3
	rounds := clienttest.Scaled(400, 100)
	go func() { // somebody else of one of the channels reads at full speed
		end := loopNetConn(t, fast)
		for {
			if _, _, err := loopNext(end); err != nil {
				return
			}
		}
	}()
	want := clienttest.Numbered(rounds, 8)
	published := make(chan struct{})
	go func() {
		defer close(published)
		for i, text := range want {
			for j, name := range names {
				s.publish(name, name+text+strings.Repeat("*", (i*131+j*977)%3000))
			}
			if i%replyEvery == 0 {
				s.do(func(*Loop) {
					c.Reply(ws.OpText, []byte("reply"+text))
					c.Flush()
					c.Settle()
				})
			}
		}
	}()
	clienttest.WaitFor(t, "the socket to be full", func() bool { return s.blocked() > 0 })
	end := loopNetConn(t, fd)
	next := make(map[string]int)
	for n := 0; n < len(names)*rounds+(rounds+replyEvery-1)/replyEvery; n++ {
		_, p, err := loopNext(end)
		if err != nil {
			t.Fatalf("frame %d: %v", n, err)
		}
		name := strings.TrimRight(p, "0123456789*")
		p = strings.TrimRight(strings.TrimPrefix(p, name), "*")
		at := next[name]
		if name == "reply" {
			at *= replyEvery
		}
		if at >= len(want) || p != want[at] {
			t.Fatalf("%s %s where %d come before", name, clienttest.Brief(p), next[name])
		}
		next[name]++
	}
	clienttest.Receive(t, "the publisher to end", published)
	loopWantIdle(t, s, c)
}

// A log that a large frame went into alone gives its readers the time that its bytes
// need; any other the usual one.
func TestLargeFrameGivesItsReadersTime(t *testing.T) {
	clienttest.UncompressedOnly(t)
	t.Parallel()
	for payload, want := range map[string]time.Duration{
		strings.Repeat("x", 64<<10):    pressGrace,
		strings.Repeat("\x1b", 64<<10): 6 * pressGrace, // 393 KB as JSON, of a log of 256 KiB
	} {
		s := startLoops(t, loopsConfig{Loops: 1})
		c := clienttest.Dial(t, s, "/ws/x?format=json")
		s.do(func(l *Loop) {
			g := loopGroupIn(l, "x", wire.Record{})
			g.low = g.Log().Head()
			if _, err := g.Log().Channel().Publish(&channel.Publication{Payload: []byte(payload)}, new(channel.Scratch), nil); err != nil {
				t.Error(err)
			}
			if got := g.grace(); got != want {
				t.Errorf("%q and so on: readers have %v, want %v", payload[:1], got, want)
			}
		})
		c.WantData("it is sent", 1, payload)
	}
}
