package hostile

import (
	"bufio"
	"context"
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"

	"sluice/bench"
	"sluice/poller/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// weakServer answers every connection with serve.
func weakServer(t *testing.T, serve func(net.Conn)) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serve(c)
			c.Close()
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-done
	})
	return "ws://" + l.Addr().String()
}

func TestHostileFindsAServersFaults(t *testing.T) {
	answer := func(text string) func(net.Conn) {
		return func(c net.Conn) {
			http.ReadRequest(bufio.NewReader(c))
			io.WriteString(c, text)
		}
	}
	lenient := func(c net.Conn) { // what net/http parses and has a key gets its 101
		req, err := http.ReadRequest(bufio.NewReader(c))
		if err != nil {
			return
		}
		sum := sha1.Sum([]byte(req.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
		fmt.Fprintf(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n", base64.StdEncoding.EncodeToString(sum[:]))
	}
	mute := func(c net.Conn) { // takes every session, and ends it without a word
		lenient(c)
		c.(*net.TCPConn).CloseWrite()
		io.Copy(io.Discard, c)
	}
	for _, test := range []struct {
		name   string
		attack func(context.Context, Options) (*bench.Result, error)
		serve  func(net.Conn)
		want   string
	}{
		{"101 for all", Handshakes, lenient, "101 for a request that must be refused"},
		{"404 for all", Handshakes, answer("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"), "404 for a valid request"},
		{"500 for all", Handshakes, answer("HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n"), "500, an internal server error"},
		{"no HTTP", Handshakes, answer("SSH-2.0\r\n"), "the response is not HTTP"},
		{"two answers", Handshakes, answer(strings.Repeat("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", 2)), "extra bytes after the response"},
		{"no answer", Handshakes, func(net.Conn) {}, "a valid request got no response"},
		{"500 for cut sessions", Resets, answer("HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n"), "an internal server error"},
		{"no messages", Resets, mute, `no "`},
		{"no Close frames", Frames, mute, "want the response"},
	} {
		t.Run(test.name, func(t *testing.T) {
			o := Options{Count: 200, Concurrency: 4, Seed: 1}
			o.URL, o.Timeout = weakServer(t, test.serve), time.Second
			r, err := test.attack(t.Context(), o)
			if err == nil || r.Verdict != bench.VerdictFailed || r.Metrics["wrong"] == 0 || !strings.Contains(strings.Join(r.Notes, "\n"), test.want) {
				t.Errorf("got %v, verdict %s, %v wrong, notes %.2000q; want %q", err, r.Verdict, r.Metrics["wrong"], r.Notes, test.want)
			}
		})
	}
}

func TestHostileNoticesThatTheServerIsGone(t *testing.T) {
	o := Options{Count: 100, Seed: 1}
	o.URL = "ws://127.0.0.1:1"
	if r, err := Frames(t.Context(), o); err == nil || r.Verdict != bench.VerdictFailed || !strings.Contains(err.Error(), errGone.Error()) {
		t.Errorf("got %v", err)
	}
}

// A case follows from its seed and number, and every class is what it says.
func TestHostileCasesAreWhatTheySay(t *testing.T) {
	const messageMax = 4096
	for n := range 50 * len(sessionClasses) {
		class := sessionClasses[n%len(sessionClasses)]
		make := func() string {
			return string(newSession(rand.New(rand.NewPCG(1, uint64(n))), class, messageMax))
		}
		b := make()
		if b != make() {
			t.Fatalf("case %d is not the same again", n)
		}
		want, cut := echoes([]byte(b), messageMax)
		if class.code != 0 && (cut || closeCode(want[len(want)-1]) != class.code) {
			t.Errorf("case %d of %s: the judge wants %s, cut %v", n, class.name, described(want), cut)
		}
	}
	refused := 0
	for n := range 1000 {
		g := requests{Rand: rand.New(rand.NewPCG(2, uint64(n))), host: "127.0.0.1:8000", path: "/ws"}
		if why := upgradeRefusal(joinLines(g.good())); why != "" {
			t.Errorf("case %d is good, and refused: %s", n, why)
		}
		if upgradeRefusal(g.bad()) != "" {
			refused++
		}
	}
	if refused < 700 || refused > 990 {
		t.Errorf("%d of 1,000 bad requests are refused: the mutations do too little, or too much", refused)
	}
}

func TestUpgradeRefusalKnowsWhatParsersDisagreeOn(t *testing.T) {
	good := "GET /ws HTTP/1.1\r\nHost: h:1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
	if why := upgradeRefusal([]byte(good)); why != "" {
		t.Fatal(why)
	}
	for _, edit := range [][2]string{
		{"/ws", "http://h/ws"}, {"GET", "\r\nGET"}, {"websocket", "h2c, websocket"}, {": 13", ": 13\r\nSec-WebSocket-Protocol:"},
		{"/ws HTTP/1.1", "http://h/ws HTTP/1.1\r\nOrigin: http://h"},
	} {
		if why := upgradeRefusal([]byte(strings.Replace(good, edit[0], edit[1], 1))); why != "" {
			t.Errorf("%q for %q: %s", edit[1], edit[0], why)
		}
	}
	for _, edit := range [][2]string{
		{"HTTP/1.1\r\n", "HTTP/1.1\n"}, {"Host: h:1", "Host : h:1"}, {"Host: h:1", "Host: h:1\r\nHost: i"}, {"Host: h:1", "Host: u@h"}, {"Host: h:1", "X: a\r\n Host: h"},
		{"GET", "POST"}, {"/ws", "http:///ws"}, {"/ws", "ws://h/ws"}, {"/ws", "http://u@h/ws"}, {"GET", "\r\n\r\nGET"}, {"/ws", "/w\x00s"}, {"HTTP/1.1", "HTTP/1.0"}, {"websocket", "websockets"}, {"websocket", "h2c, websocket/13"}, {"Connection: Upgrade", "Connection: close"},
		{"ZQ==", "ZQ="}, {"Key: ", "Key: =="}, {": 13", ": 13.0"}, {": 13", ": 13\r\nContent-Length: 1"}, {": 13", ": 13\r\nTransfer-Encoding: chunked"},
		{": 13", ": 13\r\nSec-WebSocket-Version: 13"}, {": 13", ": 13\r\nOrigin: null"}, {": 13", ": 13\r\nOrigin: http://h:2"}, {": 13", ": 13\r\nSec-WebSocket-Protocol: a b"}, {"\r\n\r\n", "\r\n"},
	} {
		b := strings.Replace(good, edit[0], edit[1], 1)
		if b == good || upgradeRefusal([]byte(b)) == "" {
			t.Errorf("%q is allowed", b)
		}
	}
}

// What the judge of sessions says of single rules, independent of its generator.
func TestEchoesFollowsTheRFC(t *testing.T) {
	frame := func(b0 byte, payload string) string { // masked with zeros
		return string(append([]byte{b0, 0x80 | byte(len(payload)), 0, 0, 0, 0}, payload...))
	}
	for _, test := range []struct {
		name, in string
		want     []wsFrame
		cut      bool
	}{
		{"text, ping, close", frame(0x81, "é") + frame(0x89, "p") + frame(0x88, "\x03\xe8bye"), []wsFrame{{ws.OpText, "é"}, {ws.OpPong, "p"}, closeFrame(1000)}, false},
		{"fragments with a ping between", frame(0x01, "\xc3") + frame(0x89, "") + frame(0x80, "\xa9"), []wsFrame{{ws.OpPong, ""}, {ws.OpText, "é"}}, true},
		{"close without a code", frame(0x88, "") + frame(0x81, "x"), []wsFrame{closeFrame(1005)}, false},
		{"text that ends in a code point", frame(0x81, "\xc3"), []wsFrame{closeFrame(1007)}, false},
		{"binary of anything", frame(0x82, "\xff") + "\x81", []wsFrame{{ws.OpBinary, "\xff"}}, true},
		{"not masked", "\x81\x01x", []wsFrame{closeFrame(1002)}, false},
		{"65 fragments", frame(0x01, "") + strings.Repeat(frame(0x00, ""), 64), []wsFrame{closeFrame(1008)}, false},
		{"longer than allowed", frame(0x81, strings.Repeat("x", 101)), []wsFrame{closeFrame(1009)}, false},
		{"highest bit of the length", "\x82\xff\x80\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", []wsFrame{closeFrame(1002)}, false},
		{"five bytes in sixteen bits", "\x82\xfe\x00\x05\x00\x00\x00\x00abcde", []wsFrame{closeFrame(1002)}, false},
	} {
		if got, cut := echoes([]byte(test.in), 100); described(got) != described(test.want) || cut != test.cut {
			t.Errorf("%s: got %s, %v; want %s, %v", test.name, described(got), cut, described(test.want), test.cut)
		}
	}
}
