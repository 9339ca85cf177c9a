package gateway

import (
	"math"
	"time"

	"sluice/gateway/channel"
	"sluice/poller"
)

// sub is one connection's subscription, as a sweep walks over it: 24 bytes in a
// dense slice, so that a delivery touches nothing else of the connection.
type sub struct {
	pos uint64 // Invariant: an entry's end in the log, not below what the group has published
	c   *conn  // nil: a hole that a leaver left during a sweep
	fd  int32
	// direct: the socket takes bytes as far as is known, and nothing but this
	// log is due to the connection.
	direct  bool
	blocked bool // the socket refused bytes
}

// group is a loop's subscribers of one channel in one format. It is the loop's
// side of a channel.Reader, and belongs to the loop.
type group struct {
	channel.Reader

	// Set at construction.
	loop *loop
	key  groupKey

	subs  []sub
	holes int // nil places in subs; only while a sweep is under way

	// A sweep goes over all subs once. It may be paused between two of them.
	sweeping bool
	cursor   int    // next sub to look at
	low      uint64 // lowest position seen by this sweep

	queued  bool // in loop.sweeps or loop.delayed
	dirty   bool // another sweep is needed after this one
	pressed uint64
	swept   time.Time // when the last sweep began; kept only for a batch window
}

// Notify implements channel.Subscriber.
func (g *group) Notify() { g.loop.post(g) }

// deliver: the channel has news for the group.
func (g *group) deliver(l *loop) {
	if len(g.subs) == 0 {
		return // everybody left meanwhile
	}
	g.again()
}

// again asks for a sweep.
func (g *group) again() {
	g.dirty = true
	if g.queued {
		return
	}
	g.queued = true
	l := g.loop
	if w := l.cfg.BatchWindow; w > 0 {
		if wait := time.Until(g.swept.Add(w)); wait > 0 {
			l.delay(g, wait)
			return
		}
	}
	l.sweeps = append(l.sweeps, g)
	l.poller.Wake()
}

// delay puts a group off until its batch window is over.
func (l *loop) delay(g *group, wait time.Duration) {
	l.delayed = append(l.delayed, g)
	if l.window == nil {
		l.window = time.AfterFunc(wait, func() { l.post(windowOver{}) })
	} else if len(l.delayed) == 1 {
		l.window.Reset(wait)
	}
}

// windowOver is posted by the loop's window timer.
type windowOver struct{}

func (windowOver) deliver(l *loop) {
	now := time.Now()
	next := time.Duration(math.MaxInt64)
	rest := l.delayed[:0]
	for _, g := range l.delayed {
		if wait := g.swept.Add(l.cfg.BatchWindow).Sub(now); wait > 0 {
			next = min(next, wait)
			rest = append(rest, g)
			continue
		}
		l.sweeps = append(l.sweeps, g)
	}
	clear(l.delayed[len(rest):])
	l.delayed = rest
	if len(rest) > 0 {
		l.window.Reset(next)
	}
}

// join makes c a subscriber of the channel in a format, from its head on.
func (l *loop) join(c *conn, name string, f channel.Format) error {
	key := groupKey{name, f}
	g := l.groups[key]
	if g == nil {
		g = &group{loop: l, key: key}
		if err := l.space.Join(name, f, g, &g.Reader); err != nil {
			return err
		}
		l.groups[key] = g
	}
	r := ref{group: g, index: int32(len(g.subs))}
	g.subs = append(g.subs, sub{pos: g.Log().Head(), c: c, fd: int32(c.FD())})
	if c.sub.group == nil {
		c.sub = r
	} else {
		if c.more == nil {
			c.more = new([]ref)
		}
		*c.more = append(*c.more, r)
	}
	g.Log().Channel().Joined()
	c.mark()
	return nil
}

// leaveAll drops all subscriptions of c.
func (l *loop) leaveAll(c *conn) {
	for i := range c.refs() {
		l.leave(*c.ref(i))
	}
	c.sub, c.more = ref{}, nil
}

// leave takes a sub out of its group. During a sweep it leaves a hole, because
// filling it with the last sub could carry that one past the cursor.
func (l *loop) leave(r ref) {
	g := r.group
	g.Log().Channel().Left()
	g.subs[r.index] = sub{}
	g.holes++
	if !g.sweeping {
		g.fillAt(int(r.index))
	}
	if len(g.subs) == g.holes {
		g.subs, g.holes, g.sweeping, g.dirty = nil, 0, false, false
		delete(l.groups, g.key)
		l.inCore = true
		l.space.Leave(&g.Reader)
		l.inCore = false
	}
}

