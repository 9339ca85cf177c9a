package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"sluice/bench/child"
	"sluice/cmd/internal/clitest"
)

// activated returns the command with sockets that a service manager has opened.
func activated(t *testing.T, names string, sockets []net.Listener, args ...string) *exec.Cmd {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	// The process's ID is that of the shell, which becomes the gateway.
	cmd := exec.Command("sh", append([]string{"-c", `export LISTEN_PID=$$; exec "$0" "$@"`, path}, args...)...)
	cmd.Env = append(child.Environ(), fmt.Sprint("LISTEN_FDS=", len(sockets)), "LISTEN_FDNAMES="+names)
	for _, l := range sockets {
		f, err := l.(interface{ File() (*os.File, error) }).File()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		cmd.ExtraFiles = append(cmd.ExtraFiles, f)
	}
	return cmd
}

func TestSocketsOfTheServiceManagerAreServed(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "internal")
	var sockets []net.Listener
	for _, at := range [][2]string{{"tcp", "127.0.0.1:0"}, {"tcp", "127.0.0.1:0"}, {"unix", socket}} {
		l, err := net.Listen(at[0], at[1])
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		sockets = append(sockets, l)
	}
	byAddress := sockets[1].Addr().String()
	l := startLineageOf(t, activated(t, "listen:gateway.socket:internal-listen", sockets,
		"--listen", "127.0.0.1:0", "--listen", byAddress, "--internal-listen", "unix:/no/such/socket", "--raw", "publish"))
	if want := "http://" + sockets[0].Addr().String(); l.url != want {
		t.Errorf("the first address is %s, want %s", l.url, want)
	}
	for range 2 { // before and after an upgrade
		for _, l := range sockets[:2] {
			conn, _, err := websocket.DefaultDialer.Dial("ws://"+l.Addr().String()+"/echo", nil)
			if err != nil {
				t.Fatal(err)
			}
			conn.Close()
		}
		l.internal = "unix:" + socket
		l.upgrade()
	}
	if _, err := os.Stat(socket); err != nil {
		t.Errorf("the service manager's socket: %v", err)
	}
}

func TestSocketThatServesNothingIsRefused(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	out, err := activated(t, "other", []net.Listener{l}, child.Listeners(nil)...).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "the socket "+l.Addr().String()+" (other) is no address of --listen") {
		t.Errorf("%v: %s", err, out)
	}
}

// manager is a service manager: it reads what a service notifies it of.
type manager struct {
	t    *testing.T
	path string
	conn *net.UnixConn
	fds  []int // that came last
}

func newManager(t *testing.T) *manager {
	t.Helper()
	m := &manager{t: t, path: filepath.Join(t.TempDir(), "notify")}
	var err error
	if m.conn, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Net: "unixgram", Name: m.path}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		m.conn.Close()
		m.letGo()
	})
	return m
}

// next reads a notification.
func (m *manager) next() string {
	m.t.Helper()
	m.letGo()
	m.conn.SetReadDeadline(time.Now().Add(clitest.Patience)) // ignored: then it waits for the test's end
	b, oob := make([]byte, 4096), make([]byte, 128)
	n, oobn, _, _, err := m.conn.ReadMsgUnix(b, oob)
	if err != nil {
		m.t.Fatalf("no notification: %v", err)
	}
	all, err := syscall.ParseSocketControlMessage(oob[:oobn])
	if err != nil {
		m.t.Fatal(err)
	}
	for i := range all {
		fds, err := syscall.ParseUnixRights(&all[i])
		if err != nil {
			m.t.Fatal(err)
		}
		m.fds = append(m.fds, fds...)
	}
	return string(b[:n])
}

// letGo closes the descriptors that came last, which is how a barrier is answered.
func (m *manager) letGo() {
	for _, fd := range m.fds {
		syscall.Close(fd) // ignored: it was ours
	}
	m.fds = nil
}

// want reads notifications up to one that begins with the line, and returns it.
func (m *manager) want(line string) string {
	m.t.Helper()
	for {
		if text := m.next(); strings.HasPrefix(text, line) {
			return text
		}
	}
}

// wantNext reads a notification, which must begin with the line.
func (m *manager) wantNext(line string) string {
	m.t.Helper()
	text := m.next()
	if !strings.HasPrefix(text, line) {
		m.t.Errorf("the service manager hears %q, want %s", text, line)
	}
	return text
}

func TestServiceManagerIsToldOfAnUpgrade(t *testing.T) {
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	m := newManager(t)
	cmd := exec.Command("sh", append([]string{"-c", `export WATCHDOG_PID=$$; exec "$0" "$@"`, path}, child.Listeners(nil)...)...)
	cmd.Env = append(child.Environ(), "NOTIFY_SOCKET="+m.path, "WATCHDOG_USEC=4000000")
	l := startLineageOf(t, cmd)
	m.want("READY=1")
	old := l.pid
	if err := syscall.Kill(old, syscall.SIGUSR2); err != nil {
		t.Fatal(err)
	}
	if text := m.want("RELOADING=1"); !strings.Contains(text, "\nMONOTONIC_USEC=") {
		t.Errorf("%q says no time", text)
	}
	if _, err := fmt.Sscanf(m.want("MAINPID="), "MAINPID=%d", &l.pid); err != nil || l.pid == old {
		t.Errorf("process %d, %v", l.pid, err)
	}
	m.want("BARRIER=1")
	if len(m.fds) != 1 {
		t.Errorf("the barrier came with %d descriptors, want 1", len(m.fds))
	}
	resp, err := http.Get(l.url + "/healthz") // the new process serves
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	select {
	case <-l.exited:
		t.Error("the old process has ended before the service manager knew the new one")
	default:
	}
	m.letGo()
	m.want("READY=1")
	m.want("WATCHDOG=1")
	l.wantExit(0)
}
