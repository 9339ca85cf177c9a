package loop

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"unsafe"

	"sluice/gateway/channel"
	"sluice/gateway/clienttest"
	"sluice/gateway/engine"
	"sluice/gateway/engine/local"
	"sluice/gateway/frame"
	"sluice/gateway/wire"
	"sluice/poller"

	"github.com/google/go-cmp/cmp"
)

// held is a Wait that counts what it is asked for.
type held struct {
	resumed, late, cancelled int
	next                     Wait   // what Resume returns
	onLate                   Wait   // what Late returns
	panics                   string // names of its methods that do
	bytes                    int
	moot                     bool // nobody else needs it
}

func (h *held) Resume(*Conn) Wait {
	h.resumed++
	h.plant("Resume")
	return h.next
}

func (h *held) plant(method string) {
	if strings.Contains(h.panics, method) {
		panic("planted in " + method)
	}
}

func (h *held) Late(*Conn) Wait {
	h.late++
	h.plant("Late")
	return h.onLate
}

func (h *held) Cancel() {
	h.cancelled++
	h.plant("Cancel")
}

func (h *held) Size() int { return h.bytes }

func (h *held) Moot(*Conn) bool { return h.moot }

func (h *held) Again(*Conn) (frame.Message, bool) { return frame.Message{}, false }

// holding returns a Wait that is never late.
func holding() *held {
	h := new(held)
	h.onLate = h
	return h
}

// patient is a protocol whose messages wait for what waits has for them, in order: nil for nothing.
type patient struct {
	plain
	opens Wait
	waits []Wait
	done  []string // messages that were taken
}

func (p *patient) next() (w Wait) {
	if len(p.waits) > 0 {
		w, p.waits = p.waits[0], p.waits[1:]
	}
	return w
}

func (p *patient) Open(*Conn, *Arrival) Wait { return p.opens }

func (p *patient) Message(_ *Conn, m frame.Message) Wait {
	p.done = append(p.done, string(m.Payload))
	return p.next()
}

// patientConn returns a connection whose messages wait, with its peer's descriptor.
func patientConn(t testing.TB, p *patient) (c *Conn, fd int) {
	l := loopBare(t, loopsConfig{PingInterval: -1, WriteTimeout: -1})
	l.variants = []*Variant{{Name: "patient", Protocol: p, Framing: wire.WebSocket}}
	fds := loopSockets(t, 0)
	c = loopWatched(t, l, fds[0])
	t.Cleanup(func() {
		for len(l.conns) > 0 {
			l.conns[0].kill(ReasonReset)
		}
		l.bury()
		if l.held != 0 {
			t.Errorf("%d bytes are held", l.held)
		}
	})
	return c, fds[1]
}

func texts(all ...string) []byte {
	var b strings.Builder
	for _, s := range all {
		b.WriteString(clienttest.Text(s))
	}
	return []byte(b.String())
}

func wantDone(t *testing.T, p *patient, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, p.done); diff != "" {
		t.Errorf("messages taken (-want +got):\n%s", diff)
	}
}

// What a client has sent behind a message that waits is taken behind it, whole or in parts, and
// nothing is read meanwhile.
func TestMessagesBehindOneThatWaits(t *testing.T) {
	first, second := holding(), holding()
	first.next = second
	third := holding()
	p := &patient{waits: []Wait{nil, first, nil, third}}
	c, _ := patientConn(t, p)
	all := texts("a", "b", "c", "d", "e", "f")
	half := len(texts("f")) / 2
	c.feed(all[:len(all)-half])
	wantDone(t, p, "a", "b")
	if !c.Parked() || c.reads() {
		t.Fatal("it does not wait")
	}
	clear(all[:len(all)-half]) // the loop's buffer is used for others
	c.Resume()
	wantDone(t, p, "a", "b")
	c.Resume()
	wantDone(t, p, "a", "b", "c", "d")
	c.Resume()
	wantDone(t, p, "a", "b", "c", "d", "e")
	if c.Parked() || !c.reads() || c.Resume() {
		t.Error("it waits for nothing")
	}
	c.feed(all[len(all)-half:])
	wantDone(t, p, "a", "b", "c", "d", "e", "f")
	if c.In != nil || first.resumed+second.resumed+third.resumed != 3 || first.cancelled+second.cancelled+third.cancelled > 0 {
		t.Errorf("it holds %v; %+v, %+v, %+v", c.In, first, second, third)
	}
}

