package event

import (
	"fmt"
	"time"
)

// line is what waits for a receiver in a partition, in order. The queue's lock guards it.
type line struct {
	segments []segment
	held     int // the memory of their records
	events   int // in records that wait, without those of snapshots
	levels   int // of which are Occupied or Vacated
	since    time.Duration
	epoch    string
	seq      uint64 // of the last event that was put into a batch

	batch *Batch        // that is sent; nil for none
	busy  bool          // an attempt to send it is under way
	tries int           // that have failed
	after time.Duration // when the next one may begin

	// lost means that everything was dropped, and nothing waits: a reset comes as soon as the
	// receiver has accepted the batch that is being sent. dropped is how many events were.
	lost    bool
	dropped uint64
}

// segment is records, or a snapshot.
type segment struct {
	records []byte // that wait; the first ones are cut off as they are sent
	held    int    // the memory of records
	snap    *snapshot
}

// snapshot is a list of the channels that are occupied at its place in the line. It becomes events
// as it is sent.
type snapshot struct {
	kind    Type // Digest or Reset
	time    int64
	names   []string
	next    int // of names
	page    int // the last one that was sent, of a digest
	begun   bool
	dropped uint64 // of a reset
}

const (
	segmentFirst = 256
	segmentMost  = 16 << 10
)

// append appends a record. most is how large a segment may be.
func (l *line) append(record []byte, t Type, now time.Duration, most int) {
	if l.empty() {
		l.since = now
	}
	l.events++
	if t.level() {
		l.levels++
	}
	var s *segment
	if n := len(l.segments); n > 0 && l.segments[n-1].snap == nil && len(l.segments[n-1].records)+len(record) <= cap(l.segments[n-1].records) {
		s = &l.segments[n-1]
	} else {
		size := segmentFirst
		if n > 0 && l.segments[n-1].snap == nil {
			size = min(2*l.segments[n-1].held, most)
		}
		l.segments = append(l.segments, segment{records: make([]byte, 0, max(size, len(record)))})
		s = &l.segments[n]
		s.held = cap(s.records)
		l.held += s.held
	}
	s.records = append(s.records, record...)
}

func (l *line) empty() bool { return len(l.segments) == 0 }

// digests reports whether the line has a digest that is not sent to its end.
func (l *line) digests() bool {
	for _, s := range l.segments {
		if s.snap != nil && s.snap.kind == Digest {
			return true
		}
	}
	return false
}

// take takes the first segment off.
func (l *line) take() {
	l.segments[0] = segment{} // for the garbage collector
	if l.segments = l.segments[1:]; len(l.segments) == 0 {
		l.segments = nil
	}
}

// Limits of a batch. A batch has at least one event, however large.
const (
	batchEvents = 100
	batchBytes  = 256 << 10
)

// compose makes a batch of the first events that wait.
func (l *line) compose(q *Queue, p int) *Batch {
	b := &Batch{Partition: p}
	for size := 0; !l.empty() && len(b.Events) < batchEvents && size < batchBytes; {
		s := &l.segments[0]
		if s.snap != nil {
			e := s.snap.event()
			size += l.add(b, q, &e)
			if s.snap.over() {
				l.take()
			}
			continue
		}
		var r record
		r, s.records = cut(s.records)
		e := r.event()
		l.events--
		if e.Type.level() {
			l.levels--
		}
		size += l.add(b, q, &e)
		if len(s.records) == 0 {
			l.held -= s.held
			l.take()
		}
	}
	b.ID = b.Events[0].ID
	return b
}

// add adds an event to a batch, and returns about how large it is.
func (l *line) add(b *Batch, q *Queue, e *Event) int {
	l.seq++
	e.Seq, e.Epoch, e.Partition, e.Node = l.seq, l.epoch, b.Partition, q.node
	e.ID = fmt.Sprintf("%s-%d-%d", l.epoch, b.Partition, l.seq)
	if q.nodeScope {
		e.Scope = "node"
	}
	b.Events = append(b.Events, *e)
	size := eventBytes + len(e.Channel) + len(e.User) + len(e.Data) + len(e.Bytes)*4/3
	for _, name := range e.Channels {
		size += len(name) + 3
	}
	return size
}

// eventBytes is about how large an event is without its texts.
const eventBytes = 200

// event returns the next event of a snapshot.
func (s *snapshot) event() Event {
	e := Event{Time: s.time, Type: s.kind}
	switch {
	case s.kind == Digest:
		s.page++
		end := min(s.next+PageMax, len(s.names))
		e.Channels = s.names[s.next:end:end]
		e.Partitions, e.Page, e.Pages = Partitions, s.page, max((len(s.names)+PageMax-1)/PageMax, 1)
		s.next = end
	case !s.begun:
		e.Partitions, e.Count, e.Dropped = Partitions, len(s.names), s.dropped
	default:
		e.Type, e.Channel = Occupied, s.names[s.next]
		s.next++
	}
	s.begun = true
	return e
}

// over reports whether all events of a snapshot were sent.
func (s *snapshot) over() bool { return s.begun && s.next == len(s.names) }
