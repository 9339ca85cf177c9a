package loop

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"sluice/gateway/clienttest"
	"sluice/gateway/engine"
)

// tight has a budget for the logs of few channels, and no time-out that would help.
var tight = loopsConfig{Loops: 1, MaxMessage: 4 << 10, ChannelBuffer: 16 << 10, MaxBuffered: 128 << 10, WriteTimeout: -1, PingInterval: -1, RealSeconds: true}

// exhaust publishes messages of so many bytes into one channel after the other, in
// each until enough says so, until the budget is used up.
func (s *loops) exhaust(size int, join func(name string), enough func(name string) bool) {
	s.t.Helper()
	for i := range 100 {
		name := fmt.Sprint("other", i)
		join(name)
		for !enough(name) {
			_, err := s.tryPublish(20*time.Millisecond, name, clienttest.Stars(size))
			if errors.Is(err, engine.PushedBack) {
				return
			}
			if err != nil {
				s.t.Fatal(err)
			}
			s.quiet()
		}
	}
	s.t.Fatal("the budget is never used up")
}

// wantSoon sees that a message gets to a reader.
func (s *loops) wantSoon(c *clienttest.Client, name string) {
	c.T.Helper()
	s.publish(name, clienttest.Stars(4<<10))
	c.WantText("it reads all the time", clienttest.Stars(4<<10))
}

// What laggards of some channels keep must not stop the others.
func TestLaggardsOfOneChannelDoNotStopAnother(t *testing.T) {
	t.Parallel()
	s := startLoops(t, tight)
	good := clienttest.Dial(t, s, "/ws/good")
	s.exhaust(1000, func(name string) { loopPair(t, s, name, 4<<10) }, func(name string) (behind bool) {
		s.do(func(l *Loop) { // by less than half a log, so that nobody is in its own channel's way
			g := loopGroup(l, name)
			behind = g.Log().Head()-g.subs[0].cursor > 5000
		})
		return behind
	})
	s.wantSoon(good, "good")
	if s.closingFor(ReasonSlow)+int(s.closedFor(ReasonSlow)) == 0 {
		t.Error("no laggard is closed")
	}
}

// Nor may logs that everybody has read, and that keep their memory for more.
func TestServedLogsDoNotStopAnotherChannel(t *testing.T) {
	t.Parallel()
	s := startLoops(t, tight)
	good := clienttest.Dial(t, s, "/ws/good")
	others := make(map[string]*clienttest.Client)
	s.exhaust(4<<10, func(name string) { others[name] = clienttest.Dial(t, s, "/ws/"+name) }, func(name string) (served bool) {
		if s.deliveries() < uint64(len(others)) {
			return false
		}
		others[name].WantText("it reads all the time", clienttest.Stars(4<<10))
		return true
	})
	s.wantSoon(good, "good")
	s.wantConnections(int64(1 + len(others)))
}

func TestIncompleteMessagesShareABudget(t *testing.T) {
	t.Parallel()
	const budget = 1 << 20
	s := startLoops(t, loopsConfig{Loops: 1, MaxBuffered: 2 * budget, CloseTimeout: time.Minute})
	half := clienttest.Part(0x81, clienttest.Stars(60<<10))[:50<<10]
	small := clienttest.Dial(t, s, "/ws/x")
	little := clienttest.Part(0x81, clienttest.Stars(2000))
	small.Send(little[:1000])
	var all []*clienttest.Client
	for i := range 40 {
		c := clienttest.Dial(t, s, "/ws/x")
		c.Send(half)
		all = append(all, c)
		clienttest.WaitFor(t, "it to be read", func() bool {
			return s.sum(func(st *Stats) uint64 { return st.BytesIn.Load() }) == uint64(1000+(i+1)*len(half))
		})
		s.quiet()
		if held := s.held(); held > budget {
			t.Fatalf("%d bytes are held, the budget is %d", held, budget)
		}
	}
	small.Send(little[1000:])
	small.WantText("who holds little is spared", clienttest.Stars(2000))
	shed := s.closingFor(ReasonBudget) + int(s.closedFor(ReasonBudget)) // some are through with closing
	if shed < 10 || shed > 30 {
		t.Errorf("%d of 40 are shed, want about half", shed)
	}
	s.do(func(l *Loop) { // now something is queued for every connection
		for _, c := range slices.Clone(l.conns) {
			c.Close(ReasonInternal) // does nothing to one that is being closed
			c.Settle()
		}
	})
	told := 0
	for i, c := range all {
		switch _, code, err := c.Texts(); code {
		case 1013:
			c.EndClose("the budget is used up")
			told++
		case 1011:
		default:
			t.Errorf("client %d: close code %d, %v", i, code, err)
		}
	}
	if told != shed {
		t.Errorf("%d of %d that were shed are told", told, shed)
	}
}

func TestChannelsBeyondTheLimitAreRefused(t *testing.T) {
	t.Parallel()
	s := startLoops(t, loopsConfig{MaxChannels: 2})
	a, _ := clienttest.Dial(t, s, "/ws/a"), clienttest.Dial(t, s, "/ws/b")
	clienttest.Dial(t, s, "/ws/c").WantClose("two channels are there", 1013)
	s.wantClosed(ReasonChannels, 1)
	clienttest.Dial(t, s, "/ws/a").Settle(s) // one that is there can be joined
	a.Vanish()
	s.wantClosed(ReasonReset, 1)
	clienttest.Dial(t, s, "/echo").Settle(s) // an echo needs no channel
}
