package loop

import (
	"bytes"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"
)

// The watchdog ticks the loops, and sees which of them do not take their ticks: a loop that is
// stuck, in a hook or in the kernel, serves none of its clients, and new connections that
// are given to it wait forever. It runs on a goroutine of its own that waits for nothing
// a loop could hold: no channel's lock, and not the log.
//
// It counts its own ticks, not time. Seconds in which it did not run itself (the process was
// stopped, the machine paused) say nothing about a loop.

// For how many seconds a loop has not ticked when it is noticed.
const (
	UnreadyAfter   = 2  // /readyz answers 503
	UnhealthyAfter = 10 // so does /healthz, and the loop's stack is logged
)

// ErrLoopStuck is wrapped by the error that Config.Failed receives when a loop has not ticked
// for Config.LoopTimeout.
var ErrLoopStuck = errors.New("a loop is stuck")

type watchdog struct {
	// Set at construction.
	set   *Set
	limit int // seconds; negative is off

	// Owned by its goroutine.
	loops []watchedLoop

	// Atomic.
	stalled atomic.Int64  // for how many seconds the loop that is stuck longest has not ticked
	ticked  atomic.Uint64 // seconds in which no loop was behind
}

// watchedLoop is what the watchdog knows of a loop.
type watchedLoop struct {
	tick    int64 // that was posted last, and not while one was under way: Unix nanoseconds
	stalled int   // how many looks have found it still under way
}

func newWatchdog(s *Set) *watchdog {
	return &watchdog{set: s, limit: int(s.cfg.LoopTimeout / time.Second), loops: make([]watchedLoop, len(s.loops))}
}

// run looks once a second, until the loops have ended.
func (w *watchdog) run() {
	for {
		select {
		case now := <-w.set.cfg.Seconds:
			w.look(now)
		case <-w.set.stopped:
			return
		}
	}
}

// look is one second: it sees which loops have taken the last tick, and posts the next.
func (w *watchdog) look(now time.Time) {
	if w.set.held.Load() { // they are not stuck
		clear(w.loops)
		w.ticked.Add(1)
		return
	}
	worst := 0
	for i, l := range w.set.loops {
		seen := &w.loops[i]
		worst = max(worst, w.lookAt(seen, l))
		if l.ticked.CompareAndSwap(0, now.UnixNano()) {
			seen.tick = now.UnixNano()
		}
		l.Post(Tick{})
	}
	w.stalled.Store(int64(worst))
	if worst == 0 {
		w.ticked.Add(1)
	}
}

// lookAt returns for how many seconds the loop has not ticked.
func (w *watchdog) lookAt(seen *watchedLoop, l *Loop) int {
	if l.ticked.Load() != seen.tick || seen.tick == 0 {
		if was := seen.stalled; was >= UnhealthyAfter {
			go l.log.Warn("a stuck loop has recovered", "loop", l.index, "seconds", was)
		}
		*seen = watchedLoop{}
		return 0
	}
	seen.stalled++
	switch seen.stalled {
	case UnhealthyAfter:
		// On a goroutine, because the log may be what the loop waits for.
		go func() {
			l.log.Error("a loop is stuck: its clients are not served", "loop", l.index, "seconds", UnhealthyAfter, "stack", stackOf(l.goroutine.Load()))
		}()
	case w.limit:
		w.set.cfg.Failed(fmt.Errorf("gateway: loop %d has not ticked for %d s: %w", l.index, w.limit, ErrLoopStuck))
	}
	return seen.stalled
}

// goroutineID returns the calling goroutine's number.
func goroutineID() uint64 {
	var buf [64]byte
	var id uint64
	fmt.Sscanf(string(buf[:runtime.Stack(buf[:], false)]), "goroutine %d ", &id) // ignored: 0 is nobody's
	return id
}

// stackOf returns a goroutine's stack, as a panic prints it.
func stackOf(id uint64) string {
	buf := make([]byte, 4<<20) // the loops are among the first that are printed, however many there are
	head := fmt.Appendf(nil, "goroutine %d ", id)
	for stack := range bytes.SplitSeq(buf[:runtime.Stack(buf, true)], []byte("\n\n")) {
		if bytes.HasPrefix(stack, head) {
			return string(stack)
		}
	}
	return "not found"
}
