package nats

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"sluice/gateway/engine"
	"sluice/gateway/setting"

	natsgo "github.com/nats-io/nats.go"
)

// A link is a node's two connections to NATS. One carries publications and deliveries. The other one reads
// streams: a server answers such a question inside the loop that reads the connection, so that a long
// answer would hold up everything else.
//
// What is published while a connection is down fails at once: nothing is kept in a buffer, to be sent
// when it is out of date. A connection is tried again for ever, and soon: what is published meanwhile
// is lost to this node. A server that does not answer for 4 s counts as lost.

// errAway is the error of what a stream did not answer. It may still do what it was asked for.
var errAway = fmt.Errorf("nats: the store does not answer: %w", engine.ErrUnavailable)

const (
	reconnectWait   = 100 * time.Millisecond
	reconnectJitter = 200 * time.Millisecond
	pingEvery       = time.Second
	pingsOut        = 3
	dialTimeout     = 2 * time.Second
	reportAgain     = time.Minute // between two lines about the same error,
	errorsMost      = 64          // of which so many are known
	waitingEvery    = time.Minute // between two lines of the log about servers that are not there at the start
	// payloadOverhead is what a message has at most beside its payload: the format's own fields, a
	// client's information and tags, and headers.
	payloadOverhead = 16 << 10
)

// link is a node's connections to NATS.
type link struct {
	// Set at construction.
	main, reads *natsgo.Conn
	maxMessage  int
	claims      time.Duration // claimTime
	log         *slog.Logger
	test        struct { // what tests change
		patience time.Duration          // in place of directTimeout
		late     func(*natsgo.Msg) bool // which messages say that a direct get's time is over
	}

	closing atomic.Bool
	closed  sync.WaitGroup // of the connections

	mu sync.Mutex
	// Guarded by mu.
	advised  map[string]bool      // versions about which there was a line in the log
	reported time.Time            // when an error of a connection was logged last,
	errors   map[string]time.Time // and when each
	unlogged int                  // errors since then
}

// linkEvents are what happens to the main connection, and the last two of them to any. They are called on nats.go's
// goroutine, one after the other: they must only post.
type linkEvents struct {
	down, up func()                     // it broke; it is there again
	slow     func(*natsgo.Subscription) // messages of a subscription were dropped
	full     func()                     // a server has refused a subscription: there are too many
	denied   func(what, subject string) // a server does not let the user do that
	closed   func(error)                // it has ended for ever
}

// dial connects to the servers, or to the one in this process, and waits until both connections are there. A
// server that cannot be reached is tried again until ctx ends; what trying again does not help is an
// error at once.
func dial(ctx context.Context, o Servers, in natsgo.InProcessConnProvider, maxMessage int, ev linkEvents, log *slog.Logger) (*link, error) {
	l := &link{maxMessage: maxMessage, claims: claimTime, log: log, advised: make(map[string]bool), errors: make(map[string]time.Time)}
	options, err := serverOptions(o, in)
	if err != nil {
		return nil, err
	}
	url := strings.Join(o.URLs, ",")
	if l.reads, err = l.connect(ctx, url, options, "sluice reads", linkEvents{denied: ev.denied, closed: ev.closed}); err == nil {
		l.main, err = l.connect(ctx, url, options, "sluice", ev)
	}
	if err == nil {
		err = l.check(l.main)
	}
	if err != nil {
		l.end()
		return nil, err
	}
	return l, nil
}

// serverOptions returns what both connections have in common. Files that cannot be used are errors.
func serverOptions(o Servers, in natsgo.InProcessConnProvider) ([]natsgo.Option, error) {
	options := []natsgo.Option{
		natsgo.ReconnectBufSize(-1), natsgo.MaxReconnects(-1), natsgo.RetryOnFailedConnect(true), natsgo.IgnoreAuthErrorAbort(),
		natsgo.ReconnectWait(reconnectWait), natsgo.ReconnectJitter(reconnectJitter, reconnectJitter),
		natsgo.PingInterval(pingEvery), natsgo.MaxPingsOutstanding(pingsOut), natsgo.Timeout(dialTimeout),
		// A write holds the client's lock, so that it does not notice meanwhile that no pings come back.
		natsgo.FlusherTimeout(pingEvery * (pingsOut + 1)),
	}
	if in != nil {
		return append(options, natsgo.InProcessServer(in)), nil
	}
	for _, file := range []struct {
		field, path string
		option      func(path string) (natsgo.Option, error)
		works       func(*natsgo.Options) error
	}{
		{"NATSCreds", o.Creds, func(path string) (natsgo.Option, error) { return natsgo.UserCredentials(path), nil },
			func(o *natsgo.Options) error {
				_, err := o.UserJWT()
				if err == nil {
					_, err = o.SignatureCB([]byte("nonce"))
				}
				return err
			}},
		{"NATSNkey", o.Nkey, natsgo.NkeyOptionFromSeed, func(o *natsgo.Options) error { _, err := o.SignatureCB([]byte("nonce")); return err }},
		{"NATSTLSCA", o.CA, func(path string) (natsgo.Option, error) { return natsgo.RootCAs(path), nil },
			func(o *natsgo.Options) error { _, err := o.RootCAsCB(); return err }},
		{"NATSTLSCert", o.Cert, func(path string) (natsgo.Option, error) { return natsgo.ClientCert(path, o.Key), nil },
			func(o *natsgo.Options) error { _, err := o.TLSCertCB(); return err }},
	} {
		if file.path == "" {
			continue
		}
		_, err := os.ReadFile(file.path)
		var option natsgo.Option
		if err == nil {
			option, err = file.option(file.path)
		}
		if err == nil {
			err = option(new(natsgo.Options))
		}
		if err == nil {
			var tried natsgo.Options
			_ = option(&tried) // ignored: it was looked at above
			err = file.works(&tried)
		}
		if err != nil {
			return nil, setting.Error(fmt.Sprintf("{%s} %s: %s", file.field, setting.Literal(file.path), setting.Literal(reason(err))))
		}
		options = append(options, option)
	}
	return options, nil
}

