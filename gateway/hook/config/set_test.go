package config

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"sluice/gateway/hook"
	"sluice/gateway/hook/proxy"
	"sluice/gateway/hook/queue"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestFlagsAreHooks(t *testing.T) {
	got, err := Flags{Connect: "http://h/connect", RPC: "https://h/rpc", Headers: []string{"Cookie"}, EmulatedHeaders: []string{"Authorization"}, Timeout: 2 * time.Second}.Config()
	if err != nil {
		t.Fatal(err)
	}
	of := func(flag, url string) *Hook {
		return &Hook{flag, proxy.Config{Name: "default", Endpoint: url, Timeout: 2 * time.Second, Headers: []string{"Cookie"}, EmulatedHeaders: []string{"Authorization"}}}
	}
	want := &Config{Connect: of("--connect-hook", "http://h/connect"), RPC: of("--rpc-hook", "https://h/rpc"), Methods: Methods{Without: Choice{Enabled: true}}}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(proxy.Config{})); diff != "" {
		t.Error(diff)
	}
	if none, err := (Flags{Timeout: time.Second}).Config(); none != nil || err != nil {
		t.Errorf("without hooks: %v, %v", none, err)
	}
	_, err = Flags{Connect: "h:1", Subscribe: "grpc://h", Headers: []string{"a b"}, EmulatedHeaders: []string{"Host"}, Timeout: time.Hour}.Config()
	lines(t, err, "--connect-hook: it is not an http", "--subscribe-hook: a gRPC endpoint", `--hook-headers: "a b" is not`, `--hook-emulated-headers: "Host" is`, "--hook-timeout: 1h0m0s is more")
	_, err = Flags{Headers: []string{"Cookie"}}.Config()
	lines(t, err, "--hook-headers: there is no hook")
}

// lines checks the beginnings of an error's lines.
func lines(t *testing.T, err error, want ...string) {
	t.Helper()
	var got []string
	if err != nil {
		got = strings.Split(err.Error(), "\n")
	}
	if len(got) != len(want) {
		t.Errorf("%q, want %q", got, want)
		return
	}
	for i := range want {
		if !strings.HasPrefix(got[i], want[i]) {
			t.Errorf("%q, want %q", got[i], want[i])
		}
	}
}

