package loop

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"sluice/gateway/clienttest"
	"sluice/gateway/rate"

	"github.com/gobwas/ws"
)

// gauges are what tests do on loops, and read of them.
type gauges struct {
	t     testing.TB
	all   []*Loop
	clock clienttest.Clock // the loops'
}

// do runs f on every loop, one after the other, and waits for it.
func (s *gauges) do(f func(*Loop)) {
	s.t.Helper()
	for _, l := range s.all {
		s.doOn(l, f)
	}
}

// doOn runs f on one loop, and waits for it.
func (s *gauges) doOn(l *Loop, f func(*Loop)) {
	s.t.Helper()
	done := make(chan struct{})
	if !l.Post(call(func(l *Loop) { defer close(done); f(l) })) {
		s.t.Fatal("the loop has ended")
	}
	clienttest.Receive(s.t, "the loop to run a function", done)
}

// pass lets so many seconds pass for the loops. From then on no time passes by itself.
func (s *gauges) pass(seconds int) {
	s.t.Helper()
	if s.clock.Stop() {
		s.do(func(l *Loop) { l.readClock(); l.lastTick = l.time }) // what has passed by itself does not count
	}
	for range seconds {
		s.clock.Advance(time.Second)
		s.do(Tick{}.Deliver)
		s.quiet()
	}
}

// loopAfter lets time pass in the middle of a turn.
func loopAfter(l *Loop, d time.Duration) {
	l.cfg.Admission.(*loops).clock.Advance(d)
	l.readClock()
}

// quiet waits until the loops have done what they know of.
func (s *gauges) quiet() {
	s.t.Helper()
	clienttest.WaitFor(s.t, "the loops to be quiet", func() bool {
		quiet := true
		s.do(func(l *Loop) {
			quiet = quiet && l.Idle()
		})
		return quiet
	})
}

// hold keeps a loop busy until the function it gives is called.
func (s *gauges) hold(index int) (release func()) {
	s.t.Helper()
	held, free := make(chan struct{}), make(chan struct{})
	s.all[index].Post(call(func(*Loop) { close(held); <-free }))
	clienttest.Receive(s.t, "the loop to be held", held)
	release = sync.OnceFunc(func() { close(free) })
	s.t.Cleanup(release)
	return release
}

// sum adds a counter of all loops up.
func (s *gauges) sum(counter func(*Stats) uint64) (n uint64) {
	for _, l := range s.all {
		n += counter(&l.stats)
	}
	return n
}

func (s *gauges) closedFor(why Reason) uint64 {
	return s.sum(func(st *Stats) uint64 { return st.Closed[why].Load() })
}

func (s *gauges) deliveries() uint64 {
	return s.sum(func(st *Stats) uint64 { return st.Deliveries.Load() })
}

func (s *gauges) blocked() uint64 {
	return s.sum(func(st *Stats) uint64 { return uint64(st.Blocked.Load()) })
}

func (s *gauges) pushBacks() uint64 {
	return s.sum(func(st *Stats) uint64 { return st.PushBacks.Load() })
}

func (s *gauges) received() uint64 {
	return s.sum(func(st *Stats) uint64 { return st.Messages.Load() })
}

func (s *gauges) bytesIn() uint64 {
	return s.sum(func(st *Stats) uint64 { return st.BytesIn.Load() })
}

func (s *gauges) held() (bytes int64) {
	for _, l := range s.all {
		bytes += l.stats.Held.Load()
	}
	return bytes
}

func (s *gauges) skips() uint64 { return s.sum(func(st *Stats) uint64 { return st.Skips.Load() }) }

func (s *gauges) dropped(why Reason) uint64 {
	return s.sum(func(st *Stats) uint64 { return st.Dropped[why].Load() })
}

// wantClosed waits until so many connections have ended for a reason.
func (s *gauges) wantClosed(why Reason, n uint64) {
	s.t.Helper()
	clienttest.WaitFor(s.t, fmt.Sprintf("%d connections to end for %v", n, why), func() bool { return s.closedFor(why) >= n })
	if got := s.closedFor(why); got != n {
		s.t.Errorf("%d connections ended for %v, want %d", got, why, n)
	}
}

// wantClosing waits until so many connections are being closed for a reason.
func (s *gauges) wantClosing(why Reason, n int) {
	s.t.Helper()
	clienttest.WaitFor(s.t, fmt.Sprintf("%d connections to be closed for %v", n, why), func() bool { return s.closingFor(why) == n })
}

func (s *gauges) closingFor(why Reason) (n int) {
	s.t.Helper()
	s.do(func(l *Loop) {
		for _, c := range l.conns {
			if c.Phase != phaseOpen && c.reason == why {
				n++
			}
		}
	})
	return n
}

func (s *gauges) wantClosedOrClosing(why Reason) {
	s.t.Helper()
	clienttest.WaitFor(s.t, "the end for "+why.String(), func() bool { return s.closedFor(why) > 0 || s.closingFor(why) > 0 })
}

// loopOf finds the loop that a client's connection lives on.
func (s *gauges) loopOf(c *clienttest.Client) (index int) {
	c.T.Helper()
	before := make([]uint64, len(s.all))
	for i, l := range s.all {
		before[i] = l.stats.BytesIn.Load()
	}
	c.Send(clienttest.Ping("which loop reads it?"))
	for op := ws.OpPing; op != ws.OpPong; { // the loop may ping as well
		var err error
		if op, _, err = c.Next(); err != nil || op != ws.OpPing && op != ws.OpPong {
			c.T.Fatalf("want a pong, got a frame of opcode %#x, %v", op, err)
		}
	}
	s.quiet()
	for i, l := range s.all {
		if l.stats.BytesIn.Load() != before[i] {
			return i
		}
	}
	c.T.Fatal("no loop read the client")
	return -1
}

// wantLevels waits until the one connection's bucket has as much in it, or a second
// has run out of it meanwhile.
func (s *gauges) wantLevels(n rate.Level) {
	s.t.Helper()
	clienttest.WaitFor(s.t, "the frames to be counted", func() (reached bool) {
		s.do(func(l *Loop) {
			for _, c := range l.conns {
				reached = c.extra().levels.control+c.extra().levels.messages >= n || l.now != c.heard
			}
		})
		return reached
	})
}

// wantLoopsEmpty sees that nothing is left of the clients of loops that have ended.
func (s *gauges) wantLoopsEmpty() {
	s.t.Helper()
	for _, l := range s.all {
		if st := &l.stats; st.Connections.Load() != 0 || st.Blocked.Load() != 0 || st.Held.Load() != 0 {
			s.t.Errorf("loop %d keeps %d connections, %d of them blocked, and %d bytes",
				l.index, st.Connections.Load(), st.Blocked.Load(), st.Held.Load())
		}
		if n := len(l.users); n != 0 {
			s.t.Errorf("loop %d keeps %d users", l.index, n)
		}
		if len(l.conns)+len(l.due)+len(l.groups)+len(l.dead) != 0 { // the loop has ended: nobody else looks
			s.t.Errorf("loop %d keeps %d connections, %d dues, %d groups and %d dead", l.index, len(l.conns), len(l.due), len(l.groups), len(l.dead))
		}
	}
}
