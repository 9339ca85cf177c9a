package loop

import (
	"math/rand/v2"
	"time"
)

// A drain closes all connections of a loop, at a pace, so that their clients do not all come back at once: in random
// order, spread evenly over a time. That is how loops stop (Set.Stop), and how those that have handed their connections
// over let go of the ones that cannot travel (Giving.Given).
//
// It goes through the loop's list, which is shuffled before, from the end: a connection that ends has its place taken by
// the last one, which was closed already. So it needs no list of its own, and whatever ends meanwhile costs no turn.
//
// Its pace is a pacer's: what a loop that was late has missed is made up for a little, and not in a burst. It pauses while
// closes take so long that they back up. That may take longer than was planned: when there is no time left, hurry lets
// everybody go.
type drain struct {
	why   Reason
	pacer pacer
	total int // connections at the beginning
	left  int // connections before it are not closed yet
	turn  alarm
}

const (
	// drainBehind is how long a close may take on average before a drain pauses. The connections that are being
	// closed are as many as begin in that time.
	drainBehind = 2 * time.Second
	// hurryMost is how much of the time for stopping is left when the rest is closed at once.
	hurryMost = 2 * time.Second
)

// stop is posted at shutdown: every client is closed with the reason, after what was published before.
type stop struct {
	over time.Duration // 0: all at once
}

// Deliver begins to close the loop's connections, unless they are being closed already.
func (s stop) Deliver(l *Loop) {
	if l.drain == nil {
		l.beginDrain(ReasonShutdown, s.over)
	}
}

// hurry is posted when there is no more time for a pace.
type hurry struct{}

// Deliver closes the connections that are left at once.
func (hurry) Deliver(l *Loop) {
	if l.drain != nil {
		l.drain.pacer.over = 0
	}
}

// abort is posted when the time for shutting down is over.
type abort struct{}

// Deliver ends the loop's connections at once.
func (abort) Deliver(l *Loop) {
	for len(l.conns) > 0 {
		l.conns[len(l.conns)-1].step(func(c *Conn) { c.kill(ReasonShutdown) })
	}
}

// beginDrain begins to close the connections.
func (l *Loop) beginDrain(why Reason, over time.Duration) {
	d := &drain{why: why, pacer: pacer{over: over}, total: len(l.conns), left: len(l.conns)}
	l.drain = d
	l.stats.Draining.Store(int64(d.total))
	if over <= 0 {
		return
	}
	d.pacer.begin(l.time, d.total)
	random := rand.New(rand.NewPCG(uint64(l.time.UnixNano()), uint64(l.index)))
	random.Shuffle(len(l.conns), func(i, j int) {
		l.conns[i], l.conns[j] = l.conns[j], l.conns[i]
		l.due[i], l.due[j] = l.due[j], l.due[i]
		l.conns[i].slot, l.conns[j].slot = int32(i), int32(j)
	})
	l.checked = 0 // those that are due have moved
}

// drainSome closes the connections that have a turn.
func (l *Loop) drainSome() {
	d := l.drain
	for n := 0; n < l.turnWrites; {
		if d.left = min(d.left, len(l.conns)); d.left == 0 {
			return
		}
		if c := l.conns[d.left-1]; c.Phase == phaseOpen {
			if d.pacer.over > 0 && l.stats.Closing.Load() >= d.behind() {
				d.pacer.pause(l.time)
				d.turn.in(l, paceStep, drainTurn{})
				return
			}
			if !d.pacer.take(l.time, d.total) {
				d.turn.in(l, d.pacer.wait(d.total), drainTurn{})
				return
			}
			n++
			c.step((*Conn).drain)
		}
		d.left--
	}
	l.poller.Wake()
}

// behind returns how many connections may be on their way out.
func (d *drain) behind() int64 {
	return int64(d.pacer.rate(d.total) * drainBehind.Seconds())
}

func (c *Conn) drain() {
	c.Close(c.loop.drain.why)
	c.Settle()
}

// drainTurn is posted when there may be a turn.
type drainTurn struct{}

// Deliver lets the loop look who has one.
func (drainTurn) Deliver(l *Loop) { l.drain.turn.set = false }

// ComesBack reports whether the client of a connection that ends is expected elsewhere: it was told to come back, or the
// connection broke, or was too slow to be told, while all are being closed.
func (c *Conn) ComesBack() bool {
	if c.Phase == phaseOpen {
		return false
	}
	switch c.reason {
	case ReasonClientGone, ReasonReset, ReasonWriteTimeout, ReasonSlow, ReasonPendingFull, ReasonBudget:
		return c.loop.drain != nil
	}
	return reasons[c.reason].back
}

// Drain is how far the closing of all connections has come.
type Drain struct {
	Total   int64 // connections when it began; 0 before
	Open    int64 // connections that it has not come to
	Closing int64 // connections that are being closed
}

// Drain returns how far stopping has come.
func (s *Set) Drain() (d Drain) {
	for _, l := range s.loops {
		closing := l.stats.Closing.Load()
		d.Total += l.stats.Draining.Load()
		d.Closing += closing
		d.Open += max(l.stats.Connections.Load()-closing, 0) // the two are not read at once
	}
	return d
}
