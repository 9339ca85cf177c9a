package deflate

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/gateway/channel"
	"sluice/gateway/frame"
	"sluice/gateway/wire"

	"github.com/gobwas/ws"
)

// record returns JSON of about so many bytes, as an application's objects are: long names and small numbers.
func record(r *rand.Rand, size int) []byte {
	type reading struct {
		Sensor      string  `json:"sensor"`
		Temperature float64 `json:"temperature"`
		Humidity    int     `json:"humidity"`
		Status      string  `json:"status"`
	}
	var all []reading
	for n := 0; n < size; n += 75 {
		all = append(all, reading{fmt.Sprintf("room-%d", r.IntN(100)), float64(r.IntN(400)) / 10, r.IntN(100), []string{"ok", "warning", "failed"}[r.IntN(3)]})
	}
	b, err := json.Marshal(all)
	if err != nil {
		panic(err)
	}
	return b
}

// noise returns text that does not shrink.
func noise(r *rand.Rand, size int) []byte {
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// inflated returns what a compressed message was, by the standard library.
func inflated(t testing.TB, p []byte) []byte {
	t.Helper()
	b, err := io.ReadAll(flate.NewReader(io.MultiReader(bytes.NewReader(p), strings.NewReader(messageTail))))
	if err != nil {
		t.Fatalf("%d bytes: %v", len(p), err)
	}
	return b
}

// payload returns the message of a frame, inflated, with its opcode.
func payload(t testing.TB, b []byte) (op ws.OpCode, text []byte, compressed bool) {
	t.Helper()
	r := bytes.NewReader(b)
	h, err := ws.ReadHeader(r)
	if err != nil || !h.Fin || h.Masked || int64(r.Len()) != h.Length || h.Rsv&^ws.Rsv(true, false, false) != 0 {
		t.Fatalf("not one frame: %+v, %v, with %d bytes behind it", h, err, r.Len())
	}
	if p := b[len(b)-r.Len():]; !h.Rsv1() {
		return h.OpCode, p, false
	} else {
		return h.OpCode, inflated(t, p), true
	}
}

// events returns the text of a gzip member without an end.
func events(t testing.TB, b []byte) []byte {
	t.Helper()
	r, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(r)
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatalf("%v, want the end in the middle of the member", err)
	}
	return text
}

func TestFramesAreWhatThePlainOnesAre(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	f := New(128, 1).Format(wire.Raw{}, false)
	for _, size := range []int{0, 1, 100, 127, 128, 200, 1000, 8000, 65535, 65536, 70_000, 1 << 20} {
		for _, binary := range []bool{false, true} {
			for noisy, text := range [][]byte{record(r, size), noise(r, size)} {
				p := &channel.Publication{Payload: text, Binary: binary}
				before := []byte("what is there already")
				got, ok := bytes.CutPrefix(f.Append(bytes.Clone(before), p), before)
				if !ok {
					t.Fatal("Append has changed what was there")
				}
				plain := wire.Raw{}.Append(nil, p)
				op, back, compressed := payload(t, got)
				if wantOp, _, _ := payload(t, plain); op != wantOp || !bytes.Equal(back, text) {
					t.Errorf("%d bytes, binary %v: another message comes out, opcode %d", size, binary, op)
				}
				if shrinks := len(got) < len(plain); shrinks != compressed || len(got) > len(plain) {
					t.Errorf("%d bytes: %d of %d, compressed %v", size, len(got), len(plain), compressed)
				}
				if want := noisy == 0 && len(text) >= 128; compressed != want {
					t.Errorf("%d bytes %.20q: compressed %v, want %v", size, text, compressed, want)
				}
			}
		}
	}
}

// A subscriber may begin with any publication, and has bytes of its own between them.
func TestEventsAreWhatThePlainOnesAreFromAnyOfThem(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	f := New(128, 1).Format(wire.Event{JSON: true}, true)
	var pieces, plain [][]byte
	for i, size := range []int{10, 1000, 100, 70_000, 1, 128, 200_000, 300} {
		text := record(r, size)
		if i%3 == 2 {
			text = bytes.ToValidUTF8(noise(r, size), []byte("-"))
		}
		p := &channel.Publication{Payload: text, Epoch: 7, Offset: uint64(i + 1)}
		pieces, plain = append(pieces, f.Append(nil, p)), append(plain, wire.Event{JSON: true}.Append(nil, p))
		own := wire.SSE.AppendPing(nil)
		pieces, plain = append(pieces, Seal(bytes.Clone(own), 0)), append(plain, own)
	}
	for first := range pieces {
		b := []byte(GzipHeader)
		for i, piece := range pieces[first:] {
			b = append(b, piece...)
			if got, want := events(t, b), bytes.Join(plain[first:first+i+1], nil); !bytes.Equal(got, want) {
				t.Fatalf("from piece %d to %d: %d bytes come out, want %d", first, first+i, len(got), len(want))
			}
		}
	}
}

