package loop

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"sluice/gateway/clienttest"

	"github.com/gobwas/ws"
)

// Most of these let seconds pass by telling the loops so.

func TestSilentClientIsPingedAndThenClosed(t *testing.T) {
	t.Parallel()
	s := startLoops(t, loopsConfig{}) // 25s and 10s
	c := clienttest.Dial(t, s, "/ws")
	s.pass(15)
	c.WantIdle(s, "silence is fine for 25 s")
	s.pass(11)
	c.WantPing("26 s of silence")
	s.pass(4)
	c.WantIdle(s, "it has 10 s to answer")
	s.pass(7)
	c.WantClose("it did not answer", 1008)
	s.wantClosed(ReasonNoPong, 1)
}

func TestClientThatAnswersPingsStays(t *testing.T) {
	t.Parallel()
	s := startLoops(t, loopsConfig{})
	pongs, talks := clienttest.Dial(t, s, "/ws/a"), clienttest.Dial(t, s, "/ws/b")
	for range 4 {
		s.pass(26)
		pongs.WantPing("25 s of silence")
		pongs.Send(clienttest.Pong(""))
		talks.WantPing("25 s of silence")
		talks.Send(clienttest.Text("not a pong, but alive"))
		talks.WantText("its message", "not a pong, but alive")
		pongs.Settle(s)
	}
	for range 5 {
		s.pass(10)
		talks.Send(clienttest.Pong("unasked"))
		talks.Settle(s)
	}
	talks.WantIdle(s, "who talks is not pinged")
}

// A proxy in front may cut who is silent for less than the pong's time: the pong
// that has come does not hold the next ping back.
func TestPingsComeAtTheirIntervalWhateverThePongsTime(t *testing.T) {
	t.Parallel()
	s := startLoops(t, loopsConfig{PingInterval: 5 * time.Second, PongTimeout: 60 * time.Second})
	c, silent := clienttest.Dial(t, s, "/ws"), clienttest.Dial(t, s, "/ws")
	for range 4 {
		s.pass(6)
		c.WantPing("5 s of silence")
		c.Send(clienttest.Pong(""))
		c.Settle(s)
	}
	silent.WantPing("5 s of silence")
	silent.WantIdle(s, "one ping is enough")
	s.pass(50)
	silent.WantClose("60 s without a pong", 1008)
}

func TestKeepAliveInRealSeconds(t *testing.T) {
	t.Parallel()
	s := startLoops(t, loopsConfig{PingInterval: time.Second, PongTimeout: 5 * time.Second, RealSeconds: true})
	begun := time.Now()
	silent, answers := clienttest.Dial(t, s, "/ws"), clienttest.Dial(t, s, "/ws")
	closed := make(chan time.Duration, 1)
	go func() {
		for op := ws.OpText; op != ws.OpClose; {
			var err error
			if op, _, err = silent.Next(); err != nil {
				return // nothing is received
			}
		}
		closed <- time.Since(begun)
		silent.Conn.Close() // ignored: the server counts it
	}()
	answered := make(chan error, 1)
	go func() { answered <- answers.ReadAll([]string{"still here"}) }()
	if took := clienttest.Receive(t, "the silent client to be closed", closed); took < 4*time.Second {
		t.Errorf("it was closed after %v, want about 6 s", took)
	}
	s.wantClosed(ReasonNoPong, 1)
	clienttest.WaitFor(t, "one ping each second", func() bool { return s.sum(func(st *Stats) uint64 { return st.Pings.Load() }) >= 4 })
	answers.Send(clienttest.Text("still here"))
	if err := clienttest.Receive(t, "the client that answers to be heard", answered); err != nil {
		t.Errorf("the client that answers: %v", err)
	}
}

// What a client has sent counts, though the loop comes to read it late.
func TestLateLoopReadsBeforeItBlamesTheClient(t *testing.T) {
	t.Parallel()
	s := startLoops(t, loopsConfig{Loops: 1})
	c := clienttest.Dial(t, s, "/ws")
	s.pass(26)
	c.WantPing("25 s of silence")
	held, free := make(chan struct{}), make(chan struct{})
	s.all[0].Post(call(func(l *Loop) {
		close(held)
		<-free
		l.now += 30 // more than the pong may take, before the pong is read
		l.checked = 0
	}))
	clienttest.Receive(t, "the loop to be busy", held)
	c.Send(clienttest.Pong(""))
	close(free)
	c.Settle(s)
	if n := s.closedFor(ReasonNoPong); n != 0 {
		t.Errorf("%d clients are blamed for the loop's lateness", n)
	}
}

