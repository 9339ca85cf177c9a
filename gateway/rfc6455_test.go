package gateway

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"sluice/gateway/clienttest"
	"sluice/gateway/loop"
	"sluice/gateway/looptest"

	"github.com/gobwas/ws"
)

// RFC 6455 over sockets: the cases of the Autobahn test suite by their numbers,
// each against /echo and through a channel, where the sender gets its own
// message. That every cut of every case gives the same is tested in package
// frame; here it is about what reaches the client.

const (
	greek = "κόσμε"
	cjk   = "订阅者在线，消息送达。購読者へ配信しました。구독자에게 전달했습니다𠮷🀄"
)

// singly gives a text in fragments of so many bytes.
func singly(p string, size int) (frames []string) {
	for i := 0; i < len(p); i += size {
		b0, end := byte(0x00), min(i+size, len(p))
		if i == 0 {
			b0 |= 0x01
		}
		if end == len(p) {
			b0 |= 0x80
		}
		frames = append(frames, clienttest.Part(b0, p[i:end]))
	}
	return frames
}

// rfcCase is what a client sends, what it gets, and the code of the Close frame
// that ends it. kept: there is none, and the client closes with 1000.
type rfcCase struct {
	number string
	send   []string
	want   []string // texts; with a first byte \x02 a binary, with \x0a a pong
	code   ws.StatusCode
}

const kept ws.StatusCode = 0xffff

