package gateway

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestMessageGoesToEveryoneOnItsChannelUnchanged(t *testing.T) {
	t.Parallel()
	s := start(t, Config{History: -1})
	a, b, other := dial(t, s, "/ws/news"), dial(t, s, "/ws/news"), dial(t, s, "/ws/sport")
	for _, c := range []*client{a, b} { // one of each loop publishes
		c.send(text("plain"), bin("\x00\xff"), part(0x01, "jo"), part(0x00, ""), part(0x80, "ined"), part(0x02, "\xfe"), part(0x80, "\xff"), text(""))
		for _, got := range []*client{a, b} {
			got.wantText("text stays text", "plain")
			got.wantBinary("binary stays binary", "\x00\xff")
			got.wantText("fragments are joined", "joined")
			got.wantBinary("binary fragments, too", "\xfe\xff")
			got.wantText("a message may be empty", "")
		}
	}
	other.wantIdle(s, "it is on another channel")
	if r := s.publish("news", "from outside"); r.Offset != 11 || r.Subscribers != 2 || r.Epoch == 0 {
		t.Errorf("got receipt %+v, want offset 11 and 2 subscribers", r)
	}
	a.wantText("the API publishes, too", "from outside")
	b.wantText("the API publishes, too", "from outside")
	if r := s.publish("nobody", "lost"); r != (Receipt{}) {
		t.Errorf("got receipt %+v where nobody listens, want none", r)
	}
	if got := s.deliveries(); got != 22 {
		t.Errorf("%d deliveries are counted, want 22", got)
	}
}

func TestEchoOffLeavesOutTheClientsOwnMessages(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Loops: 1})
	quiet, loud := dial(t, s, "/ws/x?echo=off"), dial(t, s, "/ws/x?echo=on")
	quiet.send(text("own"))
	loud.wantText("everybody else gets it", "own")
	quiet.wantIdle(s, "it wants nothing of its own")

	// Own and others' messages lie mixed in the log and are due at once.
	release := s.hold(0)
	var want []string
	for i := range 40 {
		who, name := quiet, "own"
		if i%5 > 2 || i%7 == 0 {
			who, name = loud, "other"
			want = append(want, fmt.Sprint(name, i))
		}
		who.send(text(fmt.Sprint(name, i)))
	}
	release()
	for _, p := range want {
		quiet.wantText("others' messages come, in order", p)
	}
	quiet.settle(s)
	quiet.wantIdle(s, "own messages never come")
	_, _ = loud.wantAny(40)
	if n := s.deliveries(); n != 41+uint64(len(want)) {
		t.Errorf("%d deliveries are counted, want %d", n, 41+len(want))
	}
}

// wantAny reads so many frames.
func (c *client) wantAny(n int) (payloads []string, bytes int) {
	c.t.Helper()
	for i := range n {
		_, p, err := c.next()
		if err != nil {
			c.t.Fatalf("frame %d of %d: %v", i+1, n, err)
		}
		payloads = append(payloads, p)
		bytes += len(p)
	}
	return payloads, bytes
}

func TestEchoOffKeepsTheOrderWhileBlocked(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Loops: 1, SendBuffer: 4 << 10, ChannelBuffer: 1 << 20})
	quiet := connectWith(t, s, 4<<10)
	quiet.upgrade("/ws/x?echo=off")
	other := dial(t, s, "/ws/x?mode=publish")
	var want []string
	for i, p := range numbered(200, 1000) {
		who := quiet
		if i%3 != 0 {
			who = other
			want = append(want, p)
		}
		who.send(text(p))
		other.wantText("in the order of publishing", p)
	}
	if s.blocked() == 0 {
		t.Fatal("the client that does not read is not blocked")
	}
	for i, p := range want {
		quiet.wantText(fmt.Sprint("others' message ", i), p)
	}
	quiet.settle(s)
	quiet.wantIdle(s, "nothing of its own")
}

