package edge

import (
	"os"
	"slices"
	"sync/atomic"
	"time"

	"sluice/gateway/edge/admit"
)

// What one address can have of the few places that all share. Its share bounds the TLS
// handshakes that run at a time, so that others find room beside them; who comes on top
// waits for a turn, in order. As long as it waits it has cost nothing but its place.

// sharePlaces is the share of an address. One with more than half of all connections
// may have half of the places: it is most probably a balancer that is not listed.
const sharePlaces = 8

// share returns the share of an address in so many places.
func (s *Server) share(seat admit.Seat, places int) int {
	if s.admission.Majority(seat) {
		return max(sharePlaces, places/2)
	}
	return sharePlaces
}

// holder is an address that has places in the handshake stage. Guarded by the stage's mu.
type holder struct {
	key     admit.Key
	places  int
	running int          // TLS handshakes, not finished
	queue   []*greeting  // greetings that wait for a turn, in order
	since   time.Time    // when it had no place
	whole   atomic.Int64 // Unix nanoseconds: when the place was taken of one that has become a whole request
}

// fruitless reports whether an address has kept several places for a while and made
// nothing of them.
func (h *holder) fruitless(now time.Time) bool {
	return h.places > 1 && now.Sub(h.since) > secureTurn && now.Sub(time.Unix(0, h.whole.Load())) > secureTurn
}

// hopelessLocked reports whether it would be wrong to wait for a place for g, because
// everybody behind it would wait too: most places are waited for, and its address is one
// of those that make nothing of theirs.
func (st *stage) hopelessLocked(g *greeting, now time.Time) bool {
	h := st.holderLocked(g)
	return h != nil && h.fruitless(now) && 2*st.waiting.Len() >= st.places && !g.door.server.admission.Majority(g.seat)
}

// known reports whether it is settled who the client is: not before a listed proxy has
// named it.
func (g *greeting) known() bool { return g.proxied == notProxied || g.told }

// holderLocked finds g's address among those that have places, or gives nil.
func (st *stage) holderLocked(g *greeting) *holder {
	if g.holder != nil {
		return g.holder
	}
	if k, ok := admit.KeyOf(g.client.Addr()); ok && g.known() {
		return st.addresses[k]
	}
	return nil
}

// heldLocked returns the number of places of g's address.
func (st *stage) heldLocked(g *greeting) int {
	if h := st.holderLocked(g); h != nil {
		return h.places
	}
	return 0
}

// know counts g's place for the address that a proxy has named.
func (g *greeting) know() {
	st := g.door.server.stage
	st.mu.Lock()
	defer st.mu.Unlock()
	if !g.evicted {
		st.knowLocked(g)
	}
}

// knowLocked counts g's place for its address, once it is known.
func (st *stage) knowLocked(g *greeting) {
	k, ok := admit.KeyOf(g.client.Addr())
	if !ok || !g.known() {
		return
	}
	h := st.addresses[k]
	if h == nil {
		h = &holder{key: k, since: g.entered}
		st.addresses[k] = h
	}
	h.places++
	g.holder = h
}

// forgetLocked takes g's place off its address's.
func (st *stage) forgetLocked(g *greeting) {
	h := g.holder
	if h == nil {
		return
	}
	if g.queued {
		g.queued = false
		h.queue = slices.DeleteFunc(h.queue, func(q *greeting) bool { return q == g })
	}
	st.finishLocked(g)
	g.holder = nil
	if h.places--; h.places == 0 {
		delete(st.addresses, h.key)
	}
}

// begin waits until g's TLS handshake may run. errEvicted: its place was needed.
func (g *greeting) begin() error {
	st := g.door.server.stage
	st.mu.Lock()
	h := g.holder
	switch {
	case st.closed || g.evicted:
		st.mu.Unlock()
		return errEvicted
	case h == nil || h.running < g.door.server.share(g.seat, st.places):
		g.begun = h != nil
		if h != nil {
			h.running++
		}
		st.mu.Unlock()
		return nil
	}
	g.turn, g.queued = make(chan struct{}), true
	h.queue = append(h.queue, g)
	g.place = st.waiting.PushBack(g)
	st.changed.Signal()
	st.mu.Unlock()

	t := time.NewTicker(secureShort)
	defer t.Stop()
	for {
		select {
		case <-g.turn:
			if !g.hurry() {
				return errEvicted
			}
			return nil
		case now := <-t.C:
			if now.After(g.until) {
				return os.ErrDeadlineExceeded
			}
			st.hasten(g, now)
		}
	}
}

// hasten ends the handshake of g's address that has run for longest, when it has had its
// time and the address finishes nothing, so that g does not wait for one that never ends.
func (st *stage) hasten(g *greeting, now time.Time) {
	st.mu.Lock()
	var victim *greeting
	for e := st.waiting.Front(); e != nil && g.queued && g.holder.fruitless(now); e = e.Next() {
		w := e.Value.(*greeting)
		if w.holder == g.holder && w.begun && w.spared(false, now) <= 0 && (victim == nil || w.entered.Before(victim.entered)) {
			victim = w
		}
	}
	if victim != nil {
		st.evictLocked(victim)
		st.changed.Signal()
	}
	st.mu.Unlock()
	if victim != nil {
		g.door.server.refused(outcomeEvicted, victim.client)
	}
}

// finish gives g's turn to the next of its address.
func (g *greeting) finish() {
	st := g.door.server.stage
	st.mu.Lock()
	defer st.mu.Unlock()
	st.finishLocked(g)
}

func (st *stage) finishLocked(g *greeting) {
	h := g.holder
	if h == nil || !g.begun {
		return
	}
	g.begun = false
	h.running--
	for len(h.queue) > 0 && h.running < g.door.server.share(h.queue[0].seat, st.places) {
		next := h.queue[0]
		h.queue = h.queue[1:]
		h.running++
		next.queued, next.begun = false, true
		next.entered = time.Now() // until now it waited for us
		close(next.turn)
	}
}
