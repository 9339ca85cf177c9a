package channel

import (
	"fmt"
	"math"
)

// ErrRate is returned for a publication beyond its channel's rate. It wraps ErrFull: the next
// Trim calls the Waiter when it may try again.
var ErrRate = fmt.Errorf("%w: too many publications per second", ErrFull)

// LimitRate bounds the publications per second of each channel, and its announced
// subscriptions per second; as many may come at once. 0 means no bound. Call it before
// anything else.
func (s *Space) LimitRate(rate, joins int) { s.rate, s.joinRate = rate, joins }

// MayJoin counts an announced subscription, or returns false if there were too many.
func (c *Channel) MayJoin(now int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.joins.left(c.space.joinRate, now) <= 0 {
		return false
	}
	c.joins.take()
	return true
}

// A bucket holds what a channel may still have, in thousandths of a publication: a
// rate of r a second brings r of them in a millisecond.
type bucket struct {
	spent int64
	at    int64 // Unix milliseconds of the last look
}

// left returns how many publications a channel may have now. A clock that goes back brings
// nothing.
func (b *bucket) left(rate int, now int64) int {
	if rate <= 0 {
		return math.MaxInt
	}
	switch {
	case now > b.at:
		b.spent = max(b.spent-min(now-b.at, 1000)*int64(rate), 0)
		b.at = now
	case now < b.at-1000: // not just another publisher's clock
		b.at = now
	}
	return rate - int((b.spent+999)/1000)
}

// take takes one.
func (b *bucket) take() { b.spent += 1000 }

// holdLocked notes that publishers of c wait because of the rate.
func (c *Channel) holdLocked() {
	if c.held {
		return
	}
	c.held = true
	s := c.space
	s.heldMu.Lock()
	defer s.heldMu.Unlock()
	s.held = append(s.held, c)
}

// letGo calls publishers that were held back, as many as the rate allows at that time.
func (s *Space) letGo(now int64) {
	s.heldMu.Lock()
	held := s.held
	s.held = nil
	s.heldMu.Unlock()
	for _, c := range held {
		c.mu.Lock()
		c.held = false
		c.rate.left(s.rate, now)
		c.callAgainLocked()
		c.mu.Unlock()
	}
}
