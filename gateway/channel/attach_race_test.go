package channel

import (
	"math/rand/v2"
	"sync"
	"testing"
	"time"
)

// raceEngine is an Attacher that does everything on a goroutine of its own, later.
type raceEngine struct {
	*testing.T
	mu     sync.Mutex
	queue  []func() // guarded by mu
	wake   chan struct{}
	live   map[*Channel]bool
	at     Position
	floor  uint64
	kept   []Publication
	rnd    *rand.Rand
	late   []func() // answers that are due
	events int
}

func (e *raceEngine) post(f func()) {
	e.mu.Lock()
	e.queue = append(e.queue, f)
	e.mu.Unlock()
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

func (e *raceEngine) Attach(c *Channel) {
	e.post(func() {
		e.live[c] = true
		e.late = append(e.late, func() { c.Attached(e.at) })
	})
}

func (e *raceEngine) Detach(c *Channel) { e.post(func() { delete(e.live, c) }) }

func (e *raceEngine) Fill(c *Channel) {
	e.post(func() {
		kept, floor, at := append([]Publication(nil), e.kept...), Position{e.at.Epoch, e.floor}, e.at
		e.late = append(e.late, func() { c.Filled(kept, floor, at) })
	})
}

// run publishes, and answers what is due in any order, until stop is closed.
func (e *raceEngine) run(stop <-chan struct{}) {
	var s Scratch
	for {
		e.mu.Lock()
		queue := e.queue
		e.queue = nil
		e.mu.Unlock()
		for _, f := range queue {
			f()
		}
		if len(e.late) > 0 && e.rnd.IntN(2) == 0 {
			i := e.rnd.IntN(len(e.late))
			f := e.late[i]
			e.late[i] = e.late[len(e.late)-1]
			e.late = e.late[:len(e.late)-1]
			f()
		}
		if len(e.live) > 0 {
			e.events++
			p := Publication{Payload: []byte("payload"), Epoch: e.at.Epoch, Offset: e.at.Offset + 1 + e.rnd.Uint64N(3), Prev: e.at.Offset}
			e.at.Offset = p.Offset
			e.kept = append(e.kept, p)
			for len(e.kept) > 50 {
				e.floor, e.kept = e.kept[0].Offset, e.kept[1:]
			}
			for c := range e.live {
				q := p
				c.Append(&q, &s)
			}
		}
		select {
		case <-stop:
			if len(e.live) == 0 && len(e.late) == 0 {
				return
			}
		default:
			if len(e.live) == 0 && len(e.late) == 0 {
				select {
				case <-e.wake:
				case <-stop:
				}
			}
		}
	}
}

// raceFollower prepares, joins, reads and leaves, again and again, each time from the position that it has.
type raceFollower struct {
	*testing.T
	space    *Space
	called   chan error
	notified chan struct{}
	has      Position
	got      int
	recalled int
}

func (f *raceFollower) Prepared(err error) { f.called <- err }
func (f *raceFollower) Notify() {
	select {
	case f.notified <- struct{}{}:
	default:
	}
}

// follow is one life as a subscriber.
func (f *raceFollower) follow(rnd *rand.Rand) {
	ask := Ask{Kind: AskNow}
	if f.has != (Position{}) {
		ask = Ask{Kind: AskSince, At: f.has}
	}
	ready, err := f.space.Prepare("x", &ask, f)
	if err != nil {
		f.Error(err)
		return
	}
	if !ready && rnd.IntN(8) == 0 {
		f.space.Release("x", f)
		select {
		case <-f.called: // it may have been called meanwhile
		default:
		}
		return
	}
	if !ready {
		select {
		case err := <-f.called:
			if err != nil {
				f.Error(err)
			}
		case <-time.After(patience):
			f.Error("it was not called")
			return
		}
	}
	var r Reader
	if err := f.space.Join("x", positioned{tells: true}, f, &r); err != nil {
		f.Error(err)
		return
	}
	known, cursor := r.Collect(ask, Bounds{Count: -1}, 0)
	f.space.Release("x", f)
	if f.has = known.From; known.Gap && ask.At.Offset >= known.From.Offset {
		f.Errorf("a gap since %v, and the history begins at %v", ask.At, known.From)
	}
	for i := range known.Publications {
		p := &known.Publications[i]
		f.take(KindMessage, p.Offset, p.Prev)
		f.recalled++
	}
reading:
	for range rnd.IntN(10) {
		select {
		case <-f.notified:
		case <-time.After(patience):
			f.Error("nothing was appended")
		}
		r.Clear()
		for head := r.Log().Head(); cursor < head; {
			v, ok := r.View(cursor)
			if !ok { // it had no processor for long, and was overtaken: it comes back with its position
				break reading
			}
			a, b := v.Bytes(cursor, v.Head())
			cursor = v.Head()
			readPositioned(append(append([]byte(nil), a...), b...), f.take)
		}
		r.Served(cursor)
	}
	f.space.Leave(&r)
	select {
	case <-f.notified: // of the log that was left
	default:
	}
}

func (f *raceFollower) take(kind Kind, offset, prev uint64) {
	if f.got++; kind != KindMessage || prev != f.has.Offset {
		f.Errorf("it has %v, and is sent %d of kind %d behind %d", f.has, offset, kind, prev)
	}
	f.has.Offset = offset
}

// Channels attach, fill and end while the engine goes on: nobody who comes and goes loses anything, or
// gets it twice.
func TestRemoteChannelsUnderRace(t *testing.T) {
	e := &raceEngine{T: t, wake: make(chan struct{}, 1), live: map[*Channel]bool{}, at: Position{Epoch: 7}, rnd: rand.New(rand.NewPCG(1, 2))}
	s := NewSpace(1<<20, 10, NewBudget(1<<30))
	s.KeepHistory(History{Of: func(string) Keep { return Keep{Count: 1000, TTL: 1 << 40} }, Bytes: 1 << 20, Budget: NewBudget(1 << 30)}, 0)
	s.Remote(e, nil)
	stop := make(chan struct{})
	var engine, followers sync.WaitGroup
	engine.Go(func() { e.run(stop) })
	var all [6]*raceFollower
	for i := range all {
		f := &raceFollower{T: t, space: s, called: make(chan error, 1), notified: make(chan struct{}, 1)}
		all[i] = f
		followers.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(i), 3))
			for range 200 {
				if f.follow(rnd); t.Failed() {
					return
				}
			}
		})
	}
	followers.Wait()
	close(stop)
	engine.Wait()
	got, recalled := 0, 0
	for _, f := range all {
		got, recalled = got+f.got, recalled+f.recalled
	}
	if got < 1000 || recalled < 100 {
		t.Errorf("%d publications were read, %d of them from histories", got, recalled)
	}
	if s.Channels() != 0 || s.budget.Used() != 0 || s.history.Budget.Used() != 0 {
		t.Errorf("%d channels, %d and %d bytes are left", s.Channels(), s.budget.Used(), s.history.Budget.Used())
	}
}
