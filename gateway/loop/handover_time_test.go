package loop

import (
	"testing"
	"time"

	"sluice/gateway/clienttest"
)

// What was due in the other process by the times of this one is due: a process that takes over has just begun, and its
// settings may have shorter times.
func TestHandOverOfWhatIsDue(t *testing.T) {
	if *clienttest.OverTLS {
		t.Skip("connections with TLS cannot be handed over")
	}
	t.Parallel()
	long := loopsConfig{PingInterval: 100 * time.Second, PongTimeout: 100 * time.Second, MessageTimeout: 100 * time.Second}
	short := loopsConfig{PingInterval: 10 * time.Second, PongTimeout: 5 * time.Second, MessageTimeout: 5 * time.Second}
	t.Run("a ping", func(t *testing.T) {
		t.Parallel()
		a, b := startLoops(t, long), startLoops(t, short)
		cl := clienttest.Dial(t, a, "/ws")
		a.pass(30)
		handOver(t, a, b, 1, true)
		for range 3 {
			b.pass(1)
			cl.WantPing("more than 10 s of silence")
			cl.Send(clienttest.Pong(""))
			cl.Settle(b)
			b.pass(10)
		}
	})
	t.Run("a pong", func(t *testing.T) {
		t.Parallel()
		of := long
		of.PingInterval = time.Second
		a, b := startLoops(t, of), startLoops(t, short)
		cl := clienttest.Dial(t, a, "/ws")
		a.pass(2)
		cl.WantPing("a second of silence")
		a.pass(30)
		handOver(t, a, b, 1, true)
		b.pass(2)
		cl.WantClose("it did not answer in 5 s", 1008)
	})
	t.Run("the rest of a message", func(t *testing.T) {
		t.Parallel()
		a, b := startLoops(t, long), startLoops(t, short)
		cl := clienttest.Dial(t, a, "/ws")
		begun := func() (some bool) {
			a.do(func(l *Loop) {
				for _, c := range l.conns {
					some = some || c.midMessage()
				}
			})
			return some
		}
		cl.Write(clienttest.Text("abc")[:4])
		clienttest.WaitFor(t, "the message to begin", begun)
		a.pass(30)
		handOver(t, a, b, 1, true)
		b.pass(2)
		cl.WantClose("its message was not complete after 5 s", 1008)
	})
	t.Run("bytes that the socket takes", func(t *testing.T) {
		t.Parallel()
		of := long
		of.WriteTimeout = 100 * time.Second
		short := short
		short.WriteTimeout = 5 * time.Second
		a, b := startLoops(t, of), startLoops(t, short)
		clienttest.DialSmall(t, a, "/ws/x")
		for a.blocked() == 0 {
			a.publish("x", clienttest.Stars(1000))
			a.quiet()
		}
		a.pass(30)
		handOver(t, a, b, 1, true)
		b.pass(2)
		b.pass(10) // in which it does not take the Close frame
		b.wantClosed(ReasonWriteTimeout, 1)
	})
}

// A client whose socket refuses bytes has its grace in the other process, however long that has waited for it.
func TestHandOverGivesAGrace(t *testing.T) {
	if *clienttest.OverTLS {
		t.Skip("connections with TLS cannot be handed over")
	}
	t.Parallel()
	cfg := loopsConfig{PingInterval: -1, WriteTimeout: -1}
	a, b := startLoops(t, cfg), startLoops(t, cfg)
	b.pass(0)
	clienttest.DialSmall(t, a, "/ws/x")
	for a.blocked() == 0 {
		a.publish("x", clienttest.Stars(1000))
		a.quiet()
	}
	g, taking := frozen(t, a, b, nil)
	b.clock.Advance(10 * time.Second)
	completed(t, a, b, g, taking)
	b.do(func(l *Loop) {
		for _, c := range l.conns {
			if !c.has(bitBlocked) || c.stoodStill(2*time.Second) {
				t.Errorf("blocked: %v, stands still for 2 s: %v", c.has(bitBlocked), c.stoodStill(2*time.Second))
			}
		}
	})
}
