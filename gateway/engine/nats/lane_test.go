package nats

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/gateway/channel"
	"sluice/gateway/clienttest"
	"sluice/gateway/engine"
	"sluice/gateway/engine/enginetest"
	"sluice/gateway/engine/nats/natstest"

	natsgo "github.com/nats-io/nats.go"
)

// withheld keeps back the answers to some messages.
type withheld struct {
	mu   sync.Mutex
	on   bool          // guarded by mu
	kept []*natsgo.Msg // guarded by mu
}

func (w *withheld) withhold(m *natsgo.Msg) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.on && len(m.Data) > 0 {
		w.kept = append(w.kept, m)
	}
	return w.on && len(m.Data) > 0
}

func (w *withheld) set(on bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.on = on
}

func (w *withheld) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.kept)
}

// pass lets the answers come that were kept back.
func (w *withheld) pass(e *Engine) {
	w.set(false)
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, m := range w.kept {
		for _, l := range e.lanes {
			if strings.HasPrefix(m.Subject, l.inbox) {
				l.answers <- m
			}
		}
	}
	w.kept = nil
}

func startWithheld(t *testing.T, patience time.Duration) (*enginetest.Node, *withheld) {
	w := new(withheld)
	n := newNode(t, func(c *Config) {
		c.DataDir, c.test.withhold, c.test.patience = natstest.Dir(t), w.withhold, patience
	})
	ready(t, n)
	return n, w
}

// A message whose answer is missing when a later one's comes was stored before that, or is lost.
func TestAnswerThatIsMissing(t *testing.T) {
	t.Parallel()
	n, w := startWithheld(t, time.Hour)
	s, r := newSender(t, n), watch(t, n, "x")
	defer r.leave()
	s.publishes("x", "a")
	w.set(true)
	if err := s.sends("x", "b"); err != engine.ErrPending {
		t.Fatal(err)
	}
	clienttest.WaitFor(t, "the answer to b", func() bool { return w.count() == 1 })
	r.wants("before it is acknowledged", "a")
	w.set(false)
	c := s.publishes("x", "c")
	r.wants("when c is acknowledged", "a", "b", "c")
	w.pass(n.Engine.(*Engine))
	if b := clienttest.Receive(t, "the late answer", s.answers); b.err != nil || b.Offset+1 != c.Offset {
		t.Errorf("got %+v and then %+v", b, c)
	}
	s.publishes("x", "d")
	r.wants("behind a late answer", "a", "b", "c", "d")
}

// While a stream does not answer publishing fails at once, and what it has stored is not lost.
func TestStreamThatDoesNotAnswer(t *testing.T) {
	t.Parallel()
	n, w := startWithheld(t, 300*time.Millisecond)
	e := n.Engine.(*Engine)
	s, r := newSender(t, n), watch(t, n, "x")
	defer r.leave()
	s.publishes("x", "a")
	w.set(true)
	if err := s.sends("x", "b"); err != engine.ErrPending {
		t.Fatal(err)
	}
	if b := clienttest.Receive(t, "the answer", s.answers); b.err != engine.ErrUnavailable {
		t.Errorf("no answer in time: %v, want ErrUnavailable", b.err)
	}
	if err := s.sends("x", "c"); err != engine.ErrAway {
		t.Errorf("published while the stream is away: %v, want ErrAway", err)
	}
	if s := e.Stats(); s.Up() || s.Away == 0 {
		t.Errorf("the engine says that it is up: %+v", s)
	}
	w.pass(e)
	r.wants("the late answer", "a", "b")
	clienttest.WaitFor(t, "the stream is there again", func() bool { s := e.Stats(); return s.Up() })
	s.publishes("x", "d")
	r.wants("when it is there again", "a", "b", "d")
	if s := e.Stats(); s.Away != 0 || s.AwayTotal == 0 {
		t.Errorf("the engine says that it is down: %+v", s)
	}
}

// An answer that has come is not missing, although its lane had no time to look at it before.
func TestLaneWithoutTime(t *testing.T) {
	t.Parallel()
	n := newNode(t, func(c *Config) { c.DataDir = natstest.Dir(t) })
	ready(t, n)
	e, s := n.Engine.(*Engine), newSender(t, n)
	l := e.lane("x")
	for what, do := range map[string]func(){
		"the time is over":     func() { l.tick(time.Now().Add(time.Hour)) },
		"the connection broke": func() { e.connection.Add(1); l.down() },
	} {
		begun, sent, done := make(chan struct{}), make(chan struct{}), make(chan struct{})
		l.post(func() {
			defer close(done)
			close(begun)
			<-sent
			clienttest.WaitFor(t, "the answer", func() bool { return len(l.answers) == 1 })
			do()
		})
		<-begun // else the answer may be taken before
		if err := s.sends("x", "a"); err != engine.ErrPending {
			t.Fatal(err)
		}
		close(sent)
		<-done
		if a := clienttest.Receive(t, "what its publisher learns", s.answers); a.err != nil {
			t.Errorf("%s: %v, want none", what, a.err)
		}
	}
}

