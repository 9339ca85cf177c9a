package loop

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"sluice/gateway/clienttest"
	"sluice/poller"
)

// latencyRig has subscribers of channel x on a loop, which runs nothing else while a test is on it.
type latencyRig struct {
	testing.TB
	*Loop
	socks []int // the clients' ends
	conns []*Conn
	part  []byte
}

// withLatencyRig calls f on the loop.
func withLatencyRig(t *testing.T, f func(m *latencyRig)) {
	t.Parallel()
	s := startLoops(t, loopsConfig{Loops: 1, PingInterval: -1, WriteTimeout: -1, ChannelBuffer: 1 << 20})
	s.do(func(l *Loop) {
		m := &latencyRig{TB: t, Loop: l, part: make([]byte, 256<<10)}
		f(m)
		for _, c := range m.conns {
			c.kill(ReasonReset)
		}
	})
}

// join adds a subscriber of channels.
func (m *latencyRig) join(sendBuffer int, channels ...string) *Conn {
	pair := loopSockets(m, sendBuffer)
	c := loopWatched(m, m.Loop, pair[0])
	loopJoin(m, c, channels...)
	m.socks, m.conns = append(m.socks, pair[1]), append(m.conns, c)
	return c
}

func (m *latencyRig) publish(texts ...string) {
	m.Helper()
	for _, text := range texts {
		if err := loopPublish(m.Loop, "x", text, 0); err != nil {
			m.Error(err)
		}
	}
}

// turn delivers the notifications, and makes one sweep.
func (m *latencyRig) turn() {
	loopDeliver(m.Loop)
	m.sweep()
}

// drain reads what the clients were sent.
func (m *latencyRig) drain() {
	for _, fd := range m.socks {
		for n := 1; n > 0; {
			n, _ = poller.Read(fd, m.part) // its error shows in what was measured
		}
	}
}

// wantMeasured checks how many times were measured, and that the last of them is least or more.
func (m *latencyRig) wantMeasured(why string, n uint64, sumBefore, least time.Duration) (sum time.Duration) {
	m.Helper()
	counts, sum := m.stats.Delivery.Load()
	if got := m.stats.Delivery.Count(); got != n || sum-sumBefore < least {
		m.Errorf("%s: %d times measured, the last of them %v, want %d and at least %v: %d", why, got, sum-sumBefore, n, least, counts)
	}
	return sum
}

// pause is the time that a test lets pass to find it in a measurement.
const pause = 20 * time.Millisecond

func TestLatencyIsTheOldestPublicationsToTheLastWrite(t *testing.T) {
	withLatencyRig(t, func(m *latencyRig) {
		for range 3 {
			m.join(0, "x")
		}
		begun := time.Now()
		m.publish("the oldest")
		time.Sleep(pause)
		m.publish("a second", "a third")
		sum := m.wantMeasured("before the sweep", 0, 0, 0)
		m.turn()
		sum = m.wantMeasured("three that went out together", 1, sum, pause)
		if whole := time.Since(begun); sum > whole {
			t.Errorf("measured %v of %v", sum, whole)
		}
		m.turn()
		m.wantMeasured("nothing is published", 1, sum, 0)
		m.publish("one more")
		m.turn()
		m.wantMeasured("one more", 2, sum, 0)

		// A sweep that is paused between two subscribers ends later.
		sum = m.wantMeasured("one more", 2, 0, 0)
		most := m.turnWrites
		defer func() { m.turnWrites = most }()
		m.turnWrites = 1
		m.publish("in parts")
		m.turn()
		m.turn()
		m.wantMeasured("one subscriber is left", 2, sum, 0)
		time.Sleep(pause)
		m.turn()
		m.turn()
		m.wantMeasured("to the last", 3, sum, pause)
	})
}

