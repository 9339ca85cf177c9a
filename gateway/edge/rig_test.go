package edge

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sluice/gateway/access"
	"sluice/gateway/centrifugo"
	"sluice/gateway/channel"
	"sluice/gateway/clienttest"
	"sluice/gateway/edge/admit"
	"sluice/gateway/edge/handshake"
	"sluice/gateway/engine"
	"sluice/gateway/engine/local"
	"sluice/gateway/loop"
	"sluice/gateway/looptest"
	"sluice/gateway/presence"
	"sluice/gateway/raw"
	"sluice/gateway/route"
	"sluice/gateway/wire/deflate"
	"sluice/poller"
)

// settings are what tests set of an edge, its loops and its protocols. What is zero has the
// value that a server has by default, but that there are no limits and no pings.
type settings struct {
	Loops            int
	MaxConnections   int
	MaxHandshakes    int
	HandshakeTimeout time.Duration
	Limits           admit.Limits
	CloseRefused     bool
	Origins          []string
	TrustedProxies   []netip.Prefix
	ProxyProtocol    []netip.Prefix
	RemoteListenOnly bool
	Compression      bool

	WSPaths      []string
	Subprotocols []string
	Greeting     string
	RawOff       bool
	Access       access.Config
	PingInterval time.Duration
	PongTimeout  time.Duration
	WriteTimeout time.Duration
	Logger       *slog.Logger
	Demo         Demo
}

// perAddress are the limits for addresses that may have so many connections, this machine's too.
func perAddress(n int) admit.Limits { return admit.Limits{Open: n, LoopbackOpen: true} }

// rig is an edge behind a listener on loopback, with loops and protocols behind it.
type rig struct {
	looptest.Gauges
	edge      *Server
	set       *loop.Set
	space     *channel.Space
	publisher *engine.Publisher
	full      atomic.Bool // the memory is
	addr      string
	secured   bool         // it speaks TLS there
	seconds   *time.Ticker // none passes for the loops until the test ends or says so
	served    chan error
	once      sync.Once

	logs, histories *channel.Budget
	present         *presence.Table
	verifying       sync.WaitGroup
}

// start serves until the test ends, and then sees that nothing is left of the clients.
func start(t testing.TB, cfg settings) *rig {
	t.Helper()
	return startOver(t, cfg, *clienttest.OverTLS)
}

// startTLS is start with a listener that speaks TLS.
func startTLS(t testing.TB, cfg settings) *rig {
	t.Helper()
	return startOver(t, cfg, true)
}

