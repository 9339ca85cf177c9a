package loop

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"sluice/gateway/channel"
	"sluice/gateway/clienttest"

	"github.com/gobwas/ws"
)

// appendTo appends to a channel, as an engine does that orders its publications elsewhere.
func (s *loops) appendTo(name string, pubs ...*channel.Publication) {
	s.t.Helper()
	ch := s.space.Find(name)
	for _, p := range pubs {
		if p.Epoch == 0 {
			p.Epoch = ch.Epoch()
		}
		ch.Append(p, new(channel.Scratch))
	}
}

// at returns a publication of text with a position.
func at(offset, prev uint64, text string) *channel.Publication {
	return &channel.Publication{Payload: []byte(text), Offset: offset, Prev: prev, At: 1}
}

func (s *loops) gaps() uint64 { return s.sum(func(st *Stats) uint64 { return st.Gaps.Load() }) }

// What is missing is told in its place: by a record or an event, or by a close where the format cannot tell.
func TestLostPublicationsAreToldInTheirPlace(t *testing.T) {
	t.Parallel()
	record := func(offset, prev int, text string) string {
		return fmt.Sprintf(`{"channel":"x","epoch":"EPOCH","offset":%d,"prev":%d,"at":1,"from":"api","data":"%s"}`, offset, prev, text)
	}
	gap := func(epoch string, offset int) string {
		return fmt.Sprintf(`{"gap":true,"channel":"x","epoch":"%s","offset":%d}`, epoch, offset)
	}
	for _, tt := range []struct {
		target string
		want   []string // the close code last, if it is closed
	}{
		{"/ws/x", []string{"one", "two", "1012"}},
		{"/ws/x?echo=off", []string{"one", "two", "1012"}},
		{"/ws/x?format=json", []string{record(3, 0, "one"), record(5, 3, "two"), gap("EPOCH", 8), record(9, 8, "three"), gap("z", 2), strings.Replace(record(3, 2, "four"), "EPOCH", "z", 1)}},
		{"/sse/x", []string{"id: EPOCH:3\ndata: one\n", "id: EPOCH:5\ndata: two\n", "id: EPOCH:8\nevent: gap\ndata: " + gap("EPOCH", 8) + "\n",
			"id: EPOCH:9\ndata: three\n", "id: z:2\nevent: gap\ndata: " + gap("z", 2) + "\n", "id: z:3\ndata: four\n"}},
	} {
		t.Run(tt.target, func(t *testing.T) {
			t.Parallel()
			for _, secure := range []bool{false, true} {
				s := serveLoops(t, loopsConfig{Loops: 1}, secure)
				const clients = 3
				var all []*clienttest.Client
				for range clients {
					c := clienttest.Connect(t, s)
					if strings.HasPrefix(tt.target, "/sse") {
						c.Stream(tt.target)
						c.Event() // where it begins
					} else {
						c.Upgrade(tt.target)
					}
					all = append(all, c)
				}
				s.quiet()
				epoch := s.space.Find("x").Epoch().String()
				free := s.hold(0) // so that all of it is there for one sweep
				s.appendTo("x", at(3, 0, "one"), at(5, 3, "two"), at(9, 8, "three"))
				z, _ := channel.ParseEpoch("z")
				p := at(3, 2, "four")
				p.Epoch = z
				s.appendTo("x", p)
				free()
				told := uint64(2)
				for i, c := range all {
					for _, want := range tt.want {
						want = strings.ReplaceAll(want, "EPOCH", epoch)
						if want == "1012" {
							c.WantClose("messages are missing", statusServiceRestart)
							told = 1
						} else if strings.HasPrefix(tt.target, "/sse") {
							c.WantEvent("it is in order", want)
						} else {
							c.WantText(fmt.Sprintf("client %d", i), want)
						}
					}
				}
				s.quiet()
				if got, want := s.gaps(), told*clients; got != want {
					t.Errorf("%d gaps were told, want %d", got, want)
				}
				if told == 1 {
					s.wantClosed(ReasonGap, clients)
				}
				s.do(func(l *Loop) {
					if err := l.check(); err != nil {
						t.Error(err)
					}
				})
			}
		})
	}
}

