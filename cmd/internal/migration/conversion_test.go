package migration

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// secret is long enough for HS256.
const secret = "0123456789abcdef0123456789abcdef"

// show returns the result as text: the settings without the directory, and for each file its name and content.
func show(c *conversion) string {
	var b strings.Builder
	for line := range strings.Lines(string(c.conf())) {
		if line != "\n" && !strings.HasPrefix(line, "# ") || strings.Contains(line, " = ") {
			b.WriteString(strings.ReplaceAll(line, c.dir+"/", ""))
		}
	}
	for _, f := range c.files {
		data := regexp.MustCompile(`\s+`).ReplaceAllString(string(f.data), " ")
		b.WriteString(f.name + ": " + strings.TrimSpace(strings.NewReplacer("[ ", "[", " ]", "]", "{ ", "{", " }", "}").Replace(data)) + "\n")
	}
	return b.String()
}

var cases = []struct {
	name, config string
	has          []string // lines of the result
	hasNot       []string // parts of it
	lost         []string // KEY: beginning of the reason
	advice       []string // parts
}{
	{name: "nothing", config: `{}`,
		has:    []string{"listen = :8000", "internal-listen = 127.0.0.1:9000", "api-key-file = api-key", "raw = off", "namespaces = namespaces.json", `namespaces.json: {"namespaces": []}`},
		hasNot: []string{"hooks"},
		advice: []string{"other machines can reach", "the API is at http://127.0.0.1:9000/api", "is new"}},
	{name: "addresses", config: `{"http_server": {"address": "127.0.0.1", "port": "18000", "internal_port": 19000}, "http_api": {"key": "k"}}`,
		has: []string{"listen = 127.0.0.1:18000", "internal-listen = 127.0.0.1:19000", "api-key: k"}},
	{name: "internal port for others without a key", config: `{"http_server": {"internal_port": "19000"}, "http_api": {"insecure": true}}`,
		has: []string{"internal-listen = 127.0.0.1:19000"}, hasNot: []string{"api-key"}, advice: []string{"has no key"}},
	{name: "port of the internal listener", config: `{"http_server": {"port": 9000}}`, has: []string{"listen = :9000", "internal-listen = 127.0.0.1:9001"}},
	{name: "no port", config: `{"http_server": {"port": 70000}}`, has: []string{"listen = :8000"}, lost: []string{"http_server.port: it is no port"}},
	{name: "certificates by a service", config: `{"http_server": {"port": 443, "tls_autocert": {"enabled": true}}}`,
		has: []string{"listen = 127.0.0.1:443"}, lost: []string{"http_server.tls_autocert.enabled: sluice does not fetch"}, advice: []string{"without TLS"}},
	{name: "API with a key that no header can have", config: `{"http_api": {"key": "a b"}}`, has: []string{"api-key-file = api-key"}, hasNot: []string{"a b"}, lost: []string{"http_api.key: it cannot"}},
	{name: "API that is off", config: `{"http_api": {"disabled": true, "key": "known-to-some"}}`, has: []string{"api-key-file = api-key"}, hasNot: []string{"known-to-some"}, lost: []string{"http_api.disabled: "}},

	{name: "secrets", config: `{"client": {"token": {"hmac_secret_key": "` + secret + `", "hmac_previous_secret_key": "` + secret + `1", "hmac_previous_secret_key_valid_until": 1900000000, "audience": "me # you"}}}`,
		has:    []string{"token-hmac-secret-file = token-secret", "token-hmac-secret-file = token-secret-previous", "token-secret: " + secret, "token-secret-previous: " + secret + "1", `token-audience = "me # you"`},
		advice: []string{"remove the second token-hmac-secret-file at 2030-03-17T17:46:40Z"}},
	{name: "secret of the past", config: `{"client": {"token": {"hmac_secret_key": "` + secret + `", "hmac_previous_secret_key": "` + secret + `1", "hmac_previous_secret_key_valid_until": 1700000000}}}`,
		hasNot: []string{"previous"}},
	{name: "short secret", config: `{"client": {"token": {"hmac_secret_key": "short", "audience": "a"}}}`,
		has: []string{"# token-audience = a"}, hasNot: []string{"token-secret"}, lost: []string{"client.token.hmac_secret_key: the secret is 5 bytes long", "client.token.audience: token-audience is a comment"}},
	{name: "pattern of audiences", config: `{"client": {"token": {"hmac_secret_key": "` + secret + `", "audience_regex": "^a|b$"}}}`,
		has: []string{"# token-hmac-secret-file = token-secret"}, lost: []string{"client.token.audience_regex: ", "client.token.hmac_secret_key: token-hmac-secret-file is a comment"}, advice: []string{"remove the # if they may"}},
	{name: "audience that sluice.conf cannot express", config: `{"client": {"token": {"hmac_secret_key": "` + secret + `", "audience": "a\nb"}}}`,
		has: []string{"# token-hmac-secret-file = token-secret"}, lost: []string{"client.token.audience: it has a character"}, advice: []string{"client.token.audience could not be carried over"}},
	{name: "user in another claim", config: `{"client": {"token": {"jwks_public_endpoint": "https://id.example.com/keys", "user_id_claim": "uid"}}}`,
		has: []string{"# jwks-url = https://id.example.com/keys"}, lost: []string{"client.token.jwks_public_endpoint: ", "client.token.user_id_claim: "}},
	{name: "key set by a token", config: `{"client": {"token": {"jwks_public_endpoint": "https://{{host}}/keys", "issuer": "x"}}}`,
		hasNot: []string{"jwks-url"}, lost: []string{"client.token.jwks_public_endpoint: a URL with parts from the token", "client.token.issuer: "}},
	{name: "keys of subscriptions", config: `{"client": {"token": {"hmac_secret_key": "` + secret + `"}, "subscription_token": {"enabled": true, "hmac_secret_key": "` + secret + `2"}}}`,
		hasNot: []string{secret + "2"}, lost: []string{"client.subscription_token.enabled: sluice has the same keys"}},
	{name: "the same keys of subscriptions", config: `{"client": {"token": {"hmac_secret_key": "` + secret + `"}, "subscription_token": {"enabled": true, "hmac_secret_key": "` + secret + `"}}}`},

	{name: "hooks", config: `{"client": {"proxy": {"connect": {"enabled": true, "endpoint": "http://h/c", "timeout": 2000000000, "http_headers": ["Cookie", "Host", "cookie"]}}, "allow_anonymous_connect_without_token": true,
			"allowed_origins": ["*", "https://a.example.com", "null"]},
		"channel": {"proxy": {"subscribe": {"endpoint": "http://h/s", "grpc_metadata": ["x"]}, "publish": {"endpoint": "http://h/unused"}}, "without_namespace": {"subscribe_proxy_enabled": true},
			"namespaces": [{"name": "chat", "subscribe_proxy_enabled": "true", "subscribe_proxy_name": "other", "publish_proxy_name": "default"}]},
		"rpc": {"proxy": {"endpoint": "https://h/r"}, "without_namespace": {"proxy_enabled": true}, "namespaces": [{"name": "none"}]},
		"proxies": [{"name": "other", "endpoint": "http://h/o", "http": {"static_headers": [{"key": "X-Key", "value": "${CENTRIFUGO_VAR_KEY}!"}, {"key": "X-None", "value": "${CENTRIFUGO_VAR_NONE}"}]}}]}`,
		has: []string{"hooks = hooks.json", "allowed-origins = https://a.example.com",
			`namespaces.json: {"without_namespace": {"subscribe_proxy_enabled": true}, "namespaces": [{"name": "chat", "subscribe_proxy_enabled": true, "subscribe_proxy_name": "other"}]}`,
			`hooks.json: {"client": {"proxy": {"connect": {"enabled": true, "endpoint": "http://h/c", "timeout": "2s", "http_headers": ["Cookie"]}}, "allow_anonymous_connect_without_token": true}, ` +
				`"channel": {"proxy": {"subscribe": {"endpoint": "http://h/s"}}}, ` +
				`"rpc": {"without_namespace": {"proxy_enabled": true}, "namespaces": [{"name": "none"}], "proxy": {"endpoint": "https://h/r"}}, ` +
				`"proxies": [{"name": "other", "endpoint": "http://h/o", "http": {"static_headers": {"X-Key": "variable!"}}}]}`},
		lost: []string{`client.proxy.connect.http_headers: not all of it: "Host" is a header of the call itself`, "proxies[0].http.static_headers[1]: the variable CENTRIFUGO_VAR_NONE is not",
			"client.allowed_origins: not: * null"},
		advice: []string{"CVE-2026-71485", `"*" is left out`}},
	{name: "gRPC", config: `{"client": {"proxy": {"connect": {"enabled": true, "endpoint": "grpc://h:1"}}, "allow_anonymous_connect_without_token": true},
		"channel": {"proxy": {"subscribe": {"endpoint": "h:1"}}, "namespaces": [
			{"name": "chat", "subscribe_proxy_enabled": true, "allow_subscribe_for_client": true, "presence": true},
			{"name": "news", "allow_subscribe_for_client": true, "allow_subscribe_for_anonymous": true},
			{"name": "flow", "allow_subscribe_for_client": true, "subscribe_stream_proxy_enabled": true},
			{"name": "lost", "publish_proxy_enabled": true, "publish_proxy_name": "nowhere", "allow_publish_for_subscriber": true}]}}`,
		has: []string{`namespaces.json: {"namespaces": [{"name": "chat", "presence": true}, {"name": "news", "allow_subscribe_for_client": true}, {"name": "flow"}, {"name": "lost"}]}`},
		lost: []string{"client.proxy.connect.enabled: a gRPC endpoint is not supported", "channel.proxy.subscribe.endpoint: it is not an http:// or https:// URL",
			"channel.namespaces[0].subscribe_proxy_enabled: channel.proxy.subscribe: it is not", "channel.namespaces[0].allow_subscribe_for_client: ",
			"channel.namespaces[1].allow_subscribe_for_anonymous: ", "channel.namespaces[2].subscribe_stream_proxy_enabled: ", "channel.namespaces[3].publish_proxy_name: there is no such proxy"},
		advice: []string{"client.proxy.connect: a gRPC endpoint", `channel.namespaces[0].subscribe_proxy_enabled ("chat")`}},
	{name: "names that others have and typing errors", config: `{"channel": {"namespaces": [{"name": "chat", "presence": true}, {"name": "chat"}]}, "proxies": [{"name": "aa", "endpoint": "http://h/1"}, {"name": "aa", "endpoint": "http://h/2"}, {"name": "?", "endpoint": "http://h/3"}],
		"rpc": {"namespaces": [{"name": "x", "proxy_enabled": true}, {"name": "get", "proxy_enabled": true, "proxy_name": "aa", "typo": 1}, {"name": "get"}, {"name": "put", "proxy_enabled": true, "proxy_name": "?"}]}}`,
		has:  []string{`namespaces.json: {"namespaces": [{"name": "chat", "presence": true}]}`, `hooks.json: {"rpc": {"namespaces": [{"name": "get", "proxy_enabled": true, "proxy_name": "aa"}, {"name": "put"}]}, "proxies": [{"name": "aa", "endpoint": "http://h/1"}]}`},
		lost: []string{`channel.namespaces[1].name: another namespace is called "chat"`, "rpc.namespaces[0].name: its name is", "rpc.namespaces[1].typo: not a key", "rpc.namespaces[2].name: its name is", "rpc.namespaces[3].proxy_enabled: its proxy cannot", "proxies[1].name: another proxy", "proxies[2].name: a name must"}},
	{name: "CA of clients that cannot be read", config: `{"http_server": {"tls": {"enabled": true, "cert_pem": "/c", "key_pem": "/k", "client_ca_pem": ["x"]}}}`,
		has: []string{"listen = 127.0.0.1:8000"}, hasNot: []string{"tls-"}, lost: []string{"http_server.tls.client_ca_pem: "}},
	{name: "headers of both kinds", config: `{"client": {"proxy": {"connect": {"enabled": true, "endpoint": "http://h", "http_headers": ["X-User"], "emulated_headers": ["x-user"], "http": {"static_headers": {"X-USER": "a"}}}}}}`,
		advice: []string{"X-USER is a static header", "x-user is in http_headers and in emulated_headers"}},
	{name: "status transforms", config: `{"client": {"proxy": {"connect": {"enabled": true, "endpoint": "http://h", "http": {"status_to_code_transforms": [
			{"status_code": 200, "to_error": {"code": 400}}, {"status_code": 403, "to_disconnect": {"code": 4500, "reason": "no"}}, {"status_code": 404}]}}}}}`,
		has:  []string{`hooks.json: {"client": {"proxy": {"connect": {"enabled": true, "endpoint": "http://h", "http": {"status_to_code_transforms": [{"status_code": 403, "to_disconnect": {"code": 4500, "reason": "no"}}]}}}}}`},
		lost: []string{"client.proxy.connect.http.status_to_code_transforms[0].status_code: 200", "client.proxy.connect.http.status_to_code_transforms[2].status_code: "}},

	{name: "anonymous tokens", config: `{"channel": {"without_namespace": {"allow_subscribe_for_client": true, "allow_subscribe_for_anonymous": true}}}`,
		has: []string{`namespaces.json: {"without_namespace": {"allow_subscribe_for_client": true}, "namespaces": []}`}, lost: []string{"channel.without_namespace.allow_subscribe_for_anonymous: in sluice"}},
	{name: "anonymous clients", config: `{"client": {"allow_anonymous_connect_without_token": true}, "channel": {"without_namespace": {"allow_subscribe_for_client": true, "allow_subscribe_for_anonymous": true}}}`,
		has: []string{`namespaces.json: {"without_namespace": {"allow_subscribe_for_client": true, "allow_subscribe_for_anonymous": true}, "namespaces": []}`}},
	{name: "options without others", config: `{"channel": {"namespaces": [{"name": "chat", "history_size": "10", "force_recovery": true, "channel_regex": "^a$", "map": {"mode": ""}, "auto_cache_recover": true}, {"name": "x"}, {"name": "bad", "channel_regex": "("}]}}`,
		has:  []string{`namespaces.json: {"namespaces": [{"name": "chat", "channel_regex": "^a$"}]}`},
		lost: []string{"channel.namespaces[0].auto_cache_recover: sluice recovers only", "channel.namespaces[1].name: namespaces[0]: name:", `channel.namespaces[2].channel_regex: namespace "bad": channel_regex:`}},
	{name: "personal channels", config: `{"client": {"subscribe_to_user_personal_channel": {"enabled": true, "personal_channel_namespace": "me", "single_connection": true}}, "channel": {"namespaces": [{"name": "me", "presence": true}]}}`,
		has: []string{`namespaces.json: {"namespaces": [{"name": "me", "presence": true}], "client": {"subscribe_to_user_personal_channel": {"enabled": true, "personal_channel_namespace": "me", "single_connection": true}}}`}},
	{name: "personal channels without their namespace", config: `{"client": {"subscribe_to_user_personal_channel": {"enabled": true, "personal_channel_namespace": "me"}}}`,
		has: []string{`namespaces.json: {"namespaces": []}`}, lost: []string{"client.subscribe_to_user_personal_channel.enabled: client.subscribe_to_user_personal_channel: personal_channel_namespace: there is no"}},

	{name: "settings", config: `{"CLIENT": {"Ping_Interval": "30s", "pong_timeout": 9000000000, "connection_limit": 1000, "channel_limit": 2000, "stale_close_delay": "10s", "concurrency": 8},
		"websocket": {"message_size_limit": 1000000, "compression": true, "compression_min_size": 200}, "shutdown": {"timeout": "5s"}, "log": {"level": "none", "file": "x"}, "node": {"name": "n # 1"}}`,
		has:    []string{"ping-interval = 30s", "pong-timeout = 9s", "max-connections = 1000", "max-message = 1000000", "compression = shared", "compression-min = 200", "shutdown-timeout = 5s", "drain-duration = 5s", "log-level = error", `node-name = "n # 1"`},
		hasNot: []string{"channel-limit"}, lost: []string{"client.channel_limit: channel-limit: ", "client.concurrency: ", "log.file: "}},
	{name: "large messages", config: `{"client": {"queue_max_size": 300000}, "websocket": {"message_size_limit": 2000000}}`,
		has: []string{"max-message = 2000000", "channel-buffer = 4004096", "max-pending = 2065536"}},
	{name: "messages that are too large", config: `{"websocket": {"message_size_limit": 60000000}}`, hasNot: []string{"max-", "channel-buffer"}, lost: []string{"websocket.message_size_limit: max-message: "}},
	{name: "a small queue", config: `{"client": {"queue_max_size": 1000}}`, hasNot: []string{"max-"}, lost: []string{"client.queue_max_size: max-pending: "}},
	{name: "name that is not printable", config: "{\"node\": {\"name\": \"\xff\"}}", hasNot: []string{"node-name"}, lost: []string{"node.name: node-name: --node-name \"\ufffd\" must be at most 255 bytes of printable text"}},
	{name: "nodes", config: `{"broker": {"enabled": true, "type": "nats", "nats": {"url": "nats://u:p@n:4222"}}, "engine": {"type": "memory", "redis": {"address": "x"}}, "map_broker": {"type": "postgres"}}`,
		has: []string{"# nats-url = nats://u:p@n:4222"}, lost: []string{"broker.type: sluice needs NATS servers with JetStream", "map_broker.type: "}, advice: []string{"one node"}},
	{name: "consumers", config: `{"consumers": [{"name": "a", "type": "kafka", "enabled": true}, {"name": "b", "type": "postgresql"}]}`,
		lost: []string{`consumers[0].type: sluice does not consume from "kafka"`}, advice: []string{"consumers[0]: nothing is published"}},
	{name: "nothing of the right type", config: `{"client": 1, "channel": [], "rpc": "x", "proxies": {}, "http_server": true, "http_api": [{}], "engine": null, "log": {"level": {}}}`,
		has: []string{"listen = :8000", `namespaces.json: {"namespaces": []}`}},
}

