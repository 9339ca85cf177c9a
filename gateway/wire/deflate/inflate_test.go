package deflate

import (
	"bytes"
	"compress/flate"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
)

// deflated compresses messages one after the other by the standard library: each as the payload of a
// compressed message. keeps: a message may refer to those before it.
func deflated(t testing.TB, keeps bool, messages ...[]byte) (payloads [][]byte) {
	t.Helper()
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, 6)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range messages {
		if !keeps {
			w.Reset(&b)
		}
		b.Reset()
		w.Write(m)
		w.Flush()
		p, ok := bytes.CutSuffix(b.Bytes(), []byte(syncMarker))
		if !ok {
			t.Fatal("no sync marker")
		}
		payloads = append(payloads, bytes.Clone(p))
	}
	return payloads
}

func TestInflateReturnsTheMessage(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 1))
	const limit = 100_000
	var i Inflater
	for _, size := range []int{0, 1, 10, 1000, 4095, 4096, 4097, 33_000, 66_000, limit - 1, limit, limit + 1} {
		text := noise(r, size)
		if size%2 == 0 {
			text = []byte(strings.Repeat("0123456789", size/10+1)[:size])
		}
		got, err := i.Inflate(deflated(t, false, text)[0], limit)
		if size > limit {
			if err != ErrTooBig {
				t.Errorf("%d bytes: %v, want ErrTooBig", size, err)
			}
		} else if err != nil || !bytes.Equal(got, text) {
			t.Errorf("%d bytes: %d others, %v", size, len(got), err)
		}
		i.Release()
		if held := cap(i.in) + cap(i.out); held > 2*bytesKept {
			t.Errorf("%d bytes: %d are kept", size, held)
		}
	}
}

func TestInflateOfMessagesWithAnEndOfTheirOwn(t *testing.T) {
	const text = "Hello, hello, hello"
	var b bytes.Buffer
	w, _ := flate.NewWriter(&b, 6)
	io.WriteString(w, text)
	w.Close()
	final, ok := bytes.CutSuffix(b.Bytes(), []byte("\x01\x00\x00\xff\xff"))
	if !ok {
		t.Fatalf("the writer ends with %x", b.Bytes())
	}
	whole := []byte{1, 5, 0, 0xfa, 0xff, 'H', 'e', 'l', 'l', 'o'} // one stored block, the last
	for _, c := range []struct {
		what string
		p    []byte
		want string
		err  error
	}{
		{"an empty last block, its end cut off", append(bytes.Clone(final), 1), text, nil},
		{"an empty last block, a byte behind it", append(bytes.Clone(b.Bytes()), 0), text, nil},
		{"a last block", whole, "Hello", nil},
		{"a last block, a byte behind it", append(bytes.Clone(whole), 0), "Hello", nil},
		{"a last block, another byte behind it", append(bytes.Clone(whole), 1), "", ErrCorrupt},
		{"a last block, and another one", append(bytes.Clone(whole), whole...), "", ErrCorrupt},
		{"nothing", nil, "", nil},
		{"an empty block", []byte{0}, "", nil},
		{"of the RFC: one block", []byte{0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00}, "Hello", nil},
		{"of the RFC: a stored block", []byte{0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00}, "Hello", nil},
		{"of the RFC: BFINAL", []byte{0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00}, "Hello", nil},
		{"of the RFC: two blocks", []byte{0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00}, "Hello", nil},
		{"of the RFC: with a window", []byte{0xf2, 0x00, 0x11, 0x00, 0x00}, "", ErrContext},
		{"cut off", []byte{0xf2, 0x48, 0xcd}, "", ErrCorrupt},
		{"an unknown kind of block", []byte{0xff, 0xff}, "", ErrCorrupt},
		{"a stored block with a wrong complement", []byte{0x00, 0x05, 0x00, 0xfa, 0xfe, 0x48}, "", ErrCorrupt},
	} {
		var i Inflater
		if got, err := i.Inflate(c.p, 1000); string(got) != c.want || err != c.err {
			t.Errorf("%s: %q, %v; want %q, %v", c.what, got, err, c.want, c.err)
		}
	}
}

// A client that keeps its window is found at its second message, and one after it is not harmed.
func TestContextThatAClientKeepsIsFound(t *testing.T) {
	text := record(rand.New(rand.NewPCG(2, 2)), 500)
	kept := deflated(t, true, text, text)
	var i Inflater
	if got, err := i.Inflate(kept[0], 1000); err != nil || !bytes.Equal(got, text) {
		t.Errorf("first message: %v", err)
	}
	if _, err := i.Inflate(kept[1], 1000); err != ErrContext {
		t.Errorf("second message: %v, want ErrContext", err)
	}
	if got, err := i.Inflate(kept[0], 1000); err != nil || !bytes.Equal(got, text) {
		t.Errorf("another client's: %v", err)
	}
}

