package natstest

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"sluice/gateway/clienttest"

	natsgo "github.com/nats-io/nats.go"
)

// Child is a nats-server program in a process of its own.
type Child struct {
	t       testing.TB
	program string
	args    []string
	url     string
	cmd     *exec.Cmd // nil while it does not run
	output  bytes.Buffer
}

// StartChild starts the nats-server program that is installed, with JetStream, and skips the test where
// there is none. Further arguments are the program's.
func StartChild(t testing.TB, args ...string) *Child {
	t.Helper()
	program, err := exec.LookPath("nats-server")
	if err != nil {
		t.Skip("there is no nats-server program: apt-get install nats-server")
	}
	host := address()
	port := freePort(t, host)
	// A configuration file: the program's flags know no limits of JetStream.
	config := filepath.Join(t.TempDir(), "nats.conf")
	text := fmt.Sprintf("server_name: natstest\njetstream { store_dir: %q, max_memory_store: 1MB, max_file_store: 10GB }\n", t.TempDir())
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c := &Child{t: t, program: program, url: "nats://" + net.JoinHostPort(host, strconv.Itoa(port)),
		args: append([]string{"-c", config, "-a", host, "-p", strconv.Itoa(port)}, args...)}
	t.Cleanup(func() {
		if c.cmd != nil {
			c.Kill()
		}
	})
	c.Restart()
	return c
}

// Restart starts the program again, with the address and the data that it had.
func (c *Child) Restart() {
	c.t.Helper()
	c.cmd = exec.Command(c.program, c.args...)
	c.output.Reset()
	c.cmd.Stdout, c.cmd.Stderr = &c.output, &c.output
	if err := c.cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		nc, err := natsgo.Connect(c.url)
		if err == nil {
			Close(nc)
			return
		}
		if time.Now().After(end) {
			c.Kill()
			c.t.Fatalf("%s: %v\n%s", c.program, err, c.output.String())
		}
	}
}

// URL returns where the program listens.
func (c *Child) URL() string { return c.url }

// Kill ends the program with SIGKILL.
func (c *Child) Kill() { c.end(syscall.SIGKILL) }

// Stop ends the program in good order.
func (c *Child) Stop() { c.end(syscall.SIGTERM) }

func (c *Child) end(signal os.Signal) {
	_ = c.cmd.Process.Signal(signal) // ignored: it has ended already
	_ = c.cmd.Wait()                 // ignored: the signal is its error
	c.cmd = nil
}

// Suspend stops the program as SIGSTOP does: its sockets stay open and nothing answers. Resume lets it go
// on.
func (c *Child) Suspend() {
	c.t.Helper()
	c.signal(syscall.SIGSTOP)
	clienttest.WaitFor(c.t, "the program stands still", func() bool {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", c.cmd.Process.Pid))
		return err != nil || bytes.Contains(stat, []byte(") T ")) // an error: it has ended
	})
}

// Resume lets a suspended program go on.
func (c *Child) Resume() { c.signal(syscall.SIGCONT) }

func (c *Child) signal(signal syscall.Signal) {
	if err := c.cmd.Process.Signal(signal); err != nil {
		c.t.Errorf("signal %v: %v", signal, err)
	}
}
