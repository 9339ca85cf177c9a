package gateway

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	coder "github.com/coder/websocket"
	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
	gorilla "github.com/gorilla/websocket"
)

func TestUpgradeAnswersTheKey(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Subprotocols: []string{"superchat", "chat"}})
	for _, c := range []struct{ key, accept, offer, protocol string }{
		{"dGhlIHNhbXBsZSBub25jZQ==", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", "", ""},
		{"L7XSkAaV9mTTJbtCOhsZkg==", "nk/xVRZ0rn2kjrM6nr8O/elGToQ=", "other", ""},
		{"f7cb4ezEAl6C3wRaU6JORA==", "rE91AJhfC+6JdVcVXOGJEADEJdQ=", "other, superchat", "superchat"},
		{"x3JJHMbDL1EzLkh9GBhXDw==", "HSmrc0sMlYUkAGmm5OPpG2HaGWk=", "chat, superchat", "chat"},
	} {
		k := connect(t, s)
		head := strings.Replace(upgradeTo("/ws"), "dGhlIHNhbXBsZSBub25jZQ==", c.key, 1)
		if c.offer != "" {
			head = strings.Replace(head, "\r\n\r\n", "\r\nSec-WebSocket-Protocol: "+c.offer+"\r\n\r\n", 1)
		}
		k.write(head)
		header := k.wantStatus("upgrade with "+c.key, http.StatusSwitchingProtocols).Header
		if got := header.Get("Sec-WebSocket-Accept"); got != c.accept {
			t.Errorf("key %s is accepted with %s, want %s", c.key, got, c.accept)
		}
		if got := header.Get("Sec-WebSocket-Protocol"); got != c.protocol {
			t.Errorf("offer %q is answered with %q, want %q", c.offer, got, c.protocol)
		}
		k.settle(s)
	}
}

func TestPagesOfOtherOriginsAreRefusedUnlessTheyAreListed(t *testing.T) {
	t.Parallel()
	var log lockedBuffer
	logger := slog.New(slog.NewTextHandler(&log, nil))
	strict := start(t, Config{Logger: logger})
	listed := start(t, Config{Logger: logger, AllowedOrigins: []string{"http://localhost", "http://example.com", "https://*.example.org", "null"}})
	open := start(t, Config{AllowedOrigins: []string{"*"}})
	for _, c := range []struct {
		origin, host    string
		alone, withList bool
	}{
		{"http://localhost", "server.localhost", false, true},
		{"http://localhost:3000", "127.0.0.1:1234", true, true},
		{"http://example.com", "server.example.com", false, true},
		{"https://localhost:3086", "localhost:8080", true, true},
		{"https://example.com", "example.com", true, true},
		{"https://example.com", "example.com:8080", false, false},
		{"https://app.example.org", "gate.example.net", false, true},
		{"https://example.org", "gate.example.net", false, false},
		{"null", "localhost", false, true},
		{"", "localhost", false, false},
	} {
		for _, in := range []struct {
			s    *server
			want bool
			how  string
		}{{strict, c.alone, "without a list"}, {listed, c.withList, "with a list"}, {open, true, "with *"}} {
			k := connect(t, in.s)
			k.write(strings.Replace(upgradeTo("/ws", "Origin: "+c.origin), "Host: localhost", "Host: "+c.host, 1))
			status := http.StatusForbidden
			if in.want {
				status = http.StatusSwitchingProtocols
			}
			k.wantStatus(fmt.Sprintf("%q to %s %s", c.origin, c.host, in.how), status)
		}
	}
	if got := log.String(); !strings.Contains(got, "AllowedOrigins") || !strings.Contains(got, "http://localhost") {
		t.Errorf("the log does not tell how to let an origin in: %q", got)
	}
	if n := strict.counted("origin"); n != 7 {
		t.Errorf("%d refusals are counted, want 7", n)
	}
}

// The classes of input that the libraries let pass, over a socket; the rest of
// the corpus is in package handshake.
func TestDefectiveHeadsAreRefusedOverASocket(t *testing.T) {
	t.Parallel()
	s := start(t, Config{})
	good := upgradeTo("/ws")
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
		k := connect(t, s)
		k.conn.SetWriteDeadline(time.Now().Add(patience)) // ignored: then the write fails
		k.conn.Write([]byte(c.head))                      // ignored: a head that is too large is not taken whole
		if a := k.wantStatus(c.name, c.status); !a.Close || !strings.HasSuffix(a.body, ".\n") {
			t.Errorf("%s: got body %q, close %v, want a sentence and the end", c.name, a.body, a.Close)
		}
		k.wantEOF(c.name)
	}
	waitFor(t, "the handshakes to end", func() bool { s.stage.mu.Lock(); defer s.stage.mu.Unlock(); return s.stage.taken == 0 })
	if n := s.counted("upgraded"); n != 0 {
		t.Errorf("%d of them were upgraded", n)
	}
}

