package gateway

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"sluice/gateway/clienttest"
	"sluice/gateway/hook"
	"sluice/gateway/loop"
)

func TestMessageGoesToEveryoneOnItsChannelUnchanged(t *testing.T) {
	t.Parallel()
	s := start(t, Config{History: -1})
	a, b, other := clienttest.Dial(t, s, "/ws/news"), clienttest.Dial(t, s, "/ws/news"), clienttest.Dial(t, s, "/ws/sport")
	for _, c := range []*clienttest.Client{a, b} { // one of each loop publishes
		c.Send(clienttest.Text("plain"), clienttest.Bin("\x00\xff"), clienttest.Part(0x01, "jo"), clienttest.Part(0x00, ""), clienttest.Part(0x80, "ined"), clienttest.Part(0x02, "\xfe"), clienttest.Part(0x80, "\xff"), clienttest.Text(""))
		for _, got := range []*clienttest.Client{a, b} {
			got.WantText("text stays text", "plain")
			got.WantBinary("binary stays binary", "\x00\xff")
			got.WantText("fragments are joined", "joined")
			got.WantBinary("binary fragments, too", "\xfe\xff")
			got.WantText("a message may be empty", "")
		}
	}
	other.WantIdle(s, "it is on another channel")
	if r := s.publish("news", "from outside"); r.Offset != 11 || r.Subscribers != 2 || r.Epoch == 0 {
		t.Errorf("got receipt %+v, want offset 11 and 2 subscribers", r)
	}
	a.WantText("the API publishes, too", "from outside")
	b.WantText("the API publishes, too", "from outside")
	if r := s.publish("nobody", "lost"); r != (Receipt{}) {
		t.Errorf("got receipt %+v where nobody listens, want none", r)
	}
	if got := s.Deliveries(); got != 22 {
		t.Errorf("%d deliveries are counted, want 22", got)
	}
}

func TestEchoOffLeavesOutTheClientsOwnMessages(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Loops: 1})
	quiet, loud := clienttest.Dial(t, s, "/ws/x?echo=off"), clienttest.Dial(t, s, "/ws/x?echo=on")
	quiet.Send(clienttest.Text("own"))
	loud.WantText("everybody else gets it", "own")
	quiet.WantIdle(s, "it wants nothing of its own")

	// Own and others' messages lie mixed in the log and are due at once.
	release := s.Hold(0)
	var want []string
	for i := range 40 {
		who, name := quiet, "own"
		if i%5 > 2 || i%7 == 0 {
			who, name = loud, "other"
			want = append(want, fmt.Sprint(name, i))
		}
		who.Send(clienttest.Text(fmt.Sprint(name, i)))
	}
	release()
	for _, p := range want {
		quiet.WantText("others' messages come, in order", p)
	}
	quiet.Settle(s)
	quiet.WantIdle(s, "own messages never come")
	_, _ = loud.WantAny(40)
	if n := s.Deliveries(); n != 41+uint64(len(want)) {
		t.Errorf("%d deliveries are counted, want %d", n, 41+len(want))
	}
}

// A connection's ID is its own among all nodes: a subscriber with echo=off is sent what another
// node's connection has published, however young both nodes are.
func TestNodesNeverShareIDs(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for range 2 {
		s := start(t, Config{})
		for range 10 {
			id := clienttest.Dial(t, s, "/ws/x?format=json&since=now").WantPosition("it learns its own ID", false, 0).Conn
			if n, err := strconv.ParseUint(id, 10, 64); err != nil || n < 1<<40 || seen[id] {
				t.Errorf("connection %q, %v: its ID is another's, or no node's", id, err)
			}
			seen[id] = true
		}
	}
}

