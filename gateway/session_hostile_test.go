package gateway

import (
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sluice/gateway/access/auth"
	"sluice/gateway/api"

	"github.com/gobwas/ws"
)

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
			c := connect(t, s)
			c.write(upgradeTo(target))
			if got, want := c.status(t) == 101, test.may; got != want {
				t.Errorf("%s %.5s: let in: %t, want %t", target, test.token, got, want)
			}
		}
		for _, target := range []string{"/sse/" + test.channel + "?history=5&" + test.token, "/sse/" + test.channel + "?since=" + receipt.Epoch.String() + ":0&" + test.token} {
			c := connect(t, s)
			c.write("GET " + target + " HTTP/1.1\r\nHost: localhost\r\n\r\n")
			if got, want := c.status(t) == 200, test.may; got != want {
				t.Errorf("%s %.5s: let in: %t, want %t", target, test.token, got, want)
			}
		}
	}
	// A browser comes back with what it had, and would not come again after a refusal: it is
	// told of a gap, and shown nothing of it.
	receipt := s.publish("now:x", "before")
	c := connect(t, s)
	c.write("GET /sse/now:x HTTP/1.1\r\nHost: localhost\r\nLast-Event-ID: " + receipt.Epoch.String() + ":0\r\n\r\n")
	if got := c.status(t); got != 200 {
		t.Fatalf("it comes back: status %d", got)
	}
	s.publish("now:x", "after")
	got := c.lines(t, "data: after")
	if strings.Contains(got, "before") || !strings.Contains(got, `"gap":true`) {
		t.Errorf("it comes back: got %q", got)
	}
}

// lines reads up to a line, and gives all of them.
func (c *client) lines(t testing.TB, last string) (all string) {
	t.Helper()
	for {
		c.patience()
		line, err := c.in.ReadString('\n')
		if all += line; err != nil {
			t.Fatalf("no line %q: %v, in %q", last, err, all)
		}
		if strings.TrimSpace(line) == last {
			return all
		}
	}
}

// A text of control characters takes six bytes for each in JSON. Whoever publishes such
// must not lock others out, who would be cut off for their own reply whenever they come back.
func TestNobodyIsCutOffForWhatItAsksFor(t *testing.T) {
	t.Parallel()
	const namespaces = `{"namespaces": [
		{"name": "all", "history_size": 50, "history_ttl": "60s", "force_recovery": true, "allow_subscribe_for_client": true, "allow_history_for_client": true},
		{"name": "one", "history_size": 50, "history_ttl": "60s", "force_recovery": true, "force_recovery_mode": "cache", "allow_subscribe_for_client": true},
		{"name": "who", "presence": true, "allow_subscribe_for_client": true, "allow_presence_for_client": true}
	]}`
	s := start(t, guarded(t, namespaces))
	var epoch string
	for _, name := range []string{"all:x", "one:x"} {
		for range 3 {
			epoch = s.publish(name, strings.Repeat("\x01", 60<<10)).Epoch.String()
		}
	}
	first := s.publish("all:x", "x").Epoch.String()
	user := tokens(t, auth.Claims{User: "42"})
	c := member(t, s, user)
	if reply := c.joins("all:x", `"recover":true,"offset":0,"epoch":"`+first+`"`); strings.Contains(reply, `"recovered":true`) {
		t.Errorf("more than a reply holds was recovered: %.300s", reply)
	}
	if reply := c.joins("one:x", `"recover":true,"offset":0,"epoch":"`+epoch+`"`); strings.Contains(reply, `"recovered":true`) {
		t.Errorf("more than a reply holds was recovered: %.300s", reply)
	}
	c.does(`{"id":3,"history":{"channel":"all:x","limit":2}}`)
	c.wantTold("the first is too large for a reply", `{"id":3,"error":{"code":106,"message":"limit exceeded"}}`)
	c.does(`{"id":4,"history":{"channel":"all:x","limit":2,"reverse":true}}`)
	if reply := c.told("newest first"); !strings.HasPrefix(reply, `{"id":4,"history":{"publications":[{"data":"x","offset":4}],`) {
		t.Errorf("what fits is told: got %.300s", reply)
	}

	// Infos of tokens are for the presence what payloads are for the history.
	large := tokens(t, auth.Claims{User: "43", Info: []byte(`"` + strings.Repeat("i", 5000) + `"`)})
	for range 60 {
		member(t, s, large).joins("who:x")
	}
	c.does(`{"id":5,"presence":{"channel":"who:x"}}`)
	c.wantTold("a presence that is too large for a reply", `{"id":5,"error":{"code":106,"message":"limit exceeded"}}`)

	// What one connection's channels recover is one reply.
	var names, subs []string
	for i := range 10 {
		name := "all:s" + string(rune('0'+i))
		r := s.publish(name, strings.Repeat("m", 60<<10))
		names, subs = append(names, name), append(subs, `"`+name+`":{"recover":true,"offset":0,"epoch":"`+r.Epoch.String()+`"}`)
	}
	c = dial(t, s, pathClient)
	c.does(`{"id":1,"connect":{"token":"` + tokens(t, auth.Claims{User: "42", Channels: names}) + `","subs":{` + strings.Join(subs, ",") + `}}}`)
	if reply := c.told("connect"); !strings.Contains(reply, `"recovered":true`) || strings.Count(reply, `"was_recovering":true`) != 10 {
		t.Errorf("connect: got %d bytes, %.300s", len(reply), reply)
	}
	s.wantClosed(reasonPendingFull, 0)
}

