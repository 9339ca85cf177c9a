package gateway

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"sluice/gateway/access/auth"
	"sluice/gateway/clienttest"
	"sluice/gateway/loop"
)

const rightsFile = `{"without_namespace": {}, "namespaces": [
	{"name": "users", "allow_subscribe_for_client": true, "allow_publish_for_subscriber": true, "allow_raw_publish": true},
	{"name": "all", "allow_subscribe_for_client": true, "allow_subscribe_for_anonymous": true},
	{"name": "shut"},
	{"name": "clients", "allow_subscribe_for_client": true, "allow_publish_for_subscriber": true},
	{"name": "dialog", "allow_user_limited_channels": true},
	{"name": "look", "presence": true, "history_size": 5, "history_ttl": "60s",
	 "allow_subscribe_for_client": true, "allow_presence_for_subscriber": true, "allow_history_for_client": true}
]}`

// One table of rights holds for every protocol and path: what a token opens and what a
// namespace allows is the same for the client protocol, raw WebSocket and event streams.
func TestRightsAreTheSameInEveryProtocol(t *testing.T) {
	t.Parallel()
	s := start(t, guarded(t, rightsFile))
	user := tokens(t, auth.Claims{User: "42"})
	for _, test := range []struct {
		channel, token string
		subscription   string // a token for the channel
		may            bool
	}{
		{"users:x", "", "", false},
		{"users:x", user, "", true},
		{"all:x", "", "", true},
		{"all:x", user, "", true},
		{"shut:x", user, "", false},
		{"shut:x", user, tokens(t, auth.Claims{User: "42", Channel: "shut:x"}), true},
		{"shut:x", user, tokens(t, auth.Claims{User: "42", Channel: "shut:y"}), false},
		{"lobby", user, "", false},
		{"unknown:x", user, "", false},
		{"dialog:a#42,7", user, "", true},
		{"dialog:a#7", user, "", false},
		{"dialog:a#42", "", "", false},
		{"$all:x", user, "", false},
		{"$all:x", user, tokens(t, auth.Claims{User: "42", Channel: "$all:x"}), true},
	} {
		name := fmt.Sprintf("%s, token: %t, for the channel: %t", test.channel, test.token != "", test.subscription != "")
		for what, tries := range map[string]func() bool{
			"client": func() bool {
				c := member(t, s, test.token)
				cmd, _ := json.Marshal(map[string]any{"id": 2, "subscribe": map[string]any{"channel": test.channel, "token": test.subscription}}) // cannot fail
				c.Does(string(cmd))
				op, p, err := c.Next()
				if err != nil {
					t.Fatal(err)
				}
				return op == 1 && strings.HasPrefix(p, `{"id":2,"subscribe"`)
			},
			"raw": func() bool {
				c := clienttest.Connect(t, s)
				c.Write(clienttest.UpgradeTo(rawTarget("/ws/", test.channel, test.token, test.subscription)))
				return c.Status(t) == 101
			},
			"event stream": func() bool {
				c := clienttest.Connect(t, s)
				c.Write("GET " + rawTarget("/sse/", test.channel, test.token, test.subscription) + " HTTP/1.1\r\nHost: localhost\r\n\r\n")
				return c.Status(t) == 200
			},
		} {
			if got := tries(); got != test.may {
				t.Errorf("%s, %s: let in: %t, want %t", what, name, got, test.may)
			}
		}
	}
}

// rawTarget is the path of a raw client; the token for its channel is the one that counts.
func rawTarget(path, channel, token, subscription string) string {
	if subscription != "" {
		token = subscription
	}
	target := path + url.PathEscape(channel)
	if token != "" {
		target += "?token=" + token
	}
	return target
}

