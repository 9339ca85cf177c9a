package hook

import (
	"sync"

	"sluice/gateway/hook/queue"
)

// Share returns a Hook that asks h once for all requests with the same key that are made before
// the answer comes; they share the answer. key returns false for a request that is asked for by
// itself. What waits beside the first one takes a place of the budget. The call is canceled when
// all of them are.
func Share[Q Request, A any](h Hook[Q, A], budget *queue.Budget, key func(q Q) (key string, ok bool)) Hook[Q, A] {
	return &shared[Q, A]{hook: h, budget: budget, key: key, flights: make(map[string]*flight[A])}
}

type shared[Q Request, A any] struct {
	// Set at construction.
	hook   Hook[Q, A]
	budget *queue.Budget
	key    func(q Q) (string, bool)

	mu sync.Mutex
	// Guarded by mu.
	flights map[string]*flight[A]
}

// flight is a call with those that wait for it.
type flight[A any] struct {
	// Guarded by the shared hook's mu.
	first, last *passenger[A]
	cancel      func() // set before the first passenger can leave
}

type passenger[A any] struct {
	answer     func(*A, error)
	next, prev *passenger[A]
	gone       bool // answered or canceled
	place      queue.Key
	places     bool // it has a place of the budget
}

// Ask implements Hook.
func (s *shared[Q, A]) Ask(q Q, answer func(*A, error)) (cancel func()) {
	key, ok := s.key(q)
	if !ok {
		return s.hook.Ask(q, answer)
	}
	p := &passenger[A]{answer: answer}
	s.mu.Lock()
	f := s.flights[key]
	if f != nil {
		p.place = queue.KeyOf(q.From().Peer.Addr())
		if p.places = s.budget.Take(p.place); !p.places {
			s.mu.Unlock()
			answer(nil, ErrOverload)
			return func() {}
		}
		f.add(p)
		s.mu.Unlock()
		return func() { s.leave(key, f, p) }
	}
	f = new(flight[A])
	f.add(p)
	s.flights[key] = f
	s.mu.Unlock()

	stop := s.hook.Ask(q, func(a *A, err error) { s.land(key, f, a, err) })
	s.mu.Lock()
	f.cancel = stop
	s.mu.Unlock()
	return func() { s.leave(key, f, p) }
}

// land answers all that wait for a call.
func (s *shared[Q, A]) land(key string, f *flight[A], a *A, err error) {
	s.mu.Lock()
	s.forget(key, f)
	list := f.first
	f.first, f.last = nil, nil
	for p := list; p != nil; p = p.next {
		s.left(p)
	}
	s.mu.Unlock()
	for p := list; p != nil; p = p.next {
		p.answer(a, err)
	}
}

// leave cancels what p waits for, if nothing else waits for it.
func (s *shared[Q, A]) leave(key string, f *flight[A], p *passenger[A]) {
	s.mu.Lock()
	if p.gone {
		s.mu.Unlock()
		return
	}
	s.left(p)
	f.remove(p)
	if f.first != nil {
		s.mu.Unlock()
		return
	}
	s.forget(key, f)
	s.mu.Unlock()
	f.cancel()
}

// left notes that p does not wait any more.
func (s *shared[Q, A]) left(p *passenger[A]) {
	p.gone = true
	if p.places {
		s.budget.Release(p.place)
	}
}

// forget lets the next request with a key be a call of its own.
func (s *shared[Q, A]) forget(key string, f *flight[A]) {
	if s.flights[key] == f {
		delete(s.flights, key)
	}
}

func (f *flight[A]) add(p *passenger[A]) {
	if p.prev = f.last; p.prev != nil {
		p.prev.next = p
	} else {
		f.first = p
	}
	f.last = p
}

func (f *flight[A]) remove(p *passenger[A]) {
	if p.prev != nil {
		p.prev.next = p.next
	} else {
		f.first = p.next
	}
	if p.next != nil {
		p.next.prev = p.prev
	} else {
		f.last = p.prev
	}
}
