package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"sluice/gateway/access"
	"sluice/gateway/api"
	"sluice/gateway/centrifugo"
	"sluice/gateway/channel"
	"sluice/gateway/control"
	"sluice/gateway/edge"
	"sluice/gateway/edge/handshake"
	"sluice/gateway/engine"
	"sluice/gateway/engine/backing"
	"sluice/gateway/loop"
	"sluice/gateway/ops"
	"sluice/gateway/ops/console"
	"sluice/gateway/presence"
	"sluice/gateway/raw"
	"sluice/gateway/route"
	"sluice/gateway/sampling"
	"sluice/gateway/setting"
	page "sluice/gateway/web" // web is net/http's server here
	"sluice/gateway/wire/deflate"
	"sluice/poller"
)

// ErrServerClosed is returned by Serve, ServeTLS and ServeInternal after Shutdown.
var ErrServerClosed = edge.ErrClosed

// ErrLoopStuck is wrapped by the error that [Server.Failed] delivers when an event loop has
// not ticked for Config.LoopTimeout.
var ErrLoopStuck = loop.ErrLoopStuck

// ErrInsecure is returned by Serve, with Config.Insecure, for a listener that other machines
// can reach.
var ErrInsecure error = setting.Error("gateway: {Insecure} lets every client do anything; listen only on 127.0.0.1, and do not configure proxies")

// Lobby is the channel of raw WebSocket and SSE clients that name none.
const Lobby = raw.Lobby

// descriptorReserve is how many descriptors are left for everything that is no
// client: listeners, two for each, pollers, the internal listener's connections, files.
const descriptorReserve = 64

// verifyingMax bounds the tokens that wait to be verified; a client that comes when there are as
// many is asked to try again.
const verifyingMax = 4096

// Server is a broadcast gateway. Create it with [New]. Its methods are safe for concurrent
// use.
type Server struct {
	// Set at construction.
	cfg             Config // of which what can be reloaded is in live
	given           Config // guarded by reloads.mu: as it was given last, with defaults
	descriptorLimit int
	descriptorsKept int // for everything that is no client
	space           *channel.Space
	engine          backing.Engine
	publisher       *engine.Publisher
	policy          *access.Policy
	present         *presence.Table
	emulation       *centrifugo.Emulation
	verifiers       *access.Verifiers
	clients, raw    route.Registration   // Centrifugo's protocol, and those of raw clients
	protocols       route.Registration   // all
	compressors     *deflate.Compressors // nil without compression
	budget          *channel.Budget      // of channels' logs
	historyBudget   *channel.Budget
	warnings        Faults
	names           setting.Names // what texts call fields of cfg
	set             *loop.Set
	edge            *edge.Server
	memory          *ops.Memory
	fixed           ops.FixedMemory
	clean           ops.Cleaner
	sampled         *sampling.Handler // under cfg.Logger
	node            *control.Node
	inside          *control.Inside
	relay           *ops.Relay
	api             *api.Handler // of all internal listeners, as sessions
	sessions        console.Sessions
	before          ops.Totals // owned by TakeOver until the server serves
	upgrades        upgrading
	events          events
	reloads         reloads
	live            atomic.Pointer[Config] // as cfg, but as it is now
	classes         classes

	internalMu sync.Mutex
	internal   []net.Listener  // guarded by internalMu: of ServeInternal
	listeners  []*ops.Listener // guarded by internalMu

	failed chan error // has room for one: the first failure is the one to report

	complete   atomic.Bool    // New has set all fields
	draining   atomic.Bool    // Shutdown was called
	background sync.WaitGroup // ops.KeepHouse, verifiers, and what watches the engine
}

// New returns a server whose event loops are running. It accepts no clients until
// [Server.Serve] is called, and runs until [Server.Shutdown]. New raises the process's soft
// limit on open files to the hard limit. It returns all errors in cfg at once; see
// [Config.Validate].
func New(cfg Config) (*Server, error) {
	return newServer(cfg, parts{clock: time.Now, seconds: time.Tick(time.Second)})
}

// parts are what tests replace in a server.
type parts struct {
	clock   func() time.Time                                    // of the loops
	seconds <-chan time.Time                                    // of the watchdog
	engine  func(*channel.Space, *presence.Table) engine.Engine // nil: as configured
}

