package toytest

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"sluice/gateway/channel"
	"sluice/gateway/clienttest"
	"sluice/gateway/edge"
	"sluice/gateway/loop"
)

// dial connects a client over WebSocket.
func dial(t testing.TB, s *server, user string) *clienttest.Client {
	t.Helper()
	c := clienttest.Dial(t, s, "/toy?user="+user)
	c.WantText("the greeting", "hello "+user)
	return c
}

// stream connects a client of a stream.
func stream(c *clienttest.Client, user, name string) *clienttest.Client {
	c.T.Helper()
	c.Stream("/toy/stream/" + name + "?user=" + user)
	if got, want := c.Event(), "data: hello "+user+"\n"; !strings.HasSuffix(got, want) { // behind what every stream begins with
		c.T.Fatalf("the greeting is %q, want %q", got, want)
	}
	c.WantEvent("it is in", "data: joined "+name+"\n")
	return c
}

// asks sends a line and reads the answer.
func asks(c *clienttest.Client, line, answer string) {
	c.T.Helper()
	c.Send(clienttest.Text(line))
	c.WantText(line, answer)
}

func TestTwoChannelsOfWhichOneIsWithoutEcho(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	a, b := dial(t, s, "ann"), dial(t, s, "bob")
	for _, c := range []*clienttest.Client{a, b} {
		asks(c, "join talk", "joined talk")
		asks(c, "quiet keys", "joined keys")
	}
	asks(a, "say 1 talk one", "ok 1")
	a.WantText("it hears itself", "talk 1 one")
	asks(a, "say 2 keys two", "ok 2")
	b.WantText("the other hears it", "talk 1 one")
	b.WantText("in both channels", "keys 1 two")
	asks(b, "say 3 keys three", "ok 3")
	a.WantText("its own was left out before", "keys 2 three")
	asks(a, "leave talk", "left talk")
	asks(b, "say 4 talk four", "ok 4")
	b.WantText("the other channel is there", "talk 2 four")
	asks(b, "say 5 keys five", "ok 5")
	a.WantText("nothing of a channel that it left", "keys 3 five")
}

func TestRights(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	c := dial(t, s, "ann")
	asks(c, "join nowhere:talk", "left nowhere:talk")
	asks(c, "say 1 talk one", "no 1 permission denied")
	asks(c, "say 2 nowhere:talk two", "no 2 unknown channel")
	asks(c, "join talk", "joined talk")
	asks(c, "say 3 talk three", "ok 3")
}

func TestRequestsAreRefused(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	for target, status := range map[string]int{"/toy": http.StatusBadRequest, "/toy?user=%": http.StatusBadRequest, "/other": http.StatusNotFound} {
		c := clienttest.Connect(t, s)
		c.Write(clienttest.UpgradeTo(target))
		c.WantStatus(target, status)
	}
}

func TestStream(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	e, w := stream(clienttest.Connect(t, s), "eve", "talk"), dial(t, s, "ann")
	asks(w, "join talk", "joined talk")
	asks(w, "say 1 talk one", "ok 1")
	w.WantText("over WebSocket", "talk 1 one")
	e.WantEvent("the same as an event", "data: talk 1 one\n")
	s.act("eve", &loop.DisconnectAction{})
	e.WantEvent("the end", "event: close\ndata: {\"code\":4003,\"reason\":\"toy: disconnected\"}\n")
	e.WantEOF("the stream ends")
}

func TestPings(t *testing.T) {
	t.Parallel()
	s := serve(t, func(_ *edge.Config, cfg *loop.Config) {
		cfg.PingInterval, cfg.PongTimeout, cfg.Seconds = 4*time.Second, 10*time.Second, nil // seconds pass when the test says so
	})
	c, silent := dial(t, s, "ann"), dial(t, s, "bob")
	e := stream(clienttest.Connect(t, s), "eve", "talk")
	pings := 0
	for range 4 { // it is pinged although it is not silent
		s.Pass(1)
		c.Send(clienttest.Text("who talk"))
		for _, got, err := c.Next(); got != "who talk eve"; _, got, err = c.Next() {
			if pings++; err != nil || got != "." {
				t.Fatalf("got %q, %v", got, err)
			}
		}
	}
	if pings != 1 {
		t.Errorf("it got %d pings of the protocol's own", pings)
	}
	silent.WantText("a ping", ".")
	e.Lines(t, ":") // a comment
	c.Send(clienttest.Text("."))
	clienttest.WaitFor(t, "the answer to arrive", func() bool { return s.Received() == 5 })
	s.Pass(10)
	silent.WantClose("it did not answer", closeCodes[loop.ReasonNoPong])
	c.WantText("the next ping", ".")
	e.Lines(t, ":")
	asks(c, "who talk", "who talk eve")
}

