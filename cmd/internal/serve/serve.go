package serve

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"sluice/cmd/internal/cli"
	"sluice/cmd/internal/option"
	"sluice/gateway"
	"sluice/gateway/engine/backing"
	"sluice/gateway/setting"
)

// runServe serves until ctx ends or something fails. A failure before the listeners are
// open is returned; later ones are logged.
func runServe(ctx context.Context, cfg *Settings, opts *option.Options, env []string, stderr io.Writer) error {
	level := new(slog.LevelVar)
	level.Set(levels[cfg.LogLevel])
	logger, plain := newLogger(stderr, level, cfg.LogFormat)
	cfg.Gateway.Logger = logger
	inherited, err := gateway.Inherited()
	if err != nil {
		return err
	}
	retire, retireNow := context.WithCancel(context.Background())
	defer retireNow()
	s := service{
		log: logger, level: level, stderr: stderr, plain: plain, env: env, retire: retire,
		hangup:  make(chan os.Signal, 1), // several pending signals mean the same as one
		upgrade: make(chan os.Signal, 1), moved: make(chan struct{}), lost: make(chan error, 1),
	}
	s.self, s.selfErr = executable()
	// A terminal that hangs up must not end the gateway and its connections.
	signal.Notify(s.hangup, syscall.SIGHUP)
	defer signal.Stop(s.hangup)
	signal.Notify(s.upgrade, syscall.SIGUSR2)
	defer signal.Stop(s.upgrade)
	p, planned := cfg.Plan(opts)
	if planned != nil && inherited == nil {
		return planned
	}
	first := &configured{opts: opts, cfg: cfg, plan: p}
	s.current.Store(first)
	s.attempt.Store(first)
	s.loaded = s.look()
	defer func() {
		retireNow()
		if s.changing.TryLock() { // else a reload is stuck, as a loop may be
			s.retiring.Wait()
			s.current.Load().close(nil)
		}
	}()
	s.internal, s.secure = gateway.Internal{APIKey: p.apiKey}, p.Secure
	s.internal.Upgrade = s.handOver
	s.internal.Reload = func(ctx context.Context, how gateway.ReloadOptions) (any, error) { return s.reload(ctx, how) }
	defer s.closeListeners()
	if s.supervisor, err = newNotifier(env, inherited != nil); err != nil {
		logger.Warn("service manager notifications do not work as configured", "error", err)
	}
	defer s.supervisor.close()
	if inherited != nil {
		return s.takeOver(ctx, planned, inherited)
	}
	if s.activated, err = activatedSockets(env); err != nil {
		return err
	}
	if err := s.open(p, cfg.Gateway.SendBuffer, nil); err != nil {
		return opts.Explain(err)
	}
	if err := s.build(ctx, publishURL(s.internalListener)); err != nil {
		return err
	}
	return s.run(ctx, nil)
}

// build makes the gateway.
func (s *service) build(ctx context.Context, publishAt string) (err error) {
	c := s.current.Load()
	g := &c.cfg.Gateway
	g.PublishURL = publishAt
	if store := c.plan.Secure.Store; store != nil {
		g.CertificateExpiry = store.Expiry
	}
	build := cli.ReadBuild()
	g.Version, g.Commit = build.Version, build.Commit
	g.Visitors = newCrowd
	if err := c.build(ctx, nil, s.log); err != nil {
		return err
	}
	if s.server, err = gateway.New(*g); err != nil {
		return c.opts.ExplainAll(err)
	}
	for _, w := range c.warnings() {
		s.log.Warn(w)
	}
	if g.Insecure {
		s.log.Warn(InsecureText)
	}
	return nil
}

// publishURL returns the URL that the page at / shows for publishing: "" if the internal
// listener is off or not on loopback.
func publishURL(internal net.Listener) string {
	if internal == nil {
		return ""
	}
	return publishURLAt(internal.Addr().String())
}

// publishURLAt is publishURL for an address.
func publishURLAt(address string) string {
	at, err := netip.ParseAddrPort(address)
	if err != nil || !at.Addr().IsLoopback() {
		return ""
	}
	return "http://" + at.String()
}

