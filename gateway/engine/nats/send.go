package nats

import (
	"errors"
	"strconv"
	"time"

	"sluice/gateway/channel"
	"sluice/gateway/engine"

	natsgo "github.com/nats-io/nats.go"
)

// Sending. All of it runs on the lane's sending goroutine, unless it says otherwise.

// send is the sending goroutine.
func (l *lane) send() {
	for {
		l.mu.Lock()
		for !l.closed && len(l.todo) == 0 && (l.queue.len() == 0 || l.e.moving.Load() || l.fullLocked() || l.gathersLocked()) {
			l.ready.Wait()
		}
		if l.closed {
			l.mu.Unlock()
			return
		}
		todo := l.todo
		l.todo = nil
		l.batch = l.batch[:0]
		for l.queue.len() > 0 && !l.e.moving.Load() && !l.fullLocked() && len(l.batch) < batchMost {
			p := l.queue.pop()
			l.batch = append(l.batch, p)
			l.outstanding++
			l.bytes += p.size()
		}
		l.released = l.queue.released(l.released[:0])
		l.mu.Unlock()
		for _, w := range l.released {
			w.Released()
		}
		clear(l.released)
		for _, do := range todo {
			do()
		}
		l.resolve()
		l.sendPasses()
		l.sendBatch(l.batch)
		clear(l.batch)
	}
}

// fullLocked reports whether as much is on its way as may be.
func (l *lane) fullLocked() bool {
	return l.outstanding >= outstandingMost || l.bytes >= queueBytesMost
}

// gathersLocked reports whether what waits is not sent yet, so that it becomes a longer burst: less than what is on its
// way. The server in this process answers at once.
func (l *lane) gathersLocked() bool {
	return l.e.single && l.queue.len() < min(l.outstanding, batchMost)
}

// sendPasses adds to the batch what goes to the leaders of streams behind subscriptions. When it is answered, they know
// of these: servers have an order between them.
func (l *lane) sendPasses() {
	if len(l.passing) == 0 {
		return
	}
	for st, routes := range l.passing {
		l.batch = append(l.batch, &pending{st: st, own: passes, done: func(_ uint64, err error) {
			l.post(func() { l.passed(routes, err) })
		}})
	}
	l.mu.Lock()
	l.outstanding += len(l.passing)
	l.bytes += len(l.passing) * messageOverhead
	l.mu.Unlock()
	clear(l.passing)
}

// passed is called when a stream's leader knows of routes' subscriptions.
func (l *lane) passed(routes []*route, err error) {
	for _, r := range routes {
		switch {
		case !l.current(r) || r.trying: // again, when it was tried
		case err != nil:
			l.fail(r, unavailable(err))
		default:
			l.asking = append(l.asking, r)
		}
	}
}

// mark is a message that a lane sends to itself: when it comes back, the server has all that was sent
// before it.
type mark struct {
	sent   time.Time
	within uint64     // Engine.connection
	core   []*pending // messages that are answered then
	calls  []func(error)
}

// sendBatch sends publications, and a mark behind them if there is something to be marked.
func (l *lane) sendBatch(batch []*pending) {
	if len(batch) == 0 && len(l.marked) == 0 {
		return
	}
	mk := &mark{sent: time.Now(), within: l.e.connection.Load(), calls: l.marked}
	l.marked = nil
	if !l.e.connected.Load() {
		mk.core = batch
		l.unsent(mk, engine.ErrAway)
		return
	}
	if l.e.single {
		l.e.sending.Lock() // nothing comes between the messages of a burst
	}
	first, conns := l.window.add(batch, mk), l.connections()
	if l.e.single {
		setBursts(batch, first)
	}
	for i, p := range batch {
		if p.st != nil && (p.st.flow.away.Load() || p.st.flow.unsure.Load()) && p.own != probes && l.window.take(first+uint64(i)) == p {
			l.unsent(&mark{core: batch[i : i+1]}, engine.ErrAway)
			continue
		}
		core := p.st == nil // p may be answered as soon as it is sent, and be another one's then
		switch err := l.publish(p, first+uint64(i), mk.sent); {
		case err == nil && core:
			mk.core = append(mk.core, p)
		case err != nil && (core || l.window.take(first+uint64(i)) == p):
			l.unsent(&mark{core: batch[i : i+1]}, sendError(err))
		}
	}
	if l.e.single {
		l.e.sending.Unlock()
	}
	if f := l.e.cfg.test.unmarked; f != nil {
		f()
	}
	if len(mk.core) > 0 || len(mk.calls) > 0 {
		l.sendMark(mk, conns)
	}
	l.arm()
}

const (
	burstMost      = 64       // messages: the second one's receipt comes with the last one's, on a slow disk too
	burstBytesMost = 32 << 10 // of a message in a burst: none of them is refused for its size
)

// setBursts finds the bursts in a batch: messages that one stream gets one directly after another, and all of which
// it stores, unless it stores none any more. An answer for each would cost more than anything else about them. Only
// the server in this process has no other publishers.
func setBursts(batch []*pending, first uint64) {
	for begin := 0; begin < len(batch); {
		end := begin
		for end < min(len(batch), begin+burstMost) && batch[end].plain() && batch[end].st == batch[begin].st {
			end++
		}
		if end-begin > 2 {
			r := &burst{first: first + uint64(begin)}
			batch[begin].burst, batch[end-1].burst = r, r
			for _, p := range batch[begin+1 : end-1] {
				p.inBurst = true
			}
		}
		begin = max(end, begin+1)
	}
}

