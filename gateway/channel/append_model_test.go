package channel

import (
	"bytes"
	"fmt"
	"testing"
)

// givenModel keeps everything that was ever appended to a log with given positions, as one slice, and finds
// every answer by looking at all of it. It knows what must happen to each publication, where the log is cut,
// what the rings take of the budget, and what each subscriber can read and knows of its position.
type givenModel struct {
	*testing.T
	space   *Space
	channel *Channel
	log     *Log
	limit   int
	bytes   int // of the budget
	shard   int // in which the channel lies, one of the first

	data    []byte
	entries []entry
	readers []*givenReader
	newest  uint64 // offset of the channel
	told    uint64 // offset up to which one that reads everything knows what was published
	missed  int    // publications that are in no gap yet, and the first of them, which is

	tail         uint64 // what is below is freed, or was cut off
	most         int    // what the largest frame costs since a large one was in the log, at least the limit
	largeEnd     uint64 // cursor behind the newest large one
	rings, older givenRings
	cut          uint64 // where the log was cut, 0 if nobody is below
	cutEnd       uint64 // its head at that time
	lost         uint64 // what is below was cut off twice, and is gone
	idle         bool
	starved      bool // the budget has refused something since the last call of Trim

	scratch Scratch
	// What was seen: publications that were appended and left out, cuts, and subscribers below a cut whose position
	// is known from the log or from what their reader has seen, or is not.
	appended, left, cuts, known, late, unknown int
}

// givenRings are the lengths of a window's rings.
type givenRings struct{ bytes, entries int }

func (r givenRings) size() int { return r.bytes + entryBytes*r.entries }

// givenReader is a reader with subscribers of its own.
type givenReader struct {
	member
	low  uint64 // what it has published
	subs []uint64
}

func (m *givenModel) head() uint64 { return uint64(len(m.data)) }

// above returns the index of the first entry that ends above cursor.
func (m *givenModel) above(cursor uint64) int {
	i := len(m.entries)
	for i > 0 && m.entries[i-1].end > cursor {
		i--
	}
	return i
}

// cost is what the frames above cursor cost.
func (m *givenModel) cost(cursor uint64) int {
	return int(m.head()-cursor) + entryBytes*(len(m.entries)-m.above(cursor))
}

// offsetAt is the offset that a subscriber at cursor has.
func (m *givenModel) offsetAt(cursor uint64) uint64 {
	if i := m.above(cursor); i > 0 {
		return m.entries[i-1].offset
	}
	return 0
}

// append appends n bytes behind a hole, and behind publications that are missing.
func (m *givenModel) append(n int, hole, missing, from uint64) {
	prev := m.newest + missing
	p := given(m.channel.Epoch(), prev+hole, prev, n)
	p.From = from
	for i := range p.Payload {
		p.Payload[i] = byte(len(m.entries)*31 + i)
	}
	m.channel.Append(p, &m.scratch)
	if missing > 0 {
		m.gap(prev)
		m.missed = min(m.missed, 1)
	}
	m.newest = p.Offset
	frame := positioned{}.Append(nil, p)
	room := m.room(len(frame))
	if room && m.missed > 1 {
		m.gap(prev)
		m.missed, room = 0, m.room(len(frame))
	}
	if room {
		if m.told != prev {
			m.Errorf("%d is behind %d, and what was told goes up to %d", p.Offset, prev, m.told)
		}
		m.put(frame, entry{offset: p.Offset, from: from})
		m.missed = 0
		m.appended++
		return
	}
	if m.missed++; m.missed == 1 {
		m.gap(p.Offset)
	}
	m.left++
}

// gap puts the entry of a gap up to an offset, or a fence, which goes in whatever the budget is.
func (m *givenModel) gap(offset uint64) {
	if offset <= m.told {
		m.Errorf("a gap up to %d is reported again: gaps up to %d were", offset, m.told)
	}
	text := positioned{tells: true}.Append(nil, &Publication{Kind: KindGap, Prev: offset})
	if m.room(len(text)) {
		m.put(text, entry{offset: offset})
		return
	}
	if !m.room(1) {
		m.grow(1, true)
	}
	m.put([]byte{0}, entry{offset: offset, from: fromFence + uint64(KindGap)})
}

func (m *givenModel) put(frame []byte, e entry) {
	m.data = append(m.data, frame...)
	e.end = m.head()
	m.entries = append(m.entries, e)
	m.told, m.idle = e.offset, false
}

// room makes room for n bytes.
func (m *givenModel) room(n int) bool {
	cost := n + entryBytes
	if cost > largeFrames*m.limit {
		return false
	}
	if m.cost(m.tail)+cost <= m.limit && m.holds(n) {
		return true
	}
	m.free()
	if m.tail >= m.largeEnd {
		m.most = m.limit
	}
	if cost > m.limit {
		m.most, m.largeEnd = max(m.most, cost), m.head()+uint64(n)
	}
	if m.cost(m.tail)+cost > 2*m.most {
		return m.cutOff(n)
	}
	return m.holds(n) || m.grow(n, false)
}

