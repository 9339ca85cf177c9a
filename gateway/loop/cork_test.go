package loop

import (
	"fmt"
	"strings"
	"testing"

	"sluice/gateway/clienttest"
	"sluice/poller"

	"github.com/gobwas/ws"
)

// The cork's tests take the socket's place: they fill the cork as a write would,
// and take as many bytes as they like.

// corked is a connection whose socket is the test.
type corked struct {
	*Conn
	t       testing.TB
	stream  []byte // what the socket took
	serials map[string]int
}

// newCorked gives a connection of three channels, or fewer, whose logs have wrapped
// and hold backlog publications each, every third of them the connection's own.
func newCorked(t testing.TB, l *Loop, names []string, backlog int, noEcho bool) *corked {
	t.Helper()
	k := &corked{Conn: loopConn(l), t: t, serials: make(map[string]int)}
	other := loopConn(l)
	loopJoin(t, other, names...) // keeps the channels between two tests
	for _, name := range names {
		g := loopGroup(l, name)
		for int(g.Log().Head())%l.cfg.ChannelBuffer < l.cfg.ChannelBuffer-40 { // so that the backlog wraps
			if err := loopPublish(l, name, strings.Repeat("-", 10), 0); err != nil {
				t.Fatal(err)
			}
			for i := range g.subs {
				g.subs[i].cursor = g.Log().Head()
			}
			g.Clear()
			g.Served(g.Log().Head())
		}
	}
	loopJoin(t, k.Conn, names...)
	for i := 0; noEcho && i < k.Refs(); i++ {
		k.Ref(i).sub().flags |= FlagNoEcho
	}
	k.mark()
	k.publish(names, backlog)
	return k
}

// publish publishes a number of messages into each channel.
func (k *corked) publish(names []string, n int) {
	k.t.Helper()
	for range n {
		for _, name := range names {
			i := k.serials[name]
			k.serials[name]++
			from := uint64(0)
			if i%3 == 1 {
				from = k.id
			}
			if err := loopPublish(k.loop, name, fmt.Sprint(name, i, strings.Repeat("*", i*7%20)), from); err != nil {
				k.t.Fatal(err)
			}
		}
	}
}

// fill fills the cork, as writeCork does, behind the rest of a cut frame, which has been taken.
func (k *corked) fill() (own int) {
	l := k.loop
	l.cork, l.segments = l.cork[:0], l.segments[:0]
	if k.Out != nil {
		own = k.Pending()
		l.cork = append(l.cork, k.Out.buf[k.Out.sent:]...)
	}
	for i := range k.Refs() {
		k.gather(k.Ref(i))
	}
	return own
}

// take takes n bytes of the cork, or all of it.
func (k *corked) take(n int) (all bool) {
	if r := k.cut(); r != nil { // as sendLog
		s := r.sub()
		v, _ := r.group.View(s.cursor)
		to := v.Fit(s.cursor, v.Head(), 0)
		a, b := v.Bytes(s.cursor+uint64(r.cut), to)
		rest := append(append([]byte(nil), a...), b...)
		m := min(n, len(rest))
		k.stream = append(k.stream, rest[:m]...)
		if k.sent(r, v, to, m); m < len(rest) {
			return false
		}
		n -= m
	}
	own := k.fill()
	n = min(n, len(k.loop.cork))
	k.stream = append(k.stream, k.loop.cork[:n]...)
	all = n == len(k.loop.cork)
	k.apply(own, n)
	return all
}

// drain takes everything, part bytes at a time.
func (k *corked) drain(part int) {
	k.t.Helper()
	for i := 0; !k.take(part); i++ {
		if i > 10_000 {
			k.t.Fatal("the connection is never drained")
		}
	}
	if k.behind() || k.Out != nil {
		k.t.Errorf("behind: %v, %d bytes pending after everything was taken", k.behind(), k.Pending())
	}
}

// check takes the stream apart: replies in their order before everything else,
// and each channel's messages in theirs, whole and once.
func (k *corked) check(replies int) {
	k.t.Helper()
	next := make(map[string]int)
	r := strings.NewReader(string(k.stream))
	for n := 0; r.Len() > 0; n++ {
		op, p, err := loopNext(r)
		if err != nil {
			k.t.Fatalf("frame %d: %v", n, err)
		}
		if op == ws.OpPong {
			if want := fmt.Sprint("reply", next["reply"]); p != want || n >= replies {
				k.t.Fatalf("frame %d is %q, want %q among the first %d", n, p, want, replies)
			}
			next["reply"]++
			continue
		}
		name := p[:1]
		for k.sub.noEcho() && next[name]%3 == 1 {
			next[name]++ // its own is left out
		}
		if i := next[name]; p != fmt.Sprint(name, i, strings.Repeat("*", i*7%20)) {
			k.t.Fatalf("frame %d is %q where message %d of its channel comes next", n, p, i)
		}
		next[name]++
	}
	for name, n := range k.serials {
		for k.sub.noEcho() && next[name]%3 == 1 && next[name] < n {
			next[name]++
		}
		if next[name] != n {
			k.t.Errorf("%d of %d messages of channel %s came", next[name], n, name)
		}
	}
	if next["reply"] != replies {
		k.t.Errorf("%d of %d replies came", next["reply"], replies)
	}
}