// newRig returns a rig that no listener is served for.
func newRig(cfg settings) (*rig, error) {
	const maxMessage, maxBuffered, channelBuffer, maxPending = 64 << 10, 512 << 20, 256 << 10, 256 << 10
	loops := cmp.Or(cfg.Loops, 2)
	log := cfg.Logger
	if log == nil {
		log = slog.New(slog.NewTextHandler(io.Discard, &slog.HandlerOptions{Level: slog.LevelError + 1}))
	}
	origins, _, err := handshake.CompileOrigins(cfg.Origins)
	if err != nil {
		return nil, err
	}
	s := &rig{Gauges: looptest.Gauges{Clock: new(clienttest.Clock)}, logs: channel.NewBudget(maxBuffered / 8 * 3), histories: channel.NewBudget(maxBuffered / 8), present: presence.New(), seconds: time.NewTicker(time.Hour), served: make(chan error, 1)}
	if cfg.Access.Namespaces == nil {
		cfg.Access.History, cfg.Access.HistoryTTL = cmp.Or(cfg.Access.History, 100), time.Minute
	}
	policy := access.New(cfg.Access)
	s.space = channel.NewSpace(channelBuffer, 100_000, s.logs)
	s.space.KeepHistory(channel.History{Bytes: 1 << 20, Budget: s.histories, Of: func(name string) channel.Keep {
		o := policy.Options(name)
		if o == nil {
			return channel.Keep{}
		}
		return channel.Keep{Count: min(o.HistorySize, math.MaxInt32), TTL: o.HistoryTTL.Milliseconds()}
	}}, time.Now().UnixMilli())
	s.publisher = engine.NewPublisher(local.Engine{}, s.space, maxMessage)
	verifiers := access.NewVerifiers(policy.Tokens(), 4096, func() { loop.PlantGreeting("verify") })
	handshakeTimeout := cmp.Or(cfg.HandshakeTimeout, 5*time.Second)
	sessions := centrifugo.Config{Policy: policy, Presence: s.present, Verifiers: verifiers, Version: "sluice", Loops: loops,
		MaxMessage: maxMessage, MaxPending: maxPending, PingInterval: cfg.PingInterval, Logger: log}
	of := raw.Config{Paths: cfg.WSPaths, Subprotocols: cfg.Subprotocols, Greeting: cfg.Greeting, HandshakeTimeout: handshakeTimeout,
		Policy: policy, Verifiers: verifiers, Logger: log}
	if cfg.RawOff {
		of.Off = raw.RejectRawOff
	}
	protocols := route.Join(centrifugo.New(sessions), raw.New(of))
	answers := cfg.Demo
	if answers == nil {
		answers = demo
	}
	s.edge = New(Config{
		Live:          Live{MaxConnections: cmp.Or(cfg.MaxConnections, 10_000), Limits: cfg.Limits, Origins: origins, RemoteListenOnly: cfg.RemoteListenOnly},
		MaxHandshakes: cmp.Or(cfg.MaxHandshakes, 128), HandshakeTimeout: handshakeTimeout,
		CloseRefused: cfg.CloseRefused, TrustedProxies: cfg.TrustedProxies, ProxyProtocol: cfg.ProxyProtocol,
		Socket:      poller.Options{SendBuffer: 64 << 10, NotsentLowat: -1, UserTimeout: 20 * time.Second, NoDelay: true},
		Compression: cfg.Compression || *clienttest.Deflated,
		Routes:      protocols.Routes, MemoryFull: s.full.Load,
		Page:   http.HandlerFunc(front),
		Demo:   answers,
		Health: func() (int, string) { return http.StatusOK, "ok" },
		Logger: log,
	})
	s.set, err = loop.New(loop.Config{
		Loops: loops, PingInterval: cfg.PingInterval, PongTimeout: cmp.Or(cfg.PongTimeout, 10*time.Second),
		WriteTimeout: cmp.Or(cfg.WriteTimeout, 10*time.Second), CloseTimeout: 5 * time.Second, MessageTimeout: 10 * time.Second, LoopTimeout: 30 * time.Second,
		MaxMessage: maxMessage, MaxFragments: 64, MaxPending: maxPending, HeldMax: maxBuffered / 2 / loops, ChannelBuffer: channelBuffer,
		Compressors: deflate.New(1, 2),
		Skips:       func(string) bool { return false }, Failed: func(error) {}, Admission: s.edge, Engine: local.Engine{}, Space: s.space,
		Variants: protocols.Variants, Sharing: protocols.Sharing, Logger: log, Seconds: s.seconds.C, Clock: s.Clock.Now,
	})
	if err != nil {
		return nil, err
	}
	s.Loops = s.set.Loops()
	s.edge.Start(s.set)
	verifiers.Start(s.set.Stopped(), 1, s.verifying.Go)
	return s, nil
}

// front is the page that a browser shows.
func front(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/" {
		http.NotFound(w, r)
		return
	}
	io.WriteString(w, "A gateway for WebSocket clients.\n") // ignored: the client may be gone
}

// demo answers one path for this machine's own clients.
func demo(w http.ResponseWriter, r *http.Request, _ func() context.Context) bool {
	if r.URL.Path == "/demo/test" {
		io.WriteString(w, "for this machine\n") // ignored: the client may be gone
		return true
	}
	return false
}

func startOver(t testing.TB, cfg settings, secured bool) *rig {
	t.Helper()
	s, err := newRig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	s.T = t
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.addr, s.secured = l.Addr().String(), secured
	go func() { s.served <- s.serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), clienttest.Patience)
		defer cancel()
		if err := s.shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
	})
	clienttest.WaitFor(t, "the edge to be ready", func() bool {
		select {
		case err := <-s.served:
			t.Fatalf("Serve: %v", err)
		default:
		}
		return s.edge.Ready()
	})
	return s
}

// serve serves one more listener.
func (s *rig) serve(l net.Listener) error {
	if s.secured {
		return s.edge.Serve(l, loop.Hardened(clienttest.TestTLS()))
	}
	return s.edge.Serve(l, nil)
}

// at is the rig at another listener.
func (s *rig) at(addr string, secured bool) *rig {
	return &rig{Gauges: s.Gauges, edge: s.edge, space: s.space, addr: addr, secured: secured}
}

