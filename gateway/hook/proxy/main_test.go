package proxy

import (
	"cmp"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sluice/gateway/hook"
	"sluice/poller/leaktest"
)

func TestMain(m *testing.M) {
	if os.Getenv(repliesVariable) != "" {
		serveReplies()
		return
	}
	// A proxy of the environment, which is read once in a process and must not be used.
	os.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	leaktest.Main(m)
}

// patience bounds every wait for something that must happen.
const patience = 30 * time.Second

// backend is an HTTP server that keeps what it was sent last.
type backend struct {
	*httptest.Server
	conns atomic.Int32 // that were accepted
	calls atomic.Int32

	mu     sync.Mutex
	body   string
	header http.Header
}

func newBackend(t testing.TB, serve http.HandlerFunc) *backend {
	b := new(backend)
	b.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body) // ignored: a test that needs it sees what is missing
		b.mu.Lock()
		b.body, b.header = string(body), r.Header
		b.mu.Unlock()
		b.calls.Add(1)
		serve(w, r)
	}))
	b.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			b.conns.Add(1)
		}
	}
	b.Start()
	t.Cleanup(b.Close)
	return b
}

// says answers every call with a body.
func says(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, body) }
}

func endpoint(t testing.TB, cfg Config) *Endpoint {
	t.Helper()
	cfg.Timeout = cmp.Or(cfg.Timeout, patience)
	e, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	return e
}

// answer is the answer to a call.
type answer[A any] struct {
	a   *A
	err error
}

// call asks a hook and waits for the answer.
func call[Q hook.Request, A any](t testing.TB, h *Hook[Q, A], q Q) (*A, error) {
	t.Helper()
	c := make(chan answer[A], 2)
	h.Ask(q, func(a *A, err error) { c <- answer[A]{a, err} })
	return wait(t, c)
}

func wait[A any](t testing.TB, c <-chan answer[A]) (*A, error) {
	t.Helper()
	select {
	case x := <-c:
		return x.a, x.err
	case <-time.After(2 * patience):
		t.Fatal("no answer")
		return nil, nil
	}
}

func someone() *hook.Identity {
	return &hook.Identity{ID: "6f0c", Transport: "websocket", Protocol: "json", User: "u7"}
}

func subscribing(channel string) *hook.SubscribeRequest {
	return &hook.SubscribeRequest{Client: someone(), Channel: channel}
}
