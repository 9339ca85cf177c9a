package proxy

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sluice/gateway/hook"
	"sluice/gateway/hook/queue"
)

// What a call comes to, by what the backend does.
func TestOutcomesOfCalls(t *testing.T) {
	limit := func(o *Config) { o.Timeout = 50 * time.Millisecond }
	transforms := func(o *Config) {
		o.Transforms = []Transform{
			{Status: 429, Error: &hook.Error{Code: 429, Message: "slow down", Temporary: true}},
			{Status: 403, Disconnect: &hook.Disconnect{Code: 4503, Reason: "no"}},
			{Status: 429, Error: &hook.Error{Code: 1}},
		}
	}
	hang := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	status := func(code int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(code)
			io.WriteString(w, body)
		}
	}
	for name, c := range map[string]struct {
		serve   http.HandlerFunc
		set     func(*Config)
		outcome queue.Outcome
		away    bool
		text    string // of the error
	}{
		"allowed":              {serve: says(`{"result":{}}`), outcome: queue.OK},
		"no result":            {serve: says(`{}`), outcome: queue.OK},
		"error":                {serve: says(`{"error":{"code":400,"message":"full"}}`), outcome: queue.ErrorReply, text: "full (400)"},
		"disconnect":           {serve: says(`{"disconnect":{"code":4500,"reason":"go"}}`), outcome: queue.Disconnect, text: "go (4500)"},
		"hangs":                {serve: hang, set: limit, outcome: queue.Timeout, away: true, text: "subscribe hook: http://ADDRESS/hook: no answer within 50ms"},
		"a slow head":          {serve: drip("HTTP/1.1 200 OK\r\nX-A: b"), set: limit, outcome: queue.Timeout, away: true, text: "no answer within 50ms"},
		"a slow body":          {serve: drip("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n{"), set: limit, outcome: queue.Timeout, away: true, text: "no answer within 50ms"},
		"201":                  {serve: status(201, `{"result":{}}`), outcome: queue.Status, text: "http://ADDRESS/hook: the status is 201 and not 200"},
		"204":                  {serve: status(204, ``), outcome: queue.Status, text: "204"},
		"404":                  {serve: status(404, `{"result":{}}`), outcome: queue.Status, text: "404"},
		"500":                  {serve: status(500, `oops`), outcome: queue.Status, text: "500"},
		"502":                  {serve: status(502, ``), outcome: queue.Status, away: true, text: "502"},
		"503":                  {serve: status(503, strings.Repeat("x", 1<<20)), outcome: queue.Status, away: true, text: "503"},
		"429, transformed":     {serve: status(429, ``), set: transforms, outcome: queue.ErrorReply, text: "slow down (429)"},
		"403, transformed":     {serve: status(403, ``), set: transforms, outcome: queue.Disconnect, text: "no (4503)"},
		"500, not transformed": {serve: status(500, ``), set: transforms, outcome: queue.Status, text: "500"},
		"a redirect": {serve: func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
		},
			outcome: queue.Status, text: "307: redirects are not followed"},
		"no JSON":           {serve: says(`<html>`), outcome: queue.Decode, text: "subscribe hook: http://ADDRESS/hook: the answer cannot be used: invalid character"},
		"an empty body":     {serve: says(``), outcome: queue.Decode, text: "the body is empty"},
		"64 KiB":            {serve: says(`{"result":{}}` + strings.Repeat(" ", answerMax-13)), outcome: queue.OK},
		"64 KiB and a byte": {serve: says(`{"result":{}}` + strings.Repeat(" ", answerMax-12)), outcome: queue.Decode, text: "larger than 64 KiB"},
		"1 GiB":             {serve: endless, outcome: queue.Decode, text: "larger than 64 KiB"},
		"a large head": {serve: func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X-A", strings.Repeat("x", 1<<20)) },
			outcome: queue.Refused, away: true, text: "subscribe hook: http://ADDRESS/hook: "},
		"it breaks off": {serve: cut("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"), outcome: queue.Refused, away: true, text: "EOF"},
		"no HTTP":       {serve: cut("SSH-2.0-OpenSSH\r\n\r\n"), outcome: queue.Refused, away: true, text: "malformed"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBackend(t, c.serve)
			cfg := Config{Endpoint: b.URL + "/hook"}
			if c.set != nil {
				c.set(&cfg)
			}
			h := endpoint(t, cfg).Subscribe()
			defer h.Close()
			_, err := call(t, h, subscribing("news"))
			if err == nil != (c.text == "") {
				t.Fatalf("%v, want %q", err, c.text)
			}
			if want := strings.ReplaceAll(c.text, "ADDRESS", b.Listener.Addr().String()); err != nil && !strings.Contains(err.Error(), want) {
				t.Errorf("%v, want %q", err, want)
			}
			if f, ok := errors.AsType[*hook.Failure](err); ok != (c.outcome != queue.OK && c.outcome != queue.ErrorReply && c.outcome != queue.Disconnect) || ok && f.Away != c.away {
				t.Errorf("%#v is a failure: %t, want away: %t", err, ok, c.away)
			}
			if errors.Is(err, hook.ErrTimeout) != (c.outcome == queue.Timeout) {
				t.Errorf("%v is a timeout: %t", err, errors.Is(err, hook.ErrTimeout))
			}
			outcome(t, h, c.outcome)
		})
	}
}

