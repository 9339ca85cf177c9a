package nats

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"sluice/gateway/presence"
)

// A simulated cluster: each node has a server of its own, with routes between all servers. What is on
// its way is in queues, which keep their order and take their time; what breaks loses what its queues hold.
// Messages, subscriptions and their way over routes are as NATS has them. Lanes draw a counter some
// time before they send, and take what came some time later.

const simStep = 10 * time.Millisecond

type simWorld struct {
	t      *testing.T
	rand   *rand.Rand
	now    time.Duration
	nodes  []*simNode
	events []simEvent
	sent   []simSent
	moved  [buckets][]time.Duration // when counters were drawn
	wild   bool                     // things break
	killed bool
}

type simEvent struct {
	at time.Duration
	do func()
}

// simSent is a core message that was handed to a node's connection.
type simSent struct {
	from    int
	bucket  int
	counter uint64
	at      time.Duration
	to      []int // nodes whose interest was known everywhere
}

type simMessage struct {
	node    uint64
	bucket  int
	counter uint64
}

// simQueue is messages on their way.
type simQueue struct {
	frames []simFrame
	held   time.Duration // until then nothing passes
}

type simFrame struct {
	kind    byte // 's' subscribe, 'm' message
	subject string
	data    []byte
}

type simNode struct {
	w         *simWorld
	i         int
	n         *nodes
	up, knows bool // the connection is there; the node has noticed that it is not
	connected uint64
	stopped   bool // SIGSTOP
	dead      bool
	beats     map[uint64]time.Duration // when they were sent
	ticked    time.Duration

	want   []string // subscriptions
	local  map[string]bool
	out    simQueue
	in     simQueue
	routes []*simRoute // to the other servers

	inbox    [][]byte // of the node's goroutine
	lanes    [2]simLane
	calls    []func()
	got      map[simMessage]bool
	gaps     [buckets][]simGap
	barred   map[int]bool // channels whose barrier is over, by bucket
	attached []int
}

type simGap struct {
	at    time.Duration
	cause string
}

type simLane struct {
	queue []any // simMessage, or func()
	drawn []simMessage
}

type simRoute struct {
	open   bool
	queue  simQueue
	remote map[string]bool // what the other server has subscribed to
}

func (s *simNode) publish(subject string, data []byte) error {
	if s.knows || s.dead {
		return errors.New("not connected")
	}
	if subject == "p.beat" {
		b, _ := parseBeat(data[2:])
		s.beats[b.seq] = s.w.now
	}
	s.out.frames = append(s.out.frames, simFrame{'m', subject, data})
	return nil
}

func (s *simNode) conns() uint64   { return s.connected }
func (s *simNode) payloadMax() int { return 4 << 10 }
func (s *simNode) server() string {
	if s.knows {
		return ""
	}
	return fmt.Sprint("server ", s.i)
}

func (s *simNode) behind(f func(lane, lanes int)) {
	for i := range s.lanes {
		s.lanes[i].queue = append(s.lanes[i].queue, func() { f(i, len(s.lanes)) })
	}
}

func (s *simNode) interrupted(affected *[buckets]bool, cause string) {
	for b, yes := range affected {
		if yes {
			s.gaps[b] = append(s.gaps[b], simGap{s.w.now, cause})
		}
	}
}

func (s *simNode) checkPositions() {}

func (w *simWorld) after(d time.Duration, do func()) {
	w.events = append(w.events, simEvent{w.now + d, do})
}

// between draws a duration.
func (w *simWorld) between(low, high time.Duration) time.Duration {
	return low + time.Duration(w.rand.Int64N(int64(high-low)+1))
}

func (w *simWorld) chance(of int) bool { return w.rand.IntN(of) == 0 }

func newSim(t *testing.T, seed uint64, size int) *simWorld {
	w := &simWorld{t: t, rand: rand.New(rand.NewPCG(seed, 1))}
	for i := range size {
		w.add(i)
	}
	return w
}

func (w *simWorld) add(i int) *simNode {
	s := &simNode{w: w, i: i, up: true, connected: 1, local: map[string]bool{}, got: map[simMessage]bool{}, barred: map[int]bool{}, beats: map[uint64]time.Duration{},
		ticked: w.now + w.between(0, pulse)}
	s.n = newNodes(s, nodesConfig{id: uint64(i + 1), prefix: "p", lanes: s, present: presence.New(),
		logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
		after: func(d time.Duration, f func()) {
			w.after(d, func() { s.calls = append(s.calls, f) })
		}})
	s.n.begun = uint64(i + 1)
	for j, other := range w.nodes {
		r := &simRoute{open: true, remote: map[string]bool{}}
		for subject := range other.local {
			r.remote[subject] = true
		}
		s.routes = append(s.routes, r)
		w.nodes[j].routes = append(w.nodes[j].routes, &simRoute{open: true, remote: map[string]bool{}})
	}
	s.routes = append(s.routes, nil) // to itself
	w.nodes = append(w.nodes, s)
	for _, subject := range []string{"p.beat", "p.ask." + nodeText(uint64(i+1))} {
		s.subscribe(subject)
	}
	s.calls = append(s.calls, s.n.begin)
	return s
}

