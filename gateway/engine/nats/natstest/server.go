// Package natstest has NATS servers for tests: in this process, alone or as a cluster, and as a
// child process, which can be killed and stopped. They listen on loopback addresses of their own,
// keep their data in directories of the test, and end with it.
//
// It is a separate package because tests of several packages start servers, and because nothing but
// tests and the embedded server imports NATS's server.
package natstest

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	natsgo "github.com/nats-io/nats.go"
)

// patience bounds every wait: tests run on busy machines.
const patience = 30 * time.Second

// Options are what servers are started with.
type Options struct {
	JetStream bool
	// Cuttable: the servers of a cluster are connected in a way that Cluster.Cut can cut.
	Cuttable bool
	// Tune changes the server's own options before it starts; nil for nothing.
	Tune func(*natsserver.Options)
}

// Server is a NATS server in this process.
type Server struct {
	t    testing.TB
	opts *natsserver.Options
	s    *natsserver.Server // nil while stopped
}

// Start starts a server that is no part of a cluster.
func Start(t testing.TB, o Options) *Server {
	t.Helper()
	s := newServer(t, o, address())
	s.Restart()
	return s
}

// newServer returns a server that is not started yet.
func newServer(t testing.TB, o Options, host string) *Server {
	opts := &natsserver.Options{
		ServerName: "natstest-" + strconv.FormatUint(rand.Uint64(), 36),
		Host:       host, Port: freePort(t, host), NoLog: true, NoSigs: true, MaxControlLine: 4096,
		LameDuckDuration: time.Second, LameDuckGracePeriod: 100 * time.Millisecond,
	}
	if o.JetStream {
		opts.JetStream, opts.StoreDir = true, Dir(t)
		opts.JetStreamMaxStore, opts.JetStreamMaxMemory = 10<<30, 1<<20
	}
	if o.Tune != nil {
		o.Tune(opts)
	}
	s := &Server{t: t, opts: opts}
	t.Cleanup(s.Stop)
	return s
}

// Restart starts the server again where it listened before, with the data that it had.
func (s *Server) Restart() {
	s.t.Helper()
	s.begin()
	s.ready()
}

// begin starts the server and does not wait for it. A process that is being started has the files of its parent for a
// moment, and may so have the port; the server itself does not report that it cannot listen.
func (s *Server) begin() {
	s.t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		server, err := natsserver.NewServer(s.opts.Clone()) // Clone: options must not be used twice
		if err != nil {
			s.t.Fatalf("nats-server: %v", err)
		}
		server.Start()
		if server.Addr() != nil || time.Now().After(end) {
			s.s = server
			return
		}
		server.Shutdown()
		server.WaitForShutdown()
	}
}

func (s *Server) ready() {
	s.t.Helper()
	if !s.s.ReadyForConnections(patience) {
		s.t.Fatalf("nats-server is not ready after %v", patience)
	}
}

// Stop stops the server, and waits until it has ended.
func (s *Server) Stop() {
	if s.s != nil {
		s.s.Shutdown()
		s.s.WaitForShutdown()
		s.s = nil
	}
}

// Leave has the server leave in good order, in lame duck mode, and waits until it has ended: it hands over
// what it leads, and has its clients connect to other servers one by one.
func (s *Server) Leave() {
	s.s.LameDuckShutdown()
	s.s.WaitForShutdown()
	s.s = nil
}

// Running reports whether the server is not stopped.
func (s *Server) Running() bool { return s.s != nil }

// SlowConsumers returns how many connections the server has closed because too much was left unread.
func (s *Server) SlowConsumers() int64 { return s.s.NumSlowConsumers() }

// URL returns where the server listens, or will listen again.
func (s *Server) URL() string {
	return fmt.Sprintf("nats://%s", net.JoinHostPort(s.opts.Host, strconv.Itoa(s.opts.Port)))
}

// InProcess returns the server for connections without a socket. It must run.
func (s *Server) InProcess() natsgo.InProcessConnProvider { return s.s }

// Server returns NATS's own server; nil while it is stopped.
func (s *Server) Server() *natsserver.Server { return s.s }

// Connect returns a connection to the server that ends with the test.
func (s *Server) Connect(t testing.TB, options ...natsgo.Option) *natsgo.Conn {
	t.Helper()
	return Connect(t, s.URL(), options...)
}

// Connect returns a connection that ends with the test.
func Connect(t testing.TB, url string, options ...natsgo.Option) *natsgo.Conn {
	t.Helper()
	nc, err := natsgo.Connect(url, append([]natsgo.Option{natsgo.Timeout(patience), natsgo.MaxReconnects(-1), natsgo.ReconnectWait(50 * time.Millisecond)}, options...)...)
	if err != nil {
		t.Fatalf("connect to %s: %v", url, err)
	}
	t.Cleanup(func() { Close(nc) })
	return nc
}

// Close closes a connection, and waits until its goroutines have ended.
func Close(nc *natsgo.Conn) {
	closed := make(chan struct{})
	nc.SetClosedHandler(func(*natsgo.Conn) { close(closed) })
	if nc.IsClosed() {
		return
	}
	nc.Close()
	<-closed
}

// address returns a random loopback address, on which nobody else takes ports: a server that is
// stopped finds its own free when it starts again.
func address() string {
	return net.IPv4(127, byte(1+rand.IntN(254)), byte(rand.IntN(256)), byte(1+rand.IntN(254))).String()
}

// given has the addresses that freePort has returned. The kernel returns a port again as long as nobody
// listens there, and the servers of a cluster begin to listen when all of them have their ports.
var given sync.Map

// freePort returns a port that is free on a host, and that no other server has.
func freePort(t testing.TB, host string) int {
	t.Helper()
	for {
		l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
		if err != nil {
			t.Fatal(err)
		}
		at := l.Addr().(*net.TCPAddr)
		l.Close() // ignored: it was open
		if _, known := given.LoadOrStore(at.String(), true); !known {
			return at.Port
		}
	}
}
