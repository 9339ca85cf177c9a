package loop

import (
	"sync/atomic"

	"sluice/gateway/engine"
	"sluice/gateway/frame"
)

// Query has ask ask an engine for something, and continues with its answer: at once, if that comes
// before ask returns. An answer that is late is engine.ErrUnavailable.
func Query[T any](c *Conn, ask func(done func(T, error)), then func(T, error) Wait) Wait {
	q := &query[T]{loop: c.loop, c: c, then: then}
	ask(q.done)
	if q.state.CompareAndSwap(queryAsked, queryWaits) {
		return q
	}
	return q.Resume(c)
}

// query is a question to an engine. It implements Wait.
type query[T any] struct {
	loop *Loop // set at construction
	c    *Conn // nil: it does not wait any more
	then func(T, error) Wait

	state atomic.Uint32
	value T // the answer; written by done
	err   error
}

// states of a query.
const (
	queryAsked uint32 = iota
	queryAnswered
	queryWaits
)

// done is called by the engine, on any goroutine.
func (q *query[T]) done(value T, err error) {
	if q.value, q.err = value, err; !q.state.CompareAndSwap(queryAsked, queryAnswered) {
		q.loop.Post(q)
	}
}

// Deliver implements Message: the answer is there.
func (q *query[T]) Deliver(*Loop) {
	if q.c != nil {
		q.c.Resume()
	}
}

// Resume implements Wait.
func (q *query[T]) Resume(*Conn) Wait {
	q.c = nil
	return q.then(q.value, q.err)
}

// Late implements Wait.
func (q *query[T]) Late(*Conn) Wait {
	q.c = nil
	var none T
	return q.then(none, engine.ErrUnavailable)
}

// Cancel implements Wait.
func (q *query[T]) Cancel() { q.c = nil }

// Moot implements Wait.
func (*query[T]) Moot(*Conn) bool { return true }

// Size implements Wait.
func (*query[T]) Size() int { return 0 }

// Again implements Wait: the protocol knows what was asked for.
func (*query[T]) Again(*Conn) (frame.Message, bool) { return frame.Message{}, false }
