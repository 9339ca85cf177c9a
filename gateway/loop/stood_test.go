package loop

import (
	"testing"
	"time"

	"sluice/gateway/clienttest"
	"sluice/poller"
)

// loopStood lets a blocked connection have taken nothing for so long. Longer than the
// grace is longer than all of it.
func loopStood(c *Conn, d time.Duration) { c.tookAt = c.loop.clock() - uint8(d/clockUnit) }

const longer = pressGrace + clockUnit

// loopFull fills the log of a channel with subscribers whose sockets are full, and one
// who reads. Then it does something on the loop before that sees it.
func loopFull(t *testing.T, s *loops, n int, do func(l *Loop, g *Group, conns []*Conn, fds []int)) {
	t.Helper()
	var conns []*Conn
	var fds []int
	for range n {
		fd, c := loopPair(t, s, "x", 4<<10)
		fds, conns = append(fds, fd), append(conns, c)
	}
	_, fast := loopPair(t, s, "x", 0)
	s.do(func(l *Loop) {
		loopAfter(l, 10*time.Second) // its clock is not at the beginning
		loopFill(t, l, "x", 700)
		for i, c := range conns {
			if !c.has(bitBlocked) || !c.behind() || c.stoodStill(pressGrace) {
				t.Errorf("connection %d is not blocked behind a full log, or for too long already", i)
			}
		}
		if fast.behind() {
			t.Error("who reads is behind")
		}
		do(l, loopGroup(l, "x"), conns, fds)
	})
}

// drained reads what a socket has.
func drained(t *testing.T, fd int) (n int) {
	t.Helper()
	part := make([]byte, 4<<10)
	for {
		m, err := poller.Read(fd, part)
		if err != nil {
			t.Error(err)
		}
		if m == 0 {
			return n
		}
		n += m
	}
}

// Whoever has taken nothing for a second when the log becomes full has had its grace:
// nobody waits for it, nor for the end of a sweep. Each turn cuts as many as it may.
func TestPublisherDoesNotWaitForWhoStoodStill(t *testing.T) {
	for name, paused := range map[string]bool{"between sweeps": false, "in a sweep": true} {
		t.Run(name, func(t *testing.T) {
			s := startLoops(t, tiny)
			loopFull(t, s, 6, func(l *Loop, g *Group, conns []*Conn, _ []int) {
				for _, c := range conns {
					loopStood(c, longer)
				}
				if paused { // it began before the log was full
					g.sweeping, g.next, g.low = true, 3, g.subs[0].cursor
				}
				const most = 2
				for range len(conns) / most {
					if err := loopPublish(l, "x", clienttest.Stars(700), 0); err == nil {
						t.Error("there is room already")
					}
					g.sweep(most)
				}
				if !g.pressedAt.IsZero() || !g.notBefore.IsZero() {
					t.Error("somebody gets a grace")
				}
				if err := loopPublish(l, "x", clienttest.Stars(700), 0); err != nil {
					t.Errorf("a publisher has to wait: %v", err)
				}
				served := g.subs[len(conns)].cursor
				g.sweep(turnWrites)
				loopCheckGroup(t, g)
				if len(g.subs) != 1 || g.low < served {
					t.Errorf("%d subscribers are left, want the one who reads; served up to %d after %d", len(g.subs), g.low, served)
				}
			})
			s.wantClosedOrClosing(ReasonSlow)
		})
	}
}

// The last subscriber of a channel may be dismissed as well.
func TestGroupThatIsDismissed(t *testing.T) {
	without := tiny
	without.History = -1
	s := startLoops(t, without)
	_, c := loopPair(t, s, "x", 4<<10)
	s.do(func(l *Loop) {
		loopFill(t, l, "x", 700)
		g := loopGroup(l, "x")
		loopStood(c, longer)
		g.sweep(turnWrites)
		loopCheckGroup(t, g)
		if loopGroup(l, "x") != nil || l.space.Find("x") != nil || len(g.subs) != 0 {
			t.Errorf("%d subscribers of a group that was dismissed as a whole", len(g.subs))
		}
	})
}

