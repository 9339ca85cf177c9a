package gateway

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"sluice/gateway/clienttest"
	"sluice/gateway/hook"
)

// stalled is hooks that answer when the test says so, with what it says.
type stalled struct {
	asked    chan string // what they were asked
	answers  chan error  // each answers one call
	canceled chan string // the calls that were taken back
	options  hook.Options
}

func newStalled() *stalled {
	return &stalled{make(chan string, 1000), make(chan error), make(chan string, 1000), hook.Options{Timeout: clienttest.Patience}}
}

func (s *stalled) ask(ctx context.Context, what ...any) error {
	text := fmt.Sprint(what...)
	s.asked <- text
	select {
	case err := <-s.answers:
		return err
	case <-ctx.Done():
		s.canceled <- text
		return ctx.Err()
	}
}

func (s *stalled) hooks() *hook.Set {
	return hook.NewSet(hook.Hooks{
		Connect: hook.Func(func(ctx context.Context, q *hook.ConnectRequest) (*hook.ConnectResult, error) {
			return &hook.ConnectResult{User: q.Client.Headers.Get("Cookie"), Meta: []byte(`{"m":1}`)}, s.ask(ctx, "connect ", q.Client.Headers.Get("Cookie"), q.Client.Emulated.Get("x"))
		}, s.options),
		Subscribe: hook.Func(func(ctx context.Context, q *hook.SubscribeRequest) (*hook.SubscribeResult, error) {
			return nil, s.ask(ctx, "subscribe ", q.Client.User, " ", q.Channel)
		}, s.options),
		Publish: hook.Func(func(ctx context.Context, q *hook.PublishRequest) (*hook.PublishResult, error) {
			return nil, s.ask(ctx, "publish ", q.Client.User, " ", q.Client.Headers.Get("Cookie"), string(q.Client.Meta), " ", string(q.Data))
		}, s.options),
	})
}

// next waits for what is asked next.
func (s *stalled) next(t *testing.T, want string) {
	t.Helper()
	if got := clienttest.Receive(t, want, s.asked); got != want {
		t.Fatalf("asked %q, want %q", got, want)
	}
}

// says answers what is asked next.
func (s *stalled) says(t *testing.T, want string, err error) {
	t.Helper()
	s.next(t, want)
	s.answers <- err
}

// opens are the ways to wait for a connect hook with a cookie.
var opens = []struct {
	name string
	open func(t *testing.T, s *server) *clienttest.Client
	in   func(t *testing.T, c *clienttest.Client) // sees that it is in
}{
	{"raw", func(t *testing.T, s *server) *clienttest.Client {
		c := clienttest.Connect(t, s)
		c.Write(clienttest.UpgradeTo("/ws/x", "Cookie: ann"))
		return c
	}, func(t *testing.T, c *clienttest.Client) { c.WantUpgrade("it may") }},
	{"SSE", func(t *testing.T, s *server) *clienttest.Client {
		c := clienttest.Connect(t, s)
		c.AskForStream("/sse/x", "Cookie: ann")
		return c
	}, func(t *testing.T, c *clienttest.Client) { c.WantStream("it may") }},
	{"Centrifugo", func(t *testing.T, s *server) *clienttest.Client {
		c := clienttest.Dial(t, s, pathClient, "Cookie: ann")
		c.Does(`{"id":1,"connect":{}}`)
		return c
	}, func(t *testing.T, c *clienttest.Client) {
		c.WantTold("it may", `{"id":1,"connect":{"client":"ID","version":"sluice"}}`)
	}},
	{"HTTP stream", func(t *testing.T, s *server) *clienttest.Client {
		return clienttest.Lines(t, s, pathHTTP, `{"id":1,"connect":{}}`, "Cookie: ann")
	}, func(t *testing.T, c *clienttest.Client) {
		e := &clienttest.Emulated{Client: c}
		e.Knows(e.Told("it may"))
	}},
	{"unidirectional HTTP stream", func(t *testing.T, s *server) *clienttest.Client {
		c := clienttest.Connect(t, s)
		c.Write(clienttest.Posting(pathUniHTTP, "{}", "Cookie: ann"))
		return c
	}, func(t *testing.T, c *clienttest.Client) {
		c.WantLines("it may")
		(&clienttest.Emulated{Client: c}).WantTold("it may", `{"connect":{"client":"ID","version":"sluice"}}`)
	}},
	{"unidirectional", func(t *testing.T, s *server) *clienttest.Client {
		c := clienttest.Dial(t, s, "/connection/uni_websocket", "Cookie: ann")
		c.Does(`{}`)
		return c
	}, func(t *testing.T, c *clienttest.Client) {
		c.WantTold("it may", `{"connect":{"client":"ID","version":"sluice"}}`)
	}},
	{"unidirectional, in the request", func(t *testing.T, s *server) *clienttest.Client {
		c := clienttest.Connect(t, s)
		c.Write(clienttest.UpgradeTo("/connection/uni_websocket?cf_connect="+url.QueryEscape(`{}`), "Cookie: ann"))
		return c
	}, func(t *testing.T, c *clienttest.Client) {
		c.WantUpgrade("it may")
		c.WantTold("it may", `{"connect":{"client":"ID","version":"sluice"}}`)
	}},
	{"unidirectional SSE", func(t *testing.T, s *server) *clienttest.Client {
		c := clienttest.Connect(t, s)
		c.AskForStream("/connection/uni_sse", "Cookie: ann")
		return c
	}, func(t *testing.T, c *clienttest.Client) {
		c.WantStream("it may")
		if got := clienttest.Constant(c.Pushed(t)); !strings.HasPrefix(got, `{"connect":{"client":"ID"`) {
			t.Errorf("got %s", got)
		}
	}},
	{"emulated", func(t *testing.T, s *server) *clienttest.Client {
		c := clienttest.Connect(t, s)
		c.Write(clienttest.Posting(pathHTTP, `{"id":1,"connect":{}}`, "Cookie: ann"))
		return c
	}, func(t *testing.T, c *clienttest.Client) {
		c.WantLines("it may")
		if got := clienttest.Constant((&clienttest.Emulated{Client: c}).Told("it may")); !strings.Contains(got, `{"id":1,"connect":{"client":"ID"`) {
			t.Errorf("got %s", got)
		}
	}},
}