// service is a running gateway with its listeners.
type service struct {
	log        *slog.Logger
	level      *slog.LevelVar // of the log
	stderr     io.Writer
	plain      bool // the log is for a person
	env        []string
	server     *gateway.Server
	internal   gateway.Internal
	secure     Secure
	hangup     chan os.Signal // SIGHUP
	upgrade    chan os.Signal // SIGUSR2
	supervisor *notifier

	self    string // the program, as it was called
	selfErr error
	moved   chan struct{} // closed when another process has everything
	lost    chan error    // an upgrade after which this process must end

	current  atomic.Pointer[configured]
	attempt  atomic.Pointer[configured] // the last one, which may have failed
	changing sync.Mutex                 // held by a reload
	upgrades int                        // guarded by changing: under way
	loaded   files                      // guarded by changing: as they were when they were loaded
	retire   context.Context            // ends with the gateway
	retiring sync.WaitGroup             // configurations that are not in use any more

	activated        []activated
	publicListeners  []publicListener
	internalListener net.Listener // nil when off
	internalName     string       // for the process that takes over
}

type publicListener struct {
	net.Listener // nil for one that another process passes on
	tls          bool
	name         string // for the process that takes over
}

// open opens the listeners, except those that another process passes on.
func (s *service) open(p Plan, sendBuffer int, passed map[string]string) (err error) {
	for i, name := range p.names() {
		l, name, err := s.openOne(&p.Public[i], name, sendBuffer, passed)
		if err != nil {
			return err
		}
		s.publicListeners = append(s.publicListeners, publicListener{l, p.Public[i].tls, name})
	}
	if p.Internal != nil {
		if s.internalListener, s.internalName, err = s.openOne(p.Internal, p.internalName(), sendBuffer, passed); err != nil {
			return err
		}
	}
	return s.unused()
}

// openOne opens a listener. It returns nil for one that another process passes on, and the name that it has there.
func (s *service) openOne(e *Endpoint, name string, sendBuffer int, passed map[string]string) (net.Listener, string, error) {
	for _, name := range []string{name, name + activatedMark} {
		if _, ok := passed[name]; ok {
			return nil, name, nil
		}
	}
	if l := s.take(e); l != nil {
		return l, name + activatedMark, nil
	}
	l, err := e.Listen(sendBuffer)
	if err != nil { // an interface that holds no listener would not be nil
		return nil, name, err
	}
	return l, name, nil
}

// internalName returns the internal listener's name for the process that takes over.
func (p *Plan) internalName() string {
	if p.Internal == nil {
		return ""
	}
	return p.Internal.Flag + " " + p.Internal.Text
}

// names returns the names of the public listeners, for the process that takes over: which it opens, and which it
// has, is decided by what was configured.
func (p *Plan) names() (names []string) {
	for _, e := range p.Public {
		name := e.Flag + " " + e.Text
		for n := 2; slices.Contains(names, name); n++ { // port 0 is another one each time
			name = fmt.Sprintf("%s %s %d", e.Flag, e.Text, n)
		}
		names = append(names, name)
	}
	return names
}

// closeListeners closes listeners that may still be open, which removes the files of Unix
// sockets. After a shutdown, the server has closed them already.
func (s *service) closeListeners() {
	for _, l := range s.publicListeners {
		if l.Listener != nil {
			l.Close()
		}
	}
	if s.internalListener != nil {
		s.internalListener.Close()
	}
	for i := range s.activated {
		s.activated[i].Close()
	}
}

