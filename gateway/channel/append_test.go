package channel

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// positioned is a Format that shows what a publication is and where its position is. Of tells, it tells gaps.
type positioned struct{ tells bool }

// positionedBytes is what a frame has beside its payload: its length, kind, offset and prev.
const positionedBytes = 4 + 1 + 8 + 8

func (f positioned) Append(dst []byte, p *Publication) []byte {
	if p.Kind > KindLeave && !f.tells {
		return dst
	}
	dst = binary.BigEndian.AppendUint32(dst, uint32(positionedBytes+len(p.Payload)))
	dst = append(dst, byte(p.Kind))
	dst = binary.BigEndian.AppendUint64(dst, p.Offset)
	dst = binary.BigEndian.AppendUint64(dst, p.Prev)
	return append(dst, p.Payload...)
}

// readPositioned calls take for each of some frames.
func readPositioned(frames []byte, take func(kind Kind, offset, prev uint64)) {
	for len(frames) > 0 {
		take(Kind(frames[4]), binary.BigEndian.Uint64(frames[5:]), binary.BigEndian.Uint64(frames[13:]))
		frames = frames[binary.BigEndian.Uint32(frames):]
	}
}

// show writes frames as a person reads them: "5<3" has the offset 5 behind 3.
func show(frames []byte) (shown []string) {
	readPositioned(frames, func(kind Kind, offset, prev uint64) {
		switch kind {
		case KindMessage:
			shown = append(shown, fmt.Sprintf("%d<%d", offset, prev))
		case KindGap:
			shown = append(shown, fmt.Sprintf("gap<%d", prev))
		case KindReset:
			shown = append(shown, fmt.Sprintf("reset<%d", prev))
		default:
			shown = append(shown, "join")
		}
	})
	return shown
}

// read reads everything from a cursor on, over fences.
func (m *member) read(cursor uint64) []byte {
	var frames []byte
	for head := m.Log().Head(); cursor < head; {
		v := m.view(cursor)
		if kind, behind := v.Fence(cursor); kind != KindMessage {
			cursor = behind
			continue
		}
		to := v.Fit(cursor, v.Head(), math.MaxInt)
		a, b := v.Bytes(cursor, to)
		frames, cursor = append(append(frames, a...), b...), to
	}
	return frames
}

// given is a publication of n bytes with a position.
func given(e Epoch, offset, prev uint64, n int) *Publication {
	return &Publication{Epoch: e, Offset: offset, Prev: prev, Payload: make([]byte, n)}
}

func TestAppendedPublicationsHaveTheirPositions(t *testing.T) {
	s := historySpace(History{Of: keeping(10, 1<<40), Bytes: 1 << 20})
	m, mute := join(t, s, "c", positioned{tells: true}), join(t, s, "c", positioned{})
	c := s.Find("c")
	e, scratch := c.Epoch(), new(Scratch)
	for _, p := range []*Publication{
		given(e, 5, 0, 1), given(e, 9, 5, 2), given(e, 9, 5, 2), given(e, 7, 5, 1), // two that it has
		{Kind: KindJoin}, given(e, 12, 9, 1),
		given(e, 20, 15, 1), given(e, 21, 8, 1), // behind a gap; and one that knows less than the channel
		given(e+1, 3, 2, 1), given(e+1, 4, 3, 1),
	} {
		c.Append(p, scratch)
	}
	want := []string{"5<0", "9<5", "join", "12<9", "gap<15", "20<15", "21<20", "reset<2", "3<2", "4<3"}
	if diff := cmp.Diff(want, show(m.read(0))); diff != "" {
		t.Errorf("the log (-want +got):\n%s", diff)
	}
	want = slices.DeleteFunc(want, func(s string) bool { return s[0] == 'g' || s[0] == 'r' })
	if diff := cmp.Diff(want, show(mute.read(0))); diff != "" {
		t.Errorf("the log of a format that tells no gaps (-want +got):\n%s", diff)
	}
	if got, want := c.Newest(), (Position{e + 1, 4}); got != want {
		t.Errorf("the newest is %v, want %v", got, want)
	}
	got := c.Collect(Ask{Kind: AskSince, At: Position{e + 1, 2}}, Bounds{Count: -1}, 0)
	if len(got.Publications) != 2 || got.Gap || got.Publications[1].Prev != 3 {
		t.Errorf("the history has %+v", got)
	}
	s.Leave(&m.Reader)
	s.Leave(&mute.Reader)
}

