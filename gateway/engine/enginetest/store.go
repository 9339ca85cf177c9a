package enginetest

import (
	"container/heap"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sluice/gateway/channel"
	"sluice/gateway/engine"
)

// Store keeps publications in memory, for the [Late] engines of one or more nodes. One goroutine
// does all its work, late and in an order of its own. What goes wrong with which request is drawn
// from its seed.
type Store struct {
	// Set at construction.
	trouble Trouble
	keep    func(name string) channel.Keep
	perNode func(name string) bool                                      // see PerNode
	plant   func(node int, p channel.Publication) []channel.Publication // what a node gets instead; for tests of the suite
	wake    chan struct{}
	ended   chan struct{}

	calm atomic.Bool

	mu sync.Mutex
	// Guarded by mu.
	events  events
	seq     uint64
	stalled bool
	rand    *rand.Rand

	// Owned by the store's goroutine.
	streams map[string]*stream
	ids     map[string]channel.Position // of publications that have one
	last    uint64                      // offset of any channel
	epochs  uint64
	away    bool
	nodes   []*Late
}

// Trouble is what goes wrong in a Store: of a thousand requests, how many.
type Trouble struct {
	Delay    time.Duration // the most that each step takes
	Unstored int           // publications that fail
	Unacked  int           // publications that are stored, and reported as failed
	Full     int           // publications that are refused for now
	Failed   int           // other requests that fail
	Lost     int           // deliveries to a node that are lost
	Twice    int           // deliveries that come twice
	Reset    int           // publications before which their channel's order begins anew
}

// stream is what is kept of a channel.
type stream struct {
	newest channel.Position
	floor  uint64 // offset of the newest publication that is not kept
	kept   []channel.Publication
	ever   []Stored
}

// Stored is a publication that a channel had at some time, kept or not.
type Stored struct {
	At      channel.Position
	Payload string
}

// PerNode makes the order of some channels, which keep no history, each node's own, as it is where a
// store only carries them: a node gives a publication its position when it comes, and finds out by
// its publisher's count whether one before it was lost. It comes before anything else.
func (s *Store) PerNode(of func(name string) bool) { s.perNode = of }

// event is work that is due.
type event struct {
	at  time.Time
	seq uint64
	do  func()
}

type events []event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	return e[i].at.Before(e[j].at) || e[i].at.Equal(e[j].at) && e[i].seq < e[j].seq
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	last := len(*e) - 1
	x := (*e)[last]
	(*e)[last] = event{}
	*e = (*e)[:last]
	return x
}

// NewStore returns a store that works until the test ends.
func NewStore(t testing.TB, seed uint64, trouble Trouble, keep func(name string) channel.Keep) *Store {
	s := &Store{trouble: trouble, keep: keep, perNode: func(string) bool { return false }, wake: make(chan struct{}, 1), ended: make(chan struct{}),
		rand: rand.New(rand.NewPCG(seed, seed)), streams: make(map[string]*stream), ids: make(map[string]channel.Position)}
	stop := make(chan struct{})
	go s.run(stop)
	t.Cleanup(func() {
		close(stop)
		<-s.ended
	})
	return s
}

