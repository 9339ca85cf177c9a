package gateway

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/gobwas/ws"
	"github.com/golang-jwt/jwt/v5"

	"sluice/gateway/access/auth"
	"sluice/gateway/access/namespace"
	"sluice/gateway/clienttest"
	"sluice/gateway/hook"
)

const (
	openFile = `{"namespaces": [
		{"name": "kept", "allow_subscribe_for_client": true, "allow_subscribe_for_anonymous": true, "allow_publish_for_client": true, "allow_publish_for_anonymous": true, "allow_raw_publish": true},
		{"name": "shut", "allow_subscribe_for_client": true, "allow_subscribe_for_anonymous": true},
		{"name": "mute", "allow_subscribe_for_client": true, "allow_subscribe_for_anonymous": true, "allow_publish_for_client": true, "allow_publish_for_anonymous": true, "allow_raw_publish": true},
		{"name": "gone", "allow_subscribe_for_client": true, "allow_subscribe_for_anonymous": true}]}`
	shutFile = `{"namespaces": [
		{"name": "kept", "allow_subscribe_for_client": true, "allow_subscribe_for_anonymous": true, "allow_publish_for_client": true, "allow_publish_for_anonymous": true, "allow_raw_publish": true},
		{"name": "mute", "allow_subscribe_for_client": true, "allow_subscribe_for_anonymous": true},
		{"name": "shut"}]}`
)

