package nats

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"time"

	"sluice/gateway/engine"
)

// A node is heard by its beats, every pulse: short ones, of which every fourth also says how the node
// is and carries its counters. A counter counts the core messages that the node has sent in a bucket
// of channels.
//
// Core messages may be lost wherever a connection breaks, and a node cannot see what it did not get:
// not every message is for it. But it can see that it may have missed some. Its doubts about a node
// begin when its own connection has broken, when the other one announces that, or when a beat is
// missing: a route between servers takes at least a second to be there again, so that a pulse is
// lost with it. Then it asks for the counters. The question goes behind the subscriptions, so the
// answer is of a time when these are known at the other node's server: what is sent later will come.
// What was sent before is what lies between the counters of a beat before the doubt and those of the
// answer. A bucket whose counter did not move has lost nothing; nor has one in which all of these
// messages came. The channels of the other buckets have a gap.
//
// The counters before the doubt are some that were followed by two more beats in order: a node may not
// have noticed yet that it sent them on another connection than what it had sent before, and it draws
// the counter of a message before it sends it. Everything that was sent before a beat came before it,
// because messages of one connection overtake each other nowhere.
//
// A node that ends for good can answer nothing. If there were doubts, or another node has heard it
// longer, all buckets have a gap. What it sent when no other node heard it any more is lost without notice:
// else there would be a gap in every channel whenever a process ends.

const (
	// pulse is the time between beats.
	pulse = 500 * time.Millisecond
	// fullEvery is of how many beats one carries counters.
	fullEvery = 4
	// goneAfter is for how many beats a node is not heard before it is gone. They are counted
	// by the node's own beats that come back to it: while it stands still or is cut off, nobody is gone.
	goneAfter = 12
	// silentFor is for how long a node is not heard before that is said of it. Without a connection of this node's it
	// is said at once, for as long as there is none.
	silentFor = goneAfter * pulse / 2
	// forgottenAfter is after how many beats a node that is gone is forgotten.
	forgottenAfter = 1200
)

// settledAfter is after how many more beats what was sent before a beat is certain to have come.
const settledAfter = 2

// counters has a counter for each bucket.
type counters [buckets]uint64

// beatVersion is the version of the format of what nodes send each other.
const beatVersion = 1

const (
	beatFull     = 1 << iota // with counters and description
	beatStarting             // the node is not sure of its name yet
	beatEnd                  // the last one; full
	beatWelcome              // the beat that was last sent, for a node that has just come
)

// beat is what a node says of itself.
type beat struct {
	flags byte
	node  uint64
	begun uint64 // when the node did, in ns: tells a node from an earlier one with its number
	seq   uint64 // the first is 1
	conns uint64 // connections that the node has had to its servers

	// Of a full one.
	counters counters
	described
}

// described is a node's description.
type described struct {
	Name   string          `json:"name"`
	Server string          `json:"server"` // the one that it is connected to
	Info   engine.NodeInfo `json:"info"`
}

func (b *beat) is(flag byte) bool { return b.flags&flag != 0 }

// appendBeat appends a beat to dst:
//
//	version, kind, flags   1 byte each
//	node                   8 bytes
//	begun, seq, conns      uvarints
//	counters               256 uvarints, of a full one
//	description            JSON, of a full one
func appendBeat(dst []byte, b *beat) []byte {
	dst = append(dst, beatVersion, kindBeat, b.flags)
	dst = binary.LittleEndian.AppendUint64(dst, b.node)
	dst = binary.AppendUvarint(dst, b.begun)
	dst = binary.AppendUvarint(dst, b.seq)
	dst = binary.AppendUvarint(dst, b.conns)
	if !b.is(beatFull) {
		return dst
	}
	dst = appendCounters(dst, &b.counters)
	text, _ := json.Marshal(b.described) // ignored: it consists of strings and numbers
	return append(dst, text...)
}