func TestListenersMayNotPublish(t *testing.T) {
	t.Parallel()
	s := start(t, Config{})
	c, other := dial(t, s, "/ws?mode=subscribe"), dial(t, s, "/ws?mode=publish")
	other.send(text("hear this"))
	c.wantText("it may listen", "hear this")
	c.send(ping("and ping"))
	c.wantPong("control frames are no messages", "and ping")
	c.send(text("I say"))
	c.wantClose("it may not publish", 1008)
	s.wantClosed(reasonNotAllowed, 1)
	other.wantText("its own", "hear this")
	other.wantIdle(s, "nothing was published")
	other.settle(s)

	s = start(t, Config{Raw: RawListen})
	c = dial(t, s, "/ws/x?mode=publish")
	s.publish("x", "from the API")
	c.wantText("it listens", "from the API")
	c.send(text("I say"))
	c.wantClose("--raw listen", 1008)
	c = dial(t, s, "/echo")
	c.send(text("hello"))
	c.wantText("an echo publishes nothing", "hello")

	s = start(t, Config{Raw: RawOff})
	for _, target := range []string{"/", "/ws", "/ws/x", "/echo"} {
		c = connect(t, s)
		c.write(upgradeTo(target))
		c.wantStatus("--raw off: "+target, http.StatusNotFound)
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
		c := dial(t, s, target)
		if r := s.publish(name, target); r.Subscribers != 1 {
			t.Errorf("%s: channel %q has %d subscribers, want 1", target, name, r.Subscribers)
		}
		c.wantText(target, target)
		c.send(closing(1000, ""))
		c.wantClose(target, 1000)
	}
	for target, status := range map[string]int{
		"/ws/x?channel=y": 400, "/ws?channel=": 400, "/ws?channel=a&channel=b": 400, "/ws/" + long + "x": 400,
		"/ws/a%20b": 400, "/ws/%00": 400, "/ws/%ff": 400, "/ws/%E2%80%8A": 400, "/ws?channel=%": 400,
		"/ws?echo=maybe": 400, "/ws?mode=both": 400, "/ws?echo=on&echo=off": 400, "/echo?channel=x": 400,
		"/ws/": 404, "/ws/a/b": 404, "/wsx": 404, "/other": 404, "/echo/x": 404, "/healthz": 404,
	} {
		c := connect(t, s)
		c.write(upgradeTo(target))
		if a := c.wantStatus(target, status); !a.Close {
			t.Errorf("%s: the connection is kept", target)
		}
	}
}

func TestCompressionIsDeclined(t *testing.T) {
	t.Parallel()
	s := start(t, Config{})
	c := connect(t, s)
	if got := c.upgrade("/echo", "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"); got["Sec-Websocket-Extensions"] != nil {
		t.Errorf("extensions are answered with %q", got["Sec-Websocket-Extensions"])
	}
	c.send(part(0xc1, "\xaa\x56\x4a\x04\x00"))
	c.wantClose("a compressed message all the same", 1002)
}

func TestHookDecidesWhatIsPublished(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	s := start(t, Config{OnMessage: func(m Message) bool {
		asked.Add(1)
		if string(m.Payload) == "panic" {
			panic("by order of the test")
		}
		return m.Channel == "open" && m.Conn != 0 && !m.Binary
	}})
	a, b, shut := dial(t, s, "/ws/open"), dial(t, s, "/ws/open"), dial(t, s, "/ws/shut")
	a.send(text("yes"), bin("no"), text("yes again"))
	for _, c := range []*client{a, b} {
		c.wantText("the hook said yes", "yes")
		c.wantText("the hook said no to what was between", "yes again")
	}
	shut.send(text("no"))
	shut.settle(s)
	shut.wantIdle(s, "the hook said no")

	bystander := dial(t, s, "/ws/open") // on the same loop as one of them
	a.send(text("before"), text("panic"), text("behind"))
	a.wantText("what was before the panic", "before")
	a.wantClose("a panic costs the connection", 1011)
	for _, c := range []*client{b, bystander} {
		c.wantText("others do not notice", "before")
		c.settle(s)
		c.wantIdle(s, "what stood behind the panic is not published")
	}
	s.wantClosed(reasonPanic, 1)
	if n := s.sum(func(st *loopStats) uint64 { return st.panics.Load() }); n != 1 {
		t.Errorf("%d panics are counted, want 1", n)
	}
}

// A message that waits for room is still one message.
func TestHookSeesAMessageThatWaitedOnce(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	s := start(t, Config{MaxMessage: 1000, ChannelBuffer: 4 << 10, OnMessage: func(Message) bool {
		asked.Add(1)
		return true
	}})
	a, b := dial(t, s, "/ws/x"), dial(t, s, "/ws/x")
	release := s.hold(b.loopOf(s))
	texts := numbered(20, 500)
	for _, p := range texts {
		a.send(text(p))
	}
	waitFor(t, "the channel to push back", func() bool { return s.pushBacks() > 0 })
	release()
	for _, p := range texts {
		b.wantText("nothing is lost", p)
		a.wantText("nothing is lost", p)
	}
	if n := asked.Load(); n != int64(len(texts)) {
		t.Errorf("the hook was asked %d times about %d messages", n, len(texts))
	}
}

// loopOf finds the loop that a client's connection lives on.
func (c *client) loopOf(s *server) (index int) {
	c.t.Helper()
	before := make([]uint64, len(s.loop))
	for i, l := range s.loop {
		before[i] = l.stats.bytesIn.Load()
	}
	c.settle(s)
	for i, l := range s.loop {
		if l.stats.bytesIn.Load() != before[i] {
			return i
		}
	}
	c.t.Fatal("no loop read the client")
	return -1
}

func TestEmbeddedPublishSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	s := start(t, Config{MaxMessage: 1000})
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
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
