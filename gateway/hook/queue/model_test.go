package queue

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// ending is what a task of a test comes to.
type ending struct {
	o    Outcome
	away bool
	goes bool // it ends its goroutine
}

// task is a task that runs until the test ends it. The test reads it when all goroutines are at
// rest.
type task struct {
	Entry
	id   int
	key  Key
	rig  *rig
	ends chan ending

	canceled bool

	mu sync.Mutex // for the race detector: a timer's goroutine has no order with the test's
	// Guarded by mu.
	nRuns, nRefusals int
	reason           Outcome
}

func (x *task) Run() (Outcome, bool) {
	x.mu.Lock()
	x.nRuns++
	x.mu.Unlock()
	r := x.rig
	r.begun <- x
	e := <-x.ends
	r.over <- x
	if e.goes {
		exit()
	}
	return e.o, e.away
}

func (x *task) Refuse(why Outcome) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.nRefusals++
	x.reason = why
}

func (x *task) runs() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.nRuns
}

func (x *task) refusals() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.nRefusals
}

func (x *task) why() Outcome {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.reason
}

// rig is a queue in a test, with the tasks that were submitted to it.
type rig struct {
	*testing.T
	*Queue
	all         []*task
	running     []*task
	begun, over chan *task
	order       []int // the tasks that have begun
	most        int   // that ran at a time
}

func newRig(t *testing.T, c Config) *rig {
	return &rig{T: t, Queue: New(c), begun: make(chan *task, 100_000), over: make(chan *task, 100_000)}
}

func (r *rig) submit(k Key) *task {
	x := &task{id: len(r.all), key: k, rig: r, ends: make(chan ending, 1)}
	r.all = append(r.all, x)
	r.Submit(&x.Entry, k, x)
	r.rest()
	return x
}

func (r *rig) end(x *task, e ending) {
	x.ends <- e
	r.rest()
}

// endAll ends everything, and what comes after it.
func (r *rig) endAll() {
	for len(r.running) > 0 {
		for _, x := range r.running {
			x.ends <- ending{}
		}
		r.rest()
	}
}

// rest waits until all goroutines wait for the test.
func (r *rig) rest() {
	synctest.Wait()
	for len(r.over) > 0 {
		x := <-r.over
		r.running = slices.DeleteFunc(r.running, func(y *task) bool { return x == y })
	}
	for len(r.begun) > 0 {
		x := <-r.begun
		r.running = append(r.running, x)
		r.order = append(r.order, x.id)
	}
	r.most = max(r.most, len(r.running))
}

// exactlyOnce checks that each task was run, refused or canceled.
func (r *rig) exactlyOnce() {
	r.Helper()
	for _, x := range r.all {
		n := x.runs() + x.refusals()
		if x.canceled {
			n++
		}
		if n != 1 {
			r.Errorf("task %d ran %d times, was refused %d times, canceled: %t", x.id, x.runs(), x.refusals(), x.canceled)
		}
	}
}

// model is a queue that searches for everything.
type model struct {
	inFlight, most, share int
	wait                  time.Duration
	running               []int
	order                 []int
	ring                  []Key // whose turn it is, first
	waiting               []waiting
	refused               []int
}

type waiting struct {
	id    int
	key   Key
	since time.Time
}

func (m *model) of(k Key) (n int) {
	for _, w := range m.waiting {
		if w.key == k {
			n++
		}
	}
	return n
}

func (m *model) submit(id int, k Key) {
	switch {
	case len(m.running) < m.inFlight:
		m.start(id)
	case len(m.waiting) >= m.most || m.of(k) >= m.share:
		m.refused = append(m.refused, id)
	default:
		m.waiting = append(m.waiting, waiting{id, k, time.Now()})
		if !slices.Contains(m.ring, k) {
			m.ring = append(m.ring, k)
		}
	}
}

func (m *model) start(id int) {
	m.running = append(m.running, id)
	m.order = append(m.order, id)
}

func (m *model) remove(id int) bool {
	i := slices.IndexFunc(m.waiting, func(w waiting) bool { return w.id == id })
	if i < 0 {
		return false
	}
	k := m.waiting[i].key
	m.waiting = slices.Delete(m.waiting, i, i+1)
	if m.of(k) == 0 {
		m.ring = slices.DeleteFunc(m.ring, func(r Key) bool { return r == k })
	}
	return true
}

func (m *model) end(id int) {
	m.running = slices.DeleteFunc(m.running, func(r int) bool { return r == id })
	if len(m.ring) == 0 {
		return
	}
	k := m.ring[0]
	m.ring = append(m.ring[1:], k)
	for _, w := range m.waiting {
		if w.key == k {
			m.remove(w.id)
			m.start(w.id)
			return
		}
	}
}

func (m *model) expire() {
	for _, w := range slices.Clone(m.waiting) {
		if time.Since(w.since) >= m.wait {
			m.remove(w.id)
			m.refused = append(m.refused, w.id)
		}
	}
}

