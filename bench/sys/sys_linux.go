// Package sys makes the system calls of the load tester that package poller has no use for: exact CPU
// times, exact sleep, and a server that costs nothing but its system calls.
package sys

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// CPU returns the CPU time, user and system, that a process has used so far, including threads that
// have ended (clock_getcpuclockid(3)). It is more precise than /proc/PID/stat. A pid of zero is the
// calling process.
func CPU(pid int) (time.Duration, error) {
	const sched = 2 // CPUCLOCK_SCHED: what the scheduler counted, in nanoseconds
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^pid)<<3|sched, &ts); err != nil {
		return 0, fmt.Errorf("cpu clock of process %d: %w", pid, err)
	}
	return time.Duration(ts.Nano()), nil
}

// Sleep pauses the calling thread by nanosleep(2), to within the kernel's timer
// slack of about 50 microseconds. time.Sleep is rounded up to a millisecond
// when the process is otherwise idle. It may return early.
func Sleep(d time.Duration) {
	if d <= 0 {
		return
	}
	ts := unix.NsecToTimespec(int64(d))
	unix.Nanosleep(&ts, nil) // ignored: EINTR ends it early, as documented
}

// Hurry raises the calling thread's priority (setpriority(2)) if the process has the right to;
// otherwise nothing changes. The goroutine should be locked to its thread.
func Hurry() {
	unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), -15) // ignored: as documented
}

// Listener is a listening socket of loopback whose calls block the thread.
type Listener struct{ file *os.File }

// Listen opens a Listener and returns its address.
func Listen() (*Listener, netip.AddrPort, error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, netip.AddrPort{}, err
	}
	defer l.Close() // ignored: the file has a duplicate
	file, err := l.(*net.TCPListener).File()
	if err == nil {
		err = unix.SetNonblock(int(file.Fd()), false)
	}
	return &Listener{file}, l.Addr().(*net.TCPAddr).AddrPort(), err
}

// Accept waits for a connection and returns its file descriptor, which blocks too.
func (l *Listener) Accept() (fd int, err error) {
	for {
		fd, _, err = unix.Accept4(int(l.file.Fd()), unix.SOCK_CLOEXEC)
		if err != unix.EINTR && err != unix.ECONNABORTED {
			return fd, err
		}
	}
}

// Read waits for bytes or the peer's FIN, which is zero bytes and no error here.
func Read(fd int, p []byte) (n int, err error) {
	for {
		n, err = unix.Read(fd, p)
		if err != unix.EINTR {
			return max(n, 0), err
		}
	}
}
