package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"sluice/cmd/internal/clitest"
)

// As long as the new process has not started, whatever happens to it leaves the old one serving.
func TestNewProcessThatFailsCostsNothing(t *testing.T) {
	for name, test := range map[string]struct {
		action string
		points []string
		long   bool // it waits for seconds
	}{
		"killed":        {"kill", []string{"hello", "listeners", "passed", "prepared", "final", "built", "ready", "commit"}, false},
		"stopped":       {"stop", []string{"final", "built", "ready", "commit"}, false},
		"stopped early": {"stop", []string{"hello", "listeners", "passed", "prepared"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if test.long && os.Getenv("SLUICE_TEST_UPGRADES") == "" {
				t.Skip("SLUICE_TEST_UPGRADES is not set: this takes 40 s")
			}
			l := startPoints(t, "--insecure", "--address-rate", "off", "--max-message", "2M", "--channel-buffer", "8M", "--max-pending", "8M")
			g := startLedger(l, "ws", "http")
			large := strings.Repeat("large", 300_000) // it is not encoded by a loop
			whole := &websocket.Dialer{WriteBufferSize: 2 << 20}
			for _, point := range test.points {
				l.at("new."+point, test.action)
				if r, err := l.tryUpgrade(); err == nil {
					t.Fatalf("%s at %s: process %d has taken over", test.action, point, r.PID)
				}
				pid := l.reached("new."+point, test.action)
				if err := syscall.Kill(pid, 0); err == nil {
					t.Errorf("%s at %s: process %d still exists", test.action, point, pid)
				}
				g.more(10)
				g.wantService()
				c := dialWith(t, whole, "ws"+strings.TrimPrefix(l.url, "http")+"/ws/large")
				c.send(websocket.TextMessage, large)
				c.want(websocket.TextMessage, large)
				c.conn.Close() // ignored: it has got what it wanted
			}
			// What was tried in vain has left nothing behind.
			if r := l.upgrade(); r.Moved < ledgerReaders+1 {
				t.Errorf("%d connections were moved, want %d", r.Moved, ledgerReaders+1)
			}
			l.wantExit(0)
			g.more(10)
			g.balance()
		})
	}
}

// Once the old process is frozen, its death is the new one's start.
func TestOldProcessThatDiesFrozenCostsNothing(t *testing.T) {
	for _, point := range []string{"final", "ready", "committed", "started"} {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			l := startPoints(t, "--insecure", "--address-rate", "off")
			g := startLedger(l, "ws") // the other one's connection would be closed
			l.at("old."+point, "kill")
			if r, err := l.tryUpgrade(); err == nil {
				t.Fatalf("it has answered %+v", r)
			}
			l.reached("old."+point, "kill")
			l.wantExit(-1)
			l.log.wait(t, "took over from another process")
			g.more(10)
			g.wantService()
			l.upgrade() // and that works once more
			g.more(10)
			g.balance()
		})
	}
}

// An old process that dies before it is frozen takes its connections with it, and leaves its listeners to the new one.
func TestOldProcessThatDiesServingLeavesItsListeners(t *testing.T) {
	for _, point := range []string{"passing", "copied", "freezing", "frozen"} {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			l := startPoints(t, "--insecure", "--address-rate", "off")
			g := startLedger(l, "ws")
			g.mayEnd()
			l.at("old."+point, "kill")
			if r, err := l.tryUpgrade(); err == nil {
				t.Fatalf("it has answered %+v", r)
			}
			l.reached("old."+point, "kill")
			l.wantExit(-1)
			g.wantAllClosed()
			l.log.wait(t, "the previous process has died during the upgrade: its connections are lost")
			g.wantService()
			if r := l.upgrade(); r.Moved > 1 { // that of wantService, perhaps
				t.Errorf("%d connections were moved", r.Moved)
			}
		})
	}
}

// A new process that dies after it has started is the crash of a server.
func TestNewProcessThatDiesServing(t *testing.T) {
	t.Parallel()
	l := startPoints(t, "--insecure", "--address-rate", "off")
	g := startLedger(l, "ws")
	g.mayEnd()
	l.at("new.started", "kill")
	l.tryUpgrade() // ignored: it may have been answered before
	l.reached("new.started", "kill")
	g.wantAllClosed()
	select {
	case <-l.exited:
	case <-time.After(clitest.Patience):
		t.Error("the old process has not ended")
	}
}

// An old process that is stopped, and goes on when the new one has given up, serves.
func TestOldProcessThatWasStoppedGoesOn(t *testing.T) {
	t.Parallel()
	l := startPoints(t, "--insecure", "--address-rate", "off")
	g := startLedger(l, "ws", "http")
	l.at("old.ready", "stop")
	l.at("new.ready", "note")
	answered := make(chan error, 1)
	go func() {
		_, err := l.tryUpgrade()
		answered <- err
	}()
	old := l.reached("old.ready", "stop")
	l.reached("new.ready", "note")
	l.log.wait(t, "this process does not take over, exiting")
	if err := syscall.Kill(old, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if err := <-answered; err == nil {
		t.Error("the upgrade was answered without an error")
	}
	g.more(10)
	l.upgrade()
	g.more(10)
	g.balance()
}

// With a data directory, a process that is killed leaves it whole: every acknowledged publication is there afterwards, once.
func TestNewProcessThatDiesLeavesTheDataDirectory(t *testing.T) {
	t.Parallel()
	for _, point := range []string{"new.commit", "new.started", "old.started"} {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			args := []string{"--data-dir", filepath.Join(t.TempDir(), "data"), "--insecure"}
			l := startPoints(t, args...)
			published := 0
			publish := func(s *sluice) {
				t.Helper()
				for range 20 {
					if status, answer := post(t, s, "/publish/news", "", fmt.Sprintf("%q", fmt.Sprint("x ", published))); status != http.StatusOK {
						t.Fatalf("publish: %d %v", status, answer)
					}
					published++
				}
			}
			publish(l.sluice)
			role, _, _ := strings.Cut(point, ".")
			l.at(point, "kill")
			l.tryUpgrade() // ignored: it may have been answered before
			l.reached(point, "kill")
			serves := l.sluice
			switch point {
			case "new.started": // nobody serves: the next process is one that a service manager starts
				select {
				case <-l.exited:
				case <-time.After(clitest.Patience):
					t.Fatalf("the old process still runs, when the %s one was killed", role)
				}
				serves = start(t, args...)
			case "old.started":
				l.wantExit(-1)
				l.log.wait(t, "took over from another process")
			}
			publish(serves)
			if point == "new.commit" { // and the next one takes it over
				l.upgrade()
				publish(serves)
			}
			status, answer := post(t, serves, "/api/history", "", `{"channel":"news","limit":-1}`)
			text := fmt.Sprint(answer)
			if n := strings.Count(text, "data:x "); status != http.StatusOK || n != published {
				t.Errorf("the history has %d publications, want %d: %d %s", n, published, status, text)
			}
			for i := range published {
				if n := strings.Count(text, fmt.Sprintf("data:x %d ", i)) + strings.Count(text, fmt.Sprintf("data:x %d]", i)); n != 1 {
					t.Errorf("publication %d is there %d times: %s", i, n, text)
				}
			}
		})
	}
}