func TestRightsToPublishAndToLook(t *testing.T) {
	t.Parallel()
	s := start(t, guarded(t, rightsFile))
	c := member(t, s, tokens(t, auth.Claims{User: "42", Info: json.RawMessage(`{"name":"x"}`)}))
	denied := func(command, name string, code int, text string) {
		t.Helper()
		c.Does(fmt.Sprintf(`{"id":9,%q:{"channel":%q,"data":1}}`, command, name))
		c.WantTold(command+" "+name, fmt.Sprintf(`{"id":9,"error":{"code":%d,"message":%q}}`, code, text))
	}
	denied("publish", "users:x", 103, "permission denied") // only subscribers may
	c.Joins("users:x")
	c.Does(`{"id":3,"publish":{"channel":"users:x","data":1}}`)
	c.WantTold("now it may", `{"id":3,"publish":{}}`)
	c.WantTold("with who it is", `{"push":{"channel":"users:x","pub":{"data":1,"info":{"user":"42","client":"ID","conn_info":{"name":"x"}},"offset":1}}}`)
	c.Joins("all:x")
	denied("publish", "all:x", 103, "permission denied")
	denied("publish", "unknown:x", 102, "unknown channel")
	denied("presence", "look:x", 103, "permission denied")
	c.Joins("look:x")
	c.Does(`{"id":4,"presence_stats":{"channel":"look:x"}}`)
	c.WantTold("a subscriber may look", `{"id":4,"presence_stats":{"num_clients":1,"num_users":1}}`)
	denied("presence", "all:x", 108, "not available") // for anybody
	denied("presence_stats", "all:x", 108, "not available")
	denied("history", "all:x", 108, "not available")
	c.Does(`{"id":5,"history":{"channel":"look:other","limit":-1}}`)
	c.WantTold("the history of a channel that is not subscribed to", `{"id":5,"history":{"publications":[],"epoch":"E","offset":0}}`)
	c.Does(`{"id":6,"history":{"channel":"look:x","limit":1,"since":{"offset":0,"epoch":"other"}}}`)
	c.WantTold("a position of another order", `{"id":6,"error":{"code":112,"message":"unrecoverable position"}}`)
}

// Who may look at everything is told where there is nothing to look at.
func TestWhatIsNotKeptIsNotAvailable(t *testing.T) {
	t.Parallel()
	cfg := guarded(t, rightsFile)
	cfg.Insecure = true
	s := start(t, cfg)
	c := member(t, s, "")
	for _, command := range []string{"presence", "presence_stats", "history"} {
		c.Does(fmt.Sprintf(`{"id":2,%q:{"channel":"all:x"}}`, command))
		c.WantTold(command, `{"id":2,"error":{"code":108,"message":"not available"}}`)
	}
}

// Who may do everything has still no channel of a namespace that is not in the file.
func TestInsecureKnowsTheNamespaces(t *testing.T) {
	t.Parallel()
	cfg := guarded(t, rightsFile)
	cfg.Insecure = true
	s := start(t, cfg)
	c := member(t, s, "")
	c.Joins("shut:x")
	for _, command := range []string{"subscribe", "publish", "presence", "history"} {
		c.Does(fmt.Sprintf(`{"id":2,%q:{"channel":"unknown:x","data":1}}`, command))
		c.WantTold(command, `{"id":2,"error":{"code":102,"message":"unknown channel"}}`)
	}
	s.wantAPI("publish", `{"channel":"unknown:x","data":1}`, `{"error":{"code":102,"message":"unknown channel"}}`)
	raw := clienttest.Connect(t, s)
	raw.Write(clienttest.UpgradeTo("/ws/unknown:x"))
	raw.WantStatus("a raw client", 404)
}

// Raw clients publish only where a namespace says so, and their token lets them.
func TestRawPublishingNeedsANamespaceThatAllowsIt(t *testing.T) {
	t.Parallel()
	cfg := guarded(t, rightsFile)
	cfg.Raw = RawPublish
	s := start(t, cfg)
	user := tokens(t, auth.Claims{User: "42"})
	c := clienttest.Dial(t, s, "/ws/users:x?token="+user)
	c.Send(clienttest.Text("hello"))
	c.WantText("it may, and the client protocol's subscribers may", "hello")
	for _, name := range []string{"all:x", "clients:x"} {
		c = clienttest.Dial(t, s, "/ws/"+name+"?token="+user)
		c.Send(clienttest.Text("hello"))
		c.WantClose("it may only listen to "+name, 1008)
	}
	keysOnly := start(t, guarded(t, ""))
	c = clienttest.Dial(t, keysOnly, "/ws/"+url.PathEscape("any:x")+"?token="+tokens(t, auth.Claims{User: "42", Channel: "any:x"}))
	c.Send(clienttest.Text("hello"))
	c.WantClose("with keys alone nobody publishes", 1008)
}