// newServer is New with other parts.
func newServer(cfg Config, with parts) (_ *Server, err error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	given := cfg
	limit, err := poller.DescriptorLimit()
	if err != nil {
		return nil, err
	}
	// In its handshake a connection has two descriptors for a moment, and as many
	// as there are handshakes may be answered as plain HTTP. A loop has five.
	kept := descriptorReserve + cfg.engineDescriptors() + 3*cfg.MaxHandshakes + 5*cfg.Loops
	if limit <= kept {
		return nil, Faults{{
			Why: fmt.Sprintf("the file descriptor limit of %d is too low, because %d descriptors are reserved for files, loops and handshakes", limit, kept),
			Fix: fmt.Sprintf("raise the limit (ulimit -n, LimitNOFILE=) above that, or lower {MaxHandshakes} %d", cfg.MaxHandshakes),
		}}
	}
	if err := cfg.fitDescriptors(limit, kept); err != nil {
		return nil, err
	}
	var warnings Faults
	group, memory := ops.MemoryLimit(os.DirFS("/"), cfg.MemoryLimit)
	if most := max(int(memory/2), 8*cfg.ChannelBuffer); memory > 0 && cfg.MaxBuffered > most {
		w := Fault{Field: "MaxBuffered", Why: "is lowered to half of the memory limit"}
		cfg.Logger.Warn(w.Text(cfg.FieldName), "from", setting.FormatSize(cfg.MaxBuffered), "to", setting.FormatSize(most))
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
		cfg: cfg, given: given, descriptorLimit: limit,
		budget:        channel.NewBudget(cfg.MaxBuffered / 8 * 3),
		historyBudget: channel.NewBudget(cfg.MaxBuffered / 8),
		warnings:      warnings,
		names:         cfg.FieldName,
		sampled:       sampled,
		failed:        make(chan error, 1),
		relay:         ops.NewRelay(),
	}
	s.live.Store(&cfg)
	s.descriptorsKept = kept
	s.policy = access.New(cfg.access())
	s.space = channel.NewSpace(cfg.ChannelBuffer, cfg.MaxChannels, s.budget)
	s.space.KeepHistory(channel.History{Of: s.keep, Bytes: cfg.HistoryBytes, Budget: s.historyBudget}, time.Now().UnixMilli())
	s.space.Classify(s.classes.begin(s.policy))
	s.space.LimitRate(cfg.ChannelRate, rateFor(cfg.JoinRate, automatic.JoinRate, false))
	s.present = presence.New()
	if err = s.openEngine(with); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.engine.Close(context.Background()) // ignored: the error that matters is err
		}
	}()
	s.publisher = engine.NewPublisher(s.engine.Engine, s.space, cfg.MaxMessage)
	s.events.server = s
	s.verifiers = access.NewVerifiers(s.policy.Tokens(), verifyingMax, func() { loop.PlantGreeting("verify") })
	s.protocols = s.newProtocols()
	if s.edge, err = s.newEdge(origins); err != nil {
		return nil, err
	}
	loops := cfg.loops()
	loops.Filter = s.policy.Filter
	loops.Skips = s.skips
	loops.Engine, loops.Node, loops.Space, loops.Admission, loops.Failed, loops.Clock, loops.Seconds = s.engine.Engine, s.engine.ConnectionBits(), s.space, s.edge, s.fail, with.clock, with.seconds
	s.compressors = loops.Compressors
	loops.Variants, loops.Sharing = s.protocols.Variants, append(s.protocols.Sharing, eventSharing)
	loops.Observer = s.events.begin()
	defer func() {
		if err != nil {
			s.events.close(canceled) // ignored: nothing has happened yet
		}
	}()
	if s.set, err = loop.New(loops); err != nil {
		return nil, err
	}
	s.edge.Start(s.set)
	s.memory = ops.NewMemory(group, memory)
	s.node = s.newNode()
	s.api = api.New(s.node, api.Options{MaxBody: apiBodyMax(cfg.MaxMessage), OnError: s.apiFailed})
	s.engine.Answer(func(request []byte, reply func([]byte)) {
		if !s.emulation.Answer(request, reply) && !s.events.answer(request, reply) {
			s.node.Answer(request, reply)
		}
	})
	s.complete.Store(true)
	s.reloads.start()
	s.inside = &control.Inside{Node: s.node, Ready: s.edge.Ready, Draining: s.Draining, Waits: s.engine.Waits, Names: s.names, Logger: s.cfg.Logger}
	s.fixed.Look(0) // before the housekeeping, which goes on with it
	s.background.Go(func() { ops.KeepHouse(s.set.Stopped(), s.trim, s.arrived, s.set.Shrink) })
	s.background.Go(func() { s.engine.Watch(s.set.Stopped(), s.fail) })
	s.verifiers.Start(s.set.Stopped(), max(runtime.GOMAXPROCS(0)/2, 1), s.background.Go)
	return s, nil
}