func TestProcessThatWasStoppedBlamesNobody(t *testing.T) {
	t.Parallel()
	s := startLoops(t, loopsConfig{Loops: 1})
	c := clienttest.Dial(t, s, "/ws")
	s.do(func(l *Loop) {
		s.clock.Advance(time.Hour)
		Tick{}.Deliver(l)
		if l.now > timeBegun+10 {
			t.Errorf("loop time has advanced by %d after an hour in which the loop did not run", l.now-timeBegun)
		}
	})
	c.WantIdle(s, "the hour was not the client's silence")
	s.pass(10)
	c.WantIdle(s, "nor are its seconds made up for")
}

func TestOnlyTheNewestPongIsSentWhileBlocked(t *testing.T) {
	t.Parallel()
	s := startLoops(t, loopsConfig{SendBuffer: 4 << 10})
	c, other := clienttest.DialSmall(t, s, "/ws/x"), clienttest.Dial(t, s, "/ws/x")
	texts := clienttest.Numbered(200, 1000)
	for _, p := range texts {
		s.publish("x", p)
		other.WantText("the other reads", p)
	}
	if s.blocked() != 1 {
		t.Fatalf("%d clients are blocked, want 1", s.blocked())
	}
	before := s.sum(func(st *Stats) uint64 { return st.BytesIn.Load() })
	var pings string
	for i := range 50 {
		pings += clienttest.Ping(fmt.Sprint("ping ", i))
	}
	c.Send(pings)
	clienttest.WaitFor(t, "the pings to be read", func() bool {
		return s.sum(func(st *Stats) uint64 { return st.BytesIn.Load() }) == before+uint64(len(pings))
	})
	var pongs []string
	for i := 0; i < len(texts); {
		op, p, err := c.Next()
		switch {
		case err != nil:
			t.Fatalf("after %d messages: %v", i, err)
		case op == 0xa:
			pongs = append(pongs, p)
		case p != texts[i]:
			t.Fatalf("message %d is %s", i, clienttest.Brief(p))
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
	s := startLoops(t, loopsConfig{})
	c, other := clienttest.Dial(t, s, "/ws/x"), clienttest.Dial(t, s, "/ws/x")
	release := s.hold(s.loopOf(c))
	c.Send(clienttest.Text("one"), clienttest.Text("two"), clienttest.Text(clienttest.Stars(60<<10)), clienttest.Part(0x01, "never ended"))
	c.Fin()
	release()
	for _, got := range []*clienttest.Client{other, c} {
		got.WantText("what came before the FIN is sent on", "one")
		got.WantText("what came before the FIN is sent on", "two")
		got.WantText("what came before the FIN is sent on", clienttest.Stars(60<<10))
	}
	c.WantEOF("it gets what was published before, and no Close frame that it could not answer")
	s.wantClosed(ReasonClientGone, 1)
	s.publish("x", "later")
	other.WantText("others go on", "later")

	echo := clienttest.Dial(t, s, "/echo")
	echo.Send(clienttest.Text("say it"))
	echo.Fin()
	echo.WantText("a half-closed client gets its echo", "say it")
	echo.WantEOF("then the end")
}

func TestClientThatVanishesIsForgotten(t *testing.T) {
	t.Parallel()
	s := startLoops(t, loopsConfig{})
	c, other := clienttest.Dial(t, s, "/ws/x"), clienttest.Dial(t, s, "/ws/x")
	c.Settle(s)
	c.Vanish()
	s.wantClosed(ReasonReset, 1)
	s.wantConnections(1)
	if r := s.publish("x", "anybody?"); r.Subscribers != 1 {
		t.Errorf("%d subscribers are left, want 1", r.Subscribers)
	}
	other.WantText("the other is", "anybody?")
}

func TestPeerThatNeverAnswersCloseIsGivenUp(t *testing.T) {
	t.Parallel()
	s := startLoops(t, loopsConfig{CloseTimeout: 10 * time.Second})
	c := clienttest.Dial(t, s, "/ws?mode=subscribe")
	c.Send(clienttest.Text("I say"))
	c.WantCloseFrame("it may not publish", 1008)
	s.pass(4)
	c.WantIdle(s, "it has 10 s to answer")
	s.pass(8)
	c.WantEOF("it did not answer")
	s.pass(drainSeconds + 1)
	s.wantConnections(0)
	s.wantClosed(ReasonNotAllowed, 1)
}

func TestDrainIsBounded(t *testing.T) {
	t.Parallel()
	s := startLoops(t, loopsConfig{})
	c := clienttest.Dial(t, s, "/ws")
	c.Send(clienttest.Part(0x83, ""))
	c.WantCloseFrame("reserved opcode", 1002)
	c.WantEOF("the server is through with it")
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		c.Conn.SetWriteDeadline(time.Now().Add(clienttest.Patience)) // ignored: then the writes fail
		for junk := []byte(strings.Repeat("x", 4096)); ; {
			if _, err := c.Conn.Write(junk); err != nil {
				return
			}
		}
	}()
	s.pass(drainSeconds + 1)
	s.wantConnections(0)
	clienttest.Receive(t, "the endless sender to be cut off", ended)
}

// A client that is being closed gets what was published before, when it reads in
// time; when not, it is told that it lost something.
func TestCloseWaitsForABlockedClientSoLong(t *testing.T) {
	t.Parallel()
	s := startLoops(t, loopsConfig{SendBuffer: 4 << 10})
	texts := clienttest.Numbered(200, 1000)
	blocked := func() *clienttest.Client {
		c := clienttest.DialSmall(t, s, "/ws/x?mode=subscribe")
		for _, p := range texts {
			s.publish("x", p)
		}
		clienttest.WaitFor(t, "the client to be blocked", func() bool { return s.blocked() == 1 })
		c.Send(clienttest.Text("I say"))
		clienttest.WaitFor(t, "that to be read", func() bool { return s.received() > 0 })
		return c
	}
	c := blocked()
	for _, p := range texts {
		c.WantText("published before", p)
	}
	c.WantClose("then it is told", 1008)
	s.wantClosed(ReasonNotAllowed, 1)
	s.wantConnections(0)

	c = blocked()
	clienttest.WaitFor(t, "the second to be told", func() bool { return s.received() == 2 })
	for given := false; !given; s.pass(1) {
		s.do(func(l *Loop) {
			for _, c := range l.conns {
				if c.reason == ReasonWriteTimeout {
					c.since += 60 // it has a second now; the test may take longer
					given = true
				}
			}
		})
	}
	got, code, err := c.Texts()
	for i := range got {
		if got[i] != texts[i] {
			t.Fatalf("message %d is %s", i, clienttest.Brief(got[i]))
		}
	}
	if code != 1013 || len(got) == len(texts) {
		t.Errorf("got %d messages, close code %d, %v; want some, then 1013", len(got), code, err)
	}
	c.EndClose("told late")
	s.wantClosed(ReasonWriteTimeout, 1)

	blocked()
	clienttest.WaitFor(t, "the third to be told", func() bool { return s.received() == 3 })
	s.pass(6)
	s.pass(2)
	s.wantClosed(ReasonWriteTimeout, 2)
	s.wantConnections(0)
}

// Nothing is to be expected of a peer that does not answer: its Close is not waited for.
func TestHalfOpenPeerIsGoneInTime(t *testing.T) {
	t.Parallel()
	const ping, pong = 30, 20 // seconds
	s := startLoops(t, loopsConfig{PingInterval: ping * time.Second, PongTimeout: pong * time.Second, CloseTimeout: time.Hour})
	c := clienttest.Dial(t, s, "/ws/x")
	s.pass(ping + 1) // it came within a second
	c.WantPing("silence")
	s.pass(pong)
	s.pass(drainSeconds)
	s.wantConnections(0)
	s.wantClosed(ReasonNoPong, 1)
	c.WantCloseFrame("it is told, should it be there", 1008)
	c.WantGone("and not waited for")
}

// A user changes nothing of how often its client is looked at: not before it was silent for
// an interval, or what it may do expires.
func TestActiveClientOfAUserIsSeldomDue(t *testing.T) {
	t.Parallel()
	s := startLoops(t, loopsConfig{})
	for _, target := range []string{"/ws/x", "/ws/x?user=42", "/ws/x?user=42&expires=3600"} {
		c := clienttest.Dial(t, s, target)
		looks := 0
		for range 60 {
			c.Send(clienttest.Pong(""))
			c.Settle(s)
			s.do(func(l *Loop) {
				for i := range l.conns {
					if l.due[i] <= l.now+1 {
						looks++
					}
				}
			})
			s.pass(1)
		}
		if looks > 5 {
			t.Errorf("%s: looked at %d times in 60 s", target, looks)
		}
		c.Vanish()
		s.wantConnections(0)
	}
	// The end of its time is a deadline all the same.
	s = startLoops(t, loopsConfig{PingInterval: -1})
	clienttest.Dial(t, s, "/ws/x?user=42&expires=3600")
	s.do(func(l *Loop) {
		for i := range l.conns {
			if in := l.due[i] - l.now; in < 3000 || in > 3600 {
				t.Errorf("an hour is due in %d s", in)
			}
		}
	})
}