// A client has sent thousands of tiny messages, of which each waits: what lies behind it stays
// where it is.
func TestWhatWaitsIsNotCopiedAgain(t *testing.T) {
	const n = 4000
	p := new(patient)
	for range n {
		p.waits = append(p.waits, holding())
	}
	c, _ := patientConn(t, p)
	c.feed([]byte(strings.Repeat(clienttest.Text("tiny"), n)))
	copies, was := 0, c.In.kept.buf
	for i := 1; c.Resume(); i++ {
		if c.In == nil || len(c.In.kept.buf) == 0 {
			continue
		}
		if now := c.In.kept.buf; &now[0] != &was[0] {
			copies, was = copies+1, now
		}
		if got, want := len(c.In.kept.Bytes()), len(clienttest.Text("tiny"))*(n-1-i); got != want || c.In.kept.Size() > 2*want+keptSlack {
			t.Fatalf("%d bytes in %d are kept behind message %d, want %d", got, c.In.kept.Size(), i, want)
		}
	}
	if len(p.done) != n || copies > 10 {
		t.Errorf("%d messages were taken, and what was left of them was copied %d times", len(p.done), copies)
	}
}

func TestWaitsAreLate(t *testing.T) {
	for _, again := range []bool{false, true} {
		h := new(held)
		if again {
			h.onLate = h
		}
		p := &patient{waits: []Wait{h}}
		c, _ := patientConn(t, p)
		l := c.loop
		c.feed(texts("a", "b"))
		c.Settle()
		for l.now = timeBegun; l.now < timeBegun+waitSeconds; l.now++ {
			if l.checked = 0; l.due[c.slot] <= l.now {
				t.Errorf("it is due after %d s", l.now-timeBegun)
			}
			if l.now == timeBegun+2 {
				l.due[c.slot] = l.now // something else is due
			}
			l.checkDue()
		}
		if h.late != 0 {
			t.Errorf("it is late after %d s", l.now-timeBegun-1)
		}
		l.checked = 0
		l.checkDue()
		if h.late != 1 || h.resumed+h.cancelled != 0 {
			t.Errorf("after %d s: %+v", l.now-timeBegun, h)
		}
		if again {
			wantDone(t, p, "a")
			if l.due[c.slot] != l.now+waitSeconds {
				t.Errorf("it is due at %d", l.due[c.slot])
			}
			c.Resume()
		}
		wantDone(t, p, "a", "b")
		if err := l.check(); err != nil {
			t.Error(err)
		}
	}
}

