package channel

// Publishing. A publication's offset is part of its encoded bytes, and encoding takes
// long where messages are large or formats many. So a channel has one publisher at a
// time: the one that has the turn. It reads the offset and the formats in use under
// the channel's lock, encodes without it, and takes the lock again to append. Who
// joins, leaves, reads a history or releases room only takes the lock, which is never
// held for an encoding. A publisher that finds the turn taken is refused as one that
// finds a log full: it waits as a Waiter (waiting.go), never on a mutex.
//
// Rejected: encoding under the lock (a message of 10 MiB in four formats held it, and
// with it a part of all channels' names, for 650 ms); offsets of fixed width that are
// patched in (JSON allows no leading zeros, and compressed bytes cannot be patched); a
// mutex for the turn (a loop would stand still for another's encoding).

// turnSpins is how often a publisher looks whether the turn is free before it waits:
// up to about a microsecond, in which most encodings end.
const turnSpins = 500

// scratchKeep is the capacity above which a Scratch is let go after use.
const scratchKeep = 1 << 20

// growthMost is how many bytes a format may make of one: a control character in a JSON
// string takes six.
const growthMost = 6

// Scratch is where publications are encoded before they are appended. Each
// publishing goroutine has its own. The zero Scratch is ready for use.
type Scratch struct {
	// Limit, where it is not 0, bounds what messages may encode to in all formats
	// together: one that may take more is refused with ErrLarge.
	Limit int

	buf     []byte
	frames  []encoded
	order   []int       // of the channel's logs: their places in frames
	counted int         // bytes of buf that the space counts
	kept    Publication // of a history, on its way to a format
	late    bool        // kept is to be encoded without the lock
}

// encoded is a publication in one format: bytes of a Scratch.
type encoded struct {
	format     Format
	done       bool
	start, end int
}

// Publish assigns p its offset, adds it to the history and appends it to the log of every
// format in use. It never waits for a subscriber or for another publisher: if a log is full
// or another publisher has the turn, it returns an ErrFull and changes nothing, and w, if
// not nil, is called when it is worth trying again. It allocates nothing once s and the
// history have grown to the size of what is published.
func (c *Channel) Publish(p *Publication, s *Scratch, w Waiter) (Receipt, error) {
	for i := 0; i < turnSpins && c.turn.Load(); i++ {
	}
	if err := c.takeTurn(p, s, w); err != nil {
		return Receipt{}, err
	}
	passed := false
	defer func() {
		if !passed { // a format has panicked
			c.mu.Lock()
			defer c.mu.Unlock()
			c.passTurnLocked(w)
		}
		s.letGo(c.space)
	}()
	for {
		s.encode(p, c.space)
		if r, err, done := c.append(p, s, w); done {
			passed = true
			return r, err
		}
	}
}

// takeTurn makes w's publication the one at work, and says in which formats it has to
// be encoded.
func (c *Channel) takeTurn(p *Publication, s *Scratch, w Waiter) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead {
		return ErrGone
	}
	n := len(p.Payload) + len(p.Extra)
	if s.Limit > 0 && p.Kind == KindMessage && n*growthMost*len(c.logs) > s.Limit {
		c.forgetLocked(w)
		return ErrLarge
	}
	if err := c.admitLocked(p, n, w); err != nil {
		return err
	}
	p.Channel, p.Epoch, p.Offset, p.Prev = c.name, c.epoch, 0, 0
	if p.ordered() {
		p.Offset, p.Prev = c.offset+1, c.offset
	}
	c.beginLocked(s)
	return nil
}

// beginLocked begins a turn with the formats in use.
func (c *Channel) beginLocked(s *Scratch) {
	c.turn.Store(true)
	s.buf, s.frames = s.buf[:0], s.frames[:0]
	for _, l := range c.logs {
		s.frames = append(s.frames, encoded{format: l.format})
	}
}

