package ops

import (
	"runtime/debug"
	"sync/atomic"
	"time"
)

// Cleaner gives garbage back to the kernel, a few milliseconds of work. A thousand connections
// need less memory than the garbage of a process that was busy: divided by them, it would be most of the figure.
type Cleaner struct {
	last atomic.Int64 // Unix milliseconds
}

// cleanEvery is the least time between two.
const cleanEvery = 5 * time.Second

// Clean gives back what can be, unless it did in the last five seconds.
func (c *Cleaner) Clean(now time.Time) {
	last := c.last.Load()
	if now.UnixMilli()-last >= cleanEvery.Milliseconds() && c.last.CompareAndSwap(last, now.UnixMilli()) {
		debug.FreeOSMemory()
	}
}

// FixedMemory is what the process needs without clients: what it used last before many came. What it
// uses after they have gone says nothing, because memory is kept for the next ones.
type FixedMemory struct {
	Bytes atomic.Int64 // 0 if not known
	past  bool         // owned by the goroutine that looks
}

// fewConnections have no share of memory that is worth mentioning.
const fewConnections = 100

// Look looks at the memory, unless there are or were more than a few connections.
func (m *FixedMemory) Look(connections int64) {
	if m.past = m.past || connections > fewConnections; m.past {
		return
	}
	if n, ok := Resident(); ok {
		m.Bytes.Store(n)
	}
}
