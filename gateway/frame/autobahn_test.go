package frame

import (
	"encoding/binary"
	"strings"
	"testing"

	"github.com/gobwas/ws"
)

// The cases of the Autobahn test suite that concern what a client sends. The
// cases of section 6.5 and on, and 7.7 and on, are in autobahn_utf8_test.go and
// TestCloseCodes. What a case sends after a fault must never come out.

const (
	hello   = "Hello-µ@ßöäüàá-UTF-8!!"
	kosme   = "κόσμε"
	edited  = "edited"
	chinese = "订阅者在线，消息送达。購読者へ配信しました。구독자에게 전달했습니다𠮷🀄"
)

func stars(n int) string { return strings.Repeat("*", n) }

func text(p string) got   { return got{Op: ws.OpText, Payload: p} }
func bin(p string) got    { return got{Op: ws.OpBinary, Payload: p} }
func ping(p string) got   { return got{Op: ws.OpPing, Payload: p} }
func pong(p string) got   { return got{Op: ws.OpPong, Payload: p} }
func closed(p string) got { return got{Op: ws.OpClose, Payload: p} }

// code gives the payload of a Close.
func code(c ws.StatusCode, reason string) string {
	return string(binary.BigEndian.AppendUint16(nil, uint16(c))) + reason
}

// singly gives a text in fragments of one byte.
func singly(p string) []sent {
	var frames []sent
	for i := range len(p) {
		f := sent{0x00, p[i : i+1]}
		if i == 0 {
			f.b0 |= byte(ws.OpText)
		}
		if i == len(p)-1 {
			f.b0 |= fin
		}
		frames = append(frames, f)
	}
	return frames
}

func times(n int, f sent, m got) (frames []sent, want []got) {
	for range n {
		frames, want = append(frames, f), append(want, m)
	}
	return frames, want
}

type autobahnCase struct {
	number string
	frames []sent
	want   []got
	err    *Error
}

