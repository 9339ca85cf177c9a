package gate

import (
	"context"
	"testing"
	"time"
)

const patience = 30 * time.Second

// receive waits until something is sent, or a channel is closed.
func receive[T any](t *testing.T, what string, from <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-from:
	case <-time.After(patience):
		t.Fatalf("%s: nothing happens", what)
	}
	return v
}

// enter enters on a goroutine of its own, and leaves at once.
func enter(g *Gate, stop <-chan struct{}) <-chan bool {
	in := make(chan bool, 1)
	go func() {
		ok := g.Enter(stop)
		if ok {
			g.Leave()
		}
		in <- ok
	}()
	return in
}

// waits waits until so many wait.
func waits(t *testing.T, g *Gate, n int) {
	t.Helper()
	for end := time.Now().Add(patience); g.Waiting() != n; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d wait, want %d", g.Waiting(), n)
		}
	}
}

func TestHeldGateKeepsEverybodyOut(t *testing.T) {
	g := new(Gate)
	if first, second := g.Enter(nil), g.Enter(nil); !first || !second || !g.Wait(nil) {
		t.Fatal("the gate is not open")
	}
	held := make(chan struct{})
	go func() {
		g.Hold()
		close(held)
	}()
	g.Leave()
	select {
	case <-held:
		t.Fatal("the gate is held while somebody is in")
	case <-time.After(10 * time.Millisecond): // a gate that is right never gets here by being slow
	}
	g.Leave()
	receive(t, "hold", held)
	if g.IsShut() {
		t.Error("a gate that is held is shut")
	}
	first, second := enter(g, nil), enter(g, nil)
	waits(t, g, 2)
	stop := make(chan struct{})
	stopped := enter(g, stop)
	waits(t, g, 3)
	close(stop)
	if receive(t, "stop", stopped) {
		t.Error("one that was stopped is in")
	}
	if g.Wait(stop) {
		t.Error("the gate is open for one that was stopped")
	}
	waits(t, g, 2)
	g.Release()
	if !receive(t, "release", first) || !receive(t, "release", second) {
		t.Error("a gate that is open again lets nobody in")
	}
	waits(t, g, 0)
	g.Hold() // as the next attempt does
	again := enter(g, nil)
	waits(t, g, 1)
	g.Release()
	if !receive(t, "the second release", again) {
		t.Error("a gate that is open again lets nobody in")
	}
}

func TestShutGateStaysShut(t *testing.T) {
	g := new(Gate)
	if g.IsShut() {
		t.Error("a new gate is shut")
	}
	g.Hold()
	waiting := enter(g, nil)
	waits(t, g, 1)
	g.Shut()
	if receive(t, "shut", waiting) || g.Enter(nil) || g.Wait(nil) {
		t.Error("somebody is in")
	}
	if !g.IsShut() || g.Waiting() != 0 {
		t.Errorf("shut: %v, %d wait", g.IsShut(), g.Waiting())
	}
}

// An attempt is found by its context, of which parts were done or not.
func TestAttempt(t *testing.T) {
	var a Attempt
	ctx, cancel := context.WithCancel(With(context.Background(), &a))
	defer cancel()
	Done(context.Background()) // of nobody
	if a.Done() {
		t.Error("nothing was done")
	}
	if Done(ctx); !a.Done() {
		t.Error("something was done")
	}
}
