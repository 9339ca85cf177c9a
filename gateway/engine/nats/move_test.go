package nats

import (
	"reflect"
	"testing"
	"time"
)

// What a node has heard arrives in another process as it was, and what is damaged is an error.
func TestWhatANodeHasHeardMoves(t *testing.T) {
	h := newHearing(t)
	n := h.n
	n.begun, n.seq, n.echoes, n.asks.number = 7, 8, 9, 10
	n.questions[2] = 5
	n.sent[3].Store(11)
	n.peers[2] = &peer{beat: beat{node: 2, begun: 1, seq: 4, conns: 1, described: described{Name: "second", Server: "s"}}, live: true, known: true, heard: 3, at: 2, doubt: "silent"}
	n.peers[2].counters[3], n.peers[2].before[3] = 6, 5
	n.received(2, 3, 5)
	n.received(2, 3, 6)
	b := n.appendState(nil, true, true)
	s, err := readState(b)
	if err != nil {
		t.Fatal(err)
	}
	s.peers[2].last = time.Time{}
	if s.begun != 7 || s.seq != 8 || s.echoes != 9 || s.number != 10 || !s.unsure || s.sent[3] != 11 || s.questions[2] != 5 || s.runs[2][3] != (run{5, 6}) || !reflect.DeepEqual(s.peers[2], n.peers[2]) {
		t.Errorf("got %+v, peer %+v, want %+v", s, s.peers[2], n.peers[2])
	}
	for i := range b {
		if _, err := readState(b[:i]); err == nil {
			t.Fatalf("%d of %d bytes are taken", i, len(b))
		}
	}

	before := heardBefore{2: &counters{3: 6}}
	for _, m := range []message{{node: 2, counter: 6}, {node: 2, counter: 7}, {node: 3, counter: 1}} {
		if got, want := before.has(&m, 3), m.node == 2 && m.counter <= 6; got != want {
			t.Errorf("message %d of node %d: heard is %v", m.counter, m.node, got)
		}
	}
}

// A question that the old process has taken is not answered by the new one; one that came later is.
func TestQuestionsAreAnsweredOnce(t *testing.T) {
	h := newHearing(t)
	h.n.quiet = true
	question := func(number byte) {
		h.n.handle([]byte{beatVersion, kindQuestion, askPing, 2, 0, 0, 0, 0, 0, 0, 0, number})
	}
	question(4)
	question(5)
	asked := len(h.n.early)
	h.n.goOn(&takenState{peers: map[uint64]*peer{}, questions: map[uint64]uint64{2: 4}}, false)
	if got := h.n.questions[2]; asked != 2 || got != 5 {
		t.Errorf("%d questions waited, and the newest that was answered is %d; want 2 and 5", asked, got)
	}
}
