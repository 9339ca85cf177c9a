package gateway

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/gateway/access/auth"
	"sluice/gateway/api"
	"sluice/gateway/clienttest"

	"github.com/centrifugal/protocol"
)

// api asks the server's API and gives the answer, with what differs from run to run
// written as ID and E.
func (s *server) api(method, body string) string {
	s.T.Helper()
	r := httptest.NewRequest("POST", "http://127.0.0.1/api/"+method, strings.NewReader(body))
	w := httptest.NewRecorder()
	s.InternalHandler(Internal{}).ServeHTTP(w, r)
	if w.Code != http.StatusOK {
		s.T.Fatalf("%s: status %d: %s", method, w.Code, w.Body)
	}
	return clienttest.Constant(strings.TrimSpace(w.Body.String()))
}

func (s *server) wantAPI(method, body, want string) {
	s.T.Helper()
	if got := s.api(method, body); got != want {
		s.T.Errorf("%s %s:\n got %s\nwant %s", method, body, got, want)
	}
}

func TestServerAPIActsOnConnections(t *testing.T) {
	t.Parallel()
	s := start(t, guarded(t, rightsFile))
	user := tokens(t, auth.Claims{User: "42"})
	c, other := member(t, s, user), member(t, s, tokens(t, auth.Claims{User: "7"}))
	done := `{"result":{}}`
	s.wantAPI("subscribe", `{"user":"42","channel":"shut:x","info":{"a":1},"data":{"b":2}}`, done)
	c.WantTold("the server subscribes it", `{"push":{"channel":"shut:x","subscribe":{"data":{"b":2}}}}`)
	s.wantAPI("subscribe", `{"user":"42","channel":"shut:x"}`, done) // it is subscribed: nothing happens
	s.wantAPI("publish", `{"channel":"shut:x","data":{"n":1},"tags":{"k":"v"}}`, `{"result":{"offset":1,"epoch":"E","subscribers":1}}`)
	c.WantTold("the publication", `{"push":{"channel":"shut:x","pub":{"data":{"n":1},"offset":1,"tags":{"k":"v"}}}}`)
	s.wantAPI("channels", `{"pattern":"shut:*"}`, `{"result":{"channels":{"shut:x":{"num_clients":1}}}}`)
	s.wantAPI("unsubscribe", `{"user":"42","channel":"shut:x"}`, done)
	c.WantTold("the server unsubscribes it", `{"push":{"channel":"shut:x","unsubscribe":{"code":2000,"reason":"server unsubscribe"}}}`)
	s.wantAPI("refresh", `{"user":"42","expire_at":`+fmt.Sprint(time.Now().Unix()+3600)+`}`, done)
	if got := c.Told("refresh"); !strings.Contains(got, `{"push":{"refresh":{"expires":true,"ttl":3`) {
		t.Errorf("refresh: got %s", got)
	}
	c.Joins("look:x")
	other.Joins("look:x")
	s.wantAPI("presence_stats", `{"channel":"look:x"}`, `{"result":{"num_clients":2,"num_users":2}}`)
	s.wantAPI("presence", `{"channel":"all:x"}`, `{"error":{"code":108,"message":"not available"}}`)
	s.wantAPI("publish", `{"channel":"unknown:x","data":1}`, `{"error":{"code":102,"message":"unknown channel"}}`)
	s.wantAPI("publish", `{"channel":"look:x","data":1}`, `{"result":{"offset":1,"epoch":"E","subscribers":2}}`)
	s.wantAPI("publish", `{"channel":"look:x","data":2,"skip_history":true}`, `{"result":{"offset":0,"epoch":"E","subscribers":2}}`)
	s.wantAPI("publish", `{"channel":"look:x","b64data":"`+base64.StdEncoding.EncodeToString([]byte("\xff\x00"))+`"}`, `{"result":{"offset":2,"epoch":"E","subscribers":2}}`)
	for _, c := range []*clienttest.Client{c, other} {
		c.WantTold("the first", `{"push":{"channel":"look:x","pub":{"data":1,"offset":1}}}`)
		c.WantTold("one that passes", `{"push":{"channel":"look:x","pub":{"data":2}}}`)
		c.WantTold("a binary one", `{"push":{"channel":"look:x","pub":{"data":{"base64":"/wA="},"offset":2}}}`)
	}
	s.wantAPI("history", `{"channel":"look:x","limit":-1}`, `{"result":{"publications":[{"offset":1,"prev":0,"data":1},{"offset":2,"prev":1,"data":null,"b64data":"/wA="}],"epoch":"E","offset":2}}`)
	s.wantAPI("publish", `{"channel":"look:kept","data":1}`, `{"result":{"offset":1,"epoch":"E","subscribers":0}}`)
	if info := s.api("info", ``); !strings.Contains(info, `"num_channels":1,`) { // those with subscribers
		t.Errorf("info: got %s", info)
	}
	s.wantAPI("history_remove", `{"channel":"look:x"}`, done)
	s.wantAPI("history", `{"channel":"look:x","limit":-1}`, `{"result":{"publications":[],"epoch":"E","offset":2}}`)
	s.wantAPI("broadcast", `{"channels":["look:x","unknown:x"],"data":3}`,
		`{"result":{"responses":[{"result":{"offset":3,"epoch":"E","subscribers":2}},{"error":{"code":102,"message":"unknown channel"}}]}}`)

	raw := clienttest.Dial(t, s, "/ws/users:x?token="+user)
	s.wantAPI("disconnect", `{"user":"42"}`, done)
	for range 1 {
		c.WantTold("what was published before", `{"push":{"channel":"look:x","pub":{"data":3,"offset":3}}}`)
	}
	c.WantClose("it shall not come back", 3503)
	raw.WantClose("nor shall the same user's raw client", 1008)
	s.wantAPI("disconnect", `{"user":"7","disconnect":{"code":4000,"reason":"come back"}}`, done)
	other.WantTold("what was published before", `{"push":{"channel":"look:x","pub":{"data":3,"offset":3}}}`)
	other.WantClose("with the code of the caller", 4000)
	s.wantAPI("presence_stats", `{"channel":"look:x"}`, `{"result":{"num_clients":0,"num_users":0}}`)
}

