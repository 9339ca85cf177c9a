package frame

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/gobwas/ws"
	"github.com/google/go-cmp/cmp"
)

// sent is a frame as a client sends it: its first byte and its payload before
// masking. The length has its shortest form.
type sent struct {
	b0      byte
	payload string
}

// got is a message in a form that can be compared and outlives its buffers.
type got struct {
	Op         ws.OpCode
	Payload    string
	Compressed bool
}

var roomy = Limits{MessageBytesMax: 1 << 20, FragmentsMax: 64}

// stream gives the bytes of frames, built by gobwas/ws and so not by the code
// under test. Every frame has another mask.
func stream(frames ...sent) []byte {
	var b []byte
	for i, f := range frames {
		frame := ws.MaskFrameWith(ws.Frame{
			Header: ws.Header{
				Fin:    f.b0&fin != 0,
				Rsv:    f.b0 & reservedBits >> 4,
				OpCode: ws.OpCode(f.b0 & opCodeBits),
				Length: int64(len(f.payload)),
			},
			Payload: []byte(f.payload),
		}, [4]byte{0x37, 0xfa, byte(0x21 + i), 0x3d})
		b = append(b, ws.MustCompileFrame(frame)...)
	}
	return b
}

// parse feeds the chunks as a connection of the gateway does: Whole as long as
// nothing is kept, Next with a State otherwise. It checks on the way what holds
// for any input, and gives the messages and the error.
func parse(t testing.TB, chunks [][]byte, lim *Limits) ([]got, error) {
	t.Helper()
	var msgs []got
	s := new(State)
	for _, chunk := range chunks {
		p := slices.Clone(chunk)
		for rest := p; len(rest) > 0; {
			var m Message
			var n int
			var ok bool
			var err error
			if s.Idle() {
				before := slices.Clone(rest)
				m, n, ok, err = Whole(rest, lim)
				if !ok && err == nil && (n != 0 || !slices.Equal(rest, before)) {
					t.Fatalf("Whole took %d bytes or touched them, without a message", n)
				}
			}
			if !ok && err == nil {
				m, n, ok, err = Next(s, rest, lim)
				if !ok && err == nil && n != len(rest) {
					t.Fatalf("Next took %d of %d bytes and asked for more", n, len(rest))
				}
			}
			if n <= 0 || n > len(rest) {
				t.Fatalf("%d of %d bytes taken", n, len(rest))
			}
			if held, most := s.Held(), max(lim.bytesMax(lim.Deflate), 0); held > most {
				t.Fatalf("the state holds %d bytes, the limit is %d", held, most)
			}
			if err != nil {
				if ok {
					t.Fatalf("a message beside the error %v", err)
				}
				return msgs, err
			}
			if ok {
				msgs = append(msgs, got{m.Op, string(m.Payload), m.Compressed})
			}
			rest = rest[n:]
		}
		for i := range p { // what the state keeps must not lie here
			p[i] = 0xaa
		}
	}
	return msgs, nil
}

// cut cuts b at the given positions, which must grow.
func cut(b []byte, at ...int) [][]byte {
	var chunks [][]byte
	start := 0
	for _, end := range append(at, len(b)) {
		chunks = append(chunks, b[start:end])
		start = end
	}
	return chunks
}

func cutEverywhere(b []byte) [][]byte {
	return slices.Collect(slices.Chunk(b, 1))
}

func cutRandomly(b []byte, r *rand.Rand) [][]byte {
	var chunks [][]byte
	for len(b) > 0 {
		n := 1 + r.IntN(min(len(b), 1<<r.IntN(12)))
		chunks = append(chunks, b[:n])
		b = b[n:]
	}
	return chunks
}

// wantAnyCut parses b whole, cut in two at every byte, byte by byte and in
// chunks of 997 (as case 1.1.8 asks), and wants the same messages and the same fault from each.
func wantAnyCut(t *testing.T, b []byte, lim *Limits, want []got, wantErr *Error) {
	t.Helper()
	try := func(how string, chunks [][]byte) {
		t.Helper()
		msgs, err := parse(t, chunks, lim)
		if diff := cmp.Diff(want, msgs); diff != "" {
			t.Fatalf("%s: messages (-want +got):\n%.2000s", how, diff)
		}
		if !same(err, wantErr) {
			t.Fatalf("%s: error %v, want %v", how, err, wantErr)
		}
	}
	try("whole", cut(b))
	try("byte by byte", cutEverywhere(b))
	try("chunks of 997", slices.Collect(slices.Chunk(b, 997)))
	for i := 1; i < len(b); i++ {
		if len(b) > 4096 && i > 40 && i < len(b)-20 && i%9973 != 0 {
			continue // inside a long payload: one place is like another
		}
		try(fmt.Sprintf("cut at %d", i), cut(b, i))
	}
}

// same compares without the trap of a nil *Error in an error.
func same(err error, want *Error) bool {
	if want == nil {
		return err == nil
	}
	return err == error(want)
}
