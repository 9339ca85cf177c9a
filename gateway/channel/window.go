package channel

// window is a log's memory: a ring of bytes and a ring of entries, each a power of two in length.
// The bytes are what goes to sockets as it is; an entry tells where a frame ends, so that a write
// which was cut, or which leaves out a subscriber's own messages, finds the frame's end again.
//
// A window that readers may have is only appended to, and overwritten below the lowest cursor that they have
// published. A log that grows or is cut gets another one, and the one before is never written again.
type window struct {
	bytes   []byte
	entries []entry

	// cuts is how often the log was cut before.
	cuts uint64
	// from is the cursor at which the log was cut, first the entry that begins there, base the
	// channel's offset before it: what came before lies in older, or is gone. 0 where all readers
	// have published higher cursors.
	from, first, base uint64
	based             bool // base is known
	older             *window
	head, count       uint64 // of an older window: where it ends
}

// entry describes one frame of a log.
type entry struct {
	end    uint64 // cursor behind its last byte
	offset uint64 // of the channel with it
	from   uint64 // connection that sent it, 0 for none; of a fence fromFence and its kind
}

// size returns what the window takes of the budget, with an older one.
func (w *window) size() int {
	if w == nil {
		return 0
	}
	return len(w.bytes) + entryBytes*len(w.entries) + w.older.size()
}

// at returns an entry.
func (w *window) at(i uint64) *entry { return &w.entries[i&uint64(len(w.entries)-1)] }

// slice returns the bytes between two cursors, in two parts if they wrap (otherwise b is nil).
func (w *window) slice(from, to uint64) (a, b []byte) {
	if from == to {
		return nil, nil
	}
	i, n := from&uint64(len(w.bytes)-1), to-from
	if i+n <= uint64(len(w.bytes)) {
		return w.bytes[i : i+n], nil
	}
	return w.bytes[i:], w.bytes[:i+n-uint64(len(w.bytes))]
}

// find returns the first entry from lo on and below hi that ends above cursor; hi if none does.
func (w *window) find(lo, hi, cursor uint64) uint64 {
	for lo < hi {
		mid := lo + (hi-lo)/2
		if w.at(mid).end > cursor {
			hi = mid
		} else {
			lo = mid + 1
		}
	}
	return lo
}

// copyBytes copies the bytes between two cursors into a ring that has room for them.
func (w *window) copyBytes(ring []byte, from, to uint64) {
	a, b := w.slice(from, to)
	copyIn(ring, from, a)
	copyIn(ring, from+uint64(len(a)), b)
}

// copyEntries copies the entries from one on and below another into a ring that has room for them.
func (w *window) copyEntries(ring []entry, first, end uint64) {
	for i := first; i < end; i++ {
		ring[i&uint64(len(ring)-1)] = *w.at(i)
	}
}

// View is what a reader can read of its log from a cursor on: a window, up to the head at the time. It stays valid
// until the reader publishes a higher cursor; where the log is cut meanwhile, too.
type View struct {
	w           *window
	head, count uint64
	first       uint64 // no entry below it is looked at
	fenced      uint64 // the end of the newest fence, 0 for none: see fence.go
}

// View returns what can be read from a cursor on that the reader holds. It ends below the log's head
// where the cursor lies in what was cut off. If that is gone from the log, ok is false: the view begins
// above cursor.
func (r *Reader) View(cursor uint64) (v View, ok bool) {
	l := r.log
	v = View{head: l.head.Load(), count: l.count.Load(), first: r.first}
	v.w, v.fenced = l.window.Load(), l.fenced.Load() // after the head: they hold for all that lies below
	if v.w != r.seen.w {
		r.note(v.w)
	}
	r.seen.head, r.seen.count, r.seen.fenced = v.head, v.count, v.fenced
	if v.w == nil || v.w.from == 0 {
		return v, true
	}
	return v.cut(cursor)
}

