package gateway

import (
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"
)

// watched is a server whose watchdog the test ticks.
type watched struct {
	*server
	seconds  chan time.Time
	internal string
	log      *records
}

func startWatched(t *testing.T, cfg Config) *watched {
	w := &watched{seconds: make(chan time.Time), log: &records{}}
	cfg.Logger = slog.New(slog.NewTextHandler(w.log, nil))
	w.server = startTicked(t, cfg, w.seconds)
	w.internal = w.server.internal("").URL
	return w
}

// second lets the watchdog look, once it has ended its last look.
func (w *watched) second(now time.Time) {
	w.t.Helper()
	select {
	case w.seconds <- now:
	case <-time.After(patience):
		w.t.Fatalf("waited %v for the watchdog", patience)
	}
}

// wantHealth asks both listeners.
func (w *watched) wantHealth(why string, health, ready int) {
	w.t.Helper()
	waitFor(w.t, why, func() bool {
		status, _, _ := askHTTP(w.t, "GET", w.internal+"/readyz", nil)
		return status == ready
	})
	if status, _, body := askHTTP(w.t, "GET", w.internal+"/healthz", nil); status != health {
		w.t.Errorf("%s: /healthz of the internal listener: %d %q, want %d", why, status, body, health)
	}
	c := connect(w.t, w.server)
	c.write("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
	c.wantStatus(why, health)
}

// wantStalled waits for the last look's end.
func (w *watched) wantStalled(seconds int64) {
	w.t.Helper()
	waitFor(w.t, "the watchdog's count", func() bool { return w.watchdog.stalled.Load() == seconds })
}

func TestStuckLoopIsNoticed(t *testing.T) {
	t.Parallel()
	stuck, free := make(chan struct{}), make(chan struct{})
	s := startWatched(t, Config{Loops: 1, OnMessage: func(Message) bool {
		close(stuck)
		<-free
		return false
	}})
	now := time.Now()
	for range 3 {
		now = now.Add(time.Second)
		s.second(now)
		waitFor(t, "the loop to tick", func() bool { return s.loop[0].ticked.Load() == 0 })
	}
	s.wantHealth("it ticks", http.StatusOK, http.StatusOK)

	dial(t, s.server, "/ws/x").send(text("x"))
	receive(t, "the hook", stuck)
	s.second(now.Add(time.Second)) // posts the tick that is not taken
	stalled := int64(0)
	after := func(seconds int64) {
		t.Helper()
		for ; stalled < seconds; stalled++ {
			now = now.Add(time.Hour) // the watchdog was not there either: it is one second
			s.second(now)
			s.wantStalled(stalled + 1)
		}
	}
	after(unreadyAfter - 1)
	s.wantHealth("it has not ticked for a second", http.StatusOK, http.StatusOK)
	ticked := s.Ticked()
	after(unreadyAfter)
	s.wantHealth("it has not ticked for two seconds", http.StatusOK, http.StatusServiceUnavailable)
	after(unhealthyAfter - 1)
	s.wantHealth("it has not ticked for nine seconds", http.StatusOK, http.StatusServiceUnavailable)
	after(unhealthyAfter)
	s.wantHealth("it has not ticked for ten seconds", http.StatusServiceUnavailable, http.StatusServiceUnavailable)
	waitFor(t, "the loop's stack in the log", func() bool { return s.log.has("TestStuckLoopIsNoticed.func") })
	after(29)
	select {
	case err := <-s.Failed():
		t.Fatalf("failed after 29 s: %v", err)
	default:
	}
	after(30)
	if err := receive(t, "the failure", s.Failed()); !errors.Is(err, ErrLoopStuck) {
		t.Errorf("failed: %v, want ErrLoopStuck", err)
	}
	if got := s.Ticked(); got != ticked {
		t.Errorf("%d seconds are counted as good, want %d", got, ticked)
	}
	after(40)
	if n := strings.Count(s.log.text(), "a loop is stuck"); n != 1 {
		t.Errorf("%d records of the stuck loop, want one", n)
	}

	close(free)
	waitFor(t, "the loop to tick", func() bool { return s.loop[0].ticked.Load() == 0 })
	s.second(now.Add(time.Second))
	s.wantStalled(0)
	s.wantHealth("it goes on", http.StatusOK, http.StatusOK)
	waitFor(t, "the log", func() bool { return s.log.has("a stuck loop has recovered") })
}