func namespaces(t *testing.T, file string) *namespace.Set {
	t.Helper()
	set, err := namespace.Parse([]byte(file))
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// What clients are not allowed any more ends, at once and alone. What tokens grant stays.
func TestReloadEndsWhatIsNotAllowedAnyMore(t *testing.T) {
	t.Parallel()
	cfg := guarded(t, openFile)
	s := start(t, cfg)
	user := member(t, s, tokens(t, auth.Claims{User: "42"}))
	granted := tokens(t, auth.Claims{User: "42", Channel: "shut:granted"})
	for _, name := range []string{"kept:1", "shut:1", "gone:1"} {
		user.Joins(name)
	}
	user.Joins("shut:granted", `"token":"`+granted+`"`)
	raw := map[string]*clienttest.Client{}
	for _, name := range []string{"kept:1", "shut:1", "mute:1", "gone:1"} {
		raw[name] = clienttest.Dial(t, s, "/ws/"+name)
	}
	byToken := clienttest.Dial(t, s, rawTarget("/ws/", "shut:granted", "", granted))
	stream := clienttest.Connect(t, s)
	stream.Write("GET /sse/shut:1 HTTP/1.1\r\nHost: localhost\r\n\r\n")
	if stream.Status(t) != 200 {
		t.Fatal("no event stream")
	}

	next := cfg
	next.Namespaces = namespaces(t, shutFile)
	r, err := s.Reload(next, ReloadOptions{})
	if err != nil || r.Unsubscribed != 2 || r.Disconnected != 3 || len(r.Changed) != 1 {
		t.Errorf("reloaded: %+v, %v; want 2 subscriptions and 3 connections", r, err)
	}
	ended := map[string]bool{}
	for range 2 {
		text := user.Told("an unsubscribe")
		for _, name := range []string{"shut:1", "gone:1"} {
			ended[name] = ended[name] || strings.Contains(text, `"channel":"`+name+`"`) && strings.Contains(text, `"unsubscribe":{"code":2500`)
		}
	}
	if !ended["shut:1"] || !ended["gone:1"] {
		t.Errorf("the client was told of %v", ended)
	}
	for _, name := range []string{"shut:1", "gone:1"} {
		raw[name].WantClose("it may not have "+name, ws.StatusPolicyViolation)
	}
	s.publish("kept:1", "7")
	user.WantTold("it may have kept:1", `{"push":{"channel":"kept:1","pub":{"data":7,"offset":1}}}`)
	raw["kept:1"].WantText("likewise", "7")
	raw["kept:1"].Send(clienttest.Text("8"))
	raw["kept:1"].WantText("it may publish", "8")
	user.Told("that, too")
	s.publish("shut:granted", "9")
	user.Told("its token allows it")
	byToken.WantText("its token allows it", "9")
	raw["mute:1"].Send(clienttest.Text("10"))
	raw["mute:1"].WantClose("it may not publish any more", ws.StatusPolicyViolation)

	// The same again changes nothing, and what is allowed again can be had again.
	next.Namespaces = namespaces(t, openFile)
	if r, err := s.Reload(next, ReloadOptions{}); err != nil || r.Unsubscribed+r.Disconnected != 0 {
		t.Errorf("reloaded: %+v, %v", r, err)
	}
	user.Joins("gone:2")
}

// Tokens of a removed key stay valid for their connections until they are revoked. A new connection needs a key that is there.
func TestReloadRevokesTokensOfRemovedKeys(t *testing.T) {
	t.Parallel()
	keys := func(secrets ...string) *auth.Verifier {
		o := auth.Options{}
		for _, s := range secrets {
			o.HMACSecrets = append(o.HMACSecrets, []byte(strings.Repeat(s, 32)))
		}
		return clienttest.Verifier(t.Context(), t, o)
	}
	cfg := guarded(t, openFile)
	cfg.Tokens = keys("a", "b")
	s := start(t, cfg)
	sign := func(secret string, c jwt.MapClaims) string { return signed(t, strings.Repeat(secret, 32), c) }
	old, fresh := sign("a", jwt.MapClaims{"sub": "1"}), sign("b", jwt.MapClaims{"sub": "2"})
	oldClient, freshClient := member(t, s, old), member(t, s, fresh)
	freshClient.Joins("shut:x", `"token":"`+sign("a", jwt.MapClaims{"sub": "2", "channel": "shut:x"})+`"`)
	oldRaw, freshRaw := clienttest.Dial(t, s, rawTarget("/ws/", "kept:1", old, "")), clienttest.Dial(t, s, rawTarget("/ws/", "kept:1", fresh, ""))
	anonymous := clienttest.Dial(t, s, "/ws/kept:1")

	next := cfg
	next.Tokens = keys("b")
	if r, err := s.Reload(next, ReloadOptions{}); err != nil || r.Unsubscribed+r.Disconnected != 0 {
		t.Errorf("without revoking: %+v, %v", r, err)
	}
	oldClient.Joins("kept:2")
	c := clienttest.Connect(t, s)
	c.Write(clienttest.UpgradeTo(rawTarget("/ws/", "kept:1", old, "")))
	if status := c.Status(t); status != 401 {
		t.Errorf("a new connection with the old token: %d, want 401", status)
	}
	if r, err := s.Reload(next, ReloadOptions{Revoke: true}); err != nil || r.Unsubscribed != 1 || r.Disconnected != 2 || r.Changed != nil {
		t.Errorf("revoked: %+v, %v; want 1 subscription and 2 connections", r, err)
	}
	oldClient.WantClose("its key is gone", 3500)
	oldRaw.WantClose("its key is gone", ws.StatusPolicyViolation)
	if text := freshClient.Told("an unsubscribe"); !strings.Contains(text, `"unsubscribe":{"code":2500`) {
		t.Errorf("the subscription's key is gone: %s", text)
	}
	freshClient.Joins("kept:3")
	s.publish("kept:1", "7")
	freshRaw.WantText("its key is there", "7")
	anonymous.WantText("it has no token", "7")
}

// Clients that were there before there were hooks are asked about, too, and those of hooks that are gone are not.
func TestReloadBringsAndRemovesHooks(t *testing.T) {
	t.Parallel()
	cfg := Config{Raw: RawPublish, Namespaces: namespaces(t, strings.ReplaceAll(openFile, `"name": "kept",`, `"name": "kept", "publish_proxy_enabled": true,`))}
	without := Config{Raw: RawPublish, Namespaces: namespaces(t, openFile)}
	s := start(t, without)
	plain := clienttest.Dial(t, s, "/ws/kept:1")
	client := clienttest.Dial(t, s, pathClient)
	client.Connects("")
	for round := range 3 {
		cfg.Hooks = hook.NewSet(hook.Hooks{Publish: hook.Func(func(_ context.Context, q *hook.PublishRequest) (*hook.PublishResult, error) {
			return &hook.PublishResult{Data: fmt.Appendf(nil, `"%d %s"`, round, q.Channel)}, nil
		}, hook.Options{})})
		if _, err := s.Reload(cfg, ReloadOptions{}); err != nil {
			t.Fatal(err)
		}
		plain.Send(clienttest.Text(`"mine"`))
		plain.WantText("a hook has decided", fmt.Sprintf(`"%d kept:1"`, round))
		client.Does(`{"id":3,"publish":{"channel":"kept:1","data":"mine"}}`)
		client.WantTold("the hook has allowed it", `{"id":3,"publish":{}}`)
		plain.WantText("a hook has decided", fmt.Sprintf(`"%d kept:1"`, round))
		without.Hooks = nil
		if _, err := s.Reload(without, ReloadOptions{}); err != nil {
			t.Fatal(err)
		}
		plain.Send(clienttest.Text("alone"))
		plain.WantText("no hook is there", "alone")
	}
}
