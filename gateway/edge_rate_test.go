package gateway

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"sluice/gateway/access/auth"
	"sluice/gateway/rate"
)

func TestMessagesAndControlFramesHaveARate(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		why    string
		cfg    Config
		target string
		frame  string
		reason reason
	}{
		{"messages", Config{MessageRate: 10}, "/ws/x?echo=off", text("m"), reasonMessageRate},
		{"echoes", Config{MessageRate: 10}, "/echo", text(""), reasonMessageRate},
		{"pings", Config{ControlRate: 10}, "/ws/x", ping("p"), reasonControlRate},
		{"pongs", Config{ControlRate: 10}, "/ws/x", pong("p"), reasonControlRate},
	} {
		t.Run(c.why, func(t *testing.T) {
			t.Parallel()
			c.cfg.PingInterval = -1
			s := start(t, c.cfg)
			conn := dial(t, s, c.target)
			conn.send(strings.Repeat(c.frame, 20)) // twice the rate at once
			s.wantLevels(20)
			for range 3 {
				s.pass(1)
				conn.send(strings.Repeat(c.frame, 10))
				s.wantLevels(20)
			}
			s.pass(60)
			conn.send(strings.Repeat(c.frame, 20))
			s.wantLevels(20)
			s.wantConnections(1)
			conn.send(strings.Repeat(c.frame, 150)) // more than may be read within seconds of a slow machine
			if _, code, _ := conn.texts(); code != 1008 {
				t.Errorf("close code %d, want 1008", code)
			}
			conn.endClose("it is told why")
			s.wantClosed(c.reason, 1)
		})
	}
}

// wantLevels waits until the one connection's bucket has as much in it, or a second
// has run out of it meanwhile.
func (s *server) wantLevels(n rate.Level) {
	s.t.Helper()
	waitFor(s.t, "the frames to be counted", func() (reached bool) {
		s.do(func(l *loop) {
			for _, c := range l.conns {
				reached = c.extra().levels.control+c.extra().levels.messages >= n || l.now != c.heard
			}
		})
		return reached
	})
}

func TestBurstIsTwiceTheRate(t *testing.T) {
	t.Parallel()
	for _, rate := range []int{1, 10, 127, 128, 1000, 100_000} {
		var c conn
		c.loop = &loop{cfg: &Config{MessageRate: rate}}
		n := 0
		for ; n < 3*rate && c.mayMessage(); n++ {
		}
		if n != 2*rate {
			t.Errorf("a rate of %d lets %d through at once", rate, n)
		}
		c.loop.now++
		c.hear()
		for n = 0; n < 3*rate && c.mayMessage(); n++ {
		}
		if n != rate {
			t.Errorf("a second brings %d of %d", n, rate)
		}
	}
}

func TestDefaultRatesAreNotForThisMachine(t *testing.T) {
	t.Parallel()
	s := start(t, Config{PingInterval: -1})
	c := dial(t, s, "/ws/x?echo=off")
	c.send(strings.Repeat(text("m"), 10*DefaultMessageRate) + strings.Repeat(pong(""), 10*DefaultControlRate))
	c.settle(s)
	other := dial(t, s, "/ws/x?echo=off")
	s.do(func(l *loop) {
		for _, c := range l.conns {
			c.bits &^= bitLocal
		}
	})
	other.send(strings.Repeat(pong(""), 10*DefaultControlRate))
	other.wantClose("from elsewhere", 1008)
}

