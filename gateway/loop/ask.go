package loop

import "sluice/gateway/frame"

// Question is what a message asks of somebody else, such as a backend.
type Question struct {
	Size   int                      // about how many bytes it takes until it is answered
	Others bool                     // others than the client need the answer: it is not taken back when the client is gone
	Failed func(c *Conn, err error) // is called with the error, if there is one, before it goes on; nil for nothing
	Again  *frame.Message           // with which another process asks again; nil for none
}

// asking is a message that waits for an answer. It implements Wait and Message.
type asking[A any] struct {
	Question
	c      *Conn // nil: it does not wait any more
	cancel func()
	then   func(A, error) Wait

	// Set before it is posted.
	answer A
	err    error
}

// Ask asks a question, and continues with the answer in a later turn. ask does not block: it calls answer once, at some
// time, on any goroutine, unless the function that it returns was called before. There the time is bounded, too.
func Ask[A any](c *Conn, q Question, ask func(answer func(A, error)) (cancel func()), then func(A, error) Wait) Wait {
	w, l := &asking[A]{Question: q, c: c, then: then}, c.loop
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
	if w.err != nil && w.Failed != nil {
		w.Failed(w.c, w.err)
	}
	w.c = nil
	return w.then(w.answer, w.err)
}

// Late implements Wait: what was asked has a bound of its own.
func (w *asking[A]) Late(*Conn) Wait { return w }

// Cancel implements Wait.
func (w *asking[A]) Cancel() {
	w.c = nil
	w.cancel()
}

// Moot implements Wait.
func (w *asking[A]) Moot(*Conn) bool { return !w.Others }

// Size implements Wait.
func (w *asking[A]) Size() int { return w.Question.Size }

// Again implements Wait.
func (w *asking[A]) Again(*Conn) (frame.Message, bool) {
	if w.Question.Again == nil {
		return frame.Message{}, false
	}
	return *w.Question.Again, true
}

// AskApart is Ask beside what the client itself has asked for: its messages are processed meanwhile. then is not called
// once the connection has begun to end, or cancel was called.
func AskApart[A any](c *Conn, ask func(answer func(A, error)) (cancel func()), then func(A, error)) (cancel func()) {
	w, l := &askingApart[A]{c: c, then: then}, c.loop
	stop := ask(func(a A, err error) {
		w.answer, w.err = a, err
		l.Post(w)
	})
	return func() {
		w.c = nil
		stop()
	}
}

// askingApart is a question that the connection does not wait with.
type askingApart[A any] struct {
	c    *Conn // nil: it does not wait any more
	then func(A, error)

	// Set before it is posted.
	answer A
	err    error
}

// Deliver implements Message: the answer is there.
func (w *askingApart[A]) Deliver(*Loop) {
	c := w.c
	if c == nil || c.Phase != phaseOpen {
		return
	}
	w.c = nil
	c.step(func(c *Conn) {
		w.then(w.answer, w.err)
		c.Flush()
		c.Settle()
	})
}
