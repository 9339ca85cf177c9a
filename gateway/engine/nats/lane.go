package nats

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"sluice/gateway/channel"
	"sluice/gateway/engine"
	"sluice/gateway/rate"

	natsgo "github.com/nats-io/nats.go"
)

const (
	outstandingMost = 4096    // publications of a lane that are sent and not answered
	batchMost       = 256     // that are sent at once
	answersMost     = 16384   // room for what a lane's inbox gets: more than can be outstanding
	liveMost        = 16384   // room for live messages,
	liveLeast       = 256     // which is less where they may be large:
	liveBytesMost   = 1 << 30 // so many bytes, as the client bounds their number only
	tickInterval    = 100 * time.Millisecond
)

// A lane carries the channels of one hash. Its sending goroutine is the one that calls NATS; its
// receiving goroutine owns the routes, appends to channels and answers publishers. What others want of
// them is posted, so that nobody waits.
type lane struct {
	// Set at construction.
	e        *Engine
	patience time.Duration
	inbox    string // what subjects of answers begin with, before the token
	answers  chan *natsgo.Msg
	live     chan *natsgo.Msg
	wake     chan struct{} // of the receiving goroutine: something was posted
	timer    *time.Timer
	armed    atomic.Bool // the timer is due

	mu sync.Mutex
	// Guarded by mu.
	ready       *sync.Cond // of the sending goroutine
	closed      bool
	queue       queue
	rates       rates
	outstanding int      // sent, or about to be, and not answered
	bytes       int      // of those
	todo        []func() // for the sending goroutine
	posted      []func() // for the receiving goroutine

	window window

	// Owned by the sending goroutine.
	batch    []*pending
	released []channel.Waiter
	marked   []func(error)        // what the next mark is for
	passing  map[*stream][]*route // subscribed: their streams' leaders have to know
	buffer   []byte
	core     map[string]coreSent

	// Owned by the receiving goroutine.
	idleWait                   time.Duration
	routes                     map[string]*route // by token
	list                       []*route          // all of them
	checked                    int               // where the round of checks is in list
	asking                     []*route          // whose heads are not asked for yet
	asked                      map[*stream]int   // questions for heads that are not answered
	idle                       []*route          // that nobody reads, in the order they were left
	slow                       []*route          // of which messages were dropped
	retry                      []*route          // whose reading has failed
	refused                    []*route          // whose subscription the server refuses, or that have ended,
	refusedNext                time.Time         // and when they are subscribed again
	joined                     []joined          // routes whose heads a replica has said
	comparing                  int               // comparisons of positions that are not answered
	held                       int               // bytes of messages that wait for readings
	answeredNow, answeredBytes int               // publications that were answered, and still count
	said                       answered
	taking                     bool     // another process has the channels (move.go),
	begun                      []*route // those without a stored history that are subscribed meanwhile,
	unprepared                 bool     // and whether one was refused
	scratch                    channel.Scratch
	p                          channel.Publication
}

// coreSent is a publisher's previous message in a channel.
type coreSent struct {
	counter uint64
	at      time.Time
}

func newLane(e *Engine) *lane {
	l := &lane{
		e: e, patience: cmp.Or(e.cfg.test.patience, patience), idleWait: cmp.Or(e.cfg.test.idle, idleWait), inbox: natsgo.NewInbox() + ".", answers: make(chan *natsgo.Msg, answersMost), live: make(chan *natsgo.Msg, cmp.Or(e.cfg.test.live, liveRoom(e.cfg.MaxMessage))),
		wake: make(chan struct{}, 1), timer: time.NewTimer(time.Hour),
		routes: make(map[string]*route), asked: make(map[*stream]int), passing: make(map[*stream][]*route), core: make(map[string]coreSent),
	}
	l.ready = sync.NewCond(&l.mu)
	l.taking = e.cfg.Takes
	l.rates = rates{limit: rate.PerSecondInMillis(e.cfg.ChannelRate, e.cfg.ChannelRate), meters: make(map[string]*rate.Meter)}
	l.window = window{messages: make(map[uint64]*pending), marks: make(map[uint64]*mark), order: make(map[*stream]*pending)}
	return l
}

// liveRoom returns for how many live messages there is room. What comes when it is full is dropped, and is a gap.
func liveRoom(maxMessage int) int {
	return min(max(liveBytesMost/max(maxMessage, 1), liveLeast), liveMost)
}