// What other people's clients send, and RFC 9110 and 9112 let them.
func TestUnusualHeadsAreServed(t *testing.T) {
	t.Parallel()
	s := start(t, Config{})
	good := upgradeTo("/echo")
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
			k := connect(t, s)
			if k.write(c.head[:cut]); cut > 0 {
				waitFor(t, "the first piece to be read", func() bool { return s.waiting() == 1 })
			}
			if c.status != http.StatusSwitchingProtocols {
				k.write(c.head[cut:])
				k.wantStatus(c.name, c.status)
				k.wantEOF(c.name)
				continue
			}
			k.write(c.head[cut:] + text("behind"))
			k.wantUpgrade(c.name)
			k.wantText(c.name, "behind")
		}
	}
}

func TestBytesBehindTheHandshakeAreKept(t *testing.T) {
	t.Parallel()
	s := start(t, Config{})
	for _, size := range []int{0, 1, 500, 2000, 9 << 10, 60 << 10} {
		c := connect(t, s)
		p := strings.Repeat("x", size)
		c.write(upgradeTo("/echo") + text(p) + ping("behind"))
		c.wantUpgrade("the head comes with frames")
		c.wantText(fmt.Sprintf("%d bytes came with the head", size), p)
		c.wantPong("the second frame came with it, too", "behind")
	}
	c := connect(t, s)
	c.write(upgradeTo("/ws/early") + text("first") + closing(1000, ""))
	c.wantUpgrade("the head comes with all of the conversation")
	c.wantText("the client is on its channel", "first")
	c.wantClose("its Close came with the head", 1000)
}

// waiting is how many handshakes wait for their client's bytes.
func (s *server) waiting() int {
	s.stage.mu.Lock()
	defer s.stage.mu.Unlock()
	return s.stage.waiting.Len()
}

func TestHeadMayComeInAnyTwoPieces(t *testing.T) {
	t.Parallel()
	s := start(t, Config{})
	all := upgradeTo("/echo") + text("behind")
	for cut := 1; cut < len(all); cut++ {
		c := connect(t, s)
		c.write(all[:cut])
		if cut < len(upgradeTo("/echo")) {
			waitFor(t, "the first piece to be read", func() bool { return s.waiting() == 1 })
		}
		c.write(all[cut:])
		c.wantUpgrade(fmt.Sprintf("head cut at %d", cut))
		c.wantText("the frame behind", "behind")
	}
}

func TestSlowHeadIsGivenUpAtTheDeadline(t *testing.T) {
	t.Parallel()
	s := start(t, Config{HandshakeTimeout: time.Second})
	c := connect(t, s)
	begun := time.Now()
	drip := time.NewTicker(50 * time.Millisecond)
	defer drip.Stop()
	c.write("GET /ws HTTP/1.1\r\nHost: ")
	for range drip.C { // each byte comes soon; the deadline is for all of them
		if _, err := c.conn.Write([]byte("x")); err != nil {
			break
		}
		if time.Since(begun) > patience {
			t.Fatal("it is never given up")
		}
	}
	c.wantGone("it took too long")
	if took := time.Since(begun); took < 900*time.Millisecond || took > 5*time.Second {
		t.Errorf("given up after %v, want about 1s", took)
	}
	if n := s.counted("timeout"); n != 1 {
		t.Errorf("%d are counted, want 1", n)
	}
}

func TestNewcomerTakesThePlaceOfWhoeverWaitsLongest(t *testing.T) {
	t.Parallel()
	s := start(t, Config{MaxHandshakes: 2, HandshakeTimeout: time.Minute})
	first, second := connect(t, s), connect(t, s)
	first.write("GET /ws HTTP/1.1\r\n")
	waitFor(t, "the first to wait", func() bool { return s.waiting() == 1 })
	second.write("GET /ws HTTP/1.1\r\n")
	waitFor(t, "the second to wait", func() bool { return s.waiting() == 2 })

	dial(t, s, "/ws").settle(s)
	first.wantGone("its place was needed")
	if n := s.counted("evicted"); n != 1 {
		t.Errorf("%d evictions are counted, want 1", n)
	}
	second.write(strings.TrimPrefix(upgradeTo("/ws"), "GET /ws HTTP/1.1\r\n"))
	second.wantUpgrade("the second kept its place")
}

func TestLibrariesCanTalk(t *testing.T) {
	plainOnly(t)
	t.Parallel()
	s := start(t, Config{})
	ctx, cancel := context.WithTimeout(context.Background(), patience)
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
	w.SetDeadline(time.Now().Add(patience))
	g.SetReadDeadline(time.Now().Add(patience))

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
	g.WriteControl(gorilla.CloseMessage, gorilla.FormatCloseMessage(4321, "bye"), time.Now().Add(patience)) // ignored: the read fails then
	if _, _, err := g.ReadMessage(); !gorilla.IsCloseError(err, 4321) {
		t.Errorf("gorilla's close is answered by %v", err)
	}
	ws.WriteFrame(w, ws.MaskFrame(ws.NewCloseFrame(ws.NewCloseFrameBody(1000, "")))) // ignored: the read fails then
	if _, err := wsutil.ReadServerText(w); err != (wsutil.ClosedError{Code: 1000}) {
		t.Errorf("gobwas's close is answered by %v", err)
	}
	s.wantClosed(reasonClientClose, 3)
}

// lockedBuffer is a log that can be read while it is written.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