func parsed(t *testing.T, file string) *Config {
	t.Helper()
	c, err := Parse([]byte(file), nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestAFileAndFlagsTogether(t *testing.T) {
	file := parsed(t, `{"channel": {"proxy": {"subscribe": {"endpoint": "http://h/file"}}}}`)
	flags, err := Flags{Connect: "http://h/flag", RPC: "http://h/rpc"}.Config()
	if err != nil {
		t.Fatal(err)
	}
	got, err := Merge(file, flags)
	if err != nil || got.Connect.Where != "--connect-hook" || got.Subscribe.Where != "channel.proxy.subscribe" || !got.Methods.Without.Enabled {
		t.Errorf("%+v, %v", got, err)
	}
	flags.Subscribe = &Hook{Where: "--subscribe-hook"}
	_, err = Merge(file, flags)
	lines(t, err, "--subscribe-hook: the hooks file has channel.proxy.subscribe too")
	_, err = Merge(parsed(t, `{"rpc": {"namespaces": [{"name": "ab"}]}}`), flags)
	lines(t, err, "--rpc-hook: the hooks file says which methods have which hook")
	for _, x := range []*Config{nil, file} {
		if got, err := Merge(x, nil); got != x || err != nil {
			t.Error(got, err)
		}
		if got, err := Merge(nil, x); got != x || err != nil {
			t.Error(got, err)
		}
	}
}

func TestHooksThatDoNotFit(t *testing.T) {
	c := parsed(t, `{
		"client": {"proxy": {"connect": {"enabled": true, "endpoint": "http://h", "http_headers": ["X", "cookie"]}}},
		"channel": {"proxy": {"subscribe": {"endpoint": "http://h"}, "publish": {"endpoint": "http://h"}}},
		"rpc": {"proxy": {"endpoint": "http://h"}},
		"proxies": [{"name": "chat", "endpoint": "http://h"}, {"name": "unused", "endpoint": "http://h"}]}`)
	lines(t, c.Check(Surroundings{}), "rpc.proxy: no namespace uses this hook", "proxies[0]: no namespace", "proxies[1]: no namespace")
	lines(t, c.Check(Surroundings{Namespaces: []Namespace{
		{"", Selection{SubscribeProxyName: "chat"}},
		{"chat", Selection{SubscribeProxyEnabled: true, PublishProxyEnabled: true, PublishProxyName: "chat", SubRefreshProxyEnabled: true}},
		{"news", Selection{SubscribeProxyEnabled: true, SubscribeProxyName: "chta", PublishProxyEnabled: true, PublishProxyName: "something-else"}},
	}}),
		`without_namespace: subscribe_proxy_name: it has no effect without subscribe_proxy_enabled`,
		`namespace "chat": sub_refresh_proxy_enabled: there is no default hook for it; add channel.proxy.sub_refresh or --sub-refresh-hook`,
		`namespace "news": subscribe_proxy_name: there is no hook with the name "chta"; did you mean "chat"?`,
		`namespace "news": publish_proxy_name: there is no hook with the name "something-else"; add it to proxies`,
		`channel.proxy.publish: no namespace uses this hook`, `rpc.proxy: no namespace`, `proxies[1]: no namespace`)
	lines(t, parsed(t, `{"rpc": {"without_namespace": {"proxy_enabled": true}, "namespaces": [{"name": "ab", "proxy_enabled": true, "proxy_name": "xx"}]}}`).Check(Surroundings{}),
		"rpc.without_namespace: proxy_enabled: there is no default hook for it; add rpc.proxy or --rpc-hook", `rpc namespace "ab": proxy_name: there is no hook with the name "xx"`)

	one := parsed(t, `{"client": {"proxy": {"connect": {"enabled": true, "endpoint": "http://h", "http_headers": ["X", "cookie"]}}}}`)
	lines(t, one.Check(Surroundings{AnyOrigin: "*"}), `client.proxy.connect: Cookie is passed on, and an origin pattern is "*"`)
	lines(t, one.Check(Surroundings{Insecure: true}), "client.proxy.connect: it has no effect with --insecure")
	lines(t, one.Check(Surroundings{Namespaces: []Namespace{{}}}))
	lines(t, parsed(t, `{"client": {"allow_anonymous_connect_without_token": true}}`).Check(Surroundings{}),
		"client.allow_anonymous_connect_without_token: it has no effect without a connect hook")
	var none *Config
	lines(t, none.Check(Surroundings{Insecure: true, AnyOrigin: "*"}))
	lines(t, none.Check(Surroundings{Namespaces: []Namespace{{"chat", Selection{SubscribeProxyEnabled: true}}}}),
		`namespace "chat": subscribe_proxy_enabled: there is no default hook`)
	if !none.Empty() {
		t.Error("no hooks are some")
	}
}

// built returns the hooks of a file whose endpoints begin with BACKEND; it answers with the path.
func built(t *testing.T, file string, namespaces []Namespace) *Set {
	t.Helper()
	b := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, `{"error":{"code":400,"message":"`+r.URL.Path+`"}}`)
	}))
	t.Cleanup(b.Close)
	c := parsed(t, strings.ReplaceAll(file, "BACKEND", b.URL))
	if err := c.Check(Surroundings{Namespaces: namespaces}); err != nil {
		t.Fatal(err)
	}
	s, err := c.Build(namespaces, Bounds{Wait: time.Minute, InFlight: 3})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// path returns which endpoint a hook asks; "" for no hook.
func path[Q hook.Request, A any](t *testing.T, h hook.Hook[Q, A], q Q) string {
	t.Helper()
	if h == nil {
		return ""
	}
	c := make(chan error, 1)
	h.Ask(q, func(_ *A, err error) { c <- err })
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	select {
	case err := <-c:
		if e, ok := errors.AsType[*hook.Error](err); ok {
			return e.Message
		}
		t.Error(err)
	case <-ctx.Done():
		t.Error("no answer")
	}
	return ""
}

const two = `{
	"client": {"proxy": {"connect": {"enabled": true, "endpoint": "BACKEND/connect"}}, "allow_anonymous_connect_without_token": true},
	"channel": {"proxy": {"subscribe": {"endpoint": "BACKEND/subscribe"}}},
	"rpc": {"proxy": {"endpoint": "BACKEND/rpc"}, "namespaces": [{"name": "quote", "proxy_enabled": true}, {"name": "chat", "proxy_enabled": true, "proxy_name": "chat"}, {"name": "off"}]},
	"proxies": [{"name": "chat", "endpoint": "BACKEND/chat"}]}`

