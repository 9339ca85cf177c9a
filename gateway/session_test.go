package gateway

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"sluice/gateway/access/auth"
	"sluice/gateway/access/namespace"

	"github.com/gobwas/ws"
)

// A session's test reads like the protocol's transcript: commands and replies as JSON, in
// which what differs from run to run (client IDs, epochs) is written as ID and E.

var variable = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}|"epoch":"[0-9a-z]+"`)

func constant(p string) string {
	return variable.ReplaceAllStringFunc(p, func(found string) string {
		if strings.HasPrefix(found, `"epoch"`) {
			return `"epoch":"E"`
		}
		return "ID"
	})
}

// does sends commands, each in a frame of its own.
func (c *client) does(commands ...string) {
	c.t.Helper()
	for _, cmd := range commands {
		c.send(text(cmd))
	}
}

// told reads a message of the protocol, passing over pings, and gives it as it came.
func (c *client) told(why string) string {
	c.t.Helper()
	for {
		op, p, err := c.next()
		switch {
		case err != nil || op != ws.OpText:
			c.t.Fatalf("%s: got %v, a frame of opcode %#x with %s", why, err, op, brief(p))
		case p != "{}":
			return p
		}
		c.does("{}")
	}
}

// wantTold reads a message and compares it.
func (c *client) wantTold(why, want string) string {
	c.t.Helper()
	got := c.told(why)
	if constant(got) != want {
		c.t.Fatalf("%s:\n got %s\nwant %s", why, constant(got), want)
	}
	return got
}

// member makes a connection of the client protocol that is connected with a token.
func member(t testing.TB, s *server, token string) *client {
	t.Helper()
	c := dial(t, s, pathClient)
	c.connects(token)
	return c
}

// connects sends the first command and reads its reply.
func (c *client) connects(token string) (reply string) {
	c.t.Helper()
	cmd, _ := json.Marshal(map[string]any{"id": 1, "connect": map[string]any{"token": token}}) // cannot fail
	c.does(string(cmd))
	if reply = c.told("connect"); !strings.Contains(reply, `"client":"`) {
		c.t.Fatalf("connect: got %s", reply)
	}
	return reply
}

// joins subscribes to a channel, with further fields of the command, and gives the reply.
func (c *client) joins(name string, fields ...string) (reply string) {
	c.t.Helper()
	c.does(fmt.Sprintf(`{"id":2,"subscribe":{%s}}`, strings.Join(append(fields, fmt.Sprintf(`"channel":%q`, name)), ",")))
	if reply = c.told("subscribe to " + name); !strings.Contains(reply, `{"id":2,"subscribe":`) {
		c.t.Fatalf("subscribe to %s: got %s", name, reply)
	}
	return reply
}

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
	v, err := auth.New(t.Context(), auth.Options{HMACSecrets: [][]byte{[]byte(testSecret)}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.Close)
	cfg := Config{Tokens: v}
	if file != "" {
		if cfg.Namespaces, err = namespace.Parse([]byte(file)); err != nil {
			t.Fatal(err)
		}
	}
	return cfg
}