func TestSubscriptionsThatTheTokenNames(t *testing.T) {
	t.Parallel()
	s := start(t, guarded(t, `{"without_namespace":{}, "namespaces":[{"name":"aa","history_size":10,"history_ttl":"60s","force_recovery":true},{"name":"bb"}]}`))
	token := tokens(t, auth.Claims{User: "42", Channels: []string{"aa:1", "bb:1"}})
	c := clienttest.Dial(t, s, pathClient)
	c.Does(`{"id":1,"connect":{"token":"` + token + `"}}`)
	reply := c.Told("connect")
	var r struct {
		Connect struct {
			Subs map[string]struct {
				Epoch       string `json:"epoch"`
				Offset      uint64 `json:"offset"`
				Recoverable bool   `json:"recoverable"`
			} `json:"subs"`
		} `json:"connect"`
	}
	if err := json.Unmarshal([]byte(reply), &r); err != nil || len(r.Connect.Subs) != 2 || !r.Connect.Subs["aa:1"].Recoverable || r.Connect.Subs["bb:1"].Recoverable {
		t.Fatalf("got %s, %v", reply, err)
	}
	s.publish("aa:1", "1")
	s.publish("bb:1", "2")
	c.WantTold("it is subscribed", `{"push":{"channel":"aa:1","pub":{"data":1,"offset":1}}}`)
	c.WantTold("to both", `{"push":{"channel":"bb:1","pub":{"data":2,"offset":1}}}`)
	c.Vanish()
	s.publish("aa:1", "3")
	c = clienttest.Dial(t, s, pathClient)
	c.Does(`{"id":1,"connect":{"token":"` + token + `","subs":{"aa:1":{"recover":true,"epoch":"` + r.Connect.Subs["aa:1"].Epoch + `","offset":1}}}}`)
	if got := c.Told("connect again"); !strings.Contains(got, `"publications":[{"data":3,"offset":2}],"recovered":true`) {
		t.Errorf("got %s", got)
	}
	unknown := clienttest.Dial(t, s, pathClient)
	unknown.Does(`{"id":1,"connect":{"token":"` + tokens(t, auth.Claims{User: "42", Channels: []string{"aa:1", "unknown:1"}}) + `"}}`)
	unknown.WantClose("a channel of no namespace", 3500)
}

