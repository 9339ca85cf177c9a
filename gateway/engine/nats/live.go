package nats

import (
	"sluice/gateway/channel"
	"sluice/gateway/engine"

	natsgo "github.com/nats-io/nats.go"
)

// Live messages. Those of a history have the sequences of the stream; others carry what their publisher
// counts.

// slow notes that messages of a subscription were dropped.
func (e *Engine) slow(sub *natsgo.Subscription) {
	if len(sub.Subject) <= len(e.live) || sub.Subject[:len(e.live)] != e.live {
		return // of answers: they are missing, and that is noticed
	}
	t := sub.Subject[len(e.live):]
	if name, ok := channelOf(t); ok {
		l := e.lane(name)
		l.post(func() {
			if r := l.routes[t]; r != nil && r.sub == sub && !r.slow {
				l.noteSlow(r)
			}
		})
	}
}

func (l *lane) noteSlow(r *route) {
	r.slow = true
	l.slow = append(l.slow, r)
	l.arm()
}

// lookAtSlow notes what was dropped, until nothing is any more. What had come before goes first.
func (l *lane) lookAtSlow() {
	if len(l.slow) == 0 || l.taking {
		return
	}
	l.takeLive()
	still := l.slow[:0]
	by := make(map[*stream][]*route)
	for _, r := range l.slow {
		dropped := r.dropped
		if l.current(r) && r.sub != nil {
			dropped, _ = r.sub.Dropped() // ignored: then it has ended
		}
		if r.slow = dropped != r.dropped; !r.slow {
			continue
		}
		r.dropped = dropped
		still = append(still, r)
		if r.keeps {
			by[r.st] = append(by[r.st], r)
		} else {
			l.lost(r, engine.GapSlow)
		}
	}
	clear(l.slow[len(still):])
	l.slow = still
	for st, routes := range by {
		l.compare(st, routes, true)
	}
}

// takeLive handles the messages that have come.
func (l *lane) takeLive() {
	if l.taking {
		return
	}
	for range len(l.live) {
		l.take(<-l.live)
	}
}

// behind calls f once on the receiving goroutine of each lane, after the messages that had come for it before.
func (e *Engine) behind(f func(lane, lanes int)) {
	for i, l := range e.lanes {
		l.post(func() {
			l.takeLive()
			f(i, len(e.lanes))
		})
	}
}

// interrupted notes that messages of channels without a stored history may be lost, in these buckets.
func (e *Engine) interrupted(affected *[buckets]bool, cause string) {
	in := *affected
	for _, l := range e.lanes {
		l.post(func() {
			for _, r := range l.list {
				if !r.keeps && in[r.bucket] {
					l.lost(r, cause)
				}
			}
		})
	}
}

// lost notes that messages of a channel whose order is this node's own may be missing.
func (l *lane) lost(r *route, cause string) {
	if r.busy == nil {
		l.gap(r, r.newest+1, cause)
	}
}

// deliver handles a live message, and others that are there.
func (l *lane) deliver(m *natsgo.Msg) {
	l.take(m)
	for range min(len(l.live), batchMost) {
		l.take(<-l.live)
	}
}

func (l *lane) take(m *natsgo.Msg) {
	r := l.routes[m.Subject[len(l.e.live):]]
	if r == nil {
		return // nobody reads it any more
	}
	if drop := l.e.cfg.test.drop; drop != nil && drop(r.name) {
		if r.keeps {
			l.compare(r.st, []*route{r}, true) // as when the client says that it has dropped something
		}
		return
	}
	got, err := parseMessage(m.Data)
	seq := uint64(0)
	if m.Header != nil {
		seq = headerNumber(m, "Nats-Sequence")
	}
	switch {
	case seq > 0 && r.keeps && m.Header.Get("Nats-Stream") != r.st.name:
		// Of a node for which the channel is in another namespace. It has no place in this order.
		if err == nil && !got.probe && !got.tombstone {
			l.appendPassing(r, &got.Publication)
		}
	case seq > 0 && r.keeps:
		l.arrive(r, arrival{seq: seq, last: headerNumber(m, "Nats-Last-Sequence"), m: got, err: err})
	case err != nil:
		l.e.unreadable(r, err)
		if !r.keeps {
			l.lost(r, engine.GapVersion)
		}
	case got.probe || got.tombstone:
		r.heard = r.heard || got.probe
	default:
		if got.core && l.e.before.has(&got, r.bucket) {
			if got.Kind == channel.KindMessage && !got.Passing && !r.keeps {
				r.publishedBefore(got.node, got.counter)
			}
			return
		}
		if got.core {
			l.e.nodes.Load().received(got.node, int(r.bucket), got.counter)
		}
		if got.Kind != channel.KindMessage || got.Passing || r.keeps {
			l.appendPassing(r, &got.Publication)
		} else {
			l.takeCore(r, &got)
		}
	}
}

// publishedBefore notes a message that the process before this one has heard.
func (r *route) publishedBefore(node, counter uint64) {
	for i := range r.publishers {
		if p := &r.publishers[i]; p.node == node {
			p.counter = max(p.counter, counter)
			return
		}
	}
	if len(r.publishers) < publishersMost {
		r.publishers = append(r.publishers, publisher{node, counter})
	}
}

// chainSlack is how much longer ago, in ms, than the attachment the message before may have been sent, and
// not be missed: it took as long to come.
const chainSlack = 1000

// publishersMost is of how many nodes a route remembers the newest message.
const publishersMost = 64

// takeCore appends a message to a channel whose order is this node's own. If it does not follow the newest one
// of its publisher, some are missing.
func (l *lane) takeCore(r *route, m *message) {
	known := (*publisher)(nil)
	for i := range r.publishers {
		if r.publishers[i].node == m.node {
			known = &r.publishers[i]
		}
	}
	missing := false
	switch {
	case !m.core: // of a node for which the channel has a history: it is counted nowhere
	case known == nil:
		missing = m.previous > 0 && int64(min(m.age, 1<<60))+chainSlack < l.e.uptime()-r.since
		if len(r.publishers) == publishersMost { // what was before is not known of the first one any more
			r.publishers, r.since = append(r.publishers[:0], r.publishers[1:]...), l.e.uptime()
		}
		r.publishers = append(r.publishers, publisher{m.node, m.counter})
	case m.counter <= known.counter: // it comes twice, or late over a server that its publisher has left
		l.e.counts.repeated.Add(1)
		return
	default:
		missing = m.previous > known.counter
		known.counter = m.counter
	}
	if r.busy != nil {
		return // nobody has begun to read it
	}
	if missing {
		l.lost(r, engine.GapChain)
	}
	r.newest++
	l.give(r, &m.Publication, r.newest, r.newest-1)
}
