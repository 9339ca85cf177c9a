package gateway

import (
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sluice/gateway/clienttest"
	"sluice/gateway/hook"
	"sluice/gateway/hook/queue"

	"github.com/gobwas/ws"
)

// application decides as an application would. It notes what it was asked.
type application struct {
	mu    sync.Mutex
	asked []string // guarded by mu
}

func (a *application) note(s ...string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked = append(a.asked, strings.Join(s, " "))
}

func (a *application) want(t *testing.T, want ...string) {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	if !slices.Equal(a.asked, want) {
		t.Errorf("asked %q, want %q", a.asked, want)
	}
	a.asked = nil
}

var errBackend = errors.New("the backend is on fire")

// verdict is what the application says to a name.
func verdict(name string) error {
	switch _, what, _ := strings.Cut(name, "-"); what {
	case "error":
		return &hook.Error{Code: 403, Message: "not you"}
	case "unauthorized":
		return &hook.Error{Code: 401, Message: "who are you?"}
	case "disconnect":
		return &hook.Disconnect{Code: 4501, Reason: "banned"}
	case "failure":
		return errBackend
	}
	return nil
}

// hooks returns hooks of which connect is decided by the cookie, subscribe by the channel's name, and publish by the payload.
func (a *application) hooks() *hook.Set {
	return hook.NewSet(hook.Hooks{
		Connect: hook.Func(func(_ context.Context, q *hook.ConnectRequest) (*hook.ConnectResult, error) {
			cookie := q.Client.Headers.Get("Cookie")
			a.note("connect", q.Client.Transport, cookie)
			switch cookie {
			case "":
				return &hook.ConnectResult{}, nil
			case "nobody":
				return nil, nil
			}
			return &hook.ConnectResult{User: cookie}, verdict(cookie)
		}, hook.Options{}),
		Subscribe: hook.Func(func(_ context.Context, q *hook.SubscribeRequest) (*hook.SubscribeResult, error) {
			a.note("subscribe", q.Client.User, q.Channel)
			return &hook.SubscribeResult{}, verdict(q.Channel)
		}, hook.Options{}),
		Publish: hook.Func(func(_ context.Context, q *hook.PublishRequest) (*hook.PublishResult, error) {
			a.note("publish", q.Client.User, q.Channel, string(q.Data))
			switch data := string(q.Data); data {
			case "change":
				return &hook.PublishResult{Data: []byte("changed")}, nil
			case "version":
				return &hook.PublishResult{Version: 1}, nil
			case "key":
				return &hook.PublishResult{IdempotencyKey: "k"}, nil
			case "delta":
				return &hook.PublishResult{Delta: true}, nil
			case `"change"`:
				return &hook.PublishResult{Data: []byte(`"changed"`), Tags: map[string]string{"by": "hook"}}, nil
			}
			return nil, verdict(strings.Trim(string(q.Data), `"`))
		}, hook.Options{}),
	})
}

// The outcomes of hooks for clients of raw WebSocket and SSE.
func TestHooksDecideAboutRawClients(t *testing.T) {
	t.Parallel()
	for _, refuse := range []Refuse{RefuseHTTP, RefuseClose} {
		var a application
		s := start(t, Config{Hooks: a.hooks(), Raw: RawPublish, Refuse: refuse})
		for _, test := range []struct {
			cookie, channel string
			status          int
			code            ws.StatusCode // with which it is closed at once, or with Refuse "close"
			asked           []string
		}{
			{"ann", "x", 101, 0, []string{"connect websocket ann", "subscribe ann x"}},
			{"", "x", 101, 0, []string{"connect websocket ", "subscribe  x"}},
			{"nobody", "x", 101, 3501, []string{"connect websocket nobody"}},
			{"ann-error", "x", 403, 1008, []string{"connect websocket ann-error"}},
			{"ann-unauthorized", "x", 401, 1008, []string{"connect websocket ann-unauthorized"}},
			{"ann-disconnect", "x", 101, 4501, []string{"connect websocket ann-disconnect"}},
			{"ann-failure", "x", 503, 1013, []string{"connect websocket ann-failure"}},
			{"ann", "x-error", 403, 1008, []string{"connect websocket ann", "subscribe ann x-error"}},
			{"ann", "x-disconnect", 101, 4501, []string{"connect websocket ann", "subscribe ann x-disconnect"}},
			{"ann", "x-failure", 503, 1013, []string{"connect websocket ann", "subscribe ann x-failure"}},
		} {
			var fields []string
			if test.cookie != "" {
				fields = append(fields, "Cookie: "+test.cookie)
			}
			c := clienttest.Connect(t, s)
			c.Write(clienttest.UpgradeTo("/ws/"+test.channel, fields...))
			status := test.status
			if refuse == RefuseClose {
				status = 101
			}
			r := c.WantStatus(test.cookie+" "+test.channel, status)
			if status == http.StatusServiceUnavailable && r.Header.Get("Retry-After") == "" {
				t.Errorf("%s %s: no Retry-After", test.cookie, test.channel)
			}
			switch {
			case status != 101:
				c.WantEOF("a refused one")
			case test.code != 0:
				c.WantClose(test.cookie+" "+test.channel, test.code)
			default:
				c.Send(clienttest.Text("hello"))
				c.WantText("it is in", "hello")
				test.asked = append(test.asked, "publish "+test.cookie+" x hello")
			}
			a.want(t, test.asked...)
		}
	}
}