// What is given is taken up to twice the limit, with readers that stand still pressed once.
func TestAppendTakesTwiceTheLimit(t *testing.T) {
	s := NewSpace(ringBytesMin, 1, NewBudget(1<<20))
	quick, slow := join(t, s, "c", positioned{}), join(t, s, "c", positioned{})
	c := s.Find("c")
	cost, n := uint64(positionedBytes+10+entryBytes), uint64(0)
	for ; (n+1)*cost <= 2*ringBytesMin; n++ {
		c.Append(given(c.Epoch(), 2*n+2, 2*n, 10), new(Scratch))
		if pressed := quick.serve(); pressed != 0 {
			t.Errorf("publication %d presses a reader that has everything", n)
		}
		if pressed := slow.Clear(); (pressed != 0) != ((n+1)*cost > ringBytesMin && n*cost <= ringBytesMin) {
			t.Errorf("publication %d presses to %d", n, pressed)
		}
	}
	if got := slow.Between(0, slow.Log().Head(), 0); got != n {
		t.Errorf("of %d publications %d are there", n, got)
	}
	s.Leave(&quick.Reader)
	s.Leave(&slow.Reader)
}

// A publication that is too large for any log is a gap there. It presses nobody, and the log keeps its limit.
func TestAppendOfWhatFitsNoLog(t *testing.T) {
	s := NewSpace(ringBytesMin, 1, NewBudget(1<<20))
	slow := join(t, s, "c", positioned{tells: true})
	c, scratch := s.Find("c"), new(Scratch)
	c.Append(given(c.Epoch(), 1, 0, 10), scratch)
	c.Append(given(c.Epoch(), 2, 1, largeFrames*ringBytesMin), scratch)
	if diff := cmp.Diff([]string{"1<0", "gap<2"}, show(slow.read(0))); diff != "" {
		t.Errorf("the log (-want +got):\n%s", diff)
	}
	if pressed := slow.Clear(); pressed != 0 {
		t.Errorf("its reader is pressed to %d", pressed)
	}
	for n := uint64(3); n < 100; n++ {
		c.Append(given(c.Epoch(), n, n-1, 10), scratch)
	}
	c.mu.Lock()
	used := slow.log.usedLocked()
	c.mu.Unlock()
	if used > 2*ringBytesMin {
		t.Errorf("the log keeps %d bytes, its limit is %d", used, ringBytesMin)
	}
	s.Leave(&slow.Reader)
}

// A publication that is appended waits for a join that is being encoded, and a join for it.
func TestAppendSharesTheTurn(t *testing.T) {
	s := NewSpace(ringBytesMin, 1, NewBudget(1<<20))
	slow := newBlocking(0)
	m := join(t, s, "c", slow)
	c := s.Find("c")
	published := make(chan error, 1)
	go func() {
		_, err := c.Publish(&Publication{Kind: KindJoin}, new(Scratch), nil)
		published <- err
	}()
	<-slow.entered
	appended := make(chan struct{})
	go func() {
		c.Append(given(c.Epoch(), 7, 0, 1), new(Scratch))
		close(appended)
	}()
	slow.release <- struct{}{}
	if err := <-published; err != nil {
		t.Error(err)
	}
	<-slow.entered // of what is appended
	w := new(counting)
	if _, err := c.Publish(&Publication{Kind: KindJoin}, new(Scratch), w); err != ErrTurn {
		t.Errorf("a join during an append: %v, want ErrTurn", err)
	}
	close(slow.release)
	<-appended
	if n := m.Between(0, m.Log().Head(), 0); w.told != 1 || n != 2 {
		t.Errorf("%d publications, and the join that waits was called %d times", n, w.told)
	}
	c.Forget(w)
	s.Leave(&m.Reader)
}

func TestAppendAllocatesNothing(t *testing.T) {
	s := NewSpace(64<<10, 1, NewBudget(1<<20))
	s.KeepHistory(History{Of: keeping(10, 1<<40), Bytes: 1 << 20, Budget: NewBudget(1 << 20)}, 0)
	plain, other := join(t, s, "c", positioned{}), join(t, s, "c", padded(9))
	c := s.Find("c")
	p, scratch := given(c.Epoch(), 0, 0, 64), new(Scratch)
	round := func() {
		for range 100 {
			p.Prev, p.Offset = p.Offset, p.Offset+3
			c.Append(p, scratch)
		}
		plain.serve()
		other.serve()
	}
	round()
	if got := testing.AllocsPerRun(100, round); got != 0 {
		t.Errorf("%v allocations for 100 publications", got)
	}
	s.Leave(&plain.Reader)
	s.Leave(&other.Reader)
}

func BenchmarkAppend(b *testing.B) {
	s := NewSpace(256<<10, 1, NewBudget(16<<20))
	m := join(b, s, "c", padded(0))
	c := s.Find("c")
	p, scratch := given(c.Epoch(), 0, 0, 64), new(Scratch)
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		p.Prev, p.Offset = p.Offset, p.Offset+3
		if c.Append(p, scratch); n%256 == 0 {
			m.serve()
		}
	}
	s.Leave(&m.Reader)
}

