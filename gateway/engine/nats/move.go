package nats

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"time"

	"sluice/gateway/channel"
	"sluice/gateway/engine"
	"sluice/gateway/saved"
)

// Moving to another process (engine.Mover), of a node of a cluster. The new process has the old one's number and name, and
// says nothing before it takes over. It subscribes to the old one's channels while that still serves: what comes
// meanwhile waits in its lanes. In the freeze the old one's lanes stop, and what each node's newest message was in
// each bucket travels. A node's messages in a bucket come in the order of their counters, so the new
// process leaves out those that the old one has heard, exactly, and appends the others. Stored channels have
// their sequences for that.
//
// Before the old one stops, it has every node answer a question. The answer comes behind what that node had sent before the
// new process's subscriptions were known to it: what the old one has not heard then, the new one hears. If a node does not
// answer in time, there are doubts about all as after an interruption (beat.go). What this node has published was
// acknowledged, so that nothing of it is on its way; only if the new process is connected to another server, others have doubts about
// the node.
//
// A channel that began after the new process had subscribed is subscribed to after the freeze: it has a gap, unless it is stored.

const (
	heardVersion = 1
	holdPatience = 100 * time.Millisecond // for the answers of other nodes
	holdMost     = time.Second            // for goroutines that stop
	askedAhead   = 1 << 20                // questions that the old process may still ask
	earlyMost    = 8 << 10                // messages of nodes that wait
)

// takenState is what another process has heard.
type takenState struct {
	begun, seq, conns, echoes, number uint64
	unsure                            bool
	sent                              counters
	peers                             map[uint64]*peer
	questions                         map[uint64]uint64
	runs                              map[uint64]*[buckets]run // nil before the freeze
}

// heard has counters of the newest messages that another process has heard, by node.
type heardBefore map[uint64]*counters

func (h heardBefore) has(m *message, bucket uint8) bool {
	c := h[m.node]
	return c != nil && m.counter <= c[bucket]
}

// holding is the state of an engine that is held.
type holding struct {
	release chan struct{}
	unsure  bool // not all nodes have answered
}

// Ahead implements engine.Mover.
func (e *Engine) Ahead(dst []byte) []byte {
	n := e.nodes.Load()
	if n == nil {
		return dst // Hold fails
	}
	done := make(chan []byte, 1)
	if !n.post(func() { done <- n.appendState(dst, false, false) }) {
		return dst
	}
	return <-done
}

