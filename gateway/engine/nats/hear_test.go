package nats

import (
	"encoding/binary"
	"errors"
	"testing"
	"time"

	"sluice/gateway/engine"

	"github.com/google/go-cmp/cmp"
)

// hearing is a node without a connection, and what it hears and says. Node 2 is another one.
type hearing struct {
	t      *testing.T
	n      *nodes
	gaps   chan gapOf
	timers []func()

	said   []*beat // to all
	told   []*beat // to another node
	asked  []byte  // what node 2 was asked for last
	number uint64  // of that question
	checks int     // how often positions were compared
	broken uint64  // how often its connection was lost
	cut    bool    // it has none
}

func newHearing(t *testing.T) *hearing {
	h := &hearing{t: t, gaps: make(chan gapOf, 100)}
	cfg := nodeConfig(1)
	cfg.name, cfg.lanes = "a", hearingLanes{gapLanes{gaps: h.gaps}, h}
	cfg.after = func(_ time.Duration, f func()) { h.timers = append(h.timers, f) }
	h.n = newNodes(h, cfg)
	h.n.begin()
	return h
}

type hearingLanes struct {
	gapLanes
	h *hearing
}

func (l hearingLanes) checkPositions() { l.h.checks++ }

// wantCheck has the node beat, and checks that positions were compared once.
func (h *hearing) wantCheck() {
	h.t.Helper()
	h.n.tick()
	h.n.tick()
	if h.checks != 1 {
		h.t.Errorf("positions were compared %d times", h.checks)
	}
	h.checks = 0
}

func (h *hearing) publish(subject string, data []byte) error {
	switch data[1] {
	case kindBeat:
		b, err := parseBeat(data[2:])
		if err != nil {
			h.t.Error(err)
		} else if subject == "test.beat" {
			h.said = append(h.said, b)
		} else {
			h.told = append(h.told, b)
		}
	case kindQuestion:
		if subject != h.n.subjectOf(2) {
			return nil // it asks itself, too, in any order
		}
		h.asked, h.number = data[2:], binary.LittleEndian.Uint64(data[2:])
		r := reader{rest: data[2+9:]}
		h.number = r.uvarint()
	}
	return nil
}

func (h *hearing) conns() uint64   { return h.broken + 1 }
func (h *hearing) payloadMax() int { return 1 << 20 }
func (h *hearing) server() string {
	if h.cut {
		return ""
	}
	return "server"
}

// live has the node start: it hears itself, and nobody objects to its name.
func (h *hearing) live() *hearing {
	h.echo(1)
	for _, f := range h.timers {
		f()
	}
	return h
}

// echo has the node beat and hear itself so often.
func (h *hearing) echo(times int) {
	for range times {
		h.n.tick()
		h.n.heard(h.said[len(h.said)-1])
	}
}

// hears has the node hear node 2, whose counter in bucket 9 is this.
func (h *hearing) hears(seq uint64, flags byte, counter uint64) *beat {
	b := &beat{flags: flags, node: 2, begun: 5, seq: seq, conns: 1, described: described{Name: "b", Server: "server", Info: engine.NodeInfo{ID: "b"}}}
	b.counters[9] = counter
	h.n.heard(b)
	return b
}

// settled has the node know what node 2 has sent, up to its third beat.
func (h *hearing) settled() *hearing {
	h.hears(1, beatFull, 0)
	h.hears(2, 0, 0)
	h.hears(3, 0, 0)
	return h
}

// answers has node 2 answer with its counters.
func (h *hearing) answers(counter uint64) {
	var c counters
	c[9] = counter
	b := append([]byte{0}, binary.LittleEndian.AppendUint64(nil, 2)...)
	b = append(binary.AppendUvarint(b, h.number), 0)
	h.n.answered(appendCounters(b, &c))
}

// want compares the gaps since the last call with what should be there: causes, of gaps in bucket 9 or,
// with GapGone, in all.
func (h *hearing) want(why string, causes ...string) {
	h.t.Helper()
	var got, want []gapOf
	for len(h.gaps) > 0 {
		got = append(got, <-h.gaps)
	}
	for _, cause := range causes {
		g := gapOf{[buckets]bool{9: true}, cause}
		if cause == engine.GapGone {
			g.affected = everyBucket
		}
		want = append(want, g)
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(gapOf{})); diff != "" {
		h.t.Errorf("%s (-want +got):\n%s", why, diff)
	}
}

