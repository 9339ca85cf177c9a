package ops

import (
	"runtime"
	"runtime/debug"
	"time"
)

// KeepHouse calls trim once a second until stopped is closed. When many connections and
// subscriptions have arrived and no more do, it calls shrink and returns memory to the system.
// trim may wait for a channel's lock, and so for a loop.
func KeepHouse(stopped <-chan struct{}, trim func(now time.Time), arrived func() uint64, shrink func()) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	var w storm
	for {
		select {
		case now := <-ticker.C:
			trim(now)
		case <-stopped:
			return
		}
		if w.over(arrived()) {
			// Handshakes and commands leave buffers, net.Conns and decoded requests behind,
			// whose memory the runtime would keep for the next ones. Twice, because a sync.Pool lets go of
			// what it holds only at the second collection.
			shrink()
			runtime.GC()
			debug.FreeOSMemory()
		}
	}
}

// storm notices when many connections or subscriptions have come and no more do.
type storm struct {
	seen, freed uint64
	calm        int
}

// stormSize is how many comings and goings leave enough garbage to care;
// stormCalm is for how many seconds there must be few more.
const (
	stormSize = 500
	stormCalm = 3
)

// over is called once a second with the number of all that have come so far. It reports whether a
// storm has ended since it last did.
func (w *storm) over(churn uint64) bool {
	if churn-w.seen > 20 {
		w.calm = 0
	} else {
		w.calm++
	}
	w.seen = churn
	if w.calm < stormCalm || churn-w.freed < stormSize {
		return false
	}
	w.freed = churn
	return true
}
