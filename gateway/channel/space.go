package channel

import (
	"container/list"
	"encoding/binary"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/cespare/xxhash/v2"
)

// ErrTooManyChannels is returned for a subscription that would create a channel beyond the
// space's limit.
var ErrTooManyChannels = errors.New("channel: too many channels")

// spaceShards is how many locks the channels' names are spread over.
const spaceShards = 64

// Space is the set of channels of one node. All methods may be called from any
// goroutine.
type Space struct {
	// Set at construction.
	limit       int // of one log, bytes; a power of two
	channelsMax atomic.Int64
	budget      *Budget
	seed        uint64 // of hash; Restore sets it, too

	history History // set by KeepHistory, before the space is used
	rates   atomic.Pointer[rates]
	// Set by Remote, before the space is used: nil in a local space; and which channels are remote, nil for all.
	attacher Attacher
	remote   func(name string) bool
	// Set by Classify, likewise: the class of a channel's name, and how many channels each class has.
	classOf func(name string) int
	classes []atomic.Int64

	channels       atomic.Int64
	now            atomic.Int64 // of the last Trim
	historyStarved atomic.Bool  // a publication was not kept since the last Trim: the budget
	starved        atomic.Bool  // the budget has refused a log since the last Trim
	encoding       atomic.Int64 // bytes of large publications that are being encoded
	repeated       atomic.Uint64
	shards         [spaceShards]shard
	trimmed        atomic.Uint64 // calls of Trim
	evicting       atomic.Uint64 // shards that evict has looked at
	snapshots      atomic.Uint32

	heldMu sync.Mutex
	held   []*Channel // guarded by heldMu: whose publishers wait because of the rate
}

type shard struct {
	mu     sync.Mutex
	byName map[string]*Channel // guarded by mu
	ended  uint64              // guarded by mu: channels that there were, and could not be, except those that keep history and had none
	// Guarded by mu: channels that nobody reads, longest idle first. Those of empty had kept
	// nothing when they came there.
	idle, empty list.List
	// Guarded by mu: when trim was here last, and how long that was after the time before.
	trimmedAt, interval int64
}

// NewSpace returns an empty space. A log holds up to logBytes, rounded up to a
// power of two; all logs together draw on budget.
func NewSpace(logBytes, channelsMax int, budget *Budget) *Space {
	s := &Space{limit: grown(0, ringBytesMin, logBytes), budget: budget, seed: rand.Uint64()}
	s.channelsMax.Store(int64(channelsMax))
	s.rates.Store(new(rates))
	s.history.Of = func(string) Keep { return Keep{} }
	s.Classify(1, func(string) int { return 0 })
	for i := range s.shards {
		s.shards[i].byName = make(map[string]*Channel)
	}
	return s
}

// KeepHistory makes the space keep the newest publications of each channel, and
// channels without subscribers for as long as their history may live. now is the
// time, as for Trim. It comes before anything else.
func (s *Space) KeepHistory(h History, now int64) {
	if h.Of == nil {
		h.Of = func(string) Keep { return Keep{} }
	}
	s.history = h
	s.now.Store(now)
}

// Classify divides channels into n classes by their names, to be counted: of returns a number from 0
// up to n. It comes before anything else.
func (s *Space) Classify(n int, of func(name string) int) {
	s.classOf, s.classes = of, make([]atomic.Int64, n)
}

// LimitChannels bounds the channels that exist. Those that exist stay.
func (s *Space) LimitChannels(most int) { s.channelsMax.Store(int64(most)) }

// Classes returns the number of classes.
func (s *Space) Classes() int { return len(s.classes) }

// Class returns the class of a channel's name, whether it exists or not.
func (s *Space) Class(name string) int { return s.classOf(name) }

// ChannelsOf returns the number of channels of a class that exist.
func (s *Space) ChannelsOf(class int) int { return int(s.classes[class].Load()) }

func (s *Space) shard(name string) *shard {
	return &s.shards[s.hash(name)%spaceShards]
}

// hash decides a name's shard and, in it, the epochs of its channels. The process that takes this one's channels
// over has the same.
func (s *Space) hash(name string) uint64 {
	var h xxhash.Digest
	h.ResetWithSeed(s.seed)
	h.WriteString(name) // never fails
	return h.Sum64()
}