// What comes while a channel is read from its stream is held, and read where that is too much.
func TestMoreThanARouteHolds(t *testing.T) {
	t.Parallel()
	n := newNode(t, func(c *Config) { c.DataDir = natstest.Dir(t) })
	ready(t, n)
	e, s, r := n.Engine.(*Engine), newSender(t, n), watch(t, n, "x")
	defer r.leave()
	for _, messages := range []int{heldMost, 2 * heldMost} {
		l, held := e.lane("x"), make(chan busy)
		l.post(func() { l.routes["x"].busy = new(busy) }) // it was read before they come
		for i := range messages {
			if err := s.sends("x", fmt.Sprint(i)); err != engine.ErrPending {
				t.Fatal(err)
			}
		}
		for range messages {
			if a := clienttest.Receive(t, "an answer", s.answers); a.err != nil {
				t.Fatal(a.err)
			}
		}
		l.post(func() {
			held <- *l.routes["x"].busy
			l.goOn(l.routes["x"])
		})
		if b := <-held; b.overflow != (messages > heldMost) || len(b.held) > heldMost {
			t.Errorf("%d of %d messages are held", len(b.held), messages)
		}
		last := fmt.Sprint(messages - 1)
		clienttest.WaitFor(t, "the last message", func() bool { got := r.lines(); return len(got) > 0 && got[len(got)-1] == last })
	}
}

// A publisher that finds the queue full is called when there is room.
func TestFullQueue(t *testing.T) {
	t.Parallel()
	n := newNode(t, func(c *Config) { c.DataDir = natstest.Dir(t) })
	ready(t, n)
	e := n.Engine.(*Engine)
	for name, size := range map[string]int{"many": 10, "large": 8 << 10} {
		stop, s, accepted, full := make(chan struct{}), newSender(t, n), 0, 0
		goOn := sync.OnceFunc(func() { close(stop) })
		defer goOn()
		stands := make(chan struct{})
		e.lane(name).later(func() { close(stands); <-stop }) // nothing is sent
		<-stands
		for full < 100 {
			switch err := s.sends(name, strings.Repeat("x", size)); {
			case errors.Is(err, channel.ErrFull):
				full++
			case err != engine.ErrPending || accepted > queueMost:
				t.Fatalf("%v, and %d publications wait", err, accepted)
			default:
				accepted++
			}
		}
		if got := e.Stats(); got.PendingBytes > queueBytesMost || got.Pending != accepted || len(s.released) > 0 {
			t.Errorf("%s: %d publications and %d bytes wait, and %d publishers were called", name, got.Pending, got.PendingBytes, len(s.released))
		}
		goOn()
		for range full {
			clienttest.Receive(t, "room", s.released)
		}
		for range accepted {
			if r := clienttest.Receive(t, "an answer", s.answers); r.err != nil {
				t.Fatal(r.err)
			}
		}
	}
}

func TestRateOfAChannel(t *testing.T) {
	t.Parallel()
	n := newNode(t, func(c *Config) { c.DataDir, c.ChannelRate = natstest.Dir(t), 5 })
	ready(t, n)
	s := newSender(t, n)
	s.at = time.Now() // no time passes
	s.publishes("x", "1", "2", "3", "4", "5")
	if err := s.sends("x", "6"); err != channel.ErrRate {
		t.Errorf("the sixth one in a second: %v, want ErrRate", err)
	}
	s.publishes("y", "1")
	s.at = time.Time{}
	for err := error(channel.ErrRate); err != engine.ErrPending; {
		clienttest.Receive(t, "a call", s.released)
		if err = s.sends("x", "6"); err != engine.ErrPending && err != channel.ErrRate {
			t.Fatal(err)
		}
	}
}

// stopped keeps a node's lanes from receiving, until resume is called.
func stopped(n *enginetest.Node) (resume func()) {
	stop := make(chan struct{})
	var standing sync.WaitGroup
	for _, l := range n.Engine.(*Engine).lanes {
		standing.Add(1)
		l.post(func() {
			standing.Done()
			<-stop
		})
	}
	standing.Wait()
	return func() { close(stop) }
}

