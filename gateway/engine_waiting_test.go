package gateway

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"sluice/gateway/access/auth"
	"sluice/gateway/clienttest"
	"sluice/gateway/engine/enginetest"
	"sluice/gateway/loop"

	"github.com/google/go-cmp/cmp"
)

const unavailable = `{"id":%d,"error":{"code":100,"message":"internal server error","temporary":true}}`

// parked counts the connections that wait for an answer and are not read.
func (s *server) parked() (n int) {
	s.T.Helper()
	s.Each(func(c *loop.Conn) {
		if c.Parked() {
			n++
		}
	})
	return n
}

// A subscriber whose channel does not attach is notified after 5 s, and keeps everything else.
func TestSubscribersWaitForTheEngine(t *testing.T) {
	t.Parallel()
	store, servers := startLate(t, 1, Config{PingInterval: -1}, 1, enginetest.Trouble{Delay: time.Millisecond}, false)
	s := servers[0]
	session := member(t, s, "")
	s.Pass(0) // time stands, however long this takes
	resume := store.Stall()
	raw, record, stream := clienttest.Ask(t, s, "/ws/x"), clienttest.Ask(t, s, "/ws/x?format=json&since=now"), clienttest.Connect(t, s)
	stream.AskForStream("/sse/x")
	session.Does(`{"id":2,"subscribe":{"channel":"x"}}`, `{"id":3,"history":{"channel":"x","limit":1}}`)
	gone := clienttest.Ask(t, s, "/ws/y")
	clienttest.WaitFor(t, "all to wait", func() bool { return s.parked() == 5 })
	gone.Vanish()
	s.Quiet()
	s.Pass(4)
	for _, c := range []*clienttest.Client{raw, record, session} {
		c.WantIdle(s, "the engine may still answer")
	}
	s.Pass(2)
	for _, c := range []*clienttest.Client{raw, record} {
		c.WantUpgrade("it learns the reason")
		c.WantClose("its channel is not there", 1013)
	}
	stream.WantStream("it learns the reason")
	if got := stream.Event(); !strings.HasSuffix(got, "\nevent: close\ndata: {\"code\":1013,\"reason\":\"unavailable: try again later\"}\n") {
		t.Errorf("the stream got %q", got)
	}
	session.WantTold("its command fails", fmt.Sprintf(unavailable, 2))
	s.Pass(6)
	session.WantTold("the next one waits for itself", fmt.Sprintf(unavailable, 3))
	clienttest.WaitFor(t, "the channels to end", func() bool { return s.space.Channels() == 0 })
	resume()
	session.Joins("x")
	s.publish("x", `1`)
	if got := session.Told("it goes on"); !strings.Contains(got, `"data":1`) {
		t.Errorf("got %s", got)
	}
	session.Vanish()
	clienttest.WaitFor(t, "everybody to be gone", func() bool { return s.connections() == 0 })
	if diff := cmp.Diff([]string(nil), store.Attached()); diff != "" {
		t.Errorf("attached (-want +got):\n%s", diff)
	}
}

// Subscribers that are gone do not wait for the engine. What one has published behind its subscription
// is published.
func TestSubscribersThatAreGoneDoNotWait(t *testing.T) {
	t.Parallel()
	store, servers := startLate(t, 1, Config{PingInterval: -1}, 1, enginetest.Trouble{Delay: time.Millisecond}, false)
	s := servers[0]
	open := []*clienttest.Client{member(t, s, ""), member(t, s, ""), member(t, s, "")}
	resume := store.Stall()
	open = append(open, clienttest.Ask(t, s, "/ws/a"), clienttest.Ask(t, s, "/ws/a?format=json&since=now"), clienttest.Ask(t, s, "/ws/b"))
	open[0].Does(`{"id":2,"subscribe":{"channel":"a"}}`)
	open[1].Send(clienttest.Text(`{"id":2,"subscribe":{"channel":"a"}}` + "\n" + `{"id":3,"subscribe":{"channel":"c"}}`))
	open[2].Send(clienttest.Text(`{"id":2,"subscribe":{"channel":"a"}}` + "\n" + `{"id":3,"publish":{"channel":"d","data":"centrifugo"}}`))
	open[5].Send(clienttest.Text("raw"))
	stream := clienttest.Connect(t, s)
	stream.AskForStream("/sse/a")
	clienttest.WaitFor(t, "all to wait", func() bool { return s.parked() == 7 })
	stream.Conn.Close() // ignored, as below: then it is not gone
	for i, c := range open {
		if i%2 == 0 {
			c.Conn.Close()
		} else {
			c.Vanish()
		}
	}
	s.wantConnections(2) // the clock stands
	if n := s.parked(); n != 2 {
		t.Errorf("%d wait", n)
	}
	resume()
	s.wantConnections(0)
	for name, want := range map[string]string{"b": "raw", "d": `"centrifugo"`} {
		if got := store.Ever(name); len(got) != 1 || got[0].Payload != want {
			t.Errorf("in %s is %v, want %s", name, got, want)
		}
	}
	if n := s.Held(); n != 0 {
		t.Errorf("%d bytes are held", n)
	}
}