func (h *hearing) wantLive(why string, count int64) {
	h.t.Helper()
	if n := h.n.live.Load(); n != count {
		h.t.Errorf("%s: %d nodes are live, want %d", why, n, count)
	}
}

func TestWhatANodeConcludesFromBeats(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]func(h *hearing){
		"all came": func(h *hearing) {
			h.n.received(2, 9, 1)
			h.hears(4, beatFull, 1)
			h.hears(5, beatFull|beatEnd, 1)
			h.want("a good end")
			h.wantLive("it has ended", 1)
		},
		"a beat is missing": func(h *hearing) {
			h.hears(5, 0, 0)
			h.answers(1)
			h.want("a message that did not come", engine.GapSilent)
			h.wantCheck()
			h.hears(6, 0, 0)
			h.hears(7, 0, 0)
			h.hears(9, 0, 0)
			h.answers(1)
			h.want("nothing was sent since then")
		},
		"a beat is missing, and the message came": func(h *hearing) {
			h.n.received(2, 9, 1)
			h.hears(5, 0, 0)
			h.answers(1)
			h.want("")
		},
		"an interruption is announced": func(h *hearing) {
			b := h.hears(4, 0, 0)
			b.seq, b.conns = 5, 2
			h.n.heard(b)
			h.answers(3)
			h.want("three messages did not come", engine.GapPublisher)
		},
		"another interruption while the answer is on its way": func(h *hearing) {
			b := h.hears(4, 0, 0)
			b.seq, b.conns = 5, 2
			h.n.heard(b)
			before := h.number
			b.seq, b.conns = 6, 3
			h.n.heard(b)
			h.answers(3)
			h.want("before the answer", engine.GapPublisher)
			if h.number == before {
				h.t.Fatal("it is not asked again")
			}
			h.answers(4)
			h.want("after it", engine.GapPublisher)
		},
		"its own connection breaks": func(h *hearing) {
			h.broken++
			h.n.tick()
			h.answers(1)
			h.want("a message that did not come", engine.GapReconnect)
		},
		"its own connection breaks while the answer is on its way": func(h *hearing) {
			h.broken++
			h.n.tick()
			before := h.number
			h.broken++
			h.n.tick()
			if h.number == before {
				h.t.Fatal("it is not asked again")
			}
			h.answers(1)
			h.want("a message that did not come", engine.GapReconnect)
		},
		"it ends during doubts": func(h *hearing) {
			h.hears(5, 0, 0)
			h.hears(6, beatFull|beatEnd, 2)
			h.want("the last beat says what it has sent", engine.GapSilent)
			h.echo(forgottenAfter / 2)
			h.want("it is not missed")
		},
		"it is silent": func(h *hearing) {
			h.echo(goneAfter)
			h.wantLive("so long", 2)
			h.echo(1)
			h.wantLive("longer", 1)
			h.want("nobody has heard it longer")
			h.hears(4, 0, 0)
			h.wantLive("it is back", 2)
			h.answers(1)
			h.want("a message that did not come", engine.GapSilent)
		},
		"it is silent and was in doubt": func(h *hearing) {
			h.hears(5, 0, 0)
			h.echo(goneAfter + 1)
			h.want("it can answer nothing any more", engine.GapGone)
			h.wantCheck()
		},
		"another process has its number": func(h *hearing) {
			h.n.received(2, 9, 7)
			next := &beat{flags: beatFull, node: 2, begun: 6, seq: 1, conns: 1, described: described{Name: "b"}}
			h.n.heard(next)
			h.wantLive("one of them", 2)
			h.hears(4, 0, 0)
			if p := h.n.peers[2]; p.begun != 6 || p.seq != 1 {
				h.t.Errorf("beat %d of the earlier one was heard", p.seq)
			}
			next.seq, next.counters[9] = 3, 1
			h.n.heard(next)
			h.answers(1)
			h.want("a message of the new one did not come", engine.GapSilent)
		},
		"it is forgotten": func(h *hearing) {
			h.n.received(2, 9, 1)
			h.hears(4, beatFull|beatEnd, 1)
			h.echo(forgottenAfter)
			if h.n.peers[2] == nil || (*h.n.runs.Load())[2] == nil {
				h.t.Error("too early: it might come back")
			}
			h.echo(1)
			if len(h.n.peers) != 1 || len(*h.n.runs.Load()) != 0 {
				h.t.Errorf("never: %d nodes are known, and the messages of %d", len(h.n.peers), len(*h.n.runs.Load()))
			}
		},
		"too many": func(h *hearing) {
			runs := make(map[uint64]*[buckets]run)
			for i := range uint64(peersMost) {
				h.n.peers[100+i], runs[100+i] = new(peer), new([buckets]run)
			}
			h.n.runs.Store(&runs)
			h.n.heard(&beat{node: 3, begun: 1, seq: 1})
			h.n.received(3, 1, 1)
			if h.n.peers[3] != nil || len(*h.n.runs.Load()) > peersMost {
				h.t.Errorf("%d nodes are known, and the messages of %d", len(h.n.peers), len(*h.n.runs.Load()))
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(newHearing(t).live().settled())
		})
	}
}

