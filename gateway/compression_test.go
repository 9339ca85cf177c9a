package gateway

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"sluice/gateway/access/auth"
	"sluice/gateway/clienttest"
	"sluice/gateway/loop"

	"github.com/centrifugal/protocol"
	"github.com/gobwas/ws"
)

// compressing returns a configuration with compression.
func compressing(cfg Config) Config {
	cfg.Compression = CompressionShared
	return cfg
}

// readings is JSON of some size, as applications have it.
func readings(n int) string {
	var all []map[string]any
	for i := range n {
		all = append(all, map[string]any{"sensor": fmt.Sprint("room-", i), "temperature": 20.5 + float64(i%7)/2, "status": "ok"})
	}
	b, _ := json.Marshal(all) // cannot fail
	return string(b)
}

// wantCompressed reads a frame and compares what it inflates to.
func wantCompressed(c *clienttest.Client, why string, compressed bool, want string) {
	c.T.Helper()
	op, p, got, err := c.NextFrame()
	if err != nil {
		c.T.Fatalf("%s: %v", why, err)
	}
	text := p
	if got {
		if text, err = clienttest.Inflated(p); err != nil {
			c.T.Fatalf("%s: %v", why, err)
		}
	}
	if op != ws.OpText && op != ws.OpBinary || got != compressed || !strings.Contains(text, want) {
		c.T.Fatalf("%s: opcode %d, compressed %v, %d bytes, %s", why, op, got, len(p), clienttest.Brief(text))
	}
	if got && len(p) > len(text)/2 {
		c.T.Errorf("%s: %d bytes are still %d", why, len(text), len(p))
	}
}

// Each publication is compressed once for each format, and subscribers with and without compression have the same.
func TestPublicationsAreCompressedOnceForAll(t *testing.T) {
	t.Parallel()
	s := start(t, compressing(Config{CompressionMin: 128}))
	formats := []string{"/ws/x", "/ws/x?format=json"}
	var squeezed, plain []*clienttest.Client
	for range 3 {
		for _, target := range formats {
			squeezed = append(squeezed, clienttest.Dial(t, s, target, clienttest.Deflate))
			plain = append(plain, clienttest.Dial(t, s, target, "Sec-WebSocket-Extensions: unknown"))
		}
	}
	stream := clienttest.Stream(t, s, "/sse/x?since=now", clienttest.AcceptGzip)
	stream.Event() // where it begins
	text := readings(12)
	s.publish("x", text)
	s.publish("x", "small")
	for i, c := range squeezed {
		wantCompressed(c, formats[i%2], true, "temperature")
		wantCompressed(c, formats[i%2]+", a small one", false, "small")
	}
	for i, c := range plain {
		wantCompressed(c, formats[i%2]+", no compression", false, "temperature")
		wantCompressed(c, formats[i%2]+", no compression", false, "small")
	}
	if got := stream.Event(); !strings.HasSuffix(got, "data: "+text+"\n") {
		t.Errorf("SSE: %q", got)
	}
	if got := stream.Event(); !strings.HasSuffix(got, "data: small\n") {
		t.Errorf("SSE: %q", got)
	}
	st := s.compressors.Stats()
	if least := uint64(3 * len(text)); st.In < least || st.In > least+1000 || st.Out > st.In/3 || st.Busy > 0 {
		t.Errorf("%d bytes in three formats: %+v", len(text), st)
	}
}

func TestCentrifugoPublicationsAreCompressed(t *testing.T) {
	t.Parallel()
	s := start(t, compressing(Config{CompressionMin: 128}))
	for _, target := range []string{pathClient, pathClient + "?format=protobuf"} {
		c := clienttest.Dial(t, s, target, clienttest.Deflate)
		if strings.HasSuffix(target, "protobuf") {
			c.SendsProtobuf(&protocol.Command{Id: 1, Connect: &protocol.ConnectRequest{}}, &protocol.Command{Id: 2, Subscribe: &protocol.SubscribeRequest{Channel: "x"}})
			c.ReadsProtobuf(t)
			c.ReadsProtobuf(t)
		} else {
			c.Connects("")
			c.Joins("x")
		}
		s.publish("x", readings(12))
		wantCompressed(c, target, true, "temperature")
	}
	s = start(t, compressing(guarded(t, "")))
	connect := url.QueryEscape(`{"token":"` + tokens(t, auth.Claims{User: "42", Channels: []string{"x"}}) + `"}`)
	uni := clienttest.Stream(t, s, "/connection/uni_sse?cf_connect="+connect, clienttest.AcceptGzip)
	if got := uni.Event(); !strings.Contains(got, `"subs":{"x"`) {
		t.Fatalf("uni_sse: %q", got)
	}
	s.publish("x", readings(12))
	if got := uni.Event(); !strings.Contains(got, "temperature") {
		t.Errorf("uni_sse: %q", got)
	}
}

