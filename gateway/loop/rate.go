package loop

import (
	"sluice/gateway/rate"

	"github.com/gobwas/ws"
)

// buckets are those of a connection's rates, with bursts of twice as many. Their time is
// that of its last bytes, in seconds of loop time.
type buckets struct {
	messages, control rate.Level
}

// hear notes that the client was heard.
func (c *Conn) hear() { c.pass((*rate.Level).Pass) }

// excuse notes that the client's silence until now was ours.
func (c *Conn) excuse() { c.pass((*rate.Level).Credit) }

// pass lets the time pass since the client was heard.
func (c *Conn) pass(of func(v *rate.Level, l rate.Limit, seconds uint32)) {
	if passed := c.loop.now - c.heard; passed > 0 && c.ext != nil {
		of(&c.ext.levels.control, c.controlRate(), passed)
		of(&c.ext.levels.messages, c.messageRate(), passed)
	}
	c.heard = c.loop.now
}

func (c *Conn) controlRate() rate.Limit { return c.rate(&c.loop.rates.Control) }
func (c *Conn) messageRate() rate.Limit { return c.rate(&c.loop.rates.Message) }

// rate returns the limit that applies to the connection.
func (c *Conn) rate(of *ClientRate) rate.Limit {
	if c.has(bitLocal) {
		return of.Local
	}
	return of.Remote
}

// MayControl counts a control frame; false when there were too many. The answer to a ping is
// not counted.
func (c *Conn) MayControl(op ws.OpCode) bool {
	if op == ws.OpPong && c.loop.asked {
		c.loop.asked = false
		return true
	}
	l := c.controlRate()
	return l.None() || c.extra().levels.control.Take(l)
}

// MayMessage counts a message; false when there were too many.
func (c *Conn) MayMessage() bool {
	l := c.messageRate()
	return l.None() || c.extra().levels.messages.Take(l)
}