// What says nothing costs as much to read as what says something: empty commands and the
// messages of clients that are only sent to count too.
func TestEmptyCommandsCount(t *testing.T) {
	t.Parallel()
	cfg := guarded(t, "")
	cfg.MessageRate = 10
	s := start(t, cfg)
	expired := tokens(t, auth.Claims{User: "42", ExpiresAt: 5})
	for why, test := range map[string]struct {
		path, before, frame string
		code                ws.StatusCode
	}{
		"pongs":                            {pathClient, `{"id":1,"connect":{}}`, "{}", 3013},
		"pongs before a connect":           {pathClient, "{}", "{}", 3013},
		"expired tokens":                   {pathClient, "{}", `{"id":1,"connect":{"token":"` + expired + `"}}`, 3013},
		"from a client only sent to":       {pathUniClient, "{}", "{}", 3013},
		"and its expired tokens end it so": {pathUniClient, `{"token":"` + expired + `"}`, "{}", 3005},
	} {
		c := dial(t, s, test.path)
		c.send(text(test.before), strings.Repeat(text(test.frame), 100))
		if _, code, err := c.texts(); code != test.code {
			t.Errorf("%s: code %d, %v, want %d", why, code, err, test.code)
		}
	}
}

// Nothing tells a client that is only sent to what it could do about a token: it ends, as
// browsers expect of a stream.
func TestAStreamOfAnExpiredTokenEnds(t *testing.T) {
	t.Parallel()
	s := start(t, guarded(t, ""))
	c := connect(t, s)
	c.write("GET " + pathUniSSE + "?cf_connect=" + url.QueryEscape(`{"token":"`+tokens(t, auth.Claims{User: "42", ExpiresAt: 5})+`"}`) + " HTTP/1.1\r\nHost: localhost\r\n\r\n")
	if got := c.lines(t, `data: {"disconnect":{"code":3005,"reason":"connection expired","reconnect":true}}`); strings.Contains(got, "error") {
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
	v, err := auth.New(ended, auth.Options{PublicKeys: [][]byte{pemOf(t, key.Public())}, JWKSURL: keySet.URL})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.Close)
	s := start(t, Config{Tokens: v})
	connectBy := func(key ed25519.PrivateKey) string {
		return text(`{"id":1,"connect":{"token":"` + signedBy(t, key, auth.Claims{User: "42"}) + `"}}`)
	}
	for range 60 {
		dial(t, s, pathClient).send(connectBy(otherKey))
	}
	honest := dial(t, s, pathClient)
	begun := time.Now()
	honest.send(connectBy(key))
	honest.wantTold("its key is there", `{"id":1,"connect":{"client":"ID","version":"sluice","ping":25,"pong":true}}`)
	if took := time.Since(begun); took > 1500*time.Millisecond {
		t.Errorf("it waited for %v", took)
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
	v, err := auth.New(t.Context(), auth.Options{JWKSURL: keySet.URL})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.Close)
	cfg := guarded(t, rightsFile)
	cfg.Tokens = v
	s := start(t, cfg)
	token := signedBy(t, otherKey, auth.Claims{User: "42", Channel: "shut:x"})
	wantAll := func(why string, want int) {
		for _, request := range []string{upgradeTo("/ws/shut:x?token=" + token), "GET /sse/shut:x?token=" + token + " HTTP/1.1\r\nHost: localhost\r\n\r\n"} {
			c := connect(t, s)
			c.write(request)
			if status := c.status(t); status != want {
				t.Errorf("%s: status %d, want %d", why, status, want)
			}
		}
	}
	wantAll("the key set could not be fetched", http.StatusServiceUnavailable)
	waitFor(t, "the key set to be fetched", func() bool { return fetched.Load() == 2 })
	c := connect(t, s)
	c.write(upgradeTo("/ws/shut:x?token=" + token))
	c.status(t) // either: the set may be on its way still
	for range 3 {
		wantAll("it was fetched, and the key is not in it", http.StatusUnauthorized)
	}
	if n := fetched.Load(); n != 2 {
		t.Errorf("the key set was fetched %d times", n)
	}
}

