package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/gateway/clienttest"
	"sluice/gateway/loop"
	"sluice/gateway/looptest"
	"sluice/poller/leaktest"

	"github.com/gobwas/ws"
	"go.uber.org/goleak"
)

func TestShutdownTellsEveryoneAfterWhatWasPublished(t *testing.T) {
	t.Parallel()
	s := start(t, Config{SendBuffer: 4 << 10})
	slow, backlog := clienttest.DialSmall(t, s, "/ws/slow"), clienttest.Numbered(100, 1000)
	for _, p := range backlog {
		s.publish("slow", p)
	}
	clienttest.WaitFor(t, "the slow one to be blocked", func() bool { return s.Blocked() == 1 })
	var all []*clienttest.Client
	for i := range 20 {
		all = append(all, clienttest.Dial(t, s, fmt.Sprint("/ws/", i%3)))
	}
	echo := clienttest.Dial(t, s, "/echo")
	slowHead := clienttest.Connect(t, s)
	slowHead.Write("GET /ws HTTP/1.1\r\n")
	clienttest.WaitFor(t, "the handshake to be in progress", func() bool { return s.handshakes() == 1 })
	texts := clienttest.Numbered(100, 200)
	var release []func() // the loops learn of the messages and of the end at once
	for i := range s.set.Loops() {
		release = append(release, s.Hold(i))
	}
	for _, p := range texts {
		for name := range 3 {
			s.publish(fmt.Sprint(name), p)
		}
	}
	s.seconds = nil // none passes: nothing ends because it is waited for no longer
	ended := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), clienttest.Patience)
		defer cancel()
		ended <- s.shutdown(ctx)
	}()
	clienttest.WaitFor(t, "the shutdown to begin", func() bool { return !s.Ready() })
	for _, r := range release {
		r()
	}
	for i, c := range all {
		for _, p := range texts {
			c.WantText(fmt.Sprint("client ", i, " gets what was published before"), p)
		}
		c.WantClose("then it is told", 1001)
	}
	for _, p := range backlog {
		slow.WantText("whoever is behind gets it, too", p)
	}
	slow.WantClose("then it is told", 1001)
	echo.WantClose("it is told", 1001)
	slowHead.WantGone("handshakes end, too")
	if err := clienttest.Receive(t, "Shutdown to return", ended); err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	if n := s.ClosedFor(loop.ReasonShutdown); n != 22 {
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
	s := start(t, Config{SendBuffer: 4 << 10, CloseTimeout: time.Hour, WriteTimeout: -1})
	blocked, silent, good := clienttest.DialSmall(t, s, "/ws/x"), clienttest.Dial(t, s, "/ws/y"), clienttest.Dial(t, s, "/ws/x")
	for _, p := range clienttest.Numbered(200, 1000) {
		s.publish("x", p)
		good.WantText("the good one reads", p)
	}
	clienttest.WaitFor(t, "the other to be blocked", func() bool { return s.Blocked() == 1 })
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- s.shutdown(ctx) }()
	good.WantClose("the good one has its goodbye", 1001)
	silent.WantCloseFrame("the silent one is told", 1001)
	cancel()
	if err := clienttest.Receive(t, "Shutdown to return", ended); !errors.Is(err, context.Canceled) {
		t.Errorf("Shutdown: %v, want the context's error", err)
	}
	if _, err := blocked.Conn.Write([]byte(clienttest.Text("anybody?"))); err == nil {
		blocked.Texts() // reads up to the reset
	}
}