func TestPresence(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	a := dial(t, s, "ann")
	asks(a, "join talk", "joined talk")
	asks(a, "who talk", "who talk ann")
	b, e := dial(t, s, "bob"), stream(clienttest.Connect(t, s), "eve", "talk")
	asks(b, "join talk", "joined talk")
	asks(a, "who talk", "who talk ann,bob,eve")
	asks(b, "leave talk", "left talk")
	asks(a, "who talk", "who talk ann,eve")
	e.Vanish()
	clienttest.WaitFor(t, "the stream's subscriber to leave", func() bool { return s.present.Len() == 1 })
	asks(a, "who talk", "who talk ann")
}

func TestAPI(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	a, again, b := dial(t, s, "ann"), dial(t, s, "ann"), dial(t, s, "bob")
	s.act("ann", &loop.SubscribeAction{Channel: "talk"})
	for _, c := range []*clienttest.Client{a, again} {
		c.WantText("it is subscribed", "joined talk")
	}
	s.act("ann", &loop.UnsubscribeAction{})
	for _, c := range []*clienttest.Client{a, again} {
		c.WantText("and is not any more", "left talk")
	}
	s.act("ann", &loop.DisconnectAction{Given: true, Code: 4100, Text: "enough"})
	for _, c := range []*clienttest.Client{a, again} {
		c.WantClose("with the code that the API gave", 4100)
	}
	asks(b, "who talk", "who talk ") // others are still there
	s.act("bob", &loop.RefreshAction{Expired: true})
	b.WantClose("a code of the common table", 3005)
}

func TestCloseCodes(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	for _, line := range []string{"dance", "say", "say x talk text"} {
		c := dial(t, s, "ann")
		c.Send(clienttest.Text(line))
		c.WantClose(line, closeCodes[loop.ReasonBadCommand])
	}
	c := dial(t, s, "ann")
	c.Send(clienttest.Closing(1000, ""))
	c.WantClose("its own code is returned", 1000)
}

// A client that is over a limit is sent the reason by its protocol, which has not opened it.
func TestRefusedWithAReason(t *testing.T) {
	t.Parallel()
	s := serve(t, func(door *edge.Config, _ *loop.Config) { door.MaxConnections, door.CloseRefused = 1, true })
	c := dial(t, s, "ann")
	refused := clienttest.Dial(t, s, "/toy?user=bob")
	refused.WantText("the greeting", "hello bob")
	refused.WantClose("it is one too many", 1013)
	asks(c, "who talk", "who talk ")
}

// A panic in the protocol's code costs the connection that it happened for, and no other.
func TestPanicCostsOneConnection(t *testing.T) {
	t.Parallel()
	s := serve(t, func(_ *edge.Config, cfg *loop.Config) {
		cfg.Filter = func(string, []byte, bool, uint64) bool { panic("planted") }
	})
	a, b := dial(t, s, "ann"), dial(t, s, "bob")
	asks(a, "join talk", "joined talk")
	asks(b, "join talk", "joined talk")
	a.Send(clienttest.Text("say 1 talk one"))
	a.WantClose("it panics", closeCodes[loop.ReasonPanic])
	clienttest.WaitFor(t, "its subscription to end", func() bool { return s.present.Len() == 1 })
	asks(b, "who talk", "who talk bob")
}

