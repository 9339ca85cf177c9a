package loop

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sluice/gateway/channel"
	"sluice/gateway/clienttest"
	"sluice/gateway/wire"
)

// appender appends to a channel what it has given a position itself, as an engine would.
type appender struct {
	s       *loops
	channel *channel.Channel
	scratch channel.Scratch
	newest  uint64
	texts   []string // behind offset 0, each with the next one
}

func (s *loops) appender(name string) *appender {
	return &appender{s: s, channel: s.space.Find(name)}
}

// append appends a text of about so many bytes, which ends with its offset.
func (a *appender) append(n int) string {
	a.newest++
	text := fmt.Sprintf("%s %d", clienttest.Stars(n), a.newest)
	a.texts = append(a.texts, text)
	a.channel.Append(&channel.Publication{Epoch: a.channel.Epoch(), Offset: a.newest, Prev: a.newest - 1, At: time.Now().UnixMilli(), Payload: []byte(text)}, &a.scratch)
	return text
}

// until appends what the good reader reads until a condition holds.
func (a *appender) until(why string, good *clienttest.Client, holds func() bool) {
	a.s.t.Helper()
	for range 5000 {
		good.WantText("it reads", a.append(2<<10))
		if holds() {
			return
		}
	}
	a.s.do(func(l *Loop) {
		for _, c := range l.conns {
			a.s.t.Logf("loop %d, conn %d: phase %d, reason %v, blocked %t, catching up %t, refs %d, lag %d, pending %d", l.index, c.id&0xffff, c.Phase, c.reason, c.has(bitBlocked), c.catchingUp(), c.Refs(), c.Lag(), c.Pending())
		}
	})
	a.s.t.Fatal("waited for " + why)
}

// overtaken counts the connections that have left the log to catch up.
func (s *loops) overtaken() (n int) {
	s.do(func(l *Loop) {
		for _, c := range l.conns {
			if c.catchingUp() {
				n++
			}
		}
	})
	return n
}

// laggards returns loops with a log that is soon full, for an appender.
func laggards(t testing.TB, cfg loopsConfig) *loops {
	cfg.SendBuffer, cfg.MaxMessage, cfg.ChannelBuffer, cfg.PingInterval, cfg.WriteTimeout = 4<<10, 16<<10, 64<<10, -1, -1
	return startLoops(t, cfg)
}

// Subscribers that stand still while an appender goes on are overtaken. They lose nothing once they read
// again, and a good reader does not notice.
func TestOvertakenSubscribersLoseNothing(t *testing.T) {
	t.Parallel()
	for _, target := range []string{"/ws/x", "/ws/x?echo=off", "/ws/x?format=json", "/ws/x?format=json&echo=off", "/sse/x", "/sse/x?format=json"} {
		t.Run(target, func(t *testing.T) {
			t.Parallel()
			// However late a loop is, the history has everything.
			s := laggards(t, loopsConfig{Loops: 2, History: 1 << 20, HistoryBytes: 64 << 20, MaxBuffered: 1 << 30})
			slow, other, good := follow(t, s, target), follow(t, s, target), clienttest.Dial(t, s, "/ws/x")
			a := s.appender("x")
			for round := range 2 {
				a.until("them to be overtaken", good, func() bool { return s.overtaken() == 2 })
				for range 7 { // while they are out
					good.WantText("it reads", a.append(10))
				}
				for range 10 { // it goes on while they catch up
					good.WantText("it reads", a.append(2<<10))
					slow.wantAppended(a, 5)
				}
				slow.wantAppended(a, len(a.texts))
				other.wantAppended(a, len(a.texts))
				s.quiet()
				if got := s.sum(func(st *Stats) uint64 { return st.Gaps.Load() }); got != 0 {
					t.Fatalf("round %d: %d gaps are counted", round, got)
				}
				for range 20 { // live again
					good.WantText("it reads", a.append(10))
				}
				slow.wantAppended(a, len(a.texts))
				other.wantAppended(a, len(a.texts))
			}
			s.wantConnections(3)
		})
	}
}

