package loop

import (
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sluice/gateway/channel"
	"sluice/gateway/clienttest"
	"sluice/poller"

	"github.com/gobwas/ws"
)

// loopCheckGroup compares both sides of every subscription of a group.
func loopCheckGroup(t testing.TB, g *Group) {
	t.Helper()
	holes := 0
	for i := range g.subs {
		s := &g.subs[i]
		if s.c == nil {
			holes++
			continue
		}
		if r := s.c.Ref(loopRef(s.c, g)); int(r.index) != i || int(s.fd) != s.c.FD() {
			t.Errorf("place %d belongs to connection %d, which believes itself at %d", i, s.c.id, r.index)
		}
	}
	if holes != g.holes || holes > 0 && !g.sweeping {
		t.Errorf("%d holes, %d are counted; sweeping: %v", holes, g.holes, g.sweeping)
	}
}

// loopRef finds c's subscription in g.
func loopRef(c *Conn, g *Group) int {
	for i := range c.Refs() {
		if c.Ref(i).group == g {
			return i
		}
	}
	panic("not subscribed")
}

// Seven subscribers, a sweep that is paused after some of them, and leavers
// everywhere. Who stays gets the message once; who leaves by a Close gets it once
// before it; nobody's place gets mixed up.
func TestLeaversDuringAPausedSweep(t *testing.T) {
	const all = 7
	for pause := 1; pause <= all; pause++ {
		for name, leavers := range map[string][]int{
			"first": {0}, "last": {all - 1}, "last two": {all - 1, all - 2}, "first and last": {0, all - 1},
			"behind the sweep": {pause - 1}, "at the sweep": {pause % all}, "all but one": {6, 0, 5, 1, 4, 2}, "all but the last": {0, 1, 2, 3, 4, 5},
			"everybody": {3, 0, 6, 2, 4, 1, 5},
		} {
			t.Run(fmt.Sprintf("%d swept, %s", pause, name), func(t *testing.T) {
				s := startLoops(t, loopsConfig{Loops: 1})
				var clients []*clienttest.Client
				var conns []*Conn
				for range all {
					cl, c := loopDial(t, s, "/ws/x", false)
					clients, conns = append(clients, cl), append(conns, c)
				}
				s.do(func(l *Loop) {
					g := loopGroup(l, "x")
					if err := loopPublish(l, "x", "one", 0); err != nil {
						t.Error(err)
					}
					loopDeliver(l)
					l.turnWrites = pause
					l.sweep()
					if g.sweeping != (pause < all) || pause < all && g.next != pause {
						t.Errorf("the sweep is at %d, sweeping: %v", g.next, g.sweeping)
					}
					for _, i := range leavers {
						conns[i].Close(ReasonNotAllowed)
						loopCheckGroup(t, g)
					}
					l.turnWrites = turnWrites
					l.sweep()
					loopCheckGroup(t, g)
					for i, c := range conns {
						switch {
						case slices.Contains(leavers, i):
							if c.Refs() != 0 {
								t.Errorf("leaver %d is subscribed", i)
							}
						case c.behind():
							t.Errorf("subscriber %d was skipped", i)
						}
					}
					if got := loopGroup(l, "x"); (got == nil) != (len(leavers) == all) {
						t.Errorf("the group is there: %v", got != nil)
					}
				})
				s.publish("x", "two")
				for i, cl := range clients {
					cl.WantText("published before anybody left", "one")
					if slices.Contains(leavers, i) {
						cl.WantCloseFrame("it leaves", ws.StatusPolicyViolation)
						continue
					}
					cl.WantText("published behind that", "two")
				}
			})
		}
	}
}

// Who comes while a sweep is paused gets what is published from then on.
func TestJoinersDuringAPausedSweep(t *testing.T) {
	s := startLoops(t, loopsConfig{Loops: 1})
	var there, coming []*clienttest.Client
	var conns []*Conn
	for range 4 {
		cl, _ := loopDial(t, s, "/ws/x", false)
		there = append(there, cl)
	}
	for range 3 {
		cl, c := loopDial(t, s, "/ws/y", false)
		coming, conns = append(coming, cl), append(conns, c)
	}
	s.do(func(l *Loop) {
		g := loopGroup(l, "x")
		l.turnWrites = 1
		for i, text := range []string{"one", "two", "three"} {
			if err := loopPublish(l, "x", text, 0); err != nil {
				t.Error(err)
			}
			loopDeliver(l)
			l.sweep()
			loopJoin(t, conns[i], "x") // while the sweep for text is under way, or a later one
			loopCheckGroup(t, g)
		}
		l.turnWrites = turnWrites
	})
	s.publish("x", "four")
	texts := []string{"one", "two", "three", "four"}
	for i, cl := range there {
		for _, text := range texts {
			cl.WantText(fmt.Sprintf("subscriber %d was there", i), text)
		}
	}
	for i, cl := range coming {
		for _, text := range texts[i+1:] {
			cl.WantText(fmt.Sprintf("joiner %d came before that", i), text)
		}
		cl.Settle(s)
	}
}