// Channels returns the number of channels that exist.
func (s *Space) Channels() int { return int(s.channels.Load()) }

// Encoding returns the bytes in which large publications are being encoded.
func (s *Space) Encoding() int { return int(s.encoding.Load()) }

// Repeated returns the number of publications that were appended and not above their channel's head.
func (s *Space) Repeated() uint64 { return s.repeated.Load() }

// Find returns the channel of that name, or nil if it does not exist.
func (s *Space) Find(name string) *Channel {
	sh := s.shard(name)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return sh.byName[name]
}

// Open returns the channel of that name, and creates it if it does not exist: for a
// publication that is kept although the channel has no subscribers.
func (s *Space) Open(name string) (*Channel, error) {
	sh, c, err := s.open(name)
	if err != nil {
		sh = s.shard(name)
		sh.mu.Lock()
		defer sh.mu.Unlock()
		sh.ended++ // the publication is lost: clients that know the position before it must learn of a gap
		return nil, err
	}
	defer sh.mu.Unlock()
	if c.idle == nil && len(c.logs) == 0 {
		c.idleSince, c.idle = s.now.Load(), sh.empty.PushBack(c)
	}
	return c, nil
}

// Next returns the position where the next channel of that name begins, where there is none: of an
// order in which nothing is published yet. It holds as long as Open does not fail and no channel
// ends in the same shard that had publications or keeps no history; then the next one has another epoch, as if
// there had been one between.
func (s *Space) Next(name string) Position {
	sh := s.shard(name)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return Position{Epoch: s.epoch(sh, name)}
}

// epoch makes the epoch of the next channel of that name. Two channels of one name have the
// same only where nothing was published between their beginnings: where a channel keeps
// history, what is published creates it, and one that has ended with publications is counted.
func (s *Space) epoch(sh *shard, name string) Epoch {
	var b [16]byte
	binary.LittleEndian.PutUint64(b[:], s.hash(name))
	binary.LittleEndian.PutUint64(b[8:], sh.ended)
	return Epoch(xxhash.Sum64(b[:]) | 1) // never epoch 0
}

// open finds or creates a channel, and gives it with its shard locked. A new one is
// neither read nor idle yet. When there are as many as there may be, one that nobody
// reads gives way: what is kept of it counts less than that another can begin.
func (s *Space) open(name string) (*shard, *Channel, error) {
	sh := s.shard(name)
	for {
		sh.mu.Lock()
		if c := sh.byName[name]; c != nil {
			return sh, c, nil
		}
		if s.channels.Add(1) <= s.channelsMax.Load() {
			break
		}
		s.channels.Add(-1)
		sh.mu.Unlock()
		if !s.evict() {
			return nil, nil, ErrTooManyChannels
		}
	}
	name = strings.Clone(name) // it may be a piece of something large
	c := &Channel{name: name, space: s, keep: s.history.Of(name), class: s.classOf(name), history: history{rings: &nothing}}
	s.classes[c.class].Add(1)
	if s.Local(name) {
		c.epoch = s.epoch(sh, name)
	} else {
		c.remote = new(attachment)
	}
	sh.byName[name] = c
	return sh, c, nil
}

// evict ends a channel that nobody reads, the longest unread of some shard: one of which
// something is kept only where there is no other. false when there is none.
func (s *Space) evict() bool {
	for _, kept := range []bool{false, true} {
		for range spaceShards {
			if s.evictFrom(&s.shards[s.evicting.Add(1)%spaceShards], kept) {
				return true
			}
		}
	}
	return false
}

func (s *Space) evictFrom(sh *shard, kept bool) bool {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if kept {
		if e := sh.idle.Front(); e != nil {
			s.endLocked(sh, e.Value.(*Channel), math.MaxInt64)
			return true
		}
		return false
	}
	for e := sh.empty.Front(); e != nil; e = sh.empty.Front() {
		c := e.Value.(*Channel)
		if !c.keepsSomething() {
			s.endLocked(sh, c, math.MaxInt64)
			return true
		}
		sh.empty.Remove(e)
		c.idle = sh.idle.PushBack(c)
	}
	return false
}

