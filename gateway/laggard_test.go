package gateway

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"sluice/gateway/channel"
	"sluice/gateway/frame"
	"sluice/poller"

	"github.com/gobwas/ws"
)

// loopFill publishes into a channel and sweeps, on the loop, until its log is full,
// and gives what was published.
func loopFill(t testing.TB, l *loop, name string, size int) (texts []string) {
	t.Helper()
	all := numbered(10_000, size)
	for _, text := range all {
		switch err := loopPublish(l, name, text, 0); {
		case errors.Is(err, channel.ErrFull):
			return texts
		case err != nil:
			t.Error(err)
			return texts
		}
		texts = append(texts, text)
		loopGroup(l, name).again()
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
			t.Fatalf("text %d of %d: got %v %q, %v, want %q", i, len(texts), op, brief(p), err, brief(want))
		}
	}
}

// tiny is a configuration whose logs are soon full.
var tiny = Config{Loops: 1, MaxMessage: 2 << 10, ChannelBuffer: 8 << 10, PingInterval: -1, WriteTimeout: -1}

// A full log presses its group. At the end of the grace those whose sockets still
// refuse are told 1013 behind what they got; those that read lose nothing, and neither does one whose socket
// takes bytes again although nobody knows it yet.
func TestPressedGroupCutsOnlyThoseWhoseSocketsRefuse(t *testing.T) {
	s := start(t, tiny)
	var conns []*conn
	var fds []int
	for range 4 {
		fd, c := loopPair(t, s, "x", 4<<10)
		fds, conns = append(fds, fd), append(conns, c)
	}
	const revived = 2
	var texts []string
	var drained bytes.Buffer
	s.do(func(l *loop) {
		texts = loopFill(t, l, "x", 700)
		for i, c := range conns {
			if !c.has(bitBlocked) || !c.behind() {
				t.Errorf("connection %d is not blocked behind a full log", i)
			}
		}
		g := loopGroup(l, "x")
		g.sweep(turnWrites)
		if len(g.subs) != len(fds) || g.pressedAt.IsZero() {
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
		g.pressedAt = g.pressedAt.Add(-pressGrace)
		g.sweep(turnWrites)
		loopCheckGroup(t, g)
		if len(g.subs) != 1 || g.subs[0].c != conns[revived] {
			t.Errorf("%d subscribers are left, want the one whose socket takes bytes", len(g.subs))
		}
		if err := loopPublish(l, "x", "room", 0); err != nil {
			t.Errorf("after the relief: %v", err)
		}
	})
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
				t.Fatalf("connection %d: got %v %q, want text %d", i, op, brief(p), n)
			}
		}
		if err := end.CloseWrite(); err != nil {
			t.Error(err)
		}
	}
	s.wantClosed(reasonSlow, 3)
}

// Subscribers that are behind because the loop was late, not their sockets, are
// served when the log is full, however full it is.
func TestNobodyIsCutBecauseTheLoopWasLate(t *testing.T) {
	s := start(t, tiny)
	var clients []*client
	for i := range 3 {
		path := "/ws/x"
		if i == 1 {
			path += "?echo=off" // written by the cork
		}
		clients = append(clients, dial(t, s, path))
	}
	var texts []string
	s.do(func(l *loop) {
		for _, text := range numbered(1000, 100) {
			if loopPublish(l, "x", text, 0) != nil {
				break
			}
			texts = append(texts, text)
		}
	})
	s.publish("x", "room") // waits for it
	for _, cl := range clients {
		for _, text := range append(texts, "room") {
			cl.wantText("nobody is cut", text)
		}
	}
	s.wantConnections(3)
}

