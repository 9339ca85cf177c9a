// Package gate stops what goes on, for the time in which a process hands everything over to another one: what must
// not happen meanwhile enters a [Gate] before and leaves it afterwards.
//
// It is a package of its own because what it stops has nothing else in common: handshakes, publishers, requests.
package gate

import (
	"context"
	"sync"
	"sync/atomic"
)

// Gate is open, held, or shut for good. The zero Gate is open. Its methods are safe for concurrent use.
type Gate struct {
	mu   sync.RWMutex // read-locked by those who are in
	held *hold        // guarded by mu; nil: it is open

	waiting atomic.Int64
}

// hold is one time in which nobody goes in.
type hold struct {
	over  chan struct{} // closed when it is
	moved bool          // set before over is closed: nobody goes in any more
}

// Enter waits until the gate is open: the caller is in, and calls Leave. It returns false if the gate is shut for good, or stop is
// closed before.
func (g *Gate) Enter(stop <-chan struct{}) bool {
	g.mu.RLock()
	for g.held != nil {
		g.mu.RUnlock()
		g.waiting.Add(1)
		open := g.Wait(stop)
		g.waiting.Add(-1)
		if !open {
			return false
		}
		g.mu.RLock()
	}
	return true
}

// Leave ends what Enter began.
func (g *Gate) Leave() { g.mu.RUnlock() }

// Wait is Enter without going in: the gate may be held again.
func (g *Gate) Wait(stop <-chan struct{}) bool {
	h := g.holding()
	if h == nil {
		return true
	}
	select {
	case <-h.over:
		return !h.moved
	case <-stop:
		return false
	}
}

// Waiting returns how many wait in Enter.
func (g *Gate) Waiting() int { return int(g.waiting.Load()) }

func (g *Gate) holding() *hold {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return g.held
}

// Hold keeps everybody out, until Release or Shut, and waits for those who are in.
func (g *Gate) Hold() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.held = &hold{over: make(chan struct{})}
}

// Release opens the gate again.
func (g *Gate) Release() {
	g.mu.Lock()
	defer g.mu.Unlock()
	close(g.held.over)
	g.held = nil
}

// Shut shuts the gate, which is held, for good.
func (g *Gate) Shut() {
	h := g.holding()
	h.moved = true
	close(h.over)
}

// IsShut reports whether the gate is shut for good.
func (g *Gate) IsShut() bool {
	h := g.holding()
	if h == nil {
		return false
	}
	select {
	case <-h.over:
		return h.moved
	default:
		return false
	}
}

// Attempt is a request that can be done again elsewhere as long as nothing of it was done here.
type Attempt struct{ done atomic.Bool }

type attemptKey struct{}

// With returns a context by which Done finds the attempt.
func With(ctx context.Context, a *Attempt) context.Context {
	return context.WithValue(ctx, attemptKey{}, a)
}

// Done notes, within the gate, that a part of the context's attempt was done.
func Done(ctx context.Context) {
	if a, ok := ctx.Value(attemptKey{}).(*Attempt); ok {
		a.done.Store(true)
	}
}

// Done reports whether a part of the attempt was done.
func (a *Attempt) Done() bool { return a.done.Load() }