// end takes the connection, and the one that kept the channels, out of the loop.
func (k *corked) end() {
	for _, c := range append([]*Conn(nil), k.loop.conns...) {
		k.loop.leaveAll(c)
		c.dropOutput()
		k.loop.remove(c)
	}
}

// A write is cut at every byte there is: within replies, frames, at their ends,
// where a log wraps, next to what is left out. The rest comes behind it, with what
// is published meanwhile.
func TestCorkCutAtEveryByte(t *testing.T) {
	cfg := loopsConfig{MaxMessage: 125, ChannelBuffer: 4096, PingInterval: -1}
	l := loopBare(t, cfg)
	for _, names := range [][]string{{"a"}, {"a", "b", "c"}} {
		for _, noEcho := range []bool{false, true} {
			for _, replies := range []int{0, 2} {
				for cut, all := 0, false; !all; cut++ {
					k := newCorked(t, l, names, 6, noEcho)
					for i := range replies {
						k.pong(fmt.Append(nil, "reply", i))
					}
					begin := make([]uint64, k.Refs())
					for i := range begin {
						begin[i] = k.Ref(i).sub().cursor
					}
					all = k.take(cut)
					for i := range k.Refs() {
						r := k.Ref(i)
						s, g := r.group.subs[r.index], r.group
						v, _ := g.View(begin[i])
						if end := v.Floor(begin[i], s.cursor); s.cursor != end {
							t.Fatalf("cut at %d: a cursor lies within a frame that begins at %d", cut, end)
						}
					}
					if all && (k.behind() || k.Out != nil) {
						t.Fatalf("all %d bytes are taken, and something is due", cut)
					}
					k.publish(names, 2)
					k.drain(1 + cut%50)
					if k.check(replies); t.Failed() {
						t.Fatalf("channels %v, echo off: %v, %d replies, cut at %d", names, noEcho, replies, cut)
					}
					k.end()
				}
			}
		}
	}
}

// What a full cork has no room for is not forgotten, whichever channel's sweep
// came first: nobody publishes again.
func TestFullCorkLeavesNothingBehind(t *testing.T) {
	s := startLoops(t, loopsConfig{Loops: 1, PingInterval: -1, WriteTimeout: -1})
	pongs := func(bytes int) func(c *Conn) {
		return func(c *Conn) { c.output().buf = append(c.output().buf, strings.Repeat("\x8a\x00", bytes/2)...) }
	}
	texts := func(n, size int) func(c *Conn) {
		return func(c *Conn) {
			for _, text := range clienttest.Numbered(n, size) {
				if err := loopPublish(c.loop, "a", text, 0); err != nil {
					t.Error(err)
				}
			}
		}
	}
	for name, fill := range map[string]func(c *Conn){
		"another channel fills it exactly": texts(64, corkBytes/64-4), // and the frames' headers
		"another channel has more":         texts(100, 1000),
		"replies fill it":                  pongs(corkBytes),
		"replies fill nearly all of it":    pongs(corkBytes - 20),
		"replies fill more than it":        pongs(corkBytes + 20),
	} {
		t.Run(name, func(t *testing.T) {
			fd, c := loopPair(t, s, "a", 1<<20)
			last := strings.Repeat("b", 500)
			s.do(func(l *Loop) {
				loopJoin(t, c, "b")
				if err := loopPublish(l, "b", last, 0); err != nil { // its sweep comes first
					t.Error(err)
				}
				fill(c)
				loopDeliver(l)
				l.sweep()
				if c.has(bitBlocked) {
					t.Error("the socket does not take a whole cork: the test shows nothing")
				}
			})
			loopWantIdle(t, s, c) // the socket has room for all of it
			end := loopNetConn(t, fd)
			for {
				op, p, err := loopNext(end)
				if err != nil {
					t.Fatal(err)
				}
				if op == ws.OpText && p == last {
					break
				}
			}
			if err := end.CloseWrite(); err != nil {
				t.Error(err)
			}
			s.wantConnections(0)
		})
	}
}

