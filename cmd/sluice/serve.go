package main

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

	"sluice/gateway"
)

// runServe serves until ctx ends or something fails. A failure before the listeners are
// open is returned; later ones are logged.
func runServe(ctx context.Context, cfg *settings, opts *options, env []string, stderr io.Writer) error {
	logger, plain := newLogger(stderr, cfg.logLevel, cfg.logFormat)
	cfg.gateway.Logger = logger
	p, err := cfg.plan(opts)
	if err != nil {
		return err
	}
	s := service{
		log: logger, internal: gateway.Internal{APIKey: p.apiKey}, secure: p.secure,
		hangup: make(chan os.Signal, 1), // several pending signals mean the same as one
	}
	// A terminal that hangs up must not end the gateway and its connections.
	signal.Notify(s.hangup, syscall.SIGHUP)
	defer signal.Stop(s.hangup)
	defer s.closeListeners()
	if err := s.open(p, cfg.gateway.SendBuffer); err != nil {
		return opts.explain(err)
	}
	cfg.gateway.PublishURL = publishURL(s.internalListener)
	if p.secure.store != nil {
		cfg.gateway.CertificateExpiry = p.secure.store.Expiry
	}
	cfg.gateway.Version = readBuild().Version
	verifier, err := p.access.verifier(ctx, logger)
	if err != nil {
		return opts.explain(err)
	}
	if verifier != nil {
		defer verifier.Close()
	}
	cfg.gateway.Tokens = verifier
	if s.server, err = gateway.New(cfg.gateway); err != nil {
		return opts.explainAll(err)
	}
	for _, w := range p.access.warnings {
		logger.Warn(w)
	}
	if cfg.gateway.Insecure {
		logger.Warn(insecureText)
	}
	if s.supervisor, err = newNotifier(env); err != nil {
		logger.Warn("service manager notifications do not work as configured", "error", err)
	}
	defer s.supervisor.close()
	s.announce(stderr, plain, cfg)
	return s.run(ctx, cfg)
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
	server     *gateway.Server
	internal   gateway.Internal
	secure     secure
	hangup     chan os.Signal // SIGHUP
	supervisor notifier

	publicListeners  []publicListener
	internalListener net.Listener // nil when off
}

type publicListener struct {
	net.Listener
	tls bool
}

func (s *service) open(p plan, sendBuffer int) (err error) {
	for _, e := range p.public {
		l, err := e.listen(sendBuffer)
		if err != nil {
			return err
		}
		s.publicListeners = append(s.publicListeners, publicListener{l, e.tls})
	}
	if p.internal == nil {
		return nil
	}
	l, err := p.internal.listen(sendBuffer)
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

// run serves on every listener until ctx ends, then shuts down.
func (s *service) run(ctx context.Context, cfg *settings) error {
	ended := make(chan error, len(s.publicListeners)+1) // room for all, so that no sender waits
	var serving sync.WaitGroup
	serve := func(f func() error) {
		serving.Go(func() { ended <- f() })
	}
	for _, l := range s.publicListeners {
		if l.tls {
			serve(func() error { return s.server.ServeTLS(l.Listener, s.secure.config) })
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
	s.supervisor.tell("READY=1", "STATUS=serving clients")

	var failure error
	select {
	case <-ctx.Done():
		s.log.Info("stopping", "reason", context.Cause(ctx).Error(), "timeout", cfg.shutdownTimeout.String())
	case err := <-s.server.Failed():
		// Nothing can be guaranteed to the clients of a failed loop: exit, and let a
		// supervisor restart the gateway.
		s.supervisor.tell("STATUS=" + err.Error())
		within(time.Second, func() { s.log.Error("an event loop no longer serves its clients, exiting", "error", err) })
		return failedExit(err)
	case failure = <-ended:
		s.log.Error("a listener has failed, stopping", "error", failure)
	}

	s.supervisor.tell("STOPPING=1", "STATUS=closing connections")
	until, cancel := context.WithTimeout(context.Background(), cfg.shutdownTimeout)
	defer cancel()
	if err := s.server.Shutdown(until); err != nil {
		s.log.Error("forced stop: connections were still open", "error", err, "hint", "raise --shutdown-timeout")
		return exitCode(exitFailed)
	}
	serving.Wait()
	rest()
	starve()
	keeping.Wait()
	s.log.Info("stopped")
	if failure != nil {
		return exitCode(exitFailed)
	}
	return nil
}

// failedExit returns the exit code for an error from Server.Failed.
func failedExit(err error) exitCode {
	if errors.Is(err, gateway.ErrLoopStuck) {
		return exitStuck
	}
	return exitFailed
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
func (s *service) announce(w io.Writer, plain bool, cfg *settings) {
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
	reason := fmt.Sprintf("file descriptor limit %s", formatCount(l.DescriptorLimit))
	if cfg.gateway.MaxConnections != 0 {
		reason = "--max-connections, " + reason
	}
	if plain {
		fmt.Fprintf(w, "sluice is ready: %s (raw: %v; internal: %s)\n", strings.Join(urls, " "), cfg.gateway.Raw, internal)
		fmt.Fprintf(w, "limits: %s connections (%s), %d loops, message %s, channel buffer %s, all buffers %s\n",
			formatCount(l.MaxConnections), reason, l.Loops,
			formatSize(l.MaxMessage), formatSize(l.ChannelBuffer), formatSize(l.MaxBuffered))
		if secured != "" {
			fmt.Fprintf(w, "certificate: %s\n", s.secure.describe(secured))
		}
		return
	}
	ready := []any{"url", urls[0], "urls", urls, "listen", bound, "internal", internal, "internal_listen", boundInternal, "raw", cfg.gateway.Raw.String()}
	if secured != "" {
		ready = append(ready, "tls_listen", boundTLS, "certificate", s.secure.describe(secured))
	}
	s.log.Info("ready", ready...)
	s.log.Info("limits", "connections", l.MaxConnections, "because", reason, "loops", l.Loops,
		"message", formatSize(l.MaxMessage), "channel_buffer", formatSize(l.ChannelBuffer), "max_buffered", formatSize(l.MaxBuffered))
}
