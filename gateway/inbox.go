package gateway

import (
	"context"
	"errors"
	"iter"
	"sync"
	"time"
)

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

// loopWait bounds how long a question to all loops waits for their answers.
const loopWait = 5 * time.Second

// The errors of eachLoop.
var (
	errLoopBusy = errors.New("an event loop did not respond in time: see sluice_loop_lag_seconds")
	errStopping = errors.New("the gateway is shutting down")
)

// call is a message that runs a function on its loop.
type call func(*loop)

func (f call) deliver(l *loop) { f(l) }

// eachLoop runs f on every loop, on all at once, and yields what it returns there in the order
// in which the loops answer. After an error nothing is yielded: ctx's, errLoopBusy after
// loopWait, or errStopping when the loops have stopped. f may run after that, and after the
// caller has stopped listening, so that it shares with its caller only what does not change.
func eachLoop[T any](ctx context.Context, loops []*loop, stopped <-chan struct{}, f func(*loop) T) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		answers := make(chan T, len(loops)) // has room for all: no loop waits for the caller
		answer := call(func(l *loop) { answers <- f(l) })
		asked := 0
		for _, l := range loops {
			if l.post(answer) {
				asked++
			}
		}
		ctx, cancel := context.WithTimeoutCause(ctx, loopWait, errLoopBusy)
		defer cancel()
		var none T
		for range asked {
			select {
			case a := <-answers:
				if !yield(a, nil) {
					return
				}
			case <-stopped:
				yield(none, errStopping)
				return
			case <-ctx.Done():
				yield(none, context.Cause(ctx))
				return
			}
		}
	}
}
