package frame

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"testing"
	"unicode/utf8"

	"github.com/gobwas/ws"
	"github.com/google/go-cmp/cmp"
)

var errReference = errors.New("the reference refuses this")

// reference parses a whole stream frame by frame with gobwas/ws, and adds the
// rules that the library leaves out. It is slow, allocates and does nothing
// clever. A stream that ends within a frame is refused when what is there
// cannot be continued to a good one.
func reference(b []byte, lim *Limits) (msgs []got, err error) {
	var joined []byte
	var joinedOp ws.OpCode
	fragments, squeezed := 0, false
	for len(b) > 0 {
		h, size, whole := referenceHeader(b)
		check := func(h ws.Header, size int) fault {
			state := ws.StateServerSide
			bytesMax := int64(lim.MessageBytesMax)
			if fragments > 0 {
				state = state.Set(ws.StateFragmented)
			} else if lim.Deflate && h.Rsv == ws.Rsv(true, false, false) && (h.OpCode == ws.OpText || h.OpCode == ws.OpBinary) {
				h.Rsv = 0
				bytesMax += bytesMax/1000 + 64
			}
			if fragments > 0 && squeezed {
				bytesMax += bytesMax/1000 + 64
			}
			switch {
			case ws.CheckHeader(h, state) != nil, h.Length < 0,
				size == 8 && h.Length < 126, size == 14 && h.Length < 1<<16,
				h.OpCode == ws.OpContinuation && fragments >= lim.FragmentsMax:
				return malformed
			case h.OpCode.IsData() && int64(len(joined))+h.Length > bytesMax:
				return tooBig
			}
			return none
		}
		if !whole {
			if faults := continuations(b, check); faults == malformed || faults == tooBig {
				return msgs, errReference
			}
			return msgs, nil
		}
		if check(h, size) != none {
			return msgs, errReference
		}
		payload := slices.Clone(b[size:min(int64(len(b)), int64(size)+h.Length)])
		for i := range payload {
			payload[i] ^= h.Mask[i%4]
		}
		b = b[size+len(payload):]
		complete := int64(len(payload)) == h.Length

		if h.OpCode.IsControl() {
			if !complete {
				return msgs, nil
			}
			if h.OpCode == ws.OpClose && len(payload) > 0 {
				code, reason := ws.ParseCloseFrameData(payload)
				registered := code >= 1012 && code <= 1014 && utf8.ValidString(reason)
				if len(payload) == 1 || code >= 5000 || ws.CheckCloseFrameData(code, reason) != nil && !registered {
					return msgs, errReference
				}
			}
			msgs = append(msgs, got{Op: h.OpCode, Payload: string(payload)})
			continue
		}
		if fragments++; h.OpCode != ws.OpContinuation {
			joinedOp, squeezed = h.OpCode, h.Rsv != 0
		}
		joined = append(joined, payload...)
		final := h.Fin && complete
		if joinedOp == ws.OpText && !squeezed && (final && !utf8.Valid(joined) || !canBecomeUTF8(string(joined))) {
			return msgs, errReference
		}
		if final {
			msgs = append(msgs, got{joinedOp, string(joined), squeezed})
			joined, fragments = nil, 0
		}
		if !complete {
			return msgs, nil
		}
	}
	return msgs, nil
}

// referenceHeader reads a header; not whole means that bytes are missing. What
// the library refuses counts as a length below zero.
func referenceHeader(b []byte) (h ws.Header, size int, whole bool) {
	r := bytes.NewReader(b)
	h, err := ws.ReadHeader(r)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return h, 0, false
	}
	if err != nil {
		h.Length = -1
	}
	size = len(b) - r.Len()
	if !h.Masked {
		size = 6 // check refuses it for that
	}
	return h, size, true
}

// fault is a set of what can be wrong with a header.
type fault int

const (
	none fault = 1 << iota
	malformed
	tooBig
)