func TestSealedTextComesBack(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 3))
	for _, size := range []int{0, 1, storedMax - 1, storedMax, storedMax + 1, 2 * storedMax, 2*storedMax + 1, 300_000} {
		text := noise(r, size)
		b := Seal(append([]byte(GzipHeader), text...), len(GzipHeader))
		if got := events(t, b); !bytes.Equal(got, text) {
			t.Errorf("%d bytes: others come out, %d", size, len(got))
		}
		if got := len(b) - len(GzipHeader); size > 0 && got != sealedLen(size) || size == 0 && got != 0 {
			t.Errorf("%d bytes take %d, sealedLen says %d", size, got, sealedLen(size))
		}
	}
}

// A reader has every piece at once, without anything behind it.
func TestPiecesAreReadAtOnce(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 9))
	f := New(128, 1).Format(wire.Event{}, true)
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	near.SetDeadline(time.Now().Add(30 * time.Second))
	far.SetDeadline(time.Now().Add(30 * time.Second))
	read := make(chan []byte)
	go func() {
		in, err := gzip.NewReader(near)
		for err == nil {
			b, n := make([]byte, 1<<20), 0
			n, err = in.Read(b)
			read <- b[:n]
		}
		close(read)
	}()
	io.WriteString(far, GzipHeader)
	for _, piece := range []struct {
		what  string
		bytes []byte
		want  []byte
	}{
		{"the connection's own", Seal([]byte("retry: 1000\n"), 0), []byte("retry: 1000\n")},
		{"a small event", f.Append(nil, &channel.Publication{Payload: []byte("small")}), []byte("data: small\n\n")},
		{"one that was compressed", nil, record(r, 20_000)},
		{"one that does not shrink", nil, bytes.ToValidUTF8(noise(r, 20_000), nil)},
		{"a keep-alive", Seal([]byte(":\n\n"), 0), []byte(":\n\n")},
	} {
		if piece.bytes == nil {
			p := &channel.Publication{Payload: piece.want}
			piece.bytes, piece.want = f.Append(nil, p), wire.Event{}.Append(nil, p)
		}
		go far.Write(piece.bytes)
		var got []byte
		for len(got) < len(piece.want) {
			b, ok := <-read
			if !ok {
				t.Fatalf("%s: the reader ends after %d of %d bytes", piece.what, len(got), len(piece.want))
			}
			got = append(got, b...)
		}
		if !bytes.Equal(got, piece.want) {
			t.Errorf("%s: others come out", piece.what)
		}
	}
	far.Close()
	for range read {
	}
}

// What is appended under a channel's lock takes no compressor: with none, nothing is counted as busy.
func TestGapsAreNotCompressed(t *testing.T) {
	for _, kind := range []channel.Kind{channel.KindGap, channel.KindReset} {
		p := &channel.Publication{Kind: kind, Channel: strings.Repeat("c", 255), Epoch: 7, Prev: 3}
		c := New(1, 0)
		if _, text, compressed := payload(t, c.Format(wire.Record{}, false).Append(nil, p)); compressed || len(text) < 255 {
			t.Errorf("%d: compressed %v, %d bytes", kind, compressed, len(text))
		}
		b := c.Format(wire.Event{}, true).Append([]byte(GzipHeader), p)
		if got, want := events(t, b), (wire.Event{}).Append(nil, p); !bytes.Equal(got, want) {
			t.Errorf("%d: %q comes out, want %q", kind, got, want)
		}
		if got := c.Format(wire.Raw{}, false).Append(nil, p); len(got) > 0 {
			t.Errorf("%d: raw clients are sent %q", kind, got)
		}
		if busy := c.Stats().Busy; busy > 0 {
			t.Errorf("%d: a compressor was asked for", kind)
		}
	}
}

func TestFormatsAreShared(t *testing.T) {
	c := New(128, 1)
	plain := channel.Format(wire.Record{})
	f := channel.Format(c.Format(plain, false))
	if allocs := testing.AllocsPerRun(100, func() {
		if channel.Format(c.Format(plain, false)) != f {
			t.Fatal("another format")
		}
	}); allocs > 0 {
		t.Errorf("%g allocations", allocs)
	}
	if channel.Format(c.Format(plain, true)) == f || channel.Format(c.Format(wire.Raw{}, false)) == f {
		t.Error("different formats are one")
	}
	if Plain(f) != plain || Plain(plain) != plain {
		t.Error("the plain format is another one")
	}
}