// Hold implements engine.Mover.
func (e *Engine) Hold(ctx context.Context) error {
	n := e.nodes.Load()
	if n == nil || !e.connected.Load() {
		return errors.New("the NATS servers are away")
	}
	h := &holding{release: make(chan struct{}), unsure: true}
	answered := make(chan bool, 1)
	if n.post(func() {
		n.ask(askPing, nil, append(n.others(), n.cfg.id), func(_ []reply, missing int) { answered <- missing == 0 })
	}) {
		timer := time.NewTimer(holdPatience)
		defer timer.Stop()
		select {
		case all := <-answered:
			h.unsure = !all
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	e.held = h
	timer := time.NewTimer(holdMost)
	defer timer.Stop()
	done := make(chan struct{}, len(e.lanes)+1)
	wait := func(times int) error {
		for range times {
			select {
			case <-done:
			case <-timer.C:
				return errors.New("the engine has not stopped in time")
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		return nil
	}
	if !n.post(func() {
		done <- struct{}{}
		e.await(h)
	}) {
		return errors.New("the engine has ended")
	}
	if err := wait(1); err != nil {
		return err
	}
	// What nodes have had lanes look at, such as what is lost: that may have lanes do something in turn.
	e.behind(func(int, int) { done <- struct{}{} })
	if err := wait(len(e.lanes)); err != nil {
		return err
	}
	for _, l := range e.lanes {
		l.post(func() {
			l.takeLive()
			l.lookAtSlow() // what was dropped is a gap here: the new process leaves out what this one has heard later
			done <- struct{}{}
			e.await(h)
		})
	}
	return wait(len(e.lanes))
}

// await waits until the engine goes on, or ends.
func (e *Engine) await(h *holding) {
	select {
	case <-h.release:
	case <-e.stop:
	}
}

// Heard implements engine.Mover.
func (e *Engine) Heard(dst []byte) []byte {
	return e.nodes.Load().appendState(dst, e.held.unsure, true)
}

// Release implements engine.Mover.
func (e *Engine) Release() {
	if e.held != nil {
		close(e.held.release)
		e.held = nil
	}
}

// Moved implements engine.Mover.
func (e *Engine) Moved() {
	if n := e.nodes.Load(); n != nil {
		n.moved.Store(true)
	}
}

// appendState appends what the node has heard. The goroutine of nodes calls it, or it is held; runs are of lanes that are.
func (n *nodes) appendState(dst []byte, unsure, runs bool) []byte {
	u := binary.AppendUvarint
	dst = append(dst, heardVersion)
	for _, v := range []uint64{n.begun, n.seq, n.conns, n.echoes, n.asks.number} {
		dst = u(dst, v)
	}
	flag := byte(0)
	if unsure {
		flag = 1
	}
	dst = append(dst, flag)
	sent := n.counters()
	dst = appendCounters(dst, &sent)
	dst = u(dst, uint64(len(n.peers)))
	for id, p := range n.peers {
		flags := byte(0)
		for i, on := range []bool{p.live, p.missed, p.known} {
			if on {
				flags |= 1 << i
			}
		}
		dst = append(u(dst, id), flags, p.flags)
		for _, v := range []uint64{p.begun, p.seq, p.conns, p.heard, p.at} {
			dst = u(dst, v)
		}
		text, _ := json.Marshal(p.described) // ignored: it consists of strings and numbers
		dst = saved.AppendBytes(saved.AppendBytes(dst, p.doubt), text)
		dst = appendCounters(appendCounters(dst, &p.counters), &p.before)
	}
	dst = u(dst, uint64(len(n.questions)))
	for id, number := range n.questions {
		dst = u(u(dst, id), number)
	}
	if !runs {
		return append(dst, 0)
	}
	all := *n.runs.Load()
	dst = u(append(dst, 1), uint64(len(all)))
	for id, of := range all {
		dst = u(dst, id)
		for i := range of {
			dst = u(u(dst, of[i].last-of[i].first), of[i].last)
		}
	}
	return dst
}

// readState reads what appendState has appended in another process.
func readState(b []byte) (*takenState, error) {
	r := saved.Read("what the node has heard", b, heardVersion)
	s := &takenState{peers: make(map[uint64]*peer), questions: make(map[uint64]uint64)}
	for _, v := range []*uint64{&s.begun, &s.seq, &s.conns, &s.echoes, &s.number} {
		*v = r.Uint()
	}
	s.unsure = r.Byte() != 0
	read := func(c *counters) {
		for i := range c {
			c[i] = r.Uint()
		}
	}
	read(&s.sent)
	for range r.Count() {
		p := new(peer)
		p.node = r.Uint()
		flags := r.Byte()
		p.live, p.missed, p.known = flags&1 != 0, flags&2 != 0, flags&4 != 0
		p.flags = r.Byte()
		for _, v := range []*uint64{&p.begun, &p.seq, &p.conns, &p.heard, &p.at} {
			*v = r.Uint()
		}
		p.doubt = string(r.Bytes())
		if err := json.Unmarshal(r.View(), &p.described); err != nil {
			r.Fail()
		}
		read(&p.counters)
		read(&p.before)
		p.last = time.Now()
		s.peers[p.node] = p
	}
	for range r.Count() {
		id := r.Uint()
		s.questions[id] = r.Uint()
	}
	if r.Byte() != 0 {
		s.runs = make(map[uint64]*[buckets]run)
		for range r.Count() {
			id, of := r.Uint(), new([buckets]run)
			for i := range of {
				length := r.Uint()
				of[i].last = r.Uint()
				of[i].first = of[i].last - length
			}
			s.runs[id] = of
		}
	}
	return s, r.End()
}

// Load implements engine.Mover.
func (e *Engine) Load(b []byte) error {
	if len(b) == 0 {
		return errors.New("the other process has no NATS servers")
	}
	s, err := readState(b)
	if err != nil {
		return err
	}
	if s.runs == nil {
		e.ahead = s // for Prepare
		return nil
	}
	e.taken = s
	n := e.nodes.Load()
	if n == nil { // Prepare has failed
		return engine.ErrAway
	}
	before := make(heardBefore, len(s.runs))
	for id, of := range s.runs {
		c := new(counters)
		for i := range of {
			c[i] = of[i].last
		}
		before[id] = c
	}
	e.before = before
	n.runs.Store(&s.runs)
	for i, counter := range s.sent {
		n.sent[i].Store(counter)
	}
	return nil
}

// prepareLook is between two looks whether the engine is prepared.
const prepareLook = 2 * time.Millisecond

// Prepare implements engine.Mover.
func (e *Engine) Prepare(ctx context.Context) error {
	begun := false
	for {
		if n := e.nodes.Load(); n != nil && e.opened.Load() && e.connected.Load() {
			if !begun {
				begun = true
				e.connection0 = e.connection.Load()
				if ahead := e.ahead; ahead != nil {
					n.post(func() { n.peers, n.asks.number = ahead.peers, ahead.number+askedAhead })
				}
				e.cfg.Space.AttachRestored()
			}
			left, failed := e.unprepared()
			if failed {
				return errors.New("NATS does not accept all subscriptions")
			}
			if left == 0 {
				return nil
			}
		}
		select {
		case err := <-e.failed:
			e.fail(err) // for others
			return err
		case <-ctx.Done():
			return errors.New("the NATS servers have not answered in time")
		case <-time.After(prepareLook):
		}
	}
}

// unprepared returns how many routes are not yet subscribed.
func (e *Engine) unprepared() (left int, failed bool) {
	type answer struct {
		left   int
		failed bool
	}
	answers := make(chan answer, len(e.lanes))
	for _, l := range e.lanes {
		l.post(func() { answers <- answer{len(l.list) - len(l.asking) - len(l.begun), l.unprepared} })
	}
	for range e.lanes {
		a := <-answers
		left, failed = left+a.left, failed || a.failed
	}
	return left, failed
}

// GoOn implements engine.Mover.
func (e *Engine) GoOn() {
	for _, l := range e.lanes {
		l.post(l.takeOver)
	}
	e.goesOn.Store(true)
	if n := e.nodes.Load(); n != nil { // else join calls it
		e.nodesGoOn(n)
	}
}

// nodesGoOn has the node begin, or go on. It may be called twice.
func (e *Engine) nodesGoOn(n *nodes) {
	unsure := e.taken != nil && e.taken.unsure || e.connection.Load() != e.connection0
	if e.taken == nil {
		n.countAnew()
	}
	n.post(func() { n.goOn(e.taken, unsure) })
}

// countAnew has the node count its messages from where no process with its number can have come: others leave
// out what was counted before.
func (n *nodes) countAnew() {
	for i := range n.sent {
		n.sent[i].CompareAndSwap(0, n.begun)
	}
}

// takeOver goes on with the routes that were another process's.
func (l *lane) takeOver() {
	l.taking = false
	ready := append(l.asking, l.begun...)
	l.asking, l.begun = nil, nil
	by := make(map[*stream][]*route)
	for _, r := range ready {
		switch ch := l.e.cfg.Space.Find(r.name); {
		case !l.current(r):
			continue
		case ch == nil:
			l.remove(r)
			continue
		default:
			r.ch = ch
		}
		at, attached := r.ch.Order()
		switch {
		case !attached && r.keeps:
			l.asking = append(l.asking, r)
		case !attached:
			l.begin(r)
		case r.keeps && at.Epoch != r.st.epoch():
			l.adopt(r, at)
			l.catchUp(r)
		case r.keeps:
			l.adopt(r, at)
			if by[r.st] = append(by[r.st], r); len(by[r.st]) == headsMost {
				l.compare(r.st, by[r.st], false)
				delete(by, r.st)
			}
			if r.passed {
				l.joined = append(l.joined, joined{r: r, at: time.Now()})
			}
		default:
			l.adopt(r, at)
		}
	}
	for st, routes := range by {
		l.compare(st, routes, false)
	}
	l.arm()
	l.takeLive()
}

// adopt has a route go on with a channel whose order another process has known.
func (l *lane) adopt(r *route, at channel.Position) {
	if r.busy != nil {
		l.letGo(r.busy)
		r.busy = nil
	}
	r.epoch, r.last, r.newest, r.prev, r.told, r.since = at.Epoch, at.Offset, at.Offset, at.Offset, true, l.e.uptime()
}

// adopted reports whether a route's channel was another process's, and has the route go on with it.
func (l *lane) adopted(r *route) bool {
	if l.e.single || r.ch == nil || r.told {
		return false
	}
	at, attached := r.ch.Order()
	if attached {
		l.adopt(r, at)
	}
	return attached
}

// answered reports whether a message of a node is a question that the other process has taken.
func (s *takenState) answered(data []byte) bool {
	if data[1] != kindQuestion || len(data) < 11 {
		return false
	}
	r := reader{rest: data[11:]}
	return r.uvarint() <= s.questions[binary.LittleEndian.Uint64(data[3:])]
}

// quietly takes a message while another process is this node.
func (n *nodes) quietly(data []byte) {
	switch {
	case data[1] == kindAnswer:
		n.answered(data[2:])
	case len(n.early) < earlyMost:
		n.early = append(n.early, data)
	default:
		n.unsure = true
	}
}

// goOn makes this process the node, after another one if that has left something.
func (n *nodes) goOn(s *takenState, unsure bool) {
	if !n.quiet {
		return
	}
	n.quiet = false
	early := n.early
	n.early = nil
	if s == nil {
		n.peers = make(map[uint64]*peer)
		n.starting = true
		n.begin()
	} else {
		n.starting = false
		n.begun, n.seq, n.echoes, n.peers, n.questions = s.begun, s.seq, s.echoes, s.peers, s.questions
		n.asks.number = max(n.asks.number, s.number+askedAhead)
		if n.base = s.conns - n.transport.conns(); s.peers[n.cfg.id] == nil || s.peers[n.cfg.id].Server != n.transport.server() {
			n.base++ // messages may overtake the old process's
		}
		n.conns = n.connections()
	}
	for _, data := range early {
		if s == nil || !s.answered(data) {
			n.handle(data)
		}
	}
	if unsure || n.unsure {
		for _, p := range n.peers {
			p.doubted(engine.GapReconnect)
		}
	}
	n.count()
	n.tick()
}
