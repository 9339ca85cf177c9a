package bench

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// startAsking returns a server that asks a backend about each client and each message, and gives up at once if the backend is away.
// lax is one that does not ask.
func startAsking(t *testing.T, backend string, lax bool) *faultyServer {
	s := newFaultyServer(t, nil)
	ask := func(r *http.Request, event, body string) bool {
		if lax {
			return true
		}
		q, _ := http.NewRequestWithContext(r.Context(), http.MethodPost, "http://"+backend+"/"+event, strings.NewReader(body)) // the address is one
		a, err := http.DefaultClient.Do(q)
		if err != nil {
			return false
		}
		defer a.Body.Close()
		got, _ := io.ReadAll(a.Body) // ignored: then it has no result
		return a.StatusCode == http.StatusOK && bytes.Contains(got, []byte(`"result"`)) && (event != "connect" || bytes.Contains(got, []byte(`"channels":["lobby"]`)))
	}
	mux := http.NewServeMux()
	inner := s.Config.Handler
	mux.Handle("/", inner)
	mux.HandleFunc("/ws", func(w http.ResponseWriter, r *http.Request) {
		if !ask(r, "connect", `{"client":"1","channels":["lobby"]}`) {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		inner.ServeHTTP(w, r)
	})
	mux.HandleFunc("/asked", func(w http.ResponseWriter, r *http.Request) {
		c, err := (&websocket.Upgrader{}).Upgrade(w, r, nil)
		if err != nil {
			return
		}
		defer c.Close()
		for {
			kind, msg, err := c.ReadMessage()
			if err != nil || !ask(r, "publish", string(msg)) {
				return
			}
			c.WriteMessage(kind, msg) // ignored: then the next one cannot be read
		}
	})
	s.Config.Handler = mux
	return s
}

// free returns an address at which nobody listens.
func free(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() // ignored: that it is free is all
	return l.Addr().String()
}

func TestHooksMeasuresWhatClientsSeeOfABackend(t *testing.T) {
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	backend := free(t)
	s := startAsking(t, backend, false)
	run := func(path string, measures ...string) *Result {
		t.Helper()
		o := HooksOptions{Options: own(), Backend: backend, Measures: measures, Takes: time.Millisecond, Connections: 20, Publishes: 5, Refusals: 40,
			Rate: 100, Hang: 200 * time.Millisecond, Subscribers: 4, MessageRate: 50}
		o.URL, o.Path, o.PublishURL = s.url(), path, s.URL+"/publish"
		r, err := Hooks(t.Context(), o)
		if err != nil {
			t.Fatalf("%q: %v", measures, err)
		}
		return r
	}
	r := run("/ws", "connect", "breaker")
	if got := figures(r, "upgraded", "failed", "calls", "breaker_refused"); got["upgraded"] != 20 || got["failed"] != 0 || got["calls"] != 20 || got["breaker_refused"] != 40 {
		t.Errorf("got %v", got)
	}
	if r.Metrics["calls_in_flight"] < 1 || r.Metrics["breaker_calls"] != 40 { // the server has none
		t.Errorf("got %v", r.Metrics)
	}
	r = run("/asked", "publish")
	if got := figures(r, "publish_p50", "publish_backend_p50", "publish_beyond"); got["publish_backend_p50"] < 0.001 || got["publish_beyond"] < 0 || got["publish_p50"] < 0.001 {
		t.Errorf("got %v", got)
	}
	r = run("/ws", "hang")
	if got := figures(r, "pending", "lost", "refused"); got["pending"] < 1 || got["lost"] != 0 || got["refused"] != 0 || r.Metrics["hung_p50"] <= 0 || r.Metrics["quiet_p50"] <= 0 {
		t.Errorf("got %v", r.Metrics)
	}
}

func TestHooksFailsWhereTheServerDoesNotAsk(t *testing.T) {
	backend := free(t)
	s := startAsking(t, backend, true)
	for measure, test := range map[string]struct{ path, why string }{
		"breaker": {"/ws", "does the server have a connect hook?"},
		"publish": {"/asked", "does the server have a publish hook?"},
	} {
		o := HooksOptions{Options: own(), Backend: backend, Measures: []string{measure}, Publishes: 2, Refusals: 2}
		o.URL, o.Path = s.url(), test.path
		if _, err := Hooks(t.Context(), o); err == nil || !strings.Contains(err.Error(), test.why) {
			t.Errorf("%s: got %v, want %q", measure, err, test.why)
		}
	}
	if _, err := Hooks(t.Context(), HooksOptions{Measures: []string{"luck"}, Rate: -1}); err == nil || !strings.Contains(err.Error(), "--measure") || !strings.Contains(err.Error(), "--rate") {
		t.Errorf("got %v", err)
	}
}
