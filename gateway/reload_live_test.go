package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"sluice/gateway/access/auth"
	"sluice/gateway/clienttest"
	"sluice/gateway/hook"
	"sluice/gateway/loop"
)

// Each setting that is said to be live has an effect on a server that runs, and the others are refused.
func TestEveryLiveSettingHasAnEffect(t *testing.T) {
	t.Parallel()
	receiver := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(receiver.Close)
	dials := func(s *server, n int, fields ...string) string { // how many of them are accepted
		accepted := 0
		for range n {
			if _, status, _ := clienttest.Try(s.T, s, fields...); status == 101 {
				accepted++
			}
		}
		return fmt.Sprint(accepted)
	}
	subscribes := func(s *server, names ...string) string { // how many channels a client can have
		c, n := member(s.T, s, ""), 0
		for _, name := range names {
			c.Does(fmt.Sprintf(`{"id":2,"subscribe":{"channel":%q}}`, name))
			if strings.Contains(c.Told(name), `"subscribe"`) {
				n++
			}
		}
		return fmt.Sprint(n)
	}
	sends := func(s *server, frame string, n int) string { // whether so many may come at once
		c := clienttest.Dial(s.T, s, "/ws/x?echo=off")
		for range n {
			c.Send(frame)
		}
		c.Send(clienttest.Closing(1000, ""))
		for {
			op, p, err := c.Next()
			if err != nil {
				return err.Error()
			}
			if op == 8 {
				return fmt.Sprintf("%x", p[:2])
			}
		}
	}
	for field, test := range map[string]struct {
		change func(c *Config)
		effect func(s *server) string
	}{
		"MaxPerAddress":  {func(c *Config) { c.MaxPerAddress = 1 }, func(s *server) string { return dials(s, 3) }},
		"AddressRate":    {func(c *Config) { c.AddressRate = 1 }, func(s *server) string { return fmt.Sprint(dials(s, 8) == "8") }},
		"AcceptRate":     {func(c *Config) { c.AcceptRate = 1 }, func(s *server) string { return fmt.Sprint(dials(s, 8) == "8") }},
		"AllowedOrigins": {func(c *Config) { c.AllowedOrigins = []string{"https://app.example.com"} }, func(s *server) string { return dials(s, 1, "Origin: https://app.example.com") }},
		"MaxConnections": {func(c *Config) { c.MaxConnections = 2 }, func(s *server) string { return dials(s, 5) }},
		"MaxChannels":    {func(c *Config) { c.MaxChannels = 2 }, func(s *server) string { return subscribes(s, "a", "b", "c", "d") }},
		"ChannelLimit":   {func(c *Config) { c.ChannelLimit = 2 }, func(s *server) string { return subscribes(s, "a", "b", "c", "d") }},
		"History":        {func(c *Config) { c.History = 2 }, func(s *server) string { return fmt.Sprint(s.keep("x")) }},
		"HistoryTTL":     {func(c *Config) { c.HistoryTTL = time.Minute }, func(s *server) string { return fmt.Sprint(s.keep("x")) }},
		"Namespaces":     {func(c *Config) { c.Namespaces = namespaces(t, openFile) }, func(s *server) string { return subscribes(s, "a", "kept:a") }},
		"Tokens": {func(c *Config) { c.Tokens = guarded(t, "").Tokens }, func(s *server) string {
			c := clienttest.Dial(s.T, s, pathClient)
			c.Does(`{"id":1,"connect":{"token":"` + tokens(t, auth.Claims{User: "42"}) + `"}}`)
			_, p, _ := c.Next()
			return fmt.Sprint(strings.Contains(p, `"connect"`))
		}},
		"Hooks": {func(c *Config) {
			c.Hooks = hook.NewSet(hook.Hooks{Connect: hook.Func(func(context.Context, *hook.ConnectRequest) (*hook.ConnectResult, error) {
				return nil, &hook.Disconnect{Code: 4001, Reason: "no"}
			}, hook.Options{})})
		}, func(s *server) string {
			c := clienttest.Dial(s.T, s, pathClient)
			c.Does(`{"id":1,"connect":{}}`)
			op, _, _ := c.Next()
			return fmt.Sprint(op)
		}},
		"Webhooks":    {func(c *Config) { c.Webhooks = []Webhook{{URL: receiver.URL}} }, func(s *server) string { return fmt.Sprint(len(s.events.receivers)) }},
		"SlowPolicy":  {func(c *Config) { c.SlowPolicy = []loop.SlowRule{{Pattern: "*", Skip: true}} }, func(s *server) string { return fmt.Sprint(s.skips("x")) }},
		"MessageRate": {func(c *Config) { c.MessageRate = 1 }, func(s *server) string { return sends(s, clienttest.Text("m"), 10) }},
		"ControlRate": {func(c *Config) { c.ControlRate = 1 }, func(s *server) string { return sends(s, clienttest.Ping("p"), 10) }},
		"ChannelRate": {func(c *Config) { c.ChannelRate = 1 }, func(s *server) string {
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			var err error
			for range 5 {
				_, e := s.Publish(ctx, Message{Channel: "x", Payload: []byte("1")})
				err = errors.Join(err, e)
			}
			return fmt.Sprint(err != nil)
		}},
		"JoinRate":   {func(c *Config) { c.JoinRate = 1 }, func(s *server) string { return subscribes(s, "a") + subscribes(s, "a") + subscribes(s, "a") }},
		"DrainDelay": {func(c *Config) { c.DrainDelay = time.Millisecond }, func(s *server) string { return s.live.Load().DrainDelay.String() }},
	} {
		t.Run(field, func(t *testing.T) {
			if f, ok := reflect.TypeFor[Config]().FieldByName(field); !ok || f.Tag.Get("reload") == "" {
				t.Errorf("the tag of %s does not say so", field)
			}
		})
		t.Run(field+" has an effect", func(t *testing.T) {
			t.Parallel()
			s, changed := start(t, Config{}), start(t, Config{})
			next := changed.given
			test.change(&next)
			r, err := changed.Reload(next, ReloadOptions{})
			if err != nil || len(r.Changed) != 1 || r.Changed[0] != field {
				t.Fatalf("reloaded %v, %v", r.Changed, err)
			}
			if without, with := test.effect(s), test.effect(changed); without == with {
				t.Errorf("with and without it: %s", with)
			}
		})
	}
}
