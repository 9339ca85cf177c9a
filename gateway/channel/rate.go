package channel

import (
	"fmt"

	"sluice/gateway/rate"
)

// ErrRate is returned for a publication beyond its channel's rate. It wraps ErrFull: the next
// Trim calls the Waiter when it may try again.
var ErrRate = fmt.Errorf("%w: too many publications per second", ErrFull)

// LimitRate bounds the publications per second of each channel, and its announced
// subscriptions per second; as many may come at once. 0 means no bound. It can be called at
// any time.
func (s *Space) LimitRate(publications, joins int) {
	s.rates.Store(&rates{rate.PerSecondInMillis(publications, publications), rate.PerSecondInMillis(joins, joins)})
}

// MayJoin counts an announced subscription, or returns false if there were too many.
func (c *Channel) MayJoin(now int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.joins.Left(c.space.rates.Load().joins, now) <= 0 {
		return false
	}
	c.joins.Take(c.space.rates.Load().joins)
	return true
}

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
		c.rate.Left(s.rates.Load().publications, now) // notes the time
		c.callAgainLocked()
		c.mu.Unlock()
	}
}

// rates are the publications and announced joins per second of each channel.
type rates struct{ publications, joins rate.Limit }
