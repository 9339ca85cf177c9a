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
		loopFill(t, l, "x", 700)
		for i, c := range conns {
			if !c.has(bitBlocked) || !c.behind() || c.stoodStill() {
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
// nobody waits for it. Each turn cuts as many as it may, and the next one follows at
// once.
func TestPublisherDoesNotWaitForWhoStoodStill(t *testing.T) {
	s := start(t, tiny)
	loopFull(t, s, 5, func(l *loop, g *group, conns []*conn, _ []int) {
		l.turnWrites = 2
		for _, c := range conns {
			loopStood(c, longer)
		}
		for turn := range 3 {
			if !g.notBefore.IsZero() {
				t.Errorf("turn %d is put off", turn)
			}
			g.sweep(turnWrites)
		}
		loopCheckGroup(t, g)
		if len(g.subs) != 1 || !g.pressedAt.IsZero() {
			t.Errorf("%d subscribers are left, want the one who reads", len(g.subs))
		}
		if err := loopPublish(l, "x", "room", 0); err != nil {
			t.Errorf("a publisher has to wait: %v", err)
		}
	})
	s.wantClosedOrClosing(reasonSlow)
}

// Who has not stood still for long enough has its grace, and so has whoever goes on at
// the last try or closes already.
func TestOnlyWhoStoodStillIsNotWaitedFor(t *testing.T) {
	for name, spared := range map[string]func(t *testing.T, c *conn, fd int){
		"not for long enough":  func(_ *testing.T, c *conn, _ int) { loopStood(c, pressGrace) },
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

// A large frame presses those who have a little to read as well: standing still is
// nothing they could be blamed for.
func TestWhoIsNotFarBehindHasItsGrace(t *testing.T) {
	s := start(t, tiny)
	_, c := loopPair(t, s, "x", 4<<10)
	s.do(func(l *loop) {
		for !c.has(bitBlocked) {
			if err := loopPublish(l, "x", stars(700), 0); err != nil {
				t.Error(err)
				return
			}
			loopDeliver(l)
			l.sweep()
		}
		g := loopGroup(l, "x")
		if err := loopPublish(l, "x", stars(6<<10), 0); err == nil || g.FarBehind(g.subs[0].pos) {
			t.Error("a large frame goes in at once, or there is much to read")
		}
		loopStood(c, longer)
		loopDeliver(l)
		l.sweep()
		if c.phase != phaseOpen || g.pressedAt.IsZero() {
			t.Errorf("it is closed for %v", c.reason)
		}
	})
}

// A socket that takes a part of a write does not stand still, whatever the write is
// made of.
func TestSocketThatTakesAPartDoesNotStandStill(t *testing.T) {
	for name, bits := range map[string]uint16{"from the log": 0, "from the cork": bitNoEcho} {
		t.Run(name, func(t *testing.T) {
			s := start(t, Config{Loops: 1, PingInterval: -1, WriteTimeout: -1})
			fd, c := loopPair(t, s, "x", 4<<10)
			s.do(func(l *loop) {
				c.bits |= bits
				c.mark()
				for range 3 {
					if err := loopPublish(l, "x", stars(50<<10), 0); err != nil {
						t.Error(err)
					}
				}
				loopDeliver(l)
				l.sweep()
				c.settle()
				for range 2 {
					loopStood(c, longer)
					c.write()
					if !c.has(bitBlocked) || !c.stoodStill() {
						t.Fatal("it does not stand still")
					}
					if drained(t, fd) == 0 {
						t.Fatal("nothing has come")
					}
					c.write()
					if !c.has(bitBlocked) || c.stoodStill() {
						t.Error("it has taken a part and is blamed for standing still")
					}
				}
			})
		})
	}
}