func rfcCases() []rfcCase {
	const noCode = 0
	f := func(frames ...string) []string { return frames }
	w := f
	cases := []rfcCase{
		{"2.1", f(clienttest.Ping("")), w("\x0a"), kept},
		{"2.2", f(clienttest.Ping("Hello, world!")), w("\x0aHello, world!"), kept},
		{"2.3", f(clienttest.Ping("\x00\xff\xfe\xfd\xfc\xfb\x00\xff")), w("\x0a\x00\xff\xfe\xfd\xfc\xfb\x00\xff"), kept},
		{"2.4", f(clienttest.Ping(clienttest.Stars(125))), w("\x0a" + clienttest.Stars(125)), kept},
		{"2.5", f(clienttest.Ping(clienttest.Stars(126))), nil, 1002},
		{"2.7", f(clienttest.Pong("")), nil, kept},
		{"2.8", f(clienttest.Pong("unsolicited")), nil, kept},
		{"2.9", f(clienttest.Pong("unsolicited"), clienttest.Ping("asked")), w("\x0aasked"), kept},
		{"2.10", f(clienttest.Ping("0"), clienttest.Ping("1"), clienttest.Ping("2"), clienttest.Ping("3"), clienttest.Ping("4"), clienttest.Ping("5"), clienttest.Ping("6"), clienttest.Ping("7"), clienttest.Ping("8"), clienttest.Ping("9")),
			w("\x0a0", "\x0a1", "\x0a2", "\x0a3", "\x0a4", "\x0a5", "\x0a6", "\x0a7", "\x0a8", "\x0a9"), kept},
		{"3.1", f(clienttest.Part(0x91, "Hello")), nil, 1002},
		{"3.2", f(clienttest.Text("Hello"), clienttest.Part(0xa1, "Hello"), clienttest.Ping("")), w("Hello"), 1002},
		{"3.4", f(clienttest.Text("Hello"), clienttest.Part(0xc1, "Hello"), clienttest.Ping("")), w("Hello"), 1002},
		{"3.5", f(clienttest.Part(0xd2, "\x00\xff")), nil, 1002},
		{"3.6", f(clienttest.Part(0xe9, "Hello")), nil, 1002},
		{"3.7", f(clienttest.Part(0xf8, "\x03\xe8")), nil, 1002},
		{"4.1.1", f(clienttest.Part(0x83, "")), nil, 1002},
		{"4.1.2", f(clienttest.Part(0x84, "reserved")), nil, 1002},
		{"4.1.3", f(clienttest.Text("Hello"), clienttest.Part(0x85, ""), clienttest.Ping("")), w("Hello"), 1002},
		{"4.1.5", f(clienttest.Text("Hello"), clienttest.Part(0x87, "reserved"), clienttest.Ping("")), w("Hello"), 1002},
		{"4.2.1", f(clienttest.Part(0x8b, "")), nil, 1002},
		{"4.2.2", f(clienttest.Part(0x8c, "reserved")), nil, 1002},
		{"4.2.5", f(clienttest.Text("Hello"), clienttest.Part(0x8f, "reserved"), clienttest.Ping("")), w("Hello"), 1002},
		{"5.1", f(clienttest.Part(0x09, "one"), clienttest.Part(0x80, "two")), nil, 1002},
		{"5.2", f(clienttest.Part(0x0a, "one"), clienttest.Part(0x80, "two")), nil, 1002},
		{"5.3", f(clienttest.Part(0x01, "one"), clienttest.Part(0x80, "two")), w("onetwo"), kept},
		{"5.6", f(clienttest.Part(0x01, "one"), clienttest.Ping("between"), clienttest.Part(0x80, "two")), w("\x0abetween", "onetwo"), kept},
		{"5.9", f(clienttest.Part(0x80, "what?"), clienttest.Text("Hello")), nil, 1002},
		{"5.12", f(clienttest.Part(0x00, "what?"), clienttest.Text("Hello")), nil, 1002},
		{"5.15", f(clienttest.Part(0x01, "one"), clienttest.Part(0x80, "two"), clienttest.Part(0x00, "three"), clienttest.Text("four")), w("onetwo"), 1002},
		{"5.18", f(clienttest.Part(0x01, "one"), clienttest.Text("two")), nil, 1002},
		{"5.19", f(clienttest.Part(0x01, "1"), clienttest.Part(0x00, "2"), clienttest.Ping("a"), clienttest.Part(0x00, "3"), clienttest.Part(0x00, "4"), clienttest.Ping("b"), clienttest.Part(0x80, "5")), w("\x0aa", "\x0ab", "12345"), kept},
		{"6.1.1", f(clienttest.Text("")), w(""), kept},
		{"6.1.2", f(clienttest.Part(0x01, ""), clienttest.Part(0x00, ""), clienttest.Part(0x80, "")), w(""), kept},
		{"6.1.3", f(clienttest.Part(0x01, ""), clienttest.Part(0x00, "middle"), clienttest.Part(0x80, "")), w("middle"), kept},
		{"6.2.1", f(clienttest.Text("Hello-µ@ßöäüàá-UTF-8!!")), w("Hello-µ@ßöäüàá-UTF-8!!"), kept},
		{"6.2.3", singly("Hello-µ@ßöäüàá-UTF-8!!", 1), w("Hello-µ@ßöäüàá-UTF-8!!"), kept},
		{"6.2.4", singly(greek, 1), w(greek), kept},
		{"6.2.x CJK", append(singly(cjk, 7), clienttest.Text(cjk)), w(cjk, cjk), kept},
		{"6.3.1", f(clienttest.Text(greek + "\xed\xa0\x80edited")), nil, 1007},
		{"6.3.2", singly(greek+"\xed\xa0\x80edited", 1), nil, 1007},
		{"6.4.1", f(clienttest.Part(0x01, greek), clienttest.Part(0x00, "\xf4\x90\x80\x80"), clienttest.Part(0x80, "edited")), nil, 1007},
		{"6.4.2 fails at once", f(clienttest.Part(0x01, greek+"\xf4"), clienttest.Part(0x00, "\x90")), nil, 1007},
		{"6.4.3 fails at once", f(clienttest.Part(0x81, greek+"\xf4\x90\x80\x80edited")[:6+len(greek)+2]), nil, 1007},
		{"6.x the end cuts a code point", f(clienttest.Part(0x01, greek), clienttest.Part(0x80, "\xf0\x9f\x80")), nil, 1007},
		{"6.x binary need not be UTF-8", f(clienttest.Bin("\xff\xed\xa0\x80")), w("\x02\xff\xed\xa0\x80"), kept},
		{"7.1.1", f(clienttest.Text("Hello"), clienttest.Closing(1000, "")), w("Hello"), 1000},
		{"7.1.2", f(clienttest.Closing(1000, ""), clienttest.Closing(1000, "")), nil, 1000},
		{"7.1.3", f(clienttest.Closing(1000, ""), clienttest.Ping("")), nil, 1000},
		{"7.1.4", f(clienttest.Closing(1000, ""), clienttest.Text("late")), nil, 1000},
		{"7.1.5", f(clienttest.Part(0x01, "one"), clienttest.Closing(1000, ""), clienttest.Part(0x80, "two")), nil, 1000},
		{"7.1.6", f(clienttest.Text(clienttest.Stars(256<<10)), clienttest.Closing(1000, ""), clienttest.Ping("")), w(clienttest.Stars(256 << 10)), 1000},
		{"7.3.1", f(clienttest.Closing(0, "")), nil, noCode},
		{"7.3.2", f(clienttest.Part(0x88, "a")), nil, 1002},
		{"7.3.4", f(clienttest.Closing(1000, "Hello World!")), nil, 1000},
		{"7.3.5", f(clienttest.Closing(1000, clienttest.Stars(123))), nil, 1000},
		{"7.3.6", f(clienttest.Closing(1000, clienttest.Stars(124))), nil, 1002},
		{"7.5.1", f(clienttest.Closing(1000, greek+"\xed\xa0\x80edited")), nil, 1007},

		{"unmasked", f("\x81\x05Hello"), nil, 1002},
		{"unmasked Close", f("\x88\x02\x03\xe8"), nil, 1002},
		{"length not in its shortest form", f("\x81\xfe\x00\x05\x00\x00\x00\x00Hello"), nil, 1002},
		{"length with its highest bit set", f("\x82\xff\x80\x00\x00\x00\x00\x00\x00\x00"), nil, 1002},
		{"length of 2^62", f("\x82\xff\x40\x00\x00\x00\x00\x00\x00\x00"), nil, 1009},
		{"fragments that add up", f(clienttest.Part(0x02, clienttest.Stars(5<<20)), "\x80\xff\x00\x00\x00\x00\x00\x30\x00\x01"), nil, 1009},
	}
	for i, size := range []int{0, 125, 126, 127, 128, 65535, 65536} {
		b := strings.Repeat("\xfe", size)
		cases = append(cases,
			rfcCase{fmt.Sprint("1.1.", i+1), f(clienttest.Text(clienttest.Stars(size))), w(clienttest.Stars(size)), kept},
			rfcCase{fmt.Sprint("1.2.", i+1), f(clienttest.Bin(b)), w("\x02" + b), kept})
	}
	for i, code := range []ws.StatusCode{1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999} {
		cases = append(cases, rfcCase{fmt.Sprint("7.7.", i+1), f(clienttest.Closing(code, "")), nil, code})
	}
	for i, code := range []ws.StatusCode{999, 1004, 1005, 1006, 1016, 1100, 2000, 2999, 5000, 65535} {
		cases = append(cases, rfcCase{fmt.Sprint("7.9.", i+1), f(clienttest.Closing(code, "")), nil, 1002})
	}
	cases = append(cases, rfcCase{"7.9.0", f(clienttest.Part(0x88, "\x00\x00")), nil, 1002})
	for i, valid := range []string{
		"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5", "\x00", "\xc2\x80", "\xe0\xa0\x80", "\xf0\x90\x80\x80", "\x7f", "\xdf\xbf", "\xef\xbf\xbf", "\xf4\x8f\xbf\xbf",
		"\xed\x9f\xbf", "\xee\x80\x80", "\xef\xbf\xbd", "\xef\xbf\xbe", "\xf0\x9f\xbf\xbe", "\xf3\xbf\xbf\xbf",
	} {
		cases = append(cases, rfcCase{fmt.Sprint("6.5 and on, valid ", i+1), append(f(clienttest.Text(valid)), singly(valid+valid, 1)...), w(valid, valid+valid), kept})
	}
	for i, bad := range []string{
		"\xce", "\xce\xba\xe1", "\xf8\x88\x80\x80\x80", "\xfc\x84\x80\x80\x80\x80", "\xf7\xbf\xbf\xbf", "\xf4\x90\x80\x80", "\x80", "\xbf", "\x80\xbf\x80",
		"\xc0 \xc1 ", "\xe0 ", "\xf0 ", "\xfe", "\xff", "\xc0\xaf", "\xe0\x80\xaf", "\xf0\x80\x80\xaf", "\xc1\xbf", "\xe0\x9f\xbf", "\xf0\x8f\xbf\xbf", "\xed\xa0\x80", "\xed\xbf\xbf",
		"\xed\xa0\x80\xed\xb0\x80",
	} {
		cases = append(cases, rfcCase{fmt.Sprint("6.6 and on, not valid ", i+1), f(clienttest.Text(bad)), nil, 1007},
			rfcCase{fmt.Sprint("6.6 and on, in bytes, not valid ", i+1), singly(bad+"x", 1), nil, 1007})
	}
	return cases
}

