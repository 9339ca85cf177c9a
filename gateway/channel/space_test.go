package channel

import (
	"errors"
	"fmt"
	"testing"
)

func TestChannelsAreBounded(t *testing.T) {
	const most = 200 // of all shards together
	s := NewSpace(ringBytesMin, most, NewBudget(1<<20))
	var all []*member
	for i := range most {
		all = append(all, join(t, s, fmt.Sprint("c", i), padded(0)))
	}
	refused := new(member)
	if err := s.Join("one more", padded(0), refused, &refused.Reader); !errors.Is(err, ErrTooManyChannels) {
		t.Errorf("channel %d: %v, want ErrTooManyChannels", most+1, err)
	}
	if got := s.Channels(); got != most {
		t.Errorf("%d channels after a refusal, want %d", got, most)
	}
	all = append(all, join(t, s, "c0", padded(1)), join(t, s, "c0", padded(0))) // no new channel
	s.Leave(&all[1].Reader)
	all[1] = join(t, s, "one more", padded(0))
	for _, m := range all {
		s.Leave(&m.Reader)
	}
	for i := range most {
		if c := s.Find(fmt.Sprint("c", i)); c != nil {
			t.Errorf("%s is there after its last reader has left", c.Name())
		}
	}
	if got := s.Channels(); got != 0 {
		t.Errorf("%d channels are left", got)
	}
}

func TestLaterChannelOfTheNameHasAnotherEpoch(t *testing.T) {
	s := NewSpace(ringBytesMin, 1, NewBudget(1<<20))
	seen := make(map[Epoch]bool)
	for range 100 {
		m := join(t, s, "c", padded(0))
		c := s.Find("c")
		if seen[c.Epoch()] || c.Epoch() == 0 {
			t.Fatalf("epoch %v again", c.Epoch())
		}
		seen[c.Epoch()] = true
		if r, err := c.Publish(&Publication{}, new(Scratch), nil); r.Offset != 1 || err != nil {
			t.Errorf("the first publication has the offset %d, %v", r.Offset, err)
		}
		s.Leave(&m.Reader)
	}
}

func TestLogsLimitIsRoundedUpToAPowerOfTwo(t *testing.T) {
	for bytes, want := range map[int]int{1: ringBytesMin, ringBytesMin: ringBytesMin, ringBytesMin + 1: 2 * ringBytesMin, 150 << 10: 256 << 10} {
		if got := NewSpace(bytes, 1, NewBudget(0)).limit; got != want {
			t.Errorf("a log of %d bytes has the limit %d, want %d", bytes, got, want)
		}
	}
}

func TestQuietChannelStartsSmallAndGrowsWithUse(t *testing.T) {
	const limit = 64 << 10
	budget := NewBudget(1 << 20)
	s := NewSpace(limit, 1, budget)
	m := join(t, s, "c", padded(0))
	if got := budget.Used(); got != 0 {
		t.Errorf("a channel without a publication takes %d bytes", got)
	}
	c := s.Find("c")
	for range 100 { // served at once, it does not grow
		if err := publishSize(c, 60, nil); err != nil {
			t.Fatal(err)
		}
		m.serve()
	}
	if got, want := budget.Used(), ringBytesMin+entryBytes*ringEntriesMin; got != want {
		t.Errorf("a channel whose readers keep up takes %d bytes, want %d", got, want)
	}
	n := 0
	for ; publishSize(c, 60, nil) == nil; n++ {
	}
	if want := limit / (padded(0).size(60) + entryBytes); n != want {
		t.Errorf("%d publications are kept for a reader that does not read, want %d", n, want)
	}
	s.Leave(&m.Reader)
	if got := budget.Used(); got != 0 {
		t.Errorf("%d bytes are held after the last reader has left", got)
	}
}

