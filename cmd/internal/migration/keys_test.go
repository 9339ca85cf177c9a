package migration

import (
	"bytes"
	"crypto/x509"
	_ "embed"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/gateway/edge/certificate"
)

//go:embed testdata/keys.txt
var keysText string

// known is a key of Centrifugo, with its type and its default.
type known struct{ path, kind, otherwise string }

// knownKeys returns all keys of Centrifugo.
func knownKeys(t testing.TB) (keys []known) {
	t.Helper()
	groups := make(map[string][]known)
	group := ""
	for line := range strings.Lines(keysText) {
		line = strings.TrimSpace(line)
		switch {
		case line == "" || line[0] == '#':
		case line[0] == '@':
			group = line
		default:
			path, kind, ok := strings.Cut(line, " ")
			if !ok {
				t.Fatalf("keys.txt: %q", line)
			}
			kind, otherwise, _ := strings.Cut(kind, " ")
			groups[group] = append(groups[group], known{path, kind, otherwise})
		}
	}
	var expand func(prefix, group string)
	expand = func(prefix, group string) {
		if groups[group] == nil {
			t.Fatalf("keys.txt: there is no %s", group)
		}
		for _, k := range groups[group] {
			if k.kind[0] == '@' {
				expand(prefix+k.path+".", k.kind)
			} else {
				keys = append(keys, known{prefix + k.path, k.kind, k.otherwise})
			}
		}
	}
	expand("", "@")
	if len(keys) < 1100 {
		t.Fatalf("%d keys", len(keys))
	}
	return keys
}

// some are values that are not those of an option that is off, for keys for which not every text will do.
var some = map[string]any{
	"client.allowed_origins":            []any{"https://app.example.com"},
	"client.token.hmac_secret_key":      "0123456789abcdef0123456789abcdef",
	"channel.namespace_boundary":        ":",
	"channel.private_prefix":            "$",
	"channel.user_boundary":             "#",
	"channel.user_separator":            ",",
	"channel.namespaces[].name":         "chat",
	"proxies[].name":                    "named",
	"http_server.internal_port":         "9000",
	"http_server.address":               "127.0.0.1",
	"http_server.internal_address":      "127.0.0.1",
	"http_server.port":                  8000,
	"client.token.jwks_public_endpoint": "https://id.example.com/jwks",
	"client.subscribe_to_user_personal_channel.personal_channel_namespace": "chat",
}

