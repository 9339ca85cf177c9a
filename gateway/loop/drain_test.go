package loop

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"sluice/gateway/clienttest"

	"github.com/gobwas/ws"
)

// drainRig is one loop with clients, whose clock only a test moves.
type drainRig struct {
	*loops
	clients []*clienttest.Client
	ids     []uint64 // of their connections
}

func newDrainRig(t *testing.T, cfg loopsConfig, clients int) *drainRig {
	cfg.Loops = 1
	return dialDrainRig(t, startLoops(t, cfg), clients)
}

func dialDrainRig(t *testing.T, of *loops, clients int) *drainRig {
	r := &drainRig{loops: of}
	for range clients {
		r.clients = append(r.clients, clienttest.Dial(t, r.loops, "/ws/x"))
	}
	r.wantConnections(int64(clients))
	r.quiet()
	r.clock.Stop()
	r.do(func(l *Loop) {
		for _, c := range l.conns {
			r.ids = append(r.ids, c.ID())
		}
	})
	return r
}

// look lets some time pass, has the loop look who has a turn, and returns the connections that are still open, in the order of the loop.
func (r *drainRig) look(d time.Duration) (open []uint64) {
	r.clock.Advance(d)
	r.do((*Loop).readClock)
	r.do(func(l *Loop) {
		for _, c := range l.conns {
			if c.Phase == phaseOpen {
				open = append(open, c.ID())
			}
		}
	})
	return open
}

// Connections are closed in random order, evenly over the time, and no client arrives meanwhile.
func TestDrainSpreadsClosesInRandomOrder(t *testing.T) {
	t.Parallel()
	const clients, over, step = 300, 2 * time.Second, 50 * time.Millisecond
	r := newDrainRig(t, loopsConfig{}, clients)
	r.set.post(stop{over})
	before := r.ids
	var closed []uint64
	var most int
	begun := make([]int, 0, over/step+10) // closed by each step
	for i := 0; len(before) > 0; i++ {
		d := step
		if i == 0 {
			d = 0
		}
		open := r.look(d)
		for _, id := range before {
			if !slices.Contains(open, id) {
				closed = append(closed, id)
			}
		}
		before, begun = open, append(begun, len(closed))
		if last := max(i-int(time.Second/step), 0); i > 0 {
			most = max(most, begun[i]-begun[last])
		}
		want := Drain{Total: clients, Open: int64(len(open)), Closing: int64(clients - len(open))}
		if got := r.set.Drain(); got != want {
			t.Fatalf("after %v: %+v, want %+v", time.Duration(i)*step, got, want)
		}
		if i > cap(begun) {
			t.Fatalf("after %v, %d of %d are closed", time.Duration(i)*step, len(closed), clients)
		}
		if i == 1 {
			late := clienttest.Connect(t, r.loops)
			late.Write(clienttest.UpgradeTo("/ws/x"))
			late.WantGone("no client arrives any more")
		}
	}
	if took := time.Duration(len(begun)-1) * step; took < over*9/10 || took > over*11/10 {
		t.Errorf("it took %v, want about %v", took, over)
	}
	if mean := int(clients * time.Second / over); most > mean*12/10 {
		t.Errorf("%d were closed in one second, want about %d", most, mean)
	}
	runs := 0 // of neighbours in the order in which they came
	for i := range closed[1:] {
		if closed[i+1] == closed[i]+1 || closed[i] == closed[i+1]+1 {
			runs++
		}
	}
	if runs > clients/10 {
		t.Errorf("%d of %d were closed next to their neighbour: the order is not random", runs, clients)
	}
	for _, c := range r.clients {
		c.WantClose("it is told to come back", ws.StatusGoingAway)
	}
	r.wantClosed(ReasonShutdown, clients)
}

// Few clients do not wait for the whole time.
func TestDrainOfFewIsShort(t *testing.T) {
	t.Parallel()
	r := newDrainRig(t, loopsConfig{}, 12)
	r.set.post(stop{time.Hour})
	if open := r.look(0); len(open) == 0 || len(open) == 12 {
		t.Errorf("at once, %d of 12 are left", len(open))
	}
	if open := r.look(150 * time.Millisecond); len(open) != 0 {
		t.Errorf("after 150 ms, %d of 12 are left", len(open))
	}
	for _, c := range r.clients {
		c.WantClose("it is told to come back", ws.StatusGoingAway)
	}
}

// Clients that end by themselves cost no turn, and those that are left are all closed.
func TestDrainGoesOnWithWhoIsLeft(t *testing.T) {
	t.Parallel()
	const clients = 60
	r := newDrainRig(t, loopsConfig{}, clients)
	r.set.post(stop{time.Hour}) // a hundred a second
	r.look(0)
	open := r.look(200 * time.Millisecond)
	var left []*clienttest.Client // those that go were not told yet
	for i, c := range r.clients {
		if gone := i - len(left); gone < 20 && slices.Contains(open, r.ids[i]) {
			c.Vanish()
		} else {
			left = append(left, c)
		}
	}
	r.wantConnections(int64(len(left)))
	n := len(r.look(0))
	if want := len(open) - 20; n != want {
		t.Fatalf("%d are open, want %d", n, want)
	}
	if n := len(r.look(time.Duration(n) * 10 * time.Millisecond)); n != 0 {
		t.Errorf("%d have no turn", n)
	}
	for _, c := range left {
		c.WantClose("it is told to come back", ws.StatusGoingAway)
	}
}

