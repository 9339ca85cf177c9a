package loop

import (
	"net"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"sluice/gateway/channel"
	"sluice/gateway/clienttest"
	"sluice/gateway/wire"
	"sluice/poller"

	"github.com/google/go-cmp/cmp"
)

// Tests of loops come in two kinds. Those with startLoops have real loops and
// sockets; what must not happen by chance, such as the place where a sweep is
// paused, they do on the loop, in one function. Those with loopBare have a loop
// that nothing runs, for what needs no socket.

// loopBare gives a loop that does only what it is called for. Its connections have
// no descriptor: nothing may write to them.
func loopBare(t testing.TB, cfg loopsConfig) *Loop {
	t.Helper()
	s, of := newLoops(t, &cfg)
	of.HeldMax = cfg.MaxBuffered
	p, err := poller.New(func() {}, func() {}, func(err error) { t.Error(err) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() }) // ignored: the test is over
	l := bareLoop(bareSet(of), 0)
	l.poller, s.all = p, []*Loop{l}
	l.inbox.wake = func() {}
	return l
}

// loopConn adds a connection without a descriptor.
func loopConn(l *Loop) *Conn {
	c := newConn(l, 0)
	c.bits = bitLocal
	l.cfg.Admission.(*loops).admitted.Add(1)
	l.add(c)
	return c
}

// loopWatched adds a connection with a descriptor, which the poller watches.
func loopWatched(t testing.TB, l *Loop, fd int) *Conn {
	t.Helper()
	c := loopConn(l)
	if err := l.poller.Add(&c.Desc, fd, poller.Readable, c); err != nil {
		t.Error(err)
	}
	return c
}

// loopJoin subscribes c to channels.
func loopJoin(t testing.TB, c *Conn, names ...string) {
	t.Helper()
	for _, name := range names {
		if err := c.Join(name, wire.Raw{}, 0); err != nil {
			t.Error(err)
		}
	}
}

// loopPublish publishes text, on the loop.
func loopPublish(l *Loop, name, text string, from uint64) error {
	_, err := l.space.Find(name).Publish(&channel.Publication{Payload: []byte(text), From: from}, &l.encode, nil)
	return err
}

// loopDeliver delivers what the channels have told the loop, as its next turn would.
func loopDeliver(l *Loop) {
	l.inbox.mu.Lock()
	var told []*Group
	l.inbox.queue = slices.DeleteFunc(l.inbox.queue, func(m Message) bool {
		g, ok := m.(*Group)
		if ok {
			told = append(told, g)
		}
		return ok
	})
	l.inbox.mu.Unlock()
	for _, g := range told {
		g.Deliver(l)
	}
}

// loopGroup gives the loop's raw subscribers of a channel.
func loopGroup(l *Loop, name string) *Group { return loopGroupIn(l, name, wire.Raw{}) }

// loopGroupIn returns the group in a format, or in its compressed form.
func loopGroupIn(l *Loop, name string, f channel.Format) *Group {
	g := l.groups[groupKey{name, f}]
	if g == nil && l.cfg.Compressors != nil {
		g = l.groups[groupKey{name, l.cfg.Compressors.Format(f, false)}]
	}
	return g
}

// loopDial makes a connection, and gives its record on the loop as well.
func loopDial(t testing.TB, s *loops, target string, small bool) (cl *clienttest.Client, c *Conn) {
	t.Helper()
	if small {
		cl = clienttest.DialSmall(t, s, target)
	} else {
		cl = clienttest.Dial(t, s, target)
	}
	s.do(func(l *Loop) {
		for _, other := range l.conns {
			if c == nil || other.id > c.id {
				c = other
			}
		}
	})
	return cl, c
}