// A load balancer needs time to notice that the server is not ready: until then, clients are accepted.
func TestShutdownAcceptsUntilItsDelayIsOver(t *testing.T) {
	t.Parallel()
	s := start(t, Config{DrainDelay: time.Hour})
	internal := s.internal("").URL
	before := clienttest.Dial(t, s, "/ws/x")
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- s.shutdown(ctx) }()
	clienttest.WaitFor(t, "the shutdown to begin", s.Draining)
	if status, _, text := askHTTP(t, "GET", internal+"/readyz", nil); status != http.StatusServiceUnavailable || strings.TrimSpace(text) != "not ready: draining" {
		t.Errorf("/readyz: %d %q", status, text)
	}
	if status, _, _ := askHTTP(t, "GET", internal+"/healthz", nil); status != http.StatusOK {
		t.Errorf("/healthz: %d", status)
	}
	if s.Ready() {
		t.Error("it says that it is ready")
	}
	during := clienttest.Dial(t, s, "/ws/x")
	s.publish("x", "during")
	for _, c := range []*clienttest.Client{before, during} {
		c.WantText("it is served", "during")
	}
	if _, _, text := askHTTP(t, "GET", internal+"/metrics", nil); !strings.Contains(text, "\nsluice_draining 1\n") || !strings.Contains(text, "\nsluice_drain_connections 0\n") {
		t.Error("the metrics do not say that it drains")
	}
	if _, _, text := askHTTP(t, "POST", internal+"/api/info", strings.NewReader("{}")); !strings.Contains(text, `"draining":true`) {
		t.Errorf("info: %s", text)
	}
	if d := s.Drain(); d != (Drain{Open: 2}) {
		t.Errorf("before it closes connections: %+v", d)
	}
	cancel() // there is no more time
	if err := clienttest.Receive(t, "Shutdown to return", ended); !errors.Is(err, context.Canceled) {
		t.Errorf("Shutdown: %v, want the context's error", err)
	}
}

// Clients that were told to come back do not leave, and others do.
func TestClientsThatComeBackDoNotLeave(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Loops: 1})
	const members = 8
	var all []*clienttest.Client
	for range members {
		c := member(t, s, "")
		c.Joins("x", `"join_leave":true`)
		all = append(all, c)
	}
	for i, c := range all { // each sees those that come after it, and itself
		for range members - i {
			c.WantTold("a join", `{"push":{"channel":"x","join":{"info":{"user":"","client":"ID"}}}}`)
		}
	}
	s.Clock.Stop()
	done := make(chan error, 1)
	go s.once.Do(func() { // in place of shutdown
		ctx, cancel := context.WithTimeout(context.Background(), clienttest.Patience)
		defer cancel()
		done <- s.Shutdown(ctx)
	})
	clienttest.WaitFor(t, "some to be told", func() bool { return s.Drain().Total > 0 && s.Drain().Open < members })
	if got := s.snapshot(); got.DrainTotal != members || got.Loops[0].Closing == 0 {
		t.Errorf("the metrics say that %d of %d connections are closing", got.Loops[0].Closing, got.DrainTotal)
	}
	if _, _, err := s.set.Review(t.Context(), nil); err != nil { // the turn that has told some is over, and others come when time passes
		t.Fatal(err)
	}
	s.publish("x", "marker")
	var open []*clienttest.Client
	for _, c := range all {
		switch op, text, err := c.Next(); {
		case err != nil:
			t.Fatal(err)
		case op == ws.OpClose:
			c.IsClose("it comes back", op, text, 3001)
			c.EndClose("it comes back")
		case strings.Contains(text, "marker"):
			open = append(open, c)
		default:
			t.Errorf("got %s", text)
		}
	}
	if len(open) < 2 || len(open) == members {
		t.Fatalf("%d of %d are open", len(open), members)
	}
	clienttest.WaitFor(t, "the others to be gone", func() bool { return s.Drain().Closing == 0 })
	open[0].Does(`{"id":3,"unsubscribe":{"channel":"x"}}`)
	for _, c := range open[1:] {
		c.WantTold("the leave of one that leaves", `{"push":{"channel":"x","leave":{"info":{"user":"","client":"ID"}}}}`)
	}
	open[0].WantTold("it leaves", `{"id":3,"unsubscribe":{}}`)
	s.Clock.Start()
	for _, c := range open {
		c.WantClose("it is told to come back", 3001)
	}
	if err := clienttest.Receive(t, "Shutdown to return", done); err != nil {
		t.Errorf("Shutdown: %v", err)
	}
}

