package loop

import (
	"context"
)

// ReviewAction has a connection's protocol look at what the client may do, because that may have changed, and end what it may
// not do any more. The protocol counts what it ends.
type ReviewAction struct {
	// Revoked reports whether a token that was verified by a key is not valid any more; nil if all are.
	Revoked func(key uint32) bool

	// Owned by the loop.
	Unsubscribed, Disconnected int
}

func (*ReviewAction) isAction() {}

func (a *ReviewAction) ended() int { return a.Unsubscribed + a.Disconnected }

// RevokedReason returns why a connection ends whose token's key is not valid any more. Where that is not known, the client
// comes back with its token.
func RevokedReason(key uint32, why Reason) Reason {
	if key == KeyUnknown {
		return ReasonMoved
	}
	return why
}

// reviewMost is how many connections and subscriptions a turn reviews at most, where none ends. One that ends counts as
// reviewEnd: its client is sent that, and others that it has left.
const (
	reviewMost = 256
	reviewEnd  = 8
)

// review is a review that goes over a loop's connections, from the last to the first: one that ends is replaced by the
// last, which was reviewed. Those that arrive meanwhile are judged by the new rights already.
type review struct {
	action ReviewAction
	next   int // index of the next connection
	done   chan<- ReviewAction
}

// Review reviews all connections, a bounded number in each turn of a loop, and waits until that is done. It returns what
// was ended. Loops that end, or hand their connections over, do not answer.
func (s *Set) Review(ctx context.Context, revoked func(key uint32) bool) (unsubscribed, disconnected int, err error) {
	done := make(chan ReviewAction, len(s.loops))
	for _, l := range s.loops {
		begin := call(func(l *Loop) {
			l.reviews = append(l.reviews, &review{action: ReviewAction{Revoked: revoked}, next: len(l.conns) - 1, done: done})
		})
		if !l.Post(begin) {
			return 0, 0, ErrStopping
		}
	}
	for range s.loops {
		select {
		case a := <-done:
			unsubscribed, disconnected = unsubscribed+a.Unsubscribed, disconnected+a.Disconnected
		case <-s.stopped:
			return unsubscribed, disconnected, ErrStopping
		case <-ctx.Done():
			return unsubscribed, disconnected, context.Cause(ctx)
		}
	}
	return unsubscribed, disconnected, nil
}

// reviewSome goes on with reviews.
func (l *Loop) reviewSome() {
	r := l.reviews[0]
	for n := 0; r.next >= 0 && n < reviewMost; r.next-- {
		if r.next >= len(l.conns) { // many have ended
			r.next = len(l.conns)
			continue
		}
		c := l.conns[r.next]
		n += 1 + c.Refs()
		if c.Phase == phaseOpen {
			before := r.action.ended()
			c.stepAct(&r.action)
			n += reviewEnd * (r.action.ended() - before)
		}
	}
	if r.next < 0 {
		r.done <- r.action // there is room
		l.reviews = l.reviews[1:]
	}
	if len(l.reviews) > 0 {
		l.poller.Wake()
	}
}
