package event

import (
	"fmt"
	"time"
)

// levels is which channels have subscribers, on which nodes, and what receivers are to know of it.
// It is owned by the notifier's goroutine, and has no clock: now is a parameter that never goes
// back.
type levels struct {
	// Set at construction.
	delay time.Duration // after which a channel without subscribers is vacated
	emit  func(p int, t Type, channel string)

	nodes [nodesMax]node
	parts [Partitions]part
	// The channels that are to be vacated, those first whose time comes first: the delay is the same
	// for all.
	first, last *level
}

// nodesMax is how many nodes can be told apart. This one is self.
const (
	nodesMax = 128
	self     = 0
)

// node is what is known of a node.
type node struct {
	id       string // "" of a free place
	draining bool
}

// part is a partition.
type part struct {
	channels map[string]*level
	owned    bool // its events are sent by this node
	occupied int  // the number of channels for which a receiver knows that they are occupied
}

// level is a channel that has subscribers, or of which a receiver does not know yet that it has none.
type level struct {
	channel string
	part    uint8
	told    bool   // Occupied was emitted, and Vacated was not. Invariant: true in no partition that is not owned
	leaving bool   // it is in the list. Invariant: then it is on no node
	nodes   places // on which it has subscribers
	due     time.Duration

	prev, next *level // of the list
}

// places is a set of nodes.
type places [nodesMax / 64]uint64

func (s *places) has(i int) bool { return s[i/64]>>(i%64)&1 == 1 }
func (s *places) set(i int)      { s[i/64] |= 1 << (i % 64) }
func (s *places) clear(i int)    { s[i/64] &^= 1 << (i % 64) }
func (s *places) empty() bool    { return *s == places{} }

func newLevels(delay time.Duration, emit func(p int, t Type, channel string)) *levels {
	l := &levels{delay: delay, emit: emit}
	for i := range l.parts {
		l.parts[i].channels = make(map[string]*level)
	}
	return l
}

// node returns the place of a node.
func (l *levels) node(id string) (int, error) {
	free := 0
	for i := self + 1; i < nodesMax; i++ {
		switch l.nodes[i].id {
		case id:
			return i, nil
		case "":
			if free == 0 {
				free = i
			}
		}
	}
	if free == 0 {
		return 0, fmt.Errorf("event: there are more than %d nodes", nodesMax)
	}
	l.nodes[free].id = id
	return free, nil
}

// set records that a channel has subscribers on a node, or has none.
func (l *levels) set(at, p int, channel string, on bool, now time.Duration) {
	c := l.parts[p].channels[channel]
	if on {
		if c == nil {
			c = &level{channel: channel, part: uint8(p)}
			l.parts[p].channels[channel] = c
		}
		l.arrive(at, c)
		return
	}
	if c != nil && !l.nodes[at].draining {
		l.leave(at, c, now+l.delay)
	}
}

// arrive records that a channel has subscribers on a node.
func (l *levels) arrive(at int, c *level) {
	c.nodes.set(at)
	if c.leaving {
		l.unlink(c)
	}
	if p := &l.parts[c.part]; p.owned && !c.told {
		c.told = true
		p.occupied++
		l.emit(int(c.part), Occupied, c.channel)
	}
}

// leave records that a channel has no subscribers on a node. If it has none at all, it is vacated
// at due: now + delay, or now.
func (l *levels) leave(at int, c *level, due time.Duration) {
	if !c.nodes.has(at) {
		return
	}
	c.nodes.clear(at)
	switch {
	case !c.nodes.empty():
	case !c.told:
		delete(l.parts[c.part].channels, c.channel)
	default:
		c.due = due
		l.link(c)
	}
}

// vacate ends a channel of which receivers know.
func (l *levels) vacate(c *level) {
	p := &l.parts[c.part]
	delete(p.channels, c.channel)
	p.occupied--
	c.told = false
	l.emit(int(c.part), Vacated, c.channel)
}

// expire vacates the channels whose time has come.
func (l *levels) expire(now time.Duration) {
	for l.first != nil && l.first.due <= now {
		c := l.first
		l.unlink(c)
		l.vacate(c)
	}
}

// wait returns for how long nothing is due, and whether anything will be.
func (l *levels) wait(now time.Duration) (time.Duration, bool) {
	if l.first == nil {
		return 0, false
	}
	return max(l.first.due-now, 0), true
}

// sync replaces what is known of a node in a partition: has are the channels that have subscribers there.
func (l *levels) sync(at, p int, has []string, now time.Duration) {
	there := make(map[string]struct{}, len(has))
	for _, channel := range has {
		there[channel] = struct{}{}
		l.set(at, p, channel, true, now)
	}
	for channel, c := range l.parts[p].channels {
		if _, ok := there[channel]; !ok {
			l.leave(at, c, now+l.delay)
		}
	}
}

// gone forgets a node. Its channels are vacated after delay.
func (l *levels) gone(at int, now, delay time.Duration) {
	for p := range l.parts {
		for _, c := range l.parts[p].channels {
			if !c.nodes.has(at) {
				continue
			}
			l.leave(at, c, now+delay)
			if c.leaving && delay < l.delay { // the list is for the same delay
				l.unlink(c)
				l.vacate(c)
			}
		}
	}
	if at != self {
		l.nodes[at] = node{}
	}
}

// own begins to emit the events of a partition.
func (l *levels) own(p int) {
	l.parts[p].owned = true
	for _, c := range l.parts[p].channels {
		if !c.told {
			c.told = true
			l.parts[p].occupied++
		}
	}
}

// disown ends what own has begun, and forgets what is known of other nodes in a partition.
func (l *levels) disown(p int) {
	part := &l.parts[p]
	part.owned, part.occupied = false, 0
	for channel, c := range part.channels {
		if c.leaving {
			l.unlink(c)
		}
		c.told = false
		on := c.nodes.has(self)
		if c.nodes = (places{}); on {
			c.nodes.set(self)
		} else {
			delete(part.channels, channel)
		}
	}
}

// occupied returns the channels of a partition that receivers with a filter are to know as occupied.
func (l *levels) occupied(p int, f *Filter) []string {
	part := &l.parts[p]
	names := make([]string, 0, part.occupied)
	for channel, c := range part.channels {
		if c.told && f.fits(channel) {
			names = append(names, channel)
		}
	}
	return names
}

// known reports whether a channel is occupied, and whether this is known here.
func (l *levels) known(p int, channel string) (occupied, known bool) {
	if !l.parts[p].owned {
		return false, false
	}
	c := l.parts[p].channels[channel]
	return c != nil && c.told, true
}

func (l *levels) link(c *level) {
	c.leaving = true
	c.prev, c.next = l.last, nil
	if c.prev == nil {
		l.first = c
	} else {
		c.prev.next = c
	}
	l.last = c
}

func (l *levels) unlink(c *level) {
	if c.prev == nil {
		l.first = c.next
	} else {
		c.prev.next = c.next
	}
	if c.next == nil {
		l.last = c.prev
	} else {
		c.next.prev = c.prev
	}
	c.leaving, c.prev, c.next = false, nil, nil
}
