package loop

import (
	"math"
	"time"

	"sluice/gateway/channel"
)

// A subscriber that holds a full log back is too slow. What happens to it is its channel's
// policy: it is closed with 1013, or it continues with the newest publication and is
// notified of a gap, if its wire format can tell that.
//
// Publishers do not wait where positions are given (channel.Channel.Append). There the log is cut instead, and
// a subscriber below the cut whose socket still refuses is overtaken. It leaves the log and catches up from
// the channel's history, as does one whose grace is over. The policy is for those whose history does not
// have everything.

// gapTeller is a wire format in which a subscriber may be notified that it missed something.
type gapTeller interface{ TellsGaps() bool }

// tellsGaps reports whether a subscriber can be told in a format that it missed something.
func tellsGaps(f channel.Format) bool {
	t, ok := f.(gapTeller)
	return ok && t.TellsGaps()
}

// overtake handles the subscribers below the cursor at which the log was cut. One whose socket
// takes bytes is sent what it lacks from what was cut off, unless that is gone.
func (g *Group) overtake(cut uint64) {
	g.sweeping = true // leavers leave holes
	tried := 0
	g.low = math.MaxUint64
	for i := 0; i < len(g.subs); i++ { // not range: subs is nil when the last one has left
		s := &g.subs[i]
		if s.c != nil && s.cursor < cut {
			if _, there := g.View(s.cursor); (s.blocked || !there) && tried < g.loop.turnWrites {
				tried++
				s.c.stepOvertaken(s, g, cut)
			}
		}
		if s.c != nil {
			g.low = min(g.low, s.cursor)
		}
	}
	g.dirty = g.dirty || g.low < cut
	g.sweeping = false
}

// stepOvertaken tries a subscriber below a cut once more, and takes it out of the log if its socket still
// refuses.
func (c *Conn) stepOvertaken(s *sub, g *Group, cut uint64) {
	defer c.contain()
	c.write()
	if s.c != nil && s.cursor < cut {
		if _, there := g.View(s.cursor); !there || c.has(bitBlocked) {
			c.tooSlow(g)
		}
	}
	c.Settle()
}

// tooSlow takes a subscriber out of the log of g, which it holds back or in which it was overtaken.
func (c *Conn) tooSlow(g *Group) {
	if c.Phase != phaseOpen {
		c.Close(ReasonSlow)
		return
	}
	if r := c.Find(g.key.channel); r != nil && r.group == g {
		if _, kept := g.Kept(r.sub().cursor); kept {
			c.goBack(g)
			return
		}
	}
	if tellsGaps(g.Format()) && c.loop.cfg.Skips(g.key.channel) {
		c.protocol().Lagging(c, g)
		return
	}
	c.Close(ReasonSlow)
}

// goBack lets a subscriber catch up from the channel's history when its socket takes bytes again. One of
// several channels, or of a protocol that catches up by itself, is lagging for its protocol.
func (c *Conn) goBack(g *Group) {
	f, ok := g.Format().(Format)
	if !ok || c.Refs() != 1 {
		c.protocol().Lagging(c, g)
		return
	}
	if !c.keepRest(&c.sub) {
		c.kill(ReasonBudget)
		return
	}
	at, _ := g.Kept(c.sub.sub().cursor) // behind that rest
	c.leaveFor(&catchUp{channel: g.key.channel, format: f, ask: channel.Ask{Kind: channel.AskSince, At: at}, begun: true, overtaken: true})
}

// leaveFor takes the connection out of its one channel. It comes back when its socket has taken what was
// begun: at once, if its loop was late and the socket takes bytes.
func (c *Conn) leaveFor(cu *catchUp) {
	c.protocol().Left(c, &c.sub)
	cu.flags = c.sub.sub().flags
	c.beginCatchUp(cu)
	c.loop.leave(c.sub)
	c.sub = Ref{}
	c.mark()
	c.Flush()
}

// SkipAhead ends the connection's one subscription, which begins again when its socket takes bytes
// again: with the newest publication, behind a record of what it missed. A connection with other
// subscriptions is closed.
func (c *Conn) SkipAhead(g *Group) {
	f, ok := g.Format().(Format)
	if !ok || c.Refs() != 1 {
		c.Close(ReasonSlow)
		return
	}
	l := c.loop
	if !c.keepRest(&c.sub) {
		c.kill(ReasonBudget)
		return
	}
	r, live := g.Recall(nil, f, channel.Ask{Kind: channel.AskNow}, 0, l.time.UnixMilli(), &l.encode)
	l.stats.Skips.Add(1)
	l.stats.Dropped[DroppedBySkip].Add(c.unsent(&c.sub, live)) // what comes later is not in r.Taken
	c.leaveFor(&catchUp{channel: g.key.channel, format: f, skipped: g.Log().Channel(), taken: r.Taken})
}

// clockUnit is what the loop's clock counts modulo 256, so that a connection has room
// for it: 32 s. Whoever stands still for longer is, in one second of each 32, taken for
// one that does not, and gets its grace.
const clockUnit = time.Second / 8

// clock counts time as it passes, which loop time does not: a late tick moves it on by 2 s.
func (l *Loop) clock() uint8 { return uint8(l.time.Sub(l.began) / clockUnit) }

// stoodStill reports whether the socket has taken nothing for longer than a grace. A
// connection that is closing is not asked for more than before.
func (c *Conn) stoodStill(grace time.Duration) bool {
	return c.Phase == phaseOpen && c.has(bitBlocked) && time.Duration(c.loop.clock()-c.tookAt) > grace/clockUnit
}

// unsent counts what a subscription has not been sent of its log below a cursor.
func (c *Conn) unsent(r *Ref, to uint64) uint64 {
	if r.noEcho() {
		return r.group.Between(r.sub().cursor, to, c.id)
	}
	return r.group.Between(r.sub().cursor, to, 0)
}
