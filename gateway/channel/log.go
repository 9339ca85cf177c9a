package channel

import "sync/atomic"

// A log is two rings (window), one of bytes and one of entries. One writer appends under the
// channel's lock. Many loops read without it:
//
//   - A reader loads head (or count) first and the window's pointer after it; the
//     writer stores a new window's pointer before the head that needs it. So the
//     window a reader holds has all bytes below the head it holds. The window that was
//     replaced is never written again and goes with its last holder.
//   - Bytes and entries are overwritten only below the lowest cursor that the
//     readers have published; publishing is a reader's last use of them.
//
// Rejected: a chain of fixed segments (a cursor would need a look-up, and a
// quiet channel would cost a segment), a queue for each subscriber (its cost is the
// reason for this design), skipping the ring's end so that no frame wraps (a
// second write once in 256 KiB is cheaper than the arithmetic everywhere).

// entryBytes is what an entry costs beside its frame; it counts against the
// log's limit, so that a log of tiny frames is bounded as well.
const entryBytes = 24

// ringBytesMin and ringEntriesMin are what a log starts with.
const (
	ringBytesMin   = 512
	ringEntriesMin = 8
)

// largeFrames is how many times a log's limit one frame may have. A frame of more
// than half the limit waits until the log is empty: a message that is within the
// publisher's limits must not fail because a format needs several bytes for some of
// its characters.
const largeFrames = 8

// Log holds the frames of one channel in one wire format, from the slowest subscriber's
// cursor to the head.
type Log struct {
	// Set at construction.
	channel *Channel
	format  Format
	limit   int // bytes and entries together, in bytes; a power of two
	budget  *Budget

	// Atomic: written under the channel's lock, read by loops.
	head   atomic.Uint64
	count  atomic.Uint64          // entries ever appended
	window atomic.Pointer[window] // nil while nothing is kept
	// starved is set while a publisher waits, so that readers come to release.
	starved atomic.Bool
	fenced  atomic.Uint64 // the end of the newest fence, 0 for none: see fence.go
	gaps    atomic.Uint64 // entries of gaps and resets that are no fences

	// Guarded by the channel's lock.
	readers   []*Reader
	tail      uint64 // Invariant: tail <= every reader's served <= head, unless the log was cut at tail
	tailEntry uint64 // entries below it are freed
	idle      bool   // nothing was appended since the last Trim
	// Of what was appended with a given position (append.go): what the largest frame costs, at least the
	// limit; the cursor behind the newest frame that costs more than the limit; the cursor to which
	// readers were pressed; and how many publications are missing behind the last frame, of which only the
	// first is in the gap that stands there.
	most     int
	largeEnd uint64
	goal     uint64
	missed   int
	reset    uint64 // cursor behind the newest reset
}

// Head returns the cursor after the last byte appended.
func (l *Log) Head() uint64 { return l.head.Load() }

// Channel returns the channel whose log it is.
func (l *Log) Channel() *Channel { return l.channel }

// usedLocked returns what the kept frames cost.
func (l *Log) usedLocked() int {
	return int(l.head.Load()-l.tail) + entryBytes*int(l.count.Load()-l.tailEntry)
}

// roomLocked makes room for a frame of n bytes: it frees what all readers have
// served, and grows the rings up to the limit and the budget.
func (l *Log) roomLocked(n int) bool {
	if l.fitsLocked(n) {
		return true
	}
	l.freeLocked()
	if l.fitsLocked(n) {
		return true
	}
	if !l.allowsLocked(n) {
		return false
	}
	return l.growLocked(n, false)
}

// makeRoomLocked makes room for n bytes, or presses the readers. waits: somebody waits, and
// readers that serve more come to release.
func (l *Log) makeRoomLocked(n int, waits bool) bool {
	if l.roomLocked(n) {
		return true
	}
	// The flag goes up before the readers' cursors are read once more; a reader
	// publishes its cursor before it looks at the flag. One sees the other.
	l.starved.Store(true)
	if l.roomLocked(n) {
		l.starved.Store(false)
		return true
	}
	l.pressLocked(n)
	l.starved.Store(waits)
	return false
}

// waitForRoomLocked is makeRoomLocked for a publication that comes later. The rings do not
// grow for it: it looks at the limit only, or, where they cannot grow, at what they hold.
func (l *Log) waitForRoomLocked(n int, stuck bool) bool {
	fits := func() bool { return l.allowsLocked(n) && (!stuck || l.fitsLocked(n)) }
	if fits() {
		return true
	}
	l.starved.Store(true)
	l.freeLocked()
	if fits() {
		l.starved.Store(false)
		return true
	}
	l.pressLocked(n)
	return false
}

// besideLocked reports whether the limit allows n bytes beside others that are due.
func (l *Log) besideLocked(due, n int) bool {
	fits := func() bool { return l.usedLocked()+due+n+entryBytes <= l.limit && !l.large(n) }
	if fits() {
		return true
	}
	l.freeLocked()
	return fits()
}

