package loop

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"sluice/gateway/channel"
	"sluice/gateway/engine"
)

// Handing connections over to another process (package handover). The loops pass the descriptors of plain
// connections while they serve, some in each turn. Then they freeze: each loop ends its turn and blocks in a message,
// with every connection between two of its steps. Frozen connections are written down (record.go). In the
// end the loops either go on, as if nothing had happened, or let go of what was passed.
//
// Only open connections travel. One that is being closed is closed here. One with TLS cannot travel, as its keys lie in
// crypto/tls: it stays, and is told to come back (Given).

// Passer takes connections that are handed over.
type Passer interface {
	// Pass takes connections, at most PassMost. sent is false if there is no room at present.
	Pass(ids []uint64, fds []int) (sent bool, err error)
	// Gone takes back connections that have ended since.
	Gone(ids []uint64) (sent bool, err error)
}

const (
	// PassMost is how many connections are passed at once: as many descriptors as a message takes along.
	PassMost = 253
	// passTurn is how often a turn passes some: about 0.2 ms.
	passTurn = 4
	// passWrites is turnWrites while connections are handed over: the freeze waits for the turns of all loops.
	passWrites = 64
	// passPause is how long a loop waits for room.
	passPause = time.Millisecond
	// goneMost is how many connections are taken back at once.
	goneMost = 4096
)

// Giving is one attempt to hand the connections of a set over.
type Giving struct {
	set    *Set
	out    Passer
	passed chan struct{} // closed when all loops have passed what they had
	left   atomic.Int64  // loops that have not

	// Settle, if set before Freeze, waits until an engine has answered everything: when the loops have stopped.
	Settle func(context.Context) error

	err atomic.Pointer[error]

	// See give_logs.go. One loop at a time changes them, and nobody in the freeze.
	copying []copying
	copied  map[*channel.Log]copiedLog

	parked sync.WaitGroup // loops that have not reached the next step of freezing
	next   []chan func()  // for each loop: what a frozen one does; closed to go on
	last   func(*Loop)    // what it does before it goes on; set before next is closed
}

// passing is a loop's part of a Giving.
type passing struct {
	*Giving
	next  int      // connections before it were passed, or are not to be
	gone  []uint64 // that were passed and have ended
	whole bool     // what there was at the beginning is passed
	ids   []uint64
	fds   []int
}

// Give begins to hand the plain connections over. passed is closed when all that there are at present were passed;
// later ones follow. There must be no other Giving, and Stop must not have been called.
func (s *Set) Give(out Passer) (g *Giving, passed <-chan struct{}) {
	g = &Giving{set: s, out: out, passed: make(chan struct{})}
	g.left.Store(int64(len(s.loops)))
	for _, l := range s.loops {
		g.next = append(g.next, make(chan func()))
		l.Post(call(func(l *Loop) { l.passing = &passing{Giving: g} }))
	}
	return g, g.passed
}

// passSome passes some connections, in a turn.
func (l *Loop) passSome() {
	p := l.passing
	for range passTurn {
		switch sent, err := p.step(l); {
		case err != nil:
			p.fail(err)
			return
		case !sent && p.due(l):
			time.AfterFunc(passPause, func() { l.Post(call(func(*Loop) {})) }) // a turn
			return
		}
	}
	if p.due(l) {
		l.poller.Wake()
		return
	}
	p.done()
}

// due reports whether something is to be passed.
func (p *passing) due(l *Loop) bool { return p.next < len(l.conns) || len(p.gone) > 0 }

// done notes that everything there was is passed.
func (p *passing) done() {
	if !p.whole {
		if p.whole = true; p.left.Add(-1) == 0 {
			close(p.passed)
		}
	}
}

// fail notes the first error: the attempt fails.
func (g *Giving) fail(err error) { g.err.CompareAndSwap(nil, &err) }

// Err returns what has gone wrong.
func (g *Giving) Err() error {
	if err := g.err.Load(); err != nil {
		return *err
	}
	return nil
}

// step passes as many connections as one message takes, or takes some back. It returns false if there was
// nothing, or no room.
func (p *passing) step(l *Loop) (sent bool, err error) {
	if len(p.gone) > 0 {
		n := min(len(p.gone), goneMost)
		if sent, err = p.out.Gone(p.gone[:n]); sent {
			p.gone = p.gone[n:]
		}
		return sent, err
	}
	p.ids, p.fds = p.ids[:0], p.fds[:0]
	i := p.next
	for ; i < len(l.conns) && len(p.ids) < PassMost; i++ {
		if c := l.conns[i]; !c.has(bitPassed) && c.travels() {
			p.ids, p.fds = append(p.ids, c.id), append(p.fds, c.FD())
		}
	}
	if len(p.ids) > 0 {
		if sent, err = p.out.Pass(p.ids, p.fds); !sent {
			return false, err
		}
	}
	for _, c := range l.conns[p.next:i] {
		if c.travels() {
			c.bits |= bitPassed
		}
	}
	p.next = i
	return len(p.ids) > 0, nil
}

// travels reports whether the connection can be handed over.
func (c *Conn) travels() bool { return c.Phase == phaseOpen && c.secure() == nil }

// retract takes back a connection that is not open any more.
func (c *Conn) retract() {
	if p := c.loop.passing; p != nil && c.has(bitPassed) {
		p.gone = append(p.gone, c.id)
	}
	c.bits &^= bitPassed
}

// moved notes that the connection at the end of the list has moved to a slot.
func (p *passing) moved(slot int32) { p.next = min(p.next, int(slot)) }