// A client that was told to come back still does when it reads too slowly to learn it.
func TestClientsThatReadSlowlyComeBackAsWell(t *testing.T) {
	t.Parallel()
	s := startLoops(t, loopsConfig{Loops: 1, SendBuffer: 4 << 10, PingInterval: -1})
	_, c := loopDial(t, s, "/ws/x?mode=subscribe", true)
	for _, p := range clienttest.Numbered(200, 1000) {
		s.publish("x", p)
	}
	clienttest.WaitFor(t, "it to be blocked", func() bool { return s.blocked() == 1 })
	s.set.post(stop{})
	s.quiet()
	reason := ReasonShutdown
	for ; reason == ReasonShutdown; s.pass(1) {
		s.do(func(*Loop) {
			if reason = c.reason; !c.ComesBack() {
				t.Errorf("closed for %q, it is taken for one that leaves", reason)
			}
		})
	}
	if reason != ReasonWriteTimeout {
		t.Errorf("it was closed for %q", reason)
	}
}

// While clients do not answer, no more are closed than could come back in two seconds.
func TestDrainPausesWhileClosesBackUp(t *testing.T) {
	t.Parallel()
	const clients, over = 300, 3 * time.Second // 100 a second
	r := newDrainRig(t, loopsConfig{}, clients)
	r.set.post(stop{over})
	for range 50 {
		r.look(100 * time.Millisecond)
	}
	if open := r.look(0); len(open) != clients-200 {
		t.Fatalf("after 5 s in which nobody answered, %d of %d are open, want 100", len(open), clients)
	}
	open := r.look(0)
	for i, c := range r.clients {
		if !slices.Contains(open, r.ids[i]) {
			c.WantClose("it was told to come back", ws.StatusGoingAway)
		}
	}
	r.wantConnections(clients - 200)
	before := len(r.look(0))
	if before < clients-205 {
		t.Errorf("after the pause, %d of 100 are open", before)
	}
	if after := len(r.look(50 * time.Millisecond)); after < before-10 || after == before {
		t.Errorf("50 ms after the pause, %d of %d are open: want the pace, and no burst", after, before)
	}
}

// deadline is a context that says when it will end, and does not.
type deadline struct {
	context.Context
	at time.Time
}

func (d deadline) Deadline() (time.Time, bool) { return d.at, true }

// When there is no time left for a pace, all are told, before they would be cut off.
func TestStopClosesTheRestBeforeItsTimeIsOver(t *testing.T) {
	t.Parallel()
	r := newDrainRig(t, loopsConfig{StopOver: time.Hour}, 50)
	done := make(chan struct{})
	go r.once.Do(func() { // in place of shutdown
		defer close(done)
		if ended, err := r.stop(deadline{context.Background(), time.Now().Add(100 * time.Millisecond)}); !ended || err != nil {
			t.Errorf("the loops do not stop: %v", err)
		}
	})
	for _, c := range r.clients {
		c.WantClose("it is told to come back", ws.StatusGoingAway)
	}
	clienttest.Receive(t, "the loops to stop", done)
	r.wantLoopsEmpty()
}

// nowhere is a Passer that takes nothing.
type nowhere struct{ t *testing.T }

func (n nowhere) Pass(ids []uint64, _ []int) (bool, error) {
	n.t.Errorf("connections %d are passed, want none", ids)
	return false, errors.New("nowhere to pass them")
}
func (nowhere) Gone([]uint64) (bool, error) { return true, nil }

// given connects TLS clients, and hands over the loop that they are on, which cannot travel.
func given(t *testing.T, clients int, over time.Duration) *drainRig {
	r := dialDrainRig(t, startLoopsTLS(t, loopsConfig{Loops: 1}), clients)
	ctx, cancel := context.WithTimeout(context.Background(), clienttest.Patience)
	defer cancel()
	g, passed := r.set.Give(nowhere{t})
	clienttest.Receive(t, "the plain connections to be passed", passed)
	if err := g.Freeze(ctx); err != nil {
		t.Fatal(err)
	}
	g.Given(over)
	return r
}

// Clients that another process cannot take over are told to come back at a pace.
func TestConnectionsThatCannotBeHandedOverCloseAtAPace(t *testing.T) {
	t.Parallel()
	const clients = 30
	r := given(t, clients, time.Hour)
	if open := len(r.look(0)); open < clients-5 || open == clients {
		t.Errorf("at once, %d of %d are open", open, clients)
	}
	if open := len(r.look(100 * time.Millisecond)); open < clients-15 || open > clients-10 {
		t.Errorf("after 100 ms, %d of %d are open, want about %d", open, clients, clients-15)
	}
	r.set.post(stop{}) // Stop does not make it shorter
	if open := len(r.look(0)); open < clients-15 {
		t.Errorf("after Stop, %d of %d are open", open, clients)
	}
	r.look(200 * time.Millisecond)
	for _, c := range r.clients {
		c.WantClose("it is told to come back", statusServiceRestart)
	}
	r.wantClosed(ReasonMoved, clients)
}

// They are told within the time, also where the pace would take longer.
func TestConnectionsThatCannotBeHandedOverCloseInTime(t *testing.T) {
	t.Parallel()
	r := given(t, 30, 200*time.Millisecond) // of which none passes on the clock of the pace
	for _, c := range r.clients {
		c.WantClose("it is told to come back", statusServiceRestart)
	}
}
