package gateway

// A bucket bounds a rate: each thing that happens raises its level by one, each
// second lowers it by the rate, and at twice the rate it is full. A connection has
// only the level; the time is that of its last bytes, in seconds of loop time,
// which are all that it needs.

// drain lowers a bucket's level by what runs out in so many seconds.
func drain[T uint8 | uint32](level *T, rate int, seconds uint32) {
	*level -= T(min(uint64(*level), uint64(max(rate, 0))*uint64(seconds)))
}

// fill raises a bucket's level by one; false when it is full. A rate of 0 is no bound.
func fill[T uint8 | uint32](level *T, rate int) bool {
	if rate <= 0 {
		return true
	}
	if int(*level) >= 2*rate {
		return false
	}
	*level++
	return true
}

// hear notes that the client was heard, or that its silence until now was ours.
func (c *conn) hear() {
	l := c.loop
	if passed := l.now - c.heard; passed > 0 {
		drain(&c.control, c.rate(l.cfg.ControlRate, DefaultControlRate), passed)
		if c.ext != nil {
			drain(&c.ext.messages, c.rate(l.cfg.MessageRate, DefaultMessageRate), passed)
		}
	}
	c.heard = l.now
}

// rate gives the bound that holds for the connection, 0 for none.
func (c *conn) rate(configured, otherwise int) int {
	return rateFor(configured, otherwise, c.has(bitLocal))
}

// mayControl counts a control frame; false when there were too many.
func (c *conn) mayControl() bool {
	return fill(&c.control, c.rate(c.loop.cfg.ControlRate, DefaultControlRate))
}

// mayMessage counts a message; false when there were too many.
func (c *conn) mayMessage() bool {
	rate := c.rate(c.loop.cfg.MessageRate, DefaultMessageRate)
	return rate <= 0 || fill(&c.extra().messages, rate)
}

// rateFor gives the bound that holds for a client: none for one of this machine,
// unless it was asked for.
func rateFor(configured, otherwise int, local bool) int {
	switch {
	case configured > 0:
		return configured
	case configured < 0, local:
		return 0
	}
	return otherwise
}