// A subscriber that its protocol leaves at a fence goes on behind it. Other channels of its connection do not
// wait for it.
func TestSubscribersGoOnBehindAFence(t *testing.T) {
	t.Parallel()
	s := startLoops(t, loopsConfig{Loops: 1})
	c := clienttest.Dial(t, s, "/ws/a,b")
	s.quiet()
	free := s.hold(0)
	miss := func() *channel.Publication { return &channel.Publication{Kind: channel.KindGap} }
	s.appendTo("a", at(1, 0, "a1"), miss(), miss(), at(2, 1, "a2"))
	s.appendTo("b", at(1, 0, "b1"), at(2, 1, "b2"))
	free()
	var a, b []string
	for range 6 {
		if _, text, err := c.Next(); err == nil && text[0] == 'a' {
			a = append(a, text)
		} else {
			b = append(b, text)
		}
	}
	if got, want := fmt.Sprint(a, b), "[a1 a gap a gap a2] [b1 b2]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	s.appendTo("a", &channel.Publication{Kind: channel.KindReset, Epoch: 1}, at(1, 0, "a3"))
	c.WantText("it is out", "a reset")
	s.appendTo("b", miss(), at(3, 2, "b3"))
	c.WantText("it is told", "b gap")
	c.WantText("it goes on", "b3")
	s.quiet()
	if got := s.gaps(); got != 4 {
		t.Errorf("%d gaps were told, want 4", got)
	}
	if got := s.dropped(ReasonGap); got != 1 {
		t.Errorf("%d publications were dropped, want 1: what lay behind the reset", got)
	}
}

// A frame that is cut before a fence is finished first, and the log is held back no longer than that.
func TestCutFrameBeforeAFenceIsFinished(t *testing.T) {
	t.Parallel()
	s := startLoops(t, loopsConfig{Loops: 1, SendBuffer: 4 << 10, MaxMessage: 1 << 20, ChannelBuffer: 4 << 20, WriteTimeout: -1})
	slow, good := clienttest.DialSmall(t, s, "/ws/x"), clienttest.Dial(t, s, "/ws/x?format=json")
	big := clienttest.Stars(1 << 20)
	s.appendTo("x", at(1, 0, big))
	good.WantData("others go on", 1, big)
	clienttest.WaitFor(t, "it to be cut", func() bool { return s.blocked() == 1 })
	s.appendTo("x", at(3, 2, "later"))
	if r := good.Record("others go on"); r.Gap == nil || r.Offset != 2 {
		t.Errorf("got %+v", r)
	}
	good.WantData("others go on", 3, "later")
	s.quiet()
	if got := s.gaps(); got != 1 {
		t.Errorf("%d gaps were told before it has come there", got)
	}
	slow.WantText("all of the frame", big)
	slow.WantClose("and the gap", statusServiceRestart)
	s.do(func(l *Loop) {
		for _, g := range l.groups {
			if low, head := g.low, g.Log().Head(); len(g.subs) > 0 && low != head {
				t.Errorf("the log is held at %d of %d", low, head)
			}
		}
	})
}

// A connection that ends at a fence, or before it comes there, is not notified.
func TestEndAtAFence(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(c *Conn){
		"killed":  func(c *Conn) { c.kill(ReasonOperator) },
		"closed":  func(c *Conn) { c.Close(ReasonOperator) },
		"ends":    func(c *Conn) { c.Close(ReasonShutdown) },
		"leaves":  func(c *Conn) { c.Drop(0, ReasonUnsubscribed) },
		"broken":  func(c *Conn) { c.broken() },
		"skipped": func(c *Conn) { c.tooSlow(c.sub.group) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startLoops(t, loopsConfig{Loops: 1, Skips: true})
			a, b := clienttest.Dial(t, s, "/ws/a,b"), clienttest.Dial(t, s, "/ws/a,b")
			s.quiet()
			s.do(func(l *Loop) {
				s.appendTo("a", at(1, 0, "a1"), &channel.Publication{Kind: channel.KindGap}, at(2, 1, "a2"))
				loopDeliver(l)
				l.sweep() // b1, and the fence is reached
				l.sweep()
				if len(l.fenced) != 2 {
					t.Errorf("%d connections are at the fence", len(l.fenced))
				}
				c := l.conns[0]
				end(c)
				c.Settle()
				if err := c.check(); err != nil {
					t.Error(err)
				}
			})
			s.quiet()
			if got := s.gaps(); got != 1 {
				t.Errorf("%d were notified", got)
			}
			a.Vanish()
			b.WantEach("the other goes on", []string{"a1", "a gap", "a2"})
			b.Send(clienttest.Closing(ws.StatusNormalClosure, ""))
			b.WantCloseFrame("it ends", ws.StatusNormalClosure)
		})
	}
}