// allowsLocked reports whether the limit allows a frame of n bytes more.
func (l *Log) allowsLocked(n int) bool {
	used := l.usedLocked()
	return used == 0 || used+n+entryBytes <= l.limit && !l.large(n)
}

// large reports whether a frame of n bytes has to be alone in the log.
func (l *Log) large(n int) bool { return n+entryBytes > l.limit/2 }

// fitsLocked reports whether a frame of n bytes fits the limit and the rings as they are.
func (l *Log) fitsLocked(n int) bool {
	return l.allowsLocked(n) && l.holdsLocked(n)
}

// holdsLocked reports whether the rings as they are have room for a frame of n bytes.
func (l *Log) holdsLocked(n int) bool {
	w := l.window.Load()
	return w != nil &&
		int(l.head.Load()-l.tail)+n <= len(w.bytes) &&
		int(l.count.Load()-l.tailEntry)+1 <= len(w.entries)
}

// freeLocked frees what lies below the lowest cursor of all readers, and returns that.
func (l *Log) freeLocked() (low uint64) {
	low = l.head.Load()
	for _, r := range l.readers {
		low = min(low, r.served.Load())
	}
	w := l.window.Load()
	if w != nil && w.from > 0 {
		if low < w.from {
			return low // some are still in what was cut off
		}
		w = l.dropOlderLocked(w)
	}
	if low == l.tail {
		return low
	}
	l.tail = low
	count := l.count.Load()
	for l.tailEntry < count && w.at(l.tailEntry).end <= low {
		l.tailEntry++
	}
	return low
}

// growLocked makes the rings large enough for n bytes more. The limit allows it;
// the process's budget may not, unless it has to.
func (l *Log) growLocked(n int, must bool) bool {
	var w window
	if now := l.window.Load(); now != nil {
		w = *now
	}
	old, head, count := w, l.head.Load(), l.count.Load()
	bytes := grown(len(old.bytes), ringBytesMin, int(head-l.tail)+n)
	entries := grown(len(old.entries), ringEntriesMin, int(count-l.tailEntry)+1)
	if more := bytes - len(old.bytes) + entryBytes*(entries-len(old.entries)); must {
		l.budget.Give(-more)
	} else if !l.budget.Take(more) {
		l.channel.space.starved.Store(true)
		return false
	}
	if bytes > len(old.bytes) {
		w.bytes = make([]byte, bytes)
		old.copyBytes(w.bytes, l.tail, head)
	}
	if entries > len(old.entries) {
		w.entries = make([]entry, entries)
		old.copyEntries(w.entries, l.tailEntry, count)
	}
	l.window.Store(&w)
	return true
}

// appendLocked adds a frame for which roomLocked made room, and tells the readers.
func (l *Log) appendLocked(frame []byte, offset, from uint64) {
	w, head, count := l.window.Load(), l.head.Load(), l.count.Load()
	copyIn(w.bytes, head, frame)
	head += uint64(len(frame))
	*w.at(count) = entry{end: head, offset: offset, from: from}
	l.count.Store(count + 1)
	l.head.Store(head)
	l.idle = false
	for _, r := range l.readers {
		r.notify()
	}
}

// pressLocked asks the readers that hold the log back to let go of its older
// half, so that a later release finds room for any publication but a large one;
// for a large frame of n bytes, of everything. It returns the cursor.
func (l *Log) pressLocked(n int) (goal uint64) {
	used := l.usedLocked()
	goal = l.tail
	switch {
	case used == 0:
		return goal // only the budget is in the way, and there may be no rings
	case l.large(n):
		goal = l.head.Load()
		l.pressToLocked(goal)
		return goal
	}
	w, count := l.window.Load(), l.count.Load()
	for i := l.tailEntry; i < count && used > l.limit/2; i++ {
		end := w.at(i).end
		used -= int(end-goal) + entryBytes
		goal = end
	}
	l.pressToLocked(goal)
	return goal
}

// pressToLocked asks the readers to let go of everything below goal. It never lowers what a
// reader was asked for and has not seen yet.
func (l *Log) pressToLocked(goal uint64) {
	for _, r := range l.readers {
		if r.served.Load() < goal {
			if r.press.Load() < goal {
				r.press.Store(goal)
			}
			r.below = unknown
			r.notify()
		}
	}
}

// dropLocked gives the rings back. Nobody may read them any more.
func (l *Log) dropLocked() {
	l.budget.Give(l.window.Swap(nil).size())
}

// grown returns the power of two, from least on, that holds need.
func grown(now, least, need int) int {
	n := max(now, least)
	for n < need {
		n *= 2
	}
	return n
}

// copyIn writes p into a ring at a cursor.
func copyIn(ring []byte, at uint64, p []byte) {
	n := copy(ring[at&uint64(len(ring)-1):], p)
	copy(ring, p[n:])
}