func autobahnCases() []autobahnCase {
	pings, wantPings := times(10, sent{0x89, "payload"}, ping("payload"))
	cases := []autobahnCase{
		{"2.1 ping without payload", []sent{{0x89, ""}}, []got{ping("")}, nil},
		{"2.2 ping with text", []sent{{0x89, "Hello, world!"}}, []got{ping("Hello, world!")}, nil},
		{"2.3 ping with binary payload", []sent{{0x89, "\x00\xff\xfe\xfd\xfc\xfb\x00\xff"}}, []got{ping("\x00\xff\xfe\xfd\xfc\xfb\x00\xff")}, nil},
		{"2.4 ping of 125", []sent{{0x89, stars(125)}}, []got{ping(stars(125))}, nil},
		{"2.5 ping of 126", []sent{{0x89, stars(126)}}, nil, ErrLongControl},
		{"2.6 ping of 125, octets", []sent{{0x89, strings.Repeat("\xfe", 125)}}, []got{ping(strings.Repeat("\xfe", 125))}, nil},
		{"2.7 pong unasked", []sent{{0x8a, ""}}, []got{pong("")}, nil},
		{"2.8 pong unasked with payload", []sent{{0x8a, "unasked"}}, []got{pong("unasked")}, nil},
		{"2.9 pong unasked, then ping", []sent{{0x8a, "unasked"}, {0x89, "ping"}}, []got{pong("unasked"), ping("ping")}, nil},
		{"2.10 ten pings", pings, wantPings, nil},
		{"2.11 ten pings, octets", pings, wantPings, nil},

		{"3.1 text with RSV 1", []sent{{0x91, "Hello"}}, nil, ErrReservedBits},
		{"3.2 text, text with RSV 2, ping", []sent{{0x81, "Hello"}, {0xa1, "Hello"}, {0x89, ""}}, []got{text("Hello")}, ErrReservedBits},
		{"3.3 text, text with RSV 3, ping", []sent{{0x81, "Hello"}, {0xb1, "Hello"}, {0x89, ""}}, []got{text("Hello")}, ErrReservedBits},
		{"3.4 text, text with RSV 4, ping", []sent{{0x81, "Hello"}, {0xc1, "Hello"}, {0x89, ""}}, []got{text("Hello")}, ErrReservedBits},
		{"3.5 binary with RSV 5", []sent{{0xd2, "\x00\xff"}}, nil, ErrReservedBits},
		{"3.6 ping with RSV 6", []sent{{0xe9, "Hello"}}, nil, ErrReservedBits},
		{"3.7 close with RSV 7", []sent{{0xf8, code(1000, "")}}, nil, ErrReservedBits},

		{"4.1.1 opcode 3", []sent{{0x83, ""}}, nil, ErrReservedOpCode},
		{"4.1.2 opcode 4 with payload", []sent{{0x84, "reserved"}}, nil, ErrReservedOpCode},
		{"4.1.3 text, opcode 5, ping", []sent{{0x81, "Hello"}, {0x85, ""}, {0x89, ""}}, []got{text("Hello")}, ErrReservedOpCode},
		{"4.1.4 text, opcode 6 with payload, ping", []sent{{0x81, "Hello"}, {0x86, "reserved"}, {0x89, ""}}, []got{text("Hello")}, ErrReservedOpCode},
		{"4.1.5 text, opcode 7 with payload, ping", []sent{{0x81, "Hello"}, {0x87, "reserved"}, {0x89, ""}}, []got{text("Hello")}, ErrReservedOpCode},
		{"4.2.1 opcode 11", []sent{{0x8b, ""}}, nil, ErrReservedOpCode},
		{"4.2.2 opcode 12 with payload", []sent{{0x8c, "reserved"}}, nil, ErrReservedOpCode},
		{"4.2.3 text, opcode 13, ping", []sent{{0x81, "Hello"}, {0x8d, ""}, {0x89, ""}}, []got{text("Hello")}, ErrReservedOpCode},
		{"4.2.4 text, opcode 14 with payload, ping", []sent{{0x81, "Hello"}, {0x8e, "reserved"}, {0x89, ""}}, []got{text("Hello")}, ErrReservedOpCode},
		{"4.2.5 text, opcode 15 with payload, ping", []sent{{0x81, "Hello"}, {0x8f, "reserved"}, {0x89, ""}}, []got{text("Hello")}, ErrReservedOpCode},

		{"5.1 ping in two fragments", []sent{{0x09, "one"}, {0x80, "two"}}, nil, ErrFragmentedControl},
		{"5.2 pong in two fragments", []sent{{0x0a, "one"}, {0x80, "two"}}, nil, ErrFragmentedControl},
		{"5.3 to 5.5 text in two fragments", []sent{{0x01, "one"}, {0x80, "two"}}, []got{text("onetwo")}, nil},
		{"5.6 to 5.8 ping between two fragments", []sent{{0x01, "one"}, {0x89, "ping"}, {0x80, "two"}}, []got{ping("ping"), text("onetwo")}, nil},
		{"5.9 to 5.11 final continuation without start, then text", []sent{{0x80, "what?"}, {0x81, "Hello"}}, nil, ErrNoMessage},
		{"5.12 to 5.14 continuation without start, then text", []sent{{0x00, "what?"}, {0x81, "Hello"}}, nil, ErrNoMessage},
		{"5.15 text in two, continuation without start, text", []sent{{0x01, "one"}, {0x80, "two"}, {0x00, "three"}, {0x81, "four"}}, []got{text("onetwo")}, ErrNoMessage},
		{"5.16 continuation, text, final continuation; twice", []sent{{0x00, "1"}, {0x01, "2"}, {0x80, "3"}, {0x00, "4"}, {0x01, "5"}, {0x80, "6"}}, nil, ErrNoMessage},
		{"5.17 final continuation, text, final continuation; twice", []sent{{0x80, "1"}, {0x01, "2"}, {0x80, "3"}, {0x80, "4"}, {0x01, "5"}, {0x80, "6"}}, nil, ErrNoMessage},
		{"5.18 text inside text", []sent{{0x01, "one"}, {0x81, "two"}}, nil, ErrInsideMessage},
		{"5.19, 5.20 five fragments with two pings", []sent{{0x01, "1"}, {0x00, "2"}, {0x89, "ping 1"}, {0x00, "3"}, {0x00, "4"}, {0x89, "ping 2"}, {0x80, "5"}}, []got{ping("ping 1"), ping("ping 2"), text("12345")}, nil},
		{"5.x binary inside text, pong and long ping between", []sent{{0x01, chinese[:100]}, {0x8a, ""}, {0x00, ""}, {0x89, stars(125)}, {0x80, chinese[100:]}, {0x02, "1"}, {0x82, "2"}}, []got{pong(""), ping(stars(125)), text(chinese)}, ErrInsideMessage},

		{"6.1.1 empty text", []sent{{0x81, ""}}, []got{text("")}, nil},
		{"6.1.2 three empty fragments", []sent{{0x01, ""}, {0x00, ""}, {0x80, ""}}, []got{text("")}, nil},
		{"6.1.3 one of three not empty", []sent{{0x01, ""}, {0x00, "middle"}, {0x80, ""}}, []got{text("middle")}, nil},
		{"6.2.1 UTF-8", []sent{{0x81, hello}}, []got{text(hello)}, nil},
		{"6.2.2 UTF-8, cut between code points", []sent{{0x01, hello[:10]}, {0x80, hello[10:]}}, []got{text(hello)}, nil},
		{"6.2.3 UTF-8 in single bytes", singly(hello), []got{text(hello)}, nil},
		{"6.2.4 UTF-8 in single bytes", singly(kosme), []got{text(kosme)}, nil},
		{"6.2.x CJK", []sent{{0x81, chinese}}, []got{text(chinese)}, nil},
		{"6.2.x CJK, cut inside a code point", []sent{{0x01, chinese[:7]}, {0x00, chinese[7:8]}, {0x80, chinese[8:]}}, []got{text(chinese)}, nil},
		{"6.3.1 not UTF-8", []sent{{0x81, kosme + "\xed\xa0\x80" + edited}}, nil, ErrText},
		{"6.3.2 not UTF-8, in single bytes", singly(kosme + "\xed\xa0\x80" + edited), nil, ErrText},
		{"6.4.1 fault in the second of three fragments", []sent{{0x01, kosme}, {0x00, "\xf4\x90\x80\x80"}, {0x80, edited}}, nil, ErrText},
		{"6.4.2 fault at the second fragment's first byte", []sent{{0x01, kosme + "\xf4"}, {0x00, "\x90"}, {0x00, "\x80\x80"}, {0x80, edited}}, nil, ErrText},
		{"6.4.3, 6.4.4 fault inside a frame", []sent{{0x81, kosme + "\xf4\x90\x80\x80" + edited}}, nil, ErrText},
		{"6.x a code point that a message's end cuts", []sent{{0x01, kosme}, {0x80, "\xf0\x9f\x80"}}, nil, ErrText},
		{"6.x binary need not be UTF-8", []sent{{0x02, "\xff"}, {0x80, "\xed\xa0\x80"}}, []got{bin("\xff\xed\xa0\x80")}, nil},

		{"7.1.1 text, close", []sent{{0x81, "Hello"}, {0x88, code(1000, "")}}, []got{text("Hello"), closed(code(1000, ""))}, nil},
		{"7.1.2 two closes", []sent{{0x88, code(1000, "")}, {0x88, code(1000, "")}}, []got{closed(code(1000, "")), closed(code(1000, ""))}, nil},
		{"7.1.5 close inside a fragmented text", []sent{{0x01, "one"}, {0x88, code(1000, "")}, {0x80, "two"}}, []got{closed(code(1000, "")), text("onetwo")}, nil},
		{"7.1.6 long text, close, ping", []sent{{0x81, stars(1 << 18)}, {0x88, code(1000, "")}, {0x89, ""}}, []got{text(stars(1 << 18)), closed(code(1000, "")), ping("")}, nil},
		{"7.3.1 close without payload", []sent{{0x88, ""}}, []got{closed("")}, nil},
		{"7.3.2 close with one byte", []sent{{0x88, "a"}}, nil, ErrCloseLength},
		{"7.3.3 close with a code", []sent{{0x88, code(1000, "")}}, []got{closed(code(1000, ""))}, nil},
		{"7.3.4 close with a reason", []sent{{0x88, code(1000, "Hello World!")}}, []got{closed(code(1000, "Hello World!"))}, nil},
		{"7.3.5 close with the longest reason", []sent{{0x88, code(1000, stars(123))}}, []got{closed(code(1000, stars(123)))}, nil},
		{"7.3.6 close too long", []sent{{0x88, code(1000, stars(124))}}, nil, ErrLongControl},
		{"7.5.1 reason not UTF-8", []sent{{0x88, code(1000, kosme+"\xed\xa0\x80"+edited)}}, nil, ErrCloseReason},
	}
	for i, size := range []int{0, 125, 126, 127, 128, 65535, 65536, 65536} {
		number := string(rune('1' + i))
		binary := strings.Repeat("\xfe", size)
		cases = append(cases,
			autobahnCase{"1.1." + number, []sent{{0x81, stars(size)}}, []got{text(stars(size))}, nil},
			autobahnCase{"1.2." + number, []sent{{0x82, binary}}, []got{bin(binary)}, nil},
			autobahnCase{"1.x." + number + " in two fragments", []sent{{0x02, binary}, {0x80, binary}}, []got{bin(binary + binary)}, nil},
		)
	}
	return cases
}

