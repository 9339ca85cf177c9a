package channel

import (
	"math"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// What a publisher and a reader say to each other crosses in a few instructions.
// The tests here make them meet there, a hundred thousand times.

// meet runs a publisher against one reader that is as quick as it can be: it takes
// everything whenever it is notified. A crowd of further readers, in nobody's way,
// makes whatever the channel does for all of its readers last.
func meet(t *testing.T, crowd int, publish func(s *Space, l *raceLoop)) {
	s := NewSpace(ringBytesMin, 1, NewBudget(1<<20))
	l := newRaceLoop(t, s, "c", padded(0), 1)
	others := make([]*member, crowd)
	for i := range others {
		others[i] = join(t, s, "c", padded(0))
		others[i].served.Store(math.MaxUint64)
	}
	stop := make(chan struct{})
	var reading sync.WaitGroup
	reading.Go(func() {
		for n := 0; ; n++ {
			select {
			case <-l.notified:
				for range n % 101 { // meet the publisher at ever other places
					l.Log().Head()
				}
				l.Clear()
				l.Served(l.Log().Head())
			case <-stop:
				return
			default:
				runtime.Gosched() // busy, to be quick
			}
		}
	})
	publish(s, l)
	close(stop)
	reading.Wait()
	s.Leave(&l.Reader)
	for _, m := range others {
		s.Leave(&m.Reader)
	}
}

// A reader that serves while a publisher is being refused must either leave room
// that the publisher still sees, or see that somebody waits. The log takes one or two
// frames, so that nearly every publication is such a meeting.
func TestNoReleaseIsMissed(t *testing.T) {
	for crowd, times := range map[int]uint64{0: 40_000, 500: 10_000} {
		meet(t, crowd, func(s *Space, l *raceLoop) {
			p := &racePublisher{released: make(chan struct{}, 1)}
			for n := range times {
				if _, err := p.publish(s, "c", n, most-int(n%2)*most/2); err != nil {
					t.Errorf("crowd of %d, publication %d: %v", crowd, n, err)
					return
				}
				for range n % 1009 * 2 {
					l.Log().Head()
				}
			}
		})
	}
}

// A reader that was notified and finds nothing must be notified again.
func TestNoAppendIsMissed(t *testing.T) {
	meet(t, 500, func(s *Space, l *raceLoop) {
		p := &racePublisher{released: make(chan struct{}, 1)}
		for n := range uint64(20_000) {
			r, err := p.publish(s, "c", n, 8)
			if err != nil {
				t.Errorf("publication %d: %v", n, err)
				return
			}
			end := time.Now().Add(patience)
			for want := r.Offset * uint64(padded(0).size(8)); l.served.Load() < want; runtime.Gosched() {
				if time.Now().After(end) {
					t.Errorf("publication %d is not read", n)
					return
				}
			}
		}
	})
}

// A press that meets a Clear is either what Clear gives, or notifies anew.
func TestNoPressIsMissed(t *testing.T) {
	s := NewSpace(ringBytesMin, 1, NewBudget(1<<20))
	l := newRaceLoop(t, s, "c", padded(0), 1)
	defer s.Leave(&l.Reader)
	c := s.Find("c")
	for publishSize(c, 50, nil) == nil {
	}
	var cleared, round atomic.Int64
	var clearing sync.WaitGroup
	const rounds = 100_000
	clearing.Go(func() {
		for n := range int64(rounds) {
			for i := 0; round.Load() <= n; i++ {
				if i > 1000 {
					runtime.Gosched()
				}
			}
			l.Clear()
			cleared.Add(1)
		}
	})
	var scratch Scratch
	p := &Publication{Payload: make([]byte, 50)}
	for n := range int64(rounds) {
		c.Publish(p, &scratch, nil) // presses, and leaves the reader notified
		round.Add(1)
		c.Publish(p, &scratch, nil)
		for i := 0; cleared.Load() <= n; i++ {
			if i > 1000 {
				runtime.Gosched()
			}
		}
		if l.press.Load() != 0 && !l.posted.Load() {
			t.Errorf("round %d: the reader is pressed and does not know it", n)
			break
		}
		select {
		case <-l.notified:
		default:
		}
	}
	round.Store(rounds)
	clearing.Wait()
}
