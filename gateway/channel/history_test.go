package channel

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"unsafe"

	"github.com/google/go-cmp/cmp"
)

// spelled is a wire format that writes everything of a publication down.
type spelled struct{}

func (spelled) Append(dst []byte, p *Publication) []byte {
	return fmt.Appendf(dst, "%s %s:%d after %d at %d from %d binary %t: %x %x\n", p.Channel, p.Epoch, p.Offset, p.Prev, p.At, p.From, p.Binary, p.Payload, p.Extra)
}

// keeping keeps as much of every channel.
func keeping(count int, ttl int64) func(string) Keep {
	return func(string) Keep { return Keep{Count: count, TTL: ttl} }
}

func historySpace(h History) *Space {
	s := NewSpace(4<<10, 4, NewBudget(1<<20))
	if h.Budget == nil {
		h.Budget = NewBudget(1 << 20)
	}
	s.KeepHistory(h, 0)
	return s
}

func mustOpen(t *testing.T, s *Space, name string) *Channel {
	t.Helper()
	c, err := s.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func mustPublish(t *testing.T, c *Channel, p Publication) Receipt {
	t.Helper()
	r, err := c.Publish(&p, new(Scratch), nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// keptSince gives what is kept of a channel that nobody else uses.
func keptSince(c *Channel, offset uint64) Recalled {
	return c.recallLocked(nil, Ask{Kind: AskSince, At: Position{c.epoch, offset}}, padded(0), math.MaxInt, 0, new(Scratch))
}

// The model keeps every publication for ever, and finds by looking at all of
// them what a history with these bounds has.
type historyModel struct {
	limit History
	keep  Keep
	all   []Publication
	first int // of those that are kept
}

func (m *historyModel) expire(now int64) {
	for m.first < len(m.all) && m.all[m.first].At < now-m.keep.TTL {
		m.first++
	}
}

func (m *historyModel) add(p Publication) {
	m.expire(p.At)
	p.Payload, p.Extra = slices.Clone(p.Payload), slices.Clone(p.Extra)
	m.all = append(m.all, p)
	used := 0
	for i := len(m.all) - 1; i >= m.first; i-- {
		if used += len(m.all[i].Payload) + len(m.all[i].Extra) + HistoryEntryBytes; used > m.limit.Bytes || len(m.all)-i > m.keep.Count {
			m.first = i + 1
		}
	}
}

// frames gives what is kept above an offset, in the format.
func (m *historyModel) frames(offset uint64) (frames [][]byte) {
	for i := m.first; i < len(m.all); i++ {
		if p := m.all[i]; p.Offset > offset {
			frames = append(frames, spelled{}.Append(nil, &p))
		}
	}
	return frames
}

// compareCollected looks at what Collect and CollectBack give for an ask that Recall
// answers with want, of which at is the position.
func (m *historyModel) compareCollected(t *testing.T, c *Channel, ask Ask, at Position, wantGap bool, want [][]byte, now int64) {
	t.Helper()
	spell := func(all []Publication) (frames [][]byte) {
		for _, p := range all {
			frames = append(frames, spelled{}.Append(nil, &p))
		}
		return frames
	}
	for _, most := range []int{-1, 0, 1, 3} {
		n := len(want)
		if most >= 0 {
			n = min(n, most)
		}
		got := c.Collect(ask, Bounds{Count: most}, now)
		if all := spell(got.Publications); !slices.EqualFunc(want[:n], all, bytes.Equal) || got.Gap != wantGap || got.More != (n < len(want)) || got.Newest.Offset != uint64(len(m.all)) {
			t.Fatalf("collect %+v, at most %d: gap %t, more %t, newest %v\n%s", ask, most, got.Gap, got.More, got.Newest, bytes.Join(all, nil))
		}
		if to := got.From.Offset + uint64(n); !got.More && got.To != got.Newest || got.More && got.To.Offset != to {
			t.Fatalf("collect %+v, at most %d: it went to %v", ask, most, got.To)
		}
	}
	if ask.Kind == AskNewest {
		return
	}
	before := uint64(len(m.all)) + 1
	if (ask.Kind == AskSince || ask.Kind == AskOffset) && at.Epoch == c.Epoch() && at.Offset > 0 {
		before = at.Offset
	}
	end := max(min(len(m.all), int(before)-1), m.first)
	back := slices.Clone(m.all[max(m.first, end-3):end])
	slices.Reverse(back)
	got := c.CollectBack(ask, Bounds{Count: 3}, now)
	if all := spell(got.Publications); !slices.EqualFunc(spell(back), all, bytes.Equal) || got.More != (end-m.first > 3) {
		t.Fatalf("collect back %+v: more %t\n%s", ask, got.More, bytes.Join(all, nil))
	}
}

func TestHistoryAgainstModel(t *testing.T) {
	for seed := range uint64(60) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		keep := Keep{Count: 1 + rnd.IntN(40), TTL: int64(1 + rnd.IntN(200))}
		limit := History{Of: keeping(keep.Count, keep.TTL), Bytes: 200 + rnd.IntN(4000)}
		s := historySpace(limit)
		c := mustOpen(t, s, "x")
		m := historyModel{limit: limit, keep: keep}
		var scratch Scratch
		now := int64(1000)
		for range 400 {
			now += int64(rnd.IntN(8))
			switch what := rnd.IntN(60); {
			case what == 0:
				c.ForgetHistory()
				m.first = len(m.all)
				continue
			case what > 20:
				p := Publication{Payload: make([]byte, rnd.IntN(1+rnd.IntN(600))), Binary: rnd.IntN(2) == 0, From: rnd.Uint64N(3), At: now}
				for i := range p.Payload {
					p.Payload[i] = byte(rnd.Uint32())
				}
				if rnd.IntN(2) == 0 {
					p.Extra = []byte(fmt.Sprint(rnd.Uint64()))
				}
				switch rnd.IntN(6) {
				case 0: // it has no position in the order, and leaves no trace
					p.Passing = true
					mustPublish(t, c, p)
					continue
				case 1:
					p.Kind = KindJoin
					mustPublish(t, c, p)
					continue
				}
				mustPublish(t, c, p)
				p.Channel, p.Epoch, p.Offset, p.Prev = "x", c.Epoch(), uint64(len(m.all)+1), uint64(len(m.all))
				m.add(p)
				continue
			}
			m.expire(now)
			head := uint64(len(m.all))
			at := Position{c.Epoch(), rnd.Uint64N(head + 3)}
			if rnd.IntN(10) == 0 {
				at.Epoch++
			}
			ask := Ask{Kind: AskSince, At: at}
			switch rnd.IntN(9) {
			case 2:
				ask, at.Epoch = Ask{Kind: AskOffset, At: Position{Offset: at.Offset}}, c.Epoch()
			case 0:
				ask, at = Ask{Kind: AskNow}, Position{c.Epoch(), head}
			case 1:
				n := rnd.IntN(2 * keep.Count)
				ask, at = Ask{Kind: AskNewest, N: n}, Position{c.Epoch(), head - min(uint64(n), uint64(len(m.all)-m.first))}
			}
			wantGap := at.Epoch != c.Epoch() || at.Offset < uint64(m.first) || at.Offset > head
			from := at.Offset
			if wantGap {
				from = uint64(m.first)
			}
			want := m.frames(from)
			bytesMax := math.MaxInt
			if rnd.IntN(2) == 0 {
				bytesMax = 1 + rnd.IntN(1000)
			}
			count, size := 0, 0
			for count < len(want) && size < bytesMax {
				size += len(want[count])
				count++
			}
			r := c.recallLocked([]byte("before"), ask, spelled{}, bytesMax, now, &scratch) // nobody else is there
			if r.Gap != wantGap || r.From != (Position{c.Epoch(), from}) || r.Count != count || r.More != (count < len(want)) {
				t.Fatalf("seed %d: recall %+v of %d: %+v; want gap %t, from %d, %d of %d", seed, ask, head, r, wantGap, from, count, len(want))
			}
			if wantTo := from + uint64(count); r.More && r.To.Offset != wantTo || !r.More && r.To.Offset != head {
				t.Fatalf("seed %d: it went to %d, want %d of %d", seed, r.To.Offset, wantTo, head)
			}
			if got := string(r.Frames); got != "before"+string(bytes.Join(want[:count], nil)) {
				t.Fatalf("seed %d: got %s", seed, got)
			}
			m.compareCollected(t, c, ask, at, wantGap, want, now)
		}
		for range trimPart {
			s.Trim(now + keep.TTL + 1)
		}
		if n := s.history.Budget.Used(); n != 0 || s.Channels() != 0 {
			t.Fatalf("seed %d: %d bytes of %d channels are left when everything has expired", seed, n, s.Channels())
		}
	}
}

// chained is a wire format that notes the offsets of what it encodes.
type chained struct{ got *[]link }

type link struct{ Offset, Prev uint64 }

func (f chained) Append(dst []byte, p *Publication) []byte {
	*f.got = append(*f.got, link{p.Offset, p.Prev})
	return append(dst, p.Payload...)
}

// A publication knows the offset before it: live, in the history, and if it was refused
// before. What has no position in the order knows none, and changes none.
func TestPublicationsKnowTheOneBefore(t *testing.T) {
	s := historySpace(History{Of: keeping(3, 1<<40), Bytes: 1 << 20})
	var live []link
	m := join(t, s, "x", chained{&live})
	c := s.Find("x")
	for _, p := range []Publication{{}, {}, {Passing: true}, {}, {Kind: KindLeave}, {}} {
		p.Payload, p.Offset, p.Prev = []byte("p"), 77, 66 // of an attempt before
		mustPublish(t, c, p)
	}
	if diff := cmp.Diff([]link{{1, 0}, {2, 1}, {0, 0}, {3, 2}, {0, 0}, {4, 3}}, live); diff != "" {
		t.Errorf("live (-want +got):\n%s", diff)
	}
	if r, _ := m.Recall(nil, m.log.format, Ask{}, 0, 0, new(Scratch)); r.Taken != 5 || c.Taken() != 5 {
		t.Errorf("%d and %d messages are counted, want 5", r.Taken, c.Taken())
	}
	p, scratch := Publication{Payload: make([]byte, 100)}, new(Scratch)
	for full := false; !full; { // nobody reads
		_, err := c.Publish(&p, scratch, nil)
		full = errors.Is(err, ErrFull)
	}
	m.serve()
	newest := c.Newest().Offset
	live = nil
	mustPublish(t, c, p)
	if diff := cmp.Diff([]link{{newest + 1, newest}}, live); diff != "" {
		t.Errorf("behind one that was refused (-want +got):\n%s", diff)
	}
	var kept []link
	for _, p := range c.Collect(Ask{Kind: AskNewest, N: 3}, Bounds{Count: -1}, 0).Publications {
		kept = append(kept, link{p.Offset, p.Prev})
	}
	if diff := cmp.Diff([]link{{newest - 1, newest - 2}, {newest, newest - 1}, {newest + 1, newest}}, kept); diff != "" {
		t.Errorf("kept (-want +got):\n%s", diff)
	}
	s.Leave(&m.Reader)
}

// Whoever recovers while others publish gets every publication once, the last of
// the history and the first of the log one behind the other.
func TestRecoveryMeetsTheLogWithoutAHole(t *testing.T) {
	s := historySpace(History{Of: keeping(64, 1<<40), Bytes: 1 << 20})
	keeper := join(t, s, "x", padded(0)) // the log is there from the beginning
	c := s.Find("x")
	const total, publishers = 100_000, 4
	var publishing sync.WaitGroup
	var turn sync.Mutex // puts publishers in a queue, so that one is always about to publish
	published := uint64(0)
	for range publishers {
		publishing.Go(func() {
			var scratch Scratch
			payload := make([]byte, 8)
			for {
				turn.Lock()
				if published++; published > total {
					turn.Unlock()
					return
				}
				binary.BigEndian.PutUint64(payload, published)
				for {
					if _, err := c.Publish(&Publication{Payload: payload}, &scratch, nil); err == nil {
						break
					}
					keeper.serve() // under turn: a reader belongs to one goroutine at a time
				}
				turn.Unlock()
			}
		})
	}
	recoveries, recalled := 0, 0
	for at := (Position{c.Epoch(), 0}); at.Offset < total; {
		m := join(t, s, "x", padded(0))
		r, live := m.Recall(nil, m.log.format, Ask{Kind: AskSince, At: at}, math.MaxInt, 0, new(Scratch))
		next := r.From.Offset + 1
		if !r.Gap && r.From != at {
			t.Fatalf("asked for %v, it begins after %v", at, r.From)
		}
		read := func(frames []byte) {
			for ; len(frames) > 0; next++ {
				n := binary.BigEndian.Uint32(frames)
				if got := binary.BigEndian.Uint64(frames[lengthBytes:]); got != next {
					t.Fatalf("got publication %d, want %d", got, next)
				}
				frames = frames[n:]
			}
		}
		read(r.Frames)
		v := m.view(live)
		a, b := v.Bytes(live, v.Head()) // not the log's head, which may lie in a later window
		read(append(slices.Clone(a), b...))
		recoveries, recalled = recoveries+1, recalled+r.Count
		at.Offset = next - 1
		s.Leave(&m.Reader)
	}
	publishing.Wait()
	s.Leave(&keeper.Reader)
	t.Logf("%d recoveries, %d publications of the history", recoveries, recalled)
	if recalled == 0 {
		t.Error("nothing was recovered: the test shows nothing")
	}
}

// A channel that nobody reads lives as long as what it keeps, and gives way to
// a new one before that.
func TestUnreadChannelLivesWithItsHistory(t *testing.T) {
	s := historySpace(History{Of: keeping(10, 100), Bytes: 1000})
	round := func(now int64) {
		for range trimPart {
			s.Trim(now)
		}
	}
	round(1000)
	m := join(t, s, "read", padded(0))
	epoch := m.Log().Channel().Epoch()
	s.Leave(&m.Reader)
	round(1099)
	if c := s.Find("read"); c == nil || c.Epoch() != epoch {
		t.Error("a channel is gone before its time")
	}
	c := mustOpen(t, s, "published")
	mustPublish(t, c, Publication{At: 1150})
	round(1200)
	if s.Find("read") != nil {
		t.Error("a channel that nobody used for its history's time is still there")
	}
	round(1249)
	if s.Find("published") != c {
		t.Error("a channel is gone before what was published to it")
	}
	round(1251)
	if s.Find("published") != nil || s.Channels() != 0 {
		t.Error("a channel outlives its history")
	}
	if _, err := c.Publish(new(Publication), new(Scratch), nil); err != ErrGone {
		t.Errorf("publishing to a channel that has ended: %v, want ErrGone", err)
	}

	// Four channels are the limit here: those that are read stay.
	a, b := join(t, s, "a", padded(0)), join(t, s, "b", padded(0))
	mustOpen(t, s, "old")
	mustOpen(t, s, "young")
	mustOpen(t, s, "younger")
	d := join(t, s, "d", padded(0))
	if s.Find("a") == nil || s.Find("b") == nil || s.Find("d") == nil || s.Channels() != 4 {
		t.Errorf("%d channels, want the three that are read and one more", s.Channels())
	}
	e := join(t, s, "e", padded(0))
	if err := s.Join("f", padded(0), new(counting), new(Reader)); err != ErrTooManyChannels {
		t.Errorf("a fifth channel that is read: %v", err)
	}
	for _, m := range []*member{a, b, d, e} {
		s.Leave(&m.Reader)
	}
}

// When histories have used their budget up, what cannot be kept is a gap and
// nothing else; the largest give way.
func TestHistoriesShareABudget(t *testing.T) {
	budget := NewBudget(10 << 10)
	s := historySpace(History{Of: keeping(100, 1<<40), Bytes: 1 << 20, Budget: budget})
	big, small := mustOpen(t, s, "big"), mustOpen(t, s, "small")
	for range 40 {
		mustPublish(t, big, Publication{Payload: make([]byte, 300)})
	}
	if r := keptSince(big, 0); !r.Gap || r.Count == 0 || r.Count == 40 {
		t.Errorf("a history as large as the budget: %d kept, gap %t; want the newest, and a gap", r.Count, r.Gap)
	}
	lost := mustPublish(t, small, Publication{Payload: make([]byte, 6000)})
	if r := keptSince(small, 0); !r.Gap || r.Count != 0 || r.From.Offset != lost.Offset {
		t.Errorf("without room nothing is kept: %+v", r)
	}
	s.Trim(0)
	if n := big.history.size(); n != 0 {
		t.Errorf("the largest history still has %d bytes", n)
	}
	mustPublish(t, small, Publication{Payload: make([]byte, 6000)})
	if r := keptSince(small, 1); r.Gap || r.Count != 1 {
		t.Errorf("there is room again: %+v", r)
	}
	if budget.Used() > 10<<10 {
		t.Errorf("%d bytes are used of %d", budget.Used(), 10<<10)
	}
}

func TestKeepingAllocatesNothing(t *testing.T) {
	s := historySpace(History{Of: keeping(100, 1<<40), Bytes: 1 << 20})
	c := mustOpen(t, s, "x")
	p, scratch := Publication{Payload: make([]byte, 200)}, new(Scratch)
	publish := func() {
		if _, err := c.Publish(&p, scratch, nil); err != nil {
			t.Fatal(err)
		}
	}
	for range 200 {
		publish()
	}
	if n := testing.AllocsPerRun(1000, publish); n != 0 {
		t.Errorf("%v allocations for each publication", n)
	}
}

// However many open channels at once, one that nobody reads gives way to each; and
// the name of a channel is its own memory.
func TestUnreadChannelsGiveWayToAll(t *testing.T) {
	s := NewSpace(4<<10, 100, NewBudget(1<<20))
	s.KeepHistory(History{Of: keeping(1, 1000), Bytes: 1 << 10, Budget: NewBudget(1 << 20)}, 0)
	for i := range 100 {
		mustOpen(t, s, fmt.Sprint("first", i))
	}
	var opening sync.WaitGroup
	for g := range 8 {
		opening.Go(func() {
			for i := range 5000 {
				if _, err := s.Open(fmt.Sprint(g, "-", i)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	opening.Wait()
	request := "GET /sse/name?much=more"
	name := request[9:13]
	if c := mustOpen(t, s, name); unsafe.StringData(c.Name()) == unsafe.StringData(name) {
		t.Error("a channel's name keeps the request that brought it")
	}
}

// When one history finds no room, others give up one each until there is some; not
// all of them.
func TestRefusedHistoryCostsFewOthers(t *testing.T) {
	budget := NewBudget(64 << 10)
	s := NewSpace(4<<10, 1000, NewBudget(1<<20))
	s.KeepHistory(History{Of: keeping(100, 1<<40), Bytes: 1 << 20, Budget: budget}, 0)
	var all []*Channel
	for i := range 60 { // 1 KiB and a few entries each
		c := mustOpen(t, s, fmt.Sprint(i))
		mustPublish(t, c, Publication{Payload: make([]byte, 700)})
		all = append(all, c)
	}
	kept := func() (n int) {
		for _, c := range all {
			n += c.history.len()
		}
		return n
	}
	before := kept()
	if before >= 60 || before < 40 {
		t.Fatalf("%d of 60 are kept: the test shows nothing", before)
	}
	s.Trim(0)
	if after := kept(); after < before-8 || after == before || budget.free() < 8<<10 {
		t.Errorf("of %d histories %d are left, with %d bytes free", before, after, budget.free())
	}
}
