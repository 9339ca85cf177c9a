package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"time"

	"sluice/gateway/engine"
	"sluice/gateway/engine/backing"
	"sluice/gateway/handover"
	"sluice/gateway/ops"
	"sluice/gateway/route"
	"sluice/gateway/takeover"
	"sluice/poller"
)

// Upgrade is a new process that takes a server over: its listeners, channels and connections.
type Upgrade struct {
	// Command executes it: a program that calls [Inherited] and [TakeOver]. It was not started, and has no ExtraFiles.
	Command *exec.Cmd
	// Listeners are those that the new process takes, by names that it knows. Those of Serve, ServeTLS and
	// ServeInternal, and no others.
	Listeners map[string]net.Listener
	// Retire is how long it may take to tell clients that cannot travel, such as those with TLS, to come back.
	Retire time.Duration
	// Started, if set, is called when the new process serves, and before this one says goodbye to it.
	Started func(ctx context.Context, pid int)
}

// UpgradeReport says what was handed over.
type UpgradeReport struct {
	handover.Report
	// Secure is how many connections had TLS, and stay until they are told to come back.
	Secure int `json:"secure"`
}

// The errors of [Server.Upgrade], beside those of the new process.
var (
	ErrUpgradeRunning  = errors.New("an upgrade is under way")
	ErrUpgradeStopping = errors.New("the gateway is shutting down, or was handed over to another process")
	// ErrUpgradeInit: the process is the first one of a container or a machine, which ends with it.
	ErrUpgradeInit = errors.New("the gateway is process 1, whose end is that of its container: start another container instead")
	// ErrUpgradeAborted is the error of an upgrade that AbortUpgrade has ended.
	ErrUpgradeAborted = errors.New("the upgrade was aborted")
	// ErrUpgradeLost: this process serves no more, and whether the new one does is not certain. It has to end.
	ErrUpgradeLost = handover.ErrLost
)

// upgrading is the state of upgrades.
type upgrading struct {
	mu     sync.Mutex
	cancel context.CancelCauseFunc // guarded by mu: of the one that runs; nil for none
	ended  chan struct{}           // guarded by mu: closed when it does not run any more
	over   bool                    // guarded by mu: no other may begin

	done   atomic.Uint64 // by which this process has taken over: 1 or 0
	failed atomic.Uint64
	taken  atomic.Int64 // connections that this process has taken over
	frozen atomic.Int64 // nanoseconds in which nobody was served then
}

// begin begins one.
func (u *upgrading) begin(ctx context.Context) (context.Context, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if err := u.freeLocked(); err != nil {
		return nil, err
	}
	ctx, u.cancel = context.WithCancelCause(ctx)
	u.ended = make(chan struct{})
	return ctx, nil
}

// end ends the one that runs. moved: this process has nothing any more.
func (u *upgrading) end(moved bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.cancel(nil)
	u.cancel, u.over = nil, u.over || moved
	close(u.ended)
}

// free returns an error while one runs, or when the server has ended.
func (u *upgrading) free() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.freeLocked()
}

func (u *upgrading) freeLocked() error {
	switch {
	case u.over:
		return ErrUpgradeStopping
	case u.cancel != nil:
		return ErrUpgradeRunning
	}
	return nil
}

// abort ends the one that runs, if it has not stopped serving yet. It reports whether there is one.
func (u *upgrading) abort(why error) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.cancel != nil {
		u.cancel(why)
	}
	return u.cancel != nil
}

// running reports whether one is under way.
func (u *upgrading) running() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.cancel != nil
}

// stop lets no other begin, and ends the one that runs or waits for it.
func (u *upgrading) stop() {
	u.mu.Lock()
	u.over = true
	running := u.cancel != nil
	ended := u.ended
	if running {
		u.cancel(ErrUpgradeStopping)
	}
	u.mu.Unlock()
	if running {
		<-ended
	}
}

