package gateway

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sluice/gateway/access"
	"sluice/gateway/access/auth"
	"sluice/gateway/access/namespace"
	"sluice/gateway/clienttest"
	"sluice/gateway/loop"

	"github.com/centrifugal/protocol"
	"github.com/golang-jwt/jwt/v5"
)

const testSecret = "a secret of tests, which is long enough"

// tokens signs what tests need.
func tokens(t testing.TB, c auth.Claims) string {
	t.Helper()
	signer, err := auth.NewHMACSigner([]byte(testSecret))
	if err != nil {
		t.Fatal(err)
	}
	token, err := signer.Sign(c)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// guarded is a configuration with keys, and with namespaces as a file would have them.
func guarded(t testing.TB, file string) Config {
	t.Helper()
	cfg := Config{Tokens: clienttest.Verifier(t.Context(), t, auth.Options{HMACSecrets: [][]byte{[]byte(testSecret)}})}
	if file != "" {
		var err error
		if cfg.Namespaces, err = namespace.Parse([]byte(file)); err != nil {
			t.Fatal(err)
		}
	}
	return cfg
}

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
	cfg.Tokens = clienttest.Verifier(t.Context(), t, o)
	s := start(t, cfg)
	// Each way tells whether it let the token in. The channel is for everybody, but a bad
	// token is worse than none.
	ways := map[string]func(token string) bool{
		"connect": func(token string) bool {
			cmd, _ := json.Marshal(map[string]any{"id": 1, "connect": map[string]any{"token": token}}) // cannot fail
			c := clienttest.Dial(t, s, pathClient)
			c.Does(string(cmd))
			return answered(c, `"client"`)
		},
		"connect in Protobuf": func(token string) bool {
			cmd, err := (&protocol.Command{Id: 1, Connect: &protocol.ConnectRequest{Token: token}}).MarshalVT()
			if err != nil {
				t.Fatal(err)
			}
			c := clienttest.Dial(t, s, pathClient+"?format=protobuf")
			c.Send(clienttest.Bin(string(varint(len(cmd))) + string(cmd)))
			return answered(c, "sluice") // its version
		},
		"one way": func(token string) bool {
			req, _ := json.Marshal(map[string]any{"token": token}) // cannot fail
			return answered(clienttest.Dial(t, s, pathUniClient+"?cf_connect="+url.QueryEscape(string(req))), `"client"`)
		},
		"subscribe": func(token string) bool {
			cmd, _ := json.Marshal(map[string]any{"id": 2, "subscribe": map[string]any{"channel": "x", "token": token}}) // cannot fail
			c := member(t, s, "")
			c.Does(string(cmd))
			return answered(c, `"subscribe"`)
		},
		"refresh": func(token string) bool {
			cmd, _ := json.Marshal(map[string]any{"id": 3, "refresh": map[string]any{"token": token}}) // cannot fail
			c := member(t, s, "")
			c.Does(string(cmd))
			return answered(c, `"refresh"`)
		},
		"raw": func(token string) bool {
			c := clienttest.Connect(t, s)
			c.Write(clienttest.UpgradeTo("/ws/x?token=" + url.QueryEscape(token)))
			return c.Status(t) == 101
		},
		"event stream": func(token string) bool {
			c := clienttest.Connect(t, s)
			c.Write("GET /sse/x?token=" + url.QueryEscape(token) + " HTTP/1.1\r\nHost: localhost\r\n\r\n")
			return c.Status(t) == 200
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
func answered(c *clienttest.Client, text string) bool {
	c.T.Helper()
	_, p, err := c.Next()
	return err == nil && strings.Contains(p, text)
}

func varint(n int) (b []byte) {
	for ; n >= 0x80; n >>= 7 {
		b = append(b, byte(n)|0x80)
	}
	return append(b, byte(n))
}

func TestTokensOfRawClients(t *testing.T) {
	t.Parallel()
	cfg := guarded(t, rightsFile)
	cfg.PingInterval = -1
	s := start(t, cfg)
	for why, test := range map[string]struct {
		token  string
		status int
	}{
		"forged":          {tokens(t, auth.Claims{User: "42"}) + "x", 401},
		"nonsense":        {"nonsense", 401},
		"expired":         {tokens(t, auth.Claims{User: "42", ExpiresAt: time.Now().Unix() - 5}), 401},
		"another channel": {tokens(t, auth.Claims{User: "42", Channel: "all:y"}), 403},
	} {
		c := clienttest.Connect(t, s)
		c.Write(clienttest.UpgradeTo("/ws/all:x?token=" + test.token))
		if got := c.Status(t); got != test.status {
			t.Errorf("%s: status %d, want %d", why, got, test.status)
		}
	}
	open := clienttest.Connect(t, start(t, Config{}))
	open.Write(clienttest.UpgradeTo("/ws/x?token=" + tokens(t, auth.Claims{User: "42"})))
	open.WantStatus("there is no key for it", 401)

	s.Pass(0) // the clock stands
	now := s.Clock.Now()
	c := clienttest.Dial(t, s, "/ws/all:x?token="+tokens(t, auth.Claims{User: "42", ExpiresAt: now.Unix() + 300}))
	c.WantIdle(s, "its token is good")
	s.Pass(301)
	c.WantClose("raw clients end with their token", 3005)
	s.WantClosed(loop.ReasonExpired, 1)
}

func TestTokensOfSessions(t *testing.T) {
	t.Parallel()
	s := start(t, guarded(t, rightsFile))
	c := clienttest.Dial(t, s, pathClient)
	c.Does(`{"id":1,"connect":{"token":"` + tokens(t, auth.Claims{User: "42", ExpiresAt: time.Now().Unix() - 1}) + `"}}`)
	c.WantTold("a library fetches a fresh one now", `{"id":1,"error":{"code":109,"message":"token expired"}}`)
	if reply := c.Connects(tokens(t, auth.Claims{User: "42", ExpiresAt: time.Now().Unix() + 100})); !strings.Contains(reply, `"expires":true,"ttl":`) {
		t.Errorf("connect: got %s", reply)
	}
	c.Does(`{"id":3,"refresh":{"token":"` + tokens(t, auth.Claims{User: "42", ExpiresAt: time.Now().Unix() - 1}) + `"}}`)
	c.WantTold("refresh with an expired one", `{"id":3,"error":{"code":109,"message":"token expired"}}`)
	c.Does(`{"id":3,"refresh":{"token":"` + tokens(t, auth.Claims{User: "42"}) + `"}}`)
	c.WantTold("refresh with one that does not", `{"id":3,"refresh":{"client":"ID","version":"sluice"}}`)
	c.Does(`{"id":4,"refresh":{"token":"` + tokens(t, auth.Claims{User: "43"}) + `"}}`)
	c.WantClose("somebody else's", 3500)

	for why, token := range map[string]string{
		"forged":               tokens(t, auth.Claims{User: "42"}) + "x",
		"one for a channel":    tokens(t, auth.Claims{User: "42", Channel: "all:x"}),
		"one of nobody's keys": "eyJhbGciOiJSUzI1NiJ9.e30.AAAA",
	} {
		c := clienttest.Dial(t, s, pathClient)
		c.Does(`{"id":1,"connect":{"token":"` + token + `"}}`)
		c.WantClose(why, 3500)
	}
	// What is wrong with a subscription's token costs the subscription. One that is good, but
	// somebody else's, is no mistake of a backend.
	c = member(t, s, tokens(t, auth.Claims{User: "42"}))
	c.Joins("shut:y", `"token":"`+tokens(t, auth.Claims{User: "42", Channel: "shut:y"})+`"`)
	denied := `{"id":3,"error":{"code":103,"message":"permission denied"}}`
	for why, token := range map[string]string{
		"malformed":            "x",
		"forged":               tokens(t, auth.Claims{User: "42", Channel: "shut:x"}) + "x",
		"one for connections":  tokens(t, auth.Claims{User: "42"}),
		"one of nobody's keys": "eyJhbGciOiJSUzI1NiJ9.e30.AAAA",
	} {
		c.Does(`{"id":3,"subscribe":{"channel":"shut:x","token":"` + token + `"}}`)
		c.WantTold("subscribe: "+why, denied)
		c.Does(`{"id":3,"sub_refresh":{"channel":"shut:y","token":"` + token + `"}}`)
		c.WantTold("sub_refresh: "+why, denied)
	}
	c.Joins("shut:x", `"token":"`+tokens(t, auth.Claims{User: "42", Channel: "shut:x"})+`"`)
	for why, sub := range map[string]auth.Claims{
		"another user's":    {User: "43", Channel: "shut:x"},
		"another channel's": {User: "42", Channel: "shut:y"},
		"another client's":  {User: "42", Channel: "shut:x", Client: "c"},
	} {
		c := member(t, s, tokens(t, auth.Claims{User: "42"}))
		c.Does(`{"id":2,"subscribe":{"channel":"shut:x","token":"` + tokens(t, sub) + `"}}`)
		c.WantClose(why, 3500)
	}
}

// A subscription's token that expires ends the subscription, not the connection; and the
// library, which is told to subscribe again, gets a fresh one.
func TestSubscriptionsExpire(t *testing.T) {
	t.Parallel()
	cfg := guarded(t, rightsFile)
	cfg.PingInterval = -1
	s := start(t, cfg)
	s.Pass(0) // the clock stands
	now := s.Clock.Now()
	c := member(t, s, tokens(t, auth.Claims{User: "42"}))
	token := func(channel string, in int64) string {
		return `"token":"` + tokens(t, auth.Claims{User: "42", Channel: channel, ExpiresAt: now.Unix() + in}) + `"`
	}
	if reply := c.Joins("shut:x", token("shut:x", 2)); !strings.Contains(reply, `"expires":true,"ttl":`) {
		t.Errorf("subscribe: got %s", reply)
	}
	c.Does(`{"id":3,"sub_refresh":{"channel":"shut:x",` + token("shut:x", 300) + `}}`)
	if reply := c.Told("sub_refresh"); !strings.Contains(reply, `{"id":3,"sub_refresh":{"expires":true`) {
		t.Errorf("sub_refresh: got %s", reply)
	}
	c.Joins("shut:y", token("shut:y", 900))
	s.Pass(309)
	c.WantIdle(s, "it has ten seconds to ask for a fresh token")
	s.Pass(2)
	c.WantTold("the subscription ends", `{"push":{"channel":"shut:x","unsubscribe":{"code":2501,"reason":"subscription expired"}}}`)
	c.Joins("shut:x", token("shut:x", 900))
	s.publish("shut:y", "1")
	c.WantTold("another goes on", `{"push":{"channel":"shut:y","pub":{"data":1,"offset":1}}}`)
}

// Asymmetric signatures are not verified on the loop: the commands behind wait, and are
// done in their order when the answer is there.
func TestDearTokensLetTheCommandsBehindWait(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cfg := guarded(t, rightsFile)
	cfg.Tokens = clienttest.Verifier(t.Context(), t, auth.Options{PublicKeys: [][]byte{clienttest.PublicPEM(t, &key.PublicKey)}})
	s := start(t, cfg)
	token, sub := clienttest.SignedBy(t, key, auth.Claims{User: "42"}), clienttest.SignedBy(t, key, auth.Claims{User: "42", Channel: "shut:x"})
	for range 20 {
		c := clienttest.Dial(t, s, pathClient)
		c.Send(clienttest.Text(`{"id":1,"connect":{"token":"`+token+`"}}`+"\n"+`{"id":2,"subscribe":{"channel":"shut:x","token":"`+sub+`"}}`+"\n"+`{"id":3,"ping":{}}`),
			clienttest.Text(`{"id":4,"ping":{}}`))
		var got []string
		for range 4 {
			got = append(got, clienttest.Constant(c.Told("the replies")))
		}
		want := []string{`{"id":1,"connect":{"client":"ID","version":"sluice","ping":25,"pong":true}}`, `{"id":2,"subscribe":{}}`, `{"id":3,"ping":{}}`, `{"id":4,"ping":{}}`}
		if !slices.Equal(got, want) {
			t.Fatalf("got %q", got)
		}
		if c := clienttest.Dial(t, s, "/ws/shut:x?token="+sub); c == nil {
			t.Fatal("a raw client with the same")
		}
		c.Send(clienttest.Text(`{"id":5,"refresh":{"token":"` + token + `"}}`)) // and goes away while it is verified
		c.Vanish()
	}
	forged := clienttest.Connect(t, s)
	forged.Write(clienttest.UpgradeTo("/ws/shut:x?token=" + sub[:len(sub)-4] + "AAAA"))
	if status := forged.Status(t); status != 401 {
		t.Errorf("a forged one: status %d", status)
	}
}

// signed makes a token of any claims, as a backend's library does.
func signed(t testing.TB, secret string, claims jwt.MapClaims) string {
	t.Helper()
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString([]byte(secret))
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// The log says why a token is rejected, along every path, and names the claim; nothing of the
// token is in it.
func TestWhyATokenIsRejectedIsInTheLog(t *testing.T) {
	t.Parallel()
	connects := func(token string) func(s *server) {
		return func(s *server) {
			c := clienttest.Dial(t, s, pathClient)
			c.Does(`{"id":1,"connect":{"token":"` + token + `"}}`)
			c.WantClose("connect", 3500)
		}
	}
	commands := func(command string) func(s *server) {
		return func(s *server) {
			c := member(t, s, tokens(t, auth.Claims{User: "42"}))
			c.Does(command)
			c.Next() // an error, or the end
		}
	}
	asks := func(head string) func(s *server) {
		return func(s *server) {
			c := clienttest.Connect(t, s)
			c.Write(head)
			c.WantStatus("raw", 401)
		}
	}
	user := tokens(t, auth.Claims{User: "43"})
	channel := tokens(t, auth.Claims{User: "43", Channel: "shut:x"})
	forged := signed(t, strings.Repeat("x", 32), jwt.MapClaims{"sub": "42"})
	for why, test := range map[string]struct {
		do    func(s *server)
		token string
	}{
		`the signature is wrong`:                                    {connects(forged), forged},
		`claim \"sub\" must be a string or an integer`:              {connects(signed(t, testSecret, jwt.MapClaims{"sub": 4.5})), ""},
		`a subscription token, not a connection token`:              {connects(channel), channel},
		`not three parts separated by dots`:                         {commands(`{"id":2,"subscribe":{"channel":"shut:x","token":"nonsense"}}`), "nonsense"},
		`the token belongs to another user`:                         {commands(`{"id":2,"subscribe":{"channel":"shut:x","token":"` + channel + `"}}`), channel},
		`the token is for another channel`:                          {commands(`{"id":2,"subscribe":{"channel":"shut:y","token":"` + channel + `"}}`), channel},
		`a connection token, not a subscription token`:              {commands(`{"id":2,"subscribe":{"channel":"shut:y","token":"` + user + `"}}`), user},
		`claim \"exp\" must be a time in Unix seconds`:              {asks(clienttest.UpgradeTo("/ws/all:x?token=" + signed(t, testSecret, jwt.MapClaims{"exp": "soon"}))), ""},
		`longer than 8 KiB`:                                         {connects(strings.Repeat("a", 9000)), "aaaaaaaaa"},
		`not signed (alg is none)`:                                  {asks("GET /sse/all:x?token=eyJhbGciOiJub25lIn0.e30. HTTP/1.1\r\nHost: localhost\r\n\r\n"), "eyJhbGciOiJub25lIn0"},
		`it names a channel that is malformed or in an unknown nam`: {connects(tokens(t, auth.Claims{Channels: []string{"unknown:x"}})), ""},
	} {
		var log clienttest.Records
		cfg := guarded(t, rightsFile)
		cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
		s := start(t, cfg)
		test.do(s)
		clienttest.WaitFor(t, why, func() bool { return strings.Contains(log.Text(), "token rejected") })
		text := log.Text()
		if !strings.Contains(text, `why="`+why) || test.token != "" && strings.Contains(text, test.token) {
			t.Errorf("want %s, and no token:\n%s", why, text)
		}
	}
	// One that was good once, on both ways; it is no connection's end.
	var expired clienttest.Records
	old := signed(t, testSecret, jwt.MapClaims{"sub": "42", "exp": 1})
	cfg := guarded(t, rightsFile)
	cfg.Logger = slog.New(slog.NewTextHandler(&expired, nil))
	aged := start(t, cfg)
	asks(clienttest.UpgradeTo("/ws/all:x?token=" + old))(aged)
	c := clienttest.Dial(t, aged, pathClient)
	c.Does(`{"id":1,"connect":{"token":"` + old + `"}}`)
	clienttest.WaitFor(t, "the records", func() bool { return strings.Count(expired.Text(), `why="`+auth.ErrExpired.Error()) == 2 })
	// A refresh with somebody else's, and a node without keys.
	var log clienttest.Records
	logger := slog.New(slog.NewTextHandler(&log, nil))
	cfg = guarded(t, rightsFile)
	cfg.Logger = logger
	commands(`{"id":2,"refresh":{"token":"` + user + `"}}`)(start(t, cfg))
	keyless := start(t, Config{Logger: logger})
	connects(user)(keyless)
	asks(clienttest.UpgradeTo("/ws/x?token=" + user))(keyless)
	clienttest.WaitFor(t, "the records", func() bool { return strings.Count(log.Text(), "token rejected") == 3 })
	if text := log.Text(); strings.Count(text, access.ErrNoKey.Error()) != 2 || !strings.Contains(text, "another user") {
		t.Errorf("the log:\n%s", text)
	}
}

// A backend that numbers its users has tokens with numbers.
func TestAUserMayBeANumber(t *testing.T) {
	t.Parallel()
	s := start(t, guarded(t, rightsFile))
	large := json.Number("123456789012345678901234567890")
	for _, sub := range []any{42, large} {
		token := signed(t, testSecret, jwt.MapClaims{"sub": sub})
		c := member(t, s, token)
		c.Joins("users:x")
		c.Does(`{"id":3,"publish":{"channel":"users:x","data":1}}`)
		c.WantTold("published", `{"id":3,"publish":{}}`)
		if got, want := c.Told("its own"), fmt.Sprintf(`"user":"%v"`, sub); !strings.Contains(got, want) {
			t.Errorf("got %s, want %s", got, want)
		}
		c.Joins("shut:x", `"token":"`+signed(t, testSecret, jwt.MapClaims{"sub": sub, "channel": "shut:x"})+`"`)
		clienttest.Dial(t, s, "/ws/users:x?token="+token)
		c.Vanish()
	}
	s.wantAPI("disconnect", `{"user":"42"}`, `{"result":{}}`)
}

// While a secret is replaced, tokens of the old and of the new one are good.
func TestTokensOfTheOldAndOfTheNewSecretAreGood(t *testing.T) {
	t.Parallel()
	old := strings.Repeat("o", 32)
	cfg := guarded(t, rightsFile)
	cfg.Tokens = clienttest.Verifier(t.Context(), t, auth.Options{HMACSecrets: [][]byte{[]byte(testSecret), []byte(old)}})
	s := start(t, cfg)
	for _, secret := range []string{testSecret, old} {
		token := signed(t, secret, jwt.MapClaims{"sub": "42"})
		member(t, s, token).Joins("users:x")
		clienttest.Dial(t, s, "/ws/users:x?token="+token)
	}
	c := clienttest.Dial(t, s, pathClient)
	c.Does(`{"id":1,"connect":{"token":"` + signed(t, strings.Repeat("n", 32), jwt.MapClaims{"sub": "42"}) + `"}}`)
	c.WantClose("a third secret's", 3500)
}

// A canary in the token is in no record of the log, at any level.
func TestTokensAreNotLogged(t *testing.T) {
	t.Parallel()
	var log clienttest.Records
	cfg := guarded(t, rightsFile)
	cfg.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	s := start(t, cfg)
	canary := tokens(t, auth.Claims{User: "42", Audience: "canary"})
	for _, token := range []string{canary, canary + "x"} {
		for _, path := range []string{"/ws/users:x", "/sse/users:x", "/nothing"} {
			c := clienttest.Connect(t, s)
			c.Write(clienttest.UpgradeTo(path + "?token=" + token))
			c.Status(t)
			c = clienttest.Connect(t, s)
			c.Write("GET " + path + "?token=" + token + " HTTP/1.1\r\nHost: localhost\r\nOrigin: http://foreign\r\n\r\n")
			c.Status(t)
		}
		c := clienttest.Dial(t, s, pathClient)
		c.Does(`{"id":1,"connect":{"token":"` + token + `"}}`)
		c.Next() // whatever it is
		c = clienttest.Dial(t, s, pathUniClient+"?cf_connect="+url.QueryEscape(`{"token":"`+token+`"}`))
		c.Next() // whatever it is
	}
	s.Quiet()
	if text := log.Text(); strings.Contains(text, canary[20:]) || len(text) == 0 {
		t.Errorf("the log holds a token, or nothing:\n%s", text)
	}
}

// Nothing tells a client that is only sent to what it could do about a token: it ends, as
// browsers expect of a stream.
func TestAStreamOfAnExpiredTokenEnds(t *testing.T) {
	t.Parallel()
	s := start(t, guarded(t, ""))
	c := clienttest.Connect(t, s)
	c.Write("GET " + pathUniSSE + "?cf_connect=" + url.QueryEscape(`{"token":"`+tokens(t, auth.Claims{User: "42", ExpiresAt: 5})+`"}`) + " HTTP/1.1\r\nHost: localhost\r\n\r\n")
	if got := c.Lines(t, `data: {"disconnect":{"code":3005,"reason":"connection expired","reconnect":true}}`); strings.Contains(got, "error") {
		t.Errorf("got %q", got)
	}
}

// Who names keys that nobody has waits for a key set that does not come. Others, whose key
// is there, do not wait behind.
func TestForgedKeyNamesKeepNobodyWaiting(t *testing.T) {
	t.Parallel()
	hang := make(chan struct{})
	keySet := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-hang }))
	t.Cleanup(keySet.Close)
	t.Cleanup(func() { close(hang) })
	_, key, _ := ed25519.GenerateKey(nil) // cannot fail
	_, otherKey, _ := ed25519.GenerateKey(nil)
	ended, cancel := context.WithCancel(t.Context())
	cancel() // the set is not waited for
	v := clienttest.Verifier(ended, t, auth.Options{PublicKeys: [][]byte{clienttest.PublicPEM(t, key.Public())}, JWKSURL: keySet.URL})
	s := start(t, Config{Tokens: v})
	connectBy := func(key ed25519.PrivateKey) string {
		return clienttest.Text(`{"id":1,"connect":{"token":"` + clienttest.SignedBy(t, key, auth.Claims{User: "42"}) + `"}}`)
	}
	for range 40 {
		clienttest.Dial(t, s, pathClient).Send(connectBy(otherKey))
	}
	// A forged one is waited for two seconds; on a machine that is as late it may be answered first.
	for passed, try := false, 0; !passed; try++ {
		if try == 10 {
			t.Fatal("each time it is answered behind the forged one")
		}
		forged, honest := clienttest.Dial(t, s, pathClient), clienttest.Dial(t, s, pathClient)
		forged.Send(connectBy(otherKey))
		honest.Send(connectBy(key))
		honest.WantTold("its key is there", `{"id":1,"connect":{"client":"ID","version":"sluice","ping":25,"pong":true}}`)
		s.Quiet()
		forged.Conn.SetReadDeadline(time.Now().Add(10 * time.Millisecond)) // ignored: then the read fails otherwise
		_, err := forged.In.Peek(1)
		passed = errors.Is(err, os.ErrDeadlineExceeded)
	}
}

// A connect command whose token waits for a key holds little more than its token: not the filters
// that it asks for, which are decoded to many times their bytes.
func TestConnectThatWaitsHoldsNoFilters(t *testing.T) {
	hang := make(chan struct{})
	keySet := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-hang }))
	t.Cleanup(keySet.Close)
	t.Cleanup(func() { close(hang) })
	_, key, _ := ed25519.GenerateKey(nil) // cannot fail
	ended, cancel := context.WithCancel(t.Context())
	cancel() // the set is not waited for
	s := start(t, Config{Tokens: clienttest.Verifier(ended, t, auth.Options{JWKSURL: keySet.URL})})
	connect := clienttest.Text(`{"id":1,"connect":{"token":"` + clienttest.SignedBy(t, key, auth.Claims{User: "42"}) +
		`","subs":{"x":{"tf":{"nodes":[{}` + strings.Repeat(",{}", 20_000) + `]}}}}}`)
	const clients = 40
	before := heap()
	for range clients {
		clienttest.Dial(t, s, pathClient).Send(connect)
	}
	clienttest.WaitFor(t, "all to come", func() bool { return s.Received() == clients })
	if grown := (heap() - before) / clients; grown > 512<<10 {
		t.Errorf("each holds %d KiB; counted are %d", grown>>10, s.Held()/clients>>10)
	}
}

