package nats

import (
	"context"
	"sync"
	"time"

	"sluice/gateway/channel"
	"sluice/gateway/engine"
)

// Reading from streams. It takes time, so workers do it, and post what they have read to the lane.

const (
	workerCount = 4
	headsMost   = 1024            // of how many channels a stream is asked at once
	readTime    = 2 * time.Second // for one answer
	jobsMost    = 1 << 14         // that wait, of callers who are not channels
)

// workers read from streams.
type workers struct {
	mu   sync.Mutex
	more *sync.Cond
	// Guarded by mu.
	jobs  []func(ctx context.Context)
	ended bool

	ctx    context.Context
	cancel context.CancelFunc
}

func startWorkers(running *sync.WaitGroup) *workers {
	w := new(workers)
	w.more = sync.NewCond(&w.mu)
	w.ctx, w.cancel = context.WithCancel(context.Background())
	for range workerCount {
		running.Go(w.work)
	}
	return w
}

// do has a worker do a job. ctx is cancelled when the engine ends, and when the job has taken too long.
// Jobs that were not begun then are done with a ctx that has ended, so that all are answered.
func (w *workers) do(job func(ctx context.Context)) {
	w.mu.Lock()
	if !w.ended {
		w.jobs = append(w.jobs, job)
		w.more.Signal()
		w.mu.Unlock()
		return
	}
	w.mu.Unlock()
	job(w.ctx)
}

// try is do, unless too much waits.
func (w *workers) try(job func(ctx context.Context)) bool {
	w.mu.Lock()
	full := len(w.jobs) >= jobsMost
	w.mu.Unlock()
	if !full {
		w.do(job)
	}
	return !full
}

func (w *workers) work() {
	for {
		w.mu.Lock()
		for len(w.jobs) == 0 && !w.ended {
			w.more.Wait()
		}
		if len(w.jobs) == 0 {
			w.mu.Unlock()
			return
		}
		job := w.jobs[0]
		w.jobs[0] = nil
		if w.jobs = w.jobs[1:]; len(w.jobs) == 0 {
			w.jobs = nil
		}
		w.mu.Unlock()
		ctx, cancel := context.WithTimeout(w.ctx, readTime)
		job(ctx)
		cancel()
	}
}

// close ends the workers, once they have answered everybody.
func (w *workers) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended = true
	w.cancel()
	w.more.Broadcast()
}

// asksMost is how many questions for heads of one stream a lane has under way: what comes meanwhile is asked
// together.
const asksMost = 2

// ask asks the streams for the heads of routes that begin.
func (l *lane) ask() {
	if len(l.asking) == 0 || l.taking {
		return
	}
	by := make(map[*stream][]*route)
	wait := l.asking[:0]
	for _, r := range l.asking {
		switch st := r.st; {
		case !l.current(r):
		case l.asked[st] >= asksMost:
			wait = append(wait, r)
		default:
			if by[st] = append(by[st], r); len(by[st]) == headsMost {
				l.askHeads(st, by[st])
				delete(by, st)
			}
		}
	}
	clear(l.asking[len(wait):])
	l.asking = wait
	for st, routes := range by {
		l.askHeads(st, routes)
	}
}

func names(routes []*route) []string {
	all := make([]string, len(routes))
	for i, r := range routes {
		all[i] = r.name
	}
	return all
}

func (l *lane) askHeads(st *stream, routes []*route) {
	all := names(routes)
	l.asked[st]++
	l.e.readers.do(func(ctx context.Context) {
		heads, err := st.heads(ctx, all)
		epoch := st.epoch()
		l.post(func() {
			if l.asked[st]--; l.asked[st] == 0 {
				delete(l.asked, st)
			}
			for i, r := range routes {
				switch {
				case !l.current(r) || r.busy == nil:
				case err != nil:
					l.fail(r, unavailable(err))
				default:
					l.join(r, epoch, &heads[i])
				}
			}
		})
	})
}

// join has a route join its stream's order.
func (l *lane) join(r *route, epoch channel.Epoch, h *head) {
	if r.ch != nil {
		if at, attached := r.ch.Order(); attached && at.Epoch == epoch && at.Offset < h.seq { // it was another process's
			r.epoch, r.last, r.newest, r.prev, r.published, r.doubt = epoch, at.Offset, at.Offset, at.Offset, 0, false
			r.told, r.busy.overflow = true, true // what has come since is read
			l.goOn(r)
			return
		}
	}
	r.epoch, r.last, r.newest, r.prev, r.published, r.doubt = epoch, h.seq, h.seq, 0, 0, false
	if h.found {
		r.prev = h.seq
		m, err := parseMessage(h.msg)
		if r.published = m.At; err == nil && m.tombstone {
			r.newest, r.prev = m.removed, m.removed
		}
	}
	l.tell(r)
	if r.passed {
		l.joined = append(l.joined, joined{r: r, at: time.Now()})
		l.arm()
	}
	l.goOn(r)
}

// goOn ends a route's waiting.
func (l *lane) goOn(r *route) {
	b := r.busy
	r.busy = nil
	if b.overflow {
		l.catchUp(r)
	}
	for _, a := range l.letGo(b) {
		l.arrive(r, a)
	}
	if b.fill {
		l.fill(r.ch)
	}
}