// Who has not stood still for long enough has its grace, and so has whoever goes on at
// the last try or closes already.
func TestOnlyWhoStoodStillIsNotWaitedFor(t *testing.T) {
	for name, spared := range map[string]func(t *testing.T, c *Conn, fd int){
		"not for long enough":  func(_ *testing.T, c *Conn, _ int) { loopStood(c, pressGrace/2) },
		"it takes bytes again": func(t *testing.T, c *Conn, fd int) { loopStood(c, longer); drained(t, fd) },
		"it is closing": func(_ *testing.T, c *Conn, _ int) {
			c.Close(ReasonShutdown)
			loopStood(c, longer)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := startLoops(t, tiny)
			loopFull(t, s, 2, func(_ *Loop, g *Group, conns []*Conn, fds []int) {
				loopStood(conns[0], longer)
				spared(t, conns[1], fds[1])
				g.sweep(turnWrites)
				if conns[0].reason != ReasonSlow || conns[1].reason == ReasonSlow || len(g.subs) != 2 {
					t.Errorf("closed for %v and %v, %d subscribers are left", conns[0].reason, conns[1].reason, len(g.subs))
				}
			})
		})
	}
}

// How long a batch of events has taken is no time in which a client stood still, or had its grace.
func TestALongBatchIsNoGrace(t *testing.T) {
	s := startLoops(t, tiny)
	_, c := loopPair(t, s, "x", 4<<10)
	s.do(func(l *Loop) {
		loopAfter(l, 10*time.Second)
		s.clock.Advance(pressTakes * longer) // the batch has taken so long when the socket becomes full
		loopFill(t, l, "x", 700)
		if !c.has(bitBlocked) {
			t.Error("the socket takes everything")
		}
		g := loopGroup(l, "x")
		g.sweep(turnWrites)
		l.readClock() // the next one comes at once
		g.sweep(turnWrites)
		if c.Phase != phaseOpen || g.pressedAt.IsZero() {
			t.Errorf("closed for %v, pressed at %v", c.reason, g.pressedAt)
		}
		s.clock.Advance(pressTakes * longer) // and so has one in which only the log becomes full
		g.pressedAt = time.Time{}
		g.again()
		g.sweep(turnWrites)
		l.readClock()
		if held := l.time.Sub(g.pressedAt); held > pressGrace {
			t.Errorf("it had %v of its grace at once", held)
		}
	})
}

// A large frame presses those who have a little to read as well, and whoever reads one
// has longer for it: standing still is nothing they could be blamed for.
func TestWhoMeetsALargeFrameHasItsGrace(t *testing.T) {
	const large = 20 << 10 // more than twice the log
	for name, size := range map[string]int{"behind a little": 700, "behind a large frame": large} {
		t.Run(name, func(t *testing.T) {
			s := startLoops(t, tiny)
			_, c := loopPair(t, s, "x", 4<<10)
			s.do(func(l *Loop) {
				for !c.has(bitBlocked) {
					if err := loopPublish(l, "x", clienttest.Stars(size), 0); err != nil {
						t.Error(err)
						return
					}
					loopDeliver(l)
					l.sweep()
				}
				if !c.behind() {
					if err := loopPublish(l, "x", clienttest.Stars(size), 0); err != nil {
						t.Error(err)
					}
				}
				if err := loopPublish(l, "x", clienttest.Stars(large), 0); err == nil {
					t.Error("a large frame goes in behind others")
				}
				loopStood(c, longer)
				loopDeliver(l)
				l.sweep()
				if c.Phase != phaseOpen || loopGroup(l, "x").pressedAt.IsZero() {
					t.Errorf("it is closed for %v", c.reason)
				}
			})
		})
	}
}