// A Wait is cancelled once, however its connection ends, and not resumed any more.
func TestWaitsAreCancelled(t *testing.T) {
	for name, end := range map[string]func(c *Conn, peer int){
		"closed":        func(c *Conn, _ int) { c.Close(ReasonOperator) },
		"closed behind": func(c *Conn, _ int) { c.Close(ReasonShutdown) },
		"killed":        func(c *Conn, _ int) { c.kill(ReasonReset) },
		"broken": func(c *Conn, peer int) {
			if err := c.loop.poller.Del(&c.Desc); err != nil { // the test reports events, not the poller
				t.Error(err)
			}
			poller.SetAbort(peer) // ignored: then the test fails
			poller.Close(peer)
			c.Ready(poller.Hangup)
			if c.Phase != phaseOpen || !c.Parked() {
				t.Error("what it has sent before is not taken any more")
			}
			c.loop.now += abandonSeconds
			c.step((*Conn).expire)
		},
	} {
		h := &held{bytes: 1000}
		p := &patient{waits: []Wait{h}}
		c, peer := patientConn(t, p)
		c.feed(texts("a", "b"))
		c.Settle()
		if held := c.loop.held; held < h.bytes || held > h.bytes+100 {
			t.Errorf("%s: %d bytes are counted, want little more than the %d that wait", name, held, h.bytes)
		}
		end(c, peer)
		c.Settle()
		if h.bytes = 0; c.Phase == phaseOpen || c.Resume() || h.cancelled != 1 || h.resumed != 0 {
			t.Errorf("%s: phase %d, %+v", name, c.Phase, h)
		}
		wantDone(t, p, "a")
		if err := c.loop.check(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A client that is gone does not wait for what nobody else needs, unless it has sent something behind
// that.
func TestClientThatIsGoneDoesNotWait(t *testing.T) {
	for _, test := range []struct {
		name           string
		moot           bool
		behind, unread []byte // what it has sent behind the message, read with it or not
		stays          bool
	}{
		{name: "nothing behind", moot: true},
		{name: "others need it", stays: true},
		{name: "messages behind", moot: true, behind: texts("b"), stays: true},
		{name: "messages in the kernel", moot: true, unread: texts("b"), stays: true},
	} {
		for ev, end := range map[poller.Events]func(peer int) error{poller.PeerShut: poller.ShutdownWrite, poller.Hangup: poller.Close} {
			h := &held{moot: test.moot}
			p := &patient{waits: []Wait{h}}
			c, peer := patientConn(t, p)
			c.loop.scratch = make([]byte, scratchBytes)
			c.feed(append(texts("a"), test.behind...))
			if c.Settle(); c.Interest() != poller.Readable {
				t.Errorf("%s: it waits for %v", test.name, c.Interest())
			}
			if c.Ready(poller.Readable); c.Interest() != poller.PeerShut {
				t.Errorf("%s: when something has come, it waits for %v", test.name, c.Interest())
			}
			if err := c.loop.poller.Del(&c.Desc); err != nil { // the test reports events, not the poller
				t.Error(err)
			}
			if n, err := poller.Write(peer, test.unread); n < len(test.unread) || err != nil {
				t.Error(n, err)
			}
			if err := end(peer); err != nil {
				t.Error(err)
			}
			c.Ready(ev)
			if open := c.Phase == phaseOpen; open != test.stays || open != c.Parked() || h.cancelled == 0 != test.stays {
				t.Errorf("%s, %v: phase %d, reason %v, %+v", test.name, ev, c.Phase, c.reason, h)
			}
			want := []string{"a"}
			if test.behind != nil || test.unread != nil {
				want = append(want, "b")
			}
			c.Resume()
			wantDone(t, p, want...)
			if c.Phase == phaseOpen {
				t.Errorf("%s, %v: it does not end", test.name, ev)
			}
			if err := c.loop.check(); err != nil {
				t.Errorf("%s: %v", test.name, err)
			}
		}
	}
}

// A message that ends its connection, and returns a Wait nevertheless, does not wait.
func TestWaitOfAConnectionThatEndsIsCancelled(t *testing.T) {
	h := holding()
	c, _ := patientConn(t, &patient{waits: []Wait{&closer{held: held{next: h}}}})
	c.feed(texts("a", "b"))
	if c.Resume(); c.Phase == phaseOpen || h.cancelled != 1 || c.Parked() {
		t.Errorf("phase %d, %+v", c.Phase, h)
	}
}

// closer closes its connection when it is resumed.
type closer struct{ held }

func (w *closer) Resume(c *Conn) Wait {
	c.Close(ReasonOperator)
	return w.next
}

// A panic costs the connection alone, and the Wait is cancelled once.
func TestPanicOfAWait(t *testing.T) {
	for name, test := range map[string]struct {
		panics string // its methods that do
		do     func(*Conn)
		want   Reason
	}{
		"Resume":            {"Resume", func(c *Conn) { c.Resume() }, ReasonPanic},
		"Late":              {"Late", late, ReasonPanic},
		"Resume and Cancel": {"Resume Cancel", func(c *Conn) { c.Resume() }, ReasonPanic},
		"Late and Cancel":   {"Late Cancel", late, ReasonPanic},
		"Cancel":            {"Cancel", (*Conn).stepEnd, ReasonOperator},
	} {
		h := &held{panics: test.panics, bytes: 100}
		p := &patient{waits: []Wait{h}}
		c, _ := patientConn(t, p)
		c.feed(texts("a", "b"))
		c.Settle()
		test.do(c)
		if c.Phase == phaseOpen || c.reason != test.want || h.cancelled != 1 || c.Parked() || c.loop.stats.Panics.Load() != 1 {
			t.Errorf("%s: phase %d, reason %v, %d panics, %+v", name, c.Phase, c.reason, c.loop.stats.Panics.Load(), h)
		}
		wantDone(t, p, "a")
		if err := c.loop.check(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// late lets a connection's Wait be late.
func late(c *Conn) {
	c.loop.now += waitSeconds
	c.loop.checkDue()
}

// What came behind the request of a client waits with its connection. It gets no response before it is in its channels:
// what is published once it has one reaches it.
func TestEarlyBytesWaitForOpen(t *testing.T) {
	h := holding()
	p := &patient{opens: h}
	l := loopBare(t, loopsConfig{PingInterval: -1})
	v := &Variant{Name: "patient", Protocol: p, Framing: wire.WebSocket}
	l.variants = []*Variant{v}
	fds := loopSockets(t, 0)
	l.cfg.Admission.(*loops).admitted.Add(1)
	early := texts("a", "b")
	(&Arrival{Hello: Hello{Variant: v}, FD: fds[0], Early: early, Response: []byte("welcome"), From: l.cfg.Admission.(*loops)}).Deliver(l)
	clear(early)
	c := l.conns[0]
	if !c.Parked() || len(p.done) > 0 {
		t.Errorf("%q were taken", p.done)
	}
	var b [100]byte
	if n, err := poller.Read(fds[1], b[:]); n > 0 || err != nil {
		t.Errorf("it was sent %q (%v) before it is in", b[:n], err)
	}
	c.Resume()
	wantDone(t, p, "a", "b")
	if n, err := poller.Read(fds[1], b[:]); string(b[:n]) != "welcome" {
		t.Errorf("it was sent %q (%v)", b[:n], err)
	}
	c.kill(ReasonReset)
	l.bury()
}

// Replies that are due first let a message wait however long its client takes to read them.
func TestMessageWaitsForReplies(t *testing.T) {
	h := new(held)
	p := &patient{waits: []Wait{AfterReplies(h)}}
	c, fd := patientConn(t, p)
	if err := c.loop.poller.Del(&c.Desc); err != nil { // its socket is not really full
		t.Error(err)
	}
	c.feed(texts("a", "b"))
	c.Reply(2, make([]byte, 2*PendingReadMax))
	c.block()
	c.Settle()
	c.loop.now += 2 * waitSeconds
	c.loop.checkDue()
	if c.Settle(); h.late+h.resumed+h.cancelled != 0 || !c.Parked() {
		t.Errorf("it does not wait for its client: %+v", h)
	}
	for part := make([]byte, 64<<10); c.Pending() > 0; poller.Read(fd, part) { // ignored: Pending tells
		c.write()
	}
	c.Settle()
	wantDone(t, p, "a", "b")
	if h.resumed != 1 {
		t.Errorf("%+v", h)
	}
}

// A client's publications wait for an engine that answers later: each for the one before.
func TestPublicationsWaitForTheEngine(t *testing.T) {
	t.Parallel()
	store := newStore()
	s := startLoops(t, loopsConfig{Engine: store, PingInterval: -1})
	reader := clienttest.Dial(t, s, "/ws/x")
	c := clienttest.Dial(t, s, "/ws/x?echo=off")
	for i := range 3 {
		c.Send(clienttest.Text(fmt.Sprint("m", i)))
	}
	for i := range 3 {
		p := store.next(t)
		if want := fmt.Sprint("m", i); p.payload != want {
			t.Fatalf("the engine got %q, want %q", p.payload, want)
		}
		s.quiet()
		if len(store.got) > 0 {
			t.Fatal("it got another one before its answer")
		}
		p.answer(s.space, nil)
		reader.WantText("it is published", p.payload)
	}
	c.Settle(s)
}

// An engine that does not answer ends the connection after a while, and its answer comes too late.
func TestEngineIsLate(t *testing.T) {
	t.Parallel()
	for _, late := range []bool{true, false} {
		store := newStore()
		s := startLoops(t, loopsConfig{Engine: store, PingInterval: -1})
		c := clienttest.Dial(t, s, "/ws/x")
		c.Send(clienttest.Text("m") + clienttest.Text("behind"))
		p := store.next(t)
		if late {
			s.pass(int(waitSeconds))
		} else {
			p.answer(s.space, engine.ErrUnavailable)
		}
		c.WantClose("it cannot be stored", 1013)
		if late {
			p.answer(s.space, nil)
		}
		s.quiet()
		if len(store.got) > 0 {
			t.Error("the next one was published")
		}
		s.wantClosed(ReasonUnavailable, 1)
	}
}

// An engine may answer before the encoder that hands it a large publication is done. Its connection goes on
// at once, and once.
func TestEngineAnswersBeforeItsEncoderIsDone(t *testing.T) {
	t.Parallel()
	e := &early{answered: make(chan struct{}), end: make(chan struct{})}
	end := sync.OnceFunc(func() { close(e.end) })
	defer end()
	s := startLoops(t, loopsConfig{Loops: 1, Engine: e, PingInterval: -1})
	reader, c := clienttest.Dial(t, s, "/ws/x"), clienttest.Dial(t, s, "/ws/x?echo=off")
	c.Send(clienttest.Text("large") + clienttest.Text("behind"))
	clienttest.Receive(t, "the answer", e.answered)
	reader.WantText("the one before is answered", "behind")
	end()
	c.Send(clienttest.Text("later"))
	reader.WantText("it goes on", "later")
	s.quiet()
	if n := s.sum(func(st *Stats) uint64 { return st.Publications() }); n != 3 {
		t.Errorf("%d publications are counted, want 3", n)
	}
	c.Settle(s)
}

// early is an engine for which a publication is too large for a loop. It answers that, and returns later.
type early struct {
	local.Engine
	answered, end chan struct{}
}

func (e *early) Publish(name string, ch *channel.Channel, p *channel.Publication, s *channel.Scratch, c engine.Caller) (channel.Receipt, error) {
	switch {
	case string(p.Payload) != "large":
		return e.Engine.Publish(name, ch, p, s, c)
	case s.Limit > 0: // a loop's
		return channel.Receipt{}, channel.ErrLarge
	}
	c.Published(channel.Receipt{}, nil)
	close(e.answered)
	<-e.end
	return channel.Receipt{}, engine.ErrPending
}

// store is an engine that answers when the test says so.
type store struct {
	engine.Engine
	got chan stored
}

type stored struct {
	name, payload string
	from          uint64
	caller        engine.Caller
}

func newStore() *store { return &store{local.Engine{}, make(chan stored, 16)} }

func (e *store) Publish(name string, _ *channel.Channel, p *channel.Publication, _ *channel.Scratch, c engine.Caller) (channel.Receipt, error) {
	e.got <- stored{name, string(p.Payload), p.From, c}
	return channel.Receipt{}, engine.ErrPending
}

func (e *store) next(t *testing.T) stored {
	t.Helper()
	return clienttest.Receive(t, "the engine to be asked", e.got)
}

// answer publishes, unless err says that this failed, and answers.
func (p stored) answer(space *channel.Space, err error) {
	var r channel.Receipt
	if ch := space.Find(p.name); ch != nil && err == nil {
		r, err = ch.Publish(&channel.Publication{Payload: []byte(p.payload), From: p.from}, new(channel.Scratch), nil)
	}
	p.caller.Published(r, err)
}

// What waits costs little beside its bytes, because a full channel may let thousands of
// connections wait.
func TestSizeOfWhatWaits(t *testing.T) {
	if n := unsafe.Sizeof(input{}) + unsafe.Sizeof(Publishing{}); n > 256 {
		t.Errorf("a connection that waits for its publication has %d bytes more, want 256 at most", n)
	}
}

func TestKept(t *testing.T) {
	var k Kept
	all := []byte(strings.Repeat("0123456789", 1000))
	k.Keep(all)
	all[0] = 'x'
	for _, n := range []int{10_000, 9999, 5001, 1000, 999, 1, 0} {
		p := k.Bytes()
		k.Keep(p[len(p)-n:])
		if got := k.Bytes(); !slices.Equal(got, []byte(strings.Repeat("0123456789", 1000))[10_000-n:]) || k.Size() > 2*n+keptSlack {
			t.Errorf("%d bytes are %d in %d", n, len(got), k.Size())
		}
	}
	k.Keep([]byte("other"))
	if k.Keep([]byte("another")); string(k.Bytes()) != "another" {
		t.Errorf("%q", k.Bytes())
	}
}

// awayEngine is away until it is back. It counts what it has refused.
type awayEngine struct {
	local.Engine
	away    atomic.Bool
	later   atomic.Bool // it answers later
	refused atomic.Int64
}

func (e *awayEngine) Publish(name string, ch *channel.Channel, p *channel.Publication, s *channel.Scratch, c engine.Caller) (channel.Receipt, error) {
	if !e.away.Load() {
		return e.Engine.Publish(name, ch, p, s, c)
	}
	if e.refused.Add(1); e.later.Load() {
		go c.Published(channel.Receipt{}, engine.ErrAway)
		return channel.Receipt{}, engine.ErrPending
	}
	return channel.Receipt{}, engine.ErrAway
}

// A client that gets no answer waits with its message while the engine is away, and is closed if that takes too
// long.
func TestMessagesWaitWhileTheEngineIsAway(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ later, back bool }{{false, true}, {true, true}, {false, false}, {true, false}} {
		t.Run(fmt.Sprintf("%+v", tt), func(t *testing.T) {
			t.Parallel()
			e := new(awayEngine)
			e.away.Store(true)
			e.later.Store(tt.later)
			s := startLoops(t, loopsConfig{Loops: 1, Engine: e, PingInterval: -1})
			s.pass(0) // no time passes by itself
			reader := clienttest.Dial(t, s, "/ws/x")
			c := clienttest.Dial(t, s, "/ws/x?echo=off")
			c.Send(clienttest.Text("one") + clienttest.Text("two"))
			clienttest.WaitFor(t, "it to be tried again", func() bool { return e.refused.Load() >= 3 })
			if tt.back {
				s.pass(int(waitSeconds) - 1)
				e.away.Store(false)
				reader.WantEach("they are published, once and in order", []string{"one", "two"})
				c.Settle(s)
				s.publish("x", "three")
				reader.WantText("nothing else was", "three")
				return
			}
			s.pass(int(waitSeconds))
			c.WantClose("that took too long", statusTryAgainLater)
			s.wantClosed(ReasonUnavailable, 1)
			e.away.Store(false)
			s.publish("x", "three")
			reader.WantText("nothing was published", "three")
		})
	}
}

// What has waited and is then refused for good, with an unknown result, is not tried again.
func TestUnknownResultIsNotTriedAgain(t *testing.T) {
	t.Parallel()
	store := newStore()
	s := startLoops(t, loopsConfig{Loops: 1, Engine: store, PingInterval: -1})
	s.pass(0)
	c := clienttest.Dial(t, s, "/ws/x")
	c.Send(clienttest.Text("m"))
	store.next(t).answer(s.space, engine.ErrAway)
	store.next(t).answer(s.space, engine.ErrUnavailable) // it was tried again
	c.WantClose("its result is not known", statusTryAgainLater)
	if s.quiet(); len(store.got) > 0 {
		t.Error("it was tried once more")
	}
}

// The publication of a client that leaves meanwhile is still made, and one that waits is given up with its
// connection.
func TestClientThatLeavesWhileTheEngineIsAway(t *testing.T) {
	t.Parallel()
	e := new(awayEngine)
	e.away.Store(true)
	s := startLoops(t, loopsConfig{Loops: 1, Engine: e, PingInterval: -1})
	s.pass(0)
	reader := clienttest.Dial(t, s, "/ws/x")
	left, killed := clienttest.Dial(t, s, "/ws/x"), clienttest.Dial(t, s, "/ws/x")
	left.Send(clienttest.Text("from one that has left"))
	killed.Send(clienttest.Text("from one that was killed"))
	clienttest.WaitFor(t, "both to wait", func() (both bool) {
		s.do(func(l *Loop) { both = len(l.away) == 2 })
		return both
	})
	left.Fin()
	s.do(func(l *Loop) { l.conns[2].step(func(c *Conn) { c.kill(ReasonOperator) }) })
	killed.Vanish()
	e.away.Store(false)
	reader.WantText("it is published", "from one that has left")
	s.publish("x", "last")
	reader.WantText("nothing else is", "last")
}
