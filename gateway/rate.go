package gateway

// A bucket bounds a rate: each thing that happens raises its level by one, each
// second lowers it by the rate, and at twice the rate it is full. A connection has
// only the levels; the time is that of its last bytes, in seconds of loop time.

// buckets are the levels of a connection's rates. A level below zero is what it may
// have beside the rate, because it was not read for a while.
type buckets struct {
	messages, control int32
}

// drain lowers a level by what runs out in so many seconds.
func drain(level *int32, rate int, seconds uint32) {
	if *level > 0 {
		*level = int32(max(int64(*level)-int64(rate)*int64(seconds), 0))
	}
}

// credit lowers a level by what would have come in so many seconds in which the
// connection was not read.
func credit(level *int32, rate int, seconds uint32) {
	*level = int32(max(int64(*level)-int64(rate)*int64(seconds), -1<<30))
}

// fill raises a level by one; false when the bucket is full.
func fill(level *int32, rate int) bool {
	if int(*level) >= 2*rate {
		return false
	}
	*level++
	return true
}

// rateMax bounds rates, so that levels hold them.
const rateMax = 1_000_000

// hear notes that the client was heard.
func (c *conn) hear() { c.pass(drain) }

// excuse notes that the client's silence until now was ours.
func (c *conn) excuse() { c.pass(credit) }

// pass lets the levels run out since the client was heard.
func (c *conn) pass(lower func(level *int32, rate int, seconds uint32)) {
	l := c.loop
	if passed := l.now - c.heard; passed > 0 && c.ext != nil {
		lower(&c.ext.levels.control, c.rate(l.cfg.ControlRate, DefaultControlRate), passed)
		lower(&c.ext.levels.messages, c.rate(l.cfg.MessageRate, DefaultMessageRate), passed)
	}
	c.heard = l.now
}

// rate returns the bound that holds for the connection, 0 for none.
func (c *conn) rate(configured, otherwise int) int {
	return rateFor(configured, otherwise, c.has(bitLocal))
}

// mayControl counts a control frame; false when there were too many.
func (c *conn) mayControl() bool {
	rate := c.rate(c.loop.cfg.ControlRate, DefaultControlRate)
	return rate <= 0 || fill(&c.extra().levels.control, rate)
}

// mayMessage counts a message; false when there were too many.
func (c *conn) mayMessage() bool {
	rate := c.rate(c.loop.cfg.MessageRate, DefaultMessageRate)
	return rate <= 0 || fill(&c.extra().levels.messages, rate)
}

// rateFor returns the bound that holds for a client: none for one of this machine,
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