func TestEchoOffKeepsTheOrderWhileBlocked(t *testing.T) {
	clienttest.UncompressedOnly(t)
	t.Parallel()
	s := start(t, Config{Loops: 1, SendBuffer: 4 << 10, ChannelBuffer: 1 << 20})
	quiet := clienttest.ConnectWith(t, s, 4<<10)
	quiet.Upgrade("/ws/x?echo=off")
	other := clienttest.Dial(t, s, "/ws/x?mode=publish")
	var want []string
	for i, p := range clienttest.Numbered(200, 1000) {
		who := quiet
		if i%3 != 0 {
			who = other
			want = append(want, p)
		}
		who.Send(clienttest.Text(p))
		other.WantText("in the order of publishing", p)
	}
	if s.Blocked() == 0 {
		t.Fatal("the client that does not read is not blocked")
	}
	for i, p := range want {
		quiet.WantText(fmt.Sprint("others' message ", i), p)
	}
	quiet.Settle(s)
	quiet.WantIdle(s, "nothing of its own")
}

func TestListenersMayNotPublish(t *testing.T) {
	t.Parallel()
	s := start(t, Config{})
	c, other := clienttest.Dial(t, s, "/ws?mode=subscribe"), clienttest.Dial(t, s, "/ws?mode=publish")
	other.Send(clienttest.Text("hear this"))
	c.WantText("it may listen", "hear this")
	c.Send(clienttest.Ping("and ping"))
	c.WantPong("control frames are no messages", "and ping")
	c.Send(clienttest.Text("I say"))
	c.WantClose("it may not publish", 1008)
	s.WantClosed(loop.ReasonNotAllowed, 1)
	other.WantText("its own", "hear this")
	other.WantIdle(s, "nothing was published")
	other.Settle(s)

	s = start(t, Config{Raw: RawListen})
	c = clienttest.Dial(t, s, "/ws/x?mode=publish")
	s.publish("x", "from the API")
	c.WantText("it listens", "from the API")
	c.Send(clienttest.Text("I say"))
	c.WantClose("--raw listen", 1008)
	c = clienttest.Dial(t, s, "/echo")
	c.Send(clienttest.Text("hello"))
	c.WantText("an echo publishes nothing", "hello")

	s = start(t, Config{Raw: RawOff})
	for _, target := range []string{"/", "/ws", "/ws/x", "/echo"} {
		c = clienttest.Connect(t, s)
		c.Write(clienttest.UpgradeTo(target))
		c.WantStatus("--raw off: "+target, http.StatusNotFound)
	}
}

func TestPathsLeadToChannels(t *testing.T) {
	t.Parallel()
	s := start(t, Config{WSPaths: []string{"/socket", "/live/"}})
	long := strings.Repeat("x", 255)
	for target, name := range map[string]string{
		"/": "lobby", "/ws": "lobby", "/socket": "lobby", "/live/": "lobby", "/?channel=q": "q", "/ws?other=1": "lobby",
		"/ws/a": "a", "/ws?channel=b": "b", "/socket/c": "c", "/live/d": "d", "/socket?channel=e": "e",
		"/ws/a%2Fb": "a/b", "/ws?channel=a/b/c": "a/b/c", "/ws/" + url.PathEscape("频道"): "频道", "/ws/a+b": "a+b", "/ws?channel=a%2Bb": "a+b",
		"/ws/" + long: long, "/ws/..": "..",
	} {
		c := clienttest.Dial(t, s, target)
		if r := s.publish(name, target); r.Subscribers != 1 {
			t.Errorf("%s: channel %q has %d subscribers, want 1", target, name, r.Subscribers)
		}
		c.WantText(target, target)
		c.Send(clienttest.Closing(1000, ""))
		c.WantClose(target, 1000)
	}
	for target, status := range map[string]int{
		"/ws/x?channel=y": 400, "/ws?channel=": 400, "/ws?channel=a&channel=b": 400, "/ws/" + long + "x": 400,
		"/ws/a%20b": 400, "/ws/%00": 400, "/ws/%ff": 400, "/ws/%E2%80%8A": 400, "/ws?channel=%": 400,
		"/ws?echo=maybe": 400, "/ws?mode=both": 400, "/ws?echo=on&echo=off": 400, "/echo?channel=x": 400,
		"/ws/": 404, "/ws/a/b": 404, "/wsx": 404, "/other": 404, "/echo/x": 404, "/healthz": 404,
	} {
		c := clienttest.Connect(t, s)
		c.Write(clienttest.UpgradeTo(target))
		if a := c.WantStatus(target, status); !a.Close {
			t.Errorf("%s: the connection is kept", target)
		}
	}
}