// outcome waits until a call is counted.
func outcome[Q hook.Request, A any](t *testing.T, h *Hook[Q, A], want queue.Outcome) {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		s, _ := h.Stats()
		if s.Outcomes[want] == 1 {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("want one %s: %v", want, s.Outcomes)
		}
	}
}

// drip writes the beginning of a response, and then a byte from time to time.
func drip(start string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		conn, rw, err := w.(http.Hijacker).Hijack()
		if err != nil {
			panic(err)
		}
		defer conn.Close()
		rw.WriteString(start)
		for rw.Flush() == nil {
			rw.WriteString("x")
			time.Sleep(time.Millisecond)
		}
	}
}

// cut writes something and hangs up.
func cut(s string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			panic(err)
		}
		io.WriteString(conn, s)
		conn.Close()
	}
}

// endless writes a gibibyte, as long as somebody reads it.
func endless(w http.ResponseWriter, _ *http.Request) {
	block := []byte(strings.Repeat(" ", 1<<20))
	for range 1024 {
		if _, err := w.Write(block); err != nil {
			return
		}
	}
}

func TestARedirectIsNotFollowed(t *testing.T) {
	elsewhere := newBackend(t, says(`{"result":{}}`))
	for _, code := range []int{301, 302, 303, 307, 308} {
		b := newBackend(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, elsewhere.URL, code) })
		h := endpoint(t, Config{Endpoint: b.URL}).Subscribe()
		if _, err := call(t, h, subscribing("news")); err == nil {
			t.Errorf("%d is followed", code)
		}
		h.Close()
	}
	if n := elsewhere.calls.Load(); n != 0 {
		t.Errorf("%d calls elsewhere", n)
	}
}

func TestTheProxyOfTheEnvironmentIsNotUsed(t *testing.T) {
	b := newBackend(t, says(`{"result":{}}`))
	_, port, _ := net.SplitHostPort(b.Listener.Addr().String())
	// TestMain names a proxy. It would not be used for a loopback address, so this is a name.
	h := endpoint(t, Config{Endpoint: "http://backend.test:" + port, resolver: names(t, "127.0.0.1")}).Subscribe()
	defer h.Close()
	if _, err := call(t, h, subscribing("news")); err != nil {
		t.Error(err)
	}
}

func TestConnectionsAreUsedAgain(t *testing.T) {
	answers := []string{`{"result":{}}`, `{"error":{"code":400}}`, `{}`}
	n := 0
	b := newBackend(t, func(w http.ResponseWriter, r *http.Request) {
		if n++; n%4 == 3 {
			w.WriteHeader(500)
		}
		io.WriteString(w, answers[n%3])
	})
	h := endpoint(t, Config{Endpoint: b.URL, idle: patience}).Subscribe()
	defer h.Close()
	for range 50 {
		call(t, h, subscribing("news"))
	}
	if n := b.conns.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
}

