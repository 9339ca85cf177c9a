package nats

import (
	"encoding/binary"
	"sync/atomic"

	"sluice/gateway/engine"
)

// What a node concludes from the beats of others: who is live, who has a name, and what may be lost
// (beat.go). All of it runs on the goroutine of nodes.

// heard takes a beat.
func (n *nodes) heard(b *beat) {
	if b.node != n.cfg.id && b.is(beatFull) && b.Name == n.cfg.name && n.conflict(b) {
		return
	}
	p := n.peers[b.node]
	if p != nil && b.begun > p.begun { // another process with the same number
		n.gone(p)
		n.miss(p)
		delete(n.peers, b.node)
		p = nil
	}
	switch {
	case p == nil && (b.is(beatEnd) || len(n.peers) >= peersMost):
		return
	case p == nil:
		p = newPeer(b, b.seq == 1 && !b.is(beatWelcome), n.starting)
		n.peers[b.node] = p
		n.count()
	case b.begun < p.begun || !p.take(b, n.starting):
		return
	}
	p.heard, p.last = n.echoes, n.cfg.now()
	if b.node == n.cfg.id {
		n.echoed()
	}
	if b.is(beatEnd) {
		n.settle(p, &b.counters)
		n.gone(p)
		p.missed = false
		return
	}
	if b.is(beatStarting) && !b.is(beatWelcome) && b.node != n.cfg.id {
		n.beat(beatFull|beatWelcome, n.subjectOf(b.node))
	}
	n.count()
	n.resolve(p)
}

// conflict settles which of two nodes has a name. It reports whether the other one is not to be
// heard because it will not stay.
func (n *nodes) conflict(b *beat) (ignore bool) {
	first := n.begun < b.begun || n.begun == b.begun && n.cfg.id < b.node
	switch {
	case b.is(beatEnd):
	case b.is(beatStarting) && !n.starting, b.is(beatStarting) && first:
		if !b.is(beatWelcome) {
			n.beat(beatFull|beatWelcome, n.subjectOf(b.node)) // from which it learns that the name is taken
		}
		return true
	case n.starting: // which it says until it ends: with another beat it would seem to have the name
		if !n.ending {
			n.ending = true
			n.named <- nameTaken(n.cfg.name)
		}
	case !first && n.seq < nameDoubtful && n.cfg.nameTaken != nil && !n.ending:
		n.ending = true
		n.cfg.nameTaken()
	case n.peers[b.node] == nil:
		n.cfg.logger.Error("two live nodes have the same name", "name", b.Name)
	}
	return false
}

// nameDoubtful is for how many beats a node may learn that its name is taken.
const nameDoubtful = 20

// echoed notes that an own beat came back, and what was not heard for so many of them is gone.
func (n *nodes) echoed() {
	if n.echoes++; n.echoes == 1 {
		n.cfg.after(n.cfg.hello, func() { // others have heard of it, and had time to object
			if n.starting && !n.ending {
				n.starting = false
				n.named <- nil
			}
		})
	}
	for id, p := range n.peers {
		switch silent := n.echoes - p.heard; {
		case p.live && silent > goneAfter:
			n.gone(p)
			n.miss(p)
		case p.missed && silent%goneAfter == 0:
			n.miss(p)
		case silent > forgottenAfter:
			delete(n.peers, id)
			delete(n.questions, id)
			n.forget(id)
		}
	}
}

// gone notes that a node is not live any more.
func (n *nodes) gone(p *peer) {
	p.live, p.missed = false, true
	n.asks.lost(p.node)
	n.count()
}

// miss asks the others about a node that is not heard any more. While one of them hears it, it may come
// back. If one has heard it longer than this node has, something was missed.
func (n *nodes) miss(p *peer) {
	n.ask(askHeard, binary.LittleEndian.AppendUint64(nil, p.node), n.others(), func(answers []reply, missing int) {
		if !p.missed {
			return // it is back
		}
		lost := p.doubt != "" || missing > 0
		for _, a := range answers {
			r := reader{rest: a.data}
			live, seq := r.uvarint(), r.uvarint()
			if live == 1 {
				return
			}
			lost = lost || r.bad || seq > p.seq
		}
		p.missed, p.doubt = false, ""
		if lost {
			n.check = true
			n.cfg.lanes.interrupted(&everyBucket, engine.GapGone)
		}
	})
}

var everyBucket = func() (all [buckets]bool) {
	for i := range all {
		all[i] = true
	}
	return all
}()

// count counts the live nodes.
func (n *nodes) count() {
	live := int64(1)
	for id, p := range n.peers {
		if p.live && id != n.cfg.id {
			live++
		}
	}
	n.live.Store(live)
}

// resolve asks a node in doubt for its counters.
func (n *nodes) resolve(p *peer) {
	if p.doubt == "" || p.asked > 0 || !p.live || n.ending {
		return
	}
	doubts := p.doubts
	p.asked = doubts
	n.ask(askCounters, nil, []uint64{p.node}, func(answers []reply, missing int) {
		if p.asked != doubts || n.peers[p.node] != p {
			return
		}
		if p.asked = 0; len(answers) == 0 {
			return // again with the next beat
		}
		r := reader{rest: answers[0].data}
		now := r.counters()
		if r.bad || p.doubt == "" {
			return
		}
		cause := p.doubt
		if n.settle(p, &now); doubts != p.doubts { // there was a cause while the answer was on its way
			p.doubt = cause
			n.resolve(p)
		}
	})
}

// settle ends the doubts about a node whose counters are these.
func (n *nodes) settle(p *peer, now *counters) {
	if p.doubt == "" {
		return
	}
	cause, from, to := p.doubt, p.before, *now
	p.doubt = ""
	p.now(now)
	n.check = true
	if to == from {
		return
	}
	runs := (*n.runs.Load())[p.node]
	if runs == nil {
		runs = n.grow(p.node)
	}
	var affected [buckets]bool // each lane writes its own
	var left atomic.Int64
	left.Store(-1)
	n.cfg.lanes.behind(func(lane, lanes int) {
		for i := range runs {
			if laneOfBucket(i, lanes) == lane {
				affected[i] = runs[i].lost(from[i], to[i])
			}
		}
		left.CompareAndSwap(-1, int64(lanes))
		if left.Add(-1) == 0 && affected != [buckets]bool{} {
			n.cfg.lanes.interrupted(&affected, cause)
		}
	})
}
