package gateway

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sluice/gateway/access/auth"
	"sluice/gateway/clienttest"
	"sluice/gateway/hooktest"
)

// connectHook is a hooks file with a connect hook.
func connectHook(endpoint string, timeout time.Duration) string {
	return fmt.Sprintf(`{"client": {"proxy": {"connect": {"enabled": true, "endpoint": "%s", "timeout": "%v", "http_headers": ["Cookie"]}}}}`, endpoint, timeout)
}

// notAnswered are what the clients of each column see of a connect hook that cannot be asked.
var notAnswered = &outcome{"", "503 " + notAsked, "", "503 " + notAsked, "error 100 internal server error, temporary", "close 3004 internal server error"}

// endless is an answer without an end. It notes how much of it was taken.
type endless struct {
	kind        string
	sent        atomic.Int64
	asked, over atomic.Int64 // requests, and those whose answer is not taken any more
}

func (e *endless) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	e.asked.Add(1)
	defer e.over.Add(1)
	io.Copy(io.Discard, r.Body) // ignored: it is short
	piece := []byte(strings.Repeat(" ", 64<<10))
	pause := time.Duration(0)
	switch e.kind {
	case "1 GiB":
		w.Header().Set("Content-Length", fmt.Sprint(1<<30))
	case "1 GiB in a string":
		io.WriteString(w, `{"result":{"user":"`) // ignored: the next write fails then
		piece = []byte(strings.Repeat("a", 64<<10))
	case "header":
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		io.WriteString(conn, "HTTP/1.1 200 OK\r\n") // ignored: likewise
		e.copy(conn, []byte("X-A: "+strings.Repeat("a", 1000)+"\r\n"), 0, r)
		return
	case "drop by drop":
		piece, pause = []byte(" "), 5*time.Millisecond
	}
	e.copy(w, piece, pause, r)
}

func (e *endless) copy(w io.Writer, piece []byte, pause time.Duration, r *http.Request) {
	for range (1 << 30) / len(piece) {
		n, err := w.Write(piece)
		if e.sent.Add(int64(n)); err != nil {
			return
		}
		if pause > 0 {
			if http.NewResponseController(w.(http.ResponseWriter)).Flush() != nil || r.Context().Err() != nil {
				return
			}
			time.Sleep(pause) // it is slow
		}
	}
}

// An answer that is too long, or never ends, is a failure. It is not read to its end.
func TestHookAnswersWithoutEnd(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"1 GiB", "1 GiB in a string", "header", "drop by drop"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			e := &endless{kind: kind}
			b := httptest.NewServer(e)
			defer b.Close()
			timeout := time.Duration(clienttest.Patience)
			if kind == "drop by drop" {
				timeout = 100 * time.Millisecond // to its end, and not to the next byte
			}
			s := start(t, Config{Hooks: hooksOf(t, connectHook(b.URL, timeout))})
			for _, way := range ways {
				c := way.open(t, s, "ann", "x")
				if got, want := c.next(), notAnswered.of(way.column, RefuseHTTP); got != want {
					t.Errorf("%s: %q, want %q", way.name, got, want)
				}
				c.Vanish()
				// A call whose time was over before it came to the backend is none.
				clienttest.WaitFor(t, "the answer not to be taken any more", func() bool { return e.over.Load() == e.asked.Load() })
			}
			if n := e.sent.Load() / int64(len(ways)); n > 64<<20 {
				t.Errorf("%d bytes of an answer were taken", n)
			}
		})
	}
}

// A backend that hangs costs the clients that wait for it, for as long as the time limit, and nobody else: not those of another hook, and
// not those that are in.
func TestHookHangs(t *testing.T) {
	t.Parallel()
	b := hooktest.Start(t)
	cfg := guarded(t, "")
	cfg.Raw = RawPublish
	cfg.Hooks = hooksOf(t, fmt.Sprintf(`{
		"client": {"proxy": {"connect": {"enabled": true, "endpoint": "%[1]s/connect", "timeout": "300ms", "http_headers": ["Cookie"]}}},
		"channel": {"proxy": {"publish": {"endpoint": "%[1]s/publish", "timeout": "30s"}}},
		"rpc": {"proxy": {"endpoint": "%[1]s/rpc", "timeout": "300ms"}, "without_namespace": {"proxy_enabled": true}}}`, b.URL))
	s := start(t, cfg)
	in := clienttest.Dial(t, s, "/ws/x?token="+tokens(t, auth.Claims{User: "7", Channel: "x"})) // about a client with a token no hook is asked
	others := clienttest.Dial(t, s, pathClient)
	others.Connects(tokens(t, auth.Claims{User: "8"}))
	var waiting []*speaks
	for _, way := range ways {
		waiting = append(waiting, way.open(t, s, "ann-hangs", "x"))
	}
	clienttest.WaitFor(t, "all to be asked about", func() bool { return len(b.Calls()) == len(ways) })
	in.Send(clienttest.Text(`"hello"`))
	in.WantText("others go on, and their hooks", `"hello"`)
	for i, c := range waiting {
		if got, want := c.next(), notAnswered.of(ways[i].column, RefuseHTTP); got != want {
			t.Errorf("%s: %q, want %q", ways[i].name, got, want)
		}
	}
	others.Does(`{"id":2,"rpc":{"method":"m-hangs"}}`, `{"id":3,"ping":{}}`)
	others.WantTold("its commands stay in order", `{"id":2,"error":{"code":100,"message":"internal server error","temporary":true}}`)
	others.WantTold("and go on", `{"id":3,"ping":{}}`)
}

