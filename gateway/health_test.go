package gateway

import (
	"errors"
	"net/http"
	"testing"
	"time"

	"sluice/gateway/clienttest"
	"sluice/gateway/hook"
	"sluice/gateway/loop"
)

// A loop that is stuck makes the server unready, then unhealthy, and in the end it fails.
func TestStuckLoopShowsInHealth(t *testing.T) {
	t.Parallel()
	stuck, free, seconds := make(chan struct{}), make(chan struct{}), make(chan time.Time)
	s := startWith(t, Config{Loops: 1, Hooks: filter(func(hook.FilterRequest) bool { close(stuck); <-free; return false })}, parts{seconds: seconds})
	at, now := s.internal("").URL, time.Now()
	want := func(why string, health, ready int) {
		t.Helper()
		for path, want := range map[string]int{"/readyz": ready, "/healthz": health} {
			clienttest.WaitFor(t, why+": "+path, func() bool { status, _, _ := askHTTP(t, "GET", at+path, nil); return status == want })
		}
		c := clienttest.Connect(t, s)
		c.Write("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
		c.WantStatus(why, health)
	}
	pass := func(n int) {
		for range n {
			now = now.Add(time.Second)
			before := s.Loops[0].Stats().Lag.Count()
			clienttest.Send(t, "the watchdog", seconds, now)
			if n == 1 {
				clienttest.WaitFor(t, "the loop to tick", func() bool { return s.Loops[0].Stats().Lag.Count() > before })
			}
		}
	}
	pass(1)
	want("it ticks", http.StatusOK, http.StatusOK)
	clienttest.Dial(t, s, "/ws/x").Send(clienttest.Text("x"))
	clienttest.Receive(t, "the hook", stuck)
	ticked := s.Ticked()
	pass(1 + 2)
	want("it has not ticked for two seconds", http.StatusOK, http.StatusServiceUnavailable)
	pass(8)
	want("it has not ticked for ten seconds", http.StatusServiceUnavailable, http.StatusServiceUnavailable)
	pass(20)
	if err := clienttest.Receive(t, "the failure", s.Failed()); !errors.Is(err, ErrLoopStuck) {
		t.Errorf("failed: %v, want ErrLoopStuck", err)
	}
	if got := s.Ticked(); got > ticked+1 { // the second that posted the tick which is not taken
		t.Errorf("%d seconds are counted as good, want %d", got, ticked+1)
	}
	close(free)
	s.Do(func(*loop.Loop) {})
	pass(1)
	want("it goes on", http.StatusOK, http.StatusOK)
}
