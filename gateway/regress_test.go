package gateway

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"sluice/gateway/channel"
	"sluice/gateway/engine"

	"golang.org/x/sys/unix"
)

func TestInboxGivesAMessageOnce(t *testing.T) {
	b := inbox{wake: func() {}}
	b.put(stop{})
	if rest := b.close(); len(rest) != 1 {
		t.Errorf("close gave %d messages, want the one that came before", len(rest))
	}
	if again := append(b.take(), b.close()...); len(again) != 0 {
		t.Errorf("%d messages are given once more", len(again))
	}
	if b.put(stop{}) {
		t.Error("a closed inbox takes messages")
	}
}

// engineFunc is an engine that is in the way of another.
type engineFunc func(ch *channel.Channel, c engine.Caller, publish func() (channel.Receipt, error)) (channel.Receipt, error)

// before puts f before the server's engine for those who publish from outside.
func (s *server) before(f engineFunc) { s.engine = interposed{s.engine, f} }

type interposed struct {
	engine.Engine
	f engineFunc
}

func (e interposed) Publish(name string, ch *channel.Channel, p *channel.Publication, s *channel.Scratch, c engine.Caller) (channel.Receipt, error) {
	return e.f(ch, c, func() (channel.Receipt, error) { return e.Engine.Publish(name, ch, p, s, c) })
}

// deaf is a subscriber that never reads.
type deaf struct{}

func (deaf) Notify() {}

// A channel that a publisher did not find, and that is full a moment later, must
// not keep it as a waiter of whom nobody knows.
func TestChannelThatAppearsWhileSomebodyPublishes(t *testing.T) {
	t.Parallel()
	s := start(t, Config{History: -1, Loops: 1})
	var reader channel.Reader
	s.before(func(ch *channel.Channel, _ engine.Caller, publish func() (channel.Receipt, error)) (channel.Receipt, error) {
		if ch != nil {
			t.Error("the channel is there already: the test shows nothing")
		}
		if err := s.space.Join("x", rawFormat{}, deaf{}, &reader); err != nil {
			t.Error(err)
		}
		full, scratch := channel.Publication{Payload: make([]byte, 1000)}, new(channel.Scratch)
		for {
			if _, err := s.space.Find("x").Publish(&full, scratch, nil); err != nil {
				break
			}
		}
		return publish()
	})
	defer func() { s.space.Leave(&reader) }()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	r, err := s.Publish(ctx, Message{Channel: "x", Payload: []byte("text")})
	if err != nil || r != (Receipt{}) {
		t.Errorf("got %+v, %v; want that nobody had the channel", r, err)
	}
}

// An engine may be without room where this node does not have the channel.
func TestEngineMayPushBackWithoutAChannel(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Loops: 1})
	asked := 0
	s.before(func(_ *channel.Channel, c engine.Caller, publish func() (channel.Receipt, error)) (channel.Receipt, error) {
		if asked++; asked > 1 {
			return publish()
		}
		c.Released()
		return channel.Receipt{}, channel.ErrFull
	})
	if s.publish("x", "again"); asked != 2 {
		t.Errorf("the engine was asked %d times, want once more after it had room", asked)
	}
	s.before(func(*channel.Channel, engine.Caller, func() (channel.Receipt, error)) (channel.Receipt, error) {
		return channel.Receipt{}, channel.ErrFull
	})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := s.Publish(ctx, Message{Channel: "x", Payload: []byte("never")}); !errors.Is(err, ErrPushedBack) {
		t.Errorf("got %v, want ErrPushedBack", err)
	}
}

