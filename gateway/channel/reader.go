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
	press  atomic.Uint64 // position below which the loop must let go, 0 for none

	// Owned by the loop: the entries from first on are not freed.
	first uint64

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
// head, never after. pressed is the position below which the reader must release everything,
// or 0.
func (r *Reader) Clear() (pressed uint64) {
	r.posted.Store(false)
	return r.press.Swap(0)
}

// Pressed returns what Clear would, without acknowledging.
func (r *Reader) Pressed() uint64 { return r.press.Load() }

// Served publishes that all of the loop's subscribers have the bytes below pos, an entry's
// end (or where the reader began), and wakes publishers that wait for room.
func (r *Reader) Served(pos uint64) {
	if pos != r.served.Load() {
		l := r.log
		count := l.count.Load()
		if entries := l.entries.Load(); entries != nil {
			mask := uint64(len(*entries) - 1)
			for r.first < count && (*entries)[r.first&mask].end <= pos {
				r.first++
			}
		}
		r.served.Store(pos)
	}
	if r.log.starved.Load() {
		r.log.channel.release(r.log)
	}
}

// Find returns the index of the entry that holds the byte at pos: the first whose
// end is above pos, or the count of entries when pos is at the head.
func (r *Reader) Find(pos uint64) uint64 {
	lo, hi := r.first, r.log.count.Load()
	if lo >= hi {
		return hi
	}
	entries := *r.log.entries.Load()
	mask := uint64(len(entries) - 1)
	for lo < hi {
		mid := lo + (hi-lo)/2
		if entries[mid&mask].end > pos {
			hi = mid
		} else {
			lo = mid + 1
		}
	}
	return lo
}

// Entry returns where an entry ends, and the connection that sent it. i is at
// least what Find returned for a position that the reader holds, and below the count of
// entries of a loaded head.
func (r *Reader) Entry(i uint64) (end, from uint64) {
	entries := *r.log.entries.Load()
	e := &entries[i&uint64(len(entries)-1)]
	return e.end, e.from
}

// FarBehind reports whether the frames above pos cost more than half of the log's limit. It
// is false for a log that holds more than its limit because of a large frame.
func (r *Reader) FarBehind(pos uint64) bool {
	l := r.log
	head := l.head.Load()
	behind := int(head-pos) + entryBytes*int(r.Find(head)-r.Find(pos))
	return behind > l.limit/2 && behind <= l.limit
}

// Offset returns the channel's offset with an entry, with i as for Entry.
func (r *Reader) Offset(i uint64) uint64 {
	entries := *r.log.entries.Load()
	return entries[i&uint64(len(entries)-1)].offset
}

// Floor returns the last entry's end that is not above pos; from is one that is not.
func (r *Reader) Floor(from, pos uint64) uint64 {
	i := r.Find(pos)
	if i <= r.Find(from) {
		return from
	}
	end, _ := r.Entry(i - 1)
	return end
}

// Fit returns the furthest entry's end that is at most n bytes above pos, and at
// least the end of the entry at pos; head when all of it fits. pos is an
// entry's end below head.
func (r *Reader) Fit(pos, head uint64, n int) uint64 {
	if head-pos <= uint64(n) {
		return head
	}
	i := r.Find(pos + uint64(n))
	if first := r.Find(pos); i <= first {
		end, _ := r.Entry(first)
		return end
	}
	end, _ := r.Entry(i - 1)
	return end
}