// wantAppended reads so many more of an appender's texts, or all that are left.
func (f *follower) wantAppended(a *appender, n int) {
	f.T.Helper()
	for ; n > 0 && f.got < uint64(len(a.texts)); n-- {
		want, got := a.texts[f.got], ""
		if f.stream {
			for got == "" {
				for line := range strings.Lines(f.Event()) {
					if data, ok := strings.CutPrefix(line, "data: "); ok {
						got = strings.TrimSuffix(data, "\n")
					}
				}
			}
		} else if _, p, err := f.Next(); err != nil {
			f.T.Fatalf("behind %d of %d: %v", f.got, len(a.texts), err)
		} else {
			got = p
		}
		if i := strings.Index(got, `"data":"`); i >= 0 {
			got = strings.TrimSuffix(got[i+len(`"data":"`):], `"}`)
		}
		if got != want {
			f.T.Fatalf("behind %d: got %s, want %s", f.got, strings.Trim(got, "*"), strings.Trim(want, "*"))
		}
		f.got++
	}
}

// Without a history, or with one that is too short, the policy holds. The appender does not wait.
func TestOvertakenSubscribersWithoutHistoryAreTooSlow(t *testing.T) {
	t.Parallel()
	for _, history := range []int{-1, 3} {
		for _, target := range []string{"/ws/x", "/ws/x?format=json", "/sse/x"} {
			t.Run(fmt.Sprintf("%s, history of %d", target, history), func(t *testing.T) {
				t.Parallel()
				s := laggards(t, loopsConfig{Loops: 2, History: history, CloseTimeout: clienttest.Patience})
				slow, good := follow(t, s, target), clienttest.Dial(t, s, "/ws/x")
				a := s.appender("x")
				a.until("it to be closed", good, func() bool { return s.closingFor(ReasonSlow) == 1 })
				if slow.stream {
					for !strings.Contains(slow.Event(), "1013") {
					}
				} else if _, code, err := slow.Texts(); code != 1013 {
					t.Errorf("close code %d, %v; want 1013", code, err)
				} else {
					slow.EndClose("it is told")
				}
				good.WantText("it reads", a.append(10))
			})
		}
	}
}

// A channel whose slow readers skip tells them of a gap where the history does not help.
func TestOvertakenSubscribersSkip(t *testing.T) {
	t.Parallel()
	for _, target := range []string{"/ws/x?format=json", "/sse/x"} {
		t.Run(target, func(t *testing.T) {
			t.Parallel()
			s := laggards(t, loopsConfig{Loops: 1, History: 3, Skips: true})
			slow, good := follow(t, s, target), clienttest.Dial(t, s, "/ws/x")
			a := s.appender("x")
			a.until("a skip", good, func() bool { return s.skips() == 1 })
			good.WantText("it reads", a.append(10))
			slow.until(a.newest)
			if slow.gaps != 1 || slow.got+slow.lost != a.newest {
				t.Errorf("%d gaps; %d got and %d missed of %d", slow.gaps, slow.got, slow.lost, a.newest)
			}
			s.wantConnections(2)
		})
	}
}

// A laggard whose grace is over before the log holds twice its limit catches up, too.
func TestLaggardCatchesUpAfterItsGrace(t *testing.T) {
	t.Parallel()
	s := laggards(t, loopsConfig{Loops: 1, History: 1000})
	slow, good := follow(t, s, "/ws/x"), clienttest.Dial(t, s, "/ws/x")
	a := s.appender("x")
	a.until("more than the limit to be due, but not twice that", good, func() (over bool) {
		s.do(func(l *Loop) { over = over || l.conns[0].Lag() == 36 })
		return over
	})
	clienttest.WaitFor(t, "its grace to be over", func() bool { return s.overtaken() == 1 })
	slow.wantAppended(a, len(a.texts))
	s.wantConnections(2)
}

