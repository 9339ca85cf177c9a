package gateway

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

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

func stars(n int) string { return strings.Repeat("*", n) }

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
		frames = append(frames, part(b0, p[i:end]))
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
		{"2.1", f(ping("")), w("\x0a"), kept},
		{"2.2", f(ping("Hello, world!")), w("\x0aHello, world!"), kept},
		{"2.3", f(ping("\x00\xff\xfe\xfd\xfc\xfb\x00\xff")), w("\x0a\x00\xff\xfe\xfd\xfc\xfb\x00\xff"), kept},
		{"2.4", f(ping(stars(125))), w("\x0a" + stars(125)), kept},
		{"2.5", f(ping(stars(126))), nil, 1002},
		{"2.7", f(pong("")), nil, kept},
		{"2.8", f(pong("unsolicited")), nil, kept},
		{"2.9", f(pong("unsolicited"), ping("asked")), w("\x0aasked"), kept},
		{"2.10", f(ping("0"), ping("1"), ping("2"), ping("3"), ping("4"), ping("5"), ping("6"), ping("7"), ping("8"), ping("9")),
			w("\x0a0", "\x0a1", "\x0a2", "\x0a3", "\x0a4", "\x0a5", "\x0a6", "\x0a7", "\x0a8", "\x0a9"), kept},
		{"3.1", f(part(0x91, "Hello")), nil, 1002},
		{"3.2", f(text("Hello"), part(0xa1, "Hello"), ping("")), w("Hello"), 1002},
		{"3.4", f(text("Hello"), part(0xc1, "Hello"), ping("")), w("Hello"), 1002},
		{"3.5", f(part(0xd2, "\x00\xff")), nil, 1002},
		{"3.6", f(part(0xe9, "Hello")), nil, 1002},
		{"3.7", f(part(0xf8, "\x03\xe8")), nil, 1002},
		{"4.1.1", f(part(0x83, "")), nil, 1002},
		{"4.1.2", f(part(0x84, "reserved")), nil, 1002},
		{"4.1.3", f(text("Hello"), part(0x85, ""), ping("")), w("Hello"), 1002},
		{"4.1.5", f(text("Hello"), part(0x87, "reserved"), ping("")), w("Hello"), 1002},
		{"4.2.1", f(part(0x8b, "")), nil, 1002},
		{"4.2.2", f(part(0x8c, "reserved")), nil, 1002},
		{"4.2.5", f(text("Hello"), part(0x8f, "reserved"), ping("")), w("Hello"), 1002},
		{"5.1", f(part(0x09, "one"), part(0x80, "two")), nil, 1002},
		{"5.2", f(part(0x0a, "one"), part(0x80, "two")), nil, 1002},
		{"5.3", f(part(0x01, "one"), part(0x80, "two")), w("onetwo"), kept},
		{"5.6", f(part(0x01, "one"), ping("between"), part(0x80, "two")), w("\x0abetween", "onetwo"), kept},
		{"5.9", f(part(0x80, "what?"), text("Hello")), nil, 1002},
		{"5.12", f(part(0x00, "what?"), text("Hello")), nil, 1002},
		{"5.15", f(part(0x01, "one"), part(0x80, "two"), part(0x00, "three"), text("four")), w("onetwo"), 1002},
		{"5.18", f(part(0x01, "one"), text("two")), nil, 1002},
		{"5.19", f(part(0x01, "1"), part(0x00, "2"), ping("a"), part(0x00, "3"), part(0x00, "4"), ping("b"), part(0x80, "5")), w("\x0aa", "\x0ab", "12345"), kept},
		{"6.1.1", f(text("")), w(""), kept},
		{"6.1.2", f(part(0x01, ""), part(0x00, ""), part(0x80, "")), w(""), kept},
		{"6.1.3", f(part(0x01, ""), part(0x00, "middle"), part(0x80, "")), w("middle"), kept},
		{"6.2.1", f(text("Hello-µ@ßöäüàá-UTF-8!!")), w("Hello-µ@ßöäüàá-UTF-8!!"), kept},
		{"6.2.3", singly("Hello-µ@ßöäüàá-UTF-8!!", 1), w("Hello-µ@ßöäüàá-UTF-8!!"), kept},
		{"6.2.4", singly(greek, 1), w(greek), kept},
		{"6.2.x CJK", append(singly(cjk, 7), text(cjk)), w(cjk, cjk), kept},
		{"6.3.1", f(text(greek + "\xed\xa0\x80edited")), nil, 1007},
		{"6.3.2", singly(greek+"\xed\xa0\x80edited", 1), nil, 1007},
		{"6.4.1", f(part(0x01, greek), part(0x00, "\xf4\x90\x80\x80"), part(0x80, "edited")), nil, 1007},
		{"6.4.2 fails at once", f(part(0x01, greek+"\xf4"), part(0x00, "\x90")), nil, 1007},
		{"6.4.3 fails at once", f(part(0x81, greek+"\xf4\x90\x80\x80edited")[:6+len(greek)+2]), nil, 1007},
		{"6.x the end cuts a code point", f(part(0x01, greek), part(0x80, "\xf0\x9f\x80")), nil, 1007},
		{"6.x binary need not be UTF-8", f(bin("\xff\xed\xa0\x80")), w("\x02\xff\xed\xa0\x80"), kept},
		{"7.1.1", f(text("Hello"), closing(1000, "")), w("Hello"), 1000},
		{"7.1.2", f(closing(1000, ""), closing(1000, "")), nil, 1000},
		{"7.1.3", f(closing(1000, ""), ping("")), nil, 1000},
		{"7.1.4", f(closing(1000, ""), text("late")), nil, 1000},
		{"7.1.5", f(part(0x01, "one"), closing(1000, ""), part(0x80, "two")), nil, 1000},
		{"7.1.6", f(text(stars(256<<10)), closing(1000, ""), ping("")), w(stars(256 << 10)), 1000},
		{"7.3.1", f(closing(0, "")), nil, noCode},
		{"7.3.2", f(part(0x88, "a")), nil, 1002},
		{"7.3.4", f(closing(1000, "Hello World!")), nil, 1000},
		{"7.3.5", f(closing(1000, stars(123))), nil, 1000},
		{"7.3.6", f(closing(1000, stars(124))), nil, 1002},
		{"7.5.1", f(closing(1000, greek+"\xed\xa0\x80edited")), nil, 1007},

		{"unmasked", f("\x81\x05Hello"), nil, 1002},
		{"unmasked Close", f("\x88\x02\x03\xe8"), nil, 1002},
		{"length not in its shortest form", f("\x81\xfe\x00\x05\x00\x00\x00\x00Hello"), nil, 1002},
		{"length with its highest bit set", f("\x82\xff\x80\x00\x00\x00\x00\x00\x00\x00"), nil, 1002},
		{"length of 2^62", f("\x82\xff\x40\x00\x00\x00\x00\x00\x00\x00"), nil, 1009},
		{"fragments that add up", f(part(0x02, stars(5<<20)), "\x80\xff\x00\x00\x00\x00\x00\x30\x00\x01"), nil, 1009},
	}
	for i, size := range []int{0, 125, 126, 127, 128, 65535, 65536} {
		b := strings.Repeat("\xfe", size)
		cases = append(cases,
			rfcCase{fmt.Sprint("1.1.", i+1), f(text(stars(size))), w(stars(size)), kept},
			rfcCase{fmt.Sprint("1.2.", i+1), f(bin(b)), w("\x02" + b), kept})
	}
	for i, code := range []ws.StatusCode{1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999} {
		cases = append(cases, rfcCase{fmt.Sprint("7.7.", i+1), f(closing(code, "")), nil, code})
	}
	for i, code := range []ws.StatusCode{999, 1004, 1005, 1006, 1016, 1100, 2000, 2999, 5000, 65535} {
		cases = append(cases, rfcCase{fmt.Sprint("7.9.", i+1), f(closing(code, "")), nil, 1002})
	}
	cases = append(cases, rfcCase{"7.9.0", f(part(0x88, "\x00\x00")), nil, 1002})
	for i, valid := range []string{
		"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5", "\x00", "\xc2\x80", "\xe0\xa0\x80", "\xf0\x90\x80\x80", "\x7f", "\xdf\xbf", "\xef\xbf\xbf", "\xf4\x8f\xbf\xbf",
		"\xed\x9f\xbf", "\xee\x80\x80", "\xef\xbf\xbd", "\xef\xbf\xbe", "\xf0\x9f\xbf\xbe", "\xf3\xbf\xbf\xbf",
	} {
		cases = append(cases, rfcCase{fmt.Sprint("6.5 and on, valid ", i+1), append(f(text(valid)), singly(valid+valid, 1)...), w(valid, valid+valid), kept})
	}
	for i, bad := range []string{
		"\xce", "\xce\xba\xe1", "\xf8\x88\x80\x80\x80", "\xfc\x84\x80\x80\x80\x80", "\xf7\xbf\xbf\xbf", "\xf4\x90\x80\x80", "\x80", "\xbf", "\x80\xbf\x80",
		"\xc0 \xc1 ", "\xe0 ", "\xf0 ", "\xfe", "\xff", "\xc0\xaf", "\xe0\x80\xaf", "\xf0\x80\x80\xaf", "\xc1\xbf", "\xe0\x9f\xbf", "\xf0\x8f\xbf\xbf", "\xed\xa0\x80", "\xed\xbf\xbf",
		"\xed\xa0\x80\xed\xb0\x80",
	} {
		cases = append(cases, rfcCase{fmt.Sprint("6.6 and on, not valid ", i+1), f(text(bad)), nil, 1007},
			rfcCase{fmt.Sprint("6.6 and on, in bytes, not valid ", i+1), singly(bad+"x", 1), nil, 1007})
	}
	return cases
}

