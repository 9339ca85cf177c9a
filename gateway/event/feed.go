package event

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Feed keeps the last events of all partitions, in one order, for readers that come and go, such as
// event streams (SSE). It keeps nothing before the first reader comes, and after the last one has
// been gone for a minute.
type Feed struct {
	// Set at construction.
	n    *Notifier
	most int

	// Owned by the notifier's goroutine.
	types Types // that are kept

	mu sync.Mutex
	// Guarded by mu.
	epoch   string
	entries []Entry // the newest one last
	seq     uint64  // of the newest one
	bytes   int
	since   [typeEnd]uint64 // the seq from which on the events of a type are kept
	readers int
	left    time.Duration // when the last reader has gone
	more    chan struct{} // closed when there are more entries
	pushed  bool          // there are more entries for which that was not done
}

// Entry is an event of a Feed.
type Entry struct {
	ID   string // for OpenReader; "" for none
	Type Type
	JSON []byte // the Event. Its Seq is that of the Feed

	channel string
	seq     uint64
}

const (
	feedLinger  = time.Minute
	entryBytes  = 160 // of memory, beside the JSON
	readEntries = 100 // that Next returns at a time
)

func newFeed(n *Notifier, most int) *Feed {
	set(&most, 4<<20)
	return &Feed{n: n, most: most, epoch: newEpoch(n.began), more: make(chan struct{})}
}

// push keeps an event, if a reader may want it.
func (f *Feed) push(p int, t Type, channel string, rec []byte) {
	if f.types == 0 || !(f.types | always).Has(t) {
		return
	}
	r, _ := cut(rec)
	e := r.event()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.add(p, &e, channel)
	f.pushed = true
}

func (f *Feed) add(p int, e *Event, channel string) {
	f.seq++
	entry := f.entry(p, e, channel, f.seq, fmt.Sprintf("%s-%d", f.epoch, f.seq))
	f.entries = append(f.entries, entry)
	f.bytes += len(entry.JSON) + entryBytes
	drop := 0
	for ; f.bytes > f.most && drop < len(f.entries)-1; drop++ {
		f.bytes -= len(f.entries[drop].JSON) + entryBytes
		f.entries[drop] = Entry{} // for the garbage collector
	}
	f.entries = f.entries[drop:]
}

// entry returns an event as an Entry.
func (f *Feed) entry(p int, e *Event, channel string, seq uint64, id string) Entry {
	e.ID, e.Seq, e.Partition, e.Epoch, e.Node = id, seq, p, f.epoch, f.n.cfg.Node
	if f.n.cfg.NodeScope {
		e.Scope = "node"
	}
	b, err := json.Marshal(e)
	if err != nil {
		panic(err) // an Event is always JSON: its data was checked
	}
	return Entry{ID: e.ID, Type: e.Type, JSON: b, channel: channel, seq: seq}
}

// reset is called when the state of a partition has changed at once. Readers begin anew.
func (f *Feed) reset(int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.clear()
	f.pushed = true
}

// clear drops all entries.
func (f *Feed) clear() {
	f.entries, f.bytes = nil, 0
	f.seq++ // nobody has read this one
}

// turn is called at the end of a turn, and returns after which time it has to be called again.
func (f *Feed) turn(now time.Duration) time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.pushed {
		close(f.more)
		f.more, f.pushed = make(chan struct{}), false
	}
	if f.types == 0 || f.readers > 0 {
		return time.Hour
	}
	if now < f.left+feedLinger {
		return f.left + feedLinger - now
	}
	f.clear()
	f.types = 0
	f.n.want()
	return time.Hour
}

// Reader reads a Feed. Its methods are called from one goroutine.
type Reader struct {
	feed   *Feed
	filter Filter
	next   uint64  // the seq that is read next; 0 for what begins with a Reset
	begins []Entry // what is read before that
}

// OpenReader returns a reader of the events that a filter selects, after the entry with an ID. If
// this is not known, or there are none any more, it gets a Reset, and an Occupied for each channel
// that is occupied. The caller must call Close.
func (n *Notifier) OpenReader(ctx context.Context, filter Filter, last string) (*Reader, error) {
	filter.orDefault()
	r := &Reader{feed: n.feed, filter: filter}
	opened := make(chan struct{})
	n.do(func() {
		n.feed.open(r, last)
		close(opened)
	})
	select {
	case <-opened:
		return r, nil
	case <-n.over:
		return nil, errClosed
	case <-ctx.Done():
		go func() { // it may be opened yet
			select {
			case <-opened:
				r.Close()
			case <-n.over:
			}
		}()
		return nil, ctx.Err()
	}
}

