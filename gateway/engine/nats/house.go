package nats

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"sluice/gateway/engine"
)

// flow is what the lanes know of a stream. All of it is atomic.
type flow struct {
	away      atomic.Bool
	missing   atomic.Bool  // nobody takes what is sent to it
	unchecked atomic.Bool  // positions could not be compared with it
	unsure    atomic.Bool  // the connection broke since its epoch was read: it may be another one by now
	looked    atomic.Int64 // when its epoch was looked at because of a message: Engine.uptime
	goingBack atomic.Bool  // Engine.wentBack is under way
	leader    atomic.Pointer[string]
	logged    atomic.Int64 // when there was a line in the log: Engine.uptime
}

const logInterval = 10 * time.Second

// mayLog reports whether it is time for another line in the log, and notes it; at is when there was one.
func (e *Engine) mayLog(at *atomic.Int64) bool {
	now, before := e.uptime(), at.Load()
	return (before == 0 || now-before >= logInterval.Milliseconds()) && at.CompareAndSwap(before, max(now, 1))
}

// unreadable logs that a message cannot be read, once in a while: anything may publish to NATS.
func (e *Engine) unreadable(r *route, err error) {
	if e.mayLog(&e.unread) {
		e.log.Warn("a message cannot be read: subscribers of its channel get a gap", "channel", r.name, "error", reason(err))
	}
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
		if e.mayLog(&st.flow.logged) {
			e.log.Warn("a stream does not answer: publications with history fail until it does", "stream", st.name)
		}
		e.changed()
		e.wakeHousekeeper()
	}
}

// refused notes that a stream has refused a message for a reason that is not the message's.
func (e *Engine) refused(st *stream, a *acknowledgement) {
	if !st.flow.away.Load() && e.mayLog(&st.flow.logged) {
		e.log.Warn("a stream refuses publications", "stream", st.name, "code", a.code, "error", a.text)
	}
	e.away(st)
}

// back notes that a stream answers again.
func (e *Engine) back(st *stream) {
	st.flow.missing.Store(false)
	if st.flow.away.Swap(false) {
		e.log.Info("a stream answers again", "stream", st.name)
		e.changed()
		e.checkStream(st)
	}
}

const (
	lookInterval  = 10 * time.Second // between looks at a stream of a cluster
	roundInterval = time.Second      // between parts of the round of position checks
	openInterval  = time.Second      // between tries to open the streams,
	openTime      = 30 * time.Second // of which each may take so long
)

// keepHouse does what is due from time to time. On a single node that is nothing, mostly.
func (e *Engine) keepHouse() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	if !e.single {
		timer.Reset(0)
	}
	for {
		select {
		case <-e.stop:
			return
		case <-e.wake:
		case <-timer.C:
		}
		now := time.Now()
		next := time.Hour
		if e.askAgain() {
			next = probeInterval
		}
		if !e.single {
			e.lookAfterStreams(now)
			next = min(next, roundInterval)
		}
		timer.Reset(next)
	}
}

// askAgain asks streams that are away whether they answer again, and compares positions where that was not
// possible. It reports whether there are some.
func (e *Engine) askAgain() (some bool) {
	for _, st := range e.streamsNow() {
		switch {
		case st.flow.away.Load():
			e.probe(st)
		case st.flow.unchecked.Load():
			e.checkStream(st)
		default:
			continue
		}
		some = true
	}
	return some
}

// lookAfterStreams opens the streams of a cluster, and compares positions with them.
func (e *Engine) lookAfterStreams(now time.Time) {
	if !e.connected.Load() {
		return
	}
	missing := !e.opened.Load()
	for _, st := range e.streamsNow() {
		missing = missing || st.flow.missing.Load()
	}
	if missing && now.Sub(e.tried) >= openInterval && !e.opening.Swap(true) {
		e.tried = now
		e.running.Go(func() {
			defer e.opening.Store(false)
			ctx, cancel := context.WithTimeout(e.readers.ctx, openTime)
			defer cancel()
			switch err := e.open(ctx); {
			case err == nil || errors.Is(err, engine.ErrUnavailable) || ctx.Err() != nil:
			case e.opened.Load(): // servers that lack something come back, and channels without a history go on
				e.link.report(err)
			default:
				e.fail(err)
			}
		})
	}
	if !e.opened.Load() {
		return
	}
	if now.Sub(e.round) >= roundInterval {
		e.round = now
		e.lookAtSome()
		for _, l := range e.lanes {
			l.post(l.checkSome)
		}
	}
}

// lookAtSome looks at the next streams. Where nothing is published, that is how it is noticed that there is no store
// any more although there is a connection, such as without a majority of the servers.
func (e *Engine) lookAtSome() {
	all := e.streamsNow()
	for range (len(all)*int(roundInterval) + int(lookInterval) - 1) / int(lookInterval) {
		st := all[e.looked%len(all)]
		e.looked++
		e.lookAt(st, func() {
			if !st.flow.away.Load() {
				e.probe(st) // only a publication that has no answer shows that it is away
			}
		})
	}
}

// probe sends a stream a message to which an answer shows that it is there.
func (e *Engine) probe(st *stream) {
	if !e.connected.Load() || e.single && !e.embedded.room() {
		return
	}
	e.store(&pending{st: st, own: probes, done: func(_ uint64, err error) {
		if err == nil {
			e.back(st)
		}
	}})
}

// store has a message of the engine's own stored, also where there is no room for others.
func (e *Engine) store(p *pending) {
	l := e.lanes[0]
	l.mu.Lock()
	defer l.mu.Unlock()
	p.sent = time.Now()
	l.queue.push(p)
	l.arm()
	l.ready.Signal()
}

// open opens the streams.
func (e *Engine) open(ctx context.Context) error {
	c := streamsConfig{prefix: e.cfg.Servers.Prefix, embedded: e.single, replicas: e.cfg.Servers.Replicas, histories: e.cfg.Histories, namespaceOf: e.cfg.NamespaceOf,
		dataMax: e.cfg.DataMax, maxMessage: e.cfg.MaxMessage, log: e.log}
	if e.single {
		c.generation = e.embedded.generation
	}
	connection := e.connection.Load()
	all, err := openStreams(ctx, e.link, c)
	if err != nil {
		return err
	}
	again := e.opened.Load()
	all.inherit(e.streamsNow())
	e.streams.Store(all)
	if e.connection.Load() != connection {
		e.doubt()
		e.checkPositions()
	}
	e.opened.Store(true)
	if again {
		for _, l := range e.lanes {
			l.post(l.reopened)
		}
	}
	return nil
}

// inherit has streams that were away before they were opened again be so still: servers also answer for those that
// cannot store anything.
func (s *streams) inherit(before []*stream) {
	for _, old := range before {
		for _, st := range s.all {
			if st.name == old.name && old.flow.away.Load() {
				st.flow.away.Store(true)
			}
		}
	}
}

// doubt notes that streams may be other ones of the same names, until their epochs were read again:
// servers that come back may have lost what they had, and another node may have made it anew.
func (e *Engine) doubt() {
	for _, st := range e.streamsNow() {
		st.flow.unsure.Store(true)
	}
}

// sure notes that a stream's epoch was read after a connection was made.
func (e *Engine) sure(st *stream, connection uint64) {
	if !st.flow.unsure.Swap(false) {
		return
	}
	if e.connection.Load() != connection {
		st.flow.unsure.Store(true)
	}
	e.changed()
}

// streamsNow returns all streams that are open.
func (e *Engine) streamsNow() []*stream {
	if all := e.streams.Load(); all != nil {
		return all.all
	}
	return nil
}
