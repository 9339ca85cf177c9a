package gateway

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"sluice/gateway/edge/handshake"

	"go.uber.org/goleak"
)

// patience bounds every wait for something that must happen.
const patience = 20 * time.Second

// TestMain fails when a goroutine or a descriptor is left over. As the child of
// TestNoDescriptorLeft it is a server instead.
func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		os.Exit(serveWithFewDescriptors())
	}
	flag.Parse()
	if flag.Lookup("test.parallel").Value.String() == strconv.Itoa(defaultParallel()) {
		// Parallel tests wait for time to pass and hardly compute.
		flag.Set("test.parallel", "16") // ignored: then they take longer
	}
	// The Go runtime opens its own poller at the first use and keeps it.
	if ln, err := net.Listen("tcp", "127.0.0.1:0"); err == nil {
		ln.Close() // ignored: nobody knew of it
	}
	before := descriptors()
	status := m.Run()
	if status == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			status = 1
		}
		for fd, what := range opened(before, descriptors()) {
			fmt.Fprintf(os.Stderr, "descriptor %d (%s) is left over\n", fd, what)
			status = 1
		}
	}
	os.Exit(status)
}

// defaultParallel is what the testing package takes where it is told nothing.
func defaultParallel() int {
	n, _ := strconv.Atoi(flag.Lookup("test.parallel").DefValue) // ignored: 0 equals no value
	return n
}

// descriptors is a census of /proc/self/fd: what each number stands for.
func descriptors() map[int]string {
	names, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		panic(err)
	}
	all := make(map[int]string)
	for _, name := range names {
		fd, _ := strconv.Atoi(filepath.Base(name))      // ignored: they are numbers
		if what, err := os.Readlink(name); err == nil { // else: the descriptor that Glob itself used
			all[fd] = what
		}
	}
	return all
}

// opened gives what after has and before has not.
func opened(before, after map[int]string) map[int]string {
	diff := maps.Clone(after)
	maps.DeleteFunc(diff, func(fd int, what string) bool { return before[fd] == what })
	return diff
}

// scaled gives the size of a test: full, or part of it where the race detector
// or -short asks for less.
func scaled(full, part int) int {
	if raceEnabled || testing.Short() {
		return part
	}
	return full
}

// waitFor waits until a condition holds. It looks often, because most
// conditions hold at once, and fails the test when patience ends.
func waitFor(t testing.TB, why string, holds func() bool) {
	t.Helper()
	end := time.Now().Add(patience)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !holds() {
		if time.Now().After(end) {
			t.Fatalf("waited %v for %s", patience, why)
		}
		<-tick.C
	}
}

// receive waits for a value.
func receive[T any](t testing.TB, why string, from <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-from:
	case <-time.After(patience):
		t.Fatalf("waited %v for %s", patience, why)
	}
	return v
}

// server is a Server behind a listener on loopback.
type server struct {
	*Server
	t       testing.TB
	addr    string
	secured bool // it speaks TLS there
	served  chan error
	once    sync.Once
}

// With -tls the clients of the tests speak TLS: what they see must be the same.
var overTLS = flag.Bool("tls", false, "let the tests' clients speak TLS")

// start serves cfg until the test ends, and then sees that nothing is left of
// its clients.
func start(t testing.TB, cfg Config) *server {
	t.Helper()
	return startTicked(t, cfg, time.Tick(time.Second))
}

// startTicked is start with a clock for the watchdog.
func startTicked(t testing.TB, cfg Config, seconds <-chan time.Time) *server {
	t.Helper()
	if cfg.Loops == 0 {
		cfg.Loops = 2
	}
	srv, err := newServer(cfg, seconds)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{Server: srv, t: t, addr: l.Addr().String(), served: make(chan error, 1)}
	serve := srv.Serve
	if *overTLS {
		s.secured = true
		serve = func(l net.Listener) error { return srv.ServeTLS(l, testTLS()) }
	}
	go func() { s.served <- serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := s.shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
	})
	waitFor(t, "the server to be ready", func() bool {
		select {
		case err := <-s.served:
			t.Fatalf("Serve: %v", err)
		default:
		}
		return srv.Ready()
	})
	return s
}

// shutdown ends the server and sees that nothing is left of its clients. A
// second call does nothing.
func (s *server) shutdown(ctx context.Context) (err error) {
	s.t.Helper()
	s.once.Do(func() {
		err = s.Shutdown(ctx)
		if got := receive(s.t, "Serve to return", s.served); !errors.Is(got, ErrServerClosed) {
			s.t.Errorf("Serve returned %v", got)
		}
		s.wantNothingLeft()
	})
	return err
}