// plain reports whether a message can be in a burst.
func (p *pending) plain() bool {
	return p.st != nil && p.own == publishes && p.p.ID == "" && p.size() <= burstBytesMost
}

// connections returns how many connections there were.
func (l *lane) connections() uint64 { return l.e.link.main.Stats().Reconnects }

// sendMark sends a mark behind core messages that were sent since there had been so many connections. It says nothing
// of them if it was sent over another one.
func (l *lane) sendMark(mk *mark, conns uint64) {
	token := l.window.beginMark()
	err := l.e.link.main.Publish(l.inbox+strconv.FormatUint(token, 10), nil)
	if err == nil && l.connections() != conns {
		l.unsent(&mark{core: mk.core}, engine.ErrUnavailable)
		mk.core = nil
	}
	switch came := l.window.addMark(token, mk, err == nil); {
	case err != nil:
		l.unsent(mk, engine.ErrUnavailable)
	case came:
		l.post(func() { l.markCame(mk) })
	}
}

// markCame handles a mark that came back before it was known to be one.
func (l *lane) markCame(mk *mark) {
	n, bytes := len(mk.core), sizes(mk.core)
	l.end(mk, nil)
	l.answered(n, bytes)
}

// sizes returns how large publications are together.
func sizes(all []*pending) (bytes int) {
	for _, p := range all {
		bytes += p.size()
	}
	return bytes
}

// unsent answers what could not be sent.
func (l *lane) unsent(mk *mark, err error) {
	n, bytes := len(mk.core), sizes(mk.core)
	for _, p := range mk.core {
		p.answer(channel.Receipt{}, err)
		p.recycle()
	}
	for _, call := range mk.calls {
		l.post(func() { call(err) })
	}
	l.answered(n, bytes)
}

// sendError returns what an error of the client says of a message.
func sendError(err error) error {
	switch {
	case errors.Is(err, natsgo.ErrMaxPayload):
		return channel.ErrTooBig
	case errors.Is(err, natsgo.ErrReconnectBufExceeded), errors.Is(err, natsgo.ErrConnectionClosed),
		errors.Is(err, natsgo.ErrBadSubject), errors.Is(err, natsgo.ErrHeadersNotSupported), errors.Is(err, natsgo.ErrConnectionDraining):
		return engine.ErrAway
	}
	return engine.ErrUnavailable // some of it may be under way
}

// publish sends one publication.
func (l *lane) publish(p *pending, token uint64, now time.Time) error {
	m := message{Publication: p.p, tombstone: p.own == removes, probe: p.own == probes || p.own == passes, removed: p.removed}
	switch {
	case p.st != nil:
	case l.e.single:
		return nil // the mark says when it is its turn
	default:
		return l.publishCore(p, &m, now)
	}
	l.buffer = appendMessage(l.buffer[:0], &m)
	subject := p.subject()
	if p.inBurst {
		return l.e.link.main.Publish(subject, l.buffer)
	}
	reply := l.inbox + strconv.FormatUint(token, 10)
	if p.p.ID == "" && (p.own == publishes || p.own == probes) {
		return l.e.link.main.PublishRequest(subject, reply, l.buffer)
	}
	out := natsgo.Msg{Subject: subject, Reply: reply, Data: l.buffer, Header: natsgo.Header{}}
	if p.p.ID != "" {
		out.Header.Set(natsgo.MsgIdHdr, p.p.ID)
	}
	switch p.own {
	case passes:
		out.Header.Set(natsgo.ExpectedStreamHdr, "-")
	case removes:
		out.Header.Set(natsgo.ExpectedLastSubjSeqHdr, strconv.FormatUint(p.expected, 10))
	}
	return l.e.link.main.PublishMsg(&out)
}

// coreMost is of how many channels a lane remembers its previous message, and coreAge for how long.
const (
	coreMost = 1 << 16
	coreAge  = 10 * time.Minute
)

// publishCore sends a message that is not stored.
func (l *lane) publishCore(p *pending, m *message, now time.Time) error {
	m.core, m.node = true, l.e.cfg.NodeID
	m.counter = l.e.nodes.Load().next(bucket(p.name))
	if p.ordered {
		if before, ok := l.core[p.name]; ok {
			m.previous, m.age = before.counter, uint64(max(now.Sub(before.at).Milliseconds(), 0))
		} else if len(l.core) >= coreMost {
			l.forgetCore(now)
		}
		l.core[p.name] = coreSent{m.counter, now}
	}
	l.buffer = appendMessage(l.buffer[:0], m)
	return l.e.link.main.Publish(l.e.live+token(p.name), l.buffer)
}

// forgetCore forgets previous messages: old ones, and where there are none, any.
func (l *lane) forgetCore(now time.Time) {
	for name, before := range l.core {
		if now.Sub(before.at) > coreAge {
			delete(l.core, name)
		}
	}
	for name := range l.core {
		if len(l.core) < coreMost*3/4 {
			return
		}
		delete(l.core, name)
	}
}
