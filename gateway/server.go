package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"sluice/gateway/access"
	"sluice/gateway/channel"
	"sluice/gateway/edge/admit"
	"sluice/gateway/edge/handshake"
	"sluice/gateway/edge/peer"
	"sluice/gateway/engine"
	"sluice/gateway/presence"
	"sluice/gateway/sampling"
	"sluice/gateway/setting"
	"sluice/poller"
)

// ErrServerClosed is returned by Serve, ServeTLS and ServeInternal after Shutdown.
var ErrServerClosed = errors.New("gateway: server closed")

// ErrInsecure is returned by Serve, with Config.Insecure, for a listener that other machines
// can reach.
var ErrInsecure error = setting.Error("gateway: {Insecure} lets every client do anything; listen only on 127.0.0.1, and do not configure proxies")

// descriptorReserve is how many descriptors are left for everything that is no
// client: listeners, two for each, pollers, the internal listener's connections, files.
const descriptorReserve = 64

// routes are the ways in, in the order in which they are tried; a protocol adds its own here, and
// what it speaks to variants.
var routes = [...]*route{clientRoute, echoRoute, rawRoute}

// variants are what connections speak.
var variants = [...]*variant{rawWebSocket, echoWebSocket, rawStream, clientWebSocket, clientStream}

// spoken returns what the connections of the server's loops speak.
func (s *Server) spoken() []*variant { return variants[:] }

// Server is a broadcast gateway. Create it with [New]. Its methods are safe for concurrent
// use.
type Server struct {
	// Set at construction.
	cfg             Config
	descriptorLimit int
	space           *channel.Space
	engine          engine.Engine
	policy          *access.Policy
	present         *presence.Table
	verifiers       *access.Verifiers
	uid             string          // names this process among others
	budget          *channel.Budget // of channels' logs
	historyBudget   *channel.Budget
	warnings        Faults
	names           setting.Names // what texts call fields of cfg
	origins         *handshake.Origins
	upgrader        *handshake.Upgrader
	clientUpgrader  *handshake.Upgrader // of the client protocol's paths
	loop            []*loop
	stage           *stage
	web             *web
	admission       *admit.Table
	trusted         *peer.Set     // whose X-Forwarded-For is believed
	proxies         *peer.Set     // the peers that begin with a PROXY header
	crypto          chan struct{} // the right to calculate for a TLS handshake
	memory          *memoryWatch
	watchdog        *watchdog
	sampled         *sampling.Handler // under cfg.Logger
	stats           *serverStats
	lifecycle

	refusing    atomic.Int64 // connections that are accepted only to be refused with a reason
	connections atomic.Int64 // WebSocket connections, those on their way to a loop included
	lastID      atomic.Uint64
	nextLoop    atomic.Uint64

	loops     sync.WaitGroup // loops that still have connections, once Shutdown has begun
	acceptors sync.WaitGroup

	background sync.WaitGroup // the watchdog, keepHouse, verifiers and encoders
	encoders   encoders

	mu        sync.Mutex
	listeners map[*entrance]struct{} // guarded by mu
	closing   bool                   // guarded by mu
}

// New returns a server whose event loops are running. It accepts no clients until
// [Server.Serve] is called, and runs until [Server.Shutdown]. New raises the process's soft
// limit on open files to the hard limit. It returns all errors in cfg at once; see
// [Config.Validate].
func New(cfg Config) (*Server, error) { return newServer(cfg, time.Tick(time.Second)) }

