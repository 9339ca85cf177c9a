package nats

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"sluice/gateway/channel"
	"sluice/gateway/engine"
	"sluice/gateway/engine/local"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// historyModel publishes the same to a channel of the local engine and to a stream as a server would keep
// it, and compares what they answer.
type historyModel struct {
	t      *testing.T
	draw   *rand.Rand
	engine local.Engine
	ch     *channel.Channel
	keep   channel.Keep
	now    int64

	stream state
	msgs   []stored
	seen   []uint64 // offsets that clients know
}

func newHistoryModel(t *testing.T, seed uint64) *historyModel {
	m := &historyModel{t: t, draw: rand.New(rand.NewPCG(seed, seed)), now: 1000}
	m.keep = channel.Keep{Count: 1 + m.draw.IntN(5), TTL: 50}
	space := channel.NewSpace(64<<10, 10, channel.NewBudget(1<<20))
	space.KeepHistory(channel.History{Of: func(string) channel.Keep { return m.keep }, Bytes: 1 << 20, Budget: channel.NewBudget(1 << 20)}, 0)
	m.engine = local.Engine{Space: space}
	var err error
	if m.ch, err = space.Open("x"); err != nil {
		t.Fatal(err)
	}
	m.stream = state{epoch: m.ch.Epoch(), limit: m.keep.Count + 1, first: 1}
	m.seen = []uint64{0}
	return m
}

// store stores a message in the stream, some time after others of other channels.
func (m *historyModel) store(msg *message) uint64 {
	m.stream.last += 1 + uint64(m.draw.IntN(3))
	m.msgs = append(m.msgs, stored{m.stream.last, appendMessage(nil, msg)})
	if len(m.msgs) > m.stream.limit {
		m.msgs = m.msgs[1:]
	}
	return m.stream.last
}

func (m *historyModel) publish() {
	p := channel.Publication{Payload: []byte(fmt.Sprint(m.draw.IntN(1 << m.draw.IntN(40)))), At: m.now, From: m.draw.Uint64N(3), Binary: m.draw.IntN(2) == 0}
	if m.draw.IntN(2) == 0 {
		p.Extra = []byte("extra")
	}
	p.Prev = m.ch.Newest().Offset
	p.Offset, p.Epoch = m.store(&message{Publication: p}), m.stream.epoch
	m.ch.Append(&p, new(channel.Scratch))
	m.seen = append(m.seen, p.Offset)
}

func (m *historyModel) remove() {
	at := m.store(&message{tombstone: true, removed: m.ch.Newest().Offset})
	if m.draw.IntN(4) > 0 { // else the node ended before the purge
		for m.msgs[0].seq < at {
			m.msgs = m.msgs[1:]
		}
	}
	m.ch.ForgetHistory()
}

// ask draws a query.
func (m *historyModel) ask() engine.HistoryQuery {
	q := engine.HistoryQuery{Channel: "x", Back: m.draw.IntN(2) == 0, Now: m.now,
		Most: channel.Bounds{Count: m.draw.IntN(8) - 1, Bytes: m.draw.IntN(2) * m.draw.IntN(30)}}
	offset := m.seen[m.draw.IntN(len(m.seen))]
	if m.draw.IntN(10) == 0 {
		offset = m.stream.last + 7
	}
	switch m.draw.IntN(6) {
	case 0:
		q.Since = &channel.Ask{Kind: channel.AskOffset, At: channel.Position{Offset: offset}}
	case 1:
		q.Since = &channel.Ask{Kind: channel.AskNow}
	case 2:
		q.Since = &channel.Ask{Kind: channel.AskNewest, N: m.draw.IntN(7)}
	case 3:
		q.Since = &channel.Ask{Kind: channel.AskSince, At: channel.Position{Epoch: m.stream.epoch + 1, Offset: offset}}
	case 4:
		q.Since = &channel.Ask{Kind: channel.AskSince, At: channel.Position{Epoch: m.stream.epoch, Offset: offset}}
	}
	return q
}

func (m *historyModel) compare() {
	m.t.Helper()
	r := reading{epoch: m.stream.epoch, head: m.stream.last, none: len(m.msgs) == 0}
	r.floor, r.under, r.msgs = keptOf(m.msgs, 0, m.stream)
	if !r.none {
		r.head = m.msgs[len(m.msgs)-1].seq
	}
	k := r.kept("x", m.keep.TTL, m.now)
	for range 5 {
		q := m.ask()
		got, gotErr := k.collect(q)
		var want channel.Collected
		var wantErr error
		m.engine.History(q, func(c channel.Collected, err error) { want, wantErr = c, err })
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" || gotErr != wantErr {
			m.t.Fatalf("keep %+v, query %+v since %+v: %v, want %v (-local +stream):\n%s", m.keep, q, q.Since, gotErr, wantErr, diff)
		}
	}
}

func TestHistoriesAreThoseOfTheLocalEngine(t *testing.T) {
	t.Parallel()
	for seed := range uint64(40) {
		m := newHistoryModel(t, seed)
		for range 60 {
			switch m.draw.IntN(8) {
			case 0:
				m.remove()
			case 1:
				m.now += int64(m.draw.IntN(30))
			default:
				m.publish()
			}
			m.compare()
		}
	}
}

// What cannot be read is not skipped: a client from before it is notified.
func TestMessagesOfAnotherVersionAreAGap(t *testing.T) {
	text := func(s string) []byte {
		return appendMessage(nil, &message{Publication: channel.Publication{Payload: []byte(s), At: 1000}})
	}
	newer := text("new")
	newer[0]++
	r := reading{epoch: 7, msgs: []stored{{2, text("a")}, {4, newer}, {9, text("b")}}, head: 9}
	k := r.kept("x", 1000, 1000)
	if len(k.pubs) != 1 || string(k.pubs[0].Payload) != "b" || k.floor != 4 || k.newest != 9 || k.pubs[0].Prev != 4 {
		t.Errorf("got %+v", k)
	}
	r.msgs = r.msgs[:2]
	if k := r.kept("x", 1000, 1000); len(k.pubs) != 0 || k.floor != 4 || k.newest != 4 {
		t.Errorf("got %+v", k)
	}
}
