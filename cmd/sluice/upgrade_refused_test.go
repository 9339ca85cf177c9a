package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"golang.org/x/sys/unix"

	"sluice/bench/child"
	"sluice/poller"
)

// abort ends the upgrade that is under way.
func (l *lineage) abort() {
	l.t.Helper()
	if code, _, stderr := runOnce(nil, "upgrade", "--abort", "--url", l.internal); code != 0 {
		l.t.Errorf("abort: exit code %d, %s", code, stderr)
	}
}

// tryLater begins an upgrade whose outcome comes through the channel.
func (l *lineage) tryLater() <-chan error {
	answered := make(chan error, 1)
	go func() {
		_, err := l.tryUpgrade()
		answered <- err
	}()
	return answered
}

// A second upgrade is refused while one runs, and the first one can be aborted.
func TestUpgradeRefusesAnotherAndIsAborted(t *testing.T) {
	t.Parallel()
	l := startPoints(t, "--insecure", "--address-rate", "off")
	g := startLedger(l, "ws", "http")
	for _, point := range []string{"spawned", "agreed", "passing", "copied"} {
		l.at("hold", "")
		l.at("old."+point, "hold")
		first := l.tryLater()
		l.reached("old."+point, "hold")
		l.wantRefused("an upgrade is under way")
		g.more(10) // nobody notices
		l.abort()
		if err := os.Remove(filepath.Join(l.points, "hold")); err != nil {
			t.Fatal(err)
		}
		if err := <-first; err == nil || !strings.Contains(err.Error(), "the upgrade was aborted") {
			t.Errorf("aborted at %s, the upgrade was answered %v", point, err)
		}
		g.more(10)
	}
	l.upgrade()
	g.more(10)
	g.balance()
}

