package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"sync"

	"sluice/gateway"
)

// runServe serves until ctx ends or something fails. What fails before the
// listeners are open is returned; afterwards it is logged.
func runServe(ctx context.Context, cfg *settings, opts *options, stderr io.Writer) error {
	logger, plain := newLogger(stderr, cfg.logLevel, cfg.logFormat)
	cfg.gateway.Logger = logger
	public, internal, err := cfg.endpoints()
	if err != nil {
		return err
	}
	cfg.gateway.Raw = cfg.rawFor(public)
	cfg.gateway.NoPage = cfg.page == "off"
	if err := cfg.validate(opts); err != nil {
		return err
	}
	key, err := cfg.apiKey(opts)
	if err != nil {
		return err
	}
	if internal != nil && !internal.local && key == "" {
		return usagef("--%s %s needs --api-key-file: others can reach it, and it publishes and profiles: give a key or 127.0.0.1", internal.flag, internal.text)
	}

	s := service{log: logger, internal: gateway.Internal{APIKey: key}}
	defer s.closeListeners()
	if err := s.open(public, internal, cfg.gateway.SendBuffer); err != nil {
		return err
	}
	if s.server, err = gateway.New(cfg.gateway); err != nil {
		return errors.New(opts.explain(err.Error()))
	}
	s.tellStart(stderr, plain, cfg)
	return s.run(ctx, cfg)
}

// endpoints takes the addresses apart; internal is nil when it is off.
func (s *settings) endpoints() (public []endpoint, internal *endpoint, err error) {
	var faults []error
	usage := true // of all faults
	parse := func(flag, text string) endpoint {
		e, err := parseEndpoint(flag, text)
		if err != nil {
			faults = append(faults, err)
			usage = usage && errors.As(err, new(usageError))
		}
		return e
	}
	for _, text := range s.listen {
		public = append(public, parse("listen", text))
	}
	if s.internalListen != "off" {
		e := parse("internal-listen", s.internalListen)
		internal = &e
		if faults == nil && slices.ContainsFunc(public, e.same) {
			faults = append(faults, usagef("--internal-listen %s is a --listen address too: give it a port of its own, or off", e.text))
		}
	}
	err = errors.Join(faults...)
	if err != nil && usage {
		err = usageError{err}
	}
	return public, internal, err
}

// rawFor settles what raw clients may do: with auto they publish only where
// every listener is out of others' reach.
func (s *settings) rawFor(public []endpoint) gateway.Raw {
	switch s.raw {
	case "publish":
		return gateway.RawPublish
	case "listen":
		return gateway.RawListen
	case "off":
		return gateway.RawOff
	}
	for _, e := range public {
		if !e.local {
			return gateway.RawListen
		}
	}
	return gateway.RawPublish
}

// apiKey reads the internal listener's key; empty without a file.
func (s *settings) apiKey(opts *options) (string, error) {
	if s.apiKeyFile == "" {
		return "", nil
	}
	fault := func(format string, args ...any) error {
		what := "--api-key-file " + s.apiKeyFile + ": " + fmt.Sprintf(format, args...)
		return usageError{errors.New(opts.explain(what))}
	}
	data, err := os.ReadFile(s.apiKeyFile)
	if err != nil {
		return "", fault("%v: give a file with the key in one line", bareError(err))
	}
	key := strings.TrimSpace(string(data))
	switch {
	case key == "":
		return "", fault("the file is empty: put a key there, such as the output of 'openssl rand -hex 32'")
	case strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r > '~' }):
		return "", fault("the key has white space or other characters that no header can carry: put one word of ASCII there")
	}
	return key, nil
}

// service is a running gateway with its listeners.
type service struct {
	log      *slog.Logger
	server   *gateway.Server
	internal gateway.Internal

	publicListeners  []net.Listener
	internalListener net.Listener // nil when off
}

func (s *service) open(public []endpoint, internal *endpoint, sendBuffer int) (err error) {
	for _, e := range public {
		l, err := e.listen(sendBuffer)
		if err != nil {
			return err
		}
		s.publicListeners = append(s.publicListeners, l)
	}
	if internal != nil {
		s.internalListener, err = internal.listen(sendBuffer)
	}
	return err
}

// closeListeners closes what may still be open, which removes the files of Unix
// sockets. The server has closed them already when it was shut down.
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
	ended := make(chan error, len(s.publicListeners)+1) // room for all: nobody waits to say so
	var serving sync.WaitGroup
	serve := func(f func() error) {
		serving.Go(func() { ended <- f() })
	}
	for _, l := range s.publicListeners {
		serve(func() error { return s.server.Serve(l) })
	}
	if l := s.internalListener; l != nil {
		serve(func() error { return s.server.ServeInternal(l, s.internal) })
	}

	var failure error
	select {
	case <-ctx.Done():
		s.log.Info("stopping", "reason", context.Cause(ctx).Error(), "timeout", cfg.shutdownTimeout.String())
	case err := <-s.server.Failed():
		// Nothing can be promised to clients without its loop: a supervisor's restart is the way on.
		s.log.Error("a loop has ended, so the process ends", "error", err)
		return exitCode(exitFailed)
	case failure = <-ended:
		s.log.Error("a listener has ended, so the process stops", "error", failure)
	}

	until, cancel := context.WithTimeout(context.Background(), cfg.shutdownTimeout)
	defer cancel()
	if err := s.server.Shutdown(until); err != nil {
		s.log.Error("stopped by force: connections were left", "error", err, "hint", "raise --shutdown-timeout")
		return exitCode(exitFailed)
	}
	serving.Wait()
	s.log.Info("stopped")
	if failure != nil {
		return exitCode(exitFailed)
	}
	return nil
}

// tellStart prints where to connect and what the limits are: two lines for a
// person, two records for a machine.
func (s *service) tellStart(w io.Writer, plain bool, cfg *settings) {
	var urls, bound []string // to click, and as others can reach them
	for _, l := range s.publicListeners {
		urls = append(urls, clickable(l.Addr()))
		bound = append(bound, l.Addr().String())
	}
	internal, boundInternal := "off", "off"
	if s.internalListener != nil {
		internal = clickable(s.internalListener.Addr())
		boundInternal = s.internalListener.Addr().String()
	}
	l := s.server.Limits()
	reason := fmt.Sprintf("descriptor limit %s", formatCount(l.DescriptorLimit))
	if cfg.gateway.MaxConnections != 0 {
		reason = "--max-connections, " + reason
	}
	if plain {
		fmt.Fprintf(w, "sluice is ready: %s (raw: %v; internal: %s)\n", strings.Join(urls, " "), cfg.gateway.Raw, internal)
		fmt.Fprintf(w, "limits: %s connections (%s), %d loops, message %s, channel buffer %s, %s in all\n",
			formatCount(l.MaxConnections), reason, l.Loops,
			formatSize(l.MaxMessage), formatSize(l.ChannelBuffer), formatSize(l.MaxBuffered))
		return
	}
	s.log.Info("ready", "url", urls[0], "listen", bound, "internal", internal, "internal_listen", boundInternal, "raw", cfg.gateway.Raw.String())
	s.log.Info("limits", "connections", l.MaxConnections, "because", reason, "loops", l.Loops,
		"message", formatSize(l.MaxMessage), "channel_buffer", formatSize(l.ChannelBuffer), "max_buffered", formatSize(l.MaxBuffered))
}
