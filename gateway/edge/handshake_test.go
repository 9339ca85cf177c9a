package edge

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"sluice/gateway/clienttest"
	"sluice/gateway/looptest"

	coder "github.com/coder/websocket"
	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
	gorilla "github.com/gorilla/websocket"
)

func TestUpgradeAnswersTheKey(t *testing.T) {
	t.Parallel()
	s := start(t, settings{Subprotocols: []string{"superchat", "chat"}})
	for _, c := range []struct{ key, accept, offer, protocol string }{
		{"dGhlIHNhbXBsZSBub25jZQ==", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", "", ""},
		{"L7XSkAaV9mTTJbtCOhsZkg==", "nk/xVRZ0rn2kjrM6nr8O/elGToQ=", "other", ""},
		{"f7cb4ezEAl6C3wRaU6JORA==", "rE91AJhfC+6JdVcVXOGJEADEJdQ=", "other, superchat", "superchat"},
		{"x3JJHMbDL1EzLkh9GBhXDw==", "HSmrc0sMlYUkAGmm5OPpG2HaGWk=", "chat, superchat", "chat"},
	} {
		k := clienttest.Connect(t, s)
		head := strings.Replace(clienttest.UpgradeTo("/ws"), "dGhlIHNhbXBsZSBub25jZQ==", c.key, 1)
		if c.offer != "" {
			head = strings.Replace(head, "\r\n\r\n", "\r\nSec-WebSocket-Protocol: "+c.offer+"\r\n\r\n", 1)
		}
		k.Write(head)
		header := k.WantStatus("upgrade with "+c.key, http.StatusSwitchingProtocols).Header
		if got := header.Get("Sec-WebSocket-Accept"); got != c.accept {
			t.Errorf("key %s is accepted with %s, want %s", c.key, got, c.accept)
		}
		if got := header.Get("Sec-WebSocket-Protocol"); got != c.protocol {
			t.Errorf("offer %q is answered with %q, want %q", c.offer, got, c.protocol)
		}
		k.Settle(s)
	}
}

// Which origins are another's is tested in package handshake.
func TestPagesOfOtherOriginsAreRefusedUnlessTheyAreListed(t *testing.T) {
	t.Parallel()
	var log clienttest.Records
	logger := slog.New(slog.NewTextHandler(&log, nil))
	strict := start(t, settings{Logger: logger})
	listed := start(t, settings{Logger: logger, Origins: []string{"https://*.example.org", "null"}})
	open := start(t, settings{Origins: []string{"*"}})
	for _, c := range []struct {
		origin, host    string
		alone, withList bool
	}{
		{"https://example.com", "example.com", true, true},
		{"https://app.example.org", "gate.example.net", false, true},
		{"https://example.org", "gate.example.net", false, false},
		{"null", "localhost", false, true},
	} {
		for _, in := range []struct {
			s    *rig
			want bool
			how  string
		}{{strict, c.alone, "without a list"}, {listed, c.withList, "with a list"}, {open, true, "with *"}} {
			k := clienttest.Connect(t, in.s)
			k.Write(strings.Replace(clienttest.UpgradeTo("/ws", "Origin: "+c.origin), "Host: localhost", "Host: "+c.host, 1))
			status := http.StatusForbidden
			if in.want {
				status = http.StatusSwitchingProtocols
			}
			k.WantStatus(fmt.Sprintf("%q to %s %s", c.origin, c.host, in.how), status)
		}
	}
	if got := log.Text(); !strings.Contains(got, "AllowedOrigins") || !strings.Contains(got, "https://app.example.org") {
		t.Errorf("the log does not tell how to let an origin in: %q", got)
	}
	if n := strict.counted("origin"); n != 3 {
		t.Errorf("%d refusals are counted, want 3", n)
	}
}

// The classes of input that the libraries let pass, over a socket; the rest of
// the corpus is in package handshake.
func TestDefectiveHeadsAreRefusedOverASocket(t *testing.T) {
	t.Parallel()
	s := start(t, settings{})
	good := clienttest.UpgradeTo("/ws")
	edit := func(old, new string) string { return strings.Replace(good, old, new, 1) }
	add := func(line string) string { return strings.Replace(good, "\r\n\r\n", "\r\n"+line+"\r\n\r\n", 1) }
	const key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
	for _, c := range []struct {
		name, head string
		status     int
	}{
		{"line of 64 KiB", add("A: " + strings.Repeat("b", 64<<10)), 431},
		{"20,000 fields", add(strings.Repeat("A: b\r\n", 20_000) + "A: b"), 431},
		{"65 lines", add(strings.Repeat("A: b\r\n", 58) + "A: b"), 431},
		{"target of 5 KiB", edit("/ws", "/"+strings.Repeat("x", 5<<10)), 414},
		{"Content-Length", add("Content-Length: 5"), 400},
		{"Transfer-Encoding", add("Transfer-Encoding: chunked"), 400},
		{"both lengths", add("Content-Length: 5\r\nTransfer-Encoding: chunked"), 400},
		{"two keys", add(key), 400},
		{"two Hosts", add("Host: localhost"), 400},
		{"key that is no base64", edit("dGhlIHNhbXBsZSBub25jZQ==", "!!!!!!!!!!!!!!!!!!!!!!!!"), 400},
		{"no key", edit(key+"\r\n", ""), 400},
		{"space before the colon", add("Name : v"), 400},
		{"no field name", add(": v"), 400},
		{"bare LF", edit("Host: localhost\r\n", "Host: localhost\n"), 400},
		{"NUL in a value", add("A: b\x00c"), 400},
		{"CR in a value", add("A: b\rc"), 400},
		{"control byte in the target", edit("/ws", "/w\x01s"), 400},
		{"absolute target without a host", edit("/ws", "http:///ws"), 400},
		{"two empty lines first", "\r\n\r\n" + good, 400},
		{"request line of 4 parts", edit("GET /ws HTTP/1.1", "GET /ws x HTTP/1.1"), 400},
		{"POST", edit("GET", "POST"), 405},
		{"HTTP/1.0", edit("HTTP/1.1", "HTTP/1.0"), 400},
		{"version 8", edit("Version: 13", "Version: 8"), 426},
		{"no version", edit("Sec-WebSocket-Version: 13\r\n", ""), 426},
		{"Connection without Upgrade", edit("Connection: Upgrade", "Connection: close"), 400},
	} {
		k := clienttest.Connect(t, s)
		k.Conn.SetWriteDeadline(time.Now().Add(clienttest.Patience)) // ignored: then the write fails
		k.Conn.Write([]byte(c.head))                                 // ignored: a head that is too large is not taken whole
		if a := k.WantStatus(c.name, c.status); !a.Close || !strings.HasSuffix(a.Body, ".\n") {
			t.Errorf("%s: got body %q, close %v, want a sentence and the end", c.name, a.Body, a.Close)
		}
		k.WantEOF(c.name)
	}
	clienttest.WaitFor(t, "the handshakes to end", func() bool { return s.handshakes() == 0 })
	if n := s.counted("upgraded"); n != 0 {
		t.Errorf("%d of them were upgraded", n)
	}
}

// What other people's clients send, and RFC 9110 and 9112 let them.
func TestUnusualHeadsAreServed(t *testing.T) {
	t.Parallel()
	s := start(t, settings{})
	good := clienttest.UpgradeTo("/echo")
	edit := func(old, new string) string { return strings.Replace(good, old, new, 1) }
	page := func(head string) string {
		return strings.Replace(head, "\r\n\r\n", "\r\nOrigin: http://a.example\r\n\r\n", 1)
	}
	for _, c := range []struct {
		name, head string
		status     int
	}{
		{"no subprotocol in the field", edit("\r\n\r\n", "\r\nSec-WebSocket-Protocol:\r\n\r\n"), 101},
		{"absolute target", edit("/echo", "http://localhost/echo"), 101},
		{"absolute target of the page's host", page(edit("/echo", "http://a.example/echo")), 101},
		{"absolute target of another than the page's host", page(edit("/echo", "http://b.example/echo")), 403},
		{"absolute target of another, the field has the page's host", page(strings.Replace(edit("/echo", "http://b.example/echo"), "Host: localhost", "Host: a.example", 1)), 403},
		{"empty line first", "\r\n" + good, 101},
		{"several protocols to upgrade to", edit(": websocket", ": h2c, websocket"), 101},
		{"absolute target, no upgrade", "GET http://localhost/healthz HTTP/1.1\r\nHost: x\r\n\r\n", 200},
		{"absolute target without a path, no upgrade", "GET http://localhost HTTP/1.1\r\nHost: x\r\n\r\n", 200},
		{"empty line first, no upgrade", "\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n", 200},
	} {
		for _, cut := range []int{0, 1, 2, len(c.head) - 1} {
			k := clienttest.Connect(t, s)
			if k.Write(c.head[:cut]); cut > 0 {
				clienttest.WaitFor(t, "the first piece to be read", func() bool { return s.waiting() == 1 })
			}
			if c.status != http.StatusSwitchingProtocols {
				k.Write(c.head[cut:])
				k.WantStatus(c.name, c.status)
				k.WantEOF(c.name)
				continue
			}
			k.Write(c.head[cut:] + clienttest.Text("behind"))
			k.WantUpgrade(c.name)
			k.WantText(c.name, "behind")
		}
	}
}

func TestBytesBehindTheHandshakeAreKept(t *testing.T) {
	t.Parallel()
	s := start(t, settings{})
	for _, size := range []int{0, 1, 500, 2000, 9 << 10, 60 << 10} {
		c := clienttest.Connect(t, s)
		p := strings.Repeat("x", size)
		c.Write(clienttest.UpgradeTo("/echo") + clienttest.Text(p) + clienttest.Ping("behind"))
		c.WantUpgrade("the head comes with frames")
		c.WantText(fmt.Sprintf("%d bytes came with the head", size), p)
		c.WantPong("the second frame came with it, too", "behind")
	}
	c := clienttest.Connect(t, s)
	c.Write(clienttest.UpgradeTo("/ws/early") + clienttest.Text("first") + clienttest.Closing(1000, ""))
	c.WantUpgrade("the head comes with all of the conversation")
	c.WantText("the client is on its channel", "first")
	c.WantClose("its Close came with the head", 1000)
}

func TestHeadMayComeInAnyTwoPieces(t *testing.T) {
	t.Parallel()
	s := start(t, settings{})
	all := clienttest.UpgradeTo("/echo") + clienttest.Text("behind")
	for cut := 1; cut < len(all); cut++ {
		c := clienttest.Connect(t, s)
		c.Write(all[:cut])
		if cut < len(clienttest.UpgradeTo("/echo")) {
			clienttest.WaitFor(t, "the first piece to be read", func() bool { return s.waiting() == 1 })
		}
		c.Write(all[cut:])
		c.WantUpgrade(fmt.Sprintf("head cut at %d", cut))
		c.WantText("the frame behind", "behind")
	}
}

func TestSlowHeadIsGivenUpAtTheDeadline(t *testing.T) {
	t.Parallel()
	s := start(t, settings{HandshakeTimeout: time.Second})
	c := clienttest.Connect(t, s)
	begun := time.Now()
	drip := time.NewTicker(50 * time.Millisecond)
	defer drip.Stop()
	c.Write("GET /ws HTTP/1.1\r\nHost: ")
	for range drip.C { // each byte comes soon; the deadline is for all of them
		if _, err := c.Conn.Write([]byte("x")); err != nil {
			break
		}
		if time.Since(begun) > clienttest.Patience {
			t.Fatal("it is never given up")
		}
	}
	c.WantGone("it took too long")
	if took := time.Since(begun); took < 900*time.Millisecond {
		t.Errorf("given up after %v, want about 1s", took)
	}
	if n := s.counted("timeout"); n != 1 {
		t.Errorf("%d are counted, want 1", n)
	}
}

func TestNewcomerTakesThePlaceOfWhoeverWaitsLongest(t *testing.T) {
	t.Parallel()
	s := start(t, settings{MaxHandshakes: 2, HandshakeTimeout: time.Minute})
	first, second := clienttest.Connect(t, s), clienttest.Connect(t, s)
	first.Write("GET /ws HTTP/1.1\r\n")
	clienttest.WaitFor(t, "the first to wait", func() bool { return s.waiting() == 1 })
	second.Write("GET /ws HTTP/1.1\r\n")
	clienttest.WaitFor(t, "the second to wait", func() bool { return s.waiting() == 2 })

	clienttest.Dial(t, s, "/ws").Settle(s)
	first.WantGone("its place was needed")
	if n := s.counted("evicted"); n != 1 {
		t.Errorf("%d evictions are counted, want 1", n)
	}
	second.Write(strings.TrimPrefix(clienttest.UpgradeTo("/ws"), "GET /ws HTTP/1.1\r\n"))
	second.WantUpgrade("the second kept its place")
}

func TestLibrariesCanTalk(t *testing.T) {
	clienttest.PlainOnly(t)
	t.Parallel()
	s := start(t, settings{})
	ctx, cancel := context.WithTimeout(context.Background(), clienttest.Patience)
	defer cancel()
	url := "ws://" + s.addr + "/ws/interop"
	const said = "订阅者在线"

	g, _, err := gorilla.DefaultDialer.DialContext(ctx, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	k, _, err := coder.Dial(ctx, url, &coder.DialOptions{CompressionMode: coder.CompressionContextTakeover})
	if err != nil {
		t.Fatal(err)
	}
	defer k.CloseNow()
	w, _, _, err := ws.Dialer{}.Dial(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	w.SetDeadline(time.Now().Add(clienttest.Patience))
	g.SetReadDeadline(time.Now().Add(clienttest.Patience))

	want := func(who string) {
		t.Helper()
		if _, p, err := g.ReadMessage(); err != nil || string(p) != said+who {
			t.Errorf("gorilla reads %q, %v from %s", p, err, who)
		}
		if _, p, err := k.Read(ctx); err != nil || string(p) != said+who {
			t.Errorf("coder reads %q, %v from %s", p, err, who)
		}
		if p, err := wsutil.ReadServerText(w); err != nil || string(p) != said+who {
			t.Errorf("gobwas reads %q, %v from %s", p, err, who)
		}
	}
	if err := g.WriteMessage(gorilla.TextMessage, []byte(said+"gorilla")); err != nil {
		t.Fatal(err)
	}
	want("gorilla")
	if err := k.Write(ctx, coder.MessageText, []byte(said+"coder")); err != nil {
		t.Fatal(err)
	}
	want("coder")
	if err := wsutil.WriteClientText(w, []byte(said+"gobwas")); err != nil {
		t.Fatal(err)
	}
	want("gobwas")

	if err := k.Close(coder.StatusNormalClosure, "bye"); err != nil {
		t.Errorf("coder's close handshake: %v", err)
	}
	g.WriteControl(gorilla.CloseMessage, gorilla.FormatCloseMessage(4321, "bye"), time.Now().Add(clienttest.Patience)) // ignored: the read fails then
	if _, _, err := g.ReadMessage(); !gorilla.IsCloseError(err, 4321) {
		t.Errorf("gorilla's close is answered by %v", err)
	}
	ws.WriteFrame(w, ws.MaskFrame(ws.NewCloseFrame(ws.NewCloseFrameBody(1000, "")))) // ignored: the read fails then
	if _, err := wsutil.ReadServerText(w); err != (wsutil.ClosedError{Code: 1000}) {
		t.Errorf("gobwas's close is answered by %v", err)
	}
	s.Pass(10) // not all of them close their side
	s.WantClosed(looptest.Reason("client_close"), 3)
}

// A client that was refused and still is answered may lose its place to another:
// that is not a second outcome.
func TestHandshakesAreCountedOnce(t *testing.T) {
	t.Parallel()
	s := start(t, settings{MaxHandshakes: 1})
	const rounds = 5
	for range rounds {
		c := clienttest.Connect(t, s)
		c.Write(clienttest.UpgradeTo("/nothing"))
		c.WantStatus("there is nothing", http.StatusNotFound)
		clienttest.WaitFor(t, "the server to wait for its end", func() bool { return s.waiting() == 1 })
		clienttest.Dial(t, s, "/ws").Vanish() // takes the place
	}
	var sum uint64
	for i := range s.edge.stats.outcomes {
		sum += s.edge.stats.outcomes[i].Load()
	}
	if accepted := s.edge.stats.accepted.Load(); sum != accepted || accepted != 2*rounds {
		t.Errorf("%d outcomes of %d connections are counted, want %d of each", sum, accepted, 2*rounds)
	}
}