func appendCounters(dst []byte, c *counters) []byte {
	for _, n := range c {
		dst = binary.AppendUvarint(dst, n)
	}
	return dst
}

var errBeat = errors.New("nats: malformed message of a node")

// parseBeat reads what follows version and kind.
func parseBeat(b []byte) (out *beat, err error) {
	if len(b) < 9 {
		return nil, errBeat
	}
	out = &beat{flags: b[0], node: binary.LittleEndian.Uint64(b[1:])}
	r := reader{rest: b[9:]}
	out.begun, out.seq, out.conns = r.uvarint(), r.uvarint(), r.uvarint()
	if out.is(beatFull) {
		out.counters = r.counters()
		if !r.bad && json.Unmarshal(r.rest, &out.described) != nil {
			r.bad = true
		}
	}
	if r.bad || out.node == 0 {
		return nil, errBeat
	}
	return out, nil
}

func (r *reader) counters() (c counters) {
	for i := range c {
		c[i] = r.uvarint()
	}
	return c
}

// run is the newest messages of a node in a bucket that came without one missing between them.
// The channels of a bucket are all in one lane, which owns it.
type run struct{ first, last uint64 }

func (r *run) add(counter uint64) {
	if counter != r.last+1 {
		r.first = counter
	}
	r.last = counter
}

// lost reports whether some of the messages after counter from, up to counter to, did not come.
func (r *run) lost(from, to uint64) bool {
	return to > from && (r.first > from+1 || r.last < to)
}

// peer is a node as another one, or it itself, hears it.
type peer struct {
	beat             // the newest one; its counters and description are of the newest full one
	live   bool      // it is heard, and has not ended
	missed bool      // it is not, and whether something was missed is not clear
	heard  uint64    // own beats that had come back by the newest beat
	last   time.Time // when the newest beat came
	known  bool      // counters have come
	at     uint64    // the beat that counters came with or after
	before counters  // older ones: what came before them has all arrived, or is in a gap

	doubt  string // cause; "" for none
	doubts int    // how often there was a cause
	asked  int    // doubts when it was asked for its counters; 0 while it is not asked
}

// doubted notes a cause to doubt that all messages came.
func (p *peer) doubted(cause string) {
	if p.doubts++; p.doubt == "" {
		p.doubt = cause
	}
}

// newPeer returns the peer whose first beat this is. Unless everything from its beginning was heard,
// or nothing was missed because there was nobody yet to miss it, it is doubtful.
func newPeer(b *beat, fromItsBeginning, nobodyYet bool) *peer {
	p := &peer{beat: *b, live: true}
	p.counters = counters{}
	switch {
	case fromItsBeginning:
		p.now(&b.counters)
	case nobodyYet:
		p.first(b)
	default:
		p.doubted(engine.GapSilent)
	}
	return p
}

// first takes the counters from which messages matter.
func (p *peer) first(b *beat) {
	if b.is(beatFull) {
		p.described, p.before = b.described, b.counters
		p.now(&b.counters)
	}
}

// take takes a beat of a peer that is known. It reports whether it is a new one.
func (p *peer) take(b *beat, nobodyYet bool) bool {
	if nobodyYet && !p.known && b.seq >= p.seq {
		p.first(b)
	}
	if b.seq <= p.seq {
		return false
	}
	switch {
	case b.conns != p.conns:
		p.doubted(engine.GapPublisher)
	case b.seq != p.seq+1, !p.live:
		p.doubted(engine.GapSilent)
	}
	p.live, p.missed = true, false
	p.flags, p.seq, p.conns = b.flags, b.seq, b.conns
	if p.doubt == "" && b.seq >= p.at+settledAfter {
		p.before = p.counters
	}
	if b.is(beatFull) {
		p.described = b.described
		if p.doubt == "" {
			p.now(&b.counters)
		}
	}
	return true
}

// now notes counters as those of the newest beat.
func (p *peer) now(c *counters) { p.counters, p.at, p.known = *c, p.seq, true }