// All readers of a loop are late. What is cut off is sent to those whose sockets take it, without a
// history and without anybody being too slow.
func TestLateLoopSendsWhatWasCutOff(t *testing.T) {
	t.Parallel()
	s := laggards(t, loopsConfig{Loops: 1, History: -1})
	fd, c := loopPair(t, s, "x", 1<<20)
	texts := make([]string, 0, 100)
	s.do(func(l *Loop) { // which does nothing else
		a := s.appender("x")
		for g := loopGroup(l, "x"); g.CutAt() == 0; {
			texts = append(texts, a.append(2<<10))
		}
		for range 5 {
			texts = append(texts, a.append(2<<10))
		}
	})
	loopWantIdle(t, s, c)
	end := loopNetConn(t, fd)
	loopWantTexts(t, end, texts)
	if err := end.CloseWrite(); err != nil {
		t.Error(err)
	}
	s.wantConnections(0)
}

// One write takes a subscriber from below a cut to the end of what was cut off. It is sent what is above that,
// too, whichever way the write goes, although nothing more is published.
func TestSubscriberBelowACutIsSentWhatIsAboveIt(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"direct", "blocked", "echo=off"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			s := laggards(t, loopsConfig{Loops: 1, History: -1})
			fd, c := loopPair(t, s, "x", 1<<20)
			var holds channel.Reader // of another loop, which stands still
			if err := s.space.Join("x", wire.Raw{}, standing{}, &holds); err != nil {
				t.Fatal(err)
			}
			a := s.appender("x")
			for range 450 {
				a.append(100)
			}
			loopWantIdle(t, s, c)
			s.do(func(l *Loop) {
				switch how {
				case "blocked":
					c.block()
				case "echo=off":
					c.sub.sub().flags = FlagNoEcho
					c.mark()
				}
				g := loopGroup(l, "x")
				for g.CutAt() == 0 {
					a.append(100)
				}
				if behind := g.Log().Head() - c.sub.sub().cursor; c.sub.sub().cursor >= g.CutAt() || behind > corkBytes {
					t.Errorf("it is %d bytes behind, at %d with a cut at %d", behind, c.sub.sub().cursor, g.CutAt())
				}
				for range 3 {
					a.append(100)
				}
			})
			loopWantIdle(t, s, c)
			end := loopNetConn(t, fd)
			loopWantTexts(t, end, a.texts)
			if err := end.CloseWrite(); err != nil {
				t.Error(err)
			}
			s.wantConnections(0)
			s.space.Leave(&holds)
		})
	}
}

// standing is a Subscriber that does not move.
type standing struct{}

func (standing) Notify() {}

// A subscriber whose loop is late by more than a cut is overtaken, whether its socket takes bytes or not, and within
// a frame, too.
func TestLateLoopKnowsWhereItsSubscribersAre(t *testing.T) {
	t.Parallel()
	for _, history := range []int{-1, 1000} {
		for _, blocked := range []bool{false, true} {
			t.Run(fmt.Sprintf("history of %d, blocked: %v", history, blocked), func(t *testing.T) {
				t.Parallel()
				s := laggards(t, loopsConfig{Loops: 1, History: history})
				slow := follow(t, s, "/ws/x")
				a := s.appender("x")
				a.append(10)
				s.quiet()
				for blocked && s.blocked() == 0 {
					a.append(2 << 10)
					s.quiet()
				}
				a.cut(4)
				if history < 0 {
					s.wantClosedOrClosing(ReasonSlow)
					slow.Vanish()
					s.wantConnections(0)
					return
				}
				s.quiet()
				slow.wantAppended(a, len(a.texts))
				a.append(10)
				slow.wantAppended(a, 1)
				s.wantConnections(1)
			})
		}
	}
}

// cut appends until the log was cut so many times, while its loop does nothing else.
func (a *appender) cut(times int) {
	a.s.do(func(l *Loop) {
		for _, g := range l.groups {
			for at := g.CutAt(); times > 0; {
				if a.append(2 << 10); g.CutAt() != at {
					times, at = times-1, g.CutAt()
				}
			}
		}
	})
}

