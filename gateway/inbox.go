package gateway

import "sync"

// message is what crosses into a loop. It is immutable, or belongs to the loop
// from then on.
type message interface {
	// deliver runs on the loop.
	deliver(l *loop)
}

// inboxKeep is the capacity above which a queue is let go after a storm.
const inboxKeep = 4096

// inbox is a loop's only door for other goroutines.
type inbox struct {
	wake func() // set at construction: makes the loop take what came

	mu     sync.Mutex
	queue  []message // guarded by mu
	closed bool      // guarded by mu

	spare []message // owned by the loop: the other half of the double buffer
}

// put adds m; false when the loop has ended. The first message since the last
// take wakes the loop, under the lock, so that nobody wakes a loop that is
// closed.
func (b *inbox) put(m message) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return false
	}
	b.queue = append(b.queue, m)
	if len(b.queue) == 1 {
		b.wake()
	}
	return true
}

// take returns what has come. The slice is the loop's until the next take.
func (b *inbox) take() []message {
	clear(b.spare)
	if cap(b.spare) > inboxKeep {
		b.spare = nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.queue, b.spare = b.spare[:0], b.queue
	return b.spare
}

// close refuses whatever comes from now on, and gives what came before.
func (b *inbox) close() []message {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	rest := b.queue
	b.queue = nil // what is given here is not taken by a last turn as well
	return rest
}