// The server's API ends subscriptions that wait for their channel, of the client's own and of the API's.
func TestSubscriptionsThatWaitAreEnded(t *testing.T) {
	t.Parallel()
	cfg := guarded(t, rightsFile)
	cfg.PingInterval = -1
	store, servers := startLate(t, 1, cfg, 1, enginetest.Trouble{Delay: time.Millisecond}, false)
	s := servers[0]
	c := member(t, s, tokens(t, auth.Claims{User: "42"}))
	resume := store.Stall()
	c.Send(clienttest.Text(`{"id":2,"subscribe":{"channel":"users:a"}}` + "\n" + `{"id":3,"ping":{}}`))
	clienttest.WaitFor(t, "it to wait", func() bool { return s.parked() == 1 })
	subscribed := make(chan string, 2)
	for _, name := range []string{"users:b", "users:c"} {
		go func() { subscribed <- s.api("subscribe", `{"user":"42","channel":"`+name+`"}`) }()
		clienttest.WaitFor(t, "its subscription to wait", func() bool { return s.space.Find(name) != nil })
	}
	for _, name := range []string{"users:a", "users:b"} {
		s.wantAPI("unsubscribe", `{"user":"42","channel":"`+name+`"}`, `{"result":{"partial":true}}`) // other nodes cannot be asked
	}
	resume()
	for range cap(subscribed) {
		clienttest.Receive(t, "the API's answer", subscribed) // whichever: the store stood still for some time
	}
	got := []string{c.Told("its command fails"), c.Told("the next one"), c.Told("the subscription that was not ended")}
	slices.Sort(got)
	want := []string{`{"id":2,"error":{"code":103,"message":"permission denied"}}`, `{"id":3,"ping":{}}`, `{"push":{"channel":"users:c","subscribe":{}}}`}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("told (-want +got):\n%s", diff)
	}
	for _, name := range []string{"users:a", "users:b", "users:c"} {
		s.publish(name, `1`)
	}
	if got := c.Told("it has one channel"); !strings.Contains(got, `"channel":"users:c","pub"`) {
		t.Errorf("got %s", got)
	}
	if n := len(store.Attached()); n != 1 {
		t.Errorf("%d channels are attached", n)
	}
	s.wantAPI("subscribe", `{"user":"42","channel":"users:a"}`, `{"result":{}}`)
	c.WantTold("it may come again", `{"push":{"channel":"users:a","subscribe":{}}}`)
}

// The server's API reports a subscription whose channel cannot be made ready, and one that is late.
func TestSubscriptionsThatFailAreReported(t *testing.T) {
	t.Parallel()
	cfg := guarded(t, rightsFile)
	cfg.PingInterval = -1
	store, servers := startLate(t, 1, cfg, 1, enginetest.Trouble{Delay: time.Millisecond}, false)
	s := servers[0]
	c := member(t, s, tokens(t, auth.Claims{User: "42"}))
	const unavailable = `{"error":{"code":100,"message":"the engine is unavailable or did not answer in time","temporary":true}}`
	back := store.Away()
	s.wantAPI("subscribe", `{"user":"42","channel":"users:a"}`, unavailable)
	back()
	resume := store.Stall()
	s.wantAPI("subscribe", `{"user":"42","channel":"users:a"}`, unavailable) // after engine.Patience
	resume()
	c.WantTold("the channel has come", `{"push":{"channel":"users:a","subscribe":{}}}`)
	s.wantAPI("subscribe", `{"user":"42","channel":"users:b"}`, `{"result":{}}`)
	c.WantTold("it is there when the API answers", `{"push":{"channel":"users:b","subscribe":{}}}`)
	s.wantAPI("subscribe", `{"user":"nobody","channel":"users:c"}`, `{"result":{}}`)
}

// A publication that is not acknowledged ends a raw connection after a while, and fails a command of
// Centrifugo's protocol.
func TestPublishersWaitForTheEngine(t *testing.T) {
	t.Parallel()
	store, servers := startLate(t, 1, Config{PingInterval: -1}, 1, enginetest.Trouble{Delay: time.Millisecond}, false)
	s := servers[0]
	raw, session := clienttest.Dial(t, s, "/ws/x"), member(t, s, "")
	session.Joins("y")
	raw.Send(clienttest.Text("before"))
	raw.WantText("it is stored", "before")
	clienttest.WaitFor(t, "its publisher to know", func() bool { return s.parked() == 0 })
	s.Pass(0) // time stands, however long this takes
	resume := store.Stall()
	raw.Send(clienttest.Text("m"), clienttest.Text("behind"))
	session.Does(`{"id":3,"publish":{"channel":"y","data":1}}`)
	clienttest.WaitFor(t, "both to wait", func() bool { return s.parked() == 2 })
	s.Quiet()
	s.Pass(4)
	raw.WantIdle(s, "the engine may still answer")
	session.WantIdle(s, "the engine may still answer")
	s.Pass(2)
	raw.WantClose("nobody knows whether it is stored", 1013)
	session.WantTold("nobody knows whether it is stored", fmt.Sprintf(unavailable, 3))
	resume()
	if got := session.Told("it was stored"); !strings.Contains(got, `"data":1`) {
		t.Errorf("got %s", got)
	}
	clienttest.WaitFor(t, "the other one to be stored", func() bool { return len(store.Ever("x")) == 2 })
	s.wantAPI("history", `{"channel":"x","limit":0}`, `{"result":{"publications":[],"epoch":"E","offset":`+fmt.Sprint(store.Ever("x")[1].At.Offset)+`}}`)
	var stored []string
	for _, p := range store.Ever("x") {
		stored = append(stored, p.Payload)
	}
	if diff := cmp.Diff([]string{"before", "m"}, stored); diff != "" {
		t.Errorf("stored (-want +got):\n%s", diff)
	}
}

