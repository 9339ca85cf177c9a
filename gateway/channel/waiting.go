package channel

// Publishers that were refused wait in the order they arrived. They are called only as far
// as there is room, so that none is woken to be refused again: the first of them
// when the readers have let go of half the log, the next ones as long as what they are
// about to publish fits beside what those called before them will, and beside the
// rate. What a publisher was called for is kept for it until it publishes or is
// forgotten; meanwhile another may publish only where there is room for that as well.
//
// Invariant: while somebody waits, the turn is taken, or a publisher was called, or a log is
// starved, or the space's Trim will look (the rate, the budget). Each of them calls
// the next.
//
// Rejected: to wake all (1,600 publishers of 60 KiB each made 263,000 attempts for 1,600
// publications), and to wake one at a time (a wake-up of a loop for each tiny message).

// calledMost bounds the publishers that are called at a time.
const calledMost = 32

// waiting is a refused publisher.
type waiting struct {
	w      Waiter
	bytes  int  // that it needs in a log, as far as is known
	rated  bool // it counts against the channel's rate
	called bool
	strict bool // it was called and refused again: no other may pass it any more
}

// admitLocked refuses w's publication of n bytes, and lets it wait, where it may not have
// the turn yet.
func (c *Channel) admitLocked(p *Publication, n int, w Waiter) error {
	rated := p.Kind == KindMessage
	err := c.refusalLocked(n, rated, p.At, c.calledLocked(w) >= 0)
	if err != nil {
		c.waitLocked(w, n, rated)
		if w != nil && err == ErrRate {
			c.limited = true
			c.holdLocked()
		}
	}
	return err
}

// refusalLocked says why a publication may not have the turn, nil where it may.
func (c *Channel) refusalLocked(n int, rated bool, at int64, called bool) error {
	if !called && len(c.waiters) > 0 {
		bytes := 0
		for i := range c.waiters {
			x := &c.waiters[i]
			switch {
			case !rated && x.rated && !x.called && c.limited:
				continue // what does not count against the rate passes those that wait for it
			case !x.called, x.strict, rated && !c.space.rates.Load().publications.None(): // a rate is shared in turn
				return c.reasonLocked()
			}
			bytes += x.bytes + entryBytes
		}
		for _, l := range c.logs {
			if bytes > 0 && !l.besideLocked(bytes, n) {
				return c.reasonLocked()
			}
		}
	}
	switch {
	case c.turn.Load():
		return ErrTurn
	case rated && c.rate.Left(c.space.rates.Load().publications, at) <= 0:
		return ErrRate
	}
	return nil
}

// reasonLocked says what publishers wait for.
func (c *Channel) reasonLocked() error {
	switch {
	case c.limited:
		return ErrRate
	case c.turn.Load():
		return ErrTurn
	}
	return ErrFull
}

// calledLocked returns the place of a called publisher, -1 for none.
func (c *Channel) calledLocked(w Waiter) int {
	if w == nil {
		return -1
	}
	for i, n := 0, c.called; n > 0; i++ {
		if x := &c.waiters[i]; x.called {
			if x.w == w {
				return i
			}
			n--
		}
	}
	return -1
}

// waitLocked notes a refused publisher; one that was called keeps its place.
func (c *Channel) waitLocked(w Waiter, bytes int, rated bool) {
	if w == nil {
		return
	}
	if i := c.calledLocked(w); i >= 0 {
		x := &c.waiters[i]
		x.called, x.strict, x.bytes = false, true, bytes
		c.called--
		return
	}
	c.waiters = append(c.waiters, waiting{w: w, bytes: bytes, rated: rated})
}

// removeLocked takes a waiting publisher off the list. Mostly it is one of the first.
func (c *Channel) removeLocked(i int) {
	if c.waiters[i].called {
		c.called--
	}
	copy(c.waiters[1:i+1], c.waiters[:i])
	c.waiters[0] = waiting{}
	if c.waiters = c.waiters[1:]; len(c.waiters) == 0 {
		c.waiters = nil
	}
}

// Waiting returns the number of publishers that wait, including those that were called but
// have not published yet.
func (c *Channel) Waiting() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.waiters)
}

// Forget removes a publisher that was refused and no longer waits, or was called and does
// not publish.
func (c *Channel) Forget(w Waiter) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forgetLocked(w)
}

func (c *Channel) forgetLocked(w Waiter) {
	for i := range c.waiters {
		if c.waiters[i].w == w {
			c.removeLocked(i)
			c.callLocked()
			return
		}
	}
}

// release is called by a reader that has served more while a publisher waits.
func (c *Channel) release(l *Log) {
	c.mu.Lock()
	defer c.mu.Unlock()
	l.freeLocked()
	if l.usedLocked() <= l.limit/2 {
		c.callAgainLocked()
	}
}

// callAgainLocked calls publishers where the budget may have more to give.
func (c *Channel) callAgainLocked() {
	c.broke = false
	c.callLocked()
}

// callLocked calls the publishers that there is room for, in order.
func (c *Channel) callLocked() {
	if c.turn.Load() {
		return // its end calls
	}
	for _, l := range c.logs {
		l.starved.Store(false)
	}
	c.limited = false
	c.broke = c.broke && len(c.waiters) > 0
	left := c.rate.Left(c.space.rates.Load().publications, c.rate.At())
	bytes := 0 // due to those that are called
	for i := range c.waiters {
		x := &c.waiters[i]
		switch {
		case x.called:
		case c.called >= calledMost:
			return
		case x.rated && left <= 0:
			c.limited = true
			c.holdLocked()
			continue // what comes behind may not count
		case c.broke && bytes > 0, !c.roomForLocked(bytes, x.bytes):
			return
		default:
			x.called, c.broke = true, false
			c.called++
			x.w.Released()
		}
		bytes += x.bytes + entryBytes
		if x.rated {
			left--
		}
	}
}

// roomForLocked reports whether every log has room for n bytes beside those that are due to
// publishers that were called. Where nobody was, and a log has none, its readers are
// pressed.
func (c *Channel) roomForLocked(due, n int) bool {
	for _, l := range c.logs {
		if due > 0 && !l.besideLocked(due, n) || due == 0 && !l.waitForRoomLocked(n, c.broke) {
			return false
		}
	}
	return true
}

// endWaitLocked calls all waiting publishers: the channel has ended, and they learn it when
// they try.
func (c *Channel) endWaitLocked() {
	for i := range c.waiters {
		if x := &c.waiters[i]; !x.called {
			x.w.Released()
		}
	}
	c.waiters, c.called = nil, 0
}
