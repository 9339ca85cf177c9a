package channel

import "sync/atomic"

// A log is two rings, one of bytes and one of entries, each a power of two in
// length. The bytes are what goes to sockets as it is; an entry tells where a
// frame ends, so that a write which was cut, or which leaves out a subscriber's
// own messages, finds the frame's end again.
//
// One writer appends under the channel's lock. Many loops read without it:
//
//   - A reader loads head (or count) first and the ring's pointer after it; the
//     writer stores a grown ring's pointer before the head that needs it. So the
//     ring a reader holds has all bytes below the head it holds. The ring that was
//     outgrown is never written again and goes with its last holder.
//   - Bytes and entries are overwritten only below the lowest position that the
//     readers have published; publishing is a reader's last use of them.
//
// Rejected: a chain of fixed segments (a position would need a look-up, and a
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

// entry describes one frame of a log.
type entry struct {
	end    uint64 // position behind its last byte
	offset uint64 // of the channel with it
	from   uint64 // connection that sent it, 0 for none
}

// Log holds the frames of one channel in one wire format, from the slowest subscriber's
// position to the head.
type Log struct {
	// Set at construction.
	channel *Channel
	format  Format
	limit   int // bytes and entries together, in bytes; a power of two
	budget  *Budget

	// Atomic: written under the channel's lock, read by loops.
	head    atomic.Uint64
	count   atomic.Uint64 // entries ever appended
	bytes   atomic.Pointer[[]byte]
	entries atomic.Pointer[[]entry]
	// starved is set while a publisher waits, so that readers come to release.
	starved atomic.Bool

	// Guarded by the channel's lock.
	readers   []*Reader
	tail      uint64 // Invariant: tail <= every reader's served <= head
	tailEntry uint64 // entries below it are freed
	idle      bool   // nothing was appended since the last Trim
}

// Head returns the position after the last byte appended.
func (l *Log) Head() uint64 { return l.head.Load() }

// Channel returns the channel whose log it is.
func (l *Log) Channel() *Channel { return l.channel }

// Bytes returns the bytes between two positions, in two parts if they wrap (otherwise b is
// nil). The caller's reader must hold from, and to must not be above a head
// it has loaded. The bytes must not be changed, and not be used after the
// reader published a position above from.
func (l *Log) Bytes(from, to uint64) (a, b []byte) {
	if from == to {
		return nil, nil
	}
	ring := *l.bytes.Load()
	mask := uint64(len(ring) - 1)
	i, n := from&mask, to-from
	if i+n <= uint64(len(ring)) {
		return ring[i : i+n], nil
	}
	return ring[i:], ring[:i+n-uint64(len(ring))]
}

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
	return l.growLocked(n)
}

// makeRoomLocked makes room for n bytes, or presses the readers. waits: somebody waits, and
// readers that serve more come to release.
func (l *Log) makeRoomLocked(n int, waits bool) bool {
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

// fitsLocked reports whether the rings as they are take a frame of n bytes.
func (l *Log) fitsLocked(n int) bool {
	return l.allowsLocked(n) &&
		int(l.head.Load()-l.tail)+n <= ringLen(&l.bytes) &&
		int(l.count.Load()-l.tailEntry)+1 <= ringLen(&l.entries)
}

// freeLocked frees what lies below the lowest position of all readers.
func (l *Log) freeLocked() {
	low := l.head.Load()
	for _, r := range l.readers {
		low = min(low, r.served.Load())
	}
	if low == l.tail {
		return
	}
	l.tail = low
	count := l.count.Load()
	entries := *l.entries.Load()
	mask := uint64(len(entries) - 1)
	for l.tailEntry < count && entries[l.tailEntry&mask].end <= low {
		l.tailEntry++
	}
}

// growLocked makes the rings large enough for n bytes more. The limit allows it;
// the process's budget may not.
func (l *Log) growLocked(n int) bool {
	oldBytes, oldEntries := ringLen(&l.bytes), ringLen(&l.entries)
	newBytes := grown(oldBytes, ringBytesMin, int(l.head.Load()-l.tail)+n)
	newEntries := grown(oldEntries, ringEntriesMin, int(l.count.Load()-l.tailEntry)+1)
	if !l.budget.Take(newBytes - oldBytes + entryBytes*(newEntries-oldEntries)) {
		l.channel.space.starved.Store(true)
		return false
	}
	if newBytes > oldBytes {
		ring := make([]byte, newBytes)
		head := l.head.Load()
		if head > l.tail {
			a, b := l.Bytes(l.tail, head)
			copyIn(ring, l.tail, a)
			copyIn(ring, l.tail+uint64(len(a)), b)
		}
		l.bytes.Store(&ring)
	}
	if newEntries > oldEntries {
		ring := make([]entry, newEntries)
		if oldEntries > 0 {
			old := *l.entries.Load()
			for i := l.tailEntry; i < l.count.Load(); i++ {
				ring[i&uint64(newEntries-1)] = old[i&uint64(oldEntries-1)]
			}
		}
		l.entries.Store(&ring)
	}
	return true
}

// appendLocked adds a frame for which roomLocked made room, and tells the readers.
func (l *Log) appendLocked(frame []byte, offset, from uint64) {
	head := l.head.Load()
	copyIn(*l.bytes.Load(), head, frame)
	head += uint64(len(frame))
	entries := *l.entries.Load()
	count := l.count.Load()
	entries[count&uint64(len(entries)-1)] = entry{end: head, offset: offset, from: from}
	l.count.Store(count + 1)
	l.head.Store(head)
	l.idle = false
	for _, r := range l.readers {
		r.notify()
	}
}

// pressLocked asks the readers that hold the log back to let go of its older
// half, so that a later release finds room for any publication but a large one;
// for a large frame of n bytes, of everything.
func (l *Log) pressLocked(n int) {
	used := l.usedLocked()
	if used == 0 {
		return // only the budget is in the way, and there may be no rings
	}
	if l.large(n) {
		l.pressToLocked(l.head.Load())
		return
	}
	goal := l.tail
	entries := *l.entries.Load()
	mask := uint64(len(entries) - 1)
	count := l.count.Load()
	for i := l.tailEntry; i < count && used > l.limit/2; i++ {
		end := entries[i&mask].end
		used -= int(end-goal) + entryBytes
		goal = end
	}
	l.pressToLocked(goal)
}

// pressToLocked asks the readers to let go of everything below goal.
func (l *Log) pressToLocked(goal uint64) {
	for _, r := range l.readers {
		if r.served.Load() < goal {
			r.press.Store(goal)
			r.below = unknown
			r.notify()
		}
	}
}

// dropLocked gives the rings back. Nobody may read them any more.
func (l *Log) dropLocked() {
	l.budget.Give(ringLen(&l.bytes) + entryBytes*ringLen(&l.entries))
	l.bytes.Store(nil)
	l.entries.Store(nil)
}

// ringLen returns the length of a ring that may not exist yet.
func ringLen[T any](p *atomic.Pointer[[]T]) int {
	if ring := p.Load(); ring != nil {
		return len(*ring)
	}
	return 0
}

// grown returns the power of two, from least on, that holds need.
func grown(now, least, need int) int {
	n := max(now, least)
	for n < need {
		n *= 2
	}
	return n
}

// copyIn writes p into a ring at a position.
func copyIn(ring []byte, at uint64, p []byte) {
	n := copy(ring[at&uint64(len(ring)-1):], p)
	copy(ring, p[n:])
}