// A fresh token may say something else of a client: whoever asks who is there learns that.
func TestPresenceKnowsWhatAFreshTokenSays(t *testing.T) {
	t.Parallel()
	s := start(t, guarded(t, `{"without_namespace":{"presence":true,"allow_subscribe_for_client":true,"allow_presence_for_client":true,"allow_presence_for_subscriber":true}}`))
	claims := auth.Claims{User: "42", Info: json.RawMessage(`1`), ExpiresAt: time.Now().Add(time.Hour).Unix()}
	c := member(t, s, tokens(t, claims))
	c.Joins("x")
	claims.Info = json.RawMessage(`2`)
	c.Does(fmt.Sprintf(`{"id":3,"refresh":{"token":%q}}`, tokens(t, claims)))
	c.Told("refresh")
	c.Does(`{"id":4,"presence":{"channel":"x"}}`)
	c.WantTold("presence", `{"id":4,"presence":{"presence":{"ID":{"user":"42","client":"ID","conn_info":2}}}}`)
	c.Does(fmt.Sprintf(`{"id":5,"sub_refresh":{"channel":"x","token":%q}}`, tokens(t, auth.Claims{User: "42", Channel: "x", Info: json.RawMessage(`3`)})))
	c.Told("sub_refresh")
	c.Does(`{"id":6,"presence":{"channel":"x"}}`)
	c.WantTold("presence", `{"id":6,"presence":{"presence":{"ID":{"user":"42","client":"ID","conn_info":2,"chan_info":3}}}}`)
	s.wantAPI("refresh", `{"user":"42","info":4}`, `{"result":{}}`)
	c.Told("refresh")
	c.Does(`{"id":7,"presence":{"channel":"x"}}`)
	c.WantTold("presence", `{"id":7,"presence":{"presence":{"ID":{"user":"42","client":"ID","conn_info":4,"chan_info":3}}}}`)
}

// What a namespace keeps from clients of the protocol it keeps from raw ones too: who may
// subscribe, and neither recover nor read the history, is not shown what came before.
func TestRawClientsSeeNoHistoryThatTheyMayNot(t *testing.T) {
	t.Parallel()
	s := start(t, guarded(t, `{"namespaces": [
		{"name": "now", "history_size": 5, "history_ttl": "60s", "allow_subscribe_for_client": true, "allow_subscribe_for_anonymous": true},
		{"name": "back", "history_size": 5, "history_ttl": "60s", "allow_subscribe_for_client": true, "allow_recovery": true},
		{"name": "list", "history_size": 5, "history_ttl": "60s", "allow_subscribe_for_client": true, "allow_subscribe_for_anonymous": true, "allow_history_for_subscriber": true}
	]}`))
	user := "token=" + tokens(t, auth.Claims{User: "42"})
	for _, test := range []struct {
		channel, token string
		may            bool
	}{
		{"now:x", user, false},
		{"now:x", "", false},
		{"now:x", "token=" + tokens(t, auth.Claims{User: "42", Channel: "now:x"}), false},
		{"back:x", user, true},
		{"list:x", user, true},
		{"list:x", "", false}, // the right to the history is not for anonymous ones
	} {
		receipt := s.publish(test.channel, "before")
		for _, target := range []string{
			"/ws/" + test.channel + "?format=json&history=5&" + test.token,
			"/ws/" + test.channel + "?history=5&" + test.token,
			"/ws/" + test.channel + "?format=json&since=" + receipt.Epoch.String() + ":0&" + test.token,
		} {
			c := clienttest.Connect(t, s)
			c.Write(clienttest.UpgradeTo(target))
			if got, want := c.Status(t) == 101, test.may; got != want {
				t.Errorf("%s %.5s: let in: %t, want %t", target, test.token, got, want)
			}
		}
		for _, target := range []string{"/sse/" + test.channel + "?history=5&" + test.token, "/sse/" + test.channel + "?since=" + receipt.Epoch.String() + ":0&" + test.token} {
			c := clienttest.Connect(t, s)
			c.Write("GET " + target + " HTTP/1.1\r\nHost: localhost\r\n\r\n")
			if got, want := c.Status(t) == 200, test.may; got != want {
				t.Errorf("%s %.5s: let in: %t, want %t", target, test.token, got, want)
			}
		}
	}
	clienttest.Dial(t, s, "/ws/now:x?format=json&history=0").WantPosition("it asks for none", false, 3)
	// A browser comes back with what it had, and would not come again after a refusal: it is
	// told of a gap, and shown nothing of it.
	receipt := s.publish("now:x", "before")
	c := clienttest.Connect(t, s)
	c.Write("GET /sse/now:x HTTP/1.1\r\nHost: localhost\r\nLast-Event-ID: " + receipt.Epoch.String() + ":0\r\n\r\n")
	if got := c.Status(t); got != 200 {
		t.Fatalf("it comes back: status %d", got)
	}
	s.publish("now:x", "after")
	got := c.Lines(t, "data: after")
	if strings.Contains(got, "before") || !strings.Contains(got, `"gap":true`) {
		t.Errorf("it comes back: got %q", got)
	}
}