// cut is View for a log that was cut.
func (v View) cut(cursor uint64) (View, bool) {
	w := v.w
	if cursor < w.from && w.older != nil {
		w = w.older
		v.w, v.head, v.count = w, w.head, w.count
	}
	v.first = max(v.first, w.first)
	return v, cursor >= w.from
}

// pastMost is how many windows a reader keeps that the log has no more: of its laggards, and of those that it
// has served last.
const pastMost = 3

// note keeps what the reader has seen of the log before it was cut, as there may be subscribers. It counts
// against the budget, although the newest may be what the log itself still has.
func (r *Reader) note(w *window) {
	if w != nil && r.seen.w != nil && w.cuts != r.seen.w.cuts {
		if len(r.past) == pastMost {
			r.forget(pastMost - 1)
		}
		r.log.budget.Give(-r.seen.w.size())
		r.past = append(r.past, r.seen)
	}
	r.seen.w = w
}

// forget lets go of what note has kept, but the first n.
func (r *Reader) forget(n int) {
	for i := n; i < len(r.past); i++ {
		r.log.budget.Give(r.past[i].w.size())
		r.past[i] = View{}
	}
	r.past = r.past[:n]
}

// Past returns what was at a cursor that the reader holds and of which View is not ok: for one that is late by
// more than a cut, as it has seen that before. ok is false if it has not.
func (r *Reader) Past(cursor uint64) (v View, ok bool) {
	for _, seen := range r.past {
		seen.first = r.first
		if at, there := seen.cut(cursor); there && cursor <= at.head && (!ok || v.head == cursor) {
			v, ok = at, true // what ends at cursor gives way to what goes on there
		}
	}
	return v, ok
}

// look returns the view of a cursor, wherever it lies.
func (r *Reader) look(cursor uint64) (v View, ok bool) {
	if v, ok = r.View(cursor); !ok {
		v, ok = r.Past(cursor)
	}
	return v, ok
}

// Head returns the cursor after the last byte that can be read.
func (v *View) Head() uint64 { return v.head }

// Bytes returns the bytes between two cursors, in two parts if they wrap (otherwise b is
// nil). They must not be changed.
func (v *View) Bytes(from, to uint64) (a, b []byte) {
	if from == to {
		return nil, nil // there may be no window
	}
	return v.w.slice(from, to)
}

// Find returns the index of the entry that holds the byte at cursor: the first whose
// end is above cursor, or the count of entries when cursor is at the head.
func (v *View) Find(cursor uint64) uint64 {
	if v.first >= v.count || v.w == nil {
		return v.count
	}
	return v.w.find(v.first, v.count, cursor)
}

// Entry returns where an entry ends, and the connection that sent it. i is at
// least what Find returned for a cursor that the reader holds, and below the count of
// entries.
func (v *View) Entry(i uint64) (end, from uint64) {
	e := v.w.at(i)
	return e.end, e.from
}

// Offset returns the channel's offset with an entry, with i as for Entry.
func (v *View) Offset(i uint64) uint64 { return v.w.at(i).offset }

// Floor returns the last entry's end that is not above cursor; from is one that is not.
func (v *View) Floor(from, cursor uint64) uint64 {
	i := v.Find(cursor)
	if i <= v.Find(from) {
		return from
	}
	return v.w.at(i - 1).end
}

// Fit returns the furthest entry's end that is at most n bytes above cursor, and at
// least the end of the entry at cursor; head when all of it fits. cursor is an
// entry's end below head, and head not above the view's. It never goes beyond a fence: at one it
// returns cursor.
func (v *View) Fit(cursor, head uint64, n int) uint64 {
	if cursor < v.fenced {
		if head = v.beforeFence(cursor, head, n); head == cursor {
			return cursor
		}
	}
	if head-cursor <= uint64(n) {
		return head
	}
	i := v.Find(cursor + uint64(n))
	if first := v.Find(cursor); i <= first {
		return v.w.at(first).end
	}
	return v.w.at(i - 1).end
}
