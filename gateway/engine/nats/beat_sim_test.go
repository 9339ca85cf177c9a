package nats

import (
	"flag"
	"slices"
	"testing"
	"time"

	"sluice/gateway/clienttest"
	"sluice/gateway/engine"
)

var simSeeds = flag.Int("sim-seeds", 0, "seeds of the simulated cluster; 0: a few")

// disconnect breaks a node's connection. The node notices it after some time, and later is connected again.
func (s *simNode) disconnect() {
	w := s.w
	if !s.up {
		return
	}
	s.up = false
	cut := w.rand.IntN(len(s.in.frames) + 1)
	s.in.frames = s.in.frames[:cut] // the others are lost
	clear(s.local)
	for j, r := range s.routes {
		if r != nil {
			clear(w.nodes[j].routes[s.i].remote) // as if UNSUB took no time
		}
	}
	w.after(w.between(0, 2*time.Second), func() {
		s.knows = true
		s.out.frames = nil
		w.after(w.between(20*time.Millisecond, 8*time.Second), func() {
			s.up, s.knows = true, false
			s.connected++
			s.in = simQueue{}
			for _, i := range w.rand.Perm(len(s.want)) {
				s.out.frames = append(s.out.frames, simFrame{'s', s.want[i], nil})
			}
			w.after(w.between(0, 300*time.Millisecond), func() { s.calls = append(s.calls, s.n.up) })
		})
	})
}

// cut breaks the route between two servers, for a second at least.
func (w *simWorld) cut(i, j int) {
	one, other := w.nodes[i].routes[j], w.nodes[j].routes[i]
	if !one.open {
		return
	}
	for _, r := range []*simRoute{one, other} {
		r.open = false
		r.queue = simQueue{}
		clear(r.remote)
	}
	w.after(w.between(time.Second, 9*time.Second), func() {
		for _, from := range []int{i, j} {
			to := i + j - from
			r := w.nodes[from].routes[to]
			r.open = true
			subjects := []string{}
			for subject := range w.nodes[from].local {
				subjects = append(subjects, subject)
			}
			slices.Sort(subjects)
			for _, k := range w.rand.Perm(len(subjects)) {
				r.queue.frames = append(r.queue.frames, simFrame{'s', subjects[k], nil})
			}
		}
	})
}

// trouble breaks something.
func (w *simWorld) trouble() {
	i, j := w.rand.IntN(len(w.nodes)), w.rand.IntN(len(w.nodes))
	s := w.nodes[i]
	switch w.rand.IntN(7) {
	case 0, 1:
		s.disconnect()
	case 2:
		if i != j {
			w.cut(i, j)
		}
	case 3: // one way, and nothing is lost
		if i != j {
			s.routes[j].queue.held = w.now + w.between(0, 8*time.Second)
		}
	case 4: // a server restarts
		s.disconnect()
		for k := range w.nodes {
			if k != i {
				w.cut(i, k)
			}
		}
	case 5:
		if !s.stopped {
			s.stopped = true
			w.after(w.between(0, 9*time.Second), func() { s.stopped = false })
		}
	case 6: // SIGKILL, and another node comes
		if !w.killed {
			w.killed, s.dead = true, true
			s.n.closed = true
			w.after(w.between(0, 9*time.Second), func() { w.add(len(w.nodes)) })
		}
	}
}

// Whatever breaks, each message reaches every node that has subscribed to its channel, or this node
// has a gap in its bucket afterwards. Where nothing was sent, there is no gap.
func TestWhatIsLostIsNoticed(t *testing.T) {
	t.Parallel()
	seeds := *simSeeds
	if seeds == 0 {
		seeds = clienttest.Scaled(12, 3)
	}
	lost, gaps := 0, 0
	for seed := range uint64(seeds) {
		w := newSim(t, seed, 2+int(seed%3))
		l, g := w.play(seed)
		lost, gaps = lost+l, gaps+g
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	t.Logf("%d messages were lost, %d gaps", lost, gaps)
	if lost < seeds || gaps < seeds {
		t.Errorf("%d messages were lost and there were %d gaps: the test shows nothing", lost, gaps)
	}
}

// unheard reports whether a message was sent by a node that is dead, after the last beat that any other
// node has heard.
func (w *simWorld) unheard(m *simSent) bool {
	from := w.nodes[m.from]
	if !from.dead {
		return false
	}
	last := uint64(0)
	for _, s := range w.nodes {
		if p := s.n.peers[from.n.cfg.id]; p != nil && s != from {
			last = max(last, p.seq)
		}
	}
	return m.at >= from.beats[last]
}

const simQuiet = 200 // buckets from this one on get a message now and then, and those from 250 on none

func (w *simWorld) play(seed uint64) (lost, gaps int) {
	size := len(w.nodes)
	run := func(d time.Duration, each func()) {
		for end := w.now + d; w.now < end; {
			each()
			w.step()
		}
	}
	run(6*time.Second, func() {})
	for _, s := range w.nodes {
		for b := range buckets {
			if !w.chance(3) {
				s.attach(b)
			}
		}
	}
	traffic := func() {
		for range w.rand.IntN(4) {
			w.nodes[w.rand.IntN(len(w.nodes))].send(w.rand.IntN(simQuiet))
		}
		if w.chance(300) {
			w.nodes[w.rand.IntN(len(w.nodes))].send(simQuiet + w.rand.IntN(50))
		}
	}
	run(6*time.Second, traffic)
	for range 3 {
		w.wild = true
		run(30*time.Second, func() {
			traffic()
			if w.chance(150) {
				w.trouble()
			}
		})
		run(25*time.Second, traffic) // all is there again
		w.wild = false
	}
	run(20*time.Second, func() {})

	for _, m := range w.sent {
		for _, to := range m.to {
			r := w.nodes[to]
			if r.got[simMessage{uint64(m.from + 1), m.bucket, m.counter}] {
				continue
			}
			if r.dead || w.unheard(&m) {
				continue
			}
			lost++
			if !slices.ContainsFunc(r.gaps[m.bucket], func(g simGap) bool { return g.at >= m.at }) {
				w.t.Errorf("seed %d: message %d of node %d in bucket %d, sent at %v, did not reach node %d, which has the gaps %v",
					seed, m.counter, m.from, m.bucket, m.at, to, r.gaps[m.bucket])
			}
		}
	}
	for _, s := range w.nodes[:size] { // the others may hear a node for the first time after long
		for b, all := range s.gaps {
			gaps += len(all)
			for _, g := range all {
				if !slices.ContainsFunc(w.moved[b], func(at time.Duration) bool { return at <= g.at && at > g.at-40*time.Second }) && g.cause != engine.GapGone {
					w.t.Errorf("seed %d: node %d has a gap in bucket %d at %v (%s), where nothing was sent: %v", seed, s.i, b, g.at, g.cause, w.moved[b])
				}
			}
		}
	}
	return lost, gaps
}
