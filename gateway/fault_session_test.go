//go:build faults

package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/gateway/channel"
	"sluice/gateway/clienttest"
	"sluice/gateway/engine"
	"sluice/gateway/engine/local"
	"sluice/gateway/looptest"
	"sluice/gateway/presence"
)

// faultRun is one run of the script: a server, its clients, and the ledger of what was
// published.
type faultRun struct {
	t      *testing.T
	server *server
	socket string // path of the server's second listener
	inject *injection
	actors []*actor

	order sync.Mutex // held while something is published: the ledger has the order of the logs

	mu      sync.Mutex
	changed sync.Cond
	late    bool                // guarded by mu: patience is over
	truth   map[string][]string // guarded by mu: of each channel, in order
	epoch   string              // guarded by mu: of the channel x
}

// note changes what is guarded by mu.
func (s *faultRun) note(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
	s.changed.Broadcast()
}

// await waits for a condition on what is guarded by mu. A session that hangs fails.
func (s *faultRun) await(why string, holds func() bool) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if holds() {
		return
	}
	s.late = false
	timer := time.AfterFunc(clienttest.Patience, func() { s.note(func() { s.late = true }) })
	defer timer.Stop()
	for !holds() {
		if s.late {
			s.t.Fatalf("waited %v for %s", clienttest.Patience, why)
		}
		s.changed.Wait()
	}
}

// published counts what was published to a channel.
func (s *faultRun) published(name string) int {
	s.order.Lock()
	defer s.order.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.truth[name])
}

// sync waits until everybody who listens has everything.
func (s *faultRun) sync() {
	s.t.Helper()
	for _, a := range s.actors {
		select {
		case <-a.reads:
		default:
			continue
		}
		s.await(a.name+" to have everything", func() bool {
			truth := s.truth[a.channel]
			if a.noEcho {
				for len(truth) > 0 && strings.HasPrefix(truth[len(truth)-1], a.name+"-") {
					truth = truth[:len(truth)-1]
				}
			}
			if a.end != nil || a.done > 0 || a.format == "" || a.format == "echo" || len(truth) <= a.from[1] {
				return true
			}
			return len(a.news) > 0 && a.news[len(a.news)-1].data == truth[len(truth)-1]
		})
	}
}

// recorder is the engine with the ledger, and with the faults of publishing.
type recorder struct {
	engine.Engine
	s *faultRun
}

func (r recorder) Publish(name string, ch *channel.Channel, p *channel.Publication, scratch *channel.Scratch, c engine.Caller) (channel.Receipt, error) {
	r.s.order.Lock()
	defer r.s.order.Unlock()
	receipt, err := r.s.inject.publish(r.s, c, func() (channel.Receipt, error) {
		return r.Engine.Publish(name, ch, p, scratch, c)
	})
	if err == nil && ch != nil && p.Kind == channel.KindMessage {
		data := string(p.Payload)
		r.s.note(func() { r.s.truth[name] = append(r.s.truth[name], data) })
	}
	return receipt, err
}

// run plays the script once.
func run(t *testing.T, in *injection) {
	descriptorsBefore, goroutines := clienttest.Descriptors(), runtime.NumGoroutine()
	s := &faultRun{t: t, inject: in, truth: make(map[string][]string)}
	s.changed.L = &s.mu
	s.serve()
	in.begin()
	defer in.end()
	s.play()

	for _, a := range s.actors {
		if a.done == 0 {
			a.done = len(s.truth[a.channel])
		}
		if !a.leaves {
			if a.wantClose = 1001; a.centrifugo() {
				a.wantClose = 3001
			}
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), clienttest.Patience)
	defer cancel()
	if err := s.server.shutdown(ctx); err != nil {
		t.Errorf("shutdown: %v", err)
	}
	for _, a := range s.actors {
		s.await(a.name+" to end", func() bool { return a.end != nil })
	}
	in.end()
	harmed := 0
	for _, a := range s.actors {
		hit := in.harms(a)
		if hit {
			harmed++
		}
		if err := a.faults(hit); err != nil {
			t.Error(err)
		}
	}
	if harmed > 1 {
		t.Errorf("%d clients were harmed by one fault", harmed)
	}
	clienttest.WaitFor(t, "all goroutines to end", func() bool { return runtime.NumGoroutine() <= goroutines })
	if left := clienttest.Opened(descriptorsBefore, clienttest.Descriptors()); len(left) > 0 {
		t.Errorf("descriptors are left over: %v", left)
	}
}