func TestSessionTranscript(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Version: "1.2"})
	c := dial(t, s, pathClient)
	c.does(`{"id":1,"connect":{}}`)
	c.wantTold("connect", `{"id":1,"connect":{"client":"ID","version":"sluice 1.2","ping":25,"pong":true}}`)
	c.does(`{"id":2,"subscribe":{"channel":"chat:1"}}`)
	c.wantTold("subscribe", `{"id":2,"subscribe":{"recoverable":true,"epoch":"E","positioned":true}}`)
	c.does(`{"id":3,"publish":{"channel":"chat:1","data":{"a": 1}}}`)
	c.wantTold("its reply goes first", `{"id":3,"publish":{}}`)
	c.wantTold("its own publication", `{"push":{"channel":"chat:1","pub":{"data":{"a": 1},"info":{"user":"","client":"ID"},"offset":1}}}`)
	s.publish("chat:1", "no JSON")
	c.wantTold("text that is no JSON", `{"push":{"channel":"chat:1","pub":{"data":"no JSON","offset":2}}}`)
	c.does(`{"id":4,"presence":{"channel":"chat:1"}}`)
	c.wantTold("presence", `{"id":4,"presence":{"presence":{"ID":{"user":"","client":"ID"}}}}`)
	c.does(`{"id":5,"presence_stats":{"channel":"chat:1"}}`)
	c.wantTold("presence_stats", `{"id":5,"presence_stats":{"num_clients":1,"num_users":1}}`)
	c.does(`{"id":6,"history":{"channel":"chat:1","limit":1}}`)
	c.wantTold("history", `{"id":6,"history":{"publications":[{"data":{"a": 1},"info":{"user":"","client":"ID"},"offset":1}],"epoch":"E","offset":2}}`)
	c.does(`{"id":7,"history":{"channel":"chat:1"}}`)
	c.wantTold("history without a limit tells the place", `{"id":7,"history":{"publications":[],"epoch":"E","offset":2}}`)
	c.does(`{"id":8,"rpc":{"method":"x"}}`)
	c.wantTold("rpc, which nothing handles", `{"id":8,"error":{"code":108,"message":"not available"}}`)
	c.does(`{"send":{"data":{}}}`, `{"id":9,"ping":{}}`)
	c.wantTold("send has no reply", `{"id":9,"ping":{}}`)
	c.does(`{"id":10,"subscribe":{"channel":"chat:1"}}`)
	c.wantTold("subscribe again", `{"id":10,"error":{"code":105,"message":"already subscribed"}}`)
	c.does(`{"id":11,"subscribe":{"channel":"white space"}}`)
	c.wantTold("a name that is none", `{"id":11,"error":{"code":107,"message":"bad request"}}`)
	c.does(`{"id":12,"unsubscribe":{"channel":"chat:1"}}`)
	c.wantTold("unsubscribe", `{"id":12,"unsubscribe":{}}`)
	s.publish("chat:1", "nobody is there")
	c.does(`{"id":13,"presence":{"channel":"chat:1"}}`)
	c.wantTold("nothing follows", `{"id":13,"presence":{"presence":{}}}`)
	c.does(`{"id":14,"subscribe":{"channel":"a"}}` + "\n" + `{"id":15,"publish":{"channel":"a","data":1}}` + "\n" + `{"id":16,"ping":{}}`)
	c.wantTold("commands of one frame", `{"id":14,"subscribe":{"recoverable":true,"epoch":"E","positioned":true}}`)
	c.wantTold("the second", `{"id":15,"publish":{}}`)
	c.wantTold("the third", `{"id":16,"ping":{}}`)
	c.wantTold("what the second published", `{"push":{"channel":"a","pub":{"data":1,"info":{"user":"","client":"ID"},"offset":1}}}`)
	c.send(closing(1000, ""))
	c.wantClose("the client ends it", 1000)
}

