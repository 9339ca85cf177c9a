package loop

import (
	"strings"
	"testing"

	"sluice/gateway/clienttest"
)

func TestMessagesAndControlFramesHaveARate(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		why    string
		cfg    loopsConfig
		target string
		frame  string
		reason Reason
	}{
		{"messages", loopsConfig{MessageRate: 10}, "/ws/x?echo=off", clienttest.Text("m"), ReasonMessageRate},
		{"echoes", loopsConfig{MessageRate: 10}, "/echo", clienttest.Text(""), ReasonMessageRate},
		{"pings", loopsConfig{ControlRate: 10}, "/ws/x", clienttest.Ping("p"), ReasonControlRate},
		{"pongs", loopsConfig{ControlRate: 10}, "/ws/x", clienttest.Pong("p"), ReasonControlRate},
	} {
		t.Run(c.why, func(t *testing.T) {
			t.Parallel()
			c.cfg.PingInterval = -1
			s := startLoops(t, c.cfg)
			conn := clienttest.Dial(t, s, c.target)
			conn.Send(strings.Repeat(c.frame, 20)) // twice the rate at once
			s.wantLevels(20)
			for range 3 {
				s.pass(1)
				conn.Send(strings.Repeat(c.frame, 10))
				s.wantLevels(20)
			}
			s.pass(60)
			conn.Send(strings.Repeat(c.frame, 20))
			s.wantLevels(20)
			s.wantConnections(1)
			conn.Send(strings.Repeat(c.frame, 150)) // more than may be read within seconds of a slow machine
			if _, code, _ := conn.Texts(); code != 1008 {
				t.Errorf("close code %d, want 1008", code)
			}
			conn.EndClose("it is told why")
			s.wantClosed(c.reason, 1)
		})
	}
}

func TestBurstIsTwiceTheRate(t *testing.T) {
	t.Parallel()
	for _, rate := range []int{1, 10, 127, 128, 1000, 100_000} {
		var c Conn
		c.loop = &Loop{rates: ClientRates{Message: rateOf(rate, 0)}}
		n := 0
		for ; n < 3*rate && c.MayMessage(); n++ {
		}
		if n != 2*rate {
			t.Errorf("a rate of %d lets %d through at once", rate, n)
		}
		c.loop.now++
		c.hear()
		for n = 0; n < 3*rate && c.MayMessage(); n++ {
		}
		if n != rate {
			t.Errorf("a second brings %d of %d", n, rate)
		}
	}
}

func TestDefaultRatesAreNotForThisMachine(t *testing.T) {
	t.Parallel()
	s := startLoops(t, loopsConfig{PingInterval: -1})
	c := clienttest.Dial(t, s, "/ws/x?echo=off")
	c.Send(strings.Repeat(clienttest.Text("m"), 10*100) + strings.Repeat(clienttest.Pong(""), 10*10))
	c.Settle(s)
	other := clienttest.Dial(t, s, "/ws/x?echo=off")
	s.do(func(l *Loop) {
		for _, c := range l.conns {
			c.bits &^= bitLocal
		}
	})
	other.Send(strings.Repeat(clienttest.Pong(""), 10*10))
	other.WantClose("from elsewhere", 1008)
}

// A client that keeps to the rate is not closed because the gateway did not read it for
// a while.
func TestParkedPublishersAreNotPunished(t *testing.T) {
	t.Parallel()
	const rate, parked = 10, 6 // seconds
	s := startLoops(t, loopsConfig{Loops: 1, MessageRate: rate, MaxMessage: 16 << 10, ChannelBuffer: 64 << 10, PingInterval: -1, WriteTimeout: -1})
	c := clienttest.Dial(t, s, "/ws/x?echo=off")
	c.Send(clienttest.Text("first"))
	clienttest.WaitFor(t, "the first", func() bool { return s.received() == 1 })
	s.do(func(l *Loop) { // as a publication that finds the log full
		for _, c := range l.conns {
			c.await(holding())
			c.putOff([]byte(clienttest.Text("held")))
			c.Settle()
		}
	})
	for range parked {
		c.Send(strings.Repeat(clienttest.Text("m"), rate))
		s.pass(1)
	}
	s.do(func(l *Loop) {
		for _, c := range l.conns {
			c.Resume()
		}
	})
	clienttest.WaitFor(t, "its messages to be taken", func() bool { return s.received() == rate*parked+2 || s.connections() == 0 })
	if n := s.closedFor(ReasonMessageRate) + uint64(s.closingFor(ReasonMessageRate)); n != 0 {
		t.Errorf("a publisher of %d messages a second was closed for its rate after %d s in which it was not read: %d of %d messages were taken",
			rate, parked, s.received(), rate*parked+2)
	}
}
