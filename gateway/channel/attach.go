package channel

import (
	"errors"
	"slices"
)

// Remote channels. In a remote space (Space.Remote) an engine orders and keeps the publications of
// some or all channels somewhere else, and answers later. A remote channel is opened by the first subscriber that prepares it
// and ends with its last reader and its last holder. It is attaching until the engine has reported
// epoch and head (Attached): nobody reads it meanwhile, so there is no log, and what is appended is
// kept for its history. That history begins at the head. What is below comes once, from the engine
// (Filled), when the first subscriber asks for it: a subscriber never joins an engine's history to a
// cursor in a log, but waits, holding nothing in any log, until the channel's own history has
// what it asks for as far as anybody has. Then it takes both under one hold of the channel's lock,
// as in a local channel.
//
// Where the engine keeps nothing of a channel, it may know no more of its head than an upper bound, which
// differs between nodes: a subscriber from another node may have a position above the channel's newest
// and has missed nothing. Filled reports up to where that is so.
//
// What the node has missed is a gap: what the history has kept would no longer be complete and is
// dropped, to be filled again, and each log gets an entry there (Log.mark). Another epoch is
// a reset, and likewise.
//
// Rejected: reading cursors while the engine answers (its slowness would hold back the log and
// make good readers slow), and after it (publications would be missing between the two).

// ErrAttaching is returned if a remote channel is joined that is not prepared.
var ErrAttaching = errors.New("channel: channel is not attached")

// Attacher is the engine of a remote space. Its methods are called from any goroutine and under no
// lock, and must not wait.
type Attacher interface {
	// Attach is called once for each Channel, when it was opened: Attached or Failed answers.
	Attach(*Channel)
	// Detach is called once for each Channel, when it has ended.
	Detach(*Channel)
	// Fill asks for the publications below those that the channel has: Filled or Failed answers, when
	// all that the engine has at the time of the call was appended.
	Fill(*Channel)
}

// Holder is a subscriber that waits for a channel to be prepared.
type Holder interface {
	// Prepared is called when the channel is ready or, with an error, has failed, from any goroutine
	// and under the channel's lock: it must only post.
	Prepared(err error)
}

// attachment is what a remote channel has beside others. It is guarded by the channel's
// lock.
type attachment struct {
	asked    bool // Attach was called, or is about to be
	attached bool
	holders  map[Holder]hold // nil while there are none: most channels have none, and a map is large

	early      []Publication // appended while attaching
	earlyBytes int

	filled  bool   // the history has what the engine has, as far as its bounds allow
	filling bool   // Fill was called and is not answered
	stale   bool   // what it will be answered with does not fit the history any more
	below   uint64 // the history's floor when Fill was called
	head    uint64 // where the engine's order was when the channel joined it, perhaps above its newest
	upTo    uint64 // up to that offset of its epoch the engine has nothing more than the channel has
}

// hold is what a holder has prepared.
type hold struct {
	ask   *Ask
	waits bool // Prepared is due
	fill  bool // it is when the Fill that was called is answered
}

// Remote makes channels of the space attach to an engine: those for whose names of returns true, which it
// always returns for the same names, or all if it is nil. It comes before anything else.
func (s *Space) Remote(a Attacher, of func(name string) bool) { s.attacher, s.remote = a, of }

// Local reports whether channels of that name are not remote.
func (s *Space) Local(name string) bool {
	return s.attacher == nil || s.remote != nil && !s.remote(name)
}

// Prepare makes a channel ready for a subscriber that asks for that position: attached, with as much
// of its history as there is. If it is not ready, w.Prepared is called when it is. Unless there was
// an error, w holds the channel until it is released, and joins it before; the ask must not change until then.
// Local channels are always ready.
func (s *Space) Prepare(name string, ask *Ask, w Holder) (ready bool, err error) {
	if s.Local(name) {
		return true, nil
	}
	sh, c, err := s.open(name)
	if err != nil {
		return false, err
	}
	c.mu.Lock()
	a := c.remote
	attach := !a.asked
	a.asked = true
	ready = a.attached && !c.lacksLocked(*ask)
	if a.holders == nil {
		a.holders = make(map[Holder]hold, 1)
	}
	a.holders[w] = hold{ask: ask, waits: !ready}
	fill := a.attached && !ready && !a.filling
	if fill {
		c.fillLocked()
	}
	c.mu.Unlock()
	sh.mu.Unlock()
	if attach {
		s.attacher.Attach(c)
	}
	if fill {
		s.attacher.Fill(c)
	}
	return ready, nil
}