func (s *Store) run(stop <-chan struct{}) {
	defer close(s.ended)
	for {
		do, wait := s.next(time.Now())
		if do != nil {
			do()
			continue
		}
		timer := time.NewTimer(wait)
		select {
		case <-stop:
			timer.Stop()
			return
		case <-s.wake:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// next returns what is to be done, or for how long there is nothing.
func (s *Store) next(now time.Time) (do func(), wait time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stalled || len(s.events) == 0 {
		return nil, time.Hour
	}
	if wait := s.events[0].at.Sub(now); wait > 0 {
		return nil, wait
	}
	return heap.Pop(&s.events).(event).do, 0
}

// at has the store do something. It may be called from any goroutine.
func (s *Store) at(when time.Time, do func()) {
	s.mu.Lock()
	s.seq++
	heap.Push(&s.events, event{when, s.seq, do})
	s.mu.Unlock()
	s.rouse()
}

// rouse has the store look for work.
func (s *Store) rouse() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// draw returns a random number below n.
func (s *Store) draw(n int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rand.IntN(n)
}

// soon returns a time at which a step that begins now ends.
func (s *Store) soon() time.Time {
	return time.Now().Add(time.Duration(s.draw(int(s.trouble.Delay) + 1)))
}

// later has the store do something after a step.
func (s *Store) later(do func()) { s.at(s.soon(), do) }

// happens draws whether something that happens n times in a thousand does.
func (s *Store) happens(n int) bool { return n > 0 && !s.calm.Load() && s.draw(1000) < n }

// Stall makes the store stand still: it does nothing, and so answers nothing, until resume is
// called.
func (s *Store) Stall() (resume func()) {
	set := func(stalled bool) {
		s.mu.Lock()
		s.stalled = stalled
		s.mu.Unlock()
		s.rouse()
	}
	set(true)
	return func() { set(false) }
}

// Do calls f on the store's goroutine, and waits until it is done.
func (s *Store) Do(f func()) {
	done := make(chan struct{})
	s.at(time.Now(), func() { f(); close(done) })
	<-done
}

// Away makes the store unavailable until back is called: what it is asked for fails, and what is on
// its way to nodes is lost. They learn afterwards what they have missed.
func (s *Store) Away() (back func()) {
	s.Do(func() { s.away = true })
	return func() {
		s.Do(func() {
			s.away = false
			for _, n := range s.nodes {
				for _, routes := range n.routes {
					for _, r := range routes {
						n.check(r)
					}
				}
			}
		})
	}
}

// Reset begins the order of channels anew, as if what was stored were gone.
func (s *Store) Reset(names ...string) {
	s.Do(func() {
		for _, name := range names {
			s.reset(s.stream(name))
			for _, n := range s.nodes {
				for _, r := range n.routes[name] {
					n.check(r)
				}
			}
		}
	})
}

// Calm ends all trouble but delays.
func (s *Store) Calm() { s.calm.Store(true) }

// Ever returns all that was ever published to a channel, in order.
func (s *Store) Ever(name string) (all []Stored) {
	s.Do(func() { all = slices.Clone(s.stream(name).ever) })
	return all
}

// Lose loses the next deliveries of a channel to a node, whose number begins with 0.
func (s *Store) Lose(node int, name string, deliveries int) {
	s.Do(func() {
		for _, r := range s.nodes[node].routes[name] {
			r.lose += deliveries
		}
	})
}

// Attached returns the channels that are attached, once for each node.
func (s *Store) Attached() (names []string) {
	s.Do(func() {
		for _, n := range s.nodes {
			names = slices.AppendSeq(names, maps.Keys(n.routes))
		}
	})
	return names
}

func (s *Store) stream(name string) *stream {
	st := s.streams[name]
	if st == nil {
		st = new(stream)
		s.streams[name] = st
		s.reset(st)
	}
	return st
}

func (s *Store) reset(st *stream) {
	s.epochs++
	*st = stream{newest: channel.Position{Epoch: channel.Epoch(s.epochs)}, ever: st.ever}
}

// head returns the position of a stream's newest publication. Where there is none, all that is known is that
// the next one will be above all offsets that there are.
func (s *Store) head(st *stream) channel.Position {
	if st.newest.Offset == 0 {
		return channel.Position{Epoch: st.newest.Epoch, Offset: s.last}
	}
	return st.newest
}

// store assigns p its position in the order, and keeps it.
func (s *Store) store(name string, p *channel.Publication) {
	st := s.stream(name)
	if s.happens(s.trouble.Reset) {
		s.reset(st)
	}
	p.Channel, p.Epoch = name, st.newest.Epoch
	if p.Kind != channel.KindMessage || p.Passing {
		return
	}
	s.last += 1 + uint64(s.draw(3))
	p.Offset, p.Prev = s.last, st.newest.Offset
	st.newest.Offset = p.Offset
	st.kept = append(st.kept, *p)
	st.ever = append(st.ever, Stored{channel.Position{Epoch: p.Epoch, Offset: p.Offset}, string(p.Payload)})
	st.expire(s.keep(name), p.At)
}

// expire drops what is not kept any more.
func (st *stream) expire(keep channel.Keep, now int64) {
	n := max(len(st.kept)-keep.Count, 0)
	for n < len(st.kept) && st.kept[n].At < now-keep.TTL {
		n++
	}
	if n > 0 {
		st.floor = st.kept[n-1].Offset
		st.kept = slices.Delete(st.kept, 0, n)
	}
}

// after returns the index of the first kept publication above an offset.
func (st *stream) after(offset uint64) int {
	i := slices.IndexFunc(st.kept, func(p channel.Publication) bool { return p.Offset > offset })
	if i < 0 {
		i = len(st.kept)
	}
	return i
}

// collect answers a query of the history.
func (s *Store) collect(q engine.HistoryQuery) (channel.Collected, error) {
	st := s.stream(q.Channel)
	st.expire(s.keep(q.Channel), q.Now)
	head := s.head(st)
	out := channel.Collected{From: channel.Position{Epoch: head.Epoch, Offset: st.floor}, To: head, Newest: head}
	since := head.Offset + 1 // for Back
	if a := q.Since; a != nil {
		if a.Kind == channel.AskSince && a.At.Epoch != st.newest.Epoch {
			return channel.Collected{}, engine.ErrEpoch
		}
		since = a.At.Offset
		if out.Gap = since < st.floor || since > head.Offset; !out.Gap {
			out.From.Offset = since
		}
	}
	list := st.kept[st.after(out.From.Offset):]
	if q.Back {
		list = slices.Clone(st.kept)
		list = slices.DeleteFunc(list, func(p channel.Publication) bool { return p.Offset >= since })
		slices.Reverse(list)
	}
	bytes := 0
	for _, p := range list {
		if q.Most.Count >= 0 && len(out.Publications) >= q.Most.Count || q.Most.Bytes > 0 && bytes >= q.Most.Bytes {
			out.More = true
			break
		}
		bytes += len(p.Payload) + len(p.Extra)
		p.Payload, p.Extra = slices.Clone(p.Payload), slices.Clone(p.Extra)
		out.Publications = append(out.Publications, p)
		out.To.Offset = p.Offset
	}
	if out.More && len(out.Publications) == 0 {
		out.To = out.From
	}
	return out, nil
}
