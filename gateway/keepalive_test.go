package gateway

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"sluice/gateway/access/auth"

	"github.com/gobwas/ws"
)

// Most of these let seconds pass by telling the loops so. Real seconds pass as
// well, so no test depends on less than five of them.

func TestSilentClientIsPingedAndThenClosed(t *testing.T) {
	t.Parallel()
	s := start(t, Config{}) // 25s and 10s
	c := dial(t, s, "/ws")
	s.pass(15)
	c.wantIdle(s, "silence is fine for 25 s")
	s.pass(11)
	c.wantPing("26 s of silence")
	s.pass(4)
	c.wantIdle(s, "it has 10 s to answer")
	s.pass(7)
	c.wantClose("it did not answer", 1008)
	s.wantClosed(reasonNoPong, 1)
}

func TestClientThatAnswersPingsStays(t *testing.T) {
	t.Parallel()
	s := start(t, Config{})
	pongs, talks := dial(t, s, "/ws/a"), dial(t, s, "/ws/b")
	for range 4 {
		s.pass(26)
		pongs.wantPing("25 s of silence")
		pongs.send(pong(""))
		talks.wantPing("25 s of silence")
		talks.send(text("not a pong, but alive"))
		talks.wantText("its message", "not a pong, but alive")
		pongs.settle(s)
	}
	for range 5 {
		s.pass(10)
		talks.send(pong("unasked"))
		talks.settle(s)
	}
	talks.wantIdle(s, "who talks is not pinged")
}

// A proxy in front may cut who is silent for less than the pong's time: the pong
// that has come does not hold the next ping back.
func TestPingsComeAtTheirIntervalWhateverThePongsTime(t *testing.T) {
	t.Parallel()
	s := start(t, Config{PingInterval: 5 * time.Second, PongTimeout: 60 * time.Second})
	c, silent := dial(t, s, "/ws"), dial(t, s, "/ws")
	for range 4 {
		s.pass(6)
		c.wantPing("5 s of silence")
		c.send(pong(""))
		c.settle(s)
	}
	silent.wantPing("5 s of silence")
	silent.wantIdle(s, "one ping is enough")
	s.pass(50)
	silent.wantClose("60 s without a pong", 1008)
}

func TestKeepAliveInRealSeconds(t *testing.T) {
	t.Parallel()
	s := start(t, Config{PingInterval: time.Second, PongTimeout: time.Second})
	silent, answers := dial(t, s, "/ws"), dial(t, s, "/ws")
	begun := time.Now()
	closed := make(chan time.Duration, 1)
	go func() {
		for op := ws.OpText; op != ws.OpClose; {
			var err error
			if op, _, err = silent.next(); err != nil {
				return // nothing is received
			}
		}
		closed <- time.Since(begun)
		silent.conn.Close() // ignored: the server counts it
	}()
	for range 3 {
		answers.wantPing("a second of silence")
		answers.send(pong(""))
	}
	if took := receive(t, "the silent client to be closed", closed); took < time.Second || took > 8*time.Second {
		t.Errorf("it was closed after %v, want 2 to 4 s", took)
	}
	s.wantClosed(reasonNoPong, 1)
	answers.send(text("still here"))
	for {
		op, p, err := answers.next()
		if err != nil {
			t.Fatalf("the client that answers: %v", err)
		}
		if op == 1 && p == "still here" {
			break
		}
	}
}

// What a client has sent counts, though the loop comes to read it late.
func TestLateLoopReadsBeforeItBlamesTheClient(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Loops: 1})
	c := dial(t, s, "/ws")
	s.pass(26)
	c.wantPing("25 s of silence")
	held, free := make(chan struct{}), make(chan struct{})
	s.loop[0].post(call(func(l *loop) {
		close(held)
		<-free
		l.now += 30 // more than the pong may take, before the pong is read
		l.checked = 0
	}))
	receive(t, "the loop to be busy", held)
	c.send(pong(""))
	close(free)
	c.settle(s)
	if n := s.closedFor(reasonNoPong); n != 0 {
		t.Errorf("%d clients are blamed for the loop's lateness", n)
	}
}

