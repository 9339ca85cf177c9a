package channel

import "math"

// A gap or a reset is an entry of each log, where publications are missing. In a format that can
// tell it, its bytes do. In others it is a fence: an entry of one byte that is never sent. A reader
// sends what is before it, and takes each subscriber that has reached it over it (View.Fence). It
// goes in whatever the log's limit and the budget are.
//
// Rejected: a list of fences beside the log (it would have to be freed with the log's tail, and be
// copied for readers). The cursor of the newest is all that a reader without one ahead looks at.

// fromFence and above is an entry's from where it is a fence.
const fromFence = math.MaxUint64 - uint64(KindReset)

// fence returns the kind of a fence, KindMessage for any other entry.
func (e *entry) fence() Kind {
	if e.from < fromFence {
		return KindMessage
	}
	return Kind(e.from - fromFence)
}

// markLocked appends the entry of a gap or a reset, which is before the publications above an
// offset.
func (l *Log) markLocked(kind Kind, offset uint64) {
	c := l.channel
	text := l.format.Append(nil, &Publication{Kind: kind, Channel: c.name, Epoch: c.epoch, Prev: offset})
	if len(text) > 0 && l.giveRoomLocked(len(text)) {
		l.gaps.Add(1)
		l.appendLocked(text, offset, 0)
	} else {
		if !l.giveRoomLocked(1) {
			l.growLocked(1, true)
		}
		l.fenced.Store(l.head.Load() + 1)
		l.appendLocked([]byte{0}, offset, fromFence+uint64(kind))
	}
	if kind == KindReset {
		l.reset = l.head.Load()
	}
}

// Fence returns the kind of the fence at a subscriber's cursor, and the cursor behind it;
// KindMessage if there is none.
func (v *View) Fence(cursor uint64) (kind Kind, end uint64) {
	if cursor >= v.fenced || cursor >= v.head {
		return KindMessage, cursor
	}
	e := v.w.at(v.Find(cursor))
	return e.fence(), e.end
}

// beforeFence returns where the next fence above cursor begins, head if there is none below it and
// within n bytes.
func (v *View) beforeFence(cursor, head uint64, n int) uint64 {
	at := cursor
	for i := v.Find(cursor); at < head && at-cursor <= uint64(n); i++ {
		e := v.w.at(i)
		if e.fence() != KindMessage {
			return at
		}
		at = e.end
	}
	return head
}

// Told returns how many entries that tell a gap were appended since it was last called.
func (r *Reader) Told() uint64 {
	gaps := r.log.gaps.Load()
	n := gaps - r.gapsTold
	r.gapsTold = gaps
	return n
}
