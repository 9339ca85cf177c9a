package channel

import (
	"container/list"
	"errors"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
)

// ErrFull refuses a publication because a log has no room: some subscriber, or
// its loop, is behind by the whole log, or the process's budget is used up. The
// publisher's Waiter is told when it is worth to try again.
var ErrFull = errors.New("channel: log is full")

// ErrTooBig refuses a publication that the formats in use encode to more than even
// empty logs take.
var ErrTooBig = errors.New("channel: publication does not fit the channel's buffer")

// ErrGone refuses a publication because the channel has ended meanwhile: another
// one of that name may exist, or is to be opened.
var ErrGone = errors.New("channel: channel has ended")

// Kind says what a publication is.
type Kind uint8

const (
	KindMessage Kind = iota
	// KindJoin and KindLeave tell that a client has subscribed, or does not any more.
	// They have no offset, are not kept, and go only to the formats that carry
	// them; Payload says who it is, as a Protobuf ClientInfo of the client protocol.
	KindJoin
	KindLeave
)

// Publication is one message published into a channel.
type Publication struct {
	Payload []byte // the caller's; it is copied before Publish returns
	Binary  bool   // else the payload is text: the publisher has checked that it is UTF-8
	From    uint64 // connection that sent it, 0 for none
	At      int64  // when it was published: milliseconds of Unix time
	Kind    Kind
	// Passing: it goes to those who are there, without an offset, and is not kept.
	Passing bool
	// Extra is what some formats tell beside the payload; opaque here, and kept with
	// it: the Protobuf fields info (5) and tags (7) of the client protocol's
	// Publication, one behind the other. Owned as Payload is.
	Extra []byte

	// Set by Publish, for formats: its place in the order. Offset is 0 for what has
	// none.
	Channel string
	Epoch   Epoch
	Offset  uint64
}

// ordered tells whether p gets an offset.
func (p *Publication) ordered() bool { return p.Kind == KindMessage && !p.Passing }

// Epoch names one life of a channel's order. Offsets of different epochs have
// nothing to do with each other.
type Epoch uint64

// String gives the epoch as clients see it, "" for the zero Epoch.
func (e Epoch) String() string {
	if e == 0 {
		return ""
	}
	return strconv.FormatUint(uint64(e), 36)
}

// Append adds the epoch as String gives it.
func (e Epoch) Append(dst []byte) []byte {
	if e == 0 {
		return dst
	}
	return strconv.AppendUint(dst, uint64(e), 36)
}

// ParseEpoch reads what String gives.
func ParseEpoch(s string) (Epoch, bool) {
	e, err := strconv.ParseUint(s, 36, 64)
	return Epoch(e), err == nil && e != 0
}

// Receipt tells what became of a publication.
type Receipt struct {
	Epoch       Epoch  // of the channel's order; 0 when there is no channel
	Offset      uint64 // within the epoch, 1 for the first; 0 when there is no channel, or p has none
	Subscribers int    // on this node when it was published
}

// Format is a wire format: the same bytes for every subscriber.
type Format interface {
	// Append adds p's frame to dst, or nothing where the format does not carry what p
	// is. It runs under the channel's lock.
	Append(dst []byte, p *Publication) []byte
}

// Waiter is a publisher that was refused with ErrFull.
type Waiter interface {
	// Released says that it is worth to try again. It comes once for each
	// refusal, from any goroutine and under the channel's lock: it must only post.
	Released()
}

// Scratch is where publications are encoded before they are appended. Each
// publishing goroutine has its own. The zero Scratch is ready for use.
type Scratch struct {
	buf  []byte
	ends []int       // of each log's frame in buf
	kept Publication // of a history, on its way to a format
}

// Channel has one order of publications and a log for each wire format that has
// subscribers.
type Channel struct {
	// Set at construction.
	name  string
	space *Space
	epoch Epoch
	keep  Keep

	// Atomic: changed by loops as their subscribers come and go.
	subscribers atomic.Int64

	mu sync.Mutex
	// Guarded by mu.
	offset  uint64
	logs    []*Log
	waiters []Waiter
	history history
	dead    bool // out of the space: a later channel of that name is another
	rate    bucket
	limited bool // those who wait do so because of the rate

	// Guarded by the space's shard: since when nobody reads the channel, and its
	// place among those; nil while somebody does.
	idleSince int64
	idle      *list.Element
}

// Name gives the channel's name.
func (c *Channel) Name() string { return c.name }

// Epoch names the channel's order.
func (c *Channel) Epoch() Epoch { return c.epoch }