func TestProcessThatWasStoppedBlamesNobody(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Loops: 1})
	c := dial(t, s, "/ws")
	s.do(func(l *loop) {
		l.lastTick = time.Now().Add(-time.Hour)
		tick{}.deliver(l)
		if l.now > 10 {
			t.Errorf("loop time is %d after an hour in which the loop did not run", l.now)
		}
	})
	c.wantIdle(s, "the hour was not the client's silence")
	s.pass(10)
	c.wantIdle(s, "nor are its seconds made up for")
}

func TestOnlyTheNewestPongIsSentWhileBlocked(t *testing.T) {
	t.Parallel()
	s := start(t, Config{SendBuffer: 4 << 10})
	c, other := dialSmall(t, s, "/ws/x"), dial(t, s, "/ws/x")
	texts := numbered(200, 1000)
	for _, p := range texts {
		s.publish("x", p)
		other.wantText("the other reads", p)
	}
	if s.blocked() != 1 {
		t.Fatalf("%d clients are blocked, want 1", s.blocked())
	}
	before := s.sum(func(st *loopStats) uint64 { return st.bytesIn.Load() })
	var pings string
	for i := range 50 {
		pings += ping(fmt.Sprint("ping ", i))
	}
	c.send(pings)
	waitFor(t, "the pings to be read", func() bool {
		return s.sum(func(st *loopStats) uint64 { return st.bytesIn.Load() }) == before+uint64(len(pings))
	})
	var pongs []string
	for i := 0; i < len(texts); {
		op, p, err := c.next()
		switch {
		case err != nil:
			t.Fatalf("after %d messages: %v", i, err)
		case op == 0xa:
			pongs = append(pongs, p)
		case p != texts[i]:
			t.Fatalf("message %d is %s", i, brief(p))
		default:
			i++
		}
	}
	if len(pongs) != 1 || pongs[0] != "ping 49" {
		t.Errorf("got pongs %q, want only the newest", pongs)
	}
}

func TestFINWithoutCloseEndsAfterWhatCame(t *testing.T) {
	t.Parallel()
	s := start(t, Config{})
	c, other := dial(t, s, "/ws/x"), dial(t, s, "/ws/x")
	release := s.hold(c.loopOf(s))
	c.send(text("one"), text("two"), text(stars(60<<10)), part(0x01, "never ended"))
	c.fin()
	release()
	for _, got := range []*client{other, c} {
		got.wantText("what came before the FIN is sent on", "one")
		got.wantText("what came before the FIN is sent on", "two")
		got.wantText("what came before the FIN is sent on", stars(60<<10))
	}
	c.wantEOF("it gets what was published before, and no Close frame that it could not answer")
	s.wantClosed(reasonClientGone, 1)
	s.publish("x", "later")
	other.wantText("others go on", "later")

	echo := dial(t, s, "/echo")
	echo.send(text("say it"))
	echo.fin()
	echo.wantText("a half-closed client gets its echo", "say it")
	echo.wantEOF("then the end")
}

func TestClientThatVanishesIsForgotten(t *testing.T) {
	t.Parallel()
	s := start(t, Config{})
	c, other := dial(t, s, "/ws/x"), dial(t, s, "/ws/x")
	c.settle(s)
	c.vanish()
	s.wantClosed(reasonReset, 1)
	s.wantConnections(1)
	if r := s.publish("x", "anybody?"); r.Subscribers != 1 {
		t.Errorf("%d subscribers are left, want 1", r.Subscribers)
	}
	other.wantText("the other is", "anybody?")
}

func TestPeerThatNeverAnswersCloseIsGivenUp(t *testing.T) {
	t.Parallel()
	s := start(t, Config{CloseTimeout: 10 * time.Second})
	c := dial(t, s, "/ws?mode=subscribe")
	c.send(text("I say"))
	c.wantCloseFrame("it may not publish", 1008)
	s.pass(4)
	c.wantIdle(s, "it has 10 s to answer")
	s.pass(8)
	c.wantEOF("it did not answer")
	s.pass(drainSeconds + 1)
	s.wantConnections(0)
	s.wantClosed(reasonNotAllowed, 1)
}

