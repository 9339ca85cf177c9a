package channel

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// script is a source of decisions; 0 when it has run out.
type script []byte

func (s *script) next(n int) int {
	if len(*s) == 0 {
		return 0
	}
	b := int((*s)[0])
	*s = (*s)[1:]
	return b % n
}

// scriptMax bounds the operations of one run.
const scriptMax = 400

func FuzzLogAgainstModel(f *testing.F) {
	for seed := range uint64(20) {
		f.Add(randomScript(seed))
	}
	f.Fuzz(func(t *testing.T, p []byte) { runModel(t, p) })
}

func TestLogAgainstModel(t *testing.T) {
	accepted, refused, turned := 0, 0, 0
	for seed := range uint64(300) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			m := runModel(t, randomScript(1000+seed))
			accepted += m.accepted
			refused += m.refused
			turned += m.turned
		})
	}
	if min(accepted, refused, turned) < 1000 {
		t.Errorf("%d publications accepted, %d refused, %d called: the scripts hardly try one of them", accepted, refused, turned)
	}
}

func randomScript(seed uint64) []byte {
	rnd := rand.New(rand.NewPCG(seed, 1))
	p := make([]byte, 100+rnd.IntN(900))
	for i := range p {
		p[i] = byte(rnd.Uint32())
	}
	return p
}

// runModel runs a script against a channel and its model.
func runModel(t *testing.T, p []byte) *model {
	s := script(p)
	limit := ringBytesMin << s.next(4)
	budget := 1 << 30
	if s.next(3) == 0 { // rings of one log, or a little more
		budget = limit + s.next(256)*limit/64
	}
	m := newModel(t, limit, budget, len(p)%trimPart)
	if len(p)%2 == 0 {
		mix(m.space)
	}
	m.join(0)
	for i := 0; len(s) > 0 && i < scriptMax; i++ {
		m.step(&s)
		m.check()
	}
	m.checkRelease()
	for slot := range m.slots {
		m.leave(slot)
		m.check()
	}
	if got := m.space.budget.Used(); got != 0 {
		t.Errorf("%d bytes are held after the last reader has left", got)
	}
	if m.space.Channels() != 0 || m.space.Find(m.name) != nil {
		t.Errorf("%d channels after the last reader has left", m.space.Channels())
	}
	return m
}

// step is one operation of the script.
func (m *model) step(s *script) {
	op := s.next(16)
	if op < 5 {
		n := s.next(40)
		if op == 4 { // a large one: up to the most that goes in beside others, and beyond
			n = m.limit/2 - 128 + s.next(128)
		}
		var w *modelWaiter
		if s.next(4) > 0 {
			w = new(modelWaiter)
			m.waiters = append(m.waiters, w)
		}
		m.publish(n, uint64(s.next(4)), w, func() { m.during(s) })
		return
	}
	if op == 15 && len(m.waiting) > 0 && s.next(4) > 0 { // somebody who waits tries again, or gives up
		w := m.waiting[s.next(len(m.waiting))]
		switch {
		case w == m.working || s.next(8) == 0:
			m.forget(w)
		case w.called:
			m.again(w, s)
		}
		return
	}
	slot := s.next(len(m.slots))
	r := m.slots[slot]
	if r == nil {
		if op%4 == 0 && (!m.turn || len(m.logs) > 0) { // not a new channel during another's turn
			m.join(slot)
		}
		return
	}
	switch op {
	case 5, 6, 7, 8:
		m.advance(r, s.next(4), s)
	case 9, 10:
		m.served(r)
	case 11:
		m.clear(r)
	case 12:
		m.relieve(r, s.next(2) == 0)
	case 13: // a subscriber comes, or the first goes
		if len(r.subs) == 0 || s.next(2) == 0 {
			r.subs = append(r.subs, r.log.head())
		} else {
			r.subs = r.subs[1:]
		}
	case 14:
		m.trim()
	case 15:
		if s.next(3) == 0 {
			m.leave(slot)
		}
	}
}

// advance lets one of r's subscribers read: what fits so many bytes, a part that
// is cut within a frame, or everything.
func (m *model) advance(r *modelReader, sub int, s *script) {
	l := r.log
	head := l.head()
	if sub >= len(r.subs) || r.subs[sub] == head {
		return
	}
	cursor := r.subs[sub]
	switch n := s.next(256); s.next(3) {
	case 0:
		to := r.view(cursor).Fit(cursor, head, n)
		want := l.fit(cursor, n)
		if to != want {
			m.Fatalf("of %d bytes from %d to %d fits up to %d, want %d", n, cursor, head, to, want)
		}
		m.checkBytes(r, cursor, to)
		r.subs[sub] = to
	case 1:
		cut := min(cursor+uint64(1+n), head)
		m.checkBytes(r, cursor, cut)
		to := r.view(cursor).Floor(cursor, cut)
		if want := l.floor(cursor, cut); to != want {
			m.Fatalf("the frame cut at %d begins at %d, want %d", cut, to, want)
		}
		m.checkBytes(r, to, r.view(to).Fit(to, head, 0))
		r.subs[sub] = to
	case 2:
		if to := r.view(cursor).Fit(cursor, head, int(head-cursor)); to != head {
			m.Fatalf("all from %d to %d fits, not only up to %d", cursor, head, to)
		}
		r.subs[sub] = head
	}
	for _, cursor := range r.subs {
		if got := r.view(cursor).Floor(cursor, cursor); got != cursor {
			m.Errorf("%d is an end, Floor returns %d", cursor, got)
		}
	}
}

