package gateway

import (
	"context"
	"testing"

	"github.com/gobwas/ws"

	"sluice/gateway/access/auth"
	"sluice/gateway/clienttest"
	"sluice/gateway/hook"
)

const (
	unaskedFile = `{"namespaces": [{"name": "room", "allow_subscribe_for_client": true, "allow_subscribe_for_anonymous": true,
		"allow_publish_for_client": true, "allow_publish_for_anonymous": true, "allow_raw_publish": true}]}`
	askedFile = `{"namespaces": [{"name": "room", "allow_subscribe_for_client": true, "allow_subscribe_for_anonymous": true,
		"publish_proxy_enabled": true, "allow_raw_publish": true}]}`
)

// Hooks that a reload adds are asked about clients that were there before, as those that they are. Those that it removes are
// asked no more.
func TestReloadAddsHooksForClientsThatAreThere(t *testing.T) {
	t.Parallel()
	var app application
	cfg := guarded(t, unaskedFile)
	s := start(t, cfg)
	user := member(t, s, tokens(t, auth.Claims{User: "42"}))
	user.Joins("room:1")
	raw := map[string]*clienttest.Client{
		"":   clienttest.Dial(t, s, "/ws/room:1"),
		"43": clienttest.Dial(t, s, rawTarget("/ws/", "room:1", tokens(t, auth.Claims{User: "43"}), "")),
	}
	publishes := func(what string) {
		t.Helper()
		user.Does(`{"id":7,"publish":{"channel":"room:1","data":"` + what + `"}}`)
		user.WantTold(what, `{"id":7,"publish":{}}`)
		user.Told("its own publication")
		for _, c := range raw {
			c.WantText("the other's", `"`+what+`"`)
		}
		for _, name := range []string{"", "43"} {
			raw[name].Send(clienttest.Text(what))
			user.Told("a raw client's")
			for _, c := range raw {
				c.WantText(what, what)
			}
		}
	}
	publishes("unasked")

	next := cfg
	next.Namespaces = namespaces(t, askedFile)
	next.Hooks = &hook.Set{Publish: map[string]hook.Hook[*hook.PublishRequest, hook.PublishResult]{
		hook.Default: hook.Func(func(_ context.Context, q *hook.PublishRequest) (*hook.PublishResult, error) {
			app.note(q.Client.User, q.Client.Transport, q.Channel, string(q.Data))
			if len(q.Client.ID) != 36 || q.Client.ID[:8] == "00000000" || !q.Client.Peer.IsValid() {
				app.note("nobody knows", q.Client.ID, q.Client.Peer.String())
			}
			return nil, nil
		}, hook.Options{}),
	}}
	if r, err := s.Reload(next, ReloadOptions{}); err != nil || r.Unsubscribed+r.Disconnected != 0 {
		t.Fatalf("%+v, %v", r, err)
	}
	publishes("asked")
	app.want(t, `42 websocket room:1 "asked"`, " websocket room:1 asked", "43 websocket room:1 asked")
	if r, err := s.Reload(cfg, ReloadOptions{}); err != nil || r.Unsubscribed+r.Disconnected != 0 {
		t.Fatalf("%+v, %v", r, err)
	}
	publishes("unasked again")
	app.want(t)
	for _, c := range raw {
		c.Send(clienttest.Closing(ws.StatusNormalClosure, ""))
		c.WantClose("it has said so", ws.StatusNormalClosure)
	}
}
