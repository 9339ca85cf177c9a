package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestShutdownTellsEveryoneAfterWhatWasPublished(t *testing.T) {
	t.Parallel()
	s := start(t, Config{SendBuffer: 4 << 10})
	slow, backlog := dialSmall(t, s, "/ws/slow"), numbered(100, 1000)
	for _, p := range backlog {
		s.publish("slow", p)
	}
	waitFor(t, "the slow one to be blocked", func() bool { return s.blocked() == 1 })
	var all []*client
	for i := range 20 {
		all = append(all, dial(t, s, fmt.Sprint("/ws/", i%3)))
	}
	echo := dial(t, s, "/echo")
	slowHead := connect(t, s)
	slowHead.write("GET /ws HTTP/1.1\r\n")
	waitFor(t, "the handshake to be in progress", func() bool { return s.waiting() == 1 })
	texts := numbered(100, 200)
	var release []func() // the loops learn of the messages and of the end at once
	for i := range s.loop {
		release = append(release, s.hold(i))
	}
	for _, p := range texts {
		for name := range 3 {
			s.publish(fmt.Sprint(name), p)
		}
	}
	begun := time.Now()
	ended := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		ended <- s.shutdown(ctx)
	}()
	waitFor(t, "the shutdown to begin", func() bool { return !s.Ready() })
	for _, r := range release {
		r()
	}
	for i, c := range all {
		for _, p := range texts {
			c.wantText(fmt.Sprint("client ", i, " gets what was published before"), p)
		}
		c.wantClose("then it is told", 1001)
	}
	for _, p := range backlog {
		slow.wantText("whoever is behind gets it, too", p)
	}
	slow.wantClose("then it is told", 1001)
	echo.wantClose("it is told", 1001)
	slowHead.wantGone("handshakes end, too")
	if err := receive(t, "Shutdown to return", ended); err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	if took := time.Since(begun); took > 4*time.Second {
		t.Errorf("it took %v although everybody answered", took)
	}
	if n := s.closedFor(reasonShutdown); n != 22 {
		t.Errorf("%d connections ended for shutdown, want 22", n)
	}
	if nc, err := net.Dial("tcp", s.addr); err == nil {
		nc.Close()
		t.Error("it still accepts")
	}
	if err := s.Shutdown(context.Background()); !errors.Is(err, ErrServerClosed) {
		t.Errorf("a second Shutdown: %v", err)
	}
	if l, err := net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Error(err)
	} else if err := s.Serve(l); !errors.Is(err, ErrServerClosed) {
		t.Errorf("Serve after Shutdown: %v", err)
	}
}

func TestShutdownIsForcedWhenTimeIsUp(t *testing.T) {
	t.Parallel()
	s := start(t, Config{SendBuffer: 4 << 10, CloseTimeout: time.Minute, WriteTimeout: -1})
	blocked, silent, good := dialSmall(t, s, "/ws/x"), dial(t, s, "/ws/y"), dial(t, s, "/ws/x")
	for _, p := range numbered(200, 1000) {
		s.publish("x", p)
		good.wantText("the good one reads", p)
	}
	waitFor(t, "the other to be blocked", func() bool { return s.blocked() == 1 })
	ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
	defer cancel()
	begun := time.Now()
	ended := make(chan error, 1)
	go func() { ended <- s.shutdown(ctx) }()
	good.wantClose("the good one has its goodbye", 1001)
	silent.wantCloseFrame("the silent one is told", 1001)
	if err := receive(t, "Shutdown to return", ended); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Shutdown: %v, want the context's error", err)
	}
	if took := time.Since(begun); took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
	if _, err := blocked.conn.Write([]byte(text("anybody?"))); err == nil {
		blocked.texts() // reads up to the reset
	}
}

func TestShutdownWhilePublishersWait(t *testing.T) {
	t.Parallel()
	s := start(t, Config{MaxMessage: 1000, ChannelBuffer: 4 << 10})
	a, b := dial(t, s, "/ws/x"), dial(t, s, "/ws/x")
	release := s.hold(b.loopOf(s))
	for _, p := range numbered(20, 500) {
		a.send(text(p))
	}
	waitFor(t, "the client to be parked", func() bool { return s.pushBacks() > 0 })
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	pushedBack := make(chan error, 1)
	go func() {
		_, err := s.Publish(ctx, Message{Channel: "x", Payload: []byte("from the API")})
		pushedBack <- err
	}()
	waitFor(t, "the API to be parked", func() bool { return s.stats.pushedBack.Load() > 0 })
	ended := make(chan error, 1)
	go func() { ended <- s.shutdown(ctx) }()
	waitFor(t, "the shutdown to begin", func() bool { return !s.Ready() })
	release()
	for _, c := range []*client{a, b} {
		if got, code, err := c.texts(); code != 1001 {
			t.Errorf("after %d texts: close code %d, %v; want 1001", len(got), code, err)
		}
		c.endClose("told")
	}
	if err := receive(t, "Shutdown to return", ended); err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	if err := receive(t, "Publish to return", pushedBack); err != nil {
		t.Errorf("Publish while its channel goes: %v", err)
	}
}

