package migration

import (
	"encoding/json"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"

	"sluice/gateway/access/namespace"
	"sluice/gateway/hook/config"
)

// FuzzConvert: whatever a configuration is, each key has a fate, and the packages that read the result accept it.
func FuzzConvert(f *testing.F) {
	for _, x := range cases {
		f.Add([]byte(x.config))
	}
	f.Fuzz(func(t *testing.T, data []byte) { sound(t, data) })
}

// odd are values of all types, some of which each key accepts.
var odd = []any{
	true, false, 0, 1, 200, 70000, -1, 1.5, "", "text", "true", "300s", "1ns", "8000", "::1", "name", "chat", "null", "default", "http://127.0.0.1:1/hook", "grpc://h", "*", "\x00", "a,b", "${CENTRIFUGO_VAR_X}",
	[]any{}, []any{"Cookie"}, []any{"Host", "X", "x"}, []any{1, nil}, map[string]any{}, map[string]any{"a": "b"}, []any{map[string]any{"key": "a", "value": "b"}}, nil,
	"-----BEGIN PUBLIC KEY-----", "https://id.example.com/keys", "0123456789abcdef0123456789abcdef", "redis", "nats", "^a$", "(", "cache",
}

// hooked is a configuration with hooks of all kinds.
const hooked = `{"client": {"proxy": {"connect": {"enabled": true, "endpoint": "http://h/c"}, "refresh": {"enabled": true, "endpoint": "http://h/c"}}},
	"channel": {"proxy": {"subscribe": {"endpoint": "http://h/s"}, "publish": {"endpoint": "http://h/p"}, "sub_refresh": {"endpoint": "http://h/p"}},
		"without_namespace": {"subscribe_proxy_enabled": true}, "namespaces": [{"name": "chat", "subscribe_proxy_enabled": true, "subscribe_proxy_name": "named", "publish_proxy_enabled": true, "sub_refresh_proxy_enabled": true}]},
	"rpc": {"proxy": {"endpoint": "http://h/r"}, "without_namespace": {"proxy_enabled": true}, "namespaces": [{"name": "name", "proxy_enabled": true, "proxy_name": "named"}]},
	"proxies": [{"name": "named", "endpoint": "http://h/o", "http_headers": ["X"], "http": {"static_headers": {"A": "b"}, "status_to_code_transforms": [{"status_code": 429, "to_error": {"code": 429}}]}}]}`

// FuzzKeys is FuzzConvert for configurations that have known keys, with values of any type. Two
// bytes of the input choose a key, and the next one its value.
func FuzzKeys(f *testing.F) {
	keys := knownKeys(f)
	random := rand.New(rand.NewPCG(1, 17))
	for range 20 {
		seed := make([]byte, 90)
		for i := range seed {
			seed[i] = byte(random.UintN(256))
		}
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		all := map[string]any{}
		if len(data) > 0 && data[0]&1 == 1 {
			if err := json.Unmarshal([]byte(hooked), &all); err != nil {
				t.Fatal(err)
			}
		}
		for ; len(data) >= 3; data = data[3:] {
			put(all, keys[(int(data[0])<<8+int(data[1]))%len(keys)].path, odd[int(data[2])%len(odd)])
		}
		text, err := json.Marshal(all)
		if err != nil {
			t.Fatal(err)
		}
		sound(t, text)
	})
}

// sound converts a configuration and checks the result.
func sound(t *testing.T, data []byte) {
	c, err := convert(data, "/result", nil, time.Unix(1_800_000_000, 0))
	if err != nil {
		return
	}
	c.root.leaves(func(leaf *node) {
		if leaf != c.root && leaf.fate == nil {
			t.Errorf("%s\n%s has no fate", data, leaf.path)
		}
	})
	if err := c.trial.Gateway.Validate(); err != nil {
		t.Errorf("%s\n%v", data, err)
	}
	var hooks *config.Config
	var around config.Surroundings
	for _, origin := range []string{"*", "null"} {
		if slices.Contains(c.trial.Gateway.AllowedOrigins, origin) {
			around.AnyOrigin = origin
		}
	}
	for _, file := range c.files {
		switch file.name {
		case namespacesFile:
			var set *namespace.Set
			if set, err = namespace.Parse(file.data); err == nil {
				for o := range set.All() {
					around.Namespaces = append(around.Namespaces, config.Namespace{Name: o.Name, Selection: config.Selection{
						SubscribeProxyEnabled: o.SubscribeProxyEnabled, SubscribeProxyName: o.SubscribeProxyName,
						PublishProxyEnabled: o.PublishProxyEnabled, PublishProxyName: o.PublishProxyName,
						SubRefreshProxyEnabled: o.SubRefreshProxyEnabled, SubRefreshProxyName: o.SubRefreshProxyName,
					}})
				}
			}
		case hooksFile:
			hooks, err = config.Parse(file.data, os.ReadFile)
		}
		if err != nil {
			t.Fatalf("%s\n%s: %v\n%s", data, file.name, err, file.data)
		}
	}
	if err := hooks.Check(around); err != nil {
		t.Errorf("%s\n%v\n%s", data, err, show(c))
	}
}
