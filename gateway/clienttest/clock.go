package clienttest

import (
	"sync"
	"time"
)

// Clock is a clock that a test sets forward. It runs along with the real one, except between Stop and
// Start. The zero Clock shows the real time.
type Clock struct {
	mu      sync.Mutex
	ahead   time.Duration // guarded by mu
	slow    time.Time     // guarded by mu: since when it runs slowly; zero for never
	stopped time.Time     // guarded by mu: zero while it runs
}

// Now returns the clock's time.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.stopped.IsZero() {
		return c.stopped.Add(c.ahead)
	}
	now := time.Now()
	if !c.slow.IsZero() {
		now = c.slow.Add(now.Sub(c.slow) / slowness)
	}
	return now.Add(c.ahead)
}

// slowness is how many times as long a second of a slow clock is.
const slowness = 20

// Slow lets the clock run slowly: on a machine that does other things as well, a client that reads all
// the time may not come to it for seconds, and is no laggard. It is not for a clock that is stopped.
func (c *Clock) Slow() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.slow = time.Now()
}

// Advance sets the clock forward.
func (c *Clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ahead += d
}

// Stop stops the clock, which then goes on by Advance alone. It reports whether the clock ran.
func (c *Clock) Stop() (ran bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if ran = c.stopped.IsZero(); ran {
		c.stopped = time.Now()
	}
	return ran
}

// Start makes a clock run that was stopped or slow.
func (c *Clock) Start() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.slow = time.Time{}
	if !c.stopped.IsZero() {
		c.ahead -= time.Since(c.stopped)
		c.stopped = time.Time{}
	}
}
