package gateway

import (
	"context"
	"errors"
	"testing"
)

func TestEachLoopYieldsOneAnswerOfEachLoop(t *testing.T) {
	s := start(t, Config{Loops: 3})
	seen := map[int]int{}
	for index, err := range eachLoop(t.Context(), s.loop, s.stopped, func(l *loop) int { return l.index }) {
		if err != nil {
			t.Fatal(err)
		}
		seen[index]++
	}
	if len(seen) != 3 || seen[0] != 1 || seen[1] != 1 || seen[2] != 1 {
		t.Errorf("the loops answered %v times", seen)
	}
}

// A loop that is busy keeps its caller no longer than the context, and an answer that nobody
// waits for does not keep the loop.
func TestEachLoopEndsWithItsContext(t *testing.T) {
	s := start(t, Config{Loops: 2})
	release := s.hold(1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	answers, got := 0, error(nil)
	for _, err := range eachLoop(ctx, s.loop, s.stopped, func(*loop) struct{} { return struct{}{} }) {
		if got = err; err == nil {
			answers++
			cancel()
		}
	}
	if answers != 1 || !errors.Is(got, context.Canceled) {
		t.Errorf("%d answers, then %v", answers, got)
	}
	release()
	s.quiet()
}

func TestEachLoopEndsWithTheLoops(t *testing.T) {
	l := &loop{}
	l.inbox.wake = func() {} // nobody takes the question
	s := &Server{loop: []*loop{l}, lifecycle: newLifecycle()}
	close(s.stopped)
	var got error
	for _, err := range eachLoop(t.Context(), s.loop, s.stopped, func(*loop) struct{} { return struct{}{} }) {
		got = err
	}
	if got != errStopping {
		t.Errorf("the question ended with %v", got)
	}
	l.inbox.close()
	for _, err := range eachLoop(t.Context(), s.loop, s.stopped, func(*loop) struct{} { return struct{}{} }) {
		t.Errorf("a loop that had ended was asked: %v", err)
	}
}