// A gateway that shuts down does not hand over, and one that hands over can be shut down.
func TestUpgradeAndShutdown(t *testing.T) {
	t.Parallel()
	t.Run("shutdown first", func(t *testing.T) {
		t.Parallel()
		l := startLineage(t, "--drain-delay", "1m", "--drain-duration", "1s", "--shutdown-timeout", "2m")
		if err := syscall.Kill(l.pid, syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		l.log.wait(t, "stopping")
		l.wantRefused("the gateway is shutting down")
	})
	t.Run("while clients are closed", func(t *testing.T) {
		t.Parallel()
		// As long as they do not read, their closes are not complete.
		l := startLineage(t, "--drain-duration", "1m", "--shutdown-timeout", "2m", "--close-timeout", "1m", "--address-rate", "off")
		var all []peer
		for range 200 {
			all = append(all, dial(t, l.sluice, "/ws/news"))
		}
		if err := syscall.Kill(l.pid, syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		l.awaitMetric(float64(len(all)), "sluice_drain_connections", "", "")
		l.wantRefused("the gateway is shutting down")
		var reading sync.WaitGroup
		for i, c := range all {
			reading.Go(func() {
				if _, p, err := c.conn.ReadMessage(); !websocket.IsCloseError(err, websocket.CloseGoingAway) {
					t.Errorf("client %d: %s, %v; want that the gateway goes away", i, p, err)
				}
			})
		}
		reading.Wait()
		l.wantExit(0)
	})
	t.Run("upgrade first", func(t *testing.T) {
		t.Parallel()
		l := startPoints(t, "--drain-duration", "off")
		l.at("hold", "")
		l.at("new.listeners", "hold")
		first := l.tryLater()
		l.reached("new.listeners", "hold")
		if err := syscall.Kill(l.pid, syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if err := <-first; err == nil || !strings.Contains(err.Error(), "the gateway is shutting down") {
			t.Errorf("the upgrade was answered %v, want that the gateway shuts down", err)
		}
		l.wantExit(0)
	})
}

// The first process of a container cannot hand over.
func TestUpgradeIsRefusedByTheFirstProcess(t *testing.T) {
	t.Parallel()
	if exec.Command("unshare", "--pid", "--fork", "true").Run() != nil {
		t.Skip("no process namespace can be made here")
	}
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	l := startLineageOf(t, exec.Command("unshare", append([]string{"--pid", "--fork", "--kill-child", path}, child.Listeners(nil)...)...))
	l.wantRefused("the gateway is process 1, whose end is that of its container: start another container instead")
	if _, err := os.Stat("/proc/self"); err != nil {
		t.Error(err)
	}
}

// exchangeable starts the gateway by a name that can be changed later, and returns what changes it to a shell script which
// ends with the program.
func exchangeable(t *testing.T, start func(cmd *exec.Cmd) *lineage, args ...string) (l *lineage, change func(script string)) {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil { // other users execute it
		t.Fatal(err)
	}
	name := filepath.Join(dir, "sluice")
	if err := os.Symlink(path, name); err != nil {
		t.Fatal(err)
	}
	return start(exec.Command(name, child.Listeners(args)...)), func(script string) {
		t.Helper()
		text := fmt.Sprintf("#!/bin/sh\n%s\nexec %q \"$@\"\n", script, path)
		if err := os.WriteFile(name+".new", []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(name+".new", name); err != nil { // as a package does it
			t.Fatal(err)
		}
	}
}

// A new process with too few descriptors is refused, or fails where they run out; clients do not notice.
func TestNewProcessWithTooFewDescriptors(t *testing.T) {
	t.Parallel()
	l, change := exchangeable(t, func(cmd *exec.Cmd) *lineage { return startLineageOf(t, cmd) }, "--insecure", "--address-rate", "off")
	g := startLedger(l, "ws", "http")
	for range 40 {
		dial(t, l.sluice, "/ws/quiet")
	}
	change("ulimit -n 100")
	l.wantRefused("the new process may open 100 files, and needs 109: raise its limit (ulimit -n, LimitNOFILE=)")
	g.more(10)
	change("ulimit -n 200") // enough for the clients, and not for what it wants to have in reserve
	l.wantRefused("the file descriptor limit of 200 is too low")
	g.more(10)
	change("exit 3")
	if _, err := l.tryUpgrade(); err == nil {
		t.Error("a process that does not run has taken over")
	}
	g.more(10)
	change("ulimit -n 1000")
	if r := l.upgrade(); r.Moved < 45 {
		t.Errorf("%d connections were moved, want 45", r.Moved)
	}
	g.more(10)
	g.balance()
}

// nobody is a user without rights.
const nobody = 65534

// Descriptors that are sent and not yet received count for the user, without rights up to the sender's limit of open files
// (ETOOMANYREFS): the sender waits until there is room.
func TestUpgradeOfAnUnprivilegedUserWaitsForRoom(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("only root can start a process as another user")
	}
	if exec.Command("setpriv", "--version").Run() != nil {
		t.Skip("setpriv is not installed")
	}
	ended := make(chan struct{}) // the descriptors are received, or never will be
	if err := holdDescriptors(nobody, 1000, ended); err != nil {
		t.Skip("nobody's descriptors:", err)
	}
	var once bool
	free := func() {
		if !once {
			once = true
			close(ended)
		}
	}
	defer free()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Dir(path), 0o755); err != nil { // nobody executes it
		t.Fatal(err)
	}
	args := append([]string{"--reuid", fmt.Sprint(nobody), "--clear-groups", "--bounding-set=-all", "--inh-caps=-all", "sh", "-c", `ulimit -n 400; exec "$0" "$@"`, path},
		child.Listeners([]string{"--insecure", "--address-rate", "off", "--max-handshakes", "8"})...)
	cmd := exec.Command("setpriv", args...)
	cmd.Dir = "/"
	l := startLineageOf(t, cmd)
	g := startLedger(l, "ws", "http")
	for range 20 {
		dial(t, l.sluice, "/ws/quiet")
	}
	answered := l.tryLater()
	l.log.wait(t, "upgrading")
	select {
	case err := <-answered:
		t.Fatalf("with 1,000 of the user's descriptors under way, and a limit of 400, the upgrade was answered %v", err)
	case <-time.After(300 * time.Millisecond): // it takes about 50 where nothing is in its way
	}
	g.more(10)
	free()
	if err := <-answered; err != nil {
		t.Errorf("upgrade: %v", err)
	}
	g.more(10)
	g.balance()
}

// holdDescriptors sends a user's descriptors, which are received by nobody until ended is closed.
func holdDescriptors(user, n int, ended <-chan struct{}) error {
	a, b, err := poller.MessagePair()
	if err != nil {
		return err
	}
	sent := make(chan error)
	go func() {
		runtime.LockOSThread() // and not unlocked: the thread is another user's, and ends with the goroutine
		fd := int(a.Fd())
		fds := make([]int, 250)
		for i := range fds {
			fds[i] = fd
		}
		_, _, e := unix.RawSyscall(unix.SYS_SETRESUID, ^uintptr(0), uintptr(user), ^uintptr(0)) // of this thread
		if e == 0 {
			// The real user counts.
			_, _, e = unix.RawSyscall(unix.SYS_SETRESUID, uintptr(user), uintptr(user), ^uintptr(0))
		}
		var err error
		if e != 0 {
			err = e
		}
		for i := 0; i < n && err == nil; i += len(fds) {
			var ok bool
			if ok, err = poller.SendMessage(fd, []byte("x"), fds); err == nil && !ok {
				err = errors.New("there is no room")
			}
		}
		sent <- err
		if err == nil {
			<-ended
		}
		a.Close() // ignored: with both ends, what is under way is gone
		b.Close() // ignored: likewise
	}()
	return <-sent
}

// The service manager hears of an upgrade that fails that the gateway is ready again, and nothing of another process.
func TestServiceManagerIsToldOfAFailedUpgrade(t *testing.T) {
	t.Parallel()
	m := newManager(t)
	l, change := exchangeable(t, func(cmd *exec.Cmd) *lineage {
		cmd.Env = append(child.Environ(), "NOTIFY_SOCKET="+m.path)
		return startLineageOf(t, cmd)
	})
	m.wantNext("READY=1")
	change("exit 3")
	if _, err := l.tryUpgrade(); err == nil {
		t.Fatal("a process that does not run has taken over")
	}
	m.wantNext("RELOADING=1")
	m.wantNext("READY=1")
	change("")
	answered := l.tryLater()
	m.wantNext("RELOADING=1")
	m.wantNext("MAINPID=")
	m.wantNext("BARRIER=1")
	m.letGo()
	m.wantNext("READY=1")
	if err := <-answered; err != nil {
		t.Errorf("upgrade: %v", err)
	}
	l.wantExit(0)
	if err := syscall.Kill(l.pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	m.wantNext("STOPPING=1")
}
