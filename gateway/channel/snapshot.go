package channel

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"

	"sluice/gateway/saved"
)

// A space is handed over to the space of another process in two steps: everything, while it is used (Copy),
// and what has changed since, when nothing is published any more (Rest). So the second step is short, however much
// is kept. What travels of a channel is its order and its history. What lies in its logs
// travels with the subscribers that are behind (Tail), and publishers do not travel at all: they try again.

// snapshotVersion is that of Copy, Rest and AppendTail.
const snapshotVersion = 1

// What a snapshot consists of.
const (
	snapSeed    = byte(iota) // the space's seed, first
	snapShards               // each shard's number of ended channels, last
	snapChannel              // a channel, with all of its history
	snapMore                 // a channel that was copied before: what is new
	snapEnded                // the name of one that was copied before, and has ended
)

// Snapshot hands a space over. Its methods are called by one goroutine.
type Snapshot struct {
	space  *Space
	number uint32
	shard  int                   // the one that is being copied
	due    []*Channel            // of it
	copied [spaceShards][]copied // lists, and no maps, as each channel is looked at while everybody waits
}

// copied is what the other process knows of a channel.
type copied struct {
	channel       *Channel
	at            Position
	taken         uint64
	floor         uint64
	given, filled bool
	read          bool
	whole         bool // it was copied
}

// Snapshot begins to hand the space over.
func (s *Space) Snapshot() *Snapshot {
	return &Snapshot{space: s, number: s.snapshots.Add(1), shard: -1}
}

// Copy appends some of the space's channels: about limit bytes, or more where one channel has more. It returns false
// when all were appended before, and appends nothing.
func (n *Snapshot) Copy(dst []byte, limit int) (_ []byte, more bool) {
	if n.shard == spaceShards {
		return dst, false
	}
	start := len(dst)
	dst = append(dst, snapshotVersion)
	if n.shard < 0 {
		dst = binary.AppendUvarint(append(dst, snapSeed), n.space.seed)
	}
	var s Scratch
	for len(dst)-start < limit && n.shard < spaceShards {
		if len(n.due) == 0 {
			n.next()
			continue
		}
		last := len(n.due) - 1
		c := n.due[last]
		n.due[last] = nil
		n.due = n.due[:last]
		sh := &n.space.shards[n.shard]
		sh.mu.Lock()
		dst = n.add(dst, n.shard, c, &s)
		sh.mu.Unlock()
	}
	return dst, true
}

// next goes on with the next shard.
func (n *Snapshot) next() {
	if n.shard++; n.shard == spaceShards {
		return
	}
	sh := &n.space.shards[n.shard]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	n.copied[n.shard] = make([]copied, 0, len(sh.byName))
	for _, c := range sh.byName {
		n.due = append(n.due, c)
	}
}

// add appends a channel that was not copied before. The shard's lock is held.
func (n *Snapshot) add(dst []byte, shard int, c *Channel, s *Scratch) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := copied{channel: c}
	if dst, ok := n.append(dst, &now, s); ok {
		n.copied[shard] = append(n.copied[shard], now)
		c.snapshot = n.number
		return dst
	}
	return dst
}

// append appends what is new of a channel that is not dead, and notes it. Its lock is held, and its shard's. It returns
// false if there is nothing.
func (n *Snapshot) append(dst []byte, known *copied, s *Scratch) (_ []byte, ok bool) {
	c, before := known.channel, *known
	now := copied{channel: c, at: Position{c.epoch, c.offset}, taken: c.taken, floor: c.history.floor, given: c.given, read: c.idle == nil, whole: true}
	if a := c.remote; a != nil {
		now.filled = a.filled
		if !a.attached {
			return dst, false // it holds nothing that its engine does not have
		}
	}
	if c.dead || before == now {
		return dst, false
	}
	*known = now
	kind := snapChannel
	if before.whole && before.at.Epoch == c.epoch {
		kind = snapMore
	}
	dst = saved.AppendBytes(append(dst, kind), c.name)
	dst = binary.AppendUvarint(binary.AppendUvarint(dst, uint64(c.epoch)), c.offset)
	flags := byte(0)
	if now.given {
		flags |= 1
	}
	if now.filled {
		flags |= 2
	}
	dst = append(binary.AppendUvarint(dst, c.taken), flags)
	idleSince := c.idleSince
	if now.read {
		idleSince = n.space.now.Load()
	}
	dst = binary.AppendVarint(dst, idleSince)
	h, from := &c.history, c.history.floor
	dst = binary.AppendUvarint(dst, h.floor)
	if kind == snapMore {
		from = max(from, before.at.Offset)
	}
	first := h.after(from)
	dst = binary.AppendUvarint(dst, h.end-first)
	for i := first; i < h.end; i++ {
		p := h.publication(i, s)
		dst = binary.AppendUvarint(dst, p.Offset)
		dst = binary.AppendVarint(dst, p.At)
		dst = binary.AppendUvarint(dst, p.From)
		if p.Binary {
			dst = append(dst, 1)
		} else {
			dst = append(dst, 0)
		}
		dst = saved.AppendBytes(saved.AppendBytes(dst, p.Payload), p.Extra)
	}
	return dst, true
}