// post has the receiving goroutine do something. It may be called from any goroutine.
func (l *lane) post(do func()) {
	l.mu.Lock()
	l.posted = append(l.posted, do)
	l.mu.Unlock()
	select {
	case l.wake <- struct{}{}:
	default: // it has not looked yet
	}
}

// later has the sending goroutine do something.
func (l *lane) later(do func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.todo = append(l.todo, do)
	l.ready.Signal()
}

// arm has the receiving goroutine look at what is due, soon. It may be called from any goroutine.
func (l *lane) arm() {
	if !l.armed.Load() && !l.armed.Swap(true) {
		l.timer.Reset(tickInterval)
	}
}

// receive is the receiving goroutine.
func (l *lane) receive() {
	for {
		live := l.live
		if l.taking {
			live = nil
		}
		select {
		case m := <-l.answers:
			l.acknowledgements(m)
		case m := <-live:
			l.deliver(m)
		case <-l.wake:
			l.runPosted()
		case <-l.timer.C:
			l.armed.Store(false)
			l.tick(time.Now())
		case <-l.e.stop:
			return
		}
	}
}

// runPosted does what was posted.
func (l *lane) runPosted() {
	l.mu.Lock()
	posted := l.posted
	l.posted = nil
	l.mu.Unlock()
	for _, do := range posted {
		do()
	}
	l.ask()
}

// acknowledgements handles an answer, and others that are there.
func (l *lane) acknowledgements(m *natsgo.Msg) {
	l.acknowledge(m)
	l.takeAnswers(batchMost)
	l.ask()
}

// takeAnswers handles answers that have come.
func (l *lane) takeAnswers(most int) {
	for range min(len(l.answers), most) {
		l.acknowledge(<-l.answers)
	}
	l.answered(l.answeredNow, l.answeredBytes)
	l.answeredNow, l.answeredBytes = 0, 0
}

// acknowledge handles an answer, and counts the publications it was for.
func (l *lane) acknowledge(m *natsgo.Msg) {
	if withhold := l.e.cfg.test.withhold; withhold != nil && withhold(m) {
		return
	}
	token, err := strconv.ParseUint(m.Subject[len(l.inbox):], 10, 64)
	if err != nil {
		return // nobody's
	}
	if mk := l.window.takeMark(token); mk != nil {
		l.answeredNow, l.answeredBytes = l.answeredNow+len(mk.core), l.answeredBytes+sizes(mk.core)
		l.end(mk, nil)
		return
	}
	a, ok := parseAcknowledgement(m.Data)
	w := &l.said
	l.window.acknowledged(token, &a, w)
	for _, name := range w.older {
		l.suspect(name)
	}
	for i, p := range w.stored {
		l.count(p)
		l.stored(p, &acknowledgement{seq: a.seq - uint64(len(w.stored)-i)})
		p.recycle()
	}
	clear(w.stored)
	l.expire(w.unsure, nil, false)
	clear(w.unsure)
	p := w.p
	if p == nil {
		return
	}
	l.count(p)
	switch {
	case !ok || a.code == 0 && !a.of(p.st): // nobody takes it, or another stream does
		p.st.flow.missing.Store(true)
		l.e.away(p.st)
		p.answer(channel.Receipt{}, engine.ErrAway)
	case a.code == codeOtherStream && p.own == passes:
		p.answer(channel.Receipt{}, nil)
	case a.code != 0:
		p.answer(channel.Receipt{}, errorOf(&a))
		if !a.own() {
			l.e.refused(p.st, &a)
		}
	default:
		l.stored(p, &a)
	}
	p.recycle()
}

// count counts a publication that is answered.
func (l *lane) count(p *pending) {
	if !p.timedOut {
		l.answeredNow, l.answeredBytes = l.answeredNow+1, l.answeredBytes+p.size()
	}
}

// stored handles a publication that the stream has. Those of a single node are appended now.
func (l *lane) stored(p *pending, a *acknowledgement) {
	if p.own == publishes && !a.duplicate {
		l.e.counts.stored.Add(1)
	}
	receipt := channel.Receipt{Epoch: p.st.epoch(), Offset: a.seq}
	r := l.routes[token(p.name)]
	if l.e.single {
		l.e.embedded.acknowledged(p.st.name, a.seq)
		switch {
		case r == nil || p.own == probes || a.duplicate: // nothing is new for it
		default:
			m := message{Publication: p.p, tombstone: p.own == removes, removed: p.removed}
			if r.busy != nil { // it will be another publication's
				m.Payload, m.Extra = slices.Clone(m.Payload), slices.Clone(m.Extra)
			}
			l.arrive(r, arrival{seq: a.seq, m: m})
		}
	}
	if r != nil && r.ch != nil {
		receipt.Subscribers = r.ch.Subscribers()
	}
	p.answer(receipt, nil)
}

