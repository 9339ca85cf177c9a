package engine

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"sluice/gateway/channel"
	"sluice/gateway/gate"
)

// Publisher publishes for goroutines, which can wait: for all publishers but clients on a loop.
type Publisher struct {
	// Set at construction.
	Engine     Engine
	Space      *channel.Space
	MessageMax int // bytes

	// Gate is held while nothing may be published. Once it is shut, publications fail with ErrAway.
	Gate gate.Gate

	// Observe, if set, is called with each publication that was accepted, of which it keeps nothing.
	Observe atomic.Pointer[func(channel string, payload []byte, r channel.Receipt)]

	// Atomic.
	Published  []atomic.Uint64 // publications that were accepted, by the class of their channel
	PushedBack atomic.Uint64   // publications that found the channel without room
}

// NewPublisher returns a publisher into a space.
func NewPublisher(e Engine, space *channel.Space, messageMax int) *Publisher {
	return &Publisher{Engine: e, Space: space, MessageMax: messageMax, Published: make([]atomic.Uint64, space.Classes())}
}

// Accepted returns how many publications were accepted.
func (p *Publisher) Accepted() (n uint64) {
	for i := range p.Published {
		n += p.Published[i].Load()
	}
	return n
}

// caller is a goroutine that publishes. It implements Caller.
type caller struct {
	scratch  channel.Scratch
	released chan struct{}
	answers  chan answer[channel.Receipt] // to the publication that is pending
}

var callers = sync.Pool{New: func() any {
	return &caller{released: make(chan struct{}, 1), answers: make(chan answer[channel.Receipt], 1)}
}}

func (c *caller) Released() {
	select {
	case c.released <- struct{}{}:
	default:
	}
}

func (c *caller) Published(r channel.Receipt, err error) {
	c.answers <- answer[channel.Receipt]{r, err}
}

// await waits until the channel calls, ctx ends or, where it is not 0, wait is over.
func (c *caller) await(ctx context.Context, wait time.Duration) (called bool) {
	var over <-chan time.Time
	if wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		over = timer.C
	}
	select {
	case <-c.released:
		return true
	case <-ctx.Done():
	case <-over:
	}
	return false
}

// turnWait bounds how long a publisher that does not wait long for room waits for other
// publications to be encoded, beside that.
const turnWait = 5 * time.Second

// Publish publishes pub to the channel called name. It waits for room until ctx ends and, where
// wait is not 0, no longer than that; the time in which other publications are encoded does not
// count. For an engine that answers later it waits as Wait does: after ErrUnavailable the message
// may have been published. Its other errors are Faults, channel.ErrTooBig and the engine's.
func (p *Publisher) Publish(ctx context.Context, wait time.Duration, name string, pub channel.Publication) (channel.Receipt, error) {
	switch {
	case !channel.ValidName(name):
		return channel.Receipt{}, BadChannel
	case len(pub.Payload) > p.MessageMax:
		return channel.Receipt{}, TooBig
	case !pub.Binary && !utf8.Valid(pub.Payload):
		return channel.Receipt{}, BadText
	}
	c := callers.Get().(*caller)
	receipt, err := p.publish(ctx, wait, name, &pub, c)
	if err == nil {
		callers.Put(c) // else it may still be called for this publication
		p.Published[p.Space.Class(name)].Add(1)
		if observe := p.Observe.Load(); observe != nil {
			(*observe)(name, pub.Payload, receipt)
		}
	}
	return receipt, err
}

func (p *Publisher) publish(ctx context.Context, wait time.Duration, name string, pub *channel.Publication, c *caller) (channel.Receipt, error) {
	for {
		pub.At = time.Now().UnixMilli()
		if !p.Gate.Enter(ctx.Done()) {
			if ctx.Err() != nil && !p.Gate.IsShut() {
				return channel.Receipt{}, PushedBack
			}
			return channel.Receipt{}, ErrAway
		}
		ch, receipt, err := Publish(p.Engine, p.Space, name, nil, pub, &c.scratch, c)
		if err == nil || err == ErrPending {
			gate.Done(ctx)
		}
		p.Gate.Leave()
		switch {
		case err == ErrPending:
			return await(ctx, c.answers)
		case errors.Is(err, channel.ErrGone):
			if ctx.Err() != nil {
				return channel.Receipt{}, PushedBack
			}
			continue // it came and went: there is another now, or none
		case !errors.Is(err, channel.ErrFull):
			return receipt, err
		}
		begun, turn := time.Now(), errors.Is(err, channel.ErrTurn)
		called := false
		switch {
		case turn && wait > 0:
			called = c.await(ctx, wait+turnWait)
		case turn:
			called = c.await(ctx, 0)
		default:
			p.PushedBack.Add(1)
			if called = c.await(ctx, wait); wait > 0 {
				wait = max(wait-time.Since(begun), 1)
			}
		}
		if called {
			continue
		}
		if ch != nil { // else the engine is full, without a channel on this node
			ch.Forget(c)
		}
		if errors.Is(err, channel.ErrRate) {
			return channel.Receipt{}, RateReached
		}
		return channel.Receipt{}, PushedBack
	}
}