// All sockets of a group are reset, and a sweep finds out before the poller does.
func TestGroupThatVanishesDuringASweep(t *testing.T) {
	s := startLoops(t, loopsConfig{Loops: 1})
	for _, reading := range []int{0, 1} {
		var clients []*clienttest.Client
		for range 20 {
			cl, _ := loopDial(t, s, "/ws/x", false)
			clients = append(clients, cl)
		}
		gone, ready := make(chan struct{}), make(chan struct{})
		go func() {
			<-ready
			for _, cl := range clients[reading:] {
				cl.Vanish()
			}
			close(gone)
		}()
		s.do(func(l *Loop) {
			close(ready)
			<-gone // nobody but the sweep finds out
			if err := loopPublish(l, "x", "one", 0); err != nil {
				t.Error(err)
			}
			loopDeliver(l)
			l.sweep()
			g := loopGroup(l, "x")
			loopCheckGroup(t, g)
			for i, s := range g.subs { // they live on for what they may have sent
				if s.c.behind() || s.c.has(bitMuted) != (i >= reading) {
					t.Errorf("connection %d: behind %v, bits %b", i, s.c.behind(), s.c.bits)
				}
			}
			if err := loopPublish(l, "x", "two", 0); err != nil {
				t.Error(err)
			}
			loopDeliver(l)
			l.sweep()
		})
		s.wantConnections(int64(reading))
		for _, cl := range clients[:reading] {
			cl.WantText("it is still there", "one")
			cl.WantText("and gets the next", "two")
			cl.Vanish()
		}
		s.wantConnections(0)
		s.quiet()
		cl := clienttest.Dial(t, s, "/ws/x") // the name is free for a new group
		s.publish("x", "three")
		cl.WantText("the first of a new channel", "three")
		cl.Vanish()
		s.wantConnections(0)
	}
}

// Subscribers come and go on two loops while others publish and sweeps are
// paused after every third write. Whatever a client gets is a run without a gap.
func TestNobodyIsSkippedOrServedTwice(t *testing.T) {
	s := startLoops(t, loopsConfig{Loops: 2})
	s.do(func(l *Loop) { l.turnWrites = 3 })
	texts := clienttest.Numbered(clienttest.Scaled(600, 200), 20)
	published := make(chan struct{})
	ends := make(chan string)
	begin := make(chan struct{}, 40)
	for i := range cap(begin) {
		go func() {
			cl := clienttest.Dial(t, s, "/ws/x")
			begin <- struct{}{}
			stays, n := i%4 == 0, 0
			for last := -1; ; n++ {
				_, p, err := cl.Next()
				if err != nil {
					ends <- fmt.Sprintf("client %d: %v after %d texts", i, err, n)
					return
				}
				at, ok := slices.BinarySearch(texts, p)
				if !ok || last >= 0 && at != last+1 {
					ends <- fmt.Sprintf("client %d: text %d comes behind %d", i, at, last)
					return
				}
				if last = at; last == len(texts)-1 {
					ends <- ""
					return
				}
				if !stays && n > 5+i { // leaves, and comes again as another
					cl.Vanish()
					cl = clienttest.Dial(t, s, "/ws/x")
					last, n = -1, -1
					select {
					case <-published: // perhaps too late for the last
						ends <- ""
						return
					default:
					}
				}
			}
		}()
	}
	for range cap(begin) {
		clienttest.Receive(t, "the clients to connect", begin)
	}
	for i, text := range texts {
		if i == len(texts)-1 {
			close(published)
		}
		s.publish("x", text)
	}
	for range cap(begin) {
		if end := clienttest.Receive(t, "the clients to get the last text", ends); end != "" {
			t.Error(end)
		}
	}
	s.do(func(l *Loop) {
		if g := loopGroup(l, "x"); g != nil {
			loopCheckGroup(t, g)
		}
	})
}