// Upgrade hands the server over to a new process. The server goes on while that starts; then nothing is served for some
// milliseconds, and afterwards the new process serves every connection that can travel, as if nothing had
// happened. When Upgrade has returned without an error, call [Server.Retire] and end the process. After an error the server
// goes on, except with [ErrUpgradeLost]. Before the server stops serving, the end of ctx ends the attempt.
func (s *Server) Upgrade(ctx context.Context, u Upgrade) (UpgradeReport, error) {
	if os.Getpid() == 1 {
		return UpgradeReport{}, ErrUpgradeInit
	}
	s.reloads.mu.Lock() // a reload that runs ends first
	ctx, err := s.upgrades.begin(ctx)
	s.reloads.mu.Unlock()
	if err != nil {
		return UpgradeReport{}, err
	}
	old := &takeover.Old{Parts: s.parts(u.Retire), Passed: u.Listeners, Internal: s.internalListeners(), Retire: u.Retire}
	defer old.Close()
	pid := func() int { return u.Command.Process.Pid }
	old.Free = func(ctx context.Context) error {
		if err := s.engine.Close(ctx); err != nil { // the new process tries to open it until this one has ended
			s.cfg.Logger.Error("the store was not closed in order", "error", err)
		}
		if u.Started != nil {
			u.Started(ctx, pid())
		}
		return nil
	}
	report, err := handover.Give(ctx, u.Command, old, handover.DefaultPatience)
	if err != nil && old.HasGiven() { // it has ended since
		err = fmt.Errorf("%w: %w", ErrUpgradeLost, err)
	}
	s.upgrades.end(err == nil)
	if err != nil {
		s.upgrades.failed.Add(1)
	}
	return UpgradeReport{report, old.Secure()}, err
}

// AbortUpgrade ends an upgrade before the new process serves. It reports whether one is under way.
func (s *Server) AbortUpgrade() bool { return s.upgrades.abort(ErrUpgradeAborted) }

// The time for clients that this process still has after an upgrade.
const (
	// requestPatience is for programs that keep connections for HTTP requests: the next answer asks them to
	// close theirs.
	requestPatience = 3 * time.Second
	retireLook      = 5 * time.Millisecond
)

// Retire waits, after an upgrade, until the clients are gone that could not travel, and until HTTP requests are
// relayed that still come. ctx bounds it. Then call Shutdown.
func (s *Server) Retire(ctx context.Context) {
	requests := time.Now().Add(requestPatience)
	for ctx.Err() == nil {
		if s.edge.Counts().Connections == 0 && s.relay.Busy() == 0 && (s.relay.Connections() == 0 || time.Now().After(requests)) {
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(retireLook):
		}
	}
}

// parts returns what is handed over, and how. retire is how long it takes to tell clients that cannot travel to come back.
func (s *Server) parts(retire time.Duration) takeover.Parts {
	form, _ := backing.FormOf(&s.cfg.Store)
	off := make(map[string]string)
	for _, p := range []struct {
		route.Registration
		off bool
		why string
	}{{s.clients, s.cfg.NoClients, "{NoClients}"}, {s.raw, s.cfg.Raw == RawOff, "{Raw} off"}} {
		for _, v := range p.Variants {
			if p.off {
				off[v.Name] = p.why
			}
		}
	}
	var settle func(context.Context) error
	var up func(<-chan struct{})
	var mover engine.Mover
	switch form {
	case backing.Disk:
		settle, up = s.settle, s.awaitEngine
	case backing.Servers:
		settle = s.settle
		mover, _ = s.engine.Engine.(engine.Mover)
	}
	others := []takeover.Part{
		{Name: "counters", Save: func(dst []byte) []byte { return ops.AppendTotals(dst, s.snapshot()) }, Load: s.before.Load},
		{Name: "sessions", Save: s.sessions.Save, Load: s.sessions.Load},
		{Name: "idempotency", Copy: s.api.Copy, Save: s.api.Save, Load: s.api.Load},
		s.events.part(retire),
	}
	if mover != nil {
		others = append(others, takeover.Part{Name: "engine", Copy: mover.Ahead, Save: mover.Heard, Load: mover.Load})
	}
	return takeover.Parts{
		Others: others,
		Node:   s.engine.Name, NodeID: s.engine.ID, Mover: mover, Settle: settle, Up: up,
		Set: s.set, Space: s.space, Edge: s.edge, Sessions: s.emulation, Publisher: s.publisher, Relay: s.relay, Logger: s.cfg.Logger, Names: s.names,
		Version: s.cfg.Version, Backing: form.String(), Off: off, MaxConnections: s.live.Load().MaxConnections, MaxChannels: s.live.Load().MaxChannels,
		Compression: s.cfg.Compression == CompressionShared,
	}
}