// A subscriber that is overtaken because its loop was late skips at once, as its socket takes bytes.
func TestLateLoopSkips(t *testing.T) {
	t.Parallel()
	s := laggards(t, loopsConfig{Loops: 1, History: 3, Skips: true})
	c := follow(t, s, "/ws/x?format=json")
	a := s.appender("x")
	a.append(10)
	c.until(1)
	a.cut(4)
	c.until(a.newest)
	a.append(10)
	c.until(a.newest)
	if c.gaps != 1 || c.got+c.lost != a.newest {
		t.Errorf("%d gaps; %d got and %d missed of %d", c.gaps, c.got, c.lost, a.newest)
	}
	s.wantConnections(1)
}

// overtake appends until a subscriber is overtaken that nobody reads beside.
func (a *appender) overtake() {
	a.s.t.Helper()
	for range 5000 {
		a.append(2 << 10)
		a.s.quiet()
		if a.s.overtaken() == 1 {
			return
		}
	}
	a.s.t.Fatal("it is never overtaken")
}

// An overtaken subscriber that is the last reader of a remote channel keeps it: it catches up from its history.
func TestOvertakenSubscriberHoldsItsRemoteChannel(t *testing.T) {
	t.Parallel()
	e := new(attaching)
	s := laggards(t, loopsConfig{Loops: 1, History: 1 << 20, HistoryBytes: 64 << 20, MaxBuffered: 1 << 30, Remote: e})
	if _, err := s.space.Prepare("x", new(channel.Ask), e); err != nil {
		t.Fatal(err)
	}
	slow := follow(t, s, "/ws/x")
	s.quiet()
	s.space.Release("x", e)
	a := s.appender("x")
	a.overtake()
	for range 7 { // while it is out
		a.append(10)
	}
	if n := e.ended.Load(); n != 0 {
		t.Errorf("the channel has ended %d times", n)
	}
	slow.wantAppended(a, len(a.texts))
	a.append(10)
	slow.wantAppended(a, 1)
	s.wantConnections(1)
	slow.Vanish()
	s.wantConnections(0)
	clienttest.WaitFor(t, "the channel to end", func() bool { return e.ended.Load() == 1 && s.space.Channels() == 0 })
}

// attaching is an engine whose channels attach at once, and a subscriber that prepares them.
type attaching struct{ ended atomic.Int64 }

func (e *attaching) Attach(ch *channel.Channel) { ch.Attached(channel.Position{Epoch: 1}) }
func (e *attaching) Detach(*channel.Channel)    { e.ended.Add(1) }
func (e *attaching) Fill(ch *channel.Channel)   { ch.Filled(nil, ch.Newest(), ch.Newest()) }
func (e *attaching) Prepared(error)             {}

// What an overtaken subscriber is not sent any more because it ends is dropped.
func TestOvertakenSubscriberThatEndsIsCounted(t *testing.T) {
	t.Parallel()
	for _, target := range []string{"/ws/x", "/ws/x?format=json", "/ws/x?echo=off"} {
		t.Run(target, func(t *testing.T) {
			t.Parallel()
			s := laggards(t, loopsConfig{Loops: 1, History: 1 << 20, HistoryBytes: 64 << 20, MaxBuffered: 1 << 30})
			slow := follow(t, s, target)
			a := s.appender("x")
			a.overtake()
			for range 7 { // while it is out
				a.append(10)
			}
			slow.wantAppended(a, 1)
			s.quiet()
			slow.Vanish()
			s.wantConnections(0)
			sent := s.deliveries() + s.sum(func(st *Stats) uint64 { return st.Recalled.Load() })
			dropped := uint64(0)
			for why := range ReasonCount {
				dropped += s.dropped(why)
			}
			if sent+dropped != a.newest || dropped < 7 {
				t.Errorf("of %d publications %d are counted as sent and %d as dropped", a.newest, sent, dropped)
			}
		})
	}
}
