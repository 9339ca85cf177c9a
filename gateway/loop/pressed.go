package loop

import (
	"math"
	"time"
)

// A full log stops its publishers, so a subscriber that holds it back must go on, or go. The channel
// presses the groups whose cursors are too low.
//
// A client that reads all the time can still be behind by half a log when many
// publishers flood it at once. Their publications wait; so it is given a moment to
// catch up, in which the sockets are tried again and again, before it is cut. The
// moment is short, because everybody on the channel waits with it; but it is longer
// than one lost segment takes TCP, and the same segment lost twice (200 and 400 ms
// on Linux), in which the socket of the best reader takes nothing. Whose socket had
// taken nothing for as long when the log became full has had its moment, and is
// dismissed at once.
//
// The grace grows with the log: the same rate of bytes is asked for. Those that take some of
// it have four times as long, as far as all are behind alike: then the publishers are faster than the machine, or its
// uplink. A few that others wait for are cut at its end, or when a few have held the channel back
// for too long in all (channel.Reader.Holds). Once that time is used up, the others are cut when
// they are tried again, and one that has never got on since its socket refused bytes at once. That counts
// as if it had had its grace, so that those who come again and again find the time used up.
const (
	pressGrace = time.Second
	pressRetry = 20 * time.Millisecond
	pressMost  = 16 * time.Second // half of what the loop's clock can tell
	pressTakes = 4
	pressBytes = 256 << 10 // of a log for each pressGrace
)

// grace is for how long a subscriber may take nothing while it holds the log back. It is longer for
// a log that holds more than it usually may, because a large frame went in alone.
func (g *Group) grace() time.Duration {
	head, limit := g.Log().Head(), g.loop.cfg.ChannelBuffer
	if behind := int(head - min(g.low, head)); behind > limit {
		return min(pressGrace*time.Duration(4*behind/limit), pressMost)
	}
	return min(max(pressGrace, pressGrace*time.Duration(limit/pressBytes)), pressMost)
}

// relieve makes the log free up to the pressed cursor: laggards below it are
// tried once more, and cut when their sockets still refuse at the end of the grace.
func (g *Group) relieve() {
	g.loop.readClock() // others' grace begins now, and not when this batch did
	now := g.loop.time
	if g.pressedAt.IsZero() {
		g.pressedAt = now
	}
	g.sweeping = true // leavers leave holes
	if below := g.retry(nil); below > 0 {
		hold, grace, held := g.Holds(below, now), g.grace(), now.Sub(g.pressedAt)
		all := hold.Over || hold.Few >= grace || held >= pressTakes*grace
		slow := func(c *Conn) bool {
			if all || held >= grace && c.stoodStill(grace) {
				return true
			}
			if hold.Spent && !c.has(bitTook) {
				g.Charge(pressGrace)
				return true
			}
			return false
		}
		if all || held >= grace || hold.Spent {
			below = g.retry(slow)
		}
		if below > 0 && !all {
			g.notBefore = now.Add(pressRetry)
		}
	}
	g.low = math.MaxUint64
	for i := range g.subs {
		if s := &g.subs[i]; s.c != nil {
			g.low = min(g.low, s.cursor)
		}
	}
	g.sweeping = false
}

// retry tries the sockets of those below the pressed cursor, as many as a turn may, cuts those that still
// refuse and are found too slow, and counts those that are left. slow may be nil.
func (g *Group) retry(slow func(c *Conn) bool) (below int) {
	tried := 0
	for i := 0; i < len(g.subs); i++ { // not range: subs is nil when the last one has left
		s := &g.subs[i]
		c := s.c
		if c == nil || s.cursor >= g.pressed {
			continue
		}
		if tried < g.loop.turnWrites {
			tried++
			c.stepPressed(s, g, slow)
		}
		if s.c != nil && s.cursor < g.pressed {
			below++
		}
	}
	return below
}

// stepPressed tries a subscriber below the pressed cursor once more, and cuts it if its socket
// still refuses and it is found too slow.
func (c *Conn) stepPressed(s *sub, g *Group, slow func(c *Conn) bool) {
	defer c.contain()
	took := c.bits & bitTook
	if c.write(); c.has(bitBlocked) {
		c.bits = c.bits&^bitTook | took // there may be a little room before a socket is writable, whoever reads
	}
	if slow != nil && s.c != nil && s.cursor < g.pressed && c.has(bitBlocked) && slow(c) {
		c.tooSlow(g)
	}
	c.Settle()
}

// letGo ends the press: no subscriber of the group holds the log back.
func (g *Group) letGo() {
	if g.pressed > 0 {
		g.LetsGo(g.loop.time)
	}
	g.pressed, g.pressedAt = 0, time.Time{}
}

// dismissal is one pass over a group's subscribers for a pressed cursor. It goes on
// from sweep to sweep call; a sweep has one for each cursor that it meets.
type dismissal struct {
	pressed uint64
	next    int
	low     uint64 // lowest cursor seen
	some    bool   // somebody was tried
}

// dismiss closes those below a pressed cursor that are far behind and have had their grace
// already, when their sockets still refuse. They are not owed the end of a sweep, for
// which a busy loop can take long while publishers wait. It makes so many writes at
// most, and counts them. A sweep is under way.
func (g *Group) dismiss(pressed uint64, writesMax int) (writes int) {
	d := &g.dismissal
	if d.pressed != pressed {
		*d = dismissal{pressed: pressed, low: math.MaxUint64}
	}
	if d.next >= len(g.subs) {
		return 0
	}
	grace := g.grace()
	for ; d.next < len(g.subs); d.next++ { // not range: subs is nil when the last one has left
		s := &g.subs[d.next]
		if c := s.c; c != nil && s.blocked && s.cursor < pressed && c.stoodStill(grace) && g.FarBehind(s.cursor) {
			if writes == writesMax {
				return writes
			}
			writes++
			d.some = true
			c.stepDismiss(s, g, grace)
		}
		if s.c != nil {
			d.low = min(d.low, s.cursor)
		}
	}
	if d.some && len(g.subs) > 0 {
		g.low = d.low
		g.serve(d.low)
	}
	return writes
}

// stepDismiss tries a subscriber that stood still once more, and cuts it.
func (c *Conn) stepDismiss(s *sub, g *Group, grace time.Duration) {
	defer c.contain()
	c.write()
	if s.c != nil && c.stoodStill(grace) {
		c.tooSlow(g)
	}
	c.Settle()
}
