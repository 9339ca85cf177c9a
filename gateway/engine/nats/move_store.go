package nats

import (
	"slices"
	"time"

	"sluice/gateway/channel"
	"sluice/gateway/engine"
)

// A single node's store moves to the process that takes over, once that serves. Until then publications to stored histories wait
// in their lanes, and for no longer than movingPatience each: a little less than their publishers wait.
const movingPatience = engine.Patience - 500*time.Millisecond

// arrived is called when the store is there, or cannot be opened.
func (e *Engine) arrived() {
	if !e.moving.Load() {
		return
	}
	now := time.Now()
	for _, l := range e.lanes {
		l.mu.Lock()
	}
	for _, l := range e.lanes {
		for _, p := range l.queue.list[l.queue.first:] {
			p.sent = now
		}
	}
	e.moving.Store(false)
	for _, l := range e.lanes {
		l.ready.Signal()
		l.mu.Unlock()
	}
}

// resolve finds the streams of publications of the batch that have waited for the store. It runs on the sending goroutine.
func (l *lane) resolve() {
	l.batch = slices.DeleteFunc(l.batch, func(p *pending) bool {
		if !p.waits {
			return false
		}
		p.waits, p.st = false, l.e.stream(p.name)
		if p.st != nil && l.e.connected.Load() {
			return false
		}
		l.answered(1, p.size())
		p.answer(channel.Receipt{}, engine.ErrAway)
		p.recycle()
		return true
	})
}