// holds reports whether the rings have room for n bytes.
func (m *givenModel) holds(n int) bool {
	return m.rings.bytes > 0 && int(m.head()-m.tail)+n <= m.rings.bytes && len(m.entries)-m.above(m.tail) < m.rings.entries
}

// free frees what all readers have, but not before they all have what was cut off. It returns up to where they
// have everything.
func (m *givenModel) free() (low uint64) {
	low = m.head()
	for _, r := range m.readers {
		low = min(low, r.low)
	}
	if low >= m.cut {
		m.older, m.cut, m.lost, m.tail = givenRings{}, 0, 0, low
	}
	return low
}

// grow makes the rings large enough, if the budget allows it or they must.
func (m *givenModel) grow(n int, must bool) bool {
	return m.take(givenRings{
		grown(m.rings.bytes, ringBytesMin, int(m.head()-m.tail)+n),
		grown(m.rings.entries, ringEntriesMin, len(m.entries)-m.above(m.tail)+1),
	}, m.older, must)
}

// cutOff cuts the log off as far up as it has to be.
func (m *givenModel) cutOff(n int) bool {
	from := m.tail
	for _, e := range m.entries {
		if e.end > from && m.cost(from) > m.most {
			from = e.end
		}
	}
	rings := givenRings{grown(0, ringBytesMin, int(m.head()-from)+n), grown(0, ringEntriesMin, len(m.entries)-m.above(from)+1)}
	if !m.take(rings, m.rings, false) {
		return false
	}
	m.cut, m.cutEnd, m.lost, m.tail = from, m.head(), m.tail, from
	m.cuts++
	return true
}

// take takes rings, if the budget allows it or they must be.
func (m *givenModel) take(rings, older givenRings, must bool) bool {
	more := rings.size() + older.size() - m.rings.size() - m.older.size()
	if !must && more > 0 && m.used()+more > m.bytes {
		m.starved = true
		return false
	}
	m.rings, m.older = rings, older
	return true
}

// used is what the log takes of the budget, with what its readers have seen of it before it was cut.
func (m *givenModel) used() int {
	n := m.rings.size() + m.older.size()
	for _, r := range m.readers {
		for _, v := range r.past {
			n += v.w.size()
		}
	}
	return n
}

// trim goes round all shards once.
func (m *givenModel) trim() {
	for call := range trimPart {
		m.space.Trim(0)
		starved := m.starved
		m.starved = false
		if (call+1)%trimPart == m.shard {
			if m.missed > 1 {
				m.gap(m.newest)
				m.missed = 1
			}
			if m.idle && m.rings.bytes > 0 {
				m.drop()
			}
			m.idle = true
		}
		if starved {
			m.drop()
		}
	}
}

// drop frees the rings if all readers have everything.
func (m *givenModel) drop() {
	if m.free() == m.head() {
		m.rings = givenRings{}
	}
}

// check compares what every subscriber can read, and what is held.
func (m *givenModel) check() {
	if head, count := m.log.Head(), m.log.count.Load(); head != m.head() || count != uint64(len(m.entries)) {
		m.Fatalf("%d bytes in %d entries were appended, want %d in %d", head, count, m.head(), len(m.entries))
	}
	if got := m.space.budget.Used(); got != m.used() {
		m.Errorf("%d bytes are taken, want %d", got, m.used())
	}
	for i, r := range m.readers {
		if got := r.CutAt(); got != m.cut {
			m.Errorf("cut at %d, want %d", got, m.cut)
		}
		for _, cursor := range append([]uint64{r.low, m.head()}, r.subs...) {
			m.checkAt(i, r, cursor)
		}
	}
	if m.Failed() {
		m.FailNow()
	}
}

func (m *givenModel) checkAt(i int, r *givenReader, cursor uint64) {
	v, ok := r.View(cursor)
	if want := cursor >= m.lost; ok != want {
		m.Errorf("reader %d can read at %d: %v, want %v; cut at %d", i, cursor, ok, want, m.cut)
		return
	}
	if at, _ := r.Kept(cursor); (ok || at != (Position{})) && at.Offset != m.offsetAt(cursor) {
		m.Errorf("reader %d at %d is at offset %d, want %d", i, cursor, at.Offset, m.offsetAt(cursor))
	}
	head := m.head()
	if cursor < m.cut {
		head = m.cutEnd
	}
	if !ok {
		if v, ok = r.Past(cursor); !ok || cursor == v.Head() {
			return
		}
		head = v.Head()
	}
	if v.Head() != head || head > m.head() {
		m.Errorf("reader %d reads from %d to %d, want to %d", i, cursor, v.Head(), head)
	}
	if a, b := v.Bytes(cursor, head); !bytes.Equal(append(append([]byte(nil), a...), b...), m.data[cursor:head]) {
		m.Errorf("reader %d reads at %d what was not appended", i, cursor)
	}
	entries := uint64(0) // and no fences
	for j := m.above(cursor); j < m.above(head); j++ {
		want := m.entries[j]
		if end, from := v.Entry(uint64(j)); end != want.end || from != want.from || v.Offset(uint64(j)) != want.offset || v.Find(end-1) != uint64(j) {
			m.Errorf("reader %d: entry %d ends at %d and is from %d, want %+v", i, j, end, from, want)
		}
		if want.fence() == KindMessage {
			entries++
		}
	}
	if got := r.Between(cursor, head, 0); got != entries {
		m.Errorf("reader %d has %d entries between %d and %d, want %d", i, got, cursor, head, entries)
	}
}

