package queue

import (
	"sync"
	"time"
)

// Config is what a Queue is made with. Zero means the default.
type Config struct {
	InFlight int           // how many tasks run at a time; 64
	Wait     time.Duration // how long a task waits at most; 5 s
	Budget   *Budget       // of what waits; nil for one of the queue's own
	Breaker  BreakerConfig
}

// Task is what a Queue runs. Exactly one of Run and Refuse is called, once, unless Cancel has
// returned true.
type Task interface {
	// Run does the task, on a goroutine of the queue's, and returns what it came to and whether
	// that means that the backend is away. The place is free when it has returned.
	Run() (o Outcome, away bool)
	// Refuse is called instead of Run, with Overload or Breaker. It must not block. Submit calls
	// it on the caller's goroutine, under no lock of the queue's.
	Refuse(why Outcome)
}

// Entry is the place of a task in a queue: it lies in the caller's record of the task, and must
// not be moved or used again.
type Entry struct {
	// Guarded by the queue's mu.
	task         Task
	flow         *flow  // not nil: it waits
	next, prev   *Entry // of its flow, in a ring
	newer, older *Entry // of everything that waits
	since        time.Duration
	generation   uint32
}

// flow is the line of an address. It has at least one entry.
type flow struct {
	key        Key
	last       *Entry // behind which the first one comes: they are a ring
	next, prev *flow  // of the ring of lines
}

// Queue runs tasks, and lets tasks wait. It is safe for concurrent use.
type Queue struct {
	// Set at construction.
	inFlight int
	wait     time.Duration
	budget   *Budget
	began    time.Time // what its time is counted from

	mu sync.Mutex
	// Guarded by mu.
	stopped        bool
	running        int
	queued         int
	flows          map[Key]*flow
	turn           *flow // of the ring: whose turn it is; nil if nothing waits
	oldest, newest *Entry
	timer          *time.Timer // nil until something has waited
	armed          bool        // the timer will fire
	breaker        breaker
	stats          Stats
	// Invariant: if something waits, all places are taken.
}

// New returns a queue.
func New(c Config) *Queue {
	set(&c.InFlight, 64)
	set(&c.Wait, 5*time.Second)
	if c.Budget == nil {
		c.Budget = NewBudget(0, 0)
	}
	return &Queue{
		inFlight: c.InFlight, wait: c.Wait, budget: c.Budget, began: time.Now(),
		flows: make(map[Key]*flow), breaker: breaker{BreakerConfig: c.Breaker.orDefault()},
	}
}

// Limits returns how many tasks run at a time, and how long a task waits at most.
func (q *Queue) Limits() (inFlight int, wait time.Duration) { return q.inFlight, q.wait }

// now returns the queue's time. It never goes back.
func (q *Queue) now() time.Duration { return time.Since(q.began) }

// Submit runs a task, or lets it wait, or refuses it before it returns. k is the client's.
func (q *Queue) Submit(e *Entry, k Key, t Task) {
	now := q.now()
	e.task, e.since = t, now
	q.mu.Lock()
	why := Overload
	switch {
	case q.stopped:
	case !q.breaker.admits(now):
		why = Breaker
	case q.running < q.inFlight:
		e.generation = q.breaker.begin()
		q.running++
		q.mu.Unlock()
		go q.work(e)
		return
	case q.breaker.state == halfOpen: // all places are those of tasks from before it opened
		why = Breaker
	case q.budget.Take(k):
		q.enqueue(e, k)
		q.mu.Unlock()
		return
	}
	q.stats.Outcomes[why]++
	q.mu.Unlock()
	t.Refuse(why)
}

// Cancel takes a task out of the queue, in constant time. It returns false if the task does not
// wait (any more).
func (q *Queue) Cancel(e *Entry) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if e.flow == nil {
		return false
	}
	q.remove(e)
	q.stats.Outcomes[Canceled]++
	return true
}

// Close refuses what waits and what comes. Tasks that run go on.
func (q *Queue) Close() {
	q.mu.Lock()
	q.stopped = true
	if q.timer != nil {
		q.timer.Stop()
	}
	all := q.removeAll(Overload)
	q.mu.Unlock()
	refuse(all, Overload)
}