// A client that keeps to the rate is not closed because the gateway did not read it for
// a while.
func TestParkedPublishersAreNotPunished(t *testing.T) {
	t.Parallel()
	const rate, parked = 10, 6 // seconds
	s := start(t, Config{Loops: 1, MessageRate: rate, MaxMessage: 16 << 10, ChannelBuffer: 64 << 10, PingInterval: -1, WriteTimeout: -1})
	c := dial(t, s, "/ws/x?echo=off")
	c.send(text("first"))
	waitFor(t, "the first", func() bool { return s.received() == 1 })
	s.do(func(l *loop) { // as a publication that finds the log full
		for _, c := range l.conns {
			c.bits |= bitParked
			c.putOff(0, nil, []byte(text("held")))
			c.settle()
		}
	})
	for range parked {
		c.send(strings.Repeat(text("m"), rate))
		s.pass(1)
	}
	s.do(func(l *loop) {
		for _, c := range l.conns {
			(*retry)(c).deliver(l)
		}
	})
	waitFor(t, "its messages to be taken", func() bool { return s.received() == rate*parked+2 || s.connections.Load() == 0 })
	if n := s.closedFor(reasonMessageRate) + uint64(s.closing(reasonMessageRate)); n != 0 {
		t.Errorf("a publisher of %d messages a second was closed for its rate after %d s in which it was not read: %d of %d messages were taken",
			rate, parked, s.received(), rate*parked+2)
	}
}

func TestChannelRatePushesBackAndLosesNothing(t *testing.T) {
	t.Parallel()
	const rate, messages = 20, 50
	s := start(t, Config{ChannelRate: rate, PingInterval: -1})
	at := s.internal("").URL + "/publish/"
	reader, publisher := dial(t, s, "/ws/x"), dial(t, s, "/ws/x?echo=off")
	begun := time.Now()
	for _, p := range numbered(messages, 8) {
		publisher.send(text(p))
	}
	refused := false
	for range 1000 { // until the raw client's have taken all there is
		status, h, body := askHTTP(t, "POST", at+"x", strings.NewReader("api"))
		if status == 429 {
			wantError(t, "too many", body, "rate")
			if refused = true; h.Get("Retry-After") == "" {
				t.Error("a 429 without Retry-After")
			}
			break
		}
	}
	if !refused {
		t.Error("no publication over HTTP is refused")
	}
	for n := range 2 * rate { // other channels have their own
		if status, _, body := askHTTP(t, "POST", at+fmt.Sprint("other", n%4), strings.NewReader("api")); status != 200 {
			t.Fatalf("another channel: %d %s", status, body)
		}
	}
	want := numbered(messages, 8)
	for len(want) > 0 {
		_, p, err := reader.next()
		if err != nil {
			t.Fatal(err)
		}
		if p == "api" {
			continue
		}
		if p != want[0] {
			t.Fatalf("got %q, want %q", p, want[0])
		}
		want = want[1:]
	}
	if took := time.Since(begun); took < (messages-2*rate)*time.Second/rate {
		t.Errorf("%d messages took %v", messages, took)
	}
	s.wantConnections(2)
}

func TestMessagesMustBeFinishedInTime(t *testing.T) {
	t.Parallel()
	whole := text(strings.Repeat("x", 1000))
	for _, c := range []struct {
		why  string
		send []string // one each second, then nothing
	}{
		{"a byte of a head", []string{"\x81"}},
		{"half a frame", []string{whole[:500]}},
		{"half a message with pings in between", []string{part(0x01, "half"), ping("a"), part(0x00, "more"), ping("a"), pong("")}},
		{"bytes that come one by one", strings.Split(whole[:30], "")},
		{"half a frame behind a whole one", []string{whole + whole[:7]}},
	} {
		t.Run(c.why, func(t *testing.T) {
			t.Parallel()
			s := start(t, Config{PingInterval: -1, MessageTimeout: 10 * time.Second})
			conn := dial(t, s, "/ws/x?echo=off")
			for i, p := range c.send {
				if s.closing(reasonMessageTimeout) > 0 {
					if i < 9 {
						t.Errorf("closed after %d s", i)
					}
					break
				}
				got := s.bytesIn()
				conn.send(p)
				waitFor(t, "it to come", func() bool { return s.bytesIn() > got || s.closing(reasonMessageTimeout) > 0 })
				s.pass(1)
			}
			s.pass(11)
			s.wantClosedOrClosing(reasonMessageTimeout)
			for {
				op, p, err := conn.next()
				if err != nil {
					t.Fatal(err)
				}
				if op.IsControl() && len(p) > 1 {
					conn.isClose("it is told why", op, p, 1008)
					break
				}
			}
		})
	}
}

