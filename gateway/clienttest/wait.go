package clienttest

import (
	"testing"
	"time"
)

// Patience bounds every wait for something that must happen.
const Patience = time.Minute

// Scaled returns the size of a test: full, or part of it where the race detector
// or -short asks for less.
func Scaled(full, part int) int {
	if RaceEnabled || testing.Short() {
		return part
	}
	return full
}

// WaitFor waits until a condition holds. It looks often, because most
// conditions hold at once, and fails the test when patience ends.
func WaitFor(t testing.TB, why string, holds func() bool) {
	t.Helper()
	end := time.Now().Add(Patience)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !holds() {
		if time.Now().After(end) {
			t.Fatalf("waited %v for %s", Patience, why)
		}
		<-tick.C
	}
}

// Receive waits for a value.
func Receive[T any](t testing.TB, why string, from <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-from:
	case <-time.After(Patience):
		t.Fatalf("waited %v for %s", Patience, why)
	}
	return v
}

// Send waits until somebody takes a value.
func Send[T any](t testing.TB, to string, ch chan<- T, v T) {
	t.Helper()
	select {
	case ch <- v:
	case <-time.After(Patience):
		t.Fatalf("waited %v for %s", Patience, to)
	}
}
