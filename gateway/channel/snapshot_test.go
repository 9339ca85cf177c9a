package channel

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// snapSpace returns a space with histories, whose channels of the name passing/... have none.
func snapSpaceOf(histories int) *Space {
	s := NewSpace(4<<10, 1000, NewBudget(16<<20))
	s.KeepHistory(History{Of: func(name string) Keep {
		if strings.HasPrefix(name, "passing/") {
			return Keep{}
		}
		return Keep{Count: 5, TTL: 1000}
	}, Bytes: histories, Budget: NewBudget(1 << 20)}, 0)
	return s
}

// described is what a space says of its channels.
func described(s *Space, names []string) (all []string) {
	for _, name := range names {
		c := s.Find(name)
		if c == nil {
			all = append(all, fmt.Sprintf("%s next %v", name, s.Next(name)))
			continue
		}
		got, ok := s.Collect(name, nil, false, Bounds{Count: -1}, 0)
		text := fmt.Sprintf("%s %v taken %d, %v:", name, c.Newest(), c.Taken(), ok)
		for _, p := range got.Publications {
			text += fmt.Sprintf(" %d<%d %q %q %v %d %d", p.Prev, p.Offset, p.Payload, p.Extra, p.Binary, p.From, p.At)
		}
		all = append(all, text)
	}
	return all
}

// TestSnapshotWhileUsed copies a space in small pieces while everything may happen in it.
func TestSnapshotWhileUsed(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 1))
		s := snapSpaceOf(2 << 10)
		var names []string
		for i := range 40 {
			names = append(names, fmt.Sprintf("%s/%d", []string{"kept", "passing"}[i%2], i))
		}
		readers := make(map[string]*member)
		now, scratch := int64(1000), new(Scratch)
		act := func() {
			name := names[r.IntN(len(names))]
			switch r.IntN(10) {
			case 0:
				if m := readers[name]; m != nil {
					s.Leave(&m.Reader)
					delete(readers, name)
				} else {
					readers[name] = join(t, s, name, padded(1))
				}
			case 1:
				if c := s.Find(name); c != nil {
					c.ForgetHistory()
				}
			case 2:
				now += int64(r.IntN(400))
				for range trimPart {
					s.Trim(now)
				}
			default:
				c := s.Find(name)
				if c == nil && s.Keeps(name) {
					c, _ = s.Open(name)
				}
				if c == nil {
					break
				}
				payload := bytes.Repeat([]byte{byte('a' + r.IntN(26))}, r.IntN(300))
				c.Publish(&Publication{Payload: payload, Extra: payload[:len(payload)/3], Binary: r.IntN(2) == 0, From: r.Uint64() >> 40, At: now, Passing: r.IntN(9) == 0}, scratch, nil)
			}
			for _, m := range readers {
				m.serve()
			}
		}
		for range r.IntN(300) {
			act()
		}
		n, to := s.Snapshot(), snapSpaceOf(2<<10)
		for more := true; more; {
			var piece []byte
			if piece, more = n.Copy(nil, 1+r.IntN(3000)); more {
				if err := to.Restore(piece); err != nil {
					t.Fatal(err)
				}
			} else if len(piece) > 0 {
				t.Fatalf("%d bytes behind the last piece", len(piece))
			}
			for range r.IntN(4) {
				act()
			}
		}
		if err := to.Restore(n.Rest(nil)); err != nil {
			t.Fatal(err)
		}
		for name := range readers {
			join(t, to, name, padded(1))
		}
		to.Restored()
		if diff := cmp.Diff(described(s, names), described(to, names)); diff != "" {
			t.Fatalf("seed %d (- is the old space):\n%s", seed, diff)
		}
		if s.Channels() != to.Channels() {
			t.Fatalf("seed %d: %d channels, want %d", seed, to.Channels(), s.Channels())
		}
		for _, name := range names { // life goes on
			for _, x := range []*Space{s, to} {
				c, err := x.Open(name)
				if err != nil {
					t.Fatal(err)
				}
				c.Publish(&Publication{Payload: []byte("after"), At: now}, scratch, nil)
			}
		}
		if diff := cmp.Diff(described(s, names), described(to, names)); diff != "" {
			t.Fatalf("seed %d, later (- is the old space):\n%s", seed, diff)
		}
	}
}