func TestManyConnectionsAreUsedAgain(t *testing.T) {
	const n = 10
	var round sync.WaitGroup
	b := newBackend(t, func(w http.ResponseWriter, r *http.Request) {
		round.Done()
		round.Wait() // all calls of a round at a time
		io.WriteString(w, `{}`)
	})
	h := endpoint(t, Config{Endpoint: b.URL, idle: patience}).Subscribe()
	defer h.Close()
	for range 3 {
		round.Add(n)
		c := make(chan answer[hook.SubscribeResult], n)
		for range n {
			h.Ask(subscribing("news"), func(a *hook.SubscribeResult, err error) { c <- answer[hook.SubscribeResult]{a, err} })
		}
		for range n {
			if _, err := wait(t, c); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got := b.conns.Load(); got != n {
		t.Errorf("%d connections", got)
	}
}

func TestABackendThatDiesAndReturns(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	h := endpoint(t, Config{Endpoint: "http://" + address}).Subscribe()
	defer h.Close()
	serve := func(l net.Listener) *http.Server {
		s := &http.Server{Handler: says(`{"result":{}}`)}
		go s.Serve(l)
		return s
	}
	s := serve(listener)
	if _, err := call(t, h, subscribing("news")); err != nil {
		t.Fatal(err)
	}
	s.Close()
	if _, err := call(t, h, subscribing("news")); err == nil {
		t.Fatal("answered by nobody")
	} else if f, ok := errors.AsType[*hook.Failure](err); !ok || f.Outcome != queue.Refused || !f.Away {
		t.Errorf("%#v", err)
	}
	if listener, err = net.Listen("tcp", address); err != nil {
		t.Skip("the port was taken meanwhile:", err)
	}
	s = serve(listener)
	defer s.Close()
	if _, err := call(t, h, subscribing("news")); err != nil {
		t.Error(err)
	}
}

func TestABackendThatAnswersOutOfOrder(t *testing.T) {
	const n = 20
	hold := make([]chan struct{}, n)
	for i := range hold {
		hold[i] = make(chan struct{})
	}
	var arrived sync.WaitGroup
	arrived.Add(n)
	b := newBackend(t, func(w http.ResponseWriter, r *http.Request) {
		var i int
		fmt.Sscanf(r.Header.Get("X-I"), "%d", &i)
		arrived.Done()
		<-hold[i]
		fmt.Fprintf(w, `{"result":{"data":%d}}`, i)
	})
	h := endpoint(t, Config{Endpoint: b.URL, Headers: []string{"x-i"}}).RPC()
	defer h.Close()
	got := make([]chan answer[hook.RPCResult], n)
	for i := range n {
		got[i] = make(chan answer[hook.RPCResult], 2)
		q := &hook.RPCRequest{Client: someone()}
		q.Client.Headers = hook.Header{{Name: "X-I", Value: fmt.Sprint(i)}}
		h.Ask(q, func(a *hook.RPCResult, err error) { got[i] <- answer[hook.RPCResult]{a, err} })
	}
	arrived.Wait()
	for i := n - 1; i >= 0; i-- {
		close(hold[i])
		if a, err := wait(t, got[i]); err != nil || string(a.Data) != fmt.Sprint(i) {
			t.Errorf("call %d: %v, %v", i, a, err)
		}
	}
}

// A backend that closes an idle connection at the moment when the next call is sent is asked
// again, if a call has no effect of its own.
func TestAConnectionThatIsClosedAsIdle(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	var requests, conns atomic.Int32
	serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conns.Add(1)
			serving.Go(func() {
				defer conn.Close()
				in := bufio.NewReader(conn)
				for i := range 2 {
					r, err := http.ReadRequest(in)
					if err != nil {
						return
					}
					io.Copy(io.Discard, r.Body)
					requests.Add(1)
					if i == 0 { // the second one gets no answer
						io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
					}
				}
			})
		}
	})
	defer serving.Wait()
	defer l.Close()
	e := endpoint(t, Config{Endpoint: "http://" + l.Addr().String(), idle: patience})
	defer e.Close()
	subscribe, rpc := e.Subscribe(), e.RPC()
	defer subscribe.Close()
	defer rpc.Close()
	for range 2 {
		if _, err := call(t, subscribe, subscribing("news")); err != nil {
			t.Fatal(err)
		}
	}
	if requests.Load() != 3 || conns.Load() != 2 {
		t.Errorf("%d requests over %d connections", requests.Load(), conns.Load())
	}
	// The next one gets no answer. It is an RPC, and may have had its effect.
	if _, err := call(t, rpc, &hook.RPCRequest{Client: someone()}); err == nil || requests.Load() != 4 {
		t.Errorf("an RPC is repeated: %v, %d requests", err, requests.Load())
	}
}

// A client that has gone ends its call, and the backend notices.
func TestACanceledCallEndsItsRequest(t *testing.T) {
	began, noticed := make(chan struct{}), make(chan struct{})
	b := newBackend(t, func(_ http.ResponseWriter, r *http.Request) {
		close(began)
		<-r.Context().Done()
		close(noticed)
	})
	h := endpoint(t, Config{Endpoint: b.URL}).Subscribe()
	defer h.Close()
	cancel := h.Ask(subscribing("news"), func(*hook.SubscribeResult, error) { t.Error("answered after it was canceled") })
	<-began
	cancel()
	<-noticed
	outcome(t, h, queue.Canceled)
}

func TestABackendIsNeverAskedMoreThanItsPlacesAllow(t *testing.T) {
	var mu sync.Mutex
	now, most := 0, 0
	b := newBackend(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/places" {
			return // of a test of another process, whose backend had this port before
		}
		mu.Lock()
		now++
		most = max(most, now)
		mu.Unlock()
		time.Sleep(time.Millisecond)
		mu.Lock()
		now--
		mu.Unlock()
		io.WriteString(w, `{"result":{}}`)
	})
	h := endpoint(t, Config{Endpoint: b.URL + "/places", InFlight: 5, Wait: patience}).Connect()
	defer h.Close()
	c := make(chan answer[hook.ConnectResult], 500)
	for range 500 {
		h.Ask(&hook.ConnectRequest{Client: someone()}, func(a *hook.ConnectResult, err error) { c <- answer[hook.ConnectResult]{a, err} })
	}
	for range 500 {
		if _, err := wait(t, c); err != nil {
			t.Fatal(err)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if most > 5 {
		t.Errorf("%d calls at a time", most)
	}
}
