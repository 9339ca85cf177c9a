package channel

import (
	"errors"
	"slices"
	"testing"
)

// The model keeps everything that was ever appended to a log, as one slice, and
// finds every answer by looking at all of it. It says for each operation what
// the channel must do: which publication is refused and why, who is notified,
// pressed and released, and what the rings take of the budget.

// modelFormat is a padded format. While a publication is encoded, other things happen.
type modelFormat struct {
	*model
	padded
}

func (f modelFormat) Append(dst []byte, p *Publication) []byte {
	if f.encoding != nil {
		f.encoding()
	}
	return f.padded.Append(dst, p)
}

type modelLog struct {
	format  modelFormat
	data    []byte // cursor 0 is its first byte
	entries []entry
	readers []*modelReader

	ringBytes, ringEntries int
	starved, idle          bool
}

func (l *modelLog) head() uint64 { return uint64(len(l.data)) }

// low is the cursor below which all readers have everything.
func (l *modelLog) low() uint64 {
	low := l.head()
	for _, r := range l.readers {
		low = min(low, r.served)
	}
	return low
}

// above returns the entries that end above cursor.
func (l *modelLog) above(cursor uint64) (entries []entry) {
	for _, e := range l.entries {
		if e.end > cursor {
			entries = append(entries, e)
		}
	}
	return entries
}

// cost is what the frames above cursor count against the limit.
func (l *modelLog) cost(cursor uint64) int {
	return int(l.head()-cursor) + entryBytes*len(l.above(cursor))
}

func (l *modelLog) held() int { return l.ringBytes + entryBytes*l.ringEntries }

// find is the index of the first entry that ends above cursor.
func (l *modelLog) find(cursor uint64) uint64 {
	return uint64(len(l.entries) - len(l.above(cursor)))
}

// floor is the last entry's end from from on that is not above cursor.
func (l *modelLog) floor(from, cursor uint64) uint64 {
	floor := from
	for _, e := range l.above(from) {
		if e.end <= cursor {
			floor = e.end
		}
	}
	return floor
}

// fit is the last end within n bytes above cursor, or the first end at all.
func (l *modelLog) fit(cursor uint64, n int) uint64 {
	fit := l.above(cursor)[0].end
	for _, e := range l.above(cursor) {
		if e.end <= cursor+uint64(n) {
			fit = e.end
		}
	}
	return fit
}

// goal is the lowest end above which no more than half the limit is kept.
func (l *modelLog) goal(limit int) uint64 {
	goal := l.low()
	for _, e := range l.above(goal) {
		if l.cost(goal) <= limit/2 {
			break
		}
		goal = e.end
	}
	return goal
}

type modelReader struct {
	counting // what it is told really
	Reader
	log    *modelLog
	served uint64
	subs   []uint64 // cursors of its own subscribers
	posted bool
	press  uint64
	heard  uint64 // what it was pressed to and has not let go of
	want   int    // what it must have been told
}

func (r *modelReader) notify() {
	if !r.posted {
		r.posted = true
		r.want++
	}
}

type modelWaiter struct {
	counting
	want           int
	payload        int
	bytes          int
	called, strict bool
}

// model is a space with one channel beside its model.
type model struct {
	*testing.T
	space *Space
	name  string // of the channel
	shard int    // in which it lies
	limit int
	bytes int // of the budget

	logs     []*modelLog // in the order of their making
	slots    [6]*modelReader
	offset   uint64
	epoch    Epoch
	starved  bool // the budget has refused a log since the last round of Trim
	waiting  []*modelWaiter
	waiters  []*modelWaiter // all that ever waited
	broke    bool           // the first of them waits for the budget
	turn     bool           // a publication is being encoded
	encoding func()         // happens in its first format
	working  *modelWaiter   // whose it is, where it had waited
	previous *Channel       // the last one that died
	scratch  Scratch
	made     int // payloads

	accepted, refused, turned int
}

// newModel returns a model whose channel lies in a shard, one of the first.
func newModel(t *testing.T, limit, budget, shard int) *model {
	m := &model{T: t, space: NewSpace(limit, 4, NewBudget(budget)), limit: limit, bytes: budget, shard: shard}
	m.name = nameIn(m.space, shard)
	return m
}

func (m *model) join(slot int) {
	if m.slots[slot] != nil {
		return
	}
	f := modelFormat{m, padded(slot % 2 * 5)}
	r := new(modelReader)
	if err := m.space.Join(m.name, f, r, &r.Reader); err != nil {
		m.Fatal(err)
	}
	c := m.space.Find(m.name)
	if len(m.logs) == 0 {
		if c.Epoch() == m.epoch || c.Epoch() == 0 || c == m.previous {
			m.Fatalf("a new channel has the epoch %v after %v", c.Epoch(), m.epoch)
		}
		m.epoch, m.offset = c.Epoch(), 0
	}
	i := slices.IndexFunc(m.logs, func(l *modelLog) bool { return l.format == f })
	if i < 0 {
		i = len(m.logs)
		m.logs = append(m.logs, &modelLog{format: f})
	}
	r.log = m.logs[i]
	r.log.readers = append(r.log.readers, r)
	r.served = r.log.head()
	r.subs = []uint64{r.served}
	m.slots[slot] = r
}

