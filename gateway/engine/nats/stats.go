package nats

import (
	"time"

	"sluice/gateway/engine"
)

// Stats implements engine.Reporter.
func (e *Engine) Stats() engine.Stats {
	s := engine.Stats{
		Parts:  []engine.Part{{Name: "connection", Up: e.connected.Load()}, {Name: "store", Up: e.opened.Load()}},
		Stored: e.counts.stored.Load(), CaughtUp: e.counts.caughtUp.Load(), Resubscribed: e.counts.resubscribed.Load(),
		Gaps: make(map[string]uint64), Nodes: 1,
	}
	for i, cause := range engine.GapCauses {
		s.Gaps[cause] = e.counts.gaps[i].Load()
	}
	for _, st := range e.streamsNow() {
		if st.flow.away.Load() {
			s.Parts[1].Up = false
		}
	}
	if e.single && !e.embedded.room() {
		s.Parts[1].Up = false
	}
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
		if sent, ok := l.window.oldestOfAll(); ok {
			s.Lag = max(s.Lag, now.Sub(sent))
		}
	}
	return s
}