func TestAutobahnCasesHoweverTheyAreCut(t *testing.T) {
	for _, c := range autobahnCases() {
		t.Run(c.number, func(t *testing.T) {
			t.Parallel()
			wantAnyCut(t, stream(c.frames...), &roomy, c.want, c.err)
		})
	}
}

// Cases 7.7, 7.9 and 7.13, and the codes around them: 1012 to 1014 have been
// registered since the suite was written, and above 4999 nothing is.
func TestCloseCodes(t *testing.T) {
	for c := 0; c <= 0xffff; c++ {
		allowed := c >= 1000 && c <= 1003 || c >= 1007 && c <= 1014 || c >= 3000 && c <= 4999
		payload := code(ws.StatusCode(c), "why")
		m, _, ok, err := Whole(stream(sent{0x88, payload}), &roomy)
		switch {
		case allowed && (!ok || string(m.Payload) != payload || CloseEcho(m.Payload) != ws.StatusCode(c)):
			t.Errorf("%d: %v, want it to pass", c, err)
		case !allowed && !same(err, ErrCloseCode):
			t.Errorf("%d: %v, want %v", c, err, ErrCloseCode)
		}
	}
	if got := CloseEcho(nil); got != ws.StatusNoStatusRcvd {
		t.Errorf("an empty Close counts as %d", got)
	}
}
