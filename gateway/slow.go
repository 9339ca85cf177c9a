package gateway

import (
	"math"
	"time"

	"sluice/gateway/centrifugo"
	"sluice/gateway/channel"

	"github.com/centrifugal/protocol"
)

// Whoever holds a full log back is too slow. What becomes of it is its channel's
// policy: it is closed with 1013, or it goes on with the newest publication and is
// told that there is a gap, where its wire format can tell that.

// skips tells whether slow subscribers of a channel skip.
func (c *Config) skips(name string, f channel.Format) bool {
	if _, raw := f.(rawFormat); raw {
		return false // its messages carry nothing that could tell a gap
	}
	if f, client := f.(centrifugo.Format); client && f.Uni {
		return false // nor do these
	}
	for _, r := range c.SlowPolicy {
		if matches(r.Pattern, name) {
			return r.Skip
		}
	}
	return false
}

// matches tells whether a pattern, in which * stands for any run of bytes, fits a
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
	if c.speaks() && g.skips && c.phase == phaseOpen {
		c.skipClient(g)
		return
	}
	if !g.skips || c.phase != phaseOpen || c.refs() != 1 {
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
	cu := &catchUp{channel: g.key.channel, format: g.key.format.(format), skipped: true, last: channel.Place{Epoch: g.Log().Channel().Epoch(), Offset: g.Offset(g.Find(head - 1))}}
	l.leave(c.sub)
	c.sub = ref{}
	c.output().catch = cu // it comes back when its socket has taken what was begun
	c.mark()
}

// skipClient takes a client out of a channel for which it is too slow, and tells it that its
// state is not sufficient any more: it subscribes again with its position, and learns whether
// it has missed anything. Where the server subscribed it, it has to connect again.
func (c *conn) skipClient(g *group) {
	for i := range c.refs() {
		r := c.ref(i)
		if r.group != g {
			continue
		}
		if r.sub().flags&refServer != 0 {
			c.close(reasonInsufficient)
			return
		}
		c.loop.stats.skips.Add(1)
		c.drop(i, droppedBySkip)
		delete(c.session().details, g.key.channel)
		c.tell(&protocol.Push{Channel: g.key.channel, Unsubscribe: centrifugo.UnsubscribeInsufficientState})
		return
	}
}

// clockUnit is what the loop's clock counts modulo 256, so that a connection has room
// for it: 32 s. Whoever stands still for longer is, in one second of each 32, taken for
// one that does not, and gets its grace.
const clockUnit = time.Second / 8

// clock counts real time, which ticks do not: a late one moves loop time on by 2 s.
func (l *loop) clock() uint8 { return uint8(time.Since(l.began) / clockUnit) }

// stoodStill tells whether the socket has taken nothing for longer than the grace. A
// connection that is closing is not asked for more than before.
func (c *conn) stoodStill() bool {
	return c.phase == phaseOpen && c.has(bitBlocked) && time.Duration(c.loop.clock()-c.tookAt) > pressGrace/clockUnit
}

// dismiss cuts those below a pressed position who are far behind and have had their grace
// already, when their sockets still refuse. They are not owed the end of a sweep, for
// which a busy loop can take long while publishers wait. It makes so many writes at
// most, and counts them. A sweep is under way.
func (g *group) dismiss(pressed uint64, writesMax int) (writes int) {
	low := uint64(math.MaxUint64)
	for i := 0; i < len(g.subs); i++ { // not range: subs is nil when the last one has left
		s := &g.subs[i]
		if c := s.c; c != nil && s.blocked && s.pos < pressed && writes < writesMax && c.stoodStill() && g.FarBehind(s.pos) {
			writes++
			c.stepDismiss(s, g)
		}
		if s.c != nil {
			low = min(low, s.pos)
		}
	}
	if writes > 0 && len(g.subs) > 0 {
		g.low = low
		g.Served(low)
	}
	return writes
}

// stepDismiss tries a subscriber that stood still once more, and cuts it.
func (c *conn) stepDismiss(s *sub, g *group) {
	defer c.contain()
	c.write()
	if s.c != nil && c.stoodStill() {
		c.tooSlow(g)
	}
	c.settle()
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

// A reader that takes half of what is published never stands still for as long as the
// grace, and would slow everybody on the channel down to its own pace for good. So it
// is counted for how long a loop's subscribers hold the log back. When that is much,
// and others keep up, those who do not are too slow.
type holding struct {
	total time.Duration
	since time.Time // of the last change
}

const (
	// holdingMax is for how long a few may hold a channel back.
	holdingMax = 5 * time.Second
	// holdingFree is not counted of each time: a good reader catches up within it,
	// however fast publishers are.
	holdingFree = 100 * time.Millisecond
	// holdingPardon is how many times as long one must not hold back for what was
	// counted to be forgotten.
	holdingPardon = 4
)

// begins: subscribers begin to hold the log back.
func (h *holding) begins(now time.Time) {
	if !h.since.IsZero() {
		h.total = max(h.total-now.Sub(h.since)/holdingPardon, 0)
	}
}

// ends: they do not any more; they did since begun, if that is not zero.
func (h *holding) ends(begun time.Time) {
	if begun.IsZero() {
		return
	}
	h.since = time.Now()
	h.total += max(h.since.Sub(begun)-holdingFree, 0)
}

// tooLong tells whether it was too long by now, with the present time counted.
func (h *holding) tooLong(present time.Duration) bool {
	return h.total+max(present-holdingFree, 0) >= holdingMax
}

// fewBelow tells whether most subscribers are further than a position: of this loop, or
// all those of another one.
func (g *group) fewBelow(pos uint64) bool {
	below := 0
	for i := range g.subs {
		if s := &g.subs[i]; s.c != nil && s.pos < pos {
			below++
		}
	}
	return 2*below <= len(g.subs)-g.holes || g.OtherServed(pos)
}