// A subscriber whose socket refuses bytes reads when it likes: that is not the gateway's latency.
func TestLatencyIsNotThatOfBlockedSubscribers(t *testing.T) {
	withLatencyRig(t, func(m *latencyRig) {
		slow := m.join(4<<10, "x")
		for n := 0; !slow.has(bitBlocked); n++ {
			if n == 100 {
				t.Error("its socket takes everything")
				return
			}
			m.publish(strings.Repeat("x", 8<<10))
			m.turn()
		}
		n, sum := m.stats.Delivery.Count(), m.wantMeasured("until it was blocked", m.stats.Delivery.Count(), 0, 0)
		m.publish("it gets this later")
		m.turn()
		m.wantMeasured("all are blocked", n, sum, 0)

		m.join(0, "x")
		time.Sleep(pause)
		begun := time.Now()
		m.publish("the other gets this")
		m.turn()
		if _, now := m.stats.Delivery.Load(); now-sum > time.Since(begun) {
			t.Errorf("measured %v: since the one before, which nobody was sent", now-sum)
		}
		m.wantMeasured("one takes bytes", n+1, sum, 0)
	})
}

// What is more than a write takes goes out in several sweeps, and is there with the last of them.
func TestLatencyOfMoreThanAWriteTakes(t *testing.T) {
	for name, channels := range map[string][]string{"straight from the log": {"x"}, "through the cork": {"x", "y"}} {
		t.Run(name, func(t *testing.T) {
			withLatencyRig(t, func(m *latencyRig) {
				most := m.turnWrites
				defer func() { m.turnWrites = most }()
				m.turnWrites = 1 // one sweep in a turn
				c := m.join(0, channels...)
				large := strings.Repeat("x", corkBytes/2-100)
				m.publish(large, large, large, large, large)
				for sweep := range 2 {
					m.turn()
					m.drain()
					m.wantMeasured(fmt.Sprint("sweep ", sweep), 0, 0, 0)
					time.Sleep(pause)
				}
				// What comes meanwhile is not waited for: else there would be no end, as long as more is
				// published than a sweep sends.
				m.publish(large, large, large)
				m.turn()
				m.drain()
				sum := m.wantMeasured("all that there was", 1, 0, 2*pause)
				for range 3 {
					m.turn()
					m.drain()
				}
				m.wantMeasured("what came meanwhile", 1, sum, 0)
				m.publish(large, large, large)
				m.turn()
				m.wantMeasured("two of the next three", 1, sum, 0)
				m.turn()
				m.wantMeasured("the next three", 2, sum, 0)
				if c.behind() || c.has(bitBlocked) {
					t.Errorf("it is behind: %v, blocked: %v", c.behind(), c.has(bitBlocked))
				}
			})
		})
	}
}

func TestLatencyIsMeasuredOnEachLoop(t *testing.T) {
	t.Parallel()
	s := startLoops(t, loopsConfig{Loops: 2})
	var clients []*clienttest.Client
	for range 6 {
		clients = append(clients, clienttest.Dial(t, s, "/ws/x"))
	}
	begun := time.Now()
	for i := range uint64(5) {
		s.publish("x", "text")
		for _, c := range clients {
			c.WantText("everybody gets it", "text")
		}
		for _, l := range s.all { // the last write's end may be noted after it is read
			clienttest.WaitFor(t, "its loop to measure", func() bool { return l.stats.Delivery.Count() == i+1 })
		}
	}
	for _, l := range s.all {
		if _, sum := l.stats.Delivery.Load(); sum <= 0 || sum > time.Since(begun) {
			t.Errorf("loop %d measured %v in %v", l.index, sum, time.Since(begun))
		}
	}
}

func TestHistogramCountsUpToEachBound(t *testing.T) {
	var h Histogram
	last := len(LatencyBounds) - 1
	for _, d := range []time.Duration{-time.Second, 0, LatencyBounds[0], LatencyBounds[0] + 1, LatencyBounds[last], LatencyBounds[last] + 1, time.Hour} {
		h.observe(d)
	}
	want := make([]uint64, len(LatencyBounds)+1)
	want[0], want[1], want[last], want[last+1] = 3, 1, 1, 2
	counts, sum := h.Load()
	if fmt.Sprint(counts) != fmt.Sprint(want) || h.Count() != 7 {
		t.Errorf("got %d, want %d", counts, want)
	}
	if want := 2*LatencyBounds[0] + 2*LatencyBounds[last] + 2 + time.Hour; sum != want {
		t.Errorf("the sum is %v, want %v", sum, want)
	}
}