func TestTrimGivesAQuietLogsMemoryBack(t *testing.T) {
	budget := NewBudget(1 << 20)
	s := NewSpace(4<<10, 200, budget)
	var all []*member
	for i := range 200 { // in every shard
		m := join(t, s, fmt.Sprint("c", i), padded(0))
		if err := publishSize(s.Find(fmt.Sprint("c", i)), 1000, nil); err != nil {
			t.Fatal(err)
		}
		m.serve()
		all = append(all, m)
	}
	used := budget.Used()
	round := func() {
		for range trimPart {
			s.Trim(0)
		}
	}
	round()
	if got := budget.Used(); got != used {
		t.Errorf("%d of %d bytes are held after one round: a log that was in use since is trimmed", got, used)
	}
	round()
	if got := budget.Used(); got != 0 {
		t.Errorf("%d bytes are held after two quiet rounds", got)
	}
	for i, m := range all {
		c := s.Find(fmt.Sprint("c", i))
		head := m.Log().Head()
		if err := publishSize(c, 7, nil); err != nil {
			t.Fatalf("%s takes no publication after its trimming: %v", c.Name(), err)
		}
		a, b := m.view(head).Bytes(head, m.Log().Head())
		if got := len(a) + len(b); got != padded(0).size(7) || a[lengthBytes-1] != byte(got) {
			t.Errorf("%s has %x %x after its trimming", c.Name(), a, b)
		}
		s.Leave(&m.Reader)
	}
}

// A reader whose subscribers were blocked when it looked last has no reason to
// look again when they catch up, unless it is asked.
func TestTrimAsksReadersThatHoldAQuietLog(t *testing.T) {
	budget := NewBudget(1 << 20)
	s := NewSpace(4<<10, 1, budget)
	m, other := join(t, s, "c", padded(0)), join(t, s, "c", padded(0))
	if err := publishSize(s.Find("c"), 1000, nil); err != nil {
		t.Fatal(err)
	}
	m.Clear()
	other.serve()
	for range 2 * trimPart {
		s.Trim(0)
	}
	if m.told != 2 || other.told != 1 {
		t.Errorf("notified %d and %d times, want twice and once", m.told, other.told)
	}
	if budget.Used() == 0 {
		t.Fatal("what a reader has not served is trimmed")
	}
	m.serve()
	for range trimPart {
		s.Trim(0)
	}
	if got := budget.Used(); got != 0 {
		t.Errorf("%d bytes are held after the reader has served", got)
	}
	s.Leave(&m.Reader)
	s.Leave(&other.Reader)
}

func TestBudgetRefusesAndIsTriedAgain(t *testing.T) {
	first := ringBytesMin + entryBytes*ringEntriesMin // what a log starts with
	budget := NewBudget(first + ringBytesMin)         // not enough for two
	s := NewSpace(64<<10, 2, budget)
	holder, poor := join(t, s, "holder", padded(0)), join(t, s, "poor", padded(0))
	if err := publishSize(s.Find("holder"), 100, nil); err != nil {
		t.Fatal(err)
	}
	c := s.Find("poor")
	w := new(counting)
	if err := publishSize(c, 100, w); !errors.Is(err, ErrFull) {
		t.Fatalf("beyond the budget: %v, want ErrFull", err)
	}
	if poor.Clear() != 0 || poor.told != 0 {
		t.Error("a reader that holds nothing is pressed")
	}
	if err := publishSize(s.Find("holder"), 950, nil); !errors.Is(err, ErrFull) || budget.Used() != first {
		t.Errorf("growing beyond the budget: %v with %d bytes used", err, budget.Used())
	}
	for range trimPart {
		s.Trim(0)
	}
	if w.told != 1 {
		t.Fatalf("released %d times within a round of Trim, want once", w.told)
	}
	if err := publishSize(c, 100, w); !errors.Is(err, ErrFull) {
		t.Fatalf("with the budget used up as before: %v, want ErrFull", err)
	}
	s.Leave(&holder.Reader)
	for range trimPart {
		s.Trim(0)
	}
	if w.told != 2 {
		t.Fatalf("released %d times after the budget is free, want twice", w.told)
	}
	if err := publishSize(c, 100, w); err != nil {
		t.Errorf("with the budget free: %v", err)
	}
	s.Leave(&poor.Reader)
	if got := budget.Used(); got != 0 {
		t.Errorf("%d bytes are held after everybody has left", got)
	}
}