func TestShutdownWhilePublishersWait(t *testing.T) {
	t.Parallel()
	s := start(t, Config{MaxMessage: 1000, ChannelBuffer: 4 << 10})
	a, b := clienttest.Dial(t, s, "/ws/x"), clienttest.Dial(t, s, "/ws/x")
	release := s.Hold(s.LoopOf(b))
	for _, p := range clienttest.Numbered(20, 500) {
		a.Send(clienttest.Text(p))
	}
	clienttest.WaitFor(t, "the client to be parked", func() bool { return s.PushBacks() > 0 })
	ctx, cancel := context.WithTimeout(context.Background(), clienttest.Patience)
	defer cancel()
	pushedBack := make(chan error, 1)
	go func() {
		_, err := s.Publish(ctx, Message{Channel: "x", Payload: []byte("from the API")})
		pushedBack <- err
	}()
	clienttest.WaitFor(t, "the API to be parked", func() bool { return s.publisher.PushedBack.Load() > 0 })
	ended := make(chan error, 1)
	go func() { ended <- s.shutdown(ctx) }()
	clienttest.WaitFor(t, "the shutdown to begin", func() bool { return !s.Ready() })
	release()
	for _, c := range []*clienttest.Client{a, b} {
		if got, code, err := c.Texts(); code != 1001 {
			t.Errorf("after %d texts: close code %d, %v; want 1001", len(got), code, err)
		}
		c.EndClose("told")
	}
	if err := clienttest.Receive(t, "Shutdown to return", ended); err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	if err := clienttest.Receive(t, "Publish to return", pushedBack); err != nil {
		t.Errorf("Publish while its channel goes: %v", err)
	}
}

func TestShutdownDuringAStorm(t *testing.T) {
	clienttest.PlainOnly(t)
	t.Parallel()
	for range clienttest.Scaled(5, 2) {
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
					nc, err := net.DialTimeout("tcp", s.addr, clienttest.Patience)
					if err != nil {
						continue
					}
					nc.SetDeadline(time.Now().Add(clienttest.Patience))                  // ignored: then the calls fail
					nc.Write([]byte(clienttest.UpgradeTo("/ws") + clienttest.Text("x"))) // ignored: the server may be gone
					nc.Read(make([]byte, 10))                                            // ignored: likewise
					nc.Close()                                                           // ignored: likewise
				}
			})
		}
		clienttest.WaitFor(t, "the storm to blow", func() bool { return s.Received() > 100 })
		ctx, cancel := context.WithTimeout(context.Background(), clienttest.Patience)
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
	clienttest.PlainOnly(t)
	s := start(t, Config{History: -1})
	clienttest.Dial(t, s, "/ws").Settle(s) // whatever is made at the first use
	s.wantConnections(1)
	leaks := goleak.IgnoreCurrent()
	before := clienttest.Descriptors()
	total, workers := clienttest.Scaled(10_000, 1_000), 32
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
	clienttest.WaitFor(t, "the handshakes to end", func() bool { return s.handshakes() == 0 })
	s.Quiet()
	for fd, what := range clienttest.Opened(before, clienttest.Descriptors()) {
		t.Errorf("descriptor %d (%s) is left over", fd, what)
	}
	if err := leaktest.Goroutines(leaks); err != nil {
		t.Error(err)
	}
	if n := s.space.Channels(); n != 1 {
		t.Errorf("%d channels are left, want the one in use", n)
	}
	s.Do(func(l *loop.Loop) {
		if n := int(l.Stats().Connections.Load()) + l.Census().Subscriptions; n > 2 {
			t.Errorf("loop %d keeps %d connections and subscriptions", l.Index(), n)
		}
	})
	clean, reset := s.ClosedFor(looptest.Reason("client_close")), s.ClosedFor(looptest.Reason("reset"))+s.ClosedFor(looptest.Reason("client_gone"))
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
	nc, err := net.DialTimeout("tcp", s.addr, clienttest.Patience)
	if err != nil {
		t.Errorf("client %d: %v", i, err)
		return
	}
	defer nc.Close()
	c := &clienttest.Client{T: t, Conn: nc.(*net.TCPConn)}
	c.Conn.SetDeadline(time.Now().Add(clienttest.Patience)) // ignored: then the calls fail
	wire := clienttest.UpgradeTo(fmt.Sprint("/ws/", i)) + clienttest.Text("here")
	if i%2 == 0 {
		wire += clienttest.Closing(1000, "")
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
		c.Vanish()
		return
	}
	nc.Read(buf) // ignored: the server's FIN
}