// All laggards of a group are cut while holes are left by others: the group ends
// in the middle of its relief.
func TestGroupThatEndsInItsRelief(t *testing.T) {
	for _, gone := range [][]int{{3}, {0}, {0, 3}, {1, 2}} {
		s := start(t, tiny)
		var conns []*conn
		for range 4 {
			_, c := loopPair(t, s, "x", 4<<10)
			conns = append(conns, c)
		}
		s.do(func(l *loop) {
			loopFill(t, l, "x", 700)
			g := loopGroup(l, "x")
			g.begin()
			g.pressedAt = time.Now().Add(-pressGrace)
			for _, i := range gone {
				conns[i].kill(reasonReset)
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
		s.do(func(*loop) {
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
	texts := numbered(3*takes/size, size-frame.HeaderLen(size))
	s := start(t, Config{Loops: 1, PingInterval: -1, WriteTimeout: -1})
	fd, c := loopPair(t, s, "x", 4<<10)
	s.do(func(l *loop) {
		for _, text := range texts {
			if err := loopPublish(l, "x", text, 0); err != nil {
				t.Error(err)
			}
		}
		g := loopGroup(l, "x")
		g.again()
		l.sweep()
		if !c.has(bitBlocked) || c.out != nil || g.subs[0].pos != uint64(takes) {
			t.Errorf("the socket took %d of %d bytes, %d are pending, blocked: %v", g.subs[0].pos, takes, c.pending(), c.has(bitBlocked))
		}
	})
	loopWantTexts(t, loopNetConn(t, fd), texts)
	loopWantIdle(t, s, c)
}

// loopWantIdle checks that a connection has got everything and that nothing of it
// is left anywhere.
func loopWantIdle(t testing.TB, s *server, c *conn) {
	t.Helper()
	waitFor(t, "the connection to be unblocked", func() bool { return s.blocked() == 0 })
	s.quiet()
	s.do(func(l *loop) {
		if c.behind() || c.out != nil || c.has(bitBlocked) || l.held != 0 || c.Interest() != poller.Readable {
			t.Errorf("behind: %v, pending %d, bits %b, %d bytes held, interest %v", c.behind(), c.pending(), c.bits, l.held, c.Interest())
		}
	})
}

// The rest of a cut frame, replies and several channels' logs wait behind a
// socket that takes a little at a time.
func TestSlowSocketGetsEverythingOfAllItsChannels(t *testing.T) {
	s := start(t, Config{Loops: 1, PingInterval: -1, WriteTimeout: -1, ChannelBuffer: 8 << 20}) // nobody is pressed
	fd, c := loopPair(t, s, "a", 4<<10)
	fast, _ := loopPair(t, s, "b", 0)
	names := []string{"a", "b", "c"}
	s.do(func(*loop) { loopJoin(t, c, names[1:]...) })
	rounds := scaled(400, 100)
	go func() { // somebody else of one of the channels reads at full speed
		end := loopNetConn(t, fast)
		for {
			if _, _, err := loopNext(end); err != nil {
				return
			}
		}
	}()
	go func() {
		for i, text := range numbered(rounds, 8) {
			for j, name := range names {
				s.publish(name, name+text+strings.Repeat("*", (i*131+j*977)%3000))
			}
			if i%10 == 0 {
				s.do(func(*loop) {
					c.reply(ws.OpText, []byte("reply"+text))
					c.flush()
					c.settle()
				})
			}
		}
	}()
	end := loopNetConn(t, fd)
	next := make(map[string]int)
	want := numbered(rounds, 8)
	for n := 0; n < 3*rounds+rounds/10; n++ {
		_, p, err := loopNext(end)
		if err != nil {
			t.Fatalf("frame %d: %v", n, err)
		}
		name := strings.TrimRight(p, "0123456789*")
		p = strings.TrimRight(strings.TrimPrefix(p, name), "*")
		if name == "reply" {
			if p != want[10*next[name]] {
				t.Fatalf("reply %s where %d come before", p, next[name])
			}
		} else if p != want[next[name]] {
			t.Fatalf("text %s of channel %q where %d come before", p, name, next[name])
		}
		next[name]++
	}
	if n := s.sum(func(st *loopStats) uint64 { return st.blockings.Load() }); n == 0 {
		t.Error("the socket was never full")
	}
	loopWantIdle(t, s, c)
}