// during is what happens while a publication is encoded.
func (m *model) during(s *script) {
	for range s.next(4) {
		m.check()
		m.step(s)
	}
	m.check()
}

// again lets a publisher that was called try again.
func (m *model) again(w *modelWaiter, s *script) {
	m.turned++
	working := m.working
	if !m.turn {
		m.working = w
	}
	m.publish(w.payload, 0, w, func() { m.during(s) })
	m.working = working
}

// forget takes a publisher back that has lost patience.
func (m *model) forget(w *modelWaiter) {
	m.space.Find(m.name).Forget(w)
	m.forgotten(w)
	m.call()
}

// checkRelease checks the way out of a full log: once every reader has let go of
// what it is pressed for, publishers are called; when those that were called have
// published or given up, others are, until nobody waits.
func (m *model) checkRelease() {
	for rounds := 10 + 8*len(m.waiting); len(m.waiting) > 0 && len(m.logs) > 0; rounds-- {
		i := slices.IndexFunc(m.waiting, func(w *modelWaiter) bool { return w.called })
		switch {
		case rounds == 0:
			m.Fatalf("%d publishers still wait", len(m.waiting))
		case i >= 0 && rounds%5 == 0:
			m.forget(m.waiting[i])
		case i >= 0:
			m.again(m.waiting[i], new(script))
		default:
			m.letGo()
			if m.countCalled() == 0 {
				m.Fatalf("%d publishers wait, and none is called although every reader has let go of what it was pressed for", len(m.waiting))
			}
		}
		m.check()
	}
	m.checkLargest()
}

// letGo lets every reader go of what it is pressed for, until somebody is called. One log
// may press when another has let go.
func (m *model) letGo() {
	for range len(m.logs) {
		for _, r := range m.slots {
			if r != nil {
				m.relieve(r, m.made%2 == 0)
				m.check()
			}
		}
	}
	if m.bytes < 1<<30 {
		m.trim() // the budget may be in the way: it is tried again at every round
		m.check()
	}
}

// checkLargest checks that the largest publication there can be is taken once the readers
// let go.
func (m *model) checkLargest() {
	if len(m.logs) == 0 || m.bytes < 1<<30 {
		return
	}
	widest := padded(0)
	for _, l := range m.logs {
		widest = max(widest, l.format.padded)
	}
	largest := m.limit/2 - entryBytes - widest.size(0)
	for range len(m.logs) + 1 { // each log may press once
		if err := m.publish(largest, 0, nil, func() {}); err == nil {
			return
		} else if !errors.Is(err, ErrFull) {
			m.Fatal(err)
		}
		m.letGo()
	}
	m.Error("everybody let go, and the largest publication is still refused")
}

// check compares everything that can be seen.
func (m *model) check() {
	if got, want := m.space.budget.Used(), m.held(); got != want || got > m.bytes {
		m.Errorf("%d bytes of the budget of %d are used, want %d", got, m.bytes, want)
	}
	for i, w := range m.waiters {
		if w.told != w.want {
			m.Errorf("waiter %d was released %d times, want %d", i, w.told, w.want)
		}
	}
	for slot, r := range m.slots {
		if r == nil {
			continue
		}
		if r.told != r.want {
			m.Errorf("reader %d was notified %d times, want %d", slot, r.told, r.want)
		}
		m.checkReader(r)
	}
	if m.Failed() {
		m.FailNow()
	}
}

func (m *model) checkReader(r *modelReader) {
	log, l := r.Log(), r.log
	head := log.Head()
	if head != l.head() {
		m.Fatalf("the head is %d, want %d", head, l.head())
	}
	if used := log.usedLocked(); used > m.limit {
		m.Errorf("%d bytes are kept in a log of %d", used, m.limit)
	}
	m.checkBytes(r, r.served, head)
	for i := l.find(r.served); i < uint64(len(l.entries)); i++ {
		want := l.entries[i]
		if end, from := r.view(r.served).Entry(i); end != want.end || from != want.from {
			m.Errorf("entry %d ends at %d and is from %d, want %+v", i, end, from, want)
		}
	}
	for _, cursor := range append([]uint64{r.served, head}, r.subs...) {
		if got, want := r.view(cursor).Find(cursor), l.find(cursor); got != want {
			m.Errorf("cursor %d is in entry %d, want %d", cursor, got, want)
		}
		if got, want := r.FarBehind(cursor), l.cost(cursor) > m.limit/2 && l.cost(cursor) <= m.limit; got != want {
			m.Errorf("cursor %d is far behind: %v, want %v", cursor, got, want)
		}
	}
}

func (m *model) checkBytes(r *modelReader, from, to uint64) {
	a, b := r.view(from).Bytes(from, to)
	if ring := uint64(r.log.ringBytes); from < to && (b != nil) != (from/ring != (to-1)/ring) {
		m.Errorf("between %d and %d lie %d and %d bytes in a ring of %d", from, to, len(a), len(b), ring)
	}
	if want := r.log.data[from:to]; !bytes.Equal(slices.Concat(a, b), want) {
		m.Errorf("between %d and %d lies %x %x, want %x", from, to, a, b, want)
	}
}