func (s *server) bytesIn() uint64 {
	return s.sum(func(st *loopStats) uint64 { return st.bytesIn.Load() })
}

func (s *server) wantClosedOrClosing(why reason) {
	s.t.Helper()
	waitFor(s.t, "the end for "+why.String(), func() bool { return s.closedFor(why) > 0 || s.closing(why) > 0 })
}

func TestMessageThatTricklesButEndsInTimeIsTaken(t *testing.T) {
	t.Parallel()
	s := start(t, Config{PingInterval: -1, MessageTimeout: time.Minute})
	c := dial(t, s, "/ws/x")
	for range 3 { // each has its own time
		p := text("slow but in time")
		for i := range len(p) {
			got := s.bytesIn()
			c.send(p[i : i+1])
			waitFor(t, "a byte to come", func() bool { return s.bytesIn() > got })
			s.pass(2)
		}
		c.wantText("in time", "slow but in time")
	}
	s.pass(120)
	c.settle(s)
}

// What lies behind a message that waits for room has not begun for us.
func TestMessageTimeoutIsNotForWhatWeDoNotRead(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Loops: 1, PingInterval: -1, WriteTimeout: -1, MessageTimeout: 10 * time.Second})
	c := dial(t, s, "/ws/x")
	half := text("the half")
	s.do(func(l *loop) {
		for _, c := range l.conns {
			c.bits |= bitParked
			c.putOff(0, nil, []byte(half[:5]))
			c.settle()
		}
	})
	s.pass(60)
	s.do(func(l *loop) {
		for _, c := range l.conns {
			(*retry)(c).deliver(l)
		}
	})
	s.pass(5)
	c.send(half[5:])
	c.wantText("it was parked", "the half")
}

// Messages of no bytes are counted as others are.
func TestEmptyMessagesCount(t *testing.T) {
	t.Parallel()
	s := start(t, Config{MessageRate: 10, PingInterval: -1})
	for _, empty := range []string{text(""), bin(""), part(0x01, "") + part(0x80, "")} {
		c := member(t, s, "")
		c.send(strings.Repeat(empty, 19))
		c.does(`{"id":9,"presence_stats":{"channel":"x"}}`)
		c.wantClose("twice the rate at once is the most", 3013)
	}
}

// A client that comes and goes is announced to others only so often, and then has to come back later.
func TestJoinsHaveARate(t *testing.T) {
	t.Parallel()
	const rate, times = 5, 60
	cfg := guarded(t, `{"without_namespace":{"allow_subscribe_for_client":true,"join_leave":true,"force_push_join_leave":true}}`)
	cfg.JoinRate = rate
	s := start(t, cfg)
	reader, c := member(t, s, tokens(t, auth.Claims{User: "reader"})), member(t, s, tokens(t, auth.Claims{User: "other"}))
	reader.joins("x")
	begun, refused := time.Now(), 0
	for range times {
		c.does(`{"id":2,"subscribe":{"channel":"x"}}`, `{"id":3,"unsubscribe":{"channel":"x"}}`)
		for answered := false; !answered; {
			got := c.told("an answer")
			answered = strings.HasPrefix(got, `{"id":3,`)
			if strings.Contains(got, `{"id":2,"error":{"code":111,`) {
				refused++
			}
		}
	}
	most := rate + int(time.Since(begun)/time.Second+1)*rate
	if got := times - refused; got > most || got == 0 {
		t.Errorf("%d of %d subscriptions were accepted, want at most %d", got, times, most)
	}
	s.publish("x", `"end"`)
	told := 0
	for {
		got := reader.told("joins, leaves and the end")
		if strings.Contains(got, `"pub":`) {
			break
		}
		told++
	}
	if told > 2*most+1 {
		t.Errorf("%d joins and leaves were told, want at most %d", told, 2*most+1)
	}
}
