package event

// What happens when a queue is full. Its longest line gets shorter by at least a half, so that this
// is done rarely, and its cost is spread over the events that came meanwhile:
//
//  1. Events that say what state a channel is in collapse: the last one of a channel remains or, if
//     the channel is in the state again in which it was before all of them, none. A digest that has
//     not begun is left out, because another one will come.
//  2. If that is not enough, other events are dropped, the oldest ones first, and a Resync of their
//     channels takes their place.
//  3. If the line still is too long, all of it is dropped. Then the receiver gets a Reset and the
//     channels that are occupied, once it accepts events again.
//
// Rejected: to collapse always, not only where there is no room. A receiver that keeps up, or
// catches up in time, can rely on seeing each change, between the other events of the channel.

// trace is what is known of a channel when a line is shortened.
type trace struct {
	first, last Type // of its levels; 0 for none
	at          int  // the number of the last level
	dropped     uint64
	time        int64 // of the last event that was dropped
}

// shorten makes a line's records take at most half of their memory. It returns how many events
// have collapsed, and how many were dropped. state returns the state of a channel.
func (l *line) shorten(state func(channel string) *bool) (collapsed, dropped int) {
	limit := l.held / 2
	var front []segment // of which nothing is changed
	var records [][]byte
	for i, s := range l.segments {
		switch {
		case s.snap == nil:
			records = append(records, s.records)
		case i == 0 && (s.snap.begun || s.snap.kind == Reset):
			front = append(front, s)
		}
	}
	channels, size := traces(records)
	kept := make([]byte, 0, min(size, limit))
	var marks []string // the channels of which something is dropped
	events, levels, n := 0, 0, 0
	each(records, func(r *record) {
		n++
		c := channels[string(r.channel)]
		if r.kind.level() {
			if c.last != c.first || c.at != n {
				collapsed++
				return
			}
			kept = append(kept, r.all...)
			events, levels = events+1, levels+1
			return
		}
		if size <= limit {
			kept = append(kept, r.all...)
			events++
			return
		}
		size -= len(r.all)
		if c == nil {
			c = new(trace)
			channels[string(r.channel)] = c
		}
		if c.dropped == 0 {
			marks = append(marks, string(r.channel))
			size += len(r.channel) + markBytes
		}
		c.time = r.time
		if r.kind == Resync {
			c.dropped += r.dropped
			return
		}
		c.dropped++
		dropped++
	})
	if size > limit {
		return 0, l.forget()
	}
	var first []byte
	for _, channel := range marks {
		e := Event{Type: Resync, Time: channels[channel].time, Channel: channel, Dropped: channels[channel].dropped}
		if channel != "" {
			e.Occupied = state(channel)
		}
		first = appendRecord(first, &e)
	}
	l.segments = front
	l.replace(append(first, kept...))
	l.events, l.levels = events+len(marks), levels
	return collapsed, dropped
}

// traces returns what is known of the channels in some lists of records, and how large the records are
// without the levels that can be left out.
func traces(records [][]byte) (channels map[string]*trace, size int) {
	channels = make(map[string]*trace)
	n := 0
	sizes := make(map[*trace]int)
	each(records, func(r *record) {
		n++
		if !r.kind.level() {
			size += len(r.all)
			return
		}
		c := channels[string(r.channel)]
		if c == nil {
			c = &trace{first: r.kind}
			channels[string(r.channel)] = c
		}
		c.last, c.at = r.kind, n
		sizes[c] = len(r.all)
	})
	for c, n := range sizes {
		if c.first == c.last {
			size += n
		}
	}
	return channels, size
}

// markBytes is about how large the record of a Resync is without the channel's name.
const markBytes = 16

// forget drops everything that waits, and returns how many events. A batch that is being sent stays.
func (l *line) forget() (dropped int) {
	l.keepDropped()
	for _, s := range l.segments {
		each([][]byte{s.records}, func(r *record) {
			if r.kind == Resync {
				l.dropped += r.dropped
				return
			}
			dropped++
		})
	}
	l.dropped += uint64(dropped)
	l.segments, l.held, l.events, l.levels = nil, 0, 0, 0
	l.lost = true
	return dropped
}

// keepDropped keeps what a Reset would say that will not be sent.
func (l *line) keepDropped() {
	for _, s := range l.segments {
		if s.snap != nil && !s.snap.begun {
			l.dropped += s.snap.dropped
		}
	}
}

// dropLevels drops the events that a Reset makes superfluous, and snapshots.
func (l *line) dropLevels() {
	l.keepDropped()
	var rest []byte
	for _, s := range l.segments {
		each([][]byte{s.records}, func(r *record) {
			if !r.kind.level() {
				rest = append(rest, r.all...)
			}
		})
	}
	l.segments = nil
	l.replace(rest)
	l.events, l.levels = l.events-l.levels, 0
}

// replace appends records, which are all that the line has from then on beside snapshots.
func (l *line) replace(records []byte) {
	l.held = cap(records)
	if len(records) > 0 {
		l.segments = append(l.segments, segment{records: records, held: cap(records)})
	} else {
		l.held = 0
	}
}

// each calls f for all records of some lists.
func each(lists [][]byte, f func(r *record)) {
	for _, list := range lists {
		for len(list) > 0 {
			var r record
			r, list = cut(list)
			f(&r)
		}
	}
}