// serve starts the server, on TCP and on a Unix socket, with the ledger before its
// engine.
func (s *faultRun) serve() {
	t := s.t
	clock := new(clienttest.Clock)
	srv, err := newServer(Config{Loops: 2, SendBuffer: 16 << 10, MaxMessage: 8 << 10}, parts{clock.Now, time.Tick(time.Second),
		func(space *channel.Space, present *presence.Table) engine.Engine {
			return recorder{local.Engine{Space: space, Present: present}, s}
		}})
	if err != nil {
		t.Fatal(err)
	}
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.socket = filepath.Join(t.TempDir(), "s")
	unix, err := net.Listen("unix", s.socket)
	if err != nil {
		t.Fatal(err)
	}
	s.server = &server{Server: srv, Gauges: looptest.Gauges{T: t, Loops: srv.set.Loops(), Clock: clock}, addr: tcp.Addr().String(), served: make(chan error, 2)}
	serve := srv.Serve
	if s.inject.secured {
		serve = func(l net.Listener) error { return srv.ServeTLS(l, clienttest.TestTLS()) }
	}
	go func() {
		err := make(chan error, 1)
		go func() { err <- serve(faultyListener{unix.(*net.UnixListener), s.inject}) }()
		s.server.served <- errors.Join(serve(faultyTCP{tcp.(*net.TCPListener), s.inject}), <-err)
	}()
	t.Cleanup(func() { // where the session did not come to its end
		s.inject.end()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		s.server.shutdown(ctx) // ignored: the test has failed
	})
	clienttest.WaitFor(t, "the server to be ready", srv.Ready)
}

// faultyTCP and faultyListener are listeners whose Accept can fail. They show the
// descriptor of the real one.
type faultyTCP struct {
	*net.TCPListener
	inject *injection
}

func (l faultyTCP) Accept() (net.Conn, error) {
	if err := l.inject.accept(); err != nil {
		return nil, err
	}
	return l.TCPListener.Accept()
}

type faultyListener struct {
	*net.UnixListener
	inject *injection
}

func (l faultyListener) Accept() (net.Conn, error) {
	if err := l.inject.accept(); err != nil {
		return nil, err
	}
	return l.UnixListener.Accept()
}