func TestShutdownDuringAStorm(t *testing.T) {
	plainOnly(t)
	t.Parallel()
	for range scaled(5, 2) {
		s := start(t, Config{})
		stop := make(chan struct{})
		var clients sync.WaitGroup
		for range 16 {
			clients.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					nc, err := net.DialTimeout("tcp", s.addr, patience)
					if err != nil {
						continue
					}
					nc.SetDeadline(time.Now().Add(patience))       // ignored: then the calls fail
					nc.Write([]byte(upgradeTo("/ws") + text("x"))) // ignored: the server may be gone
					nc.Read(make([]byte, 10))                      // ignored: likewise
					nc.Close()                                     // ignored: likewise
				}
			})
		}
		waitFor(t, "the storm to blow", func() bool { return s.received() > 100 })
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		if err := s.shutdown(ctx); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		cancel()
		close(stop)
		clients.Wait()
	}
}

// The census: after thousands of clients have come and gone nothing is left of
// them.
func TestConnectionsLeaveNothingBehind(t *testing.T) {
	plainOnly(t)
	s := start(t, Config{History: -1})
	dial(t, s, "/ws").settle(s) // whatever is made at the first use
	s.wantConnections(1)
	leaks := goleak.IgnoreCurrent()
	before := descriptors()
	total, workers := scaled(10_000, 1_000), 32
	var clients sync.WaitGroup
	for w := range workers {
		clients.Go(func() {
			for i := w; i < total; i += workers {
				visit(t, s, i)
			}
		})
	}
	clients.Wait()
	s.wantConnections(1)
	waitFor(t, "the handshakes to end", func() bool {
		s.stage.mu.Lock()
		defer s.stage.mu.Unlock()
		return s.stage.taken == 0 && s.stage.waiting.Len() == 0
	})
	s.quiet()
	for fd, what := range opened(before, descriptors()) {
		t.Errorf("descriptor %d (%s) is left over", fd, what)
	}
	if err := goleak.Find(leaks); err != nil {
		t.Error(err)
	}
	if n := s.space.Channels(); n != 1 {
		t.Errorf("%d channels are left, want the one in use", n)
	}
	s.do(func(l *loop) {
		if n := len(l.groups) + len(l.conns); n > 2 || len(l.dead) > 0 {
			t.Errorf("loop %d keeps %d groups and connections and %d dead", l.index, n, len(l.dead))
		}
		if c := cap(l.due); c > total {
			t.Errorf("loop %d keeps room for %d connections", l.index, c)
		}
	})
	clean, reset := s.closedFor(reasonClientClose), s.closedFor(reasonReset)+s.closedFor(reasonClientGone)
	if clean != uint64(total/2) || clean+reset != uint64(total) {
		t.Errorf("%d ended by Close and %d without, of %d", clean, reset, total)
	}
	if n := s.counted("upgraded"); n != uint64(total)+1 {
		t.Errorf("%d upgrades are counted, want %d", n, total+1)
	}
}

// visit is one client's life: connect, publish, be heard, and leave, every
// second one without a word.
func visit(t *testing.T, s *server, i int) {
	nc, err := net.DialTimeout("tcp", s.addr, patience)
	if err != nil {
		t.Errorf("client %d: %v", i, err)
		return
	}
	defer nc.Close()
	c := &client{t: t, conn: nc.(*net.TCPConn)}
	c.conn.SetDeadline(time.Now().Add(patience)) // ignored: then the calls fail
	wire := upgradeTo(fmt.Sprint("/ws/", i)) + text("here")
	if i%2 == 0 {
		wire += closing(1000, "")
	}
	if _, err := nc.Write([]byte(wire)); err != nil {
		t.Errorf("client %d: %v", i, err)
		return
	}
	// The 101, the message, and the Close where one is due.
	want := 129 + 6
	if i%2 == 0 {
		want += 4
	}
	buf := make([]byte, 512)
	for n := 0; n < want; {
		m, err := nc.Read(buf[n:])
		if n += m; err != nil && n < want {
			t.Errorf("client %d: got %d bytes, %v", i, n, err)
			return
		}
	}
	if i%2 == 1 {
		c.vanish()
		return
	}
	nc.Read(buf) // ignored: the server's FIN
}
