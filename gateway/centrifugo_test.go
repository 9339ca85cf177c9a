package gateway

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"sluice/gateway/access/auth"
	"sluice/gateway/clienttest"
	"sluice/gateway/loop"

	"github.com/gobwas/ws"
)

// A session's test reads like the protocol's transcript: commands and replies as JSON, in
// which what differs from run to run (client IDs, epochs) is written as ID and E.

// The paths of the client protocol.
const (
	pathClient    = "/connection/websocket"
	pathUniClient = "/connection/uni_websocket"
	pathUniSSE    = "/connection/uni_sse"
)

// member makes a connection of the client protocol that is connected with a token.
func member(t testing.TB, s *server, token string) *clienttest.Client {
	t.Helper()
	c := clienttest.Dial(t, s, pathClient)
	c.Connects(token)
	return c
}

func TestSessionTranscript(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Version: "1.2"})
	c := clienttest.Dial(t, s, pathClient)
	c.Does(`{"id":1,"connect":{}}`)
	c.WantTold("connect", `{"id":1,"connect":{"client":"ID","version":"sluice 1.2","ping":25,"pong":true}}`)
	c.Does(`{"id":2,"subscribe":{"channel":"chat:1"}}`)
	c.WantTold("subscribe", `{"id":2,"subscribe":{"recoverable":true,"epoch":"E","positioned":true}}`)
	c.Does(`{"id":3,"publish":{"channel":"chat:1","data":{"a": 1}}}`)
	c.WantTold("its reply goes first", `{"id":3,"publish":{}}`)
	c.WantTold("its own publication", `{"push":{"channel":"chat:1","pub":{"data":{"a": 1},"info":{"user":"","client":"ID"},"offset":1}}}`)
	s.publish("chat:1", "no JSON")
	c.WantTold("text that is no JSON", `{"push":{"channel":"chat:1","pub":{"data":"no JSON","offset":2}}}`)
	c.Does(`{"id":4,"presence":{"channel":"chat:1"}}`)
	c.WantTold("presence", `{"id":4,"presence":{"presence":{"ID":{"user":"","client":"ID"}}}}`)
	c.Does(`{"id":5,"presence_stats":{"channel":"chat:1"}}`)
	c.WantTold("presence_stats", `{"id":5,"presence_stats":{"num_clients":1,"num_users":1}}`)
	c.Does(`{"id":6,"history":{"channel":"chat:1","limit":1}}`)
	c.WantTold("history", `{"id":6,"history":{"publications":[{"data":{"a": 1},"info":{"user":"","client":"ID"},"offset":1}],"epoch":"E","offset":2}}`)
	c.Does(`{"id":7,"history":{"channel":"chat:1"}}`)
	c.WantTold("history without a limit tells the position", `{"id":7,"history":{"publications":[],"epoch":"E","offset":2}}`)
	c.Does(`{"id":8,"rpc":{"method":"x"}}`)
	c.WantTold("rpc, which nothing handles", `{"id":8,"error":{"code":108,"message":"not available"}}`)
	c.Does(`{"id":9,"ping":{}}`)
	c.WantTold("ping", `{"id":9,"ping":{}}`)
	c.Does(`{"id":10,"subscribe":{"channel":"chat:1"}}`)
	c.WantTold("subscribe again", `{"id":10,"error":{"code":105,"message":"already subscribed"}}`)
	c.Does(`{"id":11,"subscribe":{"channel":"white space"}}`)
	c.WantTold("a name that is none", `{"id":11,"error":{"code":107,"message":"bad request"}}`)
	c.Does(`{"id":12,"unsubscribe":{"channel":"chat:1"}}`)
	c.WantTold("unsubscribe", `{"id":12,"unsubscribe":{}}`)
	s.publish("chat:1", "nobody is there")
	c.Does(`{"id":13,"presence":{"channel":"chat:1"}}`)
	c.WantTold("nothing follows", `{"id":13,"presence":{"presence":{}}}`)
	c.Does(`{"id":14,"subscribe":{"channel":"a"}}` + "\n" + `{"id":15,"publish":{"channel":"a","data":1}}` + "\n" + `{"id":16,"ping":{}}`)
	c.WantTold("commands of one frame", `{"id":14,"subscribe":{"recoverable":true,"epoch":"E","positioned":true}}`)
	c.WantTold("the second", `{"id":15,"publish":{}}`)
	c.WantTold("the third", `{"id":16,"ping":{}}`)
	c.WantTold("what the second published", `{"push":{"channel":"a","pub":{"data":1,"info":{"user":"","client":"ID"},"offset":1}}}`)
	c.Send(clienttest.Closing(1000, ""))
	c.WantClose("the client ends it", 1000)
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
		{"no JSON", []string{clienttest.Text("hello")}, 3501},
		{"JSON that is no object", []string{clienttest.Text("[]")}, 3501},
		{"binary that is no JSON", []string{clienttest.Bin("\x00\x01")}, 3501},
		{"something before connect", []string{clienttest.Text(`{"id":1,"subscribe":{"channel":"x"}}`)}, 3501},
		{"connect without an id", []string{clienttest.Text(`{"connect":{}}`)}, 3501},
		{"connect twice", []string{clienttest.Text(`{"id":1,"connect":{}}`), clienttest.Text(`{"id":2,"connect":{}}`)}, 3501},
		{"subscribe without an id", []string{clienttest.Text(`{"id":1,"connect":{}}`), clienttest.Text(`{"subscribe":{"channel":"x"}}`)}, 3501},
		{"half a command behind a whole one", []string{clienttest.Text(`{"id":1,"connect":{}}` + "\n" + `{"id":2`)}, 3501},
		{"a token where there are no keys", []string{clienttest.Text(`{"id":1,"connect":{"token":"x.y.z"}}`)}, 3500},
		{"no WebSocket frame", []string{"\xff\xff\xff"}, 1002},
		{"text that is not UTF-8", []string{clienttest.Text("\xff")}, 1007},
		{"more than a message may have", []string{clienttest.Text(strings.Repeat(" ", defaults.MaxMessage+1))}, 1009},
	} {
		c := clienttest.Dial(t, s, pathClient)
		c.Send(test.sends...)
		for {
			op, p, err := c.Next()
			if err != nil {
				t.Fatalf("%s: %v", test.why, err)
			}
			if op == ws.OpText {
				continue // a reply to what came before
			}
			c.IsClose(test.why, op, p, test.code)
			break
		}
		c.Conn.Close() // ignored: the test is over with it
	}
	for _, target := range []string{pathClient + "?format=xml", pathUniClient + "?format=xml"} {
		c := clienttest.Connect(t, s)
		c.Write(clienttest.UpgradeTo(target))
		c.WantStatus(target, 400)
	}
	c := clienttest.Connect(t, s)
	c.Write("GET " + pathClient + " HTTP/1.1\r\nHost: localhost\r\n\r\n")
	c.WantStatus("a plain request", 426)
	off := start(t, Config{NoClients: true})
	for _, path := range []string{pathClient, pathUniClient} {
		c := clienttest.Connect(t, off)
		c.Write(clienttest.UpgradeTo(path))
		c.WantStatus(path+" where it is off", 404)
	}
	c = clienttest.Connect(t, off)
	c.Write("GET " + pathUniSSE + " HTTP/1.1\r\nHost: localhost\r\n\r\n")
	c.WantStatus("an event stream where it is off", 404)
}

