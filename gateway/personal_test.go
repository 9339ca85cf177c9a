package gateway

import (
	"context"
	"slices"
	"strings"
	"testing"

	"sluice/gateway/access/auth"
	"sluice/gateway/clienttest"
	"sluice/gateway/hook"
)

// Each user has a channel to which the gateway subscribes all of the user's connections.
func TestPersonalChannel(t *testing.T) {
	t.Parallel()
	cfg := guarded(t, `{"client": {"subscribe_to_user_personal_channel": {"enabled": true, "personal_channel_namespace": "me"}},
		"namespaces": [{"name": "me", "history_size": 10, "history_ttl": "1m", "force_recovery": true, "presence": true}, {"name": "other"}]}`)
	cfg.Hooks = hook.NewSet(hook.Hooks{Connect: hook.Func(func(_ context.Context, q *hook.ConnectRequest) (*hook.ConnectResult, error) {
		// What it says of the personal channel has no effect.
		return &hook.ConnectResult{User: q.Client.Headers.Get("Cookie"), Subs: map[string]hook.SubscribeOptions{"me:#7": {Data: []byte(`"x"`)}}}, nil
	}, hook.Options{})})
	s := start(t, cfg)
	connect := func(c *clienttest.Client, token string) string {
		c.Does(`{"id":1,"connect":{"token":"` + token + `"}}`)
		return clienttest.Constant(c.Told("connect"))
	}
	const subs = `"subs":{"me:#42":{"recoverable":true,"epoch":"E","positioned":true}}`
	c := clienttest.Dial(t, s, pathClient)
	if got := connect(c, tokens(t, auth.Claims{User: "42"})); !strings.Contains(got, subs) {
		t.Errorf("by token: %s", got)
	}
	s.publish("me:#42", `"hello"`)
	c.WantTold("its own", `{"push":{"channel":"me:#42","pub":{"data":"hello","offset":1}}}`)
	if who := present(s, "me:#42"); len(who) != 1 || who[0].User != "42" {
		t.Errorf("present: %+v", who)
	}
	c = clienttest.Dial(t, s, pathClient)
	if got := connect(c, tokens(t, auth.Claims{User: "42", Channels: []string{"me:#42", "other:x"}})); strings.Count(got, "me:#42") != 1 || !strings.Contains(got, `"other:x":{}`) {
		t.Errorf("named by the token, too: %s", got)
	}
	c = clienttest.Dial(t, s, pathClient, "Cookie: 7")
	if got := connect(c, ""); !strings.Contains(got, `"subs":{"me:#7":{"recoverable":true`) || strings.Contains(got, `"x"`) {
		t.Errorf("by a hook: %s", got)
	}
	c = clienttest.Stream(t, s, pathUniSSE, "Cookie: 7")
	if got := clienttest.Constant(c.Pushed(t)); !strings.Contains(got, `"me:#7":{`) {
		t.Errorf("unidirectional: %s", got)
	}
	for name, token := range map[string]string{"white space": tokens(t, auth.Claims{User: "a b"}), "too long": tokens(t, auth.Claims{User: strings.Repeat("u", 255)})} {
		c = clienttest.Dial(t, s, pathClient)
		c.Does(`{"id":1,"connect":{"token":"` + token + `"}}`)
		c.WantClose(name, 3500)
	}
}

// With single_connection the connection that comes last stays, whatever it speaks.
func TestSingleConnection(t *testing.T) {
	t.Parallel()
	s := start(t, guarded(t, `{"client": {"subscribe_to_user_personal_channel": {"enabled": true, "single_connection": true}}, "without_namespace": {"presence": true}}`))
	token := tokens(t, auth.Claims{User: "42"})
	other := member(t, s, tokens(t, auth.Claims{User: "43"}))
	anonymous := member(t, s, "")
	first := member(t, s, token)
	second := member(t, s, token)
	first.WantClose("another one has come", 3504)
	stream := clienttest.Stream(t, s, pathUniSSE+`?cf_connect={"token":"`+token+`"}`)
	stream.Pushed(t)
	second.WantClose("another one has come", 3504)
	third := member(t, s, token)
	if got := stream.Pushed(t); !strings.HasPrefix(got, `{"disconnect":{"code":3504,`) {
		t.Errorf("the stream: %s", got)
	}
	for _, c := range []*clienttest.Client{other, anonymous, third} {
		c.Does(`{"id":9,"ping":{}}`)
		c.WantTold("nobody else is closed", `{"id":9,"ping":{}}`)
	}
}

// Clients may use only names that match their namespace's channel_regex. The server may use any.
func TestChannelRegexLimitsClients(t *testing.T) {
	t.Parallel()
	var a application
	cfg := guarded(t, `{"without_namespace": {"channel_regex": "^[a-z]+$", "subscribe_proxy_enabled": true, "publish_proxy_enabled": true, "presence": true,
		"history_size": 1, "history_ttl": "1m", "allow_presence_for_client": true, "allow_history_for_client": true, "allow_raw_publish": true}}`)
	cfg.Hooks = a.hooks()
	s := start(t, cfg)
	c := member(t, s, tokens(t, auth.Claims{User: "42", Channels: []string{"SERVER"}}))
	const bad = `"error":{"code":107,"message":"bad request"}}`
	c.Does(`{"id":2,"subscribe":{"channel":"X"}}`, `{"id":3,"subscribe":{"channel":"X","token":"`+tokens(t, auth.Claims{User: "42", Channel: "X"})+`"}}`,
		`{"id":4,"publish":{"channel":"X","data":1}}`, `{"id":5,"presence":{"channel":"SERVER"}}`, `{"id":6,"history":{"channel":"X"}}`, `{"id":7,"subscribe":{"channel":"x"}}`)
	for _, id := range []string{"2", "3", "4", "5", "6"} {
		c.WantTold("no name for a client", `{"id":`+id+`,`+bad)
	}
	if got := c.Told("one that fits"); !strings.Contains(got, `"subscribe":{`) {
		t.Error(got)
	}
	a.want(t, "subscribe 42 x") // and about no other
	for name, status := range map[string]int{"X": 400, "x": 101} {
		raw := clienttest.Connect(t, s)
		raw.Write(clienttest.UpgradeTo("/ws/"+name, "Cookie: ann"))
		raw.WantStatus(name, status)
	}
	a.mu.Lock()
	asked := slices.Clone(a.asked)
	a.mu.Unlock()
	if !slices.Equal(asked, []string{"connect websocket ann", "subscribe ann x"}) {
		t.Errorf("asked %q", asked)
	}
}