// Which hook is for which channel and method.
func TestHooksAreSelected(t *testing.T) {
	who := &hook.Identity{ID: "1"}
	named := Selection{SubscribeProxyEnabled: true, SubscribeProxyName: "chat", PublishProxyEnabled: true, PublishProxyName: "chat", SubRefreshProxyEnabled: true, SubRefreshProxyName: "chat"}
	plain := Selection{SubscribeProxyEnabled: true}
	s := built(t, two, []Namespace{{"", plain}, {"chat", named}})
	subscribe, publish := &hook.SubscribeRequest{Client: who}, &hook.PublishRequest{Client: who}
	rpc := func(method string) string { return path(t, s.Hooks.RPC, &hook.RPCRequest{Client: who, Method: method}) }
	for _, c := range []struct{ what, got, want string }{
		{"connect", path(t, s.Hooks.Connect, &hook.ConnectRequest{Client: who}), "/connect"},
		{"refresh", path(t, s.Hooks.Refresh, &hook.RefreshRequest{Client: who}), ""},
		{"subscribe", path(t, hook.Pick(s.Hooks.Subscribe, ""), subscribe), "/subscribe"},
		{"subscribe, named", path(t, hook.Pick(s.Hooks.Subscribe, "chat"), subscribe), "/chat"},
		{"subscribe, not selected", path(t, hook.Pick(s.Hooks.Subscribe, "none"), subscribe), ""},
		{"publish, not selected", path(t, hook.Pick(s.Hooks.Publish, ""), publish), ""},
		{"publish, named", path(t, hook.Pick(s.Hooks.Publish, "chat"), publish), "/chat"},
		{"sub-refresh, named", path(t, hook.Pick(s.Hooks.SubRefresh, "chat"), &hook.SubRefreshRequest{Client: who}), "/chat"},
		{"rpc", rpc("quote:get"), "/rpc"},
		{"rpc, named", rpc("chat:a:b"), "/chat"},
		{"rpc, off", rpc("off:x"), "not available"},
		{"rpc, no such namespace", rpc("none:x"), "method not found"},
		{"rpc, without a namespace", rpc("x"), "not available"},
	} {
		if c.got != c.want {
			t.Errorf("%s: %q, want %q", c.what, c.got, c.want)
		}
	}
	if !s.Hooks.AllowAnonymous {
		t.Error("clients may not be anonymous")
	}
	if len(s.endpoints) != 4 {
		t.Errorf("%d endpoints", len(s.endpoints))
	}
	var of []string
	for _, x := range s.Stats() {
		of = append(of, x.Event+" "+x.Name)
	}
	slices.Sort(of)
	if diff := cmp.Diff([]string{"connect default", "publish chat", "rpc chat", "rpc default", "sub_refresh chat", "subscribe chat", "subscribe default"}, of); diff != "" {
		t.Error(diff)
	}
}

func TestWithoutNamespacesDefaultHooksAreForEveryChannel(t *testing.T) {
	flags, err := Flags{Subscribe: "http://h/subscribe", RPC: "http://h/rpc"}.Config()
	if err != nil {
		t.Fatal(err)
	}
	if err := flags.Check(Surroundings{}); err != nil {
		t.Error(err)
	}
	all := flags.Everywhere()
	if diff := cmp.Diff(Selection{SubscribeProxyEnabled: true}, all); diff != "" {
		t.Error(diff)
	}
	s, err := flags.Build(nil, Bounds{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if h := s.Hooks; len(h.Subscribe) != 1 || h.Subscribe[hook.Default] == nil || len(h.Publish) != 0 || h.Connect != nil || h.Refresh != nil {
		t.Errorf("not the hooks that were named: %+v", h)
	}
	for _, method := range []string{"", "a", "a:b"} {
		if h, err := s.Hooks.RPC.(*methods).of(method); h == nil || err != nil {
			t.Errorf("%q: %v", method, err)
		}
	}
	none, err := new(Config).Build(nil, Bounds{})
	if err != nil {
		t.Fatal(err)
	}
	defer none.Close()
	if none.Hooks.RPC != nil || none.Hooks.Connect != nil {
		t.Error("no hooks are some")
	}
}

// What a hook does not say of its bounds, the gateway's settings do; what waits is bounded for all
// hooks together.
func TestBoundsOfHooks(t *testing.T) {
	began := make(chan struct{}, 10)
	b := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		began <- struct{}{}
		<-r.Context().Done()
	}))
	defer b.Close()
	budget := queue.NewBudget(2, 2)
	c := parsed(t, strings.ReplaceAll(`{"channel": {"proxy": {"subscribe": {"endpoint": "BACKEND", "timeout": "1m", "max_in_flight": 2}, "publish": {"endpoint": "BACKEND", "timeout": "1m"}}}}`, "BACKEND", b.URL))
	s, err := c.Build(nil, Bounds{InFlight: 1, Wait: time.Minute, Budget: budget})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	who := &hook.Identity{ID: "1"}
	refused := 0
	for range 3 {
		s.Hooks.Subscribe[hook.Default].Ask(&hook.SubscribeRequest{Client: who}, func(*hook.SubscribeResult, error) {})
	}
	for range 3 {
		s.Hooks.Publish[hook.Default].Ask(&hook.PublishRequest{Client: who}, func(_ *hook.PublishResult, err error) {
			if errors.Is(err, hook.ErrOverload) {
				refused++
			}
		})
	}
	if refused != 1 || budget.Used() != 2 {
		t.Errorf("%d refused, %d places", refused, budget.Used())
	}
	for range 3 {
		<-began
	}
	for _, x := range s.Stats() {
		if want := map[string]int{"subscribe": 2, "publish": 1}[x.Event]; x.Calls.InFlight != want {
			t.Errorf("%s: %d in flight", x.Event, x.Calls.InFlight)
		}
	}
}