// What a client has missed is for it alone, and not compressed; what follows is.
func TestCatchingUpGoesOnWithCompressedPublications(t *testing.T) {
	t.Parallel()
	s := start(t, compressing(Config{CompressionMin: 128}))
	text := readings(12)
	first := s.publish("x", text)
	s.publish("x", text)
	c := clienttest.Dial(t, s, fmt.Sprintf("/ws/x?format=json&since=%s:%d", first.Epoch, first.Offset), clienttest.Deflate)
	wantCompressed(c, "what it has missed", false, `"offset":2`)
	stream := clienttest.Stream(t, s, "/sse/x", clienttest.AcceptGzip, fmt.Sprintf("Last-Event-ID: %s:%d", first.Epoch, first.Offset))
	stream.WantBegin("it resumes", 1)
	stream.WantEvent("what it has missed", fmt.Sprintf("id: %s:2\ndata: %s\n", first.Epoch, text))
	s.publish("x", text)
	wantCompressed(c, "what is live", true, `"offset":3`)
	stream.WantEvent("what is live", fmt.Sprintf("id: %s:3\ndata: %s\n", first.Epoch, text))
}

func TestClientsMayCompressWhatTheySend(t *testing.T) {
	t.Parallel()
	s := start(t, compressing(Config{CompressionMin: 128}))
	listener := clienttest.Dial(t, s, "/ws/x", "Sec-WebSocket-Extensions: unknown")
	c := clienttest.Dial(t, s, "/ws/x?echo=off", clienttest.Deflate)
	echo := clienttest.Dial(t, s, "/echo", clienttest.Deflate)
	text := readings(50)
	p := clienttest.Compressed(false, text)[0]
	c.Send(clienttest.Part(0xc1, p))
	listener.WantText("one frame", text)
	c.Send(clienttest.Part(0x41, p[:10]), clienttest.Ping("between"), clienttest.Part(0x00, p[10:20]), clienttest.Part(0x80, p[20:]))
	c.WantPong("between fragments", "between")
	listener.WantText("in fragments", text)
	c.Send(clienttest.Text("not compressed"), clienttest.Part(0xc2, clienttest.Compressed(false, "\xff\xfe")[0]), clienttest.Part(0xc1, ""))
	listener.WantText("not every message is", "not compressed")
	listener.WantBinary("binary", "\xff\xfe")
	listener.WantText("empty", "")
	echo.Send(clienttest.Part(0xc1, p))
	wantCompressed(echo, "what is for one client is not compressed", false, text)
	for i := range p { // cut anywhere
		head := clienttest.Part(0xc1, p)
		echo.Write(head[:1+i])
		echo.Send(head[1+i:])
		wantCompressed(echo, fmt.Sprintf("cut at %d", i), false, text)
		if i > 30 {
			break
		}
	}
}