// A queue does what a slow one does: who runs, who waits, who is refused, whose turn it is.
func FuzzQueueAgainstModel(f *testing.F) {
	for seed := range uint64(20) {
		f.Add(seed, uint16(200))
	}
	f.Fuzz(func(t *testing.T, seed uint64, steps uint16) {
		synctest.Test(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 1))
			m := &model{inFlight: 1 + rng.IntN(5), most: 1 + rng.IntN(30), wait: time.Duration(1+rng.IntN(3000)) * time.Millisecond}
			m.share = 1 + rng.IntN(m.most)
			r := newRig(t, Config{InFlight: m.inFlight, Wait: m.wait, Budget: NewBudget(m.most, m.share), Breaker: BreakerConfig{Calls: -1}})
			for range min(int(steps), 200) {
				switch n := rng.IntN(100); {
				case n < 45:
					k := Key(rng.IntN(4))
					x := r.submit(k)
					m.submit(x.id, k)
				case n < 75 && len(r.running) > 0:
					x := r.running[rng.IntN(len(r.running))]
					r.end(x, ending{o: Outcome(rng.IntN(int(Canceled))), away: rng.IntN(2) == 0, goes: rng.IntN(10) == 0})
					m.end(x.id)
				case n < 90 && len(r.all) > 0:
					x := r.all[len(r.all)-1-rng.IntN(min(len(r.all), 40))]
					did, want := r.Cancel(&x.Entry), m.remove(x.id)
					if did != want {
						t.Fatalf("task %d is canceled: %t, want %t", x.id, did, want)
					}
					x.canceled = x.canceled || did
				default:
					time.Sleep(time.Duration(rng.IntN(1000)) * time.Millisecond)
					r.rest()
					m.expire()
				}
				r.compare(m)
			}
			r.endAll()
			r.exactlyOnce()
			if s := r.Stats(); s.InFlight != 0 || s.Queued != 0 || r.budget.Used() != 0 || len(r.flows) != 0 || len(r.budget.keys) != 0 {
				t.Errorf("left over: %+v, %d places, %d and %d addresses", s, r.budget.Used(), len(r.flows), len(r.budget.keys))
			}
			r.Close()
		})
	})
}

func (r *rig) compare(m *model) {
	r.Helper()
	var running, refused []int
	for _, x := range r.running {
		running = append(running, x.id)
	}
	for _, x := range r.all {
		if x.refusals() > 0 {
			refused = append(refused, x.id)
		}
	}
	for _, s := range [][]int{running, m.running, m.refused} {
		slices.Sort(s)
	}
	got := fmt.Sprintf("running %v, refused %v, begun %v, waiting %d", running, refused, r.order, r.Stats().Queued)
	want := fmt.Sprintf("running %v, refused %v, begun %v, waiting %d", m.running, m.refused, m.order, len(m.waiting))
	if diff := cmp.Diff(want, got); diff != "" {
		r.Fatal(diff)
	}
	if r.most > m.inFlight {
		r.Fatalf("%d tasks ran at a time", r.most)
	}
}

// With a breaker that opens time and again, nothing is forgotten, done twice or run beside too
// many others, and in the end everything runs again.
func FuzzQueueWithBreaker(f *testing.F) {
	for seed := range uint64(20) {
		f.Add(seed, uint16(200))
	}
	f.Fuzz(func(t *testing.T, seed uint64, steps uint16) {
		synctest.Test(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 2))
			inFlight := 1 + rng.IntN(5)
			r := newRig(t, Config{InFlight: inFlight, Budget: NewBudget(20, 10),
				Breaker: BreakerConfig{Calls: 1 + rng.IntN(8), Probes: 1 + rng.IntN(7)}})
			for range min(int(steps), 200) {
				switch n := rng.IntN(100); {
				case n < 50:
					r.submit(Key(rng.IntN(4)))
				case n < 80 && len(r.running) > 0:
					o := Outcome(rng.IntN(int(Canceled) + 1))
					r.end(r.running[rng.IntN(len(r.running))], ending{o: o, away: rng.IntN(2) == 0, goes: rng.IntN(10) == 0})
				case n < 90 && len(r.all) > 0:
					x := r.all[len(r.all)-1-rng.IntN(min(len(r.all), 40))]
					x.canceled = r.Cancel(&x.Entry) || x.canceled
				default:
					time.Sleep(time.Duration(rng.IntN(2000)) * time.Millisecond)
					r.rest()
				}
				s := r.Stats()
				if r.most > inFlight {
					t.Fatalf("%d tasks ran at a time", r.most)
				}
				if s.Queued > 0 && (s.InFlight < inFlight || s.Open) {
					t.Fatalf("something waits for nothing: %+v", s)
				}
			}
			r.endAll()
			for range 100 { // probes succeed, whatever was before
				time.Sleep(time.Minute)
				r.submit(1)
				r.endAll()
			}
			x := r.submit(1)
			if x.runs() != 1 || r.Stats().Open {
				t.Errorf("the breaker did not close: %+v", r.Stats())
			}
			r.endAll()
			r.exactlyOnce()
			if r.budget.Used() != 0 {
				t.Errorf("%d places are left over", r.budget.Used())
			}
			r.Close()
		})
	})
}