// newProtocols returns the protocols.
func (s *Server) newProtocols() route.Registration {
	var ask func(node uint64, request []byte, done func([]byte, error))
	if r, ok := s.engine.Engine.(engine.Router); ok {
		ask = r.AskNode
	}
	s.emulation = centrifugo.NewEmulation(s.engine.ID, ask)
	clients := centrifugo.Config{Policy: s.policy, Emulation: s.emulation, Presence: s.present, Verifiers: s.verifiers, Version: strings.TrimSpace("sluice " + s.cfg.Version), Loops: s.cfg.Loops,
		MaxMessage: s.cfg.MaxMessage, MaxPending: s.cfg.MaxPending, PingInterval: max(s.cfg.PingInterval, 0), Logger: s.cfg.Logger, CloseOthers: s.closeOthers}
	if s.cfg.NoClients {
		clients.Off = centrifugo.RejectClientOff.Named(s.names.Text)
	}
	of := raw.Config{Paths: s.cfg.WSPaths, Subprotocols: s.cfg.Subprotocols, Greeting: s.cfg.Greeting,
		HandshakeTimeout: s.cfg.HandshakeTimeout, Policy: s.policy, Verifiers: s.verifiers, Logger: s.cfg.Logger,
		CloseRefused: s.cfg.Refuse == RefuseClose}
	if s.cfg.Raw == RawOff {
		of.Off = raw.RejectRawOff.Named(s.names.Text)
	}
	s.clients, s.raw = centrifugo.New(clients), raw.New(of)
	return route.Join(s.clients, s.raw)
}

// newEdge returns the server's edge.
func (s *Server) newEdge(origins *handshake.Origins) (*edge.Server, error) {
	cfg := s.cfg.edge()
	cfg.Health, cfg.Names = func() (int, string) { return s.inside.Health() }, s.names
	cfg.MemoryFull = func() bool { return s.memory.Full.Load() }
	cfg.Routes = s.protocols.Routes
	cfg.Live = s.edgeLive(&s.cfg, origins)
	if s.policy.Insecure() {
		cfg.Insecure = ErrInsecure
	}
	if !s.cfg.NoPage {
		var err error
		if cfg.Page, err = page.New(page.Options{Dir: s.cfg.WebRoot, PublishURL: s.cfg.PublishURL}); err != nil {
			return nil, err
		}
		cfg.Demo = s.newDemo()
	}
	return edge.New(cfg), nil
}

// newNode returns what the server's API and operators do on the loops.
func (s *Server) newNode() *control.Node {
	return &control.Node{
		Set: s.set, Space: s.space, Policy: s.policy, Engine: s.engine.Engine, Publisher: s.publisher,
		Connections: func() int64 { return s.edge.Counts().Connections }, AppendJSON: centrifugo.AppendData, Text: s.names.Text,
		Draining: s.Draining, Events: s.events.sends.Load, ID: loop.NewClientID().String(), Name: s.engine.Name, Version: s.cfg.Version, Started: time.Now(),
	}
}

// describe returns what other nodes show of this one.
func (s *Server) describe() (info engine.NodeInfo) {
	if s.complete.Load() {
		info = s.node.Describe()
	}
	return info
}

// Name returns this node's name, which Config.Name sets or the engine has chosen.
func (s *Server) Name() string { return s.engine.Name }

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
		Loops: s.cfg.Loops, MaxConnections: s.live.Load().MaxConnections, DescriptorLimit: s.descriptorLimit,
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

// fail notes that the server can no longer serve all of its clients.
func (s *Server) fail(err error) {
	select {
	case s.failed <- err:
	default:
	}
}

