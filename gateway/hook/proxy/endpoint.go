package proxy

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"sluice/gateway/hook"
	"sluice/gateway/hook/queue"
)

// Config is an endpoint and what is sent there. The zero value of a field is "none", or the
// default that is named.
type Config struct {
	Name            string        // of the hook, for errors and metrics
	Endpoint        string        // an http or https URL; see CheckEndpoint
	Timeout         time.Duration // from when a call is sent to the end of its answer; 1 s
	Headers         []string      // of the opening request, which are passed on
	EmulatedHeaders []string      // of the client's connect command, which are passed on
	StaticHeaders   map[string]string
	Binary          bool // payloads are sent as base64, so they can be other than JSON
	Meta            bool // the connection's meta is sent, except to connect
	TLS             *tls.Config
	Transforms      []Transform // the first that fits counts

	InFlight int           // calls of one event at a time; 64
	Wait     time.Duration // for which a call waits at most; 5 s
	Budget   *queue.Budget // of all calls that wait; nil for one of its own

	// SharedBy are headers that identify a user. Requests that have one of them, and of which the
	// backend would see the same except for the client's ID, share a call while it is in flight. Publications and
	// RPC never do: two of them are two, however alike they are.
	SharedBy []string
	// Cache is for how long a decision about a subscription is used again: for the same user,
	// channel, data of the client, meta if it is sent, and headers that are passed on. The answer's
	// Cache-Control can shorten or forbid it. Never used again are answers that have expire_at or
	// disconnect, temporary errors, and failures.
	Cache time.Duration

	// Trace is called after each call, for tools; nil for nothing.
	Trace func(Exchange)

	// Of tests.
	resolver *net.Resolver
	idle     time.Duration // 0: idleTimeout
}

// Exchange is a call as it was sent and answered. What it refers to is valid until Trace returns.
type Exchange struct {
	Event  string
	Header http.Header // beside what package net/http adds
	Body   []byte
	Status int    // 0 without an answer
	Answer []byte // at most 64 KiB of it
}

// Transform is what a status other than 200 means. Exactly one of Error and Disconnect is set.
type Transform struct {
	Status     int
	Error      *hook.Error
	Disconnect *hook.Disconnect
}

const (
	answerMax = 64 << 10
	drainMax  = 4 << 10 // of an answer that is not read, so that its connection can be used again
	// idleTimeout is less than after what common backends close an idle connection (5 s is
	// frequent), because a call that is sent at that moment fails.
	idleTimeout     = 4 * time.Second
	headerBytesMax  = 64 << 10
	timeoutDefault  = time.Second
	inFlightDefault = 64
)

// Endpoint makes calls. Its hooks are made before the first call; then it is safe for concurrent use. Close releases its
// connections.
type Endpoint struct {
	cfg       Config
	name      string // in errors: no credentials, no query
	template  http.Request
	headers   []string    // canonical
	emulated  []string    // canonical
	sharedBy  []string    // canonical
	static    http.Header // with the Content-Type
	repeated  http.Header // the same for calls that http.Transport may repeat
	transport *http.Transport
}

// New returns an Endpoint. It does not connect.
func New(cfg Config) (*Endpoint, error) {
	u, err := parseEndpoint(cfg.Endpoint)
	if err != nil {
		return nil, err
	}
	cfg.Timeout, cfg.InFlight = cmp.Or(cfg.Timeout, timeoutDefault), cmp.Or(cfg.InFlight, inFlightDefault)
	e := &Endpoint{
		cfg: cfg, name: Redacted(u),
		headers: canonical(cfg.Headers), emulated: canonical(cfg.EmulatedHeaders), sharedBy: canonical(cfg.SharedBy),
		static: make(http.Header),
	}
	if u.User != nil {
		password, _ := u.User.Password()
		e.static.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(u.User.Username()+":"+password)))
	}
	for name, value := range cfg.StaticHeaders {
		e.static.Set(name, value)
	}
	e.static["Content-Type"] = contentType // last: nothing can replace it
	e.repeated = e.static.Clone()
	if _, ok := e.repeated[idempotency]; !ok {
		e.repeated[idempotency] = nil
	}
	e.template = http.Request{
		Method: http.MethodPost, URL: u, Host: u.Host, Header: e.static,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}
	e.transport = Transport{cfg.Timeout, cfg.TLS, 0, cfg.resolver, cfg.idle}.New() // hooks share it: they raise the number of its connections
	return e, nil
}

var contentType = []string{"application/json"}

// idempotency is the header that makes http.Transport repeat a request whose connection, used
// before, was closed before an answer came: the backend had closed it as idle. Without a value it
// is not sent.
const idempotency = "Idempotency-Key"

// Close closes the idle connections. Those of calls are closed when these end.
func (e *Endpoint) Close() { e.transport.CloseIdleConnections() }

// String returns the endpoint as logs show it.
func (e *Endpoint) String() string { return e.name }

// CheckEndpoint returns an error if an endpoint cannot be called.
func CheckEndpoint(endpoint string) error {
	_, err := parseEndpoint(endpoint)
	return err
}

