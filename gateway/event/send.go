package event

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"time"
)

// Body returns the batch as JSON: {"events":[...]}. It is made once.
func (b *Batch) Body() []byte {
	if b.body == nil {
		body, err := json.Marshal(struct {
			Events []Event `json:"events"`
		}{b.Events})
		if err != nil {
			panic(err) // an Event is always JSON: its data was checked
		}
		b.body = body
	}
	return b.body
}

// next returns a batch that is to be sent now, or for how long there is none; negative for until
// something comes.
func (q *Queue) next(now time.Duration) (b *Batch, wait time.Duration) {
	if q.gone || q.stopped || q.flying >= q.o.InFlight {
		return nil, -1
	}
	if now < q.paused {
		return nil, q.paused - now
	}
	wait = -1
	for i := range Partitions {
		p := (q.turn + i) % Partitions
		l := &q.lines[p]
		if l.busy || l.batch == nil && l.empty() {
			continue
		}
		var due time.Duration
		switch {
		case l.batch != nil:
			due = l.after
		case l.events >= batchEvents:
			due = now
		default:
			due = l.since + max(q.o.Linger, 0)
		}
		if due > now {
			if wait < 0 || due-now < wait {
				wait = due - now
			}
			continue
		}
		if l.batch == nil {
			since := l.since
			q.change(l, func() { l.batch = l.compose(q, p) })
			l.batch.since = since
			l.since = now // of the rest: it is not known better, and late by one batch
			l.batch.held = l.batch.size()
			q.held += l.batch.held
		}
		l.busy = true
		q.flying++
		q.turn = (p + 1) % Partitions
		return l.batch, 0
	}
	return nil, wait
}

// size returns about how much memory a batch takes.
func (b *Batch) size() (n int) {
	for i := range b.Events {
		e := &b.Events[i]
		n += eventBytes + len(e.Channel) + len(e.User) + len(e.Data) + len(e.Bytes)
	}
	return 2 * n // the events and their JSON
}

// done notes what an attempt to send a batch came to.
func (q *Queue) done(b *Batch, err error, now time.Duration) {
	l := &q.lines[b.Partition]
	l.busy = false
	q.flying--
	q.landed.Broadcast()
	q.stats.Attempts++
	if q.gone {
		return
	}
	if err == nil {
		q.stats.Delivered += uint64(len(b.Events))
		q.held -= b.held
		l.batch, l.tries = nil, 0
		if l.lost {
			q.resetLater(b.Partition)
		}
		if q.failing {
			// The receiver is back: the other lines need not wait for their time.
			q.failing = false
			for p := range q.lines {
				q.lines[p].after = min(q.lines[p].after, now)
			}
			q.log.Info("events are accepted again", "receiver", q.o.Name)
		}
		return
	}
	if q.stopped { // it was canceled
		return
	}
	q.stats.Failures++
	if errors.Is(err, ErrGone) {
		q.end()
		q.log.Error("no more events are sent", "receiver", q.o.Name, "error", err)
		return
	}
	if !q.failing {
		q.failing = true
		q.log.Warn("events are not accepted, and will be sent again", "receiver", q.o.Name, "error", err)
	}
	most := q.o.Backoff << min(l.tries, 30)
	if most <= 0 || most > q.o.BackoffMax {
		most = q.o.BackoffMax
	}
	l.tries++
	l.after = now + rand.N(most+1)
	if later, ok := errors.AsType[*Later](err); ok && later.After > 0 {
		q.paused = max(q.paused, now+min(later.After, afterMax))
	}
}

// end drops everything for good.
func (q *Queue) end() {
	q.gone = true
	for p := range q.lines {
		l := &q.lines[p]
		q.stats.Dropped += uint64(l.events)
		if l.batch != nil {
			q.stats.Dropped += uint64(len(l.batch.Events))
		}
		*l = line{busy: l.busy}
	}
	q.held = 0
}

// run sends what waits, until ctx ends, and waits for its attempts.
func (q *Queue) run(ctx context.Context) {
	defer close(q.over)
	attempts := make(chan struct{}, q.o.InFlight)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for ctx.Err() == nil {
		q.mu.Lock()
		b, wait := q.next(q.now())
		q.mu.Unlock()
		if b != nil {
			attempts <- struct{}{}
			go func() {
				q.attempt(b)
				<-attempts
			}()
			continue
		}
		if wait < 0 {
			wait = time.Hour
		}
		timer.Reset(wait)
		select {
		case <-q.wake:
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	q.mu.Lock()
	q.stopped = true
	q.stop()
	q.mu.Unlock()
	for range q.o.InFlight {
		attempts <- struct{}{}
	}
}

// attempt sends a batch once.
func (q *Queue) attempt(b *Batch) {
	err := errors.New("the receiver has ended its goroutine")
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the receiver has panicked: %v\n%s", r, debug.Stack())
		}
		q.mu.Lock()
		q.done(b, err, q.now())
		q.mu.Unlock()
		q.signal()
	}()
	q.mu.Lock()
	all := q.attempts
	q.mu.Unlock()
	ctx, cancel := context.WithTimeout(all, q.o.Timeout)
	defer cancel()
	err = q.to.Deliver(ctx, b)
}

// idle reports whether nothing waits.
func (q *Queue) idle() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	for p := range q.lines {
		if l := &q.lines[p]; l.batch != nil || !l.empty() || l.lost {
			return q.gone
		}
	}
	return true
}