// large raises the limits, as section 9 needs.
var large = Config{MaxMessage: 8 << 20, MaxFragments: 1 << 20, ChannelBuffer: 32 << 20, MaxPending: 16 << 20}

func TestRFC6455CaseByCase(t *testing.T) {
	clienttest.UncompressedOnly(t)
	t.Parallel()
	s := start(t, large)
	for i, c := range rfcCases() {
		for _, target := range []string{"/echo", fmt.Sprint("/ws/case", i)} {
			if strings.HasPrefix(target, "/ws") && isPongThenText(c.want) {
				continue // pongs may overtake publications
			}
			k := clienttest.Dial(t, s, target)
			why := c.number + " on " + target
			k.Send(c.send...)
			k.WantEach(why, c.want)
			if c.code == kept {
				k.Send(clienttest.Closing(1000, ""))
				k.WantClose(why, 1000)
				continue
			}
			k.WantClose(why, c.code)
		}
	}
	s.wantConnections(0)
}

func isPongThenText(want []string) bool {
	return len(want) > 1 && want[0] != "" && want[0][0] == 0x0a && want[len(want)-1][0] != 0x0a
}

// A client that the gateway closes by itself is told at once; its own Close is
// not waited for after a fault.
func TestFaultIsAnsweredByCloseAndFIN(t *testing.T) {
	t.Parallel()
	s := start(t, Config{})
	c := clienttest.Dial(t, s, "/ws")
	c.Send(clienttest.Part(0x83, ""))
	c.WantCloseFrame("reserved opcode", 1002)
	c.WantEOF("nothing is expected of a client that breaks the protocol")
	c.Fin()
	s.WantClosed(looptest.Reason("protocol_error"), 1)

	c = clienttest.Dial(t, s, "/ws")
	c.Send(append(singly(clienttest.Stars(65), 1), clienttest.Text("late"))...)
	c.WantCloseFrame("65 fragments", 1008)
	c.WantEOF("too many fragments")
	c.Fin()
	s.WantClosed(looptest.Reason("too_many_fragments"), 1)

	c = clienttest.Dial(t, s, "/ws")
	c.Send(clienttest.Part(0x01, "one"), "\x80\xff\x00\x00\x00\x00\x00\x01\x00\x00")
	c.WantCloseFrame("a message beyond 64 KiB", 1009)
	c.WantEOF("it is too big")
	c.Fin()
	s.WantClosed(loop.ReasonTooBig, 1)
}