// The outcomes of hooks for clients of SSE, and for pages of another origin.
func TestHooksDecideAboutStreams(t *testing.T) {
	t.Parallel()
	var a application
	for _, refuse := range []Refuse{RefuseHTTP, RefuseClose} { // a stream is refused by its status in any case
		s := start(t, Config{Hooks: a.hooks(), Refuse: refuse, AllowedOrigins: []string{"https://app.example.com"}})
		for _, test := range []struct {
			cookie, channel string
			status          int
			body            string // its beginning, or what comes behind the stream's first line
		}{
			{"ann", "x", 200, "id: "},
			{"ann-error", "x", 403, "not you\n"},
			{"ann-unauthorized", "x", 401, "who are you?\n"},
			{"ann-disconnect", "x", 200, `event: close` + "\n" + `data: {"code":4501,"reason":"banned"}`},
			{"nobody", "x", 200, `event: close` + "\n" + `data: {"code":3501,"reason":"bad request"}`},
			{"ann-failure", "x", 503, "The application cannot be asked"},
			{"ann", "x-error", 403, "not you\n"},
			{"ann", "x-disconnect", 200, `event: close`},
			{"ann", "x-failure", 503, "The application cannot be asked"},
		} {
			c := clienttest.Connect(t, s)
			c.AskForStream("/sse/"+test.channel, "Cookie: "+test.cookie, "Origin: https://app.example.com")
			c.Patience()
			r, err := http.ReadResponse(c.In, nil)
			if err != nil {
				t.Fatal(err)
			}
			first := make([]byte, 2048)
			body := io.Reader(r.Body)
			if r.Header.Get("Content-Encoding") == "gzip" {
				if body, err = gzip.NewReader(r.Body); err != nil {
					t.Fatal(err)
				}
			}
			n, _ := io.ReadAtLeast(body, first, len(test.body)+len("retry: 1000\n")) // what is read says it
			got := string(first[:n])
			if r.StatusCode == 200 {
				_, got, _ = strings.Cut(got, "\n")
			}
			if r.StatusCode != test.status || !strings.HasPrefix(got, test.body) {
				t.Errorf("%s %s: status %d, %q", test.cookie, test.channel, r.StatusCode, got)
			}
			if (r.Header.Get("Retry-After") != "") != (test.status == 503) || r.Header.Get("Access-Control-Allow-Origin") != "https://app.example.com" ||
				r.Header.Get("Access-Control-Allow-Credentials") != "true" || !strings.HasPrefix(r.Header.Get("Vary"), "Origin") {
				t.Errorf("%s %s: %v", test.cookie, test.channel, r.Header)
			}
			c.Vanish()
		}
	}
}

// Hooks that panic, hang or have too many clients waiting cost nobody but the clients that wait for them.
func TestHooksThatMisbehave(t *testing.T) {
	t.Parallel()
	hangs := make(chan struct{})
	t.Cleanup(func() { close(hangs) })
	h := hook.Func(func(ctx context.Context, q *hook.ConnectRequest) (*hook.ConnectResult, error) {
		switch q.Client.Headers.Get("Cookie") {
		case "panic":
			panic("planted")
		case "hang":
			<-hangs // whatever its context says
		case "wait":
			<-ctx.Done()
			return nil, ctx.Err()
		}
		return nil, nil
	}, hook.Options{Timeout: 50 * time.Millisecond, Queue: queue.Config{InFlight: 2, Budget: queue.NewBudget(1, 1), Breaker: queue.BreakerConfig{Calls: -1}}})
	s := start(t, Config{Hooks: hook.NewSet(hook.Hooks{Connect: h})})
	other := clienttest.Dial(t, s, "/echo")
	ask := func(cookie string) *clienttest.Client {
		c := clienttest.Connect(t, s)
		c.Write(clienttest.UpgradeTo("/ws/x", "Cookie: "+cookie))
		return c
	}
	for _, cookie := range []string{"panic", "wait", "hang", "hang"} { // the last two keep both places
		ask(cookie).WantStatus(cookie, 503)
		other.Send(clienttest.Text(cookie))
		other.WantText("others go on", cookie)
	}
	waits := ask("waits in the queue")
	clienttest.WaitFor(t, "it to wait", func() bool { return h.Stats().Queued == 1 })
	ask("too many").WantStatus("too many", 503)
	c := clienttest.Dial(t, s, pathClient)
	c.Does(`{"id":1,"connect":{}}`)
	c.WantTold("too many", `{"id":1,"error":{"code":111,"message":"too many requests","temporary":true}}`)
	waits.Vanish()
	clienttest.WaitFor(t, "its place to be free", func() bool { return h.Stats().Queued == 0 })
}