// Release ends what w has prepared in a channel, whether it has become ready or not.
func (s *Space) Release(name string, w Holder) {
	if s.Local(name) {
		return
	}
	if c := s.release(name, w); c != nil {
		s.attacher.Detach(c)
	}
}

// release returns the channel if it has ended.
func (s *Space) release(name string, w Holder) *Channel {
	sh := s.shard(name)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	c := sh.byName[name]
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.remote.dropLocked(w)
	return s.endUnheldLocked(sh, c)
}

// dropLocked forgets a holder.
func (a *attachment) dropLocked(w Holder) {
	if delete(a.holders, w); len(a.holders) == 0 {
		a.holders = nil
	}
}

// endUnheldLocked ends a remote channel that nobody reads or holds, and returns it then. Its lock
// and its shard's are held.
func (s *Space) endUnheldLocked(sh *shard, c *Channel) *Channel {
	if len(c.logs) > 0 || len(c.remote.holders) > 0 {
		return nil
	}
	s.end(sh, c)
	return c
}

// lacksLocked reports whether the engine may have publications that are asked for and that the
// history does not have. A subscriber may come from a node that is ahead of this one.
func (c *Channel) lacksLocked(ask Ask) bool {
	switch ask = c.inEpoch(ask); {
	case c.keep.Count <= 0 || ask.Kind == AskNow:
		return false
	case ask.Kind == AskSince && ask.At.Epoch == c.epoch && ask.At.Offset > c.reachesLocked():
		return true
	case c.remote.filled:
		return false
	case ask.Kind == AskNewest:
		return c.history.len() < min(ask.N, c.keep.Count)
	}
	return ask.At.Epoch != c.epoch || ask.At.Offset < c.history.floor
}

// reachesLocked returns the offset up to which subscribers of the channel miss nothing, at the newest
// or above.
func (c *Channel) reachesLocked() uint64 {
	if c.remote == nil {
		return c.offset
	}
	return max(c.offset, c.remote.upTo)
}

// Attached reports where the engine's order is: at its newest publication, or above it if all that
// comes later is above that, too. Whatever was appended before and is not above that was in it. On a channel
// that is attached already, this is a gap if it is above the channel's newest, and a reset if the epoch is
// another.
func (c *Channel) Attached(at Position) {
	if c.attach(at) {
		c.space.attacher.Fill(c)
	}
}

// Order returns where the channel is in the engine's order, if it is attached: another process may have attached it.
func (c *Channel) Order() (at Position, attached bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return Position{c.epoch, c.offset}, c.remote.attached
}

// attach reports whether Fill is to be called.
func (c *Channel) attach(at Position) (fill bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	a := c.remote
	if c.dead {
		return false
	}
	if a.attached {
		c.followLocked(at)
		return false
	}
	a.attached = true
	early := a.early
	a.early, a.earlyBytes = nil, 0
	c.epoch, c.offset, c.history.floor, a.head = at.Epoch, at.Offset, at.Offset, at.Offset
	if i := slices.IndexFunc(early, func(p Publication) bool { return p.Epoch == at.Epoch }); i > 0 {
		early = early[i:] // what came first is of an epoch before
	}
	for i := range early {
		if p := &early[i]; c.orderLocked(p) {
			c.takeLocked(p)
		}
	}
	return c.callHoldersLocked(false)
}

// callHoldersLocked calls those for whom the channel has become ready, because it was filled or
// anyhow, and reports whether Fill is to be called for others.
func (c *Channel) callHoldersLocked(filled bool) (fill bool) {
	a := c.remote
	for w, h := range a.holders {
		switch {
		case !h.waits:
		case !(filled && h.fill) && c.lacksLocked(*h.ask):
			fill = true
		default:
			a.holders[w] = hold{}
			w.Prepared(nil)
		}
	}
	if fill {
		c.fillLocked()
	}
	return fill
}

// fillLocked notes that Fill is called for everybody who waits.
func (c *Channel) fillLocked() {
	a := c.remote
	a.filling, a.stale, a.below = true, false, c.history.floor
	for w, h := range a.holders {
		if h.waits && !h.fill {
			h.fill = true
			a.holders[w] = h
		}
	}
}

// Filled answers a Fill: pubs are all that the engine keeps above floor, which is the position of the
// newest publication that it does not keep. What it had when Fill was called was appended before; the channel
// takes what is below that, and copies it. Up to the position upTo the engine has nothing more than the
// channel has now: it is that of the engine's newest, or above it if all that comes later is above that, too.
func (c *Channel) Filled(pubs []Publication, floor, upTo Position) {
	if c.fill(pubs, floor, upTo) {
		c.space.attacher.Fill(c)
	}
}

