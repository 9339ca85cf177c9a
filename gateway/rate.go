package gateway

import "sluice/gateway/rate"

// buckets are those of a connection's rates, with bursts of twice as many. Their time is
// that of its last bytes, in seconds of loop time.
type buckets struct {
	messages, control rate.Level
}

// hear notes that the client was heard.
func (c *conn) hear() { c.pass((*rate.Level).Pass) }

// excuse notes that the client's silence until now was ours.
func (c *conn) excuse() { c.pass((*rate.Level).Credit) }

// pass lets the time pass since the client was heard.
func (c *conn) pass(of func(v *rate.Level, l rate.Limit, seconds uint32)) {
	if passed := c.loop.now - c.heard; passed > 0 && c.ext != nil {
		of(&c.ext.levels.control, c.controlRate(), passed)
		of(&c.ext.levels.messages, c.messageRate(), passed)
	}
	c.heard = c.loop.now
}

func (c *conn) controlRate() rate.Limit {
	return c.rate(c.loop.cfg.ControlRate, DefaultControlRate)
}

func (c *conn) messageRate() rate.Limit {
	return c.rate(c.loop.cfg.MessageRate, DefaultMessageRate)
}

// rate returns the limit that applies to the connection.
func (c *conn) rate(configured, otherwise int) rate.Limit {
	n := rateFor(configured, otherwise, c.has(bitLocal))
	return rate.PerSecond(n, 2*n)
}

// mayControl counts a control frame; false when there were too many.
func (c *conn) mayControl() bool {
	l := c.controlRate()
	return l.None() || c.extra().levels.control.Take(l)
}

// mayMessage counts a message; false when there were too many.
func (c *conn) mayMessage() bool {
	l := c.messageRate()
	return l.None() || c.extra().levels.messages.Take(l)
}

// rateFor returns the rate that applies to a client: none to one of this machine, unless it
// was asked for.
func rateFor(configured, otherwise int, local bool) int {
	switch {
	case configured > 0:
		return configured
	case configured < 0, local:
		return 0
	}
	return otherwise
}
