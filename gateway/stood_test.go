package gateway

import (
	"testing"
	"time"

	"sluice/poller"
)

// loopStood lets a blocked connection have taken nothing for so long. Longer than the
// grace is longer than all of it.
func loopStood(c *conn, d time.Duration) { c.tookAt = c.loop.clock() - uint8(d/clockUnit) }

const longer = pressGrace + clockUnit

// loopFull fills the log of a channel with subscribers whose sockets are full, and one
// who reads. Then it does something on the loop before that sees it.
func loopFull(t *testing.T, s *server, n int, do func(l *loop, g *group, conns []*conn, fds []int)) {
	t.Helper()
	var conns []*conn
	var fds []int
	for range n {
		fd, c := loopPair(t, s, "x", 4<<10)
		fds, conns = append(fds, fd), append(conns, c)
	}
	_, fast := loopPair(t, s, "x", 0)
	s.do(func(l *loop) {
		l.began = l.began.Add(-10 * time.Second) // its clock is not at the beginning
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
			s := start(t, tiny)
			loopFull(t, s, 6, func(l *loop, g *group, conns []*conn, _ []int) {
				for _, c := range conns {
					loopStood(c, longer)
				}
				if paused { // it began before the log was full
					g.sweeping, g.cursor, g.low = true, 3, g.subs[0].pos
				}
				const most = 2
				for range len(conns) / most {
					if err := loopPublish(l, "x", stars(700), 0); err == nil {
						t.Error("there is room already")
					}
					g.sweep(most)
				}
				if !g.pressedAt.IsZero() || !g.notBefore.IsZero() {
					t.Error("somebody gets a grace")
				}
				if err := loopPublish(l, "x", stars(700), 0); err != nil {
					t.Errorf("a publisher has to wait: %v", err)
				}
				served := g.subs[len(conns)].pos
				g.sweep(turnWrites)
				loopCheckGroup(t, g)
				if len(g.subs) != 1 || g.low < served {
					t.Errorf("%d subscribers are left, want the one who reads; served up to %d after %d", len(g.subs), g.low, served)
				}
			})
			s.wantClosedOrClosing(reasonSlow)
		})
	}
}

// The last subscriber of a channel may be dismissed as well.
func TestGroupThatIsDismissed(t *testing.T) {
	without := tiny
	without.History = -1
	s := start(t, without)
	_, c := loopPair(t, s, "x", 4<<10)
	s.do(func(l *loop) {
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
	for name, spared := range map[string]func(t *testing.T, c *conn, fd int){
		"not for long enough":  func(_ *testing.T, c *conn, _ int) { loopStood(c, pressGrace/2) },
		"it takes bytes again": func(t *testing.T, c *conn, fd int) { loopStood(c, longer); drained(t, fd) },
		"it is closing": func(_ *testing.T, c *conn, _ int) {
			c.close(reasonShutdown)
			loopStood(c, longer)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t, tiny)
			loopFull(t, s, 2, func(_ *loop, g *group, conns []*conn, fds []int) {
				loopStood(conns[0], longer)
				spared(t, conns[1], fds[1])
				g.sweep(turnWrites)
				if conns[0].reason != reasonSlow || conns[1].reason == reasonSlow || len(g.subs) != 2 {
					t.Errorf("closed for %v and %v, %d subscribers are left", conns[0].reason, conns[1].reason, len(g.subs))
				}
			})
		})
	}
}

// A large frame presses those who have a little to read as well, and whoever reads one
// has longer for it: standing still is nothing they could be blamed for.
func TestWhoMeetsALargeFrameHasItsGrace(t *testing.T) {
	const large = 20 << 10 // more than twice the log
	for name, size := range map[string]int{"behind a little": 700, "behind a large frame": large} {
		t.Run(name, func(t *testing.T) {
			s := start(t, tiny)
			_, c := loopPair(t, s, "x", 4<<10)
			s.do(func(l *loop) {
				for !c.has(bitBlocked) {
					if err := loopPublish(l, "x", stars(size), 0); err != nil {
						t.Error(err)
						return
					}
					loopDeliver(l)
					l.sweep()
				}
				if !c.behind() {
					if err := loopPublish(l, "x", stars(size), 0); err != nil {
						t.Error(err)
					}
				}
				if err := loopPublish(l, "x", stars(large), 0); err == nil {
					t.Error("a large frame goes in behind others")
				}
				loopStood(c, longer)
				loopDeliver(l)
				l.sweep()
				if c.phase != phaseOpen || loopGroup(l, "x").pressedAt.IsZero() {
					t.Errorf("it is closed for %v", c.reason)
				}
			})
		})
	}
}

// A socket that takes a part of a write does not stand still, whatever the write is
// made of.
func TestSocketThatTakesAPartDoesNotStandStill(t *testing.T) {
	partly := func(t *testing.T, c *conn) {
		t.Helper()
		loopStood(c, longer)
		if c.write(); !c.has(bitBlocked) || c.stoodStill(pressGrace) {
			t.Error("it has taken a part and is blamed for standing still")
		}
	}
	for name, bits := range map[string]uint16{"from the log, then the cork": 0, "from the cork": bitNoEcho} {
		t.Run(name, func(t *testing.T) {
			s := start(t, Config{Loops: 1, PingInterval: -1, WriteTimeout: -1})
			fd, c := loopPair(t, s, "x", 4<<10)
			s.do(func(l *loop) {
				c.bits |= bits
				c.block()
				for range 3 {
					if err := loopPublish(l, "x", stars(50<<10), 0); err != nil {
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
		s := startTLS(t, Config{Loops: 1, SendBuffer: 4 << 10, PingInterval: -1, WriteTimeout: -1})
		dialSmall(t, s, "/ws/x")
		s.do(func(l *loop) {
			c := l.conns[0]
			c.secure().wire.rest = make([]byte, 8<<20) // no records: nobody gets to read them
			c.block()
			partly(t, c)
			c.kill(reasonReset)
		})
	})
}
