package channel

import "sync/atomic"

// Subscriber reads a log: it is a loop's group of subscribers of a channel.
type Subscriber interface {
	// Notify is called when there is something to read or to release, once until the
	// reader has called Clear, from any goroutine and under the channel's lock: it must
	// only post.
	Notify()
}

// Reader is one loop's view of a log. Its methods must be called by that loop.
type Reader struct {
	// Set at construction.
	log *Log
	sub Subscriber

	// Atomic.
	posted atomic.Bool   // Notify was called and Clear was not
	served atomic.Uint64 // all of the loop's subscribers have what lies below
	press  atomic.Uint64 // cursor below which the loop must let go, 0 for none

	// Owned by the loop: the entries from first on are not freed, and base is the channel's offset before
	// first, at the cursor at. seen is the newest view while a subscriber is behind, past those of
	// windows that were cut since.
	first    uint64
	base, at uint64
	seen     View
	past     []View
	gapsTold uint64 // of the log's gaps, see Told

	// Guarded by the channel's lock: how many of the loop's subscribers hold the log back
	// (stall.go).
	below int
}

// Log returns the log that is read.
func (r *Reader) Log() *Log { return r.log }

func (r *Reader) notify() {
	if !r.posted.Swap(true) {
		r.sub.Notify()
	}
}

// Clear acknowledges a notification: later appends notify again. Call it before reading the
// head, never after. pressed is the cursor below which the reader must release everything,
// or 0.
func (r *Reader) Clear() (pressed uint64) {
	r.posted.Store(false)
	return r.press.Swap(0)
}

// Pressed returns what Clear would, without acknowledging.
func (r *Reader) Pressed() uint64 { return r.press.Load() }

// Served publishes that all of the loop's subscribers have the bytes below cursor, an entry's
// end (or where the reader began), and wakes publishers that wait for room.
func (r *Reader) Served(cursor uint64) {
	if cursor != r.served.Load() {
		if v, ok := r.look(cursor); ok {
			if base, ok := r.offset(&v, cursor); ok {
				r.base, r.at = base, cursor
			}
			r.first = v.Find(cursor)
		}
		if r.past != nil && cursor >= r.CutAt() {
			r.forget(0)
			r.past = nil
		}
		if cursor == r.log.head.Load() {
			r.seen = View{} // it may be the last to hold that memory
		}
		r.served.Store(cursor)
	}
	if r.log.starved.Load() {
		r.log.channel.release(r.log)
	}
}

// Between counts the frames between two cursors, without those that a connection has sent; all with 0.
// Fences and what was cut off and is gone do not count.
func (r *Reader) Between(cursor, end, from uint64) (n uint64) {
	for cursor < end {
		v, ok := r.look(cursor)
		if !ok || cursor == v.head {
			v, _ = r.View(cursor) // what is left above cursor
		}
		to := min(v.head, end)
		first, end := v.Find(cursor), v.Find(to)
		n += end - first
		for i := first; (from != 0 || cursor < v.fenced) && i < end; i++ {
			if e := v.w.at(i); e.from >= fromFence || from != 0 && e.from == from {
				n--
			}
		}
		cursor = to
	}
	return n
}

// CutAt returns the cursor at which the log was cut, 0 if it was not or if no reader is below.
func (r *Reader) CutAt() uint64 {
	if w := r.log.window.Load(); w != nil {
		return w.from
	}
	return 0
}

// offset returns the channel's offset of a subscriber at a cursor of a view: that of the frame which ends
// there. ok is false if the view does not have it.
func (r *Reader) offset(v *View, cursor uint64) (offset uint64, ok bool) {
	if cursor == r.at {
		return r.base, true
	}
	if v.w == nil {
		return 0, false
	}
	if i := v.Find(cursor); i > v.first && v.w.at(i-1).end == cursor {
		return v.w.at(i - 1).offset, true
	}
	return v.w.base, v.w.based && cursor == v.w.from
}

// Kept returns the position of a subscriber at cursor. ok reports whether it can catch up from there: positions
// are given (Append), and the history has everything since.
func (r *Reader) Kept(cursor uint64) (at Position, ok bool) {
	v, _ := r.look(cursor)
	offset, ok := r.offset(&v, cursor)
	if !ok {
		return Position{}, false
	}
	l, c := r.log, r.log.channel
	c.mu.Lock()
	defer c.mu.Unlock()
	at = Position{c.epoch, offset}
	return at, c.given && cursor >= l.reset && at.Offset >= c.history.floor
}

// FarBehind reports whether the frames above cursor cost more than half of the log's limit. It
// is false for a log that holds more than its limit because of a large frame.
func (r *Reader) FarBehind(cursor uint64) bool {
	v, ok := r.View(cursor)
	behind := int(v.head-cursor) + entryBytes*int(v.Find(v.head)-v.Find(cursor))
	return ok && behind > r.log.limit/2 && behind <= r.log.limit
}
