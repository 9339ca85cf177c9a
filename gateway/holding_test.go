package gateway

import (
	"testing"
	"time"
)

// One reader that takes half of what is published must not slow the others down for
// good, though it never stands still for long.
func TestReaderAtHalfSpeedIsCutWhenOthersKeepUp(t *testing.T) {
	s := start(t, Config{Loops: 1, ChannelBuffer: 128 << 10, MaxMessage: 8 << 10, PingInterval: -1, WriteTimeout: -1})
	fast := []*client{dial(t, s, "/ws/x"), dial(t, s, "/ws/x")}
	slow := dialSmall(t, s, "/ws/x")
	s.do(func(l *loop) {
		g := loopGroup(l, "x")
		g.held.total, g.held.since = holdingMax, time.Now() // it has held back for a while
	})
	go func() { // a little all the time, so that it is never found standing still
		part := make([]byte, 512)
		for {
			if _, err := slow.conn.Read(part); err != nil {
				return
			}
			time.Sleep(2 * time.Millisecond)
		}
	}()
	cut := func() bool { return s.closing(reasonSlow)+int(s.closedFor(reasonSlow)) > 0 }
	for end := time.Now().Add(patience / 2); !cut(); {
		if time.Now().After(end) {
			t.Fatal("it is not cut, and everybody goes at its pace")
		}
		s.publish("x", stars(4000))
		for _, c := range fast {
			c.wantText("who keeps up loses nothing", stars(4000))
		}
	}
}

func TestHoldingBackIsForgottenInTime(t *testing.T) {
	var h holding
	now := time.Now()
	h.begins(now)
	h.ends(now.Add(-2 * time.Second))
	if h.tooLong(0) || !h.tooLong(holdingMax) {
		t.Errorf("after 2 s: too long %v, with %v more %v", h.tooLong(0), holdingMax, h.tooLong(holdingMax))
	}
	h.begins(h.since.Add(4 * time.Second))
	if want := time.Second - holdingFree; h.total < want-50*time.Millisecond || h.total > want+50*time.Millisecond {
		t.Errorf("after 4 s more %v are left, want about %v", h.total, want)
	}
	h = holding{}
	for range 100 {
		h.begins(time.Now())
		h.ends(time.Now().Add(-holdingFree / 2))
	}
	if h.total != 0 {
		t.Errorf("%v are counted for moments", h.total)
	}
}