func TestCompressedMessagesThatAreRefused(t *testing.T) {
	t.Parallel()
	s := start(t, compressing(Config{MaxMessage: 64 << 10, MessageRate: 20}))
	text := readings(3)
	kept := clienttest.Compressed(true, text, text)
	huge := clienttest.Compressed(false, strings.Repeat("*", 64<<10+1))[0]
	at := clienttest.Compressed(false, strings.Repeat("*", 64<<10))[0]
	nothing := strings.Repeat("\x00\x00\x00\xff\xff", 64<<10/5) + "\x00"
	for _, c := range []struct {
		what   string
		frames []string
		echoes int
		code   ws.StatusCode
		reason loop.Reason
	}{
		{"more than the limit", []string{clienttest.Part(0xc1, huge)}, 0, 1009, loop.ReasonTooBig},
		{"more than the limit, in fragments", []string{clienttest.Part(0x41, huge[:20]), clienttest.Part(0x80, huge[20:])}, 0, 1009, loop.ReasonTooBig},
		{"no deflate stream", []string{clienttest.Part(0xc1, "\xff\xff\xff")}, 0, 1007, loop.ReasonDeflate},
		{"cut off", []string{clienttest.Part(0xc1, kept[0][:20])}, 0, 1007, loop.ReasonDeflate},
		{"no UTF-8", []string{clienttest.Part(0xc1, clienttest.Compressed(false, "ab\xff")[0])}, 0, 1007, loop.ReasonText},
		{"a context that is kept", []string{clienttest.Part(0xc1, kept[0]), clienttest.Part(0xc1, kept[1])}, 1, 1007, loop.ReasonContext},
		{"a compressed ping", []string{clienttest.Part(0xc9, "")}, 0, 1002, loop.ReasonProtocol},
		{"a continuation that says it is", []string{clienttest.Part(0x41, kept[0]), clienttest.Part(0xc0, "")}, 0, 1002, loop.ReasonProtocol},
		// 40 at once: 5 for each of 64 KiB, and the ninth would be one too many.
		{"more bytes than the rate allows", []string{strings.Repeat(clienttest.Part(0xc1, at), 20)}, 8, 1008, loop.ReasonMessageRate},
		// 17 for each of 64 KiB that is sent, whatever comes out.
		{"more blocks of nothing than the rate allows", []string{strings.Repeat(clienttest.Part(0xc1, nothing), 20)}, 2, 1008, loop.ReasonMessageRate},
	} {
		client, before := clienttest.Dial(t, s, "/echo", clienttest.Deflate), s.ClosedFor(c.reason)
		client.Send(c.frames...)
		for i := range c.echoes {
			if op, _, err := client.Next(); op != ws.OpText || err != nil {
				t.Fatalf("%s: echo %d: opcode %d, %v", c.what, i, op, err)
			}
		}
		client.WantClose(c.what, c.code)
		s.WantClosed(c.reason, before+1)
	}
}

// However large a message may be, and however small the rate, one message is not too many.
func TestLargeCompressedMessageIsWithinTheRate(t *testing.T) {
	t.Parallel()
	s := start(t, compressing(Config{MaxMessage: 1 << 20, ChannelBuffer: 4 << 20, MaxPending: 2 << 20, MessageRate: 1}))
	for _, text := range []string{strings.Repeat("*", 1<<20), clienttest.Noise(1 << 20)} {
		c := clienttest.Dial(t, s, "/echo", clienttest.Deflate)
		c.Send(clienttest.Part(0xc1, clienttest.Compressed(false, text)[0]))
		if op, got, err := c.Next(); op != ws.OpText || got != text {
			t.Errorf("opcode %d, %d bytes, %v", op, len(got), err)
		}
	}
}

// A message that would inflate to a thousand times its size costs no more than the limit, whoever sends it: one who is not
// known yet, one who is, and one who may not publish.
func TestBombs(t *testing.T) {
	t.Parallel()
	s := start(t, compressing(guarded(t, `{"without_namespace":{"allow_subscribe_for_client":true,"allow_subscribe_for_anonymous":true}}`)))
	bomb := clienttest.Part(0xc2, clienttest.Compressed(false, strings.Repeat("\x00", 1<<20))[0])
	unknown := clienttest.Dial(t, s, pathClient, clienttest.Deflate)
	unknown.Send(bomb)
	unknown.WantClose("before it is known", 1009)
	known := clienttest.Dial(t, s, pathClient, clienttest.Deflate)
	known.Connects(tokens(t, auth.Claims{User: "42"}))
	known.Send(bomb)
	known.WantClose("once it is known", 1009)
	listens := clienttest.Dial(t, s, "/ws/x", clienttest.Deflate)
	listens.Send(bomb)
	listens.WantClose("it may only listen", 1008)
}

