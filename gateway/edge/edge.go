package edge

import (
	"log/slog"
	"net/http"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"sluice/gateway/edge/admit"
	"sluice/gateway/edge/handshake"
	"sluice/gateway/edge/peer"
	"sluice/gateway/loop"
	"sluice/gateway/route"
	"sluice/gateway/setting"
	"sluice/poller"
)

// Config is what the edge needs to know. Every field is filled in, except where its comment
// says what zero means.
type Config struct {
	Live
	MaxHandshakes    int
	HandshakeTimeout time.Duration
	// CloseRefused: a client that is over a limit is accepted where its protocol can then send it the
	// reason.
	CloseRefused bool
	// Compression: clients that ask for it are sent compressed publications.
	Compression    bool
	TrustedProxies []netip.Prefix // whose X-Forwarded-For is believed
	ProxyProtocol  []netip.Prefix // the peers that begin with a PROXY header
	Socket         poller.Options // of clients' sockets

	// Insecure is what Serve returns for a listener that other machines can reach; nil to serve it.
	Insecure   error
	Routes     []*route.Route
	Page       http.Handler // what "/" shows in a browser; nil for nothing
	Demo       Demo         // what answers the page's own requests; nil for nothing
	MemoryFull func() bool  // no more connections are accepted
	Health     func() (status int, text string)
	Names      setting.Names // what texts call settings
	Logger     *slog.Logger
}

// Live is what [Server.Change] replaces. It holds for new connections.
type Live struct {
	MaxConnections int
	Limits         admit.Limits
	Origins        *handshake.Origins
	// ListenOnly and, on listeners that other machines can reach, RemoteListenOnly are passed on to
	// the routes: clients may not publish.
	ListenOnly, RemoteListenOnly bool
}

// Server takes connections from their listeners to their loops.
type Server struct {
	// Set at construction.
	cfg       Config // of which what is in live is not read
	routes    []edgeRoute
	loops     *loop.Set // set by Start
	stage     *stage
	web       *web // set by Start
	admission *admit.Table
	trusted   *peer.Set
	proxies   *peer.Set
	crypto    chan struct{} // the right to calculate for a TLS handshake
	ending    chan struct{} // closed by Close
	stats     stats
	live      atomic.Pointer[Live]

	passage passage // to the loops

	refusing    atomic.Int64 // connections that are accepted only to be refused with a reason
	connections atomic.Int64 // WebSocket connections, those on their way to a loop included

	acceptors sync.WaitGroup
	mu        sync.Mutex
	listeners map[*entrance]struct{} // guarded by mu
	closing   bool                   // guarded by mu
}

// New returns an edge, which serves once Start was called.
func New(cfg Config) *Server {
	s := &Server{
		cfg: cfg, stage: newStage(cfg.MaxHandshakes), admission: admit.New(cfg.Limits),
		trusted: peer.NewSet(cfg.TrustedProxies), proxies: peer.NewSet(cfg.ProxyProtocol),
		crypto: make(chan struct{}, max(runtime.GOMAXPROCS(0)/2, 1)), ending: make(chan struct{}),
		listeners: make(map[*entrance]struct{}),
	}
	s.live.Store(&cfg.Live)
	for _, r := range cfg.Routes {
		s.routes = append(s.routes, edgeRoute{r, handshake.NewUpgrader(r.Subprotocols, cfg.Compression)})
	}
	return s
}

// Change replaces what holds for new connections. Those that are open stay.
func (s *Server) Change(to Live) {
	s.live.Store(&to)
	s.admission.Limit(to.Limits)
}

// Start starts what answers HTTP requests. Connections go to loops, whose Admission the edge is.
func (s *Server) Start(loops *loop.Set) { s.loops, s.web = loops, newWeb(s) }

// Ready reports whether the edge accepts connections.
func (s *Server) Ready() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.closing && !s.passage.IsShut() && len(s.listeners) > 0
}

// Close stops accepting, and closes the handshakes that wait for their clients. It reports whether
// this is the first call.
func (s *Server) Close() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return false
	}
	s.closing = true
	for l := range s.listeners {
		l.Close() // ignored: Serve returns whatever it says
	}
	close(s.ending)
	s.stage.close()
	return true
}

// Wait waits for the handshakes and the requests that are under way, after Close and once the
// loops have ended.
func (s *Server) Wait() {
	s.stage.wait()
	s.web.close()
	s.acceptors.Wait()
}

// track adds a listener for Close; false when that was called.
func (s *Server) track(l *entrance) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return false
	}
	s.listeners[l] = struct{}{}
	s.acceptors.Add(1)
	return true
}

func (s *Server) untrack(l *entrance) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.listeners, l)
	s.acceptors.Done()
}
