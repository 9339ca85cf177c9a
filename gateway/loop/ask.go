package loop

import "sluice/gateway/frame"

// asking is a message that waits for an answer of somebody else's, such as a backend. It implements Wait and Message.
type asking[A any] struct {
	c      *Conn // nil: it does not wait any more
	cancel func()
	size   int
	then   func(A, error) Wait

	// Set before it is posted.
	answer A
	err    error
}

// Ask asks for an answer, and continues with it in a later turn. ask does not block: it calls answer once, at some time, on
// any goroutine, unless the function that it returns was called before. There the time is bounded, too. size is about how
// many bytes the question takes meanwhile.
func Ask[A any](c *Conn, size int, ask func(answer func(A, error)) (cancel func()), then func(A, error) Wait) Wait {
	w, l := &asking[A]{c: c, size: size, then: then}, c.loop
	w.cancel = ask(func(a A, err error) {
		w.answer, w.err = a, err
		l.Post(w)
	})
	return w
}

// Deliver implements Message: the answer is there.
func (w *asking[A]) Deliver(*Loop) {
	if w.c != nil {
		w.c.Resume()
	}
}

// Resume implements Wait.
func (w *asking[A]) Resume(*Conn) Wait {
	w.c = nil
	return w.then(w.answer, w.err)
}

// Late implements Wait: whoever was asked has a bound of its own.
func (w *asking[A]) Late(*Conn) Wait { return w }

// Cancel implements Wait.
func (w *asking[A]) Cancel() {
	w.c = nil
	w.cancel()
}

// Moot implements Wait.
func (*asking[A]) Moot(*Conn) bool { return true }

// Size implements Wait.
func (w *asking[A]) Size() int { return w.size }

// Again implements Wait: the protocol knows what it was for.
func (*asking[A]) Again(*Conn) (frame.Message, bool) { return frame.Message{}, false }