// keepsSomething reports whether the channel's history holds anything.
func (c *Channel) keepsSomething() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.history.len() > 0
}

// useLocked takes a channel off those that nobody reads.
func (sh *shard) useLocked(c *Channel) {
	if c.idle != nil {
		sh.idle.Remove(c.idle) // a list leaves alone what is another's
		sh.empty.Remove(c.idle)
		c.idle = nil
	}
}

// endLocked takes a channel that nobody reads out of its shard, with its history;
// unless its newest publication is younger than keep, of which it gives the time.
func (s *Space) endLocked(sh *shard, c *Channel, keep int64) (newest int64, ended bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if h := &c.history; h.len() > 0 {
		if newest = h.at(h.end - 1).at; newest > keep {
			return newest, false
		}
	}
	s.end(sh, c)
	return 0, true
}

// end takes a channel out of its shard. Its lock and its shard's are held.
func (s *Space) end(sh *shard, c *Channel) {
	sh.useLocked(c)
	delete(sh.byName, c.name)
	if c.remote == nil && (c.offset > 0 || c.keep.Count <= 0) {
		sh.ended++
	} // else nothing was published, and the next channel goes on with that order, or an engine knows it
	s.channels.Add(-1)
	s.classes[c.class].Add(-1)
	c.dead = true
	c.endWaitLocked()
	if c.keep.Count > 0 {
		c.history.release(c.offset, s.history.Budget)
	}
}

// Join makes sub a reader of the channel's log in a format, creating what does
// not exist yet, or if the channel is remote one that Prepare has made ready. r begins at the log's head. A subscriber joins a log once; its
// own subscribers share the reader.
func (s *Space) Join(name string, f Format, sub Subscriber, r *Reader) error {
	sh, c, err := s.open(name)
	if err != nil {
		return err
	}
	defer sh.mu.Unlock()
	sh.useLocked(c)
	c.mu.Lock()
	defer c.mu.Unlock()
	if a := c.remote; a != nil && !a.attached {
		if !a.asked {
			s.end(sh, c)
		}
		return ErrAttaching
	}
	i := slices.IndexFunc(c.logs, func(l *Log) bool { return l.format == f })
	if i < 0 {
		i = len(c.logs)
		c.logs = append(c.logs, &Log{channel: c, format: f, limit: s.limit, most: s.limit, budget: s.budget})
	}
	l := c.logs[i]
	r.log, r.sub, r.gapsTold = l, sub, l.gaps.Load()
	r.served.Store(l.head.Load())
	r.first, r.base, r.at = l.count.Load(), c.offset, l.head.Load()
	l.readers = append(l.readers, r)
	return nil
}

// Leave ends r's reading. A log goes with its last reader, and a channel with its
// last log and its history; publishers that waited for r are called.
func (s *Space) Leave(r *Reader) {
	r.forget(0)
	if c := s.leave(r); c != nil {
		s.attacher.Detach(c)
	}
}

// leave returns the channel if it was remote and has ended.
func (s *Space) leave(r *Reader) *Channel {
	l := r.log
	c := l.channel
	sh := s.shard(c.name)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	unread := c.leave(l, r)
	switch {
	case c.remote != nil:
		c.mu.Lock()
		defer c.mu.Unlock()
		return s.endUnheldLocked(sh, c)
	case unread && c.keep.Count > 0:
		list := &sh.empty
		if c.keepsSomething() {
			list = &sh.idle
		}
		c.idleSince, c.idle = s.now.Load(), list.PushBack(c)
	case unread:
		s.endLocked(sh, c, math.MaxInt64)
	}
	return nil
}

// leave takes a reader off a log; true when nobody reads the channel any more.
func (c *Channel) leave(l *Log, r *Reader) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	l.readers = slices.DeleteFunc(l.readers, func(x *Reader) bool { return x == r })
	if len(l.readers) == 0 {
		l.dropLocked()
		c.logs = slices.DeleteFunc(c.logs, func(x *Log) bool { return x == l })
	}
	if len(c.waiters) > 0 {
		c.callAgainLocked()
	}
	return len(c.logs) == 0
}
