package nats

import (
	"cmp"
	"context"
	"time"

	"sluice/gateway/channel"
)

// Checks. The last message of a burst may be lost without another one that shows it. So the positions of
// channels are compared with their streams after whatever may have lost something, and in a round anyway.

const (
	roundTime  = 60 * time.Second // of a round of position checks,
	checksMost = 2000             // or longer: channels per second
)

// checkPositions compares the positions of all channels with stored histories with their streams.
func (e *Engine) checkPositions() {
	for _, st := range e.streamsNow() {
		e.checkStream(st)
	}
}

// checkStream compares the positions of a stream's channels with it.
func (e *Engine) checkStream(st *stream) {
	e.readers.do(func(ctx context.Context) {
		st.flow.unchecked.Store(false)
		connection := e.connection.Load()
		s, err := st.state(ctx)
		if err != nil {
			if hasCode(err, codeNoStream) { // it has to be made anew
				st.flow.missing.Store(true)
			}
			e.uncheck(st)
			return
		}
		e.sure(st, connection)
		for _, l := range e.lanes {
			l.post(func() { l.check(st, s, l.list) })
		}
	})
}

// check compares the positions of routes with their stream.
func (l *lane) check(st *stream, s state, routes []*route) {
	var batch []*route
	highest := uint64(0)
	flush := func() {
		if len(batch) > 0 {
			l.compareUpTo(st, batch, true, s.last, staleTries)
			batch = nil
		}
	}
	for _, r := range routes {
		switch {
		case r.st != st || r.busy != nil:
		case r.epoch != s.epoch:
			l.catchUp(r)
		default:
			highest = max(highest, r.last)
			if batch = append(batch, r); len(batch) == headsMost {
				flush()
			}
		}
	}
	flush()
	if highest > s.last {
		l.e.wentBack(st, s.epoch, highest)
	}
}

// compare compares the positions of routes with their stream. After an interruption a position may be in doubt: that of
// a channel of which the stream has dropped everything, long before it is of age. Then nothing shows whether
// something was lost in between, until the stream is read with its next message.
func (l *lane) compare(st *stream, routes []*route, interrupted bool) {
	l.compareUpTo(st, routes, interrupted, 0, 0)
}

// compareUpTo is compare with what a stream has up to a sequence, which its leader has named. A replica may answer that
// is behind, such as that of a server which was cut off until now. Then routes are compared again, so often.
func (l *lane) compareUpTo(st *stream, routes []*route, interrupted bool, upTo uint64, tries int) {
	all := names(routes)
	l.comparing++
	l.e.readers.do(func(ctx context.Context) {
		heads, err := st.heads(ctx, all)
		l.post(func() {
			l.comparing--
			young := l.e.now().Add(time.Hour - ageLeast).UnixMilli()
			for i, r := range routes {
				switch {
				case err != nil || !l.current(r) || r.busy != nil:
				case heads[i].found && heads[i].seq > r.last:
					l.catchUp(r)
				default:
					if interrupted && !heads[i].found && r.published > young {
						r.doubt = true
					}
					if heads[i].upTo < upTo && tries > 1 {
						l.joined = append(l.joined, joined{r: r, at: time.Now(), upTo: upTo, tries: heads[i].again(tries)})
					}
				}
			}
			if err != nil {
				l.e.uncheck(st)
			}
			if len(l.joined) > 0 {
				l.arm()
			}
		})
	})
}

const (
	staleTries = 60 // how often routes are compared with a replica that is behind
	blindTries = 5  // and with one that does not say whether it is: servers before 2.11
)

// again returns how often a route is compared again, of so many times.
func (h *head) again(tries int) int {
	if h.upTo == 0 {
		tries = min(tries, blindTries)
	}
	return tries - 1
}

// uncheck notes that positions could not be compared with a stream.
func (e *Engine) uncheck(st *stream) {
	st.flow.unchecked.Store(true)
	e.wakeHousekeeper()
}

// joined is a route that has joined its stream's order, or was compared with it, at a time. A replica may have said
// where that is, which was behind: then something may have come in between. A second later it has that, or the route
// is compared once more.
type joined struct {
	r     *route
	at    time.Time
	upTo  uint64
	tries int
}

const replicaWait = time.Second

// compareAgain compares the positions of routes that have joined, or were compared, a while ago.
func (l *lane) compareAgain(now time.Time) {
	type again struct {
		routes []*route
		joined // the most of all
	}
	n := 0
	by := make(map[*stream]*again)
	for ; n < len(l.joined) && now.Sub(l.joined[n].at) >= replicaWait; n++ {
		j := l.joined[n]
		if !l.current(j.r) || j.r.busy != nil {
			continue
		}
		a := by[j.r.st]
		if a == nil {
			a = new(again)
			by[j.r.st] = a
		}
		a.routes, a.upTo, a.tries = append(a.routes, j.r), max(a.upTo, j.upTo), max(a.tries, j.tries)
		if len(a.routes) == headsMost {
			l.compareUpTo(j.r.st, a.routes, false, a.upTo, a.tries)
			delete(by, j.r.st)
		}
	}
	if n > 0 {
		l.joined = append([]joined(nil), l.joined[n:]...)
	}
	for st, a := range by {
		l.compareUpTo(st, a.routes, false, a.upTo, a.tries)
	}
}