// run serves on every listener until ctx ends or another process takes over, then shuts down. taken is closed when the
// process from which this one has taken over has ended its part; nil for none.
func (s *service) run(ctx context.Context, taken <-chan struct{}) error {
	announce := func() { s.announce(s.stderr, s.plain, s.current.Load().cfg) }
	waits := s.server.Waits()
	if waits == "" {
		announce()
	}
	ended := make(chan error, len(s.publicListeners)+1) // room for all, so that no sender waits
	var serving sync.WaitGroup
	serve := func(f func() error) {
		serving.Go(func() { ended <- f() })
	}
	for _, l := range s.publicListeners {
		if l.tls {
			serve(func() error { return s.server.ServeTLS(l.Listener, s.secure.Config) })
		} else {
			serve(func() error { return s.server.Serve(l.Listener) })
		}
	}
	if l := s.internalListener; l != nil {
		serve(func() error { return s.server.ServeInternal(l, s.internal) })
	}

	fresh, rest := context.WithCancel(ctx)
	var keeping sync.WaitGroup
	keeping.Go(func() { s.secure.keepFresh(fresh, s.log) })
	keeping.Go(func() { s.reloadOnSignal(fresh) })
	keeping.Go(func() { s.reloadOnChange(fresh) })
	defer rest()
	feeding, starve := context.WithCancel(context.Background())
	keeping.Go(func() { s.supervisor.feed(feeding, s.supervisor.turns(), s.server.Ticked) })
	defer starve()
	keeping.Go(func() { s.upgradeOnSignal(fresh) })
	if taken != nil { // until then, a service manager does not know this process
		keeping.Go(func() {
			<-taken
			s.supervisor.tell("READY=1", statusServing)
			if waits != "" && s.await(fresh) {
				announce()
			}
		})
	} else if waits == "" {
		s.supervisor.tell("READY=1", statusServing)
	} else { // READY, because a service manager would end a gateway that waits for long
		s.supervisor.tell("READY=1", "STATUS=not ready: "+waits)
		keeping.Go(func() {
			if s.await(fresh) {
				announce()
				s.supervisor.tell(statusServing)
			}
		})
	}

	var failure error
	select {
	case err := <-s.lost:
		s.log.Error("the new process has ended, or is stuck, after it was given the connections: exiting", "error", err)
		return cli.ExitCode(cli.ExitFailed)
	case <-s.moved:
		cfg := s.current.Load().cfg
		until, cancel := context.WithTimeout(context.Background(), cfg.UpgradeTLS+cfg.Gateway.CloseTimeout+time.Second)
		s.server.Retire(until)
		cancel()
	case <-ctx.Done():
		c := s.current.Load()
		s.log.Info("stopping", "reason", context.Cause(ctx).Error(), "delay", c.cfg.Gateway.DrainDelay.String(), "over", c.opts.ByName["drain-duration"].Text, "timeout", c.cfg.ShutdownTimeout.String())
	case err := <-s.server.Failed():
		// Nothing can be guaranteed to the clients of a failed loop, or without the engine: exit, and
		// let a supervisor restart the gateway.
		text := setting.Names(s.current.Load().opts.FlagOf).ErrorText(err)
		s.supervisor.tell("STATUS=" + text)
		within(time.Second, func() { s.log.Error("the gateway cannot serve its clients, exiting", "error", text) })
		return failedExit(err)
	case failure = <-ended:
		s.log.Error("a listener has failed, stopping", "error", failure)
	}

	if !s.hasMoved() {
		s.supervisor.tell("STOPPING=1", "STATUS=closing connections")
	}
	if err := s.stop(s.current.Load().cfg.ShutdownTimeout); err != nil {
		return err
	}
	serving.Wait()
	rest()
	starve()
	keeping.Wait()
	if s.hasMoved() {
		s.log.Info("stopped: the new process goes on")
	} else {
		s.log.Info("stopped")
	}
	if failure != nil {
		return cli.ExitCode(cli.ExitFailed)
	}
	return nil
}

// How often await looks, and how long it waits before the log says so.
const (
	awaitEvery = 10 * time.Millisecond
	awaitQuiet = time.Second
)

// await waits until the server is ready, and reports whether it is: ctx may end first.
func (s *service) await(ctx context.Context) bool {
	look := time.NewTicker(awaitEvery)
	defer look.Stop()
	quiet := time.NewTimer(awaitQuiet)
	defer quiet.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-quiet.C:
			s.log.Warn("not ready", "because", s.server.Waits())
		case <-look.C:
			if s.server.Waits() == "" {
				return true
			}
		}
	}
}

// failedExit returns the exit code for an error from Server.Failed.
func failedExit(err error) cli.ExitCode {
	if errors.Is(err, gateway.ErrLoopStuck) {
		return cli.ExitStuck
	}
	return cli.ExitFailed
}