// A protocol that makes no use of a message gets it as it is: a corrupt one is not even found.
func TestMessagesThatAreIgnoredAreNotInflated(t *testing.T) {
	t.Parallel()
	s := start(t, compressing(Config{Raw: RawListen}))
	corrupt := clienttest.Part(0xc1, "\xff\xff\xff")
	listens := clienttest.Dial(t, s, "/ws/x", clienttest.Deflate)
	listens.Send(corrupt)
	listens.WantClose("it may only listen", 1008)
	uni := clienttest.Dial(t, s, "/connection/uni_websocket", clienttest.Deflate)
	uni.Send(clienttest.Text("{}"))
	if _, p, err := uni.Next(); err != nil || !strings.Contains(p, "connect") {
		t.Fatalf("connect: %q, %v", p, err)
	}
	uni.Send(corrupt, clienttest.Ping("there"))
	uni.WantPong("what it says is ignored", "there")
	echo := clienttest.Dial(t, s, "/echo", clienttest.Deflate)
	echo.Send(clienttest.Part(0xc1, clienttest.Compressed(false, "hello")[0]))
	echo.WantText("an echo is for all", "hello")
	echo.Send(corrupt)
	echo.WantClose("and inflates", 1007)
}

func TestStreamsAreEncodedForThoseWhoAskForIt(t *testing.T) {
	t.Parallel()
	s := start(t, compressing(Config{}))
	for accept, gzip := range map[string]bool{
		"": false, "gzip": true, "gzip, deflate, br": true, "br;q=1.0, GZIP;q=0.5": true, "deflate,gzip ; q = 0.001": true,
		"gzip;q=0": false, "gzip;q=0.000": false, "identity": false, "*": false, "x-gzip": false, "gzip;q=x": false,
	} {
		c := clienttest.Connect(t, s)
		c.Write("GET /sse/x HTTP/1.1\r\nHost: localhost\r\nAccept-Encoding: " + accept + "\r\n\r\n")
		c.Patience()
		resp, err := http.ReadResponse(c.In, nil)
		if err != nil {
			t.Fatal(err)
		}
		want, cache := "", "no-store"
		if gzip {
			want, cache = "gzip", "no-store, no-transform"
		}
		if got := resp.Header; got.Get("Content-Encoding") != want || got.Get("Vary") != "Origin, Accept-Encoding" || got.Get("Cache-Control") != cache ||
			resp.ContentLength != -1 || !resp.Close {
			t.Errorf("%q: %v", accept, resp)
		}
	}
}

// A stream's last event is a piece of its gzip member, too.
func TestCompressedStreamsEndWithTheReason(t *testing.T) {
	t.Parallel()
	s := start(t, compressing(Config{PingInterval: time.Second}))
	s.Pass(0) // time stands, however long this takes
	stream := clienttest.Stream(t, s, "/sse/x", clienttest.AcceptGzip)
	stream.WantBegin("it begins", 0)
	s.Pass(1)
	stream.WantEvent("it is kept alive", ":\n")
	s.publish("x", "last")
	if got := stream.Event(); !strings.HasSuffix(got, "data: last\n") {
		t.Errorf("got %q", got)
	}
	s.Each(func(c *loop.Conn) {
		c.Close(loop.ReasonDisconnected)
		c.Settle()
	})
	stream.WantEvent("it ends", "event: close\ndata: {\"code\":1008,\"reason\":\"closed by the server's API\"}\n")
	stream.WantEOF("nothing is behind it")
}

func TestInspectorShowsWhatIsCompressed(t *testing.T) {
	clienttest.PlainOnly(t)
	t.Parallel()
	s := start(t, compressing(Config{Loops: 1}))
	clienttest.Dial(t, s, "/ws/a", clienttest.Deflate)
	clienttest.Dial(t, s, "/ws/a", "Sec-WebSocket-Extensions: unknown")
	clienttest.Stream(t, s, "/sse/a", clienttest.AcceptGzip)
	s.Quiet()
	got := map[string]int{}
	for _, d := range s.rows("?sort=id&limit=10") {
		got[d.Protocol+" "+d.Format+" "+d.Compression]++
	}
	for _, want := range []string{"websocket raw permessage-deflate", "websocket raw ", "event_stream raw gzip"} {
		if got[want] != 1 {
			t.Errorf("%q is there %d times, of %v", want, got[want], got)
		}
	}
}