// catchUp reads what a route has missed.
func (l *lane) catchUp(r *route) {
	if r.busy == nil {
		r.busy = new(busy)
		l.read(r)
	}
}

// suspect has a channel read from its stream, of which a message may be lost.
func (l *lane) suspect(name string) {
	if r := l.routes[token(name)]; r != nil && r.keeps && l.e.single {
		l.catchUp(r)
	}
}

// read has a worker read from a stream, and calls done there with what it has read.
func (e *Engine) read(a *attempt, done func(reading, error)) {
	e.readers.do(func(ctx context.Context) { e.readOn(ctx, a, done) })
}

// readOn goes on with a reading. If it takes longer than a worker has for a job, it goes on later, when others had their
// turn.
func (e *Engine) readOn(ctx context.Context, a *attempt, done func(reading, error)) {
	batches := a.batches
	got, err := a.read(ctx)
	if err != nil && a.batches > batches && ctx.Err() != nil {
		e.read(a, done)
		return
	}
	done(got, err)
}

func (l *lane) read(r *route) {
	l.e.read(r.st.attempt(r.name, r.last), func(got reading, err error) {
		l.post(func() {
			switch {
			case !l.current(r):
			case err != nil:
				l.retry = append(l.retry, r)
				l.arm()
			default:
				l.e.counts.caughtUp.Add(1)
				l.takeLive() // it is held
				l.merge(r, &got)
				if r.ch != nil && !r.told {
					l.tell(r)
				}
				l.goOn(r)
			}
		})
	})
}

// readAgain reads what could not be read.
func (l *lane) readAgain() {
	retry := l.retry
	l.retry = nil
	for _, r := range retry {
		switch {
		case !l.current(r):
		case r.st.flow.away.Load() || !l.e.connected.Load():
			l.retry = append(l.retry, r)
		default:
			l.read(r)
		}
	}
}

// merge appends what a reading has above a route's position.
func (l *lane) merge(r *route, got *reading) {
	floor := got.offset(got.floor)
	newer := len(got.msgs) > 0 && got.msgs[len(got.msgs)-1].seq > r.last
	switch {
	case got.epoch != r.epoch:
		if r.busy != nil { // what is held may be of the epoch before
			l.letGo(r.busy)
			r.busy.overflow = true
		}
		r.epoch, r.last, r.newest, r.prev = got.epoch, got.floor, floor, floor
		l.give(r, &channel.Publication{Kind: channel.KindReset}, 0, floor)
	case newer && got.floor > r.last && !r.begins(got):
		r.last, r.prev = got.floor, max(r.prev, floor)
		l.gap(r, floor, engine.GapTrimmed)
	}
	for i := range got.msgs {
		if s := &got.msgs[i]; s.seq > r.last {
			a := arrival{seq: s.seq}
			a.m, a.err = parseMessage(s.data)
			l.append(r, &a)
		}
	}
}

// begins reports whether a reading begins with the first publication that the channel ever had: it came meanwhile, and
// there was none before it when it was stored. Then nothing is missing, wherever the front of the stream is by now.
func (r *route) begins(got *reading) bool {
	return r.prev == 0 && !r.doubt && r.busy != nil && len(r.busy.held) > 0 && r.busy.held[0].last == 0 && r.busy.held[0].seq == got.msgs[0].seq
}

// offset returns the offset that clients have for the sequence of the floor: a message that stands for a
// removed history has that of the newest publication it has removed.
func (r *reading) offset(seq uint64) uint64 {
	if r.under.data != nil {
		if m, err := parseMessage(r.under.data); err == nil && m.tombstone {
			return m.removed
		}
	}
	return seq
}

// fill fills a channel's history.
func (l *lane) fill(ch *channel.Channel) {
	if ch == nil {
		return
	}
	r := l.routes[token(ch.Name())]
	switch {
	case r == nil || r.ch != ch:
		ch.Failed(engine.ErrUnavailable)
		return
	case !r.keeps: // there is nothing but what the channel has
		at := channel.Position{Epoch: r.epoch, Offset: r.newest}
		ch.Filled(nil, at, at)
		return
	case r.st.flow.away.Load() || !l.e.connected.Load():
		ch.Failed(engine.ErrAway)
		return
	case r.busy != nil:
		r.busy.fill = true
		return
	}
	name := r.name
	l.e.read(r.st.attempt(name, 0), func(got reading, err error) {
		l.post(func() {
			switch {
			case r.ch != ch || !l.current(r):
			case err != nil:
				ch.Failed(unavailable(err))
			case r.busy != nil:
				r.busy.fill = true
			default:
				l.merge(r, &got)
				k := got.kept(name, l.e.cfg.Keep(name).TTL, l.e.now().UnixMilli())
				at := func(offset uint64) channel.Position { return channel.Position{Epoch: k.epoch, Offset: offset} }
				ch.Filled(k.pubs, at(k.floor), at(max(k.upTo, r.newest)))
			}
		})
	})
}
