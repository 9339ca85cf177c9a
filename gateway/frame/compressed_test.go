package frame

import (
	"testing"

	"github.com/gobwas/ws"
)

func TestCompressedMessagesComeOutAsTheyAre(t *testing.T) {
	lim := Limits{MessageBytesMax: 1000, FragmentsMax: 3, Deflate: true}
	squeezed := func(op ws.OpCode, p string) got { return got{Op: op, Payload: p, Compressed: true} }
	const noText = "\xff\xfe\xfd" // of a compressed message, it is not looked at
	for _, c := range []struct {
		what   string
		frames []sent
		want   []got
		err    *Error
	}{
		{"text", []sent{{0xc1, noText}}, []got{squeezed(ws.OpText, noText)}, nil},
		{"binary", []sent{{0xc2, noText}}, []got{squeezed(ws.OpBinary, noText)}, nil},
		{"empty", []sent{{0xc1, ""}}, []got{squeezed(ws.OpText, "")}, nil},
		{"fragments", []sent{{0x41, noText}, {0x00, ""}, {0x80, noText}}, []got{squeezed(ws.OpText, noText+noText)}, nil},
		{"a ping between fragments", []sent{{0x41, noText}, {0x89, "p"}, {0x80, noText}}, []got{ping("p"), squeezed(ws.OpText, noText+noText)}, nil},
		{"one is, the next is not", []sent{{0xc1, noText}, {0x81, "b"}, {0x01, "c"}, {0x80, "d"}}, []got{squeezed(ws.OpText, noText), text("b"), text("cd")}, nil},
		{"not compressed, no UTF-8", []sent{{0xc1, noText}, {0x81, noText}}, []got{squeezed(ws.OpText, noText)}, ErrText},
		{"a continuation", []sent{{0x41, noText}, {0xc0, noText}}, nil, ErrReservedBits},
		{"a ping", []sent{{0xc9, ""}}, nil, ErrReservedBits},
		{"a close", []sent{{0xc8, ""}}, nil, ErrReservedBits},
		{"RSV2", []sent{{0xa1, ""}}, nil, ErrReservedBits},
		{"RSV1 and RSV3", []sent{{0xd1, ""}}, nil, ErrReservedBits},
		{"a reserved opcode", []sent{{0xc3, ""}}, nil, ErrReservedBits},
		{"a second beginning", []sent{{0x41, "a"}, {0xc1, "b"}}, nil, ErrInsideMessage},
		{"as much as may be", []sent{{0xc2, stars(1065)}}, []got{squeezed(ws.OpBinary, stars(1065))}, nil},
		{"more than that", []sent{{0xc2, stars(1066)}}, nil, ErrTooBig},
		{"in fragments", []sent{{0x42, stars(1000)}, {0x00, stars(65)}, {0x80, "*"}}, nil, ErrTooBig},
		{"the limit of the others", []sent{{0x82, stars(1001)}}, nil, ErrTooBig},
		{"the limit of the others, in fragments", []sent{{0xc2, "a"}, {0x02, stars(1000)}, {0x80, "*"}}, []got{squeezed(ws.OpBinary, "a")}, ErrTooBig},
	} {
		t.Run(c.what, func(t *testing.T) { wantAnyCut(t, stream(c.frames...), &lim, c.want, c.err) })
	}
}

func TestNothingIsCompressedUnlessNegotiated(t *testing.T) {
	for _, b0 := range []byte{0xc1, 0xc2, 0x41, 0x42} {
		wantAnyCut(t, stream(sent{b0, "a"}), &roomy, nil, ErrReservedBits)
	}
}