func TestAppendAllocatesNothing(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 4))
	c := New(128, 1)
	for _, f := range []*Format{c.Format(wire.Raw{}, false), c.Format(wire.Record{}, false), c.Format(wire.Event{}, true)} {
		for _, size := range []int{50, 1000, 70_000} {
			p := &channel.Publication{Payload: record(r, size), Epoch: 7, Offset: 1}
			var dst []byte
			if allocs := testing.AllocsPerRun(20, func() { dst = f.Append(dst[:0], p) }); allocs > 0 {
				t.Errorf("%v, %d bytes: %g allocations", f.plain, size, allocs)
			}
		}
	}
}

// A publisher that finds all compressors at work does not wait.
func TestBusyCompressorsLeavePublicationsPlain(t *testing.T) {
	c := New(128, 2)
	p := &channel.Publication{Payload: record(rand.New(rand.NewPCG(1, 5)), 1000)}
	first, second := c.take(), c.take()
	if _, text, compressed := payload(t, c.Format(wire.Raw{}, false).Append(nil, p)); compressed || !bytes.Equal(text, p.Payload) {
		t.Errorf("compressed %v", compressed)
	}
	b := c.Format(wire.Event{}, true).Append([]byte(GzipHeader), p)
	if got, want := events(t, b), (wire.Event{}).Append(nil, p); !bytes.Equal(got, want) {
		t.Errorf("%q comes out, want %q", got, want)
	}
	if got := c.Stats(); got != (Stats{Busy: 2}) {
		t.Errorf("%+v", got)
	}
	second.taken.Store(false)
	if _, _, compressed := payload(t, c.Format(wire.Raw{}, false).Append(nil, p)); !compressed {
		t.Error("not compressed, though a compressor is free")
	}
	first.taken.Store(false)
	if got := c.Stats(); got.In != uint64(len(p.Payload)) || got.Out == 0 || got.Out > got.In/2 {
		t.Errorf("%+v", got)
	}
}

func TestManyPublishersAtOnce(t *testing.T) {
	c := New(128, 2)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			r := rand.New(rand.NewPCG(uint64(i), 6))
			for range 50 {
				p := &channel.Publication{Payload: record(r, r.IntN(5000))}
				if _, text, _ := payload(t, c.Format(wire.Raw{}, false).Append(nil, p)); !bytes.Equal(text, p.Payload) {
					t.Error("another message comes out")
				}
			}
		})
	}
	all.Wait()
	for i := range c.slots {
		if c.slots[i].taken.Load() {
			t.Error("a compressor was not given back")
		}
	}
}

// frames is a format whose bytes are not one frame.
type frames struct{}

func (frames) Append(dst []byte, p *channel.Publication) []byte {
	return frame.Append(frame.Append(dst, ws.OpText, p.Payload), ws.OpText, p.Payload)
}

func TestWhatIsNotOneFrameStaysAsItIs(t *testing.T) {
	p := &channel.Publication{Payload: record(rand.New(rand.NewPCG(1, 7)), 1000)}
	if got, want := New(1, 1).Format(frames{}, false).Append(nil, p), (frames{}).Append(nil, p); !bytes.Equal(got, want) {
		t.Error("it was changed")
	}
}

func FuzzFrames(f *testing.F) {
	f.Add([]byte(strings.Repeat("abc", 100)), uint16(1), true)
	f.Add([]byte{}, uint16(0), false)
	c := New(0, 1) // one compressor for all: they are large
	f.Fuzz(func(t *testing.T, text []byte, bytesMin uint16, binary bool) {
		c.bytesMin = int(bytesMin)
		p := &channel.Publication{Payload: text, Binary: binary}
		if _, got, compressed := payload(t, c.Format(wire.Raw{}, false).Append(nil, p)); !bytes.Equal(got, text) || compressed && len(text) < int(bytesMin) {
			t.Fatalf("%q comes out of %q", got, text)
		}
		b := c.Format(wire.Event{}, true).Append([]byte(GzipHeader), p)
		if got, want := events(t, b), (wire.Event{}).Append(nil, p); !bytes.Equal(got, want) {
			t.Fatalf("%q comes out, want %q", got, want)
		}
	})
}

func BenchmarkAppend(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 8))
	c := New(128, 1)
	for _, size := range []int{100, 250, 1000, 8000} {
		p := &channel.Publication{Payload: record(r, size), Epoch: 7, Offset: 1}
		for _, f := range []struct {
			name string
			channel.Format
		}{{"plain", wire.Raw{}}, {"frame", c.Format(wire.Raw{}, false)}, {"event", c.Format(wire.Event{}, true)}} {
			b.Run(fmt.Sprintf("%s/%d", f.name, size), func(b *testing.B) {
				b.ReportAllocs()
				b.SetBytes(int64(len(p.Payload)))
				var dst []byte
				for b.Loop() {
					dst = f.Append(dst[:0], p)
				}
				b.ReportMetric(float64(len(dst))/float64(len(p.Payload)), "size")
			})
		}
	}
}