// A piece of the rest is what has changed; channels whose subscribers have not come along, and that keep nothing,
// end.
func TestSnapshotRest(t *testing.T) {
	s := snapSpaceOf(2 << 10)
	for i := range 100 {
		c := join(t, s, fmt.Sprintf("kept/%d", i), padded(1)).Log().Channel()
		c.Publish(&Publication{Payload: make([]byte, 200)}, new(Scratch), nil)
	}
	left := join(t, s, "passing/left", padded(1)).Log().Channel()
	n, to := s.Snapshot(), snapSpaceOf(2<<10)
	piece, more := n.Copy(nil, 1<<20)
	if err := to.Restore(piece); err != nil || !more {
		t.Fatal(more, err)
	}
	s.Find("kept/5").Publish(&Publication{Payload: make([]byte, 200)}, new(Scratch), nil)
	rest := n.Rest(nil)
	if most := 2 + spaceShards + 300; len(rest) > most {
		t.Errorf("%d bytes for one publication, want at most %d", len(rest), most)
	}
	if err := to.Restore(rest); err != nil {
		t.Fatal(err)
	}
	to.Restored()
	if to.Find("passing/left") != nil || to.Channels() != 100 {
		t.Errorf("%d channels, want 100 and not %v", to.Channels(), left.Name())
	}
	if to.Next("passing/left").Epoch == left.Epoch() {
		t.Error("the next channel of that name has the same epoch, and nobody could notice what was published before")
	}
}

// fenced is a format that cannot tell gaps.
type fenced struct{ padded }

func (f fenced) Append(dst []byte, p *Publication) []byte {
	if p.Kind >= KindGap {
		return dst
	}
	return f.padded.Append(dst, p)
}

// TestTail hands the rest of a log over to subscribers that are behind.
func TestTail(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 2))
		s, f := snapSpaceOf(2<<10), Format(padded(1))
		if seed%2 == 0 {
			f = fenced{1}
		}
		m, other := join(t, s, "kept/x", f), join(t, s, "kept/x", f)
		c, scratch := m.Log().Channel(), new(Scratch)
		cursor, at := uint64(0), int64(0)
		var before []byte // what was copied in the midst
		var copiedFrom, copiedTo uint64
		for range 5 + r.IntN(60) {
			if r.IntN(20) == 0 {
				if b, to, ok := m.AppendFrames(nil, cursor); ok {
					before, copiedFrom, copiedTo = b, cursor, to
				}
			}
			p := Publication{Payload: bytes.Repeat([]byte("x"), r.IntN(200)), From: r.Uint64N(5)}
			if at++; r.IntN(20) == 0 {
				at += 3 // some are missing
			}
			p.Epoch, p.Offset, p.Prev = 7, uint64(at), uint64(at)-1
			c.Append(&p, scratch)
			other.serve()
			if v, ok := m.View(cursor); ok && r.IntN(2) == 0 && cursor < v.Head() {
				if kind, behind := v.Fence(cursor); kind != KindMessage {
					cursor = behind
				} else {
					cursor = v.Fit(cursor, v.Head(), r.IntN(300))
				}
				m.Clear()
				m.Served(cursor)
			}
		}
		from, skip := cursor, uint64(0)
		if copiedFrom <= cursor && cursor < copiedTo {
			from, skip = copiedTo, cursor-copiedFrom
		} else {
			before = nil
		}
		tail, ok := m.AppendTail(nil, cursor, from)
		if _, there := m.look(cursor); ok != there {
			t.Fatalf("seed %d: the tail is there: %v, want %v", seed, ok, there)
		}
		if !ok {
			continue
		}
		to := snapSpaceOf(2 << 10)
		n := s.Snapshot()
		if err := to.Restore(n.Rest(nil)); err != nil {
			t.Fatal(err)
		}
		first := join(t, to, "kept/x", f)
		base, err := first.RestoreTail(tail, before, skip)
		if err != nil {
			t.Fatal(err)
		}
		second := join(t, to, "kept/x", f)
		second.Rewind(base)
		if got, want := second.Between(0, second.Log().Head(), 0), m.Between(cursor, m.Log().Head(), 0); got != want {
			t.Fatalf("seed %d: %d frames, want %d", seed, got, want)
		}
		if got, want := frames(&second.Reader, 0), frames(&m.Reader, cursor); got != want {
			t.Fatalf("seed %d: frames\n%s\nwant\n%s", seed, got, want)
		}
		gotAt, gotOK := second.Kept(0)
		wantAt, wantOK := m.Kept(cursor)
		if gotAt != wantAt || gotOK != wantOK {
			t.Fatalf("seed %d: position %v %v, want %v %v", seed, gotAt, gotOK, wantAt, wantOK)
		}
		first.serve()
		second.serve()
		if used := first.Log().usedLocked(); used == 0 {
			continue
		}
		c2 := first.Log().Channel()
		for range 100 { // the log is in order: it can be used
			p := Publication{Payload: []byte("more")}
			if _, err := c2.Publish(&p, scratch, nil); err != nil {
				t.Fatal(err)
			}
			first.serve()
			second.serve()
		}
	}
}

