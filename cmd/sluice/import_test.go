package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"sluice/gateway/access/auth"
)

// What `import` makes serves clients as the configuration says: the same hooks with the same
// headers, the same keys, and nobody where a gRPC proxy decided.
func TestAnImportedConfigurationServes(t *testing.T) {
	b := newBackend(t, func(path, _ string) string {
		if path == "/connect" {
			return `{"result": {"user": "u7"}}`
		}
		return `{}`
	})
	const secret = "0123456789abcdef0123456789abcdef"
	dir := t.TempDir()
	config, result := filepath.Join(dir, "config.json"), filepath.Join(dir, "result")
	text := fmt.Sprintf(`{"client": {"token": {"hmac_secret_key": %q}, "proxy": {"connect": {"enabled": true, "endpoint": "%s/connect", "http_headers": ["Cookie"]}}},
		"http_api": {"key": "key-of-the-backend"},
		"channel": {"proxy": {"subscribe": {"endpoint": "%[2]s/subscribe"}, "publish": {"endpoint": "grpc://127.0.0.1:1"}}, "namespaces": [
			{"name": "chat", "subscribe_proxy_enabled": true, "publish_proxy_enabled": true, "allow_publish_for_subscriber": true, "presence": true},
			{"name": "news", "allow_subscribe_for_client": true}]}}`, secret, b.URL)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	code, report, stderr := runOnce(nil, "import", "centrifugo", config, result)
	if code != 0 || !strings.Contains(report, "channel.proxy.publish (endpoint): a gRPC endpoint is not supported") {
		t.Fatalf("exit code %d\n%s%s", code, report, stderr)
	}
	s := startHere(t, "--config", filepath.Join(result, "sluice.conf")) // its addresses are overridden
	signer, err := auth.NewHMACSigner([]byte(secret))
	if err != nil {
		t.Fatal(err)
	}
	token, err := signer.Sign(auth.Claims{User: "42", ExpiresAt: time.Now().Add(time.Hour).Unix()})
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct{ who, connect, user string }{
		{"a client that the hook accepts", `{}`, "u7"}, {"a client with a token", fmt.Sprintf(`{"token": %q}`, token), "42"},
	} {
		conn, _, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(s.url, "http")+"/connection/websocket", http.Header{"Cookie": {"sid=1"}})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		for _, step := range []struct{ command, want string }{
			{`{"id": 1, "connect": ` + x.connect + `}`, `"client"`},
			{`{"id": 2, "subscribe": {"channel": "chat:1"}}`, `{"id":2,"subscribe":{`},
			{`{"id": 3, "publish": {"channel": "chat:1", "data": {}}}`, `"code":103`}, // a gRPC proxy decided
			{`{"id": 4, "subscribe": {"channel": "news:1"}}`, `{"id":4,"subscribe":{`},
			{`{"id": 5, "subscribe": {"channel": "other:1"}}`, `"code":102`},
		} {
			if err := conn.WriteMessage(websocket.TextMessage, []byte(step.command)); err != nil {
				t.Fatal(err)
			}
			if _, got, err := conn.ReadMessage(); err != nil || !strings.Contains(string(got), step.want) {
				t.Errorf("%s: %s: %q, %v; want %q", x.who, step.command, got, err, step.want)
			}
		}
		if status, answer := post(t, s, "/api/presence", "key-of-the-backend", `{"channel": "chat:1"}`); status != http.StatusOK || !strings.Contains(fmt.Sprint(answer), "user:"+x.user) {
			t.Errorf("%s: presence is %d, %v", x.who, status, answer)
		}
	}
	b.want(t, "/connect sid=1", "/subscribe ", "/subscribe ")
}