// What a client publishes can be changed or rejected, in its order.
func TestHookDecidesAboutPublications(t *testing.T) {
	t.Parallel()
	var a application
	s := start(t, Config{Hooks: a.hooks(), Raw: RawPublish})
	json := clienttest.Dial(t, s, "/ws/x?format=json", "Cookie: ann")
	bare := clienttest.Dial(t, s, "/ws/x?echo=off", "Cookie: bob")
	json.Send(clienttest.Text("one"), clienttest.Text("change"), clienttest.Text("x-error"), clienttest.Text("x-failure"), clienttest.Text("version"), clienttest.Text("key"), clienttest.Text("delta"), clienttest.Text("two"))
	for _, want := range []string{"one", "changed", "delta", "two"} {
		bare.WantText("what is allowed", want)
	}
	errors := 0
	for errors < 4 {
		_, p, err := json.Next()
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case p == `{"error":{"code":403,"message":"not you"}}`, p == `{"error":{"code":100,"message":"internal server error","temporary":true}}`:
			errors++
		case strings.HasPrefix(p, `{"error"`):
			t.Errorf("got %s", p)
		}
	}
	bare.Send(clienttest.Text("x-error"))
	bare.WantClose("a bare client", 1008)
}

// What a publish hook answers with has the limit of clients' messages: beyond it the hook has failed, and not its client.
func TestPublishHookAnswersWithTooMuch(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Hooks: hook.NewSet(hook.Hooks{Publish: hook.Func(func(_ context.Context, q *hook.PublishRequest) (*hook.PublishResult, error) {
		return &hook.PublishResult{Data: []byte(strings.Repeat(string(q.Data), 100))}, nil
	}, hook.Options{})}), MaxMessage: 1000, ChannelBuffer: 4 << 10, Raw: RawPublish, History: -1})
	json := clienttest.Dial(t, s, "/ws/x?format=json&echo=off")
	bare, other := clienttest.Dial(t, s, "/ws/y"), clienttest.Dial(t, s, "/ws/x")
	for range 2 {
		json.Send(clienttest.Text(clienttest.Stars(50)))
		json.WantText("it is not published", `{"error":{"code":100,"message":"internal server error","temporary":true}}`)
	}
	json.Send(clienttest.Text("0123456789"))
	other.WantText("1,000 bytes are not too many", strings.Repeat("0123456789", 100))
	bare.Send(clienttest.Text(clienttest.Stars(50)))
	bare.WantClose("it cannot be notified otherwise", 1013)
}

// filter returns hooks of which there is only a filter.
func filter(f func(m hook.FilterRequest) (publish bool)) *hook.Set {
	return hook.NewSet(hook.Hooks{Filter: f})
}

// A filter is not asked who may do what: a node that has only that is open, and it sees what a publish hook would be asked.
func TestFilterIsAHookThatOpensNothing(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	set := hook.NewSet(hook.Hooks{
		Filter: func(m hook.FilterRequest) bool { return string(m.Payload) != "spam" && m.Channel == "x" },
		Publish: hook.Func(func(context.Context, *hook.PublishRequest) (*hook.PublishResult, error) {
			asked.Add(1)
			return nil, nil
		}, hook.Options{}),
	})
	s := start(t, Config{Hooks: set, Raw: RawPublish})
	c := clienttest.Dial(t, s, "/ws/x")
	c.Send(clienttest.Text("spam"), clienttest.Text("one"))
	c.WantText("what passes", "one")
	if n := asked.Load(); n != 1 {
		t.Errorf("the publish hook was asked %d times, want 1", n)
	}
	only := filter(set.Filter)
	for _, cfg := range []Config{{Hooks: only, Insecure: true}, {Hooks: only}} {
		s := start(t, cfg)
		if !s.policy.Open() || only.Asks() || !set.Asks() {
			t.Error("a filter counts as a hook that is asked")
		}
		c := clienttest.Dial(t, s, "/ws/x")
		c.Send(clienttest.Text("spam"), clienttest.Text("two"))
		c.WantText("what passes", "two")
	}
}
