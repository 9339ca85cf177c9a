package channel

import "slices"

// A history is the newest publications of a channel, as they were published: two
// rings like a log's, of payloads and of entries. It belongs to the channel's lock
// and is written and read under it; a subscriber that recovers gets copies, encoded in its
// own format. That costs more than reading a log, but costs other subscribers nothing: the logs of formats that nobody reads at present need not exist, and no
// laggard's cursor holds a history back.

// HistoryEntryBytes is what a kept publication costs beside its payload.
const HistoryEntryBytes = 40

// Keep is the size of one channel's history.
type Keep struct {
	Count int   // publications; 0 for none
	TTL   int64 // how long, in the unit of Publication.At
}

// History holds the bounds of a space's histories. All of them apply.
type History struct {
	// Of returns the size of a channel's history. It is called when the channel is created.
	Of     func(channel string) Keep
	Bytes  int     // of one channel: payloads, extras, and HistoryEntryBytes for each publication
	Budget *Budget // of all channels together
}

// kept is a publication of the history. Its payload begins where the one before
// it ends, and its extra stands behind the payload.
type kept struct {
	end    uint64 // cursor behind its last byte
	offset uint64
	at     int64
	from   uint64
	extra  uint32 // bytes of the extra
	binary bool
}

// A channel in which nothing was published costs no more than two words here.
type history struct {
	// Invariant: every publication above floor and up to the channel's offset is
	// in entries, in order.
	floor  uint64 // offset of the newest publication that is not kept
	*rings        // those of nothing are shared, and never written
}

type rings struct {
	bytes      []byte // a power of two in length, or nil
	entries    []kept // likewise
	tail, head uint64 // cursors of the oldest byte and behind the newest
	first, end uint64 // entries ever added below the oldest, and up to the newest
}

// nothing are the rings of histories that hold nothing.
var nothing rings

func (h *history) len() int          { return int(h.end - h.first) }
func (h *history) at(i uint64) *kept { return &h.entries[i&uint64(len(h.entries)-1)] }
func (h *history) size() int         { return len(h.bytes) + HistoryEntryBytes*len(h.entries) }

// add keeps p, and lets go of what the limits no longer allow. Where the budget
// has no room, older ones make room; where they cannot, p is not kept: false.
func (h *history) add(p *Publication, keep Keep, limit *History) bool {
	n := len(p.Payload) + len(p.Extra)
	if keep.Count <= 0 || n+HistoryEntryBytes > limit.Bytes {
		h.forget(p.Offset)
		return true
	}
	if h.rings == &nothing {
		h.rings = new(rings)
	}
	h.expire(p.At, keep.TTL)
	for h.len() >= keep.Count || int(h.head-h.tail)+n+HistoryEntryBytes*(h.len()+1) > limit.Bytes {
		h.drop()
	}
	h.grow(n, limit.Budget)
	for !h.fits(n) {
		if h.len() == 0 {
			h.forget(p.Offset)
			return false
		}
		h.drop()
	}
	copyIn(h.bytes, h.head, p.Payload)
	copyIn(h.bytes, h.head+uint64(len(p.Payload)), p.Extra)
	h.head += uint64(n)
	*h.at(h.end) = kept{end: h.head, offset: p.Offset, at: p.At, from: p.From, extra: uint32(len(p.Extra)), binary: p.Binary}
	h.end++
	return true
}

// fits reports whether the rings have room for a payload of n bytes.
func (h *history) fits(n int) bool {
	return int(h.head-h.tail)+n <= len(h.bytes) && h.len() < len(h.entries)
}

// grow makes the rings large enough for n bytes more, if the budget allows it.
func (h *history) grow(n int, budget *Budget) {
	if h.fits(n) && h.bytes != nil {
		return
	}
	bytes := grown(len(h.bytes), ringBytesMin, int(h.head-h.tail)+n)
	entries := grown(len(h.entries), ringEntriesMin, h.len()+1)
	if !budget.Take(bytes - len(h.bytes) + HistoryEntryBytes*(entries-len(h.entries))) {
		return
	}
	if bytes > len(h.bytes) {
		ring := make([]byte, bytes)
		a, b := h.slice(h.tail, h.head)
		copyIn(ring, h.tail, a)
		copyIn(ring, h.tail+uint64(len(a)), b)
		h.bytes = ring
	}
	if entries > len(h.entries) {
		ring := make([]kept, entries)
		for i := h.first; i < h.end; i++ {
			ring[i&uint64(entries-1)] = *h.at(i)
		}
		h.entries = ring
	}
}

