package nats

import (
	"sync"
	"time"

	"sluice/gateway/engine"
)

// outage is for how long some part of the engine has been down.
type outage struct {
	mu sync.Mutex
	// Guarded by mu.
	since time.Time // zero while all are up
	total time.Duration
}

// parts returns which parts of the engine are up.
func (e *Engine) parts() []engine.Part {
	store := e.opened.Load() && (!e.single || e.embedded.room())
	for _, st := range e.streamsNow() {
		store = store && !st.flow.away.Load() && !st.flow.unsure.Load()
	}
	parts := []engine.Part{{Name: "connection", Up: e.connected.Load()}, {Name: "store", Up: store}}
	if !e.single {
		parts = append(parts, engine.Part{Name: "subscriptions", Up: e.refusals.Load() == 0})
	}
	return parts
}

// changed is called when a part may have changed. It returns for how long some part has been down, and the sum of
// those times.
func (e *Engine) changed() (now, total time.Duration) {
	all := engine.Stats{Parts: e.parts()}
	o := &e.outage
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.since.IsZero() {
		now = time.Since(o.since)
	}
	switch {
	case all.Up() && !o.since.IsZero():
		o.total, o.since, now = o.total+now, time.Time{}, 0
	case !all.Up() && o.since.IsZero():
		o.since = time.Now()
	}
	return now, o.total + now
}

// Stats implements engine.Reporter.
func (e *Engine) Stats() engine.Stats {
	s := engine.Stats{
		Parts:  e.parts(),
		Stored: e.counts.stored.Load(), CaughtUp: e.counts.caughtUp.Load(), Resubscribed: e.counts.resubscribed.Load(),
		Gaps: make(map[string]uint64), Nodes: 1,
	}
	for i, cause := range engine.GapCauses {
		s.Gaps[cause] = e.counts.gaps[i].Load()
	}
	s.Away, s.AwayTotal = e.changed()
	if n := e.nodes.Load(); n != nil {
		s.Nodes, s.Unanswered = int(n.live.Load()), n.unanswered.Load()
	}
	now := time.Now()
	for _, l := range e.lanes {
		l.mu.Lock()
		s.Pending += l.queue.len() + l.outstanding
		s.PendingBytes += l.queue.bytes
		l.mu.Unlock()
		s.Waiting += len(l.live)
		sent, bytes := l.window.sum()
		s.PendingBytes += bytes
		if !sent.IsZero() {
			s.Lag = max(s.Lag, now.Sub(sent))
		}
	}
	return s
}