func TestConversions(t *testing.T) {
	for _, x := range cases {
		t.Run(x.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "result")
			c, err := convert([]byte(x.config), dir, []string{"CENTRIFUGO_VAR_KEY=variable"}, time.Unix(1_800_000_000, 0))
			if err != nil {
				t.Fatal(err)
			}
			if err := c.write(); err != nil {
				t.Fatal(err)
			}
			if err := starts(filepath.Join(dir, confFile)); err != nil {
				t.Errorf("sluice cannot start: %v", err)
			}
			result := show(c)
			for _, line := range x.has {
				if !strings.Contains("\n"+result, "\n"+line+"\n") {
					t.Errorf("no line %q in\n%s", line, result)
				}
			}
			for _, part := range x.hasNot {
				if strings.Contains(result, part) {
					t.Errorf("%q in\n%s", part, result)
				}
			}
			var lostText strings.Builder
			c.root.leaves(func(leaf *node) {
				if leaf != c.root && leaf.fate == nil {
					t.Errorf("%s has no fate", leaf.path)
				} else if leaf != c.root && leaf.fate.verdict == lost {
					lostText.WriteString("\n" + leaf.path + ": " + leaf.fate.text)
				}
			})
			for _, text := range x.lost {
				if !strings.Contains(lostText.String(), "\n"+text) {
					t.Errorf("not lost: %q, but %s", text, lostText.String())
				}
			}
			if x.lost == nil && x.name != "nothing of the right type" && strings.Contains(lostText.String(), "\n") && !strings.Contains(x.config, "valid_until") {
				t.Errorf("lost: %s", lostText.String())
			}
			for _, part := range x.advice {
				if !strings.Contains(strings.Join(c.advice, "\n"), part) {
					t.Errorf("no advice %q in %q", part, c.advice)
				}
			}
		})
	}
}

