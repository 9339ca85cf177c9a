package channel

import (
	"errors"
	"fmt"
	"testing"
)

// The model of a remote channel is its engine: it has the whole order of each epoch, and for every
// publication the one before it. Its answers come when the script says so, and are as old as they
// may be. What a subscriber is sent, from the history first and then live, must be what comes next in
// that order, or a gap or a reset must stand in its place.
//
// Offsets are those of a stream that other channels share. Of a channel in which nothing was published the
// engine knows only that its next offset will be above all that there are: that is its head, which grows
// while nothing is published.

// engineModel is an Attacher with one channel.
type engineModel struct {
	*testing.T
	space *Space
	name  string // of the channel

	// The order.
	at     Position            // of the newest publication, offset 0 for none in this epoch
	last   uint64              // offset of any channel
	first  uint64              // of the epoch's first publication
	quiet  int                 // publications that will be others'
	floor  uint64              // it keeps what is above
	kept   []Publication       // of the epoch, those above floor
	before map[Position]uint64 // the offset before each, of all epochs
	stream []Publication       // on its way to the node

	// What the node has asked for.
	channel *Channel // attached or attaching, nil for none
	asked   Position // the order when Attach was called
	waits   bool     // Attach is not answered
	filling bool     // Fill is not answered
	fill    []Publication
	filled  Position // the floor of fill
	upTo    Position // the head then
	ended   int      // channels that were detached
	missing bool     // the node has missed something: there may be gaps

	subs [4]*subscriberModel
	told int // gaps and resets
	got  int // publications
	old  int // of them, from the history
	far  int // subscribers that began above the channel's newest
}

// subscriberModel prepares a channel, joins and reads it. It knows the position that it has.
type subscriberModel struct {
	*engineModel
	f        Format
	ask      Ask
	prepared bool
	failed   error
	reader   *follower // nil before it has joined
	has      Position
	lost     bool // a fence has told it that what comes next may be anything newer
}

func (m *engineModel) Attach(c *Channel) {
	if m.channel != nil {
		m.Fatal("a channel is attached while another is there")
	}
	m.channel, m.waits, m.filling, m.asked = c, true, false, m.head()
}

func (m *engineModel) Detach(c *Channel) {
	if c != m.channel || !c.dead {
		m.Fatalf("a channel is detached that is not there, or lives")
	}
	m.channel, m.waits, m.filling = nil, false, false
	m.ended++
}

func (m *engineModel) Fill(c *Channel) {
	if c != m.channel || m.waits || m.filling {
		m.Fatalf("fill of a channel that is not there, or is attaching or filling already: %v, %v", m.waits, m.filling)
	}
	m.filling = true
	m.look()
}

// look takes what the engine keeps now as the answer of a fill.
func (m *engineModel) look() {
	m.fill, m.filled, m.upTo = append([]Publication(nil), m.kept...), Position{m.at.Epoch, m.floor}, m.head()
}

// head is what the engine knows of the newest position.
func (m *engineModel) head() Position {
	if m.at.Offset == 0 {
		return Position{m.at.Epoch, m.last}
	}
	return m.at
}

// nothing reports whether nothing was published between two positions.
func (m *engineModel) nothing(a, b Position) bool {
	if a.Epoch != b.Epoch {
		return false
	}
	for at := range m.before {
		if at.Epoch == a.Epoch && at.Offset > min(a.Offset, b.Offset) && at.Offset <= max(a.Offset, b.Offset) {
			return false
		}
	}
	return true
}

func (s *subscriberModel) Prepared(err error) {
	if s.prepared || s.failed != nil {
		s.Fatal("a subscriber was called twice")
	}
	s.prepared, s.failed = err == nil, err
}

func newEngineModel(t *testing.T) *engineModel {
	m := &engineModel{T: t, space: NewSpace(1<<20, 100, NewBudget(1<<30)), at: Position{Epoch: 1}, before: map[Position]uint64{}}
	m.space.KeepHistory(History{Of: func(string) Keep { return Keep{Count: 1 << 20, TTL: 1 << 40} }, Bytes: 1 << 30, Budget: NewBudget(1 << 30)}, 0)
	m.space.Remote(m, nil)
	m.name = nameIn(m.space, 1) // to which Trim comes first
	return m
}

