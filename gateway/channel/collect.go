package channel

import "slices"

// A reply that lists publications needs them as they are, and not as frames of a log's
// format: Collect returns copies.

// Bounds are the limits of a Collect, which ends with the publication that reaches one.
type Bounds struct {
	Count int // publications; negative for no bound
	Bytes int // of payloads and extras; 0 for no bound
}

// Collected is what a channel's history holds since a position.
type Collected struct {
	// Publications in their order, copies that belong to the caller.
	Publications []Publication
	// Gap, More, From and To as in Recalled.
	Gap, More bool
	From, To  Position
	// Newest is the position of the channel's newest publication at that moment.
	Newest Position
}

// Collect returns the history since a position, and the cursor in the reader's log where live
// delivery continues after Newest. Both are determined while the channel's lock is held once, so
// that no publication lies between the two and none is in both, unless More or Gap is set.
func (r *Reader) Collect(ask Ask, most Bounds, now int64) (_ Collected, live uint64) {
	c := r.log.channel
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.collectLocked(ask, most, now), r.log.head.Load()
}

// Collect returns the history since a position. now, in the unit of Publication.At, decides what
// has expired.
func (c *Channel) Collect(ask Ask, most Bounds, now int64) Collected {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.collectLocked(ask, most, now)
}

// CollectBack returns the history before the publication at a position, newest first; with
// AskNow, all of it. Gap reports that the position is of another epoch.
func (c *Channel) CollectBack(ask Ask, most Bounds, now int64) Collected {
	c.mu.Lock()
	defer c.mu.Unlock()
	ask = c.inEpoch(ask)
	r := c.positionLocked(ask, now)
	out := Collected{From: ask.At, Newest: r.To, Gap: ask.Kind == AskSince && ask.At.Epoch != c.epoch}
	if ask.Kind != AskSince {
		out.From = r.To
	}
	h := &c.history
	end := h.end
	if ask.Kind == AskSince && !out.Gap && ask.At.Offset > 0 {
		if end = h.after(ask.At.Offset); end > h.first && h.at(end-1).offset == ask.At.Offset {
			end--
		}
	}
	var held int
	var s Scratch
	for ; end > h.first; end-- {
		if out.full(most, held) {
			out.More = true
			break
		}
		held += out.add(c.keptLocked(end-1, &s))
	}
	if n := len(out.Publications); n > 0 {
		out.To = Position{c.epoch, out.Publications[n-1].Offset}
	}
	return out
}

// Collect returns the history of a channel after a position, or before it if back is set; all of it
// if since is nil, and with a Count of 0 only Newest. ok is false if since is of another epoch than
// the channel's. It makes no channel: that could cost others their history.
func (s *Space) Collect(name string, since *Ask, back bool, most Bounds, now int64) (out Collected, ok bool) {
	ask := Ask{Kind: AskNewest, N: 1 << 30}
	if since != nil {
		ask = *since
	} else if back {
		ask = Ask{Kind: AskNow}
	}
	switch c := s.Find(name); {
	case c == nil:
		out.Newest = s.Next(name)
	case back:
		out = c.CollectBack(ask, most, now)
	default:
		out = c.Collect(ask, most, now)
	}
	return out, ask.Kind != AskSince || ask.At.Epoch == out.Newest.Epoch
}

func (c *Channel) collectLocked(ask Ask, most Bounds, now int64) Collected {
	r := c.positionLocked(ask, now)
	out := Collected{Gap: r.Gap, From: r.From, To: r.To, Newest: r.To}
	h := &c.history
	first := h.after(r.From.Offset)
	if n := int(h.end - first); n > 0 && most.Count != 0 {
		if most.Count > 0 {
			n = min(n, most.Count)
		}
		out.Publications = make([]Publication, 0, n)
	}
	var held int
	var s Scratch
	for i := first; i < h.end; i++ {
		if out.full(most, held) {
			out.More = true
			break
		}
		held += out.add(c.keptLocked(i, &s))
		out.To.Offset = h.at(i).offset
	}
	if out.More && len(out.Publications) == 0 {
		out.To = out.From
	}
	return out
}

// full reports whether the bounds let nothing more in.
func (o *Collected) full(most Bounds, held int) bool {
	return most.Count >= 0 && len(o.Publications) >= most.Count || most.Bytes > 0 && held >= most.Bytes
}

// add copies a publication, and gives the bytes that it holds.
func (o *Collected) add(p *Publication) int {
	payload, extra := len(p.Payload), len(p.Extra)
	p.Payload, p.Extra = slices.Clone(p.Payload), slices.Clone(p.Extra)
	o.Publications = append(o.Publications, *p)
	return payload + extra
}

// ForgetHistory removes the history. Offsets continue, so that a subscriber that comes back
// with a position is notified of a gap.
func (c *Channel) ForgetHistory() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.history.release(c.offset, c.space.history.Budget)
	if c.remote != nil {
		c.remote.stale = true
	}
}

// Keeps reports whether this node keeps a history for a channel of that name that nobody reads.
func (s *Space) Keeps(name string) bool { return s.Local(name) && s.history.Of(name).Count > 0 }

// Each calls visit with every channel's name and its number of subscriptions on this node. It
// holds no channel's lock meanwhile, but that of a part of the names: visit must be quick.
func (s *Space) Each(visit func(name string, subscribers int)) {
	for i := range s.shards {
		sh := &s.shards[i]
		sh.mu.Lock()
		for name, c := range sh.byName {
			visit(name, c.Subscribers())
		}
		sh.mu.Unlock()
	}
}
