package nats

import (
	"context"
	"errors"

	"sluice/gateway/channel"
	"sluice/gateway/engine"
)

// Remove implements engine.Engine.
func (e *Engine) Remove(name string, done func(error)) {
	if !e.keeps(name) {
		e.local.Remove(name, done) // the memory of this node
		return
	}
	st := e.stream(name)
	if st == nil || st.flow.away.Load() || !e.readers.try(func(ctx context.Context) { e.remove(ctx, st, name, done, removeTries) }) {
		done(engine.ErrAway)
	}
}

// removeTries is how often a history is removed, while it is published to.
const removeTries = 10

// remove stores a message that stands for the history, and purges what is before it.
func (e *Engine) remove(ctx context.Context, st *stream, name string, done func(error), tries int) {
	newest, err := st.leaderHead(ctx, st.subject(name)) // another replica may have none of it yet
	if err != nil {
		done(unavailable(err))
		return
	}
	if newest.seq == 0 {
		e.local.Remove(name, done)
		return
	}
	p := &pending{st: st, name: name, own: removes, removed: newest.seq, expected: newest.seq}
	if m, err := parseMessage(newest.data); err == nil && m.tombstone {
		p.removed = m.removed
	}
	p.p.At = e.now().UnixMilli()
	p.done = func(seq uint64, err error) { // on a lane
		e.readers.do(func(ctx context.Context) {
			switch {
			case errors.Is(err, errLastSequence) && tries > 1:
				e.remove(ctx, st, name, done, tries-1)
				return
			case err == nil:
				err = st.purge(ctx, name, seq)
			}
			done(unavailable(err))
		})
	}
	l := e.lane(name)
	if err := l.enqueue(p); err != nil {
		done(engine.ErrAway)
	}
}

// History implements engine.Engine.
func (e *Engine) History(q engine.HistoryQuery, done func(channel.Collected, error)) {
	if !e.keeps(q.Channel) {
		e.local.History(q, done)
		return
	}
	if q.Since != nil {
		since := *q.Since
		q.Since = &since
	}
	st := e.stream(q.Channel)
	if st == nil || st.flow.away.Load() || !e.readers.try(func(ctx context.Context) { e.history(ctx, st, q, done) }) {
		done(channel.Collected{}, engine.ErrAway)
	}
}

// Presence implements engine.Engine.
func (e *Engine) Presence(name string, most int, done func(engine.Presence, error)) {
	switch n := e.nodes.Load(); {
	case e.single:
		e.local.Presence(name, most, done)
	case n == nil:
		done(engine.Presence{}, engine.ErrAway)
	default:
		n.presence(name, most, done)
	}
}

// Info implements engine.Engine.
func (e *Engine) Info(done func(engine.Nodes, error)) {
	if n := e.nodes.Load(); e.single || n != nil {
		n.info(done)
		return
	}
	done(engine.Nodes{Partial: true}, nil)
}

// Ask implements engine.Engine.
func (e *Engine) Ask(request []byte, done func(answers [][]byte, missing int)) {
	e.nodes.Load().askNodes(request, done)
}

// AskNode implements engine.Router.
func (e *Engine) AskNode(node uint64, request []byte, done func(answer []byte, err error)) {
	e.nodes.Load().askOne(node, request, done)
}

// Neighbors implements engine.Neighbors.
func (e *Engine) Neighbors(done func(list []engine.Neighbor, ok bool)) {
	if n := e.nodes.Load(); n == nil || !n.post(func() { done(n.neighbors()) }) {
		done(nil, false)
	}
}

// Answer implements engine.Engine.
func (e *Engine) Answer(f func(request []byte, reply func([]byte))) {
	e.answers.Store(&f)
	e.nodes.Load().setAnswer(f)
}

// history answers a query from a stream.
func (e *Engine) history(ctx context.Context, st *stream, q engine.HistoryQuery, done func(channel.Collected, error)) {
	e.readOn(ctx, st.attempt(q.Channel, 0), func(got reading, err error) {
		if err != nil {
			done(channel.Collected{}, unavailable(err))
			return
		}
		k := got.kept(q.Channel, e.cfg.Keep(q.Channel).TTL, q.Now)
		done(k.collect(q))
	})
}
