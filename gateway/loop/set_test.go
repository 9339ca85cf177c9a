package loop

import (
	"context"
	"errors"
	"testing"
	"time"

	"sluice/gateway/clienttest"
)

func TestStoppingReturnsAlthoughALoopIsStuck(t *testing.T) {
	t.Parallel()
	stuck, free := make(chan struct{}), make(chan struct{})
	s := startLoops(t, loopsConfig{Loops: 1, Filter: func(string, []byte, bool, uint64) bool { close(stuck); <-free; return false }})
	clienttest.Dial(t, s, "/ws/x").Send(clienttest.Text("x"))
	clienttest.Receive(t, "the hook to be called", stuck)
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	ended, begun := make(chan error, 1), time.Now()
	s.once.Do(func() { // the loops' end is this test's
		go func() {
			all, err := s.stop(ctx)
			if all {
				t.Error("a loop that is stuck has ended")
			}
			ended <- err
		}()
	})
	if err := clienttest.Receive(t, "stopping to return", ended); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("stopped: %v, want the context's error", err)
	}
	if took := time.Since(begun); took < abortTimeout {
		t.Errorf("the loop had %v to cut everybody off, want %v", took, abortTimeout)
	}
	// The loop is not stuck for ever here; what was given up is done now.
	close(free)
	s.wantConnections(0)
	s.set.Running.Wait()
	for _, l := range s.set.loops {
		if rest := l.inbox.close(); len(rest) != 0 {
			t.Errorf("the loop did not take %d messages", len(rest))
		}
		l.poller.Close()
	}
	s.set.background.Wait()
}

// IDs count up from the node's own bits, which are drawn where they are not given.
func TestIDsBeginWithTheNode(t *testing.T) {
	if got, want := bareSet(Config{Node: 0xabcdef}).nextID(), uint64(0xabcdef<<40+1); got != want {
		t.Errorf("the first ID is %#x, want %#x", got, want)
	}
	drawn := map[uint64]bool{}
	for range 10 {
		node := bareSet(Config{}).nextID() >> 40
		if drawn[node] = true; node == 0 {
			t.Error("a node has no bits of its own")
		}
	}
	if len(drawn) < 9 { // two of ten are the same once in 400,000 times
		t.Errorf("ten nodes have drawn %v", drawn)
	}
}
