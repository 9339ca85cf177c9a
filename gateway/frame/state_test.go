package frame

import (
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	"github.com/gobwas/ws"
)

// header gives a client's header with a length in the form that is asked for:
// 7, 16 or 64 bits.
func header(b0 byte, bits int, length uint64) []byte {
	switch bits {
	case 16:
		return append(binary.BigEndian.AppendUint16([]byte{b0, masked | 126}, uint16(length)), 1, 2, 3, 4)
	case 64:
		return append(binary.BigEndian.AppendUint64([]byte{b0, masked | 127}, length), 1, 2, 3, 4)
	default:
		return []byte{b0, masked | byte(length), 1, 2, 3, 4}
	}
}

func TestHeaderIsRefusedAtTheByteThatShowsTheFault(t *testing.T) {
	lim := Limits{MessageBytesMax: 1000, FragmentsMax: 3}
	unmasked := func(b0 byte) []byte { return ws.MustCompileFrame(ws.NewFrame(ws.OpCode(b0&15), true, []byte("bare"))) }
	for _, c := range []struct {
		what  string
		first []sent // whole frames before
		head  []byte
		at    int // index in head of the byte that shows it
		want  *Error
	}{
		{"reserved bit", nil, header(0xc1, 7, 0), 0, ErrReservedBits},
		{"reserved opcode", nil, header(0x83, 7, 0), 0, ErrReservedOpCode},
		{"fragmented ping", nil, header(0x09, 7, 0), 0, ErrFragmentedControl},
		{"continuation of nothing", nil, header(0x00, 7, 0), 0, ErrNoMessage},
		{"continuation after the end", []sent{{0x01, "a"}, {0x80, "b"}}, header(0x80, 7, 0), 0, ErrNoMessage},
		{"text in a text", []sent{{0x01, "a"}}, header(0x81, 7, 0), 0, ErrInsideMessage},
		{"fourth fragment of three", []sent{{0x01, ""}, {0x00, ""}, {0x00, ""}}, header(0x80, 7, 0), 0, ErrTooManyFragments},
		{"not masked", nil, unmasked(0x81), 1, ErrUnmasked},
		{"not masked, control", nil, unmasked(0x89), 1, ErrUnmasked},
		{"control frame of 126", nil, header(0x88, 16, 126), 1, ErrLongControl},
		{"control frame of 70,000", nil, header(0x8a, 64, 70000), 1, ErrLongControl},
		{"125 in 16 bits", nil, header(0x81, 16, 125), 3, ErrLengthMinimal},
		{"0 in 16 bits", nil, header(0x81, 16, 0), 3, ErrLengthMinimal},
		{"65,535 in 64 bits", nil, header(0x81, 64, 65535), 7, ErrLengthMinimal},
		{"0 in 64 bits", nil, header(0x81, 64, 0), 7, ErrLengthMinimal},
		{"sign bit", nil, header(0x81, 64, 1<<63), 2, ErrLengthSign},
		{"all bits", nil, header(0x81, 64, 1<<64-1), 2, ErrLengthSign},
		{"2^62", nil, header(0x82, 64, 1<<62), 2, ErrTooBig},
		{"65,536", nil, header(0x82, 64, 1<<16), 7, ErrTooBig},
		{"one more than the limit", nil, header(0x82, 16, 1001), 3, ErrTooBig},
		{"1,024", nil, header(0x82, 16, 1024), 2, ErrTooBig},
		{"fragments, one byte more than the limit", []sent{{0x01, stars(900)}, {0x00, stars(100)}}, header(0x80, 7, 1), 1, ErrTooBig},
		{"fragments, 16 bits more", []sent{{0x01, stars(800)}}, header(0x00, 16, 201), 3, ErrTooBig},
	} {
		for _, together := range []bool{false, true} {
			var s State
			b := stream(c.first...)
			if len(b) > 0 {
				if _, n, _, err := Next(&s, b, &lim); err != nil || n == 0 {
					t.Fatalf("%s: before the fault: %v", c.what, err)
				}
			}
			if together {
				if _, _, _, err := Next(&s, slices.Clone(c.head), &lim); !same(err, c.want) {
					t.Errorf("%s, whole: %v, want %v", c.what, err, c.want)
				}
				continue
			}
			for i := range c.head {
				_, _, _, err := Next(&s, c.head[i:i+1], &lim)
				if i < c.at && err != nil || i == c.at && !same(err, c.want) {
					t.Errorf("%s: byte %d: %v, want %v at byte %d", c.what, i, err, c.want, c.at)
				}
				if err != nil {
					break
				}
			}
		}
	}
}