// A client that is too slow for one of its channels is notified of a gap in it, goes on with the
// newest, and has missed nothing in the other. The publisher, a client as well, has to wait
// meanwhile, and is answered for all that it says.
func TestSlowClientSkips(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	slow := clienttest.ConnectWith(t, s, 4<<10)
	slow.Upgrade("/toy?user=slow")
	slow.WantText("the greeting", "hello slow")
	asks(slow, "join much", "joined much")
	asks(slow, "join little", "joined little")
	fast := dial(t, s, "fast")
	asks(fast, "quiet much", "joined much")
	asks(fast, "quiet little", "joined little")
	n, much := 0, 0
	say := func(name, text string) {
		if n++; name == "much" {
			much++
		}
		asks(fast, fmt.Sprintf("say %d %s %s", n, name, text), fmt.Sprintf("ok %d", n))
	}
	say("little", "first")
	for s.skips() == 0 {
		say("much", clienttest.Stars(8<<10))
	}
	say("little", "second")
	say("much", "last")

	last, littles, gaps := 0, 0, 0
	for last < much || littles < 2 {
		_, line, err := slow.Next()
		if err != nil {
			t.Fatal(err)
		}
		if line == "gap much" {
			slow.WantText("it is in again", "joined much")
			gaps, last = gaps+1, 0
			say("much", "newest") // it can have skipped the last one as well
			continue
		}
		var name, text string
		offset := 0
		if _, err := fmt.Sscan(line, &name, &offset, &text); err != nil {
			t.Fatalf("%.40q: %v", line, err)
		}
		switch {
		case name == "little":
			if littles++; offset != littles {
				t.Fatalf("in the channel in which it is not slow, %d follows %d", offset, littles-1)
			}
		case offset != last+1 && last > 0:
			t.Fatalf("%d follows %d without a gap", offset, last)
		default:
			last = offset
		}
	}
	if gaps == 0 || uint64(gaps) != s.skips() || last != much {
		t.Errorf("it was notified of %d gaps after %d skips, and is at %d of %d", gaps, s.skips(), last, much)
	}
}

// The channel's only subscriber is a stream, and ends its log when it skips. Until its socket takes
// bytes again it is not present.
func TestSlowStreamSkips(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	slow, other := clienttest.ConnectWith(t, s, 4<<10), dial(t, s, "ann")
	stream(slow, "slow", "much")
	asks(other, "who much", "who much slow")
	for n := range uint64(2) {
		for s.skips() == n {
			s.publish("much", clienttest.Stars(8<<10))
		}
		clienttest.WaitFor(t, "it not to be present", func() bool { return s.present.Len() == 0 })
		if n > 0 {
			break
		}
		for slow.Event() != "data: gap much\n" {
		}
		slow.WantEvent("it is in again", "data: joined much\n")
		asks(other, "who much", "who much slow")
		s.publish("much", "last")
		for !strings.HasSuffix(slow.Event(), " last\n") {
		}
	}
	slow.Vanish()
	clienttest.WaitFor(t, "it to be gone", func() bool { return s.connections() == 1 })
	asks(other, "who much", "who much ")
}

// A gap in a channel is told in its place in the order, and costs nobody the subscription.
func TestGap(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	a, e := dial(t, s, "ann"), stream(clienttest.Connect(t, s), "eve", "talk")
	asks(a, "quiet talk", "joined talk")
	s.publish("talk", "one")
	ch := s.space.Find("talk")
	p := channel.Publication{Channel: "talk", Payload: []byte("four"), Epoch: ch.Epoch(), Offset: 4, Prev: 3}
	ch.Append(&p, new(channel.Scratch))
	for _, line := range []string{"talk 1 one", "gap talk", "talk 4 four"} {
		a.WantText("over WebSocket", line)
		e.WantEvent("as an event", "data: "+line+"\n")
	}
	asks(a, "who talk", "who talk ann,eve")
}

// What is saved of a connection makes the same one elsewhere; another version, and a part of a
// value, make none.
func TestSaved(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	a := dial(t, s, "ann")
	asks(a, "join talk", "joined talk")
	asks(a, "quiet keys", "joined keys")
	stream(clienttest.Connect(t, s), "eve", "talk")
	s.WantSaved()
	s.act("ann", &loop.DisconnectAction{Given: true, Code: 4100, Text: "enough"})
	s.WantSaved()
}