// The Close frame must come although the client sends on and reads late: closing
// a socket with unread bytes would reset it.
func TestCloseFrameReachesAClientThatIsStillSending(t *testing.T) {
	t.Parallel()
	s := start(t, Config{})
	for _, fault := range []struct {
		send string
		code ws.StatusCode
	}{{clienttest.Part(0x83, ""), 1002}, {clienttest.Text("\xff"), 1007}, {"\x82\xff\x40\x00\x00\x00\x00\x00\x00\x00", 1009}, {clienttest.Closing(4000, ""), 4000}} {
		c := clienttest.Dial(t, s, "/echo")
		c.Send(fault.send, strings.Repeat(clienttest.Text(clienttest.Stars(1000)), 1000)) // a megabyte that nobody wants
		c.WantCloseFrame("it came before all that", fault.code)
		c.WantEOF("and then a FIN, no reset")
		c.Fin()
	}
	s.wantConnections(0)
}

func TestFramesMayComeInAnyPieces(t *testing.T) {
	t.Parallel()
	s := start(t, Config{})
	bytesIn := func() uint64 { return s.Sum(func(st *loop.Stats) uint64 { return st.BytesIn.Load() }) }
	all := clienttest.Part(0x01, cjk[:40]) + clienttest.Ping("p") + clienttest.Part(0x80, cjk[40:]) + clienttest.Bin(clienttest.Stars(126)) + clienttest.Text(cjk) + clienttest.Closing(3000, "bye")
	want := []string{"\x0ap", cjk, "\x02" + clienttest.Stars(126), cjk}
	wantAll := func(c *clienttest.Client, why string) {
		t.Helper()
		c.WantEach(why, want)
		c.WantClose(why, 3000)
	}
	for cut := 1; cut < len(all); cut++ {
		c := clienttest.Dial(t, s, "/echo")
		before := bytesIn()
		c.Write(all[:cut])
		clienttest.WaitFor(t, "the first piece to be read", func() bool { return bytesIn() >= before+uint64(cut) })
		c.Write(all[cut:])
		wantAll(c, fmt.Sprintf("cut at %d", cut))
		s.wantConnections(0)
	}
	c := clienttest.Dial(t, s, "/echo")
	before := bytesIn()
	for i := range len(all) {
		c.Write(all[i : i+1])
		clienttest.WaitFor(t, "the byte to be read", func() bool { return bytesIn() > before+uint64(i) })
	}
	wantAll(c, "byte by byte")
}

