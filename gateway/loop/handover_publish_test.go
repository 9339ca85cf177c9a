package loop

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"sluice/gateway/clienttest"
)

// frozen hands the connections of one set over to another as far as that the old loops are frozen.
func frozen(t *testing.T, from, to *loops, settle func(context.Context) error) (*Giving, *Taking) {
	t.Helper()
	out := &relay{t: t, to: to.set.Take(), r: rand.New(rand.NewPCG(1, 9)), all: map[uint64]bool{}}
	g, passed := from.set.Give(out)
	g.Settle = settle
	clienttest.Receive(t, "all to be passed", passed)
	ctx, cancel := context.WithTimeout(context.Background(), clienttest.Patience)
	defer cancel()
	if err := g.Freeze(ctx); err != nil {
		t.Fatal(err)
	}
	return g, out.to
}

// completed completes what frozen has begun.
func completed(t *testing.T, from, to *loops, g *Giving, taking *Taking) {
	t.Helper()
	if err := to.space.Restore(from.space.Snapshot().Rest(nil)); err != nil {
		t.Fatal(err)
	}
	if _, err := taking.Load(g.Save(nil)); err != nil {
		t.Fatal(err)
	}
	to.space.Restored()
	taking.Start()
	g.Given(0)
}

// Once an engine has answered everything, nothing more is published in the old process: its answer would come too late.
func TestHandOverPublishesNothingBehindTheLastAnswer(t *testing.T) {
	if *clienttest.OverTLS {
		t.Skip("connections with TLS cannot be handed over")
	}
	t.Parallel()
	for _, complete := range []bool{true, false} {
		store := newStore()
		a, b := startLoops(t, loopsConfig{Engine: store, PingInterval: -1}), startLoops(t, loopsConfig{PingInterval: -1})
		reader := clienttest.Dial(t, a, "/ws/x")
		c := clienttest.Dial(t, a, "/ws/x?echo=off")
		c.Send(clienttest.Text("one") + clienttest.Text("two") + clienttest.Text("three"))
		first := store.next(t)
		g, taking := frozen(t, a, b, func(context.Context) error {
			first.answer(a.space, nil)
			return nil
		})
		if n := len(store.got); n != 0 {
			t.Errorf("%d messages were published that nobody awaits", n)
		}
		if !complete {
			taking.Abandon()
			g.Thaw()
			for _, text := range []string{"one", "two", "three"} {
				if text != "one" {
					store.next(t).answer(a.space, nil)
				}
				reader.WantText("all are published, once and in order", text)
			}
			continue
		}
		completed(t, a, b, g, taking)
		reader.WantEach("all are published, once and in order", []string{"one", "two", "three"})
		c.Settle(b)
	}
}

// What waits for an engine that is away goes on waiting if nothing is handed over in the end.
func TestHandOverThatFailsWhileTheEngineIsAway(t *testing.T) {
	if *clienttest.OverTLS {
		t.Skip("connections with TLS cannot be handed over")
	}
	t.Parallel()
	for _, complete := range []bool{true, false} {
		e := new(awayEngine)
		e.away.Store(true)
		cfg := loopsConfig{Loops: 1, Engine: e, PingInterval: -1}
		a, b := startLoops(t, cfg), startLoops(t, cfg)
		a.pass(0)
		b.pass(0)
		reader := clienttest.Dial(t, a, "/ws/x")
		c := clienttest.Dial(t, a, "/ws/x?echo=off")
		c.Send(clienttest.Text("one") + clienttest.Text("two"))
		clienttest.WaitFor(t, "it to be tried again", func() bool { return e.refused.Load() >= 2 })
		handOver(t, a, b, 1, complete)
		e.away.Store(false)
		reader.WantEach("they are published, once and in order", []string{"one", "two"})
	}
}

// A question that loops are asked while they are frozen is not answered by loops that have nothing any more.
func TestHandOverOfAQuestion(t *testing.T) {
	if *clienttest.OverTLS {
		t.Skip("connections with TLS cannot be handed over")
	}
	t.Parallel()
	for _, complete := range []bool{true, false} {
		a, b := startLoops(t, loopsConfig{Loops: 3}), startLoops(t, loopsConfig{})
		clienttest.Dial(t, a, "/ws/x")
		g, taking := frozen(t, a, b, nil)
		type answer struct {
			connections int
			err         error
		}
		answered := make(chan answer)
		go func() {
			var all answer
			for n, err := range EachLoop(t.Context(), a.set, func(l *Loop) int { return len(l.conns) }) {
				all.connections, all.err = all.connections+n, err
			}
			answered <- all
		}()
		clienttest.WaitFor(t, "the loops to be asked", func() bool {
			asked := true
			for _, l := range a.all {
				asked = asked && !l.inbox.empty()
			}
			return asked
		})
		if complete {
			completed(t, a, b, g, taking)
		} else {
			taking.Abandon()
			g.Thaw()
		}
		switch got := clienttest.Receive(t, "an answer", answered); {
		case complete && got.err != ErrStopping:
			t.Errorf("handed over: %+v, want %v", got, ErrStopping)
		case !complete && got != answer{connections: 1}:
			t.Errorf("not handed over: %+v, want 1 connection", got)
		}
	}
}

// A client that cannot be handed over is not heard any more: what it asks for is another process's to answer.
func TestHandOverLeavesTLSUnread(t *testing.T) {
	t.Parallel()
	a, b := startLoopsTLS(t, loopsConfig{Loops: 1, PingInterval: -1}), startLoops(t, loopsConfig{PingInterval: -1})
	a.pass(0)
	var clients []*clienttest.Client
	for range 40 {
		clients = append(clients, clienttest.Dial(t, a, "/echo"))
	}
	g, taking := frozen(t, a, b, nil)
	if _, err := taking.Load(g.Save(nil)); err != nil {
		t.Fatal(err)
	}
	taking.Start()
	g.Given(time.Hour)
	a.quiet()
	heard := a.received()
	for _, cl := range clients {
		cl.Send(clienttest.Text("hello"))
	}
	clienttest.WaitFor(t, "the loop to look at what they have sent", func() (looked bool) {
		a.do(func(l *Loop) {
			looked = true
			for _, c := range l.conns {
				looked = looked && (c.Phase != phaseOpen || c.Interest() == 0 || a.received() > heard)
			}
		})
		return looked
	})
	if n := a.received() - heard; n != 0 {
		t.Errorf("%d messages were heard", n)
	}
	for _, cl := range clients[:5] { // whose bytes are not read
		cl.Vanish()
	}
	a.wantConnections(35)
	a.set.post(hurry{})
	for _, cl := range clients[5:] {
		cl.WantClose("it has to come back", 1012)
	}
}