func TestLengthsAtTheirBoundsPass(t *testing.T) {
	for _, c := range []struct {
		bits, length int
	}{{7, 125}, {16, 126}, {16, 65535}, {64, 65536}} {
		b := append(header(0x82, c.bits, uint64(c.length)), make([]byte, c.length)...)
		lim := Limits{MessageBytesMax: c.length}
		for _, chunks := range [][][]byte{cut(b), cutEverywhere(b), cut(b, len(b)-1)} {
			msgs, err := parse(t, chunks, &lim)
			if err != nil || len(msgs) != 1 || len(msgs[0].Payload) != c.length {
				t.Errorf("%d in %d bits: %v", c.length, c.bits, err)
			}
		}
	}
}

// A fault in the header of a frame that is there as a whole: Whole sees it first
// and must leave it to Next.
func TestWholeFrameWithABadHeaderIsRefused(t *testing.T) {
	whole := func(head []byte, size int) []byte { return append(head, make([]byte, size)...) }
	for _, c := range []struct {
		what string
		b    []byte
		want *Error
	}{
		{"0 in 16 bits", whole(header(0x82, 16, 0), 0), ErrLengthMinimal},
		{"125 in 16 bits", whole(header(0x82, 16, 125), 125), ErrLengthMinimal},
		{"126 in 64 bits", whole(header(0x82, 64, 126), 126), ErrLengthMinimal},
		{"65,535 in 64 bits", whole(header(0x82, 64, 65535), 65535), ErrLengthMinimal},
		{"control frame of 126", whole(header(0x89, 16, 126), 126), ErrLongControl},
		{"control frame of 5 in 16 bits", whole(header(0x88, 16, 5), 5), ErrLongControl},
		{"not masked", ws.MustCompileFrame(ws.NewTextFrame([]byte(stars(125)))), ErrUnmasked},
		{"not masked, 126", ws.MustCompileFrame(ws.NewTextFrame([]byte(stars(126)))), ErrUnmasked},
	} {
		t.Run(c.what, func(t *testing.T) { wantAnyCut(t, c.b, &roomy, nil, c.want) })
	}
}

func TestLimitsHoldForMessagesAndNotForControlFrames(t *testing.T) {
	lim := Limits{MessageBytesMax: 10, FragmentsMax: 3}
	for _, c := range []struct {
		what   string
		frames []sent
		want   []got
		err    *Error
	}{
		{"the limit in one frame", []sent{{0x81, stars(10)}}, []got{text(stars(10))}, nil},
		{"one more", []sent{{0x81, stars(11)}}, nil, ErrTooBig},
		{"the limit in all fragments", []sent{{0x01, stars(5)}, {0x00, stars(4)}, {0x80, stars(1)}}, []got{text(stars(10))}, nil},
		{"one more in the last", []sent{{0x01, stars(5)}, {0x00, stars(4)}, {0x80, stars(2)}}, nil, ErrTooBig},
		{"every message begins anew", []sent{{0x01, stars(5)}, {0x00, ""}, {0x80, stars(5)}, {0x01, stars(5)}, {0x00, ""}, {0x80, stars(5)}}, []got{text(stars(10)), text(stars(10))}, nil},
		{"a fragment too many, empty", []sent{{0x01, "a"}, {0x00, ""}, {0x00, ""}, {0x80, ""}}, nil, ErrTooManyFragments},
		{"control frames are no fragments and have their own size", []sent{{0x01, "a"}, {0x89, stars(125)}, {0x00, "b"}, {0x89, ""}, {0x8a, stars(11)}, {0x80, "c"}}, []got{ping(stars(125)), ping(""), pong(stars(11)), text("abc")}, nil},
	} {
		t.Run(c.what, func(t *testing.T) { wantAnyCut(t, stream(c.frames...), &lim, c.want, c.err) })
	}
}

func TestControlFrameLeavesTheMessageAloneWhereverItStands(t *testing.T) {
	for i := range len(chinese) + 1 {
		b := stream(
			sent{0x01, chinese[:i]}, sent{0x89, stars(i % 126)},
			sent{0x00, ""}, sent{0x88, code(4000, chinese[:60])},
			sent{0x80, chinese[i:]}, sent{0x8a, "done"})
		want := []got{ping(stars(i % 126)), closed(code(4000, chinese[:60])), text(chinese), pong("done")}
		wantAnyCut(t, b, &roomy, want, nil)
	}
}

func TestMessageThatLiesInTheInputIsNotCopied(t *testing.T) {
	b := stream(sent{0x82, stars(300)})
	m, n, ok, err := Whole(b, &roomy)
	if !ok || err != nil || n != len(b) || &m.Payload[0] != &b[8] || cap(m.Payload) != 300 {
		t.Errorf("Whole: %d of %d bytes, ok %t, error %v, or a copy", n, len(b), ok, err)
	}
	for _, head := range []int{0, 1, 4, 7, 8} { // header bytes that came before
		b := stream(sent{0x82, stars(300)})
		var s State
		if _, _, ok, err := Next(&s, b[:head], &roomy); ok || err != nil {
			t.Fatal(ok, err)
		}
		m, _, ok, err := Next(&s, b[head:], &roomy)
		if !ok || err != nil || &m.Payload[0] != &b[8] || s.Held() != 0 || !s.Idle() {
			t.Errorf("Next after %d bytes: ok %t, error %v, %d held, or a copy", head, ok, err, s.Held())
		}
	}
}