// Answers come in any order, and each goes to its client.
func TestHookAnswersOutOfOrder(t *testing.T) {
	t.Parallel()
	answers := make(map[string]chan struct{})
	asked := make(chan string, 10)
	for _, name := range []string{"one", "two", "three"} {
		answers[name] = make(chan struct{})
	}
	b := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := r.Cookie("session")
		if err != nil || answers[c.Value] == nil {
			return
		}
		io.Copy(io.Discard, r.Body) // ignored: it is short
		asked <- c.Value
		select {
		case <-answers[c.Value]:
			fmt.Fprintf(w, `{"result":{"user":%q,"channels":["x"]}}`, c.Value)
		case <-r.Context().Done():
		}
	}))
	defer b.Close()
	s := start(t, Config{Hooks: hooksOf(t, connectHook(b.URL, clienttest.Patience))})
	for _, way := range ways {
		clients := make(map[string]*speaks)
		for _, name := range []string{"one", "two", "three"} {
			clients[name] = way.open(t, s, name, "x")
			if got := clienttest.Receive(t, "its hook", asked); got != name {
				t.Fatalf("asked about %s", got)
			}
		}
		for _, name := range []string{"three", "one", "two"} {
			answers[name] <- struct{}{}
			if got := clients[name].next(); got != "in" {
				t.Errorf("%s %s: %s", way.name, name, got)
			}
		}
		for _, c := range clients {
			c.Vanish()
		}
	}
}

// A redirect is not followed, wherever it leads.
func TestHookRedirects(t *testing.T) {
	t.Parallel()
	other := hooktest.Start(t)
	for _, to := range []string{other.URL + "/connect", "http://169.254.169.254/latest/meta-data/", "file:///etc/passwd", "/connect", "//[fd00:ec2::254]/"} {
		for _, status := range []int{301, 302, 303, 307, 308} {
			b := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Location", to)
				w.WriteHeader(status)
				io.WriteString(w, `{"result":{"user":"ann"}}`) // ignored: it decides nothing
			}))
			s := start(t, Config{Hooks: hooksOf(t, connectHook(b.URL, clienttest.Patience))})
			c := ways[0].open(t, s, "ann", "x")
			if got := c.next(); got != notAnswered.raw {
				t.Errorf("%d to %s: %q", status, to, got)
			}
			b.Close()
		}
	}
	if got := other.Calls(); len(got) > 0 {
		t.Errorf("it was followed: %+v", got)
	}
}

// Clients that a backend would have to be asked about are refused while it is away, and are in again when it is back.
func TestHookDiesAndReturns(t *testing.T) {
	t.Parallel()
	says := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)                                     // ignored: it is short
		io.WriteString(w, `{"result":{"user":"ann","channels":["x"]}}`) // ignored: the client is refused then
	})
	backend := func(at string) *httptest.Server {
		var l net.Listener
		clienttest.WaitFor(t, "the backend's port", func() (ok bool) {
			var err error
			l, err = net.Listen("tcp", at)
			return err == nil
		})
		b := &httptest.Server{Listener: l, Config: &http.Server{Handler: says}}
		b.Start()
		return b
	}
	b := backend("127.0.0.1:0")
	at := b.Listener.Addr().String()
	s := start(t, Config{Hooks: hooksOf(t, connectHook("http://"+at, clienttest.Patience))})
	var in []*clienttest.Client
	for range 2 {
		for _, way := range ways {
			c := way.open(t, s, "ann", "x")
			if got := c.next(); got != "in" {
				t.Fatalf("%s: %s", way.name, got)
			}
			if way.name == "raw" {
				in = append(in, c.Client)
			}
		}
		b.CloseClientConnections()
		b.Close()
		overloaded := *notAnswered // the breaker is open
		overloaded.reply, overloaded.unidirectional = "error 111 too many requests, temporary", "close 3013 too many requests"
		sees := 0
		clienttest.WaitFor(t, "the breaker to open", func() bool {
			for _, way := range ways {
				c := way.open(t, s, "ann", "x")
				got := c.next()
				if got == overloaded.of(way.column, RefuseHTTP) && got != notAnswered.of(way.column, RefuseHTTP) {
					sees++
				} else if want := notAnswered.of(way.column, RefuseHTTP); got != want {
					t.Errorf("%s: %q, want %q", way.name, got, want)
				}
				c.Vanish()
			}
			return sees > 0
		})
		s.publish("x", "others go on")
		for _, c := range in {
			c.WantText("others go on", "others go on")
		}
		b = backend(at)
		clienttest.WaitFor(t, "clients to be in again", func() bool {
			c := ways[0].open(t, s, "ann", "x")
			defer c.Vanish()
			return c.next() == "in"
		})
		clienttest.WaitFor(t, "the breaker to be closed", func() bool {
			for _, way := range ways {
				c := way.open(t, s, "ann", "x")
				defer c.Vanish()
				if c.next() != "in" {
					return false
				}
			}
			return true
		})
	}
	b.Close()
}