func parseEndpoint(endpoint string) (*url.URL, error) {
	if endpoint == "" {
		return nil, errors.New("there is no endpoint; name one, for example \"http://127.0.0.1:3000/hook\"")
	}
	u, err := url.Parse(endpoint)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" {
		// What is wrong with a URL is not repeated: it may hold a password.
		if err == nil && strings.HasPrefix(u.Scheme, "grpc") {
			return nil, errors.New("a gRPC endpoint is not supported; use the same hook over HTTP, with http:// or https://")
		}
		return nil, errors.New("it is not an http:// or https:// URL (without a scheme Centrifugo takes an endpoint for gRPC, which is not supported)")
	}
	switch {
	case u.Hostname() == "":
		return nil, errors.New("the URL has no host")
	case u.Fragment != "":
		return nil, errors.New("the URL has a fragment, which is never sent; remove what is behind '#'")
	case isMetadataHost(u.Hostname()):
		return nil, fmt.Errorf("%s is an address at which clouds serve credentials, and is never called", u.Hostname())
	}
	return u, nil
}

// HasPassword reports whether an endpoint, which CheckEndpoint has accepted, holds a password.
func HasPassword(endpoint string) bool {
	u, err := parseEndpoint(endpoint)
	return err == nil && u.User != nil
}

// Redacted returns a URL without what is secret in it.
func Redacted(u *url.URL) string {
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
}

func canonical(names []string) []string {
	var list []string
	for _, name := range names {
		list = append(list, http.CanonicalHeaderKey(name))
	}
	return list
}

// header returns the headers of a call, which http.Transport may repeat or not. They are shared
// by all calls if nothing of the client is passed on.
func (e *Endpoint) header(who *hook.Identity, repeats bool) (http.Header, error) {
	static := e.static
	if repeats {
		static = e.repeated
	}
	if len(e.headers) == 0 && len(e.emulated) == 0 {
		return static, nil
	}
	h := make(http.Header, len(static)+len(e.headers)+len(e.emulated))
	maps.Copy(h, static)
	for _, name := range e.emulated {
		for v := range who.Emulated.Values(name) {
			h[name] = []string{v} // the last one counts: a client's names are a map
		}
	}
	for _, name := range e.headers {
		var all []string
		for v := range who.Headers.Values(name) {
			all = append(all, v)
		}
		if all != nil {
			h[name] = all
		}
	}
	h["Content-Type"] = contentType
	for name, all := range h {
		for _, v := range all {
			if !validValue(v) {
				return nil, &hook.Failure{Outcome: queue.Request, Err: fmt.Errorf("the client's header %s has a character that no header may have", name)}
			}
		}
	}
	return h, nil
}

// validValue reports whether a header may have a value (RFC 9110 section 5.5).
func validValue(v string) bool {
	for i := range len(v) {
		if c := v[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

// post sends a body, and returns the answer in a buffer that release must be called with. fresh
// is for how long the answer may be used again.
func (e *Endpoint) post(ctx context.Context, event string, header http.Header, body []byte) (answer *[]byte, fresh time.Duration, err error) {
	r := e.template.WithContext(ctx)
	r.Header, r.ContentLength = header, int64(len(body))
	// A type that net/http knows: it then sends the header and the body in one segment.
	r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	r.Body, _ = r.GetBody() // never fails
	resp, err := e.transport.RoundTrip(r)
	if err != nil {
		if e.cfg.Trace != nil {
			e.cfg.Trace(Exchange{Event: event, Header: header, Body: body})
		}
		return nil, 0, e.broken(err)
	}
	defer resp.Body.Close() // ignored: everything that counts was read
	if resp.StatusCode != http.StatusOK && e.cfg.Trace == nil {
		if resp.ContentLength >= 0 && resp.ContentLength <= drainMax {
			_, _ = io.Copy(io.Discard, resp.Body) // ignored: it is only so that the connection can be used again
		}
		return nil, 0, e.status(resp.StatusCode)
	}
	answer = answers.Get().(*[]byte)
	n, err := readAll(answer, resp.Body)
	if e.cfg.Trace != nil {
		e.cfg.Trace(Exchange{event, header, body, resp.StatusCode, (*answer)[:min(n, answerMax)]})
	}
	switch {
	case resp.StatusCode != http.StatusOK:
		release(answer)
		return nil, 0, e.status(resp.StatusCode)
	case err != nil:
		release(answer)
		return nil, 0, e.broken(err)
	case n > answerMax:
		release(answer)
		return nil, 0, e.failure(queue.Decode, false, "the answer is larger than %d KiB", answerMax>>10)
	}
	if e.cfg.Cache > 0 {
		fresh = freshFor(e.cfg.Cache, resp.Header.Values("Cache-Control"))
	}
	return answer, fresh, nil
}

func (e *Endpoint) failure(o queue.Outcome, away bool, format string, args ...any) *hook.Failure {
	return &hook.Failure{Outcome: o, Away: away, Err: fmt.Errorf("%s: %w", e.name, fmt.Errorf(format, args...))}
}

// broken returns the failure of a connection. One whose context has ended is a timeout or not
// waited for, as hook.Func finds out.
func (e *Endpoint) broken(err error) *hook.Failure { return e.failure(queue.Refused, true, "%w", err) }

// status returns what a status other than 200 means. The backend is away only if something before
// it says so: another error of the application may be about this one request.
func (e *Endpoint) status(status int) error {
	for _, t := range e.cfg.Transforms {
		if t.Status != status {
			continue
		}
		if t.Disconnect != nil {
			return t.Disconnect
		}
		return t.Error
	}
	away := status == http.StatusBadGateway || status == http.StatusServiceUnavailable || status == http.StatusGatewayTimeout
	if status >= 300 && status < 400 {
		return e.failure(queue.Status, away, "the status is %d: redirects are not followed", status)
	}
	return e.failure(queue.Status, away, "the status is %d and not 200", status)
}
