package gateway

import (
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sluice/gateway/channel"
	"sluice/poller"

	"github.com/gobwas/ws"
)

// loopCheckGroup compares both sides of every subscription of a group.
func loopCheckGroup(t testing.TB, g *group) {
	t.Helper()
	holes := 0
	for i := range g.subs {
		s := &g.subs[i]
		if s.c == nil {
			holes++
			continue
		}
		if r := s.c.ref(loopRef(s.c, g)); int(r.index) != i || int(s.fd) != s.c.FD() {
			t.Errorf("place %d belongs to connection %d, which believes itself at %d", i, s.c.id, r.index)
		}
	}
	if holes != g.holes || holes > 0 && !g.sweeping {
		t.Errorf("%d holes, %d are counted; sweeping: %v", holes, g.holes, g.sweeping)
	}
}

// loopRef finds c's subscription in g.
func loopRef(c *conn, g *group) int {
	for i := range c.refs() {
		if c.ref(i).group == g {
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
			"behind the cursor": {pause - 1}, "at the cursor": {pause % all}, "all but one": {6, 0, 5, 1, 4, 2}, "all but the last": {0, 1, 2, 3, 4, 5},
			"everybody": {3, 0, 6, 2, 4, 1, 5},
		} {
			t.Run(fmt.Sprintf("%d swept, %s", pause, name), func(t *testing.T) {
				s := start(t, Config{Loops: 1})
				var clients []*client
				var conns []*conn
				for range all {
					cl, c := loopDial(t, s, "/ws/x", false)
					clients, conns = append(clients, cl), append(conns, c)
				}
				s.do(func(l *loop) {
					g := loopGroup(l, "x")
					if err := loopPublish(l, "x", "one", 0); err != nil {
						t.Error(err)
					}
					loopDeliver(l)
					l.turnWrites = pause
					l.sweep()
					if g.sweeping != (pause < all) || pause < all && g.cursor != pause {
						t.Errorf("the sweep is at %d, sweeping: %v", g.cursor, g.sweeping)
					}
					for _, i := range leavers {
						conns[i].close(reasonNotAllowed)
						loopCheckGroup(t, g)
					}
					l.turnWrites = turnWrites
					l.sweep()
					loopCheckGroup(t, g)
					for i, c := range conns {
						switch {
						case slices.Contains(leavers, i):
							if c.refs() != 0 {
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
					cl.wantText("published before anybody left", "one")
					if slices.Contains(leavers, i) {
						cl.wantCloseFrame("it leaves", ws.StatusPolicyViolation)
						continue
					}
					cl.wantText("published behind that", "two")
				}
			})
		}
	}
}

// Who comes while a sweep is paused gets what is published from then on.
func TestJoinersDuringAPausedSweep(t *testing.T) {
	s := start(t, Config{Loops: 1})
	var there, coming []*client
	var conns []*conn
	for range 4 {
		cl, _ := loopDial(t, s, "/ws/x", false)
		there = append(there, cl)
	}
	for range 3 {
		cl, c := loopDial(t, s, "/ws/y", false)
		coming, conns = append(coming, cl), append(conns, c)
	}
	s.do(func(l *loop) {
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
			cl.wantText(fmt.Sprintf("subscriber %d was there", i), text)
		}
	}
	for i, cl := range coming {
		for _, text := range texts[i+1:] {
			cl.wantText(fmt.Sprintf("joiner %d came before that", i), text)
		}
		cl.settle(s)
	}
}

// All sockets of a group are reset, and a sweep finds out before the poller does.
func TestGroupThatVanishesDuringASweep(t *testing.T) {
	s := start(t, Config{Loops: 1})
	for _, reading := range []int{0, 1} {
		var clients []*client
		for range 20 {
			cl, _ := loopDial(t, s, "/ws/x", false)
			clients = append(clients, cl)
		}
		gone, ready := make(chan struct{}), make(chan struct{})
		go func() {
			<-ready
			for _, cl := range clients[reading:] {
				cl.vanish()
			}
			close(gone)
		}()
		s.do(func(l *loop) {
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
			cl.wantText("it is still there", "one")
			cl.wantText("and gets the next", "two")
			cl.vanish()
		}
		s.wantConnections(0)
		s.quiet()
		cl := dial(t, s, "/ws/x") // the name is free for a new group
		s.publish("x", "three")
		cl.wantText("the first of a new channel", "three")
		cl.vanish()
		s.wantConnections(0)
	}
}

// Subscribers come and go on two loops while others publish and sweeps are
// paused after every third write. Whatever a client gets is a run without a gap.
func TestNobodyIsSkippedOrServedTwice(t *testing.T) {
	s := start(t, Config{Loops: 2})
	s.do(func(l *loop) { l.turnWrites = 3 })
	texts := numbered(scaled(600, 200), 20)
	published := make(chan struct{})
	ends := make(chan string)
	begin := make(chan struct{}, 40)
	for i := range cap(begin) {
		go func() {
			cl := dial(t, s, "/ws/x")
			begin <- struct{}{}
			stays, n := i%4 == 0, 0
			for last := -1; ; n++ {
				_, p, err := cl.next()
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
					cl.vanish()
					cl = dial(t, s, "/ws/x")
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
		receive(t, "the clients to connect", begin)
	}
	for i, text := range texts {
		if i == len(texts)-1 {
			close(published)
		}
		s.publish("x", text)
	}
	for range cap(begin) {
		if end := receive(t, "the clients to get the last text", ends); end != "" {
			t.Error(end)
		}
	}
	s.do(func(l *loop) {
		if g := loopGroup(l, "x"); g != nil {
			loopCheckGroup(t, g)
		}
	})
}

// A channel whose sweeps are held apart by the batch window sends what the window
// has collected at once, in order, also to those who come meanwhile.
func TestBatchWindowCollects(t *testing.T) {
	s := start(t, Config{Loops: 1, BatchWindow: 100 * time.Millisecond})
	first, second := dial(t, s, "/ws/x"), dial(t, s, "/ws/y")
	s.publish("x", "zero")
	first.wantText("the first does not wait", "zero")
	writes := s.sum(func(st *loopStats) uint64 { return st.writes.Load() })
	texts := numbered(50, 20)
	for _, text := range texts {
		s.publish("x", text)
		s.publish("y", text)
	}
	for _, cl := range []*client{first, second} {
		for _, text := range texts {
			cl.wantText("after the window", text)
		}
	}
	if n := s.sum(func(st *loopStats) uint64 { return st.writes.Load() }) - writes; n > 10 {
		t.Errorf("%d writes for 50 publications into two channels within moments", n)
	}
	s.publish("x", "late")
	first.vanish() // while its group is put off, or just after
	s.publish("y", "late")
	second.wantText("its own channel's", "late")
	s.wantConnections(1)
	s.quiet()
}

// What does not fit one write follows without another publication, whichever way
// the first write went.
func TestLongBacklogIsSentInSeveralWrites(t *testing.T) {
	s := start(t, Config{Loops: 1, PingInterval: -1})
	texts := numbered(200, 1000)
	for name, prepare := range map[string]func(c *conn){
		"from the log":                func(*conn) {},
		"through the cork":            func(c *conn) { c.bits |= bitNoEcho; c.mark() },
		"when it is writable":         func(c *conn) { c.block(); c.settle() },
		"through the cork, writable":  func(c *conn) { c.bits |= bitNoEcho; c.block(); c.settle() },
		"behind a reply, when it can": func(c *conn) { c.block(); c.reply(ws.OpText, []byte("reply")); c.settle() },
	} {
		t.Run(name, func(t *testing.T) {
			fd, c := loopPair(t, s, "x", 1<<20)
			s.do(func(l *loop) {
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
	l := loopBare(t, Config{PingInterval: -1})
	pair := loopSockets(t, 0)
	c := &conn{loop: l, id: l.server.nextID(), bits: bitLocal}
	if err := l.poller.Add(&c.Desc, pair[0], poller.Readable, c); err != nil {
		t.Fatal(err)
	}
	l.server.connections.Add(1)
	l.add(c)
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
	c.kill(reasonReset)
	l.bury()
}