func (s *simNode) subscribe(subject string) {
	s.want = append(s.want, subject)
	s.out.frames = append(s.out.frames, simFrame{'s', subject, nil})
}

func bucketSubject(b int) string { return fmt.Sprint("ch.", b) }

// attach subscribes to a bucket's channel. Messages are due once the barrier is over.
func (s *simNode) attach(b int) {
	if slices.Contains(s.attached, b) || s.knows {
		return
	}
	s.attached = append(s.attached, b)
	s.subscribe(bucketSubject(b))
	answered := s.n.unanswered.Load()
	s.n.barrier(func() {
		if !s.w.wild && answered == s.n.unanswered.Load() { // else it may have been over for want of an answer
			s.barred[b] = true
		}
	})
}

// step lets some time pass.
func (w *simWorld) step() {
	w.now += simStep
	due := w.events
	w.events = nil
	for _, e := range due {
		if e.at <= w.now {
			e.do()
		} else {
			w.events = append(w.events, e)
		}
	}
	for _, s := range w.nodes {
		s.move()
		s.work()
	}
}

func (q *simQueue) take(w *simWorld) (f simFrame, ok bool) {
	if len(q.frames) == 0 || w.now < q.held || w.chance(4) {
		return simFrame{}, false
	}
	f, q.frames = q.frames[0], q.frames[1:]
	return f, true
}

// move brings what is on its way to a node and its server a step further.
func (s *simNode) move() {
	w := s.w
	for {
		f, ok := s.out.take(w)
		if !ok {
			break
		}
		if !s.up {
			continue // it went into a connection that is broken
		}
		s.serve(f)
	}
	for j, r := range s.routes {
		for r != nil {
			f, ok := r.queue.take(w)
			if !ok {
				break
			}
			other := w.nodes[j]
			if f.kind == 's' {
				other.routes[s.i].remote[f.subject] = true
			} else if other.local[f.subject] {
				other.in.frames = append(other.in.frames, f)
			}
		}
	}
	for {
		f, ok := s.in.take(w)
		if !ok {
			break
		}
		if b, ok := strings.CutPrefix(f.subject, "ch."); ok {
			var m simMessage
			fmt.Sscan(string(f.data), &m.node, &m.bucket, &m.counter)
			if fmt.Sprint(m.bucket) != b {
				w.t.Fatal("wrong subject")
			}
			lane := &s.lanes[laneOfBucket(m.bucket, len(s.lanes))]
			lane.queue = append(lane.queue, m)
			continue
		}
		s.inbox = append(s.inbox, f.data)
	}
}

// serve is what a server does with what its client sends.
func (s *simNode) serve(f simFrame) {
	if f.kind == 's' {
		s.local[f.subject] = true
	} else if s.local[f.subject] {
		s.in.frames = append(s.in.frames, f)
	}
	for _, r := range s.routes {
		if r != nil && r.open && (f.kind == 's' || r.remote[f.subject]) {
			r.queue.frames = append(r.queue.frames, f)
		}
	}
}

// work is what a process does.
func (s *simNode) work() {
	w := s.w
	if s.stopped || s.dead {
		return
	}
	for len(s.calls) > 0 && !w.chance(4) {
		f := s.calls[0]
		s.calls = s.calls[1:]
		f()
	}
	s.n.work()
	for len(s.inbox) > 0 && !w.chance(4) {
		data := s.inbox[0]
		s.inbox = s.inbox[1:]
		s.n.handle(data)
		s.n.work()
	}
	if w.now >= s.ticked {
		s.ticked = w.now + pulse - simStep + w.between(0, 2*simStep)
		s.n.tick()
	}
	for i := range s.lanes {
		l := &s.lanes[i]
		for len(l.queue) > 0 && !w.chance(4) {
			one := l.queue[0]
			l.queue = l.queue[1:]
			switch one := one.(type) {
			case simMessage:
				s.n.received(one.node, one.bucket, one.counter)
				s.got[one] = true
			case func():
				one()
			}
		}
		for len(l.drawn) > 0 && !w.chance(3) { // sent in the order in which they were drawn
			m := l.drawn[0]
			l.drawn = l.drawn[1:]
			if s.publish(bucketSubject(m.bucket), fmt.Append(nil, m.node, m.bucket, m.counter)) != nil {
				continue
			}
			sent := simSent{from: s.i, bucket: m.bucket, counter: m.counter, at: w.now}
			for j, other := range w.nodes {
				if other.barred[m.bucket] {
					sent.to = append(sent.to, j)
				}
			}
			w.sent = append(w.sent, sent)
		}
	}
}

// send has a node draw the counter of a message, which it sends soon.
func (s *simNode) send(b int) {
	if s.knows || s.stopped || s.dead {
		return
	}
	l := &s.lanes[laneOfBucket(b, len(s.lanes))]
	if len(l.drawn) < 2 {
		l.drawn = append(l.drawn, simMessage{s.n.cfg.id, b, s.n.next(b)})
		s.w.moved[b] = append(s.w.moved[b], s.w.now)
	}
}