func TestNameOfALiveNodeIsDefended(t *testing.T) {
	t.Parallel()
	h := newHearing(t).live()
	if err := <-h.n.named; err != nil {
		t.Fatal(err)
	}
	h.n.heard(&beat{flags: beatFull | beatStarting, node: 2, begun: 1, seq: 1, described: described{Name: "a"}})
	h.wantLive("one that begins with its name", 1)
	if len(h.told) != 1 || !h.told[0].is(beatWelcome) || h.told[0].Name != "a" {
		t.Error("it is not told that the name is taken")
	}
	h.n.heard(&beat{flags: beatFull, node: 2, begun: 1, seq: 5, described: described{Name: "a"}})
	h.wantLive("one that has begun, although neither has heard the other", 2)
}

// A node that was refused its name may go on for a moment. A live node with that name must not take it for
// one that has it.
func TestRefusedNodeDoesNotSeemToHaveTheName(t *testing.T) {
	t.Parallel()
	h := newHearing(t)
	for range 2 {
		h.n.heard(&beat{flags: beatFull, node: 2, begun: h.n.begun + 1, seq: 9, described: described{Name: "a"}})
	}
	if err := <-h.n.named; !errors.Is(err, ErrNameTaken) {
		t.Errorf("the name: %v", err)
	}
	h.echo(2 * fullEvery)
	for _, f := range h.timers {
		f()
	}
	h.n.end()
	for _, b := range h.said {
		if !b.is(beatStarting) {
			t.Errorf("beat %d of a node that has no name yet has the flags %b", b.seq, b.flags)
		}
	}
	if last := h.said[len(h.said)-1]; !last.is(beatEnd) {
		t.Error("others are not told that it ends")
	}
}

// While a node has no connection, nobody is gone. That it does not hear the others is said of them.
func TestSilentNodesAreNotSaidToBeUp(t *testing.T) {
	h, now := newHearing(t), time.Now()
	h.n.cfg.now = func() time.Time { return now }
	h.live()
	h.hears(1, beatFull, 0)
	h.hears(2, 0, 0)
	for _, test := range []struct{ passed, want time.Duration }{{silentFor - 1, 0}, {silentFor, silentFor}, {time.Hour, time.Hour}} {
		now = now.Add(test.passed)
		got := h.n.list()
		if len(got.List) != 1 || got.List[0].Silent != test.want {
			t.Errorf("not heard for %v: %+v", test.passed, got.List)
		}
		now = now.Add(-test.passed)
	}
	h.cut = true
	if got := h.n.list(); got.List[0].Silent != time.Second {
		t.Errorf("without a connection: %+v", got.List)
	}
	h.cut = false
	now = now.Add(time.Hour)
	h.hears(3, 0, 0)
	if got := h.n.list(); got.List[0].Silent != 0 {
		t.Errorf("it is heard again: %+v", got.List)
	}
}