// encode encodes p in the formats that are not done yet.
func (s *Scratch) encode(p *Publication, space *Space) {
	for i := range s.frames {
		f := &s.frames[i]
		if f.done {
			continue
		}
		f.start = len(s.buf)
		s.buf = f.format.Append(s.buf, p)
		f.end, f.done = len(s.buf), true
		if n := cap(s.buf); n > scratchKeep {
			space.encoding.Add(int64(n - s.counted))
			s.counted = n
		}
	}
}

// letGo releases a large buffer.
func (s *Scratch) letGo(space *Space) {
	if s.counted > 0 {
		space.encoding.Add(-int64(s.counted))
		s.buf, s.counted = nil, 0
	}
}

// find returns the place of a format in frames, which is mostly that of the log; -1 for a
// format that is not there.
func (s *Scratch) find(f Format, likely int) int {
	if likely < len(s.frames) && s.frames[likely].format == f {
		return likely
	}
	for i := range s.frames {
		if s.frames[i].format == f {
			return i
		}
	}
	return -1
}

// matchLocked finds the frames of the channel's logs. It returns false if formats have joined that
// were not encoded.
func (c *Channel) matchLocked(s *Scratch) bool {
	s.order = s.order[:0]
	known := len(s.frames)
	for i, l := range c.logs {
		at := s.find(l.format, i)
		if at < 0 {
			at = len(s.frames)
			s.frames = append(s.frames, encoded{format: l.format})
		}
		s.order = append(s.order, at)
	}
	return len(s.frames) == known
}

// append ends the turn: p is appended to all logs, or w waits. Where formats have
// joined meanwhile it is not done: the turn goes on until p is encoded in them too. A
// format that has left is left out.
func (c *Channel) append(p *Publication, s *Scratch, w Waiter) (r Receipt, err error, done bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.matchLocked(s) {
		return Receipt{}, nil, false
	}
	defer c.passTurnLocked(w)
	if c.dead {
		return Receipt{}, ErrGone, true
	}
	if err := c.makeAllRoomLocked(p, s, w); err != nil {
		return Receipt{}, err, true
	}
	if p.Kind == KindMessage {
		c.rate.Take(c.space.rates.Load().publications)
		c.taken++
	}
	if p.ordered() {
		c.offset++
		if !c.history.add(p, c.keep, &c.space.history) {
			c.space.historyStarved.Store(true)
		}
	}
	for i, l := range c.logs {
		if f := &s.frames[s.order[i]]; f.end > f.start {
			l.appendLocked(s.buf[f.start:f.end], c.offset, p.From)
		}
	}
	return Receipt{Epoch: c.epoch, Offset: p.Offset, Subscribers: c.Subscribers()}, nil, true
}

// makeAllRoomLocked makes room in every log: a publication is in all formats or in none.
func (c *Channel) makeAllRoomLocked(p *Publication, s *Scratch, w Waiter) error {
	alone := 0 // bytes that all logs would take with nothing else in them
	for i, l := range c.logs {
		f := &s.frames[s.order[i]]
		n := f.end - f.start
		if n == 0 {
			continue
		}
		alone += grown(0, ringBytesMin, n) + ringEntriesMin*entryBytes
		if n+entryBytes > largeFrames*l.limit || alone > int(l.budget.limit) {
			return ErrTooBig
		}
		if !l.makeRoomLocked(n, w != nil || len(c.waiters) > 0) {
			c.broke = w != nil && l.allowsLocked(n) // the budget refuses it
			c.waitLocked(w, n, p.Kind == KindMessage)
			return ErrFull
		}
	}
	return nil
}

// passTurnLocked passes the turn on, after w's publication was taken, was refused for good
// or panicked; where it waits again it has its place already. Others are called.
func (c *Channel) passTurnLocked(w Waiter) {
	c.turn.Store(false)
	if len(c.waiters) == 0 {
		return
	}
	if i := c.calledLocked(w); i >= 0 {
		c.removeLocked(i)
	}
	c.callLocked()
}
