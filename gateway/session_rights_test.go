package gateway

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"sluice/gateway/access"
	"sluice/gateway/access/auth"

	"github.com/golang-jwt/jwt/v5"
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
				c.does(string(cmd))
				op, p, err := c.next()
				if err != nil {
					t.Fatal(err)
				}
				return op == 1 && strings.HasPrefix(p, `{"id":2,"subscribe"`)
			},
			"raw": func() bool {
				c := connect(t, s)
				c.write(upgradeTo(rawTarget("/ws/", test.channel, test.token, test.subscription)))
				return c.status(t) == 101
			},
			"event stream": func() bool {
				c := connect(t, s)
				c.write("GET " + rawTarget("/sse/", test.channel, test.token, test.subscription) + " HTTP/1.1\r\nHost: localhost\r\n\r\n")
				return c.status(t) == 200
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

// status reads an HTTP answer's status line.
func (c *client) status(t testing.TB) (status int) {
	t.Helper()
	c.patience()
	line, err := c.in.ReadString('\n')
	if _, scanned := fmt.Sscanf(line, "HTTP/1.1 %d", &status); err != nil || scanned != nil {
		t.Fatalf("no status line: %q, %v", line, err)
	}
	return status
}

func TestRightsToPublishAndToLook(t *testing.T) {
	t.Parallel()
	s := start(t, guarded(t, rightsFile))
	c := member(t, s, tokens(t, auth.Claims{User: "42", Info: json.RawMessage(`{"name":"x"}`)}))
	denied := func(command, name string, code int, text string) {
		t.Helper()
		c.does(fmt.Sprintf(`{"id":9,%q:{"channel":%q,"data":1}}`, command, name))
		c.wantTold(command+" "+name, fmt.Sprintf(`{"id":9,"error":{"code":%d,"message":%q}}`, code, text))
	}
	denied("publish", "users:x", 103, "permission denied") // only subscribers may
	c.joins("users:x")
	c.does(`{"id":3,"publish":{"channel":"users:x","data":1}}`)
	c.wantTold("now it may", `{"id":3,"publish":{}}`)
	c.wantTold("with who it is", `{"push":{"channel":"users:x","pub":{"data":1,"info":{"user":"42","client":"ID","conn_info":{"name":"x"}},"offset":1}}}`)
	c.joins("all:x")
	denied("publish", "all:x", 103, "permission denied")
	denied("publish", "unknown:x", 102, "unknown channel")
	denied("presence", "look:x", 103, "permission denied")
	c.joins("look:x")
	c.does(`{"id":4,"presence_stats":{"channel":"look:x"}}`)
	c.wantTold("a subscriber may look", `{"id":4,"presence_stats":{"num_clients":1,"num_users":1}}`)
	denied("presence", "all:x", 108, "not available") // for anybody
	denied("presence_stats", "all:x", 108, "not available")
	denied("history", "all:x", 108, "not available")
	c.does(`{"id":5,"history":{"channel":"look:other","limit":-1}}`)
	c.wantTold("the history of a channel that is not subscribed to", `{"id":5,"history":{"publications":[],"epoch":"E","offset":0}}`)
	c.does(`{"id":6,"history":{"channel":"look:x","limit":1,"since":{"offset":0,"epoch":"other"}}}`)
	c.wantTold("a place of another order", `{"id":6,"error":{"code":112,"message":"unrecoverable position"}}`)
}

// Who may look at everything is told where there is nothing to look at.
func TestWhatIsNotKeptIsNotAvailable(t *testing.T) {
	t.Parallel()
	cfg := guarded(t, rightsFile)
	cfg.Insecure = true
	s := start(t, cfg)
	c := member(t, s, "")
	for _, command := range []string{"presence", "presence_stats", "history"} {
		c.does(fmt.Sprintf(`{"id":2,%q:{"channel":"all:x"}}`, command))
		c.wantTold(command, `{"id":2,"error":{"code":108,"message":"not available"}}`)
	}
}

// Who may do everything has still no channel of a namespace that is not in the file.
func TestInsecureKnowsTheNamespaces(t *testing.T) {
	t.Parallel()
	cfg := guarded(t, rightsFile)
	cfg.Insecure = true
	s := start(t, cfg)
	c := member(t, s, "")
	c.joins("shut:x")
	for _, command := range []string{"subscribe", "publish", "presence", "history"} {
		c.does(fmt.Sprintf(`{"id":2,%q:{"channel":"unknown:x","data":1}}`, command))
		c.wantTold(command, `{"id":2,"error":{"code":102,"message":"unknown channel"}}`)
	}
	s.wantAPI("publish", `{"channel":"unknown:x","data":1}`, `{"error":{"code":102,"message":"unknown channel"}}`)
	raw := connect(t, s)
	raw.write(upgradeTo("/ws/unknown:x"))
	raw.wantStatus("a raw client", 404)
}

// Raw clients publish only where a namespace says so, and their token lets them.
func TestRawPublishingNeedsANamespaceThatAllowsIt(t *testing.T) {
	t.Parallel()
	cfg := guarded(t, rightsFile)
	cfg.Raw = RawPublish
	s := start(t, cfg)
	user := tokens(t, auth.Claims{User: "42"})
	c := dial(t, s, "/ws/users:x?token="+user)
	c.send(text("hello"))
	c.wantText("it may, and the client protocol's subscribers may", "hello")
	for _, name := range []string{"all:x", "clients:x"} {
		c = dial(t, s, "/ws/"+name+"?token="+user)
		c.send(text("hello"))
		c.wantClose("it may only listen to "+name, 1008)
	}
	keysOnly := start(t, guarded(t, ""))
	c = dial(t, keysOnly, "/ws/"+url.PathEscape("any:x")+"?token="+tokens(t, auth.Claims{User: "42", Channel: "any:x"}))
	c.send(text("hello"))
	c.wantClose("with keys alone nobody publishes", 1008)
}

func TestTokensOfRawClients(t *testing.T) {
	t.Parallel()
	s := start(t, guarded(t, rightsFile))
	for why, test := range map[string]struct {
		token  string
		status int
	}{
		"forged":          {tokens(t, auth.Claims{User: "42"}) + "x", 401},
		"nonsense":        {"nonsense", 401},
		"expired":         {tokens(t, auth.Claims{User: "42", ExpiresAt: time.Now().Unix() - 5}), 401},
		"another channel": {tokens(t, auth.Claims{User: "42", Channel: "all:y"}), 403},
	} {
		c := connect(t, s)
		c.write(upgradeTo("/ws/all:x?token=" + test.token))
		if got := c.status(t); got != test.status {
			t.Errorf("%s: status %d, want %d", why, got, test.status)
		}
	}
	open := connect(t, start(t, Config{}))
	open.write(upgradeTo("/ws/x?token=" + tokens(t, auth.Claims{User: "42"})))
	open.wantStatus("there is no key for it", 401)

	soon := tokens(t, auth.Claims{User: "42", ExpiresAt: time.Now().Unix() + 2})
	c := dial(t, s, "/ws/all:x?token="+soon)
	begun := time.Now()
	c.wantClose("raw clients end with their token", 3005)
	if took := time.Since(begun); took > 8*time.Second {
		t.Errorf("it took %v", took)
	}
	s.wantClosed(reasonExpired, 1)
}

func TestTokensOfSessions(t *testing.T) {
	t.Parallel()
	s := start(t, guarded(t, rightsFile))
	c := dial(t, s, pathClient)
	c.does(`{"id":1,"connect":{"token":"` + tokens(t, auth.Claims{User: "42", ExpiresAt: time.Now().Unix() - 1}) + `"}}`)
	c.wantTold("a library fetches a fresh one now", `{"id":1,"error":{"code":109,"message":"token expired"}}`)
	if reply := c.connects(tokens(t, auth.Claims{User: "42", ExpiresAt: time.Now().Unix() + 100})); !strings.Contains(reply, `"expires":true,"ttl":`) {
		t.Errorf("connect: got %s", reply)
	}
	c.does(`{"id":3,"refresh":{"token":"` + tokens(t, auth.Claims{User: "42", ExpiresAt: time.Now().Unix() - 1}) + `"}}`)
	c.wantTold("refresh with an expired one", `{"id":3,"error":{"code":109,"message":"token expired"}}`)
	c.does(`{"id":3,"refresh":{"token":"` + tokens(t, auth.Claims{User: "42"}) + `"}}`)
	c.wantTold("refresh with one that does not", `{"id":3,"refresh":{"client":"ID","version":"sluice"}}`)
	c.does(`{"id":4,"refresh":{"token":"` + tokens(t, auth.Claims{User: "43"}) + `"}}`)
	c.wantClose("somebody else's", 3500)

	for why, token := range map[string]string{
		"forged":               tokens(t, auth.Claims{User: "42"}) + "x",
		"one for a channel":    tokens(t, auth.Claims{User: "42", Channel: "all:x"}),
		"one of nobody's keys": "eyJhbGciOiJSUzI1NiJ9.e30.AAAA",
	} {
		c := dial(t, s, pathClient)
		c.does(`{"id":1,"connect":{"token":"` + token + `"}}`)
		c.wantClose(why, 3500)
	}
	// What is wrong with a subscription's token costs the subscription. One that is good, but
	// somebody else's, is no mistake of a backend.
	c = member(t, s, tokens(t, auth.Claims{User: "42"}))
	c.joins("shut:y", `"token":"`+tokens(t, auth.Claims{User: "42", Channel: "shut:y"})+`"`)
	denied := `{"id":3,"error":{"code":103,"message":"permission denied"}}`
	for why, token := range map[string]string{
		"malformed":            "x",
		"forged":               tokens(t, auth.Claims{User: "42", Channel: "shut:x"}) + "x",
		"one for connections":  tokens(t, auth.Claims{User: "42"}),
		"one of nobody's keys": "eyJhbGciOiJSUzI1NiJ9.e30.AAAA",
	} {
		c.does(`{"id":3,"subscribe":{"channel":"shut:x","token":"` + token + `"}}`)
		c.wantTold("subscribe: "+why, denied)
		c.does(`{"id":3,"sub_refresh":{"channel":"shut:y","token":"` + token + `"}}`)
		c.wantTold("sub_refresh: "+why, denied)
	}
	c.joins("shut:x", `"token":"`+tokens(t, auth.Claims{User: "42", Channel: "shut:x"})+`"`)
	for why, sub := range map[string]auth.Claims{
		"another user's":    {User: "43", Channel: "shut:x"},
		"another channel's": {User: "42", Channel: "shut:y"},
		"another client's":  {User: "42", Channel: "shut:x", Client: "c"},
	} {
		c := member(t, s, tokens(t, auth.Claims{User: "42"}))
		c.does(`{"id":2,"subscribe":{"channel":"shut:x","token":"` + tokens(t, sub) + `"}}`)
		c.wantClose(why, 3500)
	}
}

// A subscription's token that expires ends the subscription, not the connection; and the
// library, which is told to subscribe again, gets a fresh one.
func TestSubscriptionsExpire(t *testing.T) {
	t.Parallel()
	s := start(t, guarded(t, rightsFile))
	c := member(t, s, tokens(t, auth.Claims{User: "42"}))
	token := func(in int64) string {
		return `"token":"` + tokens(t, auth.Claims{User: "42", Channel: "shut:x", ExpiresAt: time.Now().Unix() + in}) + `"`
	}
	if reply := c.joins("shut:x", token(2)); !strings.Contains(reply, `"expires":true,"ttl":`) {
		t.Errorf("subscribe: got %s", reply)
	}
	c.does(`{"id":3,"sub_refresh":{"channel":"shut:x",` + token(1) + `}}`)
	if reply := c.told("sub_refresh"); !strings.Contains(reply, `{"id":3,"sub_refresh":{"expires":true`) {
		t.Errorf("sub_refresh: got %s", reply)
	}
	s.do(func(l *loop) { // as if its grace were over
		for _, c := range l.conns {
			for _, d := range c.session().details {
				d.expireAt -= refreshSeconds + 5
			}
			l.wakeAt(c, 0)
		}
	})
	s.pass(1)
	c.wantTold("the subscription ends", `{"push":{"channel":"shut:x","unsubscribe":{"code":2501,"reason":"subscription expired"}}}`)
	c.joins("shut:x", token(100))
}

// Asymmetric signatures are not verified on the loop: the commands behind wait, and are
// done in their order when the answer is there.
func TestDearTokensLetTheCommandsBehindWait(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	private, _ := x509.MarshalPKCS8PrivateKey(key)         // cannot fail for this curve
	public, _ := x509.MarshalPKIXPublicKey(&key.PublicKey) // likewise
	v, err := auth.New(t.Context(), auth.Options{PublicKeys: [][]byte{pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.Close)
	cfg := guarded(t, rightsFile)
	cfg.Tokens = v
	s := start(t, cfg)
	signer, err := auth.NewSigner(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), "")
	if err != nil {
		t.Fatal(err)
	}
	sign := func(c auth.Claims) string {
		token, err := signer.Sign(c)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	token, sub := sign(auth.Claims{User: "42"}), sign(auth.Claims{User: "42", Channel: "shut:x"})
	for range 20 {
		c := dial(t, s, pathClient)
		c.send(text(`{"id":1,"connect":{"token":"`+token+`"}}`+"\n"+`{"id":2,"subscribe":{"channel":"shut:x","token":"`+sub+`"}}`+"\n"+`{"id":3,"ping":{}}`),
			text(`{"id":4,"ping":{}}`))
		var got []string
		for range 4 {
			got = append(got, constant(c.told("the replies")))
		}
		want := []string{`{"id":1,"connect":{"client":"ID","version":"sluice","ping":25,"pong":true}}`, `{"id":2,"subscribe":{}}`, `{"id":3,"ping":{}}`, `{"id":4,"ping":{}}`}
		if !slices.Equal(got, want) {
			t.Fatalf("got %q", got)
		}
		if c := dial(t, s, "/ws/shut:x?token="+sub); c == nil {
			t.Fatal("a raw client with the same")
		}
		c.send(text(`{"id":5,"refresh":{"token":"` + token + `"}}`)) // and goes away while it is verified
		c.vanish()
	}
	forged := connect(t, s)
	forged.write(upgradeTo("/ws/shut:x?token=" + sub[:len(sub)-4] + "AAAA"))
	if status := forged.status(t); status != 401 {
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
			c := dial(t, s, pathClient)
			c.does(`{"id":1,"connect":{"token":"` + token + `"}}`)
			c.wantClose("connect", 3500)
		}
	}
	commands := func(command string) func(s *server) {
		return func(s *server) {
			c := member(t, s, tokens(t, auth.Claims{User: "42"}))
			c.does(command)
			c.next() // an error, or the end
		}
	}
	asks := func(head string) func(s *server) {
		return func(s *server) {
			c := connect(t, s)
			c.write(head)
			c.wantStatus("raw", 401)
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
		`claim \"exp\" must be a time in Unix seconds`:              {asks(upgradeTo("/ws/all:x?token=" + signed(t, testSecret, jwt.MapClaims{"exp": "soon"}))), ""},
		`longer than 8 KiB`:                                         {connects(strings.Repeat("a", 9000)), "aaaaaaaaa"},
		`not signed (alg is none)`:                                  {asks("GET /sse/all:x?token=eyJhbGciOiJub25lIn0.e30. HTTP/1.1\r\nHost: localhost\r\n\r\n"), "eyJhbGciOiJub25lIn0"},
		`it names a channel that is malformed or in an unknown nam`: {connects(tokens(t, auth.Claims{Channels: []string{"unknown:x"}})), ""},
	} {
		var log lockedBuffer
		cfg := guarded(t, rightsFile)
		cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
		s := start(t, cfg)
		test.do(s)
		waitFor(t, why, func() bool { return strings.Contains(log.String(), "token rejected") })
		text := log.String()
		if !strings.Contains(text, `why="`+why) || test.token != "" && strings.Contains(text, test.token) {
			t.Errorf("want %s, and no token:\n%s", why, text)
		}
	}
	// One that was good once, on both ways; it is no connection's end.
	var expired lockedBuffer
	old := signed(t, testSecret, jwt.MapClaims{"sub": "42", "exp": 1})
	cfg := guarded(t, rightsFile)
	cfg.Logger = slog.New(slog.NewTextHandler(&expired, nil))
	aged := start(t, cfg)
	asks(upgradeTo("/ws/all:x?token=" + old))(aged)
	c := dial(t, aged, pathClient)
	c.does(`{"id":1,"connect":{"token":"` + old + `"}}`)
	waitFor(t, "the records", func() bool { return strings.Count(expired.String(), `why="`+auth.ErrExpired.Error()) == 2 })
	// A refresh with somebody else's, and a node without keys.
	var log lockedBuffer
	logger := slog.New(slog.NewTextHandler(&log, nil))
	cfg = guarded(t, rightsFile)
	cfg.Logger = logger
	commands(`{"id":2,"refresh":{"token":"` + user + `"}}`)(start(t, cfg))
	keyless := start(t, Config{Logger: logger})
	connects(user)(keyless)
	asks(upgradeTo("/ws/x?token=" + user))(keyless)
	waitFor(t, "the records", func() bool { return strings.Count(log.String(), "token rejected") == 3 })
	if text := log.String(); strings.Count(text, access.ErrNoKey.Error()) != 2 || !strings.Contains(text, "another user") {
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
		c.joins("users:x")
		c.does(`{"id":3,"publish":{"channel":"users:x","data":1}}`)
		c.wantTold("published", `{"id":3,"publish":{}}`)
		if got, want := c.told("its own"), fmt.Sprintf(`"user":"%v"`, sub); !strings.Contains(got, want) {
			t.Errorf("got %s, want %s", got, want)
		}
		c.joins("shut:x", `"token":"`+signed(t, testSecret, jwt.MapClaims{"sub": sub, "channel": "shut:x"})+`"`)
		dial(t, s, "/ws/users:x?token="+token)
		c.vanish()
	}
	s.wantAPI("disconnect", `{"user":"42"}`, `{"result":{}}`)
}

// While a secret is replaced, tokens of the old and of the new one are good.
func TestTokensOfTheOldAndOfTheNewSecretAreGood(t *testing.T) {
	t.Parallel()
	old := strings.Repeat("o", 32)
	v, err := auth.New(t.Context(), auth.Options{HMACSecrets: [][]byte{[]byte(testSecret), []byte(old)}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.Close)
	cfg := guarded(t, rightsFile)
	cfg.Tokens = v
	s := start(t, cfg)
	for _, secret := range []string{testSecret, old} {
		token := signed(t, secret, jwt.MapClaims{"sub": "42"})
		member(t, s, token).joins("users:x")
		dial(t, s, "/ws/users:x?token="+token)
	}
	c := dial(t, s, pathClient)
	c.does(`{"id":1,"connect":{"token":"` + signed(t, strings.Repeat("n", 32), jwt.MapClaims{"sub": "42"}) + `"}}`)
	c.wantClose("a third secret's", 3500)
}

// A canary in the token is in no record of the log, at any level.
func TestTokensAreNotLogged(t *testing.T) {
	t.Parallel()
	var log lockedBuffer
	cfg := guarded(t, rightsFile)
	cfg.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	s := start(t, cfg)
	canary := tokens(t, auth.Claims{User: "42", Audience: "canary"})
	for _, token := range []string{canary, canary + "x"} {
		for _, path := range []string{"/ws/users:x", "/sse/users:x", "/nothing"} {
			c := connect(t, s)
			c.write(upgradeTo(path + "?token=" + token))
			c.status(t)
			c = connect(t, s)
			c.write("GET " + path + "?token=" + token + " HTTP/1.1\r\nHost: localhost\r\nOrigin: http://foreign\r\n\r\n")
			c.status(t)
		}
		c := dial(t, s, pathClient)
		c.does(`{"id":1,"connect":{"token":"` + token + `"}}`)
		c.next() // whatever it is
		c = dial(t, s, pathUniClient+"?cf_connect="+url.QueryEscape(`{"token":"`+token+`"}`))
		c.next() // whatever it is
	}
	s.quiet()
	if text := log.String(); strings.Contains(text, canary[20:]) || len(text) == 0 {
		t.Errorf("the log holds a token, or nothing:\n%s", text)
	}
}