// read lets a subscriber read about n bytes.
func (m *givenModel) read(r *givenReader, sub, n int) {
	if sub >= len(r.subs) || r.subs[sub] == m.head() {
		return
	}
	cursor := r.subs[sub]
	v, ok := r.View(cursor)
	if !ok {
		return
	}
	if n%2 == 0 {
		r.subs[sub] = v.Fit(cursor, v.Head(), n)
	} else {
		r.subs[sub] = v.Floor(cursor, min(cursor+uint64(n), v.Head()))
	}
}

// served publishes what all of the reader's subscribers have.
func (m *givenModel) served(r *givenReader) {
	r.low = m.head()
	for _, cursor := range r.subs {
		r.low = min(r.low, cursor)
	}
	r.Served(r.low)
}

// overtake takes out the subscribers that are below the cut.
func (m *givenModel) overtake(r *givenReader) {
	stay := r.subs[:0]
	for _, cursor := range r.subs {
		if cursor >= r.CutAt() {
			stay = append(stay, cursor)
			continue
		}
		if _, ok := r.View(cursor); ok {
			m.known++
		} else if at, _ := r.Kept(cursor); at != (Position{}) {
			m.late++
		} else {
			m.unknown++
		}
	}
	r.subs = stay
	m.served(r)
}

func runGivenModel(t *testing.T, p []byte) *givenModel {
	s := script(p)
	m := &givenModel{T: t, limit: ringBytesMin << s.next(3), bytes: 1 << 30}
	if s.next(3) == 0 { // a few rings of one log
		m.bytes = m.limit + s.next(256)*m.limit/32
	}
	m.most, m.shard, m.space = m.limit, s.next(trimPart), NewSpace(m.limit, 4, NewBudget(m.bytes))
	if len(p)%2 == 0 {
		mix(m.space)
	}
	name := nameIn(m.space, m.shard)
	for range 3 {
		r := &givenReader{subs: []uint64{0, 0}}
		if err := m.space.Join(name, positioned{tells: true}, r, &r.Reader); err != nil {
			t.Fatal(err)
		}
		m.readers = append(m.readers, r)
	}
	m.log = m.readers[0].Log()
	m.channel = m.log.Channel()
	for i := 0; len(s) > 0 && i < scriptMax; i++ {
		m.step(&s)
		m.check()
	}
	for _, r := range m.readers {
		m.space.Leave(&r.Reader)
	}
	if got := m.space.budget.Used(); got != 0 {
		t.Errorf("%d bytes are held after the last reader has left", got)
	}
	return m
}

// step is one operation of the script.
func (m *givenModel) step(s *script) {
	op := s.next(16)
	if op < 7 {
		n := s.next(60)
		if op == 6 && s.next(4) == 0 { // a large one
			n = m.limit/2 + s.next(256)*m.limit/64
		}
		missing := uint64(0)
		if s.next(16) == 0 {
			missing = uint64(1 + s.next(5))
		}
		m.append(n, uint64(1+s.next(7)), missing, uint64(s.next(3)))
		return
	}
	r := m.readers[s.next(len(m.readers))]
	switch op {
	case 7, 8, 9, 10:
		m.read(r, s.next(4), s.next(256))
	case 11, 12:
		m.served(r)
	case 13:
		r.Clear()
		m.overtake(r)
	case 14: // a subscriber comes, or the first goes
		if len(r.subs) == 0 || s.next(2) == 0 {
			r.subs = append(r.subs, m.head())
		} else {
			r.subs = r.subs[1:]
		}
	case 15:
		m.trim()
	}
}

func TestAppendAgainstModel(t *testing.T) {
	var sum givenModel
	for seed := range uint64(300) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			m := runGivenModel(t, randomScript(2000+seed))
			sum.appended += m.appended
			sum.left += m.left
			sum.cuts += m.cuts
			sum.known += m.known
			sum.late += m.late
			sum.unknown += m.unknown
		})
	}
	if min(sum.appended, sum.left, sum.cuts, sum.known, sum.late) < 100 {
		t.Errorf("%d publications appended, %d left out, %d cuts, %d and %d subscribers below with a position in the log and in the past: the scripts hardly try one of them",
			sum.appended, sum.left, sum.cuts, sum.known, sum.late)
	}
}

func FuzzAppendAgainstModel(f *testing.F) {
	for seed := range uint64(20) {
		f.Add(randomScript(seed))
	}
	f.Fuzz(func(t *testing.T, p []byte) { runGivenModel(t, p) })
}
