package loop

import "sync/atomic"

// Pending counts what an action has begun and not finished, so that its caller can wait. Any goroutine may
// call its methods. A nil one counts nothing.
type Pending struct {
	done func(error)           // set at construction
	left atomic.Int64          // with one that is the caller's own
	err  atomic.Pointer[error] // the first
}

// NewPending returns one that calls done with the first error, after the caller's own End and those of all that
// was begun before it.
func NewPending(done func(error)) *Pending {
	p := &Pending{done: done}
	p.left.Store(1)
	return p
}

// Begin counts one more.
func (p *Pending) Begin() {
	if p != nil {
		p.left.Add(1)
	}
}

// End counts one less.
func (p *Pending) End(err error) {
	if p == nil {
		return
	}
	if err != nil {
		p.err.CompareAndSwap(nil, &err)
	}
	if p.left.Add(-1) > 0 {
		return
	}
	if first := p.err.Load(); first != nil {
		err = *first
	} else {
		err = nil
	}
	p.done(err)
}