// within runs f and waits at most d for it: the loop may be stuck in writing to the same
// log.
func within(d time.Duration, f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(d):
	}
}

// announce prints the addresses and the limits: a few lines for a person, a few records
// for a machine.
func (s *service) announce(w io.Writer, plain bool, cfg *Settings) {
	var urls, bound, boundTLS []string // to click, and as other machines reach them
	secured := ""
	for _, l := range s.publicListeners {
		if l.tls {
			urls = append(urls, clickable("https", l.Addr()))
			secured = urls[len(urls)-1]
			boundTLS = append(boundTLS, l.Addr().String())
		} else {
			urls = append(urls, clickable("http", l.Addr()))
			bound = append(bound, l.Addr().String())
		}
	}
	internal, boundInternal := "off", "off"
	if s.internalListener != nil {
		internal = clickable("http", s.internalListener.Addr())
		boundInternal = s.internalListener.Addr().String()
	}
	l := s.server.Limits()
	form, where := backing.FormOf(&cfg.Gateway.Store)
	reason := fmt.Sprintf("file descriptor limit %s", cli.FormatCount(l.DescriptorLimit))
	if cfg.Gateway.MaxConnections != 0 {
		reason = "--max-connections, " + reason
	}
	if plain {
		fmt.Fprintf(w, "sluice is ready: %s (raw: %s; internal: %s)\n", strings.Join(urls, " "), rawText(cfg.Gateway), internal)
		fmt.Fprintf(w, "limits: %s connections (%s), %d loops, message %s, channel buffer %s, all buffers %s\n",
			cli.FormatCount(l.MaxConnections), reason, l.Loops,
			setting.FormatSize(l.MaxMessage), setting.FormatSize(l.ChannelBuffer), setting.FormatSize(l.MaxBuffered))
		if secured != "" {
			fmt.Fprintf(w, "certificate: %s\n", s.secure.describe(secured))
		}
		switch st := &cfg.Gateway.Store; form {
		case backing.Disk:
			fmt.Fprintf(w, "histories: stored in %s, at most %s, flushed to disk: %s; node %s\n", where, setting.FormatSize(st.DataMax), st.HistorySync, s.server.Name())
		case backing.Servers:
			fmt.Fprintf(w, "channels: shared through NATS at %s; node %s\n", where, s.server.Name())
		}
		return
	}
	ready := []any{"url", urls[0], "urls", urls, "listen", bound, "internal", internal, "internal_listen", boundInternal, "raw", rawText(cfg.Gateway)}
	if secured != "" {
		ready = append(ready, "tls_listen", boundTLS, "certificate", s.secure.describe(secured))
	}
	switch st := &cfg.Gateway.Store; form {
	case backing.Disk:
		ready = append(ready, "node", s.server.Name(), "data_dir", where, "data_max", setting.FormatSize(st.DataMax), "history_sync", st.HistorySync.String())
	case backing.Servers:
		ready = append(ready, "node", s.server.Name(), "nats", where)
	}
	s.log.Info("ready", ready...)
	s.log.Info("limits", "connections", l.MaxConnections, "because", reason, "loops", l.Loops,
		"message", setting.FormatSize(l.MaxMessage), "channel_buffer", setting.FormatSize(l.ChannelBuffer), "max_buffered", setting.FormatSize(l.MaxBuffered))
}

// NewCommand returns `sluice serve`.
func NewCommand(cfg *Settings, opts *option.Options, env []string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the gateway (the default command)",
		Example: `  sluice serve --listen :8000 --raw publish --log-level debug
  sluice serve --config /etc/sluice.conf --listen unix:/run/sluice.sock`,
		Long: option.Layers,
		Args: cli.NoArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := opts.Resolve(env); err != nil {
				refuse(err)
				return cli.Usagef("%w", err)
			}
			return runServe(cmd.Context(), cfg, opts, env, cmd.ErrOrStderr())
		},
	}
	opts.Register(cmd)
	cli.SetHelp(cmd, opts.Groups()...)
	return cmd
}