// Sections 9 and 10: large messages, many fragments, many messages, and how the
// client cuts its writes.
func TestLargeMessages(t *testing.T) {
	t.Parallel()
	s := start(t, large)
	biggest := clienttest.Scaled(8<<20, 1<<20)
	through := func(target, number, p string, frames ...string) {
		t.Helper()
		c := clienttest.Dial(t, s, target)
		failed := make(chan error, 1)
		go func() { // the echo comes while the rest is sent
			_, err := c.Conn.Write([]byte(strings.Join(frames, "")))
			failed <- err
		}()
		c.WantEach(number+" on "+target, []string{p})
		if err := clienttest.Receive(t, "the writer", failed); err != nil {
			t.Errorf("%s: %v", number, err)
		}
		c.Send(clienttest.Closing(1000, ""))
		c.WantClose(number, 1000)
	}
	for _, target := range []string{"/echo", "/ws/large"} {
		for i, size := range []int{64 << 10, 256 << 10, 1 << 20, 4 << 20, 8 << 20} {
			if size > biggest {
				continue
			}
			through(target, fmt.Sprint("9.1.", i+1), clienttest.Stars(size), clienttest.Text(clienttest.Stars(size)))
			b := "\x02" + string(bytes.Repeat([]byte{0xfe}, size))
			through(target, fmt.Sprint("9.2.", i+1), b, clienttest.Bin(b[1:]))
		}
		for i, size := range []int{64, 256, 1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10} {
			p := clienttest.Stars(biggest / 8)
			through(target, fmt.Sprint("9.3.", i+1), p, singly(p, size)...)
		}
		through(target, "10.1.1", clienttest.Stars(65536), singly(clienttest.Stars(65536), 1300)...)
	}
	for i, size := range []int{64, 256, 1 << 10} { // 9.5: a message in many writes
		c := clienttest.Dial(t, s, "/echo")
		p := clienttest.Stars(biggest / 64)
		wire := clienttest.Text(p)
		for len(wire) > 0 {
			n := min(size, len(wire))
			c.Write(wire[:n])
			wire = wire[n:]
		}
		c.WantText(fmt.Sprint("9.5.", i+1), p)
	}
	for i, size := range []int{0, 16, 64, 256, 1024, 4096} { // 9.7: message after message
		c := clienttest.Dial(t, s, "/ws/one-by-one")
		p := clienttest.Stars(size)
		for range clienttest.Scaled(1000, 100) {
			c.Send(clienttest.Text(p))
			c.WantText(fmt.Sprint("9.7.", i+1), p)
		}
		c.Send(clienttest.Closing(1000, ""))
		c.WantClose("9.7", 1000)
	}
}
