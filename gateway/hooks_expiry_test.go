package gateway

import (
	"context"
	"testing"

	"sluice/gateway/access/auth"
	"sluice/gateway/clienttest"
	"sluice/gateway/hook"
)

// A raw client's right to its channel has a time of its own: that the connection may stay does not prolong it.
func TestConnectionMayStayAndItsSubscriptionMayNot(t *testing.T) {
	t.Parallel()
	for _, by := range []string{"subscribe hook", "connect hook", "token"} {
		t.Run(by, func(t *testing.T) {
			t.Parallel()
			var s *server
			now := func() int64 { return s.Clock.Now().Unix() }
			hooks := hook.Hooks{
				Refresh: hook.Func(func(context.Context, *hook.RefreshRequest) (*hook.RefreshResult, error) {
					return &hook.RefreshResult{ExpireAt: now() + 1000}, nil
				}, hook.Options{}),
				Subscribe: hook.Func(func(context.Context, *hook.SubscribeRequest) (*hook.SubscribeResult, error) {
					return &hook.SubscribeResult{ExpireAt: now() + 60}, nil
				}, hook.Options{}),
			}
			if by == "connect hook" {
				hooks.Connect = hook.Func(func(context.Context, *hook.ConnectRequest) (*hook.ConnectResult, error) {
					return &hook.ConnectResult{User: "42", Subs: map[string]hook.SubscribeOptions{"x": {ExpireAt: now() + 60}}}, nil
				}, hook.Options{})
			}
			cfg := guarded(t, "")
			cfg.PingInterval, cfg.Hooks = -1, hook.NewSet(hooks)
			s = start(t, cfg)
			s.Pass(0) // the clock stands
			target := "/ws/x?mode=publish"
			if by == "token" {
				target += "&token=" + tokens(t, auth.Claims{User: "42", Channel: "x", ExpiresAt: now() + 60})
			}
			c := clienttest.Dial(t, s, target)
			c.WantIdle(s, "its time is not over")
			s.Pass(61)
			c.WantClose("its time in the channel is over", 3005)
		})
	}
}

// A subscription that a token has granted goes on as a hook says, where the channel has one for that.
func TestHookProlongsASubscriptionOfAToken(t *testing.T) {
	t.Parallel()
	questions := make(chan question, 8)
	var s *server
	set := stays(func() int64 { return s.Clock.Now().Unix() }, questions, nil)
	set.Connect, set.Subscribe, set.Refresh, set.Publish, set.Disconnect = nil, nil, nil, nil, nil
	cfg := guarded(t, "")
	cfg.PingInterval, cfg.Hooks = -1, set
	s = start(t, cfg)
	s.Pass(0)
	c := clienttest.Dial(t, s, "/ws/x?token="+tokens(t, auth.Claims{User: "42", Channel: "x", ExpiresAt: s.Clock.Now().Unix() + 60}))
	s.Pass(61)
	clienttest.Receive(t, "a hook to be asked", questions).reply <- 1000
	s.Pass(60)
	c.WantIdle(s, "it may stay")
	s.Pass(1000)
	q := clienttest.Receive(t, "a hook to be asked", questions)
	if q.what != "sub-refresh x" {
		t.Errorf("asked %s", q.what)
	}
	q.reply <- 0
	c.WantClose("it may not stay", 3005)
}

// What tokens and hooks attach to a client is sent with what is asked about it later.
func TestHooksKnowWhatIsAttachedToAClient(t *testing.T) {
	t.Parallel()
	var s *server
	asked := make(chan string, 2)
	cfg := guarded(t, `{"without_namespace":{"allow_raw_publish":true,"publish_proxy_enabled":true}}`)
	cfg.PingInterval, cfg.Raw = -1, RawPublish
	cfg.Hooks = hook.NewSet(hook.Hooks{
		Refresh: hook.Func(func(context.Context, *hook.RefreshRequest) (*hook.RefreshResult, error) {
			return &hook.RefreshResult{ExpireAt: s.Clock.Now().Unix() + 1000, Info: []byte(`"new"`), Meta: []byte(`{"m":2}`)}, nil
		}, hook.Options{}),
		Publish: hook.Func(func(_ context.Context, q *hook.PublishRequest) (*hook.PublishResult, error) {
			asked <- q.Client.User + " " + string(q.Client.Info) + " " + string(q.Client.Meta)
			return nil, nil
		}, hook.Options{}),
	})
	s = start(t, cfg)
	s.Pass(0)
	claims := auth.Claims{User: "42", Info: []byte(`"old"`), Meta: []byte(`{"m":1}`), ExpiresAt: s.Clock.Now().Unix() + 60}
	c := clienttest.Dial(t, s, pathClient)
	c.Connects(tokens(t, claims))
	claims.Channels = []string{"x"}
	raw := clienttest.Dial(t, s, "/ws/x?token="+tokens(t, claims))
	publishes := map[string]func() string{
		"raw": func() string {
			raw.Send(clienttest.Text("hello"))
			raw.WantText("it is published", "hello")
			return <-asked
		},
		"Centrifugo": func() string {
			c.Does(`{"id":2,"publish":{"channel":"y","data":1}}`)
			c.WantTold("it is published", `{"id":2,"publish":{}}`)
			return <-asked
		},
	}
	for name, publish := range publishes {
		if got, want := publish(), `42 "old" {"m":1}`; got != want {
			t.Errorf("%s: asked about %s, want %s", name, got, want)
		}
	}
	s.Pass(61)
	for name, publish := range publishes {
		clienttest.WaitFor(t, name+" to be refreshed", func() bool { return publish() == `42 "new" {"m":2}` })
	}
	if _, err := s.Refresh(t.Context(), RefreshRequest{User: "42", Info: []byte(`"api"`)}); err != nil {
		t.Fatal(err)
	}
	c.WantTold("the API's word", `{"push":{"refresh":{}}}`)
	for name, publish := range publishes {
		if got, want := publish(), `42 "api" {"m":2}`; got != want {
			t.Errorf("%s: asked about %s, want %s", name, got, want)
		}
	}
}

// A client of a process without hooks has one time, and that may be its channel's: that the connection may stay does not
// prolong it in a process with hooks.
func TestClientOfAProcessWithoutHooksMayStayAsLongAsItsTokenSays(t *testing.T) {
	clienttest.PlainOnly(t)
	t.Parallel()
	cfg := guarded(t, "")
	cfg.PingInterval, cfg.History = -1, -1
	a := start(t, cfg)
	var b *server
	cfg.Hooks = hook.NewSet(hook.Hooks{Refresh: hook.Func(func(context.Context, *hook.RefreshRequest) (*hook.RefreshResult, error) {
		return &hook.RefreshResult{ExpireAt: b.Clock.Now().Unix() + 1000}, nil
	}, hook.Options{})})
	b = start(t, cfg)
	a.Pass(0) // the clocks stand
	b.Pass(0)
	c := clienttest.Dial(t, a, "/ws/x?token="+tokens(t, auth.Claims{User: "42", Channel: "x", ExpiresAt: b.Clock.Now().Unix() + 60}))
	move(t, a, b)
	c.WantIdle(b, "its time is not over")
	b.Pass(61)
	c.WantClose("its time in the channel is over", 3005)
}
