package serve

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"sluice/cmd/internal/clitest"
	"sluice/cmd/internal/option"
	"sluice/poller"
)

// manager listens as a service manager does.
func manager(t *testing.T, address string) *net.UnixConn {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Net: "unixgram", Name: address})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetReadDeadline(time.Now().Add(clitest.Patience)) // ignored: a read would fail
	return conn
}

// hear returns the next datagram's lines.
func hear(t *testing.T, conn *net.UnixConn) []string {
	t.Helper()
	var buf [4096]byte
	n, err := conn.Read(buf[:])
	if err != nil {
		t.Fatalf("nothing from the process: %v", err)
	}
	return strings.Split(string(buf[:n]), "\n")
}

func TestServiceManagerIsToldOfReadinessStoppingAndTicks(t *testing.T) {
	for name, address := range map[string]string{
		"path":     filepath.Join(t.TempDir(), "notify"),
		"abstract": fmt.Sprintf("@sluice-test-%d", os.Getpid()),
	} {
		t.Run(name, func(t *testing.T) {
			conn := manager(t, address)
			cfg := new(Settings)
			serve := NewCommand(cfg, option.New(cfg), []string{"NOTIFY_SOCKET=" + address, "WATCHDOG_USEC=200000", fmt.Sprint("WATCHDOG_PID=", os.Getpid())})
			s := clitest.Start(t, serve, nil, "--listen", "127.0.0.1:0", "--internal-listen", "127.0.0.1:0")
			if got := hear(t, conn); got[0] != "READY=1" || !strings.HasPrefix(got[1], "STATUS=") {
				t.Errorf("first told: %q, want READY=1 and a status", got)
			}
			if got := hear(t, conn); got[0] != "WATCHDOG=1" {
				t.Errorf("then told: %q, want WATCHDOG=1", got)
			}
			s.Stop(errors.New("interrupt"))
			for got := ""; got != "STOPPING=1"; {
				if got = hear(t, conn)[0]; got != "WATCHDOG=1" && got != "STOPPING=1" {
					t.Fatalf("then told: %q, want STOPPING=1", got)
				}
			}
			s.WantExit(0)
		})
	}
}

// The watchdog is fed for seconds in which all loops have ticked, and for no others.
func TestWatchdogIsFedFromTicks(t *testing.T) {
	address := filepath.Join(t.TempDir(), "notify")
	conn := manager(t, address)
	n, err := newNotifier([]string{"NOTIFY_SOCKET=" + address, "WATCHDOG_USEC=45000000"}, false)
	if err != nil || n.watchdog != 45*time.Second {
		t.Fatalf("watchdog of %v, %v", n.watchdog, err)
	}
	defer n.close()
	turns, ended := make(chan time.Time), make(chan struct{})
	ticks := []uint64{0, 1, 1, 1, 2}
	asked := 0
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		defer close(ended)
		n.feed(ctx, turns, func() uint64 { asked++; return ticks[asked-1] })
	}()
	for range ticks {
		turns <- time.Time{}
	}
	for range 2 {
		if got := hear(t, conn); got[0] != "WATCHDOG=1" {
			t.Errorf("told: %q, want WATCHDOG=1", got)
		}
	}
	cancel()
	<-ended
	n.tell("STATUS=the end")
	if got := hear(t, conn); got[0] != "STATUS=the end" {
		t.Errorf("a watchdog was fed without a tick: %q", got)
	}
}

func TestServiceManagersEnvironment(t *testing.T) {
	address := filepath.Join(t.TempDir(), "notify")
	manager(t, address)
	socket := "NOTIFY_SOCKET=" + address
	for _, tt := range []struct {
		name     string
		env      []string
		told     bool
		watchdog time.Duration
		err      string
	}{
		{"no manager", []string{"WATCHDOG_USEC=1000000"}, false, 0, ""},
		{"no watchdog", []string{socket}, true, 0, ""},
		{"a watchdog for any process that has the socket", []string{socket, "WATCHDOG_USEC=5000000"}, true, 5 * time.Second, ""},
		{"a watchdog shorter than ticks", []string{socket, "WATCHDOG_USEC=1000000"}, true, time.Second, "too short"},
		{"another process's", []string{socket, "WATCHDOG_USEC=1000000", "WATCHDOG_PID=1"}, true, 0, ""},
		{"no number", []string{socket, "WATCHDOG_USEC=1s"}, true, 0, "WATCHDOG_USEC"},
		{"no socket", []string{socket + "-elsewhere"}, false, 0, "NOTIFY_SOCKET"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n, err := newNotifier(tt.env, false)
			defer n.close()
			if (err != nil) != (tt.err != "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("got %v, want an error of %q", err, tt.err)
			}
			if (n.conn != nil) != tt.told || n.watchdog != tt.watchdog {
				t.Errorf("told: %v, watchdog %v; want %v, %v", n.conn != nil, n.watchdog, tt.told, tt.watchdog)
			}
			n.tell("STATUS=nothing is wrong") // where nobody listens it does nothing
		})
	}
}

// `systemctl reload` of a unit with Type=notify-reload sends SIGHUP, and waits for RELOADING=1 with a time after that, and then for
// READY=1, also where there is nothing to reload.
func TestServiceManagerIsToldOfAReload(t *testing.T) {
	address := filepath.Join(t.TempDir(), "notify")
	conn := manager(t, address)
	cfg := new(Settings)
	s := clitest.Start(t, NewCommand(cfg, option.New(cfg), []string{"NOTIFY_SOCKET=" + address}), nil, "--listen", "127.0.0.1:0", "--internal-listen", "127.0.0.1:0")
	if got := hear(t, conn); got[0] != "READY=1" {
		t.Fatalf("first told: %q, want READY=1", got)
	}
	before := poller.Monotonic().Microseconds()
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	var at int64
	got := hear(t, conn)
	if _, err := fmt.Sscanf(strings.Join(got, " "), "RELOADING=1 MONOTONIC_USEC=%d STATUS=reloading", &at); err != nil || at < before {
		t.Errorf("told: %q (%v), want RELOADING=1 with a time from %d on", got, err, before)
	}
	if got := hear(t, conn); got[0] != "READY=1" || got[1] != statusServing {
		t.Errorf("then told: %q, want READY=1", got)
	}
	s.Stop(errors.New("interrupt"))
	s.WantExit(0)
}

// READY=1 would end an upgrade for the service manager, so a reload in the middle of one sends none.
func TestReadinessIsReportedWhenEverythingIsOver(t *testing.T) {
	address := filepath.Join(t.TempDir(), "notify")
	conn := manager(t, address)
	n, err := newNotifier([]string{"NOTIFY_SOCKET=" + address}, false)
	if err != nil {
		t.Fatal(err)
	}
	defer n.close()
	n.reloading("upgrading")
	n.reloading("reloading")
	n.reloaded()
	n.tell("STATUS=between")
	n.reloaded()
	for _, want := range []string{"RELOADING=1", "RELOADING=1", "STATUS=between", "READY=1"} {
		if got := hear(t, conn); got[0] != want {
			t.Errorf("told: %q, want %s", got, want)
		}
	}
}