// Rest appends what has changed since Copy. Nothing is published any more, and no channel begins. One that is not read may
// end: the number of its shard is that of the moment at which its channels were looked at.
func (n *Snapshot) Rest(dst []byte) []byte {
	dst = append(dst, snapshotVersion)
	var ended [spaceShards]uint64
	var s Scratch
	for i := range n.space.shards {
		sh := &n.space.shards[i]
		sh.mu.Lock()
		ended[i] = sh.ended
		live := 0
		for k := range n.copied[i] {
			known := &n.copied[i][k]
			c := known.channel
			c.mu.Lock()
			switch {
			case !c.dead:
				dst, _ = n.append(dst, known, &s)
				live++
			case sh.byName[c.name] == nil:
				dst = saved.AppendBytes(append(dst, snapEnded), c.name)
			}
			c.mu.Unlock()
		}
		if live < len(sh.byName) {
			for _, c := range sh.byName {
				if c.snapshot != n.number {
					dst = n.add(dst, i, c, &s)
				}
			}
		}
		sh.mu.Unlock()
	}
	dst = append(dst, snapShards)
	for _, number := range ended {
		dst = binary.AppendUvarint(dst, number)
	}
	return dst
}

// Restore takes what Copy or Rest has appended in another process, in that order. The space has no channels of its
// own before, and nobody uses it. Its channels wait for their subscribers, until Restored.
func (s *Space) Restore(b []byte) error {
	r := saved.Read("a part of the channels", b, snapshotVersion)
	for r.More() {
		switch kind := r.Byte(); kind {
		case snapSeed:
			s.seed = r.Uint()
		case snapShards:
			for i := range s.shards {
				sh := &s.shards[i]
				sh.mu.Lock()
				sh.ended = r.Uint()
				sh.mu.Unlock()
			}
		case snapChannel, snapMore:
			if err := s.restore(r, kind == snapMore); err != nil {
				return err
			}
		case snapEnded:
			s.restoreEnded(string(r.Bytes()))
		default:
			r.Fail()
		}
	}
	return r.End()
}

// restore takes a channel, or what is new of one.
func (s *Space) restore(r *saved.Reader, more bool) error {
	name := string(r.Bytes())
	if !ValidName(name) {
		r.Fail()
		return nil
	}
	sh, c, err := s.open(name)
	if err != nil {
		return fmt.Errorf("%w: the other process has more than %d", err, s.channelsMax.Load())
	}
	defer sh.mu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.epoch, c.offset, c.taken = Epoch(r.Uint()), r.Uint(), r.Uint()
	flags, idleSince, floor := r.Byte(), r.Int(), r.Uint()
	c.given = flags&1 != 0
	h, limit := &c.history, &s.history
	if !more {
		h.release(floor, limit.Budget)
	}
	for range r.Count() {
		p := Publication{Offset: r.Uint(), At: r.Int(), From: r.Uint(), Binary: r.Byte() != 0, Payload: r.View(), Extra: r.View()}
		h.add(&p, c.keep, limit) // ignored: then it has less
	}
	for h.len() > 0 && h.at(h.first).offset <= floor {
		h.drop()
	}
	h.floor = max(h.floor, floor)
	if a := c.remote; a != nil {
		a.asked, a.attached, a.filled, a.head = true, true, flags&2 != 0, c.offset
		a.holders = map[Holder]hold{restored{}: {}}
		return nil
	}
	sh.useLocked(c)
	c.idleSince, c.counted = idleSince, c.taken
	if h.len() > 0 {
		c.idle = sh.idle.PushBack(c)
	} else {
		c.idle = sh.empty.PushBack(c)
	}
	return nil
}

// Discard forgets what was restored: another process has died before it was complete. Channels begin with orders that
// nobody knows.
func (s *Space) Discard() {
	for i := range s.shards {
		sh := &s.shards[i]
		sh.mu.Lock()
		for _, c := range sh.byName {
			c.mu.Lock()
			s.end(sh, c)
			c.mu.Unlock()
		}
		sh.ended = 0
		sh.mu.Unlock()
	}
	s.seed = rand.Uint64()
}

// restored holds a remote channel until its subscribers are there.
type restored struct{}

// Prepared implements Holder. It is not called: the channel is ready.
func (restored) Prepared(error) {}

// restoreEnded takes that a channel has ended. Its shard's number comes apart.
func (s *Space) restoreEnded(name string) {
	sh := s.shard(name)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if c := sh.byName[name]; c != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		ended := sh.ended
		s.end(sh, c)
		sh.ended = ended
	}
}