func (s *rig) Endpoint() clienttest.Endpoint {
	return clienttest.Endpoint{Addr: s.addr, Secured: s.secured, Quiet: s.Quiet}
}

// stop ends the edge and the loops as a server does.
func (s *rig) stop(ctx context.Context) error {
	s.edge.Close()
	s.seconds.Reset(time.Second) // connections that do not end in order end by their deadlines
	ended, err := s.set.Stop(ctx, 0)
	if ended {
		s.edge.Wait()
		s.verifying.Wait()
	}
	return err
}

// shutdown ends everything and sees that nothing is left of the clients. A second call does
// nothing.
func (s *rig) shutdown(ctx context.Context) (err error) {
	s.T.Helper()
	s.once.Do(func() {
		s.Clock.Start()
		err = s.stop(ctx)
		if got := clienttest.Receive(s.T, "Serve to return", s.served); got != ErrClosed {
			s.T.Errorf("Serve returned %v", got)
		}
		s.wantNothingLeft()
	})
	return err
}

// wantNothingLeft is the census: nothing outlives the clients.
func (s *rig) wantNothingLeft() {
	s.T.Helper()
	for range 8 { // once round all shards
		s.space.Trim(time.Now().Add(time.Hour).UnixMilli())
	}
	taken, waiting := s.edge.web.places.count()
	for what, n := range map[string]int{
		"connections": int(s.edge.Counts().Connections), "refused connections": int(s.edge.refusing.Load()), "handshakes": s.handshakes(),
		"requests": taken + waiting, "requests on their way": int(s.edge.web.coming.Load()), "rights to calculate": len(s.edge.crypto),
		"channels": s.space.Channels(), "bytes of logs": s.logs.Used(), "bytes of histories": s.histories.Used(), "subscribers in the presence table": s.present.Len(),
	} {
		if n != 0 {
			s.T.Errorf("%d %s are left over", n, what)
		}
	}
	s.WantLoopsEmpty()
}

// publish publishes text from outside.
func (s *rig) publish(name, text string) {
	s.T.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), clienttest.Patience)
	defer cancel()
	if _, err := s.publisher.Publish(ctx, 0, name, channel.Publication{Payload: []byte(text)}); err != nil {
		s.T.Fatalf("publish into %q: %v", name, err)
	}
}

// counted returns how many handshakes came to what has this label.
func (s *rig) counted(label string) uint64 {
	s.T.Helper()
	for _, o := range route.Outcomes() {
		if o.String() == label {
			return s.edge.stats.outcomes[o].Load()
		}
	}
	s.T.Fatalf("no handshake can come to %s", label)
	return 0
}

// wantOutcome waits until so many requests have come to something.
func (s *rig) wantOutcome(outcome string, n uint64) {
	s.T.Helper()
	clienttest.WaitFor(s.T, outcome+" to be counted", func() bool { return s.counted(outcome) >= n })
	if got := s.counted(outcome); got != n {
		s.T.Errorf("%s is counted %d times, want %d", outcome, got, n)
	}
}

// wantConnections waits until so many connections are there.
func (s *rig) wantConnections(n int64) {
	s.T.Helper()
	clienttest.WaitFor(s.T, fmt.Sprintf("%d connections to be there", n), func() bool { return s.edge.connections.Load() == n })
}

// wantSeats sees that an address can have so many connections and not one more: every
// seat was given back, once. The edge must not bound the address's rate.
func (s *rig) wantSeats(why string, addr netip.Addr, n int) {
	s.T.Helper()
	clienttest.WaitFor(s.T, why, func() bool {
		for i := range n + 1 {
			seat, verdict := s.edge.admission.Enter(addr, time.Now().UnixMilli())
			if i == n {
				return verdict == admit.AddressOpen || verdict == admit.AddressOpenDrop
			}
			if verdict != admit.Admitted {
				return false
			}
			defer s.edge.admission.Leave(seat)
		}
		return false
	})
}

// handshakes returns how many have a place.
func (s *rig) handshakes() int { return s.edge.Counts().Handshakes }

// waiting returns how many handshakes wait for their client's bytes.
func (s *rig) waiting() int {
	s.edge.stage.mu.Lock()
	defer s.edge.stage.mu.Unlock()
	return s.edge.stage.waiting.Len()
}
