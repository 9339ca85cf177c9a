package gateway

import (
	"context"
	"errors"
	"testing"

	"sluice/gateway/hook"
)

// A program does with methods what a backend does with the server's API, to clients that its hook has let in.
func TestProgramActsOnClients(t *testing.T) {
	t.Parallel()
	s := start(t, Config{PingInterval: -1, Hooks: hook.NewSet(hook.Hooks{Connect: hook.Func(func(context.Context, *hook.ConnectRequest) (*hook.ConnectResult, error) {
		return &hook.ConnectResult{User: "42"}, nil
	}, hook.Options{})})})
	c := member(t, s, "")
	ctx := t.Context()
	must := func(_ ActionResult, err error) {
		t.Helper()
		if err != nil {
			t.Error(err)
		}
	}
	must(s.Subscribe(ctx, SubscribeRequest{User: "42", Channel: "x", Data: []byte(`{"a":1}`)}))
	c.WantTold("subscribed", `{"push":{"channel":"x","subscribe":{"recoverable":true,"epoch":"E","positioned":true,"data":{"a":1}}}}`)
	s.publish("x", "1")
	c.WantTold("it is", `{"push":{"channel":"x","pub":{"data":1,"offset":1}}}`)
	if all, err := s.History(ctx, HistoryRequest{Channel: "x", Limit: -1}); err != nil || len(all.Publications) != 1 || string(all.Publications[0].Data) != "1" {
		t.Errorf("history: %+v, %v", all, err)
	}
	must(s.Refresh(ctx, RefreshRequest{User: "42", Info: []byte(`{"n":1}`), ExpireAt: 1 << 32}))
	if got := c.Told("refreshed"); got == "" {
		t.Error("nothing")
	}
	must(s.Unsubscribe(ctx, UnsubscribeRequest{User: "42", Channel: "x"}))
	c.WantTold("unsubscribed", `{"push":{"channel":"x","unsubscribe":{"code":2000,"reason":"server unsubscribe"}}}`)
	var fault *APIError
	if _, err := s.Presence(ctx, "x"); !errors.As(err, &fault) || fault.Code != 108 {
		t.Errorf("presence of a channel that has none: %v", err)
	}
	if _, err := s.Subscribe(ctx, SubscribeRequest{Channel: "x"}); !errors.As(err, &fault) || fault.Code != 107 {
		t.Errorf("without a user: %v", err)
	}
	must(s.Disconnect(ctx, DisconnectRequest{User: "42", Disconnect: &APIDisconnect{Code: 4501, Reason: "enough"}}))
	c.WantClose("disconnected", 4501)
}