// fill closes the holes up with subs from the end.
func (g *group) fill() {
	for i := 0; g.holes > 0; i++ {
		if g.subs[i].c == nil {
			g.fillAt(i)
		}
	}
	if cap(g.subs) > 64 && len(g.subs) < cap(g.subs)/4 {
		g.subs = append(make([]sub, 0, len(g.subs)*2), g.subs...)
	}
}

// fillAt closes the hole at i, and those at the end that are in the way.
func (g *group) fillAt(i int) {
	last := len(g.subs) - 1
	for ; last > i && g.subs[last].c == nil; last-- {
		g.holes--
	}
	if last > i {
		g.subs[i] = g.subs[last]
		g.subs[i].c.moved(g, int32(last), int32(i))
	}
	clear(g.subs[last:])
	g.subs = g.subs[:last]
	g.holes--
}

// moved corrects the connection's side of a subscription whose sub has moved.
func (c *conn) moved(g *group, from, to int32) {
	for i := range c.refs() {
		if r := c.ref(i); r.group == g && r.index == from {
			r.index = to
			return
		}
	}
}

// sweep goes on with the group's sweep, or begins one, for about so many
// writes, and counts those it made.
func (g *group) sweep(writesMax int) (writes int) {
	if len(g.subs) == 0 {
		g.dirty = false
		return 0
	}
	l := g.loop
	if !g.sweeping {
		g.begin()
	}
	log := g.Log()
	head := log.Head()
	var (
		from    = uint64(math.MaxUint64) // where the bytes below begin
		to      uint64
		bytes   []byte // nil where they wrap
		entries uint64
		taken   uint64 // deliveries and bytes of the writes made here
		sent    uint64
		direct  uint64
	)
	for g.cursor < len(g.subs) && writes < writesMax {
		s := &g.subs[g.cursor]
		g.cursor++
		if s.c == nil {
			continue
		}
		switch {
		case s.pos == head || s.blocked:
		case s.direct:
			if s.pos != from {
				from = s.pos
				to = g.Fit(from, head, corkBytes)
				a, b := log.Bytes(from, to)
				if bytes = a; b != nil {
					bytes = nil
				}
				entries = g.Find(to) - g.Find(from)
			}
			if bytes == nil {
				c := s.c
				writes += c.write()
				c.settle()
				break
			}
			n, err := poller.Write(int(s.fd), bytes)
			writes++
			direct++
			if n == len(bytes) {
				s.pos = to
				sent += uint64(n)
				taken += entries
				if to != head {
					g.dirty = true
				}
				break
			}
			c := s.c
			if err != nil {
				c.kill(reasonReset)
			} else {
				c.took(s, g, to, n)
				c.settle()
			}
		default:
			c := s.c
			writes += c.write()
			c.settle()
		}
		if s.c != nil {
			g.low = min(g.low, s.pos)
		}
	}
	l.stats.writes.Add(direct)
	l.stats.bytesOut.Add(sent)
	l.stats.deliveries.Add(taken)
	if g.sweeping && g.cursor >= len(g.subs) {
		g.end()
	}
	return max(writes, 1)
}

// begin starts a sweep. The notification is cleared before the head is read,
// so that whatever is appended later notifies again.
func (g *group) begin() {
	g.dirty = false
	g.pressed = max(g.pressed, g.Clear())
	g.sweeping, g.cursor, g.low = true, 0, math.MaxUint64
	if g.loop.cfg.BatchWindow > 0 {
		g.swept = time.Now()
	}
	g.loop.stats.sweeps.Add(1)
}

// end closes a sweep: everybody whose socket took bytes is served as far as the
// log went. Now the log can be released, and whoever holds it back is slow by
// his own socket's doing.
func (g *group) end() {
	g.sweeping = false
	if g.pressed > g.low && !g.dirty {
		g.relieve()
	}
	if len(g.subs) == g.holes {
		return // the last one left, and the group with him
	}
	g.fill()
	if g.low >= g.pressed {
		g.pressed = 0
	} else {
		g.dirty = true // somebody who takes bytes is not through yet
	}
	if g.low != math.MaxUint64 {
		g.loop.inCore = true
		g.Served(g.low)
		g.loop.inCore = false
	}
}

// relieve makes the log free up to the pressed position: laggards below it are
// tried once more, and cut when their sockets still refuse.
func (g *group) relieve() {
	g.sweeping = true // leavers leave holes
	g.low = math.MaxUint64
	for i := range g.subs {
		s := &g.subs[i]
		if s.c == nil {
			continue
		}
		if c := s.c; s.pos < g.pressed {
			c.write()
			if s.c != nil && s.pos < g.pressed && c.has(bitBlocked) {
				c.close(reasonSlow)
			}
			c.settle()
		}
		if s.c != nil {
			g.low = min(g.low, s.pos)
		}
	}
	g.sweeping = false
}