// continuations tries how the beginning of a header can go on: with every second
// byte, then with the smallest length that the bytes so far allow, and with the
// smallest that the form allows. It gives all faults that come of it; only when
// there is no other is it certain that, and why, the header is refused.
func continuations(b []byte, check func(ws.Header, int) fault) (all fault) {
	if len(b) == 1 {
		for b1 := range 256 {
			all |= continuations([]byte{b[0], byte(b1)}, check)
		}
		return all
	}
	for _, rest := range [][]byte{
		make([]byte, 14),
		{0, 0, 0, 126, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
		{0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0},
	} {
		h, size, whole := referenceHeader(append(slices.Clone(b), rest[min(len(b), len(rest)):]...))
		if !whole {
			panic("a header longer than 14 bytes")
		}
		all |= check(h, size)
	}
	return all
}

// wantLikeReference parses b in several chunkings and wants what the reference
// gives; of the chunkings among each other, the very same fault.
func wantLikeReference(t *testing.T, b []byte, lim *Limits, seed uint64) {
	t.Helper()
	want, refErr := reference(b, lim)
	r := rand.New(rand.NewPCG(seed, 0))
	var first error
	for i, chunks := range [][][]byte{cut(b), cutEverywhere(b), cutRandomly(b, r), cutRandomly(b, r)} {
		msgs, err := parse(t, chunks, lim)
		if diff := cmp.Diff(want, msgs); diff != "" {
			t.Fatalf("chunking %d of %x, limits %v: messages (-reference +got):\n%.2000s", i, b, *lim, diff)
		}
		if (err != nil) != (refErr != nil) {
			t.Fatalf("chunking %d of %x, limits %v: error %v, reference %v", i, b, *lim, err, refErr)
		}
		if i == 0 {
			first = err
		}
		if err != first {
			t.Fatalf("chunking %d of %x, limits %v: error %v, in one piece %v", i, b, *lim, err, first)
		}
	}
}

// randomStream makes frames that are mostly right, with every kind of fault now
// and then.
func randomStream(r *rand.Rand, deflate bool) []byte {
	var b []byte
	inMessage := false
	for range 1 + r.IntN(8) {
		ops := []byte{0x01, 0x81, 0x02, 0x82}
		if inMessage {
			ops = []byte{0x00, 0x80, 0x00, 0x80}
		}
		b0 := slices.Concat(ops, ops, ops, []byte{0x88, 0x89, 0x8a})[r.IntN(15)]
		size := []int{r.IntN(8), r.IntN(8), r.IntN(60), 124 + r.IntN(5), r.IntN(600), 65533 + r.IntN(6)}[min(r.IntN(6), r.IntN(6))]
		if b0&controlBit != 0 {
			size %= 126
		}
		payload := []byte(chinese + chinese)
		payload = slices.Repeat(payload, 1+size/len(payload))[:size]
		for size > 0 && !utf8.Valid(payload) && r.IntN(8) > 0 { // often whole code points
			payload = payload[:len(payload)-1]
		}
		if b0 == 0x88 && len(payload) >= 2 {
			copy(payload, code(ws.StatusCode(900+r.IntN(200)), ""))
		}
		if r.IntN(40) == 0 {
			b0 ^= 1 << r.IntN(8)
		}
		if len(payload) > 0 && r.IntN(40) == 0 {
			payload[r.IntN(len(payload))] ^= 1 << r.IntN(8)
		}
		if b0&controlBit == 0 {
			if deflate && !inMessage && r.IntN(2) == 0 {
				b0 |= compressed
			}
			inMessage = b0&fin == 0
		}
		start := len(b)
		b = append(b, stream(sent{b0, string(payload)})...)
		if r.IntN(40) == 0 {
			b[start+1] ^= 1 << r.IntN(8)
		}
		if r.IntN(40) == 0 {
			b = append(b[:start], header(b0, 16<<(2*r.IntN(2)), r.Uint64()>>r.IntN(64))...)
		}
	}
	if r.IntN(2) == 0 {
		b = b[:r.IntN(len(b)+1)]
	}
	return b
}

func TestRandomStreamsParseLikeTheReference(t *testing.T) {
	const runs = 1000
	good := 0
	for seed := range uint64(runs) {
		r := rand.New(rand.NewPCG(seed, 1))
		lim := Limits{MessageBytesMax: []int{0, 10, 130, 1000, 65536, 1 << 20}[r.IntN(6)], FragmentsMax: 1 + r.IntN(6)}
		if r.IntN(2) == 0 {
			lim = roomy
		}
		lim.Deflate = r.IntN(2) == 0
		b := randomStream(r, lim.Deflate)
		if _, err := reference(b, &lim); err == nil {
			good++
		}
		wantLikeReference(t, b, &lim, seed)
	}
	if good < runs/5 || good > runs*4/5 {
		t.Errorf("%d of %d streams are without fault: the test tries too little of one kind", good, runs)
	}
}

func addSeeds(f *testing.F, add func([]byte)) {
	for _, c := range autobahnCases() {
		if b := stream(c.frames...); len(b) < 1000 {
			add(b)
		}
	}
	for _, b := range [][]byte{header(0x82, 64, 1<<62), header(0x81, 16, 125), header(0x81, 64, 65535), header(0x02, 64, 1<<63), {0x82, 0xff}} {
		add(b)
	}
}

func FuzzParsesLikeTheReference(f *testing.F) {
	addSeeds(f, func(b []byte) { f.Add(b, uint64(1), uint16(300), uint8(4), len(b)%2 == 0) })
	f.Fuzz(func(t *testing.T, b []byte, seed uint64, bytesMax uint16, fragmentsMax uint8, deflate bool) {
		lim := Limits{MessageBytesMax: max(int(bytesMax), 0), FragmentsMax: max(int(fragmentsMax), 0), Deflate: deflate}
		wantLikeReference(t, b, &lim, seed)
	})
}

// Any bytes, any limits, one State used again and again as by a pool: no panic,
// and nothing above the limits.
func FuzzHoldsNoMoreThanItsLimits(f *testing.F) {
	addSeeds(f, func(b []byte) { f.Add(b, uint64(1), int16(100), int8(2), len(b)%2 == 0) })
	f.Fuzz(func(t *testing.T, b []byte, seed uint64, bytesMax int16, fragmentsMax int8, deflate bool) {
		r := rand.New(rand.NewPCG(seed, 2))
		lim := Limits{MessageBytesMax: max(int(bytesMax), 0), FragmentsMax: max(int(fragmentsMax), 0), Deflate: deflate}
		s := new(State)
		for _, chunk := range cutRandomly(slices.Clone(b), r) {
			for len(chunk) > 0 {
				m, n, ok, err := Next(s, chunk, &lim)
				if n <= 0 || n > len(chunk) {
					t.Fatalf("%d of %d bytes taken", n, len(chunk))
				}
				if held, most := s.Held(), max(lim.bytesMax(deflate), bufferBytesKept); held > most {
					t.Fatalf("%d bytes held, at most %d allowed", held, most)
				}
				if ok && m.Op.IsControl() && len(m.Payload) > ws.MaxControlFramePayloadSize ||
					ok && m.Op.IsData() && len(m.Payload) > lim.bytesMax(m.Compressed) {
					t.Fatalf("opcode %d with %d bytes", m.Op, len(m.Payload))
				}
				if err != nil || r.IntN(64) == 0 {
					s.Reset()
				}
				chunk = chunk[n:]
			}
		}
	})
}
