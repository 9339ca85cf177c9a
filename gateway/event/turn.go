package event

import (
	"context"
	"fmt"
	"math/bits"
	"time"
)

// Error implements error.
func (e *Unsent) Error() string {
	return fmt.Sprintf("event: %d events were not sent to %s", e.Events, e.Receiver)
}

// run is the notifier's goroutine.
func (n *Notifier) run(ctx context.Context) {
	defer close(n.over)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		timer.Reset(n.turn(n.now()))
		began := n.now()
		select {
		case <-n.wake:
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		if pause := began + turnPause - n.now(); pause > 0 {
			timer.Reset(pause)
			select {
			case <-timer.C:
			case <-ctx.Done():
				return
			}
		}
	}
}

// turn does what there is to do, and returns for how long there is nothing more.
func (n *Notifier) turn(now time.Duration) (wait time.Duration) {
	n.at = now
	for some := n.in.some.Swap(0); some != 0; some &= some - 1 {
		n.read(bits.TrailingZeros64(some))
	}
	n.mu.Lock()
	tasks := n.tasks
	n.tasks = nil
	n.mu.Unlock()
	for _, f := range tasks {
		f()
	}
	n.levels.expire(now)
	wait = time.Hour
	if d, ok := n.levels.wait(now); ok {
		wait = d
	}
	for _, q := range n.queues {
		for some := q.resets.Swap(0); some != 0; some &= some - 1 {
			if p := bits.TrailingZeros64(some); n.levels.parts[p].owned {
				n.reset(q.Queue, p, "")
			} else {
				q.resync(p, n.clock())
			}
		}
		if q.o.Digest > 0 {
			wait = min(wait, n.digest(q))
		}
	}
	return min(wait, n.feed.turn(now))
}

// read takes what a partition has left in the intake.
func (n *Notifier) read(p int) {
	records, dropped := n.in.take(p, n.buffer[:0])
	n.changes = n.changes[:0]
	for rest := records; len(rest) > 0; {
		var r record
		r, rest = cut(rest)
		name := string(r.channel)
		if !r.kind.level() {
			n.push(p, r.kind, name, r.all)
			continue
		}
		on := r.kind == Occupied
		n.levels.set(self, p, name, on, n.at)
		if n.cfg.Changes != nil {
			n.changes = append(n.changes, Change{name, on})
		}
	}
	for name, count := range dropped {
		e := Event{Type: Resync, Time: n.clock(), Channel: name, Dropped: count, Occupied: n.state(p, name)}
		n.push(p, Resync, name, appendRecord(nil, &e))
	}
	if n.buffer = records; cap(records) > intakeMax { // a burst is over some time
		n.buffer = nil
	}
	if len(n.changes) > 0 {
		n.cfg.Changes(p, n.changes)
		clear(n.changes)
	}
}

// announce is what levels emit to.
func (n *Notifier) announce(p int, t Type, channel string) {
	n.record = appendRecord(n.record[:0], &Event{Type: t, Channel: channel, Time: n.clock()})
	n.push(p, t, channel, n.record)
}

// push brings an event to all receivers.
func (n *Notifier) push(p int, t Type, channel string, record []byte) {
	for _, q := range n.queues {
		q.push(p, t, channel, record, n.state)
	}
	n.feed.push(p, t, channel, record)
}

// state returns whether a channel is occupied, nil where this is not known here.
func (n *Notifier) state(p int, channel string) *bool {
	on, known := n.levels.known(p, channel)
	if !known || channel == "" {
		return nil
	}
	return &on
}

// reset begins a partition of a receiver anew. epoch is "" for the same one.
func (n *Notifier) reset(q *Queue, p int, epoch string) {
	q.reset(p, epoch, n.clock(), n.levels.occupied(p, &q.o.Filter))
}

// digest lets partitions of a receiver have their digests in turn, and returns when the next one is due.
func (n *Notifier) digest(q *queue) (wait time.Duration) {
	every := max(q.o.Digest/Partitions, 1)
	for q.next <= n.at {
		p := q.digested % Partitions
		q.digested++
		if q.next += every; q.next <= n.at-q.o.Digest { // the machine was asleep
			q.next = n.at + every
		}
		if n.levels.parts[p].owned {
			q.Queue.digest(p, n.clock(), n.levels.occupied(p, &q.o.Filter))
		}
	}
	return q.next - n.at
}