// What the client drops because a lane does not take it is read from the stream, or is a gap, also if nothing comes
// behind it.
func TestSlowLane(t *testing.T) {
	t.Parallel()
	srv := natstest.Start(t, natstest.Options{JetStream: true})
	c := startClusterWith(t, 2, func(c *Config) { c.test.live = 10 }, srv.URL())
	near, far := c.nodes[0], c.nodes[1]
	for _, name := range []string{"x", "none"} {
		s, r := newSender(t, near), watch(t, far, name)
		l := far.Engine.(*Engine).lane(name)
		found := make(chan *natsgo.Subscription)
		l.post(func() { found <- l.routes[name].sub })
		sub := <-found
		resume := stopped(far)
		want := strings.Fields("0 1 2 3 4 5 6 7 8 9")
		s.publishes(name, want...)
		clienttest.WaitFor(t, "its messages", func() bool { return len(l.live) == 10 })
		s.publishes(name, "10", "11", "12")
		clienttest.WaitFor(t, "the client has dropped the others, and says so", func() bool {
			if dropped, err := sub.Dropped(); err != nil || dropped != 3 {
				return false
			}
			l.mu.Lock()
			defer l.mu.Unlock()
			return len(l.posted) > 0
		})
		resume()
		if name == "none" {
			r.wants(name, append(want, "gap")...)
		} else {
			r.wants(name, append(want, "10", "11", "12")...)
		}
		r.leave()
	}
}

// What cannot be read is a gap: a message of a newer version, and text that would have clients close their connections.
func TestMessagesThatCannotBeRead(t *testing.T) {
	t.Parallel()
	srv := natstest.Start(t, natstest.Options{JetStream: true})
	var log logLines
	n := startClusterWith(t, 1, func(c *Config) { c.Logger = log.logger() }, srv.URL()).nodes[0]
	e := n.Engine.(*Engine)
	bad := [][]byte{
		append([]byte{messageVersion + 1, 0}, "whatever"...),
		appendMessage(nil, &message{Publication: channel.Publication{Payload: []byte("\xff")}}),
	}
	for name, subject := range map[string]string{"x": e.stream("x").subject("x"), "none": e.live + "none"} {
		s, r := newSender(t, n), watch(t, n, name)
		s.publishes(name, "a")
		for _, m := range bad {
			if err := e.link.main.Publish(subject, m); err != nil {
				t.Fatal(err)
			}
		}
		r.wants(name, "a", "gap", "gap")
		s.publishes(name, "b")
		r.wants(name, "a", "gap", "gap", "b")
		r.leave()
	}
	if s := e.Stats(); s.Gaps[engine.GapVersion] != 4 {
		t.Errorf("gaps are %v, want 4 of what cannot be read", s.Gaps)
	}
	if n := strings.Count(log.String(), "cannot be read"); n < 1 || n > 3 { // one in a while
		t.Errorf("%d lines in the log", n)
	}
	q := engine.HistoryQuery{Channel: "x", Most: channel.Bounds{Count: -1}, Now: time.Now().UnixMilli()}
	got, err := engine.Wait(t.Context(), func(done func(channel.Collected, error)) { e.History(q, done) })
	if err != nil || len(got.Publications) != 1 || string(got.Publications[0].Payload) != "b" {
		t.Errorf("the history is %+v, %v", got, err)
	}
}

// Handing over a publication allocates nothing.
func TestPublishAllocatesNothing(t *testing.T) {
	n := newNode(t, func(c *Config) { c.DataDir = natstest.Dir(t) })
	ready(t, n)
	e := n.Engine.(*Engine)
	stop := make(chan struct{})
	defer close(stop)
	e.lane("x").later(func() { <-stop }) // nothing is sent
	p, scratch := channel.Publication{Payload: bytes.Repeat([]byte("x"), 200), At: time.Now().UnixMilli()}, new(channel.Scratch)
	s := newSender(t, n)
	const rounds = 1000
	for range rounds { // the queue and the pool grow
		pendings.Put(&pending{data: make([]byte, 0, 256)})
	}
	if allocs := testing.AllocsPerRun(rounds, func() {
		if _, err := e.Publish("x", nil, &p, scratch, s); err != engine.ErrPending {
			t.Fatal(err)
		}
	}); allocs > 1 { // the race detector and a collection empty the pool
		t.Errorf("a publication allocates %v times", allocs)
	}
}

// Live messages that wait are bounded by their bytes.
func TestRoomForLiveMessages(t *testing.T) {
	t.Parallel()
	for maxMessage, want := range map[int]int{0: liveMost, 125: liveMost, 64 << 10: liveMost, 1 << 20: 1024, 64 << 20: liveLeast} {
		if got := liveRoom(maxMessage); got != want {
			t.Errorf("%d bytes: room for %d, want %d", maxMessage, got, want)
		}
	}
}
