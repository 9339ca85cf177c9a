package queue

import "time"

// Bounds are the upper bounds of a Histogram's buckets. What is above the last has a bucket of
// its own.
var Bounds = [...]time.Duration{
	time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond, 10 * time.Millisecond, 25 * time.Millisecond,
	50 * time.Millisecond, 100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond,
	time.Second, 2500 * time.Millisecond, 5 * time.Second, 10 * time.Second,
}

// Histogram counts durations.
type Histogram struct {
	Counts [len(Bounds) + 1]uint64
	Sum    time.Duration
}

func (h *Histogram) observe(d time.Duration) {
	i := 0
	for i < len(Bounds) && d > Bounds[i] {
		i++
	}
	h.Counts[i]++
	h.Sum += d
}

// Count returns how many durations were counted.
func (h *Histogram) Count() (n uint64) {
	for _, c := range h.Counts {
		n += c
	}
	return n
}

// Stats describe a queue for operators.
type Stats struct {
	InFlight, Queued int
	Outcomes         [OutcomeCount]uint64
	Durations        Histogram // of tasks that ran, from their start to their end
	Waits            Histogram // of tasks that ran, from Submit to their start
	Open             bool      // the circuit breaker is not closed
	Opened           uint64    // how often it has opened
}

// Stats returns the queue's figures.
func (q *Queue) Stats() Stats {
	q.mu.Lock()
	defer q.mu.Unlock()
	s := q.stats
	s.InFlight, s.Queued, s.Open = q.running, q.queued, q.breaker.state != closed
	return s
}