func TestDrainIsBounded(t *testing.T) {
	t.Parallel()
	s := start(t, Config{})
	c := dial(t, s, "/ws")
	c.send(part(0x83, ""))
	c.wantCloseFrame("reserved opcode", 1002)
	c.wantEOF("the server is through with it")
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		c.conn.SetWriteDeadline(time.Now().Add(patience)) // ignored: then the writes fail
		for junk := []byte(strings.Repeat("x", 4096)); ; {
			if _, err := c.conn.Write(junk); err != nil {
				return
			}
		}
	}()
	s.pass(drainSeconds + 1)
	s.wantConnections(0)
	receive(t, "the endless sender to be cut off", ended)
}

// A client that is being closed gets what was published before, when it reads in
// time; when not, it is told that it lost something.
func TestCloseWaitsForABlockedClientSoLong(t *testing.T) {
	t.Parallel()
	s := start(t, Config{SendBuffer: 4 << 10})
	texts := numbered(200, 1000)
	blocked := func() *client {
		c := dialSmall(t, s, "/ws/x?mode=subscribe")
		for _, p := range texts {
			s.publish("x", p)
		}
		waitFor(t, "the client to be blocked", func() bool { return s.blocked() == 1 })
		c.send(text("I say"))
		waitFor(t, "that to be read", func() bool { return s.received() > 0 })
		return c
	}
	c := blocked()
	for _, p := range texts {
		c.wantText("published before", p)
	}
	c.wantClose("then it is told", 1008)
	s.wantClosed(reasonNotAllowed, 1)
	s.wantConnections(0)

	c = blocked()
	waitFor(t, "the second to be told", func() bool { return s.received() == 2 })
	for given := false; !given; s.pass(1) {
		s.do(func(l *loop) {
			for _, c := range l.conns {
				if c.reason == reasonWriteTimeout {
					c.since += 60 // it has a second now; the test may take longer
					given = true
				}
			}
		})
	}
	got, code, err := c.texts()
	for i := range got {
		if got[i] != texts[i] {
			t.Fatalf("message %d is %s", i, brief(got[i]))
		}
	}
	if code != 1013 || len(got) == len(texts) {
		t.Errorf("got %d messages, close code %d, %v; want some, then 1013", len(got), code, err)
	}
	c.endClose("told late")
	s.wantClosed(reasonWriteTimeout, 1)

	blocked()
	waitFor(t, "the third to be told", func() bool { return s.received() == 3 })
	s.pass(6)
	s.pass(2)
	s.wantClosed(reasonWriteTimeout, 2)
	s.wantConnections(0)
}

// A token changes nothing of how often its raw client is looked at: not before it was silent for
// an interval, or its token expires.
func TestActiveClientWithATokenIsSeldomDue(t *testing.T) {
	t.Parallel()
	s := start(t, guarded(t, rightsFile))
	hour := tokens(t, auth.Claims{User: "42", ExpiresAt: time.Now().Unix() + 3600})
	for _, target := range []string{"/ws/all:x", "/ws/all:x?token=" + tokens(t, auth.Claims{User: "42"}), "/ws/all:x?token=" + hour} {
		c := dial(t, s, target)
		looks := 0
		for range 60 {
			c.send(pong(""))
			c.settle(s)
			s.do(func(l *loop) {
				for i := range l.conns {
					if l.due[i] <= l.now+1 {
						looks++
					}
				}
			})
			s.pass(1)
		}
		if looks > 5 {
			t.Errorf("%.20s: looked at %d times in 60 s", target, looks)
		}
		c.vanish()
		s.wantConnections(0)
	}
	// The end of a token is a deadline all the same.
	cfg := guarded(t, rightsFile)
	cfg.PingInterval = -1
	s = start(t, cfg)
	dial(t, s, "/ws/all:x?token="+hour)
	s.do(func(l *loop) {
		for i := range l.conns {
			if in := l.due[i] - l.now; in < 3000 || in > 3600 {
				t.Errorf("a token for an hour is due in %d s", in)
			}
		}
	})
}