// reason returns an error's text without what says where it comes from.
func reason(err error) string {
	var path *os.PathError
	if errors.As(err, &path) {
		return path.Err.Error()
	}
	return strings.TrimPrefix(err.Error(), "nats: ")
}

// connect makes one of the connections.
func (l *link) connect(ctx context.Context, url string, options []natsgo.Option, name string, ev linkEvents) (*natsgo.Conn, error) {
	connected, final := make(chan struct{}), make(chan error, 1)
	var initial atomic.Bool // no connection yet
	initial.Store(true)
	var last atomic.Pointer[error]
	var waited time.Time // when the log said last that there is no connection; of ReconnectErrHandler
	l.closed.Add(1)
	options = append(options[:len(options):len(options)],
		natsgo.Name(name),
		natsgo.ConnectHandler(func(*natsgo.Conn) { initial.Store(false); close(connected) }),
		natsgo.ReconnectErrHandler(func(_ *natsgo.Conn, err error) {
			last.Store(&err)
			if !initial.Load() {
				l.report(err)
				return
			}
			if isFinal(err) {
				select {
				case final <- err:
				default:
				}
			} else if now := time.Now(); !errors.Is(err, natsgo.ErrNoServers) && now.Sub(waited) >= waitingEvery { // ErrNoServers is the first attempt's, and says nothing
				l.log.Warn("waiting for NATS", "servers", redacted(url), "error", reason(err))
				waited = now
			}
		}),
		natsgo.DisconnectErrHandler(func(_ *natsgo.Conn, err error) {
			if ev.down != nil && !l.closing.Load() {
				l.log.Warn("the connection to NATS broke", "error", err)
				ev.down()
			}
		}),
		natsgo.ReconnectHandler(func(nc *natsgo.Conn) {
			if ev.up != nil {
				if err := l.check(nc); err != nil {
					l.log.Error(err.Error())
				}
				l.log.Info("connected to NATS again", "server", nc.ConnectedUrlRedacted())
				ev.up()
			}
		}),
		natsgo.ClosedHandler(func(nc *natsgo.Conn) {
			defer l.closed.Done()
			if ev.closed != nil && !l.closing.Load() {
				ev.closed(cmp.Or(nc.LastError(), natsgo.ErrConnectionClosed))
			}
		}),
		natsgo.ErrorHandler(func(_ *natsgo.Conn, s *natsgo.Subscription, err error) {
			if s != nil && ev.slow != nil && errors.Is(err, natsgo.ErrSlowConsumer) {
				ev.slow(s)
				return
			}
			if errors.Is(err, natsgo.ErrMaxSubscriptionsExceeded) && ev.full != nil {
				ev.full()
			}
			if what := denied.FindStringSubmatch(err.Error()); what != nil && ev.denied != nil && errors.Is(err, natsgo.ErrPermissionViolation) {
				ev.denied(what[1], what[2])
			}
			l.report(err)
		}))

	// Connect tries each server once before it returns, and knows no context.
	type result struct {
		nc  *natsgo.Conn
		err error
	}
	made := make(chan result, 1)
	go func() {
		nc, err := natsgo.Connect(url, options...)
		if err != nil {
			l.closed.Done() // there is nothing to be closed
		}
		made <- result{nc, err}
	}()
	var r result
	select {
	case r = <-made:
	case <-ctx.Done():
		go func() {
			if r := <-made; r.err == nil {
				r.nc.Close()
			}
		}()
		return nil, fmt.Errorf("connect to NATS: %w", context.Cause(ctx))
	}
	if r.err != nil {
		return nil, cannotConnect(r.err)
	}
	if r.nc.IsConnected() {
		initial.Store(false)
		return r.nc, nil
	}
	var err error
	select {
	case <-connected:
		l.log.Info("connected to NATS", "server", r.nc.ConnectedUrlRedacted())
		return r.nc, nil
	case err = <-final:
		err = cannotConnect(err)
	case <-ctx.Done():
		err = fmt.Errorf("connect to NATS: %w", context.Cause(ctx))
		if last := last.Load(); last != nil {
			err = fmt.Errorf("connect to NATS: %s: %w", reason(*last), context.Cause(ctx))
		}
	}
	r.nc.Close()
	return nil, err
}

