package loop

import (
	"fmt"

	"sluice/gateway/channel"
)

// What holds for a connection and its loop between any two steps. It is checked when a
// panic has been contained (contain.go), because what follows relies on it, and after
// each step of the state machine in the tests.

// check returns what is wrong with the connection's record.
func (c *Conn) check() error {
	l := c.loop
	if err := c.checkPlaces(); err != nil || c.Phase == phaseDead {
		return err
	}
	switch {
	case c.hasPutOff() && c.Phase != phaseOpen:
		return c.wrong("it ends, and what was put off is kept")
	case c.Phase >= phaseClosed && c.Refs() > 0:
		return c.wrong("closed, with %d subscriptions", c.Refs())
	}
	cuts := 0
	for i := range c.Refs() {
		r := c.Ref(i)
		s := r.sub()
		if r.cut > 0 {
			cuts++
		}
		switch {
		case r.cut > 0 && (cuts > 1 || !c.has(bitBlocked) || s.cursor+uint64(r.cut) >= r.group.Log().Head()):
			return c.wrong("%d cuts, at %d of a frame at %d of %d, blocked %v", cuts, r.cut, s.cursor, r.group.Log().Head(), c.has(bitBlocked))
		case s.lost() != channel.KindMessage && !c.has(bitLost):
			return c.wrong("it is lost in %q, and does not wait for its turn", r.group.key.channel)
		case s.blocked != (c.has(bitBlocked) || s.lost() != channel.KindMessage):
			return c.wrong("blocked is %v in %q", s.blocked, r.group.key.channel)
		case s.direct && (c.Out != nil || !c.ext.direct() || c.Phase != phaseOpen || c.bits&(bitBlocked|bitMuted) != 0 || s.flags&FlagNoEcho != 0):
			return c.wrong("sweeps write to it directly in %q", r.group.key.channel)
		}
	}
	if at := c.dueBy(); l.due[c.slot] > at {
		return c.wrong("due at %d, must be at %d", l.due[c.slot], at)
	}
	return nil
}

func (c *Conn) wrong(format string, v ...any) error {
	return fmt.Errorf("connection %d in phase %d: "+format, append([]any{c.id, c.Phase}, v...)...)
}

// checkPlaces returns what is wrong with the connection's places in its loop: its slot, its
// subscriptions, its user. That must hold in the midst of a step as well.
func (c *Conn) checkPlaces() error {
	l, who := c.loop, c.Identity()
	switch {
	case c.Phase != phaseDead:
	case l.indexes[c] != nil:
		return c.wrong("dead, and still in the index")
	case c.slot >= 0 || c.Active():
		return c.wrong("dead, and still in slot %d or watched", c.slot)
	case c.Refs() > 0 || c.has(bitBlocked) || c.Counted != 0 || c.In != nil || c.Out != nil:
		return c.wrong("dead, with %d subscriptions, bits %#x, %d bytes counted, input %v, output %v", c.Refs(), c.bits, c.Counted, c.In != nil, c.Out != nil)
	case c.has(bitIdentified) || who != nil && (who.prev != nil || who.next != nil):
		return c.wrong("dead, and still its user's")
	default:
		return nil
	}
	switch {
	case len(l.conns) != len(l.due):
		return c.wrong("%d connections have %d deadlines", len(l.conns), len(l.due))
	case int(c.slot) >= len(l.conns) || c.slot < 0 || l.conns[c.slot] != c:
		return c.wrong("slot %d is not its own", c.slot)
	case c.ext != nil && len(c.ext.more) > 0 && c.sub.group == nil:
		return c.wrong("its first subscription is missing")
	}
	idx := l.indexes[c]
	if n := c.Refs(); (idx != nil) != (n > manyRefs) || idx != nil && len(idx) != n {
		return c.wrong("%d subscriptions, and %d in its index", n, len(idx))
	}
	for i := range c.Refs() {
		r := c.Ref(i)
		g := r.group
		switch {
		case idx != nil && c.Place(g.key.channel) != i:
			return c.wrong("subscription %d is at %d in its index", i, c.Place(g.key.channel))
		case g == nil || l.groups[g.key] != g:
			return c.wrong("subscription %d is to a group that has ended", i)
		case r.index < 0 || int(r.index) >= len(g.subs) || g.subs[r.index].c != c || g.subs[r.index].fd != int32(c.FD()):
			return c.wrong("place %d in %q is another's", r.index, g.key.channel)
		}
	}
	if !c.has(bitIdentified) {
		return nil
	}
	for other := l.users[who.User]; other != c; other = other.Identity().next {
		if other == nil {
			return c.wrong("missing among the connections of its user %q", who.User)
		}
	}
	return nil
}

// dueBy returns the loop time at which the connection has to be looked at at the latest.
func (c *Conn) dueBy() uint32 {
	l := c.loop
	if c.Phase != phaseOpen {
		return c.since
	}
	if c.has(bitMuted) {
		return c.since + abandonSeconds
	}
	at := uint32(noDue)
	if c.has(bitBlocked) && l.cfg.WriteTimeout > 0 {
		at = min(at, c.since+seconds(l.cfg.WriteTimeout))
	}
	if c.Parked() {
		at = min(at, c.In.late)
	}
	if c.midMessage() {
		at = min(at, c.In.begun+seconds(l.cfg.MessageTimeout))
	}
	if s := c.secure(); s != nil && s.wire.left > 0 && !s.wire.unread && !s.wire.failed {
		at = min(at, s.wire.begun+seconds(l.cfg.MessageTimeout))
	}
	return at
}