// fill reports whether Fill is to be called again.
func (c *Channel) fill(pubs []Publication, floor, upTo Position) (again bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	a := c.remote
	if c.dead || !a.filling {
		return false
	}
	a.filling = false
	if a.stale { // there was a gap or a reset
		return c.callHoldersLocked(false)
	}
	// Where the history has dropped something meanwhile, nothing older is kept.
	if floor.Epoch == c.epoch && c.history.floor == a.below {
		c.history.fill(pubs, floor.Offset, c.keep, &c.space.history)
	}
	a.filled = floor.Epoch == c.epoch // else a reset is on its way
	if upTo.Epoch == c.epoch {
		a.upTo = max(a.upTo, upTo.Offset)
	}
	return c.callHoldersLocked(true)
}

// Failed answers an Attach or a Fill with an error, which everybody who waits gets. The next
// Prepare tries again.
func (c *Channel) Failed(err error) {
	if c.space.fail(c, err) {
		c.space.attacher.Detach(c)
	}
}

// fail reports whether the channel has ended.
func (s *Space) fail(c *Channel, err error) bool {
	sh := s.shard(c.name)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	a := c.remote
	if c.dead || a.attached && !a.filling {
		return false
	}
	a.filling = false
	for w, h := range a.holders {
		if h.waits {
			a.dropLocked(w)
			w.Prepared(err)
		}
	}
	return s.endUnheldLocked(sh, c) != nil
}

// orderLocked reports whether p, whose position was given, is next in the channel's order. One that is
// at or below the head is not, nor is what has no position of its own to be appended: a gap that the
// engine reports, and whatever comes while the channel is attaching, which is kept. What is
// missing before p is a gap. It changes nothing if called again for the same publication.
func (c *Channel) orderLocked(p *Publication) bool {
	switch {
	case c.remote != nil && !c.remote.attached:
		c.keepEarlyLocked(p)
		return false
	case p.Kind == KindGap && p.Epoch == c.epoch:
		c.missLocked(KindGap, Position{c.epoch, max(p.Prev, c.offset)})
		return false
	case p.Kind == KindGap || p.Kind == KindReset:
		c.missLocked(KindReset, Position{p.Epoch, p.Prev})
		return false
	case p.Offset == 0:
		return true
	}
	if p.Epoch != c.epoch || p.Prev > c.offset {
		c.followLocked(Position{p.Epoch, p.Prev})
	}
	if p.Offset <= c.offset {
		c.space.repeated.Add(1)
		return false
	}
	return true
}

// followLocked brings the channel's order to where the engine's is, where that is another one or
// further: what is between is missing.
func (c *Channel) followLocked(at Position) {
	if at.Epoch != c.epoch {
		c.missLocked(KindReset, at)
	} else if at.Offset > c.offset {
		c.missLocked(KindGap, at)
	}
}

// missLocked notes that publications up to a position are missing. Its epoch is another one after a reset.
func (c *Channel) missLocked(kind Kind, at Position) {
	if at != (Position{c.epoch, c.offset}) {
		if a := c.remote; a != nil {
			a.filled, a.stale, a.head = false, true, at.Offset
			if at.Epoch != c.epoch {
				a.upTo = 0
			}
		}
		c.epoch, c.offset = at.Epoch, at.Offset
		c.history.forget(at.Offset)
	}
	for _, l := range c.logs {
		l.markLocked(kind, at.Offset)
		l.missed = min(l.missed, 1) // the others are in this one
	}
}

// takeLocked makes p the newest of the channel's order.
func (c *Channel) takeLocked(p *Publication) {
	c.offset = p.Offset
	if !c.history.add(p, c.keep, &c.space.history) {
		c.space.historyStarved.Store(true)
	}
}

// keepEarlyLocked keeps what was appended while the channel is attaching. Where that is too much, the
// history begins at the newest.
func (c *Channel) keepEarlyLocked(p *Publication) {
	if p.Offset == 0 {
		return // for present subscribers, of which there are none
	}
	a, kept := c.remote, *p
	kept.Payload, kept.Extra = nil, nil
	if c.keep.Count > 0 {
		kept.Payload, kept.Extra = slices.Clone(p.Payload), slices.Clone(p.Extra)
	}
	n := len(kept.Payload) + len(kept.Extra) + HistoryEntryBytes
	if a.earlyBytes+n > 2*c.space.limit || c.keep.Count <= 0 {
		a.early, a.earlyBytes = nil, 0
	}
	a.early, a.earlyBytes = append(a.early, kept), a.earlyBytes+n
}