func (m *model) leave(slot int) {
	r := m.slots[slot]
	if r == nil {
		return
	}
	m.previous = r.Log().Channel()
	m.space.Leave(&r.Reader)
	m.slots[slot] = nil
	l := r.log
	l.readers = slices.DeleteFunc(l.readers, func(x *modelReader) bool { return x == r })
	if len(l.readers) == 0 {
		m.logs = slices.DeleteFunc(m.logs, func(x *modelLog) bool { return x == l })
	}
	if len(m.logs) > 0 {
		m.callAgain()
		return
	}
	for _, w := range m.waiting { // they learn that the channel has ended
		if !w.called {
			w.want++
		}
	}
	m.waiting, m.broke = nil, false
	if got, err := m.previous.Publish(&Publication{Payload: []byte("late")}, new(Scratch), nil); got != (Receipt{}) || !errors.Is(err, ErrGone) {
		m.Errorf("a channel that is gone takes a publication: %+v, %v", got, err)
	}
}

// call calls the publishers that there is room for.
func (m *model) call() {
	if m.turn {
		return
	}
	m.broke = m.broke && len(m.waiting) > 0
	for _, l := range m.logs {
		l.starved = false
	}
	due, called := 0, m.countCalled()
	for _, w := range m.waiting {
		if !w.called {
			if called >= calledMost || m.broke && due > 0 || !m.roomFor(due, w.bytes) {
				return
			}
			w.called, m.broke = true, false
			w.want++
			called++
		}
		due += w.bytes + entryBytes
	}
}

func (m *model) callAgain() {
	if len(m.waiting) > 0 {
		m.broke = false
		m.call()
	}
}

func (m *model) countCalled() (n int) {
	for _, w := range m.waiting {
		if w.called {
			n++
		}
	}
	return n
}

// roomFor reports whether the limit lets a publication of n bytes in beside what is due.
func (m *model) roomFor(due, n int) bool {
	for _, l := range m.logs {
		low := l.low()
		rings := int(l.head()-low)+n <= l.ringBytes && len(l.above(low)) < l.ringEntries
		if l.allows(m.limit, due, n) && (!m.broke || rings) {
			continue
		}
		if due == 0 {
			l.starved = true
			m.press(l, n)
		}
		return false
	}
	return true
}

func (l *modelLog) allows(limit, due, n int) bool {
	used := l.cost(l.low()) + due
	return used == 0 || n+entryBytes <= limit/2 && used+n+entryBytes <= limit
}

func (m *model) press(l *modelLog, n int) {
	for _, r := range l.readers {
		goal := l.goal(m.limit)
		if n+entryBytes > m.limit/2 {
			goal = l.head()
		}
		if r.served < goal {
			r.press = max(r.press, goal)
			r.notify()
		}
	}
}

// wait lets w wait: at its place, where it was called.
func (m *model) wait(w *modelWaiter, n int) {
	if w == nil {
		return
	}
	if w.bytes = n; w.called {
		w.called, w.strict = false, true
		return
	}
	m.waiting = append(m.waiting, w)
}

// admit says whether a publication gets the turn.
func (m *model) admit(w *modelWaiter, n int) error {
	if w == nil || !w.called {
		due := 0
		for _, x := range m.waiting {
			if !x.called || x.strict {
				return ErrFull
			}
			due += x.bytes + entryBytes
		}
		for _, l := range m.logs {
			if due > 0 && !l.allows(m.limit, due, n) {
				return ErrFull
			}
		}
	}
	if m.turn {
		return ErrTurn
	}
	return nil
}

// publish publishes n bytes; where w is not nil it waits for room if it is refused. during
// happens while the publication is encoded.
func (m *model) publish(n int, from uint64, w *modelWaiter, during func()) error {
	c := m.space.Find(m.name)
	if c == nil {
		return nil
	}
	p := &Publication{Payload: make([]byte, n), From: from}
	for i := range p.Payload {
		p.Payload[i] = byte(m.made*31 + i)
	}
	m.made++
	var waiter Waiter // a nil *modelWaiter in it would not be nil
	if w != nil {
		w.payload = n
		waiter = w
	}
	if want := m.admit(w, n); want != nil {
		m.wait(w, n)
		got, err := c.Publish(p, new(Scratch), waiter)
		if !errors.Is(err, want) || got != (Receipt{}) {
			m.Fatalf("publishing %d bytes out of turn: %+v, %v, want %v", n, got, err, want)
		}
		m.refused++
		return err
	}
	m.turn = true
	m.encoding = func() {
		m.encoding = nil
		during()
	}
	got, err := c.Publish(p, &m.scratch, waiter)
	m.turn, m.encoding = false, nil
	want := m.append(p, w, len(m.logs) == 0)
	if len(m.logs) > 0 {
		if w != nil && w.called {
			m.forgotten(w)
		}
		if len(m.waiting) > 0 {
			m.call()
		}
	}
	if !errors.Is(err, want) || (err != nil) != (want != nil) {
		m.Fatalf("publishing %d bytes: %v, want %v", n, err, want)
	}
	if err != nil {
		m.refused++
		if got != (Receipt{}) {
			m.Errorf("a refused publication has the receipt %+v", got)
		}
		return err
	}
	m.accepted++
	if want := (Receipt{Epoch: m.epoch, Offset: m.offset}); got != want {
		m.Errorf("receipt %+v, want %+v", got, want)
	}
	return nil
}