// wantEach reads what a case wants.
func (c *client) wantEach(why string, want []string) {
	c.t.Helper()
	for i, p := range want {
		op := ws.OpText
		if p != "" && (p[0] == 0x02 || p[0] == 0x0a) {
			op, p = ws.OpCode(p[0]), p[1:]
		}
		c.want(fmt.Sprintf("%s, frame %d", why, i+1), op, p)
	}
}

// large raises the limits, as section 9 needs.
var large = Config{MaxMessage: 8 << 20, MaxFragments: 1 << 20, ChannelBuffer: 32 << 20, MaxPending: 16 << 20}

func TestRFC6455CaseByCase(t *testing.T) {
	t.Parallel()
	s := start(t, large)
	for i, c := range rfcCases() {
		for _, target := range []string{"/echo", fmt.Sprint("/ws/case", i)} {
			if strings.HasPrefix(target, "/ws") && isPongThenText(c.want) {
				continue // pongs may overtake publications
			}
			k := dial(t, s, target)
			why := c.number + " on " + target
			k.send(c.send...)
			k.wantEach(why, c.want)
			if c.code == kept {
				k.send(closing(1000, ""))
				k.wantClose(why, 1000)
				continue
			}
			k.wantClose(why, c.code)
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
	c := dial(t, s, "/ws")
	c.send(part(0x83, ""))
	c.wantCloseFrame("reserved opcode", 1002)
	c.wantEOF("nothing is expected of a client that breaks the protocol")
	c.fin()
	s.wantClosed(reasonProtocol, 1)

	c = dial(t, s, "/ws")
	c.send(append(singly(stars(65), 1), text("late"))...)
	c.wantCloseFrame("65 fragments", 1008)
	c.wantEOF("too many fragments")
	c.fin()
	s.wantClosed(reasonFragments, 1)

	c = dial(t, s, "/ws")
	c.send(part(0x01, "one"), "\x80\xff\x00\x00\x00\x00\x00\x01\x00\x00")
	c.wantCloseFrame("a message beyond 64 KiB", 1009)
	c.wantEOF("it is too big")
	c.fin()
	s.wantClosed(reasonTooBig, 1)
}

// The Close frame must come although the client sends on and reads late: closing
// a socket with unread bytes would reset it.
func TestCloseFrameReachesAClientThatIsStillSending(t *testing.T) {
	t.Parallel()
	s := start(t, Config{})
	for _, fault := range []struct {
		send string
		code ws.StatusCode
	}{{part(0x83, ""), 1002}, {text("\xff"), 1007}, {"\x82\xff\x40\x00\x00\x00\x00\x00\x00\x00", 1009}, {closing(4000, ""), 4000}} {
		c := dial(t, s, "/echo")
		c.send(fault.send, strings.Repeat(text(stars(1000)), 1000)) // a megabyte that nobody wants
		c.wantCloseFrame("it came before all that", fault.code)
		c.wantEOF("and then a FIN, no reset")
		c.fin()
	}
	s.wantConnections(0)
}

func TestFramesMayComeInAnyPieces(t *testing.T) {
	t.Parallel()
	s := start(t, Config{})
	bytesIn := func() uint64 { return s.sum(func(st *loopStats) uint64 { return st.bytesIn.Load() }) }
	all := part(0x01, cjk[:40]) + ping("p") + part(0x80, cjk[40:]) + bin(stars(126)) + text(cjk) + closing(3000, "bye")
	want := []string{"\x0ap", cjk, "\x02" + stars(126), cjk}
	wantAll := func(c *client, why string) {
		t.Helper()
		c.wantEach(why, want)
		c.wantClose(why, 3000)
	}
	for cut := 1; cut < len(all); cut++ {
		c := dial(t, s, "/echo")
		before := bytesIn()
		c.write(all[:cut])
		waitFor(t, "the first piece to be read", func() bool { return bytesIn() >= before+uint64(cut) })
		c.write(all[cut:])
		wantAll(c, fmt.Sprintf("cut at %d", cut))
		s.wantConnections(0)
	}
	c := dial(t, s, "/echo")
	before := bytesIn()
	for i := range len(all) {
		c.write(all[i : i+1])
		waitFor(t, "the byte to be read", func() bool { return bytesIn() > before+uint64(i) })
	}
	wantAll(c, "byte by byte")
}

// Sections 9 and 10: large messages, many fragments, many messages, and how the
// client cuts its writes.
func TestLargeMessages(t *testing.T) {
	t.Parallel()
	s := start(t, large)
	biggest := scaled(8<<20, 1<<20)
	through := func(target, number, p string, frames ...string) {
		t.Helper()
		c := dial(t, s, target)
		failed := make(chan error, 1)
		go func() { // the echo comes while the rest is sent
			_, err := c.conn.Write([]byte(strings.Join(frames, "")))
			failed <- err
		}()
		c.wantEach(number+" on "+target, []string{p})
		if err := receive(t, "the writer", failed); err != nil {
			t.Errorf("%s: %v", number, err)
		}
		c.send(closing(1000, ""))
		c.wantClose(number, 1000)
	}
	for _, target := range []string{"/echo", "/ws/large"} {
		for i, size := range []int{64 << 10, 256 << 10, 1 << 20, 4 << 20, 8 << 20} {
			if size > biggest {
				continue
			}
			through(target, fmt.Sprint("9.1.", i+1), stars(size), text(stars(size)))
			b := "\x02" + string(bytes.Repeat([]byte{0xfe}, size))
			through(target, fmt.Sprint("9.2.", i+1), b, bin(b[1:]))
		}
		for i, size := range []int{64, 256, 1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10} {
			p := stars(biggest / 8)
			through(target, fmt.Sprint("9.3.", i+1), p, singly(p, size)...)
		}
		through(target, "10.1.1", stars(65536), singly(stars(65536), 1300)...)
	}
	for i, size := range []int{64, 256, 1 << 10} { // 9.5: a message in many writes
		c := dial(t, s, "/echo")
		p := stars(biggest / 64)
		wire := text(p)
		for len(wire) > 0 {
			n := min(size, len(wire))
			c.write(wire[:n])
			wire = wire[n:]
		}
		c.wantText(fmt.Sprint("9.5.", i+1), p)
	}
	for i, size := range []int{0, 16, 64, 256, 1024, 4096} { // 9.7: message after message
		c := dial(t, s, "/ws/one-by-one")
		p := stars(size)
		for range scaled(1000, 100) {
			c.send(text(p))
			c.wantText(fmt.Sprint("9.7.", i+1), p)
		}
		c.send(closing(1000, ""))
		c.wantClose("9.7", 1000)
	}
}
