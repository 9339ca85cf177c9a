package ops

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"strings"
	"sync"

	"sluice/gateway/gate"
)

// Relay stands between requests and the gateway, which is handed over to another process at some time. Requests
// for the API wait while it is held; once it is moved, they go to the other process, over the address that both
// have had. Those that are under way then are done there from the beginning, unless a part of them was done already.
//
// A client's connection stays with the process that has accepted it. It is asked to close it with the next answer
// (Connection: close): to close it in silence could cost a request that is on its way.
type Relay struct {
	gate gate.Gate

	mu      sync.Mutex
	running map[*attempt]struct{} // guarded by mu: requests that began before the move
	to      http.Handler          // guarded by mu: the other process; nil before the move
	busy    int                   // guarded by mu: requests of any kind
	conns   map[net.Conn]struct{} // guarded by mu: of clients
}

// NewRelay returns a relay to nowhere: requests are served.
func NewRelay() *Relay {
	return &Relay{running: make(map[*attempt]struct{}), conns: make(map[net.Conn]struct{})}
}

// errMoved ends the context of a request that is done by another process, or that is cut off by it.
var errMoved = errors.New("the gateway was handed over to another process")

// Hold keeps requests waiting.
func (r *Relay) Hold() { r.gate.Hold() }

// Release ends Hold.
func (r *Relay) Release() { r.gate.Release() }

// Move ends Hold for good: letGo closes this process's listeners, and requests go to the process that listens at an
// address of theirs, "" for none.
func (r *Relay) Move(network, address string, letGo func()) {
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			if address == "" {
				return nil, errMoved
			}
			return new(net.Dialer).DialContext(ctx, network, address)
		},
		DisableKeepAlives: true, DisableCompression: true,
	}
	proxy := &httputil.ReverseProxy{
		Transport: transport,
		Rewrite: func(p *httputil.ProxyRequest) {
			p.Out.URL.Scheme, p.Out.URL.Host = "http", "gateway"
			p.Out.Host = p.In.Host
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			writeError(w, http.StatusServiceUnavailable, "unavailable", "the gateway was handed over to another process, which does not answer")
		},
	}
	r.mu.Lock()
	letGo()
	r.to = http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Connection", "close")
		proxy.ServeHTTP(w, req)
	})
	for a := range r.running {
		a.move()
	}
	r.mu.Unlock()
	r.gate.Shut()
}

// Busy returns how many requests are under way.
func (r *Relay) Busy() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.busy
}

// Moved reports whether Move was called.
func (r *Relay) Moved() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.to != nil
}

// Connections returns how many connections clients have.
func (r *Relay) Connections() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.conns)
}

// connState is an http.Server's ConnState.
func (r *Relay) connState(c net.Conn, state http.ConnState) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch state {
	case http.StateActive, http.StateIdle:
		r.conns[c] = struct{}{}
	case http.StateClosed, http.StateHijacked:
		delete(r.conns, c)
	}
}

// upgradePath is served by this process whatever happens: it is where it is asked to hand over.
const upgradePath = "/api/upgrade"

// Around returns the handler of all requests: next serves them here.
func (r *Relay) Around(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		path := req.URL.Path
		if path == upgradePath {
			next.ServeHTTP(w, req)
			return
		}
		if waits := path == "/api" || strings.HasPrefix(path, "/api/") || strings.HasPrefix(path, "/publish/"); waits {
			r.gate.Wait(req.Context().Done()) // whatever it says: see begin
		}
		a := newAttempt(w, req)
		to := r.begin(a)
		defer r.end(a)
		if to == nil {
			next.ServeHTTP(a, a.request)
			if to = r.movedTo(a); to == nil {
				return
			}
			req = a.again(req)
		}
		to.ServeHTTP(w, req)
	})
}

// begin notes a request. It returns where it goes, nil if it is served here.
func (r *Relay) begin(a *attempt) http.Handler {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.busy++
	if r.to == nil {
		r.running[a] = struct{}{}
	}
	return r.to
}

func (r *Relay) end(a *attempt) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.busy--
	delete(r.running, a)
	a.cancel(nil)
}

// movedTo returns where a request that was served here has to be done again; nil if it was done.
func (r *Relay) movedTo(a *attempt) http.Handler {
	r.mu.Lock()
	defer r.mu.Unlock()
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.moved {
		return nil
	}
	return r.to
}

// attempt is a request that is served here. It is its http.ResponseWriter, too.
type attempt struct {
	http.ResponseWriter
	gate.Attempt
	request *http.Request
	cancel  context.CancelCauseFunc
	header  http.Header // what the handler sets before it answers
	body    recorder

	mu    sync.Mutex
	wrote bool // guarded by mu: the answer has begun
	moved bool // guarded by mu: what is answered here is not sent
}

func newAttempt(w http.ResponseWriter, r *http.Request) *attempt {
	a := &attempt{ResponseWriter: w}
	ctx, cancel := context.WithCancelCause(r.Context())
	a.cancel = cancel
	a.request = r.WithContext(gate.With(ctx, &a.Attempt))
	a.body.ReadCloser = r.Body
	a.request.Body = &a.body
	return a
}

// move ends the request here. It is done by the other process if nothing of it was done.
func (a *attempt) move() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.moved = !a.wrote && !a.Done()
	a.cancel(errMoved)
}

// again returns the request, to be done anew.
func (a *attempt) again(r *http.Request) *http.Request {
	again := r.Clone(r.Context())
	again.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(a.body.read), r.Body), r.Body}
	return again
}

// begins reports whether an answer may be sent.
func (a *attempt) begins() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.moved {
		return false
	}
	if !a.wrote {
		a.wrote = true
		for name, values := range a.header {
			a.ResponseWriter.Header()[name] = values
		}
	}
	return true
}

// Header implements http.ResponseWriter: an answer that is not sent leaves nothing behind.
func (a *attempt) Header() http.Header {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.wrote {
		return a.ResponseWriter.Header()
	}
	if a.header == nil {
		a.header = make(http.Header)
	}
	return a.header
}

// WriteHeader implements http.ResponseWriter.
func (a *attempt) WriteHeader(status int) {
	if a.begins() {
		a.ResponseWriter.WriteHeader(status)
	}
}

// Write implements http.ResponseWriter.
func (a *attempt) Write(p []byte) (int, error) {
	if a.begins() {
		return a.ResponseWriter.Write(p)
	}
	return len(p), nil
}

// FlushError is what http.ResponseController calls to flush: it begins the answer.
func (a *attempt) FlushError() error {
	if !a.begins() {
		return nil
	}
	return http.NewResponseController(a.ResponseWriter).Flush()
}

// Unwrap lets http.ResponseController find the real writer.
func (a *attempt) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// recorder keeps what was read of a body. Handlers bound that.
type recorder struct {
	io.ReadCloser
	read []byte
}

func (r *recorder) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	r.read = append(r.read, p[:n]...)
	return n, err
}