// end ends a mark.
func (l *lane) end(mk *mark, err error) {
	for _, p := range mk.core {
		receipt := channel.Receipt{}
		if r := l.routes[token(p.name)]; r != nil && r.ch != nil {
			receipt = channel.Receipt{Epoch: r.epoch, Subscribers: r.ch.Subscribers()}
			if l.e.single && err == nil {
				l.appendPassing(r, &p.p)
			}
		}
		p.answer(receipt, err)
		p.recycle()
	}
	for _, call := range mk.calls {
		call(err)
	}
}

// answered makes room for publications that wait.
func (l *lane) answered(n, bytes int) {
	if n == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.outstanding -= n
	l.bytes -= bytes
	if l.queue.len() > 0 && !l.gathersLocked() {
		l.ready.Signal()
	}
}

// tick looks at what is due. What this goroutine is late for has come in time.
func (l *lane) tick(now time.Time) {
	l.takeAnswers(answersMost)
	stuck, marks := l.window.expired(now.Add(-l.patience))
	l.expire(stuck, marks, true)
	l.leaveIdle(now)
	l.lookAtSlow()
	l.readAgain()
	l.subscribeAgain(now)
	l.compareAgain(now)
	l.mu.Lock()
	patience := l.patience
	if l.e.moving.Load() {
		patience = movingPatience
	}
	stale := l.queue.stale(now.Add(-patience))
	waiting := l.rates.released(l.queue.released(nil), l.e.now().UnixMilli())
	more := l.queue.len() > 0 || l.outstanding > 0 || len(l.idle) > 0 || len(l.slow) > 0 || len(l.retry) > 0 || len(l.refused) > 0 || len(l.joined) > 0 || len(l.queue.waiting) > 0
	l.mu.Unlock()
	for _, p := range stale { // they have not been sent
		p.answer(channel.Receipt{}, engine.ErrAway)
		p.recycle()
	}
	for _, w := range waiting {
		w.Released()
	}
	if more || l.window.waits() {
		l.arm()
	}
}

// expire answers those whose publications had no answer.
func (l *lane) expire(stuck []*pending, marks []*mark, away bool) {
	for _, p := range stuck {
		if away {
			l.e.away(p.st)
		}
		l.suspect(p.name)
		p.answer(channel.Receipt{}, engine.ErrUnavailable)
	}
	n, bytes := len(stuck), sizes(stuck)
	for _, mk := range marks {
		n, bytes = n+len(mk.core), bytes+sizes(mk.core)
		l.end(mk, engine.ErrUnavailable)
	}
	l.answered(n, bytes)
}

// down is called when the connection broke: nothing that was sent before is answered any more.
func (l *lane) down() {
	l.takeAnswers(answersMost)
	stuck, marks := l.window.before(l.e.connection.Load())
	l.expire(stuck, marks, false)
	l.arm()
}

// drain waits until everything was sent and answered, or ctx ends.
func (l *lane) drain(ctx context.Context) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		l.mu.Lock()
		left := l.queue.len() + l.outstanding
		l.mu.Unlock()
		if left == 0 || !l.e.connected.Load() {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// close ends the sending goroutine, and refuses what comes.
func (l *lane) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	l.ready.Signal()
}

// abandon answers everybody, when the goroutines have ended.
func (l *lane) abandon() {
	l.timer.Stop()
	l.mu.Lock()
	var waiting []*pending
	for l.queue.len() > 0 {
		waiting = append(waiting, l.queue.pop())
	}
	released := append(l.queue.waiting, l.rates.waiting...)
	l.mu.Unlock()
	l.unsent(&mark{core: waiting}, engine.ErrAway)
	stuck, marks := l.window.before(l.e.connection.Add(1))
	l.expire(stuck, marks, false)
	l.runPosted()
	for _, r := range l.list {
		if r.ch != nil {
			r.ch.Failed(engine.ErrAway)
		}
	}
	l.runPosted()
	for _, w := range released {
		w.Released()
	}
}