// A client with echo=off gets everything but its own messages, on whichever node others are.
func TestNoEchoOnThreeNodes(t *testing.T) {
	t.Parallel()
	_, servers := startLate(t, 3, Config{PingInterval: -1}, 1, enginetest.Trouble{Delay: time.Millisecond}, false)
	var clients []*clienttest.Client
	for _, s := range servers {
		clients = append(clients, clienttest.Dial(t, s, "/ws/x?echo=off"))
	}
	for _, s := range servers {
		clienttest.WaitFor(t, "its client to be subscribed", func() bool { ch := s.space.Find("x"); return ch != nil && ch.Subscribers() == 1 })
	}
	for i, c := range clients {
		text := fmt.Sprint("from node ", i)
		c.Send(clienttest.Text(text))
		for j, other := range clients {
			if j != i {
				other.WantText("it is another's", text)
			}
		}
	}
	servers[0].publish("x", "end")
	for _, c := range clients {
		c.WantText("nothing of its own came before", "end")
	}
}

// A subscription that waits for its channel takes little beside its connection: a raw one has its response, too. Not parallel: it measures the
// process's memory.
func TestMemoryOfWaitingSubscriptions(t *testing.T) {
	const clients = 400
	most := 512
	if *clienttest.Deflated {
		most += 128 // the response names the extension
	}
	for _, test := range []struct {
		name       string
		most       int
		sends      int // messages before it is at rest, and as many until it waits
		rest, wait func(s *server) *clienttest.Client
	}{
		{"raw", most, 0, func(s *server) *clienttest.Client { return clienttest.Dial(t, s, "/echo") }, func(s *server) *clienttest.Client { return clienttest.Ask(t, s, "/ws/x") }},
		{"centrifugo", most, 1, func(s *server) *clienttest.Client { return member(t, s, "") }, func(s *server) *clienttest.Client {
			c := member(t, s, "")
			c.Does(`{"id":2,"subscribe":{"channel":"x"}}`)
			return c
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			store, servers := startLate(t, 1, Config{PingInterval: -1, Loops: 1}, 1, enginetest.Trouble{Delay: time.Millisecond}, false)
			s := servers[0]
			resume := store.Stall()
			defer resume()
			memory := func(open func(s *server) *clienttest.Client, sends int) int {
				want := s.Received() + uint64(sends*clients)
				before := heap()
				all := make([]*clienttest.Client, 0, clients)
				for range clients {
					all = append(all, open(s))
				}
				clienttest.WaitFor(t, "what they have sent to be read", func() bool { return s.Received() >= want && s.connections() == clients })
				s.Quiet()
				after := heap()
				for _, c := range all {
					c.Vanish()
				}
				clienttest.WaitFor(t, "all to be gone", func() bool { return s.connections() == 0 })
				return int(after-before) / clients
			}
			memory(test.wait, 2*test.sends) // what grows once is there
			more := 0
			for range 5 { // something else in the process may have allocated meanwhile
				if more = memory(test.wait, 2*test.sends) - memory(test.rest, test.sends); more <= test.most {
					return
				}
			}
			t.Errorf("a subscription that waits takes %d bytes, want %d at most", more, test.most)
		})
	}
}

// A client that waits for its channel before it is answered is not pinged: it would take that for its answer.
func TestClientsAreNotPingedBeforeTheirResponse(t *testing.T) {
	t.Parallel()
	store, servers := startLate(t, 1, Config{PingInterval: time.Second, PongTimeout: 10 * time.Second}, 1, enginetest.Trouble{Delay: time.Millisecond}, false)
	s := servers[0]
	s.Pass(0) // time stands, however long this takes
	resume := store.Stall()
	raw, stream := clienttest.Ask(t, s, "/ws/x"), clienttest.Connect(t, s)
	stream.AskForStream("/sse/x")
	clienttest.WaitFor(t, "both to wait", func() bool { return s.parked() == 2 })
	for range 3 {
		s.Pass(1)
	}
	raw.WantIdle(s, "its channel is not there")
	stream.WantIdle(s, "its channel is not there")
	resume()
	raw.WantUpgrade("its channel is there")
	stream.WantStream("its channel is there")
	s.Pass(2)
	raw.WantPing("2 s of silence")
}