// newServer is New with a clock of its own for the watchdog.
func newServer(cfg Config, seconds <-chan time.Time) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	limit, err := poller.DescriptorLimit()
	if err != nil {
		return nil, err
	}
	// In its handshake a connection has two descriptors for a moment, and as many
	// as there are handshakes may be answered as plain HTTP. A loop has five.
	kept := descriptorReserve + 3*cfg.MaxHandshakes + 5*cfg.Loops
	if limit <= kept {
		return nil, Faults{{
			Why: fmt.Sprintf("the file descriptor limit of %d is too low, because %d descriptors are reserved for files, loops and handshakes", limit, kept),
			Fix: fmt.Sprintf("raise the limit (ulimit -n, LimitNOFILE=) above that, or lower {MaxHandshakes} %d", cfg.MaxHandshakes),
		}}
	}
	if cfg.MaxConnections == 0 {
		cfg.MaxConnections = limit - kept
	}
	if cfg.MaxConnections > limit-kept {
		return nil, Faults{{
			Field: "MaxConnections", Value: strconv.Itoa(cfg.MaxConnections),
			Why: fmt.Sprintf("needs more file descriptors than the limit of %d allows (%d are reserved for files, loops and handshakes)", limit, kept),
			Fix: fmt.Sprintf("raise the limit (ulimit -n, LimitNOFILE=), or use at most %d", limit-kept),
		}}
	}
	var warnings Faults
	group, memory := memoryLimit(os.DirFS("/"), cfg.MemoryLimit)
	if most := max(int(memory/2), 8*cfg.ChannelBuffer); memory > 0 && cfg.MaxBuffered > most {
		w := Fault{Field: "MaxBuffered", Why: "is lowered to half of the memory limit"}
		cfg.Logger.Warn(w.Text(cfg.FieldName), "from", bytesText(cfg.MaxBuffered), "to", bytesText(most))
		warnings = append(warnings, w)
		cfg.MaxBuffered = most
	}
	sampled := sampling.New(cfg.Logger.Handler())
	cfg.Logger = slog.New(sampled)
	origins, broad, err := handshake.CompileOrigins(cfg.AllowedOrigins)
	if err != nil {
		return nil, err
	}
	for _, text := range broad {
		w := Fault{Field: "AllowedOrigins", Why: ": " + setting.Literal(text)}
		cfg.Logger.Warn(w.Text(cfg.FieldName))
		warnings = append(warnings, w)
	}
	s := &Server{
		cfg: cfg, descriptorLimit: limit,
		budget:         channel.NewBudget(cfg.MaxBuffered / 8 * 3),
		historyBudget:  channel.NewBudget(cfg.MaxBuffered / 8),
		warnings:       warnings,
		names:          cfg.FieldName,
		origins:        origins,
		upgrader:       handshake.NewUpgrader(cfg.Subprotocols),
		clientUpgrader: handshake.NewUpgrader([]string{subprotocolJSON, subprotocolProtobuf}),
		stats:          new(serverStats),
		sampled:        sampled,
		lifecycle:      newLifecycle(),
		listeners:      make(map[*entrance]struct{}),
	}
	s.policy = newPolicy(&cfg)
	s.space = channel.NewSpace(cfg.ChannelBuffer, cfg.MaxChannels, s.budget)
	s.space.KeepHistory(channel.History{Of: s.keep, Bytes: cfg.HistoryBytes, Budget: s.historyBudget}, time.Now().UnixMilli())
	s.space.LimitRate(cfg.ChannelRate, rateFor(cfg.JoinRate, DefaultJoinRate, false))
	s.engine = engine.Local{}
	s.present = presence.New()
	s.uid = newClientID().String()
	s.admission = newAdmission(&cfg)
	s.trusted, s.proxies = peer.NewSet(cfg.TrustedProxies), peer.NewSet(cfg.ProxyProtocol)
	s.crypto = make(chan struct{}, max(runtime.GOMAXPROCS(0)/2, 1))
	s.stage = newStage(cfg.MaxHandshakes)
	for i := range cfg.Loops {
		l, err := newLoop(s, i)
		if err != nil {
			for _, l := range s.loop {
				l.poller.Close() // ignored: the error that matters is err
			}
			return nil, err
		}
		s.loop = append(s.loop, l)
	}
	s.loops.Add(len(s.loop))
	if s.web, err = newWeb(s); err != nil {
		for _, l := range s.loop {
			l.poller.Close() // ignored: the error that matters is err
		}
		return nil, err
	}
	s.memory = newMemoryWatch(group, memory)
	s.watchdog = newWatchdog(s)
	s.encoders.background = &s.background
	s.background.Add(2)
	go s.watchdog.run(seconds)
	go s.keepHouse()
	s.startVerifiers(max(runtime.GOMAXPROCS(0)/2, 1))
	return s, nil
}

// Limits are the limits in effect for a server.
type Limits struct {
	Loops           int
	MaxConnections  int
	DescriptorLimit int
	MaxMessage      int // bytes
	ChannelBuffer   int // bytes
	MaxBuffered     int // bytes
}

// Limits returns the limits in effect, with defaults filled in and adjusted to the process's
// limits.
func (s *Server) Limits() Limits {
	return Limits{
		Loops: s.cfg.Loops, MaxConnections: s.cfg.MaxConnections, DescriptorLimit: s.descriptorLimit,
		MaxMessage: s.cfg.MaxMessage, ChannelBuffer: s.cfg.ChannelBuffer, MaxBuffered: s.cfg.MaxBuffered,
	}
}

// Warnings returns the warnings that [New] logged about the configuration: values it changed,
// and settings that are probably mistakes.
func (s *Server) Warnings() Faults { return s.warnings }

// Failed returns a channel that delivers an error if the server can no longer serve all of
// its clients: an event loop can no longer wait for events on its connections, or is stuck
// ([ErrLoopStuck]). The process should then exit.
func (s *Server) Failed() <-chan error { return s.failed }

func (s *Server) nextID() uint64 { return s.lastID.Add(1) }

// version is the program's name and version as clients receive them.
func (s *Server) version() string {
	if s.cfg.Version == "" {
		return "sluice"
	}
	return "sluice " + s.cfg.Version
}