// pair returns a certificate and its key, in PEM.
var pair = sync.OnceValues(func() (string, string) {
	c, err := certificate.SelfSigned(time.Now())
	if err != nil {
		panic(err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		panic(err)
	}
	text := func(kind string, der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	return text("CERTIFICATE", c.Certificate[0]), text("PRIVATE KEY", key)
})

// value returns a value of a key: one that is on, or one that is off.
func (k known) value(on bool) any {
	if v, ok := some[k.path]; ok && on {
		return v
	}
	if !on {
		return map[string]any{"flag": false, "number": 0, "text": "", "duration": "0s", "list": []any{}, "map": map[string]any{}}[k.kind]
	}
	switch {
	case strings.HasSuffix(k.path, "key_pem"):
		_, key := pair()
		return key
	case strings.HasSuffix(k.path, "_pem"):
		certificate, _ := pair()
		return certificate
	case strings.HasSuffix(k.path, ".endpoint"):
		return "http://127.0.0.1:3000/hook"
	case strings.HasSuffix(k.path, "proxy_name"):
		return "named"
	case strings.HasSuffix(k.path, "status_code"):
		return 429
	case strings.HasSuffix(k.path, "to_disconnect.code"):
		return 4500
	}
	return map[string]any{"flag": true, "number": 7, "text": "text", "duration": "7s", "list": []any{"one"}, "map": map[string]any{"X-Key": "value"}}[k.kind]
}

// put sets a key in a configuration. Lists have one element. Where a key above has a value of another type, it stays.
func put(config map[string]any, path string, value any) {
	names := strings.Split(path, ".")
	for i, name := range names {
		name, list := strings.CutSuffix(name, "[]")
		switch {
		case i == len(names)-1:
			config[name] = value
		case list:
			if config[name] == nil {
				config[name] = []any{map[string]any{}}
			}
			below, ok := config[name].([]any)
			if !ok || len(below) == 0 {
				return
			}
			if config, ok = below[0].(map[string]any); !ok {
				return
			}
		default:
			if config[name] == nil {
				config[name] = map[string]any{}
			}
			below, ok := config[name].(map[string]any)
			if !ok {
				return
			}
			config = below
		}
	}
}

// converted converts a configuration, and checks that all keys have a fate and that sluice can start with the result.
func converted(t *testing.T, config any) *conversion {
	t.Helper()
	c, data := accounted(t, config)
	if err := c.write(); err != nil {
		t.Fatal(err)
	}
	if err := starts(filepath.Join(c.dir, confFile)); err != nil {
		t.Errorf("%s\n%s\n%v", data, c.conf(), err)
	}
	return c
}

// accounted is converted without the files.
func accounted(t *testing.T, config any) (*conversion, []byte) {
	t.Helper()
	data, ok := config.([]byte)
	if !ok {
		var err error
		if data, err = json.Marshal(config); err != nil {
			t.Fatal(err)
		}
	}
	c, err := convert(data, filepath.Join(t.TempDir(), "result"), nil, time.Unix(1_800_000_000, 0))
	if err != nil {
		t.Fatalf("%s: %v", data, err)
	}
	c.root.leaves(func(leaf *node) {
		if leaf != c.root && leaf.fate == nil {
			t.Errorf("%s: %s has no fate", data, leaf.path)
		}
	})
	return c, data
}

// with returns the keys of a conversion with a verdict.
func (c *conversion) with(v verdict) (paths []string) {
	c.root.leaves(func(leaf *node) {
		if leaf.fate != nil && leaf.fate.verdict == v {
			paths = append(paths, leaf.path)
		}
	})
	return paths
}

const unknownText = "not a key of Centrifugo 6"

func TestEveryKeyOfCentrifugoIsAccountedFor(t *testing.T) {
	all := map[string]any{}
	keys := knownKeys(t)
	for _, k := range keys {
		put(all, k.path, k.value(true))
	}
	c := converted(t, all)
	c.root.leaves(func(leaf *node) {
		if strings.HasPrefix(leaf.fate.text, unknownText) || strings.Contains(leaf.fate.text, "not a known option") || strings.Contains(leaf.fate.text, "is unknown") {
			t.Errorf("%s: %s", leaf.path, leaf.fate.text)
		}
	})
	var report bytes.Buffer
	if err := c.report(&report); err != nil {
		t.Fatal(err)
	}
	// The report names each key, below the group that it belongs to or in full.
	for _, k := range keys {
		last := k.path[strings.LastIndexByte(k.path, '.')+1:]
		if !strings.Contains(report.String(), last) {
			t.Errorf("the report does not name %s", k.path)
		}
	}
}

func TestAKeyThatIsOffIsNothingLost(t *testing.T) {
	all := map[string]any{}
	for _, k := range knownKeys(t) {
		v := k.value(false)
		if _, ok := some[k.path]; ok {
			v = k.value(true)
		}
		put(all, k.path, v)
	}
	c := converted(t, all)
	for _, path := range c.with(lost) {
		if !slices.ContainsFunc([]string{"client.stale_close_delay", "client.expired_close_delay", "client.expired_sub_close_delay", "publication_limit", "max_length"}, func(s string) bool { return strings.Contains(path, s) }) {
			t.Errorf("%s is lost", path)
		}
	}
}

// Centrifugo can print a configuration that has all defaults.
func TestDefaultsAreNothingLost(t *testing.T) {
	all := map[string]any{"proxies": []any{}, "consumers": []any{}, "channel": map[string]any{"namespaces": []any{}}, "rpc": map[string]any{"namespaces": []any{}}}
	for _, k := range knownKeys(t) {
		if strings.Contains(k.path, "[]") {
			continue
		}
		v := k.value(false)
		if k.otherwise != "" && k.kind != "map" {
			v = k.otherwise
			if k.kind == "number" {
				v = json.Number(k.otherwise)
			}
		}
		put(all, k.path, v)
	}
	c := converted(t, all)
	if got := c.with(lost); got != nil {
		t.Errorf("lost: %s", strings.Join(got, " "))
	}
	if got, want := strings.Join(c.with(changed), " "), "client.expired_close_delay client.expired_sub_close_delay client.queue_max_size"; got != want {
		t.Errorf("changed: %s, want %s", got, want)
	}
}

func TestEachKeyAloneMakesAResult(t *testing.T) {
	keys := knownKeys(t)
	for i, k := range keys {
		config := map[string]any{}
		put(config, k.path, k.value(true))
		if group, rest, ok := strings.Cut(k.path, "."); ok && rest != "enabled" && !strings.HasSuffix(k.path, "[]") {
			for _, parent := range []string{group, k.path[:strings.LastIndexByte(k.path, '.')]} {
				if slices.ContainsFunc(keys, func(x known) bool { return x.path == parent+".enabled" }) {
					put(config, parent+".enabled", true)
				}
			}
		}
		c, _ := accounted(t, config)
		if i%16 == 0 || slices.ContainsFunc(equivalents, func(x equivalent) bool { return x.key == k.path }) {
			c = converted(t, config)
		}
		c.root.leaves(func(leaf *node) {
			if strings.HasPrefix(leaf.fate.text, unknownText) {
				t.Errorf("%s: %s", leaf.path, leaf.fate.text)
			}
		})
	}
}

func TestAnUnknownKeyIsReported(t *testing.T) {
	c := converted(t, []byte(`{"clinet": {"insecure": true}, "client": {"tracing": 1}, "channel": {"namespaces": [{"name": "chat", "presense": true}]}}`))
	got := fmt.Sprint(c.with(lost))
	if want := "[clinet.insecure client.tracing channel.namespaces[0].presense]"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
