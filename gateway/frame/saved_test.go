package frame

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/gobwas/ws"
)

// messages parses p in one State or, where it is handed over, in a new one from each cut on.
func messages(t *testing.T, p []byte, lim *Limits, cuts []int, handOver bool) (all []Message, fault error) {
	s := new(State)
	from := 0
	for _, cut := range append(cuts, len(p)) {
		for b := bytes.Clone(p[from:cut]); ; {
			m, n, ok, err := Next(s, b, lim)
			if err != nil {
				return all, err
			}
			if b = b[n:]; !ok {
				break
			}
			m.Payload = bytes.Clone(m.Payload)
			all = append(all, m)
		}
		if from = cut; handOver {
			next := new(State)
			if b := s.Append(nil); !next.Load(b, lim) {
				t.Fatalf("%x cannot be loaded", b)
			}
			if next.Idle() != s.Idle() {
				t.Fatalf("idle: %v, want %v", next.Idle(), s.Idle())
			}
			s = next
		}
	}
	return all, nil
}

// TestSavedAnywhere cuts a stream of frames at random bytes, and hands its State over at each cut.
func TestSavedAnywhere(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 3000 {
		lim := &Limits{MessageBytesMax: 300, FragmentsMax: 5, Deflate: r.IntN(2) == 0}
		var p []byte
		add := func(b0 byte, payload []byte) {
			key := [4]byte{byte(r.Uint32()), byte(r.Uint32()), 3, 4}
			p = append(p, b0)
			if len(payload) < 126 {
				p = append(p, masked|byte(len(payload)))
			} else {
				p = append(p, masked|126, byte(len(payload)>>8), byte(len(payload)))
			}
			payload = bytes.Clone(payload)
			ws.Cipher(payload, key, 0)
			p = append(append(p, key[:]...), payload...)
		}
		for range 1 + r.IntN(4) {
			text := []byte("жизнь é漢🙂 plain ")
			text = bytes.Repeat(text, r.IntN(5))
			b0 := byte(ws.OpText)
			if r.IntN(3) == 0 {
				b0 = byte(ws.OpBinary)
			}
			if lim.Deflate && r.IntN(2) == 0 {
				b0 |= compressed
			}
			for range r.IntN(3) {
				n := r.IntN(len(text) + 1)
				add(b0, text[:n])
				text, b0 = text[n:], byte(ws.OpContinuation)
				if r.IntN(3) == 0 {
					add(finPing, []byte("are you there"))
				}
			}
			add(b0|fin, text)
		}
		var cuts []int
		for at := 0; at < len(p); at += 1 + r.IntN(40) {
			cuts = append(cuts, at)
		}
		want, wantErr := messages(t, p, lim, cuts, false)
		got, err := messages(t, p, lim, cuts, true)
		if err != wantErr || len(got) != len(want) {
			t.Fatalf("%d messages, %v; want %d, %v", len(got), err, len(want), wantErr)
		}
		for i := range want {
			if got[i].Op != want[i].Op || got[i].Compressed != want[i].Compressed || !bytes.Equal(got[i].Payload, want[i].Payload) {
				t.Fatalf("message %d: %v %q, want %v %q", i, got[i].Op, got[i].Payload, want[i].Op, want[i].Payload)
			}
		}
	}
}

// FuzzLoad loads what nobody has saved, and goes on with it.
func FuzzLoad(f *testing.F) {
	lim := &Limits{MessageBytesMax: 1000, FragmentsMax: 5, Deflate: true}
	for _, p := range [][]byte{{}, {0x81}, {0x81, 0x85, 1, 2, 3, 4, 5}, {0x01, 0x81, 1, 2, 3, 4, 5, 0x89, 0x83, 1, 2, 3, 4, 1}} {
		s := new(State)
		Next(s, bytes.Clone(p), lim)
		f.Add(s.Append(nil), []byte{1, 2, 3, 4, 0x80, 0x80, 0, 0, 0, 0})
	}
	f.Fuzz(func(t *testing.T, b, rest []byte) {
		s := new(State)
		if !s.Load(b, lim) {
			if !s.Idle() {
				t.Error("a State that could not be loaded is not idle")
			}
			return
		}
		for rest = bytes.Clone(rest); ; {
			m, n, ok, err := Next(s, rest, lim)
			if err != nil || !ok {
				return
			}
			if len(m.Payload) > lim.bytesMax(m.Compressed) {
				t.Fatalf("a message of %d bytes", len(m.Payload))
			}
			rest = rest[n:]
		}
	})
}
