package nats

import (
	"errors"
	"sync"
	"time"

	"sluice/gateway/channel"
	"sluice/gateway/engine"
	"sluice/gateway/rate"
)

// Publishing. Loops hand publications to a lane's bounded queue, and never call NATS. The lane's sending
// goroutine sends them, and its receiving one answers, once the store or, for core messages, the server
// has them.

const (
	queueMost      = 4096    // publications that wait in a lane,
	queueBytesMost = 8 << 20 // and their bytes
	patience       = 2 * time.Second
	keptMost       = 64 << 10 // larger buffers are let go
)

// pending is a publication on its way.
type pending struct {
	caller  engine.Caller // nil once it is answered, or if nobody waits
	name    string
	st      *stream // nil for a core message
	p       channel.Publication
	data    []byte // payload and extra
	waits   bool   // it waits for the store to be there, and has no stream yet
	ordered bool   // a core message that has a place in its channel's order
	inBurst bool   // it is neither the first nor the last of a burst, and asks for no answer

	// Of a message of the engine's own: what is called with its sequence.
	own      own
	done     func(seq uint64, err error)
	removed  uint64 // of a tombstone: the offset of the newest publication that it removes, and
	expected uint64 // the sequence that must be the channel's last

	// Owned by the lane's window.
	token      uint64
	sent       time.Time // or, while it is in the queue, since when
	within     uint64    // Engine.connection
	prev, next *pending  // of the same stream, in the order they were sent
	burst      *burst    // of which it is the first or the last
	late       bool      // it is in no such list any more,
	gone       bool      // and was answered by the stream
	timedOut   bool      // its publisher was answered
}

// own is what a message is for that is the engine's own.
type own uint8

const (
	publishes own = iota // it is none
	probes               // it asks whether the stream answers
	passes               // the same, and is not stored: what the server got before it has come to the stream's leader
	removes              // it stands for a history that is removed: a tombstone
)

var pendings = sync.Pool{New: func() any { return new(pending) }}

// recycle lets go of a publication that nobody knows any more, unless it is late: then the window may.
func (p *pending) recycle() {
	if p.late {
		return
	}
	data := p.data[:0]
	if cap(data) > keptMost {
		data = nil
	}
	*p = pending{data: data}
	pendings.Put(p)
}

// answer answers the publisher.
func (p *pending) answer(r channel.Receipt, err error) {
	if c := p.caller; c != nil {
		p.caller = nil
		c.Published(r, err)
	}
	if done := p.done; done != nil {
		p.done = nil
		done(r.Offset, err)
	}
}

// subject is where the stream takes it.
func (p *pending) subject() string {
	if p.own == probes || p.own == passes {
		return p.st.probe()
	}
	return p.st.subject(p.name)
}

// size is what a publication counts in its lane's queue.
func (p *pending) size() int { return len(p.data) + messageOverhead }

// Publish implements engine.Engine.
func (e *Engine) Publish(name string, ch *channel.Channel, p *channel.Publication, s *channel.Scratch, c engine.Caller) (channel.Receipt, error) {
	keeps := e.keeps(name)
	if e.single && !keeps {
		return e.local.Publish(name, ch, p, s, c)
	}
	moving := e.moving.Load()
	var st *stream
	if keeps && p.Kind == channel.KindMessage && !p.Passing {
		st = e.stream(name)
		if !moving && (st == nil || st.flow.away.Load() || st.flow.unsure.Load() || e.single && !e.embedded.room()) {
			return channel.Receipt{}, engine.ErrAway
		}
	}
	if !moving && !e.connected.Load() || e.closed.Load() {
		return channel.Receipt{}, engine.ErrAway
	}
	q := pendings.Get().(*pending)
	q.caller, q.name, q.st, q.p = c, name, st, *p
	q.waits = moving && keeps && p.Kind == channel.KindMessage && !p.Passing
	q.ordered = !keeps && p.Kind == channel.KindMessage && !p.Passing
	q.data = append(append(q.data[:0], p.Payload...), p.Extra...)
	q.p.Payload, q.p.Extra = q.data[:len(p.Payload)], q.data[len(p.Payload):]
	if err := e.lane(name).enqueue(q); err != nil {
		q.recycle()
		return channel.Receipt{}, err
	}
	return channel.Receipt{}, engine.ErrPending
}

// queue is what waits to be sent. Its methods are called under the lane's lock.
type queue struct {
	list    []*pending
	first   int
	bytes   int
	waiting []channel.Waiter // publishers that found it full
}

func (q *queue) len() int { return len(q.list) - q.first }

