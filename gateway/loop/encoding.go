package loop

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"sluice/gateway/channel"
	"sluice/gateway/engine"
)

// A publication that may encode to more than a megabyte is not encoded on a loop, which
// would stand still for all its connections. A few goroutines do that; the connection waits
// as one whose channel is full does.

// encodeMax is what a loop encodes itself, in all formats together.
const encodeMax = 1 << 20

// encoders are goroutines that encode, as many as there is work for, up to a bound. They
// end when there is none.
type encoders struct {
	background *sync.WaitGroup // set at construction

	mu      sync.Mutex
	queue   []*Publishing // guarded by mu
	running int           // guarded by mu
	paused  bool          // guarded by mu: nothing begins
}

// add lets p be encoded. It is called by loops, which end after their last connection.
func (e *encoders) add(p *Publishing) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.queue = append(e.queue, p)
	e.startLocked()
}

// startLocked starts an encoder, if there is work for one more.
func (e *encoders) startLocked() {
	if e.paused || len(e.queue) == 0 || e.running >= max(runtime.GOMAXPROCS(0)/2, 1) {
		return
	}
	e.running++
	p := e.nextLocked()
	e.background.Go(func() { e.work(p) })
}

// pause keeps encoders from beginning with anything, or lets them.
func (e *encoders) pause(paused bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for e.paused = paused; !paused && len(e.queue) > 0; {
		before := e.running
		if e.startLocked(); e.running == before {
			break
		}
	}
}

// idle waits until no encoder is at work, while they are paused.
func (e *encoders) idle(ctx context.Context) error {
	for {
		e.mu.Lock()
		n := e.running
		e.mu.Unlock()
		if n == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("loop: large publications are still being encoded: %w", context.Cause(ctx))
		case <-time.After(time.Millisecond):
		}
	}
}

func (e *encoders) work(p *Publishing) {
	for ; p != nil; p = e.next() {
		p.work.publish(p)
	}
}

func (e *encoders) next() *Publishing {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.paused || len(e.queue) == 0 {
		e.running--
		return nil
	}
	return e.nextLocked()
}

// nextLocked takes the first of the queue.
func (e *encoders) nextLocked() *Publishing {
	p := e.queue[0]
	e.queue[0] = nil
	if e.queue = e.queue[1:]; len(e.queue) == 0 {
		e.queue = nil
	}
	return p
}

// encoding is the work on a large publication.
type encoding struct {
	// Owned by the loop.
	atWork bool // an encoder has it
	again  bool // the channel has called meanwhile

	from uint64 // set at construction: the connection
	// Of the last attempt: written by the encoder, then read by the loop.
	receipt channel.Receipt
	err     error
}

func (w *encoding) start(p *Publishing) {
	w.atWork, w.again = true, false
	p.loop.set.encoders.add(p)
}

// called: the channel has room.
func (w *encoding) called(p *Publishing) {
	if w.atWork {
		w.again = true
		return
	}
	w.start(p)
}

// publish runs on an encoder.
func (w *encoding) publish(p *Publishing) {
	var scratch channel.Scratch
	pub := channel.Publication{Payload: p.payload, Binary: p.binary, Passing: p.passing, From: w.from, Extra: p.extra, At: p.loop.cfg.Clock().UnixMilli()}
	w.receipt, w.err = p.loop.engine.Publish(p.name, p.ch, &pub, &scratch, p)
	if !p.loop.Post((*encoded)(p)) && p.ch != nil { // the loop has ended
		p.ch.Forget(p)
	}
}

// encoded is posted when an encoder is done with a publication.
type encoded Publishing

// Deliver implements Message: the loop goes on with the publication, or gives it up.
func (e *encoded) Deliver(l *Loop) {
	p := (*Publishing)(e)
	w := p.work
	w.atWork = false
	switch {
	case p.c == nil:
		p.Cancel()
	case p.answered: // before the encoder was done
	case w.err == engine.ErrPending:
		p.err = w.err
	case errors.Is(w.err, channel.ErrFull):
		if !errors.Is(w.err, channel.ErrTurn) {
			l.stats.PushBacks.Add(1)
		}
		if w.again {
			w.start(p)
		}
	case errors.Is(w.err, channel.ErrGone):
		p.ch, p.work = l.space.Find(p.name), nil // there is another now, or none
		l.retries = append(l.retries, p)
	default:
		p.answer(w.receipt, w.err)
	}
}
