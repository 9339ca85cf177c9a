package event

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"sluice/gateway/saved"
)

// How a notifier moves to another process. The old one calls Pause and Save. The new one calls Load
// before Add, and Hold; takes the connections, which it joins again; and calls Settle. What waits is
// sent by the new one, with the same IDs, epochs and numbers. If the move fails the old one calls
// Resume.

// savedVersion is the version of what Save writes.
const savedVersion = 1

// Pause ends all attempts to send something, until Resume.
func (n *Notifier) Pause() {
	done := make(chan struct{})
	n.do(func() {
		for _, q := range n.queues {
			q.pause()
		}
		close(done)
	})
	select {
	case <-done:
	case <-n.over:
	}
}

// Resume ends Pause.
func (n *Notifier) Resume() {
	n.do(func() {
		for _, q := range n.queues {
			q.resume()
		}
	})
}

// pause cancels attempts, and waits for them.
func (q *Queue) pause() {
	q.mu.Lock()
	q.stopped = true
	q.stop()
	for q.flying > 0 {
		q.landed.Wait()
	}
	q.mu.Unlock()
}

func (q *Queue) resume() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.stopped = false
	q.attempts, q.stop = context.WithCancel(context.Background())
	q.signal()
}

// Save appends the state of a notifier that is paused. Nothing of this process is joined or left
// any more.
func (n *Notifier) Save(dst []byte) []byte {
	done := make(chan struct{})
	n.do(func() {
		dst = n.append(dst)
		close(done)
	})
	select {
	case <-done:
	case <-n.over:
	}
	return dst
}

// append is Save on the notifier's goroutine.
func (n *Notifier) append(dst []byte) []byte {
	dst = append(dst, savedVersion)
	dst = n.levels.append(dst, n.at)
	dst = binary.AppendUvarint(dst, uint64(len(n.queues)))
	for _, q := range n.queues {
		dst = saved.AppendBytes(dst, q.o.Name)
		dst = saved.AppendPart(dst, q.append)
	}
	return dst
}

// Load takes what Save has appended. It is called before anything else.
func (n *Notifier) Load(b []byte) error {
	result := make(chan error, 1)
	n.do(func() { result <- n.load(b) })
	select {
	case err := <-result:
		return err
	case <-n.over:
		return errClosed
	}
}

// load is Load on the notifier's goroutine.
func (n *Notifier) load(b []byte) error {
	r := saved.Read("events", b, savedVersion)
	levels := newLevels(n.levels.delay, n.announce)
	levels.read(r, n.at)
	queues := make(map[string][]byte)
	for range r.Count() {
		name := string(r.View())
		queues[name] = r.Bytes()
	}
	if err := r.End(); err != nil {
		return err
	}
	n.levels, n.loaded = levels, queues
	return nil
}

// append appends the levels.
func (l *levels) append(dst []byte, now time.Duration) []byte {
	for i := range l.nodes {
		dst = saved.AppendBytes(dst, l.nodes[i].id)
		dst = append(dst, flags(l.nodes[i].draining))
	}
	for p := range l.parts {
		part := &l.parts[p]
		dst = append(dst, flags(part.owned))
		dst = binary.AppendUvarint(dst, uint64(len(part.channels)))
		add := func(c *level) {
			dst = saved.AppendBytes(dst, c.channel)
			dst = append(dst, flags(c.told, c.leaving))
			dst = binary.AppendUvarint(dst, uint64(max(c.due-now, 0)))
			for _, b := range c.nodes {
				dst = binary.AppendUvarint(dst, b)
			}
		}
		for _, c := range part.channels {
			add(c)
		}
	}
	return dst
}

// read reads what append has written.
func (l *levels) read(r *saved.Reader, now time.Duration) {
	for i := range l.nodes {
		l.nodes[i].id = string(r.View())
		l.nodes[i].draining = r.Byte() == 1
	}
	var leaving []*level
	for p := range l.parts {
		part := &l.parts[p]
		part.owned = r.Byte() == 1
		for range r.Count() {
			c := &level{channel: string(r.View()), part: uint8(p)}
			flags := r.Byte()
			c.told = flags&1 != 0
			c.due = now + time.Duration(min(r.Uint(), uint64(l.delay)))
			for i := range c.nodes {
				c.nodes[i] = r.Uint()
			}
			part.channels[c.channel] = c
			if c.told {
				part.occupied++
			}
			if c.told && flags&2 != 0 {
				leaving = append(leaving, c)
			}
		}
	}
	slices.SortFunc(leaving, func(a, b *level) int { return int(a.due - b.due) })
	for _, c := range leaving {
		l.link(c)
	}
}

