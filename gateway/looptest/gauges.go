// Package looptest has what tests of several packages do on event loops, and read of them.
package looptest

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"sluice/gateway/clienttest"
	"sluice/gateway/loop"
)

// Gauges are what tests do on loops, and read of them.
type Gauges struct {
	T     testing.TB
	Loops []*loop.Loop
	Clock *clienttest.Clock // the loops'
}

// call is a message that runs a function on its loop.
type call func(*loop.Loop)

func (f call) Deliver(l *loop.Loop) { f(l) }

// Do runs f on every loop, one after the other, and waits for it.
func (s *Gauges) Do(f func(*loop.Loop)) {
	s.T.Helper()
	for _, l := range s.Loops {
		done := make(chan struct{})
		if !l.Post(call(func(l *loop.Loop) { defer close(done); f(l) })) {
			s.T.Fatal("the loop has ended")
		}
		clienttest.Receive(s.T, "the loop to run a function", done)
	}
}

// each runs f for every connection of a loop, which nothing else uses meanwhile.
func each(l *loop.Loop, f func(*loop.Conn)) {
	l.Describe(func(c *loop.Conn) uint64 { f(c); return 0 }, 1)
}

// Each runs f for every connection, on its loop.
func (s *Gauges) Each(f func(*loop.Conn)) {
	s.T.Helper()
	s.Do(func(l *loop.Loop) { each(l, f) })
}

// Pass lets so many seconds pass for the loops. From then on no time passes by itself.
func (s *Gauges) Pass(seconds int) {
	s.T.Helper()
	if s.Clock.Stop() {
		s.Do(loop.Tick{}.Deliver)
	}
	for range seconds {
		s.Clock.Advance(time.Second)
		s.Do(loop.Tick{}.Deliver)
		s.Quiet()
	}
}

// Quiet waits until the loops have done what they know of.
func (s *Gauges) Quiet() {
	s.T.Helper()
	clienttest.WaitFor(s.T, "the loops to be quiet", func() bool {
		quiet := true
		s.Do(func(l *loop.Loop) { quiet = quiet && l.Idle() })
		return quiet
	})
}

// Hold keeps a loop busy until the function it gives is called.
func (s *Gauges) Hold(index int) (release func()) {
	s.T.Helper()
	held, free := make(chan struct{}), make(chan struct{})
	s.Loops[index].Post(call(func(*loop.Loop) { close(held); <-free }))
	clienttest.Receive(s.T, "the loop to be held", held)
	release = sync.OnceFunc(func() { close(free) })
	s.T.Cleanup(release)
	return release
}

// Sum adds a counter of all loops up.
func (s *Gauges) Sum(counter func(*loop.Stats) uint64) (n uint64) {
	for _, l := range s.Loops {
		n += counter(l.Stats())
	}
	return n
}

// Reason returns the reason with a label. Those that only loops end connections for have no name
// outside of package loop.
func Reason(label string) loop.Reason {
	for r := loop.ReasonNone; r < loop.ReasonCount; r++ {
		if r.String() == label {
			return r
		}
	}
	panic("no reason has the label " + label)
}

func (s *Gauges) ClosedFor(why loop.Reason) uint64 {
	return s.Sum(func(st *loop.Stats) uint64 { return st.Closed[why].Load() })
}

func (s *Gauges) Deliveries() uint64 {
	return s.Sum(func(st *loop.Stats) uint64 { return st.Deliveries.Load() })
}

func (s *Gauges) Blocked() uint64 {
	return s.Sum(func(st *loop.Stats) uint64 { return uint64(st.Blocked.Load()) })
}

func (s *Gauges) PushBacks() uint64 {
	return s.Sum(func(st *loop.Stats) uint64 { return st.PushBacks.Load() })
}

func (s *Gauges) Received() uint64 {
	return s.Sum(func(st *loop.Stats) uint64 { return st.Messages.Load() })
}

func (s *Gauges) Held() int64 {
	return int64(s.Sum(func(st *loop.Stats) uint64 { return uint64(st.Held.Load()) }))
}

// WantClosed waits until so many connections have ended for a reason.
func (s *Gauges) WantClosed(why loop.Reason, n uint64) {
	s.T.Helper()
	clienttest.WaitFor(s.T, fmt.Sprintf("%d connections to end for %v", n, why), func() bool { return s.ClosedFor(why) >= n })
	if got := s.ClosedFor(why); got != n {
		s.T.Errorf("%d connections ended for %v, want %d", got, why, n)
	}
}

// ClosingFor counts the connections that are being closed for a reason.
func (s *Gauges) ClosingFor(why loop.Reason) (n int) {
	s.T.Helper()
	s.Each(func(c *loop.Conn) {
		if !c.Open() && c.Reason() == why {
			n++
		}
	})
	return n
}

// LoopOf finds the loop that a client's connection lives on.
func (s *Gauges) LoopOf(c *clienttest.Client) (index int) {
	c.T.Helper()
	before := make([]uint64, len(s.Loops))
	for i, l := range s.Loops {
		before[i] = l.Stats().BytesIn.Load()
	}
	c.Send(clienttest.Ping("which loop reads it?"))
	c.WantPong("it is read", "which loop reads it?")
	s.Quiet()
	for i, l := range s.Loops {
		if l.Stats().BytesIn.Load() != before[i] {
			return i
		}
	}
	c.T.Fatal("no loop read the client")
	return -1
}

// WantLoopsEmpty sees that nothing is left of the clients of loops that have ended: a group
// that is left would keep its channel.
func (s *Gauges) WantLoopsEmpty() {
	s.T.Helper()
	for i, l := range s.Loops { // nobody else looks at a loop that has ended
		if st := l.Stats(); st.Connections.Load() != 0 || st.Blocked.Load() != 0 || st.Held.Load() != 0 || st.Users.Load() != 0 {
			s.T.Errorf("loop %d keeps %d connections, %d of them blocked, %d bytes and %d users",
				i, st.Connections.Load(), st.Blocked.Load(), st.Held.Load(), st.Users.Load())
		}
		listed := 0
		each(l, func(*loop.Conn) { listed++ })
		if c := l.Census(); listed+len(c.Users)+c.Subscriptions != 0 {
			s.T.Errorf("loop %d keeps %d connections, %d users and %d subscriptions", i, listed, len(c.Users), c.Subscriptions)
		}
	}
}
