package loop

import (
	"strings"
	"testing"
	"time"

	"sluice/gateway/clienttest"
)

func TestMessagesMustBeFinishedInTime(t *testing.T) {
	t.Parallel()
	whole := clienttest.Text(strings.Repeat("x", 1000))
	for _, c := range []struct {
		why  string
		send []string // one each second, then nothing
	}{
		{"a byte of a head", []string{"\x81"}},
		{"half a frame", []string{whole[:500]}},
		{"half a message with pings in between", []string{clienttest.Part(0x01, "half"), clienttest.Ping("a"), clienttest.Part(0x00, "more"), clienttest.Ping("a"), clienttest.Pong("")}},
		{"bytes that come one by one", strings.Split(whole[:30], "")},
		{"half a frame behind a whole one", []string{whole + whole[:7]}},
	} {
		t.Run(c.why, func(t *testing.T) {
			t.Parallel()
			s := startLoops(t, loopsConfig{PingInterval: -1, MessageTimeout: 10 * time.Second})
			conn := clienttest.Dial(t, s, "/ws/x?echo=off")
			for i, p := range c.send {
				if s.closingFor(ReasonMessageTimeout) > 0 {
					if i < 9 {
						t.Errorf("closed after %d s", i)
					}
					break
				}
				got := s.bytesIn()
				conn.Send(p)
				clienttest.WaitFor(t, "it to come", func() bool { return s.bytesIn() > got || s.closingFor(ReasonMessageTimeout) > 0 })
				s.pass(1)
			}
			s.pass(11)
			s.wantClosedOrClosing(ReasonMessageTimeout)
			for {
				op, p, err := conn.Next()
				if err != nil {
					t.Fatal(err)
				}
				if op.IsControl() && len(p) > 1 {
					conn.IsClose("it is told why", op, p, 1008)
					break
				}
			}
		})
	}
}

func TestMessageThatTricklesButEndsInTimeIsTaken(t *testing.T) {
	t.Parallel()
	s := startLoops(t, loopsConfig{PingInterval: -1, MessageTimeout: time.Minute})
	c := clienttest.Dial(t, s, "/ws/x")
	for range 3 { // each has its own time
		p := clienttest.Text("slow but in time")
		for i := range len(p) {
			got := s.bytesIn()
			c.Send(p[i : i+1])
			clienttest.WaitFor(t, "a byte to come", func() bool { return s.bytesIn() > got })
			s.pass(2)
		}
		c.WantText("in time", "slow but in time")
	}
	s.pass(120)
	c.Settle(s)
}

// What lies behind a message that waits for room has not begun for us.
func TestMessageTimeoutIsNotForWhatWeDoNotRead(t *testing.T) {
	t.Parallel()
	s := startLoops(t, loopsConfig{Loops: 1, PingInterval: -1, WriteTimeout: -1, MessageTimeout: 10 * time.Second})
	c := clienttest.Dial(t, s, "/ws/x")
	half := clienttest.Text("the half")
	s.do(func(l *Loop) {
		for _, c := range l.conns {
			c.await(holding())
			c.putOff([]byte(half[:5]))
			c.Settle()
		}
	})
	s.pass(60)
	s.do(func(l *Loop) {
		for _, c := range l.conns {
			c.Resume()
		}
	})
	s.pass(5)
	c.Send(half[5:])
	c.WantText("it was parked", "the half")
}