// settle waits until the engine has answered everything that was published.
func (s *Server) settle(ctx context.Context) error {
	r, ok := s.engine.Engine.(engine.Reporter)
	for ok && r.Stats().Pending > 0 {
		select {
		case <-ctx.Done():
			return errors.New("the store has not acknowledged all publications in time")
		case <-time.After(time.Millisecond):
		}
	}
	return nil
}

// awaitEngine waits until the engine is there, or stop is closed.
func (s *Server) awaitEngine(stop <-chan struct{}) {
	for s.engine.Waits() != "" {
		select {
		case <-stop:
			return
		case <-time.After(retireLook):
		}
	}
}

// internalListeners returns the listeners of ServeInternal.
func (s *Server) internalListeners() []net.Listener {
	s.internalMu.Lock()
	defer s.internalMu.Unlock()
	return append([]net.Listener(nil), s.internal...)
}

// Inherited returns what the process that has started this one has passed to it: for [TakeOver]. It is nil if this
// process is not to take over from another.
func Inherited() (*os.File, error) { return handover.Inherited() }

// Inheritance is what a server takes over.
type Inheritance struct {
	// Addresses are those of the listeners that it will be passed, by the names of [Upgrade].
	Addresses map[string]string
	Node      string // the node's name,
	id        uint64 // and its number

	released chan struct{} // closed when the other process has nothing any more that only one can have
}

// Takeover is how a process takes a server over.
type Takeover struct {
	Version string // of the program
	// Build returns the server that takes over, which was made by New, with Config.Inherited, and serves nobody. Its
	// error is why this process cannot take over, for the operator.
	Build func(*Inheritance) (*Server, error)
	// Serve is called when the connections are this server's: it calls Serve and the like for the listeners, soon,
	// and does not wait. taken is false if the other process has died before it had handed
	// anything over: then there are only listeners.
	Serve func(listeners map[string]net.Listener, connections int, taken bool)
}

// TakeOver takes a server over from the process that has started this one. It returns when the other process needs this
// one no more: with an error if this process does not serve, and has to end without a Shutdown.
func TakeOver(inherited *os.File, t Takeover) error {
	limit, err := poller.DescriptorLimit()
	if err != nil {
		return err
	}
	served, server := false, (*Server)(nil)
	released := make(chan struct{})
	n := &takeover.New{Freed: func() { close(released) }}
	n.Build = func(addresses map[string]string, node string, id uint64) (*takeover.Parts, error) {
		s, err := t.Build(&Inheritance{Addresses: addresses, Node: node, id: id, released: released})
		if err != nil {
			return nil, err
		}
		server = s
		p := s.parts(0)
		return &p, nil
	}
	n.Serve = func(listeners map[string]net.Listener, connections int, taken bool) {
		served = true
		if taken {
			server.upgrades.done.Store(1)
		}
		server.upgrades.taken.Store(int64(connections))
		server.upgrades.frozen.Store(int64(n.Frozen))
		server.events.serve()
		t.Serve(listeners, connections, taken)
	}
	hello := handover.Hello{Version: t.Version, Least: takeover.OldestTaken, Most: takeover.Format, Descriptors: limit}
	if err := handover.Take(inherited, hello, n); err != nil {
		return err
	}
	if !served {
		return errors.New("the other process has ended before it had handed anything over")
	}
	return nil
}