// publish lets the engine store a publication.
func (m *engineModel) publish(hole uint64) {
	if m.last += 1 + hole; m.quiet > 0 {
		m.quiet--
		return
	}
	next := Position{m.at.Epoch, m.last}
	if m.at.Offset == 0 {
		m.first = next.Offset
	}
	p := Publication{Payload: fmt.Append(nil, next), Epoch: next.Epoch, Offset: next.Offset, Prev: m.at.Offset}
	m.before[next] = m.at.Offset
	m.at = next
	m.kept = append(m.kept, p)
	if m.channel != nil {
		m.stream = append(m.stream, p)
	}
	for len(m.kept) > 20 {
		m.floor, m.kept = m.kept[0].Offset, m.kept[1:]
	}
}

// deliver appends the next publication that is on its way, and others that the node has already.
func (m *engineModel) deliver(again bool) {
	if len(m.stream) == 0 {
		return
	}
	p := m.stream[0]
	if !again {
		m.stream = m.stream[1:]
	}
	if m.channel != nil {
		m.channel.Append(&p, new(Scratch))
	}
}

// step does what a byte says, with another one as its number.
func (m *engineModel) step(op, n byte) {
	s := m.subs[n%4]
	switch op % 16 {
	case 0, 1, 2:
		m.publish(uint64(n / 64))
	case 3, 4, 5:
		m.deliver(n%8 == 0)
	case 6:
		if n < 32 && len(m.stream) > 0 {
			m.stream, m.missing = m.stream[1:], true
		}
	case 7:
		if n < 16 {
			m.at, m.floor, m.kept, m.missing = Position{Epoch: m.at.Epoch + 1, Offset: uint64(n % 3)}, uint64(n%3), nil, true
			m.last, m.first, m.quiet = m.at.Offset, m.at.Offset+1, int(n%5)
		}
	case 8, 9:
		m.prepare(int(n%4), n)
	case 10:
		m.answer(n)
	case 11:
		if n < 32 && m.channel != nil {
			m.channel.Failed(errors.New("away"))
			m.waits, m.filling = m.waits && m.channel != nil, false
		}
	case 12, 13:
		if s != nil {
			s.goOn()
		}
	case 14:
		if s != nil && n < 128 {
			s.end()
		}
	case 15:
		m.notice(n)
	}
	m.check()
}

func (m *engineModel) prepare(i int, n byte) {
	if m.subs[i] != nil {
		return
	}
	s := &subscriberModel{engineModel: m, f: telling{}}
	if n&4 != 0 {
		s.f = mute{}
	}
	switch n / 64 {
	case 0:
		s.ask = Ask{Kind: AskNow}
	case 1:
		s.ask = Ask{Kind: AskNewest, N: int(n % 32)}
	default:
		s.ask = Ask{Kind: AskSince, At: Position{m.at.Epoch, max(m.at.Offset, uint64(n%32)) - uint64(n%32)}}
		for at := &s.ask.At; at.Offset > 0; at.Offset-- {
			if _, exists := m.before[*at]; exists {
				break
			}
		}
		switch {
		case n%32 == 31:
			s.ask.At = Position{m.at.Epoch - 1, 1 << 40} // there is none
		case m.at.Offset == 0: // what was the head on some node
			s.ask.At.Offset = m.last * uint64(n%32) / 30
		case n%32 == 30:
			s.ask.At.Offset = m.first - 1 // likewise
		}
	}
	m.subs[i] = s
	ready, err := m.space.Prepare(s.name, &s.ask, s)
	if err != nil || ready && s.prepared {
		m.Fatalf("ready %v, called %v: %v", ready, s.prepared, err)
	}
	s.prepared = s.prepared || ready
}

// answer answers what the node has asked for, with what was so when it asked or is so now.
func (m *engineModel) answer(n byte) {
	switch {
	case m.channel == nil:
	case m.waits:
		m.waits = false
		if n%2 == 0 {
			m.asked = m.head()
		}
		m.channel.Attached(m.asked)
	case m.filling:
		for len(m.stream) > 0 && m.stream[0].Epoch == m.filled.Epoch && m.stream[0].Offset <= m.upTo.Offset {
			m.deliver(false)
		}
		m.filling = false
		m.channel.Filled(m.fill, m.filled, m.upTo)
	}
}