// A socket that takes a part of a write does not stand still, whatever the write is
// made of.
func TestSocketThatTakesAPartDoesNotStandStill(t *testing.T) {
	partly := func(t *testing.T, c *Conn) {
		t.Helper()
		loopStood(c, longer)
		if c.write(); !c.has(bitBlocked) || c.stoodStill(pressGrace) {
			t.Error("it has taken a part and is blamed for standing still")
		}
	}
	for name, flags := range map[string]uint8{"from the log, then the cork": 0, "from the cork": FlagNoEcho} {
		t.Run(name, func(t *testing.T) {
			s := startLoops(t, loopsConfig{Loops: 1, PingInterval: -1, WriteTimeout: -1})
			fd, c := loopPair(t, s, "x", 4<<10)
			s.do(func(l *Loop) {
				c.sub.sub().flags |= flags
				c.block()
				for range 3 {
					if err := loopPublish(l, "x", clienttest.Stars(50<<10), 0); err != nil {
						t.Error(err)
					}
				}
				partly(t, c)
				loopStood(c, longer)
				if c.write(); !c.stoodStill(pressGrace) {
					t.Error("it takes nothing and does not stand still")
				}
				if drained(t, fd) == 0 {
					t.Error("nothing has come")
				}
				partly(t, c)
			})
		})
	}
	t.Run("from what is encrypted", func(t *testing.T) {
		s := startLoopsTLS(t, loopsConfig{Loops: 1, SendBuffer: 4 << 10, PingInterval: -1, WriteTimeout: -1})
		clienttest.DialSmall(t, s, "/ws/x")
		s.do(func(l *Loop) {
			c := l.conns[0]
			c.secure().wire.rest = make([]byte, 8<<20) // no records: nobody gets to read them
			c.block()
			partly(t, c)
			c.kill(ReasonReset)
		})
	})
}

// Over TLS the socket takes what was encrypted before: that is progress too, though
// something always waits.
func TestSteadyReaderOverTLSIsNotCut(t *testing.T) {
	clienttest.UncompressedOnly(t)
	const timeout = 30 // seconds
	s := startLoopsTLS(t, loopsConfig{Loops: 1, SendBuffer: 4 << 10, ChannelBuffer: 2 << 20, PingInterval: -1, WriteTimeout: timeout * time.Second})
	c := clienttest.DialSmall(t, s, "/ws/x")
	texts := clienttest.Numbered(500, 2000)
	for _, p := range texts {
		s.publish("x", p)
	}
	clienttest.WaitFor(t, "it to be blocked", func() bool { return s.blocked() == 1 })
	type progress struct {
		cursor uint64
		rest   int
	}
	waits := uint32(0) // for how long it has taken nothing, as far as the loop knows
	stood := false     // for longer than the grace
	at := func() (p progress) {
		s.do(func(l *Loop) {
			for _, c := range l.conns {
				if c.sub.group != nil { // else it is being closed
					p = progress{c.sub.group.subs[c.sub.index].cursor, len(c.secure().wire.rest)}
					if waits, stood = 0, c.stoodStill(pressGrace); c.has(bitBlocked) {
						waits = l.now - c.since
					}
				}
			}
		})
		return p
	}
	read := 0
	for range 12 {
		s.pass(timeout * 2 / 3)
		if n := s.closingFor(ReasonWriteTimeout); n != 0 {
			t.Fatalf("cut after %d messages, although it took some each time", read)
		}
		s.do(func(l *Loop) {
			for _, c := range l.conns {
				loopStood(c, longer)
			}
		})
		for from := at(); at() == from; read++ {
			c.WantText("it takes its time", texts[read])
		}
		if waits >= timeout/3 || stood {
			t.Errorf("after %d messages: it took some now, and is blamed for %d s, or to stand still (%v)", read, waits, stood)
		}
	}
	for ; read < len(texts); read++ {
		c.WantText("and gets everything", texts[read])
	}
}
