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