func TestWhatCannotBeConvertedIsRefused(t *testing.T) {
	for config, want := range map[string]string{
		``:                                "it is not JSON (it ends too early)",
		`{"a": 1`:                         "it is not JSON (it ends too early)",
		"{\n\"a\": }":                     "it is not JSON (line 2:",
		"http_server:\n  port: 8000\n":    "convert YAML or TOML first",
		`[]`:                              "it is not a JSON object",
		`{} {}`:                           "there is something behind the JSON object",
		`{"a": 1, "A": 2}`:                "a is there twice",
		strings.Repeat(`{"a":`, 100):      "more than 32 levels",
		`{"namespaces": []}`:              "Centrifugo 5 or older",
		`{"engine": "redis"}`:             "engine: Centrifugo 6 has no such key at the top",
		`{"proxy_connect_endpoint": ""}`:  "proxy_connect_endpoint: Centrifugo 6 has client.proxy.connect.endpoint in its place",
		`{"redis_tls_skip_verify": true}`: "redis_tls_skip_verify: Centrifugo 6 has no such key at the top",
		`{"channel": {"namespace_boundary": "/", "private_prefix": ""}}`: `channel.namespace_boundary: sluice always uses ":" here`,
	} {
		c, err := convert([]byte(config), t.TempDir(), nil, time.Now())
		if c != nil || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", config, err, want)
		}
	}
	if _, err := convert([]byte(`{}`), "/tmp/a,b", nil, time.Now()); err == nil {
		t.Error("a directory with a comma is accepted")
	}
}

