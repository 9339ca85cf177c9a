package gateway

import (
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"sluice/gateway/channel"
	"sluice/gateway/engine"
	"sluice/poller"

	"github.com/google/go-cmp/cmp"
)

// Tests of loops come in two kinds. Those with a server have real loops and
// sockets; what must not happen by chance, such as the place where a sweep is
// paused, they do on the loop, in one function. Those with loopBare have a loop
// that nothing runs, for what needs no socket.

// loopBare gives a loop that does only what it is called for. Its connections have
// no descriptor: nothing may write to them.
func loopBare(t testing.TB, cfg Config) *loop {
	t.Helper()
	cfg = cfg.withDefaults()
	budget := channel.NewBudget(cfg.MaxBuffered / 2)
	s := &Server{cfg: cfg, policy: newPolicy(&cfg), stats: new(serverStats), budget: budget, space: channel.NewSpace(cfg.ChannelBuffer, cfg.MaxChannels, budget)}
	s.engine = engine.Local{}
	p, err := poller.New(func() {}, func(err error) { t.Error(err) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() }) // ignored: the test is over
	l := bareLoop(s, 0)
	l.poller, l.heldMax = p, cfg.MaxBuffered
	l.inbox.wake = func() {}
	return l
}

// loopConn adds a connection without a descriptor.
func loopConn(l *loop) *conn {
	c := &conn{loop: l, id: l.server.nextID(), bits: bitLocal}
	l.server.connections.Add(1)
	l.add(c)
	return c
}

// loopJoin subscribes c to channels.
func loopJoin(t testing.TB, c *conn, names ...string) {
	t.Helper()
	for _, name := range names {
		if err := c.loop.join(c, name, rawFormat{}); err != nil {
			t.Error(err)
		}
	}
}

// loopPublish publishes text, on the loop.
func loopPublish(l *loop, name, text string, from uint64) error {
	_, err := l.space.Find(name).Publish(&channel.Publication{Payload: []byte(text), From: from}, &l.encode, nil)
	return err
}

// loopDeliver delivers what the channels have told the loop, as its next turn would.
func loopDeliver(l *loop) {
	l.inbox.mu.Lock()
	var told []*group
	l.inbox.queue = slices.DeleteFunc(l.inbox.queue, func(m message) bool {
		g, ok := m.(*group)
		if ok {
			told = append(told, g)
		}
		return ok
	})
	l.inbox.mu.Unlock()
	for _, g := range told {
		g.deliver(l)
	}
}

// loopGroup gives the loop's raw subscribers of a channel.
func loopGroup(l *loop, name string) *group { return l.groups[groupKey{name, rawFormat{}}] }

// loopDial makes a connection, and gives its record on the loop as well.
func loopDial(t testing.TB, s *server, target string, small bool) (cl *client, c *conn) {
	t.Helper()
	if small {
		cl = dialSmall(t, s, target)
	} else {
		cl = dial(t, s, target)
	}
	s.do(func(l *loop) {
		for _, other := range l.conns {
			if c == nil || other.id > c.id {
				c = other
			}
		}
	})
	return cl, c
}