// closes ends a connection as a browser does whose page goes: it does not wait for an answer.
func closes(c *clienttest.Client) {
	c.Send(clienttest.Closing(1001, ""))
	c.Fin()
}

// A client that hangs up while a hook is asked takes the question back, and its place is free. Run over TLS as well.
func TestClientThatGoesTakesItsQuestionBack(t *testing.T) {
	t.Parallel()
	for _, of := range opens {
		for _, end := range []struct {
			name string
			do   func(*clienttest.Client)
		}{{"FIN", (*clienttest.Client).Fin}, {"reset", (*clienttest.Client).Vanish}, {"Close frame", closes}} {
			if end.name == "Close frame" && of.name != "Centrifugo" && of.name != "unidirectional" {
				continue // it has no WebSocket yet
			}
			t.Run(of.name+" "+end.name, func(t *testing.T) {
				t.Parallel()
				hooks := newStalled()
				hooks.options.Queue.InFlight = 1
				s := start(t, Config{Hooks: hooks.hooks(), PingInterval: -1})
				first := of.open(t, s)
				hooks.next(t, "connect ann")
				second := of.open(t, s)
				s.wantConnections(2)
				end.do(first)
				if got := clienttest.Receive(t, "the question to be taken back", hooks.canceled); got != "connect ann" {
					t.Errorf("taken back: %s", got)
				}
				hooks.next(t, "connect ann") // of the second
				s.wantConnections(1)
				end.do(second)
				clienttest.Receive(t, "this one as well", hooks.canceled)
				s.wantConnections(0)
			})
		}
	}
}

// A publication that a hook is asked about is published although its client has gone.
func TestPublicationOutlivesItsClient(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"raw", "Centrifugo"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			hooks := newStalled()
			set := hooks.hooks()
			set.Connect, set.Subscribe = nil, nil
			s := start(t, Config{Hooks: set, Raw: RawPublish, PingInterval: -1, History: -1})
			reader := clienttest.Dial(t, s, "/ws/x?mode=subscribe")
			c := clienttest.Dial(t, s, "/ws/x")
			want := "publish   \"last\""
			if kind == "raw" {
				c.Send(clienttest.Text(`"last"`))
			} else {
				c = member(t, s, "")
				c.Does(`{"id":2,"publish":{"channel":"x","data":"last"}}`)
			}
			hooks.next(t, want)
			c.Fin()
			c.Vanish()
			hooks.answers <- nil
			reader.WantText("it is published", `"last"`)
		})
	}
}

// What a hook has allowed is published also if it has to wait for room: the client has no other permission.
func TestHookAllowsAPublicationThatWaits(t *testing.T) {
	t.Parallel()
	var a application
	s := start(t, Config{Hooks: a.hooks(), ChannelBuffer: 16 << 10, MaxMessage: 4 << 10, PingInterval: -1, Loops: 1, History: -1})
	h := clienttest.HoldFull(t, s.space, "x", 4000)
	c := member(t, s, "")
	c.Does(`{"id":2,"publish":{"channel":"x","data":"` + clienttest.Stars(4000) + `"}}`)
	clienttest.WaitFor(t, "it to wait for room", func() bool { return s.space.Find("x").Waiting() == 1 })
	s.space.Leave(&h.Reader)
	c.WantTold("its reply", `{"id":2,"publish":{}}`)
}