// What a message costs is bounded by the limit and not by what it would inflate to.
func TestBombIsReadNoFurtherThanItsLimit(t *testing.T) {
	bomb := deflated(t, false, make([]byte, 16<<20))[0]
	if ratio := (16 << 20) / len(bomb); ratio < 1000 {
		t.Fatalf("1 : %d is no bomb", ratio)
	}
	for _, limit := range []int{125, 64 << 10, 1 << 20} {
		var i Inflater
		if _, err := i.Inflate(bomb, limit); err != ErrTooBig {
			t.Fatalf("limit %d: %v, want ErrTooBig", limit, err)
		}
		if len(i.out) != limit+1 || cap(i.out) > max(limit+1, outBytesMin) {
			t.Errorf("limit %d: %d bytes were inflated, in a buffer of %d", limit, len(i.out), cap(i.out))
		}
		read := len(bomb) - i.source.Len()
		if most := (limit+windowBytes)/1000 + 200; read > most {
			t.Errorf("limit %d: %d bytes of the message were read, want at most %d", limit, read, most)
		}
	}
}

func TestInflateAllocatesNothing(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 3))
	var i Inflater
	for _, size := range []int{10, 1000, 60_000} {
		p := deflated(t, false, record(r, size))[0]
		inflate := func() {
			if _, err := i.Inflate(p, 64<<10); err != nil {
				t.Fatal(err)
			}
		}
		inflate() // AllocsPerRun runs it once more before it counts
		if allocs := testing.AllocsPerRun(20, inflate); allocs > 0 {
			t.Errorf("%d bytes: %g allocations", size, allocs)
		}
	}
}

// Whatever a client sends, it inflates to what the standard library makes of it, or not at all.
func FuzzInflate(f *testing.F) {
	for _, p := range deflated(f, false, []byte("Hello"), nil, bytes.Repeat([]byte("abc"), 1000)) {
		f.Add(p, uint16(1000))
	}
	f.Add([]byte{1, 0, 0}, uint16(0))
	f.Add([]byte{0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00}, uint16(5))
	f.Fuzz(func(t *testing.T, p []byte, most uint16) {
		limit := int(most)
		var i Inflater
		got, err := i.Inflate(p, limit)
		want, wantErr := io.ReadAll(io.LimitReader(flate.NewReader(io.MultiReader(bytes.NewReader(p), strings.NewReader(messageTail))), int64(limit+1)))
		switch {
		case len(p) == 0:
			if len(got) > 0 || err != nil {
				t.Fatalf("nothing inflates to %q, %v", got, err)
			}
		case err == nil && (wantErr != nil || len(want) > limit || !bytes.Equal(got, want)):
			t.Fatalf("%x inflates to %q, want %q, %v", p, got, want, wantErr)
		case errors.Is(err, ErrTooBig) && wantErr == nil && len(want) <= limit: // the two do not refuse the same malformed ones
			t.Fatalf("%x: %v, although it has %d bytes and the limit is %d", p, err, len(want), limit)
		case errors.Is(err, ErrContext) && wantErr == nil, len(i.out) > limit+1:
			t.Fatalf("%x: %v, although it inflates to %q", p, err, want)
		}
	})
}

func BenchmarkInflate(b *testing.B) {
	r := rand.New(rand.NewPCG(2, 4))
	for _, size := range []int{50, 250, 1000, 8000} {
		text := record(r, size)
		p := deflated(b, false, text)[0]
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(text)))
			var i Inflater
			for b.Loop() {
				if _, err := i.Inflate(p, 64<<10); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// The bomb of BenchmarkBomb inflates to 1,032 times its size; the limit is that of a message.
func BenchmarkBomb(b *testing.B) {
	bomb := deflated(b, false, make([]byte, 16<<20))[0]
	for _, limit := range []int{64 << 10, 1 << 20} {
		b.Run(fmt.Sprint(limit), func(b *testing.B) {
			b.ReportAllocs()
			var i Inflater
			for b.Loop() {
				if _, err := i.Inflate(bomb[:64<<7], limit); err != ErrTooBig {
					b.Fatal(err)
				}
			}
		})
	}
}

// bits is a deflate stream that is written bit by bit.
type bits struct {
	bytes []byte
	next  uint64
	n     int
}

// put appends the n low bits of v.
func (b *bits) put(v uint64, n int) {
	for b.next, b.n = b.next|v<<b.n, b.n+n; b.n >= 8; b.next, b.n = b.next>>8, b.n-8 {
		b.bytes = append(b.bytes, byte(b.next))
	}
}

// emptyBlock appends a block with a code of its own, of which nothing is used.
func (b *bits) emptyBlock() {
	b.put(0b100, 3)               // not the last; dynamic
	b.put(14<<10, 14)             // 257 literals, 1 distance, 18 lengths of codes for lengths
	b.put(1<<(3*2)|1<<(3*17), 54) // 1 for the lengths 18 (zeros) and 1
	b.put(1|(138-11)<<1, 8)       // 138 zeros
	b.put(1|(118-11)<<1, 8)       // and 118
	b.put(0b000, 3)               // 1 for the end and for a distance; the end
}

// A message of blocks with nothing in them takes longer than any other of its size.
func BenchmarkEmptyBlocks(b *testing.B) {
	var m bits
	for len(m.bytes) < 64<<10-16 {
		m.emptyBlock()
	}
	m.put(0, 3) // the last block is stored, as all are
	m.put(0, (8-m.n)%8)
	b.SetBytes(int64(len(m.bytes)))
	var i Inflater
	for b.Loop() {
		if p, err := i.Inflate(m.bytes, 64<<10); err != nil || len(p) > 0 {
			b.Fatalf("%d bytes, %v", len(p), err)
		}
	}
}