// loopPair makes one end of a socket pair a connection of the server's first
// loop that subscribes to a channel, and gives the other end. sendBuffer 0 is the
// kernel's default.
func loopPair(t testing.TB, s *server, name string, sendBuffer int) (fd int, c *conn) {
	t.Helper()
	fds := loopSockets(t, sendBuffer)
	s.do(func(l *loop) {
		if l.index > 0 {
			return
		}
		c = &conn{loop: l, id: s.nextID(), heard: l.now, bits: bitLocal}
		if err := l.poller.Add(&c.Desc, fds[0], poller.Readable, c); err != nil {
			t.Error(err)
			return
		}
		s.connections.Add(1)
		l.add(c)
		loopJoin(t, c, name)
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
	t.Cleanup(func() { c.Close() })         // ignored: the test is over
	c.SetDeadline(time.Now().Add(patience)) // ignored: then a test may hang
	return c.(*net.UnixConn)
}

func TestInboxWakesOnceForEachTake(t *testing.T) {
	wakes := 0
	b := &inbox{wake: func() { wakes++ }}
	message := func(i int) message { return call(func(l *loop) { l.index = i }) }
	taken := func() (got []int) {
		l := new(loop)
		for _, m := range b.take() {
			m.deliver(l)
			got = append(got, l.index)
		}
		return got
	}
	for i := range 3 {
		if !b.put(message(i)) {
			t.Fatal("an open inbox refuses")
		}
	}
	if diff := cmp.Diff([]int{0, 1, 2}, taken()); diff != "" || wakes != 1 {
		t.Errorf("%d wakes (-want +got):\n%s", wakes, diff)
	}
	if got := taken(); got != nil || wakes != 1 {
		t.Errorf("an empty inbox gives %v", got)
	}
	b.put(message(3))
	if diff := cmp.Diff([]int{3}, taken()); diff != "" || wakes != 2 {
		t.Errorf("%d wakes (-want +got):\n%s", wakes, diff)
	}
	b.put(message(4))
	if rest := b.close(); len(rest) != 1 {
		t.Errorf("%d messages were left at the end, want 1", len(rest))
	}
	if got := taken(); got != nil {
		t.Errorf("%v was given twice", got)
	}
	if b.put(message(5)) || wakes != 3 {
		t.Error("a closed inbox takes a message")
	}
}

func TestInboxKeepsEachSendersOrder(t *testing.T) {
	const senders, each = 8, 2000
	woken := make(chan struct{}, 1)
	b := &inbox{wake: func() {
		select {
		case woken <- struct{}{}:
		default:
			t.Error("woken twice for one take")
		}
	}}
	got := make([][]int, senders)
	var sending sync.WaitGroup
	for i := range senders {
		sending.Go(func() {
			for n := range each {
				b.put(call(func(*loop) { got[i] = append(got[i], n) }))
			}
		})
	}
	for n := 0; n < senders*each; {
		receive(t, "the inbox to wake the loop", woken)
		for _, m := range b.take() {
			m.deliver(nil)
			n++
		}
	}
	sending.Wait()
	for i := range got {
		if len(got[i]) != each || !slices.IsSorted(got[i]) {
			t.Errorf("sender %d: %d messages, sorted: %v", i, len(got[i]), slices.IsSorted(got[i]))
		}
	}
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
		l := loopBare(t, Config{})
		l.now, l.checked = 100, 7
		l.lastTick = time.Now().Add(-test.passed)
		tick{}.deliver(l)
		if got := l.now - 100; got != test.want || l.checked != 0 {
			t.Errorf("%v: loop time advances by %d, want %d", test.passed, got, test.want)
		}
		if off := time.Since(l.lastTick).Abs(); off > 700*time.Millisecond {
			t.Errorf("%v: the next tick will find %v", test.passed, off)
		}
	}
}

// What a tick's seconds leave over is counted by the next one.
func TestLoopTimeDoesNotDrift(t *testing.T) {
	for _, every := range []time.Duration{600 * time.Millisecond, 1400 * time.Millisecond} {
		l := loopBare(t, Config{})
		for range 100 {
			l.lastTick = l.lastTick.Add(-every) // that much later it comes
			tick{}.deliver(l)
		}
		want := 100 * every / time.Second
		if got := time.Duration(l.now); (got - want).Abs() > 1 {
			t.Errorf("a tick every %v: %d seconds are counted after %d", every, got, want)
		}
	}
}

func TestDueConnectionsAreLookedAtInPieces(t *testing.T) {
	l := loopBare(t, Config{PingInterval: -1})
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
	s := start(t, Config{Loops: 1, PingInterval: -1})
	const all = turnDue + 20
	var fds []int
	for range all {
		fd, _ := loopPair(t, s, Lobby, 0)
		fds = append(fds, fd)
	}
	var left []int
	s.do(func(l *loop) {
		for _, c := range l.conns {
			c.phase, c.since, c.reason = phaseDraining, 0, reasonClientGone
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

func TestStormIsOverWhenItIsCalm(t *testing.T) {
	var w stormWatch
	var churn uint64
	step := func(more uint64) string {
		churn += more
		return fmt.Sprint(more, w.over(churn))
	}
	var got []string
	for _, more := range []uint64{100, 0, 0, 0, 300, 101, 21, 0, 20, 20, 0, 0, 600, 0, 0, 30, 0, 0, 0} {
		got = append(got, step(more))
	}
	want := []string{
		"100 false", "0 false", "0 false", "0 false", // calm, but there was too little
		"300 false", "101 false", "21 false", "0 false", "20 false", "20 true", "0 false", "0 false",
		"600 false", "0 false", "0 false", "30 false", "0 false", "0 false", "0 true",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("comings and whether the storm is over (-want +got):\n%s", diff)
	}
}