func TestBufferGrowsWithWhatArrivesNotWithWhatIsDeclared(t *testing.T) {
	lim := Limits{MessageBytesMax: 1 << 30, FragmentsMax: 2}
	var s State
	b := append(header(0x82, 64, 1<<30), make([]byte, 5000)...)
	for i, c := range b {
		if _, _, ok, err := Next(&s, []byte{c}, &lim); ok || err != nil {
			t.Fatal(ok, err)
		}
		arrived := max(i+1-14, 0)
		if held := s.Held(); held > max(bufferBytesMin, 2*arrived) {
			t.Fatalf("%d bytes held when %d had arrived", held, arrived)
		}
	}
	s.Reset()
	if !s.Idle() || s.Held() > bufferBytesKept {
		t.Errorf("after Reset: idle %t, %d bytes held", s.Idle(), s.Held())
	}
}

func TestTrickleCostsNoMoreThanItsBytes(t *testing.T) {
	const size = 1 << 20
	b := stream(sent{0x82, stars(size)})
	got := testing.AllocsPerRun(1, func() {
		var s State
		for i := range b {
			Next(&s, b[i:i+1], &roomy)
		}
	})
	if most := 24.0; got > most { // 12 from 512 to 1 Mi by doubling, and what else goes on in the process
		t.Errorf("%g allocations for %d bytes that came singly, want at most %g", got, size, most)
	}
}

func TestResetForgets(t *testing.T) {
	var s State
	for _, frames := range [][]sent{
		{{0x01, "a\xe4"}},
		{{0x01, stars(10000)}},
		{{0x01, "a"}, {0x89, "ping"}},
	} {
		b := stream(frames...)
		for cutAt := range len(b) - 1 {
			p := slices.Clone(b[:cutAt+1])
			for len(p) > 0 {
				_, n, _, err := Next(&s, p, &roomy)
				if err != nil {
					t.Fatal(err)
				}
				p = p[n:]
			}
			if s.Idle() {
				t.Fatalf("idle after %d of %d bytes", cutAt+1, len(b))
			}
			s.Reset()
			if !s.Idle() || s.Held() > bufferBytesKept {
				t.Fatalf("after Reset: idle %t, %d bytes held", s.Idle(), s.Held())
			}
			m, _, ok, err := Next(&s, stream(sent{0x81, hello}), &roomy)
			if !ok || err != nil || string(m.Payload) != hello {
				t.Fatalf("after Reset: %q, %v", m.Payload, err)
			}
		}
	}
}

func TestParsingDoesNotAllocate(t *testing.T) {
	lim := Limits{MessageBytesMax: 1 << 16, FragmentsMax: 8}
	frames := stream(sent{0x81, chinese}, sent{0x82, stars(3000)}, sent{0x89, "ping"}, sent{0x88, code(1000, "bye")})
	fragments := stream(sent{0x01, chinese[:10]}, sent{0x8a, stars(125)}, sent{0x00, chinese[10:]}, sent{0x80, strings.Repeat(chinese, 30)})
	bad := stream(sent{0x81, "\xff"})
	p := make([]byte, 0, 1<<16)
	s := new(State)
	run := func(what string, f func()) {
		t.Helper()
		f()
		if got := testing.AllocsPerRun(100, f); got != 0 {
			t.Errorf("%s: %g allocations", what, got)
		}
	}
	run("Whole", func() {
		for rest := append(p, frames...); len(rest) > 0; {
			_, n, ok, err := Whole(rest, &lim)
			if !ok || err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
	})
	run("Next, whole frames", func() {
		for rest := append(p, frames...); len(rest) > 0; {
			_, n, ok, err := Next(s, rest, &lim)
			if !ok || err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
	})
	run("Next, fragments in chunks of 7", func() {
		for chunk := range slices.Chunk(append(p, fragments...), 7) {
			for len(chunk) > 0 {
				_, n, _, err := Next(s, chunk, &lim)
				if err != nil {
					t.Fatal(err)
				}
				chunk = chunk[n:]
			}
		}
	})
	run("a fault", func() {
		if _, _, _, err := Whole(append(p, bad...), &lim); !same(err, ErrText) {
			t.Fatal(err)
		}
	})
	run("Append", func() { Append(p, ws.OpText, fragments) })
	run("AppendClose", func() { AppendClose(p, 1001, "going away") })
}
