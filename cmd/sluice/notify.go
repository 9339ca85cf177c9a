package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

// notifier tells the service manager how the process does: sd_notify(3), datagrams of lines
// to the socket that NOTIFY_SOCKET names. Without one it does nothing. What cannot be
// sent is dropped, because the process is of use without its supervisor.
type notifier struct {
	conn     *net.UnixConn // nil where nobody listens
	watchdog time.Duration // the longest time between two WATCHDOG=1; 0 where nobody waits for them
}

// notifyPatience bounds the wait for a service manager that does not read.
const notifyPatience = time.Second

// watchdogLeast is the shortest time of a watchdog that is fed from ticks, of which there
// is one a second.
const watchdogLeast = 3 * time.Second

// newNotifier reads what a service manager has put into the environment.
func newNotifier(env []string) (notifier, error) {
	set := make(map[string]string)
	for _, entry := range env {
		if name, word, ok := strings.Cut(entry, "="); ok {
			set[name] = word
		}
	}
	var n notifier
	path := set["NOTIFY_SOCKET"]
	if path == "" {
		return n, nil
	}
	var err error
	// Package net takes a leading @ for the abstract namespace, as systemd writes it.
	if n.conn, err = net.DialUnix("unixgram", nil, &net.UnixAddr{Net: "unixgram", Name: path}); err != nil {
		return n, fmt.Errorf("NOTIFY_SOCKET: %w", err)
	}
	if pid := set["WATCHDOG_PID"]; pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return n, nil // it is another process's
	}
	if word := set["WATCHDOG_USEC"]; word != "" {
		usec, err := strconv.ParseUint(word, 10, 62)
		if err != nil || usec == 0 {
			return n, fmt.Errorf("WATCHDOG_USEC %q is not a number of microseconds", word)
		}
		if n.watchdog = time.Duration(usec) * time.Microsecond; n.watchdog < watchdogLeast {
			return n, fmt.Errorf("a watchdog of %v is too short: loops are looked at once a second, and a healthy gateway may be ended: set WatchdogSec= to %v or more", n.watchdog, watchdogLeast)
		}
	}
	return n, nil
}

// tell sends states, such as READY=1.
func (n *notifier) tell(states ...string) {
	if n.conn == nil {
		return
	}
	n.conn.SetWriteDeadline(time.Now().Add(notifyPatience)) // ignored: it fails as the write does
	n.conn.Write([]byte(strings.Join(states, "\n")))        // ignored: see notifier
}

// feed sends WATCHDOG=1 at each turn in which ticked has grown, until ctx ends.
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

// turns is when to feed the watchdog, a few times in its time; never where there is none.
func (n *notifier) turns() <-chan time.Time {
	if n.watchdog == 0 {
		return nil
	}
	return time.Tick(n.watchdog / 4)
}

func (n *notifier) close() {
	if n.conn != nil {
		n.conn.Close() // ignored: nothing is left to say
	}
}