// Freeze stops the loops: each passes what is left, finishes what was posted and published before, and blocks. If it
// fails, call Thaw.
func (g *Giving) Freeze(ctx context.Context) error {
	g.set.held.Store(true)
	g.set.encoders.pause(true)
	if err := g.park(ctx); err != nil {
		return err
	}
	if err := g.set.encoders.idle(ctx); err != nil {
		return err
	}
	if g.Settle != nil {
		if err := g.Settle(ctx); err != nil {
			return err
		}
	}
	// No loop runs, and no encoder: what they have posted is all that is left.
	return g.each(ctx, func(l *Loop) { l.finish(ctx) })
}

// park has all loops block at the end of a turn.
func (g *Giving) park(ctx context.Context) error {
	g.parked.Add(len(g.set.loops))
	for i, l := range g.set.loops {
		l.Post(call(func(l *Loop) {
			l.frozen = func() {
				g.parked.Done()
				for do := range g.next[i] {
					do()
				}
				g.last(l)
			}
		}))
	}
	return g.wait(ctx)
}

// each has all frozen loops do something at once, and waits until it is done.
func (g *Giving) each(ctx context.Context, do func(*Loop)) error {
	g.parked.Add(len(g.set.loops))
	for i, l := range g.set.loops {
		g.next[i] <- func() {
			defer g.parked.Done()
			do(l)
		}
	}
	if err := g.wait(ctx); err != nil {
		return err
	}
	return g.Err()
}

// wait waits until all loops have reached a step.
func (g *Giving) wait(ctx context.Context) error {
	done := make(chan struct{})
	go func() {
		g.parked.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("loop: the event loops did not stop in time: %w", context.Cause(ctx))
	}
}

// finish does what a frozen loop still has to do: what was posted before, publications whose results are known,
// and what was not passed yet. It publishes nothing: an engine's answer would come too late. What clients want to publish
// travels as messages that are not done.
func (l *Loop) finish(ctx context.Context) {
	l.silent = true
	for {
		for _, m := range l.inbox.take() {
			m.Deliver(l)
		}
		if l.retrySome(); len(l.retries) == 0 && l.inbox.empty() {
			break
		}
	}
	l.bury()
	for l.passing.due(l) {
		switch sent, err := l.passing.step(l); {
		case err != nil:
			l.passing.fail(err)
			return
		case !sent && l.passing.due(l):
			if ctx.Err() != nil {
				l.passing.fail(context.Cause(ctx))
				return
			}
			time.Sleep(passPause)
		}
	}
}

// Thaw lets the loops go on: what was passed is as if it had not been.
func (g *Giving) Thaw() {
	g.set.encoders.pause(false)
	g.release(func(l *Loop) {
		l.passing, l.silent = nil, false
		for _, m := range l.silenced {
			l.Post(m)
		}
		l.silenced = nil
		for _, c := range l.conns {
			c.bits &^= bitPassed
		}
	})
}

// release lets the loops go on, each with something that it does before anything else; those that are not frozen
// soon.
func (g *Giving) release(last func(*Loop)) {
	g.last = last
	g.set.held.Store(false)
	for i, l := range g.set.loops {
		close(g.next[i])
		l.Post(call(func(l *Loop) {
			if l.passing != nil { // it was not frozen
				last(l)
			}
		}))
	}
}

// Given lets the loops go on without the connections that were handed over: these are forgotten, and their descriptors
// closed, which the other process has, too. All others are told to come back (ReasonMoved), spread over at most
// that time (Set.Drain says how far that has come). Nothing is read from them any more, and nothing is published. Stop
// then waits for them.
func (g *Giving) Given(over time.Duration) {
	g.release(func(l *Loop) {
		l.engine = handedOver{l.engine}
		l.observed.to = nil // the other process goes on with that
		l.passing = nil
		for i := len(l.conns) - 1; i >= 0; i-- {
			if c := l.conns[i]; c.has(bitPassed) {
				c.letGo()
			}
		}
		l.bury()
		l.beginDrain(ReasonMoved, over)
	})
	time.AfterFunc(over, func() { g.set.post(hurry{}) }) // also where closes back up
}

// hasMoved reports whether another process has the loop's connections.
func (l *Loop) hasMoved() bool { return l.drain != nil && l.drain.why == ReasonMoved }

// letGo forgets a connection that another process has. Nothing is said of it, to its protocol or to its client.
func (c *Conn) letGo() {
	l := c.loop
	c.unpark()
	c.dropIndex()
	for i := c.Refs() - 1; i >= 0; i-- {
		l.leave(*c.Ref(i))
		if i == 0 {
			c.sub = Ref{}
		} else {
			c.ext.more = c.ext.more[:i-1]
		}
	}
	c.Phase = phaseDead
	l.forget(c)
	c.unblock()
	c.dropInput()
	c.dropOutput()
	l.held -= int(c.Counted)
	c.Counted = 0
	l.stats.Held.Store(int64(l.held))
	l.poller.Del(&c.Desc) // ignored: the descriptor is closed anyway
	l.remove(c)
	l.cfg.Admission.Left(c.seat, c.has(bitRefused))
	c.seat = 0
	l.dead = append(l.dead, c)
}

// handedOver is the engine of a loop that has handed its connections over: another process has it now.
type handedOver struct{ engine.Engine }

// Publish implements engine.Engine.
func (handedOver) Publish(string, *channel.Channel, *channel.Publication, *channel.Scratch, engine.Caller) (channel.Receipt, error) {
	return channel.Receipt{}, engine.ErrAway
}