// slice returns what lies between two cursors, in two parts where it wraps.
func (h *history) slice(from, to uint64) (a, b []byte) {
	if from == to {
		return nil, nil
	}
	i := from & uint64(len(h.bytes)-1)
	if n := to - from; i+n > uint64(len(h.bytes)) {
		return h.bytes[i:], h.bytes[:i+n-uint64(len(h.bytes))]
	}
	return h.bytes[i : i+to-from], nil
}

// drop lets go of the oldest publication.
func (h *history) drop() {
	e := h.at(h.first)
	h.floor, h.tail = e.offset, e.end
	h.first++
}

// forget lets go of everything up to an offset that is not kept itself.
func (h *history) forget(offset uint64) {
	h.floor = offset
	if h.rings != &nothing {
		h.tail, h.first = h.head, h.end
	}
}

// expire lets go of what is older than ttl at that time.
func (h *history) expire(now, ttl int64) {
	for h.len() > 0 && h.at(h.first).at < now-ttl {
		h.drop()
	}
}

// fill adds older publications, of which all above floor are given. The bounds hold for old and
// new together.
func (h *history) fill(pubs []Publication, floor uint64, keep Keep, limit *History) {
	if floor >= h.floor {
		return
	}
	newer := *h
	h.release(floor, limit.Budget)
	for i := range pubs {
		if p := &pubs[i]; p.Offset > floor && p.Offset <= newer.floor {
			h.add(p, keep, limit) // ignored: then the floor is higher
		}
	}
	var s Scratch
	for i := newer.first; i < newer.end; i++ {
		h.add(newer.publication(i, &s), keep, limit) // ignored: likewise
	}
}

// release gives the rings back; what they held is forgotten.
func (h *history) release(offset uint64, budget *Budget) {
	budget.Give(h.size())
	*h = history{floor: offset, rings: &nothing}
}

// after returns the index of the first entry above an offset.
func (h *history) after(offset uint64) uint64 {
	lo, hi := h.first, h.end
	for lo < hi {
		if mid := lo + (hi-lo)/2; h.at(mid).offset > offset {
			hi = mid
		} else {
			lo = mid + 1
		}
	}
	return lo
}

// before returns the offset before the newest n, of those up to offset.
func (h *history) before(n int, offset uint64) uint64 {
	switch {
	case n <= 0:
		return offset
	case n >= h.len():
		return h.floor
	}
	return h.at(h.end - uint64(n) - 1).offset
}

// Position is where a subscriber is in a channel's order: it has everything up to Offset.
type Position struct {
	Epoch  Epoch
	Offset uint64
}

// Ask is the position from which a subscriber wants a channel.
type Ask struct {
	Kind AskKind
	At   Position // AskSince, AskOffset
	N    int      // AskNewest
}

// AskKind is the way an Ask names a position.
type AskKind uint8

const (
	AskNow    AskKind = iota // after everything that was published
	AskSince                 // a position that the subscriber received before
	AskOffset                // At.Offset in the channel's epoch, whichever that is
	AskNewest                // before the newest N that are kept
)

// Recalled is the part of a channel's history that a subscriber is sent.
type Recalled struct {
	// Frames are the kept publications above the position asked for, encoded one
	// after the other: Count of them.
	Frames []byte
	Count  int
	// Gap reports that not everything since the requested position is still kept, or that
	// the position is of another epoch. The frames begin after From all the same.
	Gap      bool
	From, To Position
	// Taken is how many messages were published to the channel up to now.
	Taken uint64
	// More reports that the limit was reached, and that there is more above To.
	More bool
}