// Ticked returns the number of seconds since the start in which no event loop was stuck. A
// supervisor's watchdog can be fed as long as this number grows.
func (s *Server) Ticked() uint64 { return s.set.Ticked() }

// trim gives memory back and writes what the log has put off.
func (s *Server) trim(now time.Time) {
	if !s.set.Held() {
		s.space.Trim(now.UnixMilli())
	}
	s.memory.Look()
	s.fixed.Look(s.edge.Counts().Connections)
	s.sampled.Flush(now) // ignored: as the log is, when it cannot be written
}

// arrived returns how many connections and subscriptions there have been.
func (s *Server) arrived() uint64 {
	n := s.edge.Counts().Accepted
	for _, l := range s.set.Loops() {
		n += l.Stats().Subscribed.Load()
	}
	return n
}

// Waits returns what the server still waits for before it is ready, such as its NATS servers, or "".
// While it waits, /readyz responds with 503.
func (s *Server) Waits() string { return s.engine.Waits() }

// Ready reports whether the server accepts connections: after Serve, and until Shutdown.
func (s *Server) Ready() bool { return !s.draining.Load() && s.edge.Ready() }

// Draining reports whether Shutdown was called.
func (s *Server) Draining() bool { return s.draining.Load() }

// Drain is how far Shutdown has come with closing connections.
type Drain = loop.Drain

// Drain returns how far Shutdown has come.
func (s *Server) Drain() Drain { return s.set.Drain() }

// Shutdown goes on accepting connections for Config.DrainDelay, in which the server is not ready any
// more. Then it stops accepting them, sends each client what was published before, closes
// its connection with code 1001, and waits for it to disconnect. The closes are in random order, and spread over
// Config.DrainDuration, or a little less than the time until ctx's deadline. Then it stops the event
// loops, and the engine. If ctx ends first, it cuts off the remaining connections and returns ctx's error, which wraps
// ErrLoopStuck if not even that was possible. A second call returns ErrServerClosed at once.
func (s *Server) Shutdown(ctx context.Context) error {
	if !s.draining.CompareAndSwap(false, true) {
		return ErrServerClosed
	}
	s.upgrades.stop()
	if delay := s.live.Load().DrainDelay; delay > 0 && !s.relay.Moved() {
		t := time.NewTimer(delay)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
		}
	}
	s.events.hold()
	s.edge.Close()
	ended, err := s.set.Stop(ctx, s.cfg.DrainDuration)
	if !ended {
		return fmt.Errorf("%w: %w", ErrLoopStuck, err)
	}
	s.edge.Wait()
	s.background.Wait()
	s.events.close(ctx)
	if failed := s.engine.Close(ctx); err == nil {
		err = failed
	} else if failed != nil {
		err = errors.Join(err, failed)
	}
	s.memory.Close()
	s.sampled.Close() // ignored: as the log is, when it cannot be written
	return err
}

// Serve accepts clients on l until Shutdown, closes l, and returns [ErrServerClosed]. It
// serves WebSocket upgrades, SSE streams and other HTTP requests. It may be called for
// several listeners. The listener must return connections of package net itself: a wrapped
// connection has no file descriptor to wait for. The keep-alive settings of a
// net.ListenConfig have no effect. For a listening socket that suits Serve, see [Listen].
func (s *Server) Serve(l net.Listener) error { return s.edge.Serve(l, nil) }

// ServeTLS is [Server.Serve] for clients that use TLS. cfg must have a certificate. It is
// copied, with TLS 1.2 as the minimum version and http/1.1 as the only protocol.
func (s *Server) ServeTLS(l net.Listener, cfg *tls.Config) error {
	return s.edge.Serve(l, loop.Hardened(cfg))
}

// Listen returns a listener with the socket options that suit [Server.Serve]: without TCP
// keep-alive, which costs four system calls per connection and detects nothing that a ping
// does not, and with sendBuffer, as Config.SendBuffer, set once for all connections. Serve
// accepts any other listener of package net too.
func Listen(ctx context.Context, network, address string, sendBuffer int) (net.Listener, error) {
	return poller.Listen(ctx, network, address, Config{SendBuffer: sendBuffer}.withDefaults().SendBuffer)
}