func TestSessionHasBoundedChannels(t *testing.T) {
	t.Parallel()
	for _, most := range []int{128, 1024} {
		t.Run(fmt.Sprint(most), func(t *testing.T) {
			t.Parallel()
			testBoundedChannels(t, Config{ChannelLimit: most, MessageRate: -1}, most)
		})
	}
}

func testBoundedChannels(t *testing.T, cfg Config, most int) {
	s := start(t, cfg)
	c := member(t, s, "")
	for i := range most {
		c.Joins(fmt.Sprint(i))
	}
	c.Does(`{"id":3,"subscribe":{"channel":"one more"}}`, `{"id":4,"subscribe":{"channel":"onemore"}}`)
	c.WantTold("a name with white space", `{"id":3,"error":{"code":107,"message":"bad request"}}`)
	c.WantTold("one more", `{"id":4,"error":{"code":106,"message":"limit exceeded"}}`)
	for i := range most { // each of them is alive, and gets its own
		s.publish(fmt.Sprint(i), fmt.Sprint(i))
	}
	got := map[string]bool{}
	for range most {
		got[c.Told("a publication of each")] = true
	}
	for i := range most {
		if want := fmt.Sprintf(`{"push":{"channel":"%d","pub":{"data":%d,"offset":1}}}`, i, i); !got[want] {
			t.Errorf("%s did not come", want)
		}
	}
	c.Does(`{"id":5,"unsubscribe":{"channel":"77"}}`)
	c.WantTold("one goes", `{"id":5,"unsubscribe":{}}`)
	c.Joins("onemore")
}