// notice lets the engine notice that it may have missed something.
func (m *engineModel) notice(n byte) {
	if m.channel == nil || m.waits {
		return
	}
	switch {
	case n < 8:
		m.missing = true
		m.channel.Append(&Publication{Kind: KindGap, Epoch: m.channel.Epoch(), Prev: m.channel.Newest().Offset}, new(Scratch))
	case n < 16:
		has := m.channel.Newest()
		m.missing = m.missing || has.Epoch != m.at.Epoch || has.Offset < m.at.Offset
		m.channel.Attached(m.at)
	case n < 24:
		m.channel.ForgetHistory()
		m.floor, m.kept, m.missing = m.head().Offset, nil, true
	default:
		m.space.Trim(0)
	}
}

// goOn lets a subscriber join or read.
func (s *subscriberModel) goOn() {
	switch {
	case s.failed != nil:
		s.drop()
	case s.reader != nil:
		s.read()
	case s.prepared:
		s.join()
	}
}

// join does what a loop does under one hold of the channel's lock.
func (s *subscriberModel) join() {
	m := new(member)
	if err := s.space.Join(s.name, s.f, m, &m.Reader); err != nil {
		s.Fatalf("it was prepared, and cannot join: %v", err)
	}
	known, live := m.Collect(s.ask, Bounds{Count: -1}, 0)
	s.reader = &follower{member: m, cursor: live}
	s.space.Release(s.name, s)
	if known.Gap && !s.missing && s.ask.At.Epoch == s.at.Epoch && s.ask.At.Offset >= s.floor {
		s.Errorf("a gap since %v, although the engine has all above %d", s.ask.At, s.floor)
	}
	if s.has = known.From; !known.Gap && s.ask.Kind == AskSince && s.has != s.ask.At {
		s.Errorf("it goes on from %v, and has asked for %v", s.has, s.ask.At)
	}
	if n := len(known.Publications); s.ask.Kind == AskNewest && n < s.ask.N && n < len(s.kept)-len(s.stream) && !s.missing {
		s.Errorf("the newest %d are %d, and the engine has %d, of which %d are not here", s.ask.N, n, len(s.kept), len(s.stream))
	}
	for i := range known.Publications {
		p, before := &known.Publications[i], s.has.Offset
		s.take(string(p.Payload))
		s.old++
		if p.Prev < s.before[s.has] || p.Prev > before {
			s.Errorf("%v is behind %d, want %d, or what it had, which is %d", s.has, p.Prev, s.before[s.has], before)
		}
	}
	if !s.nothing(s.has, known.Newest) {
		s.Errorf("after its history it has %v, and the newest is %v", s.has, known.Newest)
	}
	if s.has.Offset > known.Newest.Offset {
		s.far++
	}
}

// read reads what there is.
func (s *subscriberModel) read() {
	s.reader.read(100)
	for _, text := range s.reader.seen {
		s.take(text)
	}
	s.reader.seen = nil
}

// take takes what it is sent.
func (s *subscriberModel) take(text string) {
	var p Position
	var kind string
	switch {
	case text == "[gap]" || text == "[reset]":
		s.told++
		if s.lost = true; !s.missing {
			s.Error("a gap, and nothing is missing")
		}
		return
	case text[0] == '{':
		fmt.Sscanf(text, "{%s %d}", &kind, &p.Offset) // ignored: then it is no position that there is
		p.Epoch, _ = ParseEpoch(kind)                 // ignored: likewise
	default:
		fmt.Sscanf(text, "%s %d:%d", &kind, (*uint64)(&p.Epoch), &p.Offset) // ignored: likewise
		s.told++
		switch {
		case !s.missing:
			s.Errorf("%q, and nothing is missing", text)
		case kind == "gap" && (p.Epoch != s.has.Epoch || p.Offset < s.has.Offset && !s.nothing(p, s.has)), kind == "reset" && p.Epoch == s.has.Epoch:
			s.Errorf("%q behind %v", text, s.has)
		}
		s.has = p
		return
	}
	before, exists := s.before[p]
	switch s.got++; {
	case !exists:
		s.Errorf("it is sent %q, which was never published", text)
	case s.lost: // what comes may be of an epoch before, if it was on its way
	case p.Epoch != s.has.Epoch || before > s.has.Offset || p.Offset <= s.has.Offset:
		s.Errorf("it has %v, and is sent %v, which is behind %d", s.has, p, before)
	}
	s.has, s.lost = p, false
}