// denied matches what a server says that a user may not do, and of which subject.
var denied = regexp.MustCompile(`for (Publish|Subscription) to "([^"]*)"`)

// redacted returns servers' addresses without names and passwords in them.
func redacted(urls string) string {
	all := strings.Split(urls, ",")
	for i, u := range all {
		if at := strings.LastIndexByte(u, '@'); at >= 0 {
			scheme, _, ok := strings.Cut(u, "://")
			if all[i] = u[at+1:]; ok {
				all[i] = scheme + "://" + all[i]
			}
		}
	}
	return strings.Join(all, ",")
}

// cannotConnect returns the error for what trying again does not help, with what to look at.
func cannotConnect(err error) error {
	return setting.Error("connect to NATS ({NATSURL}): " + explained(err))
}

// explained returns the text of an error of connecting, with what to look at: with fields in braces.
func explained(err error) string {
	text := setting.Literal(reason(err))
	var certificate *tls.CertificateVerificationError
	switch {
	case errors.Is(err, natsgo.ErrAuthorization):
		text += "; check {NATSCreds} or {NATSNkey}, or the user in {NATSURL}, and that the servers know that user"
	case errors.Is(err, natsgo.ErrSecureConnWanted):
		text += "; the server has no TLS: use nats:// in {NATSURL}, or configure TLS there"
	case errors.As(err, &certificate):
		text += "; check {NATSTLSCA}"
	}
	return text
}

// isFinal reports whether trying again does not help, until somebody changes something.
func isFinal(err error) bool {
	for _, e := range []error{natsgo.ErrAuthorization, natsgo.ErrAuthExpired, natsgo.ErrAuthRevoked, natsgo.ErrAccountAuthExpired,
		natsgo.ErrSecureConnRequired, natsgo.ErrSecureConnWanted, natsgo.ErrNkeysNotSupported} {
		if errors.Is(err, e) {
			return true
		}
	}
	var certificate *tls.CertificateVerificationError
	return errors.As(err, &certificate)
}

// check returns an error if the server does not do, and has a line in the log if it had better be replaced.
func (l *link) check(nc *natsgo.Conn) error {
	text := nc.ConnectedServerVersion()
	v, ok := parseVersion(text)
	if ok && v.less(versionLeast) {
		return setting.Error(fmt.Sprintf("nats-server %v at {NATSURL} is too old: upgrade it to %v or later", v, versionLeast))
	}
	if need := int64(l.maxMessage + payloadOverhead); nc.MaxPayload() > 0 && nc.MaxPayload() < need {
		return setting.Error(fmt.Sprintf("{MaxMessage} %s does not fit NATS's max_payload of %s: lower it, or set max_payload of the servers to %s or more",
			setting.FormatSize(l.maxMessage), setting.FormatSize(int(nc.MaxPayload())), setting.FormatSize(int(need))))
	}
	l.mu.Lock()
	advised := l.advised[text]
	l.advised[text] = true
	l.mu.Unlock()
	if line := advice(v, nc.ConnectedClusterName() != ""); ok && line != "" && !advised {
		l.log.Warn(line)
	}
	return nil
}

// report logs an error of a connection: one in a second, because there may be one for each channel, and the same one in
// reportAgain, because it is tried again for ever.
func (l *link) report(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	text, now := reason(err), time.Now()
	if now.Sub(l.reported) < time.Second || now.Sub(l.errors[text]) < reportAgain {
		l.unlogged++
		return
	}
	if len(l.errors) == errorsMost {
		clear(l.errors)
	}
	message := "error of the connection to NATS"
	if isFinal(err) {
		message = "NATS refuses the connection, which is tried again: renew the credentials or certificates"
	}
	l.log.Warn(message, "error", text, "more", l.unlogged)
	l.reported, l.errors[text], l.unlogged = now, now, 0
}

// batches reports whether the server answers a direct get with several messages.
func (l *link) batches() bool {
	v, ok := parseVersion(l.reads.ConnectedServerVersion())
	return !ok || !v.less(versionBatch)
}

// close ends both connections, and waits until they have ended.
func (l *link) close() {
	l.end()
	l.closed.Wait()
}

func (l *link) end() {
	l.closing.Store(true)
	for _, nc := range []*natsgo.Conn{l.main, l.reads} {
		if nc != nil {
			nc.Close()
		}
	}
}
