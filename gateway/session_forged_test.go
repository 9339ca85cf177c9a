package gateway

import (
	"encoding/json"
	"net/url"
	"os"
	"strings"
	"testing"

	"sluice/gateway/access/auth"

	"github.com/centrifugal/protocol"
)

// The table of forged tokens of package auth goes over sockets, along every path that takes
// a token: whatever a path does with one before it is verified, none of them gets in.
func TestForgedTokensAreRefusedOnEveryPath(t *testing.T) {
	t.Parallel()
	body, err := os.ReadFile("access/auth/testdata/forged.json")
	if err != nil {
		t.Fatal(err)
	}
	var table struct {
		Secret     string            `json:"secret"`
		PublicKeys []string          `json:"public_keys"`
		Tokens     map[string]string `json:"tokens"`
	}
	if err := json.Unmarshal(body, &table); err != nil || len(table.Tokens) < 60 {
		t.Fatalf("%d tokens, %v", len(table.Tokens), err)
	}
	o := auth.Options{HMACSecrets: [][]byte{[]byte(table.Secret)}, Audience: "push", Issuer: "shop"}
	for _, key := range table.PublicKeys {
		o.PublicKeys = append(o.PublicKeys, []byte(key))
	}
	cfg := guarded(t, `{"without_namespace": {"allow_subscribe_for_client": true, "allow_subscribe_for_anonymous": true}}`)
	if cfg.Tokens, err = auth.New(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cfg.Tokens.Close)
	s := start(t, cfg)
	// Each way tells whether it let the token in. The channel is for everybody, but a bad
	// token is worse than none.
	ways := map[string]func(token string) bool{
		"connect": func(token string) bool {
			cmd, _ := json.Marshal(map[string]any{"id": 1, "connect": map[string]any{"token": token}}) // cannot fail
			c := dial(t, s, pathClient)
			c.does(string(cmd))
			return answered(c, `"client"`)
		},
		"connect in Protobuf": func(token string) bool {
			cmd, err := (&protocol.Command{Id: 1, Connect: &protocol.ConnectRequest{Token: token}}).MarshalVT()
			if err != nil {
				t.Fatal(err)
			}
			c := dial(t, s, pathClient+"?format=protobuf")
			c.send(bin(string(varint(len(cmd))) + string(cmd)))
			return answered(c, "sluice") // its version
		},
		"one way": func(token string) bool {
			req, _ := json.Marshal(map[string]any{"token": token}) // cannot fail
			return answered(dial(t, s, pathUniClient+"?cf_connect="+url.QueryEscape(string(req))), `"client"`)
		},
		"subscribe": func(token string) bool {
			cmd, _ := json.Marshal(map[string]any{"id": 2, "subscribe": map[string]any{"channel": "x", "token": token}}) // cannot fail
			c := member(t, s, "")
			c.does(string(cmd))
			return answered(c, `"subscribe"`)
		},
		"refresh": func(token string) bool {
			cmd, _ := json.Marshal(map[string]any{"id": 3, "refresh": map[string]any{"token": token}}) // cannot fail
			c := member(t, s, "")
			c.does(string(cmd))
			return answered(c, `"refresh"`)
		},
		"raw": func(token string) bool {
			c := connect(t, s)
			c.write(upgradeTo("/ws/x?token=" + url.QueryEscape(token)))
			return c.status(t) == 101
		},
		"event stream": func(token string) bool {
			c := connect(t, s)
			c.write("GET /sse/x?token=" + url.QueryEscape(token) + " HTTP/1.1\r\nHost: localhost\r\n\r\n")
			return c.status(t) == 200
		},
	}
	signer, err := auth.NewHMACSigner([]byte(table.Secret))
	if err != nil {
		t.Fatal(err)
	}
	claims := auth.Claims{Audience: "push", Issuer: "shop"}
	for way, letIn := range ways {
		claims := claims
		if way == "subscribe" {
			claims.Channel = "x"
		}
		good, err := signer.Sign(claims)
		if err != nil {
			t.Fatal(err)
		}
		if !letIn(good) {
			t.Errorf("%s: a good token is refused", way)
		}
		for name, token := range table.Tokens {
			if letIn(token) {
				t.Errorf("%s: %s: let in", way, name)
			}
		}
	}
}

// answered tells whether the next message has a text.
func answered(c *client, text string) bool {
	c.t.Helper()
	_, p, err := c.next()
	return err == nil && strings.Contains(p, text)
}

func varint(n int) (b []byte) {
	for ; n >= 0x80; n >>= 7 {
		b = append(b, byte(n)|0x80)
	}
	return append(b, byte(n))
}
