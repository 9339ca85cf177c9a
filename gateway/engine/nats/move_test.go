package nats

import (
	"reflect"
	"slices"
	"testing"
	"time"

	"sluice/gateway/clienttest"
	"sluice/gateway/engine/nats/natstest"
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

// A process that is to take a node over, and begins instead because the old one has died, is heard by others: also what it
// publishes to channels to which the old one has published.
func TestNodeBeginsWhereAnotherProcessHasDied(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t, natstest.Options{JetStream: true})
	c := startCluster(t, 2, s.URL())
	w := watch(t, c.nodes[0], "none")
	newSender(t, c.nodes[1]).publishes("none", "a", "b", "c")
	w.wants("the old process's messages", "a", "b", "c")
	old := c.nodes[1].Engine.(*Engine)
	old.Moved() // it says nothing when it ends
	if err := old.Close(testContext(t)); err != nil {
		t.Fatal(err)
	}

	next := newNode(t, func(cfg *Config) {
		cfg.Servers, cfg.NodeID, cfg.Takes = Servers{URLs: c.urls, Prefix: c.prefix}, 2, true
	})
	e := next.Engine.(*Engine)
	e.GoOn() // it is not connected yet, most likely
	ready(t, next)
	newSender(t, next).publishes("none", "d")
	w.has("d")
	clienttest.WaitFor(t, "the node to be heard", func() bool {
		peer := make(chan uint64, 1)
		n := c.nodes[0].Engine.(*Engine).nodes.Load()
		n.post(func() {
			begun := uint64(0)
			if p := n.peers[2]; p != nil {
				begun = p.begun
			}
			peer <- begun
		})
		return clienttest.Receive(t, "what is known of the node", peer) == e.nodes.Load().begun
	})
}

// After another process has become the node, this one says nothing in its name any more.
func TestNodeThatHasMovedSaysNothing(t *testing.T) {
	h := newHearing(t).live()
	h.n.moved.Store(true)
	h.said, h.told = nil, nil
	h.n.tick()
	h.n.up()
	h.n.work()
	h.n.handle(appendBeat(nil, &beat{flags: beatFull | beatStarting, node: 2, begun: 5, seq: 1, conns: 1}))
	before := h.n.questions[2]
	h.n.handle([]byte{beatVersion, kindQuestion, askPing, 2, 0, 0, 0, 0, 0, 0, 0, 7})
	if len(h.said)+len(h.told) > 0 || h.n.questions[2] != before {
		t.Errorf("it says %v and %v, and takes question %d", h.said, h.told, h.n.questions[2])
	}
}

// Whoever asks is remembered, but not more nodes than there can be.
func TestQuestionsThatAreRememberedAreBounded(t *testing.T) {
	h := newHearing(t)
	for i := range 2 * peersMost {
		h.n.handle([]byte{beatVersion, kindQuestion, askPing, byte(i), byte(i >> 8), 1, 0, 0, 0, 0, 0, 1})
	}
	if got := len(h.n.questions); got > peersMost {
		t.Errorf("%d questions are remembered", got)
	}
}

// What was dropped before a node moves is a gap in the old process: the new one leaves out what the old one has heard later.
func TestDroppedMessagesAreNotedBeforeANodeMoves(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t, natstest.Options{JetStream: true})
	c := startCluster(t, 2, s.URL())
	e := c.nodes[0].Engine.(*Engine)
	w := watch(t, c.nodes[0], "none")
	newSender(t, c.nodes[1]).publishes("none", "a")
	w.wants("the message", "a")
	l := e.lane("none")
	l.post(func() {
		r := l.list[slices.IndexFunc(l.list, func(r *route) bool { return r.name == "none" })]
		r.dropped-- // as if one had been dropped since
		l.noteSlow(r)
	})
	if err := e.Hold(testContext(t)); err != nil {
		t.Fatal(err)
	}
	defer e.Release()
	if got := w.lines(); len(got) != 2 || got[1] != "gap" {
		t.Errorf("the channel has %q, want a gap at the end", got)
	}
}
