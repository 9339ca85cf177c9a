package gateway

import (
	"strings"
	"testing"
	"time"
)

// One reader that takes half of what is published must not slow the others down for
// good, though it never stands still for long, in whatever format.
func TestReaderAtHalfSpeedIsCutWhenOthersKeepUp(t *testing.T) {
	for _, target := range []string{"/ws/x", "/sse/x?format=json"} {
		t.Run(target, func(t *testing.T) { testReaderAtHalfSpeed(t, target) })
	}
}

func testReaderAtHalfSpeed(t *testing.T, target string) {
	s := start(t, Config{Loops: 2, SendBuffer: 4 << 10, ChannelBuffer: 128 << 10, MaxMessage: 8 << 10, PingInterval: -1, WriteTimeout: -1})
	fast := []*client{dial(t, s, "/ws/x"), dial(t, s, "/ws/x"), dial(t, s, "/ws/x")}
	slow := connectWith(t, s, 4<<10)
	if strings.HasPrefix(target, "/sse") {
		slow.stream(target)
	} else {
		slow.upgrade(target)
	}
	s.do(func(l *loop) {
		for _, g := range l.groups { // it has held back for a while; all of them are the channel's
			g.Charge(5 * time.Second)
		}
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

// Once the time is used up, a newcomer that has never got on since its socket was full
// holds nobody back, not for a moment, and the next one does not either. Others are tried once more.
func TestNewcomersThatNeverReadGetNoGrace(t *testing.T) {
	s := start(t, tiny)
	var fast []*conn
	for range 3 {
		_, c := loopPair(t, s, "x", 0)
		fast = append(fast, c)
	}
	_, known := loopPair(t, s, "x", 4<<10)
	_, newcomer := loopPair(t, s, "x", 4<<10)
	s.do(func(l *loop) {
		loopFill(t, l, "x", 700)
		g := loopGroup(l, "x")
		known.bits |= bitTook
		g.sweep(turnWrites)
		if newcomer.phase != phaseOpen || g.notBefore.IsZero() {
			t.Errorf("there is time left, and it is closed for %v", newcomer.reason)
		}
		g.Charge(6 * time.Second)
		g.sweep(turnWrites)
		if newcomer.reason != reasonSlow {
			t.Errorf("the time is used up, and it is closed for %v", newcomer.reason)
		}
		g.sweep(turnWrites)
		if known.reason != reasonSlow {
			t.Errorf("the time is used up, and the other one is closed for %v", known.reason)
		}
		loopCheckGroup(t, g)
		for i, c := range fast {
			if c.phase != phaseOpen || c.behind() {
				t.Errorf("reader %d is behind: %v, closed for %v", i, c.behind(), c.reason)
			}
		}
	})
}

// Where most are behind alike the publishers are too fast, and nobody is cut who takes bytes.
func TestThoseWhoTakeBytesStayWhereAllAreBehind(t *testing.T) {
	s := start(t, tiny)
	var conns []*conn
	for range 4 {
		_, c := loopPair(t, s, "x", 4<<10)
		conns = append(conns, c)
	}
	s.do(func(l *loop) {
		loopFill(t, l, "x", 700)
		g := loopGroup(l, "x")
		g.Charge(10 * time.Second)
		g.sweep(turnWrites)
		g.pressedAt = g.pressedAt.Add(-2 * pressGrace)
		loopStood(conns[0], longer)
		g.sweep(turnWrites)
		for i, c := range conns {
			if slow := c.reason == reasonSlow; slow != (i == 0) {
				t.Errorf("connection %d of %d that are behind is closed for %v", i, len(conns), c.reason)
			}
		}
		g.pressedAt = g.pressedAt.Add(-pressTakes * pressGrace)
		g.sweep(turnWrites)
		if loopGroup(l, "x") != nil {
			t.Errorf("%d hold the channel back for ever", len(g.subs))
		}
	})
	s.wantClosedOrClosing(reasonSlow)
}