func TestWhoComesAndGoesIsTold(t *testing.T) {
	t.Parallel()
	s := start(t, guarded(t, `{"without_namespace":{"presence":true,"join_leave":true,"allow_subscribe_for_client":true,"allow_presence_for_subscriber":true,"allow_presence_for_client":true}}`))
	a := member(t, s, tokens(t, auth.Claims{User: "a"}))
	a.Joins("x", `"join_leave":true`)
	a.WantTold("its own join", `{"push":{"channel":"x","join":{"info":{"user":"a","client":"ID"}}}}`)
	b := member(t, s, tokens(t, auth.Claims{User: "b", Info: json.RawMessage(`{"n":"<b>"}`)}))
	b.Joins("x") // it does not want to know
	joined := `{"push":{"channel":"x","join":{"info":{"user":"b","client":"ID","conn_info":{"n":"<b>"}}}}}`
	left := strings.Replace(joined, "join", "leave", 1)
	a.WantTold("another comes", joined)
	raw := clienttest.Dial(t, s, "/ws/x?token="+tokens(t, auth.Claims{User: "c"}))
	s.publish("x", "1")
	raw.WantText("raw clients are told of messages alone", "1")
	a.WantTold("so are others, of messages too", `{"push":{"channel":"x","pub":{"data":1,"offset":1}}}`)
	b.WantTold("and who does not want to know", `{"push":{"channel":"x","pub":{"data":1,"offset":1}}}`)
	b.Does(`{"id":3,"unsubscribe":{"channel":"x"}}`)
	b.WantTold("its reply", `{"id":3,"unsubscribe":{}}`)
	a.WantTold("it goes", left)
	b.Joins("x")
	a.WantTold("it comes again", joined)
	b.Vanish()
	a.WantTold("its connection is lost", left)
	s.wantAPI("presence", `{"channel":"x"}`, `{"result":{"presence":{"ID":{"user":"a","client":"ID"}}}}`)
	raw.WantIdle(s, "joins and leaves are not for raw clients")
}

// Joins and leaves that find their channel full wait, and none is lost.
func TestJoinsWaitForRoom(t *testing.T) {
	clienttest.UncompressedOnly(t)
	t.Parallel()
	s := start(t, Config{ChannelBuffer: 16 << 10, MaxMessage: 4 << 10, SendBuffer: 4 << 10, PingInterval: -1, Loops: 1, History: -1})
	s.Clock.Slow() // a reads in the end
	a := clienttest.ConnectWith(t, s, 4<<10)
	a.Upgrade(pathClient)
	a.Connects("")
	a.Joins("x", `"join_leave":true`)
	const published = 60
	var publishing sync.WaitGroup
	publishing.Go(func() {
		for range published {
			s.publish("x", `"`+strings.Repeat("x", 1000)+`"`)
		}
	})
	clienttest.WaitFor(t, "the channel to push back", func() bool { return s.publisher.PushedBack.Load() > 0 })
	var all []*clienttest.Client
	for range 5 {
		c := member(t, s, "")
		c.Joins("x")
		all = append(all, c)
	}
	for _, c := range all {
		c.Send(clienttest.Closing(1000, ""))
		if _, code, err := c.Texts(); err != nil || code != 1000 { // behind publications, if there are
			t.Errorf("it leaves again: code %d, %v", code, err)
		}
		c.EndClose("it leaves again")
	}
	joins, leaves, pubs := 0, 0, 0
	for joins < 6 || leaves < 5 || pubs < published {
		switch got := a.Told("everything"); {
		case strings.Contains(got, `"join":`):
			joins++
		case strings.Contains(got, `"leave":`):
			leaves++
		default:
			pubs++
		}
	}
	a.WantIdle(s, "and nothing twice")
	publishing.Wait()
}

func TestOneWayClients(t *testing.T) {
	t.Parallel()
	s := start(t, guarded(t, rightsFile))
	token := tokens(t, auth.Claims{User: "42", Channels: []string{"all:x"}})
	first := clienttest.Dial(t, s, pathUniClient)
	first.Does(`{"token":"` + token + `"}`)
	inURL := clienttest.Dial(t, s, pathUniClient+"?cf_connect="+url.QueryEscape(`{"token":"`+token+`"}`))
	for _, c := range []*clienttest.Client{first, inURL} {
		if got := c.Told("connected"); !strings.HasPrefix(clienttest.Constant(got), `{"connect":{"client":"ID","version":"sluice","subs":{"all:x":{}}`) {
			t.Errorf("connect: got %s", got)
		}
	}
	stream := clienttest.Connect(t, s)
	stream.Write("GET " + pathUniSSE + "?cf_connect=" + url.QueryEscape(`{"token":"`+token+`"}`) + " HTTP/1.1\r\nHost: localhost\r\n\r\n")
	posted := clienttest.Connect(t, s)
	body := `{"token":"` + token + `"}`
	posted.Write(fmt.Sprintf("POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s", pathUniSSE, len(body), body))
	for _, c := range []*clienttest.Client{stream, posted} {
		if status := c.Status(t); status != 200 {
			t.Fatalf("status %d", status)
		}
		if got := clienttest.Constant(c.Pushed(t)); !strings.HasPrefix(got, `{"connect":{"client":"ID"`) {
			t.Errorf("connect: got %s", got)
		}
	}
	s.publish("all:x", `{"a":1}`)
	want := `{"channel":"all:x","pub":{"data":{"a":1},"offset":1}}`
	for _, c := range []*clienttest.Client{first, inURL} {
		c.WantTold("a publication stands alone", want)
	}
	for _, c := range []*clienttest.Client{stream, posted} {
		if got := c.Pushed(t); got != want {
			t.Errorf("got %s", got)
		}
	}
	s.wantAPI("disconnect", `{"user":"42"}`, `{"result":{}}`)
	first.WantClose("the end", 3503)
	inURL.WantClose("the end", 3503)
	for _, c := range []*clienttest.Client{stream, posted} {
		if got := c.Pushed(t); got != `{"disconnect":{"code":3503,"reason":"force disconnect"}}` {
			t.Errorf("got %s", got)
		}
		c.WantEOF("the stream ends")
	}
	bad := clienttest.Connect(t, s)
	bad.Write("GET " + pathUniSSE + "?cf_connect=nonsense HTTP/1.1\r\nHost: localhost\r\n\r\n")
	bad.WantStatus("no connect request", 400)
	refused := clienttest.Dial(t, s, pathUniClient+"?cf_connect="+url.QueryEscape(`{"token":"`+token+`x"}`))
	refused.WantClose("a forged token", 3500)
}

