package nats

import (
	"sync"
	"time"
)

// lateMost is how long an answer may be late: longer than any server takes.
const lateMost = time.Minute

// window has what a lane has sent and what is not answered. The sending goroutine adds, the receiving one takes.
//
// A stream stores what one connection sends in that order, and answers in that order. So when an answer
// comes while older messages of the same stream have none, theirs are lost, or the messages are: they are
// late from then on, and their channels have to be read from the stream. Late ones are kept for a while,
// as is what has timed out: it may have been stored, too.
//
// Of a burst only the first and the last message ask for an answer (send.go). When both are stored, and their
// sequences are as far apart as the burst is long, all between them are stored too, in that order.
type window struct {
	mu sync.Mutex
	// Guarded by mu.
	last     uint64 // token
	messages map[uint64]*pending
	marks    map[uint64]*mark
	marking  uint64               // token of a mark that is being sent: it is in marks when that is over
	came     bool                 // it has come back meanwhile
	order    map[*stream]*pending // a ring of those that are not late; the oldest
	late     []*pending           // in the order they became so
}

// add adds the messages of a batch that go to streams. The tokens of a batch begin with first.
func (w *window) add(batch []*pending, mk *mark) (first uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	first = w.last + 1
	for _, p := range batch {
		if w.last++; p.st != nil {
			p.token, p.sent, p.within = w.last, mk.sent, mk.within
			w.messages[w.last] = p
			w.link(p)
		}
	}
	return first
}

// beginMark returns the token for a mark that is about to be sent.
func (w *window) beginMark() (token uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.last++
	w.marking, w.came = w.last, false
	return w.last
}

// addMark adds the mark that was sent, unless it was not or has come back already.
func (w *window) addMark(token uint64, mk *mark, sent bool) (came bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.marking = 0; sent && !w.came {
		w.marks[token] = mk
	}
	return w.came
}

// link makes a message the newest of its stream.
func (w *window) link(p *pending) {
	oldest := w.order[p.st]
	if oldest == nil {
		p.prev, p.next = p, p
		w.order[p.st] = p
		return
	}
	p.prev, p.next = oldest.prev, oldest
	p.prev.next, oldest.prev = p, p
}

// unlink takes a message out of those that are not late.
func (w *window) unlink(p *pending) {
	if w.order[p.st] == p {
		w.order[p.st] = p.next
		if p.next == p {
			delete(w.order, p.st)
		}
	}
	p.prev.next, p.next.prev = p.next, p.prev
	p.prev, p.next = nil, nil
}

// postpone makes a message a late one.
func (w *window) postpone(p *pending) {
	w.unlink(p)
	p.late = true
	w.late = append(w.late, p)
}

// take takes a message that was not sent after all; nil if it was answered meanwhile.
func (w *window) take(token uint64) *pending {
	w.mu.Lock()
	defer w.mu.Unlock()
	if p := w.takeLocked(token); p != nil && !p.timedOut {
		return p
	}
	return nil
}

func (w *window) takeLocked(token uint64) *pending {
	p := w.messages[token]
	if p == nil {
		return nil
	}
	delete(w.messages, token)
	if !p.late {
		w.unlink(p)
	} else {
		p.gone = true // late still has it
	}
	return p
}

// takeMark takes a mark.
func (w *window) takeMark(token uint64) *mark {
	w.mu.Lock()
	defer w.mu.Unlock()
	if token == w.marking {
		w.came = true
		return nil
	}
	mk := w.marks[token]
	delete(w.marks, token)
	return mk
}

// burst is messages of a stream that were sent one directly after another.
type burst struct {
	first uint64 // token of its first message
	seq   uint64 // and its sequence; 0 if it is not known to be stored
}

// answered is what an answer says.
type answered struct {
	p      *pending   // the message that was answered; nil if it is not known
	stored []*pending // those of its burst that have the sequences before it
	unsure []*pending // those of its burst that will have no answer
	older  []string   // channels of older messages of the stream that have none
}

// acknowledged takes the message that was answered, and those of which that says something.
func (w *window) acknowledged(token uint64, ack *acknowledgement, a *answered) {
	w.mu.Lock()
	defer w.mu.Unlock()
	p, seq := w.messages[token], ack.seq
	*a = answered{p: p, stored: a.stored[:0], unsure: a.unsure[:0], older: a.older[:0]}
	if p == nil {
		return
	}
	if ack.code != 0 || !ack.of(p.st) {
		seq = 0
	}
	switch {
	case p.burst == nil:
	case p.burst.first == token:
		p.burst.seq = seq
	default:
		w.endBurst(p.burst, token, seq, a)
	}
	for !p.late && w.order[p.st] != p {
		before := w.order[p.st]
		a.older = append(a.older, before.name)
		w.postpone(before)
	}
	w.takeLocked(token)
}

// endBurst takes the messages of a burst whose last message was answered.
func (w *window) endBurst(r *burst, last, seq uint64, a *answered) {
	for token := r.first + 1; token < last; token++ {
		if p := w.messages[token]; p != nil {
			a.stored = append(a.stored, p)
		}
	}
	if r.seq > 0 && seq == r.seq+uint64(len(a.stored))+1 {
		for _, p := range a.stored {
			w.takeLocked(p.token)
		}
		return
	}
	for _, p := range a.stored {
		if !p.late {
			w.postpone(p)
		}
		if !p.timedOut {
			p.timedOut = true
			a.unsure = append(a.unsure, p)
		}
	}
	a.stored = a.stored[:0]
}

// expired returns what was sent before a time and is not answered. Messages stay, as late ones.
func (w *window) expired(before time.Time) (stuck []*pending, marks []*mark) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for p := w.oldest(before); p != nil; p = w.oldest(before) {
		w.postpone(p)
	}
	kept := w.late[:0]
	for _, p := range w.late {
		switch {
		case p.gone: // answered
			continue
		case p.sent.Before(before) && !p.timedOut:
			p.timedOut = true
			stuck = append(stuck, p)
		case p.sent.Before(before.Add(-lateMost)):
			delete(w.messages, p.token)
			continue
		}
		kept = append(kept, p)
	}
	clear(w.late[len(kept):])
	w.late = kept
	for token, mk := range w.marks {
		if mk.sent.Before(before) {
			delete(w.marks, token)
			marks = append(marks, mk)
		}
	}
	return stuck, marks
}

// oldest returns a message that is not late and was sent before a time.
func (w *window) oldest(before time.Time) *pending {
	for _, p := range w.order {
		if p.sent.Before(before) {
			return p
		}
	}
	return nil
}

// before returns what was sent in an earlier connection and is not answered.
func (w *window) before(connection uint64) (stuck []*pending, marks []*mark) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range w.messages {
		if p.within < connection && !p.timedOut {
			if !p.late {
				w.postpone(p)
			}
			p.timedOut = true
			stuck = append(stuck, p)
		}
	}
	for token, mk := range w.marks {
		if mk.within < connection {
			delete(w.marks, token)
			marks = append(marks, mk)
		}
	}
	return stuck, marks
}

// waits reports whether something is not answered.
func (w *window) waits() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.messages) > 0 || len(w.marks) > 0
}

// sum returns when the oldest message without an answer was sent, zero if there is none, and how many bytes there
// are of them.
func (w *window) sum() (sent time.Time, bytes int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range w.messages {
		if p.timedOut {
			continue
		}
		if bytes += p.size(); sent.IsZero() || p.sent.Before(sent) {
			sent = p.sent
		}
	}
	return sent, bytes
}