// checkSome compares the positions of the next channels of the round, unless others are being compared. And it
// looks whether something was dropped: the client says so once, until it has a message of that channel again.
func (l *lane) checkSome() {
	if l.comparing > 0 {
		return
	}
	n := min(len(l.list)/int(roundTime/roundInterval)+1, checksMost/len(l.e.lanes))
	by := make(map[*stream][]*route)
	for range min(n, len(l.list)) {
		if l.checked >= len(l.list) {
			l.checked = 0
		}
		r := l.list[l.checked]
		if r.st != nil && r.busy == nil {
			by[r.st] = append(by[r.st], r)
		}
		if r.sub != nil && !r.slow {
			if n, _ := r.sub.Dropped(); n != r.dropped { // ignored: it has ended
				l.noteSlow(r)
			}
		}
		l.checked++
	}
	for st, routes := range by {
		l.compare(st, routes, false)
	}
}

// lookAt asks a stream how it is. If it is another one, its channels begin anew; if it has another leader,
// some of what it has stored may not have been sent on. If nobody knows, or it may not
// be able to store anything, doubtful is called.
func (e *Engine) lookAt(st *stream, doubtful func()) { e.lookAbove(st, 0, doubtful) }

// lookAbove is lookAt for a stream that had a message of that sequence.
func (e *Engine) lookAbove(st *stream, seq uint64, doubtful func()) {
	e.readers.do(func(ctx context.Context) {
		before := st.epoch()
		s, err := st.state(ctx)
		if err != nil || s.doubtful {
			doubtful()
		}
		if err != nil {
			return
		}
		if s.epoch == before && s.last < seq {
			e.wentBack(st, s.epoch, seq)
		}
		if leader := st.flow.leader.Swap(&s.leader); s.epoch != before || leader != nil && *leader != s.leader {
			for _, l := range e.lanes {
				l.post(func() { l.check(st, s, l.list) })
			}
		}
	})
}

// repeated notes that a message came which a channel has. It may be one of a stream that was made anew.
func (e *Engine) repeated(r *route) {
	e.counts.repeated.Add(1)
	now := e.uptime()
	if before := r.st.flow.looked.Load(); now-before >= 1000 && r.st.flow.looked.CompareAndSwap(before, now) {
		e.lookAbove(r.st, r.last, func() {})
	}
}

// wentBack is called if a stream that had a message of that sequence seems to have none. A server that has lost its
// newest messages, because of a power failure or with a backup, gives their sequences again: what comes
// under them would look repeated. A leader that was cut off only seems to have none. So a message is stored: if
// it gets such a sequence, the stream begins a new epoch.
func (e *Engine) wentBack(st *stream, epoch channel.Epoch, seq uint64) {
	if e.single || st.flow.goingBack.Swap(true) {
		return
	}
	e.store(&pending{st: st, own: probes, done: func(stored uint64, err error) {
		if err != nil || stored > seq {
			st.flow.goingBack.Store(false)
			return
		}
		e.running.Go(func() {
			ctx, cancel := context.WithTimeout(e.readers.ctx, openTime)
			defer cancel()
			defer st.flow.goingBack.Store(false)
			e.log.Error("a stream has lost messages that it had stored: positions in its channels are invalid, and clients that have one will be notified", "stream", st.name, "last", stored-1, "had", seq)
			if err := st.goBack(ctx, cmp.Or(e.cfg.Servers.Prefix, defaultPrefix), epoch); err != nil {
				e.log.Error("the stream cannot be given a new epoch", "stream", st.name, "error", err)
				return
			}
			if s, err := st.state(ctx); err == nil {
				for _, l := range e.lanes {
					l.post(func() { l.check(st, s, l.list) })
				}
			}
		})
	}})
}

// uptime is a clock that is never set, in ms.
func (e *Engine) uptime() int64 { return time.Since(e.begun).Milliseconds() }

// reopened sets the streams of routes to those that were opened again.
func (l *lane) reopened() {
	for _, r := range l.list {
		if r.st == nil {
			continue
		}
		if r.st = l.e.stream(r.name); r.st != nil && r.busy == nil {
			l.catchUp(r)
		}
	}
}

// up is called when the connection is there again.
func (l *lane) up() { l.e.counts.resubscribed.Add(uint64(len(l.list))) }