// end takes a subscriber out, wherever it is.
func (s *subscriberModel) end() {
	if s.reader != nil {
		s.read()
		s.space.Leave(&s.reader.Reader)
	} else {
		s.space.Release(s.name, s)
	}
	s.drop()
}

func (s *subscriberModel) drop() {
	for i := range s.subs {
		if s.subs[i] == s {
			s.subs[i] = nil
		}
	}
}

// check checks what holds between any two steps.
func (m *engineModel) check() {
	c := m.space.Find(m.name)
	if c != m.channel || m.space.Channels() > 1 {
		m.Fatal("the channel that is there is not the one that is attached")
	}
	if c == nil {
		m.stream = nil
		return
	}
	h, at := &c.history, c.Newest()
	for i := h.first; i < h.end; i++ {
		var s Scratch
		if p := c.keptLocked(i, &s); string(p.Payload) != fmt.Sprint(Position{c.epoch, p.Offset}) || p.Prev < m.before[Position{c.epoch, p.Offset}] || p.Prev >= p.Offset || i > h.first && p.Prev != h.at(i-1).offset {
			m.Fatalf("the history has %q at %d behind %d", p.Payload, p.Offset, p.Prev)
		}
	}
	if !m.waits && h.len() > 0 && h.at(h.end-1).offset != at.Offset || h.len() == 0 && !m.nothing(Position{c.epoch, h.floor}, at) {
		m.Fatalf("the history ends below %v", at)
	}
}

// settle lets everything come, and ends all subscribers.
func (m *engineModel) settle() {
	for i := range m.subs {
		m.prepare(i, byte(64*i+i))
	}
	for m.waits || m.filling {
		m.answer(0)
	}
	m.quiet = 0
	m.publish(0)
	for len(m.stream) > 0 {
		m.deliver(false)
	}
	for _, s := range m.subs {
		s.goOn()
		if s.failed == nil {
			s.goOn()
			if s.lost || s.has != m.channel.Newest() || s.has != m.at {
				m.Errorf("in the end it has %v, the channel %v and the engine %v", s.has, m.channel.Newest(), m.at)
			}
			s.end()
		}
		m.check()
	}
	if m.channel != nil || m.space.budget.Used() != 0 || m.space.history.Budget.Used() != 0 {
		m.Errorf("in the end the channel is there, or %d and %d bytes", m.space.budget.Used(), m.space.history.Budget.Used())
	}
}

func runEngineModel(t *testing.T, script []byte) *engineModel {
	m := newEngineModel(t)
	if len(script) > 0 {
		m.quiet = int(script[0] % 64)
	}
	for len(script) >= 2 && !t.Failed() {
		m.step(script[0], script[1])
		script = script[2:]
	}
	if !t.Failed() {
		m.settle()
	}
	return m
}

func TestRemoteChannelAgainstModel(t *testing.T) {
	var got, old, told, far, ended int
	for seed := range uint64(300) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			script := randomScript(seed)
			if seed%2 == 0 { // nothing is missing
				for i := 0; i+1 < len(script); i += 2 {
					if op := script[i] % 16; op == 6 || op == 7 || op == 15 {
						script[i+1] |= 32
					}
				}
			}
			m := runEngineModel(t, script)
			got, old, told, far, ended = got+m.got, old+m.old, told+m.told, far+m.far, ended+m.ended
		})
	}
	if min(got, old, told, 2*ended) < 500 || far < 50 {
		t.Errorf("%d publications were read, %d of them from histories, %d gaps were told, %d channels ended, %d subscribers began above the newest: the scripts hardly try one of them", got, old, told, ended, far)
	}
}

func FuzzRemoteChannelAgainstModel(f *testing.F) {
	for seed := range uint64(20) {
		f.Add(randomScript(seed))
	}
	f.Fuzz(func(t *testing.T, script []byte) { runEngineModel(t, script) })
}