// move hands the connections of a server over to another one.
func move(t *testing.T, a, b *server) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), clienttest.Patience)
	defer cancel()
	to := b.set.Take()
	g, passed := a.set.Give(&duplicates{to: to})
	clienttest.Receive(t, "all to be passed", passed)
	snapshot := a.space.Snapshot()
	if err := g.Freeze(ctx); err != nil {
		t.Fatal(err)
	}
	rest, records := snapshot.Rest(nil), g.Save(nil)
	if err := b.space.Restore(rest); err != nil {
		t.Fatal(err)
	}
	if _, err := to.Load(records); err != nil {
		t.Fatal(err)
	}
	b.space.Restored()
	to.Start()
	g.Given(0)
}

// A client that waits for a hook when another process takes over is asked about there, from the beginning, and what it has sent
// behind that waits still.
func TestHooksAreAskedAgainByAnotherProcess(t *testing.T) {
	clienttest.PlainOnly(t)
	t.Parallel()
	for _, of := range opens {
		for _, outcome := range []string{"in", "gone", "refused"} {
			t.Run(of.name+" "+outcome, func(t *testing.T) {
				t.Parallel()
				before, after := newStalled(), newStalled()
				cfg := Config{PingInterval: -1, History: -1}
				cfg.Hooks = before.hooks()
				a := start(t, cfg)
				cfg.Hooks = after.hooks()
				b := start(t, cfg)
				c := of.open(t, a)
				before.next(t, "connect ann")
				move(t, a, b)
				after.next(t, "connect ann")
				switch outcome {
				case "gone":
					c.Vanish()
					clienttest.Receive(t, "the question to be taken back", after.canceled)
					b.wantConnections(0)
					return
				case "refused":
					after.answers <- &hook.Disconnect{Code: 4500, Reason: "no"}
					switch of.name {
					case "raw", "unidirectional, in the request":
						c.WantUpgrade("it is refused")
					case "SSE", "unidirectional SSE":
						c.WantStream("it is refused")
						return
					case "emulated":
						c.WantLines("it is refused")
						return
					case "unidirectional HTTP stream":
						c.WantLines("it is refused")
						(&clienttest.Emulated{Client: c}).WantTold("it is refused", `{"disconnect":{"code":4500,"reason":"no"}}`)
						return
					case "HTTP stream":
						(&clienttest.Emulated{Client: c}).WantTold("it is refused", `{"push":{"disconnect":{"code":4500,"reason":"no"}}}`)
						return
					}
					c.WantClose("it is refused", 4500)
					return
				}
				after.answers <- nil
				if of.name == "raw" || of.name == "SSE" {
					after.says(t, "subscribe ann x", nil)
				}
				of.in(t, c)
				switch of.name {
				case "raw":
					c.Send(clienttest.Text("hello"))
					after.says(t, `publish ann ann{"m":1} hello`, nil)
					c.WantText("it is in its channel", "hello")
				case "SSE":
					c.WantBegin("its position", 0)
					b.publish("x", "hello")
					if got := c.Event(); !strings.HasSuffix(got, "data: hello\n") {
						t.Errorf("got event %q", got)
					}
				}
			})
		}
	}
}

// What a client has sent together with its request is done after the answer, in the other process as well.
func TestWhatComesBehindARequestIsHandedOver(t *testing.T) {
	clienttest.PlainOnly(t)
	t.Parallel()
	before, after := newStalled(), newStalled()
	cfg := Config{PingInterval: -1, History: -1}
	cfg.Hooks = before.hooks()
	a := start(t, cfg)
	cfg.Hooks = after.hooks()
	b := start(t, cfg)
	c := clienttest.Connect(t, a)
	c.Write(clienttest.UpgradeTo("/ws/x", "Cookie: ann") + clienttest.Text("early"))
	before.next(t, "connect ann")
	move(t, a, b)
	after.says(t, "connect ann", nil)
	after.says(t, "subscribe ann x", nil)
	c.WantUpgrade("it may")
	after.says(t, `publish ann ann{"m":1} early`, nil)
	c.WantText("it is published", "early")
}

