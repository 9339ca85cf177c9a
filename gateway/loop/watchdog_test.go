package loop

import (
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"sluice/gateway/clienttest"
)

func TestStuckLoopIsNoticed(t *testing.T) {
	t.Parallel()
	stuck, free := make(chan struct{}), make(chan struct{})
	seconds, log := make(chan time.Time), &clienttest.Records{}
	s := startLoops(t, loopsConfig{Loops: 1, Seconds: seconds, Logger: slog.New(slog.NewTextHandler(log, nil)), Filter: func(string, []byte, bool, uint64) bool {
		close(stuck)
		<-free
		return false
	}})
	now, w := time.Now(), s.set.watchdog
	for i := range 3 {
		now = now.Add(time.Second)
		clienttest.Send(t, "the watchdog", seconds, now)
		clienttest.WaitFor(t, "the loop to tick", func() bool { return s.all[0].stats.Lag.Count() == uint64(i+1) })
	}
	clienttest.Dial(t, s, "/ws/x").Send(clienttest.Text("x"))
	clienttest.Receive(t, "the hook", stuck)
	clienttest.Send(t, "the watchdog", seconds, now.Add(time.Second)) // posts the tick that is not taken
	stalled := int64(0)
	after := func(n int64) {
		t.Helper()
		for ; stalled < n; stalled++ {
			now = now.Add(time.Hour) // the watchdog was not there either: it is one second
			clienttest.Send(t, "the watchdog", seconds, now)
			clienttest.WaitFor(t, "the watchdog's count", func() bool { return w.stalled.Load() == stalled+1 })
		}
	}
	after(1)
	ticked := w.ticked.Load()
	after(UnhealthyAfter - 1)
	if log.Has("a loop is stuck") {
		t.Error("it is logged before its time")
	}
	after(UnhealthyAfter)
	clienttest.WaitFor(t, "the loop's stack in the log", func() bool { return log.Has("TestStuckLoopIsNoticed.func") })
	after(29)
	select {
	case err := <-s.failed:
		t.Fatalf("failed after 29 s: %v", err)
	default:
	}
	after(30)
	if err := clienttest.Receive(t, "the failure", s.failed); !errors.Is(err, ErrLoopStuck) {
		t.Errorf("failed: %v, want ErrLoopStuck", err)
	}
	if got := w.ticked.Load(); got != ticked {
		t.Errorf("%d seconds are counted as good, want %d", got, ticked)
	}
	after(40)
	if n := strings.Count(log.Text(), "a loop is stuck"); n != 1 {
		t.Errorf("%d records of the stuck loop, want one", n)
	}

	close(free)
	clienttest.WaitFor(t, "the loop to tick", func() bool { return s.all[0].ticked.Load() == 0 })
	clienttest.Send(t, "the watchdog", seconds, now.Add(time.Second))
	clienttest.WaitFor(t, "the watchdog's count", func() bool { return w.stalled.Load() == 0 })
	clienttest.WaitFor(t, "the log", func() bool { return log.Has("a stuck loop has recovered") })
}