func TestPingsComeWhateverElseDoes(t *testing.T) {
	t.Parallel()
	s := start(t, Config{PingInterval: 10 * time.Second, PongTimeout: 4 * time.Second})
	c := member(t, s, "")
	c.Joins("x")
	wantPing := func(why string) {
		t.Helper()
		c.WantText(why, "{}")
	}
	pings := func() uint64 { return s.Sum(func(st *loop.Stats) uint64 { return st.Pings.Load() }) }
	for passed := 0; pings() == 0; passed++ {
		if s.Pass(1); passed > 10 {
			t.Fatal("the first does not come within the interval")
		}
	}
	wantPing("the first")
	c.Does("{}")
	c.Settle(s)
	for range 9 { // the client is heard all the time, and is pinged all the same
		s.Pass(1)
		c.Does(`{"id":3,"ping":{}}`)
		c.WantTold("a reply", `{"id":3,"ping":{}}`)
	}
	s.Pass(1)
	wantPing("the next")
	s.Pass(4)
	c.WantClose("it did not answer", 3012)
	s.WantClosed(loop.ReasonNoPong, 1)
}

func TestClientThatDoesNotConnectIsStale(t *testing.T) {
	t.Parallel()
	s := start(t, Config{})
	s.Pass(0) // time stands, however long this takes
	c := clienttest.Dial(t, s, pathClient)
	s.Pass(9)
	c.WantIdle(s, "it has time")
	s.Pass(2)
	c.WantClose("not any more", 3502)
	s.WantClosed(loop.ReasonStale, 1)
}

