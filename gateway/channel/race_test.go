package channel

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"
)

// The loops here are goroutines that live as the gateway's loops do: they run
// only when they were notified, clear the notification, read up to the head,
// and publish what is served. Nothing wakes them or the publishers by chance, so
// whatever is not told to them is never done.

// raceLoop is a Subscriber with subscribers of its own.
type raceLoop struct {
	Reader
	notified chan struct{} // of one place: Notify comes once until Clear
	twice    bool          // it came twice; guarded by the channel's lock
	subs     []raceSub
	spin     int // how long it takes to wake up
}

// raceSub is a subscriber: the first of a loop reads everything at once, the others
// now and then, or when they are pressed.
type raceSub struct {
	cursor uint64
	got    []byte // the start of a frame
	seen   []uint64
}

func newRaceLoop(t testing.TB, s *Space, name string, f Format, subs int) *raceLoop {
	t.Helper()
	l := &raceLoop{notified: make(chan struct{}, 1), subs: make([]raceSub, subs)}
	if err := s.Join(name, f, l, &l.Reader); err != nil {
		t.Fatal(err)
	}
	head := l.Log().Head()
	for i := range l.subs {
		l.subs[i].cursor = head
	}
	return l
}

func (l *raceLoop) Notify() {
	select {
	case l.notified <- struct{}{}:
	default:
		l.twice = true
	}
}

// run reads until stop is closed, and then all that is left.
func (l *raceLoop) run(stop <-chan struct{}) {
	rnd := rand.New(rand.NewPCG(uint64(len(l.subs)), uint64(l.spin)))
	for {
		select {
		case <-l.notified:
			for range l.spin {
				runtime.Gosched()
			}
			l.sweep(rnd, false)
		case <-stop:
			l.sweep(rnd, true)
			return
		}
	}
}

func (l *raceLoop) sweep(rnd *rand.Rand, all bool) {
	pressed := l.Clear()
	head := l.Log().Head()
	low := head
	for i := range l.subs {
		s := &l.subs[i]
		for s.cursor < head && (all || i == 0 || s.cursor < pressed || rnd.IntN(4) == 0) {
			l.read(s, head, rnd.IntN(200))
		}
		low = min(low, s.cursor)
	}
	l.Served(low)
}

// read takes about n bytes, perhaps within a frame, and the rest of that frame.
func (l *raceLoop) read(s *raceSub, head uint64, n int) {
	v := l.view(s.cursor)
	to := v.Fit(s.cursor, head, n)
	if n%2 == 1 {
		cut := min(s.cursor+uint64(n), head)
		to = v.Floor(s.cursor, cut)
	}
	a, b := v.Bytes(s.cursor, to)
	s.got = append(append(s.got, a...), b...)
	s.cursor = to
	for len(s.got) > 0 {
		size := int(binary.BigEndian.Uint32(s.got))
		s.seen = append(s.seen, binary.BigEndian.Uint64(s.got[lengthBytes:]))
		s.got = s.got[:copy(s.got, s.got[size:])] // cursors lie between frames
	}
}

// racePublisher publishes and waits as long as it is pushed back.
type racePublisher struct {
	scratch  Scratch
	released chan struct{}
}

func (p *racePublisher) Released() {
	select {
	case p.released <- struct{}{}:
	default:
	}
}

// errForgotten is what a publisher ends with that was never told to try again.
var errForgotten = errors.New("refused, and not told to try again")

// publish publishes id, padded to size.
func (p *racePublisher) publish(s *Space, name string, id uint64, size int) (Receipt, error) {
	payload := make([]byte, size)
	binary.BigEndian.PutUint64(payload, id)
	for {
		c := s.Find(name)
		if c == nil {
			return Receipt{}, nil
		}
		r, err := c.Publish(&Publication{Payload: payload}, &p.scratch, p)
		if errors.Is(err, ErrGone) {
			return r, nil // nobody has it
		}
		if !errors.Is(err, ErrFull) {
			return r, err
		}
		select {
		case <-p.released:
		case <-time.After(patience):
			return Receipt{}, errForgotten
		}
	}
}