// chooseLoop spreads connections over the loops in turn.
func (s *Server) chooseLoop() *loop {
	return s.loop[s.nextLoop.Add(1)%uint64(len(s.loop))]
}

// keepHouse gives memory back and writes what the log has put off, once a second, until
// Shutdown has ended the loops. It may wait for a channel's lock, and so for a loop.
func (s *Server) keepHouse() {
	defer s.background.Done()
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	var storm stormWatch
	for {
		select {
		case <-ticker.C:
		case <-s.stopped:
			return
		}
		now := time.Now()
		s.space.Trim(now.UnixMilli())
		s.memory.look()
		s.sampled.Flush(now) // ignored: as the log is, when it cannot be written
		churn := s.stats.churn.Load()
		for _, l := range s.loop {
			churn += l.stats.subscribed.Load()
		}
		if storm.over(churn) {
			// Handshakes and commands leave buffers, net.Conns and decoded requests behind,
			// whose memory the runtime would keep for the next ones. Twice, because a sync.Pool lets go of
			// what it holds only at the second collection.
			for _, l := range s.loop {
				l.post(shrink{})
			}
			runtime.GC()
			debug.FreeOSMemory()
		}
	}
}

// stormWatch tells when many connections or subscriptions have come and no more do.
type stormWatch struct {
	seen, freed uint64
	calm        int
}

// stormSize is how many comings and goings leave enough garbage to care;
// stormCalm is for how many seconds there must be few more.
const (
	stormSize = 500
	stormCalm = 3
)

func (w *stormWatch) over(churn uint64) bool {
	if churn-w.seen > 20 {
		w.calm = 0
	} else {
		w.calm++
	}
	w.seen = churn
	if w.calm < stormCalm || churn-w.freed < stormSize {
		return false
	}
	w.freed = churn
	return true
}

// track adds a listener for Shutdown to close; false when it has begun.
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

// Ready reports whether the server accepts connections: Serve has been called, and Shutdown
// has not.
func (s *Server) Ready() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.closing && len(s.listeners) > 0
}

// Shutdown stops accepting connections, sends each client what was published before, closes
// its connection with code 1001, and waits for it to disconnect. Then it stops the event
// loops. If ctx ends first, it cuts off the remaining connections and returns ctx's error. A second call returns
// ErrServerClosed at once.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	if s.closing {
		s.mu.Unlock()
		return ErrServerClosed
	}
	s.closing = true
	for l := range s.listeners {
		l.Close() // ignored: Serve returns whatever it says
	}
	s.mu.Unlock()
	close(s.ending)
	s.stage.close()
	for _, l := range s.loop {
		l.post(stop{})
	}
	gone := make(chan struct{})
	go func() {
		s.loops.Wait()
		close(gone)
	}()
	var err error
	select {
	case <-gone:
	case <-ctx.Done():
		err = ctx.Err()
		for _, l := range s.loop {
			l.post(abort{})
		}
		select {
		case <-gone:
		case <-time.After(abortTimeout):
			// A loop that is stuck, in a hook or in the kernel. It cannot be
			// stopped; the process should end.
			close(s.stopped)
			return err
		}
	}
	close(s.stopped)
	for _, l := range s.loop {
		for _, m := range l.inbox.close() {
			if a, ok := m.(*arrival); ok {
				a.refuse(outcomeShutdown)
				a.from.leave()
			}
		}
		l.poller.Close() // ignored: the process lets go of the loop in any case
	}
	s.stage.wait()
	s.web.close()
	s.acceptors.Wait()
	s.background.Wait()
	s.memory.close()
	s.sampled.Close() // ignored: as the log is, when it cannot be written
	return err
}

// abortTimeout bounds how long cutting off all connections may take.
const abortTimeout = 2 * time.Second

// Listen returns a listener with the socket options that suit [Server.Serve]: without TCP
// keep-alive, which costs four system calls per connection and detects nothing that a ping
// does not, and with sendBuffer (in bytes, see Config.SendBuffer) set once for all
// connections. Serve accepts any other listener of package net too.
func Listen(ctx context.Context, network, address string, sendBuffer int) (net.Listener, error) {
	lc := net.ListenConfig{KeepAlive: -1}
	lc.SetMultipathTCP(false) // its listening socket does not hand all options on
	l, err := lc.Listen(ctx, network, address)
	if err != nil {
		return nil, err
	}
	if sc, ok := l.(syscall.Conn); ok {
		err = poller.Tune(sc, poller.Options{SendBuffer: sendBuffer})
	}
	if err != nil {
		l.Close() // ignored: the error that matters is err
		return nil, fmt.Errorf("set send buffer: %w", err)
	}
	return l, nil
}

// closedByUs reports whether an Accept failed because the listener was closed.
func closedByUs(err error) bool {
	return errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrClosed) || errors.Is(err, http.ErrServerClosed)
}