func TestShutdownTellsClientsToComeBack(t *testing.T) {
	t.Parallel()
	s := start(t, Config{})
	c := member(t, s, "")
	c.Joins("x", `"join_leave":true`)
	c.WantTold("its own join", `{"push":{"channel":"x","join":{"info":{"user":"","client":"ID"}}}}`)
	s.publish("x", "before")
	go s.shutdown(t.Context())
	c.WantTold("what was published before", `{"push":{"channel":"x","pub":{"data":"before","offset":1}}}`)
	c.WantClose("then the end, with the code that means to come back", 3001)
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
	c.Joins("x")
	s.publish("x", long)
	c.WantTold("published as text", `{"push":{"channel":"x","pub":{"data":"`+long+`","offset":1}}}`)
	s.wantAPI("publish", `{"channel":"x","data":{"n":`+long+`}}`, `{"result":{"offset":2,"epoch":"E","subscribers":1}}`)
	c.WantTold("published by the API", `{"push":{"channel":"x","pub":{"data":"{\"n\":`+long+`}","offset":2}}}`)
	kept := `"publications":[{"data":"` + long + `","offset":1},{"data":"{\"n\":` + long + `}","offset":2}]`
	c.Does(`{"id":3,"history":{"channel":"x","limit":-1}}`)
	c.WantTold("kept", `{"id":3,"history":{`+kept+`,"epoch":"E","offset":2}}`)
	s.wantAPI("history", `{"channel":"x","limit":1}`, `{"result":{"publications":[{"offset":1,"prev":0,"data":"`+long+`"}],"epoch":"E","offset":2}}`)
	c.Does(`{"id":4,"presence":{"channel":"x"}}`)
	c.WantTold("of a client", `{"id":4,"presence":{"presence":{"ID":{"user":"42","client":"ID","conn_info":"`+long+`"}}}}`)
	s.wantAPI("subscribe", `{"user":"42","channel":"y","data":`+long+`}`, `{"result":{}}`)
	if got := c.Told("subscribed by the API"); !strings.Contains(got, `"data":"`+long+`"`) {
		t.Errorf("got %s", clienttest.Brief(got))
	}
	other := member(t, s, tokens(t, auth.Claims{User: "7"}))
	if reply := other.Joins("x", `"recover":true`); !strings.Contains(reply, kept) {
		t.Errorf("recovered: got %s", clienttest.Brief(reply))
	}
	other.Does(`{"id":5,"publish":{"channel":"x","data":` + long + `}}`)
	other.WantClose("in a command it is no JSON", 3501)
}

// A client may have more time for its pong than there is between two pings. One that does
// not answer is found all the same.
func TestPongMayTakeLongerThanAnInterval(t *testing.T) {
	t.Parallel()
	s := start(t, Config{PingInterval: 5 * time.Second, PongTimeout: 8 * time.Second, Loops: 1})
	c := member(t, s, "")
	s.Pass(4 + 5) // the first ping comes after half an interval at least
	if n := s.ClosingFor(loop.ReasonNoPong); n != 0 {
		t.Error("it is closed before its time is over")
	}
	s.Pass(6)
	for {
		op, p, err := c.Next()
		if err == nil && op == ws.OpText && p == "{}" {
			continue
		}
		if op != ws.OpClose {
			t.Fatalf("got %v, a frame of opcode %#x with %s", err, op, clienttest.Brief(p))
		}
		break
	}
	s.WantClosed(loop.ReasonNoPong, 1)
}

// The replies to one frame of commands may be more than may wait for a connection. What is
// left of the frame goes on when the socket has taken what there is, each time.
func TestLargeRepliesToOneFrameAllCome(t *testing.T) {
	t.Parallel()
	s := start(t, Config{PingInterval: -1})
	for range 100 {
		s.publish("x", strings.Repeat("a", 500))
	}
	c := member(t, s, "")
	var frame []string
	for i := range 8 {
		frame = append(frame, fmt.Sprintf(`{"id":%d,"history":{"channel":"x","limit":100}}`, i+2))
	}
	c.Does(strings.Join(frame, "\n"))
	for i := range 8 {
		if got, want := c.Told("a history"), fmt.Sprintf(`{"id":%d,"history":`, i+2); !strings.HasPrefix(got, want) {
			t.Fatalf("got %s, want the reply %s", clienttest.Brief(got), want)
		}
	}
}

// An interval is negative by however much where there are no pings: clients are told of none.
func TestNoPingsAreAnnouncedWhereThereAreNone(t *testing.T) {
	t.Parallel()
	c := clienttest.Dial(t, start(t, Config{PingInterval: -5 * time.Second}), "/connection/websocket")
	c.Send(clienttest.Text(`{"id":1,"connect":{}}`))
	if _, p, err := c.Next(); err != nil || strings.Contains(string(p), "ping") {
		t.Errorf("got %s, %v: want no ping", p, err)
	}
}