// cutLoop is a loop whose first subscriber reads everything at once, and the others now and then, or
// not at all. Those that are below a cut leave, and come again at the head.
type cutLoop struct {
	raceLoop
	last                    []uint64 // offset of each subscriber's newest publication
	read, overtaken, forgot int
	err                     error
}

func (l *cutLoop) sweep(rnd *rand.Rand) {
	l.Clear()
	head := l.Log().Head()
	low := head
	for i := range l.subs {
		s := &l.subs[i]
		for s.cursor < head && l.err == nil && (i == 0 || i == 1 && rnd.IntN(4) == 0) {
			if !l.readSome(i, rnd.IntN(2000)) {
				break
			}
		}
		low = min(low, s.cursor)
	}
	if cut := l.CutAt(); low < cut {
		low = head
		for i := range l.subs {
			if s := &l.subs[i]; s.cursor < cut {
				l.overtake(i)
			}
			low = min(low, l.subs[i].cursor)
		}
	}
	l.Served(low)
}

// readSome reads about n bytes, perhaps within a frame, and the rest of that frame. false: they are gone.
func (l *cutLoop) readSome(i, n int) bool {
	s := &l.subs[i]
	v, ok := l.View(s.cursor)
	if !ok {
		return false
	}
	to := v.Fit(s.cursor, v.Head(), n)
	if n%2 == 1 {
		to = v.Floor(s.cursor, min(s.cursor+uint64(n), v.Head()))
	}
	runtime.Gosched() // a cut may come in between
	a, b := v.Bytes(s.cursor, to)
	frames := append(append([]byte(nil), a...), b...)
	if got := v.Find(to) - v.Find(s.cursor); got != uint64(len(show(frames))) {
		l.err = fmt.Errorf("%d frames are %d entries", len(show(frames)), got)
	}
	s.cursor = to
	for len(frames) > 0 {
		offset, prev := binary.BigEndian.Uint64(frames[5:]), binary.BigEndian.Uint64(frames[13:])
		if l.last[i] != 0 && prev != l.last[i] {
			l.err = fmt.Errorf("subscriber %d reads %d behind %d, and has %d", i, offset, prev, l.last[i])
		}
		l.last[i] = offset
		l.read++
		frames = frames[binary.BigEndian.Uint32(frames):]
	}
	return true
}

// overtake takes out a subscriber that is below a cut. The position that is known for it is the one
// that it has.
func (l *cutLoop) overtake(i int) {
	at, _ := l.Kept(l.subs[i].cursor)
	switch {
	case at == Position{}:
		l.forgot++ // several cuts came within one sweep, or it has read nothing yet
	case l.last[i] != 0 && at.Offset != l.last[i]:
		l.err = fmt.Errorf("subscriber %d is at offset %d, and has %d", i, at.Offset, l.last[i])
	default:
		l.overtaken++
	}
	l.subs[i].cursor, l.last[i] = l.Log().Head(), 0
}

// While the log is cut again and again, loops read: whatever they read is complete and in order, and where
// a subscriber is overtaken is known, or not, but never wrong.
func TestLoopsReadWhileTheLogIsCut(t *testing.T) {
	const all = 60_000
	budget := NewBudget(1 << 20)
	s := NewSpace(8*ringBytesMin, 8, budget)
	stop := make(chan struct{})
	var loops []*cutLoop
	var reading sync.WaitGroup
	for i := range 3 {
		l := &cutLoop{raceLoop: raceLoop{notified: make(chan struct{}, 1), subs: make([]raceSub, 3)}, last: make([]uint64, 3)}
		if err := s.Join("c", positioned{}, l, &l.Reader); err != nil {
			t.Fatal(err)
		}
		loops = append(loops, l)
		reading.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(i), 5))
			for {
				select {
				case <-l.notified:
					l.sweep(rnd)
				case <-stop:
					return
				}
			}
		})
	}
	c := s.Find("c")
	p, scratch := given(c.Epoch(), 0, 0, 0), new(Scratch)
	payload := make([]byte, 300)
	for n := range uint64(all) {
		p.Prev, p.Offset, p.Payload = p.Offset, p.Offset+1+n%3, payload[:n%uint64(len(payload))]
		c.Append(p, scratch)
		if n%16 == 0 {
			runtime.Gosched()
		}
	}
	close(stop)
	reading.Wait()
	for i, l := range loops {
		if l.err != nil || l.twice {
			t.Errorf("loop %d: %v; notified twice: %v", i, l.err, l.twice)
		}
		if l.read == 0 || l.overtaken == 0 {
			t.Errorf("loop %d has read %d publications, %d subscribers were overtaken with a position", i, l.read, l.overtaken)
		}
		t.Logf("loop %d: %d read, %d overtaken, %d without a position", i, l.read, l.overtaken, l.forgot)
		s.Leave(&l.Reader)
	}
	if got := budget.Used(); got != 0 {
		t.Errorf("%d bytes are held after everybody has left", got)
	}
}

