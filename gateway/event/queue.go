package event

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// Options are of one receiver. Zero means the default.
type Options struct {
	Name string // in logs and metrics; without secrets
	Filter
	Bytes    int           // of the memory of what waits; 64 MiB
	InFlight int           // how many batches are sent at a time, each of another partition; 16
	Linger   time.Duration // for which an event waits for others, which are sent with it; 20 ms. Negative: not at all
	Timeout  time.Duration // of an attempt; 5 s
	// Backoff is the longest wait after the first failure of a batch, which doubles with each up to
	// BackoffMax. The wait is random, from 0 on. 100 ms and 20 s.
	Backoff, BackoffMax time.Duration
	// Digest is how often the receiver gets a list of all channels that are occupied; 0 for never.
	// The partitions take turns.
	Digest time.Duration
}

func set[T comparable](v *T, to T) {
	if *v == *new(T) {
		*v = to
	}
}

func (o Options) orDefault() Options {
	o.Filter.orDefault()
	set(&o.Bytes, 64<<20)
	set(&o.InFlight, 16)
	set(&o.Linger, 20*time.Millisecond)
	set(&o.Timeout, 5*time.Second)
	set(&o.Backoff, 100*time.Millisecond)
	set(&o.BackoffMax, 20*time.Second)
	return o
}

// Batch is events that are sent together. Batches of one partition are sent one after the other, in
// order. One that is sent again is the same.
type Batch struct {
	ID        string // of the batch: it has letters, digits and '-'
	Partition int
	Events    []Event // must not be changed

	body  []byte        // see Body
	since time.Duration // of the oldest event
	held  int           // of the queue's memory
}

// Receiver is what events are sent to.
type Receiver interface {
	// Deliver sends a batch, and returns nil when the receiver has accepted it. Otherwise it is sent
	// again. The error may be a *Later, or ErrGone. Deliver is called from several goroutines, and
	// must return soon after ctx has ended.
	Deliver(ctx context.Context, b *Batch) error
}

// ErrGone is returned by a receiver that does not want events any more. Its queue ends.
var ErrGone = errors.New("the receiver is gone, and wants no more events")

// Later is an error of a receiver that wants nothing for some time.
type Later struct {
	After time.Duration
	Err   error
}

func (e *Later) Error() string { return e.Err.Error() }
func (e *Later) Unwrap() error { return e.Err }

// afterMax bounds the time of a Later.
const afterMax = time.Hour

// Queue is what waits for a receiver.
type Queue struct {
	// Set at construction.
	o         Options
	to        Receiver
	node      string
	nodeScope bool
	now       func() time.Duration
	kick      func() // wakes the notifier, for resets
	log       *slog.Logger
	segment   int                // how large a segment of a line may be: a small queue has small ones
	wake      chan struct{}      // of capacity 1: there may be something to send
	cancel    context.CancelFunc // ends run
	over      chan struct{}      // closed when run has returned

	resets atomic.Uint64 // the partitions that are to be reset, a bit for each

	mu sync.Mutex
	// Guarded by mu.
	lines  [Partitions]line
	held   int // of all lines, and the batches
	flying int // attempts
	paused time.Duration
	turn   int // the line that is looked at first
	gone   bool
	// Of Pause: attempts is the context of attempts, which stop ends; landed is for when flying changes.
	stopped  bool
	attempts context.Context
	stop     context.CancelFunc
	landed   sync.Cond
	failing  bool // the last attempt that has ended has failed
	stats    Stats
}

// Stats describe a queue for operators.
type Stats struct {
	Events, Batches, Bytes int           // that wait or are being sent
	Oldest                 time.Duration // for how long the oldest event waits; 0 for none
	Delivered              uint64        // events
	Attempts, Failures     uint64
	Collapsed              uint64 // events that a later one made superfluous, where there was no room
	Dropped                uint64 // events for which there was no room
	Resets, Digests        uint64
	Gone                   bool // the receiver wants no more events
}

// newEpoch returns an epoch. Those that were made later are greater.
func newEpoch(at time.Time) string {
	n, err := rand.Int(rand.Reader, big.NewInt(1<<24))
	if err != nil {
		panic(err) // it never fails
	}
	return fmt.Sprintf("%0*x%06x", epochTime, at.UnixMilli(), n)
}

// nextEpoch returns an epoch that is greater than another one.
func nextEpoch(at int64, after string) string {
	epoch := newEpoch(time.UnixMilli(at))
	for epoch <= after {
		at = max(at, millis(after)) + 1
		epoch = newEpoch(time.UnixMilli(at))
	}
	return epoch
}