// wantNothingLeft is the census inside the process: no connection, log or buffer
// outlives its clients, and no channel its history.
func (s *server) wantNothingLeft() {
	s.t.Helper()
	for range 8 { // once round all shards
		s.space.Trim(time.Now().Add(s.cfg.HistoryTTL + time.Second).UnixMilli())
	}
	for what, n := range map[string]int{
		"connections": int(s.connections.Load()), "channels": s.space.Channels(), "bytes of logs": s.budget.Used(), "bytes of histories": s.historyBudget.Used(),
		"subscribers in the presence table": s.present.Len(),
	} {
		if n != 0 {
			s.t.Errorf("%d %s are left over", n, what)
		}
	}
	for _, l := range s.loop {
		if st := &l.stats; st.connections.Load() != 0 || st.blocked.Load() != 0 || st.held.Load() != 0 {
			s.t.Errorf("loop %d keeps %d connections, %d of them blocked, and %d bytes",
				l.index, st.connections.Load(), st.blocked.Load(), st.held.Load())
		}
		if n := len(l.users); n != 0 {
			s.t.Errorf("loop %d keeps %d users", l.index, n)
		}
		if len(l.conns)+len(l.due)+len(l.groups)+len(l.dead) != 0 { // the loop has ended: nobody else looks
			s.t.Errorf("loop %d keeps %d connections, %d dues, %d groups and %d dead", l.index, len(l.conns), len(l.due), len(l.groups), len(l.dead))
		}
	}
}

// do runs f on every loop, one after the other, and waits for it.
func (s *server) do(f func(*loop)) {
	s.t.Helper()
	for _, l := range s.loop {
		done := make(chan struct{})
		if !l.post(call(func(l *loop) { defer close(done); f(l) })) {
			s.t.Fatal("the loop has ended")
		}
		receive(s.t, "the loop to run a function", done)
	}
}

// pass lets so many seconds pass for the loops, on top of those that really do.
func (s *server) pass(seconds int) {
	s.t.Helper()
	for range seconds {
		s.do(func(l *loop) {
			l.lastTick = time.Now().Add(-time.Second)
			tick{}.deliver(l)
		})
		s.quiet()
	}
}

// quiet waits until the loops have done what they know of.
func (s *server) quiet() {
	s.t.Helper()
	waitFor(s.t, "the loops to be quiet", func() bool {
		quiet := true
		s.do(func(l *loop) {
			l.inbox.mu.Lock()
			defer l.inbox.mu.Unlock()
			if len(l.inbox.queue)+len(l.sweeps)+len(l.delayed)+len(l.catching)+len(l.dead) > 0 || l.checked < len(l.due) {
				quiet = false
			}
		})
		return quiet
	})
}

// hold keeps a loop busy until the function it gives is called.
func (s *server) hold(index int) (release func()) {
	s.t.Helper()
	held, free := make(chan struct{}), make(chan struct{})
	s.loop[index].post(call(func(*loop) { close(held); <-free }))
	receive(s.t, "the loop to be held", held)
	release = sync.OnceFunc(func() { close(free) })
	s.t.Cleanup(release)
	return release
}

// publish publishes text from outside.
func (s *server) publish(name, text string) Receipt {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r, err := s.Publish(ctx, Message{Channel: name, Payload: []byte(text)})
	if err != nil {
		s.t.Fatalf("publish into %q: %v", name, err)
	}
	return r
}

// sum adds a counter of all loops up.
func (s *server) sum(counter func(*loopStats) uint64) (n uint64) {
	for _, l := range s.loop {
		n += counter(&l.stats)
	}
	return n
}

// counted returns how many handshakes came to what has this label.
func (s *server) counted(label string) uint64 {
	s.t.Helper()
	for _, o := range handshake.Outcomes() {
		if o.String() == label {
			return s.stats.outcomes[o].Load()
		}
	}
	s.t.Fatalf("no handshake can come to %s", label)
	return 0
}

func (s *server) closedFor(why reason) uint64 {
	return s.sum(func(st *loopStats) uint64 { return st.closed[why].Load() })
}

func (s *server) deliveries() uint64 {
	return s.sum(func(st *loopStats) uint64 { return st.deliveries.Load() })
}

func (s *server) blocked() uint64 {
	return s.sum(func(st *loopStats) uint64 { return uint64(st.blocked.Load()) })
}

func (s *server) pushBacks() uint64 {
	return s.sum(func(st *loopStats) uint64 { return st.pushBacks.Load() })
}

func (s *server) received() uint64 {
	return s.sum(func(st *loopStats) uint64 { return st.messages.Load() })
}

func (s *server) held() (bytes int64) {
	for _, l := range s.loop {
		bytes += l.stats.held.Load()
	}
	return bytes
}

// wantClosed waits until so many connections have ended for a reason.
func (s *server) wantClosed(why reason, n uint64) {
	s.t.Helper()
	waitFor(s.t, fmt.Sprintf("%d connections to end for %v", n, why), func() bool { return s.closedFor(why) >= n })
	if got := s.closedFor(why); got != n {
		s.t.Errorf("%d connections ended for %v, want %d", got, why, n)
	}
}

// wantClosing waits until so many connections are being closed for a reason.
func (s *server) wantClosing(why reason, n int) {
	s.t.Helper()
	waitFor(s.t, fmt.Sprintf("%d connections to be closed for %v", n, why), func() bool { return s.closing(why) == n })
}

func (s *server) closing(why reason) (n int) {
	s.t.Helper()
	s.do(func(l *loop) {
		for _, c := range l.conns {
			if c.phase != phaseOpen && c.reason == why {
				n++
			}
		}
	})
	return n
}

// wantConnections waits until so many connections are there.
func (s *server) wantConnections(n int64) {
	s.t.Helper()
	waitFor(s.t, fmt.Sprintf("%d connections to be there", n), func() bool { return s.connections.Load() == n })
}