// work runs a task, and what comes to its place after it.
func (q *Queue) work(e *Entry) {
	began := q.now()
	defer func() {
		if e == nil {
			return
		}
		// The task has panicked, which ends the process, or has ended the goroutine.
		if next := q.done(e, began, Failed, false); next != nil {
			go q.work(next)
		}
	}()
	for e != nil {
		began = q.now()
		o, away := e.task.Run()
		e = q.done(e, began, o, away)
	}
}

// done notes that a task has ended, and returns the next one, nil for none.
func (q *Queue) done(e *Entry, began time.Duration, o Outcome, away bool) (next *Entry) {
	now := q.now()
	var all *Entry
	q.mu.Lock()
	q.stats.Outcomes[o]++
	q.stats.Durations.observe(now - began)
	q.stats.Waits.observe(began - e.since)
	if q.breaker.end(e.generation, o != Canceled && o != Request, away, now) {
		q.stats.Opened++
		all = q.removeAll(Breaker)
	}
	if f := q.turn; f != nil {
		next = f.last.next
		q.turn = f.next // the next address, unless this was the only one
		q.remove(next)
		next.generation = q.breaker.begin()
	} else {
		q.running--
	}
	q.mu.Unlock()
	refuse(all, Breaker)
	return next
}

// enqueue appends a task to the line of its address. Its place is taken from the budget already.
func (q *Queue) enqueue(e *Entry, k Key) {
	f := q.flows[k]
	if f == nil {
		f = &flow{key: k}
		q.flows[k] = f
		if q.turn == nil {
			q.turn, f.next, f.prev = f, f, f
		} else { // behind all others
			f.next, f.prev = q.turn, q.turn.prev
			f.prev.next, f.next.prev = f, f
		}
	}
	e.flow = f
	if last := f.last; last != nil {
		e.prev, e.next = last, last.next
		e.prev.next, e.next.prev = e, e
	} else {
		e.prev, e.next = e, e
	}
	f.last = e
	if e.older = q.newest; e.older != nil {
		e.older.newer = e
	} else {
		q.oldest = e
	}
	q.newest = e
	q.queued++
	if !q.armed {
		q.arm(q.wait)
	}
}

// remove takes a task that waits out of the queue.
func (q *Queue) remove(e *Entry) {
	f, alone := e.flow, e.next == e
	e.prev.next, e.next.prev = e.next, e.prev
	if f.last == e {
		f.last = e.prev
	}
	if e.older != nil {
		e.older.newer = e.newer
	} else {
		q.oldest = e.newer
	}
	if e.newer != nil {
		e.newer.older = e.older
	} else {
		q.newest = e.older
	}
	e.flow, e.next, e.prev, e.newer, e.older = nil, nil, nil, nil, nil
	q.queued--
	q.budget.Release(f.key)
	if !alone {
		return
	}
	delete(q.flows, f.key)
	switch {
	case f.next == f:
		q.turn = nil
	default:
		f.next.prev, f.prev.next = f.prev, f.next
		if q.turn == f {
			q.turn = f.next
		}
	}
}

// removeAll takes out everything that waits, and returns it as a list by next.
func (q *Queue) removeAll(why Outcome) (list *Entry) {
	for q.newest != nil {
		list = q.removeTo(list, q.newest, why)
	}
	return list
}

// removeTo takes out a task that is to be refused, and puts it before a list.
func (q *Queue) removeTo(list, e *Entry, why Outcome) *Entry {
	q.remove(e)
	q.stats.Outcomes[why]++
	e.next = list
	return e
}

// refuse refuses the tasks of a list.
func refuse(list *Entry, why Outcome) {
	for e := list; e != nil; {
		next := e.next
		e.next = nil
		e.task.Refuse(why)
		e = next
	}
}

// arm lets expire be called after d.
func (q *Queue) arm(d time.Duration) {
	q.armed = true
	if q.timer == nil {
		q.timer = time.AfterFunc(d, q.expire)
		return
	}
	q.timer.Reset(d)
}

// expire refuses what has waited for too long. The timer is armed while something waits, for the
// oldest of it or for something that was older.
func (q *Queue) expire() {
	now := q.now()
	var late *Entry
	q.mu.Lock()
	q.armed = false
	for q.oldest != nil && q.oldest.since+q.wait <= now {
		late = q.removeTo(late, q.oldest, Overload)
	}
	if q.oldest != nil && !q.stopped {
		q.arm(q.oldest.since + q.wait - now)
	}
	q.mu.Unlock()
	refuse(late, Overload)
}