var errClosed = errors.New("event: the notifier is closed")

// open is OpenReader on the notifier's goroutine.
func (f *Feed) open(r *Reader, last string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.readers++
	for t := range typeEnd {
		if r.filter.Types.Has(t) && !f.types.Has(t) {
			f.since[t] = f.seq
		}
	}
	f.types |= r.filter.Types
	f.n.want()
	epoch, number, _ := strings.Cut(last, "-")
	seq, err := strconv.ParseUint(number, 10, 64)
	if err == nil && epoch == f.epoch && f.has(r, seq+1) {
		r.next = seq + 1
	}
}

// has reports whether all events of a reader are there from one on.
func (f *Feed) has(r *Reader, seq uint64) bool {
	oldest := f.seq + 1
	if len(f.entries) > 0 {
		oldest = f.entries[0].seq
	}
	if seq < oldest || seq > f.seq+1 {
		return false
	}
	for t := range typeEnd {
		if r.filter.Types.Has(t) && f.since[t] >= seq {
			return false
		}
	}
	return true
}

// Close ends a reader.
func (r *Reader) Close() {
	r.feed.mu.Lock()
	defer r.feed.mu.Unlock()
	if r.feed.readers--; r.feed.readers == 0 {
		r.feed.left = r.feed.n.now()
	}
	r.feed.n.signal()
}

// Next waits for events, and returns some of them.
func (r *Reader) Next(ctx context.Context) ([]Entry, error) {
	for {
		if n := min(len(r.begins), readEntries); n > 0 {
			some := r.begins[:n:n]
			r.begins = r.begins[n:]
			return some, nil
		}
		some, more := r.read()
		switch {
		case len(some) > 0:
			return some, nil
		case more == nil:
			if err := r.begin(ctx); err != nil {
				return nil, err
			}
			continue
		}
		select {
		case <-more:
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-r.feed.n.over:
			return nil, errClosed
		}
	}
}

// read returns what there is. Without anything, more is closed when there is; nil if the reader has to begin anew.
func (r *Reader) read() (some []Entry, more <-chan struct{}) {
	f := r.feed
	f.mu.Lock()
	defer f.mu.Unlock()
	if r.next == 0 || !f.has(r, r.next) {
		return nil, nil
	}
	if len(f.entries) == 0 {
		return nil, f.more
	}
	for i := int(r.next - f.entries[0].seq); i < len(f.entries) && len(some) < readEntries; i++ {
		e := &f.entries[i]
		if r.next = e.seq + 1; r.filter.Accepts(e.Type, e.channel) {
			some = append(some, *e)
		}
	}
	return some, f.more
}

// begin makes a Reset, and what comes with it.
func (r *Reader) begin(ctx context.Context) error {
	done := make(chan struct{})
	n := r.feed.n
	var begins []Entry
	var next uint64
	n.do(func() {
		begins, next = r.feed.snapshot(&r.filter)
		close(done)
	})
	select {
	case <-done:
		r.begins, r.next = begins, next
		return nil
	case <-n.over:
		return errClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}

// snapshot returns a Reset with what is occupied, and the seq that is next then. Only the last entry
// has an ID: a reader that has read a part of them begins anew.
func (f *Feed) snapshot(filter *Filter) (list []Entry, next uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	at := f.n.clock()
	add := func(p int, e Event) {
		e.Time = at
		list = append(list, f.entry(p, &e, e.Channel, f.seq, fmt.Sprintf("%s-%d-%d", f.epoch, f.seq, len(list))))
		list[len(list)-1].ID = ""
	}
	add(0, Event{Type: Reset, Partitions: Partitions})
	if filter.Types.Has(Occupied) {
		for p := range Partitions {
			for _, name := range f.n.levels.occupied(p, filter) {
				add(p, Event{Type: Occupied, Channel: name})
			}
		}
	}
	list[len(list)-1].ID = fmt.Sprintf("%s-%d", f.epoch, f.seq)
	return list, f.seq + 1
}