// frames describes what a reader has from a cursor on.
func frames(r *Reader, cursor uint64) string {
	var b strings.Builder
	start := cursor
	for cursor < r.Log().Head() {
		v, ok := r.look(cursor)
		if !ok {
			return "gone"
		}
		if kind, behind := v.Fence(cursor); kind != KindMessage {
			fmt.Fprintf(&b, "fence %d\n", kind)
			cursor = behind
			continue
		}
		i := v.Find(cursor)
		end, from := v.Entry(i)
		x, y := v.Bytes(cursor, end)
		fmt.Fprintf(&b, "%d %d %d %q%q\n", end-start, v.Offset(i), from, x, y)
		cursor = end
	}
	return strings.ReplaceAll(b.String(), `""`, "")
}

// FuzzRestore has a space restore what nobody has saved: an error at most.
func FuzzRestore(f *testing.F) {
	s := snapSpaceOf(1 << 10)
	m := join(f, s, "kept/a", padded(1))
	for i := range 3 {
		m.Log().Channel().Publish(&Publication{Payload: []byte("payload"), At: int64(i)}, new(Scratch), nil)
	}
	n := s.Snapshot()
	piece, _ := n.Copy(nil, 1<<20)
	m.Log().Channel().Publish(&Publication{Payload: []byte("more")}, new(Scratch), nil)
	tail, _ := m.AppendTail(nil, 0, 0)
	before, end, _ := m.AppendFrames(nil, 0)
	f.Add(piece, n.Rest(nil), tail, []byte(nil), uint64(0))
	f.Add(piece, n.Rest(nil), tail[:4], before, end/2)
	f.Fuzz(func(t *testing.T, piece, rest, tail, before []byte, skip uint64) {
		s := snapSpaceOf(1 << 10)
		if s.Restore(piece) == nil {
			s.Restore(rest)
		}
		s.Restored()
		m := join(t, s, "kept/a", padded(1))
		m.RestoreTail(tail, before, skip)
		m.Log().Channel().Publish(&Publication{Payload: []byte("after")}, new(Scratch), nil)
	})
}

// BenchmarkRest completes a snapshot of 100,000 channels, of which few have changed: everybody waits for it.
func BenchmarkRest(b *testing.B) {
	const channels, changed = 100_000, 100
	s := NewSpace(4<<10, channels, NewBudget(1<<30))
	s.KeepHistory(History{Of: func(string) Keep { return Keep{Count: 5, TTL: 1000} }, Bytes: 2 << 10, Budget: NewBudget(1 << 30)}, 0)
	scratch := new(Scratch)
	publish := func(i int) {
		c, err := s.Open(fmt.Sprintf("kept/%d", i))
		if err == nil {
			_, err = c.Publish(&Publication{Payload: []byte("x"), At: 1000}, scratch, nil)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	for i := range channels {
		publish(i)
	}
	var piece, rest []byte
	for b.Loop() {
		b.StopTimer()
		n := s.Snapshot()
		for more := true; more; {
			piece, more = n.Copy(piece[:0], 1<<20)
		}
		for i := range changed {
			publish(i)
		}
		b.StartTimer()
		rest = n.Rest(rest[:0])
	}
	b.ReportMetric(float64(len(rest)), "B")
}
