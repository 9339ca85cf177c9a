package ops

import (
	"runtime"
	"runtime/debug"
	"testing"
	"time"
)

// Memory that was used once is kept, so that what the process needs without clients is
// measured before they come.
func TestFixedMemoryIsThatBeforeManyCame(t *testing.T) {
	var m FixedMemory
	m.Look(0)
	first := m.Bytes.Load()
	if first < 1<<20 {
		t.Fatalf("%d bytes", first)
	}
	hold := make([]byte, 64<<20)
	for i := range hold {
		hold[i] = 1
	}
	m.Look(fewConnections)
	second := m.Bytes.Load()
	if second < first+32<<20 {
		t.Errorf("%d bytes although it uses 64 MiB more than %d", second, first)
	}
	m.Look(fewConnections + 1)
	runtime.KeepAlive(hold)
	hold = nil
	debug.FreeOSMemory()
	m.Look(0)
	if got := m.Bytes.Load(); got != second {
		t.Errorf("%d bytes after many have come and gone, want %d as before", got, second)
	}
}

// Garbage would be most of what is divided by the connections.
func TestMemoryOfConnectionsIsTakenWithoutGarbage(t *testing.T) {
	garbage := make([]byte, 64<<20)
	for i := range garbage {
		garbage[i] = 1
	}
	before, _ := Resident()
	runtime.KeepAlive(garbage)
	garbage = nil
	var c Cleaner
	now := time.Now()
	c.Clean(now)
	if after, _ := Resident(); after > before-32<<20 {
		t.Errorf("%d bytes, and %d with 64 MiB of garbage", after, before)
	}
	for _, next := range []struct {
		after time.Duration
		want  bool
	}{{cleanEvery - time.Millisecond, false}, {cleanEvery, true}} {
		last := c.last.Load()
		c.Clean(now.Add(next.after))
		if got := c.last.Load() != last; got != next.want {
			t.Errorf("after %v: cleaned again %v, want %v", next.after, got, next.want)
		}
	}
}
