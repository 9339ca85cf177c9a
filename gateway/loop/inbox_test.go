package loop

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"

	"sluice/gateway/clienttest"

	"github.com/google/go-cmp/cmp"
)

func TestEachLoopYieldsOneAnswerOfEachLoop(t *testing.T) {
	s := startLoops(t, loopsConfig{Loops: 3})
	seen := map[int]int{}
	for index, err := range EachLoop(t.Context(), s.set, func(l *Loop) int { return l.index }) {
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
	s := startLoops(t, loopsConfig{Loops: 2})
	release := s.hold(1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	answers, got := 0, error(nil)
	for _, err := range EachLoop(ctx, s.set, func(*Loop) struct{} { return struct{}{} }) {
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
	l := &Loop{}
	l.inbox.wake = func() {} // nobody takes the question
	s := bareSet(Config{})
	s.loops = []*Loop{l}
	close(s.stopped)
	var got error
	for _, err := range EachLoop(t.Context(), s, func(*Loop) struct{} { return struct{}{} }) {
		got = err
	}
	if got != ErrStopping {
		t.Errorf("the question ended with %v", got)
	}
	l.inbox.close()
	got = nil
	for _, err := range EachLoop(t.Context(), s, func(*Loop) struct{} { return struct{}{} }) {
		got = err
	}
	if got != ErrStopping {
		t.Errorf("a question to a loop that had ended, ended with %v", got)
	}
}

func TestInboxGivesAMessageOnce(t *testing.T) {
	b := inbox{wake: func() {}}
	b.put(stop{})
	if rest := b.close(); len(rest) != 1 {
		t.Errorf("close gave %d messages, want the one that came before", len(rest))
	}
	if again := append(b.take(), b.close()...); len(again) != 0 {
		t.Errorf("%d messages are given once more", len(again))
	}
	if b.put(stop{}) {
		t.Error("a closed inbox takes messages")
	}
}

func TestInboxWakesOnceForEachTake(t *testing.T) {
	wakes := 0
	b := &inbox{wake: func() { wakes++ }}
	message := func(i int) Message { return call(func(l *Loop) { l.index = i }) }
	taken := func() (got []int) {
		l := new(Loop)
		for _, m := range b.take() {
			m.Deliver(l)
			got = append(got, l.index)
		}
		return got
	}
	for i := range 3 {
		if !b.put(message(i)) {
			t.Fatal("an open inbox refuses")
		}
	}
	if diff := cmp.Diff([]int{0, 1, 2}, taken()); diff != "" || wakes != 1 {
		t.Errorf("%d wakes (-want +got):\n%s", wakes, diff)
	}
	if got := taken(); got != nil || wakes != 1 {
		t.Errorf("an empty inbox gives %v", got)
	}
	b.put(message(3))
	if diff := cmp.Diff([]int{3}, taken()); diff != "" || wakes != 2 {
		t.Errorf("%d wakes (-want +got):\n%s", wakes, diff)
	}
	b.put(message(4))
	if rest := b.close(); len(rest) != 1 {
		t.Errorf("%d messages were left at the end, want 1", len(rest))
	}
	if got := taken(); got != nil {
		t.Errorf("%v was given twice", got)
	}
	if b.put(message(5)) || wakes != 3 {
		t.Error("a closed inbox takes a message")
	}
}

func TestInboxKeepsEachSendersOrder(t *testing.T) {
	const senders, each = 8, 2000
	woken := make(chan struct{}, 1)
	b := &inbox{wake: func() {
		select {
		case woken <- struct{}{}:
		default:
			t.Error("woken twice for one take")
		}
	}}
	got := make([][]int, senders)
	var sending sync.WaitGroup
	for i := range senders {
		sending.Go(func() {
			for n := range each {
				b.put(call(func(*Loop) { got[i] = append(got[i], n) }))
			}
		})
	}
	for n := 0; n < senders*each; {
		clienttest.Receive(t, "the inbox to wake the loop", woken)
		for _, m := range b.take() {
			m.Deliver(nil)
			n++
		}
	}
	sending.Wait()
	for i := range got {
		if len(got[i]) != each || !slices.IsSorted(got[i]) {
			t.Errorf("sender %d: %d messages, sorted: %v", i, len(got[i]), slices.IsSorted(got[i]))
		}
	}
}
