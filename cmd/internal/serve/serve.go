package serve

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"strings"
	"sync"
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
	logger, plain := newLogger(stderr, cfg.LogLevel, cfg.LogFormat)
	cfg.Gateway.Logger = logger
	p, err := cfg.Plan(opts)
	if err != nil {
		return err
	}
	s := service{
		log: logger, opts: opts, internal: gateway.Internal{APIKey: p.apiKey}, secure: p.Secure,
		hangup: make(chan os.Signal, 1), // several pending signals mean the same as one
	}
	// A terminal that hangs up must not end the gateway and its connections.
	signal.Notify(s.hangup, syscall.SIGHUP)
	defer signal.Stop(s.hangup)
	defer s.closeListeners()
	if err := s.open(p, cfg.Gateway.SendBuffer); err != nil {
		return opts.Explain(err)
	}
	cfg.Gateway.PublishURL = publishURL(s.internalListener)
	if p.Secure.Store != nil {
		cfg.Gateway.CertificateExpiry = p.Secure.Store.Expiry
	}
	build := cli.ReadBuild()
	cfg.Gateway.Version, cfg.Gateway.Commit = build.Version, build.Commit
	cfg.Gateway.Visitors = newCrowd
	verifier, err := p.Access.verifier(ctx, logger)
	if err != nil {
		return opts.Explain(err)
	}
	if verifier != nil {
		defer verifier.Close()
	}
	cfg.Gateway.Tokens = verifier
	if s.server, err = gateway.New(cfg.Gateway); err != nil {
		return opts.ExplainAll(err)
	}
	for _, w := range p.Access.Warnings {
		logger.Warn(w)
	}
	if cfg.Gateway.Insecure {
		logger.Warn(InsecureText)
	}
	if s.supervisor, err = newNotifier(env); err != nil {
		logger.Warn("service manager notifications do not work as configured", "error", err)
	}
	defer s.supervisor.close()
	return s.run(ctx, cfg, func() { s.announce(stderr, plain, cfg) })
}

// publishURL returns the URL that the page at / shows for publishing: "" if the internal
// listener is off or not on loopback.
func publishURL(internal net.Listener) string {
	if internal == nil {
		return ""
	}
	addr, ok := internal.Addr().(*net.TCPAddr)
	if !ok || !addr.IP.IsLoopback() {
		return ""
	}
	return "http://" + addr.String()
}

// service is a running gateway with its listeners.
type service struct {
	log        *slog.Logger
	opts       *option.Options
	server     *gateway.Server
	internal   gateway.Internal
	secure     Secure
	hangup     chan os.Signal // SIGHUP
	supervisor notifier

	publicListeners  []publicListener
	internalListener net.Listener // nil when off
}

type publicListener struct {
	net.Listener
	tls bool
}

func (s *service) open(p Plan, sendBuffer int) (err error) {
	for _, e := range p.Public {
		l, err := e.Listen(sendBuffer)
		if err != nil {
			return err
		}
		s.publicListeners = append(s.publicListeners, publicListener{l, e.tls})
	}
	if p.Internal == nil {
		return nil
	}
	l, err := p.Internal.Listen(sendBuffer)
	if err == nil { // an interface that holds no listener would not be nil
		s.internalListener = l
	}
	return err
}

// closeListeners closes listeners that may still be open, which removes the files of Unix
// sockets. After a shutdown, the server has closed them already.
func (s *service) closeListeners() {
	for _, l := range s.publicListeners {
		l.Close()
	}
	if s.internalListener != nil {
		s.internalListener.Close()
	}
}

// run serves on every listener until ctx ends, then shuts down. It calls announce when the server is ready.
func (s *service) run(ctx context.Context, cfg *Settings, announce func()) error {
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
	keeping.Go(func() { s.secure.keepFresh(fresh, s.hangup, s.log) })
	defer rest()
	feeding, starve := context.WithCancel(context.Background())
	keeping.Go(func() { s.supervisor.feed(feeding, s.supervisor.turns(), s.server.Ticked) })
	defer starve()
	if waits == "" {
		s.supervisor.tell("READY=1", "STATUS=serving clients")
	} else { // READY, because a service manager would end a gateway that waits for long
		s.supervisor.tell("READY=1", "STATUS=not ready: "+waits)
		keeping.Go(func() {
			if s.await(fresh) {
				announce()
				s.supervisor.tell("STATUS=serving clients")
			}
		})
	}

	var failure error
	select {
	case <-ctx.Done():
		s.log.Info("stopping", "reason", context.Cause(ctx).Error(), "delay", cfg.Gateway.DrainDelay.String(), "over", s.opts.ByName["drain-duration"].Text, "timeout", cfg.ShutdownTimeout.String())
	case err := <-s.server.Failed():
		// Nothing can be guaranteed to the clients of a failed loop, or without the engine: exit, and
		// let a supervisor restart the gateway.
		text := setting.Names(s.opts.FlagOf).ErrorText(err)
		s.supervisor.tell("STATUS=" + text)
		within(time.Second, func() { s.log.Error("the gateway cannot serve its clients, exiting", "error", text) })
		return failedExit(err)
	case failure = <-ended:
		s.log.Error("a listener has failed, stopping", "error", failure)
	}

	s.supervisor.tell("STOPPING=1", "STATUS=closing connections")
	if err := s.stop(cfg.ShutdownTimeout); err != nil {
		return err
	}
	serving.Wait()
	rest()
	starve()
	keeping.Wait()
	s.log.Info("stopped")
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
				return cli.Usagef("%w", err)
			}
			return runServe(cmd.Context(), cfg, opts, env, cmd.ErrOrStderr())
		},
	}
	opts.Register(cmd)
	cli.SetHelp(cmd, opts.Groups()...)
	return cmd
}
