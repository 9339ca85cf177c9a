package channel

import (
	"errors"
	"hash/maphash"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
)

// ErrTooManyChannels refuses a subscription that would create a channel beyond the
// space's limit.
var ErrTooManyChannels = errors.New("channel: too many channels")

// spaceShards is how many locks the channels' names are spread over.
const spaceShards = 64

// Space is the set of channels of one node. All methods may be called from any
// goroutine.
type Space struct {
	// Set at construction.
	limit       int // of one log, bytes; a power of two
	channelsMax int
	budget      *Budget
	seed        maphash.Seed

	channels atomic.Int64
	starved  atomic.Bool // the budget has refused a log since the last Trim
	shards   [spaceShards]shard
	trimmed  atomic.Uint64 // calls of Trim
}

type shard struct {
	mu     sync.Mutex
	byName map[string]*Channel // guarded by mu
}

// NewSpace makes an empty space. A log holds up to logBytes, rounded up to a
// power of two; all logs together draw on budget.
func NewSpace(logBytes, channelsMax int, budget *Budget) *Space {
	s := &Space{limit: grown(0, ringBytesMin, logBytes), channelsMax: channelsMax, budget: budget, seed: maphash.MakeSeed()}
	for i := range s.shards {
		s.shards[i].byName = make(map[string]*Channel)
	}
	return s
}

func (s *Space) shard(name string) *shard {
	return &s.shards[maphash.String(s.seed, name)%spaceShards]
}

// Channels counts the channels that exist.
func (s *Space) Channels() int { return int(s.channels.Load()) }

// Find gives the channel of that name, or nil when nobody here has it.
func (s *Space) Find(name string) *Channel {
	sh := s.shard(name)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return sh.byName[name]
}

// Join makes sub a reader of the channel's log in a format, creating what does
// not exist yet. r begins at the log's head. A subscriber joins a log once; its
// own subscribers share the reader.
func (s *Space) Join(name string, f Format, sub Subscriber, r *Reader) error {
	sh := s.shard(name)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	c := sh.byName[name]
	if c == nil {
		if s.channels.Add(1) > int64(s.channelsMax) {
			s.channels.Add(-1)
			return ErrTooManyChannels
		}
		c = &Channel{name: name, space: s, epoch: Epoch(rand.Uint64() | 1)} // never 0
		sh.byName[name] = c
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	i := slices.IndexFunc(c.logs, func(l *Log) bool { return l.format == f })
	if i < 0 {
		i = len(c.logs)
		c.logs = append(c.logs, &Log{channel: c, format: f, limit: s.limit, budget: s.budget})
	}
	l := c.logs[i]
	r.log, r.sub = l, sub
	r.served.Store(l.head.Load())
	r.first = l.count.Load()
	l.readers = append(l.readers, r)
	return nil
}

// Leave ends r's reading. A log goes with its last reader and a channel with its
// last log; publishers that waited for r are told.
func (s *Space) Leave(r *Reader) {
	l := r.log
	c := l.channel
	sh := s.shard(c.name)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	l.readers = slices.DeleteFunc(l.readers, func(x *Reader) bool { return x == r })
	if len(l.readers) == 0 {
		l.dropLocked()
		c.logs = slices.DeleteFunc(c.logs, func(x *Log) bool { return x == l })
	}
	if len(c.logs) == 0 {
		delete(sh.byName, c.name)
		s.channels.Add(-1)
		c.dead = true
	}
	if len(c.waiters) > 0 {
		c.wakeLocked()
	}
}

// trimPart is how many calls of Trim go round all shards once.
const trimPart = 8

// Trim gives back the memory of logs that are served and quiet since the last
// round, and lets publishers that wait try again, should only the budget have
// been in their way. Readers that hold a quiet log are notified, because their
// subscribers may have caught up since they looked. It looks at an eighth of the
// channels at each call.
//
// When the budget has refused a log, every shard is relieved as well.
func (s *Space) Trim() {
	part := s.trimmed.Add(1) % trimPart
	starved := s.starved.Swap(false)
	for i := range s.shards {
		if uint64(i)%trimPart == part {
			s.shards[i].trim()
		}
		if starved {
			s.shards[i].relieve()
		}
	}
}

func (sh *shard) trim() {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	for _, c := range sh.byName {
		c.mu.Lock()
		for _, l := range c.logs {
			if l.idle && l.bytes.Load() != nil {
				l.freeLocked()
				if l.tail == l.head.Load() {
					l.dropLocked()
				}
				for _, r := range l.readers {
					if r.served.Load() != l.head.Load() {
						r.notify()
					}
				}
			}
			l.idle = true
		}
		if len(c.waiters) > 0 {
			c.wakeLocked()
		}
		c.mu.Unlock()
	}
}

// relieve gives back the memory of logs that are served, however lately they were
// used, and presses the readers of the one that holds most for laggards: what the
// subscribers of one channel keep is no reason to stop another. All publishers
// that wait may try again.
func (sh *shard) relieve() {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	var worst *Log
	for _, c := range sh.byName {
		c.mu.Lock()
		for _, l := range c.logs {
			switch l.freeLocked(); {
			case l.tail == l.head.Load():
				l.dropLocked()
			case worst == nil || ringLen(&l.bytes) > ringLen(&worst.bytes):
				worst = l
			}
		}
		if len(c.waiters) > 0 {
			c.wakeLocked()
		}
		c.mu.Unlock()
	}
	if worst != nil {
		worst.channel.mu.Lock()
		worst.pressToLocked(worst.head.Load())
		worst.channel.mu.Unlock()
	}
}

// Budget bounds the bytes that all logs hold together.
type Budget struct {
	limit int64
	used  atomic.Int64
}

// NewBudget makes a budget of so many bytes.
func NewBudget(bytes int) *Budget { return &Budget{limit: int64(bytes)} }

// Take takes n bytes where that many are left.
func (b *Budget) Take(n int) bool {
	if b.used.Add(int64(n)) > b.limit {
		b.used.Add(-int64(n))
		return false
	}
	return true
}

// Give gives n bytes back.
func (b *Budget) Give(n int) { b.used.Add(-int64(n)) }

// Used gives the bytes taken.
func (b *Budget) Used() int { return int(b.used.Load()) }