// pemOf writes a public key.
func pemOf(t testing.TB, public any) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

// signedBy signs what tests need with a private key, which it names.
func signedBy(t testing.TB, private any, c auth.Claims) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := auth.NewSigner(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), "k")
	if err != nil {
		t.Fatal(err)
	}
	token, err := signer.Sign(c)
	if err != nil {
		t.Fatal(err)
	}
	return token
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
		select {
		case err = <-served:
		case <-time.After(time.Second):
		}
		if !errors.Is(err, ErrInsecure) {
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
	c.joins("$shut:x", `"token":"nor is this"`)
	c.does(`{"id":3,"publish":{"channel":"$shut:x","data":1}}`)
	c.wantTold("everybody may", `{"id":3,"publish":{}}`)
}

// A channel's name may have slashes, and a pattern is no reason to hold all loops up.
func TestPatternsOfChannels(t *testing.T) {
	t.Parallel()
	s := start(t, Config{})
	dial(t, s, "/ws/"+url.PathEscape("a/b:c"))
	n := (*node)(s.Server)
	for pattern, want := range map[string]int{"": 1, "*": 1, "a*": 1, "a/*": 1, "a?b:c": 1, "b*": 0, `a\/b:c`: 1, "a[./]b:c": 1} {
		if got, err := n.Channels(t.Context(), pattern); len(got) != want || err != nil {
			t.Errorf("%q: got %v, %v, want %d", pattern, got, err, want)
		}
	}
	for _, pattern := range []string{"[", strings.Repeat("*", 1<<20)} {
		if got, err := n.Channels(t.Context(), pattern); !errors.Is(err, api.ErrBadRequest) {
			t.Errorf("%.10q: got %v, %v", pattern, got, err)
		}
	}
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
				"a page":           {open, "127.0.0.1:9000", "Origin", "http://127.0.0.1:9000", 403},
				"a page of a file": {open, "127.0.0.1:9000", "Origin", "null", 403},
				"a page by DNS":    {open, "evil.example:9000", "X-None", "", 403},
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
	if got := s.sum(func(st *loopStats) uint64 { return st.publications.Load() }) + s.stats.published.Load(); got != 0 {
		t.Errorf("%d publications got through", got)
	}
}
