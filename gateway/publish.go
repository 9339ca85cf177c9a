package gateway

import (
	"context"
	"errors"
	"sync"
	"time"
	"unicode/utf8"

	"sluice/gateway/channel"
	"sluice/gateway/edge/handshake"
	"sluice/gateway/engine"
)

// Receipt is the result of a publication: its position in its channel, and how many
// subscribers the channel had. In JSON and in text, its epoch has the form that
// clients see.
type Receipt = channel.Receipt

// publisher is a goroutine that publishes. It implements engine.Caller.
type publisher struct {
	scratch  channel.Scratch
	released chan struct{}
}

var publishers = sync.Pool{New: func() any { return &publisher{released: make(chan struct{}, 1)} }}

func (p *publisher) Released() {
	select {
	case p.released <- struct{}{}:
	default:
	}
}

func (p *publisher) Published(channel.Receipt, error) {}

// await waits until the channel calls, ctx ends or, where it is not 0, wait is over.
func (p *publisher) await(ctx context.Context, wait time.Duration) (called bool) {
	var over <-chan time.Time
	if wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		over = timer.C
	}
	select {
	case <-p.released:
		return true
	case <-ctx.Done():
	case <-over:
	}
	return false
}

// Publish publishes a message to its channel, and returns its position and the number of
// subscribers. It does not wait for delivery. While the channel's log is full
// it waits until ctx ends, then it returns [ErrPushedBack] or [ErrRate]. Other errors are
// [ErrBadChannel], [ErrBadText] and [ErrTooBig]. The payload is copied.
func (s *Server) Publish(ctx context.Context, m Message) (Receipt, error) {
	return s.publish(ctx, 0, m.Channel, channel.Publication{Payload: m.Payload, Binary: m.Binary, From: m.Conn})
}

// known returns what is wrong with a channel's name, nil if nothing is.
func (s *Server) known(name string) *publishError {
	if handshake.ChannelName(name) != nil {
		return errBadChannel
	}
	if s.policy.Options(name) == nil {
		return errUnknownChannel
	}
	return nil
}

// turnWait bounds how long an HTTP publish waits for other publications to be encoded,
// beside its wait for room.
const turnWait = 5 * time.Second

// publish is the way of all publications but clients'. It waits for room until ctx ends and,
// where wait is not 0, no longer than that; the time in which other publications are encoded
// does not count.
func (s *Server) publish(ctx context.Context, wait time.Duration, name string, pub channel.Publication) (Receipt, error) {
	switch {
	case handshake.ChannelName(name) != nil:
		return Receipt{}, ErrBadChannel
	case len(pub.Payload) > s.cfg.MaxMessage:
		return Receipt{}, ErrTooBig
	case !pub.Binary && !utf8.Valid(pub.Payload):
		return Receipt{}, ErrBadText
	}
	p := publishers.Get().(*publisher)
	defer publishers.Put(p)
	for {
		ch, receipt, err := engine.Publish(s.engine, s.space, name, nil, &pub, &p.scratch, p)
		if err == nil {
			s.stats.published.Add(1)
			return receipt, nil
		}
		if errors.Is(err, channel.ErrGone) {
			if ctx.Err() != nil {
				return Receipt{}, ErrPushedBack
			}
			continue // it came and went: there is another now, or none
		}
		if !errors.Is(err, channel.ErrFull) {
			return Receipt{}, err
		}
		begun, turn := time.Now(), errors.Is(err, channel.ErrTurn)
		called := false
		switch {
		case turn && wait > 0:
			called = p.await(ctx, wait+turnWait)
		case turn:
			called = p.await(ctx, 0)
		default:
			s.stats.pushedBack.Add(1)
			if called = p.await(ctx, wait); wait > 0 {
				wait = max(wait-time.Since(begun), 1)
			}
		}
		if !called {
			if ch != nil { // else the engine is full, without a channel on this node
				ch.Forget(p)
			}
			select { // it may have been told meanwhile
			case <-p.released:
			default:
			}
			if errors.Is(err, channel.ErrRate) {
				return Receipt{}, ErrRate
			}
			return Receipt{}, ErrPushedBack
		}
	}
}
