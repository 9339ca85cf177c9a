package nats

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"sluice/gateway/channel"
	"sluice/gateway/engine"

	natsgo "github.com/nats-io/nats.go"
)

// flow is what the lanes know of a stream.
type flow struct {
	away  atomic.Bool
	since atomic.Int64 // when it went away: ms
}

// counts are what the engine counts.
type counts struct {
	stored, caughtUp, resubscribed, repeated atomic.Uint64
	gaps                                     [16]atomic.Uint64 // by cause
}

func (c *counts) gap(cause string) {
	for i, name := range engine.GapCauses {
		if name == cause {
			c.gaps[i].Add(1)
		}
	}
}

const probeInterval = 250 * time.Millisecond

// away notes that a stream does not answer.
func (e *Engine) away(st *stream) {
	if !st.flow.away.Swap(true) {
		st.flow.since.Store(e.now().UnixMilli())
		e.log.Warn("a stream does not answer: publications with history fail until it does", "stream", st.name)
		e.wakeHousekeeper()
	}
}

// refused notes that a stream has refused a message for a reason that is not the message's.
func (e *Engine) refused(st *stream, a *acknowledgement) {
	if !st.flow.away.Load() {
		e.log.Warn("a stream refuses publications", "stream", st.name, "code", a.code, "error", a.text)
	}
	e.away(st)
}

// back notes that a stream answers again.
func (e *Engine) back(st *stream) {
	if st.flow.away.Swap(false) {
		e.log.Info("a stream answers again", "stream", st.name)
		e.checkStream(st)
	}
}

// keepHouse does what is due from time to time.
func (e *Engine) keepHouse() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		select {
		case <-e.stop:
			return
		case <-e.wake:
		case <-timer.C:
		}
		if e.probeAll() {
			timer.Reset(probeInterval)
		}
	}
}

// probeAll asks streams that are away whether they answer again, and reports whether there are some.
func (e *Engine) probeAll() (some bool) {
	for _, st := range e.streamsNow() {
		if st.flow.away.Load() {
			some = true
			e.probe(st)
		}
	}
	return some
}

// probe sends a stream a message to which an answer shows that it is there.
func (e *Engine) probe(st *stream) {
	if !e.connected.Load() || e.single && !e.embedded.room() {
		return
	}
	l := e.lanes[0]
	l.mu.Lock()
	defer l.mu.Unlock()
	l.queue.push(&pending{st: st, probe: true, done: func(_ uint64, err error) {
		if err == nil {
			e.back(st)
		}
	}})
	l.ready.Signal()
}

// open opens the streams.
func (e *Engine) open(ctx context.Context) error {
	c := streamsConfig{prefix: e.cfg.Servers.Prefix, embedded: e.single, replicas: e.cfg.Servers.Replicas, histories: e.cfg.Histories, namespaceOf: e.cfg.NamespaceOf,
		dataMax: e.cfg.DataMax, maxMessage: e.cfg.MaxMessage, log: e.log}
	if e.single {
		c.generation = e.embedded.generation
	}
	all, err := openStreams(ctx, e.link, c)
	if err == nil {
		e.streams.Store(all)
		e.opened.Store(true)
	}
	return err
}

// streamsNow returns all streams that are open.
func (e *Engine) streamsNow() []*stream {
	if all := e.streams.Load(); all != nil {
		return all.all
	}
	return nil
}

// history answers a query from a stream.
func (e *Engine) history(ctx context.Context, st *stream, q engine.HistoryQuery, done func(channel.Collected, error)) {
	got, err := st.read(ctx, q.Channel, 0)
	if err != nil {
		done(channel.Collected{}, unavailable(err))
		return
	}
	k := got.kept(q.Channel, e.cfg.Keep(q.Channel).TTL, q.Now)
	done(k.collect(q))
}

// counted counts a core message of a bucket.
func (e *Engine) counted(bucket int) uint64 { return 0 }