// Newest gives the place of the newest publication.
func (c *Channel) Newest() Place {
	c.mu.Lock()
	defer c.mu.Unlock()
	return Place{c.epoch, c.offset}
}

// Subscribers counts the subscriptions on this node.
func (c *Channel) Subscribers() int { return int(c.subscribers.Load()) }

// Joined counts a subscription. The loop calls it beside its own bookkeeping.
func (c *Channel) Joined() { c.subscribers.Add(1) }

// Left takes a subscription off the count.
func (c *Channel) Left() { c.subscribers.Add(-1) }

// Publish gives p its place in the channel's order, keeps it for the history and
// appends it to the log of every format in use. It never waits for a subscriber:
// when a log is full it returns ErrFull and changes nothing; w, where it is not
// nil, is told when there may be room. It allocates nothing once s and the history
// have grown to the size of what is published.
func (c *Channel) Publish(p *Publication, s *Scratch, w Waiter) (Receipt, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead {
		return Receipt{}, ErrGone
	}
	if len(c.waiters) > 0 {
		c.waitLocked(w)
		if c.limited {
			return Receipt{}, ErrRate
		}
		return Receipt{}, ErrFull
	}
	if p.Kind == KindMessage && !c.rate.has(c.space.rate, p.At) {
		if w != nil {
			c.waitLocked(w)
			c.limited = true
			c.space.holdBack(c)
		}
		return Receipt{}, ErrRate
	}
	// First every log must have room, then all take it: a publication is in all
	// formats or in none.
	s.buf, s.ends = s.buf[:0], s.ends[:0]
	p.Channel, p.Epoch, p.Offset = c.name, c.epoch, 0
	if p.ordered() {
		p.Offset = c.offset + 1
	}
	alone := 0 // bytes that all logs would take with nothing else in them
	for _, l := range c.logs {
		start := len(s.buf)
		s.buf = l.format.Append(s.buf, p)
		s.ends = append(s.ends, len(s.buf))
		n := len(s.buf) - start
		if n == 0 {
			continue
		}
		alone += grown(0, ringBytesMin, n) + ringEntriesMin*entryBytes
		if n+entryBytes > largeFrames*l.limit || alone > int(l.budget.limit) {
			return Receipt{}, ErrTooBig
		}
		if !c.makeRoomLocked(l, n, w) {
			return Receipt{}, ErrFull
		}
	}
	if p.Kind == KindMessage {
		c.rate.take()
	}
	if p.ordered() {
		c.offset++
		if !c.history.add(p, c.keep, &c.space.history) {
			c.space.historyStarved.Store(true)
		}
	}
	start := 0
	for i, l := range c.logs {
		if end := s.ends[i]; end > start {
			l.appendLocked(s.buf[start:end], c.offset, p.From)
			start = end
		}
	}
	return Receipt{Epoch: c.epoch, Offset: p.Offset, Subscribers: c.Subscribers()}, nil
}

// makeRoomLocked makes room for n bytes in l, or presses l's readers and lets w
// wait.
func (c *Channel) makeRoomLocked(l *Log, n int, w Waiter) bool {
	if l.roomLocked(n) {
		return true
	}
	// The flag goes up before the readers' positions are read once more; a reader
	// publishes its position before it looks at the flag. One sees the other.
	l.starved.Store(true)
	if l.roomLocked(n) {
		l.starved.Store(false)
		return true
	}
	l.pressLocked(n)
	l.starved.Store(w != nil)
	c.waitLocked(w)
	return false
}

// waitLocked notes a refused publisher.
func (c *Channel) waitLocked(w Waiter) {
	if w != nil {
		c.waiters = append(c.waiters, w)
	}
}

// Forget takes a publisher back that was refused and no longer waits. Where it
// was already told, nothing happens.
func (c *Channel) Forget(w Waiter) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiters = slices.DeleteFunc(c.waiters, func(x Waiter) bool { return x == w })
	if len(c.waiters) == 0 {
		c.wakeLocked()
	}
}

// release is called by a reader that has served more while a publisher waits.
func (c *Channel) release(l *Log) {
	c.mu.Lock()
	defer c.mu.Unlock()
	l.freeLocked()
	if l.usedLocked() <= l.limit/2 {
		c.wakeLocked()
	}
}

// wakeLocked tells all waiting publishers to try again; those that are refused
// once more wait once more.
func (c *Channel) wakeLocked() {
	for _, l := range c.logs {
		l.starved.Store(false)
	}
	waiters := c.waiters
	c.waiters, c.limited = nil, false
	for _, w := range waiters {
		w.Released()
	}
}