func TestShutdownReturnsAlthoughALoopIsStuck(t *testing.T) {
	t.Parallel()
	stuck, free := make(chan struct{}), make(chan struct{})
	s := start(t, Config{Loops: 1, OnMessage: func(Message) bool { close(stuck); <-free; return false }})
	dial(t, s, "/ws/x").send(text("x"))
	receive(t, "the hook to be called", stuck)
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	ended, begun := make(chan error, 1), time.Now()
	s.once.Do(func() { // the server's end is this test's
		go func() { ended <- s.Shutdown(ctx) }()
	})
	select {
	case err := <-ended:
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Shutdown: %v, want the context's error", err)
		}
		if took := time.Since(begun); took < abortTimeout {
			t.Errorf("the loop had %v to cut everybody off, want %v", took, abortTimeout)
		}
	case <-time.After(abortTimeout + 5*time.Second):
		t.Error("Shutdown has not returned")
	}
	// The loop is not stuck for ever here; what Shutdown gave up is done now.
	close(free)
	s.wantConnections(0)
	s.loops.Wait()
	for _, l := range s.loop {
		if rest := l.inbox.close(); len(rest) != 0 {
			t.Errorf("the loop did not take %d messages", len(rest))
		}
		l.poller.Close()
	}
	s.stage.wait()
	s.web.close()
	receive(t, "Serve to return", s.served)
}

// The net/http server may end while connections wait for it to accept them.
func TestHTTPConnectionsThatNobodyAcceptedAreClosed(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Loops: 1})
	const n = 40
	w := &web{server: s.Server, http: new(http.Server), places: newPlaces(s.Server, n), queue: make(chan net.Conn, n), ended: make(chan struct{})}
	var peers []net.Conn
	for range n {
		conn, peer := net.Pipe()
		peers = append(peers, peer)
		g := &greeting{door: &door{server: s.Server}, conn: conn, buf: headPool.Get().(*[]byte)}
		s.stage.mu.Lock()
		s.stage.taken++
		s.stage.running.Add(1)
		s.stage.mu.Unlock()
		if reject := w.take(g, 0); reject != nil {
			t.Fatal(reject)
		}
	}
	w.close()
	if taken, _ := w.places.count(); len(w.queue) != 0 || taken != 0 {
		t.Errorf("%d connections wait for ever, %d places are taken", len(w.queue), taken)
	}
	for _, peer := range peers {
		peer.SetReadDeadline(time.Now().Add(time.Second)) // ignored: then the read fails
		if _, err := peer.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("got %v, want the end", err)
		}
		peer.Close() // ignored: the test is over
	}
}

func TestShutdownClosesHTTPConnections(t *testing.T) {
	t.Parallel()
	for range 5 {
		s := start(t, Config{})
		var clients sync.WaitGroup
		for range 60 {
			clients.Go(func() {
				c, err := net.DialTimeout("tcp", s.addr, patience)
				if err != nil {
					return // the listener is closed
				}
				defer c.Close()
				c.SetDeadline(time.Now().Add(patience))                        // ignored: then the read fails
				io.WriteString(c, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n") // ignored: likewise
				if _, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) {
					t.Error("a connection is left open")
				}
			})
		}
		waitFor(t, "half of them to come", func() bool { return s.stats.churn.Load() >= 30 })
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		if err := s.shutdown(ctx); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		cancel()
		clients.Wait()
		if n, _ := s.web.places.count(); n+len(s.web.queue) != 0 {
			t.Errorf("%d connections are left over", n)
		}
	}
}

