package loop

import (
	"strings"
	"testing"
	"time"

	"sluice/gateway/clienttest"
)

// One reader that takes half of what is published must not slow the others down for
// good, though it never stands still for long, in whatever format.
func TestReaderAtHalfSpeedIsCutWhenOthersKeepUp(t *testing.T) {
	clienttest.UncompressedOnly(t)
	for _, target := range []string{"/ws/x", "/sse/x?format=json"} {
		t.Run(target, func(t *testing.T) { testReaderAtHalfSpeed(t, target) })
	}
}

func testReaderAtHalfSpeed(t *testing.T, target string) {
	s := startLoops(t, loopsConfig{Loops: 2, SendBuffer: 4 << 10, ChannelBuffer: 128 << 10, MaxMessage: 8 << 10, PingInterval: -1, WriteTimeout: -1})
	fast := []*clienttest.Client{clienttest.Dial(t, s, "/ws/x"), clienttest.Dial(t, s, "/ws/x"), clienttest.Dial(t, s, "/ws/x")}
	slow := clienttest.ConnectWith(t, s, 4<<10)
	if strings.HasPrefix(target, "/sse") {
		slow.Stream(target)
	} else {
		slow.Upgrade(target)
	}
	s.do(func(l *Loop) {
		for _, g := range l.groups { // it has held back for a while; all of them are the channel's
			g.Charge(5 * time.Second)
		}
	})
	go func() { // a little all the time, so that it is never found standing still
		part := make([]byte, 512)
		pace := time.NewTicker(2 * time.Millisecond)
		defer pace.Stop()
		for range pace.C {
			if _, err := slow.Conn.Read(part); err != nil {
				return
			}
		}
	}()
	cut := func() bool { return s.closingFor(ReasonSlow)+int(s.closedFor(ReasonSlow)) > 0 }
	for end := time.Now().Add(clienttest.Patience); !cut(); {
		if time.Now().After(end) {
			t.Fatal("it is not cut, and everybody goes at its pace")
		}
		s.publish("x", clienttest.Stars(4000))
		for _, c := range fast {
			c.WantText("who keeps up loses nothing", clienttest.Stars(4000))
		}
	}
}

// Once the time is used up, a newcomer that has never got on since its socket was full
// holds nobody back, not for a moment, and the next one does not either. Others are tried once more.
func TestNewcomersThatNeverReadGetNoGrace(t *testing.T) {
	s := startLoops(t, tiny)
	var fast []*Conn
	for range 3 {
		_, c := loopPair(t, s, "x", 0)
		fast = append(fast, c)
	}
	_, known := loopPair(t, s, "x", 4<<10)
	_, newcomer := loopPair(t, s, "x", 4<<10)
	s.do(func(l *Loop) {
		loopFill(t, l, "x", 700)
		g := loopGroup(l, "x")
		known.bits |= bitTook
		g.sweep(turnWrites)
		if newcomer.Phase != phaseOpen || g.notBefore.IsZero() {
			t.Errorf("there is time left, and it is closed for %v", newcomer.reason)
		}
		g.Charge(6 * time.Second)
		loopAfter(l, time.Millisecond) // in which the others wait
		g.sweep(turnWrites)
		if newcomer.reason != ReasonSlow {
			t.Errorf("the time is used up, and it is closed for %v", newcomer.reason)
		}
		g.sweep(turnWrites)
		if known.reason != ReasonSlow {
			t.Errorf("the time is used up, and the other one is closed for %v", known.reason)
		}
		loopCheckGroup(t, g)
		for i, c := range fast {
			if c.Phase != phaseOpen || c.behind() {
				t.Errorf("reader %d is behind: %v, closed for %v", i, c.behind(), c.reason)
			}
		}
	})
}

// Where most are behind alike the publishers are too fast, and nobody is cut who takes bytes.
func TestThoseWhoTakeBytesStayWhereAllAreBehind(t *testing.T) {
	s := startLoops(t, tiny)
	var conns []*Conn
	for range 4 {
		_, c := loopPair(t, s, "x", 4<<10)
		conns = append(conns, c)
	}
	s.do(func(l *Loop) {
		loopFill(t, l, "x", 700)
		g := loopGroup(l, "x")
		g.Charge(10 * time.Second)
		g.sweep(turnWrites)
		loopAfter(l, 2*pressGrace)
		for _, c := range conns[1:] {
			loopStood(c, 0)
		}
		g.sweep(turnWrites)
		for i, c := range conns {
			if slow := c.reason == ReasonSlow; slow != (i == 0) {
				t.Errorf("connection %d of %d that are behind is closed for %v", i, len(conns), c.reason)
			}
		}
		loopAfter(l, pressTakes*pressGrace)
		g.sweep(turnWrites)
		if loopGroup(l, "x") != nil {
			t.Errorf("%d hold the channel back for ever", len(g.subs))
		}
	})
	s.wantClosedOrClosing(ReasonSlow)
}