// The same channel in Protobuf.
func TestProtobufSession(t *testing.T) {
	t.Parallel()
	s := start(t, Config{})
	c := clienttest.Connect(t, s)
	if got := c.Upgrade(pathClient, "Sec-WebSocket-Protocol: centrifuge-protobuf").Get("Sec-WebSocket-Protocol"); got != "centrifuge-protobuf" {
		t.Fatalf("the subprotocol is %q", got)
	}
	other := clienttest.Dial(t, s, pathClient+"?format=protobuf")
	for _, c := range []*clienttest.Client{c, other} {
		c.SendsProtobuf(&protocol.Command{Id: 1, Connect: &protocol.ConnectRequest{}}, &protocol.Command{Id: 2, Subscribe: &protocol.SubscribeRequest{Channel: "x"}})
		if r := c.ReadsProtobuf(t); r.Id != 1 || r.Connect.GetPing() != 25 {
			t.Fatalf("got %v", r)
		}
		if r := c.ReadsProtobuf(t); r.Id != 2 || !r.Subscribe.GetRecoverable() {
			t.Fatalf("got %v", r)
		}
	}
	raw, jsonClient := clienttest.Dial(t, s, "/ws/x"), member(t, s, "")
	jsonClient.Joins("x")
	c.SendsProtobuf(&protocol.Command{Id: 3, Publish: &protocol.PublishRequest{Channel: "x", Data: []byte("\xff\x00")}})
	if r := c.ReadsProtobuf(t); r.Id != 3 || r.Publish == nil {
		t.Fatalf("got %v", r)
	}
	for _, c := range []*clienttest.Client{c, other} {
		if r := c.ReadsProtobuf(t); string(r.Push.GetPub().GetData()) != "\xff\x00" || r.Push.GetChannel() != "x" || r.Push.Pub.Offset != 1 {
			t.Fatalf("got %v", r)
		}
	}
	raw.WantBinary("raw clients get the bytes", "\xff\x00")
	jsonClient.WantTold("clients of JSON get them in base64", `{"push":{"channel":"x","pub":{"data":{"base64":"/wA="},"info":{"user":"","client":"ID"},"offset":1}}}`)
}

// A channel's name may have slashes, and a pattern is no reason to hold all loops up.
func TestPatternsOfChannels(t *testing.T) {
	t.Parallel()
	s := start(t, Config{})
	clienttest.Dial(t, s, "/ws/"+url.PathEscape("a/b:c"))
	n := s.node
	for pattern, want := range map[string]int{"": 1, "*": 1, "a*": 1, "a/*": 1, "a?b:c": 1, "b*": 0, `a\/b:c`: 1, "a[./]b:c": 1} {
		if got, err := n.Channels(t.Context(), pattern); len(got.Channels) != want || err != nil {
			t.Errorf("%q: got %v, %v, want %d", pattern, got, err, want)
		}
	}
	for _, pattern := range []string{"[", strings.Repeat("*", 1<<20)} {
		if got, err := n.Channels(t.Context(), pattern); !errors.Is(err, api.ErrBadRequest) {
			t.Errorf("%.10q: got %v, %v", pattern, got, err)
		}
	}
}