// Recall appends to dst the history since a position, in a format, and stops once it has appended
// limit bytes or more. If there is no more, live is the cursor
// in the log where live delivery continues: no publication lies between the two, and none is
// in both. now, in the unit of Publication.At, decides what has expired.
func (r *Reader) Recall(dst []byte, f Format, ask Ask, limit int, now int64, s *Scratch) (_ Recalled, live uint64) {
	out, live := r.recall(dst, f, ask, limit, now, s)
	if s.late { // a large one, which is not encoded under the lock
		s.late = false
		out.Frames = f.Append(out.Frames, &s.kept)
	}
	if s.kept = (Publication{}); cap(s.buf) > scratchKeep {
		s.buf = nil
	}
	return out, live
}

func (r *Reader) recall(dst []byte, f Format, ask Ask, limit int, now int64, s *Scratch) (Recalled, uint64) {
	c := r.log.channel
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.recallLocked(dst, ask, f, limit, now, s), r.log.head.Load()
}

// recallSmall is the size up to which what is recalled is encoded under the lock.
const recallSmall = 64 << 10

// recallLocked encodes up to limit bytes. A large publication comes alone: it is copied into
// s, to be encoded later.
func (c *Channel) recallLocked(dst []byte, ask Ask, f Format, limit int, now int64, s *Scratch) Recalled {
	r := c.positionLocked(ask, now)
	h := &c.history
	start := len(dst)
	for i := h.after(r.From.Offset); i < h.end; i++ {
		p := c.keptLocked(i, s)
		large := len(p.Payload)+len(p.Extra) > recallSmall
		if len(dst)-start >= limit || r.Count > 0 && large {
			r.More = true
			break
		}
		r.To.Offset = p.Offset
		if r.Count++; large {
			s.keepLate(p)
			r.More = i+1 < h.end
			break
		}
		dst = f.Append(dst, p)
	}
	r.Frames = dst
	return r
}

// keepLate copies a publication that lies in a history.
func (s *Scratch) keepLate(p *Publication) {
	p.Payload, p.Extra = slices.Clone(p.Payload), slices.Clone(p.Extra)
	s.late = true
}

// inEpoch makes an offset a position of the channel's epoch.
func (c *Channel) inEpoch(ask Ask) Ask {
	if ask.Kind == AskOffset {
		ask.Kind, ask.At.Epoch = AskSince, c.epoch
	}
	return ask
}

// positionLocked finds the position that is asked for, and lets go of what has expired. Its
// answer runs from there to the newest publication.
func (c *Channel) positionLocked(ask Ask, now int64) Recalled {
	h := &c.history
	h.expire(now, c.keep.TTL)
	ask = c.inEpoch(ask)
	at := ask.At
	switch ask.Kind {
	case AskNow:
		at = Position{c.epoch, c.offset}
	case AskNewest:
		at = Position{c.epoch, h.before(ask.N, c.offset)}
	}
	r := Recalled{Gap: at.Epoch != c.epoch || at.Offset < h.floor || at.Offset > c.reachesLocked()}
	r.From = Position{c.epoch, at.Offset}
	if r.Gap {
		r.From.Offset = h.floor
	}
	r.To, r.Taken = Position{c.epoch, c.offset}, c.taken
	return r
}

// KeptSince counts the publications that are kept above a position, without those that a connection has sent; all
// with 0.
func (c *Channel) KeptSince(at Position, from uint64) (n uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	h := &c.history
	if at.Epoch != c.epoch {
		at.Offset = h.floor
	}
	for i := h.after(at.Offset); i < h.end; i++ {
		if from == 0 || h.at(i).from != from {
			n++
		}
	}
	return n
}

// keptLocked returns a kept publication as it was published. Its payload lies in
// the history, or in s where it wraps.
func (c *Channel) keptLocked(i uint64, s *Scratch) *Publication {
	p := c.history.publication(i, s)
	p.Channel, p.Epoch = c.name, c.epoch
	return p
}

func (h *history) publication(i uint64, s *Scratch) *Publication {
	begin, prev := h.tail, h.floor
	if i > h.first {
		begin, prev = h.at(i-1).end, h.at(i-1).offset
	}
	e := h.at(i)
	a, b := h.slice(begin, e.end)
	if b != nil {
		s.buf = append(append(s.buf[:0], a...), b...)
		a = s.buf
	}
	payload := len(a) - int(e.extra)
	s.kept = Publication{Payload: a[:payload], Extra: a[payload:], Binary: e.binary, From: e.from, At: e.at, Offset: e.offset, Prev: prev}
	return &s.kept
}