// barrier calls do once all servers know of the subscriptions that the own one has.
func (e *Engine) barrier(do func()) { do() }

// repeated notes that a message came which a channel has.
func (e *Engine) repeated(r *route, seq uint64) { e.counts.repeated.Add(1) }

// checkPositions compares the positions of all channels with stored histories with their streams.
func (e *Engine) checkPositions(cause string) {
	for _, st := range e.streamsNow() {
		e.checkStream(st)
	}
}

// checkStream compares the positions of a stream's channels with it.
func (e *Engine) checkStream(st *stream) {
	e.readers.do(func(ctx context.Context) {
		if _, err := st.state(ctx); err != nil {
			return // there will be another one when it is back
		}
		epoch := st.epoch()
		for _, l := range e.lanes {
			l.post(func() { l.check(st, epoch, l.list) })
		}
	})
}

// check compares the positions of routes with their stream.
func (l *lane) check(st *stream, epoch channel.Epoch, routes []*route) {
	var batch []*route
	flush := func() {
		if len(batch) > 0 {
			l.compare(st, batch)
			batch = nil
		}
	}
	for _, r := range routes {
		switch {
		case r.st != st || r.busy != nil:
		case r.epoch != epoch:
			l.catchUp(r)
		default:
			if batch = append(batch, r); len(batch) == headsMost {
				flush()
			}
		}
	}
	flush()
}

func (l *lane) compare(st *stream, routes []*route) {
	all := names(routes)
	l.e.readers.do(func(ctx context.Context) {
		heads, err := st.heads(ctx, all)
		l.post(func() {
			for i, r := range routes {
				switch {
				case !l.current(r) || r.busy != nil:
				case err != nil || heads[i].found && heads[i].seq > r.last:
					l.catchUp(r)
				}
			}
		})
	})
}

func (l *lane) up() {
	l.e.counts.resubscribed.Add(uint64(len(l.list)))
}

func (e *Engine) slow(*natsgo.Subscription) {}
func (l *lane) lookAtSlow()                 {}
func (l *lane) deliver(m *natsgo.Msg)       {}

// Remove implements engine.Engine.
func (e *Engine) Remove(name string, done func(error)) {
	if !e.keeps(name) {
		e.local.Remove(name, done) // the memory of this node
		return
	}
	st := e.stream(name)
	if st == nil || !e.readers.try(func(ctx context.Context) { e.remove(ctx, st, name, done, removeTries) }) {
		done(engine.ErrAway)
	}
}

// removeTries is how often a history is removed, while it is published to.
const removeTries = 10

// remove stores a message that stands for the history, and purges what is before it.
func (e *Engine) remove(ctx context.Context, st *stream, name string, done func(error), tries int) {
	heads, err := st.heads(ctx, []string{name})
	if err != nil {
		done(unavailable(err))
		return
	}
	if !heads[0].found {
		e.local.Remove(name, done)
		return
	}
	p := &pending{st: st, name: name, tombstone: true, removed: heads[0].seq, expected: heads[0].seq}
	if m, err := parseMessage(heads[0].msg); err == nil && m.tombstone {
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
	if st == nil || !e.readers.try(func(ctx context.Context) { e.history(ctx, st, q, done) }) {
		done(channel.Collected{}, engine.ErrAway)
	}
}

// Presence implements engine.Engine.
func (e *Engine) Presence(name string, most int, done func(engine.Presence, error)) {
	e.local.Presence(name, most, done)
}

// Info implements engine.Engine.
func (e *Engine) Info(done func(engine.Nodes, error)) { e.local.Info(done) }

// Ask implements engine.Engine.
func (e *Engine) Ask(request []byte, done func([][]byte, int)) { e.local.Ask(request, done) }

// Answer implements engine.Engine.
func (e *Engine) Answer(f func([]byte, func([]byte))) { e.local.Answer(f) }
