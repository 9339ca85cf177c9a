package gateway

import (
	"time"

	"sluice/gateway/channel"
)

// Whoever holds a full log back is too slow. What becomes of it is its channel's
// policy: it is closed with 1013, or it goes on with the newest publication and is
// told that there is a gap, where its wire format can tell that.

// skips reports whether slow subscribers of a channel skip.
func (c *Config) skips(name string, f channel.Format) bool {
	if f, ok := f.(gapTeller); !ok || !f.TellsGaps() {
		return false
	}
	for _, r := range c.SlowPolicy {
		if matches(r.Pattern, name) {
			return r.Skip
		}
	}
	return false
}

// matches reports whether a pattern, in which * stands for any run of bytes, fits a
// name. It takes time in proportion to the product of their lengths at most.
func matches(pattern, name string) bool {
	star, from := -1, 0 // the last star, and where what it stands for ends as far as was tried
	p, n := 0, 0
	for n < len(name) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, from = p, n
			p++
		case p < len(pattern) && pattern[p] == name[n]:
			p++
			n++
		case star >= 0:
			from++
			p, n = star+1, from
		default:
			return false
		}
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}

// tooSlow does what the policy says with a subscriber of g that holds its log back.
func (c *conn) tooSlow(g *group) {
	if !g.skips || c.phase != phaseOpen {
		c.close(reasonSlow)
		return
	}
	c.protocol().lagging(c, g)
}

// skipAhead takes the connection out of its one channel, where it goes on with the newest
// publication, behind a record that says what it missed, when its socket takes bytes again.
func (c *conn) skipAhead(g *group) {
	f, ok := g.key.format.(format)
	if !ok || c.refs() != 1 {
		c.close(reasonSlow)
		return
	}
	l := c.loop
	if !c.keepRest(&c.sub) {
		c.kill(reasonBudget)
		return
	}
	head := g.Log().Head()
	l.stats.skips.Add(1)
	l.stats.dropped[droppedBySkip].Add(c.unsent(&c.sub))
	cu := &catchUp{channel: g.key.channel, format: f, skipped: true, last: channel.Place{Epoch: g.Log().Channel().Epoch(), Offset: g.Offset(g.Find(head - 1))}}
	l.leave(c.sub)
	c.sub = ref{}
	c.output().catch = cu // it comes back when its socket has taken what was begun
	c.mark()
}

// clockUnit is what the loop's clock counts modulo 256, so that a connection has room
// for it: 32 s. Whoever stands still for longer is, in one second of each 32, taken for
// one that does not, and gets its grace.
const clockUnit = time.Second / 8

// clock counts real time, which ticks do not: a late one moves loop time on by 2 s.
func (l *loop) clock() uint8 { return uint8(time.Since(l.began) / clockUnit) }

// stoodStill reports whether the socket has taken nothing for longer than a grace. A
// connection that is closing is not asked for more than before.
func (c *conn) stoodStill(grace time.Duration) bool {
	return c.phase == phaseOpen && c.has(bitBlocked) && time.Duration(c.loop.clock()-c.tookAt) > grace/clockUnit
}

// unsent counts what a subscription has not been sent of its log.
func (c *conn) unsent(r *ref) uint64 {
	g := r.group
	pos, head := g.subs[r.index].pos, g.Log().Head()
	if pos == head {
		return 0
	}
	first, end := g.Find(pos), g.Find(head)
	n := end - first
	if c.has(bitNoEcho) {
		for i := first; i < end; i++ {
			if _, from := g.Entry(i); from == c.id {
				n--
			}
		}
	}
	return n
}
