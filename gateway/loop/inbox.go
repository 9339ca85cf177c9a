package loop

import (
	"context"
	"errors"
	"iter"
	"sync"
	"time"
)

// Message is what crosses into a loop. It is immutable, or belongs to the loop
// from then on.
type Message interface {
	// Deliver runs on the loop.
	Deliver(l *Loop)
}

// inboxKeep is the capacity above which a queue is let go after a storm.
const inboxKeep = 4096

// inbox is a loop's only door for other goroutines.
type inbox struct {
	wake func() // set at construction: makes the loop take what came

	mu     sync.Mutex
	queue  []Message // guarded by mu
	closed bool      // guarded by mu

	spare []Message // owned by the loop: the other half of the double buffer
}

// put adds m; false when the loop has ended. The first message since the last
// take wakes the loop, under the lock, so that nobody wakes a loop that is
// closed.
func (b *inbox) put(m Message) bool {
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
func (b *inbox) take() []Message {
	clear(b.spare)
	if cap(b.spare) > inboxKeep {
		b.spare = nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.queue, b.spare = b.spare[:0], b.queue
	return b.spare
}

// empty reports whether nothing has come since the last take.
func (b *inbox) empty() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.queue) == 0
}

// close refuses whatever comes from now on, and gives what came before.
func (b *inbox) close() []Message {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	rest := b.queue
	b.queue = nil // what is given here is not taken by a last turn as well
	return rest
}

// loopWait bounds how long a question to all loops waits for their answers.
const loopWait = 5 * time.Second

// The errors of EachLoop.
var (
	ErrLoopBusy = errors.New("an event loop did not respond in time: see sluice_loop_lag_seconds")
	ErrStopping = errors.New("the gateway is shutting down")
)

// call is a message that runs a function on its loop.
type call func(*Loop)

// Deliver implements Message.
func (f call) Deliver(l *Loop) { f(l) }

// EachLoop runs f on every loop, on all at once, and yields what it returns there in the order
// in which the loops answer. After an error nothing is yielded: ctx's, ErrLoopBusy after
// loopWait, or ErrStopping when a loop has stopped or has handed its connections over. f may run after that, and after the
// caller has stopped listening, so that it shares with its caller only what does not change.
func EachLoop[T any](ctx context.Context, s *Set, f func(*Loop) T) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		answers := make(chan T, len(s.loops)) // has room for all: no loop waits for the caller
		moved := make(chan struct{}, len(s.loops))
		answer := call(func(l *Loop) {
			if l.hasMoved() {
				moved <- struct{}{}
				return
			}
			answers <- f(l)
		})
		asked := 0
		for _, l := range s.loops {
			if l.Post(answer) {
				asked++
			}
		}
		var none T
		if asked < len(s.loops) {
			yield(none, ErrStopping)
			return
		}
		ctx, cancel := context.WithTimeoutCause(ctx, loopWait, ErrLoopBusy)
		defer cancel()
		for range asked {
			select {
			case a := <-answers:
				if !yield(a, nil) {
					return
				}
			case <-s.stopped:
				yield(none, ErrStopping)
				return
			case <-moved:
				yield(none, ErrStopping)
				return
			case <-ctx.Done():
				yield(none, context.Cause(ctx))
				return
			}
		}
	}
}