// check returns what is wrong with the loop as a whole.
func (l *Loop) check() error {
	held, blocked, closing, connected, refs := 0, 0, 0, 0, 0
	for _, c := range l.conns {
		if err := c.check(); err != nil {
			return err
		}
		if c.Phase == phaseDead {
			return fmt.Errorf("connection %d is dead and in the lists", c.id)
		}
		held += int(c.Counted)
		refs += c.Refs()
		if c.has(bitBlocked) {
			blocked++
		}
		if c.Phase != phaseOpen {
			closing++
		}
		if c.has(bitIdentified) {
			connected++
		}
	}
	st := &l.stats
	switch {
	case held != l.held || int64(held) != st.Held.Load():
		return fmt.Errorf("connections hold %d bytes, counted are %d and %d", held, l.held, st.Held.Load())
	case int64(blocked) != st.Blocked.Load() || int64(len(l.conns)) != st.Connections.Load():
		return fmt.Errorf("%d of %d connections are blocked, counted are %d of %d", blocked, len(l.conns), st.Blocked.Load(), st.Connections.Load())
	}
	if int64(closing) != st.Closing.Load() {
		return fmt.Errorf("%d connections are closing, counted are %d", closing, st.Closing.Load())
	}
	for user, c := range l.users {
		for prev := (*Conn)(nil); c != nil; c = c.Identity().next {
			who := c.Identity()
			if connected--; c.Phase == phaseDead || !c.has(bitIdentified) || who.User != user || who.prev != prev {
				return fmt.Errorf("connection %d, connected %v, is in the list of user %q", c.id, c.has(bitIdentified), user)
			}
			prev = c
		}
	}
	if connected != 0 {
		return fmt.Errorf("%d more connections have a user than users have connections", connected)
	}
	for _, c := range l.dead {
		if err := c.check(); err != nil {
			return err
		}
	}
	return l.checkGroups(refs)
}

// checkGroups returns what is wrong with the loop's groups, in which so many subscriptions
// of connections must be.
func (l *Loop) checkGroups(refs int) error {
	listed := make(map[*Group]int, len(l.sweeps)+len(l.delayed))
	for _, list := range [...][]*Group{l.sweeps, l.delayed} {
		for _, g := range list {
			if listed[g]++; listed[g] > 1 || !g.queued {
				return fmt.Errorf("group of %q is listed %d times for a sweep, queued: %v", g.key.channel, listed[g], g.queued)
			}
		}
	}
	for key, g := range l.groups {
		holes := 0
		for i := range g.subs {
			s := &g.subs[i]
			if s.c == nil {
				holes++
			} else if s.c.Phase == phaseDead || s.cursor > g.Log().Head() && s.cursor < lostCursor {
				return fmt.Errorf("group of %q: connection %d in phase %d is at %d of %d", key.channel, s.c.id, s.c.Phase, s.cursor, g.Log().Head())
			}
		}
		refs -= len(g.subs) - holes
		switch {
		case g.key != key || len(g.subs) == holes:
			return fmt.Errorf("group of %q has %d places, %d of them holes", key.channel, len(g.subs), holes)
		case holes != g.holes || holes > 0 && !g.sweeping:
			return fmt.Errorf("group of %q has %d holes and counts %d, sweeping: %v", key.channel, holes, g.holes, g.sweeping)
		case g.queued != (listed[g] == 1) || (g.dirty || g.sweeping) && !g.queued:
			return fmt.Errorf("group of %q waits for a sweep: %v, dirty %v, sweeping %v, listed %d times", key.channel, g.queued, g.dirty, g.sweeping, listed[g])
		}
	}
	if refs != 0 {
		return fmt.Errorf("connections have %d more subscriptions than groups have subscribers", refs)
	}
	caught := make(map[*Conn]bool, len(l.catching))
	for _, c := range l.catching {
		if c.Phase == phaseOpen && c.catchingUp() && (!c.Out.catch.queued || caught[c]) {
			return fmt.Errorf("connection %d is listed for catching up: queued %v, twice %v", c.id, c.Out.catch.queued, caught[c])
		}
		caught[c] = true
	}
	fenced := make(map[*Conn]bool, len(l.fenced))
	for _, c := range l.fenced {
		if !c.has(bitFenced) || fenced[c] {
			return fmt.Errorf("connection %d is listed for a fence: noted %v, twice %v", c.id, c.has(bitFenced), fenced[c])
		}
		fenced[c] = true
	}
	for _, c := range l.conns {
		if c.has(bitFenced) && !fenced[c] {
			return fmt.Errorf("connection %d has reached a fence, and is not listed", c.id)
		}
	}
	lost := make(map[*Conn]bool, l.lost.len())
	for _, c := range l.lost.all[l.lost.next:] {
		if !c.has(bitLost) || lost[c] {
			return fmt.Errorf("connection %d is listed for its turn: noted %v, twice %v", c.id, c.has(bitLost), lost[c])
		}
		lost[c] = true
	}
	for _, c := range l.conns {
		if c.has(bitLost) && !lost[c] {
			return fmt.Errorf("connection %d waits for its turn, and is not listed", c.id)
		}
	}
	if len(lost) > 0 && !l.lostTurn.set {
		return fmt.Errorf("%d connections wait for their turn, and nothing looks at them", len(lost))
	}
	return nil
}
