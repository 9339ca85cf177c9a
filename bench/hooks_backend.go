package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"path"
	"sync"
	"sync/atomic"
	"time"

	hdr "github.com/HdrHistogram/hdrhistogram-go"
)

// backend is an application that the server asks by HTTP hooks: it allows everything, unless it is to misbehave. The last segment
// of a request's path is the event: connect, publish or anything else.
type backend struct {
	server  *http.Server
	serving chan struct{} // closed when it does not serve any more

	// Atomic.
	takes    atomic.Int64 // nanoseconds, for a call
	away     atomic.Bool  // it answers with 503
	inFlight atomic.Int64
	calls    atomic.Int64

	mu sync.Mutex
	// Guarded by mu.
	hung      chan struct{}  // closed when it answers again; nil: it does not hang
	most      int64          // calls in flight, since account
	durations *hdr.Histogram // of calls, microseconds, since account
}

// hookAnswer allows what a request asks for: a client that connects gets the channels that it names.
func hookAnswer(event string, request []byte) []byte {
	if event != "connect" {
		return []byte(`{"result":{}}`)
	}
	var q struct {
		Channels []string `json:"channels"`
	}
	json.Unmarshal(request, &q)          // ignored: then it names none
	names, _ := json.Marshal(q.Channels) // never fails: strings
	return fmt.Appendf(nil, `{"result":{"user":"bench","channels":%s}}`, names)
}

// newBackend listens at an address.
func newBackend(address string) (*backend, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("--backend: %w", err)
	}
	b := &backend{serving: make(chan struct{}), durations: newLatency()}
	b.server = &http.Server{Handler: b}
	go func() {
		defer close(b.serving)
		b.server.Serve(l) // ignored: it ends with close
	}()
	return b, nil
}

// ServeHTTP implements http.Handler.
func (b *backend) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	began := time.Now()
	n := b.inFlight.Add(1)
	defer b.inFlight.Add(-1)
	b.calls.Add(1)
	request, _ := io.ReadAll(r.Body) // ignored: then the client is gone
	b.mu.Lock()
	b.most = max(b.most, n)
	hung := b.hung
	b.mu.Unlock()
	if hung != nil {
		select {
		case <-hung:
		case <-r.Context().Done():
			return
		}
	}
	if b.away.Load() {
		http.Error(w, "away", http.StatusServiceUnavailable)
		return
	}
	if takes := time.Duration(b.takes.Load()); takes > 0 {
		time.Sleep(takes)
	}
	answer := hookAnswer(path.Base(r.URL.Path), request)
	b.mu.Lock()
	b.durations.RecordValue(min(time.Since(began), latencyMax).Microseconds()) // ignored: within the bounds
	b.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	w.Write(answer) // ignored: the server does not wait any more
}

// hang has the backend keep all calls, or answer them.
func (b *backend) hang(on bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case on && b.hung == nil:
		b.hung = make(chan struct{})
	case !on && b.hung != nil:
		close(b.hung)
		b.hung = nil
	}
}

// account returns the most calls that were in flight, and how long calls took, and begins anew.
func (b *backend) account() (most int64, durations *hdr.Histogram) {
	b.mu.Lock()
	defer b.mu.Unlock()
	most, durations = b.most, b.durations
	b.most, b.durations = b.inFlight.Load(), newLatency()
	return most, durations
}

// close ends all calls.
func (b *backend) close() {
	b.hang(false)
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	b.server.Shutdown(ctx) // ignored: then Close ends what is left
	b.server.Close()       // ignored: the figures have been taken
	<-b.serving
}