// Commands that wait for a hook are done in the other process, once, and in their order; what hooks are sent of a client
// goes on.
func TestCommandsThatWaitForHooksAreHandedOver(t *testing.T) {
	clienttest.PlainOnly(t)
	t.Parallel()
	before, after := newStalled(), newStalled()
	cfg := Config{PingInterval: -1, History: -1, Raw: RawPublish}
	cfg.Hooks = before.hooks()
	a := start(t, cfg)
	cfg.Hooks = after.hooks()
	b := start(t, cfg)

	raw := opens[0].open(t, a)
	before.says(t, "connect ann", nil)
	before.says(t, "subscribe ann x", nil)
	raw.WantUpgrade("it is in")
	c := clienttest.Dial(t, a, pathClient, "Cookie: bob")
	c.Does(`{"id":1,"connect":{"headers":{"x":"y"}}}`)
	before.says(t, "connect boby", nil)
	c.WantTold("it is in", `{"id":1,"connect":{"client":"ID","version":"sluice"}}`)
	raw.Send(clienttest.Text("one"), clienttest.Text("two"))
	before.next(t, `publish ann ann{"m":1} one`)
	c.Does(`{"id":2,"subscribe":{"channel":"y"}}` + "\n" + `{"id":3,"publish":{"channel":"y","data":1}}`)
	before.next(t, "subscribe bob y")

	move(t, a, b)
	for range 2 {
		switch got := clienttest.Receive(t, "what is asked again", after.asked); got {
		case `publish ann ann{"m":1} one`, "subscribe bob y":
			after.answers <- nil
		default:
			t.Fatalf("asked %q", got)
		}
	}
	for range 2 {
		switch got := clienttest.Receive(t, "what was behind it", after.asked); got {
		case `publish ann ann{"m":1} two`, `publish bob bob{"m":1} 1`:
			after.answers <- nil
		default:
			t.Fatalf("asked %q", got)
		}
	}
	raw.WantText("in order", "one")
	raw.WantText("in order", "two")
	c.WantTold("in order", `{"id":2,"subscribe":{}}`)
	c.WantTold("in order", `{"id":3,"publish":{}}`)
	c.WantTold("in order", `{"push":{"channel":"y","pub":{"data":1,"info":{"user":"bob","client":"ID"},"offset":1}}}`)
}

// Clients of a process without hooks go on in one that has some, and the other way round.
func TestHooksThatOneProcessHasNot(t *testing.T) {
	clienttest.PlainOnly(t)
	t.Parallel()
	for _, with := range []bool{true, false} {
		hooks := newStalled()
		cfg := Config{PingInterval: -1, History: -1, Raw: RawPublish}
		one := start(t, cfg)
		cfg.Hooks = hooks.hooks()
		cfg.Hooks.Connect, cfg.Hooks.Subscribe = nil, nil // so that the other process lets them in, too
		other := start(t, cfg)
		a, b := one, other
		if !with {
			a, b = other, one
		}
		raw, c := clienttest.Dial(t, a, "/ws/x"), member(t, a, "")
		move(t, a, b)
		raw.Send(clienttest.Text("1"))
		if with {
			hooks.says(t, "publish   1", nil)
		}
		raw.WantText("raw", "1")
		c.Does(`{"id":3,"publish":{"channel":"y","data":2}}`)
		if with {
			hooks.says(t, "publish   2", nil)
		}
		c.WantTold("Centrifugo", `{"id":3,"publish":{}}`)
	}
}

// A publication that a hook has changed, and that waits for room when another process takes over, is asked about there as its
// client has sent it.
func TestPublicationIsAskedAboutAgainAsItWasSent(t *testing.T) {
	clienttest.PlainOnly(t)
	t.Parallel()
	for _, kind := range []string{"raw", "Centrifugo"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			wrap := hook.NewSet(hook.Hooks{Publish: hook.Func(func(_ context.Context, q *hook.PublishRequest) (*hook.PublishResult, error) {
				return &hook.PublishResult{Data: fmt.Appendf(nil, "[%s]", q.Data)}, nil
			}, hook.Options{})})
			cfg := Config{Hooks: wrap, ChannelBuffer: 16 << 10, MaxMessage: 6 << 10, PingInterval: -1, Loops: 1, History: -1, Raw: RawPublish}
			a, b := start(t, cfg), start(t, cfg)
			h := clienttest.HoldFull(t, a.space, "x", 4000)
			defer a.space.Leave(&h.Reader)
			reader := clienttest.Dial(t, b, "/ws/x?mode=subscribe")
			data := `"` + clienttest.Stars(4000) + `"`
			if kind == "raw" {
				clienttest.Dial(t, a, "/ws/x?echo=off").Send(clienttest.Text(data))
			} else {
				member(t, a, "").Does(`{"id":2,"publish":{"channel":"x","data":` + data + `}}`)
			}
			clienttest.WaitFor(t, "it to wait for room", func() bool { return a.space.Find("x").Waiting() == 1 })
			move(t, a, b)
			reader.WantText("it is changed once", "["+data+"]")
		})
	}
}
