package serve

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"sluice/cmd/internal/cli"
	"sluice/poller"
)

// notifier reports the state of the process to the service manager: sd_notify(3), datagrams
// of lines to the socket in NOTIFY_SOCKET. Without one it does nothing. What cannot be sent
// is dropped, because the process is useful without its supervisor. go-systemd's package
// daemon is shorter, but waits without a bound for a service manager that does not read.
type notifier struct {
	// Set at construction.
	conn     *net.UnixConn // nil without a service manager
	watchdog time.Duration // the longest time between two WATCHDOG=1; 0 without a watchdog

	mu   sync.Mutex
	busy int // guarded by mu: what is under way that began with RELOADING=1
}

// notifyPatience is how long to wait for a service manager that does not read.
const notifyPatience = time.Second

// barrierPatience is how long to wait until a service manager has read what it was sent.
const barrierPatience = 5 * time.Second

// watchdogLeast is the shortest watchdog that can be fed from ticks, of which there is one
// per second.
const watchdogLeast = 3 * time.Second

// newNotifier reads the variables of a service manager from the environment. inherited: that is another
// process's, from which this one takes over.
func newNotifier(env []string, inherited bool) (*notifier, error) {
	n := new(notifier)
	path := cli.LookUpEnv(env, "NOTIFY_SOCKET")
	if path == "" {
		return n, nil
	}
	var err error
	// A leading @ means the abstract namespace, to package net as to systemd.
	if n.conn, err = net.DialUnix("unixgram", nil, &net.UnixAddr{Net: "unixgram", Name: path}); err != nil {
		return n, fmt.Errorf("NOTIFY_SOCKET: %w", err)
	}
	if pid := cli.LookUpEnv(env, "WATCHDOG_PID"); pid != "" && pid != strconv.Itoa(os.Getpid()) && !inherited {
		return n, nil // for another process
	}
	if word := cli.LookUpEnv(env, "WATCHDOG_USEC"); word != "" {
		usec, err := strconv.ParseUint(word, 10, 62)
		if err != nil || usec == 0 {
			return n, fmt.Errorf("WATCHDOG_USEC %q is not a number of microseconds", word)
		}
		if n.watchdog = time.Duration(usec) * time.Microsecond; n.watchdog < watchdogLeast {
			return n, fmt.Errorf("the watchdog of %v is too short: loops are checked once a second, so a healthy gateway could be killed; set WatchdogSec= to %v or more", n.watchdog, watchdogLeast)
		}
	}
	return n, nil
}

// tell sends state lines, such as READY=1.
func (n *notifier) tell(states ...string) {
	if n.conn == nil {
		return
	}
	n.conn.SetWriteDeadline(time.Now().Add(notifyPatience)) // error ignored: the write fails too
	n.conn.Write([]byte(strings.Join(states, "\n")))        // error ignored: see notifier
}

// statusServing is the state of a gateway with which nothing is wrong.
const statusServing = "STATUS=serving clients"

// reloading reports that the process reloads, or is being replaced, with a status. As a service manager has it, the time
// is from the clock that it uses itself, so that it can tell a reload that it has asked for from one before.
func (n *notifier) reloading(status string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.busy++
	n.tell("RELOADING=1", fmt.Sprintf("MONOTONIC_USEC=%d", poller.Monotonic().Microseconds()), "STATUS="+status)
}

// reloaded reports that what began with reloading is over, unless something else is still under way.
func (n *notifier) reloaded() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.busy--; n.busy == 0 {
		n.tell("READY=1", statusServing)
	}
}

// replace reports that another process is the service's from now on, and waits until the service manager has seen
// that: it would take the end of this one for the end of the service (sd_notify_barrier(3)).
func (n *notifier) replace(ctx context.Context, pid int) {
	if n.conn == nil {
		return
	}
	n.tell(fmt.Sprintf("MAINPID=%d", pid))
	ours, theirs, err := os.Pipe()
	if err != nil {
		return
	}
	defer ours.Close()   // ignored: nothing is read
	defer theirs.Close() // ignored: likewise
	raw, err := n.conn.SyscallConn()
	if err != nil {
		return
	}
	sent := false
	for end := time.Now().Add(notifyPatience); !sent && err == nil && time.Now().Before(end); time.Sleep(time.Millisecond) {
		e := raw.Control(func(fd uintptr) {
			sent, err = poller.SendMessage(int(fd), []byte("BARRIER=1"), []int{int(theirs.Fd())})
		})
		err = errors.Join(err, e)
	}
	if !sent {
		return
	}
	theirs.Close() // ignored: the other end shows who has it
	until := time.Now().Add(barrierPatience)
	if at, ok := ctx.Deadline(); ok && at.Before(until) {
		until = at
	}
	ours.SetReadDeadline(until) // ignored: then the service manager closes it
	ours.Read(make([]byte, 1))  // ignored: its end is the answer
}

// feed sends WATCHDOG=1 at each turn at which ticked has grown, until ctx ends.
func (n *notifier) feed(ctx context.Context, turns <-chan time.Time, ticked func() uint64) {
	seen := uint64(0)
	for {
		select {
		case <-ctx.Done():
			return
		case <-turns:
		}
		if now := ticked(); now != seen {
			seen = now
			n.tell("WATCHDOG=1")
		}
	}
}

// turns returns when to feed the watchdog, a few times per period; never without one.
func (n *notifier) turns() <-chan time.Time {
	if n.watchdog == 0 {
		return nil
	}
	return time.Tick(n.watchdog / 4)
}

func (n *notifier) close() {
	if n.conn != nil {
		n.conn.Close() // error ignored: there is nothing left to send
	}
}