func TestFilesAreNewAndOnlyTheirOwnersCanReadThem(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	config := filepath.Join(t.TempDir(), "config.json")
	if err := os.WriteFile(config, []byte(`{"client": {"token": {"hmac_secret_key": "`+secret+`"}}, "channel": {"namespaces": [{"name": "chat"}]}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	var stdout, stderr bytes.Buffer
	if err := run(config, dir, nil, &stdout, &stderr); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(stderr.String(), "next: 'sluice check --config "+dir+"/sluice.conf'") {
		t.Errorf("%s", &stderr)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		if mode := info.Mode(); mode != 0o600 {
			t.Errorf("%s: %v", e.Name(), mode)
		}
		names = append(names, e.Name())
	}
	if got, want := strings.Join(names, " "), "api-key namespaces.json sluice.conf token-secret"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	before, err := os.ReadFile(filepath.Join(dir, "api-key"))
	if err != nil {
		t.Fatal(err)
	}
	// One file in the way is enough, and nothing changes.
	if err := os.Remove(filepath.Join(dir, confFile)); err != nil {
		t.Fatal(err)
	}
	if err := run(config, dir, nil, &stdout, &stderr); err == nil || !strings.Contains(err.Error(), "exists already") {
		t.Errorf("a second time: %v", err)
	}
	if after, err := os.ReadFile(filepath.Join(dir, "api-key")); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the key has changed: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, confFile)); err == nil {
		t.Error("a part of the result was written")
	}
}

func TestAResultThatCannotStartYetIsAnError(t *testing.T) {
	config := filepath.Join(t.TempDir(), "config.json")
	if err := os.WriteFile(config, []byte(`{"http_server": {"tls": {"enabled": true, "cert_pem": "/nowhere/cert.pem", "key_pem": "/nowhere/key.pem"}}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	var stdout, stderr bytes.Buffer
	err := run(config, filepath.Join(t.TempDir(), "result"), nil, &stdout, &stderr)
	if err == nil || !strings.Contains(err.Error(), "cannot start with them yet") || !strings.Contains(err.Error(), "/nowhere/cert.pem") {
		t.Error(err)
	}
}

func TestSecretsAreNotPrinted(t *testing.T) {
	all := map[string]any{}
	for _, k := range knownKeys(t) {
		v := k.value(true)
		for _, part := range []string{"secret", "password", "credentials_value", "http_api.key", "dsn", "nats.url", "redis.address", "static_headers", "grpc_api.key"} {
			if !strings.Contains(k.path, part) {
				continue
			}
			switch k.kind {
			case "text":
				v = "hidden-" + secret
			case "list":
				v = []any{"hidden-" + secret}
			case "map":
				v = map[string]any{"X-Key": "hidden-" + secret, "bad name": "hidden"}
			}
		}
		put(all, k.path, v)
	}
	c, _ := accounted(t, all)
	var report bytes.Buffer
	if err := c.report(&report); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(report.String(), "hidden") {
		t.Error(regexp.MustCompile(`.*hidden.*`).FindString(report.String()))
	}
	if !strings.Contains(show(c), "hidden") {
		t.Error("the configuration has no secrets")
	}
}