// millis returns the time of an epoch, 0 if it is none.
func millis(epoch string) int64 {
	at, err := strconv.ParseInt(epoch[:min(len(epoch), epochTime)], 16, 64)
	if err != nil {
		return 0
	}
	return at
}

// epochTime is how many hexadecimal digits of an epoch are the time.
const epochTime = 11

// push appends an event, of which kind and name are in the record. It never waits for the receiver.
func (q *Queue) push(p int, kind Type, name string, record []byte, state func(p int, name string) *bool) {
	if !q.o.Accepts(kind, name) {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.gone {
		return
	}
	l := &q.lines[p]
	if l.lost {
		l.dropped++
		q.stats.Dropped++
		return
	}
	began := l.empty()
	q.change(l, func() { l.append(record, kind, q.now(), q.segment) })
	for q.held > q.o.Bytes && q.shorten(state) {
	}
	if began || l.events == batchEvents {
		q.signal()
	}
}

// change does something to a line that changes its memory.
func (q *Queue) change(l *line, f func()) {
	before := l.held
	f()
	q.held += l.held - before
}

// shorten shortens the longest line, and reports whether there was one.
func (q *Queue) shorten(state func(p int, name string) *bool) bool {
	longest, most := 0, 0
	for p := range q.lines {
		if held := q.lines[p].held; held > most {
			longest, most = p, held
		}
	}
	if most == 0 {
		return false
	}
	l := &q.lines[longest]
	collapsed, dropped := l.shorten(func(name string) *bool { return state(longest, name) })
	q.held += l.held - most
	q.stats.Collapsed += uint64(collapsed)
	q.stats.Dropped += uint64(dropped)
	if l.lost && l.batch == nil {
		q.resetLater(longest)
	}
	return true
}

// resetLater has the notifier call reset.
func (q *Queue) resetLater(p int) {
	q.resets.Or(1 << p)
	q.kick()
}

// reset begins a partition anew: names are the channels that are occupied.
func (q *Queue) reset(p int, epoch string, at int64, names []string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.gone {
		return
	}
	l := &q.lines[p]
	if epoch != "" {
		l.epoch, l.seq = epoch, 0
	}
	if !q.o.Types.Has(Occupied) {
		names = nil
	}
	q.change(l, l.dropLevels)
	l.segments = append([]segment{{snap: &snapshot{kind: Reset, time: at, names: names, dropped: l.dropped}}}, l.segments...)
	l.lost, l.dropped = false, 0
	l.since = q.now()
	q.stats.Resets++
	q.signal()
}

// resync is reset for a partition of which another node sends the levels.
func (q *Queue) resync(p int, at int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	l := &q.lines[p]
	if q.gone || !l.lost {
		return
	}
	record := appendRecord(nil, &Event{Type: Resync, Time: at, Dropped: l.dropped})
	q.change(l, func() { l.append(record, Resync, q.now(), q.segment) })
	l.lost, l.dropped = false, 0
	q.signal()
}

// disown drops what waits of a partition's levels.
func (q *Queue) disown(p int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	l := &q.lines[p]
	q.change(l, l.dropLevels)
	if l.lost && l.batch == nil {
		q.resetLater(p)
	}
}

// digest appends a digest, unless that is of no use: one waits already, or a reset comes, or the
// receiver accepts nothing at present.
func (q *Queue) digest(p int, at int64, names []string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	l := &q.lines[p]
	if q.gone || l.lost || l.tries > 0 || l.digests() {
		return
	}
	if l.empty() {
		l.since = q.now()
	}
	l.segments = append(l.segments, segment{snap: &snapshot{kind: Digest, time: at, names: names}})
	q.stats.Digests++
	q.signal()
}

// signal wakes run.
func (q *Queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// Stats returns the queue's figures.
func (q *Queue) Stats() Stats {
	q.mu.Lock()
	defer q.mu.Unlock()
	s, now := q.stats, q.now()
	s.Bytes, s.Gone = q.held, q.gone
	for p := range q.lines {
		l := &q.lines[p]
		s.Events += l.events
		since := l.since
		if l.batch != nil {
			s.Events += len(l.batch.Events)
			s.Batches++
			since = l.batch.since
		}
		if l.batch != nil || !l.empty() {
			s.Oldest = max(s.Oldest, now-since)
		}
	}
	return s
}

// Name returns the name of the receiver.
func (q *Queue) Name() string { return q.o.Name }