// A raw client's token is verified once, whichever kind it is. So a key that nobody has is
// asked for once, and the answer is that the token is wrong, as long as a key set could be
// fetched; it is not one to come back with.
func TestARawTokenWithAKeyThatNobodyHasIsWrong(t *testing.T) {
	t.Parallel()
	_, key, _ := ed25519.GenerateKey(nil) // cannot fail
	_, otherKey, _ := ed25519.GenerateKey(nil)
	var fetched atomic.Int32
	keySet := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if fetched.Add(1) == 1 {
			http.Error(w, "not yet", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintf(w, `{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"other","x":"%s"}]}`, base64.RawURLEncoding.EncodeToString(key.Public().(ed25519.PublicKey)))
	}))
	t.Cleanup(keySet.Close)
	cfg := guarded(t, rightsFile)
	cfg.Tokens = clienttest.Verifier(t.Context(), t, auth.Options{JWKSURL: keySet.URL})
	s := start(t, cfg)
	token := clienttest.SignedBy(t, otherKey, auth.Claims{User: "42", Channel: "shut:x"})
	wantAll := func(why string, want int) {
		for _, request := range []string{clienttest.UpgradeTo("/ws/shut:x?token=" + token), "GET /sse/shut:x?token=" + token + " HTTP/1.1\r\nHost: localhost\r\n\r\n"} {
			c := clienttest.Connect(t, s)
			c.Write(request)
			if status := c.Status(t); status != want {
				t.Errorf("%s: status %d, want %d", why, status, want)
			}
		}
	}
	wantAll("the key set could not be fetched", http.StatusServiceUnavailable)
	clienttest.WaitFor(t, "the key set to be fetched", func() bool { return fetched.Load() == 2 })
	c := clienttest.Connect(t, s)
	c.Write(clienttest.UpgradeTo("/ws/shut:x?token=" + token))
	c.Status(t) // either: the set may be on its way still
	for range 3 {
		wantAll("it was fetched, and the key is not in it", http.StatusUnauthorized)
	}
	if n := fetched.Load(); n != 2 {
		t.Errorf("the key set was fetched %d times", n)
	}
}