// flags returns a byte with a bit for each.
func flags(all ...bool) (b byte) {
	for i, on := range all {
		if on {
			b |= 1 << i
		}
	}
	return b
}

// selects returns a text that is the same for filters that are.
func (f *Filter) selects() string { return fmt.Sprintf("%d %q", f.Types, f.Channels) }

// append appends a queue, which is paused.
func (q *Queue) append(dst []byte) []byte {
	q.mu.Lock()
	defer q.mu.Unlock()
	dst = saved.AppendBytes(dst, q.o.selects())
	dst = append(dst, flags(q.gone))
	for p := range q.lines {
		l := &q.lines[p]
		dst = saved.AppendBytes(dst, l.epoch)
		dst = binary.AppendUvarint(dst, l.seq)
		dst = append(dst, flags(l.lost, l.batch != nil))
		dst = binary.AppendUvarint(dst, l.dropped)
		if l.batch != nil {
			dst = saved.AppendBytes(saved.AppendBytes(dst, l.batch.ID), l.batch.Body())
		}
		dst = binary.AppendUvarint(dst, uint64(len(l.segments)))
		for _, s := range l.segments {
			dst = s.append(dst)
		}
	}
	return dst
}

func (s *segment) append(dst []byte) []byte {
	if s.snap == nil {
		return saved.AppendBytes(append(dst, 0), s.records)
	}
	n := s.snap
	dst = append(dst, byte(n.kind), flags(n.begun))
	for _, v := range []uint64{uint64(n.time), uint64(n.next), uint64(n.page), n.dropped, uint64(len(n.names))} {
		dst = binary.AppendUvarint(dst, v)
	}
	for _, name := range n.names {
		dst = saved.AppendBytes(dst, name)
	}
	return dst
}

// read reads what append has written. It returns false if the queue has to begin anew.
func (q *Queue) read(b []byte) bool {
	r := saved.ReadPart("a queue of events", b)
	if string(r.View()) != q.o.selects() {
		return false
	}
	var lines [Partitions]line
	gone := r.Byte() == 1
	held := 0
	for p := range lines {
		l := &lines[p]
		l.epoch, l.seq = string(r.View()), r.Uint()
		flags := r.Byte()
		l.lost, l.dropped = flags&1 != 0, r.Uint()
		l.since = q.now()
		if flags&2 != 0 {
			l.batch = readBatch(r, p)
			l.batch.since = q.now()
			l.batch.held = l.batch.size()
			held += l.batch.held
		}
		for range r.Count() {
			l.read(r)
		}
		held += l.held
	}
	if r.End() != nil {
		return false
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.lines, q.gone, q.held = lines, gone, held
	for p := range q.lines {
		if l := &q.lines[p]; l.lost && l.batch == nil {
			q.resetLater(p)
		}
	}
	q.signal()
	return true
}

func readBatch(r *saved.Reader, p int) *Batch {
	b := &Batch{Partition: p, ID: string(r.View()), body: r.Bytes()}
	var all struct{ Events []Event }
	if err := json.Unmarshal(b.body, &all); err != nil {
		r.Fail()
	}
	b.Events = all.Events
	return b
}

// read reads a segment.
func (l *line) read(r *saved.Reader) {
	kind := Type(r.Byte())
	if kind == 0 {
		records := r.Bytes()
		if !valid(records) {
			r.Fail()
			return
		}
		l.segments = append(l.segments, segment{records: records, held: cap(records)})
		l.held += cap(records)
		each([][]byte{records}, func(r *record) {
			if l.events++; r.kind.level() {
				l.levels++
			}
		})
		return
	}
	n := &snapshot{kind: kind, begun: r.Byte() == 1, time: int64(r.Uint()), next: int(r.Uint()), page: int(r.Uint()), dropped: r.Uint()}
	for range r.Count() {
		n.names = append(n.names, string(r.View()))
	}
	if n.next > len(n.names) || n.next < 0 || kind != Digest && kind != Reset || n.over() {
		r.Fail()
		return
	}
	l.segments = append(l.segments, segment{snap: n})
}
