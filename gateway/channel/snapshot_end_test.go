package channel

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"
)

// A channel that ends while what has changed is appended (Trim does not stop for it) is never followed by one of the same
// epoch in the other process: that one would begin an order again that clients know.
func TestSnapshotOfChannelThatEndsMeanwhile(t *testing.T) {
	s := snapSpaceOf(2 << 10)
	name := ""
	for i := 0; s.shard(name) != &s.shards[0]; i++ {
		name = fmt.Sprintf("passing/%d", i)
	}
	m := join(t, s, name, padded(1))
	c := m.Log().Channel()
	c.Publish(&Publication{Payload: []byte("x")}, new(Scratch), nil)
	m.serve()
	n, to := s.Snapshot(), snapSpaceOf(2<<10)
	piece, _ := n.Copy(nil, 1<<20)
	if err := to.Restore(piece); err != nil {
		t.Fatal(err)
	}
	last := &s.shards[spaceShards-1]
	last.mu.Lock()
	rest := make(chan []byte)
	go func() { rest <- n.Rest(nil) }()
	for end := time.Now().Add(30 * time.Second); !restWaits(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it does not come to the last shard")
		}
	}
	s.Leave(&m.Reader)
	last.mu.Unlock()
	if err := to.Restore(<-rest); err != nil {
		t.Fatal(err)
	}
	to.Restored()
	if next := to.Next(name); next.Epoch == c.Epoch() {
		t.Errorf("the next channel begins at %v, the one before is at %v", next, c.Newest())
	}
}

// restWaits reports whether a goroutine waits for a lock in Rest.
func restWaits() bool {
	b := make([]byte, 1<<20)
	for stack := range strings.SplitSeq(string(b[:runtime.Stack(b, true)]), "\n\n") {
		if strings.Contains(stack, "(*Snapshot).Rest") && strings.Contains(stack, "lockSlow") {
			return true
		}
	}
	return false
}

// A channel that is read, and whose subscribers do not come along but come back, waits for them as one that nobody reads any
// more: it does not count as idle since it was last.
func TestSnapshotOfChannelThatIsRead(t *testing.T) {
	for _, copied := range []bool{false, true} { // before it is read
		s, to := snapSpaceOf(2<<10), snapSpaceOf(2<<10)
		c, err := s.Open("kept/x")
		if err != nil {
			t.Fatal(err)
		}
		c.Publish(&Publication{Payload: []byte("x"), At: 1000}, new(Scratch), nil)
		n := s.Snapshot()
		if copied {
			piece, _ := n.Copy(nil, 1<<20)
			if err := to.Restore(piece); err != nil {
				t.Fatal(err)
			}
		}
		join(t, s, "kept/x", padded(1))
		for range trimPart {
			s.Trim(5000) // its history is over
		}
		if err := to.Restore(n.Rest(nil)); err != nil {
			t.Fatal(err)
		}
		to.Restored()
		for range trimPart {
			to.Trim(5900)
		}
		if got := to.Find("kept/x"); got == nil || got.Newest() != c.Newest() {
			t.Errorf("copied before: %v: it has ended 0.9 s after it was read, and may be idle for 1 s", copied)
		}
		for range trimPart {
			to.Trim(6100)
		}
		if to.Find("kept/x") != nil {
			t.Error("it has not ended")
		}
	}
}