func (q *queue) full(n int) bool {
	return q.len() >= queueMost || q.bytes+n > queueBytesMost && q.len() > 0
}

func (q *queue) push(p *pending) {
	if q.first > 0 && len(q.list) == cap(q.list) {
		n := copy(q.list, q.list[q.first:])
		clear(q.list[n:])
		q.list, q.first = q.list[:n], 0
	}
	q.list = append(q.list, p)
	q.bytes += p.size()
}

func (q *queue) pop() *pending {
	p := q.list[q.first]
	q.list[q.first] = nil
	q.bytes -= p.size()
	if q.first++; q.first == len(q.list) {
		q.list, q.first = q.list[:0], 0
	}
	return p
}

// stale takes out what waits since before a time.
func (q *queue) stale(before time.Time) (all []*pending) {
	for q.len() > 0 && q.list[q.first].sent.Before(before) {
		all = append(all, q.pop())
	}
	return all
}

// released returns publishers that may try again, no more than there is room for.
func (q *queue) released(dst []channel.Waiter) []channel.Waiter {
	n := min(len(q.waiting), queueMost-q.len())
	if n <= 0 || q.bytes > queueBytesMost/2 { // messages of the engine's own may be beyond the bound
		return dst
	}
	dst = append(dst, q.waiting[:n]...)
	q.waiting = append(q.waiting[:0], q.waiting[n:]...)
	clear(q.waiting[len(q.waiting):cap(q.waiting)])
	return dst
}

// enqueue hands a publication to the sending goroutine.
func (l *lane) enqueue(p *pending) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
		return engine.ErrAway
	case l.queue.full(p.size()):
		if p.caller != nil {
			l.queue.waiting = append(l.queue.waiting, p.caller)
		}
		return channel.ErrFull
	case p.p.Kind == channel.KindMessage && p.own == publishes && !l.rates.admit(p.name, p.p.At, p.caller):
		l.arm()
		return channel.ErrRate
	}
	p.sent = time.Now()
	l.queue.push(p)
	l.arm()
	if n := l.queue.len(); n == 1 || l.e.single && (n == l.outstanding || n == batchMost) {
		l.ready.Signal()
	}
	return nil
}

// rates bounds the publications of each channel on this node. It is guarded by the lane's lock.
type rates struct {
	limit   rate.Limit
	meters  map[string]*rate.Meter
	waiting []channel.Waiter // publishers that found no token
	swept   int64            // when the meters were looked through
}

// ratesInterval is how often publishers that wait are called, and full meters forgotten: milliseconds.
const ratesInterval = 250

// admit takes a token of the channel, or returns false.
func (r *rates) admit(name string, now int64, c channel.Waiter) bool {
	if r.limit.None() {
		return true
	}
	m := r.meters[name]
	if m == nil {
		m = new(rate.Meter)
		r.meters[name] = m
	}
	if m.Left(r.limit, now) <= 0 {
		if c != nil {
			r.waiting = append(r.waiting, c)
		}
		return false
	}
	m.Take(r.limit)
	return true
}

// released returns the publishers that wait, and forgets meters that are full.
func (r *rates) released(dst []channel.Waiter, now int64) []channel.Waiter {
	dst = append(dst, r.waiting...)
	clear(r.waiting)
	r.waiting = r.waiting[:0]
	if now-r.swept < 4*ratesInterval {
		return dst
	}
	r.swept = now
	for name, m := range r.meters {
		if m.At() < now-1000 { // a second fills every bucket
			delete(r.meters, name)
		}
	}
	return dst
}

// errors of acknowledgements, as JetStream numbers them.
const (
	codeLastSequence = 10071 // another message than expected is the channel's last,
	codeLastInFlight = 10164 // or will be
	codeTooBig       = 10054
	codeOtherStream  = 10060 // another stream than expected: the answer to what passes
	codeIDInFlight   = 10158 // one with the same ID is being stored
)

var errLastSequence = errors.New("nats: the channel has a newer message")

// errorOf returns the error of an acknowledgement that is one: the message is not stored.
func errorOf(a *acknowledgement) error {
	switch a.code {
	case codeLastSequence, codeLastInFlight:
		return errLastSequence
	case codeTooBig:
		return channel.ErrTooBig
	case codeIDInFlight:
		return engine.ErrUnavailable
	}
	return engine.ErrAway
}

// own reports whether the message is refused for a reason of its own, and not of its stream's.
func (a *acknowledgement) own() bool {
	switch a.code {
	case codeLastSequence, codeLastInFlight, codeTooBig, codeIDInFlight:
		return true
	}
	return false
}