// Whatever is no command, or comes out of turn, ends the connection with the code that
// keeps a library from trying the same again.
func TestSessionsThatBreakTheProtocol(t *testing.T) {
	t.Parallel()
	s := start(t, Config{})
	for _, test := range []struct {
		why   string
		sends []string
		code  ws.StatusCode
	}{
		{"no JSON", []string{text("hello")}, 3501},
		{"JSON that is no object", []string{text("[]")}, 3501},
		{"binary that is no JSON", []string{bin("\x00\x01")}, 3501},
		{"something before connect", []string{text(`{"id":1,"subscribe":{"channel":"x"}}`)}, 3501},
		{"connect without an id", []string{text(`{"connect":{}}`)}, 3501},
		{"connect twice", []string{text(`{"id":1,"connect":{}}`), text(`{"id":2,"connect":{}}`)}, 3501},
		{"subscribe without an id", []string{text(`{"id":1,"connect":{}}`), text(`{"subscribe":{"channel":"x"}}`)}, 3501},
		{"half a command behind a whole one", []string{text(`{"id":1,"connect":{}}` + "\n" + `{"id":2`)}, 3501},
		{"a token where there are no keys", []string{text(`{"id":1,"connect":{"token":"x.y.z"}}`)}, 3500},
		{"no WebSocket frame", []string{"\xff\xff\xff"}, 1002},
		{"text that is not UTF-8", []string{text("\xff")}, 1007},
		{"more than a message may have", []string{text(strings.Repeat(" ", DefaultMaxMessage+1))}, 1009},
	} {
		c := dial(t, s, pathClient)
		c.send(test.sends...)
		for {
			op, p, err := c.next()
			if err != nil {
				t.Fatalf("%s: %v", test.why, err)
			}
			if op == ws.OpText {
				continue // a reply to what came before
			}
			c.isClose(test.why, op, p, test.code)
			break
		}
		c.conn.Close() // ignored: the test is over with it
	}
	for _, target := range []string{pathClient + "?format=xml", pathUniClient + "?format=xml"} {
		c := connect(t, s)
		c.write(upgradeTo(target))
		c.wantStatus(target, 400)
	}
	c := connect(t, s)
	c.write("GET " + pathClient + " HTTP/1.1\r\nHost: localhost\r\n\r\n")
	c.wantStatus("a plain request", 426)
	off := start(t, Config{NoClients: true})
	for _, path := range []string{pathClient, pathUniClient} {
		c := connect(t, off)
		c.write(upgradeTo(path))
		c.wantStatus(path+" where it is off", 404)
	}
	c = connect(t, off)
	c.write("GET " + pathUniSSE + " HTTP/1.1\r\nHost: localhost\r\n\r\n")
	c.wantStatus("an event stream where it is off", 404)
}

func TestSessionHasBoundedChannels(t *testing.T) {
	t.Parallel()
	s := start(t, Config{})
	c := member(t, s, "")
	for i := range sessionChannelsMax {
		c.joins(fmt.Sprint(i))
	}
	c.does(`{"id":3,"subscribe":{"channel":"one more"}}`, `{"id":4,"subscribe":{"channel":"onemore"}}`)
	c.wantTold("a name with white space", `{"id":3,"error":{"code":107,"message":"bad request"}}`)
	c.wantTold("one more", `{"id":4,"error":{"code":106,"message":"limit exceeded"}}`)
	for i := range sessionChannelsMax { // each of them is alive, and gets its own
		s.publish(fmt.Sprint(i), fmt.Sprint(i))
	}
	got := map[string]bool{}
	for range sessionChannelsMax {
		got[c.told("a publication of each")] = true
	}
	for i := range sessionChannelsMax {
		if want := fmt.Sprintf(`{"push":{"channel":"%d","pub":{"data":%d,"offset":1}}}`, i, i); !got[want] {
			t.Errorf("%s did not come", want)
		}
	}
	c.does(`{"id":5,"unsubscribe":{"channel":"77"}}`)
	c.wantTold("one goes", `{"id":5,"unsubscribe":{}}`)
	c.joins("onemore")
}

func TestPingsComeWhateverElseDoes(t *testing.T) {
	t.Parallel()
	s := start(t, Config{PingInterval: 10 * time.Second, PongTimeout: 4 * time.Second})
	c := member(t, s, "")
	c.joins("x")
	wantPing := func(why string) {
		t.Helper()
		c.wantText(why, "{}")
	}
	pings := func() uint64 { return s.sum(func(st *loopStats) uint64 { return st.pings.Load() }) }
	for passed := 0; pings() == 0; passed++ {
		if s.pass(1); passed > 10 {
			t.Fatal("the first does not come within the interval")
		}
	}
	wantPing("the first")
	c.does("{}")
	c.settle(s)
	for range 9 { // the client is heard all the time, and is pinged all the same
		s.pass(1)
		c.does(`{"id":3,"ping":{}}`)
		c.wantTold("a reply", `{"id":3,"ping":{}}`)
	}
	s.pass(1)
	wantPing("the next")
	s.pass(4)
	c.wantClose("it did not answer", 3012)
	s.wantClosed(reasonNoPong, 1)
}

