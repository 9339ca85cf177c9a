package hook

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime/debug"
	"sync/atomic"
	"time"

	"sluice/gateway/hook/queue"
)

// Options bound the calls of a hook. Zero means the default.
type Options struct {
	Name    string        // in errors; "hook"
	Timeout time.Duration // from the start of a call; 1 s
	Queue   queue.Config
}

// Caller is a Hook that calls a function.
type Caller[Q Request, A any] struct {
	f       func(ctx context.Context, q Q) (*A, error)
	name    string
	timeout time.Duration
	queue   *queue.Queue
	ctx     context.Context // of all calls
	close   context.CancelFunc

	errTimeout, errOverload, errBreaker, errClosed error
}

// Func returns a Hook that calls a function, on goroutines of its own. The function's context
// ends at the deadline, when the client is gone, and with Close. At the deadline the answer is
// ErrTimeout, even if the function ignores its context. Such a call keeps its place until the
// function returns, so that there are never more calls than Options allow. A panic of the
// function is a failure, with the stack in its text.
func Func[Q Request, A any](f func(ctx context.Context, q Q) (*A, error), o Options) *Caller[Q, A] {
	if o.Timeout == 0 {
		o.Timeout = time.Second
	}
	if o.Name == "" {
		o.Name = "hook"
	}
	c := &Caller[Q, A]{f: f, name: o.Name, timeout: o.Timeout, queue: queue.New(o.Queue)}
	c.ctx, c.close = context.WithCancel(context.Background())
	failure := func(o queue.Outcome, away bool, format string, args ...any) error {
		return &Failure{Outcome: o, Away: away, Err: fmt.Errorf(format, args...), Hook: c.name}
	}
	c.errTimeout = failure(queue.Timeout, true, "%s: no answer within %v", o.Name, o.Timeout)
	inFlight, wait := c.queue.Limits()
	c.errOverload = failure(queue.Overload, false, "%s: too many calls are waiting: %d run at a time, and others wait for %v at most", o.Name, inFlight, wait)
	c.errBreaker = failure(queue.Breaker, false, "%s: it has failed too often and is not called for now", o.Name)
	c.errClosed = failure(queue.Canceled, false, "%s: the gateway is shutting down", o.Name)
	return c
}

// Stats returns the hook's figures.
func (h *Caller[Q, A]) Stats() queue.Stats { return h.queue.Stats() }

// Timeout returns how long a call takes at most.
func (h *Caller[Q, A]) Timeout() time.Duration { return h.timeout }

// Close ends all calls, and refuses others from then on. It does not wait for functions that
// ignore their context.
func (h *Caller[Q, A]) Close() {
	h.queue.Close()
	h.close()
}

// Ask implements Hook.
func (h *Caller[Q, A]) Ask(q Q, answer func(*A, error)) (cancel func()) {
	return h.AskLater(q.From().Peer.Addr(), func() Q { return q }, answer)
}

// AskLater implements Later.
func (h *Caller[Q, A]) AskLater(peer netip.Addr, request func() Q, answer func(*A, error)) (cancel func()) {
	c := &call[Q, A]{hook: h, request: request, answer: answer}
	h.queue.Submit(&c.entry, queue.KeyOf(peer), c)
	return c.cancel
}

// call is a call of a function: what waits, and the task that runs.
type call[Q Request, A any] struct {
	// Set at construction.
	entry   queue.Entry
	hook    *Caller[Q, A]
	request func() Q
	answer  func(*A, error)

	// Atomic: cancel and the answer come from different goroutines.
	stop atomic.Pointer[context.CancelFunc] // nil before it runs
	over atomic.Bool                        // answered or canceled
}

// end answers, unless that was done or is not wanted any more.
func (c *call[Q, A]) end(a *A, err error) bool {
	if !c.over.CompareAndSwap(false, true) {
		return false
	}
	c.answer(a, err)
	return true
}

func (c *call[Q, A]) cancel() {
	if !c.over.CompareAndSwap(false, true) {
		return
	}
	// Either it waits, or Run finds it to be over, or there is something to stop.
	if c.hook.queue.Cancel(&c.entry) {
		return
	}
	if stop := c.stop.Load(); stop != nil {
		(*stop)()
	}
}

// Refuse implements queue.Task.
func (c *call[Q, A]) Refuse(why queue.Outcome) {
	if why == queue.Breaker {
		c.end(nil, c.hook.errBreaker)
		return
	}
	c.end(nil, c.hook.errOverload)
}

// Run implements queue.Task.
func (c *call[Q, A]) Run() (queue.Outcome, bool) {
	ctx, stop := context.WithTimeout(c.hook.ctx, c.hook.timeout)
	defer stop()
	c.stop.Store(&stop)
	if c.over.Load() {
		return queue.Canceled, false
	}
	defer context.AfterFunc(ctx, func() { c.end(nil, c.hook.ended(ctx)) })()
	returned := false
	defer func() { // not reached by a return: the function has ended the goroutine
		if !returned {
			c.end(nil, c.hook.failed(errors.New("the function has ended its goroutine")))
		}
	}()
	a, err := c.do(ctx)
	returned = true
	if err != nil && ctx.Err() != nil {
		if o, _ := outcomeOf(err); o != queue.ErrorReply && o != queue.Disconnect {
			a, err = nil, c.hook.ended(ctx)
		}
	}
	if !c.end(a, c.hook.failed(err)) {
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return queue.Timeout, true
		}
		return queue.Canceled, false
	}
	return outcomeOf(err)
}

// failed returns an error of the function, with the name of the hook if it is a failure.
func (h *Caller[Q, A]) failed(err error) error {
	if err == nil || Decided(err) {
		return err
	}
	o, away := outcomeOf(err)
	return &Failure{Outcome: o, Away: away, Err: err, Hook: h.name}
}

// ended returns the error of a call whose context has ended.
func (h *Caller[Q, A]) ended(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return h.errTimeout
	}
	return h.errClosed
}

// do calls the function.
func (c *call[Q, A]) do(ctx context.Context) (a *A, err error) {
	defer func() {
		if r := recover(); r != nil {
			a, err = nil, &Failure{Outcome: queue.Failed, Err: fmt.Errorf("the hook has panicked: %v\n%s", r, debug.Stack())}
		}
	}()
	a, err = c.hook.f(ctx, c.request())
	if err != nil {
		a = nil
	}
	return a, err
}