// The kernel reports that there is no descriptor before it looks whether anybody
// waits. The one that is kept for an answer must not be given away then: the next
// client, who comes when there are descriptors again, would be sent away.
func TestSpareDescriptorIsKeptWhileNobodyWaits(t *testing.T) {
	t.Parallel()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"=1")
	cmd.Stderr = os.Stderr
	in, inErr := cmd.StdinPipe()
	out, outErr := cmd.StdoutPipe()
	if err := errors.Join(inErr, outErr, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	next := func() string {
		if !lines.Scan() {
			t.Fatalf("the child has ended: %v", lines.Err())
		}
		return lines.Text()
	}
	counts := func() (exhausted, connections int) {
		io.WriteString(in, "\n") // ignored: then no line comes
		if _, err := fmt.Sscan(next(), &exhausted, new(int), &connections); err != nil {
			t.Fatal(err)
		}
		return exhausted, connections
	}
	calm := func() (exhausted int) { // and accepting waits for clients as usual
		last, since := -1, time.Now()
		waitFor(t, "accepting to succeed", func() bool {
			if exhausted, _ = counts(); exhausted != last {
				last, since = exhausted, time.Now()
			}
			return time.Since(since) > 8*acceptPause
		})
		return exhausted
	}
	s := &server{t: t, addr: next()}
	upgrade := func() (*client, int) {
		c := connect(t, s)
		c.write(upgradeTo("/ws"))
		c.patience()
		resp, err := http.ReadResponse(c.in, nil)
		if err != nil {
			t.Fatal(err)
		}
		return c, resp.StatusCode
	}
	var upgraded []*client
	for {
		c, status := upgrade()
		if status != http.StatusSwitchingProtocols {
			c.vanish()
			break // there is none left
		}
		upgraded = append(upgraded, c)
	}
	before, _ := counts()
	waitFor(t, "accepting to fail while nobody waits", func() bool { n, _ := counts(); return n > before })
	for _, c := range upgraded[:10] {
		c.vanish()
	}
	upgraded = upgraded[10:]
	waitFor(t, "their end to be seen", func() bool { _, n := counts(); return n == len(upgraded) })
	calm()
	for i := range 5 {
		c, status := upgrade()
		if status != http.StatusSwitchingProtocols {
			t.Errorf("client %d after the lack: status %d", i, status)
			continue
		}
		upgraded = append(upgraded, c)
	}
	in.Close() // the child ends
	for _, c := range upgraded {
		c.wantClose("shutdown", 1001)
	}
	for lines.Scan() { // Wait must not come before the end of the output
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("the child: %v", err)
	}
}

func TestConnectionsHaveTheConfiguredSendBuffer(t *testing.T) {
	plainOnly(t)
	t.Parallel()
	const sendBuffer = 16 << 10
	s := start(t, Config{SendBuffer: sendBuffer})
	path := filepath.Join(t.TempDir(), "socket")
	l, err := Listen(context.Background(), "unix", path, sendBuffer)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	t.Cleanup(func() { // before the server's, which ends it
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		s.shutdown(ctx) // ignored: nobody is left
		receive(t, "Serve to return", served)
	})
	for network, address := range map[string]string{"tcp": s.addr, "unix": path} {
		c, err := net.DialTimeout(network, address, patience)
		if err != nil {
			t.Fatal(err)
		}
		c.SetDeadline(time.Now().Add(patience)) // ignored: then the read fails
		io.WriteString(c, upgradeTo("/ws"))     // ignored: likewise
		if resp, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
			t.Fatalf("%s: got %v, %v, want an upgrade", network, resp, err)
		}
		s.do(func(l *loop) {
			for _, c := range l.conns {
				// The kernel doubles it for its own bookkeeping.
				if got, err := unix.GetsockoptInt(c.FD(), unix.SOL_SOCKET, unix.SO_SNDBUF); err != nil || got != 2*sendBuffer {
					t.Errorf("%s: send buffer of %d bytes, %v; want twice %d", network, got, err, sendBuffer)
				}
			}
		})
		c.Close() // ignored: wantConnections sees it
		s.wantConnections(0)
	}
}

// A client that was refused and still is answered may lose its place to another:
// that is not a second outcome.
func TestHandshakesAreCountedOnce(t *testing.T) {
	t.Parallel()
	s := start(t, Config{MaxHandshakes: 1})
	const rounds = 5
	for range rounds {
		c := connect(t, s)
		c.write(upgradeTo("/nothing"))
		c.wantStatus("there is nothing", http.StatusNotFound)
		waitFor(t, "the server to wait for its end", func() bool { return s.waiting() == 1 })
		dial(t, s, "/ws").vanish() // takes the place
	}
	var sum uint64
	for i := range s.stats.outcomes {
		sum += s.stats.outcomes[i].Load()
	}
	if accepted := s.stats.churn.Load(); sum != accepted || accepted != 2*rounds {
		t.Errorf("%d outcomes of %d connections are counted, want %d of each", sum, accepted, 2*rounds)
	}
}