func TestCompressionIsDeclined(t *testing.T) {
	clienttest.UncompressedOnly(t)
	t.Parallel()
	s := start(t, Config{})
	c := clienttest.Connect(t, s)
	if got := c.Upgrade("/echo", "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"); got["Sec-Websocket-Extensions"] != nil {
		t.Errorf("extensions are answered with %q", got["Sec-Websocket-Extensions"])
	}
	c.Send(clienttest.Part(0xc1, "\xaa\x56\x4a\x04\x00"))
	c.WantClose("a compressed message all the same", 1002)
}

func TestHookDecidesWhatIsPublished(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	s := start(t, Config{Hooks: filter(func(m hook.FilterRequest) bool {
		asked.Add(1)
		if string(m.Payload) == "panic" {
			panic("by order of the test")
		}
		return m.Channel == "open" && m.Conn != 0 && !m.Binary
	})})
	a, b, shut := clienttest.Dial(t, s, "/ws/open"), clienttest.Dial(t, s, "/ws/open"), clienttest.Dial(t, s, "/ws/shut")
	a.Send(clienttest.Text("yes"), clienttest.Bin("no"), clienttest.Text("yes again"))
	for _, c := range []*clienttest.Client{a, b} {
		c.WantText("the hook said yes", "yes")
		c.WantText("the hook said no to what was between", "yes again")
	}
	shut.Send(clienttest.Text("no"))
	shut.Settle(s)
	shut.WantIdle(s, "the hook said no")

	bystander := clienttest.Dial(t, s, "/ws/open") // on the same loop as one of them
	a.Send(clienttest.Text("before"), clienttest.Text("panic"), clienttest.Text("behind"))
	a.WantText("what was before the panic", "before")
	a.WantClose("a panic costs the connection", 1011)
	for _, c := range []*clienttest.Client{b, bystander} {
		c.WantText("others do not notice", "before")
		c.Settle(s)
		c.WantIdle(s, "what stood behind the panic is not published")
	}
	s.WantClosed(loop.ReasonPanic, 1)
	if n := s.Sum(func(st *loop.Stats) uint64 { return st.Panics.Load() }); n != 1 {
		t.Errorf("%d panics are counted, want 1", n)
	}
}

// A message that waits for room is still one message.
func TestHookSeesAMessageThatWaitedOnce(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	s := start(t, Config{MaxMessage: 1000, ChannelBuffer: 4 << 10, Hooks: filter(func(hook.FilterRequest) bool {
		asked.Add(1)
		return true
	})})
	a, b := clienttest.Dial(t, s, "/ws/x"), clienttest.Dial(t, s, "/ws/x")
	release := s.Hold(s.LoopOf(b))
	texts := clienttest.Numbered(20, 500)
	for _, p := range texts {
		a.Send(clienttest.Text(p))
	}
	clienttest.WaitFor(t, "the channel to push back", func() bool { return s.PushBacks() > 0 })
	release()
	for _, p := range texts {
		b.WantText("nothing is lost", p)
		a.WantText("nothing is lost", p)
	}
	if n := asked.Load(); n != int64(len(texts)) {
		t.Errorf("the hook was asked %d times about %d messages", n, len(texts))
	}
}

func TestEmbeddedPublishSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	s := start(t, Config{MaxMessage: 1000})
	ctx, cancel := context.WithTimeout(context.Background(), clienttest.Patience)
	defer cancel()
	for _, c := range []struct {
		m    Message
		want error
	}{
		{Message{Channel: "", Payload: []byte("x")}, ErrBadChannel},
		{Message{Channel: "a b", Payload: []byte("x")}, ErrBadChannel},
		{Message{Channel: "x", Payload: []byte("\xff")}, ErrBadText},
		{Message{Channel: "x", Payload: []byte("\xff"), Binary: true}, nil},
		{Message{Channel: "x", Payload: make([]byte, 1001)}, ErrTooBig},
		{Message{Channel: "x", Payload: make([]byte, 1000)}, nil},
	} {
		if _, err := s.Publish(ctx, c.m); err != c.want {
			t.Errorf("%.20q into %q: got %v, want %v", c.m.Payload, c.m.Channel, err, c.want)
		}
	}
}
