package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"sluice/gateway/clienttest"
	"sluice/gateway/looptest"
)

// server is a Server behind a listener on loopback.
type server struct {
	*Server
	looptest.Gauges
	addr    string
	secured bool         // it speaks TLS there
	seconds *time.Ticker // the loops'
	served  chan error
	once    sync.Once
}

// ofTests returns cfg with what servers of tests have.
func ofTests(cfg Config) Config {
	if cfg.Loops == 0 {
		cfg.Loops = 2
	}
	if *clienttest.Deflated {
		cfg.Compression, cfg.CompressionMin = CompressionShared, 1
	}
	return cfg
}

// Reload replaces the configuration of a server that start has started.
func (s *server) Reload(next Config, how ReloadOptions) (Reloaded, error) {
	return s.Server.Reload(ofTests(next), how)
}

// start serves cfg until the test ends, and then sees that nothing is left of
// its clients. No second passes for the loops before that, unless the test says so.
func start(t testing.TB, cfg Config) *server {
	t.Helper()
	return startWith(t, cfg, parts{})
}

// startWith is start with parts of the test's own. Those that are nil are a server's.
func startWith(t testing.TB, cfg Config, with parts) *server {
	t.Helper()
	var seconds *time.Ticker
	if with.seconds == nil {
		seconds = time.NewTicker(time.Hour)
		with.seconds = seconds.C
	}
	cfg = ofTests(cfg)
	clock := new(clienttest.Clock)
	with.clock = clock.Now
	srv, err := newServer(cfg, with)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{Server: srv, Gauges: looptest.Gauges{T: t, Loops: srv.set.Loops(), Clock: clock}, addr: l.Addr().String(), served: make(chan error, 1), seconds: seconds}
	serve := srv.Serve
	if *clienttest.OverTLS {
		s.secured = true
		serve = func(l net.Listener) error { return srv.ServeTLS(l, clienttest.TestTLS()) }
	}
	go func() { s.served <- serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), clienttest.Patience)
		defer cancel()
		if err := s.shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
	})
	clienttest.WaitFor(t, "the server to be ready", func() bool {
		select {
		case err := <-s.served:
			t.Fatalf("Serve: %v", err)
		default:
		}
		return srv.Ready()
	})
	return s
}

func (s *server) Endpoint() clienttest.Endpoint {
	return clienttest.Endpoint{Addr: s.addr, Secured: s.secured, Quiet: s.Quiet}
}

// shutdown ends the server and sees that nothing is left of its clients. A
// second call does nothing.
func (s *server) shutdown(ctx context.Context) (err error) {
	s.T.Helper()
	s.once.Do(func() {
		s.Clock.Start()
		if s.seconds != nil { // connections that do not end in order end by their deadlines
			s.seconds.Reset(time.Second)
		}
		err = s.Shutdown(ctx)
		if got := clienttest.Receive(s.T, "Serve to return", s.served); !errors.Is(got, ErrServerClosed) {
			s.T.Errorf("Serve returned %v", got)
		}
		s.wantNothingLeft()
	})
	return err
}

// wantNothingLeft is the census inside the process: no connection, log or buffer
// outlives its clients, and no channel its history.
func (s *server) wantNothingLeft() {
	s.T.Helper()
	for range 8 { // once round all shards
		s.space.Trim(time.Now().Add(s.cfg.HistoryTTL + time.Second).UnixMilli())
	}
	for what, n := range map[string]int{
		"connections": int(s.connections()), "handshakes": s.handshakes(), "channels": s.space.Channels(), "bytes of logs": s.budget.Used(), "bytes of histories": s.historyBudget.Used(),
		"subscribers in the presence table": s.present.Len(),
	} {
		if n != 0 {
			s.T.Errorf("%d %s are left over", n, what)
		}
	}
	s.WantLoopsEmpty()
}

// publish publishes text from outside.
func (s *server) publish(name, text string) Receipt {
	s.T.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), clienttest.Patience)
	defer cancel()
	r, err := s.Publish(ctx, Message{Channel: name, Payload: []byte(text)})
	if err != nil {
		s.T.Fatalf("publish into %q: %v", name, err)
	}
	return r
}

// counted returns how many handshakes came to what has this label.
func (s *server) counted(label string) uint64 {
	s.T.Helper()
	n, ok := s.edge.Counts().Outcomes[label]
	if !ok {
		s.T.Fatalf("no handshake can come to %s", label)
	}
	return n
}

// wantOutcome waits until so many requests have come to something.
func (s *server) wantOutcome(outcome string, n uint64) {
	s.T.Helper()
	clienttest.WaitFor(s.T, outcome+" to be counted", func() bool { return s.counted(outcome) >= n })
	if got := s.counted(outcome); got != n {
		s.T.Errorf("%s is counted %d times, want %d", outcome, got, n)
	}
}

// handshakes returns how many are under way.
func (s *server) handshakes() int { return s.edge.Counts().Handshakes }

// connections returns how many there are, those on their way to a loop included.
func (s *server) connections() int64 { return s.edge.Counts().Connections }

// wantConnections waits until so many connections are there.
func (s *server) wantConnections(n int64) {
	s.T.Helper()
	clienttest.WaitFor(s.T, fmt.Sprintf("%d connections to be there", n), func() bool { return s.connections() == n })
}