// loopPair makes one end of a socket pair a connection of the first
// loop that subscribes to a channel, and gives the other end. sendBuffer 0 is the
// kernel's default.
func loopPair(t testing.TB, s *loops, name string, sendBuffer int) (fd int, c *Conn) {
	t.Helper()
	fds := loopSockets(t, sendBuffer)
	s.do(func(l *Loop) {
		if l.index == 0 {
			c = loopWatched(t, l, fds[0])
			loopJoin(t, c, name)
		}
	})
	return fds[1], c
}

// loopSockets gives two connected sockets. The second is closed at the test's
// end.
func loopSockets(t testing.TB, sendBuffer int) (fds [2]int) {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		syscall.CloseOnExec(fd)
		if err := syscall.SetNonblock(fd, true); err != nil {
			t.Fatal(err)
		}
	}
	if sendBuffer > 0 {
		if err := syscall.SetsockoptInt(fds[0], syscall.SOL_SOCKET, syscall.SO_SNDBUF, sendBuffer); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { poller.Close(fds[1]) }) // ignored: the test is over
	return fds
}

// loopNetConn gives a descriptor of loopPair as a net.Conn that waits, with patience.
func loopNetConn(t testing.TB, fd int) *net.UnixConn {
	t.Helper()
	dup, err := syscall.Dup(fd)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(dup), "pair")
	defer f.Close() // ignored: FileConn has made its own
	c, err := net.FileConn(f)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })                    // ignored: the test is over
	c.SetDeadline(time.Now().Add(clienttest.Patience)) // ignored: then a test may hang
	return c.(*net.UnixConn)
}

// What a client sends in one piece has one time, which is the loop's.
func TestClockIsReadOnceForABatch(t *testing.T) {
	t.Parallel()
	s := startLoops(t, loopsConfig{Loops: 1, BatchWindow: time.Minute})
	clienttest.Dial(t, s, "/ws/x")
	s.do(func(l *Loop) {
		loopAfter(l, time.Minute)
		clock := l.cfg.Clock
		l.cfg.Clock = func() time.Time {
			t.Error("the clock is read in the midst of a batch")
			return clock()
		}
		c := l.conns[0]
		for range 3 {
			c.received([]byte(strings.Repeat(clienttest.Text("m"), 10)))
			loopDeliver(l)
			l.sweep()
		}
		l.cfg.Clock = clock
		kept, _ := l.space.Collect("x", nil, false, channel.Bounds{Count: 100}, l.time.UnixMilli())
		if len(kept.Publications) != 30 {
			t.Errorf("%d publications are kept, want 30", len(kept.Publications))
		}
		for _, p := range kept.Publications {
			if p.At != l.time.UnixMilli() {
				t.Errorf("published at %d, want %d", p.At, l.time.UnixMilli())
				break
			}
		}
		g := loopGroup(l, "x")
		if !c.behind() || len(l.delayed) != 1 {
			t.Error("the sweep does not wait for its window's end")
		}
		delayOver{}.Deliver(l) // the timer went off in this batch
		if len(l.delayed) != 1 || len(l.sweeps) != 0 {
			t.Error("the window ends before the loop's time says so")
		}
		loopAfter(l, g.notBefore.Sub(l.time))
		delayOver{}.Deliver(l)
		if l.sweep(); c.behind() {
			t.Error("the window does not end")
		}
	})
}

// A process that was stopped for a minute must not find that all its clients
// were silent meanwhile.
func TestLoopTimeCountsTwoSecondsOfALateTick(t *testing.T) {
	for _, test := range []struct {
		passed time.Duration
		want   uint32
	}{
		{0, 0}, {400 * time.Millisecond, 0}, {600 * time.Millisecond, 1}, {time.Second, 1}, {1400 * time.Millisecond, 1},
		{2 * time.Second, 2}, {3 * time.Second, 2}, {time.Minute, 2}, {24 * time.Hour, 2}, {-time.Minute, 0},
	} {
		l := loopBare(t, loopsConfig{})
		l.now, l.checked = 100, 7
		l.cfg.Admission.(*loops).clock.Advance(test.passed)
		Tick{}.Deliver(l)
		if got := l.now - 100; got != test.want || l.checked != 0 {
			t.Errorf("%v: loop time advances by %d, want %d", test.passed, got, test.want)
		}
		if off := l.time.Sub(l.lastTick).Abs(); off > 700*time.Millisecond {
			t.Errorf("%v: the next tick will find %v", test.passed, off)
		}
	}
}