// A channel whose sweeps are held apart by the batch window sends what the window
// has collected at once, in order, also to those who come meanwhile.
func TestBatchWindowCollects(t *testing.T) {
	s := startLoops(t, loopsConfig{Loops: 1, BatchWindow: 100 * time.Millisecond})
	first, second := clienttest.Dial(t, s, "/ws/x"), clienttest.Dial(t, s, "/ws/y")
	s.publish("x", "zero")
	first.WantText("the first does not wait", "zero")
	writes := s.sum(func(st *Stats) uint64 { return st.Writes.Load() })
	texts := clienttest.Numbered(50, 20)
	for _, text := range texts {
		s.publish("x", text)
		s.publish("y", text)
	}
	for _, cl := range []*clienttest.Client{first, second} {
		for _, text := range texts {
			cl.WantText("after the window", text)
		}
	}
	if n := s.sum(func(st *Stats) uint64 { return st.Writes.Load() }) - writes; n > 10 {
		t.Errorf("%d writes for 50 publications into two channels within moments", n)
	}
	s.publish("x", "late")
	first.Vanish() // while its group is put off, or just after
	s.publish("y", "late")
	second.WantText("its own channel's", "late")
	s.wantConnections(1)
	s.quiet()
}

// What does not fit one write follows without another publication, whichever way
// the first write went.
func TestLongBacklogIsSentInSeveralWrites(t *testing.T) {
	s := startLoops(t, loopsConfig{Loops: 1, PingInterval: -1})
	texts := clienttest.Numbered(200, 1000)
	for name, prepare := range map[string]func(c *Conn){
		"from the log":                func(*Conn) {},
		"through the cork":            func(c *Conn) { c.sub.sub().flags |= FlagNoEcho; c.mark() },
		"when it is writable":         func(c *Conn) { c.block(); c.Settle() },
		"through the cork, writable":  func(c *Conn) { c.sub.sub().flags |= FlagNoEcho; c.block(); c.Settle() },
		"behind a reply, when it can": func(c *Conn) { c.block(); c.Reply(ws.OpText, []byte("reply")); c.Settle() },
	} {
		t.Run(name, func(t *testing.T) {
			fd, c := loopPair(t, s, "x", 1<<20)
			s.do(func(l *Loop) {
				for _, text := range texts {
					if err := loopPublish(l, "x", text, 0); err != nil {
						t.Error(err)
					}
				}
				prepare(c)
				loopDeliver(l)
				l.sweep()
			})
			loopWantIdle(t, s, c) // the socket has room for all of it
			end := loopNetConn(t, fd)
			if name == "behind a reply, when it can" {
				loopWantTexts(t, end, []string{"reply"})
			}
			loopWantTexts(t, end, texts)
			if err := end.CloseWrite(); err != nil {
				t.Error(err)
			}
			s.wantConnections(0)
		})
	}
}

// What is published while a sweep begins is seen by it, or asks for another.
func TestNoPublicationIsMissedByASweep(t *testing.T) {
	l := loopBare(t, loopsConfig{PingInterval: -1})
	pair := loopSockets(t, 0)
	c := loopWatched(t, l, pair[0])
	loopJoin(t, c, "x")
	g := loopGroup(l, "x")
	const rounds = 50_000
	var round, published atomic.Int64
	var publishing sync.WaitGroup
	wait := func(n *atomic.Int64, least int64) {
		for i := 0; n.Load() < least; i++ {
			if i > 1000 {
				runtime.Gosched()
			}
		}
	}
	publishing.Go(func() {
		var scratch channel.Scratch
		for n := range int64(rounds) {
			wait(&round, n+1)
			g.Log().Channel().Publish(&channel.Publication{Payload: []byte("two")}, &scratch, nil) // room is there
			published.Add(1)
		}
	})
	part := make([]byte, 1<<10)
	for n := range int64(rounds) {
		if err := loopPublish(l, "x", "one", 0); err != nil {
			t.Fatal(err)
		}
		loopDeliver(l)
		round.Add(1)
		for range n % 41 { // meet it at ever other places
			g.Log().Head()
		}
		l.sweep()
		wait(&published, n+1)
		loopDeliver(l)
		if c.behind() && len(l.sweeps) == 0 {
			t.Errorf("round %d: a publication is forgotten", n)
			break
		}
		l.sweep()
		if c.behind() {
			t.Errorf("round %d: a publication is not sent", n)
			break
		}
		for m := 1; m > 0; {
			m, _ = poller.Read(pair[1], part) // its error shows in the next sweep
		}
	}
	round.Store(rounds)
	publishing.Wait()
	c.kill(ReasonReset)
	l.bury()
}