// The epoch that is reported for a channel that does not exist is that of the channel that comes
// next, however many end meanwhile in which nothing was published. One with publications has its
// own, and so has a channel that keeps nothing: what is published without it is not counted.
func TestNextPositionIsWhereTheChannelBegins(t *testing.T) {
	s := historySpace(History{Of: keeping(10, 1<<40), Bytes: 1 << 20})
	next := s.Next("x")
	if s.Channels() != 0 || next.Epoch == 0 || next.Offset != 0 || s.Next("x") != next || s.Next("y") == next {
		t.Errorf("%d channels; the next begins at %v, then %v, another at %v", s.Channels(), next, s.Next("x"), s.Next("y"))
	}
	c := mustOpen(t, s, "x")
	if c.Newest() != next {
		t.Errorf("it begins at %v, not %v", c.Newest(), next)
	}
	for s.evict() {
	}
	if again := s.Next("x"); again != next {
		t.Errorf("nothing was published, and the channel after it begins at %v, not %v", again, next)
	}
	mustPublish(t, mustOpen(t, s, "x"), Publication{})
	for s.evict() {
	}
	if again := s.Next("x"); again.Epoch == next.Epoch {
		t.Error("the channel after one with a publication has the same epoch")
	}
	s = NewSpace(ringBytesMin, 1, NewBudget(1<<20))
	next = s.Next("x")
	s.Leave(&join(t, s, "x", padded(0)).Reader)
	if again := s.Next("x"); again.Epoch == next.Epoch {
		t.Error("the channel after one that keeps nothing has the same epoch")
	}
}

// A publication for which there is no room is lost: a client that knew the position before it must
// be told of a gap.
func TestAPublicationWithoutAChannelEndsTheOrder(t *testing.T) {
	s := NewSpace(ringBytesMin, 1, NewBudget(1<<20))
	s.KeepHistory(History{Of: keeping(10, 1<<40), Bytes: 1 << 20, Budget: NewBudget(1 << 20)}, 0)
	before := s.Next("x")
	taken := join(t, s, "y", padded(0))
	if _, err := s.Open("x"); err != ErrTooManyChannels {
		t.Fatal(err)
	}
	s.Leave(&taken.Reader)
	if after := s.Next("x"); after.Epoch == before.Epoch {
		t.Error("the order that lacks it goes on")
	}
}

// What is kept of a channel goes only when there is no channel of which nothing is.
func TestChannelsThatKeepSomethingAreEvictedLast(t *testing.T) {
	s := NewSpace(4<<10, 100, NewBudget(1<<20))
	s.KeepHistory(History{Of: keeping(10, 1<<40), Bytes: 1 << 20, Budget: NewBudget(1 << 20)}, 0)
	kept := func(name string) *Channel {
		c := mustOpen(t, s, name)
		mustPublish(t, c, Publication{Payload: []byte("kept")})
		return c
	}
	for i := range 50 {
		c := kept(fmt.Sprint("kept", i))
		if i%2 == 0 { // somebody was there
			m := join(t, s, c.Name(), padded(0))
			s.Leave(&m.Reader)
		}
	}
	for i := range 1000 {
		if i%2 == 0 {
			mustOpen(t, s, fmt.Sprint("random", i))
			continue
		}
		m := join(t, s, fmt.Sprint("random", i), padded(0))
		s.Leave(&m.Reader)
	}
	for i := range 50 {
		if c := s.Find(fmt.Sprint("kept", i)); c == nil {
			t.Fatalf("kept%d has given way to a channel that nobody needs", i)
		}
	}
	for i := range 200 {
		kept(fmt.Sprint("newer", i))
	}
	if n := s.Channels(); n != 100 {
		t.Errorf("%d channels, want 100", n)
	}
}