// A loop whose subscribers have reached a fence rests: they are notified once, a bounded number in a turn.
func TestFencesKeepNoLoopBusy(t *testing.T) {
	t.Parallel()
	const clients = 20
	s := startLoops(t, loopsConfig{Loops: 1})
	s.do(func(l *Loop) { l.turnWrites = 3 })
	var all []*clienttest.Client
	for range clients {
		all = append(all, clienttest.Dial(t, s, "/ws/a,b"))
	}
	for range 3 {
		s.appendTo("a", &channel.Publication{Kind: channel.KindGap})
	}
	for _, c := range all {
		c.WantEach("it is told", []string{"a gap", "a gap", "a gap"})
	}
	s.quiet()
	s.do(func(l *Loop) {
		g := l.groups[groupKey{"a", l.conns[0].Ref(0).group.key.format}]
		if g.Served(g.Log().Head()); g.dirty || g.queued || len(l.fenced) > 0 {
			t.Errorf("dirty %v, queued %v, %d at a fence", g.dirty, g.queued, len(l.fenced))
		}
	})
	if s.gaps() != 3*clients {
		t.Errorf("%d gaps were told", s.gaps())
	}
}

// spend takes all turns that the loops' pacers have, so that those who are lost wait. From then on no time
// passes by itself.
func (s *loops) spend() {
	s.t.Helper()
	s.pass(0)
	s.do(func(l *Loop) {
		for l.readClock(); l.pacer.take(l.time, len(l.conns)); {
		}
	})
}

// waiting returns how many clients wait for their turn.
func (s *loops) waiting() (n int) {
	s.do(func(l *Loop) { n += l.lost.len() })
	return n
}

// checked checks the loops, and that no log is held back.
func (s *loops) checked() {
	s.t.Helper()
	s.quiet()
	s.do(func(l *Loop) {
		if err := l.check(); err != nil {
			s.t.Error(err)
		}
		for _, g := range l.groups {
			if head := g.Log().Head(); g.low < head {
				s.t.Errorf("the log of %s is held at %d of %d", g.Channel(), g.low, head)
			}
		}
	})
}

// Clients that have lost something are notified at a pace. Meanwhile they get nothing of that channel and hold
// nothing back, are heard and answered, publish, and may end by themselves.
func TestLostClientsWaitForTheirTurn(t *testing.T) {
	t.Parallel()
	for _, target := range []string{"/ws/x", "/ws/x?echo=off"} {
		t.Run(target, func(t *testing.T) {
			t.Parallel()
			s := startLoops(t, loopsConfig{Loops: 1, DrainDuration: 30 * time.Second, ChannelBuffer: 8 << 10, MaxMessage: 1 << 10, PingInterval: 5 * time.Second})
			const clients = 25
			var all []*clienttest.Client
			for range clients {
				all = append(all, clienttest.Dial(t, s, target))
			}
			good := clienttest.Dial(t, s, "/ws/x?format=json")
			s.spend()
			s.appendTo("x", at(1, 0, "one"), at(3, 2, "two"))
			good.WantData("records tell it themselves", 1, "one")
			if r := good.Record("records tell it themselves"); r.Gap == nil || r.Offset != 2 {
				t.Errorf("got %+v", r)
			}
			good.WantData("records tell it themselves", 3, "two")
			clienttest.WaitFor(t, "clients to wait", func() bool { return s.waiting() == clients })
			if got := s.dropped(ReasonGap); got != clients {
				t.Errorf("%d publications are dropped, want %d", got, clients)
			}
			for range 100 { // twelve times the log, which would stop the publisher
				good.WantData("others get what is published", s.publish("x", clienttest.Stars(1000)).Offset, clienttest.Stars(1000))
			}
			s.checked()
			for i, c := range all {
				c.WantText(fmt.Sprintf("client %d has what came before", i), "one")
				c.Settle(s)
			}
			all[3].Send(clienttest.Text("from one that waits"))
			if r := good.Record("it publishes"); r.Data == nil || *r.Data != "from one that waits" {
				t.Errorf("got %+v", r)
			}
			all[4].Vanish()
			all[5].Send(clienttest.Closing(ws.StatusNormalClosure, ""))
			all[5].WantCloseFrame("it ends by itself", ws.StatusNormalClosure)
			all[5].EndClose("it ends by itself")
			s.wantConnections(clients + 1 - 2)
			s.pass(1) // a hundred turns come
			for i, c := range all {
				if i != 4 && i != 5 {
					c.WantClose(fmt.Sprintf("client %d has its turn", i), statusServiceRestart)
				}
			}
			s.checked()
			if got := s.gaps(); got != clients-2+1 {
				t.Errorf("%d were notified, want %d", got, clients-2+1)
			}
			if got := s.dropped(ReasonGap); got != clients {
				t.Errorf("%d publications are dropped, want %d: what came while they waited is not counted", got, clients)
			}
		})
	}
}

