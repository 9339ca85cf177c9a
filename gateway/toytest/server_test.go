package toytest

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"os"
	"testing"
	"time"

	"sluice/gateway/access"
	"sluice/gateway/access/namespace"
	"sluice/gateway/channel"
	"sluice/gateway/clienttest"
	"sluice/gateway/edge"
	"sluice/gateway/edge/handshake"
	"sluice/gateway/engine"
	"sluice/gateway/engine/local"
	"sluice/gateway/loop"
	"sluice/gateway/looptest"
	"sluice/gateway/presence"
	"sluice/poller"
)

func TestMain(m *testing.M) { os.Exit(clienttest.RunTests(m)) }

// server is a gateway that has the toy as its only protocol.
type server struct {
	looptest.Gauges
	edge      *edge.Server
	set       *loop.Set
	space     *channel.Space
	present   *presence.Table
	publisher *engine.Publisher
	endpoint  clienttest.Endpoint
}

func (s *server) Endpoint() clienttest.Endpoint { return s.endpoint }

// serve serves the toy until the test ends, and then sees that nothing is left. change, if it is
// not nil, changes the configuration.
func serve(t testing.TB, change func(*edge.Config, *loop.Config)) *server {
	t.Helper()
	silent := slog.New(slog.DiscardHandler)
	seconds := time.NewTicker(time.Hour) // none passes before the end of the test
	door := edge.Config{
		Live: edge.Live{MaxConnections: 100}, MaxHandshakes: 100, HandshakeTimeout: clienttest.Patience,
		Socket:     poller.Options{SendBuffer: 4 << 10, NotsentLowat: -1, UserTimeout: -1, NoDelay: true},
		MemoryFull: func() bool { return false }, Logger: silent,
	}
	cfg := loop.Config{
		Loops: 2, PingInterval: -1, PongTimeout: time.Second, WriteTimeout: -1, CloseTimeout: 5 * time.Second,
		MessageTimeout: 10 * time.Second, LoopTimeout: -1,
		MaxMessage: 16 << 10, MaxFragments: 64, MaxPending: 64 << 10, HeldMax: 64 << 20, ChannelBuffer: 64 << 10,
		Skips: func(string) bool { return true }, Engine: local.Engine{},
		Failed: func(err error) { t.Error(err) }, Logger: silent, Seconds: seconds.C,
	}
	if change != nil {
		change(&door, &cfg)
	}
	logs := channel.NewBudget(64 << 20)
	s := &server{Gauges: looptest.Gauges{T: t, Clock: new(clienttest.Clock)}, space: channel.NewSpace(cfg.ChannelBuffer, 100, logs), present: presence.New()}
	s.publisher = engine.NewPublisher(cfg.Engine, s.space, cfg.MaxMessage)
	rights := namespace.Options{Presence: true, AllowSubscribeForClient: true, AllowPublishForSubscriber: true}
	p := newToy(access.New(access.Config{Namespaces: namespace.Default(rights)}), s.present)
	door.Routes, cfg.Variants, cfg.Sharing = p.Routes, p.Variants, p.Sharing
	if len(p.Claims()) > 0 {
		t.Fatal("two routes serve a path")
	}
	var err error
	if door.Origins, _, err = handshake.CompileOrigins(nil); err != nil {
		t.Fatal(err)
	}
	s.edge = edge.New(door)
	cfg.Space, cfg.Admission, cfg.Clock = s.space, s.edge, s.Clock.Now
	if s.set, err = loop.New(cfg); err != nil {
		t.Fatal(err)
	}
	s.edge.Start(s.set)
	s.Loops = s.set.Loops()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.endpoint = clienttest.Endpoint{Addr: l.Addr().String(), Secured: *clienttest.OverTLS, Quiet: s.Quiet}
	var secured *tls.Config
	if s.endpoint.Secured {
		secured = loop.Hardened(clienttest.TestTLS())
	}
	served := make(chan error, 1)
	go func() { served <- s.edge.Serve(l, secured) }()
	t.Cleanup(func() {
		clienttest.WaitFor(t, "the edge to serve", s.edge.Ready) // else nobody closes the listener
		s.edge.Close()
		seconds.Reset(time.Second) // connections that do not end in order end by their deadlines
		ctx, cancel := context.WithTimeout(context.Background(), clienttest.Patience)
		defer cancel()
		s.Clock.Start()
		if _, err := s.set.Stop(ctx, 0); err != nil {
			t.Errorf("the loops do not stop: %v", err)
		}
		s.edge.Wait()
		if err := <-served; err != edge.ErrClosed {
			t.Errorf("the edge ended with %v", err)
		}
		s.WantLoopsEmpty()
		for range 8 { // once round all shards
			s.space.Trim(time.Now().Add(time.Hour).UnixMilli())
		}
		for what, n := range map[string]int{
			"connections": s.connections(), "subscribers": s.present.Len(), "channels": s.space.Channels(), "bytes of logs": logs.Used(),
		} {
			if n != 0 {
				t.Errorf("%d %s are left over", n, what)
			}
		}
	})
	return s
}

// connections counts those that are there, and those on their way to a loop.
func (s *server) connections() int { return int(s.edge.Counts().Connections) }

// act does what the server's API asks of a user's connections.
func (s *server) act(user string, what loop.Action) {
	s.T.Helper()
	for _, err := range loop.EachLoop(context.Background(), s.set, func(l *loop.Loop) struct{} {
		l.Act(user, "", nil, what)
		return struct{}{}
	}) {
		if err != nil {
			s.T.Fatal(err)
		}
	}
}

// publish publishes a text from outside.
func (s *server) publish(name, text string) {
	s.T.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), clienttest.Patience)
	defer cancel()
	if _, err := s.publisher.Publish(ctx, 0, name, channel.Publication{Payload: []byte(text)}); err != nil {
		s.T.Fatalf("publish into %q: %v", name, err)
	}
}

// skips counts how often subscribers were too slow.
func (s *server) skips() uint64 {
	return s.Sum(func(st *loop.Stats) uint64 { return st.Skips.Load() })
}