func TestEverySubscriberGetsEverythingInOrder(t *testing.T) {
	const each = 4000
	budget := NewBudget(1 << 20)
	s := NewSpace(ringBytesMin, 8, budget)
	stop := make(chan struct{})
	var loops []*raceLoop
	var reading sync.WaitGroup
	for i := range 4 {
		l := newRaceLoop(t, s, "c", padded(i%2*7), 1+i)
		l.spin = i * 3
		loops = append(loops, l)
		reading.Go(func() { l.run(stop) })
	}
	order := make([]uint64, 3*each+1) // ids by offset
	var publishing sync.WaitGroup
	for i := range 3 {
		publishing.Go(func() {
			p := &racePublisher{released: make(chan struct{}, 1)}
			for n := range uint64(each) {
				id := uint64(i)<<32 | n
				r, err := p.publish(s, "c", id, 8+int(n%7)*20)
				if err != nil {
					t.Errorf("publisher %d, publication %d: %v", i, n, err)
					return
				}
				order[r.Offset] = id
			}
		})
	}
	publishing.Wait()
	close(stop)
	reading.Wait()
	for i, l := range loops {
		if l.twice {
			t.Errorf("loop %d was notified twice", i)
		}
		for j, sub := range l.subs {
			if !slices.Equal(sub.seen, order[1:]) {
				t.Errorf("subscriber %d of loop %d got %d publications, not the %d in their order", j, i, len(sub.seen), len(order)-1)
			}
		}
		s.Leave(&l.Reader)
	}
	if got := budget.Used(); got != 0 {
		t.Errorf("%d bytes are held after everybody has left", got)
	}
}

// Channels die with their last reader, perhaps while publishers are pushed back,
// and are born again under the same name.
func TestChannelsDieAndComeBack(t *testing.T) {
	budget := NewBudget(1 << 20)
	s := NewSpace(ringBytesMin, 2, budget)
	names := []string{"a", "b"}
	type position struct {
		epoch  Epoch
		offset uint64
	}
	var (
		mu        sync.Mutex
		positions = make(map[uint64]position) // by id
		// What each reader saw, and in which life of the channel.
		seen   [][]uint64
		epochs []Epoch
	)
	stop := make(chan struct{})
	var publishing, reading sync.WaitGroup
	for i := range 3 {
		publishing.Go(func() {
			p := &racePublisher{released: make(chan struct{}, 1)}
			for n := uint64(1); ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				id := uint64(i)<<32 | n
				r, err := p.publish(s, names[n%2], id, 8+int(n%5)*30)
				if err != nil {
					t.Errorf("publisher %d, publication %d: %v", i, n, err)
					return
				}
				if r.Offset > 0 {
					mu.Lock()
					positions[id] = position{r.Epoch, r.Offset}
					mu.Unlock()
				}
			}
		})
	}
	for i := range 4 {
		reading.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(i), 7))
			for range 500 {
				l := newRaceLoop(t, s, names[rnd.IntN(2)], padded(rnd.IntN(2)), 1)
				for range rnd.IntN(20) {
					select {
					case <-l.notified:
						l.sweep(rnd, true)
					default:
						runtime.Gosched()
					}
				}
				s.Leave(&l.Reader)
				mu.Lock()
				seen = append(seen, l.subs[0].seen)
				epochs = append(epochs, l.Log().Channel().Epoch())
				mu.Unlock()
			}
		})
	}
	reading.Wait()
	close(stop)
	publishing.Wait()
	got := 0
	for i, run := range seen {
		for j, id := range run {
			got++
			if want := (position{epochs[i], positions[run[0]].offset + uint64(j)}); positions[id] != want {
				t.Fatalf("reader %d saw publication %x, which has the position %v, where %v comes next", i, id, positions[id], want)
			}
		}
	}
	if got < 1000 {
		t.Errorf("only %d publications were read", got)
	}
	if s.Channels() != 0 || budget.Used() != 0 {
		t.Errorf("%d channels and %d bytes are left", s.Channels(), budget.Used())
	}
}