// AttachRestored has the engine attach the remote channels that were restored.
func (s *Space) AttachRestored() {
	var attach []*Channel
	for i := range s.shards {
		sh := &s.shards[i]
		sh.mu.Lock()
		for _, c := range sh.byName {
			if c.remote != nil {
				attach = append(attach, c)
			}
		}
		sh.mu.Unlock()
	}
	for _, c := range attach {
		s.attacher.Attach(c)
	}
}

// Restored is called when all subscribers have joined that have come along: channels that they would have kept, and have not, end, and
// the engine is asked to attach the remote ones.
func (s *Space) Restored() {
	var attach []*Channel
	for i := range s.shards {
		sh := &s.shards[i]
		sh.mu.Lock()
		for _, c := range sh.byName {
			c.mu.Lock()
			switch {
			case c.remote != nil:
				if c.remote.dropLocked(restored{}); s.endUnheldLocked(sh, c) == nil {
					attach = append(attach, c)
				}
			case len(c.logs) == 0 && c.keep.Count <= 0:
				s.end(sh, c)
			}
			c.mu.Unlock()
		}
		sh.mu.Unlock()
	}
	for _, c := range attach {
		s.attacher.Attach(c)
	}
}

// AppendTail appends what the log has for a subscriber at a cursor that the reader holds, up to the log's head: in the
// other process it is at cursor 0. What lies below from, which is the cursor or what AppendFrames has returned, is left
// out. ok is false if some of it is gone from the log.
func (r *Reader) AppendTail(dst []byte, cursor, from uint64) (_ []byte, ok bool) {
	l := r.log
	l.channel.mu.Lock()
	defer l.channel.mu.Unlock()
	first, there := r.look(cursor)
	if !there && cursor < l.head.Load() {
		return dst, false
	}
	base, based := r.offset(&first, cursor)
	if !based {
		base = 0
	}
	start := dst
	dst = binary.AppendUvarint(append(dst, snapshotVersion), base)
	dst = binary.AppendUvarint(dst, max(l.reset, cursor)-cursor)
	if dst, ok = r.appendFramesLocked(dst, from); !ok {
		return start, false
	}
	return dst, true
}

// AppendFrames appends what the log has from a cursor on, which the reader holds, up to its head at end: for AppendTail, which
// then leaves it out.
func (r *Reader) AppendFrames(dst []byte, cursor uint64) (_ []byte, end uint64, ok bool) {
	l := r.log
	l.channel.mu.Lock()
	defer l.channel.mu.Unlock()
	dst, ok = r.appendFramesLocked(dst, cursor)
	return dst, l.head.Load(), ok
}

func (r *Reader) appendFramesLocked(dst []byte, cursor uint64) (_ []byte, ok bool) {
	start, head := dst, r.log.head.Load()
	for cursor < head {
		v, ok := r.look(cursor)
		if !ok || v.head <= cursor || v.w == nil {
			return start, false
		}
		for i := v.Find(cursor); i < v.count; i++ {
			e := v.w.at(i)
			dst = binary.AppendUvarint(binary.AppendUvarint(dst, e.offset), e.from)
			a, b := v.Bytes(cursor, e.end)
			dst = binary.AppendUvarint(dst, uint64(len(a)+len(b)))
			dst = append(append(dst, a...), b...)
			cursor = e.end
		}
	}
	return dst, true
}

// RestoreTail takes what AppendTail has appended in another process, into a log to which nothing was appended; before is
// what AppendFrames has, of which the first bytes of frames are skipped. r begins below it, at cursor 0. Readers that join
// later do with Rewind, before anything is read.
func (r *Reader) RestoreTail(tail, before []byte, skip uint64) (base uint64, err error) {
	s := saved.Read("a log", tail, snapshotVersion)
	l := r.log
	l.channel.mu.Lock()
	defer l.channel.mu.Unlock()
	base = s.Uint()
	reset := s.Uint()
	first := saved.ReadPart("a copied log", before)
	l.restoreLocked(first, skip)
	l.restoreLocked(s, 0)
	l.reset = reset
	r.Rewind(base)
	if err := first.End(); err != nil {
		return base, err
	}
	return base, s.End()
}

// restoreLocked appends frames, but for those that make up the first bytes.
func (l *Log) restoreLocked(s *saved.Reader, skip uint64) {
	for s.More() {
		offset, from, frame := s.Uint(), s.Uint(), s.View()
		n := uint64(len(frame))
		if n == 0 || skip > 0 && n > skip {
			s.Fail()
			return
		}
		if skip > 0 {
			skip -= n
			continue
		}
		if !l.holdsLocked(len(frame)) {
			l.growLocked(len(frame), true)
		}
		if from >= fromFence {
			l.fenced.Store(l.head.Load() + n)
		}
		l.appendLocked(frame, offset, from)
	}
	if skip > 0 {
		s.Fail()
	}
}

// Rewind takes a reader to the beginning of a log that RestoreTail, which returned base, has filled.
func (r *Reader) Rewind(base uint64) {
	r.first, r.at, r.base = 0, 0, base
	r.served.Store(0)
}
