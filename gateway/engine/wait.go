package engine

import (
	"context"
	"time"
)

// answer is an answer of an engine.
type answer[T any] struct {
	value T
	err   error
}

// Wait calls ask, which asks an engine, and returns its answer; ErrUnavailable if there is none
// before ctx ends, or for Patience. It is for goroutines that may wait: never on a loop.
func Wait[T any](ctx context.Context, ask func(done func(T, error))) (T, error) {
	answers := make(chan answer[T], 1)
	ask(func(value T, err error) { answers <- answer[T]{value, err} })
	return await(ctx, answers)
}

// await waits for the answer. It is not waited for any more after an ErrUnavailable.
func await[T any](ctx context.Context, answers <-chan answer[T]) (T, error) {
	select {
	case a := <-answers: // at once: no timer
		return a.value, a.err
	default:
	}
	timer := time.NewTimer(Patience)
	defer timer.Stop()
	var a answer[T]
	select {
	case a = <-answers:
	case <-ctx.Done():
		a.err = ErrUnavailable
	case <-timer.C:
		a.err = ErrUnavailable
	}
	return a.value, a.err
}