// append does what happens to a publication that was encoded.
func (m *model) append(p *Publication, w *modelWaiter, gone bool) error {
	if gone {
		return ErrGone
	}
	alone := 0
	for _, l := range m.logs {
		n := l.format.size(len(p.Payload))
		ring := ringBytesMin
		for ring < n {
			ring *= 2
		}
		alone += ring + ringEntriesMin*entryBytes
		if n+entryBytes > largeFrames*m.limit || alone > m.bytes {
			return ErrTooBig
		}
		low := l.low()
		allowed := l.allows(m.limit, 0, n)
		if allowed && m.grow(l, int(l.head()-low)+n, len(l.above(low))+1) {
			continue
		}
		m.press(l, n)
		l.starved = w != nil || len(m.waiting) > 0
		m.broke = w != nil && allowed
		m.wait(w, n)
		return ErrFull
	}
	m.offset++
	for _, l := range m.logs {
		l.data = l.format.padded.Append(l.data, p)
		l.entries = append(l.entries, entry{end: l.head(), offset: m.offset, from: p.From})
		l.idle = false
		for _, r := range l.readers {
			r.notify()
		}
	}
	return nil
}

// forgotten takes w off those who wait.
func (m *model) forgotten(w *modelWaiter) {
	m.waiting = slices.DeleteFunc(m.waiting, func(x *modelWaiter) bool { return x == w })
	w.called = false
}

// grow makes l's rings large enough, where the budget allows it.
func (m *model) grow(l *modelLog, needBytes, needEntries int) bool {
	size := func(now, least, need int) int {
		if need <= now {
			return now
		}
		for least < need {
			least *= 2
		}
		return least
	}
	b, e := size(l.ringBytes, ringBytesMin, needBytes), size(l.ringEntries, ringEntriesMin, needEntries)
	if m.held()-l.held()+b+entryBytes*e > m.bytes {
		m.starved = true
		return false
	}
	l.ringBytes, l.ringEntries = b, e
	return true
}

func (m *model) held() (n int) {
	for _, l := range m.logs {
		n += l.held()
	}
	return n
}

func (m *model) served(r *modelReader) {
	low := r.log.head()
	for _, cursor := range r.subs {
		low = min(low, cursor)
	}
	r.Served(low)
	r.served = low
	if r.log.starved && r.log.cost(r.log.low()) <= m.limit/2 {
		m.broke = false
		m.call()
	}
}

func (m *model) clear(r *modelReader) {
	pressed := r.Clear()
	if pressed != r.press {
		m.Errorf("pressed to %d, want %d", pressed, r.press)
	}
	r.heard = max(r.heard, pressed)
	r.posted, r.press = false, 0
}

// relieve lets go of everything below the pressed cursor: laggards are moved
// up to it, or leave.
func (m *model) relieve(r *modelReader, drop bool) {
	m.clear(r)
	r.subs = slices.DeleteFunc(r.subs, func(cursor uint64) bool { return drop && cursor < r.heard })
	for i := range r.subs {
		r.subs[i] = max(r.subs[i], r.heard)
	}
	r.heard = 0
	m.served(r)
}

// trim goes round all shards once.
func (m *model) trim() {
	for call := range trimPart {
		m.space.Trim(0)
		starved := m.starved
		m.starved = false
		if (call+1)%trimPart == m.shard {
			m.trimShard()
		}
		if starved {
			m.relieveShard()
		}
	}
}

func (m *model) trimShard() {
	for _, l := range m.logs {
		if l.idle && l.ringBytes > 0 {
			if l.low() == l.head() {
				l.ringBytes, l.ringEntries = 0, 0
			}
			for _, r := range l.readers {
				if r.served < l.head() {
					r.notify()
				}
			}
		}
		l.idle = true
	}
	m.callAgain()
}

// relieveShard is for when the budget was in the way: logs without laggards lose their rings, and the
// readers of the log with the largest ring are asked to let go of all of it.
func (m *model) relieveShard() {
	var worst *modelLog
	for _, l := range m.logs {
		switch {
		case l.low() == l.head():
			l.ringBytes, l.ringEntries = 0, 0
		case worst == nil || l.ringBytes > worst.ringBytes:
			worst = l
		}
	}
	m.callAgain()
	if worst == nil {
		return
	}
	for _, r := range worst.readers {
		if r.served < worst.head() {
			r.press = max(r.press, worst.head())
			r.notify()
		}
	}
}