// What a tick's seconds leave over is counted by the next one.
func TestLoopTimeDoesNotDrift(t *testing.T) {
	for _, every := range []time.Duration{600 * time.Millisecond, 1400 * time.Millisecond} {
		l := loopBare(t, loopsConfig{})
		for range 100 {
			l.cfg.Admission.(*loops).clock.Advance(every)
			Tick{}.Deliver(l)
		}
		want := 100 * every / time.Second
		if got := time.Duration(l.now - timeBegun); (got - want).Abs() > 1 {
			t.Errorf("a tick every %v: %d seconds are counted after %d", every, got, want)
		}
	}
}

func TestDueConnectionsAreLookedAtInPieces(t *testing.T) {
	l := loopBare(t, loopsConfig{PingInterval: -1})
	const all = 2*turnDue + 10
	for range all {
		loopConn(l)
	}
	l.now = 5
	for i := range l.due {
		l.due[i] = uint32(5 + i%2*2) // every other one is due
	}
	looked := func() (n int) {
		for i, due := range l.due {
			if i%2 == 0 && due == noDue {
				n++
			}
			if i%2 == 1 && due != 7 {
				t.Fatalf("connection %d is looked at before its time", i)
			}
		}
		return n
	}
	var got []int
	for range 3 {
		l.checkDue()
		got = append(got, looked())
	}
	if diff := cmp.Diff([]int{turnDue, all / 2, all / 2}, got); diff != "" {
		t.Errorf("looked at (-want +got):\n%s", diff)
	}
}

// Whoever ends while he is looked at gives his place to another, who must not be
// passed over.
func TestNobodyIsPassedOverWhenDueConnectionsEnd(t *testing.T) {
	s := startLoops(t, loopsConfig{Loops: 1, PingInterval: -1})
	const all = turnDue + 20
	var fds []int
	for range all {
		fd, _ := loopPair(t, s, "lobby", 0)
		fds = append(fds, fd)
	}
	var left []int
	s.do(func(l *Loop) {
		for _, c := range l.conns {
			c.Phase, c.since, c.reason = phaseDraining, 0, ReasonClientGone
			l.due[c.slot] = 0
		}
		for range 2 {
			l.checked = min(l.checked, len(l.conns))
			if len(left) == 0 {
				l.checked = 0
			}
			l.checkDue()
			left = append(left, len(l.conns))
		}
	})
	if diff := cmp.Diff([]int{all - turnDue, 0}, left); diff != "" {
		t.Errorf("connections left after each look (-want +got):\n%s", diff)
	}
	s.wantConnections(0)
	for i, fd := range fds {
		if n, err := loopNetConn(t, fd).Read(make([]byte, 1)); n != 0 || err == nil {
			t.Errorf("the socket of connection %d is open", i)
		}
	}
}

// Tests wait for a loop that has nothing more to do: a publication that was called, and is tried later in
// the same turn, is something to do.
func TestLoopWithSomethingToRetryIsNotIdle(t *testing.T) {
	l := loopBare(t, loopsConfig{})
	p := &Publishing{loop: l, c: loopConn(l)}
	if l.turn(); !l.Idle() {
		t.Fatal("it has nothing to do")
	}
	p.Deliver(l)
	if l.Idle() {
		t.Error("it is idle, with a publication to try again")
	}
	p.c = nil // it does not wait any more
	if l.turn(); !l.Idle() {
		t.Error("it is not idle after its turn")
	}
}