// play is the script. Each step waits for its effect, so that a call has nearly the
// same number in every run.
func (s *faultRun) play() {
	a := s.open(&actor{name: "a", format: "raw", channel: "x"}, "/ws/x")
	b := s.open(&actor{name: "b", format: "raw", channel: "x", noEcho: true}, "/ws/x?echo=off")
	j := s.open(&actor{name: "j", format: "json", channel: "x"}, "/ws/x?format=json&since=now")
	s.open(&actor{name: "stream", format: "stream", channel: "x"}, "/sse/x")
	s.open(&actor{name: "client", format: "client", channel: "x"}, "/connection/websocket")
	s.open(&actor{name: "protobuf", format: "protobuf", channel: "x"}, "/connection/websocket")
	echo := s.open(&actor{name: "echo", format: "echo"}, "/echo")
	stalls := s.open(&actor{name: "stalls", format: "raw", channel: "y", stalls: true}, "/ws/y")
	half := 0
	for i := range 16 {
		a.say(fmt.Sprint("a-", i))
		b.say(fmt.Sprint("b-", i))
		echo.say(fmt.Sprint("echo-", i))
		j.ping()
		s.sync()
		if i == 5 {
			half = s.published("x")
		}
	}
	for _, c := range []*actor{a, echo} {
		c.say(c.name+"-in parts", clienttest.Part(0x01, c.name+"-in "), clienttest.Ping("between"), clienttest.Part(0x00, "par"), clienttest.Part(0x80, "ts"))
	}

	// One comes back, one asks for the newest, one for what is no WebSocket.
	s.mu.Lock()
	epoch := s.epoch
	s.mu.Unlock()
	if epoch != "" { // else j was hit before it was told
		s.open(&actor{name: "back", format: "json", channel: "x", asked: true, from: [2]int{0, half}}, fmt.Sprintf("/ws/x?format=json&since=%s:%d", epoch, half))
	}
	newest := max(s.published("x")-5, 0)
	s.open(&actor{name: "newest", format: "stream", channel: "x", asked: true, from: [2]int{0, newest}}, "/sse/x?history=5")
	s.open(&actor{name: "http", leaves: true}, "/healthz")
	s.sync()

	// Three do not read for a while: live, coming back, and what they sent themselves.
	var last Receipt
	for i := range 8 {
		ctx, cancel := context.WithTimeout(context.Background(), clienttest.Patience)
		var err error
		if last, err = s.server.Publish(ctx, Message{Channel: "y", Payload: []byte(fmt.Sprintf("api-%d", i) + strings.Repeat(".", 8000))}); err != nil {
			s.t.Errorf("publish: %v", err)
		}
		cancel()
	}
	s.drain(stalls)
	s.drain(s.open(&actor{name: "late", format: "json", channel: "y", stalls: true, asked: true}, "/ws/y?format=json&since="+last.Epoch.String()+":0"))
	heavy := s.open(&actor{name: "heavy", format: "echo", stalls: true}, "/echo")
	for i := range 12 {
		m := fmt.Sprint(i) + strings.Repeat(".", 8000)
		heavy.sent = append(heavy.sent, m)
		heavy.raw(clienttest.Text(m))
	}
	s.drain(heavy)
	s.await("heavy to have everything", func() bool { return heavy.end != nil || len(heavy.news) == len(heavy.sent) })

	// The ways to end, by both sides.
	bad := s.open(&actor{name: "bad", format: "raw", channel: "x", leaves: true, wantClose: 1002}, "/ws/x")
	bad.done = s.published("x")
	bad.raw("\xff\x00")
	s.await("bad to end", func() bool { return bad.end != nil })
	fin := s.open(&actor{name: "fin", format: "raw", channel: "x", leaves: true}, "/ws/x")
	fin.say("fin-0")
	s.sync()
	fin.done = s.published("x")
	fin.conn.(interface{ CloseWrite() error }).CloseWrite() // ignored: its connection may have ended
	s.await("fin to end", func() bool { return fin.end != nil })
	gone := s.open(&actor{name: "gone", format: "raw", channel: "x", leaves: true}, "/ws/x")
	gone.say("gone-0")
	s.sync()
	gone.done = s.published("x")
	gone.bare.(*net.TCPConn).SetLinger(0) // ignored: likewise
	gone.bare.Close()                     // ignored: likewise
	a.say("a-last")
	s.sync()
	a.done, a.leaves, a.wantClose = s.published("x"), true, 1000
	a.raw(clienttest.Closing(1000, "bye"))
	s.await("a to end", func() bool { return a.end != nil })
	b.say("b-last")
	s.sync()
}

// drain lets a client read when its socket is full.
func (s *faultRun) drain(a *actor) {
	s.t.Helper()
	clienttest.WaitFor(s.t, a.name+" to be blocked", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.server.Blocked() > 0 || a.end != nil || s.inject.hit(a)
	})
	close(a.reads)
	s.sync()
}

// ping waits for a pong.
func (a *actor) ping() {
	var before int
	a.s.note(func() { before = a.pongs })
	a.raw(clienttest.Ping("p"))
	a.s.await(a.name+"'s pong", func() bool { return a.end != nil || a.pongs > before })
}