// Several cuts come within one sweep, and the reader looks at the log behind some of them. Where a subscriber is
// that is below all of them is known, or not, but never wrong.
func TestPositionsBelowSeveralCuts(t *testing.T) {
	const cuts = 6
	for looks := range 1 << (cuts + 1) {
		s := NewSpace(ringBytesMin, 1, NewBudget(1<<20))
		m := join(t, s, "c", positioned{})
		c := s.Find("c")
		offsets, newest := map[uint64]uint64{}, uint64(0) // by cursor
		publish := func() {
			c.Append(given(c.Epoch(), newest+3, newest, 10), new(Scratch))
			newest += 3
			offsets[m.Log().Head()] = newest
		}
		publish()
		served := m.Log().Head()
		m.Served(served)
		if looks>>cuts != 0 {
			m.View(served)
		}
		for i := range cuts {
			for was := m.CutAt(); m.CutAt() == was; {
				publish()
			}
			if looks>>i&1 != 0 {
				m.View(m.Log().Head())
			}
		}
		for cursor, want := range offsets {
			at, _ := m.Kept(cursor)
			_, there := m.View(cursor)
			if known := at != (Position{}); known && at.Offset != want || !known && (there || cursor == served) {
				t.Errorf("looked behind %b: a subscriber at %d is at %v, want %d; all that is above it is there: %v", looks, cursor, at, want, there)
			}
		}
		if looks&1 != 0 && looks>>1 != 0 { // it has seen what came behind the first publication, and another cut after that
			if v, ok := m.look(served); !ok || v.Fit(served, v.Head(), 0) == served {
				t.Errorf("looked behind %b: nothing goes on at %d", looks, served)
			}
		}
		if at, _ := m.Kept(served + 1); at != (Position{}) {
			t.Errorf("looked behind %b: a subscriber within a frame is at %v", looks, at)
		}
		s.Leave(&m.Reader)
		if got := s.budget.Used(); got != 0 {
			t.Errorf("%d bytes are held after everybody has left", got)
		}
	}
}

// After a large frame the log holds no more than before.
func TestLimitAfterALargeFrame(t *testing.T) {
	s := NewSpace(ringBytesMin, 1, NewBudget(1<<20))
	m := join(t, s, "c", positioned{})
	c, newest := s.Find("c"), uint64(0)
	publish := func(n int) {
		c.Append(given(c.Epoch(), newest+1, newest, n), new(Scratch))
		newest++
	}
	publish(4 * ringBytesMin)
	publish(10)
	m.Served(m.Log().Head() - positionedBytes - 10) // never everything
	for m.CutAt() == 0 {
		if publish(10); m.Log().usedLocked() > 2*ringBytesMin {
			t.Fatalf("%d bytes are kept in a log of %d", m.Log().usedLocked(), ringBytesMin)
		}
	}
	s.Leave(&m.Reader)
}

// Subscribers that read do not notice a cut; those below it have their publications until the next.
func TestCutLeavesReadersWhatTheyHave(t *testing.T) {
	s := NewSpace(ringBytesMin, 1, NewBudget(1<<20))
	quick, late := join(t, s, "c", positioned{}), join(t, s, "c", positioned{})
	c := s.Find("c")
	cost, n := positionedBytes+10+entryBytes, uint64(0)
	for cut := uint64(0); cut == 0; cut = late.CutAt() {
		c.Append(given(c.Epoch(), n+1, n, 10), new(Scratch))
		quick.serve()
		n++
	}
	if want := uint64(2*ringBytesMin/cost) + 1; n != want {
		t.Errorf("cut before publication %d, want %d", n, want)
	}
	if got := show(late.read(0)); uint64(len(got)) != n || got[n-1] != fmt.Sprintf("%d<%d", n, n-1) {
		t.Errorf("of %d publications it can read %q", n, got)
	}
	late.Served(late.CutAt())
	quick.serve()
	c.Append(given(c.Epoch(), n+1, n, 10), new(Scratch))
	if late.CutAt() != 0 {
		t.Error("the log is cut, with nobody below")
	}
	s.Leave(&quick.Reader)
	s.Leave(&late.Reader)
	if got := s.budget.Used(); got != 0 {
		t.Errorf("%d bytes are held after everybody has left", got)
	}
}