// Replies of a turn go before what the logs have, also before what came first.
func TestRepliesGoBeforeTheLogsBytesOfTheirTurn(t *testing.T) {
	s := startLoops(t, loopsConfig{Loops: 1})
	cl := clienttest.Dial(t, s, "/ws/x")
	for range 3 {
		cl.Send(clienttest.Text("one"), clienttest.Ping("first"), clienttest.Text("two"), clienttest.Ping("second"))
		cl.WantPong("a reply of the turn", "first")
		cl.WantPong("another", "second")
		cl.WantText("the log behind them", "one")
		cl.WantText("the log behind them", "two")
		cl.Settle(s)
	}
}

// Whose log's bytes wrap gets them through the cork, in one write.
func TestWrappedBytesAreOneWrite(t *testing.T) {
	s := startLoops(t, loopsConfig{Loops: 1, MaxMessage: 125, ChannelBuffer: 4096, PingInterval: -1})
	fd, c := loopPair(t, s, "x", 0)
	const each = 5
	s.do(func(l *Loop) {
		part := make([]byte, 4096)
		for round := range 200 {
			writes, want := l.stats.Writes.Load(), ""
			for _, p := range clienttest.Numbered(each, 60) {
				if err := loopPublish(l, "x", p, 0); err != nil {
					t.Error(err)
				}
				want += "\x81\x3c" + p
			}
			loopDeliver(l)
			l.sweep()
			if n := l.stats.Writes.Load() - writes; n != 1 || c.behind() {
				t.Errorf("round %d: %d writes, behind: %v", round, n, c.behind())
			}
			if n, err := poller.Read(fd, part); string(part[:n]) != want || err != nil {
				t.Errorf("round %d: %d bytes came, not the %d expected: %v", round, n, len(want), err)
			}
		}
	})
	if n := s.deliveries(); n != 200*each {
		t.Errorf("%d deliveries are counted, want %d", n, 200*each)
	}
}

// Buffers go from one connection to the next, and nothing that was in them.
func TestNextConnectionFindsEmptyBuffers(t *testing.T) {
	l := loopBare(t, loopsConfig{PingInterval: -1})
	first, next := loopConn(l), loopConn(l)
	for i := range 3 {
		first.feed([]byte(clienttest.Text("half a message")[:9]))
		first.pong([]byte("pending"))
		first.Out.sent = i
		first.Out.pong = append(first.Out.pong, "newest"...)
		out, in, state := first.Out, first.In, first.In.frame
		first.dropOutput()
		first.dropInput()
		if next.output() != out || next.Pending() != 0 || !next.Out.empty() {
			t.Errorf("%d bytes of another's are pending", next.Pending())
		}
		if next.frame() != state || next.In != in || !state.Idle() || next.hasPutOff() {
			t.Error("another's message is in progress")
		}
		next.dropOutput()
		next.dropInput()
	}
}

// A write that is cut within a frame leaves the cursor on the frame's end, and
// the rest of it goes before any reply.
func TestReplyGoesBehindTheRestOfACutFrame(t *testing.T) {
	s := startLoops(t, loopsConfig{Loops: 1, PingInterval: -1, WriteTimeout: -1})
	for name, write := range map[string]func(l *Loop, c *Conn){
		"by a sweep":       func(l *Loop, c *Conn) { l.sweep() },
		"when writable":    func(l *Loop, c *Conn) { c.block(); c.write() },
		"through the cork": func(l *Loop, c *Conn) { c.sub.sub().flags |= FlagNoEcho; c.mark(); l.sweep() },
	} {
		t.Run(name, func(t *testing.T) {
			fd, c := loopPair(t, s, "x", 4<<10)
			texts := clienttest.Numbered(40, 701) // no number of them fills a socket exactly
			written := 0
			s.do(func(l *Loop) {
				for _, text := range texts {
					if err := loopPublish(l, "x", text, 0); err != nil {
						t.Error(err)
					}
				}
				loopDeliver(l)
				write(l, c)
				g := loopGroup(l, "x")
				cursor := g.subs[0].cursor
				if cursor%705 != 0 || cursor == 0 || !c.behind() || c.Pending() != 0 || c.sub.cut == 0 || c.sub.cut >= 705 {
					t.Errorf("at %d of %d, %d bytes of the next out, %d pending", cursor, g.Log().Head(), c.sub.cut, c.Pending())
				}
				written = len(texts) - int(g.Between(cursor, g.Log().Head(), 0)) + 1
				c.Reply(ws.OpText, []byte("reply"))
				c.Settle()
			})
			end := loopNetConn(t, fd)
			loopWantTexts(t, end, texts[:written])
			loopWantTexts(t, end, []string{"reply"})
			loopWantTexts(t, end, texts[written:])
			loopWantIdle(t, s, c)
			if err := end.CloseWrite(); err != nil {
				t.Error(err)
			}
			s.wantConnections(0)
		})
	}
}