func TestClientThatDoesNotConnectIsStale(t *testing.T) {
	t.Parallel()
	s := start(t, Config{})
	c := dial(t, s, pathClient)
	s.pass(staleSeconds - 1)
	c.wantIdle(s, "it has time")
	s.pass(2)
	c.wantClose("not any more", 3502)
	s.wantClosed(reasonStale, 1)
}

func TestShutdownTellsClientsToComeBack(t *testing.T) {
	t.Parallel()
	s := start(t, Config{})
	c := member(t, s, "")
	c.joins("x", `"join_leave":true`)
	c.wantTold("its own join", `{"push":{"channel":"x","join":{"info":{"user":"","client":"ID"}}}}`)
	s.publish("x", "before")
	go s.shutdown(t.Context())
	c.wantTold("what was published before", `{"push":{"channel":"x","pub":{"data":"before","offset":1}}}`)
	c.wantClose("then the end, with the code that means to come back", 3001)
}

// An integer that Python's client library cannot read is text for clients of JSON, wherever it
// comes from and however often it is read.
func TestLongNumbersAreTextForClients(t *testing.T) {
	t.Parallel()
	cfg := guarded(t, `{"without_namespace": {"allow_subscribe_for_client": true, "allow_history_for_client": true, "history_size": 10, "history_ttl": "60s",
		"presence": true, "allow_presence_for_subscriber": true}}`)
	s := start(t, cfg)
	long := strings.Repeat("7", 4301)
	c := member(t, s, tokens(t, auth.Claims{User: "42", Info: json.RawMessage(long)}))
	c.joins("x")
	s.publish("x", long)
	c.wantTold("published as text", `{"push":{"channel":"x","pub":{"data":"`+long+`","offset":1}}}`)
	s.wantAPI("publish", `{"channel":"x","data":{"n":`+long+`}}`, `{"result":{"offset":2,"epoch":"E","subscribers":1}}`)
	c.wantTold("published by the API", `{"push":{"channel":"x","pub":{"data":"{\"n\":`+long+`}","offset":2}}}`)
	kept := `"publications":[{"data":"` + long + `","offset":1},{"data":"{\"n\":` + long + `}","offset":2}]`
	c.does(`{"id":3,"history":{"channel":"x","limit":-1}}`)
	c.wantTold("kept", `{"id":3,"history":{`+kept+`,"epoch":"E","offset":2}}`)
	s.wantAPI("history", `{"channel":"x","limit":1}`, `{"result":{"publications":[{"offset":1,"data":"`+long+`"}],"epoch":"E","offset":2}}`)
	c.does(`{"id":4,"presence":{"channel":"x"}}`)
	c.wantTold("of a client", `{"id":4,"presence":{"presence":{"ID":{"user":"42","client":"ID","conn_info":"`+long+`"}}}}`)
	s.wantAPI("subscribe", `{"user":"42","channel":"y","data":`+long+`}`, `{"result":{}}`)
	if got := c.told("subscribed by the API"); !strings.Contains(got, `"data":"`+long+`"`) {
		t.Errorf("got %s", brief(got))
	}
	other := member(t, s, tokens(t, auth.Claims{User: "7"}))
	if reply := other.joins("x", `"recover":true`); !strings.Contains(reply, kept) {
		t.Errorf("recovered: got %s", brief(reply))
	}
	other.does(`{"id":5,"publish":{"channel":"x","data":` + long + `}}`)
	other.wantClose("in a command it is no JSON", 3501)
}