// The oldest have their turn first, as many as there are turns.
func TestTurnsComeInOrder(t *testing.T) {
	t.Parallel()
	s := startLoops(t, loopsConfig{Loops: 1, DrainDuration: 30 * time.Second})
	var all []*clienttest.Client
	for i := range 20 {
		all = append(all, clienttest.Dial(t, s, fmt.Sprintf("/ws/%d", i)))
	}
	s.spend()
	for i := range all {
		s.appendTo(fmt.Sprint(i), &channel.Publication{Kind: channel.KindGap})
		clienttest.WaitFor(t, "it to wait", func() bool { return s.waiting() == i+1 })
	}
	s.clock.Advance(55 * time.Millisecond) // five turns
	clienttest.WaitFor(t, "some to have had their turn", func() bool { return s.waiting() == 15 })
	for _, c := range all[:5] {
		c.WantClose("it has waited longest", statusServiceRestart)
	}
	for _, c := range all[5:] {
		c.Settle(s)
	}
	s.wantConnections(15)
}

// One of several channels is lost: the others go on. After its turn, so does that one, if its protocol keeps it.
func TestOtherChannelsDoNotWait(t *testing.T) {
	t.Parallel()
	s := startLoops(t, loopsConfig{Loops: 1, DrainDuration: 30 * time.Second})
	c := clienttest.Dial(t, s, "/ws/a,b")
	s.spend()
	s.appendTo("a", at(1, 0, "a1"), at(3, 2, "a2"))
	c.WantText("before the gap", "a1")
	clienttest.WaitFor(t, "it to wait", func() bool { return s.waiting() == 1 })
	s.appendTo("b", at(1, 0, "b1"), at(3, 2, "b2"), at(4, 3, "b3"))
	c.WantText("of the other channel", "b1")
	s.quiet()
	s.appendTo("a", at(4, 3, "a3"))
	s.checked()
	c.WantIdle(s, "it waits, now for both")
	s.pass(1)
	var got []string
	for range 2 {
		_, text, err := c.Next()
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, text)
	}
	if slices.Sort(got); !slices.Equal(got, []string{"a gap", "b gap"}) {
		t.Errorf("it is told %q", got)
	}
	s.appendTo("a", at(5, 4, "a4"))
	c.WantText("it goes on", "a4")
	s.appendTo("b", at(5, 4, "b4"))
	c.WantText("it goes on", "b4")
	s.spend()
	s.appendTo("a", &channel.Publication{Kind: channel.KindReset, Epoch: 1})
	clienttest.WaitFor(t, "it to wait again", func() bool { return s.waiting() == 1 })
	s.do(func(l *Loop) { // it leaves before its turn
		c := l.conns[0]
		for i := range c.Refs() {
			if c.Ref(i).Channel() == "a" {
				c.Drop(i, ReasonUnsubscribed)
				break
			}
		}
	})
	before := s.gaps()
	s.pass(1)
	clienttest.WaitFor(t, "its turn", func() bool { return s.waiting() == 0 })
	if s.checked(); s.gaps() != before {
		t.Error("one that has left was notified")
	}
	s.appendTo("b", at(6, 5, "b5"))
	c.WantText("it goes on", "b5")
}

// Whoever closes the connection does not wait for its turn.
func TestClosingDoesNotWaitForATurn(t *testing.T) {
	t.Parallel()
	s := startLoops(t, loopsConfig{Loops: 1, DrainDuration: 30 * time.Second})
	a, b := clienttest.Dial(t, s, "/ws/x"), clienttest.Dial(t, s, "/ws/x")
	s.spend()
	s.appendTo("x", &channel.Publication{Kind: channel.KindGap})
	clienttest.WaitFor(t, "them to wait", func() bool { return s.waiting() == 2 })
	s.do(func(l *Loop) {
		l.conns[0].Close(ReasonOperator)
		l.conns[0].Settle()
	})
	a.WantClose("an operator closes it", ws.StatusPolicyViolation)
	s.wantConnections(1)
	s.do(stop{}.Deliver) // while no time passes, unlike in shutdown
	b.WantClose("the loops stop", ws.StatusGoingAway)
}
