package bench

import (
	"time"

	hdr "github.com/HdrHistogram/hdrhistogram-go"
)

// phase is a stretch of publications that is accounted for by itself: the
// warm-up, the measured part, one try of a search. Each has its own mark and
// its own sequence numbers, so that late messages of one are never taken for
// another's.
type phase struct {
	mark    mark
	streams int  // publishers, or channels; the messages of each are numbered from 0
	count   int  // publications in all, dealt to the streams in turn
	apart   bool // a connection gets the messages of one stream alone: conn.stream

	// With several nodes, which latency and positions are accounted for by.
	nodes     int
	home      []uint8 // by stream: the node that it is published to; nil: there is one node
	positions bool    // messages have them
}

// slots is how many streams' messages come to one connection.
func (p phase) slots() int {
	if p.apart {
		return 1
	}
	return p.streams
}

// perStream bounds the sequence numbers of one stream.
func (p phase) perStream() int { return (p.count + p.streams - 1) / p.streams }

// tally is the account of one loop in one phase. It belongs to the loop's
// goroutine until the phase has ended, and is then merged by its reader.
type tally struct {
	phase
	perStreamMax uint32

	next    []uint32       // by slot, of which each connection has slots(): the sequence number that comes next
	missing map[int][]span // by slot: what was skipped, ascending, disjoint
	heard   []arrival      // by stream*perStreamMax+seq
	places  []place        // by that, for each node; nil with one node, and without positions

	counts

	latency  *hdr.Histogram // microseconds; with several nodes, on the publisher's
	far      *hdr.Histogram // ... and on the others; nil with one node
	runValue int64          // a value not yet recorded ...
	runFar   bool           // ... of the others
	runCount int64          // ... and how often it came in a row
}

// counts are what came, over all connections.
type counts struct {
	delivered int64 // distinct messages
	repeated  int64 // messages that had come before on their connection
	reordered int64 // messages that came after one with a higher number
	stale     int64 // messages of another phase
	foreign   int64 // messages without a stamp of this run

	// By offset, where the protocol has them.
	holes   int64 // times that a position shows that something is missing, and nobody says so
	repeats int64 // offsets that a connection got again
	gaps    int64 // times that the server said that something is not kept any more
	misled  int64 // messages with another position than on another connection, in the same epoch
}

func (c *counts) add(o counts) {
	c.delivered += o.delivered
	c.repeated += o.repeated
	c.reordered += o.reordered
	c.stale += o.stale
	c.foreign += o.foreign
	c.holes += o.holes
	c.repeats += o.repeats
	c.gaps += o.gaps
	c.misled += o.misled
}

// span is the half-open range of sequence numbers [from, to).
type span struct{ from, to uint32 }

// arrival is what a loop knows of one publication.
type arrival struct {
	last      int64 // when its last connection got it
	scheduled int64
	count     uint32 // connections that got it
}

// place is a message's position: an epoch, of which the hash is 0 if it has none, and an offset.
type place struct{ epoch, offset uint64 }

// latencyMax bounds the histograms; what takes longer is recorded as this.
const latencyMax = 10 * time.Minute

func newLatency() *hdr.Histogram {
	return hdr.New(1, latencyMax.Microseconds(), 3)
}

// newTally returns an empty account for connections with index 0 to conns-1.
func newTally(p phase, conns int) *tally {
	per := p.perStream()
	t := &tally{
		phase:        p,
		perStreamMax: uint32(per),
		next:         make([]uint32, conns*p.slots()),
		missing:      map[int][]span{},
		heard:        make([]arrival, per*p.streams),
		latency:      newLatency(),
	}
	if p.home != nil {
		t.far = newLatency()
		if p.positions {
			t.places = make([]place, p.nodes*len(t.heard))
		}
	}
	return t
}

// deliver accounts for one message of this phase on the connection with this
// index, to this node, read at now.
func (t *tally) deliver(index, node int, s stamp, now int64) {
	if s.seq >= t.perStreamMax || int(s.stream) >= t.streams {
		t.foreign++ // not a number that was given out
		return
	}
	slot := index
	if !t.apart {
		slot = index*t.streams + int(s.stream)
	}
	if next := t.next[slot]; s.seq == next {
		t.next[slot] = next + 1
	} else if !t.outOfTurn(slot, s.seq) {
		t.repeated++
		return
	}
	t.delivered++
	a := &t.heard[int(s.stream)*int(t.perStreamMax)+int(s.seq)]
	a.last, a.scheduled = now, s.scheduled
	a.count++
	v := (now - s.scheduled) / int64(time.Microsecond)
	far := t.far != nil && node != int(t.home[s.stream])
	if v != t.runValue || far != t.runFar {
		t.flush()
		t.runValue, t.runFar = v, far
	}
	t.runCount++
}

// outOfTurn accounts for a number that is not the next one, and reports whether
// it is new.
func (t *tally) outOfTurn(slot int, seq uint32) bool {
	next := t.next[slot]
	if seq > next {
		t.missing[slot] = append(t.missing[slot], span{next, seq})
		t.next[slot] = seq + 1
		return true
	}
	gaps := t.missing[slot]
	for i, g := range gaps {
		if seq < g.from || seq >= g.to {
			continue
		}
		t.reordered++
		rest := append([]span(nil), gaps[:i]...) // a copy: a gap may become two
		if g.from < seq {
			rest = append(rest, span{g.from, seq})
		}
		if seq+1 < g.to {
			rest = append(rest, span{seq + 1, g.to})
		}
		t.missing[slot] = append(rest, gaps[i+1:]...)
		return true
	}
	return false
}

// flush records the values that were held back.
func (t *tally) flush() {
	if t.runCount > 0 {
		v := min(max(t.runValue, 0), latencyMax.Microseconds())
		h := t.latency
		if t.runFar {
			h = t.far
		}
		h.RecordValues(v, t.runCount) // ignored: v is within the bounds
		t.runCount = 0
	}
}

// placed accounts for the position of a message of this phase on a connection to this node: all
// connections must agree on it. Nodes may only differ in the epoch, as they do without a history.
func (t *tally) placed(node int, s stamp, at place) {
	if at.epoch == 0 || s.seq >= t.perStreamMax || int(s.stream) >= t.streams {
		return
	}
	i := int(s.stream)*int(t.perStreamMax) + int(s.seq)
	p := &t.places[node*len(t.heard)+i]
	if p.epoch == 0 {
		*p = at
	} else if p.epoch == at.epoch && p.offset != at.offset {
		t.misled++
	}
}

// received counts the distinct messages that the connection with this index has
// got.
func (t *tally) received(index int) int64 {
	slots := t.slots()
	if index >= len(t.next)/slots {
		return 0 // the phase does not concern it
	}
	var n int64
	for slot := index * slots; slot < (index+1)*slots; slot++ {
		n += int64(t.next[slot])
		for _, g := range t.missing[slot] {
			n -= int64(g.to - g.from)
		}
	}
	return n
}

// lost counts the messages that the connection with this index has not got, of
// those that were published: stream s published the numbers below published[s]. When
// streams go apart, published has the connection's own alone.
func (t *tally) lost(index int, published []uint32) int64 {
	var n int64
	for s, end := range published {
		slot := index*t.slots() + s
		for _, g := range t.missing[slot] {
			n += int64(g.to - g.from)
		}
		if next := t.next[slot]; next < end {
			n += int64(end - next)
		}
	}
	return n
}
