package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"sluice/gateway/event"
	"sluice/gateway/event/eventtest"
	"sluice/poller/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// net is nodes, and what carries messages between them.
type net struct {
	*testing.T
	to *eventtest.Receiver

	mu sync.Mutex
	// Guarded by mu.
	nodes map[uint64]*node
	gone  map[uint64]uint64 // seen by others for so many ticks after its end
	now   time.Time
	lose  int // of 100 messages
	rand  *rand.Rand
}

type node struct {
	*Cluster
	net  *net
	id   uint64
	n    *event.Notifier
	info Node
	live bool
}

func newNet(t *testing.T) *net {
	w := &net{T: t, to: eventtest.New(t), nodes: make(map[uint64]*node), gone: make(map[uint64]uint64), now: time.Now(), rand: rand.New(rand.NewPCG(1, 18))}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { // time: each millisecond is a tick
		for ctx.Err() == nil {
			w.mu.Lock()
			w.now = w.now.Add(Tick)
			now := w.now
			var all []*node
			for _, x := range w.nodes {
				if x.live {
					all = append(all, x)
				}
			}
			w.mu.Unlock()
			for _, x := range all {
				x.Tick(now)
			}
			time.Sleep(time.Millisecond)
		}
	})
	t.Cleanup(func() {
		cancel()
		running.Wait()
		ended, end := context.WithCancel(context.Background())
		end()
		for _, x := range w.nodes {
			x.n.Close(ended) // ignored: a node that was killed has something left
		}
	})
	return w
}

// Deliver implements event.Receiver: what a dead node has sent does not come.
func (x *node) Deliver(_ context.Context, b *event.Batch) error {
	x.net.mu.Lock()
	live := x.live
	x.net.mu.Unlock()
	if !live {
		return errors.New("it is dead")
	}
	x.net.to.Accept(b.Body())
	return nil
}

func (w *net) start(id uint64, sends bool) *node {
	x := &node{net: w, id: id, info: Node{ID: id, Name: fmt.Sprint("n", id), Sends: sends}, live: true}
	x.Cluster = New(Config{Self: id, Sends: sends, Bus: x, Log: slog.New(slog.DiscardHandler)})
	x.n = event.New(event.Config{Node: x.info.Name, Shared: true, VacatedDelay: -1, Changes: x.Changes})
	x.Attach(x.n)
	if sends {
		x.n.Add(event.Options{Name: "here", Linger: -1, Backoff: time.Millisecond, BackoffMax: time.Millisecond, Digest: time.Second}, x)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.nodes[id] = x
	return x
}

func (w *net) node(id uint64) *node {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.nodes[id]
}

// Others implements Bus.
func (x *node) Others(done func([]Node, bool)) {
	w := x.net
	w.mu.Lock()
	var list []Node
	for id, other := range w.nodes {
		if id != x.id && (other.live || w.gone[id] > 0) {
			list = append(list, other.info)
		}
	}
	w.mu.Unlock()
	done(list, true)
}

// Ask implements Bus. Messages of one node to another stay in order.
func (x *node) Ask(id uint64, request []byte, done func([]byte, error)) {
	w := x.net
	w.mu.Lock()
	other := w.nodes[id]
	lost := other == nil || !other.live || !x.live
	answerLost := w.rand.IntN(100) < w.lose
	lost = lost || w.rand.IntN(100) < w.lose
	w.mu.Unlock()
	if lost {
		done(nil, errors.New("no answer"))
		return
	}
	other.Answer(request, func(answer []byte) {
		if answerLost {
			done(nil, errors.New("no answer"))
			return
		}
		done(answer, nil)
	})
}

// kill ends a node, which others see for some ticks.
func (w *net) kill(x *node) {
	w.mu.Lock()
	x.live = false
	w.gone[x.id] = 1
	w.mu.Unlock()
	time.AfterFunc(10*time.Millisecond, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.gone, x.id)
	})
}

// What three nodes have together is what the receiver knows, while nodes come, are killed, shut down and lose messages.
func TestNodesCountTogether(t *testing.T) {
	w := newNet(t)
	counts := make(map[uint64]map[string]int)
	truth := func() (all []string) {
		for _, m := range counts {
			for name, n := range m {
				if n > 0 && !slices.Contains(all, name) {
					all = append(all, name)
				}
			}
		}
		slices.Sort(all)
		return all
	}
	next := uint64(0)
	start := func(sends bool) {
		next++
		w.start(next, sends)
		counts[next] = make(map[string]int)
	}
	start(true)
	start(true)
	start(false)
	churn := func(n int) {
		for range n {
			var ids []uint64
			for id := range counts {
				ids = append(ids, id)
			}
			slices.Sort(ids)
			id := ids[rand.IntN(len(ids))]
			name := fmt.Sprint("c", rand.IntN(200))
			if m := counts[id]; m[name] > 0 && rand.IntN(2) == 0 {
				m[name]--
				w.node(id).n.Leave(name)
			} else {
				m[name]++
				w.node(id).n.Join(name)
			}
		}
	}
	check := func(why string) { t.Helper(); w.to.WantOccupied(why, truth()...) }
	churn(500)
	check("three nodes, one of which sends nothing")
	for round := range 6 {
		w.mu.Lock()
		w.lose = []int{0, 30}[round%2]
		w.mu.Unlock()
		churn(300)
		victim := uint64(0)
		for id := range counts {
			if w.node(id).info.Sends {
				victim = id
			}
		}
		start(true)
		if round%3 == 0 {
			x := w.node(victim)
			x.n.Hold()
			x.Drain()
			churn(50)
			end := time.Now().Add(eventtest.Patience)
			for !x.Idle() && time.Now().Before(end) {
				time.Sleep(time.Millisecond)
			}
			if !x.Idle() {
				t.Fatal("a node that shuts down keeps its partitions")
			}
		}
		w.kill(w.node(victim))
		delete(counts, victim)
		churn(300)
		check(fmt.Sprintf("round %d", round))
	}
	end := time.Now().Add(eventtest.Patience)
	owned := 0
	for owned != event.Partitions && time.Now().Before(end) {
		time.Sleep(time.Millisecond)
		owned = 0
		for id := range counts {
			owned += w.node(id).Owned()
		}
	}
	if owned != event.Partitions {
		t.Errorf("%d partitions are owned", owned)
	}
}