func TestInsecureIsForThisMachineAlone(t *testing.T) {
	t.Parallel()
	for why, test := range map[string]struct {
		address string
		proxies []netip.Prefix
	}{
		"an address of all":   {"0.0.0.0:0", nil},
		"a proxy is believed": {"127.0.0.1:0", []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}},
	} {
		s, err := New(Config{Loops: 1, Insecure: true, TrustedProxies: test.proxies})
		if err != nil {
			t.Fatal(err)
		}
		l, err := net.Listen("tcp", test.address)
		if err != nil {
			t.Fatal(err)
		}
		served := make(chan error, 1)
		go func() { served <- s.Serve(l) }()
		if err := clienttest.Receive(t, "Serve to return", served); !errors.Is(err, ErrInsecure) {
			t.Errorf("%s: Serve gave %v", why, err)
		}
		if err := s.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	}
	// Where it is served no token is looked at, and no right.
	cfg := guarded(t, rightsFile)
	cfg.Insecure = true
	c := member(t, start(t, cfg), "no token")
	c.Joins("$shut:x", `"token":"nor is this"`)
	c.Does(`{"id":3,"publish":{"channel":"$shut:x","data":1}}`)
	c.WantTold("everybody may", `{"id":3,"publish":{}}`)
}

// The key is asked for on every path of the API, and without one a web page is let on none.
func TestTheAPIIsBehindTheGuard(t *testing.T) {
	t.Parallel()
	s := start(t, Config{})
	keyed, open := s.InternalHandler(Internal{APIKey: "sesame"}), s.InternalHandler(Internal{})
	for _, path := range []string{"/api", "/api/", "/api/publish", "/api//publish", "/api/publish/", "/api/openapi.json", "/API/publish", "/healthz/../api/publish", "/healthz/", "//healthz/api/info", "/api/info?x=/healthz", "/api/info%2F..%2Fhealthz"} {
		for _, method := range []string{"GET", "POST", "PUT", "HEAD", "OPTIONS", "CONNECT", "QUERY"} {
			for why, test := range map[string]struct {
				handler http.Handler
				host    string
				field   string
				value   string
				status  int
			}{
				"no key":           {keyed, "127.0.0.1:9000", "X-None", "", 401},
				"a wrong key":      {keyed, "127.0.0.1:9000", "X-API-Key", "sesam", 401},
				"an empty key":     {keyed, "127.0.0.1:9000", "Authorization", "Bearer ", 401},
				"another scheme":   {keyed, "127.0.0.1:9000", "Authorization", "Basic sesame", 401},
				"nobody's cookie":  {keyed, "127.0.0.1:9000", "Cookie", "sluice_session_9000=A", 401},
				"an empty cookie":  {keyed, "127.0.0.1:9000", "Cookie", "sluice_session_9000=", 401},
				"a page":           {open, "127.0.0.1:9000", "Origin", "http://127.0.0.1:8000", 403},
				"a page of a file": {open, "127.0.0.1:9000", "Origin", "null", 403},
				"a page by DNS":    {open, "evil.example:9000", "Origin", "http://evil.example:9000", 403},
				"an image by DNS":  {open, "evil.example:9000", "X-None", "", 403},
				"an image":         {open, "127.0.0.1:9000", "Sec-Fetch-Site", "cross-site", 403},
				"a port's image":   {open, "127.0.0.1:9000", "Sec-Fetch-Site", "same-site", 403},
			} {
				r := httptest.NewRequest(method, "http://localhost/", strings.NewReader(`{"channel":"x","data":1}`))
				u, err := url.ParseRequestURI(path)
				if err != nil {
					t.Fatal(err)
				}
				r.URL, r.Host = u, test.host
				r.Header.Set(test.field, test.value)
				w := httptest.NewRecorder()
				test.handler.ServeHTTP(w, r)
				if w.Code != test.status {
					t.Errorf("%s %s, %s: status %d, want %d", method, path, why, w.Code, test.status)
				}
			}
		}
	}
	if got := s.Sum(func(st *loop.Stats) uint64 { return st.Publications() }) + s.publisher.Accepted(); got != 0 {
		t.Errorf("%d publications got through", got)
	}
}
